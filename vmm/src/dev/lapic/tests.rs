//! Register conversations with the local APIC.

use super::*;

/// The timer's clock runs with the TSC.
fn lapic(id: u32) -> Lapic {
    let mut lapic = Lapic::new(id, id == 0, Timebase::new(1000, 1000), 39);
    lapic.write_page(u16::from(SVR) << 4, SVR_ENABLED | 0xff, 0).ignore();
    lapic
}

fn x2apic(id: u32) -> Lapic {
    let mut lapic = lapic(id);
    lapic.set_base(lapic.base() | BASE_EXTD).expect("xAPIC to x2APIC is allowed");
    lapic
}

impl Outcome {
    fn ignore(self) {}
}

fn get(lapic: &mut Lapic, register: u8) -> Result<u64, GpFault> {
    lapic.read_msr(MSR_X2APIC + u32::from(register), 0)
}

fn put(lapic: &mut Lapic, register: u8, value: u64) -> Result<Outcome, GpFault> {
    lapic.write_msr(MSR_X2APIC + u32::from(register), value, 0)
}

fn set(lapic: &mut Lapic, register: u8, value: u64) {
    assert_eq!(put(lapic, register, value), Ok(Outcome::Nothing));
}

#[test]
fn reset_state() {
    let mut lapic = Lapic::new(3, false, Timebase::new(1, 1), 39);
    let mut read = |register: u8| lapic.read_page(u16::from(register) << 4, 0);
    assert_eq!(read(ID), 3 << 24);
    assert_eq!(read(VERSION), 0x0005_0014);
    assert_eq!((read(SVR), read(DFR), read(LDR)), (0xff, u32::MAX, 0));
    for register in LVT_TIMER..=LVT_ERROR {
        assert_eq!(read(register), LVT_MASKED);
    }
    assert_eq!(lapic.base(), 0xfee0_0800);
    assert_eq!(Lapic::new(0, true, Timebase::new(1, 1), 39).base(), 0xfee0_0900);
}

#[test]
fn mode_transitions() {
    let base = 0xfee0_0000;
    let modes = [(0, Mode::Disabled), (BASE_EN, Mode::XApic), (BASE_MODE, Mode::X2Apic)];
    let allowed = |from, to| !matches!((from, to), (Mode::Disabled, Mode::X2Apic) | (Mode::X2Apic, Mode::XApic));
    for (from_bits, from) in modes {
        for (to_bits, to) in modes {
            let mut lapic = lapic(0);
            lapic.base = base | from_bits;
            assert_eq!(lapic.mode(), from);
            let result = lapic.set_base(base | to_bits);
            assert_eq!(result.is_ok(), allowed(from, to), "{from:?} to {to:?}");
            assert_eq!(lapic.mode(), if result.is_ok() { to } else { from });
        }
        let mut lapic = lapic(0);
        lapic.base = base | from_bits;
        assert_eq!(lapic.set_base(base | BASE_EXTD), Err(GpFault), "x2APIC without enable");
    }
}

#[test]
fn base_has_reserved_bits_and_moves_the_page() {
    let mut lapic = lapic(0);
    for bit in [0, 7, 9, 39, 63] {
        assert_eq!(lapic.set_base(0xfee0_0800 | 1 << bit), Err(GpFault), "bit {bit}");
    }
    lapic.set_base(0x12_3456_7800).expect("any page below 2^39");
    assert_eq!(lapic.page(), Some(0x12_3456_7000));
    assert_eq!(x2apic(0).page(), None);
}

#[test]
fn disabling_resets() {
    let mut lapic = x2apic(0);
    set(&mut lapic, TPR, 0x50);
    assert!(lapic.accept(0x80, false));
    lapic.set_base(0xfee0_0000).expect("x2APIC to disabled is allowed");
    assert_eq!((lapic.tpr(), lapic.pending_vector()), (0, None));
    assert!(!lapic.accept(0x80, false));
    assert!(lapic.passes_extint(), "LINT0 is INTR now");
}

#[test]
fn msrs_exist_only_in_x2apic_mode() {
    assert_eq!(get(&mut lapic(0), VERSION), Err(GpFault));
    assert_eq!(put(&mut lapic(0), TPR, 0), Err(GpFault));
    assert_eq!(get(&mut x2apic(0), VERSION), Ok(0x0005_0014));
}

#[test]
fn registers_that_are_missing_or_one_way() {
    let mut lapic = x2apic(0);
    for register in [0, APR, EOI, RRD, DFR, 0x2f, ICR_HIGH, 0x3a, SELF_IPI, 0x40, 0xff] {
        assert_eq!(get(&mut lapic, register), Err(GpFault), "read {register:#x}");
    }
    for register in [0, ID, VERSION, PPR, LDR, DFR, ISR, TMR, IRR, 0x2f, ICR_HIGH, TIMER_CURRENT, 0x40] {
        assert_eq!(put(&mut lapic, register, 0), Err(GpFault), "write {register:#x}");
    }
}

#[test]
fn reserved_bits_fault() {
    let mut lapic = x2apic(0);
    let wrong = [
        (TPR, 0x100),
        (EOI, 1),
        (ESR, 1),
        (SVR, 1 << 12),
        (LVT_TIMER, 1 << 19),
        (LVT_ERROR, 0x400),
        (TIMER_DIVIDE, 4),
        (TIMER_INITIAL, 1 << 32),
        (SELF_IPI, 0x100),
        (ICR, 1 << 13),
        (LVT_LINT0, 1 << 32),
    ];
    for (register, value) in wrong {
        assert_eq!(put(&mut lapic, register, value), Err(GpFault), "{register:#x}");
    }
    set(&mut lapic, LVT_LINT0, 0x1_f7ff);
    assert_eq!(get(&mut lapic, LVT_LINT0), Ok(0x1_a7ff), "delivery status and remote IRR are read-only");
}

#[test]
fn x2apic_logical_id_follows_from_the_id() {
    assert_eq!(get(&mut x2apic(0), LDR), Ok(1));
    assert_eq!(get(&mut x2apic(0x25), LDR), Ok(0x2_0020));
}

#[test]
fn highest_vector_first_and_nesting_by_class() {
    let mut lapic = x2apic(0);
    for vector in [0x41, 0x45, 0x31] {
        assert!(lapic.accept(vector, false));
    }
    assert_eq!(lapic.take_vector(), Some(0x45));
    assert_eq!(lapic.pending_vector(), None, "0x41 is of the same class");
    assert!(lapic.accept(0x52, false));
    assert_eq!(lapic.take_vector(), Some(0x52));
    assert_eq!(get(&mut lapic, PPR), Ok(0x50));
    assert_eq!(get(&mut lapic, ISR + 2), Ok(1 << 5 | 1 << 18));
    set(&mut lapic, EOI, 0);
    assert_eq!(lapic.pending_vector(), None);
    set(&mut lapic, EOI, 0);
    assert_eq!(lapic.take_vector(), Some(0x41));
    set(&mut lapic, EOI, 0);
    assert_eq!(lapic.take_vector(), Some(0x31));
}

#[test]
fn task_priority_holds_back_its_class_and_lower() {
    let mut lapic = x2apic(0);
    lapic.set_tpr(0x40);
    assert!(lapic.accept(0x4f, false));
    assert_eq!(lapic.pending_vector(), None);
    assert!(lapic.accept(0x50, false));
    assert_eq!(lapic.pending_vector(), Some(0x50));
    set(&mut lapic, TPR, 0x33);
    assert_eq!((lapic.tpr(), lapic.ppr()), (0x33, 0x33));
    assert_eq!(lapic.take_vector(), Some(0x50));
    assert_eq!(lapic.ppr(), 0x50);
    lapic.set_tpr(0x53);
    assert_eq!(lapic.ppr(), 0x53, "of the same class: all of the task priority");
}

#[test]
fn level_triggered_end_is_reported() {
    let mut lapic = x2apic(0);
    assert!(lapic.accept(0x39, true));
    assert_eq!(get(&mut lapic, TMR + 1), Ok(1 << 25));
    assert_eq!(lapic.take_vector(), Some(0x39));
    assert_eq!(put(&mut lapic, EOI, 0), Ok(Outcome::Ended(0x39)));
    assert_eq!(put(&mut lapic, EOI, 0), Ok(Outcome::Nothing), "nothing in service");
    assert!(lapic.accept(0x39, false));
    lapic.take_vector();
    assert_eq!(put(&mut lapic, EOI, 0), Ok(Outcome::Nothing), "edge-triggered this time");
}

#[test]
fn software_disable_masks_and_refuses() {
    let mut lapic = x2apic(0);
    set(&mut lapic, LVT_ERROR, 0xfe);
    assert!(lapic.accept(0x60, false));
    set(&mut lapic, SVR, 0xff);
    assert_eq!(get(&mut lapic, LVT_ERROR), Ok(0x1_00fe));
    set(&mut lapic, LVT_ERROR, 0xfe);
    assert_eq!(get(&mut lapic, LVT_ERROR), Ok(0x1_00fe), "stays masked");
    assert!(!lapic.accept(0x61, false));
    assert_eq!(lapic.pending_vector(), Some(0x60), "what was taken in stays");
}

#[test]
fn errors_are_shown_after_a_write() {
    let mut lapic = x2apic(0);
    set(&mut lapic, LVT_ERROR, 0xfe);
    set(&mut lapic, SELF_IPI, 3);
    assert!(!lapic.accept(15, false));
    assert_eq!(get(&mut lapic, ESR), Ok(0));
    assert_eq!(lapic.take_vector(), Some(0xfe));
    set(&mut lapic, ESR, 0);
    assert_eq!(get(&mut lapic, ESR), Ok(u64::from(ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL)));
    set(&mut lapic, ESR, 0);
    assert_eq!(get(&mut lapic, ESR), Ok(0));
}

#[test]
fn illegal_error_vector_does_not_recurse() {
    let mut lapic = x2apic(0);
    set(&mut lapic, LVT_ERROR, 3);
    set(&mut lapic, SELF_IPI, 3);
    assert_eq!(lapic.pending_vector(), None);
}

#[test]
fn self_ipi() {
    let mut lapic = x2apic(0);
    set(&mut lapic, SELF_IPI, 0x77);
    assert_eq!(get(&mut lapic, IRR + 3), Ok(1 << 23));
    assert_eq!(lapic.take_vector(), Some(0x77));
}

#[test]
fn interrupt_command_in_x2apic_mode() {
    let mut lapic = x2apic(0);
    let command = 5 << 32 | 0x4040u64;
    let Ok(Outcome::Send(ipi)) = put(&mut lapic, ICR, command) else { panic!("no IPI") };
    let message =
        Message { mode: DeliveryMode::Fixed, vector: 0x40, level: false, destination: Destination::Physical(5) };
    assert_eq!(ipi, Ipi { message, shorthand: Shorthand::None });
    assert_eq!(get(&mut lapic, ICR), Ok(command));
}

#[test]
fn interrupt_command_in_xapic_mode() {
    let mut lapic = lapic(0);
    lapic.write_page(0x310, 0x0300_0000, 0).ignore();
    let Outcome::Send(ipi) = lapic.write_page(0x300, 0x000c_0000 | ICR_ASSERT | 5 << 8, 0) else { panic!("no IPI") };
    assert_eq!((ipi.message.mode, ipi.shorthand), (DeliveryMode::Init, Shorthand::Others));
    assert_eq!(ipi.message.destination, Destination::Physical(3));
    assert_eq!(lapic.read_page(0x310, 0), 0x0300_0000);
    let deassert = lapic.write_page(0x300, ICR_LEVEL | 5 << 8, 0);
    assert_eq!(deassert, Outcome::Nothing);
}

#[test]
fn commands_that_send_nothing() {
    let mut lapic = x2apic(0);
    for command in [0x0f, 0x10f, 0x2_00 | 0x40, 0x340, 0x740] {
        set(&mut lapic, ICR, command);
    }
    set(&mut lapic, ESR, 0);
    assert_eq!(get(&mut lapic, ESR), Ok(u64::from(ESR_SEND_ILLEGAL)));
}

#[test]
fn destinations_in_flat_and_cluster_model() {
    let mut lapic = lapic(1);
    lapic.write_page(0xd0, 0x1200_0000, 0).ignore();
    assert!(lapic.is_destination(Destination::Logical(0x02)));
    assert!(!lapic.is_destination(Destination::Logical(0x0d)));
    lapic.write_page(0xe0, 0x0fff_ffff, 0).ignore();
    assert!(lapic.is_destination(Destination::Logical(0x1f)));
    assert!(lapic.is_destination(Destination::Logical(0xf2)), "all clusters");
    assert!(!lapic.is_destination(Destination::Logical(0x22)));
    assert!(!lapic.is_destination(Destination::Logical(0x100)));
    assert!(lapic.is_destination(Destination::Physical(1)));
    assert!(!lapic.is_destination(Destination::Physical(2)));
}

#[test]
fn destinations_in_x2apic_mode() {
    let lapic = x2apic(0x12);
    assert!(lapic.is_destination(Destination::Logical(0x1_000c)));
    assert!(!lapic.is_destination(Destination::Logical(0x2_000c)));
    assert!(!lapic.is_destination(Destination::Logical(0x1_0003)));
    assert!(lapic.is_destination(Destination::Everyone));
}

#[test]
fn virtual_wire_passes_the_pic() {
    let mut lapic = Lapic::new(0, true, Timebase::new(1, 1), 39);
    assert!(!lapic.passes_extint(), "masked after reset");
    lapic.set_virtual_wire();
    assert!(lapic.passes_extint() && lapic.raise_lint0());
    lapic.write_page(0x350, LVT_MASKED | MODE_EXTINT << MODE_SHIFT, 0).ignore();
    assert!(!lapic.passes_extint() && !lapic.raise_lint0());
    lapic.raise_extint();
    assert!(lapic.passes_extint());
    lapic.extint_taken();
    assert!(!lapic.passes_extint());
}

#[test]
fn lint0_as_fixed_or_nmi() {
    let mut lapic = lapic(0);
    lapic.write_page(0x350, 0x30, 0).ignore();
    assert!(lapic.raise_lint0());
    assert_eq!(lapic.take_vector(), Some(0x30));
    lapic.write_page(0x350, MODE_NMI << MODE_SHIFT, 0).ignore();
    assert!(lapic.raise_lint0() && lapic.take_nmi() && !lapic.nmi_pending());
}

#[test]
fn timer_interrupts_through_its_entry() {
    let mut lapic = x2apic(0);
    set(&mut lapic, TIMER_DIVIDE, 0xb);
    set(&mut lapic, LVT_TIMER, 0xec);
    set(&mut lapic, TIMER_INITIAL, 500);
    assert_eq!(lapic.deadline(), 500);
    assert!(!lapic.advance(499));
    assert!(lapic.advance(500));
    assert_eq!(lapic.take_vector(), Some(0xec));
}

#[test]
fn masked_timer_runs_silently() {
    let mut lapic = x2apic(0);
    set(&mut lapic, TIMER_DIVIDE, 0xb);
    set(&mut lapic, LVT_TIMER, u64::from(LVT_MASKED) | 0xec);
    set(&mut lapic, TIMER_INITIAL, 500);
    assert_eq!(lapic.deadline(), NEVER);
    assert_eq!(lapic.read_msr(MSR_X2APIC + u32::from(TIMER_CURRENT), 100), Ok(400));
    // Unmasked after it has expired: the interrupt is lost.
    assert!(lapic.write_msr(MSR_X2APIC + u32::from(LVT_TIMER), 0xec, 600).is_ok());
    assert_eq!((lapic.pending_vector(), lapic.deadline()), (None, NEVER));
}

#[test]
fn tsc_deadline_in_the_past_fires_at_once() {
    let mut lapic = x2apic(0);
    set(&mut lapic, LVT_TIMER, u64::from(LVT_TSC_DEADLINE) | 0xec);
    lapic.set_tsc_deadline(2000, 1000);
    assert_eq!((lapic.deadline(), lapic.tsc_deadline(1999)), (2000, 2000));
    assert_eq!(lapic.tsc_deadline(2000), 0);
    assert_eq!(lapic.take_vector(), Some(0xec));
    set(&mut lapic, EOI, 0);
    lapic.set_tsc_deadline(5, 3000);
    assert_eq!(lapic.take_vector(), Some(0xec));
    assert_eq!(lapic.deadline(), NEVER);
}

#[test]
fn init_keeps_id_and_mode() {
    let mut lapic = x2apic(7);
    lapic.raise_nmi();
    set(&mut lapic, LVT_TIMER, u64::from(LVT_TSC_DEADLINE) | 0xec);
    lapic.set_tsc_deadline(2000, 0);
    lapic.init();
    assert_eq!((lapic.mode(), lapic.deadline(), lapic.nmi_pending()), (Mode::X2Apic, NEVER, false));
    assert_eq!(get(&mut lapic, ID), Ok(7));
    assert_eq!(get(&mut lapic, SVR), Ok(0xff));
}

#[test]
fn page_notes_illegal_registers() {
    let mut lapic = lapic(0);
    assert_eq!(lapic.read_page(0x3f0, 0), 0, "self IPI is for x2APIC mode");
    lapic.write_page(0x2f0, 0, 0).ignore();
    lapic.write_page(0x280, 0, 0).ignore();
    assert_eq!(lapic.read_page(0x280, 0), ESR_ILLEGAL_REGISTER);
    lapic.write_page(0x20, 0xffff_ffff, 0).ignore();
    assert_eq!(lapic.read_page(0x20, 0), 0, "the ID is read-only");
}
