//! The idempotent producer, and how the reports of one batch find back to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use sandbar_core::Outgoing;
use tokio::sync::{Notify, oneshot};

use crate::{client, config::Settings, error::ConnectError, record};

/// The records of one `publish`, while the broker has them.
pub(crate) struct Batch {
    /// Reports still to come, and one more until every record was handed over.
    open: AtomicUsize,
    failed: Mutex<Vec<(usize, RDKafkaErrorCode)>>,
    /// One failure ends the wait: nobody asks what becomes of the others.
    hasty: bool,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Batch {
    /// A batch, and what resolves with its last report.
    pub fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
        Self::make(false)
    }

    /// A batch, and what resolves with its first failure or its last report.
    pub fn all_or_nothing() -> (Arc<Self>, oneshot::Receiver<()>) {
        Self::make(true)
    }

    fn make(hasty: bool) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, all) = oneshot::channel();
        let batch = Self {
            open: AtomicUsize::new(1),
            failed: Mutex::default(),
            hasty,
            done: Mutex::new(Some(done)),
        };
        (Arc::new(batch), all)
    }

    /// What goes with record `index` and comes back with its report.
    pub fn ticket(self: &Arc<Self>, index: usize) -> Box<Ticket> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Box::new(Ticket { batch: self.clone(), index })
    }

    /// One report less to wait for.
    pub fn close(&self, failed: Option<(usize, RDKafkaErrorCode)>) {
        let over = self.hasty && failed.is_some();
        self.failed.lock().extend(failed);
        // the last one sees what all others noted before they counted themselves out
        if (self.open.fetch_sub(1, Ordering::AcqRel) == 1 || over)
            && let Some(done) = self.done.lock().take()
        {
            // nobody waits any more where the publish was cancelled
            let _ = done.send(());
        }
    }

    /// Records that were not delivered, by index, with the reason.
    pub fn failed(&self) -> Vec<(usize, RDKafkaErrorCode)> {
        std::mem::take(&mut *self.failed.lock())
    }
}

/// Names one record of one batch.
pub(crate) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

impl Ticket {
    pub fn close(self, failed: Option<RDKafkaErrorCode>) {
        self.batch.close(failed.map(|code| (self.index, code)));
    }
}

/// Context of the producer: hands delivery reports to their batches.
pub(crate) struct Reports {
    connection: Arc<str>,
    /// Permits one waiting publisher to try again whenever a record has left the queue.
    room: Arc<Notify>,
}

impl Reports {
    pub fn new(connection: Arc<str>, room: Arc<Notify>) -> Self {
        Self { connection, room }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(&self.connection, level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, reason: &str) {
        // what it means for a record is in that record's report
        tracing::warn!(connection = &*self.connection, "producer: {reason}");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let failed = result.as_ref().err().map(|(error, _)| code(error));
        ticket.close(failed);
        self.room.notify_one();
    }
}

pub(crate) type Record<'a> = BaseRecord<'a, [u8], [u8], Box<Ticket>>;

/// A record as librdkafka takes it.
pub(crate) fn record(outgoing: &Outgoing, ticket: Box<Ticket>) -> Record<'_> {
    let mut native = Record::with_opaque_to(&outgoing.topic, ticket);
    native.key = outgoing.key.as_deref();
    native.payload = outgoing.payload.as_deref();
    native.headers = record::outgoing_headers(outgoing);
    native
}

pub(crate) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidArgument)
}

/// The producer in use, and its replacement when it can go on no longer.
pub(crate) struct Producers {
    connection: Arc<str>,
    settings: Arc<Settings>,
    current: Mutex<Arc<Running>>,
    pub room: Arc<Notify>,
}

/// A producer with its polling thread. Dropping it waits for that thread and drops
/// what is queued, so that is done elsewhere.
pub(crate) struct Running(Option<ThreadedProducer<Reports>>);

impl Running {
    pub fn get(&self) -> &ThreadedProducer<Reports> {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let producer = self.0.take();
        thread::spawn(move || drop(producer));
    }
}

impl Producers {
    pub fn new(connection: Arc<str>, settings: Arc<Settings>) -> Result<Self, ConnectError> {
        let room = Arc::new(Notify::new());
        let first = Self::make(&connection, &settings, &room)?;
        Ok(Self { connection, settings, current: Mutex::new(first), room })
    }

    fn make(
        connection: &Arc<str>,
        settings: &Settings,
        room: &Arc<Notify>,
    ) -> Result<Arc<Running>, ConnectError> {
        let context = Reports::new(connection.clone(), room.clone());
        let producer = settings
            .producer()
            .create_with_context(context)
            .map_err(|e| ConnectError::Client(e.to_string()))?;
        Ok(Arc::new(Running(Some(producer))))
    }

    /// A producer that works. An idempotent producer that cannot tell any more which
    /// records were written is finished for good: another takes its place.
    pub fn current(&self) -> Result<Arc<Running>, ConnectError> {
        let mut current = self.current.lock();
        if let Some((code, reason)) = current.get().client().fatal_error() {
            tracing::warn!(
                connection = &*self.connection, %code,
                "the producer gave up and is replaced: {reason}"
            );
            *current = Self::make(&self.connection, &self.settings, &self.room)?;
        }
        Ok(current.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_its_last_report_and_not_before() {
        let (batch, mut all) = Batch::new();
        let tickets: Vec<_> = (0..3).map(|i| batch.ticket(i)).collect();
        for ticket in tickets {
            assert!(all.try_recv().is_err());
            let failed = (ticket.index == 1).then_some(RDKafkaErrorCode::MessageTimedOut);
            ticket.close(failed);
        }
        assert!(all.try_recv().is_err(), "not every record was handed over yet");
        batch.close(None);
        assert!(all.try_recv().is_ok());
        assert_eq!(batch.failed(), [(1, RDKafkaErrorCode::MessageTimedOut)]);
    }

    #[test]
    fn a_batch_that_is_all_or_nothing_ends_with_its_first_failure() {
        let (batch, mut all) = Batch::all_or_nothing();
        let mut tickets: Vec<_> = (0..3).map(|i| batch.ticket(i)).collect();
        batch.close(None);
        tickets.remove(0).close(None);
        assert!(all.try_recv().is_err());
        tickets.remove(0).close(Some(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(all.try_recv().is_ok());
        assert_eq!(batch.failed(), [(1, RDKafkaErrorCode::MessageSizeTooLarge)]);
        tickets.remove(0).close(None);
    }

    #[tokio::test]
    #[allow(unsafe_code)] // librdkafka's own way to raise a fatal error for a test
    async fn a_producer_that_gave_up_is_replaced_and_publishing_goes_on() {
        use std::ffi::CString;

        use rdkafka::{bindings, mocking::MockCluster, types::RDKafkaRespErr};
        use sandbar_core::{PublishError, Sink};

        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let config = crate::KafkaConfig {
            brokers: mock.bootstrap_servers(),
            ..crate::KafkaConfig::default()
        };
        let settings = Arc::new(Settings::new(config).unwrap());
        let producers = Producers::new("test".into(), settings.clone()).unwrap();
        let admin = Arc::new(crate::admin::Admin::new(settings, "test".into()));
        let sink = crate::sink::KafkaSink::new(admin, producers);
        let publish = || async { sink.publish(&[Outgoing::new("t", "x")]).await.remove(0) };
        publish().await.unwrap();

        let broken = sink.producers().current().unwrap();
        let reason = CString::new("raised by a test").unwrap();
        let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client lives as long as `broken`, and `reason` is copied
        unsafe {
            bindings::rd_kafka_test_fatal_error(
                broken.get().client().native_ptr(),
                code,
                reason.as_ptr(),
            );
        }
        // with the broken one, as a batch that had begun with it would
        let failed = sink.publish_with(&broken, &[Outgoing::new("t", "x")]).await.remove(0);
        assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
        publish().await.unwrap();
        assert!(!Arc::ptr_eq(&broken, &sink.producers().current().unwrap()));
    }
}
