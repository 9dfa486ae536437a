//! What a component and its parent say to each other about sessions: what crate `session` decides about, as messages.
//!
//! Key types: [`Parent`], the interface that each component has a capability to at its start; [`Request`], [`Notice`],
//! [`Response`]. All calls are answered at once. What takes time ends in the signal of [`Parent::heed`], upon which the
//! component asks what is new until there is nothing ([`Parent::next`]).

use rpc::{Bad, Built, Bytes, Cap, Cost, Interface, Reader, Signal, Table, Text, Value, Version, Writer};

/// Longest name of a service in bytes.
pub const MAX_NAME: usize = 32;
/// Longest label of a session in bytes.
pub const MAX_LABEL: usize = 255;
/// Longest arguments of a session in bytes.
pub const MAX_ARGS: usize = 112;

/// Some object: what a session is to its parents, which pass capabilities on and do not call.
#[derive(Debug)]
pub struct AnyObject;

impl Interface for AnyObject {
    const TABLE: &'static Table = &Table {
        name: "AnyObject",
        doc: "Some object.",
        built: Built { version: Version { major: 1, minor: 0 }, fingerprint: 0 },
        cost: Cost { ram: 0, caps: 0 },
        methods: &[],
    };
}

impl Amount {
    /// What a session of an interface donates at least.
    pub const fn of(cost: Cost) -> Amount {
        Amount { ram: cost.ram, caps: cost.caps as u64 }
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum Shortage {
    /// RAM, and perhaps capabilities, too.
    Ram = 1,
    /// Capabilities only.
    Caps = 2,
}

/// Why a call has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum Refusal {
    /// The component has ended.
    Dead = 1,
    /// It is not to provide this.
    NotProvided = 2,
    /// It has a session of that identifier, or one of which it has not fetched the end.
    Twice = 3,
    /// It has no such session.
    Unknown = 4,
    /// The session is not in a state for that.
    Phase = 5,
    /// It has as many sessions as it may have, or as many that are not answered.
    TooMany = 6,
    /// No route leads there, or to nobody who could serve.
    Denied = 7,
    /// It has too little RAM to donate so much, or donates too little.
    ShortRam = 8,
    /// The same of capabilities.
    ShortCaps = 9,
    /// A name, label or amount is none: control characters, or no whole pages.
    Malformed = 10,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Refusal::Dead => "the component has ended",
            Refusal::NotProvided => "the component is not to provide this service",
            Refusal::Twice => "there is a session of that identifier",
            Refusal::Unknown => "there is no session of that identifier",
            Refusal::Phase => "the session is not in a state for that",
            Refusal::TooMany => "there are as many sessions as there may be",
            Refusal::Denied => "no route leads there, or to nobody who could serve",
            Refusal::ShortRam => "there is too little RAM",
            Refusal::ShortCaps => "there are too few capabilities",
            Refusal::Malformed => "a name, label or amount is none",
        })
    }
}

const fn most(all: &[usize]) -> usize {
    let (mut most, mut i) = (0, 0);
    while i < all.len() {
        if all[i] > most {
            most = all[i];
        }
        i += 1;
    }
    most
}

/// An enum that travels as a number and what comes with it; those that come alone first.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $alone:ident = $n:literal),* $(,)? ;
        $($(#[$more:meta])* $with:ident($($kind:ty),+) as ($($bound:ident),+) = $m:literal),* $(,)?
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "they travel, and are not kept")]
        pub enum $name { $($(#[$doc])* $alone,)* $($(#[$more])* $with($($kind),+)),* }

        impl Value for $name {
            const WORDS: usize = 1 + most(&[0 $(, 0 $(+ <$kind>::WORDS)+)*]);
            const ITEMS: usize = most(&[0 $(, 0 $(+ <$kind>::ITEMS)+)*]);
            fn put(&self, to: &mut Writer<'_>) {
                match self {
                    $($name::$alone => to.word($n),)*
                    $($name::$with($($bound),+) => {
                        to.word($m);
                        $($bound.put(to);)+
                    })*
                }
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
                match from.word()? {
                    $($n => Ok($name::$alone),)*
                    $($m => Ok($name::$with($(<$kind>::take(from)?),+)),)*
                    _ => Err(Bad::Value),
                }
            }
        }
    };
}

record! {
    /// An amount of RAM and of capabilities.
    #[derive(Copy, Default)]
    Amount {
        /// RAM in bytes, whole pages.
        ram: u64,
        /// Capabilities.
        caps: u64,
    }
}

record! {
    /// A request for a session.
    Request {
        /// What the client calls it; at the server, what its parent does.
        id: u64,
        /// The service.
        service: Text<MAX_NAME>,
        /// What the client asks for; at the server with the names of the parents' children in front.
        label: Text<MAX_LABEL>,
        /// What the client was built against.
        built: Built,
        /// The arguments.
        args: Bytes<MAX_ARGS>,
        /// What the server may use for it.
        donation: Amount,
    }
}

choice! {
    /// How a session is over. All that was donated is the client's again.
    End {
        /// The server did not want it, or none is left that could.
        Denied = 1,
        /// The server has died.
        Gone = 2,
        /// The client closed it.
        Closed = 3;
        /// The donation was too small.
        Short(Shortage) as (s) = 4,
        /// The server has this version of the interface, which does not serve what the client was built against.
        Incompatible(Version) as (v) = 5,
    }
}

choice! {
    /// How a session of a client stands.
    News {
        /// The server has taken note of more quota.
        Upgraded = 1,
        /// The server did not get more quota; that is the client's again.
        NotUpgraded = 2;
        /// It can be used.
        Ready(Cap<AnyObject>) as (cap) = 3,
        /// It is over, and its identifier is free.
        Ended(End) as (end) = 4,
    }
}

choice! {
    /// What a server has done about a session.
    Response {
        /// It is not created.
        Denied = 1,
        /// An upgrade has been taken note of.
        Upgraded = 2,
        /// An upgrade did not reach it.
        NotUpgraded = 3,
        /// It is closed, or the server has never known it.
        Closed = 4,
        /// It cannot be used any more, as who is behind it has died.
        Gone = 5;
        /// It is created, and this is for the client.
        Ready(Cap<AnyObject>) as (cap) = 6,
        /// It is not created for so little.
        Short(Shortage) as (s) = 7,
        /// It is not created, as the client was built against another version; the server has this one.
        Incompatible(Version) as (v) = 8,
    }
}

choice! {
    /// What a parent tells a component.
    Notice {
        /// It has more quota.
        Granted = 1,
        /// It is asked whether it lives: [`Parent::alive`].
        Heartbeat = 2;
        /// News of a session of which it is the client.
        Session(u64, News) as (id, news) = 3,
        /// It is to create a session, and to respond.
        Create(Request) as (request) = 4,
        /// A session that it serves has so much now, all told.
        Upgrade(u64, Amount) as (id, amount) = 5,
        /// It is to close a session. If it knows none of that identifier, that is closed, too.
        Close(u64) as (id) = 6,
        /// It is asked to free so much and to say when it has.
        Yield(Amount) as (amount) = 7,
    }
}

/// The parent of a component. Each component has a capability to this from its start, on each of its CPUs.
#[rpc::interface(version = "1.0", ram = "0", caps = 0)]
pub trait Parent {
    /// The component can serve this from now on.
    fn announce(&mut self, service: Text<MAX_NAME>) -> Result<(), Refusal>;
    /// It wants a session. Ends in news of that session, if it is not refused at once.
    fn request(&mut self, request: Request) -> Result<(), Refusal>;
    /// It donates more to a session that it has. Ends in news of it.
    fn upgrade(&mut self, id: u64, more: Amount) -> Result<(), Refusal>;
    /// It does not want a session any more. Ends in news of it.
    fn close(&mut self, id: u64) -> Result<(), Refusal>;
    /// What it has done as a server about a session.
    fn respond(&mut self, id: u64, response: Response) -> Result<(), Refusal>;
    /// What is new: the last thing that happened to a session, or what is asked of the component. `None`: nothing more.
    fn next(&mut self) -> Option<Notice>;
    /// What is raised when there is something new, in place of what was before.
    fn heed(&mut self, signal: Signal);
    /// It has ended, with this code; 0: well.
    fn exit(&mut self, code: u64);
    /// It needs more quota. Ends in `Granted`, perhaps never.
    fn want(&mut self, more: Amount) -> Result<(), Refusal>;
    /// It has freed what it could after a `Yield`.
    fn yielded(&mut self) -> Result<(), Refusal>;
    /// It lives: the answer to a `Heartbeat`.
    fn alive(&mut self) -> Result<(), Refusal>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::UTCB_WORDS;

    /// As a message arrives, capabilities under the selectors that they were sent with.
    fn travel<T: Value + PartialEq + core::fmt::Debug>(value: T) {
        let mut words = [0; UTCB_WORDS];
        let mut to = Writer::new(&mut words);
        value.put(&mut to);
        let (n, items) = to.written();
        assert!(n <= T::WORDS && items <= T::ITEMS, "{value:?}: {n} words, {items} capabilities");
        for i in 0..items {
            let at = abi::Item::word(i);
            words[at] = abi::Item::arrived(abi::Item(words[at]).sel(), abi::Arrival::Known, 0).0;
        }
        assert_eq!(T::take(&mut Reader::of_utcb(&words, n, items)), Ok(value));
        assert_eq!(T::take(&mut Reader::of_utcb(&words, n - 1, items)), Err(Bad::Short));
    }

    fn request() -> Request {
        Request {
            id: 7,
            service: Text::new("timer").unwrap(),
            label: Text::new("init -> shell").unwrap(),
            built: Built { version: Version { major: 3, minor: 1 }, fingerprint: u64::MAX },
            args: Bytes::new(&[1, 2, 3]).unwrap(),
            donation: Amount { ram: 4096, caps: 3 },
        }
    }

    #[test]
    fn all_that_is_said_travels() {
        let (cap, version) = (Cap::from_sel(77), Version { major: 1, minor: 9 });
        travel(request());
        let ends = [End::Denied, End::Gone, End::Closed, End::Short(Shortage::Caps), End::Incompatible(version)];
        ends.into_iter().for_each(|end| travel(Notice::Session(9, News::Ended(end))));
        for news in [News::Upgraded, News::NotUpgraded, News::Ready(cap)] {
            travel(Notice::Session(u64::MAX, news));
        }
        let amount = Amount { ram: 1 << 40, caps: 5 };
        for notice in [Notice::Granted, Notice::Heartbeat, Notice::Create(request()), Notice::Upgrade(1, amount)] {
            travel(notice);
        }
        [Notice::Close(3), Notice::Yield(amount)].into_iter().for_each(travel);
        use Response::*;
        let short = Short(Shortage::Ram);
        for response in [Denied, Upgraded, NotUpgraded, Closed, Gone, Ready(cap), short, Incompatible(version)] {
            travel(response);
        }
    }

    #[test]
    fn what_is_nothing_is_refused() {
        let none = [9; 8];
        assert_eq!(Notice::take(&mut Reader::new(&none)), Err(Bad::Value));
        assert_eq!(Response::take(&mut Reader::new(&none)), Err(Bad::Value));
        assert_eq!(End::take(&mut Reader::new(&none)), Err(Bad::Value));
        assert_eq!(Response::take(&mut Reader::new(&[6])), Err(Bad::Capability), "ready, without one");
    }
}
