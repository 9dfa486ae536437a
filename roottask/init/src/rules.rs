//! Rules for requests: `[[component.route]]`, its short form, and `[[service]]`.

use crate::config::{Route, Service};
use crate::document::{At, Node, Placed, Value};
use crate::reader::{Reader, inner, numbered};
use session::{Label, Labels, MAX_ARGS, Patch, Rewrite, Rule, Target};

/// The rules of `route` in their order, then those of `routes`.
pub(crate) fn routes(r: &mut Reader<'_>) -> Vec<Route> {
    let mut all = numbered(r, "route", route);
    let Some(node) = r.get("routes") else { return all };
    let Value::Table(table) = &node.value else {
        r.wrong(node.at, "routes", format!("a table is expected, found {}", node.kind()));
        return all;
    };
    for (service, (at, to)) in table {
        let (service, target) = (r.as_name("routes", service, *at), target(r, "routes", to));
        if let (Some(service), Some(target)) = (service, target) {
            all.push(Route { rule: Rule::to(service.value, target.value), at: target.at, default: false });
        }
    }
    all
}

fn target<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<Target>> {
    let value = match r.text(key, node)? {
        "parent" => Target::Parent,
        "any-child" => Target::AnyChild,
        "nobody" => Target::Deny,
        name => Target::Child(r.as_name(key, name, node.at)?.value),
    };
    Some(Placed { value, at: node.at })
}

fn route(r: &mut Reader<'_>, _: At) -> Option<Route> {
    let service = r.optional("service", Reader::name).map(|n| n.value);
    let (labels, rewrite) = (labels(r), rewrite(r));
    let target = r.need("to").and_then(|n| target(r, "to", n))?;
    Some(Route { rule: Rule { service, labels, target: target.value, rewrite }, at: target.at, default: false })
}

pub(crate) fn service(r: &mut Reader<'_>, at: At) -> Option<Service> {
    let name = r.need("name").and_then(|n| r.name("name", n));
    let (labels, rewrite) = (labels(r), rewrite(r));
    let target = r.need("to").and_then(|n| target(r, "to", n))?;
    if matches!(target.value, Target::Parent | Target::AnyChild) {
        r.wrong(target.at, "to", "what comes from the parent is served by a child");
    }
    let name = name?.value;
    Some(Service { name, rule: Rule { service: Some(name), labels, target: target.value, rewrite }, at })
}

/// The selector of labels, of which there is one at most.
fn labels(r: &mut Reader<'_>) -> Labels {
    type Make = fn(String) -> Labels;
    const KEYS: [(&str, Make); 4] = [
        ("label", Labels::Exact),
        ("label_prefix", Labels::Prefix),
        ("label_suffix", Labels::Suffix),
        ("label_last", Labels::Last),
    ];
    let mut found = Labels::Any;
    for (key, make) in KEYS {
        let Some(text) = r.optional(key, |r, key, n| label(r, key, n)) else { continue };
        if found != Labels::Any {
            r.wrong(text.at, key, "there is another selector already; one is possible");
        }
        found = make(text.value.to_string());
    }
    found
}

fn label<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<Label>> {
    let label = Label::new(r.text(key, node)?);
    Some(Placed { value: r.check(node.at, key, label)?, at: node.at })
}

fn rewrite(r: &mut Reader<'_>) -> Rewrite {
    let label = r.optional("relabel", label).map(|l| l.value);
    Rewrite { label, args: r.optional("patch", patch) }
}

fn patch<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Patch> {
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let version = r.need("version").and_then(|n| r.within("version", n, 0..=u32::MAX.into()));
        let offset = r.need("offset").and_then(|n| r.within("offset", n, 0..=MAX_ARGS as i64));
        let bytes = r.each("bytes", |r, key, n| r.within(key, n, 0..=255));
        let (version, offset) = (version?, offset?);
        if offset + bytes.len() > MAX_ARGS {
            r.wrong(node.at, "bytes", format!("arguments have at most {MAX_ARGS} bytes"));
        }
        Some(Patch { version, offset, bytes })
    })
}
