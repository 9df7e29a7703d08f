//! What a plugin suggests in `describe`, put into a subscription's settings.

use std::{fmt::Display, str::FromStr, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use sandbar_core::StartAt;
use sandbar_pipeline::{
    DeadLetterConfig, Dialect, OnDeadLetter, OnExhausted, Ordering, SubscriptionConfig,
};

/// Settings of a subscription that are no part of [`SubscriptionConfig`].
#[derive(Debug)]
pub(crate) struct Suggested {
    pub config: SubscriptionConfig,
    pub start: StartAt,
    pub exactly_once: bool,
}

impl Suggested {
    /// What a plugin gets that suggests nothing.
    pub(crate) fn new(plugin: &str, connection: &str) -> Self {
        Self {
            config: SubscriptionConfig::new(plugin, connection),
            start: StartAt::Earliest,
            exactly_once: false,
        }
    }

    /// Applies one option by its name in `NAME.toml`.
    pub(crate) fn apply(&mut self, key: &str, value: &str) -> Result<()> {
        self.set(key, value).with_context(|| format!("the plugin suggests `{key} = {value}`"))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let config = &mut self.config;
        match key {
            "ordering" => {
                config.ordering = one_of(
                    value,
                    &[
                        ("key", Ordering::Key),
                        ("partition", Ordering::Partition),
                        ("none", Ordering::None),
                    ],
                )?;
            }
            "start" => {
                self.start =
                    one_of(value, &[("earliest", StartAt::Earliest), ("latest", StartAt::Latest)])?;
            }
            "delivery" => {
                self.exactly_once =
                    one_of(value, &[("at-least-once", false), ("exactly-once", true)])?;
            }
            "concurrency" => config.concurrency = parse(value)?,
            "max-in-flight" => config.max_in_flight = parse(value)?,
            "retry.max-attempts" => config.retry.max_attempts = parse(value)?,
            "retry.initial-delay" => config.retry.initial_delay = duration(value)?,
            "retry.max-delay" => config.retry.max_delay = duration(value)?,
            "retry.multiplier" => config.retry.multiplier = parse(value)?,
            "retry.jitter" => config.retry.jitter = parse(value)?,
            "retry.max-age" => config.retry.max_age = duration(value)?,
            // nothing in a test moves events from topic to topic: they wait in memory
            "retry.through" => one_of(value, &[("memory", ()), ("topics", ())])?,
            "dead-letter.topic" => dead_letter(config).topic = value.into(),
            "dead-letter.dialect" => {
                dead_letter(config).dialect = one_of(
                    value,
                    &[
                        ("none", Dialect::None),
                        ("spring", Dialect::Spring),
                        ("connect", Dialect::Connect),
                        ("streams", Dialect::Streams),
                    ],
                )?;
            }
            "dead-letter.on-exhausted" => {
                config.exhausted = one_of(
                    value,
                    &[
                        ("dead-letter", OnExhausted::DeadLetter),
                        ("halt", OnExhausted::Halt),
                        ("drop", OnExhausted::Drop),
                    ],
                )?;
            }
            "dead-letter.on-dead-letter" => {
                dead_letter(config).on_dead_letter = one_of(
                    value,
                    &[("continue", OnDeadLetter::Continue), ("halt-key", OnDeadLetter::HaltKey)],
                )?;
            }
            "dedup.window" => {
                config.dedup = Some(duration(value)?).filter(|window| !window.is_zero());
            }
            "breaker.failures" => config.breaker.failures = parse(value)?,
            "breaker.pause" => {
                config.breaker.pause = duration(value)?;
                config.breaker.max_pause = config.breaker.max_pause.max(config.breaker.pause);
            }
            "breaker.max-pause" => {
                config.breaker.max_pause = duration(value)?.max(config.breaker.pause);
            }
            _ => bail!("no such setting, or one that only the operator may set"),
        }
        Ok(())
    }
}

fn dead_letter(config: &mut SubscriptionConfig) -> &mut DeadLetterConfig {
    let topic = format!("{}.dlq", config.name);
    config.dead_letter.get_or_insert_with(|| DeadLetterConfig::new(topic))
}

fn one_of<T: Copy>(value: &str, known: &[(&str, T)]) -> Result<T> {
    let found = known.iter().find(|(name, _)| *name == value).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        anyhow!("none of {}", names.join(", "))
    })
}

fn parse<T: FromStr<Err: Display>>(value: &str) -> Result<T> {
    value.parse().map_err(|error: T::Err| anyhow!("{error}"))
}

fn duration(value: &str) -> Result<Duration> {
    Ok(humantime::parse_duration(value)?)
}

#[cfg(test)]
mod tests {
    use sandbar_pipeline::Breaker;

    use super::*;

    fn suggested() -> Suggested {
        Suggested::new("p", "log")
    }

    #[test]
    fn every_setting_of_the_attribute_is_applied() {
        let mut s = suggested();
        for (key, value) in [
            ("ordering", "partition"),
            ("start", "latest"),
            ("concurrency", "3"),
            ("max-in-flight", "7"),
            ("retry.max-attempts", "2"),
            ("retry.initial-delay", "5ms"),
            ("retry.max-delay", "1m 30s"),
            ("retry.multiplier", "3"),
            ("retry.jitter", "0.5"),
            ("retry.max-age", "1h"),
            ("dead-letter.topic", "bad"),
            ("dead-letter.dialect", "spring"),
            ("dead-letter.on-exhausted", "drop"),
            ("dead-letter.on-dead-letter", "halt-key"),
            ("delivery", "exactly-once"),
            ("dedup.window", "1d"),
            ("breaker.failures", "3"),
            ("breaker.max-pause", "2s"),
            ("breaker.pause", "1m"),
            ("retry.through", "memory"),
        ] {
            s.apply(key, value).unwrap();
        }
        let Suggested { config, start, exactly_once } = s;
        assert_eq!((config.ordering, start), (Ordering::Partition, StartAt::Latest));
        assert!(exactly_once);
        assert_eq!(config.dedup, Some(Duration::from_secs(24 * 3600)));
        let minute = Duration::from_secs(60);
        assert_eq!(config.breaker, Breaker { failures: 3, pause: minute, max_pause: minute });
        assert_eq!((config.concurrency, config.max_in_flight), (3, 7));
        let retry = config.retry;
        assert_eq!((retry.max_attempts, retry.multiplier, retry.jitter), (2, 3.0, 0.5));
        let seconds =
            [retry.initial_delay, retry.max_delay, retry.max_age].map(|d| d.as_secs_f64());
        assert_eq!(seconds, [0.005, 90.0, 3600.0]);
        let dead_letter = config.dead_letter.unwrap();
        assert_eq!((&*dead_letter.topic, dead_letter.dialect), ("bad", Dialect::Spring));
        assert_eq!(dead_letter.on_dead_letter, OnDeadLetter::HaltKey);
        assert_eq!(config.exhausted, OnExhausted::Drop);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = suggested().apply("retry.max-attempts", "many").unwrap_err();
        assert_eq!(error.to_string(), "the plugin suggests `retry.max-attempts = many`");
        assert!(suggested().apply("ordering", "keys").is_err());
        for operators in ["grants", "dead-letter.max-redrives"] {
            assert!(suggested().apply(operators, "9").is_err());
        }
    }
}
