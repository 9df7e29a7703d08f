//! The suite is itself under test: it passes a sound broker, and notices planted faults.

mod fake;
mod faults;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use sandbar_core::Connection;
use sandbar_testkit::conformance::{
    Applies, Backend, Bench, Declared, Headers, STATEMENTS, Statement, Switch,
};

use fake::{Broker, LARGEST};
use faults::{Fault, Faulty};

struct InMemory {
    name: &'static str,
    broker: Arc<Broker>,
    fault: Fault,
}

impl InMemory {
    fn exclusive(fault: Fault) -> Self {
        Self { name: "fake with one active member", broker: Broker::new(true), fault }
    }

    fn shared(fault: Fault) -> Self {
        Self { name: "fake with shared work", broker: Broker::new(false), fault }
    }

    fn connection(&self, creates: bool) -> Arc<dyn Connection> {
        Arc::new(Faulty { inner: self.broker.connect(creates), fault: self.fault })
    }
}

#[async_trait]
impl Backend for InMemory {
    fn declared(&self) -> Declared {
        Declared {
            name: self.name,
            guarantees: self.broker.guarantees(),
            partitions: 1,
            largest_payload: LARGEST - 1024,
            too_large: Some(LARGEST + 1),
            headers: Headers::EVERYTHING,
            lease: None,
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
        Some(self)
    }
}

#[async_trait]
impl Switch for InMemory {
    async fn kill(&self) {
        self.broker.set_down(true);
    }

    async fn start(&self) {
        self.broker.set_down(false);
    }
}

mod with_one_active_member {
    sandbar_testkit::conformance_tests!(Some(super::InMemory::exclusive(super::Fault::None)));
}

mod with_shared_work {
    sandbar_testkit::conformance_tests!(Some(super::InMemory::shared(super::Fault::None)));
}

/// Whether `statement` holds for `backend`. Time is the test's own: what never comes is
/// waited for in vain at once.
fn holds(statement: &Statement, backend: InMemory) -> bool {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let bench = Bench::new(Box::new(backend));
    let applies = statement.applies(bench.declared(), bench.has_switch());
    assert!(!matches!(applies, Applies::Not(_)), "{} does not apply", statement.name);
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(statement.check(&bench)))).is_ok()
}

#[test]
fn every_planted_fault_is_noticed_by_the_statement_that_it_breaks() {
    use Fault::*;
    let planted = [
        (PromisesMore, "declares_what_it_promises"),
        (Swaps, "order"),
        (Drops, "order"),
        (Repeats, "order"),
        (AcknowledgesEarly, "redelivery"),
        (AcknowledgesFetched, "close_without_loss"),
        (AcknowledgesEarly, "broker_restart"),
        (CountsNothing, "redelivery"),
        (NeverAcknowledges, "settle_out_of_order"),
        (AcknowledgesUpTo, "settle_out_of_order"),
        (AcknowledgesUpTo, "shutdown_in_mid_batch"),
        (ReleasesAsDone, "release"),
        (IgnoresDelays, "release_with_delay"),
        (LosesCancelled, "cancelled_calls_lose_nothing"),
        (NeverEnds, "until_end"),
        (SeesNoLaterTopics, "globs_see_later_topics"),
        (DropsEffects, "effects"),
        (SwallowsRejections, "too_large_is_rejected"),
        (SwallowsRejections, "unknown_topics_are_named"),
        (RetriesForEver, "too_large_is_rejected"),
        (RefusesAll, "publish_failure_per_record"),
        (MangledPayloads, "payloads_and_keys"),
        (MangledPayloads, "large_records"),
        (MangledPayloads, "poison"),
        (LosesRepeatedHeaders, "headers"),
        (LosesAttributes, "cloudevents_attributes"),
        (LosesTombstones, "tombstones"),
        (LosesEmptyKeys, "payloads_and_keys"),
        (DiesWithTheBroker, "broker_restart"),
        (DiesWithTheBroker, "connect_while_the_broker_is_away"),
    ];
    for (fault, name) in planted {
        let statement = STATEMENTS.iter().find(|s| s.name == name).expect(name);
        assert!(holds(statement, InMemory::exclusive(None)), "{name} holds without a fault");
        assert!(!holds(statement, InMemory::exclusive(fault)), "{name} does not see: {fault:?}");
    }
}
