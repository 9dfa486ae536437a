//! Output that is shown once more must not ask the user's terminal once more: its answers are typed into the guest.

const ESC: u8 = 0x1b;
/// Final bytes of the sequences that are answered: device attributes and device status (ECMA-48, 8.3.24 and 8.3.35).
const ANSWERED: [u8; 2] = [b'c', b'n'];

/// The same without control sequences that a terminal answers.
pub(crate) fn without(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let count = sequence(rest).filter(|s| s.last().is_some_and(|l| ANSWERED.contains(l))).map_or(0, <[u8]>::len);
        if count == 0 {
            kept.push(*first);
            rest = tail;
        } else {
            rest = &rest[count..];
        }
    }
    kept
}

/// The control sequence at the beginning, if there is one (ECMA-48, 5.4): parameter and intermediate bytes, a final one.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let body = bytes.strip_prefix(&[ESC, b'['])?;
    let last = body.iter().position(|b| !(0x20..=0x3f).contains(b))?;
    (0x40..=0x7e).contains(&body[last]).then(|| &bytes[..2 + last + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_and_all_else_stays() {
        for (text, want) in [
            ("guest# \x1b[6n", "guest# "),
            ("\x1b[c\x1b[>0c\x1b[0 n\x1b[5nx", "x"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[6", "\x1b[6"),
            ("\x1b[6\x1b[6n", "\x1b[6"),
            ("\x1b[6\nn", "\x1b[6\nn"),
            ("\x1b\x1b[n[", "\x1b["),
            ("[6nc", "[6nc"),
            ("", ""),
        ] {
            assert_eq!(without(text.as_bytes()), want.as_bytes(), "{text:?}");
        }
    }
}
