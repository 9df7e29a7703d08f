//! The same webhooks give the same bytes in every language, and each SDK does what it says.

use std::time::Duration;

use sandbar_languages::{OTHERS, WEBHOOKS, as_built, built};
use sandbar_test::{Event, LogLevel, Outcome, Outgoing, RetryPolicy, TestHost, guest};

/// What a consumer gets, in the order of the webhooks.
type Published = Vec<(usize, Event)>;

async fn routed(host: TestHost) -> Published {
    let lines = WEBHOOKS.lines().map(|line| Outgoing::new("github.webhooks", line));
    host.publish(lines).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let why = outcome.dead_letters.first().map(|l| &l.info.message);
    assert_eq!((outcome.stats.handled, outcome.retries(), why), (329, 0, None));
    let origin =
        |event: &Event| event.attribute("id").unwrap().rsplit('/').next().unwrap().parse().unwrap();
    let events = outcome.topic("github.events").iter();
    let mut events: Published = events.map(|e| (origin(e), e.clone())).collect();
    events.sort_by_key(|(origin, _)| *origin);
    events
}

/// The job of examples/github-router in `language` against the one in Rust.
async fn same_job(language: &str) {
    let Some(file) = built("github-router", language) else { return };
    let reference = TestHost::load(guest("github-router").unwrap()).await.unwrap();
    let mut said = reference.description().unwrap();
    let expected = routed(reference).await;

    let host = as_built(file.clone()).load().await.unwrap();
    let description = host.description().unwrap();
    said.name = format!("github-router-{language}");
    said.annotations = description.annotations.clone();
    assert_eq!(description, said);
    let imports = host.inspection().imports;
    let needed = ["sandbar:events/", "wasi:logging/", "wasi:config/"];
    let foreign: Vec<_> =
        imports.iter().filter(|i| !needed.iter().any(|n| i.starts_with(n))).collect();
    assert!(foreign.is_empty(), "imports what has to be granted: {foreign:?}");

    let found = routed(host).await;
    assert_eq!(found.len(), expected.len());
    for ((at, ours), (_, theirs)) in found.iter().zip(&expected) {
        let text =
            |event: &Event| String::from_utf8_lossy(event.payload.as_deref().unwrap()).into_owned();
        assert_eq!(text(ours), text(theirs), "webhook {at}");
        assert_eq!(ours.payload, theirs.payload, "webhook {at}");
        assert_eq!((&ours.key, &ours.headers), (&theirs.key, &theirs.headers), "webhook {at}");
        assert_eq!(ours.attributes, theirs.attributes, "webhook {at}");
    }

    let host = as_built(file.clone()).load().await.unwrap();
    let bad = |payload: Option<&'static [u8]>| Outgoing {
        payload: payload.map(Into::into),
        ..Outgoing::new("github.webhooks", "")
    };
    let payloads: [Option<&'static [u8]>; 7] = [
        Some(b"{\"event\":\"push\""),
        Some(b"{\"event\":\"push\"}"),
        Some(b"{\"event\":1,\"payload\":{}}"),
        Some(b"{\"event\":\"push\",\"payload\":{\"action\":1}}"),
        Some(b"\xff\xfe"),
        Some(b"{\"event\":\"\",\"payload\":{}}"),
        None,
    ];
    host.publish(payloads.map(bad)).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut codes: Vec<_> =
        outcome.dead_letters.iter().map(|l| l.info.error_code.as_str()).collect();
    codes.sort_unstable();
    let invalid = ["invalid-json"; 5];
    assert_eq!(codes, [&invalid[..], &["no-event-name", "no-payload"]].concat());
    assert!(outcome.dead_letters.iter().all(|l| l.info.attempts == 1));
}

fn input(text: &str) -> Outgoing {
    Outgoing::new("in", text.to_owned())
}

async fn of(language: &str, settings: &[(&str, &str)], inputs: &[&str]) -> Option<Outcome> {
    let file = built("crash", language)?;
    let mut builder = as_built(file);
    for (key, value) in settings {
        builder = builder.config(*key, *value);
    }
    let host = builder.load().await.unwrap();
    host.publish(inputs.iter().map(|text| input(text))).await.unwrap();
    Some(host.drain().await.unwrap())
}

/// What each failure leads to, and what a crash leaves in the dead letter.
async fn failures(language: &str, place: &str, kind: &str) {
    let inputs = ["crash", "retry", "reject", "skip", "defer"];
    let Some(outcome) = of(language, &[], &inputs).await else { return };
    assert_eq!(outcome.texts("out"), ["deferred"]);
    assert_eq!(outcome.stats.skipped, 1);
    let letter = |code: &str| {
        let of_code = |l: &&sandbar_test::DeadLetter| l.info.error_code == code;
        let found = outcome.dead_letters.iter().find(of_code);
        &found.unwrap_or_else(|| panic!("no {code}: {:?}", outcome.dead_letters)).info
    };
    let rejected = letter("unwanted");
    assert_eq!((rejected.message.as_str(), rejected.attempts), ("by the test", 1));
    let retried = letter("handler");
    assert_eq!((retried.message.as_str(), retried.attempts), ("not yet", 3));
    let crashed = letter("trap");
    assert_eq!((crashed.error_class.as_str(), crashed.attempts), ("trap", 3));
    let first = crashed.message.lines().next().unwrap();
    assert!(first.starts_with(kind) && first.contains("on purpose: in/0/0"), "{first}");
    assert!(first.contains(place), "{place} is not in {first}");
    // C has none of its own; the host's is beside the message
    let traced = language == "c" || crashed.message.lines().count() > 2;
    assert!(traced, "no traceback: {}", crashed.message);
    assert_eq!(outcome.dead_letters.len(), 3);
}

async fn facts_and_events(language: &str, config: &str) {
    let settings = [("number", "7")];
    let Some(outcome) = of(language, &settings, &["config", "context"]).await else { return };
    let mut texts = outcome.texts("out");
    texts.sort_by_key(|text| text.contains("number"));
    let truth = if language == "python" { "True" } else { "true" };
    assert_eq!(texts, [format!("crash-{language} 1.0.0 log {truth}"), config.to_owned()]);

    let host = as_built(built("crash", language).unwrap()).load().await.unwrap();
    let event = Outgoing {
        attributes: vec![("type".into(), "t".into()), ("id".into(), "7".into())],
        ..input("event").with_key("key").with_header("h", "value")
    };
    host.publish([event]).await.unwrap();
    let outcome = host.drain().await.unwrap();
    assert_eq!(outcome.texts("out"), ["in 0 1 key value t"]);
    let output = &outcome.topic("out")[0];
    assert_eq!(output.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(output.header("h").and_then(|h| h.value.as_deref()), Some(&b"v"[..]));
    assert_eq!(output.attribute("type"), Some("answer"));

    let builder = as_built(built("crash", language).unwrap()).config("number", "many");
    let Err(error) = builder.load().await else { panic!("it started") };
    assert!(format!("{error:#}").contains("config `number` is "), "{error:#}");
}

async fn log(language: &str, context: &str, lines: &[(LogLevel, &str)]) {
    for level in [None, Some("off"), Some("debug")] {
        let settings: Vec<_> = level.map(|level| ("log-level", level)).into_iter().collect();
        let Some(outcome) = of(language, &settings, &["log"]).await else { return };
        let ours = outcome.log.iter().filter(|l| l.context == context);
        let found: Vec<_> = ours.map(|l| (l.level, l.message.as_str())).collect();
        let debug = (LogLevel::Debug, "not logged unless the setting says so");
        match level {
            None => assert_eq!(found, lines),
            Some("off") => assert_eq!(found, []),
            Some(_) => assert_eq!(found, [&[debug], lines].concat()),
        }
    }
}

/// What `sandbar plugin new` has written, built and run.
#[tokio::test]
async fn a_new_plugin_greets_in_every_language() {
    for language in OTHERS {
        let Some(file) = built("greeter", language) else { continue };
        let host = as_built(file.clone()).load().await.unwrap();
        let arrivals =
            [r#"{"name":"Ada"}"#, r#"{"name":""}"#].map(|text| Outgoing::new("arrivals", text));
        host.publish(arrivals).await.unwrap();
        let outcome = host.drain().await.unwrap();
        assert_eq!(outcome.texts("greetings"), ["Hello, Ada!"], "{language}");
        let codes: Vec<_> =
            outcome.dead_letters.iter().map(|l| l.info.error_code.as_str()).collect();
        assert_eq!(codes, ["no-name"], "{language}");
        assert!(
            outcome.log.iter().any(|l| l.message == "greeting Ada"),
            "{language}: {:?}",
            outcome.log
        );
    }
}

#[tokio::test]
async fn python_does_the_same_job() {
    same_job("python").await;
}

#[tokio::test]
async fn js_does_the_same_job() {
    same_job("js").await;
}

#[tokio::test]
async fn ts_does_the_same_job() {
    same_job("ts").await;
}

#[tokio::test]
async fn go_does_the_same_job() {
    same_job("go").await;
}

#[tokio::test]
async fn c_does_the_same_job() {
    same_job("c").await;
}

#[tokio::test]
async fn python_failures_have_their_consequences() {
    failures("python", "(handler.py:", "ValueError").await;
}

#[tokio::test]
async fn js_failures_have_their_consequences() {
    failures("js", "(fail.js:2:", "RangeError").await;
}

#[tokio::test]
async fn python_hears_its_host() {
    facts_and_events("python", "[('number', '7')]").await;
    log("python", "ours", &[(LogLevel::Warn, "the answer is 42")]).await;
    let Some(outcome) = of("python", &[], &["log"]).await else { return };
    let printed: Vec<_> = outcome.log.iter().filter(|l| l.context == "stdout").collect();
    assert_eq!(printed[0].message, "printed monotonic");
}

#[tokio::test]
async fn js_hears_its_host() {
    facts_and_events("js", r#"[["number","7"]]"#).await;
    log("js", "console", &[(LogLevel::Warn, "the answer is 42")]).await;
}

#[tokio::test]
async fn go_failures_have_their_consequences() {
    failures("go", "(crash-go/main.go:", "on purpose").await;
}

#[tokio::test]
async fn c_failures_have_their_consequences() {
    failures("c", "(handler.c:", "on purpose").await;
}

#[tokio::test]
async fn go_hears_its_host() {
    facts_and_events("go", "map[number:7]").await;
    let line = r#"ours the=answer is.number=42 is.name="forty two""#;
    log("go", "plugin", &[(LogLevel::Warn, line)]).await;
}

#[tokio::test]
async fn c_hears_its_host() {
    facts_and_events("c", "number=7").await;
    log("c", "plugin", &[(LogLevel::Warn, "the answer is 42")]).await;
}

/// What goes past the SDKs: standard streams, the clock of a plugin without the grant, and
/// ends that no handler can catch.
#[tokio::test]
async fn go_and_c_do_without_wasi() {
    let go = ["log", "sleep", "nil", "random", "exit", "goroutine"];
    let c = ["log", "assert", "abort", "exit", "random"];
    for (language, inputs, said) in [
        (
            "go",
            &go[..],
            &[
                "runtime error: invalid memory address or nil pointer dereference (crash-go/main.go:",
                "fatal error: crypto/rand: failed to read random data",
                "the plugin called exit(7)",
                "panic: on purpose: in/0/5",
            ][..],
        ),
        (
            "c",
            &c[..],
            &[
                "Assertion failed: event->attempt == 0 (handler.c: everything: ",
                "abort() was called (handler.c:",
                "the plugin called exit(7)",
                "getentropy failed",
            ][..],
        ),
    ] {
        let Some(outcome) = of(language, &[], inputs).await else { continue };
        let line =
            |context| outcome.log.iter().find(|l| l.context == context).unwrap().message.as_str();
        let printed = line("stdout");
        assert!(
            ["printed ? at true", "printed ? at 1"].contains(&printed),
            "{language}: {printed}"
        );
        assert_eq!(line("stderr"), "complained", "{language}");
        let letters: Vec<_> =
            outcome.dead_letters.iter().map(|l| l.info.message.as_str()).collect();
        for what in said {
            assert!(
                letters.iter().any(|m| m.starts_with(what)),
                "{language}: no {what:?} in {letters:#?}"
            );
        }
        assert_eq!(letters.len(), said.len(), "{language}: {letters:#?}");
        if language == "go" {
            let slept = outcome.texts("out");
            assert!(slept[0].starts_with("1h0m0."), "{slept:?}");
            let trace = letters.iter().find(|m| m.starts_with("panic: ")).unwrap();
            assert!(trace.contains("main.fail") && trace.contains("crash-go/main.go:"), "{trace}");
        }
    }
}

#[tokio::test]
async fn c_reads_and_writes_json() {
    let good = concat!(
        r#"{"a":[1,2.5,-300,0.1],"s":"q\"\\/\b\f\n\r\t\u0001"#,
        "\u{e9}\u{20ac}\u{1f600}\u{2028}",
        r#"","n":null,"t":true,"f":false,"o":{"x":{}},"e":[]}"#
    );
    let escaped = r#"{ "s" : "\u00e9\u20AC\ud83d\uDE00\/" , "n" : -3e2 } "#;
    let bad = [
        (r#"{"a":"\ud800"}"#, "half of a surrogate pair at line 1 column 12"),
        (r#"{"a":01}"#, "`,` or the end of what is open was expected at line 1 column 6"),
        ("{\"a\":1,\n}", "a string was expected at line 2 column 0"),
        (r#"{"a":"b"#, "the text ends too early at line 1 column 7"),
        (r#"{} x"#, "something follows the value at line 1 column 3"),
        (r#"{"a":1.}"#, "a digit was expected at line 1 column 7"),
        ("{\"a\":\"\u{1}\"}", "a control character in a string must be escaped at line 1 column 6"),
    ];
    let inputs: Vec<_> =
        [good, escaped].into_iter().chain(bad.iter().map(|(text, _)| *text)).collect();
    let Some(outcome) = of("c", &[], &inputs).await else { return };
    let mut texts = outcome.texts("out");
    texts.sort_by_key(|text| text.len());
    assert_eq!(texts, ["{\"s\":\"\u{e9}\u{20ac}\u{1f600}/\",\"n\":-300}", good]);
    let letters: Vec<_> = outcome.dead_letters.iter().map(|l| l.info.message.as_str()).collect();
    for (text, why) in bad {
        assert!(letters.contains(&why), "{text}: no {why:?} in {letters:#?}");
    }
}

#[tokio::test]
async fn ts_batches_lose_only_the_event_that_crashes() {
    let Some(file) = built("crash", "ts") else { return };
    let retry = RetryPolicy {
        max_attempts: 2,
        initial_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let host = as_built(file).retry(retry).load().await.unwrap();
    let inputs = (0..50).map(|n| format!("double {n}"));
    host.publish(inputs.map(|text| input(&text))).await.unwrap();
    host.publish([input("crash"), input("reject")]).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut doubled: Vec<u32> = outcome.texts("out").iter().map(|t| t.parse().unwrap()).collect();
    doubled.sort_unstable();
    assert_eq!(doubled, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
    let crashed = outcome.dead_letters.iter().find(|l| l.info.error_class == "trap").unwrap();
    let first = crashed.info.message.lines().next().unwrap();
    assert_eq!(first, "Error: on purpose: in/0/50 (fail (handler.ts:29:9))");
    let rejected = outcome.dead_letters.iter().find(|l| l.info.error_code == "unwanted").unwrap();
    assert_eq!((rejected.info.message.as_str(), outcome.dead_letters.len()), ("by the test", 2));
}
