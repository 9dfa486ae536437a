//! `#[derive(rpc::Value)]`: enums by their number, structs by their bytes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Ident, Result};

/// Representations of enums that are numbers without a sign.
const NUMBERS: [&str; 4] = ["u8", "u16", "u32", "u64"];

/// The implementation of `rpc::Value`.
pub fn value(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a type that travels has no generic parameters"));
    }
    match &item.data {
        Data::Enum(e) => numbers(&item, e),
        Data::Struct(_) => Ok(bytes(&item.ident)),
        Data::Union(_) => Err(Error::new_spanned(&item.ident, "a union has no form that could be checked")),
    }
}

fn numbers(item: &DeriveInput, e: &DataEnum) -> Result<TokenStream> {
    let mut is_number = false;
    for a in item.attrs.iter().filter(|a| a.path().is_ident("repr")) {
        is_number |= NUMBERS.iter().any(|n| a.parse_args::<Ident>().is_ok_and(|i| i == n));
    }
    if !is_number {
        let text = "an enum that travels says how its values are numbered: `#[repr(u8)]`, u16, u32 or u64";
        return Err(Error::new_spanned(&item.ident, text));
    }
    if let Some(v) = e.variants.iter().find(|v| !matches!(v.fields, Fields::Unit)) {
        return Err(Error::new_spanned(v, "an enum that travels has plain values only"));
    }
    if e.variants.is_empty() {
        return Err(Error::new_spanned(&item.ident, "an enum without values cannot travel"));
    }
    let (name, values) = (&item.ident, e.variants.iter().map(|v| &v.ident).collect::<Vec<_>>());
    Ok(quote! {
        impl ::rpc::Value for #name {
            const WORDS: usize = 1;
            #[inline]
            fn put(&self, to: &mut ::rpc::Writer<'_>) {
                to.word(match self { #(Self::#values => Self::#values as u64),* });
            }
            #[inline]
            fn take(from: &mut ::rpc::Reader<'_>) -> ::core::result::Result<Self, ::rpc::Bad> {
                match from.word()? {
                    #(n if n == Self::#values as u64 => ::core::result::Result::Ok(Self::#values),)*
                    _ => ::core::result::Result::Err(::rpc::Bad::Value),
                }
            }
        }
    })
}

fn bytes(name: &Ident) -> TokenStream {
    quote! {
        impl ::rpc::Value for #name {
            const WORDS: usize = ::rpc::words_of(::core::mem::size_of::<Self>());
            #[inline]
            fn put(&self, to: &mut ::rpc::Writer<'_>) {
                to.bytes(::rpc::zerocopy::IntoBytes::as_bytes(self));
            }
            #[inline]
            fn take(from: &mut ::rpc::Reader<'_>) -> ::core::result::Result<Self, ::rpc::Bad> {
                from.plain()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_cannot_travel_say_why() {
        for (item, why) in [
            ("enum E { A }", "how its values are numbered"),
            ("#[repr(C)] enum E { A }", "how its values are numbered"),
            ("#[repr(u8)] enum E { A(u8) }", "plain values only"),
            ("#[repr(u8)] enum E {}", "without values"),
            ("struct S<T>(T);", "no generic parameters"),
            ("union U { a: u8 }", "no form that could be checked"),
        ] {
            let text = value(item.parse().unwrap()).unwrap_err().to_string();
            assert!(text.contains(why), "{item}: {text}");
        }
    }
}
