//! Connections that a load balancer passes on: a PROXY header says first whose they are.
//!
//! ```text
//! accepted from a network of proxy_from -> header -> lists and limits, by the address in it -> the engine
//!          from anywhere else              refused
//! ```

use std::net::SocketAddr;

use super::emitters::number_of;
use super::{Emitter, Intake};
use crate::context::Context;
use crate::inputs::Taken;
use crate::port::{Chunk, Group, Io};
use crate::slab::Slot;
use weir_engine::Reason;
use weir_source::proxy::{self, Proxied};

/// So long nothing has come behind a line that may go on.
const QUIET_NS: u64 = 1_000_000_000;

/// A connection whose header has not come whole.
pub(super) struct Header {
    /// At most [`proxy::PROXY_BYTES_MAX`].
    bytes: Vec<u8>,
    since_ns: u64,
}

impl Header {
    pub(super) fn new(now_ns: u64) -> Box<Header> {
        Box::new(Header {
            bytes: Vec::new(),
            since_ns: now_ns,
        })
    }
}

impl<S> Emitter<S> {
    /// Who it is: what a proxy says, or the peer of its socket.
    pub(super) fn address<I: Io<Socket = S>>(&self, cx: &Context<I>) -> Option<SocketAddr> {
        let peer = || cx.io.peer(self.socket.as_ref()?);
        self.client.or_else(peer)
    }
}

impl<I: Io> Intake<I> {
    /// A connection that begins with a header comes from a proxy.
    pub(super) fn admit_proxy(
        &mut self,
        cx: &mut Context<I>,
        input: usize,
        socket: &I::Socket,
    ) -> Result<(), Reason> {
        let peer = cx.io.peer(socket).map(|peer| peer.ip().to_canonical());
        let peer = peer.ok_or(Reason::AddressUnknown)?;
        let place = &cx.shared.places()[input];
        if place.proxies.lists(peer) {
            return Ok(());
        }
        let (kind, now_ns) = (Reason::NoProxy.as_str(), cx.now_ns);
        if let Some(tail) = cx.shared.notice(&place.name, Some(peer), kind, now_ns) {
            log::warn!(
                "shard {}: {peer} refused by input {}: it is no proxy of proxy_from{tail}",
                cx.index,
                place.name
            );
        }
        Err(Reason::NoProxy)
    }

    /// Reads the header that a connection begins with; what lies behind it.
    pub(super) fn read_header(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        chunk: Chunk,
    ) -> Option<Chunk> {
        let emitter = self.table.get_mut(slot)?;
        let Some(mut header) = emitter.header.take() else {
            return Some(chunk);
        };
        let before = header.bytes.len();
        let came = cx.io.bytes_of(Group::Ingress, chunk);
        let room = proxy::PROXY_BYTES_MAX.saturating_sub(before);
        header.bytes.extend(came.iter().take(room));
        let why = match proxy::read(&header.bytes) {
            Ok(Proxied::NeedMore { .. }) => {
                emitter.header = Some(header);
                cx.io.release(Group::Ingress, chunk);
                return None;
            }
            Ok(Proxied::Header { used, client }) => {
                emitter.client = client;
                match self.admit_client(cx, slot) {
                    Ok(()) => {
                        let chunk = chunk.skip(used - before);
                        if chunk.is_empty() {
                            cx.io.release(Group::Ingress, chunk);
                            return None;
                        }
                        return Some(chunk);
                    }
                    Err(reason) => (reason, "its address may not connect".to_owned()),
                }
            }
            Err(error) => (Reason::ProxyHeader, error.to_string()),
        };
        let (reason, why) = why;
        if let Some(input) = self.table.get(slot).map(|emitter| emitter.input) {
            self.count(cx, input, reason);
        }
        self.reject(cx, slot, reason.as_str(), &why);
        cx.io.release(Group::Ingress, chunk);
        None
    }

    /// The client may connect, if its address may.
    fn admit_client(&mut self, cx: &mut Context<I>, slot: Slot) -> Result<(), Reason> {
        let Some(emitter) = self.table.get(slot) else {
            return Ok(());
        };
        let (input, address) = (emitter.input, emitter.address(cx).map(|it| it.ip()));
        let certificate = emitter.certificate.clone();
        let counted = self.admit_address(cx, input, address, certificate.as_deref())?;
        if let Some(emitter) = self.table.get_mut(slot) {
            emitter.counted = counted;
        }
        if let Some(address) = address.filter(|_| cx.shared.places()[input].port.joins()) {
            cx.engine.emitter_is_at(slot.index(), number_of(address));
        }
        Ok(())
    }

    /// Headers that take too long to arrive.
    pub(super) fn check_headers(&mut self, cx: &mut Context<I>) {
        let places = cx.shared.places();
        if places.iter().all(|place| place.proxies.is_empty()) {
            return;
        }
        let limit = u64::try_from(cx.config.frame_timeout.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = cx.now_ns;
        let is_late = |header: &Header| now_ns.saturating_sub(header.since_ns) >= limit;
        for slot in self.table.slots() {
            let emitter = self.table.get_mut(slot);
            let late = emitter.filter(|it| it.header.as_deref().is_some_and(is_late));
            let Some(input) = late.map(|emitter| {
                emitter.header = None;
                emitter.input
            }) else {
                continue;
            };
            self.count(cx, input, Reason::ProxyHeader);
            let why = "no PROXY header has come within --frame-timeout";
            self.reject(cx, slot, Reason::ProxyHeader.as_str(), why);
            self.close_if_finished(cx, slot);
        }
    }

    /// What only silence completes, after a second of it: a line of which the next one might have been a part.
    pub(super) fn take_quiet(&mut self, cx: &mut Context<I>) {
        let places = cx.shared.clone();
        if places.places().iter().all(|place| !place.port.text.joins) {
            return;
        }
        for slot in self.table.slots() {
            let Some(input) = self.table.get(slot).map(|emitter| emitter.input) else {
                continue;
            };
            if places.places()[input].port.text.joins {
                let before = Taken::of(&cx.engine.counters);
                if cx.engine.asks_whence() {
                    self.say_whence(cx, slot);
                }
                cx.engine.take_quiet(slot.index(), QUIET_NS);
                self.inputs[input].take(before, &cx.engine.counters);
            }
        }
    }
}
