//! Values of the attribute's arguments. Each check returns the text that goes into
//! `describe`, so that a mistake is found by the compiler and not at load.

use syn::{
    Expr, ExprLit, Lit, LitFloat, LitInt, LitStr, Token, bracketed, parse::ParseStream,
    punctuated::Punctuated, spanned::Spanned, token::Bracket,
};

/// Reads one value and returns it as the configuration spells it.
pub type Check = fn(ParseStream<'_>) -> syn::Result<String>;

/// A text that is not empty.
pub fn text(input: ParseStream<'_>) -> syn::Result<String> {
    let literal: LitStr = input.parse()?;
    not_empty(&literal)?;
    Ok(literal.value())
}

/// A text that is not empty, or a constant that holds one.
pub fn text_or_const(input: ParseStream<'_>) -> syn::Result<Expr> {
    let value: Expr = input.parse()?;
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => not_empty(literal)?,
        Expr::Path(_) | Expr::Macro(_) | Expr::If(_) => {}
        other => {
            let message = "must be a text, a constant, or a macro such as `env!`";
            return Err(syn::Error::new(other.span(), message));
        }
    }
    Ok(value)
}

/// One topic or a list of them.
pub fn topics(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    let topics = if input.peek(Bracket) {
        let content;
        let bracket = bracketed!(content in input);
        let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
        if list.is_empty() {
            return Err(syn::Error::new(bracket.span.join(), "name at least one topic"));
        }
        list.into_iter().collect()
    } else {
        vec![input.parse()?]
    };
    topics.iter().try_for_each(not_empty)?;
    Ok(topics)
}

fn not_empty(literal: &LitStr) -> syn::Result<()> {
    if literal.value().trim().is_empty() {
        return Err(syn::Error::new(literal.span(), "must not be empty"));
    }
    Ok(())
}

/// One of a few words.
pub fn one_of(input: ParseStream<'_>, words: &[&str]) -> syn::Result<String> {
    let literal: LitStr = input.parse()?;
    let value = literal.value();
    if words.contains(&value.as_str()) {
        return Ok(value);
    }
    let list: Vec<_> = words.iter().map(|w| format!("{w:?}")).collect();
    Err(syn::Error::new(literal.span(), format!("{value:?} is none of {}", list.join(", "))))
}

/// A whole number from 1 on.
pub fn count(input: ParseStream<'_>) -> syn::Result<String> {
    let literal: LitInt = input.parse()?;
    match literal.base10_parse::<u32>()? {
        0 => Err(syn::Error::new(literal.span(), "must be at least 1")),
        n => Ok(n.to_string()),
    }
}

/// A duration such as `"200ms"`.
pub fn duration(input: ParseStream<'_>) -> syn::Result<String> {
    let literal: LitStr = input.parse()?;
    let value = literal.value();
    match humantime::parse_duration(&value) {
        Ok(_) => Ok(value),
        Err(error) => {
            let message = format!("{value:?} is no duration like \"200ms\" or \"1m 30s\": {error}");
            Err(syn::Error::new(literal.span(), message))
        }
    }
}

/// A number from 1 on.
pub fn at_least_one(input: ParseStream<'_>) -> syn::Result<String> {
    number(input, "must be at least 1", |n| n >= 1.0)
}

/// A number from 0 to 1.
pub fn fraction(input: ParseStream<'_>) -> syn::Result<String> {
    number(input, "must be between 0 and 1", |n| (0.0..=1.0).contains(&n))
}

fn number(
    input: ParseStream<'_>,
    rule: &str,
    holds: impl FnOnce(f64) -> bool,
) -> syn::Result<String> {
    let literal: Lit = input.parse()?;
    let n = match &literal {
        Lit::Int(n) => LitInt::base10_parse::<f64>(n)?,
        Lit::Float(n) => LitFloat::base10_parse::<f64>(n)?,
        other => return Err(syn::Error::new(other.span(), "must be a number")),
    };
    if holds(n) { Ok(n.to_string()) } else { Err(syn::Error::new(literal.span(), rule)) }
}
