//! Accounts that are used up.

use crate::check::{Outcome, done, equal, holds, refused};
use crate::own::sel;
use crate::scene::{Slot, copy};
use abi::{SEL_NUM, Sel, Status};
use rt::hypercall as hc;

/// What creates an object reports that the owner's account has no frame for it (`MEM_OBJ`), and that there is none for
/// the slot (`MEM_CAP`). `f`: slot and owner to the status.
pub fn create(f: impl Fn(Sel, Sel) -> Result<(), Status>) -> Outcome {
    let (one, all, s) = (Slot::new(), Slot::new(), Slot::new());
    done("create_account", hc::create_account(one.0, sel::PD, 1))?;
    // Its frame is cells of semaphores, all of them in use.
    let mut sms = Vec::new();
    let full = loop {
        let sm = Slot::new();
        match hc::create_sm(sm.0, one.0, 0) {
            Ok(()) => sms.push(sm),
            Err(e) => break e,
        }
    };
    equal("semaphores", full, Status::MemObj)?;
    refused("an object", f(s.0, one.0), Status::MemObj)?;
    drop(sms);
    done("the slot stayed null", hc::create_sm(s.0, sel::PD, 0))?;
    // All that our own account has not used.
    let (limit, used) = done("read_quota", hc::read_quota(sel::PD))?;
    let given = (0..8).find(|n| hc::create_account(all.0, sel::PD, limit - used - n).is_ok());
    let far = SEL_NUM / 2 + 0x200;
    let r = f(far, all.0);
    drop(all);
    holds("our account gave what it had", given.is_some())?;
    refused("a slot where no other is", r, Status::MemCap)?;
    done("the slot stayed null", hc::create_sm(far, sel::PD, 0))?;
    done("revoke", copy(far, far, 0))
}
