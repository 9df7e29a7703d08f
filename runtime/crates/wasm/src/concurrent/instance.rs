//! One instance with many events in it: the task that owns it, and the way to it.

use std::{pin::Pin, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use sandbar_core::{Call, HandlerError, Outcome};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{
    Store,
    component::{Access, Accessor, ComponentType, Lift, Lower, TypedFunc},
};

use super::{
    Event, Guest, Indices,
    tasks::{Attempt, caller},
};
use crate::{
    convert::{self, Used},
    deadline::{Late, until},
    failure,
    foreign::{Outbox, wasmcloud_async},
    instance::{Counted, Newborn, Stillborn, Template, born},
    limits::{Budget, CpuTime},
    state::State,
};

/// Streams, futures, subtasks and the like that an instance may hold, without any event and
/// for each. They lie in the host's memory.
const HANDLES: usize = 1000;
const HANDLES_EACH: usize = 32;
/// What wasmtime notes down for each of them, at most.
const ENTRIES_EACH: usize = 4;

/// The way to one instance. It lives until the last of these is gone and all is done.
#[derive(Clone)]
pub(crate) struct Handle {
    jobs: mpsc::Sender<Job>,
    /// Ends the instance at once.
    give_up: CancellationToken,
    template: Arc<Template<Indices>>,
}

struct Job {
    call: Call,
    reply: oneshot::Sender<Outcome>,
}

impl Handle {
    /// Makes an instance that takes `at_once` events at a time.
    pub(crate) async fn new(
        template: &Arc<Template<Indices>>,
        at_once: usize,
    ) -> Result<Self, Stillborn> {
        let Newborn { mut store, entry, high_water, counted } =
            born(template, Indices::load).await?;
        let handles = HANDLES + at_once.saturating_mul(HANDLES_EACH);
        store.set_max_component_handles(handles);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(handles.saturating_mul(ENTRIES_EACH));
        }
        store.set_hostcall_fuel(template.limits.copy_ceiling(1));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let task = caller(&mut store)?;
            Ok(store.data_mut().tick_of(task)?)
        });
        let (jobs, taken) = mpsc::channel(at_once);
        let give_up = CancellationToken::new();
        let template = Arc::clone(template);
        let life = Life { template: Arc::clone(&template), entry, high_water };
        tokio::spawn(live(store, counted, life, taken, give_up.clone()));
        Ok(Self { jobs, give_up, template })
    }

    /// Whether it takes no more events.
    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Begins an attempt, unless it takes no more.
    pub(super) async fn begin(&self, call: &Call) -> Option<Pending> {
        let budget = Budget::call(&self.template.limits, 1);
        let deadline = Instant::now() + budget.wall_time;
        let (reply, answer) = oneshot::channel();
        let job = Job { call: call.clone(), reply };
        self.jobs.send(job).await.ok()?;
        let unfinished = self.give_up.clone().drop_guard();
        Some(Pending { instance: self.clone(), answer, deadline, budget, unfinished })
    }
}

/// An attempt that was begun. Dropped without an outcome it ends the instance: whoever gave it
/// up must be sure that nothing more comes of it, for another attempt may follow (contract O1).
pub(super) struct Pending {
    instance: Handle,
    answer: oneshot::Receiver<Outcome>,
    deadline: Instant,
    budget: Budget,
    unfinished: DropGuard,
}

impl Pending {
    /// `None`: the instance has ended, and not by this event's fault.
    pub(super) async fn outcome(self) -> Option<Outcome> {
        match until(self.deadline, self.answer).await {
            Ok(answer) => {
                self.unfinished.disarm();
                answer.ok()
            }
            Err(Late) => {
                drop(self.unfinished);
                // not before its guest code has come to an end
                self.instance.jobs.closed().await;
                let error = failure::of_guest(failure::Raised::late(self.budget));
                self.instance.template.stats.count(error.class);
                Some(Err(error))
            }
        }
    }
}

/// What the task needs to know beside the instance.
struct Life {
    template: Arc<Template<Indices>>,
    entry: Guest,
    /// Bytes of memory above which it takes no more.
    high_water: usize,
}

/// Runs an instance until nobody has an event for it, it is worn, it breaks, or is given up.
async fn live(
    mut store: Store<State>,
    counted: Counted,
    life: Life,
    jobs: mpsc::Receiver<Job>,
    give_up: CancellationToken,
) {
    let (pulse, share) = (store.data().tasks.pulse.clone(), store.data().share.clone());
    let ended = {
        let running = store.run_concurrent(async |accessor| life.serve(accessor, jobs).await);
        select! {
            biased;
            () = give_up.cancelled() => return,
            ended = pulse.follow(&share, running) => ended.flatten(),
        }
    };
    if let Err(error) = ended {
        let state = store.data_mut();
        let error = failure::of_guest(failure::Raised::by(error, state.panic.take()));
        let blamed = state.tasks.blamed();
        // who hears of it may be sure that nothing of the instance is left
        drop((store, counted));
        if let Some(reply) = blamed {
            life.template.stats.count(error.class);
            // who does not wait any more has nobody to tell
            let _ = reply.send(Err(error));
        }
    }
}

type Doing<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

impl Life {
    /// Takes events as they come, until it is closed and all are done.
    async fn serve(
        &self,
        accessor: &Accessor<State>,
        mut jobs: mpsc::Receiver<Job>,
    ) -> wasmtime::Result<()> {
        let mut doing = FuturesUnordered::new();
        loop {
            select! {
                Some(job) = jobs.recv() => doing.push(self.handle(accessor, job)),
                Some(done) = doing.next() => {
                    done?;
                    if accessor.with(|mut access| self.is_worn(access.data_mut())) {
                        jobs.close();
                    }
                }
                else => return Ok(()),
            }
        }
    }

    fn is_worn(&self, state: &State) -> bool {
        state.tasks.spent
            || state.tasks.begun >= self.template.limits.instance_events
            || state.meter.memory() > self.high_water
    }

    fn handle<'a>(&'a self, accessor: &'a Accessor<State>, job: Job) -> Doing<'a> {
        let Template { limits, on_errors, .. } = &*self.template;
        match self.entry {
            Guest::Events(function) => Box::pin(self.run(
                accessor,
                function,
                job,
                |_, call| Ok(Event::of(call)),
                |said, _| convert::outcome(said, limits, Used::default()),
            )),
            Guest::WasmcloudMessaging(function) => Box::pin(self.run(
                accessor,
                function,
                job,
                wasmcloud_async::message,
                |said, outbox| Ok(wasmcloud_async::outcome(said, outbox, on_errors)),
            )),
        }
    }

    async fn run<P, R>(
        &self,
        accessor: &Accessor<State>,
        function: TypedFunc<(P,), (R,)>,
        Job { call, reply }: Job,
        parameter: impl FnOnce(&mut Access<'_, State>, &Call) -> wasmtime::Result<P> + Send,
        outcome: impl FnOnce(R, &mut Outbox) -> Result<Outcome, HandlerError> + Send,
    ) -> wasmtime::Result<()>
    where
        P: ComponentType + Lower + Send + Sync + 'static,
        R: ComponentType + Lift + Send + Sync + 'static,
    {
        let Template { limits, tick, stats, .. } = &*self.template;
        let begun = accessor.with(|mut access| {
            let parameter = parameter(&mut access, &call)?;
            let begun = function.start_call_concurrent(&mut access, (parameter,))?;
            let state = access.data_mut();
            let budget = Budget::call(limits, 1);
            // all that are in it end with it: the last one's is the latest
            state.deadline = Instant::now() + budget.wall_time;
            state.meter.arm(budget.clone());
            let cpu = CpuTime::new(*tick, budget);
            state.tasks.begin(begun.task(), Attempt::new(cpu, limits, reply));
            wasmtime::error::Ok(begun)
        })?;
        let task = begun.task();
        let (said,) = function.finish_call_concurrent(accessor, begun).await?;
        accessor.with(|mut access| {
            access.data_mut().tasks.end(task, |outbox| {
                outcome(said, outbox).inspect_err(|error| stats.count(error.class))
            });
        });
        Ok(())
    }
}
