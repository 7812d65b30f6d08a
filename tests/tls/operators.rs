//! The admin API at a TCP address, over TLS: `weir ctl`, `top` and `tap` with certificates, and who is kept out.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_testkit::process::run;
use weir_testkit::{until, Authority, Distributor, Emitter, Pair, Port, Scratch};

use super::client::Manner;
use super::names::ask;
use super::{distributor, Payloads};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Place {
    authority: Authority,
    client: Pair,
    token: String,
    port: u16,
    scratch: Scratch,
    _held: Port,
}

impl Place {
    fn new(name: &str) -> Place {
        let (authority, scratch) = (Authority::new(name), Scratch::new(name));
        let held = Port::hold();
        Place {
            client: authority.pair("operator"),
            token: scratch.write("token", TOKEN).display().to_string(),
            port: held.number(),
            authority,
            scratch,
            _held: held,
        }
    }

    fn flags(&self, mode: &str) -> String {
        format!(
            "--admin 127.0.0.1:{} --admin-tls {mode} --admin-token-file {} --tls-client-ca {} {}",
            self.port,
            self.token,
            self.authority.ca().display(),
            self.authority.pair("localhost").flags()
        )
    }

    /// A verb of an operator where no TLS is spoken.
    fn asks_plain(&self, words: &[&str]) -> Output {
        let at = format!("http://127.0.0.1:{}", self.port);
        let mut line = words.to_vec();
        line.extend(["--admin", &at, "--token-file", &self.token]);
        run(&line)
    }

    /// A verb of an operator, with a certificate or without.
    fn asks(&self, words: &[&str], with: Option<&Pair>) -> Output {
        let (ca, at) = (
            self.authority.ca().display().to_string(),
            format!("https://localhost:{}", self.port),
        );
        let mut line = words.to_vec();
        line.extend(["--admin", &at, "--token-file", &self.token, "--tls-ca", &ca]);
        let pair = with.map(|pair| [&pair.cert, &pair.key].map(|it| it.display().to_string()));
        if let Some([cert, key]) = &pair {
            line.extend(["--tls-cert", cert, "--tls-key", key]);
        }
        run(&line)
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn operators_with_certificates_see_and_turn_and_tap() {
    let place = Place::new("operators");
    let (distributor, analyzer) = distributor(&place.flags("required"), Payloads::Numbered);
    until("the analyzer is seen", || {
        text(&place.asks(&["ctl", "status"], Some(&place.client))).contains("a1")
    });
    for (words, said) in [
        (&["ctl", "status"][..], "a1"),
        (&["ctl", "health", "ready"], "ready"),
        (&["top", "--once"], "a1"),
        (&["ctl", "weight", "a1", "0.5"], "0.5"),
    ] {
        let told = place.asks(words, Some(&place.client));
        assert!(told.status.success(), "{words:?}: {}", text(&told));
        assert!(text(&told).contains(said), "{words:?}: {}", text(&told));
    }
    let emitter = Emitter::start(distributor.emitters, 0..2_000, 100);
    let tapped = place.asks(
        &["tap", "--rate", "5", "--seconds", "1"],
        Some(&place.client),
    );
    assert!(tapped.status.success(), "{}", text(&tapped));
    emitter.join();
    until("all of it", || analyzer.read() == 2_000);
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn strangers_at_the_operators_port_are_named_and_told_nothing() {
    let place = Place::new("no-operators");
    let flags = format!("{} --http 127.0.0.1:0", place.flags("required"));
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let counts = |series: &str| {
        let series = format!("weir_tls_{series}\n").replace("{", "{port=\"admin\"");
        until(&series, || ask(&distributor, "/metrics").contains(&series));
    };
    counts("handshakes_total{} 0");
    let refused = |said: &str| {
        until(said, || {
            let lines = distributor.lines("admin: 127.0.0.1:");
            lines.iter().any(|line| line.contains(said))
        });
        // The next one is named a second later at the earliest.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
    };
    let told = place.asks(&["ctl", "status"], None);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    refused("it has shown no certificate, and this port asks for one");
    let other = Authority::new("stranger");
    let stranger = other.pair("operator");
    let told = place.asks(&["ctl", "status"], Some(&stranger));
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    refused("its certificate is of a CA that is not trusted here");
    let mut plain = TcpStream::connect(("127.0.0.1", place.port)).expect("connected");
    let request = format!(
        "GET /admin/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    plain.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    refused("it speaks no TLS, and this port requires it (--admin-tls)");
    // Who says nothing is gone after its deadline, and holds up nobody before.
    let silent: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(("127.0.0.1", place.port)).expect("connected"))
        .collect();
    let told = place.asks(&["ctl", "status"], Some(&place.client));
    assert!(told.status.success(), "{}", text(&told));
    refused("no handshake within 5 s");
    counts("refused_total{,reason=\"handshake_timeout\"} 8");
    // Nor who goes again without a word, or in the middle of one.
    for said in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
        let mut gone = TcpStream::connect(("127.0.0.1", place.port)).expect("connected");
        gone.write_all(said).expect("sent");
    }
    refused("it closed before the handshake was done");
    for (reason, count) in [
        ("no_certificate", 1),
        ("unknown_ca", 1),
        ("plain_text", 1),
        ("closed_early", 2),
    ] {
        counts(&format!("refused_total{{,reason=\"{reason}\"}} {count}"));
    }
    counts("handshakes_total{} 1");
    counts("handshakes_under_way{} 0");
    let metrics = ask(&distributor, "/metrics");
    let expires = "weir_tls_certificate_expires_seconds{port=\"admin\",serial=";
    assert!(metrics.contains(expires), "{metrics}");
    drop((silent, analyzer));
    distributor.stop().assert_clean();
}

#[test]
fn optional_takes_both_and_follows_its_certificate() {
    let place = Place::new("both-operators");
    let served = Pair {
        cert: place.scratch.path("served.pem"),
        key: place.scratch.path("served.key"),
    };
    let install = |from: &Pair| {
        for (from, to) in [(&from.key, &served.key), (&from.cert, &served.cert)] {
            let beside = to.with_extension("next");
            std::fs::copy(from, &beside).expect("copied");
            std::fs::rename(&beside, to).expect("renamed");
        }
    };
    install(&place.authority.numbered("localhost", 11));
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1 --admin 127.0.0.1:{} --admin-tls optional --admin-token-file {} {}",
        place.port,
        place.token,
        served.flags()
    );
    let distributor = Distributor::start(&flags);
    let told = place.asks(&["ctl", "status"], None);
    assert!(told.status.success(), "{}", text(&told));
    let plain = format!("127.0.0.1:{}", place.port);
    let told = run(&[
        "ctl",
        "status",
        "--admin",
        &plain,
        "--token-file",
        &place.token,
    ]);
    assert!(told.status.success(), "{}", text(&told));
    let manner = Manner::new(&place.authority.ca(), None);
    let shown = || {
        let client = manner.connect(([127, 0, 0, 1], place.port).into());
        client.expect("let in").server_certificate()
    };
    let before = shown();
    install(&place.authority.numbered("localhost", 12));
    until("the new certificate is shown", || shown() != before);
    distributor.stop().assert_clean();
}

#[test]
fn tls_of_operators_without_their_address_is_refused() {
    let place = Place::new("wrong-operators");
    let pair = place.authority.pair("localhost").flags();
    for admin in ["off", "/tmp/weir-x/admin.sock"] {
        let line = format!("distributor --admin {admin} --admin-tls required {pair}");
        let told = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(told.status.code(), Some(2), "{}", text(&told));
        assert!(
            text(&told).contains("allowed: with --admin IP:PORT"),
            "{}",
            text(&told)
        );
    }
}

#[test]
fn whoever_speaks_something_else_is_told_what_is_wrong() {
    let place = Place::new("something-else");
    let (secured, _analyzer) = distributor(&place.flags("required"), Payloads::Numbered);
    let at = format!("127.0.0.1:{}", place.port);
    let token = ["--token-file", &place.token];
    // Without TLS, where it is required.
    let plain = format!("http://{at}");
    let told = run(&[&["ctl", "status", "--admin", &plain][..], &token].concat());
    let said = format!(
        "{plain}: it closed before its answer was whole; perhaps that port speaks TLS: https://"
    );
    assert!(text(&told).contains(&said), "{}", text(&told));
    // With TLS, where it is not spoken.
    let ca = place.authority.ca().display().to_string();
    let http =
        Distributor::start("--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0");
    let other = http.http.expect("a port");
    let said = "it does not speak TLS at that port: its answer begins with HTTP/1.1 400";
    let told = run(&[
        &[
            "ctl",
            "status",
            "--tls-ca",
            &ca,
            "--admin",
            &format!("https://{other}"),
        ][..],
        &token,
    ]
    .concat());
    assert!(text(&told).contains(said), "{}", text(&told));
    // The same of analyzers, which checks ask and links lead to.
    let from = Distributor::start(&format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --health-interval 1s \
         --analyzer a1=1@http://{at}/ --analyzer a2=1@https://{other}/?tls_ca={ca} --analyzer a3=1@relp://{at} \
         --analyzer a4=1@relp+tls://{other}?tls_ca={ca}"
    ));
    from.wait_log(&format!(
        "id=\"a1\": {at}: it closed before its answer was whole; perhaps that port speaks TLS"
    ));
    from.wait_log(&format!("id=\"a2\": {other}: TLS: {said}"));
    from.wait_log(&format!(
        "id=\"a3\": {at}: it closed before its greeting was whole; perhaps that port speaks TLS"
    ));
    from.wait_log(&format!("id=\"a4\": {other}: TLS: {said}"));
    from.stop();
    http.stop().assert_clean();
    secured.stop();
}

/// Connections without the token that the operators' port has places for.
const GUESTS_MAX: usize = 32;

/// Who comes again as soon as it is closed, on so many connections at once.
fn come_again(at: (&str, u16), count: usize, greet: &[u8], stop: &AtomicBool) {
    let connect = || {
        let mut socket = TcpStream::connect(at).expect("a backlog");
        socket.write_all(greet).expect("sent");
        socket.set_nonblocking(true).expect("a socket");
        socket
    };
    let mut all: Vec<_> = (0..count).map(|_| connect()).collect();
    while !stop.load(Ordering::Relaxed) {
        for socket in &mut all {
            let is_open = matches!(socket.read(&mut [0; 512]), Err(why) if why.kind() == ErrorKind::WouldBlock);
            if !is_open {
                *socket = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_has_not_shown_the_token_keeps_no_operator_out() {
    for (mode, greet) in [
        ("required", &b""[..]),
        ("required", b"\x16\x03\x01\x02\x00\x01"),
        ("off", b""),
        ("off", b"GET /admin/status HTTP/1.1\r\n"),
    ] {
        let place = Place::new("guests");
        let flags = format!("{} --http 127.0.0.1:0", place.flags(mode));
        let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
        let at = ("127.0.0.1", place.port);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| come_again(at, GUESTS_MAX + 1, greet, &stop));
            std::thread::sleep(Duration::from_millis(300));
            for _ in 0..3 {
                let from = Instant::now();
                let told = match mode {
                    "off" => place.asks_plain(&["ctl", "health", "live"]),
                    _ => place.asks(&["ctl", "health", "live"], Some(&place.client)),
                };
                let took = from.elapsed();
                if !told.status.success() || took > Duration::from_secs(2) {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{mode} {greet:?}: {took:?}: {}", text(&told));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        if mode == "required" {
            let series = "weir_tls_refused_total{port=\"admin\",reason=\"handshake_displaced\"} ";
            until(series, || ask(&distributor, "/metrics").contains(series));
        }
        distributor.wait_log("32 connections that have not shown the token were open");
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}

#[test]
fn operators_have_places_of_their_own_and_not_without_bound() {
    let place = Place::new("full");
    let flags = place.flags("off");
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let at = ("127.0.0.1", place.port);
    let open = |path: &str, token: &str| {
        let mut socket = TcpStream::connect(at).expect("a backlog");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("sent");
        let mut first = [0; 12];
        socket.read_exact(&mut first).expect("an answer");
        (socket, String::from_utf8_lossy(&first).into_owned())
    };
    // Streams of guests, then of operators, then as many who come without a word as there are places.
    let guests: Vec<_> = (0..8).map(|_| open("/events", "no")).collect();
    assert_eq!(open("/events", "no").1, "HTTP/1.1 503");
    let operators: Vec<_> = (0..8).map(|_| open("/events", TOKEN)).collect();
    assert!(guests
        .iter()
        .chain(&operators)
        .all(|it| it.1 == "HTTP/1.1 200"));
    let _silent: Vec<_> = (0..GUESTS_MAX).map(|_| TcpStream::connect(at)).collect();
    let goes_on = |mut socket: &TcpStream| {
        let patience = Some(Duration::from_secs(2));
        socket.set_read_timeout(patience).expect("a time");
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if matches!(socket.read(&mut [0; 65_536]), Ok(0) | Err(_)) {
                return false;
            }
        }
        true
    };
    assert!(goes_on(&operators[0].0), "an operator's stream stays");
    assert!(!goes_on(&guests[0].0), "a guest's makes room");
    drop((guests, operators, analyzer));
    distributor.stop().assert_clean();
}
