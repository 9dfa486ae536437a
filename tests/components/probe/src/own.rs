//! What a component has: selectors, and a parent that gives scheduling contexts.

use crate::scene::call;
use abi::Sel;
use parent::Call;
pub use parent::sel;

/// Has the parent give an EC a scheduling context.
pub fn start(ec: Sel, sc: Sel, lower: u64) -> Result<(), String> {
    let mut words = [0; abi::UTCB_WORDS];
    let n = Call::StartThread { ec, sc, lower }.encode(&mut words);
    match call(sel::parent(rt::thread::cpu()), &words[..n], false) {
        Ok(r) if r.first() == Some(&0) => Ok(()),
        other => Err(format!("parent refused a scheduling context: {other:?}")),
    }
}
