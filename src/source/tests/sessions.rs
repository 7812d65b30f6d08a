//! The sessions in `docs/LUMBERJACK.md` and `docs/RELP.md`: what a sender sends, what becomes of it, what it is told.

mod play;

use play::Play;
use weir_source::{Lumberjack, Relp, Source};
use weir_testkit::sessions::{hex, sessions, text};

/// Unless configured otherwise.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;

const LUMBERJACK: &str = include_str!("../../../docs/LUMBERJACK.md");
const RELP: &str = include_str!("../../../docs/RELP.md");

/// Plays all sessions of a page, whole lines at a time and byte by byte.
fn hold<S: Source>(page: &str, bytes_of: fn(&str) -> Vec<u8>) -> usize {
    let sessions = sessions(page);
    for session in &sessions {
        for is_whole in [true, false] {
            hold_one(Play::<S>::new(FRAME_BYTES_MAX), session, bytes_of, is_whole);
        }
    }
    sessions.len()
}

fn hold_one<S: Source>(
    mut play: Play<S>,
    session: &[&str],
    bytes_of: fn(&str) -> Vec<u8>,
    is_whole: bool,
) {
    let name = session.join("\n");
    let mut messages = Vec::new();
    let (mut told, mut error, mut is_ended) = (Vec::new(), None, false);
    for line in session {
        let (kind, value) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "C" => {
                assert_eq!(play.told, told, "before {line} of\n{name}");
                let bytes = bytes_of(value);
                let pieces = bytes.chunks(if is_whole { bytes.len() } else { 1 });
                pieces.for_each(|piece| play.feed(piece));
            }
            "=" => {
                let (severity, payload) = value.split_once(' ').expect("severity and text");
                messages.push((severity.parse().expect("a severity"), text(payload)));
            }
            "S" => told.extend(bytes_of(value)),
            "!" => error = Some(value.to_owned()),
            "E" => is_ended = true,
            _ => panic!("{line}"),
        }
    }
    assert_eq!(play.messages, messages, "{name}");
    let readable = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(readable(&play.told), readable(&told), "{name}");
    assert_eq!(play.error.map(|error| error.to_string()), error, "{name}");
    assert_eq!(play.is_ended, is_ended, "{name}");
}

#[test]
fn lumberjack_is_as_its_page_says() {
    assert_eq!(hold::<Lumberjack>(LUMBERJACK, hex), 14);
}

#[test]
fn relp_is_as_its_page_says() {
    assert_eq!(hold::<Relp>(RELP, text), 13);
}

#[test]
fn answers_wait_for_those_before_and_close_for_all() {
    let mut play = Play::<Relp>::new(FRAME_BYTES_MAX);
    play.feed(b"1 open 0\n");
    play.told.clear();
    play.is_held = true;
    play.feed(b"2 syslog 1 a\n3 bad 0\n4 syslog 1 b\n5 close 0\n");
    assert_eq!(
        (play.open(), play.told.as_slice(), play.is_ended),
        (4, &b""[..], true)
    );
    play.release();
    let told = String::from_utf8_lossy(&play.told);
    let numbers: Vec<&str> = told.lines().map(|line| &line[..1]).collect();
    assert_eq!(numbers, ["2", "3", "4", "5", "0"], "{told}");
}

#[test]
fn a_window_that_is_not_whole_has_no_answer_but_a_sign_of_life() {
    let mut play = Play::<Lumberjack>::new(FRAME_BYTES_MAX);
    play.feed(b"2W\0\0\0\x022J\0\0\0\x01\0\0\0\x02{}");
    assert_eq!((play.open(), play.told.len()), (1, 0));
    assert!(!play.source.is_between_units());
    play.source.alive(&mut play.told);
    assert_eq!(play.told, b"2A\0\0\0\0");
    play.feed(b"2J\0\0\0\x02\0\0\0\x02{}");
    assert!(play.source.is_between_units());
    assert_eq!(play.told, b"2A\0\0\0\0\x32A\0\0\0\x02");
}
