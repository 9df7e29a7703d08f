//! One loaded version of one plugin: the way of a batch through it.

use std::{fmt, sync::Arc};

use sandbar_core::{Call, HandledBy, Outcome, Outcomes};
use tokio::time::Instant;

use crate::{
    Description, HandlerKind, Inspection, Isolation, Limits,
    instance::{Blame, Broken, Instance, Template},
    pace::Pace,
    packed,
    pool::{Lease, Pool},
};

/// Most events passed at once to a plugin that takes them one by one. They share one
/// hand-off to the host; more would only delay the first one's outcome.
const EACH_AT_ONCE: usize = 16;
/// Most events passed at once to a plugin that takes batches.
const BATCH_AT_ONCE: usize = 64;
/// Most events passed at once in a packed frame.
const PACKED_AT_ONCE: usize = 128;

/// One loaded version of one plugin, tried and warm.
pub struct Generation {
    template: Arc<Template>,
    pool: Pool,
    pace: Pace,
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
        template: Arc<Template>,
        concurrency: usize,
        isolation: Isolation,
        first: Instance,
        inspection: Inspection,
    ) -> Self {
        let by = HandledBy {
            plugin: template.facts.name.clone(),
            version: template.facts.version.clone(),
            digest: inspection.digest.clone(),
        };
        let pool = Pool::new(Arc::clone(&template), concurrency, first);
        let most = match inspection.handler {
            _ if template.calls_each_alone() => EACH_AT_ONCE,
            HandlerKind::Each | HandlerKind::Foreign(_) => EACH_AT_ONCE,
            HandlerKind::Batch => BATCH_AT_ONCE,
            HandlerKind::Packed => PACKED_AT_ONCE,
        };
        let pace = Pace::new(most);
        Self { pool, template, pace, isolation, inspection, by: Arc::new(by) }
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
        &self.template.limits
    }

    /// How long its instances live.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Largest batch that is worth passing to [`call`](Self::call) now: it grows as long
    /// as calls are short.
    pub fn max_batch(&self) -> usize {
        self.pace.at_once()
    }

    /// Runs a batch on one instance and returns one outcome per call, in order. An
    /// event that breaks the instance costs only itself: the rest goes on on a fresh
    /// one. If a batch that was handed over whole breaks it, each of its events is
    /// called again alone, to find the one to blame.
    pub async fn call(&self, calls: &[Call]) -> Outcomes {
        let mut results: Vec<Outcome> = Vec::with_capacity(calls.len());
        match self.pool.lease().await {
            Ok(lease) => {
                let began = Instant::now();
                self.run(&lease, calls, &mut results).await;
                self.pace.note(calls.len(), began.elapsed());
            }
            Err(error) => results.extend(calls.iter().map(|_| Err(error.clone()))),
        }
        for error in results.iter_mut().filter_map(|outcome| outcome.as_mut().err()) {
            self.template.facts.redactor.clean_error(error);
        }
        Outcomes { by: Arc::clone(&self.by), results }
    }

    async fn run(&self, lease: &Lease<'_>, calls: &[Call], results: &mut Vec<Outcome>) {
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
    fn together(&self, rest: &[Call], alone: bool) -> usize {
        let one =
            alone || self.isolation == Isolation::PerEvent || self.template.calls_each_alone();
        let most = rest.len().min(if one { 1 } else { self.pace.most() });
        match self.inspection.handler {
            HandlerKind::Packed => packed::fit(&rest[..most]),
            HandlerKind::Each | HandlerKind::Batch | HandlerKind::Foreign(_) => most,
        }
    }
}
