//! A port that takes both: who speaks TLS, and who does not.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use weir_testkit::http::Client;
use weir_testkit::numbered::numbered;
use weir_testkit::{assert_exactly_once, until, Authority};

use super::client::Manner;
use super::{distributor, Payloads};

#[test]
fn who_is_silent_at_first_is_let_in_without_tls() {
    let authority = Authority::new("both");
    let server = authority.pair("localhost").flags();
    let (distributor, analyzer) = distributor(
        &format!("{server} --emitters-tls optional"),
        Payloads::Numbered,
    );
    let mut silent = TcpStream::connect(distributor.emitters).expect("connected");
    // A byte that both may begin with: what follows tells.
    let mut slow = TcpStream::connect(distributor.emitters).expect("connected");
    slow.write_all(&[22]).expect("written");
    let manner = Manner::new(&authority.ca(), None);
    let mut secured = manner.connect(distributor.emitters).expect("let in");
    secured.send(&numbered(0, 60)).expect("let in");
    std::thread::sleep(Duration::from_millis(1500));
    silent.write_all(&numbered(1, 60)).expect("let in");
    drop((silent, slow));
    secured.finish().expect("the end");
    until("both messages", || analyzer.read() == 2);
    drop(analyzer);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 2);
}

/// Connections of either kind, one after the other in each of so many threads.
const THREADS: u64 = 4;
const CONNECTIONS: u64 = 60;
const MESSAGES: u64 = 50;

/// Messages of one connection, in pieces that cut them.
fn send(socket: &mut impl Write, from: u64) {
    let bytes: Vec<u8> = (from..from + MESSAGES)
        .flat_map(|id| numbered(id, 90))
        .collect();
    for piece in bytes.chunks(331) {
        socket.write_all(piece).expect("let in");
        socket.flush().expect("let in");
    }
}

/// What lies where in receive memory depends on the order of all that came, with TLS and without: a mistake in it
/// gives the bytes of one connection to another.
#[test]
fn connections_with_and_without_tls_share_receive_memory() {
    let authority = Authority::new("shared");
    let server = authority.pair("localhost").flags();
    for ports in [
        "--emitters-tls optional",
        "--emitters-tls off --input frames@127.0.0.1:0?name=tls&tls=required",
    ] {
        let flags = format!("{server} --http 127.0.0.1:0 {ports}");
        let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
        let http = distributor.http.expect("a port");
        let plain = distributor.emitters;
        let secured = match ports.contains("optional") {
            true => plain,
            false => distributor.input("tls"),
        };
        let threads: Vec<_> = (0..THREADS * 2)
            .map(|thread| {
                let manner = Manner::new(&authority.ca(), None);
                std::thread::spawn(move || {
                    for connection in 0..CONNECTIONS {
                        let from = (thread * CONNECTIONS + connection) * MESSAGES;
                        if thread % 2 == 0 {
                            send(&mut TcpStream::connect(plain).expect("it listens"), from);
                            continue;
                        }
                        let mut client = manner.connect(secured).expect("let in");
                        send(&mut client.0, from);
                        client.finish().expect("the end");
                    }
                })
            })
            .collect();
        // Requests share memory with nobody who speaks TLS here, but with handshakes they did.
        let mut client = Client::connect(http);
        while !threads.iter().all(std::thread::JoinHandle::is_finished) {
            client.send(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(client.answer().status, 200);
        }
        for thread in threads {
            thread.join().expect("it was let in");
        }
        let all = THREADS * 2 * CONNECTIONS * MESSAGES;
        until("all messages", || analyzer.read() as u64 >= all);
        assert_exactly_once(&[&analyzer], 0..all);
        drop(analyzer);
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, all);
    }
}
