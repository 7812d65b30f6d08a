//! Ports: what a listener speaks, and what its connections are held to.

use super::forward::Secrets;
use super::{Limits, Protocol, TextSettings};
use std::fmt;

/// Largest unit that is held and checked whole, in bytes, unless a listener says otherwise.
const UNIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes that come out of one compressed part, unless a listener says otherwise.
const UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events of a Lumberjack window, unless a listener says otherwise: as many as go-lumber takes. Beats send 2048.
const WINDOW_EVENTS_MAX: u32 = 10_000;

/// A set of protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols(u32);

impl Protocols {
    /// These.
    pub const fn of(protocols: &[Protocol]) -> Protocols {
        let (mut bits, mut at) = (0, 0);
        while at < protocols.len() {
            bits |= 1 << protocols[at] as u32;
            at += 1;
        }
        Protocols(bits)
    }

    /// Whether one of them is this.
    pub fn has(self, protocol: Protocol) -> bool {
        self.0 & 1 << protocol as u32 != 0
    }

    /// All of them, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        let all = Protocol::ALL.iter().copied();
        all.filter(move |protocol| self.has(*protocol))
    }

    /// What others speak is among them, and more than one may be meant: first bytes that could be several are waited
    /// for a short time only.
    pub fn is_mixed(self) -> bool {
        let own = Protocols::of(&[Protocol::Frames, Protocol::Acked]);
        self.0 & !own.0 != 0 && self.single().is_none()
    }

    /// The one that it is, if it is one.
    pub fn single(self) -> Option<Protocol> {
        let mut all = self.iter();
        all.next().filter(|_| all.next().is_none())
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, protocol) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", protocol.as_str())?;
        }
        Ok(())
    }
}

/// When a sender that wants answers gets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// When its elements are in lanes.
    Received,
    /// When analyzers have ACKed them.
    #[default]
    Acked,
}

/// What a listener speaks, and what its connections are held to. One for all connections of a listener.
#[derive(Clone, Debug)]
pub struct Port {
    /// Spoken here; the first bytes of a connection tell which.
    pub protocols: Protocols,
    /// When those are answered that want to be.
    pub ack: AckMode,
    /// Largest unit that is held and checked whole before its first element is routed, in bytes.
    pub unit_bytes_max: usize,
    /// Most bytes that come out of one compressed part.
    pub unpacked_bytes_max: usize,
    /// Severities are looked for in JSON and in records.
    pub finds_level: bool,
    /// What clients of Fluent Forward must know before they may send. With it the server speaks first.
    pub forward: Option<Secrets>,
    /// Most events of a Lumberjack window.
    pub window_events_max: u32,
    /// How long its senders wait for an ack, in nanoseconds; 0: as long as it takes. While ACKs take so long that this
    /// may be missed nothing is read: what is taken in and answered too late is sent again.
    pub deadline_ns: u64,
    /// Of messages of text.
    pub text: TextSettings,
}

impl Port {
    /// What a listener of these is held to unless it is told.
    pub const fn new(protocols: Protocols) -> Port {
        Port {
            protocols,
            ack: AckMode::Acked,
            unit_bytes_max: UNIT_BYTES_MAX,
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
            finds_level: true,
            forward: None,
            window_events_max: WINDOW_EVENTS_MAX,
            deadline_ns: 0,
            text: TextSettings::DEFAULT,
        }
    }

    /// How long the least patient of its senders wait, where the listener does not say.
    pub fn usual_deadline_ns(protocols: Protocols) -> u64 {
        let deadlines = protocols.iter().map(Protocol::deadline_ns);
        deadlines
            .filter(|deadline| *deadline > 0)
            .min()
            .unwrap_or_default()
    }

    /// What the emitters' port speaks.
    pub const fn emitters() -> Port {
        Port::new(Protocols::of(&[Protocol::Frames, Protocol::Acked]))
    }

    /// The protocol whose server speaks first, if that is spoken here: there is nothing to look at before.
    pub fn greets(&self) -> Option<Protocol> {
        self.protocols.iter().find(|protocol| protocol.greets(self))
    }

    /// Whether units may come here that are known when they come again.
    pub fn joins(&self) -> bool {
        self.ack == AckMode::Acked && self.protocols.iter().any(Protocol::joins)
    }

    /// What its sources are held to, where frames are `frame_bytes_max` at most.
    pub fn limits(&self, frame_bytes_max: u32) -> Limits {
        Limits { frame_bytes_max }
    }
}
