//! The couriers: one for each connection on which retries wait in topics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sandbar_core::{Connection, reserved};
use tokio::{sync::Mutex, time::sleep};

use crate::{
    config::{Config, ConnectionConfig},
    courier::{Courier, CourierSpec},
};

/// Time between two looks for what an earlier life left behind, while the broker is away.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The couriers that run, by connection. Once started, each runs until the end: what a
/// plugin left in a topic that is gone now must still come to its inbox.
#[derive(Default)]
pub(super) struct Couriers(Mutex<BTreeMap<String, Running>>);

struct Running {
    courier: Courier,
    exactly_once: bool,
}

/// What a courier counts: name, meaning, count.
pub(crate) type Counts = [(&'static str, &'static str, u64); 2];

impl Couriers {
    /// Sees to it that `connection` has a courier, and one that moves exactly once where
    /// that is asked for.
    pub(super) async fn serve(
        &self,
        config: &Config,
        connection: &Arc<dyn Connection>,
        exactly_once: bool,
    ) {
        let name = connection.name();
        let mut running = self.0.lock().await;
        match running.remove(name) {
            Some(enough) if enough.exactly_once || !exactly_once => {
                running.insert(name.to_owned(), enough);
                return;
            }
            Some(weaker) => weaker.courier.stop().await,
            None => {}
        }
        let tiers = config.connections.get(name).map_or(&[][..], ConnectionConfig::retry_tiers);
        let courier = Courier::start(CourierSpec {
            connection: connection.clone(),
            tiers: tiers.to_vec(),
            prefix: config.group_prefix.clone(),
            exactly_once,
        });
        running.insert(name.to_owned(), Running { courier, exactly_once });
    }

    /// Starts a courier where retries wait from an earlier life, whether or not a plugin
    /// that is here now would send any.
    pub(super) async fn resume(&self, config: &Config, connection: &Arc<dyn Connection>) {
        if !connection.guarantees().retained {
            // no retry waits in topics there
            return;
        }
        let topics = loop {
            match connection.topics().await {
                Ok(topics) => break topics,
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        let is_tier = |name: &str| reserved::tier_delay(&config.group_prefix, name).is_some();
        if topics.iter().any(|topic| is_tier(&topic.name)) {
            self.serve(config, connection, false).await;
        }
    }

    /// What they count, by connection; nothing while one of them is being replaced.
    pub(super) fn counts(&self) -> Vec<(String, Counts)> {
        let Ok(running) = self.0.try_lock() else { return Vec::new() };
        running.iter().map(|(name, r)| (name.clone(), r.courier.counts())).collect()
    }

    /// Stops them all. What waits stays where it is.
    pub(super) async fn stop(&self) {
        let running = std::mem::take(&mut *self.0.lock().await);
        let stopping = running.into_values().map(|running| running.courier.stop());
        futures::future::join_all(stopping).await;
    }
}
