//! Answers of analyzers that were not written for Weir: any bytes, in any pieces, mean the same, and nobody acks more than
//! was sent to him.
//!
//! Input: u8 options, u8 packets, u8 messages of each, u8 bytes of a piece, then what the analyzer says.

use std::sync::Arc;

use weir::protocol::Form;
use weir::sink::outlet::{
    Heard, Identity, Message, Numbering, Outlet, OutletOptions, Pushed, Stamp,
};
use weir::sink::Sink;

use super::input::Input;

/// Fluent Forward.
pub fn forward(data: &[u8]) {
    run(Sink::Forward, data);
}

/// Lumberjack 2.
pub fn lumberjack(data: &[u8]) {
    run(Sink::Lumberjack, data);
}

/// RELP.
pub fn relp(data: &[u8]) {
    run(Sink::Relp, data);
}

/// Lines that say how many are done.
pub fn lines(data: &[u8]) {
    run(Sink::Exec, data);
}

/// What was sent: the first message of each packet, and how many each has.
struct Sent {
    packets: u64,
    messages: u64,
}

impl Sent {
    fn firsts(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.packets).map(|packet| packet * self.messages + 1)
    }
}

/// What was heard, what was answered, and whether it ended with an error.
#[derive(Debug, Default, PartialEq)]
struct Said {
    heard: Vec<Heard>,
    out: Vec<u8>,
    error: Option<String>,
}

fn run(sink: Sink, data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let sent = Sent {
        packets: input.below(4) as u64,
        messages: input.below(6) as u64 + 1,
    };
    let piece = input.below(256) + 1;
    let stream = input.rest();
    let whole = hear(outlet(sink, flags, &sent), stream, stream.len().max(1));
    let pieces = hear(outlet(sink, flags, &sent), stream, piece);
    let bytes = hear(outlet(sink, flags, &sent), stream, 1);
    assert_eq!(whole, pieces, "whole, and in pieces of {piece} bytes");
    assert_eq!(whole, bytes, "whole, and byte by byte");
    check(&whole, &sent);
}

/// One that has sent all of it.
fn outlet(sink: Sink, flags: u8, sent: &Sent) -> Outlet {
    let options = OutletOptions {
        numbering: match flags & 1 {
            0 => Numbering::Window,
            _ => Numbering::Cumulative,
        },
        shared_key: match flags & 2 {
            0 => Vec::new(),
            _ => b"key".to_vec(),
        },
        ..OutletOptions::default()
    };
    let mut outlet = Outlet::new(sink, &Arc::new(options), [7; 16]).expect("it is an outlet");
    let mut out = Vec::new();
    outlet.hello(&mut out);
    for first in sent.firsts() {
        for _ in 0..sent.messages {
            let message = Message {
                severity: 3,
                form: Form::Raw,
                payload: b"m",
            };
            let pushed = outlet.push(&message, &Stamp::at(0), &mut out);
            assert_eq!(pushed, Pushed::Taken);
        }
        let identity = Identity {
            instance: 1,
            epoch: 2,
            first,
        };
        outlet.close(&identity, &mut out);
    }
    outlet
}

fn hear(mut outlet: Outlet, stream: &[u8], piece: usize) -> Said {
    let (mut said, mut there) = (Said::default(), Vec::new());
    for piece in stream.chunks(piece) {
        there.extend_from_slice(piece);
        let mut rest = &there[..];
        loop {
            let before = rest.len();
            match outlet.hear(&mut rest, &mut said.out) {
                Ok(Some(heard)) => {
                    assert!(rest.len() < before, "an answer has bytes");
                    said.heard.push(heard);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.detail.is_empty() && !error.reason.is_empty());
                    said.error = Some(error.reason.to_owned());
                    return said;
                }
            }
        }
        let left = rest.len();
        there.drain(..there.len() - left);
        assert!(left <= 64 << 10, "{left} bytes of an answer are kept");
    }
    said
}

fn check(said: &Said, sent: &Sent) {
    let one_by_one = said.heard.iter().map(|heard| match heard {
        Heard::Acked(messages) => *messages,
        Heard::Refused(_) => 1,
        _ => 0,
    });
    let acked: u64 = one_by_one.sum();
    assert!(acked <= sent.packets * sent.messages, "{acked} acked");
    let ready = said.heard.iter().filter(|heard| **heard == Heard::Ready);
    assert!(ready.count() <= 1, "it lets us in once");
}
