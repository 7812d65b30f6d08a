//! Connections to analyzers over HTTP, each carrying one post at a time.
//!
//! ```text
//! Connecting -> Idle -> Sending -> Answering -> Draining -> Idle ...
//!     `-----------`---------`----------`-----------`-> Closing: until the kernel is through with it
//! ```
//!
//! The head of an answer decides what becomes of the post. Its body is only drained, for a moment, so that
//! the connection can be used again.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use super::refused::{LOOP_DETECTED, UNREADABLE};
use super::{Fate, Nack};
use crate::port::Io;
use crate::port::{Completion, Group};
use crate::slab::{bare, token, Kind, Slot};
use crate::worker::Worker;
use weir_engine::LinkEpoch;
use weir_http as http;
use weir_http::{AnswerHead, ResponseReader};
use weir_protocol::text::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Idle,
    Sending,
    /// Sent; the answer is awaited.
    Answering,
    /// Answered; the rest of the answer's body is thrown away.
    Draining,
    /// Waits for the kernel to be through with it.
    Closing,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Silence, or no connection.
    Fault,
    /// What came is no answer.
    Unreadable,
    /// The peer closed or reset it.
    Lost,
    /// Nobody listens at its address.
    Gone,
    /// It is not needed any more.
    Over,
}

/// The body of an answer has so long; then the connection is closed.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// The same when all places of the pool are in use.
const DRAIN_CROWDED_MAX: Duration = Duration::from_millis(50);
/// What connect says when nobody is there, rather than when somebody is slow.
const GONE: [i32; 4] = [
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
];

/// What to do after bytes of an answer.
enum Step {
    /// All of it.
    Answer(http::Answer, bool),
    /// Its head.
    Head(AnswerHead),
    Broken(End, String),
}

/// A connection to an analyzer.
pub(super) struct PostConnection<S> {
    socket: S,
    link: LinkEpoch,
    /// Where it leads.
    address: SocketAddr,
    pub(super) stage: Stage,
    /// Number of the post that it carries.
    post: Option<u64>,
    reader: ResponseReader,
    /// It has been answered on before: it may have been closed meanwhile.
    pub(super) is_used: bool,
    receiving: bool,
    pub(super) sending: bool,
    connecting: bool,
    /// Number of the post whose request the kernel has.
    carried: Option<u64>,
    /// That post was not ACKed, but the kernel still has its request.
    pub(super) nack: Option<(u64, Nack)>,
    pub(super) since_ns: u64,
}

impl<S> PostConnection<S> {
    /// Which analyzer's it is.
    pub(super) fn link(&self) -> LinkEpoch {
        self.link
    }

    /// What it has waited for in vain, `since` its last step.
    pub(super) fn late(&self, since: Duration, timeout: Duration, crowded: bool) -> Option<String> {
        let limit = match self.stage {
            Stage::Idle | Stage::Closing => return None,
            Stage::Draining if crowded => DRAIN_CROWDED_MAX,
            Stage::Draining => DRAIN_MAX,
            _ => timeout,
        };
        let timeout = Time(timeout);
        (since >= limit).then(|| match (self.stage, self.reader.partial()) {
            (Stage::Connecting, _) => format!("no connection within {timeout}"),
            (Stage::Sending, _) => format!("the request was not taken within {timeout}"),
            (_, 0) => format!("no answer within {timeout}"),
            (_, bytes) => format!(
                "the head of its answer did not end within {timeout}: {bytes} bytes of it came"
            ),
        })
    }
}

impl<I: Io> Worker<I> {
    pub(super) fn connect_for_post(&mut self, epoch: LinkEpoch, number: u64) -> bool {
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return false;
        };
        let slot = self.posts.connections.next_slot();
        let connect = token(Kind::PostConnect, slot);
        match self.io.connect(link.target.address, connect) {
            Ok(socket) => {
                let made = self.posts.connections.insert(PostConnection {
                    socket,
                    link: epoch,
                    address: link.target.address,
                    stage: Stage::Connecting,
                    post: Some(number),
                    reader: ResponseReader::new(),
                    is_used: false,
                    receiving: false,
                    sending: false,
                    connecting: true,
                    carried: None,
                    nack: None,
                    since_ns: self.awake_ns,
                });
                debug_assert_eq!(made, slot);
                link.connections.push(slot);
                true
            }
            Err(error) => {
                let why = format!("no socket: {error}");
                self.post_failed(epoch, number, &why, None);
                false
            }
        }
    }

    pub(crate) fn on_post_connected(&mut self, slot: Slot, completion: Completion) {
        self.io.connected(completion.token);
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        connection.connecting = false;
        if connection.stage == Stage::Closing {
            self.bury_post_connection(slot);
            return;
        }
        if let Err(error) = completion.count() {
            connection.stage = Stage::Idle;
            let end = match error.raw_os_error() {
                Some(code) if GONE.contains(&code) => End::Gone,
                _ => End::Fault,
            };
            self.close_post_connection(slot, end, &format!("cannot connect: {error}"));
            return;
        }
        connection.stage = Stage::Idle;
        let post = connection.post;
        self.receive_answers(slot);
        if let Some(number) = post {
            self.send_post(slot, number);
        }
    }

    fn receive_answers(&mut self, slot: Slot) {
        if let Some(connection) = self.posts.connections.get_mut(slot) {
            connection.receiving = true;
            let token = token(Kind::PostReceive, slot);
            self.io.receive(&connection.socket, Group::Http, token);
        }
    }

    pub(super) fn send_post(&mut self, slot: Slot, number: u64) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        let Some(link) = self.posts.links.get_mut(&connection.link) else {
            return;
        };
        let sent_as = link.report.posts + 1;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        let request = std::mem::take(&mut post.request);
        post.sent_as = sent_as;
        if std::mem::replace(&mut post.maybe_taken, true) {
            self.engine.counters.duplicates_possible += post.messages;
        }
        link.report.posts += 1;
        debug_assert!(!request.is_empty(), "its request came back");
        connection.post = Some(number);
        connection.carried = Some(number);
        connection.stage = Stage::Sending;
        connection.sending = true;
        // On a new connection the time of the post began when it was connected.
        if connection.is_used {
            connection.since_ns = self.awake_ns;
        }
        self.engine.counters.sends += 1;
        self.engine.counters.sent_bytes += request.len() as u64;
        let token = token(Kind::PostSend, slot);
        self.io.send_bytes(&connection.socket, request, token);
    }

    pub(crate) fn on_post_sent(&mut self, slot: Slot, completion: Completion) {
        let request = self.io.sent_bytes(completion.token);
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        connection.sending = false;
        let (epoch, number) = (connection.link, connection.carried.take());
        let nack = connection.nack.take();
        let stage = connection.stage;
        let is_whole = completion.count().is_ok_and(|sent| sent == request.len());
        if let Some(link) = self.posts.links.get_mut(&epoch) {
            let post = number.and_then(|number| link.post_mut(number));
            if let Some(post) = post.filter(|post| post.fate == Fate::Open) {
                post.request = request;
            }
        }
        if let Some((number, nack)) = nack {
            self.post_not_acked(epoch, number, nack);
        }
        match stage {
            Stage::Closing => self.bury_post_connection(slot),
            Stage::Sending if is_whole => {
                if let Some(connection) = self.posts.connections.get_mut(slot) {
                    connection.stage = Stage::Answering;
                }
            }
            Stage::Sending => {
                let why = match completion.count() {
                    Ok(_) => "send cut short".to_owned(),
                    Err(error) => format!("send: {error}"),
                };
                self.close_post_connection(slot, End::Lost, &why);
            }
            _ => {}
        }
    }

    pub(crate) fn on_post_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Http, &completion);
        let mut step = None;
        if let Some(connection) = self.posts.connections.get_mut(slot) {
            connection.receiving = completion.more();
            if let Some(chunk) = chunk {
                let mut bytes = self.io.bytes_of(Group::Http, chunk);
                let answer = connection.reader.next(&mut bytes);
                let has_more = !bytes.is_empty();
                step = match answer {
                    Ok(Some(answer)) => Some(Step::Answer(answer, has_more)),
                    Ok(None) => connection.reader.answer_head().map(Step::Head),
                    Err(error) => {
                        let why = format!("its answer cannot be read: {}", error.detail);
                        Some(Step::Broken(End::Unreadable, why))
                    }
                };
            } else if completion.result == 0 {
                step = Some(match connection.reader.closed() {
                    Some(answer) => Step::Answer(answer, false),
                    None => Step::Broken(End::Lost, "closed by the analyzer".to_owned()),
                });
            } else if let Err(error) = completion.count() {
                let goes_on = matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
                );
                if !goes_on {
                    step = Some(Step::Broken(End::Lost, error.to_string()));
                }
            }
        }
        if let Some(chunk) = chunk {
            self.io.release(Group::Http, chunk);
        }
        match step {
            Some(Step::Answer(answer, has_more)) => self.on_answer(slot, answer, has_more),
            Some(Step::Head(head)) => self.on_answer_head(slot, head),
            Some(Step::Broken(end, why)) => self.close_post_connection(slot, end, &why),
            None => {}
        }
        let Some(connection) = self.posts.connections.get(slot) else {
            return;
        };
        if connection.stage == Stage::Closing {
            self.bury_post_connection(slot);
        } else if !connection.receiving {
            self.receive_answers(slot);
        }
    }

    fn on_answer(&mut self, slot: Slot, answer: http::Answer, has_more: bool) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        let (epoch, post) = (connection.link, connection.post.take());
        if connection.stage == Stage::Closing {
            return;
        }
        // An answer before the request was sent to its end leaves the connection in doubt.
        let is_sent = matches!(connection.stage, Stage::Answering | Stage::Draining);
        connection.is_used = true;
        let link = self.posts.links.get(&epoch);
        let is_there = link.is_some_and(|link| link.target.address == connection.address);
        if answer.reusable && !has_more && is_sent && is_there {
            connection.stage = Stage::Idle;
            connection.since_ns = self.awake_ns;
        } else {
            self.close_post_connection(slot, End::Over, "not to be used again");
        }
        if let Some(number) = post {
            self.judge(slot, epoch, number, answer.head);
        }
        self.posts.want_pump(epoch);
    }

    /// The head of an answer is there, and its body on its way.
    fn on_answer_head(&mut self, slot: Slot, head: AnswerHead) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        let epoch = connection.link;
        let Some(number) = connection.post.take() else {
            return;
        };
        connection.is_used = true;
        if connection.stage == Stage::Answering {
            connection.stage = Stage::Draining;
            connection.since_ns = self.awake_ns;
        } else {
            self.close_post_connection(slot, End::Over, "not to be used again");
        }
        self.judge(slot, epoch, number, head);
        self.posts.want_pump(epoch);
    }

    /// What an answer means for the post that it answers.
    fn judge(&mut self, slot: Slot, epoch: LinkEpoch, number: u64, head: AnswerHead) {
        let nack = match head.status {
            200..=299 => return self.post_through(epoch, number, Fate::Acked),
            408 | 425 | 429 => Nack::Patience(head, false),
            503 if head.retry_after.is_some() => Nack::Patience(head, true),
            status @ (400..=499 | LOOP_DETECTED) => Nack::Refused(status),
            status @ 300..=399 => {
                let to = head.location.as_deref().unwrap_or("nowhere");
                let why = format!(
                    "status {status} to {to}: redirects are not followed, the endpoint must be where it leads"
                );
                Nack::Odd(status, why)
            }
            status @ 500..=599 => Nack::Failed(format!("status {status}")),
            status => Nack::Odd(status, format!("status {status}, which is none for a POST")),
        };
        self.nack_when_sent(slot, epoch, number, nack);
    }

    /// A connection is over; the post that it carried is tried again.
    pub(super) fn close_post_connection(&mut self, slot: Slot, end: End, why: &str) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        if connection.stage == Stage::Closing {
            return;
        }
        let was_connecting = connection.stage == Stage::Connecting;
        // An idle connection that the analyzer closed before it saw the request: no failure of its.
        let is_stale = connection.is_used && connection.reader.is_idle();
        connection.stage = Stage::Closing;
        self.io.drop_unsent_on_close(&connection.socket);
        self.io.shutdown(&connection.socket, Shutdown::Both);
        if was_connecting {
            self.io
                .cancel(token(Kind::PostConnect, slot), bare(Kind::Cancel));
        }
        let (epoch, post) = (connection.link, connection.post.take());
        if let Some(link) = self.posts.links.get_mut(&epoch) {
            link.connections.retain(|other| *other != slot);
            if let Some(number) = post {
                let nack = match end {
                    End::Unreadable => Nack::Odd(UNREADABLE, why.to_owned()),
                    _ if is_stale => Nack::Stale,
                    End::Gone => Nack::Gone(why.to_owned()),
                    End::Lost => Nack::Lost(why.to_owned()),
                    End::Fault | End::Over => Nack::Failed(why.to_owned()),
                };
                self.nack_when_sent(slot, epoch, number, nack);
            }
            self.posts.want_pump(epoch);
        }
        self.bury_post_connection(slot);
    }

    fn bury_post_connection(&mut self, slot: Slot) {
        let Some(connection) = self.posts.connections.get(slot) else {
            return;
        };
        let is_idle = !connection.receiving && !connection.sending && !connection.connecting;
        if is_idle && connection.stage == Stage::Closing {
            self.posts.connections.remove(slot);
        }
    }
}
