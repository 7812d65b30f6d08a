//! HTTP clients that are asked to go: at their age, and at SIGTERM.
//!
//! ```text
//! age      the next answer says Connection: close; one that says nothing is closed (waits.rs)
//! SIGTERM  idle clients are closed, the others after the answer that they wait for
//! ```

use std::time::Duration;

use super::{Clients, Stage};
use crate::context::Context;
use crate::farewell::{Spread, Turn};
use crate::port::Io;
use crate::slab::Slot;

impl<I: Io> Clients<I> {
    /// All of them are dismissed, evenly over a time.
    pub(crate) fn begin_farewells(&mut self, cx: &mut Context<I>, time: Duration) {
        self.spread = Some(Spread::new(self.table.len(), time, cx.awake_ns));
        self.go_on_with_farewells(cx);
    }

    /// Those whose turn it is.
    pub(crate) fn go_on_with_farewells(&mut self, cx: &mut Context<I>) {
        let Some(mut spread) = self.spread.take() else {
            return;
        };
        loop {
            match spread.next(&self.table, cx.awake_ns) {
                Turn::Of(slot) => self.dismiss_client(cx, slot),
                Turn::Later => {
                    self.spread = Some(spread);
                    return;
                }
                Turn::Over => return,
            }
        }
    }

    /// An idle client is closed, another one after the answer that it waits for.
    fn dismiss_client(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        client.is_dismissed = true;
        client.keep_alive = false;
        let is_idle = client.reader.is_idle() && client.input.is_empty();
        match client.stage {
            Stage::Ready if is_idle && client.has_sent_all() => self.hang_up(cx, slot),
            Stage::Ready if is_idle => client.stage = Stage::Closing,
            Stage::Control { streams: true } => client.stage = Stage::Closing,
            _ => {}
        }
        self.after_serving(cx, slot);
    }

    /// Those that are as old as they may become: their next answer is their last.
    pub(super) fn look_at_ages(&mut self, cx: &mut Context<I>) {
        let limit = cx.live.max_connection_age;
        if limit.is_zero() {
            return;
        }
        let clients = self.table.iter().filter(|(_, client)| {
            let is_there = !client.is_dismissed && !client.is_leaving();
            is_there && client.age.is_over(limit, cx.awake_ns)
        });
        let old: Vec<Slot> = clients.map(|(slot, _)| slot).collect();
        for slot in old {
            self.report.farewells_at_age += 1;
            if let Some(client) = self.table.get_mut(slot) {
                client.is_dismissed = true;
                client.keep_alive = false;
            }
        }
    }

    /// The graceful close is over: requests that have not arrived whole were never answered.
    pub(crate) fn cut_off_clients(&mut self, cx: &mut Context<I>) {
        self.spread = None;
        for slot in self.table.slots() {
            let Some(client) = self.table.get_mut(slot) else {
                continue;
            };
            client.is_dismissed = true;
            client.keep_alive = false;
            if client.stage == Stage::Ready {
                client.stage = Stage::Closing;
            }
            self.after_serving(cx, slot);
        }
    }
}
