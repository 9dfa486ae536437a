//! `cargo xtask check`: whether a configuration can work, and who can reach whom, without running anything. The crate
//! `init` decides; this is what it is told of the machine, and how its findings are shown.

mod picture;

use crate::{build, guest, inits, platform, tree};
use anyhow::{Context, Result, anyhow, ensure};
use init::{CORE_CAPS, CORE_SERVICES, Config, Defect, Finding, Size, Verdict, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    /// A configuration, or a file of configs/systems without its ending.
    config: PathBuf,
    /// The platform whose memory and CPUs it gets; the one that `run` would choose if not given.
    #[arg(long, value_name = "PLATFORM")]
    on: Option<String>,
    /// RAM for components, as "264M"; that of the platform, less what kernel and root task take, if not given.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The boot modules that there are, with commas between; all that can be made here if not given.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    modules: Option<Vec<String>>,
    /// Draws who can reach whom, as SVG.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// What the kernel takes of the machine's memory for its pool, and of the pool for itself and the root task.
const POOL: u64 = 16 << 20;
const POOL_KEPT: u64 = 3 << 20;
/// Images of kernel and root task, and what the root task needs.
const IMAGES: u64 = 4 << 20;

/// Prints the table and what was found; fails if something is wrong.
pub fn main(args: &Args) -> Result<ExitCode> {
    let path = named(&args.config)?;
    let platform = platform::choose(args.on.as_deref())?;
    let files = inits::beside(&path)?;
    let world = world(args, &platform, &files)?;
    let text = tree::read_text(&path)?;
    let name = tree::shown(&path);
    let verdict = verdict(&text, &world);
    print!("{}", table(&verdict));
    eprint!("{}", findings(&name, &files, &platform.name, &verdict));
    if let Some(file) = &args.picture {
        std::fs::write(file, picture::draw(&name, &verdict.reach)).with_context(|| file.display().to_string())?;
        println!("{}", file.display());
    }
    Ok(ExitCode::from(if verdict.errors.is_empty() { 0 } else { 1 }))
}

/// A path, or the name of a system.
fn named(config: &Path) -> Result<PathBuf> {
    let system = tree::root().join("configs/systems").join(config).with_extension("toml");
    let path = if !config.is_file() && config.components().count() == 1 { system } else { config.to_path_buf() };
    ensure!(path.is_file(), "{}: there is no such file, nor a system of that name", config.display());
    Ok(path.canonicalize()?)
}

/// `files` are those that may be configurations of inits, by the names of boot modules.
fn world(args: &Args, platform: &platform::Platform, files: &BTreeMap<String, PathBuf>) -> Result<World> {
    let mut world = of_platform(platform);
    if let Some(memory) = &args.memory {
        world.ram = Some(Size::parse(memory).map_err(|e| anyhow!("--memory: {e}"))?.bytes());
    }
    world.modules = Some(match &args.modules {
        Some(names) => names.iter().cloned().collect(),
        None => modules()?.into_iter().chain(files.keys().cloned()).collect(),
    });
    world.texts = texts(files)?;
    Ok(world)
}

fn texts(files: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, String>> {
    files.iter().map(|(name, path)| Ok((name.clone(), tree::read_text(path)?))).collect()
}

fn of_platform(p: &platform::Platform) -> World {
    World {
        ram: Some((u64::from(p.memory_mib) << 20).saturating_sub(POOL + IMAGES)),
        kmem: Some(POOL - POOL_KEPT),
        caps: Some(CORE_CAPS.into()),
        cpus: Some(p.cpus.try_into().unwrap_or(u16::MAX)),
        modules: None,
        texts: BTreeMap::new(),
        services: CORE_SERVICES.iter().filter_map(|s| init::Name::new(s)).collect(),
    }
}

/// Boot modules that `run` can make.
fn modules() -> Result<BTreeSet<String>> {
    Ok(build::packages()?.into_iter().chain(guest::roms()?).collect())
}

/// What is wrong with a text that cannot be read is told the same way.
fn verdict(text: &str, world: &World) -> Verdict {
    let unread = |all: Vec<Defect>| all.iter().map(Finding::from).collect();
    match (Config::parse(text), policy::system_file(text)) {
        (Err(all), _) | (_, Err(all)) => Verdict { errors: unread(all), ..Verdict::default() },
        (Ok(config), Ok(today)) => {
            let mut verdict = init::check(&config, world);
            let before = config.all_defects();
            let refused = today.all_defects().into_iter().filter(|d| !before.contains(d));
            verdict.warnings.extend(refused.map(Finding::from));
            verdict.warnings.sort();
            verdict
        }
    }
}

fn table(verdict: &Verdict) -> String {
    let head = ["CLIENT", "SERVICE", "LABELS", "SERVER"].map(String::from);
    let row = |r: &init::Reach| [r.client.clone(), r.service.to_string(), r.label.to_string(), r.server.clone()];
    let rows: Vec<_> = std::iter::once(head).chain(verdict.reach.iter().map(row)).collect();
    let widths: Vec<usize> = (0..4).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:<w$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

fn findings(name: &str, files: &BTreeMap<String, PathBuf>, platform: &str, verdict: &Verdict) -> String {
    let kinds = verdict.errors.iter().map(|f| ("error", f)).chain(verdict.warnings.iter().map(|f| ("warning", f)));
    let mut all: Vec<_> = kinds.collect();
    all.sort_by_key(|(_, f)| (&f.module, f.at));
    let file = |f: &Finding| files.get(&f.module).map_or(name.into(), |path| tree::shown(path));
    let place = |f: &Finding| match f.at == init::At::default() {
        true => String::new(),
        false => format!(":{}:{}", f.at.line, f.at.column),
    };
    let mut text: String =
        all.iter().map(|(kind, f)| format!("{}{}: {kind}: {}\n", file(f), place(f), f.text)).collect();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (plural(verdict.errors.len(), "error"), plural(verdict.warnings.len(), "warning"));
    let _ = writeln!(text, "{name} on {platform}: {errors}, {warnings}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Verdict {
        let mut world = of_platform(&platform::Platform::load("qemu").unwrap());
        world.modules = Some(modules().unwrap());
        verdict(text, &world)
    }

    /// Each on the first platform that is large enough for it: four guests want four CPUs.
    #[test]
    fn all_systems_of_the_tree_can_work() {
        let (all, modules) = (platform::all().unwrap(), modules().unwrap());
        let texts = texts(&inits::all().unwrap()).unwrap();
        for (name, path) in tree::toml_files("configs/systems").unwrap() {
            let text = tree::read_text(&path).unwrap();
            let on = |p: &platform::Platform| {
                verdict(&text, &World { modules: Some(modules.clone()), texts: texts.clone(), ..of_platform(p) }).errors
            };
            assert!(
                all.iter().any(|p| on(p).is_empty()),
                "{name}: {:?}",
                on(&platform::Platform::load("qemu").unwrap())
            );
        }
    }

    #[test]
    fn a_misspelt_system_gets_lines_columns_and_what_was_meant() {
        let text = tree::read_text(&tree::root().join("configs/systems/linux.toml")).unwrap();
        let text = text.replace("\"bzImage\", ", "\"bzImages\", ").replace("roms", "exit = \"propagate\"\nroms");
        let v = check(&text.replacen("log = \"console\"", "log = \"consoel\"", 1));
        let want = "x.toml:13:54: error: component `uart`: `log` goes to `consoel`, but there is no such component; \
         did you \
                    mean `console`?\n\
                    x.toml:33:8: warning: component `vm`, key `exit`: the root task cannot do that yet\n\
                    x.toml:34:9: error: component `vm`, key `roms`: there is no boot module `bzImages`; did you mean \
                    `bzImage`?\n\
                    x.toml on qemu: 2 errors, 1 warning\n";
        assert_eq!(findings("x.toml", &BTreeMap::new(), "qemu", &v), want);
    }

    #[test]
    fn the_table_has_a_row_for_each_way() {
        let v = check(&tree::read_text(&tree::root().join("configs/systems/hello.toml")).unwrap());
        let want = "CLIENT   SERVICE   LABELS        SERVER\n\
                    uart     io_port   uart -> *     core\n\
                    uart     irq       uart -> *     core\n\
                    uart     log       uart -> *     console\n\
                    console  terminal  console -> *  uart\n";
        assert_eq!(table(&v), want);
        assert!(
            findings("hello", &BTreeMap::new(), "qemu", &v).ends_with("hello on qemu: 0 errors, 1 warning\n"),
            "nobody uses its terminal"
        );
    }

    #[test]
    fn a_text_that_is_no_toml_is_told_as_well() {
        let v = check("a = = 1\nb = \"\n");
        assert_eq!(v.errors.iter().map(|f| f.at.line).collect::<Vec<_>>(), [1, 2]);
        let v = check("");
        assert!(
            findings("x", &BTreeMap::new(), "qemu", &v).starts_with("x:1:1: error: there is no [[component]]\n"),
            "{}",
            findings("x", &BTreeMap::new(), "qemu", &v)
        );
    }

    #[test]
    fn what_is_wrong_in_a_configuration_that_is_a_boot_module_has_its_file_line_and_column() {
        let dir = inits::tests::folder("check");
        let (system, inner) = (dir.join("system.toml"), dir.join("ticker.toml"));
        let shipped = |name: &str| tree::read_text(&tree::root().join(name)).unwrap();
        std::fs::write(&system, shipped("configs/systems/init_rom.toml")).unwrap();
        std::fs::write(&inner, shipped("configs/inits/ticker.toml").replace("timer = ", "timr = ")).unwrap();
        let files = inits::beside(&system).unwrap();
        let mut world = of_platform(&platform::Platform::load("qemu").unwrap());
        world.texts = texts(&files).unwrap();
        let v = verdict(&shipped("configs/systems/init_rom.toml"), &world);
        let found = findings("system.toml", &files, "qemu", &v);
        let line = format!("{}:8:19: error: component `work -> tick`: ", tree::shown(&inner));
        assert!(found.contains(&line), "{found}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_system_goes_by_its_name_or_its_path() {
        assert!(named(Path::new("linux")).unwrap().ends_with("configs/systems/linux.toml"));
        assert!(named(&tree::root().join("configs/systems/linux.toml")).is_ok());
        assert!(named(Path::new("no-such-system")).unwrap_err().to_string().contains("no-such-system"));
    }
}
