//! Answers by which an analyzer does not take a packet: 4xx, 508, redirects, and what cannot be read.
//!
//! ```text
//! 413, several messages  -> two posts with half of them each, to the same analyzer
//! 4xx                    -> another analyzer, each once (engine/moves.rs)
//!    all have refused it -> of the packet (400, 413, 415, 422 ...): set aside (dead_letter.rs)
//!                           of the analyzer (401, 403, 404 ...): it stays, everybody is asked again, later
//! 3xx, no status of HTTP, no answer that can be read -> as those of the analyzer, and said what it was
//! 408, 425, 429, 503 with Retry-After -> nothing more is sent to this analyzer for a while
//! ```
//!
//! No such answer takes the analyzer down. One that refuses everything while others take what they get is
//! taken out by the control side (`src/control/health/outlier.rs`).

use std::time::Duration;

use super::bytes::{join_frames, write_request, Envelope};
use super::{Became, HttpEgress, Outcome, Post};
use crate::context::Context;
use crate::port::Io;
use weir_engine::{LinkEpoch, Move, Onward};
use weir_http as http;
use weir_http::AnswerHead;
use weir_protocol::record::Record;
use weir_protocol::text::{Field, Time};

/// A distributor's answer to a packet that goes in a circle.
pub(super) const LOOP_DETECTED: u16 = 508;
/// Longest time that an analyzer is left alone at its wish.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Longest pause between two rounds of a packet that no analyzer may take as they are configured.
const ROUND_MAX_NS: u64 = 30_000_000_000;

/// The status says that the packet is at fault. Any other refusal may be the analyzer's: a wrong path, a
/// missing token.
fn is_of_packet(status: u16) -> bool {
    matches!(
        status,
        400 | 406 | 409 | 411 | 413..=415 | 417 | 422 | 431 | LOOP_DETECTED
    )
}

impl<I: Io> HttpEgress<I> {
    /// An answer that says nothing of the packet, and that no health check shows: the analyzer is not what it is
    /// configured as. To take it out would be undone by its next check, again and again. So that is a refusal,
    /// and said when it is another one than was said last.
    pub(super) fn post_odd(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
        why: String,
    ) {
        if let Some(link) = self.links.get_mut(&epoch) {
            if link.odd_said.as_ref() != Some(&why) {
                let name = Field(&link.target.name);
                log::warn!("analyzer {name}: {why}; more such answers are counted as refusals");
                link.odd_said = Some(why);
            }
        }
        self.post_refused(cx, epoch, number, status);
    }

    /// The analyzer does not take a post.
    pub(super) fn post_refused(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
    ) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        if status == 413 && self.halve(cx, epoch, number).is_some() {
            return self.want_pump(epoch);
        }
        let format = self.links.get(&epoch).and_then(|link| link.format);
        let blames_itself = format.is_some_and(|format| format.blames_itself(status));
        self.blame(
            cx,
            epoch,
            number,
            status,
            is_of_packet(status) && !blames_itself,
        );
    }

    /// Of a request that was taken the analyzer does not take a part.
    pub(super) fn part_refused(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
    ) {
        self.blame(cx, epoch, number, status, is_of_packet(status));
    }

    fn blame(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
        is_at_fault: bool,
    ) {
        if let Some(link) = self.links.get_mut(&epoch) {
            link.report.refused += 1;
            if let Some(post) = link.post_mut(number) {
                post.is_at_fault = is_at_fault;
            }
        }
        self.find_another(cx, epoch, number, status);
    }

    /// Another analyzer gets a refused post, or nobody does.
    fn find_another(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, number: u64, status: u16) {
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return;
        };
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let taken = link.taken_newest;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        let is_at_fault = post.is_at_fault;
        let what = Move {
            first: number,
            messages: post.messages,
            rounds: post.rounds,
        };
        // It takes others by now, sent after this one's refusal, so this one is at fault.
        let is_known = post.waits_since.is_some_and(|before| taken > before);
        if is_known {
            return self.dead_letter(cx, epoch, number, status);
        }
        match cx.engine.move_on(lane, what) {
            Onward::Moved => {
                self.note_refusal(cx, epoch, status, Became::Moved, "");
                self.post_through(cx, epoch, number, Outcome::Moved);
            }
            Onward::NoRoom => {
                if let Some(link) = self.links.get_mut(&epoch) {
                    link.homeless.push((number, status));
                }
            }
            Onward::Nowhere if is_at_fault => self.dead_letter(cx, epoch, number, status),
            Onward::Nowhere => self.wait_for_a_mend(cx, epoch, number, status),
        }
    }

    /// Nobody may take a post, by answers that say nothing of it: everybody is asked again, later.
    fn wait_for_a_mend(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, number: u64, status: u16) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let sent = link.report.posts;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        post.rounds += 1;
        post.waits_since = Some(sent);
        let rounds = post.rounds;
        self.note_refusal(cx, epoch, status, Became::Waits, "");
        let pause_ns = self.pause_ns(cx, rounds).min(ROUND_MAX_NS);
        self.retry(epoch, number, cx.awake_ns.saturating_add(pause_ns));
    }

    /// Refused posts for which other lanes had no room.
    pub(super) fn find_homes(&mut self, cx: &mut Context<I>) {
        let links = self.links.iter();
        let homeless: Vec<LinkEpoch> = links
            .filter(|(_, link)| !link.homeless.is_empty())
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in homeless {
            let link = self.links.get_mut(&epoch);
            let waiting = link.map(|link| std::mem::take(&mut link.homeless));
            for (number, status) in waiting.unwrap_or_default() {
                self.find_another(cx, epoch, number, status);
            }
        }
    }

    /// Makes two posts of one. None: it is a single message.
    fn halve(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, number: u64) -> Option<()> {
        let lane = cx.engine.lane_of(epoch)?;
        let link = self.links.get_mut(&epoch)?;
        let is_packets = link.format.is_none();
        let whole = link.post_mut(number)?;
        if whole.messages < 2 {
            return None;
        }
        if !is_packets {
            return self.halve_request(cx, epoch, number);
        }
        let half = whole.messages / 2;
        let parts = [(number, half), (number + half, whole.messages - half)];
        let (end, rounds) = (whole.unit_end, whole.rounds);
        let now = http::iso8601(cx.io.unix_ms());
        for (first, messages) in parts {
            let records = cx.engine.records_of(lane, first, messages);
            let link = self.links.get_mut(&epoch)?;
            let (record, _) = Record::parse(&records)?;
            let mut request = Vec::new();
            let mut unit_end = end;
            match (record.body(), record.packet_id(), record.emitter_id()) {
                (Some(body), Some(packet), Some(emitter)) => {
                    let envelope = Envelope {
                        via: &self.pseudonym,
                        hops: record.hops(),
                        packet,
                        emitter,
                    };
                    write_request(&mut request, &link.target, &envelope, body);
                }
                _ => {
                    unit_end = first + messages - 1;
                    // It was within the limits with more messages.
                    let limits = cx.config.http.joined;
                    let (packet, _) = join_frames(&records, limits, &mut self.ids, &now)?;
                    let envelope = Envelope {
                        via: &self.pseudonym,
                        hops: 0,
                        packet: std::str::from_utf8(&packet.packet_id).unwrap_or_default(),
                        emitter: packet.emitter_id,
                    };
                    write_request(&mut request, &link.target, &envelope, &packet.body);
                }
            }
            let part = Post::new(messages, unit_end, request, rounds);
            link.posts.insert(first, part);
            link.retries.push((first, cx.awake_ns));
        }
        self.links.get_mut(&epoch)?.open += 1;
        Some(())
    }

    /// An analyzer asks to be sent a post again later.
    pub(super) fn post_put_off(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        head: AnswerHead,
        is_failure: bool,
    ) {
        let asked = head.retry_after.map(|after| after.from(cx.io.unix_ms()));
        let asked = asked.filter(|asked| !asked.is_zero());
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.retry_requests += 1;
        let nth = link.retry_requests;
        let own = Duration::from_nanos(self.pause_ns(cx, nth));
        let pause = asked.unwrap_or(own).min(PATIENCE_MAX);
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = cx.awake_ns.saturating_add(pause_ns);
        let lane = cx.engine.lane_of(epoch);
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let status = head.status;
        if link.paused_until_ns < until_ns {
            if link.paused_until_ns <= cx.awake_ns {
                let asked = asked.map_or(String::new(), |asked| {
                    format!(" (it asked for {})", Time(asked))
                });
                log::warn!(
                    "analyzer {}: status {status}: nothing is sent to it for {}{asked}",
                    Field(&link.target.name),
                    Time(pause)
                );
            }
            link.paused_until_ns = until_ns;
        }
        if let Some(lane) = lane {
            cx.engine.set_paused(lane, true);
        }
        if is_failure {
            let why = format!("status {status}");
            return self.post_failed(cx, epoch, number, &why, None);
        }
        link.report.failures += 1;
        self.retry(epoch, number, until_ns);
    }

    /// Analyzers whose pause is over get messages again.
    pub(super) fn end_pauses(&mut self, cx: &mut Context<I>) {
        let now_ns = cx.awake_ns;
        for (epoch, link) in &mut self.links {
            if link.paused_until_ns == 0 || link.paused_until_ns > now_ns {
                continue;
            }
            link.paused_until_ns = 0;
            if let Some(lane) = cx.engine.lane_of(*epoch) {
                cx.engine.set_paused(lane, false);
            }
            if !self.pump.contains(epoch) {
                self.pump.push(*epoch);
            }
        }
    }
}
