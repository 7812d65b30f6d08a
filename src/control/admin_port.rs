//! TLS at the admin API's TCP address: what is shown there, and what came of its handshakes. Ports of shards are counted by
//! the shards.

use std::sync::{Arc, Mutex};

use crate::lock::lock;
use weir_config::TlsMode;
use weir_shard::port::TlsCounts;
use weir_tls::{Facts, FailureKind, ServerPort};

/// What the port is called.
const NAME: &str = "admin";

/// See the head of this file.
pub struct AdminPort {
    /// Whether TLS is spoken.
    pub mode: TlsMode,
    /// What is shown.
    pub served: Arc<ServerPort>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    under_way: u64,
    established: u64,
    resumed: u64,
    truncated: u64,
    /// By the number of the kind.
    refused: [u64; FailureKind::ALL.len()],
}

/// A handshake that is under way, until it is dropped.
pub(crate) struct UnderWay<'a>(&'a AdminPort);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.0.counts).under_way -= 1;
    }
}

impl AdminPort {
    /// Of a port where nobody was yet.
    pub fn new(mode: TlsMode, served: Arc<ServerPort>) -> AdminPort {
        AdminPort {
            mode,
            served,
            counts: Mutex::default(),
        }
    }

    pub(crate) fn begins(&self) -> UnderWay<'_> {
        lock(&self.counts).under_way += 1;
        UnderWay(self)
    }

    pub(crate) fn established(&self, is_resumed: bool) {
        let mut counts = lock(&self.counts);
        counts.established += 1;
        counts.resumed += u64::from(is_resumed);
    }

    /// A stream ended without close_notify.
    pub(crate) fn truncated(&self) {
        lock(&self.counts).truncated += 1;
    }

    /// A connection came to nothing, or broke.
    pub(crate) fn refused(&self, kind: FailureKind) {
        lock(&self.counts).refused[kind as usize] += 1;
    }

    /// As the shards report their ports.
    pub(crate) fn counts(&self) -> TlsCounts {
        let shown = |fact: &Facts| (fact.serial.clone(), fact.not_after);
        let certificates = self.served.served().facts().map(shown).collect();
        let counts = lock(&self.counts);
        let refused = FailureKind::ALL.iter().zip(counts.refused);
        TlsCounts {
            port: NAME.to_owned(),
            under_way: counts.under_way,
            established: counts.established,
            resumed: counts.resumed,
            truncated: counts.truncated,
            refused: refused
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.as_str(), count))
                .collect(),
            certificates,
        }
    }
}
