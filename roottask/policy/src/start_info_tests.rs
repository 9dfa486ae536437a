use super::*;
use crate::plan::tests::{default_system, plan};
use parent::Channel as End;

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

fn ends(index: usize) -> Vec<End> {
    info(index).channels().to_vec()
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
    assert!(i.irqs().is_empty());
    assert_eq!((info(0).irqs()[0].gsi, info(0).irqs()[0].sel), (4, sel::irq(0)));
}

#[test]
fn components_learn_their_cpus() {
    assert_eq!(info(2).usable_cpus(), [0, 1, 2, 3]);
    let p = plan(&default_system().replace("config = { a = 1 }", "cpus = [3, 1]"));
    let i = p.start_info(2, &MACHINE).unwrap();
    assert_eq!((i.cpu, i.usable_cpus()), (3, &[3, 1][..]));
}

#[test]
fn the_ends_of_a_channel_fit() {
    let uart = ends(0);
    let console = ends(1);
    let server = uart.iter().find(|c| c.role == ROLE_SERVER).unwrap();
    let client = console.iter().find(|c| c.role == ROLE_CLIENT).unwrap();
    assert_eq!((server.service.as_str(), server.peer.as_str()), ("terminal", "console"));
    assert_eq!((client.service.as_str(), client.peer.as_str()), ("terminal", "uart"));
    assert_eq!(client.tx + RING_LEN, client.rx, "the client's first ring is the one it writes");
    assert_eq!(server.rx + RING_LEN, server.tx, "the server's first ring is the one it reads");
    assert!(uart.iter().chain(&console).all(|c| u64::from(c.ring_len) == RING_LEN));
}

#[test]
fn a_server_waits_for_all_clients_at_once() {
    let servers: Vec<_> = ends(1).into_iter().filter(|c| c.role == ROLE_SERVER).collect();
    let peers: Vec<_> = servers.iter().map(|c| format!("{} {}", c.service, c.peer)).collect();
    assert_eq!(peers, ["log core", "log uart", "log vm", "terminal vm"]);
    assert!(servers.iter().all(|c| c.wait == sel::SERVER_WAIT));
}

#[test]
fn every_selector_in_the_start_information_is_granted_and_no_other() {
    let p = plan(&default_system());
    for index in 0..3 {
        let info = p.start_info(index, &MACHINE).unwrap();
        let grants = p.grants(index);
        let mut told: Vec<_> = info.channels().iter().flat_map(|c| [c.wait, c.signal]).collect();
        told.sort_unstable();
        told.dedup();
        let mut granted: Vec<_> = grants.iter().map(|g| g.sel).collect();
        granted.sort_unstable();
        assert_eq!(told, granted, "component {index}");
        for c in info.channels() {
            let perms = |sel| grants.iter().find(|g| g.sel == sel).unwrap().perms;
            assert_eq!(perms(c.signal), perm::Sm::CTRL_UP);
            assert_eq!(perms(c.wait).contains(perm::Sm::CTRL_UP), c.role == ROLE_SERVER);
            assert!(perms(c.wait).contains(perm::Sm::CTRL_DN));
        }
    }
}

#[test]
fn what_one_side_signals_the_other_waits_on() {
    let p = plan(&default_system());
    let at = |index: usize, sel| p.grants(index).iter().find(|g| g.sel == sel).unwrap().sm;
    for c in &p.channels {
        let Client::Component(client) = c.client else { continue };
        assert_eq!(at(client, sel::signal(c.client_slot)), at(c.server, sel::SERVER_WAIT));
        assert_eq!(at(c.server, sel::signal(c.server_slot)), at(client, sel::wait(c.client_slot)));
    }
    let core = &p.channels[0];
    assert_eq!(at(core.server, sel::signal(core.server_slot)), Sm::Client(0), "core waits on its own");
}

#[test]
fn semaphores_stay_the_same_when_other_channels_go() {
    let mut p = plan(&default_system());
    let before = p.grants(2);
    // As when `uart` cannot be created and `console` could do without.
    p.channels.retain(|c| c.server != 0 && c.client != Client::Component(0));
    assert_eq!(p.grants(2), before);
    assert!(p.channels.iter().enumerate().any(|(n, c)| n != c.id), "otherwise this shows nothing");
}

#[test]
fn components_that_do_not_start_are_told_nothing() {
    let p = plan(&default_system().replace("priority = 10", "priority = 0"));
    assert!((0..4).all(|i| p.start_info(i, &MACHINE).is_none()));
    assert!(p.grants(0).is_empty());
}
