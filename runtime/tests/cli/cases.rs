//! `plugin test`, `record`, `diff` and `call`, on a plugin that relays.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    fails, folder,
    guest::Guest,
    lines_of_json, ok,
    plugins::{json_of, plugin, publish},
    sandbar, stdout,
};

const CASES: &str = r#"# what the relay does
[[case]]
name = "passes it on"   # with its version
event = { topic = "in", key = "k", json = { a = 1 } }
output = [{ topic = "out", key = "k", json = { a = 1 }, headers = { version = "1" } }]

[[case]]
name = "refuses"
event = { topic = "in", text = "!no" }
verdict = "reject"
code = "refused"

[[case]]
name = "traps"
event = { topic = "in", text = "~" }
verdict = "trap"
message = "unreachable"

[[case]]
name = "loops"
event = { topic = "in", text = "%" }
verdict = "limit"
code = "cpu-time"

[[case]]
name = "goes on after a trap"
[[case.step]]
event = { topic = "in", text = "~" }
verdict = "trap"
[[case.step]]
event = { topic = "in", tombstone = true }
output = [{ topic = "out", tombstone = true, headers = [["version", "1"]] }]
"#;

/// A folder with `relay.wasm` of a version, and cases.
fn relay(cases: &str) -> TempDir {
    let dir = folder();
    fs::write(dir.path().join("relay.wasm"), Guest::new("1").build()).unwrap();
    fs::write(dir.path().join("cases.toml"), format!("limits.cpu-time = \"50ms\"\n{cases}"))
        .unwrap();
    dir
}

fn cases_text(dir: &Path) -> String {
    fs::read_to_string(dir.join("cases.toml")).unwrap()
}

#[test]
fn cases_beside_a_plugin_are_run_on_the_engine() {
    let dir = relay(CASES);
    let text = ok(dir.path(), &["plugin", "test", "relay.wasm"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["ok    passes it on", "ok    refuses"]);
    assert!(lines[5].starts_with("5 cases: passed in "), "{text}");
    let report =
        json_of(dir.path(), &["plugin", "test", "relay.wasm", "-o", "json", "-f", "refuse"]);
    assert_eq!((&report["passed"], &report["failed"]), (&json!(1), &json!(0)));
    assert_eq!(report["plugin"]["version"], "1");
    let case = &report["cases"][0];
    assert_eq!((&case["name"], &case["line"]), (&json!("refuses"), &json!(8)));
    let answer = json!({
        "verdict": "reject", "code": "refused", "message": "refused", "outputs": [], "log": [],
    });
    assert_eq!(case["answers"], json!([answer]));
}

#[test]
fn what_differs_is_shown_by_its_place_and_written_when_asked() {
    let wrong = CASES
        .replace("json = { a = 1 }, headers", "json = { a = 2, b = [] }, headers")
        .replace("code = \"refused\"", "code = \"other\"")
        .replace("verdict = \"limit\"", "verdict = \"ok\"");
    let dir = relay(&wrong);
    let junit = dir.path().join("junit.xml");
    let mut test = sandbar(dir.path(), &["plugin", "test", "relay.wasm", "--junit", "junit.xml"]);
    let done = test.assert().code(1);
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    for part in [
        "FAIL  passes it on (cases.toml:3)",
        "      output 1 payload.a:\n        - 2\n        + 1\n",
        "      output 1 payload.b: missing\n        - []\n",
        "      code:\n        - other\n        + refused\n",
        "      verdict:\n        - ok\n        + limit (cpu-time: used more than 50 ms of CPU time",
        "5 cases: 2 passed, 3 FAILED in ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains("<testsuites name=\"relay\" tests=\"5\" failures=\"3\""), "{xml}");
    assert!(xml.contains("<failure message=\"differs in code\">"), "{xml}");

    ok(dir.path(), &["plugin", "test", "relay.wasm", "--update"]);
    let mended = cases_text(dir.path());
    assert!(mended.ends_with(CASES), "only what was wrong is another now:\n{mended}");
    ok(dir.path(), &["plugin", "test", "relay.wasm"]);
}

#[test]
fn a_mistake_in_a_case_is_shown_with_its_line() {
    let dir = relay("[[case]]\nname = \"n\"\nevent = { topik = \"in\", text = \"\" }\n");
    let said = fails(sandbar(dir.path(), &["plugin", "test", "relay.wasm"]));
    assert!(said.contains("unknown key `topik`") && said.contains("cases.toml:4:11"), "{said}");
    assert!(said.contains("did you mean `topic`?"), "{said}");
    fs::write(dir.path().join("cases.toml"), "").unwrap();
    let said = fails(sandbar(dir.path(), &["plugin", "test", "relay.wasm"]));
    assert!(said.contains("there is no case in .: write cases.toml"), "{said}");
    let said = fails(sandbar(dir.path(), &["plugin", "test", "nothing.wasm"]));
    assert!(said.contains("cannot read nothing.wasm"), "{said}");
}

#[test]
fn a_recorded_slice_is_a_case_that_passes_and_tells_the_next_version_from_this_one() {
    let dir = folder();
    let at = dir.path();
    plugin(at, "relay", &Guest::new("1").build());
    fs::write(at.join("plugins/relay.toml"), "config = { token = \"hunter2\", region = \"eu\" }")
        .unwrap();
    publish(at, "in", "{\"a\": [1,  null]}\n!no\nplain \"text\"\n~\n");
    let said = ok(at, &["plugin", "record", "relay", "in"]);
    assert!(said.contains("cases/in.toml: 4 cases (2 ok, 1 reject, 1 trap)"), "{said}");
    let recorded = fs::read_to_string(at.join("cases/in.toml")).unwrap();
    assert!(recorded.starts_with("# Recorded from topic in: what relay 1 ("), "{recorded}");
    assert!(recorded.contains("{\"a\": [1,  null]}"), "to the byte: {recorded}");
    assert!(recorded.contains("region = \"eu\"") && !recorded.contains("hunter2"), "{recorded}");
    let test = ["plugin", "test", "plugins/relay.wasm", "--cases", "cases"];
    assert!(ok(at, &test).contains("4 cases: passed"));
    let said = fails(sandbar(at, &["plugin", "record", "relay", "in"]));
    assert!(said.contains("--force"), "{said}");
    ok(at, &["plugin", "record", "relay", "in", "--force", "--from", "2", "-n", "1"]);
    assert!(ok(at, &test).contains("1 case: passed"));

    fs::write(at.join("new.wasm"), Guest::new("2").build()).unwrap();
    let diff = ["plugin", "diff", "relay", "new.wasm", "--topic", "in"];
    let done = sandbar(at, &diff).assert().code(1);
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    let part = "in/0/2\n      output 1 headers:\n        - version = 1\n        + version = 2\n";
    assert!(text.contains(part), "{text}");
    assert!(text.ends_with("2 of 4 differ (- old, + new)\n"), "{text}");
    let by_cases =
        ["plugin", "diff", "relay", "new.wasm", "--cases", "cases/in.toml", "-o", "json"];
    let done = sandbar(at, &by_cases).assert().code(1);
    let report: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let difference =
        json!({ "at": "output 1 headers", "expected": "version = 1", "found": "version = 2" });
    assert_eq!(report["different"], json!([{ "name": "in/0/2", "differences": [difference] }]));
    let same = ["plugin", "diff", "relay", "plugins/relay.wasm", "--topic", "in"];
    assert!(ok(at, &same).ends_with("0 of 4 differ (- old, + new)\n"));
}

#[test]
fn events_of_standard_input_are_answered_line_by_line() {
    let dir = relay(CASES);
    let events = "{\"topic\":\"in\",\"key\":\"k\",\"payload\":\"x\"}\n\n\
                  {\"topic\":\"in\",\"payload\":\"!\"}\n{\"topic\":\"in\",\"payload\":null}\n";
    let mut call = sandbar(dir.path(), &["plugin", "call", "relay.wasm", "-o", "json"]);
    call.write_stdin(events);
    let answers = lines_of_json(&stdout(call));
    assert_eq!(
        answers[0],
        json!({
            "verdict": "ok", "log": [],
            "outputs": [{ "topic": "out", "key": "k", "payload": "x", "headers": [["version", "1"]] }],
        })
    );
    assert_eq!(
        (&answers[1]["verdict"], &answers[1]["code"]),
        (&json!("reject"), &json!("refused"))
    );
    assert_eq!(answers[2]["outputs"][0]["payload"], Value::Null);

    let mut call = sandbar(dir.path(), &["plugin", "call", "relay.wasm"]);
    call.write_stdin(format!("{events}{{\"topic\":\"in\"}}\n"));
    let done = call.assert().code(1);
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains("line 5: no event: missing field `payload`"), "{said}");
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    assert!(text.starts_with("in/0/0: ok\n  -> out\tk\tx\n"), "{text}");
}

#[test]
fn the_schema_of_cases_fits_them() {
    let dir = folder();
    let schema: Value = serde_json::from_str(&ok(dir.path(), &["schema", "cases"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let json =
        |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    validator.validate(&json(CASES)).unwrap();
    assert!(!validator.is_valid(&json("[[case]]\nname = \"n\"\nevnt = {}\n")));
}
