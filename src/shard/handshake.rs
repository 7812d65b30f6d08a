//! Analyzers' handshakes: from accept to a link that is up, here or on another shard.
//!
//! ```text
//! accept -> Detecting -> Greeting (native) -> settle_down -> bring_up -> roster
//!                    `-> reference dialect -^            `-> Leaving -> hand_over -> bring_up there
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::admission::customer;
use super::egress::Sending;
use super::links::{Connection, HandOverFacts, Stage};
use super::mesh::{HandOver, Mesh, Message};
use super::port::Io;
use super::slab::{bare, token, Kind, Slot};
use super::worker::{Worker, TICK_HANDSHAKE};
use crate::port::{Completion, Group};
use weir_config::Protection;
use weir_engine::{Change, Entry, Link, LinkEpoch, Reach, Reason, Window};
use weir_protocol::detect::{DetectError, Detection, Detector, DETECT_MS_MAX, SILENCE_MS};
use weir_protocol::native::{HelloReader, NativeError, Welcome};
use weir_protocol::text::{check_name, Field};
use weir_protocol::{foreign, Dialect, WeightText};

const MS: u64 = 1_000_000;
/// A connection that says nothing at all is closed after this.
const MUTE_MS_MAX: u64 = 10_000;
/// The same while more than half of the places are taken.
const MUTE_MS_MAX_SHORT: u64 = 1_000;
/// A weight that differs from the nearest other by this factor is worth a warning.
const FAR: f64 = 1_000.0;

impl<I: Io> Worker<I> {
    pub(super) fn on_accept_analyzer(&mut self, completion: Completion) {
        match self.io.accepted(&completion) {
            Ok(socket) => self.add_analyzer(socket),
            Err(error) => self.on_accept_error(&error),
        }
        self.accept_next(&completion);
    }

    fn add_analyzer(&mut self, socket: I::Socket) {
        let allowed = &self.live.protection.allow_analyzers;
        if !allowed.is_empty() {
            let reason = match self.io.peer(&socket) {
                None => Some(Reason::AddressUnknown),
                Some(peer) if allowed.allows(peer.ip()) => None,
                Some(_) => Some(Reason::AddressNotAllowed),
            };
            if let Some(reason) = reason {
                self.engine.counters.count(reason);
                return;
            }
        }
        let peer = self.io.peer(&socket);
        let address = peer.map(|peer| customer(peer.ip()));
        if let Some(oldest) = self.places.to_go(address, self.awake_ns) {
            let why = "it had not spoken, and others wanted its place";
            self.kill(oldest, why, Some(Reason::HandshakeDisplaced));
        }
        let name = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let detector = Detector::new(self.config.dialect);
        let stage = Stage::Detecting {
            detector,
            first_byte_ns: None,
            last_byte_ns: self.awake_ns,
        };
        let slot = self.insert_connection(socket, stage, name.into());
        let turn = self.places.enter(slot, address, self.awake_ns);
        if let Some(connection) = self.links.get_mut(slot) {
            connection.turn_to_speak = Some(turn);
        }
        // Sooner, never later: a stream of connections must not keep housekeeping waiting.
        let soon_ns = self.now_ns + TICK_HANDSHAKE.as_nanos() as u64; // a constant below a second
        self.next_tick_ns = self.next_tick_ns.min(soon_ns);
        self.receive_once(slot);
    }

    fn insert_connection(&mut self, socket: I::Socket, stage: Stage, name: Arc<str>) -> Slot {
        if let Err(error) = self.io.prepare_link(&socket) {
            log::warn!("analyzer {name}: TCP_NODELAY or TCP_QUICKACK not set: {error}");
        }
        let worth_it = self.config.zero_copy_loopback || !self.io.is_on_this_host(&socket);
        let zero_copy = self.io.zero_copy() && self.config.zero_copy_bytes > 0 && worth_it;
        let peer = self.io.peer(&socket);
        self.links.insert(Connection {
            socket,
            stage,
            accepted_ns: self.awake_ns,
            peer,
            turn_to_speak: None,
            counted: None,
            up_ns: 0,
            takeovers: 0,
            receiving: false,
            name,
            epoch: LinkEpoch(0),
            link: Link::new(Dialect::Compact, self.awake_ns),
            window: Window::ANY,
            sending: Sending::default(),
            parcels: (0..self.config.shards).map(|_| VecDeque::new()).collect(),
            turn: 0,
            must_continue: None,
            zero_copy,
            pumped: false,
            drain_sent: false,
            bad_weight_logged: false,
            last_credits: Vec::new(),
        })
    }

    /// During the handshake receives are single, so that nothing is in the kernel's hands when the
    /// socket goes to another shard.
    pub(super) fn receive_once(&mut self, slot: Slot) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.receiving = true;
        let token = token(Kind::LinkReceive, slot);
        self.io
            .receive_once(&connection.socket, Group::Control, token);
    }

    pub(super) fn on_detection(
        &mut self,
        slot: Slot,
        found: Result<Detection, DetectError>,
        rest: &[u8],
    ) {
        match found {
            Ok(Detection::NeedMore) => {}
            Ok(Detection::Native) => {
                let Some(connection) = self.links.get_mut(slot) else {
                    return;
                };
                let reader = Box::<HelloReader>::default();
                connection.stage = Stage::Greeting {
                    reader,
                    first_byte_ns: self.awake_ns,
                };
                self.on_greeting(slot, rest);
            }
            Ok(Detection::Reference { dialect, weight }) => {
                self.on_reference(slot, dialect, weight, rest);
            }
            Err(error) => {
                let (reason, kind) = match error {
                    DetectError::FirstWeight { .. } | DetectError::Implausible { .. } => {
                        (Reason::FirstWeightInvalid, "first_weight_invalid")
                    }
                    DetectError::Foreign(foreign) => (Reason::ForeignProtocol, foreign.as_str()),
                    DetectError::Incomplete { .. } => (Reason::HandshakeTimeout, "mute"),
                };
                let why = error.to_string();
                if error.is_of_emitter() {
                    // It takes an end of stream for a farewell, and an answer for an error. To an analyzer
                    // words are the length of a frame: it would make room for 1.7 GB.
                    self.say(slot, |out| {
                        out.extend_from_slice(format!("{why}\r\n").as_bytes())
                    });
                }
                self.kill_as(slot, &why, Some(reason), kind);
            }
        }
    }

    fn on_reference(&mut self, slot: Slot, dialect: Dialect, weight: f64, rest: &[u8]) {
        if !shows_token(&self.live.protection, &[]) {
            let why =
                "its dialect has no place for a token, and --analyzer-token-file asks for one";
            self.kill(slot, why, Some(Reason::TokenRefused));
            return;
        }
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let mut unread = Vec::new();
        if let Stage::Detecting { detector, .. } = &connection.stage {
            unread.extend_from_slice(detector.replay(dialect));
        }
        unread.extend_from_slice(rest);
        let name = Arc::clone(&connection.name);
        let facts = HandOverFacts {
            dialect,
            name,
            instance: None,
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

    pub(super) fn on_greeting(&mut self, slot: Slot, mut bytes: &[u8]) {
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        let Stage::Greeting { reader, .. } = &mut connection.stage else {
            return;
        };
        let seen = bytes;
        let facts = match reader.next(&mut bytes) {
            None => return,
            Some(Err(error)) => {
                let named = match error {
                    NativeError::Magic => foreign::recognize(seen),
                    _ => None,
                };
                match named {
                    Some(foreign) => {
                        let (reason, kind) = (Reason::ForeignProtocol, foreign.as_str());
                        self.kill_as(slot, &foreign.sentence(), Some(reason), kind);
                    }
                    None => self.refuse(slot, &error.to_string(), Reason::HandshakeInvalid),
                }
                return;
            }
            Some(Ok(hello)) if check_name(hello.id).is_err() => {
                let why = check_name(hello.id).err().unwrap_or_default();
                self.refuse(slot, &format!("analyzer {why}"), Reason::HandshakeInvalid);
                return;
            }
            Some(Ok(hello)) if !shows_token(&self.live.protection, hello.token) => {
                self.engine.counters.count(Reason::TokenRefused);
                let why = match hello.token.is_empty() {
                    true => "no token shown, this distributor asks for one",
                    false => "the token is not the one that this distributor asks for",
                };
                self.refuse(slot, why, Reason::HandshakeInvalid);
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
                    instance: hello.instance,
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
            let why = format!("shard {to} asked for, there are {shards}");
            self.refuse(slot, &why, Reason::HandshakeInvalid);
            return;
        }
        self.settle_down(slot, to, facts);
    }

    /// The dialect is known: bring the link up here, or give it to the shard that shall own it.
    fn settle_down(&mut self, slot: Slot, to: usize, facts: HandOverFacts) {
        self.leave_place(slot);
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        if to == usize::from(self.index) {
            connection.stage = Stage::Settling;
            self.bring_up(slot, facts);
            return;
        }
        connection.stage = Stage::Leaving {
            to,
            hand_over: Box::new(facts),
        };
        if connection.receiving {
            self.io
                .cancel(token(Kind::LinkReceive, slot), bare(Kind::Cancel));
        }
    }

    pub(super) fn hand_over(&mut self, slot: Slot) {
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
            instance,
            weight,
            window,
            unread,
        } = *facts;
        let hand_over = HandOver {
            socket: connection.socket,
            dialect,
            name,
            instance,
            weight,
            window,
            unread,
        };
        self.mesh.post(to, Message::HandOver(Box::new(hand_over)));
    }

    /// Another shard accepted a connection that belongs here.
    pub(super) fn on_hand_over(&mut self, hand_over: HandOver<I::Socket>) {
        let HandOver {
            socket,
            dialect,
            name,
            instance,
            weight,
            window,
            unread,
        } = hand_over;
        let slot = self.insert_connection(socket, Stage::Settling, Arc::clone(&name));
        let facts = HandOverFacts {
            dialect,
            name,
            instance,
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
            instance,
            weight,
            window,
            unread,
        } = facts;
        let Some(connection) = self.links.get(slot) else {
            return;
        };
        let peer = self.io.peer(&connection.socket);
        let address = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let address: Arc<str> = address.into();
        let known = |entry: &Entry| dialect == Dialect::Native && entry.name == name;
        let by_arena = self.engine.lanes_max();
        let most = match self.config.analyzers_max {
            0 => by_arena,
            by_descriptors => by_arena.min(by_descriptors),
        };
        let taken = self.roster.entries.len().max(self.links_up.len());
        if taken >= most && !self.roster.entries.iter().any(known) {
            let limit = match most == by_arena {
                true => "the arena serves no more (--arena)",
                false => {
                    "descriptors are left for no more (RLIMIT_NOFILE, LimitNOFILE in the unit)"
                }
            };
            let why = format!("{most} analyzers are connected, {limit}");
            match dialect {
                Dialect::Native => self.refuse(slot, &why, Reason::TooManyAnalyzers),
                _ => self.kill(slot, &why, Some(Reason::TooManyAnalyzers)),
            }
            return;
        }
        let host = peer.map(|peer| peer.ip());
        let is_known = self.roster.entries.iter().any(known);
        let Some(counted) = self.count_link(slot, dialect, host, is_known) else {
            return;
        };
        let mut takeovers = 0;
        let name = if dialect == Dialect::Native {
            match self.claim(slot, &name, instance, &address) {
                Ok(before) => takeovers = before,
                Err(in_use) => {
                    self.leave_address(counted);
                    self.refuse_name(slot, name, &address, &in_use);
                    return;
                }
            }
            name
        } else {
            self.shared.names.reference(host, &address)
        };
        self.links_counted += 1;
        let epoch = LinkEpoch::new(self.index, self.links_counted);
        let now_ns = self.awake_ns;
        let Some(connection) = self.links.get_mut(slot) else {
            return;
        };
        connection.stage = Stage::Up;
        connection.epoch = epoch;
        connection.up_ns = now_ns;
        connection.takeovers = takeovers;
        connection.counted = counted;
        self.links_up.insert(epoch, slot);
        connection.link = match dialect {
            Dialect::Native => Link::new(dialect, now_ns),
            _ => Link::new(dialect, now_ns).numbered_from(self.io.first_link_number()),
        };
        connection.name = Arc::clone(&name);
        connection.window = window;
        self.engine.counters.links_up += 1;
        log::info!(
            "analyzer up link={} analyzer={} dialect={dialect} weight={} shard={} address={address}",
            epoch.0,
            Field(&name),
            WeightText(weight),
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
        self.warn_of_far_weight(slot, weight);
        if !unread.is_empty() {
            self.on_control(slot, &unread);
        }
    }

    /// Counts a link under its address, for `--max-per-address` analyzers: native ones have a link to each shard,
    /// others one alone. A known analyzer that comes again is not refused: the link that it had may not be gone
    /// yet. None: the connection was refused and closed.
    #[allow(clippy::option_option)] // refused; not counted; counted
    fn count_link(
        &mut self,
        slot: Slot,
        dialect: Dialect,
        host: Option<IpAddr>,
        is_known: bool,
    ) -> Option<Option<(IpAddr, usize)>> {
        let analyzers = self.config.protection.connections_per_address_max;
        if analyzers == 0 {
            return Some(None);
        }
        let shards = self.config.shards;
        let parts = if dialect == Dialect::Native {
            1
        } else {
            shards
        };
        let (why, reason) = match host {
            None => (
                "its address is not known any more".to_owned(),
                Reason::AddressUnknown,
            ),
            Some(host) => {
                let admission = &self.shared.admission;
                let fits = admission.enter_link(host, parts, analyzers.saturating_mul(shards));
                if fits || is_known {
                    return Some(Some((host, parts)));
                }
                admission.leave_link(host, parts);
                let why = format!(
                    "{analyzers} analyzers of its address are connected (--max-per-address)"
                );
                (why, Reason::AddressLimit)
            }
        };
        match dialect {
            Dialect::Native => self.refuse(slot, &why, reason),
            _ => self.kill(slot, &why, Some(reason)),
        }
        None
    }

    /// A link that was counted under its address is gone.
    pub(super) fn leave_address(&self, counted: Option<(IpAddr, usize)>) {
        if let Some((host, parts)) = counted {
            self.shared.admission.leave_link(host, parts);
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

    /// Says why, and closes.
    fn refuse(&mut self, slot: Slot, why: &str, reason: Reason) {
        self.say_refused(slot, why);
        self.kill(slot, why, Some(reason));
    }

    pub(super) fn say_refused(&mut self, slot: Slot, why: &str) {
        let welcome = Welcome {
            refused: Some(why),
            shard_count: u16::try_from(self.config.shards).unwrap_or(u16::MAX),
            shard_index: self.index,
            instance: self.config.instance,
            link_epoch: 0,
        };
        self.say(slot, |out| welcome.encode(out));
    }

    /// It has spoken, or is gone: its place is for others.
    pub(super) fn leave_place(&mut self, slot: Slot) {
        let connection = self.links.get_mut(slot);
        if let Some(turn) = connection.and_then(|connection| connection.turn_to_speak.take()) {
            self.places.leave(turn);
        }
    }

    /// Somebody should know of a weight beside which no other counts, or that counts beside no other.
    pub(super) fn warn_of_far_weight(&self, slot: Slot, weight: f64) {
        let Some(connection) = self.links.get(slot) else {
            return;
        };
        let name = &connection.name;
        let others = self.roster.entries.iter();
        let others = others.filter(|entry| entry.name != *name);
        let Some(nearest) = far_from(weight, others.map(Entry::effective_weight)) else {
            return;
        };
        let peer = connection.peer;
        let from = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let address = peer.map(|peer| peer.ip());
        if let Some(tail) = self
            .shared
            .notice("analyzers", address, "weight_far", self.now_ns)
        {
            log::warn!(
                "analyzer {}, peer {from}: weight {} is far from those of all others, the nearest is {}{tail}",
                Field(name),
                WeightText(weight),
                WeightText(nearest)
            );
        }
    }

    /// Handshakes that take too long.
    pub(super) fn check_handshakes(&mut self) {
        let now_ns = self.awake_ns;
        let passed = |since: u64, ms: u64| now_ns.saturating_sub(since) >= ms * MS;
        let mute_ms_max = match self.places.is_short() {
            true => MUTE_MS_MAX_SHORT,
            false => MUTE_MS_MAX,
        };
        for slot in self.places.slots() {
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
                Stage::Detecting { .. } if passed(accepted_ns, mute_ms_max) => {
                    Err(DetectError::Incomplete { bytes: 0 })
                }
                Stage::Greeting { first_byte_ns, .. } if passed(*first_byte_ns, mute_ms_max) => {
                    Err(DetectError::Incomplete { bytes: 0 })
                }
                _ => continue,
            };
            self.on_detection(slot, found, &[]);
        }
    }
}

/// Who has no token to show may connect only where none is asked for. Compared in constant time.
fn shows_token(protection: &Protection, shown: &[u8]) -> bool {
    let asked = protection.analyzer_token.as_ref();
    asked.is_none_or(|token| token.accepts(shown))
}

/// The weight among `others` that is nearest to `weight`, if even that is far; 0 counts as none.
fn far_from(weight: f64, others: impl Iterator<Item = f64>) -> Option<f64> {
    let ratio = |other: f64| (weight / other).max(other / weight);
    let others = others.filter(|other| *other > 0.0);
    let nearest = others.min_by(|a, b| ratio(*a).total_cmp(&ratio(*b)))?;
    (weight > 0.0 && ratio(nearest) >= FAR).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_far_from_all_others_or_it_is_not() {
        let far = |weight, others: &[f64]| far_from(weight, others.iter().copied());
        assert_eq!(far(50_516.0, &[0.4, 0.6]), Some(0.6));
        assert_eq!(far(1e-9, &[0.4, 0.6]), Some(0.4));
        assert_eq!(far(500.0, &[0.4, 0.6]), None);
        assert_eq!(far(50_516.0, &[0.4, 40_000.0]), None);
        assert_eq!(far(50_516.0, &[]), None);
        assert_eq!(
            far(50_516.0, &[0.0]),
            None,
            "who gets nothing does not count"
        );
        assert_eq!(far(0.0, &[0.4]), None);
        assert_eq!(far(1e308, &[1e-308]), Some(1e-308), "the ratio is infinite");
    }
}
