//! Egress: from the lanes' tails to the sockets, one send in flight per link.
//!
//! ```text
//! dirty lane --- own link ----> pump: next range -> SEND or SEND_ZC -> result -> next range
//!           `-- other shard --> parcels over the mesh -> its pump, out of this shard's arena
//! ```

use std::os::fd::AsRawFd;

use super::mesh::{Message, Parcel};
use super::slab::{token, Kind, Slot};
use super::worker::{Worker, ZeroCopySend};
use crate::engine::{LaneId, Span};
use crate::uring::{Completion, SendMode};

/// The send that is in flight on a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    /// Whose arena it is sent from.
    shard: usize,
    span: Span,
    /// Own lane and segment to release, unless the parcel came from another shard.
    own: Option<(LaneId, u64)>,
    mode: SendMode,
}

impl Worker {
    /// Sends what this turn has put into lanes.
    pub(super) fn send_dirty(&mut self) {
        while let Some(lane) = self.engine.next_dirty() {
            let (home, epoch) = self.engine.destination(lane);
            if home != self.index {
                self.hand_over_batches(lane, usize::from(home));
            } else if let Some(slot) = self.link_of(epoch) {
                self.want_pump(slot);
            }
        }
        while let Some(slot) = self.pump.pop() {
            self.pump_link(slot);
        }
        while let Some(done) = self.engine.next_rerouted() {
            let name = self.analyzer_name(done.analyzer);
            log::info!(
                "re-routed link={} analyzer={name} messages={} detected_mono_ns={} last_written_mono_ns={}",
                done.epoch.0, done.messages, done.detected_ns, crate::uring::monotonic_ns()
            );
        }
    }

    pub(super) fn want_pump(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        if !connection.pumped {
            connection.pumped = true;
            self.pump.push(slot);
        }
    }

    fn link_of(&self, epoch: crate::engine::LinkEpoch) -> Option<Slot> {
        let mut links = self.links.iter();
        links
            .find(|(_, link)| link.epoch == epoch && link.is_up())
            .map(|(slot, _)| slot)
    }

    /// Batches for an analyzer whose only link is on another shard.
    fn hand_over_batches(&mut self, lane: LaneId, home: usize) {
        let (_, epoch) = self.engine.destination(lane);
        while let Some(range) = self.engine.transmit(lane, self.now_ns, false) {
            self.engine.counters.handed_over += 1;
            let parcel = Parcel {
                epoch,
                span: range.span,
                messages: range.messages,
                continues: range.continues,
            };
            self.mesh.post(home, Message::Parcel(parcel));
        }
        self.engine.written(lane);
    }

    /// Another shard's batch for one of this shard's links.
    pub(super) fn on_parcel(&mut self, from: usize, parcel: Parcel) {
        // A link that died meanwhile: its LinkDown is on the way, the sender re-routes.
        let Some(slot) = self.link_of(parcel.epoch) else {
            return;
        };
        if let Some(connection) = self.links.get_mut(slot) {
            connection.parcels[from].push_back(parcel);
            self.parcels_waiting += 1;
        }
        self.want_pump(slot);
    }

    fn pump_link(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.pumped = false;
        if connection.sending.is_some() || !connection.is_up() {
            return;
        }
        let shards = self.config.shards;
        let turns = match connection.must_continue {
            Some(shard) => shard..shard + 1,
            None => connection.turn..connection.turn + shards,
        };
        for turn in turns {
            let shard = turn % shards;
            let next = if shard == usize::from(self.index) {
                self.next_own_range(slot)
            } else {
                self.next_parcel(slot, shard)
            };
            if let Some((sending, messages, continues)) = next {
                if let Some(connection) = self.links.get_mut(slot) {
                    connection.turn = (shard + 1) % shards;
                    connection.must_continue = continues.then_some(shard);
                    let shard = u16::try_from(shard).unwrap_or(u16::MAX);
                    connection.link.submitted(shard, messages, self.now_ns);
                }
                self.send(slot, sending);
                return;
            }
        }
    }

    fn next_own_range(&mut self, slot: Slot) -> Option<(Sending, u64, bool)> {
        let connection = self.links.get(slot)?;
        let (epoch, zero_copy) = (connection.epoch, connection.zero_copy);
        let lane = self.engine.lane_of(epoch)?;
        let range = self.engine.transmit(lane, self.now_ns, true)?;
        let large = range.span.len as usize >= self.config.zero_copy_bytes;
        let mode = if zero_copy && large {
            SendMode::ZeroCopy
        } else {
            SendMode::Copy
        };
        let own = Some((lane, range.segment));
        let shard = usize::from(self.index);
        let sending = Sending {
            shard,
            span: range.span,
            own,
            mode,
        };
        Some((sending, range.messages, range.continues))
    }

    fn next_parcel(&mut self, slot: Slot, shard: usize) -> Option<(Sending, u64, bool)> {
        let parcel = self.links.get_mut(slot)?.parcels[shard].pop_front()?;
        self.parcels_waiting -= 1;
        let sending = Sending {
            shard,
            span: parcel.span,
            own: None,
            mode: SendMode::Copy,
        };
        Some((sending, parcel.messages, parcel.continues))
    }

    fn send(&mut self, slot: Slot, mut sending: Sending) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let fd = connection.socket.as_raw_fd();
        let counters = &mut self.engine.counters;
        counters.sends += 1;
        counters.sent_bytes += u64::from(sending.span.len);
        let name = match (sending.mode, sending.own) {
            (SendMode::ZeroCopy, Some((lane, segment))) => {
                counters.sends_zero_copy += 1;
                let send = ZeroCopySend {
                    link: slot,
                    lane,
                    segment,
                };
                token(Kind::ZeroCopySend, self.zero_copy_sends.insert(send))
            }
            _ => token(Kind::LinkSend, slot),
        };
        sending.mode = self
            .ring
            .send(fd, sending.shard, sending.span, sending.mode, name);
        connection.sending = Some(sending);
    }

    /// Result of a copying send: the kernel has let go of the buffer, too.
    pub(super) fn on_link_send(&mut self, slot: Slot, completion: Completion) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let Some(sending) = connection.sending.take() else {
            return;
        };
        self.on_sent(slot, sending, completion.count());
        if let Some((lane, segment)) = sending.own {
            self.engine.released(lane, segment);
        }
        self.go_on(slot);
    }

    /// Result or release of a zero-copy send.
    pub(super) fn on_zero_copy(&mut self, send_slot: Slot, completion: Completion) {
        let Some(send) = self.zero_copy_sends.get(send_slot) else {
            return;
        };
        let (slot, lane, segment) = (send.link, send.lane, send.segment);
        if completion.is_release() {
            if completion.was_copied() {
                self.engine.counters.zero_copy_copied += 1;
                if let Some(connection) = self.links.get_mut(slot) {
                    // Loopback, veth, or a NIC without scatter-gather: copying at once is cheaper.
                    connection.zero_copy = false;
                }
            }
        } else {
            let sending = self
                .links
                .get_mut(slot)
                .and_then(|connection| connection.sending.take());
            if let Some(sending) = sending {
                self.on_sent(slot, sending, completion.count());
            }
        }
        if !completion.more() {
            self.zero_copy_sends.remove(send_slot);
            self.engine.released(lane, segment);
        }
        self.go_on(slot);
    }

    fn on_sent(&mut self, slot: Slot, sending: Sending, result: std::io::Result<usize>) {
        match result {
            Ok(sent) if sent >= sending.span.len as usize => {
                if let Some(connection) = self.links.get_mut(slot) {
                    connection.link.completed();
                }
                if let Some((lane, _)) = sending.own {
                    self.engine.written(lane);
                }
                self.pay_credits(slot);
            }
            Ok(sent) => self.send_rest(slot, sending, sent),
            Err(error) => self.kill(slot, &format!("send: {error}"), None),
        }
    }

    /// The kernel took only part of it.
    fn send_rest(&mut self, slot: Slot, sending: Sending, sent: usize) {
        let sent = u32::try_from(sent).unwrap_or(0);
        let span = Span {
            buffer: sending.span.buffer,
            offset: sending.span.offset + sent,
            len: sending.span.len - sent,
        };
        if !self
            .links
            .get(slot)
            .is_some_and(|connection| connection.is_up())
        {
            return;
        }
        if let Some((lane, segment)) = sending.own {
            self.engine.held_again(lane, segment);
        }
        self.send(slot, Sending { span, ..sending });
    }

    /// After a result: a dead link is buried, a living one may have more to send.
    fn go_on(&mut self, slot: Slot) {
        let Some(connection) = self.links.get(slot) else {
            return;
        };
        if !connection.is_up() {
            self.bury(slot);
        } else if connection.sending.is_none() {
            self.want_pump(slot);
        }
    }

    pub(super) fn analyzer_name(&self, analyzer: u32) -> String {
        let entry = self.names.get(&analyzer);
        entry.map_or_else(|| analyzer.to_string(), |name| name.to_string())
    }
}
