//! Secrets are read where the configuration says, and shown nowhere (contract S3, H3).

use sandbar::supervisor::State;

use crate::support::{Runtime, guest::Guest, record};

const SECRET: &str = "open-sesame-42";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_a_missing_secret_leaves_the_old_version_serving_until_it_is_there() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;

    let settings = "secrets.token = { file = \"token.txt\" }\n\
        http.allow = [\"api.example.com\"]\n\
        http.inject = [{ host = \"api.example.com\", header = \"authorization\", \
        prefix = \"Bearer \", secret = { file = \"token.txt\" } }]\n";
    runtime.copy("relay.toml", settings);
    runtime.rename("relay.wasm", Guest::new("2").build());
    let told = |reason: &Option<String>| {
        reason.as_ref().is_some_and(|r| r.contains("secrets.token: cannot read"))
    };
    let (status, _) = runtime.status("relay", "told", |s| told(&s.last_error)).await;
    assert_eq!(status.version.unwrap().version, "1");
    runtime.publish(&[record("k", "served")]).await;
    runtime.events_of("out", 1).await;

    std::fs::write(runtime.path("token.txt"), format!("{SECRET}\n")).unwrap();
    let is_two = |version: &str| version == "2";
    let replaced = |s: &sandbar::supervisor::Status| {
        s.state == State::Running && s.version.as_ref().is_some_and(|v| is_two(&v.version))
    };
    let (status, _) = runtime.status("relay", "version 2", replaced).await;

    // all that the runtime shows of it
    let mut shown = format!("{status:?}");
    for path in ["/api/plugins", "/api/plugins/relay", "/metrics", "/readyz"] {
        let (code, body) = runtime.get(path).await;
        assert_eq!(code, 200, "{path}");
        shown.push_str(&body);
    }
    assert!(!shown.contains(SECRET), "{shown}");
    runtime.stop().await;
}
