//! Register conversations with the interrupt controllers.

use super::*;

const CMD: u16 = 0;
const DATA: u16 = 1;

/// As Linux' `init_8259A`: vectors 0x30 and 0x38, normal EOI, everything unmasked.
fn initialised(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    for (side, vector, icw3) in [(Side::Master, 0x30, 1 << 2), (Side::Slave, 0x38, 2)] {
        pic.write(side, CMD, 0x11);
        pic.write(side, DATA, vector);
        pic.write(side, DATA, icw3);
        pic.write(side, DATA, icw4);
        pic.write(side, DATA, 0);
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_line(irq, true);
    pic.set_line(irq, false);
}

#[test]
fn mask_register_reads_back() {
    // Linux' probe_8259A: this is how it decides that there is a controller at all.
    let mut pic = Pic::new();
    pic.write(Side::Slave, DATA, 0xff);
    pic.write(Side::Master, DATA, 0xfb);
    assert_eq!(pic.read(Side::Master, DATA), 0xfb);
    assert_eq!(pic.read(Side::Slave, DATA), 0xff);
}

#[test]
fn nothing_comes_before_initialisation() {
    let mut pic = Pic::new();
    pulse(&mut pic, 0);
    assert!(!pic.intr());
    assert_eq!(pic.peek(), None);
}

#[test]
fn edge_is_latched_and_taken_once() {
    let mut pic = initialised(1);
    pulse(&mut pic, 4);
    assert_eq!(pic.read(Side::Master, CMD), 1 << 4);
    assert_eq!(pic.peek(), Some(0x34));
    assert_eq!(pic.acknowledge(), 0x34);
    assert!(!pic.intr());
    pic.write(Side::Master, CMD, 0x0b);
    assert_eq!(pic.read(Side::Master, CMD), 1 << 4, "in service");
    pic.write(Side::Master, CMD, 0x20);
    assert_eq!(pic.read(Side::Master, CMD), 0);
    assert!(!pic.intr());
}

#[test]
fn higher_priority_preempts_and_lower_waits() {
    let mut pic = initialised(1);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x33);
    pulse(&mut pic, 5);
    assert!(!pic.intr(), "3 is in service");
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.write(Side::Master, CMD, 0x20);
    assert!(!pic.intr(), "3 is still in service");
    pic.write(Side::Master, CMD, 0x20);
    assert_eq!(pic.acknowledge(), 0x35);
}

#[test]
fn slave_goes_through_the_cascade() {
    let mut pic = initialised(1);
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
    pulse(&mut pic, 9);
    assert!(!pic.intr());
    pic.write(Side::Slave, CMD, 0x60);
    assert!(!pic.intr(), "the master has not heard an EOI");
    pic.write(Side::Master, CMD, 0x62);
    assert_eq!(pic.acknowledge(), 0x39);
    pulse(&mut pic, 2);
    assert!(!pic.intr(), "the cascade is no line");
}

#[test]
fn special_fully_nested_lets_the_slave_preempt_itself() {
    let mut pic = initialised(1 | ICW4_SFNM);
    pulse(&mut pic, 12);
    assert_eq!(pic.acknowledge(), 0x3c);
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
}

#[test]
fn level_triggered_line_asks_again_until_released() {
    let mut pic = initialised(1);
    pic.set_elcr(Side::Slave, 1 << 1);
    pic.set_line(9, true);
    for _ in 0..2 {
        assert_eq!(pic.acknowledge(), 0x39);
        pic.write(Side::Slave, CMD, 0x20);
        pic.write(Side::Master, CMD, 0x20);
    }
    assert!(pic.intr());
    pic.set_line(9, false);
    assert!(!pic.intr());
}

#[test]
fn elcr_keeps_the_reserved_lines_edge_triggered() {
    let mut pic = Pic::new();
    pic.set_elcr(Side::Master, 0xff);
    pic.set_elcr(Side::Slave, 0xff);
    assert_eq!((pic.elcr(Side::Master), pic.elcr(Side::Slave)), (0xf8, 0xde));
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pic = initialised(1 | ICW4_AEOI);
    pulse(&mut pic, 0);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x30);
    assert_eq!(pic.acknowledge(), 0x36);
    assert!(!pic.intr());
}

#[test]
fn slave_asks_again_after_an_acknowledge() {
    let mut pic = initialised(1 | ICW4_AEOI);
    pulse(&mut pic, 8);
    pulse(&mut pic, 9);
    assert_eq!(pic.acknowledge(), 0x38);
    assert_eq!(pic.acknowledge(), 0x39);
    assert!(!pic.intr());
}

#[test]
fn line_that_becomes_level_triggered_shows_its_level() {
    let mut pic = initialised(1);
    pulse(&mut pic, 5);
    pic.set_line(7, true);
    assert_eq!(pic.acknowledge(), 0x35);
    pulse(&mut pic, 5);
    assert_eq!(pic.read(Side::Master, CMD), 1 << 5 | 1 << 7);
    pic.set_elcr(Side::Master, 1 << 5 | 1 << 7);
    assert_eq!(pic.read(Side::Master, CMD), 1 << 7, "5 was only a pulse");
}

#[test]
fn initialisation_forgets_edges_but_not_levels() {
    let mut pic = initialised(1);
    pic.set_elcr(Side::Master, 1 << 5);
    pic.set_line(5, true);
    pulse(&mut pic, 3);
    pic.write(Side::Master, CMD, ICW1_INIT | ICW1_SNGL);
    pic.write(Side::Master, DATA, 0x30);
    assert_eq!(pic.acknowledge(), 0x35);
}

#[test]
fn rotation_in_automatic_eoi() {
    let mut pic = initialised(1 | ICW4_AEOI);
    pic.write(Side::Master, CMD, OCW2_ROTATE_AEOI_SET << 5);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x30);
    pulse(&mut pic, 0);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x37, "0 has the lowest priority now");
}

#[test]
fn rotation_on_eoi_and_set_priority() {
    let mut pic = initialised(1);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.write(Side::Master, CMD, OCW2_ROTATE_EOI << 5);
    pulse(&mut pic, 1);
    pulse(&mut pic, 3);
    assert_eq!(pic.peek(), Some(0x33));
    pic.write(Side::Master, CMD, (OCW2_SET_PRIORITY << 5) | 7);
    assert_eq!(pic.peek(), Some(0x31));
}

#[test]
fn special_mask_mode_unblocks_lower_priorities() {
    let mut pic = initialised(1);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x33);
    pulse(&mut pic, 5);
    assert!(!pic.intr());
    pic.write(Side::Master, DATA, 1 << 3);
    assert!(!pic.intr());
    pic.write(Side::Master, CMD, OCW3 | OCW3_ESMM | OCW3_SMM);
    assert_eq!(pic.peek(), Some(0x35));
}

#[test]
fn poll_acknowledges() {
    let mut pic = initialised(1);
    pulse(&mut pic, 6);
    pic.write(Side::Master, CMD, OCW3 | OCW3_P);
    assert_eq!(pic.read(Side::Master, CMD), 0x86);
    assert!(!pic.intr());
    pic.write(Side::Master, CMD, OCW3 | OCW3_P);
    assert_eq!(pic.read(Side::Master, CMD), 0);
}

#[test]
fn acknowledge_without_request_is_spurious() {
    let mut pic = initialised(1);
    assert_eq!(pic.acknowledge(), 0x37);
    pic.write(Side::Master, CMD, 0x0b);
    assert_eq!(pic.read(Side::Master, CMD), 0, "a spurious interrupt is not in service");
}

#[test]
fn masked_edge_waits_in_irr() {
    let mut pic = initialised(1);
    pic.write(Side::Master, DATA, 0xff);
    pulse(&mut pic, 4);
    assert!(!pic.intr());
    assert_eq!(pic.read(Side::Master, CMD), 1 << 4);
    pic.write(Side::Master, DATA, 0);
    assert_eq!(pic.peek(), Some(0x34));
}

#[test]
fn single_without_icw4() {
    let mut pic = Pic::new();
    pic.write(Side::Master, CMD, ICW1_INIT | ICW1_SNGL);
    pic.write(Side::Master, DATA, 0x47);
    pic.write(Side::Master, DATA, 0xaa);
    assert_eq!(pic.read(Side::Master, DATA), 0xaa, "after ICW2 the mask register follows");
    pic.write(Side::Master, DATA, 0);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x40, "the low vector bits are the input's");
}
