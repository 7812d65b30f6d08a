//! The roster: all analyzers with their weights, one full table with an epoch. Shard 0 keeps it
//! (`registrar.rs`); every shard gets each new one whole, and the newest wins.

use std::fmt;
use std::sync::Arc;

use super::LinkEpoch;
use weir_protocol::WeightText;
use weir_sink::Sink;

/// Where an analyzer can be reached: what [`weir_sink::Links`] says of its sink, with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Each shard sends on a link of its own, if it has one.
    LinkPerShard,
    /// Shard `home` owns the only link, the others hand their batches over.
    SingleLink {
        /// Owner of the link.
        home: u16,
        /// The link.
        epoch: LinkEpoch,
    },
    /// Over HTTP: each shard has connections of its own to it.
    Http {
        /// Number of this time that it is up, never used again in this run.
        generation: u64,
    },
}

#[cfg(test)]
impl Reach {
    /// One that is reached so.
    pub(crate) fn a_sink(&self) -> Sink {
        match self {
            Reach::LinkPerShard => Sink::Native,
            Reach::SingleLink { .. } => Sink::Compact,
            Reach::Http { .. } => Sink::Http,
        }
    }
}

/// One analyzer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number of the analyzer, never used again in this run.
    pub analyzer: u32,
    /// Its id, or for one that names itself nothing the address of its host and a number (10.0.0.5-1).
    pub name: Arc<str>,
    /// What it speaks.
    pub sink: Sink,
    /// Its weight, finite, not below zero.
    pub weight: f64,
    /// It asked to get nothing new, or the operator did.
    pub draining: bool,
    /// The operator or the configuration set the weight; what the analyzer says of it does not count.
    pub pinned: bool,
    /// The operator threw it out: shards close its links.
    pub ejected: bool,
    /// How to reach it.
    pub reach: Reach,
}

impl Entry {
    /// Weight for routing: none while draining, or on the way out.
    pub fn effective_weight(&self) -> f64 {
        if self.draining || self.ejected {
            0.0
        } else {
            self.weight
        }
    }
}

/// All analyzers at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// Number of the table; a larger one replaces a smaller one.
    pub epoch: u64,
    /// The analyzers, in the order in which they came.
    pub entries: Vec<Entry>,
}

impl Roster {
    /// An analyzer that the distributor connects to is there in this time that it is up.
    pub fn has_generation(&self, wanted: u64) -> bool {
        let is_it = |entry: &Entry| matches!(entry.reach, Reach::Http { generation } if generation == wanted);
        self.entries.iter().any(is_it)
    }
}

/// What happened to a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A link came up that an analyzer has made.
    Up {
        /// The link.
        epoch: LinkEpoch,
        /// What it speaks.
        sink: Sink,
        /// Shard that owns it.
        home: u16,
        /// Id of its analyzer, or the name that it was given.
        name: Arc<str>,
        /// Weight of its analyzer.
        weight: f64,
    },
    /// A link is gone.
    Down {
        /// The link.
        epoch: LinkEpoch,
    },
    /// An analyzer changed its weight, on any of its links.
    Weight {
        /// The link that said so.
        epoch: LinkEpoch,
        /// The new weight.
        weight: f64,
    },
    /// An analyzer over HTTP cannot be reached any more.
    HttpDown {
        /// Number of the time that it was up.
        generation: u64,
    },
    /// An analyzer asked for nothing new.
    Drain {
        /// The link that said so.
        epoch: LinkEpoch,
    },
}

/// Most weights that may be wanted.
pub const WANTED_MAX: usize = 4096;

/// A weight that the configuration wants, whether the analyzer is there or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which analyzer.
    pub name: Arc<str>,
    /// Finite, not below zero.
    pub weight: f64,
    /// The analyzer's own weights do not count.
    pub pin: bool,
}

/// Pinned weights kept, and drains likewise, also of analyzers that are gone.
pub(super) const KEPT_MAX: usize = 4096;

/// What the operator wants of an analyzer, by its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Another weight: until the analyzer says otherwise, or pinned against that.
    Weight {
        /// Which analyzer.
        name: Arc<str>,
        /// Finite, not below zero.
        weight: f64,
        /// The analyzer's own weights do not count any more, also when it comes back.
        pin: bool,
    },
    /// What the configuration says of an analyzer's weight: it counts like the analyzer's own word, and
    /// waits while another is pinned.
    OwnWeight {
        /// Which analyzer.
        name: Arc<str>,
        /// Finite, not below zero.
        weight: f64,
    },
    /// All weights that the configuration wants, in place of those that it wanted before. What has not changed leaves
    /// alone what an analyzer or the operator said since.
    Wanted {
        /// At most [`WANTED_MAX`]; of two with one name the last counts.
        table: Arc<[Wanted]>,
    },
    /// The weight that is wanted, or the analyzer's own, counts again.
    Unpin {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// Nothing new for it, until [`Order::Resume`]: also when its links break and come back, and when it is
    /// restarted.
    Drain {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// It gets messages again, whoever drained it.
    Resume {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// Its links are closed, what it has not ACKed goes to others. It may connect again when all are.
    Eject {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// An analyzer over HTTP can be reached.
    HttpUp {
        /// Its id.
        name: Arc<str>,
        /// What it takes.
        sink: Sink,
        /// Finite, not below zero.
        weight: f64,
        /// Number of this time that it is up.
        generation: u64,
    },
    /// It cannot be reached any more.
    HttpDown {
        /// Number of the time that it was up.
        generation: u64,
    },
}

/// As an operator says it, with the id in quotes.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Weight { name, weight, pin } => {
                let pinned = if *pin { ", pinned" } else { "" };
                write!(f, "weight of {name:?}: {}{pinned}", WeightText(*weight))
            }
            Order::OwnWeight { name, weight } => {
                let weight = WeightText(*weight);
                write!(f, "weight of {name:?} by the configuration: {weight}")
            }
            Order::Wanted { table } => write!(f, "{} weights are wanted", table.len()),
            Order::Unpin { name } => write!(f, "unpin {name:?}"),
            Order::Drain { name } => write!(f, "drain {name:?}"),
            Order::Resume { name } => write!(f, "resume {name:?}"),
            Order::Eject { name } => write!(f, "eject {name:?}"),
            Order::HttpUp { name, weight, .. } => {
                write!(
                    f,
                    "{name:?} over HTTP is in, weight {}",
                    WeightText(*weight)
                )
            }
            Order::HttpDown { .. } => f.write_str("an analyzer over HTTP is out"),
        }
    }
}

/// Why an order was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderError {
    /// No analyzer of that name is connected.
    Unknown {
        /// The name.
        name: Arc<str>,
    },
    /// There are as many pinned weights as are kept.
    TooManyPins,
    /// As many analyzers are drained as are kept.
    TooManyDrains,
    /// There are as many analyzers as a shard serves.
    TooManyAnalyzers {
        /// How many.
        max: usize,
        /// What sets this limit.
        limit: &'static str,
    },
    /// A weight that is none.
    BadWeight {
        /// The weight.
        weight: f64,
    },
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderError::Unknown { name } => {
                write!(f, "analyzer {:?}: not connected", name.as_ref())
            }
            OrderError::TooManyPins => write!(f, "{KEPT_MAX} weights are pinned already"),
            OrderError::TooManyAnalyzers { max, limit } => {
                write!(f, "{max} analyzers are connected, {limit}")
            }
            OrderError::TooManyDrains => write!(f, "{KEPT_MAX} analyzers are drained already"),
            OrderError::BadWeight { weight } => {
                let weight = WeightText(*weight);
                write!(f, "weight {weight}: allowed: a finite number, 0 or more")
            }
        }
    }
}

impl std::error::Error for OrderError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_has_hundreds_of_digits() {
        let name: Arc<str> = "a b".into();
        for weight in [1e308, 1e-308] {
            let order = Order::Weight {
                name: Arc::clone(&name),
                weight,
                pin: true,
            };
            let text = order.to_string();
            assert_eq!(text, format!("weight of \"a b\": {weight:e}, pinned"));
        }
    }
}
