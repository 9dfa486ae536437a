# Entries of the interrupt descriptor table, and the two ways back: IRETQ, and to the landing of `catch_raw`.

.section .text.entry, "ax"
.code64
    .balign 16
.global trap_entries
trap_entries:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    pushq   $0                          # no error code
    .endif
    pushq   $vector
    jmp     trap_entry
    .set vector, vector + 1
.endr

trap_entry:
    cld
    pushq   %rax
    pushq   %rcx
    pushq   %rdx
    pushq   %rbx
    pushq   %rbp
    pushq   %rsi
    pushq   %rdi
    pushq   %r8
    pushq   %r9
    pushq   %r10
    pushq   %r11
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movq    %rsp, %rdi
    movq    %rsp, %rbp
    andq    $-16, %rsp
    call    trap
    movq    %rbp, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %r11
    popq    %r10
    popq    %r9
    popq    %r8
    popq    %rdi
    popq    %rsi
    popq    %rbp
    popq    %rbx
    popq    %rdx
    popq    %rcx
    popq    %rax
    addq    $16, %rsp
    iretq

# extern "C" fn catch_raw(f: extern "C" fn(*mut u8), data: *mut u8, landing: *mut u64) -> u64
# Calls f(data). 0: it returned; 1: something jumped to the landing.
.global catch_raw
catch_raw:
    pushq   %rbp
    pushq   %rbx
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    pushq   (%rdx)
    pushq   %rdx
    subq    $8, %rsp
    movq    %rsp, (%rdx)
    movq    %rdi, %rax
    movq    %rsi, %rdi
    call    *%rax
    xorl    %eax, %eax
1:  addq    $8, %rsp
    popq    %rdx
    popq    (%rdx)
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbx
    popq    %rbp
    ret
.global catch_landing                   # with RSP as stored in *landing
catch_landing:
    movl    $1, %eax
    jmp     1b

# extern "C" fn land(rsp: u64) -> !: to catch_landing by IRETQ, which also ends blocking by NMI.
.global land
land:
    pushq   $0x10
    pushq   %rdi
    pushq   $2
    pushq   $0x08
    leaq    catch_landing(%rip), %rax
    pushq   %rax
    iretq

# extern "C" fn enter_user(rip: u64, rsp: u64, rflags: u64, argument: u64): never returns by itself.
.global enter_user
enter_user:
    pushq   $0x3b
    pushq   %rsi
    pushq   %rdx
    pushq   $0x33
    pushq   %rdi
    movq    %rcx, %rdi
    iretq
