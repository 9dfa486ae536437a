//! Maps in maps, step by step: what is seen where, what is refused, and what it says then.

use abi::perm::Mem;
use dataspace::{
    Attach, AttachError, Changes, Component, DataspaceId, Dataspaces, Kind, MAX_DEPTH, MAX_NESTED, MAX_PLACES,
    MAX_REGIONS, MAX_USERS, MapId, NotThere, PAGE, Released, Resolution, Unmapped, Waiter,
};
use policy::PhysRange;

const BASE: u64 = 0x60_0000_0000;
const SIZE: u64 = 64 << 20;
const ONE: Component = Component(1);
const TWO: Component = Component(2);
const RAM: PhysRange = PhysRange { start: 0x20_0000, end: 0x20_0000 + 4 * PAGE };
const ON_CPU_0: Waiter = Waiter { component: TWO, cpu: 0 };

type Books = Dataspaces<&'static str>;

fn books() -> (Books, [MapId; 2]) {
    let mut books = Books::default();
    let spaces = [ONE, TWO].map(|c| books.begin(c, BASE..BASE + SIZE).unwrap());
    assert_eq!(books.begin(ONE, BASE..BASE + SIZE), None, "twice");
    (books, spaces)
}

fn whole(dataspace: DataspaceId, at: u64) -> Attach {
    Attach { dataspace, offset: 0, len: None, at: Some(at), write: true, execute: false }
}

/// A managed dataspace of 16 pages of the first component, attached by the second one, with RAM in its pages 4 to 7.
fn shared() -> (Books, [MapId; 2], MapId, DataspaceId, DataspaceId) {
    let (mut books, spaces) = books();
    let (map, managed) = books.managed(ONE, 16 * PAGE).unwrap();
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let _ = books.attach(spaces[1], Attach { write: false, ..whole(managed, BASE) }).unwrap();
    let _ = books.attach(map, whole(ram, 4 * PAGE)).unwrap();
    (books, spaces, map, managed, ram)
}

#[test]
fn device_memory_is_mapped_uncached_in_address_spaces_only() {
    let (mut books, spaces, map, ..) = shared();
    let memory = PhysRange::new(0xb_8000, 2 * PAGE);
    let device = books.device(ONE, memory).unwrap();
    let view = books.view(device).unwrap();
    assert_eq!((view.kind, view.size, view.writable), (Kind::Device, 2 * PAGE, true));
    let refused = books.attach(map, whole(device, 8 * PAGE));
    assert_eq!(refused, Err(AttachError::Device));
    let execute = Attach { write: false, execute: true, ..whole(device, BASE + SIZE / 2) };
    assert!(books.attach(spaces[1], execute).is_err());
    let second = Attach { offset: PAGE, ..whole(device, BASE + SIZE / 2) };
    let mapped = books.attach(spaces[1], second).unwrap().map.unwrap();
    assert_eq!((mapped.frames, mapped.device), (PhysRange::new(0xb_9000, PAGE), true));
    assert_eq!(books.resolve(TWO, BASE + SIZE / 2, Mem::R), Resolution::Device, "a fault there is the component's");
    let gone = books.withdraw(ONE, device).unwrap();
    assert_eq!(gone.unmap, [Unmapped { component: TWO, guest: None, virt: BASE + SIZE / 2, len: PAGE }]);
    assert!(gone.released.is_empty(), "no frames of anybody's");
    assert_eq!(books.resolve(TWO, BASE + SIZE / 2, Mem::R), Resolution::Outside);
}

#[test]
fn what_is_in_a_managed_dataspace_is_seen_as_its_region_allows() {
    let (mut books, _, map, ..) = shared();
    let Resolution::Map(m) = books.resolve(TWO, BASE + 5 * PAGE + 17, Mem::R) else { panic!() };
    assert_eq!((m.virt, m.frames, m.perms), (BASE + 4 * PAGE, RAM, Mem::R));
    let denied = books.resolve(TWO, BASE + 5 * PAGE, Mem::W);
    assert_eq!(denied, Resolution::Denied { perms: Mem::R });
    assert_eq!(denied.to_string(), "attached, but not like that");
    assert_eq!(books.resolve(TWO, BASE + 9 * PAGE, Mem::W), denied, "also where nothing is yet");
    let hole = books.resolve(TWO, BASE + 9 * PAGE + 1, Mem::R);
    assert_eq!(hole, Resolution::Unresolved { map, offset: 9 * PAGE, handled: false });
    assert_eq!(hole.to_string(), "unresolved in region map 3 at offset 0x9000, which nobody handles");
    assert_eq!(books.wait(ON_CPU_0, BASE + 9 * PAGE, Mem::R), Err(hole));
    let unmapped = books.detach(map, 4 * PAGE).unwrap();
    assert_eq!(unmapped.unmap, [Unmapped { component: TWO, guest: None, virt: BASE + 4 * PAGE, len: RAM.len() }]);
    assert!(unmapped.released.is_empty(), "it is wanted");
}

#[test]
fn a_whole_dataspace_is_known_by_its_region() {
    let (mut books, spaces, map, managed, ram) = shared();
    assert_eq!(books.whole_ram(map, 4 * PAGE), None, "no address space");
    assert_eq!(books.whole_ram(spaces[1], BASE), None, "managed");
    let _ = books.attach(spaces[1], whole(ram, BASE + SIZE / 2)).unwrap();
    let part = Attach { offset: PAGE, ..whole(ram, BASE + SIZE / 4) };
    let _ = books.attach(spaces[1], part).unwrap();
    assert_eq!(books.whole_ram(spaces[1], BASE + SIZE / 2), Some((ram, RAM)));
    assert_eq!(books.whole_ram(spaces[1], BASE + SIZE / 2 + PAGE), None, "inside");
    assert_eq!(books.whole_ram(spaces[1], BASE + SIZE / 4), None, "a part");
    let read = Attach { write: false, ..whole(ram, BASE + SIZE / 4 * 3) };
    let _ = books.attach(spaces[1], read).unwrap();
    assert_eq!(books.whole_ram(spaces[1], BASE + SIZE / 4 * 3), None, "to be read only");
    assert!(books.view(managed).is_some());
}

#[test]
fn what_is_bequeathed_its_one_user_pays_until_it_goes() {
    let (mut books, spaces, _, managed, ram) = shared();
    assert_eq!(books.bequeath(TWO, ram, "two"), Err(NotThere), "another's");
    assert_eq!(books.bequeath(ONE, managed, "two"), Err(NotThere), "no RAM");
    let _ = books.attach(spaces[1], whole(ram, BASE + SIZE / 2)).unwrap();
    assert_eq!(books.bequeath(ONE, ram, "two"), Err(NotThere), "in the managed one, too");
    let _ = books.free(ONE, managed).unwrap();
    assert_eq!(books.bequeath(ONE, ram, "two"), Ok(Changes::default()));
    assert_eq!((books.view(ram), books.of(ONE).count()), (None, 0));
    let gone = books.detach(spaces[1], BASE + SIZE / 2).unwrap();
    assert_eq!(gone.released, [Released { frames: RAM, payer: "two" }]);
}

#[test]
fn who_waits_goes_on_when_something_is_there() {
    let (mut books, _, map, _, ram) = shared();
    let _ = books.handle(map, true).unwrap();
    assert_eq!(books.wait(ON_CPU_0, BASE + 9 * PAGE + 8, Mem::R), Ok(map));
    let fault = books.next_fault(map).unwrap();
    assert_eq!((fault.waiter, fault.offset, fault.access), (ON_CPU_0, 9 * PAGE, Mem::R));
    assert_eq!(books.next_fault(map), None, "told once");
    let elsewhere = books.attach(map, whole(ram, 12 * PAGE)).unwrap();
    assert!(elsewhere.changes.retry.is_empty());
    let there = books.attach(map, whole(ram, 8 * PAGE)).unwrap();
    assert_eq!((there.changes.retry, there.map), (vec![ON_CPU_0], None));
    assert!(matches!(books.resolve(TWO, BASE + 9 * PAGE, Mem::R), Resolution::Map(m) if m.virt == BASE + 8 * PAGE));
}

#[test]
fn who_waits_is_told_when_nothing_will_be_there() {
    let (mut books, _, map, ..) = shared();
    let wait = |books: &mut Books| {
        let _ = books.handle(map, true).unwrap();
        books.wait(ON_CPU_0, BASE, Mem::R).unwrap();
    };
    wait(&mut books);
    assert!(books.refuse(map, PAGE).is_err(), "nobody waits for that");
    assert_eq!(books.refuse(map, 17), Ok(vec![ON_CPU_0]));
    wait(&mut books);
    assert_eq!(books.handle(map, false).unwrap().retry, [ON_CPU_0]);
    wait(&mut books);
    let ended = books.end(ONE, |_, _| "heir");
    assert_eq!(ended.retry, [ON_CPU_0]);
    assert_eq!(books.resolve(TWO, BASE, Mem::R), Resolution::Gone);
    assert_eq!(Resolution::Gone.to_string(), "in a managed dataspace whose owner has freed it or has ended");
    assert!(books.refuse(map, 0).is_err() && books.handle(map, true).is_err() && books.next_fault(map).is_none());
}

#[test]
fn of_who_waits_and_ends_nothing_is_left() {
    let (mut books, _, map, ..) = shared();
    let _ = books.handle(map, true).unwrap();
    books.wait(ON_CPU_0, BASE, Mem::R).unwrap();
    assert_eq!(books.end(TWO, |_, _| "heir").retry, []);
    assert_eq!(books.next_fault(map), None);
}

#[test]
fn ram_goes_back_with_the_last_who_has_it() {
    let (mut books, spaces) = books();
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let at = |space, at| (space, whole(ram, at));
    for (space, a) in [at(spaces[0], BASE), at(spaces[1], BASE)] {
        assert_eq!(books.attach(space, a).unwrap().map.unwrap().frames, RAM);
    }
    assert_eq!(books.view(ram).unwrap().users, 2);
    let mut paid = Vec::new();
    let ended = books.end(ONE, |payer, bytes| {
        paid.push((payer, bytes));
        "heir"
    });
    assert!(ended.released.is_empty() && ended.unmap.is_empty(), "its address space is gone, and another one has it");
    assert_eq!((paid, books.view(ram)), (vec![("one", RAM.len())], None));
    assert!(matches!(books.attach(spaces[1], whole(ram, BASE + SIZE / 2)), Err(AttachError::NoDataspace)));
    let detached = books.detach(spaces[1], BASE).unwrap();
    assert_eq!(detached.unmap, [Unmapped { component: TWO, guest: None, virt: BASE, len: RAM.len() }]);
    assert_eq!(detached.released.iter().map(|r| (r.frames, r.payer)).collect::<Vec<_>>(), [(RAM, "heir")]);
    assert_eq!(books.ram_bytes(), 0);
    assert!(books.detach(spaces[1], BASE).is_err());
}

#[test]
fn what_is_withdrawn_is_nowhere() {
    let (mut books, spaces) = books();
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let _ = books.attach(spaces[1], whole(ram, BASE)).unwrap();
    assert!(books.withdraw(TWO, ram).is_err());
    let withdrawn = books.withdraw(ONE, ram).unwrap();
    assert_eq!((withdrawn.unmap.len(), withdrawn.released.len()), (1, 1));
    assert_eq!(books.resolve(TWO, BASE, Mem::R), Resolution::Outside);
    assert!(books.withdraw(ONE, ram).is_err());
}

#[test]
fn maps_in_themselves_are_refused() {
    let (mut books, _) = books();
    let [(a, in_a), (b, in_b)] = [(); 2].map(|()| books.managed(ONE, 4 * PAGE).unwrap());
    assert_eq!(books.attach(a, whole(in_a, 0)).unwrap_err(), AttachError::Cycle);
    let _ = books.attach(a, whole(in_b, 0)).unwrap();
    let refused = books.attach(b, whole(in_a, 0)).unwrap_err();
    assert_eq!((refused, refused.to_string().as_str()), (AttachError::Cycle, "the map would be in itself"));
}

#[test]
fn maps_nest_so_deep() {
    let (mut books, spaces) = books();
    let maps: Vec<_> = (0..=MAX_DEPTH).map(|_| books.managed(ONE, 4 * PAGE).unwrap()).collect();
    for pair in maps[..MAX_DEPTH].windows(2) {
        let _ = books.attach(pair[0].0, whole(pair[1].1, 0)).unwrap();
    }
    let _ = books.attach(spaces[0], whole(maps[0].1, BASE)).unwrap();
    assert_eq!(books.attach(maps[MAX_DEPTH - 1].0, whole(maps[MAX_DEPTH].1, 0)).unwrap_err(), AttachError::Depth);
    let message = books.attach(maps[MAX_DEPTH].0, whole(maps[0].1, 0)).unwrap_err().to_string();
    assert_eq!(message, "more than 3 managed dataspaces would be in each other");
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let _ = books.attach(maps[MAX_DEPTH - 1].0, whole(ram, 0)).unwrap();
    assert!(matches!(books.resolve(ONE, BASE + PAGE, Mem::W), Resolution::Map(m) if m.virt == BASE && m.frames == RAM));
}

#[test]
fn what_would_be_seen_at_too_many_places_is_refused() {
    let (mut books, spaces) = books();
    let [(outer, in_outer), (inner, in_inner)] = [(); 2].map(|()| books.managed(ONE, 16 * PAGE).unwrap());
    for i in 0..MAX_NESTED as u64 {
        let _ = books.attach(outer, Attach { len: Some(PAGE), ..whole(in_inner, i * PAGE) }).unwrap();
    }
    let at = |i: usize| BASE + i as u64 * 32 * PAGE;
    let times = MAX_PLACES / MAX_NESTED;
    for i in 0..times {
        let _ = books.attach(spaces[0], whole(in_outer, at(i))).unwrap();
    }
    let refused = books.attach(spaces[0], whole(in_outer, at(times))).unwrap_err();
    assert_eq!(refused.to_string(), "something would be seen at more than 64 places");
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let _ = books.attach(inner, Attach { len: Some(PAGE), ..whole(ram, 0) }).unwrap();
    assert_eq!(books.detach(inner, 0).unwrap().unmap.len(), MAX_PLACES);
    let (_, third) = books.managed(ONE, PAGE).unwrap();
    assert_eq!(books.attach(outer, whole(third, 0)).unwrap_err(), AttachError::Taken { start: 0, end: PAGE });
    let _ = books.detach(outer, 0).unwrap();
    let _ = books.attach(outer, whole(third, 0)).unwrap();
    let _ = books.detach(outer, PAGE).unwrap();
    let _ = books.attach(outer, whole(third, PAGE)).unwrap();
    let (_, small) = books.managed(ONE, 32 * PAGE).unwrap();
    let full = books.attach(outer, Attach { at: None, len: Some(PAGE), ..whole(small, 0) }).unwrap_err();
    assert_eq!(full, AttachError::NoHole(PAGE));
}

#[test]
fn so_many_are_in_one_map() {
    let (mut books, _) = books();
    let (wide, _) = books.managed(ONE, SIZE).unwrap();
    let (_, small) = books.managed(ONE, PAGE).unwrap();
    for i in 0..MAX_NESTED as u64 {
        let _ = books.attach(wide, whole(small, i * PAGE)).unwrap();
    }
    let refused = books.attach(wide, whole(small, MAX_NESTED as u64 * PAGE)).unwrap_err();
    assert_eq!(refused.to_string(), "the map has 16 managed dataspaces in it, and may have no more");
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let _ = books.attach(wide, whole(ram, SIZE / 2)).unwrap();
}

#[test]
fn regions_and_users_are_bounded() {
    let (mut books, spaces) = books();
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let (wide, _) = books.managed(ONE, SIZE).unwrap();
    let any = Attach { at: None, ..whole(ram, 0) };
    for _ in 0..MAX_USERS {
        let _ = books.attach(spaces[0], any).unwrap();
    }
    assert_eq!(books.attach(spaces[0], any).unwrap_err(), AttachError::Users);
    let mut count = MAX_USERS;
    while count < MAX_REGIONS {
        let more = books.rom(ONE, RAM).unwrap();
        for _ in 0..MAX_USERS.min(MAX_REGIONS - count) {
            let _ = books.attach(wide, Attach { dataspace: more, write: false, ..any }).unwrap();
            count += 1;
        }
    }
    let more = books.rom(ONE, RAM).unwrap();
    let refused = books.attach(wide, Attach { dataspace: more, write: false, ..any }).unwrap_err();
    assert_eq!(refused.to_string(), "the owner of the map has 256 regions, and may have no more");
    let theirs = books.attach(spaces[1], Attach { dataspace: more, write: false, ..any });
    assert!(theirs.is_ok(), "the other one has none");
}

#[test]
fn what_is_wrong_is_named() {
    let (mut books, spaces) = books();
    let ram = books.ram(ONE, RAM, "one").unwrap();
    let rom = books.rom(ONE, RAM).unwrap();
    let mut refused = |a: Attach| books.attach(spaces[0], a).unwrap_err().to_string();
    let good = whole(ram, BASE);
    assert_eq!(
        refused(Attach { at: Some(BASE + 5), ..good }),
        "address 0x6000000005 is not a whole number of pages, or none"
    );
    assert_eq!(refused(Attach { offset: 5, ..good }), "offset 0x5 is not a whole number of pages, or none");
    assert_eq!(refused(Attach { len: Some(0), ..good }), "length 0x0 is not a whole number of pages, or none");
    let long = Attach { offset: PAGE, len: Some(4 * PAGE), ..good };
    assert_eq!(refused(long), "16K from offset 0x1000 are not in the dataspace, which has 16K");
    assert!(refused(Attach { offset: !(PAGE - 1), ..good }).contains("are not in the dataspace"));
    let below = "16K at 0x5ffffff000 are not in the map, which is from 0x6000000000 to 0x6004000000";
    assert_eq!(refused(Attach { at: Some(BASE - PAGE), ..good }), below);
    assert!(refused(Attach { at: Some(!(PAGE - 1)), ..good }).contains("are not in the map"));
    assert_eq!(refused(whole(rom, BASE)), "the dataspace may not be attached like that: it is read-only");
    assert_eq!(refused(Attach { execute: true, ..good }), "a region is writable or executable, not both");
    let _ = books.attach(spaces[0], good).unwrap();
    let over = books.attach(spaces[0], whole(ram, BASE + PAGE)).unwrap_err().to_string();
    assert_eq!(over, "there is a region from 0x6000000000 to 0x6000004000 already");
    assert_eq!(books.ram(Component(9), RAM, "").unwrap_err().to_string(), "the component has ended");
    assert!(books.managed(ONE, 5).unwrap_err().to_string().starts_with("0x5 bytes are no whole pages"));
    assert!(books.managed(ONE, 0).is_err() && books.managed(ONE, 1 << 63).is_err());
    let _ = books.end(ONE, |_, _| "heir");
    assert_eq!(books.attach(spaces[0], good).unwrap_err(), AttachError::NoMap);
    assert_eq!(books.resolve(ONE, BASE, Mem::R), Resolution::Outside);
}
