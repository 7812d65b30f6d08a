//! A document's id is the identity of its message, as a native analyzer reads it: shown by joining them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use weir_testkit::decode::Decoder;
use weir_testkit::{socket, until, wire, Dialect, Scratch};

use super::{distributor, send_texts, texts, Receiver};

const MESSAGES: usize = 400;

#[test]
fn a_message_that_a_dead_analyzer_had_is_a_document_of_the_same_identity() {
    let scratch = Scratch::new("requests-identity");
    let Some(receiver) = Receiver::start(&scratch, "es", &[]) else {
        return;
    };
    let distributor = distributor(&[receiver.url(&scratch, "")], "");
    let mut native = socket::connect(distributor.analyzers);
    let hello = wire::first_word(Dialect::Native, 1.0, "native", None);
    native.write_all(&hello).expect("writes");
    let (welcome, _) = socket::read_welcome(&mut native);
    distributor.wait_lanes(2);
    send_texts(&distributor, &texts(MESSAGES));
    // It reads its share, ACKs nothing, and dies.
    let mut seen = BTreeMap::new();
    let (mut decoder, mut held, mut some) = (Decoder::new(Dialect::Native), Vec::new(), [0; 4096]);
    native
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("option");
    until("it has its share", || {
        if let Ok(len) = native.read(&mut some) {
            held.extend_from_slice(&some[..len]);
        }
        let used = decoder.decode(&held, |message| {
            let identity = message.identity.expect("native");
            let text = String::from_utf8_lossy(&message.frame[5..]).into_owned();
            let id = format!(
                "{:016x}-{}-{}-{}",
                welcome.instance, identity.shard, identity.epoch, identity.sequence
            );
            seen.insert(id, text);
        });
        held.drain(..used.expect("batches"));
        seen.len() >= MESSAGES / 2
    });
    drop(native);
    until("all are documents", || receiver.texts().len() == MESSAGES);
    let documents: BTreeMap<String, String> = receiver
        .messages()
        .iter()
        .map(|it| {
            (
                it["id"].as_str().expect("an id").to_owned(),
                it["text"].as_str().expect("text").to_owned(),
            )
        })
        .collect();
    assert_eq!(documents.len(), MESSAGES, "no id twice");
    for (id, text) in &seen {
        assert_eq!(documents.get(id), Some(text), "{id}");
    }
    println!(
        "{} of {MESSAGES} documents have an id that the dead analyzer read",
        seen.len()
    );
}
