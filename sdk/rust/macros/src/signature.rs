//! Which functions can be handlers.

use proc_macro2::Span;
use syn::{FnArg, GenericParam, ItemFn, ReturnType, Type, spanned::Spanned};

const SINGLE: &str = "a handler is `fn(Event)`, `fn(&Event)`, `fn(Json<T>)` or \
     `fn(&Event, Json<T>)`, and returns `Result<Vec<Outgoing>, Failure>`, \
     `Result<Outgoing, Failure>`, `Result<Option<Outgoing>, Failure>` or `Result<(), Failure>`";
const BATCH: &str = "a batch handler is `fn(Vec<Event>) -> Vec<Result<Vec<Outgoing>, Failure>>` \
     with one outcome per event, in the same order";

/// The function's types, for errors that point at them.
pub struct Signature {
    pub arguments: Vec<Type>,
    pub output: Span,
}

/// Checks what can be told from the tokens; types are left to the compiler.
pub fn check(function: &ItemFn, batch: bool) -> syn::Result<Signature> {
    let rule = if batch { BATCH } else { SINGLE };
    let fail = |span: Span, what: &str| Err(syn::Error::new(span, format!("{what}: {rule}")));
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return fail(token.span(), "a handler cannot be async; the host can suspend any call");
    }
    if let Some(abi) = &signature.abi {
        return fail(abi.span(), "a handler has Rust's own calling convention");
    }
    let type_parameter =
        signature.generics.params.iter().find(|p| !matches!(p, GenericParam::Lifetime(_)));
    if let Some(parameter) = type_parameter {
        return fail(parameter.span(), "a handler cannot be generic over types");
    }
    let mut arguments = Vec::new();
    for argument in &signature.inputs {
        match argument {
            FnArg::Receiver(this) => return fail(this.span(), "a handler is no method"),
            FnArg::Typed(argument) => arguments.push((*argument.ty).clone()),
        }
    }
    if arguments.is_empty() {
        return fail(signature.ident.span(), "a handler takes the event");
    }
    if batch && arguments.len() > 1 {
        return fail(arguments[1].span(), "a batch handler takes the events alone");
    }
    let output = match &signature.output {
        ReturnType::Default if batch => {
            return fail(signature.ident.span(), "a batch handler returns outcomes");
        }
        ReturnType::Default => signature.ident.span(),
        ReturnType::Type(_, output) => output.span(),
    };
    Ok(Signature { arguments, output })
}

/// Whether the type is written `Event` or `some::path::Event`: it can be moved into
/// the handler without a copy.
pub fn is_event(argument: &Type) -> bool {
    let Type::Path(path) = argument else { return false };
    path.path.segments.last().is_some_and(|s| s.ident == "Event" && s.arguments.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(function: &str, batch: bool) -> String {
        let function = syn::parse_str(function).unwrap();
        match check(&function, batch) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wrong_signature_is_told_which_ones_work() {
        for (function, what) in [
            ("async fn h(e: Event) {}", "cannot be async"),
            ("extern \"C\" fn h(e: Event) {}", "calling convention"),
            ("fn h<T>(e: Json<T>) {}", "generic over types"),
            ("fn h(&self, e: Event) {}", "no method"),
            ("fn h() {}", "takes the event"),
        ] {
            let message = error(function, false);
            assert!(message.contains(what) && message.contains(SINGLE), "{function}: {message}");
        }
        for (function, what) in [
            ("fn h(e: Vec<Event>)", "returns outcomes"),
            ("fn h(e: Vec<Event>, x: u8) -> Vec<Outcome>", "events alone"),
        ] {
            let message = error(&format!("{function} {{}}"), true);
            assert!(message.contains(what) && message.contains(BATCH), "{function}: {message}");
        }
    }

    #[test]
    fn lifetimes_are_fine_and_events_are_known_by_their_last_name() {
        let function =
            syn::parse_str("fn h<'a>(e: &'a Event, b: Json<Body<'a>>) -> Outcome {}").unwrap();
        let arguments = check(&function, false).unwrap().arguments;
        assert_eq!(arguments.len(), 2);
        assert!(!is_event(&arguments[0]) && !is_event(&arguments[1]));
        assert!(is_event(&syn::parse_str("sandbar::Event").unwrap()));
        assert!(!is_event(&syn::parse_str("Event<u8>").unwrap()));
    }
}
