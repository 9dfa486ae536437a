//! Code without a format, started in real mode where a BIOS starts a boot sector, but without the 512-byte limit. There
//! is no BIOS: no interrupt has a handler.

use super::elf::{self, Part};
use super::{Boot, Job, LOW_TABLES, LoadError};
use crate::vcpu::Start;

/// Where a BIOS loads a boot sector.
const LOAD: u16 = 0x7c00;

/// Puts the code into guest RAM.
pub(super) fn load(job: &Job) -> Result<Boot, LoadError> {
    let refuse = |key| Err(LoadError::NotForFlat { key, rom: job.rom.into() });
    if job.initrd.is_some() {
        return refuse("initrd");
    }
    if !job.cmdline.is_empty() {
        return refuse("cmdline");
    }
    let kernel = u64::from(LOAD);
    let part = Part { start: kernel, end: kernel + job.kernel.len() as u64, bytes: job.kernel };
    elf::check(job, &[part], &[LOW_TABLES], kernel)?;
    elf::write(job, &[part])?;
    job.write_bios_data()?;
    Ok(Boot { start: Start::Real { cs: 0, ip: LOAD }, kernel, initrd: (0, 0) })
}
