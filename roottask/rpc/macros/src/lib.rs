//! The macros of `rpc`: [`macro@interface`] makes client, dispatch and table of a trait, [`derive@Value`] lets a type travel.
//!
//! What they accept is in `parse` (each mistake is an error at its place in the source), what they write in `write` and
//! `value`. Only `rpc` uses this crate; see there.
#![forbid(unsafe_code)]

mod attribute;
mod parse;
mod value;
mod write;

use proc_macro::TokenStream;

/// Makes an interface of a trait; see the documentation of `rpc`.
#[proc_macro_attribute]
pub fn interface(attribute: TokenStream, item: TokenStream) -> TokenStream {
    write::interface(attribute.into(), item.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Lets an enum of numbered values, or a struct that zerocopy can take for bytes, travel in messages.
#[proc_macro_derive(Value)]
pub fn value(item: TokenStream) -> TokenStream {
    value::value(item.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}
