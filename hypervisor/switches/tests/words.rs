//! What command lines mean.

use proptest::prelude::*;
use switches::{CommandLine, Switches};

const EACH: [(&str, Switches); 11] = [
    ("pcid", Switches::PCID),
    ("1g-pages", Switches::GIANT_PAGES),
    ("tsc-deadline", Switches::TSC_DEADLINE),
    ("xsaveopt", Switches::XSAVEOPT),
    ("fast-path", Switches::FAST_PATH),
    ("tpr-shadow", Switches::TPR_SHADOW),
    ("preemption-timer", Switches::PREEMPTION_TIMER),
    ("nrips", Switches::NRIPS),
    ("decode-assists", Switches::DECODE_ASSISTS),
    ("flush-by-asid", Switches::FLUSH_BY_ASID),
    ("clean-bits", Switches::CLEAN_BITS),
];

fn off(line: &str) -> Option<Switches> {
    CommandLine(line.as_bytes()).off()
}

fn printed(line: &str) -> String {
    CommandLine(line.as_bytes()).to_string()
}

#[test]
fn each_feature_has_a_name_and_a_word() {
    assert_eq!(EACH.iter().fold(Switches::empty(), |all, (_, s)| all | *s), Switches::all());
    for (name, s) in EACH {
        assert_eq!(off(&format!("no-{name}")), Some(s), "{name}");
        assert_eq!(s.to_string(), format!(" {name}"));
        assert_eq!(printed(&format!("no-{name}")), format!("turned off: {name}"));
    }
}

#[test]
fn a_line_ends_with_a_zero_and_may_be_empty() {
    for empty in ["", "\0", "  \0", "\t\n"] {
        assert_eq!(off(empty), None);
    }
    assert_eq!(off(" no-nrips  no-pcid\0"), Some(Switches::NRIPS | Switches::PCID));
    assert_eq!(printed("no-nrips no-pcid\0"), "turned off: pcid nrips");
}

#[test]
fn words_that_mean_nothing_are_named_with_those_that_mean_something_and_the_others_count() {
    let line = "pcid no-pcid no- no-x NO-PCID no-pcids\0";
    assert_eq!(off(line), Some(Switches::PCID));
    let names: String = EACH.iter().map(|(name, _)| format!(" {name}")).collect();
    let unknown = "pcid no- no-x NO-PCID no-pcids";
    assert_eq!(printed(line), format!("turned off: pcid; unknown: {unknown}; known, each behind no-:{names}"));
    assert_eq!(off("/boot/hypervisor"), Some(Switches::empty()));
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_they_are_read_and_printed_on_one_line(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let line = CommandLine(&line);
        prop_assert_eq!(line.off().unwrap_or_default(), Switches::empty());
        prop_assert!(line.to_string().chars().all(|c| c >= ' '));
        prop_assert_eq!(line.to_string().contains("unknown"), line.off().is_some());
    }

    #[test]
    fn what_is_turned_off_is_what_the_words_name(bits in any::<u16>(), junk in "[a-z]{0,8}") {
        let some = Switches::from_bits_truncate(bits);
        let line = some.to_string().replace(' ', " no-") + " " + &junk;
        prop_assert_eq!(off(&line).unwrap_or_default(), some);
        prop_assert_eq!(printed(&line).contains("unknown"), !junk.is_empty());
    }
}
