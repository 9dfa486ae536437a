//! Quantities in configurations: memory sizes ("264M"), times ("100ms") and port ranges ("0x3f8-0x3ff").
//!
//! Key types: [`Size`], [`Period`], [`PortRange`]. Used by `parse`.

use std::fmt;
use thiserror::Error;

/// Why a quantity cannot be read.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum QuantityError {
    /// Not digits followed by an optional unit.
    #[error("\"{0}\" is no size: digits and an optional K, M or G are expected, as in \"264M\"")]
    Size(String),
    /// More than 64 bits.
    #[error("\"{0}\" is larger than any memory")]
    SizeRange(String),
    /// Nothing at all.
    #[error("a size of 0 is of no use")]
    Zero,
    /// Not whole pages.
    #[error("\"{0}\" is not a multiple of 4K")]
    Unaligned(String),
    /// Not digits followed by a unit.
    #[error("\"{0}\" is no time: digits and ms, s or m are expected, as in \"100ms\"")]
    Period(String),
    /// Longer than a day, or no time at all.
    #[error("\"{0}\" is not between 1ms and a day")]
    PeriodRange(String),
    /// Not a port or two.
    #[error("\"{0}\" is no port range: one port or two, as in \"0x3f8-0x3ff\", are expected")]
    Ports(String),
    /// Not two addresses.
    #[error("\"{0}\" is no memory range: first and last address, as in \"0xb8000-0xbffff\", are expected")]
    Memory(String),
    /// Ends before it starts, is not whole pages, or is behind what a CPU can address.
    #[error("memory range \"{0}\" is not whole pages of 4K, none, or behind what a CPU can address")]
    MemoryPages(String),
    /// Ends before it starts.
    #[error("port range \"{0}\" ends before it starts")]
    PortsReversed(String),
}

/// A memory size in bytes: positive, whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// A page.
    pub const PAGE: Size = Size(abi::PAGE_SIZE as u64);
    /// The first stack of a component of which nothing is said.
    pub const STACK: Size = Size(parent::layout::STACK_LEN);

    /// Reads digits with an optional unit K, M or G (powers of 1024).
    pub fn parse(text: &str) -> Result<Size, QuantityError> {
        let digits = text.trim_end_matches(['K', 'M', 'G']);
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            _ => return Err(QuantityError::Size(text.into())),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Size(text.into()));
        }
        let range = || QuantityError::SizeRange(text.into());
        let bytes = digits.parse::<u64>().map_err(|_| range())?.checked_mul(1 << shift).ok_or_else(range)?;
        match bytes {
            0 => Err(QuantityError::Zero),
            n if n % abi::PAGE_SIZE as u64 != 0 => Err(QuantityError::Unaligned(text.into())),
            n => Ok(Size(n)),
        }
    }

    /// What the kernel may use for a component with so much RAM, if the system file does not say: objects of an
    /// ordinary component or of a few virtual CPUs, and page tables, the more the more RAM.
    pub fn kernel_memory(ram: Size) -> Size {
        Size((1 << 20) + (ram.0 >> 10).next_multiple_of(abi::PAGE_SIZE as u64))
    }

    /// In pages.
    pub const fn pages(self) -> u64 {
        self.0 >> abi::PAGE_BITS
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Prints bytes in the largest unit that fits without a remainder, else rounded down to KiB.
pub fn human(bytes: u64) -> String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    if bytes >= 1 << 10 { format!("{}K", bytes >> 10) } else { format!("{bytes} bytes") }
}

/// A time in ms: at least one, at most a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u64);

impl Period {
    /// 100 ms.
    pub const TENTH: Period = Period(100);
    /// A second.
    pub const SECOND: Period = Period(1000);
    /// A day.
    pub const LONGEST: Period = Period(24 * 60 * 60 * 1000);

    /// Reads digits with a unit: ms, s or m.
    pub fn parse(text: &str) -> Result<Period, QuantityError> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit_ms = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => return Err(QuantityError::Period(text.into())),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Period(text.into()));
        }
        let ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
        let fits = ms.filter(|ms| (1..=Period::LONGEST.0).contains(ms));
        fits.map(Period).ok_or_else(|| QuantityError::PeriodRange(text.into()))
    }

    /// In ms.
    pub const fn ms(self) -> u64 {
        self.0
    }
}

/// Inclusive range of I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port; at least `first`.
    pub last: u16,
}

impl PortRange {
    /// Reads "0x3f8-0x3ff", "0x80" or the same in decimal.
    pub fn parse(text: &str) -> Result<PortRange, QuantityError> {
        let port = |s| parse_port(s).ok_or_else(|| QuantityError::Ports(text.into()));
        let (first, last) = match text.split_once('-') {
            Some((a, b)) => (port(a)?, port(b)?),
            None => (port(text)?, port(text)?),
        };
        if last < first {
            return Err(QuantityError::PortsReversed(text.into()));
        }
        Ok(PortRange { first, last })
    }

    /// Whether any port is in both.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all ports of `other` are in these.
    pub fn contains(self, other: PortRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Number of ports.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

/// Bits of a physical address, at most.
const PHYS_BITS: u32 = 52;

/// Physical addresses of a device, whole pages, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemRange {
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

impl MemRange {
    /// Reads "0xb8000-0xbffff", or the same in decimal.
    pub fn parse(text: &str) -> Result<MemRange, QuantityError> {
        let (first, last) = text.split_once('-').ok_or_else(|| QuantityError::Memory(text.into()))?;
        let address = |s| parse_number(s).ok_or_else(|| QuantityError::Memory(text.into()));
        MemRange::new(address(first)?, address(last)?).ok_or_else(|| QuantityError::MemoryPages(text.into()))
    }

    /// From the first to the last byte. `None`: not whole pages, none, or no addresses.
    pub fn new(first: u64, last: u64) -> Option<MemRange> {
        let starts_page = |address: u64| address.is_multiple_of(abi::PAGE_SIZE as u64);
        let fits = first <= last && last >> PHYS_BITS == 0 && starts_page(first) && starts_page(last + 1);
        fits.then_some(MemRange { first, last })
    }

    /// Whether any byte is in both.
    pub fn overlaps(self, other: MemRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: MemRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for MemRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

fn parse_port(text: &str) -> Option<u16> {
    parse_number(text)?.try_into().ok()
}

fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.trim().strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text.trim(), 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_with_units() {
        for (text, bytes) in [("4096", 4096), ("4K", 4096), ("1M", 1 << 20), ("264M", 264 << 20), ("2G", 2 << 30)] {
            assert_eq!(Size::parse(text).map(Size::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn memory_of_devices_is_whole_pages() {
        let range = MemRange { first: 0xb_8000, last: 0xb_8fff };
        assert_eq!(MemRange::parse("0xb8000-0xb8fff"), Ok(range));
        assert_eq!(MemRange::parse(&range.to_string()), Ok(range));
        assert!(range.contains(range) && range.overlaps(range));
        let behind = MemRange::new(0xb_9000, 0xb_9fff).unwrap();
        assert!(!range.overlaps(behind) && !range.contains(behind));
        for text in ["", "0xb8000", "0xb8000-", "0xb8000-x", "0xb8000-+1"] {
            assert_eq!(MemRange::parse(text), Err(QuantityError::Memory(text.into())));
        }
        for text in ["0xb8000-0xb8000", "0xb8001-0xb8fff", "0x1000-0xfff", "0-0x1fffffffffffff", "0x1000-0x7ff"] {
            assert_eq!(MemRange::parse(text), Err(QuantityError::MemoryPages(text.into())));
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "M", "-1M", "+1M", "1 M", "1m", "1KM", "1MB", "1.5M", "0x1000", "M1"] {
            assert_eq!(Size::parse(text), Err(QuantityError::Size(text.into())), "{text}");
        }
        assert_eq!(Size::parse("0"), Err(QuantityError::Zero));
        assert_eq!(Size::parse("0G"), Err(QuantityError::Zero));
        assert_eq!(Size::parse("1K"), Err(QuantityError::Unaligned("1K".into())));
        assert_eq!(Size::parse("4097"), Err(QuantityError::Unaligned("4097".into())));
        for text in ["99999999999G", "18446744073709551616", "17179869184G"] {
            assert_eq!(Size::parse(text), Err(QuantityError::SizeRange(text.into())), "{text}");
        }
    }

    #[test]
    fn sizes_are_printed_as_a_reader_would_write_them() {
        for (bytes, text) in [(12, "12 bytes"), (4096, "4K"), (4097, "4K"), (264 << 20, "264M"), (1 << 30, "1G")] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn periods_have_units() {
        for (text, ms) in [("1ms", 1), ("100ms", 100), ("2s", 2000), ("1440m", 86_400_000)] {
            assert_eq!(Period::parse(text).map(Period::ms), Ok(ms), "{text}");
        }
        for text in ["", "1", "ms", "1 s", "-1s", "1h", "1.5s", "1sm", "üs"] {
            assert_eq!(Period::parse(text), Err(QuantityError::Period(text.into())), "{text}");
        }
        for text in ["0ms", "1441m", "99999999999999999999s", "18446744073709551615m"] {
            assert_eq!(Period::parse(text), Err(QuantityError::PeriodRange(text.into())), "{text}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(PortRange::parse("0x3f8-0x3ff"), Ok(PortRange { first: 0x3f8, last: 0x3ff }));
        assert_eq!(PortRange::parse("0 - 65535").map(PortRange::count), Ok(65536));
        assert_eq!(PortRange::parse("128"), Ok(PortRange { first: 128, last: 128 }));
        for text in ["", "-", "0x3f8-", "-0x3ff", "3f8", "0x10000", "1-2-3", "+1"] {
            assert_eq!(PortRange::parse(text), Err(QuantityError::Ports(text.into())), "{text}");
        }
        assert_eq!(PortRange::parse("2-1"), Err(QuantityError::PortsReversed("2-1".into())));
    }

    proptest! {
        #[test]
        fn sizes_never_panic(text in ".{0,12}") {
            let _ = Size::parse(&text);
            let _ = PortRange::parse(&text);
            let _ = Period::parse(&text);
        }

        #[test]
        fn overlap_means_a_port_in_both(a in 0u16..40, b in 0u16..40, c in 0u16..40, d in 0u16..40) {
            let x = PortRange { first: a.min(b), last: a.max(b) };
            let y = PortRange { first: c.min(d), last: c.max(d) };
            let shared = (x.first..=x.last).any(|p| (y.first..=y.last).contains(&p));
            prop_assert_eq!(x.overlaps(y), shared);
            prop_assert_eq!(y.overlaps(x), shared);
            prop_assert_eq!(x.contains(y), (y.first..=y.last).all(|p| (x.first..=x.last).contains(&p)));
        }
    }
}
