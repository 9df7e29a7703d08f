//! Kafka to Kafka without Sandbar: what a careful engineer writes by hand with librdkafka, with the
//! same guarantees. One thread reads, handles and sends; librdkafka does its input and output on
//! threads of its own.
//!
//! What it avoids was measured: a future for each record, a synchronous commit in the loop, a `flush`
//! before each transaction's end (it polls in steps of 100 ms), `linger.ms=0`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer},
};

use crate::{broker::full, progress::pause};

/// Partitions at the most.
const PARTITIONS: usize = 64;
/// As often as Sandbar commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// A transaction ends with so many events, or after so long.
const TRANSACTION_EVENTS: usize = 10_000;
const TRANSACTION_TIME: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);
const FULL: &str = "stopped with a full producer: does the broker still take anything?";

/// What is read, what is written, and by whom.
#[derive(Debug, Clone)]
pub struct Job {
    pub brokers: String,
    pub input: String,
    pub output: String,
    pub group: String,
}

/// A loop on a thread of its own, which ends with this.
pub struct Native {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Native {
    /// Positions are committed when the outputs before them are durable.
    pub fn at_least_once(job: Job) -> Self {
        Self::start(move |stop| at_least_once(&job, stop))
    }

    /// Outputs and positions in one transaction.
    pub fn exactly_once(job: Job) -> Self {
        Self::start(move |stop| exactly_once(&job, stop))
    }

    fn start(run: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || run(&stopped)));
        Self { stop, thread }
    }

    /// Ends it.
    ///
    /// # Errors
    /// What it failed with.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped twice")?;
        thread.join().map_err(|_| anyhow::anyhow!("the native loop panicked"))?
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a handler does: the same as the plugin that it is measured beside.
fn handle(payload: &[u8]) -> Vec<u8> {
    payload.to_vec()
}

fn consumer(job: &Job) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &job.brokers)
        .set("group.id", &job.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    consumer.subscribe(&[&job.input])?;
    Ok(consumer)
}

fn producer(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &job.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    config
}

/// Up to where each partition's outputs are durable.
struct Delivered {
    next: [AtomicI64; PARTITIONS],
    failed: AtomicBool,
}

/// Partition and offset that an output was made from, as one number.
fn origin(partition: i32, offset: i64) -> Result<usize> {
    let partition = usize::try_from(partition)?;
    ensure!(partition < PARTITIONS, "more than {PARTITIONS} partitions");
    Ok(usize::try_from(offset)? * PARTITIONS + partition)
}

struct Reports(Arc<Delivered>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, origin: usize) {
        match result {
            // an output goes to the partition of the same number, where librdkafka keeps the order
            Ok(_) => {
                self.0.next[origin % PARTITIONS]
                    .store((origin / PARTITIONS) as i64 + 1, Ordering::Release);
            }
            Err(_) => self.0.failed.store(true, Ordering::Release),
        }
    }
}

fn at_least_once(job: &Job, stop: &AtomicBool) -> Result<()> {
    let delivered = Arc::new(Delivered {
        next: std::array::from_fn(|_| AtomicI64::new(-1)),
        failed: AtomicBool::new(false),
    });
    let consumer = consumer(job)?;
    let producer: BaseProducer<Reports> =
        producer(job).create_with_context(Reports(Arc::clone(&delivered)))?;
    let mut committed = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message?;
            let payload = handle(message.payload().unwrap_or_default());
            let origin = origin(message.partition(), message.offset())?;
            let mut record = BaseRecord::with_opaque_to(&job.output, origin)
                .partition(message.partition())
                .payload(&payload);
            record.key = message.key();
            while let Err((error, again)) = producer.send(record) {
                full(error)?;
                ensure!(!stop.load(Ordering::Relaxed), "{FULL}");
                producer.poll(Duration::from_millis(1));
                record = again;
            }
        }
        producer.poll(Duration::ZERO);
        if committed.elapsed() >= COMMIT_EVERY {
            committed = Instant::now();
            commit(job, &consumer, &delivered)?;
        }
        if delivered.failed.load(Ordering::Acquire) {
            bail!("an output was not delivered");
        }
    }
    producer.flush(PATIENCE)?;
    commit(job, &consumer, &delivered)
}

fn commit(job: &Job, consumer: &BaseConsumer, delivered: &Delivered) -> Result<()> {
    let mut positions = TopicPartitionList::new();
    for (partition, next) in delivered.next.iter().enumerate() {
        let next = next.load(Ordering::Acquire);
        if next >= 0 {
            let partition = i32::try_from(partition)?;
            positions.add_partition_offset(&job.input, partition, Offset::Offset(next))?;
        }
    }
    if positions.count() > 0 {
        consumer.commit(&positions, CommitMode::Async)?;
    }
    Ok(())
}

fn exactly_once(job: &Job, stop: &AtomicBool) -> Result<()> {
    let consumer = consumer(job)?;
    let producer: ThreadedProducer<_> = producer(job)
        .set("transactional.id", &job.group)
        .create_with_context(rdkafka::producer::DefaultProducerContext)?;
    producer.init_transactions(PATIENCE)?;
    while !stop.load(Ordering::Relaxed) {
        let Some(first) = consumer.poll(Duration::from_millis(10)) else { continue };
        producer.begin_transaction()?;
        let ends = Instant::now() + TRANSACTION_TIME;
        let mut next = Some(first);
        let mut positions = [-1; PARTITIONS];
        let mut events = 0;
        loop {
            if let Some(message) = next {
                let message = message?;
                let payload = handle(message.payload().unwrap_or_default());
                let partition = message.partition();
                let mut record = BaseRecord::to(&job.output).partition(partition).payload(&payload);
                record.key = message.key();
                while let Err((error, again)) = producer.send(record) {
                    full(error)?;
                    ensure!(!stop.load(Ordering::Relaxed), "{FULL}");
                    pause(Duration::from_millis(1));
                    record = again;
                }
                *positions.get_mut(partition as usize).context("too many partitions")? =
                    message.offset() + 1;
                events += 1;
            }
            let left = ends.saturating_duration_since(Instant::now());
            if events >= TRANSACTION_EVENTS || left.is_zero() {
                break;
            }
            next = consumer.poll(left.min(Duration::from_millis(10)));
        }
        // not `flush`: it would wait for 100 ms
        while producer.in_flight_count() > 0 {
            pause(Duration::from_micros(100));
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in positions.iter().enumerate().filter(|(_, next)| **next >= 0) {
            let partition = i32::try_from(partition)?;
            list.add_partition_offset(&job.input, partition, Offset::Offset(*next))?;
        }
        let group = consumer.group_metadata().context("no member of the group")?;
        producer.send_offsets_to_transaction(&list, &group, PATIENCE)?;
        producer.commit_transaction(PATIENCE)?;
    }
    Ok(())
}
