//! A TCP analyzer of the compact dialect that keeps the text of its messages.

use std::net::SocketAddr;

use crate::{Acks, Analyzer, Dialect, Options};

/// A running one; closes when dropped.
pub struct FrameSink(Analyzer);

impl FrameSink {
    /// One that ACKs what it reads. The distributor may not know it yet.
    pub fn of(analyzers: SocketAddr, weight: f64) -> FrameSink {
        FrameSink::start(analyzers, weight, Acks::All)
    }

    /// One that ACKs nothing before it is told to.
    pub fn silent(analyzers: SocketAddr, weight: f64) -> FrameSink {
        FrameSink::start(analyzers, weight, Acks::Never)
    }

    fn start(analyzers: SocketAddr, weight: f64, acks: Acks) -> FrameSink {
        let options = Options::new(Dialect::Compact, weight).acks(acks).texts();
        FrameSink(Analyzer::connect(analyzers, &options))
    }

    /// Severity and payload of what it has read.
    pub fn frames(&self) -> Vec<(u8, String)> {
        self.0.texts()
    }

    /// Name in the distributor's tables of the one that came as number `nth` from this host, from 1.
    pub fn name(nth: usize) -> String {
        format!("127.0.0.1-{nth}")
    }

    /// The distributor has not closed it.
    pub fn is_open(&self) -> bool {
        !self.0.has_ended()
    }

    /// Whether it ACKs what it reads from now on.
    pub fn set_acks(&self, acks: bool) {
        self.0.set_acks(if acks { Acks::All } else { Acks::Never });
    }
}
