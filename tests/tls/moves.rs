//! Connections that go to another shard, with what is under way on them.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use weir_testkit::numbered::{check_numbered, numbered};
use weir_testkit::{until, Authority, Distributor, PATIENCE};

use super::client::{Client, Manner};

const MESSAGES: usize = 6_000;
const BYTES: usize = 300;

/// One that takes little at a time: what it does not read soon waits at the other end.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(2048).expect("an option");
    socket.set_tcp_mss(536).expect("an option");
    socket.connect(&address.into()).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    TcpStream::from(socket)
}

/// Reads frames until all clients together have all, and ACKs them.
fn read(client: &mut Client, all: &AtomicUsize) -> Vec<u64> {
    let (mut bytes, mut part, mut ids) = (Vec::new(), [0; 4096], Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while all.load(Ordering::Relaxed) < MESSAGES {
        assert!(Instant::now() < deadline, "{} frames came", ids.len());
        match client.0.read(&mut part) {
            Ok(0) => break,
            Ok(len) => bytes.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => panic!("after {} frames: {error}", ids.len()),
        }
        let whole = bytes.len() / (5 + BYTES) * (5 + BYTES);
        ids.extend(bytes[..whole].chunks(5 + BYTES).map(check_numbered));
        bytes.drain(..whole);
        all.fetch_add(whole / (5 + BYTES), Ordering::Relaxed);
    }
    let count = u32::try_from(ids.len()).expect("a few");
    let ack = [&[0][..], &count.to_be_bytes()].concat();
    client.send(&ack).expect("it is there");
    ids
}

/// Reference analyzers with long chains get tickets that are as long. They do not read them, so that these are on their way
/// still when the link goes to the shard that has fewest. What it is sent there is its own, and each message comes once.
#[test]
fn a_link_goes_to_another_shard_while_tls_has_something_to_say() {
    const LINKS: usize = 6;
    let authority = Authority::new("moves");
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 2 --analyzers-tls required --tls-client-ca {} {}",
        authority.ca().display(),
        authority.pair("localhost").flags()
    );
    let distributor = Distributor::start(&flags);
    let shown = authority.pair("a1");
    let manner = Manner::new(&authority.ca(), Some(&shown)).with_ca_behind(40);
    let mut clients: Vec<Client> = (0..LINKS)
        .map(|_| {
            let mut client = manner.on(narrow(distributor.analyzers)).expect("let in");
            client.send(&1f64.to_be_bytes()).expect("its weight");
            let glance = Some(Duration::from_millis(100));
            client.0.sock.set_read_timeout(glance).expect("an option");
            client
        })
        .collect();
    until("links", || distributor.lines("analyzer up").len() == LINKS);
    distributor.wait_lanes(LINKS);
    let mut emitter = TcpStream::connect(distributor.emitters).expect("connects");
    for id in 0..MESSAGES as u64 {
        std::io::Write::write_all(&mut emitter, &numbered(id, BYTES)).expect("taken");
    }
    drop(emitter);
    std::thread::sleep(Duration::from_millis(500));
    let all = AtomicUsize::new(0);
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let readers: Vec<_> = { clients.iter_mut() }
            .map(|client| scope.spawn(|| read(client, &all)))
            .collect();
        let read = readers.into_iter().map(|one| one.join().expect("no panic"));
        read.flatten().collect()
    });
    let different: HashSet<&u64> = ids.iter().collect();
    assert_eq!((ids.len(), different.len()), (MESSAGES, MESSAGES));
    distributor.stop().assert_clean();
}
