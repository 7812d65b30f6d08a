//! Analyzers: accept, handshake, control stream, death.
//!
//! ```text
//! accept -> Detecting -> (hand-over to another shard) -> Up -> Closing -> gone
//!            |  first byte with its top bit set: HELLO
//!            `- else a reference dialect: 8 bytes, or 4 and 50 ms of silence
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::egress::Sending;
use super::mesh::{HandOver, Message, Parcel};
use super::slab::{bare, token, Kind, Slot};
use super::worker::{Phase, Worker};
use crate::engine::{Change, Entry, Link, LinkEpoch, Reach, Reason, Window};
use crate::protocol::control::Control;
use crate::protocol::detect::{DetectError, Detection, Detector, DETECT_MS_MAX, SILENCE_MS};
use crate::protocol::native::{self, HelloReader, Welcome};
use crate::protocol::Dialect;
use crate::uring::{Completion, Group};

const MS: u64 = 1_000_000;
/// A connection that says nothing at all is closed after this.
const MUTE_MS_MAX: u64 = 10_000;

/// How far a connection has come.
pub(super) enum Stage {
    /// Its dialect is not known yet.
    Detecting {
        detector: Detector,
        first_byte_ns: Option<u64>,
        last_byte_ns: u64,
    },
    /// A native HELLO is arriving.
    Greeting {
        reader: Box<HelloReader>,
        first_byte_ns: u64,
    },
    /// Known, but another shard shall own it: waits for its receive to end.
    Leaving {
        to: usize,
        hand_over: Box<HandOverFacts>,
    },
    /// It gets messages.
    Up,
    /// Dead; waits for the kernel to be through with it.
    Closing,
}

/// What a hand-over says beside the socket.
pub(super) struct HandOverFacts {
    dialect: Dialect,
    name: Arc<str>,
    weight: f64,
    window: Window,
    unread: Vec<u8>,
}

/// An analyzer's connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) stage: Stage,
    pub(super) accepted_ns: u64,
    receiving: bool,
    /// Its id (native) or address.
    pub(super) name: Arc<str>,
    pub(super) epoch: LinkEpoch,
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) sending: Sending,
    /// Batches of other shards, by shard.
    pub(super) parcels: Vec<VecDeque<Parcel>>,
    /// Whose batch goes next, when several shards have some.
    pub(super) turn: usize,
    /// A split message of this shard must be finished first.
    pub(super) must_continue: Option<usize>,
    pub(super) zero_copy: bool,
    /// In the pump list.
    pub(super) pumped: bool,
    /// DRAIN was sent.
    pub(super) drain_sent: bool,
}

impl Worker {
    pub(super) fn on_accept_analyzer(&mut self, completion: Completion) {
        match completion.socket() {
            Ok(socket) => self.add_analyzer(socket),
            Err(error) => self.on_accept_error(&error),
        }
        if !completion.more() {
            self.rearm_accept(Kind::AcceptAnalyzer, completion.result < 0);
        }
    }

    fn add_analyzer(&mut self, socket: OwnedFd) {
        if self.phase != Phase::Running {
            return;
        }
        if self.links.len() >= self.engine.lanes_max() + self.config.shards {
            self.engine.counters.count(Reason::TooManyAnalyzers);
            return;
        }
        let peer = SockRef::from(&socket)
            .peer_addr()
            .ok()
            .and_then(|peer| peer.as_socket());
        let name = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let detector = Detector::new(self.config.dialect);
        let stage = Stage::Detecting {
            detector,
            first_byte_ns: None,
            last_byte_ns: self.now_ns,
        };
        let slot = self.insert_connection(socket, stage, name.into());
        self.handshakes += 1;
        self.schedule_tick();
        self.receive_once(slot);
    }

    fn insert_connection(&mut self, socket: OwnedFd, stage: Stage, name: Arc<str>) -> Slot {
        self.set_options(&socket, &name);
        let worth_it = self.config.zero_copy_loopback || !is_on_this_host(&socket);
        let zero_copy = self.ring.zero_copy() && self.config.zero_copy_bytes > 0 && worth_it;
        self.links.insert(Connection {
            socket,
            stage,
            accepted_ns: self.now_ns,
            receiving: false,
            name,
            epoch: LinkEpoch(0),
            link: Link::new(Dialect::Compact, self.now_ns),
            window: Window::ANY,
            sending: Sending::default(),
            parcels: (0..self.config.shards).map(|_| VecDeque::new()).collect(),
            turn: 0,
            must_continue: None,
            zero_copy,
            pumped: false,
            drain_sent: false,
        })
    }

    fn set_options(&self, socket: &OwnedFd, name: &str) {
        let socket = SockRef::from(socket);
        let timeout = self.config.peer_timeout;
        let keepalive = TcpKeepalive::new()
            .with_time(timeout / 2)
            .with_interval(timeout / 4);
        let set = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_user_timeout(Some(timeout)))
            .and_then(|()| socket.set_tcp_keepalive(&keepalive));
        if let Err(error) = set {
            log::warn!("analyzer {name}: socket options not set: {error}");
        }
    }

    /// During the handshake receives are single, so that nothing is in the kernel's hands when the
    /// socket goes to another shard.
    fn receive_once(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.receiving = true;
        let fd = connection.socket.as_raw_fd();
        self.ring
            .receive_once(fd, Group::Control, token(Kind::LinkReceive, slot));
    }

    pub(super) fn on_link_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.ring.chunk(Group::Control, &completion);
        let mut bytes = [0u8; 4096];
        let mut len = 0;
        if let Some(chunk) = chunk {
            let source = self.ring.bytes_of(Group::Control, chunk);
            len = source.len();
            bytes[..len].copy_from_slice(source);
            self.ring.release(Group::Control, chunk);
        }
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.receiving = completion.more();
        if len > 0 {
            self.on_control_bytes(slot, &bytes[..len]);
        } else if let Some(why) = end_of_stream(&completion) {
            self.kill(slot, &why, None);
        }
        if !completion.more() {
            self.after_receive(slot);
        }
    }

    /// The receive has ended: go on as the stage demands.
    fn after_receive(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        match connection.stage {
            Stage::Detecting { .. } | Stage::Greeting { .. } => self.receive_once(slot),
            Stage::Leaving { .. } => self.hand_over(slot),
            Stage::Up => {
                connection.receiving = true;
                let fd = connection.socket.as_raw_fd();
                self.ring
                    .receive(fd, Group::Control, token(Kind::LinkReceive, slot));
            }
            Stage::Closing => self.bury(slot),
        }
    }

    fn on_control_bytes(&mut self, slot: Slot, mut bytes: &[u8]) {
        let now_ns = self.now_ns;
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        match &mut connection.stage {
            Stage::Detecting {
                detector,
                first_byte_ns,
                last_byte_ns,
            } => {
                first_byte_ns.get_or_insert(now_ns);
                *last_byte_ns = now_ns;
                let found = detector.feed(&mut bytes);
                self.on_detection(slot, found, bytes);
            }
            Stage::Greeting { .. } => self.on_greeting(slot, bytes),
            Stage::Leaving { hand_over, .. } => hand_over.unread.extend_from_slice(bytes),
            Stage::Up => self.on_control(slot, bytes),
            Stage::Closing => {}
        }
    }

    fn on_detection(&mut self, slot: Slot, found: Result<Detection, DetectError>, rest: &[u8]) {
        match found {
            Ok(Detection::NeedMore) => {}
            Ok(Detection::Native) => {
                let Some(connection) = self.links.get_mut(slot) else {
                    return;
                };
                let reader = Box::<HelloReader>::default();
                connection.stage = Stage::Greeting {
                    reader,
                    first_byte_ns: self.now_ns,
                };
                self.on_greeting(slot, rest);
            }
            Ok(Detection::Reference { dialect, weight }) => {
                self.on_reference(slot, dialect, weight, rest);
            }
            Err(error) => {
                let reason = match error {
                    DetectError::FirstWeight { .. } => Reason::FirstWeightInvalid,
                    DetectError::Incomplete { .. } => Reason::HandshakeTimeout,
                };
                self.kill(slot, &error.to_string(), Some(reason));
            }
        }
    }

    fn on_reference(&mut self, slot: Slot, dialect: Dialect, weight: f64, rest: &[u8]) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let mut unread = Vec::new();
        if let Stage::Detecting { detector, .. } = &connection.stage {
            unread.extend_from_slice(detector.replay());
        }
        unread.extend_from_slice(rest);
        let name = Arc::clone(&connection.name);
        let facts = HandOverFacts {
            dialect,
            name,
            weight,
            window: Window::ANY,
            unread,
        };
        self.settle_down(slot, self.home_for_single_link(), facts);
    }

    /// The shard with the fewest single links; this one when it is among them. The kernel's choice
    /// would leave some shards with all of them and others with none.
    fn home_for_single_link(&self) -> usize {
        let mut links = vec![0u32; self.config.shards];
        for entry in &self.roster.entries {
            if let Reach::SingleLink { home, .. } = entry.reach {
                links[usize::from(home)] += 1;
            }
        }
        let own = usize::from(self.index);
        let least = links.iter().copied().min().unwrap_or(0);
        if links[own] == least {
            return own;
        }
        links
            .iter()
            .position(|count| *count == least)
            .unwrap_or(own)
    }

    fn on_greeting(&mut self, slot: Slot, mut bytes: &[u8]) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let Stage::Greeting { reader, .. } = &mut connection.stage else {
            return;
        };
        let facts = match reader.next(&mut bytes) {
            None => return,
            Some(Err(error)) => {
                self.refuse(slot, &error.to_string());
                return;
            }
            Some(Ok(hello)) => {
                let wish = |value: u64| if value == 0 { u64::MAX } else { value };
                let window = Window {
                    messages: wish(u64::from(hello.window_messages)),
                    bytes: wish(hello.window_bytes),
                };
                let facts = HandOverFacts {
                    dialect: Dialect::Native,
                    name: hello.id.into(),
                    weight: hello.weight,
                    window,
                    unread: bytes.to_vec(),
                };
                (hello.shard, facts)
            }
        };
        let (shard, facts) = facts;
        let to = shard.map_or(usize::from(self.index), usize::from);
        if to >= self.config.shards {
            let shards = self.config.shards;
            self.refuse(slot, &format!("shard {to} asked for, there are {shards}"));
            return;
        }
        self.settle_down(slot, to, facts);
    }

    /// The dialect is known: bring the link up here, or give it to the shard that shall own it.
    fn settle_down(&mut self, slot: Slot, to: usize, facts: HandOverFacts) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        self.handshakes -= 1;
        if to == usize::from(self.index) {
            self.bring_up(slot, facts);
            return;
        }
        connection.stage = Stage::Leaving {
            to,
            hand_over: Box::new(facts),
        };
        if connection.receiving {
            self.ring
                .cancel(token(Kind::LinkReceive, slot), bare(Kind::Cancel));
        }
    }

    fn hand_over(&mut self, slot: Slot) {
        let Some(connection) = self.links.remove(slot) else {
            return;
        };
        let Stage::Leaving {
            to,
            hand_over: facts,
        } = connection.stage
        else {
            return;
        };
        let HandOverFacts {
            dialect,
            name,
            weight,
            window,
            unread,
        } = *facts;
        let hand_over = HandOver {
            socket: connection.socket,
            dialect,
            name,
            weight,
            window,
            unread,
        };
        self.mesh.post(to, Message::HandOver(Box::new(hand_over)));
    }

    /// Another shard accepted a connection that belongs here.
    pub(super) fn on_hand_over(&mut self, hand_over: HandOver) {
        if self.phase != Phase::Running {
            return;
        }
        let HandOver {
            socket,
            dialect,
            name,
            weight,
            window,
            unread,
        } = hand_over;
        let slot = self.insert_connection(socket, Stage::Up, Arc::clone(&name));
        let facts = HandOverFacts {
            dialect,
            name,
            weight,
            window,
            unread,
        };
        self.bring_up(slot, facts);
        self.after_receive(slot);
    }

    fn bring_up(&mut self, slot: Slot, facts: HandOverFacts) {
        let HandOverFacts {
            dialect,
            name,
            weight,
            window,
            unread,
        } = facts;
        if dialect == Dialect::Native {
            self.replace_namesake(slot, &name);
        }
        let known = |entry: &Entry| dialect == Dialect::Native && entry.name == name;
        let most = self.engine.lanes_max();
        if self.roster.entries.len() >= most && !self.roster.entries.iter().any(known) {
            let why = format!("{most} analyzers are connected, the arena serves no more (--arena)");
            self.kill(slot, &why, Some(Reason::TooManyAnalyzers));
            return;
        }
        self.links_counted += 1;
        let epoch = LinkEpoch::new(self.index, self.links_counted);
        let now_ns = self.now_ns;
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.stage = Stage::Up;
        connection.epoch = epoch;
        self.links_up.insert(epoch, slot);
        connection.link = Link::new(dialect, now_ns);
        connection.name = Arc::clone(&name);
        connection.window = window;
        self.engine.counters.links_up += 1;
        log::info!(
            "analyzer up link={} analyzer={name} dialect={dialect} weight={weight} shard={}",
            epoch.0,
            self.index
        );
        let change = if dialect == Dialect::Native {
            if !self.welcome(slot, epoch) {
                self.kill(slot, "WELCOME could not be written", None);
                return;
            }
            Change::NativeUp {
                epoch,
                name,
                weight,
            }
        } else {
            Change::SingleUp {
                epoch,
                home: self.index,
                name,
                weight,
            }
        };
        self.mesh.post(0, Message::Change(change));
        if !unread.is_empty() {
            self.on_control(slot, &unread);
        }
    }

    /// The same analyzer again on the same shard: the old connection is a leftover.
    fn replace_namesake(&mut self, slot: Slot, name: &str) {
        let old = self.links.iter().find(|(other, connection)| {
            *other != slot
                && connection.is_up()
                && connection.link.dialect() == Dialect::Native
                && &*connection.name == name
        });
        if let Some((old, _)) = old {
            self.kill(
                old,
                "the analyzer connected again",
                Some(Reason::LinkReplaced),
            );
        }
    }

    fn welcome(&mut self, slot: Slot, epoch: LinkEpoch) -> bool {
        let welcome = Welcome {
            refused: None,
            shard_count: u16::try_from(self.config.shards).unwrap_or(u16::MAX),
            shard_index: self.index,
            instance: self.config.instance,
            link_epoch: epoch.0,
        };
        self.say(slot, |out| welcome.encode(out))
    }

    fn refuse(&mut self, slot: Slot, why: &str) {
        let welcome = Welcome {
            refused: Some(why),
            shard_count: u16::try_from(self.config.shards).unwrap_or(u16::MAX),
            shard_index: self.index,
            instance: self.config.instance,
            link_epoch: 0,
        };
        self.say(slot, |out| welcome.encode(out));
        self.kill(slot, why, Some(Reason::HandshakeInvalid));
    }

    /// Writes a few bytes outside the batches. Called when no send is in flight and the socket's
    /// queue is as good as empty, so they fit; if not, the link is broken anyway.
    pub(super) fn say(&mut self, slot: Slot, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(connection) = self.links.get(slot) else {
            return false;
        };
        let mut out = Vec::new();
        encode(&mut out);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = SockRef::from(&connection.socket).send_with_flags(&out, flags);
        matches!(sent, Ok(n) if n == out.len())
    }

    /// Words of a link that is up.
    fn on_control(&mut self, slot: Slot, mut bytes: &[u8]) {
        let now_ns = self.now_ns;
        // Of several weights in one read only the last counts: a flood of them costs one table.
        let mut newest_weight = None;
        loop {
            let Some(connection) = self.links.get_mut(slot) else {
                return;
            };
            if !connection.is_up() {
                return;
            }
            let epoch = connection.epoch;
            match connection.link.decoder().next(&mut bytes) {
                None => break,
                Some(Ok(Control::Ack(raw))) => match connection.link.ack(raw, now_ns) {
                    Ok(true) => {}
                    Ok(false) => self.engine.counters.count(Reason::AckStale),
                    Err(error) => {
                        self.kill(slot, &error.to_string(), Some(Reason::AckBeyondSent));
                        return;
                    }
                },
                Some(Ok(Control::Weight(weight))) => {
                    log::debug!(
                        "weight link={} weight={weight} mono_ns={}",
                        epoch.0,
                        crate::uring::monotonic_ns()
                    );
                    newest_weight = Some(Change::Weight { epoch, weight });
                }
                Some(Ok(Control::BadWeight(weight))) => {
                    let name = &connection.name;
                    log::warn!(
                        "analyzer {name}: weight {weight} ignored (allowed: finite, at least 0)"
                    );
                    self.engine.counters.count(Reason::WeightInvalid);
                }
                Some(Ok(Control::Drain)) => {
                    self.mesh.post(0, Message::Change(Change::Drain { epoch }));
                }
                Some(Ok(Control::Goodbye { sequence })) => {
                    if connection.link.ack(sequence, now_ns).is_ok() {
                        self.pay_credits(slot);
                    }
                    self.kill(slot, "goodbye", None);
                    return;
                }
                Some(Err(error)) => {
                    self.kill(slot, &error.to_string(), Some(Reason::ControlUnknownType));
                    return;
                }
            }
        }
        if let Some(change) = newest_weight {
            self.mesh.post(0, Message::Change(change));
        }
        self.pay_credits(slot);
    }

    /// Tells the shards what was ACKed.
    pub(super) fn pay_credits(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let epoch = connection.epoch;
        while let Some((shard, messages)) = connection.link.next_credit() {
            if shard == self.index {
                if let Some(lane) = self.engine.lane_of(epoch) {
                    self.engine.acked(lane, messages, self.now_ns);
                }
            } else {
                self.mesh
                    .post(usize::from(shard), Message::Credit { epoch, messages });
            }
        }
    }

    /// A connection is over, for whatever reason: what it has not ACKed goes to others at once.
    pub(super) fn kill(&mut self, slot: Slot, why: &str, reason: Option<Reason>) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        if let Some(reason) = reason {
            self.engine.counters.count(reason);
        }
        let name = &connection.name;
        let was = std::mem::replace(&mut connection.stage, Stage::Closing);
        let socket = SockRef::from(&connection.socket);
        if matches!(was, Stage::Up) {
            // What the kernel still holds for it goes to others: it must not be sent as well, nor
            // keep zero-copy memory until the peer times out.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
        let _ = socket.shutdown(std::net::Shutdown::Both);
        match was {
            Stage::Closing => return,
            Stage::Detecting { .. } | Stage::Greeting { .. } => {
                self.handshakes -= 1;
                log::warn!("analyzer {name} closed during its handshake: {why}");
            }
            Stage::Leaving { .. } => log::warn!("analyzer {name} closed: {why}"),
            Stage::Up => {
                let (epoch, unacked) = (connection.epoch, connection.link.unacked());
                log::info!(
                    "analyzer down link={} analyzer={name} why=\"{why}\" unacked={unacked}",
                    epoch.0
                );
                self.links_up.remove(&epoch);
                self.engine.counters.links_down += 1;
                self.engine.link_down(epoch, self.now_ns);
                self.mesh.post(0, Message::Change(Change::Down { epoch }));
            }
        }
        self.bury(slot);
    }

    /// Forgets a dead connection when the kernel is through with it. Only then may other shards use
    /// the buffers of their parcels again.
    pub(super) fn bury(&mut self, slot: Slot) {
        let Some(connection) = self.links.get(slot) else {
            return;
        };
        if connection.receiving || !connection.sending.is_idle() {
            return;
        }
        let Some(connection) = self.links.remove(slot) else {
            return;
        };
        if connection.epoch == LinkEpoch(0) {
            return;
        }
        for shard in 0..self.config.shards {
            if shard != usize::from(self.index) {
                self.mesh.post(
                    shard,
                    Message::LinkDown {
                        epoch: connection.epoch,
                    },
                );
            }
        }
    }

    /// Handshakes that take too long, links that do not ACK.
    pub(super) fn check_handshakes(&mut self) {
        if self.handshakes == 0 {
            return;
        }
        let now_ns = self.now_ns;
        let passed = |since: u64, ms: u64| now_ns.saturating_sub(since) >= ms * MS;
        for slot in self.links.slots() {
            let Some(connection) = self.links.get_mut(slot) else {
                continue;
            };
            let accepted_ns = connection.accepted_ns;
            let found = match &mut connection.stage {
                Stage::Detecting {
                    detector,
                    first_byte_ns: Some(first),
                    last_byte_ns,
                } => {
                    if passed(*first, DETECT_MS_MAX) {
                        detector.on_deadline()
                    } else if passed(*last_byte_ns, SILENCE_MS) {
                        detector.on_silence()
                    } else {
                        continue;
                    }
                }
                Stage::Detecting { .. } if passed(accepted_ns, MUTE_MS_MAX) => {
                    Err(DetectError::Incomplete { bytes: 0 })
                }
                Stage::Greeting { first_byte_ns, .. } if passed(*first_byte_ns, MUTE_MS_MAX) => {
                    Err(DetectError::Incomplete { bytes: 0 })
                }
                _ => continue,
            };
            self.on_detection(slot, found, &[]);
        }
    }

    /// Applies the ACK timeout, see `Link::stall`.
    pub(super) fn check_stalls(&mut self) {
        let timeout_ns = u64::try_from(self.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        for slot in self.links.slots() {
            let Some(connection) = self.links.get_mut(slot) else {
                continue;
            };
            if !connection.is_up() {
                continue;
            }
            let unread =
                !connection.sending.is_idle() || crate::uring::unread_bytes(&connection.socket) > 0;
            let lane = self.engine.lane_of(connection.epoch);
            let full = lane.is_some_and(|lane| self.engine.is_full(lane));
            if let Some(stall) = connection.link.stall(self.now_ns, timeout_ns, unread, full) {
                let why = format!(
                    "no ACK for {:?} with {} un-ACKed ({stall:?})",
                    self.config.ack_timeout,
                    connection.link.unacked()
                );
                self.kill(slot, &why, Some(Reason::AckStalled));
            }
        }
    }

    /// Tells native analyzers that the distributor waits for their last ACKs.
    pub(super) fn ask_for_acks(&mut self) {
        for slot in self.links.slots() {
            let Some(connection) = self.links.get_mut(slot) else {
                continue;
            };
            let idle = connection.sending.is_idle() && connection.must_continue.is_none();
            if connection.is_up()
                && connection.link.dialect() == Dialect::Native
                && idle
                && !connection.drain_sent
            {
                connection.drain_sent = true;
                self.say(slot, |out| out.extend_from_slice(&native::DRAIN));
            }
        }
    }

    /// The books are balanced: native analyzers learn that nothing more will come.
    pub(super) fn say_goodbye(&mut self) {
        for slot in self.links.slots() {
            let Some(connection) = self.links.get(slot) else {
                continue;
            };
            if connection.is_up()
                && connection.link.dialect() == Dialect::Native
                && connection.sending.is_idle()
                && connection.link.unacked() == 0
            {
                self.say(slot, |out| out.extend_from_slice(&native::GOODBYE));
            }
        }
    }
}

impl Connection {
    /// It gets messages.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }
}

/// The peer is reached over loopback, where the kernel always copies. One zero-copy send there does
/// lasting harm: the copies it makes look so wasteful to the receiver that it shrinks its window to
/// a tenth, and transfers crawl at one persist timer (200 ms) a piece.
fn is_on_this_host(socket: &OwnedFd) -> bool {
    let socket = SockRef::from(socket);
    let ip = |address: socket2::SockAddr| address.as_socket().map(|address| address.ip());
    let local = socket.local_addr().ok().and_then(ip);
    let peer = socket.peer_addr().ok().and_then(ip);
    peer.is_some() && (peer == local || peer.is_some_and(|peer| peer.is_loopback()))
}

/// Why a receive that brought nothing means the end, if it does.
fn end_of_stream(completion: &Completion) -> Option<String> {
    match completion.count() {
        Ok(_) => Some("closed by the analyzer".to_owned()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => None,
            _ => Some(error.to_string()),
        },
    }
}
