//! Forms: an analyzer that asks is told what each message is and where it came from; nobody else gets a byte more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{json, Value};
use weir::protocol::described;
use weir::protocol::native::{BatchCursor, Hello, LinkWord, Welcome};
use weir_testkit::inputs::forward::{put_chunk_begin, put_entry};
use weir_testkit::{until, Distributor};

/// A native analyzer that is nothing but its socket.
struct Link {
    socket: TcpStream,
    bytes: Vec<u8>,
    cursor: Option<BatchCursor>,
    received: u64,
}

/// A message: form, input, protocol, peer, tag, severity, text. Without a description its fields are empty.
type Told = (String, String, String, String, String, u8, String);

impl Link {
    fn connect(distributor: &Distributor, id: &str, forms: bool) -> Link {
        let mut hello = Vec::new();
        let said = Hello {
            shard: None,
            weight: 1.0,
            window_bytes: 0,
            window_messages: 0,
            id,
            token: b"",
            instance: Some(7),
            forms,
        };
        said.encode(&mut hello).expect("valid");
        let mut socket = TcpStream::connect(distributor.analyzers).expect("it listens");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("a socket");
        socket.write_all(&hello).expect("sent");
        let mut link = Link {
            socket,
            bytes: Vec::new(),
            cursor: None,
            received: 0,
        };
        loop {
            if let Some((welcome, used)) = Welcome::decode(&link.bytes).expect("a WELCOME") {
                assert_eq!(welcome.refused, None);
                link.bytes.drain(..used);
                return link;
            }
            link.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let read = self.socket.read(&mut buffer).expect("in time");
        assert!(read > 0, "closed");
        self.bytes.extend_from_slice(&buffer[..read]);
    }

    /// The next frame, as it came.
    fn frame(&mut self) -> Vec<u8> {
        loop {
            let mut rest = &self.bytes[..];
            match &mut self.cursor {
                Some(cursor) => {
                    if let Some(message) = cursor.next(&mut rest).expect("valid") {
                        let (frame, used) = (message.frame.to_vec(), self.bytes.len() - rest.len());
                        self.bytes.drain(..used);
                        self.received += 1;
                        return frame;
                    }
                    if cursor.left_count() == 0 {
                        self.cursor = None;
                        continue;
                    }
                }
                None => match LinkWord::decode(rest).expect("a word") {
                    Some((LinkWord::Batch(header), used)) => {
                        self.cursor = Some(BatchCursor::new(&header, 1 << 20));
                        self.bytes.drain(..used);
                        continue;
                    }
                    Some((_, used)) => {
                        self.bytes.drain(..used);
                        continue;
                    }
                    None => {}
                },
            }
            self.read();
        }
    }

    fn told(&mut self) -> Told {
        let frame = self.frame();
        let (about, severity, message) = described::read(&frame).expect("a message");
        let message = String::from_utf8(message.to_vec()).expect("text");
        let Some(about) = about else {
            let none = String::new;
            return (none(), none(), none(), none(), none(), severity, message);
        };
        (
            about.kind.as_str().to_owned(),
            about.input.to_owned(),
            about.protocol.to_owned(),
            about.peer.to_owned(),
            String::from_utf8(about.tag.to_vec()).expect("text"),
            severity,
            message,
        )
    }

    fn ack(&mut self) {
        let word = [&[1][..], &self.received.to_be_bytes()].concat();
        self.socket.write_all(&word).expect("sent");
    }
}

fn told(form: &str, input: &str, protocol: &str, tag: &str, severity: u8, text: &str) -> Told {
    let [form, input, protocol, tag, text] = [form, input, protocol, tag, text].map(str::to_owned);
    let peer = match input.is_empty() {
        true => String::new(),
        false => "127.0.0.1".to_owned(),
    };
    (form, input, protocol, peer, tag, severity, text)
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(bytes).expect("sent");
    stream
}

/// A message of Forward, in a chunk of its own.
fn forward(tag: &str, text: &str) -> Vec<u8> {
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    put_entry(&mut entries, text);
    put_chunk_begin(&mut bytes, tag, entries.len());
    bytes.extend_from_slice(&entries);
    // No options: no ack.
    bytes[0] = 0x93;
    bytes.push(0x80);
    bytes
}

const INPUTS: &str = "--shards 1 --ack-presume 1s --input syslog@127.0.0.1:0?name=udp&transport=udp --input syslog@127.0.0.1:0?name=sys --input lines@127.0.0.1:0?name=plain --input ndjson@127.0.0.1:0?name=nd --input forward@127.0.0.1:0?name=fluent";

#[test]
fn a_native_link_that_asks_is_told_form_input_protocol_peer_and_tag() {
    let distributor = Distributor::start(INPUTS);
    let mut link = Link::connect(&distributor, "asks", true);
    distributor.wait_lanes(1);
    let at = |name: &str| distributor.input(name);
    let line = "<11>1 2026-01-01T00:00:00Z h a - - - x";
    let cases = [
        (at("sys"), format!("{line}\n").into_bytes()),
        (at("plain"), b"a line\n".to_vec()),
        (at("nd"), b"{\"level\":\"debug\",\"a\":1}\n".to_vec()),
        (at("fluent"), forward("app.web", "hi")),
        (distributor.emitters, b"\0\0\0\x07\x82ok".to_vec()),
    ];
    let expected = [
        told("syslog", "sys", "syslog", "", 1, line),
        told("line", "plain", "lines", "", 3, "a line"),
        told(
            "json",
            "nd",
            "ndjson",
            "",
            4,
            "{\"level\":\"debug\",\"a\":1}",
        ),
        told("json", "fluent", "forward", "app.web", 3, ""),
        // The bit of a description is no emitter's.
        told("raw", "emitters", "frames", "", 2, "ok"),
    ];
    for ((address, bytes), expected) in cases.into_iter().zip(expected) {
        let _stream = send(address, &bytes);
        let mut message = link.told();
        if expected.1 == "fluent" {
            assert!(message.6.contains("\"log\":\"hi\""), "{message:?}");
            message.6.clear();
        }
        assert_eq!(message, expected);
        link.ack();
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.send_to(b"<12>d", at("udp")).expect("sent");
    assert_eq!(link.told(), told("syslog", "udp", "syslog", "", 2, "<12>d"));
    link.ack();
    distributor.stop().assert_clean();
}

#[test]
fn descriptions_end_where_an_analyzer_did_not_ask_and_do_not_survive_one_that_did_not() {
    let distributor = Distributor::start(INPUTS);
    let mut asks = Link::connect(&distributor, "asks", true);
    distributor.wait_lanes(1);
    let lines: Vec<String> = (0..20).map(|n| format!("<14>line {n}")).collect();
    let _sender = send(
        distributor.input("sys"),
        format!("{}\n", lines.join("\n")).as_bytes(),
    );
    let first: Vec<String> = (0..20).map(|_| asks.told().6).collect();
    assert_eq!(first, lines);
    let mut heir = Link::connect(&distributor, "heir", true);
    distributor.wait_log("analyzer=heir");
    drop(asks);
    for line in &lines {
        assert_eq!(heir.told(), told("syslog", "sys", "syslog", "", 3, line));
    }
    let mut plain = Link::connect(&distributor, "plain", false);
    distributor.wait_log("analyzer=plain");
    drop(heir);
    // Nothing was ACKed: all of it comes here, without a byte that was not there before.
    for line in &lines {
        let frame = plain.frame();
        assert_eq!(frame[4], 3, "{frame:?}");
        assert_eq!(String::from_utf8_lossy(&frame[5..]), line.as_str());
    }
    let mut asks = Link::connect(&distributor, "asks again", true);
    distributor.wait_log("analyzer=\"asks again\"");
    drop(plain);
    // What its lane did not remember is not made up.
    for line in &lines {
        assert_eq!(asks.told(), told("", "", "", "", 3, line));
    }
    asks.ack();
    distributor.stop().assert_clean();
}

/// An analyzer over HTTP that keeps every body.
struct Posts {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Posts {
    fn start() -> Posts {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Posts { address, bodies }
    }

    fn messages(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().expect("no panic while held");
        let messages = bodies.iter().map(|body| body["messages"].clone());
        messages
            .flat_map(|messages| messages.as_array().cloned().unwrap_or_default())
            .collect()
    }
}

/// Answers 200 to each request, until there is none.
fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Value>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        while let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a length"));
            let Some(body) = bytes.get(head + 4..head + 4 + length) else {
                break;
            };
            if length > 0 {
                let body = serde_json::from_slice(body).expect("JSON");
                kept.lock().expect("no panic while held").push(body);
            }
            bytes.drain(..head + 4 + length);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_post_says_in_its_json_what_each_message_is_where_the_url_asks() {
    let (asks, plain) = (Posts::start(), Posts::start());
    let distributor = Distributor::start(&format!(
        "{INPUTS} --http-analyzer asks=1@http://{}?forms=1 --http-analyzer plain=1@http://{}/",
        asks.address, plain.address
    ));
    distributor.wait_lanes(2);
    let at = |name: &str| distributor.input(name);
    // Each twice: of two analyzers with the same weight each gets every second one.
    for (address, bytes) in [
        (at("sys"), b"<165>1 - h a - - - x\n".to_vec()),
        (at("nd"), b"{\"level\":\"fatal\",\"a\":[1]}\n".to_vec()),
        (at("nd"), b"{\"a\":\n".to_vec()),
        (at("fluent"), forward("app.web", "hi")),
        (distributor.emitters, b"\0\0\0\x07\x01ok".to_vec()),
    ] {
        let before = asks.messages().len() + plain.messages().len();
        let _stream = send(address, &[bytes.clone(), bytes].concat());
        until("both have one more", || {
            asks.messages().len() + plain.messages().len() == before + 2
        });
    }
    let mut told = asks.messages();
    for message in &mut told {
        let message = message.as_object_mut().expect("an object");
        for own in ["id", "timestamp"] {
            assert!(message.remove(own).is_some(), "{message:?}");
        }
    }
    let of =
        |input: &str| -> Vec<&Value> { told.iter().filter(|it| it["input"] == input).collect() };
    let syslog = json!({"level": "info", "message": "<165>1 - h a - - - x", "source": "tcp", "form": "syslog",
        "severity": 3, "facility": 20, "input": "sys", "protocol": "syslog", "peer": "127.0.0.1"});
    assert_eq!(of("sys"), [&syslog]);
    let good = json!({"level": "fatal", "message": {"level": "fatal", "a": [1]}, "source": "tcp", "form": "json",
        "severity": 0, "input": "nd", "protocol": "ndjson", "peer": "127.0.0.1"});
    let bad = json!({"level": "info", "message": "{\"a\":", "source": "tcp", "form": "raw",
        "severity": 3, "input": "nd", "protocol": "ndjson", "peer": "127.0.0.1"});
    assert_eq!(of("nd"), [&good, &bad]);
    let [entry] = of("fluent")[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (&entry["tag"], &entry["message"]["log"]),
        (&json!("app.web"), &json!("hi"))
    );
    assert_eq!(of("emitters").len(), 1);
    for message in plain.messages() {
        let has = |name: &str| message.get(name).is_some();
        assert!(!has("form") && !has("input") && !has("peer"), "{message}");
    }
    distributor.stop().assert_clean();
}
