//! `make demo`: starts `sandbar run` on the embedded log, publishes real GitHub
//! webhooks, replaces the router by its version 2 in mid-stream, and then reads
//! everything back and counts it. Ends with 0 only if every count is exactly right.

mod expect;
mod observe;
mod publish;
mod table;

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use sandbar_testkit::{Runtime, eventually, guest};

use expect::Expected;
use observe::Observed;

const CONFIG: &str = r#"# made by `make demo`
[admin]
listen = "127.0.0.1:0"
"#;

const NOTIFIER: &str = r#"# most webhooks are of one repository: what waits for a retry holds it up
retry = { initial-delay = "2ms" }
"#;

fn main() -> ExitCode {
    match demo() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("sandbar-demo-").tempdir()?;
    fs::write(folder.path().join("sandbar.toml"), CONFIG)?;
    Runtime::install(folder.path(), &guest("github-router"), "router")?;
    Runtime::install(folder.path(), &guest("github-notifier"), "notifier")?;
    fs::write(folder.path().join("plugins/notifier.toml"), NOTIFIER)?;

    println!("starting sandbar on the embedded log, with the plugins `router` and `notifier`");
    let runtime = Runtime::start(folder.path())?;
    for plugin in ["router", "notifier"] {
        eventually(&format!("`{plugin}` runs"), || state_is(&runtime, plugin, "running"));
    }

    let webhooks = publish::webhooks()?;
    publish::run(&runtime, &webhooks, || {
        Runtime::install(folder.path(), &guest("github-router-v2"), "router")
    })?;
    eventually("version 2 of the router has taken over", || {
        runtime.plugin("router").filter(|p| p["reloads"] == 1)
    });
    for plugin in ["router", "notifier"] {
        eventually(&format!("`{plugin}` has no event left"), || idle(&runtime, plugin));
    }

    let expected = Expected::of(&webhooks);
    let observed = Observed::read(&runtime)?;
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

fn state_is(runtime: &Runtime, plugin: &str, state: &str) -> Option<()> {
    (runtime.plugin(plugin)?["state"] == state).then_some(())
}

/// Whether the plugin has handled all that its topics hold, twice in a row: what the
/// router has just published is not yet in the notifier's lag.
fn idle(runtime: &Runtime, plugin: &str) -> Option<()> {
    let quiet = || {
        let plugin = runtime.plugin(plugin)?;
        let lag = plugin["subscriptions"][0]["lag"].as_u64()?;
        let counts = plugin["counts"].clone();
        (lag == 0 && plugin["in_flight"] == 0).then_some(counts)
    };
    let first = quiet()?;
    pause(Duration::from_millis(100));
    (quiet()? == first).then_some(())
}

// paces the publisher, and drives another process: there is no executor to yield to
#[allow(clippy::disallowed_methods)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
