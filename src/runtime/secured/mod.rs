//! TLS between the data ring and the shard: the shard sees plain bytes, and connections whose peers are known.
//!
//! ```text
//! ring --accept--> handshakes (accept.rs, shake.rs) --done--> the shard's accept completes
//!     --connect-> handshakes (connect.rs) --done--> the shard's connect completes
//!     --receive--> opened into plain.rs -----------> the shard's receive completes (receive.rs)
//!     <--send----- sealed, piece by piece <--------- the shard's send (send.rs)
//! ```
//!
//! Requests of connections without TLS do not come here: their tokens lack `SECURED`. With it a token is the
//! number of a request in `Requests`. What the shard is told has its own token again, and bytes that it is
//! told of have `OPENED` in their completion's flags.

mod accept;
mod connect;
mod crowd;
mod halves;
mod plain;
mod receive;
mod requests;
mod send;
mod shake;
mod socket;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use self::accept::Handshakes;
use self::halves::Halves;
use self::plain::PlainBuffers;
use self::receive::Ciphertext;
use self::requests::{Request, Requests};
use self::send::Sending;
use crate::uring::Ring;
use weir_shard::port::{Chunk, Completion, Group, TlsCounts};

pub use self::accept::SecuredPort;
pub use self::halves::HalvesLimit;
pub(crate) use self::socket::send_now;
pub use self::socket::Socket;

/// In the tokens of requests that are made here: no shard has it.
pub(crate) const SECURED: u64 = 1 << 63;
/// The token of a cancel that is made here: the number of no request.
const CANCEL: u64 = u64::MAX;
/// In the flags of completions that are made here: no kernel has it. What stands above bit 16 is a number of
/// [`Tls::chunks`] then, or of a socket that was accepted.
pub(crate) const OPENED: u32 = 1 << 14;
/// IORING_CQE_F_MORE.
pub(crate) const MORE: u32 = 1 << 1;
/// IORING_CQE_F_BUFFER.
const BUFFER: u32 = 1;
/// What a kernel says of a completion, its buffer's number left out.
const KERNEL_FLAGS: u32 = 0xffff;

/// Bytes that are opened before the shard is told of them: a part of a core's second cache.
const OPENED_AT_ONCE_BYTES: usize = 128 * 1024;
/// Times in a turn that pieces of sends follow those that are through.
const PIECES_A_TURN: usize = 64;
/// What is opened and waits for the shard, at most; beyond it stays as it came.
const INGRESS_BYTES: usize = 4 << 20;
/// The same of what the shard handles at once.
const PROMPT_BYTES: usize = 4 << 20;

/// What a turn still has to do.
#[derive(Default)]
struct Turn {
    /// Completions of the ring, in their order.
    raw: VecDeque<Completion>,
    /// More of them that it may take.
    left: usize,
    /// Times that pieces of sends followed those that are through.
    rounds: usize,
    /// Bytes that were opened since the shard was told last.
    opened_bytes: usize,
    is_through: bool,
}

/// All of TLS that a shard has.
pub(crate) struct Tls {
    requests: Requests,
    handshakes: Handshakes,
    /// Handshakes of each port.
    places: usize,
    halves: Halves,
    sending: Sending,
    /// What was opened of what emitters sent, and of what others sent.
    plain: [PlainBuffers; 2],
    /// Chunks that the shard was told of and has not asked for.
    chunks: Numbered<Chunk>,
    /// Connections that the shard was told of and has not taken.
    accepted: Numbered<Socket>,
    /// Received and not opened: there was no room.
    waiting: [VecDeque<Ciphertext>; 2],
    /// What the shard is told next.
    told: Vec<Completion>,
    /// Of one completion's bytes.
    opened: Vec<Chunk>,
    turn: Turn,
    /// Whether to say of a peer that it was refused, and what to say behind it.
    notice: Notice,
}

/// Port, address and kind of what would be said.
pub(crate) type Notice = Box<dyn Fn(&str, Option<IpAddr>, &'static str) -> Option<String>>;

impl Tls {
    /// With so many handshakes under way at each port, at most.
    pub(crate) fn new(notice: Notice, places: usize, halves: HalvesLimit) -> Tls {
        Tls {
            notice,
            places,
            requests: Requests::default(),
            handshakes: Handshakes::default(),
            halves: Halves::new(halves),
            sending: Sending::default(),
            plain: [
                PlainBuffers::new(0, INGRESS_BYTES),
                PlainBuffers::new(1, PROMPT_BYTES),
            ],
            chunks: Numbered::default(),
            accepted: Numbered::default(),
            waiting: Default::default(),
            told: Vec::new(),
            opened: Vec::new(),
            turn: Turn::default(),
        }
    }

    /// Somebody speaks TLS, or may: otherwise completions are the shard's as they are.
    pub(crate) fn is_used(&self) -> bool {
        let has_handshakes = self.handshakes.has_ports() || self.handshakes.count() > 0;
        has_handshakes || !self.requests.is_empty() || !self.told.is_empty()
    }

    /// There is something to do without a completion of the ring.
    pub(crate) fn has_work(&mut self) -> bool {
        !self.told.is_empty() || self.handshakes.has_work() || self.can_open()
    }

    /// How long the shard may wait, of this time: handshakes are looked at sooner while places are short.
    pub(crate) fn wait_max(&self, timeout: Duration) -> Duration {
        match self.is_crowded() {
            true => timeout.min(Duration::from_nanos(accept::LOOK_AGAIN_NS)),
            false => timeout,
        }
    }

    /// A turn begins, with at most `max` completions of the ring.
    pub(crate) fn begin_turn(&mut self, ring: &mut Ring, max: usize) {
        let turn = &mut self.turn;
        ring.drain(&mut turn.raw, max);
        turn.left = max.saturating_sub(turn.raw.len());
        turn.rounds = 0;
        turn.is_through = false;
        self.go_on_from_elsewhere(ring);
    }

    /// Moves to `out` what was made of the next completions: of so many that the shard finds in the cache what was
    /// opened. Nothing: the turn is through.
    pub(crate) fn next(&mut self, ring: &mut Ring, out: &mut Vec<Completion>, now_ns: u64) {
        while out.is_empty() && !self.turn.is_through {
            self.turn.opened_bytes = 0;
            self.open_waiting(ring);
            self.turn.is_through = self.go_on(ring, out);
            if self.turn.is_through {
                self.go_on_with_handshakes(ring, now_ns);
            }
            out.append(&mut self.told);
        }
    }

    /// Handles completions until enough was opened. True: all are handled.
    fn go_on(&mut self, ring: &mut Ring, out: &mut Vec<Completion>) -> bool {
        loop {
            while self.turn.opened_bytes < OPENED_AT_ONCE_BYTES {
                let Some(completion) = self.turn.raw.pop_front() else {
                    break;
                };
                match completion.token & SECURED {
                    0 => out.push(self.with_chunk(ring, completion)),
                    _ => self.on_completion(ring, completion),
                }
            }
            let turn = &mut self.turn;
            if !turn.raw.is_empty() {
                return false;
            }
            turn.rounds += 1;
            let is_last = turn.left == 0 || turn.rounds == PIECES_A_TURN;
            if is_last || !self.sending.goes_on() {
                return true;
            }
            // The next pieces go now, and not after the wait of the next turn.
            ring.submit();
            ring.drain(&mut turn.raw, turn.left);
            turn.left -= turn.raw.len();
        }
    }

    /// A completion of a connection without TLS. Where its bytes lie depends on the completions before it, and those of
    /// connections with TLS are looked at here: so its chunk is taken here too, and kept until the shard asks for it.
    fn with_chunk(&mut self, ring: &mut Ring, completion: Completion) -> Completion {
        let flags = completion.flags;
        let flags = match ring.chunk_of_any(&completion) {
            Some(chunk) => {
                let number = self.chunks.add(chunk).map_or(u32::MAX, u32::from);
                flags & KERNEL_FLAGS | OPENED | number << 16
            }
            None => flags & !BUFFER,
        };
        Completion {
            flags,
            ..completion
        }
    }

    fn on_completion(&mut self, ring: &mut Ring, completion: Completion) {
        match self.requests.get(completion.token) {
            Some(Request::Receive(_)) => self.on_receive(ring, completion),
            Some(Request::Send { .. }) => self.on_sent(ring, completion),
            Some(Request::Accept(_)) => self.on_accept(ring, completion),
            Some(Request::Handshake(_)) => self.on_handshake(ring, completion),
            Some(Request::Connect { .. }) => self.on_connect(ring, completion),
            None => {} // its cancel
        }
    }

    /// The chunk that a completion tells of.
    pub(crate) fn take_chunk(&mut self, completion: &Completion) -> Option<Chunk> {
        match completion.result {
            1.. => self.chunks.take(completion.flags >> 16),
            _ => None,
        }
    }

    /// The connection that an accept's completion tells of.
    pub(crate) fn take_accepted(&mut self, completion: &Completion) -> Option<Socket> {
        self.accepted.take(completion.flags >> 16)
    }

    pub(crate) fn bytes_of(&self, chunk: Chunk) -> &[u8] {
        let of = self.plain.iter().find(|plain| plain.has(chunk));
        of.map_or(&[], |plain| plain.bytes_of(chunk))
    }

    pub(crate) fn release(&mut self, chunk: Chunk) {
        if let Some(plain) = self.plain.iter_mut().find(|plain| plain.has(chunk)) {
            plain.release(chunk);
        }
    }

    /// What each port has counted.
    pub(crate) fn counts(&self) -> Vec<TlsCounts> {
        self.handshakes.counts()
    }

    /// Ends a request of the shard's, if it is one that came here.
    pub(crate) fn cancel(&mut self, ring: &mut Ring, target: u64, token: u64) -> bool {
        if let Some(raw) = self.requests.of_shard(target) {
            ring.cancel(raw, token);
            return true;
        }
        self.cancel_link(target) || self.cancel_accept(ring, target, token)
    }
}

pub(crate) fn is_plain(chunk: Chunk) -> bool {
    plain::is_plain(chunk)
}

/// Which buffers a group's bytes are opened into.
fn pool_of(group: Group) -> usize {
    match group {
        Group::Ingress => 0,
        _ => 1,
    }
}

/// Values that are asked for by number, once.
struct Numbered<T> {
    values: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered {
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Numbered<T> {
    /// None: there are 65,536.
    fn add(&mut self, value: T) -> Option<u16> {
        if let Some(number) = self.free.pop() {
            self.values[usize::from(number)] = Some(value);
            return Some(number);
        }
        let number = u16::try_from(self.values.len()).ok()?;
        self.values.push(Some(value));
        Some(number)
    }

    fn take(&mut self, number: u32) -> Option<T> {
        let at = u16::try_from(number).ok()?;
        let value = self.values.get_mut(usize::from(at))?.take()?;
        self.free.push(at);
        Some(value)
    }

    fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}

/// A completion of a request of the shard's.
fn told(token: u64, result: i32, flags: u32) -> Completion {
    Completion {
        token,
        result,
        flags: flags | OPENED,
    }
}
