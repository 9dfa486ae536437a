//! Tests of the emulator: single instructions on a vCPU whose first 16 MiB are RAM and whose devices are a [`Fake`].

use super::*;
use crate::exit::fake::{Fake, Io};
use crate::mem;
use crate::vcpu;

const CODE: u64 = 0x8000;
const DEVICE: u64 = 0xfec0_0000;

struct Rig {
    mem: GuestMemoryMmap,
    state: ArchState,
    board: Fake,
    cause: Cause,
}

fn rig() -> Rig {
    let mem = mem::alone(16 << 20).unwrap();
    let start = vcpu::Start::Long { rip: CODE, boot_params: 0 };
    vcpu::prepare(&mem, &start).unwrap();
    Rig { mem, state: vcpu::initial(&start), board: Fake::default(), cause: Cause::Memory }
}

impl Rig {
    fn run(&mut self, code: &[u8]) -> Result<(), Failure> {
        self.mem.write_slice(code, GuestAddress(self.state.rip)).unwrap();
        self.step()
    }

    fn step(&mut self) -> Result<(), Failure> {
        let Rig { mem, state, board, cause } = self;
        Emulator { vcpu: 0, state, mem, board, now: 7, cause: *cause, effect: Effect::None }.step()
    }
}

/// RAX, RBX, RCX, RDX and RDI before; code; what the device was asked; RAX and RFLAGS bits after.
#[test]
fn instructions_with_one_device_operand() {
    let read = |size| vec![Io::Load(DEVICE + 0x10, size)];
    let store = |size, v| vec![Io::Store(DEVICE + 0x10, size, v)];
    let both = |size, v| vec![Io::Load(DEVICE + 0x10, size), Io::Store(DEVICE + 0x10, size, v)];
    // RBX = device, RDI = device + 0x10, RAX = 0x1122334455667788, the device reads as 0xfedcba98_f6543280.
    for (name, code, io, rax) in [
        ("mov eax, [rbx+0x10]", &[0x8b, 0x43, 0x10][..], read(4), 0xf654_3280),
        ("mov rax, [rdi]", &[0x48, 0x8b, 0x07], read(8), 0xfedc_ba98_f654_3280),
        ("mov al, [rdi]", &[0x8a, 0x07], read(1), 0x1122_3344_5566_7780),
        ("mov ah, [rdi]", &[0x8a, 0x27], read(1), 0x1122_3344_5566_8088),
        ("mov ax, [rdi]", &[0x66, 0x8b, 0x07], read(2), 0x1122_3344_5566_3280),
        ("mov [rdi], eax", &[0x89, 0x07], store(4, 0x5566_7788), 0x1122_3344_5566_7788),
        ("mov [rdi], rax", &[0x48, 0x89, 0x07], store(8, 0x1122_3344_5566_7788), 0x1122_3344_5566_7788),
        ("mov [rdi], ah", &[0x88, 0x27], store(1, 0x77), 0x1122_3344_5566_7788),
        ("mov [rdi], spl", &[0x40, 0x88, 0x27], store(1, 0x21), 0x1122_3344_5566_7788),
        ("mov [rdi], r9d", &[0x44, 0x89, 0x0f], store(4, 0x99), 0x1122_3344_5566_7788),
        ("mov dword [rdi], 5", &[0xc7, 0x07, 5, 0, 0, 0], store(4, 5), 0x1122_3344_5566_7788),
        ("mov qword [rdi], -1", &[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], store(8, u64::MAX), 0x1122_3344_5566_7788),
        ("mov byte [rdi], 5", &[0xc6, 0x07, 5], store(1, 5), 0x1122_3344_5566_7788),
        ("mov eax, [abs]", &[0xa1, 0x10, 0, 0xc0, 0xfe, 0, 0, 0, 0], read(4), 0xf654_3280),
        ("movzx eax, byte [rdi]", &[0x0f, 0xb6, 0x07], read(1), 0x80),
        ("movzx eax, word [rdi]", &[0x0f, 0xb7, 0x07], read(2), 0x3280),
        ("movsx eax, byte [rdi]", &[0x0f, 0xbe, 0x07], read(1), 0xffff_ff80),
        ("movsxd rax, dword [rdi]", &[0x48, 0x63, 0x07], read(4), 0xffff_ffff_f654_3280),
        ("and eax, [rdi]", &[0x23, 0x07], read(4), 0x5444_3280),
        ("or [rdi], eax", &[0x09, 0x07], both(4, 0xf776_7788), 0x1122_3344_5566_7788),
        ("and dword [rdi], ~0xff", &[0x81, 0x27, 0, 0xff, 0xff, 0xff], both(4, 0xf654_3200), 0x1122_3344_5566_7788),
        ("or byte [rdi], 1", &[0x80, 0x0f, 1], both(1, 0x81), 0x1122_3344_5566_7788),
        ("xor dword [rdi], -1", &[0x83, 0x37, 0xff], both(4, 0x09ab_cd7f), 0x1122_3344_5566_7788),
        ("xchg [rdi], eax", &[0x87, 0x07], both(4, 0x5566_7788), 0xf654_3280),
        ("test dword [rdi], 1", &[0xf7, 0x07, 1, 0, 0, 0], read(4), 0x1122_3344_5566_7788),
        ("cmp dword [rdi], eax", &[0x39, 0x07], read(4), 0x1122_3344_5566_7788),
        ("stosd", &[0xab], store(4, 0x5566_7788), 0x1122_3344_5566_7788),
    ] {
        let mut r = rig();
        r.board.device = 0xfedc_ba98_f654_3280;
        r.state.gpr[ArchState::RAX] = 0x1122_3344_5566_7788;
        r.state.gpr[ArchState::RBX] = DEVICE;
        r.state.gpr[ArchState::RDI] = DEVICE + 0x10;
        r.state.gpr[ArchState::RSP] = 0x4321;
        r.state.gpr[9] = 0x99;
        assert_eq!(r.run(code), Ok(()), "{name}");
        assert_eq!(r.board.io, io, "{name}");
        assert_eq!(r.state.gpr[ArchState::RAX], rax, "{name}");
        assert_eq!(r.state.rip, CODE + code.len() as u64, "{name}");
    }
}

#[test]
fn flags() {
    let m = |m, a, b, size, v, flags: u64| assert_eq!(arithmetic(m, a, b, size), (v, flags), "{m:?} {a:#x} {b:#x}");
    m(Mnemonic::And, 0xf0, 0x0f, 1, 0, RFLAGS_ZF | RFLAGS_PF);
    m(Mnemonic::Test, 0x80, 0xff, 1, 0x80, RFLAGS_SF);
    m(Mnemonic::Cmp, 1, 2, 4, 0xffff_ffff, RFLAGS_CF | RFLAGS_SF | RFLAGS_PF | RFLAGS_AF);
    m(Mnemonic::Cmp, 0x8000_0000, 1, 4, 0x7fff_ffff, RFLAGS_OF | RFLAGS_PF | RFLAGS_AF);
    m(Mnemonic::Add, 0xff, 1, 1, 0, RFLAGS_CF | RFLAGS_ZF | RFLAGS_PF | RFLAGS_AF);
    m(Mnemonic::Add, 0x7fff_ffff_ffff_ffff, 1, 8, 1 << 63, RFLAGS_OF | RFLAGS_SF | RFLAGS_PF | RFLAGS_AF);
    m(Mnemonic::Xor, 5, 5, 8, 0, RFLAGS_ZF | RFLAGS_PF);
}

#[test]
fn arithmetic_agrees_with_wide_arithmetic() {
    use proptest::prelude::*;
    proptest!(|(a: u64, b: u64, log in 0u32..4)| {
        let size = 1usize << log;
        let (x, y) = (a & mask(size), b & mask(size));
        let (v, f) = arithmetic(Mnemonic::Sub, a, b, size);
        prop_assert_eq!(v, (x as u128).wrapping_sub(y as u128) as u64 & mask(size));
        prop_assert_eq!(f & RFLAGS_CF != 0, x < y);
        let signed = sign_extend(x, size) as i64 as i128 - sign_extend(y, size) as i64 as i128;
        prop_assert_eq!(f & RFLAGS_OF != 0, signed != sign_extend(v, size) as i64 as i128);
    });
}

#[test]
fn strings_between_ram_and_ports() {
    let rig = || Rig { cause: Cause::Port, ..rig() };
    let mut r = rig();
    r.mem.write_slice(b"hello", GuestAddress(0x5000)).unwrap();
    (r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RCX], r.state.gpr[ArchState::RDX]) = (0x5000, 5, 0x3f8);
    assert_eq!(r.run(&[0xf3, 0x6e]), Ok(()), "rep outsb");
    let out: Vec<Io> = b"hello".iter().map(|b| Io::Out(0x3f8, 1, u32::from(*b))).collect();
    assert_eq!(r.board.io, out);
    assert_eq!((r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RCX], r.state.rip), (0x5005, 0, CODE + 2));

    let mut r = rig();
    r.board.device = 0xbeef;
    (r.state.gpr[ArchState::RDI], r.state.gpr[ArchState::RDX]) = (0x6000, 0x1f0);
    assert_eq!(r.run(&[0x66, 0x6d]), Ok(()), "insw");
    assert_eq!(r.mem.read_obj::<u16>(GuestAddress(0x6000)).unwrap(), 0xbeef);
    assert_eq!((r.state.gpr[ArchState::RDI], &r.board.io[..]), (0x6002, &[Io::In(0x1f0, 2)][..]));
}

#[test]
fn repeated_moves_backwards_and_zero_times() {
    let mut r = rig();
    r.mem.write_obj(0x1122_3344u32, GuestAddress(0x5000)).unwrap();
    r.state.rflags |= RFLAGS_DF;
    (r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RDI], r.state.gpr[ArchState::RCX]) = (0x5000, DEVICE + 4, 2);
    assert_eq!(r.run(&[0xf3, 0xa5]), Ok(()), "rep movsd");
    assert_eq!(r.board.io, [Io::Store(DEVICE + 4, 4, 0x1122_3344), Io::Store(DEVICE, 4, 0)]);
    assert_eq!((r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RDI]), (0x4ff8, DEVICE - 4));
    r.board.io.clear();
    assert_eq!(r.run(&[0xf3, 0xa5]), Ok(()), "RCX is 0");
    assert!(r.board.io.is_empty());
}

#[test]
fn long_repetitions_give_way() {
    let mut r = rig();
    (r.state.gpr[ArchState::RDI], r.state.gpr[ArchState::RCX]) = (DEVICE, MAX_REPEAT + 1);
    assert_eq!(r.run(&[0xf3, 0xaa]), Ok(()));
    assert_eq!((r.state.rip, r.state.gpr[ArchState::RCX]), (CODE, 1), "not finished");
    assert_eq!(r.step(), Ok(()));
    assert_eq!((r.state.rip, r.state.gpr[ArchState::RCX]), (CODE + 2, 0));
}

#[test]
fn page_faults_are_the_guests() {
    let mut r = rig();
    r.state.gpr[ArchState::RDI] = 1 << 32;
    let fault =
        |code, address| Err(Failure::Exception(Exception { vector: 14, code: Some(code), address: Some(address) }));
    assert_eq!(r.run(&[0x89, 0x07]), fault(2, 1 << 32), "mov [rdi], eax");
    assert_eq!(r.state.rip, CODE, "not executed");
    r.state.rip = 0x1_0000_0000;
    assert_eq!(r.step(), fault(0, 0x1_0000_0000), "fetch");
    r.state.rip = DEVICE;
    assert_eq!(r.step(), Err(Failure::Fetch(DEVICE)));
}

#[test]
fn accesses_across_pages_and_segments() {
    let mut r = rig();
    r.mem.write_obj(0x1122_3344_5566_7788u64, GuestAddress(0x5ffc)).unwrap();
    r.state.fs.base = 0x5000;
    assert_eq!(r.run(&[0x64, 0x48, 0xa1, 0xfc, 0x0f, 0, 0, 0, 0, 0, 0]), Ok(()), "mov rax, fs:[0xffc]");
    assert_eq!(r.state.gpr[ArchState::RAX], 0x1122_3344_5566_7788);
}

#[test]
fn instructions_of_other_modes() {
    let mut r = rig();
    r.state.efer = 0;
    r.state.cr0 = CR0_PE;
    r.state.cs.ar = 0xc9b;
    r.state.ds.base = 0x1000;
    r.state.gpr[ArchState::RBX] = 0xffff_ffff_febf_f010;
    assert_eq!(r.run(&[0x89, 0x03]), Ok(()), "mov [ebx], eax");
    assert_eq!(r.board.io, [Io::Store(DEVICE + 0x10, 4, 0)]);
    r.state.cs.ar = 0x9b;
    r.state.cs.base = 0x5000;
    r.state.rip = 0x100;
    r.mem.write_slice(&[0xa1, 0x02, 0x00], GuestAddress(0x5100)).unwrap();
    r.mem.write_obj(0xabcdu16, GuestAddress(0x1002)).unwrap();
    assert_eq!(r.step(), Ok(()), "16 bit: mov ax, [2]");
    assert_eq!((r.state.gpr[ArchState::RAX], r.state.rip), (0xabcd, 0x103));
}

#[test]
fn what_is_not_known_is_said() {
    for code in [&[0x0f, 0x6f, 0x07][..], &[0x0f, 0xc7, 0x0f], &[0xff; 15], &[0x8e, 0x1f]] {
        assert_eq!(rig().run(code), Err(Failure::Unknown), "{code:02x?}");
    }
}

#[test]
fn cr8_is_the_local_apics() {
    let mut r = Rig { cause: Cause::Cr8, ..rig() };
    r.state.gpr[ArchState::RAX] = 9;
    assert_eq!(r.run(&[0x44, 0x0f, 0x22, 0xc0]), Ok(()), "mov cr8, rax");
    assert_eq!(r.board.device, 9);
    assert_eq!(r.run(&[0x44, 0x0f, 0x20, 0xc3]), Ok(()), "mov rbx, cr8");
    assert_eq!((r.state.gpr[ArchState::RBX], r.state.rip), (9, CODE + 8));
    r.state.gpr[ArchState::RAX] = 16;
    assert_eq!(r.run(&[0x44, 0x0f, 0x22, 0xc0]), Err(Failure::Exception(Exception::GP)));
    assert_eq!((r.board.device, r.state.rip), (9, CODE + 8));
}

#[test]
fn sse2_has_a_movsd_too() {
    let mut r = rig();
    (r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RDI]) = (DEVICE, DEVICE);
    let before = r.state;
    for code in [&[0xf2, 0x0f, 0x10, 0x07][..], &[0xf2, 0x0f, 0x11, 0x07]] {
        assert_eq!(r.run(code), Err(Failure::Unknown), "movsd xmm0, [rdi] and back");
    }
    assert_eq!((r.state.rip, r.state.gpr, r.board.io.len()), (before.rip, before.gpr, 0));
}

#[test]
fn an_instruction_that_another_vcpu_has_put_there_is_left_to_the_cpu() {
    for (code, own) in [
        (&[0x6e][..], Cause::Port),
        (&[0xf3, 0x6d], Cause::Port),
        (&[0x44, 0x0f, 0x22, 0xc0], Cause::Cr8),
        (&[0x44, 0x0f, 0x20, 0xc0], Cause::Cr8),
    ] {
        for cause in [Cause::Memory, Cause::Port, Cause::Cr8] {
            let mut r = Rig { cause, ..rig() };
            (r.state.gpr[ArchState::RSI], r.state.gpr[ArchState::RDI]) = (0x5000, 0x5000);
            assert_eq!(r.run(code).is_ok(), cause == own, "{code:x?} {cause:?}");
            assert_eq!(r.state.rip == CODE, cause != own, "{code:x?} {cause:?}");
        }
    }
}
