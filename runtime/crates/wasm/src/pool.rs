//! Warm instances of one generation, each used by one batch at a time.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_core::HandlerError;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    failure,
    instance::{Instance, Stillborn, Template},
};

pub(crate) struct Pool {
    template: Arc<Template>,
    permits: Semaphore,
    /// The last one used comes first: its memory is the warmest.
    idle: Mutex<Vec<Instance>>,
}

impl Pool {
    pub(crate) fn new(template: Arc<Template>, size: usize, first: Instance) -> Self {
        let permits = Semaphore::new(size.max(1));
        Self { template, permits, idle: Mutex::new(vec![first]) }
    }

    /// Waits until fewer than `concurrency` instances are in use.
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, HandlerError> {
        let closed = |_| failure::host("the plugin's instances are closed");
        let permit = self.permits.acquire().await.map_err(closed)?;
        Ok(Lease { pool: self, _permit: permit })
    }
}

/// The right to use one instance at a time.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// A warm instance, or a new one.
    pub(crate) async fn instance(&self) -> Result<Instance, Stillborn> {
        let warm = self.pool.idle.lock().pop();
        match warm {
            Some(instance) => Ok(instance),
            None => Instance::new(Arc::clone(&self.pool.template)).await,
        }
    }

    /// Gives back an instance whose last call returned. One that is not given back,
    /// because it trapped, hit a limit, or because the call was dropped, is gone:
    /// nothing can be known of its memory (contract S1).
    pub(crate) fn give_back(&self, instance: Instance) {
        self.pool.idle.lock().push(instance);
    }
}
