//! Components as they were built when a version of the WIT was released run on this host
//! (docs/compatibility.md).

use std::{collections::BTreeSet, fs, path::Path};

use sandbar_core::Header;
use sandbar_wasm::LoadSpec;

use crate::{
    concurrent::with_clocks,
    support::{Bench, attributes, call, only, run},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

/// Released versions, from the names of what lies in a folder.
fn versions(folder: &str, prefix: &str, suffix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_owned()))
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .collect()
}

#[tokio::test]
async fn a_component_of_each_released_version_is_kept_and_runs() {
    let released = versions("wit", "", "");
    assert!(!released.is_empty());
    assert_eq!(versions("tests/compatibility", "events-", ".wasm"), released);
    for version in released {
        let file = format!("{ROOT}/tests/compatibility/events-{version}.wasm");
        let bench = Bench::new();
        let mut spec = LoadSpec::new("kept");
        spec.config = [("color".into(), "blue".into())].into();
        let plugin = match bench.host.load(fs::read(&file).unwrap().into(), spec).await {
            Ok(plugin) => plugin,
            Err(e) => panic!("{version}: {e}"),
        };
        let exports = &plugin.inspection().exports;
        let handler = format!("sandbar:events/handler@{version}");
        assert!(exports.contains(&handler), "{version}: {exports:?}");
        let description = plugin.description().unwrap();
        assert_eq!((&*description.name, &*description.version), ("kept", "1.2.3"), "{version}");
        assert_eq!(description.subscriptions[0].topics, ["in.*"]);

        let mut call = call("payload");
        call.event.headers = [Header::new("h", "1")].into();
        call.event.attributes = [("type".into(), "t".into())].into();
        let outcome = run(&plugin, call).await;
        let told = attributes(&outcome);
        let told: Vec<_> = told.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        let expected = [
            "type = t",
            "name = kept",
            "version = 1.2.3",
            "connection = log",
            "in time = true",
            "color = blue",
            "attempt = 1",
        ];
        assert_eq!(told, expected, "{version}");
        let output = outcome.unwrap().outputs.remove(0);
        assert_eq!(output.payload.as_deref(), Some(&b"payload"[..]), "{version}");
        assert_eq!(output.headers, [Header::new("h", "1")], "{version}");
        assert_eq!(bench.log.lines(), ["kept Info kept: in/3/7"], "{version}");
        let rejected = run(&plugin, crate::support::call("reject")).await.unwrap_err();
        assert_eq!((&*rejected.code, &*rejected.message), ("kept", "as it says"), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_component_of_each_released_version_of_async_handlers_is_kept_and_runs() {
    let released = versions("wit", "async-", "");
    assert!(!released.is_empty());
    assert_eq!(versions("tests/compatibility", "events-async-", ".wasm"), released);
    for version in released {
        let file = format!("{ROOT}/tests/compatibility/events-async-{version}.wasm");
        let bench = Bench::new();
        let mut spec = LoadSpec::new("kept");
        with_clocks(&mut spec);
        let plugin = match bench.host.load(fs::read(&file).unwrap().into(), spec).await {
            Ok(plugin) => plugin,
            Err(e) => panic!("{version}: {e}"),
        };
        let exports = &plugin.inspection().exports;
        let handler = format!("sandbar:events-async/handler@{version}");
        assert!(exports.contains(&handler), "{version}: {exports:?}");
        assert_eq!(plugin.description().unwrap().name, "waits", "{version}");
        let outcomes = plugin.call(&["20", "20"].map(call)).await.results;
        let said: Vec<_> = outcomes.iter().map(only).collect();
        assert_eq!(said, ["2 at once, the 1.", "2 at once, the 2."], "{version}");
    }
}
