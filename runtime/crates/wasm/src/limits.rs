//! What a plugin may use, and how the host notices that it used more (contract S2).

use std::{
    thread::{self, ThreadId},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use sandbar_core::{ErrorClass, StateQuota};
use wasmtime::ResourceLimiter;

use crate::engine::TABLE_ELEMENTS;

/// Limits of one plugin. All are on by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time on a core per call (or per batch, where the plugin takes batches whole),
    /// counted while guest code runs, not while the machine lets it wait for a core.
    pub cpu_time: Duration,
    /// Time from start to end of a call, also while it waits in the host.
    pub wall_time: Duration,
    /// Bytes of linear memory per instance.
    pub memory: usize,
    /// Events returned per event.
    pub output_records: usize,
    /// Bytes returned per event: topics, keys, payloads, headers and attributes.
    pub output_bytes: usize,
    /// Log lines per second of all instances together; so many may come at once.
    pub log_lines_per_second: u32,
    /// Series of the plugin's own metrics, all its instances together.
    pub metric_series: usize,
    /// Time to make an instance and run its `init`.
    pub init_time: Duration,
    /// Keys of state that it may have.
    pub state_keys: u64,
    /// Bytes of state that it may have, keys and values together.
    pub state_bytes: u64,
    /// Events after which a warm instance is replaced by a fresh one.
    pub instance_events: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_time: Duration::from_secs(1),
            wall_time: Duration::from_secs(10),
            memory: 64 << 20,
            output_records: 1000,
            output_bytes: 4 << 20,
            log_lines_per_second: 100,
            metric_series: 200,
            init_time: Duration::from_secs(10),
            state_keys: 100_000,
            state_bytes: 64 << 20,
            instance_events: 100_000,
        }
    }
}

impl Limits {
    /// How much state there may be.
    pub(crate) fn state_quota(&self) -> StateQuota {
        StateQuota { keys: self.state_keys, bytes: self.state_bytes }
    }

    /// Bytes that one call of `events` events may make the host copy out of the
    /// guest. Only a ceiling on the host's own memory: lists may overlap in the
    /// guest, so a small guest could otherwise return any amount. The exact check
    /// of [`output_bytes`](Self::output_bytes) follows on what was copied.
    pub(crate) fn copy_ceiling(&self, events: usize) -> usize {
        const PER_RECORD: usize = 512;
        const SLACK: usize = 256 << 10;
        let event = self
            .output_bytes
            .saturating_mul(2)
            .saturating_add(self.output_records.saturating_mul(PER_RECORD));
        event.saturating_mul(events.max(1)).saturating_add(SLACK)
    }
}

/// What one call into a guest may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) cpu_time: Duration,
    pub(crate) wall_time: Duration,
    /// Bytes the host copies out of the guest.
    pub(crate) copy: usize,
    /// What the limits are called where they are set.
    cpu_name: &'static str,
    wall_name: &'static str,
}

impl Budget {
    /// Of a call with `events` events.
    pub(crate) fn call(limits: &Limits, events: usize) -> Self {
        Self {
            cpu_time: limits.cpu_time,
            wall_time: limits.wall_time,
            copy: limits.copy_ceiling(events),
            cpu_name: "limits.cpu-time",
            wall_name: "limits.wall-time",
        }
    }

    /// Of making an instance.
    pub(crate) fn init(limits: &Limits) -> Self {
        Self {
            // the deadline ends a loop just as well: guest code gives way at every tick
            cpu_time: Duration::MAX,
            wall_time: limits.init_time,
            copy: limits.copy_ceiling(1),
            cpu_name: "limits.init-time",
            wall_name: "limits.init-time",
        }
    }

    /// Of asking a plugin what it is: it has constants to return.
    pub(crate) fn describe() -> Self {
        Self {
            cpu_time: Duration::from_millis(500),
            // nothing can be waited for: whoever reaches this waits for a processor
            wall_time: Duration::from_secs(60),
            copy: 1 << 20,
            cpu_name: "all that describe gets",
            wall_name: "all that describe gets",
        }
    }
}

/// A limit that was hit. Raised inside wasmtime, found again in its error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitHit {
    #[error("used more than {} of CPU time ({})", seconds(.0.cpu_time), .0.cpu_name)]
    CpuTime(Budget),
    #[error("took longer than {} ({})", seconds(.0.wall_time), .0.wall_name)]
    Deadline(Budget),
    #[error("asked for {wanted} bytes of memory, more than {limit} (limits.memory)")]
    Memory { wanted: usize, limit: usize },
    #[error("asked for {wanted} table entries, more than {TABLE_ELEMENTS}")]
    Table { wanted: usize },
    #[error("returned {returned} events, more than {limit} (limits.output-records)")]
    OutputRecords { returned: usize, limit: usize },
    #[error("returned {returned} bytes, more than {limit} (limits.output-bytes)")]
    OutputBytes { returned: usize, limit: usize },
    #[error("returned an event with {returned} headers and attributes, more than {limit}")]
    Headers { returned: usize, limit: usize },
    #[error("returned a topic of {bytes} bytes, more than {limit}")]
    Topic { bytes: usize, limit: usize },
    #[error("passed far more to the host than it may (limits.output-bytes)")]
    OutputFlood,
}

impl LimitHit {
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::CpuTime(_) => ErrorClass::CpuTime,
            Self::Deadline(_) => ErrorClass::Deadline,
            Self::Memory { .. } | Self::Table { .. } => ErrorClass::Memory,
            Self::OutputRecords { .. }
            | Self::OutputBytes { .. }
            | Self::Headers { .. }
            | Self::Topic { .. }
            | Self::OutputFlood => ErrorClass::Output,
        }
    }
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// The CPU time of one call, looked at whenever a tick of the host's clock finds it running.
#[derive(Debug)]
pub(crate) struct CpuTime {
    tick: Duration,
    budget: Budget,
    spent: Duration,
    last: Option<Reading>,
}

impl CpuTime {
    pub(crate) fn new(tick: Duration, budget: Budget) -> Self {
        Self { tick, budget, spent: Duration::ZERO, last: None }
    }

    /// Guest code was found running at a tick.
    ///
    /// # Errors
    /// [`LimitHit`] where it has had its time.
    pub(crate) fn tick(&mut self, now: Reading) -> Result<(), LimitHit> {
        let last = self.last.replace(now);
        // the first may come right after the call began
        self.spent += last.map_or(Duration::ZERO, |last| now.since(last).min(self.tick));
        if self.spent > self.budget.cpu_time {
            return Err(LimitHit::CpuTime(self.budget.clone()));
        }
        Ok(())
    }
}

/// What the clock of a thread says: it stands still while the machine lets the thread wait for a core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    thread: ThreadId,
    /// `None` where the system does not tell.
    clock: Option<Duration>,
}

impl Reading {
    /// Of this thread.
    pub(crate) fn now() -> Self {
        let clock = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Into::into);
        Self { thread: thread::current().id(), clock }
    }

    /// An upper bound: the thread may have done other work, too, and of another thread nothing is known.
    fn since(self, last: Self) -> Duration {
        match (self.clock, last.clock) {
            (Some(now), Some(then)) if self.thread == last.thread => now.saturating_sub(then),
            _ => Duration::MAX,
        }
    }
}

/// Counts what one instance uses.
#[derive(Debug)]
pub(crate) struct Meter {
    tick: Duration,
    cpu: CpuTime,
    memory: usize,
    memory_limit: usize,
}

impl Meter {
    pub(crate) fn new(tick: Duration, memory_limit: usize, budget: Budget) -> Self {
        Self { tick, cpu: CpuTime::new(tick, budget), memory: 0, memory_limit }
    }

    /// Begins a call that may use `budget`.
    pub(crate) fn arm(&mut self, budget: Budget) {
        self.cpu = CpuTime::new(self.tick, budget);
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.cpu.budget
    }

    /// Guest code was found running at a tick.
    pub(crate) fn tick(&mut self) -> Result<(), LimitHit> {
        self.cpu.tick(Reading::now())
    }

    /// Bytes of linear memory in use.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

/// A refusal is an error rather than a failed `memory.grow`: guests answer the
/// latter by a panic of their own, which could not be told from any other trap.
impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.memory.saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_limit {
            return Err(LimitHit::Memory { wanted, limit: self.memory_limit }.into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            return Err(LimitHit::Table { wanted: desired }.into());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(2);

    fn budget() -> Budget {
        Budget::call(&Limits { cpu_time: Duration::from_millis(5), ..Limits::default() }, 1)
    }

    /// What this thread's clock says after so many milliseconds.
    fn at(milliseconds: u64) -> Reading {
        Reading { thread: thread::current().id(), clock: Some(Duration::from_millis(milliseconds)) }
    }

    #[test]
    fn s2_cpu_time_is_counted_and_then_refused() {
        let mut cpu = CpuTime::new(TICK, budget());
        for milliseconds in [10, 12, 14] {
            cpu.tick(at(milliseconds)).unwrap();
        }
        assert_eq!(cpu.tick(at(16)), Err(LimitHit::CpuTime(budget())));
    }

    #[test]
    fn s2_waiting_for_a_core_is_no_cpu_time() {
        let mut cpu = CpuTime::new(TICK, budget());
        for _ in 0..1000 {
            cpu.tick(at(10)).unwrap();
        }
        // nor is what others did on the thread while it gave way
        cpu.tick(at(1000)).unwrap();
        cpu.tick(at(2000)).unwrap();
        assert_eq!(cpu.tick(at(3000)), Err(LimitHit::CpuTime(budget())));
    }

    #[test]
    fn s2_cpu_time_counts_on_whatever_thread() {
        let mut cpu = CpuTime::new(TICK, budget());
        let elsewhere = || thread::spawn(Reading::now).join().unwrap();
        for _ in 0..3 {
            cpu.tick(elsewhere()).unwrap();
        }
        assert_eq!(cpu.tick(elsewhere()), Err(LimitHit::CpuTime(budget())));
    }

    #[test]
    fn s2_without_a_clock_each_tick_is_a_whole_one() {
        let mut cpu = CpuTime::new(TICK, budget());
        let unknown = Reading { clock: None, ..at(0) };
        for _ in 0..3 {
            cpu.tick(unknown).unwrap();
        }
        assert_eq!(cpu.tick(unknown), Err(LimitHit::CpuTime(budget())));
    }

    #[test]
    fn s2_a_loop_is_found_by_the_clock_of_its_thread() {
        let mut cpu = CpuTime::new(TICK, budget());
        while cpu.tick(Reading::now()).is_ok() {}
        let mut meter = Meter::new(TICK, 0, budget());
        while meter.tick().is_ok() {}
        meter.arm(budget());
        meter.tick().unwrap();
    }

    #[test]
    fn s2_memory_is_the_sum_over_all_memories_of_the_instance() {
        let mut meter = Meter::new(Duration::from_millis(1), 100, Budget::describe());
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.memory_growing(0, 40, None).unwrap());
        let refused = meter.memory_growing(40, 41, None).unwrap_err();
        let hit = refused.downcast_ref::<LimitHit>();
        assert_eq!(hit, Some(&LimitHit::Memory { wanted: 101, limit: 100 }));
        assert_eq!(meter.memory(), 100, "what was refused must not count");
    }
}
