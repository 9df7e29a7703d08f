//! One loaded version of one plugin: the way of a batch through it.

use std::{fmt, sync::Arc};

use sandbar_core::{Call, HandledBy, Outcome, Outcomes};

use crate::{
    Description, HandlerKind, Inspection, Limits,
    instance::{Blame, Broken, Instance, Template},
    pool::Pool,
};

/// Events passed at once to a plugin that takes them one by one. They share one
/// hand-off to the host; more would only delay the first one's outcome.
const EACH_AT_ONCE: usize = 16;
/// Events passed at once to a plugin that takes batches.
const BATCH_AT_ONCE: usize = 64;

/// One loaded version of one plugin, tried and warm.
pub struct Generation {
    template: Arc<Template>,
    pool: Pool,
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
        first: Instance,
        inspection: Inspection,
    ) -> Self {
        let by = HandledBy {
            plugin: template.facts.name.clone(),
            version: template.facts.version.clone(),
            digest: inspection.digest.clone(),
        };
        let pool = Pool::new(Arc::clone(&template), concurrency, first);
        Self { pool, template, inspection, by: Arc::new(by) }
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

    /// Largest batch that is worth passing to [`call`](Self::call).
    pub fn max_batch(&self) -> usize {
        match self.inspection.handler {
            HandlerKind::Batch if !self.template.calls_each_alone() => BATCH_AT_ONCE,
            HandlerKind::Each | HandlerKind::Batch | HandlerKind::Foreign(_) => EACH_AT_ONCE,
        }
    }

    /// Runs a batch on one instance and returns one outcome per call, in order. An
    /// event that breaks the instance costs only itself: the rest goes on on a fresh
    /// one. If a batch that was handed over whole breaks it, each of its events is
    /// called again alone, to find the one to blame.
    pub async fn call(&self, calls: &[Call]) -> Outcomes {
        let mut results: Vec<Outcome> = Vec::with_capacity(calls.len());
        match self.pool.lease().await {
            Ok(lease) => {
                let mut alone = self.template.calls_each_alone();
                while results.len() < calls.len() {
                    let rest = &calls[results.len()..];
                    let rest = if alone { &rest[..1] } else { rest };
                    let mut instance = match lease.instance().await {
                        Ok(instance) => instance,
                        // no event is to blame, so none is tried on yet another one
                        Err(stillborn) => {
                            let error = stillborn.into_error();
                            let left = calls.len() - results.len();
                            results.extend((0..left).map(|_| Err(error.clone())));
                            break;
                        }
                    };
                    match instance.handle(rest, &mut results).await {
                        Ok(()) => lease.give_back(instance),
                        Err(Broken { blame: Blame::Unknown, .. }) => alone = true,
                        Err(Broken { blame: Blame::First, error }) => results.push(Err(error)),
                        Err(Broken { blame: Blame::All, error }) => {
                            results.extend(rest.iter().map(|_| Err(error.clone())));
                        }
                    }
                }
            }
            Err(error) => results.extend(calls.iter().map(|_| Err(error.clone()))),
        }
        for error in results.iter_mut().filter_map(|outcome| outcome.as_mut().err()) {
            self.template.facts.redactor.clean_error(error);
        }
        Outcomes { by: Arc::clone(&self.by), results }
    }
}
