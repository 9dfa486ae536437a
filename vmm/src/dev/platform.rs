//! [`Platform`]: all devices of a guest, behind ports, memory, MSRs and time.
//!
//! Interrupts are in `routing`; which device an access goes to is decided in [`crate::bus`].

use super::acpi_pm::AcpiPm;
use super::i8042::{I8042, ResetPorts};
use super::ioapic::IoApic;
use super::lapic::{Lapic, MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC, MSR_X2APIC_LAST};
use super::pci::PciConfig;
use super::pic::{Pic, Side};
use super::pit::{PIT_IRQ, Pit};
use super::rtc::Rtc;
use super::serial::SerialPort;
use super::timebase::{NEVER, Timebase};
use super::{Effect, GpFault, MAX_VCPUS, VcpuSet};
use crate::bus::{self, MmioClaim, PioClaim, PioDevice, Unclaimed, UnclaimedMmio};
use crate::layout;

/// What a platform is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformConfig {
    /// Number of vCPUs, 1 to [`MAX_VCPUS`]; APIC IDs are 0, 1, ...
    pub vcpus: usize,
    /// Frequency of the guest's TSC.
    pub tsc_hz: u64,
    /// Frequency of the local APIC timers' input clock. CPUID leaf 0x15 should name it as crystal clock.
    pub lapic_hz: u64,
    /// The guest's TSC at the moment that `wall_ns` names.
    pub boot_tsc: u64,
    /// Wall-clock time in ns since 1970.
    pub wall_ns: u64,
    /// RAM in bytes, for the CMOS memory.
    pub ram_bytes: u64,
    /// Physical address width that CPUID shows the guest.
    pub phys_bits: u8,
}

impl Default for PlatformConfig {
    fn default() -> Self {
        Self {
            vcpus: 1,
            tsc_hz: 1_000_000_000,
            lapic_hz: 1_000_000_000,
            boot_tsc: 0,
            wall_ns: 0,
            ram_bytes: 256 << 20,
            phys_bits: 39,
        }
    }
}

/// All devices of a guest. `now` is the guest's TSC everywhere.
#[derive(Debug, Clone)]
pub struct Platform {
    pub(super) pic: Pic,
    pub(super) ioapic: IoApic,
    pub(super) lapics: Vec<Lapic>,
    pit: Pit,
    rtc: Rtc,
    pm: AcpiPm,
    serial: SerialPort,
    i8042: I8042,
    reset_ports: ResetPorts,
    pci: PciConfig,
    unclaimed: Unclaimed,
    /// Levels of the ISA interrupt lines.
    pub(super) lines: u16,
    /// Level of the PIC's output.
    pub(super) intr: bool,
    /// vCPUs for which something new has come.
    pub(super) woken: VcpuSet,
    deadline: u64,
}

impl Platform {
    /// A platform after reset, with the bootstrap processor's local APIC in virtual wire mode as firmware leaves it.
    pub fn new(config: &PlatformConfig) -> Self {
        let clock = Timebase::new(config.lapic_hz, config.tsc_hz);
        let vcpus = config.vcpus.clamp(1, MAX_VCPUS) as u32;
        let mut lapics: Vec<Lapic> = (0..vcpus).map(|id| Lapic::new(id, id == 0, clock, config.phys_bits)).collect();
        lapics[0].set_virtual_wire();
        Self {
            pic: Pic::new(),
            ioapic: IoApic::new(0),
            lapics,
            pit: Pit::new(config.tsc_hz),
            rtc: Rtc::new(config.tsc_hz, config.boot_tsc, config.wall_ns, config.ram_bytes),
            pm: AcpiPm::new(config.tsc_hz),
            serial: SerialPort::new(),
            i8042: I8042::default(),
            reset_ports: ResetPorts::default(),
            pci: PciConfig::default(),
            unclaimed: Unclaimed::default(),
            lines: 0,
            intr: false,
            woken: VcpuSet::default(),
            deadline: NEVER,
        }
    }

    /// Lets everything happen that is due at `now`.
    pub fn advance(&mut self, now: u64) {
        if now < self.deadline || self.deadline == NEVER {
            return;
        }
        if self.pit.advance(now) {
            self.pulse_line(PIT_IRQ);
        }
        if now >= self.rtc.deadline() {
            self.rtc.advance(now);
            self.set_line(layout::RTC_IRQ, self.rtc.irq());
        }
        if now >= self.pm.deadline() {
            self.pm.advance(now);
            self.set_line(layout::SCI, self.pm.sci());
        }
        for (vcpu, lapic) in self.lapics.iter_mut().enumerate() {
            if now >= lapic.deadline() && lapic.advance(now) {
                self.woken.insert(vcpu);
            }
        }
        self.schedule();
    }

    /// TSC value at which [`advance`](Self::advance) has something to do; never early, never late.
    pub fn next_deadline(&self) -> Option<u64> {
        (self.deadline != NEVER).then_some(self.deadline)
    }

    fn schedule(&mut self) {
        let devices = self.pit.deadline().min(self.rtc.deadline()).min(self.pm.deadline());
        self.deadline = self.lapics.iter().fold(devices, |least, lapic| least.min(lapic.deadline()));
    }

    /// IN of `size` (1, 2 or 4) bytes.
    pub fn pio_read(&mut self, port: u16, size: u8, now: u64) -> u32 {
        self.advance(now);
        match bus::decode_pio(port, size) {
            PioClaim::Device(device, offset) => self.read_device(device, offset, size, now),
            PioClaim::Nobody => u32::from(self.unclaimed.read_port(port)),
            PioClaim::Split => (0..u16::from(size.min(4)))
                .map(|index| (self.pio_read(port.wrapping_add(index), 1, now) & 0xff) << (8 * index))
                .fold(0, |value, byte| value | byte),
        }
    }

    /// OUT of `size` (1, 2 or 4) bytes.
    #[must_use]
    pub fn pio_write(&mut self, port: u16, size: u8, value: u32, now: u64) -> Effect {
        self.advance(now);
        match bus::decode_pio(port, size) {
            PioClaim::Device(device, offset) => self.write_device(device, offset, size, value, now),
            PioClaim::Nobody => {
                self.unclaimed.write_port(port);
                Effect::None
            }
            PioClaim::Split => (0..u16::from(size.min(4))).fold(Effect::None, |effect, index| {
                let byte = value >> (8 * index) & 0xff;
                effect.or(self.pio_write(port.wrapping_add(index), 1, byte, now))
            }),
        }
    }

    fn read_device(&mut self, device: PioDevice, offset: u16, size: u8, now: u64) -> u32 {
        let byte = match device {
            PioDevice::Serial => {
                let value = self.serial.read(offset);
                self.sync_serial();
                value
            }
            PioDevice::PmEvents => return self.pm.read_events(offset, size, now),
            PioDevice::PmControl => return self.pm.read_control(offset, size),
            PioDevice::PmTimer => return self.pm.read_timer(offset, size, now),
            PioDevice::GeneralEvents => return self.pm.read_gpe(offset, size),
            PioDevice::PciAddress if (offset, size) == (0, 4) => return self.pci.address(),
            PioDevice::PciAddress if (offset, size) == (1, 1) => self.reset_ports.reset_control(),
            PioDevice::PciAddress | PioDevice::PciData => return self.pci.data(size),
            PioDevice::PicMaster => self.read_pic(Side::Master, offset),
            PioDevice::PicSlave => self.read_pic(Side::Slave, offset),
            PioDevice::PicTriggers => self.pic.elcr(if offset == 0 { Side::Master } else { Side::Slave }),
            PioDevice::Pit => self.pit.read(offset, now),
            PioDevice::PortB => self.pit.read_port_b(now),
            PioDevice::Rtc => {
                let value = self.rtc.read(offset, now);
                self.sync_rtc();
                value
            }
            PioDevice::I8042Data => self.i8042.read_data(),
            PioDevice::I8042Command => self.i8042.status(),
            PioDevice::PortA => self.reset_ports.port_a(),
            PioDevice::PostCode => 0,
            PioDevice::Marker => 0xff,
        };
        u32::from(byte)
    }

    fn write_device(&mut self, device: PioDevice, offset: u16, size: u8, value: u32, now: u64) -> Effect {
        let byte = value as u8;
        match device {
            PioDevice::Serial => {
                self.serial.write(offset, byte);
                self.sync_serial();
            }
            PioDevice::PmEvents => {
                self.pm.write_events(offset, size, value, now);
                self.set_line(layout::SCI, self.pm.sci());
                self.schedule();
            }
            PioDevice::PmControl => return self.pm.write_control(offset, size, value),
            PioDevice::GeneralEvents => self.pm.write_gpe(offset, size, value),
            PioDevice::PciAddress if (offset, size) == (0, 4) => self.pci.set_address(value),
            PioDevice::PciAddress if (offset, size) == (1, 1) => return self.reset_ports.write_reset_control(byte),
            PioDevice::PciAddress | PioDevice::PciData | PioDevice::PostCode | PioDevice::PmTimer => {}
            PioDevice::PicMaster => self.write_pic(Side::Master, offset, byte),
            PioDevice::PicSlave => self.write_pic(Side::Slave, offset, byte),
            PioDevice::PicTriggers => {
                self.pic.set_elcr(if offset == 0 { Side::Master } else { Side::Slave }, byte);
                self.sync_intr();
            }
            PioDevice::Pit => {
                self.pit.write(offset, byte, now);
                self.schedule();
            }
            PioDevice::PortB => self.pit.write_port_b(byte, now),
            PioDevice::Rtc => {
                self.rtc.write(offset, byte, now);
                self.sync_rtc();
            }
            PioDevice::I8042Data => return self.i8042.write_data(byte),
            PioDevice::I8042Command => return self.i8042.write_command(byte),
            PioDevice::PortA => return self.reset_ports.write_port_a(byte),
            PioDevice::Marker => return Effect::Marker(byte),
        }
        Effect::None
    }

    /// Load of `data.len()` bytes by `vcpu` from device memory.
    pub fn mmio_read(&mut self, vcpu: usize, gpa: u64, data: &mut [u8], now: u64) -> Result<(), UnclaimedMmio> {
        self.advance(now);
        let register = match bus::decode_mmio(gpa, self.lapics.get(vcpu).and_then(Lapic::page)) {
            MmioClaim::IoApic(offset) if offset & 0xf < 4 => self.ioapic.read(offset & !0xf),
            MmioClaim::Lapic(offset) if offset & 0xf < 4 => self.lapics[vcpu].read_page(offset, now),
            MmioClaim::Nobody => return Err(self.unclaimed.refuse_mmio(gpa, data.len(), false)),
            _ => 0, // registers have 4 of each 16 bytes
        };
        let bytes = register.to_le_bytes();
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get((gpa & 3) as usize + index).copied().unwrap_or(0);
        }
        Ok(())
    }

    /// Store of `data.len()` bytes by `vcpu` to device memory. Registers take aligned stores only; of a longer one the
    /// first four bytes count.
    pub fn mmio_write(&mut self, vcpu: usize, gpa: u64, data: &[u8], now: u64) -> Result<Effect, UnclaimedMmio> {
        self.advance(now);
        let bytes = data.iter().take(4).enumerate();
        let value = bytes.fold(0, |value, (index, byte)| value | u32::from(*byte) << (8 * index));
        match bus::decode_mmio(gpa, self.lapics.get(vcpu).and_then(Lapic::page)) {
            MmioClaim::IoApic(offset) if offset & 0xf == 0 => {
                let pins = self.ioapic.write(offset, value);
                self.service_pins(pins);
            }
            MmioClaim::Lapic(offset) if offset & 0xf == 0 => {
                let outcome = self.lapics[vcpu].write_page(offset, value, now);
                let effect = self.carry_out(vcpu, outcome);
                self.schedule();
                return Ok(effect);
            }
            MmioClaim::Nobody => return Err(self.unclaimed.refuse_mmio(gpa, data.len(), true)),
            _ => {}
        }
        Ok(Effect::None)
    }

    /// RDMSR by `vcpu`; `None` if the register is not the platform's.
    pub fn msr_read(&mut self, vcpu: usize, msr: u32, now: u64) -> Option<Result<u64, GpFault>> {
        self.advance(now);
        let lapic = self.lapics.get_mut(vcpu)?;
        match msr {
            MSR_X2APIC..=MSR_X2APIC_LAST => Some(lapic.read_msr(msr, now)),
            MSR_TSC_DEADLINE => Some(Ok(lapic.tsc_deadline(now))),
            MSR_APIC_BASE => Some(Ok(lapic.base())),
            _ => None,
        }
    }

    /// WRMSR by `vcpu`; `None` if the register is not the platform's.
    pub fn msr_write(&mut self, vcpu: usize, msr: u32, value: u64, now: u64) -> Option<Result<Effect, GpFault>> {
        self.advance(now);
        let lapic = self.lapics.get_mut(vcpu)?;
        let result = match msr {
            MSR_X2APIC..=MSR_X2APIC_LAST => {
                lapic.write_msr(msr, value, now).map(|outcome| self.carry_out(vcpu, outcome))
            }
            MSR_TSC_DEADLINE => {
                lapic.set_tsc_deadline(value, now);
                Ok(Effect::None)
            }
            MSR_APIC_BASE => lapic.set_base(value).map(|()| Effect::None),
            _ => return None,
        };
        self.schedule();
        Some(result)
    }

    /// Takes the guest's serial output; returns the number of bytes.
    pub fn serial_out(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.serial.take_output(buffer);
        self.sync_serial();
        count
    }

    /// Whether there is serial output to take.
    pub fn has_serial_out(&self) -> bool {
        self.serial.has_output()
    }

    /// Offers serial input; returns the number of bytes that fitted.
    pub fn serial_in(&mut self, bytes: &[u8]) -> usize {
        let count = self.serial.push_input(bytes);
        self.sync_serial();
        count
    }

    /// The user presses the power button.
    pub fn press_power_button(&mut self) {
        self.pm.press_power_button();
        self.set_line(layout::SCI, self.pm.sci());
    }

    /// Counters of accesses that no device claimed.
    pub fn unclaimed(&self) -> &Unclaimed {
        &self.unclaimed
    }

    /// Bytes of serial output that were lost because the guest did not wait.
    pub fn serial_lost(&self) -> u64 {
        self.serial.lost()
    }

    fn read_pic(&mut self, side: Side, offset: u16) -> u8 {
        let value = self.pic.read(side, offset);
        self.sync_intr(); // a poll acknowledges
        value
    }

    fn write_pic(&mut self, side: Side, offset: u16, value: u8) {
        self.pic.write(side, offset, value);
        self.sync_intr();
    }

    fn sync_serial(&mut self) {
        if self.serial.take_edge() {
            self.set_line(layout::COM1_IRQ, false);
        }
        self.set_line(layout::COM1_IRQ, self.serial.irq());
    }

    fn sync_rtc(&mut self) {
        self.set_line(layout::RTC_IRQ, self.rtc.irq());
        self.schedule();
    }
}
