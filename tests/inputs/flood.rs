//! Floods and abuse: what a hostile peer of an input takes from the others.
//!
//! Honest senders of the same protocol have units due on a schedule, well below what the machine can do. Abusers work all
//! at once, for some spans with pauses between. In each span the honest ones must get their due through; what a noisy
//! machine held up they make up for, while the abuse goes on. `WEIR_FLOOD_SECONDS` makes the spans
//! longer, `WEIR_FLOOD_ONLY` leaves all abusers out but one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::Compression;
use weir_testkit::inputs::{forward, lumberjack, relp, Client, Sender, Speaks};
use weir_testkit::{until, Analyzer, Dialect, Distributor, Options};

/// Spans with abuse.
const SPANS: u32 = 3;
/// Spans in which honest senders make up for what a busy machine held up, while the abuse goes on; on a quiet one
/// `WEIR_FLOOD_GRACE=0`.
const GRACE: u32 = 3;
/// Of what is due, this much at least gets through.
const RATE_LEAST: f64 = 0.95;
/// Honest senders, and the messages a second of each.
const HONEST: u64 = 4;
const PER_SECOND: u64 = 250;
/// Where bombs wait for their turns. In a build that is not optimised more come than are refused.
const PARTIAL: &str = "32MiB";
/// What abuse may add to the memory: limits of the input, not what was said or would be unpacked. That is 32 MiB of
/// partial frames and 24 MiB of a part that is unpacked and grows; the allocator keeps as much again that is free.
const MEMORY_MORE: u64 = 112 << 20;
/// Bytes that bombs come to.
const BOMB_BYTES: usize = 128 << 20;
/// Messages of a flood, of the fewest bytes that there can be; `WEIR_FLOOD_TINY=1000000` where the build is optimised.
const TINY: usize = 20_000;
const HALF_OPEN: usize = 100;

/// What an abuser does.
enum Abuse {
    /// Sends this, again and again.
    Blast(Vec<u8>),
    /// Sends this once.
    Once(Vec<u8>),
    /// Sends this, one byte at a time.
    Drip(Vec<u8>),
    /// Connects so often, sends this, and is silent.
    Silent(usize, Vec<u8>),
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    let glance = Some(Duration::from_millis(20));
    stream.set_read_timeout(glance).ok()?;
    stream.set_write_timeout(glance).ok()?;
    Some(stream)
}

/// One abuser in a thread of its own, until it is told to stop.
fn abuse(address: SocketAddr, abuse: Abuse, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let goes_on = || !stop.load(Ordering::Relaxed);
        match abuse {
            Abuse::Blast(bytes) => {
                while goes_on() {
                    blast(address, &bytes, &goes_on);
                }
            }
            Abuse::Once(bytes) => blast(address, &bytes, &goes_on),
            Abuse::Drip(bytes) => {
                let Some(mut stream) = connect(address) else {
                    return;
                };
                for byte in bytes.iter().cycle().take_while(|_| goes_on()) {
                    let _ = stream.write(&[*byte]);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            Abuse::Silent(count, bytes) => {
                let mut held: Vec<_> = (0..count).filter_map(|_| connect(address)).collect();
                for stream in &mut held {
                    let _ = stream.write(&bytes);
                }
                while goes_on() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    })
}

/// All of it, as far as it is taken; then the answer is waited for, a while.
fn blast(address: SocketAddr, bytes: &[u8], goes_on: &impl Fn() -> bool) {
    let Some(mut stream) = connect(address) else {
        return;
    };
    let mut rest = bytes;
    let mut answer = [0; 4096];
    while !rest.is_empty() && goes_on() {
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let patience = Instant::now() + Duration::from_millis(300);
    while goes_on() && Instant::now() < patience {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).expect("into memory");
    packer.finish().expect("into memory")
}

/// `part` again and again up to [`BOMB_BYTES`], as gzip members.
fn gzip_bomb(part: &[u8]) -> Vec<u8> {
    const MEMBER: usize = 8 << 20;
    let member = part.repeat(MEMBER / part.len());
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&member).expect("into memory");
    let packed = packer.finish().expect("into memory");
    packed.repeat(BOMB_BYTES / MEMBER)
}

fn tiny() -> usize {
    let tiny = std::env::var("WEIR_FLOOD_TINY");
    tiny.map_or(TINY, |text| text.parse().expect("a number of messages"))
}

fn of_syslog() -> Vec<Abuse> {
    let mut bomb = zlib(&vec![b'a'; BOMB_BYTES]);
    bomb.splice(0..0, format!("{} z", bomb.len() + 1).into_bytes());
    vec![
        Abuse::Blast(b"999999999 <14>giant".to_vec()),
        Abuse::Blast(b"4294967297 <14>giant".to_vec()),
        Abuse::Once(vec![b'x'; 64 << 20]),
        Abuse::Blast(bomb),
        Abuse::Once(b"<1>a\n".repeat(tiny())),
        Abuse::Drip(b"<14>slow and slow".to_vec()),
        Abuse::Silent(HALF_OPEN, b"200000 <14>half".to_vec()),
        Abuse::Silent(HALF_OPEN, Vec::new()),
    ]
}

fn of_forward() -> Vec<Abuse> {
    let entry = b"\x92\x00\x80";
    let packed = |bytes: &[u8]| {
        let mut chunk = Vec::new();
        forward::put_chunk_begin(&mut chunk, "t", bytes.len());
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\x82\xaacompressed\xa4gzip\xa5chunk\xa1x");
        chunk
    };
    let bomb = packed(&gzip_bomb(entry));
    let nested = packed(&gzip_bomb(&gzip_bomb(entry)));
    let deep = [&b"\x93\xa1t\x00"[..], &[0x91; 1 << 20]].concat();
    let tiny = b"\x93\xa1t\x00\x80".repeat(tiny());
    vec![
        Abuse::Blast(b"\x93\xa1t\xc6\xff\xff\xff\xff\x92".to_vec()),
        Abuse::Blast(b"\x93\xa1t\xdd\xff\xff\xff\xff\x92".to_vec()),
        Abuse::Blast(b"\x93\xdb\xff\xff\xff\xffaaaa".to_vec()),
        Abuse::Blast(b"\x93\xa1t\x00\xdf\xff\xff\xff\xff".to_vec()),
        Abuse::Blast(deep),
        Abuse::Blast(bomb),
        Abuse::Blast(nested),
        Abuse::Once(tiny),
        Abuse::Drip(forward::chunk("app", ["slow and slow"], "x")),
        Abuse::Silent(HALF_OPEN, b"\x93\xa1t\xc6\x00\x10\x00\x00\x92".to_vec()),
        Abuse::Silent(HALF_OPEN, Vec::new()),
    ]
}

fn of_lumberjack() -> Vec<Abuse> {
    let compressed = |bytes: &[u8]| {
        let packed = zlib(bytes);
        let len = u32::try_from(packed.len()).expect("small");
        [&b"2C"[..], &len.to_be_bytes(), &packed].concat()
    };
    let window = |body: &[u8], events: u32| {
        let mut bytes = Vec::new();
        lumberjack::put_window(&mut bytes, events);
        [&bytes[..], body].concat()
    };
    let mut event = Vec::new();
    lumberjack::put_event(&mut event, 1, "{}");
    let many = event.repeat(BOMB_BYTES / event.len());
    let nested = compressed(&compressed(&compressed(&event)));
    let windows: Vec<u8> = (0..tiny() / 2000)
        .flat_map(|_| window(&event.repeat(2000), 2000))
        .collect();
    vec![
        Abuse::Blast(window(b"2J\0\0\0\x01\xff\xff\xff\xff{", 1)),
        Abuse::Blast(window(b"2C\xff\xff\xff\xffx", 1)),
        Abuse::Blast(window(&event, u32::MAX)),
        Abuse::Blast(window(&compressed(&many), 2048)),
        Abuse::Blast(window(&nested, 1)),
        Abuse::Once(windows),
        Abuse::Drip(window(b"2J\0\0\0\x01\0\0\0\x40{", 1)),
        Abuse::Silent(HALF_OPEN, window(b"2J\0\0\0\x01\0\0\0\x40{", 2)),
        Abuse::Silent(HALF_OPEN, Vec::new()),
    ]
}

fn of_relp() -> Vec<Abuse> {
    let opened = |bytes: &[u8]| [&relp::open(), bytes].concat();
    let mut frames = relp::open();
    (0..tiny() as u32).for_each(|n| relp::put_frame(&mut frames, n + 2, "syslog", b"a"));
    vec![
        Abuse::Blast(opened(b"2 syslog 999999999 a")),
        Abuse::Blast(opened(b"2 syslog 99999999999999999999 a")),
        Abuse::Blast(opened(&[b'1'; 1 << 20])),
        Abuse::Blast([&b"1 open 1000000000 "[..], &[b'a'; 1 << 20]].concat()),
        Abuse::Once(frames),
        Abuse::Drip(opened(b"2 syslog 40 slow and slow")),
        Abuse::Silent(HALF_OPEN, opened(b"2 syslog 100000 a")),
        Abuse::Silent(HALF_OPEN, Vec::new()),
    ]
}

fn seconds() -> Duration {
    let seconds = std::env::var("WEIR_FLOOD_SECONDS");
    let seconds = seconds.map_or(1, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// What the honest senders sent is read by an analyzer; abusers' messages are known by having no mark.
fn others_keep_their_rate(protocol: &str, client: Client, abuses: fn() -> Vec<Abuse>) {
    let distributor = Distributor::start(&format!(
        "--shards 1 --partial-bytes {PARTIAL} --ack-presume 60s --input {protocol}@127.0.0.1:0?name=flooded"
    ));
    let address = distributor.input("flooded");
    let options = Options::new(Dialect::Native, 1.0).strangers();
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    let client = match client.speaks {
        Speaks::Relp => client.every(Duration::from_secs(1) / PER_SECOND as u32),
        _ => client
            .unit(100)
            .every(Duration::from_secs(100) / PER_SECOND as u32),
    };
    let ids = |n: u64| n << 32..(n + 1) << 32;
    let senders: Vec<_> = (0..HONEST)
        .map(|n| Sender::start(address, client, ids(n)))
        .collect();
    let due = |since: Instant| since.elapsed().as_secs_f64() * (HONEST * PER_SECOND) as f64;
    let began = Instant::now();
    until("the senders keep their schedule", || {
        let is_warm = began.elapsed() > seconds();
        is_warm && analyzer.read_numbered() as f64 > due(began) * RATE_LEAST
    });
    let memory_before = distributor.rss();
    let only = std::env::var("WEIR_FLOOD_ONLY").ok();
    let only = only.map(|text| text.parse::<usize>().expect("a number, from 0"));
    let grace = std::env::var("WEIR_FLOOD_GRACE").ok();
    let grace = grace.map_or(GRACE, |text| text.parse().expect("a number of spans"));
    let mut least = f64::INFINITY;
    for _ in 0..SPANS {
        let stop = Arc::new(AtomicBool::new(false));
        let abusers: Vec<_> = abuses()
            .into_iter()
            .enumerate()
            .filter(|(index, _)| only.is_none_or(|only| only == *index))
            .map(|(_, each)| each)
            .map(|each| abuse(address, each, Arc::clone(&stop)))
            .collect();
        let (since, before) = (Instant::now(), analyzer.read_numbered());
        std::thread::sleep(seconds());
        let wanted = due(since);
        let through = || (analyzer.read_numbered() - before) as f64 / wanted;
        while through() < RATE_LEAST && since.elapsed() < seconds() * (1 + grace) {
            std::thread::sleep(Duration::from_millis(5));
        }
        least = least.min(through());
        stop.store(true, Ordering::Relaxed);
        abusers
            .into_iter()
            .for_each(|each| each.join().expect("no panic"));
        std::thread::sleep(seconds() / 2);
    }
    let more = distributor.rss().saturating_sub(memory_before);
    let records: Vec<_> = senders.into_iter().map(Sender::finish).collect();
    for record in &records {
        assert_eq!(record.fault, None);
        assert_eq!((record.timed_out, record.reconnects), (0, 0), "{protocol}");
    }
    eprintln!(
        "{protocol}: {least:.3} of what was due at the worst; memory + {} MiB",
        more >> 20
    );
    assert!(
        least >= RATE_LEAST,
        "{protocol}: {least:.3} of the rate was left"
    );
    assert!(more <= MEMORY_MORE, "{protocol}: {} MiB more", more >> 20);
    let acked: Vec<u64> = records.into_iter().flat_map(|it| it.acked).collect();
    let mut ids = analyzer.ids();
    ids.sort_unstable();
    let missing = acked.iter().filter(|id| ids.binary_search(id).is_err());
    assert_eq!(missing.count(), 0, "acked, and at no analyzer");
    distributor.stop().balance();
}

#[test]
fn syslog() {
    others_keep_their_rate("syslog", Client::syslog(Speaks::Lines), of_syslog);
}

#[test]
fn forward() {
    others_keep_their_rate("forward", Client::fluentd(), of_forward);
}

#[test]
fn lumberjack() {
    others_keep_their_rate("lumberjack", Client::beats(), of_lumberjack);
}

#[test]
fn relp() {
    others_keep_their_rate("relp", Client::librelp(), of_relp);
}
