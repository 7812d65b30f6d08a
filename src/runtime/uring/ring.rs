//! A shard's data ring: accepts, multishot receives, sends out of arenas, one wait.
//!
//! Completions carry the token of their request and nothing else is remembered here: what a token
//! means is the shard's business.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Napi, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue, IoUring};
use socket2::SockAddr;

use super::arena::ArenaView;
use super::datagrams::{MessageHeader, BEFORE_BYTES};
use super::lent::Lent;
use super::limits::may_lock;
use super::probe::{explain, kernel_release, Features, Unusable};
use super::provided::{ProvidedBuffers, ProvidedConfig};
use weir_config::{DATAGRAM_BUFFERS, DATAGRAM_BYTES_MAX};
use weir_protocol::memory::Span;
use weir_shard::port::{Chunk, Completion, Datagram, Group, Wait, Wake, SEND_RANGES_MAX};

/// Submission entries; the ring submits by itself when they run out.
const SQ_ENTRIES: u32 = 4096;
/// Completion entries. With deferred task work they are made while the shard asks for them, so that few wait at a time;
/// what does not fit the kernel keeps in a list of its own. Each is 16 bytes that count against RLIMIT_MEMLOCK (ADR 0055).
const CQ_ENTRIES: u32 = 8_192;
/// The same without: a burst on every one of 10,000 sockets, while the shard does something else.
const CQ_ENTRIES_AT_ONCE: u32 = 32_768;
/// Wait for as many completions as this unless the minimum wait ends first.
const GATHER_COMPLETIONS: usize = 1024;
/// Where one provided-buffer group serves the emitters and another the analyzers: ACKs must get
/// through when emitters have filled their memory.
const INGRESS_GROUP: u16 = 1;
const CONTROL_GROUP: u16 = 2;
const HTTP_GROUP: u16 = 3;
const DATAGRAM_GROUP: u16 = 4;
const HANDSHAKE_GROUP: u16 = 5;
/// Numbers of their first buffers. Below all of these are those of emitters.
const CONTROL_FIRST: u16 = 0x8000;
const HTTP_FIRST: u16 = 0x9000;
const DATAGRAM_FIRST: u16 = 0xA000;
const HANDSHAKE_FIRST: u16 = 0xB000;
/// No provided buffer has this number, or one above.
pub const FREE_FIRST: u16 = 0xC000;
/// Analyzers' control words are tiny and handled at once.
const CONTROL_BUFFERS: u16 = 64;
const CONTROL_BUFFER_BYTES: u32 = 4096;
/// Parts of handshakes are worked on at once, and most are smaller than this. Pages that nobody has written take no memory.
const HANDSHAKE_BUFFERS: u16 = 256;
const HANDSHAKE_BUFFER_BYTES: u32 = 4096;
/// HTTP requests are copied out at once when they are not whole: a turn's worth is enough.
const HTTP_BUFFERS_INCREMENTAL: (u16, u32) = (8, 128 * 1024);
const HTTP_BUFFERS_CLASSIC: (u16, u32) = (128, 8 * 1024);

/// Where a gathering send finds its ranges. Must stay alive until the send has completed; it does
/// not move, so it may live in a table that grows.
pub struct SendVector(Box<VectorParts>);

struct VectorParts {
    header: libc::msghdr,
    ranges: [libc::iovec; SEND_RANGES_MAX],
}

impl SendVector {
    /// An empty vector.
    pub fn new() -> SendVector {
        // SAFETY: both are plain C structs of integers and pointers, for which zero is valid.
        SendVector(Box::new(unsafe { std::mem::zeroed() }))
    }
}

impl Default for SendVector {
    fn default() -> SendVector {
        SendVector::new()
    }
}

/// What a ring is made of.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Receive buffers for emitters, a power of two.
    pub ingress_buffers: u16,
    /// Bytes of each.
    pub ingress_buffer_bytes: u32,
    /// Bytes of the longest datagram that is received whole; 0: there are none.
    pub datagram_bytes: u32,
    /// Before it sleeps, the ring looks into the interface's queues itself for this long; zero: never.
    /// Whole microseconds, at most `u32::MAX`.
    pub busy_poll: Duration,
}

/// The data ring. Lives on the thread that made it.
///
/// Field order is drop order: the ring goes before the memory that the kernel could still touch. What a
/// request reads that outlives even the ring is never freed, see `Lent`.
pub struct Ring {
    ring: IoUring,
    ingress: ProvidedBuffers,
    control: ProvidedBuffers,
    http: ProvidedBuffers,
    handshakes: ProvidedBuffers,
    datagrams: Option<ProvidedBuffers>,
    /// Of receives of datagrams.
    message_header: MessageHeader,
    /// Bytes that sends outside the arenas, and appends to files, read.
    outgoing: Lent<Vec<u8>>,
    /// Addresses that connects read.
    addresses: Lent<Box<SockAddr>>,
    arenas: Vec<ArenaView>,
    wake: Arc<Wake>,
    wake_word: Box<[u8; 8]>,
    features: Features,
    registered_arena: Option<usize>,
    /// Kernel entries so far.
    pub enters: u64,
}

impl Ring {
    /// Makes the ring on the calling thread. `arenas` are all shards' arenas, `own` the index of
    /// this shard's, which is registered for zero-copy.
    ///
    /// # Errors
    /// What is missing and how to mend it.
    pub fn new(
        config: RingConfig,
        features: Features,
        arenas: Vec<ArenaView>,
        own: usize,
        wake: Arc<Wake>,
    ) -> Result<Ring, Unusable> {
        let failed = |error: io::Error| explain(&error, &kernel_release());
        let mut builder = IoUring::builder();
        let completions = match features.defer_taskrun {
            true => CQ_ENTRIES,
            false => CQ_ENTRIES_AT_ONCE,
        };
        builder.setup_cqsize(completions).setup_submit_all();
        if features.defer_taskrun {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag();
        } else {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        let ring = builder.build(SQ_ENTRIES).map_err(failed)?;
        if !config.busy_poll.is_zero() {
            let micros = config.busy_poll.as_micros().clamp(1, u128::from(u32::MAX)) as u32; // clamped
            let mut napi = Napi::new().set_busy_poll_timeout(micros);
            let registered = ring.submitter().register_napi(&mut napi);
            registered.map_err(Unusable::NoBusyPoll)?;
        }
        let ingress = ProvidedConfig {
            group: INGRESS_GROUP,
            first: 0,
            buffers: config.ingress_buffers,
            buffer_bytes: config.ingress_buffer_bytes,
            incremental: features.incremental,
        };
        let control = ProvidedConfig {
            group: CONTROL_GROUP,
            first: CONTROL_FIRST,
            buffers: CONTROL_BUFFERS,
            buffer_bytes: CONTROL_BUFFER_BYTES,
            // Single and multishot receives share this group: their completions may come in
            // another order than they took pieces of a buffer, so each takes a whole one.
            incremental: false,
        };
        let ingress = ProvidedBuffers::register(&ring, ingress).map_err(failed)?;
        let control = ProvidedBuffers::register(&ring, control).map_err(failed)?;
        let (buffers, buffer_bytes) = if features.incremental {
            HTTP_BUFFERS_INCREMENTAL
        } else {
            HTTP_BUFFERS_CLASSIC
        };
        let http = ProvidedConfig {
            group: HTTP_GROUP,
            first: HTTP_FIRST,
            buffers,
            buffer_bytes,
            incremental: features.incremental,
        };
        let http = ProvidedBuffers::register(&ring, http).map_err(failed)?;
        let datagrams = ProvidedConfig {
            group: DATAGRAM_GROUP,
            first: DATAGRAM_FIRST,
            buffers: DATAGRAM_BUFFERS,
            buffer_bytes: config.datagram_bytes.min(DATAGRAM_BYTES_MAX) + BEFORE_BYTES,
            // What is left of a buffer may be too little for the next one.
            incremental: false,
        };
        let handshakes = ProvidedConfig {
            group: HANDSHAKE_GROUP,
            first: HANDSHAKE_FIRST,
            buffers: HANDSHAKE_BUFFERS,
            buffer_bytes: HANDSHAKE_BUFFER_BYTES,
            // Each takes a whole one: as of control.
            incremental: false,
        };
        let handshakes = ProvidedBuffers::register(&ring, handshakes).map_err(failed)?;
        let datagrams = match config.datagram_bytes {
            0 => None,
            _ => Some(ProvidedBuffers::register(&ring, datagrams).map_err(failed)?),
        };
        let mut this = Ring {
            ring,
            ingress,
            control,
            http,
            handshakes,
            datagrams,
            message_header: MessageHeader::new(),
            outgoing: Lent::new(),
            addresses: Lent::new(),
            arenas,
            wake,
            wake_word: Box::new([0; 8]),
            features,
            registered_arena: None,
            enters: 0,
        };
        this.register_arena(own);
        Ok(this)
    }

    /// Whether zero-copy sends are possible: the kernel has them and let the arena be registered.
    pub fn zero_copy(&self) -> bool {
        self.registered_arena.is_some()
    }

    /// Accepts one connection. A multishot request would not do: it goes on in the kernel while anybody is in the
    /// backlog, and a crowd that comes at once would hold up the whole ring (1,000 connections: 40 ms). On a socket
    /// that several rings accept from, the kernel would moreover always wake the ring that came first.
    pub fn accept(&mut self, listener: RawFd, token: u64) {
        let none = std::ptr::null_mut();
        let entry = opcode::Accept::new(Fd(listener), none, none.cast());
        self.push(entry.flags(libc::SOCK_CLOEXEC).build(), token);
    }

    /// Receives into `group` until the stream ends, an error, ENOBUFS, or the kernel's whim.
    pub fn receive(&mut self, fd: RawFd, group: Group, token: u64) {
        let group = self.group(group).group();
        self.push(opcode::RecvMulti::new(Fd(fd), group).build(), token);
    }

    /// Receives datagrams until an error, ENOBUFS, or the kernel's whim. To be called only where there is memory for them
    /// ([`RingConfig::datagram_bytes`]).
    pub fn receive_datagrams(&mut self, fd: RawFd, token: u64) {
        let header = self.message_header.address();
        let entry = opcode::RecvMsgMulti::new(Fd(fd), header, DATAGRAM_GROUP).build();
        self.push(entry, token);
    }

    /// The datagram that a chunk holds.
    #[inline]
    pub fn datagram_of(&self, chunk: Chunk) -> Datagram<'_> {
        self.message_header
            .read(self.bytes_of(Group::Datagrams, chunk))
    }

    /// Receives a part of a handshake, or looks at it without taking it.
    pub fn receive_handshake(&mut self, fd: RawFd, is_look: bool, token: u64) {
        let flags = if is_look { libc::MSG_PEEK } else { 0 };
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), HANDSHAKE_BUFFER_BYTES)
            .flags(flags)
            .buf_group(self.handshakes.group())
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, token);
    }

    /// What a receive of a handshake brought is given to `use_it`, and its memory back. None: it brought nothing.
    pub fn handshake_bytes<T>(
        &mut self,
        completion: &Completion,
        use_it: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let len = u32::try_from(completion.result).ok()?;
        let chunk = self.handshakes.take(len, completion.flags)?;
        let used = (!chunk.is_empty()).then(|| use_it(self.handshakes.bytes_of(chunk)));
        self.handshakes.release(chunk);
        used
    }

    /// Receives once.
    pub fn receive_once(&mut self, fd: RawFd, group: Group, token: u64) {
        let group = self.group(group);
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), CONTROL_BUFFER_BYTES)
            .buf_group(group.group())
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, token);
    }

    /// Sends spans of shards' arenas one after the other, all of them unless an error cuts them
    /// short. The kernel copies; when it has, the completion comes.
    pub fn send(
        &mut self,
        fd: RawFd,
        spans: impl Iterator<Item = (usize, Span)>,
        vector: &mut SendVector,
        token: u64,
    ) {
        let parts = &mut *vector.0;
        let mut count = 0;
        for (range, (shard, span)) in parts.ranges.iter_mut().zip(spans) {
            range.iov_base = self.arenas[shard].address(span).cast_mut().cast();
            range.iov_len = span.len as usize;
            count += 1;
        }
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        if count == 1 {
            let range = &parts.ranges[0];
            let (address, len) = (range.iov_base.cast::<u8>(), range.iov_len as u32); // a span's
            let entry = opcode::Send::new(Fd(fd), address, len).flags(flags).build();
            self.push(entry, token);
            return;
        }
        parts.header.msg_iov = parts.ranges.as_mut_ptr();
        parts.header.msg_iovlen = count;
        let header: *const libc::msghdr = &parts.header;
        let entry = opcode::SendMsg::new(Fd(fd), header)
            .flags(flags as u32)
            .build(); // bit pattern
        self.push(entry, token);
    }

    /// Sends a span of this shard's own arena without a copy, see [`Ring::zero_copy`]. The result
    /// comes first, the release of the memory later.
    pub fn send_zero_copy(&mut self, fd: RawFd, span: Span, token: u64) {
        const SEND_ZC_REPORT_USAGE: u16 = 8;
        let own = self
            .registered_arena
            .expect("the caller asked whether zero-copy is possible");
        let address = self.arenas[own].address(span);
        let entry = opcode::SendZc::new(Fd(fd), address, span.len)
            .buf_index(Some(0))
            .zc_flags(SEND_ZC_REPORT_USAGE)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(entry, token);
    }

    /// Sends bytes that lie outside the arenas, all of them unless an error cuts them short. They are
    /// kept until [`Ring::sent_bytes`], to be called when the completion comes.
    pub fn send_bytes(&mut self, fd: RawFd, bytes: Vec<u8>, token: u64) {
        let all = 0..bytes.len();
        self.send_part(fd, bytes, all, token);
    }

    /// The same with a part of the bytes.
    pub fn send_part(&mut self, fd: RawFd, bytes: Vec<u8>, part: Range<usize>, token: u64) {
        let slice = &bytes[part];
        let len = u32::try_from(slice.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(fd), slice.as_ptr(), len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.outgoing.lend(token, bytes);
        self.push(entry, token);
    }

    /// Writes bytes at the end of a file that was opened to append, and keeps them as
    /// [`Ring::send_bytes`] does.
    pub fn append(&mut self, fd: RawFd, bytes: Vec<u8>, token: u64) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(Fd(fd), bytes.as_ptr(), len)
            .offset(u64::MAX) // where the file is
            .build();
        self.outgoing.lend(token, bytes);
        self.push(entry, token);
    }

    /// The bytes of a send or an append that has completed.
    pub fn sent_bytes(&mut self, token: u64) -> Vec<u8> {
        self.outgoing.take_back(token).unwrap_or_default()
    }

    /// Connects a new socket; the completion tells how that went, [`Ring::connected`] is to be called
    /// then.
    pub fn connect(&mut self, fd: RawFd, address: SocketAddr, token: u64) {
        let address = Box::new(SockAddr::from(address));
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len()).build();
        self.addresses.lend(token, address);
        self.push(entry, token);
    }

    /// A connect has completed.
    pub fn connected(&mut self, token: u64) {
        self.addresses.take_back(token);
    }

    /// Cancels the request with this token; the request itself completes with ECANCELED.
    pub fn cancel(&mut self, target: u64, token: u64) {
        self.push(opcode::AsyncCancel::new(target).build(), token);
    }

    /// Arms the wake-up: the next [`Wake::wake`] ends the wait with this token.
    pub fn arm_wake(&mut self, token: u64) {
        let word = self.wake_word.as_mut_ptr();
        let fd = self.wake.as_fd().as_raw_fd();
        self.push(opcode::Read::new(Fd(fd), word, 8).build(), token);
    }

    /// Submits what is queued and looks what has come, without a wait.
    ///
    /// # Errors
    /// As of [`Ring::wait`].
    pub fn look(&mut self) -> io::Result<()> {
        self.enter(0, Duration::ZERO, 0)
    }

    /// Submits what is queued, and runs nothing else: what a send completes with at once can be drained.
    pub fn submit(&mut self) {
        self.enters += 1;
        // What is not submitted now is submitted by the next wait, which says what is wrong.
        let _ = self.ring.submit();
    }

    /// Submits what is queued and waits.
    ///
    /// # Errors
    /// Only what cannot be waited out; a timeout or a signal is none.
    pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
        if wait.gather.is_zero() {
            return self.enter(1, wait.timeout, 0);
        }
        let gather_us = u32::try_from(wait.gather.as_micros()).unwrap_or(u32::MAX);
        if self.features.min_wait {
            return self.enter(GATHER_COMPLETIONS, wait.timeout, gather_us);
        }
        self.enter(1, wait.timeout, 0)?;
        if self.ring.completion().is_empty() {
            return Ok(());
        }
        self.enter(GATHER_COMPLETIONS, wait.gather, 0)
    }

    /// The socket that an accept's completion brought. To be called once for each.
    ///
    /// # Errors
    /// The errno that the kernel reported, EMFILE for instance.
    pub fn accepted(&mut self, completion: &Completion) -> io::Result<OwnedFd> {
        completion.count()?;
        // SAFETY: a successful accept made this descriptor and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(completion.result) })
    }

    /// Moves at most `max` completions into `out`, oldest first.
    #[inline]
    pub fn drain(&mut self, out: &mut impl Extend<Completion>, max: usize) {
        let completions = self.ring.completion();
        out.extend(completions.take(max).map(|entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Completions that are there.
    pub fn ready(&mut self) -> usize {
        self.ring.completion().len()
    }

    /// The bytes that a receive completion brought; none at end of stream.
    #[inline]
    pub fn chunk(&mut self, group: Group, completion: &Completion) -> Option<Chunk> {
        let len = u32::try_from(completion.result).ok()?;
        let buffers = match group {
            Group::Ingress => &mut self.ingress,
            Group::Control => &mut self.control,
            Group::Http => &mut self.http,
            Group::Datagrams => self.datagrams.as_mut()?,
        };
        let chunk = buffers.take(len, completion.flags)?;
        if chunk.is_empty() {
            buffers.release(chunk);
            return None;
        }
        Some(chunk)
    }

    /// The same of whatever memory it is of. Chunks of a buffer lie in it in the order of their completions: whoever
    /// asks for some of them at once and for others later asks for those of others by this, so that all are in order.
    pub fn chunk_of_any(&mut self, completion: &Completion) -> Option<Chunk> {
        let buffer = cqueue::buffer_select(completion.flags)?;
        let groups = [
            Group::Ingress,
            Group::Control,
            Group::Http,
            Group::Datagrams,
        ];
        let group = groups
            .into_iter()
            .find(|group| self.group(*group).has(buffer))?;
        self.chunk(group, completion)
    }

    /// A chunk's bytes.
    #[inline]
    pub fn bytes_of(&self, group: Group, chunk: Chunk) -> &[u8] {
        self.group(group).bytes_of(chunk)
    }

    /// A chunk's bytes, to be changed where they lie.
    #[inline]
    pub fn bytes_of_mut(&mut self, group: Group, chunk: Chunk) -> &mut [u8] {
        let buffers = match group {
            Group::Ingress => &mut self.ingress,
            Group::Control => &mut self.control,
            Group::Http => &mut self.http,
            Group::Datagrams => self.datagrams.as_mut().unwrap_or(&mut self.control),
        };
        buffers.bytes_of_mut(chunk)
    }

    /// The bytes of a span of a shard's arena, as a send would read them.
    #[inline]
    pub fn sent_from(&self, shard: usize, span: Span) -> &[u8] {
        self.arenas[shard].bytes(span)
    }

    /// Gives a chunk's memory back.
    #[inline]
    pub fn release(&mut self, group: Group, chunk: Chunk) {
        match group {
            Group::Ingress => self.ingress.release(chunk),
            Group::Control => self.control.release(chunk),
            Group::Http => self.http.release(chunk),
            Group::Datagrams => {
                if let Some(datagrams) = &mut self.datagrams {
                    datagrams.release(chunk);
                }
            }
        }
    }

    /// Ends everything that is under way, so that sockets and memory are free when this returns. A
    /// closed ring would let go of them later, at the kernel's leisure: a listener would still hold
    /// its port when the next distributor starts.
    ///
    /// Of many requests, those that the caller knows should be cancelled before, one by one: to find each of
    /// the others the kernel walks its whole table again.
    ///
    /// What cannot be ended within a second, a write to a disk that hangs, keeps its memory for good.
    pub fn quiesce(&mut self) {
        const PATIENCE_S: u64 = 1;
        let timeout = Timespec::new().sec(PATIENCE_S);
        self.settle_cancelled();
        let everything = CancelBuilder::any().all();
        if let Err(error) = self
            .ring
            .submitter()
            .register_sync_cancel(Some(timeout), everything)
        {
            if error.raw_os_error() != Some(libc::ENOENT) {
                log::debug!("requests not cancelled: {error}");
            }
        }
        // Runs what the cancellations left to do.
        let _ = self.enter(0, Duration::ZERO, 0);
        self.forget_completions();
        let left = self.outgoing.len() + self.addresses.len();
        if left > 0 {
            log::warn!("{left} requests go on behind the end of their ring: a disk that hangs?");
        }
    }

    /// Submits what is queued and lets the kernel conclude what was cancelled: until then it is in its table.
    fn settle_cancelled(&mut self) {
        const ROUNDS: usize = 4;
        const ROUND: Duration = Duration::from_millis(2);
        for round in 0..ROUNDS {
            let _ = self.enter(CQ_ENTRIES as usize, ROUND, 0);
            if self.forget_completions() == 0 && round > 0 {
                return;
            }
        }
    }

    /// Takes back what completed requests had borrowed, and no more of them; how many there were.
    fn forget_completions(&mut self) -> usize {
        let completions = self.ring.completion();
        completions
            .map(|entry| {
                self.outgoing.take_back(entry.user_data());
                self.addresses.take_back(entry.user_data());
            })
            .count()
    }

    /// Receive memory in bytes, all groups.
    pub fn receive_bytes(&self) -> usize {
        let datagrams = self.datagrams.as_ref().map_or(0, ProvidedBuffers::bytes);
        self.ingress.bytes() + self.control.bytes() + self.http.bytes() + datagrams
    }

    fn group(&self, group: Group) -> &ProvidedBuffers {
        match group {
            Group::Ingress => &self.ingress,
            Group::Control => &self.control,
            Group::Http => &self.http,
            // A chunk of it exists only where there is memory for it.
            Group::Datagrams => self.datagrams.as_ref().unwrap_or(&self.control),
        }
    }

    fn register_arena(&mut self, own: usize) {
        if !self.features.send_zc {
            return;
        }
        let iovec = self.arenas[own].iovec();
        // The kernel brings all of it into memory before it finds that the limit is too small.
        if let Err(limit) = may_lock(iovec.iov_len as u64) {
            return log::warn!(
                "egress arena of {} bytes not registered (RLIMIT_MEMLOCK is {limit} bytes, and the rings of a shard lock {} of them): sends are copied; raise it for zero-copy, or say --zero-copy 0",
                iovec.iov_len, weir_host::SHARD_LOCKED_BYTES
            );
        }
        // SAFETY: `arenas` keeps the mapping alive as long as the ring, see the field order.
        let registered = unsafe { self.ring.submitter().register_buffers(&[iovec]) };
        match registered {
            Ok(()) => self.registered_arena = Some(own),
            Err(error) => log::warn!(
                "egress arena of {} bytes not registered ({error}): sends are copied; raise RLIMIT_MEMLOCK for zero-copy",
                iovec.iov_len
            ),
        }
    }

    fn enter(&mut self, want: usize, timeout: Duration, min_wait_us: u32) -> io::Result<()> {
        self.enters += 1;
        let timespec = Timespec::new()
            .sec(timeout.as_secs())
            .nsec(timeout.subsec_nanos());
        let args = SubmitArgs::new()
            .timespec(&timespec)
            .min_wait_usec(min_wait_us);
        match self.ring.submitter().submit_with_args(want, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn push(&mut self, entry: squeue::Entry, token: u64) {
        let entry = entry.user_data(token);
        // SAFETY: every entry built above points to memory that outlives the ring (arenas and provided
        // buffers by field order, the wake word and the header of datagrams by ownership) or the request (a send's vector, by the
        // contract of `SendVector`; bytes and addresses by that of `Lent`). A vector of bytes and a
        // boxed address do not move when their table grows.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enters += 1;
            if let Err(error) = self.ring.submit() {
                // EBUSY: completions must be drained first, which the kernel does into its own
                // overflow list; the next submit succeeds. Anything else cannot happen for a full
                // queue of well-formed entries.
                assert!(
                    matches!(
                        error.raw_os_error(),
                        Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)
                    ),
                    "cannot submit: {error}"
                );
            }
        }
    }
}
