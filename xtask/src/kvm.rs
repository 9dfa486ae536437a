//! Whether the host's KVM lets its guests virtualise: that is what we need, and what a device node does not say.
//!
//! Key types: [`Extension`], [`Unfit`]. [`crate::platform`] asks [`offered`].

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

/// What the CPU of a KVM guest can virtualise with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// VT-x.
    Vmx,
    /// SVM, with nested paging.
    Svm,
}

/// Why KVM is of no use to us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No device, or one that we may not open, or one that is not KVM's.
    #[error("/dev/kvm cannot be used: {0}")]
    Closed(String),
    /// It does not say what it offers.
    #[error("KVM does not answer KVM_GET_SUPPORTED_CPUID: {0}")]
    Silent(String),
    /// Neither extension.
    #[error("KVM here offers its guests neither VMX nor SVM (KVM_GET_SUPPORTED_CPUID)")]
    Neither,
    /// SVM only without nested paging.
    #[error("KVM here offers its guests SVM, but without nested paging (KVM_GET_SUPPORTED_CPUID)")]
    NoNestedPaging,
}

/// CPUID leaves and bits (Intel SDM, volume 2A, CPUID; AMD APM, volume 3, appendix E).
mod leaf {
    pub const FEATURES: u32 = 1;
    pub const FEATURES_ECX_VMX: u32 = 1 << 5;
    pub const EXTENDED: u32 = 0x8000_0001;
    pub const EXTENDED_ECX_SVM: u32 = 1 << 2;
    pub const SVM: u32 = 0x8000_000a;
    pub const SVM_EDX_NP: u32 = 1;
}

/// Asks the host's KVM.
pub fn offered() -> Result<Extension, Unfit> {
    let kvm = Kvm::new().map_err(|e| Unfit::Closed(e.to_string()))?;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| Unfit::Silent(e.to_string()))?;
    extension(cpuid.as_slice())
}

fn extension(table: &[kvm_cpuid_entry2]) -> Result<Extension, Unfit> {
    let has = |function, register: fn(&kvm_cpuid_entry2) -> u32, bit| {
        table.iter().any(|e| e.function == function && register(e) & bit != 0)
    };
    if has(leaf::FEATURES, |e| e.ecx, leaf::FEATURES_ECX_VMX) {
        return Ok(Extension::Vmx);
    }
    match (has(leaf::EXTENDED, |e| e.ecx, leaf::EXTENDED_ECX_SVM), has(leaf::SVM, |e| e.edx, leaf::SVM_EDX_NP)) {
        (false, _) => Err(Unfit::Neither),
        (true, false) => Err(Unfit::NoNestedPaging),
        (true, true) => Ok(Extension::Svm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, ecx, edx, ..kvm_cpuid_entry2::default() }
    }

    /// Leaf 1 of a Core i7 and of an EPYC, as KVM gives them: without VMX in either.
    const ECX: u32 = 0xfffa_3203 & !leaf::FEATURES_ECX_VMX;

    #[test]
    fn vt_x_is_a_bit_of_leaf_1() {
        let table = |ecx| [entry(0, 0x6c65_746e, 0), entry(leaf::FEATURES, ecx, 0), entry(leaf::EXTENDED, 0x121, 0)];
        assert_eq!(extension(&table(ECX | leaf::FEATURES_ECX_VMX)), Ok(Extension::Vmx));
        assert_eq!(extension(&table(ECX)), Err(Unfit::Neither));
    }

    #[test]
    fn svm_needs_nested_paging() {
        let table = |ecx, edx| [entry(leaf::FEATURES, ECX, 0), entry(leaf::EXTENDED, ecx, 0), entry(leaf::SVM, 0, edx)];
        assert_eq!(extension(&table(0x7, 0b1001)), Ok(Extension::Svm));
        assert_eq!(extension(&table(0x7, 0b1000)), Err(Unfit::NoNestedPaging));
        assert_eq!(extension(&table(0x3, 0b0001)), Err(Unfit::Neither), "leaf 8000000a alone means nothing");
    }

    #[test]
    fn only_the_right_leaf_and_register_count() {
        let all = u32::MAX;
        assert_eq!(extension(&[entry(leaf::FEATURES, 0, all), entry(7, all, all)]), Err(Unfit::Neither));
        assert_eq!(extension(&[entry(leaf::EXTENDED, 0, all), entry(leaf::SVM, 0, all)]), Err(Unfit::Neither));
        assert_eq!(extension(&[]), Err(Unfit::Neither));
    }

    #[test]
    fn this_machine_has_an_answer() {
        // Whatever it is, it must be one, and a reason if there is no KVM.
        match offered() {
            Ok(e) => assert!(matches!(e, Extension::Vmx | Extension::Svm)),
            Err(why) => assert!(why.to_string().to_lowercase().contains("kvm")),
        }
    }
}
