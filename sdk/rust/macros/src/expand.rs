//! From attribute and function to a plugin.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Expr, Ident, ItemFn, Path, parse_quote, spanned::Spanned};

use crate::{
    args::Args,
    signature::{self, Signature},
};

/// The function as it was, and beside it what makes it a plugin or the errors.
pub fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let plugin = plugin(attribute, item.clone()).unwrap_or_else(|error| error.into_compile_error());
    // the function stays even then, or each of its uses would be one more error
    quote! { #item #plugin }
}

fn plugin(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attribute)?;
    let span = item.span();
    let function: ItemFn = syn::parse2(item).map_err(|_| {
        syn::Error::new(span, "`#[sandbar::handler]` stands on a function with a body")
    })?;
    let signature = signature::check(&function, args.batch)?;

    let krate = args.krate.clone().unwrap_or_else(|| parse_quote!(::sandbar));
    let description = description(&args, &krate);
    let init = init(&args, &krate);
    let name = &function.sig.ident;
    let (call, world, export, packed) = if args.batch {
        let call = batch_call(name, &signature, &krate);
        (call, quote!(batch), quote!(export_batch), quote!(PackedWhole))
    } else {
        let call = single_call(name, &signature, &krate);
        (call, quote!(single), quote!(export_single), quote!(PackedEach))
    };
    Ok(quote! {
        // a handler may return nothing, which is turned into no outputs like all else
        #[allow(clippy::unit_arg)]
        const _: () = {
            enum __Plugin {}

            impl #krate::__private::Plugin for __Plugin {
                #description
                #init
            }

            #call

            #krate::__private::check::<__Plugin>();

            #[cfg(target_arch = "wasm32")]
            type __Export = #krate::__private::Export<__Plugin>;
            #[cfg(target_arch = "wasm32")]
            #krate::__private::base::export_base!(
                __Export with_types_in #krate::__private::base
            );
            #[cfg(target_arch = "wasm32")]
            #krate::__private::#world::#export!(
                __Export with_types_in #krate::__private::#world
            );
            #[cfg(target_arch = "wasm32")]
            type __Packed = #krate::__private::#packed<__Plugin>;
            #[cfg(target_arch = "wasm32")]
            #krate::__private::packed::export_packed!(
                __Packed with_types_in #krate::__private::packed
            );
        };
    })
}

fn description(args: &Args, krate: &Path) -> TokenStream {
    let or_env = |given: &Option<Expr>, variable: &str| match given {
        Some(value) => value.to_token_stream(),
        None => quote!(env!(#variable)),
    };
    let name = or_env(&args.name, "CARGO_PKG_NAME");
    let version = or_env(&args.version, "CARGO_PKG_VERSION");
    let text = or_env(&args.description, "CARGO_PKG_DESCRIPTION");
    let connection = option(args.connection.as_ref());
    let schema = option(
        args.config_schema
            .as_ref()
            .map(|path| quote!(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", #path)))),
    );
    let (topics, publishes) = (&args.topics, &args.publishes);
    let options = args.options.iter().map(|(key, value)| quote!((#key, #value)));
    quote! {
        const DESCRIPTION: #krate::__private::Description = #krate::__private::Description {
            name: #name,
            version: #version,
            description: #text,
            connection: #connection,
            topics: &[#(#topics),*],
            options: &[#(#options),*],
            publishes: &[#(#publishes),*],
            config_schema: #schema,
            annotations: &[
                ("authors", env!("CARGO_PKG_AUTHORS")),
                ("homepage", env!("CARGO_PKG_HOMEPAGE")),
                ("license", env!("CARGO_PKG_LICENSE")),
                ("repository", env!("CARGO_PKG_REPOSITORY")),
            ],
        };
    }
}

fn option(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

fn init(args: &Args, krate: &Path) -> TokenStream {
    let result = quote!(::core::result::Result<(), ::std::string::String>);
    let body = match &args.init {
        Some(init) => quote_spanned!(init.span()=> #krate::__private::IntoInit::into_init(#init())),
        None => quote!(::core::result::Result::Ok(())),
    };
    quote!(fn init() -> #result { #body })
}

fn single_call(name: &Ident, signature: &Signature, krate: &Path) -> TokenStream {
    let arguments = &signature.arguments;
    let (extract, values) = if let [only] = arguments.as_slice()
        && signature::is_event(only)
    {
        (TokenStream::new(), vec![quote!(event)])
    } else {
        let names: Vec<_> = (0..arguments.len()).map(|i| format_ident!("argument_{i}")).collect();
        let extract = names.iter().zip(arguments).map(|(name, ty)| {
            let krate = respan(krate, ty.span());
            quote_spanned!(ty.span()=> let #name = #krate::FromEvent::from_event(&event)?;)
        });
        (quote!(#(#extract)*), names.iter().map(ToTokens::to_token_stream).collect())
    };
    let outcome = quote_spanned! {signature.output=>
        #krate::IntoOutcome::into_outcome(#name(#(#values),*))
    };
    quote! {
        impl #krate::__private::Single for __Plugin {
            fn handle(event: #krate::Event) -> #krate::Outcome {
                #extract
                #outcome
            }
        }
    }
}

/// The path with another place in the source, so that the compiler points at the type
/// that does not fit and not at the attribute.
fn respan(path: &Path, span: Span) -> TokenStream {
    let with_span = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    path.to_token_stream().into_iter().map(with_span).collect()
}

fn batch_call(name: &Ident, signature: &Signature, krate: &Path) -> TokenStream {
    let outcomes = quote_spanned! {signature.output=>
        #name(events).into_iter().map(#krate::IntoOutcome::into_outcome).collect()
    };
    quote! {
        impl #krate::__private::Batch for __Plugin {
            fn handle_batch(
                events: ::std::vec::Vec<#krate::Event>,
            ) -> ::std::vec::Vec<#krate::Outcome> {
                #outcomes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: &str, item: &str) -> String {
        expand(attribute.parse().unwrap(), item.parse().unwrap()).to_string()
    }

    #[test]
    fn a_faulty_attribute_keeps_the_function_and_adds_the_error() {
        let code = expanded("topcs = \"a\"", "fn handle (event : Event) { }");
        assert!(code.starts_with("fn handle (event : Event)"), "{code}");
        assert!(code.contains("compile_error !") && !code.contains("__Plugin"), "{code}");
    }

    #[test]
    fn what_is_no_function_is_told_where_the_attribute_stands() {
        let code = expanded("topics = \"a\"", "struct Handle ;");
        assert!(code.contains("stands on a function with a body"), "{code}");
    }

    #[test]
    fn an_event_is_moved_and_everything_else_extracted() {
        let moved = expanded("topics = \"a\"", "fn h(event: Event) {}");
        assert!(moved.contains("(h (event))") && !moved.contains("FromEvent"), "{moved}");
        let extracted = expanded("topics = \"a\"", "fn h(event: &Event, body: Json<T>) {}");
        assert!(extracted.contains("(h (argument_0 , argument_1))"), "{extracted}");
    }

    #[test]
    fn the_crate_can_be_found_under_another_name() {
        let code = expanded("topics = \"a\", crate = my::sdk", "fn h(event: Event) {}");
        assert!(code.contains("my :: sdk :: Outcome") && !code.contains(":: sandbar ::"), "{code}");
    }
}
