//! Extensions of the interface (docs/design/0010): operations of hypercall number 0xf, which the specification leaves
//! free. Each is there if its bit in [`ExtFeatures`] is set, else it is `BAD_HYP`.

use super::ExtFeatures;

/// Operations of hypercall 0xf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExtOp {
    /// Destroy an object.
    Destroy = 0,
    /// Move kernel memory from one account to another.
    MoveQuota = 1,
    /// Read limit and use of an account.
    ReadQuota = 2,
    /// Set where an execution context receives capabilities.
    SetWindow = 3,
    /// Read the state of an execution context.
    GetState = 4,
    /// Write the state of an execution context.
    SetState = 5,
    /// Choose what is traced.
    CtrlTrace = 6,
    /// Make an allocation fail.
    Inject = 7,
    /// Have the kernel try to break its own rules: `Attempt`.
    Attempt = 8,
}

impl ExtOp {
    /// All operations, in the order of their numbers.
    pub const ALL: [ExtOp; 9] = {
        use ExtOp::*;
        [Destroy, MoveQuota, ReadQuota, SetWindow, GetState, SetState, CtrlTrace, Inject, Attempt]
    };

    /// The operation that the flags of hypercall 0xf name.
    pub const fn from_flags(f: u8) -> Option<ExtOp> {
        if (f as usize) < Self::ALL.len() { Some(Self::ALL[f as usize]) } else { None }
    }

    /// The extension that it belongs to.
    pub const fn feature(self) -> ExtFeatures {
        match self {
            ExtOp::Destroy => ExtFeatures::DESTROY,
            ExtOp::MoveQuota | ExtOp::ReadQuota => ExtFeatures::QUOTA,
            ExtOp::SetWindow => ExtFeatures::TRANSFER,
            ExtOp::GetState | ExtOp::SetState => ExtFeatures::STATE,
            ExtOp::CtrlTrace => ExtFeatures::TRACE,
            ExtOp::Inject | ExtOp::Attempt => ExtFeatures::INJECT,
        }
    }
}

/// Flag B of `ctrl_pd` (X7): memory that arrives in a host space goes no further.
pub const BOUND: u8 = 1;
/// Flag C of `ipc_call` and `ipc_reply` (X1): the message has typed items.
pub const WITH_ITEMS: u8 = 2;
/// Flag R of `ipc_call`, `ipc_reply` and `ctrl_pt` (X4).
pub const IN_REGISTERS: u8 = 8;
/// Words of a message in registers: R8, R9, R10, R12, R13, R14.
pub const REGISTER_WORDS: usize = 6;
/// What stands for the descriptor of a message that has arrived in registers.
pub const REGISTER_MTD: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attempt;

    #[test]
    fn numbers_round_trip() {
        for (i, op) in ExtOp::ALL.into_iter().enumerate() {
            assert_eq!(ExtOp::from_flags(i as u8), Some(op));
            assert_eq!(op.identifier(3), 0x300 | (i as u64) << 4 | 0xf);
        }
        assert_eq!(ExtOp::from_flags(ExtOp::ALL.len() as u8), None);
        Attempt::ALL.into_iter().enumerate().for_each(|(i, a)| assert_eq!(a as usize, i));
    }

    #[test]
    fn every_operation_is_behind_one_bit() {
        for op in ExtOp::ALL {
            assert_eq!(op.feature().bits().count_ones(), 1, "{op:?}");
        }
    }
}
