//! `publish`, `tail` and `topics` on a log that no runtime holds.

use serde_json::{Value, json};

use crate::{fails, folder, lines_of_json, ok, sandbar, stdout};

pub const EVENTS: &str = "{\"id\": 1, \"repo\": {\"name\": \"a\"}}\n\n{\"id\": 2, \"repo\": {\"name\": \"b\"}}\n{\"id\": 3, \"repo\": {\"name\": \"a\"}}\n";

#[test]
fn what_is_published_can_be_listed_and_read() {
    let dir = folder();
    let mut publish =
        sandbar(dir.path(), &["publish", "in", "--key", "/repo/name", "--header", "source=test"]);
    publish.write_stdin(EVENTS);
    assert_eq!(stdout(publish), "published 3 events to in on log\n");

    let topics: Value = serde_json::from_str(&ok(dir.path(), &["topics", "-o", "json"])).unwrap();
    let topic = &topics["topics"][0];
    assert_eq!((&topic["name"], &topic["events"]), (&json!("in"), &json!(3)), "{topics}");
    let table = ok(dir.path(), &["topics"]);
    assert!(table.starts_with("TOPIC  PARTITIONS  EVENTS"), "{table}");

    let events = lines_of_json(&ok(dir.path(), &["tail", "in", "-o", "json"]));
    let keys: Vec<_> = events.iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "a"]);
    assert_eq!(events[0]["payload"], "{\"id\": 1, \"repo\": {\"name\": \"a\"}}");
    assert_eq!(events[0]["headers"], json!([["source", "test"]]));
    let positions: Vec<_> = events.iter().map(|e| e["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 2]);

    let second =
        lines_of_json(&ok(dir.path(), &["tail", "in", "-o", "json", "--from", "1", "-n", "1"]));
    assert_eq!(second, [events[1].clone()]);
    let text = ok(dir.path(), &["tail", "in", "--headers"]);
    assert!(text.starts_with("in/0/0\t") && text.contains("\n    source: test\n"), "{text}");
}

#[test]
fn an_event_of_any_bytes_goes_around() {
    let dir = folder();
    let events = [
        json!({"key": {"base64": "/wA="}, "payload": {"base64": "//79"}, "headers": [["h", {"base64": "gA=="}], ["h", null]]}),
        json!({"key": null, "payload": null, "headers": []}),
        json!({"key": "", "payload": "", "headers": [["h", ""]]}),
    ];
    let mut publish = sandbar(dir.path(), &["publish", "a", "--envelope"]);
    publish.write_stdin(events.each_ref().map(Value::to_string).join("\n"));
    stdout(publish);
    let first = ok(dir.path(), &["tail", "a", "-o", "json"]);
    let mut again = sandbar(dir.path(), &["publish", "b", "--envelope"]);
    again.write_stdin(first);
    stdout(again);
    for (read, sent) in
        lines_of_json(&ok(dir.path(), &["tail", "b", "-o", "json"])).iter().zip(&events)
    {
        for part in ["key", "payload", "headers"] {
            assert_eq!(read[part], sent[part], "{part} of {read}");
        }
    }
    let text = ok(dir.path(), &["tail", "b"]);
    assert!(text.contains("base64:/wA=\tbase64://79\n") && text.contains("(tombstone)"), "{text}");
}

#[test]
fn raw_lines_need_not_be_json() {
    let dir = folder();
    let mut publish = sandbar(dir.path(), &["publish", "in", "--raw"]);
    publish.write_stdin("no json\n\x1b[31mred\n");
    stdout(publish);
    let text = ok(dir.path(), &["tail", "in"]);
    assert!(text.contains("\tno json\n") && text.contains("\\u{1b}[31mred\n"), "{text}");
}

#[test]
fn a_bad_line_is_named_and_the_others_are_published() {
    let dir = folder();
    let mut publish = sandbar(dir.path(), &["publish", "in", "--key-field", "id"]);
    publish.write_stdin("{\"id\":1}\n{\"id\":\n{\"no\":1}\n{\"id\":4}\n");
    let done = publish.assert().code(1);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(
        stderr.contains("line 2: not JSON") && stderr.contains("line 3: there is no key at /id"),
        "{stderr}"
    );
    let stdout = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    assert_eq!(stdout, "published 2 events to in on log, 2 lines failed\n");
    assert_eq!(ok(dir.path(), &["tail", "in"]).lines().count(), 2);
}

#[test]
fn strict_stops_at_the_first_bad_line() {
    let dir = folder();
    let mut publish = sandbar(dir.path(), &["publish", "in", "--strict", "-o", "json"]);
    publish.write_stdin("{\"id\":1}\nno\n{\"id\":3}\n");
    let done = publish.assert().code(1);
    let summary: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!((&summary["published"], &summary["failed"]), (&json!(1), &json!(1)), "{summary}");
    assert_eq!(summary["errors"][0]["line"], 2);
    assert_eq!(ok(dir.path(), &["tail", "in"]).lines().count(), 1);
}

#[test]
fn what_is_not_there_is_an_error_that_says_so() {
    let dir = folder();
    let said = fails(sandbar(dir.path(), &["topics"]));
    assert!(said.contains("has no log yet"), "{said}");
    assert!(!dir.path().join("data").exists());
    let mut publish = sandbar(dir.path(), &["publish", "in"]);
    publish.write_stdin("1");
    stdout(publish);
    let said = fails(sandbar(dir.path(), &["tail", "other"]));
    assert!(said.contains("other"), "{said}");
    let said = fails(sandbar(dir.path(), &["topics", "--connection", "logg"]));
    assert!(said.contains("did you mean `log`?"), "{said}");
    let said = fails(sandbar(dir.path(), &["publish", "in", "missing.ndjson"]));
    assert!(said.contains("cannot open missing.ndjson"), "{said}");
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let dir = folder();
    for args in [
        &["tali", "in"][..],
        &["tail"],
        &["tail", "in", "--from", "yesterday"],
        &["publish", "in", "--key", "id"],
    ] {
        sandbar(dir.path(), args).assert().code(2);
    }
}

#[test]
fn flags_have_twins_in_the_environment() {
    let dir = folder();
    let mut publish = sandbar(dir.path(), &["publish", "in"]);
    publish.env("SANDBAR_DATA", "elsewhere").env("SANDBAR_OUTPUT", "json").write_stdin("1\n");
    let summary: Value = serde_json::from_str(&stdout(publish)).unwrap();
    assert_eq!(summary["published"], 1);
    assert!(dir.path().join("elsewhere").is_dir() && !dir.path().join("data").exists());
}
