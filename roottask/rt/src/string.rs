//! memcpy and its family.
//!
//! In assembly, so that no compiler pass can turn a loop into a call of itself. Written for few instructions where
//! each iteration of a string instruction counts (emulators): up to 32 bytes by overlapping moves, from there on eight
//! bytes an iteration. The last (for backward copies the first) eight bytes overlap with the bulk: they are loaded
//! before it, so that this holds for memmove too. The direction flag is clear between functions (System V ABI).

use core::arch::global_asm;

// Copies of up to 32 bytes load everything before they store anything: memcpy and memmove share them.
// In: RDI, RSI, RDX = length > 32 at label 9; RAX = RDI. Shorter lengths return from here.
macro_rules! copy_small {
    () => {
        "mov rax, rdi
         cmp rdx, 16
         ja 4f
         cmp edx, 8
         jae 3f
         cmp edx, 4
         jae 2f
         test edx, edx
         jz 1f
         movzx ecx, byte ptr [rsi]
         movzx r8d, byte ptr [rsi + rdx - 1]
         mov r9, rdx
         shr r9
         movzx r10d, byte ptr [rsi + r9]
         mov [rdi + r9], r10b
         mov [rdi], cl
         mov [rdi + rdx - 1], r8b
     1:  ret
     2:  mov ecx, [rsi]
         mov r8d, [rsi + rdx - 4]
         mov [rdi], ecx
         mov [rdi + rdx - 4], r8d
         ret
     3:  mov rcx, [rsi]
         mov r8, [rsi + rdx - 8]
         mov [rdi], rcx
         mov [rdi + rdx - 8], r8
         ret
     4:  cmp rdx, 32
         ja 9f
         mov rcx, [rsi]
         mov r8, [rsi + 8]
         mov r9, [rsi + rdx - 16]
         mov r10, [rsi + rdx - 8]
         mov [rdi], rcx
         mov [rdi + 8], r8
         mov [rdi + rdx - 16], r9
         mov [rdi + rdx - 8], r10
         ret
     9:"
    };
}

macro_rules! copy_forward {
    () => {
        "mov r8, [rsi + rdx - 8]
         lea r9, [rdi + rdx - 8]
         lea rcx, [rdx - 1]
         shr rcx, 3
         rep movsq
         mov [r9], r8
         ret"
    };
}

global_asm!(
    ".section .text.memcpy, \"ax\", @progbits",
    ".globl memcpy",
    ".type memcpy, @function",
    ".p2align 4",
    "memcpy:",
    copy_small!(),
    copy_forward!(),
    ".size memcpy, . - memcpy",
    //
    ".section .text.memmove, \"ax\", @progbits",
    ".globl memmove",
    ".type memmove, @function",
    ".p2align 4",
    "memmove:",
    copy_small!(),
    // Forward unless the destination begins inside the source.
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jb 5f",
    copy_forward!(),
    "5:",
    "mov r8, [rsi]",
    "lea rcx, [rdx - 1]",
    "shr rcx, 3",
    "lea rsi, [rsi + rdx - 8]",
    "lea rdi, [rdi + rdx - 8]",
    "std",
    "rep movsq",
    "cld",
    "mov [rax], r8",
    "ret",
    ".size memmove, . - memmove",
    //
    ".section .text.memset, \"ax\", @progbits",
    ".globl memset",
    ".type memset, @function",
    ".p2align 4",
    "memset:",
    "mov r10, rdi",
    "movzx eax, sil",
    "movabs rcx, 0x0101010101010101",
    "imul rax, rcx",
    "cmp rdx, 16",
    "ja 4f",
    "cmp edx, 8",
    "jae 3f",
    "cmp edx, 4",
    "jae 2f",
    "test edx, edx",
    "jz 1f",
    "mov [rdi], al",
    "mov [rdi + rdx - 1], al",
    "shr rdx",
    "mov [rdi + rdx], al",
    "1:",
    "mov rax, r10",
    "ret",
    "2:",
    "mov [rdi], eax",
    "mov [rdi + rdx - 4], eax",
    "mov rax, r10",
    "ret",
    "3:",
    "mov [rdi], rax",
    "mov [rdi + rdx - 8], rax",
    "mov rax, r10",
    "ret",
    "4:",
    "mov [rdi + rdx - 8], rax",
    "lea rcx, [rdx - 1]",
    "shr rcx, 3",
    "rep stosq",
    "mov rax, r10",
    "ret",
    ".size memset, . - memset",
    //
    ".section .text.memcmp, \"ax\", @progbits",
    ".globl memcmp",
    ".globl bcmp",
    ".type memcmp, @function",
    ".type bcmp, @function",
    ".p2align 4",
    "memcmp:",
    "bcmp:",
    "sub rdx, 8",
    "jb 3f",
    "2:",
    "mov rax, [rdi]",
    "mov rcx, [rsi]",
    "cmp rax, rcx",
    "jne 6f",
    "add rdi, 8",
    "add rsi, 8",
    "sub rdx, 8",
    "jae 2b",
    "3:",
    "xor eax, eax",
    "add rdx, 8",
    "jz 5f",
    "4:",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "sub eax, ecx",
    "jne 5f",
    "inc rdi",
    "inc rsi",
    "dec rdx",
    "jnz 4b",
    "5:",
    "ret",
    // In memory order the first difference decides: compare big-endian.
    "6:",
    "bswap rax",
    "bswap rcx",
    "cmp rax, rcx",
    "sbb eax, eax",
    "or eax, 1",
    "ret",
    ".size memcmp, . - memcmp",
    //
    ".section .text.strlen, \"ax\", @progbits",
    ".globl strlen",
    ".type strlen, @function",
    ".p2align 4",
    "strlen:",
    "mov rax, -1",
    "2:",
    "inc rax",
    "cmp byte ptr [rdi + rax], 0",
    "jne 2b",
    "ret",
    ".size strlen, . - strlen",
    ".text",
);
