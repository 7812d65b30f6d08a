//! The simulated network: connections with bounded buffers, delay, resets and peers that vanish.
//!
//! ```text
//! peer --write--> flying (send buffer, wire) --arrive--> readable (receive buffer) --read--> shard
//! ```
//!
//! Both directions are alike. What one side does is seen by the other after the connection's delay,
//! and wakes it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::plan::Plan;
use super::random::Random;

/// Index of a connection; never used again in a run.
pub(super) type ConnId = usize;

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Emitters,
    Analyzers,
    Http,
    Forward,
    Lumberjack,
}

/// How many there are.
const PORT_KINDS: usize = 5;

/// Who plays the far side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Emitter(usize),
    Analyzer(usize),
    /// An HTTP client.
    Client(usize),
    /// An analyzer over HTTP: shards connect to it.
    Server(usize),
}

/// What becomes of a connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Nobody listens.
    #[default]
    Shut,
    /// Nothing answers.
    Silent,
}

/// Who has something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Shard(usize),
    Peer(Peer),
}

/// What a read finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Data(Vec<u8>),
    Nothing,
    End,
    /// The connection broke, with this errno.
    Broken(i32),
}

/// One direction of a connection.
struct Pipe {
    flying: VecDeque<(u64, Vec<u8>)>,
    flying_bytes: usize,
    readable: VecDeque<u8>,
    /// Bytes that each of the two holds.
    limit: usize,
    last_arrival_ns: u64,
    /// The writer has ended; seen at this time at the earliest.
    end_ns: Option<u64>,
}

impl Pipe {
    fn new(limit: usize) -> Pipe {
        Pipe {
            flying: VecDeque::new(),
            flying_bytes: 0,
            readable: VecDeque::new(),
            limit,
            last_arrival_ns: 0,
            end_ns: None,
        }
    }

    fn room(&self) -> usize {
        self.limit.saturating_sub(self.flying_bytes)
    }

    fn advance(&mut self, now_ns: u64) {
        while self.readable.len() < self.limit {
            match self.flying.front() {
                Some((at, _)) if *at <= now_ns => {}
                _ => return,
            }
            if let Some((_, bytes)) = self.flying.pop_front() {
                self.flying_bytes -= bytes.len();
                self.readable.extend(bytes);
            }
        }
    }

    fn read(&mut self, max: usize) -> Vec<u8> {
        let len = max.min(self.readable.len());
        self.readable.drain(..len).collect()
    }

    fn is_at_end(&self, now_ns: u64) -> bool {
        self.flying.is_empty()
            && self.readable.is_empty()
            && self.end_ns.is_some_and(|at| at <= now_ns)
    }

    fn forget(&mut self) {
        self.flying.clear();
        self.flying_bytes = 0;
    }
}

struct Conn {
    peer: Peer,
    /// Whose ring reads it.
    shard: usize,
    delay_ns: u64,
    to_shard: Pipe,
    to_peer: Pipe,
    /// Errno that the shard sees.
    shard_broken: Option<i32>,
    peer_broken: bool,
    shard_closed: bool,
    peer_closed: bool,
    drop_unsent: bool,
    /// The shard shut its own reading down.
    shard_deaf: bool,
    /// When it did that or closed.
    cut: Option<Cut>,
    /// Nothing gets through any more, and nobody is told.
    vanished: bool,
    accepted: bool,
    /// Its last bytes were there and were not read.
    cheated: bool,
    /// Bytes that the shard has read.
    consumed: u64,
}

/// How things stood when a shard cut its peer off. What comes after may throw bytes away.
#[derive(Clone, Copy)]
struct Cut {
    at_ns: u64,
    /// Bytes that had arrived at the shard.
    arrived: u64,
    /// The peer had read everything, and all that it had sent was there.
    was_quiet: bool,
}

impl Conn {
    fn note_cut(&mut self, now_ns: u64) {
        self.to_shard.advance(now_ns);
        let cut = Cut {
            at_ns: now_ns,
            arrived: self.consumed + self.to_shard.readable.len() as u64, // in memory
            was_quiet: self.to_peer.flying.is_empty()
                && self.to_peer.readable.is_empty()
                && self.to_shard.flying.iter().all(|(at, _)| *at <= now_ns),
        };
        self.cut.get_or_insert(cut);
    }
}

/// Servers have this address, each a port of its own from this one on.
const SERVERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER_PORT_FIRST: u16 = 3001;

/// Where a server is.
pub(super) fn address_of_server(server: usize) -> SocketAddr {
    (SERVERS, SERVER_PORT_FIRST + server as u16).into() // a few
}

/// Connections of one address have this many ports, from the first on.
const PORTS: usize = 1 << 14;
const PORT_FIRST: u16 = 1024;
/// Each analyzer has a host of its own, from 11.0.0.0 on.
const ANALYZER_HOSTS: u32 = 0x0B00_0000;

/// Where a connection comes from: every connection has an address of its own, in 10.0.0.0/8.
fn address_of(conn: ConnId, peer: Peer) -> SocketAddr {
    let host = match peer {
        Peer::Analyzer(index) => ANALYZER_HOSTS + index as u32, // a few
        _ => 0x0A00_0000 + (conn / PORTS) as u32,               // fewer than 2^24 hosts
    };
    (Ipv4Addr::from(host), PORT_FIRST + (conn % PORTS) as u16).into()
}

/// Which analyzer a name like `11.0.0.3-1` stands for.
pub(super) fn analyzer_on(name: &str) -> Option<usize> {
    let host: Ipv4Addr = name.rsplit_once('-')?.0.parse().ok()?;
    let index = u32::from(host).checked_sub(ANALYZER_HOSTS)?;
    Some(index as usize)
}

/// All connections.
pub(super) struct Net {
    pub(super) now_ns: u64,
    conns: Vec<Conn>,
    backlog: Vec<[VecDeque<ConnId>; PORT_KINDS]>,
    listening: Vec<[bool; PORT_KINDS]>,
    /// Of each server: its door, and connections that it has not looked at.
    servers: Vec<(Door, VecDeque<ConnId>)>,
    /// Delay and bytes of socket buffers of connections that shards make.
    outward: (u64, usize),
    random: Random,
    /// Who is to look, and when.
    pub(super) wakes: Vec<(u64, Who)>,
}

impl Net {
    pub(super) fn new(plan: &Plan, now_ns: u64) -> Net {
        let servers = plan.http.servers.len();
        Net {
            now_ns,
            conns: Vec::new(),
            backlog: (0..plan.shards).map(|_| Default::default()).collect(),
            listening: vec![[true; PORT_KINDS]; plan.shards],
            servers: (0..servers).map(|_| Default::default()).collect(),
            outward: (plan.noise.delay_ns, plan.noise.socket_bytes),
            random: Random::stream(plan.seed, 4),
            wakes: Vec::new(),
        }
    }

    fn add(&mut self, peer: Peer, shard: usize, delay_ns: u64, limit: usize) -> ConnId {
        self.conns.push(Conn {
            peer,
            shard,
            delay_ns,
            to_shard: Pipe::new(limit),
            to_peer: Pipe::new(limit),
            shard_broken: None,
            peer_broken: false,
            shard_closed: false,
            peer_closed: false,
            drop_unsent: false,
            shard_deaf: false,
            cut: None,
            vanished: false,
            accepted: false,
            cheated: false,
            consumed: 0,
        });
        self.conns.len() - 1
    }

    // The peers' side --------------------------------------------------------------------------

    /// Connects to `shard`, or to the next that listens. `None`: nobody does.
    pub(super) fn connect(
        &mut self,
        peer: Peer,
        port: Port,
        shard: usize,
        delay_ns: u64,
        limit: usize,
    ) -> Option<ConnId> {
        let shards = self.listening.len();
        let mut order = (shard..shard + shards).map(|shard| shard % shards);
        let shard = order.find(|shard| self.listening[*shard][port as usize])?;
        let conn = self.add(peer, shard, delay_ns, limit);
        self.backlog[shard][port as usize].push_back(conn);
        self.wakes.push((self.now_ns + delay_ns, Who::Shard(shard)));
        Some(conn)
    }

    /// Writes as much as fits; how much.
    pub(super) fn peer_write(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let conn = &mut self.conns[id];
        if conn.peer_closed || conn.peer_broken {
            return 0;
        }
        if conn.shard_closed {
            // The shard's kernel answers with a reset.
            conn.peer_broken = true;
            return 0;
        }
        let len = bytes.len().min(conn.to_shard.room());
        if len > 0 {
            let at = (self.now_ns + conn.delay_ns).max(conn.to_shard.last_arrival_ns);
            conn.to_shard.last_arrival_ns = at;
            conn.to_shard.flying.push_back((at, bytes[..len].to_vec()));
            conn.to_shard.flying_bytes += len;
            let shard = conn.shard;
            self.wakes.push((at, Who::Shard(shard)));
        }
        len
    }

    pub(super) fn peer_read(&mut self, id: ConnId, max: usize) -> Read {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        if conn.peer_closed || conn.vanished {
            return Read::Nothing;
        }
        conn.to_peer.advance(now_ns);
        let data = conn.to_peer.read(max);
        if !data.is_empty() {
            conn.to_peer.advance(now_ns);
            let shard = conn.shard;
            self.wakes.push((now_ns, Who::Shard(shard)));
            return Read::Data(data);
        }
        if conn.peer_broken {
            return Read::Broken(libc::ECONNRESET);
        }
        if conn.to_peer.is_at_end(now_ns) {
            return Read::End;
        }
        Read::Nothing
    }

    /// Closes; `reset`: what has not arrived is lost, in both directions.
    pub(super) fn peer_close(&mut self, id: ConnId, reset: bool) {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        if std::mem::replace(&mut conn.peer_closed, true) || conn.vanished {
            return;
        }
        let at = (now_ns + conn.delay_ns).max(conn.to_shard.last_arrival_ns);
        if reset {
            conn.to_shard.forget();
            conn.to_peer.forget();
            conn.shard_broken.get_or_insert(libc::ECONNRESET);
        } else {
            conn.to_shard.end_ns = Some(at);
        }
        let shard = conn.shard;
        self.wakes.push((at, Who::Shard(shard)));
    }

    /// The peer's host loses power: nothing gets through any more.
    pub(super) fn vanish(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.vanished = true;
        conn.peer_closed = true;
        conn.to_shard.forget();
    }

    /// The kernel gives a peer up that does not answer.
    pub(super) fn time_out(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        if conn.vanished {
            conn.shard_broken.get_or_insert(libc::ETIMEDOUT);
            let shard = conn.shard;
            self.wakes.push((self.now_ns, Who::Shard(shard)));
        }
    }

    /// The next connection that a shard has made to a server.
    pub(super) fn next_visitor(&mut self, server: usize) -> Option<ConnId> {
        self.servers[server].1.pop_front()
    }

    /// From now on a server answers connections like this.
    pub(super) fn set_door(&mut self, server: usize, door: Door) {
        if std::mem::replace(&mut self.servers[server].0, door) != door {
            let shards = self.listening.len();
            let wakes = (0..shards).map(|shard| (self.now_ns, Who::Shard(shard)));
            self.wakes.extend(wakes);
        }
    }

    // The shards' side -------------------------------------------------------------------------

    pub(super) fn accept(&mut self, shard: usize, port: Port) -> Option<ConnId> {
        let conn = self.backlog[shard][port as usize].pop_front()?;
        self.conns[conn].accepted = true;
        Some(conn)
    }

    /// A shard connects to a server. The connection, and when that is decided at the earliest.
    pub(super) fn knock(&mut self, address: SocketAddr, shard: usize) -> Option<(ConnId, u64)> {
        let server =
            (0..self.servers.len()).find(|server| address_of_server(*server) == address)?;
        let (delay_ns, limit) = self.outward;
        let delay_ns = self.random.range(1_000, delay_ns);
        let conn = self.add(Peer::Server(server), shard, delay_ns, limit);
        let at_ns = self.now_ns + 2 * delay_ns;
        self.wakes.push((at_ns, Who::Shard(shard)));
        Some((conn, at_ns))
    }

    /// What has become of that: an errno, or 0. None: nothing yet.
    pub(super) fn knocked(&mut self, id: ConnId) -> Option<i32> {
        let Peer::Server(server) = self.conns[id].peer else {
            return None;
        };
        let (door, visitors) = &mut self.servers[server];
        match door {
            Door::Silent => None,
            Door::Shut => Some(libc::ECONNREFUSED),
            Door::Open => {
                visitors.push_back(id);
                self.conns[id].accepted = true;
                let peer = self.conns[id].peer;
                self.wakes.push((self.now_ns, Who::Peer(peer)));
                Some(0)
            }
        }
    }

    pub(super) fn has_backlog(&self, shard: usize, port: Port) -> bool {
        !self.backlog[shard][port as usize].is_empty()
    }

    /// From now on `shard` reads this connection.
    pub(super) fn adopt(&mut self, id: ConnId, shard: usize) {
        self.conns[id].shard = shard;
    }

    /// Whether a read would find something.
    pub(super) fn shard_can_read(&mut self, id: ConnId) -> bool {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        conn.to_shard.advance(now_ns);
        conn.shard_deaf
            || !conn.to_shard.readable.is_empty()
            || conn.shard_broken.is_some()
            || conn.to_shard.is_at_end(now_ns)
    }

    pub(super) fn shard_read(&mut self, id: ConnId, max: usize) -> Read {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        if conn.shard_deaf {
            return Read::End;
        }
        conn.to_shard.advance(now_ns);
        let data = conn.to_shard.read(max);
        if !data.is_empty() {
            conn.consumed += data.len() as u64;
            conn.to_shard.advance(now_ns);
            let peer = conn.peer;
            self.wakes.push((now_ns, Who::Peer(peer)));
            return Read::Data(data);
        }
        match conn.shard_broken {
            Some(errno) => Read::Broken(errno),
            None if conn.to_shard.is_at_end(now_ns) => Read::End,
            None => Read::Nothing,
        }
    }

    /// Errno of a send, if there is one.
    pub(super) fn shard_send_error(&self, id: ConnId) -> Option<i32> {
        let conn = &self.conns[id];
        conn.shard_broken
            .or_else(|| conn.to_peer.end_ns.map(|_| libc::EPIPE))
    }

    pub(super) fn shard_room(&self, id: ConnId) -> usize {
        self.conns[id].to_peer.room()
    }

    pub(super) fn shard_write(&mut self, id: ConnId, bytes: &[u8]) {
        let conn = &mut self.conns[id];
        let at = (self.now_ns + conn.delay_ns).max(conn.to_peer.last_arrival_ns);
        conn.to_peer.last_arrival_ns = at;
        conn.to_peer.flying.push_back((at, bytes.to_vec()));
        conn.to_peer.flying_bytes += bytes.len();
        if conn.peer_closed && !conn.vanished {
            // Nobody is there: the peer's kernel answers with a reset.
            conn.shard_broken.get_or_insert(libc::ECONNRESET);
            let shard = conn.shard;
            self.wakes.push((at, Who::Shard(shard)));
            return;
        }
        let peer = conn.peer;
        self.wakes.push((at, Who::Peer(peer)));
    }

    pub(super) fn peer_has_ended(&self, id: ConnId) -> bool {
        let ended = self.conns[id].to_shard.end_ns;
        ended.is_some_and(|at_ns| at_ns <= self.now_ns)
    }

    /// Bytes that have not reached the peer's receive buffer.
    pub(super) fn shard_unread(&mut self, id: ConnId) -> usize {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        if !conn.vanished {
            conn.to_peer.advance(now_ns);
        }
        conn.to_peer.flying_bytes
    }

    pub(super) fn shard_shutdown(&mut self, id: ConnId, read: bool, write: bool) {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        if write && conn.to_peer.end_ns.is_none() {
            let at = (now_ns + conn.delay_ns).max(conn.to_peer.last_arrival_ns);
            conn.to_peer.end_ns = Some(at);
            self.wakes.push((at, Who::Peer(conn.peer)));
        }
        if read {
            conn.note_cut(now_ns);
            conn.shard_deaf = true;
            let shard = conn.shard;
            self.wakes.push((now_ns, Who::Shard(shard)));
        }
    }

    pub(super) fn drop_unsent_on_close(&mut self, id: ConnId) {
        self.conns[id].drop_unsent = true;
    }

    fn shard_close(&mut self, id: ConnId) {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id];
        conn.note_cut(now_ns);
        conn.shard_closed = true;
        let at = (now_ns + conn.delay_ns).max(conn.to_peer.last_arrival_ns);
        let unread = !conn.to_shard.readable.is_empty() || conn.to_shard.flying_bytes > 0;
        if conn.drop_unsent {
            conn.to_peer.forget();
        }
        // A peer whose last bytes are still under way hears of it by a reset.
        let had_ended = conn.to_shard.end_ns.is_some_and(|at_ns| at_ns <= now_ns);
        conn.cheated = unread
            && had_ended
            && conn.accepted
            && !conn.vanished
            && !conn.shard_deaf
            && conn.shard_broken.is_none();
        if conn.drop_unsent || unread {
            conn.peer_broken = true;
        }
        conn.to_peer.end_ns.get_or_insert(at);
        self.wakes.push((at, Who::Peer(conn.peer)));
    }

    fn close_listener(&mut self, shard: usize, port: Port) {
        self.listening[shard][port as usize] = false;
        while let Some(conn) = self.backlog[shard][port as usize].pop_front() {
            self.conns[conn].drop_unsent = true;
            self.shard_close(conn);
        }
    }

    // What the checks ask ----------------------------------------------------------------------

    pub(super) fn address_of(&self, conn: ConnId) -> SocketAddr {
        address_of(conn, self.conns[conn].peer)
    }

    /// The shard has said its last to the peer.
    pub(super) fn is_half_closed(&self, id: ConnId) -> bool {
        self.conns[id].to_peer.end_ns.is_some()
    }

    pub(super) fn consumed(&self, id: ConnId) -> u64 {
        self.conns[id].consumed
    }

    /// Bytes that shards have read, of all connections.
    pub(super) fn consumed_by_shards(&self) -> u64 {
        self.conns.iter().map(|conn| conn.consumed).sum()
    }

    /// The shard has cut its peer off.
    pub(super) fn is_deaf(&self, id: ConnId) -> bool {
        self.conns[id].shard_deaf
    }

    /// The shard cut its peer off, or closed, at this moment; whether the peer had read everything, and all that
    /// it had sent was there.
    pub(super) fn cut_now(&self, id: ConnId) -> Option<bool> {
        let cut = self.conns[id].cut.filter(|cut| cut.at_ns == self.now_ns);
        cut.map(|cut| cut.was_quiet)
    }

    /// Bytes that had arrived at the shard's host before the shard cut its peer off.
    pub(super) fn heard(&self, id: ConnId) -> u64 {
        let conn = &self.conns[id];
        conn.cut.map_or(conn.consumed, |cut| cut.arrived)
    }

    /// A peer that closed in good order was not read to its end, and does not know.
    pub(super) fn was_cheated(&self, id: ConnId) -> bool {
        self.conns[id].cheated
    }

    /// Bytes on their way to a shard, or arrived and not read, on a connection that lives.
    pub(super) fn unread_by_shards(&self) -> usize {
        self.unread().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that shards have not read of connections that are whole.
    fn unread(&self) -> impl Iterator<Item = (ConnId, usize)> + '_ {
        let all = self.conns.iter().enumerate();
        let alive = all.filter(|(_, conn)| {
            !conn.shard_closed && !conn.vanished && conn.shard_broken.is_none() && !conn.shard_deaf
        });
        alive.map(|(id, conn)| {
            let bytes = conn.to_shard.flying_bytes + conn.to_shard.readable.len();
            (id, bytes)
        })
    }

    /// The connections that have some: whose, at which shard, how many bytes, whether they have ended.
    pub(super) fn describe_unread(&self) -> Vec<String> {
        let some = self.unread().filter(|(_, bytes)| *bytes > 0);
        some.map(|(id, bytes)| {
            let conn = &self.conns[id];
            let end = if conn.peer_closed { ", ended" } else { "" };
            format!(
                "{id} of {:?} at shard {}: {bytes} bytes unread, {} read{end}",
                conn.peer, conn.shard, conn.consumed
            )
        })
        .collect()
    }
}

/// A shard's end of a connection.
pub(crate) struct SimSocket {
    pub(super) conn: ConnId,
    pub(super) net: Rc<RefCell<Net>>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.net.borrow_mut().shard_close(self.conn);
    }
}

/// A shard's listener.
pub(crate) struct SimListener {
    pub(super) shard: usize,
    pub(super) port: Port,
    pub(super) net: Rc<RefCell<Net>>,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.borrow_mut().close_listener(self.shard, self.port);
    }
}
