//! Cases of plugins that reach further: state, events published at once, secrets, metrics and
//! HTTP.

use std::fs;

use sandbar::{
    cases::{Difference, Kind, OutputJson, compare},
    event_json::BytesJson,
};
use sandbar_core::Outgoing;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    case_files::{answered, cases, mistake, updated},
    folder, ok,
    plugins::json_of,
    sandbar,
};

/// A folder with a built guest, and its cases.
fn guest(name: &str, cases: &str) -> TempDir {
    let dir = folder();
    fs::copy(sandbar_test::guest(name).unwrap(), dir.path().join("p.wasm")).unwrap();
    fs::write(dir.path().join("cases.toml"), cases).unwrap();
    dir
}

const TEST: [&str; 3] = ["plugin", "test", "p.wasm"];

/// What is said of cases of which one or more fail.
fn fails(dir: &TempDir, more: &[&str]) -> String {
    let done = sandbar(dir.path(), &[&TEST, more].concat()).assert().code(1);
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

/// What the answers of the one case of a folder have under `key`.
fn answers(dir: &TempDir, key: &str) -> Vec<Value> {
    let report = json_of(dir.path(), &[&TEST[..], &["-o", "json"]].concat());
    let answers = report["cases"][0]["answers"].as_array().unwrap();
    answers.iter().map(|answer| answer[key].clone()).collect()
}

const STATE: &str = r#"publish = ["answers", "audit"]
state = { n = 5, kept = { base64 = "/w==" } }

[[case]]
name = "keeps"
state = { doc = { json = { a = 1 } } }
[[case.step]]
event = { topic = "in", text = 'add n 2;set doc {"a":2,"b":[]};publish audit 3' }
output = [{ topic = "answers", text = """
Ok(7)
Ok(())
Ok(())""" }]
published = [{ topic = "audit", text = "xxx" }]
state-after = { n = 7, kept = { base64 = "/w==" }, doc = { json = { a = 2, b = [] } } }   # all of it
[[case.step]]
event = { topic = "in", text = "delete n;retry" }
verdict = "retry"
published = []
state-after = { n = 7, kept = { base64 = "/w==" }, doc = '{"a":2,"b":[]}' }
"#;

#[test]
fn state_and_what_is_published_at_once_are_compared() {
    let dir = guest("program-keeps", STATE);
    ok(dir.path(), &TEST);
    let state = json!({ "n": "7", "kept": { "base64": "/w==" }, "doc": r#"{"a":2,"b":[]}"# });
    assert_eq!(answers(&dir, "state"), [state.clone(), state]);
    let published = json!([{ "topic": "audit", "key": null, "payload": "xxx", "headers": [] }]);
    assert_eq!(answers(&dir, "published"), [published, Value::Null]);

    let wrong = STATE
        .replace("n = 7, kept", "m = 1, kept")
        .replace("json = { a = 2, b = [] }", "json = { a = 2, b = [1] }")
        .replace("published = []", "published = [{ topic = \"audit\", text = \"\" }]")
        .replace("text = \"xxx\"", "text = \"x\"");
    fs::write(dir.path().join("cases.toml"), &wrong).unwrap();
    let text = fails(&dir, &[]);
    for part in [
        "      step 1: published 1 payload:\n        - x\n        + xxx\n",
        "      step 1: state.doc.b[0]: missing\n        - 1\n",
        "      step 1: state.m: missing\n        - 1\n",
        "      step 1: state.n: not expected\n        + 7\n",
        "      step 2: published: expected 1, found 0:\n        - audit: ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    ok(dir.path(), &[&TEST[..], &["--update"]].concat());
    let mended = fs::read_to_string(dir.path().join("cases.toml")).unwrap();
    let table = r#"state-after = { kept = { base64 = "/w==" }, doc = { json = { a = 2, b = [] } }, n = "7" }   # all of it"#;
    assert!(mended.contains(table), "{mended}");
    assert!(mended.contains("published = []\n"), "{mended}");
    ok(dir.path(), &TEST);
}

const TELLS: &str = r#"secrets = { token = "not this one" }

[[case]]
name = "tells"
secrets = { token = "open-sesame" }
[[case.step]]
event = { topic = "in", text = "length" }
output = [{ topic = "out", text = "11" }]
metrics = { 'events{kind="length"}' = 1, 'events{kind="log"}' = 0, payload_bytes_count = 1, payload_bytes_sum = 6 }
[[case.step]]
event = { topic = "in", text = "log" }
log = ["info: it is [redacted]"]
"#;

#[test]
fn secrets_are_read_and_what_a_step_counts_is_compared() {
    let dir = guest("sdk-tells", TELLS);
    ok(dir.path(), &TEST);
    let counted = |kind: &str, bytes: f64| {
        let events = format!("events{{kind=\"{kind}\"}}");
        json!({ events: 1.0, "payload_bytes_count": 1.0, "payload_bytes_sum": bytes })
    };
    assert_eq!(answers(&dir, "metrics"), [counted("length", 6.0), counted("log", 3.0)]);

    let wrong = TELLS.replace("payload_bytes_sum = 6", "gone = 2, payload_bytes_sum = 7.5");
    fs::write(dir.path().join("cases.toml"), wrong).unwrap();
    let text = fails(&dir, &[]);
    assert!(text.contains("step 1: metric payload_bytes_sum:\n        - 7.5\n        + 6\n"));
    assert!(text.contains("step 1: metric gone: missing\n        - 2\n"), "{text}");
    ok(dir.path(), &[&TEST[..], &["--update"]].concat());
    assert_eq!(fs::read_to_string(dir.path().join("cases.toml")).unwrap(), TELLS);
}

#[test]
fn to_count_0_is_to_count_nothing() {
    let text = r#"[[case]]
name = "n"
event = { topic = "in", text = "" }
metrics = { dropped = 0, seen = 2.0 }   # of this event
"#;
    let counted = |counts: &[(&str, f64)]| {
        let mut ran = answered(Kind::Ok, &[]);
        ran.answers[0].metrics =
            counts.iter().map(|(n, count)| ((*n).to_owned(), *count)).collect();
        ran
    };
    let differs = |counts: &[(&str, f64)]| -> Vec<String> {
        compare(&cases(text)[0], &counted(counts)).iter().flat_map(Difference::lines).collect()
    };
    assert_eq!(differs(&[("seen", 2.0)]), [""; 0], "nothing was dropped");
    assert_eq!(differs(&[("dropped", 0.0), ("other", 0.0), ("seen", 2.0)]), [""; 0]);
    let lines = [
        "metric dropped:",
        "  - 0",
        "  + 1",
        "metric other: not expected",
        "  + 1",
        "metric seen: missing",
        "  - 2",
    ];
    assert_eq!(differs(&[("dropped", 1.0), ("other", 1.0)]), lines);
    // what holds stays as it is written
    let mended = updated(text, &[counted(&[("seen", 3.0)])]);
    assert_eq!(mended, text.replace("2.0", "3"));
    let mended = updated(text, &[counted(&[("dropped", 1.0), ("seen", 2.0)])]);
    assert_eq!(mended, text.replace("dropped = 0", "dropped = 1"));
}

const REQUESTS: &str = r#"[[http]]
request = { url = "https://api.test/rates*" }
response = { json = { rate = 1 }, headers = { x = "y" } }

[[case]]
name = "asks"
[[case.http]]
request = { method = "POST", url = "https://api.test", headers = { X-Mine = "1" }, json = { a = 1 } }
response = { status = 503 }
[[case.http]]
request = { method = "POST", url = "https://api.test", headers = { X-Mine = "1" }, json = { a = 1 } }
response = { text = "done" }
[[case.step]]
event = { topic = "in", json = { url = "https://api.test/rates?to=EUR" } }
output = [{ topic = "out", json = { rate = 1 }, headers = { x = "y" }, attributes = { status = "200" } }]
[[case.step]]
event = { topic = "in", json = { method = "POST", url = "https://api.test/", headers = { x-mine = "1" }, body = '{"a": 1}' } }
output = [{ topic = "out", text = "", attributes = { status = "503" } }]
[[case.step]]
event = { topic = "in", json = { method = "POST", url = "https://api.test/", headers = { x-mine = "1" }, body = '{"a":1}' } }
output = [{ topic = "out", text = "done", attributes = { status = "200" } }]
[[case.step]]
event = { topic = "in", json = { method = "POST", url = "https://api.test/", headers = { x-mine = "1" }, body = '{"a":1}' } }
output = [{ topic = "out", text = "done", attributes = { status = "200" } }]
"#;

#[test]
fn requests_are_answered_in_the_case_and_none_leaves_it() {
    let dir = guest("sdk-requests", REQUESTS);
    ok(dir.path(), &TEST);
    let first = json!([{ "method": "GET", "url": "https://api.test/rates?to=EUR", "status": 200 }]);
    assert_eq!(answers(&dir, "requests")[0], first);
    assert_eq!(answers(&dir, "requests")[1][0]["body"], r#"{"a": 1}"#);

    // another case has its own, and a response is not to be guessed
    let more = r#"
[[case]]
name = "asks others"
[[case.step]]
event = { topic = "in", json = { url = "https://other.test/" } }
[[case.step]]
event = { topic = "in", json = { method = "PUT", url = "https://api.test/rates" } }
"#;
    fs::write(dir.path().join("cases.toml"), format!("{REQUESTS}{more}")).unwrap();
    let text = fails(&dir, &["--update"]);
    for part in [
        "request GET https://other.test/: not expected\n        + no `[[http]]` answers it: add one with `request = { method = \"GET\", url = \"https://other.test/\" }` and its `response`",
        "request PUT https://api.test/rates: not expected\n        + the `[[http]]` for this URL has another method",
        "2 cases: 1 passed, 1 FAILED",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let kept = fs::read_to_string(dir.path().join("cases.toml")).unwrap();
    assert_eq!(kept, format!("{REQUESTS}{more}"));
}

#[test]
fn the_schema_of_cases_fits_all_of_these() {
    let schema: Value = serde_json::from_str(&ok(folder().path(), &["schema", "cases"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for cases in [STATE, TELLS, REQUESTS] {
        let cases = serde_json::to_value(toml::from_str::<toml::Table>(cases).unwrap()).unwrap();
        validator.validate(&cases).unwrap();
    }
}

#[test]
fn state_metrics_and_what_is_published_are_written_in_either_form() {
    let text = r#"[[case]]
name = "n"
event = { topic = "in", text = "" }
output = []
published = []    # at once
state-after = { b = "1", a = { json = { x = 1 } } }
metrics = {}

[[case]]
name = "m"
published = [{ topic = "audit", text = "" }]
[case.event]
topic = "in"
text = ""
[case.state-after]
# of a
a = "1"   # after a
gone = "2"
[case.metrics]
events = 1
"#;
    let mut one = answered(Kind::Ok, &[]);
    let audit = Outgoing::new("audit", "x");
    one.answers[0].published = vec![OutputJson::from(&audit)];
    let value = |text: &str| BytesJson(text.to_owned().into());
    one.answers[0].state =
        [("a".to_owned(), value(r#"{"x":2}"#)), ("c".to_owned(), value("3"))].into();
    one.answers[0].metrics = [("events".to_owned(), 1.0), ("size_sum".to_owned(), 1.5)].into();
    let mut two = answered(Kind::Ok, &[]);
    two.answers[0].state =
        [("a".to_owned(), value("5")), ("odd key".to_owned(), BytesJson(vec![255].into()))].into();
    insta::assert_snapshot!(updated(text, &[one, two]), @r##"
    [[case]]
    name = "n"
    event = { topic = "in", text = "" }
    published = [{ topic = "audit", text = "x" }]    # at once
    state-after = { a = { json = { x = 2 } }, c = "3" }
    metrics = { events = 1, size_sum = 1.5 }

    [[case]]
    name = "m"
    published = []
    [case.event]
    topic = "in"
    text = ""
    [case.state-after]
    # of a
    a = "5"   # after a
    "odd key" = { base64 = "/w==" }
    [case.metrics]
    "##);
}

#[test]
fn mistake_state_value() {
    insta::assert_snapshot!(mistake("state = { a = 1.5 }\n"), @r##"
     × a value of state is text, a whole number, { json = .. } or { base64 = ".." }
      ╭─[cases.toml:1:15]
    1 │ state = { a = 1.5 }
      ·               ─┬─
      ·                ╰── here
      ╰────
    "##);
    insta::assert_snapshot!(mistake("state = { a = { jsn = 1 } }\n"), @r##"
     × a value of state is text, a whole number, { json = .. } or { base64 = ".." }: unknown variant
     │ `jsn`, expected `json` or `base64`
      ╭─[cases.toml:1:15]
    1 │ state = { a = { jsn = 1 } }
      ·               ─────┬─────
      ·                    ╰── here
      ╰────
    "##);
}

#[test]
fn mistake_request_and_response() {
    insta::assert_snapshot!(mistake("[[http]]\nrequest = { url = \"api.test/a\" }\nresponse = {}\n"), @r##"
     × `api.test/a` is no URL
      ╭─[cases.toml:2:11]
    1 │ [[http]]
    2 │ request = { url = "api.test/a" }
      ·           ───────────┬──────────
      ·                      ╰── of this request
    3 │ response = {}
      ╰────
     help: write all of it, such as `https://api.example.com/rates?to=EUR`; `*` stands for anything
    "##);
    insta::assert_snapshot!(mistake("[[http]]\nrequest = { url = \"https://api.test/a\" }\nresponse = { status = 99, text = \"\", json = 1 }\n"), @r##"
     × several bodies
      ╭─[cases.toml:3:12]
    2 │ request = { url = "https://api.test/a" }
    3 │ response = { status = 99, text = "", json = 1 }
      ·            ──────────────────┬─────────────────
      ·                              ╰── here
      ╰────
     help: write one of `json`, `text`, `base64` and `file`
    "##);
    insta::assert_snapshot!(mistake("[[http]]\nrequest = { url = \"https://api.test/a\" }\nresponse = { status = 99 }\n"), @r##"
     × 99 is no status of a response
      ╭─[cases.toml:3:23]
    2 │ request = { url = "https://api.test/a" }
    3 │ response = { status = 99 }
      ·                       ─┬
      ·                        ╰── here
      ╰────
     help: write a number from 200 to 999, such as 404
    "##);
    insta::assert_snapshot!(mistake("[[http]]\nrequest = { url = \"https://api.test/a\" }\n"), @r##"
     × missing field `response`
      ╭─[cases.toml:1:1]
    1 │ [[http]]
      · ────┬───
      ·     ╰── here
    2 │ request = { url = "https://api.test/a" }
      ╰────
    "##);
}
