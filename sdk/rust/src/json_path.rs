//! Where in a JSON text an error is, as a path.
//!
//! Decoding again with a deserializer that tracks its path would say the same, at the
//! price of each payload type's code twice in the plugin (40 KB for a small one).

use std::fmt::Write;

/// A container that is open at the place.
enum Step<'a> {
    /// An object, with the field in work.
    Field(Option<&'a [u8]>),
    /// An array, with the index in work.
    Index(usize),
}

/// The path of the value that is being read at `line` and `column` as `serde_json`
/// counts them (from 1, in bytes): `lines[0].amount`. Empty for the whole text.
pub(crate) fn path_at(json: &[u8], line: usize, column: usize) -> String {
    let mut lines = json.split_inclusive(|b| *b == b'\n');
    let before: usize = lines.by_ref().take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let read = &json[..(before + column).min(json.len())];

    let mut open: Vec<Step<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = read.get(at) {
        at += 1;
        match byte {
            b'{' => open.push(Step::Field(None)),
            b'[' => open.push(Step::Index(0)),
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(Step::Field(name)) => *name = None,
                Some(Step::Index(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let text = string(&read[at..]);
                at += text.len() + 1;
                // a field's name comes first, then its value
                if let Some(Step::Field(name @ None)) = open.last_mut() {
                    *name = Some(text);
                }
            }
            _ => {}
        }
    }

    let mut path = String::new();
    for step in open {
        match step {
            Step::Field(Some(name)) => {
                let dot = if path.is_empty() { "" } else { "." };
                let _ = write!(path, "{dot}{}", String::from_utf8_lossy(name));
            }
            Step::Field(None) => {}
            Step::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}

/// The inside of a string that begins here, as written.
fn string(rest: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'"' => return &rest[..at],
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_value_in_work() {
        // `^` marks the place
        for (marked, path) in [
            (r#"^"#, ""),
            (r#"{"a": 1^}"#, "a"),
            (r#"{"a": {"b": [10, {"c": tr^ue}]}}"#, "a.b[1].c"),
            (r#"{"a": {"b": [10, {"c": true}]^}}"#, "a.b"),
            (r#"{"a": [{}^]}"#, "a[0]"),
            (r#"{"a": 1, ^"b": 2}"#, ""),
            (r#"{"a": 1, "b": {^}}"#, "b"),
            (r#"{"x\"y,}": "{[,\\"^}"#, r#"x\"y,}"#),
            (r#"[1, 2, ^3]"#, "[2]"),
            ("{\n\"a\":\n[1,\n2^]}", "a[1]"),
            (r#"]}],"#, ""),
            (r#"{"unterminated \^"#, r"unterminated \"),
        ] {
            let at = marked.find('^').unwrap_or(marked.len());
            let before = &marked[..at];
            let line = before.matches('\n').count() + 1;
            let column = at - before.rfind('\n').map_or(0, |n| n + 1);
            let json = marked.replacen('^', "", 1);
            assert_eq!(path_at(json.as_bytes(), line, column), path, "{marked}");
        }
    }

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        assert_eq!(path_at(b"{\"a\":[1", 9, 9), "a[0]");
        assert_eq!(path_at(b"", 0, 5), "");
    }
}
