use std::io::Read;

use rmpv::Value;
use weir_protocol::Form;

use super::*;

const STAMP: Stamp = Stamp {
    unix_ms: 1_500,
    text: *b"1970-01-01T00:00:01.500Z",
};
const IDENTITY: Identity = Identity {
    instance: 0x1122_3344_5566_7788,
    epoch: 5,
    first: 9,
};

fn outlet(options: OutletOptions) -> Outlet {
    Outlet::start(&Arc::new(options), [7; 16])
}

fn message(payload: &str) -> Message<'_> {
    Message {
        severity: 2,
        form: Form::Raw,
        payload: payload.as_bytes(),
    }
}

fn packet(outlet: &mut Outlet, payloads: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        let pushed = outlet.push(&message(payload), &STAMP, &mut out);
        assert_eq!(pushed, Pushed::Taken);
    }
    outlet.close(&IDENTITY, &mut out);
    out
}

fn read(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(rmpv::decode::read_value(&mut bytes).expect("MessagePack"));
    }
    values
}

fn option<'a>(packet: &'a Value, key: &str) -> Option<&'a Value> {
    let options = packet[2].as_map().expect("options");
    let found = options.iter().find(|(name, _)| name.as_str() == Some(key));
    found.map(|(_, value)| value)
}

fn ack(id: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    write_str(&mut out, b"ack");
    write_str(&mut out, id.as_bytes());
    out
}

fn id_of(packet: &[u8]) -> String {
    let values = read(packet);
    let id = option(&values[0], "chunk").and_then(Value::as_str);
    id.expect("an id").to_owned()
}

/// All that it says to these bytes, one answer after the other.
fn heard(outlet: &mut Outlet, bytes: &[u8]) -> (Vec<Result<Heard, &'static str>>, Vec<u8>) {
    let (mut rest, mut out, mut all) = (bytes, Vec::new(), Vec::new());
    loop {
        match outlet.hear(&mut rest, &mut out) {
            Ok(Some(heard)) => all.push(Ok(heard)),
            Ok(None) => return (all, out),
            Err(error) => {
                all.push(Err(error.reason));
                return (all, out);
            }
        }
    }
}

#[test]
fn a_packet_is_what_another_reader_finds() {
    let mut outlet = outlet(OutletOptions::default());
    assert!(outlet.hello(&mut Vec::new()));
    let packet = packet(&mut outlet, &["one", "two"]);
    let values = read(&packet);
    assert_eq!(values.len(), 1);
    assert_eq!(values[0][0].as_str(), Some("weir"));
    let entries = read(values[0][1].as_slice().expect("bytes"));
    let texts: Vec<String> = entries.iter().map(|entry| entry[1].to_string()).collect();
    assert_eq!(
        texts,
        [
            r#"{"message": "one", "severity": 2}"#,
            r#"{"message": "two", "severity": 2}"#
        ]
    );
    let time = [0, 0, 0, 1, 0x1d, 0xcd, 0x65, 0]; // 1 s and 500,000,000 ns
    assert_eq!(entries[0][0], Value::Ext(0, time.to_vec()));
    assert_eq!(option(&values[0], "size").and_then(Value::as_u64), Some(2));
    assert_eq!(option(&values[0], "compressed"), None);
    let id = STANDARD.decode(id_of(&packet)).expect("base64");
    let bytes: &[u8; IDENTITY_BYTES] = id[..].try_into().expect("24 bytes");
    assert_eq!(Identity::decode(bytes), IDENTITY);
}

#[test]
fn a_packed_one_unpacks_to_the_same_entries() {
    let long = "x".repeat(300_000);
    let payloads = ["one", &long, ""];
    let plain = packet(&mut outlet(OutletOptions::default()), &payloads);
    let options = OutletOptions {
        compression: Compression::Gzip,
        ..OutletOptions::default()
    };
    let packed = packet(&mut outlet(options), &payloads);
    assert!(packed.len() < plain.len() / 10);
    let (plain, packed) = (read(&plain), read(&packed));
    assert_eq!(
        option(&packed[0], "compressed").and_then(Value::as_str),
        Some("gzip")
    );
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed[0][1].as_slice().expect("bytes"))
        .read_to_end(&mut unpacked)
        .expect("gzip");
    assert_eq!(Some(&unpacked[..]), plain[0][1].as_slice());
}

#[test]
fn acks_are_read_whole_split_and_side_by_side() {
    let mut outlet = outlet(OutletOptions::default());
    let id = id_of(&packet(&mut outlet, &["one"]));
    let two = [ack(&id), ack(&id)].concat();
    let done = Ok(Heard::Done(9));
    assert_eq!(heard(&mut outlet, &two).0, [done, done]);
    for cut in 0..ack(&id).len() {
        assert_eq!(heard(&mut outlet, &ack(&id)[..cut]).0, []);
    }
}

#[test]
fn what_is_no_ack_of_ours_ends_the_connection() {
    let mut outlet = outlet(OutletOptions::default());
    let other = Identity {
        epoch: 6,
        ..IDENTITY
    };
    packet(&mut outlet, &["one"]);
    let mut big = vec![0xdb, 0xff, 0xff, 0xff, 0xff];
    big.extend_from_slice(&[b'x'; 100]);
    for (bytes, reason) in [
        (ack(&STANDARD.encode(other.encode())), "ack_unknown"),
        (ack("nobody's"), "ack_unknown"),
        (ack(""), "ack_unknown"),
        (vec![0x80], "answer_malformed"),
        (vec![0x81, 0x01, 0x02], "answer_malformed"),
        (vec![0xc1], "answer_malformed"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "answer_malformed"),
        (big, "answer_malformed"),
        (
            vec![0x92, 0xa4, b'H', b'E', b'L', b'O', 0x80],
            "shared_key_missing",
        ),
    ] {
        let (all, _) = heard(&mut outlet, &bytes);
        assert_eq!(all, [Err(reason)], "{bytes:x?}");
    }
    // Pairs that are not known are passed over.
    let id = STANDARD.encode(IDENTITY.encode());
    let mut wide = vec![0x82, 0xa1, b'x', 0x91, 0xc0];
    wide.extend_from_slice(&ack(&id)[1..]);
    assert_eq!(heard(&mut outlet, &wide).0, [Ok(Heard::Done(9))]);
}

fn with_key() -> Outlet {
    outlet(OutletOptions {
        shared_key: b"sesame".to_vec(),
        user: "u".to_owned(),
        password: b"pw".to_vec(),
        host: "here".to_owned(),
        ..OutletOptions::default()
    })
}

fn helo(auth: &[u8]) -> Vec<u8> {
    let mut out = vec![0x92];
    write_str(&mut out, b"HELO");
    out.push(0x83);
    write_str(&mut out, b"nonce");
    write_bin(&mut out, b"nonce...");
    write_str(&mut out, b"auth");
    write_bin(&mut out, auth);
    write_str(&mut out, b"keepalive");
    out.push(0xc3);
    out
}

fn pong(is_taken: bool, key: &[u8]) -> Vec<u8> {
    let mut out = vec![0x95];
    write_str(&mut out, b"PONG");
    out.push(if is_taken { 0xc3 } else { 0xc2 });
    write_str(&mut out, b"no");
    write_str(&mut out, b"there");
    write_str(
        &mut out,
        &hex_sha512(&[&[7; 16], b"there", b"nonce...", key]),
    );
    out
}

#[test]
fn a_shared_key_is_shown_and_asked_for() {
    let mut outlet = with_key();
    assert!(!outlet.hello(&mut Vec::new()), "the server speaks first");
    let (all, ping) = heard(&mut outlet, &helo(b"auth"));
    assert_eq!(all, [Ok(Heard::Alive)]);
    let ping = &read(&ping)[0];
    let text = |at: usize| ping[at].as_str().expect("text").as_bytes();
    assert_eq!(text(0), b"PING");
    assert_eq!(text(1), b"here");
    let key = hex_sha512(&[&[7; 16], b"here", b"nonce...", b"sesame"]);
    assert_eq!(text(3), key);
    assert_eq!(text(4), b"u");
    assert_eq!(text(5), hex_sha512(&[b"auth", b"u", b"pw"]));
    let (all, _) = heard(&mut outlet, &pong(true, b"sesame"));
    assert_eq!(all, [Ok(Heard::Ready)]);
}

#[test]
fn who_is_not_who_is_meant_gets_no_message() {
    let meet = |answers: &[Vec<u8>]| {
        let mut outlet = with_key();
        outlet.hello(&mut Vec::new());
        heard(&mut outlet, &answers.concat()).0.pop()
    };
    let refused = |reason| Some(Err(reason));
    assert_eq!(meet(&[ack("x")]), refused("helo_missing"));
    assert_eq!(
        meet(&[helo(b""), pong(false, b"sesame")]),
        refused("refused_by_peer")
    );
    assert_eq!(
        meet(&[helo(b""), pong(true, b"other")]),
        refused("shared_key_wrong")
    );
    assert_eq!(meet(&[helo(b""), helo(b"")]), refused("pong_missing"));
    let mut without = outlet(OutletOptions {
        shared_key: b"sesame".to_vec(),
        ..OutletOptions::default()
    });
    let (all, out) = heard(&mut without, &helo(b"auth"));
    assert_eq!((all, out), (vec![Err("user_missing")], Vec::new()));
}

fn entry_payload(tag: &str, entry: &[u8]) -> Vec<u8> {
    let length = weir_protocol::record::tag_length(tag.as_bytes()).expect("short");
    [&length[..], tag.as_bytes(), entry].concat()
}

#[test]
fn entries_stay_what_they_are_and_share_packets_by_tag() {
    let record = [0x81, 0xa1, b'a', 0xc4, 2, 0xff, 0xfe]; // {"a": bytes}
    let event_time = [0xd7, 0, 0, 0, 0, 9, 0, 0, 0, 1];
    let with_metadata = [&[0x92][..], &event_time, &[0x81, 0xa1, b'm', 1]].concat();
    let float = [&[0xcb][..], &1.5f64.to_be_bytes()].concat();
    let half = [0xd7, 0, 0, 0, 0, 1, 0x1d, 0xcd, 0x65, 0];
    for (time, expected) in [
        (&[7][..], &[7][..]),
        (&event_time, &event_time),
        (&with_metadata, &event_time),
        (&float, &half),
    ] {
        let mut outlet = outlet(OutletOptions::default());
        let mut out = Vec::new();
        let payload = entry_payload("app", &[time, &record].concat());
        let message = Message {
            severity: 1,
            form: Form::Entry,
            payload: &payload,
        };
        assert_eq!(outlet.push(&message, &STAMP, &mut out), Pushed::Taken);
        let len = out.len();
        let other = entry_payload("other", &[time, &record].concat());
        let other = Message {
            payload: &other,
            ..message
        };
        assert_eq!(outlet.push(&other, &STAMP, &mut out), Pushed::Other);
        assert_eq!(out.len(), len, "nothing was written");
        assert_eq!(outlet.push(&message, &STAMP, &mut out), Pushed::Taken);
        outlet.close(&IDENTITY, &mut out);
        assert_eq!(outlet.push(&other, &STAMP, &mut out), Pushed::Taken);
        outlet.close(&IDENTITY, &mut out);
        let packets = read(&out);
        assert_eq!(packets[0][0].as_str(), Some("app"));
        assert_eq!(packets[1][0].as_str(), Some("other"));
        let one = [&[0x92][..], expected, &record].concat();
        let entries = packets[0][1].as_slice().expect("bytes");
        assert_eq!(entries, [&one[..], &one].concat());
    }
}

#[test]
fn what_only_claims_to_be_an_entry_goes_as_text() {
    for payload in [
        &b""[..],
        &[0, 9, 1],
        &[0, 0],
        &[0, 0, 7],
        &[0, 0, 7, 7],
        &[0, 0, 0x92, 1],
    ] {
        let mut outlet = outlet(OutletOptions::default());
        let mut out = Vec::new();
        let message = Message {
            severity: 1,
            form: Form::Entry,
            payload,
        };
        outlet.push(&message, &STAMP, &mut out);
        outlet.close(&IDENTITY, &mut out);
        let entry = read(read(&out)[0][1].as_slice().expect("bytes")).remove(0);
        assert_eq!(entry[1][0].as_str(), None);
        assert!(entry[1].is_map(), "{payload:?}: {entry}");
    }
}
