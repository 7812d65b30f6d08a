//! What a reload changes of an input, and what it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_testkit::{until, Analyzer, Dialect, Distributor, Options, Scratch};

/// Whether a connection stays open when it sends nothing whole.
fn may_stay(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(&[0]).expect("sent");
    let patience = Some(Duration::from_millis(300));
    stream.set_read_timeout(patience).expect("a socket");
    let read = stream.read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn networks_of_an_input_change_with_a_reload_and_are_not_left_out_by_mistake() {
    let scratch = Scratch::new("inputs-reload");
    let file = scratch.path("weir.toml");
    let write = |allow: &str| {
        let text = format!(
            "[[inputs]]\nname = 'in'\nprotocol = 'frames'\nlisten = '127.0.0.1:0'\n{allow}\n"
        );
        std::fs::write(&file, text).expect("written");
    };
    write("allow = ['192.0.2.0/24']");
    let distributor = Distributor::start(&format!("--shards 1 --config {}", file.display()));
    let input = distributor.input("in");
    assert!(!may_stay(input), "from another network");

    write("allow = ['192.0.2.0/24', '127.0.0.0/8']");
    distributor.signal("-HUP");
    distributor.wait_log("reloaded");
    until("it may", || may_stay(input));

    write("");
    distributor.signal("-HUP");
    let why = distributor.wait_log("not reloaded");
    assert!(why.contains("inputs.in has no allow any more"), "{why}");

    // Its last lines say what came where.
    let mut stream = TcpStream::connect(input).expect("it listens");
    stream.write_all(b"\0\0\0\x07\x01hi").expect("sent");
    let analyzer = Analyzer::connect(
        distributor.analyzers,
        &Options::new(Dialect::Native, 1.0).strangers(),
    );
    until("it has come", || analyzer.read() == 1);
    drop(stream);
    let ended = distributor.stop();
    ended.assert_clean();
    let says = |text: &str| ended.stdout.lines().any(|line| line.contains(text));
    assert!(
        says("input emitters: 0 connections, 0 messages"),
        "{}",
        ended.stdout
    );
    assert!(
        says(" 1 messages, 7 bytes, 0 units unanswered; refused: "),
        "{}",
        ended.stdout
    );
    assert!(says("address_not_allowed "), "{}", ended.stdout);
}
