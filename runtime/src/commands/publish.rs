//! `sandbar publish`

pub(super) mod input;
pub(super) mod line;

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;
use sandbar::pace::Pace;
use sandbar_core::{Outgoing, PublishError, Sink};
use serde::Serialize;
use tokio::time::Instant;

use self::line::LineParser;
pub(super) use self::line::header;
use super::{Failed, Global, Output, connect::open};

/// How long a broker that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Mistakes that are kept for the JSON answer.
const MAX_REPORTED: usize = 1000;

#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Topic to publish to; created if it does not exist and the connection may
    topic: String,
    /// File with one event a line; `-` or nothing: standard input
    file: Option<PathBuf>,
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
    /// Where the key is in the JSON payload, e.g. /repository/full_name
    #[arg(long, value_name = "JSON POINTER", env = "SANDBAR_PUBLISH_KEY", value_parser = line::pointer)]
    key: Option<String>,
    /// Field of the JSON payload that is the key
    #[arg(long, value_name = "NAME", env = "SANDBAR_PUBLISH_KEY_FIELD", conflicts_with = "key")]
    key_field: Option<String>,
    /// Header of every event; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", env = "SANDBAR_PUBLISH_HEADER", value_parser = line::header)]
    headers: Vec<(String, String)>,
    /// Events a second, at most
    #[arg(long, value_name = "N", env = "SANDBAR_PUBLISH_RATE")]
    rate: Option<NonZeroU32>,
    /// Publish an event without key where there is none, instead of refusing the line
    #[arg(long, env = "SANDBAR_PUBLISH_KEY_OPTIONAL")]
    key_optional: bool,
    /// Lines are payloads of any text, not JSON
    #[arg(long, env = "SANDBAR_PUBLISH_RAW", conflicts_with_all = ["key", "key_field", "envelope"])]
    raw: bool,
    /// Lines are whole events: {"key": .., "payload": .., "headers": [["name", "value"]]}, as
    /// `tail -o json` prints them
    #[arg(long, env = "SANDBAR_PUBLISH_ENVELOPE", conflicts_with_all = ["key", "key_field"])]
    envelope: bool,
    /// Stop at the first line that cannot be published
    #[arg(long, env = "SANDBAR_PUBLISH_STRICT")]
    strict: bool,
}

/// What became of the lines.
#[derive(Debug, Serialize)]
struct Summary {
    topic: String,
    connection: String,
    published: u64,
    failed: u64,
    errors: Vec<BadLine>,
}

/// A line that was not published; the first is 1.
#[derive(Debug, Serialize)]
struct BadLine {
    line: u64,
    error: String,
}

pub async fn publish(args: &PublishArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let parser = LineParser::new(args);
    // first the input: a mistyped file name should not wait for a broker
    let mut input = input::lines(args.file.as_deref())?;
    let connection = open(global, &config, args.connection.as_deref()).await?;
    connection.ensure_topics(std::slice::from_ref(&args.topic)).await?;
    let mut publisher = Publisher {
        sink: connection.sink(),
        out: global.out(),
        strict: args.strict,
        pace: args.rate.map(Pace::new),
        summary: Summary {
            topic: args.topic.clone(),
            connection: connection.name().to_owned(),
            published: 0,
            failed: 0,
            errors: Vec::new(),
        },
    };
    let mut ended = Ok(());
    while let Some(lines) = input.next().await {
        ended = match lines {
            Ok(lines) => publisher.publish(&parser, lines).await,
            Err(e) => Err(anyhow!("cannot read the input: {e}")),
        };
        if ended.is_err() {
            break;
        }
    }
    connection.close().await;
    publisher.report()?;
    ended
}

struct Publisher {
    sink: Arc<dyn Sink>,
    out: Output,
    strict: bool,
    pace: Option<Pace>,
    summary: Summary,
}

impl Publisher {
    /// Publishes some lines, in order.
    async fn publish(&mut self, parser: &LineParser, lines: Vec<input::Line>) -> Result<()> {
        let mut numbers = Vec::with_capacity(lines.len());
        let mut records = Vec::with_capacity(lines.len());
        let mut stop = None;
        for input::Line { number, text } in lines {
            match parser.event(&text) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    numbers.push(number);
                    records.push(event);
                }
                Err(error) if self.strict => {
                    stop = Some((number, error));
                    break;
                }
                Err(error) => self.refused(number, error)?,
            }
        }
        let step = self.pace.as_ref().map_or(records.len(), Pace::step).max(1);
        for (numbers, records) in numbers.chunks(step).zip(records.chunks(step)) {
            if let Some(pace) = &mut self.pace {
                pace.wait(records.len()).await;
            }
            self.publish_step(numbers, records).await?;
        }
        match stop {
            Some((number, error)) => {
                self.refused(number, error)?;
                Err(Failed.into())
            }
            None => Ok(()),
        }
    }

    async fn publish_step(&mut self, numbers: &[u64], records: &[Outgoing]) -> Result<()> {
        let results = publish_patiently(self.sink.as_ref(), records).await;
        let mut away = None;
        for (number, result) in numbers.iter().zip(results) {
            match result {
                Ok(()) => self.summary.published += 1,
                Err(PublishError::Rejected(why)) => self.refused(*number, why)?,
                Err(PublishError::Unavailable(why)) => {
                    away.get_or_insert_with(|| format!("stopped at line {number}: {why}"));
                    self.refused(*number, why)?;
                }
            }
        }
        match away {
            Some(why) => Err(anyhow!(why)),
            None if self.strict && self.summary.failed > 0 => Err(Failed.into()),
            None => Ok(()),
        }
    }

    fn refused(&mut self, line: u64, error: String) -> Result<()> {
        self.summary.failed += 1;
        if !self.out.is_json() {
            eprintln!("line {line}: {error}");
        } else if self.summary.errors.len() < MAX_REPORTED {
            self.summary.errors.push(BadLine { line, error });
        }
        Ok(())
    }

    fn report(&self) -> Result<()> {
        let Summary { topic, connection, published, failed, .. } = &self.summary;
        match self.out.is_json() {
            true => self.out.document(&self.summary)?,
            false if *failed > 0 => self.out.line(format_args!(
                "published {published} events to {topic} on {connection}, {failed} lines failed"
            ))?,
            false => {
                self.out.line(format_args!(
                    "published {published} events to {topic} on {connection}"
                ))?;
            }
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failed.into()),
        }
    }
}

/// Publishes, and again what a broker that is away did not take.
async fn publish_patiently(sink: &dyn Sink, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(100);
    let mut results = sink.publish(records).await;
    loop {
        let again: Vec<usize> = (0..results.len())
            .filter(|at| matches!(results[*at], Err(PublishError::Unavailable(_))))
            .collect();
        if again.is_empty() || Instant::now() + pause > deadline {
            return results;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
        let records: Vec<_> = again.iter().map(|at| records[*at].clone()).collect();
        for (at, result) in again.into_iter().zip(sink.publish(&records).await) {
            results[at] = result;
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Takes one more record at each call.
    #[derive(Default)]
    struct Ailing(Mutex<(usize, Vec<Outgoing>)>);

    #[async_trait::async_trait]
    impl Sink for Ailing {
        async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
            let mut state = self.0.lock();
            state.0 += 1;
            let room = state.0;
            let taken = records.iter().take(room).cloned();
            state.1.extend(taken);
            let result = |at| match at < room {
                true => Ok(()),
                false => Err(PublishError::Unavailable("away".into())),
            };
            (0..records.len()).map(result).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_waited_for() {
        let records: Vec<_> = (0..6).map(|n| Outgoing::new("t", n.to_string())).collect();
        let sink = Ailing::default();
        let results = publish_patiently(&sink, &records).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(sink.0.lock().1, records, "each once, in order");
    }

    struct Away;

    #[async_trait::async_trait]
    impl Sink for Away {
        async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
            vec![Err(PublishError::Unavailable("away".into())); records.len()]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let start = Instant::now();
        let results = publish_patiently(&Away, &[Outgoing::new("t", "1")]).await;
        assert!(results[0].is_err());
        assert!(start.elapsed() <= PATIENCE);
    }
}
