//! The emitters: a firehose that writes whenever a socket takes more, or an open loop that sends
//! message n at start + n / rate no matter what.
//!
//! The open loop stamps the *intended* time, so a distributor that stalls is charged for every
//! message that should have gone out meanwhile (no coordinated omission).

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::net::{
    allow_connections, connect_within, event_buffer, is_would_block, mono_ns, Poller,
};
use crate::wire::{lay_frames, Stamp, MESSAGE_LEN_MAX, MESSAGE_LEN_MIN};

/// Most messages of one open-loop burst, so that a late schedule does not keep the sinks waiting.
const BURST_MESSAGES_MAX: u64 = 128;
/// Bytes one connection may hold back before the open loop waits for it. Only memory is bounded
/// by this: the intended times are fixed by the schedule.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// The kernel's timer slack: a sleep shorter than this is spun instead.
const SPIN_NS: u64 = 60_000;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Shape of the load; shared by `load`, `load-sink` and the scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Emitter connections, up to 10,000
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Bytes of one message on the wire, its 5-byte header included
    #[arg(long, default_value_t = 256, value_parser = message_size)]
    pub size: usize,
    /// Messages in one write (firehose only)
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub per_write: u32,
    /// Open loop: messages per second over all connections, one a write, on a constant schedule.
    /// Without it: firehose
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Open loop: send what is due once in so many microseconds and sleep between; 0 sends each
    /// message at its own time and spins for it
    #[arg(long, default_value_t = 0, value_name = "US")]
    pub tick_us: u64,
    /// Firehose into a sink of the same process: pause while this many messages are under way, so
    /// that socket buffers stay in the cache; 0 fills every socket buffer there is
    #[arg(long, default_value_t = 0, value_name = "MESSAGES")]
    pub in_flight: u64,
    /// Stop after this many messages
    #[arg(long, conflicts_with = "seconds")]
    pub messages: Option<u64>,
    /// Stop after this many seconds [default: 5]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Number of the first message; keeps several loads into one sink apart
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub first_sequence: u64,
}

fn message_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (MESSAGE_LEN_MIN..=MESSAGE_LEN_MAX).contains(&n) => Ok(n),
        _ => Err(format!(
            "allowed are {MESSAGE_LEN_MIN} (header and stamp) to {MESSAGE_LEN_MAX}"
        )),
    }
}

impl LoadArgs {
    fn duration_ns(&self) -> u64 {
        (self.seconds.unwrap_or(5.0) * 1e9) as u64
    }

    /// Messages to send; a firehose limited by time has no number.
    fn total(&self) -> u64 {
        match (self.messages, self.rate) {
            (Some(messages), _) => messages,
            (None, Some(rate)) => (rate as f64 * self.duration_ns() as f64 / 1e9) as u64,
            (None, None) => u64::MAX,
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Stamped bytes that the socket did not take.
    backlog: Vec<u8>,
}

/// A set of emitter connections in one event loop. See [`crate::drive`] for who calls what.
pub struct Load {
    args: LoadArgs,
    /// Connections that wait to become writable: all in a firehose, else the backlogged.
    poller: Poller,
    events: Vec<EpollEvent>,
    connections: Vec<Connection>,
    /// Frames laid out once; only their stamps change from write to write.
    frames: Vec<u8>,
    total: u64,
    sent: u64,
    /// Connections whose backlog is not empty.
    backlogged: usize,
    start_ns: u64,
    tick_next_ns: u64,
}

impl Load {
    /// Connects everything (blocking); nothing is sent before [`Load::start`].
    pub fn connect(args: &LoadArgs, emitters: SocketAddr) -> io::Result<Self> {
        allow_connections(args.connections as usize)?;
        let mut connections = Vec::with_capacity(args.connections as usize);
        for _ in 0..args.connections {
            let stream = connect_within(emitters, CONNECT_PATIENCE)?;
            stream.set_nonblocking(true)?;
            connections.push(Connection {
                stream,
                backlog: Vec::new(),
            });
        }
        let frames = if args.rate.is_some() {
            1
        } else {
            args.per_write as usize
        };
        Ok(Self {
            poller: Poller::new()?,
            events: event_buffer(),
            connections,
            frames: lay_frames(args.size, frames),
            total: args.total(),
            sent: 0,
            backlogged: 0,
            start_ns: 0,
            tick_next_ns: 0,
            args: args.clone(),
        })
    }

    /// Starts the schedule, or turns the firehose on.
    pub fn start(&mut self) -> io::Result<()> {
        self.start_ns = mono_ns();
        if self.args.rate.is_none() {
            for (i, connection) in self.connections.iter().enumerate() {
                self.poller
                    .add(&connection.stream, i as u64, EpollFlags::EPOLLOUT)?;
            }
        }
        Ok(())
    }

    /// Stamps nothing more; backlogs still go out.
    pub fn finish(&mut self) {
        self.total = self.sent;
    }

    /// Readable when a connection takes more: call [`Load::write_ready`].
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Messages to send in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Messages stamped so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Everything is in the kernel's hands.
    pub fn is_finished(&self) -> bool {
        self.sent >= self.total && self.backlogged == 0
    }

    /// How long the open loop can sleep.
    pub fn wait(&self, now_ns: u64) -> Duration {
        let Some(due_ns) = self.due_ns().filter(|_| self.sent < self.total) else {
            return Duration::MAX;
        };
        let wake_ns = due_ns.max(self.tick_next_ns);
        let left_ns = wake_ns.saturating_sub(now_ns);
        Duration::from_nanos(if left_ns < SPIN_NS {
            0
        } else {
            left_ns - SPIN_NS / 2
        })
    }

    /// When the next message of the open loop ought to go; `None` for a firehose and before the
    /// start.
    fn due_ns(&self) -> Option<u64> {
        if self.start_ns == 0 {
            return None;
        }
        let rate = u128::from(self.args.rate?);
        Some(self.start_ns + (u128::from(self.sent) * 1_000_000_000 / rate) as u64)
    }

    /// Open loop: sends what is due, at most one burst.
    pub fn send_due(&mut self, now_ns: u64) -> io::Result<()> {
        if now_ns < self.tick_next_ns {
            return Ok(());
        }
        for _ in 0..BURST_MESSAGES_MAX {
            match self.due_ns() {
                Some(due_ns) if due_ns <= now_ns && self.sent < self.total => {
                    let index = (self.sent % self.connections.len() as u64) as usize;
                    if self.connections[index].backlog.len() >= BACKLOG_BYTES_MAX {
                        return Ok(());
                    }
                    self.send_one(index, due_ns)?;
                }
                _ => {
                    self.tick_next_ns = now_ns + self.args.tick_us * 1000;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send_one(&mut self, index: usize, due_ns: u64) -> io::Result<()> {
        self.stamp(1, due_ns);
        let connection = &mut self.connections[index];
        let sent = if connection.backlog.is_empty() {
            write_some(&mut connection.stream, &self.frames)?
        } else {
            0
        };
        if sent < self.frames.len() {
            if connection.backlog.is_empty() {
                self.backlogged += 1;
                self.poller
                    .add(&connection.stream, index as u64, EpollFlags::EPOLLOUT)?;
            }
            connection.backlog.extend_from_slice(&self.frames[sent..]);
        }
        Ok(())
    }

    /// One write on every connection that takes more.
    pub fn write_ready(&mut self) -> io::Result<()> {
        let count = self.poller.wait_up_to(&mut self.events, Duration::ZERO)?;
        for i in 0..count {
            self.on_writable(self.events[i].data() as usize)?;
        }
        Ok(())
    }

    /// The backlog first, then the firehose's next write.
    fn on_writable(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if !connection.backlog.is_empty() {
            let sent = write_some(&mut connection.stream, &connection.backlog)?;
            connection.backlog.drain(..sent);
            if connection.backlog.is_empty() {
                self.backlogged -= 1;
                if self.args.rate.is_some() || self.sent >= self.total {
                    self.poller.remove(&connection.stream)?;
                }
            }
            return Ok(());
        }
        self.pour(index)
    }

    /// One write of the firehose.
    fn pour(&mut self, index: usize) -> io::Result<()> {
        if self.args.messages.is_none() && mono_ns() >= self.start_ns + self.args.duration_ns() {
            self.total = self.sent;
        }
        let count = u64::from(self.args.per_write).min(self.total - self.sent);
        if count == 0 {
            return self.poller.remove(&self.connections[index].stream);
        }
        self.stamp(count, 0);
        let bytes = &self.frames[..count as usize * self.args.size];
        let connection = &mut self.connections[index];
        let sent = write_some(&mut connection.stream, bytes)?;
        if sent < bytes.len() {
            self.backlogged += 1;
            connection.backlog.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    fn stamp(&mut self, count: u64, intended_ns: u64) {
        for frame in self
            .frames
            .chunks_exact_mut(self.args.size)
            .take(count as usize)
        {
            Stamp {
                intended_ns,
                sequence: self.args.first_sequence + self.sent,
            }
            .write(frame);
            self.sent += 1;
        }
    }
}

/// Bytes taken; 0 when the socket is full.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(e) if is_would_block(&e) => Ok(0),
        Err(e) => Err(io::Error::new(
            e.kind(),
            format!("emitter connection lost: {e}"),
        )),
        sent => sent,
    }
}
