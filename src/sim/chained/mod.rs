//! Simulated senders of other protocols whose acks are chained: Forward with one chunk in flight, as Fluentd,
//! Fluent Bit and Docker have it, and Lumberjack with two windows, as Beats have it.
//!
//! What has no ack is sent again on the next connection, in the same units, Forward's under the same id. Analyzers
//! may get it twice. What was acked and is at no analyzer is a fault.

mod wire;

use std::collections::VecDeque;
use std::ops::Range;

use super::emitter::Stream;
use super::net::{ConnId, Net, Peer, Port, Read};
use super::oracle::{MessageId, Oracle};
use super::plan::{Noise, MS};
use super::random::Random;
pub(super) use wire::Mode;

/// What a sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Forward(Mode),
    /// Compressed in part.
    Lumberjack(bool),
}

/// A sender of a protocol with acks.
#[derive(Clone, Debug)]
pub(super) struct ChainedPlan {
    pub(super) speaks: Speaks,
    pub(super) messages: u32,
    /// Bytes of a message's JSON, at most; at least as many as it takes.
    pub(super) json_max: u32,
    /// Most messages of a unit.
    pub(super) unit_max: u32,
    /// Units in flight.
    pub(super) window: usize,
    /// It gives a connection up that brings no ack for so long; 0: never.
    pub(super) deadline_ms: u64,
    /// Time between writes, at most.
    pub(super) pause_ns: u64,
    pub(super) write_max: usize,
    pub(super) read_max: usize,
}

impl ChainedPlan {
    /// Where it connects.
    pub(super) fn port(&self) -> Port {
        match self.speaks {
            Speaks::Forward(_) => Port::Forward,
            Speaks::Lumberjack(_) => Port::Lumberjack,
        }
    }

    /// Some runs have a few.
    pub(super) fn draw_some(random: &mut Random) -> Vec<ChainedPlan> {
        match random.chance(40) {
            true => (0..random.range(1, 4))
                .map(|_| ChainedPlan::draw(random))
                .collect(),
            false => Vec::new(),
        }
    }

    fn draw(random: &mut Random) -> ChainedPlan {
        let speaks = random.pick(&[
            Speaks::Forward(Mode::Message),
            Speaks::Forward(Mode::Forward),
            Speaks::Forward(Mode::Packed),
            Speaks::Forward(Mode::Gzip),
            Speaks::Lumberjack(false),
            Speaks::Lumberjack(true),
        ]);
        let is_forward = matches!(speaks, Speaks::Forward(_));
        ChainedPlan {
            speaks,
            messages: random.pick(&[3, 30, 100]),
            json_max: random.pick(&[200, 600, 2_000]),
            unit_max: match speaks {
                Speaks::Forward(Mode::Message) => 1,
                _ => random.pick(&[1, 3, 20]),
            },
            window: if is_forward { 1 } else { random.pick(&[1, 2]) },
            deadline_ms: random.pick(&[0, 0, 500, 5_000]),
            pause_ns: random.pick(&[20_000, 500_000, 10 * MS]),
            write_max: random.pick(&[1, 7, 300, 5_000, 50_000]),
            read_max: random.pick(&[1, 9, 64, 500]),
        }
    }
}

/// A unit that is not acked: indices of its messages, and how often it was begun.
#[derive(Clone, Debug)]
struct Unit {
    messages: Range<usize>,
    is_resent: bool,
}

pub(super) struct ChainedSender {
    index: usize,
    plan: ChainedPlan,
    random: Random,
    /// Present and past connections; the present one is the last.
    pub(super) streams: Vec<Stream>,
    connected: bool,
    retry_ns: u64,
    /// All that were made.
    messages: Vec<MessageId>,
    /// Of connections before.
    again: VecDeque<Unit>,
    /// Of the present one, the oldest first.
    open: VecDeque<Unit>,
    heard_ns: u64,
    wire: Vec<u8>,
    at: usize,
    /// Messages of the unit that is written.
    writes: Vec<MessageId>,
    read: Vec<u8>,
    /// Messages in units that were begun, resent ones counted again.
    pub(super) begun: u64,
    /// All is acked.
    pub(super) done: bool,
}

impl ChainedSender {
    pub(super) fn new(index: usize, plan: ChainedPlan, seed: u64) -> ChainedSender {
        ChainedSender {
            index,
            plan,
            random: Random::stream(seed, 4000 + index as u64),
            streams: Vec::new(),
            connected: false,
            retry_ns: 0,
            messages: Vec::new(),
            again: VecDeque::new(),
            open: VecDeque::new(),
            heard_ns: 0,
            wire: Vec::new(),
            at: 0,
            writes: Vec::new(),
            read: Vec::new(),
            begun: 0,
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
                self.heard_ns = net.now_ns;
                self.read.extend(bytes);
                self.hear(oracle)?;
            }
            Read::Nothing => self.look_at_the_clock(net, conn),
        }
        if !self.connected {
            return Ok(Some(self.retry_ns));
        }
        if self.is_through() {
            net.peer_close(conn, false);
            self.disconnected(net);
            self.done = true;
            return Ok(None);
        }
        self.write(net, oracle, conn);
        let pause = self.random.range(1_000, self.plan.pause_ns.max(2_000));
        Ok(Some(net.now_ns + pause))
    }

    fn is_through(&self) -> bool {
        let all_are_made = self.messages.len() >= self.plan.messages as usize;
        all_are_made && self.open.is_empty() && self.again.is_empty()
    }

    fn connect(&mut self, net: &mut Net, noise: &Noise) -> bool {
        let delay = self.random.range(1_000, noise.delay_ns);
        let shard = self.random.index(64);
        // Nobody wakes it: it looks again by itself.
        let peer = Peer::Emitter(usize::MAX / 2 - self.index);
        let Some(conn) = net.connect(peer, self.plan.port(), shard, delay, noise.socket_bytes)
        else {
            return false;
        };
        self.streams.push(Stream {
            conn,
            messages: Vec::new(),
            written: 0,
        });
        self.connected = true;
        self.heard_ns = net.now_ns;
        self.at = 0;
        self.wire.clear();
        self.writes.clear();
        self.read.clear();
        true
    }

    fn disconnected(&mut self, net: &Net) {
        self.connected = false;
        self.retry_ns = net.now_ns + self.random.range(MS, 30 * MS);
        let open = std::mem::take(&mut self.open).into_iter();
        let open = open.map(|unit| Unit {
            is_resent: true,
            ..unit
        });
        let before = std::mem::take(&mut self.again);
        self.again = open.chain(before).collect();
    }

    fn look_at_the_clock(&mut self, net: &mut Net, conn: ConnId) {
        let deadline_ns = self.plan.deadline_ms * MS;
        let is_late = net.now_ns.saturating_sub(self.heard_ns) > deadline_ns;
        if deadline_ns > 0 && is_late && !self.open.is_empty() {
            net.peer_close(conn, false);
            self.disconnected(net);
        }
    }

    fn hear(&mut self, oracle: &Oracle) -> Result<(), String> {
        match self.plan.speaks {
            Speaks::Forward(_) => {
                while let Some(id) = wire::take_ack(&mut self.read)? {
                    let unit = self.open.front();
                    let unit =
                        unit.ok_or_else(|| format!("an ack of {id}, and no chunk is open"))?;
                    let own = self.chunk_id(unit);
                    if id != own {
                        return Err(format!("an ack of {id}, and {own} is open"));
                    }
                    let count = unit.messages.len();
                    self.through(count, oracle)?;
                }
            }
            Speaks::Lumberjack(_) => {
                while let Some(number) = wire::take_sequence(&mut self.read)? {
                    let count = self.open.front().map_or(0, |unit| unit.messages.len());
                    if number > count {
                        return Err(format!("an ACK of {number} in a window of {count}"));
                    }
                    self.through(number, oracle)?;
                }
            }
        }
        Ok(())
    }

    /// So many messages of the oldest unit are acked.
    fn through(&mut self, count: usize, oracle: &Oracle) -> Result<(), String> {
        let Some(unit) = self.open.front() else {
            return Ok(());
        };
        let first = unit.messages.start;
        for id in &self.messages[first..first + count] {
            oracle.check_told(*id)?;
        }
        if count == unit.messages.len() {
            self.open.pop_front();
        }
        Ok(())
    }

    /// The same for the same messages.
    fn chunk_id(&self, unit: &Unit) -> String {
        format!("s{}-{}", self.index, unit.messages.start)
    }

    fn write(&mut self, net: &mut Net, oracle: &mut Oracle, conn: ConnId) {
        let mut budget = self.random.range(1, self.plan.write_max as u64 + 1) as usize;
        while budget > 0 {
            if self.at == self.wire.len() && !self.begin_unit(oracle) {
                return;
            }
            let len = budget.min(self.wire.len() - self.at);
            let written = net.peer_write(conn, &self.wire[self.at..self.at + len]);
            let Some(stream) = self.streams.last_mut() else {
                return;
            };
            self.at += written;
            stream.written += written as u64;
            budget -= len;
            if self.at == self.wire.len() {
                // A unit is taken in whole, or perhaps in part.
                let end = stream.written;
                let whole = self.writes.drain(..).map(|id| (end, id));
                stream.messages.extend(whole);
                self.heard_ns = net.now_ns;
            }
            if written < len {
                return;
            }
        }
    }

    /// Puts the next unit on the wire, as far as there is one and its window has room.
    fn begin_unit(&mut self, oracle: &mut Oracle) -> bool {
        self.wire.clear();
        self.at = 0;
        if self.open.len() >= self.plan.window {
            return false;
        }
        let unit = match self.again.pop_front() {
            Some(unit) => unit,
            None => {
                let begin = self.messages.len();
                let left = (self.plan.messages as usize).saturating_sub(begin);
                let count = self.random.range(1, u64::from(self.plan.unit_max) + 1) as usize;
                for _ in 0..count.min(left) {
                    let bytes = self.random.range(0, u64::from(self.plan.json_max)) as u32;
                    self.messages.push(oracle.create_json(self.index, bytes));
                }
                Unit {
                    messages: begin..self.messages.len(),
                    is_resent: false,
                }
            }
        };
        if unit.messages.is_empty() {
            return false;
        }
        let ids = &self.messages[unit.messages.clone()];
        if unit.is_resent {
            ids.iter().for_each(|id| oracle.resend(*id));
        }
        self.wire = match self.plan.speaks {
            Speaks::Forward(mode) => {
                let records: Vec<_> = ids.iter().map(|id| oracle.fields(*id)).collect();
                wire::chunk(mode, &records, &self.chunk_id(&unit))
            }
            Speaks::Lumberjack(packed) => {
                let events: Vec<_> = ids.iter().map(|id| oracle.json(*id)).collect();
                wire::window(&events, packed)
            }
        };
        self.begun += ids.len() as u64; // of memory
        self.writes = ids.to_vec();
        self.open.push_back(unit);
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

    /// Faults are over: it sends at a brisk pace, and waits.
    pub(super) fn calm(&mut self) {
        self.plan.pause_ns = self.plan.pause_ns.min(500_000);
        self.plan.write_max = self.plan.write_max.max(2_000);
        self.plan.read_max = self.plan.read_max.max(64);
        self.plan.deadline_ms = 0;
    }
}
