//! `#[guest_test]`: makes a function a test of the test kernel.
//!
//! `#[guest_test(needs = [Avx, Vcpus(2)])]` also says what the test needs of the machine: variants of the kernel's
//! `Need`. `tcg = "..."` says what QEMU's TCG does wrong, so that the test cannot pass there; `unstable = "..."` names
//! a known defect of ours, because of which it cannot pass anywhere yet. The test becomes a `GuestTest` in the link section `.guest_tests`; the runner finds it there.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Declares a test. The function takes nothing, returns nothing, and fails by panicking.
#[proc_macro_attribute]
pub fn guest_test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match (Keys::parse(attribute), name(&item)) {
        (Some(keys), Some(name)) => declare(&item, &keys, &name),
        (None, _) => {
            error("the attribute is #[guest_test] with any of needs = [...], tcg = \"...\", unstable = \"...\"")
        }
        (_, None) => error("#[guest_test] goes before a function"),
    }
}

fn declare(item: &TokenStream, keys: &Keys, name: &str) -> TokenStream {
    let Keys { needs, tcg, unstable } = keys;
    let declaration = format!(
        "const _: () = {{
            use crate::harness::{{GuestTest, Need}};
            #[used]
            #[unsafe(link_section = \".guest_tests\")]
            static TEST: GuestTest = GuestTest {{
                name: concat!(module_path!(), \"::\", \"{name}\"),
                needs: &[{needs}],
                tcg: {tcg},
                unstable: {unstable},
                run: {name},
            }};
        }};"
    );
    let mut all = item.clone();
    all.extend(declaration.parse::<TokenStream>().expect("a declaration"));
    all
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});").parse().expect("an invocation")
}

/// The identifier after the first `fn`.
fn name(item: &TokenStream) -> Option<String> {
    let mut tokens = item.clone().into_iter();
    tokens.find(|t| t.to_string() == "fn")?;
    tokens.next().map(|t| t.to_string())
}

/// What the attribute says, as expressions.
struct Keys {
    needs: String,
    tcg: String,
    unstable: String,
}

impl Keys {
    fn parse(attribute: TokenStream) -> Option<Keys> {
        let mut keys = Keys { needs: String::new(), tcg: "None".into(), unstable: "None".into() };
        let tokens: Vec<TokenTree> = attribute.into_iter().collect();
        for key in tokens.split(|t| t.to_string() == ",").filter(|k| !k.is_empty()) {
            match key {
                [key, _, TokenTree::Group(list)] if key.to_string() == "needs" => keys.needs = variants(list)?,
                [key, _, TokenTree::Literal(text)] if key.to_string() == "tcg" => keys.tcg = format!("Some({text})"),
                [key, _, TokenTree::Literal(text)] if key.to_string() == "unstable" => {
                    keys.unstable = format!("Some({text})")
                }
                _ => return None,
            }
        }
        Some(keys)
    }
}

/// `[A, B(1)]` as `Need::A, Need::B(1)`.
fn variants(list: &Group) -> Option<String> {
    let variant = |token: TokenTree| match &token {
        TokenTree::Ident(name) => format!("Need::{name}"),
        other => other.to_string(),
    };
    (list.delimiter() == Delimiter::Bracket).then(|| list.stream().into_iter().map(variant).collect())
}
