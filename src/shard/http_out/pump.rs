//! Out of the lane, into posts, onto connections.

use std::sync::Arc;

use super::bytes::{join_frames, write_request, Envelope};
use super::draft::{Draft, Making};
use super::items::NUMBERED_MAX;
use super::{HttpEgress, HttpLink, Post, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::{LaneId, LinkEpoch, Transmit};
use weir_http as http;
use weir_protocol::record::Record;
use weir_sink::request::Format;

impl<I: Io> HttpEgress<I> {
    /// A lane towards an analyzer over HTTP got something.
    pub(crate) fn want_send(&mut self, epoch: LinkEpoch) {
        if self.links.contains_key(&epoch) {
            self.want_pump(epoch);
        }
    }

    /// POSTs what there is, as far as the pools have room.
    pub(crate) fn send(&mut self, cx: &mut Context<I>) {
        while let Some(epoch) = self.pump.pop() {
            while self.post_next(cx, epoch) {}
        }
    }

    /// Starts one more post. False: there is none, or no connection for it.
    fn post_next(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) -> bool {
        let pool = usize::from(cx.config.http.pool_connections);
        let now_ns = cx.awake_ns;
        let Some(link) = self.links.get_mut(&epoch) else {
            return false;
        };
        let connections = &self.connections;
        let is_idle = |slot: &Slot| {
            let connection = connections.get(*slot);
            connection.is_some_and(|connection| connection.stage == Stage::Idle)
        };
        if link.paused_until_ns > now_ns {
            return false;
        }
        let idle = link.connections.iter().copied().find(is_idle);
        if idle.is_none() && link.connections.len() >= pool {
            return false;
        }
        let due = link.retries.iter().position(|(_, at_ns)| *at_ns <= now_ns);
        let number = match due {
            Some(due) => link.retries.swap_remove(due).0,
            // As many requests in memory as connections, those included that wait to be sent again.
            None if link.open - link.numbered.len() >= pool => return false,
            None if link.numbered.len() >= NUMBERED_MAX => return false,
            None => match self.build_post(cx, epoch) {
                Some(number) => number,
                None => return false,
            },
        };
        if !self.is_open(epoch, number) && !self.rebuild(cx, epoch, number) {
            return true;
        }
        match idle {
            Some(slot) => self.send_post(cx, slot, number),
            None => return self.connect_for(cx, epoch, Some(number)),
        }
        true
    }

    /// Makes the next records of the lane a post, and returns its number.
    fn build_post(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) -> Option<u64> {
        let format = self.links.get(&epoch)?.format;
        if let Some(format) = format {
            return self.build_request(cx, epoch, format);
        }
        self.fill_unposted(cx, epoch);
        let link = self.links.get_mut(&epoch)?;
        let (record, rest) = Record::parse(&link.unposted[link.read..])?;
        let limits = cx.config.http.joined;
        let messages = record.messages() as u64; // a packet's
        let mut request = self.spare.take(0);
        let mut left = rest.len();
        let messages = match (record.body(), record.packet_id(), record.emitter_id()) {
            (Some(body), Some(packet), Some(emitter)) => {
                let envelope = Envelope {
                    via: &self.pseudonym,
                    hops: record.hops(),
                    packet,
                    emitter,
                };
                write_request(&mut request, &link.target, &envelope, body);
                messages
            }
            _ => {
                let now = http::iso8601(cx.io.unix_ms());
                let joined = join_frames(&link.unposted[link.read..], limits, &mut self.ids, &now);
                let (packet, rest) = joined?;
                left = rest;
                let envelope = Envelope {
                    via: &self.pseudonym,
                    hops: 0,
                    packet: std::str::from_utf8(&packet.packet_id).unwrap_or_default(),
                    emitter: packet.emitter_id,
                };
                write_request(&mut request, &link.target, &envelope, &packet.body);
                packet.messages as u64 // a few
            }
        };
        link.read = link.unposted.len() - left;
        link.open += 1;
        let number = link.next_post;
        link.next_post += messages;
        let rounds = cx.engine.lane_of(epoch);
        let rounds = rounds.map_or(0, |lane| cx.engine.rounds(lane, number));
        let post = Post::new(messages, number + messages - 1, request, rounds);
        link.posts.insert(number, post);
        Some(number)
    }

    /// The same in another format than packets: as many records as a body takes, straight out of the lane.
    fn build_request(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        format: Format,
    ) -> Option<u64> {
        let lane = cx.engine.lane_of(epoch)?;
        let link = self.links.get_mut(&epoch)?;
        let number = link.next_post;
        let (target, channel) = (Arc::clone(&link.target), link.channel.clone());
        let making = Making {
            target: &target,
            format,
            via: &self.pseudonym,
            channel: &channel,
            instance: self.instance,
            unix_ms: cx.io.unix_ms(),
        };
        let mut draft: Option<Draft<'_>> = None;
        // Who has refused a message goes with it: it stands with those alone that have been refused by the same.
        let moved = cx.engine.moved_until(lane, number);
        while let Some((range, offset)) = link.take_range(cx, lane) {
            let engine = &cx.engine;
            let draft = draft.get_or_insert_with(|| {
                // More than this range: most likely as much as a body takes.
                let bytes = match engine.has_unsent(lane) {
                    true => target.request.body_bytes,
                    false => range.span.len as usize,
                };
                Draft::new(&making, bytes, &mut self.spare)
            });
            let bytes = weir_engine::Memory::read(engine.memory(), range.span);
            let bytes = bytes.get(offset as usize..).unwrap_or_default();
            let left = link.take_records(bytes, |record| {
                let first = number + draft.messages();
                let origin = engine.origin_of(lane, first);
                engine.moved_until(lane, first) == moved && draft.push(record, origin, |_| false)
            });
            if left > 0 {
                let left = u32::try_from(left).unwrap_or(u32::MAX); // of a span
                link.range = Some((range, range.span.len - left));
                break;
            }
        }
        let draft = draft?;
        let messages = draft.messages();
        if messages == 0 {
            draft.discard(&mut self.spare);
            return None;
        }
        let request = draft.finish();
        link.open += 1;
        link.next_post += messages;
        let rounds = cx.engine.rounds(lane, number);
        let post = Post {
            made_ms: making.unix_ms,
            ..Post::new(messages, number + messages - 1, request, rounds)
        };
        link.posts.insert(number, post);
        Some(number)
    }

    /// Takes bytes out of the lane until there is a whole record, or nothing left.
    fn fill_unposted(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return;
        };
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        if link.read == link.unposted.len() {
            link.unposted.clear();
            link.read = 0;
        }
        while Record::parse(&link.unposted[link.read..]).is_none() {
            let Some(range) = cx.engine.transmit(lane, cx.now_ns, false) else {
                return;
            };
            if link.read > 0 {
                link.unposted.drain(..link.read);
                link.read = 0;
            }
            let bytes = weir_engine::Memory::read(cx.engine.memory(), range.span);
            link.unposted.extend_from_slice(bytes);
            cx.engine.written(lane);
        }
    }
}

impl HttpLink {
    /// The range of the lane whose records come next, and where in it they begin.
    fn take_range<I: Io>(&mut self, cx: &mut Context<I>, lane: LaneId) -> Option<(Transmit, u32)> {
        self.range.take().or_else(|| {
            let range = cx.engine.transmit(lane, cx.now_ns, false)?;
            cx.engine.written(lane);
            Some((range, 0))
        })
    }

    /// Hands records to `take` until it says that one is not taken: how many bytes are left. The beginning of a record
    /// that is not whole is kept until its rest comes.
    fn take_records(&mut self, bytes: &[u8], mut take: impl FnMut(&Record<'_>) -> bool) -> usize {
        let mut rest = bytes;
        if !self.unposted.is_empty() {
            // A record over several ranges, which nothing else shares.
            let held = self.unposted.len();
            self.unposted.extend_from_slice(rest);
            let Some((record, behind)) = Record::parse(&self.unposted) else {
                return 0;
            };
            if !take(&record) {
                self.unposted.truncate(held);
                return rest.len();
            }
            rest = &rest[rest.len() - behind.len()..];
            self.unposted.clear();
        }
        while !rest.is_empty() {
            let Some((record, behind)) = Record::parse(rest) else {
                self.unposted.extend_from_slice(rest);
                return 0;
            };
            if !take(&record) {
                break;
            }
            rest = behind;
        }
        rest.len()
    }
}
