//! What is true of every message, kept apart from the distributor: who wrote it, who got it, who
//! ACKed it.

use std::collections::BTreeMap;

use super::random::Random;
use crate::protocol::frame;

/// Number of a message, in the order in which emitters made them.
pub(super) type MessageId = u32;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message {
    /// Bytes of its frame.
    pub(super) frame_bytes: u32,
    pub(super) deliveries: u32,
    pub(super) acked: bool,
    /// A native link brought it as a first delivery.
    first: bool,
    /// What native links call it.
    identity: Option<Identity>,
}

/// What native links call a message, on whatever link and however often it comes: shard, link and
/// number of its first delivery.
pub(super) type Identity = (u16, u64, u64);

/// All messages of a run.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) messages: Vec<Message>,
    identities: BTreeMap<Identity, MessageId>,
    /// A shard has counted an identity as lost: nothing more can be said of them.
    pub(super) identities_lost: bool,
    /// Messages that at least one analyzer has ACKed, as far as analyzers know.
    pub(super) acked: u64,
    /// Deliveries beyond each message's first.
    pub(super) duplicates: u64,
}

impl Oracle {
    /// A new message with a payload of `payload_bytes`, at least 4; its frame.
    pub(super) fn create(&mut self, payload_bytes: u32) -> (MessageId, Vec<u8>) {
        let id = self.messages.len() as MessageId; // far fewer
        let frame = frame_of(id, payload_bytes.max(4));
        self.messages.push(Message {
            frame_bytes: frame.len() as u32, // below the frame limit
            ..Message::default()
        });
        (id, frame)
    }

    /// An analyzer got a frame.
    ///
    /// # Errors
    /// It was never sent, or not like this.
    pub(super) fn delivered(&mut self, frame: &[u8]) -> Result<MessageId, String> {
        let id = frame.get(5..9).and_then(|id| id.try_into().ok());
        let id = MessageId::from_be_bytes(id.ok_or("a frame without a number was delivered")?);
        let Some(message) = self.messages.get_mut(id as usize) else {
            return Err(format!("message {id} was delivered and never sent"));
        };
        if frame != frame_of(id, message.frame_bytes - 5) {
            return Err(format!("message {id} was delivered with other bytes"));
        }
        self.duplicates += u64::from(message.deliveries > 0);
        message.deliveries += 1;
        Ok(id)
    }

    /// What a native link says of a message that it delivers.
    ///
    /// # Errors
    /// Two deliveries cannot be told to be of one message, or of two.
    pub(super) fn identified(
        &mut self,
        id: MessageId,
        identity: Identity,
        redelivered: bool,
    ) -> Result<(), String> {
        if self.identities_lost {
            return Ok(());
        }
        let owner = *self.identities.entry(identity).or_insert(id);
        if owner != id {
            return Err(format!(
                "messages {owner} and {id} are both called {identity:?}"
            ));
        }
        let message = &mut self.messages[id as usize];
        let known = *message.identity.get_or_insert(identity);
        if known != identity {
            return Err(format!("message {id} is called {known:?} and {identity:?}"));
        }
        if !redelivered && std::mem::replace(&mut message.first, true) {
            return Err(format!("message {id} came twice as a first delivery"));
        }
        Ok(())
    }

    /// An analyzer that got a message ACKs it.
    pub(super) fn acked(&mut self, id: MessageId) {
        let message = &mut self.messages[id as usize];
        self.acked += u64::from(!message.acked);
        message.acked = true;
    }
}

fn frame_of(id: MessageId, payload_bytes: u32) -> Vec<u8> {
    let mut random = Random::new(u64::from(id));
    let mut frame = Vec::with_capacity(payload_bytes as usize + 5);
    frame.extend_from_slice(&frame::encode_header(payload_bytes, id as u8));
    frame.extend_from_slice(&id.to_be_bytes());
    let mut left = payload_bytes as usize - 4;
    while left > 0 {
        let bytes = random.next().to_le_bytes();
        let len = left.min(bytes.len());
        frame.extend_from_slice(&bytes[..len]);
        left -= len;
    }
    frame
}
