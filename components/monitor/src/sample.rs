//! What runs, at one time.
//!
//! Key types: [`Sample`]; [`Source`], where it comes from.

use services::trace::{Client, Component, NO_PARENT};
use std::collections::BTreeMap;

/// Most components that are looked at.
pub const MAX_COMPONENTS: usize = 256;
/// Most CPUs that are looked at.
pub const MAX_CPUS: u16 = 128;
/// Most sessions that are looked at, of all components.
pub const MAX_SESSIONS: usize = 1024;

/// See above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken, in ns since the machine was started.
    pub at_ns: u64,
    /// How long each CPU was idle, in ns.
    pub idle_ns: Vec<u64>,
    /// By number.
    pub components: BTreeMap<u32, Component>,
    /// By the number of their client and their own.
    pub sessions: BTreeMap<(u32, u64), Client>,
    /// There are more than could be looked at.
    pub cut: bool,
}

/// Where samples come from: [`services::Trace`] as a client has it.
pub trait Source<E> {
    /// See [`services::Trace::now_ns`].
    fn now_ns(&self) -> Result<u64, E>;
    /// See [`services::Trace::idle_ns`].
    fn idle_ns(&self, cpu: u16) -> Result<Option<u64>, E>;
    /// See [`services::Trace::component`].
    fn component(&self, from: u32) -> Result<Option<Component>, E>;
    /// See [`services::Trace::session`].
    fn session(&self, component: u32, from: u64) -> Result<Option<Client>, E>;
}

impl<P: rpc::Port> Source<rpc::Error> for services::TraceClient<P> {
    fn now_ns(&self) -> Result<u64, rpc::Error> {
        Self::now_ns(self)
    }
    fn idle_ns(&self, cpu: u16) -> Result<Option<u64>, rpc::Error> {
        Self::idle_ns(self, cpu)
    }
    fn component(&self, from: u32) -> Result<Option<Component>, rpc::Error> {
        Self::component(self, from)
    }
    fn session(&self, component: u32, from: u64) -> Result<Option<Client>, rpc::Error> {
        Self::session(self, component, from)
    }
}

impl Sample {
    /// Takes one, with sessions if they are wanted. Who serves may answer anything: what does not lead on ends a list, and
    /// what is too much is left out.
    pub fn take<E>(from: &impl Source<E>, sessions: bool) -> Result<Sample, E> {
        let mut sample = Sample { at_ns: from.now_ns()?, ..Sample::default() };
        for cpu in 0..MAX_CPUS {
            let Some(ns) = from.idle_ns(cpu)? else { break };
            sample.idle_ns.push(ns);
        }
        let mut next = Some(0);
        while let Some(at) = next {
            let Some(component) = from.component(at)?.filter(|c| c.id >= at) else { break };
            if sample.components.len() == MAX_COMPONENTS {
                sample.cut = true;
                break;
            }
            next = component.id.checked_add(1);
            if sessions && component.sessions > 0 {
                sample.take_sessions(from, component.id)?;
            }
            sample.components.insert(component.id, component);
        }
        Ok(sample)
    }

    fn take_sessions<E>(&mut self, from: &impl Source<E>, of: u32) -> Result<(), E> {
        let mut next = Some(0);
        while let Some(at) = next {
            let Some(session) = from.session(of, at)?.filter(|s| s.id >= at) else { break };
            if self.sessions.len() == MAX_SESSIONS {
                self.cut = true;
                break;
            }
            next = session.id.checked_add(1);
            self.sessions.insert((of, session.id), session);
        }
        Ok(())
    }

    /// Components with their depth in the tree, parents before their children, in the order of their numbers. Who says that
    /// his parent is one that is not there, or came after him, is at the top.
    pub(crate) fn tree(&self) -> Vec<(usize, &Component)> {
        let mut children: BTreeMap<u32, Vec<&Component>> = BTreeMap::new();
        for c in self.components.values() {
            let known = c.parent < c.id && self.components.contains_key(&c.parent);
            children.entry(if known { c.parent } else { NO_PARENT }).or_default().push(c);
        }
        let mut below = |depth, parent| {
            let all = children.remove(&parent).unwrap_or_default();
            all.into_iter().rev().map(move |c| (depth, c))
        };
        let mut stack: Vec<_> = below(0, NO_PARENT).collect();
        let mut out = Vec::new();
        while let Some((depth, c)) = stack.pop() {
            out.push((depth, c));
            if c.id != NO_PARENT {
                stack.extend(below(depth + 1, c.id));
            }
        }
        out
    }

    /// Thousandths of a CPU that a component has used since `before`.
    pub(crate) fn per_mille(&self, before: &Sample, id: u32) -> u64 {
        let Some(now) = self.components.get(&id) else { return 0 };
        // A component that was started anew begins with 0.
        let then = before.components.get(&id).filter(|c| c.life == now.life).map_or(0, |c| c.cpu_ns);
        share(now.cpu_ns.saturating_sub(then), self.at_ns.saturating_sub(before.at_ns))
    }

    /// Thousandths of the time since `before` that a CPU was not idle.
    pub(crate) fn busy_per_mille(&self, before: &Sample, cpu: usize) -> u64 {
        let passed = self.at_ns.saturating_sub(before.at_ns);
        let (Some(now), Some(then)) = (self.idle_ns.get(cpu), before.idle_ns.get(cpu)) else { return 0 };
        if passed == 0 { 0 } else { 1000 - share(now.saturating_sub(*then), passed).min(1000) }
    }
}

fn share(part: u64, of: u64) -> u64 {
    let share = u128::from(part) * 1000 / u128::from(of.max(1));
    if of == 0 { 0 } else { u64::try_from(share).unwrap_or(u64::MAX) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rpc::Text;
    use services::pd::Account;
    use services::trace::State;
    use std::cell::Cell;

    /// A component with that much CPU time in ms.
    pub(crate) fn component(id: u32, parent: u32, name: &str, cpu_ms: u64) -> Component {
        Component {
            id,
            parent,
            name: Text::new(name).unwrap(),
            state: State::Running,
            life: 1,
            cpu_ns: cpu_ms * 1_000_000,
            ram: Account { limit: 1 << 20, used: 900 << 10, peak: 1000 << 10 },
            caps: Account { limit: 100, used: 20, peak: 30 },
            kmem: Account { limit: 1 << 20, used: 40 << 10, peak: 40 << 10 },
            sessions: 0,
        }
    }

    pub(crate) fn sample(at_ms: u64, idle_ms: &[u64], components: &[Component]) -> Sample {
        Sample {
            at_ns: at_ms * 1_000_000,
            idle_ns: idle_ms.iter().map(|ms| ms * 1_000_000).collect(),
            components: components.iter().map(|c| (c.id, c.clone())).collect(),
            ..Sample::default()
        }
    }

    /// Answers from a sample; one that lies gives the first of all for ever.
    struct Server {
        all: Sample,
        lies: bool,
        calls: Cell<usize>,
    }

    fn server(all: Sample, lies: bool) -> Server {
        Server { all, lies, calls: Cell::new(0) }
    }

    impl Source<()> for Server {
        fn now_ns(&self) -> Result<u64, ()> {
            Ok(self.all.at_ns)
        }
        fn idle_ns(&self, cpu: u16) -> Result<Option<u64>, ()> {
            Ok(if self.lies { Some(1) } else { self.all.idle_ns.get(usize::from(cpu)).copied() })
        }
        fn component(&self, from: u32) -> Result<Option<Component>, ()> {
            self.calls.set(self.calls.get() + 1);
            let from = if self.lies { 0 } else { from };
            Ok(self.all.components.range(from..).next().map(|(_, c)| c.clone()))
        }
        fn session(&self, component: u32, from: u64) -> Result<Option<Client>, ()> {
            self.calls.set(self.calls.get() + 1);
            let from = if self.lies { 0 } else { from };
            Ok(self.all.sessions.range((component, from)..=(component, u64::MAX)).next().map(|(_, s)| s.clone()))
        }
    }

    fn with_sessions() -> Sample {
        let mut s = sample(5, &[1, 2], &[component(1, NO_PARENT, "a", 1), component(u32::MAX, 1, "b", 2)]);
        for (of, id) in [(1, 0), (1, 7), (u32::MAX, u64::MAX)] {
            let (service, label) = (Text::new("log").unwrap(), Text::new("a").unwrap());
            s.sessions.insert((of, id), Client { id, service, label, server: 1, ram: 4096, caps: 2 });
            s.components.get_mut(&of).unwrap().sessions += 1;
        }
        s
    }

    #[test]
    fn a_sample_is_what_the_server_has() {
        let all = with_sessions();
        assert_eq!(Sample::take(&server(all.clone(), false), true), Ok(all.clone()));
        let without = Sample::take(&server(all.clone(), false), false).unwrap();
        assert_eq!((without.components, without.sessions.len()), (all.components, 0));
    }

    #[test]
    fn a_server_that_lies_does_not_keep_us() {
        let liar = server(with_sessions(), true);
        let s = Sample::take(&liar, true).unwrap();
        assert_eq!((s.components.len(), s.idle_ns.len()), (1, usize::from(MAX_CPUS)));
        assert!(liar.calls.get() < 10);
        let many: Vec<_> = (0..300).map(|id| component(id, NO_PARENT, "x", 0)).collect();
        let s = Sample::take(&server(sample(0, &[], &many), false), true).unwrap();
        assert_eq!((s.components.len(), s.cut), (MAX_COMPONENTS, true));
    }

    #[test]
    fn sessions_are_bounded() {
        let mut all = with_sessions();
        let one = all.sessions[&(1, 0)].clone();
        all.sessions.extend((0..2000).map(|id| ((1, id), Client { id, ..one.clone() })));
        let s = Sample::take(&server(all, false), true).unwrap();
        assert_eq!((s.sessions.len(), s.cut), (MAX_SESSIONS, true));
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let before = sample(1000, &[0, 500], &[component(1, NO_PARENT, "a", 100)]);
        let mut now = sample(3000, &[500, 2500], &[component(1, NO_PARENT, "a", 600), component(2, 1, "b", 1000)]);
        assert_eq!((now.per_mille(&before, 1), now.per_mille(&before, 2)), (250, 500));
        assert_eq!((now.busy_per_mille(&before, 0), now.busy_per_mille(&before, 1)), (750, 0));
        now.components.get_mut(&1).unwrap().life = 2;
        assert_eq!(now.per_mille(&before, 1), 300, "started anew");
        assert_eq!((now.per_mille(&before, 9), now.busy_per_mille(&before, 9)), (0, 0));
        assert_eq!((now.per_mille(&now, 1), now.busy_per_mille(&now, 0)), (0, 0), "no time has passed");
    }

    proptest! {
        #[test]
        fn everybody_is_in_the_tree_once(parents in prop::collection::vec(prop_oneof![0u32..12, Just(NO_PARENT)], 0..12)) {
            let all: Vec<_> = parents.iter().zip(0..).map(|(&p, id)| component(id, p, "x", 0)).collect();
            let s = sample(0, &[], &all);
            let tree = s.tree();
            for (at, (depth, c)) in tree.iter().enumerate() {
                let parent = tree[..at].iter().rev().find(|(d, _)| d < depth);
                prop_assert!(*depth == 0 || parent.is_some_and(|(d, p)| d + 1 == *depth && p.id == c.parent));
            }
            let mut ids: Vec<_> = tree.iter().map(|(_, c)| c.id).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..all.len() as u32).collect::<Vec<_>>());
        }
    }
}
