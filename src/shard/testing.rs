//! A ground for tests of single parts: requests are written down, and end when the test says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::mesh::{Mesh, Message, Outbox};
use super::port::{Chunk, Completion, Datagram, Group, Io, Left};
use super::shared::Shared;
use weir_config::{Config, HttpConfig};
use weir_engine::{Span, VecMemory};
use weir_tls::SecuredLink;

/// What a part asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Accept,
    Receive(u32),
    ReceiveOnce(u32),
    ReceiveDatagrams(u32),
    Send(u32, usize),
    SendBytes(u32, Vec<u8>),
    SendNow(u32, Vec<u8>),
    Connect(SocketAddr),
    Cancel(u64),
    Shutdown(u32),
    DropUnsent(u32),
}

/// See the head of this file. A socket is a number.
pub(crate) struct FakeIo {
    pub(crate) now_ns: Cell<u64>,
    pub(crate) asked: RefCell<Vec<Asked>>,
    /// What is received next.
    pub(crate) arrives: Vec<u8>,
    /// Chunks that were handed out and not released.
    pub(crate) lent: usize,
    /// Bytes that peers have not acknowledged, by socket.
    pub(crate) unread: BTreeMap<u32, usize>,
    /// What is left of connections; of the others all.
    pub(crate) left: BTreeMap<u32, Left>,
    /// What the kernel says of datagrams that it dropped.
    pub(crate) dropped: u32,
    next_socket: u32,
    sent: BTreeMap<u64, Vec<u8>>,
}

impl FakeIo {
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        self.asked.take()
    }

    fn note(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
    }
}

/// A receive that brings bytes.
pub(crate) fn receives(token: u64, bytes: &[u8], io: &mut FakeIo) -> Completion {
    io.arrives = bytes.to_vec();
    let len = i32::try_from(bytes.len()).expect("a few bytes");
    Completion::simulated(token, len, true, false)
}

/// What shard 0 of so many stands on.
pub(crate) struct Ground {
    pub(crate) config: Arc<Config>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) io: FakeIo,
    pub(crate) arena: VecMemory,
    pub(crate) mesh: FakeMesh,
}

pub(crate) fn ground(shards: usize, buffers: usize) -> Ground {
    ground_of(config(shards, buffers), buffers)
}

fn ground_of(config: Config, buffers: usize) -> Ground {
    let (config, shards) = (Arc::new(config.clone()), config.shards);
    let wakes = Vec::new();
    Ground {
        shared: Arc::new(Shared::new(&config, wakes)),
        config,
        io: FakeIo {
            now_ns: Cell::new(1_000_000_000),
            asked: RefCell::default(),
            arrives: Vec::new(),
            lent: 0,
            unread: BTreeMap::new(),
            left: BTreeMap::new(),
            dropped: 0,
            next_socket: 1000,
            sent: BTreeMap::new(),
        },
        arena: VecMemory::new(buffers, BUFFER_BYTES as usize),
        mesh: FakeMesh(Outbox::new(0, shards)),
    }
}

/// What a part works with; messages to other shards stay in the outbox.
pub(crate) fn context(shards: usize, buffers: usize) -> Context<FakeIo> {
    context_of(shards, buffers, |_| ())
}

/// The same with other settings.
pub(crate) fn context_of(
    shards: usize,
    buffers: usize,
    change: impl FnOnce(&mut Config),
) -> Context<FakeIo> {
    let mut config = config(shards, buffers);
    change(&mut config);
    let Ground {
        config,
        shared,
        io,
        arena,
        mesh,
    } = ground_of(config, buffers);
    Context::new(0, config, shared, io, arena, mesh)
}

/// Bytes of a batch buffer.
const BUFFER_BYTES: u32 = 4096;

fn config(shards: usize, buffers: usize) -> Config {
    let any = ([127, 0, 0, 1], 0).into();
    Config {
        emitters: any,
        analyzers: any,
        shards,
        arena_bytes: buffers * BUFFER_BYTES as usize,
        batch_bytes: BUFFER_BYTES,
        ingress_bytes: 1 << 20,
        frame_bytes_max: 1024,
        window_bytes: 1 << 20,
        window_messages: 10_000,
        partial_bytes_max: 1 << 16,
        latency_budget: Duration::ZERO,
        zero_copy_bytes: 0,
        ack_timeout: Duration::from_secs(5),
        peer_timeout: Duration::from_secs(5),
        frame_timeout: Duration::from_secs(30),
        connections_max: 1000,
        http: HttpConfig {
            listen: None,
            ..HttpConfig::default()
        },
        instance: 7,
        ..Config::default()
    }
}

/// Keeps what is posted.
pub(crate) struct FakeMesh(pub(crate) Outbox<u32>);

impl FakeMesh {
    /// What was posted to a shard, this one included.
    pub(crate) fn posted(&mut self, to: usize) -> Vec<Message<u32>> {
        match to == self.0.own {
            true => self.0.local.drain(..).collect(),
            false => self.0.queues[to].drain(..).collect(),
        }
    }
}

impl Mesh<u32> for FakeMesh {
    fn outbox(&mut self) -> &mut Outbox<u32> {
        &mut self.0
    }

    fn flush(&mut self) {}

    fn is_busy(&self) -> bool {
        !self.0.is_empty()
    }

    fn has_mail(&self) -> bool {
        false
    }
}

impl Io for FakeIo {
    type Socket = u32;
    type Listener = ();
    type Memory = VecMemory;
    type Vector = ();
    type Mesh = FakeMesh;

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn unix_ms(&self) -> u64 {
        self.now_ns.get() / 1_000_000
    }

    fn enters(&self) -> u64 {
        0
    }

    fn accept(&mut self, _listener: &(), _token: u64) {
        self.note(Asked::Accept);
    }

    fn accepts_at_once(_listener: &()) -> u32 {
        1
    }

    fn accepted(&mut self, completion: &Completion) -> io::Result<u32> {
        let number = completion.count()?;
        Ok(u32::try_from(number).expect("a small number"))
    }

    fn receive(&mut self, socket: &u32, _group: Group, _token: u64) {
        self.note(Asked::Receive(*socket));
    }

    fn receive_once(&mut self, socket: &u32, _group: Group, _token: u64) {
        self.note(Asked::ReceiveOnce(*socket));
    }

    fn chunk(&mut self, _group: Group, completion: &Completion) -> Option<Chunk> {
        let len = u32::try_from(completion.result)
            .ok()
            .filter(|len| *len > 0)?;
        self.lent += 1;
        Some(Chunk::new(0, 0, len))
    }

    fn bytes_of(&self, _group: Group, chunk: Chunk) -> &[u8] {
        let from = chunk.place().1 as usize;
        &self.arrives[from..from + chunk.len()]
    }

    fn release(&mut self, _group: Group, _chunk: Chunk) {
        self.lent -= 1;
    }

    fn receive_datagrams(&mut self, socket: &u32, _token: u64) {
        self.note(Asked::ReceiveDatagrams(*socket));
    }

    /// The first four bytes are who sent it, the fifth is 1 when it was cut.
    fn datagram_of(&self, chunk: Chunk) -> Datagram<'_> {
        let bytes = self.bytes_of(Group::Datagrams, chunk);
        let from: [u8; 4] = bytes[..4].try_into().expect("four");
        Datagram {
            from: Some(from.into()),
            bytes: &bytes[5..],
            is_cut: bytes[4] == 1,
        }
    }

    fn datagrams_dropped(&self, _socket: &u32) -> u32 {
        self.dropped
    }

    fn discard_datagrams(&self, _socket: &u32) -> u32 {
        0
    }

    fn zero_copy(&self, _socket: &u32) -> bool {
        false
    }

    fn send(
        &mut self,
        socket: &u32,
        spans: impl Iterator<Item = (usize, Span)>,
        _vector: &mut (),
        _token: u64,
    ) {
        let bytes: u32 = spans.map(|(_, span)| span.len).sum();
        self.note(Asked::Send(*socket, bytes as usize));
    }

    fn send_zero_copy(&mut self, _socket: &u32, _span: Span, _token: u64) {
        unreachable!("zero_copy says no");
    }

    fn send_bytes(&mut self, socket: &u32, bytes: Vec<u8>, token: u64) {
        self.note(Asked::SendBytes(*socket, bytes.clone()));
        self.sent.insert(token, bytes);
    }

    fn sent_bytes(&mut self, token: u64) -> Vec<u8> {
        self.sent.remove(&token).unwrap_or_default()
    }

    fn append(&mut self, _file: &u32, bytes: Vec<u8>, token: u64) {
        self.sent.insert(token, bytes);
    }

    fn file_bytes(&self, _file: &u32) -> u64 {
        0
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        _link: Option<&Arc<SecuredLink>>,
        _token: u64,
    ) -> io::Result<u32> {
        self.note(Asked::Connect(address));
        self.next_socket += 1;
        Ok(self.next_socket)
    }

    fn adopt(&mut self, _stream: OwnedFd) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connected(&mut self, _token: u64) {}

    fn send_now(&mut self, socket: &u32, bytes: &[u8]) -> io::Result<usize> {
        self.note(Asked::SendNow(*socket, bytes.to_vec()));
        Ok(bytes.len())
    }

    fn cancel(&mut self, target: u64, _token: u64) {
        self.note(Asked::Cancel(target));
    }

    fn arm_wake(&mut self, _token: u64) {}

    fn quiesce(&mut self) {}

    fn peer(&self, socket: &u32) -> Option<SocketAddr> {
        let [a, b, c, d] = socket.to_be_bytes();
        Some(([10, a.max(b), c, d], 4711).into())
    }

    fn is_on_this_host(&self, _socket: &u32) -> bool {
        true
    }

    fn prepare_link(&self, _socket: &u32) -> io::Result<()> {
        Ok(())
    }

    fn peer_has_ended(&self, _socket: &u32) -> bool {
        false
    }

    fn left_of(&self, socket: &u32) -> Left {
        self.left.get(socket).copied().unwrap_or(Left::Open)
    }

    fn unread_bytes(&self, socket: &u32) -> usize {
        self.unread.get(socket).copied().unwrap_or(0)
    }

    fn drop_unsent_on_close(&self, socket: &u32) {
        self.note(Asked::DropUnsent(*socket));
    }

    fn shutdown(&self, socket: &u32, _how: Shutdown) {
        self.note(Asked::Shutdown(*socket));
    }
}
