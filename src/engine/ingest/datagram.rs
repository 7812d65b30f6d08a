//! Datagrams: a message each, and no stream.

use super::{Engine, Memory, Reason};
use weir_source::{syslog_datagram, InDatagram, Protocol};

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
