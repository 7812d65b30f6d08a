//! Takes the stream of one link apart, as an analyzer does, and knows what may be ACKed.

use crate::wire::{self, BatchHeader, Dialect, WireError, BATCH_HEADER_BYTES, ORIGIN_BYTES};

/// Identity of a message on native links: the same through any number of re-routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Shard that first sent it.
    pub shard: u16,
    /// Link that it was first sent on.
    pub epoch: u64,
    /// Its number there.
    pub sequence: u64,
}

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// It was re-routed (native links only).
    pub is_redelivered: bool,
    /// Native links only.
    pub identity: Option<Identity>,
}

/// The cursor of one link.
#[derive(Debug)]
pub struct Decoder {
    dialect: Dialect,
    /// Messages that came whole.
    received: u64,
    /// Highest number that an ACK may carry: on native links that of the last batch that came whole.
    ackable: u64,
    redelivered: u64,
    is_drain_heard: bool,
    is_goodbye_heard: bool,
    batch: BatchHeader,
    /// Of the batch that is being read.
    messages_left: u32,
    bytes_left: usize,
}

impl Decoder {
    /// Of a new link.
    pub fn new(dialect: Dialect) -> Decoder {
        Decoder {
            dialect,
            received: 0,
            ackable: 0,
            redelivered: 0,
            is_drain_heard: false,
            is_goodbye_heard: false,
            batch: BatchHeader::default(),
            messages_left: 0,
            bytes_left: 0,
        }
    }

    /// Hands every whole message to `on_message` and returns how many bytes were used up. The rest has to
    /// come again, with more behind it.
    ///
    /// # Errors
    /// The stream breaks a rule of the document. Messages before that were handed over.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut on_message: impl FnMut(Message<'_>),
    ) -> Result<usize, WireError> {
        match self.dialect {
            Dialect::Native => self.native(bytes, on_message),
            Dialect::Typed | Dialect::Compact => {
                let used = frames(bytes, |frame| {
                    self.received += 1;
                    on_message(Message {
                        frame,
                        is_redelivered: false,
                        identity: None,
                    });
                })?;
                self.ackable = self.received;
                Ok(used)
            }
        }
    }

    /// Messages that came whole.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Highest sequence number that an ACK may carry now.
    pub fn ackable(&self) -> u64 {
        self.ackable
    }

    /// Messages that came marked as redelivered.
    pub fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// The distributor said DRAIN.
    pub fn is_drain_heard(&self) -> bool {
        self.is_drain_heard
    }

    /// The distributor said GOODBYE.
    pub fn is_goodbye_heard(&self) -> bool {
        self.is_goodbye_heard
    }

    /// Appends the cumulative ACK of everything ackable.
    pub fn put_ack(&self, out: &mut Vec<u8>) {
        wire::put_ack(out, self.dialect, self.ackable);
    }

    fn native(
        &mut self,
        bytes: &[u8],
        mut on_message: impl FnMut(Message<'_>),
    ) -> Result<usize, WireError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = match self.messages_left {
                0 => self.word(rest)?,
                _ => self.message(rest, &mut on_message)?,
            };
            match step {
                Some(bytes) => used += bytes,
                None => return Ok(used),
            }
        }
    }

    fn word(&mut self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        match bytes.first() {
            None => return Ok(None),
            Some(&wire::BATCH) => {}
            Some(&wire::DRAIN) => {
                self.is_drain_heard = true;
                return Ok(Some(1));
            }
            Some(&wire::GOODBYE) => {
                self.is_goodbye_heard = true;
                return Ok(Some(1));
            }
            Some(&other) => return Err(WireError::UnknownWord(other)),
        }
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Ok(None);
        };
        self.batch = BatchHeader::decode(header)?;
        if self.batch.first_sequence != self.received + 1 {
            return Err(WireError::BatchSequence(self.batch.first_sequence));
        }
        self.messages_left = self.batch.count;
        self.bytes_left = self.batch.body_bytes as usize;
        Ok(Some(BATCH_HEADER_BYTES))
    }

    fn message(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(Message<'_>),
    ) -> Result<Option<usize>, WireError> {
        let prefix = match self.batch.is_redelivered {
            true => ORIGIN_BYTES,
            false => 0,
        };
        let frame = bytes.get(prefix..).map(wire::frame_bytes).transpose()?;
        let Some(frame_bytes) = frame.flatten() else {
            return Ok(None);
        };
        let whole = prefix + frame_bytes;
        let left = self.bytes_left.checked_sub(whole);
        self.bytes_left = left.ok_or(WireError::BatchBody)?;
        self.messages_left -= 1;
        self.received += 1;
        let sequence = match self.batch.is_redelivered {
            true => {
                self.redelivered += 1;
                wire::be_u64(bytes)
            }
            false => self.received,
        };
        on_message(Message {
            frame: &bytes[prefix..whole],
            is_redelivered: self.batch.is_redelivered,
            identity: Some(Identity {
                shard: self.batch.origin_shard,
                epoch: self.batch.origin_epoch,
                sequence,
            }),
        });
        if self.messages_left == 0 {
            if self.bytes_left != 0 {
                return Err(WireError::BatchBody);
            }
            self.ackable = self.received;
        }
        Ok(Some(whole))
    }
}

/// Hands over every whole frame at the start of `bytes`; the bytes used up.
///
/// # Errors
/// A length word is out of range. Frames before it were handed over.
pub fn frames(bytes: &[u8], mut on_frame: impl FnMut(&[u8])) -> Result<usize, WireError> {
    let mut used = 0;
    while let Some(length) = wire::frame_bytes(&bytes[used..])? {
        on_frame(&bytes[used..used + length]);
        used += length;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{batch, batch_again, frame_of};

    /// Feeds `bytes` in pieces of `step`, keeping the unused tail, as a link does.
    fn feed(decoder: &mut Decoder, bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, WireError> {
        let (mut held, mut frames) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            held.extend_from_slice(piece);
            let used = decoder.decode(&held, |message| frames.push(message.frame.to_vec()))?;
            held.drain(..used);
        }
        assert!(held.is_empty(), "{} bytes left over", held.len());
        Ok(frames)
    }

    fn some_frames() -> Vec<Vec<u8>> {
        vec![
            frame_of(3, &[b'x'; 25]),
            frame_of(4, &[b'y'; 65]),
            frame_of(0, b""),
        ]
    }

    #[test]
    fn any_cut_of_a_native_stream_gives_the_same_frames() {
        let frames = some_frames();
        let numbered: Vec<_> = (7..).zip(frames.clone()).collect();
        let mut stream = batch(1, &frames);
        stream.push(wire::DRAIN);
        stream.extend_from_slice(&batch_again(4, &numbered));
        let expected = [frames.clone(), frames].concat();
        for step in 1..stream.len() {
            let mut decoder = Decoder::new(Dialect::Native);
            assert_eq!(feed(&mut decoder, &stream, step), Ok(expected.clone()));
            assert_eq!((decoder.ackable(), decoder.redelivered()), (6, 3));
            assert!(decoder.is_drain_heard() && !decoder.is_goodbye_heard());
        }
    }

    #[test]
    fn any_cut_of_a_reference_stream_gives_the_same_frames() {
        let stream = some_frames().concat();
        for step in 1..stream.len() {
            let mut decoder = Decoder::new(Dialect::Compact);
            assert_eq!(feed(&mut decoder, &stream, step), Ok(some_frames()));
            assert_eq!(decoder.ackable(), 3);
        }
    }

    #[test]
    fn a_redelivered_message_keeps_its_first_number() {
        let stream = [
            batch(1, &some_frames()),
            batch_again(4, &[(70, frame_of(1, b"hi"))]),
        ];
        let mut identities = Vec::new();
        let mut decoder = Decoder::new(Dialect::Native);
        let used = decoder.decode(&stream.concat(), |message| {
            identities.extend(message.identity.map(|identity| identity.sequence));
        });
        assert_eq!(used, Ok(stream.concat().len()));
        assert_eq!(identities, [1, 2, 3, 70]);
    }

    #[test]
    fn only_a_whole_batch_is_ackable() {
        let stream = batch(1, &some_frames());
        let mut decoder = Decoder::new(Dialect::Native);
        let used = decoder.decode(&stream[..stream.len() - 1], |_| {});
        assert_eq!(used, Ok(32 + 30 + 70));
        assert_eq!((decoder.received(), decoder.ackable()), (2, 0));
    }

    #[test]
    fn broken_streams_are_refused() {
        let native = |bytes: &[u8]| Decoder::new(Dialect::Native).decode(bytes, |_| {});
        let short = Decoder::new(Dialect::Typed).decode(&[0, 0, 0, 4], |_| {});
        assert_eq!(short, Err(WireError::FrameLength(4)));
        assert_eq!(native(&[0x77]), Err(WireError::UnknownWord(0x77)));
        let good = batch(1, &[frame_of(1, b"hi")]);
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            native(&bad)
        };
        assert_eq!(with(11, 8), Err(WireError::BatchBody), "a byte too many");
        assert_eq!(with(11, 6), Err(WireError::BatchBody), "a byte too few");
        assert_eq!(with(7, 0), Err(WireError::BatchBody), "no message");
        assert_eq!(with(1, 2), Err(WireError::BatchFlags(2)));
        assert_eq!(with(23, 2), Err(WireError::BatchSequence(2)));
    }
}
