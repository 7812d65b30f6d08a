//! One request after the other, out of what has arrived.

use std::net::IpAddr;

use super::unread::Unread;
use super::{Client, Clients, Stage, HELD_BYTES_MAX, KEPT_BYTES, PRESSED_BYTES_MAX};
use crate::admission::{Customer, ListenerKind};
use crate::context::{Context, Phase};
use crate::port::{Completion, Group, Io};
use crate::slab::{token, Kind, Slot};
use weir_http as http;
use weir_http::{Reader, Step};

impl<I: Io> Clients<I> {
    pub(crate) fn add(&mut self, cx: &mut Context<I>, socket: I::Socket) {
        if cx.phase != Phase::Running {
            return;
        }
        let peer = cx.io.peer(&socket).map(|peer| peer.ip().to_canonical());
        let certificate = cx.certificate_of(&socket);
        let place = match self.admit_client(cx, peer, certificate.as_deref()) {
            Ok(place) => place,
            Err(reason) => {
                self.refuse(reason);
                return;
            }
        };
        self.report.accepted += 1;
        let slot = self.table.insert(Client {
            socket: Some(socket),
            peer,
            certificate,
            place,
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
            since_ns: cx.awake_ns,
            age: self.ages.begin(cx.awake_ns),
            is_dismissed: false,
            counted: 0,
        });
        self.receive_from_client(cx, slot);
    }

    /// Whether a client may connect; it is counted then. Some: as one of those that are one client as well.
    fn admit_client(
        &self,
        cx: &Context<I>,
        peer: Option<IpAddr>,
        certificate: Option<&str>,
    ) -> Result<Option<Customer>, &'static str> {
        let protection = &cx.live.protection;
        let most = cx.config.protection.connections_per_address_max;
        let is_open = protection.allow_http.is_empty() && protection.rate_limit.is_none();
        let Some(peer) = peer else {
            // It has reset the connection, and what it had sent can still be read: without an
            // address, so nothing of it may pass where addresses matter.
            if !is_open || most > 0 {
                return Err("address_unknown");
            }
            return self.enter_http(cx).map(|()| None);
        };
        // Its requests are looked at one by one.
        let is_proxy = protection.trusted_proxies.lists(peer);
        if !is_proxy && !protection.allow_http.allows(peer) {
            return Err("address_not_allowed");
        }
        self.enter_http(cx)?;
        if most == 0 || is_proxy {
            return Ok(None);
        }
        let admission = &cx.shared.admission;
        let customer = cx.customer(peer, certificate);
        if !admission.enter(ListenerKind::Http, customer, most) {
            admission.leave_http();
            return Err("address_limit");
        }
        Ok(Some(customer))
    }

    fn enter_http(&self, cx: &Context<I>) -> Result<(), &'static str> {
        let most = cx.config.http.connections_max;
        let fits = cx.shared.admission.enter_http(most);
        fits.then_some(()).ok_or("connection_limit")
    }

    pub(crate) fn on_receive(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let chunk = cx.io.chunk(Group::Http, &completion);
        let Some(client) = self.table.get_mut(slot) else {
            if let Some(chunk) = chunk {
                cx.io.release(Group::Http, chunk);
            }
            return;
        };
        client.receiving = completion.more();
        client.paused &= client.receiving;
        let is_broken = is_fatal(&completion);
        if let Some(chunk) = chunk {
            let bytes = cx.io.bytes_of(Group::Http, chunk);
            cx.turn_bytes += bytes.len();
            client.was_heard = true;
            if client.is_leaving() {
                client.discarded_bytes += bytes.len();
            } else {
                client.input.extend_from_slice(bytes);
            }
            cx.io.release(Group::Http, chunk);
        } else if completion.result == 0 {
            client.ended = true;
        }
        if is_broken {
            self.abort(cx, slot);
            return;
        }
        self.count_held(slot);
        self.serve(cx, slot);
    }

    /// Handles the requests that have arrived whole, as far as there is none in hand.
    pub(crate) fn serve(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if client.stage == Stage::Ready && !client.input.is_empty() {
            let mut reader = std::mem::take(&mut client.reader);
            let input = std::mem::take(&mut client.input);
            let rest = self.serve_input(cx, slot, &mut reader, &input);
            // A request that waits for its answer needs its bytes no more.
            reader.settle();
            if let Some(client) = self.table.get_mut(slot) {
                client.reader = reader;
                client.input = input;
                client.input.drain(..client.input.len() - rest);
                if client.input.is_empty() && client.input.capacity() > KEPT_BYTES {
                    client.input = Vec::new();
                }
            }
        }
        self.after_serving(cx, slot);
    }

    /// Requests out of `input` until one has to wait; how many bytes are left.
    fn serve_input(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        reader: &mut Reader,
        input: &[u8],
    ) -> usize {
        let mut rest = input;
        let limits = self.limits;
        let answers_max = if self.holds_too_much(cx) {
            PRESSED_BYTES_MAX
        } else {
            HELD_BYTES_MAX
        };
        loop {
            let client = self.table.get_mut(slot);
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
                        client.since_ns = cx.awake_ns;
                    }
                    return 0;
                }
                Ok(Step::Continue) => {
                    if starts {
                        client.since_ns = cx.awake_ns;
                    }
                    client.out.extend_from_slice(http::CONTINUE);
                }
                Ok(Step::Request(request)) => {
                    client.since_ns = cx.awake_ns;
                    self.on_request(cx, slot, &request);
                }
                Err(error) => {
                    self.warn_of_stranger(cx, slot, &error, rest);
                    self.on_http_error(cx, slot, &error);
                }
            }
            rest = &rest[rest.len() - left..];
        }
    }

    /// What follows from a client's new state: receive less or more, send, close.
    pub(super) fn after_serving(&mut self, cx: &mut Context<I>, slot: Slot) {
        self.count_held(slot);
        self.relieve(cx);
        self.conclude(cx, slot);
    }

    /// Sends the answers of this turn, one send for each client.
    pub(crate) fn send_answers(&mut self, cx: &mut Context<I>) {
        while let Some(slot) = self.pump.pop() {
            let Some(client) = self.table.get_mut(slot) else {
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
            client.sending_since_ns = cx.awake_ns;
            cx.io.send_bytes(socket, bytes, token(Kind::HttpSend, slot));
        }
    }

    pub(crate) fn on_sent(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let mut bytes = cx.io.sent_bytes(completion.token);
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        client.sending_bytes = 0;
        let Ok(sent) = completion.count() else {
            self.abort(cx, slot);
            return;
        };
        if client.stage == Stage::Gone {
            self.bury_client(cx, slot);
            return;
        }
        self.note_sent(cx, slot, sent);
        let Some(client) = self.table.get_mut(slot) else {
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
        self.serve(cx, slot);
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
