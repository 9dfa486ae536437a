//! The books against a model: for each component and guest a flat table of pages, filled and emptied as they say.
//!
//! Whatever happens in whatever order: nobody has a page that he may not have, frames go back once and only when nobody has
//! them, and who waits waits for something.

use abi::perm::Mem;
use dataspace::{
    Attach, AttachError, Changes, Component, CreateError, DataspaceId, Dataspaces, Kind, MAX_DATASPACES, MAX_GUESTS,
    MAX_MAPS, MapId, Mapped, PAGE, Resolution, Waiter,
};
use policy::{Book, PhysRange};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Frames there are.
const FRAMES: PhysRange = PhysRange { start: 0x10_0000, end: 0x10_0000 + 256 * PAGE };
/// A module.
const MODULE: PhysRange = PhysRange { start: 0x80_0000, end: 0x80_0000 + 8 * PAGE };
/// First address of address spaces, and how many pages they have.
const BASE: u64 = 0x60_0000_0000;
const PAGES: u64 = 64;
/// Who pays for what is left of the dead.
const HEIR: u64 = 1000;

#[derive(Debug, Clone)]
enum Step {
    Begin(u64),
    End(u64),
    Ram(u64, u64),
    Rom(u64),
    Managed(u64, u64),
    Guest(u64),
    EndGuest(usize),
    Attach { map: usize, dataspace: usize, offset: u64, len: Option<u64>, at: Option<u64>, write: bool, execute: bool },
    Detach(usize, usize),
    Free(usize),
    Withdraw(usize),
    Bequeath(usize),
    Fault(u64, u64, u8),
    Handle(usize, bool),
    Next(usize),
    Refuse(usize, u64),
}

/// A region, as it was asked for: page by page what is where.
#[derive(Debug, Clone, Copy)]
struct Shown {
    dataspace: DataspaceId,
    page: u64,
    perms: Mem,
}

#[derive(Debug, Clone)]
enum What {
    Frames(PhysRange),
    Map(MapId),
    Gone,
}

#[derive(Default)]
struct Model {
    books: Dataspaces<u64>,
    free: Book,
    spaces: BTreeMap<u64, MapId>,
    /// Those of living components, by owner.
    maps: BTreeMap<MapId, (u64, u64)>,
    /// All there ever were.
    what: BTreeMap<DataspaceId, What>,
    owners: BTreeMap<DataspaceId, u64>,
    /// Page tables of maps.
    pages: BTreeMap<MapId, BTreeMap<u64, Shown>>,
    /// Starts of regions of maps, with their pages.
    regions: BTreeMap<(MapId, u64), u64>,
    /// Those that are guests.
    guests: BTreeSet<MapId>,
    /// What core has mapped: component, or a guest of it, and page.
    mapped: BTreeMap<(u64, Option<MapId>, u64), (u64, Mem)>,
    handled: BTreeSet<MapId>,
    waiting: BTreeMap<Waiter, (u64, Mem)>,
    paid: BTreeMap<u64, u64>,
    lives: u64,
}

fn pick<T: Copy>(all: impl Iterator<Item = T>, index: usize) -> Option<T> {
    let all: Vec<T> = all.collect();
    all.get(index.checked_rem(all.len())?).copied()
}

impl Model {
    fn new() -> Model {
        Model { free: Book::new([FRAMES], []), ..Model::default() }
    }

    fn map_in(&mut self, m: Mapped) {
        for i in 0..m.frames.len() / PAGE {
            let key = (m.component.0, m.guest, m.virt / PAGE + i);
            self.mapped.insert(key, (m.frames.start / PAGE + i, m.perms));
        }
    }

    fn apply(&mut self, changes: Changes<u64>) {
        for u in changes.unmap {
            (0..u.len / PAGE).for_each(|i| _ = self.mapped.remove(&(u.component.0, u.guest, u.virt / PAGE + i)));
        }
        for r in changes.released {
            let frames = r.frames.start / PAGE..r.frames.end / PAGE;
            assert!(!self.mapped.values().any(|(f, _)| frames.contains(f)), "they go back, and somebody has them");
            *self.paid.get_mut(&r.payer).expect("who pays") -= r.frames.len();
            let before = self.free.free_bytes();
            self.free.give_back(r.frames);
            assert_eq!(self.free.free_bytes(), before + r.frames.len(), "they have gone back before");
        }
        for waiter in changes.retry {
            let (page, access) = self.waiting.remove(&waiter).expect("it waited");
            self.fault(waiter.component.0, page, access);
        }
    }

    /// What the flat tables say.
    fn look(&self, component: u64, page: u64, access: Mem) -> Result<(u64, Mem), &'static str> {
        let Some(mut map) = self.spaces.get(&component).copied() else { return Err("outside") };
        let (mut at, mut perms, mut top) = (page, Mem::all(), true);
        loop {
            let Some(shown) = self.pages.get(&map).and_then(|p| p.get(&at)) else {
                return Err(if top { "outside" } else { "unresolved" });
            };
            perms &= shown.perms;
            if !perms.contains(access) {
                return Err("denied");
            }
            top = false;
            at = shown.page;
            match &self.what[&shown.dataspace] {
                What::Frames(frames) => return Ok((frames.start / PAGE + at, perms)),
                What::Map(inner) => map = *inner,
                What::Gone => return Err("gone"),
            }
        }
    }

    fn fault(&mut self, component: u64, page: u64, access: Mem) {
        let waiter = Waiter { component: Component(component), cpu: 0 };
        if self.waiting.contains_key(&waiter) {
            return;
        }
        match self.books.resolve(Component(component), page * PAGE + 5, access) {
            Resolution::Map(m) => self.map_in(m),
            _ => {
                if self.books.wait(waiter, page * PAGE, access).is_ok() {
                    self.waiting.insert(waiter, (page, access));
                }
            }
        }
    }

    fn drop_map(&mut self, map: MapId) {
        self.pages.remove(&map);
        self.regions.retain(|(m, _), _| *m != map);
        self.maps.remove(&map);
        self.guests.remove(&map);
        self.handled.remove(&map);
    }

    fn freed(&mut self, id: DataspaceId) {
        self.owners.remove(&id);
        if let What::Map(map) = self.what[&id] {
            self.drop_map(map);
            self.what.insert(id, What::Gone);
        }
    }

    fn new_dataspace(&mut self, owner: u64, id: DataspaceId, what: What) {
        self.owners.insert(id, owner);
        self.what.insert(id, what);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin(c) => {
                // Numbers of lives are never used again; the strategy has few.
                let c = c + 10 * self.lives;
                let space = self.books.begin(Component(c), BASE..BASE + PAGES * PAGE);
                assert_eq!(space.is_none(), self.spaces.contains_key(&c));
                if let Some(space) = space {
                    self.spaces.insert(c, space);
                    self.maps.insert(space, (c, PAGES));
                }
            }
            Step::End(c) => {
                let Some((c, space)) = pick(self.spaces.iter().map(|(c, s)| (*c, *s)), c as usize) else { return };
                self.lives += 1;
                // Its address space is destroyed before.
                self.mapped.retain(|(who, ..), _| *who != c);
                self.waiting.retain(|w, _| w.component.0 != c);
                self.spaces.remove(&c);
                let mut moved = 0;
                let changes = self.books.end(Component(c), |payer, bytes| {
                    // What it has bequeathed others pay.
                    if payer != c {
                        return payer;
                    }
                    moved += bytes;
                    HEIR
                });
                if moved > 0 {
                    *self.paid.get_mut(&c).unwrap() -= moved;
                    *self.paid.entry(HEIR).or_default() += moved;
                }
                self.drop_map(space);
                let guests = self.guests.iter().filter(|g| self.maps[g].0 == c);
                guests.copied().collect::<Vec<_>>().into_iter().for_each(|g| self.drop_map(g));
                let own: Vec<_> = self.owners.iter().filter(|(_, o)| **o == c).map(|(d, _)| *d).collect();
                own.into_iter().for_each(|d| self.freed(d));
                self.apply(changes);
                assert_eq!(self.paid.get(&c).copied().unwrap_or(0), 0, "the dead pay nothing");
            }
            Step::Ram(c, pages) => {
                let Some(c) = pick(self.spaces.keys().copied(), c as usize) else { return };
                let Ok(frames) = self.free.take(pages * PAGE) else { return };
                match self.books.ram(Component(c), frames, c) {
                    Ok(id) => {
                        *self.paid.entry(c).or_default() += frames.len();
                        self.new_dataspace(c, id, What::Frames(frames));
                    }
                    Err(_) => self.free.give_back(frames),
                }
            }
            Step::Rom(c) => {
                let Some(c) = pick(self.spaces.keys().copied(), c as usize) else { return };
                if let Ok(id) = self.books.rom(Component(c), MODULE) {
                    self.new_dataspace(c, id, What::Frames(MODULE));
                }
            }
            Step::Managed(c, pages) => {
                let Some(c) = pick(self.spaces.keys().copied(), c as usize) else { return };
                if let Ok((map, id)) = self.books.managed(Component(c), pages * PAGE) {
                    self.maps.insert(map, (c, pages));
                    self.new_dataspace(c, id, What::Map(map));
                }
            }
            Step::Guest(c) => {
                let Some(c) = pick(self.spaces.keys().copied(), c as usize) else { return };
                let has = self.guests.iter().filter(|g| self.maps[g].0 == c).count();
                match self.books.guest(Component(c), 0..PAGES * PAGE) {
                    Ok(map) => {
                        self.maps.insert(map, (c, PAGES));
                        self.guests.insert(map);
                    }
                    Err(e) => assert_eq!((e, has), (CreateError::Guests, MAX_GUESTS)),
                }
            }
            Step::EndGuest(g) => {
                let Some(map) = pick(self.guests.iter().copied(), g) else { return };
                let changes = self.books.end_guest(map).expect("it is there");
                self.drop_map(map);
                self.apply(changes);
                assert!(!self.mapped.keys().any(|(_, guest, _)| *guest == Some(map)), "a guest that ended has memory");
                assert!(self.books.end_guest(map).is_err(), "twice");
            }
            Step::Attach { map, dataspace, offset, len, at, write, execute } => {
                let Some(map) = pick(self.maps.keys().copied(), map) else { return };
                let Some(dataspace) = pick(self.owners.keys().copied(), dataspace) else { return };
                self.attach(map, dataspace, offset, len, at, write, execute);
            }
            Step::Detach(map, region) => {
                let Some(map) = pick(self.maps.keys().copied(), map) else { return };
                let Some((_, at)) = pick(self.regions.keys().filter(|(m, _)| *m == map).copied(), region) else {
                    return;
                };
                let changes = self.books.detach(map, at).expect("it is there");
                self.take_out(map, at);
                self.apply(changes);
            }
            Step::Free(d) => {
                let Some((id, owner)) = pick(self.owners.iter().map(|(d, o)| (*d, *o)), d) else { return };
                assert!(self.books.free(Component(owner + 1), id).is_err(), "another's");
                let changes = self.books.free(Component(owner), id).expect("its own");
                self.freed(id);
                self.apply(changes);
                assert!(self.books.free(Component(owner), id).is_err(), "twice");
            }
            Step::Withdraw(d) => {
                let Some((id, owner)) = pick(self.owners.iter().map(|(d, o)| (*d, *o)), d) else { return };
                let changes = self.books.withdraw(Component(owner), id).expect("its own");
                let shows = |p: &BTreeMap<u64, Shown>, at| p.get(&at).is_some_and(|s| s.dataspace == id);
                let regions: Vec<_> = self.regions.keys().copied().collect();
                for (map, at) in regions {
                    if shows(&self.pages[&map], at / PAGE) {
                        self.take_out(map, at);
                    }
                }
                self.freed(id);
                self.apply(changes);
            }
            Step::Bequeath(d) => {
                let Some((id, owner)) = pick(self.owners.iter().map(|(d, o)| (*d, *o)), d) else { return };
                let shows =
                    |&&(map, at): &&(MapId, u64)| self.pages[&map].get(&(at / PAGE)).is_some_and(|s| s.dataspace == id);
                let users: Vec<MapId> = self.regions.keys().filter(shows).map(|(map, _)| *map).collect();
                let ram = matches!(self.what[&id], What::Frames(frames) if frames != MODULE);
                let heir = self.spaces.iter().find(|(_, space)| users == [**space]).map(|(c, _)| *c);
                let Some(heir) = heir.filter(|_| ram) else {
                    let fails = !ram || users.len() != 1;
                    assert!(!fails || self.books.bequeath(Component(owner), id, HEIR).is_err());
                    return;
                };
                let changes = self.books.bequeath(Component(owner), id, heir).expect("its own, with one user");
                let What::Frames(frames) = self.what[&id] else { return };
                *self.paid.get_mut(&owner).expect("who pays") -= frames.len();
                *self.paid.entry(heir).or_default() += frames.len();
                self.freed(id);
                self.apply(changes);
            }
            Step::Fault(c, page, access) => {
                let Some(c) = pick(self.spaces.keys().copied(), c as usize) else { return };
                let access = [Mem::R, Mem::W, Mem::XU][usize::from(access % 3)];
                self.fault(c, BASE / PAGE + page, access);
            }
            Step::Handle(map, handled) => {
                let Some(map) = pick(self.maps.keys().copied(), map) else { return };
                if handled {
                    self.handled.insert(map)
                } else {
                    self.handled.remove(&map)
                };
                let changes = self.books.handle(map, handled).expect("it is there");
                self.apply(changes);
            }
            Step::Next(map) => {
                let Some(map) = pick(self.maps.keys().copied(), map) else { return };
                if let Some(fault) = self.books.next_fault(map) {
                    assert!(self.waiting.contains_key(&fault.waiter) && self.handled.contains(&map));
                    assert_ne!(self.books.next_fault(map), Some(fault), "told once");
                }
            }
            Step::Refuse(map, page) => {
                let Some(map) = pick(self.maps.keys().copied(), map) else { return };
                for waiter in self.books.refuse(map, page * PAGE + 1).unwrap_or_default() {
                    assert!(self.waiting.remove(&waiter).is_some());
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "those of the step")]
    fn attach(
        &mut self,
        map: MapId,
        dataspace: DataspaceId,
        offset: u64,
        len: Option<u64>,
        at: Option<u64>,
        w: bool,
        x: bool,
    ) {
        let base = if self.spaces.values().any(|s| *s == map) { BASE } else { 0 };
        let asked = Attach {
            dataspace,
            offset: offset * PAGE,
            len: len.map(|l| l * PAGE),
            at: at.map(|a| base + a * PAGE),
            write: w,
            execute: x,
        };
        let size = self.books.view(dataspace).expect("wanted").size / PAGE;
        let Ok(attached) = self.books.attach(map, asked) else { return };
        let pages = len.unwrap_or(size - offset);
        let guest = self.guests.contains(&map);
        assert!(offset + pages <= size && (guest || !(w && x)), "{asked:?}");
        assert!(!guest || matches!(self.what[&dataspace], What::Frames(_)), "core sees no faults of guests");
        assert!(asked.at.is_none_or(|a| a == attached.at));
        let (first, reach) = (attached.at / PAGE, base / PAGE + self.maps[&map].1);
        assert!(first >= base / PAGE && first + pages <= reach, "{first} {pages} {reach}");
        let mut perms = Mem::R;
        perms.set(Mem::W, w);
        perms.set(if guest { Mem::XU | Mem::XS } else { Mem::XU }, x);
        for i in 0..pages {
            let shown = Shown { dataspace, page: offset + i, perms };
            assert!(self.pages.entry(map).or_default().insert(first + i, shown).is_none(), "two at one page");
        }
        self.regions.insert((map, attached.at), pages);
        if let Some(m) = attached.map {
            self.map_in(m);
        }
        self.apply(attached.changes);
    }

    fn take_out(&mut self, map: MapId, at: u64) {
        let pages = self.regions.remove(&(map, at)).unwrap();
        let table = self.pages.get_mut(&map).unwrap();
        (0..pages).for_each(|i| _ = table.remove(&(at / PAGE + i)));
    }

    fn check(&self) {
        for (&(c, guest, page), &has) in &self.mapped {
            match guest {
                None => assert_eq!(self.look(c, page, Mem::R), Ok(has), "component {c} has page {page:#x}"),
                Some(guest) => assert!(self.pages[&guest].contains_key(&page), "guest {guest:?} has page {page:#x}"),
            }
        }
        for guest in &self.guests {
            for (&page, shown) in self.pages.get(guest).into_iter().flatten() {
                let What::Frames(frames) = self.what[&shown.dataspace] else { panic!("no frames") };
                let has = self.mapped.get(&(self.maps[guest].0, Some(*guest), page));
                assert_eq!(has, Some(&(frames.start / PAGE + shown.page, shown.perms)), "what is attached is mapped");
            }
        }
        for &c in self.spaces.keys() {
            for page in BASE / PAGE - 1..=BASE / PAGE + PAGES {
                for access in [Mem::R, Mem::W, Mem::XU] {
                    self.same(c, page, access);
                }
            }
        }
        assert_eq!(self.books.ram_bytes() + self.free.free_bytes(), FRAMES.len());
        assert_eq!(self.paid.values().sum::<u64>(), self.books.ram_bytes());
        for (w, &(page, access)) in &self.waiting {
            let found = self.books.resolve(w.component, page * PAGE, access);
            let Resolution::Unresolved { map, handled: true, .. } = found else { panic!("waits in vain: {found}") };
            assert!(self.handled.contains(&map));
        }
        for (d, &owner) in &self.owners {
            let view = self.books.view(*d).expect("wanted");
            assert_eq!(view.kind == Kind::Managed, matches!(self.what[d], What::Map(_)));
            assert!(self.spaces.contains_key(&owner));
        }
    }

    fn same(&self, c: u64, page: u64, access: Mem) {
        let model = self.look(c, page, access);
        let found = self.books.resolve(Component(c), page * PAGE + 0xfff, access);
        let says = match found {
            Resolution::Map(m) => {
                let i = page - m.virt / PAGE;
                assert!(i < m.frames.len() / PAGE, "not around the address");
                // All that is mapped along has to be what is there.
                for (at, frame) in (m.virt / PAGE..).zip(m.frames.start / PAGE..m.frames.end / PAGE) {
                    assert_eq!(self.look(c, at, access), Ok((frame, m.perms)));
                }
                Ok((m.frames.start / PAGE + i, m.perms))
            }
            Resolution::Unresolved { .. } => Err("unresolved"),
            Resolution::Denied { .. } => Err("denied"),
            Resolution::Gone => Err("gone"),
            Resolution::Device => Err("device"),
            Resolution::Outside => Err("outside"),
        };
        assert_eq!(says, model, "component {c}, page {page:#x}, {access:?}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let small = || 0u64..8;
    let attach = (0usize..20, 0usize..20, 0u64..4, prop::option::of(0u64..6), prop::option::of(0u64..70), 0u8..5);
    prop_oneof![
        2 => (0u64..3).prop_map(Step::Begin),
        1 => small().prop_map(Step::End),
        4 => (small(), 1u64..9).prop_map(|(c, p)| Step::Ram(c, p)),
        1 => small().prop_map(Step::Rom),
        4 => (small(), 1u64..12).prop_map(|(c, p)| Step::Managed(c, p)),
        2 => small().prop_map(Step::Guest),
        1 => (0usize..20).prop_map(Step::EndGuest),
        14 => attach.prop_map(|(map, dataspace, offset, len, at, rights)| Step::Attach {
            map, dataspace, offset, len, at, write: rights & 1 != 0, execute: rights == 2 || rights == 3,
        }),
        3 => (0usize..20, 0usize..20).prop_map(|(m, r)| Step::Detach(m, r)),
        1 => (0usize..20).prop_map(Step::Free),
        1 => (0usize..20).prop_map(Step::Withdraw),
        1 => (0usize..20).prop_map(Step::Bequeath),
        8 => (small(), 0u64..PAGES, any::<u8>()).prop_map(|(c, p, a)| Step::Fault(c, p, a)),
        4 => (0usize..20, prop::bool::weighted(0.8)).prop_map(|(m, h)| Step::Handle(m, h)),
        2 => (0usize..20).prop_map(Step::Next),
        1 => (0usize..20, small()).prop_map(|(m, p)| Step::Refuse(m, p)),
    ]
}

proptest! {
    #[test]
    fn nobody_has_what_he_may_not_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for s in steps {
            model.step(s);
            model.check();
        }
        // When all have ended, all frames are back.
        while !model.spaces.is_empty() {
            model.step(Step::End(0));
        }
        prop_assert_eq!(model.free.free_bytes(), FRAMES.len());
    }
}

#[test]
fn bounds_are_per_component() {
    let mut books = Dataspaces::<u64>::default();
    let (one, two) = (Component(1), Component(2));
    books.begin(one, BASE..BASE + PAGES * PAGE).unwrap();
    books.begin(two, BASE..BASE + PAGES * PAGE).unwrap();
    for _ in 0..MAX_MAPS {
        books.managed(one, PAGE).unwrap();
    }
    assert_eq!(books.managed(one, PAGE).unwrap_err().to_string(), "it has 16 managed dataspaces, and may have no more");
    for _ in MAX_MAPS..MAX_DATASPACES {
        books.rom(one, MODULE).unwrap();
    }
    assert_eq!(books.rom(one, MODULE).unwrap_err().to_string(), "it has 128 dataspaces, and may have no more");
    assert!(books.managed(two, PAGE).is_ok() && books.rom(two, MODULE).is_ok());
}

#[test]
fn guests_are_places_like_others() {
    let mut books = Dataspaces::<u64>::default();
    let (vmm, other) = (Component(1), Component(2));
    let space = books.begin(vmm, BASE..BASE + PAGES * PAGE).unwrap();
    books.begin(other, BASE..BASE + PAGES * PAGE).unwrap();
    let guest = books.guest(vmm, 0..PAGES * PAGE).unwrap();
    let frames = PhysRange::new(FRAMES.start, 4 * PAGE);
    let ram = books.ram(vmm, frames, 1).unwrap();
    let all = Attach { dataspace: ram, offset: 0, len: None, at: Some(0), write: true, execute: true };
    let in_guest = books.attach(guest, all).unwrap().map.unwrap();
    assert_eq!((in_guest.guest, in_guest.virt, in_guest.perms), (Some(guest), 0, Mem::all()));
    // The VMM itself does not execute what it writes.
    let own = Attach { at: None, ..all };
    assert_eq!(books.attach(space, own).unwrap_err(), AttachError::WriteExecute);
    let own = books.attach(space, Attach { execute: false, ..own }).unwrap().map.unwrap();
    assert_eq!((own.guest, own.perms), (None, Mem::R | Mem::W));
    // A module is not written, and nothing is where core would have to see faults.
    let module = books.rom(vmm, MODULE).unwrap();
    let rom = Attach { dataspace: module, at: Some(8 * PAGE), ..all };
    assert!(matches!(books.attach(guest, rom), Err(AttachError::Rights(_))));
    assert_eq!(
        books.attach(guest, Attach { write: false, ..rom }).unwrap().map.unwrap().perms,
        Mem::R | Mem::XU | Mem::XS
    );
    let (_, managed) = books.managed(vmm, PAGE).unwrap();
    let managed = Attach { dataspace: managed, at: Some(40 * PAGE), ..all };
    assert_eq!(books.attach(guest, managed).unwrap_err(), AttachError::Managed);
    // RAM goes back when both have let go of it.
    assert_eq!(books.free(vmm, ram).unwrap(), Changes::default());
    assert!(books.detach(space, own.virt).unwrap().released.is_empty());
    let changes = books.end_guest(guest).unwrap();
    assert!(changes.unmap.iter().all(|u| (u.component, u.guest) == (vmm, Some(guest))));
    assert_eq!(changes.released.iter().map(|r| r.frames).collect::<Vec<_>>(), [frames]);
    assert!(books.attach(guest, all).is_err() && books.end_guest(space).is_err());
    // What another one lends to a guest it takes back, whoever has attached it.
    let guest = books.guest(vmm, 0..PAGES * PAGE).unwrap();
    let lent = books.ram(other, frames, 2).unwrap();
    _ = books.attach(guest, Attach { dataspace: lent, ..all }).unwrap();
    let changes = books.withdraw(other, lent).unwrap();
    assert_eq!((changes.unmap.len(), changes.unmap[0].guest, changes.released.len()), (1, Some(guest), 1));
}

#[test]
fn guests_are_bounded_per_component() {
    let mut books = Dataspaces::<u64>::default();
    let one = Component(1);
    assert_eq!(books.guest(one, 0..PAGE).unwrap_err(), CreateError::Ended);
    books.begin(one, BASE..BASE + PAGES * PAGE).unwrap();
    let guests: Vec<_> = (0..MAX_GUESTS).map(|_| books.guest(one, 0..PAGE).unwrap()).collect();
    let many = books.guest(one, 0..PAGE).unwrap_err().to_string();
    assert_eq!(many, "it has the memory of 16 guests, and may have no more");
    _ = books.end_guest(guests[3]).unwrap();
    assert!(books.guest(one, 0..PAGE).is_ok());
}
