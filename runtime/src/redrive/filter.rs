//! Which dead letters are meant.

use std::time::Duration;

use sandbar_core::ErrorClass;
use serde::{Deserialize, Serialize};

use super::{Expression, Letter};
use crate::{config::suggestion, event_json::BytesJson};

/// What is asked of a letter, as written. A letter has to meet all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Criteria {
    /// The plugin that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Kind of the failure, see [`ErrorClass`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Code of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Key of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<BytesJson>,
    /// In its topic for longer than this, such as `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// In its topic for less than this, such as `2d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// A CEL expression that holds.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// Checked [`Criteria`].
#[derive(Debug, Default)]
pub struct Filter {
    criteria: Criteria,
    older_ms: Option<u64>,
    newer_ms: Option<u64>,
    expression: Option<Expression>,
}

/// Whether a letter is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Not yet: it has not been there for long enough, and nor have those after it.
    TooYoung,
    /// It is not, because the expression does not apply to it, and why.
    Unclear(String),
}

impl Filter {
    /// Checks `criteria`.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn new(criteria: Criteria) -> Result<Self, String> {
        if let Some(class) = &criteria.class {
            let known = ErrorClass::ALL.map(ErrorClass::as_str);
            if !known.contains(&class.as_str()) {
                return Err(format!(
                    "there is no error class `{class}`; {}",
                    suggestion(class, known)
                ));
            }
        }
        let expression = criteria.expression.as_deref().map(Expression::new).transpose();
        Ok(Self {
            older_ms: criteria.older_than.as_deref().map(age).transpose()?,
            newer_ms: criteria.newer_than.as_deref().map(age).transpose()?,
            expression: expression.map_err(|why| format!("the expression is wrong: {why}"))?,
            criteria,
        })
    }

    /// What it was made from.
    pub fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// Whether `letter` is meant, the time being `now_ms`.
    pub fn check(&self, letter: &Letter, now_ms: u64) -> Match {
        let Letter { event, says } = letter;
        let age = now_ms.saturating_sub(event.timestamp_ms);
        // first of all: the others must not be judged, and passed over, before their time
        if self.older_ms.is_some_and(|least| age <= least) {
            return Match::TooYoung;
        }
        let Criteria { plugin, version, class, code, key, .. } = &self.criteria;
        let differs =
            |asked: &Option<String>, is: Option<&str>| asked.is_some() && asked.as_deref() != is;
        if self.newer_ms.is_some_and(|most| age >= most)
            || differs(plugin, Some(&says.plugin))
            || differs(version, says.plugin_version.as_deref())
            || differs(class, Some(&says.error_class))
            || differs(code, Some(&says.error_code))
            || key.as_ref().is_some_and(|key| event.key.as_ref() != Some(&key.0))
        {
            return Match::No;
        }
        match self.expression.as_ref().map(|e| e.holds(letter, now_ms)) {
            None | Some(Ok(true)) => Match::Yes,
            Some(Ok(false)) => Match::No,
            Some(Err(why)) => Match::Unclear(why),
        }
    }
}

/// An age in milliseconds.
pub(super) fn age(text: &str) -> Result<u64, String> {
    let age: Duration = humantime::parse_duration(text)
        .map_err(|e| format!("`{text}` is no age such as 90s, 1h or 7d: {e}"))?;
    u64::try_from(age.as_millis()).map_err(|_| format!("`{text}` is too long an age"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::testing;

    fn check(criteria: Criteria) -> Match {
        let letter = testing::letter(b"k", b"{\"n\": 1}", "charge", "declined");
        Filter::new(criteria).expect("valid").check(&letter, 1_060_000)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn d4_a_letter_has_to_meet_every_criterion() {
        let all = || Criteria {
            plugin: some("charge"),
            version: some("1.0.0"),
            class: some("handler"),
            code: some("declined"),
            key: Some(BytesJson("k".into())),
            older_than: some("59s"),
            newer_than: some("61s"),
            expression: some("payload.n == 1"),
        };
        assert_eq!(check(Criteria::default()), Match::Yes);
        assert_eq!(check(all()), Match::Yes);
        for (other, expected) in [
            (Criteria { plugin: some("x"), ..all() }, Match::No),
            (Criteria { version: some("1.0.1"), ..all() }, Match::No),
            (Criteria { class: some("trap"), ..all() }, Match::No),
            (Criteria { code: some("stolen"), ..all() }, Match::No),
            (Criteria { key: Some(BytesJson("K".into())), ..all() }, Match::No),
            (Criteria { newer_than: some("60s"), ..all() }, Match::No),
            (Criteria { older_than: some("60s"), ..all() }, Match::TooYoung),
            (Criteria { older_than: some("1h"), plugin: some("x"), ..all() }, Match::TooYoung),
            (Criteria { expression: some("payload.n == 2"), ..all() }, Match::No),
        ] {
            assert_eq!(check(other.clone()), expected, "{other:?}");
        }
        assert!(matches!(
            check(Criteria { expression: some("payload.m == 2"), ..all() }),
            Match::Unclear(why) if why.contains('m')
        ));
    }

    #[test]
    fn d4_wrong_criteria_are_refused_before_anything_is_read() {
        let error = |criteria| Filter::new(criteria).unwrap_err();
        let class = error(Criteria { class: some("handlr"), ..Criteria::default() });
        assert_eq!(class, "there is no error class `handlr`; did you mean `handler`?");
        let age = error(Criteria { older_than: some("soon"), ..Criteria::default() });
        assert!(age.contains("`soon`"), "{age}");
        let expression = error(Criteria { expression: some("1 +"), ..Criteria::default() });
        assert!(expression.contains("line 1, column"), "{expression}");
    }
}
