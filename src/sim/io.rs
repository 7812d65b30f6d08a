//! A shard's ground in the simulator: requests wait here until the simulated kernel (`kernel.rs`)
//! gets round to them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::mesh::SimMesh;
use super::net::{ConnId, Net, Port, SimListener, SimSocket};
use weir_engine::{Span, VecMemory};
use weir_shard::port::Io;
use weir_shard::port::{Chunk, Completion, Datagram, Group, Left};
use weir_tls::SecuredLink;

/// Written over receive memory that the shard has given back: whoever reads on sees it.
const POISON: u8 = 0xDD;

/// Plans have no input of datagrams: what a kernel drops is no fault of the distributor, and nothing else is special.
const NO_DATAGRAMS: &str = "nobody sends datagrams in the simulated world";

/// Receive memory of a group, as the kernel's provided buffers: pieces of a buffer, or whole ones.
pub(super) struct Provided {
    bytes: Vec<u8>,
    buffer_bytes: usize,
    incremental: bool,
    /// With the kernel, in the order in which they are used.
    queue: VecDeque<u16>,
    /// Of the first in the queue: bytes used already.
    used: usize,
    /// Chunks of each buffer that the shard has.
    chunks: Vec<u32>,
    with_kernel: Vec<bool>,
    /// Chunks whose completions the shard has not handled.
    fresh: VecDeque<Chunk>,
}

impl Provided {
    pub(super) fn new(buffers: u16, buffer_bytes: usize, incremental: bool) -> Provided {
        let count = usize::from(buffers);
        Provided {
            bytes: vec![POISON; count * buffer_bytes],
            buffer_bytes,
            incremental,
            queue: (0..buffers).collect(),
            used: 0,
            chunks: vec![0; count],
            with_kernel: vec![true; count],
            fresh: VecDeque::new(),
        }
    }

    /// Bytes that the next receive can bring; 0: ENOBUFS.
    pub(super) fn room(&self) -> usize {
        match self.queue.front() {
            Some(_) => self.buffer_bytes - self.used,
            None => 0,
        }
    }

    /// A receive brings `data`, which fits.
    pub(super) fn fill(&mut self, data: &[u8]) {
        let Some(buffer) = self.queue.front().copied() else {
            return;
        };
        let index = usize::from(buffer);
        let at = index * self.buffer_bytes + self.used;
        self.bytes[at..at + data.len()].copy_from_slice(data);
        let (offset, len) = (self.used as u32, data.len() as u32); // of one buffer
        self.fresh.push_back(Chunk::new(buffer, offset, len));
        self.chunks[index] += 1;
        self.used += data.len();
        if !self.incremental || self.used == self.buffer_bytes {
            self.queue.pop_front();
            self.with_kernel[index] = false;
            self.used = 0;
        }
    }

    fn bytes_of(&self, chunk: Chunk) -> &[u8] {
        let (buffer, offset) = chunk.place();
        let at = usize::from(buffer) * self.buffer_bytes + offset as usize;
        &self.bytes[at..at + chunk.len()]
    }

    fn release(&mut self, chunk: Chunk) {
        let index = usize::from(chunk.place().0);
        assert!(self.chunks[index] > 0, "chunk released twice");
        self.chunks[index] -= 1;
        if self.chunks[index] == 0 && !self.with_kernel[index] {
            let at = index * self.buffer_bytes;
            self.bytes[at..at + self.buffer_bytes].fill(POISON);
            self.with_kernel[index] = true;
            self.queue.push_back(chunk.place().0);
        }
    }

    /// Chunks that the shard has.
    pub(super) fn lent(&self) -> u32 {
        self.chunks.iter().sum()
    }
}

/// What the shard asked for and the kernel has not finished.
pub(super) enum Request {
    Accept {
        port: Port,
    },
    Receive {
        conn: ConnId,
        group: Group,
        multishot: bool,
    },
    Send {
        conn: ConnId,
        spans: Vec<(usize, Span)>,
        /// The spans' bytes as they were when the kernel first saw them.
        seen: Option<Vec<u8>>,
        done: usize,
        zero_copy: bool,
    },
    /// Bytes outside the arenas.
    SendBytes {
        conn: ConnId,
        bytes: Vec<u8>,
        done: usize,
    },
    /// A connection to a server that is being made.
    Connect {
        conn: ConnId,
        at_ns: u64,
    },
    /// A zero-copy send has its result; its memory is still read.
    Release {
        spans: Vec<(usize, Span)>,
        seen: Vec<u8>,
        at_ns: u64,
        copied: bool,
    },
}

/// The ground of one shard.
pub(crate) struct SimIo {
    pub(super) shard: usize,
    pub(super) net: Rc<RefCell<Net>>,
    pub(super) requests: VecDeque<(u64, Request)>,
    pub(super) completions: VecDeque<Completion>,
    pub(super) ingress: Provided,
    pub(super) control: Provided,
    pub(super) http: Provided,
    /// Bytes of sends outside the arenas that have completed, by token.
    pub(super) sent: BTreeMap<u64, Vec<u8>>,
    pub(super) zero_copy: bool,
    pub(super) first_link_number: u64,
    /// No new sockets until then.
    pub(super) no_descriptors_until_ns: u64,
}

impl SimIo {
    pub(super) fn group(&mut self, group: Group) -> &mut Provided {
        match group {
            Group::Ingress => &mut self.ingress,
            Group::Control => &mut self.control,
            Group::Http => &mut self.http,
            Group::Datagrams => unreachable!("{}", NO_DATAGRAMS),
        }
    }

    pub(super) fn complete(&mut self, token: u64, result: i32, more: bool) {
        let completion = Completion::simulated(token, result, more, false);
        self.completions.push_back(completion);
    }

    /// The kernel still reads batches, or the shard does not know that it has ended.
    pub(super) fn is_sending(&self) -> bool {
        let sends = |(_, request): &(u64, Request)| {
            matches!(
                request,
                Request::Send { .. } | Request::SendBytes { .. } | Request::Release { .. }
            )
        };
        !self.completions.is_empty() || self.requests.iter().any(sends)
    }

    fn request(&mut self, token: u64, request: Request) {
        self.requests.push_back((token, request));
    }
}

impl Io for SimIo {
    type Socket = SimSocket;
    type Listener = SimListener;
    type Memory = VecMemory;
    type Vector = ();
    type Mesh = SimMesh;

    fn now_ns(&self) -> u64 {
        self.net.borrow().now_ns
    }

    fn unix_ms(&self) -> u64 {
        self.net.borrow().now_ns / 1_000_000
    }

    fn first_link_number(&self) -> u64 {
        self.first_link_number
    }

    fn enters(&self) -> u64 {
        0
    }

    fn accept(&mut self, listener: &SimListener, token: u64) {
        let port = listener.port;
        self.request(token, Request::Accept { port });
    }

    fn accepts_at_once(_: &SimListener) -> u32 {
        2
    }

    fn accepted(&mut self, completion: &Completion) -> io::Result<SimSocket> {
        let conn = completion.count()?;
        Ok(SimSocket {
            conn,
            net: Rc::clone(&self.net),
        })
    }

    fn receive(&mut self, socket: &SimSocket, group: Group, token: u64) {
        let conn = socket.conn;
        self.net.borrow_mut().adopt(conn, self.shard);
        let request = Request::Receive {
            conn,
            group,
            multishot: true,
        };
        self.request(token, request);
    }

    fn receive_once(&mut self, socket: &SimSocket, group: Group, token: u64) {
        let conn = socket.conn;
        self.net.borrow_mut().adopt(conn, self.shard);
        let request = Request::Receive {
            conn,
            group,
            multishot: false,
        };
        self.request(token, request);
    }

    fn chunk(&mut self, group: Group, completion: &Completion) -> Option<Chunk> {
        if completion.result <= 0 {
            return None;
        }
        let chunk = self.group(group).fresh.pop_front();
        let chunk = chunk.expect("as many chunks as completions with data");
        assert_eq!(chunk.len(), completion.result as usize, "chunks in order");
        Some(chunk)
    }

    fn bytes_of(&self, group: Group, chunk: Chunk) -> &[u8] {
        match group {
            Group::Ingress => self.ingress.bytes_of(chunk),
            Group::Control => self.control.bytes_of(chunk),
            Group::Http => self.http.bytes_of(chunk),
            Group::Datagrams => unreachable!("{}", NO_DATAGRAMS),
        }
    }

    fn release(&mut self, group: Group, chunk: Chunk) {
        self.group(group).release(chunk);
    }

    fn receive_datagrams(&mut self, _: &SimSocket, _: u64) {
        unreachable!("{}", NO_DATAGRAMS);
    }

    fn datagram_of(&self, _: Chunk) -> Datagram<'_> {
        unreachable!("{}", NO_DATAGRAMS);
    }

    fn datagrams_dropped(&self, _: &SimSocket) -> u32 {
        0
    }

    fn discard_datagrams(&self, _: &SimSocket) -> u32 {
        0
    }

    fn zero_copy(&self, _socket: &Self::Socket) -> bool {
        self.zero_copy
    }

    fn send(
        &mut self,
        socket: &SimSocket,
        spans: impl Iterator<Item = (usize, Span)>,
        (): &mut (),
        token: u64,
    ) {
        let request = Request::Send {
            conn: socket.conn,
            spans: spans.collect(),
            seen: None,
            done: 0,
            zero_copy: false,
        };
        self.request(token, request);
    }

    fn send_zero_copy(&mut self, socket: &SimSocket, span: Span, token: u64) {
        let request = Request::Send {
            conn: socket.conn,
            spans: vec![(self.shard, span)],
            seen: None,
            done: 0,
            zero_copy: true,
        };
        self.request(token, request);
    }

    fn send_bytes(&mut self, socket: &SimSocket, bytes: Vec<u8>, token: u64) {
        let conn = socket.conn;
        let done = 0;
        self.request(token, Request::SendBytes { conn, bytes, done });
    }

    fn sent_bytes(&mut self, token: u64) -> Vec<u8> {
        self.sent
            .remove(&token)
            .expect("once for each send that has completed")
    }

    fn append(&mut self, _file: &SimSocket, _bytes: Vec<u8>, _token: u64) {
        unreachable!("there are no files in the simulated world");
    }

    fn file_bytes(&self, _file: &SimSocket) -> u64 {
        u64::MAX
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        _link: Option<&Arc<SecuredLink>>,
        token: u64,
    ) -> io::Result<SimSocket> {
        let mut net = self.net.borrow_mut();
        if net.now_ns < self.no_descriptors_until_ns {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let knocked = net.knock(address, self.shard);
        drop(net);
        let (conn, at_ns) = knocked.ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.request(token, Request::Connect { conn, at_ns });
        Ok(SimSocket {
            conn,
            net: Rc::clone(&self.net),
        })
    }

    fn adopt(&mut self, _stream: OwnedFd) -> io::Result<SimSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connected(&mut self, _token: u64) {}

    fn send_now(&mut self, socket: &SimSocket, bytes: &[u8]) -> io::Result<usize> {
        let mut net = self.net.borrow_mut();
        if let Some(errno) = net.shard_send_error(socket.conn) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let len = bytes.len().min(net.shard_room(socket.conn));
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        net.shard_write(socket.conn, &bytes[..len]);
        Ok(len)
    }

    fn cancel(&mut self, target: u64, token: u64) {
        let found = self.requests.iter().position(|(token, request)| {
            *token == target && !matches!(request, Request::Release { .. })
        });
        let Some((_, request)) = found.and_then(|index| self.requests.remove(index)) else {
            self.complete(token, -libc::ENOENT, false);
            return;
        };
        let done = match request {
            Request::Send { done, .. } => done,
            Request::SendBytes { done, bytes, .. } => {
                self.sent.insert(target, bytes);
                done
            }
            _ => 0,
        };
        let result = match done {
            0 => -libc::ECANCELED,
            done => done as i32, // a few batches
        };
        self.complete(target, result, false);
        self.complete(token, 0, false);
    }

    fn arm_wake(&mut self, _token: u64) {}

    fn quiesce(&mut self) {
        self.requests.clear();
        self.completions.clear();
    }

    fn peer(&self, socket: &SimSocket) -> Option<SocketAddr> {
        Some(self.net.borrow().address_of(socket.conn))
    }

    fn is_on_this_host(&self, _socket: &SimSocket) -> bool {
        false
    }

    fn prepare_link(&self, _socket: &SimSocket) -> io::Result<()> {
        Ok(())
    }

    fn peer_has_ended(&self, socket: &SimSocket) -> bool {
        self.net.borrow().peer_has_ended(socket.conn)
    }

    /// Connections of the simulator end in good order, or are found broken when they are read.
    fn left_of(&self, _: &SimSocket) -> Left {
        Left::Open
    }

    fn unread_bytes(&self, socket: &SimSocket) -> usize {
        self.net.borrow_mut().shard_unread(socket.conn)
    }

    fn drop_unsent_on_close(&self, socket: &SimSocket) {
        self.net.borrow_mut().drop_unsent_on_close(socket.conn);
    }

    fn shutdown(&self, socket: &SimSocket, how: Shutdown) {
        let (read, write) = match how {
            Shutdown::Read => (true, false),
            Shutdown::Write => (false, true),
            Shutdown::Both => (true, true),
        };
        let mut net = self.net.borrow_mut();
        net.shard_shutdown(socket.conn, read, write);
    }
}
