//! Requests of connections with TLS that are under way in the ring.

use std::collections::HashMap;
use std::sync::Arc;

use super::socket::Secured;
use super::SECURED;
use weir_shard::port::Group;

const GENERATION_BITS: u32 = 24;

/// One that is under way.
pub(super) enum Request {
    /// The shard's receive.
    Receive(Receive),
    /// Sealed bytes: of so many, so many are through.
    Send {
        connection: Arc<Secured>,
        sent: usize,
        len: usize,
    },
    /// At the port of this number.
    Accept(usize),
    /// The shard's connect, by its token.
    Connect {
        connection: Arc<Secured>,
        token: u64,
    },
    /// Of the handshake of this number: it receives, or looks whether it is one.
    Handshake(u32),
}

/// A receive of the shard's.
#[derive(Clone)]
pub(super) struct Receive {
    pub(super) connection: Arc<Secured>,
    pub(super) group: Group,
    /// The shard's token.
    pub(super) token: u64,
    /// It ends with the first bytes.
    pub(super) is_once: bool,
    /// The shard was told that it has ended.
    pub(super) is_over: bool,
}

impl Request {
    /// The shard's token of what it may cancel.
    fn of_shard(&self) -> Option<u64> {
        match self {
            Request::Receive(receive) => Some(receive.token),
            Request::Connect { token, .. } => Some(*token),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    request: Option<Request>,
}

/// All of them. There are no more than the shard has under way, and one for each handshake.
#[derive(Default)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The ring's tokens by those of the shard: of receives and connects, which may be cancelled.
    of_shard: HashMap<u64, u64>,
}

fn token_of(generation: u32, index: u32) -> u64 {
    SECURED | u64::from(generation) << 32 | u64::from(index)
}

impl Requests {
    /// None is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// The ring's token of a new request.
    pub(super) fn add(&mut self, request: Request) -> u64 {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32 // far fewer than descriptors there are
            }
        };
        let slot = &mut self.slots[index as usize];
        let token = token_of(slot.generation, index);
        if let Some(of_shard) = request.of_shard() {
            self.of_shard.insert(of_shard, token);
        }
        slot.request = Some(request);
        token
    }

    fn slot(&self, token: u64) -> Option<usize> {
        let index = token as u32; // the low half
        let generation = (token >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        let slot = self.slots.get(index as usize)?;
        (slot.generation == generation).then_some(index as usize)
    }

    pub(super) fn get(&self, token: u64) -> Option<&Request> {
        self.slots[self.slot(token)?].request.as_ref()
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Request> {
        let at = self.slot(token)?;
        self.slots[at].request.as_mut()
    }

    /// A request is over; its number is used again under another token.
    pub(super) fn remove(&mut self, token: u64) -> Option<Request> {
        let at = self.slot(token)?;
        let request = self.slots[at].request.take()?;
        let next = self.slots[at].generation + 1;
        self.slots[at].generation = next & ((1 << GENERATION_BITS) - 1);
        self.free.push(at as u32); // an index
        if let Some(of_shard) = request.of_shard() {
            if self.of_shard.get(&of_shard) == Some(&token) {
                self.of_shard.remove(&of_shard);
            }
        }
        Some(request)
    }

    /// The shard uses this token again.
    pub(super) fn forget_shards(&mut self, token: u64) {
        self.of_shard.remove(&token);
    }

    /// The ring's token of a receive of the shard's.
    pub(super) fn of_shard(&self, token: u64) -> Option<u64> {
        self.of_shard.get(&token).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_under_another_token() {
        let mut requests = Requests::default();
        let first = requests.add(Request::Accept(3));
        assert!(matches!(requests.get(first), Some(Request::Accept(3))));
        assert!(requests.remove(first).is_some());
        assert!(requests.remove(first).is_none() && requests.get(first).is_none());
        let second = requests.add(Request::Handshake(1));
        assert_ne!(first, second);
        assert!(first & second & SECURED != 0);
        assert!(matches!(requests.get(second), Some(Request::Handshake(1))));
    }
}
