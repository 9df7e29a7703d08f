//! Frames of outcomes: what comes back from a plugin.

use crate::{Malformed, read::Reader, write::Writer};

/// An event to be published. `H` and `A` as in [`Event`](crate::Event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a, H, A> {
    /// Name of a connection; `None` is the plugin's default output.
    pub connection: Option<&'a str>,
    /// Destination topic.
    pub topic: &'a str,
    /// Partitioning or routing key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Headers, published as given.
    pub headers: H,
    /// CloudEvents context attributes by bare name.
    pub attributes: A,
}

/// Why an event was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<'a> {
    /// Deliver again.
    Retry {
        /// For people.
        reason: &'a str,
        /// Overrides the policy's next delay, milliseconds.
        delay_ms: Option<u64>,
    },
    /// Never retry.
    Reject {
        /// Stable code by which dead letters are grouped.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
    /// Not for this plugin.
    Skip {
        /// For people.
        reason: &'a str,
    },
    /// A dependency is down: pause.
    Defer {
        /// For how long, milliseconds.
        pause_ms: u64,
    },
}

/// What becomes of one event, in the order of the frame of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a, O> {
    /// Events to publish.
    Handled(O),
    /// Why it was not processed.
    Failed(Failure<'a>),
}

const HANDLED: u8 = 0;
const RETRY: u8 = 1;
const REJECT: u8 = 2;
const SKIP: u8 = 3;
const DEFER: u8 = 4;

/// Bytes of an outgoing event with nothing in it.
const LEAST_OUTGOING: usize = 24;

/// A frame of outcomes that is being written.
#[derive(Debug, Clone)]
pub struct OutcomesWriter(Writer);

impl OutcomesWriter {
    /// With room for so many bytes of outcomes; it grows where they need more.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Writer::with_capacity(bytes))
    }

    /// The event was handled; these are to be published.
    ///
    /// # Panics
    /// Where a part of one is 4 GiB long or longer.
    pub fn handled<'a, O, H, A>(&mut self, outputs: O)
    where
        O: IntoIterator<Item = Outgoing<'a, H, A>, IntoIter: ExactSizeIterator>,
        H: IntoIterator<Item = (&'a str, &'a [u8]), IntoIter: ExactSizeIterator>,
        A: IntoIterator<Item = (&'a str, &'a str), IntoIter: ExactSizeIterator>,
    {
        let Self(frame) = self;
        let outputs = outputs.into_iter();
        frame.item();
        frame.u8(HANDLED);
        frame.u32(u32::try_from(outputs.len()).expect("nobody returns four billion events"));
        for output in outputs {
            frame.optional(output.connection.map(str::as_bytes));
            frame.bytes(output.topic.as_bytes());
            frame.optional(output.key);
            frame.optional(output.payload);
            frame.pairs(output.headers);
            frame.pairs(output.attributes.into_iter().map(|(n, v)| (n, v.as_bytes())));
        }
    }

    /// The event was not processed.
    ///
    /// # Panics
    /// As [`handled`](Self::handled).
    pub fn failed(&mut self, failure: Failure<'_>) {
        let Self(frame) = self;
        frame.item();
        match failure {
            Failure::Retry { reason, delay_ms } => {
                frame.u8(RETRY);
                frame.bytes(reason.as_bytes());
                frame.u8(delay_ms.is_some().into());
                frame.u64(delay_ms.unwrap_or(0));
            }
            Failure::Reject { code, message } => {
                frame.u8(REJECT);
                frame.bytes(code.as_bytes());
                frame.bytes(message.as_bytes());
            }
            Failure::Skip { reason } => {
                frame.u8(SKIP);
                frame.bytes(reason.as_bytes());
            }
            Failure::Defer { pause_ms } => {
                frame.u8(DEFER);
                frame.u64(pause_ms);
            }
        }
    }

    /// The frame.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// A frame of outcomes that is being read.
#[derive(Debug, Clone)]
pub struct Outcomes<'a>(Reader<'a>);

impl<'a> Outcomes<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes do not begin as a frame does.
    pub fn open(frame: &'a [u8]) -> Result<Self, Malformed> {
        Reader::open(frame).map(Self)
    }

    /// Number of outcomes that are still to come, by what the frame says: not to be
    /// trusted before they are read.
    pub fn remaining(&self) -> usize {
        self.0.items()
    }

    /// The next outcome, with what `header` and `attribute` make of names and values.
    /// `None` after the last one, and after an error.
    ///
    /// # Errors
    /// [`Malformed`], which says what is wrong and where.
    #[expect(clippy::type_complexity, reason = "a name for it would say less")]
    pub fn next<H, A>(
        &mut self,
        mut header: impl FnMut(&'a str, &'a [u8]) -> H,
        mut attribute: impl FnMut(&'a str, &'a str) -> A,
    ) -> Option<Result<Outcome<'a, Vec<Outgoing<'a, Vec<H>, Vec<A>>>>, Malformed>> {
        self.0.item(|frame| {
            let failure = match frame.u8("outcome")? {
                HANDLED => {
                    let outputs = frame.list("outputs", LEAST_OUTGOING, |frame| {
                        outgoing(frame, &mut header, &mut attribute)
                    });
                    return outputs.map(Outcome::Handled);
                }
                RETRY => {
                    let reason = frame.text("reason")?;
                    let has_delay = frame.u8("delay")?;
                    let delay = has_delay == 1;
                    if has_delay > 1 {
                        return Err(frame.no_case("delay", has_delay));
                    }
                    let ms = frame.u64("delay")?;
                    Failure::Retry { reason, delay_ms: delay.then_some(ms) }
                }
                REJECT => {
                    Failure::Reject { code: frame.text("code")?, message: frame.text("message")? }
                }
                SKIP => Failure::Skip { reason: frame.text("reason")? },
                DEFER => Failure::Defer { pause_ms: frame.u64("pause")? },
                other => return Err(frame.no_case("outcome", other)),
            };
            Ok(Outcome::Failed(failure))
        })
    }
}

fn outgoing<'a, H, A>(
    frame: &mut Reader<'a>,
    header: impl FnMut(&'a str, &'a [u8]) -> H,
    attribute: impl FnMut(&'a str, &'a str) -> A,
) -> Result<Outgoing<'a, Vec<H>, Vec<A>>, Malformed> {
    Ok(Outgoing {
        connection: frame.optional_text("connection")?,
        topic: frame.text("topic")?,
        key: frame.optional("key")?,
        payload: frame.optional("payload")?,
        headers: frame.headers(header)?,
        attributes: frame.attributes(attribute)?,
    })
}
