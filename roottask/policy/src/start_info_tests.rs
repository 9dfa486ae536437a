use super::*;
use crate::plan::tests::{default_system, plan};
use crate::sel;

pub(crate) const MACHINE: Machine = Machine {
    tsc_hz: 2_000_000_000,
    wall_base_ns: 77,
    cpus: 4,
    pins: 24,
    features: 2,
    virt_missing: 8,
    kmem: 8 << 20,
    sel_end: 1 << 18,
};

fn info(index: usize) -> Box<StartInfo> {
    plan(&default_system()).start_info(index, &MACHINE).unwrap()
}

#[test]
fn machine_and_memory_are_passed_on() {
    let i = info(2);
    assert_eq!((i.magic, i.version, i.name.as_str()), (parent::MAGIC, parent::VERSION, "vm"));
    assert_eq!((i.tsc_hz, i.wall_base_ns, i.cpus, i.cpu), (2_000_000_000, 77, 4, 0));
    assert_eq!((i.features, i.virt_missing, i.sel_end, i.sel_free), (2, 8, 1 << 18, sel::FREE));
    assert_eq!(i.ram_len, (7 << 17) - parent::layout::STACK_LEN);
    let roms: Vec<_> = i.roms().iter().map(|r| (r.name.to_string(), r.len)).collect();
    assert_eq!(roms, [("kernel".into(), 12288), ("config".into(), 6)]);
    assert!(i.roms().iter().all(|r| r.addr >= parent::layout::ROMS));
}

#[test]
fn components_learn_their_cpus() {
    assert_eq!(info(2).usable_cpus(), [0, 1, 2, 3]);
    let p = plan(&default_system().replace("config = { a = 1 }", "cpus = [3, 1]"));
    let i = p.start_info(2, &MACHINE).unwrap();
    assert_eq!((i.cpu, i.usable_cpus()), (3, &[3, 1][..]));
}

#[test]
fn components_learn_whether_they_have_a_log() {
    assert_eq!([0, 1, 2].map(|i| info(i).has_log), [1, 0, 1]);
    let of = |routes: &str| {
        let p = plan(&default_system().replace("log = \"console\", terminal = \"console\" }", routes));
        p.start_info(2, &MACHINE).unwrap().has_log
    };
    assert_eq!(of("}\nroute = [{ service = \"log\", to = \"nobody\" }, { to = \"any-child\" }]"), 0);
    assert_eq!(of("}\nroute = [{ to = \"any-child\" }]"), 1);
}

#[test]
fn components_that_do_not_start_are_told_nothing() {
    let p = plan(&default_system().replace("priority = 10", "priority = 0"));
    assert!((0..4).all(|i| p.start_info(i, &MACHINE).is_none()));
}
