//! A simulated emitter: writes its messages in pieces, breaks off, starts again.

use super::net::{ConnId, Net, Peer, Port, Read};
use super::oracle::{MessageId, Oracle};
use super::plan::{EmitterPlan, Noise, MS};
use super::random::Random;

/// Bytes that start no frame: its length would be too small.
const GARBAGE: [u8; 6] = [0, 0, 0, 2, 9, 9];

/// Paced emitters look this often at what is due.
const PACE_NS: u64 = MS / 2;

/// What an emitter wrote on one connection.
pub(super) struct Stream {
    pub(super) conn: ConnId,
    /// Where each whole message ends, in bytes of the stream.
    pub(super) messages: Vec<(u64, MessageId)>,
    pub(super) written: u64,
}

pub(super) struct Emitter {
    index: usize,
    plan: EmitterPlan,
    random: Random,
    /// Present and past connections; the present one is the last.
    pub(super) streams: Vec<Stream>,
    connected: bool,
    retry_ns: u64,
    /// The message being written, and how far.
    frame: Vec<u8>,
    at: usize,
    current: Option<MessageId>,
    sent: u32,
    /// When a paced emitter wrote first.
    begun_ns: Option<u64>,
    garbage_sent: bool,
    /// Finishes its message and closes.
    leaving: bool,
    /// Has nothing more to send.
    pub(super) done: bool,
}

impl Emitter {
    pub(super) fn new(index: usize, plan: EmitterPlan, seed: u64) -> Emitter {
        Emitter {
            index,
            plan,
            random: Random::stream(seed, 1000 + index as u64),
            streams: Vec::new(),
            connected: false,
            retry_ns: 0,
            frame: Vec::new(),
            at: 0,
            current: None,
            sent: 0,
            begun_ns: None,
            garbage_sent: false,
            leaving: false,
            done: false,
        }
    }

    /// Does what can be done now; when it wants to be called again.
    pub(super) fn step(
        &mut self,
        net: &mut Net,
        oracle: &mut Oracle,
        noise: &Noise,
        stopping: bool,
    ) -> Option<u64> {
        if self.done {
            return None;
        }
        if !self.connected {
            if net.now_ns < self.retry_ns {
                return Some(self.retry_ns);
            }
            if !self.connect(net, noise) {
                self.done = stopping;
                self.retry_ns = net.now_ns + self.random.range(5 * MS, 50 * MS);
                return Some(self.retry_ns);
            }
        }
        let conn = self.streams.last()?.conn;
        match net.peer_read(conn, 64) {
            Read::Broken(_) => {
                self.disconnected(net);
                return Some(self.retry_ns);
            }
            Read::End if self.garbage_sent_here() => {
                net.peer_close(conn, false);
                self.disconnected(net);
                return Some(self.retry_ns);
            }
            Read::End if self.plan.polite => self.leaving = true,
            _ => {}
        }
        if let Some(every_ns) = self.plan.every_ns {
            let begun_ns = *self.begun_ns.get_or_insert(net.now_ns);
            let due = (net.now_ns - begun_ns) / every_ns;
            let due = u32::try_from(due)
                .unwrap_or(u32::MAX)
                .min(self.plan.messages);
            while self.connected && (self.sent < due || self.sent == self.plan.messages) {
                let before = (self.sent, self.at);
                self.write(net, oracle, conn);
                if (self.sent, self.at) == before {
                    break;
                }
            }
            return Some(net.now_ns + PACE_NS.max(every_ns));
        }
        self.write(net, oracle, conn);
        if !self.connected {
            return Some(self.retry_ns);
        }
        let pause = self.random.range(1_000, self.plan.pause_ns.max(2_000));
        Some(net.now_ns + pause)
    }

    fn connect(&mut self, net: &mut Net, noise: &Noise) -> bool {
        let delay = self.random.range(1_000, noise.delay_ns);
        let shard = self.random.index(64);
        let peer = Peer::Emitter(self.index);
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
        true
    }

    /// A message that was not written whole is written again on the next connection.
    fn disconnected(&mut self, net: &Net) {
        self.connected = false;
        self.at = 0;
        if self.current.is_none() {
            self.frame.clear();
        }
        self.retry_ns = net.now_ns + self.random.range(MS, 30 * MS);
        if self.garbage_sent_here() {
            self.plan.garbage_after = None;
        }
    }

    /// The present connection has been spoilt.
    fn garbage_sent_here(&self) -> bool {
        self.garbage_sent && self.plan.garbage_after.is_some()
    }

    fn write(&mut self, net: &mut Net, oracle: &mut Oracle, conn: ConnId) {
        let mut budget = self.random.range(1, self.plan.write_max as u64 + 1) as usize;
        while budget > 0 {
            if self.at == self.frame.len() && !self.next_frame(net, oracle, conn) {
                return;
            }
            let len = budget.min(self.frame.len() - self.at);
            let written = net.peer_write(conn, &self.frame[self.at..self.at + len]);
            let Some(stream) = self.streams.last_mut() else {
                return;
            };
            stream.written += written as u64;
            self.at += written;
            budget -= len;
            if self.at == self.frame.len() {
                if let Some(id) = self.current.take() {
                    stream.messages.push((stream.written, id));
                    self.sent += 1;
                }
            }
            if written < len {
                return;
            }
        }
    }

    /// Whether there is something to write next.
    fn next_frame(&mut self, net: &mut Net, oracle: &mut Oracle, conn: ConnId) -> bool {
        if self.garbage_sent_here() {
            return false;
        }
        if self.leaving || self.sent >= self.plan.messages {
            self.done = self.sent >= self.plan.messages;
            net.peer_close(conn, false);
            self.frame.clear();
            self.disconnected(net);
            return false;
        }
        self.at = 0;
        if self.plan.garbage_after == Some(self.sent) {
            self.garbage_sent = true;
            self.frame = GARBAGE.to_vec();
            return true;
        }
        let largest = u64::from(self.plan.payload_max).max(4);
        let payload = match self.plan.every_ns {
            Some(_) => largest,
            None => self.random.range(4, largest + 1),
        };
        let (id, frame) = oracle.create(payload as u32); // at most a frame
        self.frame = frame;
        self.current = Some(id);
        true
    }

    /// The emitter's process dies, and is started again.
    pub(super) fn crash(&mut self, net: &mut Net, reset: bool) {
        if let Some(conn) = self.present() {
            net.peer_close(conn, reset);
            self.disconnected(net);
        }
    }

    /// Its host dies; another takes over. Returns the connection that is left hanging.
    pub(super) fn vanish(&mut self, net: &mut Net) -> Option<ConnId> {
        let conn = self.present()?;
        net.vanish(conn);
        self.disconnected(net);
        Some(conn)
    }

    fn present(&self) -> Option<ConnId> {
        let stream = self.streams.last()?;
        self.connected.then_some(stream.conn)
    }

    /// Faults are over: it sends at a brisk pace.
    pub(super) fn calm(&mut self) {
        self.plan.pause_ns = self.plan.pause_ns.min(500_000);
        self.plan.write_max = self.plan.write_max.max(2_000);
        if !self.garbage_sent {
            self.plan.garbage_after = None;
        }
    }
}
