//! Stopping and starting again (contract H5, H6).

use crate::support::{LIMIT, Runtime, guest::Guest, until};
use sandbar::supervisor::State;
use sandbar_core::Outgoing;

fn slow(count: usize) -> Vec<Outgoing> {
    // without a key: any number of them may run at once
    (0..count).map(|n| Outgoing::new("in", format!("?{n}"))).collect()
}

fn payloads(events: &[sandbar_core::Event]) -> Vec<String> {
    let text =
        |e: &sandbar_core::Event| String::from_utf8(e.payload.clone().unwrap().into()).unwrap();
    events.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_shutdown_under_load_finishes_what_runs_commits_and_resumes_exactly_there() {
    const EVENTS: usize = 150;
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.publish(&slow(EVENTS)).await;
    runtime.events_of("out", 1).await;
    let (folder, first) = runtime.stop().await;
    let handled = first.plugins[0].counts.handled as usize;
    assert!(handled < EVENTS, "it was stopped in the middle");
    assert_eq!(first.plugins[0].counts.dead_lettered, 0, "stopping is not failing");
    assert!(!folder.path().join("data/admin.addr").exists());

    let runtime = Runtime::start_in(folder, "").await;
    let mut out = payloads(&runtime.events_of("out", EVENTS).await);
    let (_, second) = runtime.stop().await;
    assert_eq!(second.plugins[0].counts.handled as usize, EVENTS - handled, "nothing twice");
    out.sort();
    let mut expected: Vec<_> = (0..EVENTS).map(|n| format!("?{n}")).collect();
    expected.sort();
    assert_eq!(out, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_what_runs_at_a_shutdown_is_finished_and_committed() {
    let runtime = Runtime::start("defaults.limits.cpu-time = \"60s\"").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.publish(&[Outgoing::new("in", "&takes long")]).await;
    until("in work", async || (runtime.plugin("relay")?.in_flight() > 0).then_some(())).await;
    assert!(runtime.events("out").await.is_empty(), "it is still at it");
    let (folder, summary) = runtime.stop().await;
    assert_eq!((summary.plugins[0].counts.handled, summary.plugins[0].counts.released), (1, 0));

    let runtime = Runtime::start_in(folder, "").await;
    assert_eq!(payloads(&runtime.events("out").await), ["&takes long"]);
    let cursors = runtime.log().cursors("sandbar.relay").await.unwrap();
    assert_eq!(cursors[0].1, cursors[0].2, "committed");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_at_the_deadline_unfinished_work_stays_uncommitted() {
    let runtime = Runtime::start("shutdown-timeout = \"0s\"").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.publish(&slow(150)).await;
    runtime.events_of("out", 1).await;
    let (folder, first) = runtime.stop().await;
    assert!(first.plugins[0].counts.handled < 150);

    let runtime = Runtime::start_in(folder, "").await;
    let out = payloads(&runtime.events_of("out", 150).await);
    let distinct: std::collections::HashSet<_> = out.iter().collect();
    assert_eq!((out.len(), distinct.len()), (150, 150), "the log writes outputs and cursor as one");
    assert!(runtime.events("relay.dlq").await.is_empty(), "what was cut off is no failure");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts_the_drain_short() {
    // one call may take two minutes, and so may the drain
    let config =
        "shutdown-timeout = \"120s\"\n[defaults.limits]\ncpu-time = \"120s\"\nwall-time = \"120s\"";
    let (app, folder) = crate::support::app(config).await;
    let supervisor = app.supervisor().clone();
    let abort = app.abort_token();
    let log = app.connections().get("log").unwrap().clone();
    std::fs::write(folder.path().join("plugins/relay.wasm"), Guest::new("1").build()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(app.run(async {
        stopped.await.unwrap();
    }));
    let endless = Outgoing::new("in", "%never ends");
    until("published", async || {
        log.sink().publish(std::slice::from_ref(&endless)).await[0].is_ok().then_some(())
    })
    .await;
    until("in work", async || (supervisor.plugin("relay")?.in_flight() > 0).then_some(())).await;
    stop.send(()).unwrap();
    until("draining", async || supervisor.is_stopping().then_some(())).await;
    assert!(!run.is_finished());
    abort.cancel();
    let summary = tokio::time::timeout(LIMIT, run).await.expect("aborted").unwrap().unwrap();
    assert_eq!(summary.plugins[0].counts.handled, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_that_lie_in_the_folder_are_loaded_before_it_says_ready() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("relay.wasm"), Guest::new("1").build()).unwrap();
    std::fs::write(plugins.join("broken.wasm"), "no Wasm").unwrap();
    let runtime = Runtime::start_in(folder, "").await;
    let address = std::fs::read_to_string(runtime.path("../data/admin.addr")).unwrap();
    assert_eq!(address, runtime.admin.to_string());
    until("ready", async || (runtime.get("/readyz").await.0 == 200).then_some(())).await;
    let state = |name: &str| runtime.plugin(name).unwrap().status().state;
    assert_eq!((state("relay"), state("broken")), (State::Running, State::Failed));
    runtime.stop().await;
}
