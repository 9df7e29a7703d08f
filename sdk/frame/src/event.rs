//! Frames of events: what goes into a plugin.

use crate::{Malformed, read::Reader, write::Writer};

/// One event. `H` and `A` hold its headers and attributes: written from anything that
/// yields pairs, read into vectors of whatever the reader makes of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a, H, A> {
    /// Topic, subject, queue or stream.
    pub topic: &'a str,
    /// Partition or shard.
    pub partition: u32,
    /// Offset or stream sequence within the partition.
    pub position: u64,
    /// Partitioning or routing key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Headers in the broker's order.
    pub headers: H,
    /// Broker timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// 1 on first delivery, +1 on each retry.
    pub attempt: u32,
    /// CloudEvents context attributes by bare name.
    pub attributes: A,
}

/// A frame of events that is being written.
#[derive(Debug, Clone)]
pub struct EventsWriter(Writer);

impl EventsWriter {
    /// With room for so many bytes of events; it grows where they need more.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Writer::with_capacity(bytes))
    }

    /// Adds an event.
    ///
    /// # Panics
    /// Where a part of it is 4 GiB long or longer.
    pub fn push<'a, H, A>(&mut self, event: Event<'_, H, A>)
    where
        H: IntoIterator<Item = (&'a str, &'a [u8]), IntoIter: ExactSizeIterator>,
        A: IntoIterator<Item = (&'a str, &'a str), IntoIter: ExactSizeIterator>,
    {
        let Self(frame) = self;
        frame.item();
        frame.u64(event.position);
        frame.u64(event.timestamp_ms);
        frame.u32(event.partition);
        frame.u32(event.attempt);
        frame.bytes(event.topic.as_bytes());
        frame.optional(event.key);
        frame.optional(event.payload);
        frame.pairs(event.headers);
        frame.pairs(event.attributes.into_iter().map(|(n, v)| (n, v.as_bytes())));
    }

    /// The frame.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// A frame of events that is being read.
#[derive(Debug, Clone)]
pub struct Events<'a>(Reader<'a>);

impl<'a> Events<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes do not begin as a frame does.
    pub fn open(frame: &'a [u8]) -> Result<Self, Malformed> {
        Reader::open(frame).map(Self)
    }

    /// Number of events that are still to come, by what the frame says: not to be
    /// trusted before they are read.
    pub fn remaining(&self) -> usize {
        self.0.items()
    }

    /// The next event, with what `header` and `attribute` make of names and values.
    /// `None` after the last one, and after an error.
    ///
    /// # Errors
    /// [`Malformed`], which says what is wrong and where.
    #[expect(clippy::type_complexity, reason = "an event with the caller's headers and attributes")]
    pub fn next<H, A>(
        &mut self,
        header: impl FnMut(&'a str, &'a [u8]) -> H,
        attribute: impl FnMut(&'a str, &'a str) -> A,
    ) -> Option<Result<Event<'a, Vec<H>, Vec<A>>, Malformed>> {
        self.0.item(|frame| {
            Ok(Event {
                position: frame.u64("position")?,
                timestamp_ms: frame.u64("timestamp")?,
                partition: frame.u32("partition")?,
                attempt: frame.u32("attempt")?,
                topic: frame.text("topic")?,
                key: frame.optional("key")?,
                payload: frame.optional("payload")?,
                headers: frame.headers(header)?,
                attributes: frame.attributes(attribute)?,
            })
        })
    }
}
