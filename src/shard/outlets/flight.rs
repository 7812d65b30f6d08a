//! Packets in flight, and how far the lane may be ACKed.
//!
//! ```text
//! packets   [ through ][ in flight, 3 of 5 messages through ][ through ][ in flight ]
//! lane                 ^ ACKed                ^ through in order: ACKed up to here, but for a unit that is not whole
//! refused                  x  one message that the analyzer does not take: through when another has it, or it is set
//!                             aside; until then nothing behind it is ACKed
//! ```

use std::collections::VecDeque;

use weir_engine::Passed;

/// One packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    /// Its first message, as the lane numbers them from 1.
    first: u64,
    messages: u64,
    /// Not through yet.
    left: u64,
    bytes: u64,
    /// Bytes of the connection up to its end.
    end: u64,
    sent_ns: u64,
}

/// A message that the analyzer does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    message: u64,
    /// What became of it; none: not known yet.
    passed: Option<Passed>,
}

/// Messages of a lane that are on their way, in order.
#[derive(Debug)]
pub(super) struct Flight {
    packets: VecDeque<Packet>,
    /// Records of several messages: these are ACKed as a whole, first and last message.
    units: VecDeque<(u64, u64)>,
    /// In order.
    refused: VecDeque<Refused>,
    /// Of them: not known what becomes of them.
    homeless: u64,
    /// The lane's number of the next message.
    next: u64,
    /// The lane is ACKed so far.
    acked: u64,
    messages: u64,
    bytes: u64,
    /// Bytes of the connection up to the last packet's end.
    end: u64,
}

impl Flight {
    pub(super) fn new() -> Flight {
        Flight {
            packets: VecDeque::new(),
            units: VecDeque::new(),
            refused: VecDeque::new(),
            homeless: 0,
            next: 1,
            acked: 0,
            messages: 0,
            bytes: 0,
            end: 0,
        }
    }

    /// The number of the next message.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// There is a new connection. Nothing is on its way.
    pub(super) fn begin_connection(&mut self) {
        debug_assert!(self.packets.is_empty());
        self.end = 0;
    }

    /// A record of so many messages begins with the next one.
    #[inline]
    pub(super) fn note_unit(&mut self, first: u64, messages: u64) {
        if messages > 1 {
            self.units.push_back((first, first + messages - 1));
        }
    }

    /// No packet went over this connection.
    pub(super) fn is_new_connection(&self) -> bool {
        self.end == 0
    }

    /// The next messages are on their way as one packet.
    pub(super) fn launch(&mut self, messages: u64, bytes: u64, now_ns: u64) {
        self.end += bytes;
        self.packets.push_back(Packet {
            first: self.next,
            messages,
            left: messages,
            bytes,
            end: self.end,
            sent_ns: now_ns,
        });
        self.next += messages;
        self.messages += messages;
        self.bytes += bytes;
    }

    /// The oldest `messages` messages are through. How many packets that ends; none: more than are on their way.
    pub(super) fn through(&mut self, mut messages: u64) -> Option<u64> {
        if messages > self.messages {
            return None;
        }
        let mut ended = 0;
        while messages > 0 {
            let front = self.packets.iter_mut().find(|packet| packet.left > 0)?;
            let now = messages.min(front.left);
            front.left -= now;
            self.messages -= now;
            messages -= now;
            ended += u64::from(front.left == 0);
        }
        self.land();
        Some(ended)
    }

    /// The packet that begins with message `first` is through. False: there is none on its way.
    pub(super) fn done(&mut self, first: u64) -> bool {
        let at = self.packets.partition_point(|packet| packet.first < first);
        let packet = self.packets.get_mut(at);
        let Some(packet) = packet.filter(|it| it.first == first && it.left > 0) else {
            return false;
        };
        self.messages -= packet.left;
        packet.left = 0;
        self.land();
        true
    }

    /// The packets that end within the first `bytes` bytes of the connection are through. How many that are.
    pub(super) fn through_bytes(&mut self, bytes: u64) -> u64 {
        let mut ended = 0;
        while let Some(front) = self.packets.front_mut().filter(|it| it.end <= bytes) {
            self.messages -= front.left;
            front.left = 0;
            ended += 1;
            self.land();
        }
        ended
    }

    /// The analyzer does not take the oldest message. Its number; none: there is none on its way.
    pub(super) fn refuse(&mut self) -> Option<u64> {
        let front = self.packets.iter_mut().find(|packet| packet.left > 0)?;
        let message = front.first + (front.messages - front.left);
        front.left -= 1;
        self.messages -= 1;
        self.homeless += 1;
        self.refused.push_back(Refused {
            message,
            passed: None,
        });
        self.land();
        Some(message)
    }

    /// What became of a message that was refused.
    pub(super) fn settle(&mut self, message: u64, passed: Passed) {
        let mut refused = self.refused.iter_mut();
        let refused = refused.find(|it| it.message == message && it.passed.is_none());
        if let Some(refused) = refused {
            refused.passed = Some(passed);
            self.homeless -= 1;
        }
    }

    /// Packets at the front that are through are forgotten.
    fn land(&mut self) {
        while let Some(front) = self.packets.front().filter(|packet| packet.left == 0) {
            self.bytes -= front.bytes;
            self.packets.pop_front();
        }
    }

    /// The last message before which all are through.
    fn in_order(&self) -> u64 {
        let answered = match self.packets.front() {
            Some(front) => front.first - 1 + (front.messages - front.left),
            None => self.next - 1,
        };
        let mut open = self.refused.iter().filter(|it| it.passed.is_none());
        open.next()
            .map_or(answered, |it| answered.min(it.message - 1))
    }

    /// The next messages by which the lane can advance, and how; they count as passed. To be called until there are
    /// none.
    pub(super) fn take_passed(&mut self) -> Option<(u64, Passed)> {
        let mut until = self.in_order();
        while let Some((first, last)) = self.units.front().copied() {
            if last <= until {
                self.units.pop_front();
                continue;
            }
            if first <= until {
                until = first - 1;
            }
            break;
        }
        if until <= self.acked {
            return None;
        }
        let next = self.acked + 1;
        let odd = self.refused.front().copied();
        let (messages, passed) = match odd {
            Some(odd) if odd.message == next => {
                self.refused.pop_front();
                (1, odd.passed.unwrap_or(Passed::Refused)) // it is known up to `until`
            }
            Some(odd) => (until.min(odd.message - 1) - self.acked, Passed::Acked),
            None => (until - self.acked, Passed::Acked),
        };
        self.acked += messages;
        Some((messages, passed))
    }

    /// Messages that are through and that the lane does not know of: how many behind the ACKed ones each range begins,
    /// how many it has, and what became of them.
    pub(super) fn passed(&self) -> Vec<(u64, u64, Passed)> {
        let answered = self.packets.front();
        let answered = answered.map_or(self.next, |it| it.first + (it.messages - it.left));
        let front = (self.acked + 1, answered - 1 - self.acked);
        let others = self.packets.iter().skip(1);
        let others = others.map(|packet| (packet.first, packet.messages - packet.left));
        let mut all = Vec::new();
        let mut refused = self.refused.iter().peekable();
        for (mut first, messages) in std::iter::once(front).chain(others) {
            let end = first + messages;
            while let Some(odd) = refused.next_if(|it| it.message < end) {
                all.push((first, odd.message - first, Passed::Acked));
                all.extend(odd.passed.map(|passed| (odd.message, 1, passed)));
                first = odd.message + 1;
            }
            all.push((first, end - first, Passed::Acked));
        }
        all.retain(|(_, messages, _)| *messages > 0);
        for (first, _, _) in &mut all {
            *first -= 1 + self.acked;
        }
        all
    }

    /// Packets on their way.
    #[inline]
    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Messages on their way.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Messages that were refused and that nobody else has yet.
    pub(super) fn homeless(&self) -> u64 {
        self.homeless
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest packet was sent.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        let mut packets = self.packets.iter();
        packets.find(|it| it.left > 0).map(|it| it.sent_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of two messages each.
    fn flight(packets: u64) -> Flight {
        let mut flight = Flight::new();
        for number in 0..packets {
            flight.launch(2, 10, number);
        }
        flight
    }

    /// All that the lane can advance by.
    fn take(flight: &mut Flight) -> Vec<(u64, Passed)> {
        std::iter::from_fn(|| flight.take_passed()).collect()
    }

    fn acked(messages: u64) -> Vec<(u64, Passed)> {
        vec![(messages, Passed::Acked)]
    }

    #[test]
    fn acks_in_any_order_advance_from_the_front() {
        let mut flight = flight(4);
        assert!(flight.done(3) && flight.done(7));
        assert_eq!((take(&mut flight), flight.messages()), (vec![], 4));
        assert!(!flight.done(3), "twice");
        assert!(!flight.done(2) && !flight.done(99), "none begins there");
        let both = [(2, 2, Passed::Acked), (6, 2, Passed::Acked)];
        assert_eq!(flight.passed(), both);
        assert!(flight.done(1));
        assert_eq!((take(&mut flight), flight.bytes()), (acked(4), 20));
        assert_eq!(flight.passed(), [(2, 2, Passed::Acked)]);
        assert!(flight.done(5));
        assert_eq!((take(&mut flight), flight.bytes()), (acked(4), 0));
        assert_eq!((flight.packets(), flight.messages()), (0, 0));
        assert!(flight.passed().is_empty());
    }

    #[test]
    fn acks_of_messages_take_packets_apart() {
        let mut flight = flight(3);
        assert_eq!(flight.through(3), Some(1));
        assert_eq!((take(&mut flight), flight.packets()), (acked(3), 2));
        assert_eq!(flight.oldest_ns(), Some(1));
        assert_eq!(flight.through(4), None, "three are on their way");
        assert_eq!(flight.through(3), Some(2));
        assert_eq!((take(&mut flight), flight.oldest_ns()), (acked(3), None));
    }

    #[test]
    fn units_are_acked_whole() {
        let mut flight = Flight::new();
        flight.note_unit(1, 1);
        flight.note_unit(2, 3);
        flight.launch(3, 1, 0); // 1, and 2 and 3 of the unit
        flight.launch(3, 1, 0); // 4, the last of the unit, 5 and 6
        assert!(flight.done(1));
        assert_eq!(take(&mut flight), acked(1));
        assert_eq!(
            flight.passed(),
            [(0, 2, Passed::Acked)],
            "they need no other analyzer"
        );
        assert!(flight.done(4));
        assert_eq!(take(&mut flight), acked(5));
    }

    #[test]
    fn what_is_refused_holds_up_what_is_behind_it() {
        let mut flight = flight(3);
        assert_eq!(flight.through(1), Some(0));
        assert_eq!(flight.refuse(), Some(2));
        assert_eq!(flight.through(1), Some(0));
        assert_eq!(flight.refuse(), Some(4));
        assert_eq!((flight.messages(), flight.packets()), (2, 1));
        assert_eq!(take(&mut flight), acked(1));
        assert_eq!(flight.passed(), [(1, 1, Passed::Acked)], "3 alone");
        assert_eq!(flight.homeless(), 2);
        flight.settle(4, Passed::Refused);
        assert_eq!(take(&mut flight), []);
        assert_eq!(
            flight.passed(),
            [(1, 1, Passed::Acked), (2, 1, Passed::Refused)]
        );
        flight.settle(2, Passed::Moved);
        assert_eq!(
            take(&mut flight),
            [(1, Passed::Moved), (1, Passed::Acked), (1, Passed::Refused)]
        );
        assert_eq!(flight.homeless(), 0);
        assert_eq!(flight.through(2), Some(1));
        assert_eq!((take(&mut flight), flight.refuse()), (acked(2), None));
    }

    #[test]
    fn a_unit_of_which_a_part_was_refused_is_passed_whole() {
        let mut flight = Flight::new();
        flight.note_unit(1, 3);
        flight.launch(3, 1, 0);
        assert_eq!((flight.through(1), flight.refuse()), (Some(0), Some(2)));
        flight.settle(2, Passed::Moved);
        assert_eq!(take(&mut flight), [], "its last is on its way");
        assert_eq!(flight.through(1), Some(1));
        let all = [(1, Passed::Acked), (1, Passed::Moved), (1, Passed::Acked)];
        assert_eq!(take(&mut flight), all);
    }

    #[test]
    fn bytes_that_have_arrived_end_packets() {
        let mut flight = flight(3);
        assert_eq!(flight.through_bytes(9), 0);
        assert_eq!(flight.through_bytes(29), 2);
        assert_eq!((take(&mut flight), flight.bytes()), (acked(4), 10));
        assert_eq!(flight.through_bytes(u64::MAX), 1);
        assert_eq!(take(&mut flight), acked(2));
        flight.begin_connection();
        flight.launch(1, 10, 0);
        assert_eq!(flight.through_bytes(10), 1);
    }
}
