//! HTTP clients: packets in, answers out.
//!
//! ```text
//! accept -> receive -> Reader -> POST /logs -> engine, the packet whole -> 202
//!                        |                          `- wait=acked -> receipt -> 200
//!                        `---> anything else -> question to the control side -> reply
//! ```
//!
//! A connection has one request at a time in hand; what comes behind it waits in `input`. Neither that
//! nor answers that nobody reads grow without bound: beyond [`HELD_BYTES_MAX`] nothing more is received.
//! Clients are received from into memory of their own, so that they are answered also when emitters have
//! filled theirs: with 503, not with silence.

use std::net::{IpAddr, Shutdown};
use std::time::Duration;

use super::admission::Door;
use super::io::Io;
use super::shared::HttpReport;
use super::slab::{bare, token, Kind, Slab, Slot};
use super::worker::{Phase, Worker};
use super::Config;
use crate::http::{self, HttpError, Reader, SeededIds, Step, TIMESTAMP_BYTES, UUID_BYTES};
use crate::uring::{Completion, Group};

/// Bytes of one client's input, and of answers to it, beyond which nothing more is received.
pub(super) const HELD_BYTES_MAX: usize = 256 * 1024;
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
    },
    /// Its last answer to be sent.
    Closing,
}

/// A connection of an HTTP client.
pub(super) struct Client<S> {
    /// Closed as soon as nothing more is sent or read.
    pub(super) socket: Option<S>,
    pub(super) peer: Option<IpAddr>,
    pub(super) reader: Reader,
    /// Received behind the request in hand.
    pub(super) input: Vec<u8>,
    /// Answers that wait for the send before them.
    pub(super) out: Vec<u8>,
    pub(super) stage: Stage,
    pub(super) keep_alive: bool,
    pub(super) http10: bool,
    pub(super) receiving: bool,
    pub(super) sending: bool,
    /// Too much is held: the receive was cancelled.
    pub(super) paused: bool,
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
    fn held_bytes(&self) -> usize {
        self.reader.buffered() + self.input.len() + self.out.len()
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
    /// Bytes held of all clients.
    pub(super) held_bytes: usize,
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
            held_bytes: 0,
            body: Vec::new(),
        }
    }

    /// What the shard reports of them.
    pub(super) fn report(&self, waiting: usize) -> HttpReport {
        HttpReport {
            connections: self.table.len(),
            waiting,
            held_bytes: self.held_bytes as u64,
            ..self.report.clone()
        }
    }

    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.report.refused.entry(reason).or_default() += 1;
    }

    /// Brings the count of held bytes up to date.
    fn count_held(&mut self, slot: Slot) {
        if let Some(client) = self.table.get_mut(slot) {
            let held = client.held_bytes();
            self.held_bytes = self.held_bytes + held - client.counted;
            client.counted = held;
        }
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(client) = self.table.remove(slot) {
            self.held_bytes -= client.counted;
        }
    }
}

impl<I: Io> Worker<I> {
    pub(super) fn on_accept_http(&mut self, completion: Completion) {
        match self.io.accepted(&completion) {
            Ok(socket) => self.add_client(socket),
            Err(error) => self.on_accept_error(&error),
        }
        if !completion.more() {
            self.rearm_accept(Kind::AcceptHttp, completion.result < 0);
        }
    }

    fn add_client(&mut self, socket: I::Socket) {
        if self.phase != Phase::Running {
            return;
        }
        let peer = self.io.peer(&socket).map(|peer| peer.ip().to_canonical());
        if let Err(reason) = self.admit_client(peer) {
            self.clients.refuse(reason);
            return;
        }
        self.clients.report.accepted += 1;
        let slot = self.clients.table.insert(Client {
            socket: Some(socket),
            peer,
            reader: Reader::new(),
            input: Vec::new(),
            out: Vec::new(),
            stage: Stage::Ready,
            keep_alive: true,
            http10: false,
            receiving: false,
            sending: false,
            paused: false,
            ended: false,
            pumped: false,
            since_ns: self.now_ns,
            counted: 0,
        });
        self.receive_from_client(slot);
    }

    /// Whether a client may connect; it is counted then.
    fn admit_client(&self, peer: Option<IpAddr>) -> Result<(), &'static str> {
        let protection = &self.live.protection;
        let allowed = peer.is_none_or(|peer| protection.allow_http.allows(peer));
        if !allowed {
            return Err("address_not_allowed");
        }
        let admission = &self.shared.admission;
        if !admission.enter_http(self.config.http.connections_max) {
            return Err("connection_limit");
        }
        let most = self.config.protection.connections_per_address_max;
        let Some(peer) = peer.filter(|_| most > 0) else {
            return Ok(());
        };
        if admission.enter(Door::Http, peer, most) {
            return Ok(());
        }
        admission.leave_http();
        Err("address_limit")
    }

    fn dismiss(&self, peer: Option<IpAddr>) {
        let admission = &self.shared.admission;
        admission.leave_http();
        let most = self.config.protection.connections_per_address_max;
        if let Some(peer) = peer.filter(|_| most > 0) {
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
        if let Some(chunk) = chunk {
            if client.stage != Stage::Closing {
                let bytes = self.io.bytes_of(Group::Http, chunk);
                self.turn_bytes += bytes.len();
                self.clients.held_bytes += bytes.len();
                client.input.extend_from_slice(bytes);
            }
            self.io.release(Group::Http, chunk);
        } else if completion.result == 0 || is_fatal(&completion) {
            client.ended = true;
        }
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
        loop {
            let is_full = |client: &Client<I::Socket>| client.out.len() > HELD_BYTES_MAX;
            let client = self.clients.table.get_mut(slot);
            let Some(client) = client.filter(|client| client.stage == Stage::Ready) else {
                return rest.len();
            };
            if is_full(client) {
                return rest.len();
            }
            if reader.is_idle() {
                client.since_ns = self.now_ns;
            }
            let mut ahead = rest;
            let step = reader.next(&mut ahead, &limits);
            let left = ahead.len();
            match step {
                Ok(Step::NeedMore) => return 0,
                Ok(Step::Continue) => client.out.extend_from_slice(http::CONTINUE),
                Ok(Step::Request(request)) => self.on_request(slot, &request),
                Err(error) => self.on_http_error(slot, &error),
            }
            rest = &rest[rest.len() - left..];
        }
    }

    /// What follows from a client's new state: receive less or more, send, close.
    fn after_serving(&mut self, slot: Slot) {
        self.clients.count_held(slot);
        let is_over = self.clients.held_bytes > self.config.http.memory_bytes_max;
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if is_over && client.reader.buffered() > 0 {
            self.answer_http_error(slot, &memory_full(self.config.http.memory_bytes_max));
        }
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        // A client that half-closes still gets the answers to what it asked.
        let answers = matches!(
            client.stage,
            Stage::Ack { .. } | Stage::Control { streams: false }
        );
        if client.ended && !answers {
            client.stage = Stage::Closing;
        }
        let waits = client.stage != Stage::Ready;
        let too_much =
            client.out.len() > HELD_BYTES_MAX || waits && client.input.len() > HELD_BYTES_MAX;
        if too_much && client.receiving && !client.paused {
            client.paused = true;
            self.io
                .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
        } else if !too_much && !client.receiving && !client.ended {
            self.receive_from_client(slot);
        }
        self.want_answer_sent(slot);
        self.close_client_if_done(slot);
    }

    fn want_answer_sent(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if !client.out.is_empty() && !client.sending && !client.pumped {
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
            if client.sending || client.out.is_empty() {
                continue;
            }
            client.sending = true;
            let bytes = std::mem::take(&mut client.out);
            self.io
                .send_bytes(socket, bytes, token(Kind::HttpSend, slot));
        }
    }

    pub(super) fn on_http_sent(&mut self, slot: Slot, completion: Completion) {
        let mut bytes = self.io.sent_bytes(completion.token);
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        client.sending = false;
        let sent = completion.count().unwrap_or(0);
        if sent < bytes.len() {
            // The kernel was cut short, or the client is gone.
            let is_gone = completion.count().is_err();
            bytes.drain(..sent);
            bytes.append(&mut client.out);
            client.out = bytes;
            if is_gone {
                client.stage = Stage::Closing;
                client.ended = true;
                client.out.clear();
            }
        } else if client.out.is_empty() && bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            client.out = bytes;
        }
        self.serve(slot);
    }

    pub(super) fn close_client_if_done(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        if client.stage != Stage::Closing || client.sending || !client.out.is_empty() {
            return;
        }
        if let Some(socket) = &client.socket {
            // Ends the receive. What the client sent and nobody reads must not reset the connection
            // before it has read the answer: the kernel lets it when only the writing side is shut.
            self.io.shutdown(socket, Shutdown::Both);
        }
        if client.receiving {
            if !client.paused {
                client.paused = true;
                self.io
                    .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
            }
            return;
        }
        let peer = client.peer;
        self.clients.forget(slot);
        self.dismiss(peer);
    }

    /// Requests that take too long, connections that say nothing.
    pub(super) fn check_clients(&mut self) {
        let (http, now_ns) = (&self.live.http, self.now_ns);
        let passed = |since: u64, limit: Duration| {
            u128::from(now_ns.saturating_sub(since)) >= limit.as_nanos()
        };
        let (head, whole, idle) = (http.head_timeout(), http.request_timeout, http.idle_timeout);
        let mut late: Vec<(Slot, Late)> = Vec::new();
        for (slot, client) in self.clients.table.iter() {
            let since = client.since_ns;
            let found = match client.stage {
                Stage::Ready if client.reader.is_idle() && client.input.is_empty() => {
                    passed(since, idle).then_some(Late::Idle)
                }
                Stage::Ready if client.reader.in_body() => {
                    passed(since, whole).then_some(Late::Request)
                }
                Stage::Ready => passed(since, head).then_some(Late::Request),
                Stage::Ack { .. } => passed(since, whole).then_some(Late::Ack),
                Stage::Control { streams: false } => passed(since, whole).then_some(Late::Control),
                Stage::Control { streams: true } => passed(since, whole).then_some(Late::Idle),
                Stage::Closing => passed(since, whole).then_some(Late::Idle),
            };
            late.extend(found.map(|found| (slot, found)));
        }
        for (slot, found) in late {
            self.on_late(slot, found);
        }
    }

    fn on_late(&mut self, slot: Slot, found: Late) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        match found {
            Late::Idle => {
                client.stage = Stage::Closing;
                client.out.clear();
                if let Some(socket) = &client.socket {
                    self.io.shutdown(socket, Shutdown::Both);
                }
            }
            Late::Request => {
                let limit = self.live.http.request_timeout;
                let head = self.live.http.head_timeout();
                let error = HttpError {
                    status: 408,
                    error: "request_timeout",
                    detail: format!("the head has {head:?}, the whole request {limit:?} (--http-request-timeout)"),
                    close: true,
                };
                self.answer_http_error(slot, &error);
            }
            Late::Ack => {
                self.answer_waiting(slot, 202, "queued");
                return;
            }
            Late::Control => {
                client.stage = Stage::Ready;
                client.keep_alive = false;
                self.clients.refuse("control_timeout");
                self.answer_error(slot, 503, "Service unavailable", "no answer in time", &[]);
            }
        }
        self.after_serving(slot);
    }

    /// The farewell: idle clients are closed, the others after the answer that they wait for.
    pub(super) fn dismiss_clients(&mut self) {
        self.io.cancel(bare(Kind::AcceptHttp), bare(Kind::Cancel));
        for slot in self.clients.table.slots() {
            let Some(client) = self.clients.table.get_mut(slot) else {
                continue;
            };
            client.keep_alive = false;
            let is_idle = client.stage == Stage::Ready && client.reader.is_idle();
            if is_idle || matches!(client.stage, Stage::Control { streams: true }) {
                client.stage = Stage::Closing;
            }
            self.after_serving(slot);
        }
    }

    /// The farewell is over: requests that have not arrived whole were never answered.
    pub(super) fn cut_off_clients(&mut self) {
        for slot in self.clients.table.slots() {
            let Some(client) = self.clients.table.get_mut(slot) else {
                continue;
            };
            if client.stage == Stage::Ready {
                client.stage = Stage::Closing;
            }
            self.after_serving(slot);
        }
    }
}

/// What has taken too long.
#[derive(Clone, Copy)]
enum Late {
    Idle,
    Request,
    Ack,
    Control,
}

fn memory_full(limit: usize) -> HttpError {
    HttpError {
        status: 503,
        error: "http_memory_full",
        detail: format!("requests that have not arrived whole would take more than {limit} bytes (--http-memory)"),
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
