# Every way into the kernel and out of it.
#
# A trap from user mode pushes its frame straight into the current EC (TSS.RSP0 points behind EC.frame), a hypercall
# stores what is not constant there; then both continue on the CPU's one stack. Nothing returns on that stack: the
# kernel leaves by `leave_*` or idles. Frame, from low to high: 16 GPRs in the order of the UTCB, vector, error code,
# RIP, CS, RFLAGS, RSP, SS (struct Frame). Numbers in braces are from mod.rs.

# A stage of a hot path begins, as `cargo xtask perf profile` shows it: a symbol, and no code.
.macro stage name
stage.\name\().\@:
.endm

.macro push_gprs
    push r15; push r14; push r13; push r12; push r11; push r10; push r9; push r8
    push rdi; push rsi; push rbp; push rsp; push rbx; push rdx; push rcx; push rax
.endm

.macro pop_gprs
    pop rax; pop rcx; pop rdx; pop rbx; lea rsp, [rsp + 8]; pop rbp; pop rsi; pop rdi
    pop r8; pop r9; pop r10; pop r11; pop r12; pop r13; pop r14; pop r15
.endm

# Stores the registers of EC R11 that a hypercall keeps, and RSP: those that Rust code does not keep, and those that it does.
.macro store_scratch
    mov [r11 + {RSP}], rsp
    mov [r11 + {GPR}], rax
    mov [r11 + {GPR} + 2 * 8], rdx
    mov [r11 + {GPR} + 8 * 8], r8
    mov [r11 + {GPR} + 9 * 8], r9
    mov [r11 + {GPR} + 10 * 8], r10
.endm

.macro store_others
    mov [r11 + {GPR} + 3 * 8], rbx
    mov [r11 + {GPR} + 5 * 8], rbp
    mov [r11 + {GPR} + 12 * 8], r12
    mov [r11 + {GPR} + 13 * 8], r13
    mov [r11 + {GPR} + 14 * 8], r14
    mov [r11 + {GPR} + 15 * 8], r15
.endm

# Goes on in user mode with EC R10 at RCX, with RSI and RDI.
.macro return_to_r10
    stage exit
    mov r11d, 0x202
    mov rsp, [r10 + {RSP}]
    mov rax, [r10 + {GPR}]
    mov rdx, [r10 + {GPR} + 2 * 8]
    mov rbx, [r10 + {GPR} + 3 * 8]
    mov rbp, [r10 + {GPR} + 5 * 8]
    mov r8,  [r10 + {GPR} + 8 * 8]
    mov r9,  [r10 + {GPR} + 9 * 8]
    mov r12, [r10 + {GPR} + 12 * 8]
    mov r13, [r10 + {GPR} + 13 * 8]
    mov r14, [r10 + {GPR} + 14 * 8]
    mov r15, [r10 + {GPR} + 15 * 8]
    mov r10, [r10 + {GPR} + 10 * 8]
    sysretq
.endm

# The object that EC R11 names in RDI, of that kind and with that permission. `other`: there is none. RAX, RCX, RDX are lost.
.macro find permission, kind, other, object=r9
    stage look_up
    mov rax, [r11 + {OBJ}]
    mov rax, [rax + {TABLE}]
    mov rcx, rdi
    shr rcx, 8
    mov rdx, rcx
    shr rdx, 9
    cmp rdx, 511
    ja \other
    mov rax, [rax + rdx * 8]
    and ecx, 511
    mov \object, [rax + rcx * 8]
    test \object\()b, \permission
    jz \other
    shl \object, 8
    sar \object, 8
    and \object, -32
    cmp word ptr [\object + {KIND}], \kind
    jne \other
.endm

# Copies a message from EC R11 to EC R10, with its descriptor RSI. `other`: there is more in it than words.
.macro copy_words other
    stage message
    test rsi, rsi
    jnz 3f
    mov rax, [r11 + {UTCB}]
    mov rdx, [r10 + {UTCB}]
    mov rax, [rax]
    mov [rdx], rax
4:
.subsection 1
    stage message
3:  test esi, 0xfffffe00
    jnz \other
    mov eax, esi
    lea ecx, [rsi + 1]
    mov rsi, [r11 + {UTCB}]
    mov rdi, [r10 + {UTCB}]
    rep movsq
    mov esi, eax
    jmp 4b
.previous
.endm

# The CPU changes from EC R11 to EC `to`: what user mode has of segments, vector state, address space. Keeps all but RAX, RCX,
# RDX and RSP. `stale`: go there at the end if the space was changed since it was last in use here.
.macro switch_to stale, to=r10
    stage FS_and_GS_base
    rdfsbase rax
    rdgsbase rcx
    mov [r11 + {FS}], rax
    mov [r11 + {FS} + 8], rcx
    stage segment_selectors
    mov eax, ds                         # now: to clear FS and GS clears their bases, too
    mov ecx, es
    or eax, ecx
    mov ecx, fs
    or eax, ecx
    mov ecx, gs
    or eax, ecx
    jnz 5f
6:  stage FS_and_GS_base
    mov rax, [\to + {FS}]
    mov rcx, [\to + {FS} + 8]
    wrfsbase rax
    wrgsbase rcx
    stage vector_registers
    or eax, -1
    cdq
    xrstor64 [rip + {clean}]
    stage trap_stack_CR3_who_is_where
    mov [{CPU_EC}], \to
    lea rax, [\to + {FRAME_END}]
    mov [{RSP0}], rax
    mov rax, [\to + {CR3}]
    mov rcx, [{CPU_CR3}]
    cmp rax, rcx
    je 7f
    mov rdx, [{CPU_PRESENCE}]
    mov [rdx + {P_LEAVING}], rcx
    mov [rdx + {P_ROOT}], rax
    mov cr3, rax                        # a fence: the mark is looked at after the CPU is known to be there
    mov qword ptr [rdx + {P_LEAVING}], 0
    mov [{CPU_CR3}], rax
    mov rcx, [\to + {ROOT}]
    test byte ptr [rcx], 1
    jnz \stale
7:
.subsection 1
    stage segment_selectors
5:  mov rsp, {STACK_TOP}
    push rdi
    push rsi
    push r8
    push r9
    push r10
    push r11
    call {clear_segments}
    pop r11
    pop r10
    pop r9
    pop r8
    pop rsi
    pop rdi
    jmp 6b
.previous
.endm

# EC `callee` serves EC R11, which waits as `waits` says. RAX is lost.
.macro call_links callee, portal, waits
    stage who_serves_whom
    mov rax, [r11 + {CHAIN}]
    mov [\callee + {CHAIN}], rax
    mov [\callee + {CALLER}], r11
    mov [r11 + {CALLEE}], \callee
    mov [\callee + {ENTRANCE}], \portal
    mov dword ptr [\callee + {STATE}], {RUNS}
    mov dword ptr [r11 + {STATE}], \waits
.endm

# EC R11 does not serve EC `caller` any more. RDI is 0.
.macro reply_links caller
    stage who_serves_whom
    mov [r11 + {CALLER}], rdi
    mov [r11 + {CHAIN}], rdi
    mov [\caller + {CALLEE}], rdi
    mov dword ptr [\caller + {STATE}], {RUNS}
    mov dword ptr [r11 + {STATE}], {FREE}
.endm

# With a message in registers, R8 to R10 and R12 to R14: the registers beside it of EC R11 are stored, those of EC RBX loaded.
.macro store_few
    mov [r11 + {RSP}], rsp
    mov [r11 + {GPR}], rax
    mov [r11 + {GPR} + 2 * 8], rdx
    mov [r11 + {GPR} + 3 * 8], rbx
    mov [r11 + {GPR} + 5 * 8], rbp
    mov [r11 + {GPR} + 15 * 8], r15
.endm

.macro return_to_rbx
    stage exit
    or rsi, -1
    mov r11d, 0x202
    mov rsp, [rbx + {RSP}]
    mov rax, [rbx + {GPR}]
    mov rdx, [rbx + {GPR} + 2 * 8]
    mov rbp, [rbx + {GPR} + 5 * 8]
    mov r15, [rbx + {GPR} + 15 * 8]
    mov rbx, [rbx + {GPR} + 3 * 8]
    sysretq
.endm

.macro store_message ec
    mov [\ec + {GPR} + 8 * 8], r8
    mov [\ec + {GPR} + 9 * 8], r9
    mov [\ec + {GPR} + 10 * 8], r10
    mov [\ec + {GPR} + 12 * 8], r12
    mov [\ec + {GPR} + 13 * 8], r13
    mov [\ec + {GPR} + 14 * 8], r14
.endm

.text
.balign 64
.globl syscall_entry
syscall_entry:
    stage entry
    mov r11, [{CPU_EC}]
    test dil, dil
    js 8f
    jnz 1f

# ipc_call without flags (docs/design/0016). R11: caller, R10: callee, R9: portal.
    mov [r11 + {RIP}], rcx
    mov qword ptr [r11 + {RFLAGS}], 0x202
    store_scratch
    store_others
    stage whether_it_is_plain
    cmp dword ptr [{CPU_SLOW}], 0
    jne slowly
    find {MAY_CALL}, {IS_PT}, slowly
    stage partner
    mov r10, [r9 + {PT_EC}]
    mov rax, [{CPU_FREE}]
    cmp [r10 + {STATE}], rax
    jne slowly
    copy_words slowly
    call_links r10, r9, {WAITS}
    switch_to 9f
    stage exit
    mov rdi, [r9 + {PT_PID}]
    mov rcx, [r9 + {PT_IP}]
    return_to_r10
9:  stage slow_exit
    mov rdi, [r9 + {PT_PID}]
    mov rcx, [r9 + {PT_IP}]
    jmp go_on_slowly

# ipc_reply without flags. R11: callee, R10: caller.
1:  stage entry
    cmp dil, 1
    jne 2f
    store_scratch
    store_others
    stage whether_it_is_plain
    cmp dword ptr [{CPU_SLOW}], 0
    jne reply_to_guest
    stage partner
    mov r10, [r11 + {CALLER}]
    test r10, r10
    jz reply_slowly
    mov rax, [{CPU_WAITS}]
    cmp [r10 + {STATE}], rax
    jne reply_slowly
    copy_words reply_slowly
    stage who_serves_whom
    xor edi, edi
    reply_links r10
    switch_to 9f
    stage exit
    mov rcx, [r10 + {RIP}]
    return_to_r10
9:  stage slow_exit
    mov rcx, [r10 + {RIP}]
    jmp go_on_slowly

# ipc_call with flag R alone. RBX: callee, R15: portal.
8:  stage entry
    cmp dil, {CALL_IN_REGISTERS}
    jne 8f
    mov [r11 + {RIP}], rcx
    store_few
    stage whether_it_is_plain
    cmp dword ptr [{CPU_SLOW}], 0
    jne registers_slowly
    find {MAY_CALL}, {IS_PT}, registers_slowly, r15
    stage partner
    cmp byte ptr [r15 + {PT_REGISTERS}], 0
    je registers_slowly
    mov rbx, [r15 + {PT_EC}]
    mov rax, [{CPU_FREE}]
    cmp [rbx + {STATE}], rax
    jne registers_slowly
    mov qword ptr [r11 + {RFLAGS}], 0x202
    call_links rbx, r15, {WAITS_FOR_REGISTERS}
    switch_to 9f, rbx
    stage exit
    mov rdi, [r15 + {PT_PID}]
    mov rcx, [r15 + {PT_IP}]
    return_to_rbx
9:  stage slow_exit
    mov rdi, [r15 + {PT_PID}]
    mov rcx, [r15 + {PT_IP}]
    jmp go_on_with_message

# ipc_reply with flag R alone. RBX: caller.
8:  stage entry
    cmp dil, {REPLY_IN_REGISTERS}
    jne 2f
    store_few
    stage whether_it_is_plain
    cmp dword ptr [{CPU_SLOW}], 0
    jne 3f
    stage partner
    mov rbx, [r11 + {CALLER}]
    test rbx, rbx
    jz 3f
    mov rax, [{CPU_WAITS_FOR_REGISTERS}]
    cmp [rbx + {STATE}], rax
    jne 3f
    stage who_serves_whom
    xor edi, edi
    reply_links rbx
    switch_to 9f, rbx
    stage exit
    mov rcx, [rbx + {RIP}]
    return_to_rbx
9:  stage slow_exit
    mov rcx, [rbx + {RIP}]
go_on_with_message:
    store_message rbx
    or rsi, -1
    mov r10, rbx
    jmp go_on_slowly
3:  stage slow_entry
    mov [r11 + {RIP}], rcx
registers_slowly:
    stage slow_entry
    store_message r11
    jmp slowly

# R10 is the current EC, as after a call or reply, but its space is not as this CPU knows it.
go_on_slowly:
    mov [r10 + {GPR} + 6 * 8], rsi
    mov [r10 + {GPR} + 7 * 8], rdi
    mov [r10 + {RIP}], rcx
    mov rsp, {STACK_TOP}
    mov rdi, r10
    call {go_on}
    ud2

# The CPU is not plain for calls, perhaps as it is for VM exits (docs/design/0017).
reply_to_guest:
    stage reply_to_a_guest
    mov rsp, {STACK_TOP}
    mov rdx, rdi
    mov rdi, r11
    call {reply}                        # EC, RSI, RDI, RIP
    ud2

# RDI, RSI: what an EC is entered with, RDX: the EC, RCX: where.
.balign 16
.globl enter_portal
enter_portal:
    stage exit
    mov r10, rdx
    return_to_r10

# An operation on a semaphore, if nothing comes of it but success (1). 0: nothing has happened; else RAX is who is released.
.macro semaphore permission, operation
    stage registers_stored
    store_scratch
    mov [r11 + {GPR} + 6 * 8], rsi
    mov [r11 + {GPR} + 7 * 8], rdi
    find \permission, {IS_SM}, 4f
    stage operation
    .ifc \operation, {down}
    mov rsi, rdi
    .endif
    mov rdi, r9
    mov rsp, {STACK_TOP}
    call \operation
    mov r11, [{CPU_EC}]
    cmp rax, 1
    jb 4f
    ja 6f
    stage exit
    mov rsp, [r11 + {RSP}]
    mov rcx, [r11 + {RIP}]
    mov rax, [r11 + {GPR}]
    mov rdx, [r11 + {GPR} + 2 * 8]
    mov rsi, [r11 + {GPR} + 6 * 8]
    mov r8,  [r11 + {GPR} + 8 * 8]
    mov r9,  [r11 + {GPR} + 9 * 8]
    mov r10, [r11 + {GPR} + 10 * 8]
    xor edi, edi
    mov r11d, 0x202
    sysretq
.endm

# Any other hypercall.
2:  stage which_hypercall
    mov [r11 + {RIP}], rcx
    test dword ptr [{CPU_SLOW}], {NOT_QUICK}
    jnz other
    cmp dil, {CTRL_SM}
    jne 3f
    semaphore {MAY_UP}, {up}
3:  stage which_hypercall
    mov ecx, edi
    and ecx, 0x1f
    cmp ecx, {CTRL_SM} | {DOWN}
    jne 3f
    semaphore {MAY_DOWN}, {down}
4:  stage slow_entry
    store_others
    mov qword ptr [r11 + {RFLAGS}], 0x202
    mov rsp, {STACK_TOP}
    call {ctrl_sm}
    ud2
6:  stage slow_entry
    store_others
    mov qword ptr [r11 + {RFLAGS}], 0x202
    mov qword ptr [r11 + {GPR} + 7 * 8], {SUCCESS}
    mov dword ptr [r11 + {STATE}], {RUNS}
    mov rdi, r11
    mov rsi, rax
    mov edx, {SUCCESS}
    mov rsp, {STACK_TOP}
    call {run_released}                 # EC, who is released, status
    mov rdi, rax
    call {released}
    ud2
3:  stage which_hypercall
    and ecx, 0xf
    cmp ecx, 0xf
    jne other
    cmp dil, {LAST_EXT}
    jbe other
    stage exit
    mov rcx, [r11 + {RIP}]              # there is no such hypercall
    mov edi, {BAD_HYP}
    mov r11d, 0x202
    sysretq

reply_slowly:
    stage reply_to_an_exception
    mov rsp, {STACK_TOP}
    mov rdx, rdi
    mov rdi, r11
    call {reply_usually}                # EC, RSI, RDI, RIP
    ud2
other:
    stage slow_entry
    store_scratch
    store_others
slowly:
    stage slow_entry
    mov [r11 + {GPR} + 6 * 8], rsi
    mov [r11 + {GPR} + 7 * 8], rdi
hypercall:
    stage slow_entry
    mov qword ptr [r11 + {RFLAGS}], 0x202
    mov rsp, {STACK_TOP}
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

# EDI: whether the CPU is from Intel. The revision of its microcode; kernel_trap leads to no_microcode where there is no such
# register (Intel SDM vol. 3, 11.11.7; AMD PATCH_LEVEL).
.globl microcode, no_microcode
microcode:
    push rbx
    xor eax, eax
    xor edx, edx
    mov ecx, 0x8b
    test edi, edi
    jz 2f
    wrmsr
    mov eax, 1
    cpuid
    mov ecx, 0x8b
2:  rdmsr
    test edi, edi
    cmovnz eax, edx
    pop rbx
    ret
no_microcode:
    xor eax, eax
    pop rbx
    ret

.globl on_own_stack
on_own_stack:
    mov rsp, {STACK_TOP}
    call rdi
    ud2

.globl idle_halt
idle_halt:
    mov rsp, {STACK_TOP}
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
    mov rsp, {STACK_TOP}
    call {user_trap}
    ud2

# Stubs of exceptions: vector and error code complete the frame.
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

# Of an interrupt: the vector is where an exception has its error code, as a byte around 0.
.macro interrupt_stub vector
    .balign 8
    .byte 0x6a, \vector - 128           # push imm8
    jmp interrupt
.endm

.balign 16
.globl exception_stubs
exception_stubs:
.set v, 0
.rept 32
    stub v
    .set v, v + 1
.endr

.balign 16
.globl interrupt_stubs
interrupt_stubs:
.rept 224
    interrupt_stub v
    .set v, v + 1
.endr

.balign 16
trap:
    push_gprs
    cld
    test byte ptr [rsp + 19 * 8], 3     # CS of the frame
    jz 1f
    mov rsp, {STACK_TOP}
    clear_ac
    call {user_trap}
    ud2
1:  mov rdi, rsp
    and rsp, -16
    call {kernel_trap}
    ud2

interrupt:
    sub rsp, 8
    push_gprs
    cld
    movsx edi, byte ptr [rsp + 17 * 8]
    mov qword ptr [rsp + 17 * 8], 0
    sub edi, -128
    test byte ptr [rsp + 19 * 8], 3     # CS of the frame
    jz 1f
    mov rsp, {STACK_TOP}
    clear_ac
    call {user_interrupt}
    ud2
1:  lea rax, [rip + .Lsvm_exited]
    cmp rax, [rsp + 18 * 8]             # RIP of the frame
    je 2f
    mov rsp, {STACK_TOP}                  # what was interrupted, idling or a long chain, does not go on
    call {kernel_interrupt}
    ud2
2:  mov [{CPU_EARLY}], edi              # it should have been held back: the exit goes on, and not the quick way
    or dword ptr [{CPU_SLOW}], {SLOW_EXIT}
    pop_gprs
    lea rsp, [rsp + 7 * 8]
    jmp .Lsvm_exited

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

# VM entry, first and later ones. RDI: GPRs of the vCPU, in the order of the UTCB.
.balign 64
.globl vmx_launch
vmx_launch:
    stage registers_of_the_guest
    mov rsp, rdi
    pop_gprs
    vmlaunch
    jmp 1f
.balign 64
.globl vmx_resume
vmx_resume:
    stage registers_of_the_guest
    mov rsp, rdi
    pop_gprs
    vmresume
1:  mov rsp, {STACK_TOP}
    call {vmx_entry_failed}
    ud2

# VM exit: RSP points behind the GPRs of the vCPU, CR2 is stored behind them.
.balign 64
.globl vmx_exit
vmx_exit:
    stage registers_of_the_guest
    push_gprs
    mov rax, cr2
    mov [rsp + 16 * 8], rax
    mov rsp, {STACK_TOP}
    call {vmx_exit}
    ud2

# VMRUN and its exit. RDI: GPRs of the vCPU, in the order of the UTCB, of which RAX and RSP are in the VMCB; RSI: physical
# address of the VMCB. VMRUN keeps host RAX and RSP; RSP points behind the GPRs then. Interrupts have to be on at VMRUN
# for the guest to be interrupted; GIF holds them back on both sides.
.balign 64
.globl svm_enter
svm_enter:
    stage registers_of_the_guest
    clgi
    sti
    mov rax, rsi
    vmload rax
    lea rsp, [rdi + 8]
    pop rcx; pop rdx; pop rbx; lea rsp, [rsp + 8]; pop rbp; pop rsi; pop rdi
    pop r8; pop r9; pop r10; pop r11; pop r12; pop r13; pop r14; pop r15
    vmrun rax
.Lsvm_exited:
    vmsave rax
    push r15; push r14; push r13; push r12; push r11; push r10; push r9; push r8
    push rdi; push rsi; push rbp; push rsp; push rbx; push rdx; push rcx
    mov rax, [{HOST_VMCB}]
    vmload rax
    cli
    mov rsp, {STACK_TOP}
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
