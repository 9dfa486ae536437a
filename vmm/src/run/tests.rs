//! Transitions one by one, then all interleavings of a vCPU's handler with others that change its life.

use std::collections::HashSet;

use super::*;

const IRQ: Option<Pending> = Some(Pending::Interrupt(0x30));

fn running() -> Run {
    let mut run = Run::new(true);
    assert_eq!(run.next(None), Next::Enter(Entry::Boot, true));
    run
}

#[test]
fn bootstrap_and_application_processors_start_differently() {
    assert!(!Run::new(true).is_undisturbed() && running().is_undisturbed());
    let mut ap = Run::new(false);
    assert_eq!((ap.next(IRQ), ap.kick(IRQ)), (Next::Block, Kick::None));
    ap.startup(7);
    assert_eq!((ap.kick(None), ap.kick(None)), (Kick::Wake, Kick::None));
    assert_eq!(ap.next(None), Next::Enter(Entry::Startup(7), true));
    assert!(ap.is_undisturbed());
}

#[test]
fn startup_ipis_mean_something_only_to_those_who_wait() {
    for change in [|_: &mut Run| (), |run: &mut Run| run.halt(true, true), |run: &mut Run| run.park()] {
        let mut run = running();
        change(&mut run);
        let before = run.clone();
        run.startup(7);
        assert_eq!(run, before);
    }
}

#[test]
fn the_last_startup_ipi_before_an_init_is_forgotten() {
    let mut run = running();
    run.init();
    run.startup(7);
    run.startup(8);
    assert_eq!(run.clone().next(None), Next::Enter(Entry::Startup(7), false), "the first counts");
    run.init();
    assert_eq!(run.next(None), Next::Block);
}

#[test]
fn windows_spare_recalls_for_what_they_are_about() {
    let mut run = running();
    run.set_windows(inject::INTERRUPT_WINDOW);
    assert_eq!((run.kick(IRQ), run.kick(None), run.kick(Some(Pending::Nmi))), (Kick::None, Kick::None, Kick::Recall));
    let mut run = running();
    run.set_windows(inject::NMI_WINDOW);
    assert_eq!(run.kick(Some(Pending::Nmi)), Kick::None);
    run.init();
    assert_eq!(run.kick(None), Kick::Recall, "an INIT waits for nothing");
    run.startup(1);
    run.next(None);
    run.recalled();
    assert_eq!(run.kick(Some(Pending::Nmi)), Kick::Recall, "the windows are gone");
}

#[test]
fn what_ends_a_halt() {
    for (interrupts, nmis, pending, due) in [
        (true, true, None, false),
        (true, true, IRQ, true),
        (false, true, IRQ, false),
        (false, true, Some(Pending::Nmi), true),
        (true, false, Some(Pending::Nmi), false),
    ] {
        let mut run = running();
        run.halt(interrupts, nmis);
        assert_eq!(run.is_stuck(pending), !interrupts && !due);
        assert_eq!(run.next(None), Next::Block);
        assert_eq!(run.kick(pending) == Kick::Wake, due);
        assert_eq!(run.next(pending), if due { Next::Go } else { Next::Block });
    }
}

/// Where the vCPU or its handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Guest,
    /// Between an exit and the lock.
    Exit(Why),
    /// At the semaphore.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    Recall,
    Window,
    Halt,
    Device,
    Woken,
}

/// What a guest executes, one at a time.
#[derive(Clone, Copy, Debug)]
enum Op {
    Nop,
    Cli,
    Sti,
    Halt,
    Device,
}

/// What another thread does under the lock.
#[derive(Clone, Copy, Debug)]
enum Act {
    Interrupt,
    Init,
    Startup,
    /// As an interrupt, but nobody is told: shows that the search finds what is lost.
    Forget,
}

/// The vCPU's side, the kernel's, and how far the others are.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    run: Run,
    at: At,
    pc: usize,
    interrupts_on: bool,
    pending: u8,
    taken: u8,
    started: u8,
    /// The kernel's: a window asked for, a recall pending, the semaphore's counter.
    window: bool,
    recall: bool,
    semaphore: u8,
    /// Steps that each of the others has made, and what it has still to tell the vCPU.
    others: Vec<(usize, Option<Kick>)>,
}

impl World {
    fn new(run: Run, others: usize) -> World {
        World {
            run,
            at: At::Exit(Why::Woken),
            pc: 0,
            interrupts_on: true,
            pending: 0,
            taken: 0,
            started: 0,
            window: false,
            recall: false,
            semaphore: 0,
            others: vec![(0, None); others],
        }
    }

    fn offered(&self) -> Option<Pending> {
        (self.pending > 0).then_some(Pending::Interrupt(0x30))
    }

    /// The vCPU's next step; `None` if it cannot make one, or just goes on in the guest for ever.
    fn vcpu(&self, program: &[Op]) -> Option<World> {
        let mut w = self.clone();
        match w.at {
            At::Guest if w.recall => (w.recall, w.at) = (false, At::Exit(Why::Recall)),
            At::Guest if w.window && w.interrupts_on => w.at = At::Exit(Why::Window),
            At::Guest => {
                match program.get(w.pc)? {
                    Op::Nop => {}
                    Op::Cli => w.interrupts_on = false,
                    Op::Sti => w.interrupts_on = true,
                    Op::Halt => w.at = At::Exit(Why::Halt),
                    Op::Device => w.at = At::Exit(Why::Device),
                }
                w.pc += 1;
            }
            At::Exit(why) => w.decide(why),
            At::Down if w.semaphore > 0 => (w.semaphore, w.at) = (w.semaphore - 1, At::Exit(Why::Woken)),
            At::Down => return None,
        }
        Some(w)
    }

    /// The handler with the lock: as `exit::Vcpu` does it.
    fn decide(&mut self, why: Why) {
        if why == Why::Recall {
            self.run.recalled();
        }
        if why == Why::Halt {
            self.run.halt(self.interrupts_on, true);
        }
        self.at = At::Guest;
        if why != Why::Woken && self.run.is_undisturbed() {
            return self.inject();
        }
        match self.run.next(self.offered()) {
            Next::Go => self.inject(),
            Next::Enter(..) => {
                (self.started, self.pc, self.interrupts_on) = (self.started + 1, 0, false);
                self.inject();
            }
            Next::Block => self.at = At::Down,
        }
    }

    fn inject(&mut self) {
        if self.pending > 0 && self.interrupts_on {
            (self.pending, self.taken) = (self.pending - 1, self.taken + 1);
        }
        self.window = self.pending > 0;
        self.run.set_windows(if self.window { inject::INTERRUPT_WINDOW } else { 0 });
    }

    /// The next step of another thread: under the lock, or what that asked for.
    fn other(&self, index: usize, acts: &[Act]) -> Option<World> {
        let mut w = self.clone();
        let (done, kick) = w.others[index];
        w.others[index] = match kick {
            Some(kick) => {
                match kick {
                    Kick::None => {}
                    Kick::Wake => w.semaphore += 1,
                    Kick::Recall => w.recall = true,
                }
                (done, None)
            }
            None => {
                let act = acts.get(done)?;
                match act {
                    Act::Interrupt | Act::Forget => w.pending += 1,
                    Act::Init => w.run.init(),
                    Act::Startup => w.run.startup(1),
                }
                let kick = if matches!(act, Act::Forget) { Kick::None } else { w.run.kick(w.offered()) };
                (done + 1, Some(kick))
            }
        };
        Some(w)
    }
}

/// All states in which nobody can make a step any more.
fn outcomes(first: World, program: &[Op], others: &[&[Act]]) -> Vec<World> {
    let (mut seen, mut open, mut ends) = (HashSet::new(), vec![first], Vec::new());
    while let Some(w) = open.pop() {
        if !seen.insert(w.clone()) {
            continue;
        }
        let steps = others.iter().enumerate().filter_map(|(i, acts)| w.other(i, acts));
        let next: Vec<World> = w.vcpu(program).into_iter().chain(steps).collect();
        if next.is_empty() {
            ends.push(w);
        }
        open.extend(next);
    }
    ends
}

const PROGRAMS: [&[Op]; 6] = [
    &[],
    &[Op::Halt],
    &[Op::Nop, Op::Halt, Op::Device, Op::Halt],
    &[Op::Cli, Op::Nop, Op::Sti, Op::Halt],
    &[Op::Cli, Op::Device, Op::Sti, Op::Nop],
    &[Op::Device, Op::Cli, Op::Halt],
];

#[test]
fn no_interrupt_is_lost() {
    let twice: &[Act] = &[Act::Interrupt, Act::Interrupt];
    for program in PROGRAMS {
        for others in [&[twice][..], &[twice, &[Act::Interrupt]], &[twice, twice]] {
            let sent = others.iter().map(|acts| acts.len() as u8).sum::<u8>();
            let ends = outcomes(World::new(running(), others.len()), program, others);
            assert!(!ends.is_empty());
            for w in ends {
                assert_eq!(w.semaphore, 0, "an up without a down");
                assert!(!w.interrupts_on || w.taken == sent, "{program:?}: {} of {sent} taken at {:?}", w.taken, w.at);
            }
        }
    }
}

#[test]
fn the_search_finds_an_interrupt_that_nobody_was_told_about() {
    for program in [PROGRAMS[0], PROGRAMS[1]] {
        let ends = outcomes(World::new(running(), 1), program, &[&[Act::Forget]]);
        assert!(ends.iter().any(|w| w.taken == 0));
    }
}

#[test]
fn a_processor_is_started_whenever_the_ipi_comes() {
    let start: &[Act] = &[Act::Init, Act::Startup, Act::Startup];
    for w in outcomes(World::new(Run::new(false), 1), &[Op::Sti, Op::Halt], &[start]) {
        assert_eq!((w.started, w.at, w.semaphore), (1, At::Down, 0));
    }
    for w in outcomes(World::new(Run::new(false), 2), &[Op::Sti, Op::Halt], &[start, &[Act::Interrupt]]) {
        assert_eq!((w.started, w.taken, w.semaphore), (1, 1, 0));
    }
}

#[test]
fn a_processor_that_is_stopped_and_started_again_starts_again() {
    let again: &[Act] = &[Act::Init, Act::Startup];
    for program in PROGRAMS {
        for w in outcomes(World::new(running(), 2), program, &[again, &[Act::Interrupt]]) {
            assert_eq!((w.started, w.semaphore), (1, 0), "{program:?}: stopped for good at {:?}", w.at);
        }
        for w in outcomes(World::new(running(), 1), program, &[&[Act::Init]]) {
            assert_eq!((w.started, w.at), (0, At::Down), "{program:?}: it waits for its start-up IPI");
        }
    }
}
