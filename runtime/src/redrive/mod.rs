//! Dead letters: looked at, edited, purged, and sent back to the subscription that
//! failed (contract D3 to D5).
//!
//! A redrive is a subscription like any other: a [source](sandbar_core::Source) on the
//! dead-letter topic with a cursor of its own, read up to the end that the topic had when
//! it began. What comes out of it goes as [parcels](sandbar_pipeline::Parcel) to the inbox
//! of the group that failed, and a letter is settled only when its parcel is durable. So a
//! redrive that is stopped, or killed, goes on where it was; the letters themselves stay.

mod edit;
mod expression;
mod filter;
mod halt;
mod job;
mod jobs;
mod judge;
mod letter;
mod listing;
mod lot;
mod progress;
mod purge;
mod routes;
mod run;
#[cfg(test)]
mod testing;
mod values;

pub use edit::{Edit, EditError, Edited};
pub use expression::Expression;
pub use filter::{Criteria, Filter, Match};
pub use halt::{Halted, ReleaseError, ReleaseRequest, halted, release};
pub use job::{RedriveRequest, cursor_group, default_job, owner};
pub use jobs::{Busy, Job, JobState, Jobs};
pub use letter::{Letter, Place, find};
pub use listing::{Alike, Group, Listing, Row, list, topics};
pub use progress::{Progress, Rehearsed, Target};
pub use purge::{Cut, PurgeError, PurgeRequest, Purged, purge};
pub use routes::Routes;
pub use run::{Redrive, RedriveError};

use std::time::{SystemTime, UNIX_EPOCH};

/// How often a letter is redriven before it is quarantined, where nobody says otherwise.
pub const MAX_REDRIVES: u32 = 3;

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    // a clock before 1970 is a machine without a clock: every letter is young then
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
