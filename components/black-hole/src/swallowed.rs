//! What was taken of a client.

use crate::config::Service;
use std::fmt;

/// See above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swallowed {
    client: String,
    service: Service,
    bytes: u64,
    told: u64,
}

impl Swallowed {
    /// Nothing yet.
    pub fn new(client: &str, service: Service) -> Swallowed {
        Swallowed { client: client.into(), service, bytes: 0, told: 0 }
    }

    /// So many bytes more. Says what there is to tell: that something came, and each time that it is ten times as much.
    pub fn add(&mut self, bytes: usize) -> Option<String> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes == 0 || self.bytes < self.told.saturating_mul(10) {
            return None;
        }
        self.told = self.bytes;
        Some(self.to_string())
    }
}

impl fmt::Display for Swallowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Swallowed { client, service, bytes, .. } = self;
        write!(f, "{service} of {client}: {bytes} bytes dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_less_and_less_often() {
        let mut s = Swallowed::new("vm", Service::Log);
        assert_eq!(s.add(0), None);
        assert_eq!(s.add(7).as_deref(), Some("log of vm: 7 bytes dropped"));
        assert_eq!((s.add(0), s.add(62)), (None, None));
        assert_eq!(s.add(1).as_deref(), Some("log of vm: 70 bytes dropped"));
        assert_eq!((s.add(629), s.add(1).is_some()), (None, true));
        assert_eq!(s.add(usize::MAX).as_deref(), Some("log of vm: 18446744073709551615 bytes dropped"));
        assert_eq!(s.to_string(), "log of vm: 18446744073709551615 bytes dropped");
    }
}
