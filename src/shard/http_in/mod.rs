//! HTTP clients: packets in, answers out.
//!
//! ```text
//! accept -> receive -> Reader -> POST /logs -> engine, the packet whole -> 202
//!                        |                          `- wait=acked -> receipt -> 200, 422, 504
//!                        `---> anything else -> question to the control side -> reply
//! ```
//!
//! A connection has one request at a time in hand; what comes behind it waits in `input`. Neither that
//! nor answers that nobody reads grow without bound: beyond [`HELD_BYTES_MAX`] nothing more is received
//! from a client, and beyond `--http-memory` of all clients of the shard those that hold most for longest give it
//! up (`pressure.rs`).
//! Clients are received from into memory of their own, so that they are answered also when emitters have
//! filled theirs: with 503, not with silence.
//!
//! ```text
//! Ready <-> Control, Ack                 waits.rs: what takes too long
//!   `-> Closing     the last answer is sent; what comes is thrown away
//!         `-> Lingering    half-closed until the client closes: a reset would take the answer from it
//!               `-> Gone   the kernel has requests of it still
//! ```
//!
//! ```text
//! serve.rs     accept, receive, one request after the other     answer.rs   an answer's bytes
//! requests.rs  what is asked; callers.rs: by whom               replies.rs  answers that came later
//! preferences.rs  what its answer shall be                      close.rs    receive less, send, end
//! pressure.rs  what is held; unread.rs: of it in the kernel     rate.rs     what is said of a rate
//! waits.rs     what takes too long                              farewell.rs  who is asked to go, and when
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::admission::Customer;
use crate::farewell::{Age, Ages, Spread};
use crate::hops;
use crate::port::Io;
use crate::shared::HttpReport;
use crate::slab::{token, Kind, Slab, Slot};
use rate::RateHeaders;
use unread::Unread;
use weir_config::Config;
use weir_engine::{Reason, Ticket};
use weir_http as http;
use weir_http::{Reader, SeededIds};
use weir_http::{DATE_BYTES, TIMESTAMP_BYTES, UUID_BYTES};

mod answer;
mod callers;
mod close;
mod farewell;
mod preferences;
mod pressure;
mod rate;
mod replies;
mod requests;
mod serve;
#[cfg(test)]
mod tests;
mod unread;
mod waits;

/// Bytes of one client's input, and of answers to it, beyond which nothing more is received.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// The same for answers alone while all clients together hold too much: a few.
const PRESSED_BYTES_MAX: usize = 4 * 1024;
/// Thrown away at most of what a client sends behind its last request.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Kept by an idle connection.
const KEPT_BYTES: usize = 512;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its next request.
    Ready,
    /// The control side's reply; `streams` once a piece of it has come.
    Control { streams: bool },
    /// The ACK of its packet.
    Ack(AckWait),
    /// Its last answer to be sent.
    Closing,
    /// That was sent, and this side closed: the client is to close as well.
    Lingering,
    /// Closed; the kernel is not through with it.
    Gone,
}

/// A packet whose client waits for analyzers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AckWait {
    packet: [u8; UUID_BYTES],
    messages: u32,
    ticket: Ticket,
    /// When time runs out it is answered 202.
    is_async: bool,
}

/// A connection of an HTTP client.
struct Client<S> {
    /// Closed as soon as nothing more is sent or read.
    socket: Option<S>,
    peer: Option<IpAddr>,
    /// Whom its certificate names.
    certificate: Option<Arc<str>>,
    /// Who it counts as for `--max-per-address`, if it is counted.
    place: Option<Customer>,
    /// Who sent the request in hand: behind a trusted proxy not the peer.
    caller: Option<IpAddr>,
    /// The request in hand asks for a name that is not known.
    is_stranger: bool,
    /// It has sent something.
    was_heard: bool,
    /// What is left of the caller's rate, if there is one.
    rate: Option<Box<RateHeaders>>,
    /// What its packet's answer says beside the rest.
    warning: Option<Box<str>>,
    reader: Reader,
    /// Received behind the request in hand.
    input: Vec<u8>,
    /// Answers that wait for the send before them.
    out: Vec<u8>,
    stage: Stage,
    keep_alive: bool,
    http10: bool,
    /// The request in hand is HEAD: its answer has no body.
    is_head: bool,
    /// The web page that may read the answer (the origin of the request in hand).
    allowed_origin: Option<Box<str>>,
    receiving: bool,
    /// Bytes of answers that the kernel is sending; 0: no send is under way.
    sending_bytes: usize,
    /// When that send began.
    sending_since_ns: u64,
    /// Answers that have been sent.
    unread: Unread,
    /// The receive was cancelled, and has not ended yet.
    paused: bool,
    /// Bytes thrown away behind its last request.
    discarded_bytes: usize,
    /// The peer sends nothing more.
    ended: bool,
    /// In the pump list.
    pumped: bool,
    /// When the request in hand began, or the connection became idle.
    since_ns: u64,
    age: Age,
    /// It is to go: its next answer is its last.
    is_dismissed: bool,
    /// Its part of [`Clients::held_bytes`].
    counted: usize,
}

impl<S> Client<S> {
    /// Nothing waits to be sent, and nothing is being sent.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.out.is_empty() && self.sending_bytes == 0
    }

    /// It will not be served any more: what it sends is thrown away.
    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Lingering | Stage::Gone)
    }

    /// Gives up what it has sent and nobody has served.
    pub(crate) fn drop_input(&mut self) {
        self.reader = Reader::new();
        self.input = Vec::new();
    }
}

/// A shard's side towards HTTP clients.
pub(super) struct Clients<I: Io> {
    table: Slab<Client<I::Socket>>,
    /// Clients that have something to send.
    pump: Vec<Slot>,
    report: HttpReport,
    ids: SeededIds,
    limits: http::Limits,
    packet_limits: http::PacketLimits,
    /// The time as text, and the turn that it was asked for.
    stamp: [u8; TIMESTAMP_BYTES],
    stamp_ns: u64,
    /// The time as header Date, and the second that it was made for.
    date: [u8; DATE_BYTES],
    date_s: u64,
    /// Bytes held of all clients.
    held_bytes: usize,
    /// Who waits for a ticket; of those that wait no more until it is done.
    tickets: BTreeMap<Ticket, Slot>,
    tickets_counted: Ticket,
    /// When a request came last.
    asked_ns: u64,
    /// Reused: the body of an answer.
    body: Vec<u8>,
    /// What this distributor calls itself in `Via`.
    pseudonym: String,
    ages: Ages,
    /// Farewells at SIGTERM that are not all said.
    spread: Option<Spread>,
}

impl<I: Io> Clients<I> {
    /// For the clients of one shard; `seed` makes its ids differ from all others'.
    pub(crate) fn new(config: &Config, seed: u64) -> Clients<I> {
        let settings = &config.http;
        Clients {
            table: Slab::new(),
            pump: Vec::new(),
            report: HttpReport::default(),
            ids: SeededIds::from_u64(seed),
            limits: http::Limits {
                head_bytes: settings.head_bytes_max,
                body_bytes: settings.body_bytes_max,
                inflated_bytes: settings.inflated_bytes_max,
                ..http::Limits::default()
            },
            packet_limits: http::PacketLimits {
                messages_max: settings.messages_max,
                message_bytes_max: config.frame_bytes_max as usize,
                ..http::PacketLimits::default()
            },
            stamp: http::iso8601(0),
            stamp_ns: u64::MAX,
            date: http::http_date(0),
            date_s: 0,
            held_bytes: 0,
            tickets: BTreeMap::new(),
            tickets_counted: 0,
            asked_ns: 0,
            body: Vec::new(),
            pseudonym: hops::pseudonym(config.instance),
            ages: Ages::new(!seed.rotate_left(32)),
            spread: None,
        }
    }

    /// What the shard reports of them.
    pub(crate) fn report(&self, waiting: usize) -> HttpReport {
        HttpReport {
            connections: self.table.len(),
            waiting,
            held_bytes: self.held_bytes as u64,
            unread_bytes: self
                .table
                .iter()
                .map(|(_, client)| client.unread.bytes() as u64)
                .sum(),
            ..self.report.clone()
        }
    }

    pub(crate) fn refuse(&mut self, reason: &'static str) {
        *self.report.refused.entry(reason).or_default() += 1;
    }

    /// Brings the count of held bytes up to date.
    pub(crate) fn count_held(&mut self, slot: Slot) {
        if let Some(client) = self.table.get_mut(slot) {
            let held = client.held_bytes();
            self.held_bytes = self.held_bytes + held - client.counted;
            client.counted = held;
        }
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(client) = self.table.remove(slot) {
            self.held_bytes -= client.counted;
            if !client.was_heard {
                self.refuse(Reason::Probe.as_str());
            }
        }
    }
}

impl<I: Io> Clients<I> {
    /// Somebody is connected.
    pub(crate) fn remain(&self) -> bool {
        self.table.len() > 0
    }

    /// When a request came last.
    pub(crate) fn asked_ns(&self) -> u64 {
        self.asked_ns
    }

    /// What they have brought so far.
    pub(crate) fn counts(&self) -> &HttpReport {
        &self.report
    }

    /// The receives that may be under way.
    pub(crate) fn receives(&self) -> impl Iterator<Item = u64> {
        let slots = self.table.slots().into_iter();
        slots.map(|slot| token(Kind::HttpReceive, slot))
    }
}
