//! Egress: from the lanes' tails to the sockets, one send in flight per link.
//!
//! ```text
//! dirty lane --- own link ----> pump: next ranges -> SEND or SEND_ZC -> result -> next ranges
//!           `-- other shard --> parcels over the mesh -> its pump, out of this shard's arena
//! ```
//!
//! A copying send gathers all ranges that wait, its own shard's and others'. A zero-copy send takes
//! one range, out of registered memory.

use super::mesh::{Mesh, Message, Parcel};
use super::port::Io;
use super::slab::{token, Kind, Slot};
use super::worker::{Worker, ZeroCopySend};
use crate::port::{Completion, SEND_RANGES_MAX};
use weir_engine::{LaneId, Span};
use weir_protocol::text::Field;

/// A range that is being sent.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// Whose arena it is sent from.
    shard: usize,
    span: Span,
    /// Own lane and segment to release, unless the parcel came from another shard.
    own: Option<(LaneId, u64)>,
}

/// The send of a link: what is in flight, if anything is.
#[derive(Default)]
pub(super) struct Sending<V> {
    ranges: Vec<Range>,
    vector: V,
}

impl<V> Sending<V> {
    /// Nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl<I: Io> Worker<I> {
    /// Sends what this turn has put into lanes.
    pub(super) fn send_dirty(&mut self) {
        while let Some(lane) = self.engine.next_dirty() {
            let (home, epoch) = self.engine.destination(lane);
            if home != self.index {
                self.hand_over_batches(lane, usize::from(home));
            } else if let Some(slot) = self.links_up.get(&epoch).copied() {
                self.want_pump(slot);
            } else {
                self.want_posts(epoch);
            }
        }
        while let Some(slot) = self.pump.pop() {
            self.pump_link(slot);
        }
        while let Some(done) = self.engine.next_rerouted() {
            let name = self.analyzer_name(done.analyzer);
            let written_ns = self.io.now_ns();
            self.engine.note_rerouted(&done, written_ns);
            log::info!(
                "re-routed link={} analyzer={} messages={} detected_mono_ns={} last_written_mono_ns={written_ns}",
                done.epoch.0, Field(&name), done.messages, done.detected_ns
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
        let Some(slot) = self.links_up.get(&parcel.epoch).copied() else {
            return;
        };
        if let Some(connection) = self.links.get_mut(slot) {
            self.gather.parcel(parcel.messages);
            connection.parcels[from].push_back(parcel);
        }
        self.want_pump(slot);
    }

    fn pump_link(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.pumped = false;
        if !connection.sending.is_idle() || !connection.is_up() {
            return;
        }
        let zero_copy = connection.zero_copy;
        let mut ranges = std::mem::take(&mut connection.sending.ranges);
        while ranges.len() < SEND_RANGES_MAX {
            let Some(range) = self.next_range(slot) else {
                break;
            };
            ranges.push(range);
            let large = range.span.len as usize >= self.config.zero_copy_bytes;
            if zero_copy && large && range.own.is_some() && ranges.len() == 1 {
                self.send_zero_copy(slot, range, ranges);
                return;
            }
        }
        if let Some(connection) = self.links.get_mut(slot) {
            connection.sending.ranges = ranges;
        }
        self.send_copying(slot);
    }

    /// The next range for a link: shards take turns, but a split message is finished first.
    fn next_range(&mut self, slot: Slot) -> Option<Range> {
        let connection = self.links.get(slot)?;
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
            let Some((range, messages, continues)) = next else {
                continue;
            };
            let connection = self.links.get_mut(slot)?;
            connection.turn = (shard + 1) % shards;
            connection.must_continue = continues.then_some(shard);
            let owner = u16::try_from(shard).unwrap_or(u16::MAX);
            connection.link.submitted(owner, messages, self.awake_ns);
            // What came behind a DRAIN wants its ACK at once as well.
            connection.drain_sent = false;
            return Some(range);
        }
        None
    }

    /// Something waits behind the send that is in flight on a link.
    fn has_more(&self, slot: Slot) -> bool {
        let Some(connection) = self.links.get(slot) else {
            return false;
        };
        let lane = self.engine.lane_of(connection.epoch);
        lane.is_some_and(|lane| self.engine.has_unsent(lane))
            || connection.parcels.iter().any(|queue| !queue.is_empty())
    }

    fn next_own_range(&mut self, slot: Slot) -> Option<(Range, u64, bool)> {
        let epoch = self.links.get(slot)?.epoch;
        let lane = self.engine.lane_of(epoch)?;
        let next = self.engine.transmit(lane, self.now_ns, true)?;
        let shard = usize::from(self.index);
        let range = Range {
            shard,
            span: next.span,
            own: Some((lane, next.segment)),
        };
        Some((range, next.messages, next.continues))
    }

    fn next_parcel(&mut self, slot: Slot, shard: usize) -> Option<(Range, u64, bool)> {
        let parcel = self.links.get_mut(slot)?.parcels[shard].pop_front()?;
        let range = Range {
            shard,
            span: parcel.span,
            own: None,
        };
        Some((range, parcel.messages, parcel.continues))
    }

    fn send_copying(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let Sending { ranges, vector } = &mut connection.sending;
        if ranges.is_empty() {
            return;
        }
        let counters = &mut self.engine.counters;
        counters.sends += 1;
        counters.sent_bytes += ranges
            .iter()
            .map(|range| u64::from(range.span.len))
            .sum::<u64>();
        let spans = ranges.iter().map(|range| (range.shard, range.span));
        let token = token(Kind::LinkSend, slot);
        self.io.send(&connection.socket, spans, vector, token);
        self.hurry |= self.has_more(slot);
    }

    fn send_zero_copy(&mut self, slot: Slot, range: Range, ranges: Vec<Range>) {
        let (Some(connection), Some((lane, segment))) = (self.links.get_mut(slot), range.own)
        else {
            return;
        };
        connection.sending.ranges = ranges;
        let counters = &mut self.engine.counters;
        counters.sends += 1;
        counters.sends_zero_copy += 1;
        counters.sent_bytes += u64::from(range.span.len);
        let send = self.zero_copy_sends.insert(ZeroCopySend {
            link: slot,
            lane,
            segment,
        });
        let token = token(Kind::ZeroCopySend, send);
        self.io
            .send_zero_copy(&connection.socket, range.span, token);
        self.hurry |= self.has_more(slot);
    }

    /// Result of a copying send: the kernel has let go of the memory, too.
    pub(super) fn on_link_send(&mut self, slot: Slot, completion: Completion) {
        let ranges = self.on_sent(slot, completion.count());
        for range in &ranges {
            if let Some((lane, segment)) = range.own {
                self.engine.released(lane, segment);
            }
        }
        self.keep_allocation(slot, ranges);
        self.go_on(slot);
    }

    /// Result or release of a zero-copy send.
    pub(super) fn on_zero_copy(&mut self, send_slot: Slot, completion: Completion) {
        let Some(send) = self.zero_copy_sends.get(send_slot) else {
            return;
        };
        let (slot, lane, segment) = (send.link, send.lane, send.segment);
        if !completion.is_release() {
            let ranges = self.on_sent(slot, completion.count());
            self.keep_allocation(slot, ranges);
        } else if completion.was_copied() {
            self.engine.counters.zero_copy_copied += 1;
            if let Some(connection) = self.links.get_mut(slot) {
                // Loopback, veth, or a NIC without scatter-gather: copying at once is cheaper.
                connection.zero_copy = false;
            }
        }
        if !completion.more() {
            self.zero_copy_sends.remove(send_slot);
            self.engine.released(lane, segment);
        }
        self.go_on(slot);
    }

    /// What a send's result means for its link; returns the ranges that it was about.
    fn on_sent(&mut self, slot: Slot, result: std::io::Result<usize>) -> Vec<Range> {
        let Some(connection) = self.links.get_mut(slot) else {
            return Vec::new();
        };
        let ranges = std::mem::take(&mut connection.sending.ranges);
        let wanted: usize = ranges.iter().map(|range| range.span.len as usize).sum();
        match result {
            Ok(sent) if sent >= wanted => {
                connection.link.completed();
                if let Some((lane, _)) = ranges.iter().find_map(|range| range.own) {
                    self.engine.written(lane);
                }
                self.pay_credits(slot);
            }
            Ok(sent) => self.send_rest(slot, &ranges, sent),
            Err(error) => self.kill(slot, &format!("send: {error}"), None),
        }
        ranges
    }

    /// The kernel took only part of it: the rest goes out before anything else.
    fn send_rest(&mut self, slot: Slot, ranges: &[Range], mut sent: usize) {
        if !self
            .links
            .get(slot)
            .is_some_and(|connection| connection.is_up())
        {
            return;
        }
        let mut rest = Vec::new();
        for range in ranges {
            let len = range.span.len as usize;
            let skip = sent.min(len);
            sent -= skip;
            if skip == len {
                continue;
            }
            let skip = u32::try_from(skip).unwrap_or(0); // below a u32
            let Span {
                buffer,
                offset,
                len,
            } = range.span;
            let span = Span {
                buffer,
                offset: offset + skip,
                len: len - skip,
            };
            if let Some((lane, segment)) = range.own {
                self.engine.held_again(lane, segment);
            }
            rest.push(Range { span, ..*range });
        }
        if let Some(connection) = self.links.get_mut(slot) {
            connection.sending.ranges = rest;
        }
        self.send_copying(slot);
    }

    /// A list that a send is through with serves the next, if none has been started.
    fn keep_allocation(&mut self, slot: Slot, mut ranges: Vec<Range>) {
        if let Some(connection) = self.links.get_mut(slot) {
            if connection.sending.is_idle() {
                ranges.clear();
                connection.sending.ranges = ranges;
            }
        }
    }

    /// After a result: a dead link is buried, a living one may have more to send.
    fn go_on(&mut self, slot: Slot) {
        let Some(connection) = self.links.get(slot) else {
            return;
        };
        if !connection.is_up() {
            self.bury(slot);
        } else if connection.sending.is_idle() {
            self.want_pump(slot);
        }
    }

    pub(super) fn analyzer_name(&self, analyzer: u32) -> String {
        let entry = self.names.get(&analyzer);
        entry.map_or_else(|| analyzer.to_string(), |name| name.to_string())
    }
}
