//! Dataspaces and region maps from inside: each check says what it has found, and the last line how many there were.
//!
//! With a word in the configuration it does what it must not be able to do, and is to be stopped for it.
#![forbid(unsafe_code)]
extern crate rt;

mod guests;

use rpc::Cap;
use rt::dataspace::{AttachError, Attached, attach, pd, rm};
use rt::rpc::{Entrypoint, Portal};
use services::pd::{NoQuota, NoQuotaReason};
use services::rm::{Access, Attr, NotAttachedReason, NotThere};
use services::{Dataspace, DataspaceClient, RmClient};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::thread;

const PAGE: u64 = 4096;
type Outcome = Result<(), String>;
/// A name and what is checked.
type Check = (&'static str, fn() -> Outcome);

const CHECKS: &[Check] = &[
    ("RAM is zeroed, and counts", ram),
    ("too much RAM is refused, with the figures", exhaustion),
    ("two regions show the same bytes", alias),
    ("a part of it at an address of one's choice", part),
    ("what is not there cannot be attached", refusals),
    ("freed while it is attached it is paid until it is detached", freed),
    ("withdrawn it is free at once", withdrawn),
    ("so many dataspaces, and no more", many),
    ("a managed dataspace shows what is in it, also in another one", nested),
    ("a map is in itself in no way", cycle),
    ("who faults in a managed dataspace waits until its handler has attached something", fault),
    ("what can be attached in the memory of a guest, and where", guests::attached),
    ("so many guests, and no more", guests::many),
    ("a guest runs in what is attached, and not in what is withdrawn", guests::runs),
];

fn text<E: Debug>(e: E) -> String {
    format!("{e:?}")
}

fn equal<T: PartialEq + Debug>(what: &str, is: T, wanted: T) -> Outcome {
    if is == wanted { Ok(()) } else { Err(format!("{what}: {is:?}, not {wanted:?}")) }
}

fn alloc(size: u64) -> Result<Cap<dyn Dataspace>, String> {
    pd().alloc(size).map_err(text)?.map_err(|e| e.to_string())
}

fn free(dataspace: Cap<dyn Dataspace>) -> Outcome {
    equal("free", pd().free(dataspace).map_err(text)?, Ok(()))
}

fn show(dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<Attached, String> {
    attach(dataspace, attr).map_err(|e| e.to_string())
}

fn used() -> Result<(u64, u64), String> {
    Ok((pd().ram().map_err(text)?.used, pd().caps().map_err(text)?.used))
}

fn ram() -> Outcome {
    let before = used()?;
    let dataspace = alloc(2 * PAGE)?;
    let object = DataspaceClient::new(Portal::to(dataspace));
    equal("size", object.size().map_err(text)?, 2 * PAGE)?;
    equal("writeable", object.writeable().map_err(text)?, true)?;
    equal("used", used()?, (before.0 + 2 * PAGE, before.1 + 1))?;
    let attached = show(dataspace, Attr::WRITE)?;
    equal("words that are not 0", attached.words().iter().filter(|w| w.load(SeqCst) != 0).count(), 0)?;
    attached.words().iter().for_each(|w| w.store(u64::MAX, SeqCst));
    drop(attached);
    free(dataspace)?;
    equal("used after it", used()?, before)?;
    equal("freed twice", matches!(pd().free(dataspace), Ok(Ok(()))), false)
}

fn exhaustion() -> Outcome {
    let account = pd().ram().map_err(text)?;
    let left = account.limit - account.used;
    let refused = pd().alloc(left + PAGE).map_err(text)?;
    equal("too much", refused.err(), Some(NoQuota { why: NoQuotaReason::Ram, asked: left + PAGE, free: left }))?;
    println!("refused: {}", NoQuota { why: NoQuotaReason::Ram, asked: left + PAGE, free: left });
    let all = alloc(left)?;
    let refused = pd().alloc(PAGE).map_err(text)?;
    equal("one page more", refused.err(), Some(NoQuota { why: NoQuotaReason::Ram, asked: PAGE, free: 0 }))?;
    free(all)?;
    equal("no page", pd().alloc(17).map_err(text)?.err().map(|e| e.why), Some(NoQuotaReason::Size))
}

fn alias() -> Outcome {
    let dataspace = alloc(PAGE)?;
    let (a, b) = (show(dataspace, Attr::WRITE)?, show(dataspace, Attr::READ)?);
    a.words()[7].store(77, SeqCst);
    equal("by the other one", b.words()[7].load(SeqCst), 77)?;
    free(dataspace)
}

fn part() -> Outcome {
    let dataspace = alloc(4 * PAGE)?;
    let whole = show(dataspace, Attr::WRITE)?;
    let at = whole.address() + 64 * PAGE;
    let second = show(dataspace, Attr { offset: PAGE, size: PAGE, ..Attr::READ.at(at) })?;
    whole.words()[PAGE as usize / 8].store(5, SeqCst);
    equal("where", (second.address(), second.words()[0].load(SeqCst)), (at, 5))?;
    free(dataspace)
}

fn refused(dataspace: Cap<dyn Dataspace>, attr: Attr, why: NotAttachedReason) -> Outcome {
    match attach(dataspace, attr) {
        Err(AttachError::Refused(e)) => equal(&e.to_string(), e.why, why),
        other => Err(format!("{other:?}, not {why:?}")),
    }
}

fn refusals() -> Outcome {
    let dataspace = alloc(2 * PAGE)?;
    let attached = show(dataspace, Attr::READ)?;
    refused(dataspace, Attr::READ.at(attached.address() + PAGE), NotAttachedReason::Taken)?;
    refused(dataspace, Attr::READ.at(0x40_0000), NotAttachedReason::Outside)?;
    refused(dataspace, Attr { offset: PAGE, size: 2 * PAGE, ..Attr::READ }, NotAttachedReason::Range)?;
    refused(dataspace, Attr { offset: 5, size: PAGE, ..Attr::READ }, NotAttachedReason::Pages)?;
    refused(dataspace, Attr { executable: true, ..Attr::WRITE }, NotAttachedReason::WriteExecute)?;
    equal("nothing there", rm().detach(attached.address() + PAGE).map_err(text)?, Err(NotThere::NotThere))?;
    drop(attached);
    free(dataspace)?;
    let gone = rm().attach(dataspace, Attr::READ);
    equal("a freed one is attached", matches!(gone, Ok(Ok(_))), false)
}

fn freed() -> Outcome {
    let before = used()?;
    let dataspace = alloc(PAGE)?;
    let attached = show(dataspace, Attr::WRITE)?;
    free(dataspace)?;
    attached.words()[0].store(3, SeqCst);
    equal("used", used()?, (before.0 + PAGE, before.1))?;
    drop(attached);
    equal("used after it", used()?, before)
}

fn withdrawn() -> Outcome {
    let before = used()?;
    let dataspace = alloc(PAGE)?;
    let attached = show(dataspace, Attr::WRITE)?;
    equal("withdraw", pd().withdraw(dataspace).map_err(text)?, Ok(()))?;
    equal("used", used()?, before)?;
    equal("detach", rm().detach(attached.address()).map_err(text)?, Err(NotThere::NotThere))
}

fn many() -> Outcome {
    let before = used()?;
    let mut all = Vec::new();
    let refusal = loop {
        match pd().alloc(PAGE).map_err(text)? {
            Ok(dataspace) => all.push(dataspace),
            Err(e) => break e,
        }
    };
    equal("refused", (refusal.why == NoQuotaReason::Size, refusal.free), (false, 0))?;
    all.into_iter().try_for_each(free)?;
    equal("used after it", used()?, before)
}

fn map(size: u64) -> Result<(RmClient<Portal>, Cap<dyn Dataspace>), String> {
    let (map, dataspace) = rm().create(size).map_err(text)?.map_err(|e| e.to_string())?;
    Ok((RmClient::new(Portal::to(map)), dataspace))
}

fn inside(map: &RmClient<Portal>, dataspace: Cap<dyn Dataspace>, at: u64) -> Outcome {
    let attached = map.attach(dataspace, Attr::WRITE.at(at)).map_err(text)?;
    equal("in the map", attached, Ok(at))
}

fn nested() -> Outcome {
    let before = used()?;
    let (ram, (outer, in_outer), (inner, in_inner)) = (alloc(PAGE)?, map(16 * PAGE)?, map(4 * PAGE)?);
    inside(&inner, ram, 2 * PAGE)?;
    inside(&outer, in_inner, 8 * PAGE)?;
    let (plain, managed) = (show(ram, Attr::WRITE)?, show(in_outer, Attr::READ)?);
    plain.words()[9].store(99, SeqCst);
    equal("by two maps", managed.words()[10 * 512 + 9].load(SeqCst), 99)?;
    drop((plain, managed));
    [in_outer, in_inner, ram].into_iter().try_for_each(free)?;
    equal("used after it", used()?, before)
}

fn cycle() -> Outcome {
    let ((a, in_a), (b, in_b)) = (map(32 * PAGE)?, map(8 * PAGE)?);
    inside(&a, in_b, 0)?;
    let refused = |m: &RmClient<Portal>, d| {
        m.attach(d, Attr { size: PAGE, ..Attr::READ }).map_err(text).map(|r| r.err().map(|e| e.why))
    };
    equal("in itself", refused(&a, in_a)?, Some(NotAttachedReason::Cycle))?;
    equal("in what is in it", refused(&b, in_a)?, Some(NotAttachedReason::Cycle))?;
    [in_a, in_b].into_iter().try_for_each(free)
}

fn fault() -> Outcome {
    let before = used()?;
    let (map, dataspace) = map(16 * PAGE)?;
    let seen = Arc::new(AtomicU64::new(0));
    let (handled, first) = (Arc::clone(&seen), rt::start_info().map_or(0, |i| i.cpu as u16));
    let point = Entrypoint::new(first, 64 << 10).map_err(text)?;
    let handler = move || {
        while let Ok(Some(fault)) = map.state() {
            let given = alloc(PAGE).and_then(|ram| inside(&map, ram, fault.offset).map(|()| ram)).and_then(free);
            let wrote = u64::from(fault.access == Access::Write);
            match given {
                Ok(()) => _ = handled.fetch_add(1 + (wrote << 32), SeqCst),
                Err(e) => println!("handler: {e}"),
            }
        }
    };
    let context = point.context(handler).map_err(text)?;
    map.fault_handler(context.signal()).map_err(text)?;
    let attached = Arc::new(show(dataspace, Attr::WRITE)?);
    // Plain stores: what an emulator makes of others may read first.
    for (page, value) in [(3, 4), (5, 5), (3, 6)] {
        attached.words()[page * 512].store(value, Relaxed);
    }
    let other = Arc::clone(&attached);
    let read = thread::spawn(move || other.words()[9 * 512].load(SeqCst)).join().map_err(|_| "another thread")?;
    equal("what is there", (attached.words()[3 * 512].load(SeqCst), read), (6, 0))?;
    drop(attached);
    free(dataspace)?;
    // After that the handler, which goes on when it has attached something, is done.
    drop(context);
    equal("faults: two to write, one to read", seen.load(SeqCst), (2 << 32) + 3)?;
    equal("used after it", used()?, before)
}

/// Does what it is to be stopped for.
fn misdeed(word: &str) -> Outcome {
    let ram = alloc(PAGE)?;
    let (map, dataspace) = map(4 * PAGE)?;
    match word {
        "read-only" => show(ram, Attr::READ)?.words()[0].store(1, SeqCst),
        "read-only view" => {
            inside(&map, ram, 0)?;
            show(dataspace, Attr::READ)?.words()[0].store(1, SeqCst);
        }
        "hole" => _ = show(dataspace, Attr::READ)?.words()[512].load(SeqCst),
        "withdrawn" => {
            let attached = show(ram, Attr::READ)?;
            equal("withdraw", pd().withdraw(ram).map_err(text)?, Ok(()))?;
            attached.words()[0].load(SeqCst);
        }
        "end" => {
            // As it is, with all that is attached, waiting in a fault that it handles itself, and does not.
            let first = rt::start_info().map_or(0, |i| i.cpu as u16);
            let point = Entrypoint::new(first, 64 << 10).map_err(text)?;
            let context = point.context(|| std::process::exit(3)).map_err(text)?;
            map.fault_handler(context.signal()).map_err(text)?;
            show(dataspace, Attr::READ)?.words()[0].load(SeqCst);
        }
        "refused" => {
            let first = rt::start_info().map_or(0, |i| i.cpu as u16);
            let point = Entrypoint::new(first, 64 << 10).map_err(text)?;
            let refuse = move || {
                while let Ok(Some(fault)) = map.state() {
                    println!("refuses {:#x}: {:?}", fault.offset, map.refuse(fault.offset));
                }
            };
            let context = point.context(refuse).map_err(text)?;
            map.fault_handler(context.signal()).map_err(text)?;
            show(dataspace, Attr::READ)?.words()[512].load(SeqCst);
        }
        _ => return Err(format!("`{word}` is no misdeed")),
    }
    Err(format!("`{word}` has no consequences"))
}

fn main() {
    let config = rt::rom("config").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    if let Some(word) = config.split('"').nth(1) {
        println!("{word}: {:?}", misdeed(word));
        return;
    }
    let mut failed = 0;
    for (name, check) in CHECKS {
        if let Err(e) = check() {
            println!("FAILED: {name}: {e}");
            failed += 1;
        }
    }
    println!("space: {} checks passed, {failed} failed", CHECKS.len() - failed);
    std::process::exit(i32::from(failed > 0));
}
