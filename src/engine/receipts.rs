//! Receipts: who wants to know when which messages have been ACKed. A packet that came over HTTP with
//! `wait=acked` has a ticket; its messages may move from lane to lane, one by one, before they are.
//!
//! ```text
//! ticket 7 -> 3 messages open
//! link 2: [ 41..=42 of ticket 7 ] [ 50..=57 of ticket 8 ]     in the order of the lane
//! link 5: [ 12..=12 of ticket 7 ]                             re-routed
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::LinkEpoch;

/// Names a request that waits for its ACK; chosen by the caller.
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

/// Bounded by the requests that wait: each connection has at most one.
#[derive(Default)]
pub(super) struct Receipts {
    /// Messages of each ticket that no analyzer has ACKed.
    open: BTreeMap<Ticket, u64>,
    links: BTreeMap<LinkEpoch, VecDeque<Range>>,
    /// Of the open ones: how many messages were refused.
    refused: BTreeMap<Ticket, u64>,
    done: VecDeque<Receipt>,
}

impl Receipts {
    /// A new ticket for the newest `messages` of a link, the last of them numbered `last`.
    pub(super) fn open(&mut self, ticket: Ticket, epoch: LinkEpoch, last: u64, messages: u64) {
        *self.open.entry(ticket).or_default() += messages;
        self.place(ticket, epoch, last, messages);
    }

    /// Messages of a ticket were put into a lane.
    pub(super) fn place(&mut self, ticket: Ticket, epoch: LinkEpoch, last: u64, messages: u64) {
        let first = last + 1 - messages;
        let ranges = self.links.entry(epoch).or_default();
        if let Some(before) = ranges.back_mut() {
            if before.ticket == ticket && before.last + 1 == first {
                before.last = last;
                return;
            }
        }
        ranges.push_back(Range {
            first,
            last,
            ticket,
        });
    }

    /// The messages of a link up to `acked` are ACKed.
    #[inline]
    pub(super) fn acked(&mut self, epoch: LinkEpoch, acked: u64) {
        if self.links.is_empty() {
            return;
        }
        while let Some((ticket, messages)) = self.cut(epoch, acked) {
            self.settle(ticket, messages, false);
        }
    }

    /// The messages of a link up to `last` were refused.
    pub(super) fn refused(&mut self, epoch: LinkEpoch, last: u64) {
        while let Some((ticket, messages)) = self.cut(epoch, last) {
            self.settle(ticket, messages, true);
        }
    }

    /// The oldest messages of a dead link, up to number `last`, are taken out; their ticket, if they
    /// have one.
    pub(super) fn take(&mut self, epoch: LinkEpoch, last: u64) -> Option<Ticket> {
        if self.links.is_empty() {
            return None;
        }
        self.cut(epoch, last).map(|(ticket, _)| ticket)
    }

    /// Messages `first..=last` of a living link, of one unit, are taken out; their ticket, if they have one.
    pub(super) fn take_within(
        &mut self,
        epoch: LinkEpoch,
        first: u64,
        last: u64,
    ) -> Option<Ticket> {
        let ranges = self.links.get_mut(&epoch)?;
        let at = ranges.partition_point(|range| range.last < first);
        let range = ranges.get_mut(at).filter(|range| range.first <= first)?;
        let ticket = range.ticket;
        let behind = Range {
            first: last + 1,
            last: range.last,
            ticket,
        };
        range.last = first - 1;
        let is_empty = range.first > range.last;
        if behind.first <= behind.last {
            ranges.insert(at + 1, behind);
        }
        if is_empty {
            ranges.remove(at);
        }
        if ranges.is_empty() {
            self.links.remove(&epoch);
        }
        Some(ticket)
    }

    /// Messages of a ticket were ACKed, or refused.
    pub(super) fn settle(&mut self, ticket: Ticket, messages: u64, is_refused: bool) {
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

    /// Tickets that are not done.
    pub(super) fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Cuts what lies up to `last` off the first range of a link.
    fn cut(&mut self, epoch: LinkEpoch, last: u64) -> Option<(Ticket, u64)> {
        let ranges = self.links.get_mut(&epoch)?;
        let range = ranges.front_mut()?;
        if range.first > last {
            return None;
        }
        let (ticket, end) = (range.ticket, range.last.min(last));
        let messages = end + 1 - range.first;
        range.first = end + 1;
        if range.first > range.last {
            ranges.pop_front();
            if ranges.is_empty() {
                self.links.remove(&epoch);
            }
        }
        Some((ticket, messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(ticket: Ticket) -> Option<Receipt> {
        let refused = 0;
        Some(Receipt { ticket, refused })
    }

    const A: LinkEpoch = LinkEpoch(1);
    const B: LinkEpoch = LinkEpoch(2);

    #[test]
    fn a_ticket_is_done_with_its_last_message() {
        let mut receipts = Receipts::default();
        receipts.open(7, A, 42, 2);
        receipts.open(8, A, 57, 8);
        receipts.acked(A, 41);
        assert_eq!((receipts.next_done(), receipts.waiting()), (None, 2));
        receipts.acked(A, 50);
        assert_eq!(
            (receipts.next_done(), receipts.next_done()),
            (acked(7), None)
        );
        receipts.acked(B, 100);
        receipts.acked(A, 57);
        assert_eq!((receipts.next_done(), receipts.waiting()), (acked(8), 0));
        assert!(receipts.links.is_empty());
    }

    #[test]
    fn a_ticket_follows_its_messages() {
        let mut receipts = Receipts::default();
        receipts.open(7, A, 3, 3);
        receipts.acked(A, 1);
        assert_eq!(receipts.take(A, 2), Some(7));
        receipts.place(7, B, 10, 1);
        assert_eq!(receipts.take(A, 3), Some(7));
        receipts.place(7, B, 11, 1);
        assert_eq!(receipts.links[&B].len(), 1, "neighbours are one range");
        assert_eq!(receipts.take(A, 4), None);
        receipts.acked(B, 10);
        assert_eq!(receipts.next_done(), None);
        receipts.acked(B, 11);
        assert_eq!(receipts.next_done(), acked(7));
    }

    #[test]
    fn a_ticket_says_how_many_of_its_messages_were_refused() {
        let mut receipts = Receipts::default();
        receipts.open(7, A, 3, 3);
        receipts.refused(A, 1);
        assert_eq!(receipts.next_done(), None, "two messages are open");
        let half = TicketState {
            open: 2,
            refused: 1,
        };
        assert_eq!(receipts.state(7), half);
        receipts.acked(A, 3);
        let (ticket, refused) = (7, 1);
        assert_eq!(receipts.next_done(), Some(Receipt { ticket, refused }));
        assert_eq!(receipts.state(7), TicketState::default());
        receipts.open(8, A, 4, 1);
        receipts.acked(A, 4);
        assert_eq!(receipts.next_done(), acked(8));
        assert!(receipts.refused.is_empty());
    }
}
