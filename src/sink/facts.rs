//! What there is to know of a sink.

use weir_protocol::native::Welcome;

use super::AckNumbers;

/// What follows from what an analyzer speaks.
#[derive(Debug)]
pub struct Facts {
    /// Lower-case name: metric label, log word.
    pub name: &'static str,
    /// How messages lie in its lanes.
    pub layout: Layout,
    /// How it is connected, and who names it.
    pub links: Links,
    /// What its ACKs mean.
    pub acks: Acks,
    /// What it can be told beside messages.
    pub told: Told,
}

/// How messages lie in a lane. What lies there is what goes out, or what packets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Frames, one behind the other, as emitters send them.
    Frames,
    /// Batches of frames, each with a header that says which messages they are.
    Batches,
    /// Records: a message, or the messages of one packet.
    Records,
}

/// How an analyzer is connected, and who names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It connects to each shard, and says its id.
    PerShard,
    /// It connects once, and is named by its address. One shard is its home; the others hand it their batches.
    Single,
    /// It is configured under an id, and each shard has connections of its own to it.
    Pool,
    /// It is configured under an id, and each shard has one connection to it, see [`crate::outlet`].
    Outlet,
}

impl Links {
    /// The distributor connects, to a place that is configured.
    pub fn are_made_here(self) -> bool {
        matches!(self, Links::Pool | Links::Outlet)
    }
}

/// What an analyzer's ACKs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// A number stands for every message up to it.
    Cumulative {
        /// How the numbers wrap.
        numbers: AckNumbers,
        /// What becomes of messages that fill no step of its.
        remainder: Remainder,
    },
    /// Each item has an answer of its own, in any order, and may be refused.
    PerItem,
    /// Each stands for what is on a disk that was told to write it.
    Durable,
    /// There are none. A packet counts as delivered when the analyzer's kernel has it and so many bytes more, or has had
    /// all for a while: what is in the buffers of kernel and program until then is re-routed when the connection dies.
    Lagged,
}

/// What an ACK of an analyzer proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is on a disk.
    Durable,
    /// A program has said so.
    Acked,
    /// Only its kernel has.
    Weak,
}

impl Worth {
    /// Lower-case word: metric label, JSON value.
    pub fn as_str(self) -> &'static str {
        match self {
            Worth::Durable => "durable",
            Worth::Acked => "acked",
            Worth::Weak => "weak",
        }
    }
}

/// Messages at the end of a stream, too few for an ACK by the analyzer's habit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// ACKed all the same, in time. Any message that is not ACKed is a sign of trouble.
    Acked,
    /// Kept un-ACKed until more comes, for ever if none does. Only more than its habit explains is a sign of trouble.
    Kept,
}

/// What an analyzer can be told beside messages. `None`: it has no ear for it.
#[derive(Debug)]
pub struct Told {
    /// Writes that its link is up, or why it is refused.
    pub welcome: Option<fn(&Welcome<'_>, &mut Vec<u8>)>,
    /// ACK now what you have processed: the distributor waits for that.
    pub drain: Option<&'static [u8]>,
    /// Nothing more will come on this link.
    pub goodbye: Option<&'static [u8]>,
}

impl Told {
    /// Messages, and nothing else.
    pub const NOTHING: Told = Told {
        welcome: None,
        drain: None,
        goodbye: None,
    };
}

impl Acks {
    /// How the numbers wrap.
    pub fn numbers(self) -> AckNumbers {
        match self {
            Acks::Cumulative { numbers, .. } => numbers,
            Acks::PerItem | Acks::Durable | Acks::Lagged => AckNumbers::Whole,
        }
    }

    /// What one of them proves.
    pub fn worth(self) -> Worth {
        match self {
            Acks::Cumulative { .. } | Acks::PerItem => Worth::Acked,
            Acks::Durable => Worth::Durable,
            Acks::Lagged => Worth::Weak,
        }
    }

    /// Whether a few messages may stay un-ACKed for ever on a link that is well.
    pub fn may_keep_remainder(self) -> bool {
        matches!(
            self,
            Acks::Cumulative {
                remainder: Remainder::Kept,
                ..
            }
        )
    }
}
