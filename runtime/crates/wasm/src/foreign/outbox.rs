//! What a foreign component publishes in one attempt, and what it holds of the host's memory.

use sandbar_core::Outgoing;

use crate::{Limits, convert, limits::LimitHit};

/// Messages of one attempt. They are published if it succeeds, as a plugin's returned events
/// are, and vanish with it if it fails.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    outputs: Vec<Outgoing>,
    bytes: usize,
    most_records: usize,
    most_bytes: usize,
    /// Bytes of messages that the component has handles to.
    held: usize,
    /// Of those, bytes of the event itself.
    given: usize,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most_records: limits.output_records,
            most_bytes: limits.output_bytes,
            ..Self::default()
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.outputs.clear();
        self.bytes = 0;
        self.given = 0;
    }

    /// The attempt is over: what was published in it.
    pub(super) fn end(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outputs)
    }

    /// Publishes, if the attempt succeeds.
    ///
    /// # Errors
    /// [`LimitHit`], which ends the attempt: more than it may.
    pub(super) fn push(&mut self, output: Outgoing) -> Result<(), LimitHit> {
        convert::check_shape(&output.topic, output.headers.len() + output.attributes.len())?;
        let returned = self.outputs.len() + 1;
        if returned > self.most_records {
            return Err(LimitHit::OutputRecords { returned, limit: self.most_records });
        }
        let attributes = output.attributes.iter().map(|(name, value)| name.len() + value.len());
        self.bytes += output.topic.len() + output.size() + attributes.sum::<usize>();
        if self.bytes > self.most_bytes {
            return Err(LimitHit::OutputBytes { returned: self.bytes, limit: self.most_bytes });
        }
        self.outputs.push(output);
        Ok(())
    }

    /// The host itself makes a message of `bytes`.
    pub(super) fn give(&mut self, bytes: usize) {
        self.held += bytes;
        self.given += bytes;
    }

    /// A message grows, or shrinks, or is new (`before` = 0) or gone (`after` = 0).
    ///
    /// # Errors
    /// [`LimitHit`], which ends the attempt: the messages that the component holds are more
    /// than it could publish.
    pub(super) fn resize(&mut self, before: usize, after: usize) -> Result<(), LimitHit> {
        self.held = (self.held + after).saturating_sub(before);
        let most = self.most_bytes.saturating_mul(2).saturating_add(self.given);
        if after > before && self.held > most {
            return Err(LimitHit::OutputFlood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new(&Limits { output_records: 2, output_bytes: 10, ..Limits::default() })
    }

    #[test]
    fn s2_what_is_published_counts_until_the_attempt_is_over() {
        let mut outbox = outbox();
        outbox.begin();
        outbox.push(Outgoing::new("t", "1234")).unwrap();
        let refused = outbox.push(Outgoing::new("t", "12345"));
        assert_eq!(refused, Err(LimitHit::OutputBytes { returned: 11, limit: 10 }));
        outbox.begin();
        outbox.push(Outgoing::new("t", "")).unwrap();
        outbox.push(Outgoing::new("t", "")).unwrap();
        let refused = outbox.push(Outgoing::new("t", ""));
        assert_eq!(refused, Err(LimitHit::OutputRecords { returned: 3, limit: 2 }));
        assert_eq!(outbox.end().len(), 2);
        assert!(outbox.end().is_empty());
    }

    #[test]
    fn s2_messages_that_are_held_count_as_long_as_they_are() {
        let mut outbox = outbox();
        outbox.begin();
        outbox.give(1000);
        outbox.resize(0, 20).unwrap();
        assert_eq!(outbox.resize(0, 1), Err(LimitHit::OutputFlood));
        outbox.resize(1, 0).unwrap();
        outbox.resize(1000, 0).unwrap();
        outbox.resize(20, 0).unwrap();
        // the event of the attempt before that was never dropped is the component's own now
        outbox.give(1000);
        outbox.begin();
        assert_eq!(outbox.resize(0, 1), Err(LimitHit::OutputFlood));
    }
}
