//! Tells its secret `token` wherever a plugin can tell something, and counts.

use sandbar_sdk::{Event, Failure, Outgoing, log, metrics, secrets};

#[sandbar_sdk::handler(topics = ["in"], publishes = ["out"], crate = sandbar_sdk)]
fn tells(event: Event) -> Result<Option<Outgoing>, Failure> {
    let text = event.text()?;
    metrics::count("events", 1, &[("kind", text)]);
    metrics::observe("payload_bytes", text.len() as f64, &[]);
    let secret = secrets::require("token")?;
    match text {
        "length" => return Ok(Some(Outgoing::new("out").text(secret.len().to_string()))),
        "other" => secrets::require("other").map(drop)?,
        "log" => log::info!("it is {secret}"),
        "retry" => return Err(Failure::retry(format!("it is {secret}"))),
        "reject" => return Err(Failure::reject(secret.clone(), format!("it is {secret}"))),
        "panic" => panic!("it is {secret}"),
        "label" => metrics::count("told", 1, &[("it", &secret)]),
        "bad" => metrics::count("no name", 1, &[]),
        many => {
            for n in 0..many.parse().unwrap_or(0) {
                metrics::count("many", 1, &[("n", &n.to_string())]);
            }
        }
    }
    Ok(None)
}
