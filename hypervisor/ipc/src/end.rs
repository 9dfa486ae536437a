//! Ends: of ECs in whatever state, and of what they are entered by. Who waits for a reply is told.

use crate::payer::{pay, retire};
use crate::{Cont, Ec, Expect, resume, unblock};

/// Ends `ec`. Whoever waits for its reply is aborted; that may end others in turn.
pub fn end<E: Ec>(ec: &'static E) {
    let mut dying = Some(ec);
    while let Some(ec) = dying.filter(|e| !e.ipc().dead()) {
        let s = ec.ipc();
        ec.leave();
        unblock(ec);
        s.cont.set(Cont::Dead);
        let (payer, handler) = (s.chain.take(), s.callee.take());
        if let Some(h) = handler {
            h.ipc().caller.take();
        }
        // A lent SC is the caller's. If there is none it is that of a client that has died, as is its own one.
        match (payer.filter(|_| s.caller.get().is_none()), handler) {
            // Who works for it finishes that with the SC, and so holds no lock for ever; then the SC ends.
            (Some(_), Some(_)) | (None, None) => {}
            (Some(sc), None) => retire(sc),
            // Whoever needs the handler next pays.
            (None, Some(h)) => {
                pay(h, None);
                h.unlinked();
            }
        }
        dying = disappoint(ec);
        ec.unlinked();
    }
    E::cpu().look_again();
}

/// Ends an EC to which [`reply`](crate::reply) has led.
pub fn refuse<E: Ec>(ec: &'static E) {
    ec.ipc().callee.take();
    end(ec);
}

/// What `handler` can be entered by is destroyed: who has come by it is aborted, and the handler goes on for nobody.
pub fn expel<E: Ec>(handler: &'static E, entrance: usize) {
    let h = handler.ipc();
    if h.entrance.get() == entrance && h.caller.get().is_some() {
        let dying = disappoint(handler);
        pay(handler, None);
        handler.unlinked();
        if let Some(ec) = dying {
            end(ec);
        }
    }
    E::cpu().look_again();
}

/// Who waits for the reply of `handler` gets none. Returns it if it cannot go on without.
fn disappoint<E: Ec>(handler: &'static E) -> Option<&'static E> {
    let caller = handler.ipc().caller.take()?;
    match caller.ipc().expect.get() {
        Expect::State(_) => {
            caller.ipc().callee.take();
            Some(caller)
        }
        Expect::Words | Expect::Registers => {
            caller.abort();
            // Who runs next is decided by whoever has brought this about.
            let _ = resume(caller, Cont::Sysret);
            None
        }
    }
}
