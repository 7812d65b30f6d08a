//! Peers that take without giving: others keep their rate, and all are gone after their deadlines.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_testkit::numbered::numbered;
use weir_testkit::{until, Authority};

use super::client::Manner;
use super::halves::half;
use super::{distributor, Payloads};

/// Goes on until it is told to stop, with so many connections at a time.
type Kind = fn(SocketAddr, &Manner, usize, &AtomicBool);

/// What hostile peers do, each in a thread.
const KINDS: [(&str, Kind); 9] = [
    ("one byte a second", drip),
    ("silent", silent),
    ("silent behind the handshake", silent_behind),
    ("half a record behind the handshake", half_behind),
    ("hellos and no more", hellos),
    ("empty records", empty),
    ("lengths of 65,535", long),
    ("key updates", updates),
    ("chains of 100 certificates", chains),
];

/// `WEIR_TLS_HOSTILE` connections of all kinds together.
fn crowd() -> usize {
    let asked = std::env::var("WEIR_TLS_HOSTILE").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(200)
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    let glance = Some(Duration::from_millis(50));
    stream.set_read_timeout(glance).ok()?;
    stream.set_write_timeout(glance).ok()?;
    Some(stream)
}

fn goes_on(stop: &AtomicBool) -> bool {
    std::thread::sleep(Duration::from_millis(2));
    !stop.load(Ordering::Relaxed)
}

/// A hello as a client says it, up to where the other side answers.
pub(super) fn hello(manner: &Manner) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let manner = manner.clone();
    let client = std::thread::spawn(move || manner.connect(at).err());
    let (mut stream, _) = listener.accept().expect("it comes");
    let mut bytes = vec![0; 4096];
    let len = stream.read(&mut bytes).expect("its hello");
    drop((stream, listener));
    let _ = client.join();
    bytes.truncate(len);
    bytes
}

/// Connections that are held; each in turn does something, and one that broke makes room for another.
fn hold(
    address: SocketAddr,
    count: usize,
    stop: &AtomicBool,
    act: impl Fn(&mut TcpStream) -> bool,
) {
    let mut all = VecDeque::new();
    while goes_on(stop) {
        if all.len() < count {
            all.extend(connect(address));
        }
        if let Some(mut stream) = all.pop_front().filter(|_| all.len() + 1 >= count) {
            if act(&mut stream) {
                all.push_back(stream);
            }
        }
    }
}

fn drip(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let hello = hello(manner);
    let mut all: Vec<_> = (0..count).filter_map(|_| connect(address)).collect();
    let mut sent = 0;
    while goes_on(stop) {
        for stream in &mut all {
            if stream.write(&hello[sent % hello.len()..][..1]).is_err() {
                connect(address).into_iter().for_each(|next| *stream = next);
            }
        }
        sent += 1;
        (0..500).take_while(|_| goes_on(stop)).for_each(drop);
    }
}

fn silent(address: SocketAddr, _: &Manner, count: usize, stop: &AtomicBool) {
    let _all: Vec<_> = (0..count).filter_map(|_| connect(address)).collect();
    while goes_on(stop) {}
}

fn silent_behind(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let shake = |_| manner.connect(address).ok();
    let _all: Vec<_> = (0..count)
        .take_while(|_| goes_on(stop))
        .filter_map(shake)
        .collect();
    while goes_on(stop) {}
}

fn half_behind(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let shake = |_| {
        let mut client = manner.connect(address).ok()?;
        client.0.sock.write_all(&half(0x4000, 16_000)).ok()?;
        Some(client)
    };
    let _all: Vec<_> = (0..count)
        .take_while(|_| goes_on(stop))
        .filter_map(shake)
        .collect();
    while goes_on(stop) {}
}

fn hellos(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let hello = hello(manner);
    let mut all = VecDeque::new();
    while goes_on(stop) {
        if let Some(mut stream) = connect(address) {
            let _ = stream.write(&hello);
            all.push_back(stream);
        }
        if all.len() > count {
            all.pop_front();
        }
    }
}

fn empty(address: SocketAddr, _: &Manner, count: usize, stop: &AtomicBool) {
    let records = [22, 3, 1, 0, 0].repeat(1000);
    hold(address, count, stop, |stream| {
        stream.write_all(&records).is_ok()
    });
}

fn long(address: SocketAddr, _: &Manner, count: usize, stop: &AtomicBool) {
    let mut record = vec![22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff];
    record.resize(100_000, 0);
    hold(address, count, stop, |stream| stream.write(&record).is_ok());
}

fn updates(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let mut all = VecDeque::new();
    while goes_on(stop) {
        if all.len() < count {
            all.extend(manner.connect(address));
        }
        let Some(mut client) = all.pop_front() else {
            continue;
        };
        let is_good = (0..8)
            .all(|_| client.0.conn.refresh_traffic_keys().is_ok() && client.0.flush().is_ok());
        if is_good {
            all.push_back(client);
        }
    }
}

/// Each handshake brings a chain that is long and leads nowhere.
fn chains(address: SocketAddr, manner: &Manner, count: usize, stop: &AtomicBool) {
    let shows = manner.with_chain_of(100);
    let mut all = VecDeque::new();
    while goes_on(stop) {
        all.extend(shows.connect(address));
        if all.len() > count {
            all.pop_front();
        }
    }
}

/// Messages that honest clients get through in this time, at a pace well below what the machine can do.
fn honest(address: SocketAddr, manner: &Manner, time: Duration, sent: &AtomicU64) {
    let mut client = manner.connect(address).expect("let in");
    let (from, pause) = (Instant::now(), Duration::from_millis(4));
    let mut due = 0;
    while from.elapsed() < time {
        while pause * due < from.elapsed() {
            let id = sent.fetch_add(1, Ordering::Relaxed);
            client.send(&numbered(id, 60)).expect("let in");
            due += 1;
        }
        std::thread::sleep(pause / 2);
    }
    client.finish().expect("the end");
}

fn seconds() -> Duration {
    let asked = std::env::var("WEIR_FLOOD_SECONDS").ok();
    Duration::from_secs(asked.and_then(|asked| asked.parse().ok()).unwrap_or(4))
}

#[test]
fn hostile_peers_take_nothing_from_others_and_are_gone_after_their_deadlines() {
    let authority = Authority::new("abuse");
    let flags = format!(
        "{} --emitters-tls required --tls-client-ca {} --tls-clients optional",
        authority.pair("localhost").flags(),
        authority.ca().display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), None);
    let (stop, address) = (Arc::new(AtomicBool::new(false)), distributor.emitters);
    let (memory, before) = (distributor.rss(), distributor.descriptors());
    let hostile: Vec<_> = KINDS
        .iter()
        .map(|(_, kind)| {
            let (manner, stop) = (manner.clone(), Arc::clone(&stop));
            std::thread::spawn(move || kind(address, &manner, crowd() / KINDS.len(), &stop))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let sent = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (manner, sent) = (manner.clone(), Arc::clone(&sent));
            std::thread::spawn(move || honest(address, &manner, seconds(), &sent))
        })
        .collect();
    for thread in threads {
        thread.join().expect("an honest client is served");
    }
    // On a schedule: whoever keeps up has sent all that was due.
    let sent = sent.load(Ordering::Relaxed);
    let due = seconds().as_millis() as u64 / 4 * 4;
    assert!(sent >= due * 95 / 100, "{sent} of {due}");
    until("what honest clients sent", || {
        analyzer.read() as u64 >= sent
    });
    let more = distributor.rss().saturating_sub(memory);
    assert!(more < 64 << 20, "{more} bytes more");
    println!("{sent} of {due} sent, {more} bytes more");
    stop.store(true, Ordering::Relaxed);
    for thread in hostile {
        thread.join().expect("a hostile client");
    }
    until("the last of them to be gone", || {
        distributor.descriptors() <= before
    });
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn who_is_silent_is_closed_after_its_deadline() {
    let authority = Authority::new("deadline");
    let flags = format!(
        "{} --emitters-tls required",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let mut silent = TcpStream::connect(distributor.emitters).expect("connected");
    let from = Instant::now();
    let patience = Some(Duration::from_secs(30));
    silent.set_read_timeout(patience).expect("a time");
    assert_eq!(silent.read(&mut [0; 10]).expect("the end"), 0);
    let took = from.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(15),
        "{took:?}"
    );
    distributor.wait_log("its handshake was not done within 10 s");
    drop(analyzer);
    distributor.stop().assert_clean();
}

/// Handshakes of a shard, as the distributor has it.
const HANDSHAKES_MAX: usize = 1024;

#[test]
fn a_crowd_at_one_port_does_not_end_the_accepts_of_another() {
    let authority = Authority::new("crowd");
    let flags = format!(
        "{} --emitters-tls required --input frames@127.0.0.1:0?name=other&tls=required",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let other = distributor.input("other");
    let crowd: Vec<_> = (0..HANDSHAKES_MAX + 64)
        .filter_map(|_| TcpStream::connect(distributor.emitters).ok())
        .collect();
    assert!(crowd.len() > HANDSHAKES_MAX);
    std::thread::sleep(Duration::from_millis(300));
    // All accepts of the other port bring somebody while there is no place, who goes again.
    let few: Vec<_> = (0..64)
        .filter_map(|_| TcpStream::connect(other).ok())
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop((few, crowd));
    let manner = Manner::new(&authority.ca(), None);
    let mut client = manner.connect(other).expect("it is let in");
    client.send(&numbered(1, 60)).expect("let in");
    client.finish().expect("the end");
    until("its message", || analyzer.read() == 1);
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn who_goes_on_slowly_keeps_nobody_out_for_long() {
    let authority = Authority::new("slowly");
    let flags = format!(
        "{} --emitters-tls required --input frames@127.0.0.1:0?name=other&tls=required",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), None);
    let hello = hello(&manner);
    let mut crowd: Vec<_> = (0..HANDSHAKES_MAX + 64)
        .filter_map(|_| connect(distributor.emitters))
        .collect();
    let (stop, address) = (Arc::new(AtomicBool::new(false)), distributor.emitters);
    let slow = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut sent = 0;
            while goes_on(&stop) {
                for stream in &mut crowd {
                    if stream.write(&hello[sent % hello.len()..][..1]).is_err() {
                        connect(address).into_iter().for_each(|next| *stream = next);
                    }
                }
                sent += 1;
                (0..50).take_while(|_| goes_on(&stop)).for_each(drop);
            }
        })
    };
    std::thread::sleep(Duration::from_millis(500));
    let other = distributor.input("other");
    for (id, (port, most)) in (0..).zip([(other, 1), (address, 5)]) {
        let from = Instant::now();
        let mut client = manner.connect(port).expect("let in");
        let took = from.elapsed();
        assert!(took < Duration::from_secs(most), "{took:?} at {port}");
        client.send(&numbered(id, 60)).expect("let in");
        client.finish().expect("the end");
    }
    until("both messages", || analyzer.read() == 2);
    stop.store(true, Ordering::Relaxed);
    slow.join().expect("a slow crowd");
    drop(analyzer);
    distributor.stop().assert_clean();
}
