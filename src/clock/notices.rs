//! What was said about which peer: once, then it is counted only.
//!
//! A scanner, a health check or a wrongly configured client comes again and again. Its first connection
//! is a line in the log; those that follow within the hour are not, and the next line says how many
//! they were. Shared by threads, behind a lock: touched only when a peer is refused.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Peers and kinds that are remembered; beyond, the oldest is forgotten and may be said again.
const ENTRIES_MAX: usize = 1_024;
/// After this long the same is said again.
const QUIET_NS: u64 = 3_600_000_000_000;

/// Port, a peer's address if it is known, and what was said about it.
type Key = (String, Option<IpAddr>, &'static str);

#[derive(Clone, Copy, Debug)]
struct Entry {
    said_ns: u64,
    unsaid: u64,
}

/// Which lines were said.
#[derive(Debug, Default)]
pub struct Notices {
    entries: BTreeMap<Key, Entry>,
    /// Oldest first.
    order: VecDeque<Key>,
}

impl Notices {
    /// Whether to say this now: `Some` with how often it was not said since the last time.
    pub fn note(
        &mut self,
        port: &str,
        peer: Option<IpAddr>,
        kind: &'static str,
        now_ns: u64,
    ) -> Option<u64> {
        let key = (port.to_owned(), peer, kind);
        if let Some(entry) = self.entries.get_mut(&key) {
            if now_ns.saturating_sub(entry.said_ns) < QUIET_NS {
                entry.unsaid += 1;
                return None;
            }
            entry.said_ns = now_ns;
            return Some(std::mem::take(&mut entry.unsaid));
        }
        if self.order.len() >= ENTRIES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        self.order.push_back(key.clone());
        let entry = Entry {
            said_ns: now_ns,
            unsaid: 0,
        };
        self.entries.insert(key, entry);
        Some(0)
    }
}

/// What a line says behind its text.
pub fn tail(unsaid: u64) -> String {
    match unsaid {
        0 => "; more of this from that address is only counted for an hour".to_owned(),
        more => format!("; {more} more of this from that address since it was said last"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn once_a_peer_and_kind_then_counted() {
        let mut notices = Notices::default();
        assert_eq!(notices.note("http", at(1), "http", 0), Some(0));
        for second in 1..=9 {
            assert_eq!(notices.note("http", at(1), "http", second), None);
        }
        assert_eq!(
            notices.note("http", at(1), "tls", 9),
            Some(0),
            "another kind"
        );
        assert_eq!(
            notices.note("http", at(2), "http", 9),
            Some(0),
            "another peer"
        );
        assert_eq!(
            notices.note("http", None, "http", 9),
            Some(0),
            "an unknown one"
        );
        assert_eq!(
            notices.note("emitters", at(1), "http", 9),
            Some(0),
            "another port"
        );
        assert_eq!(notices.note("http", at(1), "http", QUIET_NS), Some(9));
        assert_eq!(notices.note("http", at(1), "http", QUIET_NS + 1), None);
        assert!(tail(9).contains("9 more"));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let mut notices = Notices::default();
        let many = 10 * u32::try_from(ENTRIES_MAX).expect("a few");
        for n in 0..many {
            assert_eq!(notices.note("http", at(n), "http", 0), Some(0));
        }
        assert_eq!(notices.entries.len(), ENTRIES_MAX);
        assert_eq!(notices.order.len(), ENTRIES_MAX);
        let newest = many - 1;
        assert_eq!(notices.note("http", at(newest), "http", 1), None);
        assert_eq!(notices.note("http", at(0), "http", 1), Some(0));
    }
}
