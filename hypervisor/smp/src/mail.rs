//! Mailboxes: what others have for one CPU, and the interrupt that says that there is mail.

use crate::sync::{Mutex, const_fn};

/// A box of items of some collection.
#[derive(Debug)]
pub struct Mailbox<T>(Mutex<Mail<T>>);

#[derive(Debug)]
struct Mail<T> {
    /// An interrupt is on its way: who puts something in need not send another.
    notified: bool,
    items: T,
}

impl<T> Mailbox<T> {
    const_fn! {
        /// With nothing but the empty collection.
        pub fn new(items: T) -> Self {
            Mailbox(Mutex::new(Mail { notified: false, items }))
        }
    }

    /// Puts something in. `true`: the owner has to be interrupted.
    #[must_use = "without the interrupt the mail is not read"]
    pub fn post(&self, put: impl FnOnce(&mut T)) -> bool {
        let mut mail = self.0.lock();
        put(&mut mail.items);
        !core::mem::replace(&mut mail.notified, true)
    }

    /// Takes something out, on the interrupt. What is left in the box stays until the next.
    pub fn open<R>(&self, take: impl FnOnce(&mut T) -> R) -> R {
        let mut mail = self.0.lock();
        mail.notified = false;
        take(&mut mail.items)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Posts (`true`) and openings: nothing is lost, the order is kept, and there is an interrupt for each batch.
        #[test]
        fn one_interrupt_for_each_batch(steps in prop::collection::vec(any::<bool>(), 0..100)) {
            let (mail, mut sent) = (Mailbox::new(Vec::new()), Vec::new());
            for (i, post) in steps.into_iter().enumerate() {
                if post {
                    prop_assert_eq!(mail.post(|v| v.push(i)), sent.is_empty());
                    sent.push(i);
                } else {
                    prop_assert_eq!(mail.open(std::mem::take), std::mem::take(&mut sent));
                }
            }
        }
    }
}
