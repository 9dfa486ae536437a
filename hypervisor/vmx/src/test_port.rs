//! A VMCS in a map, for tests: keeps field widths, refuses what VMWRITE refuses, and sees uninitialised reads.

use crate::{Field, VmcsPort};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestPort {
    fields: BTreeMap<Field, u64>,
    /// Number of VMWRITEs.
    pub writes: usize,
}

impl TestPort {
    /// What hardware does: may set the read-only fields too.
    pub fn poke(&mut self, field: Field, value: u64) {
        self.fields.insert(field, value & field.value_mask());
    }

    pub fn fields(&self) -> impl Iterator<Item = (Field, u64)> {
        self.fields.iter().map(|(f, v)| (*f, *v))
    }
}

impl VmcsPort for TestPort {
    fn read(&self, field: Field) -> u64 {
        *self.fields.get(&field).unwrap_or_else(|| panic!("{field:x?} was never written"))
    }

    fn write(&mut self, field: Field, value: u64) {
        assert!(!field.is_read_only(), "{field:x?} is read-only");
        assert_eq!(value & !field.value_mask(), 0, "{field:x?} is narrower than {value:#x}");
        self.writes += 1;
        self.fields.insert(field, value);
    }
}
