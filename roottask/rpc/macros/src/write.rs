//! What becomes of an interface: the trait as it is, its client, the dispatch of its server, and its table.

use crate::attribute::{self, Attribute};
use crate::parse::{self, Interface, Method};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, ItemTrait, Result, Type};

/// All of it.
pub fn interface(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attribute = attribute::parse(attribute)?;
    let item: ItemTrait = syn::parse2(item)?;
    let i = parse::interface(&item)?;
    let parts = [client(&i, &item), server(&i, &item), table(&i, &attribute), limits(&i)];
    Ok(quote! { #item #(#parts)* })
}

/// A type as a reader writes it.
pub fn text(kind: &Type) -> String {
    let tokens = quote!(#kind).to_string();
    [
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :: ", "::"),
        ("( )", "()"),
        (" ;", ";"),
        ("( ", "("),
        (" )", ")"),
    ]
    .iter()
    .fold(tokens, |t, (from, to)| t.replace(from, to))
}

/// Whether message and answer of a method go in registers.
fn short(m: &Method) -> TokenStream {
    let kinds = m.arguments.iter().map(|a| &a.kind);
    let returns = &m.returns;
    quote! { const { ::rpc::short(&[#(::rpc::size::<#kinds>()),*], ::rpc::size::<#returns>()) } }
}

fn numbered(i: &Interface) -> impl Iterator<Item = (u16, &Method)> {
    (1..).zip(&i.methods)
}

fn client(i: &Interface, item: &ItemTrait) -> TokenStream {
    let (name, see, doc) = (format_ident!("{}Client", i.name), &item.vis, format!("Client of `{}`.", i.name));
    let trait_name = &i.name;
    let methods = numbered(i).map(|(number, m)| {
        let (method, doc, returns, short) = (&m.name, &m.doc, &m.returns, short(m));
        let arguments: Vec<&Ident> = m.arguments.iter().map(|a| &a.name).collect();
        let kinds = m.arguments.iter().map(|a| &a.kind);
        quote! {
            #[doc = #doc]
            #[inline]
            pub fn #method(&self, #(#arguments: #kinds),*) -> ::core::result::Result<#returns, ::rpc::Error> {
                let table = <dyn #trait_name as ::rpc::Interface>::TABLE;
                ::rpc::call(&self.0, table, #number, #short, |_to| { #(::rpc::Value::put(&#arguments, _to);)* })
            }
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug)]
        #see struct #name<P>(P);

        impl<P: ::rpc::Port> #name<P> {
            /// One that calls through that port.
            pub const fn new(port: P) -> Self {
                Self(port)
            }
            /// The port.
            pub const fn port(&self) -> &P {
                &self.0
            }
            #(#methods)*
        }
    }
}

fn server(i: &Interface, item: &ItemTrait) -> TokenStream {
    let (name, see) = (format_ident!("{}Server", i.name), &item.vis);
    let doc = format!("What serves a `{}`: messages become calls of its methods.", i.name);
    let trait_name = &i.name;
    let arms = numbered(i).map(|(number, m)| {
        let (method, short) = (&m.name, short(m));
        let arguments: Vec<&Ident> = m.arguments.iter().map(|a| &a.name).collect();
        let takes = (1u8..).zip(&m.arguments).map(|(n, a)| {
            let (name, kind) = (&a.name, &a.kind);
            quote! {
                let #name = match <#kind as ::rpc::Value>::take(&mut _from) {
                    ::core::result::Result::Ok(value) => value,
                    ::core::result::Result::Err(bad) => return ::rpc::refuse(frame, #n, bad),
                };
            }
        });
        let number = u64::from(number);
        quote! {
            #number if !REGISTERS || #short => {
                #(#takes)*
                let answer = self.0.#method(#(#arguments),*);
                ::rpc::answer(frame, &answer)
            }
        }
    });
    let numbers = 1..=i.methods.len() as u64;
    quote! {
        #[doc = #doc]
        #[derive(Debug)]
        #see struct #name<T>(pub T);

        impl<T: #trait_name> #name<T> {
            #[inline(always)]
            fn serve<const REGISTERS: bool, F: ::rpc::Frame + ?::core::marker::Sized>(&mut self, frame: &mut F) -> ::rpc::Sent {
                let mut _from = frame.reader();
                let _number = _from.number();
                match _number {
                    #(#arms)*
                    #(#numbers)|* => ::rpc::refuse(frame, 0, ::rpc::Bad::Short),
                    _ => ::rpc::refuse(frame, 0, ::rpc::Bad::Method),
                }
            }
        }

        impl<T: #trait_name> ::rpc::Object for #name<T> {
            fn registers(&mut self, words: &mut [u64; ::rpc::REGISTERS]) {
                self.serve::<true, _>(words);
            }
            fn message(&mut self, frame: &mut dyn ::rpc::Frame) -> ::rpc::Sent {
                self.serve::<false, _>(frame)
            }
        }

        impl<T: #trait_name> ::rpc::Serves for #name<T> {
            type Interface = dyn #trait_name;
        }
    }
}

fn table(i: &Interface, a: &Attribute) -> TokenStream {
    let (name, doc, label) = (&i.name, &i.doc, i.name.to_string());
    let ((major, minor), ram, caps, fingerprint) = (a.version, a.ram, a.caps, fingerprint(i));
    let methods = i.methods.iter().map(|m| {
        let (method, doc, short) = (m.name.to_string(), &m.doc, short(m));
        let (returns, returned) = (&m.returns, text(&m.returns));
        let arguments = m.arguments.iter().map(|a| {
            let (name, kind, text) = (a.name.to_string(), &a.kind, text(&a.kind));
            quote! { ::rpc::Argument { name: #name, kind: #text, size: ::rpc::size::<#kind>() } }
        });
        quote! {
            ::rpc::Method {
                name: #method,
                doc: #doc,
                arguments: &[#(#arguments),*],
                returns: #returned,
                answer: ::rpc::size::<#returns>(),
                short: #short,
            }
        }
    });
    quote! {
        impl ::rpc::Interface for dyn #name {
            const TABLE: &'static ::rpc::Table = &::rpc::Table {
                name: #label,
                doc: #doc,
                built: ::rpc::Built { version: ::rpc::Version { major: #major, minor: #minor }, fingerprint: #fingerprint },
                cost: ::rpc::Cost { ram: #ram, caps: #caps },
                methods: &[#(#methods),*],
            };
        }
    }
}

/// FNV-1a of all that messages depend on as far as the trait says it.
fn fingerprint(i: &Interface) -> u64 {
    let method = |m: &Method| {
        let kinds = m.arguments.iter().map(|a| text(&a.kind)).collect::<Vec<_>>();
        format!("{}({})->{};", m.name, kinds.join(","), text(&m.returns))
    };
    let all: String = i.methods.iter().map(method).collect();
    all.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// What the compiler finds out only when it knows the types' sizes.
fn limits(i: &Interface) -> TokenStream {
    let checks = i.methods.iter().flat_map(|m| {
        let what = format!("{}.{}", i.name, m.name);
        let (call, answer) = (format!("{what}: the arguments take more"), format!("{what}: the answer takes more"));
        let limit = "than 511 words or 8 capabilities";
        let (call, answer) = (format!("{call} {limit}"), format!("{answer} {limit}"));
        let kinds = m.arguments.iter().map(|a| &a.kind);
        let returns = &m.returns;
        [
            quote! { assert!(::rpc::fits(&[#(::rpc::size::<#kinds>()),*]), #call); },
            quote! { assert!(::rpc::fits(&[::rpc::size::<#returns>()]), #answer); },
        ]
    });
    quote! { const _: () = { #(#checks)* }; }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(attribute: &str, item: &str) -> String {
        let (attribute, item) = (attribute.parse().unwrap(), item.parse().unwrap());
        interface(attribute, item).unwrap_err().to_string()
    }

    const GOOD: &str = "version = \"1.0\", ram = \"16K\", caps = 3";

    #[test]
    fn attributes_that_are_wrong_say_what_is_expected() {
        let item = "/// A.\ntrait A { /// B.\n fn b(&mut self); }";
        for (attribute, why) in [
            ("", "`version` is missing"),
            ("version = \"1.0\", caps = 3", "`ram` is missing"),
            ("version = \"1.0\", ram = \"4K\"", "`caps` is missing"),
            ("version = \"1\", ram = \"4K\", caps = 3", "a version is two numbers"),
            ("version = \"1.65536\", ram = \"4K\", caps = 3", "a version is two numbers"),
            ("version = 1, ram = \"4K\", caps = 3", "not expected here: an interface says"),
            ("version = \"1.0\", ram = \"4G\", caps = 3", "RAM is a number of bytes"),
            ("version = \"1.0\", ram = \"4K\", caps = 3, cost = 4", "not expected here: an interface says"),
            ("version = \"1.0\", ram = \"4K\", caps = many", "an interface says `#[rpc::interface("),
            ("1.0", "an interface says `#[rpc::interface("),
        ] {
            let text = refused(attribute, item);
            assert!(text.contains(why), "{attribute}: {text}");
        }
    }

    #[test]
    fn traits_that_are_no_interfaces_say_why() {
        let trait_of = |body: &str| format!("/// T.\ntrait T {{ {body} }}");
        for (item, why) in [
            ("/// T.\ntrait T<X> { }".to_string(), "no generic parameters"),
            ("/// T.\ntrait T: Clone { }".to_string(), "no supertraits"),
            (trait_of(""), "1 to 200 methods"),
            (trait_of("const N: u8;"), "consists of methods alone"),
            ("trait T { /// A.\n fn a(&mut self); }".to_string(), "`T` has no documentation comment"),
            (trait_of("fn a(&mut self);"), "`a` has no documentation comment"),
            (trait_of("/// A.\nfn a(&mut self) {}"), "no body"),
            (trait_of("/// A.\nasync fn a(&mut self);"), "answers at once"),
            (trait_of("/// A.\nfn a<X>(&mut self);"), "no generic parameters"),
            (trait_of("/// A.\nfn a(&self);"), "`&mut self` first"),
            (trait_of("/// A.\nfn a(x: u8);"), "`&mut self` first"),
            (trait_of("/// A.\nfn a(&mut self, (x, y): (u8, u8));"), "an argument has a name"),
            (trait_of("/// A.\nfn a(&mut self, mut x: u8);"), "a name and nothing more"),
            (trait_of("/// A.\nfn a(&mut self, x: &str);"), "a reference means nothing in another domain"),
            (trait_of("/// A.\nfn a(&mut self, x: Option<*const u8>);"), "a pointer means nothing"),
            (trait_of("/// A.\nfn a(&mut self, x: fn());"), "a function means nothing"),
            (trait_of("/// A.\nfn a(&mut self, x: [u8]);"), "a slice has no bound"),
            (trait_of("/// A.\nfn a(&mut self, x: impl Copy);"), "`impl` has no form"),
            (trait_of("/// A.\nfn a(&mut self) -> String;"), "lives on a heap"),
            (trait_of("/// A.\nfn a(&mut self) -> usize;"), "no size of their own"),
        ] {
            let text = refused(GOOD, &item);
            assert!(text.contains(why), "{item}: {text}");
        }
    }

    #[test]
    fn types_are_shown_as_they_are_written() {
        for kind in ["Result<(), Short>", "Cap<dyn a::Tally>", "(u8, u16)", "Text<32>", "[u64; 4]"] {
            assert_eq!(text(&syn::parse_str(kind).unwrap()), kind);
        }
    }

    #[test]
    fn the_fingerprint_is_of_what_messages_depend_on() {
        let of = |body: &str| {
            let item = format!("/// T.\ntrait T {{ {body} }}");
            fingerprint(&parse::interface(&syn::parse_str(&item).unwrap()).unwrap())
        };
        let a = of("/// A.\nfn a(&mut self, x: u8);");
        assert_eq!(a, of("/// Other words.\nfn a(&mut self, y: u8) -> ();"));
        assert_ne!(a, of("/// A.\nfn a(&mut self, x: u16);"));
        assert_ne!(a, of("/// A.\nfn a(&mut self, x: u8) -> u8;"));
        assert_ne!(a, of("/// A.\nfn b(&mut self, x: u8);"));
    }
}
