//! Work on handshakes: within the budget of a turn, within their deadlines; and what is said of those that fail.

use std::net::IpAddr;
use std::sync::Arc;

use super::accept::{Handshake, Stage, Whose, LOOK_AGAIN_NS};
use super::socket::{peer_of, send_now, Owner, Secured, Socket};
use super::Tls;
use crate::uring::Ring;
use weir_clock::monotonic_ns;
use weir_tls::{begins_tls, Failure, FailureKind};

/// A handshake whose peer has not come further for so long gives its place to another.
const DISPLACED_AFTER_NS: u64 = 1_000_000_000;
/// From the accept to its end.
const DEADLINE_NS: u64 = 10_000_000_000;
/// A port that takes both waits so long for the first byte: who says nothing speaks no TLS.
const SILENCE_NS: u64 = 1_000_000_000;
/// Work on handshakes in a turn: 2 or 3 of them, 1 or 2 with certificates of clients. What others send waits so long.
const BUDGET_NS: u64 = 250_000;
/// Time that passes between two looks counts for no more than this: a process that stood still judges nobody.
const STEP_NS_MAX: u64 = 150_000_000;

impl Tls {
    /// Works on handshakes, as far as the budget of a turn goes; looks at their deadlines.
    pub(super) fn go_on_with_handshakes(&mut self, ring: &mut Ring, now_ns: u64) {
        let all = &mut self.handshakes;
        let passed_ns = now_ns.saturating_sub(all.looked_ns).min(STEP_NS_MAX);
        all.looked_ns = now_ns;
        all.clock_ns += passed_ns;
        let from_ns = monotonic_ns();
        while let Some(number) = self.handshakes.due.pop_front() {
            self.work_on(ring, number);
            if monotonic_ns() - from_ns >= BUDGET_NS {
                break;
            }
        }
        if self.handshakes.clock_ns >= self.handshakes.checked_ns + LOOK_AGAIN_NS {
            self.handshakes.checked_ns = self.handshakes.clock_ns;
            self.check_deadlines(ring);
            self.check_crowds(ring);
            self.accept_everywhere(ring);
            self.check_halves();
        }
    }

    fn work_on(&mut self, ring: &mut Ring, number: u32) {
        let Some(handshake) = self.handshakes.get(number) else {
            return;
        };
        handshake.is_due = false;
        let Stage::Shaking(connection) = &handshake.stage else {
            return;
        };
        let connection = Arc::clone(connection);
        let mut bytes = std::mem::take(&mut handshake.bytes);
        let (opened, is_established, has_ended) = {
            let mut guard = connection.lock();
            let stream = &mut *guard;
            let (early, wire) = (&mut stream.early, &mut stream.out.wire);
            let opened = stream.session.open(
                &mut bytes,
                &mut |bytes| early.extend_from_slice(bytes),
                wire,
            );
            (
                opened,
                stream.session.is_established(),
                stream.session.has_ended(),
            )
        };
        if opened.is_ok() {
            let is_answered = !connection.lock().out.wire.is_empty();
            let clock_ns = self.handshakes.clock_ns;
            if let Some(handshake) = self.handshakes.get(number).filter(|_| is_answered) {
                handshake.got_further(clock_ns);
                handshake.is_answered = true;
            }
            self.pump(ring, &connection);
        }
        match opened {
            Err(failure) if is_established && !connection.is_link => {
                // What came before it counts: the shard has that, and then the end.
                say_alert(&connection);
                self.refuse(&connection, &failure);
                self.established(ring, number, connection);
            }
            Err(failure) => {
                say_alert(&connection);
                // Who has been answered speaks TLS: its next records begin otherwise.
                let is_first = connection.lock().session.version() == "none";
                let is_broken = is_first && failure.kind == FailureKind::Protocol;
                let plain = match connection.is_link {
                    true => Failure::of_plain_answer(&bytes),
                    false => (begins_tls(&bytes) == Some(false)).then(plain_spoken),
                };
                let failure = plain.filter(|_| is_broken).unwrap_or(failure);
                let whose = self.end_handshake(number).map(|handshake| handshake.whose);
                self.refuse(&connection, &failure);
                if let Some(whose) = whose {
                    self.after_end(ring, whose);
                }
            }
            Ok(()) if is_established => self.established(ring, number, connection),
            Ok(()) if has_ended => self.closed(ring, number),
            Ok(()) => self.listen_to(ring, number),
        }
    }

    /// The handshake is done.
    fn established(&mut self, ring: &mut Ring, number: u32, connection: Arc<Secured>) {
        let is_resumed = connection.lock().session.is_resumed();
        if let Some(Handshake {
            whose: Whose::Port(at),
            network,
            ..
        }) = self.handshakes.get(number)
        {
            let (at, network) = (*at, *network);
            self.handshakes.ports[at].past.note_through(network);
        }
        if let Some(counts) = self.handshakes.counts_of(&connection.port) {
            counts.established += 1;
            counts.resumed += u64::from(is_resumed);
        }
        self.ready(ring, number, || Socket::Secured(Owner(connection)));
    }

    fn check_deadlines(&mut self, ring: &mut Ring) {
        let clock_ns = self.handshakes.clock_ns;
        let mut stuck = Vec::new();
        for number in 0..self.handshakes.all.len() as u32 {
            let is_crowded = self.handshakes.is_crowded(number, self.places);
            let Some(handshake) = self.handshakes.get(number) else {
                continue;
            };
            let is_late = clock_ns >= handshake.since_ns + DEADLINE_NS;
            let is_stuck = clock_ns >= handshake.further_ns + DISPLACED_AFTER_NS;
            match &handshake.stage {
                Stage::Looked(_) if clock_ns >= handshake.since_ns + SILENCE_NS => {
                    self.let_in_silent(ring, number);
                }
                Stage::Between => {}
                _ if handshake.is_due => {}
                _ if is_late => self.too_slow(ring, number),
                _ if is_stuck && is_crowded => stuck.push(number),
                Stage::LookAgain(_, at_ns) if clock_ns >= *at_ns && handshake.request.is_none() => {
                    self.listen_to(ring, number);
                }
                _ => {}
            }
        }
        for number in stuck {
            self.displace(ring, number);
        }
    }

    /// Who says nothing at a port that takes both is let in as it is. What looks at it ends first.
    pub(super) fn let_in_silent(&mut self, ring: &mut Ring, number: u32) {
        let Some(handshake) = self.handshakes.get(number) else {
            return;
        };
        if let Some(look) = handshake.request.take() {
            ring.cancel(look, super::CANCEL);
        }
        let stage = std::mem::replace(&mut handshake.stage, Stage::Between);
        if let Stage::Looked(fd) = stage {
            self.ready(ring, number, || Socket::Plain(fd));
        }
    }

    fn too_slow(&mut self, ring: &mut Ring, number: u32) {
        let text = "its handshake was not done within 10 s";
        self.give_up(ring, number, &Failure::new(FailureKind::Timeout, text));
    }

    fn displace(&mut self, ring: &mut Ring, number: u32) {
        let places = self.places;
        let text = format!(
            "{places} handshakes were under way, and this one had come no further for a second"
        );
        self.give_up(ring, number, &Failure::new(FailureKind::Crowded, text));
    }

    pub(super) fn give_up(&mut self, ring: &mut Ring, number: u32, failure: &Failure) {
        let Some(handshake) = self.end_handshake(number) else {
            return;
        };
        self.refuse_begun(&handshake, failure);
        self.after_end(ring, handshake.whose);
    }

    /// A connection whose handshake came to nothing.
    pub(super) fn refuse_begun(&mut self, handshake: &Handshake, failure: &Failure) {
        match (&handshake.stage, handshake.whose) {
            (Stage::Shaking(connection), _) => self.refuse(connection, failure),
            (Stage::Announced(fd) | Stage::LookAgain(fd, _), Whose::Port(at)) => {
                let port = self.handshakes.name_of(at);
                self.note_refused(&port, peer_of(fd), failure);
            }
            _ => {}
        }
    }

    /// The same, and nothing is said of it.
    pub(super) fn count_begun(&mut self, handshake: &Handshake, kind: FailureKind) {
        match (&handshake.stage, handshake.whose) {
            (Stage::Shaking(connection), _) => self.count(&connection.port, kind),
            (Stage::Announced(_) | Stage::LookAgain(..), Whose::Port(at)) => {
                let port = self.handshakes.name_of(at);
                self.count(&port, kind);
            }
            _ => {}
        }
    }

    /// A connection that came to nothing, or broke.
    pub(super) fn refuse(&mut self, connection: &Secured, failure: &Failure) {
        let failure = match connection.is_link {
            false => failure.clone(),
            true => failure.clone().of_url(),
        };
        // Whoever holds the connection may say it where it ends, as often as it does.
        let _ = connection.failure.set(failure.to_string().into());
        match connection.is_link {
            false => self.note_refused(&connection.port, connection.peer, &failure),
            true => self.note_broken(connection, &failure),
        }
    }

    pub(super) fn count(&mut self, port: &str, kind: FailureKind) {
        if let Some(counts) = self.handshakes.counts_of(port) {
            counts.refused[kind as usize] += 1;
        }
    }

    /// A stream ended without close_notify.
    pub(super) fn note_truncated(&mut self, port: &str) {
        if let Some(counts) = self.handshakes.counts_of(port) {
            counts.truncated += 1;
        }
    }

    /// Counted, and said: a peer that comes again and again is said once in a while.
    pub(super) fn note_refused(&mut self, port: &str, peer: Option<IpAddr>, failure: &Failure) {
        self.count(port, failure.kind);
        let about = match &failure.whose {
            Some(name) => format!("{port} {name}"),
            None => port.to_owned(),
        };
        let Some(tail) = (self.notice)(&about, peer, failure.cause) else {
            return;
        };
        let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
        log::warn!("{port}: {peer} refused: {failure}{tail}");
    }

    /// The shard says that its connection has failed, and this why.
    fn note_broken(&self, connection: &Secured, failure: &Failure) {
        let id = &connection.port;
        let about = format!("analyzer {id:?}");
        let said = (self.notice)(&about, connection.peer, failure.cause);
        if let (Some(tail), Some(peer)) = (said, connection.peer) {
            log::warn!("{about}: TLS with {peer}: {failure}{tail}");
        }
    }
}

/// Tells the peer why, before its connection closes: as much as fits at once.
fn say_alert(connection: &Secured) {
    let mut stream = connection.lock();
    let wire = std::mem::take(&mut stream.out.wire);
    if !stream.out.is_under_way && !wire.is_empty() {
        let _ = send_now(&connection.fd, wire.bytes());
    }
}

fn plain_spoken() -> Failure {
    Failure::new(
        FailureKind::Plain,
        "it does not speak TLS, and this port takes nothing else; it is to be told to, or the port to take both (tls = \"optional\")",
    )
}
