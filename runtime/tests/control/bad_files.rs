//! Files and settings that cannot work: the old version goes on serving, the
//! reason is told, and nobody else notices (contract H3).

use std::time::Duration;

use sandbar::supervisor::State;

use crate::support::{
    Runtime,
    guest::{Describe, Guest, wrong_world},
    record, text, version,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_a_bad_file_leaves_the_old_version_serving_and_says_why() {
    let good = Guest::new("1").build();
    let no_wasm = b"#!/bin/sh\necho this is a script, not a plugin\n".to_vec();
    let bad: [(&str, Vec<u8>, &str); 7] = [
        ("truncated", good[..good.len() / 2].to_vec(), "cut short"),
        ("empty", Vec::new(), "the file is empty"),
        ("no Wasm", no_wasm, "no WebAssembly"),
        ("core module", Guest::new("2").core(), "core WebAssembly module"),
        ("wrong world", wrong_world(), "exports no handler"),
        ("trapping describe", Guest::new("2").describe(Describe::Trap).build(), "describe failed"),
        // it does not say what it handles, and neither does the operator
        (
            "no topics",
            Guest::new("2").describe(Describe::Nothing).build(),
            "subscribed to no topic",
        ),
    ];
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", &good);
    runtime.copy("bystander.wasm", Guest::new("1").to("bystander").build());
    for name in ["relay", "bystander"] {
        runtime.status(name, "running", |s| s.state == State::Running).await;
    }
    for (at, (what, file, why)) in bad.iter().enumerate() {
        let refusals = at as u64 + 1;
        runtime.rename("relay.wasm", file);
        let (status, _) = runtime.status("relay", what, |s| s.refusals == refusals).await;
        let reason = status.reason.as_deref().unwrap();
        assert!(reason.contains(why), "{what}: {reason}");
        assert_eq!(status.last_error.as_deref(), Some(reason));
        assert_eq!((status.state, status.reloads), (State::Degraded, 0), "{what}");
        assert_eq!(status.version.unwrap().version, "1");

        runtime.publish(&[record("k", at.to_string())]).await;
        for topic in ["out", "bystander"] {
            let out = runtime.events_of(topic, at + 1).await;
            assert_eq!((text(&out[at].payload), version(&out[at])), (&*at.to_string(), "1"));
        }
    }
    let (code, body) = runtime.get("/api/plugins/relay").await;
    assert_eq!(code, 200);
    assert!(
        body.contains("\"state\":\"degraded\"") && body.contains("subscribed to no topic"),
        "{body}"
    );

    runtime.rename("relay.wasm", &good);
    let (status, _) = runtime.status("relay", "well again", |s| s.state == State::Running).await;
    assert_eq!((status.reloads, status.last_error), (0, None), "the same content is no reload");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_bad_settings_leave_the_old_ones_in_force_and_say_where() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.copy("relay.toml", "concurency = 2\n");
    let (status, _) = runtime.status("relay", "degraded", |s| s.state == State::Degraded).await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("relay.toml:1:1") && reason.contains("concurrency"), "{reason}");

    runtime.copy("relay.toml", "concurrency = 2\n");
    // the component is reloaded first; another number of workers takes a restart
    let (status, _) = runtime
        .status("relay", "running again", |s| s.state == State::Running && s.restarts == 1)
        .await;
    assert_eq!(status.reloads, 1);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_files_alone_are_reported_and_hinder_nobody() {
    let runtime = Runtime::start("").await;
    runtime.copy("script.wasm", "#!/bin/sh\n");
    runtime.copy("two words.wasm", Guest::new("1").build());
    // sparse: takes no space
    let large = std::fs::File::create(runtime.path("large.wasm")).unwrap();
    large.set_len(200 << 20).unwrap();
    drop(large);
    runtime.copy("relay.wasm", Guest::new("1").build());
    for (name, why) in [
        ("script", "no WebAssembly"),
        ("two words", "group and a topic"),
        ("large", "209715200 bytes"),
    ] {
        let (status, _) = runtime.status(name, "failed", |s| s.state == State::Failed).await;
        let reason = status.reason.unwrap();
        assert!(reason.contains(why), "{name}: {reason}");
    }
    runtime.publish(&[record("k", "through")]).await;
    runtime.events_of("out", 1).await;
    assert_eq!(runtime.get("/readyz").await.0, 200, "what is reported is not waited for");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_written_slowly_is_not_reported_as_broken() {
    let runtime = Runtime::start("").await;
    let whole = Guest::new("1").build();
    let mut file = std::fs::File::create(runtime.path("relay.wasm")).unwrap();
    for piece in whole.chunks(whole.len() / 8 + 1) {
        std::io::Write::write_all(&mut file, piece).unwrap();
        // what is tested is that pauses are borne
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    drop(file);
    let (status, _) = runtime.status("relay", "running", |s| s.state == State::Running).await;
    assert_eq!(status.refusals, 0);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_plugins_on_one_cursor_are_refused() {
    let runtime = Runtime::start("").await;
    runtime.copy("first.wasm", Guest::new("1").build());
    runtime.status("first", "running", |s| s.state == State::Running).await;
    runtime.copy("second.toml", "group = \"sandbar.first\"\n");
    runtime.copy("second.wasm", Guest::new("1").build());
    let (status, _) = runtime.status("second", "failed", |s| s.state == State::Failed).await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("that of plugin `first`"), "{reason}");
    runtime.remove("first.wasm");
    runtime.status("second", "running", |s| s.state == State::Running).await;
    runtime.stop().await;
}
