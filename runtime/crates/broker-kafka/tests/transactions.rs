//! What follows when a transaction goes wrong, step by step, on a mock broker. It writes
//! every record at once, committed or not: what is seen here is how often one was sent.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::*;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey as Api, RDKafkaRespErr as E},
};
use sandbar_broker_kafka::Kafka;
use sandbar_core::{
    Connection, Delivery, Partition, Settlement, Source, SourceError, SourceStats, SubscriptionSpec,
};

/// A position behind the four records that [`Setup`] publishes.
const ELSEWHERE: u64 = 9;

/// Commits a position for a group that has no member yet.
fn commit(mock: &MockCluster<'_, DefaultProducerContext>, position: u64) {
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("group.id", "g")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let position = Offset::Offset(i64::try_from(position).unwrap());
    list.add_partition_offset("t", 0, position).unwrap();
    group.commit(&list, CommitMode::Sync).unwrap();
}

struct Setup {
    mock: MockCluster<'static, DefaultProducerContext>,
    kafka: Kafka,
    source: Box<dyn Source>,
    partition: Box<dyn Partition>,
    deliveries: Vec<Delivery>,
    stats: Arc<SourceStats>,
}

impl Setup {
    /// An exactly-once member that holds four deliveries. Its group had committed a
    /// position that is not there, so that it began with the first.
    async fn new() -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        mock.create_topic("out", 1, 1).unwrap();
        let kafka = connect(&mock.bootstrap_servers(), 1, &[("transaction.timeout.ms", "2000")]);
        publish(&kafka, &numbered("t", 4, 1)).await;
        commit(&mock, ELSEWHERE);
        let spec = SubscriptionSpec { exactly_once: true, ..spec("g", "t") };
        let stats = spec.stats.clone();
        let mut source = kafka.subscribe(spec).await.unwrap();
        let mut partition = assigned(&mut source).await;
        let deliveries = recv_all(&mut partition, 4).await;
        // positions that moved by themselves are committed too: it must not be those that fail
        until("the position is corrected", || stats.transactions_committed() == 1).await;
        Self { mock, kafka, source, partition, deliveries, stats }
    }

    fn settlements(&self) -> Vec<Settlement> {
        let out = "out".into();
        self.deliveries.iter().map(|d| copy(d, &out)).collect()
    }

    /// Injects `count` errors into answers of a kind.
    fn fail(&self, api: Api, error: E, count: usize) {
        self.mock.request_errors(api, &vec![error; count]);
    }

    /// How often each number was sent, and how many transactions were committed and aborted.
    async fn seen(&self) -> (Vec<u32>, u64, u64) {
        let sent: BTreeMap<u64, u32> = counted(&self.kafka, "out").await;
        let sent = (0..4).map(|n| sent.get(&n).copied().unwrap_or_default()).collect();
        (sent, self.stats.transactions_committed() - 1, self.stats.transactions_aborted())
    }

    async fn close(self) {
        drop(self.partition);
        self.source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_generation_that_the_group_refuses_aborts_and_the_same_is_done_again() {
    let mut setup = Setup::new().await;
    setup.fail(Api::TxnOffsetCommit, E::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1);
    let settlements = setup.settlements();
    setup.partition.settle(&settlements).await.unwrap();
    let (sent, committed, aborted) = setup.seen().await;
    assert!(sent.iter().all(|n| *n >= 1), "{sent:?}");
    assert_eq!((committed, aborted), (1, 1));
    setup.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_commit_without_an_answer_is_asked_for_again_and_not_done_again() {
    let mut setup = Setup::new().await;
    // more than fit into its patience
    setup.fail(Api::EndTxn, E::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 500);
    let settlements = setup.settlements();
    let unclear = setup.partition.settle(&settlements).await;
    let Err(SourceError::Unavailable(reason)) = unclear else { panic!("{unclear:?}") };
    assert!(reason.contains("no answer"), "{reason}");
    setup.mock.clear_request_errors(Api::EndTxn);
    // the pipeline makes the same call again
    setup.partition.settle(&settlements).await.unwrap();
    assert_eq!(setup.seen().await, (vec![1; 4], 1, 0));
    setup.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_producer_that_is_fenced_at_its_commit_is_replaced_and_the_same_is_done_again() {
    let mut setup = Setup::new().await;
    setup.fail(Api::EndTxn, E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1);
    let settlements = setup.settlements();
    setup.partition.settle(&settlements).await.unwrap();
    // the group had nothing of the first: it was aborted
    assert_eq!(setup.seen().await, (vec![2; 4], 1, 1));
    setup.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_commit_that_failed_only_here_is_found_with_the_group_and_not_done_again() {
    let mut setup = Setup::new().await;
    // what the transaction is about to commit, as if it had been committed
    publish(&setup.kafka, &numbered("t", 5, 1)).await;
    let more = recv_all(&mut setup.partition, 5).await;
    setup.deliveries.extend(more);
    assert_eq!(setup.deliveries.last().unwrap().event.position + 1, ELSEWHERE);
    setup.fail(Api::EndTxn, E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1);
    let settlements = setup.settlements();
    setup.partition.settle(&settlements).await.unwrap();
    let (sent, committed, aborted) = setup.seen().await;
    // 0 to 3 were published twice
    assert_eq!((sent, committed, aborted), (vec![2; 4], 1, 0));
    setup.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_topic_that_may_not_be_written_rejects_the_delivery_and_no_other() {
    let mut setup = Setup::new().await;
    // told of no record: the second half, its first, and that alone
    setup.fail(Api::AddPartitionsToTxn, E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 3);
    let mut settlements = setup.settlements();
    let refused = setup.partition.settle(&settlements).await;
    let Err(SourceError::Rejected { token, reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("authorization failed"), "{reason}");
    assert_eq!((setup.stats.transactions_committed(), setup.stats.transactions_aborted()), (3, 3));
    settlements.retain(|s| s.token != token);
    setup.partition.settle(&settlements).await.unwrap();
    assert_eq!(setup.stats.transactions_committed(), 3, "they were settled with that call");
    setup.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_what_no_transaction_may_do_ends_the_source_and_says_why() {
    let mut setup = Setup::new().await;
    setup.fail(Api::TxnOffsetCommit, E::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, 1);
    let settlements = setup.settlements();
    let refused = setup.partition.settle(&settlements).await;
    let Err(SourceError::Fatal(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("authorization failed"), "{reason}");
    let end = loop {
        match tokio::time::timeout(PATIENCE, setup.source.next()).await.unwrap() {
            Err(SourceError::Fatal(reason)) => break reason,
            Err(SourceError::Unavailable(_)) => {}
            _ => panic!("an event"),
        }
    };
    assert!(end.contains("authorization failed"), "{end}");

    // known before anything is settled
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let denied = E::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    mock.request_errors(Api::InitProducerId, &[denied; 20]);
    let kafka = connect(&mock.bootstrap_servers(), 1, &[]);
    let spec = SubscriptionSpec { exactly_once: true, ..spec("g", "t") };
    let mut source = kafka.subscribe(spec).await.unwrap();
    let end = loop {
        match tokio::time::timeout(PATIENCE, source.next()).await.unwrap() {
            Err(SourceError::Fatal(reason)) => break reason,
            Err(SourceError::Unavailable(_)) | Ok(_) => {}
            Err(e) => panic!("{e}"),
        }
    };
    assert!(end.contains("permissions Write and Describe on transactional ids"), "{end}");
}
