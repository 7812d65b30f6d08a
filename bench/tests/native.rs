//! The native sink against a distributor of two shards that is written out by hand: one link per
//! shard, batches cut anywhere, a redelivered batch, cumulative ACKs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");
const MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];

/// Accepts one link, checks its hello and welcomes it as link of `shard`.
fn welcome(listener: &TcpListener, wanted: u16, shard: u16) -> TcpStream {
    let (mut link, _) = listener.accept().expect("the sink connects");
    let mut hello = [0; 32 + 6];
    link.read_exact(&mut hello).expect("hello");
    assert_eq!(hello[..6], [0xD7, 0x45, 0x49, 0x52, 1, 0]);
    assert_eq!(hello[6..8], wanted.to_be_bytes());
    assert_eq!(hello[8..16], 0.5f64.to_be_bytes());
    assert_eq!(hello[30..], *b"\0\x06sink-0");
    let mut answer = [MAGIC.as_slice(), &[1, 0, 0, 2]].concat();
    answer.extend_from_slice(&shard.to_be_bytes());
    answer.resize(32, 0);
    link.write_all(&answer).expect("welcome");
    link
}

/// A batch of stamped messages, 40 bytes each.
fn batch(first: u64, is_redelivered: bool, numbers: &[u64]) -> Vec<u8> {
    let mut body = Vec::new();
    for number in numbers {
        if is_redelivered {
            body.extend_from_slice(&[0xEE; 8]);
        }
        body.extend_from_slice(&[0, 0, 0, 40, 3]);
        body.extend_from_slice(&0u64.to_be_bytes());
        body.extend_from_slice(b"weir");
        body.extend_from_slice(&number.to_be_bytes());
        body.extend_from_slice(&[b'x'; 15]);
    }
    let mut out = vec![0x10, u8::from(is_redelivered), 0, 0];
    out.extend_from_slice(&(numbers.len() as u32).to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&body);
    out
}

/// Reads ACKs until one covers `sequence`; none may go beyond.
fn await_ack(link: &mut TcpStream, sequence: u64) {
    loop {
        let mut ack = [0; 9];
        link.read_exact(&mut ack).expect("an ACK");
        assert_eq!(ack[0], 1);
        let acked = u64::from_be_bytes(ack[1..].try_into().expect("8 bytes"));
        assert!(acked <= sequence, "ACK of {acked}, sent {sequence}");
        if acked == sequence {
            return;
        }
    }
}

#[test]
fn one_link_per_shard_and_every_batch_acked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let sink = Command::new(BENCH)
        .args([
            "sink",
            "--dialect",
            "native",
            "--weights",
            "0.5",
            "--analyzers",
            &address,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sink starts");
    // The first link may land on any shard; the other one is then asked for by number.
    let mut on_one = welcome(&listener, 0xFFFF, 1);
    let mut on_zero = welcome(&listener, 0, 0);

    on_one
        .write_all(&batch(1, false, &[0, 1, 2]))
        .expect("sent");
    await_ack(&mut on_one, 3);
    let (head, tail) = (batch(1, false, &[3, 4]), batch(3, true, &[2, 5]));
    let both = [head, vec![0x11], tail].concat();
    on_zero.write_all(&both[..70]).expect("sent");
    on_zero.write_all(&both[70..]).expect("sent");
    await_ack(&mut on_zero, 4);

    drop((on_one, on_zero));
    let output = sink.wait_with_output().expect("ends with its links");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("sent 6, delivered 6, lost 0, twice 1, foreign 0"),
        "{text}"
    );
    assert!(text.contains("flagged redelivered 2"), "{text}");
    assert_eq!(output.status.code(), Some(1), "a duplicate is not exact");
}
