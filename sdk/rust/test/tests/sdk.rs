//! The SDK's side of the boundary, seen from the host. The plugins are the SDK's
//! examples; `scripts/build-guests.sh` builds them.

use sandbar_test::{Header, LogLevel, Outgoing, TestHost, guest};

fn input(payload: &'static str) -> Outgoing {
    Outgoing::new("in", payload)
}

async fn everything() -> TestHost {
    TestHost::load(guest("sdk-everything").unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_plugin_says_of_itself_what_the_attribute_says() {
    let host = everything().await;
    let says = host.description().unwrap();
    assert_eq!((says.name.as_str(), says.version.as_str()), ("sandbar-sdk", "1.2.3"));
    assert_eq!(says.description, "Write Sandbar plugins in Rust: one attribute on one function");
    let subscription = &says.subscriptions[0];
    assert_eq!((&subscription.connection, &*subscription.topics), (&None, &["in".to_owned()][..]));
    let options: Vec<_> =
        subscription.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut expected = vec![
        ("ordering", "none"),
        ("concurrency", "2"),
        ("retry.max-attempts", "3"),
        ("retry.initial-delay", "1ms"),
        ("retry.jitter", "0.5"),
        ("retry.multiplier", "1"),
        ("dead-letter.topic", "bad"),
    ];
    expected.sort_unstable();
    assert_eq!(options, expected);
    assert_eq!(says.publishes, ["out"]);
    assert_eq!(says.config_schema.unwrap()["properties"]["number"]["type"], "string");
    assert_eq!(says.annotations["license"], "Apache-2.0");
    assert!(!says.annotations.contains_key("homepage"), "an empty value says nothing");
}

#[tokio::test]
async fn s3_a_plugin_of_the_sdk_imports_no_wasi_but_log_and_config() {
    for name in ["sdk-everything", "sdk-batches"] {
        let host = TestHost::load(guest(name).unwrap()).await.unwrap();
        for import in host.inspection().imports {
            let known = ["sandbar:events/", "wasi:logging/", "wasi:config/"];
            assert!(known.iter().any(|k| import.starts_with(k)), "{name} imports {import}");
        }
    }
}

#[tokio::test]
async fn an_event_arrives_whole_and_an_output_leaves_whole() {
    let host = everything().await;
    let event = input("event").with_key("key").with_header("h", "value");
    let typed = Outgoing {
        attributes: vec![("type".into(), "t".into()), ("id".into(), "7".into())],
        ..event.clone()
    };
    host.publish([event, typed]).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut texts = outcome.texts("out");
    texts.sort();
    assert_eq!(
        texts,
        [
            r#"in 0 0 1 Some("key") Some("value") None in/0/0"#,
            r#"in 0 1 1 Some("key") Some("value") Some("t") 7"#
        ]
    );
    let output = &outcome.topic("out")[0];
    assert_eq!(output.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(output.header("h"), Some(&Header::new("h", "v")));
    assert_eq!(output.attribute("type"), Some("answer"));
}

#[tokio::test]
async fn every_failure_has_its_consequence() {
    let host = everything().await;
    host.publish(["retry", "reject", "skip"].map(input)).await.unwrap();
    let tombstone = Outgoing { payload: None, ..input("") };
    host.publish([tombstone]).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut letters: Vec<_> = outcome
        .dead_letters
        .iter()
        .map(|l| (l.info.error_code.as_str(), l.info.message.as_str(), l.info.attempts))
        .collect();
    letters.sort_unstable();
    assert_eq!(letters[0], ("handler", "not yet", 3));
    assert_eq!(letters[1], ("no-payload", "the event is a tombstone", 1));
    assert_eq!(letters[2], ("unwanted", "by the test", 1));
    assert_eq!((letters.len(), outcome.stats.skipped, outcome.retries()), (3, 1, 2));
    assert!(outcome.dead_letters.iter().all(|l| &*l.event.topic == "bad"));
}

#[tokio::test]
async fn a_panic_is_logged_with_text_and_place() {
    let host = everything().await;
    host.publish(["panic", "context"].map(input)).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let panics: Vec<_> = outcome.log.iter().filter(|l| l.context == "panic").collect();
    assert_eq!(panics.len(), 3, "one per attempt: {:?}", outcome.log);
    let message = &panics[0].message;
    assert_eq!(panics[0].level, LogLevel::Critical);
    assert!(
        message.starts_with("on purpose: in/0/0 (") && message.contains("everything.rs:"),
        "{message}"
    );
    assert_eq!(outcome.dead_letters[0].info.error_class, "trap");
    assert_eq!(outcome.texts("out"), ["sdk-everything 1.2.3 on log, true"]);
}

#[tokio::test]
async fn log_and_tracing_reach_the_host_from_the_level_that_is_set() {
    let lines = async |level: Option<&str>| {
        let builder = TestHost::builder(guest("sdk-everything").unwrap());
        let builder = match level {
            Some(level) => builder.config("log-level", level),
            None => builder,
        };
        let host = builder.load().await.unwrap();
        host.publish([input("log")]).await.unwrap();
        let outcome = host.drain().await.unwrap();
        let ours = outcome.log.into_iter().filter(|l| l.context == "everything");
        ours.map(|l| (l.level, l.message)).collect::<Vec<_>>()
    };
    let info = (LogLevel::Info, "from log answer=42".to_owned());
    let warn = (LogLevel::Warn, "from tracing question=\"six by nine\"".to_owned());
    assert_eq!(lines(None).await, [info.clone(), warn.clone()]);
    assert_eq!(lines(Some("warn")).await, std::slice::from_ref(&warn));
    assert_eq!(lines(Some("off")).await, []);
    let debug = lines(Some("debug")).await;
    assert_eq!((debug.len(), debug[0].0), (3, LogLevel::Debug));
}

#[tokio::test]
async fn configuration_is_read_and_a_bad_one_keeps_the_plugin_from_starting() {
    let builder = TestHost::builder(guest("sdk-everything").unwrap());
    let host = builder.clone().config("number", "7").load().await.unwrap();
    host.publish([input("config")]).await.unwrap();
    assert_eq!(host.drain().await.unwrap().texts("out"), [r#"[("number", "7")]"#]);

    let Err(error) = builder.config("number", "many").load().await else { panic!("it started") };
    assert!(format!("{error:#}").contains("config `number` is \"many\""), "{error:#}");
}

#[tokio::test]
async fn a_batch_handler_gives_one_outcome_per_event() {
    let host = TestHost::load(guest("sdk-batches").unwrap()).await.unwrap();
    let numbers = (0..500).map(|n| Outgoing::new("numbers", n.to_string()));
    host.publish(numbers).await.unwrap();
    host.publish([Outgoing::new("numbers", "x")]).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut doubled: Vec<i64> =
        outcome.texts("doubled").iter().map(|t| t.parse().unwrap()).collect();
    doubled.sort_unstable();
    assert_eq!(doubled, (0..500).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(outcome.dead_letters.len(), 1);
    assert_eq!(outcome.dead_letters[0].info.error_code, "no-number");
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_plugin_is_named() {
    let missing = guest("no-such-plugin").unwrap_err().to_string();
    assert!(missing.contains("scripts/build-guests.sh"), "{missing}");
    let Err(error) = TestHost::load(file!()).await else { panic!("loaded") };
    assert!(error.to_string().contains("sdk.rs"), "{error:#}");
}
