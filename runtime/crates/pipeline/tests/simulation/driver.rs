//! What happens to the processes in a play, and when: the fates draw from the seed.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, seq::IndexedRandom};
use sandbar_core::SourceError;
use sandbar_pipeline::State as Condition;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    carrier,
    plan::millis,
    process::Running,
    producer,
    trace::{AssignmentNo, MemberNo, PlaceNo, PluginNo, What},
    world::{Weather, World},
};

/// No play takes longer, in its own time.
const LONGEST: Duration = Duration::from_secs(7200);
const LAST_DRAIN: Duration = Duration::from_secs(120);

pub struct Driver {
    world: Arc<World>,
    /// By process and plugin.
    running: Vec<Vec<Option<Running>>>,
    /// Partitions that change hands, and runs that end.
    under_way: JoinSet<()>,
}

impl Driver {
    pub fn new(world: Arc<World>) -> Self {
        let plugins = || world.plan.plugins.iter().map(|_| None).collect();
        let running = (0..world.plan.processes).map(|_| plugins()).collect();
        Self { world, running, under_way: JoinSet::new() }
    }

    pub async fn play(mut self) {
        carrier::start(&self.world);
        self.start_missing(1.0);
        for _ in 0..self.world.plan.steps {
            self.tend();
            producer::produce(&self.world);
            self.change_weather();
            let pause = if self.world.roll(0.1) { 20_000 } else { 1200 };
            sleep(millis(self.draw(0..pause))).await;
            self.act().await;
        }
        self.finish().await;
    }

    /// What supervisors and groups do by themselves.
    fn tend(&mut self) {
        self.world.commit_due();
        self.world.lock().ask_all();
        self.start_missing(0.7);
        self.adopt();
    }

    fn draw(&self, from: std::ops::Range<u64>) -> u64 {
        self.world.lock().dice.random_range(from)
    }

    async fn act(&mut self) {
        match self.draw(0..20) {
            0..6 => {
                for _ in 0..self.draw(1..4) {
                    self.rebalance();
                }
            }
            6 | 7 => self.lose(),
            8 | 9 => {
                let process = self.any_process();
                let allowed = millis(self.draw(1..3000));
                self.stop(process, allowed);
            }
            10 | 11 => {
                let process = self.any_process();
                let plugins = self.running[process].iter_mut();
                plugins.filter_map(Option::take).for_each(|r| r.crash(&self.world));
            }
            12..15 => self.reload(),
            15 | 16 => {
                let plugin = self.any_plugin();
                carrier::redrive(&self.world, plugin).await;
            }
            17 => self.fail_source(),
            18 => carrier::release(&self.world, self.any_plugin()),
            _ => {}
        }
    }

    fn any_process(&self) -> usize {
        self.draw(0..self.running.len() as u64) as usize
    }

    fn any_plugin(&self) -> PluginNo {
        PluginNo(self.draw(0..self.world.plan.plugins.len() as u64) as usize)
    }

    fn start_missing(&mut self, chance: f64) {
        for (process, plugins) in self.running.iter_mut().enumerate() {
            for (plugin, slot) in plugins.iter_mut().enumerate() {
                slot.take_if(|running| running.is_over());
                if slot.is_none() && self.world.roll(chance) {
                    *slot = Some(Running::start(&self.world, PluginNo(plugin), process));
                }
            }
        }
    }

    /// Gives partitions that nobody holds to somebody.
    fn adopt(&self) {
        for plugin in (0..self.world.plan.plugins.len()).map(PluginNo) {
            let places = self.world.lock().subscribed(plugin);
            for place in places {
                let state = self.world.lock();
                let taken = state.owners.contains_key(&(plugin, place))
                    || state.moving.contains(&(plugin, place));
                drop(state);
                if !taken {
                    self.world.assign_to_anyone(plugin, place, None);
                }
            }
        }
    }

    fn any_owned(&self) -> Option<(PluginNo, PlaceNo, AssignmentNo)> {
        let state = &mut *self.world.lock();
        let owned: Vec<_> = state
            .owners
            .iter()
            .filter(|(key, _)| !state.moving.contains(*key))
            .filter(|(_, holder)| !state.is_failing(**holder))
            .map(|((plugin, place), assignment)| (*plugin, *place, *assignment))
            .collect();
        owned.choose(&mut state.dice).copied()
    }

    /// Takes a partition from one member and gives it to another, or to the same again.
    fn rebalance(&mut self) {
        let Some((plugin, place, assignment)) = self.any_owned() else { return };
        // a source that was away for a moment is asked again after 100 ms
        let allowed = millis(self.draw(150..4000));
        let world = self.world.clone();
        world.lock().moving.insert((plugin, place));
        self.under_way.spawn(async move {
            world.revoke(assignment, allowed).await;
            world.lock().moving.remove(&(plugin, place));
            world.assign_to_anyone(plugin, place, None);
        });
    }

    /// Gives a partition away without asking its owner, who learns it late or never.
    fn lose(&mut self) {
        let Some((plugin, place, assignment)) = self.any_owned() else { return };
        let owner = self.world.lock().trace.assignments[assignment.0].member;
        self.world.lose(assignment);
        self.world.assign_to_anyone(plugin, place, Some(owner));
        if self.world.roll(0.2) {
            return;
        }
        let (world, late) = (self.world.clone(), millis(self.draw(0..2000)));
        self.under_way.spawn(async move {
            sleep(late).await;
            let state = world.lock();
            // what it has got back since is another matter
            let holder = state.owners.get(&(plugin, place));
            if holder.is_none_or(|h| state.trace.assignments[h.0].member != owner) {
                drop(state.tell_revoked(assignment, Duration::ZERO));
            }
        });
    }

    fn stop(&mut self, process: usize, allowed: Duration) {
        for running in self.running[process].iter_mut().filter_map(Option::take) {
            running.drain(&self.world, allowed);
            self.under_way.spawn(running.end());
        }
    }

    fn reload(&mut self) {
        let (process, plugin) = (self.any_process(), self.any_plugin());
        let state = &mut *self.world.lock();
        let version = state.versions.entry((plugin, process)).or_insert(1);
        *version += 1;
        let version = *version;
        if let Some(running) = &self.running[process][plugin.0] {
            let member = running.member;
            state.lives[member.0].version = version;
            state.note(What::Reloaded { member, version });
        }
    }

    /// The group's coordinator is away for a moment, or has thrown a member out.
    fn fail_source(&self) {
        let (process, plugin) = (self.any_process(), self.any_plugin());
        if let Some(running) = &self.running[process][plugin.0] {
            let fatal = self.world.roll(0.3);
            let mut state = self.world.lock();
            let error = if fatal {
                state.note(What::Failing { member: running.member });
                // its group will miss it only much later
                let life = &mut state.lives[running.member.0];
                (life.joined, life.failing) = (false, true);
                SourceError::Fatal("not authorised any more".into())
            } else {
                SourceError::Unavailable("the coordinator is away".into())
            };
            state.tell(running.member, error);
        }
    }

    fn change_weather(&self) {
        let state = &mut *self.world.lock();
        let mut chance = |often: f64, worst: f64| {
            let bad = state.dice.random_bool(often);
            if bad { state.dice.random_range(0.0..worst) } else { 0.0 }
        };
        state.weather = Weather {
            publish_unavailable: chance(0.3, 0.9),
            publish_untold: chance(0.2, 0.6),
            letter_refused: chance(0.2, 0.9),
            settle: chance(0.3, 0.9),
            receive: chance(0.2, 0.9),
            commit: chance(0.3, 1.0),
            marks: chance(0.2, 0.9),
        };
    }

    /// Mends everything and waits until all is done.
    async fn finish(mut self) {
        {
            let mut state = self.world.lock();
            state.weather = Weather::default();
            state.note(What::Mended);
        }
        let mut pause = millis(50);
        let ends = self.world.lock().now() + LONGEST;
        loop {
            while self.under_way.try_join_next().is_some() {}
            self.start_missing(1.0);
            self.restart_halted();
            self.adopt();
            self.world.commit_due();
            let late = self.world.lock().now() > ends;
            if late || (self.under_way.is_empty() && self.is_done()) {
                break;
            }
            sleep(pause).await;
            pause = (pause * 5 / 4).min(Duration::from_secs(10));
        }
        self.world.lock().ask_all();
        self.note_stalled();
        for process in 0..self.running.len() {
            self.stop(process, LAST_DRAIN);
        }
        // what does not end by then never will
        let all = async { while self.under_way.join_next().await.is_some() {} };
        let _ = timeout(2 * LAST_DRAIN, all).await;
    }

    /// As an operator would who has mended what the plugin stumbled over.
    fn restart_halted(&mut self) {
        let halted = |member: MemberNo| {
            let state = self.world.lock();
            let (condition, _) = state.lives[member.0].stats.state();
            condition == Condition::Halted
        };
        let processes: Vec<_> = (0..self.running.len())
            .filter(|p| self.running[*p].iter().flatten().any(|r| halted(r.member)))
            .collect();
        for process in processes {
            self.stop(process, millis(100));
        }
    }

    fn unfinished(&self) -> Vec<(PluginNo, PlaceNo)> {
        let state = self.world.lock();
        let plugins = (0..self.world.plan.plugins.len()).map(PluginNo);
        let all =
            plugins.flat_map(|p| state.subscribed(p).into_iter().map(move |place| (p, place)));
        let done = |key: &(PluginNo, PlaceNo)| {
            state.cursors.get(key).map_or(0, |c| c.position) == state.end(key.1)
        };
        all.filter(|key| !done(key)).collect()
    }

    fn is_done(&self) -> bool {
        let carried = {
            let state = self.world.lock();
            let tiers = state.places(|kind| matches!(kind, crate::trace::PlaceKind::Tier(_)));
            let all = |tier: &PlaceNo| state.logs[tier.0].len();
            tiers.iter().all(|t| state.carried.get(t).copied().unwrap_or(0) == all(t))
        };
        carried && self.unfinished().is_empty()
    }

    fn note_stalled(&self) {
        for (plugin, place) in self.unfinished() {
            let state = &mut *self.world.lock();
            let position = state.cursors.get(&(plugin, place)).map_or(0, |c| c.position);
            let end = state.end(place);
            state.note(What::Stalled { plugin, place, position, end });
        }
    }
}

impl World {
    /// Gives a partition to a member of its group, if there is one, rather not to `but`.
    fn assign_to_anyone(self: &Arc<Self>, plugin: PluginNo, place: PlaceNo, but: Option<MemberNo>) {
        let member = {
            let state = &mut *self.lock();
            let mut members: Vec<_> = (0..state.lives.len())
                .map(MemberNo)
                .filter(|m| state.lives[m.0].joined && state.trace.members[m.0].plugin == plugin)
                .collect();
            if members.len() > 1 {
                members.retain(|m| Some(*m) != but);
            }
            members.choose(&mut state.dice).copied()
        };
        if let Some(member) = member {
            self.assign(plugin, place, member);
        }
    }
}
