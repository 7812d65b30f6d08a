//! Where messages come from, said to the engine while an analyzer or a tap asks.

use super::Intake;
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use std::sync::Arc;

impl<I: Io> Intake<I> {
    /// What is ingested next comes from this emitter. To be said before each call that takes in.
    #[cold]
    pub(super) fn say_whence(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get(slot) else {
            return;
        };
        let peer = emitter.address(cx).map(|peer| peer.ip());
        let input = Arc::clone(&cx.shared.places()[emitter.input].name);
        let certificate = emitter.certificate.as_ref();
        cx.engine.comes_from(&input, peer, certificate);
    }
}
