//! HELLO and WELCOME: the first message of each side.

use super::{
    check_start, field, floor_char_boundary_at, NativeError, ID_BYTES_MAX, MAGIC, TOKEN_BYTES_MAX,
    VERSION,
};
use crate::{valid_weight, Partial};

/// HELLO without its id and token.
pub const HELLO_BYTES: usize = 32;
/// WELCOME without its reason.
pub const WELCOME_BYTES: usize = 32;

const HELLO_BYTES_MAX: usize =
    HELLO_BYTES + ID_BYTES_MAX as usize + TOKEN_BYTES_MAX as usize + INSTANCE_BYTES;
const INSTANCE_BYTES: usize = 8;
/// Flag of HELLO: a token follows the id.
const FLAG_TOKEN: u8 = 1;
/// Flag of HELLO: the number of this run of the analyzer stands at its end.
const FLAG_INSTANCE: u8 = 2;
/// Flag of HELLO: messages are to be described (`crate::described`).
const FLAG_FORMS: u8 = 4;
const SHARD_ANY: u16 = u16::MAX;
/// A HELLO that asks for this shard asks who is there: the WELCOME refuses, and tells shards and instance.
pub const SHARD_NONE: u16 = u16::MAX - 1;
const STATUS_OK: u8 = 0;
const STATUS_REFUSED: u8 = 1;

/// First message of an analyzer on a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hello<'a> {
    /// Shard this link is for; `None`: any; [`SHARD_NONE`]: it is to be no link.
    pub shard: Option<u16>,
    /// Weight of the analyzer, the same on all its links.
    pub weight: f64,
    /// Most bytes it wants un-ACKed on this link; 0: no wish.
    pub window_bytes: u64,
    /// Most messages it wants un-ACKed on this link; 0: no wish.
    pub window_messages: u32,
    /// Name of the analyzer, the same on all its links.
    pub id: &'a str,
    /// What shows that it may have messages; empty: nothing.
    pub token: &'a [u8],
    /// Random number of this run of the analyzer, the same on all its links: who has another one is another.
    pub instance: Option<u64>,
    /// Messages are to say what they are and where they came from, see [`crate::described`].
    pub forms: bool,
}

impl<'a> Hello<'a> {
    /// Appends the wire form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), NativeError> {
        let id_bytes = u16::try_from(self.id.len()).unwrap_or(u16::MAX);
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        let token_bytes = u16::try_from(self.token.len()).unwrap_or(u16::MAX);
        if token_bytes > TOKEN_BYTES_MAX {
            return Err(NativeError::TokenLength(token_bytes));
        }
        let mut flags = if token_bytes > 0 { FLAG_TOKEN } else { 0 };
        if self.instance.is_some() {
            flags |= FLAG_INSTANCE;
        }
        if self.forms {
            flags |= FLAG_FORMS;
        }
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, flags]);
        out.extend_from_slice(&self.shard.unwrap_or(SHARD_ANY).to_be_bytes());
        out.extend_from_slice(&self.weight.to_be_bytes());
        out.extend_from_slice(&self.window_bytes.to_be_bytes());
        out.extend_from_slice(&self.window_messages.to_be_bytes());
        out.extend_from_slice(&token_bytes.to_be_bytes());
        out.extend_from_slice(&id_bytes.to_be_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(self.token);
        if let Some(instance) = self.instance {
            out.extend_from_slice(&instance.to_be_bytes());
        }
        Ok(())
    }

    /// The HELLO at the start of `buf` and its length; `None` while it is incomplete. A wrong start
    /// is an error as soon as it can be seen.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, NativeError> {
        check_start(buf)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<HELLO_BYTES>() else {
            return Ok(None);
        };
        let (shard, weight, window_bytes, window_messages, id_bytes) = hello_fields(fixed);
        let token_bytes = token_bytes(fixed)?;
        let weight = valid_weight(weight).ok_or(NativeError::Weight(weight))?;
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        let Some((id, tail)) = tail.split_at_checked(usize::from(id_bytes)) else {
            return Ok(None);
        };
        let Some((token, tail)) = tail.split_at_checked(token_bytes) else {
            return Ok(None);
        };
        let instance = match (has_instance(fixed), tail.first_chunk()) {
            (false, _) => None,
            (true, Some(bytes)) => Some(u64::from_be_bytes(*bytes)),
            (true, None) => return Ok(None),
        };
        let id = std::str::from_utf8(id).map_err(|_| NativeError::IdText)?;
        let shard = (shard != SHARD_ANY).then_some(shard);
        let hello = Hello {
            shard,
            weight,
            window_bytes,
            window_messages,
            id,
            token,
            instance,
            forms: fixed[5] & FLAG_FORMS != 0,
        };
        let bytes = HELLO_BYTES + id.len() + token.len() + instance_bytes(fixed);
        Ok(Some((hello, bytes)))
    }
}

/// Length of the token; 0 without one, whatever the reserved word says.
fn token_bytes(fixed: &[u8; HELLO_BYTES]) -> Result<usize, NativeError> {
    let flags = fixed[5];
    if flags & !(FLAG_TOKEN | FLAG_INSTANCE | FLAG_FORMS) != 0 {
        return Err(NativeError::Flags(flags));
    }
    if flags & FLAG_TOKEN == 0 {
        return Ok(0);
    }
    let bytes = u16::from_be_bytes(field(fixed, 28));
    if !(1..=TOKEN_BYTES_MAX).contains(&bytes) {
        return Err(NativeError::TokenLength(bytes));
    }
    Ok(usize::from(bytes))
}

fn has_instance(fixed: &[u8; HELLO_BYTES]) -> bool {
    fixed[5] & FLAG_INSTANCE != 0
}

fn instance_bytes(fixed: &[u8; HELLO_BYTES]) -> usize {
    if has_instance(fixed) {
        INSTANCE_BYTES
    } else {
        0
    }
}

fn hello_fields(fixed: &[u8; HELLO_BYTES]) -> (u16, f64, u64, u32, u16) {
    (
        u16::from_be_bytes(field(fixed, 6)),
        f64::from_be_bytes(field(fixed, 8)),
        u64::from_be_bytes(field(fixed, 16)),
        u32::from_be_bytes(field(fixed, 24)),
        u16::from_be_bytes(field(fixed, 30)),
    )
}
/// Collects a HELLO that arrives in pieces, inline.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    held: Partial<HELLO_BYTES_MAX>,
}

impl HelloReader {
    /// Takes HELLO bytes off `bytes`, and not one more: what is left is control data. `None`: read
    /// more.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Hello<'_>, NativeError>> {
        if let Err(error) = self.collect(bytes)? {
            return Some(Err(error));
        }
        Hello::decode(self.held.filled())
            .map(|found| found.map(|(hello, _)| hello))
            .transpose()
    }

    /// `None` while the HELLO is incomplete.
    fn collect(&mut self, bytes: &mut &[u8]) -> Option<Result<(), NativeError>> {
        let fixed = self.held.fill(bytes, HELLO_BYTES);
        if let Err(error) = Hello::decode(self.held.filled()) {
            return Some(Err(error));
        }
        if !fixed {
            return None;
        }
        let fixed = self.held.filled().first_chunk::<HELLO_BYTES>()?;
        let id_bytes = u16::from_be_bytes(field(fixed, 30));
        let token_bytes = token_bytes(fixed).unwrap_or(0);
        let id_bytes = usize::from(id_bytes.min(ID_BYTES_MAX));
        let total = HELLO_BYTES + id_bytes + token_bytes + instance_bytes(fixed);
        self.held.fill(bytes, total).then_some(Ok(()))
    }
}

/// First message of the distributor on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// Why not; `None`: accepted.
    pub refused: Option<&'a str>,
    /// Shards of this distributor: an analyzer opens a link to each.
    pub shard_count: u16,
    /// Shard at the other end of this link.
    pub shard_index: u16,
    /// Random number of this run of the distributor: another one means it was restarted.
    pub instance: u64,
    /// Names this link among all links of this instance.
    pub link_epoch: u64,
}

impl<'a> Welcome<'a> {
    /// Appends the wire form to `out`. A reason longer than a u16 counts is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let reason = self.refused.unwrap_or_default();
        let reason = &reason[..floor_char_boundary_at(reason, usize::from(u16::MAX))];
        let reason_bytes = u16::try_from(reason.len()).unwrap_or(u16::MAX);
        let status = if self.refused.is_some() {
            STATUS_REFUSED
        } else {
            STATUS_OK
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, status]);
        out.extend_from_slice(&self.shard_count.to_be_bytes());
        out.extend_from_slice(&self.shard_index.to_be_bytes());
        out.extend_from_slice(&reason_bytes.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.link_epoch.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    }

    /// The WELCOME at the start of `buf` and its length; `None` while it is incomplete.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, NativeError> {
        check_start(buf)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<WELCOME_BYTES>() else {
            return Ok(None);
        };
        let reason_bytes = usize::from(u16::from_be_bytes(field(fixed, 10)));
        let Some(reason) = tail.get(..reason_bytes) else {
            return Ok(None);
        };
        let refused = match fixed[5] {
            STATUS_OK => None,
            STATUS_REFUSED => Some(std::str::from_utf8(reason).unwrap_or("reason is not UTF-8")),
            status => return Err(NativeError::Status(status)),
        };
        let welcome = Welcome {
            refused,
            shard_count: u16::from_be_bytes(field(fixed, 6)),
            shard_index: u16::from_be_bytes(field(fixed, 8)),
            instance: u64::from_be_bytes(field(fixed, 16)),
            link_epoch: u64::from_be_bytes(field(fixed, 24)),
        };
        Ok(Some((welcome, WELCOME_BYTES + reason_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello<'static> = Hello {
        shard: Some(3),
        weight: 0.4,
        window_bytes: 1 << 20,
        window_messages: 4096,
        token: &[],
        instance: None,
        id: "analyzer-1",
        forms: false,
    };

    fn hello_bytes() -> Vec<u8> {
        let mut out = Vec::new();
        HELLO.encode(&mut out).expect("valid");
        out
    }

    #[test]
    fn hello_round_trips_in_any_pieces() {
        let bytes = [hello_bytes(), vec![1, 2]].concat();
        assert_eq!(Hello::decode(&bytes), Ok(Some((HELLO, bytes.len() - 2))));
        for step in 1..bytes.len() {
            let mut reader = HelloReader::default();
            let mut found = None;
            let mut left = Vec::new();
            for mut chunk in bytes.chunks(step) {
                if found.is_none() {
                    found = reader
                        .next(&mut chunk)
                        .map(|r| r.map(|h| (h.shard, h.id.len())));
                }
                left.extend_from_slice(chunk);
            }
            assert_eq!(found, Some(Ok((Some(3), 10))));
            assert_eq!(left, [1, 2], "control data stays with the caller");
        }
    }

    #[test]
    fn bad_hellos_are_refused_early() {
        let patched = |at: usize, with: &[u8]| {
            let mut bytes = hello_bytes();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let decode = |bytes: &[u8]| Hello::decode(bytes).map(|_| ());
        assert_eq!(decode(&[0xD8]), Err(NativeError::Magic));
        assert_eq!(decode(&patched(4, &[2])[..5]), Err(NativeError::Version(2)));
        assert_eq!(decode(&patched(5, &[8])), Err(NativeError::Flags(8)));
        assert_eq!(decode(&patched(5, &[1])), Err(NativeError::TokenLength(0)));
        let mut long = patched(5, &[1]);
        long[28..30].copy_from_slice(&257u16.to_be_bytes());
        assert_eq!(decode(&long), Err(NativeError::TokenLength(257)));
        assert_eq!(decode(&patched(8, &[0xBF])), Err(NativeError::Weight(-0.4)));
        assert_eq!(decode(&patched(30, &[0, 0])), Err(NativeError::IdLength(0)));
        assert_eq!(
            decode(&patched(30, &[1, 0])),
            Err(NativeError::IdLength(256))
        );
        assert_eq!(decode(&patched(32, &[0xFF])), Err(NativeError::IdText));
        let mut reader = HelloReader::default();
        assert_eq!(reader.next(&mut &[0x80][..]), Some(Err(NativeError::Magic)));
    }

    #[test]
    fn welcome_round_trips() {
        let accepted = Welcome {
            refused: None,
            shard_count: 4,
            shard_index: 2,
            instance: 7,
            link_epoch: u64::MAX,
        };
        for welcome in [
            accepted,
            Welcome {
                refused: Some("draining"),
                ..accepted
            },
        ] {
            let mut bytes = Vec::new();
            welcome.encode(&mut bytes);
            assert_eq!(Welcome::decode(&bytes), Ok(Some((welcome, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Welcome::decode(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn a_reason_is_cut_on_a_character() {
        let reason = "é".repeat(40_000);
        let mut bytes = Vec::new();
        Welcome {
            refused: Some(&reason),
            shard_count: 1,
            shard_index: 0,
            instance: 0,
            link_epoch: 0,
        }
        .encode(&mut bytes);
        assert_eq!(bytes.len(), WELCOME_BYTES + 65_534);
        assert!(matches!(Welcome::decode(&bytes), Ok(Some(_))));
    }
}
