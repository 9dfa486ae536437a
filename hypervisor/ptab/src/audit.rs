//! What a whole tree of host tables allows, entry by entry: the kernel's test of itself.

use crate::spec::{ADDRESS, ENTRIES, PAGE_SIZE, host};

/// What a tree maps, and what of it breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Leaves of all sizes.
    pub leaves: u64,
    /// Leaves that can be written and executed.
    pub writable_code: u64,
    /// Leaves of the upper half that user mode can access.
    pub open_kernel: u64,
}

impl Audit {
    /// All tables below `root`; `read` reads an entry of a table.
    pub fn of(root: u64, read: impl Fn(u64, usize) -> u64) -> Audit {
        let mut a = Audit::default();
        a.walk(&read, root, 3, host::RW | host::US, false);
        a
    }

    /// `rights`: RW, US and NX of the entries that lead to the table. A right has to be in all, NX in one.
    fn walk(&mut self, read: &impl Fn(u64, usize) -> u64, table: u64, level: u32, rights: u64, upper: bool) {
        for i in 0..ENTRIES {
            let e = read(table, i);
            if e & host::P == 0 {
                continue;
            }
            let rights = rights & e & (host::RW | host::US) | (rights | e) & host::NX;
            let upper = upper || level == 3 && i >= ENTRIES / 2;
            if level > 0 && e & PAGE_SIZE == 0 {
                self.walk(read, e & ADDRESS, level - 1, rights, upper);
                continue;
            }
            self.leaves += 1;
            self.writable_code += u64::from(rights & (host::RW | host::NX) == host::RW);
            self.open_kernel += u64::from(upper && rights & host::US != 0);
        }
    }
}
