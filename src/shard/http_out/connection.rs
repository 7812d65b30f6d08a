//! Connections to analyzers over HTTP, each carrying one post at a time.
//!
//! ```text
//! Connecting -> Idle -> Sending -> Answering -> Draining -> Idle ...
//!     `-----------`---------`----------`-----------`-> Closing: until the kernel is through with it
//! ```

use std::net::Shutdown;
use std::time::Duration;

use super::answers::Step;
use super::{End, Ending, HttpEgress, PostConnection, Stage, UNREADABLE};
use crate::context::Context;
use crate::port::Io;
use crate::slab::{bare, token, Kind, Slot};
use weir_engine::LinkEpoch;
use weir_protocol::text::Time;

/// The body of an answer has so long; then the connection is closed.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// The same when all places of the pool are in use.
const DRAIN_CROWDED_MAX: Duration = Duration::from_millis(50);

/// Most bytes of a body that is read. Little of it is kept.
const BODY_BYTES_MAX: usize = 64 << 20;

impl<S> PostConnection<S> {
    /// Which analyzer's it is.
    pub(super) fn link(&self) -> LinkEpoch {
        self.link
    }

    /// The body of the answer is wanted, and its end has not come.
    pub(super) fn awaits_body(&self) -> bool {
        let head = self.reader.answer_head();
        self.reply.is_some() && head.is_some_and(|head| (200..=299).contains(&head.status))
    }

    /// Reads on in an answer. Of one with 2xx whose body says something, all is awaited; of others the head is enough.
    pub(super) fn read_answer(&mut self, bytes: &mut &[u8]) -> Option<Step> {
        let read = |connection: &mut Self, bytes: &mut &[u8]| {
            connection.reader.begin(bytes)?;
            if !connection.awaits_body() {
                return connection.reader.next(bytes);
            }
            let (reader, reply) = (&mut connection.reader, &mut connection.reply);
            reader.read(bytes, BODY_BYTES_MAX, |piece, _| {
                if let Some(reply) = reply {
                    reply.feed(piece);
                }
            })
        };
        match read(self, bytes) {
            Ok(Some(answer)) => Some(Step::Answer(answer, !bytes.is_empty())),
            Ok(None) if self.awaits_body() => None,
            Ok(None) => self.reader.answer_head().map(Step::Head),
            Err(error) => {
                let why = format!("its answer cannot be read: {}", error.detail);
                Some(Step::Broken(End::Unreadable, why))
            }
        }
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

impl<I: Io> HttpEgress<I> {
    /// A connection is over. Returns whose it was, and the post that it carried and what that has come to.
    pub(super) fn end_connection(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        end: End,
        why: &str,
    ) -> Option<(LinkEpoch, Option<(u64, Ending)>)> {
        let connection = self.connections.get_mut(slot)?;
        if connection.stage == Stage::Closing {
            return None;
        }
        let was_connecting = connection.stage == Stage::Connecting;
        // An idle connection that the analyzer closed before it saw the request: no failure of its.
        let is_stale = connection.is_used && connection.reader.is_idle();
        connection.stage = Stage::Closing;
        cx.io.drop_unsent_on_close(&connection.socket);
        cx.io.shutdown(&connection.socket, Shutdown::Both);
        if was_connecting {
            cx.io
                .cancel(token(Kind::PostConnect, slot), bare(Kind::Cancel));
        }
        let ending = connection.post.take().map(|number| {
            let ending = match end {
                End::Unreadable => Ending::Odd(UNREADABLE, why.to_owned()),
                _ if is_stale => Ending::Stale,
                End::Gone => Ending::Gone(why.to_owned()),
                End::Lost => Ending::Lost(why.to_owned()),
                End::Fault | End::Over => Ending::Failed(why.to_owned()),
            };
            (number, ending)
        });
        Some((connection.link, ending))
    }

    pub(super) fn bury_connection(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let is_idle = !connection.receiving && !connection.sending && !connection.connecting;
        if is_idle && connection.stage == Stage::Closing {
            self.connections.remove(slot);
        }
    }
}
