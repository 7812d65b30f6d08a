//! Ack units: what a sender gets one answer for.

/// Whether a source answers its sender, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Nothing is ever written to it.
    Never,
    /// In the order in which units began.
    InOrder,
    /// As soon as each is through.
    AnyOrder,
}

/// How a sender is held to what it may have un-ACKed, see [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// It was told, and is closed if it has more.
    Announced,
    /// It is not read from while it has more.
    Silent,
}

/// Elements of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// The next so many. None: it is answered as soon as those before are.
    Exactly(u32),
    /// All that come before [`Step::UnitEnd`](crate::Step::UnitEnd).
    UntilEnd,
}

/// What a sender calls a unit, so that the same unit is known when it comes again: a digest, so that no other sender at
/// its address can make one of the same name.
pub type JoinKey = [u8; 16];

/// A unit begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitBegin {
    /// What the source calls it; comes back with [`Answered`].
    pub key: u64,
    /// Elements that belong to it.
    pub elements: Elements,
    /// Their bytes, as they count for the sender's window.
    pub bytes: u32,
    /// Its sender waits for this answer: it is not gathered with others.
    pub is_awaited: bool,
    /// If a unit of this name from the same address is un-ACKed, this is the same: its elements are not routed, and it
    /// is answered with that one.
    pub join: Option<JoinKey>,
}

/// A unit whose elements are all through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// As it began.
    pub key: u64,
    /// An analyzer refused part of it, and that was set aside.
    pub is_refused: bool,
    /// No other is answered along with it.
    pub is_newest: bool,
}

/// What a source may say of the distributor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Random number of this run.
    pub instance: u64,
    /// Most units open at a time on this connection.
    pub units_max: u32,
    /// Most bytes in them; a single one may have more.
    pub unit_bytes_max: u64,
    /// A number that no other connection of this run has.
    pub connection: u64,
}
