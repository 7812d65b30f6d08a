//! A message has one identity wherever it is seen: in a chunk's id of Forward, on a native link, as `_id` of a document,
//! and among the links that the audit lists. Shown by joining them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::Value;
use weir::ledger::journal::{Arrival, Journal};
use weir_testkit::decode::Decoder;
use weir_testkit::inputs::marked;
use weir_testkit::process::run;
use weir_testkit::receiver::Receiver;
use weir_testkit::{reports, socket, until, wire, Dialect, Distributor, Scratch};

use super::send;
use super::server::{Habit, Server, Speaks};

const MESSAGES: u64 = 900;

/// Instance, shard, epoch and sequence, as `_id` has them. A chunk's id does not say the shard: the epoch is enough.
type Identity = (u64, u64, u64, u64);

/// Reads `_id`s back.
fn of_document(id: &str) -> Identity {
    let mut parts = id.split('-');
    let mut part = || parts.next().expect("four parts");
    let instance = u64::from_str_radix(part(), 16).expect("hexadecimal");
    let mut number = || part().parse().expect("a number");
    (instance, number(), number(), number())
}

/// A chunk's id: instance, epoch, and the sequence of its first message.
fn of_chunk(id: &str) -> (u64, u64, u64) {
    let bytes = STANDARD.decode(id).expect("base64");
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(bytes.len(), 24);
    (word(0), word(8), word(16))
}

/// A native analyzer that reads and ACKs nothing.
struct Native {
    stream: TcpStream,
    decoder: Decoder,
    held: Vec<u8>,
    instance: u64,
    /// Number of a message, and the identity that it came with.
    seen: BTreeMap<u64, Identity>,
}

impl Native {
    fn connect(distributor: &Distributor) -> Native {
        let mut stream = socket::connect(distributor.analyzers);
        let hello = wire::first_word(Dialect::Native, 1.0, "native", None);
        stream.write_all(&hello).expect("writes");
        let (welcome, _) = socket::read_welcome(&mut stream);
        let glance = Duration::from_millis(20);
        stream.set_read_timeout(Some(glance)).expect("option");
        Native {
            stream,
            decoder: Decoder::new(Dialect::Native),
            held: Vec::new(),
            instance: welcome.instance,
            seen: BTreeMap::new(),
        }
    }

    fn read(&mut self) {
        let mut some = [0; 4096];
        if let Ok(len) = self.stream.read(&mut some) {
            self.held.extend_from_slice(&some[..len]);
        }
        let (instance, seen) = (self.instance, &mut self.seen);
        let used = self.decoder.decode(&self.held, |message| {
            let it = message.identity.expect("native");
            let mark = marked::find(message.frame).expect("a mark");
            let identity = (instance, u64::from(it.shard), it.epoch, it.sequence);
            seen.insert(mark, identity);
        });
        self.held.drain(..used.expect("batches"));
    }
}

#[test]
fn a_message_has_one_identity_wherever_it_is_seen() {
    let scratch = Scratch::new("outlets-identity");
    let Some(documents) = Receiver::start(&scratch, "es", &[]) else {
        return;
    };
    let mut forward = Server::start(Speaks::Forward, Habit::Never);
    let report = scratch.path("d.json").display().to_string();
    let analyzers = [
        format!("forward=1@forward://{}", forward.address),
        format!("es=1@{}", documents.url(&scratch, "")),
    ];
    let distributor = super::distributor(&analyzers, &format!("--report {report}"));
    let mut native = Native::connect(&distributor);
    distributor.wait_lanes(3);
    send(&distributor, 0, MESSAGES);
    // Who dies takes nothing along: what it had is with the next, under the same identity.
    let third = MESSAGES as usize / 3;
    until("all have their share", || {
        native.read();
        native.seen.len() >= third && forward.read().len() >= third
    });
    forward.kill();
    let chunks = forward.chunks();
    let of_forward: BTreeSet<u64> = forward.read().into_iter().collect();
    until("the native one has some of the dead one's", || {
        native.read();
        native.seen.keys().any(|mark| of_forward.contains(mark))
    });
    let seen = std::mem::take(&mut native.seen);
    drop(native);
    until("all are documents", || {
        documents.messages().len() as u64 >= MESSAGES
    });
    distributor.stop().assert_clean();

    let text = |it: &Value, name: &str| it[name].as_str().expect("text").to_owned();
    let by_mark: BTreeMap<u64, Identity> = documents
        .messages()
        .iter()
        .map(|it| {
            let mark = marked::find(text(it, "text").as_bytes());
            (mark.expect("a mark"), of_document(&text(it, "id")))
        })
        .collect();
    assert_eq!(by_mark.len() as u64, MESSAGES, "each is a document");
    for (mark, identity) in &seen {
        assert_eq!(by_mark[mark], *identity, "message {mark}: native and _id");
    }
    let mut twice = 0;
    for (id, marks) in &chunks {
        let (instance, epoch, first) = of_chunk(id);
        for (sequence, mark) in (first..).zip(marks) {
            let (it, _, of, number) = by_mark[mark];
            assert_eq!(
                (it, of, number),
                (instance, epoch, sequence),
                "message {mark}"
            );
            twice += usize::from(seen.contains_key(mark));
        }
    }
    assert!(twice > 0, "none was seen in a chunk and on the native link");
    let audited = audit(&scratch, &report);
    for (mark, identity) in &by_mark {
        let (instance, shard, epoch, sequence) = *identity;
        let link = audited.iter().find(|link| {
            link["instance"] == format!("{instance:016x}")
                && (&link["shard"], &link["epoch"]) == (&shard.into(), &epoch.into())
        });
        let link = link.unwrap_or_else(|| panic!("message {mark}: no link {identity:?}"));
        assert!(
            link["assigned"].as_u64() >= Some(sequence),
            "{link}, {sequence}"
        );
    }
    let links: BTreeSet<u64> = by_mark.values().map(|it| it.2).collect();
    assert_eq!(links.len(), 3, "first given to each of the three");
    eprintln!(
        "{MESSAGES} documents: {} also in chunks, {} also on a native link, {twice} in all three; {} links in the audit",
        of_forward.len(),
        seen.len(),
        audited.len()
    );
}

/// The links of a verdict as JSON.
fn audit(scratch: &Scratch, report: &str) -> Vec<Value> {
    let emitter = scratch.write("e.json", &reports::emitter("e", MESSAGES, true));
    let folder = scratch.path("journals");
    let mut journal = Journal::open(&folder, "es", 3).expect("own file");
    for sequence in 1..=MESSAGES {
        journal.note(b"e/0", sequence, Arrival::Plain);
    }
    journal.flush().expect("own file");
    let [emitter, folder] = [emitter, folder].map(|path| path.display().to_string());
    let output = run(&["audit", "--json", report, &emitter, &folder]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let verdict: Value = serde_json::from_str(&said).expect("JSON");
    verdict["links"].as_array().expect("links").clone()
}
