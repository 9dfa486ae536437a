# Code below 64 KiB: where application processors start, and the tour of the modes. Linked for 0x8000 and copied there;
# the page number is the vector of the start-up IPI.

.section .low, "awx"

# --- An application processor, in real mode at 0800:0000 -------------------------------------------------------------
.code16
.global ap_start
ap_start:
    cli
    cld
    movw    %cs, %ax
    movw    %ax, %ds
    movl    %cr0, %ecx
    pushfl                              # SS:SP = 0:0 after INIT; the push goes to 0:fffc
    popl    %edx
    movw    %cs, %bx
    xorw    %ax, %ax
    movw    %ax, %ds
    movl    $1, %esi
    lock xaddl %esi, ap_tickets         # a number for each, from 1
    cmpl    $8, %esi
    jae     ap_too_many
    movl    %esi, %edi
    shll    $4, %edi
    movl    %ecx, ap_seen(%edi)         # CR0, CS, RFLAGS as at the start
    movw    %bx, ap_seen+4(%edi)
    movl    %edx, ap_seen+8(%edi)
    lgdtl   low_gdt_pointer
    movl    $0x11, %eax                 # PE, ET
    movl    %eax, %cr0
    ljmpl   $0x18, $ap_protected
ap_too_many:
    hlt
    jmp     ap_too_many

.code32
ap_protected:
    movw    $0x10, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movl    $0x20, %eax                 # PAE
    movl    %eax, %cr4
    movl    low_cr3, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx
    movl    $0x901, %eax
    xorl    %edx, %edx
    wrmsr
    movl    $0x80010033, %eax
    movl    %eax, %cr0
    ljmpl   $0x08, $ap_long

.code64
ap_long:
    movl    %esi, %edi
    movl    %esi, %eax
    incl    %eax
    shll    $15, %eax                   # stacks of 32 KiB
    movq    low_ap_stacks, %rsp
    addq    %rax, %rsp
    xorl    %ebp, %ebp
    movw    $0x10, %ax
    movw    %ax, %fs
    movw    %ax, %gs
    movq    low_ap_main, %rax
    call    *%rax
    ud2

    .balign 16
.global ap_tickets, ap_seen, low_gdt_pointer, low_cr3, low_ap_stacks, low_ap_main
ap_seen:         .skip 16 * 8
ap_tickets:      .long 1
low_cr3:         .long 0
low_ap_stacks:   .quad 0
low_ap_main:     .quad 0
low_gdt_pointer: .skip 10

# --- The tour: long -> compatibility -> protected -> real -> protected -> PAE -> 32-bit paging -> long ---------------
# extern "C" fn tour(results: *mut u32, pae: *const u64, paging32: *const u32, intel: u32). Results below 1 MiB, tables below 4 GiB.
# `intel`: PAE pointers are loaded with CR3; AMD's CPUs may read them at any time (APM volume 2, 15.25.10).
# Interrupts stay off.
.set MARKER, 0x5eed1e55

    .balign 16
.global tour_out
tour_out:        .skip 4 * 32
.global marker
marker:          .long MARKER
tour_results:    .long 0
tour_pae:        .long 0
tour_32bit:      .long 0
tour_intel:      .long 0
tour_cr0:        .long 0
tour_cr3:        .long 0
tour_cr4:        .long 0
tour_rsp:        .quad 0
tour_idt:        .skip 10
tour_real_idt:   .word 0x3ff
                 .long 0
tour_interrupts: .long 0

.code64
.global tour
tour:
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movl    %edi, tour_results
    movl    %esi, tour_pae
    movl    %edx, tour_32bit
    movl    %ecx, tour_intel
    movq    %rsp, tour_rsp
    movq    %cr0, %rax
    movl    %eax, tour_cr0
    movq    %cr3, %rax
    movl    %eax, tour_cr3
    movq    %cr4, %rax
    movl    %eax, tour_cr4
    sidt    tour_idt
    movl    %edi, %ebx                  # EBX: results
    pushq   $0x18
    leaq    tour_compat, %rax
    pushq   %rax
    lretq

.code32
tour_compat:
    movw    $0x10, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movl    tour_rsp, %esp
    movw    %cs, %ax
    movzwl  %ax, %eax
    movl    %eax, (%ebx)                # 0: CS in compatibility mode
    xorl    %eax, %eax
    .byte   0x40                        # INC EAX, or a REX prefix in 64-bit mode
    nop
    movl    %eax, 4(%ebx)               # 1: 1 in a 32-bit segment
    movl    $0xc0000080, %ecx
    rdmsr
    movl    %eax, 8(%ebx)               # 2: EFER in compatibility mode

    movl    %cr0, %eax                  # paging off: long mode ends
    andl    $0x7fffffff, %eax
    movl    %eax, %cr0
    jmp     1f
1:  movl    $0xc0000080, %ecx
    rdmsr
    movl    %eax, 12(%ebx)              # 3: EFER without paging: LMA is off
    andl    $~0x100, %eax
    wrmsr
    rdmsr
    movl    %eax, 16(%ebx)              # 4: LME is off
    movl    %cr0, %eax
    movl    %eax, 20(%ebx)              # 5: CR0 in protected mode
    xorl    %eax, %eax                  # CR4 off: PAE is no more needed
    movl    %eax, %cr4
    cpuid                               # an exit in protected mode without paging
    movl    tour_results, %ebx
    movl    %eax, 24(%ebx)              # 6: highest leaf

    ljmpl   $0x20, $tour_16bit
.code16
tour_16bit:
    movw    $0x28, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7ff0, %sp
    lidtl   tour_real_idt
    movl    %cr0, %eax
    andb    $0xfe, %al
    movl    %eax, %cr0
    ljmpl   $0, $tour_real
tour_real:
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7ff0, %sp
    movl    tour_results, %ebx
    movl    %ebx, %eax                  # results go through a 16-bit segment: build its selector
    shrl    $4, %eax
    movw    %ax, %fs
    andl    $0xf, %ebx
    movl    %cr0, %eax
    movl    %eax, %fs:28(%bx)           # 7: CR0 in real mode
    movw    $(marker_segment), %ax
    movw    %ax, %es
    movl    %es:(marker - 0x8000), %eax
    movl    %eax, %fs:32(%bx)           # 8: the marker, through a segment
    movl    $tour_handler, %eax         # INT 0x70 through the vector table at 0
    movl    %eax, 0x70 * 4
    movl    $0, tour_interrupts
    int     $0x70
    movl    tour_interrupts, %eax
    movl    %eax, %fs:36(%bx)           # 9: 0x70 if the handler ran
    pushl   %ebx
    movl    $0x80000000, %eax
    cpuid                               # an exit in real mode
    popl    %ebx
    movl    %eax, %fs:40(%bx)           # 10: highest extended leaf
    movw    $0x80, %dx                  # and an I/O exit
    movb    $0x5a, %al
    outb    %al, %dx
    movw    $-1, %dx
    movw    $0x1234, %ax
    pushw   %ax
    popw    %dx
    movzwl  %dx, %eax
    movl    %eax, %fs:44(%bx)           # 11: 0x1234 through the stack

    lgdtl   low_gdt_pointer
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    ljmpl   $0x18, $tour_protected
tour_handler:
    movl    $0x70, tour_interrupts
    iretw

.code32
tour_protected:
    movw    $0x10, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movl    tour_rsp, %esp
    movl    tour_results, %ebx
    movl    %cr0, %eax
    movl    %eax, 48(%ebx)              # 12: CR0, protected mode again
    movl    $0x100000, %eax
    movl    (%eax), %eax
    movl    %eax, 52(%ebx)              # 13: the Multiboot magic at 1 MiB: flat 32-bit segments, A20 on

    movl    $0x20, %eax                 # PAE paging
    movl    %eax, %cr4
    movl    tour_pae, %eax
    movl    %eax, %cr3
    movl    %cr0, %eax
    orl     $0x80000000, %eax
    movl    %eax, %cr0
    jmp     1f
1:  movl    marker + 0xc0000000, %eax
    movl    %eax, 56(%ebx)              # 14: the marker through 3 GiB
    pushl   %ebx
    xorl    %eax, %eax
    cpuid                               # an exit with PAE paging
    popl    %ebx
    movl    %eax, 60(%ebx)              # 15
    cmpl    $0, tour_intel
    je      2f
    movl    tour_pae, %eax              # the pointers are in the CPU until CR3 is loaded
    movl    24(%eax), %ecx
    movl    $0, 24(%eax)
    movl    marker + 0xc0000000, %edx
    movl    %edx, 64(%ebx)              # 16: still the marker
    movl    %ecx, 24(%eax)
2:  movl    %cr0, %eax
    andl    $0x7fffffff, %eax
    movl    %eax, %cr0
    jmp     1f

1:  movl    $0x10, %eax                 # 32-bit paging with 4 MiB pages
    movl    %eax, %cr4
    movl    tour_32bit, %eax
    movl    %eax, %cr3
    movl    %cr0, %eax
    orl     $0x80000000, %eax
    movl    %eax, %cr0
    jmp     1f
1:  movl    marker + 0xc0000000, %eax
    movl    %eax, 68(%ebx)              # 17: the marker through a 4 MiB page at 3 GiB
    movl    marker + 0xc0400000, %eax
    movl    %eax, 72(%ebx)              # 18: and through 4 KiB pages
    pushl   %ebx
    xorl    %eax, %eax
    cpuid
    popl    %ebx
    movl    %eax, 76(%ebx)              # 19
    movl    %cr0, %eax
    andl    $0x7fffffff, %eax
    movl    %eax, %cr0
    jmp     1f

1:  movl    $0x20, %eax                 # and back to long mode
    movl    %eax, %cr4
    movl    tour_cr3, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx
    rdmsr
    orl     $0x100, %eax
    wrmsr
    movl    tour_cr0, %eax
    movl    %eax, %cr0
    jmp     1f
1:  ljmpl   $0x08, $tour_long

.code64
tour_long:
    movq    tour_rsp, %rsp
    movl    tour_cr4, %eax
    movq    %rax, %cr4
    lidt    tour_idt
    movl    $0xc0000080, %ecx
    rdmsr
    movl    tour_results, %ebx
    movl    %eax, 80(%rbx)              # 20: EFER: LMA and LME are on
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    ret

.set marker_segment, 0x800
