//! Who writes events to the source topics.

use bytes::Bytes;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use sandbar_core::{Header, Outgoing};

use crate::{
    plan::{Plan, halts, pick},
    script::Script,
    trace::{PlaceKind, PlaceNo, Writer},
    world::{NUMBER, State, World, digits},
};

/// Appends a few events.
pub fn produce(world: &World) {
    {
        let state = &mut *world.lock();
        for _ in 0..state.dice.random_range(0..8) {
            state.produce(&world.plan);
        }
    }
    world.appended.notify_waiters();
}

impl State {
    fn produce(&mut self, plan: &Plan) {
        let places = self.places(|kind| kind == PlaceKind::Source);
        let place = pick(&mut self.dice, &places);
        let mut event = self.again(place).unwrap_or_else(|| draw(&mut self.dice, plan));
        let number = self.produced.len();
        let script = Script::draw(&mut self.dice, plan);
        self.produced.push(script);
        event.headers.retain(|h| &*h.name != NUMBER);
        event.headers.insert(0, Header::new(NUMBER, digits(number)));
        let gap = if self.roll(0.1) { self.dice.random_range(1..9) } else { 0 };
        self.write(place, event, gap, Writer::Producer);
    }

    /// An event that is there already, sent again by a producer that was not sure.
    fn again(&mut self, place: PlaceNo) -> Option<Outgoing> {
        if !self.roll(0.15) {
            return None;
        }
        let record = *self.logs[place.0].choose(&mut self.dice)?;
        let event = &self.trace.records[record.0].event;
        event.header("ce_id")?;
        Some(Outgoing {
            connection: None,
            topic: event.topic.clone(),
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers: event.headers.to_vec(),
            attributes: Vec::new(),
        })
    }
}

fn draw(dice: &mut StdRng, plan: &Plan) -> Outgoing {
    let mut event = Outgoing::new("", Bytes::new());
    let key = |n: u8| Bytes::from(vec![n; n.into()]);
    event.key = dice.random_bool(0.8).then(|| key(dice.random_range(0..4)));
    event.payload = match dice.random_range(0..10) {
        0 => None,
        1 => Some(Bytes::new()),
        n => Some(Bytes::from(vec![n; 20])),
    };
    if dice.random_bool(0.5) {
        let id: u64 = dice.random();
        event = event.with_header("ce_id", id.to_string()).with_header("ce_source", "/simulation");
    }
    match dice.random_range(0..20) {
        0 => event.headers.push(Header { name: "null".into(), value: None }),
        1 => {
            event = event.with_header("twice", "1").with_header("twice", vec![0xff, 0]);
        }
        // no restart would help where it halts a partition
        2 if !plan.plugins.iter().any(halts) => {
            // claims to be an envelope, and is none
            event.payload = Some(Bytes::from_static(b"{\"specversion\":"));
            event = event.with_header("content-type", "application/cloudevents+json");
        }
        _ => {}
    }
    event
}
