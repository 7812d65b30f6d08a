//! Who the analyzers are: the registrar, which shard 0 keeps, and the roster that every shard follows.
//!
//! ```text
//! links, orders -> Change, Order --> shard 0: registrar --> roster, once a turn --> all shards: engine
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use super::mesh::Mesh;
use super::port::Io;
use weir_engine::{Change, Entry, LinkEpoch, Registrar, Roster, Wanted, Window};
use weir_protocol::text::Field;

/// Names of analyzers that are gone, kept for log lines about their messages.
const NAMES_MAX: usize = 4096;

/// See the head of this file. The roster in force is [`Context::roster`].
pub(super) struct Membership {
    /// Shard 0 keeps the roster.
    registrar: Option<Registrar>,
    /// A table that the other shards do not have yet.
    new_roster: Option<Arc<Roster>>,
    /// The registrar has taken changes that no table has yet.
    has_changes: bool,
    /// When the roster in force was applied.
    pub(super) applied_ns: u64,
    /// Names of analyzers, also of some that are gone.
    names: BTreeMap<u32, Arc<str>>,
}

impl Membership {
    /// Of a shard that starts at `now_ns`, with the weights that are wanted then.
    pub(super) fn new(shard: u16, wanted: &[Wanted], now_ns: u64) -> Membership {
        Membership {
            registrar: (shard == 0).then(|| Registrar::new(wanted)),
            new_roster: None,
            has_changes: false,
            applied_ns: now_ns,
            names: BTreeMap::new(),
        }
    }

    /// Shard 0: more analyzers than this have no place.
    pub(super) fn limit(&mut self, (max, limit): (usize, &'static str)) {
        if let Some(registrar) = &mut self.registrar {
            registrar.limit(max, limit);
        }
    }

    /// Shard 0: the roster changes, everybody gets the whole of it.
    pub(super) fn take(&mut self, change: Change) {
        if let Some(registrar) = &mut self.registrar {
            self.has_changes |= registrar.take(change);
        }
    }

    /// Shard 0: orders have come.
    pub(super) fn has_orders<I: Io>(&self, cx: &Context<I>) -> bool {
        self.registrar.is_some() && cx.shared.control_port.has_commands()
    }

    /// Shard 0: what the operator wants.
    pub(super) fn take_orders<I: Io>(&mut self, cx: &Context<I>) {
        let Some(registrar) = &mut self.registrar else {
            return;
        };
        if !cx.shared.control_port.has_commands() {
            return;
        }
        for slip in cx.shared.control_port.take_commands() {
            log::info!("order: {}", slip.order);
            let done = registrar.order(slip.order).map(|roster| {
                // What the order says may have been a change of this turn already: the next roster has it first.
                let is_to_come = roster.is_none() && self.has_changes;
                self.new_roster = roster.or(self.new_roster.take());
                registrar.epoch() + u64::from(is_to_come)
            });
            // Whoever asked may have given up.
            let _ = slip.result.try_send(done);
        }
    }

    /// Once a turn, however many changes there were.
    pub(super) fn broadcast<I: Io>(&mut self, cx: &mut Context<I>) {
        if std::mem::take(&mut self.has_changes) {
            self.new_roster = self.registrar.as_mut().map(Registrar::next_roster);
        }
        if let Some(roster) = self.new_roster.take() {
            cx.mesh.post_roster(&roster);
        }
    }

    /// Routes by a roster from now on, unless it is an old one. `link_of`: this shard's own link to an analyzer.
    pub(super) fn follow<I: Io>(
        &mut self,
        cx: &mut Context<I>,
        roster: &Arc<Roster>,
        link_of: impl Fn(&Entry) -> Option<(LinkEpoch, Window)>,
    ) -> bool {
        if !cx.engine.apply_roster(roster, link_of) {
            return false;
        }
        self.applied_ns = cx.io.now_ns();
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        for entry in &roster.entries {
            self.names.insert(entry.analyzer, Arc::clone(&entry.name));
        }
        cx.roster = Arc::clone(roster);
        log_roster(cx);
        true
    }

    /// Weights that are pinned, and drains by the operator, also of analyzers that are away.
    pub(super) fn kept(&self) -> (usize, usize) {
        self.registrar.as_ref().map_or((0, 0), Registrar::kept)
    }

    /// What an analyzer is called, its number if that is not known any more.
    pub(super) fn name_of(&self, analyzer: u32) -> String {
        let name = self.names.get(&analyzer);
        name.map_or_else(|| analyzer.to_string(), |name| name.to_string())
    }

    /// Messages of dead links that are on the wire to others by now.
    pub(super) fn note_rerouted<I: Io>(&self, cx: &mut Context<I>) {
        while let Some(done) = cx.engine.next_rerouted() {
            let name = self.name_of(done.analyzer);
            let written_ns = cx.io.now_ns();
            cx.engine.note_rerouted(&done, written_ns);
            log::info!(
                "re-routed link={} analyzer={} messages={} detected_mono_ns={} last_written_mono_ns={written_ns}",
                done.epoch.0, Field(&name), done.messages, done.detected_ns
            );
        }
    }
}

/// What is routed to from now on, for tests and for whoever looks into a distribution.
fn log_roster<I: Io>(cx: &Context<I>) {
    if !log::log_enabled!(log::Level::Debug) {
        return;
    }
    let lanes = cx.engine.lane_reports().filter(|lane| !lane.down);
    log::debug!(
        "roster shard={} epoch={} analyzers={} lanes={} mono_ns={}",
        cx.index,
        cx.roster.epoch,
        cx.roster.entries.len(),
        lanes.count(),
        cx.io.now_ns(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Message;
    use crate::operator::Operator;
    use crate::testing::{context, FakeIo};
    use weir_engine::Order;
    use weir_sink::Sink;

    fn up(n: u64) -> Change {
        Change::Up {
            epoch: LinkEpoch::new(0, n),
            sink: Sink::Compact,
            home: 0,
            name: format!("a{n}").into(),
            weight: 1.0,
        }
    }

    #[test]
    fn many_changes_of_a_turn_are_one_roster_for_every_shard() {
        let mut cx = context(3, 64);
        let mut membership = Membership::new(0, &[], 0);
        for n in 1..=10 {
            membership.take(up(n));
        }
        membership.broadcast(&mut cx);
        membership.broadcast(&mut cx);
        for shard in 0..3 {
            let posted = cx.mesh.posted(shard);
            let [Message::Roster(roster)] = &posted[..] else {
                panic!("{posted:?}");
            };
            assert_eq!(roster.entries.len(), 10);
        }
    }

    /// An analyzer says DRAIN, and in the same turn an operator says it, too.
    #[test]
    fn an_order_that_a_change_of_the_turn_has_made_void_is_answered_with_the_roster_that_has_it() {
        let mut cx = context(1, 64);
        let mut membership = Membership::new(0, &[], 0);
        membership.take(up(1));
        membership.broadcast(&mut cx);
        membership.take(Change::Drain {
            epoch: LinkEpoch::new(0, 1),
        });
        let operator = Operator::new(Arc::clone(&cx.shared));
        let name = Arc::from("a1");
        let answer = operator.order_later(Order::Drain { name });
        membership.take_orders(&cx);
        membership.broadcast(&mut cx);
        let said = answer.expect("taken").try_recv().expect("answered");
        let posted = cx.mesh.posted(0);
        let Some(Message::Roster(newest)) = posted.last() else {
            panic!("{posted:?}");
        };
        assert!(newest.entries[0].draining);
        assert_eq!(said, Ok(newest.epoch));
    }

    #[test]
    fn an_older_roster_is_not_followed() {
        let mut cx = context(1, 64);
        let mut membership = Membership::new(0, &[], 0);
        let roster = |cx: &mut Context<FakeIo>, membership: &mut Membership, n| {
            membership.take(up(n));
            membership.broadcast(cx);
            let Some(Message::Roster(roster)) = cx.mesh.posted(0).pop() else {
                panic!("none");
            };
            roster
        };
        let first = roster(&mut cx, &mut membership, 1);
        let second = roster(&mut cx, &mut membership, 2);
        assert!(membership.follow(&mut cx, &second, |_| None));
        assert!(!membership.follow(&mut cx, &first, |_| None));
        assert_eq!(cx.roster.epoch, second.epoch);
        let number = second.entries[1].analyzer;
        assert_eq!(membership.name_of(number), "a2");
        assert_eq!(membership.name_of(77), "77");
    }

    #[test]
    fn only_shard_0_keeps_the_roster() {
        let mut cx = context(2, 64);
        let mut membership = Membership::new(1, &[], 0);
        membership.take(up(1));
        membership.broadcast(&mut cx);
        assert!(cx.mesh.posted(0).is_empty() && cx.mesh.posted(1).is_empty());
    }
}
