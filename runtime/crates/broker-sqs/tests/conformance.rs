//! The suite of all adapters, against two servers that stand in for SQS, and for both
//! kinds of queues.

mod common;

use std::{process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{LEASE, Server};
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Suite, Switch};

struct Queues {
    name: &'static str,
    server: Server,
    fifo: bool,
    long_polls: bool,
}

impl Queues {
    fn connection(&self, create_topics: bool) -> Arc<dyn Connection> {
        Arc::new(self.server.connect(|config| {
            config.fifo = self.fifo;
            config.create_topics = create_topics;
            if !self.long_polls {
                config.wait = Duration::ZERO;
            }
        }))
    }
}

#[async_trait]
impl Backend for Queues {
    fn declared(&self) -> Declared {
        Declared {
            name: self.name,
            guarantees: Guarantees {
                ordered: self.fifo,
                atomic_effects: false,
                atomic_marks: false,
                atomic_state: false,
                tombstones: true,
                delayed_release: true,
                spread_over_processes: true,
                fan_out: false,
                retained: false,
                redelivery_counted: true,
            },
            partitions: 1,
            largest_payload: 190_000,
            too_large: Some(2 << 20),
            headers: Headers::EVERYTHING,
            locks_keys: self.fifo,
            lease: Some(LEASE),
            gaps: &[],
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        self.connection(true)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        self.connection(false)
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.server.node.as_ref().map(|node| node as &dyn Switch)
    }
}

fn moto(fifo: bool) -> Option<Queues> {
    let name = if fifo { "SQS FIFO (moto)" } else { "SQS (moto)" };
    common::moto().map(|server| Queues { name, server, fifo, long_polls: true })
}

fn elasticmq(fifo: bool) -> Option<Queues> {
    let name = if fifo { "SQS FIFO (ElasticMQ)" } else { "SQS (ElasticMQ)" };
    // docs/brokers/sqs.md
    let long_polls = !fifo;
    common::elasticmq().map(|server| Queues { name, server, fifo, long_polls })
}

fn main() -> ExitCode {
    Suite::default()
        .on("on_moto", || moto(false))
        .on("on_moto_fifo", || moto(true))
        .on("on_elasticmq", || elasticmq(false))
        .on("on_elasticmq_fifo", || elasticmq(true))
        .run()
}
