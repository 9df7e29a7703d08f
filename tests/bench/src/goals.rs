//! What was hoped for, and what became of it.

use serde::Serialize;

use crate::{
    figures::{Row, Unit},
    report::shown,
};

/// What is held against a goal.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// The value, which must not be above.
    AtMost(f64),
    /// The ratio to the reference, which must not be below.
    RatioAtLeast(f64),
    /// The ratio to the reference, which must not be above.
    RatioAtMost(f64),
}

struct Goal {
    what: &'static str,
    /// `id` of the row.
    row: &'static str,
    measure: Measure,
}

/// A goal and the row that was measured for it.
#[derive(Debug, Serialize)]
pub struct Judged {
    pub what: &'static str,
    pub goal: String,
    pub measured: String,
    pub verdict: &'static str,
}

use Measure::{AtMost, RatioAtLeast, RatioAtMost};

const US: f64 = 1e-6;
const MS: f64 = 1e-3;

const GOALS: &[Goal] = &[
    Goal { what: "typed call, 1 KiB, warm", row: "call/each/1024/1", measure: AtMost(1.0 * US) },
    Goal {
        what: "packed batch of 100, 1 KiB, an event",
        row: "call/packed/1024/100",
        measure: AtMost(0.2 * US),
    },
    Goal {
        what: "fresh instance per event",
        row: "call/per-event/1024/1",
        measure: AtMost(8.0 * US),
    },
    Goal {
        what: "Kafka to Kafka against native, 1 partition, at least once",
        row: "kafka/1/at-least-once",
        measure: RatioAtLeast(0.95),
    },
    Goal {
        what: "the same, 6 partitions",
        row: "kafka/6/at-least-once",
        measure: RatioAtLeast(0.95),
    },
    Goal {
        what: "the same, 6 partitions, 100,000 keys",
        row: "kafka/6-many-keys/at-least-once",
        measure: RatioAtLeast(0.95),
    },
    Goal {
        what: "Kafka to Kafka against native, 1 partition, exactly once",
        row: "kafka/1/exactly-once",
        measure: RatioAtLeast(0.95),
    },
    Goal {
        what: "the same, 6 partitions",
        row: "kafka/6/exactly-once",
        measure: RatioAtLeast(0.95),
    },
    Goal {
        what: "against Redpanda Connect's engine with its mapping, 6 partitions",
        row: "peers/6/benthos",
        measure: RatioAtLeast(1.5),
    },
    Goal {
        what: "Parallel Consumer's workload, 1,000 keys",
        row: "parallel/key",
        measure: AtMost(1.65),
    },
    Goal { what: "the same, 1 % failing once", row: "parallel/key/failing", measure: AtMost(1.75) },
    Goal {
        what: "two cores against one, where the log is not the limit",
        row: "growth/cores",
        measure: RatioAtLeast(1.9),
    },
    Goal {
        what: "reload pause, cached, Rust",
        row: "reload/pause/rust/cached",
        measure: AtMost(MS),
    },
    Goal {
        what: "reload pause, cached, Python",
        row: "reload/pause/python/cached",
        measure: AtMost(5.0 * MS),
    },
    Goal {
        what: "p99 during a reload against steady, cached, Rust",
        row: "reload/p99/rust/cached",
        measure: RatioAtMost(2.0),
    },
    Goal {
        what: "p99 during a reload against steady, cached, Python",
        row: "reload/p99/python/cached",
        measure: RatioAtMost(2.0),
    },
    Goal { what: "trap to next event", row: "trap/next", measure: AtMost(100.0 * US) },
    Goal {
        what: "1,000 idle plugins, memory each",
        row: "plugins/log/1000/memory",
        measure: AtMost(64.0 * 1024.0),
    },
    Goal {
        what: "1,000 idle plugins, start, cached",
        row: "plugins/log/1000/start",
        measure: AtMost(3.0),
    },
    Goal { what: "start to first event, cached", row: "start/cached", measure: AtMost(100.0 * MS) },
];

/// Each goal whose row was measured.
pub fn judge(rows: &[&Row]) -> Vec<Judged> {
    GOALS
        .iter()
        .filter_map(|goal| Some(goal.judge(rows.iter().find(|row| row.id == goal.row)?)))
        .collect()
}

impl Goal {
    fn judge(&self, row: &Row) -> Judged {
        let unit = |value| shown(row.unit, value);
        let ratio = row.reference.as_ref().map_or(f64::NAN, |r| r.ratio.median);
        let times = |value: f64| shown(Unit::Count, value);
        let (goal, measured, met) = match self.measure {
            AtMost(most) => {
                (format!("<= {}", unit(most)), unit(row.value.median), row.value.median <= most)
            }
            RatioAtLeast(least) => (format!(">= {least}x"), times(ratio), ratio >= least),
            RatioAtMost(most) => (format!("<= {most}x"), times(ratio), ratio <= most),
        };
        Judged { what: self.what, goal, measured, verdict: if met { "met" } else { "missed" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_missed_by_its_own_row() {
        let met = Row::new("trap/next", "", Unit::Seconds, &[5e-5]);
        let missed = Row::new("growth/cores", "", Unit::EventsPerSecond, &[15.0]).beside(
            "one core",
            &[15.0],
            &[10.0],
        );
        let judged = judge(&[&missed, &met]);
        let said: Vec<_> = judged.iter().map(|j| (&*j.goal, &*j.measured, j.verdict)).collect();
        assert_eq!(said, [(">= 1.9x", "1.50", "missed"), ("<= 100 us", "50.0 us", "met")]);
    }
}
