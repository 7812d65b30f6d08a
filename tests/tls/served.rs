//! What each port serves: certificates by the name that is asked for, clients' certificates here and not there, protocols,
//! and secrets only where they are asked for.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use weir_testkit::numbered::numbered;
use weir_testkit::process::{run, weir};
use weir_testkit::wire::hello;
use weir_testkit::{peers, until, Authority, Distributor, Pair, Scratch};

use super::client::{Client, Manner};
use super::names::ask;
use super::renewal::{der_of, install};
use super::scanned::rsa_pair;

const PORTS: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 1";

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new("sni");
    let names = ["one.example.org", "two.example.org", "*.wild.example.org"];
    let pairs = names.map(|name| authority.pair(name));
    let served = Pair {
        cert: authority.path("served.pem"),
        key: authority.path("served.key"),
    };
    install(&pairs[1], &served);
    let [one, _, wild] = &pairs;
    let flags = [one, &served, wild].map(Pair::flags).join(" ");
    let distributor = Distributor::start(&format!("{PORTS} {flags} --emitters-tls required"));
    let manner = Manner::new(&authority.ca(), None);
    let shown = |name: &'static str| {
        let client = manner.asking(name).connect(distributor.emitters);
        client.expect(name).server_certificate()
    };
    assert_eq!(shown("one.example.org"), der_of(&one.cert));
    assert_eq!(shown("TWO.example.org"), der_of(&pairs[1].cert));
    assert_eq!(shown("a.wild.example.org"), der_of(&wild.cert));
    // An address is no name, and nobody has this one: the first.
    assert_eq!(shown("127.0.0.1"), der_of(&one.cert));
    let other = manner.asking("three.example.org");
    let Err(error) = other.connect(distributor.emitters) else {
        panic!("a certificate of three.example.org");
    };
    assert!(error.to_string().contains("one.example.org"), "{error}");

    let next = authority.pair("two.example.org");
    install(&next, &served);
    until("the second is another", || {
        shown("two.example.org") == der_of(&next.cert)
    });
    assert_eq!(shown("one.example.org"), der_of(&one.cert));
    until("each has its end in the metrics", || {
        let metrics = ask(&distributor, "/metrics");
        let series = "weir_tls_certificate_expires_seconds{port=\"emitters\",serial=";
        metrics.matches(series).count() == 3
    });
}

#[test]
fn of_two_keys_a_client_gets_the_one_that_it_can_check() {
    let authority = Authority::new("two-keys");
    let Some(rsa) = rsa_pair(&authority) else {
        return;
    };
    let flags = format!("{} {}", authority.pair("localhost").flags(), rsa.flags());
    let distributor = Distributor::start(&format!("{PORTS} {flags} --emitters-tls required"));
    for (version, offered, used) in [
        ("-tls1_3", "ECDSA+SHA256:RSA-PSS+SHA256", "ecdsa"),
        ("-tls1_3", "RSA-PSS+SHA256", "rsa"),
        ("-tls1_2", "RSA-PSS+SHA256", "rsa"),
        ("-tls1_2", "ECDSA+SHA256", "ecdsa"),
    ] {
        let mut openssl = peers::program("openssl").expect("it made a key");
        openssl.args([
            "s_client",
            version,
            "-sigalgs",
            offered,
            "-servername",
            "localhost",
        ]);
        openssl.args(["-connect", &distributor.emitters.to_string()]);
        openssl.stdin(std::process::Stdio::null());
        let said = openssl.output().expect("it runs");
        let said = String::from_utf8_lossy(&said.stdout).to_lowercase();
        let kind = { said.lines() }.find_map(|line| line.strip_prefix("peer signature type: "));
        assert!(
            kind.is_some_and(|kind| kind.starts_with(used)),
            "{offered}: {said}"
        );
    }
}

/// Sends a message; whether it is let in, as far as it can tell.
fn is_let_in(manner: &Manner, at: SocketAddr, message: &[u8]) -> bool {
    let Ok(mut client) = manner.connect(at) else {
        return false;
    };
    client.send(message).is_ok() && is_open(&mut client)
}

fn is_open(client: &mut Client) -> bool {
    let patience = std::time::Duration::from_millis(500);
    client
        .0
        .sock
        .set_read_timeout(Some(patience))
        .expect("a time");
    let read = client.0.read(&mut [0; 100]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn each_port_asks_its_own_clients_for_certificates() {
    let (mine, others) = (Authority::new("mine"), Authority::new("others"));
    let own = others.pair("localhost");
    let flags = format!(
        "{PORTS} {} --tls-client-ca {} --http-tls required --http-tls-clients off \
         --emitters-tls required --emitters-tls-names web1 \
         --input syslog@127.0.0.1:0?name=edge&tls=required&tls_cert={}&tls_key={}&tls_client_ca={} \
         --input syslog@127.0.0.1:0?name=public&tls=required&tls_clients=off",
        mine.pair("localhost").flags(),
        mine.ca().display(),
        own.cert.display(),
        own.key.display(),
        others.ca().display(),
    );
    let distributor = Distributor::start(&flags);
    let web = |authority: &Authority, ca: &Authority, name: &str| {
        Manner::new(&ca.ca(), Some(&authority.pair(name)))
    };
    let (web1, web2) = (web(&mine, &mine, "web1"), web(&mine, &mine, "web2"));
    let nobody = Manner::new(&mine.ca(), None);
    let at = distributor.emitters;
    let frame = numbered(1, 20);
    assert!(is_let_in(&web1, at, &frame) && !is_let_in(&web2, at, &frame));
    assert!(!is_let_in(&nobody, at, &frame));

    let mut browser = nobody
        .connect(distributor.http.expect("a port"))
        .expect("let in");
    browser
        .send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    let _ = browser.0.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let line = b"<13>1 - - - - - - hello\n";
    let edge = distributor.input("edge");
    assert!(is_let_in(&web(&others, &others, "web1"), edge, line));
    assert!(!is_let_in(&web(&mine, &others, "web1"), edge, line));
    assert!(!is_let_in(&Manner::new(&others.ca(), None), edge, line));
    let edge = web(&others, &others, "web1").connect(edge).expect("let in");
    assert_eq!(edge.server_certificate(), der_of(&own.cert));
    assert!(is_let_in(&nobody, distributor.input("public"), line));
    for (port, reason) in [
        ("emitters", "name_not_allowed"),
        ("emitters", "no_certificate"),
        ("edge", "unknown_ca"),
        ("edge", "no_certificate"),
    ] {
        let line = distributor.lines(&format!("{port}: 127.0.0.1 refused"));
        assert!(!line.is_empty(), "{port}: {reason}");
    }
}

#[test]
fn an_http_port_speaks_http_1_1_and_says_so_and_others_do_not_mind_what_is_named() {
    let authority = Authority::new("alpn");
    let flags = authority.pair("localhost").flags();
    let distributor = Distributor::start(&format!(
        "{PORTS} {flags} --emitters-tls required --http-tls optional"
    ));
    let manner = Manner::new(&authority.ca(), None);
    let http = distributor.http.expect("a port");
    let both = manner
        .speaking(&["h2", "http/1.1"])
        .connect(http)
        .expect("let in");
    assert_eq!(both.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let none = manner.connect(http).expect("let in");
    assert_eq!(none.0.conn.alpn_protocol(), None);
    let Err(error) = manner.speaking(&["h2"]).connect(http) else {
        panic!("HTTP/2 is not spoken");
    };
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    distributor.wait_log("it asks for other protocols than http/1.1 (ALPN)");
    let counted = "weir_tls_refused_total{port=\"http\",reason=\"no_application_protocol\"} 1\n";
    until(counted, || ask(&distributor, "/metrics").contains(counted));
    let odd = manner.speaking(&["weir/9"]).connect(distributor.emitters);
    assert_eq!(odd.expect("let in").0.conn.alpn_protocol(), None);
}

#[test]
fn secrets_are_written_only_where_they_are_asked_for() {
    let authority = Authority::new("key-log");
    let scratch = Scratch::new("key-log-files");
    let (of_variable, of_flag) = (scratch.path("variable"), scratch.path("flag"));
    let flags = format!(
        "distributor {PORTS} {} --emitters-tls required --log-level debug",
        authority.pair("localhost").flags()
    );
    let manner = Manner::new(&authority.ca(), None);
    let start = |more: &str| {
        let mut command = Command::new(weir());
        command.args(format!("{flags} {more}").trim_end().split(' '));
        command.env("SSLKEYLOGFILE", &of_variable);
        Distributor::start_command(command)
    };
    let distributor = start("");
    drop(manner.connect(distributor.emitters).expect("let in"));
    distributor.stop();
    assert!(!of_variable.exists());

    // Whoever only checks a file leaves none behind.
    let pair = authority.pair("localhost");
    let text = format!(
        "[tls]\nemitters_tls = \"required\"\ntls_cert = {:?}\ntls_key = {:?}\ntls_key_log = {of_flag:?}\n",
        pair.cert, pair.key
    );
    let file = scratch.write("weir.toml", &text).display().to_string();
    let checked = run(&["check", &file]);
    assert!(checked.status.success() && !of_flag.exists(), "{checked:?}");
    let distributor = start(&format!("--tls-key-log {}", of_flag.display()));
    distributor.wait_log("--tls-key-log");
    drop(manner.connect(distributor.emitters).expect("let in"));
    let text = || std::fs::read_to_string(&of_flag).unwrap_or_default();
    until("its secrets", || {
        text().contains("SERVER_TRAFFIC_SECRET_0 ")
    });
    let mode = std::fs::metadata(&of_flag)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let secrets = text();
    let secrets = secrets.lines().filter_map(|line| line.rsplit(' ').next());
    for secret in secrets {
        assert!(secret.len() >= 64, "{secret}");
        assert!(distributor.lines(secret).is_empty(), "in the log");
    }
    distributor.stop();
    assert!(!of_variable.exists());

    std::fs::set_permissions(&of_flag, PermissionsExt::from_mode(0o644)).expect("set");
    let line = format!("{flags} --tls-key-log {}", of_flag.display());
    let refused = run(&line.split(' ').collect::<Vec<_>>());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.contains("others than its owner may read or write it (mode 0644)"),
        "{told}"
    );
    assert_eq!(refused.status.code(), Some(2), "{told}");
}

#[test]
fn a_port_where_only_certificates_come_in_is_not_called_open_and_emitters_that_could_be_analyzers_are_named(
) {
    let authority = Authority::new("warned");
    let everywhere = "--emitters 0.0.0.0:0 --analyzers 0.0.0.0:0 --shards 1 --emitters-tls required --analyzers-tls required";
    let flags = format!(
        "{everywhere} {} --tls-client-ca {}",
        authority.pair("localhost").flags(),
        authority.ca().display()
    );
    for (more, open, mixed) in [
        ("", 0, 1),
        ("--analyzers-tls-names a1", 0, 0),
        ("--tls-clients optional", 2, 1),
    ] {
        let distributor = Distributor::start(&format!("{flags} {more}"));
        distributor.wait_log("ready emitters=");
        let lines = |text: &str| distributor.lines(text).len();
        assert_eq!(lines(": whoever reaches this port"), open, "{more}");
        assert_eq!(
            lines("--analyzers-tls-names says whose may"),
            mixed,
            "{more}"
        );
    }
}

#[test]
fn health_names_a_certificate_that_ends_soon() {
    let scratch = Scratch::new("ends-soon");
    let dir = scratch.path("certs").display().to_string();
    let made = run(&["cert", "--dir", &dir, "--days", "3"]);
    assert!(made.status.success());
    let flags = format!("--tls-cert {dir}/localhost.pem --tls-key {dir}/localhost.key");
    let distributor = Distributor::start(&format!("{PORTS} {flags} --emitters-tls required"));
    until("it is named", || {
        ask(&distributor, "/health").contains("expires in 2 days, on ")
    });
}

#[test]
fn what_does_not_go_together_is_refused_with_what_does() {
    let authority = Authority::new("wrong");
    let (pair, ca) = (authority.pair("localhost"), authority.ca());
    let (served, ca) = (pair.flags(), ca.display());
    let cert = pair.cert.display();
    let input = |options: &str| format!("--input syslog@127.0.0.1:0?name=s&{options}");
    for (flags, said) in [
        (
            format!("{served} --tls-cert {cert} --emitters-tls required"),
            "--tls-cert: 2 certificates and 1 keys; allowed: a --tls-key for each",
        ),
        (
            format!("{served} --emitters-tls required --emitters-tls-clients required"),
            "--emitters-tls-clients: clients are asked for certificates, and no CA of theirs is known",
        ),
        (
            format!("{served} --tls-client-ca {ca} --emitters-tls required --emitters-tls-clients off --emitters-tls-names web1"),
            "--emitters-tls-names: clients show no certificates there",
        ),
        (
            format!("{served} --http-tls required --http-tls-clients maybe"),
            "maybe",
        ),
        (
            format!("{served} --analyzers-tls required --analyzer-id certificate"),
            "--analyzers-tls-ids certificate: analyzers show no certificates; allowed: with --analyzers-tls and --tls-client-ca",
        ),
        (
            format!("{served} --tls-key-log /tmp/weir-no-such-log"),
            "--tls-key-log: TLS is spoken nowhere",
        ),
        (
            format!("{served} --emitters-tls required --tls-key-log /dev/null"),
            "/dev/null: it is no file",
        ),
        (
            format!("{served} {}", input("tls_client_ca=/nowhere")),
            "--input s: tls_cert, tls_key, tls_client_ca, tls_clients, tls_names: TLS is not spoken there",
        ),
        (
            input(&format!("tls=required&tls_cert={cert}")),
            "--input s: tls_cert: its key is missing (--input s: tls_key)",
        ),
        (
            format!("{served} {}", input("tls=required&tls_clients=required")),
            "--input s: tls_clients: clients are asked for certificates",
        ),
        (
            format!("{served} {}", input("tls=required&tls_client_ca=/nowhere")),
            "/nowhere: No such file",
        ),
        (
            format!("{served} {}", input("tls=required&tls_clients=never")),
            "tls_clients=never: allowed: auto, off, optional, required",
        ),
        (
            format!("{served} {}", input("tls=required&tls_names=*")),
            "tls_names=*: *: allowed: ",
        ),
    ] {
        let line = format!("distributor {PORTS} {flags}");
        let refused = run(&line.split(' ').collect::<Vec<_>>());
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains(said), "{flags}: {told}");
        assert_eq!(refused.status.code(), Some(2), "{flags}: {told}");
    }
}

#[test]
fn settings_of_ports_are_keys_of_the_file_and_a_reload_takes_them_over() {
    let (mine, others) = (Authority::new("file"), Authority::new("file-others"));
    let scratch = Scratch::new("tls-file");
    let path = |pair: &std::path::Path| pair.display().to_string();
    let two = [mine.pair("one.example.org"), mine.pair("two.example.org")];
    let file = |ca: &Authority| {
        let text = format!(
            "[tls]\nemitters_tls = \"required\"\ntls_cert = [{:?}, {:?}]\ntls_key = [{:?}, {:?}]\n\
             [[inputs]]\nprotocol = \"syslog\"\nlisten = \"127.0.0.1:0\"\nname = \"edge\"\ntls = \"required\"\n\
             tls_client_ca = {:?}\ntls_names = [\"web1\", \"web2\"]\n",
            path(&two[0].cert), path(&two[1].cert), path(&two[0].key), path(&two[1].key), path(&ca.ca()),
        );
        scratch.write("weir.toml", &text)
    };
    let config = file(&mine);
    let flags = format!("{PORTS} --config {} --watch-config", config.display());
    let distributor = Distributor::start_as_configured(&flags);
    let manner = |authority: &Authority| {
        let pair = authority.pair("web2");
        Manner::new(&mine.ca(), Some(&pair)).asking("two.example.org")
    };
    let line = b"<13>1 - - - - - - hello\n";
    let edge = distributor.input("edge");
    assert!(is_let_in(&manner(&mine), edge, line) && !is_let_in(&manner(&others), edge, line));
    file(&others);
    let said = distributor.wait_log("inputs.edge");
    assert!(!said.contains("restart"), "{said}");
    until("the other CA is asked for", || {
        is_let_in(&manner(&others), edge, line) && !is_let_in(&manner(&mine), edge, line)
    });
    let mut plain = std::net::TcpStream::connect(edge).expect("connected");
    let _ = plain.write_all(line);
}

/// What came together with the end of the handshake is read, and the WELCOME follows the tickets.
#[test]
fn an_analyzer_that_says_hello_with_its_last_of_the_handshake_is_welcomed_behind_its_tickets() {
    let authority = Authority::new("at-once");
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1 --analyzers-tls required {} --tls-client-ca {}",
        authority.pair("localhost").flags(),
        authority.ca().display()
    );
    let distributor = Distributor::start(&flags);
    let manner = Manner::new(&authority.ca(), Some(&authority.pair("a1")));
    for nth in 0..20 {
        let hello = hello(1, 1.0, &format!("a1#{nth}"), None);
        let mut client = manner
            .connect_saying(distributor.analyzers, &hello)
            .expect("let in");
        let mut welcome = [0; 32];
        client.0.read_exact(&mut welcome).expect("a WELCOME");
        assert_eq!(&welcome[..6], b"\xD7EIR\x01\x00", "accepted");
    }
    distributor.stop().assert_clean();
}
