//! What both kinds of frame are read with.

use std::{fmt, str};

use crate::{ABSENT, VERSION};

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The first byte is another version, or there is none.
    Version(Option<u8>),
    /// The frame ends in the middle of this.
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Where it begins, in bytes from the frame's start.
        at: usize,
    },
    /// A text is no UTF-8.
    Text {
        /// Which text.
        what: &'static str,
        /// Where it begins, in bytes from the frame's start.
        at: usize,
    },
    /// A byte that stands for one of several cases stands for none.
    Case {
        /// Which byte.
        what: &'static str,
        /// Its value.
        value: u8,
        /// Where it is, in bytes from the frame's start.
        at: usize,
    },
    /// There is something behind the last item.
    Trailing {
        /// Number of bytes.
        bytes: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(Some(version)) => {
                write!(f, "a frame of version {version}, version {VERSION} was expected")
            }
            Self::Version(None) => f.write_str("an empty frame"),
            Self::Truncated { what, at } => {
                write!(f, "the frame ends within the {what} at byte {at}")
            }
            Self::Text { what, at } => write!(f, "the {what} at byte {at} is no UTF-8"),
            Self::Case { what, value, at } => write!(f, "{value} at byte {at} is no {what}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow the last item"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A frame that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes of the whole frame.
    size: usize,
    /// Items that were not read.
    items: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn open(frame: &'a [u8]) -> Result<Self, Malformed> {
        let (&version, rest) = frame.split_first().ok_or(Malformed::Version(None))?;
        if version != VERSION {
            return Err(Malformed::Version(Some(version)));
        }
        let mut reader = Self { rest, size: frame.len(), items: 0 };
        reader.items = reader.u32("number of items")? as usize;
        match reader.rest.len() {
            bytes @ 1.. if reader.items == 0 => Err(Malformed::Trailing { bytes }),
            _ => Ok(reader),
        }
    }

    /// Items that are still to be read, by what the frame says.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Reads the next item with `read`; after the last one, or after an error, `None`.
    pub(crate) fn item<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        self.items = self.items.checked_sub(1)?;
        let item = read(self).and_then(|item| match self.rest.len() {
            bytes @ 1.. if self.items == 0 => Err(Malformed::Trailing { bytes }),
            _ => Ok(item),
        });
        if item.is_err() {
            self.items = 0;
        }
        Some(item)
    }

    fn at(&self) -> usize {
        self.size - self.rest.len()
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let at = self.at();
        let (value, rest) =
            self.rest.split_first_chunk().ok_or(Malformed::Truncated { what, at })?;
        self.rest = rest;
        Ok(*value)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.take(what).map(|[value]| value)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.take(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.take(what).map(u64::from_le_bytes)
    }

    /// The error for a byte that was just read.
    pub(crate) fn no_case(&self, what: &'static str, value: u8) -> Malformed {
        Malformed::Case { what, value, at: self.at() - 1 }
    }

    pub(crate) fn optional(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let at = self.at();
        let length = self.u32(what)?;
        if length == ABSENT {
            return Ok(None);
        }
        let (value, rest) =
            self.rest.split_at_checked(length as usize).ok_or(Malformed::Truncated { what, at })?;
        self.rest = rest;
        Ok(Some(value))
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let at = self.at();
        // no frame is that long
        self.optional(what)?.ok_or(Malformed::Truncated { what, at })
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let at = self.at();
        str::from_utf8(self.bytes(what)?).map_err(|_| Malformed::Text { what, at })
    }

    pub(crate) fn optional_text(
        &mut self,
        what: &'static str,
    ) -> Result<Option<&'a str>, Malformed> {
        let at = self.at();
        let text = self.optional(what)?.map(str::from_utf8).transpose();
        text.map_err(|_| Malformed::Text { what, at })
    }

    /// As many as the frame says, each of at least `least` bytes.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let at = self.at();
        let count = self.u32(what)? as usize;
        // what cannot be there must not be reserved for
        if count > self.rest.len() / least {
            return Err(Malformed::Truncated { what, at });
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    pub(crate) fn headers<H>(
        &mut self,
        mut header: impl FnMut(&'a str, &'a [u8]) -> H,
    ) -> Result<Vec<H>, Malformed> {
        self.list("headers", 8, |r| Ok(header(r.text("header name")?, r.bytes("header value")?)))
    }

    pub(crate) fn attributes<A>(
        &mut self,
        mut attribute: impl FnMut(&'a str, &'a str) -> A,
    ) -> Result<Vec<A>, Malformed> {
        self.list("attributes", 8, |r| {
            Ok(attribute(r.text("attribute name")?, r.text("attribute value")?))
        })
    }
}
