//! Out of the lane, into packets, onto the connection.

use std::io;
use std::sync::Arc;

use super::{Connection, Link, Outlets, Stage, SEND_BYTES};
use crate::context::Context;
use crate::local::LocalEnds;
use crate::port::Io;
use crate::slab::{token, Kind};
use weir_engine::{LaneId, LinkEpoch, Memory, Span};
use weir_protocol::record::Record;
use weir_sink::outlet::{Identity, Message, Pushed, Stamp};

impl<I: Io> Outlets<I> {
    /// A lane towards such an analyzer got something.
    pub(crate) fn want_send(&mut self, epoch: LinkEpoch) {
        if self.links.contains_key(&epoch) {
            self.want_pump(epoch);
        }
    }

    /// Sends what there is, as far as the analyzers' windows have room.
    pub(crate) fn send(&mut self, cx: &mut Context<I>) {
        while let Some(epoch) = self.pump.pop() {
            self.send_next(cx, epoch);
        }
    }

    /// A connection for a link that has none.
    pub(super) fn connect(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let slot = self.connections.next_slot();
        let address = link.target.at.address();
        if let Some(ends) = link.target.at.local() {
            let ends = Arc::clone(ends);
            return self.take_end(cx, epoch, &ends);
        }
        let secured = link.target.secured.as_ref();
        match cx
            .io
            .connect(address, secured, token(Kind::OutletConnect, slot))
        {
            Ok(socket) => {
                let made = self.connections.insert(Connection {
                    socket,
                    link: epoch,
                    address,
                    connecting: true,
                    receiving: false,
                    sending: false,
                    closing: false,
                    partial: Vec::new(),
                });
                debug_assert_eq!(made, slot);
                link.connection = Some(slot);
                link.stage = Stage::Connecting;
                link.heard_ns = cx.awake_ns;
            }
            Err(error) => self.give_up(cx, epoch, &format!("no socket: {error}")),
        }
    }

    /// The same for an analyzer that is connected already: once, there is no second connection to it.
    fn take_end(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, ends: &LocalEnds) {
        let end = ends
            .take(cx.index)
            .ok_or(io::ErrorKind::NotConnected.into());
        let socket = match end.and_then(|end| cx.io.adopt(end)) {
            Ok(socket) => socket,
            Err(error) => {
                let why = ends.why_ended().map(str::to_owned);
                let why = why.unwrap_or_else(|| format!("its end is closed: {error}"));
                return self.give_up(cx, epoch, &why);
            }
        };
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let slot = self.connections.insert(Connection {
            socket,
            link: epoch,
            address: link.target.at.address(),
            connecting: false,
            receiving: false,
            sending: false,
            closing: false,
            partial: Vec::new(),
        });
        link.connection = Some(slot);
        self.on_open(cx, epoch, slot);
    }

    /// Packs and sends what is next, if nothing is being sent.
    fn send_next(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let slot = match (link.stage, link.connection) {
            (Stage::Away, _) => {
                let has_something = link.range.is_some()
                    || cx
                        .engine
                        .lane_of(epoch)
                        .is_some_and(|lane| cx.engine.has_unsent(lane));
                if has_something {
                    self.connect(cx, epoch);
                }
                return;
            }
            (Stage::Open | Stage::Greeting, Some(slot)) => slot,
            _ => return,
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.sending {
            return;
        }
        if link.stage == Stage::Open {
            link.pack(cx, epoch, self.instance);
        }
        if link.out.is_empty() {
            return;
        }
        connection.sending = true;
        cx.engine.counters.sends += 1;
        cx.engine.counters.sent_bytes += link.out.len() as u64;
        let bytes = std::mem::take(&mut link.out);
        let token = token(Kind::OutletSend, slot);
        cx.io.send_bytes(&connection.socket, bytes, token);
    }
}

/// What packets are made with.
struct Packing {
    stamp: Stamp,
    instance: u64,
    epoch: LinkEpoch,
    now_ns: u64,
    /// Messages of the packet that is open, and where it begins in `out`.
    messages: u64,
    start: usize,
    /// Messages that may still be put on their way, and how long `out` may become.
    messages_left: u64,
    bytes_end: usize,
}

impl Link {
    /// Makes packets of what the lane has, as many as a send takes and the window has room for.
    fn pack<I: Io>(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, instance: u64) {
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return;
        };
        if !self.owes() {
            self.heard_ns = cx.awake_ns;
        }
        let on_their_way = self.flight.messages() + self.flight.homeless();
        let bytes_left = u64::from(self.target.outlet.in_flight_bytes);
        let bytes_left = bytes_left.saturating_sub(self.flight.bytes());
        let bytes_end = self.out.len() as u64 + bytes_left;
        let mut packing = Packing {
            stamp: Stamp::at(cx.io.unix_ms()),
            instance,
            epoch,
            now_ns: cx.awake_ns,
            messages: 0,
            start: self.out.len(),
            messages_left: self.outlet.messages_max().saturating_sub(on_their_way),
            bytes_end: usize::try_from(bytes_end).map_or(SEND_BYTES, |end| end.min(SEND_BYTES)),
        };
        while self.has_room(&packing) && self.fill(cx, lane) {
            self.take_records(cx, &mut packing);
        }
        self.close(&mut packing);
    }

    /// More may be put on its way.
    #[inline]
    fn has_room(&self, packing: &Packing) -> bool {
        self.out.len() < packing.bytes_end
            && packing.messages_left > 0
            && (packing.messages > 0 || self.flight.packets() < self.outlet.packets_max())
    }

    /// There is a range of the lane to take records out of.
    fn fill<I: Io>(&mut self, cx: &mut Context<I>, lane: LaneId) -> bool {
        if self.range.is_none() {
            let range = cx.engine.transmit(lane, cx.now_ns, false);
            if range.is_some() {
                cx.engine.written(lane);
            }
            self.range = range.map(|range| (range, 0));
        }
        self.range.is_some()
    }

    /// Takes records out of the range, to its end or until there is no room.
    fn take_records<I: Io>(&mut self, cx: &Context<I>, packing: &mut Packing) {
        let Some((range, offset)) = self.range else {
            return;
        };
        let rest = Span {
            buffer: range.span.buffer,
            offset: range.span.offset + offset,
            len: range.span.len - offset,
        };
        let mut bytes = cx.engine.memory().read(rest);
        if !self.partial.is_empty() {
            // A record over several ranges, which nothing else shares.
            self.partial.extend_from_slice(bytes);
            let whole = std::mem::take(&mut self.partial);
            match Record::parse(&whole) {
                Some((record, behind)) => {
                    debug_assert!(behind.len() <= bytes.len());
                    let is_taken = self.take_record(&record, packing, true);
                    debug_assert!(is_taken);
                    bytes = &bytes[bytes.len() - behind.len()..];
                }
                None => {
                    self.partial = whole;
                    self.range = None;
                    return;
                }
            }
        }
        while !bytes.is_empty() {
            if !self.has_room(packing) {
                let left = u32::try_from(bytes.len()).unwrap_or(u32::MAX); // of a span
                self.range = Some((range, range.span.len - left));
                return;
            }
            let Some((record, behind)) = Record::parse(bytes) else {
                self.partial.extend_from_slice(bytes);
                break;
            };
            if !self.take_record(&record, packing, false) {
                continue; // it is found to have no room
            }
            bytes = behind;
        }
        self.range = None;
    }

    /// Puts a record's messages into packets. False: a single message begins a packet that has no room, and was not
    /// taken; `must`: it is all the same.
    #[inline]
    fn take_record(&mut self, record: &Record<'_>, packing: &mut Packing, must: bool) -> bool {
        let packet_bytes = self.target.outlet.packet_bytes as usize;
        if let Some((severity, form, payload)) = record.single() {
            let message = Message {
                severity,
                form,
                payload,
            };
            return self.take_message(&message, packing, must);
        }
        // What came together stays together where it fits.
        let body_bytes = record.body().map_or(0, <[u8]>::len);
        if self.out.len() - packing.start + body_bytes > packet_bytes && body_bytes > 0 {
            self.close(packing);
        }
        let first = self.flight.next() + packing.messages;
        let messages = record.messages() as u64; // from a u32
        self.flight.note_unit(first, messages);
        let must = must || messages > 1;
        let mut is_taken = true;
        record.each(|severity, form, payload| {
            let message = Message {
                severity,
                form,
                payload,
            };
            is_taken &= self.take_message(&message, packing, must);
        });
        is_taken
    }

    #[inline(always)]
    fn take_message(&mut self, message: &Message<'_>, packing: &mut Packing, must: bool) -> bool {
        let packet_bytes = self.target.outlet.packet_bytes as usize;
        let bytes = self.out.len() - packing.start + message.payload.len();
        let is_full = bytes > packet_bytes && packing.messages > 0;
        if is_full || self.push(message, packing) == Pushed::Other {
            self.close(packing);
            if !must && !self.has_room(packing) {
                return false;
            }
            let pushed = self.push(message, packing);
            debug_assert_eq!(pushed, Pushed::Taken);
        }
        packing.messages += 1;
        // What came as one goes as one, also where it is more than fits.
        packing.messages_left = packing.messages_left.saturating_sub(1);
        true
    }

    #[inline]
    fn push(&mut self, message: &Message<'_>, packing: &Packing) -> Pushed {
        self.outlet.push(message, &packing.stamp, &mut self.out)
    }

    /// The open packet is on its way.
    fn close(&mut self, packing: &mut Packing) {
        if packing.messages == 0 {
            return;
        }
        let identity = Identity {
            instance: packing.instance,
            epoch: packing.epoch.0,
            first: self.flight.next(),
        };
        self.outlet.close(&identity, &mut self.out);
        let bytes = (self.out.len() - packing.start) as u64;
        self.flight.launch(packing.messages, bytes, packing.now_ns);
        self.report.posts += 1;
        packing.messages = 0;
        packing.start = self.out.len();
    }
}
