//! What stands in the attribute: version and cost of a session.
//!
//! Key type: [`Attribute`].

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::{Error, Expr, ExprLit, Lit, LitStr, MetaNameValue, Result, Token, punctuated::Punctuated};

/// `version = "1.0", ram = "16K", caps = 3`.
pub struct Attribute {
    /// Major and minor version.
    pub version: (u16, u16),
    /// RAM of a session in bytes.
    pub ram: u64,
    /// Capabilities of a session.
    pub caps: u32,
}

const FORM: &str = "an interface says `#[rpc::interface(version = \"1.0\", ram = \"16K\", caps = 3)]`";

/// Reads it.
pub fn parse(tokens: TokenStream) -> Result<Attribute> {
    let pairs = Punctuated::<MetaNameValue, Token![,]>::parse_terminated
        .parse2(tokens)
        .map_err(|e| Error::new(e.span(), format!("{e}: {FORM}")))?;
    let (mut version, mut ram, mut caps) = (None, None, None);
    for pair in &pairs {
        let Expr::Lit(ExprLit { lit, .. }) = &pair.value else {
            return Err(Error::new_spanned(&pair.value, FORM));
        };
        let key = pair.path.get_ident().map(ToString::to_string).unwrap_or_default();
        match (key.as_str(), lit) {
            ("version", Lit::Str(s)) => version = Some(two_numbers(s)?),
            ("ram", Lit::Str(s)) => ram = Some(bytes(s)?),
            ("caps", Lit::Int(n)) => caps = Some(n.base10_parse()?),
            _ => return Err(Error::new_spanned(pair, format!("not expected here: {FORM}"))),
        }
    }
    let missing = |what| Error::new(Span::call_site(), format!("`{what}` is missing: {FORM}"));
    Ok(Attribute {
        version: version.ok_or_else(|| missing("version"))?,
        ram: ram.ok_or_else(|| missing("ram"))?,
        caps: caps.ok_or_else(|| missing("caps"))?,
    })
}

fn two_numbers(s: &LitStr) -> Result<(u16, u16)> {
    let text = s.value();
    let numbers = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    numbers.ok_or_else(|| Error::new_spanned(s, "a version is two numbers up to 65535: \"MAJOR.MINOR\""))
}

fn bytes(s: &LitStr) -> Result<u64> {
    let text = s.value();
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (&text[..], 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    number.ok_or_else(|| Error::new_spanned(s, "RAM is a number of bytes, with K or M behind it: \"16K\""))
}
