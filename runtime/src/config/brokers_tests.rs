//! Brokers of every type, what those need that retain nothing, and routes.

use std::path::Path;

use super::{tests::parse, *};

const QUEUES: &str = r#"
default-connection = "nats"
[connections.nats]
type = "nats"
servers = "nats://me:hush@n:4222"
credentials = "nats.creds"
max-age = "7d"
key-token = 2
[connections.rabbit]
type = "rabbitmq"
uri = "amqp://me:hush@r:5672/v"
password = "${KAFKA_PASSWORD}"
exchange-type = "direct"
bindings = { orders = ["eu.#"] }
queue-arguments = { x-max-length = 10, x-overflow = "reject-publish" }
"#;

/// The settings of plugin `p` with `sidecar` beside it.
fn plugin(text: &str, sidecar: &str) -> Result<PluginConfig, ConfigError> {
    let config = parse(text)?;
    let sidecar = config.sidecar(Path::new("p.toml"), sidecar)?;
    config.plugin(
        "p",
        &Declared { topics: vec!["t".into()], ..Declared::default() },
        Some(&sidecar),
    )
}

fn mistake(text: &str) -> String {
    parse(text).expect_err("this configuration is wrong").to_string()
}

#[test]
fn queue_brokers_are_read_and_their_secrets_are_not_shown() {
    let config = parse(QUEUES).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush") && !shown.contains("hunter2"), "{shown}");
    let ConnectionConfig::Nats { settings, retry_tiers } = &config.connections["nats"] else {
        panic!("no nats")
    };
    assert_eq!(settings.servers.0, "nats://me:hush@n:4222");
    assert_eq!(settings.credentials.as_deref(), Some(Path::new("/srv/nats.creds")));
    assert_eq!(retry_tiers.len(), 3);
    let ConnectionConfig::RabbitMq(settings) = &config.connections["rabbit"] else {
        panic!("no rabbit")
    };
    assert_eq!(settings.password.as_ref().unwrap().0, "hunter2");
    assert_eq!(settings.queue_arguments["x-max-length"], settings::QueueArgument::Int(10));
    assert_eq!(settings.bindings["orders"], ["eu.#"]);
}

#[cfg(not(feature = "sqs"))]
#[test]
fn a_type_that_is_not_in_this_build_names_its_feature() {
    insta::assert_snapshot!(
        mistake("[connections.c]\ntype = \"sqs\"\n"),
        @"sandbar.toml:2:8: connection type `sqs` is not in this build (build sandbar with the cargo feature `sqs`)"
    );
}

#[test]
fn mistakes_in_a_queue_broker_have_a_place() {
    insta::assert_snapshot!(
        mistake("[connections.c]\ntype = \"rabbitmq\"\n"),
        @"sandbar.toml:1:14: connection `c` has no `uri` (add the key `uri`)"
    );
    insta::assert_snapshot!(
        mistake("[connections.c]\ntype = \"nats\"\nservers = \"n\"\nack-wiat = \"1s\"\n"),
        @"sandbar.toml:4:1: unknown key `ack-wiat` (did you mean `ack-wait`?)"
    );
    insta::assert_snapshot!(
        mistake("[connections.c]\ntype = \"rabbit\"\n"),
        @"sandbar.toml:2:8: unknown connection type `rabbit` (did you mean `rabbitmq`?)"
    );
}

#[test]
fn dead_letters_go_to_the_nearest_connection_that_keeps_them() {
    let keeper = |text: &str, sidecar: &str| {
        let plugin = plugin(text, sidecar).unwrap();
        (plugin.dead_letter.connection, plugin.notes_connection)
    };
    let both = |name: &str| (name.to_owned(), name.to_owned());
    assert_eq!(keeper(QUEUES, ""), both("nats"), "its own");
    assert_eq!(keeper(QUEUES, "connection = \"rabbit\""), both("nats"), "the default");
    let rabbit = "[connections.rabbit]\ntype = \"rabbitmq\"\nuri = \"amqp://r\"\n";
    assert_eq!(keeper(rabbit, ""), both("local"), "made for it");
    let log = "[connections.archive]\ntype = \"log\"\n";
    let two = format!("default-connection = \"rabbit\"\n{rabbit}{log}");
    assert_eq!(keeper(&two, ""), both("archive"), "the only log");
    assert!(!parse(&two).unwrap().connections.contains_key("local"));
    let config = parse(rabbit).unwrap();
    assert_eq!(config.dead_letter_connection(), "local");
    let ConnectionConfig::Log { path, .. } = &config.connections["local"] else { panic!() };
    assert_eq!(path, Path::new("/srv/data/local.redb"));
    assert_eq!(config.default_connection, "rabbit");
    // whoever wants them on a queue gets them there
    let own = keeper(rabbit, "dead-letter = { connection = \"rabbit\" }");
    assert_eq!(own.0, "rabbit");
    assert_eq!(
        mistake(&rabbit.replace("rabbit]", "local]")),
        "sandbar.toml:1:1: connection `local` keeps no events, and that is the name of the log for \
         dead letters (give connection `local` another name, or add one of type log)"
    );
    let core = "[connections.n]\ntype = \"nats\"\nservers = \"n\"\nat-most-once = true\n";
    assert_eq!(keeper(core, ""), both("local"), "core NATS keeps nothing");
}

#[test]
fn what_needs_a_topic_that_can_be_read_is_refused_where_there_is_none() {
    let rabbit = "[connections.rabbit]\ntype = \"rabbitmq\"\nuri = \"amqp://r\"\n";
    assert!(plugin(rabbit, "dead-letter = { on-dead-letter = \"halt-key\" }").is_ok());
    let queue = "dead-letter = { connection = \"rabbit\", on-dead-letter = \"halt-key\" }";
    insta::assert_snapshot!(
        plugin(rabbit, queue).unwrap_err(),
        @"p.toml:1:57: plugin `p`: `halt-key` needs a connection that retains events (leave `dead-letter.connection` out, which then is `local`, or name one of type log, kafka or nats)"
    );
    insta::assert_snapshot!(
        plugin(rabbit, "ordering = \"none\"\nretry = { through = \"topics\" }").unwrap_err(),
        @r#"p.toml:2:21: plugin `p`: `retry.through = "topics"` needs a connection that retains events (set `through = "memory"`: the broker keeps what waits there, too)"#
    );
}

#[test]
fn a_route_is_a_subscription_of_its_own() {
    let text = format!(
        "{QUEUES}[[route]]\nname = \"orders\"\nfrom = {{ connection = \"rabbit\", topics = [\"orders\"] }}\n\
         to = {{ topic = \"eu.{{topic}}\" }}\nstart = \"latest\"\n\
         [[route]]\nname = \"off\"\nfrom = {{ topics = [\"a.*\"] }}\nto = {{ connection = \"local\" }}\nenabled = false\n"
    );
    let config = parse(&text).unwrap();
    let [route] = &config.routes[..] else { panic!("{:?}", config.routes) };
    let s = &route.subscription;
    assert_eq!((&*s.name, &*s.group), ("route.orders", "sandbar.route.orders"));
    assert_eq!((&*s.connection, &*s.output_connection), ("rabbit", "nats"));
    assert_eq!((&*s.dead_letter.connection, &*s.dead_letter.topic), ("nats", "route.orders.dlq"));
    assert!(s.is_route() && s.start == sandbar_core::StartAt::Latest);
    assert_eq!(&*route.rename.of(&"orders".into()), "eu.orders");
    assert!(config.connections.contains_key("local"), "it is named");
}

#[test]
fn mistakes_in_a_route_have_a_place() {
    let route = |rest: &str| mistake(&format!("[[route]]\nname = \"r\"\n{rest}"));
    insta::assert_snapshot!(route(""), @"sandbar.toml:1:1: missing field `from`");
    insta::assert_snapshot!(
        route("from = { topics = [] }\nto = { connection = \"local\" }"),
        @"sandbar.toml:3:19: route `r` reads no topic"
    );
    insta::assert_snapshot!(
        route("from = { topics = [\"a\"] }\nto = { connection = \"lag\" }"),
        @"sandbar.toml:4:21: unknown connection `lag` (did you mean `log`?)"
    );
    insta::assert_snapshot!(
        route("from = { topics = [\"a\"] }\n"),
        @"sandbar.toml:3:19: route `r` would read what it writes (write to another connection, or set `to.topic` to a name that it does not read)"
    );
    insta::assert_snapshot!(
        route("from = { topics = [\"*\"] }\nto = { topic = \"eu.{topic}\" }\ndead-letter = { connection = \"local\" }"),
        @"sandbar.toml:4:16: route `r` would read what it writes (write to another connection, or set `to.topic` to a name that it does not read)"
    );
    insta::assert_snapshot!(
        route("from = { topics = [\"a\"] }\nto = { topic = \"{tpoic}\" }"),
        @"sandbar.toml:4:16: `{tpoic}` is no topic name: '{' is not allowed, only letters, digits, `.`, `_`, `-`"
    );
    insta::assert_snapshot!(
        route("from = { topics = [\"a\"] }\nto = { topic = \"b\" }\n[[route]]\nname = \"r\"\nfrom = { topics = [\"c\"] }\nto = { topic = \"d\" }"),
        @"sandbar.toml:6:8: two routes are called `r` (they would take each other's events: give each a name of its own)"
    );
    insta::assert_snapshot!(
        mistake("[[route]]\nname = \"a b\"\nfrom = { topics = [\"a\"] }"),
        @"sandbar.toml:2:8: `a b` is no name of a route (use letters, digits, `.`, `_` and `-` only, at most 122)"
    );
}

#[cfg(feature = "sqs")]
#[test]
fn o4_keys_cannot_be_halted_where_no_event_is_later_than_another() {
    let sqs = "[connections.sqs]\ntype = \"sqs\"\nregion = \"eu-central-1\"\n";
    insta::assert_snapshot!(
        plugin(sqs, "dead-letter = { on-dead-letter = \"halt-key\" }").unwrap_err(),
        @r#"p.toml:1:34: plugin `p`: `halt-key` needs events with positions in their order (set `on-dead-letter = "continue"`)"#
    );
}
