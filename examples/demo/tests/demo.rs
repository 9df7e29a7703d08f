//! `make demo` counts for itself: here it only has to end well, on each broker there is.

use std::process::Command;

fn demo(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbar-demo")).args(arguments).output().unwrap();
    let (said, complained) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(said) + String::from_utf8_lossy(complained);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}

/// On the server that `variable` names; without one, says that it was not run.
fn demo_on(broker: &str, variable: &str) {
    match std::env::var(variable).ok().filter(|url| !url.is_empty()) {
        Some(url) => demo(&["--broker", broker, "--url", &url]),
        None => {
            let message = format!("MISSING BROKER: {broker} (set {variable}, or run `make test`)");
            assert!(std::env::var_os("CI").is_none(), "{message}");
            println!("{message}");
        }
    }
}

#[test]
fn h2_c1_the_demo_counts_exactly_right() {
    demo(&[]);
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_kafka() {
    demo_on("kafka", "SANDBAR_KAFKA");
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_nats() {
    demo_on("nats", "SANDBAR_NATS");
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_rabbitmq() {
    demo_on("rabbitmq", "SANDBAR_RABBITMQ");
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_sqs() {
    demo_on("sqs", "SANDBAR_ELASTICMQ");
}
