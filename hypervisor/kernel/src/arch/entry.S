# Every way into the kernel and out of it.
#
# A trap or hypercall from user mode pushes its frame straight into the current EC (TSS.RSP0 and the stack pointer
# loaded below point behind EC.frame), then continues on the CPU's one stack. Nothing returns on that stack: the
# kernel leaves by `leave_*` or idles. Frame, from low to high: 16 GPRs in the order of the UTCB, vector, error code,
# RIP, CS, RFLAGS, RSP, SS (struct Frame).

.set CPU,       0xffffffffffe20000      # layout::CPU
.set SCRATCH,   CPU + 0                 # Cpu::scratch
.set HOST_VMCB, CPU + 8                 # Cpu::host_vmcb
.set RSP0,      0xffffffffffe50004      # layout::TSS + 4
.set STACK_TOP, 0xffffffffffe19000      # layout::STACK + STACK_LEN
.set USER_CS, 0x23
.set USER_SS, 0x1b

.macro push_gprs
    push r15; push r14; push r13; push r12; push r11; push r10; push r9; push r8
    push rdi; push rsi; push rbp; push rsp; push rbx; push rdx; push rcx; push rax
.endm

.macro pop_gprs
    pop rax; pop rcx; pop rdx; pop rbx; lea rsp, [rsp + 8]; pop rbp; pop rsi; pop rdi
    pop r8; pop r9; pop r10; pop r11; pop r12; pop r13; pop r14; pop r15
.endm

.text
.balign 64
.globl syscall_entry
syscall_entry:
    mov [SCRATCH], rsp
    mov rsp, [RSP0]
    push USER_SS
    push [SCRATCH]
    push 0x202
    push USER_CS
    push rcx
    sub rsp, 16
    push_gprs
    mov rsp, STACK_TOP
    call {hypercall}
    ud2

# RDI: frame of the EC that goes on. RCX and R11 are lost, as the calling convention says.
.balign 64
.globl leave_sysret
leave_sysret:
    mov rsp, rdi
    pop rax
    mov rdx, [rsp + 1 * 8]
    mov rbx, [rsp + 2 * 8]
    mov rbp, [rsp + 4 * 8]
    mov rsi, [rsp + 5 * 8]
    mov rdi, [rsp + 6 * 8]
    mov r8,  [rsp + 7 * 8]
    mov r9,  [rsp + 8 * 8]
    mov r10, [rsp + 9 * 8]
    mov r12, [rsp + 11 * 8]
    mov r13, [rsp + 12 * 8]
    mov r14, [rsp + 13 * 8]
    mov r15, [rsp + 14 * 8]
    mov rcx, [rsp + 17 * 8]
    mov r11, [rsp + 19 * 8]
    mov rsp, [rsp + 20 * 8]
    sysretq

# RDI: frame. Restores everything.
.globl leave_iret
leave_iret:
    mov rsp, rdi
    pop_gprs
    add rsp, 16
    iretq

.globl on_own_stack
on_own_stack:
    mov rsp, STACK_TOP
    call rdi
    ud2

.globl idle_halt
idle_halt:
    mov rsp, STACK_TOP
    sti
1:  hlt                                 # an interrupt does not return here, an NMI does
    jmp 1b

# A trap leaves AC as the user had it, which would switch SMAP off.
.macro clear_ac
    pushfq
    btr qword ptr [rsp], 18
    popfq
.endm

# Goes on with a #DB that came from user mode, whose frame is in the EC now, on the CPU's stack.
.globl user_trap_again
user_trap_again:
    mov rsp, STACK_TOP
    call {user_trap}
    ud2

# Interrupt stubs: vector and error code complete the frame.
.macro stub vector
    .balign 16
    .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21)
    .else
    push 0
    .endif
    .byte 0x68                          # push imm32: an operand would be taken for an address
    .long \vector
    .if (\vector == 1) || (\vector == 2) || (\vector == 8) || (\vector == 18)
    jmp trap_on_ist
    .else
    jmp trap
    .endif
.endm

.balign 16
.globl interrupt_stubs
interrupt_stubs:
.set v, 0
.rept 256
    stub v
    .set v, v + 1
.endr

.balign 16
trap:
    push_gprs
    cld
    test byte ptr [rsp + 19 * 8], 3     # CS of the frame
    jz 1f
    mov rsp, STACK_TOP
    clear_ac
    call {user_trap}
    ud2
1:  mov edi, [rsp + 16 * 8]             # vector
    cmp edi, 32
    jb 2f
    mov rsp, STACK_TOP                  # what was interrupted, idling or a long chain, does not go on
    call {kernel_interrupt}
    ud2
2:  mov rdi, rsp
    and rsp, -16
    call {kernel_trap}
    ud2

trap_on_ist:
    push_gprs
    cld
    clear_ac
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call {ist_trap}
    mov rsp, rbx
    pop_gprs
    add rsp, 16
    iretq

# VM entry. RDI: GPRs of the vCPU, in the order of the UTCB; ESI: 0 to launch, 1 to resume.
.balign 64
.globl vmx_enter
vmx_enter:
    test esi, esi
    mov rsp, rdi
    pop_gprs
    jz 1f
    vmresume
    jmp 2f
1:  vmlaunch
2:  mov rsp, STACK_TOP
    call {vmx_entry_failed}
    ud2

# VM exit: RSP points behind the GPRs of the vCPU, CR2 is stored behind them.
.balign 64
.globl vmx_exit
vmx_exit:
    push_gprs
    mov rax, cr2
    mov [rsp + 16 * 8], rax
    mov rsp, STACK_TOP
    call {vmx_exit}
    ud2

# VMRUN and its exit. RDI: GPRs of the vCPU, in the order of the UTCB, of which RAX and RSP are in the VMCB; RSI: physical
# address of the VMCB. VMRUN keeps host RAX and RSP; RSP points behind the GPRs then. Interrupts have to be on at VMRUN
# for the guest to be interrupted; GIF holds them back on both sides.
.balign 64
.globl svm_enter
svm_enter:
    clgi
    sti
    mov rax, rsi
    vmload rax
    lea rsp, [rdi + 8]
    pop rcx; pop rdx; pop rbx; lea rsp, [rsp + 8]; pop rbp; pop rsi; pop rdi
    pop r8; pop r9; pop r10; pop r11; pop r12; pop r13; pop r14; pop r15
    vmrun rax
    vmsave rax
    push r15; push r14; push r13; push r12; push r11; push r10; push r9; push r8
    push rdi; push rsi; push rbp; push rsp; push rbx; push rdx; push rcx
    mov rax, [HOST_VMCB]
    vmload rax
    cli
    mov rsp, STACK_TOP
    stgi
    call {svm_exit}
    ud2

# Memory functions that the compiler calls. Word-wise: in an emulator each repetition is an instruction.
.globl memcpy
memcpy:
    mov rax, rdi
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret
.globl memmove
memmove:
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy
    mov rax, rdi
    mov rcx, rdx
    lea rdi, [rdi + rcx - 1]
    lea rsi, [rsi + rcx - 1]
    std
    rep movsb
    cld
    ret
.globl memset
memset:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
    mov rax, r8
    ret
.globl memcmp
.globl bcmp
memcmp:
bcmp:
    xor ecx, ecx
    xor eax, eax
1:  cmp rcx, rdx
    je 2f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 1b
2:  ret
.globl strlen
strlen:
    xor eax, eax
1:  cmp byte ptr [rdi + rax], 0
    je 2f
    inc rax
    jmp 1b
2:  ret
