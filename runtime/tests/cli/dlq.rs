//! `dlq`: what lies in the dead-letter topics, and its way back.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    fails, folder,
    guest::Guest,
    ok,
    plugins::{RUN, json_of, plugin, publish},
    runtime::{Running, wait_for},
    sandbar, stdout,
};

#[test]
fn dead_letters_are_counted_listed_and_shown() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1.2.3").build());
    fs::write(dir.path().join("sandbar.toml"), "[defaults.retry]\nmax-attempts = 1").unwrap();
    publish(dir.path(), "in", "fine\n!one\n!two\n~trap\n");
    ok(dir.path(), &RUN);

    let list = json_of(dir.path(), &["dlq", "list", "-o", "json"]);
    let groups: Vec<_> = list["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| {
            let keys = ["topic", "plugin", "version", "class", "code", "count"];
            keys.map(|key| g[key].to_string()).join(" ")
        })
        .collect();
    assert_eq!(
        groups,
        [
            r#""relay.dlq" "relay" "1.2.3" "handler" "refused" 2"#,
            r#""relay.dlq" "relay" "1.2.3" "trap" "trap" 1"#,
        ]
    );
    assert_eq!(list["letters"].as_array().unwrap().len(), 3);
    let newest = json_of(dir.path(), &["dlq", "list", "--limit", "1", "-o", "json"]);
    assert_eq!(newest["letters"][0], list["letters"][2]);
    assert_eq!(newest["groups"], list["groups"], "all are counted, whatever is listed");
    let others = json_of(dir.path(), &["dlq", "list", "--plugin", "other", "-o", "json"]);
    assert_eq!((&others["groups"], &others["letters"]), (&json!([]), &json!([])));
    let trap = json_of(dir.path(), &["dlq", "list", "--where", "class == 'trap'", "-o", "json"]);
    assert_eq!(trap["groups"], json!([list["groups"][1]]));
    let table = ok(dir.path(), &["dlq", "list"]);
    assert!(table.starts_with("PLUGIN  VERSION  CLASS    CODE     COUNT  QUARANTINED"), "{table}");

    let refused =
        list["letters"].as_array().unwrap().iter().find(|l| l["letter"]["error_code"] == "refused");
    let position = refused.unwrap()["position"].to_string();
    let shown = json_of(dir.path(), &["dlq", "show", "relay", &position, "-o", "json"]);
    assert_eq!(shown["letter"]["error_code"], "refused");
    assert_eq!(shown["letter"]["plugin_version"], "1.2.3");
    assert!(shown["event"]["payload"].as_str().unwrap().starts_with('!'));
    let text = ok(dir.path(), &["dlq", "show", "relay.dlq", &position]);
    assert!(text.contains("plugin          relay 1.2.3") && text.contains("payload\n!"), "{text}");
}

#[test]
fn dead_letters_are_found_where_the_configuration_puts_them() {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1").build());
    fs::write(dir.path().join("plugins/relay.toml"), "dead-letter.topic = \"graves\"").unwrap();
    publish(dir.path(), "in", "!one\n");
    ok(dir.path(), &RUN);
    let list = json_of(dir.path(), &["dlq", "list", "-o", "json"]);
    assert_eq!(list["groups"][0]["topic"], "graves", "{list}");
    let shown = ok(dir.path(), &["dlq", "show", "relay", "0"]);
    assert!(shown.contains("refused (handler)"), "{shown}");
}

#[test]
fn dead_letters_of_nobody() {
    let dir = folder();
    let mut publish = sandbar(dir.path(), &["publish", "p.dlq"]);
    publish.write_stdin("{\"a\":1}\n");
    stdout(publish);
    let list: Value =
        serde_json::from_str(&ok(dir.path(), &["dlq", "list", "-o", "json"])).unwrap();
    assert_eq!(list["groups"][0]["count"], 1, "{list}");
    assert_eq!(list["letters"][0]["letter"], Value::Null, "not one of ours: {list}");
    let shown = ok(dir.path(), &["dlq", "show", "p", "0"]);
    assert!(shown.contains("{\"a\":1}"), "{shown}");
    let said = fails(sandbar(dir.path(), &["dlq", "show", "p.dlq", "7"]));
    assert!(said.contains("no event at p.dlq/0/7"), "{said}");
}

/// A folder whose plugin may publish to no topic, and has failed on each of `lines`.
fn with_letters(lines: &str) -> tempfile::TempDir {
    let dir = folder();
    plugin(dir.path(), "relay", &Guest::new("1.2.3").build());
    may_publish(dir.path(), "elsewhere");
    publish(dir.path(), "in", lines);
    ok(dir.path(), &RUN);
    dir
}

fn may_publish(dir: &Path, topic: &str) {
    let settings = format!("publish = [\"{topic}\"]\nordering = \"partition\"\n");
    fs::write(dir.join("plugins/relay.toml"), settings).unwrap();
}

fn payloads(dir: &Path, topic: &str) -> Vec<String> {
    let events = crate::lines_of_json(&ok(dir, &["tail", topic, "-o", "json"]));
    events.iter().map(|event| event["payload"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn d4_redriven_letters_are_handled_when_the_plugin_runs_again() {
    let dir = with_letters("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let big = ["dlq", "redrive", "relay", "--where", "payload.n > 1"];
    let dry = ok(dir.path(), &[&big[..], &["--dry-run"]].concat());
    assert!(dry.contains("2 letters would be sent; 1 did not match"), "{dry}");
    assert!(dry.contains("relay.dlq/0/1  denied  in/0/1  sandbar-inbox.sandbar.relay"), "{dry}");
    let job = json_of(dir.path(), &[&big[..], &["-o", "json"]].concat());
    assert_eq!((&job["progress"]["sent"], &job["state"]), (&json!(2), &json!("done")), "{job}");
    let again = ok(dir.path(), &big);
    assert!(again.contains(": 0 letters sent\n"), "{again}");

    may_publish(dir.path(), "out");
    ok(dir.path(), &RUN);
    assert_eq!(payloads(dir.path(), "out"), ["{\"n\":2}", "{\"n\":3}"]);
}

#[test]
fn d4_a_wrong_filter_is_told_before_anything_is_read() {
    // there is not even a log
    let dir = folder();
    let said = fails(sandbar(dir.path(), &["dlq", "redrive", "relay", "--where", "code = 'x'"]));
    assert!(said.contains("line 1, column 6") && said.contains("\n       ^"), "{said}");
    let said = fails(sandbar(dir.path(), &["dlq", "list", "--class", "trapp"]));
    assert!(said.contains("did you mean `trap`?"), "{said}");
    let said = fails(sandbar(dir.path(), &["dlq", "redrive", "relay", "--older-than", "soon"]));
    assert!(said.contains("`soon` is no age"), "{said}");
}

#[test]
fn a_letter_is_edited_by_hand() {
    let dir = with_letters("bad\n");
    let mut edit = sandbar(dir.path(), &["dlq", "edit", "relay", "0", "--set-header", "by=hand"]);
    // headers alone: the payload stays, and standard input is not looked at
    edit.write_stdin("not this");
    assert!(stdout(edit).contains("in/0/0 is sent to sandbar-inbox.sandbar.relay on log"));
    let mut edit = sandbar(dir.path(), &["dlq", "edit", "relay", "0"]);
    edit.write_stdin("good");
    stdout(edit);
    let said = fails(sandbar(dir.path(), &["dlq", "edit", "relay", "7"]));
    assert!(said.contains("no event at relay.dlq/0/7"), "{said}");
    may_publish(dir.path(), "out");
    ok(dir.path(), &RUN);
    assert_eq!(payloads(dir.path(), "out"), ["bad", "good"]);
}

#[test]
fn nothing_is_purged_without_a_yes() {
    let dir = with_letters("1\n2\n3\n");
    let said = fails(sandbar(dir.path(), &["dlq", "purge", "relay", "--all"]));
    assert!(said.contains("nothing was deleted: add --yes"), "{said}");
    assert_eq!(payloads(dir.path(), "relay.dlq").len(), 3);
    sandbar(dir.path(), &["dlq", "purge", "relay", "--yes"]).assert().code(2);
    let purged = ok(dir.path(), &["dlq", "purge", "relay", "--before", "2", "--yes"]);
    assert!(purged.starts_with("2 positions of relay.dlq deleted\n"), "{purged}");
    assert_eq!(payloads(dir.path(), "relay.dlq"), ["3"]);
}

#[test]
fn d4_a_runtime_that_holds_the_log_redrives_and_an_interrupt_stops_it() {
    let dir = with_letters("1\n2\n3\n4\n");
    may_publish(dir.path(), "out");
    let runtime = Running::start(dir.path());
    let redrive = ["dlq", "redrive", "relay", "-o", "json"];
    let slow = Running::spawn(dir.path(), &[&redrive[..], &["--rate", "1"]].concat());
    wait_for("one to be handled", || {
        let plugins = json_of(dir.path(), &["plugins", "list", "-o", "json"]);
        (plugins["plugins"][0]["counts"]["handled"].as_u64() >= Some(1)).then_some(())
    });
    slow.interrupt();
    let (code, said) = slow.end();
    let job: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &job["state"]), (Some(1), &json!("stopped")), "{job}");
    let sent = job["progress"]["sent"].as_u64().unwrap();
    assert_eq!(job["progress"]["left"], 4 - sent);

    let rest = json_of(dir.path(), &redrive);
    assert_eq!((&rest["state"], &rest["progress"]["sent"]), (&json!("done"), &json!(4 - sent)));
    let mut edit = sandbar(dir.path(), &["dlq", "edit", "relay", "0"]);
    edit.write_stdin("five");
    stdout(edit);
    let purged = json_of(dir.path(), &["dlq", "purge", "relay", "--all", "--yes", "-o", "json"]);
    assert_eq!(purged["partitions"][0]["before"], 4, "{purged}");
    let said = ok(dir.path(), &["dlq", "release", "relay", "--all"]);
    assert!(said.contains("sandbar.relay holds no such key back"), "{said}");
    let out = wait_for("all to be handled", || {
        let out = payloads(dir.path(), "out");
        (out.len() == 5).then_some(out)
    });
    assert_eq!(out, ["1", "2", "3", "4", "five"]);
    runtime.terminate();
    runtime.output();
}
