//! The state of a play that everything in it shares: the broker's logs and cursors, the
//! dice, and the trace of what happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_core::{Event, Header, Outgoing, PartitionId, SourceError, SourceEvent};
use sandbar_pipeline::SubscriptionStats;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    broker::Holding,
    faults::ModelFault,
    plan::{ELSEWHERE, Plan, SOURCES, millis, tiers},
    script::Script,
    trace::{
        AssignmentNo, CallNo, Entry, MemberNo, Place, PlaceKind, PlaceNo, PluginNo, Record,
        RecordNo, Trace, What, Writer,
    },
};

/// The time of day at which every play begins: 2026-11-21T10:30:00Z.
pub const BEGIN_MS: u64 = 1_795_257_000_000;
/// More than any play needs: in a loop that does not end everything stands still from here.
const MOST_ENTRIES: usize = 30_000;

/// Header with the number of a produced event; it goes wherever the event goes.
pub const NUMBER: &str = "number";
/// Headers of an output: the attempt that published it, and which output it is.
pub const CALL: &str = "call";
pub const INDEX: &str = "index";
/// Header of an output that the broker never takes.
pub const REFUSED: &str = "refused";

pub struct World {
    pub plan: Plan,
    state: Mutex<State>,
    /// Wakes whoever waits for records, and for a fence.
    pub appended: Notify,
}

pub struct State {
    pub trace: Trace,
    pub dice: StdRng,
    pub weather: Weather,
    pub fault: Option<ModelFault>,
    began: Instant,
    /// Records of each place, in order.
    pub logs: Vec<Vec<RecordNo>>,
    pub cursors: BTreeMap<(PluginNo, PlaceNo), Cursor>,
    /// By assignment.
    pub holdings: Vec<Holding>,
    /// Who works on a partition, and is not fenced.
    pub owners: BTreeMap<(PluginNo, PlaceNo), AssignmentNo>,
    /// What is on its way from one member to another.
    pub moving: BTreeSet<(PluginNo, PlaceNo)>,
    /// By member.
    pub lives: Vec<Life>,
    pub produced: Vec<Script>,
    /// Attempts at an event that came to an answer.
    pub tries: BTreeMap<(PluginNo, usize), usize>,
    pub batches: usize,
    /// Version of each plugin's file in each process.
    pub versions: BTreeMap<(PluginNo, usize), u32>,
    /// How many records of a place have been carried on.
    pub carried: BTreeMap<PlaceNo, usize>,
    /// Marks and when they expire.
    pub marks: BTreeMap<(PluginNo, String), u64>,
}

/// Where a group resumes, and what it has finished beyond.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    pub position: u64,
    pub ahead: Vec<(u64, u64)>,
}

/// How often each call to the broker fails, 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub publish_unavailable: f64,
    /// Written, but the answer says that it was not.
    pub publish_untold: f64,
    pub letter_refused: f64,
    pub settle: f64,
    pub receive: f64,
    pub commit: f64,
    pub marks: f64,
}

/// How the world sees a member.
pub struct Life {
    /// Its process died: whatever its tasks still try leads nowhere.
    pub dead: bool,
    /// It may be given partitions.
    pub joined: bool,
    /// Its source has failed for good.
    pub failing: bool,
    /// What it is told by its group.
    pub queue: mpsc::Sender<Result<SourceEvent, SourceError>>,
    pub stats: Arc<SubscriptionStats>,
    /// Version of the handler that its calls go to.
    pub version: u32,
}

impl World {
    pub fn new(seed: u64, fault: Option<ModelFault>) -> Arc<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut dice);
        let trace = Trace { places: places(&plan), ..Trace::default() };
        let state = State {
            logs: vec![Vec::new(); trace.places.len()],
            trace,
            dice,
            weather: Weather::default(),
            fault,
            began: Instant::now(),
            cursors: BTreeMap::new(),
            holdings: Vec::new(),
            owners: BTreeMap::new(),
            moving: BTreeSet::new(),
            lives: Vec::new(),
            produced: Vec::new(),
            tries: BTreeMap::new(),
            batches: 0,
            versions: BTreeMap::new(),
            carried: BTreeMap::new(),
            marks: BTreeMap::new(),
        };
        Arc::new(Self { plan, state: Mutex::new(state), appended: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The finished trace.
    pub fn take_trace(&self) -> Trace {
        std::mem::take(&mut self.lock().trace)
    }

    /// Returns if the member's process lives, and never if it died.
    pub async fn alive(&self, member: MemberNo) {
        let stopped = {
            let state = self.lock();
            state.lives[member.0].dead || state.trace.endless
        };
        if stopped {
            std::future::pending::<()>().await;
        }
    }

    /// Takes as long as a call to the broker does.
    pub async fn travel(&self, member: MemberNo) {
        let longest = self.plan.latency.as_millis() as u64;
        if longest > 0 {
            let time = self.lock().dice.random_range(0..=longest);
            if time > 0 {
                sleep(millis(time)).await;
            }
        }
        self.alive(member).await;
    }

    /// A call of `member` to the broker, which acts before or after the time that the
    /// call takes: a caller that does not wait for the answer cannot know which.
    pub async fn call<T>(&self, member: MemberNo, act: impl FnOnce() -> T) -> T {
        self.alive(member).await;
        let (early, late) = if self.roll(0.5) { (Some(act()), None) } else { (None, Some(act)) };
        self.travel(member).await;
        match (early, late) {
            (Some(answer), _) => answer,
            (None, late) => late.expect("one of the two")(),
        }
    }

    pub fn roll(&self, chance: f64) -> bool {
        self.lock().roll(chance)
    }
}

impl State {
    pub fn roll(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random_bool(chance)
    }

    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn wall_ms(&self) -> u64 {
        BEGIN_MS + self.now().as_millis() as u64
    }

    pub fn note(&mut self, what: What) {
        if !self.trace.endless {
            self.trace.entries.push(Entry { at: self.now(), what });
            self.trace.endless = self.trace.entries.len() >= MOST_ENTRIES;
        }
    }

    pub fn place(&self, topic: &str, partition: u32) -> Option<PlaceNo> {
        let is = |p: &Place| *p.id.topic == *topic && p.id.partition == partition;
        self.trace.places.iter().position(is).map(PlaceNo)
    }

    pub fn places(&self, is: impl Fn(PlaceKind) -> bool) -> Vec<PlaceNo> {
        let places = self.trace.places.iter().enumerate();
        places.filter(|(_, p)| is(p.kind)).map(|(n, _)| PlaceNo(n)).collect()
    }

    /// What a member holds and may settle.
    pub fn held_by(&self, member: MemberNo) -> Vec<AssignmentNo> {
        let mine = |a: &AssignmentNo| self.trace.assignments[a.0].member == member;
        self.owners.values().copied().filter(mine).collect()
    }

    /// The partitions that a plugin's group reads.
    pub fn subscribed(&self, plugin: PluginNo) -> Vec<PlaceNo> {
        self.places(|kind| kind == PlaceKind::Source || kind == PlaceKind::Inbox(plugin))
    }

    /// Where the next record of a place goes.
    pub fn end(&self, place: PlaceNo) -> u64 {
        let last = self.logs[place.0].last();
        last.map_or(0, |r| self.trace.records[r.0].event.position + 1)
    }

    /// Appends what was published; `gap` positions are left out before it.
    pub fn write(&mut self, place: PlaceNo, out: Outgoing, gap: u64, by: Writer) -> RecordNo {
        let Place { id: PartitionId { topic, partition }, .. } = &self.trace.places[place.0];
        let event = Event {
            topic: topic.clone(),
            partition: *partition,
            position: self.end(place) + gap,
            key: out.key,
            payload: out.payload,
            headers: out.headers.into(),
            timestamp_ms: self.wall_ms(),
            attributes: [].into(),
        };
        let number = number(&event.headers, NUMBER);
        let output_of = number_pair(&event.headers);
        let no = RecordNo(self.trace.records.len());
        self.trace.records.push(Record { place, event, number, output_of });
        self.logs[place.0].push(no);
        self.note(What::Written { record: no, by });
        no
    }
}

/// Every partition that there is.
fn places(plan: &Plan) -> Vec<Place> {
    let place = |topic: &str, partition, kind| Place {
        id: PartitionId { topic: topic.into(), partition },
        kind,
    };
    let mut places = Vec::new();
    for (topic, partitions) in SOURCES.iter().zip(plan.partitions) {
        places.extend((0..partitions).map(|n| place(topic, n, PlaceKind::Source)));
    }
    places.push(place("out", 0, PlaceKind::Output));
    places.push(place(ELSEWHERE, 0, PlaceKind::Elsewhere));
    for (n, plugin) in plan.plugins.iter().enumerate() {
        let n = PluginNo(n);
        if let Some(letters) = &plugin.dead_letter {
            places.push(place(&letters.topic, 0, PlaceKind::Letters(n)));
        }
        places.push(place(&plugin.inbox(), 0, PlaceKind::Inbox(n)));
        places.push(place(&plugin.halted(), 0, PlaceKind::Halted(n)));
    }
    if plan.plugins.iter().any(|p| !p.retry_tiers.is_empty()) {
        places.extend(tiers().iter().map(|t| place(&t.topic, 0, PlaceKind::Tier(t.delay))));
    }
    places
}

pub fn number(headers: &[Header], name: &str) -> Option<usize> {
    let header = headers.iter().find(|h| &*h.name == name)?;
    std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
}

fn number_pair(headers: &[Header]) -> Option<(CallNo, usize)> {
    Some((CallNo(number(headers, CALL)?), number(headers, INDEX)?))
}

/// A number as a header's value.
pub fn digits(n: usize) -> Bytes {
    n.to_string().into()
}
