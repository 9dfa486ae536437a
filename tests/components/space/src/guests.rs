//! The memory of guests: what core attaches there, and a guest that runs in it.

use crate::{Outcome, PAGE, alloc, equal, free, map, show, text, used};
use abi::{ArchState, Mtd, Utcb, event};
use rpc::Cap;
use rt::dataspace::{AttachError, pd};
use rt::vm::{Guest, Vcpu};
use rt::{PortalThread, Semaphore};
use services::Dataspace;
use services::rm::{Attr, NotAttachedReason as Why};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::thread;
use std::time::Duration;

/// Guests of a component, at most.
const MOST: usize = 16;
/// Guest-physical address of the code.
const CODE: u64 = 0x1000;
/// `mov word [0x2000], 0x1234; jmp $`
const PROGRAM: u64 = 0xfeeb_1234_2000_06c7;
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
/// What the guest may do with its memory.
const ALL: Attr = Attr { executable: true, ..Attr::WRITE };

fn open() -> Result<Guest, String> {
    Guest::open().map_err(|e| e.to_string())
}

fn refused(guest: &Guest, dataspace: Cap<dyn Dataspace>, attr: Attr, why: Why) -> Outcome {
    match guest.attach(dataspace, attr) {
        Err(AttachError::Refused(e)) => equal(&e.to_string(), e.why, why),
        other => Err(format!("{other:?}, not {why:?}")),
    }
}

/// What can be attached where.
pub fn attached() -> Outcome {
    let before = used()?;
    let (guest, ram) = (open()?, alloc(2 * PAGE)?);
    let show = |attr| guest.attach(ram, attr).map_err(|e| e.to_string());
    show(ALL.at(8 * PAGE))?;
    refused(&guest, ram, ALL.at(9 * PAGE), Why::Taken)?;
    // The same once more, and in another guest.
    show(ALL.at(6 * PAGE))?;
    open()?.attach(ram, Attr { offset: PAGE, ..ALL.at((1 << 48) - PAGE) }).map_err(|e| e.to_string())?;
    refused(&guest, ram, ALL.at((1 << 48) - PAGE), Why::Outside)?;
    refused(&guest, ram, ALL.at(7), Why::Pages)?;
    refused(&guest, ram, Attr { offset: PAGE, size: 2 * PAGE, ..ALL.at(0) }, Why::Range)?;
    let (_, managed) = map(PAGE)?;
    refused(&guest, managed, Attr::READ.at(0), Why::Managed)?;
    free(managed)?;
    equal("what is there", guest.detach(6 * PAGE).map_err(text)?, true)?;
    equal("what is there no more", guest.detach(6 * PAGE).map_err(text)?, false)?;
    equal("the middle of something", guest.detach(9 * PAGE).map_err(text)?, false)?;
    // Paid until the guest has let go of it.
    free(ram)?;
    equal("used while the guest has it", used()?.0, before.0 + 2 * PAGE)?;
    drop(guest);
    equal("used after it", used()?, before)?;
    // Without a place for it nothing is left of RAM.
    let guest = open()?;
    let own = guest.ram(0, 2 * PAGE).map_err(|e| e.to_string())?;
    equal("RAM where some is", guest.ram(PAGE, PAGE).is_err(), true)?;
    equal("used", used()?.0, before.0 + 2 * PAGE)?;
    drop((own, guest));
    equal("used at the end", used()?, before)
}

/// So many, and no more.
pub fn many() -> Outcome {
    let all = (0..MOST).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    equal("one more", open().is_err(), true)?;
    drop(all);
    open().map(drop)
}

/// A virtual CPU that runs the program, and what tells how it ended.
fn run(guest: &Guest) -> Result<(Vcpu, Arc<Semaphore>), String> {
    let cpu = rt::start_info().map_or(0, |info| info.cpu as u16);
    let (space, end) = (guest.sel(), Arc::new(Semaphore::new(0)));
    let over = Arc::clone(&end);
    let handler = move |n: u64, _, u: &mut Utcb| match n {
        event::GST_STARTUP => {
            let s: &mut ArchState = u.arch_mut();
            (s.sel_gst, s.sel_pio, s.sel_msr) = (space, 0, 0);
            // Interrupts on: Bochs does not let those of the host out of a guest that has them off.
            (s.begin_in_real_mode(CODE, 0x202) | Mtd::SPACES).bits()
        }
        _ => {
            over.up();
            Mtd::POISON.bits()
        }
    };
    let base = rt::sel::alloc_range(EVENTS, EVENTS.next_power_of_two()).ok_or("no selectors")?;
    let thread = PortalThread::new(cpu, 16 << 10, Box::new(handler)).map_err(text)?;
    (0..EVENTS).try_for_each(|n| thread.portal(base + n, n, 0)).map_err(text)?;
    let mut vcpu = Vcpu::new(cpu, base).map_err(text)?;
    vcpu.start(1).map_err(text)?;
    Ok((vcpu, end))
}

fn wait_for(word: &AtomicU64) {
    while word.load(SeqCst) != 0x1234 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A guest sees what is attached, and has lost what is withdrawn. The last one still runs when the component ends.
pub fn runs() -> Outcome {
    let before = used()?;
    let (guest, ram) = (open()?, alloc(2 * PAGE)?);
    guest.attach(ram, ALL.at(CODE)).map_err(|e| e.to_string())?;
    let own = show(ram, Attr::WRITE)?;
    own.words()[0].store(PROGRAM, Relaxed);
    let (vcpu, end) = run(&guest)?;
    wait_for(&own.words()[512]);
    equal("withdraw", pd().withdraw(ram).map_err(text)?, Ok(()))?;
    // It faults where it runs.
    end.down();
    drop((vcpu, own, guest));
    equal("used after it", used()?, before)?;

    let guest = open()?;
    let own = guest.ram(CODE, 2 * PAGE).map_err(|e| e.to_string())?;
    own.words()[0].store(PROGRAM, Relaxed);
    let (vcpu, _) = run(&guest)?;
    wait_for(&own.words()[512]);
    std::mem::forget((vcpu, own, guest));
    Ok(())
}
