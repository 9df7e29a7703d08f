//! What a run is made of: broker, runtimes, topics, books.

use std::{path::Path, sync::Arc};

use anyhow::Result;

use crate::{
    fleet::Fleet,
    kafka::Broker,
    options::{BrokerKind, Delivery, Options, Scenario},
    timeline::Timeline,
    verifier::{Place, Verifier},
};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 6;
/// Where events are sent.
pub const INPUT: &str = "chaos.in";

/// One plugin and its topics.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub delivery: Delivery,
    /// Name of the plugin.
    pub name: String,
    pub output: String,
    pub dead_letters: String,
}

impl Subscription {
    fn new(delivery: Delivery) -> Self {
        let name = format!("chaos-{}", delivery.name());
        let (output, dead_letters) = (format!("{name}.out"), format!("{name}.dlq"));
        Self { delivery, name, output, dead_letters }
    }

    /// Consumer group or cursor.
    pub fn group(&self) -> String {
        format!("sandbar.{}", self.name)
    }

    /// Settings of the plugin.
    fn settings(&self, scenario: Scenario) -> String {
        let Self { output, dead_letters, .. } = self;
        let (tell, concurrency) = match scenario {
            Scenario::Faults => ("", 8),
            Scenario::Storm => (", tell = \"yes\"", 32),
        };
        let mut settings = format!(
            "topics = [\"{INPUT}\"]\npublish = [\"{output}\"]\nordering = \"key\"\n\
             concurrency = {concurrency}\ngrants = [\"clocks\"]\n\
             config = {{ topic = \"{output}\"{tell} }}\n\
             retry = {{ max-attempts = 6, initial-delay = \"50ms\", max-delay = \"10s\" }}\n\
             dead-letter = {{ topic = \"{dead_letters}\" }}\n\
             limits = {{ log-lines-per-second = 10000 }}\n"
        );
        // the default is not spelled out
        if self.delivery == Delivery::ExactlyOnce {
            settings.insert_str(0, "delivery = \"exactly-once\"\n");
        }
        settings
    }
}

/// Everything that a run shares.
pub struct World {
    pub options: Options,
    pub subscriptions: Vec<Subscription>,
    pub fleet: Fleet,
    /// The broker's process; the embedded log has none.
    pub kafka: Option<Broker>,
    pub timeline: Arc<Timeline>,
    pub verifier: Verifier,
}

impl World {
    /// Everything in its place below `folder`, the broker running, the runtimes not yet.
    pub async fn new(options: Options, folder: &Path) -> Result<Self> {
        let subscriptions: Vec<_> =
            options.deliveries.iter().map(|delivery| Subscription::new(*delivery)).collect();
        let kafka = match options.broker {
            BrokerKind::Kafka => Some(Broker::start(&folder.join("kafka")).await?),
            BrokerKind::Log => None,
        };
        let config = match &kafka {
            Some(kafka) => {
                let topics: Vec<String> = topics(&subscriptions).map(|(topic, _)| topic).collect();
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                sandbar_tests::create_topics(kafka.address(), &topics, PARTITIONS).await?;
                kafka_config(kafka.proxy().port(), options.scenario)
            }
            None => log_config(),
        };
        let plugins: Vec<_> =
            subscriptions.iter().map(|s| (s.name.clone(), s.settings(options.scenario))).collect();
        let fleet = Fleet::new(folder, options.processes, &config, &plugins)?;
        let timeline: Arc<Timeline> = Arc::default();
        let verifier = Verifier::new(
            options.script(),
            options.keys as usize,
            PARTITIONS as usize,
            subscriptions.len(),
            timeline.clone(),
        );
        Ok(Self { options, subscriptions, fleet, kafka, timeline, verifier })
    }

    /// All topics and what lies there.
    pub fn topics(&self) -> Vec<(String, Place)> {
        topics(&self.subscriptions).collect()
    }

    /// Topics of the dead letters.
    pub fn dead_letter_topics(&self) -> Vec<String> {
        self.subscriptions.iter().map(|s| s.dead_letters.clone()).collect()
    }
}

fn topics(subscriptions: &[Subscription]) -> impl Iterator<Item = (String, Place)> {
    let of = |(n, s): (usize, &Subscription)| {
        [(s.output.clone(), Place::Output(n)), (s.dead_letters.clone(), Place::Dead(n))]
    };
    [(INPUT.to_owned(), Place::Input)]
        .into_iter()
        .chain(subscriptions.iter().enumerate().flat_map(of))
}

/// Short times, so that a fault and what follows it fit into seconds. The session is what a
/// pause is measured by. In a storm a member that does not poll is thrown out quickly.
fn kafka_config(port: u16, scenario: Scenario) -> String {
    let poll = match scenario {
        Scenario::Faults => 60_000,
        Scenario::Storm => 10_000,
    };
    format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connections.kafka]\ntype = \"kafka\"\nbrokers = \"127.0.0.1:{port}\"\n\
         create-topics = true\npartitions = {PARTITIONS}\n\
         [connections.kafka.properties]\n\"session.timeout.ms\" = \"{}\"\n\
         \"max.poll.interval.ms\" = \"{poll}\"\n\"socket.timeout.ms\" = \"10000\"\n\
         \"transaction.timeout.ms\" = \"{}\"\n",
        SESSION.as_millis(),
        SESSION.as_millis()
    )
}

/// After so long without a heartbeat the group gives a member up.
pub const SESSION: std::time::Duration = std::time::Duration::from_secs(6);

/// The embedded log, in the data folder of its runtime.
pub const LOG_FILE: &str = "log.redb";

fn log_config() -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connections.log]\ntype = \"log\"\npath = \"{LOG_FILE}\"\npartitions = {PARTITIONS}\n"
    )
}
