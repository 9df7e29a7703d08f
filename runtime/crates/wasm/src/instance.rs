//! One warm instance: a store, the guest in it, and calls into it under limits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{Call, Handled, HandlerError, Outcome, StateChanges};
use tokio::time::Instant;
use wasmtime::{
    Store, UpdateDeadline,
    component::{self, InstancePre},
};

use crate::{
    Limits, OnErrors, PluginStats,
    bindings::exports::sandbar::events::{batch_handler, handler, lifecycle, packed_handler},
    capability::logging::PluginLog,
    convert::{self, Lists, Used},
    deadline::{Late, until},
    failure,
    foreign::{self, Outbox},
    limits::{Budget, Meter},
    packed,
    share::{Cores, Share},
    state::{Facts, State},
};

/// All that the instances of one generation have in common. `E` is where their entry is.
pub(crate) struct Template<E = Indices> {
    pub(crate) pre: InstancePre<State>,
    pub(crate) entry: E,
    /// What follows the errors of a foreign component.
    pub(crate) on_errors: OnErrors,
    pub(crate) lifecycle: Option<lifecycle::GuestIndices>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) limits: Limits,
    pub(crate) log: Arc<PluginLog>,
    pub(crate) stats: Arc<PluginStats>,
    pub(crate) tick: Duration,
    pub(crate) cores: Cores,
}

impl Template {
    /// Whether events that could be handed over together are not, because it must be
    /// known on behalf of which of them the guest does what it does.
    pub(crate) fn calls_each_alone(&self) -> bool {
        !matches!(self.entry, Entry::Each(_)) && self.facts.one_at_a_time()
    }
}

/// How events get in: resolved once at load, calls only match.
pub(crate) enum Entry<H, B, P, F> {
    /// `handler`: one by one.
    Each(H),
    /// `batch-handler`: as they come.
    Batch(B),
    /// `packed-handler`: as they come, in one list of bytes.
    Packed(P),
    /// An interface of others: one by one.
    Foreign(F),
}

pub(crate) type Indices = Entry<
    handler::GuestIndices,
    batch_handler::GuestIndices,
    packed_handler::GuestIndices,
    foreign::Indices,
>;
type Guests = Entry<handler::Guest, batch_handler::Guest, packed_handler::Guest, foreign::Guest>;

/// What a call did beside its outcomes: changes of state, and what counts as output already.
type Did = (Option<Box<StateChanges>>, Used);

/// One instance. After an error of [`handle`](Self::handle) it must not be used again.
pub(crate) struct Instance {
    store: Store<State>,
    entry: Guests,
    events: u64,
    /// An outcome went against its limits.
    spent: bool,
    /// Bytes of memory above which it is replaced.
    high_water: usize,
    template: Arc<Template>,
    _counted: Counted,
}

/// Why a new instance could not be made.
#[derive(Debug)]
pub(crate) enum Stillborn {
    /// It could not be instantiated.
    Instantiate(HandlerError),
    /// Its `init` failed.
    Init(HandlerError),
    /// An export has the right name and another type.
    Misfit(String),
}

impl Stillborn {
    /// As the error of the event that needed the instance.
    pub(crate) fn into_error(self) -> HandlerError {
        let (what, mut error) = match self {
            Self::Instantiate(error) => ("cannot make an instance", error),
            Self::Init(error) => ("init failed", error),
            Self::Misfit(reason) => ("does not fit this host", failure::host(&reason)),
        };
        error.message = format!("{what}: {}", error.message);
        error
    }
}

/// A call that broke its instance.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: HandlerError,
    pub(crate) blame: Blame,
}

/// Which of the calls without an outcome failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The first one.
    First,
    /// One of the batch.
    Unknown,
    /// The whole batch: the plugin returned a wrong number of outcomes.
    All,
}

impl Blame {
    /// For what went wrong in a call that held all of `calls`.
    fn one_of(calls: &[&Call]) -> Self {
        if calls.len() == 1 { Self::First } else { Self::Unknown }
    }
}

impl Instance {
    /// Makes an instance and runs its `init`.
    pub(crate) async fn new(template: Arc<Template>) -> Result<Self, Stillborn> {
        let load = |entry: &Indices, store: &mut Store<State>, instance: &_| {
            Ok(match entry {
                Entry::Each(it) => Entry::Each(it.load(store, instance)?),
                Entry::Batch(it) => Entry::Batch(it.load(store, instance)?),
                Entry::Packed(it) => Entry::Packed(it.load(store, instance)?),
                Entry::Foreign(it) => {
                    store.data_mut().outbox = Outbox::new(&template.limits);
                    Entry::Foreign(it.load(store, instance)?)
                }
            })
        };
        let Newborn { store, entry, high_water, counted } = born(&template, load).await?;
        Ok(Self { store, entry, events: 0, spent: false, high_water, template, _counted: counted })
    }

    /// Whether it has served long enough or holds too much memory.
    pub(crate) fn worn(&self) -> bool {
        self.spent
            || self.events >= self.template.limits.instance_events
            || self.store.data().meter.memory() > self.high_water
    }

    /// Runs `calls`, together if the plugin takes batches, else one after another, and
    /// adds an outcome for each that is through.
    ///
    /// # Errors
    /// [`Broken`], which says which of the calls without an outcome is to blame.
    pub(crate) async fn handle(
        &mut self,
        calls: &[&Call],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Broken> {
        let template = Arc::clone(&self.template);
        let limits = &template.limits;
        self.events += calls.len() as u64;
        match &self.entry {
            Entry::Each(guest) => {
                for call in calls {
                    let lists = Lists::of(call);
                    let deadline = arm(&mut self.store, Budget::call(limits, 1));
                    self.store.data_mut().begin(std::slice::from_ref(call));
                    let run = guest.call_handle(&mut self.store, lists.event(call));
                    let done = until(deadline, run).await;
                    let (changes, used) = self.store.data_mut().end();
                    let outcome = conclude(&mut self.store, done)
                        .map_err(failure::of_guest)
                        .and_then(|said| convert::outcome(said, limits, used))
                        .map_err(|error| self.broken(error, Blame::First))?;
                    outcomes.push(outcome.map(|handled| Handled { state: changes, ..handled }));
                }
            }
            Entry::Batch(guest) => {
                let lists: Vec<_> = calls.iter().copied().map(Lists::of).collect();
                let events: Vec<_> = lists.iter().zip(calls).map(|(l, c)| l.event(c)).collect();
                let deadline = arm(&mut self.store, Budget::call(limits, calls.len()));
                self.store.data_mut().begin(calls);
                let run = guest.call_handle_batch(&mut self.store, &events);
                let done = until(deadline, run).await;
                // where there is any, the batch is of one event
                let (mut changes, used) = self.store.data_mut().end();
                let said = conclude(&mut self.store, done)
                    .map_err(|e| self.broken(failure::of_guest(e), Blame::one_of(calls)))?;
                if said.len() != calls.len() {
                    let error = failure::batch_length(said.len(), calls.len());
                    return Err(self.broken(error, Blame::All));
                }
                for one in said {
                    let outcome = convert::outcome(one, limits, used)
                        .unwrap_or_else(|error| Err(self.refused(error)));
                    let state = changes.take();
                    outcomes.push(outcome.map(|handled| Handled { state, ..handled }));
                }
            }
            Entry::Packed(guest) => {
                let frame = packed::events(calls);
                let deadline = arm(&mut self.store, Budget::call(limits, calls.len()));
                self.store.data_mut().begin(calls);
                let run = guest.call_handle_packed(&mut self.store, &frame);
                let done = until(deadline, run).await;
                let did = self.store.data_mut().end();
                let said = conclude(&mut self.store, done)
                    .map_err(|e| self.broken(failure::of_guest(e), Blame::one_of(calls)))?;
                self.unpack(&said.into(), calls, did, outcomes)?;
            }
            Entry::Foreign(guest) => {
                for call in calls {
                    let deadline = arm(&mut self.store, Budget::call(limits, 1));
                    self.store.data_mut().begin(std::slice::from_ref(call));
                    let run = guest.call(&mut self.store, call, &template.on_errors);
                    let done = until(deadline, run).await;
                    let (changes, _) = self.store.data_mut().end();
                    let outcome = conclude(&mut self.store, done)
                        .map_err(|e| self.broken(failure::of_guest(e), Blame::First))?;
                    outcomes.push(outcome.map(|handled| Handled { state: changes, ..handled }));
                }
            }
        }
        Ok(())
    }

    /// Takes over a frame of outcomes, all of it or nothing.
    fn unpack(
        &mut self,
        frame: &Bytes,
        calls: &[&Call],
        (mut changes, used): Did,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Broken> {
        let before = outcomes.len();
        let malformed =
            |this: &Self, e| this.broken(failure::packed_frame(&e), Blame::one_of(calls));
        let mut said = packed::Outcomes::open(frame).map_err(|e| malformed(self, e))?;
        if said.len() != calls.len() {
            let error = failure::batch_length(said.len(), calls.len());
            return Err(self.broken(error, Blame::All));
        }
        while let Some(one) = said.next(&self.template.limits, used) {
            match one {
                Ok(Ok(outcome)) => {
                    // where there is any, the frame is of one event
                    let state = changes.take();
                    outcomes.push(outcome.map(|handled| Handled { state, ..handled }));
                }
                Ok(Err(error)) => outcomes.push(Err(self.refused(error))),
                Err(e) => {
                    outcomes.truncate(before);
                    return Err(malformed(self, e));
                }
            }
        }
        Ok(())
    }

    /// One outcome of several went against its limits: the others count, and the instance
    /// serves no longer.
    fn refused(&mut self, error: HandlerError) -> HandlerError {
        self.spent = true;
        self.broken(error, Blame::First).error
    }

    fn broken(&self, error: HandlerError, blame: Blame) -> Broken {
        self.template.stats.count(error.class);
        Broken { error, blame }
    }
}

/// An instance that has been made, and nothing handled.
pub(crate) struct Newborn<G> {
    pub(crate) store: Store<State>,
    pub(crate) entry: G,
    /// Bytes of memory above which it is to be replaced.
    pub(crate) high_water: usize,
    pub(crate) counted: Counted,
}

/// Makes an instance, has its entry found by `load`, and runs its `init`.
pub(crate) async fn born<E, G>(
    template: &Template<E>,
    load: impl FnOnce(&E, &mut Store<State>, &component::Instance) -> wasmtime::Result<G>,
) -> Result<Newborn<G>, Stillborn> {
    let budget = Budget::init(&template.limits);
    let meter = Meter::new(template.tick, template.limits.memory, budget.clone());
    let share = Share::new(template.cores.clone(), template.tick);
    let state = State::new(template.facts.clone(), template.log.clone(), meter, share);
    let mut store = store(&template.pre, state);
    let count = |error: HandlerError| {
        template.stats.count(error.class);
        error
    };

    let deadline = arm(&mut store, budget.clone());
    let made = until(deadline, template.pre.instantiate_async(&mut store)).await;
    let instance = conclude(&mut store, made)
        .map_err(|e| Stillborn::Instantiate(count(failure::of_host(e))))?;
    let misfit = |e: wasmtime::Error| Stillborn::Misfit(format!("{e:#}"));
    let entry = load(&template.entry, &mut store, &instance).map_err(misfit)?;
    if let Some(lifecycle) = &template.lifecycle {
        let guest = lifecycle.load(&mut store, &instance).map_err(misfit)?;
        let deadline = arm(&mut store, budget);
        let done = until(deadline, guest.call_init(&mut store)).await;
        conclude(&mut store, done)
            .map_err(failure::of_guest)
            .and_then(|said| said.map_err(|message| failure::init(&message)))
            .map_err(|e| Stillborn::Init(count(e)))?;
    }

    let used = store.data().meter.memory();
    // a guest that needs most of its memory to begin with must not be replaced each time
    let high_water = used + template.limits.memory.saturating_sub(used) / 4 * 3;
    Ok(Newborn { store, entry, high_water, counted: Counted::new(&template.stats) })
}

/// An instance that is alive, for the statistics.
pub(crate) struct Counted(Arc<PluginStats>);

impl Counted {
    fn new(stats: &Arc<PluginStats>) -> Self {
        stats.created_instance();
        Self(Arc::clone(stats))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.instances.dec();
    }
}

/// A store whose guest gives way at every tick and pays for it.
pub(crate) fn store(pre: &InstancePre<State>, state: State) -> Store<State> {
    let mut store = Store::new(pre.engine(), state);
    store.limiter(|state| &mut state.meter);
    store.epoch_deadline_callback(|mut store| {
        store.data_mut().meter.tick()?;
        Ok(UpdateDeadline::YieldCustom(1, store.data_mut().share.give_way()))
    });
    store
}

/// Gives the next call its budget and returns its deadline.
pub(crate) fn arm(store: &mut Store<State>, budget: Budget) -> Instant {
    let deadline = Instant::now() + budget.wall_time;
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(budget.copy);
    let state = store.data_mut();
    state.deadline = deadline;
    state.panic = None;
    state.meter.arm(budget);
    state.share.reset();
    deadline
}

/// How a call ended. Dropping the call at its deadline leaves the guest where it
/// was, so the instance is broken then as well.
pub(crate) fn conclude<T>(
    store: &mut Store<State>,
    done: Result<wasmtime::Result<T>, Late>,
) -> Result<T, failure::Raised> {
    store.data_mut().share.reset();
    match done {
        Ok(Ok(returned)) => Ok(returned),
        Ok(Err(error)) => Err(failure::Raised::by(error, store.data_mut().panic.take())),
        Err(Late) => Err(failure::Raised::late(store.data().meter.budget().clone())),
    }
}
