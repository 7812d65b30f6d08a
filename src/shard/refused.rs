//! Packets that every analyzer over HTTP refused and that are in no file: the newest, in memory.
//!
//! ```text
//! shard: push -> [ oldest ... newest ]  at most --dead-letter-memory bytes, all shards together
//!          full: the oldest goes, counted as forgotten
//! operator: a copy of the list, its packets shared
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counted for each packet beside its bytes.
const ENTRY_BYTES: usize = 128;

/// A packet that nobody took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPacket {
    /// When the last analyzer refused it, in ms since 1970.
    pub unix_ms: u64,
    /// That analyzer.
    pub analyzer: Arc<str>,
    /// Its answer.
    pub status: u16,
    /// Messages in it.
    pub messages: u64,
    /// The JSON that was POSTed.
    pub packet: Vec<u8>,
}

/// How much is kept, and was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// Packets that are kept.
    pub packets: usize,
    /// Messages in them.
    pub messages: u64,
    /// Bytes that they take.
    pub bytes: usize,
    /// What they may take at most, in bytes.
    pub bytes_max: usize,
    /// Packets that were kept once and had to go, or never fitted.
    pub forgotten: u64,
    /// Messages in those.
    pub forgotten_messages: u64,
}

/// What is kept.
#[derive(Clone, Debug, Default)]
pub struct RefusedPackets {
    /// Oldest first.
    pub packets: VecDeque<Arc<RefusedPacket>>,
    /// How much that is, and what had to go.
    pub counts: RefusedCounts,
}

/// See the head of this file.
pub(super) struct RefusedMemory(Mutex<RefusedPackets>);

impl RefusedMemory {
    pub(super) fn new(bytes_max: usize) -> RefusedMemory {
        RefusedMemory(Mutex::new(RefusedPackets {
            packets: VecDeque::new(),
            counts: RefusedCounts {
                bytes_max,
                ..RefusedCounts::default()
            },
        }))
    }

    pub(super) fn push(&self, packet: RefusedPacket) {
        let mut kept = self.kept();
        let RefusedPackets { packets, counts } = &mut *kept;
        counts.packets += 1;
        counts.messages += packet.messages;
        counts.bytes += cost(&packet);
        packets.push_back(Arc::new(packet));
        while counts.bytes > counts.bytes_max {
            let Some(oldest) = packets.pop_front() else {
                return;
            };
            counts.packets -= 1;
            counts.messages -= oldest.messages;
            counts.bytes -= cost(&oldest);
            counts.forgotten += 1;
            counts.forgotten_messages += oldest.messages;
        }
    }

    pub(super) fn look(&self) -> RefusedPackets {
        self.kept().clone()
    }

    pub(super) fn counts(&self) -> RefusedCounts {
        self.kept().counts
    }

    fn kept(&self) -> MutexGuard<'_, RefusedPackets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(packet: &RefusedPacket) -> usize {
    packet.packet.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(messages: u64, bytes: usize) -> RefusedPacket {
        RefusedPacket {
            unix_ms: 0,
            analyzer: "a".into(),
            status: 400,
            messages,
            packet: vec![b'x'; bytes],
        }
    }

    #[test]
    fn the_newest_are_kept_as_far_as_they_fit() {
        let memory = RefusedMemory::new(3 * (100 + ENTRY_BYTES));
        for messages in 1..=5 {
            memory.push(packet(messages, 100));
        }
        let kept = memory.look();
        let messages: Vec<u64> = kept.packets.iter().map(|packet| packet.messages).collect();
        let counts = kept.counts;
        assert_eq!((messages, counts.bytes), (vec![3, 4, 5], counts.bytes_max));
        assert_eq!((counts.packets, counts.messages), (3, 12));
        assert_eq!((counts.forgotten, counts.forgotten_messages), (2, 3));
        memory.push(packet(7, 100_000));
        let kept = memory.look();
        assert!(kept.packets.is_empty(), "nothing so large");
        let counts = memory.counts();
        assert_eq!((counts.packets, counts.messages, counts.bytes), (0, 0, 0));
        assert_eq!((counts.forgotten, counts.forgotten_messages), (6, 22));
    }

    #[test]
    fn nothing_is_kept_without_memory() {
        let memory = RefusedMemory::new(0);
        memory.push(packet(2, 0));
        let kept = memory.look();
        assert_eq!((kept.packets.len(), kept.counts.forgotten_messages), (0, 2));
    }
}
