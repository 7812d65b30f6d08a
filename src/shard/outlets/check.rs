//! What takes too long, and analyzers that are elsewhere.

use std::time::Duration;

use super::{Link, Outlets, Stage};
use crate::context::Context;
use crate::port::Io;
use weir_engine::LinkEpoch;
use weir_protocol::text::Time;

impl<I: Io> Outlets<I> {
    /// Answers that do not come.
    pub(crate) fn check_waits(&mut self, cx: &mut Context<I>) {
        self.follow_moves(cx);
        self.look_at_lags(cx);
        self.find_homes(cx);
        let now_ns = cx.awake_ns;
        let connect = cx.live.http.push_timeout;
        let late: Vec<(LinkEpoch, String)> = self
            .links
            .iter()
            .filter_map(|(epoch, link)| Some((*epoch, link.late(now_ns, connect)?)))
            .collect();
        for (epoch, why) in late {
            if let Some(link) = self.links.get_mut(&epoch) {
                link.report.failures += 1;
            }
            self.give_up(cx, epoch, &why);
        }
        self.send(cx);
    }

    /// Connections to where an analyzer is no more are closed when nothing is in flight on them.
    fn follow_moves(&mut self, cx: &mut Context<I>) {
        let moves = cx.shared.control_port.target_moves();
        let is_new = moves != std::mem::replace(&mut self.moves_seen, moves);
        let mut left = Vec::new();
        for (epoch, link) in &mut self.links {
            if is_new {
                if let Some(target) = cx.shared.control_port.target(link.generation) {
                    link.target = target;
                }
            }
            let connection = link.connection.and_then(|slot| self.connections.get(slot));
            let is_elsewhere = connection.is_some_and(|it| it.address != link.target.at.address());
            if is_elsewhere && link.stage == Stage::Open && !link.owes() {
                left.extend(link.connection.map(|slot| (*epoch, slot)));
            }
        }
        for (epoch, slot) in left {
            log::debug!("an analyzer has moved: its connection is closed");
            self.disconnect(cx, epoch, slot);
        }
    }
}

impl Link {
    /// What it has waited for in vain.
    fn late(&self, now_ns: u64, connect: Duration) -> Option<String> {
        let since = |from_ns: u64| Duration::from_nanos(now_ns.saturating_sub(from_ns));
        let (what, from_ns, limit) = match self.stage {
            Stage::Away => return None,
            Stage::Connecting => ("no connection", self.heard_ns, connect),
            Stage::Greeting => ("no greeting", self.heard_ns, connect),
            Stage::Open | Stage::Closing => {
                let oldest_ns = self.flight.oldest_ns()?;
                let from_ns = oldest_ns.max(self.heard_ns);
                ("no ack", from_ns, self.target.outlet.timeout)
            }
        };
        (since(from_ns) >= limit).then(|| format!("{what} within {}", Time(limit)))
    }
}
