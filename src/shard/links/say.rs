//! Words to an analyzer outside the batches.

use super::Links;
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::LinkEpoch;
use weir_protocol::native::Welcome;
use weir_sink::Sink;

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

    /// Tells the analyzer that its link is up, if it wants to know. False: that could not be written.
    pub(super) fn welcome(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        epoch: LinkEpoch,
    ) -> bool {
        self.say_welcome(cx, slot, sink, epoch, None)
    }

    /// Tells the analyzer why it gets no link, if it can be told.
    pub(super) fn say_refused(&mut self, cx: &mut Context<I>, slot: Slot, sink: Sink, why: &str) {
        self.say_welcome(cx, slot, sink, LinkEpoch(0), Some(why));
    }

    fn say_welcome(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        epoch: LinkEpoch,
        refused: Option<&str>,
    ) -> bool {
        let Some(encode) = sink.facts().told.welcome else {
            return true;
        };
        let welcome = Welcome {
            refused,
            shard_count: u16::try_from(cx.config.shards).unwrap_or(u16::MAX),
            shard_index: cx.index,
            instance: cx.config.instance,
            link_epoch: epoch.0,
        };
        self.say(cx, slot, |out| encode(&welcome, out))
    }

    /// Tells those who can be told that the distributor waits for their last ACKs.
    pub(crate) fn ask_for_acks(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            let Some(connection) = self.table.get(slot) else {
                continue;
            };
            let Some(drain) = connection.link.sink().facts().told.drain else {
                continue;
            };
            let idle = connection.sending.is_idle() && connection.must_continue.is_none();
            if connection.is_up() && idle && !connection.drain_sent {
                let sent = self.say(cx, slot, |out| out.extend_from_slice(drain));
                if let Some(connection) = self.table.get_mut(slot) {
                    connection.drain_sent = sent;
                }
            }
        }
    }

    /// The books are balanced: those who can be told learn that nothing more will come.
    pub(crate) fn say_goodbye(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            let Some(connection) = self.table.get(slot) else {
                continue;
            };
            let Some(goodbye) = connection.link.sink().facts().told.goodbye else {
                continue;
            };
            if connection.is_up() && connection.sending.is_idle() && connection.link.unacked() == 0
            {
                self.say(cx, slot, |out| out.extend_from_slice(goodbye));
            }
        }
    }
}
