//! What an emitter keeps until it is ACKed, and what it reads of its distributor.
//!
//! ```text
//! batches, oldest first    [ un-ACKed | un-ACKed | being written | waits | waits ]
//!                            ^ ACK pops here       ^ next, at      ^ push: waits for the window
//! connection lost:  next = 0, and all that had been written goes again, marked as resent
//! ```
//!
//! Kept are at most so many bytes; then the emitter waits. What waits for the window is joined to larger batches.

use std::collections::VecDeque;
use std::io::{self, Write};
use weir_ledger::run_report::Span;
use weir_protocol::native::{
    EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord, NativeError, EMITTER_BATCH_BYTES,
};
use weir_protocol::text::Brief;

use super::connection::{push_span, whole_frames};
use crate::shapes::SeverityCounts;

/// Messages that wait are joined up to a body of so many bytes.
const JOINED_BYTES_MAX: usize = 64 * 1024;
/// Fewest bytes kept on a connection, however many connections share the memory.
const KEPT_BYTES_MIN: usize = 64 * 1024;

struct Batch {
    first: u64,
    count: u32,
    /// Header and body.
    bytes: Vec<u8>,
    /// All of it was given to some kernel.
    was_written: bool,
    /// Part of it was.
    was_begun: bool,
}

impl Batch {
    fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    fn body_bytes(&self) -> usize {
        self.bytes.len() - EMITTER_BATCH_BYTES
    }
}

/// What a distributor said.
#[derive(Debug)]
pub enum Heard {
    /// Nothing that changes the connection's life.
    Nothing,
    /// It asks to finish.
    Drain,
}

/// A stream of numbers and its messages that are not ACKed.
pub struct Unacked {
    session: u64,
    id: String,
    batches: VecDeque<Batch>,
    kept_bytes: usize,
    kept_bytes_max: usize,
    /// All up to here are ACKed.
    acked: u64,
    /// ACKed by each distributor that was met, by its instance.
    acked_by: Vec<(u64, u64)>,
    maybe_twice: Vec<Span>,
    resent: u64,
    // Of the present connection:
    /// HELLO, as far as it is not written.
    hello: Vec<u8>,
    welcome: Option<Granted>,
    read: Vec<u8>,
    /// The batch that is written next, and how much of it was.
    next: usize,
    at: usize,
    /// Its header says what it is to say on this connection; the socket may have taken nothing of it.
    is_begun: bool,
    /// Bodies that were begun and are not ACKed.
    open_bytes: usize,
}

#[derive(Clone, Copy)]
struct Granted {
    instance: u64,
    batches: usize,
    bytes: usize,
}

/// How far writing came.
pub struct Written {
    /// Messages that were written whole for the first time.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// The socket took no more.
    pub is_blocked: bool,
}

impl Unacked {
    /// A stream of the emitter `id`; `session` names it to distributors. Of one of `connections` that keep at most
    /// `kept_bytes` together.
    pub fn new(id: &str, session: u64, kept_bytes: u64, connections: u64) -> Unacked {
        let part = usize::try_from(kept_bytes / connections).unwrap_or(usize::MAX);
        Unacked {
            session,
            id: id.to_owned(),
            batches: VecDeque::new(),
            kept_bytes: 0,
            kept_bytes_max: part.max(KEPT_BYTES_MIN),
            acked: 0,
            acked_by: Vec::new(),
            maybe_twice: Vec::new(),
            resent: 0,
            hello: Vec::new(),
            welcome: None,
            read: Vec::new(),
            next: 0,
            at: 0,
            is_begun: false,
            open_bytes: 0,
        }
    }

    /// There is room for another group of messages.
    pub fn has_room(&self) -> bool {
        self.kept_bytes < self.kept_bytes_max
    }

    /// Messages up to this number are ACKed.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Messages kept.
    pub fn messages(&self) -> u64 {
        self.batches
            .iter()
            .map(|batch| u64::from(batch.count))
            .sum()
    }

    /// Messages that were written again on another connection.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Their numbers: analyzers may have got them twice.
    pub fn maybe_twice(&self) -> &[Span] {
        &self.maybe_twice
    }

    /// Which distributor ACKed how many.
    pub fn acked_by(&self) -> &[(u64, u64)] {
        &self.acked_by
    }

    /// Takes frames in, the first of which has this number.
    pub fn push(&mut self, first: u64, frames: &[u8]) {
        let count = u32::try_from(whole_frames(frames, |_| ()).messages).unwrap_or(u32::MAX);
        self.kept_bytes += frames.len();
        let waits = self.batches.len() > self.next + usize::from(self.at > 0);
        if let Some(last) = self.batches.back_mut() {
            if waits && !last.was_begun && last.body_bytes() + frames.len() <= JOINED_BYTES_MAX {
                last.count += count;
                last.bytes.extend_from_slice(frames);
                return;
            }
        }
        let mut bytes = Vec::with_capacity(EMITTER_BATCH_BYTES + frames.len());
        bytes.resize(EMITTER_BATCH_BYTES, 0);
        bytes.extend_from_slice(frames);
        self.batches.push_back(Batch {
            first,
            count,
            bytes,
            was_written: false,
            was_begun: false,
        });
    }

    /// A new connection is open: everything goes to it from the first un-ACKed message on.
    pub fn opened(&mut self) {
        self.hello.clear();
        let hello = EmitterHello {
            session: self.session,
            id: &self.id,
        };
        let said = hello.encode(&mut self.hello);
        debug_assert!(said.is_ok(), "ids are checked at the start");
        self.welcome = None;
        self.read.clear();
        (self.next, self.at, self.open_bytes) = (0, 0, 0);
        self.is_begun = false;
    }

    /// The WELCOME has not come.
    pub fn awaits_welcome(&self) -> bool {
        self.welcome.is_none()
    }

    /// The distributor keeps it from writing: there was no WELCOME yet, or messages wait for its window or for memory.
    pub fn is_held(&self) -> bool {
        let waits = self.at == 0 && self.next < self.batches.len();
        self.awaits_welcome() || waits && !self.may_begin() || !self.has_room()
    }

    /// Something waits that may be written now.
    pub fn wants_to_write(&self) -> bool {
        !self.hello.is_empty() || self.at > 0 || self.may_begin()
    }

    /// Something was written on this connection and is not ACKed.
    pub fn has_open(&self) -> bool {
        self.next > 0 || self.at > 0
    }

    /// A batch is written in part.
    pub fn is_within_batch(&self) -> bool {
        self.at > 0 || !self.hello.is_empty()
    }

    fn may_begin(&self) -> bool {
        let (Some(granted), Some(batch)) = (self.welcome, self.batches.get(self.next)) else {
            return false;
        };
        let fits = self.open_bytes + batch.body_bytes() <= granted.bytes || self.next == 0;
        self.next < granted.batches && fits
    }

    /// Writes what may be written; `begins`: new batches as well, not only the rest of one.
    ///
    /// # Errors
    /// The connection broke.
    pub fn write(
        &mut self,
        socket: &mut impl Write,
        begins: bool,
        sent: &mut SeverityCounts,
    ) -> io::Result<Written> {
        let mut written = Written {
            messages: 0,
            bytes: 0,
            is_blocked: false,
        };
        while !self.hello.is_empty() {
            let taken = write_some(socket, &self.hello)?;
            if taken == 0 {
                written.is_blocked = true;
                return Ok(written);
            }
            self.hello.drain(..taken);
        }
        while self.at > 0 || begins && (self.is_begun || self.may_begin()) {
            if !std::mem::replace(&mut self.is_begun, true) {
                self.begin();
            }
            let Some(batch) = self.batches.get_mut(self.next) else {
                break;
            };
            let taken = write_some(socket, &batch.bytes[self.at..])?;
            if taken == 0 {
                written.is_blocked = true;
                break;
            }
            self.at += taken;
            if self.at < batch.bytes.len() {
                continue;
            }
            if !std::mem::replace(&mut batch.was_written, true) {
                whole_frames(&batch.bytes[EMITTER_BATCH_BYTES..], |severity| {
                    sent.note(severity)
                });
                written.messages += u64::from(batch.count);
                written.bytes += batch.body_bytes() as u64;
            }
            self.next += 1;
            self.at = 0;
            self.is_begun = false;
        }
        Ok(written)
    }

    /// The next batch is begun: its header says what is known now.
    fn begin(&mut self) {
        let is_full = !self.has_room();
        let Some(batch) = self.batches.get_mut(self.next) else {
            return;
        };
        self.open_bytes += batch.body_bytes();
        let awaited = self.welcome.is_some_and(|granted| {
            self.next + 1 >= granted.batches || self.open_bytes >= granted.bytes
        });
        let header = EmitterBatch {
            resent: batch.was_begun,
            awaited: awaited || is_full,
            count: batch.count,
            body_bytes: u32::try_from(batch.body_bytes()).unwrap_or(u32::MAX),
            first_sequence: batch.first,
        };
        batch.bytes[..EMITTER_BATCH_BYTES].copy_from_slice(&header.encode());
        if std::mem::replace(&mut batch.was_begun, true) {
            self.resent += u64::from(batch.count);
            push_span(&mut self.maybe_twice, Span(batch.first, batch.last()));
        }
    }

    /// Takes what the distributor sent.
    ///
    /// # Errors
    /// It is no distributor, it refuses, or it ACKs what it was never sent.
    pub fn heard(&mut self, bytes: &[u8]) -> io::Result<Heard> {
        self.read.extend_from_slice(bytes);
        let mut heard = Heard::Nothing;
        let mut used = 0;
        if self.welcome.is_none() {
            let decoded = EmitterWelcome::decode(&self.read);
            let Some((welcome, bytes)) = decoded.map_err(|error| wrong(&error))? else {
                return Ok(heard);
            };
            if let Some(why) = welcome.refused {
                return Err(io::Error::other(format!("refused: {}", Brief(why))));
            }
            if welcome.window_batches == 0 {
                let why = "its WELCOME allows no batch; allowed: a window of 1 or more";
                return Err(io::Error::other(why));
            }
            used = bytes;
            self.welcome = Some(Granted {
                instance: welcome.instance,
                batches: usize::try_from(welcome.window_batches).unwrap_or(usize::MAX),
                bytes: usize::try_from(welcome.window_bytes).unwrap_or(usize::MAX),
            });
            if !self.acked_by.iter().any(|(it, _)| *it == welcome.instance) {
                self.acked_by.push((welcome.instance, 0));
            }
        }
        while let Some((word, bytes)) =
            EmitterWord::decode(&self.read[used..]).map_err(|error| wrong(&error))?
        {
            used += bytes;
            match word {
                EmitterWord::Ack(sequence) => self.take_ack(sequence)?,
                EmitterWord::Drain => heard = Heard::Drain,
            }
        }
        self.read.drain(..used);
        Ok(heard)
    }

    fn take_ack(&mut self, sequence: u64) -> io::Result<()> {
        let mut messages = 0;
        while let Some(front) = self
            .batches
            .front()
            .filter(|front| front.last() <= sequence)
        {
            if self.next == 0 {
                let last = front.last();
                let text =
                    format!("it ACKs message {sequence}, and message {last} was not sent to it");
                return Err(io::Error::other(text));
            }
            messages += u64::from(front.count);
            self.kept_bytes -= front.body_bytes();
            self.open_bytes -= front.body_bytes();
            self.acked = front.last();
            self.next -= 1;
            self.batches.pop_front();
        }
        // Nothing is ACKed by halves: who says so counts otherwise than this side.
        let front = self.batches.front();
        if let Some(front) = front.filter(|front| front.first <= sequence) {
            let (first, last) = (front.first, front.last());
            let text = format!("it ACKs message {sequence} within the batch {first} to {last}");
            return Err(io::Error::other(text));
        }
        let by = self.welcome.map(|granted| granted.instance);
        let mut known = self.acked_by.iter_mut();
        if let Some((_, sum)) = known.find(|(instance, _)| Some(*instance) == by) {
            *sum += messages;
        }
        Ok(())
    }
}

/// How much a socket took; 0: it is full.
fn write_some(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            other => return other,
        }
    }
}

fn wrong(error: &NativeError) -> io::Error {
    io::Error::other(format!(
        "what answers there is no distributor that gives ACKs (its --emitters, 8080 by default): {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::frame::encode_header;

    fn frames(count: usize) -> Vec<u8> {
        [&encode_header(3, 1)[..], b"abc"].concat().repeat(count)
    }

    fn welcome(instance: u64, batches: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let welcome = EmitterWelcome {
            refused: None,
            instance,
            window_batches: batches,
            window_bytes: 1000,
        };
        welcome.encode(&mut out);
        out
    }

    /// Takes so many bytes and no more.
    struct Socket(Vec<u8>, usize);

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1 - self.0.len());
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn write(stream: &mut Unacked, room: usize) -> (Vec<u8>, Written) {
        let mut socket = Socket(Vec::new(), room);
        let sent = &mut SeverityCounts::default();
        let written = stream
            .write(&mut socket, true, sent)
            .expect("it is not broken");
        (socket.0, written)
    }

    /// The batches on a wire: resent, first, count.
    fn batches(mut wire: &[u8]) -> Vec<(bool, u64, u32)> {
        let mut all = Vec::new();
        while let Some((header, rest)) = wire.split_first_chunk() {
            let batch = EmitterBatch::decode(header).expect("good");
            all.push((batch.resent, batch.first_sequence, batch.count));
            wire = rest.get(batch.body_bytes as usize..).unwrap_or_default();
        }
        all
    }

    fn connected(instance: u64, batches: u32) -> Unacked {
        let mut stream = Unacked::new("e1", 9, 1 << 20, 1);
        reconnect(&mut stream, instance, batches);
        stream
    }

    fn reconnect(stream: &mut Unacked, instance: u64, batches: u32) {
        stream.opened();
        let (hello, _) = write(stream, 10_000);
        assert!(EmitterHello::decode(&hello).is_ok_and(|found| found.is_ok()));
        stream
            .heard(&welcome(instance, batches))
            .expect("a WELCOME");
    }

    #[test]
    fn what_is_not_acked_goes_again_and_says_so() {
        let mut stream = connected(7, 10);
        for first in [1, 3, 5] {
            stream.push(first, &frames(2));
            let (wire, written) = write(&mut stream, 10_000);
            assert_eq!(batches(&wire), [(false, first, 2)]);
            assert_eq!((written.messages, written.bytes), (2, 16));
        }
        stream.heard(&EmitterWord::encode_ack(2)).expect("an ACK");
        stream.push(7, &frames(1));
        assert_eq!((stream.acked(), stream.messages()), (2, 5));

        reconnect(&mut stream, 8, 10);
        let (wire, written) = write(&mut stream, 10_000);
        assert_eq!(batches(&wire), [(true, 3, 2), (true, 5, 2), (false, 7, 1)]);
        assert_eq!(written.messages, 1, "the others were counted before");
        assert_eq!(
            (stream.resent(), stream.maybe_twice()),
            (4, &[Span(3, 6)][..])
        );
        stream.heard(&EmitterWord::encode_ack(7)).expect("an ACK");
        assert!(stream.batches.is_empty() && stream.kept_bytes == 0 && stream.open_bytes == 0);
        assert_eq!(stream.acked_by(), [(7, 2), (8, 5)]);
    }

    #[test]
    fn a_batch_cut_in_two_is_sent_again_whole() {
        let mut stream = connected(7, 10);
        stream.push(1, &frames(2));
        let (wire, written) = write(&mut stream, 30);
        assert!(wire.len() == 30 && written.is_blocked && stream.is_within_batch());
        reconnect(&mut stream, 7, 10);
        let (wire, written) = write(&mut stream, 10_000);
        assert_eq!((batches(&wire), written.messages), (vec![(true, 1, 2)], 2));
    }

    #[test]
    fn a_socket_that_is_full_between_two_batches_changes_nothing() {
        let mut stream = connected(7, 10);
        stream.push(1, &frames(2));
        let first = write(&mut stream, EMITTER_BATCH_BYTES + 16).0;
        assert_eq!(batches(&first), [(false, 1, 2)]);
        stream.push(3, &frames(2));
        for _ in 0..3 {
            assert!(write(&mut stream, 0).1.is_blocked);
        }
        let (wire, _) = write(&mut stream, 10_000);
        assert_eq!(batches(&wire), [(false, 3, 2)]);
        assert_eq!((stream.resent(), stream.open_bytes), (0, 32));
    }

    #[test]
    fn no_more_is_sent_than_the_window_and_what_waits_is_joined() {
        let mut stream = connected(7, 2);
        for first in 1..=5 {
            stream.push(first, &frames(1));
            write(&mut stream, 10_000);
        }
        assert_eq!((stream.next, stream.batches.len()), (2, 3));
        stream.heard(&EmitterWord::encode_ack(1)).expect("an ACK");
        let (wire, _) = write(&mut stream, 10_000);
        assert_eq!(batches(&wire), [(false, 3, 3)], "joined");
        stream.heard(&EmitterWord::encode_ack(5)).expect("an ACK");
        let large = frames(1000 / 8);
        stream.push(6, &large);
        stream.push(6 + large.len() as u64 / 8, &frames(1));
        let (wire, _) = write(&mut stream, 100_000);
        assert_eq!(batches(&wire).len(), 1, "its bytes fill the window");
    }

    #[test]
    fn nothing_is_sent_before_the_welcome_and_a_refusal_is_an_error() {
        let mut stream = Unacked::new("e1", 9, 1 << 20, 1);
        stream.push(1, &frames(1));
        stream.opened();
        let (wire, _) = write(&mut stream, 10_000);
        let hello = EmitterHello::decode(&wire);
        assert!(hello.is_ok_and(|found| found.is_ok_and(|(_, used)| used == wire.len())));
        let mut refusal = Vec::new();
        let refused = EmitterWelcome {
            refused: Some("full"),
            instance: 7,
            window_batches: 0,
            window_bytes: 0,
        };
        refused.encode(&mut refusal);
        assert!(stream.heard(&refusal[..10]).is_ok());
        let error = stream.heard(&refusal[10..]).expect_err("refused");
        assert_eq!(error.to_string(), "refused: full");
        stream.opened();
        let error = stream.heard(&welcome(7, 0));
        let error = error.expect_err("it would wait for ever").to_string();
        assert!(error.contains("allows no batch"), "{error}");
    }

    #[test]
    fn an_ack_of_what_was_not_sent_is_an_error() {
        let mut stream = connected(7, 1);
        stream.push(1, &frames(1));
        write(&mut stream, 10_000);
        stream.push(2, &frames(1));
        assert!(stream.heard(&EmitterWord::encode_ack(2)).is_err());
    }

    #[test]
    fn an_ack_within_a_batch_is_an_error_and_one_that_repeats_is_not() {
        let mut stream = connected(7, 10);
        for (first, count) in [(1, 2), (3, 3)] {
            stream.push(first, &frames(count));
            write(&mut stream, 10_000);
        }
        for sequence in [2, 1, 0, 2] {
            let heard = stream.heard(&EmitterWord::encode_ack(sequence));
            assert!(heard.is_ok(), "{sequence}: {heard:?}");
        }
        let error = stream.heard(&EmitterWord::encode_ack(4));
        let error = error.expect_err("not by halves").to_string();
        assert_eq!(error, "it ACKs message 4 within the batch 3 to 5");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut stream = connected(7, 1);
        stream.kept_bytes_max = 100;
        let mut first = 1;
        while stream.has_room() {
            stream.push(first, &frames(1));
            first += 1;
        }
        assert_eq!(first, 14, "100 bytes, and the group that goes beyond");
    }
}
