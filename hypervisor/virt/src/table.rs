//! Which fields of an [`ArchState`](abi::ArchState) each bit of an [`Mtd`](abi::Mtd) moves for a guest (NOVA 8.7.4), and
//! where each back end has them: one table.
//!
//! [`transfer_table`] hands it to a macro. Both back ends make `save` and `load` of it by [`transfer_functions`]; the
//! feature `groups` makes a list of it, for tests.

/// The table: a group for each bit of the descriptor; in each group for each field of the UTCB its direction, its name
/// (of arrays also the first element and the number), its slot in VT-x and its slot in SVM.
///
/// What the words of a slot mean is said in `state` of each back end. `plain` groups are little more than moves, and come first
/// on the path of an exit, before `frequent` ones; of `rare` ones one test skips all; `kernel` groups concern what no back end holds. Words after the macro's name
/// come before the table.
///
/// Order counts: RFLAGS and RIP come before INJ, which may move RIP and looks at RFLAGS.IF.
#[macro_export]
macro_rules! transfer_table {
    ($generate:ident $($argument:tt)*) => {
        $generate! {
            $($argument)*
            plain {
                GPR_0_7 { RW gpr[0, 8]: (call save_gpr_0_7 load_gpr_0_7) (call save_gpr_0_7 load_gpr_0_7); }
                GPR_8_15 { RW gpr[8, 8]: (call save_gpr_8_15 load_gpr_8_15) (call save_gpr_8_15 load_gpr_8_15); }
                RFLAGS { RW rflags: (vmcs guest RFLAGS clean_rflags) (vmcb rflags UNCACHED clean_rflags); }
                RIP {
                    RW rip: (vmcs guest RIP) (vmcb rip UNCACHED);
                    R inst_len: (vmcs ro VMEXIT_INSTRUCTION_LEN) (call save_instruction);
                    R inst_info: (vmcs ro VMEXIT_INSTRUCTION_INFO) (part_of instruction);
                }
                STA {
                    RW intr_state:
                        (vmcs guest INTERRUPTIBILITY_STATE clean_interruptibility)
                        (call save_interruptibility load_interruptibility);
                    RW actv_state: (vmcs guest ACTIVITY_STATE clean_activity) (zero);
                }
                QUAL {
                    R qual: (call save_qualifications) (call save_qualifications);
                    R exc_info: (call save_exception) (call save_exception);
                    R exc_error: (part_of exception) (part_of exception);
                }
            }
            frequent {
                INJ {
                    RW inj_info: (call save_injection load_injection) (call save_injection load_injection);
                    RW inj_error: (part_of injection) (part_of injection);
                    R vect_info: (part_of injection) (part_of injection);
                    R vect_error: (part_of injection) (part_of injection);
                }
            }
            rare {
                CTRL {
                    W ctrl: (call load_controls) (call load_intercepts);
                    W ctrl3: (part_of controls) (part_of intercepts);
                    W intcpt_cr0: (part_of controls) (part_of intercepts);
                    W intcpt_cr4: (part_of controls) (part_of intercepts);
                    W intcpt_exc: (vmcs control EXCEPTION_BITMAP with_forced) (part_of intercepts);
                    W pfe_mask: (vmcs control PAGE_FAULT_ERR_CODE_MASK) (part_of intercepts);
                    W pfe_match: (vmcs control PAGE_FAULT_ERR_CODE_MATCH) (part_of intercepts);
                }
                TPR { W tpr_threshold: (call load_tpr_threshold) (call load_tpr_threshold); }
                CS_SS {
                    RW cs: (segment CS_SELECTOR) (segment cs SEG);
                    RW ss: (segment SS_SELECTOR) (call save_stack_segment load_stack_segment);
                }
                DS_ES { RW ds: (segment DS_SELECTOR) (segment ds SEG); RW es: (segment ES_SELECTOR) (segment es SEG); }
                FS_GS {
                    RW fs: (segment FS_SELECTOR) (segment fs UNCACHED);
                    RW gs: (segment GS_SELECTOR) (segment gs UNCACHED);
                }
                TR { RW tr: (segment TR_SELECTOR) (segment tr UNCACHED); }
                LDTR { RW ldtr: (segment LDTR_SELECTOR) (segment ldtr UNCACHED); }
                GDTR { RW gdtr: (descriptor_table GDTR_LIMIT GDTR_BASE) (descriptor_table gdtr DT); }
                IDTR { RW idtr: (descriptor_table IDTR_LIMIT IDTR_BASE) (descriptor_table idtr DT); }
                PDPTE { RW pdpte: (call save_pdptes load_pdptes) (zero); }
                CR {
                    RW cr0: (control CR0) (vmcb cr0 CRX);
                    RW cr2: (register cr2) (vmcb cr2 CR2);
                    RW cr3: (vmcs guest CR3) (vmcb cr3 CRX);
                    RW cr4: (control CR4) (vmcb cr4 CRX clean_cr4);
                    RW cr8: (register cr8 clean_cr8) (control cr8 set_cr8);
                }
                DR { RW dr7: (vmcs guest DR7 clean_dr7) (vmcb dr7 DRX clean_dr7); }
                XSAVE { RW xcr0: (xcr0) (xcr0); RW xss: (zero) (zero); }
                SYSCALL {
                    RW star: (msr star) (vmcb star UNCACHED);
                    RW lstar: (msr lstar) (vmcb lstar UNCACHED);
                    RW fmask: (msr fmask) (vmcb sfmask UNCACHED);
                }
                SYSENTER {
                    RW sysenter_cs: (vmcs guest IA32_SYSENTER_CS clean_sysenter_cs) (vmcb sysenter_cs UNCACHED);
                    RW sysenter_esp: (vmcs guest IA32_SYSENTER_ESP) (vmcb sysenter_esp UNCACHED);
                    RW sysenter_eip: (vmcs guest IA32_SYSENTER_EIP) (vmcb sysenter_eip UNCACHED);
                }
                PAT { RW pat: (vmcs guest IA32_PAT_FULL) (vmcb g_pat NP); }
                EFER { RW efer: (vmcs guest IA32_EFER_FULL clean_efer) (control efer set_efer); }
                KERNEL_GS { RW kernel_gs_base: (msr kernel_gs_base) (vmcb kernel_gs_base UNCACHED); }
                TSC { RW tsc_aux: (msr tsc_aux) (msr tsc_aux); }
            }
            kernel {
                APIC { W apic_base: () (); }
                SPACES { W sel_gst: () (); W sel_pio: () (); W sel_msr: () (); }
            }
        }
    };
}

/// `save` and `load` of a back end, made of [`transfer_table`].
///
/// In brackets are the types of its state and of what `save` and `load` are told besides. The back end has the macros
/// `save_row!` and `load_row!`, which make a statement of a row and take their column, and `settle_long_mode`.
#[macro_export]
macro_rules! transfer_functions {
    ([$vcpu:ty, $save_with:ty, $load_with:ty] plain $plain:tt frequent $frequent:tt rare $rare:tt kernel $kernel:tt) => {
        $crate::transfer_group! {
            #[inline(always)] pub [$vcpu, $save_with, $load_with] PLAIN save_plain load_plain $plain
        }
        $crate::transfer_group! {
            #[inline] pub(self) [$vcpu, $save_with, $load_with] FREQUENT save_frequent load_frequent $frequent
        }
        $crate::transfer_group! {
            #[inline(never)] pub [$vcpu, $save_with, $load_with] RARE save_rare load_rare $rare
        }

        const _: () = assert!(PLAIN.union(FREQUENT).intersection(RARE).is_empty());

        /// Moves the state that `mtd` selects from the vCPU to the UTCB, for an event. [`crate::requeue`] comes first.
        #[inline(never)]
        pub fn save(mtd: Mtd, utcb: &mut ArchState, vcpu: &$vcpu, regs: &VcpuRegs, with: &$save_with) {
            save_plain(mtd, utcb, vcpu, regs, with);
            save_frequent(mtd, utcb, vcpu, regs, with);
            if mtd.intersects(RARE) {
                save_rare(mtd, utcb, vcpu, regs, with);
            }
        }

        /// Moves the state that `mtd` selects from the UTCB to the vCPU, for a reply.
        ///
        /// Values that could harm the host are made harmless; values that merely make no sense fail VM entry, which is
        /// an event for the VMM.
        #[inline(never)]
        pub fn load(mtd: Mtd, utcb: &ArchState, vcpu: &mut $vcpu, regs: &mut VcpuRegs, with: &$load_with) {
            load_plain(mtd, utcb, vcpu, regs, with);
            load_frequent(mtd, utcb, vcpu, regs, with);
            if mtd.intersects(RARE) {
                load_rare(mtd, utcb, vcpu, regs, with);
                if mtd.intersects(Mtd::CR.union(Mtd::EFER)) {
                    settle_long_mode(vcpu);
                }
            }
        }
    };
}

/// The functions of some groups.
#[doc(hidden)]
#[macro_export]
macro_rules! transfer_group {
    (#[$inline:meta] pub $(($in:ident))? [$vcpu:ty, $save_with:ty, $load_with:ty] $bits:ident $save:ident $load:ident {
        $($mtd:ident { $($access:ident $field:ident $([$($part:tt)*])?: $vmx:tt $svm:tt;)* })*
    }) => {
        /// The groups that these functions move.
        pub $(($in))? const $bits: Mtd = Mtd::empty()$(.union(Mtd::$mtd))*;

        /// [`save`] of these groups, which other groups do not matter to.
        #[$inline]
        pub $(($in))? fn $save(mtd: Mtd, u: &mut ArchState, v: &$vcpu, r: &VcpuRegs, with: &$save_with) {
            $(if mtd.contains(Mtd::$mtd) {
                $(save_row!(u v r with $access $field $vmx $svm);)*
            })*
        }

        /// [`load`] of these groups.
        #[$inline]
        pub $(($in))? fn $load(mtd: Mtd, u: &ArchState, v: &mut $vcpu, r: &mut VcpuRegs, with: &$load_with) {
            $(if mtd.contains(Mtd::$mtd) {
                $(load_row!(u v r with $access $field $vmx $svm);)*
            })*
        }
    };
}
