//! What does this connection speak? Decided from its first bytes, and only by them.
//!
//! ```text
//! first bytes -> begins one of the protocols of this port?   yes: that one
//!                                                            not yet: more bytes
//!                                                            no: refused, and weir_protocol::foreign names it
//! ```

use super::{Limits, Protocol, Source, SourceError, Step};

/// A connection that has not said what it speaks.
#[derive(Clone, Copy, Debug)]
pub struct Undecided {
    allowed: &'static [Protocol],
}

impl Undecided {
    /// On a port that speaks these; in the order in which they are tried.
    pub fn new(allowed: &'static [Protocol]) -> Undecided {
        Undecided { allowed }
    }

    fn decide(&self, first: &[u8], limits: Limits) -> Result<Option<Protocol>, SourceError> {
        let mut error = None;
        let mut is_open = false;
        for protocol in self.allowed {
            match protocol.begins(first, limits) {
                Ok(true) => return Ok(Some(*protocol)),
                Ok(false) => is_open = true,
                Err(found) => error = error.or(Some(found)),
            }
        }
        match error {
            Some(error) if !is_open => Err(match self.allowed {
                [_] => error,
                // None is meant more than another.
                allowed => SourceError::Unspoken { allowed },
            }),
            _ => Ok(None),
        }
    }
}

impl Source for Undecided {
    fn begins(_: &[u8], _: Limits) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn next<'a>(&mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        let found = self.decide(bytes, limits)?;
        let more = Step::NeedMore {
            bytes: bytes.len() + 1,
        };
        Ok(found.map_or(more, Step::Speaks))
    }
}
