//! What is not granted is not there (S3).

use std::collections::BTreeSet;

use sandbar_wasm::{Grant, LoadError, LoadSpec};

use crate::support::{Bench, attributes, call, component, fails, program, run};

async fn refused(bench: &Bench, name: &str, grants: &[Grant]) -> LoadError {
    let mut spec = LoadSpec::new(name);
    spec.grants = grants.iter().copied().collect();
    bench.host.load(program(name), spec).await.expect_err("an import is not granted")
}

#[tokio::test]
async fn s3_a_capability_that_is_not_granted_is_not_linked() {
    let bench = Bench::new();
    insta::assert_snapshot!(refused(&bench, "sleeps", &[]).await, @r#"not granted: wasi:clocks/monotonic-clock@0.2.0 (needs "clocks"); to allow it write `grants = ["clocks"]` in sleeps.toml"#);
    insta::assert_snapshot!(refused(&bench, "sleeps", &[Grant::Random]).await, @r#"not granted: wasi:clocks/monotonic-clock@0.2.0 (needs "clocks"); to allow it write `grants = ["clocks", "random"]` in sleeps.toml"#);
    let all_but_wasi = [Grant::Clocks, Grant::Random, Grant::Stdio, Grant::Environment];
    insta::assert_snapshot!(refused(&bench, "looks-around", &all_but_wasi).await, @r#"not granted: wasi:cli/exit@0.2.0 (needs "wasi"), wasi:filesystem/types@0.2.0 (needs "wasi"), wasi:filesystem/preopens@0.2.0 (needs "wasi"); to allow it write `grants = ["wasi"]` in looks-around.toml"#);
    assert_eq!(bench.stats("sleeps").instances_created(), 0);
}

#[tokio::test]
async fn s3_looks_around() {
    let bench = Bench::new();
    let configure = |spec: &mut LoadSpec| {
        spec.grants.insert(Grant::Wasi);
        spec.config = [("color".into(), "blue".into())].into();
    };
    let plugin = bench.load_with("looks-around", configure).await;
    let mut saw = attributes(&run(&plugin, call("")).await);
    let year: u64 = saw.iter().find(|(k, _)| k == "year").unwrap().1.parse().unwrap();
    assert!(year >= 2025, "the clock is real");
    saw.retain(|(k, _)| k != "year");
    let saw: Vec<_> = saw.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    // its own configuration and nothing of the host's
    insta::assert_snapshot!(saw.join("\n"), @"
    color = blue
    arguments = 0
    folders = 0
    random = true
    ");

    insta::assert_snapshot!(fails(&plugin, "exit").await, @"trap: the plugin called exit(1)");
    // the broken instance ended the line that it had begun
    insta::assert_snapshot!(bench.log.lines().join("\n"), @"
    looks-around Info stdout: one line
    looks-around Warn stderr: oops
    looks-around Info stdout: and a rest
    ");
}

#[tokio::test]
async fn s3_inspection_names_the_grants_that_a_plugin_needs() {
    let bench = Bench::new();
    let inspection = bench.host.inspect(program("sleeps")).await.unwrap();
    assert_eq!(inspection.grants, BTreeSet::from([Grant::Clocks]));
    assert_eq!(inspection.description, None);
    assert!(inspection.imports.iter().any(|i| i == "wasi:clocks/monotonic-clock@0.2.0"));
    let inspection = bench.host.inspect(program("echo")).await.unwrap();
    assert!(inspection.grants.is_empty());
    let exports = ["sandbar:events/handler@0.1.0", "sandbar:events/packed-handler@0.1.1"];
    assert_eq!(inspection.exports, exports);
}

#[tokio::test]
async fn s3_what_no_grant_gives_is_refused_by_name() {
    let bench = Bench::new();
    let http = r#"(component (import "wasi:http/incoming-handler@0.2.0" (instance))
        (component $inner) (instance $h (instantiate $inner))
        (export "sandbar:events/handler@0.1.0" (instance $h)))"#;
    insta::assert_snapshot!(bench.refused(component(http)).await, @"imports wasi:http/incoming-handler@0.2.0, which this host does not offer: build the plugin without it");
    let error = bench.host.inspect(component(http)).await.unwrap_err();
    assert!(matches!(error, LoadError::UnknownImport { .. }));
}
