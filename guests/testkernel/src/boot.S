# Multiboot 1 header, and the way from the loader's 32-bit protected mode to long mode with 4 GiB mapped one to one.

.section .boot.header, "a"
    .balign 4
    .long 0x1badb002                    # magic
    .long 0x00000003                    # modules on pages, memory information
    .long -(0x1badb002 + 3)

.section .boot, "awx"
.code32
.global start
start:
    cli
    cld
    movl    $boot_stack_top, %esp
    movl    %eax, boot_magic
    movl    %ebx, boot_info

    # PML4[0] -> PDPT; PDPT[0..4] -> four directories of 2 MiB pages.
    movl    $(boot_pdpt + 3), boot_pml4
    movl    $(boot_directories + 3), %eax
    movl    $boot_pdpt, %edi
    movl    $4, %ecx
1:  movl    %eax, (%edi)
    addl    $8, %edi
    addl    $4096, %eax
    loop    1b
    movl    $0x83, %eax                 # present, writable, 2 MiB
    movl    $boot_directories, %edi
    movl    $2048, %ecx
2:  movl    %eax, (%edi)
    addl    $8, %edi
    addl    $0x200000, %eax
    loop    2b

    movl    $0x20, %eax                 # CR4: PAE
    movl    %eax, %cr4
    movl    $boot_pml4, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx           # EFER: LME, NXE, SCE
    movl    $0x901, %eax
    xorl    %edx, %edx
    wrmsr
    movl    $0x80010033, %eax           # CR0: PG, WP, NE, ET, MP, PE
    movl    %eax, %cr0
    lgdtl   gdt_pointer
    ljmpl   $0x08, $start64

.code64
start64:
    movw    $0x10, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    %ax, %fs
    movw    %ax, %gs
    xorl    %ebp, %ebp
    call    kernel_main
3:  cli
    hlt
    jmp     3b

# Selectors: see machine/tables.rs.
    .balign 16
.global gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 code, 64 bits
    .quad 0x00cf93000000ffff            # 0x10 data
    .quad 0x00cf9b000000ffff            # 0x18 code, 32 bits
    .quad 0x00009b000000ffff            # 0x20 code, 16 bits
    .quad 0x000093000000ffff            # 0x28 data, 16 bits
    .quad 0x00affb000000ffff            # 0x30 user code, 64 bits
    .quad 0x00cff3000000ffff            # 0x38 user data
    .quad 0x00cffb000000ffff            # 0x40 user code, 32 bits
    .quad 0x00cf13000000ffff            # 0x48 data, not present
    .fill 16, 8, 0                      # 0x50 task-state segments of 8 CPUs
gdt_end:
.global gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

.global boot_magic, boot_info
boot_magic: .long 0
boot_info:  .long 0

.section .bss.boot, "aw", @nobits
    .balign 4096
.global boot_pml4
boot_pml4:        .skip 4096
boot_pdpt:        .skip 4096
boot_directories: .skip 4 * 4096
    .skip 32768
boot_stack_top:
