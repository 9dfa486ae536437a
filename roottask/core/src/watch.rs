//! The trace service: what runs, and what it uses.
//!
//! Key type: [`Watch`], a session. What the books say is put together in `core_task_logic::census`.

use crate::end::account;
use crate::hub::{Hub, Kin};
use crate::shared::Running;
use crate::space;
use abi::{Sel, perm};
use core_task_logic::census;
use rt::hypercall;
use services::Trace;
use services::pd::Account;
use services::trace::{Client, Component};
use std::sync::Arc;

/// A session.
pub struct Watch {
    /// Who knows.
    pub hub: &'static Hub,
    /// The idle SCs.
    pub cpus: Arc<[Sel]>,
}

/// The idle SCs of so many CPUs; those behind one that the kernel does not give are missing.
pub fn idle_scs(cpus: u16) -> Arc<[Sel]> {
    (0..cpus).map_while(|cpu| space::take(cpu.into(), perm::Sc::CTRL.bits()).ok()).collect()
}

fn ns(ticks: u64) -> u64 {
    rt::time::ns_from_tsc(ticks)
}

/// With what the kernel says of it.
fn measured(running: &Running, known: Component) -> Component {
    let (limit, used) = account(&running.objects).unwrap_or_default();
    let (limit, used) = (limit << abi::PAGE_BITS, used << abi::PAGE_BITS);
    Component { cpu_ns: ns(running.ticks()), kmem: Account { limit, used, peak: used }, ..known }
}

impl Watch {
    /// The child of a component with that number, or the first behind it.
    fn offspring(&self, from: u32) -> Option<Component> {
        let running = self.hub.offspring(from)?;
        let Kin::Other { of, .. } = running.member.kin else { return None };
        let account = self.hub.account(&running.member);
        let known = census::offspring(running.member.index, of, &running.label, account.as_ref());
        Some(measured(&running, known))
    }
}

impl Trace for Watch {
    fn now_ns(&mut self) -> u64 {
        ns(rt::time::tsc())
    }

    fn idle_ns(&mut self, cpu: u16) -> Option<u64> {
        hypercall::ctrl_sc(*self.cpus.get(usize::from(cpu))?).ok().map(ns)
    }

    fn component(&mut self, from: u32) -> Option<Component> {
        let Some(known) = self.hub.look(|parent, books| census::component(parent, books, from)) else {
            return self.offspring(from);
        };
        match self.hub.running(known.life) {
            Some(running) => Some(measured(&running, known)),
            None => Some(known),
        }
    }

    fn session(&mut self, component: u32, from: u64) -> Option<Client> {
        self.hub.look(|parent, _| census::session(parent, component, from))
    }
}
