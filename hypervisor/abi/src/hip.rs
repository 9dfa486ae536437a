//! Hypervisor information page (6.3, 8.7.2).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "NOVA", little endian.
pub const HIP_SIGNATURE: u32 = 0x4156_4f4e;
/// "FERO", little endian: the extension of this system is present behind the architecture-dependent part.
pub const EXT_SIGNATURE: u32 = 0x4f52_4546;

bitflags! {
    /// Platform features (8.7.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// An IOMMU is enabled.
        const IOMMU = 1 << 0;
        /// Intel VMX is enabled.
        const VMX = 1 << 1;
        /// AMD SVM is enabled.
        const SVM = 1 << 2;
    }

    /// Extensions that this kernel has (docs/design/0010).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExtFeatures: u64 {
        /// X1: capabilities travel in messages.
        const TRANSFER = 1 << 0;
        /// X2: kernel-memory quotas.
        const QUOTA = 1 << 1;
        /// X3: objects can be destroyed.
        const DESTROY = 1 << 2;
        /// X4: the first words of a message travel in registers.
        const REGISTERS = 1 << 3;
        /// X5: the state of an execution context can be read and written outside of a portal.
        const STATE = 1 << 4;
        /// X6: trace.
        const TRACE = 1 << 5;
        /// Allocations can be made to fail. Kernels for tests only.
        const INJECT = 1 << 6;
        /// X7: memory can be delegated so that it goes no further.
        const BOUND = 1 << 7;
    }

    /// Extension: why this machine runs no guests. Empty when it does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VirtMissing: u32 {
        /// CPUID reports neither VMX nor SVM.
        const CPU = 1 << 0;
        /// The firmware locked VMX (IA32_FEATURE_CONTROL) or SVM (VM_CR) off.
        const LOCKED = 1 << 1;
        /// No extended page tables or nested paging.
        const NESTED_PAGING = 1 << 2;
        /// No VPIDs or ASIDs.
        const TLB_TAGS = 1 << 3;
        /// No unrestricted guest.
        const UNRESTRICTED = 1 << 4;
        /// A control that this microhypervisor needs cannot be set.
        const CONTROLS = 1 << 5;
        /// There is no back end for this vendor.
        const BACK_END = 1 << 6;
    }
}

impl VirtMissing {
    /// Human-readable names of the missing features, for messages.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::CPU, "VT-x or SVM (the CPU has neither)"),
            (Self::LOCKED, "VT-x or SVM (locked off by the firmware)"),
            (Self::NESTED_PAGING, "nested paging (EPT or NPT)"),
            (Self::TLB_TAGS, "TLB tags (VPIDs or ASIDs)"),
            (Self::UNRESTRICTED, "unrestricted guests"),
            (Self::CONTROLS, "VM controls that the kernel needs"),
            (Self::BACK_END, "a back end for this CPU vendor"),
        ]
        .into_iter()
        .filter(move |(f, _)| self.contains(*f))
        .map(|(_, n)| n)
    }
}

/// Hypervisor information page.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Hip {
    /// [`HIP_SIGNATURE`].
    pub signature: u32,
    /// The 16-bit words of the page add up to 0.
    pub checksum: u16,
    /// Length in bytes.
    pub length: u16,
    /// Physical range of the microhypervisor image, with its memory pool.
    pub nova_start: u64,
    /// End, exclusive.
    pub nova_end: u64,
    /// Physical range of the memory-buffer console (C.1).
    pub mbuf_start: u64,
    /// End, exclusive.
    pub mbuf_end: u64,
    /// Physical range of the root task's image.
    pub root_start: u64,
    /// End, exclusive.
    pub root_end: u64,
    /// Physical address of the RSDP, or all ones.
    pub acpi_rsdp: u64,
    /// Physical address of the UEFI memory map, or all ones.
    pub uefi_map: u64,
    /// Size of the UEFI memory map in bytes.
    pub uefi_map_size: u32,
    /// Size of a UEFI memory descriptor in bytes.
    pub uefi_desc_size: u16,
    /// UEFI memory descriptor version.
    pub uefi_desc_version: u16,
    /// Frequency of the system time counter (TSC) in Hz.
    pub stc_freq: u64,
    /// Number of selectors of an object space.
    pub sel_num: u64,
    /// Selectors for architectural host events.
    pub sel_hst_arch: u16,
    /// Additional selectors for microhypervisor host events.
    pub sel_hst_nova: u16,
    /// Selectors for architectural guest events.
    pub sel_gst_arch: u16,
    /// Additional selectors for microhypervisor guest events.
    pub sel_gst_nova: u16,
    /// CPUs online.
    pub cpu_num: u16,
    /// The bootstrap processor.
    pub cpu_bsp: u16,
    /// Pin-based interrupts.
    pub int_pin: u16,
    /// Message-signalled interrupts.
    pub int_msi: u16,
    /// Maximum order without partial failure: object space.
    pub mco_obj: u8,
    /// Host space.
    pub mco_hst: u8,
    /// Guest space.
    pub mco_gst: u8,
    /// DMA space.
    pub mco_dma: u8,
    /// PIO space.
    pub mco_pio: u8,
    /// MSR space.
    pub mco_msr: u8,
    /// Maximum memory-encryption key identifier.
    pub kimax: u16,
    /// [`Features`].
    pub features: u64,
    /// TPM event log: physical address.
    pub log_addr: u64,
    /// TPM event log: size in bytes.
    pub log_size: u32,
    /// TPM event log: offset behind the last entry.
    pub log_offset: u32,
    /// Extension: [`EXT_SIGNATURE`].
    pub ext_signature: u32,
    /// Extension: [`VirtMissing`].
    pub virt_missing: u32,
    /// Extension: bytes of kernel memory in use when the root task starts.
    pub kmem_used: u64,
    /// Extension: bytes of kernel memory in all.
    pub kmem_total: u64,
    /// Extension: [`ExtFeatures`].
    pub ext_features: u64,
    /// Extension: physical range of the trace rings ([`crate::trace`]).
    pub trace_start: u64,
    /// End, exclusive.
    pub trace_end: u64,
}

impl Hip {
    /// The checksum that makes the 16-bit words of the page add up to 0.
    pub fn compute_checksum(&self) -> u16 {
        let mut h = *self;
        h.checksum = 0;
        let sum = h.as_bytes().chunks_exact(2).fold(0u16, |s, w| s.wrapping_add(u16::from_le_bytes([w[0], w[1]])));
        sum.wrapping_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layout_is_that_of_the_specification() {
        for (have, want) in [
            (offset_of!(Hip, nova_start), 0x08),
            (offset_of!(Hip, acpi_rsdp), 0x38),
            (offset_of!(Hip, uefi_map_size), 0x48),
            (offset_of!(Hip, stc_freq), 0x50),
            (offset_of!(Hip, sel_num), 0x58),
            (offset_of!(Hip, sel_hst_arch), 0x60),
            (offset_of!(Hip, cpu_num), 0x68),
            (offset_of!(Hip, mco_obj), 0x70),
            (offset_of!(Hip, kimax), 0x76),
            (offset_of!(Hip, features), 0x78),
            (offset_of!(Hip, log_addr), 0x80),
            (offset_of!(Hip, ext_signature), 0x90),
        ] {
            assert_eq!(have, want);
        }
    }

    #[test]
    fn what_is_missing_is_named_in_the_words_of_both_vendors() {
        let names = |m: VirtMissing| m.names().collect::<Vec<_>>();
        assert_eq!(names(VirtMissing::all()).len(), VirtMissing::all().iter().count());
        let some = VirtMissing::CPU | VirtMissing::LOCKED | VirtMissing::NESTED_PAGING | VirtMissing::TLB_TAGS;
        assert!(names(some).iter().all(|n| n.contains(" or ")));
        assert!(names(VirtMissing::empty()).is_empty());
    }

    #[test]
    fn checksum_makes_the_page_valid() {
        let mut h = Hip::new_zeroed_for_test();
        assert!(!h.valid());
        h.signature = HIP_SIGNATURE;
        h.length = size_of::<Hip>() as u16;
        h.stc_freq = 0x1234_5678_9abc;
        h.checksum = h.compute_checksum();
        assert!(h.valid());
        h.cpu_num = 2;
        assert!(!h.valid());
    }

    #[test]
    fn guests_run_where_one_back_end_is_there() {
        for (features, want) in [(Features::empty(), false), (Features::VMX, true), (Features::SVM, true)] {
            let h = Hip { features: features.bits(), ..Hip::new_zeroed_for_test() };
            assert_eq!(h.guests(), want);
        }
    }

    impl Hip {
        fn new_zeroed_for_test() -> Hip {
            zerocopy::FromZeros::new_zeroed()
        }
    }
}
