//! Egress: from the lanes' tails to the sockets, one send in flight per link.
//!
//! ```text
//! dirty lane --- own link ----> pump: next ranges -> SEND or SEND_ZC -> result -> next ranges
//!           `-- other shard --> forwarded batches over the mesh -> its pump, out of this shard's arena
//! ```
//!
//! A copying send gathers all ranges that wait, its own shard's and others'. A zero-copy send takes
//! one range, out of registered memory.

use super::connection::{Connection, Range, Sending};
use super::{Links, ZeroCopySend};
use crate::context::Context;
use crate::mesh::{ForwardedBatch, Mesh, Message};
use crate::port::{Completion, Io, SEND_RANGES_MAX};
use crate::slab::{token, Kind, Slot};
use weir_engine::{LaneId, LinkEpoch, Span};

/// What the ranges of a pump are to be.
enum Gathered {
    /// One range, without a copy, and the lane and segment that it is of.
    ZeroCopy(Range, LaneId, u64),
    /// All that are in [`Sending`], if any.
    Copying,
}

impl<I: Io> Links<I> {
    /// A lane got something. Returns its link if that is none by TCP.
    #[inline]
    pub(crate) fn want_send(&mut self, cx: &mut Context<I>, lane: LaneId) -> Option<LinkEpoch> {
        let (home, epoch) = cx.engine.destination(lane);
        if home != cx.index {
            forward(cx, lane, usize::from(home), epoch);
            return None;
        }
        let Some(slot) = self.up.get(&epoch).copied() else {
            return Some(epoch);
        };
        if let Some(connection) = self.table.get_mut(slot) {
            connection.want_pump(slot, &mut self.pump);
        }
        None
    }

    /// Another shard's batch for one of this shard's links.
    pub(crate) fn on_forwarded(&mut self, cx: &mut Context<I>, from: usize, batch: ForwardedBatch) {
        // A link that died meanwhile: its LinkDown is on the way, the sender re-routes.
        let Some(slot) = self.up.get(&batch.epoch).copied() else {
            return;
        };
        if let Some(connection) = self.table.get_mut(slot) {
            cx.gather.forwarded(batch.messages);
            connection.forwarded[from].push_back(batch);
            connection.want_pump(slot, &mut self.pump);
        }
    }

    /// Starts a send on each link that may have something.
    pub(crate) fn send(&mut self, cx: &mut Context<I>) {
        while let Some(slot) = self.pump.pop() {
            self.pump_link(cx, slot);
        }
    }

    fn pump_link(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        connection.pumped = false;
        if !connection.is_up() {
            return;
        }
        if !connection.sending.is_idle() {
            connection.is_behind = true;
            return;
        }
        match connection.gather(cx) {
            Gathered::Copying => connection.send_copying(cx, slot),
            Gathered::ZeroCopy(range, lane, segment) => {
                let send = self.zero_copy_sends.insert(ZeroCopySend {
                    link: slot,
                    lane,
                    segment,
                });
                connection.send_zero_copy(cx, range, token(Kind::ZeroCopySend, send));
            }
        }
    }

    /// Result of a copying send: the kernel has let go of the memory, too.
    #[inline]
    pub(crate) fn on_send(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let ranges = std::mem::take(&mut connection.sending.ranges);
        let broken = connection.on_sent(cx, slot, &ranges, completion.count());
        if let Some(why) = &broken {
            self.close_link(cx, slot, why, None);
        }
        for range in &ranges {
            if let Some((lane, segment)) = range.own {
                cx.engine.released(lane, segment);
            }
        }
        match broken {
            Some(_) => self.reap(cx, slot),
            None => self.after_send(cx, slot, ranges),
        }
    }

    /// Result or release of a zero-copy send.
    pub(crate) fn on_zero_copy(
        &mut self,
        cx: &mut Context<I>,
        send_slot: Slot,
        completion: Completion,
    ) {
        let Some(send) = self.zero_copy_sends.get(send_slot) else {
            return;
        };
        let (slot, lane, segment) = (send.link, send.lane, send.segment);
        let mut ranges = Vec::new();
        if !completion.is_release() {
            if let Some(connection) = self.table.get_mut(slot) {
                ranges = std::mem::take(&mut connection.sending.ranges);
                let broken = connection.on_sent(cx, slot, &ranges, completion.count());
                if let Some(why) = broken {
                    self.close_link(cx, slot, &why, None);
                }
            }
        } else if completion.was_copied() {
            cx.engine.counters.zero_copy_copied += 1;
            if let Some(connection) = self.table.get_mut(slot) {
                // Loopback, veth, or a NIC without scatter-gather: copying at once is cheaper.
                connection.zero_copy = false;
            }
        }
        if !completion.more() {
            self.zero_copy_sends.remove(send_slot);
            cx.engine.released(lane, segment);
        }
        self.after_send(cx, slot, ranges);
    }

    /// After a result: a dead link is reaped, a living one goes on with what waited behind the send. A list that a send is through with
    /// serves the next, if none has been started.
    #[inline]
    fn after_send(&mut self, cx: &mut Context<I>, slot: Slot, mut ranges: Vec<Range>) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let is_idle = connection.sending.is_idle();
        if is_idle && ranges.capacity() > 0 {
            ranges.clear();
            connection.sending.ranges = ranges;
        }
        if !connection.is_up() {
            self.reap(cx, slot);
        } else if is_idle && std::mem::take(&mut connection.is_behind) {
            connection.want_pump(slot, &mut self.pump);
        }
    }
}

/// Batches for an analyzer whose only link is on another shard.
fn forward<I: Io>(cx: &mut Context<I>, lane: LaneId, home: usize, epoch: LinkEpoch) {
    while let Some(range) = cx.engine.transmit(lane, cx.now_ns, false) {
        cx.engine.counters.forwarded += 1;
        let batch = ForwardedBatch {
            epoch,
            span: range.span,
            messages: range.messages,
            continues: range.continues,
        };
        cx.mesh.post(home, Message::ForwardedBatch(batch));
    }
    cx.engine.written(lane);
}

impl<I: Io> Connection<I> {
    #[inline]
    fn want_pump(&mut self, slot: Slot, pump: &mut Vec<Slot>) {
        if !self.pumped {
            self.pumped = true;
            pump.push(slot);
        }
    }

    /// Takes what waits, as much as one send carries.
    fn gather(&mut self, cx: &mut Context<I>) -> Gathered {
        while self.sending.ranges.len() < SEND_RANGES_MAX {
            let Some(range) = self.next_range(cx) else {
                break;
            };
            self.sending.ranges.push(range);
            let large = range.span.len as usize >= cx.config.zero_copy_bytes;
            let Some((lane, segment)) = range.own.filter(|_| self.zero_copy && large) else {
                continue;
            };
            if self.sending.ranges.len() == 1 {
                return Gathered::ZeroCopy(range, lane, segment);
            }
        }
        Gathered::Copying
    }

    /// The next range: shards take turns, but a split message is finished first.
    fn next_range(&mut self, cx: &mut Context<I>) -> Option<Range> {
        let shards = cx.config.shards;
        let turns = match self.must_continue {
            Some(shard) => shard..shard + 1,
            None => self.turn..self.turn + shards,
        };
        for turn in turns {
            let shard = turn % shards;
            let next = if shard == usize::from(cx.index) {
                self.next_own_range(cx)
            } else {
                self.next_forwarded(shard)
            };
            let Some((range, messages, continues)) = next else {
                continue;
            };
            self.turn = (shard + 1) % shards;
            self.must_continue = continues.then_some(shard);
            let owner = u16::try_from(shard).unwrap_or(u16::MAX);
            self.link.submitted(owner, messages, cx.awake_ns);
            // What came behind a DRAIN wants its ACK at once as well.
            self.drain_sent = false;
            return Some(range);
        }
        None
    }

    fn next_own_range(&self, cx: &mut Context<I>) -> Option<(Range, u64, bool)> {
        let lane = cx.engine.lane_of(self.epoch)?;
        let next = cx.engine.transmit(lane, cx.now_ns, true)?;
        let range = Range {
            shard: usize::from(cx.index),
            span: next.span,
            own: Some((lane, next.segment)),
        };
        Some((range, next.messages, next.continues))
    }

    fn next_forwarded(&mut self, shard: usize) -> Option<(Range, u64, bool)> {
        let batch = self.forwarded[shard].pop_front()?;
        let range = Range {
            shard,
            span: batch.span,
            own: None,
        };
        Some((range, batch.messages, batch.continues))
    }

    /// Whether more waits than the send carries that has just begun.
    fn note_more(&mut self, cx: &mut Context<I>) {
        let lane = cx.engine.lane_of(self.epoch);
        let has_more = lane.is_some_and(|lane| cx.engine.has_unsent(lane))
            || self.forwarded.iter().any(|queue| !queue.is_empty());
        self.is_behind |= has_more;
        cx.hurry |= has_more;
    }

    fn send_copying(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Sending { ranges, vector } = &mut self.sending;
        if ranges.is_empty() {
            return;
        }
        let counters = &mut cx.engine.counters;
        counters.sends += 1;
        counters.sent_bytes += ranges
            .iter()
            .map(|range| u64::from(range.span.len))
            .sum::<u64>();
        let spans = ranges.iter().map(|range| (range.shard, range.span));
        let token = token(Kind::LinkSend, slot);
        cx.io.send(&self.socket, spans, vector, token);
        self.note_more(cx);
    }

    fn send_zero_copy(&mut self, cx: &mut Context<I>, range: Range, token: u64) {
        let counters = &mut cx.engine.counters;
        counters.sends += 1;
        counters.sends_zero_copy += 1;
        counters.sent_bytes += u64::from(range.span.len);
        cx.io.send_zero_copy(&self.socket, range.span, token);
        self.note_more(cx);
    }

    /// What the result of a send of `ranges` means. Returns why the link is over, if it is.
    fn on_sent(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        ranges: &[Range],
        result: std::io::Result<usize>,
    ) -> Option<String> {
        let wanted: usize = ranges.iter().map(|range| range.span.len as usize).sum();
        match result {
            Ok(sent) if sent >= wanted => {
                self.link.completed();
                if let Some((lane, _)) = ranges.iter().find_map(|range| range.own) {
                    cx.engine.written(lane);
                }
                self.pay_credits(cx);
                None
            }
            Ok(sent) => {
                self.send_rest(cx, slot, ranges, sent);
                None
            }
            Err(error) => Some(format!("send: {error}")),
        }
    }

    /// The kernel took only part of it: the rest goes out before anything else.
    fn send_rest(&mut self, cx: &mut Context<I>, slot: Slot, ranges: &[Range], mut sent: usize) {
        if !self.is_up() {
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
                cx.engine.held_again(lane, segment);
            }
            rest.push(Range { span, ..*range });
        }
        self.sending.ranges = rest;
        self.send_copying(cx, slot);
    }
}
