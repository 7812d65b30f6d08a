//! Ingress: emitters, what they have sent, and whether the engine can take it.
//!
//! ```text
//! receive -> chunk -> engine.ingest -> taken: memory back to the kernel
//!                       `-> stalled: pending, in order; memory stays
//!
//! emitters.rs  accept, receive, offer, resume      close.rs  places, rejects, ends
//! farewell.rs  who is asked to go, and when        unread.rs     who is late, who is gone while nobody takes messages
//! answers.rs   ACKs to emitters that want them      late.rs      who is not read from, so that ACKs are in time
//! datagrams.rs what comes without connections
//! whence.rs    where messages come from, for analyzers that ask
//! undecided.rs who has sent too little to tell what it speaks
//! turns.rs     who has sent more than the work of a turn
//! ```
//!
//! Backpressure needs no cancelling: while chunks are pending their memory does not go back to the
//! kernel, so receives end with ENOBUFS sooner or later, sockets fill, and TCP slows the emitters.
//! They are armed again when nothing is pending any more.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::admission::Customer;
use crate::farewell::{Age, Ages, Spread};
use crate::inputs::InputReport;
use crate::port::{Chunk, Io};
use crate::slab::{token, Kind, Slab, Slot};
use answers::Outbox;
use datagrams::Datagrams;
use turns::Turns;

mod answers;
mod close;
mod datagrams;
mod emitters;
mod farewell;
mod late;
mod proxied;
#[cfg(test)]
mod tests;
mod turns;
mod undecided;
mod unread;
mod whence;

/// An emitter's connection.
struct Emitter<S> {
    /// Number of the place where it connected.
    input: usize,
    /// What its first bytes have told.
    first: First,
    /// Closed as soon as nothing more is read from it, so that a peer which is cut off knows.
    socket: Option<S>,
    /// A receive is armed.
    receiving: bool,
    /// The stream has ended, or is not to be followed any more.
    ended: bool,
    /// It has closed; the graceful close being over, what it sent is read to its end all the same.
    finishing: bool,
    /// It broke the protocol: what it sent after that is not read.
    rejected: bool,
    /// Its stream has ended as streams do, and its source has not been told.
    has_eof: bool,
    /// It is not read from until units of it are answered.
    is_held: bool,
    /// It is asked to go as soon as what it has sent is answered.
    is_leaving: bool,
    /// What its protocol says at the end is said, or there is nothing.
    has_last_word: bool,
    /// It has been; what comes after that is not looked at.
    is_over: bool,
    /// Chunks of it that are pending.
    pending: u32,
    /// It waits for its next turn; that counts as pending.
    is_waiting: bool,
    /// The header that its proxy begins with has not come whole.
    header: Option<Box<proxied::Header>>,
    /// Who it is, where a proxy says it.
    client: Option<SocketAddr>,
    /// Whom its certificate names.
    certificate: Option<Arc<str>>,
    /// Who it counts as, when connections are limited by client.
    counted: Option<Customer>,
    /// It is one of `--max-connections`, and of its address: until its socket is closed.
    has_place: bool,
    /// Its connection broke before all that it had sent was read.
    is_broken: bool,
    /// When it last sent something, or came.
    heard_ns: u64,
    age: Age,
    /// It has been asked to go.
    is_dismissed: bool,
    /// It is answered: what it is told.
    answers: Option<Box<Outbox>>,
}

/// What first bytes have told of what a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// It speaks what its place speaks, or is known to speak one of that.
    Told,
    /// Nothing has come.
    Unheard,
    /// What came may be several protocols'.
    Several,
}

/// Bytes that the engine could not take yet.
struct PendingChunk {
    emitter: Slot,
    chunk: Chunk,
}

/// A shard's side towards emitters.
pub(super) struct Intake<I: Io> {
    table: Slab<Emitter<I::Socket>>,
    /// Received, not yet taken by the engine. Bounded by the receive memory.
    pending: VecDeque<PendingChunk>,
    /// Emitters whose receive ended and must be started again.
    rearm: VecDeque<Slot>,
    /// Of those: their connections broke, and not all is read that they had sent.
    broken: VecDeque<Slot>,
    /// Emitters whose stream ends with an element that no lane could take yet.
    ending: VecDeque<Slot>,
    /// Emitters that have a place among `--max-connections`.
    placed: usize,
    stalled_since_ns: Option<u64>,
    /// The time by which frames are judged: it stands still also while emitters are not read from.
    frames_ns: u64,
    ages: Ages,
    /// The place whose age is looked at next.
    next_age: usize,
    /// Who of those that are held is looked at next.
    next_held: usize,
    /// Farewells at SIGTERM that are not all said.
    spread: Option<Spread>,
    /// Emitters with answers that are gathered, and since when; the first of them is due first.
    gathered: VecDeque<(Slot, u64)>,
    /// Emitters that are answered.
    answered: usize,
    /// What each place has brought.
    inputs: Vec<InputReport>,
    /// Places whose senders are not read from: ACKs take too long for them.
    late: Vec<bool>,
    /// Connections whose first bytes may be several protocols', oldest first, and since when.
    undecided: VecDeque<(Slot, u64)>,
    datagrams: Datagrams<I::Socket>,
    turns: Turns,
}

impl<I: Io> Intake<I> {
    /// For the emitters of one shard; `seed` makes their ages differ from all others'.
    pub(super) fn new(seed: u64, inputs: Vec<InputReport>) -> Intake<I> {
        Intake {
            late: vec![false; inputs.len()],
            inputs,
            undecided: VecDeque::new(),
            turns: Turns::default(),
            table: Slab::new(),
            pending: VecDeque::new(),
            rearm: VecDeque::new(),
            broken: VecDeque::new(),
            ending: VecDeque::new(),
            placed: 0,
            stalled_since_ns: None,
            frames_ns: 0,
            ages: Ages::new(seed),
            next_age: 0,
            next_held: 0,
            spread: None,
            gathered: VecDeque::new(),
            answered: 0,
            datagrams: Datagrams::default(),
        }
    }

    /// Chunks wait that were received, and nobody could take them.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || self.datagrams.has_pending()
    }

    /// Bytes that were read and that the engine has not taken.
    pub(super) fn pending_bytes(&self) -> u64 {
        let pending = self.pending.iter();
        let of_streams: u64 = pending.map(|pending| pending.chunk.len() as u64).sum();
        of_streams + self.datagrams.pending_bytes()
    }

    /// Emitters, or what they sent.
    pub(super) fn remains(&self) -> bool {
        let of_streams = self.table.len() > 0 || self.has_pending() || self.has_turns();
        of_streams || self.datagrams.is_open()
    }

    /// Some emitter may bring more, or has.
    pub(super) fn may_bring_more(&self) -> bool {
        let mut emitters = self.table.iter();
        self.has_pending()
            || self.datagrams.is_open()
            || self.has_turns()
            || emitters.any(|(_, emitter)| !emitter.ended || emitter.receiving)
    }

    /// Receiving is stopped: nobody can take more.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since_ns.is_some()
    }

    /// Emitters that are connected.
    pub(super) fn connected(&self) -> usize {
        self.placed
    }

    /// What each place has brought; of whom it has open units `units` knows.
    pub(super) fn inputs(&self, units: impl Fn(Slot) -> usize) -> Vec<InputReport> {
        let mut inputs = self.inputs.clone();
        if self.answered > 0 {
            let answered = self.table.iter().filter(|(_, it)| it.answers.is_some());
            for (slot, emitter) in answered {
                inputs[emitter.input].units_open += units(slot);
            }
        }
        inputs
    }

    /// Emitters that are answered.
    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    /// Emitters that believe they have been read, and have not. Who gets ACKs believes these.
    pub(super) fn unfinished(&self) -> u64 {
        let believes =
            |emitter: &Emitter<I::Socket>| emitter.finishing && emitter.answers.is_none();
        let finishing = self.table.iter().filter(|(_, emitter)| believes(emitter));
        finishing.count() as u64
    }

    /// The receives that may be under way.
    pub(super) fn receives(&self) -> impl Iterator<Item = u64> {
        let slots = self.table.slots().into_iter();
        let streams = slots.map(|slot| token(Kind::EmitterReceive, slot));
        streams.chain(self.datagrams.receives())
    }
}
