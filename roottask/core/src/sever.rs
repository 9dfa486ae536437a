//! The channels of a component that has ended: its peers must not wait for it.
//!
//! The ring that a peer writes breaks, so that its writes fail and it can do something else: `rt` sends lines of the log
//! to us from then on, a server drops what was for the client. The ring that a client reads breaks too. The one that a
//! server reads does not: what its client said last is still to be read. Then the peer is woken.

use crate::create::Wires;
use crate::link::Ring;
use crate::log::Log;
use crate::window::Window;
use bytering::{cut_consumer, cut_producer};
use parent::SERVICE_LOG;
use policy::{Channel, Client, Plan, RING_LEN, Sm};

/// Severs the channels of component `index`, whose memory is not mapped any more. Lines that a dead provider of the log
/// had not read go to `log`.
pub fn sever(index: usize, plan: &Plan, window: &Window, wires: &Wires, log: &Log) {
    for channel in &plan.channels {
        let [to_server, to_client] = [0, RING_LEN].map(|offset| Ring::at(window, channel.memory.start + offset));
        let peer = match channel.client {
            Client::Component(client) if channel.server == index => {
                let mut rest = Vec::new();
                to_server.iter().for_each(|r| cut_producer(r, |part| rest.extend_from_slice(part)));
                to_client.iter().for_each(cut_consumer);
                rescue(channel, &rest, &plan.labels[client], log);
                Sm::Client(channel.id)
            }
            client if client == Client::Component(index) => {
                to_client.iter().for_each(|r| cut_producer(r, |_| ()));
                Sm::Server(channel.server)
            }
            _ => continue,
        };
        if let Some(sel) = wires.existing(peer) {
            let _ = rt::hypercall::sm_up(sel);
        }
    }
}

fn rescue(channel: &Channel, rest: &[u8], label: &str, log: &Log) {
    if channel.service.as_str() == SERVICE_LOG {
        String::from_utf8_lossy(rest).lines().for_each(|line| log.line_of(label, line));
    }
}
