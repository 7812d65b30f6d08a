//! The admin API at a TCP address, over TLS: `weir ctl`, `top` and `tap` with certificates, and who is kept out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

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

#[test]
fn an_operators_port_that_is_full_counts_who_finds_no_place() {
    let place = Place::new("full");
    let flags = format!("{} --http 127.0.0.1:0", place.flags("required"));
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let at = ("127.0.0.1", place.port);
    let held: Vec<_> = (0..16)
        .map(|_| TcpStream::connect(at).expect("a place"))
        .collect();
    let mut late = TcpStream::connect(at).expect("a backlog");
    assert_eq!(late.read(&mut [0]).expect("closed"), 0);
    let series = "weir_tls_refused_total{port=\"admin\",reason=\"handshake_displaced\"} 1\n";
    until(series, || ask(&distributor, "/metrics").contains(series));
    distributor.wait_log("admin connections: 16 are open, which is the most");
    drop((held, analyzer));
    distributor.stop().assert_clean();
}
