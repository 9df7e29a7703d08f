//! Values with a unit or a range. Each checks itself while it is read, so that
//! the error carries the place of the value in the file.

use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};

use sandbar_core::reserved;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _},
};

/// Longest group, such that the longest name of a topic made from it is still one.
const LONGEST_GROUP: usize = 234;
/// Longest prefix of groups: a plugin's name of 128 characters fits behind it.
const LONGEST_PREFIX: usize = 100;

/// A length of time, written `250ms`, `30s`, `5m`, `7d` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A [`Period`] longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositivePeriod(pub Duration);

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// A number of bytes, written `4096`, `64KiB`, `64MiB`, `1GiB` or `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A limit that can be lifted by the word `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrUnlimited<T>(pub Option<T>);

/// Memory of one plugin instance: a [`Size`] from 64 KiB, one page, to 1 GiB, the most
/// that the host gives to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(pub u64);

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(pub f64);

/// A growth factor of at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor(pub f64);

/// Name of a topic: what Kafka allows, and so every broker that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName(pub String);

/// A topic name in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern(pub String);

/// A consumer group or cursor. Part of the names of topics that belong to it, and so
/// made of the same characters and a little shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName(pub String);

/// What all groups of an installation begin with; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPrefix(pub String);

/// Delays of at least a second, rising, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryTiers(pub Vec<Duration>);

/// A value of a plugin's `config` table. Plugins see text only, so numbers and
/// booleans are passed on as they are written.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigText(pub String);

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // may be a secret; whoever may show it knows its name
        f.write_str("..")
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = unit_text(deserializer, "a duration such as \"250ms\" or \"30s\"")?;
        humantime::parse_duration(&text).map(Self).map_err(|e| {
            de::Error::custom(format!("`{text}` is no duration: {}", lower_first(&e.to_string())))
        })
    }
}

impl<'de> Deserialize<'de> for PositivePeriod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Period::deserialize(deserializer)? {
            Period(Duration::ZERO) => Err(de::Error::custom("0 is out of range: more than 0s")),
            Period(time) => Ok(Self(time)),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is no address: write IP:PORT, such as 127.0.0.1:7070 or [::1]:7070"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = unit_text(deserializer, "a size such as \"64MiB\" or a number of bytes")?;
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is no size: write a number with B, KiB, MiB, GiB, kB, MB or GB"
            ))
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrUnlimited<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = unit_text(deserializer, "a limit, or \"unlimited\"")?;
        match text.as_str() {
            "unlimited" => Ok(Self(None)),
            _ => T::deserialize(text.into_deserializer()).map(|limit| Self(Some(limit))),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrUnlimited<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrUnlimited", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "unlimited" }, generator.subschema_for::<T>()] })
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const LEAST: u64 = 64 << 10;
        const MOST: u64 = 1 << 30;
        let Size(bytes) = Size::deserialize(deserializer)?;
        if (LEAST..=MOST).contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(de::Error::custom(format!("{bytes} bytes is out of range: 64KiB to 1GiB")))
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&value) {
            return Ok(Self(value));
        }
        Err(de::Error::custom(format!("{value} is out of range: 0 to 1")))
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if value.is_finite() && value >= 1.0 {
            return Ok(Self(value));
        }
        Err(de::Error::custom(format!("{value} is out of range: 1 or more")))
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked_topic(String::deserialize(deserializer)?, "").map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for TopicPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl TopicPattern {
    /// The pattern, if it is one.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(pattern: String) -> Result<Self, String> {
        checked_topic(pattern, "*").map(Self)
    }
}

fn checked_topic(topic: String, also: &str) -> Result<String, String> {
    if reserved::is_reserved(&topic) {
        // who could write there could hand events to any plugin
        return Err(format!(
            "`{topic}` is reserved: topics of this name carry events between runtime and broker"
        ));
    }
    checked_name("topic name", topic, 249, also)
}

/// `name`, if it is not empty, not longer than `most` characters, and made of what a
/// topic's name may hold, or of `also`.
fn checked_name(what: &str, name: String, most: usize, also: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || also.contains(c);
    let reason = if name.is_empty() {
        format!("a {what} must not be empty")
    } else if name.len() > most {
        format!("a {what} has at most {most} characters, this one {}", name.len())
    } else if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        format!(
            "`{name}` is no {what}: {bad:?} is not allowed, only letters, digits, `.`, `_`, `-`"
        )
    } else {
        return Ok(name);
    };
    Err(reason)
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        checked_name("group", name, LONGEST_GROUP, "").map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for GroupPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let prefix = String::deserialize(deserializer)?;
        if prefix.is_empty() {
            return Ok(Self(prefix));
        }
        checked_name("group prefix", prefix, LONGEST_PREFIX, "")
            .map(Self)
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RetryTiers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tiers: Vec<_> = Vec::<Period>::deserialize(deserializer)?.iter().map(|p| p.0).collect();
        let reason = if tiers.is_empty() {
            "no retry tier: name at least one delay, such as \"30s\"".to_owned()
        } else if let Some(short) = tiers.iter().find(|t| **t < Duration::from_secs(1)) {
            format!(
                "retry tier {} is too short: a topic is worth it from 1s on, shorter delays wait in memory",
                humantime::format_duration(*short)
            )
        // their topics are named by milliseconds
        } else if let Some(pair) = tiers.windows(2).find(|p| p[0].as_millis() >= p[1].as_millis()) {
            let [before, tier] = [pair[0], pair[1]].map(humantime::format_duration);
            format!("retry tier {tier} stands behind {before}: write each once, from short to long")
        } else {
            return Ok(Self(tiers));
        };
        Err(de::Error::custom(reason))
    }
}

impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ConfigText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<ConfigText, E> {
                Ok(ConfigText(v.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<ConfigText, E> {
                Ok(ConfigText(v.to_string()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<ConfigText, E> {
                Ok(ConfigText(v.to_string()))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<ConfigText, E> {
                Ok(ConfigText(v.to_string()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<ConfigText, E> {
                Ok(ConfigText(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Text of a value with a unit; a bare number is passed on as its digits.
fn unit_text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    struct Visitor(&'static str);
    impl de::Visitor<'_> for Visitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, v: &str) -> Result<String, E> {
            Ok(v.to_owned())
        }
        fn visit_i64<E: de::Error>(self, v: i64) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_u64<E: de::Error>(self, v: u64) -> Result<String, E> {
            Ok(v.to_string())
        }
    }
    deserializer.deserialize_any(Visitor(expected))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

macro_rules! schema {
    ($($type:ident => $schema:tt),* $(,)?) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    Period => { "type": "string", "description": "A duration such as 250ms, 30s, 5m, 7d.", "examples": ["250ms", "30s", "7d"] },
    PositivePeriod => { "type": "string", "description": "A duration such as 250ms, 30s, 5m, 7d.", "examples": ["250ms", "30s"] },
    Address => { "type": "string", "examples": ["127.0.0.1:7070", "[::1]:7070"] },
    Size => { "type": ["string", "integer"], "minimum": 0, "description": "A size such as 64MiB, or a number of bytes.", "examples": ["64MiB", "1GiB", 4096] },
    MemorySize => { "type": ["string", "integer"], "minimum": 65536, "maximum": 1073741824, "description": "A size from 64KiB to 1GiB.", "examples": ["64MiB"] },
    Fraction => { "type": "number", "minimum": 0, "maximum": 1 },
    Factor => { "type": "number", "minimum": 1 },
    TopicName => { "type": "string", "minLength": 1, "maxLength": 249 },
    TopicPattern => { "type": "string", "minLength": 1, "maxLength": 249, "description": "A topic name, or a glob with `*`." },
    GroupName => { "type": "string", "minLength": 1, "maxLength": 234, "pattern": "^[A-Za-z0-9._-]+$" },
    GroupPrefix => { "type": "string", "maxLength": 100, "pattern": "^[A-Za-z0-9._-]*$" },
    RetryTiers => { "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": "string", "examples": ["30s"] }, "description": "Durations of at least 1s, from short to long.", "examples": [["5s", "30s", "5m"]] },
    ConfigText => { "type": ["string", "number", "boolean"], "description": "Passed to the plugin as text." },
}
