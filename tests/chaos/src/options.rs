//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::{
    faults::Kind,
    script::{Profile, Script},
};

/// Runs Sandbar on a real broker while processes, network and disk fail, and accounts for every
/// event. Ends with 1 where one is lost, out of order or, where that is promised, repeated.
///
/// Needs the components of `make guests` and a `sandbar` beside this program, or SANDBAR_GUESTS
/// and SANDBAR_BIN.
#[derive(Debug, Clone, Parser)]
#[command(name = "sandbar-chaos", version)]
pub struct Options {
    /// Broker that the runtimes work on
    #[arg(long, default_value = "kafka")]
    pub broker: BrokerKind,
    /// What happens
    #[arg(long, default_value = "faults")]
    pub scenario: Scenario,
    /// How long events are sent, in minutes
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// Decides the events, the faults and their order
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Events sent per second [default: 300, in a storm 40, on SQS 15]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Keys of the events
    #[arg(long, default_value_t = 600)]
    pub keys: u32,
    /// Runtimes; on the embedded log it is one
    #[arg(long, default_value_t = 3)]
    pub processes: usize,
    /// Subscriptions to the events, by their delivery [default: all that the broker has]
    #[arg(long, value_delimiter = ',')]
    pub deliveries: Vec<Delivery>,
    /// Kinds of faults [default: all that the broker can have]
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<Kind>,
    /// How long a killed broker stays away [default: up to 5s]
    #[arg(long)]
    pub outage: Option<humantime::Duration>,
    /// Where the report goes, as Markdown; printed too
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Where the report goes, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Folder of the run, which is kept [default: a temporary one, kept when something is wrong]
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerKind {
    /// Apache Kafka, started by this program
    Kafka,
    /// The embedded log, one process
    Log,
    /// NATS JetStream, started by this program
    Nats,
    /// RabbitMQ, started by this program
    Rabbitmq,
    /// SQS, by an ElasticMQ that this program starts, with FIFO queues
    Sqs,
}

impl BrokerKind {
    /// Its name in reports.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kafka => "Apache Kafka",
            Self::Log => "the embedded log",
            Self::Nats => "NATS JetStream",
            Self::Rabbitmq => "RabbitMQ",
            Self::Sqs => "SQS (ElasticMQ, FIFO queues)",
        }
    }

    /// Partitions of every topic.
    pub const fn partitions(self) -> i32 {
        match self {
            Self::Kafka | Self::Log => 6,
            Self::Nats | Self::Rabbitmq | Self::Sqs => 1,
        }
    }

    /// Whether dead letters are kept by the broker. Otherwise each runtime keeps its own.
    pub fn keeps_dead_letters(self) -> bool {
        matches!(self, Self::Kafka | Self::Nats)
    }

    fn deliveries(self) -> &'static [Delivery] {
        match self {
            Self::Kafka | Self::Log => &[Delivery::AtLeastOnce, Delivery::ExactlyOnce],
            Self::Nats | Self::Rabbitmq | Self::Sqs => &[Delivery::AtLeastOnce],
        }
    }

    fn faults(self) -> &'static [Kind] {
        match self {
            Self::Kafka => &Kind::KAFKA,
            Self::Log => &Kind::LOG,
            Self::Nats | Self::Rabbitmq | Self::Sqs => &Kind::QUEUES,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// One fault after the other, sometimes two
    Faults,
    /// Runtimes join and leave every few seconds, handlers are slow and retry
    Storm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Outputs before the position
    AtLeastOnce,
    /// Outputs with the position
    ExactlyOnce,
}

impl Delivery {
    /// Its name in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

impl Options {
    /// Makes what was given complete, and refuses what makes no sense.
    pub fn checked(mut self) -> Result<Self> {
        let known = self.broker.faults();
        if self.faults.is_empty() {
            self.faults = known.to_vec();
        }
        for kind in &self.faults {
            ensure!(known.contains(kind), "there is no fault `{}` on this broker", kind.name());
        }
        if self.deliveries.is_empty() {
            self.deliveries = self.broker.deliveries().to_vec();
        }
        for delivery in &self.deliveries {
            let (known, name) = (self.broker.deliveries(), delivery.name());
            ensure!(known.contains(delivery), "there is no {name} on this broker");
        }
        if self.broker == BrokerKind::Log {
            self.processes = 1;
        }
        ensure!(
            self.scenario == Scenario::Faults || self.broker == BrokerKind::Kafka,
            "partitions are rebalanced on Kafka alone"
        );
        ensure!(self.keys > 0 && self.processes > 0, "nothing to do");
        ensure!(self.minutes > 0.0 && self.rate() > 0.0, "nothing to send");
        Ok(self)
    }

    /// Events sent per second.
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or(match (self.scenario, self.broker) {
            // ElasticMQ keeps its messages in H2, and falls behind with more
            (Scenario::Faults, BrokerKind::Sqs) => 15.0,
            (Scenario::Faults, _) => 300.0,
            (Scenario::Storm, _) => 40.0,
        })
    }

    /// How long events are sent.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    /// The events.
    pub fn script(&self) -> Script {
        let profile = match self.scenario {
            Scenario::Faults => Profile::MIXED,
            Scenario::Storm => Profile::SLOW,
        };
        Script::new(self.seed, profile)
    }
}
