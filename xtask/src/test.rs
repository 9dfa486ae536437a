//! `cargo xtask test`: host tests, checks of the images, and systems in emulators.

use crate::build::{self, Flavour};
use crate::cost::{Budget, Spent};
use crate::failure::{self, Failure};
use crate::iso::Module;
use crate::matrix::Matrix;
use crate::platform::{self, Emulator, Platform, Presence};
use crate::scenario::{self, Scenario};
use crate::system::System;
use crate::trial::{self, Kit, Left};
use crate::{guest, host, packages, suite};
use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only tests in emulators and of images whose name contains this, and no host tests. "host": only these.
    filter: Option<String>,
    /// List the tests of images and in emulators.
    #[arg(long)]
    list: bool,
    /// Emulators at a time; the number of CPUs if not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// What came of a test.
struct Outcome {
    name: String,
    time: Duration,
    /// Why it failed, if it did.
    cause: Option<String>,
    /// Of a scenario: itself, and what the machine left.
    machine: Option<(Scenario, Left)>,
}

impl Outcome {
    fn passed(&self) -> bool {
        self.cause.is_none()
    }

    fn failure(&self) -> Option<Failure> {
        let log = self.machine.as_ref().map_or(vec![], |(_, left)| left.end.clone());
        Some(Failure { name: self.name.clone(), cause: self.cause.clone()?, log })
    }
}

/// What the tests that have ended leave for the report, and the first tries of those that needed a second one.
type Outcomes = (Arc<Mutex<Vec<Outcome>>>, Arc<Mutex<Vec<Failure>>>);

/// Fails if any test failed.
pub fn main(args: &Args) -> Result<ExitCode> {
    if args.list {
        list(&scenario::all()?).iter().for_each(|(name, about)| println!("{name:<44} {about}"));
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let (host, prepared) = match args.filter.as_deref() {
        None => side_by_side(host::run, || Some(prepare(args))),
        Some("host") => (host::run(), None),
        Some(_) => (Ok(vec![]), Some(prepare(args))),
    };
    let mut failed = host?;
    let (images, second_tries) = prepared.map_or(Ok(Ended::default()), |p| p?.run(args))?;
    failed.extend(images);
    println!("all of it took {:.0} s", began.elapsed().as_secs_f32());
    failure::lines(&failed, &second_tries).iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::from(u8::from(!failed.is_empty())))
}

/// Tests that failed, and the first tries of those that needed a second one.
type Ended = (Vec<Failure>, Vec<Failure>);

/// Our own binaries are optimised as a whole, each on one CPU; others need not idle meanwhile.
fn side_by_side<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let a = scope.spawn(a);
        let b = b();
        (a.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), b)
    })
}

/// Everything that tests of images and in emulators need.
struct Prepared {
    all: Vec<Scenario>,
    platforms: Vec<Platform>,
    trials: Vec<Trial>,
    outcomes: Outcomes,
}

fn prepare(args: &Args) -> Result<Prepared> {
    let (all, platforms) = (scenario::all()?, platform::all()?);
    let scenarios = fit(selected(all.clone(), args.filter.as_deref()), &platforms);
    install(&scenarios)?;
    let outcomes = Outcomes::default();
    let trials = trials(scenarios, &outcomes)?;
    Ok(Prepared { all, platforms, trials, outcomes })
}

impl Prepared {
    fn run(self, args: &Args) -> Result<Ended> {
        let arguments = Arguments { filter: args.filter.clone(), test_threads: args.threads, ..Arguments::default() };
        println!("\ntests of images and in emulators; logs: build/logs/TEST/");
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        let (outcomes, second) = &self.outcomes;
        let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        print_times(&outcomes);
        print_matrix(&outcomes, &self.all, &self.platforms);
        Budget::load()?.report(&spent(&outcomes), args.filter.is_none()).iter().for_each(|line| println!("{line}"));
        let mut failed: Vec<Failure> = outcomes.iter().filter_map(Outcome::failure).collect();
        // One that panicked leaves nothing; and a filter that nothing matches is a mistake.
        if (failed.len() as u64) < conclusion.num_failed.max(u64::from(conclusion.num_passed == 0)) {
            let cause = format!("{} passed, {} failed; see above", conclusion.num_passed, conclusion.num_failed);
            failed.push(Failure { name: "tests of images and in emulators".into(), cause, log: vec![] });
        }
        Ok((failed, second.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

/// Those that the filter lets through: what only others need is not built. All, if it is about images.
fn selected(all: Vec<Scenario>, filter: Option<&str>) -> Vec<Scenario> {
    let wanted = |s: &Scenario| filter.is_none_or(|f| format!("system::{}", s.name).contains(f));
    if all.iter().any(wanted) { all.into_iter().filter(wanted).collect() } else { all }
}

/// Those whose platform can work on this machine. The matrix says why the others did not run.
fn fit(mut scenarios: Vec<Scenario>, platforms: &[Platform]) -> Vec<Scenario> {
    let unfit = |p: &&Platform| matches!(p.presence(), Presence::Unfit(_));
    let unfit: Vec<&str> = platforms.iter().filter(unfit).map(|p| p.name.as_str()).collect();
    scenarios.retain(|s| !unfit.contains(&s.platform.as_str()));
    scenarios
}

fn install(scenarios: &[Scenario]) -> Result<()> {
    let mut needs: Vec<_> = packages::FOR_IMAGES.iter().collect();
    if scenarios.iter().any(|s| s.gdb.is_some()) {
        needs.extend(packages::FOR_GDB);
    }
    for platform in scenarios.iter().map(|s| &s.platform).collect::<BTreeSet<_>>() {
        needs.extend(Platform::load(platform)?.needs());
    }
    packages::ensure_installed(needs)
}

fn kit(scenarios: &[Scenario], flavour: Flavour) -> Result<(Kit, Vec<(String, std::path::PathBuf)>)> {
    let scenarios: Vec<_> = scenarios.iter().filter(|s| s.flavour() == flavour).collect();
    let roots: BTreeSet<_> = scenarios.iter().filter_map(|s| s.root.clone()).collect();
    let systems: Vec<System> =
        scenarios.iter().map(|s| s.system().with_context(|| format!("scenario {}", s.name))).collect::<Result<_>>()?;
    let all = |names: fn(&System) -> &Vec<String>| -> Vec<String> {
        systems.iter().flat_map(names).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    };
    let (binaries, roms) = build::ours(all(|s| &s.binaries), all(|s| &s.roms))?;
    let (mut modules, missing) = made(&roms);
    let (kernel, user_land) = side_by_side(|| build::kernel(flavour), || build::user_land(&binaries, flavour));
    let (kernel, (root_task, components)) = (kernel?, user_land?);
    let mut linked = vec![(build::ROOT_TASK.to_owned(), root_task.linked.clone())];
    let roots: Vec<_> = roots.into_iter().map(|r| Ok((build::root_task(&r, flavour)?, r))).collect::<Result<_>>()?;
    let components = binaries.into_iter().zip(components).chain(roots.into_iter().map(|(b, r)| (r, b)));
    for (name, binary) in components {
        // It stands on nothing of ours at all.
        if name != build::NOVA_ROOT {
            linked.push((name.clone(), binary.linked));
        }
        modules.push(Module { name, file: binary.image });
    }
    Ok((Kit { kernel, root_task, modules, missing }, linked))
}

/// The ROMs that can be made, and why the others cannot.
fn made(roms: &[String]) -> (Vec<Module>, Vec<(String, String)>) {
    let (mut modules, mut missing) = (vec![], vec![]);
    for name in roms {
        match guest::rom(name) {
            Ok(file) => modules.push(Module { name: name.clone(), file }),
            Err(e) => missing.push((name.clone(), format!("{e:#}"))),
        }
    }
    (modules, missing)
}

/// Names of the tests, and what they show.
fn list(scenarios: &[Scenario]) -> Vec<(String, String)> {
    let kernel = KERNEL_CHECKS.iter().map(|(name, _)| (format!("image::{name}"), "the linked kernel".to_owned()));
    let components = [("image::COMPONENT-stands-alone".to_owned(), "one for each component binary".to_owned())];
    let systems = scenarios.iter().map(|s| (format!("system::{}", s.name), s.about.clone()));
    let suite = suite::TESTS.iter().map(|(name, about, _)| (format!("suite::{name}"), (*about).to_owned()));
    kernel.chain(suite).chain(components).chain(systems).collect()
}

type Check = fn(&std::path::Path) -> Result<()>;

const KERNEL_CHECKS: [(&str, Check); 3] = [
    ("kernel-has-no-float-instruction", trial::kernel_without_floats),
    ("kernel-uses-no-red-zone", trial::kernel_without_red_zone),
    ("kernel-is-small", trial::kernel_size),
];

fn trials(mut scenarios: Vec<Scenario>, outcomes: &Outcomes) -> Result<Vec<Trial>> {
    let (kit, linked) = kit(&scenarios, Flavour::Release)?;
    let kit = Arc::new(kit);
    let mut kits = vec![(Flavour::Release, kit.clone())];
    for flavour in [Flavour::Debug, Flavour::Inject] {
        if scenarios.iter().any(|s| s.flavour() == flavour) {
            kits.push((flavour, Arc::new(self::kit(&scenarios, flavour)?.0)));
        }
    }
    let mut list = Vec::new();
    for (name, check) in KERNEL_CHECKS {
        let kernel = kit.kernel.linked.clone();
        list.push(timed(format!("image::{name}"), outcomes, move || check(&kernel)));
    }
    for (name, _, test) in suite::TESTS {
        let beside = move || {
            // Some of them run emulators, too.
            let _shared = HOST.read().unwrap_or_else(PoisonError::into_inner);
            test()
        };
        list.push(timed(format!("suite::{name}"), outcomes, beside));
    }
    for (name, file) in linked {
        list.push(timed(format!("image::{name}-stands-alone"), outcomes, move || trial::component(&file)));
    }
    // The longest first: then none is left to run alone at the end.
    scenarios.sort_by_cached_key(|s| std::cmp::Reverse(weight(s)));
    for s in scenarios {
        let kit = kits.iter().find(|(f, _)| *f == s.flavour()).map_or(&kit, |(_, k)| k);
        list.push(in_machine(s, kit.clone(), outcomes));
    }
    Ok(list)
}

/// How long it will take, roughly: its limit says so, and Bochs takes four times as long as QEMU.
fn weight(s: &Scenario) -> u64 {
    let bochs = s.machine().is_ok_and(|p| p.emulator == Emulator::Bochs);
    s.timeout_s * if bochs { 4 } else { 1 }
}

fn timed(name: String, outcomes: &Outcomes, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    noted(name, outcomes, move || (test(), None))
}

/// The host, which emulators share.
static HOST: RwLock<()> = RwLock::new(());

/// Whether its machine fills the host: QEMU has a thread for each CPU, and meets its races between them (CAVEATS.md) the more
/// often the longer they wait for the host.
fn fills_the_host(s: &Scenario) -> bool {
    s.machine().is_ok_and(|p| p.emulator == Emulator::Qemu && p.cpus > 1)
}

fn in_machine(s: Scenario, kit: Arc<Kit>, outcomes: &Outcomes) -> Trial {
    let second = outcomes.1.clone();
    noted(format!("system::{}", s.name), outcomes, move || {
        let alone = fills_the_host(&s);
        let _alone = alone.then(|| HOST.write().unwrap_or_else(PoisonError::into_inner));
        let _shared = (!alone).then(|| HOST.read().unwrap_or_else(PoisonError::into_inner));
        let (result, left) = trial::run(&s, &kit);
        // A check that failed, a panic, a machine that died are no defect of the emulator; nor has one where nothing runs virtualised.
        let guests = s.root.is_some() || s.system().is_ok_and(|system| system.has_guests());
        let forgotten = s.machine().ok().and_then(|p| p.second_try).filter(|_| left.hung && guests);
        let (result, left) = match (result, forgotten.or_else(|| left.known.clone())) {
            (Err(e), Some(why)) => {
                println!("\n{}: a second try, as {why}. The first: {e:#}{}", s.name, left.shown());
                let first = Failure { name: s.name.clone(), cause: format!("{e:#}"), log: vec![] };
                second.lock().unwrap_or_else(PoisonError::into_inner).push(first);
                trial::run(&s, &kit)
            }
            (result, _) => (result, left),
        };
        (result, Some((s, left)))
    })
}

type Noted = (Result<()>, Option<(Scenario, Left)>);

fn noted(name: String, outcomes: &Outcomes, test: impl FnOnce() -> Noted + Send + 'static) -> Trial {
    let (outcomes, key) = (outcomes.clone(), name.clone());
    Trial::test(name, move || {
        let began = Instant::now();
        let (result, machine) = test();
        // Not what it has waited for the host.
        let time = machine.as_ref().map_or_else(|| began.elapsed(), |(_, left)| left.took);
        let cause = result.err().map(|e| format!("{e:#}"));
        let shown = machine.as_ref().map_or(String::new(), |(_, left)| left.shown());
        let failed = cause.as_ref().map_or(Ok(()), |cause| Err(Failed::from(format!("{cause}{shown}"))));
        let outcome = Outcome { name: key, time, cause, machine };
        outcomes.0.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        failed
    })
}

/// Time that passed, and CPU time of the emulator.
fn print_times(outcomes: &[Outcome]) {
    for o in outcomes {
        let cpu = o.machine.as_ref().map_or(String::new(), |(_, left)| format!("{:.1} s", left.cpu.as_secs_f32()));
        let passed = if o.passed() { "pass" } else { "FAIL" };
        println!("{:>8.1} s  {cpu:>8} CPU  {passed}  {}", o.time.as_secs_f32(), o.name);
    }
}

fn spent(outcomes: &[Outcome]) -> Vec<Spent<'_>> {
    let ran = outcomes.iter().filter_map(|o| Some((o.time, o.machine.as_ref()?)));
    ran.map(|(took, (s, left))| Spent {
        name: &s.name,
        platform: &s.platform,
        cpu: left.cpu,
        took,
        limit: Duration::from_secs(s.timeout_s),
    })
    .collect()
}

fn print_matrix(outcomes: &[Outcome], all: &[Scenario], platforms: &[Platform]) {
    let mut matrix = Matrix::default();
    for o in outcomes {
        if let Some((s, left)) = &o.machine {
            matrix.ran(s, o.passed(), &left.inner);
        }
    }
    matrix.fill(all, platforms, Platform::presence);
    if !matrix.is_empty() {
        println!("\n{}", matrix.show());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = list(&scenario::all().unwrap()).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.contains(&"system::linux-shell@bochs".to_owned()));
    }

    #[test]
    fn a_rom_that_cannot_be_made_does_not_stop_the_others() {
        let (modules, missing) = made(&["no-such-rom".to_owned()]);
        assert!(modules.is_empty() && missing[0].1.contains("nothing makes a ROM"), "{missing:?}");
    }

    #[test]
    fn a_filter_selects_by_name() {
        let count = |filter| selected(scenario::all().unwrap(), filter).len();
        assert_eq!(count(Some("system::linux-shell")), 5);
        assert!(count(None) > 10);
        assert_eq!(count(Some("image::kernel")), count(None));
    }

    #[test]
    fn results_and_times_are_kept() {
        let outcomes = Outcomes::default();
        let trials =
            vec![timed("a".into(), &outcomes, || Ok(())), timed("b".into(), &outcomes, || anyhow::bail!("no"))];
        let quiet = Arguments { logfile: Some("/dev/null".into()), ..Arguments::default() };
        let conclusion = libtest_mimic::run(&quiet, trials);
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 1));
        let mut seen: Vec<_> = outcomes.0.lock().unwrap().iter().map(|o| (o.name.clone(), o.cause.clone())).collect();
        seen.sort();
        assert_eq!(seen, [("a".to_owned(), None), ("b".to_owned(), Some("no".to_owned()))]);
        let failed: Vec<_> = outcomes.0.lock().unwrap().iter().filter_map(Outcome::failure).collect();
        assert_eq!(failed, [Failure { name: "b".into(), cause: "no".into(), log: vec![] }]);
    }
}
