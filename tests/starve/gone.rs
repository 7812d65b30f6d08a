//! While nobody takes messages, who is gone keeps nobody out.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use weir_testkit::{numbered, socket, until, Analyzer, Dialect, Distributor, Options};

const PLACES: usize = 40;
const PAYLOAD: usize = 64;

/// It has a place: the distributor does not close it.
fn is_let_in(stream: &mut TcpStream) -> bool {
    let patience = Some(Duration::from_millis(300));
    stream.set_read_timeout(patience).expect("an option");
    match stream.read_exact(&mut [0]) {
        Ok(_) => false,
        Err(error) => matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}

/// An emitter that has sent message `id`, once it is let in.
fn until_let_in(address: SocketAddr, id: u64) -> TcpStream {
    let mut living = None;
    until("a living emitter is let in", || {
        let mut stream = socket::connect(address);
        let sent = stream.write_all(&numbered::numbered(id, PAYLOAD)).is_ok();
        let is_let_in = sent && is_let_in(&mut stream);
        living = is_let_in.then_some(stream);
        is_let_in
    });
    living.expect("just seen")
}

/// Connects and sends message `id`; a reset, or a close in good order.
fn come_and_go(address: SocketAddr, id: u64, reset: bool) {
    let mut stream = socket::connect(address);
    if reset {
        let at_once = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        at_once.expect("an option");
    }
    // It may be refused meanwhile.
    let _ = stream.write_all(&numbered::numbered(id, PAYLOAD));
}

/// Emitters that write until the distributor takes no more: nobody takes messages.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let fill = |n: u64| {
        let mut stream = socket::connect(address);
        stream.set_nonblocking(true).expect("an option");
        let mut bytes = Vec::new();
        (0..250).for_each(|id| numbered::put_numbered(&mut bytes, n * 1000 + id, 4000));
        let (mut sent, mut quiet) = (0, 0);
        while quiet < 100 {
            match stream.write(&bytes[sent % bytes.len()..]) {
                Ok(more) => (sent, quiet) = (sent + more, 0),
                Err(_) => quiet += 1,
            }
            assert!(sent < 64 << 20, "it takes everything");
            std::thread::sleep(Duration::from_millis(2));
        }
        stream
    };
    (0..2).map(fill).collect()
}

#[test]
fn connections_that_were_reset_make_room_for_the_living() {
    let flags = format!("--shards 1 --ingress 512KiB --max-connections {PLACES}");
    let distributor = Distributor::start(&flags);
    let filled = fill(distributor.emitters);
    for id in 0..3 * PLACES as u64 {
        come_and_go(distributor.emitters, 1_000_000 + id, true);
    }
    // Each of them needs a place that a dead one has.
    let living: Vec<_> = (0..PLACES as u64 / 2)
        .map(|n| until_let_in(distributor.emitters, 2_000_000 + n))
        .collect();
    drop(filled);
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Native, 1.0));
    until("the living are read", || {
        let ids = analyzer.ids();
        (0..PLACES as u64 / 2).all(|n| ids.contains(&(2_000_000 + n)))
    });
    drop(living);
    let ended = distributor.stop();
    assert!(ended.count("reset_unread") > 0, "{}", ended.stdout);
    assert_eq!(ended.count("probe"), 0, "they had sent something");
    ended.assert_clean();
}

#[test]
fn a_host_that_comes_again_is_not_refused_for_its_dead_connections() {
    let flags = "--shards 1 --ingress 512KiB --max-per-address 4";
    let distributor = Distributor::start(flags);
    let filled = fill(distributor.emitters);
    for id in 0..2 {
        let dies = until_let_in(distributor.emitters, 1_000_000 + id);
        let at_once = SockRef::from(&dies).set_linger(Some(Duration::ZERO));
        at_once.expect("an option");
    }
    let living = until_let_in(distributor.emitters, 2_000_000);
    drop((filled, living));
    drop(distributor);
}

/// What they sent is kept: they believe that all is well.
#[test]
fn who_has_closed_in_good_order_gives_its_place_back_and_loses_nothing() {
    let flags = format!("--shards 1 --max-connections {PLACES}");
    let distributor = Distributor::start(&flags);
    let messages = 5 * PLACES as u64;
    for id in 0..messages {
        let mut stream = socket::connect(distributor.emitters);
        let frame = numbered::numbered(id, PAYLOAD);
        stream.write_all(&frame).expect("it is let in");
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(stream.read(&mut [0]).expect("closed in order"), 0);
    }
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Native, 1.0));
    until("delivered", || analyzer.read() as u64 >= messages);
    let mut ids = analyzer.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, (0..messages).collect::<Vec<_>>());
    distributor.stop().assert_clean();
}

/// Clients that wait for an ACK and are gone.
#[test]
fn http_clients_that_were_reset_make_room() {
    let flags = format!("--shards 1 --http 127.0.0.1:0 --max-http-connections {PLACES}");
    let distributor = Distributor::start(&flags);
    let http = distributor.http.expect("it listens");
    let options = Options::new(Dialect::Native, 1.0);
    let _analyzer = Analyzer::connect(distributor.analyzers, &options.not_reading());
    distributor.wait_lanes(1);
    let body = r#"{"emitterId":"e","messages":[{"level":"info","message":"x"}]}"#;
    let request = format!(
        "POST /logs?wait=acked HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..3 {
        let waiting: Vec<_> = (0..PLACES)
            .map(|_| {
                let mut client = TcpStream::connect(http).expect("a listener");
                let at_once = SockRef::from(&client).set_linger(Some(Duration::ZERO));
                at_once.expect("an option");
                // It may be refused: those before it may be there still.
                let _ = client.write_all(request.as_bytes());
                client
            })
            .collect();
        until("some wait for an ACK", || waiting.iter().any(is_waiting));
    }
    let began = Instant::now();
    let mut client = None;
    until("a living client is let in", || {
        let mut stream = TcpStream::connect(http).expect("a listener");
        let sent = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut byte = [0];
        let is_answered = sent.is_ok() && matches!(stream.read(&mut byte), Ok(1));
        client = Some(stream);
        is_answered
    });
    // Sooner than any time limit of a request.
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Neither answered nor closed.
fn is_waiting(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("an option");
    let peeked = client.peek(&mut [0]);
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
