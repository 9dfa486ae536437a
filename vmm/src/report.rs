//! The report about a VM that ended because of something that cannot be answered, and the statistics of any VM.

use std::fmt::Write;

use abi::{ArchState, Segment};
use vm_memory::GuestMemoryMmap;

use crate::emulate;
use crate::exit::Event;
use crate::spec::event_name;

const GPR_NAMES: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Lines about the event that ended the VM and the vCPU's state in it.
pub fn lines(vcpu: usize, event: Event, cause: &str, s: &ArchState, mem: &GuestMemoryMmap) -> Vec<String> {
    let mut out = vec![
        format!("guest stopped: {cause}"),
        format!(
            "  vCPU {vcpu}, reason {:#x} ({}), qualification {:#x}, linear {:#x}, physical {:#x}",
            event.number,
            event_name(event.number),
            s.qual[0],
            s.qual[1],
            s.qual[2]
        ),
        format!("  rip {:016x}  rflags {:08x}  instruction {}", s.rip, s.rflags, instruction(s, mem)),
    ];
    out.extend(registers(s));
    out.push(format!(
        "  injection {:#x} error {:#x}, vectoring {:#x} error {:#x}, interruptibility {:#x}, activity {}",
        s.inj_info, s.inj_error, s.vect_info, s.vect_error, s.intr_state, s.actv_state
    ));
    if !event.mtd.contains(crate::spec::FULL) {
        out.push(format!("  this exit carried only some of the state ({:?}); the rest is old", event.mtd));
    }
    out
}

fn registers(s: &ArchState) -> Vec<String> {
    let named: Vec<(&str, u64)> = GPR_NAMES
        .into_iter()
        .zip(s.gpr)
        .chain([("cr0", s.cr0), ("cr2", s.cr2), ("cr3", s.cr3), ("cr4", s.cr4)])
        .chain([("cr8", s.cr8), ("dr7", s.dr7), ("efer", s.efer), ("xcr0", s.xcr0)])
        .collect();
    let mut out: Vec<String> = named
        .chunks(4)
        .map(|row| row.iter().fold(String::from(" "), |line, (name, v)| format!("{line} {name:>4} {v:016x}")))
        .collect();
    let segments = [
        ("cs", s.cs),
        ("ss", s.ss),
        ("ds", s.ds),
        ("es", s.es),
        ("fs", s.fs),
        ("gs", s.gs),
        ("tr", s.tr),
        ("ldtr", s.ldtr),
        ("gdtr", s.gdtr),
        ("idtr", s.idtr),
    ];
    out.extend(segments.chunks(2).map(|row| row.iter().map(segment).collect()));
    out
}

fn segment((name, s): &(&str, Segment)) -> String {
    format!("  {name:>4} {:04x} base {:016x} limit {:08x} ar {:04x}", s.sel, s.base, s.limit, s.ar)
}

/// Bytes at RIP, or why there are none.
fn instruction(s: &ArchState, mem: &GuestMemoryMmap) -> String {
    match emulate::fetch(s, mem) {
        Ok(bytes) => bytes.iter().fold(String::new(), |mut line, b| {
            let _ = write!(line, "{b:02x} ");
            line
        }),
        Err(_) => "unreadable".into(),
    }
}

/// Lines with the number of events of each kind that occurred.
pub fn statistics(counts: &[u64]) -> Vec<String> {
    let kinds = counts.iter().enumerate().filter(|(_, n)| **n != 0);
    let mut out: Vec<String> = kinds.map(|(e, n)| format!("exits {e:#04x} {:<20} {n}", event_name(e as u64))).collect();
    out.push(format!("exits in all {}", counts.iter().sum::<u64>()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use crate::spec::{FULL, reason};
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn a_triple_fault_is_readable() {
        let m = mem::alone(16 << 20).unwrap();
        m.write_slice(&[0x0f, 0x0b, 0xf4], GuestAddress(0x1000)).unwrap();
        let mut s = ArchState { rip: 0x1000, cr2: 0xdead, qual: [1, 2, 3], ..Default::default() };
        s.gpr[15] = 0x1515;
        s.cs.base = 0;
        s.idtr.limit = 0xfff;
        let all = lines(3, Event { number: reason::TRIPLE_FAULT, mtd: FULL }, "triple fault", &s, &m).join("\n");
        for part in [
            "guest stopped: triple fault",
            "vCPU 3, reason 0x2 (triple fault), qualification 0x1, linear 0x2, physical 0x3",
            "rip 0000000000001000",
            "instruction 0f 0b f4 00",
            "r15 0000000000001515",
            "cr2 000000000000dead",
            "idtr 0000 base 0000000000000000 limit 00000fff",
        ] {
            assert!(all.contains(part), "{part:?} is missing in\n{all}");
        }
        assert!(!all.contains("only some"));
        s.rip = 0xd000_0000;
        let part = lines(3, Event { number: reason::CPUID, mtd: abi::Mtd::RIP }, "x", &s, &m).join("\n");
        assert!(part.contains("instruction unreadable") && part.contains("carried only some of the state"), "{part}");
    }

    #[test]
    fn statistics_list_what_happened() {
        let mut counts = [0; 0x62];
        (counts[0x0a], counts[0x61]) = (5, 7);
        let lines = statistics(&counts);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("CPUID") && lines[0].ends_with(" 5"));
        assert!(lines[1].contains("recall") && lines[2].ends_with("all 12"));
    }
}
