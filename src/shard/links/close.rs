//! How links end.

use std::net::Shutdown;

use super::connection::{Connection, Stage};
use super::Links;
use crate::admission::Customer;
use crate::certified::in_words;
use crate::context::Context;
use crate::mesh::{Mesh, Message};
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::{Change, LinkEpoch, Reach, Reason, Roster};
use weir_protocol::text::{Field, Quoted};
use weir_sink::Sink;

impl<I: Io> Links<I> {
    /// It has spoken, or is gone: its place is for others.
    pub(super) fn leave_place(&mut self, slot: Slot) {
        let connection = self.table.get_mut(slot);
        if let Some(turn) = connection.and_then(|connection| connection.turn_to_speak.take()) {
            self.permits.leave(turn);
        }
    }

    /// A link that was counted is gone.
    pub(super) fn leave_client(&self, cx: &Context<I>, counted: Option<(Customer, usize)>) {
        if let Some((customer, parts)) = counted {
            cx.shared.admission.leave_link(customer, parts);
        }
    }

    /// Says why, to whom it can be said, and closes.
    pub(super) fn refuse(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        why: &str,
        reason: Reason,
    ) {
        self.say_refused(cx, slot, sink, why);
        self.close_link(cx, slot, why, Some(reason));
    }

    /// It has been told what it wanted to know: nothing is wrong, and nothing is counted.
    pub(super) fn hang_up(&mut self, cx: &mut Context<I>, slot: Slot) {
        self.leave_place(slot);
        if let Some(connection) = self.table.get_mut(slot) {
            connection.stage = Stage::Closing;
            cx.io.shutdown(&connection.socket, Shutdown::Both);
            self.reap(cx, slot);
        }
    }

    /// A connection is over, for whatever reason: what it has not ACKed goes to others at once.
    pub(super) fn close_link(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        why: &str,
        reason: Option<Reason>,
    ) {
        let kind = reason.map_or("closed", Reason::as_str);
        self.kill_as(cx, slot, why, reason, kind);
    }

    /// The same; a warning is said once of a peer and `kind`.
    pub(super) fn kill_as(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        why: &str,
        reason: Option<Reason>,
        kind: &'static str,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if let Some(turn) = connection.turn_to_speak.take() {
            self.permits.leave(turn);
        }
        if let Some(reason) = reason {
            cx.engine.counters.count(reason);
        }
        let was = std::mem::replace(&mut connection.stage, Stage::Closing);
        if matches!(was, Stage::Up) {
            // What the kernel still holds for it goes to others: it must not be sent as well, nor
            // keep zero-copy memory until the peer times out.
            cx.io.drop_unsent_on_close(&connection.socket);
        }
        cx.io.shutdown(&connection.socket, Shutdown::Both);
        match was {
            Stage::Closing => return,
            Stage::Detecting {
                first_byte_ns: None,
                ..
            } if reason.is_none() => cx.engine.counters.count(Reason::Probe),
            Stage::Detecting { .. }
            | Stage::Greeting { .. }
            | Stage::Settling
            | Stage::Leaving { .. } => {
                let peer = connection.peer.map(|peer| peer.ip());
                if let Some(tail) = cx.shared.notice("analyzers", peer, kind, cx.now_ns) {
                    let name = Field(&connection.name);
                    let certificate = in_words(connection.certificate.as_deref());
                    log::warn!(
                        "analyzer {name}{certificate} closed during its handshake: {why}{tail}"
                    );
                }
            }
            Stage::Up => {
                self.up.remove(&connection.epoch);
                connection.go_down(cx, why);
            }
        }
        self.reap(cx, slot);
    }

    /// Forgets a dead connection when the kernel is through with it. Only then may other shards use
    /// the buffers of their forwarded batches again.
    pub(super) fn reap(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.table.get(slot) else {
            return;
        };
        if connection.receiving || !connection.sending.is_idle() {
            return;
        }
        let Some(connection) = self.table.remove(slot) else {
            return;
        };
        let epoch = connection.epoch;
        if epoch == LinkEpoch(0) {
            return;
        }
        for (shard, messages) in connection.last_credits {
            let credit = Message::Credit { epoch, messages };
            cx.mesh.post(usize::from(shard), credit);
        }
        for shard in 0..cx.config.shards {
            if shard != usize::from(cx.index) {
                cx.mesh.post(shard, Message::LinkDown { epoch });
            }
        }
    }

    /// Closes this shard's links of analyzers that the operator threw out.
    pub(crate) fn eject(&mut self, cx: &mut Context<I>, roster: &Roster) {
        for entry in roster.entries.iter().filter(|entry| entry.ejected) {
            for slot in self.table.slots() {
                let is_its = |link: &Connection<I>| match entry.reach {
                    Reach::LinkPerShard => {
                        link.link.sink() == entry.sink && link.name == entry.name
                    }
                    Reach::SingleLink { epoch, .. } => link.epoch == epoch,
                    Reach::Http { .. } => false,
                };
                let link = self.table.get(slot);
                if link.is_some_and(|link| link.is_up() && is_its(link)) {
                    self.close_link(cx, slot, "ejected by the operator", None);
                }
            }
        }
    }
}

impl<I: Io> Connection<I> {
    /// It was up: its lane's messages go to others, and everybody is told.
    fn go_down(&mut self, cx: &mut Context<I>, why: &str) {
        let (epoch, unacked) = (self.epoch, self.link.unacked());
        log::info!(
            "analyzer down link={} analyzer={} why={} unacked={unacked}",
            epoch.0,
            Field(&self.name),
            Quoted(why)
        );
        cx.shared.names.link_gone(&self.name);
        if let Some((customer, parts)) = self.counted.take() {
            cx.shared.admission.leave_link(customer, parts);
        }
        cx.engine.counters.links_down += 1;
        self.pay_last_credits(cx);
        cx.ended.push(epoch);
        cx.mesh.post(0, Message::Change(Change::Down { epoch }));
    }
}
