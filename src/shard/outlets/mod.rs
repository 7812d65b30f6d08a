//! Analyzers that were not written for Weir: records out of their lanes go as packets over one connection that each
//! shard makes, and their answers come back over it.
//!
//! ```text
//! lane -> records -> packets  [ through | in flight | through | in flight ]  -> one send at a time
//!                      ^ ACKed up to here: packets may be through in any order, a lane is ACKed from its front
//!      <- answer: through, or this message is for others
//!      <- closed with nothing in flight: connected again when there is something to send
//!      <- closed otherwise, an answer that cannot be followed, or none in time: the analyzer is down, and what it
//!         has not ACKed goes to others
//! ```
//!
//! Nothing is kept for a second try: the lane has it until the ACK. What a packet looks like and what an answer means
//! is the outlet's affair (`src/sink/outlet`).
//!
//! ```text
//! pump.rs      lane -> records -> packets -> sends      answers.rs   what a connection brings, what that means
//! links.rs     analyzers come and go                    check.rs     what takes too long
//! flight.rs    packets in flight, how far the lane is   refused.rs   messages that the analyzer does not take
//! lag.rs       analyzers that answer nothing
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::operator::HttpTarget;
use crate::port::Io;
use crate::shared::HttpAnalyzerReport;
use crate::slab::{Slab, Slot};
use weir_engine::{LinkEpoch, Transmit};
use weir_http::SeededIds;
use weir_sink::outlet::Outlet;

mod answers;
mod check;
mod flight;
mod lag;
mod links;
mod pump;
mod refused;

use flight::Flight;
use lag::Lag;
pub(crate) use refused::Aside;
use refused::Said;

/// Bytes of a send: packets are gathered up to here. Less than a turn brings for one analyzer costs a turn of its own for
/// the rest; more than a core's cache holds is written and read in memory.
const SEND_BYTES: usize = 512 << 10;
/// Most bytes of an answer that is not whole yet.
const PARTIAL_BYTES_MAX: usize = 64 << 10;

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no connection; one is made when there is something to send.
    Away,
    Connecting,
    /// Greetings are under way.
    Greeting,
    Open,
    /// The analyzer said goodbye: what is in flight may still be answered, nothing more is sent.
    Closing,
}

/// This shard's way to one analyzer.
struct Link {
    generation: u64,
    analyzer: u32,
    target: Arc<HttpTarget>,
    stage: Stage,
    connection: Option<Slot>,
    outlet: Outlet,
    /// A range of the lane that is not packed yet, from `offset` on.
    range: Option<(Transmit, u32)>,
    /// The beginning of a record whose rest lies in the next range.
    partial: Vec<u8>,
    flight: Flight,
    lag: Lag,
    /// Messages that were refused and wait for room in another lane, and their statuses.
    homeless: Vec<(u64, u16)>,
    /// To be sent.
    out: Vec<u8>,
    /// When the oldest packet was through, when the analyzer last said that it lives, or when the first packet went
    /// after a silence of ours.
    heard_ns: u64,
    report: HttpAnalyzerReport,
}

/// A connection to an analyzer.
struct Connection<S> {
    socket: S,
    link: LinkEpoch,
    /// Where it leads.
    address: SocketAddr,
    connecting: bool,
    receiving: bool,
    sending: bool,
    /// Waits for the kernel to be through with it.
    closing: bool,
    /// The beginning of an answer that is not whole.
    partial: Vec<u8>,
}

/// A shard's side towards analyzers that were not written for Weir.
pub(super) struct Outlets<I: Io> {
    links: BTreeMap<LinkEpoch, Link>,
    connections: Slab<Connection<I::Socket>>,
    /// Links that may have something to send.
    pump: Vec<LinkEpoch>,
    /// Messages that nobody takes, by link and number, with their statuses. Each holds its place in a window.
    asides: VecDeque<(LinkEpoch, u64, u16)>,
    /// Of those that were before them: on their way to where they are set aside.
    asides_out: usize,
    said: Said,
    salts: SeededIds,
    instance: u64,
    /// Moves of analyzers that were looked at.
    moves_seen: u64,
}

impl<I: Io> Outlets<I> {
    pub(crate) fn new(seed: u64, instance: u64) -> Outlets<I> {
        Outlets {
            links: BTreeMap::new(),
            connections: Slab::new(),
            pump: Vec::new(),
            asides: VecDeque::new(),
            asides_out: 0,
            said: Said::default(),
            salts: SeededIds::from_u64(seed),
            instance,
            moves_seen: 0,
        }
    }

    /// What the shard reports of each analyzer.
    pub(crate) fn reports(&self) -> Vec<HttpAnalyzerReport> {
        let report = |link: &Link| HttpAnalyzerReport {
            analyzer: link.analyzer,
            connections: usize::from(link.connection.is_some()),
            in_flight: link.flight.packets(),
            ..link.report.clone()
        };
        self.links.values().map(report).collect()
    }

    /// The link of an analyzer's present time.
    pub(crate) fn link_of(&self, generation: u64) -> Option<LinkEpoch> {
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| link.generation == generation);
        found.map(|(epoch, _)| *epoch)
    }

    /// A link may have something to send.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pump.is_empty()
    }

    fn want_pump(&mut self, epoch: LinkEpoch) {
        if !self.pump.contains(&epoch) {
            self.pump.push(epoch);
        }
    }
}

impl Link {
    /// The analyzer owes answers.
    fn owes(&self) -> bool {
        self.flight.packets() > 0
    }
}
