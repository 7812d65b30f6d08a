//! A simulated HTTP client: POSTs packets, in pieces, ahead of their answers, waits for ACKs, breaks off.

use std::collections::VecDeque;

use super::plan::{ClientFault, ClientPlan, Size};
use super::text;
use crate::net::{ConnId, Net, Peer, Port, Read};
use crate::oracle::{Known, Oracle, PacketId};
use crate::plan::{Noise, MS};
use crate::random::Random;

/// A client that was refused for want of room comes again after at most this long.
const AGAIN_NS: u64 = 50 * MS;

/// A request that was sent, or is being sent.
#[derive(Clone, Copy)]
struct Asked {
    /// None: it was none that could be taken.
    packet: Option<PacketId>,
    waits: bool,
    is_async: bool,
}

pub(crate) struct Client {
    index: usize,
    plan: ClientPlan,
    random: Random,
    /// Beside it, for what packets wish.
    wishes: Random,
    conn: Option<ConnId>,
    retry_ns: u64,
    /// What is left of the request that is being written, the last of `asked`.
    out: VecDeque<u8>,
    asked: VecDeque<Asked>,
    /// The last request said that it is.
    is_last: bool,
    unread: Vec<u8>,
    deaf_until_ns: u64,
    /// It was told to come again later.
    rests_until_ns: u64,
    made: u32,
    /// Packets that found no room.
    again: Vec<PacketId>,
    /// Answers that settled a packet.
    pub(crate) answers: u64,
    /// Has nothing more to send.
    pub(crate) done: bool,
}

impl Client {
    pub(crate) fn new(index: usize, plan: ClientPlan, seed: u64) -> Client {
        Client {
            index,
            plan,
            random: Random::stream(seed, 3000 + index as u64),
            wishes: Random::stream(seed, 5000 + index as u64),
            conn: None,
            retry_ns: 0,
            out: VecDeque::new(),
            asked: VecDeque::new(),
            is_last: false,
            unread: Vec::new(),
            deaf_until_ns: 0,
            rests_until_ns: 0,
            made: 0,
            again: Vec::new(),
            answers: 0,
            done: false,
        }
    }

    /// Does what can be done now; when it wants to be called again.
    ///
    /// # Errors
    /// What the distributor did wrong.
    pub(crate) fn step(
        &mut self,
        net: &mut Net,
        oracle: &mut Oracle,
        noise: &Noise,
        stopping: bool,
    ) -> Result<Option<u64>, String> {
        let now_ns = net.now_ns;
        if self.done {
            return Ok(None);
        }
        let Some(conn) = self.conn else {
            if now_ns >= self.retry_ns && !self.connect(net, noise) {
                self.done = stopping;
                self.retry_ns = now_ns + self.random.range(5 * MS, 50 * MS);
            }
            return Ok(Some(self.retry_ns.max(now_ns + 1_000)));
        };
        if now_ns >= self.deaf_until_ns {
            match net.peer_read(conn, 4096) {
                Read::Data(bytes) => {
                    self.unread.extend_from_slice(&bytes);
                    self.understand(now_ns, oracle)?;
                }
                Read::Nothing => {}
                Read::End | Read::Broken(_) => {
                    net.peer_close(conn, false);
                    self.disconnected(net, oracle)?;
                    return Ok(Some(self.retry_ns));
                }
            }
        }
        self.write(net, oracle, conn);
        if self.conn.is_some() && self.is_through() {
            net.peer_close(conn, false);
            self.conn = None;
            self.done = true;
        }
        let pause = self.random.range(1_000, self.plan.pause_ns.max(2_000));
        Ok(Some(now_ns + pause))
    }

    fn is_through(&self) -> bool {
        self.asked.is_empty() && self.again.is_empty() && self.made >= self.plan.packets
    }

    fn connect(&mut self, net: &mut Net, noise: &Noise) -> bool {
        let delay = self.random.range(1_000, noise.delay_ns);
        let shard = self.random.index(64);
        let peer = Peer::Client(self.index);
        self.conn = net.connect(peer, Port::Http, shard, delay, noise.socket_bytes);
        self.is_last = false;
        self.conn.is_some()
    }

    /// What was not answered may have been taken in or not; what was not written whole was not.
    fn disconnected(&mut self, net: &Net, oracle: &mut Oracle) -> Result<(), String> {
        if !self.out.is_empty() {
            if let Some(packet) = self.asked.back().and_then(|asked| asked.packet) {
                oracle.answered(packet, Known::Refused)?;
            }
        }
        self.out.clear();
        self.asked.clear();
        self.unread.clear();
        self.conn = None;
        self.done = self.is_through();
        self.retry_ns = net.now_ns + self.random.range(MS, 30 * MS);
        Ok(())
    }

    fn understand(&mut self, now_ns: u64, oracle: &mut Oracle) -> Result<(), String> {
        while let Some(answer) = text::take_answer(&mut self.unread)? {
            let asked = self.asked.pop_front();
            if asked.is_none() || self.asked.is_empty() && !self.out.is_empty() {
                // Of a connection that is about to end: a time-out, or too much is held already.
                match answer.status {
                    400..=599 if answer.closes => self.asked.extend(asked),
                    status => return Err(format!("status {status} for nothing that was asked")),
                }
                continue;
            }
            let Some(asked) = asked else {
                continue;
            };
            let Some(packet) = asked.packet else {
                if answer.status < 400 {
                    return Err(format!("status {} for what is no packet", answer.status));
                }
                continue;
            };
            self.settle(oracle, packet, asked, &answer)?;
            match answer.status {
                503 => self.rests_until_ns = now_ns + self.random.range(MS, AGAIN_NS),
                _ => self.answers += 1,
            }
        }
        Ok(())
    }

    fn settle(
        &mut self,
        oracle: &mut Oracle,
        packet: PacketId,
        asked: Asked,
        answer: &text::Answer,
    ) -> Result<(), String> {
        let count = oracle.packets[packet as usize].messages.len();
        let (waits, is_async) = (asked.waits, asked.is_async);
        match answer.status {
            200 if !waits => return Err("200 though nobody waits for an ACK".into()),
            200 => {
                oracle.check_acked(packet)?;
                oracle.answered(packet, Known::Taken)?;
            }
            202 if waits && !is_async => return Err("202 though its ACK is waited for".into()),
            202 => oracle.answered(packet, Known::Taken)?,
            504 if waits && !is_async => {
                if answer.body.contains("\"notAcked\":0,") {
                    return Err("504 though all is ACKed".into());
                }
                oracle.answered(packet, Known::Taken)?;
            }
            422 if waits => {
                oracle.check_refused(packet)?;
                return oracle.answered(packet, Known::Taken);
            }
            408 | 429 | 503 => {
                // It may come again under the same name: nothing of it is there.
                oracle.answered(packet, Known::Refused)?;
                self.again.push(packet);
                return Ok(());
            }
            400 | 413 => return oracle.answered(packet, Known::Refused),
            status => return Err(format!("packet {packet} was answered with status {status}")),
        }
        let said = format!("\"messageCount\":{count},");
        match answer.body.contains(&said) {
            true => Ok(()),
            false => Err(format!(
                "packet {packet} has {count} messages and was answered: {}",
                answer.body
            )),
        }
    }

    fn write(&mut self, net: &mut Net, oracle: &mut Oracle, conn: ConnId) {
        let may_ask = self.asked.len() < self.plan.ahead && !self.is_last;
        if self.out.is_empty() && may_ask && net.now_ns >= self.rests_until_ns {
            self.next_request(oracle);
        }
        let most = self.random.range(1, self.plan.write_max as u64 + 1) as usize;
        let bytes = self.out.make_contiguous();
        let len = bytes.len().min(most);
        let written = net.peer_write(conn, &bytes[..len]);
        self.out.drain(..written);
    }

    fn next_request(&mut self, oracle: &mut Oracle) {
        if self.plan.bad > 0 && self.random.chance(self.plan.bad) {
            self.out.extend(text::bad_request(&mut self.random));
            self.asked.push_back(Asked {
                packet: None,
                waits: false,
                is_async: false,
            });
            return;
        }
        let packet = match self.again.pop() {
            Some(packet) => {
                oracle.packets[packet as usize].known = Known::Open;
                packet
            }
            None if self.made < self.plan.packets => {
                self.made += 1;
                let sizes = self.sizes();
                oracle.create_packet(self.index, &sizes)
            }
            None => return,
        };
        let plan = &self.plan;
        let random = &mut self.random;
        let waits = random.chance(plan.waits);
        self.is_last = random.chance(plan.last);
        let is_lines = random.chance(plan.lines);
        let wishes = &mut self.wishes;
        let is_async = waits && wishes.chance(plan.asyncs);
        let divides = wishes.chance(plan.splits);
        // Lines that are waited for are divided if nothing is said.
        let says = divides != (is_lines && waits) || wishes.chance(20);
        if divides {
            oracle.packets[packet as usize].is_divided = true;
        }
        let form = text::Form {
            client: self.index,
            waits,
            is_async,
            split: says.then_some(divides),
            is_lines,
            is_chunked: random.chance(plan.chunks),
            is_last: self.is_last,
        };
        let texts: Vec<String> = oracle.texts(packet).collect();
        self.out.extend(text::request(&form, &texts, random));
        let packet = Some(packet);
        self.asked.push_back(Asked {
            packet,
            waits,
            is_async,
        });
    }

    fn sizes(&mut self) -> Vec<u32> {
        let random = &mut self.random;
        let count = random.range(1, u64::from(self.plan.messages_max) + 1);
        let size = |random: &mut Random| match self.plan.size {
            Size::UpTo(bytes) => random.range(0, u64::from(bytes) + 1) as u32, // below `bytes`
            Size::JustBelow(bytes) => bytes - random.range(0, 60) as u32,
        };
        (0..count).map(|_| size(random)).collect()
    }

    /// Connections that are left hanging are added to `hanging`.
    pub(crate) fn suffer(
        &mut self,
        fault: ClientFault,
        net: &mut Net,
        oracle: &mut Oracle,
        hanging: &mut Vec<ConnId>,
    ) -> Result<(), String> {
        let Some(conn) = self.conn else {
            return Ok(());
        };
        match fault {
            ClientFault::Crash { reset } => net.peer_close(conn, reset),
            ClientFault::Vanish => {
                net.vanish(conn);
                hanging.push(conn);
            }
            ClientFault::Deaf { for_ms } => {
                self.deaf_until_ns = net.now_ns + for_ms * MS;
                return Ok(());
            }
        }
        self.disconnected(net, oracle)
    }

    /// Faults are over: it sends at a brisk pace and reads its answers.
    pub(crate) fn calm(&mut self) {
        self.deaf_until_ns = 0;
        self.plan.bad = 0;
        self.plan.pause_ns = self.plan.pause_ns.min(500_000);
        self.plan.write_max = self.plan.write_max.max(20_000);
    }
}
