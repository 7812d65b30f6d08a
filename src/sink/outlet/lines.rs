//! Lines of JSON, and lines that say how many of them are done: what a file's writer and a program on its standard input
//! take.
//!
//! ```text
//! {"message":"text","severity":3,"@timestamp":"2026-11-30T02:30:00.000Z"} LF         a message
//! 4711 LF      answer: the first 4711 lines of this connection are done
//! 4711 LF      again, or 0 at first: it lives, and is not through yet
//! ```
//!
//! A loop of a shell can say that, and what counts in batches says the last number alone.

use std::sync::Arc;

use weir_source::render::Context;

use super::{Heard, Identity, Message, OutletError, OutletOptions, Pushed, Speak, Stamp};
use crate::render::json;

/// Analyzers of `file://`.
pub(crate) mod file_sink {
    use crate::{Acks, Facts, Layout, Links, Mute, Told};

    pub(crate) static FACTS: Facts = Facts {
        name: "file",
        layout: Layout::Records,
        links: Links::Outlet,
        acks: Acks::Durable,
        told: Told::NOTHING,
    };

    pub(crate) type Words = Mute;
}

/// Analyzers of `exec:`.
pub(crate) mod exec_sink {
    use crate::{Acks, Facts, Layout, Links, Mute, Told};

    pub(crate) static FACTS: Facts = Facts {
        name: "exec",
        layout: Layout::Records,
        links: Links::Outlet,
        acks: Acks::PerItem,
        told: Told::NOTHING,
    };

    pub(crate) type Words = Mute;
}

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Outlet {
    sent: u64,
    done: u64,
    context: Context,
}

impl Speak for Outlet {
    fn start(_options: &Arc<OutletOptions>, _salt: [u8; 16]) -> Self {
        Outlet::default()
    }

    fn hello(&mut self, _out: &mut Vec<u8>) -> bool {
        true
    }

    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        json::line(message, &stamp.text, &mut self.context, out);
        out.push(b'\n');
        self.sent += 1;
        Pushed::Taken
    }

    fn close(&mut self, _identity: &Identity, _out: &mut Vec<u8>) {}

    fn hear(
        &mut self,
        bytes: &mut &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<Option<Heard>, OutletError> {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.take(DIGITS_MAX + 1).count();
        let is_whole = match bytes.get(digits) {
            _ if digits > DIGITS_MAX => return Err(malformed(bytes)),
            None => false,
            Some(b'\n') if digits > 0 => true,
            Some(_) => return Err(malformed(bytes)),
        };
        if !is_whole {
            return Ok(None);
        }
        let number = bytes[..digits].iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        let number = number.ok_or_else(|| malformed(bytes))?;
        *bytes = &bytes[digits + 1..];
        self.done(number).map(Some)
    }

    fn goodbye(&mut self, _out: &mut Vec<u8>) {}
}

impl Outlet {
    fn done(&mut self, number: u64) -> Result<Heard, OutletError> {
        let (done, sent) = (self.done, self.sent);
        if !(done..=sent).contains(&number) {
            return Err(OutletError {
                reason: "ack_unknown",
                detail: format!(
                    "it says that {number} messages are done; allowed: {done} to {sent}, all since it began"
                ),
            });
        }
        self.done = number;
        Ok(match number - done {
            0 => Heard::Alive,
            more => Heard::Acked(more),
        })
    }
}

fn malformed(bytes: &[u8]) -> OutletError {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes);
    let shown = line[..line.len().min(64)].escape_ascii();
    OutletError {
        reason: "answer_malformed",
        detail: format!(
            "its answer is \"{shown}\"; allowed: a line with how many messages are done since it began, in digits"
        ),
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::Form;

    use super::*;

    /// One that has sent so many messages, and what they are.
    fn sent(messages: &[(Form, &str)]) -> (Outlet, String) {
        let mut outlet = Outlet::start(&Arc::default(), [0; 16]);
        let mut out = Vec::new();
        assert!(outlet.hello(&mut out), "the first bytes are a message's");
        for (form, payload) in messages {
            let message = Message {
                severity: 3,
                form: *form,
                payload: payload.as_bytes(),
            };
            let pushed = outlet.push(&message, &Stamp::at(1_500), &mut out);
            assert_eq!(pushed, Pushed::Taken);
        }
        (outlet, String::from_utf8(out).expect("UTF-8"))
    }

    fn heard(outlet: &mut Outlet, said: &str) -> Result<Vec<Heard>, OutletError> {
        let mut bytes = said.as_bytes();
        let mut all = Vec::new();
        while let Some(heard) = outlet.hear(&mut bytes, &mut Vec::new())? {
            all.push(heard);
        }
        Ok(all)
    }

    #[test]
    fn each_message_is_a_line() {
        let (_, lines) = sent(&[
            (Form::Raw, "a\nb"),
            (Form::Json, "{\"a\":\n1}"),
            (Form::Raw, ""),
        ]);
        let time = "\"@timestamp\":\"1970-01-01T00:00:01.500Z\"";
        let expected = [
            format!("{{\"message\":\"a\\nb\",\"severity\":3,{time}}}"),
            "{\"a\": 1}".to_owned(),
            format!("{{\"message\":\"\",\"severity\":3,{time}}}"),
        ];
        assert_eq!(lines, expected.join("\n") + "\n");
    }

    #[test]
    fn an_answer_says_how_many_are_done() {
        let (mut outlet, _) = sent(&[(Form::Raw, "x"); 5]);
        let said = heard(&mut outlet, "0\n2\n2\n5\n");
        let expected = [Heard::Alive, Heard::Acked(2), Heard::Alive, Heard::Acked(3)];
        assert_eq!(said, Ok(expected.to_vec()));
    }

    #[test]
    fn half_an_answer_is_none() {
        let (mut outlet, _) = sent(&[(Form::Raw, "x"); 50]);
        let (mut bytes, mut out) = (&b"4"[..], Vec::new());
        assert_eq!(outlet.hear(&mut bytes, &mut out), Ok(None));
        assert_eq!(bytes, b"4", "it stays until its rest is there");
        assert_eq!(heard(&mut outlet, "47\n"), Ok(vec![Heard::Acked(47)]));
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for (said, why) in [
            ("ok\n", "\"ok\""),
            ("\n", "\"\""),
            ("-1\n", "\"-1\""),
            ("1 2\n", "\"1 2\""),
            ("1\r\n", "\"1\\r\""),
            ("99999999999999999999\n", "in digits"),
            ("000000000000000000001", "in digits"),
            ("3\n", "that 3 messages are done; allowed: 0 to 2"),
            ("2\n1\n", "that 1 messages are done; allowed: 2 to 2"),
        ] {
            let (mut outlet, _) = sent(&[(Form::Raw, "x"); 2]);
            let error = heard(&mut outlet, said).expect_err(said);
            assert!(error.detail.contains(why), "{said:?}: {error}");
        }
    }
}
