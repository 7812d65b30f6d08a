//! Packets in flight, and how far the lane may be ACKed.
//!
//! ```text
//! packets   [ through ][ in flight, 3 of 5 messages through ][ through ][ in flight ]
//! lane                 ^ ACKed                ^ through in order: ACKed up to here, but for a unit that is not whole
//! ```

use std::collections::VecDeque;

/// One packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    /// Its first message, as the lane numbers them from 1.
    first: u64,
    messages: u64,
    /// Not through yet.
    left: u64,
    bytes: u64,
    sent_ns: u64,
}

/// Messages of a lane that are on their way, in order.
#[derive(Debug)]
pub(super) struct Flight {
    packets: VecDeque<Packet>,
    /// Records of several messages: these are ACKed as a whole, first and last message.
    units: VecDeque<(u64, u64)>,
    /// The lane's number of the next message.
    next: u64,
    /// The lane is ACKed so far.
    acked: u64,
    messages: u64,
    bytes: u64,
}

impl Flight {
    pub(super) fn new() -> Flight {
        Flight {
            packets: VecDeque::new(),
            units: VecDeque::new(),
            next: 1,
            acked: 0,
            messages: 0,
            bytes: 0,
        }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A record of so many messages begins with the next one.
    pub(super) fn note_unit(&mut self, first: u64, messages: u64) {
        if messages > 1 {
            self.units.push_back((first, first + messages - 1));
        }
    }

    /// The next messages are on their way as one packet.
    pub(super) fn launch(&mut self, messages: u64, bytes: u64, now_ns: u64) {
        self.packets.push_back(Packet {
            first: self.next,
            messages,
            left: messages,
            bytes,
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

    /// Packets at the front that are through are forgotten.
    fn land(&mut self) {
        while let Some(front) = self.packets.front().filter(|packet| packet.left == 0) {
            self.bytes -= front.bytes;
            self.packets.pop_front();
        }
    }

    /// Messages at the front that are through.
    fn in_order(&self) -> u64 {
        match self.packets.front() {
            Some(front) => front.first - 1 + (front.messages - front.left),
            None => self.next - 1,
        }
    }

    /// By how many messages the lane can be ACKed further; they count as ACKed.
    pub(super) fn take_acks(&mut self) -> u64 {
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
        let more = until - self.acked;
        self.acked = until;
        more
    }

    /// Messages that are through and that the lane does not know of: how many behind the ACKed ones each range begins,
    /// and how many it has.
    pub(super) fn passed(&self) -> Vec<(u64, u64)> {
        let front = (self.acked + 1, self.in_order() - self.acked);
        let others = self.packets.iter().skip(1);
        let others = others.map(|packet| (packet.first, packet.messages - packet.left));
        std::iter::once(front)
            .chain(others)
            .filter(|(_, messages)| *messages > 0)
            .map(|(first, messages)| (first - 1 - self.acked, messages))
            .collect()
    }

    /// Packets on their way.
    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Messages on their way.
    pub(super) fn messages(&self) -> u64 {
        self.messages
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

    #[test]
    fn acks_in_any_order_advance_from_the_front() {
        let mut flight = flight(4);
        assert!(flight.done(3) && flight.done(7));
        assert_eq!((flight.take_acks(), flight.messages()), (0, 4));
        assert!(!flight.done(3), "twice");
        assert!(!flight.done(2) && !flight.done(99), "none begins there");
        assert_eq!(flight.passed(), [(2, 2), (6, 2)]);
        assert!(flight.done(1));
        assert_eq!((flight.take_acks(), flight.bytes()), (4, 20));
        assert_eq!(flight.passed(), [(2, 2)]);
        assert!(flight.done(5));
        assert_eq!((flight.take_acks(), flight.bytes()), (4, 0));
        assert_eq!((flight.packets(), flight.messages()), (0, 0));
        assert!(flight.passed().is_empty());
    }

    #[test]
    fn acks_of_messages_take_packets_apart() {
        let mut flight = flight(3);
        assert_eq!(flight.through(3), Some(1));
        assert_eq!((flight.take_acks(), flight.packets()), (3, 2));
        assert_eq!(flight.oldest_ns(), Some(1));
        assert_eq!(flight.through(4), None, "three are on their way");
        assert_eq!(flight.through(3), Some(2));
        assert_eq!((flight.take_acks(), flight.oldest_ns()), (3, None));
    }

    #[test]
    fn units_are_acked_whole() {
        let mut flight = Flight::new();
        flight.note_unit(1, 1);
        flight.note_unit(2, 3);
        flight.launch(3, 1, 0); // 1, and 2 and 3 of the unit
        flight.launch(3, 1, 0); // 4, the last of the unit, 5 and 6
        assert!(flight.done(1));
        assert_eq!(flight.take_acks(), 1);
        assert_eq!(flight.passed(), [(0, 2)], "they need no other analyzer");
        assert!(flight.done(4));
        assert_eq!(flight.take_acks(), 5);
    }
}
