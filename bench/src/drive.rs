//! The event loop that turns load and sink, together on one core or alone.
//!
//! One loop and not two threads: the machine has one core to give, and two threads on it would
//! add the scheduler's time slices to every latency.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;

use crate::load::{Load, LoadArgs};
use crate::net::{event_buffer, mono_ns, Poller};
use crate::sink::{Sink, SinkArgs};

/// Tokens from here on are emitter connections, below are sink links.
const LOAD_TOKENS: u64 = 1 << 32;
/// Longest sleep, so that conditions that depend on the clock are looked at.
const TURN: Duration = Duration::from_millis(20);

/// Load and sink around one epoll set. Order of calls: `new`, `attach_sink`, `attach_load`,
/// `start`, then `run_until` as often as there are phases.
pub struct Drive {
    poller: Poller,
    events: Vec<EpollEvent>,
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
            load: None,
            sink: None,
        })
    }

    pub fn attach_sink(&mut self, args: &SinkArgs, analyzers: SocketAddr) -> io::Result<()> {
        self.sink = Some(Sink::connect(args, analyzers, &self.poller)?);
        Ok(())
    }

    pub fn attach_load(&mut self, args: &LoadArgs, emitters: SocketAddr) -> io::Result<()> {
        self.load = Some(Load::connect(args, emitters, LOAD_TOKENS)?);
        Ok(())
    }

    pub fn start(&mut self) -> io::Result<()> {
        match &mut self.load {
            Some(load) => load.start(&self.poller),
            None => Ok(()),
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
        self.is_load_finished() && self.delivered() >= self.sent()
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
        if let Some(load) = &mut self.load {
            load.send_due(&self.poller, mono_ns())?;
            wait = wait.min(load.wait(mono_ns()));
        }
        let count = self.poller.wait_up_to(&mut self.events, wait)?;
        for event in &self.events[..count] {
            match (
                event.data().checked_sub(LOAD_TOKENS),
                &mut self.load,
                &mut self.sink,
            ) {
                (Some(index), Some(load), _) => load.on_writable(index as usize, &self.poller)?,
                (None, _, Some(sink)) => sink.on_ready(event.data() as usize, &self.poller)?,
                _ => {}
            }
        }
        if let (0, Some(sink)) = (count, &mut self.sink) {
            sink.on_idle(&self.poller)?;
        }
        Ok(count > 0)
    }
}
