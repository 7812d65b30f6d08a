//! The stream of a link as its analyzer decodes it.

use crate::decode::{Decoder, Identity};
use crate::wire::Dialect;

/// A message that an analyzer decoded.
#[derive(Clone, Debug)]
pub struct Got {
    /// The whole frame.
    pub frame: Vec<u8>,
    /// It was re-routed (native links only).
    pub redelivered: bool,
    /// Native links only.
    pub identity: Option<Identity>,
}

/// Decodes one link's stream.
pub struct Reader {
    /// Of a message that has not come whole.
    pub bytes: Vec<u8>,
    decoder: Decoder,
}

impl Reader {
    /// Of a link of this kind.
    pub fn new(native: bool) -> Reader {
        let dialect = match native {
            true => Dialect::Native,
            false => Dialect::Compact,
        };
        Reader {
            bytes: Vec::new(),
            decoder: Decoder::new(dialect),
        }
    }

    /// The messages that end in `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Got> {
        self.bytes.extend_from_slice(bytes);
        let mut got = Vec::new();
        let used = self.decoder.decode(&self.bytes, |message| {
            got.push(Got {
                frame: message.frame.to_vec(),
                redelivered: message.is_redelivered,
                identity: message.identity,
            });
        });
        let used = used.unwrap_or_else(|error| panic!("{error}"));
        self.bytes.drain(..used);
        let said = self.decoder.is_drain_heard() || self.decoder.is_goodbye_heard();
        assert!(!said, "the engine sends batches only");
        got
    }
}
