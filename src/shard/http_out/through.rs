//! Posts that are through, from the front on, and those that are tried again.

use std::ops::Bound;

use super::{HttpEgress, HttpLink, Outcome};
use crate::context::Context;
use crate::port::Io;
use weir_engine::LinkEpoch;
use weir_http::Ids;

impl<I: Io> HttpEgress<I> {
    /// A post has been ACKed, or refused and moved or set aside: what is through from the front on is
    /// through in the lane.
    pub(super) fn post_through(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        outcome: Outcome,
    ) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        let post = link.post_mut(number);
        if let Some(post) = post.filter(|post| post.outcome == Outcome::Open) {
            post.outcome = outcome;
            self.spare.give(std::mem::take(&mut post.request));
            let sent_as = post.sent_as;
            link.open -= 1;
            if outcome == Outcome::Acked {
                link.report.acked += 1;
                link.taken_newest = link.taken_newest.max(sent_as);
                link.retry_requests = 0;
            }
            // One more may be in memory, also where no connection became free: what was refused found its home.
            self.want_pump(epoch);
        }
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return;
        };
        while let Some((messages, outcome)) = link.take_front() {
            match outcome {
                Outcome::Refused => cx.engine.refused(lane, messages, cx.now_ns),
                Outcome::Moved => cx.engine.moved_past(lane, messages, cx.now_ns),
                Outcome::Acked | Outcome::Open => cx.engine.acked(lane, messages, cx.now_ns),
            }
        }
    }

    pub(super) fn retry(&mut self, epoch: LinkEpoch, number: u64, at_ns: u64) {
        if let Some(link) = self.links.get_mut(&epoch) {
            link.retries.push((number, at_ns));
            self.want_pump(epoch);
        }
    }

    /// The pause before the n-th try after the first.
    pub(super) fn pause_ns(&mut self, cx: &mut Context<I>, nth: u32) -> u64 {
        let pause = cx
            .config
            .http
            .backoff
            .saturating_mul(1 << (nth - 1).min(16));
        // Full jitter over the upper half, so that analyzers that failed together are not met together.
        let [jitter, ..] = self.ids.next();
        let part = 0.5 + f64::from(jitter) / 512.0;
        u64::try_from(pause.mul_f64(part).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HttpLink {
    /// Takes the oldest post out if it is through: its messages and its outcome. A unit goes as a whole.
    fn take_front(&mut self) -> Option<(u64, Outcome)> {
        let (first, post) = self.posts.first_key_value()?;
        if *first > self.taken_until {
            let unit = (Bound::Included(*first), Bound::Included(post.unit_end));
            let mut parts = self.posts.range(unit);
            if parts.any(|(_, part)| part.outcome == Outcome::Open) {
                return None;
            }
            self.taken_until = post.unit_end;
        }
        let (_, post) = self.posts.pop_first()?;
        Some((post.messages, post.outcome))
    }
}
