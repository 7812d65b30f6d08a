//! What takes too long, and whose pause is over.

use std::time::Duration;

use super::{End, HttpEgress, HttpLink, PostConnection, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::LinkEpoch;

impl<I: Io> HttpEgress<I> {
    /// Analyzers that are at another address by now: their idle connections are closed, the others when they
    /// have been answered.
    fn follow_moves(&mut self, cx: &mut Context<I>) {
        let moves = cx.shared.control_port.target_moves();
        if moves == std::mem::replace(&mut self.moves_seen, moves) {
            return;
        }
        let mut left = Vec::new();
        for link in self.links.values_mut() {
            let Some(target) = cx.shared.control_port.target(link.generation) else {
                continue;
            };
            if target.at != link.target.at {
                link.target = target;
                left.extend(link.connections.iter().copied());
            }
        }
        for slot in left {
            let connection = self.connections.get(slot);
            if connection.is_some_and(|connection| connection.stage == Stage::Idle) {
                self.close_connection(cx, slot, End::Over, "the analyzer has moved");
            }
        }
    }

    /// Posts that get no answer, and those whose pause is over.
    pub(crate) fn check_waits(&mut self, cx: &mut Context<I>) {
        self.follow_moves(cx);
        let timeout = cx.live.http.push_timeout;
        let pool = usize::from(cx.config.http.pool_connections);
        let now_ns = cx.awake_ns;
        let late = |connection: &PostConnection<I::Socket>| {
            let since = Duration::from_nanos(now_ns.saturating_sub(connection.since_ns));
            let link = self.links.get(&connection.link());
            let crowded = link.is_some_and(|link| link.connections.len() >= pool);
            connection.late(since, timeout, crowded)
        };
        let connections = self.connections.iter();
        let late: Vec<(Slot, String)> = connections
            .filter_map(|(slot, connection)| Some((slot, late(connection)?)))
            .collect();
        for (slot, why) in late {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.is_used = false; // silence is a failure
            }
            self.close_connection(cx, slot, End::Fault, &why);
        }
        self.poll_numbers(cx);
        self.end_long_pauses(cx);
        self.end_pauses(cx);
        self.find_homes(cx);
        let is_due = |link: &HttpLink| link.retries.iter().any(|(_, at_ns)| *at_ns <= now_ns);
        let links = self.links.iter();
        let due: Vec<LinkEpoch> = links
            .filter(|(_, link)| is_due(link))
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in due {
            self.want_pump(epoch);
        }
        self.send(cx);
    }
}
