//! Seeds: the hex vectors of `docs/PROTOCOL.md` as inputs of the targets that read such bytes, and one
//! hand-written input or more for each other target. `tests/fuzz.rs` keeps the files in `corpus` equal
//! to them.

use weir::source::Protocol;
use weir_testkit::sessions;
use weir_testkit::vectors::{self, Vector};

use super::TARGETS;

/// A corpus file: target, file name, contents.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for vector in vectors::all() {
        seeds.extend(of_vector(&vector, seeds.len()));
    }
    seeds.extend(of_texts());
    seeds.extend(of_operations());
    seeds.extend(of_http());
    seeds.extend(of_proxies());
    seeds.extend(of_texts_of_senders());
    seeds.extend(of_sessions());
    seeds.extend(of_forward());
    seeds.extend(of_outlets());
    for (target, name, _) in &seeds {
        assert!(TARGETS.iter().any(|(known, _)| known == target), "{name}");
    }
    seeds
}

/// Its bytes, and settings that make the target read them as what they are.
fn of_vector(vector: &Vector, number: usize) -> Option<Seed> {
    let Vector { kind, bytes, .. } = vector;
    let after = |word: &str| match vector.events.iter().any(|event| event == word) {
        true => bytes.len() as u8,
        false => u8::MAX,
    };
    let (target, settings) = match kind.split('-').next()? {
        "frame" => ("frames", vec![0, 0, 0, 0, 0, 1]),
        "detect" => (
            "detect",
            vec![0, 0, 1, after("silence"), u8::MAX, after("deadline")],
        ),
        "hello" => ("native", vec![0, 0, 1]),
        "welcome" => ("native", vec![1, 0, 1]),
        "batch" | "link" => ("native", vec![2, 0, 1, 0]),
        "emitter" if kind == "emitter-hello" => ("sources", vec![0, 1, 0, 1]),
        "emitter" => return None,
        dialect => {
            let dialect = ["typed", "compact", "native"]
                .iter()
                .position(|d| *d == dialect)?;
            match kind.ends_with("-first") {
                true => ("detect", vec![1 + dialect as u8, 0, 1, 255, 255, 255]),
                false => ("control", vec![dialect as u8, 0, 1]),
            }
        }
    };
    Some((
        target,
        format!("vector-{number:02}-{kind}"),
        [&settings[..], bytes].concat(),
    ))
}

/// A HELLO and three batches of an emitter, the last of them resent.
fn acked_link() -> Vec<u8> {
    let mut link = Vec::new();
    for vector in vectors::all() {
        if vector.kind == "emitter-hello" && vector.error().is_none() {
            link.extend_from_slice(&vector.bytes);
        }
    }
    let frames = [0, 0, 0, 6, 3, 9, 0, 0, 0, 5, 3];
    for (number, flags) in [(1, 0), (3, 2), (5, 1)] {
        let (count, body) = (2, frames.len() as u8);
        link.extend([0x10, flags, 0, 0, 0, 0, 0, count, 0, 0, 0, body]);
        link.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]);
        link.extend(frames);
    }
    link
}

/// Values of flags and command lines, the reference documents' own among them.
fn of_texts() -> Vec<Seed> {
    let values = [
        (0, "500us"),
        (0, "1.5s"),
        (0, "2m"),
        (0, "876000h"),
        (0, "-0s"),
        (0, "9.999999999s"),
        (1, "60"),
        (1, "250ms"),
        (1, "1e3"),
        (1, "inf"),
        (2, "4096"),
        (2, "256KiB"),
        (2, "2 GiB"),
        (2, "18446744073709551615"),
        (2, "17179869184GiB"),
        (3, "0.25"),
        (3, "-0"),
        (3, "NaN"),
        (3, "1e400"),
        (4, "3s=0.5"),
        (4, "1ms=0"),
        (4, "=="),
    ];
    let lines = [
        "weir distributor --emitters 127.0.0.1:0 --cores 0 --arena 64MiB --on-slow wait --dialect typed",
        "distributor -latency-budget=1ms -ack-timeout 5s -peer-timeout=4s -max-frame 64MiB",
        "weir distributor --shards 2 --without send-zc,min-wait --max-connections 18446744073709551615",
        "emitter -rate=500 -duration=60 -id=emitter-1 -addr localhost:8080 -size=256",
        "weir emitter --count 5 --batch 4096 --connections 2 --threads 2 --severity 255 --json",
        "analyzer -weight=0.4 -id=analyzer-1 -ack-every=10 -verbose=true",
        "weir analyzer --weight-after 3s=0.5 --dialect compact --delay 50us --record /dev/null",
        "weir demo --duration 1m --rate 100 --shards 1",
        "weir --help", "weir analyzer -h", "weir -V", "weir emitter -- -rate",
    ];
    let text = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let zeros = |line: &str| line.replace(' ', "\0") + "\0";
    let values = values
        .iter()
        .enumerate()
        .map(|(n, (which, value))| ("values", format!("value-{n:02}"), text(*which, value)));
    let lines = lines
        .iter()
        .enumerate()
        .map(|(n, line)| ("arguments", format!("line-{n:02}"), text(0, &zeros(line))));
    let flag = |which: u8| [&[1, which % 4, which % 3, which, which][..], b"0-1,3\0"].concat();
    let flags = (0..24).map(|n| ("arguments", format!("flag-{n:02}"), flag(n)));
    values.chain(lines).chain(flags).collect()
}

/// Starting points for what is a list of operations.
fn of_operations() -> Vec<Seed> {
    // Four leaves of kind 9; a run of units; a leaf leaves; a run; a new table; a run.
    let table = |count: u8, kind: u8| [0, count, kind, 0, 0, 0, 0, 0, 0, 0, 7];
    let run = [5, 0, 200];
    let tree: Vec<u8> = [
        &[0, 0][..],
        &table(3, 9),
        &run,
        &[3, 0, 1],
        &run,
        &table(7, 6),
        &run,
    ]
    .concat();
    let churn: Vec<u8> = [
        &[1, 3][..],
        &table(6, 1),
        &run,
        &[4, 4, 4],
        &run,
        &[2, 9, 0, 40],
        &run,
    ]
    .concat();
    // Sends of two shards, taken, ACKed in part, credited, ACKed back, polled late.
    let steps = [
        0, 0, 1, 3, 0, 0, 2, 4, 1, 2, 0, 5, 5, 3, 0, 9, 6, 40, 7, 1, 7, 3, 2, 255, 255, 5,
    ];
    let link = |dialect: u8, jumps: u8| [&[dialect, jumps, 4][..], &steps].concat();
    // Three analyzers, offers, sends, ACKs, a death, a re-route, a return.
    let engine = [
        213, 0, 0, 213, 1, 3, 213, 2, 5, 10, 0, 4, 3, 20, 30, 40, 50, 60, 0, 90, 0, 0, 130, 0, 0,
        155, 0, 0, 10, 0, 6, 2, 0, 90, 1, 8, 225, 1, 0, 190, 90, 0, 8, 90, 2, 8, 155, 0, 0, 155, 2,
        200, 9, 213, 1, 1, 10, 0, 5, 7, 1, 0, 90, 3, 8, 240, 1, 5, 235, 255, 213, 0, 0, 190, 90, 0,
        8,
    ];
    let frames = [0, 0, 0, 6, 3, 9, 0, 0, 0, 5, 3, 0, 0, 1, 44];
    let mut seeds = vec![
        ("tree", "operations-0".into(), tree),
        ("tree", "operations-1".into(), churn),
        (
            "engine",
            "operations-0".into(),
            [&[0, 0, 0, 0, 0, 0][..], &engine].concat(),
        ),
        (
            "engine",
            "operations-1".into(),
            [&[4, 1, 2, 3, 3, 1][..], &engine].concat(),
        ),
        (
            "frames",
            "two-emitters".into(),
            [&[0, 1, 1, 0, 0, 9][..], &frames, &frames].concat(),
        ),
        (
            "sources",
            "undecided".into(),
            [&[0, 1, 0, 9][..], &frames].concat(),
        ),
        (
            "sources",
            "frames".into(),
            [&[1, 0, 3, 1][..], &frames].concat(),
        ),
        (
            "sources",
            "acked".into(),
            [&[2, 1, 3, 1][..], &acked_link()].concat(),
        ),
        (
            "sources",
            "undecided-acked".into(),
            [&[0, 1, 0, 9][..], &acked_link()].concat(),
        ),
        (
            "frames",
            "small-memory".into(),
            [&[0, 2, 2, 2, 0, 9][..], &frames, &frames].concat(),
        ),
    ];
    for dialect in 0..3 {
        for jumps in [0, 7, 15, 31] {
            seeds.push((
                "link",
                format!("operations-{dialect}-{jumps:02}"),
                link(dialect, jumps),
            ));
        }
    }
    for what in 3..6 {
        let fields: Vec<u8> = (0..120)
            .map(|n| if n % 9 == 8 { b'a' } else { n % 5 })
            .collect();
        seeds.push((
            "native",
            format!("encode-{what}"),
            [&[what, 0, 9][..], &fields].concat(),
        ));
    }
    seeds
}

/// `gzip -n` of a packet, and a zstd frame of one raw block with another.
const GZIP: &str = "1f8b0800000000000203ab564acdcd2c29492df24c51b2524a54d251ca4d2d2e4e4c4f2d56b28aae56ca492d4bcd014a942716e529d5c6d60200b859fe552f000000";
const ZSTD: &str =
    "28b52ffd20210901007b22656d69747465724964223a227a222c226d65737361676573223a5b7b7d5d7d";

/// Requests, bodies, answers and frames.
fn of_http() -> Vec<Seed> {
    let packet = r#"{"emitterId":"web-1","messages":[{"timestamp":"2024-01-15T10:30:00Z","level":"info",
        "message":"a \u00e9","source":"auth","metadata":{"ip":[1,{"a":2.5e1}]},"x":1},{}],"metadata":{"b":null},"y":[]}"#;
    let post = |headers: &str, body: &str| {
        format!("POST /logs?emitterId=a HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{body}")
    };
    let sized = post(&format!("Content-Length: {}", packet.len()), packet);
    let chunked = post(
        "Transfer-Encoding: chunked\r\nExpect: 100-continue",
        "5;a=b\r\n{\"emi\r\n1a\r\ntterId\":\"a\",\"messages\":[]}\r\n0\r\nT: x\r\n\r\n",
    );
    let get = "GET /health HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\n";
    let coded = |coding: &str, hex: &str| {
        let digits = hex.as_bytes().chunks(2);
        let text = digits.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        let body: Vec<u8> = text
            .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
            .collect();
        let headers = format!(
            "Content-Encoding: {coding}\r\nContent-Length: {}",
            body.len()
        );
        [post(&headers, "").as_bytes(), &body].concat()
    };
    let lines = "{\"level\":\"ERROR\",\"a\":1}\n\n\"text\"\r\n[1]\n";
    let answers = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nhi\
                   HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 503 x\r\nConnection: close\r\n\r\n";
    let frames = [
        0, 0, 0, 7, 1, b'h', b'"', 0, 0, 0, 5, 0, 0, 0, 0, 7, 9, 0xFF, 10,
    ];
    let seeds: [(&str, u8, Vec<u8>); 11] = [
        ("sized", 0, sized.clone().into_bytes()),
        ("chunked", 0, chunked.clone().into_bytes()),
        ("get", 0, get.as_bytes().to_vec()),
        ("pipelined", 0, [get, &chunked, get].concat().into_bytes()),
        ("gzip", 0, coded("gzip", GZIP)),
        ("zstd", 0, coded("zstd", ZSTD)),
        (
            "two-framings",
            0,
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            )
            .into_bytes(),
        ),
        ("packet", 3, packet.as_bytes().to_vec()),
        ("lines", 4, lines.as_bytes().to_vec()),
        ("answers", 5, answers.as_bytes().to_vec()),
        ("frames", 6, frames.to_vec()),
    ];
    let settings = |what: u8| [what, 0, 9];
    let seed = |(name, what, bytes): (&str, u8, Vec<u8>)| {
        (
            "http",
            name.to_string(),
            [&settings(what)[..], &bytes].concat(),
        )
    };
    seeds.into_iter().map(seed).collect()
}

/// PROXY headers: what is said of a client, and what cannot be.
fn of_proxies() -> Vec<Seed> {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 4, 2, 2];
    let v6 = [&[0x20, 1, 13, 0xB8][..], &[0; 27], &[1, 0, 1, 2, 2]].concat();
    let binary = |command: u8, family: u8, body: &[u8]| {
        let fixed = [command, family, 0, body.len() as u8];
        [&[2][..], &fixed, body, b"6 <131>x"].concat()
    };
    let text = |line: &str| [&[0], line.as_bytes()].concat();
    let seeds = [
        (
            "text-4",
            text("PROXY TCP4 192.0.2.1 198.51.100.7 56324 514\r\n<13>x\n"),
        ),
        (
            "text-6",
            text("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 65535\r\n"),
        ),
        ("text-unknown", text("PROXY UNKNOWN ffff:: what ever\r\n")),
        (
            "text-bad-port",
            text("PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n"),
        ),
        ("binary-4", binary(0x21, 0x11, &v4)),
        (
            "binary-4-tlv",
            binary(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()),
        ),
        ("binary-6", binary(0x21, 0x21, &v6)),
        ("binary-local", binary(0x20, 0, &[])),
        ("binary-unix", binary(0x21, 0x31, &[b'a'; 216])),
        ("binary-short", binary(0x21, 0x21, &v4)),
    ];
    let seed = |(name, bytes): (&str, Vec<u8>)| ("proxy", name.to_string(), bytes);
    seeds.into_iter().map(seed).collect()
}

/// What senders send in the sessions of their pages.
fn of_sessions() -> Vec<Seed> {
    let lumberjack = include_str!("../../docs/LUMBERJACK.md");
    let relp = include_str!("../../docs/RELP.md");
    let mut seeds = of_page("lumberjack", lumberjack, sessions::hex);
    seeds.extend(of_page("relp", relp, sessions::text));
    seeds
}

fn of_page(protocol: &'static str, page: &str, bytes_of: fn(&str) -> Vec<u8>) -> Vec<Seed> {
    let seed = |(index, session): (usize, &Vec<&str>)| {
        let sent = session.iter().filter_map(|line| line.strip_prefix("C "));
        let bytes: Vec<u8> = sent.flat_map(bytes_of).collect();
        let name = format!("session-{index:02}");
        (protocol, name, [&[1, 0, 7][..], &bytes].concat())
    };
    sessions::sessions(page)
        .iter()
        .enumerate()
        .map(seed)
        .collect()
}

/// Syslog and other texts. The low bits of the second setting are the framing.
fn of_texts_of_senders() -> Vec<Seed> {
    let packed = [
        0x78, 0x9c, 0xb3, 0x31, 0x34, 0xb4, 0x2b, 0x48, 0x4c, 0xce, 0x4e, 0x4d, 0xe1, 0x02, 0x00,
        0x13, 0x24, 0x03, 0x4f,
    ];
    let zip = [b"<11>a\n20 z", &packed[..], b"<11>b\n"].concat();
    let seeds: [(Protocol, u8, &[u8]); 10] = [
        (
            Protocol::Syslog,
            0,
            b"<131>a\n6 <131>b \n<12>c\0\xEF\xBB\xBF<1>d\r\n2026-11-29 e\n<192>f",
        ),
        (
            Protocol::Syslog,
            0,
            b"300 <131>this is above the limit of 40 bytes <13> and goes on, and on\n",
        ),
        (Protocol::Syslog, 0, &zip),
        (
            Protocol::Syslog,
            4,
            b"<11>Traceback\n  File\n<11>next\n6 <131>x\n 7 \n",
        ),
        (Protocol::Syslog, 2, b"<11>line1\nline2\0<11>x"),
        (Protocol::Syslog, 3, b"6 <131>x 3 abc\n2 de<1>"),
        (Protocol::Syslog, 0, b"\x78\x01"),
        (
            Protocol::Lines,
            0,
            b"a\r\n\n<11>b\n a line that is longer than a frame of 40 bytes may be\nc",
        ),
        (
            Protocol::Ndjson,
            0,
            b"{\"level\":\"warn\",\"a\":[1,{}]}\n{\"severity\":50}\nplain\n{\n",
        ),
        (
            Protocol::Gelf,
            0,
            b"{\"version\":\"1.1\",\"level\":3}\0{}\n\0",
        ),
    ];
    let seed = |(index, (protocol, framing, bytes)): (usize, (Protocol, u8, &[u8]))| {
        let name = format!("text-{index:02}");
        let bytes = [&[0, 0, framing][..], bytes].concat();
        (protocol.as_str(), name, bytes)
    };
    seeds.into_iter().enumerate().map(seed).collect()
}

/// The vectors of `docs/FORWARD.md`, each as it is and read while it comes.
fn of_forward() -> Vec<Seed> {
    let text = include_str!("../../docs/FORWARD.md");
    let (_, text) = text.split_once("```forward\n").unwrap_or_default();
    let (text, _) = text.split_once("```").unwrap_or_default();
    let blocks = text.split("\n\n").filter_map(|block| block.lines().nth(1));
    let seed = |(index, hex): (usize, &str)| {
        let byte = |word| u8::from_str_radix(word, 16).expect("hex");
        let bytes: Vec<u8> = hex.split_whitespace().map(byte).collect();
        let settings = [2, 0, if index % 2 == 0 { 1 } else { 9 }];
        let name = format!("vector-{index:02}");
        ("forward", name, [&settings[..], &bytes].concat())
    };
    blocks.enumerate().map(seed).collect()
}

/// What servers say to outlets that have sent three packets of two messages.
fn of_outlets() -> Vec<Seed> {
    let settings = |flags| vec![flags, 3, 1, 6];
    let seed = |target, name: &str, flags, said: &[&[u8]]| {
        let bytes = [settings(flags), said.concat()].concat();
        (target, format!("vector-{name}"), bytes)
    };
    let open = b"1 rsp 60 200 OK\nrelp_version=0\nrelp_software=weir,0.1\ncommands=syslog\n";
    let ack = |id: &[u8]| [&b"\x81\xa3ack\xd9\x20"[..], id].concat();
    // Identities: instance 1, link 2, first message 1 and 3, in base64.
    let ids = [
        &b"AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAAB"[..],
        b"AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAAD",
    ];
    let helo = b"\x92\xa4HELO\x83\xa5nonce\xc4\x0412345\xa4auth\xc4\x00\xa9keepalive\xc3";
    vec![
        seed(
            "hear_relp",
            "answers",
            0,
            &[open, b"2 rsp 6 200 OK\n3 rsp 3 500\n0 serverclose 0\n"],
        ),
        seed("hear_relp", "refused", 0, &[b"1 rsp 10 500 no way\n"]),
        seed("hear_relp", "other-number", 0, &[open, b"3 rsp 6 200 OK\n"]),
        seed(
            "hear_lumberjack",
            "window",
            0,
            &[b"2A\0\0\0\x02", b"2A\0\0\0\0", b"2A\0\0\0\x01"],
        ),
        seed(
            "hear_lumberjack",
            "cumulative",
            1,
            &[b"2A\0\0\0\x02", b"2A\0\0\0\x04", b"2A\0\0\0\x07"],
        ),
        seed("hear_lines", "all", 0, &[b"0\n2\n2\n6\n"]),
        seed("hear_lines", "beyond", 0, &[b"1\n7\n"]),
        seed("hear_lines", "back", 0, &[b"4\n3\n"]),
        seed(
            "hear_lines",
            "long",
            0,
            &[b"00000000000000000002\n184467440737095516160\n"],
        ),
        seed(
            "hear_lines",
            "words",
            0,
            &[b"1\nTraceback (most recent call last):\n"],
        ),
        seed("hear_forward", "acks", 0, &[&ack(ids[1]), &ack(ids[0])]),
        seed("hear_forward", "helo", 2, &[helo]),
    ]
}
