//! Where two JSON values differ, by path.

use serde_json::Value;

/// Differences shown of one payload; there are as many more as there are.
const MOST: usize = 20;

/// Puts every difference as `(path, expected, found)` into `into`; what is not there is `None`.
/// `root` is how the whole value is called.
pub(super) fn differences(
    root: &str,
    expected: &Value,
    found: &Value,
    into: &mut Vec<(String, Option<String>, Option<String>)>,
) {
    if expected == found || into.len() >= MOST {
        return;
    }
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let path = format!("{root}{}", member(key));
                match found.get(key) {
                    Some(other) => differences(&path, value, other, into),
                    None => into.push((path, Some(value.to_string()), None)),
                }
            }
            for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                into.push((format!("{root}{}", member(key)), None, Some(value.to_string())));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            for at in 0..expected.len().max(found.len()) {
                let path = format!("{root}[{at}]");
                match (expected.get(at), found.get(at)) {
                    (Some(value), Some(other)) => differences(&path, value, other, into),
                    (value, other) => {
                        let text = |value: Option<&Value>| value.map(Value::to_string);
                        into.push((path, text(value), text(other)));
                    }
                }
            }
        }
        // 1 and 1.0 say the same
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() && !both_whole(a, b) => {}
        _ => into.push((root.to_owned(), Some(expected.to_string()), Some(found.to_string()))),
    }
}

/// Whole numbers are compared exactly: as floating point large ones would be rounded.
fn both_whole(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    !a.is_f64() && !b.is_f64()
}

/// `.name`, or `["odd name"]`.
pub(super) fn member(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(plain) {
        true => format!(".{key}"),
        false => format!("[{}]", Value::from(key)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(expected: Value, found: Value) -> Vec<String> {
        let mut all = Vec::new();
        differences("payload", &expected, &found, &mut all);
        let text = |side: Option<String>| side.unwrap_or_else(|| "nothing".into());
        all.into_iter().map(|(path, e, f)| format!("{path}: {} -> {}", text(e), text(f))).collect()
    }

    #[test]
    fn each_difference_is_named_by_its_path() {
        let expected = json!({"a": {"b": [1, 2]}, "gone": null, "same": {"x": 1}});
        let found = json!({"a": {"b": [1, 3, 4]}, "same": {"x": 1}, "new key": "n"});
        assert_eq!(
            told(expected, found),
            [
                "payload.a.b[1]: 2 -> 3",
                "payload.a.b[2]: nothing -> 4",
                "payload.gone: null -> nothing",
                "payload[\"new key\"]: nothing -> \"n\"",
            ]
        );
        assert_eq!(told(json!("1"), json!(1)), ["payload: \"1\" -> 1"]);
    }

    #[test]
    fn numbers_are_compared_by_what_they_say() {
        assert!(told(json!({"a": 1}), json!({"a": 1.0})).is_empty());
        let (a, b) = (9_007_199_254_740_993_u64, 9_007_199_254_740_992_u64);
        assert_eq!(told(json!(a), json!(b)).len(), 1, "no rounding");
    }

    #[test]
    fn a_payload_that_is_all_different_does_not_flood() {
        let many = |n: u64| Value::from((0..1000).map(|i| i + n).collect::<Vec<_>>());
        assert_eq!(told(many(0), many(1)).len(), MOST);
    }
}
