//! Processes: each runs every plugin once, and is stopped, killed and started again.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_core::ErrorClass;
use sandbar_core::SourceError;
use sandbar_pipeline::{
    ByClass, Environment, Output, Outputs, RunEnd, Services, StopHandle, Subscription,
    SubscriptionStats, run,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{FakeConnection, FakeMarks, FakeSink, FakeSource},
    faults::ModelFault,
    handler::FakeHandler,
    plan::ELSEWHERE,
    trace::{Counts, Member, MemberNo, PluginNo, Told, What},
    world::{Life, State, World},
};

/// A plugin that runs in a process.
pub struct Running {
    pub member: MemberNo,
    stop: StopHandle,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(world: &Arc<World>, plugin: PluginNo, process: usize) -> Self {
        let mut config = world.plan.plugins[plugin.0].clone();
        if let Some(ModelFault::Misled(how)) = world.lock().fault {
            how.apply(&mut config);
        }
        let stats = Arc::new(SubscriptionStats::unregistered(&config.name));
        // more than a group ever has to say at once
        let (queue, news) = mpsc::channel(1024);
        let (member, dice) = {
            let mut state = world.lock();
            let member = MemberNo(state.lives.len());
            state.trace.members.push(Member { plugin, process });
            let version = state.versions.get(&(plugin, process)).copied().unwrap_or(1);
            let stats = stats.clone();
            let (dead, joined, failing) = (false, true, false);
            state.lives.push(Life { dead, joined, failing, queue, stats, version });
            state.note(What::Started { member, group: config.group.clone() });
            (member, StdRng::seed_from_u64(state.dice.random()))
        };
        let handler = Arc::new(FakeHandler { world: world.clone(), member });
        let services = Services {
            marks: config
                .dedup
                .map(|_| Arc::new(FakeMarks { world: world.clone(), member, plugin }) as _),
            state: None,
            connection: Some(Arc::new(FakeConnection { world: world.clone(), member })),
            environment: environment(world, dice),
        };
        let outputs = outputs(world, member);
        let subscription =
            Subscription::with_services(config, handler, outputs, stats.clone(), services);
        let source = FakeSource { world: world.clone(), member, queue: news };
        let (stop, asked) = StopHandle::new();
        let kill = CancellationToken::new();
        let run =
            kill.clone().run_until_cancelled_owned(run(Box::new(source), subscription, asked));
        let world = world.clone();
        let task = tokio::spawn(async move {
            if let Some(result) = run.await {
                world.lock().ended(member, result, &stats);
            }
        });
        Self { member, stop, kill, task }
    }

    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks for a drain that takes at most `allowed`.
    pub fn drain(&self, world: &World, allowed: Duration) {
        let mut state = world.lock();
        let deadline = state.now() + allowed;
        state.note(What::Stopping { member: self.member, deadline });
        state.lives[self.member.0].joined = false;
        drop(state);
        self.stop.drain(allowed);
    }

    pub async fn end(self) {
        self.task.await.expect("a run does not panic");
    }

    /// Ends it where it is. The group notices later.
    pub fn crash(self, world: &World) {
        let mut state = world.lock();
        let life = &mut state.lives[self.member.0];
        (life.dead, life.joined) = (true, false);
        state.note(What::Crashed { member: self.member });
        for assignment in state.held_by(self.member) {
            state.fence(assignment, true);
        }
        drop(state);
        self.kill.cancel();
    }
}

impl State {
    fn ended(
        &mut self,
        member: MemberNo,
        result: Result<RunEnd, SourceError>,
        stats: &SubscriptionStats,
    ) {
        let life = &mut self.lives[member.0];
        if life.dead {
            return;
        }
        life.joined = false;
        let result = result.map(drop).map_err(|e| e.to_string());
        self.note(What::Ended { member, result, counts: counts(stats) });
    }

    /// Notes down what the members tell of themselves.
    pub fn ask_all(&mut self) {
        for n in 0..self.lives.len() {
            let Life { dead, joined, ref stats, .. } = self.lives[n];
            if joined && !dead {
                let (condition, _) = stats.state();
                let (told, in_flight) = (Told(condition), stats.in_flight.get());
                self.note(What::Told { member: MemberNo(n), condition: told, in_flight });
            }
        }
    }
}

fn environment(world: &Arc<World>, dice: StdRng) -> Environment {
    let clock = world.clone();
    let dice = Mutex::new(dice);
    Environment {
        wall_ms: Arc::new(move || clock.lock().wall_ms()),
        random: Arc::new(move || dice.lock().random()),
    }
}

fn outputs(world: &Arc<World>, member: MemberNo) -> Outputs {
    let sink = |elsewhere| Arc::new(FakeSink { world: world.clone(), member, elsewhere });
    let mut outputs = Outputs::single("fake", sink(false));
    let other = Output { connection: ELSEWHERE.into(), sink: sink(true) };
    outputs.named.insert(ELSEWHERE.into(), other);
    outputs
}

fn counts(stats: &SubscriptionStats) -> Counts {
    let by_class = |counter: &ByClass| {
        let counts = ErrorClass::ALL.iter().map(|c| (c.as_str(), counter.of(*c).get()));
        counts.filter(|(_, n)| *n > 0).collect()
    };
    Counts {
        handled: stats.handled.get(),
        skipped: stats.skipped.get(),
        duplicates: stats.dedup_hits.get(),
        dead_lettered: by_class(&stats.dead_lettered),
        dropped: by_class(&stats.dropped),
    }
}
