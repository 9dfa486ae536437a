//! Values of keys that are more than a number or a string: sizes, times, CPUs, policies.

use crate::config::{Heartbeat, Restart};
use crate::document::{Node, Placed, Value};
use crate::quantity::{Period, Size};
use crate::reader::{Reader, inner};
use parent::MAX_CPUS;

/// How often a component can be started again.
const RESTARTS: std::ops::RangeInclusive<i64> = 0..=1000;
/// Priorities of components; the root task is above.
const PRIORITIES: std::ops::RangeInclusive<i64> = 1..=100;
/// Capabilities that a quota can have.
const CAPS: std::ops::RangeInclusive<i64> = 1..=1 << 24;
/// Heartbeats in a row that may be missing.
const MISSED: std::ops::RangeInclusive<i64> = 1..=1000;

pub(crate) fn size<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<Size>> {
    let size = Size::parse(r.text(key, node)?);
    Some(Placed { value: r.check(node.at, key, size)?, at: node.at })
}

/// What the runtime takes of it before `main` is a few pages; beyond the last nobody has looked for more.
const STACKS: std::ops::RangeInclusive<u64> = 16 << 10..=64 << 20;

pub(crate) fn stack<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Size> {
    let stack = size(r, key, node)?.value;
    if !STACKS.contains(&stack.bytes()) {
        r.wrong(node.at, key, "a stack has 16K to 64M");
        return None;
    }
    Some(stack)
}

pub(crate) fn period<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Period> {
    let period = Period::parse(r.text(key, node)?);
    r.check(node.at, key, period)
}

pub(crate) fn priority<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<u8> {
    r.within(key, node, PRIORITIES)
}

pub(crate) fn caps<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<u32>> {
    Some(Placed { value: r.within(key, node, CAPS)?, at: node.at })
}

pub(crate) fn cpus<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Vec<Placed<u16>>> {
    let list = r.list(key, node)?;
    if list.is_empty() {
        r.wrong(node.at, key, "a component needs at least one");
        return None;
    }
    let mut all = Vec::new();
    for n in list {
        let Some(number) = r.integer(key, n) else { continue };
        let cpu = u16::try_from(number).ok().filter(|&n| usize::from(n) < MAX_CPUS);
        let cpu = cpu.ok_or_else(|| format!("{number} is no CPU: 0 to {} are possible", MAX_CPUS - 1));
        all.extend(r.check(n.at, key, cpu).map(|value| Placed { value, at: n.at }));
    }
    Some(r.once(key, all, |a, b| a.value == b.value, |c| c.value.to_string()))
}

/// A number is the short form of a table with that limit.
pub(crate) fn restart<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<Restart>> {
    if matches!(node.value, Value::Integer(_)) {
        let limit = r.within(key, node, RESTARTS)?;
        return Some(Placed { value: Restart::times(limit), at: node.at });
    }
    if !matches!(node.value, Value::Table(_)) {
        r.wrong(node.at, key, format!("a number or a table is expected, found {}", node.kind()));
        return None;
    }
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let limit = r.need("limit").and_then(|n| r.within("limit", n, RESTARTS));
        let (within, delay) = (r.optional("within", period), r.optional("delay", period));
        let longest_delay = r.optional("longest_delay", period).unwrap_or(Period::LONGEST);
        if delay.is_some_and(|d| d > longest_delay) {
            r.wrong(node.at, "longest_delay", "the first delay is longer");
        }
        Some(Placed { value: Restart { limit: limit?, within, delay, longest_delay }, at: node.at })
    })
}

pub(crate) fn heartbeat<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<Heartbeat>> {
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let every = r.optional("every", period).unwrap_or(Period::SECOND);
        let restart_after = r.optional("restart_after", |r, key, n| r.within(key, n, MISSED));
        Some(Placed { value: Heartbeat { every, restart_after }, at: node.at })
    })
}
