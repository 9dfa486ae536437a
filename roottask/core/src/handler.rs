//! The portals of all components: their events (start, exceptions) and their calls.
//!
//! A handler runs on the time of the component that came in, so all of this is bounded and nothing waits for another
//! component but the log's lock and those that creating threads needs. Nothing in a message is believed: selectors go back to the kernel, which checks them in the
//! component's own space.
//!
//! Key types: [`Portal`], which is encoded in a portal's identifier; [`handle`].

use crate::dataspaces::Faulted;
use crate::pager::{Answer, PF};
use crate::portals::Portals;
use crate::shared::Running;
use crate::space;
use abi::perm::{self, Mem};
use abi::{ArchState, Mtd, Scd, Status, Utcb, event};
use core_task_logic::fault::Fault;
use dataspace::{Component, Waiter};
use parent::{Call, Refusal, THREAD_EXIT, layout};
use policy::End;
use rt::hypercall::EcArgs;

/// Time slice of all threads of components.
pub const BUDGET_MS: u16 = 10;
/// Vector of an invalid opcode, with which threads end.
const UD: u64 = 6;
/// Bits of a portal identifier that say which portal of a component it is.
const KIND_BITS: u32 = 8;
/// The portal for calls to the parent.
const CALL: u64 = 0xff;
/// The portal of pagers.
const LOOK: u64 = 0xfd;
/// The portal of the handler's helper.
const FLUSH: u64 = 0xfe;

/// What a component's portal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portal {
    /// The event at that offset from the event base.
    Event(u64),
    /// Calls to the parent.
    Call,
    /// Of no component: see [`crate::helpers`].
    Flush,
    /// Of no component: see [`crate::pager`].
    Look,
}

impl Portal {
    /// Portal identifier for component `index`.
    pub fn identifier(self, index: usize) -> u64 {
        let kind = match self {
            Portal::Event(n) => n,
            Portal::Call => CALL,
            Portal::Flush => FLUSH,
            Portal::Look => LOOK,
        };
        (index as u64) << KIND_BITS | kind
    }

    /// The index in a portal identifier.
    pub fn index(pid: u64) -> usize {
        (pid >> KIND_BITS) as usize
    }

    fn decode(pid: u64) -> (usize, Portal) {
        let portal = match pid & ((1 << KIND_BITS) - 1) {
            CALL => Portal::Call,
            FLUSH => Portal::Flush,
            LOOK => Portal::Look,
            event => Portal::Event(event),
        };
        (Self::index(pid), portal)
    }

    /// What the kernel sends along.
    pub fn mtd(self) -> Mtd {
        match self {
            Portal::Call | Portal::Flush | Portal::Look => Mtd::empty(),
            Portal::Event(event::HST_STARTUP) => START,
            Portal::Event(_) => Mtd::GPR_0_7 | Mtd::GPR_8_15 | Mtd::RFLAGS | Mtd::RIP | Mtd::QUAL,
        }
    }
}

/// Registers that the start of a thread reads (the stack pointer) and writes.
const START: Mtd = Mtd::GPR_0_7.union(Mtd::RIP);

/// Handles a message that came through portal `pid`; returns the descriptor of the reply.
pub fn handle(portals: &'static Portals, pid: u64, mtd: u32, utcb: &mut Utcb) -> u32 {
    let (index, portal) = Portal::decode(pid);
    if portal == Portal::Flush {
        return Mtd::words(0);
    }
    if portal == Portal::Look {
        look(portals, &utcb.words);
        return Mtd::words(0);
    }
    let Some(component) = portals.shared.component(index) else { return Mtd::POISON.bits() };
    let caller = Caller { portals, component: &component };
    if let Portal::Event(n) = portal {
        return caller.event(n, utcb.arch_mut()).bits();
    }
    let result = caller.call(Mtd::word_count(mtd), utcb);
    utcb.words[0] = result.map_or_else(|refusal| refusal as u64, |()| 0);
    Mtd::words(1)
}

/// Who came in.
struct Caller<'a> {
    portals: &'static Portals,
    component: &'a Running,
}

impl Caller<'_> {
    fn event(&self, n: u64, state: &mut ArchState) -> Mtd {
        let c = self.component;
        if c.has_ended() {
            return Mtd::POISON;
        }
        match n {
            event::HST_STARTUP => {
                drop(c.hold_start());
                state.rip = c.entry;
                state.gpr[ArchState::RDI] = if c.take_first_thread() { layout::START_INFO } else { 0 };
                START
            }
            // A component may recall its own threads; for us there is nothing to do.
            event::HST_RECALL => Mtd::empty(),
            UD if state.gpr[ArchState::RAX] == THREAD_EXIT => Mtd::POISON,
            PF if self.page_fault(state) => Mtd::empty(),
            vector => {
                let fault = Fault {
                    vector,
                    error: state.qual[0],
                    address: state.qual[1],
                    rip: state.rip,
                    rsp: state.gpr[ArchState::RSP],
                };
                self.portals.shared.end(c, End::Fault, Some(fault));
                Mtd::POISON
            }
        }
    }

    /// Whether a page fault is dealt with: the access is made again. If it is to wait it comes to a pager then.
    fn page_fault(&self, state: &ArchState) -> bool {
        let (error, address, c) = (state.qual[0], state.qual[1], self.component);
        if !layout::in_dataspaces(address) {
            return false;
        }
        match self.portals.memory.fault(c.member.index, address, access(error)) {
            Faulted::Again => true,
            Faulted::Waits(component) => {
                let cpu = rt::thread::cpu();
                let given = self.portals.give_pager(c.member.index, component, c.objects.obj, cpu);
                if let Err(status) = given {
                    self.portals
                        .log
                        .line_of(&c.label, &format!("page fault at {address:#x}: no thread to wait: {status}"));
                }
                given.is_ok()
            }
            Faulted::Ended => false,
            Faulted::Fault(why) => {
                self.portals.log.line_of(&c.label, &format!("page fault at {address:#x}: {why}"));
                false
            }
        }
    }

    fn call(&self, words: usize, utcb: &Utcb) -> Result<(), Refusal> {
        let call = Call::decode(&utcb.words, words)?;
        // Its threads on other CPUs may not know yet.
        if self.component.has_ended() {
            return Err(Refusal::BadCall);
        }
        match call {
            Call::StartThread { ec, sc, lower } => {
                start_thread(self.component, ec, sc, lower, self.portals.shared.watched)
            }
            Call::CreateEc { ec, cpu, flags, page, sp, events } => {
                let args = EcArgs { utcb_page: page, cpu, sp, evt: events, ..EcArgs::default() };
                if !self.component.cpus.contains(&cpu) {
                    return Err(Refusal::NotYourCpu);
                }
                let args = args.with_flags(flags);
                if args.guest && !self.component.guests {
                    return Err(Refusal::NoRoute);
                }
                self.create_ec(ec, args, perm::Ec::all())
            }
            Call::CreateCourier { ec, cpu, page, sp, events } => {
                let args = EcArgs { utcb_page: page, cpu, sp, evt: events, fpu: true, ..EcArgs::default() };
                let args = EcArgs { global_or_offset: true, ..args };
                let create = || self.create_ec(ec, args, perm::Ec::CTRL | perm::Ec::BIND_SC);
                self.component.another_courier(cpu, create).unwrap_or(Err(Refusal::NotYourCpu))
            }
            Call::Exit { code } => {
                self.portals.shared.end(self.component, End::Exit(code), None);
                Ok(())
            }
            Call::Log { text } => {
                self.portals.log.line_of(&self.component.label, &String::from_utf8_lossy(text));
                Ok(())
            }
        }
    }

    /// What the arguments say is between the component and the kernel, but for the CPU.
    fn create_ec(&self, to: u64, args: EcArgs, perms: perm::Ec) -> Result<(), Refusal> {
        let c = self.component;
        let give = || self.portals.give(&c.member, c.objects.obj, args.cpu);
        c.open_cpu(args.cpu, give).map_err(refusal)?;
        let ec = space::free_selector().map_err(refusal)?;
        let created = space::create_component_ec(ec, c.objects.pd, args)
            .and_then(|()| space::give(c.objects.obj, ec, to, perms.bits()));
        // Theirs stays: what they hold keeps the EC alive.
        rt::sel::free(ec);
        created.map_err(refusal)
    }
}

/// What was tried, by the error code of a page fault.
fn access(error: u64) -> Mem {
    match error {
        e if e & 1 << 4 != 0 => Mem::XU,
        e if e & 1 << 1 != 0 => Mem::W,
        _ => Mem::R,
    }
}

/// A pager asks about a fault; nobody else has that portal.
fn look(portals: &Portals, words: &[u64; abi::UTCB_WORDS]) {
    let [life, place, address, error, rip, rsp] = [0, 1, 2, 3, 4, 5].map(|i| words[i]);
    let (index, waiter) = (place as u32 as usize, Waiter { component: Component(life), cpu: (place >> 32) as u16 });
    let answer = match portals.memory.wait(waiter, address, access(error)) {
        Faulted::Again => Answer::Again,
        Faulted::Waits(_) => Answer::Waits,
        Faulted::Ended => Answer::Ends,
        Faulted::Fault(why) => {
            if let Some(c) = portals.shared.component(index).filter(|_| portals.memory.is_life(index, waiter.component))
            {
                portals.log.line_of(&c.label, &format!("page fault at {address:#x}: {why}"));
                let fault = Fault { vector: PF, error, address, rip, rsp };
                portals.shared.end(&c, End::Fault, Some(fault));
            }
            Answer::Ends
        }
    };
    portals.memory.answer(&waiter, answer);
}

/// `keep`: its SC, so that its time can be told.
fn start_thread(c: &Running, ec: u64, sc: u64, lower: u64, keep: bool) -> Result<(), Refusal> {
    // If there is something else at their selector, create_sc refuses it.
    let own_ec = space::take_from(c.objects.obj, ec, perm::Ec::BIND_SC.bits()).map_err(refusal)?;
    let result = start_ec(c, own_ec, sc, lower, keep);
    rt::sel::free(own_ec);
    result.map_err(refusal)
}

fn start_ec(c: &Running, ec: u64, sc: u64, lower: u64, keep: bool) -> Result<(), Status> {
    let own_sc = space::free_selector()?;
    let lower = u8::try_from(lower).unwrap_or(u8::MAX);
    let scd = Scd { cos: 0, prio: c.priority.saturating_sub(lower).max(1), budget_ms: BUDGET_MS };
    let result = rt::hypercall::create_sc(own_sc, c.objects.pd, ec, scd)
        .and_then(|()| space::give(c.objects.obj, own_sc, sc, perm::Sc::CTRL.bits()));
    match result {
        Ok(()) if keep => c.add_thread(own_sc),
        // Theirs stays: what they hold keeps the SC alive.
        _ => rt::sel::free(own_sc),
    }
    result
}

fn refusal(status: Status) -> Refusal {
    match status {
        Status::MemObj | Status::MemCap => Refusal::NoMemory,
        Status::BadCpu => Refusal::NotYourCpu,
        Status::BadFtr => Refusal::NoGuests,
        _ => Refusal::BadSelector,
    }
}
