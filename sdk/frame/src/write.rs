//! What both kinds of frame are written with.

use crate::{ABSENT, VERSION};

/// Bytes before the first item: version and number of items.
const HEAD: usize = 5;

/// A frame in the making.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    items: u32,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut frame = Vec::with_capacity(HEAD + bytes);
        frame.push(VERSION);
        frame.extend_from_slice(&[0; 4]);
        Self { bytes: frame, items: 0 }
    }

    /// The next item begins.
    pub(crate) fn item(&mut self) {
        self.items += 1;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes[1..HEAD].copy_from_slice(&self.items.to_le_bytes());
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// # Panics
    /// From 4 GiB on: nothing of that length fits into a guest.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(length(value.len()));
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn optional(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(value),
            None => self.u32(ABSENT),
        }
    }

    pub(crate) fn pairs<'a, I>(&mut self, pairs: I)
    where
        I: IntoIterator<Item = (&'a str, &'a [u8]), IntoIter: ExactSizeIterator>,
    {
        let pairs = pairs.into_iter();
        self.u32(length(pairs.len()));
        for (name, value) in pairs {
            self.bytes(name.as_bytes());
            self.bytes(value);
        }
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).ok().filter(|l| *l != ABSENT).expect("nothing in a frame is 4 GiB long")
}
