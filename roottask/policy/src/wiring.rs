//! Channels: which client reaches which provider, over which memory and semaphores.
//!
//! Key types: [`Channel`] and, inside the crate, [`resolve`], which turns the names in routes into indices.

use crate::children::is_channel;
use crate::memory::PhysRange;
use init::{Cause, Component, Config, Defect, Route};
use parent::{Name, layout};
use session::Target;

/// Length of one ring, header included, in bytes: room for 16 KiB. A channel has two, one behind the other.
pub const RING_LEN: u64 = 20 << 10;
/// Memory of a channel in bytes.
pub(crate) const CHANNEL_LEN: u64 = 2 * RING_LEN;
/// Distance of channels in a component's address space: what lies between is not mapped.
const CHANNEL_STRIDE: u64 = 2 * CHANNEL_LEN;
/// Label under which the root task itself is a client of the log.
pub const LOG_LABEL: &str = "core";

/// Who is the client of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The root task.
    Root,
    /// A component by its index.
    Component(usize),
}

/// A channel. The first ring of `memory` carries bytes from client to server, the second the other way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Number that stays the same when other channels go: see [`crate::Sm::Client`].
    pub id: usize,
    /// The service.
    pub service: Name,
    /// Who asked for it.
    pub client: Client,
    /// Who provides it.
    pub server: usize,
    /// Number of the channel at the client.
    pub client_slot: usize,
    /// Number of the channel at the server.
    pub server_slot: usize,
    /// Its memory.
    pub memory: PhysRange,
    /// Whether the client has ended, and the server: then nothing of theirs maps the memory any more.
    pub left: [bool; 2],
}

/// Address of channel number `slot` in a component.
pub const fn channel_address(slot: usize) -> u64 {
    layout::CHANNELS + slot as u64 * CHANNEL_STRIDE
}

/// A route whose provider exists: service and index of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub service: Name,
    pub provider: usize,
}

/// Finds the provider of each route. A provider whose own entry is wrong counts as one: that it does not start is
/// found later.
pub(crate) fn resolve(file: &Config, index: usize, component: &Component) -> Result<Vec<Resolved>, Defect> {
    let mut all: Vec<Resolved> = Vec::new();
    for Route { rule, at, .. } in &component.routes {
        let (Some(service), Target::Child(child)) = (rule.service, rule.target) else { continue };
        if all.iter().any(|r| r.service == service) {
            continue;
        }
        let provider = file.provider(index, &service, &child).map_err(|reason| {
            let place = format!("component `{}`", component.name);
            Defect { at: *at, cause: Cause::Value { place, key: "routes", reason } }
        })?;
        if is_channel(rule) {
            all.push(Resolved { service, provider });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tail: &str) -> Config {
        let head = "[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\nprovides = [\"log\"]\n";
        let b = "[[component]]\nname = \"b\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n";
        crate::system_file(&format!("{head}{b}{tail}")).unwrap()
    }

    fn routes_of_b(tail: &str) -> Result<Vec<Resolved>, String> {
        let f = file(tail);
        resolve(&f, 1, f.entries[1].result.as_ref().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_route_leads_to_its_provider() {
        let r = routes_of_b("routes = { log = \"a\" }").unwrap();
        assert_eq!(r, [Resolved { service: Name::new("log").unwrap(), provider: 0 }]);
    }

    #[test]
    fn the_first_route_of_a_service_counts() {
        let r = routes_of_b("route = [{ service = \"log\", to = \"a\" }]\nroutes = { log = \"b\" }").unwrap();
        assert_eq!(r, [Resolved { service: Name::new("log").unwrap(), provider: 0 }]);
    }

    #[test]
    fn wrong_routes_name_place_and_cause() {
        for (tail, want) in [
            (
                "routes = { log = \"x\" }",
                "line 12, column 18: component `b`, key `routes`: `log` goes to `x`, but there is no such \
                 component; there are `a`, `b`",
            ),
            (
                "routes = { nic = \"a\" }",
                "line 12, column 18: component `b`, key `routes`: `a` does not provide `nic`; no component does",
            ),
            (
                "[component.routes]\nlog = \"b\"",
                "line 13, column 7: component `b`, key `routes`: `log` goes to the component itself",
            ),
        ] {
            assert_eq!(routes_of_b(tail).unwrap_err(), want);
        }
    }

    #[test]
    fn a_wrong_provider_names_the_right_one() {
        let c = "[[component]]\nname = \"c\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\nroutes = { log = \"b\" }";
        let f = file(c);
        let e = resolve(&f, 2, f.entries[2].result.as_ref().unwrap()).unwrap_err();
        assert!(e.to_string().ends_with("`b` does not provide `log`; `a` does"), "{e}");
    }

    #[test]
    fn channels_do_not_touch_each_other() {
        for slot in 0..parent::MAX_CHANNELS {
            assert!(channel_address(slot) + CHANNEL_LEN < channel_address(slot + 1));
        }
        assert!(channel_address(parent::MAX_CHANNELS) < layout::UTCBS);
    }
}
