//! The attribute of `sandbar-sdk`; its documentation is there.

mod args;
mod expand;
mod signature;
mod value;

use proc_macro::TokenStream;

/// Makes a plugin of one function: see the documentation of `sandbar-sdk`.
///
/// On `wasm32` it adds the exports that the host calls; elsewhere it only checks the
/// function, which can be called in unit tests as it is.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(attribute.into(), item.into()).into()
}
