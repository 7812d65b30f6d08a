//! Analyzers' links: what a connection is, its control stream, its death.
//!
//! ```text
//! Detecting, Greeting, Leaving (handshake.rs) -> Up -> Closing -> gone
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;

use super::egress::Sending;
use super::mesh::{Mesh, Message, Parcel};
use super::places::Turn;
use super::port::Io;
use super::slab::{token, Kind, Slot};
use super::worker::Worker;
use crate::port::{Completion, Group};
use weir_engine::{Change, Link, LinkEpoch, Reason, Stall, Window};
use weir_protocol::control::Control;
use weir_protocol::detect::Detector;
use weir_protocol::native::{self, HelloReader};
use weir_protocol::text::{Field, Quoted, Time};
use weir_protocol::{Dialect, WeightText};

/// Links that are closed in one tick because they stalled: each costs system calls.
const STALLED_CLOSED_MAX: usize = 64;

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
    /// About to come up, or to be refused.
    Settling,
    /// It gets messages.
    Up,
    /// Dead; waits for the kernel to be through with it.
    Closing,
}

/// What a hand-over says beside the socket.
pub(super) struct HandOverFacts {
    pub(super) dialect: Dialect,
    pub(super) name: Arc<str>,
    /// Of a native analyzer that says so: the number of its run.
    pub(super) instance: Option<u64>,
    pub(super) weight: f64,
    pub(super) window: Window,
    pub(super) unread: Vec<u8>,
}

/// An analyzer's connection.
pub(super) struct Connection<I: Io> {
    pub(super) socket: I::Socket,
    pub(super) stage: Stage,
    pub(super) accepted_ns: u64,
    /// Where it comes from, when that could be told.
    pub(super) peer: Option<SocketAddr>,
    /// Its place among those that have not spoken.
    pub(super) turn_to_speak: Option<Turn>,
    /// Its address, and how much it counts there, when connections are counted by address.
    pub(super) counted: Option<(IpAddr, usize)>,
    pub(super) receiving: bool,
    /// Its address, and once it is up its id or the name that it was given.
    pub(super) name: Arc<str>,
    /// When it came up.
    pub(super) up_ns: u64,
    /// How many links before it were put out by a link of the same id that does not say its instance.
    pub(super) takeovers: u32,
    pub(super) epoch: LinkEpoch,
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) sending: Sending<I::Vector>,
    /// Batches of other shards, by shard.
    pub(super) parcels: Vec<VecDeque<Parcel>>,
    /// Whose batch goes next, when several shards have some.
    pub(super) turn: usize,
    /// A split message of this shard must be finished first.
    pub(super) must_continue: Option<usize>,
    pub(super) zero_copy: bool,
    /// In the pump list.
    pub(super) pumped: bool,
    /// DRAIN was sent, and nothing since.
    pub(super) drain_sent: bool,
    /// It has sent a weight that is none; more of them are counted only.
    pub(super) bad_weight_logged: bool,
    /// What other shards are told when the kernel is through with a dead link.
    pub(super) last_credits: Vec<(u16, u64)>,
}

impl<I: Io> Worker<I> {
    pub(super) fn on_link_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Control, &completion);
        let mut bytes = [0u8; 4096];
        let mut len = 0;
        if let Some(chunk) = chunk {
            let source = self.io.bytes_of(Group::Control, chunk);
            len = source.len();
            bytes[..len].copy_from_slice(source);
            self.io.release(Group::Control, chunk);
        }
        if len == 0 {
            self.ends.push_back(completion);
            return;
        }
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.receiving = completion.more();
        self.on_control_bytes(slot, &bytes[..len]);
        if !completion.more() {
            self.after_receive(slot);
        }
    }

    /// A receive has brought nothing: the stream has ended, or the receive alone.
    pub(super) fn on_link_end(&mut self, slot: Slot, completion: &Completion) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.receiving = completion.more();
        if let Some(why) = end_of_stream(completion) {
            self.kill(slot, &why, None);
        }
        if !completion.more() {
            self.after_receive(slot);
        }
    }

    /// The receive has ended: go on as the stage demands.
    pub(super) fn after_receive(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        match connection.stage {
            Stage::Detecting { .. } | Stage::Greeting { .. } => self.receive_once(slot),
            Stage::Leaving { .. } => self.hand_over(slot),
            Stage::Up => {
                connection.receiving = true;
                let token = token(Kind::LinkReceive, slot);
                self.io.receive(&connection.socket, Group::Control, token);
            }
            Stage::Settling | Stage::Closing => self.bury(slot),
        }
    }

    fn on_control_bytes(&mut self, slot: Slot, mut bytes: &[u8]) {
        let now_ns = self.awake_ns;
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
            Stage::Settling | Stage::Closing => {}
        }
    }

    /// Writes a few bytes outside the batches. Called when no send is in flight and the socket's
    /// queue is as good as empty, so they fit; if not, the link is broken anyway.
    pub(super) fn say(&mut self, slot: Slot, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(connection) = self.links.get(slot) else {
            return false;
        };
        let mut out = Vec::new();
        encode(&mut out);
        let sent = self.io.send_now(&connection.socket, &out);
        matches!(sent, Ok(n) if n == out.len())
    }

    /// Words of a link that is up.
    pub(super) fn on_control(&mut self, slot: Slot, mut bytes: &[u8]) {
        let now_ns = self.awake_ns;
        // Of several weights in one read only the last counts, of several DRAINs one: a flood of them costs one
        // change. A DRAIN in a later read counts again: the operator may have resumed the analyzer meanwhile.
        let mut newest_weight = None;
        let mut asks_to_drain = None;
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
                        "weight link={} analyzer={} weight={} mono_ns={}",
                        epoch.0,
                        Field(&connection.name),
                        WeightText(weight),
                        self.io.now_ns()
                    );
                    newest_weight = Some(Change::Weight { epoch, weight });
                }
                Some(Ok(Control::BadWeight(weight))) => {
                    let name = &connection.name;
                    if !std::mem::replace(&mut connection.bad_weight_logged, true) {
                        log::warn!(
                            "analyzer {}: weight {} ignored (allowed: finite, at least 0); further ones are counted only",
                            Field(name),
                            WeightText(weight)
                        );
                    }
                    self.engine.counters.count(Reason::WeightInvalid);
                }
                Some(Ok(Control::Drain)) => asks_to_drain = Some(Change::Drain { epoch }),
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
            if let Change::Weight { weight, .. } = change {
                self.warn_of_far_weight(slot, weight);
            }
            self.mesh.post(0, Message::Change(change));
        }
        if let Some(change) = asks_to_drain {
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

    /// What a dying link has ACKed is not re-routed, though the send that it came in has not
    /// completed. This shard's lane knows which buffers the kernel still reads; the other shards are
    /// told when it reads none, see [`Worker::bury`].
    fn pay_last_credits(&mut self, slot: Slot) {
        self.pay_credits(slot);
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let epoch = connection.epoch;
        connection.link.completed();
        while let Some((shard, messages)) = connection.link.next_credit() {
            if shard != self.index {
                connection.last_credits.push((shard, messages));
            } else if let Some(lane) = self.engine.lane_of(epoch) {
                self.engine.acked(lane, messages, self.now_ns);
            }
        }
    }

    /// A connection is over, for whatever reason: what it has not ACKed goes to others at once.
    pub(super) fn kill(&mut self, slot: Slot, why: &str, reason: Option<Reason>) {
        let kind = reason.map_or("closed", Reason::as_str);
        self.kill_as(slot, why, reason, kind);
    }

    /// The same; a warning is said once of a peer and `kind`.
    pub(super) fn kill_as(
        &mut self,
        slot: Slot,
        why: &str,
        reason: Option<Reason>,
        kind: &'static str,
    ) {
        self.leave_place(slot);
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        if let Some(reason) = reason {
            self.engine.counters.count(reason);
        }
        let name = &connection.name;
        let was = std::mem::replace(&mut connection.stage, Stage::Closing);
        if matches!(was, Stage::Up) {
            // What the kernel still holds for it goes to others: it must not be sent as well, nor
            // keep zero-copy memory until the peer times out.
            self.io.drop_unsent_on_close(&connection.socket);
        }
        self.io.shutdown(&connection.socket, Shutdown::Both);
        match was {
            Stage::Closing => return,
            Stage::Detecting {
                first_byte_ns: None,
                ..
            } if reason.is_none() => self.engine.counters.count(Reason::Probe),
            Stage::Detecting { .. }
            | Stage::Greeting { .. }
            | Stage::Settling
            | Stage::Leaving { .. } => {
                let peer = connection.peer.map(|peer| peer.ip());
                if let Some(tail) = self.shared.notice("analyzers", peer, kind, self.now_ns) {
                    let name = Field(name);
                    log::warn!("analyzer {name} closed during its handshake: {why}{tail}");
                }
            }
            Stage::Up => {
                let (epoch, unacked) = (connection.epoch, connection.link.unacked());
                log::info!(
                    "analyzer down link={} analyzer={} why={} unacked={unacked}",
                    epoch.0,
                    Field(name),
                    Quoted(why)
                );
                self.links_up.remove(&epoch);
                let counted = connection.counted.take();
                self.shared.names.link_gone(name);
                self.leave_address(counted);
                self.engine.counters.links_down += 1;
                self.pay_last_credits(slot);
                self.ended.push(epoch);
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
        let epoch = connection.epoch;
        for (shard, messages) in connection.last_credits {
            let credit = Message::Credit { epoch, messages };
            self.mesh.post(usize::from(shard), credit);
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

    /// Applies the ACK timeout, see `Link::stall`. False: there may be more that are due; the rest waits for
    /// the next tick.
    pub(super) fn check_stalls(&mut self) -> bool {
        let mut left = STALLED_CLOSED_MAX;
        let timeout_ns = u64::try_from(self.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut unread_bytes = 0;
        for slot in self.links.slots() {
            let Some(connection) = self.links.get_mut(slot) else {
                continue;
            };
            if !connection.is_up() {
                continue;
            }
            let with_kernel = self.io.unread_bytes(&connection.socket);
            unread_bytes += with_kernel as u64;
            let unread = !connection.sending.is_idle() || with_kernel > 0;
            let lane = self.engine.lane_of(connection.epoch);
            let full = lane.is_some_and(|lane| self.engine.is_full(lane));
            if let Some(stall) = connection
                .link
                .stall(self.awake_ns, timeout_ns, unread, full)
            {
                let why = format!(
                    "no ACK for {} with {} un-ACKed: {stall}",
                    Time(self.config.ack_timeout),
                    connection.link.unacked()
                );
                self.kill(slot, &why, Some(Reason::AckStalled));
                left -= 1;
                if left == 0 {
                    return false;
                }
            }
        }
        self.links_unread_bytes = unread_bytes;
        true
    }

    /// A full lane whose link is on another shard, which cannot see that: the link's owner is told
    /// when no ACK came for the timeout.
    pub(super) fn check_remote_lanes(&mut self) {
        let timeout_ns = u64::try_from(self.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut still_full = BTreeMap::new();
        for (epoch, home, acked) in self.engine.full_lanes_of_others() {
            let known = self
                .remote_full
                .get(&epoch)
                .filter(|(before, _)| *before == acked);
            let since_ns = known.map_or(self.awake_ns, |(_, since_ns)| *since_ns);
            still_full.insert(epoch, (acked, since_ns));
            if self.awake_ns - since_ns >= timeout_ns {
                self.mesh
                    .post(usize::from(home), Message::Stalled { epoch });
            }
        }
        self.remote_full = still_full;
    }

    /// Another shard's lane to one of this shard's links is full and gets no ACK. It may be this shard that did not
    /// run: then the analyzer has not even been sent what it is to ACK. The other shard asks again.
    pub(super) fn on_stalled(&mut self, epoch: LinkEpoch) {
        let timeout_ns = u64::try_from(self.config.ack_timeout.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.links_up.get(&epoch).copied();
        let slot = slot.filter(|slot| {
            let connection = self.links.get(*slot);
            connection.is_some_and(|it| it.link.is_overdue(self.awake_ns, timeout_ns))
        });
        if let Some(slot) = slot {
            let why = format!(
                "no ACK for {} on another shard: {}",
                Time(self.config.ack_timeout),
                Stall::WindowFull
            );
            self.kill(slot, &why, Some(Reason::AckStalled));
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
                let sent = self.say(slot, |out| out.extend_from_slice(&native::DRAIN));
                if let Some(connection) = self.links.get_mut(slot) {
                    connection.drain_sent = sent;
                }
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

impl<I: Io> Connection<I> {
    /// It gets messages.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }
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
