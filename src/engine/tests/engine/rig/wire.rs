//! What travels: frames as emitters write them, and the streams of links as analyzers decode them.

use weir_protocol::frame;
use weir_protocol::native::{BatchCursor, BatchHeader, LinkWord};

/// A frame with this payload.
pub fn frame_of(severity: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&frame::encode_header(length, severity)[..], payload].concat()
}

/// A frame of `bytes` bytes whose payload starts with `id`.
pub fn numbered(id: u64, bytes: usize) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.resize(bytes - 5, id as u8);
    frame_of(id as u8, &payload)
}

/// The number at the start of a frame's payload, if it has room for one.
pub fn number_of(frame: &[u8]) -> Option<u64> {
    frame.get(5..13)?.try_into().ok().map(u64::from_be_bytes)
}

/// Identity of a message on native links.
pub type Identity = (u64, u64);

/// A message that an analyzer decoded.
#[derive(Clone, Debug)]
pub struct Got {
    pub frame: Vec<u8>,
    pub redelivered: bool,
    /// Native links only.
    pub identity: Option<Identity>,
}

/// Decodes one link's stream.
#[derive(Default)]
pub struct Reader {
    /// Of a message that has not come whole.
    pub bytes: Vec<u8>,
    batch: Option<(BatchHeader, BatchCursor)>,
    messages: u64,
}

impl Reader {
    pub fn feed(&mut self, native: bool, bytes: &[u8]) -> Vec<Got> {
        self.bytes.extend_from_slice(bytes);
        let taken = std::mem::take(&mut self.bytes);
        let mut rest = &taken[..];
        let mut got = Vec::new();
        while let Some(message) = self.next(native, &mut rest) {
            self.messages += 1;
            got.push(message);
        }
        self.bytes = rest.to_vec();
        got
    }

    fn next(&mut self, native: bool, rest: &mut &[u8]) -> Option<Got> {
        if !native {
            let length = frame::peek(rest, u32::MAX).expect("a valid frame")?;
            let (frame, after) = rest.split_at_checked(length)?;
            *rest = after;
            let frame = frame.to_vec();
            return Some(Got {
                frame,
                redelivered: false,
                identity: None,
            });
        }
        if self
            .batch
            .as_ref()
            .is_none_or(|(_, cursor)| cursor.left_count() == 0)
        {
            let (word, used) = LinkWord::decode(rest).expect("a valid word")?;
            let LinkWord::Batch(header) = word else {
                panic!("the engine sends batches only, not {word:?}");
            };
            assert_eq!(
                header.first_sequence,
                self.messages + 1,
                "batches follow each other"
            );
            *rest = &rest[used..];
            self.batch = Some((header, BatchCursor::new(&header, u32::MAX)));
        }
        let (header, cursor) = self.batch.as_mut()?;
        let message = cursor.next(rest).expect("a valid batch")?;
        Some(Got {
            frame: message.frame.to_vec(),
            redelivered: header.redelivered,
            identity: Some((header.origin_epoch, message.origin_sequence)),
        })
    }
}
