//! Boot information as loaders make it, and as they do not.

use multiboot::Info;
use proptest::prelude::*;

const PAGE: u64 = 4096;

fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut t = [kind.to_le_bytes(), (body.len() as u32 + 8).to_le_bytes()].concat();
    t.extend_from_slice(body);
    t.resize(t.len().next_multiple_of(8), 0xee);
    t
}

fn info(tags: &[Vec<u8>]) -> Vec<u8> {
    let tags = tags.concat();
    [&(tags.len() as u32 + 8).to_le_bytes()[..], &[0; 4], &tags].concat()
}

fn end() -> Vec<u8> {
    tag(0, &[])
}

fn module(begin: u32, end: u32) -> Vec<u8> {
    tag(3, &[&begin.to_le_bytes()[..], &end.to_le_bytes(), b"core\0"].concat())
}

fn map(step: u32, areas: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut body = [step.to_le_bytes(), [0; 4]].concat();
    for (begin, len, kind) in areas {
        let mut area = [&begin.to_le_bytes()[..], &len.to_le_bytes(), &kind.to_le_bytes()].concat();
        area.resize((step as usize).max(24), 0);
        body.extend(area);
    }
    tag(6, &body)
}

#[test]
fn what_a_loader_says_is_found_whatever_else_it_says() {
    let bytes = info(&[
        tag(2, b"GRUB\0"),
        tag(1, b"no-pcid\0"),
        module(0x10_0000, 0x10_0123),
        module(0x20_0000, 0x20_0001),
        tag(14, &[1; 20]),
        tag(15, &[2; 36]),
        map(24, &[(0, 0x9_f000, 1), (0x9_f000, 0x1000, 2), (0x10_0000, 0x1000_0000, 1)]),
        end(),
    ]);
    assert_eq!(Info::size(&bytes[..4]) as usize, bytes.len());
    let i = Info::new(&bytes).unwrap();
    assert_eq!(i.command_line(), b"no-pcid\0");
    assert_eq!(i.modules().collect::<Vec<_>>(), [(0x10_0000, 0x10_0123), (0x20_0000, 0x20_0001)]);
    assert_eq!(bytes[i.rsdp().unwrap()..][..36], [2; 36]);
    assert_eq!(i.low_page((0, 0)), Some(0x9_e000));
}

#[test]
fn the_older_rsdp_will_do() {
    let bytes = info(&[tag(14, &[1; 20]), end()]);
    assert_eq!(bytes[Info::new(&bytes).unwrap().rsdp().unwrap()..][..20], [1; 20]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let bytes = info(&[end(), tag(1, b"behind the end"), module(1, 2), tag(14, &[1; 20])]);
    let i = Info::new(&bytes).unwrap();
    assert!(i.command_line().is_empty() && i.modules().next().is_none() && i.rsdp().is_none());
    assert_eq!(i.low_page((0, 0)), None);
}

#[test]
fn without_an_end_it_is_damaged() {
    for bytes in [vec![], vec![0; 7], info(&[]), info(&[tag(1, b"x")]), info(&[tag(1, b"x"), end()[..7].to_vec()])] {
        assert!(Info::new(&bytes).is_none(), "{bytes:?}");
    }
    // A length that is too small, and two that are too large.
    for len in [7_u32, 100, u32::MAX] {
        let mut bytes = info(&[tag(1, b"x"), end()]);
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        assert!(Info::new(&bytes).is_none(), "{len}");
    }
}

#[test]
fn the_low_page_is_free() {
    let low = |more: Vec<u8>, own| {
        let bytes = info(&[more, map(40, &[(0x800, 0x5800, 1)]), end()]);
        Info::new(&bytes).unwrap().low_page(own)
    };
    let none = || tag(2, b"");
    // 0x800 to 0x6000: pages 1 to 5.
    assert_eq!(low(none(), (0, 0)), Some(5 * PAGE));
    assert_eq!(low(none(), (5 * PAGE + 1, 5 * PAGE + 2)), Some(4 * PAGE));
    assert_eq!(low(none(), (5 * PAGE, 5 * PAGE)), Some(5 * PAGE));
    assert_eq!(low(module(0x2fff, 0x6000), (0, 0)), Some(PAGE));
    assert_eq!(low(module(0x1fff, 0x6000), (0, 0)), None);
    // Of other kinds of memory, and of a map that is too short, there is nothing.
    for tags in [map(24, &[(0, 0x9_f000, 2)]), map(0, &[]), tag(6, &[24]), tag(6, &[24, 0, 0, 0, 0, 0, 0, 0, 1])] {
        let bytes = info(&[tags, end()]);
        assert_eq!(Info::new(&bytes).unwrap().low_page((0, 0)), None);
    }
    // An area that reaches beyond all addresses.
    let bytes = info(&[map(8, &[(0x1000, u64::MAX, 1)]), end()]);
    assert_eq!(Info::new(&bytes).unwrap().low_page((0, 0)), Some(0x9_f000));
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_they_are_read(mut bytes in prop::collection::vec(prop_oneof![0..20_u8, any::<u8>()], 0..400), own in any::<u16>()) {
        bytes.extend(end());
        if let Some(i) = Info::new(&bytes) {
            let page = i.low_page((own.into(), own.into()));
            prop_assert!(page.is_none_or(|p| p % PAGE == 0 && p < 0xa_0000));
            prop_assert!(i.modules().count() < 100 && i.command_line().len() < bytes.len());
            prop_assert!(i.rsdp().is_none_or(|at| at < bytes.len()));
        }
    }
}
