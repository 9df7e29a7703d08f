use sandbar_core::{Event, Header};

use super::*;

fn letter(key: &str, payload: &str) -> Letter {
    let header = |name: &str, value: &str| Header::new(name, value.to_owned());
    let headers = [
        header("source", "till"),
        header("__dlq.errors.topic", "orders"),
        header("__dlq.errors.partition", "2"),
        header("__dlq.errors.offset", "17"),
        header("__dlq.errors.group", "sandbar.charge"),
        header("__dlq.errors.message", "card declined"),
        header("sandbar-dlq-plugin", "charge"),
        header("sandbar-dlq-plugin-version", "1.2.0"),
        header("sandbar-dlq-error-class", "handler"),
        header("sandbar-dlq-error-code", "declined"),
        header("sandbar-dlq-attempts", "5"),
        header("sandbar-dlq-redrives", "1"),
    ];
    let event = Event {
        topic: "charge.dlq".into(),
        partition: 0,
        position: 3,
        key: Some(key.to_owned().into()),
        payload: Some(payload.to_owned().into()),
        headers: headers.into(),
        timestamp_ms: 1_000_000,
        attributes: [].into(),
    };
    Letter::read(event).expect("a dead letter")
}

fn holds(expression: &str) -> Result<bool, String> {
    let letter = letter(
        "k1",
        r#"{"amount": 120, "price": 1.5, "items": [{"id": 7}], "who": {"name": "ü"}}"#,
    );
    Expression::new(expression).expect("valid").holds(&letter, 1_090_500)
}

#[test]
fn d4_an_expression_sees_all_of_a_letter() {
    for expression in [
        "plugin == 'charge' && version == '1.2.0' && class == 'handler' && code == 'declined'",
        "message.contains('declined') && message.matches('^card .*d$')",
        "topic == 'orders' && partition == 2 && offset == 17",
        "attempts >= 5 && redrives == 1 && key == 'k1'",
        "age_seconds == 90",
        "headers['source'] == 'till' && !('other' in headers)",
        "payload.amount > 100 && payload.price < 2.0 && payload.amount > 1.5",
        "payload.items.exists(item, item.id == 7) && size(payload.items) == 1",
        "payload.who.name == 'ü' && has(payload.who) && !has(payload.whom)",
        "code in ['declined', 'stolen']",
        "(attempts > 9 ? 'many' : 'few') == 'few'",
    ] {
        assert_eq!(holds(expression), Ok(true), "{expression}");
    }
    assert_eq!(holds("payload.amount > 120"), Ok(false));
}

#[test]
fn d4_a_payload_that_is_no_json_is_text() {
    let letter = letter("k", "plain");
    let holds = |text: &str| Expression::new(text).expect("valid").holds(&letter, 0);
    assert_eq!(holds("payload == 'plain'"), Ok(true));
    assert!(holds("payload.amount > 1").is_err());
}

#[test]
fn d4_an_expression_that_does_not_apply_says_why() {
    assert!(holds("payload.sum > 1").unwrap_err().contains("sum"));
    assert!(holds("headers['x'] == 'y'").unwrap_err().contains('x'));
    assert!(holds("payload.who > 1").is_err());
    assert_eq!(holds("payload.amount").unwrap_err(), "it gives int, neither true nor false");
}

#[test]
fn d4_a_bad_expression_is_refused_with_its_place() {
    let error = |text: &str| Expression::new(text).unwrap_err();
    insta::assert_snapshot!(error("code == 'x' &&"), @r"
    line 1, column 15: mismatched input end
      code == 'x' &&
                    ^
    ");
    insta::assert_snapshot!(error("code == 'x' && plugn == 'y'"), @r"
    line 1, column 16: there is no `plugn`; did you mean `plugin`?
      code == 'x' && plugn == 'y'
                     ^
    ");
    insta::assert_snapshot!(error("code.startWith('x')"), @r"
    line 1, column 15: there is no function `startWith`; did you mean `startsWith`?
      code.startWith('x')
                    ^
    ");
    insta::assert_snapshot!(error("payload.items.exists(i, i.id == j)"), @r"
    line 1, column 33: there is no `j`; known here: `age_seconds`, `attempts`, `class`, `code`, `headers`, `key`, `message`, `offset`, `partition`, `payload`, `plugin`, `redrives`, `topic`, `version`
      payload.items.exists(i, i.id == j)
                                      ^
    ");
    assert!(error("Letter{code: 'x'}").contains("no message type"));
    assert!(error("code == 'x' &&\n  plugn == 'y'").starts_with("line 2, column 3: "));
    assert!(error("optional.of(code)").contains("optional"));
    assert!(Expression::new("").is_err());
}

#[test]
fn d4_no_expression_overflows_the_stack() {
    let nested = |open: &str, close: &str| {
        let times = MAX_LENGTH / (open.len() + close.len()) - 1;
        format!("{}1{}", open.repeat(times), close.repeat(times))
    };
    for expression in [
        nested("(", ")"),
        nested("[", "]"),
        nested("{1:", "}"),
        nested("size(", ")"),
        format!("{}true", "!".repeat(MAX_LENGTH - 4)),
        format!("{}1", "-".repeat(MAX_LENGTH - 1)),
        format!("1{}", "+1".repeat(MAX_LENGTH / 2 - 1)),
        format!("code{}", "[0]".repeat(MAX_LENGTH / 3 - 2)),
        format!("code{}", ".a".repeat(MAX_LENGTH / 2 - 2)),
        format!("true{}", "?true:true".repeat(MAX_LENGTH / 10 - 1)),
        format!("true{}", "&&true".repeat(MAX_LENGTH / 6 - 1)),
        "x".repeat(MAX_LENGTH + 1),
    ] {
        // refused or evaluated, but never the end of the process
        if let Ok(expression) = Expression::new(&expression) {
            let _ = expression.holds(&letter("k", "{}"), 0);
        }
    }
    assert!(Expression::new(&"(".repeat(8)).is_err());
    let fair = format!("{}true{}", "(code != '' && ".repeat(8), ")".repeat(8));
    assert!(Expression::new(&fair).is_ok(), "what people write is not too deep");
}
