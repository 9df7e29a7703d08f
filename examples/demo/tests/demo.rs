//! `make demo` counts for itself: here it only has to end well, on each broker there is.

use std::process::Command;

use sandbar_testkit::server::{ELASTICMQ, KAFKA, Kind, NATS, RABBITMQ};

fn demo(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbar-demo")).args(arguments).output().unwrap();
    let (said, complained) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(said) + String::from_utf8_lossy(complained);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}

/// On a server, where there is one.
fn demo_on(broker: &str, server: Kind) {
    if let Some(url) = server.address() {
        demo(&["--broker", broker, "--url", &url]);
    }
}

#[test]
fn h2_c1_the_demo_counts_exactly_right() {
    demo(&[]);
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_kafka() {
    demo_on("kafka", KAFKA);
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_nats() {
    demo_on("nats", NATS);
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_rabbitmq() {
    demo_on("rabbitmq", RABBITMQ);
}

#[test]
fn h2_c1_the_demo_counts_exactly_right_on_sqs() {
    demo_on("sqs", ELASTICMQ);
}
