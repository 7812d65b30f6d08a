//! A simulated emitter that waits for ACKs: keeps what has none, and sends it again on its next connection.

use std::collections::VecDeque;

use super::emitter::Stream;
use super::net::{ConnId, Net, Peer, Port, Read};
use super::oracle::{MessageId, Oracle};
use super::plan::{AckedPlan, Noise, MS};
use super::random::Random;
use weir_protocol::native::{EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord};

/// What it was granted, and what it has open.
#[derive(Default)]
struct Window {
    batches: usize,
    bytes: usize,
    /// Number of the last message of each, and bytes.
    open: VecDeque<(usize, usize)>,
}

impl Window {
    fn open_bytes(&self) -> usize {
        self.open.iter().map(|(_, bytes)| bytes).sum()
    }
}

pub(super) struct AckedEmitter {
    index: usize,
    plan: AckedPlan,
    random: Random,
    session: u64,
    /// Present and past connections; the present one is the last.
    pub(super) streams: Vec<Stream>,
    connected: bool,
    retry_ns: u64,
    /// All that were made, in the order of their numbers.
    messages: Vec<MessageId>,
    /// So many of them are ACKed.
    acked: usize,
    /// So many were begun to be sent, on any connection.
    begun: usize,
    // Of the present connection:
    /// So many were begun to be sent.
    next: usize,
    window: Option<Window>,
    wire: Vec<u8>,
    at: usize,
    /// Where in `wire` messages end.
    ends: VecDeque<(usize, MessageId)>,
    read: Vec<u8>,
    leaving: bool,
    /// All is ACKed.
    pub(super) done: bool,
}

impl AckedEmitter {
    pub(super) fn new(index: usize, plan: AckedPlan, seed: u64) -> AckedEmitter {
        AckedEmitter {
            index,
            plan,
            random: Random::stream(seed, 3000 + index as u64),
            session: 1 + index as u64,
            streams: Vec::new(),
            connected: false,
            retry_ns: 0,
            messages: Vec::new(),
            acked: 0,
            begun: 0,
            next: 0,
            window: None,
            wire: Vec::new(),
            at: 0,
            ends: VecDeque::new(),
            read: Vec::new(),
            leaving: false,
            done: false,
        }
    }

    /// Does what can be done now; when it wants to be called again.
    ///
    /// # Errors
    /// It was told what is not so.
    pub(super) fn step(
        &mut self,
        net: &mut Net,
        oracle: &mut Oracle,
        noise: &Noise,
        stopping: bool,
    ) -> Result<Option<u64>, String> {
        if self.done {
            return Ok(None);
        }
        if !self.connected {
            if net.now_ns < self.retry_ns {
                return Ok(Some(self.retry_ns));
            }
            if !self.connect(net, noise) {
                self.done = stopping;
                self.retry_ns = net.now_ns + self.random.range(5 * MS, 50 * MS);
                return Ok(Some(self.retry_ns));
            }
        }
        let Some(conn) = self.streams.last().map(|stream| stream.conn) else {
            return Ok(None);
        };
        match net.peer_read(conn, self.plan.read_max) {
            Read::Broken(_) => self.disconnected(net),
            Read::End => {
                net.peer_close(conn, false);
                self.disconnected(net);
            }
            Read::Data(bytes) => {
                self.read.extend(bytes);
                self.heard(oracle)?;
            }
            Read::Nothing => {}
        }
        if !self.connected {
            return Ok(Some(self.retry_ns));
        }
        let is_all_acked = self.acked == self.plan.messages as usize;
        let nothing_is_open = self
            .window
            .as_ref()
            .is_some_and(|window| window.open.is_empty());
        if is_all_acked || self.leaving && nothing_is_open && self.wire.is_empty() {
            net.peer_close(conn, false);
            self.disconnected(net);
            self.done = is_all_acked;
            return Ok((!self.done).then_some(self.retry_ns));
        }
        self.write(net, oracle, conn);
        let pause = self.random.range(1_000, self.plan.pause_ns.max(2_000));
        Ok(Some(net.now_ns + pause))
    }

    fn connect(&mut self, net: &mut Net, noise: &Noise) -> bool {
        let delay = self.random.range(1_000, noise.delay_ns);
        let shard = self.random.index(64);
        let peer = Peer::Emitter(usize::MAX - self.index);
        let Some(conn) = net.connect(peer, Port::Emitters, shard, delay, noise.socket_bytes) else {
            return false;
        };
        self.streams.push(Stream {
            conn,
            messages: Vec::new(),
            written: 0,
        });
        self.connected = true;
        self.leaving = false;
        (self.next, self.window, self.at) = (self.acked, None, 0);
        self.ends.clear();
        self.read.clear();
        self.wire.clear();
        let hello = EmitterHello {
            session: self.session,
            id: "acked",
        };
        // An id of a few letters is always taken.
        hello.encode(&mut self.wire).is_ok()
    }

    fn disconnected(&mut self, net: &Net) {
        self.connected = false;
        self.retry_ns = net.now_ns + self.random.range(MS, 30 * MS);
    }

    fn heard(&mut self, oracle: &Oracle) -> Result<(), String> {
        if self.window.is_none() {
            let welcome = EmitterWelcome::decode(&self.read).map_err(|error| error.to_string())?;
            let Some((welcome, used)) = welcome else {
                return Ok(());
            };
            if let Some(why) = welcome.refused {
                return Err(format!("it was refused: {why}"));
            }
            self.window = Some(Window {
                batches: welcome.window_batches as usize,
                bytes: welcome.window_bytes as usize,
                open: VecDeque::new(),
            });
            self.read.drain(..used);
        }
        while let Some((word, used)) =
            EmitterWord::decode(&self.read).map_err(|error| error.to_string())?
        {
            self.read.drain(..used);
            match word {
                EmitterWord::Drain => self.leaving = self.plan.polite,
                EmitterWord::Ack(sequence) => self.take_ack(sequence as usize, oracle)?,
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, sequence: usize, oracle: &Oracle) -> Result<(), String> {
        let Some(window) = &mut self.window else {
            return Ok(());
        };
        if sequence > self.next || !window.open.iter().any(|(last, _)| *last == sequence) {
            return Err(format!(
                "an ACK of {sequence}, which ends no batch that is open"
            ));
        }
        window.open.retain(|(last, _)| *last > sequence);
        for id in &self.messages[self.acked..sequence] {
            oracle.check_told(*id)?;
        }
        self.acked = sequence;
        Ok(())
    }

    fn write(&mut self, net: &mut Net, oracle: &mut Oracle, conn: ConnId) {
        let mut budget = self.random.range(1, self.plan.write_max as u64 + 1) as usize;
        while budget > 0 {
            if self.at == self.wire.len() && !self.begin_batch(oracle) {
                return;
            }
            let len = budget.min(self.wire.len() - self.at);
            let written = net.peer_write(conn, &self.wire[self.at..self.at + len]);
            let Some(stream) = self.streams.last_mut() else {
                return;
            };
            let start = stream.written - self.at as u64;
            self.at += written;
            stream.written += written as u64;
            budget -= len;
            while let Some((end, id)) = self
                .ends
                .front()
                .copied()
                .filter(|(end, _)| *end <= self.at)
            {
                stream.messages.push((start + end as u64, id));
                self.ends.pop_front();
            }
            if written < len {
                return;
            }
        }
    }

    /// Puts the next batch on the wire, as far as there is one and the window has room.
    fn begin_batch(&mut self, oracle: &mut Oracle) -> bool {
        self.wire.clear();
        self.at = 0;
        let all = self.plan.messages as usize;
        let Some(window) = &mut self.window else {
            return false;
        };
        if self.leaving || self.next == all || window.open.len() >= window.batches {
            return false;
        }
        let resent = self.next < self.begun;
        let most = if resent { self.begun } else { all };
        let count = self.random.range(1, self.plan.batch_max as u64 + 1) as usize;
        let last = (self.next + count).min(most);
        let mut body = Vec::new();
        let mut ends = Vec::new();
        for number in self.next..last {
            if number == self.messages.len() {
                let largest = u64::from(self.plan.payload_max).max(4);
                let payload = self.random.range(4, largest + 1);
                self.messages.push(oracle.create(payload as u32).0); // at most a frame
            }
            let id = self.messages[number];
            body.extend(oracle.frame(id));
            ends.push((body.len(), id));
        }
        if window.open_bytes() + body.len() > window.bytes && !window.open.is_empty() {
            return false;
        }
        let header = EmitterBatch {
            resent,
            awaited: self.random.chance(self.plan.awaited),
            count: (last - self.next) as u32, // a few
            body_bytes: body.len() as u32,    // a few frames
            first_sequence: self.next as u64 + 1,
        };
        let header = header.encode();
        let ends = ends.into_iter().map(|(end, id)| (header.len() + end, id));
        self.ends.extend(ends);
        self.wire = [&header[..], &body].concat();
        window.open.push_back((last, body.len()));
        self.next = last;
        self.begun = self.begun.max(last);
        true
    }

    /// Its connection is lost.
    pub(super) fn cut(&mut self, net: &mut Net, reset: bool) {
        let conn = self.streams.last().map(|stream| stream.conn);
        if let Some(conn) = conn.filter(|_| self.connected) {
            net.peer_close(conn, reset);
            self.disconnected(net);
        }
    }

    /// Faults are over: it sends at a brisk pace.
    pub(super) fn calm(&mut self) {
        self.plan.pause_ns = self.plan.pause_ns.min(500_000);
        self.plan.write_max = self.plan.write_max.max(2_000);
        self.plan.read_max = self.plan.read_max.max(64);
    }
}
