//! Encodings of VMCS fields: Intel SDM vol. 3, appendix B. Names follow the manual.
#![allow(missing_docs, reason = "the names are those of the manual")]

/// Encoding of a VMCS field: index in bits 9:1, type in 11:10, width in 14:13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(pub u32);

impl Field {
    /// Mask of the bits that the field holds.
    pub const fn value_mask(self) -> u64 {
        match self.0 >> 13 & 3 {
            0 => 0xffff,
            2 => 0xffff_ffff,
            _ => u64::MAX,
        }
    }

    /// Whether the field is one of the VM-exit information fields, which VMWRITE refuses.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 10 & 3 == 1
    }
}

// 16-bit control fields.
pub const VPID: Field = Field(0x0000);

// 16-bit guest-state fields.
pub const GUEST_ES_SELECTOR: Field = Field(0x0800);
pub const GUEST_CS_SELECTOR: Field = Field(0x0802);
pub const GUEST_SS_SELECTOR: Field = Field(0x0804);
pub const GUEST_DS_SELECTOR: Field = Field(0x0806);
pub const GUEST_FS_SELECTOR: Field = Field(0x0808);
pub const GUEST_GS_SELECTOR: Field = Field(0x080a);
pub const GUEST_LDTR_SELECTOR: Field = Field(0x080c);
pub const GUEST_TR_SELECTOR: Field = Field(0x080e);

// 16-bit host-state fields.
pub const HOST_ES_SELECTOR: Field = Field(0x0c00);
pub const HOST_CS_SELECTOR: Field = Field(0x0c02);
pub const HOST_SS_SELECTOR: Field = Field(0x0c04);
pub const HOST_DS_SELECTOR: Field = Field(0x0c06);
pub const HOST_FS_SELECTOR: Field = Field(0x0c08);
pub const HOST_GS_SELECTOR: Field = Field(0x0c0a);
pub const HOST_TR_SELECTOR: Field = Field(0x0c0c);

// 64-bit control fields.
pub const IO_BITMAP_A: Field = Field(0x2000);
pub const IO_BITMAP_B: Field = Field(0x2002);
pub const MSR_BITMAP: Field = Field(0x2004);
pub const VM_EXIT_MSR_STORE_ADDRESS: Field = Field(0x2006);
pub const VM_EXIT_MSR_LOAD_ADDRESS: Field = Field(0x2008);
pub const VM_ENTRY_MSR_LOAD_ADDRESS: Field = Field(0x200a);
pub const TSC_OFFSET: Field = Field(0x2010);
pub const VIRTUAL_APIC_ADDRESS: Field = Field(0x2012);
pub const APIC_ACCESS_ADDRESS: Field = Field(0x2014);
pub const EPTP: Field = Field(0x201a);

// 64-bit read-only data field.
pub const GUEST_PHYSICAL_ADDRESS: Field = Field(0x2400);

// 64-bit guest-state fields.
pub const VMCS_LINK_POINTER: Field = Field(0x2800);
pub const GUEST_IA32_DEBUGCTL: Field = Field(0x2802);
pub const GUEST_IA32_PAT: Field = Field(0x2804);
pub const GUEST_IA32_EFER: Field = Field(0x2806);
pub const GUEST_PDPTE0: Field = Field(0x280a);
pub const GUEST_PDPTE1: Field = Field(0x280c);
pub const GUEST_PDPTE2: Field = Field(0x280e);
pub const GUEST_PDPTE3: Field = Field(0x2810);

// 64-bit host-state fields.
pub const HOST_IA32_PAT: Field = Field(0x2c00);
pub const HOST_IA32_EFER: Field = Field(0x2c02);

// 32-bit control fields.
pub const PIN_BASED_CONTROLS: Field = Field(0x4000);
pub const PRIMARY_PROCESSOR_CONTROLS: Field = Field(0x4002);
pub const EXCEPTION_BITMAP: Field = Field(0x4004);
pub const PAGE_FAULT_ERROR_CODE_MASK: Field = Field(0x4006);
pub const PAGE_FAULT_ERROR_CODE_MATCH: Field = Field(0x4008);
pub const CR3_TARGET_COUNT: Field = Field(0x400a);
pub const VM_EXIT_CONTROLS: Field = Field(0x400c);
pub const VM_EXIT_MSR_STORE_COUNT: Field = Field(0x400e);
pub const VM_EXIT_MSR_LOAD_COUNT: Field = Field(0x4010);
pub const VM_ENTRY_CONTROLS: Field = Field(0x4012);
pub const VM_ENTRY_MSR_LOAD_COUNT: Field = Field(0x4014);
pub const VM_ENTRY_INTERRUPTION_INFO: Field = Field(0x4016);
pub const VM_ENTRY_EXCEPTION_ERROR_CODE: Field = Field(0x4018);
pub const VM_ENTRY_INSTRUCTION_LENGTH: Field = Field(0x401a);
pub const TPR_THRESHOLD: Field = Field(0x401c);
pub const SECONDARY_PROCESSOR_CONTROLS: Field = Field(0x401e);

// 32-bit read-only data fields.
pub const VM_INSTRUCTION_ERROR: Field = Field(0x4400);
pub const EXIT_REASON: Field = Field(0x4402);
pub const VM_EXIT_INTERRUPTION_INFO: Field = Field(0x4404);
pub const VM_EXIT_INTERRUPTION_ERROR_CODE: Field = Field(0x4406);
pub const IDT_VECTORING_INFO: Field = Field(0x4408);
pub const IDT_VECTORING_ERROR_CODE: Field = Field(0x440a);
pub const VM_EXIT_INSTRUCTION_LENGTH: Field = Field(0x440c);
pub const VM_EXIT_INSTRUCTION_INFO: Field = Field(0x440e);

// 32-bit guest-state fields.
pub const GUEST_ES_LIMIT: Field = Field(0x4800);
pub const GUEST_CS_LIMIT: Field = Field(0x4802);
pub const GUEST_SS_LIMIT: Field = Field(0x4804);
pub const GUEST_DS_LIMIT: Field = Field(0x4806);
pub const GUEST_FS_LIMIT: Field = Field(0x4808);
pub const GUEST_GS_LIMIT: Field = Field(0x480a);
pub const GUEST_LDTR_LIMIT: Field = Field(0x480c);
pub const GUEST_TR_LIMIT: Field = Field(0x480e);
pub const GUEST_GDTR_LIMIT: Field = Field(0x4810);
pub const GUEST_IDTR_LIMIT: Field = Field(0x4812);
pub const GUEST_ES_ACCESS_RIGHTS: Field = Field(0x4814);
pub const GUEST_CS_ACCESS_RIGHTS: Field = Field(0x4816);
pub const GUEST_SS_ACCESS_RIGHTS: Field = Field(0x4818);
pub const GUEST_DS_ACCESS_RIGHTS: Field = Field(0x481a);
pub const GUEST_FS_ACCESS_RIGHTS: Field = Field(0x481c);
pub const GUEST_GS_ACCESS_RIGHTS: Field = Field(0x481e);
pub const GUEST_LDTR_ACCESS_RIGHTS: Field = Field(0x4820);
pub const GUEST_TR_ACCESS_RIGHTS: Field = Field(0x4822);
pub const GUEST_INTERRUPTIBILITY_STATE: Field = Field(0x4824);
pub const GUEST_ACTIVITY_STATE: Field = Field(0x4826);
pub const GUEST_IA32_SYSENTER_CS: Field = Field(0x482a);
pub const VMX_PREEMPTION_TIMER_VALUE: Field = Field(0x482e);

// 32-bit host-state field.
pub const HOST_IA32_SYSENTER_CS: Field = Field(0x4c00);

// Natural-width control fields.
pub const CR0_GUEST_HOST_MASK: Field = Field(0x6000);
pub const CR4_GUEST_HOST_MASK: Field = Field(0x6002);
pub const CR0_READ_SHADOW: Field = Field(0x6004);
pub const CR4_READ_SHADOW: Field = Field(0x6006);

// Natural-width read-only data fields.
pub const EXIT_QUALIFICATION: Field = Field(0x6400);
pub const GUEST_LINEAR_ADDRESS: Field = Field(0x640a);

// Natural-width guest-state fields.
pub const GUEST_CR0: Field = Field(0x6800);
pub const GUEST_CR3: Field = Field(0x6802);
pub const GUEST_CR4: Field = Field(0x6804);
pub const GUEST_ES_BASE: Field = Field(0x6806);
pub const GUEST_CS_BASE: Field = Field(0x6808);
pub const GUEST_SS_BASE: Field = Field(0x680a);
pub const GUEST_DS_BASE: Field = Field(0x680c);
pub const GUEST_FS_BASE: Field = Field(0x680e);
pub const GUEST_GS_BASE: Field = Field(0x6810);
pub const GUEST_LDTR_BASE: Field = Field(0x6812);
pub const GUEST_TR_BASE: Field = Field(0x6814);
pub const GUEST_GDTR_BASE: Field = Field(0x6816);
pub const GUEST_IDTR_BASE: Field = Field(0x6818);
pub const GUEST_DR7: Field = Field(0x681a);
pub const GUEST_RSP: Field = Field(0x681c);
pub const GUEST_RIP: Field = Field(0x681e);
pub const GUEST_RFLAGS: Field = Field(0x6820);
pub const GUEST_PENDING_DEBUG_EXCEPTIONS: Field = Field(0x6822);
pub const GUEST_IA32_SYSENTER_ESP: Field = Field(0x6824);
pub const GUEST_IA32_SYSENTER_EIP: Field = Field(0x6826);

// Natural-width host-state fields.
pub const HOST_CR0: Field = Field(0x6c00);
pub const HOST_CR3: Field = Field(0x6c02);
pub const HOST_CR4: Field = Field(0x6c04);
pub const HOST_FS_BASE: Field = Field(0x6c06);
pub const HOST_GS_BASE: Field = Field(0x6c08);
pub const HOST_TR_BASE: Field = Field(0x6c0a);
pub const HOST_GDTR_BASE: Field = Field(0x6c0c);
pub const HOST_IDTR_BASE: Field = Field(0x6c0e);
pub const HOST_IA32_SYSENTER_ESP: Field = Field(0x6c10);
pub const HOST_IA32_SYSENTER_EIP: Field = Field(0x6c12);
pub const HOST_RSP: Field = Field(0x6c14);
pub const HOST_RIP: Field = Field(0x6c16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_tell_width_and_type() {
        assert_eq!(VPID.value_mask(), 0xffff);
        assert_eq!(EPTP.value_mask(), u64::MAX);
        assert_eq!(EXCEPTION_BITMAP.value_mask(), 0xffff_ffff);
        assert_eq!(HOST_RIP.value_mask(), u64::MAX);
        for f in [GUEST_PHYSICAL_ADDRESS, EXIT_REASON, IDT_VECTORING_INFO, EXIT_QUALIFICATION] {
            assert!(f.is_read_only(), "{f:?}");
        }
        for f in [VPID, GUEST_RIP, HOST_RIP, EPTP, VM_ENTRY_CONTROLS] {
            assert!(!f.is_read_only(), "{f:?}");
        }
    }
}
