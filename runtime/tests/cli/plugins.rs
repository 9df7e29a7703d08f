//! Plugins: validated, inspected, listed, run.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    fails, folder,
    guest::{Describe, Guest, wrong_world},
    lines_of_json, ok,
    runtime::{Running, wait_for},
    sandbar, stdout,
};

pub fn plugin(dir: &Path, name: &str, wasm: &[u8]) {
    let plugins = dir.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join(format!("{name}.wasm")), wasm).unwrap();
}

pub fn publish(dir: &Path, topic: &str, lines: &str) {
    let mut publish = sandbar(dir, &["publish", topic, "--raw"]);
    publish.write_stdin(lines);
    stdout(publish);
}

pub fn json_of(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&ok(dir, args)).unwrap()
}

pub const RUN: [&str; 4] = ["run", "--until-idle", "--admin", "127.0.0.1:0"];

#[test]
fn validate_loads_every_plugin() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1.2.3").build());
    plugin(dir.path(), "quiet", &Guest::new("1").describe(Describe::Nothing).build());
    fs::write(dir.path().join("plugins/quiet.toml"), "topics = [\"in\"]\npublish = [\"o.*\"]")
        .unwrap();
    let report = json_of(dir.path(), &["validate", "--connect", "-o", "json"]);
    assert_eq!(report["problems"], 0);
    let relay = json!({
        "name": "relay", "status": "ok", "version": "1.2.3", "connection": "log",
        "topics": ["in"], "publish": ["out"], "problem": null,
    });
    assert_eq!(report["plugins"][1], relay);
    assert_eq!(report["plugins"][0]["publish"], json!(["o.*"]));
    assert_eq!(report["connections"], json!([{ "name": "log", "problem": null }]));
    let table = ok(dir.path(), &["validate"]);
    assert!(table.contains("relay   ok      1.2.3    log         in      out"), "{table}");
}

#[test]
fn validate_says_what_is_wrong_with_each_plugin() {
    let dir = folder();
    plugin(dir.path(), "core", &Guest::new("1").core());
    plugin(dir.path(), "other-world", &wrong_world());
    plugin(dir.path(), "traps", &Guest::new("1").describe(Describe::Trap).build());
    plugin(dir.path(), "no-topics", &Guest::new("1").describe(Describe::Nothing).build());
    plugin(dir.path(), "good", &Guest::new("1").build());
    plugin(dir.path(), "twin", &Guest::new("1").build());
    fs::write(dir.path().join("plugins/twin.toml"), "group = \"sandbar.good\"").unwrap();
    let done = sandbar(dir.path(), &["validate", "-o", "json"]).assert().code(1);
    let report: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let problems: Vec<(&str, &str)> = report["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["name"].as_str().unwrap(), p["problem"]["error"].as_str().unwrap_or("none")))
        .collect();
    let expected = [
        ("core", "core WebAssembly module"),
        ("good", "none"),
        ("no-topics", "subscribed to no topic"),
        ("other-world", "handler"),
        ("traps", "describe"),
        ("twin", "plugin `good` has the same group `sandbar.good`"),
    ];
    assert_eq!(problems.len(), expected.len());
    for ((name, problem), (expected_name, part)) in problems.into_iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(problem.contains(part), "{name}: {problem}");
    }
}

#[test]
fn e1_validate_warns_of_what_exactly_once_does_not_cover() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1").build());
    let config = "default-connection = \"a\"\n[connections]\na.type = \"log\"\nb.type = \"log\"\n\
                  [plugin.relay]\ndelivery = \"exactly-once\"\ndead-letter.connection = \"b\"\n";
    fs::write(dir.path().join("sandbar.toml"), config).unwrap();
    let report = json_of(dir.path(), &["validate", "-o", "json"]);
    assert_eq!(report["problems"], 0, "{report}");
    let warnings = report["warnings"].as_array().unwrap();
    let expected = "plugin `relay`: `delivery = \"exactly-once\"` ends at connection `a`: \
                    its dead letters go to `b` and are at-least-once";
    assert_eq!(warnings, &[expected]);
    let settings = json_of(dir.path(), &["plugins", "inspect", "relay", "-o", "json"]);
    assert_eq!(settings["settings"]["delivery"], "exactly-once");
}

#[test]
fn a_plugin_is_inspected_by_name_or_file() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1").from("orders").build());
    let config = "[plugin.relay]\nconfig = { api-token = \"hunter2\", region = \"eu\" }\nretry.max-attempts = 9";
    fs::write(dir.path().join("sandbar.toml"), config).unwrap();
    let by_name = json_of(dir.path(), &["plugin", "inspect", "relay", "-o", "json"]);
    assert_eq!(by_name["description"]["subscriptions"][0]["topics"], json!(["orders"]));
    assert_eq!(by_name["settings"]["group"], "sandbar.relay");
    assert_eq!(by_name["settings"]["max-attempts"], 9);
    assert_eq!(by_name["settings"]["config"], json!({ "api-token": "[redacted]", "region": "eu" }));
    let by_file = json_of(dir.path(), &["plugins", "inspect", "plugins/relay.wasm", "-o", "json"]);
    assert_eq!(by_file["digest"], by_name["digest"]);
    let text = ok(dir.path(), &["plugins", "inspect", "relay"]);
    assert!(text.contains("topics: orders") && !text.contains("hunter2"), "{text}");
    let said = fails(sandbar(dir.path(), &["plugins", "inspect", "rely"]));
    assert!(said.contains("cannot read plugins/rely.wasm"), "{said}");

    let listed = json_of(dir.path(), &["plugins", "list", "-o", "json"]);
    assert_eq!(
        (&listed["running"], &listed["plugins"][0]["name"]),
        (&json!(false), &json!("relay"))
    );
}

#[test]
fn a_run_until_idle_waits_for_the_last_plugin_of_a_chain() {
    let dir = folder();
    plugin(dir.path(), "first", &Guest::new("1").to("between").build());
    plugin(dir.path(), "second", &Guest::new("1").from("between").build());
    let events: String = (0..500).map(|n| format!("{n}\n")).collect();
    publish(dir.path(), "in", &events);
    let table = ok(dir.path(), &RUN);
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((row("first"), row("second")), ("500 500".into(), "500 500".into()), "{table}");
    let out = lines_of_json(&ok(dir.path(), &["tail", "out", "-o", "json"]));
    let mut numbers: Vec<usize> =
        out.iter().map(|e| e["payload"].as_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    let again = ok(dir.path(), &RUN);
    assert!(again.lines().any(|l| l.split_whitespace().take(2).eq(["first", "0"])), "{again}");
}

#[test]
fn a_run_until_idle_fails_with_a_plugin_that_cannot_go_on() {
    let dir = folder();
    plugin(dir.path(), "broken", b"no wasm");
    plugin(dir.path(), "halts", &Guest::new("1").build());
    fs::write(dir.path().join("plugins/halts.toml"), "dead-letter.on-exhausted = \"halt\"")
        .unwrap();
    publish(dir.path(), "in", "!refuse me\n");
    let said = fails(sandbar(dir.path(), &RUN));
    assert!(said.contains("plugin broken did not finish"), "{said}");
    assert!(said.contains("plugin halts did not finish"), "{said}");
}

/// Whether the runtime has noticed that it is to stop.
fn is_stopping(dir: &Path) -> bool {
    let address = fs::read_to_string(dir.join("data/admin.addr")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.contains("stopping")
}

#[test]
fn a_second_signal_does_not_wait_for_what_is_in_work() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1").build());
    let config =
        "shutdown-timeout = \"1h\"\n[defaults.limits]\ncpu-time = \"1h\"\nwall-time = \"1h\"";
    fs::write(dir.path().join("sandbar.toml"), config).unwrap();
    publish(dir.path(), "in", "%\n");
    let mut runtime = Running::start(dir.path());
    let plugin = wait_for("the endless event", || {
        let list = json_of(dir.path(), &["plugins", "list", "-o", "json"]);
        (list["plugins"][0]["in_flight"] == 1).then(|| list["plugins"][0].clone())
    });
    assert_eq!((&plugin["state"], &plugin["version"]), (&json!("running"), &json!("1")));
    let table = ok(dir.path(), &["plugins", "list"]);
    assert!(
        table.lines().any(|l| l.split_whitespace().take(2).eq(["relay", "running"])),
        "{table}"
    );

    runtime.terminate();
    wait_for("the drain", || is_stopping(dir.path()).then_some(()));
    assert!(runtime.is_running(), "the first signal lets it finish");
    runtime.terminate();
    let summary: Value = serde_json::from_str(&runtime.output()).unwrap();
    assert_eq!(summary["plugins"][0]["handled"], 0);
    assert_eq!(summary["plugins"][0]["dead_lettered"], 0, "stopping is not failing");
}

/// Whatever a command prints: its output and its errors, as text and as JSON.
#[test]
fn s3_no_command_prints_a_secret() {
    const SECRET: &str = "open-sesame-42";
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1").build());
    let settings = "secrets = { token = { env = \"A_TOKEN\" }, file = { file = \"t.txt\" } }\n\
        [http]\nallow = [\"api.example.com\"]\n\
        inject = [{ host = \"api.example.com\", header = \"x-key\", secret = { env = \"A_TOKEN\" } }]\n";
    fs::write(dir.path().join("plugins/relay.toml"), settings).unwrap();
    fs::write(dir.path().join("plugins/t.txt"), SECRET).unwrap();
    let said = |args: &[&str], secret: Option<&str>| {
        let mut command = sandbar(dir.path(), args);
        command.env_remove("A_TOKEN");
        if let Some(secret) = secret {
            command.env("A_TOKEN", secret);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let commands: [&[&str]; 8] = [
        &["plugins", "inspect", "relay"],
        &["plugins", "inspect", "relay", "-o", "json"],
        &["plugins", "list", "-o", "json"],
        &["validate"],
        &["validate", "-o", "json"],
        &["schema"],
        &["schema", "plugin"],
        &["run", "--until-idle", "--admin", "127.0.0.1:0", "--log-level", "debug"],
    ];
    let mut all = String::new();
    for args in commands {
        let (succeeded, text) = said(args, Some(SECRET));
        assert!(succeeded || args == ["schema", "plugin"], "{args:?}: {text}");
        assert!(!text.contains(SECRET), "{args:?}: {text}");
        all.push_str(&text);
    }
    // it is there by reference
    assert!(all.contains("token: env A_TOKEN") && all.contains("x-key: [env A_TOKEN]"), "{all}");

    // what cannot be a header is told without what it is
    let (succeeded, text) = said(&["validate"], Some("open-sesame-42\r\nx: y"));
    assert!(!succeeded && text.contains("http.inject of header `x-key`"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    let (succeeded, text) = said(&["validate"], None);
    assert!(!succeeded && text.contains("secrets.token: variable A_TOKEN is not set"), "{text}");
}
