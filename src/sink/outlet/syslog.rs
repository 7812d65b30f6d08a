//! Syslog over TCP (RFC 6587), as its client. There are no answers.
//!
//! ```text
//! syslog://         <13>text LF             a LF within becomes #012, a NUL #000, as rsyslog writes them
//! syslog-octet://   8 <13>text              bytes are counted, and stay as they are
//! ```
//!
//! That a receiver has read what its kernel has is not known; see [`crate::Acks::Lagged`] for what counts as an ACK. What
//! it says is not listened to: it has nothing to say.

use std::sync::Arc;

use weir_source::render::Context;

use super::{Framing, Heard, Identity, Message, OutletError, OutletOptions, Pushed, Speak, Stamp};
use crate::render::text;
use crate::{Acks, Facts, Layout, Links, Mute, Told};

pub(crate) static FACTS: Facts = Facts {
    name: "syslog",
    layout: Layout::Records,
    links: Links::Outlet,
    acks: Acks::Lagged,
    told: Told::NOTHING,
};

pub(crate) type Words = Mute;

/// See the head of this file.
#[derive(Debug)]
pub struct Outlet {
    options: Arc<OutletOptions>,
    context: Context,
}

impl Speak for Outlet {
    fn start(options: &Arc<OutletOptions>, _salt: [u8; 16]) -> Self {
        Outlet {
            options: Arc::clone(options),
            context: Context::default(),
        }
    }

    fn hello(&mut self, _out: &mut Vec<u8>) -> bool {
        true
    }

    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        let start = out.len();
        text::syslog(message, stamp, &self.options, &mut self.context, out);
        match self.options.framing {
            Framing::LineFeed => {
                text::on_one_line(start, out);
                out.push(b'\n');
            }
            Framing::Counted => {
                let bytes = out.len() - start;
                text::number(bytes as u64, out);
                out.push(b' ');
                let head = out.len() - start - bytes;
                out[start..].rotate_right(head);
            }
        }
        Pushed::Taken
    }

    fn close(&mut self, _identity: &Identity, _out: &mut Vec<u8>) {}

    fn hear(
        &mut self,
        bytes: &mut &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<Option<Heard>, OutletError> {
        *bytes = &[];
        Ok(None)
    }

    fn goodbye(&mut self, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use weir_protocol::Form;

    use super::*;

    fn sent(framing: Framing, payloads: &[&str]) -> String {
        let options = OutletOptions {
            framing,
            ..OutletOptions::default()
        };
        let mut outlet = Outlet::start(&Arc::new(options), [0; 16]);
        let mut out = Vec::new();
        assert!(outlet.hello(&mut out), "the first bytes are a message's");
        for payload in payloads {
            let message = Message {
                severity: 2,
                form: Form::Raw,
                payload: payload.as_bytes(),
            };
            let pushed = outlet.push(&message, &Stamp::at(0), &mut out);
            assert_eq!(pushed, Pushed::Taken);
        }
        outlet.goodbye(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_feed_ends_a_message_or_its_count_does() {
        let payloads = ["<13>x\ny\0", "<13>z\n", "a"];
        let header = "<12>1 1970-01-01T00:00:00.000Z weir weir - - - a";
        assert_eq!(
            sent(Framing::LineFeed, &payloads),
            format!("<13>x#012y#000\n<13>z\n{header}\n")
        );
        let bytes = header.len();
        assert_eq!(
            sent(Framing::Counted, &payloads),
            format!("8 <13>x\ny\x006 <13>z\n{bytes} {header}")
        );
    }

    #[test]
    fn what_a_receiver_says_is_passed_over() {
        let mut outlet = Outlet::start(&Arc::default(), [0; 16]);
        let mut bytes = &b"hello"[..];
        assert_eq!(outlet.hear(&mut bytes, &mut Vec::new()), Ok(None));
        assert!(bytes.is_empty());
    }
}
