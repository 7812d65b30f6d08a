//! Answers to emitters that want them: ACKs of the acked link, and its WELCOME.
//!
//! ```text
//! engine: a unit is through -> ripe    gathered for ANSWER_DELAY
//!                          `-> urgent  answered in this turn
//! answer -> one send at a time for each emitter; what becomes due meanwhile waits in the engine
//! ```
//!
//! An answer costs a send and wakes its emitter: gathered, it does so for hundreds of messages. What waits is bounded:
//! nothing is written while a send is under way, and a connection's units are (`engine/ack_units.rs`).
//!
//! An emitter that does not read is not read from either, after [`UNREAD_MAX`], until it does. At a shutdown it is
//! closed then.

use std::net::Shutdown;

use super::{Emitter, Intake};
use crate::context::{Context, Phase};
use crate::inputs::EMITTERS;
use crate::port::{Completion, Io};
use crate::slab::{bare, token, Kind, Slot};
use weir_engine::Reason;

/// How long answers are gathered. An emitter that waits for one says so, and one that has half of its window un-ACKed
/// is answered at once, so this holds up nobody.
const ANSWER_DELAY_NS: u64 = 10_000_000;
/// A send to an emitter takes that long only if it does not read: the kernel takes tens of KiB before.
const UNREAD_MAX_NS: u64 = 1_000_000_000;

/// What an emitter is told.
#[derive(Default)]
pub(super) struct Outbox {
    /// For the next send.
    out: Vec<u8>,
    /// Bytes that the kernel is sending; 0: none.
    sending: usize,
    /// Since when.
    since_ns: u64,
    /// When it was told something last, or began.
    told_ns: u64,
    /// It is not read from until it reads.
    is_paused: bool,
    /// Its connection broke: nobody is there to be told anything.
    is_mute: bool,
}

impl<S> Emitter<S> {
    /// It is not read from: it does not read, has as much un-ACKed as it may, or waits for its turn.
    pub(super) fn is_paused(&self) -> bool {
        let answers = self.answers.as_ref();
        let is_waiting = self.is_held || self.is_waiting;
        is_waiting || answers.is_some_and(|answers| answers.is_paused)
    }

    /// What it sends is not looked at.
    pub(super) fn is_unread(&self) -> bool {
        self.rejected || self.is_over
    }

    /// Its connection broke.
    pub(super) fn broke(&mut self) {
        self.ended = true;
        if let Some(answers) = &mut self.answers {
            answers.is_mute = true;
        }
    }
}

impl<I: Io> Intake<I> {
    /// Gives out the answers that are due.
    pub(crate) fn answer(&mut self, cx: &mut Context<I>) {
        while let Some(emitter) = cx.engine.next_ripe() {
            if let Some(slot) = self.table.slot_at(emitter) {
                self.gathered.push_back((slot, cx.now_ns));
            }
        }
        while let Some(emitter) = cx.engine.next_urgent() {
            if let Some(slot) = self.table.slot_at(emitter) {
                self.answer_one(cx, slot);
            }
        }
        let is_ending = cx.phase != Phase::Running;
        while let Some((slot, since_ns)) = self.gathered.front().copied() {
            if cx.now_ns < since_ns + ANSWER_DELAY_NS && !is_ending {
                break;
            }
            self.gathered.pop_front();
            self.answer_one(cx, slot);
        }
    }

    /// When the next gathered answer is due.
    pub(crate) fn answers_due_ns(&self) -> u64 {
        let first = self.gathered.front();
        first.map_or(u64::MAX, |(_, since_ns)| since_ns + ANSWER_DELAY_NS)
    }

    fn answer_one(&mut self, cx: &mut Context<I>, slot: Slot) {
        self.say(cx, slot, |cx, out| {
            cx.engine.answer(slot.index(), cx.config.instance, out);
        });
        self.go_on_reading(cx, slot);
        self.close_if_finished(cx, slot);
    }

    /// Where the server speaks first: what it says.
    pub(super) fn greet(&mut self, cx: &mut Context<I>, slot: Slot) {
        let input = self
            .table
            .get(slot)
            .map_or(EMITTERS, |emitter| emitter.input);
        if cx.shared.places()[input].port.greets().is_some() {
            self.say(cx, slot, |cx, out| {
                cx.engine.greeting(slot.index(), cx.config.instance, out);
            });
        }
    }

    /// Bytes of an emitter were taken. If it has as much un-ACKed as it may, it is not read from for now.
    #[inline]
    pub(super) fn note_units(&mut self, cx: &mut Context<I>, slot: Slot) {
        if cx.engine.is_answered(slot.index()) {
            self.note_units_of_answered(cx, slot);
        }
    }

    fn note_units_of_answered(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.answers.is_none() {
            self.say(cx, slot, |_, _| ());
        } else if emitter.is_leaving {
            self.leave(cx, slot);
        } else if cx.engine.is_above_window(slot.index()) {
            self.hold(cx, slot);
        }
    }

    /// An emitter is not read from.
    pub(super) fn hold(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if !std::mem::replace(&mut emitter.is_held, true) && emitter.receiving {
            cx.io
                .cancel(token(Kind::EmitterReceive, slot), bare(Kind::Cancel));
        }
    }

    /// An emitter that has been answered is read from again, or leaves.
    pub(super) fn go_on_reading(&mut self, cx: &mut Context<I>, slot: Slot) {
        let is_late = self.is_late(slot);
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.is_leaving {
            self.leave(cx, slot);
        } else if emitter.is_held && !is_late && !cx.engine.is_above_window(slot.index()) {
            emitter.is_held = false;
            if !emitter.ended && !emitter.receiving {
                self.rearm.push_back(slot);
            }
        }
    }

    /// An emitter is to go, and its protocol has no word for that. Its connection is half-closed when all that it has
    /// sent is answered: to such a protocol an end before the answer says that there will be none. Until then no more
    /// units are read.
    pub(super) fn leave(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        emitter.is_leaving = true;
        if emitter.is_over || emitter.ended {
            return;
        }
        if !cx.engine.is_between_units(slot.index()) {
            // The rest of the unit is read, though it was held for what waited before.
            if std::mem::take(&mut emitter.is_held) && !emitter.receiving {
                self.rearm.push_back(slot);
            }
            return;
        }
        let is_sending = emitter.answers.as_ref().is_some_and(|it| it.sending > 0);
        if is_sending || emitter.pending > 0 || cx.engine.units_open(slot.index()) > 0 {
            self.hold(cx, slot);
            return;
        }
        if !emitter.has_last_word {
            emitter.has_last_word = true;
            self.say(cx, slot, |cx, out| cx.engine.goodbye(slot.index(), out));
            // Behind that word, if there is one.
            self.leave(cx, slot);
            return;
        }
        (emitter.is_over, emitter.is_held) = (true, false);
        if let Some(socket) = &emitter.socket {
            cx.io.shutdown(socket, Shutdown::Write);
        }
        if !emitter.receiving {
            self.rearm.push_back(slot);
        }
    }

    /// Sends what `write` has to say to an emitter; behind a send that is under way, what is said then.
    pub(super) fn say(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        write: impl FnOnce(&mut Context<I>, &mut Vec<u8>),
    ) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &emitter.socket else {
            return;
        };
        let answers = emitter.answers.get_or_insert_with(|| {
            self.answered += 1;
            // Best effort: without it only latency suffers.
            let _ = cx.io.prepare_link(socket);
            Box::new(Outbox {
                told_ns: cx.awake_ns,
                ..Outbox::default()
            })
        });
        if answers.sending > 0 {
            return;
        }
        write(cx, &mut answers.out);
        if answers.out.is_empty() || answers.is_mute || emitter.rejected {
            answers.out.clear();
            return;
        }
        let bytes = std::mem::take(&mut answers.out);
        answers.sending = bytes.len();
        (answers.since_ns, answers.told_ns) = (cx.awake_ns, cx.awake_ns);
        cx.engine.counters.answers += 1;
        self.inputs[emitter.input].answers += 1;
        cx.io
            .send_bytes(socket, bytes, token(Kind::EmitterSend, slot));
    }

    /// A send of answers has ended.
    pub(crate) fn on_answers_sent(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        completion: Completion,
    ) {
        let mut bytes = cx.io.sent_bytes(completion.token);
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        let Some(answers) = &mut emitter.answers else {
            return;
        };
        answers.sending = 0;
        match completion.count() {
            Ok(sent) => {
                bytes.drain(..sent.min(bytes.len()));
                // The kernel was cut short, or a word came meanwhile.
                bytes.append(&mut answers.out);
                answers.out = bytes;
            }
            // The receive will tell, or has told.
            Err(_) => {
                answers.is_mute = true;
                answers.out = Vec::new();
            }
        }
        let is_paused = std::mem::take(&mut answers.is_paused);
        if is_paused && !emitter.ended && !emitter.receiving {
            self.rearm.push_back(slot);
        }
        self.answer_one(cx, slot);
    }

    /// Who does not read is not read from; while the distributor shuts down it is closed.
    pub(crate) fn look_at_answers(&mut self, cx: &mut Context<I>) {
        if self.answered == 0 {
            return;
        }
        let is_late = |emitter: &Emitter<I::Socket>| {
            let answers = emitter.answers.as_ref();
            answers.is_some_and(|answers| {
                let since_ns = cx.awake_ns.saturating_sub(answers.since_ns);
                answers.sending > 0 && since_ns >= UNREAD_MAX_NS
            })
        };
        let late: Vec<Slot> = self
            .table
            .iter()
            .filter(|(_, emitter)| is_late(emitter))
            .map(|(slot, _)| slot)
            .collect();
        for slot in late {
            self.on_late(cx, slot);
        }
        self.say_alive(cx);
    }

    /// Who waits for long is told that it is not forgotten, where its protocol has a word for that.
    fn say_alive(&mut self, cx: &mut Context<I>) {
        let engine = &cx.engine;
        let waits = |slot: &Slot, emitter: &Emitter<I::Socket>| {
            emitter.answers.as_ref().is_some_and(|answers| {
                let every_ns = engine.alive_every_ns(slot.index());
                let since_ns = cx.awake_ns.saturating_sub(answers.told_ns);
                every_ns > 0 && since_ns >= every_ns && engine.units_open(slot.index()) > 0
            })
        };
        let waiting = self.table.iter();
        let waiting = waiting.filter(|(slot, emitter)| waits(slot, emitter));
        let waiting: Vec<Slot> = waiting.map(|(slot, _)| slot).collect();
        for slot in waiting {
            self.say(cx, slot, |cx, out| cx.engine.alive(slot.index(), out));
        }
    }

    fn on_late(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        let Some(answers) = &mut emitter.answers else {
            return;
        };
        if !answers.is_paused && !emitter.rejected {
            answers.is_paused = true;
            cx.engine.counters.count(Reason::AnswersNotRead);
            if emitter.receiving {
                cx.io
                    .cancel(token(Kind::EmitterReceive, slot), bare(Kind::Cancel));
            }
        }
        if cx.phase != Phase::Running {
            emitter.broke();
            self.close_if_finished(cx, slot);
        }
    }

    /// Asks an emitter to finish, in the words of its protocol. False: it has none for that.
    pub(super) fn say_farewell(&mut self, cx: &mut Context<I>, slot: Slot) -> bool {
        if !cx.engine.is_answered(slot.index()) {
            return false;
        }
        let mut word = Vec::new();
        if !cx.engine.farewell(slot.index(), &mut word) {
            return false;
        }
        // A greeting that has not been answered yet comes first.
        self.answer_one(cx, slot);
        if let Some(answers) = self.table.get_mut(slot).and_then(|it| it.answers.as_mut()) {
            answers.out.append(&mut word);
        }
        self.say(cx, slot, |_, _| ());
        true
    }

    /// An emitter is about to be closed: what its protocol has for that.
    pub(super) fn say_refused(&mut self, cx: &mut Context<I>, slot: Slot, why: &str) {
        let mut out = Vec::new();
        let instance = cx.config.instance;
        cx.engine.refusal(slot.index(), why, instance, &mut out);
        let emitter = self.table.get(slot);
        let socket = emitter.and_then(|emitter| emitter.socket.as_ref());
        if let (Some(socket), false) = (socket, out.is_empty()) {
            // As much as fits, and it fits: nothing was ever sent here.
            let _ = cx.io.send_now(socket, &out);
        }
    }

    /// An emitter that has ended gets its answers first, as far as there will be some. False: it can be closed.
    pub(super) fn is_still_answered(&mut self, cx: &mut Context<I>, slot: Slot) -> bool {
        let Some(emitter) = self.table.get_mut(slot) else {
            return false;
        };
        let is_gone = emitter.rejected || emitter.is_broken;
        let Some(answers) = &mut emitter.answers else {
            return false;
        };
        if is_gone || answers.is_mute {
            if answers.sending > 0 {
                if let Some(socket) = &emitter.socket {
                    // Ends the send.
                    cx.io.drop_unsent_on_close(socket);
                    cx.io.shutdown(socket, Shutdown::Both);
                }
                return true;
            }
            return false;
        }
        let waits = emitter.pending > 0 || cx.engine.units_due(slot.index()) > 0;
        waits || answers.sending > 0 || !answers.out.is_empty()
    }
}
