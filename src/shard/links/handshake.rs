//! Analyzers' handshakes: from accept to a sink that is known.
//!
//! ```text
//! accept -> Detecting -> Greeting (HELLO) --> settle_down -> up.rs
//!                    `-> first weight -------^            `-> Leaving -> hand_over -> up.rs there
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use super::connection::{Connection, HandOverFacts, Sending, Stage};
use super::Links;
use crate::context::{Context, TICK_HANDSHAKE};
use crate::mesh::{HandOver, Mesh, Message};
use crate::port::{Group, Io};
use crate::slab::{bare, token, Kind, Slot};
use weir_config::{AnalyzerIds, Protection};
use weir_engine::{Link, LinkEpoch, Reach, Reason, Window};
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::native::{HelloReader, NativeError, SHARD_NONE};
use weir_protocol::text::check_name;
use weir_sink::detect::{DetectError, Detection, Detector, DETECT_MS_MAX, SILENCE_MS};
use weir_sink::Sink;

const MS: u64 = 1_000_000;
/// A connection that says nothing at all is closed after this.
const MUTE_MS_MAX: u64 = 10_000;
/// To an analyzer without one where ids are those of certificates.
const NO_CERTIFICATE: &str =
    "it has shown no certificate, and ids are those of certificates (--analyzers-tls-ids certificate)";
/// The same while more than half of the permits are taken.
const MUTE_MS_MAX_SHORT: u64 = 1_000;

impl<I: Io> Links<I> {
    pub(crate) fn add(&mut self, cx: &mut Context<I>, socket: I::Socket) {
        let allowed = &cx.live.protection.allow_analyzers;
        if !allowed.is_empty() {
            let reason = match cx.io.peer(&socket) {
                None => Some(Reason::AddressUnknown),
                Some(peer) if allowed.allows(peer.ip()) => None,
                Some(_) => Some(Reason::AddressNotAllowed),
            };
            if let Some(reason) = reason {
                cx.engine.counters.count(reason);
                return;
            }
        }
        let peer = cx.io.peer(&socket);
        let certificate = cx.certificate_of(&socket);
        let address = peer.map(|peer| cx.customer(peer.ip(), certificate.as_deref()));
        if let Some(oldest) = self.permits.to_displace(address, cx.awake_ns) {
            let why = "it had not spoken, and others wanted its place";
            self.close_link(cx, oldest, why, Some(Reason::HandshakeDisplaced));
        }
        let name = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let detector = Detector::new(cx.config.dialect);
        let stage = Stage::Detecting {
            detector,
            first_byte_ns: None,
            last_byte_ns: cx.awake_ns,
        };
        let slot = self.insert_connection(cx, socket, stage, name.into(), certificate);
        let turn = self.permits.enter(slot, address, cx.awake_ns);
        if let Some(connection) = self.table.get_mut(slot) {
            connection.turn_to_speak = Some(turn);
        }
        cx.tick_within(TICK_HANDSHAKE);
        self.receive_once(cx, slot);
    }

    /// Descriptors may have run out: who has not spoken needs none.
    pub(crate) fn let_overdue_go(&mut self, cx: &mut Context<I>) {
        if let Some(overdue) = self.permits.overdue(cx.awake_ns) {
            let why = "it had not spoken, and a connection could not be accepted";
            self.close_link(cx, overdue, why, Some(Reason::HandshakeDisplaced));
        }
    }

    pub(super) fn insert_connection(
        &mut self,
        cx: &mut Context<I>,
        socket: I::Socket,
        stage: Stage,
        name: Arc<str>,
        certificate: Option<Arc<str>>,
    ) -> Slot {
        if let Err(error) = cx.io.prepare_link(&socket) {
            log::warn!("analyzer {name}: TCP_NODELAY or TCP_QUICKACK not set: {error}");
        }
        let worth_it = cx.config.zero_copy_loopback || !cx.io.is_on_this_host(&socket);
        let zero_copy = cx.io.zero_copy(&socket) && cx.config.zero_copy_bytes > 0 && worth_it;
        let peer = cx.io.peer(&socket);
        self.table.insert(Connection {
            socket,
            stage,
            accepted_ns: cx.awake_ns,
            peer,
            turn_to_speak: None,
            certificate,
            counted: None,
            up_ns: 0,
            takeovers: 0,
            receiving: false,
            name,
            epoch: LinkEpoch(0),
            // Of nobody: what it speaks is known when it comes up, and the link is another then.
            link: Link::new(Sink::Compact, cx.awake_ns),
            window: Window::ANY,
            sending: Sending::default(),
            forwarded: (0..cx.config.shards).map(|_| VecDeque::new()).collect(),
            turn: 0,
            must_continue: None,
            zero_copy,
            pumped: false,
            is_behind: false,
            drain_sent: false,
            bad_weight_logged: false,
            last_credits: Vec::new(),
        })
    }

    /// During the handshake receives are single, so that nothing is in the kernel's hands when the
    /// socket goes to another shard.
    pub(super) fn receive_once(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        connection.receiving = true;
        let token = token(Kind::LinkReceive, slot);
        cx.io
            .receive_once(&connection.socket, Group::Control, token);
    }

    pub(super) fn on_detection(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        found: Result<Detection, DetectError>,
        rest: &[u8],
    ) {
        match found {
            Ok(Detection::NeedMore) => {}
            Ok(Detection::Analyzer {
                sink,
                weight: Some(weight),
            }) => self.on_first_weight(cx, slot, sink, weight, rest),
            Ok(Detection::Analyzer { sink, weight: None }) => {
                let Some(connection) = self.table.get_mut(slot) else {
                    return;
                };
                let reader = Box::<HelloReader>::default();
                connection.stage = Stage::Greeting {
                    sink,
                    reader,
                    first_byte_ns: cx.awake_ns,
                };
                self.on_greeting(cx, slot, rest);
            }
            Err(error) => {
                let (reason, kind) = match error {
                    DetectError::FirstWeight { .. } | DetectError::Implausible { .. } => {
                        (Reason::FirstWeightInvalid, "first_weight_invalid")
                    }
                    DetectError::Foreign(foreign) => (Reason::ForeignProtocol, foreign.as_str()),
                    DetectError::Incomplete { .. } => (Reason::HandshakeTimeout, "mute"),
                };
                if kind == Foreign::Tls.as_str() {
                    cx.engine.counters.count(Reason::TlsOnPlainPort);
                }
                let why = error.to_string();
                if error.is_of_emitter() {
                    // It takes an end of stream for a graceful close, and an answer for an error. To an analyzer
                    // words are the length of a frame: it would make room for 1.7 GB.
                    self.say(cx, slot, |out| {
                        out.extend_from_slice(format!("{why}\r\n").as_bytes())
                    });
                }
                self.kill_as(cx, slot, &why, Some(reason), kind);
            }
        }
    }

    /// One that does not greet: a weight is all that it says of itself.
    fn on_first_weight(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        weight: f64,
        rest: &[u8],
    ) {
        if !shows_token(&cx.live.protection, &[]) {
            let why =
                "its dialect has no place for a token, and --analyzer-token-file asks for one";
            self.close_link(cx, slot, why, Some(Reason::TokenRefused));
            return;
        }
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let is_bound = cx.config.tls.analyzers_tls_ids == AnalyzerIds::Certificate;
        if is_bound && connection.certificate.is_none() {
            self.close_link(cx, slot, NO_CERTIFICATE, Some(Reason::IdNotCertified));
            return;
        }
        let mut unread = Vec::new();
        if let Stage::Detecting { detector, .. } = &connection.stage {
            unread.extend_from_slice(detector.replay(sink));
        }
        unread.extend_from_slice(rest);
        let name = Arc::clone(&connection.name);
        let facts = HandOverFacts {
            sink,
            name,
            instance: None,
            weight,
            window: Window::ANY,
            unread,
        };
        self.settle_down(cx, slot, self.home_for_single_link(cx), facts);
    }

    /// The shard with the fewest single links; this one when it is among them. The kernel's choice
    /// would leave some shards with all of them and others with none.
    fn home_for_single_link(&self, cx: &Context<I>) -> usize {
        let mut links = vec![0u32; cx.config.shards];
        for entry in &cx.roster.entries {
            if let Reach::SingleLink { home, .. } = entry.reach {
                links[usize::from(home)] += 1;
            }
        }
        let own = usize::from(cx.index);
        let least = links.iter().copied().min().unwrap_or(0);
        if links[own] == least {
            return own;
        }
        links
            .iter()
            .position(|count| *count == least)
            .unwrap_or(own)
    }

    pub(super) fn on_greeting(&mut self, cx: &mut Context<I>, slot: Slot, mut bytes: &[u8]) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let Stage::Greeting { sink, reader, .. } = &mut connection.stage else {
            return;
        };
        let (sink, socket) = (*sink, &connection.socket);
        let seen = bytes;
        let hello = match reader.next(&mut bytes) {
            None => return,
            Some(Err(error)) => {
                self.refuse_greeting(cx, slot, sink, error, seen);
                return;
            }
            Some(Ok(hello)) => hello,
        };
        let shards = cx.config.shards;
        let to = hello.shard.map_or(usize::from(cx.index), usize::from);
        let shows_token = shows_token(&cx.live.protection, hello.token);
        let why = if let Err(why) = check_name(hello.id) {
            format!("analyzer {why}")
        } else if !shows_token {
            cx.engine.counters.count(Reason::TokenRefused);
            match hello.token.is_empty() {
                true => "no token shown, this distributor asks for one".to_owned(),
                false => "the token is not the one that this distributor asks for".to_owned(),
            }
        } else if let Err(why) = id_of_certificate(cx, socket, hello.id) {
            self.refuse(cx, slot, sink, &why, Reason::IdNotCertified);
            return;
        } else if hello.shard == Some(SHARD_NONE) {
            self.say_refused(cx, slot, sink, "no shard asked for");
            self.hang_up(cx, slot);
            return;
        } else if to >= shards {
            format!("shard {to} asked for, there are {shards}")
        } else {
            let wish = |value: u64| if value == 0 { u64::MAX } else { value };
            let facts = HandOverFacts {
                sink,
                name: hello.id.into(),
                instance: hello.instance,
                weight: hello.weight,
                window: Window {
                    messages: wish(u64::from(hello.window_messages)),
                    bytes: wish(hello.window_bytes),
                    described: hello.forms,
                },
                unread: bytes.to_vec(),
            };
            self.settle_down(cx, slot, to, facts);
            return;
        };
        self.refuse(cx, slot, sink, &why, Reason::HandshakeInvalid);
    }

    /// What came is no HELLO.
    fn refuse_greeting(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        sink: Sink,
        error: NativeError,
        seen: &[u8],
    ) {
        let named = match error {
            NativeError::Magic => foreign::recognize(seen),
            _ => None,
        };
        match named {
            Some(foreign) => {
                let (reason, kind) = (Reason::ForeignProtocol, foreign.as_str());
                self.kill_as(cx, slot, &foreign.sentence(), Some(reason), kind);
            }
            None => {
                let why = error.to_string();
                self.refuse(cx, slot, sink, &why, Reason::HandshakeInvalid);
            }
        }
    }

    /// What it speaks is known: bring the link up here, or give it to the shard that shall own it.
    fn settle_down(&mut self, cx: &mut Context<I>, slot: Slot, to: usize, facts: HandOverFacts) {
        self.leave_place(slot);
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if to == usize::from(cx.index) {
            connection.stage = Stage::Settling;
            self.bring_up(cx, slot, facts);
            return;
        }
        connection.stage = Stage::Leaving {
            to,
            hand_over: Box::new(facts),
        };
        if connection.receiving {
            cx.io
                .cancel(token(Kind::LinkReceive, slot), bare(Kind::Cancel));
        }
    }

    pub(super) fn hand_over(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.table.remove(slot) else {
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
            sink,
            name,
            instance,
            weight,
            window,
            unread,
        } = *facts;
        let hand_over = HandOver {
            socket: connection.socket,
            sink,
            name,
            instance,
            weight,
            window,
            unread,
        };
        cx.mesh.post(to, Message::HandOver(Box::new(hand_over)));
    }

    /// Handshakes that take too long.
    pub(crate) fn check_handshakes(&mut self, cx: &mut Context<I>) {
        let now_ns = cx.awake_ns;
        let passed = |since: u64, ms: u64| now_ns.saturating_sub(since) >= ms * MS;
        let mute_ms_max = match self.permits.is_short() {
            true => MUTE_MS_MAX_SHORT,
            false => MUTE_MS_MAX,
        };
        for slot in self.permits.slots() {
            let Some(connection) = self.table.get_mut(slot) else {
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
            self.on_detection(cx, slot, found, &[]);
        }
    }
}

/// An analyzer whose certificate is known has one of its names for an id, so that nobody takes the place of another.
fn id_of_certificate<I: Io>(cx: &Context<I>, socket: &I::Socket, id: &str) -> Result<(), String> {
    let policy = cx.config.tls.analyzers_tls_ids;
    let certificate = match policy {
        AnalyzerIds::Any => return Ok(()),
        AnalyzerIds::Auto | AnalyzerIds::Certificate => cx.io.certificate(socket),
    };
    match certificate {
        Some(certificate) if certificate.may_be_called(id) => Ok(()),
        Some(certificate) => {
            let names = certificate.names_shown();
            Err(format!("id {id:?} is none of the names of its certificate ({names}); it is to have one of them, with # and more behind it or not; or --analyzers-tls-ids any"))
        }
        None if policy == AnalyzerIds::Auto => Ok(()),
        None => Err(NO_CERTIFICATE.to_owned()),
    }
}

/// Who has no token to show may connect only where none is asked for. Compared in constant time.
fn shows_token(protection: &Protection, shown: &[u8]) -> bool {
    let asked = protection.analyzer_token.as_ref();
    asked.is_none_or(|token| token.accepts(shown))
}
