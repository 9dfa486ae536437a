//! Who called whom: each executed instruction with the functions around it, called ones and inlined ones.
//!
//! Key types: [`Stacks`], [`Node`].

use super::step::{Mode, Step};
use iced_x86::{FlowControl, Mnemonic, OpKind, Register};

/// Names of functions for each step, outermost first; the first is the mode.
pub struct Stacks(pub Vec<Vec<String>>);

impl Stacks {
    /// `frames` says what is inlined at a step, outermost first. Calls and returns say the rest; a kernel that loads its
    /// stack pointer with a number begins anew, and so does whoever comes in or out.
    pub fn of(steps: &[Step], frames: impl Fn(&Step) -> Vec<String>) -> Stacks {
        let mut callers: Vec<Vec<String>> = Vec::new();
        let mut mode = None;
        let mut all = Vec::with_capacity(steps.len());
        for step in steps {
            if mode.replace(step.mode) != Some(step.mode) {
                callers.clear();
            }
            let here = frames(step);
            let stack = [step.mode.name().to_owned()].into_iter().chain(callers.concat()).chain(here.iter().cloned());
            all.push(stack.collect());
            match effect(step) {
                Effect::Call => callers.push(here),
                Effect::Return => drop(callers.pop()),
                Effect::Anew => callers.clear(),
                Effect::None => {}
            }
        }
        Stacks(all)
    }

    /// How many steps have each stack, in the format of flame graphs: `a;b;c 12`.
    pub fn folded(&self) -> Vec<String> {
        let mut lines: std::collections::BTreeMap<String, u64> = Default::default();
        for stack in &self.0 {
            // What separates frames must not be in their names.
            *lines.entry(stack.iter().map(|n| n.replace(';', ",")).collect::<Vec<_>>().join(";")).or_default() += 1;
        }
        lines.into_iter().map(|(stack, n)| format!("{stack} {n}")).collect()
    }

    /// As a tree, in the order in which functions were first met.
    pub fn tree(&self) -> Node {
        let mut root = Node::default();
        for stack in &self.0 {
            let mut node = &mut root;
            node.all += 1;
            for name in stack {
                node = node.child(name);
                node.all += 1;
            }
            node.own += 1;
        }
        root
    }
}

enum Effect {
    Call,
    Return,
    Anew,
    None,
}

fn effect(step: &Step) -> Effect {
    let Some(i) = step.decode().filter(|_| step.mode == Mode::Kernel) else { return Effect::None };
    let sets_stack = i.mnemonic() == Mnemonic::Mov
        && i.op0_register() == Register::RSP
        && matches!(i.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate64);
    match i.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall if i.mnemonic() == Mnemonic::Call => Effect::Call,
        FlowControl::Return if i.mnemonic() == Mnemonic::Ret => Effect::Return,
        _ if sets_stack => Effect::Anew,
        _ => Effect::None,
    }
}

/// A function where it was called from.
#[derive(Debug, Default, PartialEq)]
pub struct Node {
    pub name: String,
    /// Instructions with all that it called.
    pub all: u64,
    /// Its own.
    pub own: u64,
    pub children: Vec<Node>,
}

impl Node {
    fn child(&mut self, name: &str) -> &mut Node {
        let at = self.children.iter().position(|c| c.name == name).unwrap_or_else(|| {
            self.children.push(Node { name: name.into(), ..Node::default() });
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// In lines, without what has fewer than `least` instructions.
    pub fn show(&self, least: u64) -> String {
        self.children.iter().map(|c| c.show_at(0, least)).collect()
    }

    fn show_at(&self, depth: usize, least: u64) -> String {
        if self.all < least {
            return String::new();
        }
        let own = if self.children.is_empty() { String::new() } else { self.own.to_string() };
        let line = format!("    {:>6} {own:>6}  {}{}\n", self.all, "  ".repeat(depth), self.name);
        line + &self.children.iter().map(|c| c.show_at(depth + 1, least)).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses below 0x100 are `f`, the others `g` with `inner` inlined.
    fn frames(s: &Step) -> Vec<String> {
        match (s.mode, s.at) {
            (Mode::Guest, _) => vec![],
            (_, ..0x100) => vec!["f".into()],
            _ => vec!["g".into(), "inner".into()],
        }
    }

    fn kernel(at: u64, code: &[u8]) -> Step {
        Step { at, mode: Mode::Kernel, code: code.into() }
    }

    const NOP: &[u8] = &[0x90];
    const CALL: &[u8] = &[0xe8, 0, 0, 0, 0];
    const RET: &[u8] = &[0xc3];
    /// mov rsp, -4096
    const NEW_STACK: &[u8] = &[0x48, 0xc7, 0xc4, 0, 0xf0, 0xff, 0xff];

    fn stacks(steps: &[Step]) -> Vec<String> {
        Stacks::of(steps, frames).0.iter().map(|s| s.join(";")).collect()
    }

    #[test]
    fn calls_nest_and_returns_end() {
        let s = stacks(&[kernel(1, CALL), kernel(0x100, NOP), kernel(0x101, RET), kernel(6, NOP)]);
        assert_eq!(s, ["kernel;f", "kernel;f;g;inner", "kernel;f;g;inner", "kernel;f"]);
    }

    #[test]
    fn a_new_stack_and_a_new_mode_begin_anew() {
        let s = stacks(&[kernel(1, CALL), kernel(0x100, NEW_STACK), kernel(0x107, CALL), kernel(8, NOP)]);
        assert_eq!(s[3], "kernel;g;inner;f");
        let guest = Step { mode: Mode::Guest, ..kernel(9, NOP) };
        assert_eq!(stacks(&[kernel(1, CALL), guest, kernel(2, NOP)])[1..], ["guest", "kernel;f"]);
        let syscall = Step { mode: Mode::User, ..kernel(1, &[0x0f, 0x05]) };
        assert_eq!(stacks(&[syscall, kernel(2, NOP)]), ["user mode;f", "kernel;f"], "a syscall is no call");
    }

    #[test]
    fn a_return_too_many_does_no_harm() {
        assert_eq!(stacks(&[kernel(1, RET), kernel(2, NOP)])[1], "kernel;f");
    }

    #[test]
    fn the_tree_has_all_and_own() {
        let all = Stacks::of(&[kernel(1, CALL), kernel(0x100, RET), kernel(6, NOP)], frames);
        assert_eq!(all.folded(), ["kernel;f 2", "kernel;f;g;inner 1"]);
        let tree = all.tree();
        assert_eq!((tree.all, tree.children[0].children[0].own), (3, 2));
        let text = tree.show(2);
        assert!(text.contains("     3      2    f\n") && !text.contains("inner"), "{text}");
        assert!(tree.show(1).contains("inner"));
    }
}
