//! `make demo` counts for itself: here it only has to end well.

use std::process::Command;

#[test]
fn h2_c1_the_demo_counts_exactly_right() {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbar-demo")).output().unwrap();
    let (said, complained) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(said) + String::from_utf8_lossy(complained);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}
