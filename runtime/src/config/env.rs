//! `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in string values.
//!
//! Works on parsed values, never on the file's text: what a variable holds can
//! not add keys or tables. `$${` is a literal `${`.

/// Looks up a variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The variables of this process; one that is no UTF-8 counts as unset.
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Why a value could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// What the mistake is about, as it stands in the file (`${VAR`).
    pub part: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The value with its variables put in, `None` where it has none.
///
/// # Errors
/// Where a variable is unset, or a reference is not well formed.
pub fn interpolate(value: &str, lookup: &Lookup<'_>) -> Result<Option<String>, Incomplete> {
    if !value.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(Incomplete {
                part: rest[at..].to_owned(),
                message: "a `${` has no closing `}`".to_owned(),
                help: "write `${NAME}`, or `$${` for the text itself".to_owned(),
            });
        };
        out.push_str(&resolve(&rest[at + 2..at + end], lookup)?);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn resolve(reference: &str, lookup: &Lookup<'_>) -> Result<String, Incomplete> {
    let (name, default, message) = match reference.split_once(':') {
        Some((name, rest)) if rest.starts_with('-') => (name, Some(&rest[1..]), None),
        Some((name, rest)) if rest.starts_with('?') => (name, None, Some(&rest[1..])),
        _ => (reference, None, None),
    };
    let part = format!("${{{reference}}}");
    let first = name.chars().next();
    let legal = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Err(Incomplete {
            message: format!("`{part}` is no reference to a variable"),
            help: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
            part,
        });
    }
    // as in a shell: with a default or a message, an empty variable counts as unset
    let optional = default.is_some() || message.is_some();
    match (lookup(name).filter(|value| !optional || !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Incomplete {
            message: match message.filter(|m| !m.is_empty()) {
                Some(message) => format!("variable {name} is not set: {message}"),
                None => format!("variable {name} is not set"),
            },
            help: format!("set {name}, or give a default: `${{{name}:-default}}`"),
            part,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${A}\"\n[admin]".into()),
            _ => None,
        }
    }

    fn value(text: &str) -> Result<String, String> {
        interpolate(text, &env).map(|v| v.unwrap_or_else(|| text.into())).map_err(|e| e.message)
    }

    #[test]
    fn variables_defaults_and_messages_are_put_in() {
        assert_eq!(value("plain $A {A}"), Ok("plain $A {A}".into()));
        assert_eq!(value("x${A}y${A}"), Ok("x1y1".into()));
        assert_eq!(value("${B:-}|${B:-d:e}|${EMPTY:-d}|${EMPTY}"), Ok("|d:e|d|".into()));
        assert_eq!(value("$${A}${A}"), Ok("${A}1".into()));
        assert_eq!(value("${A:?needed}"), Ok("1".into()));
    }

    #[test]
    fn what_a_variable_holds_is_not_read_again() {
        assert_eq!(value("${TRICKY}"), Ok("${A}\"\n[admin]".into()));
    }

    #[test]
    fn an_unset_variable_is_an_error_that_names_it() {
        assert_eq!(value("${B}"), Err("variable B is not set".into()));
        assert_eq!(value("${B:?ask ops}"), Err("variable B is not set: ask ops".into()));
        assert_eq!(value("${EMPTY:?ask}"), Err("variable EMPTY is not set: ask".into()));
        assert_eq!(value("${B"), Err("a `${` has no closing `}`".into()));
        assert_eq!(value("${1B}"), Err("`${1B}` is no reference to a variable".into()));
        assert_eq!(value("${}"), Err("`${}` is no reference to a variable".into()));
    }
}
