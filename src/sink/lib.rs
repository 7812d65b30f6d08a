//! Sinks: what analyzers speak, and what follows from that.
//!
//! ```text
//!   lane --layout--> link or POST --bytes--> analyzer
//!                    Link, roster <--words-- Decoder: ACK, weight, drain, goodbye
//!                                 <--------- detect: who speaks on the analyzers' port?
//! ```
//!
//! A sink is one file and one line of the table below. The file says the facts (`facts.rs`): how its lanes lie, how
//! it is connected, what its ACKs mean, what it can be told; and it decodes its analyzer's words. Engine and shard
//! ask for a fact, never for a sink by name.
//!
//! ```text
//!   typed.rs  compact.rs  native.rs    over TCP, the analyzer connects     words.rs    one word, and who reads it
//!   http.rs  request/                  POSTs, the distributor connects     ack.rs      what an ACK's number stands for
//!   outlet/                            streams, the distributor connects   render/     any form as what they take
//!   detect.rs                          first bytes of an analyzer          dialect.rs  the analyzer's end
//! ```
//!
//! Pure: no I/O, no clock, nothing is allocated while decoding, and no input from a peer panics.
#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod ack;
mod compact;
pub mod detect;
mod dialect;
mod facts;
mod http;
mod native;
pub mod outlet;
mod render;
pub mod request;
mod typed;
mod words;

use std::fmt;

use outlet::lines::{exec_sink, file_sink};
use outlet::{forward, lumberjack, relp, syslog};
use request::{array_sink, bulk_sink, hec_sink, loki_sink, ndjson_sink, otlp_sink};

pub use ack::{AckBeyond, AckNumbers, AckStep, UNACKED_MESSAGES_MAX};
pub use dialect::{
    encode_ack, encode_drain, encode_first_weight, encode_goodbye, encode_weight, Dialect,
};
pub use facts::{Acks, Facts, Layout, Links, Remainder, Told, Worth};
pub use words::{Control, ControlError, ControlWord, Decode, FixedWords, Mute, WordFormat};

/// Makes [`Sink`], its facts and [`Decoder`] out of the table. A line is: doc, name, module of its `FACTS` and its
/// `Words`.
macro_rules! sinks {
    ($($(#[$doc:meta])+ $name:ident => $module:ident;)+) => {
        /// What an analyzer speaks, of all that Weir can send to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Sink {
            $($(#[$doc])+ $name,)+
        }

        impl Sink {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Sink] = &[$(Sink::$name,)+];

            /// What follows from it.
            pub fn facts(self) -> &'static Facts {
                match self {
                    $(Sink::$name => &$module::FACTS,)+
                }
            }
        }

        /// Decoder of what one analyzer says. Chosen once for each connection.
        #[derive(Clone, Debug)]
        pub enum Decoder {
            $($(#[$doc])+ $name($module::Words),)+
        }

        impl Decoder {
            /// A decoder for a link whose first word or HELLO has been read.
            pub fn new(sink: Sink) -> Decoder {
                match sink {
                    $(Sink::$name => Decoder::$name(Default::default()),)+
                }
            }

            /// Takes the next word off `bytes`, see [`Decode::next`].
            #[inline]
            pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Control, ControlError>> {
                match self {
                    $(Decoder::$name(words) => words.next(bytes),)+
                }
            }

            /// Bytes of a word whose rest has not arrived.
            pub fn partial_bytes(&self) -> usize {
                match self {
                    $(Decoder::$name(words) => words.partial_bytes(),)+
                }
            }
        }
    };
}

sinks! {
    /// Reference document: f64 first weight, one type byte before each control word.
    Typed => typed;
    /// Reference clients: f32 first weight, the top bit of a word tells ACK from weight.
    Compact => compact;
    /// Weir's own: batches with an identity, u64 ACKs.
    Native => native;
    /// Packets of JSON by POST; the answer is the ACK, or a refusal.
    Http => http;
    /// Chunks of Fluent Forward, each acked.
    Forward => forward;
    /// Windows of Lumberjack 2, ACKed up to a number.
    Lumberjack => lumberjack;
    /// Messages of RELP, each answered.
    Relp => relp;
    /// Syslog over TCP, without answers.
    Syslog => syslog;
    /// A JSON object a line, by POST.
    Ndjson => ndjson_sink;
    /// An array of JSON objects, by POST.
    Json => array_sink;
    /// `_bulk` of Elasticsearch and OpenSearch: an answer for each item.
    Elasticsearch => bulk_sink;
    /// Logs of OpenTelemetry, by POST.
    Otlp => otlp_sink;
    /// Pushes to Grafana Loki.
    Loki => loki_sink;
    /// Events to Splunk's HTTP event collector.
    Hec => hec_sink;
    /// A file of this host: a JSON object a line, ACKed when it is on the disk.
    File => file_sink;
    /// A program of this host: the same lines on its standard input, ACKed on its standard output.
    Exec => exec_sink;
}

impl Sink {
    /// Lower-case name: metric label, log word.
    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// It names itself, and has a link to each shard. Others over TCP are named by their address, and have one
    /// link in all.
    pub fn has_link_per_shard(self) -> bool {
        self.facts().links == Links::PerShard
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
