//! What goes back when a component has ended: its frames, and its share of the kernel's memory. And planning it once more.
//!
//! Who calls this has destroyed the component's protection domain before: until then its threads and guests may map, and
//! its calls may name, what goes back here. What comes out of the book is zeroed when it is put to use, not here.
//!
//! Key type: [`Level`]; the functions are methods of [`Plan`].

use crate::memory::Book;
use crate::plan::{ComponentError, Module, Plan, checked};
use crate::start_info::Machine;
use init::Config;

impl Plan {
    /// Component `index` has ended.
    pub fn reclaim(&mut self, index: usize, book: &mut Book) {
        if let Some(component) = self.labels.get(index).cloned() {
            self.give_back(index, ComponentError::Ended { component }, book);
        }
    }

    /// Plans a component once more that has ended: it may get other frames this time.
    pub fn again(
        &mut self,
        index: usize,
        file: &Config,
        modules: &[Module<'_>],
        machine: &Machine,
        book: &mut Book,
    ) -> Result<(), ComponentError> {
        if let Some(slot @ Err(ComponentError::Ended { .. })) = self.components.get_mut(index) {
            *slot = Ok(checked(file, index, modules, machine)?.place(modules, &mut self.kmem, book)?);
        }
        Ok(())
    }
}

/// What the root task has in hand at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Physical memory in the book, in bytes.
    pub ram: u64,
    /// Frames of its account of kernel memory that are not used.
    pub kmem_frames: u64,
    /// Its free selectors.
    pub selectors: u64,
    /// Blocks of its heap that are in use.
    pub blocks: u64,
}

impl Level {
    /// How much more it is than it was.
    pub fn since(self, before: Level) -> String {
        let more = |now: u64, then: u64| i128::from(now) - i128::from(then);
        format!(
            "RAM {:+} KiB, kernel memory {:+} KiB, selectors {:+}; heap blocks in use {:+}",
            more(self.ram, before.ram) >> 10,
            more(self.kmem_frames, before.kmem_frames) << (abi::PAGE_BITS - 10),
            more(self.selectors, before.selectors),
            more(self.blocks, before.blocks)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::good;
    use crate::memory::PhysRange;
    use crate::plan::ComponentPlan;
    use crate::plan::tests::{book, component, default_system, modules};
    use crate::start_info::tests::MACHINE;
    use proptest::prelude::*;

    /// The default system and one more component.
    fn system() -> String {
        default_system() + &component("alone", "restart = 7\nconfig = { b = 2 }")
    }

    const NAMES: [&str; 5] = ["uart.elf", "console.elf", "vm.elf", "alone.elf", "kernel"];
    const ALONE: usize = 3;

    /// Frames and kernel memory that somebody has, and the book.
    struct World {
        file: Config,
        plan: Plan,
        book: Book,
    }

    impl World {
        fn new(book: Book) -> World {
            let file = crate::system_file(&system()).unwrap();
            let (elf, mut book) = (good(), book);
            let list = NAMES.map(|n| (n, elf.as_slice()));
            let plan = Plan::new(&file, &modules(&list), &MACHINE, &mut book);
            World { file, plan, book }
        }

        fn again(&mut self, index: usize) -> Result<(), ComponentError> {
            let elf = good();
            let list = NAMES.map(|n| (n, elf.as_slice()));
            self.plan.again(index, &self.file, &modules(&list), &MACHINE, &mut self.book)
        }

        fn held(&self) -> Vec<PhysRange> {
            self.plan.components.iter().flatten().flat_map(|c| c.frames.clone()).collect()
        }

        /// The books add up: no byte has two owners, none is lost.
        fn check(&self, total: u64) {
            let mut all = self.held();
            assert_eq!(all.iter().map(|r| r.len()).sum::<u64>() + self.book.free_bytes(), total);
            all.extend(self.book.free_ranges());
            all.sort_unstable();
            assert!(all.windows(2).all(|w| w[0].end <= w[1].start));
            let kmem: u64 = self.plan.components.iter().flatten().map(ComponentPlan::kmem).sum();
            assert_eq!(kmem + self.plan.kmem, MACHINE.kmem);
        }
    }

    #[test]
    fn what_a_component_had_goes_back() {
        let total = book().free_bytes();
        let mut w = World::new(book());
        let before = (w.book.free_bytes(), w.plan.kmem);
        let frames = w.plan.component(ALONE).unwrap().frames.clone();
        w.plan.reclaim(ALONE, &mut w.book);
        let bytes: u64 = frames.iter().map(|f| f.len()).sum();
        assert_eq!(w.book.free_bytes(), before.0 + bytes);
        assert!(w.plan.kmem > before.1);
        assert_eq!(w.plan.components[ALONE].as_ref().unwrap_err().to_string(), "component `alone` has ended");
        w.plan.reclaim(ALONE, &mut w.book);
        w.check(total);
        w.again(ALONE).unwrap();
        assert_eq!((w.book.free_bytes(), w.plan.kmem), before);
        assert!(w.plan.component(ALONE).is_some());
        w.check(total);
    }

    #[test]
    fn who_has_not_ended_is_not_planned_again() {
        let mut w = World::new(book());
        let before = w.plan.component(ALONE).cloned();
        w.again(ALONE).unwrap();
        assert_eq!(w.plan.component(ALONE).cloned(), before);
        w.again(99).unwrap();
        w.plan.reclaim(99, &mut w.book);
        w.check(book().free_bytes());
    }

    #[test]
    fn without_memory_it_does_not_start_again_and_nothing_is_lost() {
        let mut w = World::new(book());
        w.plan.reclaim(ALONE, &mut w.book);
        let all = w.book.free_bytes();
        let taken: Vec<_> = std::iter::from_fn(|| w.book.take(64 << 10).ok()).collect();
        assert!(matches!(w.again(ALONE), Err(ComponentError::Memory { .. })));
        taken.into_iter().for_each(|r| w.book.give_back(r));
        assert_eq!(w.book.free_bytes(), all);
        w.again(ALONE).unwrap();
        w.check(book().free_bytes());
    }

    #[test]
    fn a_level_says_what_is_missing() {
        let a = Level { ram: 8192, kmem_frames: 7, selectors: 3, blocks: 5 };
        assert_eq!(a.since(a), "RAM +0 KiB, kernel memory +0 KiB, selectors +0; heap blocks in use +0");
        let b = Level { ram: 4096, kmem_frames: 9, selectors: u64::MAX, blocks: 4 };
        assert_eq!(
            b.since(a),
            format!("RAM -4 KiB, kernel memory +8 KiB, selectors +{}; heap blocks in use -1", u64::MAX - 3)
        );
    }

    proptest! {
        #[test]
        fn books_always_add_up(steps in prop::collection::vec((0usize..5, any::<bool>()), 0..40), mib in 3u64..40) {
            let memory = Book::new([PhysRange::new(0x10_0000, mib << 20)], []);
            let total = memory.free_bytes();
            let mut w = World::new(memory);
            w.check(total);
            for (index, end) in steps {
                let before = w.plan.component(index).is_some();
                let ended = matches!(w.plan.components.get(index), Some(Err(ComponentError::Ended { .. })));
                if end {
                    w.plan.reclaim(index, &mut w.book);
                    prop_assert!(w.plan.component(index).is_none());
                } else {
                    let planned = w.again(index);
                    prop_assert_eq!(w.plan.component(index).is_some(), before || ended && planned.is_ok());
                }
                w.check(total);
            }
        }
    }
}
