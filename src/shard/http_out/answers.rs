//! What connections bring, and what that means for their posts.
//!
//! The head of an answer decides what becomes of the post. Its body is only drained, for a moment, so that
//! the connection can be used again.

use super::refused::LOOP_DETECTED;
use super::{End, Ending, HttpEgress, Outcome, PostConnection, Stage};
use crate::context::Context;
use crate::port::{Completion, Group, Io};
use crate::slab::{token, Kind, Slot};
use weir_engine::LinkEpoch;
use weir_http as http;
use weir_http::{AnswerHead, ResponseReader};
use weir_sink::request::Reply;

/// What connect says when nobody is there, rather than when somebody is slow.
const GONE: [i32; 4] = [
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
];

/// What to do after bytes of an answer.
pub(super) enum Step {
    /// All of it.
    Answer(http::Answer, bool),
    /// Its head.
    Head(AnswerHead),
    Broken(End, String),
}

impl Ending {
    /// The same, now that the send has ended: what an analyzer has not read it cannot have taken.
    fn of_sent(self, is_whole: bool) -> Ending {
        let status = match &self {
            Ending::Acked(status) => *status,
            Ending::Judged(head, _) => head.status,
            _ => return self,
        };
        match is_whole {
            true => self,
            false => Ending::Failed(format!("it answered {status} before it had the request")),
        }
    }
}

impl<I: Io> HttpEgress<I> {
    /// A connection for a post, or for a question.
    pub(super) fn connect_for(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: Option<u64>,
    ) -> bool {
        let Some(link) = self.links.get_mut(&epoch) else {
            return false;
        };
        let slot = self.connections.next_slot();
        let connect = token(Kind::PostConnect, slot);
        let secured = link.target.secured.as_ref();
        match cx.io.connect(link.target.at.address(), secured, connect) {
            Ok(socket) => {
                let made = self.connections.insert(PostConnection {
                    socket,
                    link: epoch,
                    address: link.target.at.address(),
                    stage: Stage::Connecting,
                    post: number,
                    reader: ResponseReader::new(),
                    reply: None,
                    is_used: false,
                    receiving: false,
                    sending: false,
                    connecting: true,
                    carried: None,
                    ending: None,
                    since_ns: cx.awake_ns,
                });
                debug_assert_eq!(made, slot);
                link.connections.push(slot);
                true
            }
            Err(error) => {
                let why = format!("no socket: {error}");
                if let Some(number) = number {
                    self.post_failed(cx, epoch, number, &why, None);
                }
                false
            }
        }
    }

    pub(crate) fn on_connected(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        cx.io.connected(completion.token);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.connecting = false;
        if connection.stage == Stage::Closing {
            self.bury_connection(slot);
            return;
        }
        if let Err(error) = completion.count() {
            connection.stage = Stage::Idle;
            let end = match error.raw_os_error() {
                Some(code) if GONE.contains(&code) => End::Gone,
                _ => End::Fault,
            };
            let why = cx.io.why(&connection.socket, &error);
            self.close_connection(cx, slot, end, &format!("cannot connect: {why}"));
            return;
        }
        connection.stage = Stage::Idle;
        let post = connection.post;
        self.receive_answers(cx, slot);
        match post {
            Some(number) => self.send_post(cx, slot, number),
            None => self.poll_over(cx, slot),
        }
    }

    fn receive_answers(&mut self, cx: &mut Context<I>, slot: Slot) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.receiving = true;
            let token = token(Kind::PostReceive, slot);
            cx.io.receive(&connection.socket, Group::Http, token);
        }
    }

    pub(super) fn send_post(&mut self, cx: &mut Context<I>, slot: Slot, number: u64) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(link) = self.links.get_mut(&connection.link) else {
            return;
        };
        let sent_as = link.report.posts + 1;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        let request = std::mem::take(&mut post.request);
        post.sent_as = sent_as;
        let messages = post.missing();
        if std::mem::replace(&mut post.maybe_taken, true) {
            cx.engine.counters.duplicates_possible += messages;
        }
        link.report.posts += 1;
        let format = link.format;
        connection.reply = format.and_then(|it| it.reply(&link.target.request, messages));
        debug_assert!(!request.is_empty(), "its request came back");
        connection.post = Some(number);
        connection.carried = Some(number);
        connection.stage = Stage::Sending;
        connection.sending = true;
        // On a new connection the time of the post began when it was connected.
        if connection.is_used {
            connection.since_ns = cx.awake_ns;
        }
        cx.engine.counters.sends += 1;
        cx.engine.counters.sent_bytes += request.len() as u64;
        let token = token(Kind::PostSend, slot);
        cx.io.send_bytes(&connection.socket, request, token);
    }

    pub(crate) fn on_sent(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let request = cx.io.sent_bytes(completion.token);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.sending = false;
        let (epoch, number) = (connection.link, connection.carried.take());
        let ending = connection.ending.take();
        let stage = connection.stage;
        let sent = completion.count();
        let is_whole = sent.as_ref().is_ok_and(|sent| *sent == request.len());
        let failed = sent
            .err()
            .map(|error| cx.io.why(&connection.socket, &error));
        if let Some(link) = self.links.get_mut(&epoch) {
            let can_be_made_again = link.format.is_some();
            let post = number.and_then(|number| link.post_mut(number));
            match post.filter(|post| post.outcome == Outcome::Open) {
                Some(post) if !can_be_made_again => post.request = request,
                _ => self.spare.give(request),
            }
        }
        if let Some((number, ending)) = ending {
            self.settle(cx, epoch, number, ending.of_sent(is_whole));
        }
        match stage {
            Stage::Closing => self.bury_connection(slot),
            Stage::Sending if is_whole => {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.stage = Stage::Answering;
                }
            }
            Stage::Sending => {
                let why = match failed {
                    None => "send cut short".to_owned(),
                    Some(why) => format!("send: {why}"),
                };
                self.close_connection(cx, slot, End::Lost, &why);
            }
            _ => {}
        }
    }

    pub(crate) fn on_receive(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let chunk = cx.io.chunk(Group::Http, &completion);
        let mut step = None;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.receiving = completion.more();
            if let Some(chunk) = chunk {
                let mut bytes = cx.io.bytes_of(Group::Http, chunk);
                step = connection.read_answer(&mut bytes);
            } else if completion.result == 0 {
                let answer = match connection.awaits_body() {
                    true => connection.reader.end(),
                    false => connection.reader.closed(),
                };
                step = Some(match answer {
                    Some(answer) => Step::Answer(answer, false),
                    None => Step::Broken(End::Lost, "closed by the analyzer".to_owned()),
                });
            } else if let Err(error) = completion.count() {
                let goes_on = matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
                );
                if !goes_on {
                    let why = cx.io.why(&connection.socket, &error);
                    step = Some(Step::Broken(End::Lost, why));
                }
            }
        }
        if let Some(chunk) = chunk {
            cx.io.release(Group::Http, chunk);
        }
        match step {
            Some(Step::Answer(answer, has_more)) => self.on_answer(cx, slot, answer, has_more),
            Some(Step::Head(head)) => self.on_answer_head(cx, slot, head),
            Some(Step::Broken(end, why)) => self.close_connection(cx, slot, end, &why),
            None => {}
        }
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.stage == Stage::Closing {
            self.bury_connection(slot);
        } else if !connection.receiving {
            self.receive_answers(cx, slot);
        }
    }

    fn on_answer(&mut self, cx: &mut Context<I>, slot: Slot, answer: http::Answer, has_more: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let (epoch, post) = (connection.link, connection.post.take());
        let reply = connection.reply.take();
        let is_poll = matches!(reply, Some(Reply::AckPoll(_)));
        if connection.stage == Stage::Closing {
            return;
        }
        // An answer before the request was sent to its end leaves the connection in doubt.
        let is_sent = matches!(connection.stage, Stage::Answering | Stage::Draining);
        connection.is_used = true;
        let link = self.links.get(&epoch);
        let is_there = link.is_some_and(|link| link.target.at.address() == connection.address);
        if answer.reusable && !has_more && is_sent && is_there {
            connection.stage = Stage::Idle;
            connection.since_ns = cx.awake_ns;
        } else {
            self.close_connection(cx, slot, End::Over, "not to be used again");
        }
        let is_taken = (200..=299).contains(&answer.head.status);
        let messages = self.missing_of(epoch, post);
        let verdict = reply.filter(|_| is_taken).map(|reply| reply.end(messages));
        match (post, verdict) {
            (Some(number), Some(verdict)) => {
                let judged = Ending::Judged(answer.head, verdict);
                self.settle_when_sent(cx, slot, epoch, number, judged);
            }
            (Some(number), None) => self.judge(cx, slot, epoch, number, answer.head),
            (None, verdict) if is_poll => self.polled(cx, epoch, &answer.head, verdict),
            (None, _) => {}
        }
        self.want_pump(epoch);
    }

    /// The head of an answer is there, and its body on its way.
    fn on_answer_head(&mut self, cx: &mut Context<I>, slot: Slot, head: AnswerHead) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let epoch = connection.link;
        connection.is_used = true;
        let (post, reply) = (connection.post.take(), connection.reply.take());
        let is_poll = matches!(reply, Some(Reply::AckPoll(_)));
        if post.is_none() && !is_poll {
            return;
        }
        if connection.stage == Stage::Answering {
            connection.stage = Stage::Draining;
            connection.since_ns = cx.awake_ns;
        } else {
            self.close_connection(cx, slot, End::Over, "not to be used again");
        }
        match post {
            Some(number) => self.judge(cx, slot, epoch, number, head),
            None => self.polled(cx, epoch, &head, None),
        }
        self.want_pump(epoch);
    }

    /// What an answer means for the post that it answers.
    fn judge(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        epoch: LinkEpoch,
        number: u64,
        head: AnswerHead,
    ) {
        let ending = match head.status {
            status @ 200..=299 => Ending::Acked(status),
            408 | 425 | 429 => Ending::RetryLater(head, false),
            502..=504 if head.retry_after.is_some() => Ending::RetryLater(head, true),
            status @ (400..=499 | LOOP_DETECTED) => Ending::Refused(status),
            status @ 300..=399 => {
                let to = head.location.as_deref().unwrap_or("nowhere");
                let why = format!(
                    "status {status} to {to}: redirects are not followed, the endpoint must be where it leads"
                );
                Ending::Odd(status, why)
            }
            status @ 500..=599 => Ending::Failed(format!("status {status}")),
            status => Ending::Odd(status, format!("status {status}, which is none for a POST")),
        };
        self.settle_when_sent(cx, slot, epoch, number, ending);
    }

    /// A connection is over; the post that it carried is tried again.
    pub(super) fn close_connection(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        end: End,
        why: &str,
    ) {
        let Some((epoch, ending)) = self.end_connection(cx, slot, end, why) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&epoch) {
            link.connections.retain(|other| *other != slot);
            if let Some((number, ending)) = ending {
                self.settle_when_sent(cx, slot, epoch, number, ending);
            }
            self.want_pump(epoch);
        }
        self.bury_connection(slot);
    }

    /// What became of a post that a connection carried. Its request comes back when the send completes: not before then is
    /// it sent again, and not before then has the analyzer all of it.
    pub(super) fn settle_when_sent(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        epoch: LinkEpoch,
        number: u64,
        ending: Ending,
    ) {
        match self.connections.get_mut(slot) {
            Some(connection) if connection.sending => connection.ending = Some((number, ending)),
            _ => self.settle(cx, epoch, number, ending),
        }
    }

    pub(super) fn settle(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        ending: Ending,
    ) {
        if matches!(ending, Ending::Refused(_) | Ending::RetryLater(..)) {
            let link = self.links.get_mut(&epoch);
            if let Some(post) = link.and_then(|link| link.post_mut(number)) {
                post.maybe_taken = false;
            }
        }
        match ending {
            Ending::Acked(_) => self.post_through(cx, epoch, number, Outcome::Acked),
            Ending::Failed(why) => self.post_failed(cx, epoch, number, &why, None),
            Ending::Lost(why) => self.post_failed(cx, epoch, number, &why, Some(cx.awake_ns)),
            Ending::Gone(why) => self.give_up(cx, epoch, &why),
            Ending::Refused(status) => self.post_refused(cx, epoch, number, status),
            Ending::Odd(status, why) => self.post_odd(cx, epoch, number, status, why),
            Ending::Judged(head, verdict) => self.judge_verdict(cx, epoch, number, head, verdict),
            Ending::RetryLater(head, is_failure) => {
                self.post_put_off(cx, epoch, number, head, is_failure);
            }
            Ending::Stale => {
                if let Some(link) = self.links.get_mut(&epoch) {
                    link.retries.push((number, cx.awake_ns));
                }
            }
        }
        self.want_pump(epoch);
    }
}
