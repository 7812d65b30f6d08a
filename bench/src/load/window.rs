//! What a connection that gets answers has open: Weir's own batches, or units of other protocols.

use std::io;

use super::acked::Batches;
use super::compose::Format;
use super::units::{Around, Units};
use crate::secured::Socket;

pub enum Window {
    Batches(Batches),
    Units(Units),
}

impl Window {
    /// Greets on a socket that blocks. `None`: the format has no units.
    pub fn greet(format: Format, stream: &mut Socket, token: u64) -> io::Result<Option<Window>> {
        match format {
            Format::Acked => Ok(Some(Window::Batches(Batches::greet(stream, token)?))),
            format if format.has_units() => Ok(Some(Window::Units(Units::greet(format, stream)?))),
            _ => Ok(None),
        }
    }

    /// Nothing is open.
    pub fn is_empty(&self) -> bool {
        match self {
            Window::Batches(batches) => batches.is_empty(),
            Window::Units(units) => units.is_empty(),
        }
    }

    /// Another unit may be sent.
    pub fn has_room(&self) -> bool {
        match self {
            Window::Batches(batches) => batches.has_room(),
            Window::Units(units) => units.has_room(),
        }
    }

    /// A unit of these messages begins: what stands around them.
    pub fn wrap(&mut self, messages: u64, body: &[u8], around: &mut Around) {
        match self {
            Window::Batches(batches) => {
                around.head.clear();
                let header = batches.begin(messages, body.len());
                around.head.extend_from_slice(&header);
            }
            Window::Units(units) => units.wrap(messages, body, around),
        }
    }

    /// One read, and the answers in it.
    pub fn read(&mut self, stream: &mut Socket) -> io::Result<()> {
        match self {
            Window::Batches(batches) => batches.read(stream),
            Window::Units(units) => units.read(stream),
        }
    }
}
