//! What a trait must be to be an interface.
//!
//! Key types: [`Interface`], [`Method`], [`Argument`].

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, Ident, ItemTrait, Lit, Meta, Pat, Result, ReturnType, TraitItem,
    TraitItemFn, Type, TypeBareFn, TypeImplTrait, TypePtr, TypeReference, TypeSlice,
};

/// The trait.
pub struct Interface {
    /// Its name.
    pub name: Ident,
    /// Its documentation.
    pub doc: String,
    /// Its methods, the first is number 1.
    pub methods: Vec<Method>,
}

/// A method.
pub struct Method {
    /// Its name.
    pub name: Ident,
    /// Its documentation.
    pub doc: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What it returns.
    pub returns: Type,
}

/// An argument.
pub struct Argument {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub kind: Type,
}

/// Most methods, and most arguments of one: messages name them by small numbers.
const MOST: usize = 200;

/// Reads a trait.
pub fn interface(item: &ItemTrait) -> Result<Interface> {
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an interface has no generic parameters"));
    }
    if !item.supertraits.is_empty() {
        return Err(Error::new_spanned(&item.supertraits, "an interface stands alone: it has no supertraits"));
    }
    let mut methods = Vec::new();
    for member in &item.items {
        match member {
            TraitItem::Fn(f) => methods.push(method(f)?),
            other => return Err(Error::new_spanned(other, "an interface consists of methods alone")),
        }
    }
    if methods.is_empty() || methods.len() > MOST {
        return Err(Error::new_spanned(&item.ident, format!("an interface has 1 to {MOST} methods")));
    }
    Ok(Interface { name: item.ident.clone(), doc: documentation(&item.attrs, &item.ident)?, methods })
}

fn method(f: &TraitItemFn) -> Result<Method> {
    let s = &f.sig;
    if let Some(body) = &f.default {
        return Err(Error::new_spanned(body, "a method of an interface has no body: servers have it"));
    }
    if let Some(word) = &s.asyncness {
        return Err(Error::new_spanned(word, "a method answers at once: what takes time ends in a signal"));
    }
    if !s.generics.params.is_empty() {
        return Err(Error::new_spanned(&s.generics, "a method has no generic parameters: a message has one form"));
    }
    let mut inputs = s.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(r)) if r.reference.is_some() && r.mutability.is_some() => {}
        _ => return Err(Error::new_spanned(&s.ident, "a method takes `&mut self` first")),
    }
    let arguments = inputs.map(argument).collect::<Result<Vec<_>>>()?;
    if arguments.len() > MOST {
        return Err(Error::new_spanned(&s.ident, format!("a method has at most {MOST} arguments")));
    }
    let returns = match &s.output {
        ReturnType::Default => syn::parse_quote!(()),
        ReturnType::Type(_, kind) => (**kind).clone(),
    };
    travels(&returns)?;
    Ok(Method { name: s.ident.clone(), doc: documentation(&f.attrs, &s.ident)?, arguments, returns })
}

fn argument(input: &FnArg) -> Result<Argument> {
    let FnArg::Typed(a) = input else { return Err(Error::new_spanned(input, "`self` comes first")) };
    let Pat::Ident(p) = &*a.pat else { return Err(Error::new_spanned(&a.pat, "an argument has a name")) };
    if p.by_ref.is_some() || p.mutability.is_some() || p.subpat.is_some() {
        return Err(Error::new_spanned(p, "an argument has a name and nothing more"));
    }
    travels(&a.ty)?;
    Ok(Argument { name: p.ident.clone(), kind: (*a.ty).clone() })
}

/// Finds what means nothing in another domain.
#[derive(Default)]
struct Pointers(Option<Error>);

impl Pointers {
    fn found(&mut self, at: &impl Spanned, what: &str) {
        let text = format!("{what} in a message: use `rpc::Text<N>` or `rpc::Bytes<N>`, a value, or a capability");
        self.0.get_or_insert(Error::new(at.span(), text));
    }
}

impl<'a> Visit<'a> for Pointers {
    fn visit_type_reference(&mut self, t: &'a TypeReference) {
        self.found(t, "a reference means nothing in another domain, so it cannot be");
    }
    fn visit_type_ptr(&mut self, t: &'a TypePtr) {
        self.found(t, "a pointer means nothing in another domain, so it cannot be");
    }
    fn visit_type_slice(&mut self, t: &'a TypeSlice) {
        self.found(t, "a slice has no bound, so it cannot be");
    }
    fn visit_type_bare_fn(&mut self, t: &'a TypeBareFn) {
        self.found(t, "a function means nothing in another domain, so it cannot be");
    }
    fn visit_type_impl_trait(&mut self, t: &'a TypeImplTrait) {
        self.found(t, "`impl` has no form, so it cannot be");
    }
    fn visit_type_path(&mut self, t: &'a syn::TypePath) {
        let last = t.path.segments.last().map(|s| s.ident.to_string());
        match last.as_deref() {
            Some("String" | "Vec" | "Box") => self.found(t, "what lives on a heap has no bound, so it cannot be"),
            Some("usize" | "isize") => {
                self.found(t, "`usize` and `isize` have no size of their own, so they cannot be")
            }
            _ => visit::visit_type_path(self, t),
        }
    }
}

fn travels(kind: &Type) -> Result<()> {
    let mut search = Pointers::default();
    search.visit_type(kind);
    search.0.map_or(Ok(()), Err)
}

/// The lines of a documentation comment.
fn documentation(attributes: &[Attribute], at: &Ident) -> Result<String> {
    let mut lines = Vec::new();
    for a in attributes.iter().filter(|a| a.path().is_ident("doc")) {
        if let Meta::NameValue(pair) = &a.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(s), .. }) = &pair.value
        {
            lines.push(s.value().strip_prefix(' ').map_or_else(|| s.value(), str::to_string));
        }
    }
    if lines.is_empty() {
        let text = format!("`{at}` has no documentation comment: the interface's reference page is made of them");
        return Err(Error::new(at.span(), text));
    }
    Ok(lines.join("\n"))
}
