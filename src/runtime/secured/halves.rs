//! Records that have not come whole: what they hold of memory, and how long they may.
//!
//! What a connection has of a record is kept until the rest comes: up to 17 KiB each, of ever so many connections. So
//! it is judged as a frame is that has not come whole (`engine/partial.rs`): none may take longer than
//! `--frame-timeout`, and when all together hold more than `--partial-bytes`, those go first that cost most: bytes times
//! age. Time in which nothing is read from a connection, or what was read waits for room, does not count. The same is kept
//! of handshake messages that come in several records.

use std::cmp::Reverse;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::SockRef;

use super::socket::{Secured, Stream};
use super::Tls;
use weir_tls::{Failure, FailureKind};

/// When room is made, this part of all is made beyond what is wanted.
const SPARE_PART: usize = 64;
/// How often a shard looks for those that take too long.
const LOOK_EVERY_NS: u64 = 250_000_000;

/// How much a shard keeps of records that have not come whole.
#[derive(Clone, Copy, Debug)]
pub struct HalvesLimit {
    /// Most bytes.
    pub bytes: usize,
    /// Longest time, from a record's first byte.
    pub time: Duration,
}

/// All of a shard.
pub(super) struct Halves {
    limit: HalvesLimit,
    limit_ns: u64,
    /// Bytes of all. Each connection gives its own back when it goes.
    held: Arc<AtomicUsize>,
    /// Who has some, or had some when this was looked through last.
    holders: Vec<Weak<Secured>>,
    looked_ns: u64,
}

/// One connection's.
#[derive(Default)]
pub(super) struct Half {
    bytes: usize,
    /// What they are counted in.
    held: Arc<AtomicUsize>,
    /// Time of its shard's when its first byte came; later by the times in which nothing was read.
    since_ns: u64,
    /// Nothing has been read since then.
    paused_ns: Option<u64>,
    /// It is among its shard's holders.
    is_listed: bool,
}

impl Half {
    fn hold(&mut self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Nothing is opened from here on.
    pub(super) fn pause(&mut self, clock_ns: u64) {
        self.paused_ns.get_or_insert(clock_ns);
    }

    fn age_ns(&self, clock_ns: u64) -> u64 {
        let until_ns = self.paused_ns.unwrap_or(clock_ns);
        until_ns.saturating_sub(self.since_ns)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl Halves {
    pub(super) fn new(limit: HalvesLimit) -> Halves {
        Halves {
            limit,
            limit_ns: u64::try_from(limit.time.as_nanos()).unwrap_or(u64::MAX),
            held: Arc::default(),
            holders: Vec::new(),
            looked_ns: 0,
        }
    }

    fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A connection is read from now. It may have been another shard's, with other clocks.
    pub(super) fn resume(&mut self, half: &mut Half, clock_ns: u64) {
        if !Arc::ptr_eq(&half.held, &self.held) {
            let bytes = half.bytes;
            half.hold(0);
            half.held = Arc::clone(&self.held);
            half.hold(bytes);
            half.is_listed = false;
            (half.since_ns, half.paused_ns) = (clock_ns, None);
        }
        if let Some(paused_ns) = half.paused_ns.take() {
            half.since_ns += clock_ns.saturating_sub(paused_ns);
        }
    }

    /// A connection keeps so many bytes of a record. `is_new`: it is another than before.
    pub(super) fn keep(
        &mut self,
        connection: &Arc<Secured>,
        half: &mut Half,
        (bytes, is_new): (usize, bool),
        clock_ns: u64,
    ) {
        if is_new || half.bytes == 0 {
            half.since_ns = clock_ns;
        }
        if bytes != half.bytes {
            half.hold(bytes);
        }
        if bytes > 0 && !half.is_listed {
            half.is_listed = true;
            self.holders.push(Arc::downgrade(connection));
        }
    }

    /// Those that this shard has, and forgets the others.
    fn holders(&mut self) -> Vec<Arc<Secured>> {
        let mut all = Vec::new();
        self.holders.retain(|holder| {
            let Some(connection) = holder.upgrade() else {
                return false;
            };
            let mut stream = connection.lock();
            let half = &mut stream.half;
            let is_here = Arc::ptr_eq(&half.held, &self.held);
            if is_here && half.bytes == 0 {
                half.is_listed = false;
            }
            let is_kept = is_here && half.bytes > 0;
            drop(stream);
            if is_kept {
                all.push(connection);
            }
            is_kept
        });
        all
    }
}

impl Stream {
    /// What has come of a record is thrown away: nothing that follows can be opened.
    fn give_half_up(&mut self) {
        self.session.give_up();
        self.half.hold(0);
    }
}

impl Tls {
    /// A connection is read from now. What came behind its handshake may have been half a record.
    pub(super) fn begin_half(&mut self, connection: &Arc<Secured>) {
        let clock_ns = self.handshakes.clock_ns;
        let mut stream = connection.lock();
        let Stream { session, half, .. } = &mut *stream;
        self.halves.resume(half, clock_ns);
        let kept = (session.held_bytes(), false);
        self.halves.keep(connection, half, kept, clock_ns);
    }

    /// Nothing that has come of it is opened from here on.
    pub(super) fn pause_half(&self, connection: &Secured) {
        let clock_ns = self.handshakes.clock_ns;
        connection.lock().half.pause(clock_ns);
    }

    /// Ends those that take too long.
    pub(super) fn check_halves(&mut self) {
        let clock_ns = self.handshakes.clock_ns;
        if clock_ns < self.halves.looked_ns + LOOK_EVERY_NS {
            return;
        }
        self.halves.looked_ns = clock_ns;
        for connection in self.halves.holders() {
            if connection.lock().half.age_ns(clock_ns) >= self.halves.limit_ns {
                let limit = self.halves.limit.time.as_secs_f64();
                let text =
                    format!("a record has not come whole within {limit} s (--frame-timeout)");
                self.end_half(&connection, &Failure::new(FailureKind::RecordTimeout, text));
            }
        }
    }

    /// Ends those that cost most, when all together hold too much.
    pub(super) fn make_room_for_halves(&mut self) {
        let most = self.halves.limit.bytes;
        if self.halves.held_bytes() <= most {
            return;
        }
        let clock_ns = self.handshakes.clock_ns;
        let cost = |connection: &Arc<Secured>| {
            let half = &connection.lock().half;
            // Of those that have only begun it is the largest that goes.
            let age_ns = u128::from(half.age_ns(clock_ns)) + 1;
            half.bytes as u128 * age_ns
        };
        let mut all = self.halves.holders();
        all.sort_by_cached_key(|connection| Reverse(cost(connection)));
        for connection in all {
            if self.halves.held_bytes() <= most - most / SPARE_PART {
                break;
            }
            let text = format!("others need room, and of the {most} bytes for records that have not come whole (--partial-bytes) its own has taken most for longest");
            self.end_half(&connection, &Failure::new(FailureKind::RecordMemory, text));
        }
    }

    /// Its receive ends by that, and the shard hears of it.
    fn end_half(&mut self, connection: &Secured, failure: &Failure) {
        connection.lock().give_half_up();
        let _ = SockRef::from(&connection.fd).shutdown(Shutdown::Both);
        self.refuse(connection, failure);
    }
}
