//! Connections that come to a port with TLS, until the shard may have them.
//!
//! ```text
//! accept --> looked at (tls = "optional": is it TLS?) --plain--> the shard
//!       `--> PROXY header (of a proxy: it goes to the shard in front of what was opened)
//!       `--> handshake: bytes in, work within the budget of a turn, bytes out --established--> the shard
//!                      `- refused, too slow, displaced: counted, said, closed
//! ```
//!
//! Each port has places of its own ([`Tls::new`]), so that a crowd at one keeps nobody from another; the crowd waits in the
//! kernel's backlog while all are taken. Who has got no further for a second gives its place to others then, and one of
//! a crowd sooner (crowd.rs): neither silence nor a byte now and then keeps anybody out.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use socket2::SockRef;

use super::crowd::{Network, Past};
use super::requests::Request;
use super::socket::{peer_of, Secured, Socket};
use super::{told, Tls};
use crate::uring::Ring;
use weir_config::AllowList;
use weir_shard::network_of;
use weir_shard::port::{Completion, TlsCounts};
use weir_source::proxy::{self, Proxied};
use weir_tls::{begins_tls, Facts, Failure, FailureKind, ServerPort, Session};

/// A byte alone does not tell what it is: looked at again after this.
pub(super) const LOOK_AGAIN_NS: u64 = 10_000_000;
/// Connections that are done and that the shard has not asked for.
const READY_MAX: usize = 256;

/// A port where TLS is spoken.
#[derive(Debug)]
pub struct SecuredPort {
    /// What it is called in logs.
    pub name: String,
    /// Who does not speak TLS is let in as well.
    pub is_optional: bool,
    /// What it serves.
    pub served: Arc<ServerPort>,
    /// A connection from here begins with a PROXY header, and TLS behind it.
    pub proxies: AllowList,
}

impl SecuredPort {
    fn expects_header(&self, fd: &OwnedFd) -> bool {
        !self.proxies.is_empty() && peer_of(fd).is_some_and(|peer| self.proxies.lists(peer))
    }
}

/// What listens with TLS: which port it is, and its descriptor for accepts.
#[derive(Clone)]
struct Listening {
    port: Arc<SecuredPort>,
    fd: RawFd,
}

/// What a port has counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) established: u64,
    pub(super) resumed: u64,
    pub(super) truncated: u64,
    /// By the number of the kind.
    pub(super) refused: [u64; FailureKind::ALL.len()],
}

/// Accepts at one listener.
pub(super) struct Port {
    listening: Listening,
    /// Accepts in the ring.
    under_way: u32,
    /// Its handshakes, or looks.
    pub(super) shaking: usize,
    at_once: u32,
    /// The shard has cancelled none of its accepts.
    is_open: bool,
    /// Tokens of the shard's accepts, and those of them that wait. None may wait for a moment: the shard asks again once
    /// it has taken what it was told of.
    tokens: Vec<u64>,
    wanted: VecDeque<u64>,
    ready: VecDeque<Socket>,
    /// The tokens of the accepts in the ring.
    raw: Vec<u64>,
    counts: Counts,
    pub(super) past: Past,
}

/// Who gets the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The next accept at the port of this number.
    Port(usize),
    /// The shard's connect with this token.
    Link(u64),
}

/// What a handshake waits for.
pub(super) enum Stage {
    /// Its first byte, without taking it.
    Looked(OwnedFd),
    /// The same, and a look at this time.
    LookAgain(OwnedFd, u64),
    /// The PROXY header before its handshake.
    Announced(OwnedFd),
    Shaking(Arc<Secured>),
    /// On its way from one to the next.
    Between,
}

/// What a receive of a handshake has brought.
enum Heard {
    /// Nothing that cannot wait.
    Nothing,
    /// More of a PROXY header.
    Announced(OwnedFd),
    /// Whether it is TLS, as far as can be told.
    Looked(OwnedFd, Option<bool>),
}

pub(super) struct Handshake {
    pub(super) whose: Whose,
    pub(super) stage: Stage,
    /// Whose it is, as limits count it: of a proxy's, whom the proxy names, once it has.
    pub(super) network: Network,
    /// Time of this shard's when it was accepted, and when it got further: it has had an answer, or its
    /// first bytes or its PROXY header were understood.
    pub(super) since_ns: u64,
    pub(super) further_ns: u64,
    /// Looks since then ([`LOOK_AGAIN_NS`]). A process that stood still has not looked.
    pub(super) looks: u32,
    pub(super) is_answered: bool,
    pub(super) has_spoken: bool,
    /// Received and not worked on.
    pub(super) bytes: Vec<u8>,
    /// It is in `due`.
    pub(super) is_due: bool,
    /// A receive or a look is in the ring.
    pub(super) request: Option<u64>,
}

impl Handshake {
    pub(super) fn got_further(&mut self, clock_ns: u64) {
        self.further_ns = clock_ns;
        self.looks = 0;
    }
}

/// All that are under way.
#[derive(Default)]
pub(super) struct Handshakes {
    pub(super) ports: Vec<Port>,
    pub(super) all: Vec<Option<Handshake>>,
    free: Vec<u32>,
    /// Those with bytes to work on, oldest first.
    pub(super) due: VecDeque<u32>,
    /// The time that this shard has run.
    pub(super) clock_ns: u64,
    pub(super) looked_ns: u64,
    pub(super) checked_ns: u64,
}

impl Handshakes {
    pub(super) fn count(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub(super) fn has_ports(&self) -> bool {
        !self.ports.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.due.is_empty()
    }

    /// What is counted at the port of this name.
    pub(super) fn counts_of(&mut self, port: &str) -> Option<&mut Counts> {
        let port = self
            .ports
            .iter_mut()
            .find(|one| one.listening.port.name == port);
        port.map(|port| &mut port.counts)
    }

    pub(super) fn counts(&self) -> Vec<TlsCounts> {
        let of = |port: &Port| {
            let refused = FailureKind::ALL.iter().zip(port.counts.refused);
            let served = port.listening.port.served.served();
            let shown = |fact: &Facts| (fact.serial.clone(), fact.not_after);
            TlsCounts {
                certificates: served.facts().map(shown).collect(),
                port: port.listening.port.name.clone(),
                under_way: port.shaking as u64,
                established: port.counts.established,
                resumed: port.counts.resumed,
                truncated: port.counts.truncated,
                refused: refused
                    .filter(|(_, count)| *count > 0)
                    .map(|(kind, count)| (kind.as_str(), count))
                    .collect(),
            }
        };
        self.ports.iter().map(of).collect()
    }

    /// The handshake of this number, if it waits for this request. It does not any more then.
    fn waits_for(&mut self, number: u32, token: u64) -> Option<&mut Handshake> {
        let handshake = self.get(number)?;
        handshake.request.take_if(|request| *request == token)?;
        Some(handshake)
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Handshake> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    /// What the port of this number is called.
    pub(super) fn name_of(&self, at: usize) -> String {
        self.ports[at].listening.port.name.clone()
    }

    /// The port that a handshake is of; none: it is a link's.
    fn port_of(&self, number: u32) -> Option<Arc<SecuredPort>> {
        match self.all.get(number as usize)?.as_ref()?.whose {
            Whose::Port(at) => Some(Arc::clone(&self.ports[at].listening.port)),
            Whose::Link(_) => None,
        }
    }

    fn add(&mut self, handshake: Handshake) -> u32 {
        if let Whose::Port(at) = handshake.whose {
            self.ports[at].shaking += 1;
        }
        match self.free.pop() {
            Some(number) => {
                self.all[number as usize] = Some(handshake);
                number
            }
            None => {
                self.all.push(Some(handshake));
                (self.all.len() - 1) as u32 // some thousands at most
            }
        }
    }

    /// The handshake of a connect of the shard's.
    pub(super) fn of_link(&self, token: u64) -> Option<u32> {
        let is_it = |one: &Option<Handshake>| {
            one.as_ref()
                .is_some_and(|one| one.whose == Whose::Link(token))
        };
        let at = self.all.iter().position(is_it)?;
        u32::try_from(at).ok()
    }

    pub(super) fn take(&mut self, number: u32) -> Option<Handshake> {
        let handshake = self.all.get_mut(number as usize)?.take()?;
        self.free.push(number);
        if let Whose::Port(at) = handshake.whose {
            self.ports[at].shaking -= 1;
        }
        if handshake.is_due {
            self.due.retain(|due| *due != number);
        }
        Some(handshake)
    }
}

impl Tls {
    /// The shard accepts one connection at a port with TLS.
    pub(crate) fn accept(
        &mut self,
        ring: &mut Ring,
        port: &Arc<SecuredPort>,
        fd: RawFd,
        at_once: u32,
        token: u64,
    ) {
        let ports = &mut self.handshakes.ports;
        let known = ports.iter().position(|known| known.listening.fd == fd);
        let at = known.unwrap_or_else(|| {
            ports.push(Port {
                listening: Listening {
                    port: Arc::clone(port),
                    fd,
                },
                under_way: 0,
                shaking: 0,
                at_once,
                is_open: true,
                tokens: Vec::new(),
                wanted: VecDeque::new(),
                ready: VecDeque::new(),
                raw: Vec::new(),
                counts: Counts::default(),
                past: Past::default(),
            });
            ports.len() - 1
        });
        let known = &mut ports[at].tokens;
        if !known.contains(&token) {
            known.push(token);
        }
        ports[at].wanted.push_back(token);
        self.hand_out(at);
        self.accept_more(ring, at);
    }

    /// Gives the shard what is ready, as far as it has asked.
    fn hand_out(&mut self, at: usize) {
        let port = &mut self.handshakes.ports[at];
        while !port.ready.is_empty() {
            let Some(token) = port.wanted.pop_front() else {
                return;
            };
            let Some(socket) = port.ready.pop_front() else {
                return;
            };
            if let Some(number) = self.accepted.add(socket) {
                self.told.push(told(token, 0, u32::from(number) << 16));
            }
        }
    }

    /// Accepts go on while there are places.
    fn accept_more(&mut self, ring: &mut Ring, at: usize) {
        let port = &mut self.handshakes.ports[at];
        let places = self.places.saturating_sub(port.shaking);
        if port.wanted.is_empty() || port.ready.len() >= READY_MAX {
            return;
        }
        while port.under_way < port.at_once && (port.under_way as usize) < places {
            let token = self.requests.add(Request::Accept(at));
            port.under_way += 1;
            port.raw.push(token);
            ring.accept(port.listening.fd, token);
        }
    }

    /// The same at each port, whatever has freed a place there.
    pub(super) fn accept_everywhere(&mut self, ring: &mut Ring) {
        for at in 0..self.handshakes.ports.len() {
            self.accept_more(ring, at);
        }
    }

    /// Ends an accept of the shard's, if it is one that came here. The port closes: a shard cancels all of them.
    pub(super) fn cancel_accept(&mut self, ring: &mut Ring, target: u64, cancel: u64) -> bool {
        let ports = &mut self.handshakes.ports;
        let Some(at) = ports.iter().position(|port| port.tokens.contains(&target)) else {
            return false;
        };
        let port = &mut ports[at];
        port.is_open = false;
        // Otherwise its completion is on the way.
        if let Some(nth) = port.wanted.iter().position(|token| *token == target) {
            port.wanted.remove(nth);
            self.told.push(told(target, -libc::ECANCELED, 0));
        }
        if port.wanted.is_empty() {
            port.ready.clear();
            for raw in std::mem::take(&mut port.raw) {
                ring.cancel(raw, cancel);
            }
            self.drop_all_of(at);
        }
        true
    }

    /// Nobody is listened for at a port any more: who has not finished its handshake has sent nothing.
    fn drop_all_of(&mut self, at: usize) {
        for number in 0..self.handshakes.all.len() as u32 {
            let is_its = self
                .handshakes
                .get(number)
                .is_some_and(|one| one.whose == Whose::Port(at));
            if is_its {
                self.end_handshake(number);
            }
        }
    }

    /// Its connection closes.
    pub(super) fn end_handshake(&mut self, number: u32) -> Option<Handshake> {
        let handshake = self.handshakes.take(number)?;
        if let Whose::Port(at) = handshake.whose {
            let held_ns = self.handshakes.clock_ns.saturating_sub(handshake.since_ns);
            let past = &mut self.handshakes.ports[at].past;
            past.note_failed(handshake.network, held_ns);
        }
        let fd = match &handshake.stage {
            Stage::Looked(fd) | Stage::LookAgain(fd, _) | Stage::Announced(fd) => fd.as_fd(),
            Stage::Shaking(connection) => connection.fd.as_fd(),
            Stage::Between => return Some(handshake),
        };
        // What is in the ring of it ends, and finds nobody.
        let _ = SockRef::from(&fd).shutdown(std::net::Shutdown::Both);
        Some(handshake)
    }

    pub(super) fn on_accept(&mut self, ring: &mut Ring, completion: Completion) {
        let Some(Request::Accept(at)) = self.requests.remove(completion.token) else {
            return;
        };
        let port = &mut self.handshakes.ports[at];
        port.under_way -= 1;
        port.raw.retain(|raw| *raw != completion.token);
        match ring.accepted(&completion) {
            Ok(fd) if !port.is_open => drop(fd),
            Ok(fd) => {
                let _ = SockRef::from(&fd).set_tcp_nodelay(true);
                let listening = port.listening.clone();
                self.begin(ring, at, &listening.port, fd);
            }
            // The shard counts it, and asks again after a while.
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                if errno != libc::ECANCELED {
                    if let Some(token) = port.wanted.pop_front() {
                        self.told.push(told(token, -errno, 0));
                    }
                }
                return;
            }
        }
        self.accept_more(ring, at);
    }

    fn begin(&mut self, ring: &mut Ring, at: usize, port: &SecuredPort, fd: OwnedFd) {
        let stage = match port.is_optional {
            true => Ok(Stage::Looked(fd)),
            false => first_stage(port, fd),
        };
        match stage {
            Ok(stage) => self.shake(ring, Whose::Port(at), stage),
            Err(failure) => self.note_refused(&port.name, None, &failure),
        }
    }

    /// A handshake begins.
    pub(super) fn shake(&mut self, ring: &mut Ring, whose: Whose, stage: Stage) {
        let clock_ns = self.handshakes.clock_ns;
        let peer = match &stage {
            Stage::Shaking(connection) => connection.peer,
            Stage::Looked(fd) | Stage::LookAgain(fd, _) | Stage::Announced(fd) => peer_of(fd),
            Stage::Between => None,
        };
        let number = self.handshakes.add(Handshake {
            whose,
            stage,
            network: peer.map(network_of),
            since_ns: clock_ns,
            further_ns: clock_ns,
            looks: 0,
            is_answered: false,
            has_spoken: false,
            bytes: Vec::new(),
            is_due: false,
            request: None,
        });
        self.listen_to(ring, number);
    }

    /// Starts the next receive, or the next look.
    pub(super) fn listen_to(&mut self, ring: &mut Ring, number: u32) {
        let Some(handshake) = self.handshakes.get(number) else {
            return;
        };
        let token = self.requests.add(Request::Handshake(number));
        handshake.request = Some(token);
        match &handshake.stage {
            Stage::Looked(fd) | Stage::LookAgain(fd, _) => {
                ring.receive_handshake(fd.as_raw_fd(), true, token);
            }
            Stage::Announced(fd) => ring.receive_handshake(fd.as_raw_fd(), false, token),
            Stage::Shaking(connection) => {
                ring.receive_handshake(connection.fd.as_raw_fd(), false, token);
            }
            Stage::Between => drop(self.requests.remove(token)),
        }
    }

    /// A receive, or a look, of a handshake.
    pub(super) fn on_handshake(&mut self, ring: &mut Ring, completion: Completion) {
        let request = self.requests.remove(completion.token);
        let heard = ring.handshake_bytes(&completion, |bytes| match request {
            Some(Request::Handshake(number)) => self.heard(number, completion.token, bytes),
            _ => Heard::Nothing,
        });
        let Some(Request::Handshake(number)) = request else {
            return;
        };
        match heard {
            Some(Heard::Nothing) => {}
            Some(Heard::Announced(fd)) => self.on_header(ring, number, fd),
            Some(Heard::Looked(fd, is_tls)) => self.on_look(ring, number, fd, is_tls),
            None => self.on_silence(ring, number, &completion),
        }
    }

    /// Bytes of a handshake, if the receive is the one that it waits for.
    fn heard(&mut self, number: u32, token: u64, bytes: &[u8]) -> Heard {
        let port = self.handshakes.port_of(number);
        let Some(handshake) = self.handshakes.waits_for(number, token) else {
            return Heard::Nothing;
        };
        handshake.has_spoken = true;
        match std::mem::replace(&mut handshake.stage, Stage::Between) {
            Stage::Shaking(connection) => {
                let is_left = connection.lock().is_left;
                handshake.stage = Stage::Shaking(connection);
                if is_left {
                    // The shard has given up its connect.
                    self.end_handshake(number);
                    return Heard::Nothing;
                }
                handshake.bytes.extend_from_slice(bytes);
                handshake.is_due = true;
                self.handshakes.due.push_back(number);
                Heard::Nothing
            }
            Stage::Announced(fd) => {
                handshake.bytes.extend_from_slice(bytes);
                Heard::Announced(fd)
            }
            Stage::Looked(fd) | Stage::LookAgain(fd, _) => {
                let is_tls = match port {
                    Some(port) if port.expects_header(&fd) => begins_tls_behind_header(bytes),
                    _ => begins_tls(bytes),
                };
                Heard::Looked(fd, is_tls)
            }
            Stage::Between => Heard::Nothing,
        }
    }

    /// A receive of a handshake that brought nothing.
    fn on_silence(&mut self, ring: &mut Ring, number: u32, completion: &Completion) {
        let Some(handshake) = self.handshakes.waits_for(number, completion.token) else {
            return;
        };
        if let Stage::Shaking(connection) = &handshake.stage {
            if connection.lock().is_left {
                self.end_handshake(number);
                return;
            }
        }
        let again = [libc::ENOBUFS, libc::EINTR, libc::EAGAIN];
        match again.contains(&-completion.result) {
            true => self.listen_to(ring, number),
            false => self.closed(ring, number),
        }
    }

    /// What the first bytes at a port that takes both say.
    fn on_look(&mut self, ring: &mut Ring, number: u32, fd: OwnedFd, is_tls: Option<bool>) {
        let clock_ns = self.handshakes.clock_ns;
        let port = self.handshakes.port_of(number);
        let (Some(port), Some(handshake)) = (port, self.handshakes.get(number)) else {
            return;
        };
        match is_tls {
            None => handshake.stage = Stage::LookAgain(fd, clock_ns + LOOK_AGAIN_NS),
            Some(false) => self.ready(ring, number, || Socket::Plain(fd)),
            Some(true) => match first_stage(&port, fd) {
                Ok(stage) => {
                    handshake.stage = stage;
                    handshake.got_further(clock_ns);
                    self.listen_to(ring, number);
                }
                Err(failure) => {
                    self.handshakes.take(number);
                    self.note_refused(&port.name, None, &failure);
                }
            },
        }
    }

    /// What a proxy has said so far. The shard reads the header again, and judges the address in it.
    fn on_header(&mut self, ring: &mut Ring, number: u32, fd: OwnedFd) {
        let clock_ns = self.handshakes.clock_ns;
        let port = self.handshakes.port_of(number);
        let (Some(port), Some(handshake)) = (port, self.handshakes.get(number)) else {
            return;
        };
        let refused = match proxy::read(&handshake.bytes) {
            Ok(Proxied::NeedMore { .. }) => {
                handshake.stage = Stage::Announced(fd);
                return self.listen_to(ring, number);
            }
            Ok(Proxied::Header { used, client }) => {
                let hello = handshake.bytes.split_off(used);
                let header = std::mem::replace(&mut handshake.bytes, hello);
                let peer = client.map(|client| client.ip()).or_else(|| peer_of(&fd));
                match shaking(&port, fd, peer) {
                    Ok(connection) => {
                        connection.lock().early = header;
                        handshake.stage = Stage::Shaking(connection);
                        handshake.network = peer.map(network_of);
                        handshake.got_further(clock_ns);
                        match handshake.bytes.is_empty() {
                            true => self.listen_to(ring, number),
                            false => {
                                handshake.is_due = true;
                                self.handshakes.due.push_back(number);
                            }
                        }
                        return;
                    }
                    Err(failure) => (peer, failure),
                }
            }
            Err(error) => {
                let failure = Failure::new(FailureKind::ProxyHeader, error.to_string());
                (peer_of(&fd), failure)
            }
        };
        self.handshakes.take(number);
        self.note_refused(&port.name, refused.0, &refused.1);
        self.accept_everywhere(ring);
    }

    /// A connection that the shard may have; that of its connect it has already.
    pub(super) fn ready(&mut self, ring: &mut Ring, number: u32, socket: impl FnOnce() -> Socket) {
        let Some(handshake) = self.handshakes.take(number) else {
            return;
        };
        match handshake.whose {
            Whose::Port(at) => {
                self.handshakes.ports[at].ready.push_back(socket());
                self.hand_out(at);
                self.accept_more(ring, at);
            }
            Whose::Link(token) => self.told.push(told(token, 0, 0)),
        }
    }

    /// A place is free again; a connect of the shard's that came to nothing is told so.
    pub(super) fn after_end(&mut self, ring: &mut Ring, whose: Whose) {
        match whose {
            Whose::Port(at) => self.accept_more(ring, at),
            Whose::Link(token) => self.told.push(told(token, -libc::ECONNABORTED, 0)),
        }
    }

    /// The peer has closed before its handshake was done.
    pub(super) fn closed(&mut self, ring: &mut Ring, number: u32) {
        let Some(handshake) = self.end_handshake(number) else {
            return;
        };
        let text = "it closed before the handshake was done; its log may say why";
        let is_link = matches!(handshake.whose, Whose::Link(_));
        match handshake.has_spoken || is_link {
            true => self.refuse_begun(&handshake, &Failure::new(FailureKind::Closed, text)),
            // A health check: nobody minds.
            false => self.count_begun(&handshake, FailureKind::Closed),
        }
        self.after_end(ring, handshake.whose);
    }
}

/// What comes first of a connection that speaks TLS.
fn first_stage(port: &SecuredPort, fd: OwnedFd) -> Result<Stage, Failure> {
    if port.expects_header(&fd) {
        return Ok(Stage::Announced(fd));
    }
    let peer = peer_of(&fd);
    shaking(port, fd, peer).map(Stage::Shaking)
}

/// Whether TLS stands behind a PROXY header. One that cannot be read is left to the shard, which says so.
fn begins_tls_behind_header(bytes: &[u8]) -> Option<bool> {
    match proxy::read(bytes) {
        Ok(Proxied::NeedMore { .. }) => None,
        Ok(Proxied::Header { used, .. }) => begins_tls(&bytes[used..]),
        Err(_) => Some(false),
    }
}

fn shaking(port: &SecuredPort, fd: OwnedFd, peer: Option<IpAddr>) -> Result<Arc<Secured>, Failure> {
    let served = port.served.served();
    let session = Session::server(Arc::clone(&served.config))?;
    Ok(Arc::new(Secured::new(fd, session, &port.name, peer)))
}
