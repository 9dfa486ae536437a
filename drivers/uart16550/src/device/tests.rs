//! Register conversations with a fake chip, and a property: no byte is lost or reordered, whatever the timing.

use proptest::prelude::*;

use super::*;
use crate::fake::{
    Access::{self, In, Out},
    Fake,
};

/// The client's side of the two streams, signalling as rings do: only when the driver may be waiting.
#[derive(Default)]
struct Client {
    to_send: VecDeque<u8>,
    /// The driver saw `to_send` empty.
    source_short: bool,
    received: Vec<u8>,
    /// Bytes in `received` that the client has not taken yet.
    unread: usize,
    room: usize,
    /// The driver saw no room.
    sink_short: bool,
}

struct Rig {
    chip: Fake,
    uart: Uart<Fake>,
    client: Client,
}

impl Rig {
    fn new(room: usize) -> Rig {
        Rig::with(Fake::default(), room)
    }

    fn with(chip: Fake, room: usize) -> Rig {
        let uart = Uart::open(chip.clone(), 115_200.try_into().unwrap()).unwrap();
        chip.take_accesses();
        Rig { chip, uart, client: Client { room, ..Client::default() } }
    }

    fn streams(
        &mut self,
        f: impl FnOnce(&mut Uart<Fake>, &mut dyn FnMut(&[u8]) -> usize, &mut dyn FnMut(&mut [u8]) -> usize),
    ) {
        let Client { to_send, source_short, received, unread, room, sink_short } = &mut self.client;
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(*room - *unread);
            received.extend(&bytes[..n]);
            *unread += n;
            *sink_short |= n < bytes.len();
            n
        };
        let mut source = |buf: &mut [u8]| {
            let n = buf.len().min(to_send.len());
            buf.iter_mut().zip(to_send.drain(..n)).for_each(|(to, from)| *to = from);
            *source_short |= n < buf.len();
            n
        };
        f(&mut self.uart, &mut sink, &mut source);
    }

    fn kick(&mut self) {
        self.streams(|uart, mut sink, mut source| uart.kick(&mut sink, &mut source));
    }

    /// What the interrupt thread does after each edge.
    fn serve_edges(&mut self) {
        while self.chip.take_edges() > 0 {
            self.streams(|uart, mut sink, mut source| uart.service(&mut sink, &mut source));
        }
    }

    fn client_writes(&mut self, bytes: &[u8]) {
        self.client.to_send.extend(bytes);
        if std::mem::take(&mut self.client.source_short) {
            self.kick();
        }
    }

    fn client_reads(&mut self, count: usize) {
        let before = self.client.unread;
        self.client.unread -= count.min(before);
        let half = self.client.room / 2;
        if self.client.sink_short && before > half && self.client.unread <= half {
            self.client.sink_short = false;
            self.kick();
        }
    }
}

fn outs(accesses: &[Access], register: u16) -> usize {
    accesses.iter().filter(|a| matches!(a, Out(r, _) if *r == register)).count()
}

#[test]
fn open_sets_up_line_and_interrupts_in_order() {
    let chip = Fake::default();
    let uart = Uart::open(chip.clone(), 9600.try_into().unwrap()).unwrap();
    assert_eq!(uart.depth(), 16);
    let writes: Vec<Access> = chip.take_accesses().into_iter().filter(|a| matches!(a, Out(..))).collect();
    assert_eq!(
        writes,
        [
            Out(reg::SCR, 0x5a),
            Out(reg::SCR, 0xa5),
            Out(reg::LCR, 0x03),
            Out(reg::IER, 0x00),
            Out(reg::MCR, 0x1a),
            Out(reg::MCR, 0x15),
            Out(reg::LCR, 0x83),
            Out(reg::DLL, 12),
            Out(reg::DLM, 0),
            Out(reg::LCR, 0x03),
            Out(reg::FCR, 0x87),
            Out(reg::MCR, 0x0b),
            Out(reg::IER, 0x05),
        ]
    );
    assert_eq!(chip.0.borrow().divisor, [12, 0]);
}

#[test]
fn last_words_of_an_earlier_owner_are_sent_before_the_reset() {
    let mut chip = Fake::default();
    for b in b"panic" {
        chip.out8(reg::THR, *b);
    }
    Uart::open(chip.clone(), 115_200.try_into().unwrap()).unwrap();
    assert_eq!(chip.wire(), b"panic");
}

#[test]
fn an_absent_or_broken_uart_is_named() {
    let chip = Fake::default();
    chip.0.borrow_mut().absent = true;
    let error = Uart::open(chip.clone(), 115_200.try_into().unwrap()).unwrap_err();
    assert_eq!(error, OpenError::NoScratch { wrote: 0x5a, read: 0xff });
    assert_eq!(chip.take_accesses(), [Out(reg::SCR, 0x5a), In(reg::SCR, 0xff)], "nothing else is touched");

    let chip = Fake::default();
    chip.0.borrow_mut().deaf = true;
    let error = Uart::open(chip.clone(), 115_200.try_into().unwrap()).unwrap_err();
    assert_eq!(error, OpenError::NoLoopback { expected: 0x90, read: 0 });
    assert_eq!(chip.0.borrow().mcr & mcr::LOOP, 0, "loopback is off again");
}

#[test]
fn a_full_fifo_is_loaded_at_once_and_thri_is_on_only_while_there_is_more() {
    let mut rig = Rig::new(64);
    rig.kick();
    assert_eq!(rig.chip.take_accesses(), [], "nothing to do, no port touched");

    let text: Vec<u8> = (0..40).collect();
    rig.client_writes(&text);
    let accesses = rig.chip.take_accesses();
    assert_eq!(outs(&accesses, reg::THR), 16);
    assert_eq!(accesses.iter().filter(|a| matches!(a, In(..))).count(), 1, "one look at LSR for 16 bytes");
    assert_eq!(accesses.last(), Some(&Out(reg::IER, IER_RX | ier::ETBEI)));

    rig.chip.send(15);
    assert_eq!(rig.chip.take_edges(), 0, "THRE only when the whole FIFO is out");
    rig.chip.send(1);
    rig.serve_edges();
    assert_eq!(outs(&rig.chip.take_accesses(), reg::THR), 16);
    rig.chip.send(16);
    rig.serve_edges();
    let accesses = rig.chip.take_accesses();
    assert_eq!(outs(&accesses, reg::THR), 8);
    assert!(accesses.contains(&Out(reg::IER, IER_RX)), "nothing more to send");
    rig.chip.send(16);
    assert_eq!(rig.chip.take_edges(), 0);
    assert_eq!(rig.chip.wire(), text);
}

#[test]
fn bytes_for_a_busy_transmitter_wait_for_its_interrupt() {
    let mut rig = Rig::new(64);
    rig.kick();
    rig.client_writes(b"a");
    assert_eq!(rig.chip.0.borrow().ier & ier::ETBEI, 0);
    rig.chip.take_accesses();
    rig.client_writes(b"b");
    assert_eq!(rig.chip.take_accesses(), [In(reg::LSR, 0), Out(reg::IER, IER_RX | ier::ETBEI)]);
    rig.chip.send(1);
    rig.serve_edges();
    rig.chip.send(1);
    assert_eq!(rig.chip.wire(), b"ab");
}

#[test]
fn without_fifos_bytes_go_one_by_one() {
    let chip = Fake::default();
    chip.0.borrow_mut().no_fifo = true;
    let mut rig = Rig::with(chip, 64);
    assert_eq!(rig.uart.depth(), 1);
    rig.kick();
    rig.client_writes(b"hello");
    for _ in 0..5 {
        rig.chip.send(1);
        rig.serve_edges();
    }
    assert_eq!(rig.chip.wire(), b"hello");
    assert!(!rig.chip.0.borrow().tx_overflow);
    rig.chip.inject(b"x");
    rig.serve_edges();
    assert_eq!(rig.client.received, b"x");
}

#[test]
fn one_interrupt_drains_the_receive_fifo() {
    let mut rig = Rig::new(64);
    rig.chip.inject(b"0123456789abcdef");
    rig.serve_edges();
    assert_eq!(rig.client.received, b"0123456789abcdef");
    let accesses = rig.chip.take_accesses();
    assert_eq!(accesses.iter().filter(|a| matches!(a, In(reg::IIR, _))).count(), 2, "the cause, and that it is gone");
    assert_eq!(outs(&accesses, reg::IER), 0);
}

#[test]
fn a_full_sink_stops_the_receiver_after_the_backlog_and_nothing_is_lost_before() {
    let mut rig = Rig::new(8);
    let bytes: Vec<u8> = (0..8 + RX_BACKLOG + 16).map(|n| n as u8).collect();
    for part in bytes.chunks(4) {
        rig.chip.inject(part);
        rig.serve_edges();
    }
    assert_eq!(rig.client.received.len(), 8);
    assert_eq!(rig.uart.backlog.len(), RX_BACKLOG);
    {
        let chip = rig.chip.0.borrow();
        assert_eq!(chip.ier & IER_RX, 0, "receiver interrupts off");
        assert_eq!(chip.mcr & mcr::RTS, 0, "the other side is asked to stop");
    }
    rig.client_writes(b"still sending");
    rig.kick();
    rig.chip.send(16);
    rig.serve_edges();
    assert_eq!(rig.chip.wire(), b"still sending");

    while rig.client.unread > 0 {
        rig.client_reads(8);
        rig.serve_edges();
    }
    assert_eq!(rig.client.received, bytes);
    assert_eq!(rig.chip.0.borrow().mcr & mcr::RTS, mcr::RTS);
    assert_eq!(rig.uart.error_report(), None);
}

#[test]
fn line_errors_are_counted_and_reported_rarely() {
    let mut rig = Rig::new(1024);
    rig.chip.inject_with(b'a', lsr::FE);
    rig.chip.inject_with(0, lsr::BI | lsr::FE);
    rig.chip.inject(&[b'x'; 15]);
    rig.serve_edges();
    assert_eq!(rig.client.received, b"axxxxxxxxxxxxxx", "the break's byte is none; the 17th byte is lost");
    let expected = LineErrors { overruns: 1, framing: 1, breaks: 1, ..LineErrors::default() };
    assert_eq!(rig.uart.error_report(), Some(expected));
    assert_eq!(rig.uart.error_report(), None);
    rig.chip.inject_with(b'b', lsr::FE);
    rig.serve_edges();
    assert_eq!(rig.uart.error_report().map(|e| e.total()), Some(4));
}

#[test]
fn an_interrupt_that_stays_is_bounded_and_makes_a_new_edge() {
    let mut rig = Rig::new(8);
    rig.chip.0.borrow_mut().stuck = Some(iir::MODEM_STATUS);
    rig.chip.send(0);
    assert_eq!(rig.chip.take_edges(), 1);
    rig.streams(|uart, mut sink, mut source| uart.service(&mut sink, &mut source));
    assert_eq!(rig.uart.error_report().map(|e| e.storms), Some(1));
    assert_eq!(rig.chip.take_edges(), 1);
    rig.chip.0.borrow_mut().stuck = None;
    rig.chip.send(0);
    rig.chip.inject(b"k");
    rig.serve_edges();
    assert_eq!(rig.client.received, b"k");
}

#[derive(Clone, Debug)]
enum Step {
    Inject(usize),
    Send(usize),
    Write(usize),
    Read(usize),
    ServeEdges,
    /// The IRQ thread comes although there is nothing to do.
    SpuriousService,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..9usize).prop_map(Step::Inject),
        (1..20usize).prop_map(Step::Send),
        (1..60usize).prop_map(Step::Write),
        (1..40usize).prop_map(Step::Read),
        Just(Step::ServeEdges),
        Just(Step::ServeEdges),
        Just(Step::SpuriousService),
    ]
}

proptest! {
    #[test]
    fn bytes_arrive_in_order_or_are_counted(
        room in 2..64usize,
        no_fifo: bool,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let chip = Fake::default();
        chip.0.borrow_mut().no_fifo = no_fifo;
        let mut rig = Rig::with(chip, room);
        rig.kick();
        let (mut next_in, mut next_out) = (0u32, 0u32);
        let numbered = |next: &mut u32, count: usize| -> Vec<u8> {
            (0..count).map(|_| { *next += 1; (*next % 251) as u8 }).collect()
        };
        for step in steps {
            match step {
                Step::Inject(n) => { let b = numbered(&mut next_in, n); rig.chip.inject(&b) }
                Step::Send(n) => rig.chip.send(n),
                Step::Write(n) => { let b = numbered(&mut next_out, n); rig.client_writes(&b) }
                Step::Read(n) => rig.client_reads(n),
                Step::ServeEdges => rig.serve_edges(),
                Step::SpuriousService => rig.streams(|uart, mut sink, mut source| uart.service(&mut sink, &mut source)),
            }
            prop_assert!(rig.uart.backlog.len() <= RX_BACKLOG);
        }
        // Everybody does their part until all is quiet; without any further kick of the driver's own accord.
        let mut before = None;
        while before != Some((rig.chip.wire().len(), rig.client.received.len(), rig.client.unread)) {
            before = Some((rig.chip.wire().len(), rig.client.received.len(), rig.client.unread));
            rig.serve_edges();
            rig.client_reads(room);
            rig.chip.send(20);
        }
        let (mut all_in, mut all_out) = (0, 0);
        let sent = numbered(&mut all_out, next_out as usize);
        prop_assert_eq!(rig.chip.wire(), sent);
        prop_assert!(!rig.chip.0.borrow().tx_overflow);
        // Received bytes are a subsequence of the injected; complete unless overruns were counted.
        let injected = numbered(&mut all_in, next_in as usize);
        let mut rest = injected.iter();
        prop_assert!(rig.client.received.iter().all(|b| rest.any(|i| i == b)));
        if rig.uart.errors.overruns == 0 {
            prop_assert_eq!(&rig.client.received, &injected);
        }
    }
}
