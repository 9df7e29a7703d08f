//! What a run is made of: broker, runtimes, topics, books.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    broker::{self, Broker},
    fleet::Fleet,
    options::{BrokerKind, Delivery, Options, Scenario},
    timeline::Timeline,
    verifier::{Place, Verifier},
};

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
    /// The embedded log is none of its own.
    pub broker: Option<Box<dyn Broker>>,
    pub timeline: Arc<Timeline>,
    pub verifier: Arc<Verifier>,
}

impl World {
    /// Everything in its place below `folder`, the broker running, the runtimes not yet.
    pub async fn new(options: Options, folder: &Path) -> Result<Self> {
        let subscriptions: Vec<_> =
            options.deliveries.iter().map(|delivery| Subscription::new(*delivery)).collect();
        let broker = broker::start(options.broker, folder).await?;
        let connection = match &broker {
            Some(broker) => {
                broker.create(&on_broker(&subscriptions, options.broker)).await?;
                broker.settings(options.scenario)
            }
            None => log_settings(),
        };
        let config = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{connection}");
        let plugins: Vec<_> =
            subscriptions.iter().map(|s| (s.name.clone(), s.settings(options.scenario))).collect();
        let fleet = Fleet::new(folder, options.processes, &config, &plugins)?;
        let timeline: Arc<Timeline> = Arc::default();
        let verifier = Arc::new(Verifier::new(
            options.script(),
            options.keys as usize,
            options.broker.partitions() as usize,
            subscriptions.len(),
            timeline.clone(),
        ));
        Ok(Self { options, subscriptions, fleet, broker, timeline, verifier })
    }

    /// Topics on the broker and what lies there; none on the embedded log.
    pub fn on_broker(&self) -> Vec<(String, Place)> {
        on_broker(&self.subscriptions, self.options.broker)
    }

    /// What lies in the runtimes themselves.
    pub fn in_runtimes(&self) -> Vec<Kept> {
        let kind = self.options.broker;
        let connection = if kind == BrokerKind::Log { LOG } else { DEAD_LETTERS };
        let on_broker = self.on_broker();
        let kept = topics(&self.subscriptions).filter(|topic| !on_broker.contains(topic));
        let everywhere = |(topic, place): (String, Place)| {
            (0..self.fleet.size()).map(move |runtime| Kept {
                runtime,
                connection,
                topic: topic.clone(),
                place,
            })
        };
        kept.flat_map(everywhere).collect()
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

fn on_broker(subscriptions: &[Subscription], kind: BrokerKind) -> Vec<(String, Place)> {
    let is_there = |place| match place {
        _ if kind == BrokerKind::Log => false,
        Place::Input | Place::Output(_) => true,
        Place::Dead(_) => kind.keeps_dead_letters(),
    };
    topics(subscriptions).filter(|(_, place)| is_there(*place)).collect()
}

/// A topic that a runtime keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    pub runtime: usize,
    pub connection: &'static str,
    pub topic: String,
    pub place: Place,
}

/// After so long without a sign of life the broker gives a runtime up: what a pause is measured by.
pub const SESSION: Duration = Duration::from_secs(6);

/// The connection of the embedded log, and the one of the dead letters that no broker keeps.
const LOG: &str = "log";
const DEAD_LETTERS: &str = "local";

/// The embedded log, in the data folder of its runtime.
pub const LOG_FILE: &str = "log.redb";

fn log_settings() -> String {
    let partitions = BrokerKind::Log.partitions();
    format!(
        "[connections.{LOG}]\ntype = \"log\"\npath = \"{LOG_FILE}\"\npartitions = {partitions}\n"
    )
}
