//! Lumberjack and RELP against a second decoder, `oracle.py`: the same messages, answers and end of random streams, of
//! which many are damaged. `WEIR_ORACLE=seed:count` asks for others, and more.

mod play;

use std::process::Command;

use play::Play;
use weir_source::{Lumberjack, Relp, Source};

/// As in `oracle.py`.
const FRAME_BYTES_MAX: u32 = 4096;
/// A severity that the other decoder does not know.
const ANY: u8 = 255;

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four"))
    }

    fn counted(&mut self) -> &'a [u8] {
        let count = self.u32();
        self.take(count as usize)
    }
}

/// What a sender's stream has come to.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<(u8, String)>,
    told: String,
    /// 0 open, 1 refused, 2 over.
    end: u8,
}

fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn played<S: Source>(stream: &[u8], piece: usize) -> Outcome {
    let mut play = Play::<S>::new(FRAME_BYTES_MAX);
    for piece in stream.chunks(piece) {
        play.feed(piece);
    }
    let messages = play.messages.iter();
    Outcome {
        messages: messages
            .map(|(severity, text)| (*severity, readable(text)))
            .collect(),
        told: readable(&play.told),
        end: match (play.error.is_some(), play.is_ended) {
            (true, _) => 1,
            (_, true) => 2,
            _ => 0,
        },
    }
}

#[test]
fn a_second_decoder_makes_the_same_of_random_streams() {
    let asked = std::env::var("WEIR_ORACLE").unwrap_or("1:3000".into());
    let (seed, count) = asked.split_once(':').expect("seed:count");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
    let output = Command::new("python3").args([script, seed, count]).output();
    let Ok(output) = output else {
        println!("skipped: python3 is not on this host");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut cases = Bytes(&output.stdout);
    let mut ends = [0; 3];
    let mut of_all = 0;
    while !cases.0.is_empty() {
        let (protocol, stream) = (cases.u8(), cases.counted());
        let messages = (0..cases.u32()).map(|_| (cases.u8(), readable(cases.counted())));
        let messages: Vec<(u8, String)> = messages.collect();
        let mut expected = Outcome {
            messages,
            told: readable(cases.counted()),
            end: cases.u8(),
        };
        for piece in [usize::MAX, 1, 7] {
            let found = match protocol {
                0 => played::<Lumberjack>(stream, piece),
                _ => played::<Relp>(stream, piece),
            };
            for (expected, found) in expected.messages.iter_mut().zip(&found.messages) {
                if expected.0 == ANY {
                    expected.0 = found.0;
                }
            }
            assert_eq!(
                found,
                expected,
                "case {of_all}, pieces of {piece}: {}",
                readable(stream)
            );
        }
        ends[usize::from(expected.end)] += 1;
        of_all += 1;
    }
    assert_eq!(of_all, count.parse().expect("a count"));
    println!("open, refused, over: {ends:?}");
    assert!(ends.iter().all(|end| *end > of_all / 50), "{ends:?}");
}
