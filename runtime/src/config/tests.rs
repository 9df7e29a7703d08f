use std::path::Path;

use sandbar_core::StartAt;
use sandbar_pipeline::{Dialect, OnDeadLetter, OnExhausted, Ordering, RetryPolicy};
use sandbar_wasm::{ForeignError, Grant, Isolation, Limits, OnError};

use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "BROKERS" => Some("kafka-1:9092".into()),
        "KAFKA_PASSWORD" => Some("hunter2".into()),
        "PORT" => Some("7071".into()),
        _ => None,
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let text = Text::new("sandbar.toml", text);
    Config::parse(&text, Path::new("/srv"), &Overrides::default(), &env)
}

#[test]
fn no_file_means_the_embedded_log_and_every_default() {
    let config = parse("").unwrap();
    assert_eq!(config.plugins_folder, Path::new("/srv/plugins"));
    assert_eq!(config.data_folder, Path::new("/srv/data"));
    assert_eq!(config.default_connection, "log");
    assert_eq!(config.admin, Some(([127, 0, 0, 1], 7070).into()));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    let log = ConnectionConfig::Log {
        path: "/srv/data/log.redb".into(),
        partitions: 1,
        retention_age: Some(Duration::from_secs(7 * 24 * 3600)),
        retention_bytes: None,
        retry_tiers: [5, 30, 300].map(Duration::from_secs).into(),
    };
    assert_eq!(config.marks, Path::new("/srv/data/marks.redb"));
    assert_eq!(config.connections, BTreeMap::from([("log".to_owned(), log)]));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        plugins = "p"
        data = "/var/d"
        marks = "m.redb"
        default-connection = "k"
        shutdown-timeout = "1m 5s"
        group-prefix = "x-"
        [admin]
        listen = "0.0.0.0:${PORT}"
        [logging]
        level = "info,sandbar=debug"
        format = "json"
        [watch]
        mode = "poll"
        interval = "5s"
        debounce = "1s"
        [connections.log]
        type = "log"
        path = "events.redb"
        partitions = 3
        retention = { age = "7d", size = "1GiB" }
        retry-tiers = ["1s", "1h"]
        [connections.k]
        type = "kafka"
        brokers = "${BROKERS},${SECOND:-kafka-2:9092}"
        create-topics = true
        partitions = 6
        replication = 3
        retry-tiers = ["2m"]
        [connections.k.properties]
        "security.protocol" = "SASL_SSL"
        "sasl.password" = "${KAFKA_PASSWORD}"
        "message.max.bytes" = 10485760
        "#,
    )
    .unwrap();
    assert_eq!(config.plugins_folder, Path::new("/srv/p"));
    assert_eq!(config.data_folder, Path::new("/var/d"));
    assert_eq!(config.marks, Path::new("/var/d/m.redb"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(65));
    assert_eq!(config.group_prefix, "x-");
    assert_eq!(config.admin, Some(([0, 0, 0, 0], 7071).into()));
    let logging = Logging { level: "info,sandbar=debug".into(), format: LogFormat::Json };
    assert_eq!(config.logging, logging);
    let watch = Watch {
        mode: WatchMode::Poll,
        interval: Duration::from_secs(5),
        debounce: Duration::from_secs(1),
    };
    assert_eq!(config.watch, watch);
    let log = ConnectionConfig::Log {
        path: "/var/d/events.redb".into(),
        partitions: 3,
        retention_age: Some(Duration::from_secs(7 * 24 * 3600)),
        retention_bytes: Some(1 << 30),
        retry_tiers: [1, 3600].map(Duration::from_secs).into(),
    };
    assert_eq!(config.connection(Some("log")).unwrap().1, &log);
    let kafka = ConnectionConfig::Kafka {
        brokers: "kafka-1:9092,kafka-2:9092".into(),
        create_topics: true,
        partitions: Some(6),
        replication: Some(3),
        properties: [
            ("security.protocol", "SASL_SSL"),
            ("sasl.password", "hunter2"),
            ("message.max.bytes", "10485760"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        retry_tiers: vec![Duration::from_secs(120)],
    };
    assert_eq!(config.connection(None).unwrap(), ("k", &kafka));
}

#[test]
fn retention_can_be_switched_off() {
    let config =
        parse("[connections.l]\ntype = \"log\"\nretention = { age = \"unlimited\", size = 1024 }");
    let config = config.unwrap();
    let ConnectionConfig::Log { retention_age, retention_bytes, .. } = &config.connections["l"]
    else {
        panic!("a log was configured")
    };
    assert_eq!((*retention_age, *retention_bytes), (None, Some(1024)));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides {
        plugins: Some("here".into()),
        data: Some("there".into()),
        admin: Some(([127, 0, 0, 1], 0).into()),
        log_level: Some("debug".into()),
        log_format: Some(LogFormat::Json),
    };
    let text = Text::new("f", "plugins = \"p\"\nadmin.enabled = false\nlogging.level = \"warn\"");
    let config = Config::parse(&text, Path::new("/srv"), &overrides, &env).unwrap();
    assert_eq!(config.plugins_folder, Path::new("here"));
    assert_eq!(config.data_folder, Path::new("there"));
    assert_eq!(config.admin, Some(([127, 0, 0, 1], 0).into()));
    assert_eq!(config.logging, Logging { level: "debug".into(), format: LogFormat::Json });
    let ConnectionConfig::Log { path, .. } = &config.connections["log"] else {
        panic!("a log is the default")
    };
    assert_eq!(path, Path::new("there/log.redb"));
}

#[test]
fn secrets_are_in_no_dump() {
    let config = parse(
        r#"
        [connections.k]
        type = "kafka"
        brokers = "b:1"
        properties = { "sasl.password" = "${KAFKA_PASSWORD}", "client.id" = "seen" }
        [plugin.p]
        topics = ["t"]
        config = { api-token = "${KAFKA_PASSWORD}", region = "seen too" }
        [defaults.config]
        SECRET_NAME = "${KAFKA_PASSWORD}"
        "#,
    )
    .unwrap();
    let plugin = config.plugin("p", &Declared::default(), None).unwrap();
    let dump = format!("{config:?} {config:#?} {plugin:?}");
    assert!(!dump.contains("hunter2"), "{dump}");
    assert!(dump.contains("[redacted]") && dump.contains("seen too"), "{dump}");
    assert_eq!(plugin.config["api-token"], "hunter2");
}

pub(super) fn declared(options: &[(&str, &str)]) -> Declared {
    Declared {
        connection: None,
        topics: vec!["in".into()],
        publishes: vec!["out.*".into()],
        options: options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    }
}

#[test]
fn a_plugin_runs_with_no_configuration() {
    let config = parse("").unwrap();
    let plugin = config.plugin("router", &declared(&[]), None).unwrap();
    assert!(plugin.enabled);
    assert_eq!((plugin.connection.as_str(), plugin.output_connection.as_str()), ("log", "log"));
    assert_eq!((plugin.topics, plugin.publish), (vec!["in".to_owned()], vec!["out.*".to_owned()]));
    assert_eq!(plugin.group, "sandbar.router");
    assert_eq!(plugin.dead_letter.topic, "router.dlq");
    assert_eq!(plugin.dead_letter.connection, "log");
    assert_eq!(plugin.retry, RetryPolicy::default());
    assert_eq!(plugin.limits, Limits::default());
    assert!(plugin.grants.is_empty());
}

#[test]
fn each_layer_wins_over_the_one_before_key_by_key() {
    let config = parse(
        r#"
        [defaults]
        concurrency = 3
        ordering = "none"
        retry = { max-attempts = 3, initial-delay = "3s" }
        config = { a = "defaults", b = "defaults", c = "defaults" }
        [plugin.router]
        ordering = "partition"
        topics = ["in.v2"]
        retry = { initial-delay = "4s" }
        config = { b = "plugin", c = "plugin" }
        [plugin.other]
        ordering = "key"
        "#,
    )
    .unwrap();
    let sidecar = r#"
        topics = ["in.v3"]
        start = "latest"
        retry.max-delay = "5s"
        dead-letter = { topic = "graves", on-exhausted = "halt" }
        limits = { memory = "128MiB", output-records = 7 }
        grants = ["clocks"]
        isolation = "per-event"
        [config]
        c = 3
    "#;
    let sidecar = config.sidecar(Path::new("router.toml"), sidecar).unwrap();
    let declared = declared(&[
        ("concurrency", "2"),
        ("max-in-flight", "9"),
        ("isolation", "per-batch"),
        ("retry.max-attempts", "2"),
        ("retry.jitter", "0.5"),
        ("dead-letter.topic", "suggested.dlq"),
        ("dead-letter.dialect", "spring"),
    ]);
    let plugin = config.plugin("router", &declared, Some(&sidecar)).unwrap();
    assert_eq!((plugin.concurrency, plugin.max_in_flight), (3, 9));
    assert_eq!(plugin.isolation, Isolation::PerEvent);
    assert_eq!(plugin.ordering, Ordering::Partition);
    assert_eq!(plugin.topics, ["in.v3"]);
    assert_eq!(plugin.start, StartAt::Latest);
    let retry = RetryPolicy {
        max_attempts: 3,
        initial_delay: Duration::from_secs(4),
        max_delay: Duration::from_secs(5),
        jitter: 0.5,
        ..RetryPolicy::default()
    };
    assert_eq!(plugin.retry, retry);
    let graves = DeadLetters {
        topic: "graves".into(),
        connection: "log".into(),
        dialect: Dialect::Spring,
        on_exhausted: OnExhausted::Halt,
        on_dead_letter: OnDeadLetter::Continue,
        max_redrives: 3,
    };
    assert_eq!(plugin.dead_letter, graves);
    assert_eq!((plugin.limits.memory, plugin.limits.output_records), (128 << 20, 7));
    assert_eq!(plugin.limits.wall_time, Limits::default().wall_time);
    assert_eq!(plugin.grants, [Grant::Clocks].into());
    let values = [("a", "defaults"), ("b", "plugin"), ("c", "3")];
    assert_eq!(plugin.config, values.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn r3_what_follows_a_foreign_error_is_merged_error_by_error() {
    let config =
        parse("[defaults]\non-error = { other = \"reject\", timeout = \"reject\" }").unwrap();
    let sidecar = "topics = [\"t\"]\non-error.timeout = \"retry\"";
    let sidecar = config.sidecar(Path::new("p.toml"), sidecar).unwrap();
    let plugin = config.plugin("p", &Declared::default(), Some(&sidecar)).unwrap();
    let expected =
        [(ForeignError::Timeout, OnError::Retry), (ForeignError::Other, OnError::Reject)];
    assert_eq!(plugin.on_error, expected.into());
    let error = config.sidecar(Path::new("p.toml"), "on-error.late = \"retry\"").unwrap_err();
    assert!(error.to_string().contains("late"), "{error}");
}

#[test]
fn a_plugin_can_be_switched_off_in_every_layer() {
    let config = parse("[defaults]\nenabled = false\n[plugin.on]\nenabled = true").unwrap();
    assert!(!config.is_enabled("any", None) && config.is_enabled("on", None));
    let off = config.sidecar(Path::new("on.toml"), "enabled = false").unwrap();
    assert!(!config.is_enabled("on", Some(&off)));
}

/// What a plugin may do is up to the operator alone (contract S3).
#[test]
fn s3_a_plugin_cannot_give_itself_more() {
    let config = parse("").unwrap();
    for option in [
        "grants",
        "limits.memory",
        "group",
        "enabled",
        "dead-letter.connection",
        "dead-letter.max-redrives",
    ] {
        let error = config.plugin("p", &declared(&[(option, "1")]), None).unwrap_err();
        assert!(error.message().contains("only the operator"), "{error}");
    }
    let tricks = [("retry = { max-attempts = 1 }\n[limits]\nmemory", "4GiB"), ("", "1")];
    for trick in tricks {
        assert!(config.plugin("p", &declared(&[trick]), None).is_err());
    }
    let quoted = declared(&[("config.home", "${HOME}\"\nlimits.memory = \"4GiB")]);
    let plugin = config.plugin("p", &quoted, None).unwrap();
    assert_eq!(plugin.config["home"], "${HOME}\"\nlimits.memory = \"4GiB");
    assert_eq!(plugin.limits, Limits::default());
}

#[test]
fn a_plugin_does_not_eat_its_own_dead_letters() {
    let plugin = |text: &str| parse(text).unwrap().plugin("p", &declared(&[]), None);
    let error = plugin("[plugin.p]\ntopics = [\"*\"]\n").unwrap_err().to_string();
    assert!(error.contains("`*` in its topics matches `p.dlq`"), "{error}");
    plugin("[plugin.p]\ntopics = [\"p.*x\"]\n").unwrap();
}

#[test]
fn what_a_plugin_says_of_itself_must_fit() {
    let config = parse("").unwrap();
    let error = |declared: &Declared| config.plugin("p", declared, None).unwrap_err().to_string();
    let elsewhere = Declared { connection: Some("kafka".into()), ..declared(&[]) };
    insta::assert_snapshot!(error(&elsewhere), @r#"plugin `p` asks for the unknown connection `kafka` (add `[connections.kafka]` to sandbar.toml, or set `connection` in p.toml; known here: `log`)"#);
    insta::assert_snapshot!(error(&Declared::default()), @r#"plugin `p` is subscribed to no topic (set `topics = ["..."]` in p.toml)"#);
    insta::assert_snapshot!(error(&declared(&[("orderin", "key")])), @r#"describe of plugin `p`:1:1: unknown key `orderin` (did you mean `ordering`?)"#);
    insta::assert_snapshot!(error(&declared(&[("retry.max-attempts", "0")])), @r#"describe of plugin `p`:1:22: out of range: expected a whole number of 1 or more, found integer `0`"#);
    insta::assert_snapshot!(error(&Declared { topics: vec!["a b".into()], ..declared(&[]) }), @r#"plugin `p` declares a bad topic: `a b` is no topic name: ' ' is not allowed, only letters, digits, `.`, `_`, `-`"#);
}
