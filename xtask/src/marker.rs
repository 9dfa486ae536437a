//! `/bin/marker` of the Linux guest: a program of thirty bytes that writes 0x44 to I/O port 0x8900, the end mark of
//! the benchmark.
//!
//! Debian's cloud kernel has no `/dev/port`, BusyBox has no other access to ports, and a C library for this would be
//! larger than all the rest of the initramfs.

/// Where it is loaded.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// The port at which Bochs' debugger stops the machine when it gets [`BYTE`].
const PORT: u16 = 0x8900;
const BYTE: u8 = b'D';
/// `out dx, al`.
const OUT: u8 = 0xee;
/// Linux system calls.
const SYS_IOPERM: u8 = 173;
const SYS_EXIT: u8 = 60;

/// The code: `ioperm(PORT, 1, 1)`, `out`, `exit(0)`.
fn code() -> Vec<u8> {
    let [lo, hi] = PORT.to_le_bytes();
    [
        &[0xb8, SYS_IOPERM, 0, 0, 0][..], // mov eax, SYS_IOPERM
        &[0xbf, lo, hi, 0, 0],            // mov edi, PORT
        &[0xbe, 1, 0, 0, 0],              // mov esi, 1
        &[0xba, 1, 0, 0, 0],              // mov edx, 1
        &[0x0f, 0x05],                    // syscall
        &[0xba, lo, hi, 0, 0],            // mov edx, PORT
        &[0xb0, BYTE],                    // mov al, BYTE
        &[OUT],                           // out dx, al
        &[0xb8, SYS_EXIT, 0, 0, 0],       // mov eax, SYS_EXIT
        &[0x31, 0xff],                    // xor edi, edi
        &[0x0f, 0x05],                    // syscall
    ]
    .concat()
}

/// Where the mark is about to be written.
pub fn address() -> u64 {
    let at = code().iter().position(|b| *b == OUT).unwrap_or_default();
    BASE + (HEADERS + at) as u64
}

/// The program as a static ELF file.
pub fn program() -> Vec<u8> {
    let code = code();
    let size = (HEADERS + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_X86_64, version 1, entry, program headers, no sections.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for v in [BASE + HEADERS as u64, 64, 0] {
        file.extend(v.to_le_bytes());
    }
    file.extend([0; 4]);
    for v in [64u16, 56, 1, 64, 0, 0] {
        file.extend(v.to_le_bytes());
    }
    // PT_LOAD, R|X, the whole file.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for v in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(v.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};

    #[test]
    fn it_is_a_program() {
        let file = program();
        let elf = object::File::parse(&*file).unwrap();
        assert_eq!(elf.entry(), BASE + HEADERS as u64);
        let all: Vec<_> = elf.segments().map(|s| (s.address(), s.size())).collect();
        assert_eq!(all, [(BASE, file.len() as u64)]);
        assert_eq!(&file[HEADERS..], code());
    }

    #[test]
    fn the_mark_is_written_before_the_end() {
        let code = code();
        let out = code.windows(3).position(|w| w == [0xb0, 0x44, 0xee]).expect("mov al, 0x44; out dx, al");
        assert_eq!(address(), BASE + (HEADERS + out + 2) as u64);
        assert_eq!(code[out - 5..out], [0xba, 0x00, 0x89, 0, 0]);
        assert_eq!(code[code.len() - 2..], [0x0f, 0x05]);
    }
}
