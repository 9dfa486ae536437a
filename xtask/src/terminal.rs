//! The user's terminal while `run` connects it to the guest: raw, so that every key goes there, Ctrl-C too.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write};
use std::sync::{Mutex, PoisonError};

/// Ctrl-A, which begins a command: to us if it is followed by X, else to the console multiplexer, unless the system
/// has another key for it.
const ESCAPE: u8 = 0x01;

static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Makes the terminal raw, if standard input is one.
pub fn make_raw() {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return;
    }
    let Ok(original) = tcgetattr(&stdin) else { return };
    let mut raw = original.clone();
    raw.make_raw();
    *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
    let _ = tcsetattr(&stdin, OptionalActions::Now, &raw);
}

/// Undoes [`make_raw`].
pub fn restore() {
    if let Some(original) = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &original);
    }
}

/// Finds Ctrl-A X among typed keys. All others go through, a Ctrl-A together with what follows it.
#[derive(Default)]
pub struct Keys {
    escaped: bool,
}

/// What typed keys amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the guest.
    Text(Vec<u8>),
    /// The user wants to leave.
    Quit,
}

impl Keys {
    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut text = Vec::with_capacity(bytes.len());
        for &b in bytes {
            match (self.escaped, b) {
                (true, b'x' | b'X') => return Typed::Quit,
                (true, _) => {
                    self.escaped = false;
                    text.extend([ESCAPE, b]);
                }
                (false, ESCAPE) => self.escaped = true,
                (false, _) => text.push(b),
            }
        }
        Typed::Text(text)
    }
}

/// Passes standard input on to `out` until its end, or until the user quits: then calls `quit`. The commands to us
/// exist only on a terminal.
pub fn pump(mut out: impl Write, quit: impl FnOnce()) {
    let mut stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    let (mut keys, mut buf) = (Keys::default(), [0; 1024]);
    while let Ok(n @ 1..) = stdin.read(&mut buf) {
        let typed = if terminal { keys.take(&buf[..n]) } else { Typed::Text(buf[..n].to_vec()) };
        match typed {
            Typed::Text(t) if out.write_all(&t).and_then(|()| out.flush()).is_ok() => {}
            Typed::Text(_) => return,
            Typed::Quit => return quit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Typed {
        Typed::Text(t.into())
    }

    #[test]
    fn ctrl_a_x_quits_even_in_two_reads() {
        assert_eq!(Keys::default().take(b"ls\x01x"), Typed::Quit);
        let mut k = Keys::default();
        assert_eq!(k.take(b"ls\x01"), text("ls"));
        assert_eq!(k.take(b"X"), Typed::Quit);
    }

    #[test]
    fn other_keys_go_through() {
        let mut k = Keys::default();
        assert_eq!(k.take(b"x\x03\x01nx"), text("x\x03\x01nx"));
        assert_eq!(k.take(b"\x01\x01x"), text("\x01\x01x"), "the second one begins nothing");
        assert_eq!(k.take(b"a\x01"), text("a"));
        assert_eq!(k.take(b"nb"), text("\x01nb"));
    }
}
