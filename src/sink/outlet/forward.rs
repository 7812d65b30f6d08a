//! Fluent Forward, as its client: to Fluentd, Fluent Bit, Vector and their like.
//!
//! ```text
//! packet   93  tag  bin(entries)  82 "size" n "chunk" id        PackedForward: what every server takes
//! entry    92  d7 00 seconds nanoseconds  record                the plain form: not all read the one with metadata
//! answer   81 "ack" id                                          one for each packet, in any order
//!
//! with a shared key:   <- HELO   -> PING   <- PONG   before the first packet
//! ```
//!
//! The id is the identity of the packet's first message in base64: the link's numbers, as native links and
//! `weir audit` have them. Specification: <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>.

use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use weir_protocol::msgpack::{
    take_array, take_head, take_map, take_string, take_value, write_bin, write_str, write_uint,
    Head, Skip, Skipped,
};

use weir_protocol::record::split_entry;
use weir_protocol::Form;
use weir_source::forward::hex_sha512;

use super::{
    compress, Compression, Heard, Identity, Message, OutletError, OutletOptions, Pushed, Speak,
    Stamp, IDENTITY_BYTES,
};
use crate::render::fluent;
use crate::{Acks, Facts, Layout, Links, Mute, Told};

pub(crate) static FACTS: Facts = Facts {
    name: "forward",
    layout: Layout::Records,
    links: Links::Outlet,
    acks: Acks::PerItem,
    told: Told::NOTHING,
};

pub(crate) type Words = Mute;

/// Longest answer of a server in bytes. An ack has about 50, a HELO 100.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Characters of an id.
const ID_BYTES: usize = IDENTITY_BYTES / 3 * 4;

/// How far the greetings are.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Messages may be sent.
    Open,
    /// The server speaks first.
    Helo,
    /// It was shown the key, and shows that it knows it, too.
    Pong { nonce: Vec<u8> },
}

/// The packet at the end of what is to be sent.
#[derive(Debug)]
struct Open {
    /// Where its entries begin.
    entries: usize,
    messages: u32,
    /// Its tag is that of messages that came without one.
    is_own: bool,
    /// The beginning of entries that do not say when they were, and which millisecond that is.
    head: [u8; fluent::ENTRY_HEAD_BYTES],
    unix_ms: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Outlet {
    options: Arc<OutletOptions>,
    salt: [u8; 16],
    stage: Stage,
    packet: Option<Open>,
    /// Of the packet that is open.
    tag: Vec<u8>,
    /// Instance and link of what was sent.
    sent_as: Option<(u64, u64)>,
    packed: Vec<u8>,
}

impl Speak for Outlet {
    fn start(options: &Arc<OutletOptions>, salt: [u8; 16]) -> Self {
        Outlet {
            options: Arc::clone(options),
            salt,
            stage: match options.shared_key.is_empty() {
                true => Stage::Open,
                false => Stage::Helo,
            },
            packet: None,
            tag: Vec::new(),
            sent_as: None,
            packed: Vec::new(),
        }
    }

    fn hello(&mut self, _out: &mut Vec<u8>) -> bool {
        self.stage == Stage::Open
    }

    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        if message.form == Form::Entry {
            return self.push_entry(message, stamp, out);
        }
        let head = match &mut self.packet {
            Some(packet) if packet.is_own && packet.unix_ms == stamp.unix_ms => {
                packet.messages += 1;
                packet.head
            }
            _ => {
                if self.open(None, stamp, out) == Pushed::Other {
                    return Pushed::Other;
                }
                head_of(stamp)
            }
        };
        if message.form == Form::Raw {
            fluent::entry_of_text(&head, message, out);
        } else {
            out.extend_from_slice(&head);
            fluent::record(message, out);
        }
        Pushed::Taken
    }

    fn close(&mut self, identity: &Identity, out: &mut Vec<u8>) {
        let Some(packet) = self.packet.take() else {
            return;
        };
        let Open {
            entries, messages, ..
        } = packet;
        self.sent_as = Some((identity.instance, identity.epoch));
        let is_packed = self.options.compression == Compression::Gzip;
        if is_packed {
            self.packed.clear();
            compress::gzip(&out[entries..], &mut self.packed);
            out.truncate(entries);
            out.extend_from_slice(&self.packed);
        }
        let bytes = u32::try_from(out.len() - entries).unwrap_or(u32::MAX); // packets are far below
        out[entries - 4..entries].copy_from_slice(&bytes.to_be_bytes());
        out.push(if is_packed { 0x83 } else { 0x82 });
        write_str(out, b"size");
        write_uint(out, u64::from(messages));
        write_str(out, b"chunk");
        let mut id = [0; ID_BYTES];
        let written = STANDARD.encode_slice(identity.encode(), &mut id);
        debug_assert_eq!(written, Ok(ID_BYTES));
        write_str(out, &id);
        if is_packed {
            write_str(out, b"compressed");
            write_str(out, b"gzip");
        }
    }

    fn hear(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Heard>, OutletError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let whole = Skip::default().go_on_within(bytes, ANSWER_BYTES_MAX);
        let used = match whole {
            Ok(Skipped::Whole(used)) => used,
            Ok(Skipped::Needs(needed)) if needed <= ANSWER_BYTES_MAX => return Ok(None),
            _ => return Err(malformed(bytes)),
        };
        let (mut value, rest) = bytes.split_at(used);
        *bytes = rest;
        match &self.stage {
            Stage::Open => self.ack(&mut value).map(Some),
            Stage::Helo => self.helo(value, out).map(|()| Some(Heard::Alive)),
            Stage::Pong { nonce } => {
                self.pong(value, nonce)?;
                self.stage = Stage::Open;
                Ok(Some(Heard::Ready))
            }
        }
    }

    fn goodbye(&mut self, _out: &mut Vec<u8>) {}
}

/// The beginning of an entry of this time.
fn head_of(stamp: &Stamp) -> [u8; fluent::ENTRY_HEAD_BYTES] {
    let ms = (stamp.unix_ms % 1000) as u32; // below 1000
    fluent::entry_head(stamp.unix_ms / 1000, ms * 1_000_000)
}

impl Outlet {
    /// One more message with this tag, or with none: into the packet that is open, or into a new one.
    fn open(&mut self, tag: Option<&[u8]>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        let tag = tag.unwrap_or(self.options.tag.as_bytes());
        match &mut self.packet {
            Some(_) if self.tag != tag => return Pushed::Other,
            Some(packet) => packet.messages += 1,
            None => {
                self.tag.clear();
                self.tag.extend_from_slice(tag);
                out.push(0x93);
                write_str(out, tag);
                out.extend_from_slice(&[0xc6, 0, 0, 0, 0]);
                self.packet = Some(Open {
                    entries: out.len(),
                    messages: 1,
                    is_own: tag == self.options.tag.as_bytes(),
                    head: head_of(stamp),
                    unix_ms: stamp.unix_ms,
                });
            }
        }
        Pushed::Taken
    }

    /// What came as an entry goes out as it is, with its tag.
    fn push_entry(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        let came = split_entry(message.payload);
        if self.open(came.map(|(tag, _)| tag), stamp, out) == Pushed::Other {
            return Pushed::Other;
        }
        let start = out.len();
        let taken = came.and_then(|(_, entry)| fluent::entry(entry, out));
        if taken.is_none() {
            out.truncate(start);
            out.extend_from_slice(&head_of(stamp));
            fluent::record(message, out);
        }
        Pushed::Taken
    }

    fn ack(&self, value: &mut &[u8]) -> Result<Heard, OutletError> {
        if value.first() == Some(&0x92) {
            let error = "it greets with HELO, which asks for a shared key; give shared_key_file";
            return Err(refused("shared_key_missing", error));
        }
        let shown = value.to_vec();
        let pairs = take_map(value).ok_or_else(|| malformed(&shown))?;
        for _ in 0..pairs {
            let key = take_value(value).ok_or_else(|| malformed(&shown))?;
            let is_ack = take_string(&mut &*key) == Some(b"ack");
            let mut found = take_value(value).ok_or_else(|| malformed(&shown))?;
            if !is_ack {
                continue;
            }
            let id = take_string(&mut found).unwrap_or_default();
            let identity = decoded(id).filter(|identity| {
                self.sent_as == Some((identity.instance, identity.epoch)) && identity.first > 0
            });
            return match identity {
                Some(identity) => Ok(Heard::Done(identity.first)),
                None => {
                    let id = String::from_utf8_lossy(&id[..id.len().min(64)]);
                    let detail = format!("it acks chunk {id:?}, which was not sent to it");
                    Err(refused("ack_unknown", &detail))
                }
            };
        }
        Err(malformed(&shown))
    }

    fn helo(&mut self, mut value: &[u8], out: &mut Vec<u8>) -> Result<(), OutletError> {
        let shown = value;
        let mut read = || {
            (take_array(&mut value)? >= 2).then_some(())?;
            (take_string(&mut value)? == b"HELO").then_some(())?;
            let (mut nonce, mut auth) = (&[][..], &[][..]);
            for _ in 0..take_map(&mut value)? {
                let key = take_value(&mut value)?;
                let mut found = take_value(&mut value)?;
                match take_string(&mut &*key) {
                    Some(b"nonce") => nonce = take_string(&mut found)?,
                    Some(b"auth") => auth = take_string(&mut found)?,
                    _ => {}
                }
            }
            Some((nonce, auth))
        };
        let Some((nonce, auth)) = read() else {
            let detail = format!("it does not greet with HELO: {}", shown_of(shown));
            return Err(refused("helo_missing", &detail));
        };
        let options = &self.options;
        if !auth.is_empty() && options.user.is_empty() {
            let error = "it asks for a user and a password; give user and password_file";
            return Err(refused("user_missing", error));
        }
        let (host, key) = (options.host.as_bytes(), &options.shared_key);
        out.push(0x96);
        write_str(out, b"PING");
        write_str(out, host);
        write_bin(out, &self.salt);
        write_str(out, &hex_sha512(&[&self.salt, host, nonce, key]));
        let (user, password) = match auth.is_empty() {
            true => (&b""[..], String::new().into_bytes()),
            false => {
                let user = options.user.as_bytes();
                (user, hex_sha512(&[auth, user, &options.password]).to_vec())
            }
        };
        write_str(out, user);
        write_str(out, &password);
        let nonce = nonce.to_vec();
        self.stage = Stage::Pong { nonce };
        Ok(())
    }

    fn pong(&self, mut value: &[u8], nonce: &[u8]) -> Result<(), OutletError> {
        let shown = value;
        let mut read = || {
            (take_array(&mut value)? == 5).then_some(())?;
            (take_string(&mut value)? == b"PONG").then_some(())?;
            let Head::Bool(is_taken) = take_head(&mut value)? else {
                return None;
            };
            let reason = take_string(&mut value)?;
            Some((
                is_taken,
                reason,
                take_string(&mut value)?,
                take_string(&mut value)?,
            ))
        };
        let Some((is_taken, reason, host, proof)) = read() else {
            let detail = format!("it does not answer with PONG: {}", shown_of(shown));
            return Err(refused("pong_missing", &detail));
        };
        if !is_taken {
            let reason = String::from_utf8_lossy(&reason[..reason.len().min(256)]);
            let detail = format!("it refuses this distributor: {reason:?}");
            return Err(refused("refused_by_peer", &detail));
        }
        let expected = hex_sha512(&[&self.salt, host, nonce, &self.options.shared_key]);
        if proof != expected {
            let error = "it does not know the shared key";
            return Err(refused("shared_key_wrong", error));
        }
        Ok(())
    }
}

fn decoded(id: &[u8]) -> Option<Identity> {
    let mut bytes = [0; IDENTITY_BYTES + 3];
    let len = STANDARD
        .decode_slice(
            id.get(..ID_BYTES).filter(|_| id.len() == ID_BYTES)?,
            &mut bytes,
        )
        .ok()?;
    let bytes = bytes.first_chunk().filter(|_| len == IDENTITY_BYTES)?;
    Some(Identity::decode(bytes))
}

fn refused(reason: &'static str, detail: &str) -> OutletError {
    OutletError {
        reason,
        detail: detail.to_owned(),
    }
}

fn malformed(bytes: &[u8]) -> OutletError {
    let detail = format!("its answer is no ack of Forward: {}", shown_of(bytes));
    refused("answer_malformed", &detail)
}

/// The first bytes of an answer, for an error.
fn shown_of(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(32)];
    format!("\"{}\"", first.escape_ascii())
}

#[cfg(test)]
mod tests;
