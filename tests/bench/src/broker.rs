//! A real Apache Kafka: started, filled, and asked how far others have come.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use sandbar_testkit::root;

use crate::{
    events::{Shape, events},
    progress::pause,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker. One that was started is stopped when this is dropped.
pub struct Kafka {
    pub address: String,
    folder: Option<PathBuf>,
}

impl Kafka {
    /// Starts one in `folder` on `port` and the one after it.
    ///
    /// # Errors
    /// Where Java or Maven is missing, or a port is taken.
    pub fn start(folder: &Path, port: u16) -> Result<Self> {
        let script = root().join("scripts/kafka/start");
        let status = Command::new(script).arg(folder).arg(port.to_string()).status()?;
        ensure!(status.success(), "scripts/kafka/start ended with {status}");
        Ok(Self { address: format!("127.0.0.1:{port}"), folder: Some(folder.to_owned()) })
    }

    /// One that is there already.
    pub fn at(address: String) -> Self {
        Self { address, folder: None }
    }

    /// Its process, where it was started here.
    pub fn pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.folder.as_ref()?.join("kafka.pid")).ok()?;
        pid.trim().parse().ok()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Where the broker refuses it.
    pub fn create(&self, topic: &str, partitions: u32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let new = NewTopic::new(topic, i32::try_from(partitions)?, TopicReplication::Fixed(1));
        let created = block_on(admin.create_topics([&new], &AdminOptions::new()))??;
        for one in created {
            if let Err((topic, code)) = one {
                bail!("cannot create topic {topic}: {code}");
            }
        }
        Ok(())
    }

    /// Deletes topics, which gives their space back.
    ///
    /// # Errors
    /// Where the broker cannot be asked.
    pub fn delete(&self, topics: &[&str]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        block_on(admin.delete_topics(topics, &AdminOptions::new()))??;
        Ok(())
    }

    /// A new topic with `count` events of `shape`.
    ///
    /// # Errors
    /// Where the broker does not take them.
    pub fn fill(&self, topic: &str, partitions: u32, count: usize, shape: &Shape) -> Result<()> {
        self.create(topic, partitions)?;
        let producer: BaseProducer = self
            .client()
            .set("enable.idempotence", "true")
            .set("linger.ms", "10")
            .set("partitioner", "murmur2_random")
            .create()?;
        for event in events(count, shape) {
            let mut record = BaseRecord::to(topic).key(&event.key).payload(&event.payload);
            while let Err((error, again)) = producer.send(record) {
                full(error)?;
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(PATIENCE * 4).context("not all events are durable")
    }

    /// An observer of `topic`, on behalf of `group`.
    ///
    /// # Errors
    /// While the broker is away.
    pub fn observe(&self, topic: &str, group: &str) -> Result<Observer> {
        let client: BaseConsumer = self.client().set("group.id", group).create()?;
        let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let partitions = partitions.map(|p| p.id()).collect();
        Ok(Observer { client, topic: topic.to_owned(), partitions })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = Command::new(root().join("scripts/kafka/stop")).arg(folder).status();
        }
    }
}

/// A full queue is no error: the record is sent again.
pub fn full(error: KafkaError) -> Result<()> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => Ok(()),
        _ => Err(error.into()),
    }
}

/// Asks again for as long as a broker may take to make a topic known, or to find a coordinator.
fn patient<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => pause(Duration::from_millis(20)),
        }
    }
}

/// Asks the broker how far others are.
pub struct Observer {
    client: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
}

impl Observer {
    /// Records written, those of open transactions and their markers included.
    ///
    /// # Errors
    /// While the broker is away.
    pub fn written(&self) -> Result<u64> {
        let end = |partition: &i32| {
            let (_, end) =
                patient(|| self.client.fetch_watermarks(&self.topic, *partition, PATIENCE))?;
            Ok(u64::try_from(end)?)
        };
        self.partitions.iter().map(end).sum()
    }

    /// Events that the group has committed.
    ///
    /// # Errors
    /// While the broker is away.
    pub fn committed(&self) -> Result<u64> {
        let mut list = TopicPartitionList::new();
        for partition in &self.partitions {
            list.add_partition(&self.topic, *partition);
        }
        let list = patient(|| self.client.committed_offsets(list.clone(), PATIENCE))?;
        let offset = |offset| match offset {
            Offset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
            _ => 0,
        };
        Ok(list.elements().iter().map(|e| offset(e.offset())).sum())
    }
}

fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
