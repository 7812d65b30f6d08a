//! A crowd of one address at a port: it fills all places for handshakes, and others come through at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use weir_testkit::numbered::numbered;
use weir_testkit::{until, Authority};

use super::abuse::hello;
use super::client::{Client, Manner};
use super::names::ask;
use super::{distributor, Payloads};

/// Connections of the crowd: more than there are places.
const CROWD: usize = 1_500;
/// Connections of a storm.
const STORM: usize = 160;

/// A connection from one of this host's addresses.
fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Says so much and no more on each of its connections; those that are closed come again.
fn crowd(address: SocketAddr, says: &[u8], stop: &AtomicBool) {
    let connect = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).ok()?;
        stream.write_all(says).ok()?;
        Some(stream)
    };
    let is_open = |stream: &mut TcpStream| {
        let mut some = [0; 8192];
        loop {
            match stream.read(&mut some) {
                Ok(1..) => {}
                Ok(_) => return false,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    };
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        all.retain_mut(is_open);
        let missing = CROWD - all.len();
        all.extend((0..missing).filter_map(|_| connect()));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_crowd_of_one_address_makes_room_at_once() {
    let authority = Authority::new("one-address");
    for (says, most) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], 500),
        (b"", 500),
        (&hello(&Manner::new(&authority.ca(), None)), 1_500),
    ] {
        let flags = format!(
            "{} --emitters-tls required --http 127.0.0.1:0",
            authority.pair("localhost").flags()
        );
        let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
        let (stop, address) = (Arc::new(AtomicBool::new(false)), distributor.emitters);
        let crowd = {
            let (stop, says) = (Arc::clone(&stop), says.to_vec());
            std::thread::spawn(move || crowd(address, &says, &stop))
        };
        let series = "weir_tls_refused_total{port=\"emitters\",reason=\"handshake_displaced\"} ";
        until(series, || ask(&distributor, "/metrics").contains(series));
        distributor.wait_log("of its address, and this one had come no further for ");
        let manner = Manner::new(&authority.ca(), None);
        let mut took: Vec<_> = (0..20)
            .map(|id| {
                let from = Instant::now();
                let socket = connect_from([127, 0, 0, 2], address).expect("a backlog");
                let patience = Some(Duration::from_secs(10));
                socket.set_read_timeout(patience).expect("a time");
                let mut client = manner.on(socket).expect("let in");
                let took = from.elapsed();
                client.send(&numbered(id, 60)).expect("let in");
                client.finish().expect("the end");
                took
            })
            .collect();
        took.sort();
        stop.store(true, Ordering::Relaxed);
        crowd.join().expect("a crowd");
        println!(
            "{} bytes of a hello: median {:?}, longest {:?}",
            says.len(),
            took[10],
            took[19]
        );
        assert!(took[10] < Duration::from_millis(most), "{took:?}");
        until("all messages", || analyzer.read() == 20);
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}

#[test]
fn behind_a_proxy_a_crowd_is_of_the_address_that_the_proxy_names() {
    let authority = Authority::new("named");
    let flags = format!(
        "{} --http 127.0.0.1:0 --input syslog@127.0.0.1:0?name=s&tls=required&proxy_from=127.0.0.1/32",
        authority.pair("localhost").flags()
    );
    for addresses in [16, 1] {
        let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
        let address = distributor.input("s");
        // Twice as many as there are places: those behind the first find out what came of these.
        let _crowd: Vec<_> = (0..2 * CROWD)
            .map(|n| {
                let mut stream = TcpStream::connect(address).expect("a backlog");
                let named = format!("PROXY TCP4 192.0.2.{} 127.0.0.1 7 6514\r\n", n % addresses);
                stream.write_all(named.as_bytes()).expect("sent");
                stream.write_all(b"\x16\x03\x01\x02\x00\x01").expect("sent");
                stream
            })
            .collect();
        // None of 16 has an eighth: they have a second, as everybody has.
        let said = match addresses {
            1 => "192.0.2.0 refused: 1024 handshakes were under way, 1024 of them of its address",
            _ => "1024 handshakes were under way, and this one had come no further for a second",
        };
        distributor.wait_log(said);
        let is_crowd = !distributor.lines("of its address").is_empty();
        assert_eq!(is_crowd, addresses == 1);
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}

#[test]
fn a_storm_of_one_address_that_goes_forward_comes_through() {
    let authority = Authority::new("storm");
    // Nearly all descriptors are asked for: some 30 places for handshakes are left.
    let (_, all) = rlimit::Resource::NOFILE.get().expect("a limit");
    let flags = format!(
        "{} --emitters-tls required --max-connections {}",
        authority.pair("localhost").flags(),
        all - 140
    );
    for slow_ms in [60, 400] {
        let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
        let manner = Manner::new(&authority.ca(), None);
        let (mut clients, mut round) = (Vec::new(), 0);
        while clients.len() < STORM || clients.iter().any(Client::is_shaking) {
            assert!(round < 100, "the storm is not over");
            // More than there are places.
            for _ in 0..40.min(STORM - clients.len()) {
                clients.push(manner.begin(distributor.emitters).expect("a backlog"));
            }
            // They share a host that is slow, or far away.
            std::thread::sleep(Duration::from_millis(slow_ms));
            let is_heard = |one: &Client| one.is_shaking() && one.0.sock.peek(&mut [0]).is_ok();
            let heard: Vec<_> = clients.iter_mut().filter(|one| is_heard(one)).collect();
            for client in heard {
                client.go_on().expect("nobody is displaced");
            }
            round += 1;
        }
        assert!(round > 4, "all had places at once: {round}");
        for (id, mut client) in (0..).zip(clients) {
            client.0.sock.set_nonblocking(false).expect("a socket");
            client.send(&numbered(id, 60)).expect("let in");
            client.finish().expect("the end");
        }
        until("all messages", || analyzer.read() == STORM);
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}
