//! Bytes of a journal. All integers are big-endian; bit i of a page is bit i mod 8 of byte i / 8.
//!
//! ```text
//! head    0 "WEIRJRNL"   8 u32 version   12 u8 dialect   13 u8 id length   14 0 0   16 uuid
//!         32 u64 generation   40 u64 unnumbered   48 u64 checksum   56 id
//! page    0 "WRJP"   4 u8 plane   5 u8 name length   6 0 0   8 u64 page   16 u64 checksum
//!         24 stream name   280 bits
//! ```

use std::io;

/// Unit of the file.
pub const PAGE_BYTES: usize = 4096;
/// Where the bits of a page begin.
pub(super) const BITS_AT: usize = 280;
/// Sequences of one page.
pub const BITS: u64 = ((PAGE_BYTES - BITS_AT) * 8) as u64;
/// Largest journal: 64 GiB. Its index then takes 1 GiB of memory.
pub const BYTES_MAX: u64 = 64 << 30;
pub(super) const PLANES: usize = 4;
pub(super) const HEAD_MAGIC: &[u8; 8] = b"WEIRJRNL";
const PAGE_MAGIC: &[u8; 4] = b"WRJP";
const VERSION: u32 = 1;
pub(super) const DIALECT_MAX: u8 = 3;
const NAME_AT: usize = 24;
const ID_AT: usize = 56;
pub(super) const GENERATION_AT: u64 = 32;
pub(super) const UNNUMBERED_AT: u64 = 40;

/// What a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Number of the stream in this process.
    pub stream: u32,
    /// 0 plain, 1 plain again, 2 flagged, 3 flagged again.
    pub plane: u8,
    /// The first bit stands for sequence `page` x [`BITS`].
    pub page: u64,
}

/// First page of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Analyzer id.
    pub id: String,
    /// 0 native, 1 typed, 2 compact, 3 HTTP.
    pub dialect: u8,
    /// Names the journal, whatever its path.
    pub uuid: [u8; 16],
    /// How often it was opened for writing.
    pub generation: u64,
    /// Messages without a number.
    pub unnumbered: u64,
}

impl Head {
    /// The links flag possible duplicates.
    pub fn is_native(&self) -> bool {
        self.dialect == 0
    }

    /// The uuid as 32 hexadecimal digits.
    pub fn uuid_hex(&self) -> String {
        self.uuid.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut bytes = [0; PAGE_BYTES];
        bytes[..8].copy_from_slice(HEAD_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        bytes[12] = self.dialect;
        bytes[13] = u8::try_from(self.id.len()).expect("ids have 255 bytes at most");
        bytes[16..32].copy_from_slice(&self.uuid);
        bytes[32..40].copy_from_slice(&self.generation.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.unnumbered.to_be_bytes());
        bytes[ID_AT..ID_AT + self.id.len()].copy_from_slice(self.id.as_bytes());
        let checksum = Self::checksum(&bytes);
        bytes[48..56].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Over what never changes.
    fn checksum(bytes: &[u8; PAGE_BYTES]) -> u64 {
        fnv(&[&bytes[8..32], &bytes[ID_AT..ID_AT + 256]])
    }

    pub(super) fn decode(bytes: &[u8; PAGE_BYTES]) -> io::Result<Head> {
        if &bytes[..8] != HEAD_MAGIC {
            return Err(invalid(
                "is not a journal: it does not begin with WEIRJRNL".into(),
            ));
        }
        let version = be_u32(&bytes[8..12]);
        if version != VERSION {
            return Err(invalid(format!(
                "field version: {version}; allowed: {VERSION}"
            )));
        }
        if be_u64(&bytes[48..56]) != Self::checksum(bytes) || bytes[12] > DIALECT_MAX {
            return Err(invalid("field checksum: the head is damaged".into()));
        }
        let id = &bytes[ID_AT..ID_AT + usize::from(bytes[13])];
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        Ok(Head {
            id: String::from_utf8_lossy(id).into_owned(),
            dialect: bytes[12],
            uuid,
            generation: be_u64(&bytes[32..40]),
            unnumbered: be_u64(&bytes[40..48]),
        })
    }
}

/// A page without any bit set.
pub(super) fn encode_page(plane: u8, page: u64, name: &[u8]) -> Box<[u8; PAGE_BYTES]> {
    let mut bytes = Box::new([0; PAGE_BYTES]);
    bytes[..4].copy_from_slice(PAGE_MAGIC);
    bytes[4] = plane;
    bytes[5] = u8::try_from(name.len()).expect("stream names have 255 bytes at most");
    bytes[8..16].copy_from_slice(&page.to_be_bytes());
    bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
    let checksum = page_checksum(&bytes[..BITS_AT]);
    bytes[16..24].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn page_checksum(bytes: &[u8]) -> u64 {
    fnv(&[&bytes[4..16], &bytes[NAME_AT..BITS_AT]])
}

/// Plane, page and stream name at the start of a page; none when nothing was ever written there.
pub(super) fn decode_page(bytes: &[u8]) -> io::Result<Option<(u8, u64, &[u8])>> {
    if bytes[..BITS_AT].iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let is_sound = &bytes[..4] == PAGE_MAGIC
        && usize::from(bytes[4]) < PLANES
        && be_u64(&bytes[16..24]) == page_checksum(bytes);
    if !is_sound {
        return Err(invalid("field checksum: the page is damaged".into()));
    }
    let name = &bytes[NAME_AT..NAME_AT + usize::from(bytes[5])];
    Ok(Some((bytes[4], be_u64(&bytes[8..16]), name)))
}

fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

pub(super) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_pages_read_as_written() {
        let head = Head {
            id: "a1".into(),
            dialect: 2,
            uuid: [7; 16],
            generation: 3,
            unnumbered: 9,
        };
        let mut bytes = head.encode();
        assert_eq!(Head::decode(&bytes).expect("sound"), head);
        bytes[57] ^= 1;
        let error = Head::decode(&bytes).expect_err("damaged").to_string();
        assert!(error.contains("damaged"), "{error}");

        let name = [b'x'; 255];
        let mut bytes = encode_page(3, 1 << 40, &name);
        let read = decode_page(&bytes[..]).expect("sound");
        assert_eq!(read, Some((3, 1 << 40, &name[..])));
        bytes[9] ^= 1;
        assert!(decode_page(&bytes[..]).is_err());
        assert_eq!(decode_page(&[0; PAGE_BYTES]).expect("a hole"), None);
    }
}
