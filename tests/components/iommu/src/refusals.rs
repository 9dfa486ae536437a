//! Each cause of each status, and that nothing has changed.

use crate::checks::{HERE, drop_cap, first_space, null, works};
use crate::interrupts::silent_interrupt;
use crate::machine::{Machine, Shared, selector};
use crate::{Check, Outcome};
use abi::{CreatePdOp, Mad, Sel, Status, perm, root_obj};
use rt::hypercall as hc;
use std::fmt::Debug;

pub const CHECKS: &[Check] = &[
    ("assign_dev-12 assign_dev-13 spaces-64", "assign_dev: BAD_CAP", assign_cap),
    ("assign_dev-14 assign_dev-17", "assign_dev: BAD_DEV", assign_dev),
    ("ctrl_pd-1 ctrl_pd-16 ctrl_pd-17 spaces-64", "ctrl_pd into a DMA space: BAD_CAP", delegate_cap),
    ("ctrl_pd-18 ctrl_pd-19 spaces-62", "ctrl_pd into a DMA space: BAD_PAR", delegate_par),
    ("assign_dev-15 assign_dev-23", "assign_dev: MEM_OBJ; BAD_DEV with AMD-Vi", assign_memory),
    ("create_pd-19 ctrl_pd-23", "DMA space: MEM_OBJ, MEM_CAP where the account has no frame", no_memory),
];

/// Where there is one that does not answer.
pub const SILENT: &[Check] = &[
    ("assign_dev-16", "a unit that does not answer: ABORTED, and the device is blocked", silent_device),
    ("assign_int-20", "a unit that does not answer: ABORTED, and the interrupt does not come", silent_interrupt),
];

/// Where there is no IOMMU.
pub const WITHOUT: &[Check] = &[("assign_dev-2 create_pd-17", "no IOMMU: BAD_FTR", no_iommu)];

fn refused<T: Debug>(what: &str, got: Result<T, Status>, want: Status) -> Outcome {
    match got {
        Err(s) if s == want => Ok(()),
        other => Err(format!("{what}: expected {want:?}, got {other:?}")),
    }
}

fn masked(sel: Sel, perms: u8) -> Result<Sel, String> {
    let to = selector();
    // SAFETY: object spaces.
    unsafe { hc::ctrl_pd(root_obj::ROOT_OBJ, root_obj::ROOT_OBJ, sel, to, 0, perms, Mad::WB) }
        .map_err(|e| format!("{e:?}"))?;
    Ok(to)
}

fn assign_cap(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    let weak = masked(s, perm::Space::GRANT.bits())?;
    for (what, sel) in [
        ("null", null()),
        ("a PD", root_obj::ROOT_PD),
        ("a host space", m.hst),
        ("beyond", abi::SEL_NUM),
        ("no ASSIGN", weak),
    ] {
        refused(what, hc::assign_dev(sel, m.unit(), m.edu[0].bdf.into()), Status::BadCap)?;
    }
    works(m)
}

fn assign_dev(m: &mut Machine) -> Outcome {
    first_space(m)?;
    // It must not get the device.
    let empty = m.space()?;
    let bdf: u64 = m.edu[0].bdf.into();
    for (what, unit, dad) in [
        ("no such unit", m.unit() + 0x1000, bdf),
        ("no unit at all", 0, bdf),
        ("another segment", m.unit(), 1 << 16 | bdf),
        ("reserved bits", m.unit(), 1 << 32 | bdf),
        ("reserved bits", m.unit(), 1 << 63 | bdf),
    ] {
        refused(what, hc::assign_dev(empty, unit, dad), Status::BadDev)?;
    }
    works(m)?;
    drop_cap(empty).map_err(|e| format!("{e:?}"))
}

fn assign_memory(m: &mut Machine) -> Outcome {
    let (s, pd, other_bus) = (first_space(m)?, selector(), 7 << 8);
    if m.amdvi {
        // Its table is there from boot on, for all devices that firmware names.
        refused("a device that firmware does not name", hc::assign_dev(s, m.unit(), other_bus), Status::BadDev)?;
        return works(m);
    }
    hc::create_account(pd, root_obj::ROOT_PD, 1).map_err(|e| format!("{e:?}"))?;
    let (limit, used) = hc::read_quota(root_obj::ROOT_PD).map_err(|e| format!("{e:?}"))?;
    hc::move_quota(root_obj::ROOT_PD, pd, limit - used).map_err(|e| format!("{e:?}"))?;
    refused("no frame left", hc::assign_dev(s, m.unit(), other_bus), Status::MemObj)?;
    works(m)?;
    drop_cap(pd).map_err(|e| format!("{e:?}"))?;
    hc::read_quota(root_obj::ROOT_PD).map_err(|e| format!("{e:?}"))?;
    hc::assign_dev(s, m.unit(), other_bus).map_err(|e| format!("with frames: {e:?}"))?;
    works(m)
}

fn delegate(src: Sel, dst: Sel, to: u64, order: u32) -> Result<(), Status> {
    // SAFETY: not our host space.
    unsafe { hc::ctrl_pd(src, dst, 0, to, order, perm::ALL, Mad::WB) }
}

fn delegate_cap(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    let weak = masked(s, perm::Space::ASSIGN.bits())?;
    refused("without GRANT", delegate(m.hst, weak, HERE >> 12, 0), Status::BadCap)?;
    refused("as source", delegate(s, m.hst, HERE >> 12, 0), Status::BadCap)?;
    refused("from a DMA space", delegate(s, s, HERE >> 12, 0), Status::BadCap)?;
    refused("from a PIO space", delegate(m.pio, s, HERE >> 12, 0), Status::BadCap)?;
    works(m)
}

fn delegate_par(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    refused("not aligned", delegate(m.hst, s, HERE >> 12, 1), Status::BadPar)?;
    for page in [1 << 36, 1 << 51] {
        refused("beyond its end", delegate(m.hst, s, page, 0), Status::BadPar)?;
    }
    delegate(m.hst, s, (1 << 36) - 1, 0).map_err(|e| format!("the last page: {e:?}"))?;
    works(m)
}

fn no_memory(m: &mut Machine) -> Outcome {
    let (pd, s) = (selector(), selector());
    hc::create_account(pd, root_obj::ROOT_PD, 2).map_err(|e| format!("{e:?}"))?;
    // One for the table, none for tables below: a frame of objects is the other.
    hc::create_pd(CreatePdOp::Dma, s, pd).map_err(|e| format!("{e:?}"))?;
    refused("a second one", hc::create_pd(CreatePdOp::Dma, null(), pd), Status::MemObj)?;
    match m.show(s, Shared(0), HERE, perm::Mem::R) {
        Err(e) if e.contains("MemCap") => {}
        other => return Err(format!("tables: {other:?}")),
    }
    [s, pd].into_iter().try_for_each(drop_cap).map_err(|e| format!("{e:?}"))?;
    works(m)
}

fn no_iommu(m: &mut Machine) -> Outcome {
    refused("create_pd", hc::create_pd(CreatePdOp::Dma, selector(), root_obj::ROOT_PD), Status::BadFtr)?;
    for (sel, unit) in [(m.hst, m.unit()), (null(), 0)] {
        refused("assign_dev", hc::assign_dev(sel, unit, 0), Status::BadFtr)?;
    }
    Ok(())
}

fn silent_device(m: &mut Machine) -> Outcome {
    let s = m.space()?;
    m.show(s, Shared(0), HERE, perm::Mem::R | perm::Mem::W)?;
    Shared(0).fill(0x17);
    for edu in m.edu.clone() {
        refused("assign_dev", hc::assign_dev(s, m.unit(), edu.bdf.into()), Status::Aborted)?;
        edu.dma(true, HERE)?;
    }
    m.log();
    if Shared(0).uniform(abi::PAGE_SIZE) != Some(0x17) {
        return Err("a device has written to the page".into());
    }
    drop_cap(s).map_err(|e| format!("{e:?}"))
}
