//! What a person sees who made a mistake in a configuration.

use std::path::Path;

use super::tests::parse;

/// The error as a person sees it.
fn mistake(text: &str) -> String {
    let error = parse(text).expect_err("this configuration is wrong");
    assert!(error.place().is_some(), "{error} has no place");
    error.render(false, 100)
}

/// The error as a person sees it, of a `NAME.toml`.
fn sidecar_mistake(text: &str) -> String {
    let config = parse(TWO).unwrap();
    config.sidecar(Path::new("plugins/router.toml"), text).expect_err("wrong").render(false, 100)
}

const TWO: &str = r#"default-connection = "kafka"
[connections.log]
type = "log"
[connections.kafka]
type = "kafka"
brokers = "${BROKERS}"
"#;

#[test]
fn a_variable_in_a_value_of_the_wrong_type_is_not_shown() {
    let shown = mistake("[connections.log]\ntype = \"log\"\npartitions = \"${KAFKA_PASSWORD}\"");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_unknown_connection_on_the_command_line() {
    let error = parse(TWO).unwrap().connection(Some("kafak")).unwrap_err();
    assert_eq!(error.to_string(), "unknown connection `kafak` (did you mean `kafka`?)");
}

#[test]
fn an_error_on_one_line_names_the_place() {
    let error = parse("\n\ndefault-connection = \"lgo\"").unwrap_err();
    insta::assert_snapshot!(error, @"sandbar.toml:3:22: unknown connection `lgo` (did you mean `log`?)");
}

#[test]
fn mistake_not_toml() {
    insta::assert_snapshot!(mistake("plugins = \"p\"\ndata = [\n[admin]\n"), @r#"
     × not valid TOML: unclosed array, expected `]`
      ╭─[sandbar.toml:3:8]
    2 │ data = [
    3 │ [admin]
      ·        ▲
      ·        ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_value_without_quotes() {
    insta::assert_snapshot!(mistake("plugins = plugins\n"), @r#"
     × not valid TOML: string values must be quoted, expected literal string
      ╭─[sandbar.toml:1:11]
    1 │ plugins = plugins
      ·           ───┬───
      ·              ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_a_key_twice() {
    insta::assert_snapshot!(mistake("plugins = \"a\"\nplugins = \"b\"\n"), @r#"
     × not valid TOML: duplicate key
      ╭─[sandbar.toml:2:1]
    1 │ plugins = "a"
    2 │ plugins = "b"
      · ───┬───
      ·    ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_unknown_key() {
    insta::assert_snapshot!(mistake("[admin]\nlistne = \"127.0.0.1:1\"\n"), @r#"
     × unknown key `listne`
      ╭─[sandbar.toml:2:1]
    1 │ [admin]
    2 │ listne = "127.0.0.1:1"
      · ───┬──
      ·    ╰── not a key of this table
      ╰────
     help: did you mean `listen`?
    "#);
}

#[test]
fn mistake_unknown_table() {
    insta::assert_snapshot!(mistake("[conections.log]\ntype = \"log\"\n"), @r#"
     × unknown key `conections`
      ╭─[sandbar.toml:1:2]
    1 │ [conections.log]
      ·  ─────┬────
      ·       ╰── not a key of this table
    2 │ type = "log"
      ╰────
     help: did you mean `connections`?
    "#);
}

#[test]
fn mistake_unknown_key_of_a_connection() {
    insta::assert_snapshot!(
        mistake("[connections.k]\ntype = \"kafka\"\nbrokers = \"b:1\"\ncreate_topics = true\n"),
        @r#"
         × unknown key `create_topics`
          ╭─[sandbar.toml:4:1]
        3 │ brokers = "b:1"
        4 │ create_topics = true
          · ──────┬──────
          ·       ╰── not a key of this table
          ╰────
         help: did you mean `create-topics`?
        "#
    );
}

#[test]
fn mistake_unknown_type_of_connection() {
    insta::assert_snapshot!(mistake("[connections.k]\ntype = \"kafak\"\n"), @r#"
     × unknown connection type `kafak`
      ╭─[sandbar.toml:2:8]
    1 │ [connections.k]
    2 │ type = "kafak"
      ·        ───┬───
      ·           ╰── not a type
      ╰────
     help: did you mean `kafka`?
    "#);
}

#[test]
fn mistake_connection_without_type() {
    insta::assert_snapshot!(mistake("[connections.k]\nbrokers = \"b:1\"\n"), @r#"
     × connection `k` has no type
      ╭─[sandbar.toml:1:14]
    1 │ [connections.k]
      ·              ┬
      ·              ╰── this connection
    2 │ brokers = "b:1"
      ╰────
     help: add `type = "TYPE"`, one of `log`, `kafka`, `nats`, `rabbitmq`, `sqs`
    "#);
}

#[test]
fn mistake_connection_without_brokers() {
    insta::assert_snapshot!(mistake("# c\n[connections.k]\ntype = \"kafka\"\n"), @r#"
     × connection `k` has no `brokers`
      ╭─[sandbar.toml:2:14]
    1 │ # c
    2 │ [connections.k]
      ·              ┬
      ·              ╰── this connection
    3 │ type = "kafka"
      ╰────
     help: add the key `brokers`
    "#);
}

#[test]
fn mistake_wrong_type() {
    insta::assert_snapshot!(mistake("[defaults]\nconcurrency = \"four\"\n"), @r#"
     × wrong type: expected a whole number of 1 or more, found a string
      ╭─[sandbar.toml:2:15]
    1 │ [defaults]
    2 │ concurrency = "four"
      ·               ───┬──
      ·                  ╰── expected a whole number of 1 or more
      ╰────
    "#);
}

#[test]
fn mistake_a_string_for_a_list() {
    insta::assert_snapshot!(mistake("[plugin.router]\ntopics = \"github\"\n"), @r#"
     × wrong type: expected an array, found a string
      ╭─[sandbar.toml:2:10]
    1 │ [plugin.router]
    2 │ topics = "github"
      ·          ────┬───
      ·              ╰── expected an array
      ╰────
    "#);
}

#[test]
fn mistake_out_of_range() {
    insta::assert_snapshot!(mistake("[plugin.router.retry]\nmax-attempts = 0\n"), @r#"
     × out of range: expected a whole number of 1 or more, found integer `0`
      ╭─[sandbar.toml:2:16]
    1 │ [plugin.router.retry]
    2 │ max-attempts = 0
      ·                ┬
      ·                ╰── expected a whole number of 1 or more
      ╰────
    "#);
}

#[test]
fn mistake_negative() {
    insta::assert_snapshot!(mistake("[defaults]\nmax-in-flight = -1\n"), @r#"
     × out of range: expected a whole number of 1 or more, found integer `-1`
      ╭─[sandbar.toml:2:17]
    1 │ [defaults]
    2 │ max-in-flight = -1
      ·                 ─┬
      ·                  ╰── expected a whole number of 1 or more
      ╰────
    "#);
}

#[test]
fn mistake_share_above_one() {
    insta::assert_snapshot!(mistake("[defaults]\nretry = { jitter = 1.5 }\n"), @r#"
     × 1.5 is out of range: 0 to 1
      ╭─[sandbar.toml:2:20]
    1 │ [defaults]
    2 │ retry = { jitter = 1.5 }
      ·                    ─┬─
      ·                     ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_duration_without_unit() {
    insta::assert_snapshot!(mistake("shutdown-timeout = 30\n"), @r#"
     × `30` is no duration: time unit needed, for example 30sec or 30ms
      ╭─[sandbar.toml:1:20]
    1 │ shutdown-timeout = 30
      ·                    ─┬
      ·                     ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_size() {
    insta::assert_snapshot!(mistake("[defaults.limits]\nmemory = \"64 megs\"\n"), @r#"
     × `64 megs` is no size: write a number with B, KiB, MiB, GiB, kB, MB or GB
      ╭─[sandbar.toml:2:10]
    1 │ [defaults.limits]
    2 │ memory = "64 megs"
      ·          ────┬────
      ·              ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_memory_out_of_range() {
    insta::assert_snapshot!(mistake("[defaults.limits]\nmemory = \"8GiB\"\n"), @r#"
     × 8589934592 bytes is out of range: 64KiB to 1GiB
      ╭─[sandbar.toml:2:10]
    1 │ [defaults.limits]
    2 │ memory = "8GiB"
      ·          ───┬──
      ·             ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_address() {
    insta::assert_snapshot!(mistake("[admin]\nlisten = \"localhost:7070\"\n"), @r#"
     × `localhost:7070` is no address: write IP:PORT, such as 127.0.0.1:7070 or [::1]:7070
      ╭─[sandbar.toml:2:10]
    1 │ [admin]
    2 │ listen = "localhost:7070"
      ·          ────────┬───────
      ·                  ╰── here
      ╰────
    "#);
}

#[test]
fn mistake_unknown_default_connection() {
    insta::assert_snapshot!(mistake(&TWO.replace("= \"kafka\"\n[", "= \"kafak\"\n[")), @r#"
     × unknown connection `kafak`
      ╭─[sandbar.toml:1:22]
    1 │ default-connection = "kafak"
      ·                      ───┬───
      ·                         ╰── no connection has this name
    2 │ [connections.log]
      ╰────
     help: did you mean `kafka`?
    "#);
}

#[test]
fn mistake_no_default_among_several() {
    insta::assert_snapshot!(mistake(&TWO.replace("default-connection = \"kafka\"\n", "")), @r#"
     × several connections, and none is the default
      ╭─[sandbar.toml:1:1]
    1 │ [connections.log]
      · ▲
      · ╰── missing here
    2 │ type = "log"
      ╰────
     help: add `default-connection = "NAME"` above the first table; connections: `kafka`, `log`
    "#);
}

#[test]
fn mistake_variable_not_set() {
    insta::assert_snapshot!(
        mistake("[connections.k]\ntype = \"kafka\"\nbrokers = \"a:1,${KAFKA_BROKERS:?the bootstrap servers}\"\n"),
        @r#"
         × variable KAFKA_BROKERS is not set: the bootstrap servers
          ╭─[sandbar.toml:3:16]
        2 │ type = "kafka"
        3 │ brokers = "a:1,${KAFKA_BROKERS:?the bootstrap servers}"
          ·                ───────────────────┬───────────────────
          ·                                   ╰── needed here
          ╰────
         help: set KAFKA_BROKERS, or give a default: `${KAFKA_BROKERS:-default}`
        "#
    );
}

#[test]
fn mistake_log_level() {
    insta::assert_snapshot!(mistake("[logging]\nlevel = \"sandbar=loud\"\n"), @r#"
     × `sandbar=loud` is no log level or filter
      ╭─[sandbar.toml:2:9]
    1 │ [logging]
    2 │ level = "sandbar=loud"
      ·         ───────┬──────
      ·                ╰── error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
      ╰────
     help: write error, warn, info, debug, trace, or `info,sandbar_pipeline=debug`
    "#);
}

#[test]
fn mistake_sidecar_key() {
    insta::assert_snapshot!(sidecar_mistake("topcis = [\"a\"]\n"), @r#"
     × unknown key `topcis`
      ╭─[plugins/router.toml:1:1]
    1 │ topcis = ["a"]
      · ───┬──
      ·    ╰── not a key of this table
      ╰────
     help: did you mean `topics`?
    "#);
}

#[test]
fn mistake_sidecar_connection() {
    insta::assert_snapshot!(sidecar_mistake("[dead-letter]\nconnection = \"logs\"\n"), @r#"
     × unknown connection `logs`
      ╭─[plugins/router.toml:2:14]
    1 │ [dead-letter]
    2 │ connection = "logs"
      ·              ───┬──
      ·                 ╰── no connection has this name
      ╰────
     help: did you mean `log`?
    "#);
}

#[test]
fn mistake_sidecar_grant() {
    insta::assert_snapshot!(sidecar_mistake("grants = [\"clock\"]\n"), @r#"
     × unknown capability `clock`
      ╭─[plugins/router.toml:1:11]
    1 │ grants = ["clock"]
      ·           ───┬───
      ·              ╰── no capability has this name
      ╰────
     help: did you mean `clocks`?
    "#);
}

#[test]
fn mistake_sidecar_value() {
    insta::assert_snapshot!(sidecar_mistake("ordering = \"keys\"\n"), @r#"
     × unknown value `keys`
      ╭─[plugins/router.toml:1:12]
    1 │ ordering = "keys"
      ·            ───┬──
      ·               ╰── not one of the values
      ╰────
     help: did you mean `key`?
    "#);
}

#[test]
fn mistake_sidecar_topic() {
    insta::assert_snapshot!(sidecar_mistake("topics = [\"ok.*\", \"my topic\"]\n"), @r#"
     × `my topic` is no topic name: ' ' is not allowed, only letters, digits, `.`, `_`, `-`
      ╭─[plugins/router.toml:1:10]
    1 │ topics = ["ok.*", "my topic"]
      ·          ──────────┬─────────
      ·                    ╰── here
      ╰────
    "#);
}
