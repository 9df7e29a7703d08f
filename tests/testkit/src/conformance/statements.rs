//! What the suite says of every backend, and of which it is demanded.

use std::{future::Future, pin::Pin};

use super::{
    Applies::{self, Fully, Not, Weaker},
    Bench, Declared, delivery, effects, groups, outage, records, retained, window,
};

type Check = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Something that holds for a backend or not.
pub struct Statement {
    /// What it is called, and the test that checks it.
    pub name: &'static str,
    /// Nothing else can run meanwhile.
    pub takes_the_broker_away: bool,
    applies: fn(&Declared, bool) -> Applies,
    check: Check,
}

impl Statement {
    /// How much of it is demanded of a backend that can be taken away, or cannot.
    pub fn applies(&self, declared: &Declared, has_switch: bool) -> Applies {
        let gap = declared.gaps.iter().find(|(name, _)| *name == self.name);
        gap.map_or_else(|| (self.applies)(declared, has_switch), |(_, reason)| Not(reason))
    }

    /// Checks it.
    ///
    /// # Panics
    /// Where it does not hold.
    pub async fn check(&self, bench: &Bench) {
        (self.check)(bench).await;
    }
}

macro_rules! statement {
    (@alone) => { false };
    (@alone alone) => { true };
    ($module:ident::$name:ident, $applies:expr $(, $alone:ident)?) => {
        Statement {
            name: stringify!($name),
            takes_the_broker_away: statement!(@alone $($alone)?),
            applies: $applies,
            check: |bench| Box::pin($module::$name(bench)),
        }
    };
}
/// All of them.
pub static STATEMENTS: &[Statement] = &[
    statement!(delivery::declares_what_it_promises, always),
    statement!(delivery::order, |d, _| when(
        d.guarantees.ordered,
        "events come once, in any order"
    )),
    statement!(delivery::redelivery, |d, _| when(
        d.guarantees.redelivery_counted,
        "redeliveries are said to be 0"
    )),
    statement!(delivery::settle_out_of_order, always),
    statement!(delivery::release, always),
    statement!(delivery::release_with_delay, |d, _| if d.guarantees.delayed_release {
        Fully
    } else {
        Not("the broker cannot delay: `release` says what holds")
    }),
    statement!(delivery::close_without_loss, always),
    statement!(delivery::shutdown_in_mid_batch, always),
    statement!(window::cancelled_calls_lose_nothing, always),
    statement!(window::full_window, always),
    statement!(window::long_handling, |d, _| match d.lease {
        Some(_) => Fully,
        None => Not("the broker lends a delivery for as long as its consumer is there"),
    }),
    statement!(window::until_end, always),
    statement!(groups::start_at_latest, |d, _| if d.guarantees.fan_out {
        Fully
    } else {
        Not("a topic has one group, and all that lies in it is for that one")
    }),
    statement!(groups::start_at_earliest, |d, _| if d.guarantees.retained {
        Fully
    } else {
        Not("nothing is kept for groups that come later")
    }),
    statement!(groups::globs_see_later_topics, always),
    statement!(groups::globs_never_match_reserved_topics, always),
    statement!(records::payloads_and_keys, always),
    statement!(records::large_records, always),
    statement!(records::too_large_is_rejected, |d, _| match d.too_large {
        Some(_) => Fully,
        None => Not("nothing is too large"),
    }),
    statement!(records::publish_failure_per_record, always),
    statement!(records::unknown_topics_are_named, always),
    statement!(records::headers, |d, _| if d.headers == super::Headers::EVERYTHING {
        Fully
    } else {
        Weaker("what the broker's headers can keep is kept")
    }),
    statement!(records::cloudevents_attributes, always),
    statement!(records::tombstones, |d, _| when(
        d.guarantees.tombstones,
        "a tombstone arrives as an empty payload, or is rejected"
    )),
    statement!(records::poison, always),
    statement!(records::timestamps, always),
    statement!(groups::fan_out, |d, _| when(
        d.guarantees.fan_out,
        "a second group is refused, and the topic named"
    )),
    statement!(groups::group_in_two_processes, |d, _| when(
        d.guarantees.spread_over_processes,
        "the second is refused, or stands by and takes over"
    )),
    statement!(effects::exactly_once, |_, _| Weaker(
        "refused, or effects and acknowledgement are one step"
    )),
    statement!(effects::effects, |d, _| when(
        d.guarantees.atomic_effects,
        "effects are refused, and nothing is settled"
    )),
    statement!(effects::marks, |d, _| if d.guarantees.atomic_marks {
        Fully
    } else {
        Not("the acknowledgement takes no mark with it")
    }),
    statement!(effects::state, |d, _| when(
        d.guarantees.atomic_state,
        "changes of state are refused, and nothing is settled"
    )),
    statement!(retained::read_from_the_start, retains),
    statement!(retained::read_from_a_position, retains),
    statement!(retained::read_from_a_time, retains),
    statement!(retained::follow, retains),
    statement!(retained::extents, retains),
    statement!(retained::trim, retains),
    statement!(retained::cursors, |d, _| when(
        d.guarantees.retained,
        "what a group is behind, where the broker can say"
    )),
    statement!(retained::move_cursor, retains),
    statement!(outage::broker_restart, switched, alone),
    statement!(outage::connect_while_the_broker_is_away, switched, alone),
];

fn always(_: &Declared, _: bool) -> Applies {
    Fully
}

fn retains(declared: &Declared, _: bool) -> Applies {
    when(declared.guarantees.retained, "refused, and the topic named")
}

fn switched(_: &Declared, has_switch: bool) -> Applies {
    if has_switch { Fully } else { Not("this broker cannot be taken away here") }
}

fn when(given: bool, otherwise: &'static str) -> Applies {
    if given { Fully } else { Weaker(otherwise) }
}
