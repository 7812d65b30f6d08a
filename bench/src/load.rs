//! The emitters: a firehose that writes whenever a socket takes more, or an open loop that sends
//! unit n when its schedule says, no matter what.
//!
//! ```text
//! args.rs      what was asked for            schedule.rs   when, and by whom
//! sizes.rs     how long messages are         compose.rs    their bytes: frames, syslog, HTTP
//! connection.rs  one socket and what it did not take     acked.rs   its batches that are not ACKed
//! ```
//!
//! The open loop stamps the *intended* time, so a distributor that stalls is charged for every
//! message that should have gone out meanwhile (no coordinated omission).

mod acked;
mod args;
mod compose;
mod connection;
mod schedule;
mod sizes;
mod units;
mod window;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::epoll::{EpollEvent, EpollFlags};

pub use args::LoadArgs;
pub use compose::Format;
pub use connection::Answers;
#[cfg(test)]
pub use schedule::Gaps;
pub use sizes::Sizes;

use crate::check::nanosecond_histogram;
use crate::net::{allow_connections, connect_within, event_buffer, mono_ns, Poller};
use crate::secured::Socket;
use compose::Composer;
use connection::Connection;
use schedule::Schedule;
use window::Window;

/// Most messages of one turn of the open loop, so that a late schedule does not keep the sinks waiting.
const TURN_MESSAGES_MAX: u64 = 128;
/// Bytes one connection may hold back before the open loop waits for it. Only memory is bounded
/// by this: the intended times are fixed by the schedule.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// The kernel's timer slack: a sleep shorter than this is spun instead.
const SPIN_NS: u64 = 60_000;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Busy connections that the churn looks past before it waits for a quieter moment.
const CHURN_TRIES: usize = 16;

/// A set of emitter connections in one event loop. See [`crate::drive`] for who calls what.
pub struct Load {
    args: LoadArgs,
    peer: SocketAddr,
    /// Connections that wait to become writable, all in a firehose, else the backlogged; over HTTP
    /// all wait for answers.
    poller: Poller,
    events: Vec<EpollEvent>,
    connections: Vec<Connection>,
    composer: Composer,
    schedule: Option<Schedule>,
    total: u64,
    sent: u64,
    /// Connections whose backlog is not empty.
    backlogged: usize,
    start_ns: u64,
    tick_next_ns: u64,
    /// Connections renewed so far, and the next one.
    churned: u64,
    churn_next: usize,
    answers: Answers,
    /// How late the load itself was: due to stamped.
    lag_ns: Histogram<u64>,
    /// A full socket last held the schedule at this time: what was due by then is not late by the load.
    held_ns: u64,
}

impl Load {
    /// Connects everything (blocking); nothing is sent before [`Load::start`].
    pub fn connect(args: &LoadArgs, emitters: SocketAddr) -> io::Result<Self> {
        allow_connections(args.connections as usize)?;
        let mut connections = Vec::with_capacity(args.connections as usize);
        let poller = Poller::new()?;
        for token in 0..u64::from(args.connections) {
            let stream = connect_within(emitters, CONNECT_PATIENCE)?;
            let mut stream = Socket::of(stream, args.pki.as_ref())?;
            let window = Window::greet(args.format(), &mut stream, token)?;
            stream.set_nonblocking(true)?;
            if args.format().answers() {
                poller.add(&stream, token, EpollFlags::EPOLLIN)?;
            }
            let mut connection = Connection::new(stream);
            connection.window = window;
            connections.push(connection);
        }
        Ok(Self {
            peer: emitters,
            poller,
            events: event_buffer(),
            connections,
            composer: Composer::new(
                args.format().of_messages(),
                &args.size,
                args.seed,
                args.packet as usize,
                args.unit() as usize,
            ),
            schedule: None,
            total: args.total(),
            sent: 0,
            backlogged: 0,
            start_ns: 0,
            tick_next_ns: 0,
            churned: 0,
            churn_next: 0,
            answers: Answers::default(),
            lag_ns: nanosecond_histogram(),
            held_ns: 0,
            args: args.clone(),
        })
    }

    /// Another load over the same connections, which have nothing left to send: only pace, length and
    /// seed may differ from what they were opened for.
    pub fn rearm(&mut self, rate: u64, seconds: f64, seed: u64) {
        assert!(
            self.start_ns == 0 || self.is_finished(),
            "the load before is through"
        );
        self.args.rate = Some(rate);
        self.args.messages = None;
        self.args.seconds = Some(seconds);
        self.args.seed = seed;
        self.total = self.args.total();
        self.sent = 0;
        self.schedule = None;
        self.start_ns = 0;
        self.tick_next_ns = 0;
        self.churned = 0;
        self.answers = Answers::default();
        self.held_ns = 0;
        self.forget_lag();
    }

    /// The lag so far does not count: a measured part begins.
    pub fn forget_lag(&mut self) {
        self.lag_ns.reset();
    }

    /// Starts the schedule, or turns the firehose on.
    pub fn start(&mut self) -> io::Result<()> {
        self.start_ns = mono_ns();
        if let Some(rate) = self.args.rate {
            let units = rate as f64 / self.args.unit() as f64;
            let emitters = self.connections.len();
            self.schedule = Some(Schedule::new(
                self.args.schedule,
                emitters,
                units,
                self.args.seed,
            ));
            return Ok(());
        }
        for index in 0..self.connections.len() {
            self.watch(index, true, false)?;
        }
        Ok(())
    }

    /// Stamps nothing more; backlogs still go out.
    pub fn finish(&mut self) {
        self.total = self.sent;
    }

    /// Readable when a connection takes more or answered: call [`Load::on_ready`].
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

    /// Connections closed and opened again.
    pub fn churned(&self) -> u64 {
        self.churned
    }

    /// HTTP: messages taken and refused by their answers.
    pub fn answers(&self) -> Answers {
        self.answers
    }

    /// How late the load itself was with messages that no full socket kept: due to stamped.
    pub fn lag_ns(&self) -> &Histogram<u64> {
        &self.lag_ns
    }

    /// Everything is in the kernel's hands, and over HTTP answered.
    pub fn is_finished(&self) -> bool {
        self.sent >= self.total
            && self.backlogged == 0
            && (!self.args.format().answers() || self.connections.iter().all(Connection::is_idle))
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

    /// When the next unit of the open loop ought to go; `None` for a firehose and before the start.
    fn due_ns(&self) -> Option<u64> {
        Some(self.start_ns + self.schedule.as_ref()?.offset_ns())
    }

    /// Open loop: sends what is due, at most one turn's part. And the churn, in both.
    pub fn send_due(&mut self, now_ns: u64) -> io::Result<()> {
        if self.args.churn > 0.0 && self.start_ns > 0 && self.sent < self.total {
            self.churn(now_ns)?;
        }
        if now_ns < self.tick_next_ns {
            return Ok(());
        }
        let turn_end = self.sent + TURN_MESSAGES_MAX;
        while self.sent < turn_end {
            match self.due_ns() {
                Some(due_ns) if due_ns <= now_ns && self.sent < self.total => {
                    let index = self.schedule.as_ref().map_or(0, Schedule::emitter);
                    let connection = &self.connections[index];
                    if connection.backlog_len() >= BACKLOG_BYTES_MAX || !connection.has_room() {
                        self.held_ns = now_ns;
                        return Ok(());
                    }
                    if due_ns > self.held_ns {
                        self.lag_ns.saturating_record((now_ns - due_ns).max(1));
                    }
                    let count = self.args.unit().min(self.total - self.sent);
                    self.send_unit(index, count, due_ns)?;
                    if let Some(schedule) = &mut self.schedule {
                        schedule.advance();
                    }
                }
                _ => {
                    self.tick_next_ns = now_ns + self.args.tick_us * 1000;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send_unit(&mut self, index: usize, count: u64, intended_ns: u64) -> io::Result<()> {
        let first = self.args.first_sequence + self.sent;
        let bytes = self.composer.compose(count as usize, first, intended_ns);
        let connection = &mut self.connections[index];
        let was_backlogged = connection.backlog_len() > 0;
        connection.send(bytes, count)?;
        self.sent += count;
        if self.args.format() == Format::Http {
            for from in (0..count).step_by(self.args.packet as usize) {
                connection.expect_answer((count - from).min(u64::from(self.args.packet)) as u32);
            }
        }
        if !was_backlogged && connection.backlog_len() > 0 {
            self.backlogged += 1;
            if self.args.rate.is_some() {
                self.watch(index, true, false)?;
            }
        }
        Ok(())
    }

    /// Serves every connection that takes more or answered, once.
    pub fn on_ready(&mut self) -> io::Result<()> {
        let count = self.poller.wait_up_to(&mut self.events, Duration::ZERO)?;
        for i in 0..count {
            let (index, flags) = (self.events[i].data() as usize, self.events[i].events());
            if self.args.format().has_units() && flags.contains(EpollFlags::EPOLLIN) {
                self.on_acks(index)?;
            }
            if self.args.format() == Format::Http
                && !flags.difference(EpollFlags::EPOLLOUT).is_empty()
            {
                let answers = self.connections[index].read_answers()?;
                self.answers.taken += answers.taken;
                self.answers.refused += answers.refused;
            }
            if flags.contains(EpollFlags::EPOLLOUT)
                || !self.args.format().answers()
                    && flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            {
                self.on_writable(index)?;
            }
        }
        Ok(())
    }

    /// A window that was full may have room again: a firehose goes on.
    fn on_acks(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let was_full = !connection.has_room();
        connection.read_acks()?;
        let goes_on = self.args.rate.is_none() && self.start_ns > 0 && self.sent < self.total;
        if was_full && goes_on && self.connections[index].has_room() {
            self.watch(index, true, true)?;
        }
        Ok(())
    }

    /// The backlog first, then the firehose's next write.
    fn on_writable(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.backlog_len() > 0 {
            connection.flush()?;
            if connection.backlog_len() == 0 {
                self.backlogged -= 1;
                if self.args.rate.is_some() || self.sent >= self.total {
                    self.watch(index, false, true)?;
                }
            }
            return Ok(());
        }
        if self.args.messages.is_none() && mono_ns() >= self.start_ns + self.args.duration_ns() {
            self.total = self.sent;
        }
        match self.args.unit().min(self.total - self.sent) {
            0 => self.watch(index, false, true),
            _ if !self.connections[index].has_room() => self.watch(index, false, true),
            _ if self.args.rate.is_some() => self.watch(index, false, true),
            count => self.send_unit(index, count, 0),
        }
    }

    /// Puts a connection into the set for writing, or out of it; over HTTP it stays in for answers.
    fn watch(&mut self, index: usize, is_for_writing: bool, is_in_set: bool) -> io::Result<()> {
        let (stream, token) = (&self.connections[index].stream, index as u64);
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        match (self.args.format().answers(), is_for_writing, is_in_set) {
            (true, true, _) => self.poller.modify(stream, token, both),
            (true, false, _) => self.poller.modify(stream, token, EpollFlags::EPOLLIN),
            (false, true, false) => self.poller.add(stream, token, EpollFlags::EPOLLOUT),
            (false, true, true) => Ok(()),
            (false, false, _) => self.poller.remove(stream),
        }
    }

    /// Closes and opens again as many connections as are due, each with all its bytes sent and all
    /// its requests answered. When every one that is looked at is busy, it is due still.
    fn churn(&mut self, now_ns: u64) -> io::Result<()> {
        let due = ((now_ns - self.start_ns) as f64 / 1e9 * self.args.churn) as u64;
        for _ in 0..CHURN_TRIES {
            if self.churned >= due {
                break;
            }
            let index = self.churn_next;
            self.churn_next = (index + 1) % self.connections.len();
            if !self.connections[index].is_idle() {
                continue;
            }
            // Closing takes the old socket out of the set.
            if self.args.format().has_units() {
                return Err(io::Error::other("--churn: connections that get acks stay"));
            }
            self.connections[index].reopen(self.peer)?;
            self.churned += 1;
            let (stream, token) = (&self.connections[index].stream, index as u64);
            match (self.args.format(), self.args.rate) {
                (Format::Http, Some(_)) => self.poller.add(stream, token, EpollFlags::EPOLLIN)?,
                (Format::Http, None) => {
                    self.poller
                        .add(stream, token, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)?;
                }
                (_, Some(_)) => {}
                (_, None) => self.poller.add(stream, token, EpollFlags::EPOLLOUT)?,
            }
        }
        Ok(())
    }
}
