//! Datagrams: a message each, and no stream.

use super::{reason_of, Engine, Limits, Memory, Reason, SourceError};
use weir_inflate::inflate;
use weir_source::{packed_datagram, syslog_datagram, Coding, InDatagram, Protocol};

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramTaken {
    /// Its message is in a lane.
    Whole,
    /// To be counted: it had no message, or not all of it is in a lane.
    Odd(Reason),
    /// No lane can take it now: offer it again when [`Engine::can_ingest`].
    Stalled,
}

impl<M: Memory> Engine<M> {
    /// Takes in the message of syslog that a datagram is. `is_cut`: it had more bytes.
    pub fn ingest_datagram(&mut self, bytes: &[u8], is_cut: bool) -> DatagramTaken {
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return DatagramTaken::Stalled;
        }
        let limits = self.limits();
        let unpacked = match packed_datagram(bytes).map(|packed| unpack(packed, is_cut, limits)) {
            None => None,
            Some(Ok(unpacked)) => Some(unpacked),
            Some(Err(reason)) => return DatagramTaken::Odd(reason),
        };
        let bytes = unpacked.as_deref().unwrap_or(bytes);
        let mut marked = Vec::new();
        let (element, odd) = match syslog_datagram(bytes, is_cut, limits, &mut marked) {
            InDatagram::Message(element) => (element, None),
            InDatagram::Cut(element) => (element, Some(Reason::LineCut)),
            InDatagram::Nothing => return DatagramTaken::Odd(Reason::DatagramEmpty),
        };
        self.note_spoken(Protocol::Syslog);
        let routed = self.route_apart::<weir_source::Syslog>(0, element);
        self.whence_is_over();
        match routed {
            Ok(()) => odd.map_or(DatagramTaken::Whole, DatagramTaken::Odd),
            Err(_) => {
                self.stalled = true;
                DatagramTaken::Stalled
            }
        }
    }
}

/// Most bytes that come out of a packed datagram: as many as one that is not packed may have. Anybody can send these, and a
/// hundred may come in a turn.
const UNPACKED_BYTES_MAX: u32 = 64 << 10;

/// What comes out of a packed datagram. A part of it is worth nothing.
fn unpack(packed: &[u8], is_cut: bool, limits: Limits) -> Result<Vec<u8>, Reason> {
    if is_cut {
        return Err(Reason::PackedCorrupt);
    }
    let bytes_max = limits.frame_bytes_max.min(UNPACKED_BYTES_MAX);
    inflate(Coding::Deflate, packed, bytes_max as usize)
        .map_err(|error| reason_of(SourceError::Packed { error }))
}
