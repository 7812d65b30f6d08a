//! Connections to analyzers over HTTP, each carrying one post at a time.
//!
//! ```text
//! Connecting -> Idle -> Sending -> Answering -> Idle ...
//!     `-----------`---------`----------`-> Closing: until the kernel is through with it
//! ```

use std::net::Shutdown;

use super::aside::REFUSALS;
use super::{Fate, Nack};
use crate::engine::LinkEpoch;
use crate::http::{self, ResponseReader};
use crate::shard::io::Io;
use crate::shard::slab::{bare, token, Kind, Slot};
use crate::shard::worker::Worker;
use crate::uring::{Completion, Group};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Idle,
    Sending,
    /// Sent; the answer is awaited.
    Answering,
    /// Waits for the kernel to be through with it.
    Closing,
}

/// A connection to an analyzer.
pub(super) struct PostConnection<S> {
    socket: S,
    link: LinkEpoch,
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
                self.post_failed(epoch, number, &format!("no socket: {error}"));
                false
            }
        }
    }

    pub(in crate::shard) fn on_post_connected(&mut self, slot: Slot, completion: Completion) {
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
            self.close_post_connection(slot, &format!("cannot connect: {error}"));
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
        let Some(post) = link.post_mut(number) else {
            return;
        };
        let request = std::mem::take(&mut post.request);
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

    pub(in crate::shard) fn on_post_sent(&mut self, slot: Slot, completion: Completion) {
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
                self.close_post_connection(slot, &why);
            }
            _ => {}
        }
    }

    pub(in crate::shard) fn on_post_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Http, &completion);
        let mut outcome = None;
        if let Some(connection) = self.posts.connections.get_mut(slot) {
            connection.receiving = completion.more();
            if let Some(chunk) = chunk {
                let mut bytes = self.io.bytes_of(Group::Http, chunk);
                let answer = connection.reader.next(&mut bytes);
                let has_more = !bytes.is_empty();
                outcome = match answer {
                    Ok(answer) => answer.map(|answer| Ok((answer, has_more))),
                    Err(error) => Some(Err(format!("answer: {}", error.detail))),
                };
            } else if completion.result == 0 {
                outcome = match connection.reader.closed() {
                    Some(answer) => Some(Ok((answer, false))),
                    None => Some(Err("closed by the analyzer".to_owned())),
                };
            } else if let Err(error) = completion.count() {
                let goes_on = matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
                );
                if !goes_on {
                    outcome = Some(Err(error.to_string()));
                }
            }
        }
        if let Some(chunk) = chunk {
            self.io.release(Group::Http, chunk);
        }
        match outcome {
            Some(Ok((answer, has_more))) => self.on_answer(slot, answer, has_more),
            Some(Err(why)) => self.close_post_connection(slot, &why),
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
        let (epoch, post) = (connection.link, connection.post);
        if connection.stage == Stage::Closing {
            return;
        }
        let Some(number) = post else {
            self.close_post_connection(slot, "an answer that nothing was asked for");
            return;
        };
        // An answer before the request was sent to its end leaves the connection in doubt.
        let is_reusable = answer.reusable && !has_more && connection.stage == Stage::Answering;
        connection.post = None;
        connection.is_used = true;
        if is_reusable {
            connection.stage = Stage::Idle;
            connection.since_ns = self.awake_ns;
        } else {
            self.close_post_connection(slot, "not to be used again");
        }
        let nack = match answer.status {
            200..=299 => {
                self.post_through(epoch, number, Fate::Acked);
                self.posts.want_pump(epoch);
                return;
            }
            status if REFUSALS.contains(&status) => Nack::Refused(status),
            status => Nack::Failed(format!("status {status}")),
        };
        self.nack_when_sent(slot, epoch, number, nack);
        self.posts.want_pump(epoch);
    }

    /// A connection is over; the post that it carried is tried again.
    pub(super) fn close_post_connection(&mut self, slot: Slot, why: &str) {
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
                let nack = match is_stale {
                    true => Nack::Stale,
                    false => Nack::Failed(why.to_owned()),
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
