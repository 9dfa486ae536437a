//! What travels between a component and its parent (`services::parent`), and what is decided about here: the same, in other
//! words.
//!
//! What a client was built against travels behind the arguments, so that offsets of patches are those of the arguments.
//! Their version is the major one of the interface.

use crate::args::{Args, MAX_ARGS};
use crate::label::{Label, MAX_LABEL};
use crate::protocol::{Cap, End, News, Notice, Refusal, Request, Response};
use crate::quota::{Quota, Shortage};
use parent::Name;
use rpc::{Built, Bytes, Cap as Object, Text, Version};
use services::parent as wire;
use services::parent::{AnyObject, MAX_NAME};

/// Version as a number, and fingerprint, behind the arguments.
const BUILT: usize = 16;
const _: () = assert!(MAX_ARGS == wire::MAX_ARGS + BUILT && MAX_LABEL == wire::MAX_LABEL);
const _: () = assert!(parent::NAME_LEN == MAX_NAME);

/// A service by its name in a message.
pub fn service(name: &Text<MAX_NAME>) -> Result<Name, wire::Refusal> {
    Name::new(name.as_str()).ok_or(wire::Refusal::Malformed)
}

/// An amount that came in a message.
pub fn quota(amount: wire::Amount) -> Result<Quota, wire::Refusal> {
    Quota::new(amount.ram, amount.caps).ok_or(wire::Refusal::Malformed)
}

/// An amount for a message.
pub fn amount(quota: Quota) -> wire::Amount {
    wire::Amount { ram: quota.ram(), caps: quota.caps() }
}

fn pack(built: Built, args: &[u8]) -> Option<Args> {
    let mut bytes = args.to_vec();
    bytes.extend(u64::from(built.version.number()).to_le_bytes());
    bytes.extend(built.fingerprint.to_le_bytes());
    Args::new(built.version.major.into(), &bytes).ok()
}

/// Arguments that no client of [`Request`]s has made are of that version, without a fingerprint.
fn unpack(args: &Args) -> (Built, &[u8]) {
    let major = u16::try_from(args.version()).unwrap_or(u16::MAX);
    let all = args.bytes();
    match all.split_last_chunk::<BUILT>() {
        Some((bytes, built)) => {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| built[at + i]));
            let minor = Version::from_number(word(0) as u32).minor;
            (Built { version: Version { major, minor }, fingerprint: word(8) }, bytes)
        }
        None => (Built { version: Version { major, minor: 0 }, fingerprint: 0 }, all),
    }
}

impl TryFrom<wire::Request> for Request {
    type Error = wire::Refusal;

    fn try_from(r: wire::Request) -> Result<Request, wire::Refusal> {
        Ok(Request {
            id: r.id,
            service: service(&r.service)?,
            label: Label::new(r.label.as_str()).map_err(|_| wire::Refusal::Malformed)?,
            args: pack(r.built, r.args.as_slice()).ok_or(wire::Refusal::Malformed)?,
            donation: quota(r.donation)?,
        })
    }
}

impl From<&Request> for wire::Request {
    fn from(r: &Request) -> wire::Request {
        let (built, args) = unpack(&r.args);
        wire::Request {
            id: r.id,
            service: Text::new(r.service.as_str()).unwrap_or_default(),
            label: Text::new(r.label.as_str()).unwrap_or_default(),
            built,
            args: Bytes::new(args).unwrap_or_default(),
            donation: amount(r.donation),
        }
    }
}

impl From<Shortage> for wire::Shortage {
    fn from(s: Shortage) -> wire::Shortage {
        match s {
            Shortage::Ram => wire::Shortage::Ram,
            Shortage::Caps => wire::Shortage::Caps,
        }
    }
}

impl From<wire::Shortage> for Shortage {
    fn from(s: wire::Shortage) -> Shortage {
        match s {
            wire::Shortage::Ram => Shortage::Ram,
            wire::Shortage::Caps => Shortage::Caps,
        }
    }
}

impl From<Refusal> for wire::Refusal {
    fn from(r: Refusal) -> wire::Refusal {
        match r {
            Refusal::Dead => wire::Refusal::Dead,
            Refusal::NotProvided => wire::Refusal::NotProvided,
            Refusal::Twice => wire::Refusal::Twice,
            Refusal::Unknown => wire::Refusal::Unknown,
            Refusal::Phase => wire::Refusal::Phase,
            Refusal::TooMany => wire::Refusal::TooMany,
            Refusal::Denied => wire::Refusal::Denied,
            Refusal::Short(Shortage::Ram) => wire::Refusal::ShortRam,
            Refusal::Short(Shortage::Caps) => wire::Refusal::ShortCaps,
        }
    }
}

impl From<End> for wire::End {
    fn from(end: End) -> wire::End {
        match end {
            End::Denied => wire::End::Denied,
            End::Gone => wire::End::Gone,
            End::Closed => wire::End::Closed,
            End::Short(s) => wire::End::Short(s.into()),
            End::Incompatible(v) => wire::End::Incompatible(Version::from_number(v)),
        }
    }
}

impl From<wire::End> for End {
    fn from(end: wire::End) -> End {
        match end {
            wire::End::Denied => End::Denied,
            wire::End::Gone => End::Gone,
            wire::End::Closed => End::Closed,
            wire::End::Short(s) => End::Short(s.into()),
            wire::End::Incompatible(v) => End::Incompatible(v.number()),
        }
    }
}

impl From<Response> for wire::Response {
    fn from(r: Response) -> wire::Response {
        match r {
            Response::Denied => wire::Response::Denied,
            Response::Upgraded => wire::Response::Upgraded,
            Response::NotUpgraded => wire::Response::NotUpgraded,
            Response::Closed => wire::Response::Closed,
            Response::Gone => wire::Response::Gone,
            Response::Ready(Cap(sel)) => wire::Response::Ready(Object::from_sel(sel)),
            Response::Short(s) => wire::Response::Short(s.into()),
            Response::Incompatible(v) => wire::Response::Incompatible(Version::from_number(v)),
        }
    }
}

impl From<wire::Response> for Response {
    fn from(r: wire::Response) -> Response {
        match r {
            wire::Response::Denied => Response::Denied,
            wire::Response::Upgraded => Response::Upgraded,
            wire::Response::NotUpgraded => Response::NotUpgraded,
            wire::Response::Closed => Response::Closed,
            wire::Response::Gone => Response::Gone,
            wire::Response::Ready(cap) => Response::Ready(Cap(cap.sel())),
            wire::Response::Short(s) => Response::Short(s.into()),
            wire::Response::Incompatible(v) => Response::Incompatible(v.number()),
        }
    }
}

impl From<News> for wire::News {
    fn from(news: News) -> wire::News {
        match news {
            News::Ready(Cap(sel)) => wire::News::Ready(Object::<AnyObject>::from_sel(sel)),
            News::Upgraded => wire::News::Upgraded,
            News::NotUpgraded => wire::News::NotUpgraded,
            News::Ended(end) => wire::News::Ended(end.into()),
        }
    }
}

impl From<Notice> for wire::Notice {
    fn from(notice: Notice) -> wire::Notice {
        match notice {
            Notice::Session(id, news) => wire::Notice::Session(id, news.into()),
            Notice::Create(request) => wire::Notice::Create((&request).into()),
            Notice::Upgrade(id, quota) => wire::Notice::Upgrade(id, amount(quota)),
            Notice::Close(id) => wire::Notice::Close(id),
            Notice::Granted => wire::Notice::Granted,
            Notice::Yield(quota) => wire::Notice::Yield(amount(quota)),
            Notice::Heartbeat => wire::Notice::Heartbeat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn requests()(
            id in any::<u64>(),
            service in "[a-z_]{0,32}",
            label in "[ -~ä]{0,120}",
            (major, minor, fingerprint) in any::<(u16, u16, u64)>(),
            args in prop::collection::vec(any::<u8>(), 0..=wire::MAX_ARGS),
            pages in 0u64..1 << 40,
            caps in any::<u64>(),
        ) -> wire::Request {
            wire::Request {
                id,
                service: Text::new(&service).unwrap(),
                label: Text::new(&label).unwrap(),
                built: Built { version: Version { major, minor }, fingerprint },
                args: Bytes::new(&args).unwrap(),
                donation: wire::Amount { ram: pages << 12, caps },
            }
        }
    }

    proptest! {
        #[test]
        fn a_request_comes_through_a_parent_as_it_was(request in requests()) {
            let decided = Request::try_from(request.clone()).unwrap();
            prop_assert_eq!(decided.args.version(), u32::from(request.built.version.major));
            prop_assert!(decided.args.bytes().starts_with(request.args.as_slice()), "offsets are those of the arguments");
            prop_assert_eq!(wire::Request::from(&decided), request);
        }

        #[test]
        fn arguments_of_any_parent_can_be_sent_on(version: u32, bytes in prop::collection::vec(any::<u8>(), 0..=MAX_ARGS)) {
            let args = Args::new(version, &bytes).unwrap();
            let (built, rest) = unpack(&args);
            prop_assert!(rest.len() <= wire::MAX_ARGS && bytes.starts_with(rest));
            prop_assert_eq!(built.version.major, u16::try_from(version).unwrap_or(u16::MAX));
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let good = wire::Request {
            id: 1,
            service: Text::new("log").unwrap(),
            label: Text::new("x").unwrap(),
            built: Built { version: Version { major: 1, minor: 0 }, fingerprint: 0 },
            args: Bytes::default(),
            donation: wire::Amount { ram: 4096, caps: 0 },
        };
        assert!(Request::try_from(good.clone()).is_ok());
        for bad in [
            wire::Request { service: Text::new("a\0b").unwrap(), ..good.clone() },
            wire::Request { label: Text::new("two\nlines").unwrap(), ..good.clone() },
            wire::Request { donation: wire::Amount { ram: 4095, caps: 0 }, ..good.clone() },
        ] {
            assert_eq!(Request::try_from(bad), Err(wire::Refusal::Malformed));
        }
    }

    #[test]
    fn the_same_is_said_in_other_words() {
        let version = Version { major: 2, minor: 7 };
        let ends = [
            (End::Denied, wire::End::Denied),
            (End::Gone, wire::End::Gone),
            (End::Closed, wire::End::Closed),
            (End::Short(Shortage::Caps), wire::End::Short(wire::Shortage::Caps)),
            (End::Incompatible(version.number()), wire::End::Incompatible(version)),
        ];
        for (end, there) in ends {
            let told = wire::Notice::from(Notice::Session(4, News::Ended(end)));
            assert_eq!(told, wire::Notice::Session(4, wire::News::Ended(there.clone())));
            assert_eq!(End::from(there), end);
        }
        let ready = wire::Response::Ready(Object::from_sel(9));
        for (there, here) in [
            (ready, Response::Ready(Cap(9))),
            (wire::Response::Denied, Response::Denied),
            (wire::Response::Short(wire::Shortage::Ram), Response::Short(Shortage::Ram)),
            (wire::Response::Incompatible(version), Response::Incompatible(version.number())),
            (wire::Response::Upgraded, Response::Upgraded),
            (wire::Response::NotUpgraded, Response::NotUpgraded),
            (wire::Response::Closed, Response::Closed),
            (wire::Response::Gone, Response::Gone),
        ] {
            assert_eq!(Response::from(there.clone()), here);
            assert_eq!(wire::Response::from(here), there);
        }
        for shortage in [Shortage::Ram, Shortage::Caps] {
            assert_eq!(Shortage::from(wire::Shortage::from(shortage)), shortage);
        }
    }
}
