//! What came of one thread's connections.

use super::{Report, Worker};
use crate::emitter::acked::Unacked;
use crate::emitter::connection::Connection;
use weir_ledger::run_report::{Span, Stream};

impl Worker {
    /// Adds its connections up.
    pub(super) fn summary(&mut self) -> Report {
        for connection in &self.connections {
            self.report.messages += connection.messages;
            self.report.bytes += connection.bytes;
            self.report.blocked += connection.blocked();
            let first = connection.next_group;
            let groups = (0..connection.owed).map(|i| first + i * self.connections.len() as u64);
            self.report.unsent += groups.map(|g| self.schedule.messages(g)).sum::<u64>();
            self.report.unsent += connection.unsent_messages();
            if let Some(acked) = &connection.acked {
                self.report.acked += acked.acked();
                self.report.unacked += connection.messages - acked.acked().min(connection.messages);
                self.report.resent += acked.resent();
                for (instance, messages) in acked.acked_by() {
                    *self.report.acked_by.entry(*instance).or_default() += messages;
                }
            }
            self.report.unconfirmed += u64::from(connection.is_open());
        }
        self.report.clone()
    }

    /// What each connection's stream came to. Messages whose end the peer has not confirmed may be
    /// lost yet.
    pub(super) fn streams(&mut self) -> Vec<Stream> {
        let stream = |connection: &mut Connection| {
            if connection.is_open() {
                connection.note_maybe_lost();
            }
            let given = (connection.messages > 0).then_some(Span(1, connection.messages));
            Stream {
                stream: String::from_utf8_lossy(&connection.stream_name).into_owned(),
                given: given.into_iter().collect(),
                maybe_lost: connection.maybe_lost.clone(),
                resent: connection.resent.clone(),
                maybe_twice: Vec::new(),
            }
        };
        let acked = |connection: &Connection, acked: &Unacked| {
            let span = |first, last| (first <= last).then_some(Span(first, last));
            let name = String::from_utf8_lossy(&connection.stream_name);
            Stream {
                stream: name.into_owned(),
                given: span(1, connection.messages).into_iter().collect(),
                maybe_lost: span(acked.acked() + 1, connection.messages)
                    .into_iter()
                    .collect(),
                resent: Vec::new(),
                maybe_twice: acked.maybe_twice().to_vec(),
            }
        };
        let each = self
            .connections
            .iter_mut()
            .map(|connection| match &connection.acked {
                Some(kept) => acked(connection, kept),
                None => stream(connection),
            });
        each.collect()
    }
}
