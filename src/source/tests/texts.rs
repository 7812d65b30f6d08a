//! The vectors of `docs/SYSLOG.md`: each stream gives its messages, in any split.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use weir_protocol::Form;
use weir_source::{
    with_source, Coding, Element, Framing, Limits, Port, Protocol, Protocols, Source, Step, Stream,
    TextSettings,
};

/// What a stream comes to, as the document writes it.
#[derive(Debug)]
struct Vector {
    protocol: Protocol,
    settings: TextSettings,
    max: u32,
    stream: Vec<u8>,
    expected: String,
    line: String,
}

#[test]
fn every_vector_holds_in_any_split() {
    let vectors = vectors();
    assert!(vectors.len() >= 40, "{}", vectors.len());
    for vector in vectors {
        for size in [usize::MAX, 1, 2, 3, 7] {
            let said = outcome(&vector, size);
            assert_eq!(
                said, vector.expected,
                "in pieces of {size}: {}",
                vector.line
            );
        }
    }
}

/// What is not seen at once costs more: of a stream of usual messages only the first is not.
#[test]
fn usual_messages_are_seen_at_once() {
    let [hundred, thousand] = [95, 995].map(|bytes| "g".repeat(bytes));
    let counted = format!("<13>a\n10 <14>bcdefg100 <131>{hundred}1000 <131>{thousand}<9>x\n");
    for (protocol, stream) in [
        (Protocol::Syslog, counted.as_bytes()),
        (Protocol::Lines, b"a\nb\nc\nd\ne\n"),
        (Protocol::Ndjson, b"{\"a\":1}\n{}\n{}\nno\n{\"level\":1}\n"),
    ] {
        let vector = Vector {
            protocol,
            settings: TextSettings::DEFAULT,
            max: 1000,
            stream: stream.to_vec(),
            expected: String::new(),
            line: String::new(),
        };
        let run = run(&vector, usize::MAX);
        assert_eq!((run.plain, run.messages.len()), (4, 5), "{protocol:?}");
    }
}

/// A decoder of another kind, `texts_reference.py`: it sees the whole stream, and looks with regular expressions.
#[test]
fn a_second_decoder_finds_the_same_messages() {
    let mut runner = TestRunner::deterministic();
    let piece = prop::sample::select(pieces());
    let stream = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let framing = prop::sample::select(Framing::ALL.to_vec());
    let case = (stream, framing, any::<bool>(), 20..60_u32);
    let mut cases = Vec::new();
    let mut input = String::new();
    for _ in 0..6000 {
        let tree = case.new_tree(&mut runner).expect("a case");
        let (mut stream, framing, joins, max) = tree.current();
        if joins {
            // Whether an LF at the very end is of its line, nobody ever knows.
            stream.extend_from_slice(b"\n<13>end");
        }
        let settings = TextSettings { framing, joins };
        let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
        let join = if joins { "join" } else { "-" };
        let line = format!("{} {join} {max} {hex}", framing.as_str());
        input.push_str(&line);
        input.push('\n');
        cases.push(Vector {
            protocol: Protocol::Syslog,
            settings,
            max,
            stream,
            expected: String::new(),
            line,
        });
    }
    let Some(said) = reference(&input) else {
        eprintln!("skipped: there is no python3");
        return;
    };
    assert_eq!(said.lines().count(), cases.len());
    for (case, expected) in cases.iter().zip(said.lines()) {
        for size in [usize::MAX, 1, 5] {
            let run = run(case, size);
            let said = run.messages.join(" ");
            assert_eq!(
                said, expected,
                "in pieces of {size}: {} {:?}",
                case.line, run.seen
            );
        }
    }
}

/// What streams are made of.
fn pieces() -> Vec<Vec<u8>> {
    let packed = |text: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).expect("memory");
        let zlib = encoder.finish().expect("memory");
        [format!("{} z", zlib.len() + 1).as_bytes(), &zlib].concat()
    };
    let mut pieces: Vec<Vec<u8>> = [
        "<131>",
        "<13>text",
        "<192>",
        "<1",
        "<",
        ">",
        "\n",
        "\n",
        "\0",
        "\r\n",
        "\r",
        " ",
        "  ",
        "x",
        "é",
        "7",
        "12",
        "0",
        "6 <131>x",
        "9 <131>a\nb\n",
        "30 <131>",
        "4294967295 <1>",
        "99999999999 <1>",
        "5 ",
        "z",
        "a line of some length",
        "2026-11-29",
        "\u{feff}",
        "(x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    pieces.push(b"\xEF".to_vec());
    pieces.push(packed(b"<11>packed\n"));
    pieces.push(packed(&b"<11>a".repeat(30)));
    pieces
}

/// What the other decoder says.
fn reference(input: &str) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/texts_reference.py");
    let child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("it reads");
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).expect("ASCII"))
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../docs/SYSLOG.md");
    let mut is_inside = false;
    let mut all = Vec::new();
    for line in text.lines() {
        match line {
            "```texts" => is_inside = true,
            "```" => is_inside = false,
            _ if is_inside && !line.starts_with('#') => all.push(parse(line)),
            _ => {}
        }
    }
    all
}

/// `protocol options: "bytes" -> severity "text", ...`
fn parse(line: &str) -> Vector {
    let (head, rest) = line.split_once(": ").expect("a head");
    let (stream, expected) = rest.split_once(" -> ").expect("an outcome");
    let mut words = head.split(' ');
    let name = words.next().expect("a protocol");
    let protocol = Protocol::ALL.iter().find(|one| one.as_str() == name);
    let mut vector = Vector {
        protocol: *protocol.expect("a protocol"),
        settings: TextSettings::default(),
        max: 1000,
        stream: unescaped(stream),
        expected: expected.into(),
        line: line.into(),
    };
    for word in words {
        if let Some(framing) = Framing::ALL.iter().find(|one| one.as_str() == word) {
            vector.settings.framing = *framing;
        } else if let Some(max) = word.strip_prefix("max=") {
            vector.max = max.parse().expect("a number");
        } else {
            assert_eq!(word, "join");
            vector.settings.joins = true;
        }
    }
    vector
}

fn unescaped(quoted: &str) -> Vec<u8> {
    let inner = quoted
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let mut left = inner.expect("quotes").bytes();
    let mut out = Vec::new();
    while let Some(byte) = left.next() {
        out.push(match byte {
            b'\\' => match left.next().expect("an escape") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let hex = [left.next().expect("hex"), left.next().expect("hex")];
                    let hex = std::str::from_utf8(&hex).expect("ASCII");
                    u8::from_str_radix(hex, 16).expect("hex")
                }
                other => other,
            },
            other => other,
        });
    }
    out
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0 => out.push_str("\\0"),
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// What the stream comes to when it arrives in pieces of this size, and then ends.
fn outcome(vector: &Vector, size: usize) -> String {
    let seen = run(vector, size).seen;
    match seen.is_empty() {
        true => "nothing".into(),
        false => seen.join(", "),
    }
}

fn run(vector: &Vector, size: usize) -> Run {
    let port = Arc::new(Port {
        text: vector.settings,
        ..Port::new(Protocols::of(&[vector.protocol]))
    });
    let mut run = Run {
        stream: vector.protocol.start(&port),
        limits: Limits {
            frame_bytes_max: vector.max + 5,
        },
        plain: 0,
        seen: Vec::new(),
        messages: Vec::new(),
    };
    let mut carried = Vec::new();
    for piece in vector
        .stream
        .chunks(size.clamp(1, vector.stream.len().max(1)))
    {
        carried.extend_from_slice(piece);
        match run.steps(&carried) {
            Some(used) => drop(carried.drain(..used)),
            None => return run,
        }
    }
    with_source!(&mut run.stream, source => {
        if let Some(element) = source.ended(&carried, run.limits) {
            see(element, &mut run.seen, &mut run.messages);
        }
    });
    run
}

struct Run {
    stream: Stream,
    limits: Limits,
    /// Elements that were seen at once.
    plain: usize,
    /// As vectors have it.
    seen: Vec<String>,
    /// As the other decoder has it.
    messages: Vec<String>,
}

impl Run {
    /// Takes what can be taken; how much that is. None: the stream is refused.
    fn steps(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let mut inside = None;
            let rest = &bytes[at..];
            let plain = with_source!(&mut self.stream, source => {
                let plain = source.plain(rest, self.limits);
                plain.map(|(used, element)| format!("{:?}", Step::Element { used, element }))
            });
            let used = with_source!(&mut self.stream, source => match source.next(rest, self.limits) {
                Ok(step) if plain.as_ref().is_some_and(|plain| *plain != format!("{step:?}")) => {
                    panic!("{step:?} is no plain {plain:?}");
                }
                Err(_) => {
                    event("refused", &mut self.seen, &mut self.messages);
                    return None;
                }
                Ok(Step::NeedMore { bytes }) => {
                    assert!(bytes > rest.len(), "more than it has");
                    return Some(at);
                }
                Ok(Step::Element { used, element }) => {
                    see(element, &mut self.seen, &mut self.messages);
                    used
                }
                Ok(Step::Skipped { used, .. }) => {
                    event("skipped", &mut self.seen, &mut self.messages);
                    used
                }
                Ok(Step::Nothing { used }) => used,
                Ok(Step::Unpack { used, packed, coding, .. }) => {
                    assert_eq!(coding, Coding::Deflate);
                    inside = inflated(packed);
                    if inside.is_none() {
                        event("refused", &mut self.seen, &mut self.messages);
                        return None;
                    }
                    used
                }
                Ok(other) => panic!("{other:?}"),
            });
            assert!((1..=rest.len()).contains(&used), "{used}");
            with_source!(&mut self.stream, source => match plain {
                Some(_) => source.plain_taken(),
                None => source.taken(),
            });
            self.plain += usize::from(plain.is_some());
            at += used;
            if let Some(inside) = inside {
                with_source!(&mut self.stream, source => source.unpacked(inside.len()));
                assert_eq!(self.steps(&inside), Some(inside.len()));
            }
        }
        Some(at)
    }
}

/// None: it is no zlib stream, or has something behind it.
fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(packed);
    reader.read_to_end(&mut out).ok()?;
    (reader.total_in() == packed.len() as u64).then_some(out)
}

fn event(word: &str, seen: &mut Vec<String>, messages: &mut Vec<String>) {
    seen.push(word.into());
    messages.push(word.into());
}

fn see(element: Element, seen: &mut Vec<String>, messages: &mut Vec<String>) {
    let Element::Payload {
        severity,
        form,
        bytes,
    } = element
    else {
        panic!("{element:?}")
    };
    assert!(form != Form::Json || bytes.first() == Some(&b'{'));
    seen.push(format!("{severity} \"{}\"", escaped(bytes)));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    messages.push(format!("{severity}:{hex}"));
}
