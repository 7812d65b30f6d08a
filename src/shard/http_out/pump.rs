//! Out of the lane, into posts, onto connections.

use super::bytes::{join_frames, write_request, Envelope};
use super::draft::{Draft, Making};
use super::items::NUMBERED_MAX;
use super::{HttpEgress, Post, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::LinkEpoch;
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
        self.fill_unposted(cx, epoch);
        let link = self.links.get_mut(&epoch)?;
        if let Some(format) = link.format {
            return self.build_request(cx, epoch, format);
        }
        let (record, rest) = Record::parse(&link.unposted[link.read..])?;
        let limits = cx.config.http.joined;
        let messages = record.messages() as u64; // a packet's
        let mut request = Vec::new();
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

    /// The same in another format than packets: as many records as a body takes.
    fn build_request(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        format: Format,
    ) -> Option<u64> {
        let lane = cx.engine.lane_of(epoch)?;
        let link = self.links.get_mut(&epoch)?;
        let number = link.next_post;
        let making = Making {
            target: &link.target,
            format,
            via: &self.pseudonym,
            channel: &link.channel,
            instance: self.instance,
            unix_ms: cx.io.unix_ms(),
        };
        let mut draft = Draft::new(&making, link.unposted.len() - link.read);
        // Who has refused a message goes with it: it stands with those alone that have been refused by the same.
        let moved = cx.engine.moved_until(lane, number);
        let mut rest = &link.unposted[link.read..];
        while let Some((record, behind)) = Record::parse(rest) {
            let first = number + draft.messages();
            let origin = cx.engine.origin_of(lane, first);
            if cx.engine.moved_until(lane, first) != moved
                || !draft.push(&record, origin, |_| false)
            {
                break;
            }
            rest = behind;
        }
        let (messages, left) = (draft.messages(), rest.len());
        if messages == 0 {
            return None;
        }
        let request = draft.finish();
        link.read = link.unposted.len() - left;
        link.open += 1;
        link.next_post += messages;
        let rounds = cx.engine.rounds(lane, number);
        let post = Post::new(messages, number + messages - 1, request, rounds);
        link.posts.insert(number, post);
        Some(number)
    }

    /// Takes bytes out of the lane until there is a whole record, and as many as a body takes, or nothing left.
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
        let wanted = match link.format {
            Some(_) => link.target.request.body_bytes,
            None => 0,
        };
        while link.unposted.len() - link.read < wanted
            || Record::parse(&link.unposted[link.read..]).is_none()
        {
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
