//! Records of TLS 1.3 once the handshake is done ([RFC 8446, 5](https://www.rfc-editor.org/rfc/rfc8446#section-5)):
//! sealed into where they are sent from, opened into where they stay, without memory of their own.
//!
//! ```text
//! sealed   u8 23 | u16 0x0303 | u16 length | { contents | u8 type | zeros } encrypted | tag, 16 bytes
//! nonce    IV xor the number of the record, from 0 for each key
//! ```
//!
//! rustls makes the handshake, and each next key. A number is used once: what was sealed is sent as it is, or not at all.

use aws_lc_rs::aead::{
    Aad, Algorithm, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, InvalidMessage, PeerMisbehaved,
};

use crate::record::{record_bytes, HEADER_BYTES, PLAIN_BYTES_MAX};
use crate::wire::Wire;

const TAG_BYTES: usize = 16;
/// What a record adds to its contents: header, type, tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Most bytes of a record behind its header: contents, type and padding, tag, and what else ciphers may add.
const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;
/// A key seals so many records and is followed by another. AES-GCM may seal 2^24.5 of them.
const SEALED_RECORDS_MAX: u64 = 1 << 23;
/// Changes of the key that the peer may want without a byte between them.
const UPDATES_MAX: u32 = 32;
/// Records without contents that may come one behind the other.
pub(crate) const EMPTY_RECORDS_MAX: u32 = 32;
/// Alerts that say nothing that a connection may bring.
const WARNINGS_MAX: u32 = 4;
/// Tickets that may come before either side sends data: each costs as much to open as data.
const TICKETS_MAX: u32 = 32;
/// Longest message of a handshake behind the handshake that is kept until it is whole: a ticket. Nobody comes back with a
/// longer one, and it is skipped.
const MESSAGE_BYTES_MAX: usize = 24 * 1024;
/// Longest ticket with what is around it ([RFC 8446, 4.6.1](https://www.rfc-editor.org/rfc/rfc8446#section-4.6.1)): two
/// times, nonce, ticket, extensions, each but the times with its length before it.
const TICKET_BYTES_MAX: usize = 4 + 4 + (1 + 255) + (2 + 65_535) + (2 + 65_534);

/// Types of contents.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Of what the connection was made: it knows the next keys.
pub enum Kernel {
    /// The side that answers.
    Server(KernelConnection<ServerConnectionData>),
    /// The side that asks.
    Client(KernelConnection<ClientConnectionData>),
}

/// What goes one way.
struct Way {
    key: LessSafeKey,
    iv: [u8; 12],
    /// Of the next record.
    number: u64,
}

/// Both ways of a connection.
pub struct Records {
    kernel: Kernel,
    out: Way,
    back: Way,
    /// A message of the handshake of which more must come.
    message: Vec<u8>,
    /// Bytes that are still to come of one that is skipped.
    skipped: usize,
    tickets: u32,
    updates: u32,
    /// The peer wants this side's next data by another key. It is told once before that, however often it has asked (RFC
    /// 8446, 4.6.3): who gets many updates and no data takes that for an attack.
    owes_update: bool,
    /// Records without contents since the last that had some.
    empty: u32,
    warnings: u32,
    sealed_max: u64,
}

/// Who gets what records held.
pub trait Plain {
    /// Contents.
    fn put(&mut self, bytes: &[u8]);

    /// Memory of so many bytes to open into; none: records are opened where they lie, and their contents are put.
    fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let _ = bytes;
        None
    }

    /// So many bytes of that memory are contents.
    fn filled(&mut self, bytes: usize) {
        let _ = bytes;
    }
}

/// A function that gets contents.
pub struct PutBy<'a>(pub &'a mut dyn FnMut(&[u8]));

impl Plain for PutBy<'_> {
    fn put(&mut self, bytes: &[u8]) {
        (self.0)(bytes);
    }
}

/// Nobody: there are none.
pub struct Nobody;

impl Plain for Nobody {
    fn put(&mut self, _bytes: &[u8]) {}
}

/// What came to nothing, and what the peer is told of it.
pub struct Fault {
    /// As rustls would say it.
    pub error: Error,
    /// Nothing, when the peer is the one that has given up.
    alert: Option<AlertDescription>,
}

impl Fault {
    pub(crate) fn new(error: Error, alert: AlertDescription) -> Fault {
        Fault {
            error,
            alert: Some(alert),
        }
    }

    fn broken(error: Error) -> Fault {
        Fault::new(error, AlertDescription::InternalError)
    }
}

/// What a call of [`Records::open`] has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// So many bytes are through: whole records.
    pub through: usize,
    /// The peer has said that nothing more comes.
    pub has_ended: bool,
}

impl Way {
    fn of((number, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Way, Error> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is not known here".to_owned())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref());
        let iv = iv.as_ref().try_into();
        match (key, iv) {
            (Ok(key), Ok(iv)) => Ok(Way {
                key: LessSafeKey::new(key),
                iv,
                number,
            }),
            _ => Err(Error::General("a key of another length".to_owned())),
        }
    }

    /// That of the next record: each is given once.
    fn next_nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        self.number = self.number.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

impl Records {
    /// Goes on where the handshake has ended.
    ///
    /// # Errors
    /// A cipher that is not known here.
    pub fn new(secrets: ExtractedSecrets, kernel: Kernel) -> Result<Records, Error> {
        Ok(Records {
            kernel,
            out: Way::of(secrets.tx)?,
            back: Way::of(secrets.rx)?,
            message: Vec::new(),
            skipped: 0,
            tickets: 0,
            updates: 0,
            owes_update: false,
            empty: 0,
            warnings: 0,
            sealed_max: SEALED_RECORDS_MAX,
        })
    }

    /// A key seals so many records.
    #[cfg(test)]
    pub fn limit(&mut self, sealed_max: u64) {
        self.sealed_max = sealed_max;
    }

    /// It asks, and does not answer.
    pub fn is_client(&self) -> bool {
        matches!(self.kernel, Kernel::Client(_))
    }

    /// Seals bytes behind what `wire` holds.
    ///
    /// # Errors
    /// Numbers or keys are used up.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Wire) -> Result<(), Error> {
        self.tickets = 0;
        for contents in plain.chunks(PLAIN_BYTES_MAX) {
            if self.owes_update || self.out.number >= self.sealed_max {
                self.renew(wire)?;
            }
            self.put(DATA, contents, wire)?;
        }
        Ok(())
    }

    /// Says that nothing more comes (close_notify).
    ///
    /// # Errors
    /// Numbers are used up.
    pub fn end(&mut self, wire: &mut Wire) -> Result<(), Error> {
        self.put(ALERT, &[1, AlertDescription::CloseNotify.into()], wire)
    }

    /// Tells the peer why it is over.
    pub fn say(&mut self, fault: &Fault, wire: &mut Wire) {
        if let Some(alert) = fault.alert {
            // Whoever cannot be told does not need to know.
            let _ = self.put(ALERT, &[2, alert.into()], wire);
        }
    }

    /// From the next record on by another key.
    fn renew(&mut self, wire: &mut Wire) -> Result<(), Error> {
        const NOT_REQUESTED: u8 = 0;
        let key_update: u8 = HandshakeType::KeyUpdate.into();
        self.put(HANDSHAKE, &[key_update, 0, 0, 1, NOT_REQUESTED], wire)?;
        self.owes_update = false;
        self.follow_own_update()
    }

    /// The peer was told that another key follows.
    pub(crate) fn follow_own_update(&mut self) -> Result<(), Error> {
        self.out = Way::of(match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_tx_secret()?,
            Kernel::Client(kernel) => kernel.update_tx_secret()?,
        })?;
        Ok(())
    }

    /// Seals one record.
    pub(crate) fn put(&mut self, kind: u8, contents: &[u8], wire: &mut Wire) -> Result<(), Error> {
        let len = contents.len() + 1;
        let [high, low] = ((len + TAG_BYTES) as u16).to_be_bytes(); // contents are of a record
        let header = [DATA, 3, 3, high, low];
        let nonce = self.out.next_nonce()?;
        let room = wire.room(contents.len() + OVERHEAD_BYTES);
        let (head, rest) = room.split_at_mut(HEADER_BYTES);
        let (sealed, rest) = rest.split_at_mut(contents.len());
        head.copy_from_slice(&header);
        let (aad, behind) = (Aad::from(header), &mut rest[..1 + TAG_BYTES]);
        let key = &self.out.key;
        key.seal_out_of_place_scatter(nonce, aad, contents, sealed, &[kind], behind)
            .map_err(|_| Error::EncryptError)?;
        wire.filled(contents.len() + OVERHEAD_BYTES);
        Ok(())
    }

    /// Opens whole records, until there is none or the peer has ended. `plain` gets their contents. The bytes are
    /// overwritten.
    ///
    /// # Errors
    /// The connection is over; see [`Records::say`].
    pub fn open(&mut self, bytes: &mut [u8], plain: &mut dyn Plain) -> Result<Opened, Fault> {
        let mut opened = Opened::default();
        while !opened.has_ended {
            let rest = &mut bytes[opened.through..];
            let Some(len) = checked_len(rest)?.filter(|len| *len <= rest.len()) else {
                break;
            };
            opened.has_ended = self.open_one(&mut rest[..len], plain)?;
            opened.through += len;
        }
        Ok(opened)
    }

    /// Opens a whole record. True: the peer has said that nothing more comes.
    fn open_one(&mut self, record: &mut [u8], plain: &mut dyn Plain) -> Result<bool, Fault> {
        let (head, sealed) = record.split_at_mut(HEADER_BYTES);
        let header: [u8; HEADER_BYTES] = head.try_into().unwrap_or_default(); // as long as it is
        let header = Aad::from(header);
        let nonce = self.back.next_nonce().map_err(Fault::broken)?;
        let (inner, tag) = sealed.split_at_mut(sealed.len() - TAG_BYTES);
        let (contents, is_in_room) = match plain.room(inner.len()) {
            Some(room) => {
                let key = &self.back.key;
                let done = key.open_separate_gather(nonce, header, inner, tag, room);
                done.map_err(|_| changed())?;
                let (kind, len) = kind_of(room)?;
                if kind != DATA {
                    return self.hear_of(kind, &room[..len]);
                }
                (len, true)
            }
            None => {
                let done = self.back.key.open_in_place(nonce, header, sealed);
                let inner = done.map_err(|_| changed())?;
                let (kind, len) = kind_of(inner)?;
                if kind != DATA {
                    return self.hear_of(kind, &inner[..len]);
                }
                plain.put(&inner[..len]);
                (len, false)
            }
        };
        if self.is_amid_message() {
            return Err(out_of_place(DATA));
        }
        if is_in_room && contents > 0 {
            plain.filled(contents);
        }
        self.count_empty(contents)?;
        Ok(false)
    }

    /// Records that hold nothing but padding cost as much to open as others, and count as little as none between updates.
    fn count_empty(&mut self, contents: usize) -> Result<(), Fault> {
        if contents > 0 {
            (self.tickets, self.updates, self.empty) = (0, 0, 0);
            return Ok(());
        }
        self.empty += 1;
        if self.empty > EMPTY_RECORDS_MAX {
            let error = Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
            return Err(Fault::new(error, AlertDescription::UnexpectedMessage));
        }
        Ok(())
    }

    /// The same of what is no data.
    fn hear_of(&mut self, kind: u8, contents: &[u8]) -> Result<bool, Fault> {
        match kind {
            HANDSHAKE if !contents.is_empty() => {
                let (_, contents) = contents.split_at(self.skip(contents.len()));
                self.message.extend_from_slice(contents);
                self.hear()?;
                Ok(false)
            }
            ALERT if !self.is_amid_message() => self.is_end(contents),
            _ => Err(out_of_place(kind)),
        }
    }

    /// Whether an alert says that nothing more comes.
    fn is_end(&mut self, contents: &[u8]) -> Result<bool, Fault> {
        const WARNING: u8 = 1;
        let &[level, alert] = contents else {
            let error = Error::InvalidMessage(InvalidMessage::MessageTooShort);
            return Err(Fault::new(error, AlertDescription::DecodeError));
        };
        let error = |alert| Error::AlertReceived(alert);
        match (level, AlertDescription::from(alert)) {
            (1 | 2, AlertDescription::CloseNotify) => Ok(true),
            // It says nothing: close_notify comes behind it.
            (WARNING, AlertDescription::UserCanceled) if self.warnings < WARNINGS_MAX => {
                self.warnings += 1;
                Ok(false)
            }
            (WARNING, AlertDescription::UserCanceled) => Err(Fault::new(
                Error::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived),
                AlertDescription::UnexpectedMessage,
            )),
            (2, alert) => Err(Fault {
                error: error(alert),
                alert: None,
            }),
            (_, alert) => Err(Fault::new(error(alert), AlertDescription::DecodeError)),
        }
    }

    /// Memory of a message of which more must come.
    pub fn message_bytes(&self) -> usize {
        self.message.capacity()
    }

    /// More must come of a message.
    pub fn is_amid_message(&self) -> bool {
        self.skipped > 0 || !self.message.is_empty()
    }

    /// Of so many bytes, those that are skipped.
    fn skip(&mut self, bytes: usize) -> usize {
        let skipped = bytes.min(self.skipped);
        self.skipped -= skipped;
        skipped
    }

    /// It is over.
    pub fn forget_message(&mut self) {
        (self.message, self.skipped) = (Vec::new(), 0);
    }

    /// What is said about the connection itself: another key, or a ticket for the next one.
    fn hear(&mut self) -> Result<(), Fault> {
        while let &[kind, a, b, c, ..] = &self.message[..] {
            let end = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            // Told before more of it is kept.
            let most = match (HandshakeType::from(kind), &self.kernel) {
                (HandshakeType::KeyUpdate, _) => 4 + 1,
                (HandshakeType::NewSessionTicket, Kernel::Client(_)) => 4 + TICKET_BYTES_MAX,
                (other, _) => return Err(misplaced(other)),
            };
            if end > most {
                let error = Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
                return Err(Fault::new(error, AlertDescription::DecodeError));
            }
            if end > MESSAGE_BYTES_MAX {
                self.count_ticket()?;
                self.skipped = end;
                let there = self.skip(self.message.len());
                self.message.drain(..there);
                continue;
            }
            let Some(body) = self.message.get(4..end) else {
                break;
            };
            match (HandshakeType::from(kind), &mut self.kernel) {
                (HandshakeType::KeyUpdate, _) => {
                    let is_wanted = is_requested(body)?;
                    if self.message.len() > end {
                        let error =
                            Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment);
                        return Err(Fault::new(error, AlertDescription::UnexpectedMessage));
                    }
                    self.follow(is_wanted)?;
                }
                (HandshakeType::NewSessionTicket, Kernel::Client(kernel)) => {
                    let taken = kernel.handle_new_session_ticket(body);
                    taken.map_err(|error| Fault::new(error, AlertDescription::DecodeError))?;
                    self.count_ticket()?;
                }
                (other, _) => return Err(misplaced(other)),
            }
            self.message.drain(..end);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    fn count_ticket(&mut self) -> Result<(), Fault> {
        self.tickets += 1;
        if self.tickets > TICKETS_MAX {
            let error = Error::General(format!(
                "it sends tickets (more than {TICKETS_MAX} in a row)"
            ));
            return Err(Fault::new(error, AlertDescription::UnexpectedMessage));
        }
        Ok(())
    }

    /// The peer seals by its next key, and may want the same of this side.
    fn follow(&mut self, is_wanted: bool) -> Result<(), Fault> {
        self.updates += 1;
        if self.updates > UPDATES_MAX {
            let error = Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests);
            return Err(Fault::new(error, AlertDescription::UnexpectedMessage));
        }
        self.owes_update |= is_wanted;
        let next = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_rx_secret(),
            Kernel::Client(kernel) => kernel.update_rx_secret(),
        };
        self.back = next.and_then(Way::of).map_err(Fault::broken)?;
        Ok(())
    }
}

/// How long the record is that begins here, header included, if its header is there. What no record is is told before
/// the rest of it comes.
///
/// # Errors
/// Its header is none of a record that may come now.
fn checked_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    if let Some(kind) = bytes.first().filter(|kind| **kind != DATA) {
        return Err(out_of_place(*kind));
    }
    match record_bytes(bytes) {
        Some(len) if len > HEADER_BYTES + SEALED_BYTES_MAX => Err(oversized()),
        // Shorter than a type and a tag: it cannot be opened.
        Some(len) if len < OVERHEAD_BYTES => Err(changed()),
        len => Ok(len),
    }
}

/// Type and length of a record's contents. Zeros behind the type are padding.
fn kind_of(inner: &[u8]) -> Result<(u8, usize), Fault> {
    match inner.iter().rposition(|byte| *byte != 0) {
        Some(at) if at > PLAIN_BYTES_MAX => Err(oversized()),
        Some(at) => Ok((inner[at], at)),
        None => {
            let error = Error::PeerMisbehaved(PeerMisbehaved::IllegalTlsInnerPlaintext);
            Err(Fault::new(error, AlertDescription::UnexpectedMessage))
        }
    }
}

fn changed() -> Fault {
    Fault::new(Error::DecryptError, AlertDescription::BadRecordMac)
}

fn oversized() -> Fault {
    Fault::new(
        Error::PeerSentOversizedRecord,
        AlertDescription::RecordOverflow,
    )
}

fn out_of_place(kind: u8) -> Fault {
    let error = Error::InappropriateMessage {
        expect_types: vec![ContentType::ApplicationData],
        got_type: ContentType::from(kind),
    };
    Fault::new(error, AlertDescription::UnexpectedMessage)
}

fn misplaced(got_type: HandshakeType) -> Fault {
    let error = Error::InappropriateHandshakeMessage {
        expect_types: vec![HandshakeType::KeyUpdate],
        got_type,
    };
    Fault::new(error, AlertDescription::UnexpectedMessage)
}

fn is_requested(body: &[u8]) -> Result<bool, Fault> {
    match body {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => {
            let error = Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate);
            Err(Fault::new(error, AlertDescription::IllegalParameter))
        }
    }
}
