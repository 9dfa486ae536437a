//! Random operations on a few ECs, SCs, portals and semaphores, against a naive model.

mod model;
mod stories;
mod world;

use ipc::{Cont, Next, Way};
use model::{Doing, Model, Outcome, Stand};
use proptest::prelude::*;
use world::{Ec, Witness, World};

/// Those of the current EC do nothing if there is none. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// The current EC calls a portal.
    Call(usize),
    /// It raises an event.
    Event(usize),
    Reply,
    /// It replies to an event with the end of who has raised it.
    Refuse,
    Down(usize),
    /// Also from another CPU.
    Up(usize),
    /// Whoever is released runs at once, if it may.
    UpToRun(usize),
    Tick,
    EndEc(usize),
    DropEc(usize),
    CreateEc(bool),
    EndSc(usize),
    CreateSc(usize, u8),
    EndPortal(usize),
    DropPortal(usize),
    CreatePortal(usize),
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..12usize;
    prop_oneof![
        30 => n.clone().prop_map(Op::Call),
        8 => n.clone().prop_map(Op::Event),
        12 => Just(Op::Reply),
        3 => Just(Op::Refuse),
        8 => (0..2usize).prop_map(Op::Down),
        4 => (0..2usize).prop_map(Op::Up),
        4 => (0..2usize).prop_map(Op::UpToRun),
        12 => Just(Op::Tick),
        5 => n.clone().prop_map(Op::EndEc),
        3 => n.clone().prop_map(Op::DropEc),
        3 => any::<bool>().prop_map(Op::CreateEc),
        3 => n.clone().prop_map(Op::EndSc),
        6 => (n.clone(), 1..4u8).prop_map(|(e, p)| Op::CreateSc(e, p)),
        4 => n.clone().prop_map(Op::EndPortal),
        3 => n.clone().prop_map(Op::DropPortal),
        6 => n.prop_map(Op::CreatePortal),
        4 => Just(Op::Reclaim),
    ]
}

/// Both worlds.
struct Both {
    world: &'static World,
    model: Model,
}

impl Witness for Model {
    fn called(&mut self, ec: usize, portal: usize, event: bool, way: Option<Way<Ec>>) {
        let was = match way {
            None => Outcome::NoPortal,
            Some(Way::Free) => Outcome::Entered,
            Some(Way::Busy(end)) => Outcome::Helps(end.id),
            Some(Way::Circle | Way::Dead) => Outcome::Aborted,
        };
        assert_eq!(was, self.call(ec, portal, event), "EC {ec} calls portal {portal}");
    }
}

impl Both {
    /// Three threads, the last the most urgent, and three handlers, 3 to 5, with two portals each: 0 and 1 to 3, and so on.
    fn new() -> Both {
        let mut b = Both { world: World::create(), model: Model::default() };
        for n in 0..6 {
            b.create_ec(n >= 3);
        }
        for n in 0..3 {
            b.create_sc(n, 1 + n as u8);
        }
        for n in 0..6 {
            b.create_portal(3 + n / 2);
        }
        b.go(Next::Resched);
        b
    }

    fn create_ec(&mut self, local: bool) {
        self.world.create_ec(local);
        let doing = if local { Doing::Receives } else { Doing::Works };
        self.model.ecs.push(model::Ec { doing, serves: None, by: usize::MAX, blocked: false, aborted: 0 });
    }

    fn usable(&self, ec: usize) -> bool {
        self.world.ec(ec).count.get() > 0
    }

    fn create_sc(&mut self, ec: usize, prio: u8) {
        let bound = self.model.scs.iter().any(|s| s.alive && s.owner == ec);
        if !self.world.ec(ec).local && self.usable(ec) && !bound {
            let alive = self.model.ecs[ec].doing != Doing::Dead;
            self.model.scs.push(model::Sc { owner: ec, heir: None, alive });
            self.world.create_sc(ec, prio);
        }
    }

    fn create_portal(&mut self, ec: usize) {
        if self.world.ec(ec).local && self.usable(ec) {
            self.world.create_portal(ec);
            self.model.portals.push(model::Portal { ec, alive: true });
        }
    }

    fn run(&mut self, op: Op) {
        let (w, m) = (self.world, &mut self.model);
        let (ecs, scs, portals) = (m.ecs.len(), m.scs.len(), m.portals.len());
        let current = w.current.get();
        let mut next = None;
        match (op, current) {
            (Op::Call(p), Some(ec)) => next = Some(w.call(ec, p % portals, false, m)),
            (Op::Event(p), Some(ec)) => next = Some(w.call(ec, p % portals, true, m)),
            (Op::Reply, Some(ec)) if ec.local => {
                m.reply(ec.id);
                next = Some(w.reply(ec));
            }
            (Op::Refuse, Some(ec)) if m.serves_event(ec.id) => {
                let caller = m.ecs[ec.id].serves;
                m.reply(ec.id);
                caller.into_iter().for_each(|c| m.end(c));
                next = Some(w.refuse(ec));
            }
            (Op::Down(s), Some(ec)) => {
                m.ecs[ec.id].blocked = true;
                w.down(ec, s);
            }
            (Op::Up(s), _) => {
                if let Some((ec, _)) = w.up(s, false) {
                    m.ecs[ec.id].blocked = false;
                }
            }
            (Op::UpToRun(s), _) => {
                if let Some((ec, runs)) = w.up(s, true) {
                    m.ecs[ec.id].blocked = false;
                    if runs {
                        self.go(Next::Run(ec));
                        assert_eq!(w.current.get().map(|e| e.id), Some(ec.id), "who was to run at once");
                        return;
                    }
                }
            }
            (Op::Tick, _) => w.cpu.turn_over.set(true),
            (Op::EndEc(e), _) => {
                m.end(e % ecs);
                w.end_ec(e % ecs);
            }
            (Op::DropEc(e), _) => w.drop_ec(e % ecs),
            (Op::CreateEc(local), _) => self.create_ec(local),
            (Op::EndSc(s), _) => {
                m.end_sc(s % scs);
                w.end_sc(s % scs);
            }
            (Op::CreateSc(e, prio), _) => self.create_sc(e % ecs, prio),
            (Op::EndPortal(p), _) => {
                if m.portals[p % portals].alive {
                    m.end_portal(p % portals);
                }
                w.end_portal(p % portals);
            }
            (Op::DropPortal(p), _) => {
                m.drop_portal(p % portals);
                w.drop_portal(p % portals);
            }
            (Op::CreatePortal(e), _) => self.create_portal(e % ecs),
            (Op::Reclaim, _) => {
                w.reclaim();
                for ec in w.ecs.borrow().iter().filter(|e| e.freed.get()) {
                    m.end(ec.id);
                }
                if w.current.get().is_none() {
                    next = Some(w.cpu.next());
                }
            }
            _ => {}
        }
        let next = next.unwrap_or_else(|| w.interrupted());
        self.go(next);
    }

    fn go(&mut self, next: Next<Ec>) {
        let reached = self.world.go(next, &mut self.model);
        self.check(reached);
    }

    fn check(&self, reached: bool) {
        self.check_ecs();
        self.check_scs();
        self.check_choice(reached);
    }

    /// Links are those of the model, in both directions, and lead to nobody who is freed.
    fn check_ecs(&self) {
        for (e, m) in self.world.ecs.borrow().iter().zip(&self.model.ecs) {
            let (s, id) = (&e.ipc, e.id);
            assert_eq!(s.caller.get().map(|c| c.id), m.serves, "whom {id} serves");
            assert_eq!(s.chain.get().map(|c| c.id), self.model.payer(id).filter(|_| !s.dead()), "who pays for {id}");
            assert_eq!(e.aborted.get(), m.aborted, "how often {id} was aborted");
            assert_eq!(s.blocked(), m.blocked, "whether {id} is blocked");
            let doing = match (s.cont.get(), m.doing) {
                (Cont::Receive, Doing::Receives) | (Cont::Dead, Doing::Dead) | (Cont::Reply, Doing::Waits { .. }) => {
                    true
                }
                (Cont::Call, Doing::Wants { event, .. }) => !event,
                (Cont::Event, Doing::Wants { event, .. }) => event,
                (Cont::Sysret | Cont::Startup, Doing::Works) => true,
                _ => false,
            };
            assert!(
                doing || e.freed.get() && m.doing == Doing::Dead,
                "{id} is in {:?}, and should be in {:?}",
                s.cont.get(),
                m.doing
            );
            assert_eq!(s.callee.get().map(|c| c.id), self.model.server(id), "who serves {id}");
            let linked = [s.caller.get(), s.callee.get()].into_iter().flatten();
            assert!(!e.freed.get() || linked.clone().count() == 0, "{id} was freed in the middle of a call");
            linked.for_each(|l| assert!(!l.freed.get(), "{id} refers to {}, which is freed", l.id));
        }
    }

    /// Each SC has its place: in the ready queue, paying, or parked at whom it would run, but in one only.
    fn check_scs(&self) {
        for (id, (s, m)) in self.world.scs.borrow().iter().zip(&self.model.scs).enumerate() {
            assert!(!m.alive || !s.freed.get(), "SC {id} is freed");
            if s.freed.get() {
                continue;
            }
            let p = &s.ipc;
            let pays = self.world.cpu.payer().is_some_and(|c| c.id == id);
            let places = [p.link.queued() && p.parked().is_none(), pays, p.parked().is_some()];
            assert_eq!(places.iter().filter(|in_it| **in_it).count(), usize::from(m.alive), "SC {id}: {places:?}");
            assert_eq!(p.is_active(), m.alive);
            assert!(!p.leaf().freed.get(), "SC {id} runs {}, which is freed", p.leaf().id);
            if m.alive {
                assert_eq!(Some(p.leaf().id), self.model.leaf(id), "whom SC {id} runs");
            }
            if let Some(at) = p.parked() {
                let stand = self.model.stand(id);
                let right = [Some(Stand::Blocked(at.id)), Some(Stand::InVain)].contains(&stand);
                assert!(right, "SC {id} is parked at {}: {stand:?}", at.id);
            }
            let helps = p.parked().is_some_and(|at| at.id != p.leaf().id);
            assert!(p.parked().is_none() || p.link.queued() == helps, "SC {id} among the helpers");
        }
    }

    /// Who is in user mode is whom the SC that pays has to run, and nobody more urgent is ready.
    fn check_choice(&self, reached: bool) {
        let (w, scs) = (self.world, self.world.scs.borrow());
        let ready = || scs.iter().filter(|s| s.ipc.link.queued() && s.ipc.parked().is_none());
        match (w.current.get(), w.cpu.payer()) {
            (Some(ec), Some(sc)) => {
                let stand = self.model.stand(sc.id);
                let right = [Some(Stand::Runs(ec.id)), Some(Stand::InVain)].contains(&stand);
                assert!(right, "SC {} runs {}: {stand:?}", sc.id, ec.id);
                assert!(ready().all(|r| r.ipc.prio <= sc.ipc.prio), "somebody more urgent is ready");
            }
            (None, None) => assert_eq!(ready().count(), 0, "idle, and somebody is ready"),
            (current, payer) => {
                assert!(!reached && current.is_none(), "{:?}, {:?}", current.map(|e| e.id), payer.map(|s| s.id));
                let first = ready().map(|r| r.ipc.prio).chain(payer.map(|p| p.ipc.prio)).max();
                let circle = |s: &&&world::Sc| self.model.stand(s.id) == Some(Stand::Circle);
                let all = ready().chain(payer.as_ref()).filter(|s| Some(s.ipc.prio) == first);
                assert_eq!(all.clone().filter(circle).count(), all.count(), "no user mode, and no circle");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn transitions_are_those_of_the_model(ops in prop::collection::vec(op(), 1..80)) {
        let mut b = Both::new();
        ops.into_iter().for_each(|op| b.run(op));
    }
}
