//! `wasi:clocks`: the system's, by wasmtime's own implementation, or a [`ManualClock`].

use async_trait::async_trait;
use wasmtime::component::{Accessor, HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtxBuilder,
    clocks::{WasiClocks, WasiClocksCtxView, WasiClocksView},
    p2::{
        DynPollable, Pollable,
        bindings::clocks::{
            monotonic_clock::{self, Duration as Nanoseconds, Instant},
            wall_clock,
        },
        subscribe,
    },
    p3::bindings::clocks as clocks3,
    random::Deterministic,
};

use crate::{ManualClock, state::State};

/// Random bytes, after which they come again; long enough that no guest waits for a certain one.
const RANDOM_BYTES: usize = 4096;

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wall_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    monotonic_clock::add_to_linker::<State, Waiting>(linker, waiting)
}

/// Those of WASI 0.3.
pub(crate) fn add_concurrent_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks3::types::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    clocks3::system_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    clocks3::monotonic_clock::add_to_linker::<State, Waiting>(linker, waiting)
}

fn waiting(state: &mut State) -> WaitingView<'_> {
    let clock = state.facts.clock.clone();
    WaitingView { clock, system: state.clocks() }
}

/// Lets a guest read `clock`, and the same random numbers in each instance.
pub(crate) fn repeat(builder: &mut WasiCtxBuilder, clock: &ManualClock) {
    let mut bytes = vec![0; RANDOM_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    builder.wall_clock(clock.clone()).monotonic_clock(clock.clone());
    builder.secure_random(Deterministic::new(bytes.clone()));
    builder.insecure_random(Deterministic::new(bytes)).insecure_random_seed(1);
}

impl HostWallClock for ManualClock {
    fn resolution(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(1)
    }

    fn now(&self) -> std::time::Duration {
        Self::now(self)
    }
}

impl HostMonotonicClock for ManualClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        nanoseconds(self)
    }
}

fn nanoseconds(clock: &ManualClock) -> u64 {
    u64::try_from(clock.now().as_nanos()).unwrap_or(u64::MAX)
}

struct Waiting;

impl HasData for Waiting {
    type Data<'a> = WaitingView<'a>;
}

/// Waiting takes no time where a manual clock is there to be moved on instead.
struct WaitingView<'a> {
    clock: Option<ManualClock>,
    system: WasiClocksCtxView<'a>,
}

impl monotonic_clock::Host for WaitingView<'_> {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        monotonic_clock::Host::now(&mut self.system)
    }

    fn resolution(&mut self) -> wasmtime::Result<Instant> {
        monotonic_clock::Host::resolution(&mut self.system)
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        match &self.clock {
            None => self.system.subscribe_instant(when),
            Some(clock) => until(self.system.table, clock, when),
        }
    }

    fn subscribe_duration(&mut self, time: Nanoseconds) -> wasmtime::Result<Resource<DynPollable>> {
        match &self.clock {
            None => self.system.subscribe_duration(time),
            Some(clock) => until(self.system.table, clock, nanoseconds(clock).saturating_add(time)),
        }
    }
}

fn until(
    table: &mut ResourceTable,
    clock: &ManualClock,
    when: Instant,
) -> wasmtime::Result<Resource<DynPollable>> {
    let moment = table.push(Moment { clock: clock.clone(), when })?;
    subscribe(table, moment)
}

impl clocks3::monotonic_clock::Host for WaitingView<'_> {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        monotonic_clock::Host::now(self)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<Nanoseconds> {
        monotonic_clock::Host::resolution(self)
    }
}

impl clocks3::monotonic_clock::HostWithStore<State> for Waiting {
    async fn wait_until(accessor: &Accessor<State, Self>, when: Instant) -> wasmtime::Result<()> {
        let now = accessor.with(|mut access| monotonic_clock::Host::now(&mut access.get()))?;
        Self::wait_for(accessor, when.saturating_sub(now)).await
    }

    async fn wait_for(accessor: &Accessor<State, Self>, time: Nanoseconds) -> wasmtime::Result<()> {
        let time = std::time::Duration::from_nanos(time);
        match accessor.with(|mut access| access.get().clock) {
            None => tokio::time::sleep(time).await,
            Some(clock) => clock.move_to(clock.now().saturating_add(time)),
        }
        Ok(())
    }
}

/// A moment of a manual clock: it comes as soon as it is waited for.
struct Moment {
    clock: ManualClock,
    when: Instant,
}

#[async_trait]
impl Pollable for Moment {
    async fn ready(&mut self) {
        self.clock.move_to(std::time::Duration::from_nanos(self.when));
    }
}
