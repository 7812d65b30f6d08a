//! Analyzers that do not ACK, on this shard's lanes and on others'.

use std::collections::BTreeMap;

use super::Links;
use crate::context::Context;
use crate::mesh::{Mesh, Message};
use crate::port::Io;
use weir_engine::{LinkEpoch, Reason, Stall};
use weir_protocol::text::Time;

/// Links that are closed in one tick because they stalled: each costs system calls.
const STALLED_CLOSED_MAX: usize = 64;

impl<I: Io> Links<I> {
    /// Applies the ACK timeout, see `Link::stall`. False: there may be more that are due; the rest waits for
    /// the next tick.
    pub(crate) fn check_stalls(&mut self, cx: &mut Context<I>) -> bool {
        let mut left = STALLED_CLOSED_MAX;
        let timeout_ns = u64::try_from(cx.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut unread_bytes = 0;
        for slot in self.table.slots() {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            if !connection.is_up() {
                continue;
            }
            let with_kernel = cx.io.unread_bytes(&connection.socket);
            unread_bytes += with_kernel as u64;
            let unread = !connection.sending.is_idle() || with_kernel > 0;
            let lane = cx.engine.lane_of(connection.epoch);
            let full = lane.is_some_and(|lane| cx.engine.is_full(lane));
            if let Some(stall) = connection.link.stall(cx.awake_ns, timeout_ns, unread, full) {
                let why = format!(
                    "no ACK for {} with {} un-ACKed: {stall}",
                    Time(cx.config.ack_timeout),
                    connection.link.unacked()
                );
                self.close_link(cx, slot, &why, Some(Reason::AckStalled));
                left -= 1;
                if left == 0 {
                    return false;
                }
            }
        }
        self.unread_bytes = unread_bytes;
        true
    }

    /// Where the operator said so, what a quiet link has read and not ACKed counts as arrived for who waits for the
    /// answer: see `Link::presume`.
    pub(crate) fn check_quiet(&mut self, cx: &mut Context<I>) {
        let quiet_ns = u64::try_from(cx.config.ack_presume.as_nanos()).unwrap_or(u64::MAX);
        if quiet_ns == 0 {
            return;
        }
        for slot in self.table.slots() {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            if !connection.is_up() || !connection.sending.is_idle() {
                continue;
            }
            if connection.link.unacked() == 0 || cx.io.unread_bytes(&connection.socket) > 0 {
                continue;
            }
            let epoch = connection.epoch;
            let lane = cx.engine.lane_of(epoch);
            for (shard, messages) in connection.link.presume(cx.awake_ns, quiet_ns) {
                match lane.filter(|_| shard == cx.index) {
                    Some(lane) => cx.engine.presumed(lane, messages),
                    None => {
                        let presumed = Message::Presumed { epoch, messages };
                        cx.mesh.post(usize::from(shard), presumed);
                    }
                }
            }
        }
    }

    /// A full lane whose link is on another shard, which cannot see that: the link's owner is told
    /// when no ACK came for the timeout.
    pub(crate) fn check_remote_lanes(&mut self, cx: &mut Context<I>) {
        let timeout_ns = u64::try_from(cx.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut still_full = BTreeMap::new();
        for (epoch, home, acked) in cx.engine.full_lanes_of_others() {
            let known = self
                .remote_full
                .get(&epoch)
                .filter(|(before, _)| *before == acked);
            let since_ns = known.map_or(cx.awake_ns, |(_, since_ns)| *since_ns);
            still_full.insert(epoch, (acked, since_ns));
            if cx.awake_ns - since_ns >= timeout_ns {
                cx.mesh.post(usize::from(home), Message::Stalled { epoch });
            }
        }
        self.remote_full = still_full;
    }

    /// Another shard's lane to one of this shard's links is full and gets no ACK. It may be this shard that did not
    /// run: then the analyzer has not even been sent what it is to ACK, or its ACK has arrived and is not read. The
    /// other shard asks again.
    pub(crate) fn on_stalled(&mut self, cx: &mut Context<I>, epoch: LinkEpoch) {
        let timeout_ns = u64::try_from(cx.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.up.get(&epoch).copied();
        let slot = slot.filter(|_| cx.may_judge());
        let slot = slot.filter(|slot| {
            let connection = self.table.get(*slot);
            connection.is_some_and(|it| it.link.is_overdue(cx.awake_ns, timeout_ns))
        });
        if let Some(slot) = slot {
            let why = format!(
                "no ACK for {} on another shard: {}",
                Time(cx.config.ack_timeout),
                Stall::WindowFull
            );
            self.close_link(cx, slot, &why, Some(Reason::AckStalled));
        }
    }
}
