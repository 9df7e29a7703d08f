//! `sandbar:events/secrets`: values that the operator grants by name, and their absence
//! from everything that people are shown.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use sandbar_core::HandlerError;
use wasmtime::component::{HasData, Linker};

use crate::{
    bindings::sandbar::events::secrets::{self, Host},
    state::State,
};

/// What stands for a secret.
const HIDDEN: &str = "[redacted]";
/// Shorter secrets are not looked for in texts: they would be found everywhere.
const SHORTEST: usize = 6;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Secrets by the names that the plugin knows them by.
pub type Secrets = BTreeMap<String, SecretValue>;

/// Takes a plugin's secrets out of what it says to people: its log, its errors, the
/// labels of its metrics. What it does to them first, such as encoding them, is not undone.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Longest first: one may be part of another.
    texts: Vec<Hidden>,
}

#[derive(PartialEq, Eq)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Redactor {
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a SecretValue>) -> Arc<Self> {
        let text = |value: &SecretValue| {
            // what is no text cannot be part of one
            let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
            (text.len() >= SHORTEST).then(|| Hidden(text.to_owned()))
        };
        let mut texts: Vec<_> = values.into_iter().filter_map(text).collect();
        texts.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        texts.dedup();
        Arc::new(Self { texts })
    }

    pub(crate) fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for Hidden(secret) in &self.texts {
            if text.contains(secret) {
                text = Cow::Owned(text.replace(secret, HIDDEN));
            }
        }
        text
    }

    pub(crate) fn clean_error(&self, error: &mut HandlerError) {
        for text in [&mut error.message, &mut error.code] {
            if let Cow::Owned(clean) = self.clean(text) {
                *text = clean;
            }
        }
    }
}

/// The secrets of one store, borrowed for one host call.
pub(crate) struct SecretsView<'a>(&'a Secrets);

struct Granted;

impl HasData for Granted {
    type Data<'a> = SecretsView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    secrets::add_to_linker::<State, Granted>(linker, |state| SecretsView(&state.facts.secrets))
}

impl Host for SecretsView<'_> {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.0.get(&name).map(|value| value.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands_in_a_text() {
        let secrets =
            ["hunter2", "hunter2-and-more", "short", "  spaced-out\n"].map(SecretValue::new);
        let redactor = Redactor::new(&secrets);
        let said = "hunter2-and-more, hunter2hunter2 and spaced-out; shorts stay";
        assert_eq!(
            redactor.clean(said),
            "[redacted], [redacted][redacted] and [redacted]; shorts stay"
        );
        assert!(matches!(redactor.clean("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn neither_a_secret_nor_who_hides_it_says_it_in_debug_output() {
        let secrets = Secrets::from([("token".into(), SecretValue::new("hunter2"))]);
        let shown = format!("{secrets:?} {:?}", Redactor::new(secrets.values()));
        assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{shown}");
    }
}
