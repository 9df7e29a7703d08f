//! `make demo`: starts `sandbar run` on a broker, publishes real GitHub webhooks,
//! replaces the router by its version 2 in mid-stream, and then reads everything back
//! and counts it. Ends with 0 only if every count is exactly right.

mod broker;
mod expect;
mod observe;
mod publish;
mod table;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use clap::Parser;
use sandbar_testkit::{Runtime, eventually, guest};

use broker::Broker;
use expect::Expected;
use observe::Observed;

/// Real webhooks through two plugins, one of them replaced in mid-stream, and everything counted.
#[derive(Parser)]
struct Arguments {
    /// Where the events flow
    #[arg(long, value_enum, default_value = "log", env = "SANDBAR_DEMO_BROKER")]
    broker: Broker,
    /// The server: `host:port` of Kafka or NATS, `amqp://...` of RabbitMQ, the endpoint of
    /// what stands in for SQS
    #[arg(long, env = "SANDBAR_DEMO_URL")]
    url: Option<String>,
}

const CONFIG: &str = r#"# made by `make demo`
[admin]
listen = "127.0.0.1:0"

"#;

const NOTIFIER: &str = r#"# most webhooks are of one repository: what waits for a retry holds it up
retry = { initial-delay = "2ms" }
"#;

/// Longest time without any progress until what is missing is taken for lost.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(Arguments { broker, url }: &Arguments) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("sandbar-demo-").tempdir()?;
    let config = format!("{CONFIG}{}{}", broker.connection(url.as_deref()), copies(*broker));
    fs::write(folder.path().join("sandbar.toml"), config)?;
    Runtime::install(folder.path(), &guest("github-router"), "router")?;
    Runtime::install(folder.path(), &guest("github-notifier"), "notifier")?;
    fs::write(folder.path().join("plugins/notifier.toml"), NOTIFIER)?;

    println!("starting sandbar on {}, with the plugins `router` and `notifier`", broker.title());
    let runtime = Runtime::start(folder.path())?;
    let copies = broker.copied().iter().map(|topic| format!("route.{topic}"));
    for name in ["router", "notifier"].map(str::to_owned).into_iter().chain(copies) {
        eventually(&format!("`{name}` runs"), || state_is(&runtime, &name, "running"));
    }

    let webhooks = publish::webhooks(broker.rounds())?;
    // a broker may still hold what an earlier demo published
    let run =
        format!("{:x}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis());
    let published = publish::run(&runtime, &webhooks, &run, broker.batch(), || {
        Runtime::install(folder.path(), &guest("github-router-v2"), "router")
    })?;
    eventually("version 2 of the router has taken over", || {
        runtime.plugin("router").filter(|p| p["reloads"] == 1)
    });
    let expected = Expected::of(&webhooks, &run);
    wait_for(&runtime, *broker, &expected);

    let observed = Observed::read(&runtime, *broker, &run, &published)?;
    let status = runtime.terminate().context("stopping sandbar")?;
    let mut complaints = observed.check(&expected);
    if !status.success() {
        complaints.push(format!("sandbar ended with {status}"));
    }
    table::print(&observed);
    for complaint in &complaints {
        println!("WRONG  {complaint}");
    }
    if complaints.is_empty() {
        println!("every count is exactly right: nothing lost, repeated or out of order per key");
    }
    Ok(complaints.is_empty())
}

/// The routes by which the demo sees what a broker does not let it read.
fn copies(broker: Broker) -> String {
    let route = |topic: &&str| {
        format!(
            "\n[[route]]\nname = \"{topic}\"\nfrom = {{ topics = [\"{topic}\"] }}\n\
             to = {{ connection = \"local\" }}\n"
        )
    };
    broker.copied().iter().map(route).collect()
}

fn state_is(runtime: &Runtime, plugin: &str, state: &str) -> Option<()> {
    (runtime.plugin(plugin)?["state"] == state).then_some(())
}

/// Until everything is terminal, or nothing happens any more: what is missing then is
/// for the counts to say.
fn wait_for(runtime: &Runtime, broker: Broker, expected: &Expected) {
    let notified = expected.notified.len() as u64;
    let routed = expected.routed.len() as u64;
    let mut wanted = vec![
        ("router".to_owned(), routed + expected.malformed.len() as u64),
        ("notifier".to_owned(), routed),
    ];
    wanted.extend(broker.copied().iter().map(|topic| {
        let events = if *topic == "github.events" { routed } else { notified };
        (format!("route.{topic}"), events)
    }));
    let terminal = |name: &str| {
        let plugin = runtime.plugin(name)?;
        let count = |what: &str| plugin["counts"][what].as_u64();
        (plugin["in_flight"] == 0)
            .then_some(count("handled")? + count("skipped")? + count("dead_lettered")?)
    };
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let counts: Vec<u64> = wanted.iter().map(|(name, _)| terminal(name).unwrap_or(0)).collect();
        if counts.iter().zip(&wanted).all(|(count, (_, wanted))| count >= wanted) {
            return;
        }
        let sum = counts.iter().sum();
        if sum != last {
            (last, moved) = (sum, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            println!("nothing has happened for {PATIENCE:?}");
            return;
        }
        pause(Duration::from_millis(100));
    }
}

// paces the publisher, and drives another process: there is no executor to yield to
#[allow(clippy::disallowed_methods)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
