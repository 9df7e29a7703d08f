//! Who carries parcels: the couriers of the retry tiers, and redrives. Models of the
//! runtime's own, as simple as can be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::seq::IndexedRandom;
use sandbar_core::{Event, Outgoing, reserved};
use sandbar_pipeline::{DeadLetter, Parcel};
use tokio::time::sleep;

use crate::{
    faults::ModelFault,
    plan::millis,
    trace::{PlaceKind, PlaceNo, PluginNo, What, Writer},
    world::{State, World},
};

const AGAIN: Duration = Duration::from_millis(100);

/// Starts the one courier of each tier.
pub fn start(world: &Arc<World>) {
    let (tiers, each_plugin) = {
        let state = world.lock();
        let tiers = state.places(|kind| matches!(kind, PlaceKind::Tier(_)));
        (tiers, state.fault == Some(ModelFault::CourierPerPlugin))
    };
    let consumers = if each_plugin { world.plan.plugins.len() } else { 1 };
    for tier in tiers {
        for consumer in 0..consumers {
            world.lock().note(What::Courier { tier, consumer });
            let only = each_plugin.then(|| world.plan.plugins[consumer].group.clone());
            tokio::spawn(courier(world.clone(), tier, only));
        }
    }
}

/// Brings what is due in `tier` to the inbox that it is for; with `only`, leaves alone
/// what is for others.
async fn courier(world: Arc<World>, tier: PlaceNo, only: Option<String>) {
    let mut next = 0;
    loop {
        let appended = world.appended.notified();
        let head = {
            let state = world.lock();
            state.logs[tier.0].get(next).map(|r| state.trace.records[r.0].event.clone())
        };
        let Some(event) = head else {
            appended.await;
            continue;
        };
        let parcel = Parcel::open(&event).expect("a tier holds parcels");
        if only.as_ref().is_none_or(|group| *group == parcel.to) {
            let wait = parcel.due_ms.saturating_sub(world.lock().wall_ms());
            sleep(millis(wait)).await;
            carry(&world, &parcel).await;
        }
        next += 1;
        // for whoever waits until all is done
        world.lock().carried.insert(tier, next);
    }
}

/// Sends the dead letters of `plugin` since the last time back to it.
pub async fn redrive(world: &World, plugin: PluginNo) {
    let letters = world.lock().places(|kind| kind == PlaceKind::Letters(plugin));
    for place in letters {
        let from = world.lock().carried.get(&place).copied().unwrap_or(0);
        let events: Vec<Event> = {
            let state = world.lock();
            let records = state.logs[place.0].iter().skip(from);
            records.map(|r| state.trace.records[r.0].event.clone()).collect()
        };
        for event in events {
            let letter = DeadLetter::parse(&event).expect("a dead letter");
            let fault = world.lock().fault;
            let quarantined = letter.redrives >= world.plan.max_redrives;
            if !quarantined || fault == Some(ModelFault::QuarantineIgnored) {
                let mut parcel = Parcel::of_dead_letter(&event).expect("a dead letter");
                carry(world, &parcel).await;
                if fault == Some(ModelFault::RedrivenToAll) {
                    let others = world.plan.plugins.iter().map(|plugin| &plugin.group);
                    for other in others.filter(|group| **group != letter.group) {
                        parcel.to.clone_from(other);
                        carry(world, &parcel).await;
                    }
                }
            }
            *world.lock().carried.entry(place).or_default() += 1;
        }
    }
}

/// Releases one of the keys of `plugin` that wait behind a dead letter, if there is one.
pub fn release(world: &World, plugin: PluginNo) {
    {
        let state = &mut *world.lock();
        let Some(place) = state.places(|kind| kind == PlaceKind::Halted(plugin)).pop() else {
            return;
        };
        let Some(note) = state.logs[place.0].choose(&mut state.dice) else { return };
        let note = &state.trace.records[note.0].event;
        let mut tombstone = Outgoing::new(note.topic.clone(), Bytes::new());
        (tombstone.key, tombstone.payload) = (note.key.clone(), None);
        state.write(place, tombstone, 0, Writer::Carrier);
    }
    world.appended.notify_waiters();
}

/// Publishes a parcel to its inbox, and says so only when it is there.
async fn carry(world: &World, parcel: &Parcel) {
    let record = parcel.record(reserved::inbox(&parcel.to));
    if world.lock().fault == Some(ModelFault::CarriedBeforeDurable) && world.roll(0.5) {
        // the position goes on, and whoever carried it crashes before the broker has it
        return;
    }
    while !world.lock().publish(&record, world.plan.atomic()) {
        sleep(AGAIN).await;
    }
    world.appended.notify_waiters();
}

impl State {
    /// Whether it is there for certain: with `atomic` it is not sent again where it is.
    fn publish(&mut self, record: &Outgoing, atomic: bool) -> bool {
        if self.roll(self.weather.publish_unavailable) {
            return false;
        }
        let place = self.place(&record.topic, 0).expect("a topic that exists");
        self.write(place, record.clone(), 0, Writer::Carrier);
        atomic || !self.roll(self.weather.publish_untold)
    }
}
