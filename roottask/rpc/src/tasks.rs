//! Futures of an entry point: a table of fixed size, polled by one thread when somebody has woken them.
//!
//! Whoever polls takes a future out of the table first, as it may start others or end itself. Wakers come from any thread; the
//! first wake-up of a future since it was last taken calls `notify`, which is to have the thread look.
//!
//! Key types: [`Tasks`], [`Key`], [`Event`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use atomic_waker::AtomicWaker;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::{Poll, Waker};

/// A future in the table.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    index: usize,
    /// Of all that there ever were.
    number: u64,
}

/// There is no room for this one.
pub struct Full(pub Job);

impl core::fmt::Debug for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Full")
    }
}

enum State {
    Free,
    Waits(Job),
    /// Somebody polls it.
    Out,
    /// The same, and it is not wanted any more.
    Unwanted,
}

struct Slot {
    state: State,
    number: u64,
    waker: Waker,
}

/// Who has to be polled, a bit each.
struct Ready<N> {
    bits: AtomicU64,
    notify: N,
}

impl<N: Fn()> Ready<N> {
    fn wake(&self, index: usize) {
        let bit = 1 << index;
        if self.bits.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            (self.notify)();
        }
    }
}

/// Wakes what is in a slot. If that is another one by then, it is polled for nothing.
struct Bell<N> {
    index: usize,
    ready: Arc<Ready<N>>,
}

impl<N: Fn() + Send + Sync + 'static> Wake for Bell<N> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.wake(self.index);
    }
}

/// The table.
pub struct Tasks<N> {
    slots: Vec<Slot>,
    ready: Arc<Ready<N>>,
    most: usize,
    /// Number of the next one.
    next: u64,
}

impl<N: Fn() + Send + Sync + 'static> Tasks<N> {
    /// Most that there can be in a table.
    pub const MOST: usize = u64::BITS as usize;

    /// One for at most `most`, no more than [`Tasks::MOST`].
    pub fn new(most: usize, notify: N) -> Tasks<N> {
        let ready = Arc::new(Ready { bits: AtomicU64::new(0), notify });
        Tasks { slots: Vec::new(), ready, most: most.min(Self::MOST), next: 0 }
    }

    /// Puts a future in, to be polled soon.
    pub fn start(&mut self, job: Job) -> Result<Key, Full> {
        let free = self.slots.iter().position(|s| matches!(s.state, State::Free));
        let index = free.unwrap_or(self.slots.len());
        if index == self.most {
            return Err(Full(job));
        }
        let number = self.next;
        self.next += 1;
        match self.slots.get_mut(index) {
            Some(slot) => (slot.state, slot.number) = (State::Waits(job), number),
            None => {
                let waker = Arc::new(Bell { index, ready: self.ready.clone() }).into();
                self.slots.push(Slot { state: State::Waits(job), number, waker });
            }
        }
        self.ready.wake(index);
        Ok(Key { index, number })
    }

    /// The slots of all that were woken since the last time.
    pub fn woken(&self) -> impl Iterator<Item = usize> + use<N> {
        let bits = self.ready.bits.swap(0, Ordering::AcqRel);
        (0..Self::MOST).filter(move |i| bits >> i & 1 != 0)
    }

    /// Takes the future out of a slot, to be polled with that waker; then it has to be [put back](Tasks::put_back).
    pub fn take(&mut self, index: usize) -> Option<(Job, Waker)> {
        let slot = self.slots.get_mut(index)?;
        match core::mem::replace(&mut slot.state, State::Out) {
            State::Waits(job) => Some((job, slot.waker.clone())),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Puts a future back that was polled; what comes back is to be dropped. `over`: it has ended.
    pub fn put_back(&mut self, index: usize, job: Job, over: bool) -> Option<Job> {
        let Some(slot) = self.slots.get_mut(index) else { return Some(job) };
        if over || matches!(slot.state, State::Unwanted) {
            slot.state = State::Free;
            return Some(job);
        }
        slot.state = State::Waits(job);
        None
    }

    /// A future is not wanted any more; what comes back is to be dropped. Nothing, if it has ended, or will be dropped when it
    /// is put back.
    pub fn stop(&mut self, key: Key) -> Option<Job> {
        let slot = self.slots.get_mut(key.index).filter(|s| s.number == key.number)?;
        match core::mem::replace(&mut slot.state, State::Free) {
            State::Waits(job) => return Some(job),
            State::Free => {}
            State::Out | State::Unwanted => slot.state = State::Unwanted,
        }
        None
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.iter().filter(|s| !matches!(s.state, State::Free)).count()
    }
}

/// Something that one future waits for, and anybody raises. All that were raised since it last went on are one.
#[derive(Debug, Default)]
pub struct Event {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Event {
    /// Raises it.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Waits until it is raised, if it is not. Of two futures that wait at a time one may wait for ever.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|cx| {
            if self.raised.swap(false, Ordering::Acquire) {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            // Or whoever raised it before that would have woken nobody.
            if self.raised.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use core::task::Context;
    use proptest::prelude::*;
    use std::sync::Mutex;

    type Table = Tasks<Box<dyn Fn() + Send + Sync>>;

    /// A table, and how often it wanted to be looked at.
    fn table(most: usize) -> (Table, Arc<AtomicUsize>) {
        let count = Arc::<AtomicUsize>::default();
        let notified = count.clone();
        (Tasks::new(most, Box::new(move || _ = notified.fetch_add(1, Ordering::SeqCst))), count)
    }

    /// Polls all that were woken, once; how many.
    fn look(tasks: &mut Table) -> usize {
        let mut polled = 0;
        for index in tasks.woken() {
            let Some((mut job, waker)) = tasks.take(index) else { continue };
            let over = job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            drop(tasks.put_back(index, job, over));
            polled += 1;
        }
        polled
    }

    /// Says when it is dropped.
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waits(event: &Arc<Event>, seen: &Arc<AtomicUsize>) -> Job {
        let (event, seen) = (event.clone(), seen.clone());
        Box::pin(async move {
            loop {
                event.wait().await;
                seen.fetch_add(1, Ordering::SeqCst);
            }
        })
    }

    #[test]
    fn what_is_raised_before_the_first_poll_is_seen() {
        let (mut t, notified) = table(2);
        let (event, seen) = (Arc::<Event>::default(), Arc::<AtomicUsize>::default());
        event.raise();
        t.start(waits(&event, &seen)).unwrap();
        event.raise();
        assert_eq!((look(&mut t), seen.load(Ordering::SeqCst)), (1, 1));
        assert_eq!((look(&mut t), notified.load(Ordering::SeqCst)), (0, 1));
        event.raise();
        event.raise();
        assert_eq!(notified.load(Ordering::SeqCst), 2, "once for both");
        assert_eq!((look(&mut t), seen.load(Ordering::SeqCst)), (1, 2));
    }

    #[test]
    fn a_full_table_refuses_and_has_room_again() {
        let (mut t, _) = table(2);
        let (event, seen) = (Arc::<Event>::default(), Arc::<AtomicUsize>::default());
        let first = t.start(waits(&event, &seen)).unwrap();
        t.start(Box::pin(async {})).unwrap();
        assert!(t.start(Box::pin(async {})).is_err());
        assert_eq!((look(&mut t), t.count()), (2, 1));
        let again = t.start(Box::pin(async {})).unwrap();
        assert!(t.start(Box::pin(async {})).is_err());
        drop(t.stop(first));
        assert!(t.stop(again).is_some());
        assert_eq!(t.count(), 0);
        assert!(t.stop(again).is_none() && t.stop(first).is_none(), "what has ended cannot be stopped");
    }

    #[test]
    fn a_table_has_64_at_most() {
        let (mut t, _) = table(1000);
        assert!((0..Table::MOST).all(|_| t.start(Box::pin(core::future::pending())).is_ok()));
        assert!(t.start(Box::pin(async {})).is_err());
        assert_eq!((look(&mut t), t.count()), (64, 64));
    }

    #[test]
    fn keys_are_not_those_of_the_next_in_the_slot() {
        let (mut t, _) = table(1);
        let old = t.start(Box::pin(async {})).unwrap();
        look(&mut t);
        t.start(Box::pin(core::future::pending())).unwrap();
        assert!(t.stop(old).is_none());
        assert_eq!(t.count(), 1);
    }

    #[test]
    fn futures_are_dropped_with_their_key_with_the_table_and_when_they_end() {
        let dropped = Arc::<AtomicUsize>::default();
        let (mut t, _) = table(3);
        let job = |ends: bool| -> Job {
            let guard = Guard(dropped.clone());
            Box::pin(async move {
                let _guard = guard;
                if !ends {
                    core::future::pending::<()>().await;
                }
            })
        };
        let key = t.start(job(false)).unwrap();
        t.start(job(true)).unwrap();
        t.start(job(false)).unwrap();
        look(&mut t);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        drop(t.stop(key));
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        drop(t);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn who_is_stopped_while_polled_is_dropped_when_put_back() {
        let dropped = Arc::<AtomicUsize>::default();
        let (mut t, _) = table(1);
        let guard = Guard(dropped.clone());
        let key = t
            .start(Box::pin(async move {
                std::future::pending::<()>().await;
                drop(guard)
            }))
            .unwrap();
        let index = t.woken().next().unwrap();
        let (job, _waker) = t.take(index).unwrap();
        assert!(t.take(index).is_none(), "it is out");
        assert!(t.stop(key).is_none() && t.stop(key).is_none());
        assert!(t.start(Box::pin(async {})).is_err(), "its slot is in use");
        assert!(t.put_back(index, job, false).is_some());
        assert_eq!((t.count(), dropped.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn a_waker_that_outlives_its_future_and_the_table_does_no_harm() {
        let (mut t, notified) = table(1);
        let kept = Arc::new(Mutex::new(None));
        let keeps = kept.clone();
        t.start(Box::pin(poll_fn(move |cx| {
            *keeps.lock().unwrap() = Some(cx.waker().clone());
            Poll::Ready(())
        })))
        .unwrap();
        look(&mut t);
        let waker = kept.lock().unwrap().take().unwrap();
        waker.wake_by_ref();
        assert_eq!((look(&mut t), notified.load(Ordering::SeqCst)), (0, 2), "nobody is there");
        let seen = Arc::<AtomicUsize>::default();
        t.start(waits(&Arc::default(), &seen)).unwrap();
        look(&mut t);
        waker.wake_by_ref();
        assert_eq!((look(&mut t), seen.load(Ordering::SeqCst)), (1, 0), "polled for nothing");
        drop(t);
        waker.wake();
    }

    #[test]
    fn who_wakes_itself_is_polled_once_a_look() {
        let (mut t, _) = table(2);
        t.start(Box::pin(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })))
        .unwrap();
        assert_eq!((look(&mut t), look(&mut t)), (1, 1));
    }

    #[test]
    fn no_wake_up_of_another_thread_is_lost() {
        const EACH: usize = 20_000;
        let woken = Arc::new((Mutex::new(0), std::sync::Condvar::new()));
        let notifies = woken.clone();
        let notify: Box<dyn Fn() + Send + Sync> = Box::new(move || {
            *notifies.0.lock().unwrap() += 1;
            notifies.1.notify_one();
        });
        let mut t = Tasks::new(4, notify);
        // Each event is answered, and raised again when it was.
        let pairs: Vec<_> = (0..4).map(|_| (Arc::<Event>::default(), Arc::<AtomicUsize>::default())).collect();
        for (event, seen) in &pairs {
            t.start(waits(event, seen)).unwrap();
        }
        std::thread::scope(|s| {
            for (event, seen) in &pairs {
                s.spawn(move || {
                    for n in 0..EACH {
                        event.raise();
                        while seen.load(Ordering::SeqCst) <= n {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            while pairs.iter().any(|(_, seen)| seen.load(Ordering::SeqCst) < EACH) {
                let count = woken.0.lock().unwrap();
                let late = std::time::Duration::from_secs(20);
                let (mut count, late) = woken.1.wait_timeout_while(count, late, |n| *n == 0).unwrap();
                assert!(!late.timed_out(), "a lost wake-up");
                *count = 0;
                drop(count);
                look(&mut t);
            }
        });
    }

    proptest! {
        /// Whatever comes in which order, the table is never wrong about how many there are, and all are dropped.
        #[test]
        fn nothing_is_lost(most in 1usize..6, steps in prop::collection::vec((0u8..4, 0usize..8), 1..100)) {
            let (dropped, seen) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            let events: Vec<Arc<Event>> = (0..8).map(|_| Arc::default()).collect();
            let (mut t, _) = table(most);
            let (mut live, mut started) = (Vec::<(Key, usize)>::new(), 0);
            for (what, n) in steps {
                match what {
                    0 => {
                        let (guard, event, seen) = (Guard(dropped.clone()), events[n].clone(), seen.clone());
                        let job = Box::pin(async move {
                            event.wait().await;
                            seen.fetch_add(1, Ordering::SeqCst);
                            drop(guard);
                        });
                        started += 1;
                        match t.start(job) {
                            Ok(key) => live.push((key, n)),
                            Err(_) => prop_assert_eq!(live.len(), most),
                        }
                    }
                    1 => events[n].raise(),
                    2 if n < live.len() => prop_assert!(t.stop(live.swap_remove(n).0).is_some()),
                    _ => {
                        let before = seen.load(Ordering::SeqCst);
                        look(&mut t);
                        let ended = seen.load(Ordering::SeqCst) - before;
                        let left = t.count();
                        prop_assert_eq!(live.len() - ended, left);
                        live.retain(|(key, _)| t.slots[key.index].number == key.number
                            && !matches!(t.slots[key.index].state, State::Free));
                    }
                }
                prop_assert_eq!((t.count(), dropped.load(Ordering::SeqCst)), (live.len(), started - live.len()));
            }
            drop(t);
            prop_assert_eq!(dropped.load(Ordering::SeqCst), started);
        }
    }
}
