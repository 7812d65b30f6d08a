//! Words to an analyzer outside the batches.

use super::Links;
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::LinkEpoch;
use weir_protocol::native::{self, Welcome};
use weir_protocol::Dialect;

impl<I: Io> Links<I> {
    /// Writes a few bytes outside the batches. Called when no send is in flight and the socket's
    /// queue is as good as empty, so they fit; if not, the link is broken anyway.
    pub(super) fn say(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(connection) = self.table.get(slot) else {
            return false;
        };
        let mut out = Vec::new();
        encode(&mut out);
        let sent = cx.io.send_now(&connection.socket, &out);
        matches!(sent, Ok(n) if n == out.len())
    }

    pub(super) fn welcome(&mut self, cx: &mut Context<I>, slot: Slot, epoch: LinkEpoch) -> bool {
        let welcome = Welcome {
            refused: None,
            shard_count: u16::try_from(cx.config.shards).unwrap_or(u16::MAX),
            shard_index: cx.index,
            instance: cx.config.instance,
            link_epoch: epoch.0,
        };
        self.say(cx, slot, |out| welcome.encode(out))
    }

    pub(super) fn say_refused(&mut self, cx: &mut Context<I>, slot: Slot, why: &str) {
        let welcome = Welcome {
            refused: Some(why),
            shard_count: u16::try_from(cx.config.shards).unwrap_or(u16::MAX),
            shard_index: cx.index,
            instance: cx.config.instance,
            link_epoch: 0,
        };
        self.say(cx, slot, |out| welcome.encode(out));
    }

    /// Tells native analyzers that the distributor waits for their last ACKs.
    pub(crate) fn ask_for_acks(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            let idle = connection.sending.is_idle() && connection.must_continue.is_none();
            if connection.is_up()
                && connection.link.dialect() == Dialect::Native
                && idle
                && !connection.drain_sent
            {
                let sent = self.say(cx, slot, |out| out.extend_from_slice(&native::DRAIN));
                if let Some(connection) = self.table.get_mut(slot) {
                    connection.drain_sent = sent;
                }
            }
        }
    }

    /// The books are balanced: native analyzers learn that nothing more will come.
    pub(crate) fn say_goodbye(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            let Some(connection) = self.table.get(slot) else {
                continue;
            };
            if connection.is_up()
                && connection.link.dialect() == Dialect::Native
                && connection.sending.is_idle()
                && connection.link.unacked() == 0
            {
                self.say(cx, slot, |out| out.extend_from_slice(&native::GOODBYE));
            }
        }
    }
}
