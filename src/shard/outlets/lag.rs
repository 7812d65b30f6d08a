//! Analyzers that answer nothing: their kernel has the bytes, that is all that is known.
//!
//! ```text
//! bytes of the connection   [ ACKed: so many more have arrived | the lag | not arrived ]
//!                                                              ^ sent, less what the send queue has (SIOCOUTQ)
//! all arrived, and nothing sent for QUIET: the lag is ACKed as well
//! ```
//!
//! The lag is what may still lie in the receiver's buffers, unread. A receiver that dies with unread bytes resets the
//! connection, and the lag goes to others: twice, not lost.

use std::time::Duration;

use super::{Outlets, Stage};
use crate::context::Context;
use crate::port::Io;
use weir_engine::LinkEpoch;
use weir_sink::Acks;

/// How long a receiver has for what its kernel has got, before that counts as read.
pub(super) const QUIET: Duration = Duration::from_secs(5);

/// How far a connection without answers is.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Bytes that the kernel has taken from us.
    pub(super) sent_bytes: u64,
    /// Since when the peer's kernel has all of them.
    quiet_since_ns: Option<u64>,
}

impl<I: Io> Outlets<I> {
    /// What has arrived, and what that ends.
    pub(super) fn look_at_lag(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let Some(link) = self.links.get_mut(&epoch) else {
            return;
        };
        let is_lagged = link.target.sink.facts().acks == Acks::Lagged;
        if !is_lagged || link.stage != Stage::Open || !link.owes() {
            return;
        }
        let connection = link.connection.and_then(|slot| self.connections.get(slot));
        let Some(connection) = connection else {
            return;
        };
        let unread = cx.io.unread_bytes(&connection.socket) as u64;
        let is_quiet = unread == 0 && !connection.sending && link.out.is_empty();
        let before = link.lag.quiet_since_ns;
        link.lag.quiet_since_ns = is_quiet.then(|| before.unwrap_or(cx.awake_ns));
        if let Some(since_ns) = link.lag.quiet_since_ns {
            // It is not late: there is nothing that its kernel does not have.
            link.heard_ns = cx.awake_ns;
            if cx.awake_ns.saturating_sub(since_ns) >= QUIET.as_nanos() as u64 {
                link.report.acked += link.flight.through_bytes(u64::MAX);
            }
        }
        // Of a send that is under way some bytes are in the queue already: less has arrived than this, never more.
        let arrived = link.lag.sent_bytes.saturating_sub(unread);
        let lag = u64::from(link.target.outlet.lag_bytes);
        link.report.acked += link.flight.through_bytes(arrived.saturating_sub(lag));
        self.advance(cx, epoch);
    }

    /// The same for all of them.
    pub(super) fn look_at_lags(&mut self, cx: &mut Context<I>) {
        let lagged = |sink: weir_sink::Sink| sink.facts().acks == Acks::Lagged;
        let links = self.links.iter();
        let waiting: Vec<LinkEpoch> = links
            .filter(|(_, link)| lagged(link.target.sink) && link.owes())
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in waiting {
            self.look_at_lag(cx, epoch);
            self.want_pump(epoch);
        }
    }
}
