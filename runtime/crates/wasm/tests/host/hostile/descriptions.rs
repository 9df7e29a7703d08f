//! Descriptions that are too much, or cannot be true.

use super::loading;

#[tokio::test]
async fn s1_describes_itself_at_length() {
    let error = loading("describes-itself-at-length").await;
    assert_eq!(
        error,
        "describe failed (output): passed far more to the host than it may (limits.output-bytes); it must return constants, no capability is there while it runs"
    );
}

#[tokio::test]
async fn s1_describes_itself_with_a_bomb() {
    let error = loading("describes-itself-with-a-bomb").await;
    assert_eq!(
        error,
        "describe failed (memory): asked for 67174400 bytes of memory, more than 67108864 (limits.memory); it must return constants, no capability is there while it runs"
    );
}

#[tokio::test]
async fn s1_describes_too_many_topics() {
    let error = loading("describes-too-many-topics").await;
    assert_eq!(error, "describe returned a bad subscriptions: 10000 entries, more than 256");
}

#[tokio::test]
async fn s1_describes_itself_in_no_text() {
    let error = loading("describes-itself-in-no-text").await;
    assert_eq!(
        error,
        "describe failed (trap): invalid utf-8 sequence of 1 bytes from index 0; it must return constants, no capability is there while it runs"
    );
}

#[tokio::test]
async fn s1_describes_itself_with_escapes() {
    let error = loading("describes-itself-with-escapes").await;
    assert_eq!(error, "describe returned a bad name: '\\u{1b}' has no place in \"1\\u{1b}[2J\"");
}

#[tokio::test]
async fn s1_describes_itself_outside() {
    let error = loading("describes-itself-outside").await;
    assert_eq!(
        error,
        "describe failed (trap): pointer out of bounds of memory; it must return constants, no capability is there while it runs"
    );
}

#[tokio::test]
async fn s1_describes_a_huge_schema() {
    let error = loading("describes-a-huge-schema").await;
    assert_eq!(
        error,
        "describe returned a bad config-schema: it is no JSON: recursion limit exceeded at line 1 column 128"
    );
}
