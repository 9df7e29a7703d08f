//! The wasmtime engines of a host, and the threads that make their epochs.

use std::{fs, thread, time::Duration};

use parking_lot::Mutex;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::{HostConfig, HostError, capability::AtATime};

/// Linear memory kept mapped in a freed slot: more than stack and data of a usual
/// guest. With none kept, every instance pays page faults and two threads serialise
/// on the kernel's memory map (6 us against 24 us an instance, measured).
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;
/// As above, for tables: a whole one. To give its pages back after each event stops all
/// other processors for a moment: a plugin that grows its table for every event left its
/// neighbour 0.47 of its throughput with 64 KiB kept, and 0.89 with all (tests/contained.rs).
const TABLE_KEEP_RESIDENT: usize = TABLE_ELEMENTS * size_of::<usize>();
/// Core modules that one component may be made of, on average: the guest, and what
/// the encoder puts around it.
const CORE_INSTANCES_EACH: u32 = 8;
/// Stacks that one instance with many events in it takes at most, on average: one, and one for
/// each call that waits in the middle of guest code rather than having returned to the host.
const STACKS_EACH: u32 = 16;
/// What one component may take of the pool, so that it leaves the rest to others: core
/// instances, memories and tables. CPython and its libraries, the largest known, take
/// some thirty instances around one memory and two tables.
const CORE_INSTANCES_MOST: u32 = 100;
const MEMORIES_MOST: u32 = 4;
const TABLES_MOST: u32 = 20;
/// Function table entries a guest may have: interpreters need tens of thousands.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;
/// Guest frames in a backtrace.
const BACKTRACE_FRAMES: usize = 32;

/// One engine for plugins that handle one event at a time, and one for those that handle many:
/// the machinery for that makes every call dearer.
#[derive(Debug)]
pub(crate) struct Engines {
    config: HostConfig,
    one: Engine,
    /// Made for the first such plugin, so that nobody pays for it who has none.
    many: Mutex<Option<Engine>>,
}

impl Engines {
    pub(crate) fn new(config: HostConfig) -> Result<Self, HostError> {
        Ok(Self { one: new(&config, AtATime::One)?, config, many: Mutex::default() })
    }

    pub(crate) fn of(&self, events: AtATime) -> Result<Engine, HostError> {
        if events == AtATime::One {
            return Ok(self.one.clone());
        }
        let mut many = self.many.lock();
        let engine = match many.take() {
            Some(engine) => engine,
            None => new(&self.config, AtATime::Many)?,
        };
        Ok(many.insert(engine).clone())
    }
}

fn new(config: &HostConfig, events: AtATime) -> Result<Engine, HostError> {
    let instances = config.max_instances;
    let engine = Engine::new(&settings(config, events)).map_err(|e| {
        HostError::Engine(format!(
            "{e:#}; it reserves 4 GiB of address space for each of {instances} instances: where a limit \
             (`ulimit -v`) is in the way, lower `max-instances` in `[engine]`"
        ))
    })?;
    start_ticker(&engine, config.tick)?;
    Ok(engine)
}

fn settings(config: &HostConfig, events: AtATime) -> Config {
    let instances = config.max_instances;
    let stacks_each = match events {
        AtATime::One => 1,
        AtATime::Many => STACKS_EACH,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances.saturating_mul(stacks_each))
        .max_core_instances_per_component(CORE_INSTANCES_MOST)
        .max_memories_per_component(MEMORIES_MOST)
        .max_tables_per_component(TABLES_MOST)
        .max_memory_size(config.max_memory)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .pagemap_scan(pagemap_scan());

    let mut settings = Config::new();
    settings
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .epoch_interruption(true)
        // without the machinery for concurrent tasks a call costs a third
        .concurrency_support(events == AtATime::Many)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    settings
}

/// Whether the kernel may be asked which pages of a freed slot were written to (`PAGEMAP_SCAN`, Linux
/// 6.7 and later), so that only those are cleared. Wasmtime 48 overlooks those that are swapped out
/// (mended later by its pull request 14357), and the next instance in the slot would see them: where
/// there is swap, all that is kept mapped is cleared.
fn pagemap_scan() -> Enabled {
    // the first line is a heading
    let swaps = fs::read_to_string("/proc/swaps").map_or(usize::MAX, |swaps| swaps.lines().count());
    if swaps <= 1 { Enabled::Auto } else { Enabled::No }
}

/// One thread per engine; it ends when the last user of the engine is gone.
fn start_ticker(engine: &Engine, tick: Duration) -> Result<(), HostError> {
    let engine = engine.weak();
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, no worker")]
            thread::sleep(tick);
        }
    };
    thread::Builder::new()
        .name("sandbar-epoch".into())
        .spawn(run)
        .map(drop)
        .map_err(|e| HostError::Engine(format!("cannot start the epoch thread: {e}")))
}
