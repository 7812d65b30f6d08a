//! The event loop that turns load and sink, together on one core or alone.
//!
//! ```text
//! epoll --+-- sink link 0..n          one read, one ACK
//!         '-- epoll of the load       one write for each connection that takes more;
//!                                     out of the set while `--in-flight` messages are under way
//! ```
//!
//! One loop and not two threads: the machine has one core to give, and two threads on it would
//! add the scheduler's time slices to every latency.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::load::{Load, LoadArgs};
use crate::net::{event_buffer, mono_ns, Poller};
use crate::report::Sample;
use crate::sampler::Sampler;
use crate::sink::{Sink, SinkArgs, Stream};

/// Token of the load's own epoll set; the others are sink links.
const LOAD_TOKEN: u64 = u64::MAX;
/// What has not come so long after everything else is not waited for with the next messages.
const GIVE_UP: Duration = Duration::from_millis(200);
/// Longest sleep, so that conditions that depend on the clock are looked at.
const TURN: Duration = Duration::from_millis(20);

/// Load and sink around one epoll set. Order of calls: `new`, `attach_sink`, `attach_load`,
/// `start`, then `run_until` as often as there are phases.
pub struct Drive {
    poller: Poller,
    events: Vec<EpollEvent>,
    /// The load is out of the set, because enough is under way.
    is_paused: bool,
    /// Messages sent and not yet received at which the load pauses; 0 for no limit.
    in_flight_max: u64,
    /// Under way, but given up for the pause: (messages, delivered at the last look, since when).
    given_up: (u64, u64, u64),
    sampler: Option<Sampler>,
    /// The emitters, if this process plays them.
    pub load: Option<Load>,
    /// The analyzers, if this process plays them.
    pub sink: Option<Sink>,
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The condition came true.
    Reached,
    /// Nothing was sent or received for the whole patience.
    Stalled,
}

impl Drive {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            events: event_buffer(),
            is_paused: false,
            in_flight_max: 0,
            given_up: (0, 0, 0),
            sampler: None,
            load: None,
            sink: None,
        })
    }

    pub fn attach_sink(&mut self, args: &SinkArgs, analyzers: SocketAddr) -> io::Result<()> {
        self.sink = Some(Sink::connect(args, analyzers, &self.poller)?);
        Ok(())
    }

    /// A sink that peers connect to: where, by analyzer.
    pub fn attach_listening_sink(
        &mut self,
        args: &SinkArgs,
        stream: Stream,
    ) -> io::Result<Vec<SocketAddr>> {
        let sink = Sink::listen(args, stream, &self.poller)?;
        let addresses = sink.addresses()?;
        self.sink = Some(sink);
        Ok(addresses)
    }

    pub fn attach_load(&mut self, args: &LoadArgs, emitters: SocketAddr) -> io::Result<()> {
        let load = Load::connect(args, emitters)?;
        self.poller
            .add(load.readiness(), LOAD_TOKEN, EpollFlags::EPOLLIN)?;
        self.in_flight_max = if self.sink.is_some() {
            args.in_flight
        } else {
            0
        };
        self.load = Some(load);
        Ok(())
    }

    pub fn start(&mut self) -> io::Result<()> {
        match &mut self.load {
            Some(load) => load.start(),
            None => Ok(()),
        }
    }

    /// From now on the run is cut into intervals; see [`Drive::take_samples`].
    pub fn start_sampling(&mut self, expected: Duration) {
        if let Some(sink) = &mut self.sink {
            self.sampler = Some(Sampler::start(mono_ns(), expected, &mut sink.tally));
        }
    }

    /// The run since [`Drive::start_sampling`]; sampling ends.
    pub fn take_samples(&mut self) -> io::Result<Vec<Sample>> {
        match (self.sampler.take(), &mut self.sink) {
            (Some(sampler), Some(sink)) => sampler.finish(mono_ns(), &mut sink.tally),
            _ => Ok(Vec::new()),
        }
    }

    /// Distinct messages received.
    pub fn delivered(&self) -> u64 {
        self.sink.as_ref().map_or(0, |s| s.tally.set.distinct())
    }

    /// Messages stamped.
    pub fn sent(&self) -> u64 {
        self.load.as_ref().map_or(0, Load::sent)
    }

    pub fn is_load_finished(&self) -> bool {
        self.load.as_ref().is_none_or(Load::is_finished)
    }

    /// All that was to be sent is sent and has arrived.
    pub fn is_all_delivered(&self) -> bool {
        let refused = self.load.as_ref().map_or(0, |l| l.answers().refused);
        self.is_load_finished() && self.delivered() + refused >= self.sent()
    }

    /// Turns until `reached`, or until nothing has moved for `patience`.
    pub fn run_until(
        &mut self,
        patience: Duration,
        reached: impl Fn(&Self) -> bool,
    ) -> io::Result<Ended> {
        let mut moved = (self.delivered(), self.sent(), mono_ns());
        loop {
            if reached(self) {
                return Ok(Ended::Reached);
            }
            if self.turn(TURN)? {
                continue;
            }
            let now_ns = mono_ns();
            if (self.delivered(), self.sent()) != (moved.0, moved.1) {
                moved = (self.delivered(), self.sent(), now_ns);
            } else if now_ns - moved.2 > patience.as_nanos() as u64 {
                return Ok(Ended::Stalled);
            }
        }
    }

    /// One round: what is due is sent, then every ready socket is served once. False when there
    /// was none.
    pub fn turn(&mut self, wait_max: Duration) -> io::Result<bool> {
        let mut wait = wait_max;
        self.pause_or_resume()?;
        if let Some(load) = &mut self.load {
            load.send_due(mono_ns())?;
            wait = wait.min(load.wait(mono_ns()));
        }
        if let Some(sink) = &mut self.sink {
            if sink.timer_ns().is_some() {
                let now_ns = mono_ns();
                sink.on_timer(now_ns, &self.poller)?;
                let due_ns = sink.timer_ns().unwrap_or(u64::MAX);
                wait = wait.min(Duration::from_nanos(due_ns.saturating_sub(now_ns)));
            }
        }
        if let (Some(sampler), Some(sink)) = (&mut self.sampler, &mut self.sink) {
            sampler.tick(mono_ns(), &mut sink.tally);
        }
        let count = self.poller.wait_up_to(&mut self.events, wait)?;
        for event in &self.events[..count] {
            match (event.data(), &mut self.load, &mut self.sink) {
                (LOAD_TOKEN, Some(load), _) => load.on_ready()?,
                (LOAD_TOKEN, None, _) | (_, _, None) => {}
                (link, _, Some(sink)) => sink.on_ready(link, &self.poller)?,
            }
        }
        if let (0, Some(sink)) = (count, &mut self.sink) {
            sink.on_idle(&self.poller)?;
        }
        Ok(count > 0)
    }

    /// Keeps what is under way below `in_flight_max`, to within one write per connection. Whole
    /// rounds only: a limit in the middle of one would favour the first connections. What a system has
    /// lost would be under way for ever: when nothing has come for a while, the pause forgets it.
    fn pause_or_resume(&mut self) -> io::Result<()> {
        let delivered = self.delivered();
        let Some(load) = self.load.as_ref().filter(|_| self.in_flight_max > 0) else {
            return Ok(());
        };
        let under_way = load.sent().saturating_sub(delivered);
        if self.is_paused {
            let now_ns = mono_ns();
            if self.given_up.1 != delivered {
                (self.given_up.1, self.given_up.2) = (delivered, now_ns);
            } else if now_ns - self.given_up.2 > GIVE_UP.as_nanos() as u64 {
                self.given_up = (under_way, delivered, now_ns);
            }
        }
        let in_flight = under_way.saturating_sub(self.given_up.0);
        let is_full = in_flight >= self.in_flight_max && load.sent() < load.total();
        if is_full != self.is_paused {
            match is_full {
                true => self.poller.remove(load.readiness())?,
                false => self
                    .poller
                    .add(load.readiness(), LOAD_TOKEN, EpollFlags::EPOLLIN)?,
            }
            self.is_paused = is_full;
            self.given_up.1 = u64::MAX;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
