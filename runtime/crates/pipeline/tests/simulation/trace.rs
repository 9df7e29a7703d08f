//! What happened in one play: entries in order, and the tables that they point into.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use sandbar_core::{ErrorClass, Event, PartitionId};
use sandbar_pipeline::State as Condition;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($prefix:literal);)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub usize);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )* };
}

numbers! {
    /// A plugin, which is one subscription with one group.
    PluginNo("plugin ");
    /// A partition of a topic.
    PlaceNo("place ");
    /// A record at its place.
    RecordNo("record ");
    /// A run of a plugin in a process, from its start to its end.
    MemberNo("member ");
    /// A partition in the hands of a member.
    AssignmentNo("assignment ");
    /// An attempt that reached the handler.
    CallNo("call-");
}

/// The tables, and everything that happened.
#[derive(Default)]
pub struct Trace {
    pub places: Vec<Place>,
    pub records: Vec<Record>,
    pub members: Vec<Member>,
    pub assignments: Vec<Assignment>,
    pub calls: Vec<Call>,
    pub entries: Vec<Entry>,
    /// There were more entries than any play needs.
    pub endless: bool,
}

pub struct Place {
    pub id: PartitionId,
    pub kind: PlaceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    Source,
    Output,
    /// Outputs on another connection.
    Elsewhere,
    Letters(PluginNo),
    Inbox(PluginNo),
    Halted(PluginNo),
    /// Retries that wait for so long.
    Tier(Duration),
}

pub struct Record {
    pub place: PlaceNo,
    pub event: Event,
    /// Number of the produced event that this is or stems from.
    pub number: Option<usize>,
    /// The attempt that published it as its output, and the how-manieth output it is.
    pub output_of: Option<(CallNo, usize)>,
}

pub struct Member {
    pub plugin: PluginNo,
    pub process: usize,
}

pub struct Assignment {
    pub member: MemberNo,
    pub plugin: PluginNo,
    pub place: PlaceNo,
}

pub struct Call {
    pub member: MemberNo,
    pub assignment: AssignmentNo,
    pub record: RecordNo,
    pub number: usize,
    pub attempt: u32,
    pub version: u32,
    /// Calls of one batch share it.
    pub batch: usize,
}

#[derive(Debug, Clone, Hash)]
pub struct Entry {
    /// Since the play began.
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, Hash)]
pub enum What {
    // the broker
    Written {
        record: RecordNo,
        by: Writer,
    },
    Assigned {
        assignment: AssignmentNo,
        from: u64,
    },
    Delivered {
        assignment: AssignmentNo,
        record: RecordNo,
    },
    /// Done, or else released.
    Settled {
        assignment: AssignmentNo,
        record: RecordNo,
        done: bool,
    },
    /// A position that is durable, and what is finished past it.
    Committed {
        assignment: AssignmentNo,
        position: u64,
        ahead: Vec<(u64, u64)>,
    },
    Marked {
        plugin: PluginNo,
        id: String,
        expires_ms: u64,
    },
    /// The member is asked to give the partition up.
    Revoking {
        assignment: AssignmentNo,
        deadline: Duration,
    },
    /// It says that it has.
    Drained {
        assignment: AssignmentNo,
    },
    /// The partition's handle is gone.
    Dropped {
        assignment: AssignmentNo,
    },
    /// From here on nothing of it counts. `lost` where nobody asked the member first.
    Fenced {
        assignment: AssignmentNo,
        lost: bool,
    },
    /// A consumer of its own on a retry tier.
    Courier {
        tier: PlaceNo,
        consumer: usize,
    },

    // processes
    Started {
        member: MemberNo,
        group: String,
    },
    Stopping {
        member: MemberNo,
        deadline: Duration,
    },
    /// It left its group; whether the last commit went through.
    Closed {
        member: MemberNo,
        committed: bool,
    },
    Ended {
        member: MemberNo,
        result: Result<(), String>,
        counts: Counts,
    },
    Crashed {
        member: MemberNo,
    },
    /// It was told something that ends it.
    Failing {
        member: MemberNo,
    },
    Reloaded {
        member: MemberNo,
        version: u32,
    },
    Told {
        member: MemberNo,
        condition: Told,
        in_flight: i64,
    },

    // handlers
    Began {
        call: CallNo,
    },
    Answered {
        call: CallNo,
        answer: Answer,
    },
    Aborted {
        call: CallNo,
    },

    /// Faults are mended; from here on everything must come to its end.
    Mended,
    /// Everything was expected to be done by now, and this was not.
    Stalled {
        plugin: PluginNo,
        place: PlaceNo,
        position: u64,
        end: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writer {
    Producer,
    /// Published by a member's sink.
    Sink(MemberNo),
    /// In one step with a settlement.
    Settlement(AssignmentNo),
    /// A courier or a redrive.
    Carrier,
}

/// What a handler said of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    Ok {
        outputs: usize,
    },
    /// With an output that is not allowed, or that the broker refuses.
    Bad(ErrorClass),
    Skip,
    Reject(ErrorClass),
    Retry {
        class: ErrorClass,
        after: Option<Duration>,
    },
    Defer {
        pause: Duration,
    },
}

/// The condition that a subscription reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told(pub Condition);

impl Hash for Told {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.as_str().hash(hasher);
    }
}

/// Counters of a run at its end, by class of failure where they have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    pub handled: u64,
    pub skipped: u64,
    pub duplicates: u64,
    pub dead_lettered: Vec<(&'static str, u64)>,
    pub dropped: Vec<(&'static str, u64)>,
}

impl Trace {
    /// Equal for two plays in which the same happened at the same time.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.entries.hash(&mut hasher);
        for record in &self.records {
            let event = &record.event;
            (&event.topic, event.partition, event.position).hash(&mut hasher);
            (&event.key, &event.payload, event.timestamp_ms).hash(&mut hasher);
            event.headers.iter().for_each(|h| (&h.name, &h.value).hash(&mut hasher));
        }
        hasher.finish()
    }

    pub fn plugin_of(&self, call: CallNo) -> PluginNo {
        self.members[self.calls[call.0].member.0].plugin
    }
}
