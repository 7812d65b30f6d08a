//! Datagrams: inputs without connections, one message in each.
//!
//! ```text
//! receive --> datagram --> allow list --> engine ---> taken: memory back to the kernel
//!    ^                                      `-> no lane has room: pending, in order; memory stays
//!    `-- again, when nothing is pending
//! ```
//!
//! Nobody can be slowed down here. While nothing is taken the kernel keeps what its buffer holds (`receive_buffer`), drops
//! the rest, and counts it: that is *lost before receipt*, and in no balance. The counter is read a few times a second and
//! not with each datagram (SO_RXQ_OVFL): it would say nothing of what is dropped behind the last one, and costs a control
//! message each.

use std::collections::VecDeque;

use super::Intake;
use crate::context::Context;
use crate::inputs::Taken;
use crate::port::{Chunk, Completion, Group, Io};
use crate::slab::{bare, numbered, Kind, Slot};
use weir_config::AllowList;
use weir_engine::{DatagramTaken, Reason};

/// Datagrams that are taken before streams have their turn again, when there is room after there was none. Each has little
/// of the room that streams wait for as well, and without any they would be dropped one and all.
const BEFORE_STREAMS: usize = 32;
/// Without a datagram for so long the kernel has none left.
const QUIET_NS: u64 = 10_000_000;

/// A shard's socket at one input.
struct Place<S> {
    input: usize,
    /// None: closed. Its place stays, for tokens have its number, and what it has brought may wait.
    socket: Option<S>,
    receiving: bool,
    /// It is closed as soon as nothing is received any more.
    is_leaving: bool,
    /// The last receive failed: the next begins with housekeeping.
    has_failed: bool,
    /// When the last datagram came, or the socket was opened.
    heard_ns: u64,
    /// What the kernel said last of those that it dropped.
    dropped: u32,
}

/// All of them.
pub(super) struct Datagrams<S> {
    places: Vec<Place<S>>,
    /// Received, and not yet taken by the engine. Bounded by the receive memory.
    pending: VecDeque<(usize, Chunk)>,
    /// The end has come: who is quiet is closed.
    is_closing: bool,
}

impl<S> Default for Datagrams<S> {
    fn default() -> Datagrams<S> {
        Datagrams {
            places: Vec::new(),
            pending: VecDeque::new(),
            is_closing: false,
        }
    }
}

impl<S> Datagrams<S> {
    /// Some wait that were received.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Their bytes, with what the kernel writes before each.
    pub(super) fn pending_bytes(&self) -> u64 {
        let pending = self.pending.iter();
        pending.map(|(_, chunk)| chunk.len() as u64).sum()
    }

    /// More may come.
    pub(super) fn is_open(&self) -> bool {
        self.places.iter().any(|place| place.socket.is_some())
    }

    /// The receives that may be under way.
    pub(super) fn receives(&self) -> impl Iterator<Item = u64> {
        (0..self.places.len()).map(token_of)
    }
}

fn token_of(place: usize) -> u64 {
    // At most as many as inputs.
    numbered(Kind::Datagrams, u32::try_from(place).unwrap_or(u32::MAX))
}

impl<I: Io> Intake<I> {
    /// The sockets at inputs of datagrams, with the numbers of these.
    pub(crate) fn set_datagram_sockets(&mut self, now_ns: u64, sockets: Vec<(usize, I::Socket)>) {
        let place = |(input, socket)| Place {
            input,
            socket: Some(socket),
            receiving: false,
            is_leaving: false,
            has_failed: false,
            heard_ns: now_ns,
            dropped: 0,
        };
        self.datagrams.places = sockets.into_iter().map(place).collect();
    }

    /// Receives where nothing is under way.
    pub(crate) fn receive_datagrams(&mut self, cx: &mut Context<I>) {
        for (index, place) in self.datagrams.places.iter_mut().enumerate() {
            let is_over = place.receiving || place.has_failed || place.is_leaving;
            if let Some(socket) = place.socket.as_ref().filter(|_| !is_over) {
                place.receiving = true;
                cx.io.receive_datagrams(socket, token_of(index));
            }
        }
    }

    pub(crate) fn on_datagram(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let chunk = cx.io.chunk(Group::Datagrams, &completion);
        let index = slot.index();
        let Some(place) = self.datagrams.places.get_mut(index) else {
            return;
        };
        place.receiving = completion.more();
        if let Some(chunk) = chunk {
            cx.turn_bytes += chunk.len();
            let last_ns = std::mem::replace(&mut place.heard_ns, cx.now_ns);
            cx.gather.heard_after(cx.now_ns - last_ns);
            cx.engine.counters.receives += 1;
            let must_wait = self.datagrams.has_pending() || !self.pending.is_empty();
            if must_wait || !self.take_datagram(cx, index, chunk) {
                self.datagrams.pending.push_back((index, chunk));
            }
        } else if let Err(error) = completion.count() {
            let is_usual = [libc::ENOBUFS, libc::ECANCELED, libc::EINTR, libc::EAGAIN];
            place.has_failed = error
                .raw_os_error()
                .is_none_or(|it| !is_usual.contains(&it));
            if place.has_failed {
                let name = &cx.shared.places()[place.input].name;
                log::warn!(
                    "shard {}: input {name}: cannot receive datagrams: {error}",
                    cx.index
                );
            }
        }
        let place = &self.datagrams.places[index];
        if place.is_leaving && !place.receiving {
            self.close_datagrams(cx, index);
        }
    }

    /// Lets the engine take a datagram. False: not now.
    fn take_datagram(&mut self, cx: &mut Context<I>, index: usize, chunk: Chunk) -> bool {
        let input = self.datagrams.places[index].input;
        let datagram = cx.io.datagram_of(chunk);
        let list = cx.live.allow_inputs.get(input);
        let list = list.filter(|list: &&AllowList| !list.is_empty());
        let may = |list: &AllowList| datagram.from.map(|from| list.allows(from.to_canonical()));
        let odd = match list.map(may) {
            Some(None) => Some(Reason::AddressUnknown),
            Some(Some(false)) => Some(Reason::AddressNotAllowed),
            Some(Some(true)) | None => {
                let before = Taken::of(&cx.engine.counters);
                if cx.engine.asks_whence() {
                    let name = &cx.shared.places()[input].name;
                    cx.engine.comes_from(name, datagram.from, None);
                }
                let taken = cx.engine.ingest_datagram(datagram.bytes, datagram.is_cut);
                self.inputs[input].take(before, &cx.engine.counters);
                match taken {
                    DatagramTaken::Stalled => return false,
                    DatagramTaken::Whole => None,
                    DatagramTaken::Odd(reason) => Some(reason),
                }
            }
        };
        cx.io.release(Group::Datagrams, chunk);
        if let Some(reason) = odd {
            self.count(cx, input, reason);
        }
        true
    }

    /// A few of those that had to wait, oldest first, as far as there is room.
    pub(super) fn resume_some_datagrams(&mut self, cx: &mut Context<I>) {
        for _ in 0..BEFORE_STREAMS {
            if !self.resume_datagram(cx) {
                return;
            }
        }
    }

    /// All of them. With none left receives begin again.
    pub(super) fn resume_datagrams(&mut self, cx: &mut Context<I>) {
        while self.resume_datagram(cx) {}
        if self.datagrams.places.is_empty() || self.datagrams.has_pending() {
            return;
        }
        if cx.takes_in() {
            self.receive_datagrams(cx);
        }
        if self.datagrams.is_closing {
            self.cancel_quiet_datagrams(cx);
        }
    }

    fn resume_datagram(&mut self, cx: &mut Context<I>) -> bool {
        if !self.datagrams.has_pending() || !cx.engine.can_ingest() {
            return false;
        }
        let Some((index, chunk)) = self.datagrams.pending.pop_front() else {
            return false;
        };
        let is_taken = self.take_datagram(cx, index, chunk);
        if !is_taken {
            self.datagrams.pending.push_front((index, chunk));
        }
        is_taken
    }

    /// What the kernel has dropped, and receives that failed.
    pub(crate) fn look_at_datagrams(&mut self, cx: &mut Context<I>) {
        for place in &mut self.datagrams.places {
            place.has_failed = false;
            let Some(socket) = &place.socket else {
                continue;
            };
            let dropped = cx.io.datagrams_dropped(socket);
            let lost = u64::from(dropped.wrapping_sub(place.dropped));
            place.dropped = dropped;
            cx.engine.counters.lost_before_receipt += lost;
            *self.inputs[place.input].lost.get_or_insert(0) += lost;
        }
    }

    /// Nobody can be asked to go: each socket is read until it is quiet, and closed.
    pub(crate) fn stop_datagrams(&mut self) {
        self.datagrams.is_closing = true;
    }

    fn cancel_quiet_datagrams(&mut self, cx: &mut Context<I>) {
        for index in 0..self.datagrams.places.len() {
            let place = &self.datagrams.places[index];
            let is_quiet = cx.now_ns - place.heard_ns >= QUIET_NS;
            if place.receiving && is_quiet {
                self.end_datagrams(cx, index);
            }
        }
    }

    /// Nothing is received any more. What waits in the kernel is lost before receipt.
    pub(crate) fn cut_off_datagrams(&mut self, cx: &mut Context<I>) {
        for index in 0..self.datagrams.places.len() {
            self.end_datagrams(cx, index);
        }
    }

    fn end_datagrams(&mut self, cx: &mut Context<I>, index: usize) {
        let place = &mut self.datagrams.places[index];
        let was_leaving = std::mem::replace(&mut place.is_leaving, true);
        match place.receiving {
            false => self.close_datagrams(cx, index),
            true if was_leaving => {}
            true => cx.io.cancel(token_of(index), bare(Kind::Cancel)),
        }
    }

    /// Closes a socket.
    fn close_datagrams(&mut self, cx: &mut Context<I>, index: usize) {
        self.look_at_datagrams(cx);
        let place = &mut self.datagrams.places[index];
        let Some(socket) = place.socket.take() else {
            return;
        };
        let left = u64::from(cx.io.discard_datagrams(&socket));
        cx.engine.counters.lost_before_receipt += left;
        *self.inputs[place.input].lost.get_or_insert(0) += left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Phase;
    use crate::inputs::InputReport;
    use crate::testing::{context, receives, Asked, FakeIo};

    /// Nobody is there who takes messages; socket 7 is at input 0.
    fn stalled() -> (Context<FakeIo>, Intake<FakeIo>) {
        let mut cx = context(1, 64);
        let mut intake = Intake::new(1, vec![InputReport::default()]);
        intake.set_datagram_sockets(cx.now_ns, vec![(0, 7)]);
        intake.receive_datagrams(&mut cx);
        intake.receive_datagrams(&mut cx);
        assert_eq!(
            cx.io.take_asked(),
            [Asked::ReceiveDatagrams(7)],
            "one at a time"
        );
        (cx, intake)
    }

    fn slot() -> Slot {
        crate::slab::untoken(token_of(0)).1
    }

    fn ends(cx: &mut Context<FakeIo>, intake: &mut Intake<FakeIo>, result: i32) {
        let completion = Completion::simulated(token_of(0), result, false, false);
        intake.on_datagram(cx, slot(), completion);
    }

    #[test]
    fn nothing_is_received_while_one_waits_for_a_lane() {
        let (mut cx, mut intake) = stalled();
        let completion = receives(token_of(0), b"\x0a\0\0\x01\0<131>x", &mut cx.io);
        intake.on_datagram(&mut cx, slot(), completion);
        assert!(intake.has_pending() && intake.pending_bytes() > 0);
        ends(&mut cx, &mut intake, -libc::ENOBUFS);
        intake.resume_pending(&mut cx);
        assert_eq!((cx.io.take_asked(), cx.io.lent), (vec![], 1));
        assert!(intake.is_stalled() && intake.may_bring_more());
    }

    #[test]
    fn a_receive_that_fails_begins_again_with_housekeeping_and_one_that_ran_out_at_once() {
        let (mut cx, mut intake) = stalled();
        ends(&mut cx, &mut intake, -libc::ENOBUFS);
        intake.resume_pending(&mut cx);
        assert_eq!(cx.io.take_asked(), [Asked::ReceiveDatagrams(7)]);
        ends(&mut cx, &mut intake, -libc::ENOMEM);
        intake.resume_pending(&mut cx);
        assert_eq!(cx.io.take_asked(), [], "it would fail again and again");
        intake.look_at_datagrams(&mut cx);
        intake.resume_pending(&mut cx);
        assert_eq!(cx.io.take_asked(), [Asked::ReceiveDatagrams(7)]);
    }

    #[test]
    fn what_the_kernel_dropped_is_counted_also_when_its_counter_wraps() {
        let (mut cx, mut intake) = stalled();
        for (dropped, lost) in [(0, 0), (5, 5), (5, 5), (u32::MAX, u64::from(u32::MAX))] {
            cx.io.dropped = dropped;
            intake.look_at_datagrams(&mut cx);
            assert_eq!(cx.engine.counters.lost_before_receipt, lost, "{dropped}");
        }
        cx.io.dropped = 1;
        intake.look_at_datagrams(&mut cx);
        let inputs = intake.inputs(|_| 0);
        assert_eq!(inputs[0].lost, Some(u64::from(u32::MAX) + 2));
    }

    #[test]
    fn at_the_end_a_socket_is_read_until_it_is_quiet() {
        let (mut cx, mut intake) = stalled();
        cx.phase = Phase::GracefulClose;
        intake.stop_datagrams();
        intake.resume_pending(&mut cx);
        assert_eq!(cx.io.take_asked(), [], "it may have some");
        cx.now_ns += QUIET_NS;
        intake.resume_pending(&mut cx);
        assert_eq!(cx.io.take_asked(), [Asked::Cancel(token_of(0))]);
        intake.cut_off_datagrams(&mut cx);
        assert_eq!(cx.io.take_asked(), [], "once");
        assert!(intake.remains(), "the kernel has the request still");
        ends(&mut cx, &mut intake, -libc::ECANCELED);
        intake.resume_pending(&mut cx);
        assert!(!intake.remains());
        assert_eq!(cx.io.take_asked(), []);
    }
}
