//! The smallest guest: real-mode code without a format, as for `boot = "flat"`. It says from where it runs on COM1 and
//! switches the machine off.

use crate::tree;
use anyhow::Result;
use std::path::PathBuf;

/// Where a BIOS loads a boot sector, and our VMM flat code.
const LOAD: u16 = 0x7c00;
/// COM1's data port; PM1 control, and SLP_EN with SLP_TYP of S5 there.
const COM1: u16 = 0x3f8;
const PM1A_CNT: u16 = 0x604;
const S5: u16 = 1 << 13 | 5 << 10;
/// What it says, before the mode: bit 0 of CR0.
const TEXT: &[u8] = b"flat code at 7C00, CR0.PE=";

/// Makes the file.
pub fn make() -> Result<PathBuf> {
    let file = tree::build_dir("guest/realmode")?.join("realmode");
    tree::write_if_changed(&file, &program())?;
    Ok(file)
}

fn program() -> Vec<u8> {
    let text = LOAD + code(0).len() as u16;
    [&code(text), TEXT, &[0]].concat()
}

/// The code, for a text at this address.
fn code(text: u16) -> Vec<u8> {
    let [text_lo, text_hi] = text.to_le_bytes();
    let [com_lo, com_hi] = COM1.to_le_bytes();
    let [pm_lo, pm_hi] = PM1A_CNT.to_le_bytes();
    let [s5_lo, s5_hi] = S5.to_le_bytes();
    [
        &[0x31, 0xc0][..],         // xor ax, ax
        &[0x8e, 0xd8],             // mov ds, ax
        &[0xba, com_lo, com_hi],   // mov dx, COM1
        &[0xbe, text_lo, text_hi], // mov si, text
        &[0xac],                   // next: lodsb
        &[0x84, 0xc0],             // test al, al
        &[0x74, 3],                // jz mode
        &[0xee],                   // out dx, al
        &[0xeb, 0xf8],             // jmp next
        &[0x0f, 0x20, 0xc0],       // mode: mov eax, cr0
        &[0x24, 1],                // and al, 1
        &[0x04, b'0'],             // add al, '0'
        &[0xee],                   // out dx, al
        &[0xb0, b'\n'],            // mov al, '\n'
        &[0xee],                   // out dx, al
        &[0xba, pm_lo, pm_hi],     // mov dx, PM1A_CNT
        &[0xb8, s5_lo, s5_hi],     // mov ax, S5
        &[0xef],                   // out dx, ax
        &[0xf4],                   // hlt
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_where_the_code_looks() {
        let program = program();
        let at = program.windows(1).position(|w| w == [0xbe]).unwrap();
        let text = u16::from_le_bytes([program[at + 1], program[at + 2]]) - LOAD;
        assert_eq!(&program[usize::from(text)..], [TEXT, &[0]].concat());
        // The jumps go to the instructions that the comments name.
        let lodsb = program.iter().position(|b| *b == 0xac).unwrap();
        assert_eq!(program[lodsb + 3..lodsb + 8], [0x74, 3, 0xee, 0xeb, 0xf8]);
        assert_eq!(program[lodsb + 8..lodsb + 11], [0x0f, 0x20, 0xc0]);
    }
}
