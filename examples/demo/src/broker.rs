//! The broker that the demo runs on. Nothing but `[connections]` differs between them.

use clap::ValueEnum;

/// Where the events flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Broker {
    /// The embedded log; needs no server.
    Log,
    /// Apache Kafka.
    Kafka,
    /// NATS with JetStream.
    Nats,
    /// RabbitMQ.
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// Amazon SQS, FIFO queues.
    Sqs,
}

impl Broker {
    /// What a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Log => "the embedded log",
            Self::Kafka => "Apache Kafka",
            Self::Nats => "NATS JetStream",
            Self::RabbitMq => "RabbitMQ",
            Self::Sqs => "SQS",
        }
    }

    /// How often the 329 webhooks are published: what stands in for SQS is slow.
    pub fn rounds(self) -> usize {
        if self == Self::Sqs { 2 } else { 30 }
    }

    /// How many webhooks are published at once: most are of one repository, and SQS takes those of a
    /// group one after the other.
    pub fn batch(self) -> usize {
        if self == Self::Sqs { 10 } else { 100 }
    }

    /// The tables `[connections.main]`, `url` being that of the server.
    pub fn connection(self, url: Option<&str>) -> String {
        let quoted = |default: &str| format!("{:?}", url.unwrap_or(default));
        match self {
            Self::Log => "[connections.main]\ntype = \"log\"\n".to_owned(),
            Self::Kafka => format!(
                "[connections.main]\ntype = \"kafka\"\nbrokers = {}\ncreate-topics = true\n",
                quoted("localhost:9092")
            ),
            Self::Nats => format!(
                "[connections.main]\ntype = \"nats\"\nservers = {}\ncreate-topics = true\n",
                quoted("localhost:4222")
            ),
            Self::RabbitMq => format!(
                "[connections.main]\ntype = \"rabbitmq\"\nuri = {}\ncreate-topics = true\nmandatory = true\n",
                quoted("amqp://guest:guest@localhost:5672")
            ),
            Self::Sqs => {
                let service = url.map(|url| {
                    // what stands in for AWS takes any credentials; why it is not kept waiting: docs/brokers/sqs.md
                    format!(
                        "endpoint = {url:?}\nregion = \"eu-central-1\"\naccess-key-id = \"demo\"\n\
                         secret-access-key = \"demo\"\nwait = \"0s\"\n"
                    )
                });
                format!(
                    "[connections.main]\ntype = \"sqs\"\nfifo = true\ncreate-topics = true\n{}",
                    service.unwrap_or_default()
                )
            }
        }
    }

    /// Topics that cannot be read beside their subscriptions: a route copies each into the
    /// embedded log, where the demo looks. Where a topic has one reader, the copy of
    /// `github.events` would take its events away from the notifier.
    pub fn copied(self) -> &'static [&'static str] {
        match self {
            Self::Log | Self::Kafka | Self::Nats => &[],
            Self::RabbitMq => &["github.events", "github.notifications"],
            Self::Sqs => &["github.notifications"],
        }
    }

    /// Where `topic` can be read: the connection; `None`: nowhere.
    pub fn readable(self, topic: &str) -> Option<&'static str> {
        match self {
            Self::Log | Self::Kafka | Self::Nats => Some("main"),
            Self::RabbitMq | Self::Sqs => self.copied().contains(&topic).then_some("local"),
        }
    }
}
