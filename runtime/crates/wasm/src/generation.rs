//! One loaded version of one plugin: the way of events through it.

use std::{borrow::Borrow, fmt, sync::Arc};

use sandbar_core::{Call, HandledBy, Outcome, Outcomes};
use tokio::time::Instant;

use crate::{
    Description, HandlerKind, Inspection, Isolation, Limits,
    concurrent::Shared,
    instance::{Blame, Broken, Instance, Template},
    pace::Pace,
    packed,
    pool::{Lease, Pool},
    state::Facts,
};

/// Most events passed at once to a plugin that takes them one by one. They share one
/// hand-off to the host; more would only delay the first one's outcome.
const EACH_AT_ONCE: usize = 16;
/// Most events passed at once to a plugin that takes batches.
const BATCH_AT_ONCE: usize = 64;
/// Most events passed at once in a packed frame.
const PACKED_AT_ONCE: usize = 128;

/// How events go through a plugin.
pub(crate) enum Way {
    /// One at a time in each of several instances.
    Pooled(Pooled),
    /// Many at a time in one instance.
    Shared(Shared),
}

/// One loaded version of one plugin, tried and warm.
pub struct Generation {
    facts: Arc<Facts>,
    way: Way,
    isolation: Isolation,
    inspection: Inspection,
    by: Arc<HandledBy>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("by", &self.by).finish_non_exhaustive()
    }
}

impl Generation {
    pub(crate) fn new(
        facts: Arc<Facts>,
        way: Way,
        isolation: Isolation,
        inspection: Inspection,
    ) -> Self {
        let by = HandledBy {
            plugin: facts.name.clone(),
            version: facts.version.clone(),
            digest: inspection.digest.clone(),
        };
        Self { facts, way, isolation, inspection, by: Arc::new(by) }
    }

    /// Plugin name, version and digest.
    pub fn handled_by(&self) -> &Arc<HandledBy> {
        &self.by
    }

    /// What the plugin says of itself, where it does.
    pub fn description(&self) -> Option<&Description> {
        self.inspection.description.as_ref()
    }

    /// What is known of its file.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The limits it runs under.
    pub fn limits(&self) -> &Limits {
        &self.facts.limits
    }

    /// How long its instances live.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Largest batch that is worth passing to [`call`](Self::call) now: it grows as long
    /// as calls are short. Where many events share an instance none has to wait for another.
    pub fn max_batch(&self) -> usize {
        match &self.way {
            Way::Pooled(pooled) => pooled.pace.at_once(),
            Way::Shared(_) => 1,
        }
    }

    /// Events that are done sooner than it is worth to spread them.
    pub fn min_batch(&self) -> usize {
        match &self.way {
            Way::Pooled(pooled) => pooled.pace.together(),
            Way::Shared(_) => 1,
        }
    }

    /// Runs a batch and returns one outcome per call, in order. An event that breaks its
    /// instance costs only itself: where it is not known which one that was, each is called
    /// again alone.
    pub async fn call<C: Borrow<Call> + Sync>(&self, calls: &[C]) -> Outcomes {
        let calls: &[&Call] = &calls.iter().map(Borrow::borrow).collect::<Vec<_>>();
        let mut results = match &self.way {
            Way::Pooled(pooled) => pooled.call(calls).await,
            Way::Shared(shared) => shared.call(calls).await,
        };
        for error in results.iter_mut().filter_map(|outcome| outcome.as_mut().err()) {
            self.facts.redactor.clean_error(error);
        }
        Outcomes { by: Arc::clone(&self.by), results }
    }
}

/// The way of a batch through one instance after another.
pub(crate) struct Pooled {
    template: Arc<Template>,
    kind: HandlerKind,
    isolation: Isolation,
    pool: Pool,
    pace: Pace,
}

impl Pooled {
    pub(crate) fn new(
        template: Arc<Template>,
        kind: HandlerKind,
        concurrency: usize,
        isolation: Isolation,
        first: Instance,
    ) -> Self {
        let pool = Pool::new(Arc::clone(&template), concurrency, first);
        let most = match kind {
            _ if template.calls_each_alone() => EACH_AT_ONCE,
            HandlerKind::Batch => BATCH_AT_ONCE,
            HandlerKind::Packed => PACKED_AT_ONCE,
            _ => EACH_AT_ONCE,
        };
        Self { template, kind, isolation, pool, pace: Pace::new(most) }
    }

    /// Runs a batch on one instance. An event that breaks it costs only itself: the rest goes
    /// on on a fresh one. If a batch that was handed over whole breaks it, each of its events
    /// is called again alone, to find the one to blame.
    async fn call(&self, calls: &[&Call]) -> Vec<Outcome> {
        let mut results: Vec<Outcome> = Vec::with_capacity(calls.len());
        match self.pool.lease().await {
            Ok(lease) => {
                let began = Instant::now();
                self.run(&lease, calls, &mut results).await;
                self.pace.note(calls.len(), began.elapsed());
            }
            Err(error) => results.extend(calls.iter().map(|_| Err(error.clone()))),
        }
        results
    }

    async fn run(&self, lease: &Lease<'_>, calls: &[&Call], results: &mut Vec<Outcome>) {
        let mut warm = None;
        // those before this one are called alone
        let mut alone = 0;
        while results.len() < calls.len() {
            let rest = &calls[results.len()..];
            let rest = &rest[..self.together(rest, results.len() < alone)];
            let mut instance = match warm.take() {
                Some(instance) => instance,
                None => match lease.instance().await {
                    Ok(instance) => instance,
                    // no event is to blame, so none is tried on yet another one
                    Err(stillborn) => {
                        let error = stillborn.into_error();
                        results.resize_with(calls.len(), || Err(error.clone()));
                        return;
                    }
                },
            };
            match instance.handle(rest, results).await {
                Ok(()) if self.isolation == Isolation::PerEvent => {}
                Ok(()) => warm = Some(instance).filter(|instance| !instance.worn()),
                Err(Broken { blame: Blame::Unknown, .. }) => alone = results.len() + rest.len(),
                Err(Broken { blame: Blame::First, error }) => results.push(Err(error)),
                Err(Broken { blame: Blame::All, error }) => {
                    results.extend(rest.iter().map(|_| Err(error.clone())));
                }
            }
        }
        if let (Some(instance), Isolation::Warm) = (warm, self.isolation) {
            lease.give_back(instance);
        }
    }

    /// How many of `rest` go into the guest in one call, or after one another on one instance.
    fn together(&self, rest: &[&Call], alone: bool) -> usize {
        let one =
            alone || self.isolation == Isolation::PerEvent || self.template.calls_each_alone();
        let most = rest.len().min(if one { 1 } else { self.pace.most() });
        match self.kind {
            HandlerKind::Packed => packed::fit(&rest[..most]),
            _ => most,
        }
    }
}
