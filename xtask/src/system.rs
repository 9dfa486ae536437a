//! System files (`configs/systems/*.toml`) as far as the build needs them: which boot modules they name, also in routes for
//! service `rom`. The root task checks the rest when it runs.

use crate::{inits, tree};
use anyhow::{Context, Result, ensure};
use regex::{Captures, Regex};
use serde::Deserialize;
use std::collections::BTreeSet;

/// A system: the text that the root task gets, and the modules that must be in the image with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Content of the boot module "system".
    pub text: String,
    /// Component binaries, in the order of the file, each once.
    pub binaries: Vec<String>,
    /// Other boot modules, likewise.
    pub roms: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    component: Vec<Component>,
    #[serde(default)]
    defaults: Defaults,
}

#[derive(Deserialize, Default)]
struct Defaults {
    #[serde(default)]
    route: Vec<Route>,
}

/// A route, as far as it may name a boot module.
#[derive(Deserialize)]
struct Route {
    service: Option<String>,
    label: Option<String>,
    label_last: Option<String>,
    relabel: Option<String>,
    to: Option<String>,
}

impl Route {
    /// The boot module that it is for.
    fn rom(self) -> Option<String> {
        let at_core = self.service.as_deref() == Some("rom") && self.to.as_deref() == Some("parent");
        let label = self.relabel.or(self.label).or(self.label_last).filter(|_| at_core)?;
        Some(label.rsplit(init::ARROW).next().unwrap_or_default().into())
    }
}

#[derive(Deserialize)]
struct Component {
    binary: String,
    #[serde(default)]
    roms: Vec<String>,
    #[serde(default)]
    route: Vec<Route>,
    config: Option<toml::Value>,
}

impl File {
    /// All components, those of inits behind their init.
    fn all(self) -> Result<Vec<Component>> {
        let mut all = Vec::new();
        let by_default: Vec<String> = self.defaults.route.into_iter().filter_map(Route::rom).collect();
        for mut c in self.component {
            c.roms.extend(std::mem::take(&mut c.route).into_iter().filter_map(Route::rom).chain(by_default.clone()));
            let inner = c.config.take().filter(|_| c.binary == init::INIT).map(File::deserialize).transpose()?;
            all.push(c);
            all.extend(inner.map(File::all).transpose()?.unwrap_or_default());
        }
        Ok(all)
    }
}

impl System {
    /// `configs/systems/<name>.toml`.
    pub fn load(name: &str) -> Result<System> {
        let path = tree::root().join("configs/systems").join(format!("{name}.toml"));
        if !path.is_file() {
            let known: Vec<_> = tree::toml_files("configs/systems")?.into_iter().map(|(n, _)| n).collect();
            anyhow::bail!("there is no system {name:?}; configs/systems has: {}", known.join(", "));
        }
        System::parse(tree::read_text(&path)?).with_context(|| format!("reading {}", tree::shown(&path)))
    }

    /// Takes the names of modules from the text, and from the configurations among them.
    pub fn parse(text: String) -> Result<System> {
        let mut all = toml::from_str::<File>(&text)?.all()?;
        let mut read = BTreeSet::new();
        let next = |all: &[Component], read: &BTreeSet<String>| {
            let unread = all.iter().flat_map(|c| &c.roms).filter(|rom| !read.contains(*rom));
            unread.into_iter().find_map(|rom| Some((rom.clone(), inits::file(rom)?)))
        };
        while let Some((name, path)) = next(&all, &read) {
            let file: File = toml::from_str(&tree::read_text(&path)?).with_context(|| tree::shown(&path))?;
            all.extend(file.all()?);
            read.insert(name);
        }
        let binaries = unique(all.iter().map(|c| &c.binary));
        // A binary that a component reads is in the image anyway.
        let roms = unique(all.iter().flat_map(|c| &c.roms).filter(|r| !binaries.contains(r)));
        Ok(System { text, binaries, roms })
    }

    /// Whether somebody may have guests: has a key of that name among its routes. Also of a file that is wrong on purpose.
    pub fn has_guests(&self) -> bool {
        Regex::new(r#"\bvm\s*=\s*["']"#).expect("constant pattern").is_match(&self.text)
    }

    /// Adds to the command line of each guest.
    pub fn with_cmdline(self, more: &str) -> Result<System> {
        let each = Regex::new(r#"\bcmdline = "[^"]*"#).expect("constant pattern");
        ensure!(each.is_match(&self.text), "no guest has a command line to add to");
        let text = each.replace_all(&self.text, |c: &Captures<'_>| format!("{} {more}", &c[0])).into_owned();
        Ok(System { text, ..self })
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for n in names {
        if !list.contains(n) {
            list.push(n.clone());
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_collected_once_in_order() {
        let text = "[[component]]\nname='a'\nbinary='x'\nroms=['k','i']\n\
                    [[component]]\nname='b'\nbinary='y'\nroms=['k']\n[[component]]\nname='c'\nbinary='x'\n";
        let s = System::parse(text.into()).unwrap();
        assert_eq!(s.binaries, ["x", "y"]);
        assert_eq!(s.roms, ["k", "i"]);
        assert_eq!(s.text, text);
    }

    #[test]
    fn a_binary_that_is_read_is_one_module() {
        let text = "[[component]]\nbinary='x'\nroms=['k','y']\n[[component]]\nbinary='y'\n";
        let s = System::parse(text.into()).unwrap();
        assert_eq!((s.binaries, s.roms), (vec!["x".into(), "y".into()], vec!["k".to_string()]));
    }

    #[test]
    fn modules_in_routes_are_collected() {
        let rom = |more: &str| format!("{{service='rom',{more}}}");
        let routes = [
            rom("label='a',to='parent'"),
            rom("label_last='x',to='parent',relabel='up -> b'"),
            rom("label_last='c',to='parent'"),
            rom("label='d',to='fs'"),
            rom("label_prefix='e',to='parent'"),
            "{service='log',label='f',to='parent'}".into(),
        ];
        let text = format!(
            "[[component]]\nbinary='x'\nroms=['k']\nroute=[{}]\n[defaults]\nroute=[{}]\n",
            routes.join(","),
            rom("label='z',to='parent'")
        );
        assert_eq!(System::parse(text).unwrap().roms, ["k", "a", "b", "c", "z"]);
    }

    #[test]
    fn modules_of_configurations_that_are_modules_are_collected() {
        let route = "{service='rom',label='config',relabel='ticker.toml',to='parent'}";
        let text = format!("[[component]]\nbinary='init'\nroute=[{route}]\n");
        let s = System::parse(text).unwrap();
        assert_eq!((s.binaries, s.roms), (vec!["init".into(), "timer-tick".into()], vec!["ticker.toml".to_string()]));
    }

    #[test]
    fn modules_of_nested_inits_are_collected() {
        let text = "[[component]]\nbinary='init'\n[[component.config.component]]\nbinary='x'\nroms=['k']\n\
                    [[component]]\nbinary='vmm'\nconfig = { component = 1 }\n";
        let s = System::parse(text.into()).unwrap();
        assert_eq!((s.binaries, s.roms), (vec!["init".into(), "x".into(), "vmm".into()], vec!["k".to_string()]));
    }

    #[test]
    fn guests_are_known_by_their_route() {
        let guests = |more: &str| {
            let text = format!("[[component]]\nbinary='init'\n[[component.config.component]]\nbinary='vmm'\n{more}");
            System::parse(text).unwrap().has_guests()
        };
        assert!(guests("routes={log='parent',vm='parent'}\n"));
        assert!(!guests("routes={log='parent'}\n"));
    }

    #[test]
    fn each_guest_gets_the_words() {
        let text = "[[component]]\nbinary='x'\nconfig = { cmdline = \"a=1\", ram = \"1M\" }\n\
                    [[component]]\nbinary='x'\nconfig.cmdline = \"\"\n";
        let s = System::parse(text.into()).unwrap().with_cmdline("b c").unwrap();
        assert!(s.text.contains(r#"cmdline = "a=1 b c", ram"#) && s.text.contains(r#"cmdline = " b c""#), "{}", s.text);
        let none = System::parse("[[component]]\nbinary='x'\n".into()).unwrap();
        assert!(none.with_cmdline("b").is_err());
    }

    #[test]
    fn errors_have_a_place() {
        let e = System::parse("[[component]]\nname = \n".into()).unwrap_err().to_string();
        assert!(e.contains("line 2"), "{e}");
    }

    #[test]
    fn an_unknown_system_names_the_known_ones() {
        let e = System::load("no-such-system").unwrap_err().to_string();
        assert!(e.contains("no-such-system"), "{e}");
    }
}
