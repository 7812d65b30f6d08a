//! Read buffer of a link: messages are parsed where they were read.
//!
//! ```text
//!   0        start            end            length
//!   | parsed | unread         | free         |
//! ```

use std::io::{self, Read};

/// Room for a read: large enough that a busy link costs few of them.
const READ_BYTES: usize = 256 << 10;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// More unread bytes.
    Data,
    /// Nothing within the socket's read timeout.
    Idle,
    /// End of stream.
    Closed,
}

/// Unread bytes of one link. Grows only while a single message is larger than it; the frame limit
/// bounds that.
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        }
    }
}

impl Inbox {
    /// Bytes read and not parsed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `count` unread bytes are parsed.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start);
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// One read from `stream`.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<Filled> {
        self.make_room();
        match stream.read(&mut self.bytes[self.end..]) {
            Ok(0) => Ok(Filled::Closed),
            Ok(count) => {
                self.end += count;
                Ok(Filled::Data)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(Filled::Idle),
                _ => Err(error),
            },
        }
    }

    /// Moves the unread part of a message to the front when little is free behind it.
    fn make_room(&mut self) {
        if self.start > 0 && self.bytes.len() - self.end < READ_BYTES / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_larger_than_the_buffer_arrives_whole() {
        let sent: Vec<u8> = (0..3 * READ_BYTES).map(|i| i as u8).collect();
        let mut stream = &sent[..];
        let mut inbox = Inbox::default();
        while inbox.fill(&mut stream).expect("memory") == Filled::Data {}
        assert_eq!(inbox.unread(), sent);
    }

    #[test]
    fn order_survives_any_consumption() {
        let sent: Vec<u8> = (0..2_000_000).map(|i| (i % 251) as u8).collect();
        let mut stream = &sent[..];
        let (mut inbox, mut seen, mut step) = (Inbox::default(), Vec::new(), 1usize);
        while inbox.fill(&mut stream).expect("memory") == Filled::Data {
            step = step * 7 % 200_003;
            let count = step.min(inbox.unread().len());
            seen.extend_from_slice(&inbox.unread()[..count]);
            inbox.consume(count);
        }
        seen.extend_from_slice(inbox.unread());
        assert_eq!(seen.len(), sent.len());
        assert!(seen == sent);
    }
}
