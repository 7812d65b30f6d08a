//! A link's numbers: sends of several shards, ACKs in any order and form, credits, the stall rule;
//! near the places where the wire's numbers wrap as well as at the start.
//!
//! Input: u8 dialect, u8 how far the link has come (in steps of 2^28 messages), u8 how much less,
//! operations.

use std::collections::VecDeque;

use weir::engine::{Link, Stall};
use weir::sink::{encode_ack, AckStep, Control, Dialect, Sink, UNACKED_MESSAGES_MAX};

use super::control::DIALECTS;
use super::input::Input;

const TIMEOUT_NS: u64 = 30_000_000_000;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let dialect = input.pick(&DIALECTS);
    let mut bench = Bench::new(dialect);
    for _ in 0..input.below(41) {
        bench.jump(1 << 28);
    }
    bench.jump((1 << 28) - u64::from(input.u8()));
    while !input.is_empty() {
        bench.step(&mut input);
    }
}

/// The link, and the same in plain words.
struct Bench {
    dialect: Dialect,
    link: Link,
    now_ns: u64,
    /// Shard and number of messages of each send, those first that have not been credited.
    runs: VecDeque<(u16, u64)>,
    sent: u64,
    taken: u64,
    acked: u64,
    credited: u64,
    half_sent: bool,
    largest_step: u64,
    /// When an ACK advanced last, or something was sent while nothing was open.
    progress_ns: u64,
    /// Since when more is open than the client's habit explains.
    suspect_ns: Option<u64>,
    /// Since when every poll of the stall rule found it so.
    unread_after_ns: u64,
    full_after_ns: u64,
}

impl Bench {
    fn new(dialect: Dialect) -> Bench {
        Bench {
            dialect,
            link: Link::new(dialect.into(), 0),
            now_ns: 0,
            runs: VecDeque::new(),
            sent: 0,
            taken: 0,
            acked: 0,
            credited: 0,
            half_sent: false,
            largest_step: 0,
            progress_ns: 0,
            suspect_ns: None,
            unread_after_ns: 0,
            full_after_ns: 0,
        }
    }

    /// So many messages are sent and ACKed at once.
    fn jump(&mut self, messages: u64) {
        self.submit(0, messages);
        self.complete();
        self.ack_meant(self.sent);
        self.credit();
    }

    fn step(&mut self, input: &mut Input) {
        match input.below(8) {
            0 => {
                let shard = input.u16() % 4;
                let messages = input.pick(&[1, 0, 2, 10, 70, 1030, 1 << 28]);
                self.submit(shard, messages);
            }
            1 => self.complete(),
            2 => self.ack_meant(self.acked + 1 + u64::from(input.u16())),
            3 => {
                let back = self.acked.saturating_sub(u64::from(input.u16()));
                self.ack_meant(back);
            }
            4 => self.ack_raw(input.u64()),
            5 => self.credit(),
            6 => self.now_ns += u64::from(input.u8()) * 1_000_000_000,
            _ => {
                let flags = input.u8();
                self.poll(flags & 1 != 0, flags & 2 != 0);
            }
        }
        assert_eq!(self.link.unacked(), self.sent - self.acked);
        assert_eq!(self.link.sent(), self.sent);
        assert!(self.credited <= self.acked && self.acked <= self.sent);
    }

    fn submit(&mut self, shard: u16, messages: u64) {
        if self.sent - self.acked + messages >= UNACKED_MESSAGES_MAX {
            return;
        }
        self.link.submitted(shard, messages, self.now_ns);
        if self.sent == self.acked {
            self.progress_ns = self.now_ns;
        }
        self.half_sent = messages == 0;
        if messages > 0 {
            self.sent += messages;
            self.runs.push_back((shard, messages));
            self.suspect();
        }
    }

    fn complete(&mut self) {
        self.link.completed();
        self.taken = self.sent;
    }

    /// An ACK as an analyzer of this dialect writes it.
    fn ack_meant(&mut self, meant: u64) {
        let word = encode_ack(self.dialect, meant);
        let mut bytes = word.as_bytes();
        let raw = match self.link.decoder().next(&mut bytes) {
            Some(Ok(Control::Ack(raw))) => raw,
            other => panic!("{other:?} for an ACK"),
        };
        if meant > self.acked && meant <= self.sent {
            assert_eq!(self.ack(raw), Ok(true), "{meant} of {}", self.sent);
            assert_eq!(self.acked, meant);
        } else {
            let _ = self.ack(raw);
        }
    }

    fn ack_raw(&mut self, number: u64) {
        let raw = match self.dialect {
            Dialect::Typed => number & 0xFFFF_FFFF,
            Dialect::Compact => number & 0x7FFF_FFFF,
            // As it is, and near what makes sense.
            Dialect::Native => {
                [number, self.acked.wrapping_add(number >> 48)][(number & 1) as usize]
            }
        };
        let _ = self.ack(raw);
    }

    /// Gives the link a number, and checks what it makes of it.
    fn ack(&mut self, raw: u64) -> Result<bool, ()> {
        let meaning = meaning(self.dialect, raw, self.acked, self.sent);
        let numbers = Sink::from(self.dialect).facts().acks.numbers();
        let resolved = numbers.resolve(raw, self.acked, self.sent);
        let resolved = resolved.map_err(|_| ());
        assert_eq!(
            resolved, meaning,
            "{} {raw}: {} of {}",
            self.dialect, self.acked, self.sent
        );
        let found = self.link.ack(raw, self.now_ns).map_err(|_| ());
        assert_eq!(found, meaning.map(|step| step != AckStep::Stale));
        if let Ok(AckStep::Advance(sequence)) = meaning {
            self.largest_step = self.largest_step.max(sequence - self.acked);
            self.acked = sequence;
            self.progress_ns = self.now_ns;
            self.suspect_ns = None;
            self.suspect();
        }
        found
    }

    fn credit(&mut self) {
        while let Some((shard, messages)) = self.link.next_credit() {
            assert!(messages > 0);
            let mut left = messages;
            while left > 0 {
                let run = self.runs.front_mut().expect("credited more than was sent");
                assert_eq!(
                    run.0, shard,
                    "a credit goes to the shard whose messages are next"
                );
                let part = run.1.min(left);
                run.1 -= part;
                left -= part;
                if run.1 == 0 {
                    self.runs.pop_front();
                }
            }
            self.credited += messages;
        }
        assert_eq!(
            self.credited,
            self.acked.min(self.taken),
            "all that may be credited"
        );
    }

    fn suspect(&mut self) {
        let habit = match (self.dialect, self.largest_step) {
            (Dialect::Native, _) => 0,
            (_, 0) => 1024,
            (_, step) => (2 * step).max(64),
        };
        if self.sent - self.acked > habit {
            self.suspect_ns = self.suspect_ns.or(Some(self.now_ns));
        }
    }

    /// Section 6 of the document.
    fn poll(&mut self, unread: bool, full: bool) {
        if !unread {
            self.unread_after_ns = self.now_ns;
        }
        if !full {
            self.full_after_ns = self.now_ns;
        }
        let now_ns = self.now_ns;
        let long = |since: u64| now_ns - since >= TIMEOUT_NS;
        let expected = if self.sent == self.acked && !self.half_sent || !long(self.progress_ns) {
            None
        } else if long(self.unread_after_ns) {
            Some(Stall::Unread)
        } else if long(self.full_after_ns) {
            Some(Stall::WindowFull)
        } else if self.suspect_ns.is_some_and(long) {
            Some(Stall::Unacked)
        } else {
            None
        };
        assert_eq!(self.link.stall(now_ns, TIMEOUT_NS, unread, full), expected);
    }
}

/// Of all the sequences that a wire number can stand for, the one that it does.
fn meaning(dialect: Dialect, raw: u64, acked: u64, sent: u64) -> Result<AckStep, ()> {
    let turn: u64 = match dialect {
        Dialect::Compact => 1 << 31,
        Dialect::Typed => 1 << 32,
        Dialect::Native if raw > sent => return Err(()),
        Dialect::Native if raw <= acked => return Ok(AckStep::Stale),
        Dialect::Native => return Ok(AckStep::Advance(raw)),
    };
    // Candidates a turn apart: around what is ACKed there are three at most.
    let first = acked.saturating_sub(turn) / turn * turn + raw;
    let candidates = [first, first + turn, first + 2 * turn];
    let new = candidates
        .iter()
        .find(|number| (acked + 1..=sent).contains(number));
    if let Some(number) = new {
        return Ok(AckStep::Advance(*number));
    }
    let near = |number: &&u64| **number <= acked && acked - **number < turn / 2;
    match candidates.iter().find(near) {
        Some(_) => Ok(AckStep::Stale),
        None => Err(()),
    }
}
