//! Receipts: who wants to know when which messages have been ACKed. A packet that came over HTTP with
//! `wait=acked` has a ticket, and so has each ack unit of a stream (`ack_units.rs`); its messages may move from
//! lane to lane, one by one, before they are.
//!
//! ```text
//! ticket 7 -> 3 messages open
//! lane 2: [ 41..=42 of ticket 7 ] [ 50..=57 of ticket 8 ]     in the order of the lane
//! lane 5: [ 12..=12 of ticket 7 ]                             re-routed
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::ack_units::{is_unit, AckUnits};

/// Names a request that waits for its ACK; chosen by the caller, below 2^63.
pub type Ticket = u64;

/// What became of all messages of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whose.
    pub ticket: Ticket,
    /// How many of them an analyzer has refused, and are set aside; the others have been ACKed.
    pub refused: u64,
}

/// How far the messages of a ticket have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketState {
    /// Neither ACKed nor refused.
    pub open: u64,
    /// Refused by an analyzer, and set aside.
    pub refused: u64,
}

struct Range {
    first: u64,
    last: u64,
    ticket: Ticket,
}

/// Which messages of one lane have a ticket, oldest first. Bounded by the engine, all lanes together.
#[derive(Default)]
pub(super) struct Ranges {
    older: VecDeque<Range>,
    /// Apart, because each message of a stream that is answered looks at it.
    newest: Option<Range>,
}

impl Ranges {
    /// The newest `messages` of the lane, the last of them numbered `last`, are of a ticket. True: that is one more
    /// range.
    #[inline]
    pub(super) fn place(&mut self, ticket: Ticket, last: u64, messages: u64) -> bool {
        let first = last + 1 - messages;
        if let Some(newest) = &mut self.newest {
            if newest.ticket == ticket && newest.last + 1 == first {
                newest.last = last;
                return false;
            }
        }
        self.begin(Range {
            first,
            last,
            ticket,
        });
        true
    }

    #[inline(never)]
    fn begin(&mut self, range: Range) {
        let before = self.newest.replace(range);
        self.older.extend(before);
    }

    fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.older.len() + usize::from(self.newest.is_some())
    }

    #[cfg(test)]
    pub(super) fn first_ticket(&self) -> Ticket {
        let first = self.older.front().or(self.newest.as_ref());
        first.expect("a range").ticket
    }

    /// Cuts what lies up to `last` off the first range.
    fn cut(&mut self, last: u64) -> Option<(Ticket, u64)> {
        let is_newest = self.older.is_empty();
        let range = match is_newest {
            true => self.newest.as_mut()?,
            false => self.older.front_mut()?,
        };
        if range.first > last {
            return None;
        }
        let (ticket, end) = (range.ticket, range.last.min(last));
        let messages = end + 1 - range.first;
        range.first = end + 1;
        if range.first > range.last {
            match is_newest {
                true => self.newest = None,
                false => drop(self.older.pop_front()),
            }
        }
        Some((ticket, messages))
    }

    /// Takes messages `first..=last`, which are of one unit, out; their ticket, if they have one.
    fn take_within(&mut self, first: u64, last: u64) -> Option<Ticket> {
        // Moves are rare: all of them in one row for the time of it.
        self.older.extend(self.newest.take());
        let ticket = self.take_from_row(first, last);
        self.newest = self.older.pop_back();
        ticket
    }

    fn take_from_row(&mut self, first: u64, last: u64) -> Option<Ticket> {
        let at = self.older.partition_point(|range| range.last < first);
        let range = self
            .older
            .get_mut(at)
            .filter(|range| range.first <= first)?;
        let ticket = range.ticket;
        let behind = Range {
            first: last + 1,
            last: range.last,
            ticket,
        };
        range.last = first - 1;
        let is_empty = range.first > range.last;
        if behind.first <= behind.last {
            self.older.insert(at + 1, behind);
        }
        if is_empty {
            self.older.remove(at);
        }
        Some(ticket)
    }
}

/// Of packets bounded by the requests that wait: each connection has at most one.
#[derive(Default)]
pub(super) struct Receipts {
    /// Messages of each packet's ticket that no analyzer has ACKed.
    open: BTreeMap<Ticket, u64>,
    /// Of the open ones: how many messages were refused.
    refused: BTreeMap<Ticket, u64>,
    done: VecDeque<Receipt>,
    /// Those of streams.
    pub(super) units: AckUnits,
    /// Ranges of all lanes.
    pub(super) ranges_kept: usize,
}

impl Receipts {
    /// A new ticket for the newest `messages` of a lane, the last of them numbered `last`.
    pub(super) fn open(&mut self, ticket: Ticket, lane: &mut Ranges, last: u64, messages: u64) {
        *self.open.entry(ticket).or_default() += messages;
        self.place(ticket, lane, last, messages);
    }

    /// Messages of a ticket were put into a lane.
    #[inline]
    pub(super) fn place(&mut self, ticket: Ticket, lane: &mut Ranges, last: u64, messages: u64) {
        self.ranges_kept += usize::from(lane.place(ticket, last, messages));
    }

    /// The messages of a lane up to `acked` are ACKed.
    #[inline]
    pub(super) fn acked(&mut self, lane: &mut Ranges, acked: u64) {
        if lane.is_empty() {
            return;
        }
        self.settle_up_to(lane, acked, false);
    }

    /// The messages of a lane up to `last` were refused.
    pub(super) fn refused(&mut self, lane: &mut Ranges, last: u64) {
        self.settle_up_to(lane, last, true);
    }

    fn settle_up_to(&mut self, lane: &mut Ranges, last: u64, is_refused: bool) {
        let before = lane.len();
        while let Some((ticket, messages)) = lane.cut(last) {
            self.settle(ticket, messages, is_refused);
        }
        self.ranges_kept -= before - lane.len();
    }

    /// The oldest messages of a dead link's lane, up to number `last`, are taken out; their ticket, if they
    /// have one.
    pub(super) fn take(&mut self, lane: &mut Ranges, last: u64) -> Option<Ticket> {
        let before = lane.len();
        let ticket = lane.cut(last).map(|(ticket, _)| ticket);
        self.ranges_kept -= before - lane.len();
        ticket
    }

    /// Messages `first..=last` of a living link's lane, of one unit, are taken out; their ticket, if they have one.
    pub(super) fn take_within(
        &mut self,
        lane: &mut Ranges,
        first: u64,
        last: u64,
    ) -> Option<Ticket> {
        let before = lane.len();
        let ticket = lane.take_within(first, last);
        self.ranges_kept = self.ranges_kept + lane.len() - before;
        ticket
    }

    /// Messages of a ticket were ACKed, or refused.
    #[inline]
    pub(super) fn settle(&mut self, ticket: Ticket, messages: u64, is_refused: bool) {
        match is_unit(ticket) {
            true => self.units.settle(ticket, messages, is_refused),
            false => self.settle_packet(ticket, messages, is_refused),
        }
    }

    fn settle_packet(&mut self, ticket: Ticket, messages: u64, is_refused: bool) {
        let Some(open) = self.open.get_mut(&ticket) else {
            return;
        };
        if is_refused {
            *self.refused.entry(ticket).or_default() += messages;
        }
        *open = open.saturating_sub(messages);
        if *open == 0 {
            self.open.remove(&ticket);
            let refused = self.refused.remove(&ticket).unwrap_or_default();
            self.done.push_back(Receipt { ticket, refused });
        }
    }

    /// A ticket that nothing is open of.
    pub(super) fn next_done(&mut self) -> Option<Receipt> {
        self.done.pop_front()
    }

    /// How far a ticket has come. Nothing is open of one that is done.
    pub(super) fn state(&self, ticket: Ticket) -> TicketState {
        let of = |counts: &BTreeMap<Ticket, u64>| counts.get(&ticket).copied().unwrap_or_default();
        TicketState {
            open: of(&self.open),
            refused: of(&self.refused),
        }
    }

    /// Packets' tickets that are not done.
    pub(super) fn waiting(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(ticket: Ticket) -> Option<Receipt> {
        let refused = 0;
        Some(Receipt { ticket, refused })
    }

    #[test]
    fn a_ticket_is_done_with_its_last_message() {
        let (mut a, mut b) = (Ranges::default(), Ranges::default());
        let mut receipts = Receipts::default();
        receipts.open(7, &mut a, 42, 2);
        receipts.open(8, &mut a, 57, 8);
        receipts.acked(&mut a, 41);
        assert_eq!((receipts.next_done(), receipts.waiting()), (None, 2));
        receipts.acked(&mut a, 50);
        assert_eq!(
            (receipts.next_done(), receipts.next_done()),
            (acked(7), None)
        );
        receipts.acked(&mut b, 100);
        receipts.acked(&mut a, 57);
        assert_eq!((receipts.next_done(), receipts.waiting()), (acked(8), 0));
        assert_eq!((a.len(), b.len(), receipts.ranges_kept), (0, 0, 0));
    }

    #[test]
    fn a_ticket_follows_its_messages() {
        let (mut a, mut b) = (Ranges::default(), Ranges::default());
        let mut receipts = Receipts::default();
        receipts.open(7, &mut a, 3, 3);
        receipts.acked(&mut a, 1);
        assert_eq!(receipts.take(&mut a, 2), Some(7));
        receipts.place(7, &mut b, 10, 1);
        assert_eq!(receipts.take(&mut a, 3), Some(7));
        receipts.place(7, &mut b, 11, 1);
        assert_eq!(b.len(), 1, "neighbours are one range");
        assert_eq!(receipts.take(&mut a, 4), None);
        receipts.acked(&mut b, 10);
        assert_eq!(receipts.next_done(), None);
        receipts.acked(&mut b, 11);
        assert_eq!(receipts.next_done(), acked(7));
    }

    #[test]
    fn a_ticket_says_how_many_of_its_messages_were_refused() {
        let mut a = Ranges::default();
        let mut receipts = Receipts::default();
        receipts.open(7, &mut a, 3, 3);
        receipts.refused(&mut a, 1);
        assert_eq!(receipts.next_done(), None, "two messages are open");
        let half = TicketState {
            open: 2,
            refused: 1,
        };
        assert_eq!(receipts.state(7), half);
        receipts.acked(&mut a, 3);
        let (ticket, refused) = (7, 1);
        assert_eq!(receipts.next_done(), Some(Receipt { ticket, refused }));
        assert_eq!(receipts.state(7), TicketState::default());
        receipts.open(8, &mut a, 4, 1);
        receipts.acked(&mut a, 4);
        assert_eq!(receipts.next_done(), acked(8));
        assert!(receipts.refused.is_empty());
    }
}
