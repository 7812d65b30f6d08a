//! Lumberjack 2, as its client: to Logstash's beats input, Vector, rsyslog's imbeats and their like.
//!
//! ```text
//! window   32 57 count                 how many messages follow
//! message  32 4a number len object     number from 1 in each window, or, seq=cumulative, on and on
//! packed   32 43 len zlib(messages)
//! answer   32 41 number                the messages up to this one are through; 0: it lives
//! ```
//!
//! Numbers and lengths have 32 bits, the most significant byte first. Each message is one JSON object: what Logstash
//! cannot read it closes the connection for, again and again. An answer is of the oldest window that is not through.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_source::render::Context;

use super::{compress, Numbering, Stamp};
use super::{Compression, Heard, Identity, Message, OutletError, OutletOptions, Pushed, Speak};
use crate::render::json;
use crate::{Acks, Facts, Layout, Links, Mute, Told};

pub(crate) static FACTS: Facts = Facts {
    name: "lumberjack",
    layout: Layout::Records,
    links: Links::Outlet,
    acks: Acks::PerItem,
    told: Told::NOTHING,
};

pub(crate) type Words = Mute;

/// Messages of a window: what Beats sends at most.
const WINDOW_MESSAGES_MAX: u32 = 2048;
/// Bytes of a window's head, and of an answer.
const HEAD_BYTES: usize = 6;

/// A window that is not through.
#[derive(Debug)]
struct Window {
    /// Number of the message before its first that is not through.
    through: u32,
    /// Not through.
    left: u32,
}

/// The window at the end of what is to be sent.
#[derive(Debug)]
struct Open {
    /// Where its messages begin.
    frames: usize,
    messages: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Outlet {
    options: Arc<OutletOptions>,
    open: Option<Open>,
    windows: VecDeque<Window>,
    /// Number of the last message.
    last: u32,
    packed: Vec<u8>,
    context: Context,
}

impl Speak for Outlet {
    fn start(options: &Arc<OutletOptions>, _salt: [u8; 16]) -> Self {
        Outlet {
            options: Arc::clone(options),
            open: None,
            windows: VecDeque::new(),
            last: 0,
            packed: Vec::new(),
            context: Context::default(),
        }
    }

    fn hello(&mut self, _out: &mut Vec<u8>) -> bool {
        true
    }

    fn packets_max(&self) -> usize {
        self.options.windows
    }

    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        let open = self.open.get_or_insert_with(|| {
            out.extend_from_slice(b"2W\0\0\0\0");
            if self.options.numbering == Numbering::Window {
                self.last = 0;
            }
            Open {
                frames: out.len(),
                messages: 0,
            }
        });
        if open.messages == WINDOW_MESSAGES_MAX {
            return Pushed::Other;
        }
        open.messages += 1;
        self.last = self.last.wrapping_add(1);
        let mut head = *b"2J\0\0\0\0\0\0\0\0";
        head[2..6].copy_from_slice(&self.last.to_be_bytes());
        out.extend_from_slice(&head);
        let len = out.len() - 4;
        json::object(message, stamp, &mut self.context, out);
        put_len(out, len);
        Pushed::Taken
    }

    fn close(&mut self, _identity: &Identity, out: &mut Vec<u8>) {
        let Some(Open { frames, messages }) = self.open.take() else {
            return;
        };
        out[frames - 4..frames].copy_from_slice(&messages.to_be_bytes());
        self.windows.push_back(Window {
            through: self.last.wrapping_sub(messages),
            left: messages,
        });
        if self.options.compression == Compression::Zlib {
            self.packed.clear();
            compress::zlib(&out[frames..], &mut self.packed);
            out.truncate(frames);
            out.extend_from_slice(b"2C\0\0\0\0");
            out.extend_from_slice(&self.packed);
            put_len(out, frames + 2);
        }
    }

    fn hear(
        &mut self,
        bytes: &mut &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<Option<Heard>, OutletError> {
        let Some((answer, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return match b"2A".starts_with(&bytes[..bytes.len().min(2)]) {
                true => Ok(None),
                false => Err(malformed(bytes)),
            };
        };
        let [b'2', b'A', number @ ..] = *answer else {
            return Err(malformed(bytes));
        };
        *bytes = rest;
        self.ack(u32::from_be_bytes(number)).map(Some)
    }

    fn goodbye(&mut self, _out: &mut Vec<u8>) {}
}

impl Outlet {
    fn ack(&mut self, number: u32) -> Result<Heard, OutletError> {
        if number == 0 {
            return Ok(Heard::Alive);
        }
        let unknown = |open: String| OutletError {
            reason: "ack_unknown",
            detail: format!("it acks message {number}; {open}"),
        };
        let Some(oldest) = self.windows.front_mut() else {
            return Err(unknown("none is on its way".to_owned()));
        };
        let more = number.wrapping_sub(oldest.through);
        if more > oldest.left {
            let from = oldest.through.wrapping_add(1);
            let to = oldest.through.wrapping_add(oldest.left);
            return Err(unknown(format!("{from} to {to} are on their way")));
        }
        if more == 0 {
            return Ok(Heard::Alive);
        }
        oldest.through = number;
        oldest.left -= more;
        if oldest.left == 0 {
            self.windows.pop_front();
        }
        Ok(Heard::Acked(u64::from(more)))
    }
}

/// Writes how many bytes follow the four at `at`, up to the end.
fn put_len(out: &mut [u8], at: usize) {
    let bytes = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX); // packets are far below
    out[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
}

fn malformed(bytes: &[u8]) -> OutletError {
    let shown = bytes[..bytes.len().min(32)].escape_ascii();
    OutletError {
        reason: "answer_malformed",
        detail: format!("its answer is no ack of Lumberjack 2: \"{shown}\""),
    }
}

#[cfg(test)]
mod tests;
