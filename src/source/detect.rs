//! What does this connection speak? Decided from its first bytes, and only by them.
//!
//! ```text
//! first bytes -> begins one of the protocols of this port?   yes: that one
//!                                                            not yet: more bytes
//!                                                            no: refused, and weir_protocol::foreign names it
//! ```

use super::{Limits, Port, Protocol, Protocols, Source, SourceError, Step};
use std::sync::Arc;

/// A connection that has not said what it speaks.
#[derive(Clone, Debug, Default)]
pub struct Undecided {
    /// None: nobody is there.
    port: Option<Arc<Port>>,
}

impl Undecided {
    /// On this port.
    pub fn new(port: &Arc<Port>) -> Undecided {
        Undecided {
            port: Some(port.clone()),
        }
    }

    /// Where it came.
    pub fn port(&self) -> Option<&Arc<Port>> {
        self.port.as_ref()
    }
}

/// The protocols of a port in the order in which they are tried. Nearly anything may be a line: whatever else it may be
/// comes first.
fn in_order(allowed: Protocols) -> impl Iterator<Item = Protocol> {
    let is_line = |protocol: &Protocol| *protocol == Protocol::Lines;
    let lines = allowed.iter().filter(is_line);
    let others = allowed.iter().filter(move |protocol| !is_line(protocol));
    others.chain(lines)
}

/// What the protocols of a port say of the first bytes, in their order. `None`: more bytes will tell.
fn decide(
    allowed: Protocols,
    answers: impl Iterator<Item = Result<bool, SourceError>>,
) -> Result<Option<Protocol>, SourceError> {
    let (mut error, mut errors) = (None, 0);
    let mut is_open = false;
    for (protocol, answer) in in_order(allowed).zip(answers) {
        match answer {
            // One that is tried before it may still be meant.
            Ok(true) if is_open => return Ok(None),
            Ok(true) => return Ok(Some(protocol)),
            Ok(false) => is_open = true,
            // Whoever means a protocol with a start of its own begins with that.
            Err(SourceError::OtherStart { .. }) => {}
            Err(found) => {
                errors += 1;
                error = error.or(Some(found));
            }
        }
    }
    match error {
        _ if is_open => Ok(None),
        Some(error) if errors == 1 => Err(error),
        // None is meant more than another.
        _ => Err(SourceError::Unspoken { allowed }),
    }
}

impl Source for Undecided {
    fn start(port: &Arc<Port>) -> Undecided {
        Undecided::new(port)
    }

    fn begins(_: &[u8], _: Limits) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        let port = self.port.as_ref();
        let allowed = port.map_or(Protocols::default(), |port| port.protocols);
        // Where only such messages come, they need not begin as they should.
        if let Some(only) = allowed.single().filter(|only| only.is_text()) {
            return Ok(Step::Speaks(only));
        }
        let answers = in_order(allowed);
        let answers = answers.map(|protocol| protocol.begins(bytes, limits));
        let found = decide(allowed, answers)?;
        let more = Step::NeedMore {
            bytes: bytes.len() + 1,
        };
        Ok(found.map_or(more, Step::Speaks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::frame::FrameError;

    #[test]
    fn a_port_of_several_waits_while_one_may_be_meant() {
        const ONE: Protocols = Protocols::of(&[Protocol::Frames]);
        const TWO: Protocols = Protocols::of(&[Protocol::Frames, Protocol::Acked]);
        let no = SourceError::Frame(FrameError::TooShort { length: 1 });
        let said = |allowed, answers: &[Result<bool, SourceError>]| {
            decide(allowed, answers.iter().copied())
        };
        assert_eq!(said(ONE, &[Ok(false)]), Ok(None));
        assert_eq!(said(TWO, &[Err(no), Ok(false)]), Ok(None));
        assert_eq!(said(TWO, &[Ok(false), Err(no)]), Ok(None));
        assert_eq!(said(TWO, &[Err(no), Ok(true)]), Ok(Some(Protocol::Acked)));
        assert_eq!(said(TWO, &[Ok(false), Ok(true)]), Ok(None));
        assert_eq!(said(ONE, &[Err(no)]), Err(no), "what else was meant?");
        let other = SourceError::OtherStart {
            protocol: Protocol::Acked,
        };
        assert_eq!(
            said(TWO, &[Err(no), Err(other)]),
            Err(no),
            "it has no start"
        );
        let unspoken = SourceError::Unspoken { allowed: TWO };
        assert_eq!(said(TWO, &[Err(no), Err(no)]), Err(unspoken));
        let text = "its first bytes begin none of: frames, acked";
        assert_eq!(unspoken.to_string(), text);
    }
}
