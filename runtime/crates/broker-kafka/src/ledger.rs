//! What of one partition was delivered and what is finished, and what of this the
//! broker has been told.

use std::collections::VecDeque;

use sandbar_core::{AckToken, Delivery, Event, PartitionId, ResumeFrom, Watermark};

use crate::{
    committed::Committed,
    metadata::{self, Ranges},
};

/// From this fill of the commit metadata on, nothing new is taken in (contract C3).
const FULL: f64 = 0.75;

/// What is committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub position: ResumeFrom,
    /// What is finished beyond it, encoded.
    pub metadata: String,
}

/// Deliveries, the watermark over them, and what an earlier owner left finished.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Begins at the first record: only the broker knows where the group left off.
    watermark: Option<Watermark>,
    /// The first record after the offsets went back; see [`Ledger::admit`].
    held: Option<Event>,
    /// What the group had committed when the partition was assigned; `None` until this
    /// is known, and until then no record may be taken in.
    inherited: Option<Inherited>,
    /// What was handed over for committing, or is known to be committed.
    told: Option<Cursor>,
    /// Length of the metadata for what is finished now, where it was worked out.
    length: Option<usize>,
}

/// Events that were finished before the partition was assigned here, as far as
/// they lie beyond every record met so far.
#[derive(Default)]
struct Inherited {
    /// The committed position that they came with.
    from: u64,
    finished: VecDeque<(u64, u64)>,
}

impl Inherited {
    /// Whether `position` is one of them. Positions must rise.
    fn meet(&mut self, position: u64) -> bool {
        while self.finished.front().is_some_and(|(_, end)| *end <= position) {
            self.finished.pop_front();
        }
        let Some(first) = self.finished.front_mut().filter(|(start, _)| *start <= position) else {
            return false;
        };
        first.0 = position + 1;
        if first.0 == first.1 {
            self.finished.pop_front();
        }
        true
    }
}

impl Ledger {
    /// Takes note of what the group had committed of `id`.
    pub fn inherit(&mut self, id: &PartitionId, committed: Option<Committed>) {
        let mut inherited = Inherited::default();
        if let Some(Committed { position, metadata }) = committed {
            inherited.from = position;
            match metadata::decode(position, &metadata) {
                Ok(finished) => {
                    if !finished.is_empty() {
                        let events: u64 = finished.iter().map(|(start, end)| end - start).sum();
                        tracing::info!(partition = %id, position, events, "some are finished already");
                    }
                    inherited.finished = finished.into();
                    if let Ok(metadata) = String::from_utf8(metadata) {
                        self.told = Some(Cursor { position: ResumeFrom(position), metadata });
                    }
                }
                Err(reason) => tracing::warn!(
                    partition = %id, position, %reason,
                    "the metadata of the committed offset says nothing to us: what lies beyond it \
                     is handled again"
                ),
            }
        }
        self.inherited = Some(inherited);
    }

    /// Whether records may be taken in.
    pub fn is_ready(&self) -> bool {
        self.inherited.is_some()
    }

    /// The record that waits until all before it are finished.
    pub fn take_held(&mut self) -> Option<Event> {
        self.held.take()
    }

    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Takes in a record. `None` where that has to wait, and where it is finished already.
    ///
    /// Offsets go back within an assignment only when the log itself was cut or its
    /// topic made anew. These are other records under old numbers: they must not be
    /// passed over, nor mistaken for the unfinished ones of before.
    pub fn admit(&mut self, event: Event) -> Option<Delivery> {
        let position = event.position;
        let start = ResumeFrom(position);
        self.length = None;
        let inherited = self.inherited.get_or_insert_default();
        let watermark = self.watermark.get_or_insert_with(|| {
            tracing::info!(
                topic = &*event.topic,
                partition = event.partition,
                position,
                "partition begins"
            );
            Watermark::new(start)
        });
        let back = position < inherited.from;
        if !watermark.deliver(position) {
            if watermark.open() > 0 {
                self.held = Some(event);
                return None;
            }
            tracing::warn!(
                topic = &*event.topic,
                partition = event.partition,
                position,
                expected = watermark.resume_from().0,
                "positions went back: the log was cut or the topic made anew; going on from there"
            );
            *watermark = Watermark::new(start);
            watermark.deliver(position);
            *inherited = Inherited::default();
            self.told = None;
        }
        if back && !inherited.finished.is_empty() {
            tracing::warn!(
                topic = &*event.topic,
                partition = event.partition,
                position,
                committed = inherited.from,
                "reading begins before the committed position: what was finished beyond that is not \
                 passed over"
            );
            *inherited = Inherited::default();
        }
        if inherited.meet(position) {
            watermark.finish(position);
            return None;
        }
        Some(Delivery { token: AckToken(position), event, redeliveries: 0 })
    }

    /// Notes that a delivery is terminal; `false` where it was not open.
    pub fn finish(&mut self, token: AckToken) -> bool {
        self.length = None;
        self.watermark.as_mut().is_some_and(|w| w.finish(token.0))
    }

    /// Deliveries that are not terminal.
    pub fn open(&self) -> usize {
        self.watermark.as_ref().map_or(0, Watermark::open)
    }

    /// What would be committed if `tokens` were finished too, and which of them are open.
    pub fn preview(&self, tokens: impl Iterator<Item = AckToken>) -> (Option<Cursor>, Vec<bool>) {
        let mut watermark = self.watermark.clone();
        let open = tokens.map(|t| watermark.as_mut().is_some_and(|w| w.finish(t.0))).collect();
        (watermark.map(|w| self.cursor_of(&w, metadata::encode)), open)
    }

    /// What is to be committed now. Whatever was handed over before may not have
    /// reached the broker, and at the end nobody would ask again.
    pub fn cursor(&self) -> Option<Cursor> {
        self.watermark.as_ref().map(|w| self.cursor_of(w, metadata::fitting))
    }

    fn cursor_of(&self, watermark: &Watermark, encode: fn(u64, &[(u64, u64)]) -> String) -> Cursor {
        let position = watermark.resume_from();
        Cursor { position, metadata: encode(position.0, &self.finished(watermark)) }
    }

    /// Everything finished beyond the watermark.
    fn finished(&self, watermark: &Watermark) -> Ranges {
        let mut finished = watermark.finished_ahead();
        let inherited = self.inherited.iter().flat_map(|i| &i.finished);
        inherited.for_each(|&(start, end)| metadata::push(&mut finished, start, end));
        finished
    }

    /// The cursor, where it differs from what was told last.
    pub fn moved(&self) -> Option<Cursor> {
        self.cursor().filter(|cursor| self.told.as_ref() != Some(cursor))
    }

    /// As [`moved`](Self::moved), and taken as told; with it goes whether the position
    /// stands still and only the metadata moved. With `again`, metadata are told once more
    /// though they did not move.
    pub fn next(&mut self, again: bool) -> Option<(Cursor, bool)> {
        let cursor = self.cursor()?;
        let told = self.told.replace(cursor.clone());
        let moved = told.as_ref() != Some(&cursor);
        let stands = told.is_some_and(|told| told.position == cursor.position);
        (moved || (again && !cursor.metadata.is_empty())).then_some((cursor, stands))
    }

    /// Takes note of what was handed over for committing.
    pub fn tell(&mut self, told: Option<Cursor>) {
        self.told = told;
    }

    /// How full the commit metadata is.
    pub fn fill(&mut self) -> f64 {
        let Some(watermark) = &self.watermark else { return 0.0 };
        let length = self.length.unwrap_or_else(|| {
            metadata::encode(watermark.resume_from().0, &self.finished(watermark)).len()
        });
        self.length = Some(length);
        metadata::fill(length)
    }

    /// Whether nothing new may be taken in until some of the open events are finished.
    pub fn is_full(&mut self) -> bool {
        // reading again what lies among the inherited ones adds nothing, and only this
        // can make them fewer
        self.inherited.as_ref().is_none_or(|i| i.finished.is_empty())
            // asked with each look at the queue: mostly there is no need to encode them
            && self.watermark.as_ref().is_some_and(|w| metadata::most(w.extent_ahead()) >= FULL)
            && self.fill() >= FULL
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
pub(crate) mod tests;
