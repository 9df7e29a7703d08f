//! The suite is itself under test: it passes a sound broker, and notices planted faults.

mod fake;
mod faults;
mod kept;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Arc,
};

use async_trait::async_trait;
use sandbar_core::Connection;
use sandbar_testkit::conformance::{
    Applies, Backend, Bench, Declared, Headers, STATEMENTS, Statement, Suite, Switch,
};

use fake::{Broker, Kind, LARGEST};
use faults::{Fault, Faulty};

struct InMemory {
    name: &'static str,
    broker: Arc<Broker>,
    fault: Fault,
}

impl InMemory {
    fn new(kind: Kind, fault: Fault) -> Self {
        let name = match kind {
            Kind::Exclusive => "fake with one active member",
            Kind::Shared => "fake with shared work",
            Kind::Locking => "fake that locks keys",
        };
        Self { name, broker: Broker::new(kind), fault }
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
            locks_keys: self.broker.locks_keys(),
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

fn sound(kind: Kind) -> Option<InMemory> {
    Some(InMemory::new(kind, Fault::None))
}

fn main() -> ExitCode {
    Suite::default()
        .on("with_one_active_member", || sound(Kind::Exclusive))
        .on("with_shared_work", || sound(Kind::Shared))
        .on("with_locked_keys", || sound(Kind::Locking))
        .with("every_planted_fault_is_noticed_by_the_statement_that_it_breaks", || {
            planted_faults(Kind::Exclusive, PLANTED);
            planted_faults(Kind::Locking, PLANTED_WITH_LOCKED_KEYS);
        })
        .run()
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

type Planted = &'static [(Fault, &'static str)];

const PLANTED: Planted = &[
    (Fault::PromisesMore, "declares_what_it_promises"),
    (Fault::Swaps, "order"),
    (Fault::Drops, "order"),
    (Fault::Repeats, "order"),
    (Fault::AcknowledgesEarly, "redelivery"),
    (Fault::AcknowledgesFetched, "close_without_loss"),
    (Fault::AcknowledgesEarly, "broker_restart"),
    (Fault::CountsNothing, "redelivery"),
    (Fault::NeverAcknowledges, "settle_out_of_order"),
    (Fault::AcknowledgesUpTo, "settle_out_of_order"),
    (Fault::AcknowledgesUpTo, "shutdown_in_mid_batch"),
    (Fault::ReleasesAsDone, "release"),
    (Fault::IgnoresDelays, "release_with_delay"),
    (Fault::LosesCancelled, "cancelled_calls_lose_nothing"),
    (Fault::NeverEnds, "until_end"),
    (Fault::SeesNoLaterTopics, "globs_see_later_topics"),
    (Fault::DropsEffects, "effects"),
    (Fault::DropsState, "state"),
    (Fault::WritesStateApart, "state"),
    (Fault::SwallowsRejections, "too_large_is_rejected"),
    (Fault::SwallowsRejections, "unknown_topics_are_named"),
    (Fault::RetriesForEver, "too_large_is_rejected"),
    (Fault::RefusesAll, "publish_failure_per_record"),
    (Fault::MangledPayloads, "payloads_and_keys"),
    (Fault::MangledPayloads, "large_records"),
    (Fault::MangledPayloads, "poison"),
    (Fault::LosesRepeatedHeaders, "headers"),
    (Fault::LosesAttributes, "cloudevents_attributes"),
    (Fault::LosesTombstones, "tombstones"),
    (Fault::LosesEmptyKeys, "payloads_and_keys"),
    (Fault::DiesWithTheBroker, "broker_restart"),
    (Fault::DiesWithTheBroker, "connect_while_the_broker_is_away"),
];

/// The statements that go another way where the broker locks keys.
const PLANTED_WITH_LOCKED_KEYS: Planted = &[
    (Fault::Drops, "order"),
    (Fault::Repeats, "order"),
    (Fault::AcknowledgesEarly, "redelivery"),
    (Fault::CountsNothing, "redelivery"),
    (Fault::AcknowledgesUpTo, "settle_out_of_order"),
    (Fault::ReleasesAsDone, "release"),
    (Fault::AcknowledgesFetched, "close_without_loss"),
    (Fault::AcknowledgesUpTo, "shutdown_in_mid_batch"),
    (Fault::LosesCancelled, "cancelled_calls_lose_nothing"),
    (Fault::Drops, "full_window"),
    (Fault::NeverEnds, "until_end"),
    (Fault::MangledPayloads, "large_records"),
    (Fault::DropsEffects, "effects"),
    (Fault::DropsState, "state"),
    (Fault::AcknowledgesEarly, "broker_restart"),
];

fn planted_faults(kind: Kind, planted: Planted) {
    for (fault, name) in planted {
        let statement = STATEMENTS.iter().find(|s| s.name == *name).expect(name);
        let with = |fault| InMemory::new(kind, fault);
        assert!(holds(statement, with(Fault::None)), "{kind:?}: {name} holds without a fault");
        assert!(!holds(statement, with(*fault)), "{kind:?}: {name} does not see {fault:?}");
    }
}
