use super::*;
use crate::image::tests::good;
use crate::start_info::tests::MACHINE;
use proptest::prelude::*;

const MODULES: u64 = 0x800_0000;

/// Modules by name, one behind the other from 128 MiB on.
pub(crate) fn modules<'a>(list: &[(&str, &'a [u8])]) -> Vec<Module<'a>> {
    let mut at = MODULES;
    list.iter()
        .map(|(name, bytes)| {
            let phys = PhysRange::new(at, bytes.len() as u64);
            at = phys.outward().end + PAGE;
            Module { name: (*name).into(), phys, bytes }
        })
        .collect()
}

pub(crate) fn component(name: &str, tail: &str) -> String {
    format!("[[component]]\nname = \"{name}\"\nbinary = \"{name}.elf\"\nram = \"1M\"\npriority = 10\n{tail}\n")
}

/// The system of the default configuration in small: the routes of `uart` and `console` are a circle.
pub(crate) fn default_system() -> String {
    [
        component("uart", "provides = [\"terminal\"]\nroutes = { log = \"console\" }\nirqs = [4]"),
        component("console", "provides = [\"log\", \"terminal\"]\nroutes = { terminal = \"uart\" }"),
        component(
            "vm",
            "routes = { log = \"console\", terminal = \"console\" }\nroms = [\"kernel\"]\nconfig = { a = 1 }",
        ),
    ]
    .concat()
}

pub(crate) fn book() -> Book {
    Book::new([PhysRange { start: 0x10_0000, end: 0x400_0000 }], [])
}

pub(crate) fn plan_with(text: &str, list: &[(&str, &[u8])], book: &mut Book) -> Plan {
    Plan::new(&crate::system_file(text).unwrap(), &modules(list), &MACHINE, book)
}

/// The plan of `text` with all modules there and good.
pub(crate) fn plan(text: &str) -> Plan {
    let elf = good();
    let list = ["uart.elf", "console.elf", "vm.elf", "kernel"].map(|n| (n, elf.as_slice()));
    plan_with(text, &list, &mut book())
}

fn errors(p: &Plan) -> Vec<String> {
    p.components.iter().filter_map(|c| c.as_ref().err().map(ToString::to_string)).collect()
}

fn started(p: &Plan) -> Vec<&str> {
    p.components.iter().flatten().map(|c| c.name.as_str()).collect()
}

#[test]
fn the_default_system_is_planned() {
    let p = plan(&default_system());
    assert_eq!(started(&p), ["uart", "console", "vm"]);
    assert!(p.notes.is_empty());
}

#[test]
fn frames_hold_what_the_image_says() {
    let p = plan(&default_system());
    let vm = p.component(2).unwrap();
    let image = vm.frames[0];
    let code = Mapping { virt: 0x40_0000, phys: image.start, len: 0x1000, perms: Mem::R | Mem::XU };
    let data = Mapping { virt: 0x40_1000, phys: image.start + 0x1000, len: 0x4000, perms: Mem::R | Mem::W };
    assert_eq!(vm.mappings[..2], [code, data]);
    let contents = [
        Content { phys: image.start, source: Source::Module(2, 0..0x1000) },
        Content { phys: image.start + 0x1100, source: Source::Module(2, 0x1100..0x1900) },
    ];
    assert_eq!(vm.contents[..2], contents);
}

#[test]
fn the_first_stack_is_paid_from_ram_and_an_eighth_is_not_mapped() {
    let p = plan(&default_system());
    let c = p.component(0).unwrap();
    let find = |virt| c.mappings.iter().find(|m| m.virt == virt).unwrap();
    let (ram, stack) = (find(layout::RAM), find(layout::STACK_TOP - layout::STACK_LEN));
    assert_eq!(ram.len + stack.len, 7 << 17);
    assert_eq!(c.ram_len, ram.len);
    assert_eq!(stack.phys, ram.phys + ram.len);
    assert_eq!(find(layout::START_INFO).perms, Mem::R);
}

#[test]
fn only_who_may_have_guests_has_ram_that_guests_can_execute() {
    for (routes, guests) in [("", false), ("routes = { vm = \"parent\" }", true)] {
        let p = plan(&component("vm", routes));
        let c = p.component(0).unwrap();
        let executed: Vec<_> = c.mappings.iter().filter(|m| m.perms.contains(Mem::XS)).map(|m| m.virt).collect();
        assert_eq!((c.guests, executed), (guests, if guests { vec![layout::RAM] } else { vec![] }));
    }
}

#[test]
fn a_small_stack_leaves_more_ram() {
    let p = plan(&component("vm", "stack = \"64K\"\nspare = \"64K\""));
    let c = p.component(0).unwrap();
    let stack = c.mappings.iter().find(|m| m.virt == layout::STACK_TOP - (64 << 10)).unwrap();
    assert_eq!((stack.len, c.ram_len), (64 << 10, (1 << 20) - (128 << 10)));
    assert_eq!(p.start_info(0, &MACHINE).unwrap().stack_len, 64 << 10);
}

#[test]
fn roms_are_mapped_where_they_are_and_read_only() {
    let p = plan(&default_system());
    let vm = p.component(2).unwrap();
    let roms: Vec<_> = vm.mappings.iter().filter(|m| (layout::ROMS..layout::UTCBS).contains(&m.virt)).collect();
    assert_eq!(roms.len(), 2);
    assert_eq!(roms[0].phys, MODULES + 3 * 0x4000, "the fourth module");
    assert_eq!(roms[0].len, 0x3000);
    assert!(roms.iter().all(|r| r.perms == Mem::R && r.virt % LARGE == r.phys % LARGE));
    assert!(roms[0].virt + roms[0].len < roms[1].virt);
    let text = Source::Text("a = 1\n".into());
    assert!(vm.contents.contains(&Content { phys: roms[1].phys, source: text }));
    assert_eq!((vm.roms[0].len, vm.roms[1].len), (12288, 6));
}

#[test]
fn arguments_are_a_rom_with_a_zero_behind_each() {
    let p = plan(&component("vm", "args = [\"-v\", \"\", \"a b\"]"));
    let vm = p.component(0).unwrap();
    let rom = vm.roms.iter().find(|r| r.name.as_str() == ARGS_ROM).unwrap();
    let text = "-v\0\0a b\0";
    assert_eq!(rom.len, text.len() as u64);
    assert!(vm.contents.iter().any(|c| c.source == Source::Text(text.into())));
}

#[test]
fn a_missing_module_stops_only_its_component() {
    let elf = good();
    let mut list = vec![("uart.elf", &elf[..]), ("console.elf", &elf), ("kernel", &elf)];
    let p = plan_with(&default_system(), &list, &mut book());
    assert_eq!(started(&p), ["uart", "console"]);
    assert_eq!(errors(&p), ["component `vm`: there is no boot module `vm.elf` (key `binary`)"]);
    list.push(("vm.elf", &elf));
    list.remove(2);
    let p = plan_with(&default_system(), &list, &mut book());
    assert_eq!(errors(&p), ["component `vm`: there is no boot module `kernel` (key `roms`)"]);
}

#[test]
fn a_bad_image_names_component_module_and_cause() {
    let elf = good();
    let list = [("uart.elf", &elf[..]), ("console.elf", &elf), ("kernel", &elf), ("vm.elf", &elf[..0x1800])];
    let p = plan_with(&default_system(), &list, &mut book());
    let want = "component `vm`: module `vm.elf` is truncated: segment 1 ends at byte 6400, the file at 6144";
    assert_eq!(errors(&p), [want]);
    assert_eq!(started(&p), ["uart", "console"]);
}

#[test]
fn all_that_is_wrong_with_a_component_is_told() {
    let p = plan(&default_system().replace("irqs = [4]", "irqs = [-1]\nkmme = \"1M\""));
    assert!(errors(&p)[0].starts_with("system: line 8, column 9: component `uart`, key `irqs`"), "{:?}", errors(&p));
    let more = "system: line 9, column 1: unknown key `kmme` in component `uart`; did you mean `kmem`?";
    assert_eq!(p.notes[0], more);
}

#[test]
fn who_does_not_start_takes_nobody_along() {
    let elf = good();
    let list = [("uart.elf", &elf[..]), ("kernel", &elf), ("vm.elf", &elf), ("console.elf", b"#!")];
    let p = plan_with(&default_system(), &list, &mut book());
    assert_eq!(started(&p), ["uart", "vm"]);
    assert_eq!(errors(&p), ["component `console`: module `console.elf` is not an ELF file"]);
}

#[test]
fn more_ram_than_there_is_stops_only_its_component() {
    let text = default_system().replacen("ram = \"1M\"", "ram = \"4G\"", 3).replacen("ram = \"4G\"", "ram = \"1M\"", 2);
    let mut with_vm = book();
    let elf = good();
    let list = ["uart.elf", "console.elf", "vm.elf", "kernel"].map(|n| (n, elf.as_slice()));
    let p = plan_with(&text, &list, &mut with_vm);
    assert_eq!(started(&p), ["uart", "console"]);
    let e = &errors(&p)[0];
    assert!(e.starts_with("component `vm`: not enough memory for its RAM: 4194048K asked, "), "{e}");
    let without = text.split("[[component]]\nname = \"vm\"").next().unwrap().to_string();
    let mut without_vm = book();
    plan_with(&without, &list, &mut without_vm);
    assert_eq!(with_vm.free_bytes(), without_vm.free_bytes(), "all that vm had taken is back");
}

#[test]
fn a_wrong_entry_does_not_start() {
    let text = default_system().replace("name = \"console\"", "colour = 1\nname = \"console\"");
    let p = plan(&text);
    assert_eq!(started(&p), ["uart", "vm"]);
    assert!(errors(&p)[0].contains("unknown key `colour` in component `console`"), "{:?}", errors(&p));
}

#[test]
fn cpus_are_those_of_the_entry_or_all() {
    let text = default_system().replacen("irqs = [4]", "irqs = [4]\ncpus = [2, 0]", 1);
    let p = plan(&text);
    let uart = p.component(0).unwrap();
    assert_eq!((uart.cpus.as_slice(), uart.first_cpu()), (&[2, 0][..], 2), "in the order of the file");
    let console = p.component(1).unwrap();
    assert_eq!((console.cpus.as_slice(), console.first_cpu()), (&[0, 1, 2, 3][..], 0));
}

#[test]
fn a_cpu_that_the_machine_lacks_keeps_that_component_from_starting() {
    let text = default_system().replace("config = { a = 1 }", "cpus = [1, 4]");
    let p = plan(&text);
    assert_eq!(started(&p), ["uart", "console"]);
    let want = "system: line 23, column 12: component `vm`, key `cpus`: there is no CPU 4: the machine has 4, 0 to 3";
    assert_eq!(errors(&p), [want]);
    let elf = good();
    let list = ["uart.elf", "console.elf", "vm.elf", "kernel"].map(|n| (n, elf.as_slice()));
    let one =
        Plan::new(&crate::system_file(&text).unwrap(), &modules(&list), &Machine { cpus: 1, ..MACHINE }, &mut book());
    assert!(errors(&one)[0].ends_with("there is no CPU 1: the machine has only 0"), "{:?}", errors(&one));
    assert_eq!(started(&one), ["uart", "console"], "all CPUs are one");
}

#[test]
fn an_interrupt_that_the_machine_lacks_keeps_that_component_from_starting() {
    let p = plan(&default_system().replace("config = { a = 1 }", "irqs = [23, 400]"));
    assert_eq!(started(&p), ["uart", "console"]);
    let want = "component `vm`, key `irqs`: there is no interrupt 400: the machine has 24, 0 to 23";
    assert!(errors(&p)[0].ends_with(want), "{:?}", errors(&p));
    let p = plan(&default_system().replace("config = { a = 1 }", "irqs = [23, 0]"));
    assert_eq!(p.component(2).unwrap().irqs, [23, 0]);
}

#[test]
fn who_asks_for_more_kernel_memory_than_is_left_does_not_start() {
    // The machine of the tests has 8M for all.
    let text = default_system().replace("config = { a = 1 }", "kmem = \"7M\"");
    let p = plan(&text);
    assert_eq!(started(&p), ["uart", "console"]);
    assert_eq!(errors(&p), ["component `vm`, key `kmem`: 7M of kernel memory are not there: 6136K are left"]);
    let p = plan(&text.replace("7M", "6136K"));
    assert_eq!(errors(&p), [""; 0]);
    assert_eq!(p.component(2).map(|c| c.kmem_frames), Some(6136 / 4));
    // Who does not start for another reason leaves his share to the others.
    let p = plan(&text.replace("name = \"uart\"", "name = \"uart\"\nkmem = \"9M\""));
    assert!(errors(&p)[0].starts_with("component `uart`, key `kmem`: 9M"), "{:?}", errors(&p));
}

#[test]
fn a_failed_creation_gives_all_memory_back() {
    let elf = good();
    let list = ["uart.elf", "console.elf", "vm.elf", "kernel"].map(|n| (n, elf.as_slice()));
    let mut b = book();
    let before = b.free_bytes();
    let mut p = plan_with(&default_system(), &list, &mut b);
    let error =
        ComponentError::Kernel { component: "uart".into(), what: "create its object space", status: "x".into() };
    p.fail(0, error, &mut b);
    assert_eq!(started(&p), ["console", "vm"]);
    [1, 2].into_iter().for_each(|index| p.reclaim(index, &mut b));
    assert_eq!(b.free_bytes(), before);
    assert_eq!(errors(&p)[0], "component `uart`: the kernel refused to create its object space: x");
}

proptest! {
    #[test]
    fn no_frame_belongs_to_two_components(sizes in prop::collection::vec(65u64..4000, 3), free in 1u64..64) {
        let mut text = default_system();
        for s in &sizes {
            text = text.replacen("ram = \"1M\"", &format!("ram = \"{}K\"", s * 4), 1);
        }
        let elf = good();
        let list = ["uart.elf", "console.elf", "vm.elf", "kernel"].map(|n| (n, elf.as_slice()));
        let mut b = Book::new([PhysRange::new(0x10_0000, free << 20)], []);
        let total = b.free_bytes();
        let p = plan_with(&text, &list, &mut b);
        let mut held: Vec<PhysRange> = p.components.iter().flatten().flat_map(|c| c.frames.clone()).collect();
        held.sort_unstable();
        prop_assert!(held.windows(2).all(|w| w[0].end <= w[1].start));
        prop_assert_eq!(held.iter().map(|r| r.len()).sum::<u64>() + b.free_bytes(), total);
        // What a component can write is its own.
        for c in p.components.iter().flatten() {
            for m in c.mappings.iter().filter(|m| m.perms.contains(Mem::W)) {
                prop_assert!(c.frames.iter().any(|f| f.start <= m.phys && m.phys + m.len <= f.end));
            }
        }
    }
}
