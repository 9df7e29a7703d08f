//! Log lines that are too long, no text, or not there.

use super::{first_attempt, strict};
use crate::support::{Bench, call, run};

#[tokio::test]
async fn s1_logs_a_line_without_end() {
    let error = first_attempt("logs-a-line-without-end").await;
    assert_eq!(error, "output: passed far more to the host than it may (limits.output-bytes)");
}

#[tokio::test]
async fn s1_logs_outside() {
    let error = first_attempt("logs-outside").await;
    assert_eq!(error, "trap: string pointer/length out of bounds of memory");
}

#[tokio::test]
async fn s1_logs_no_text() {
    let error = first_attempt("logs-no-text").await;
    assert_eq!(error, "trap: invalid utf-8 sequence of 1 bytes from index 0");
}

#[tokio::test]
async fn s1_logs_at_no_level() {
    let error = first_attempt("logs-at-no-level").await;
    assert_eq!(error, "trap: unexpected discriminant: 99");
}

#[tokio::test]
async fn s1_logs_a_long_line() {
    let bench = Bench::new();
    let plugin = bench.load_with("logs-a-long-line", strict).await;
    assert_eq!(run(&plugin, call("")).await.unwrap().outputs, []);
    let lengths: Vec<_> = bench.log.lines().iter().map(String::len).collect();
    assert_eq!(lengths, ["logs-a-long-line Info : ".len() + (16 << 10) * r"\u{0}".len()]);
}

#[tokio::test]
async fn s1_logs_escapes() {
    let bench = Bench::new();
    let plugin = bench.load_with("logs-escapes", strict).await;
    assert_eq!(run(&plugin, call("")).await.unwrap().outputs, []);
    assert_eq!(
        bench.log.lines(),
        ["logs-escapes Info a\nb\\u{0}: x\\u{1b}[2J\\r\n2026 INFO other: all is w"]
    );
}
