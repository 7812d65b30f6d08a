//! HTTP clients: packets in, answers out.
//!
//! ```text
//! accept -> receive -> Reader -> POST /logs -> engine, the packet whole -> 202
//!                        |                          `- wait=acked -> receipt -> 200
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

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown};

use super::admission::Door;
use super::callers::RateHeaders;
use super::port::Io;
use super::pressure::Unread;
use super::shared::HttpReport;
use super::slab::{bare, token, Kind, Slab, Slot};
use super::worker::{Phase, Worker};
use crate::port::{Completion, Group};
use weir_config::Config;
use weir_engine::{Reason, Ticket};
use weir_http as http;
use weir_http::{HttpError, Reader, SeededIds, Step};
use weir_http::{DATE_BYTES, TIMESTAMP_BYTES, UUID_BYTES};

/// Bytes of one client's input, and of answers to it, beyond which nothing more is received.
pub(super) const HELD_BYTES_MAX: usize = 256 * 1024;
/// The same for answers alone while all clients together hold too much: a few.
const PRESSED_BYTES_MAX: usize = 4 * 1024;
/// Thrown away at most of what a client sends behind its last request.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Kept by an idle connection.
const KEPT_BYTES: usize = 512;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its next request.
    Ready,
    /// The control side's reply; `streams` once a piece of it has come.
    Control { streams: bool },
    /// The ACK of its packet.
    Ack {
        packet: [u8; UUID_BYTES],
        messages: u32,
        ticket: Ticket,
    },
    /// Its last answer to be sent.
    Closing,
    /// That was sent, and this side closed: the client is to close as well.
    Lingering,
    /// Closed; the kernel is not through with it.
    Gone,
}

/// A connection of an HTTP client.
pub(super) struct Client<S> {
    /// Closed as soon as nothing more is sent or read.
    pub(super) socket: Option<S>,
    pub(super) peer: Option<IpAddr>,
    /// It has a place of `--max-per-address`.
    pub(super) has_place: bool,
    /// Who sent the request in hand: behind a trusted proxy not the peer.
    pub(super) caller: Option<IpAddr>,
    /// The request in hand asks for a name that is not known.
    pub(super) is_stranger: bool,
    /// It has sent something.
    was_heard: bool,
    /// What is left of the caller's rate, if there is one.
    pub(super) rate: Option<Box<RateHeaders>>,
    /// What its packet's answer says beside the rest.
    pub(super) warning: Option<Box<str>>,
    pub(super) reader: Reader,
    /// Received behind the request in hand.
    pub(super) input: Vec<u8>,
    /// Answers that wait for the send before them.
    pub(super) out: Vec<u8>,
    pub(super) stage: Stage,
    pub(super) keep_alive: bool,
    pub(super) http10: bool,
    /// The request in hand is HEAD: its answer has no body.
    pub(super) is_head: bool,
    /// The web page that may read the answer (the origin of the request in hand).
    pub(super) allowed_origin: Option<Box<str>>,
    pub(super) receiving: bool,
    /// Bytes of answers that the kernel is sending; 0: no send is under way.
    pub(super) sending_bytes: usize,
    /// When that send began.
    pub(super) sending_since_ns: u64,
    /// Answers that have been sent.
    pub(super) unread: Unread,
    /// The receive was cancelled, and has not ended yet.
    pub(super) paused: bool,
    /// Bytes thrown away behind its last request.
    pub(super) discarded_bytes: usize,
    /// The peer sends nothing more.
    pub(super) ended: bool,
    /// In the pump list.
    pub(super) pumped: bool,
    /// When the request in hand began, or the connection became idle.
    pub(super) since_ns: u64,
    /// Its part of [`Clients::held_bytes`].
    pub(super) counted: usize,
}

impl<S> Client<S> {
    /// Nothing waits to be sent, and nothing is being sent.
    pub(super) fn has_sent_all(&self) -> bool {
        self.out.is_empty() && self.sending_bytes == 0
    }

    /// It will not be served any more: what it sends is thrown away.
    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Lingering | Stage::Gone)
    }

    /// Gives up what it has sent and nobody has served.
    pub(super) fn drop_input(&mut self) {
        self.reader = Reader::new();
        self.input = Vec::new();
    }
}

/// A shard's side towards HTTP clients.
pub(super) struct Clients<S> {
    pub(super) table: Slab<Client<S>>,
    /// Clients that have something to send.
    pub(super) pump: Vec<Slot>,
    pub(super) report: HttpReport,
    pub(super) ids: SeededIds,
    pub(super) limits: http::Limits,
    pub(super) packet_limits: http::PacketLimits,
    /// The time as text, and the turn that it was asked for.
    pub(super) stamp: [u8; TIMESTAMP_BYTES],
    pub(super) stamp_ns: u64,
    /// The time as header Date, and the second that it was made for.
    pub(super) date: [u8; DATE_BYTES],
    pub(super) date_s: u64,
    /// Bytes held of all clients.
    pub(super) held_bytes: usize,
    /// Who waits for a ticket; of those that wait no more until it is done.
    pub(super) tickets: BTreeMap<Ticket, Slot>,
    pub(super) tickets_counted: Ticket,
    /// When a request came last.
    pub(super) asked_ns: u64,
    /// Reused: the body of an answer.
    pub(super) body: Vec<u8>,
}

impl<S> Clients<S> {
    /// For the clients of one shard; `seed` makes its ids differ from all others'.
    pub(super) fn new(config: &Config, seed: u64) -> Clients<S> {
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
        }
    }

    /// What the shard reports of them.
    pub(super) fn report(&self, waiting: usize) -> HttpReport {
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

    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.report.refused.entry(reason).or_default() += 1;
    }

    /// Brings the count of held bytes up to date.
    pub(super) fn count_held(&mut self, slot: Slot) {
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

impl<I: Io> Worker<I> {
    pub(super) fn on_accept_http(&mut self, completion: Completion) {
        match self.io.accepted(&completion) {
            Ok(socket) => self.add_client(socket),
            Err(error) => self.on_accept_error(&error),
        }
        self.accept_next(&completion);
    }

    fn add_client(&mut self, socket: I::Socket) {
        if self.phase != Phase::Running {
            return;
        }
        let peer = self.io.peer(&socket).map(|peer| peer.ip().to_canonical());
        let has_place = match self.admit_client(peer) {
            Ok(has_place) => has_place,
            Err(reason) => {
                self.clients.refuse(reason);
                return;
            }
        };
        self.clients.report.accepted += 1;
        let slot = self.clients.table.insert(Client {
            socket: Some(socket),
            peer,
            has_place,
            caller: peer,
            is_stranger: false,
            was_heard: false,
            rate: None,
            warning: None,
            reader: Reader::new(),
            input: Vec::new(),
            out: Vec::new(),
            stage: Stage::Ready,
            keep_alive: true,
            http10: false,
            is_head: false,
            allowed_origin: None,
            receiving: false,
            sending_bytes: 0,
            sending_since_ns: 0,
            unread: Unread::default(),
            paused: false,
            discarded_bytes: 0,
            ended: false,
            pumped: false,
            since_ns: self.awake_ns,
            counted: 0,
        });
        self.receive_from_client(slot);
    }

    /// Whether a client may connect; it is counted then. True: as one of its address as well.
    fn admit_client(&self, peer: Option<IpAddr>) -> Result<bool, &'static str> {
        let protection = &self.live.protection;
        let most = self.config.protection.connections_per_address_max;
        let is_open = protection.allow_http.is_empty() && protection.rate_limit.is_none();
        let Some(peer) = peer else {
            // It has reset the connection, and what it had sent can still be read: without an
            // address, so nothing of it may pass where addresses matter.
            if !is_open || most > 0 {
                return Err("address_unknown");
            }
            return self.enter_http().map(|()| false);
        };
        // Its requests are looked at one by one.
        let is_proxy = protection.trusted_proxies.lists(peer);
        if !is_proxy && !protection.allow_http.allows(peer) {
            return Err("address_not_allowed");
        }
        self.enter_http()?;
        let is_limited = most > 0 && !is_proxy;
        let admission = &self.shared.admission;
        if is_limited && !admission.enter(Door::Http, peer, most) {
            admission.leave_http();
            return Err("address_limit");
        }
        Ok(is_limited)
    }

    fn enter_http(&self) -> Result<(), &'static str> {
        let most = self.config.http.connections_max;
        let fits = self.shared.admission.enter_http(most);
        fits.then_some(()).ok_or("connection_limit")
    }

    fn dismiss(&self, peer: Option<IpAddr>) {
        let admission = &self.shared.admission;
        admission.leave_http();
        if let Some(peer) = peer {
            admission.leave(Door::Http, peer);
        }
    }

    fn receive_from_client(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &client.socket else {
            return;
        };
        client.receiving = true;
        client.paused = false;
        self.io
            .receive(socket, Group::Http, token(Kind::HttpReceive, slot));
    }

    pub(super) fn on_http_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Http, &completion);
        let Some(client) = self.clients.table.get_mut(slot) else {
            if let Some(chunk) = chunk {
                self.io.release(Group::Http, chunk);
            }
            return;
        };
        client.receiving = completion.more();
        client.paused &= client.receiving;
        let is_broken = is_fatal(&completion);
        if let Some(chunk) = chunk {
            let bytes = self.io.bytes_of(Group::Http, chunk);
            self.turn_bytes += bytes.len();
            client.was_heard = true;
            if client.is_leaving() {
                client.discarded_bytes += bytes.len();
            } else {
                client.input.extend_from_slice(bytes);
            }
            self.io.release(Group::Http, chunk);
        } else if completion.result == 0 {
            client.ended = true;
        }
        if is_broken {
            self.abort(slot);
            return;
        }
        self.clients.count_held(slot);
        self.serve(slot);
    }

    /// Handles the requests that have arrived whole, as far as there is none in hand.
    pub(super) fn serve(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if client.stage == Stage::Ready && !client.input.is_empty() {
            let mut reader = std::mem::take(&mut client.reader);
            let input = std::mem::take(&mut client.input);
            let rest = self.serve_input(slot, &mut reader, &input);
            // A request that waits for its answer needs its bytes no more.
            reader.settle();
            if let Some(client) = self.clients.table.get_mut(slot) {
                client.reader = reader;
                client.input = input;
                client.input.drain(..client.input.len() - rest);
                if client.input.is_empty() && client.input.capacity() > KEPT_BYTES {
                    client.input = Vec::new();
                }
            }
        }
        self.after_serving(slot);
    }

    /// Requests out of `input` until one has to wait; how many bytes are left.
    fn serve_input(&mut self, slot: Slot, reader: &mut Reader, input: &[u8]) -> usize {
        let mut rest = input;
        let limits = self.clients.limits;
        let answers_max = if self.holds_too_much() {
            PRESSED_BYTES_MAX
        } else {
            HELD_BYTES_MAX
        };
        loop {
            let client = self.clients.table.get_mut(slot);
            let Some(client) = client.filter(|client| client.stage == Stage::Ready) else {
                return rest.len();
            };
            if client.out.len() > answers_max {
                return rest.len();
            }
            let starts = reader.is_idle();
            let mut ahead = rest;
            let step = reader.next(&mut ahead, &limits);
            let left = ahead.len();
            match step {
                Ok(Step::NeedMore) => {
                    // Empty lines between requests are not the start of one.
                    if starts && !reader.is_idle() {
                        client.since_ns = self.awake_ns;
                    }
                    return 0;
                }
                Ok(Step::Continue) => {
                    if starts {
                        client.since_ns = self.awake_ns;
                    }
                    client.out.extend_from_slice(http::CONTINUE);
                }
                Ok(Step::Request(request)) => {
                    client.since_ns = self.awake_ns;
                    self.on_request(slot, &request);
                }
                Err(error) => {
                    self.warn_of_stranger(slot, &error, rest);
                    self.on_http_error(slot, &error);
                }
            }
            rest = &rest[rest.len() - left..];
        }
    }

    /// What follows from a client's new state: receive less or more, send, close.
    pub(super) fn after_serving(&mut self, slot: Slot) {
        self.clients.count_held(slot);
        self.relieve();
        self.conclude(slot);
    }

    /// The same when nothing has to be given up.
    pub(super) fn conclude(&mut self, slot: Slot) {
        self.heed_end(slot);
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if client.is_leaving() {
            client.drop_input();
        }
        self.clients.count_held(slot);
        self.regulate_receive(slot);
        self.want_answer_sent(slot);
        self.close_client_if_done(slot);
    }

    /// A client that half-closes still gets the answers to all that it asked.
    fn heed_end(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if !client.ended {
            return;
        }
        match client.stage {
            Stage::Ready if !client.input.is_empty() => {}
            Stage::Ready if client.reader.is_idle() => client.stage = Stage::Closing,
            Stage::Ready => self.answer_http_error(slot, &incomplete()),
            Stage::Control { streams: true } => client.stage = Stage::Closing,
            _ => {}
        }
    }

    fn regulate_receive(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let is_wanted = !client.ended
            && match client.stage {
                Stage::Ready => client.out.len() <= HELD_BYTES_MAX,
                Stage::Control { .. } | Stage::Ack { .. } => client.input.len() <= HELD_BYTES_MAX,
                Stage::Closing | Stage::Lingering => client.discarded_bytes <= DISCARDED_BYTES_MAX,
                Stage::Gone => false,
            };
        if is_wanted && !client.receiving {
            self.receive_from_client(slot);
        } else if !is_wanted && client.receiving && !client.paused {
            client.paused = true;
            self.io
                .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
        }
    }

    fn want_answer_sent(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if !client.out.is_empty() && client.sending_bytes == 0 && !client.pumped {
            client.pumped = true;
            self.clients.pump.push(slot);
        }
    }

    /// Sends the answers of this turn, one send for each client.
    pub(super) fn send_answers(&mut self) {
        while let Some(slot) = self.clients.pump.pop() {
            let Some(client) = self.clients.table.get_mut(slot) else {
                continue;
            };
            client.pumped = false;
            let Some(socket) = client.socket.as_ref() else {
                continue;
            };
            if client.sending_bytes > 0 || client.out.is_empty() {
                continue;
            }
            let bytes = std::mem::take(&mut client.out);
            client.sending_bytes = bytes.len();
            client.sending_since_ns = self.awake_ns;
            self.io
                .send_bytes(socket, bytes, token(Kind::HttpSend, slot));
        }
    }

    pub(super) fn on_http_sent(&mut self, slot: Slot, completion: Completion) {
        let mut bytes = self.io.sent_bytes(completion.token);
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        client.sending_bytes = 0;
        let Ok(sent) = completion.count() else {
            self.abort(slot);
            return;
        };
        if client.stage == Stage::Gone {
            self.bury_client(slot);
            return;
        }
        self.note_sent(slot, sent);
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if sent < bytes.len() {
            // The kernel was cut short.
            bytes.drain(..sent);
            bytes.append(&mut client.out);
            client.out = bytes;
        } else if client.out.is_empty() && bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            client.out = bytes;
        }
        self.serve(slot);
    }

    /// Closes once the last answer has been sent and the client has seen it: it closes as well, or has
    /// had its time (`check_clients`), or goes on and on.
    pub(super) fn close_client_if_done(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let is_over = client.ended || client.discarded_bytes > DISCARDED_BYTES_MAX;
        match client.stage {
            Stage::Closing if client.has_sent_all() && !is_over => {
                if let Some(socket) = &client.socket {
                    self.io.shutdown(socket, Shutdown::Write);
                }
                client.stage = Stage::Lingering;
                client.since_ns = self.awake_ns;
            }
            Stage::Closing if client.has_sent_all() => self.hang_up(slot),
            Stage::Lingering if is_over => self.hang_up(slot),
            Stage::Gone => self.bury_client(slot),
            _ => {}
        }
    }

    /// The client is gone, or is not worth waiting for: what was to be sent to it is dropped.
    pub(super) fn abort(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if let Some(socket) = &client.socket {
            self.io.drop_unsent_on_close(socket);
        }
        client.out = Vec::new();
        self.hang_up(slot);
    }

    /// Closes both directions; the connection is forgotten when the kernel is through with it.
    pub(super) fn hang_up(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if client.stage != Stage::Gone {
            client.stage = Stage::Gone;
            client.drop_input();
            if let Some(socket) = &client.socket {
                // Ends what is under way.
                self.io.shutdown(socket, Shutdown::Both);
            }
            if client.receiving && !client.paused {
                client.paused = true;
                self.io
                    .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
            }
        }
        self.clients.count_held(slot);
        self.bury_client(slot);
    }

    fn bury_client(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if client.stage != Stage::Gone || client.receiving || client.sending_bytes > 0 {
            return;
        }
        let peer = client.peer.filter(|_| client.has_place);
        self.clients.forget(slot);
        self.dismiss(peer);
    }
}

fn incomplete() -> HttpError {
    HttpError {
        status: 400,
        error: "incomplete_request",
        detail: "the connection was closed before the request was whole".to_owned(),
        close: true,
    }
}

/// The connection cannot go on; a receive that merely ended can.
fn is_fatal(completion: &Completion) -> bool {
    match completion.count() {
        Ok(_) => false,
        Err(error) => !matches!(
            error.raw_os_error(),
            Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
        ),
    }
}
