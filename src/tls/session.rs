//! One connection's TLS: bytes in, bytes out, no I/O.
//!
//! ```text
//! from the wire --open()--> plain bytes                      records that were cut are carried
//!                      `--> wire bytes that answer           handshake, key updates, alerts
//! plain bytes --seal()----> wire bytes                       in the order of the calls: it is the order of their numbers
//! ```
//!
//! rustls does the protocol, by its unbuffered interface; once a handshake of TLS 1.3 is done, `records.rs` does its
//! records. What comes out of one call of [`Session::seal`] or
//! [`Session::open`] must reach the wire before what comes out of the next.

mod resumed;
mod spare;

use std::fmt;
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, Error, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::certificate::Peer;
use crate::client::{take_asked, take_shown};
use crate::failure::Failure;
use crate::record::{record_bytes, whole_records, HEADER_BYTES, RECORD_BYTES_MAX};
use crate::records::{Kernel, Nobody, Plain, PutBy, Records};
use crate::wire::Wire;
use spare::{keep, spare};

/// Most bytes that are carried of records that were cut, and of handshake messages that travel in several.
pub const CARRIED_BYTES_MAX: usize = 64 * 1024;
/// The same behind the handshake, where messages are small: a record and half of another.
const CARRIED_LATER_BYTES_MAX: usize = 28 * 1024;
/// More than the header, number, type and tag of a record.
const OVERHEAD_BYTES: usize = 64;
/// Bytes that rustls puts into one record.
const FRAGMENT_BYTES: usize = 16_384;

/// Steps in which a connection that has failed says its last: two for each of a few flights.
const LAST_STEPS_MAX: usize = 16;

/// Each by itself in memory: what rustls needs for a handshake goes with it.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// Of TLS 1.3, once the handshake is done.
    Records(Box<Records>),
    /// On its way from one to the next.
    Between,
}

/// See the head of this file.
pub struct Session {
    side: Side,
    /// Its settings let keys be taken out of rustls.
    is_convertible: bool,
    /// Bytes of what is carried that rustls was shown and remembers: whole records with the beginning of a message. It has
    /// moved them together, so nothing in there says where a record ends.
    seen: usize,
    /// What is known from the handshake, once that is over.
    peer: Option<CertificateDer<'static>>,
    is_resumed: bool,
    /// Of a record that was cut, or of a handshake message of which more must come.
    carried: Vec<u8>,
    is_established: bool,
    has_ended: bool,
    has_failed: bool,
    /// A client: the server has asked for a certificate.
    was_asked: bool,
    /// A client: the server has said something since the handshake.
    is_heard: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_established", &self.is_established)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

/// What a side of rustls has been asked to do comes to this, until it wants bytes.
enum Step {
    /// So many bytes are through.
    Discard(usize),
    /// Nothing more to do with what is there; so many bytes are through.
    Wants(usize),
}

/// One state of rustls, of either side.
macro_rules! step {
    ($conn:expr, $bytes:expr, $plain:expr, $wire:expr, $established:expr, $ended:expr) => {{
        let UnbufferedStatus { discard, state } = $conn.process_tls_records($bytes);
        let mut through = discard;
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    through += record.discard;
                    $plain.put(record.payload);
                }
                Step::Discard(through)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                append($wire, |room| match data.encode(room) {
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                    Ok(written) => Ok(written),
                });
                Step::Discard(through)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Step::Discard(through)
            }
            ConnectionState::WriteTraffic(_) => {
                *$established = true;
                Step::Wants(through)
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                // A short connection says all it has at once, and then there was nothing to write between.
                *$established |= !$conn.is_handshaking();
                *$ended = true;
                Step::Wants(through)
            }
            _ => Step::Wants(through),
        }
    }};
}

/// Writes to an established side. False: it cannot.
macro_rules! write {
    ($conn:expr, $carried:expr, $what:expr, $wire:expr) => {
        match $conn.process_tls_records($carried).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => append($wire, |room| {
                let written = match $what {
                    Out::Bytes(plain) => traffic.encrypt(plain, room),
                    Out::End => traffic.queue_close_notify(room),
                };
                written.map_err(|error| match error {
                    EncryptError::InsufficientSize(size) => Some(size),
                    EncryptError::EncryptExhausted => None,
                })
            }),
            _ => false,
        }
    };
}

impl Session {
    /// One that answers a client.
    ///
    /// # Errors
    /// The settings do not go together.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, Failure> {
        let is_convertible = config.enable_secret_extraction;
        let connection = UnbufferedServerConnection::new(config);
        let connection = connection.map_err(|error| Failure::of(&error))?;
        Ok(Session::of(
            Side::Server(Box::new(connection)),
            is_convertible,
        ))
    }

    /// One that asks a server of this name.
    ///
    /// # Errors
    /// The settings do not go together.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Session, Failure> {
        let is_convertible = config.enable_secret_extraction;
        let connection = UnbufferedClientConnection::new(config, name);
        let connection = connection.map_err(|error| Failure::of(&error))?;
        Ok(Session::of(
            Side::Client(Box::new(connection)),
            is_convertible,
        ))
    }

    fn of(side: Side, is_convertible: bool) -> Session {
        Session {
            side,
            is_convertible,
            seen: 0,
            peer: None,
            is_resumed: false,
            carried: Vec::new(),
            is_established: false,
            has_ended: false,
            has_failed: false,
            was_asked: false,
            is_heard: false,
        }
    }

    /// Both sides know each other, and bytes may go both ways.
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// A client was asked for a certificate, and the server has not shown what it thinks of the answer. In TLS 1.3 it
    /// does so after the handshake: by tickets, by data, or by an alert.
    pub fn awaits_verdict(&self) -> bool {
        self.was_asked && !self.is_heard && self.version() == "1.3"
    }

    /// The peer has said that nothing more comes (close_notify).
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What came could not be opened: nothing that follows can be.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Bytes that are carried until more come.
    pub fn carried_bytes(&self) -> usize {
        self.carried.len()
    }

    /// Bytes of memory that they take, and the beginning of a message of which more must come.
    pub fn held_bytes(&self) -> usize {
        let message = match &self.side {
            Side::Records(records) => records.message_bytes(),
            _ => 0, // of what is carried
        };
        self.carried.capacity() + message
    }

    /// More must come of a message whose beginning is kept.
    pub fn is_amid_message(&self) -> bool {
        match &self.side {
            Side::Records(records) => records.is_amid_message(),
            _ => self.seen > 0,
        }
    }

    /// Nothing more is opened, and what is carried is forgotten.
    pub fn give_up(&mut self) {
        self.has_failed = true;
        self.carried = Vec::new();
        self.seen = 0;
        if let Side::Records(records) = &mut self.side {
            records.forget_message();
        }
    }

    /// Who the peer is by its certificate; none when it has shown none.
    pub fn peer(&self) -> Option<Peer> {
        let chain = match &self.side {
            Side::Server(connection) => connection.peer_certificates(),
            Side::Client(connection) => connection.peer_certificates(),
            Side::Records(_) | Side::Between => return Peer::of(self.peer.as_ref()?),
        };
        Peer::of(chain?.first()?)
    }

    /// TLS 1.2 or 1.3, as it is written.
    pub fn version(&self) -> &'static str {
        let version = match &self.side {
            Side::Server(connection) => connection.protocol_version(),
            Side::Client(connection) => connection.protocol_version(),
            Side::Records(_) | Side::Between => Some(ProtocolVersion::TLSv1_3),
        };
        match version {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "none",
        }
    }

    /// The handshake was shortened by a ticket.
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Server(connection) => connection.handshake_kind(),
            Side::Client(connection) => connection.handshake_kind(),
            Side::Records(_) | Side::Between => return self.is_resumed,
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// A client says its first words.
    ///
    /// # Errors
    /// As of [`Session::open`].
    pub fn begin(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        self.process(&mut [], &mut Nobody, wire).map(drop)
    }

    /// Takes bytes from the wire, in any pieces. `plain` gets what they held, record by record; what is to be answered
    /// is appended to `wire`. The bytes are overwritten.
    ///
    /// # Errors
    /// The connection is over; the alert that says so is in `wire`.
    pub fn open(
        &mut self,
        bytes: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        wire: &mut Wire,
    ) -> Result<(), Failure> {
        self.open_into(bytes, &mut PutBy(plain), wire)
    }

    /// The same; records may be opened into memory that `plain` has.
    ///
    /// # Errors
    /// As of [`Session::open`].
    pub fn open_into(
        &mut self,
        bytes: &mut [u8],
        plain: &mut dyn Plain,
        wire: &mut Wire,
    ) -> Result<(), Failure> {
        let opened = self.open_all(bytes, plain, wire);
        self.has_failed |= opened.is_err();
        opened
    }

    fn open_all(
        &mut self,
        mut bytes: &mut [u8],
        plain: &mut dyn Plain,
        wire: &mut Wire,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() && !self.has_ended && !self.has_failed {
            if self.carried.is_empty() {
                let through = self.process(bytes, plain, wire)?;
                let rest = &bytes[through..];
                if !rest.is_empty() && self.carried.capacity() == 0 {
                    self.carried = spare();
                }
                self.carried.extend_from_slice(rest);
                return self.check_carried();
            }
            let (now, later) = bytes.split_at_mut(self.wanted().min(bytes.len()));
            self.carried.extend_from_slice(now);
            bytes = later;
            let cut = self.cut();
            let is_too_long = record_bytes(cut).is_some_and(|len| len > RECORD_BYTES_MAX);
            if !cut.is_empty() && !is_too_long {
                continue; // it is the last that is cut still
            }
            let mut carried = mem::take(&mut self.carried);
            let through = self.process(&mut carried, plain, wire)?;
            carried.drain(..through);
            self.carried = carried;
            self.check_carried()?;
        }
        Ok(())
    }

    /// What is carried of the record that was cut.
    fn cut(&self) -> &[u8] {
        let new = &self.carried[self.seen..];
        &new[whole_records(new)..]
    }

    /// Bytes that the record that was cut wants, or the next header.
    fn wanted(&self) -> usize {
        let cut = self.cut();
        record_bytes(cut).unwrap_or(HEADER_BYTES) - cut.len()
    }

    fn check_carried(&mut self) -> Result<(), Failure> {
        if self.carried.is_empty() && self.carried.capacity() > 0 {
            keep(mem::take(&mut self.carried)); // idle connections hold nothing
        }
        let most = match self.is_established {
            true => CARRIED_LATER_BYTES_MAX,
            false => CARRIED_BYTES_MAX,
        };
        match self.carried.len() > most {
            true => Err(Failure::oversized()),
            false => Ok(()),
        }
    }

    /// Takes what it can; how many bytes it is through with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut dyn Plain,
        wire: &mut Wire,
    ) -> Result<usize, Failure> {
        if let Side::Records(_) = self.side {
            return self.open_records(bytes, plain, wire);
        }
        let was_established = self.is_established;
        let whole = self.seen + whole_records(&bytes[self.seen..]);
        // Record by record until the handshake is done: what comes behind it is not for rustls.
        let mut until = match self.is_convertible && !was_established {
            true => next_end(bytes, self.seen),
            false => bytes.len(),
        };
        let mut at = 0;
        loop {
            match self.step(&mut bytes[at..until], plain, wire) {
                Ok(Step::Discard(through)) => at += through,
                Ok(Step::Wants(through)) => {
                    at += through;
                    self.note_of_server(was_established && at > 0);
                    // Part of a message behind the handshake is there: rustls goes on with it.
                    self.is_convertible &= !self.is_established || at == until;
                    if self.is_established && !was_established {
                        self.check_resumed(wire)?;
                    }
                    if self.is_established && self.is_convertible {
                        self.convert()?;
                        if let Side::Records(_) = self.side {
                            return Ok(at + self.open_records(&mut bytes[at..], plain, wire)?);
                        }
                        // TLS 1.2: a client that was resumed says its last word and its first message at once.
                    }
                    if until == bytes.len() {
                        self.seen = whole.saturating_sub(at);
                        return Ok(at);
                    }
                    until = next_end(bytes, until);
                }
                Err(error) => {
                    self.has_failed = true;
                    self.say_alert(&mut bytes[at..until], wire);
                    return Err(self.failure(&error));
                }
            }
        }
    }

    /// The handshake is done: from here on records are opened and sealed here, if they are of TLS 1.3.
    fn convert(&mut self) -> Result<(), Failure> {
        self.is_convertible = false;
        self.seen = 0;
        if self.version() != "1.3" {
            return Ok(());
        }
        self.is_resumed = self.is_resumed();
        let converted = match mem::replace(&mut self.side, Side::Between) {
            Side::Server(connection) => {
                self.peer = first_of(connection.peer_certificates());
                let parts = connection.dangerous_into_kernel_connection();
                parts.and_then(|(secrets, kernel)| Records::new(secrets, Kernel::Server(kernel)))
            }
            Side::Client(connection) => {
                self.peer = first_of(connection.peer_certificates());
                let parts = connection.dangerous_into_kernel_connection();
                parts.and_then(|(secrets, kernel)| Records::new(secrets, Kernel::Client(kernel)))
            }
            Side::Records(_) | Side::Between => return Ok(()),
        };
        match converted {
            Ok(records) => {
                self.side = Side::Records(Box::new(records));
                Ok(())
            }
            Err(error) => {
                self.has_failed = true;
                Err(Failure::of(&error))
            }
        }
    }

    fn open_records(
        &mut self,
        bytes: &mut [u8],
        plain: &mut dyn Plain,
        wire: &mut Wire,
    ) -> Result<usize, Failure> {
        let Side::Records(records) = &mut self.side else {
            return Err(Failure::not_open());
        };
        match records.open(bytes, plain) {
            Ok(opened) => {
                self.has_ended |= opened.has_ended;
                self.is_heard |= opened.through > 0 && records.is_client();
                Ok(opened.through)
            }
            Err(fault) => {
                self.has_failed = true;
                records.say(&fault, wire);
                Err(self.failure(&fault.error))
            }
        }
    }

    fn note_of_server(&mut self, is_heard: bool) {
        if let Side::Client(_) = self.side {
            self.was_asked |= take_asked();
            self.is_heard |= is_heard;
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        match self.side {
            Side::Server(_) => Failure::of_client(error, take_shown().as_ref()),
            Side::Client(_) => {
                take_asked();
                let failure = Failure::of_server(error, take_shown().as_ref());
                // Behind the handshake rustls has TLS 1.2 alone to do.
                match self.is_established {
                    true => failure.within(error),
                    false => failure,
                }
            }
            Side::Records(ref records) if records.is_client() => Failure::of_server(error, None),
            _ => Failure::of(error),
        }
    }

    fn step(
        &mut self,
        bytes: &mut [u8],
        plain: &mut dyn Plain,
        wire: &mut Wire,
    ) -> Result<Step, Error> {
        let (established, ended) = (&mut self.is_established, &mut self.has_ended);
        Ok(match &mut self.side {
            Side::Server(side) => step!(side, bytes, plain, wire, established, ended),
            Side::Client(side) => step!(side, bytes, plain, wire, established, ended),
            Side::Records(_) | Side::Between => return Err(Error::HandshakeNotComplete),
        })
    }

    /// After a failure rustls has an alert for the peer, and perhaps words that go before it: without these nobody could
    /// read the alert. It is not asked for more behind it: it would read on, fail again, and must not say so twice.
    fn say_alert(&mut self, bytes: &mut [u8], wire: &mut Wire) {
        let mut at = 0;
        for _ in 0..LAST_STEPS_MAX {
            let before = wire.bytes().len();
            let Ok(Step::Discard(through)) = self.step(&mut bytes[at..], &mut Nobody, wire) else {
                return;
            };
            at += through;
            let said = wire.bytes().get(before..).unwrap_or_default();
            if said.is_empty() || is_alert(said) {
                return;
            }
        }
    }

    /// Seals bytes into records behind what `wire` holds.
    ///
    /// # Errors
    /// The connection is not established, has failed, or its keys are used up.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Wire) -> Result<(), Failure> {
        wire.room(plain.len() + (plain.len() / FRAGMENT_BYTES + 1) * OVERHEAD_BYTES);
        self.write(Out::Bytes(plain), wire)
    }

    /// Says that nothing more comes (close_notify).
    pub fn end(&mut self, wire: &mut Wire) {
        let _ = self.write(Out::End, wire);
    }

    fn write(&mut self, what: Out<'_>, wire: &mut Wire) -> Result<(), Failure> {
        if self.has_failed || !self.is_established {
            return Err(Failure::not_open());
        }
        if let Side::Records(records) = &mut self.side {
            let written = match what {
                Out::Bytes(plain) => records.seal(plain, wire),
                Out::End => records.end(wire),
            };
            return written.map_err(|_| Failure::keys_used_up());
        }
        // It remembers where in what is carried it was.
        let mut carried = mem::take(&mut self.carried);
        let written = self.write_beside(&mut carried, what, wire);
        self.carried = carried;
        written
    }

    fn write_beside(
        &mut self,
        carried: &mut [u8],
        what: Out<'_>,
        wire: &mut Wire,
    ) -> Result<(), Failure> {
        // Answers that are due go first: a key update says by which key the next record is to be read.
        loop {
            match self.step(carried, &mut Nobody, wire) {
                Ok(Step::Discard(0)) => {}
                Ok(Step::Wants(0)) => break,
                Ok(_) => return Err(Failure::not_open()),
                Err(error) => return Err(Failure::of(&error)),
            }
        }
        let written = match &mut self.side {
            Side::Server(side) => write!(side, carried, what, wire),
            Side::Client(side) => write!(side, carried, what, wire),
            Side::Records(_) | Side::Between => false,
        };
        match written {
            true => Ok(()),
            false => Err(Failure::keys_used_up()),
        }
    }
}

/// Where the record ends behind `at`, or all that is there of it.
fn next_end(bytes: &[u8], at: usize) -> usize {
    let len = record_bytes(&bytes[at..]).unwrap_or(bytes.len());
    at.saturating_add(len).min(bytes.len())
}

fn first_of(chain: Option<&[CertificateDer<'static>]>) -> Option<CertificateDer<'static>> {
    chain?.first().cloned()
}

/// What is to be written.
enum Out<'a> {
    Bytes(&'a [u8]),
    End,
}

/// Appends what `fill` writes, with as much room as it asks for. False: it cannot.
fn append(
    wire: &mut Wire,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let mut wanted = OVERHEAD_BYTES;
    loop {
        match fill(wire.room(wanted)) {
            Ok(written) => {
                wire.filled(written);
                return true;
            }
            Err(Some(InsufficientSizeError { required_size })) => wanted = required_size,
            Err(None) => return false,
        }
    }
}

/// A record that is an alert, in the clear or sealed: nothing else that is sealed is as short.
fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const SEALED: u8 = 23;
    const SEALED_ALERT_BYTES: usize = HEADER_BYTES + 2 + 1 + 16;
    match record.first() {
        Some(&ALERT) => true,
        Some(&SEALED) => record.len() == SEALED_ALERT_BYTES,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
