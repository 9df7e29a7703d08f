//! Lanes: at most one event of a lane is ready, running or waiting for its retry;
//! the later ones queue behind it (contract O1, O2, O3).

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    iter,
};

use bytes::Bytes;
use sandbar_core::Event;

use crate::{
    Ordering,
    faults::{Fault, planted},
};

/// The lanes of one partition, so that topic and partition need not be part of a
/// lane's name. An event that is not on any lane is ready at once.
pub(crate) struct Lanes<T> {
    ordering: Ordering,
    /// Busy lanes and what queues on them, by age. A lane is here from the moment that
    /// its first event is admitted until its last one has left.
    busy: HashMap<Bytes, VecDeque<(u64, T)>>,
    /// Heads of lanes and events without one, by age: the oldest goes first, so that a
    /// long lane does not hold the committed position ever further behind the others.
    ready: BTreeMap<u64, T>,
    /// The same before they were looked at, where each is to be first.
    unseen: Option<BTreeMap<u64, T>>,
    /// Age of the youngest event that was ever taken.
    begun: Option<u64>,
}

impl<T> Lanes<T> {
    /// With `look`, every head has to be taken by [`unseen`](Self::unseen) and put back by
    /// [`again`](Self::again) before it is ready.
    pub(crate) fn new(ordering: Ordering, look: bool) -> Self {
        let unseen = look.then(BTreeMap::new);
        Self { ordering, busy: HashMap::new(), ready: BTreeMap::new(), unseen, begun: None }
    }

    /// The lane of an event, if it has one.
    pub(crate) fn lane_of(&self, event: &Event) -> Option<Bytes> {
        match self.ordering {
            _ if planted(Fault::LanesShared) => None,
            Ordering::Key => event.key.clone(),
            Ordering::Partition => Some(Bytes::new()),
            Ordering::None => None,
        }
    }

    /// Takes in the next event of the partition; `age` counts them.
    pub(crate) fn admit(&mut self, lane: Option<Bytes>, age: u64, item: T) {
        if let Some(lane) = lane {
            match self.busy.entry(lane) {
                Entry::Occupied(mut queue) => return queue.get_mut().push_back((age, item)),
                Entry::Vacant(free) => drop(free.insert(VecDeque::new())),
            }
        }
        self.lead(age, item);
    }

    /// Takes all heads that were not looked at.
    pub(crate) fn unseen(&mut self) -> Vec<T> {
        self.unseen.as_mut().map(std::mem::take).into_iter().flatten().map(|(_, i)| i).collect()
    }

    /// Makes an event ready that holds its lane: a retry that is due.
    pub(crate) fn again(&mut self, age: u64, item: T) {
        self.ready.insert(age, item);
    }

    /// The event that held `lane` is terminal: the next one is ready.
    pub(crate) fn leave(&mut self, lane: Bytes) {
        let Entry::Occupied(mut queue) = self.busy.entry(lane) else { return };
        match queue.get_mut().pop_front() {
            Some((age, next)) => self.lead(age, next),
            None => drop(queue.remove()),
        }
    }

    fn lead(&mut self, age: u64, item: T) {
        self.unseen.as_mut().unwrap_or(&mut self.ready).insert(age, item);
    }

    /// Number of events that could run now.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes up to `max` ready events. No two of them share a lane, for a lane has
    /// at most one that is ready.
    pub(crate) fn take(&mut self, max: usize) -> impl Iterator<Item = T> + '_ {
        let Self { ready, begun, .. } = self;
        iter::from_fn(move || {
            let (age, item) = ready.pop_first()?;
            *begun = (*begun).max(Some(age));
            Some(item)
        })
        .take(max)
    }

    /// Forgets every event that is younger than all that were taken. The others are
    /// what keeps the committed position behind work that is done.
    pub(crate) fn forget_younger(&mut self) {
        let begun = self.begun;
        self.ready.retain(|age, _| Some(*age) < begun);
        self.busy.values_mut().for_each(|queue| queue.retain(|(age, _)| Some(*age) < begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lanes: &mut Lanes<u32>) -> Vec<u32> {
        lanes.take(usize::MAX).collect()
    }

    #[test]
    fn o1_a_lane_gives_one_event_at_a_time_in_order() {
        let mut lanes = Lanes::new(Ordering::Key, false);
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        lanes.admit(Some(a.clone()), 1, 1);
        lanes.admit(Some(a.clone()), 2, 2);
        lanes.admit(Some(b.clone()), 3, 3);
        lanes.admit(None, 4, 4);
        lanes.admit(None, 5, 5);
        assert_eq!(take(&mut lanes), [1, 3, 4, 5]);
        lanes.again(1, 1);
        assert_eq!(take(&mut lanes), [1], "a retry holds its lane");
        lanes.leave(a.clone());
        lanes.leave(b);
        assert_eq!(take(&mut lanes), [2]);
        lanes.leave(a);
        assert!(lanes.busy.is_empty(), "lanes do not pile up");
    }

    #[test]
    fn i2_with_a_look_first_heads_are_ready_only_when_they_are_put_back() {
        let mut lanes = Lanes::new(Ordering::Key, true);
        let a = Bytes::from("a");
        lanes.admit(Some(a.clone()), 1, 1);
        lanes.admit(Some(a.clone()), 2, 2);
        lanes.admit(None, 3, 3);
        assert_eq!(
            (take(&mut lanes), lanes.unseen(), lanes.unseen()),
            (vec![], vec![1, 3], vec![])
        );
        lanes.again(1, 1);
        assert_eq!(take(&mut lanes), [1]);
        lanes.leave(a);
        assert_eq!((take(&mut lanes), lanes.unseen()), (vec![], vec![2]));
    }

    #[test]
    fn c1_the_oldest_ready_event_goes_first_and_a_drain_keeps_those_behind_finished_work() {
        let mut lanes = Lanes::new(Ordering::Key, false);
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        lanes.admit(Some(a.clone()), 0, 0);
        lanes.admit(Some(a.clone()), 1, 1);
        lanes.admit(Some(a.clone()), 2, 2);
        (3..6).for_each(|n| lanes.admit(None, n.into(), n));
        lanes.admit(Some(b.clone()), 6, 6);
        lanes.admit(Some(b), 7, 7);
        assert_eq!(lanes.take(2).collect::<Vec<_>>(), [0, 3]);
        lanes.leave(a.clone());
        assert_eq!(lanes.take(2).collect::<Vec<_>>(), [1, 4], "1 is older than all that is ready");
        lanes.forget_younger();
        assert_eq!(lanes.ready(), 0, "5, 6 and 7 hold nothing back");
        lanes.leave(a);
        assert_eq!(take(&mut lanes), [2]);
    }

    #[test]
    fn o3_an_empty_key_is_a_lane_and_no_key_is_none() {
        let event = |key: Option<&'static str>| Event {
            topic: "t".into(),
            partition: 0,
            position: 0,
            key: key.map(Bytes::from),
            payload: None,
            headers: [].into(),
            timestamp_ms: 0,
            attributes: [].into(),
        };
        let keyed = Lanes::<u32>::new(Ordering::Key, false);
        assert_eq!(keyed.lane_of(&event(Some(""))), Some(Bytes::new()));
        assert_eq!(keyed.lane_of(&event(None)), None);
        let whole = Lanes::<u32>::new(Ordering::Partition, false);
        assert_eq!(whole.lane_of(&event(None)), whole.lane_of(&event(Some("k"))));
        assert_eq!(Lanes::<u32>::new(Ordering::None, false).lane_of(&event(Some("k"))), None);
    }
}
