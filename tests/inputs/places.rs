//! Several places at once: each takes messages, has limits of its own, and ends as the others do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_testkit::{
    assert_exactly_once, until, until_read, Analyzer, Dialect, Distributor, Emitter, Options,
};

const PAYLOAD: usize = 64;

fn analyzer(distributor: &Distributor) -> Analyzer {
    let options = Options::new(Dialect::Typed, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    analyzer
}

/// Whether a connection is closed without a byte, within a few seconds.
fn is_closed(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_millis(500));
    stream.set_read_timeout(patience).expect("a socket");
    match stream.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn two_inputs_take_messages_at_once_on_every_shard() {
    const MESSAGES: u64 = 30_000;
    let distributor = Distributor::start(
        "--shards 2 --input frames@127.0.0.1:0?name=second --input frames,acked@127.0.0.1:0?name=third",
    );
    let analyzer = analyzer(&distributor);
    let [second, third] = ["second", "third"].map(|name| distributor.input(name));
    let places = [distributor.emitters, second, third];
    // Several at each place, so that the kernel spreads them over the shards.
    let emitters: Vec<Emitter> = (0..12)
        .map(|nth| {
            let ids = nth * MESSAGES / 12..(nth + 1) * MESSAGES / 12;
            Emitter::start(places[nth as usize % 3], ids, PAYLOAD)
        })
        .collect();
    emitters.into_iter().for_each(Emitter::join);
    until_read(&[&analyzer], MESSAGES as usize);
    assert_exactly_once(&[&analyzer], 0..MESSAGES);
    assert_eq!(distributor.stop().assert_clean().received, MESSAGES);
}

#[test]
fn an_input_has_limits_of_its_own() {
    let distributor = Distributor::start(
        "--shards 1 --input frames@127.0.0.1:0?name=few&max_connections=1 --input frames@127.0.0.1:0?name=far&allow=192.0.2.0/24",
    );
    let [few, far] = ["few", "far"].map(|name| distributor.input(name));
    let first = TcpStream::connect(few).expect("it listens");
    until("the second is refused", || is_closed(few));
    assert!(is_closed(far), "from another network");
    assert!(!is_closed(distributor.emitters), "no limit of the input's");
    let said = distributor.wait_log("max_connections of this input");
    assert!(
        said.contains("emitter of input few refused: 1 are connected"),
        "{said}"
    );
    drop(first);
    until("there is room again", || !is_closed(few));
    distributor.stop().assert_clean();
}

#[test]
fn what_an_input_does_not_speak_is_named_with_the_input() {
    let distributor = Distributor::start("--shards 1 --input acked@127.0.0.1:0?name=strict");
    let analyzer = analyzer(&distributor);
    let strict = distributor.input("strict");
    let mut stream = TcpStream::connect(strict).expect("it listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("written");
    let said = distributor.wait_log("of input strict closed");
    assert!(said.contains("HTTP"), "{said}");
    Emitter::start(distributor.emitters, 0..10, PAYLOAD).join();
    until_read(&[&analyzer], 10);
    distributor.stop().assert_clean();
}

#[test]
fn a_port_that_is_taken_is_named_with_its_input() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("bound");
    let input = format!("frames@{at}?name=mine");
    let line = [
        "distributor",
        "--emitters",
        "127.0.0.1:0",
        "--analyzers",
        "127.0.0.1:0",
        "--input",
        &input,
    ];
    let output = weir_testkit::process::run(&line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let wanted = format!("--input mine {at}: cannot listen");
    assert!(
        said.contains(&wanted) && said.contains("another process has this port"),
        "{said}"
    );
}

/// Reads until the connection is closed; what came, and how long it took.
fn read_to_end(mut stream: &TcpStream) -> (Vec<u8>, Duration) {
    let since = Instant::now();
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a socket");
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let is_end = ended.is_ok_and(|_| true) || since.elapsed() < Duration::from_secs(10);
    assert!(is_end, "it is still open");
    (bytes, since.elapsed())
}

#[test]
fn first_bytes_that_could_be_several_are_waited_for_a_second() {
    let distributor = Distributor::start(
        "--shards 1 --input frames,acked,forward@127.0.0.1:0?name=mixed&ack=received",
    );
    let analyzer = analyzer(&distributor);
    let mixed = distributor.input("mixed");
    let silent = TcpStream::connect(mixed).expect("it listens");
    drop(TcpStream::connect(mixed).expect("it listens"));
    for prefix in [&b"\x93"[..], b"\0\0", b"\xff\xfe\xfd\xfc"] {
        let mut stream = TcpStream::connect(mixed).expect("it listens");
        stream.write_all(prefix).expect("written");
        let (bytes, took) = read_to_end(&stream);
        assert_eq!(bytes, b"", "nothing is said before it is known");
        let waits = prefix[0] != 0xff;
        let range = match waits {
            true => Duration::from_millis(900)..Duration::from_secs(5),
            false => Duration::ZERO..Duration::from_secs(1),
        };
        assert!(range.contains(&took), "{prefix:?} after {took:?}");
    }
    let said = distributor.wait_log("of input mixed closed");
    assert!(said.contains("it begins "), "{said}");
    // A slow one that goes on in time, and behind white space.
    let mut slow = TcpStream::connect(mixed).expect("it listens");
    for bytes in [&b"\0\0"[..], b"\0\x0d\x01\0\0\0\0\0\0\0\x01"] {
        slow.write_all(bytes).expect("written");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut padded = TcpStream::connect(mixed).expect("it listens");
    padded
        .write_all(b" \r\n\0\0\0\x0d\x02\0\0\0\0\0\0\0\x02")
        .expect("written");
    until_read(&[&analyzer], 2);
    drop((slow, padded));
    assert!(!is_closed_now(&silent), "silence is legal");
    drop(silent);
    distributor.stop().assert_clean();
}

fn is_closed_now(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    !matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
