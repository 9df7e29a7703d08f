//! The settings of the delivery contract: what they come to, and what is refused.

use std::path::Path;

use sandbar_pipeline::{Breaker, OnDeadLetter, Ordering};

use super::{
    tests::{declared, parse},
    *,
};

/// What plugin `p` gets that says `options` of itself, with `sidecar` beside it.
fn plugin(
    file: &str,
    options: &[(&str, &str)],
    sidecar: &str,
) -> Result<PluginConfig, ConfigError> {
    let config = parse(file)?;
    let sidecar = config.sidecar(Path::new("plugins/p.toml"), sidecar)?;
    config.plugin("p", &declared(options), Some(&sidecar))
}

/// The error as a person sees it.
fn mistake(file: &str, options: &[(&str, &str)], sidecar: &str) -> String {
    plugin(file, options, sidecar).expect_err("this is wrong").render(false, 100)
}

const TWO: &str = r#"default-connection = "kafka"
[connections.log]
type = "log"
[connections.kafka]
type = "kafka"
brokers = "b:1"
retry-tiers = ["10s", "1m"]
"#;

#[test]
fn nothing_of_it_is_on_unless_asked_for() {
    let p = plugin("", &[], "").unwrap();
    assert_eq!((p.delivery, p.dedup), (DeliveryMode::AtLeastOnce, None));
    assert_eq!((p.breaker, p.retry_tiers.len()), (Breaker::default(), 0));
    assert_eq!(p.dead_letter.on_dead_letter, OnDeadLetter::Continue);
    assert_eq!(p.dead_letter.max_redrives, 3);
    assert_eq!(p.inbox(), "sandbar-inbox.sandbar.p");
    assert_eq!(p.warnings(), [""; 0]);
}

#[test]
fn e1_i1_o4_r5_r8_each_layer_sets_it_and_a_plugin_may_suggest_it() {
    let suggested = [
        ("delivery", "exactly-once"),
        ("ordering", "none"),
        ("dedup.window", "1h"),
        ("breaker.failures", "3"),
        ("breaker.pause", "5s"),
        ("retry.through", "topics"),
        ("retry.max-delay", "1h"),
    ];
    let p = plugin(TWO, &suggested, "").unwrap();
    assert_eq!((p.delivery, p.ordering), (DeliveryMode::ExactlyOnce, Ordering::None));
    assert_eq!(p.dedup, Some(Duration::from_secs(3600)));
    let tiers: Vec<_> =
        p.retry_tiers.iter().map(|tier| (tier.delay.as_secs(), &*tier.topic)).collect();
    assert_eq!(
        tiers,
        [(10, "sandbar-retry.sandbar.10000ms"), (60, "sandbar-retry.sandbar.60000ms")]
    );
    let seconds = Duration::from_secs;
    assert_eq!(p.breaker, Breaker { failures: 3, pause: seconds(5), max_pause: seconds(30) });

    let file = format!(
        "{TWO}[defaults]\ndelivery = \"at-least-once\"\ndedup.window = \"2h\"\n\
         [plugin.p]\nbreaker.pause = \"2m\"\nretry.through = \"memory\""
    );
    let sidecar =
        "ordering = \"key\"\ndead-letter = { on-dead-letter = \"halt-key\", max-redrives = 0 }";
    let p = plugin(&file, &suggested, sidecar).unwrap();
    assert_eq!((p.delivery, p.dedup), (DeliveryMode::AtLeastOnce, Some(seconds(7200))));
    assert_eq!(p.breaker, Breaker { failures: 3, pause: seconds(120), max_pause: seconds(120) });
    assert!(p.retry_tiers.is_empty() && p.halts_keys());
    assert_eq!(p.dead_letter.max_redrives, 0);

    let off = plugin(&file, &suggested, "dedup.window = \"0s\"").unwrap();
    assert_eq!(off.dedup, None, "what others switched on can be switched off");
}

#[test]
fn r5_retries_through_topics_with_an_order_are_refused_with_the_reason() {
    let file = "[plugin.p.retry]\nmax-attempts = 3\nthrough = \"topics\"\n";
    insta::assert_snapshot!(mistake(file, &[], ""), @r#"
     × plugin `p`: `retry.through = "topics"` needs another ordering than `key`
      ╭─[sandbar.toml:3:11]
    2 │ max-attempts = 3
    3 │ through = "topics"
      ·           ────┬───
      ·               ╰── works with `none` only
      ╰────
     help: an event that waits in a topic is overtaken by later ones of its key: set `ordering =
           "none"`, or `through = "memory"`
    "#);
    // the strongest layer that says it is the one to be mended
    let sidecar = "retry = { through = \"topics\" }\n";
    insta::assert_snapshot!(mistake(file, &[("ordering", "partition")], sidecar), @r#"
     × plugin `p`: `retry.through = "topics"` needs another ordering than `partition`
      ╭─[plugins/p.toml:1:21]
    1 │ retry = { through = "topics" }
      ·                     ────┬───
      ·                         ╰── works with `none` only
      ╰────
     help: an event that waits in a topic is overtaken by later ones of its key: set `ordering =
           "none"`, or `through = "memory"`
    "#);
    insta::assert_snapshot!(mistake("", &[("retry.through", "topics")], ""), @r#"
     × plugin `p`: `retry.through = "topics"` needs another ordering than `key`
      ╭─[describe of plugin `p`:1:17]
    1 │ retry.through = "topics"
      ·                 ────┬───
      ·                     ╰── works with `none` only
      ╰────
     help: an event that waits in a topic is overtaken by later ones of its key: set `ordering =
           "none"`, or `through = "memory"`
    "#);
    let unordered = plugin(file, &[], "ordering = \"none\"").unwrap();
    assert_eq!(unordered.retry_tiers.len(), 3);
}

#[test]
fn o4_halting_keys_without_an_order_is_refused_with_the_reason() {
    let sidecar = "ordering = \"none\"\n[dead-letter]\non-dead-letter = \"halt-key\"\n";
    insta::assert_snapshot!(mistake("", &[], sidecar), @r#"
     × plugin `p`: `dead-letter.on-dead-letter = "halt-key"` needs another ordering than `none`
      ╭─[plugins/p.toml:3:18]
    2 │ [dead-letter]
    3 │ on-dead-letter = "halt-key"
      ·                  ─────┬────
      ·                       ╰── works with `key` or `partition` only
      ╰────
     help: without an order, later events of the key are handled before it is halted: set `ordering =
           "key"`, or `on-dead-letter = "continue"`
    "#);
}

#[test]
fn mistake_breaker_whose_pause_cannot_grow() {
    let sidecar = "[breaker]\npause = \"1m\"\nmax-pause = \"5s\"\n";
    insta::assert_snapshot!(mistake("", &[], sidecar), @r#"
     × plugin `p`: the breaker's longest pause is shorter than its first
      ╭─[plugins/p.toml:3:13]
    2 │ pause = "1m"
    3 │ max-pause = "5s"
      ·             ──┬─
      ·               ╰── 5s is less than `pause`, which is 1m
      ╰────
     help: set `breaker.max-pause` to `breaker.pause` or more
    "#);
}

#[test]
fn mistake_unknown_delivery() {
    insta::assert_snapshot!(mistake("", &[], "delivery = \"exactly_once\"\n"), @r#"
     × unknown value `exactly_once`
      ╭─[plugins/p.toml:1:12]
    1 │ delivery = "exactly_once"
      ·            ───────┬──────
      ·                   ╰── not one of the values
      ╰────
     help: did you mean `exactly-once`?
    "#);
}

#[test]
fn mistake_unknown_place_to_wait() {
    insta::assert_snapshot!(mistake("", &[], "retry.through = \"topic\"\n"), @r#"
     × unknown value `topic`
      ╭─[plugins/p.toml:1:17]
    1 │ retry.through = "topic"
      ·                 ───┬───
      ·                    ╰── not one of the values
      ╰────
     help: did you mean `topics`?
    "#);
}

#[test]
fn mistake_retry_tiers() {
    let wrong = |tiers: &str| {
        parse(&format!("[connections.log]\ntype = \"log\"\nretry-tiers = {tiers}\n"))
            .expect_err("these tiers are wrong")
            .render(false, 100)
    };
    insta::assert_snapshot!(wrong("[]"), @r#"
     × no retry tier: name at least one delay, such as "30s"
      ╭─[sandbar.toml:3:15]
    2 │ type = "log"
    3 │ retry-tiers = []
      ·               ─┬
      ·                ╰── here
      ╰────
    "#);
    insta::assert_snapshot!(wrong(r#"["500ms", "5s"]"#), @r#"
     × retry tier 500ms is too short: a topic is worth it from 1s on, shorter delays wait in memory
      ╭─[sandbar.toml:3:15]
    2 │ type = "log"
    3 │ retry-tiers = ["500ms", "5s"]
      ·               ───────┬───────
      ·                      ╰── here
      ╰────
    "#);
    insta::assert_snapshot!(wrong(r#"["5s", "1m", "60s"]"#), @r#"
     × retry tier 1m stands behind 1m: write each once, from short to long
      ╭─[sandbar.toml:3:15]
    2 │ type = "log"
    3 │ retry-tiers = ["5s", "1m", "60s"]
      ·               ─────────┬─────────
      ·                        ╰── here
      ╰────
    "#);
    insta::assert_snapshot!(wrong(r#"["5s", "soon"]"#), @r#"
     × `soon` is no duration: expected number at 0
      ╭─[sandbar.toml:3:15]
    2 │ type = "log"
    3 │ retry-tiers = ["5s", "soon"]
      ·               ───────┬──────
      ·                      ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_marks_in_the_file_of_a_log() {
    let wrong = parse("marks = \"log.redb\"\n").unwrap_err().render(false, 100);
    insta::assert_snapshot!(wrong, @r#"
     × /srv/data/log.redb is the file of connection `log`
      ╭─[sandbar.toml:1:9]
    1 │ marks = "log.redb"
      ·         ─────┬────
      ·              ╰── marks need a file of their own
      ╰────
     help: name another file as `marks`, above the first table
    "#);
    let wrong = parse("[connections.marks]\ntype = \"log\"\n").unwrap_err().to_string();
    insta::assert_snapshot!(wrong, @"sandbar.toml:1:1: /srv/data/marks.redb is the file of connection `marks` (name another file as `marks`, above the first table)");
}

#[test]
fn mistake_group_that_cannot_be_part_of_a_topic() {
    insta::assert_snapshot!(mistake("", &[], "group = \"my group\"\n"), @r#"
     × `my group` is no group: ' ' is not allowed, only letters, digits, `.`, `_`, `-`
      ╭─[plugins/p.toml:1:9]
    1 │ group = "my group"
      ·         ─────┬────
      ·              ╰── here
      ╰────
    "#);
    let wrong = parse("group-prefix = \"team/\"\n").unwrap_err().to_string();
    insta::assert_snapshot!(wrong, @"sandbar.toml:1:16: `team/` is no group prefix: '/' is not allowed, only letters, digits, `.`, `_`, `-`");
    let longest = format!("group = \"{}\"", "g".repeat(234));
    assert!(plugin("", &[], &longest).unwrap().inbox().len() <= 249);
}

#[test]
fn d3_nobody_reads_or_writes_the_topics_between_runtime_and_broker() {
    for key in ["topics", "publish"] {
        let sidecar = format!("{key} = [\"sandbar-inbox.sandbar.other\"]\n");
        assert!(mistake("", &[], &sidecar).contains("is reserved"), "{key}");
    }
    insta::assert_snapshot!(
        mistake("", &[], "dead-letter.topic = \"sandbar-retry.sandbar.5000ms\"\n"), @r#"
         × `sandbar-retry.sandbar.5000ms` is reserved: topics of this name carry events between runtime
         │ and broker
          ╭─[plugins/p.toml:1:21]
        1 │ dead-letter.topic = "sandbar-retry.sandbar.5000ms"
          ·                     ───────────────┬──────────────
          ·                                    ╰── here
          ╰────
        "#);
    let config = parse("").unwrap();
    let forger = Declared { publishes: vec!["sandbar-inbox.*".into()], ..declared(&[]) };
    let error = config.plugin("p", &forger, None).unwrap_err();
    assert!(error.message().contains("declares a bad topic"), "{error}");
}

#[test]
fn e1_what_exactly_once_does_not_cover_is_a_warning() {
    let exactly = "delivery = \"exactly-once\"\n";
    let sidecar = format!("{exactly}output-connection = \"log\"\ndead-letter.connection = \"log\"");
    insta::assert_snapshot!(plugin(TWO, &[], &sidecar).unwrap().warnings().join("\n"), @r#"
    `delivery = "exactly-once"` ends at connection `kafka`: its outputs go to `log` and are at-least-once
    `delivery = "exactly-once"` ends at connection `kafka`: its dead letters go to `log` and are at-least-once
    "#);
    let sidecar =
        format!("{exactly}dead-letter = {{ connection = \"log\", on-exhausted = \"drop\" }}");
    assert_eq!(plugin(TWO, &[], &sidecar).unwrap().warnings(), [""; 0], "it makes no dead letters");
    assert_eq!(plugin(TWO, &[], exactly).unwrap().warnings(), [""; 0]);
    assert_eq!(plugin(TWO, &[], "output-connection = \"log\"").unwrap().warnings(), [""; 0]);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let sidecar = "ordering = \"none\"\nretry = { through = \"topics\", max-delay = \"9s\" }";
    insta::assert_snapshot!(plugin(TWO, &[], sidecar).unwrap().warnings().join("\n"), @r#"`retry.through = "topics"` has no effect: `retry.max-delay` (9s) is shorter than the shortest of `retry-tiers` (10s)"#);
    let sidecar = "dead-letter = { on-exhausted = \"halt\", on-dead-letter = \"halt-key\" }";
    insta::assert_snapshot!(plugin(TWO, &[], sidecar).unwrap().warnings().join("\n"), @r#"`dead-letter.on-dead-letter = "halt-key"` has no effect: `on-exhausted` makes no dead letters"#);
}
