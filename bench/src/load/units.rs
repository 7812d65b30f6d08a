//! Protocols of others that ack units, as far as a load needs them: what stands around a unit's messages, how many
//! units may be open, and the answers.
//!
//! ```text
//! Forward      chunk head, entries, chunk id       one chunk open, as Fluentd, Fluent Bit and Docker have
//! Lumberjack   window head, events                 two windows open, as Beats have
//! RELP         a head before each message          128 messages open, as librelp has
//! ```

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use weir_testkit::inputs::{forward, lumberjack, relp};

use super::compose::Format;
use crate::net::is_would_block;
use crate::secured::Socket;

const CHUNKS: usize = 1;
const WINDOWS: usize = 2;
const RELP_MESSAGES: u64 = 128;
/// Tag of every chunk.
const TAG: &str = "bench";

/// One connection's units.
pub struct Units {
    format: Format,
    /// Chunk number or last RELP transaction, and messages that are not acked.
    open: VecDeque<(u64, u64)>,
    open_messages: u64,
    next: u64,
    read: Vec<u8>,
}

impl Units {
    /// Greets on a socket that blocks, where the protocol has a greeting.
    pub fn greet(format: Format, stream: &mut Socket) -> io::Result<Units> {
        let mut units = Units {
            format,
            open: VecDeque::new(),
            open_messages: 0,
            next: 1,
            read: Vec::new(),
        };
        if format == Format::Relp {
            stream.write_all(&relp::open())?;
            let mut bytes = [0; 512];
            while units.read_rsp()?.is_none() {
                let len = stream.read(&mut bytes)?;
                if len == 0 {
                    return Err(io::Error::other(
                        "RELP: closed instead of an answer to open",
                    ));
                }
                units.read.extend_from_slice(&bytes[..len]);
            }
        }
        Ok(units)
    }

    /// Nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Another unit may be sent, one as large as the last.
    pub fn has_room(&self) -> bool {
        let last = self.open.back().map_or(0, |(_, messages)| *messages);
        match self.format {
            Format::Forward => self.open.len() < CHUNKS,
            Format::Lumberjack => self.open.len() < WINDOWS,
            _ => self.open_messages + last <= RELP_MESSAGES,
        }
    }

    /// What stands before and behind a unit's messages. RELP has a head for each: all of it stands before, and the
    /// messages themselves are not written any more.
    pub fn wrap(&mut self, messages: u64, body: &[u8], around: &mut Around) {
        around.head.clear();
        around.tail.clear();
        around.is_instead = false;
        match self.format {
            Format::Forward => {
                forward::put_chunk_begin(&mut around.head, TAG, body.len());
                let id = chunk_id(self.next);
                // Of one write.
                forward::put_chunk_end(&mut around.tail, messages as u32, Some(&id));
                self.open.push_back((self.next, messages));
                self.next += 1;
            }
            Format::Lumberjack => {
                lumberjack::put_window(&mut around.head, messages as u32);
                self.open.push_back((0, messages));
            }
            _ => {
                around.is_instead = true;
                let lines = body.strip_suffix(b"\n").unwrap_or(body);
                for line in lines.split(|byte| *byte == b'\n') {
                    // At most 9 digits.
                    self.next = u64::from(relp::next(self.next as u32));
                    relp::put_frame(&mut around.head, self.next as u32, "syslog", line);
                }
                self.open.push_back((self.next, messages));
            }
        }
        self.open_messages += messages;
    }

    /// One read, and the answers in it.
    pub fn read(&mut self, stream: &mut Socket) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let len = match stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::other(format!("{:?}: closed", self.format))),
            Ok(len) => len,
            Err(e) if is_would_block(&e) => 0,
            Err(e) => return Err(e),
        };
        self.read.extend_from_slice(&bytes[..len]);
        while let Some((key, messages)) = self.next_answer()? {
            if messages == 0 {
                continue;
            }
            let Some((open, left)) = self.open.front_mut() else {
                return Err(io::Error::other("an answer without a unit"));
            };
            if key != 0 && key != *open {
                let what = format!("an ack of chunk {key}, and {open} is the oldest");
                return Err(io::Error::other(what));
            }
            *left = left.saturating_sub(messages);
            let is_through = *left == 0;
            self.open_messages -= messages.min(self.open_messages);
            if is_through {
                self.open.pop_front();
            }
        }
        Ok(())
    }

    /// The next answer: chunk, if it names one, and messages that are acked.
    fn next_answer(&mut self) -> io::Result<Option<(u64, u64)>> {
        let front = self.open.front().map_or(0, |(_, messages)| *messages);
        let answer = match self.format {
            Format::Forward => {
                let ack = forward::read_ack(&self.read).map_err(io::Error::other)?;
                ack.map(|(id, used)| (id.parse().unwrap_or(u64::MAX), front, used))
            }
            Format::Lumberjack => {
                let ack = lumberjack::read_ack(&self.read).map_err(io::Error::other)?;
                // Part of a window is acked again with its whole.
                let whole = |number| if u64::from(number) == front { front } else { 0 };
                ack.map(|number| (0, whole(number), lumberjack::ACK_BYTES))
            }
            _ => return Ok(self.read_rsp()?.map(|()| (0, 1))),
        };
        Ok(answer.map(|(key, messages, used)| {
            self.read.drain(..used);
            (key, messages)
        }))
    }

    fn read_rsp(&mut self) -> io::Result<Option<()>> {
        let said = relp::read(&self.read).map_err(io::Error::other)?;
        let Some(said) = said else {
            return Ok(None);
        };
        if said.command != "rsp" || !said.data.starts_with("200") {
            return Err(io::Error::other(format!("RELP: {said:?}")));
        }
        let used = said.used;
        self.read.drain(..used);
        Ok(Some(()))
    }
}

/// As long as the ids of real clients.
fn chunk_id(number: u64) -> String {
    format!("{number:024}")
}

/// What is written around composed messages.
#[derive(Default)]
pub struct Around {
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// The head has the messages in it.
    pub is_instead: bool,
}
