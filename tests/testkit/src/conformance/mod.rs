//! One suite for every broker: an adapter declares what it promises, as data, and the
//! suite demands exactly that. `docs/adapters.md` shows how an adapter joins.
//!
//! Each [`Statement`] is one test under its own name. Where a guarantee is not given, the
//! test checks the weaker statement that must still hold, or says that it does not apply.

mod bench;
mod consumer;
mod delivery;
mod effects;
mod groups;
mod outage;
mod records;
mod retained;
mod statements;
mod window;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbar_core::{Connection, Guarantees};
use tokio::{runtime::Runtime, sync::RwLock};

pub use self::{
    bench::Bench,
    consumer::{Consumer, Got},
    statements::{STATEMENTS, Statement},
};

/// Longest that anything may take that must happen; what is waited for is a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Held for writing by the statements that take the broker away, so that no other runs
/// meanwhile.
static BROKER: RwLock<()> = RwLock::const_new(());

/// A broker under test, and what its adapter declares. Each test makes one of its own.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What the suite is to demand.
    fn declared(&self) -> Declared;

    /// A connection that may create topics, of [`Declared::partitions`] partitions.
    async fn connect(&self) -> Arc<dyn Connection>;

    /// A connection that may create no topics.
    async fn connect_strict(&self) -> Arc<dyn Connection>;

    /// A connection that stands for another process beside the one of
    /// [`connect`](Self::connect); `None` where the broker lives within one process.
    async fn connect_elsewhere(&self) -> Option<Arc<dyn Connection>> {
        Some(self.connect().await)
    }

    /// Makes `topic` before it is used. Only a broker whose topics no connection can make
    /// does otherwise than this.
    async fn make_topic(&self, connection: &dyn Connection, topic: &str) {
        let made = connection.ensure_topics(&[topic.to_owned()]).await;
        made.unwrap_or_else(|e| panic!("topic {topic} was not made: {e}"));
    }

    /// Takes the broker away and brings it back; `None` where that cannot be done here,
    /// which the suite says aloud.
    fn switch(&self) -> Option<&dyn Switch> {
        None
    }
}

/// Takes the broker away, as a crash does, and brings it back with its data.
#[async_trait]
pub trait Switch: Send + Sync {
    /// Kills the broker; returns when it answers nobody any more.
    async fn kill(&self);

    /// Starts it again; returns when it answers.
    async fn start(&self);
}

/// What an adapter promises, and how far its broker goes.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Name of the backend, for people.
    pub name: &'static str,
    /// What [`Connection::guarantees`] must say, and every source of it.
    pub guarantees: Guarantees,
    /// Partitions of the topics that [`Backend::connect`]'s connections make.
    pub partitions: u32,
    /// Bytes of payload that must go through.
    pub largest_payload: usize,
    /// Bytes of payload that must be refused; `None` where nothing is too large.
    pub too_large: Option<usize>,
    /// What becomes of headers.
    pub headers: Headers,
    /// How long the broker lends a delivery before it gives it to someone else, as the
    /// backend's connections are configured (1 or 2 s make for quick tests); `None`
    /// where it has no such limit.
    pub lease: Option<Duration>,
    /// Statements that this backend cannot keep though its guarantees say so, by name,
    /// each with the reason: flaws of a stand-in, not of an adapter.
    pub gaps: &'static [(&'static str, &'static str)],
}

/// What a broker's headers keep, beside names and binary values, which all keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Their order.
    pub ordered: bool,
    /// Several of one name, in their order.
    pub repeated: bool,
    /// A null value apart from an empty one.
    pub null: bool,
}

impl Headers {
    /// As Kafka has them.
    pub const EVERYTHING: Self = Self { ordered: true, repeated: true, null: true };
}

/// Whether a statement is demanded of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// As it is named.
    Fully,
    /// Only this much of it.
    Weaker(&'static str),
    /// Not at all, and why.
    Not(&'static str),
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fully => write!(f, "demanded"),
            Self::Weaker(what) => write!(f, "weaker: {what}"),
            Self::Not(why) => write!(f, "does not apply: {why}"),
        }
    }
}

/// Runs the statement called `name`; what [`conformance_tests`](crate::conformance_tests)
/// makes a test of. Without a backend nothing is run: who did not make one has said why.
///
/// # Panics
/// Where the statement does not hold.
pub fn run<B: Backend>(name: &str, backend: impl Future<Output = Option<B>>) {
    let statement = STATEMENTS.iter().find(|s| s.name == name).expect("a statement's name");
    let runtime = runtime();
    runtime.block_on(async {
        let Some(backend) = backend.await else { return };
        let bench = Bench::new(Box::new(backend));
        let applies = statement.applies(bench.declared(), bench.has_switch());
        println!("conformance of {}: {name}: {applies}", bench.declared().name);
        if matches!(applies, Applies::Not(_)) {
            return;
        }
        if statement.takes_the_broker_away {
            let _alone = BROKER.write().await;
            statement.check(&bench).await;
            bench.close().await;
        } else {
            let _beside_others = BROKER.read().await;
            statement.check(&bench).await;
            bench.close().await;
        }
    });
    runtime.shutdown_background();
}

/// Prints what is demanded of the backend, and checks that `names` are all statements and
/// that every gap is one of them.
///
/// # Panics
/// Where a name is missing or unknown.
pub fn table<B: Backend>(names: &[&str], backend: impl Future<Output = Option<B>>) {
    let known: Vec<_> = STATEMENTS.iter().map(|s| s.name).collect();
    assert_eq!(names, known, "`conformance_tests!` and `STATEMENTS` list the same");
    let runtime = runtime();
    runtime.block_on(async {
        let Some(backend) = backend.await else { return };
        let (declared, switch) = (backend.declared(), backend.switch().is_some());
        for (gap, _) in declared.gaps {
            assert!(known.contains(gap), "the gap `{gap}` is no statement");
        }
        println!("| {} | |\n|---|---|", declared.name);
        for statement in STATEMENTS {
            println!("| {} | {} |", statement.name, statement.applies(&declared, switch));
        }
    });
    runtime.shutdown_background();
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime for the test")
}

/// One `#[test]` per statement of the suite, for the backend that the expression gives:
/// `Option<impl Backend>`, evaluated by each test in an async context.
#[macro_export]
macro_rules! conformance_tests {
    ($backend:expr) => {
        $crate::conformance_tests! { @each $backend;
            declares_what_it_promises
            order
            redelivery
            settle_out_of_order
            release
            release_with_delay
            close_without_loss
            shutdown_in_mid_batch
            cancelled_calls_lose_nothing
            full_window
            long_handling
            until_end
            start_at_latest
            start_at_earliest
            globs_see_later_topics
            globs_never_match_reserved_topics
            payloads_and_keys
            large_records
            too_large_is_rejected
            publish_failure_per_record
            unknown_topics_are_named
            headers
            cloudevents_attributes
            tombstones
            poison
            timestamps
            fan_out
            group_in_two_processes
            exactly_once
            effects
            marks
            read_from_the_start
            read_from_a_position
            read_from_a_time
            follow
            extents
            trim
            cursors
            move_cursor
            broker_restart
            connect_while_the_broker_is_away
        }
    };
    (@each $backend:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::run(stringify!($name), async { $backend });
            }
        )*

        #[test]
        fn table_of_what_applies() {
            $crate::conformance::table(&[$(stringify!($name)),*], async { $backend });
        }
    };
}
