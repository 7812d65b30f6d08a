use std::io::Read;

use weir_protocol::Form;

use super::*;

const STAMP: Stamp = Stamp {
    unix_ms: 1_500,
    text: *b"1970-01-01T00:00:01.500Z",
};
const IDENTITY: Identity = Identity {
    instance: 1,
    epoch: 2,
    first: 3,
};

fn outlet(options: OutletOptions) -> Outlet {
    Outlet::start(&Arc::new(options), [0; 16])
}

fn message(payload: &str) -> Message<'_> {
    Message {
        severity: 3,
        form: Form::Json,
        payload: payload.as_bytes(),
    }
}

/// A window of so many messages.
fn window(outlet: &mut Outlet, messages: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..messages {
        let pushed = outlet.push(&message("{}"), &STAMP, &mut out);
        assert_eq!(pushed, Pushed::Taken);
    }
    outlet.close(&IDENTITY, &mut out);
    out
}

/// All that it says to these bytes, one answer after the other.
fn heard(outlet: &mut Outlet, bytes: &[u8]) -> Vec<Result<Heard, &'static str>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    loop {
        match outlet.hear(&mut rest, &mut Vec::new()) {
            Ok(Some(heard)) => all.push(Ok(heard)),
            Ok(None) => return all,
            Err(error) => {
                all.push(Err(error.reason));
                return all;
            }
        }
    }
}

fn ack(number: u32) -> Vec<u8> {
    [&b"2A"[..], &number.to_be_bytes()].concat()
}

fn cumulative() -> OutletOptions {
    OutletOptions {
        numbering: Numbering::Cumulative,
        ..OutletOptions::default()
    }
}

#[test]
fn windows_are_those_of_the_specification() {
    let mut outlet = outlet(OutletOptions::default());
    assert!(outlet.hello(&mut Vec::new()));
    let mut out = Vec::new();
    outlet.push(&message(r#"{"message":"a"}"#), &STAMP, &mut out);
    outlet.push(&message("[]"), &STAMP, &mut out);
    outlet.close(&IDENTITY, &mut out);
    let object = &br#"{"message":"[]","severity":3,"@timestamp":"1970-01-01T00:00:01.500Z"}"#[..];
    let len = [0, 0, 0, u8::try_from(object.len()).expect("short")];
    let expected = [
        &b"2W\0\0\0\x02"[..],
        b"2J\0\0\0\x01\0\0\0\x0f{\"message\":\"a\"}",
        b"2J\0\0\0\x02",
        &len,
        object,
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn a_packed_window_unpacks_to_the_same() {
    let plain = window(&mut outlet(OutletOptions::default()), 100);
    let options = OutletOptions {
        compression: Compression::Zlib,
        ..OutletOptions::default()
    };
    let packed = window(&mut outlet(options), 100);
    assert_eq!(packed[..6], plain[..6]);
    assert_eq!(&packed[6..8], b"2C");
    let len = u32::from_be_bytes(packed[8..12].try_into().expect("four"));
    assert_eq!(packed.len() - 12, len as usize);
    assert!(packed.len() < plain.len() / 2);
    let mut frames = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(&packed[12..]);
    reader.read_to_end(&mut frames).expect("zlib");
    assert_eq!(frames, plain[6..]);
}

#[test]
fn a_window_has_as_many_messages_as_beats_sends() {
    let mut outlet = outlet(OutletOptions::default());
    let mut out = Vec::new();
    for _ in 0..WINDOW_MESSAGES_MAX {
        assert_eq!(outlet.push(&message("{}"), &STAMP, &mut out), Pushed::Taken);
    }
    let before = out.len();
    assert_eq!(outlet.push(&message("{}"), &STAMP, &mut out), Pushed::Other);
    assert_eq!(out.len(), before);
    outlet.close(&IDENTITY, &mut out);
    assert_eq!(out[2..6], WINDOW_MESSAGES_MAX.to_be_bytes());
    assert_eq!(outlet.push(&message("{}"), &STAMP, &mut out), Pushed::Taken);
}

#[test]
fn an_ack_is_of_the_oldest_window() {
    let mut outlet = outlet(OutletOptions::default());
    window(&mut outlet, 3);
    let second = window(&mut outlet, 2);
    assert_eq!(second[8..12], [0, 0, 0, 1], "numbers begin again");
    let bytes: Vec<u8> = [0, 1, 1, 3, 0, 2].into_iter().flat_map(ack).collect();
    let expected = [
        Ok(Heard::Alive),
        Ok(Heard::Acked(1)),
        Ok(Heard::Alive),
        Ok(Heard::Acked(2)),
        Ok(Heard::Alive),
        Ok(Heard::Acked(2)),
    ];
    assert_eq!(heard(&mut outlet, &bytes), expected);
    assert_eq!(heard(&mut outlet, &ack(2)), [Err("ack_unknown")]);
}

#[test]
fn answers_come_in_any_pieces_and_others_are_named() {
    let mut outlet = outlet(OutletOptions::default());
    window(&mut outlet, 3);
    window(&mut outlet, 2);
    let bytes = [ack(3), ack(2)].concat();
    for cut in 0..6 {
        assert_eq!(heard(&mut outlet, &bytes[..cut]), []);
    }
    assert_eq!(
        heard(&mut outlet, &bytes[..11]),
        [Ok(Heard::Acked(3))],
        "two in one segment, one of them whole"
    );
    for (bytes, reason) in [
        (&b"1A\0\0\0\x01"[..], "answer_malformed"),
        (b"2W\0\0\0\x01", "answer_malformed"),
        (b"H", "answer_malformed"),
        (b"2A\0\0\0\x03", "ack_unknown"),
        (b"2A\xff\xff\xff\xff", "ack_unknown"),
    ] {
        assert_eq!(heard(&mut outlet, bytes), [Err(reason)], "{bytes:?}");
    }
}

#[test]
fn cumulative_numbers_go_on_and_wrap() {
    let mut outlet = outlet(cumulative());
    window(&mut outlet, 3);
    let second = window(&mut outlet, 2);
    assert_eq!(second[8..12], [0, 0, 0, 4]);
    let bytes = [ack(3), ack(4), ack(5)].concat();
    let expected = [Heard::Acked(3), Heard::Acked(1), Heard::Acked(1)].map(Ok);
    assert_eq!(heard(&mut outlet, &bytes), expected);
    outlet.last = u32::MAX - 1;
    let wrapping = window(&mut outlet, 3);
    assert_eq!(wrapping[8..12], u32::MAX.to_be_bytes());
    let bytes = [ack(u32::MAX), ack(0), ack(1)].concat();
    let expected = [Heard::Acked(1), Heard::Alive, Heard::Acked(2)].map(Ok);
    assert_eq!(heard(&mut outlet, &bytes), expected);
    window(&mut outlet, 2);
    assert_eq!(heard(&mut outlet, &ack(1)), [Ok(Heard::Alive)]);
    assert_eq!(heard(&mut outlet, &ack(u32::MAX)), [Err("ack_unknown")]);
}
