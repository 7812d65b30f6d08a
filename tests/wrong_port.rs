//! Whoever speaks something else at Weir's ports is refused by name, takes no place and no message; who
//! says nothing keeps nobody out.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use weir_testkit::{
    assert_exactly_once, numbered, socket, until, until_read, wire, Analyzer, Dialect, Distributor,
    Emitter, Options,
};

const PAYLOAD: usize = 64;

/// What was seen at such ports, and the name that the log must have.
const OTHERS: [(&[u8], &str); 22] = [
    (
        b"GET /health HTTP/1.1\r\nHost: w\r\n\r\n",
        "an HTTP request",
    ),
    (b"HEAD / HTTP/1.0\r\n\r\n", "an HTTP request"),
    (b"PROPFIND / HTTP/1.1\r\n\r\n", "an HTTP request"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 request"),
    (
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03aaaaaaaa",
        "TLS",
    ),
    (
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 8081\r\n\x3f\xe0\0\0\0\0\0\0",
        "a PROXY header",
    ),
    (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
        "a PROXY header",
    ),
    (b"SSH-2.0-probe\r\n", "SSH"),
    (b"<34>Oct 11 22:14:15 h su: x\n", "syslog"),
    (b"27 <34>1 2003-10-11 h su - - -", "syslog"),
    (b"EHLO probe\r\n", "SMTP"),
    (b"PING\r\n", "Redis"),
    (b"*1\r\n$4\r\nPING\r\n", "Redis"),
    (b"stats\r\n", "memcached"),
    (b"AMQP\0\0\x09\x01", "AMQP"),
    (b"OPTIONS sip:nm SIP/2.0\r\n\r\n", "SIP"),
    (b"{\"emitterId\":\"a\",\"messages\":[]}\n", "JSON"),
    (b"\r\n\r\n", "empty lines"),
    (b"\n\n\n\n\n\n\n\n", "empty lines"),
    (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "zero bytes"),
    (
        b"\x03\x00\x00\x2a\x25\xe0\0\0\0\0\0Cookie: mstshash=nmap\r\n",
        "RDP",
    ),
    (b"HELP\r\n", "text"),
];

/// Connects, says this, and keeps the connection until the distributor closes it.
fn say(port: SocketAddr, bytes: &[u8]) {
    let mut stream = socket::connect(port);
    // It may be refused while it still writes.
    let _ = stream.write_all(bytes);
    socket::read_to_close(&mut stream);
}

/// One place in the source writes ten lines at once: so many kinds for one distributor.
const KINDS: usize = 8;

#[test]
fn other_protocols_at_the_analyzers_port_are_refused_by_name_and_shares_stay() {
    let flags = ["--shards 1", "--shards 2", "--shards 1 --dialect typed"];
    for (others, flags) in OTHERS.chunks(KINDS).zip(flags) {
        let distributor = Distributor::start(flags);
        let a = Options::new(Dialect::Typed, 0.4).id("a");
        let b = Options::new(Dialect::Typed, 0.6).id("b");
        let a = Analyzer::connect(distributor.analyzers, &a);
        let b = Analyzer::connect(distributor.analyzers, &b);
        distributor.wait_lanes(2);
        for (bytes, name) in others {
            say(distributor.analyzers, bytes);
            distributor.wait_log(&format!("this looks like {name}"));
        }
        Emitter::start(distributor.emitters, 0..100, PAYLOAD).join();
        until_read(&[&a, &b], 100);
        assert_exactly_once(&[&a, &b], 0..100);
        let (a, b) = (a.read(), b.read());
        assert!(a.abs_diff(40) <= 3, "{flags}: {a} and {b}");
        let lines = distributor.lines("WARN").len();
        for _ in 0..20 {
            say(distributor.analyzers, others[0].0);
        }
        let ended = distributor.stop();
        ended.assert_clean();
        assert_eq!(ended.stderr.matches("WARN").count(), lines, "said once");
        let refused = others.len() as u64 + 20;
        assert_eq!(
            ended.count("foreign_protocol"),
            refused,
            "{flags} {ended:#?}"
        );
    }
}

#[test]
fn other_protocols_at_the_emitters_port_are_refused_by_name() {
    for others in OTHERS.chunks(KINDS) {
        let distributor = Distributor::start("--shards 2");
        for (bytes, name) in others {
            say(distributor.emitters, bytes);
            distributor.wait_log(&format!("this looks like {name}"));
        }
        let lines = distributor.lines("WARN").len();
        for _ in 0..50 {
            say(distributor.emitters, others[0].0);
        }
        let ended = distributor.stop();
        ended.assert_clean();
        assert_eq!(ended.stderr.matches("WARN").count(), lines, "said once");
        let refused = others.len() as u64 + 50;
        assert_eq!(ended.count("foreign_protocol"), refused, "{ended:#?}");
    }
}

/// A greeting is no request, but it might be the start of one until its line ends. Then it is refused: it does not
/// wait for the time that a head has.
#[test]
fn greetings_at_the_http_port_are_refused_at_once_and_by_name() {
    let distributor = Distributor::start("--shards 1 --http 127.0.0.1:0");
    let http = distributor.http.expect("asked for");
    for (greeting, name) in [
        (&b"SSH-2.0-probe\r\n"[..], "SSH"),
        (b"stats\r\n", "memcached"),
        (b"stats\n", "memcached"),
        (b"EHLO probe\r\n", "SMTP"),
        (b"OPTIONS sip:nm SIP/2.0\r\nVia: x\r\n", "SIP"),
    ] {
        let began = Instant::now();
        let mut stream = socket::connect(http);
        stream.write_all(greeting).expect("writes");
        let answer = socket::read_to_close(&mut stream);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        let looks = format!("looks like {name}");
        assert!(answer.contains(&looks), "{name}: {answer}");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{name}: it waited"
        );
        distributor.wait_log(&looks);
    }
    // A line that is not known is repeated.
    let mut stream = socket::connect(http);
    stream.write_all(b"hello\r\n").expect("writes");
    let answer = socket::read_to_close(&mut stream);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("hello"), "{answer}");
}

#[test]
fn an_analyzer_at_the_emitters_port_is_told_apart_and_refused() {
    let distributor = Distributor::start("--shards 1");
    for first in [&0.4f64.to_be_bytes()[..], &0.4f32.to_be_bytes()] {
        say(distributor.emitters, first);
    }
    distributor.wait_log("an analyzer's first weight");
    say(distributor.emitters, &wire::hello(1, 1.0, "a", None));
    distributor.wait_log("a Weir analyzer; analyzers have a port of their own");
    assert_eq!(distributor.stop().count("foreign_protocol"), 3);
}

#[test]
fn an_emitter_at_the_analyzers_port_is_told_apart_and_refused() {
    let distributor = Distributor::start("--shards 1");
    say(distributor.analyzers, &numbered::numbered(1, PAYLOAD));
    let line = distributor.wait_log("a message of 69 bytes");
    assert!(line.contains("--emitters"), "{line}");
    assert_eq!(distributor.stop().count("first_weight_invalid"), 1);
}

#[test]
fn a_typed_weight_out_of_range_is_refused_with_the_limit() {
    let distributor = Distributor::start("--shards 1");
    say(distributor.analyzers, &1e7f64.to_be_bytes());
    let line = distributor.wait_log("are no first weight");
    assert!(
        line.contains("2^-20 to 2^20") && line.contains("1e7"),
        "{line}"
    );
    assert!(distributor.lines("analyzer up").is_empty());
}

/// It would read them as a frame of 1.7 GB.
#[test]
fn an_analyzer_whose_weight_is_none_gets_no_words() {
    let distributor = Distributor::start("--shards 1");
    let typed = 1e7f64.to_be_bytes().to_vec();
    let compact = [&0.3f32.to_be_bytes()[..], &[0xf9, 0x18, 0x21, 0x32]].concat();
    for first in [typed, compact] {
        let mut stream = weir_testkit::socket::connect(distributor.analyzers);
        std::io::Write::write_all(&mut stream, &first).expect("sent");
        let answer = weir_testkit::socket::read_to_close(&mut stream);
        assert_eq!(String::from_utf8_lossy(&answer), "");
    }
    assert_eq!(distributor.stop().count("first_weight_invalid"), 2);
}

#[test]
fn a_weight_far_from_all_others_is_warned_of_with_its_address() {
    let distributor = Distributor::start("--shards 1");
    let a = Options::new(Dialect::Typed, 0.4).id("a");
    let _a = Analyzer::connect(distributor.analyzers, &a);
    distributor.wait_lanes(1);
    let mut far = socket::connect(distributor.analyzers);
    far.write_all(&50_516.0f64.to_be_bytes()).expect("writes");
    let line = distributor.wait_log("is far from those of all others");
    let address = far.local_addr().expect("connected").to_string();
    assert!(line.contains(&address) && line.contains("WARN"), "{line}");
}

#[test]
fn who_connects_and_closes_is_counted_and_not_logged() {
    let distributor = Distributor::start("--shards 1 --http 127.0.0.1:0");
    let http = distributor.http.expect("asked for");
    let ports = [distributor.emitters, distributor.analyzers, http];
    for port in ports {
        for n in 0..40 {
            let stream = socket::connect(port);
            if n % 2 == 0 {
                let linger = Some(Duration::ZERO);
                socket2::SockRef::from(&stream)
                    .set_linger(linger)
                    .expect("a socket");
            }
        }
    }
    // Who comes behind them has come when they are dealt with.
    for port in &ports[..2] {
        say(*port, b"SSH-2.0-x\r\n");
    }
    distributor.wait_log("looks like SSH");
    until("the probes of the HTTP port", || {
        let mut stream = socket::connect(http);
        let request = b"GET /metrics HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("writes");
        let answer = socket::read_to_close(&mut stream);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with("weir_http_refused_total"));
        lines.any(|line| line.contains("\"probe\"") && line.ends_with(" 40"))
    });
    let ended = distributor.stop();
    let warned: Vec<_> = ended
        .stderr
        .lines()
        .filter(|l| l.contains("WARN") && l.contains("closed"))
        .collect();
    assert!(
        warned.iter().all(|line| line.contains("SSH")),
        "{warned:#?}"
    );
    assert_eq!(ended.count("probe"), 80, "{ended:#?}");
}

#[test]
fn mute_connections_keep_no_analyzer_out() {
    let distributor = Distributor::start("--shards 1 --max-per-address 50");
    let mut mute: Vec<TcpStream> = Vec::new();
    for _ in 0..1_000 {
        mute.push(socket::connect(distributor.analyzers));
    }
    let started = Instant::now();
    for (dialect, id) in [
        (Dialect::Native, "n"),
        (Dialect::Typed, "t"),
        (Dialect::Compact, "c"),
    ] {
        let options = Options::new(dialect, 1.0).id(id);
        let analyzer = Analyzer::connect(distributor.analyzers, &options);
        distributor.wait_lanes(1);
        drop(analyzer);
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    let ended = distributor.stop();
    assert!(ended.count("handshake_displaced") >= 100, "{ended:#?}");
    assert_eq!(ended.count("too_many_analyzers"), 0, "{ended:#?}");
}

#[test]
fn seven_hundred_analyzers_that_come_at_once_all_get_in() {
    let flags = "--shards 1 --batch-bytes 4KiB --arena 32MiB --max-frame 1KiB";
    let distributor = Distributor::start(flags);
    let analyzers: Vec<TcpStream> = (0..700)
        .map(|n| {
            let mut stream = socket::connect(distributor.analyzers);
            let dialect = [Dialect::Native, Dialect::Typed, Dialect::Compact][n % 3];
            let word = wire::first_word(dialect, 1.0, &format!("a{n}"), None);
            stream.write_all(&word).expect("writes");
            stream
        })
        .collect();
    distributor.wait_lanes(700);
    drop(analyzers);
    let ended = distributor.stop();
    for reason in [
        "handshake_displaced",
        "too_many_analyzers",
        "handshake_timeout",
    ] {
        assert_eq!(ended.count(reason), 0, "{reason} {ended:#?}");
    }
}

#[test]
fn an_arena_that_serves_no_more_says_so_to_the_analyzer() {
    let distributor =
        Distributor::start("--shards 1 --batch-bytes 128KiB --arena 4MiB --max-frame 1KiB");
    let mut kept = Vec::new();
    let mut refused = None;
    for n in 0..40 {
        let mut stream = socket::connect(distributor.analyzers);
        let hello = wire::hello(1, 1.0, &format!("a{n}"), None);
        stream.write_all(&hello).expect("writes");
        let (welcome, reason) = socket::read_welcome(&mut stream);
        if welcome.status == 1 {
            refused = Some(reason);
            break;
        }
        kept.push(stream);
        distributor.wait_lanes(kept.len());
    }
    let refused = refused.expect("the arena is small");
    assert!(refused.contains("--arena"), "{refused}");
    distributor.wait_log("the arena serves no more");
    assert_eq!(distributor.stop().count("too_many_analyzers"), 1);
}

/// Runs a client for this long at most; its exit status and what it said.
fn client(args: &str, time: Duration) -> (Option<i32>, String) {
    let mut child = Command::new(weir_testkit::process::weir())
        .args(args.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let deadline = Instant::now() + time;
    while child.try_wait().expect("a child").is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("ended");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn an_emitter_at_another_port_fails_and_says_why() {
    let distributor = Distributor::start("--shards 1 --http 127.0.0.1:0");
    let http = distributor.http.expect("asked for");
    for (port, why) in [
        (http, "an HTTP answer"),
        (distributor.analyzers, "Emitters have a port of their own"),
    ] {
        let flags = format!("emitter --addr {port} --rate 200 --duration 2 --id e");
        let (status, text) = client(&flags, weir_testkit::PATIENCE);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("no distributor's emitters' port"), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("left as asked"), "{text}");
    }
    for client in ["HTTP client", "analyzer"] {
        until("both ports to say it", || {
            let lines = distributor.lines("Emitters have a port of their own");
            lines.iter().any(|line| line.contains(client))
        });
    }
}

#[test]
fn an_analyzer_at_another_port_says_why_and_backs_off() {
    let distributor = Distributor::start("--shards 1 --http 127.0.0.1:0");
    let http = distributor.http.expect("asked for");
    for (port, dialect, why) in [
        (http, "typed", "an HTTP answer"),
        (http, "native", "an HTTP answer"),
        (distributor.emitters, "native", "this is the emitters' port"),
        (distributor.emitters, "typed", "closed the link"),
    ] {
        let flags = format!("analyzer --addr {port} --dialect {dialect} --id a");
        let (_, text) = client(&flags, Duration::from_secs(3));
        assert!(text.contains(why), "{dialect}: {text}");
        // 50, 100, 200, 400, 800, 1,600 ms, each at least by half.
        let tries = text.matches("WARN").count();
        assert!((1..=8).contains(&tries), "{tries} tries: {text}");
    }
    distributor.wait_log("a Weir analyzer");
}

#[test]
fn an_analyzer_of_a_foreign_distributor_is_told_of_the_dialects() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound");
    // It waits for its first word, and closes when that is none.
    let foreign = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the analyzer");
        let mut word = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut word).expect("a HELLO");
    });
    let flags = format!("analyzer --addr {port} --id a --reconnect=false");
    let (status, text) = client(&flags, weir_testkit::PATIENCE);
    foreign.join().expect("it read");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("--dialect compact"), "{text}");
}

#[test]
fn a_weight_that_the_dialect_cannot_carry_is_not_sent() {
    for (dialect, weight) in [
        ("compact", "1e300"),
        ("typed", "10000000"),
        ("typed", "1e-9"),
    ] {
        let flags = format!("analyzer --addr 127.0.0.1:9 --dialect {dialect} --weight {weight}");
        let (status, text) = client(&flags, weir_testkit::PATIENCE);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("2^-20 to 2^20"), "{text}");
    }
}
