//! SVM without the instructions: controls, state transfer between VMCB and UTCB, events and exits.
//!
//! The kernel owns everything that executes an instruction; here a [`Vmcb`] is plain memory. Start: [`negotiate`]
//! once a CPU, [`init`] once a vCPU; then per exit [`requeue`], [`track_nmi`], [`decode_exit`], [`save`]; per reply
//! [`load`]; and before each entry [`window_due`]. Vendor-neutral parts are in `virt`; the twin is `vmx`.
//!
//! VMMs see one architecture: guest events have the numbers of VMX exit reasons, and UTCB fields (qualifications,
//! interruption information, execution controls) have their VMX encodings on both back ends. Where SVM says less:
//!
//! - `inst_len` is 0 if the length is not known: always for exceptions; without NRIPS also for CR, DR and
//!   descriptor-table accesses and INVLPG. Lengths of other instructions count without redundant prefixes then.
//! - `inst_info` has [`abi::ArchState::INST_DECODE`] if the qualification lacks register, address or segment: for CR and
//!   DR accesses and INVLPG without decode assists, LMSW and CLTS, accesses to descriptor tables, and INS and OUTS
//!   where the CPU reports no address size.
//! - EPT violations have no guest-linear address, and of the permissions only "readable" where the page is present.
//! - There is no activity state HLT, no monitor trap flag, and no PDPTE: the CPU reads them from guest memory.
//! - Task switches do not exit: the CPU carries them out.
//! - CR0 and CR4 have no owned bits: a VMM that asks for some gets an exit for each write to the register, or for each
//!   that changes more than TS and MP. On CPUs with bits of CR4 that must not be in force
//!   ([`virt::CR4_NOT_SWITCHED`]) each write to CR4 exits; elsewhere the CPU refuses them.
//! - Blocking by STI and MOV SS are one; blocking by NMI is kept by software, and ends when IRET was executed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod asid;
mod composite;
mod controls;
mod cr;
mod event;
mod exit;
pub mod msrpm;
mod segment;
mod setup;
pub mod spec;
mod state;
mod vmcb;

pub use asid::{Asid, Asids};
pub use composite::load_shadow;
pub use controls::{CapabilityBits, Controls, negotiate};
pub use event::{decode_exit, entry_failed, plain_exit, requeue, settle, track_nmi, window_due};
pub use exit::{NO_EVENT, code};
pub use setup::{GuestSetup, assign, flush, init, is_of_host, reset};
pub use state::{PLAIN, RARE, load, load_plain, save, save_plain};
pub use vmcb::{ControlArea, Intercepts, Software, StateSaveArea, Vmcb, VmcbSegment};
