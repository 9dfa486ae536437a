//! Guest code in the assembler's notation.

/// The bytes of some instructions for a code segment of so many bits. Addresses must be absolute or relative to the place
/// of use; labels are numbers.
macro_rules! code {
    ($bits:literal: $($line:literal),+ $(,)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: takes the addresses of constants, which are never executed here.
        unsafe {
            std::arch::asm!(
                ".pushsection .rodata.guest, \"a\", @progbits",
                "771:",
                concat!(".code", $bits),
                $($line,)+
                ".code64",
                "772:",
                ".popsection",
                "lea {start}, [rip + 771b]",
                "lea {end}, [rip + 772b]",
                start = out(reg) start,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
            std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
        }
    }};
}

#[cfg(test)]
mod tests {
    #[test]
    fn code_is_assembled_for_the_mode_that_is_named() {
        assert_eq!(code!(16: "mov eax, 0x12345678", "hlt"), [0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4]);
        assert_eq!(code!(32: "mov eax, 0x12345678", "hlt"), [0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4]);
        assert_eq!(code!(64: "5:", "cpuid", "jmp 5b"), [0x0f, 0xa2, 0xeb, 0xfc]);
    }
}
