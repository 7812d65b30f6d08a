//! The acked emitter link, as far as a load needs it: HELLO, headers of batches, and ACKs.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use weir::protocol::native::{
    EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord, EMITTER_BATCH_BYTES,
    EMITTER_WELCOME_BYTES,
};

use crate::net::is_would_block;
use crate::secured::Socket;

/// What the distributor granted, and what is open.
pub struct Batches {
    batches: usize,
    bytes: usize,
    next_sequence: u64,
    /// Number of the last message of each batch that is not ACKed, and its bytes.
    open: VecDeque<(u64, usize)>,
    open_bytes: usize,
    read: Vec<u8>,
}

impl Batches {
    /// Greets on a socket that blocks.
    pub fn greet(stream: &mut Socket, session: u64) -> io::Result<Batches> {
        let mut hello = Vec::new();
        let said = EmitterHello {
            session,
            id: "weir-bench",
        };
        said.encode(&mut hello).map_err(io::Error::other)?;
        stream.write_all(&hello)?;
        let mut bytes = [0; EMITTER_WELCOME_BYTES];
        stream.read_exact(&mut bytes)?;
        let welcome = EmitterWelcome::decode(&bytes).map_err(io::Error::other)?;
        match welcome {
            Some((welcome, _)) if welcome.refused.is_none() => Ok(Batches {
                batches: welcome.window_batches as usize,
                bytes: usize::try_from(welcome.window_bytes).unwrap_or(usize::MAX),
                next_sequence: 1,
                open: VecDeque::new(),
                open_bytes: 0,
                read: Vec::new(),
            }),
            _ => Err(io::Error::other("the distributor refuses an acked link")),
        }
    }

    /// Nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Another batch may be sent, one as large as the last.
    pub fn has_room(&self) -> bool {
        let last = self.open.back().map_or(0, |(_, bytes)| *bytes);
        self.open.len() < self.batches && self.open_bytes + last <= self.bytes
    }

    /// The header of the next batch, with so many messages and bytes.
    pub fn begin(&mut self, messages: u64, bytes: usize) -> [u8; EMITTER_BATCH_BYTES] {
        let first_sequence = self.next_sequence;
        self.next_sequence += messages;
        self.open.push_back((self.next_sequence - 1, bytes));
        self.open_bytes += bytes;
        let batch = EmitterBatch {
            resent: false,
            awaited: !self.has_room(),
            count: messages as u32,   // of one write
            body_bytes: bytes as u32, // of one write
            first_sequence,
        };
        batch.encode()
    }

    /// One read, and the ACKs in it.
    pub fn read(&mut self, stream: &mut Socket) -> io::Result<()> {
        let mut bytes = [0; 256];
        let len = match stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::other("the distributor closed an acked link")),
            Ok(len) => len,
            Err(e) if is_would_block(&e) => 0,
            Err(e) => return Err(e),
        };
        self.read.extend_from_slice(&bytes[..len]);
        while let Some((word, used)) = EmitterWord::decode(&self.read).map_err(io::Error::other)? {
            self.read.drain(..used);
            let EmitterWord::Ack(sequence) = word else {
                continue;
            };
            while let Some((last, bytes)) = self.open.front().copied() {
                if last > sequence {
                    break;
                }
                self.open.pop_front();
                self.open_bytes -= bytes;
            }
        }
        Ok(())
    }
}
