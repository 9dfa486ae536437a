//! Configurations that inits read as a ROM, where that is a boot module whose text is known.
//!
//! Key type: [`Supplied`]. `check` takes them as it takes those in the text around them.

use crate::check::{Finding, Verdict, World};
use crate::config::{Component, Config};
use crate::parse::{DEEPEST, INIT};
use crate::reach::{CORE, Frame, ROM, Walker};
use parent::{CONFIG_ROM, Name};
use session::{Label, Rule, Target};
use std::collections::BTreeMap;

/// By the label of an init: the boot module that has its configuration, and what is in it.
pub(crate) type Supplied = BTreeMap<String, (String, Config)>;

/// Where an init gets its configuration that has none from its start on.
pub(crate) enum Origin {
    /// A boot module.
    Module(String),
    /// Some component.
    Component,
}

/// All that can be read; what is wrong in texts is told. These may have inits, too.
pub(crate) fn all(root: &Frame<'_>, world: &World, verdict: &mut Verdict) -> Supplied {
    let mut all = Supplied::new();
    loop {
        let mut found = Vec::new();
        let supplied = &all;
        inits(&Walker { frame: root, world, supplied }, &mut found);
        if found.is_empty() {
            return all;
        }
        for Init { path, module, wrong } in found {
            let text = world.texts.get(&module).map_or("", String::as_str);
            let read = if wrong.is_none() { Config::of_init(text) } else { Ok(Config::default()) };
            let config = read.unwrap_or_else(|defects| Config { defects, ..Config::default() });
            let defects = config.all_defects().into_iter().map(|d| Finding::from(d).of(&module));
            verdict.errors.extend(wrong.into_iter().chain(defects));
            all.insert(path, (module, config));
        }
    }
}

/// An init of which the configuration has not been read yet.
struct Init {
    path: String,
    module: String,
    /// Why it is not read.
    wrong: Option<Finding>,
}

fn inits(walker: &Walker<'_>, found: &mut Vec<Init>) {
    let Frame { config, module: outer, .. } = walker.frame;
    for (index, entry) in config.entries.iter().enumerate() {
        let Ok(c) = &entry.result else { continue };
        if let Some(frame) = walker.inner(index, c) {
            inits(&Walker { frame: &frame, ..*walker }, found);
        } else if let Some(Origin::Module(module)) = walker.origin(index, c)
            && walker.world.texts.contains_key(&module)
        {
            let path = walker.frame.path_of(c.name.as_str());
            let why = match () {
                () if around(walker.frame).any(|other| other == module) => {
                    Some(format!("`{path}` reads `{module}`, as an init around it does: there would be no end to it"))
                }
                () if around(walker.frame).count() > DEEPEST => {
                    Some(format!("`{path}`: more than {DEEPEST} inits in each other"))
                }
                () => None,
            };
            let wrong = why.map(|why| Finding::new(c.at, why).of(outer));
            found.push(Init { path, module, wrong });
        }
    }
}

/// The boot modules of configurations, from the innermost to that of the root task.
fn around<'a>(frame: &'a Frame<'a>) -> impl Iterator<Item = &'a str> {
    std::iter::successors(Some(frame), |frame| frame.parent.map(|(outer, _)| outer)).map(|frame| frame.module)
}

impl<'a> Walker<'a> {
    /// The configuration of child `index` as far as it is an init, and it is known.
    pub fn inner<'b>(&'b self, index: usize, c: &'b Component) -> Option<Frame<'b>>
    where
        'a: 'b,
    {
        let (path, parent) = (self.frame.path_of(c.name.as_str()), Some((self.frame, index)));
        if let Some(config) = &c.nested {
            return Some(Frame { config, path, parent, module: self.frame.module });
        }
        let (module, config) = self.supplied.get(&path)?;
        Some(Frame { config, path, parent, module })
    }

    /// Where child `index`, an init without the key `config`, gets its configuration; `None`: nowhere.
    pub fn origin(&self, index: usize, c: &Component) -> Option<Origin> {
        if c.binary.value != INIT || c.config.is_some() {
            return None;
        }
        let (service, label) = (Name::new(ROM)?, Label::new(CONFIG_ROM).ok()?);
        let own = c.routes.iter().map(|route| route.rule.clone()).find(|rule| rule.matches(&service, &label));
        // ROMs of an init's components are its parent's where nothing else is said.
        let usual = || self.frame.parent.is_some().then(|| Rule::to(service, Target::Parent));
        let (label, server) = self.end(index, c, &own.or_else(usual)?, service, &label)?;
        Some(if server == CORE { Origin::Module(label) } else { Origin::Component })
    }
}
