//! `assign_int` and `assign_dev` (spec 5.5.2, 5.5.3).

use super::{Done, Outcome, flags, selector};
use crate::arch::interrupt::{self, Routing, Unroutable};
use crate::iommu::{self, Refusal};
use crate::object::{dma::DmaSpace, ec::Ec, sm::Sm};
use abi::{Status, perm};

const MASKED: u8 = 1;
const LEVEL: u8 = 2;
const LOW: u8 = 4;

/// Configures an interrupt and routes it to a CPU.
pub fn assign_int(ec: &'static Ec) -> Outcome {
    let f = flags(ec);
    let cpu = ec.regs().rsi();
    if cpu >= crate::boot::cpus_online() as u64 {
        return Err(Status::BadCpu);
    }
    let sm = ec.obj.find::<Sm>(selector(ec), perm::Sm::ASSIGN.bits()).ok_or(Status::BadCap)?;
    let gsi = sm.gsi.ok_or(Status::BadCap)?;
    let device = ::iommu::Requester(ec.regs().rdx() as u16);
    let r = Routing { cpu: cpu as u16, masked: f & MASKED != 0, level: f & LEVEL != 0, low: f & LOW != 0, device };
    let message = match gsi < interrupt::FIRST_MESSAGE {
        // A pin has no message address and data.
        true => interrupt::route(gsi, &r).map(|()| (0, 0)),
        false => interrupt::route_message(gsi, &r),
    };
    let (address, data) = message.map_err(|e| match e {
        Unroutable::Far => Status::BadCpu,
        Unroutable::NoAnswer => Status::Aborted,
    })?;
    ec.regs().set_rsi(address.into());
    ec.regs().set_rdx(data.into());
    Ok(Done::Now)
}

/// Assigns a device to a DMA space: it reaches what is mapped there, and nothing else.
pub fn assign_dev(ec: &'static Ec) -> Outcome {
    if !crate::boot::is_root(ec) {
        return Err(Status::BadHyp);
    }
    let units = iommu::machine().ok_or(Status::BadFtr)?;
    let (unit, dad) = (ec.regs().rsi() & !0xfff, ec.regs().rdx());
    let (segment, device) = ::iommu::assignment(dad).ok_or(Status::BadDev)?;
    let space = ec.obj.find::<DmaSpace>(selector(ec), perm::Space::ASSIGN.bits()).ok_or(Status::BadCap)?;
    units.assign(unit, segment, device, space.target()).map_err(|r| match r {
        Refusal::Absent => Status::BadDev,
        Refusal::Memory => Status::MemObj,
        Refusal::Silent => Status::Aborted,
    })?;
    Ok(Done::Now)
}
