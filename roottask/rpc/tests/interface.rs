//! An interface of the macro: client and server talk over a port that is a pair of buffers, and a client lies.

use abi::{Arrival, Item, Mtd, UTCB_WORDS};
use proptest::prelude::*;
use rpc::{
    Bad, Built, Bytes, Cap, Error, Frame, Interface, Object, Port, REGISTERS, Reader, Refusal, Sent, Signal, Table,
    Text, Version, Writer,
};
use std::cell::{Cell, RefCell};

/// A colour.
#[derive(Clone, Copy, PartialEq, Debug, rpc::Value)]
#[repr(u8)]
enum Colour {
    /// Red.
    Red = 1,
    /// Blue.
    Blue = 7,
}

/// Where something is.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Debug,
    zerocopy::TryFromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    rpc::Value,
)]
#[repr(C)]
struct Place {
    x: u32,
    y: u16,
    here: bool,
    colour: u8,
    z: u64,
}

/// Everything that travels.
#[rpc::interface(version = "2.3", ram = "16K", caps = 3)]
trait Everything {
    /// Two words.
    fn add(&mut self, a: u64, b: u64) -> u64;
    /// No arguments, nothing back.
    fn nothing(&mut self);
    /// Numbers with and without a sign.
    fn numbers(&mut self, a: u8, b: i8, c: i64, d: bool) -> (i32, bool);
    /// An enum, an error.
    fn paint(&mut self, colour: Colour, place: Option<Place>) -> Result<Place, Colour>;
    /// Text and bytes.
    fn write(&mut self, text: Text<40>, bytes: Bytes<9>) -> Text<49>;
    /// Capabilities.
    fn give(&mut self, other: Cap<dyn Everything>, signal: Signal) -> Cap<dyn Everything>;
    /// An answer that registers do not hold.
    fn long(&mut self) -> Bytes<100>;
    /// As much as goes.
    fn most(&mut self, a: Bytes<4072>) -> u64;
}

#[derive(Default)]
struct Server {
    calls: u32,
}

impl Everything for Server {
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    fn nothing(&mut self) {
        self.calls += 1;
    }
    fn numbers(&mut self, a: u8, b: i8, c: i64, d: bool) -> (i32, bool) {
        (i32::from(a) + i32::from(b) + c as i32, !d)
    }
    fn paint(&mut self, colour: Colour, place: Option<Place>) -> Result<Place, Colour> {
        place.map(|p| Place { colour: colour as u8, ..p }).ok_or(colour)
    }
    fn write(&mut self, text: Text<40>, bytes: Bytes<9>) -> Text<49> {
        let both = format!("{}{}", text.as_str(), String::from_utf8_lossy(bytes.as_slice()));
        Text::new(&both).unwrap_or(Text::new("too long").unwrap())
    }
    fn give(&mut self, other: Cap<dyn Everything>, signal: Signal) -> Cap<dyn Everything> {
        assert_eq!((signal.context, signal.bell), (11, 12));
        other
    }
    fn long(&mut self) -> Bytes<100> {
        Bytes::new(&[5; 100]).unwrap()
    }
    fn most(&mut self, a: Bytes<4072>) -> u64 {
        a.as_slice().len() as u64
    }
}

/// A UTCB.
struct Buffer {
    utcb: [u64; UTCB_WORDS],
    words: usize,
    items: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { utcb: [0; UTCB_WORDS], words: 0, items: 0 }
    }

    /// What the kernel does to items on the way.
    fn arrive(&mut self) {
        for i in 0..self.items {
            let item = Item(self.utcb[Item::word(i)]);
            self.utcb[Item::word(i)] = Item::arrived(item.sel(), Arrival::Known, item.perms()).0;
        }
    }
}

impl Frame for Buffer {
    fn reader(&self) -> Reader<'_> {
        Reader::of_utcb(&self.utcb, self.words, self.items)
    }
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(&mut self.utcb)
    }
}

/// A port to an object in the same program. `answer` is what it finds instead of the first word of the answer.
struct Here {
    object: RefCell<EverythingServer<Server>>,
    answer: Cell<Option<u64>>,
    in_registers: Cell<u32>,
}

impl Here {
    fn client() -> EverythingClient<Here> {
        let object = RefCell::new(EverythingServer(Server::default()));
        EverythingClient::new(Here { object, answer: Cell::new(None), in_registers: Cell::new(0) })
    }
}

impl Port for Here {
    fn registers(&self, mut words: [u64; REGISTERS]) -> Result<[u64; REGISTERS], Error> {
        self.object.borrow_mut().registers(&mut words);
        self.in_registers.set(self.in_registers.get() + 1);
        words[0] = self.answer.get().unwrap_or(words[0]);
        Ok(words)
    }

    fn message<R>(
        &self,
        items: usize,
        put: impl FnOnce(&mut Writer<'_>),
        take: impl FnOnce(&mut Reader<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut b = Buffer::new();
        let mut to = b.writer();
        put(&mut to);
        (b.words, b.items) = to.written();
        b.arrive();
        let sent = self.object.borrow_mut().message(&mut b);
        (b.words, b.items) = (sent.words, sent.items);
        assert!(b.items <= items);
        b.arrive();
        b.utcb[0] = self.answer.get().unwrap_or(b.utcb[0]);
        take(&mut b.reader())
    }
}

const PLACE: Place = Place { x: 1, y: 2, here: true, colour: 0, z: 3 };

#[test]
fn values_go_there_and_back() {
    let c = Here::client();
    assert_eq!(c.add(u64::MAX, 2), Ok(1));
    assert_eq!(c.nothing(), Ok(()));
    assert_eq!(c.numbers(255, -128, -1000, true), Ok((-873, false)));
    assert_eq!(c.port().in_registers.get(), 3, "short ones go in registers");
    assert_eq!(c.paint(Colour::Blue, Some(PLACE)), Ok(Ok(Place { colour: 7, ..PLACE })));
    assert_eq!(c.paint(Colour::Red, None), Ok(Err(Colour::Red)));
    assert_eq!(c.port().in_registers.get(), 5, "five words behind the first one");
    let (text, bytes) = (Text::new("Grüße, ").unwrap(), Bytes::new(b"123456789").unwrap());
    assert_eq!(c.write(text, bytes).unwrap().as_str(), "Grüße, 123456789");
    assert_eq!(c.write(Text::new("").unwrap(), Bytes::new(b"").unwrap()).unwrap().as_str(), "");
    assert_eq!(c.long().unwrap().as_slice(), [5; 100]);
    assert_eq!(c.most(Bytes::new(&[1; 4072]).unwrap()), Ok(4072));
    assert_eq!(c.port().object.borrow().0.calls, 1);
    assert_eq!(c.port().in_registers.get(), 5);
}

#[test]
fn capabilities_go_there_and_back() {
    let c = Here::client();
    let other = Cap::<dyn Everything>::from_sel(10);
    let back = c.give(other, Signal { context: 11, bell: 12 }).unwrap();
    assert_eq!(back, other);
    assert_eq!(format!("{back:?}"), "Cap<Everything>(0xa)");
}

#[test]
fn bounds_are_kept_when_values_are_made() {
    assert!(Text::<3>::new("Grü").is_none());
    assert!(Bytes::<3>::new(&[0; 4]).is_none());
    assert_eq!(Text::<4>::new("Grü"), Text::new("Grü"));
    assert_eq!(Text::<4>::new(""), Some(Text::default()));
}

/// The answer to a message by the UTCB: its first word, as an error.
fn answer(words: &[u64], items: &[Item]) -> Option<String> {
    let mut b = Buffer::new();
    b.utcb[..words.len()].copy_from_slice(words);
    for (i, item) in items.iter().enumerate() {
        b.utcb[Item::word(i)] = item.0;
    }
    (b.words, b.items) = (words.len(), items.len());
    let sent = EverythingServer(Server::default()).message(&mut b);
    said(words.first().copied().unwrap_or(0), b.utcb[0], sent)
}

fn said(method: u64, word: u64, sent: Sent) -> Option<String> {
    let bad = |b: &Bad| *b as u64 == word & 0xff;
    let table = <dyn Everything as Interface>::TABLE;
    let bad = [Bad::Method, Bad::Short, Bad::Value, Bad::Capability].into_iter().find(bad)?;
    assert_eq!(sent, Sent { words: 1, items: 0 });
    Some(Refusal { table, method: method as u16, argument: (word >> 8) as u8, bad }.to_string())
}

#[test]
fn each_mistake_is_named_with_interface_method_and_argument() {
    let known = |sel| Item::arrived(sel, Arrival::Known, 1);
    let full = Item::arrived(0, Arrival::Full, 0);
    let long = |n: u64| [&[5, n][..], &[u64::from_le_bytes(*b"aaaaaaaa"); 4], &[0]].concat();
    for (words, items, want) in [
        (vec![], vec![], "Everything, method 0: there is no such method"),
        (vec![9, 0], vec![], "Everything, method 9: there is no such method"),
        (vec![1 << 40], vec![], "Everything, method 0: there is no such method"),
        (vec![1, 5], vec![], "Everything.add, argument `b`: the message is too short"),
        (vec![3, 256, 0, 0, 0], vec![], "Everything.numbers, argument `a`: not a value of its type"),
        (vec![3, 0, 128, 0, 0], vec![], "Everything.numbers, argument `b`: not a value of its type"),
        (vec![3, 0, 0, 0, 2], vec![], "Everything.numbers, argument `d`: not a value of its type"),
        (vec![4, 2, 0], vec![], "Everything.paint, argument `colour`: not a value of its type"),
        (vec![4, 1, 2], vec![], "Everything.paint, argument `place`: not a value of its type"),
        (vec![4, 1, 1, 0], vec![], "Everything.paint, argument `place`: the message is too short"),
        (vec![4, 1, 1, 1 << 48, 0], vec![], ""),
        // The byte of `here` is 2.
        (vec![4, 1, 1, 2 << 48, 0], vec![], "Everything.paint, argument `place`: not a value of its type"),
        (long(41), vec![], "Everything.write, argument `text`: not a value of its type"),
        (long(u64::MAX), vec![], "Everything.write, argument `text`: not a value of its type"),
        (long(32), vec![], ""),
        (vec![5, 2, 0xffff, 0], vec![], "Everything.write, argument `text`: not a value of its type"),
        (vec![5, 8], vec![], "Everything.write, argument `text`: the message is too short"),
        (vec![6], vec![], "Everything.give, argument `other`: there is no capability, or no room for it"),
        (
            vec![6],
            vec![full, known(11), known(12)],
            "Everything.give, argument `other`: there is no capability, or no room for it",
        ),
        (
            vec![6],
            vec![known(1), known(11)],
            "Everything.give, argument `signal`: there is no capability, or no room for it",
        ),
        (vec![6], vec![known(1), known(11), known(12), known(13)], ""),
    ] {
        assert_eq!(answer(&words, &items).unwrap_or_default(), want, "{words:x?}");
    }
}

#[test]
fn in_registers_only_short_methods_are_called() {
    let mut words = [7, 0, 0, 0, 0, 0];
    EverythingServer(Server::default()).registers(&mut words);
    let said = said(7, words[0], Sent { words: 1, items: 0 });
    assert_eq!(said.as_deref(), Some("Everything.long: the message is too short"));
}

#[test]
fn clients_look_at_answers_too() {
    let c = Here::client();
    let table = <dyn Everything as Interface>::TABLE;
    let at = |method, argument, bad| Refusal { table, method, argument, bad };
    for (word, want) in [
        (Bad::Value as u64 | 2 << 8, Error::Refused(at(1, 2, Bad::Value))),
        (Bad::Method as u64, Error::Refused(at(1, 0, Bad::Method))),
        (99, Error::Answer(at(1, 0, Bad::Value))),
        (1 << 40 | 1, Error::Answer(at(1, 0, Bad::Value))),
    ] {
        c.port().answer.set(Some(word));
        assert_eq!(c.add(1, 2), Err(want));
    }
    c.port().answer.set(Some(Bad::Capability as u64 | 1 << 8));
    let refused = c.give(Cap::from_sel(1), Signal { context: 11, bell: 12 }).unwrap_err();
    let want =
        "the server refused the call: Everything.give, argument `other`: there is no capability, or no room for it";
    assert_eq!(refused.to_string(), want);
}

#[test]
fn errors_say_what_happened() {
    let table = <dyn Everything as Interface>::TABLE;
    let refusal = Refusal { table, method: 1, argument: 3, bad: Bad::Value };
    for (e, text) in [
        (Error::Gone, "the object is gone"),
        (Error::OtherCpu, "the object is served on another CPU, where no courier can be had"),
        (Error::Kernel(abi::Status::MemCap), "the kernel refused the call: MemCap"),
        (Error::Answer(refusal), "the server's answer is wrong: Everything.add, argument 3: not a value of its type"),
    ] {
        assert_eq!(e.to_string(), text);
    }
}

#[test]
fn versions_are_compared() {
    let table = <dyn Everything as Interface>::TABLE;
    let built = |major, minor| Built { version: Version { major, minor }, ..table.built };
    for good in [built(2, 3), Built { fingerprint: 0, ..built(2, 2) }, Built { fingerprint: 0, ..built(2, 0) }] {
        assert_eq!(table.admits(good), Ok(()));
    }
    for (theirs, text) in [
        (built(1, 3), "Everything: the server has version 2.3, the client was built against 1.3"),
        (built(3, 0), "Everything: the server has version 2.3, the client was built against 3.0"),
        (built(2, 4), "Everything: the server has version 2.3, the client was built against 2.4"),
        (
            Built { fingerprint: 1, ..built(2, 3) },
            "Everything: the server has version 2.3, the client was built against 2.3 with other methods",
        ),
    ] {
        assert_eq!(table.admits(theirs).unwrap_err().to_string(), text);
    }
}

#[test]
fn what_somebody_was_built_against_travels() {
    use rpc::Value;
    let built = <dyn Everything as Interface>::TABLE.built;
    let mut words = [0; 2];
    built.put(&mut Writer::new(&mut words));
    assert_eq!(Built::take(&mut Reader::new(&words)), Ok(built));
    assert_eq!(Built::take(&mut Reader::new(&[1 << 32, 0])), Err(Bad::Value));
}

#[test]
fn the_table_is_the_trait() {
    let t = <dyn Everything as Interface>::TABLE;
    assert_eq!((t.name, t.doc, t.cost.ram, t.cost.caps), ("Everything", "Everything that travels.", 16384, 3));
    assert_eq!(t.built.version, Version { major: 2, minor: 3 });
    assert_eq!(format!("{t:?}"), "Everything 2.3");
    let short: Vec<_> = t.methods.iter().map(|m| (m.name, m.short)).collect();
    let want = [
        ("add", true),
        ("nothing", true),
        ("numbers", true),
        ("paint", true),
        ("write", false),
        ("give", false),
        ("long", false),
        ("most", false),
    ];
    assert_eq!(short, want);
    let give = &t.methods[5];
    let arguments: Vec<_> = give.arguments.iter().map(|a| (a.name, a.kind, a.size.words, a.size.items)).collect();
    assert_eq!(arguments, [("other", "Cap<dyn Everything>", 0, 1), ("signal", "Signal", 0, 2)]);
    assert_eq!((give.returns, give.answer.items, give.doc), ("Cap<dyn Everything>", 1, "Capabilities."));
    assert_eq!(t.methods[1].returns, "()");
}

#[test]
fn the_page_is_made_of_the_table() {
    let page = rpc::page(<dyn Everything as Interface>::TABLE);
    for part in [
        "# Everything\n\nEverything that travels.\n\nVersion 2.3. A session donates at least 16384 bytes of RAM and 3 capabilities.\n",
        "| 1 | [`add`](#add) | in registers |\n",
        "| 6 | [`give`](#give) | in the UTCB |\n",
        "\n## write\n\nText and bytes.\n\n| | Type | Words | Capabilities |\n|---|---|---|---|\n| `text` | `Text<40>` | 6 | 0 |\n",
        "| answer | `Result<Place, Colour>` | 3 | 0 |\n",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

proptest! {
    /// Whatever arrives, there is an answer, and it is a value or a refusal that has a name.
    #[test]
    fn any_message_is_answered(
        method in 0..10u64,
        words in prop::collection::vec(prop_oneof![0..3u64, any::<u64>()], 0..20),
        items in 0..9usize,
    ) {
        let mut b = Buffer::new();
        b.utcb[0] = method;
        b.utcb[1..=words.len()].copy_from_slice(&words);
        (b.words, b.items) = (1 + words.len(), items);
        // Items are what the kernel makes of them: 11 and 12 behind the first one.
        for i in 0..items {
            b.utcb[Item::word(i)] = Item::arrived(10 + i as u64, Arrival::Known, 1).0;
        }
        let mtd = Mtd::with_items(Mtd::words(b.words), b.items);
        prop_assert_eq!(Mtd::item_count(mtd), b.items);
        let mut object = EverythingServer(Server::default());
        let sent = object.message(&mut b);
        prop_assert!(sent.words >= 1 && sent.words <= 16 && sent.items <= 1);
        let bad = b.utcb[0] & 0xff;
        prop_assert!(b.utcb[0] == 0 || (1..=4).contains(&bad));
        let mut registers = [0; REGISTERS];
        registers[0] = method;
        registers[1..].iter_mut().zip(&words).for_each(|(r, w)| *r = *w);
        object.registers(&mut registers);
        prop_assert!(registers[0] == 0 || (1..=4).contains(&(registers[0] & 0xff)));
    }
}

#[test]
fn a_service_is_called_by_its_interface_in_small_letters() {
    let of = <dyn Everything as Interface>::TABLE;
    let named = |name| Table { name, doc: of.doc, built: of.built, cost: of.cost, methods: of.methods };
    assert_eq!(named("IoMem").service::<8>().as_ref().map(Text::as_str), Some("io_mem"));
    assert_eq!(named("Timer").service::<5>().as_ref().map(Text::as_str), Some("timer"));
    assert_eq!(named("Timer").service::<4>(), None);
}
