//! Texts and bytes that are parts of what the host handed over, or the plugin's own.

use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::{Deref, Range},
    str,
    sync::Arc,
};

/// Bytes of an event. They are read as a `[u8]`, and made from anything that holds bytes:
/// `Vec<u8>`, `&[u8]`, `String`, `&str`, ...
///
/// Those of a delivered event are mostly parts of one buffer that it shares with others:
/// to clone them, or to move them into an [`Outgoing`](crate::Outgoing), copies nothing. To
/// keep a few of them for long, keep [`to_vec`](slice::to_vec), which frees the rest.
#[derive(Clone)]
pub struct Bytes(Inner);

#[derive(Clone)]
enum Inner {
    Own(Vec<u8>),
    #[allow(dead_code, reason = "frames arrive in plugins only")]
    Part {
        whole: Arc<Vec<u8>>,
        range: Range<usize>,
    },
}

impl Bytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(Inner::Own(Vec::new()))
    }

    /// `part` of `whole`, without a copy.
    ///
    /// # Panics
    /// Where `part` does not lie in `whole`.
    #[cfg(any(target_arch = "wasm32", test))]
    pub(crate) fn part(whole: &Arc<Vec<u8>>, part: &[u8]) -> Self {
        if part.is_empty() {
            return Self::new();
        }
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        let range = start..start.saturating_add(part.len());
        assert!(range.end <= whole.len(), "a part lies in its whole");
        Self(Inner::Part { whole: Arc::clone(whole), range })
    }

    fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Inner::Own(bytes) => bytes,
            Inner::Part { whole, range } => &whole[range.clone()],
        }
    }

    fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Inner::Own(bytes) => bytes,
            Inner::Part { whole, range } => whole[range].to_vec(),
        }
    }
}

/// A text of an event. It is read as a `str`, and made from `String`, `&str` and the like.
/// For the rest see [`Bytes`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
// invariant: UTF-8
pub struct Text(Bytes);

impl Text {
    /// `part` of `whole`, without a copy.
    ///
    /// # Panics
    /// Where `part` does not lie in `whole`.
    #[cfg(any(target_arch = "wasm32", test))]
    pub(crate) fn part(whole: &Arc<Vec<u8>>, part: &str) -> Self {
        Self(Bytes::part(whole, part.as_bytes()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Deref for Text {
    type Target = str;

    #[allow(unsafe_code, reason = "to check each time would cost more than to copy")]
    fn deref(&self) -> &str {
        // SAFETY: made from `String` or `str` only, and never changed
        unsafe { str::from_utf8_unchecked(&self.0) }
    }
}

macro_rules! reads_as {
    ($($type:ty: $target:ty;)*) => {$(
        impl AsRef<$target> for $type {
            fn as_ref(&self) -> &$target {
                self
            }
        }

        impl Borrow<$target> for $type {
            fn borrow(&self) -> &$target {
                self
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl PartialEq<$target> for $type {
            fn eq(&self, other: &$target) -> bool {
                **self == *other
            }
        }

        impl PartialEq<&$target> for $type {
            fn eq(&self, other: &&$target) -> bool {
                **self == **other
            }
        }
    )*};
}

reads_as! { Bytes: [u8]; Text: str; }

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq<Vec<u8>> for Bytes {
    fn eq(&self, other: &Vec<u8>) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Bytes {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Bytes {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

macro_rules! bytes_from {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> From<$type> for Bytes {
            fn from(bytes: $type) -> Self {
                Self(Inner::Own(bytes.into()))
            }
        }
    )*};
}

bytes_from! {
    [] Vec<u8>;
    [] &[u8];
    [const N: usize] [u8; N];
    [const N: usize] &[u8; N];
    [] Box<[u8]>;
    [] Cow<'_, [u8]>;
    [] String;
    [] &str;
}

impl From<&String> for Bytes {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Cow<'_, str>> for Bytes {
    fn from(text: Cow<'_, str>) -> Self {
        text.into_owned().into()
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.into_vec()
    }
}

impl From<Text> for Vec<u8> {
    fn from(text: Text) -> Self {
        text.0.into_vec()
    }
}

macro_rules! text_from {
    ($($type:ty),*) => {$(
        impl From<$type> for Text {
            fn from(text: $type) -> Self {
                Self(Bytes::from(text))
            }
        }
    )*};
}

text_from!(String, &str, &String, Cow<'_, str>);

impl From<Text> for String {
    #[allow(unsafe_code, reason = "to check would cost as much as to copy")]
    fn from(text: Text) -> Self {
        // SAFETY: made from `String` or `str` only, and never changed
        unsafe { Self::from_utf8_unchecked(text.0.into_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_no_copy_and_keeps_its_whole() {
        let whole = Arc::new(b"one two".to_vec());
        let (one, two) = (Bytes::part(&whole, &whole[..3]), Bytes::part(&whole, &whole[4..]));
        assert_eq!((&*one, &*two), (&b"one"[..], &b"two"[..]));
        assert!(whole.as_ptr_range().contains(&one.clone().as_ptr()));
        assert_eq!(Bytes::part(&whole, &whole[7..]), Bytes::new());
        drop(whole);
        assert_eq!(Vec::from(two), b"two");
    }

    #[test]
    #[should_panic(expected = "a part lies in its whole")]
    fn what_lies_elsewhere_is_no_part() {
        Bytes::part(&Arc::new(vec![0; 8]), &[1, 2]);
    }

    #[test]
    fn texts_and_bytes_are_the_same_wherever_they_come_from() {
        let whole = Arc::new("größe".as_bytes().to_vec());
        let part = Text::part(&whole, str::from_utf8(&whole[..4]).unwrap());
        assert_eq!(part, "grö");
        assert_eq!(part, Text::from("grö"));
        assert_eq!(format!("{part} {part:?}"), "grö \"grö\"");
        assert_eq!(String::from(part.clone()), "grö");
        let all = [
            Bytes::from(part.clone()),
            Bytes::from("grö"),
            Bytes::from(String::from("grö")),
            Bytes::from("grö".as_bytes()),
            Bytes::from(Cow::Borrowed("grö")),
            Bytes::from(Vec::from(part)),
        ];
        assert!(all.windows(2).all(|two| two[0] == two[1] && two[0].cmp(&two[1]).is_eq()));
    }
}
