//! Answers whose body says what became of the messages of a request.
//!
//! ```text
//! item by item   in (2xx, 409): done   429, 5xx: these are sent again, they alone   other 4xx: refused (refused.rs)
//! partly         so many dropped: the request is set aside to be read, and not sent again
//! later          the post waits for its number; the analyzer is asked every second which numbers are acked
//! ```
//!
//! A post whose messages fared differently is divided. Its parts are through as one.

use super::draft::{question, Draft, Making};
use super::{Ending, HttpEgress, HttpLink, Outcome, Post, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::{token, Kind, Slot};
use weir_engine::LinkEpoch;
use weir_http::AnswerHead;
use weir_protocol::record::Record;
use weir_protocol::text::Field;
use weir_sink::request::{write_ack_poll, AckPollReply, Format, Reply, Run, Verdict};

/// How often an analyzer is asked which numbers are acked.
const POLL_EVERY_NS: u64 = 1_000_000_000;
/// Posts of a link that wait for their numbers.
pub(super) const NUMBERED_MAX: usize = 1024;

/// What becomes of items with the same status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Again,
    Refused(u16),
}

fn fate_of(status: u16) -> Fate {
    match status {
        200..=299 | 409 => Fate::Done,
        408 | 425 | 429 | 500..=599 => Fate::Again,
        status => Fate::Refused(status),
    }
}

impl Post {
    /// Whether its message number `offset` has arrived, from 0.
    pub(super) fn has_arrived(&self, offset: u64) -> bool {
        let behind = self.arrived.partition_point(|(first, _)| *first <= offset);
        let run = behind.checked_sub(1).map(|at| self.arrived[at]);
        run.is_some_and(|(first, messages)| offset < first + messages)
    }

    /// Messages that have not arrived.
    pub(super) fn missing(&self) -> u64 {
        let arrived: u64 = self.arrived.iter().map(|(_, messages)| *messages).sum();
        self.messages - arrived
    }

    /// A part of it, with nothing said of it.
    pub(super) fn part(&self, offset: u64, messages: u64) -> Post {
        let end = offset + messages;
        let within = |(first, count): &(u64, u64)| {
            let (from, to) = ((*first).max(offset), (*first + *count).min(end));
            (from < to).then(|| (from - offset, to - from))
        };
        Post {
            failures: self.failures,
            sent_as: self.sent_as,
            made_ms: self.made_ms,
            arrived: self.arrived.iter().filter_map(within).collect(),
            ..Post::new(messages, self.unit_end, Vec::new(), self.rounds)
        }
    }
}

impl<I: Io> HttpEgress<I> {
    /// Makes the request of an open post anew, out of the lane: what has arrived is not in it. False: the lane or the
    /// post is gone.
    pub(super) fn rebuild(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, number: u64) -> bool {
        let Some(lane) = cx.engine.lane_of(epoch) else {
            return false;
        };
        let now_ms = cx.io.unix_ms();
        let Some(link) = self.links.get_mut(&epoch) else {
            return false;
        };
        let Some(format) = link.format else {
            return false;
        };
        let Some(post) = link.posts.get(&number) else {
            return false;
        };
        // Some tell what came twice by its time.
        let unix_ms = match post.made_ms {
            0 => now_ms,
            made_ms => made_ms,
        };
        let making = Making {
            target: &link.target,
            format,
            via: &self.pseudonym,
            channel: &link.channel,
            instance: self.instance,
            unix_ms,
        };
        let records = cx.engine.identified_records_of(lane, number, post.messages);
        let bytes = records.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut draft = Draft::new(&making, bytes, &mut self.spare).unbounded();
        let mut offset = 0;
        for (origin, bytes) in records {
            let Some((record, _)) = Record::parse(&bytes) else {
                continue;
            };
            let pushed = draft.push(&record, origin, |within| post.has_arrived(offset + within));
            debug_assert!(pushed, "unbounded");
            offset += record.messages() as u64; // from a u32
        }
        let request = draft.finish();
        if let Some(post) = link.post_mut(number) {
            post.request = request;
            post.made_ms = unix_ms;
        }
        true
    }

    /// Makes two posts of one, whose requests are made when they are sent.
    pub(super) fn halve_request(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
    ) -> Option<()> {
        let link = self.links.get_mut(&epoch)?;
        let whole = link.posts.remove(&number)?;
        let half = whole.messages / 2;
        for (offset, messages) in [(0, half), (half, whole.messages - half)] {
            link.posts
                .insert(number + offset, whole.part(offset, messages));
            link.retries.push((number + offset, cx.awake_ns));
        }
        link.open += 1;
        Some(())
    }

    /// What the body of an answer with 2xx means for the post that it answers. Its request has come back.
    pub(super) fn judge_verdict(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        head: AnswerHead,
        verdict: Verdict,
    ) {
        let status = head.status;
        match verdict {
            Verdict::Taken | Verdict::Acked(_) => {
                self.post_through(cx, epoch, number, Outcome::Acked);
            }
            Verdict::TakenBut(remark) => {
                self.remark(epoch, &format!("it takes a request and says {remark}"));
                self.post_through(cx, epoch, number, Outcome::Acked);
            }
            Verdict::Items(runs, why) => {
                let odd = runs.iter().find(|run| !(200..=299).contains(&run.status));
                let why = match (why.is_empty() || why == "\"\"", odd) {
                    (true, Some(run)) => format!("status {} of an item", run.status),
                    _ => why,
                };
                self.remark(epoch, &format!("it does not take all of a request: {why}"));
                self.post_by_items(cx, epoch, number, head, &runs);
            }
            Verdict::Partly(dropped, why) => {
                self.remark(epoch, &format!("it drops messages of a request: {why}"));
                self.post_partly(cx, epoch, number, status, dropped);
            }
            Verdict::Later(id) => self.post_numbered(cx, epoch, number, id),
            Verdict::Unreadable(why) => {
                let why = format!("status {status}, and its answer cannot be read: {why}");
                self.settle(cx, epoch, number, Ending::Failed(why));
            }
            Verdict::Misfit(why) => {
                let ending = Ending::Odd(status, format!("status {status}: {why}"));
                self.settle(cx, epoch, number, ending);
            }
        }
    }

    /// Says something of an analyzer when it is another thing than was said last.
    fn remark(&mut self, epoch: LinkEpoch, what: &str) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        if link.odd_said.as_deref() != Some(what) {
            log::warn!("analyzer {}: {what}", Field(&link.target.name));
            link.odd_said = Some(what.to_owned());
        }
    }

    /// Each message that was sent has a status of its own.
    fn post_by_items(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        head: AnswerHead,
        runs: &[Run],
    ) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let (refused, others) = link.divide(number, runs);
        // Between the refused ones: parts with something to be sent again, and parts that are in.
        let (again, done): (Vec<u64>, Vec<u64>) = others
            .into_iter()
            .partition(|part| link.posts.get(part).is_some_and(|post| post.missing() > 0));
        for (part, status) in refused {
            self.part_refused(cx, epoch, part, status);
        }
        for part in done {
            self.post_through(cx, epoch, part, Outcome::Acked);
        }
        if let Some((first, others)) = again.split_first() {
            let head = AnswerHead {
                status: 429,
                ..head
            };
            self.post_put_off(cx, epoch, *first, head, false);
            let link = self.links.get(&epoch);
            let until_ns = link.map_or(0, |link| link.paused_until_ns);
            for part in others {
                self.retry(epoch, *part, until_ns);
            }
        }
        self.want_pump(epoch);
    }

    /// So many of a post's messages were dropped by the analyzer; the others are in.
    fn post_partly(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
        dropped: u64,
    ) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.report.refused += 1;
        let Some(post) = link.posts.get(&number) else {
            return;
        };
        let (messages, dropped) = (post.messages, dropped.min(post.messages));
        let kept = messages - dropped;
        let aside = Some((number, messages));
        let mut tail = post.part(kept, dropped);
        tail.aside = aside;
        if kept == 0 {
            if let Some(post) = link.post_mut(number) {
                post.aside = aside;
            }
            return self.dead_letter(cx, epoch, number, status);
        }
        if let Some(post) = link.post_mut(number) {
            post.messages = kept;
        }
        link.posts.insert(number + kept, tail);
        link.open += 1;
        self.dead_letter(cx, epoch, number + kept, status);
        self.post_through(cx, epoch, number, Outcome::Acked);
    }

    /// A post is through when its number is acked.
    fn post_numbered(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, number: u64, id: u64) {
        let now_ns = cx.awake_ns;
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        link.retry_requests = 0;
        // A number that comes twice is that of the newer one.
        if let Some((older, _)) = link.numbered.insert(id, (number, now_ns)) {
            let why = format!("its ackId {id} was given to two requests");
            self.settle(cx, epoch, older, Ending::Failed(why));
        }
        if let Some(link) = self.links.get_mut(&epoch) {
            if let Some(post) = link.post_mut(number) {
                // Made anew out of the lane if it is wanted again.
                self.spare.give(std::mem::take(&mut post.request));
            }
        }
        self.want_pump(epoch);
    }

    /// These numbers of an analyzer are acked.
    pub(super) fn numbers_acked(&mut self, cx: &mut Context<I>, epoch: LinkEpoch, ids: Vec<u64>) {
        for id in ids {
            let link = self.links.get_mut(&epoch);
            if let Some((number, _)) = link.and_then(|link| link.numbered.remove(&id)) {
                self.post_through(cx, epoch, number, Outcome::Acked);
            }
        }
    }

    /// Asks analyzers which numbers are acked, and sends again what was not in time.
    pub(super) fn poll_numbers(&mut self, cx: &mut Context<I>) {
        let now_ns = cx.awake_ns;
        let links = self.links.iter();
        let waiting: Vec<LinkEpoch> = links
            .filter(|(_, link)| !link.numbered.is_empty())
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in waiting {
            let Some(link) = self.links.get_mut(&epoch) else {
                continue;
            };
            let timeout = link.target.request.ack_timeout.as_nanos();
            let is_late = |since: u64| u128::from(now_ns.saturating_sub(since)) >= timeout;
            let numbered = link.numbered.iter();
            let late: Vec<(u64, u64)> = numbered
                .filter(|(_, (_, since))| is_late(*since))
                .map(|(id, (number, _))| (*id, *number))
                .collect();
            for (id, number) in late {
                if let Some(link) = self.links.get_mut(&epoch) {
                    link.numbered.remove(&id);
                }
                let why = format!("ackId {id} was not acknowledged in time");
                self.post_failed(cx, epoch, number, &why, None);
            }
            let link = self.links.get(&epoch);
            let is_due = link.is_some_and(|link| {
                !link.numbered.is_empty() && now_ns.saturating_sub(link.polled_ns) >= POLL_EVERY_NS
            });
            if is_due {
                self.poll(cx, epoch);
            }
        }
    }

    /// Messages of a post that its request has.
    pub(super) fn missing_of(&self, epoch: LinkEpoch, post: Option<u64>) -> u64 {
        let link = self.links.get(&epoch);
        let post = link.and_then(|link| link.posts.get(&post?));
        post.map_or(0, Post::missing)
    }

    /// The answer to a question has come. One that says nothing is asked again.
    pub(super) fn polled(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        head: &AnswerHead,
        verdict: Option<Verdict>,
    ) {
        match verdict {
            Some(Verdict::Acked(ids)) => self.numbers_acked(cx, epoch, ids),
            Some(Verdict::Unreadable(why)) => {
                let why = format!("what it says of acks cannot be read: {why}");
                self.remark(epoch, &why);
            }
            _ if (200..=299).contains(&head.status) => {}
            _ => {
                let why = format!("status {} where it was asked for acks", head.status);
                self.remark(epoch, &why);
            }
        }
    }

    /// A connection was made, and no post is for it.
    pub(super) fn poll_over(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let epoch = connection.link;
        let link = self.links.get(&epoch);
        if link.is_some_and(|link| !link.numbered.is_empty()) {
            self.poll(cx, epoch);
        }
        self.want_pump(epoch);
    }

    /// Asks over an idle connection, or makes one for it.
    fn poll(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let pool = usize::from(cx.config.http.pool_connections);
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let connections = &self.connections;
        let is_idle = |slot: &Slot| {
            let connection = connections.get(*slot);
            connection.is_some_and(|connection| connection.stage == Stage::Idle)
        };
        let Some(slot) = link.connections.iter().copied().find(is_idle) else {
            if link.connections.len() < pool {
                link.polled_ns = cx.awake_ns; // one connection a poll, however often it fails
                self.connect_for(cx, epoch, None);
            }
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        link.polled_ns = cx.awake_ns;
        let mut body = Vec::new();
        write_ack_poll(link.numbered.keys().copied(), &mut body);
        let making = Making {
            target: &link.target,
            format: Format::Hec,
            via: &self.pseudonym,
            channel: &link.channel,
            instance: self.instance,
            unix_ms: 0,
        };
        let path = ack_path(&link.target.request.path);
        let request = question(&making, &path, &body);
        connection.reply = Some(Reply::AckPoll(AckPollReply::default()));
        connection.stage = Stage::Sending;
        connection.sending = true;
        connection.since_ns = cx.awake_ns;
        let token = token(Kind::PostSend, slot);
        cx.io.send_bytes(&connection.socket, request, token);
    }
}

/// Beside the path of events: `/services/collector/event` -> `/services/collector/ack`.
fn ack_path(events: &str) -> String {
    let (path, query) = match events.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (events, None),
    };
    let at = path
        .find("/collector")
        .map_or(path.len(), |at| at + "/collector".len());
    let base = &path[..at];
    match query {
        Some(query) => format!("{base}/ack?{query}"),
        None => format!("{base}/ack"),
    }
}

impl HttpLink {
    /// Notes what has arrived of a post, and makes parts of their own of what was refused: these and their statuses, and
    /// the others.
    fn divide(&mut self, number: u64, runs: &[Run]) -> (Vec<(u64, u16)>, Vec<u64>) {
        let Some(mut post) = self.posts.remove(&number) else {
            return (Vec::new(), Vec::new());
        };
        let (mut refused, mut others, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        let sent: Vec<u64> = (0..post.messages)
            .filter(|it| !post.has_arrived(*it))
            .collect();
        let mut sent = sent.into_iter();
        let mut arrived: Vec<(u64, u64)> = Vec::new();
        for run in runs {
            let fate = fate_of(run.status);
            let count = usize::try_from(run.items).unwrap_or(usize::MAX);
            for offset in sent.by_ref().take(count) {
                match fate {
                    Fate::Done => extend(&mut arrived, offset),
                    Fate::Again => {}
                    Fate::Refused(status) => cuts.push((offset, status)),
                }
            }
        }
        post.arrived.extend(arrived);
        post.arrived.sort_unstable();
        post.request = Vec::new();
        // Neighbours with the same status are one part.
        let mut tiles: Vec<(u64, u64, u16)> = Vec::new();
        for (offset, status) in cuts {
            match tiles.last_mut() {
                Some((first, count, same)) if *same == status && *first + *count == offset => {
                    *count += 1
                }
                _ => tiles.push((offset, 1, status)),
            }
        }
        self.open -= 1;
        let mut next = 0;
        let end = post.messages;
        for (offset, count, status) in tiles {
            if next < offset {
                self.insert_part(number + next, post.part(next, offset - next));
                others.push(number + next);
            }
            self.insert_part(number + offset, post.part(offset, count));
            refused.push((number + offset, status));
            next = offset + count;
        }
        if next < end {
            self.insert_part(number + next, post.part(next, end - next));
            others.push(number + next);
        }
        (refused, others)
    }

    fn insert_part(&mut self, number: u64, post: Post) {
        self.posts.insert(number, post);
        self.open += 1;
    }
}

/// One more behind the last run, or a new one.
fn extend(runs: &mut Vec<(u64, u64)>, offset: u64) {
    match runs.last_mut() {
        Some((first, count)) if *first + *count == offset => *count += 1,
        _ => runs.push((offset, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_asked_for_beside_the_events() {
        for (events, acks) in [
            ("/services/collector/event", "/services/collector/ack"),
            ("/services/collector", "/services/collector/ack"),
            (
                "/services/collector/event/1.0?a=b",
                "/services/collector/ack?a=b",
            ),
            ("/x", "/x/ack"),
        ] {
            assert_eq!(ack_path(events), acks);
        }
    }
}
