//! A simulated analyzer, in all three dialects: reads at its own pace, checks what it gets, ACKs
//! rightly and, when told to, wrongly.

use std::collections::VecDeque;

use super::net::{ConnId, Net, Peer, Port, Read};
use super::oracle::{MessageId, Oracle};
use super::plan::{name_of_analyzer, AnalyzerPlan, Noise, What, MS};
use super::random::Random;
use weir_protocol::frame;
use weir_protocol::native::{BatchCursor, BatchHeader, Hello, LinkWord, Welcome};
use weir_sink::{ControlWord, Dialect};

/// A remainder is ACKed after this much silence.
const IDLE_NS: u64 = 20 * MS;
const FRAME_MAX: u32 = 1 << 20;

/// One connection of an analyzer.
struct Link {
    conn: ConnId,
    /// Shard that was asked for; `None`: any.
    wanted: Option<u16>,
    welcomed: bool,
    /// Read and not understood yet.
    unread: Vec<u8>,
    batch: Option<(BatchHeader, BatchCursor)>,
    /// Number of the last message received, as ACKs count.
    received: u64,
    first: u64,
    acked: u64,
    /// Received and not ACKed.
    open: VecDeque<MessageId>,
    out: VecDeque<u8>,
    heard_ns: u64,
    /// Closes when all is written.
    leaving: bool,
}

pub(super) struct Analyzer {
    index: usize,
    plan: AnalyzerPlan,
    name: String,
    random: Random,
    links: Vec<Link>,
    /// Its process runs.
    alive: bool,
    /// When it starts, or starts again.
    back_ns: u64,
    stalled_until_ns: u64,
    slow: Option<(usize, u64)>,
    busy_until_ns: u64,
    drained: bool,
    is_calm: bool,
    shards: u16,
    first_number: u64,
    /// Messages received, the same message again included.
    pub(super) deliveries: u64,
}

impl Analyzer {
    pub(super) fn new(index: usize, plan: AnalyzerPlan, seed: u64, first_number: u64) -> Analyzer {
        Analyzer {
            index,
            name: name_of_analyzer(plan.twin_of.unwrap_or(index)),
            random: Random::stream(seed, 2000 + index as u64),
            links: Vec::new(),
            alive: false,
            back_ns: plan.joins_ms * MS,
            stalled_until_ns: 0,
            slow: None,
            busy_until_ns: 0,
            drained: false,
            is_calm: false,
            shards: 0,
            first_number: match plan.dialect {
                Dialect::Native => 0,
                _ => first_number,
            },
            plan,
            deliveries: 0,
        }
    }

    /// Does what can be done now; when it wants to be called again.
    ///
    /// # Errors
    /// What the distributor did wrong.
    pub(super) fn step(
        &mut self,
        net: &mut Net,
        oracle: &mut Oracle,
        noise: &Noise,
    ) -> Result<Option<u64>, String> {
        let now_ns = net.now_ns;
        if !self.alive {
            if now_ns < self.back_ns {
                return Ok(Some(self.back_ns));
            }
            self.alive = true;
            self.shards = 0;
        }
        let busy = self.stalled_until_ns.max(self.busy_until_ns);
        if now_ns < busy {
            return Ok(Some(busy));
        }
        self.connect_missing(net, noise)?;
        let mut next_ns = now_ns + 200 * MS;
        for index in 0..self.links.len() {
            let at = self.step_link(index, net, oracle)?;
            next_ns = next_ns.min(at);
        }
        self.links.retain(|link| link.conn != ConnId::MAX);
        Ok(Some(next_ns.max(now_ns + 1_000)))
    }

    fn connect_missing(&mut self, net: &mut Net, noise: &Noise) -> Result<(), String> {
        if self.links.iter().any(|link| link.leaving) {
            return Ok(());
        }
        if self.shards == 0 || self.plan.dialect != Dialect::Native {
            if self.links.is_empty() {
                self.connect(None, net, noise)?;
            }
            return Ok(());
        }
        for shard in 0..self.shards {
            if self.links.iter().all(|link| link.wanted != Some(shard)) {
                self.connect(Some(shard), net, noise)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self, wanted: Option<u16>, net: &mut Net, noise: &Noise) -> Result<(), String> {
        let delay = self.random.range(1_000, noise.delay_ns);
        let shard = self.random.index(64);
        let peer = Peer::Analyzer(self.index);
        let limit = noise.socket_bytes;
        let Some(conn) = net.connect(peer, Port::Analyzers, shard, delay, limit) else {
            return Ok(());
        };
        let mut out = Vec::new();
        if self.plan.dialect == Dialect::Native {
            let hello = Hello {
                shard: wanted,
                weight: self.plan.weight,
                window_bytes: 0,
                window_messages: self.plan.window_messages,
                id: &self.name,
                token: &[],
                instance: Some(self.index as u64),
                forms: false,
            };
            hello.encode(&mut out).map_err(|error| error.to_string())?;
        } else {
            let word = weir_sink::encode_first_weight(self.plan.dialect, self.plan.weight);
            out.extend_from_slice(word.as_bytes());
        }
        self.links.push(Link {
            conn,
            wanted,
            welcomed: false,
            unread: Vec::new(),
            batch: None,
            received: self.first_number,
            first: self.first_number,
            acked: self.first_number,
            open: VecDeque::new(),
            out: out.into(),
            heard_ns: net.now_ns,
            leaving: false,
        });
        Ok(())
    }

    /// Reads, handles, ACKs; when to look again. A link that is over gets the connection number MAX.
    fn step_link(
        &mut self,
        index: usize,
        net: &mut Net,
        oracle: &mut Oracle,
    ) -> Result<u64, String> {
        let now_ns = net.now_ns;
        self.flush(index, net);
        let mut max = match self.slow {
            Some((bytes, until)) if now_ns < until => bytes,
            _ if self.is_calm => 1 << 16,
            _ => self.plan.read_max,
        };
        if self.random.chance(20) {
            max = max.min(self.random.range(1, 40) as usize);
        }
        let link = &mut self.links[index];
        if link.conn == ConnId::MAX {
            return Ok(u64::MAX);
        }
        let before = link.received;
        match net.peer_read(link.conn, max) {
            Read::Data(bytes) => {
                link.heard_ns = now_ns;
                link.unread.extend_from_slice(&bytes);
                self.understand(index, oracle)?;
            }
            Read::Nothing => {}
            Read::End | Read::Broken(_) => {
                net.peer_close(link.conn, false);
                link.conn = ConnId::MAX;
                return Ok(now_ns + self.random.range(MS, 40 * MS));
            }
        }
        let link = &mut self.links[index];
        let handled = link.received - before;
        self.deliveries += handled;
        let think = if self.is_calm { 0 } else { self.plan.think_ns };
        self.busy_until_ns = self.busy_until_ns.max(now_ns + handled * think);
        let every = if self.is_calm {
            1
        } else {
            u64::from(self.plan.ack_every)
        };
        let remainder = self.plan.remainder || self.is_calm || link.wanted.is_some();
        let remainder = remainder || self.plan.dialect == Dialect::Native;
        let idle = now_ns - link.heard_ns >= IDLE_NS;
        let unacked = link.received - link.acked;
        if unacked >= every || unacked > 0 && idle && remainder {
            let to = match idle {
                true => link.received,
                false => link.received - unacked % every,
            };
            Self::ack(self.plan.dialect, link, oracle, to);
        }
        self.flush(index, net);
        let link = &self.links[index];
        if handled > 0 || !link.out.is_empty() {
            return Ok(now_ns + 20_000);
        }
        Ok(now_ns + IDLE_NS)
    }

    fn ack(dialect: Dialect, link: &mut Link, oracle: &mut Oracle, to: u64) {
        while link.acked < to {
            link.acked += 1;
            if let Some(id) = link.open.pop_front() {
                oracle.acked(id);
            }
        }
        let word = weir_sink::encode_ack(dialect, to);
        link.out.extend(word.as_bytes());
    }

    fn flush(&mut self, index: usize, net: &mut Net) {
        let link = &mut self.links[index];
        if link.conn == ConnId::MAX {
            return;
        }
        let bytes = link.out.make_contiguous();
        let len = match self.random.chance(10) {
            true => bytes.len().min(1),
            false => bytes.len(),
        };
        let written = net.peer_write(link.conn, &bytes[..len]);
        link.out.drain(..written);
        if link.leaving && link.out.is_empty() {
            net.peer_close(link.conn, false);
            link.conn = ConnId::MAX;
        }
    }

    fn understand(&mut self, index: usize, oracle: &mut Oracle) -> Result<(), String> {
        let link = &mut self.links[index];
        let bytes = std::mem::take(&mut link.unread);
        let mut rest = &bytes[..];
        if self.plan.dialect != Dialect::Native {
            while let Some(len) = frame::peek(rest, FRAME_MAX).map_err(|e| e.to_string())? {
                let Some((frame, after)) = rest.split_at_checked(len) else {
                    break;
                };
                let id = oracle.delivered(frame)?;
                link.received += 1;
                link.open.push_back(id);
                rest = after;
            }
            self.links[index].unread = rest.to_vec();
            return Ok(());
        }
        if !link.welcomed {
            let welcome = Welcome::decode(rest).map_err(|error| error.to_string())?;
            let Some((welcome, len)) = welcome else {
                self.links[index].unread = bytes;
                return Ok(());
            };
            if welcome.refused.is_some() {
                return Ok(()); // the distributor closes
            }
            rest = &rest[len..];
            link.welcomed = true;
            if link
                .wanted
                .is_some_and(|wanted| wanted != welcome.shard_index)
            {
                return Err("a link came up on another shard than asked for".into());
            }
            link.wanted = Some(welcome.shard_index);
            self.shards = welcome.shard_count;
        }
        self.understand_words(index, &mut rest, oracle)?;
        self.links[index].unread = rest.to_vec();
        Ok(())
    }

    fn understand_words(
        &mut self,
        index: usize,
        rest: &mut &[u8],
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        let link = &mut self.links[index];
        loop {
            if let Some((header, cursor)) = &mut link.batch {
                while let Some(message) = cursor.next(rest).map_err(|error| error.to_string())? {
                    let id = oracle.delivered(message.frame)?;
                    let identity = (
                        header.origin_shard,
                        header.origin_epoch,
                        message.origin_sequence,
                    );
                    oracle.identified(id, identity, header.redelivered)?;
                    link.received += 1;
                    link.open.push_back(id);
                }
                if cursor.left_count() > 0 {
                    return Ok(());
                }
                link.batch = None;
            }
            let Some((word, len)) = LinkWord::decode(rest).map_err(|error| error.to_string())?
            else {
                return Ok(());
            };
            *rest = &rest[len..];
            match word {
                LinkWord::Batch(header) => {
                    if header.first_sequence != link.received + 1 {
                        return Err(format!(
                            "a batch starts at {}, {} is next",
                            header.first_sequence,
                            link.received + 1
                        ));
                    }
                    let cursor = BatchCursor::new(&header, FRAME_MAX);
                    link.batch = Some((header, cursor));
                }
                LinkWord::Drain => {
                    let to = link.received;
                    Self::ack(Dialect::Native, link, oracle, to);
                }
                LinkWord::Goodbye => {
                    if link.acked < link.received {
                        return Err("GOODBYE before everything was ACKed".into());
                    }
                }
            }
        }
    }

    // Faults -----------------------------------------------------------------------------------

    /// Applies a fault. Connections that are left hanging are added to `hanging`.
    pub(super) fn suffer(
        &mut self,
        what: &What,
        net: &mut Net,
        oracle: &mut Oracle,
        hanging: &mut Vec<ConnId>,
    ) {
        if !self.alive {
            return;
        }
        let now_ns = net.now_ns;
        let dialect = self.plan.dialect;
        match *what {
            What::Crash { reset, back_ms, .. } => {
                for link in self.links.drain(..) {
                    net.peer_close(link.conn, reset);
                }
                self.gone(now_ns, back_ms);
            }
            What::Vanish { back_ms, .. } => {
                for link in self.links.drain(..) {
                    net.vanish(link.conn);
                    hanging.push(link.conn);
                }
                self.gone(now_ns, back_ms);
            }
            What::OneLinkBreaks { .. } if self.links.is_empty() => {}
            What::OneLinkBreaks { .. } => {
                let index = self.random.index(self.links.len());
                let link = self.links.remove(index);
                net.peer_close(link.conn, self.random.chance(50));
            }
            What::Stall { for_ms, .. } => self.stalled_until_ns = now_ns + for_ms * MS,
            What::Slow { bytes, for_ms, .. } => self.slow = Some((bytes, now_ns + for_ms * MS)),
            What::Leave { back_ms, .. } => {
                for link in &mut self.links {
                    let to = link.received;
                    if dialect == Dialect::Native && link.welcomed {
                        Self::ack(dialect, link, oracle, to);
                        link.out.extend(weir_sink::encode_goodbye(to).as_bytes());
                    } else if dialect != Dialect::Native && to > link.first {
                        Self::ack(dialect, link, oracle, to);
                    }
                    link.leaving = true;
                }
                self.back_ns = now_ns + back_ms * MS;
            }
            What::Drain { .. } => {
                self.drained = true;
                self.say(weir_sink::encode_drain(dialect));
            }
            What::Weight { weight, .. } => {
                self.plan.weight = weight;
                // Who cannot say it yet starts again when all is calm.
                self.drained |= self.links.iter().any(|link| !ready(dialect, link));
                self.say(weir_sink::encode_weight(dialect, weight));
            }
            What::BadWeight { .. } => self.say(weir_sink::encode_weight(dialect, f64::NAN)),
            What::AckTwice { .. } | What::AckBack { .. } => {
                let back = u64::from(matches!(what, What::AckBack { .. }));
                for link in &mut self.links {
                    let number = (link.acked - back.min(link.acked)).max(link.first + 1);
                    if link.acked > link.first && ready(dialect, link) {
                        let word = weir_sink::encode_ack(dialect, number);
                        link.out.extend(word.as_bytes());
                    }
                }
            }
            What::AckBeyond { .. } => {
                for link in self.links.iter_mut().filter(|link| ready(dialect, link)) {
                    let word = weir_sink::encode_ack(dialect, link.received + 1_000_000);
                    link.out.extend(word.as_bytes());
                }
            }
            What::BadControl { .. } if dialect != Dialect::Compact => {
                for link in self.links.iter_mut().filter(|link| ready(dialect, link)) {
                    link.out.extend([0x77]);
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, now_ns: u64, back_ms: u64) {
        self.alive = false;
        self.back_ns = now_ns + back_ms * MS;
        self.drained = false;
    }

    fn say(&mut self, word: ControlWord) {
        let dialect = self.plan.dialect;
        for link in self.links.iter_mut().filter(|link| ready(dialect, link)) {
            link.out.extend(word.as_bytes());
        }
    }

    /// Faults are over: it runs, reads, and ACKs everything. `must_take`: it has a weight.
    pub(super) fn calm(&mut self, net: &mut Net, must_take: bool) {
        let now_ns = net.now_ns;
        if self.plan.twin_of.is_some() {
            for link in self.links.drain(..) {
                net.peer_close(link.conn, false);
            }
            self.alive = false;
            self.back_ns = u64::MAX;
            self.plan.weight = 0.0;
            return;
        }
        self.is_calm = true;
        self.back_ns = self.back_ns.min(now_ns);
        self.stalled_until_ns = 0;
        self.busy_until_ns = 0;
        self.slow = None;
        if must_take && self.plan.weight == 0.0 {
            self.plan.weight = 1.0;
            self.drained = true;
        }
        if std::mem::take(&mut self.drained) {
            match self.plan.dialect {
                Dialect::Compact | Dialect::Typed
                    if self.links.iter().all(|l| ready(self.plan.dialect, l)) =>
                {
                    self.say(weir_sink::encode_weight(
                        self.plan.dialect,
                        self.plan.weight,
                    ));
                }
                // A restart: it is not drained any more.
                _ => {
                    for link in self.links.drain(..) {
                        net.peer_close(link.conn, false);
                    }
                    self.shards = 0;
                }
            }
        }
    }

    /// Links that a shard has cut off in this moment, and whether each had read and ACKed all that it was sent.
    pub(super) fn cut_now<'a>(&'a self, net: &'a Net) -> impl Iterator<Item = bool> + 'a {
        let links = self.links.iter().filter(|link| link.conn != ConnId::MAX);
        links.filter_map(|link| {
            let was_quiet = net.cut_now(link.conn)?;
            let has_acked = link.acked == link.received && link.batch.is_none();
            let is_idle = link.unread.is_empty() && link.out.is_empty();
            Some(has_acked && is_idle && link.welcomed_or_fed() && was_quiet)
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// It goes by another's id, and will be gone.
    pub(super) fn is_twin(&self) -> bool {
        self.plan.twin_of.is_some()
    }

    pub(super) fn weight(&self) -> f64 {
        self.plan.weight
    }
}

impl Link {
    /// It is up, as far as it knows.
    fn welcomed_or_fed(&self) -> bool {
        self.welcomed || self.received > self.first
    }
}

/// The handshake is behind it: reference clients must not say more than their weight before they
/// have been recognised.
fn ready(dialect: Dialect, link: &Link) -> bool {
    match dialect {
        Dialect::Native => link.welcomed,
        _ => link.received > link.first,
    }
}
