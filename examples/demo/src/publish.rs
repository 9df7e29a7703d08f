//! The stream: real webhooks, over and over, with a malformed one now and then.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sandbar_testkit::Runtime;
use serde_json::{Value, json};

/// One malformed event follows after so many webhooks.
const MALFORMED_EVERY: usize = 500;
/// Events per second: slow enough to watch, and to replace a plugin in mid-stream.
const RATE: usize = 2500;
/// How often an event is published before the demo gives up.
const ATTEMPTS: usize = 3;
/// Pause between two looks at how far everybody is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An event to publish.
pub struct Webhook {
    /// The repository, as the typed events have it: so the order can be checked per key.
    pub key: String,
    pub payload: Value,
}

/// All events, in the order of publishing: the number of each is its index.
pub fn webhooks(rounds: usize) -> Result<Vec<Webhook>> {
    let lines: Vec<&str> = include_str!("../../data/github-webhooks.ndjson").lines().collect();
    let mut webhooks = Vec::new();
    for (n, line) in lines.iter().cycle().take(lines.len() * rounds).enumerate() {
        let body: Value = serde_json::from_str(line)?;
        let payload = &body["payload"];
        let repository = payload["repository"]["full_name"].as_str();
        let key = repository.or(payload["organization"]["login"].as_str()).unwrap_or("none");
        webhooks.push(Webhook { key: key.to_owned(), payload: json!(line) });
        if n % MALFORMED_EVERY == MALFORMED_EVERY - 1 {
            // cut off, no JSON at all, and no text at all
            let half = line.get(..line.len() / 2).unwrap_or("{");
            let payloads = [json!(half), json!("not json"), json!({"base64": "/v8A"})];
            let payload = payloads[n / MALFORMED_EVERY % payloads.len()].clone();
            webhooks.push(Webhook { key: key.to_owned(), payload });
        }
    }
    Ok(webhooks)
}

/// Publishes `size` at once, at [`RATE`], calling `halfway` in the middle, and shows how far
/// everybody is. The id of an event is `RUN-NUMBER`. Answers when each was published, in
/// milliseconds since the Unix epoch.
pub fn run(
    runtime: &Runtime,
    webhooks: &[Webhook],
    run: &str,
    size: usize,
    halfway: impl FnOnce() -> Result<()>,
) -> Result<Vec<u64>> {
    let bar = ProgressBar::new(webhooks.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{elapsed_precise} {bar:32} {pos}/{len} published, {per_sec}{msg}",
    )?);
    if !std::io::stdout().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        println!("publishing {} events, {RATE} a second", webhooks.len());
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (bar, ended) = (&bar, &ended);
        if !bar.is_hidden() {
            // beside the publishing: where the cursors are on a server, each answer takes a while
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    bar.set_message(progress(runtime).unwrap_or_default());
                    crate::pause(LOOK_EVERY);
                }
            });
        }
        let published = publish(runtime, webhooks, run, size, bar, halfway);
        ended.store(true, Ordering::Relaxed);
        published
    })
}

fn publish(
    runtime: &Runtime,
    webhooks: &[Webhook],
    run: &str,
    size: usize,
    bar: &ProgressBar,
    halfway: impl FnOnce() -> Result<()>,
) -> Result<Vec<u64>> {
    let began = Instant::now();
    let mut halfway = Some(halfway);
    let mut published = Vec::with_capacity(webhooks.len());
    for (n, batch) in webhooks.chunks(size).enumerate() {
        let line = |(number, w): (usize, &Webhook)| {
            let attributes = json!({"id": format!("{run}-{number}")});
            format!("{}\n", json!({"key": w.key, "payload": w.payload, "attributes": attributes}))
        };
        let lines: Vec<String> = (n * size..).zip(batch).map(line).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        published.resize(published.len() + batch.len(), u64::try_from(now.as_millis())?);
        post(runtime, lines)?;
        bar.inc(batch.len() as u64);
        let sent = (n + 1) * size;
        if sent * 2 >= webhooks.len()
            && let Some(halfway) = halfway.take()
        {
            bar.println("replacing router.wasm by its version 2 while events flow");
            if bar.is_hidden() {
                println!("replacing router.wasm by its version 2 while events flow");
            }
            halfway().context("replacing the router")?;
        }
        let due = Duration::from_secs_f64(sent as f64 / RATE as f64);
        crate::pause(due.saturating_sub(began.elapsed()));
    }
    bar.finish();
    Ok(published)
}

/// Publishes `lines`, those again that the broker did not answer in time. A broker that knows events by
/// their ids takes none twice; where another does, the table tells.
fn post(runtime: &Runtime, mut lines: Vec<String>) -> Result<()> {
    for attempts_left in (0..ATTEMPTS).rev() {
        let answer =
            runtime.post("/api/topics/github.webhooks/events", lines.concat().as_bytes())?;
        let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        if errors.is_empty() && answer["published"] == lines.len() {
            return Ok(());
        }
        let may_pass = errors.iter().all(|error| error["retry"] == true) && !errors.is_empty();
        ensure!(attempts_left > 0 && may_pass, "publishing failed: {answer}");
        let left = errors.iter().filter_map(|error| {
            let index = usize::try_from(error["index"].as_u64()?).ok()?;
            lines.get(index).cloned()
        });
        lines = left.collect();
    }
    Ok(())
}

fn progress(runtime: &Runtime) -> Option<String> {
    let (router, notifier) = (runtime.plugin("router")?, runtime.plugin("notifier")?);
    let count = |plugin: &Value, name: &str| plugin["counts"][name].as_u64().unwrap_or(0);
    Some(format!(
        " | router {} {} handled | notifier {} handled, {} retried | {} dead-lettered",
        router["version"].as_str().unwrap_or("?"),
        count(&router, "handled"),
        count(&notifier, "handled"),
        count(&notifier, "retried"),
        count(&router, "dead_lettered") + count(&notifier, "dead_lettered"),
    ))
}
