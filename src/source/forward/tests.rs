use super::*;

mod oracle;

use crate::{render, Protocols};

const LIMITS: Limits = Limits {
    frame_bytes_max: 1 << 20,
};
const FACTS: Facts = Facts {
    instance: 7,
    units_max: 100,
    unit_bytes_max: 1 << 20,
    connection: 9,
};

/// What the engine is to a source: carries bytes, unpacks, and answers units at once when their elements are through.
struct Engine {
    source: Forward,
    bytes: Vec<u8>,
    /// Key of the unit that elements belong to, and those to come.
    unit: Option<(u64, Option<u32>)>,
    /// Its elements so far.
    elements: u32,
    said: Vec<String>,
    is_over: bool,
}

/// What a step comes to.
enum Went {
    On(usize),
    Inside(usize, Vec<u8>),
    NeedMore,
}

impl Engine {
    fn new(port: Port) -> Engine {
        Engine {
            source: Forward::start(&Arc::new(port)),
            bytes: Vec::new(),
            unit: None,
            elements: 0,
            said: Vec::new(),
            is_over: false,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        while !self.is_over && !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let used = match self.step(&bytes) {
                Went::On(used) => used,
                Went::Inside(used, inside) => {
                    self.source.unpacked(inside.len());
                    self.read_inside(&inside);
                    used
                }
                Went::NeedMore => {
                    self.bytes = bytes;
                    return;
                }
            };
            self.bytes = bytes[used..].to_vec();
        }
    }

    /// At last nothing is offered: a unit may end with what was unpacked.
    fn read_inside(&mut self, mut inside: &[u8]) {
        while !self.is_over {
            match self.step(inside) {
                Went::On(used) => inside = &inside[used..],
                Went::NeedMore if inside.is_empty() || self.is_over => return,
                Went::NeedMore | Went::Inside(..) => panic!("all of it is there"),
            }
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Went {
        let plain = self.source.plain(bytes, LIMITS);
        let plain = plain.map(|(used, element)| format!("{:?}", Step::Element { used, element }));
        // What was not taken has not happened.
        let first = format!("{:?}", self.source.next(bytes, LIMITS));
        let step = self.source.next(bytes, LIMITS);
        assert_eq!(format!("{step:?}"), first);
        if let (Some(plain), Ok(step)) = (&plain, &step) {
            assert_eq!(*plain, format!("{step:?}"));
        }
        let mut ended = None;
        let used = match step {
            Err(error) => {
                self.said.push(format!("error {error}"));
                self.is_over = true;
                return Went::NeedMore;
            }
            Ok(Step::NeedMore { bytes: more }) => {
                assert!(more > bytes.len(), "{more} of {}", bytes.len());
                return Went::NeedMore;
            }
            Ok(Step::Unpack {
                used,
                packed,
                coding,
                ..
            }) => match unpack(packed, coding) {
                Some(inside) => return Went::Inside(used, inside),
                None => {
                    self.said.push("error it is not packed so".into());
                    self.is_over = true;
                    return Went::NeedMore;
                }
            },
            Ok(Step::Element { used, element }) => {
                self.said.push(rendered(element));
                self.elements += 1;
                if let Some((key, Some(left))) = &mut self.unit {
                    assert!(*left > 0, "an element of a unit that has all of its own");
                    *left -= 1;
                    ended = Some(*key).filter(|_| *left == 0);
                }
                used
            }
            Ok(Step::Unit { used, unit }) => {
                let left = match unit.elements {
                    Elements::Exactly(left) => Some(left),
                    Elements::UntilEnd => None,
                };
                self.unit = Some((unit.key, left));
                self.elements = 0;
                ended = Some(unit.key).filter(|_| left == Some(0));
                used
            }
            Ok(Step::UnitEnd { used, elements }) => {
                assert_eq!(elements, self.elements);
                ended = self.unit.take().map(|(key, _)| key);
                used
            }
            Ok(Step::NoUnit { used }) => {
                self.unit = None;
                used
            }
            Ok(Step::Skipped { used, why }) => {
                self.said.push(format!("skip {}", name_of(why)));
                used
            }
            Ok(Step::Nothing { used }) => used,
            Ok(Step::End { used }) => {
                self.said.push("end".into());
                self.is_over = true;
                used
            }
            Ok(Step::Speaks(_)) => panic!("it speaks Forward"),
        };
        match plain {
            Some(_) => self.source.plain_taken(),
            None => self.source.taken(),
        }
        if let Some(key) = ended {
            self.answer(key);
        }
        Went::On(used)
    }

    fn answer(&mut self, key: u64) {
        let unit = Answered {
            key,
            is_refused: false,
            is_newest: true,
        };
        let mut out = Vec::new();
        self.source.answer(unit, &FACTS, &mut out);
        if !out.is_empty() {
            self.said.push(format!("ack {}", hex(&out)));
        }
    }
}

fn rendered(element: Element) -> String {
    let Element::Entry {
        severity,
        tag,
        entry,
    } = element
    else {
        panic!("{element:?}")
    };
    let (mut context, mut json) = (render::Context::default(), Vec::new());
    let bytes_max = LIMITS.frame_bytes_max as usize;
    let is_whole = render::entry(&mut context, tag, entry, bytes_max, &mut json);
    // The same again, where its message will lie.
    let mut room = vec![b'?'; render::usual_room(&context, entry)];
    if let Some(bytes) = render::usual(&context, tag, entry, &mut room) {
        assert!(!is_whole || room[..bytes] == json, "{room:?}");
    }
    format!("-> {severity} {}", String::from_utf8(json).expect("text"))
}

fn name_of(why: Oddity) -> &'static str {
    match why {
        Oddity::WrongShape => "wrong_shape",
        Oddity::GroupMark => "group_mark",
        Oddity::NotLogs => "not_logs",
        Oddity::KeyRefused => "key_refused",
        other => panic!("{other:?}"),
    }
}

fn unpack(packed: &[u8], coding: Coding) -> Option<Vec<u8>> {
    weir_inflate::inflate(coding, packed, 1 << 20).ok()
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

fn of_hex(text: &str) -> Vec<u8> {
    let bytes = text.split_whitespace();
    let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    bytes.collect()
}

/// What becomes of a stream that comes in pieces of so many bytes.
fn read(stream: &[u8], piece: usize) -> Vec<String> {
    read_at(port(), stream, piece)
}

fn port() -> Port {
    Port::new(Protocols::of(&[Protocol::Forward]))
}

fn read_at(port: Port, stream: &[u8], piece: usize) -> Vec<String> {
    let mut engine = Engine::new(port);
    for piece in stream.chunks(piece) {
        engine.feed(piece);
    }
    engine.said
}

/// The blocks of the document: name, bytes, what is said of them.
fn vectors() -> Vec<(String, Vec<u8>, Vec<String>)> {
    let text = include_str!("../../../docs/FORWARD.md");
    let (_, text) = text.split_once("```forward\n").expect("vectors");
    let (text, _) = text.split_once("```").expect("an end");
    let blocks = text.split("\n\n").map(|block| {
        let mut lines = block.trim().lines();
        let name = lines.next().and_then(|line| line.strip_prefix("# "));
        let bytes = of_hex(lines.next().expect("bytes"));
        let said = lines.map(str::to_owned).collect();
        (name.expect("a name").to_owned(), bytes, said)
    });
    blocks.collect()
}

#[test]
fn every_vector_of_the_document_holds_in_any_split() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 24, "a vector was added or removed");
    for (name, bytes, said) in &vectors {
        for piece in 1..=bytes.len() {
            assert_eq!(&read(bytes, piece), said, "{name}, in pieces of {piece}");
        }
    }
}

#[test]
fn every_vector_holds_behind_every_other() {
    for (first, before, expected) in &vectors() {
        for (second, after, then) in &vectors() {
            if expected.iter().any(|said| said.starts_with("error")) {
                continue;
            }
            let stream = [&before[..], after].concat();
            let said = [&expected[..], then].concat();
            assert_eq!(read(&stream, 7), said, "{first}, then {second}");
        }
    }
}

/// `[time, {"n": number}]`.
fn entry(number: u8) -> Vec<u8> {
    vec![0x92, number, 0x81, 0xa1, b'n', number]
}

fn said_of(number: u8) -> String {
    format!("-> 3 {{\"n\":{number},\"@timestamp\":\"1970-01-01T00:00:0{number}.000000000Z\",\"tag\":\"t\"}}")
}

fn bin(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("few");
    [&[0xc6][..], &len.to_be_bytes(), bytes].concat()
}

/// `["t", body, {"chunk": "1", ...more}]`.
fn outer(body: &[u8], more: &[&str]) -> Vec<u8> {
    let pairs = u8::try_from(1 + more.len() / 2).expect("few");
    let mut out = [&[0x93, 0xa1, b't'][..], body, &[0x80 | pairs]].concat();
    for text in ["chunk", "1"].iter().chain(more) {
        write_str(&mut out, text.as_bytes());
    }
    out
}

const ACK: &str = "ack 81 a3 61 63 6b a1 31";

/// More than are marked: the rest is looked at again.
#[test]
fn a_unit_of_many_entries_is_gone_through_to_its_end() {
    // A message, one that says how severe it is, a mark of a group, what is no entry, one with a long head.
    let kinds: [&[u8]; 5] = [
        &[0x92, 1, 0x81, 0xa1, b'n', 1],
        b"\x92\x02\x81\xa5level\xa5error",
        &[0x92, 0xff, 0x80],
        &[0xc0],
        &[0xdc, 0, 2, 3, 0x81, 0xa1, b'n', 3],
    ];
    let said = [
        said_of(1),
        "-> 1 {\"level\":\"error\",\"@timestamp\":\"1970-01-01T00:00:02.000000000Z\",\"tag\":\"t\"}".into(),
        "skip group_mark".into(),
        "skip wrong_shape".into(),
        said_of(3),
    ];
    for turns in [1, 800, 1200] {
        let entries = kinds.concat().repeat(turns);
        let count = u16::try_from(kinds.len() * turns)
            .expect("few")
            .to_be_bytes();
        let array = [&[0xdc][..], &count, &entries].concat();
        let all = said.iter().cycle().take(said.len() * turns).cloned();
        let expected: Vec<String> = all.chain([ACK.into()]).collect();
        for body in [bin(&entries), array] {
            for piece in [usize::MAX, 1000] {
                assert_eq!(read(&outer(&body, &[]), piece), expected, "{turns}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "zstd is a C library")]
fn compressed_entries_are_those_inside() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer
            .write_all(bytes)
            .and_then(|()| writer.finish())
            .expect("gzip")
    };
    let members = [gzip(&entry(1)), gzip(&[entry(2), entry(3)].concat())].concat();
    let mut zstd = Vec::with_capacity(1000);
    let all = [entry(1), entry(2), entry(3)].concat();
    zstd_safe::CCtx::create()
        .compress(&mut zstd, &all, 3)
        .expect("zstd");
    let expected = [said_of(1), said_of(2), said_of(3), ACK.into()];
    for (body, option) in [(&members, "gzip"), (&zstd, "zstd"), (&members, "text")] {
        let stream = outer(&bin(body), &["compressed", option]);
        for piece in [1, 10, 1000] {
            assert_eq!(
                read(&stream.repeat(2), piece),
                [&expected[..], &expected].concat()
            );
        }
    }
    let none = outer(&bin(&gzip(b"")), &[]);
    assert_eq!(read(&none.repeat(2), 1000), [ACK, ACK]);
    // What is broken inside is seen before anything of it is routed.
    let broken = outer(&bin(&gzip(&[entry(1), vec![0x92]].concat())), &[]);
    let error = format!("error {}", ForwardError::Entries);
    assert_eq!(read(&broken, 1000), [error]);
    let not = outer(&bin(&entry(1)), &["compressed", "gzip"]);
    let error = "error the option compressed is gzip, and the entries are not";
    assert_eq!(read(&not, 1000), [error]);
}

#[test]
fn what_is_larger_than_a_unit_is_read_while_it_comes() {
    let small = || Port {
        unit_bytes_max: 40,
        ..port()
    };
    let entries: Vec<Vec<u8>> = (1..=9).map(entry).collect();
    let values = [&[0x99][..], &entries.concat()].concat();
    let packed = bin(&entries.concat());
    let mut expected: Vec<String> = (1..=9).map(said_of).collect();
    for body in [&values, &packed] {
        // Without options it is no unit.
        let plain = [&[0x92, 0xa1, b't'][..], body].concat();
        assert_eq!(read_at(small(), &plain, 1000), expected);
        assert_eq!(read_at(small(), &plain, 1), expected);
    }
    expected.push(ACK.into());
    for body in [values, packed] {
        let stream = outer(&body, &["compressed", "text"]);
        for piece in [1, 5, 1000] {
            let said = read_at(small(), &stream.repeat(2), piece);
            assert_eq!(
                said,
                [&expected[..], &expected].concat(),
                "pieces of {piece}"
            );
        }
    }
    let gzip = outer(&bin(&[&[0x1f, 0x8b][..], &[0; 100]].concat()), &[]);
    let said = read_at(small(), &gzip, 1);
    assert!(
        said[0].contains("above the limit of 40 bytes (unit_bytes"),
        "{said:?}"
    );
    // An entry, a message, a length alone.
    let large = [&[0xda, 0, 200][..], &[b'x'; 200]].concat();
    for stream in [
        [
            &[0x92, 0xa1, b't', 0x91, 0x92, 0, 0x81, 0xa1, b'v'][..],
            &large,
        ]
        .concat(),
        [&[0x93, 0xa1, b't', 0, 0x81, 0xa1, b'v'][..], &large].concat(),
        [
            &[0x93, 0xa1, b't', 0xc6, 0xff, 0xff, 0xff, 0xff, 0x92][..],
            &large,
        ]
        .concat(),
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xdb, 0xff, 0xff, 0xff, 0xff],
    ] {
        let said = read_at(small(), &stream, 1);
        assert!(
            said.last()
                .is_some_and(|said| said.contains("the limit of 40 bytes")),
            "{said:?}"
        );
    }
}

#[test]
fn ids_come_back_as_they_came_up_to_their_limit() {
    for len in [1, 31, 32, 255, 256, CHUNK_BYTES_MAX] {
        let id: Vec<u8> = (0..=255).cycle().take(len).collect();
        let mut stream = vec![0x93, 0xa1, b't', 0x91, 0x92, 1, 0x81, 0xa1, b'n', 1, 0x81];
        write_str(&mut stream, b"chunk");
        write_str(&mut stream, &id);
        let mut ack = vec![0x81, 0xa3, b'a', b'c', b'k'];
        write_str(&mut ack, &id);
        assert_eq!(
            read(&stream, 100),
            [said_of(1), format!("ack {}", hex(&ack))]
        );
    }
    let long = "x".repeat(CHUNK_BYTES_MAX + 1);
    let mut stream = vec![0x93, 0xa1, b't', 0x90, 0x81];
    write_str(&mut stream, b"chunk");
    write_str(&mut stream, long.as_bytes());
    let said = read(&stream, 100);
    assert_eq!(
        said,
        ["error a chunk id of 512 bytes is above the limit of 511 bytes"]
    );
}

#[test]
fn a_chunk_that_comes_again_has_the_same_name() {
    let name = |stream: &[u8]| {
        let mut source = Forward::start(&Arc::new(port()));
        match source.next(stream, LIMITS) {
            Ok(Step::Unit { unit, .. }) => unit.join.expect("a name"),
            other => panic!("{other:?}"),
        }
    };
    let first = outer(&[0x91, 0x92, 1, 0x80], &[]);
    let names = [
        outer(&[0x91, 0x92, 1, 0x80], &[]),
        outer(&[0x91, 0x92, 2, 0x80], &[]),
        [&first[..first.len() - 1], b"2"].concat(),
    ];
    let same = names.map(|stream| name(&stream) == name(&first));
    assert_eq!(same, [true, false, false]);
}

#[test]
fn units_that_are_open_are_answered_in_their_order() {
    let mut ids = Ids::default();
    for id in [b"a", b"b", b"c"] {
        ids.begin(Some(ChunkId::from(&id[..])));
    }
    assert_eq!(ids.take(1).as_deref(), Some(&b"a"[..]));
    assert_eq!(ids.take(3).as_deref(), Some(&b"c"[..]));
    assert_eq!(ids.take(3), None);
}

#[test]
fn bytes_begin_forward_or_they_do_not() {
    let begins = |bytes: &[u8]| Forward::begins(bytes, LIMITS).ok();
    for (bytes, expected) in [
        (&[][..], Some(false)),
        (&[0x93], Some(false)),
        (&[0x93, 0xa1], Some(true)),
        (&[0x92, 0xc4], Some(true)),
        (&[0x92, 0x01], None),
        (&[0xc0], Some(true)),
        (&[0xdc, 0, 3], Some(false)),
        (&[0xdc, 0, 3, 0xd9], Some(true)),
        (&[0xdd, 0, 0, 0, 2, 0xdb], Some(true)),
        (&[0xdd, 0, 0, 1], None),
        (b"<13>", None),
        (b"[\"tag\"", None),
        (&[0, 0, 0], None),
    ] {
        assert_eq!(begins(bytes), expected, "{bytes:x?}");
    }
}

fn keyed(users: &[(&str, &str)]) -> Port {
    let users = users
        .iter()
        .map(|(name, password)| (name.to_string(), password.to_string()));
    Port {
        forward: Some(Secrets {
            hostname: "weir-h".into(),
            shared_key: b"secret".to_vec(),
            users: users.collect(),
            seed: [5; 32],
        }),
        ..port()
    }
}

/// What the connection number 9 is greeted with.
fn greeted() -> Greeting {
    Greeting::new(keyed(&[]).forward.as_ref().expect("a key"), 9)
}

fn ping(key: &[u8], user: &str, password: &str) -> Vec<u8> {
    let mut out = vec![0x96];
    let digest = auth::hex_sha512(&[b"0123456789abcdef", b"client", &greeted().nonce, key]);
    let pass = auth::hex_sha512(&[&greeted().auth, user.as_bytes(), password.as_bytes()]);
    for text in [
        &b"PING"[..],
        b"client",
        b"0123456789abcdef",
        &digest,
        user.as_bytes(),
        &pass,
    ] {
        write_str(&mut out, text);
    }
    out
}

#[test]
fn who_knows_the_key_is_let_in() {
    let mut engine = Engine::new(keyed(&[]));
    let mut helo = Vec::new();
    engine.source.greeting(&FACTS, &mut helo);
    let nonce = hex(&greeted().nonce);
    let expected = format!(
        "92 a4 48 45 4c 4f 83 a5 6e 6f 6e 63 65 c4 10 {nonce} a4 61 75 74 68 c4 00 a9 6b 65 65 70 61 6c 69 76 65 c3"
    );
    assert_eq!(hex(&helo), expected);
    engine.feed(&[ping(b"secret", "", ""), outer(&[0x90], &[])].concat());
    let digest = auth::hex_sha512(&[b"0123456789abcdef", b"weir-h", &greeted().nonce, b"secret"]);
    let mut pong = vec![0x95];
    write_str(&mut pong, b"PONG");
    pong.push(0xc3);
    for text in [&b""[..], b"weir-h", &digest] {
        write_str(&mut pong, text);
    }
    assert_eq!(engine.said, [format!("ack {}", hex(&pong)), ACK.into()]);
}

#[test]
fn who_does_not_is_told_so_and_closed() {
    let refused = |why: &str| {
        let mut pong = vec![0x95];
        write_str(&mut pong, b"PONG");
        pong.push(0xc2);
        for text in [why, "", ""] {
            write_str(&mut pong, text.as_bytes());
        }
        format!("ack {}", hex(&pong))
    };
    let users = [("u", "p")];
    for (users, ping, why) in [
        (&[][..], ping(b"other", "", ""), "shared key mismatch"),
        (
            &users,
            ping(b"secret", "", ""),
            "username/password mismatch",
        ),
        (
            &users,
            ping(b"secret", "u", "q"),
            "username/password mismatch",
        ),
        (&users, ping(b"other", "u", "p"), "shared key mismatch"),
    ] {
        let mut engine = Engine::new(keyed(users));
        engine.source.greeting(&FACTS, &mut Vec::new());
        engine.feed(&[ping, outer(&[0x90], &[])].concat());
        assert_eq!(
            engine.said,
            [refused(why), "skip key_refused".into(), "end".into()]
        );
    }
    let mut engine = Engine::new(keyed(&users));
    engine.source.greeting(&FACTS, &mut Vec::new());
    engine.feed(&ping(b"secret", "u", "p"));
    assert!(
        engine.said[0].starts_with("ack 95 a4 50 4f 4e 47 c3"),
        "{:?}",
        engine.said
    );
    // No PING, and a PING that is no end of it.
    for first in [outer(&[0x91, 0x92, 1, 0x80], &[]), vec![0xdb, 0, 1, 0, 0]] {
        let mut engine = Engine::new(keyed(&[]));
        engine.feed(&first);
        assert!(engine.said[0].starts_with("error "), "{:?}", engine.said);
    }
}

#[test]
fn secrets_are_not_shown() {
    let text = format!("{:?}", keyed(&[("user", "pass")]));
    assert!(!text.contains("secret") && !text.contains("pass"), "{text}");
}
