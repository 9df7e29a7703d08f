//! Uses every part of the SDK once; what it does is said by the payload.

use std::time::Duration;

use sandbar_sdk::{Event, Failure, Outgoing, config, context, log, tracing};

fn init() -> Result<(), config::ConfigError> {
    // a setting that is set must be a number
    config::parse::<u32>("number").map(drop)
}

#[sandbar_sdk::handler(
    topics = ["in"],
    publishes = ["out"],
    ordering = "none",
    concurrency = 2,
    retry(max_attempts = 3, initial_delay = "1ms", jitter = 0.5, multiplier = 1),
    dead_letter(topic = "bad"),
    init = init,
    version = "1.2.3",
    config_schema = "examples/everything.schema.json",
    crate = sandbar_sdk,
)]
fn everything(event: Event) -> Result<Option<Outgoing>, Failure> {
    let answer = match event.text()? {
        "log" => {
            log::debug!("not logged unless the setting says so");
            log::info!(answer = 42; "from log");
            tracing::warn!(question = "six by nine", "from tracing");
            return Ok(None);
        }
        "panic" => panic!("on purpose: {}", event.id()),
        "retry" => return Err(Failure::retry("not yet").after(Duration::from_millis(1))),
        "reject" => return Err(Failure::reject("unwanted", "by the test")),
        "skip" => return Err(Failure::skip("by the test")),
        "config" => format!("{:?}", config::all()?),
        "context" => {
            let (name, version) = (context::plugin_name(), context::plugin_version());
            let in_time = context::remaining() > Duration::ZERO;
            format!("{name} {version} on {}, {in_time}", context::connection())
        }
        "event" => {
            let Event { topic, partition, position, attempt, .. } = &event;
            let (key, header) = (event.key_text(), event.header_text("h"));
            let (kind, id) = (event.attribute("type"), event.id());
            format!("{topic} {partition} {position} {attempt} {key:?} {header:?} {kind:?} {id}")
        }
        other => return Err(Failure::reject("unknown", other)),
    };
    let output = Outgoing::new("out").text(answer).key("k").header("h", "v");
    Ok(Some(output.attribute("type", "answer")))
}
