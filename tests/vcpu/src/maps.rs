//! Ports and MSRs that a guest may use without an exit, and their neighbours.

use crate::guest::{CODE, Guest, Machine, Outcome, Why, equal};
use crate::reason;

tests! {
    ports: "a port that is granted does not exit, its neighbours do, and so does an access that reaches one", "spaces-5 spaces-23";
    msrs: "an MSR that is granted does not exit, its neighbours do", "spaces-6 spaces-24 spaces-59";
    beyond: "MSRs outside the map exit", "spaces-58 spaces-59";
    efer: "EFER always exits", "spaces-59";
}

/// The port that diagnostic cards show.
const PORT: u16 = 0x80;

fn ports(m: &dyn Machine) -> Outcome {
    let code = code!(16: "out 0x80, al", "out 0x7f, al", "out 0x81, al", "out 0x80, ax", "out 0x7f, ax", "hlt");
    let mut g = Guest::new(m, code)?;
    g.vm.grant_port(PORT).map_err(Why::NotHere)?;
    for (rip, port) in [(2, 0x7f), (4, 0x81), (6, 0x80), (8, 0x7f)] {
        g.until(reason::IO)?;
        equal("RIP, port", (g.s.rip, g.s.qual[0] >> 16), (CODE + rip, port))?;
        g.skip(2)?;
    }
    g.until(reason::HLT)
}

fn msrs(m: &dyn Machine) -> Outcome {
    const LSTAR: u32 = 0xc000_0082;
    let code = code!(16: "mov ecx, 0xc0000082", "rdmsr", "inc ecx", "rdmsr", "dec ecx", "wrmsr", "hlt");
    let mut g = Guest::new(m, code)?;
    g.vm.grant_msr(LSTAR).map_err(Why::NotHere)?;
    for (event, rip) in [(reason::RDMSR, 10), (reason::WRMSR, 14)] {
        g.until(event)?;
        equal("RIP", g.s.rip, CODE + rip)?;
        g.skip(2)?;
    }
    g.until(reason::HLT)
}

fn beyond(m: &dyn Machine) -> Outcome {
    let code = code!(16:
        "mov ecx, 0x2000", "rdmsr", "mov ecx, 0xbfffffff", "wrmsr", "mov ecx, 0xc0002000", "rdmsr",
        "mov ecx, 0x40000000", "wrmsr", "mov ecx, 0xffffffff", "rdmsr", "hlt",
    );
    let mut g = Guest::new(m, code)?;
    for (i, event) in [reason::RDMSR, reason::WRMSR, reason::RDMSR, reason::WRMSR, reason::RDMSR].iter().enumerate() {
        g.until(*event)?;
        equal("RIP", g.s.rip, CODE + 6 + 8 * i as u64)?;
        g.skip(2)?;
    }
    g.until(reason::HLT)
}

fn efer(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "mov ecx, 0xc0000080", "rdmsr", "wrmsr", "hlt"))?;
    for event in [reason::RDMSR, reason::WRMSR] {
        g.until(event)?;
        g.skip(2)?;
    }
    g.until(reason::HLT)
}
