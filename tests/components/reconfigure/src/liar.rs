//! A parent that asks core for what it may not have. Afterwards its account is as it was.

use rpc::{Bytes, Cap};
use rt::Semaphore;
use rt::rpc::Portal;
use services::children::{Ended, How, LONGEST, MOST, NotStarted, PART, Refused};
use services::parent::Amount;
use services::{Children, ChildrenClient, Parent};
use std::fmt::Debug;

type Outcome = Result<(), String>;

fn core() -> ChildrenClient<Portal> {
    ChildrenClient::new(Portal::to(Cap::<dyn Children>::from_sel(parent::sel::CHILDREN_SESSION)))
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

fn done<T, E: Debug>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e:?}"))
}

fn amount(kib: u64, caps: u64) -> Amount {
    Amount { ram: kib << 10, caps }
}

fn describe(text: &[u8]) -> Result<(), String> {
    for part in text.chunks(PART) {
        done("describe", done("describe", core().describe(Bytes::new(part).ok_or("a long part")?))?)?;
    }
    Ok(())
}

/// Whatever can be called: nobody of these lives long enough to find out.
fn no_parent() -> Cap<dyn Parent> {
    Cap::from_sel(parent::sel::PD_SESSION)
}

fn next_end() -> Result<Ended, String> {
    loop {
        if let Some(ended) = done("ended", core().ended())? {
            return Ok(ended);
        }
        std::thread::sleep(super::LOOK);
    }
}

fn accounts(own: u64) -> Outcome {
    let core = core();
    let before = done("own account", done("own account", core.account(own))?)?;
    for other in [0, own.wrapping_sub(1), own + 1, u64::MAX] {
        equal("another's account", core.account(other), Ok(Err(Refused::Unknown)))?;
        equal("close it", core.close(other), Ok(Err(Refused::Unknown)))?;
        equal("grant it", core.grant(other, amount(4, 1)), Ok(Err(Refused::Unknown)))?;
        equal("reclaim of it", core.reclaim(other, amount(4, 1)), Ok(Err(Refused::Unknown)))?;
        equal("transfer from it", core.transfer(other, own, amount(4, 1)), Ok(Err(Refused::Unknown)))?;
        equal("transfer to it", core.transfer(own, other, amount(4, 1)), Ok(Err(Refused::Unknown)))?;
    }
    equal("close the own", core.close(own), Ok(Err(Refused::Unknown)))?;
    equal("grant the own", core.grant(own, amount(4, 1)), Ok(Err(Refused::Unknown)))?;
    equal("to itself", core.transfer(own, own, amount(4, 1)), Ok(Err(Refused::Unrelated)))?;
    equal("half a page", core.open(Amount { ram: 100, caps: 0 }), Ok(Err(Refused::Malformed)))?;
    equal("more than there is", core.open(amount(1 << 20, 0)), Ok(Err(Refused::ShortRam)))?;
    equal("more than there are", core.open(amount(0, 1 << 40)), Ok(Err(Refused::ShortCaps)))?;
    let child = done("open", done("open", core.open(amount(64, 4)))?)?;
    equal("reclaim too much", core.reclaim(child, amount(68, 0)), Ok(Err(Refused::ShortRam)))?;
    equal("reclaim", core.reclaim(child, amount(32, 0)), Ok(Ok(())))?;
    equal("grant", core.grant(child, amount(4, 1)), Ok(Ok(())))?;
    equal("transfer", core.transfer(own, child, amount(4, 1)), Ok(Ok(())))?;
    let figures = done("account", done("account", core.account(child))?)?;
    equal("granted", figures.granted, amount(36, 5))?;
    equal("limit", figures.limit, amount(40, 6))?;
    equal("close", core.close(child).map(|closed| closed.map(|c| c.quota)), Ok(Ok(amount(40, 6))))?;
    equal("twice", core.close(child), Ok(Err(Refused::Unknown)))?;
    let after = done("own account", done("own account", core.account(own))?)?;
    equal("all is back", (after.limit, after.used), (before.limit, before.used))
}

fn refused_starts(own: u64) -> Outcome {
    let core = core();
    equal("on the own account", core.start(own, no_parent()), Ok(Err(NotStarted::Account)))?;
    equal("on nobody's account", core.start(u64::MAX, no_parent()), Ok(Err(NotStarted::Account)))?;
    let part = Bytes::new(&[b' '; PART]).ok_or("a long part")?;
    (0..LONGEST / PART).try_for_each(|_| equal("a long description", core.describe(part), Ok(Ok(()))))?;
    equal("too long", core.describe(part), Ok(Err(NotStarted::Description)))?;
    describe(&[0xff])?;
    equal("no text", core.start(own, no_parent()), Ok(Err(NotStarted::Description)))
}

/// Each is described wrongly, and all is back when that is told.
fn bad_children(own: u64) -> Outcome {
    let core = core();
    let child =
        |tail: &str| format!("[[component]]\nname = \"x\"\nbinary = \"reconfigure-test\"\nram = \"1M\"\n{tail}\n");
    let long = "x".repeat(40_000);
    let cases = [
        String::new(),
        "[[[".into(),
        long,
        child(""),
        child("priority = 99"),
        child("priority = 1\ncpus = [127]"),
        child("priority = 1\nio_ports = [\"0x70\"]"),
        child("priority = 1\nirqs = [8]"),
        child("priority = 1\nkmem = \"1G\""),
        child("priority = 1\nroms = [\"nothing\"]"),
        child("priority = 1").replace("reconfigure-test", "nothing"),
        child("priority = 1").replace("1M", "64M"),
        // More than its account has.
        child("priority = 1\nkmem = \"256K\"").replace("1M", "2M"),
        child("priority = 1\nkmem = \"256K\"").repeat(2),
    ];
    let account = done("open", done("open", core.open(amount(1024, 200)))?)?;
    let before = done("account", done("account", core.account(own))?)?;
    for text in cases {
        describe(text.as_bytes())?;
        let number = done("start", done("start", core.start(account, no_parent()))?)?;
        equal(&text, next_end()?, Ended { child: number, how: How::NotStarted, code: 0 })?;
        let after = done("account", done("account", core.account(own))?)?;
        equal("paid for", (after.limit, after.used), (before.limit, before.used))?;
    }
    // Many that are stopped before, while and after they start; and numbers that nobody has.
    for round in 0..40u64 {
        describe(child("priority = 1\nkmem = \"256K\"\nconfig = { role = \"watch\", word = \"x\" }").as_bytes())?;
        let number = done("start", done("start", core.start(account, no_parent()))?)?;
        [0, 1, u64::MAX, number + 1].into_iter().for_each(|other| _ = core.stop(other));
        if round % 4 == 3 {
            std::thread::sleep(super::LOOK);
        }
        done("stop", core.stop(number))?;
    }
    std::thread::sleep(super::LOOK * 10);
    equal("no news of who was stopped", core.ended(), Ok(None))?;
    let after = done("account", done("account", core.account(own))?)?;
    equal("all is back", (after.limit, after.used), (before.limit, before.used))?;
    let closed = done("close", done("close", core.close(account))?)?;
    equal("closed", closed.quota, amount(1024, 200))?;
    let tiny = done("open", done("open", core.open(amount(0, 0)))?)?;
    let mut refused = 0;
    for _ in 0..2 * MOST {
        refused += usize::from(done("start", core.start(tiny, no_parent()))? == Err(NotStarted::TooMany));
    }
    let mut told = 0;
    let wait = Semaphore::new(0);
    while told + refused < 2 * MOST {
        told += usize::from(done("ended", core.ended())?.is_some());
        if told == 0 {
            wait.down_until(rt::time::tsc() + rt::time::tsc_from_ns(1_000_000));
        }
    }
    equal("bounded", refused > 0, true)?;
    done("close", done("close", core.close(tiny))?).map(drop)
}

/// Its last child is left running: it ends with its parent.
fn leave() -> Outcome {
    let text = "[[component]]\nname = \"orphan\"\nbinary = \"reconfigure-test\"\nram = \"1M\"\nkmem = \"256K\"\npriority = 1\n\
                config = { role = \"watch\", word = \"orphan\" }\n";
    let account = done("open", done("open", core().open(amount(1024, 200)))?)?;
    describe(text.as_bytes())?;
    done("start", done("start", core().start(account, no_parent()))?)?;
    std::thread::sleep(super::LOOK * 20);
    Ok(())
}

/// All of it.
pub fn main() -> Result<(), String> {
    let own = done("own", core().own())?;
    accounts(own)?;
    refused_starts(own)?;
    bad_children(own)?;
    leave()?;
    println!("children: all checks passed");
    Ok(())
}
