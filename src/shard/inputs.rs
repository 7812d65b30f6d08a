//! The places where emitters connect: number 0 is the port of `--emitters`, then come the inputs.
//!
//! Shared by the shards; touched when a connection comes or goes. What a shard counts for each is its own
//! ([`InputReport`]), and costs a few additions for each receive.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use weir_config::{AllowList, Config, Input, Secret};
use weir_engine::{Counters, Reason};
use weir_source::forward::Secrets;
use weir_source::{Framing, Port, Protocols, TextSettings};

/// Number of the port of `--emitters`.
pub(super) const EMITTERS: usize = 0;

/// One place.
pub struct Place {
    /// What it is called in logs and metrics.
    pub name: Arc<str>,
    /// What is spoken there, and what its connections are held to.
    pub(super) port: Arc<Port>,
    /// Proxies that say whose their connections are; empty: there are none.
    pub(super) proxies: AllowList,
    /// Connections, on all shards.
    connected: AtomicUsize,
    /// Most of them; 0: no limit of its own.
    connections_max: usize,
    /// Datagrams come here.
    is_udp: bool,
}

impl Place {
    /// Nothing has come here.
    pub(super) fn report(&self) -> InputReport {
        InputReport {
            name: Arc::clone(&self.name),
            lost: self.is_udp.then_some(0),
            ..InputReport::default()
        }
    }

    /// One more connection, if there may be one more.
    pub(super) fn enter(&self) -> bool {
        let before = self.connected.fetch_add(1, Ordering::Relaxed);
        let fits = self.connections_max == 0 || before < self.connections_max;
        if !fits {
            self.leave();
        }
        fits
    }

    pub(super) fn leave(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Most connections; 0: no limit of its own.
    pub(super) fn connections_max(&self) -> usize {
        self.connections_max
    }
}

/// All places of a configuration, in the order of their numbers.
pub(super) fn places(config: &Config) -> Vec<Place> {
    let place = |name: String, port, proxies, connections_max| Place {
        name: name.into(),
        port: Arc::new(port),
        proxies,
        connected: AtomicUsize::new(0),
        connections_max,
        is_udp: false,
    };
    let inputs = config.all_inputs().into_iter();
    let inputs = inputs.map(|input| {
        // The number of networks was looked at when they were read.
        let proxies = AllowList::new(input.proxy_from.clone()).unwrap_or_default();
        let is_udp = input.is_udp();
        let most = input.connections_max;
        Place {
            is_udp,
            ..place(input.name(), port_of(&input), proxies, most)
        }
    });
    let emitters = place(
        "emitters".to_owned(),
        Port::emitters(),
        AllowList::default(),
        0,
    );
    std::iter::once(emitters).chain(inputs).collect()
}

/// What the sources of an input are told.
fn port_of(input: &Input) -> Port {
    let protocols = Protocols::of(&input.protocols());
    let usual_ns = Port::usual_deadline_ns(protocols);
    let deadline = input.deadline.map(|deadline| deadline.as_nanos());
    Port {
        deadline_ns: deadline.map_or(usual_ns, |ns| u64::try_from(ns).unwrap_or(u64::MAX)),
        ack: input.ack_mode(),
        unit_bytes_max: input.unit_bytes_max as usize,
        unpacked_bytes_max: input.unpacked_bytes_max as usize,
        finds_level: input.finds_level,
        window_events_max: input.window_events_max,
        forward: secrets_of(input),
        text: text_of(input),
        ..Port::new(protocols)
    }
}

/// What clients of Fluent Forward must know, if anything.
fn secrets_of(input: &Input) -> Option<Secrets> {
    let shared_key = input.secrets.shared_key.as_ref()?.bytes().to_vec();
    let text = |secret: &Secret| String::from_utf8_lossy(secret.bytes()).into_owned();
    let users = input.secrets.users.iter();
    let mut seed = [0; 32];
    // An old kernel without it has no io_uring either; nonces then only count.
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    let host = rustix::system::uname();
    Some(Secrets {
        // Fluentd takes no server that has the name of its own host.
        hostname: format!("weir-{}", host.nodename().to_string_lossy()),
        shared_key,
        users: users
            .map(|(name, password)| (name.clone(), text(password)))
            .collect(),
        seed,
    })
}

/// How messages of text are told apart.
fn text_of(input: &Input) -> TextSettings {
    let framing = match input.framing {
        None => Framing::Auto,
        Some(weir_config::Framing::Lf) => Framing::Lf,
        Some(weir_config::Framing::Nul) => Framing::Nul,
        Some(weir_config::Framing::Counted) => Framing::Counted,
    };
    TextSettings {
        framing,
        joins: input.joins_continuations,
    }
}

/// Who may connect to each place, in the order of their numbers.
pub fn allow_lists(config: &Config) -> Vec<AllowList> {
    let emitters = &config.protection.allow_emitters;
    let inputs = config.all_inputs().into_iter();
    // The number of networks was looked at when they were read.
    let lists = inputs.map(|input| match input.allow.is_empty() {
        true => emitters.clone(),
        false => AllowList::new(input.allow).unwrap_or_default(),
    });
    std::iter::once(emitters.clone()).chain(lists).collect()
}

/// What new connections are held to at places where clients must know a key, in the order of their numbers.
pub fn secret_ports(config: &Config) -> Vec<Option<Arc<Port>>> {
    let inputs = config.all_inputs().into_iter();
    let ports = inputs.map(|input| {
        let is_secret = input.secrets.shared_key.is_some();
        is_secret.then(|| Arc::new(port_of(&input)))
    });
    std::iter::once(None).chain(ports).collect()
}

/// What one shard has counted at one place, since the start.
#[derive(Clone, Debug, Default)]
pub struct InputReport {
    /// What it is called.
    pub name: Arc<str>,
    /// Connected now.
    pub connections: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Whole messages taken in.
    pub messages: u64,
    /// Their bytes, as frames.
    pub bytes: u64,
    /// Ack units that are not answered.
    pub units_open: usize,
    /// Sends of acks.
    pub answers: u64,
    /// Datagrams that the kernel dropped before they were received; none where connections come.
    pub lost: Option<u64>,
    /// Connections refused or closed, by reason.
    pub refused: Vec<(Reason, u64)>,
}

/// What a shard's engine has taken in, over all places.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    messages: u64,
    bytes: u64,
}

impl Taken {
    #[inline]
    pub(super) fn of(counters: &Counters) -> Taken {
        Taken {
            messages: counters.received,
            bytes: counters.received_bytes,
        }
    }
}

impl InputReport {
    /// What was taken in since `before` came here.
    #[inline]
    pub(super) fn take(&mut self, before: Taken, counters: &Counters) {
        let now = Taken::of(counters);
        self.messages += now.messages - before.messages;
        self.bytes += now.bytes - before.bytes;
    }

    /// One more of a reason.
    pub(super) fn refuse(&mut self, reason: Reason) {
        match self.refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((reason, 1)),
        }
    }
}

/// What an input is called, and where it listens with the port that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputAt {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
}
