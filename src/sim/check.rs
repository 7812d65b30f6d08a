//! What must hold: at every turn, when all has settled, and at the end.

use std::collections::BTreeSet;

use super::plan::Ending;
use super::world::World;
use weir_engine::{Proportion, Reason, TableChanges};

/// Every so many turns the slow checks are made.
const THOROUGH_TURNS: u64 = 16;

/// Counted from a change of weights or membership, no share is off by more messages: docs/SHARES.md.
const SHARE_BOUND_AFTER_CHANGES: f64 = 2.7;

/// Whose stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Frames,
    Acked,
    Chained,
}

/// What a shard looked like after its last turn.
#[derive(Default)]
pub(super) struct Watch {
    changes: TableChanges,
    /// Nothing but weights decided since the table was made.
    undisturbed: bool,
    /// Links that it has given up for want of ACKs.
    stalled: u64,
    /// Links that have ended, for whatever reason.
    down: u64,
}

impl World {
    /// What holds after any turn of a shard.
    pub(super) fn check_turn(&mut self, shard: usize) -> Result<(), String> {
        let worker = &self.workers[shard];
        let balance = worker.cx.engine.balance();
        if !balance.holds() {
            return Err(format!("shard {shard}: {balance}"));
        }
        self.oracle.identities_lost |= worker.cx.engine.counters.identities_lost > 0;
        if self.turns.is_multiple_of(THOROUGH_TURNS) {
            let found = worker.cx.engine.check();
            found.map_err(|what| format!("shard {shard}: {what}"))?;
            self.check_acks()?;
            self.check_word(shard)?;
        }
        self.check_judgement(shard)?;
        self.check_shares(shard)
    }

    /// No link was given up for want of ACKs that had arrived, however long this shard did not run.
    fn check_judgement(&mut self, shard: usize) -> Result<(), String> {
        let counters = &self.workers[shard].cx.engine.counters;
        let stalled = counters.of(Reason::AckStalled);
        let before = std::mem::replace(&mut self.watch[shard].stalled, stalled);
        let down_before = std::mem::replace(&mut self.watch[shard].down, counters.links_down);
        let given_up = stalled - before;
        // A kernel that is late to look at what came makes its shard late as well. And where links ended in the
        // same turn for other reasons, nobody can tell which of them were given up.
        let is_mixed = counters.links_down - down_before > given_up;
        if given_up == 0 || is_mixed || self.plan.noise.delays_reads() {
            return Ok(());
        }
        let net = self.net.borrow();
        let cut = self.analyzers.iter().flat_map(|one| one.cut_now(&net));
        let (well, others) = cut.fold((0, 0), |(well, others), is_well| match is_well {
            true => (well + 1, others),
            false => (well, others + 1),
        });
        match given_up > others && well > 0 {
            true => Err(format!(
                "shard {shard} gave {given_up} links up, {well} had ACKed everything"
            )),
            false => Ok(()),
        }
    }

    /// No ACK was counted that no analyzer gave.
    fn check_acks(&self) -> Result<(), String> {
        let counted = self.total(|world, shard| world.workers[shard].cx.engine.counters.acked);
        // What an emitter has sent again is ACKed again.
        let resent = self.total(|world, shard| world.workers[shard].cx.engine.counters.resent);
        let given = self.oracle.acked + resent + self.oracle.resent;
        if counted > given {
            return Err(format!("{counted} messages count as ACKed, {given} were"));
        }
        Ok(())
    }

    /// Shares are within the bound as long as one table decides.
    fn check_shares(&mut self, shard: usize) -> Result<(), String> {
        let engine = &self.workers[shard].cx.engine;
        let changes = engine.table_changes();
        let watch = &mut self.watch[shard];
        if changes.tables != watch.changes.tables {
            watch.undisturbed = changes.availability == watch.changes.availability
                && engine.shares().all(|share| !share.full);
        } else if changes.availability != watch.changes.availability {
            watch.undisturbed = false;
        }
        watch.changes = changes;
        if !watch.undisturbed {
            return Ok(());
        }
        let weights: Vec<f64> = engine.shares().map(|share| share.weight).collect();
        let all = Proportion::of(weights.iter().copied());
        let given: u64 = engine.shares().map(|share| share.given).sum();
        let packet_max = self.plan.http.unit_max();
        let unit_max = match self.plan.http.servers.is_empty() {
            true => packet_max,
            // Messages that were joined to a POST go on together when it is refused.
            false => packet_max.max(engine.unit_max()),
        };
        let bound = SHARE_BOUND_AFTER_CHANGES * f64::from(unit_max);
        for share in engine.shares().filter(|share| share.weight > 0.0) {
            let exact = given as f64 * all.share(share.weight);
            if (share.given as f64 - exact).abs() > bound {
                return Err(format!(
                    "shard {shard}: an analyzer got {} of {given} messages, {exact:.2} is its share, {bound:.2} may be missing",
                    share.given
                ));
            }
        }
        Ok(())
    }

    pub(super) fn total(&self, of: impl Fn(&World, usize) -> u64) -> u64 {
        (0..self.workers.len()).map(|shard| of(self, shard)).sum()
    }

    fn open(&self) -> u64 {
        self.total(|world, shard| world.workers[shard].cx.engine.balance().open())
    }

    fn pending_bytes(&self) -> u64 {
        self.total(|world, shard| world.workers[shard].pending_bytes())
    }

    /// Everything that was sent has been dealt with.
    pub(super) fn is_settled(&self) -> bool {
        self.emitters.iter().all(|emitter| emitter.done)
            && self.acked.iter().all(|emitter| emitter.done)
            && self.chained.iter().all(|sender| sender.done)
            && self.http.is_done()
            && self.open() == 0
            && self.net.borrow().unread_by_shards() == 0
            && self.pending_bytes() == 0
            && !self.mail_under_way()
            && self
                .workers
                .iter()
                .all(|worker| worker.cx.io.ingress.lent() == 0 && !worker.cx.io.is_sending())
            && self.is_agreed()
    }

    fn is_agreed(&self) -> bool {
        let mut epochs = self
            .workers
            .iter()
            .map(|worker| worker.cx.engine.roster_epoch());
        let first = epochs.next();
        epochs.all(|epoch| Some(epoch) == first)
    }

    /// A number that grows as long as something is getting on.
    pub(super) fn progress(&self) -> u64 {
        let read = self.net.borrow().consumed_by_shards();
        let received: u64 = self.analyzers.iter().map(|a| a.deliveries).sum();
        read + received + self.oracle.acked + self.http.progress()
    }

    pub(super) fn what_is_missing(&self) -> String {
        let undone = self.emitters.iter().filter(|emitter| !emitter.done).count()
            + self.acked.iter().filter(|emitter| !emitter.done).count()
            + self.chained.iter().filter(|sender| !sender.done).count();
        let clients = self.http.clients.iter().filter(|client| !client.done);
        let clients = clients.count();
        let epochs: Vec<u64> = self
            .workers
            .iter()
            .map(|worker| worker.cx.engine.roster_epoch())
            .collect();
        let lent: Vec<u32> = self
            .workers
            .iter()
            .map(|w| w.cx.io.ingress.lent())
            .collect();
        let balances: Vec<String> = self
            .workers
            .iter()
            .map(|worker| worker.cx.engine.balance().to_string())
            .collect();
        format!(
            "stuck: {undone} emitters and {clients} HTTP clients not done, {} messages open, {} bytes unread, {} pending, connections {:?}, receive chunks lent {lent:?}, roster epochs {epochs:?}, {}",
            self.open(),
            self.net.borrow().unread_by_shards(),
            self.pending_bytes(),
            self.net.borrow().describe_unread(),
            balances.join("; ")
        )
    }

    /// What holds once all has settled, before the drain.
    pub(super) fn check_settled(&mut self) -> Result<(), String> {
        for (shard, worker) in self.workers.iter().enumerate() {
            let found = worker.cx.engine.check();
            found.map_err(|what| format!("shard {shard}, settled: {what}"))?;
            if let Some(held) = worker
                .cx
                .engine
                .lane_reports()
                .find(|lane| lane.held_bytes > u64::from(self.plan.host.batch_bytes))
            {
                return Err(format!(
                    "shard {shard}, settled: a lane holds {} bytes for nothing",
                    held.held_bytes
                ));
            }
        }
        self.check_messages()
    }

    /// Each message that a shard has read whole was delivered and ACKed, and no other counts.
    fn check_messages(&mut self) -> Result<(), String> {
        let dropped = |world: &World, shard: usize| world.workers[shard].cx.engine.counters.dropped;
        self.oracle.set_aside = self.total(dropped);
        let mut taken_in = 0;
        // Who needs more memory for a partial frame than there is, is cut off with what it sent.
        let no_memory = |world: &World, shard: usize| {
            let counters = &world.workers[shard].cx.engine.counters;
            counters.of(Reason::PartialMemoryFull)
        };
        let mut cut_off = self.total(no_memory) > 0;
        let excused = cut_off;
        let frames = self.emitters.iter().map(|emitter| &emitter.streams);
        let acked = self.acked.iter().map(|emitter| &emitter.streams);
        let mut seen = BTreeSet::new();
        let mut again = 0;
        let chained = self.chained.iter().map(|sender| &sender.streams);
        let begun: u64 = self.chained.iter().map(|sender| sender.begun).sum();
        // Of units that were read in part, and of those that joined one under way, fewer count. So do those of a sender
        // with acks that came behind the end of its connection.
        let (mut whole, mut sure, mut behind_the_end) = (BTreeSet::new(), 0, 0);
        let streams = frames.map(|streams| (streams, Sender::Frames));
        let streams = streams.chain(acked.map(|streams| (streams, Sender::Acked)));
        for (streams, sender) in streams.chain(chained.map(|streams| (streams, Sender::Chained))) {
            for stream in streams {
                let net = self.net.borrow();
                let consumed = net.consumed(stream.conn);
                cut_off |= net.is_deaf(stream.conn);
                for (end, id) in &stream.messages {
                    if *end > consumed {
                        break;
                    }
                    let is_over = sender != Sender::Frames && net.is_half_closed(stream.conn);
                    match sender {
                        Sender::Chained if is_over => {}
                        Sender::Chained => sure += u64::from(whole.insert(*id)),
                        _ => {
                            behind_the_end += u64::from(is_over);
                            taken_in += 1;
                            again += u64::from(!seen.insert(*id));
                        }
                    }
                    let message = &self.oracle.messages[*id as usize];
                    if net.is_deaf(stream.conn) || excused {
                        continue;
                    }
                    if !self.oracle.is_through(*id) {
                        return Err(format!(
                            "message {id} was read from connection {}, nobody ACKed it and it is not set aside ({} deliveries)",
                            stream.conn, message.deliveries
                        ));
                    }
                }
            }
        }
        taken_in += self.check_packets()?;
        let received = self.total(|world, shard| world.workers[shard].cx.engine.counters.received);
        let most = taken_in + begun;
        let least = match cut_off {
            true => 0,
            false => taken_in + sure - behind_the_end,
        };
        if !(least..=most).contains(&received) {
            return Err(format!(
                "{received} messages count as received, {least} to {most} were"
            ));
        }
        again += self.oracle.resent;
        let (acked, set_aside) = (self.oracle.acked, self.oracle.set_aside);
        // What was sent again may be refused again.
        let refusals = self.oracle.refusals() + again;
        let all_are_through = acked <= received && acked + set_aside + again >= received;
        if !all_are_through || set_aside > refusals {
            return Err(format!(
                "{received} messages count as received, {acked} were ACKed, {set_aside} count as set aside, {refusals} were refused"
            ));
        }
        let possible =
            self.total(|world, shard| world.workers[shard].cx.engine.counters.duplicates_possible);
        let (duplicates, unanswered) = (self.oracle.duplicates, self.oracle.unanswered);
        if duplicates > possible + unanswered + self.oracle.resent {
            return Err(format!(
                "{duplicates} duplicates, {possible} were thought possible, {unanswered} were in POSTs without an answer"
            ));
        }
        let deaths = self.total(|world, shard| world.workers[shard].cx.engine.counters.links_down);
        if deaths + unanswered + again == 0 && duplicates > 0 {
            return Err(format!("{duplicates} duplicates though no link broke"));
        }
        Ok(())
    }

    /// Who closed in good order before the deadline was read to the end, or is reported.
    fn check_farewells(&self) -> Result<(), String> {
        let reports = self.ended.iter().flatten();
        let admitted: u64 = reports.map(|report| report.unfinished_emitters).sum();
        let net = self.net.borrow();
        let streams = self.emitters.iter().flat_map(|emitter| &emitter.streams);
        let cheated = streams
            .filter(|stream| net.was_cheated(stream.conn))
            .count() as u64;
        let at_once = matches!(self.plan.ending, Ending::Now { .. });
        if cheated > admitted && !at_once {
            return Err(format!(
                "{cheated} emitters closed and were not read to their end, {admitted} are reported"
            ));
        }
        Ok(())
    }

    /// What the last reports must say.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        self.check_acks()?;
        for (shard, report) in self.ended.iter().enumerate() {
            let Some(report) = report else {
                continue;
            };
            if !report.balance.holds() {
                return Err(format!("shard {shard}, at the end: {}", report.balance));
            }
            let clean = match self.plan.ending {
                Ending::Calm => report.balance.open() == 0 && report.unrouted_bytes == 0,
                // All analyzers are back long before the deadline, unless that is jumped over.
                Ending::Drain { .. } => report.balance.open() == 0 || self.plan.jumps(),
                Ending::Now { .. } => true,
            };
            if !clean {
                return Err(format!(
                    "shard {shard} abandoned something: {}",
                    report.balance
                ));
            }
        }
        if self.plan.ending == Ending::Calm {
            self.check_messages()?;
        }
        self.check_farewells()
    }
}
