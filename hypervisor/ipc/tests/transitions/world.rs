//! A kernel without hardware: objects with counts, portals whose keys are used again, semaphores, and the way out.

use ipc::{Cont, Cpu, Ec as _, Expect, Next, Payer, Queued, State, Step, Way};
use sched::{Link, Node};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Steps until interrupts are let in, as in the kernel.
const MAX_STEPS: usize = 64;

pub struct Ec {
    pub id: usize,
    pub local: bool,
    pub ipc: State<Ec>,
    pub count: Cell<u32>,
    pub freed: Cell<bool>,
    /// Nothing counts on it, but somebody is linked to it.
    kept: Cell<bool>,
    pub aborted: Cell<u32>,
    /// The portal that it wants to call (again).
    wants: Cell<usize>,
    sm: Cell<Option<usize>>,
}

/// A counted reference to an EC.
pub struct Ref(&'static Ec);

impl Ref {
    fn to(ec: &'static Ec) -> Ref {
        ec.count.set(ec.count.get() + 1);
        Ref(ec)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        lose(self.0);
    }
}

fn lose(ec: &'static Ec) {
    ec.count.set(ec.count.get().checked_sub(1).expect("a count is given up twice"));
    if ec.count.get() == 0 {
        world().dead.borrow_mut().push(ec);
    }
}

pub struct Sc {
    pub id: usize,
    pub ipc: Payer<Sc>,
    count: Cell<u32>,
    pub freed: Cell<bool>,
}

/// A counted reference to an SC.
pub struct ScRef(&'static Sc);

impl ScRef {
    fn to(sc: &'static Sc) -> ScRef {
        sc.count.set(sc.count.get() + 1);
        ScRef(sc)
    }
}

impl Drop for ScRef {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.freed.set(true);
            lose(Ec::found(&self.0.ipc.ec));
        }
    }
}

impl Node<Queued> for Sc {
    fn link(&self) -> &Link<Sc> {
        &self.ipc.link
    }
}

impl ipc::Ec for Ec {
    type Sc = Sc;
    type Ref = Ref;
    type Tag = [u8; 4];

    fn cpu() -> &'static Cpu<Ec> {
        &world().cpu
    }

    fn ipc(&self) -> &State<Ec> {
        assert!(!self.freed.get(), "EC {} is freed, and used", self.id);
        &self.ipc
    }

    fn found(counted: &Ref) -> &'static Ec {
        counted.0
    }

    fn unlinked(&'static self) {
        if self.kept.get() && !self.ipc().linked() {
            self.kept.set(false);
            world().dead.borrow_mut().push(self);
        }
    }

    fn abort(&'static self) {
        self.aborted.set(self.aborted.get() + 1);
    }

    fn leave(&'static self) {
        if let Some(sm) = self.sm.take() {
            world().sms[sm].borrow_mut().retain(|e| e.id != self.id);
        }
    }
}

impl ipc::Sc for Sc {
    type Ec = Ec;
    type Ref = ScRef;

    fn ipc(&self) -> &Payer<Sc> {
        assert!(!self.freed.get(), "SC {} is freed, and used", self.id);
        &self.ipc
    }

    fn switch(from: Option<&'static Sc>, to: Option<&'static Sc>) {
        let before = world().clock.replace(to.map(|s| s.id));
        assert_eq!(before, from.map(|s| s.id), "time is charged to somebody else");
    }
}

/// A portal; its key is its place in `cells`.
pub struct Portal {
    /// Until it is gone.
    ec: RefCell<Option<Ref>>,
    key: usize,
}

pub struct World {
    pub cpu: Cpu<Ec>,
    pub ecs: RefCell<Vec<&'static Ec>>,
    /// Capabilities to ECs and SCs.
    caps: RefCell<Vec<Option<Ref>>>,
    pub scs: RefCell<Vec<&'static Sc>>,
    sc_caps: RefCell<Vec<Option<ScRef>>>,
    pub portals: RefCell<Vec<&'static Portal>>,
    cells: RefCell<Vec<bool>>,
    sms: [RefCell<VecDeque<&'static Ec>>; 2],
    dead: RefCell<Vec<&'static Ec>>,
    /// Who is in user mode.
    pub current: Cell<Option<&'static Ec>>,
    clock: Cell<Option<usize>>,
    at_once: Cell<bool>,
}

thread_local! {
    static WORLD: Cell<Option<&'static World>> = const { Cell::new(None) };
}

/// That of the test that runs.
pub fn world() -> &'static World {
    WORLD.get().expect("no world")
}

/// Hears of what the kernel tries on its own account.
pub trait Witness {
    /// `ec` has called a portal, for the first time or again; `None`: there is none.
    fn called(&mut self, ec: usize, portal: usize, event: bool, way: Option<Way<Ec>>);
}

impl World {
    /// An empty one.
    pub fn create() -> &'static World {
        let w = Box::leak(Box::new(World {
            cpu: Cpu::new(),
            ecs: RefCell::default(),
            caps: RefCell::default(),
            scs: RefCell::default(),
            sc_caps: RefCell::default(),
            portals: RefCell::default(),
            cells: RefCell::new(vec![true]),
            sms: Default::default(),
            dead: RefCell::default(),
            current: Cell::new(None),
            clock: Cell::new(None),
            at_once: Cell::new(false),
        }));
        WORLD.set(Some(w));
        w
    }

    pub fn ec(&self, id: usize) -> &'static Ec {
        self.ecs.borrow()[id]
    }

    pub fn create_ec(&self, local: bool) {
        let ec: &'static Ec = Box::leak(Box::new(Ec {
            id: self.ecs.borrow().len(),
            local,
            ipc: State::new(if local { Cont::Receive } else { Cont::Startup }, [0; 4]),
            count: Cell::new(0),
            freed: Cell::new(false),
            kept: Cell::new(false),
            aborted: Cell::new(0),
            wants: Cell::new(0),
            sm: Cell::new(None),
        }));
        self.ecs.borrow_mut().push(ec);
        self.caps.borrow_mut().push(Some(Ref::to(ec)));
    }

    pub fn create_sc(&self, ec: usize, prio: u8) {
        let ipc = Payer::new(Ref::to(self.ec(ec)), prio);
        let id = self.scs.borrow().len();
        let sc: &'static Sc = Box::leak(Box::new(Sc { id, ipc, count: Cell::new(0), freed: Cell::new(false) }));
        self.scs.borrow_mut().push(sc);
        self.sc_caps.borrow_mut().push(Some(ScRef::to(sc)));
        sc.ipc.activate(ScRef::to(sc));
        ipc::start(sc);
    }

    pub fn create_portal(&self, ec: usize) {
        let mut cells = self.cells.borrow_mut();
        let key = cells.iter().position(|used| !used).unwrap_or(cells.len());
        let len = cells.len().max(key + 1);
        cells.resize(len, false);
        cells[key] = true;
        let ec = RefCell::new(Some(Ref::to(self.ec(ec))));
        self.portals.borrow_mut().push(Box::leak(Box::new(Portal { ec, key })));
    }

    /// The last capability to a portal goes.
    pub fn drop_portal(&self, portal: usize) {
        let p = self.portals.borrow()[portal];
        if let Some(ec) = p.ec.take() {
            Ec::found(&ec).ipc().forget_entrance(p.key);
            self.cells.borrow_mut()[p.key] = false;
        }
    }

    pub fn end_portal(&self, portal: usize) {
        let p = self.portals.borrow()[portal];
        let ec = p.ec.borrow().as_ref().map(Ec::found);
        if let Some(ec) = ec {
            ipc::expel(ec, p.key);
        }
        self.drop_portal(portal);
    }

    /// Capabilities to an EC go.
    pub fn drop_ec(&self, ec: usize) {
        let cap = self.caps.borrow_mut()[ec].take();
        drop(cap);
    }

    pub fn end_ec(&self, ec: usize) {
        if !self.ec(ec).freed.get() {
            ipc::end(self.ec(ec));
        }
        self.drop_ec(ec);
    }

    pub fn end_sc(&self, sc: usize) {
        let s = self.scs.borrow()[sc];
        if !s.freed.get() && s.ipc.is_active() {
            ipc::stop(s);
        }
        let cap = self.sc_caps.borrow_mut()[sc].take();
        drop(cap);
    }

    /// Frees ECs that nothing counts on.
    pub fn reclaim(&self) {
        for ec in self.dead.take() {
            if ec.ipc.linked() {
                ec.kept.set(true);
                continue;
            }
            if ec.ipc.blocked() {
                ipc::end(ec);
            }
            ec.freed.set(true);
        }
        // Who ran and is freed does not go on.
        self.current.set(self.current.get().filter(|e| !e.freed.get()));
    }

    /// `ec`, the current one, blocks.
    pub fn down(&self, ec: &'static Ec, sm: usize) {
        ec.ipc.block();
        ec.sm.set(Some(sm));
        self.sms[sm].borrow_mut().push_back(ec);
    }

    /// Releases the first in a queue; whether it is to run next.
    pub fn up(&self, sm: usize, at_once: bool) -> Option<(&'static Ec, bool)> {
        let ec = self.sms[sm].borrow_mut().pop_front()?;
        ec.sm.set(None);
        let current = self.current.get().filter(|e| at_once && self.pays_for(e));
        let runs = current.is_some_and(|current| ipc::unblock_to_run(ec, current));
        assert!(runs || ipc::unblock(ec), "EC {} was in a queue and not blocked", ec.id);
        Some((ec, runs))
    }

    /// `ec` calls a portal, or raises an event.
    pub fn call(&self, ec: &'static Ec, portal: usize, event: bool, witness: &mut dyn Witness) -> Next<Ec> {
        ec.wants.set(portal);
        let p = self.portals.borrow()[portal];
        let callee = p.ec.borrow().as_ref().map(Ec::found);
        let way = callee.map(|c| ipc::way(ec, c));
        let next = match (&way, callee) {
            (Some(Way::Free), Some(callee)) => {
                let expect = if event { Expect::State(Cont::Sysret) } else { Expect::Words };
                if self.pays_for(ec) && self.at_once() {
                    ipc::enter_at_once(ec, callee, p.key, expect);
                    ipc::is_leaf(callee);
                    Next::Run(callee)
                } else {
                    ec.ipc.expect.set(expect);
                    ipc::enter(ec, callee, p.key)
                }
            }
            (Some(Way::Busy(end)), _) => {
                ec.ipc.cont.set(if event { Cont::Event } else { Cont::Call });
                Next::Run(*end)
            }
            _ if event => {
                ipc::end(ec);
                self.cpu.next()
            }
            (Some(_), _) => {
                ec.abort();
                ipc::give_up(ec)
            }
            (None, _) => ipc::give_up(ec),
        };
        witness.called(ec.id, portal, event, way);
        next
    }

    /// Whether the SC of its chain pays.
    fn pays_for(&self, ec: &Ec) -> bool {
        let (payer, chain) = (self.cpu.payer(), ec.ipc.chain.get());
        payer.is_some() && payer.map(|s| s as *const Sc) == chain.map(|s| s as *const Sc)
    }

    /// Each second time: whether to go the way of a kernel that has compared before.
    fn at_once(&self) -> bool {
        !self.at_once.replace(!self.at_once.get())
    }

    /// `ec` replies.
    pub fn reply(&self, ec: &'static Ec) -> Next<Ec> {
        if let Some(caller) = ec.ipc.caller.get().filter(|_| self.pays_for(ec) && !ec.kept.get() && self.at_once()) {
            ipc::return_at_once(ec, caller, Cont::Sysret);
            ipc::is_leaf(caller);
            return Next::Run(caller);
        }
        match ipc::reply(ec) {
            Some(caller) => ipc::resume(caller, Cont::Sysret),
            None => Next::Resched,
        }
    }

    /// `ec` replies to an event with the end of who has raised it.
    pub fn refuse(&self, ec: &'static Ec) -> Next<Ec> {
        ipc::reply(ec).into_iter().for_each(ipc::refuse);
        self.cpu.next()
    }

    /// The way out. `false`: nobody gets to user mode, as all that are ready help in circles.
    pub fn go(&self, mut next: Next<Ec>, witness: &mut dyn Witness) -> bool {
        self.current.set(None);
        for step in 1..MAX_STEPS * (2 + self.scs.borrow().len()) {
            if step % MAX_STEPS == 0 {
                self.cpu.turn_over.set(true);
                self.cpu.requeue();
                next = Next::Resched;
            }
            next = match ipc::step(next) {
                Step::Then(next) => next,
                Step::Idle => return true,
                Step::Do(ec, Cont::Call) => self.call(ec, ec.wants.get(), false, witness),
                Step::Do(ec, Cont::Event) => self.call(ec, ec.wants.get(), true, witness),
                Step::Do(ec, _) => {
                    ec.ipc().cont.set(Cont::Sysret);
                    self.current.set(Some(ec));
                    return true;
                }
            };
        }
        false
    }

    /// As at an interrupt.
    pub fn interrupted(&self) -> Next<Ec> {
        self.current.get().map_or(Next::Resched, Next::Run)
    }
}
