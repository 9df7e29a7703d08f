//! What is to become of one letter.

use std::sync::Arc;

use sandbar_core::{Connection, Event, Outgoing, reserved};
use sandbar_pipeline::Parcel;

use super::{Filter, Letter, Match, Place, Progress, Rehearsed, Routes, Target};

/// Judges letters.
pub(super) struct Judge<'a> {
    pub filter: &'a Filter,
    pub routes: &'a Routes,
    /// Over what the routes say.
    pub max_redrives: Option<u32>,
    /// One time for all of them.
    pub now_ms: u64,
}

/// The fate of a letter.
#[derive(Debug)]
pub(super) enum Judgement {
    /// To be sent.
    Send(Box<Errand>),
    /// Not meant.
    Skip,
    /// Not meant yet, nor is any after it.
    TooYoung,
    /// Redriven too often already.
    Quarantined,
    /// Nothing that could be sent.
    Foreign,
    /// Not meant, because the expression does not apply.
    Unclear { place: String, why: String },
}

/// A parcel and where it is to go.
pub(super) struct Errand {
    pub connection: Arc<dyn Connection>,
    pub record: Outgoing,
    pub target: Target,
    /// Where the letter lies.
    pub place: String,
    /// Where its event lay.
    pub event: String,
    pub code: String,
}

impl std::fmt::Debug for Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errand").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Judge<'_> {
    pub(super) fn judge(&self, event: Event) -> Judgement {
        let Ok(letter) = Letter::read(event) else { return Judgement::Foreign };
        match self.filter.check(&letter, self.now_ms) {
            Match::Yes => {}
            Match::No => return Judgement::Skip,
            Match::TooYoung => return Judgement::TooYoung,
            Match::Unclear(why) => {
                let place = Place(&letter.event).to_string();
                return Judgement::Unclear { place, why };
            }
        }
        let Some(parcel) = Parcel::of_dead_letter(&letter.event) else {
            return Judgement::Foreign;
        };
        let route = self.routes.of(&parcel.to);
        if letter.says.redrives >= self.max_redrives.unwrap_or(route.max_redrives) {
            return Judgement::Quarantined;
        }
        let inbox = reserved::inbox(&parcel.to);
        let target = Target {
            connection: route.connection.name().to_owned(),
            plugin: letter.says.plugin,
            known: route.known,
            letters: 0,
            inbox,
        };
        Judgement::Send(Box::new(Errand {
            connection: Arc::clone(&route.connection),
            record: parcel.record(target.inbox.as_str()),
            place: Place(&letter.event).to_string(),
            event: Place(&parcel.event).to_string(),
            code: letter.says.error_code,
            target,
        }))
    }
}

impl Judgement {
    /// Counts the letter in a dry run.
    pub(super) fn rehearse(self, progress: &mut Progress) {
        match self {
            Self::Send(errand) => {
                progress.matched += 1;
                progress.sent_to(&errand.target);
                let Errand { place, event, code, target, .. } = *errand;
                progress.rehearsed(Rehearsed { letter: place, event, code, inbox: target.inbox });
            }
            other => other.count(progress),
        }
    }

    /// Counts a letter of which nothing is sent.
    pub(super) fn count(&self, progress: &mut Progress) {
        match self {
            Self::Quarantined => {
                progress.matched += 1;
                progress.quarantined += 1;
            }
            Self::Foreign => progress.foreign += 1,
            Self::Unclear { place, why } => progress.unclear(place, why),
            Self::Skip => progress.skipped += 1,
            Self::Send(_) | Self::TooYoung => {}
        }
    }
}
