//! What stands in the attribute's parentheses.

use std::collections::HashSet;

use proc_macro2::Span;
use syn::{
    Expr, Ident, LitStr, Path, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    token::Paren,
};

use crate::value::{self, Check};

const KEYS: [&str; 19] = [
    "topics",
    "publishes",
    "connection",
    "ordering",
    "delivery",
    "concurrency",
    "max_in_flight",
    "start",
    "retry",
    "dead_letter",
    "dedup",
    "breaker",
    "init",
    "batch",
    "config_schema",
    "name",
    "version",
    "description",
    "crate",
];

const RETRY: &[(&str, Check)] = &[
    ("max_attempts", value::count),
    ("initial_delay", value::duration),
    ("max_delay", value::duration),
    ("multiplier", value::at_least_one),
    ("jitter", value::fraction),
    ("max_age", value::duration),
    ("through", |v| value::one_of(v, &["memory", "topics"])),
];

// not `connection` and `max_redrives`: where data leaves to, and what ends a loop, is for
// the operator alone to say
const DEAD_LETTER: &[(&str, Check)] = &[
    ("topic", value::text),
    ("dialect", |v| value::one_of(v, &["none", "spring", "connect", "streams"])),
    ("on_exhausted", |v| value::one_of(v, &["dead-letter", "halt", "drop"])),
    ("on_dead_letter", |v| value::one_of(v, &["continue", "halt-key"])),
];

const DEDUP: &[(&str, Check)] = &[("window", value::duration)];

const BREAKER: &[(&str, Check)] =
    &[("failures", value::count), ("pause", value::duration), ("max_pause", value::duration)];

/// The attribute's arguments, checked.
#[derive(Default)]
pub struct Args {
    pub topics: Vec<LitStr>,
    pub publishes: Vec<LitStr>,
    pub connection: Option<String>,
    /// Settings by their names in `NAME.toml`, in the order given.
    pub options: Vec<(String, String)>,
    pub init: Option<Path>,
    pub batch: bool,
    pub config_schema: Option<LitStr>,
    pub name: Option<Expr>,
    pub version: Option<Expr>,
    pub description: Option<Expr>,
    pub krate: Option<Path>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut args = Self::default();
        each(input, "", |key, input| args.set(key, input))?;
        if args.topics.is_empty() {
            return Err(syn::Error::new(
                Span::call_site(),
                "`topics` is missing: say what the handler subscribes to, \
                 `#[sandbar::handler(topics = [\"orders\"])]`",
            ));
        }
        Ok(args)
    }
}

impl Args {
    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        let name = key.unraw().to_string();
        match name.as_str() {
            "topics" => self.topics = assigned(key, input, value::topics)?,
            "publishes" => self.publishes = assigned(key, input, value::topics)?,
            "connection" => self.connection = Some(assigned(key, input, value::text)?),
            "ordering" => {
                self.option(key, input, |v| value::one_of(v, &["key", "partition", "none"]))?
            }
            "delivery" => {
                self.option(key, input, |v| value::one_of(v, &["at-least-once", "exactly-once"]))?
            }
            "start" => self.option(key, input, |v| value::one_of(v, &["earliest", "latest"]))?,
            "concurrency" | "max_in_flight" => self.option(key, input, value::count)?,
            "retry" => self.group(key, input, RETRY)?,
            "dead_letter" => self.group(key, input, DEAD_LETTER)?,
            "dedup" => self.group(key, input, DEDUP)?,
            "breaker" => self.group(key, input, BREAKER)?,
            "init" => self.init = Some(assigned(key, input, |i| i.parse())?),
            "batch" => self.batch = true,
            "config_schema" => self.config_schema = Some(assigned(key, input, |i| i.parse())?),
            "name" => self.name = Some(assigned(key, input, value::text_or_const)?),
            "version" => self.version = Some(assigned(key, input, value::text_or_const)?),
            "description" => self.description = Some(assigned(key, input, value::text_or_const)?),
            "crate" => self.krate = Some(assigned(key, input, Path::parse_mod_style)?),
            _ => return Err(unknown(key, &KEYS)),
        }
        Ok(())
    }

    fn option(&mut self, key: &Ident, input: ParseStream<'_>, check: Check) -> syn::Result<()> {
        let value = assigned(key, input, check)?;
        self.options.push((setting(key), value));
        Ok(())
    }

    fn group(
        &mut self,
        group: &Ident,
        input: ParseStream<'_>,
        known: &[(&str, Check)],
    ) -> syn::Result<()> {
        if !input.peek(Paren) {
            let (first, _) = known[0];
            let message =
                format!("`{group}` takes a list in parentheses: `{group}({first} = ...)`");
            return Err(syn::Error::new(group.span(), message));
        }
        let content;
        syn::parenthesized!(content in input);
        each(&content, &format!("{group}."), |key, input| {
            let Some((_, check)) = known.iter().find(|(name, _)| key == name) else {
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                return Err(unknown(key, &names));
            };
            let value = assigned(key, input, *check)?;
            self.options.push((format!("{}.{}", setting(group), setting(key)), value));
            Ok(())
        })
    }
}

/// Rust spells `max_in_flight` what the configuration spells `max-in-flight`.
fn setting(key: &Ident) -> String {
    key.to_string().replace('_', "-")
}

/// Reads `key...` separated by commas; `read` takes what follows the key.
fn each(
    input: ParseStream<'_>,
    prefix: &str,
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    let mut seen = HashSet::new();
    while !input.is_empty() {
        // `crate` is a keyword
        let key = input.call(Ident::parse_any)?;
        if !seen.insert(key.to_string()) {
            return Err(syn::Error::new(key.span(), format!("`{prefix}{key}` is given twice")));
        }
        read(&key, input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn assigned<T>(
    key: &Ident,
    input: ParseStream<'_>,
    read: impl FnOnce(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<T> {
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(key.span(), format!("`{key}` takes a value: `{key} = ...`")));
    }
    input.parse::<Token![=]>()?;
    read(input)
}

fn unknown(key: &Ident, known: &[&str]) -> syn::Error {
    let name = key.to_string();
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&name, k), k))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    let hint = nearest.map(|(_, k)| format!(", did you mean `{k}`?")).unwrap_or_default();
    let message = format!("unknown key `{name}`{hint} (known: {})", known.join(", "));
    syn::Error::new(key.span(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(attribute: &str) -> String {
        match syn::parse_str::<Args>(attribute) {
            Ok(_) => panic!("accepted: {attribute}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_are_named_as_in_the_configuration() {
        let args: Args = syn::parse_str(
            "topics = \"a\", ordering = \"partition\", concurrency = 4, max_in_flight = 10, \
             retry(max_attempts = 5, initial_delay = \"200ms\", multiplier = 2, jitter = 0.1), \
             dead_letter(topic = \"x.dlq\", on_exhausted = \"halt\"), delivery = \"exactly-once\", \
             dedup(window = \"1d\"), breaker(failures = 5, max_pause = \"1m\"), batch, \
             crate = my::sdk,",
        )
        .unwrap();
        let options: Vec<_> = args.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            options,
            [
                ("ordering", "partition"),
                ("concurrency", "4"),
                ("max-in-flight", "10"),
                ("retry.max-attempts", "5"),
                ("retry.initial-delay", "200ms"),
                ("retry.multiplier", "2"),
                ("retry.jitter", "0.1"),
                ("dead-letter.topic", "x.dlq"),
                ("dead-letter.on-exhausted", "halt"),
                ("delivery", "exactly-once"),
                ("dedup.window", "1d"),
                ("breaker.failures", "5"),
                ("breaker.max-pause", "1m"),
            ]
        );
        assert!(args.batch && args.krate.is_some());
        assert_eq!(args.topics[0].value(), "a");
    }

    #[test]
    fn an_unknown_key_is_told_the_nearest_and_all_known_ones() {
        let message = error("topcs = [\"a\"]");
        assert!(message.starts_with("unknown key `topcs`, did you mean `topics`?"), "{message}");
        for key in KEYS {
            assert!(message.contains(key), "{key} is not listed in {message}");
        }
        let message = error("topics = \"a\", retry(attempts = 3)");
        assert!(message.contains("known: max_attempts, initial_delay"), "{message}");
        assert!(!error("topics = \"a\", zzzzzzzz = 1").contains("did you mean"));
    }

    #[test]
    fn every_known_key_is_understood() {
        for key in KEYS {
            let message = error(key);
            assert!(!message.contains("unknown key"), "{message}");
        }
    }

    #[test]
    fn missing_doubled_and_malformed_arguments_say_what_to_write() {
        assert!(error("").contains("`topics` is missing"));
        assert!(error("topics = []").contains("at least one"));
        assert!(error("topics = [\"\"]").contains("empty"));
        assert_eq!(error("topics = \"a\", topics = \"b\""), "`topics` is given twice");
        assert_eq!(
            error("topics = \"a\", retry(jitter = 0.1, jitter = 0.2)"),
            "`retry.jitter` is given twice"
        );
        assert_eq!(error("topics"), "`topics` takes a value: `topics = ...`");
        assert_eq!(
            error("topics = \"a\", retry = 3"),
            "`retry` takes a list in parentheses: `retry(max_attempts = ...)`"
        );
        assert_eq!(
            error("topics = \"a\", ordering = \"keys\""),
            "\"keys\" is none of \"key\", \"partition\", \"none\""
        );
        assert!(error("topics = \"a\", version = 2").contains("must be a text, a constant"));
        assert!(error("topics = \"a\", name = \" \"").contains("must not be empty"));
        assert!(error("topics = \"a\", concurrency = 0").contains("at least 1"));
        assert!(error("topics = \"a\", retry(initial_delay = \"5 apples\")").contains("\"200ms\""));
        assert!(error("topics = \"a\", retry(jitter = 1.5)").contains("between 0 and 1"));
        assert!(error("topics = \"a\", retry(multiplier = 0.5)").contains("at least 1"));
    }
}
