# Boot: from the Multiboot 2 state (protected mode, paging off) to `kernel_main` in long mode.
# Everything here runs at its physical address, wherever the loader put it: EBP holds the displacement.

.set MB2_MAGIC, 0xe85250d6
.set KERNEL_BASE, 0xffffffff80000000

.section .boot.header, "a", @progbits
.balign 8
mb2_header:
    .long MB2_MAGIC, 0, mb2_header_end - mb2_header, -(MB2_MAGIC + 0 + (mb2_header_end - mb2_header))
    # Relocatable, in steps of 2 MiB, anywhere below 1 GiB; the lowest place is preferred.
    .balign 8
    .short 10, 1
    .long 24, 0x200000, 0x3fffffff, 0x200000, 1
    # Modules page-aligned.
    .balign 8
    .short 6, 0
    .long 8
    .balign 8
    .short 0, 0
    .long 8
mb2_header_end:

.section .boot, "awx", @progbits
.code32
.globl start
start:
    cli
    cld
    # Where are we? The first words of the Multiboot information are free for a 4-byte stack: save one, use it.
    mov esi, [ebx]
    lea esp, [ebx + 4]
    call where
where:
    pop ebp
    sub ebp, offset where
    mov [ebx], esi
    lea esp, [ebp + boot_stack_top]

    mov [ebp + boot_magic], eax
    mov [ebp + boot_info], ebx

    # Long mode there?
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode

    # Fix up the tables that point to tables.
    add [ebp + boot_pml4], ebp
    add [ebp + boot_pml4 + 511 * 8], ebp
    add [ebp + boot_pdpt_low], ebp
    add [ebp + boot_pdpt_high + 510 * 8], ebp

    # Identity: the first 1 GiB. High: KERNEL_BASE + x -> x + displacement. 2 MiB pages.
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov [ebp + boot_pd_low + ecx * 8], eax
    add eax, ebp
    mov [ebp + boot_pd_high + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jb 2b

    add [ebp + boot_gdt_pointer + 2], ebp
    lea eax, [ebp + start64]
    mov [ebp + long_mode_target], eax

enter_long_mode:
    lea eax, [ebp + boot_pml4]
    mov cr3, eax
    mov eax, cr4
    or eax, 0x20                    # PAE
    mov cr4, eax
    mov ecx, 0xc0000080             # EFER: LME, NXE, SCE
    rdmsr
    or eax, 0x901
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             # caches on
    or eax, 0x80010001              # PG, WP, PE
    mov cr0, eax

    lea eax, [ebp + boot_gdt_pointer]
    lgdt [eax]
    push 8
    push dword ptr [ebp + long_mode_target]
    retf

no_long_mode:
    mov dx, 0x3f8
    lea esi, [ebp + no_long_mode_text]
3:  lodsb
    test al, al
    jz 4f
    out dx, al
    jmp 3b
4:  hlt
    jmp 4b

.code64
start64:
    xor eax, eax
    mov ss, ax
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    movabs rsp, offset kernel_boot_stack_top
    mov edi, [rbp + boot_magic]
    mov esi, [rbp + boot_info]
    movsxd rdx, ebp
    xor ebp, ebp
    movabs rax, offset kernel_main
    call rax
    ud2

ap_start64:
    xor eax, eax
    mov ss, ax
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    # Whoever does not get the ticket is late, and must not touch anything.
    movabs rdx, offset AP_TICKET
    xchg eax, [rdx]
    test eax, eax
    jz 7f
    movabs rsp, offset kernel_ap_stack_top
    xor ebp, ebp
    movabs rax, offset kernel_ap_main
    call rax
7:  cli
    hlt
    jmp 7b

# Start of another processor. The code up to ap_trampoline_end is copied to a page below 1 MiB; CS is that page.
.balign 16
.code16
ap_trampoline:
    cli
    cld
    xor ebx, ebx
    mov bx, cs
    mov ds, bx
    mov ss, bx
    shl ebx, 4
    mov esp, 0x1000
    lea eax, [ebx + AP_GDT]
    mov [AP_GDT_POINTER + 2], eax
    lgdtd [AP_GDT_POINTER]
    mov eax, cr0
    or eax, 1                       # PE
    mov cr0, eax
    .byte 0x66, 0x6a, 8             # push with 32-bit operand
    push dword ptr [AP_TARGET]
    .byte 0x66, 0xcb                # retf with 32-bit operands
.balign 8
ap_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
ap_gdt_pointer:
    .short 23
    .long 0
ap_target:
    .long 0
ap_trampoline_end:
.set AP_GDT, ap_gdt - ap_trampoline
.set AP_GDT_POINTER, ap_gdt_pointer - ap_trampoline
.set AP_TARGET, ap_target - ap_trampoline

.code32
ap_start32:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea esp, [ebx + 0x1000]
    call ap_where
ap_where:
    pop ebp
    sub ebp, offset ap_where
    lea eax, [ebp + ap_start64]
    mov [ebp + long_mode_target], eax
    jmp enter_long_mode

.balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff
boot_gdt_pointer:
    .short 15
    .long boot_gdt, 0
boot_magic: .long 0
long_mode_target: .long 0
boot_info:  .long 0
no_long_mode_text:
    .asciz "Ferronova: this CPU has no 64-bit mode\r\n"

.balign 4096
boot_pml4:
    .quad boot_pdpt_low + 3
    .fill 510, 8, 0
    .quad boot_pdpt_high + 3
boot_pdpt_low:
    .quad boot_pd_low + 3
    .fill 511, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd_high + 3
    .quad 0
boot_pd_low:  .fill 512, 8, 0
boot_pd_high: .fill 512, 8, 0
    .fill 64, 8, 0
boot_stack_top:

.section .bss.boot_stack, "aw", @nobits
.balign 16
    .skip 32768
kernel_boot_stack_top:
    .skip 8192
kernel_ap_stack_top:

.code64
.section .rodata.ap, "a", @progbits
.balign 8
.globl ap_addresses
ap_addresses:
    .quad ap_trampoline, ap_trampoline_end, ap_target, ap_start32
.text
