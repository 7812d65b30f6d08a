//! Outlets: what programs take that were not written for Weir, over a connection that the distributor makes.
//!
//! ```text
//!   records of a lane --push--> packet --close--> bytes -----------------> Fluentd, rsyslog, Logstash
//!                                 |                     <--hear-- answers --'
//!                                 `- packets in flight, oldest first: through from the front on (src/shard/outlets)
//! ```
//!
//! An outlet is a state machine for one connection: it writes packets and reads answers, and knows no socket, no lane
//! and no clock. It is one file here, one line of the table below, and one of `sinks!`.

mod compress;
pub(crate) mod forward;
pub(crate) mod lines;
pub(crate) mod lumberjack;
pub(crate) mod relp;
pub(crate) mod syslog;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::{iso8601, Form, TIMESTAMP_BYTES};

use crate::Sink;

/// One message that is to be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// 0 fatal to 5 trace; more counts as info.
    pub severity: u8,
    /// What its bytes are.
    pub form: Form,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// What is said of every message of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970: for messages that do not say when they were.
    pub unix_ms: u64,
    /// The same as RFC 3339 has it.
    pub text: [u8; TIMESTAMP_BYTES],
}

impl Stamp {
    /// Of a time in milliseconds since 1970.
    pub fn at(unix_ms: u64) -> Stamp {
        Stamp {
            unix_ms,
            text: iso8601(unix_ms),
        }
    }
}

/// Which messages a packet has: as native links and `weir audit` call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random number of the distributor's run.
    pub instance: u64,
    /// The link.
    pub epoch: u64,
    /// Number of the packet's first message on that link, from 1.
    pub first: u64,
}

/// Bytes of an [`Identity`] on the wire.
pub const IDENTITY_BYTES: usize = 24;

impl Identity {
    /// Its three numbers, one behind the other, the most significant byte first.
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        for (to, number) in bytes
            .chunks_exact_mut(8)
            .zip([self.instance, self.epoch, self.first])
        {
            to.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Back from [`Identity::encode`].
    pub fn decode(bytes: &[u8; IDENTITY_BYTES]) -> Identity {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|eight| u64::from_be_bytes(eight.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        Identity {
            instance: next(),
            epoch: next(),
            first: next(),
        }
    }
}

/// Whether a message went into the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in it.
    Taken,
    /// It belongs into another packet: close this one first. Never said of a packet's first message.
    Other,
}

/// What an analyzer has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Greetings are over: messages may be sent.
    Ready,
    /// The oldest so many messages that are in flight are through.
    Acked(u64),
    /// The packet whose first message has this number is through, in any order.
    Done(u64),
    /// It does not take the oldest message that is in flight, by this status, and never will.
    Refused(u16),
    /// It lives and is not through yet.
    Alive,
    /// It says goodbye: nothing more is to be sent on this connection.
    Closing,
}

/// An answer that cannot be followed: the connection is closed, and what is in flight goes to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletError {
    /// Metric label.
    pub reason: &'static str,
    /// What came, and what is allowed.
    pub detail: String,
}

impl fmt::Display for OutletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// How packets are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    #[default]
    None,
    /// With gzip.
    Gzip,
    /// With zlib.
    Zlib,
}

/// How messages of Lumberjack are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// From 1 in each window, as Beats does.
    #[default]
    Window,
    /// From 1 on each connection, on and on, as rsyslog's imbeats wants it.
    Cumulative,
}

/// Where a message of syslog ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// At a line feed.
    #[default]
    LineFeed,
    /// Where the number before it says.
    Counted,
}

/// What an outlet is told. Options of an analyzer's URL.
#[derive(Clone, PartialEq, Eq)]
pub struct OutletOptions {
    /// Tag of messages that came without one; the program's name in a header of syslog.
    pub tag: String,
    /// How packets are compressed.
    pub compression: Compression,
    /// Key that both sides know; empty: none.
    pub shared_key: Vec<u8>,
    /// Name of the distributor towards the analyzer; empty: no user.
    pub user: String,
    /// Its password.
    pub password: Vec<u8>,
    /// What the distributor calls its host.
    pub host: String,
    /// Facility in a header of syslog, up to 23.
    pub facility: u8,
    /// Where messages of syslog end.
    pub framing: Framing,
    /// How messages of Lumberjack are numbered.
    pub numbering: Numbering,
    /// Most messages in flight where each has an answer of its own.
    pub window: u32,
    /// Most windows of Lumberjack in flight.
    pub windows: usize,
    /// So many bytes more must have reached the analyzer's kernel before a packet without an answer counts as
    /// delivered.
    pub lag_bytes: u32,
    /// Emitters may be told that messages are through when only the analyzer's kernel has said so.
    pub allows_weak_acks: bool,
    /// Most bytes of a packet; one message may have more.
    pub packet_bytes: u32,
    /// Most bytes in flight, all packets of a connection together.
    pub in_flight_bytes: u32,
    /// How long the oldest packet may wait for its answer.
    pub timeout: Duration,
}

impl Default for OutletOptions {
    fn default() -> Self {
        OutletOptions {
            tag: "weir".to_owned(),
            compression: Compression::None,
            shared_key: Vec::new(),
            user: String::new(),
            password: Vec::new(),
            host: "weir".to_owned(),
            facility: 1, // user
            framing: Framing::LineFeed,
            numbering: Numbering::Window,
            windows: 8,
            window: 1024,         // librelp has 128, and nothing negotiates it
            lag_bytes: 256 << 10, // a receiver's buffer and its kernel's
            allows_weak_acks: false,
            packet_bytes: 256 << 10,
            in_flight_bytes: 4 << 20,
            timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for OutletOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |bytes: &[u8]| if bytes.is_empty() { "none" } else { "given" };
        f.debug_struct("OutletOptions")
            .field("tag", &self.tag)
            .field("compression", &self.compression)
            .field("shared_key", &secret(&self.shared_key))
            .field("user", &self.user)
            .field("password", &secret(&self.password))
            .field("packet_bytes", &self.packet_bytes)
            .field("in_flight_bytes", &self.in_flight_bytes)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What each outlet does. `out` holds what is to be sent; packets are written at its end.
pub trait Speak: Sized {
    /// For a connection that has just been made. `salt`: random bytes that no other connection has.
    fn start(options: &Arc<OutletOptions>, salt: [u8; 16]) -> Self;

    /// What is said first. True: messages may follow at once; false: after [`Heard::Ready`].
    fn hello(&mut self, out: &mut Vec<u8>) -> bool;

    /// Most messages in flight.
    fn messages_max(&self) -> u64 {
        u64::MAX
    }

    /// Most packets in flight.
    fn packets_max(&self) -> usize {
        usize::MAX
    }

    /// Appends a message to the packet at the end of `out`; begins one where there is none.
    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed;

    /// The packet is whole: writes what was left open.
    fn close(&mut self, identity: &Identity, out: &mut Vec<u8>);

    /// Takes the next answer off `bytes`; what it is answered with goes to `out`. `None`: there is no whole one.
    ///
    /// # Errors
    /// It cannot be followed.
    fn hear(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, OutletError>;

    /// What is said when nothing more will come.
    fn goodbye(&mut self, out: &mut Vec<u8>);
}

/// Makes [`Outlet`] out of the table.
macro_rules! outlets {
    ($($(#[$doc:meta])+ $name:ident => $of:ty;)+) => {
        /// The outlet of one connection.
        #[derive(Debug)]
        pub enum Outlet {
            $($(#[$doc])+ $name($of),)+
        }

        impl Outlet {
            /// For a connection to an analyzer of this kind; none: it has no outlet.
            pub fn new(sink: Sink, options: &Arc<OutletOptions>, salt: [u8; 16]) -> Option<Outlet> {
                match sink {
                    $(Sink::$name => Some(Outlet::$name(Speak::start(options, salt))),)+
                    _ => None,
                }
            }

            /// As [`Speak::hello`].
            pub fn hello(&mut self, out: &mut Vec<u8>) -> bool {
                match self { $(Outlet::$name(outlet) => outlet.hello(out),)+ }
            }

            /// As [`Speak::messages_max`].
            pub fn messages_max(&self) -> u64 {
                match self { $(Outlet::$name(outlet) => outlet.messages_max(),)+ }
            }

            /// As [`Speak::packets_max`].
            pub fn packets_max(&self) -> usize {
                match self { $(Outlet::$name(outlet) => outlet.packets_max(),)+ }
            }

            /// As [`Speak::push`].
            #[inline]
            pub fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
                match self { $(Outlet::$name(outlet) => outlet.push(message, stamp, out),)+ }
            }

            /// As [`Speak::close`].
            pub fn close(&mut self, identity: &Identity, out: &mut Vec<u8>) {
                match self { $(Outlet::$name(outlet) => outlet.close(identity, out),)+ }
            }

            /// As [`Speak::hear`].
            ///
            /// # Errors
            /// As there.
            pub fn hear(
                &mut self,
                bytes: &mut &[u8],
                out: &mut Vec<u8>,
            ) -> Result<Option<Heard>, OutletError> {
                match self { $(Outlet::$name(outlet) => outlet.hear(bytes, out),)+ }
            }

            /// As [`Speak::goodbye`].
            pub fn goodbye(&mut self, out: &mut Vec<u8>) {
                match self { $(Outlet::$name(outlet) => outlet.goodbye(out),)+ }
            }
        }
    };
}

outlets! {
    /// Fluentd, Fluent Bit, Vector.
    Forward => forward::Outlet;
    /// Logstash, Vector, rsyslog's imbeats.
    Lumberjack => lumberjack::Outlet;
    /// rsyslog's imrelp.
    Relp => relp::Outlet;
    /// Whatever takes syslog over TCP.
    Syslog => syslog::Outlet;
    /// A file's writer.
    File => lines::Outlet;
    /// A program, on its standard input.
    Exec => lines::Outlet;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back() {
        let identity = Identity {
            instance: 1,
            epoch: u64::MAX,
            first: 77,
        };
        assert_eq!(Identity::decode(&identity.encode()), identity);
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = OutletOptions {
            shared_key: b"sesame".to_vec(),
            password: b"sesame".to_vec(),
            ..OutletOptions::default()
        };
        assert!(!format!("{options:?}").contains("sesame"));
    }
}
