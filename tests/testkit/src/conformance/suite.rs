//! The suite as a test program.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tokio::{runtime::Runtime, sync::RwLock};

use super::{Applies, Backend, Bench, STATEMENTS, Statement};

/// Statements checked at once: they wait for brokers most of the time.
const AT_ONCE: usize = 8;

/// Held for writing by the statements that take the broker away, so that no other runs
/// meanwhile.
static BROKER: RwLock<()> = RwLock::const_new(());

/// One test for each statement and backend: the whole of a test target without the standard
/// harness (`harness = false`), whose arguments it takes.
#[derive(Default)]
pub struct Suite {
    /// With what they are ordered by.
    tests: Vec<(usize, Trial)>,
}

impl Suite {
    /// Demands of the backend what it declares, in tests called `NAME::STATEMENT`. Each makes a
    /// backend of its own. Where `make` makes none it has said why, and nothing is run.
    #[must_use]
    pub fn on<B: Backend>(mut self, name: &str, make: fn() -> Option<B>) -> Self {
        for (index, statement) in STATEMENTS.iter().enumerate() {
            let test = Trial::test(format!("{name}::{}", statement.name), move || {
                check(statement, make);
                Ok(())
            });
            self.tests.push((index, test));
        }
        self.with(&format!("{name}::table_of_what_applies"), move || table(make))
    }

    /// Adds a test of another kind.
    #[must_use]
    pub fn with(mut self, name: &str, test: impl FnOnce() + Send + 'static) -> Self {
        let test = Trial::test(name, || {
            test();
            Ok(())
        });
        self.tests.push((0, test));
        self
    }

    /// Runs them as the command line says.
    pub fn run(mut self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert(AT_ONCE);
        // one statement on all backends after the other: no broker has all the work at once, and
        // those that are taken away go when nearly all is done
        self.tests.sort_by_key(|(index, _)| *index);
        let tests = self.tests.into_iter().map(|(_, test)| test).collect();
        libtest_mimic::run(&arguments, tests).exit_code()
    }
}

fn check<B: Backend>(statement: &Statement, make: fn() -> Option<B>) {
    let runtime = runtime();
    runtime.block_on(async {
        let Some(backend) = make() else { return };
        let bench = Bench::new(Box::new(backend));
        if let Applies::Not(_) = statement.applies(bench.declared(), bench.has_switch()) {
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

/// Prints what is demanded of the backend, and checks that every gap is a statement.
fn table<B: Backend>(make: fn() -> Option<B>) {
    let runtime = runtime();
    runtime.block_on(async {
        let Some(backend) = make() else { return };
        let (declared, switch) = (backend.declared(), backend.switch().is_some());
        for (gap, _) in declared.gaps {
            let known = STATEMENTS.iter().any(|statement| statement.name == *gap);
            assert!(known, "the gap `{gap}` is no statement");
        }
        let demanded = STATEMENTS
            .iter()
            .map(|s| format!("| {} | {} |\n", s.name, s.applies(&declared, switch)))
            .collect::<String>();
        // at once: other tests print as well
        println!("| {} | |\n|---|---|\n{demanded}", declared.name);
    });
    runtime.shutdown_background();
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime for the test")
}
