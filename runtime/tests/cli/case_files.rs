//! Files of cases: what they may say, what their author sees who made a mistake in one, and
//! what is left of them when they are updated.

use std::{collections::BTreeMap, fs, time::Duration};

use sandbar::{
    cases::{Answer, Case, Kind, LogJson, OutputJson, Ran, compare, read, update},
    config::ConfigError,
};
use sandbar_core::Outgoing;

use crate::folder;

fn parse_text(text: &str) -> Result<Vec<Case>, ConfigError> {
    let dir = folder();
    let file = dir.path().join("cases.toml");
    fs::write(&file, text).unwrap();
    read(&file)
}

pub fn mistake(text: &str) -> String {
    let error = parse_text(text).expect_err("this case is wrong");
    let (file, ..) = error.place().unwrap_or_else(|| panic!("{error} has no place"));
    error
        .render(false, 100)
        .replace(file, "cases.toml")
        .replace(file.trim_end_matches("cases.toml"), "")
}

#[test]
fn a_case_is_one_event_and_what_comes_of_it() {
    let cases = parse_text(
        r#"
        time = 2026-03-01T12:00:00Z
        config = { threshold = 5 }
        [[case]]
        name = "one"
        event = { topic = "in", json = { b = [1, 2.5], a = "x" }, headers = { h = "v" } }
        output = [{ topic = "out", key = { base64 = "/w==" }, text = "t" }]
        [[case]]
        name = "two"
        config = { threshold = "7", more = true }
        verdict = "defer"
        after = "5s"
        [case.event]
        topic = "in"
        json = '{ "null": null }'
        headers = [["h", "1"], ["h"]]
        attempt = 3
        timestamp = 2026-03-01T11:00:00Z
        "#,
    )
    .unwrap();
    let [one, two] = &cases[..] else { panic!("{cases:?}") };
    assert_eq!((one.index, one.line, two.index), (0, 4, 1));
    assert_eq!(one.settings.time, Duration::from_secs(1_772_366_400));
    assert_eq!(one.settings.config["threshold"], "5");
    assert_eq!(two.settings.config.len(), 2);
    let step = &one.steps[0];
    assert_eq!(step.event.payload.as_deref(), Some(&br#"{"a":"x","b":[1,2.5]}"#[..]));
    assert_eq!(step.event.timestamp_ms, 1_772_366_400_000);
    assert_eq!(step.expected.outputs[0].event.key.as_deref(), Some(&b"\xff"[..]));
    assert!(!step.expected.outputs[0].as_json, "text is compared to the byte");
    let step = &two.steps[0];
    assert_eq!(
        step.event.payload.as_deref(),
        Some(&br#"{ "null": null }"#[..]),
        "as it is written"
    );
    assert_eq!(step.event.headers.len(), 2);
    assert_eq!(step.event.headers[1].value, None);
    assert_eq!((step.attempt, step.expected.after), (3, Some(Duration::from_secs(5))));
    assert_eq!(step.event.timestamp_ms, 1_772_362_800_000);
}

#[test]
fn steps_come_one_after_the_other_and_time_goes_on() {
    let cases = parse_text(
        r#"
        [[case]]
        name = "several"
        [[case.step]]
        event = { topic = "in", text = "1" }
        [[case.step]]
        time = 2026-01-01T01:00:00Z
        event = { topic = "in", tombstone = true }
        [[case.step]]
        event = { topic = "in", text = "3" }
        "#,
    )
    .unwrap();
    let steps = &cases[0].steps;
    assert!(cases[0].in_steps);
    let facts: Vec<_> = steps.iter().map(|s| (s.event.position, s.event.timestamp_ms)).collect();
    let start = 1_767_225_600_000;
    assert_eq!(facts, [(0, start), (1, start + 3_600_000), (2, start + 3_600_000)]);
    assert_eq!(steps[1].event.payload, None);
}

#[test]
fn mistake_unknown_key() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nevnt = { topic = \"t\", text = \"\" }\n"), @r##"
     × unknown key `evnt`
      ╭─[cases.toml:3:1]
    2 │ name = "n"
    3 │ evnt = { topic = "t", text = "" }
      · ──┬─
      ·   ╰── not a key of this table
      ╰────
     help: did you mean `event`?
    "##);
}

#[test]
fn mistake_unknown_verdict() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nverdict = \"rejected\"\nevent = { topic = \"t\", text = \"\" }\n"), @r##"
     × unknown value `rejected`
      ╭─[cases.toml:3:11]
    2 │ name = "n"
    3 │ verdict = "rejected"
      ·           ─────┬────
      ·                ╰── not one of the values
    4 │ event = { topic = "t", text = "" }
      ╰────
     help: did you mean `reject`?
    "##);
}

#[test]
fn mistake_no_payload() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\n[case.event]\ntopic = \"t\"\n"), @r##"
     × an event has no payload
      ╭─[cases.toml:3:1]
    2 │ name = "n"
    3 │ [case.event]
      · ──────┬─────
      ·       ╰── this event
    4 │ topic = "t"
      ╰────
     help: write one of `json`, `text`, `base64`, `file` and `tombstone = true`
    "##);
}

#[test]
fn mistake_two_payloads() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nevent = { topic = \"t\", text = \"a\", json = {} }\n"), @r##"
     × an event has several payloads
      ╭─[cases.toml:3:9]
    2 │ name = "n"
    3 │ event = { topic = "t", text = "a", json = {} }
      ·         ───────────────────┬──────────────────
      ·                            ╰── this event
      ╰────
     help: write one of `json`, `text`, `base64`, `file` and `tombstone = true`
    "##);
}

#[test]
fn mistake_no_json() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nevent = { topic = \"t\", json = \"Ada\" }\n"), @r##"
     × no JSON: expected value at line 1 column 1; a string is JSON text here, so write `text` for
     │ plain text, and a JSON string with its quotes
      ╭─[cases.toml:3:31]
    2 │ name = "n"
    3 │ event = { topic = "t", json = "Ada" }
      ·                               ──┬──
      ·                                 ╰── here
      ╰────
    "##);
}

#[test]
fn mistake_no_name_and_no_event() {
    insta::assert_snapshot!(mistake("[[case]]\n\n[[case]]\nname = \"n\"\n"), @r##"
     × a case has no name
      ╭─[cases.toml:1:1]
    1 │ [[case]]
      · ────┬───
      ·     ╰── this case
    2 │ 
      ╰────
     help: add `name = "..."`: what the case shows, in a few words
    "##);
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\n"), @r##"
     × case `n` has no event
      ╭─[cases.toml:1:1]
    1 │ [[case]]
      · ────┬───
      ·     ╰── this case
    2 │ name = "n"
      ╰────
     help: add `event = { topic = "...", json = { } }`
    "##);
}

#[test]
fn mistake_outputs_of_an_attempt_that_fails() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nverdict = \"reject\"\nevent = { topic = \"t\", text = \"\" }\noutput = [{ topic = \"o\", text = \"\" }]\n"), @r##"
     × verdict `reject` with outputs
      ╭─[cases.toml:3:11]
    2 │ name = "n"
    3 │ verdict = "reject"
      ·           ────┬───
      ·               ╰── an attempt that fails publishes nothing
    4 │ event = { topic = "t", text = "" }
      ╰────
     help: remove `output`, or the verdict
    "##);
}

#[test]
fn mistake_time_and_file() {
    insta::assert_snapshot!(mistake("time = \"noon\"\n"), @r##"
     × `noon` is no time in UTC from 1970 on, such as 2026-01-31T12:00:00Z
      ╭─[cases.toml:1:8]
    1 │ time = "noon"
      ·        ───┬──
      ·           ╰── here
      ╰────
    "##);
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nevent = { topic = \"t\", file = \"nowhere.json\" }\n"), @r##"
     × nowhere.json cannot be read: No such file or directory (os error 2)
      ╭─[cases.toml:3:31]
    2 │ name = "n"
    3 │ event = { topic = "t", file = "nowhere.json" }
      ·                               ───────┬──────
      ·                                      ╰── this file
      ╰────
    "##);
}

#[test]
fn mistake_two_cases_of_one_name() {
    insta::assert_snapshot!(mistake("[[case]]\nname = \"n\"\nevent = { topic = \"t\", text = \"\" }\n[[case]]\nname = \"n\"\nevent = { topic = \"t\", text = \"\" }\n"), @r##"
     × two cases are called `n`
      ╭─[cases.toml:4:1]
    3 │ event = { topic = "t", text = "" }
    4 │ [[case]]
      · ────┬───
      ·     ╰── the second one
    5 │ name = "n"
      ╰────
    "##);
}

#[test]
fn mistake_unknown_grant() {
    insta::assert_snapshot!(mistake("grants = [\"clock\"]\n"), @r##"
     × unknown capability `clock`
      ╭─[cases.toml:1:11]
    1 │ grants = ["clock"]
      ·           ───┬───
      ·              ╰── no capability has this name
      ╰────
     help: did you mean `clocks`?
    "##);
}

pub fn cases(text: &str) -> Vec<Case> {
    parse_text(text).unwrap()
}

pub fn answered(verdict: Kind, outputs: &[Outgoing]) -> Ran {
    let failed = verdict != Kind::Ok;
    let answer = Answer {
        verdict,
        code: failed.then(|| "a-code".to_owned()),
        message: failed.then(|| "why it failed".to_owned()),
        after: None,
        outputs: outputs.iter().map(OutputJson::from).collect(),
        published: Vec::new(),
        log: vec![LogJson { level: "info", context: "c".into(), message: "hello".into() }],
        metrics: BTreeMap::new(),
        state: BTreeMap::new(),
        requests: Vec::new(),
    };
    Ran { start_error: None, answers: vec![answer] }
}

/// The file after the update, which then is as expected.
pub fn updated(text: &str, ran: &[Ran]) -> String {
    let before = cases(text);
    let pairs: Vec<_> = before.iter().zip(ran).collect();
    let new = update(text, &pairs).unwrap();
    for (case, ran) in cases(&new).iter().zip(ran) {
        assert_eq!(compare(case, ran), [], "{new}");
    }
    new
}

#[test]
fn only_what_differs_is_written_and_comments_stay() {
    let text = r#"# of the file
[[case]]
name = "n"      # of the name
event = { topic = "in", json = { a = 1 } }
# of the outputs
output = [
  { topic = "out", text = "same" },     # the first
  { topic = "out", json = { x = 1, y = [1, 2] }, key = "k" },   # the second
]
log = ["info: other"]   # what it says

# of the next case
[[case]]
name = "m"
event = { topic = "in", text = "" }
"#;
    let same = Outgoing::new("out", "same");
    let other = Outgoing::new("out", r#"{"x":2,"y":[1,2]}"#);
    let ran = [answered(Kind::Ok, &[same, other]), answered(Kind::Reject, &[])];
    insta::assert_snapshot!(updated(text, &ran), @r##"
    # of the file
    [[case]]
    name = "n"      # of the name
    event = { topic = "in", json = { a = 1 } }
    # of the outputs
    output = [
      { topic = "out", text = "same" },     # the first
      { topic = "out", json = { x = 2, y = [1, 2] } },   # the second
    ]
    log = ["info: hello"]   # what it says

    # of the next case
    [[case]]
    name = "m"
    event = { topic = "in", text = "" }
    verdict = "reject"
    code = "a-code"
    "##);
}

#[test]
fn outputs_come_and_go_in_either_form() {
    let long = format!(r#"{{"text":"{}","nothing":null}}"#, "x".repeat(100));
    let text = r#"[[case]]
name = "new outputs"
event = { topic = "in", text = "" }

[[case]]
name = "tables"
verdict = "skip"
[case.event]
topic = "in"
text = ""

[[case]]
name = "one more, one less"
event = { topic = "in", text = "" }
[[case.output]]
# kept
topic = "out"
text = "1"
[[case.output]]
topic = "out"
text = "2"
"#;
    let out = |payload: &str| Outgoing::new("out", payload.to_owned());
    let ran = [
        answered(Kind::Ok, &[out(r#"{"a":1}"#)]),
        answered(Kind::Ok, &[out(&long), Outgoing { payload: None, ..out("") }]),
        answered(Kind::Ok, &[out("1")]),
    ];
    insta::assert_snapshot!(updated(text, &ran), @r##"
    [[case]]
    name = "new outputs"
    event = { topic = "in", text = "" }
    output = [{ topic = "out", json = { a = 1 } }]

    [[case]]
    name = "tables"
    [case.event]
    topic = "in"
    text = ""

    [[case.output]]
    topic = "out"
    json = """
    {
      "nothing": null,
      "text": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    }
    """

    [[case.output]]
    topic = "out"
    tombstone = true

    [[case]]
    name = "one more, one less"
    event = { topic = "in", text = "" }
    [[case.output]]
    # kept
    topic = "out"
    text = "1"
    "##);
}

#[test]
fn a_plugin_that_does_not_start_any_more_is_said_so() {
    let text = "[[case]]\nname = \"n\"\nevent = { topic = \"in\", text = \"\" }\n";
    let ran = Ran { start_error: Some("init failed".into()), answers: Vec::new() };
    insta::assert_snapshot!(updated(text, &[ran]), @r##"
    [[case]]
    name = "n"
    start-error = "init failed"
    "##);
}
