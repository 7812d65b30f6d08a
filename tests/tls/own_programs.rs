//! Emitter, analyzer, ctl and top over TLS, against a distributor: certificates that `weir cert` has made, and those
//! that must be refused. Each program goes on when what was wrong is mended.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_testkit::process::{run, run_command, weir};
use weir_testkit::{until, Authority, Distributor, Pair, Port, Program, Scratch};

const PORTS: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --emitters-tls required --analyzers-tls required";

/// Certificates in a folder that goes away.
struct Certs(Scratch);

impl Certs {
    /// For a distributor at localhost, and the client web1.
    fn new(name: &str) -> Certs {
        let certs = Certs(Scratch::new(name));
        certs.make("--name localhost,127.0.0.1 --client web1,a1,a2");
        certs
    }

    fn make(&self, flags: &str) {
        let made = self.cert(flags);
        assert!(made.status.success(), "{}", text(&made));
    }

    fn cert(&self, flags: &str) -> Output {
        let line = format!("cert --dir {} {flags}", self.dir());
        run(&line.split(' ').collect::<Vec<_>>())
    }

    fn dir(&self) -> String {
        self.0.path("certs").display().to_string()
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir())
    }

    /// What a distributor that asks for certificates is told.
    fn served(&self) -> String {
        format!(
            "{PORTS} --tls-cert {} --tls-key {} --tls-client-ca {}",
            self.path("localhost.pem"),
            self.path("localhost.key"),
            self.path("ca.pem")
        )
    }

    /// What a client is told that shows web1's.
    fn shown(&self) -> String {
        self.shown_of("web1")
    }

    /// The same of another client.
    fn shown_of(&self, client: &str) -> String {
        format!(
            "--tls --tls-ca {} --tls-cert {} --tls-key {}",
            self.path("ca.pem"),
            self.path(&format!("{client}.pem")),
            self.path(&format!("{client}.key"))
        )
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Both address and name are the operator's: `localhost` stands in the certificate.
fn localhost(addr: SocketAddr) -> String {
    format!("localhost:{}", addr.port())
}

/// Runs an emitter of ten messages that gives up after two seconds; what it says.
fn emit(flags: &str) -> Output {
    let line = format!("emitter --rate 10 --duration 1 --size 100 {flags}");
    run_command(Command::new(weir()).args(line.split(' ')))
}

#[test]
fn a_hundred_thousand_messages_of_clients_with_certificates_are_balanced() {
    let certs = Certs::new("tls-balanced");
    let file = |name: &str| certs.0.path(name).display().to_string();
    let flags = format!("{} --shards 2 --report {}", certs.served(), file("d.json"));
    let distributor = Distributor::start(&flags);
    let (shown, to) = (certs.shown(), localhost(distributor.analyzers));
    let analyzers: Vec<Program> = ["a1", "a2"]
        .iter()
        .map(|id| {
            let report = file(&format!("{id}.json"));
            let shown = certs.shown_of(id);
            Program::start(&format!(
                "analyzer --addr {to} --id {id} --ack-every 100 --report {report} {shown}"
            ))
        })
        .collect();
    distributor.wait_lanes(2);
    let to = localhost(distributor.emitters);
    let emitters: Vec<Program> = ["--acked", "--batch 16 --checksum"]
        .iter()
        .zip(["e1", "e2"])
        .map(|(how, id)| {
            let report = file(&format!("{id}.json"));
            Program::start(&format!(
                "emitter --addr {to} --id {id} --rate 0 --count 50000 --connections 8 --size 256 {how} --report {report} {shown}"
            ))
        })
        .collect();
    for emitter in emitters {
        emitter.wait();
    }
    for analyzer in analyzers {
        analyzer.signal("-TERM");
        analyzer.wait();
    }
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.received, 100_000);
    let files = ["d", "a1", "a2", "e1", "e2"].map(|name| file(&format!("{name}.json")));
    let mut args = vec!["audit"];
    args.extend(files.iter().map(String::as_str));
    let audited = run(&args);
    assert!(audited.status.success(), "{}", text(&audited));
}

#[test]
fn who_is_not_who_was_asked_for_is_refused_by_name() {
    let certs = Certs::new("tls-refused");
    let distributor = Distributor::start(&format!("{} --shards 1", certs.served()));
    let port = distributor.emitters.port();
    let stranger = Certs::new("tls-stranger");
    let strangers = format!("--tls --tls-ca {}", stranger.path("ca.pem"));
    let no_pair = format!("--tls --tls-ca {}", certs.path("ca.pem"));
    for (flags, said) in [
        (
            format!("--addr localhost:{port} {strangers}"),
            "its certificate is of a CA that is not trusted here; name that CA's file by --tls-ca [certificate of localhost, 127.0.0.1; serial ",
        ),
        (
            format!("--addr localhost:{port} {} --tls-name weir.example", certs.shown()),
            "its certificate is of somebody else than who was asked for; --tls-name says whose is expected",
        ),
        (
            format!("--addr localhost:{port} {no_pair}"),
            "it lets in only who shows a certificate (alert CertificateRequired); show one by --tls-cert and --tls-key",
        ),
        (
            format!("--addr localhost:{port} {no_pair} --acked"),
            "it lets in only who shows a certificate",
        ),
        (
            format!(
                "--addr localhost:{port} {no_pair} --tls-cert {} --tls-key {}",
                stranger.path("web1.pem"),
                stranger.path("web1.key")
            ),
            "it does not know the CA of this side's certificate",
        ),
    ] {
        let output = emit(&flags);
        let told = text(&output);
        assert!(told.contains(said), "{flags}: {told}");
        assert!(told.contains(&format!("127.0.0.1:{port}")), "{told}");
        assert!(told.contains("connecting again"), "{told}");
        assert!(told.contains("Sent 0 messages"), "{flags}: {told}");
        assert_eq!(output.status.code(), Some(1), "{flags}: {told}");
    }
    // An address of the host, which its certificate names as well.
    let mut analyzer = Command::new(weir());
    let line = format!(
        "analyzer --reconnect=false --addr localhost:{} {strangers}",
        distributor.analyzers.port()
    );
    let told = text(&run_command(analyzer.args(line.split(' '))));
    assert!(told.contains("a CA that is not trusted here"), "{told}");
    let balance = distributor.stop().balance();
    assert_eq!(balance.received, 0, "nothing of a stranger's came in");
}

#[test]
fn a_client_goes_on_when_what_was_wrong_is_mended() {
    let certs = Certs::new("tls-mended");
    let distributor = Distributor::start(&format!("{} --shards 1", certs.served()));
    let stranger = Certs::new("tls-mended-stranger");
    let ca = certs.0.path("ca-of-client.pem");
    fs::copy(stranger.path("ca.pem"), &ca).expect("copied");
    let shown = certs
        .shown()
        .replace(&certs.path("ca.pem"), ca.to_str().expect("plain"));
    let mut command = Command::new(weir());
    let line = format!(
        "emitter --addr {} --count 10 --size 100 {shown}",
        localhost(distributor.emitters)
    );
    command.args(line.split(' ')).stderr(Stdio::null());
    let analyzer = Program::start(&format!(
        "analyzer --addr {} --id a1 {}",
        localhost(distributor.analyzers),
        certs.shown_of("a1")
    ));
    distributor.wait_lanes(1);
    let mut emitter = Program::start_command(command, "the emitter");
    until("a refusal in the distributor's log", || {
        !distributor
            .lines("does not know the CA of this side's certificate")
            .is_empty()
    });
    assert!(emitter.is_running());
    fs::copy(certs.path("ca.pem"), &ca).expect("copied");
    emitter.wait();
    analyzer.signal("-TERM");
    analyzer.wait();
    assert_eq!(distributor.stop().assert_clean().received, 10);
}

/// As in a container: everything out of the environment.
#[test]
fn variables_say_what_is_shown_and_half_a_pair_is_refused() {
    let certs = Certs::new("tls-variables");
    let distributor = Distributor::start(&format!("{} --shards 1", certs.served()));
    let emitter = |variables: &[(&str, String)]| {
        let mut command = Command::new(weir());
        command.args(["emitter", "--count", "10", "--size", "100", "--addr"]);
        command.arg(localhost(distributor.emitters));
        for (name, value) in variables {
            command.env(format!("WEIR_EMITTER_{name}"), value);
        }
        run_command(&mut command)
    };
    let all = [
        ("TLS", "true".to_owned()),
        ("TLS_CA", certs.path("ca.pem")),
        ("TLS_CERT", certs.path("web1.pem")),
        ("TLS_KEY", certs.path("web1.key")),
    ];
    let sent = text(&emitter(&all));
    assert!(sent.contains("Sent 10 messages"), "{sent}");
    let half = emitter(&all[..3]);
    assert!(!half.status.success(), "{}", text(&half));
    let said = "--tls-cert: its key is missing (--tls-key)";
    assert!(text(&half).contains(said), "{}", text(&half));
    let half = run(&["ctl", "status", "--tls-key", &certs.path("web1.key")]);
    let said = "--tls-key: its certificate is missing (--tls-cert)";
    assert!(text(&half).contains(said), "{}", text(&half));
    drop(distributor);
}

#[test]
fn packets_and_orders_go_over_https() {
    let certs = Certs(Scratch::new("tls-https"));
    certs.make("--name localhost");
    let token = certs.0.write("token", "0123456789abcdef0123456789abcdef");
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --http-tls required --tls-cert {} --tls-key {} --admin-token-file {} --shards 1",
        certs.path("localhost.pem"),
        certs.path("localhost.key"),
        token.display()
    );
    let distributor = Distributor::start(&flags);
    let analyzer = Program::start(&format!(
        "analyzer --addr {} --id a1",
        distributor.analyzers
    ));
    distributor.wait_lanes(1);
    let http = distributor.http.expect("it listens");
    let (url, ca) = (format!("https://{}", localhost(http)), certs.path("ca.pem"));
    let sent = emit(&format!("--http {url} --tls-ca {ca}"));
    assert!(text(&sent).contains("Sent 10 messages"), "{}", text(&sent));
    let token = token.to_str().expect("plain").to_owned();
    let ask = |admin: &str, more: &[&str]| {
        let reach = ["--admin", admin, "--token-file", &token, "--tls-ca", &ca];
        run(&[more, &reach].concat())
    };
    let dns = format!("dns+{}", localhost(http));
    for (admin, more) in [
        (url.as_str(), &["ctl", "status"][..]),
        (&url, &["top", "--once"]),
        (&dns, &["top", "--once", "--tls"]),
        (&dns, &["ctl", "status", "--all", "--tls"]),
    ] {
        let told = ask(admin, more);
        assert!(told.status.success(), "{more:?}: {}", text(&told));
        assert!(text(&told).contains("a1"), "{more:?}: {}", text(&told));
    }
    let by_address = ask(&format!("https://{http}"), &["ctl", "status"]);
    let plain = ask(&format!("http://{}", localhost(http)), &["ctl", "status"]);
    for wrong in [&by_address, &plain] {
        assert_eq!(wrong.status.code(), Some(1), "{}", text(wrong));
    }
    assert!(
        text(&by_address).contains("of somebody else than who was asked for"),
        "{}",
        text(&by_address)
    );
    let idle = run(&["ctl", "status", "--admin", "/x.sock", "--tls-ca", &ca]);
    assert!(
        text(&idle).contains("--tls-ca: TLS is not spoken"),
        "{}",
        text(&idle)
    );
    analyzer.signal("-TERM");
    analyzer.wait();
    assert_eq!(distributor.stop().assert_clean().received, 10);
}

#[test]
fn an_analyzer_takes_packets_over_https_of_who_shows_a_certificate() {
    let certs = Certs::new("tls-analyzer-https");
    let held = Port::hold();
    let (port, ca) = (held.number(), certs.path("ca.pem"));
    let analyzer = Program::start(&format!(
        "analyzer --http 127.0.0.1:{port} --id a1 --json --count 10 --tls-cert {} --tls-key {} --tls-ca {ca}",
        certs.path("localhost.pem"),
        certs.path("localhost.key")
    ));
    let url = format!("https://localhost:{port}");
    until("the analyzer listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let stranger = text(&emit(&format!("--http {url} --tls-ca {ca}")));
    assert!(
        stranger.contains("lets in only who shows a certificate"),
        "{stranger}"
    );
    let plain = text(&emit(&format!("--http http://localhost:{port}")));
    assert!(plain.contains("closed without an answer"), "{plain}");
    let shown = certs.shown().replace("--tls ", "");
    let sent = text(&emit(&format!("--http {url} {shown}")));
    assert!(sent.contains("Sent 10 messages"), "{sent}");
    assert!(analyzer.wait().contains(r#""messages":10,"#));
    let refused = run(&["analyzer", "--http", "127.0.0.1:1", "--tls-ca", &ca]);
    assert!(
        text(&refused).contains("--tls-ca: TLS is not spoken at --http"),
        "{}",
        text(&refused)
    );
}

/// TLS all the way: an emitter's packets over HTTPS, and on to an analyzer over HTTPS, with certificates everywhere.
#[test]
fn packets_go_over_https_to_an_analyzer_and_are_balanced() {
    let certs = Certs::new("tls-all-the-way");
    let held = Port::hold();
    let (port, ca) = (held.number(), certs.path("ca.pem"));
    let file = |name: &str| certs.0.path(name).display().to_string();
    let (server, key) = (certs.path("localhost.pem"), certs.path("localhost.key"));
    let shown = certs.shown().replace("--tls ", "");
    let analyzer = Program::start(&format!(
        "analyzer --http 127.0.0.1:{port} --id a1 --report {} --tls-cert {server} --tls-key {key} --tls-ca {ca}",
        file("a1.json")
    ));
    let (own, own_key) = (certs.path("web1.pem"), certs.path("web1.key"));
    let distributor = Distributor::start(&format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --http-tls required --shards 1 \
         --tls-cert {server} --tls-key {key} --tls-client-ca {ca} --report {} \
         --http-analyzer a1=1@https://localhost:{port}?tls_ca={ca}&tls_cert={own}&tls_key={own_key}",
        file("d.json")
    ));
    let http = localhost(distributor.http.expect("it listens"));
    let emitter = Program::start(&format!(
        "emitter --http https://{http} --id e1 --rate 0 --count 100000 --batch 500 --connections 4 --report {} {shown}",
        file("e1.json")
    ));
    emitter.wait();
    let balance = distributor.stop().assert_clean();
    assert_eq!(balance.received, 100_000);
    analyzer.signal("-TERM");
    analyzer.wait();
    let files = ["d", "a1", "e1"].map(|name| file(&format!("{name}.json")));
    let mut args = vec!["audit"];
    args.extend(files.iter().map(String::as_str));
    let audited = run(&args);
    assert!(audited.status.success(), "{}", text(&audited));
}

#[test]
fn a_port_that_speaks_no_tls_is_named_so() {
    let certs = Certs::new("tls-plain-port");
    let distributor = Distributor::start("--http 127.0.0.1:0 --shards 1");
    let told = emit(&format!(
        "--addr {} {}",
        localhost(distributor.emitters),
        certs.shown()
    ));
    let said = text(&told);
    assert!(said.contains("is TLS spoken at that port?"), "{said}");
    let http = localhost(distributor.http.expect("it listens"));
    let ca = certs.path("ca.pem");
    let told = run(&[
        "ctl",
        "status",
        "--admin",
        &format!("https://{http}"),
        "--tls-ca",
        &ca,
    ]);
    let said = text(&told);
    assert!(said.contains("TLS"), "{said}");
    distributor.stop();
}

/// One connection after the other is shown this certificate, for as long as the test runs.
fn serve(pair: &Pair) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(&pair.cert).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a pair");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("settings");
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let _ = stream.write(b"x").and_then(|_| stream.read(&mut [0; 64]));
        }
    });
    addr
}

#[test]
fn who_shows_what_is_not_valid_now_is_refused() {
    let authority = Authority::new("tls-not-now");
    for (pair, said) in [
        (
            authority.expired("localhost"),
            "its certificate has expired",
        ),
        (
            authority.not_yet_valid("localhost"),
            "its certificate is not valid yet",
        ),
    ] {
        let addr = serve(&pair);
        let told = emit(&format!(
            "--addr {} --tls --tls-ca {}",
            localhost(addr),
            authority.ca().display()
        ));
        let told = text(&told);
        assert!(told.contains(said), "{told}");
        assert!(
            told.contains("certificate of localhost, 127.0.0.1; serial"),
            "{told}"
        );
        assert!(told.contains("Sent 0 messages"), "{told}");
    }
}

#[test]
fn cert_never_overwrites_and_goes_on_with_its_ca() {
    let certs = Certs(Scratch::new("tls-cert"));
    let made =
        certs.cert("--name localhost,127.0.0.1 --client web1,spiffe://example.org/db --days 30");
    assert!(made.status.success(), "{}", text(&made));
    let said = text(&made);
    for part in [
        "ca.pem",
        "web1.pem",
        "spiffe---example.org-db.key",
        "weir distributor --emitters-tls required",
        "weir emitter --addr localhost:8080 --tls",
        "30 days",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (name, mode) in [
        ("ca.key", 0o600),
        ("localhost.key", 0o600),
        ("web1.key", 0o600),
        ("web1.pem", 0o644),
    ] {
        let found = fs::metadata(certs.path(name))
            .expect(name)
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    let before = fs::read(certs.path("localhost.pem")).expect("read");
    let again = certs.cert("--name localhost --client web2");
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again).contains("localhost.pem is there already"),
        "{}",
        text(&again)
    );
    assert!(
        !Path::new(&certs.path("web2.pem")).exists(),
        "nothing was written"
    );
    assert_eq!(fs::read(certs.path("localhost.pem")).expect("read"), before);
    let kept = certs.cert("--name localhost --client web1 --keep");
    assert!(kept.status.success(), "{}", text(&kept));
    assert!(text(&kept).contains("was left as it is"), "{}", text(&kept));
    certs.make("--name localhost --client web1,web3 --keep");
    assert!(Path::new(&certs.path("web3.pem")).exists());
    assert_eq!(fs::read(certs.path("localhost.pem")).expect("read"), before);
    certs.make("--name other.example --client web2");
    // Both are of one CA.
    let flags = certs.served().replace("localhost.", "other.example.");
    let distributor = Distributor::start(&format!("{flags} --shards 1"));
    let shown = certs.shown().replace("web1.", "web2.");
    let told = emit(&format!(
        "--addr 127.0.0.1:{} --tls-name other.example {shown}",
        distributor.emitters.port()
    ));
    assert!(text(&told).contains("1 connections"), "{}", text(&told));
    assert!(!text(&told).contains("certificate"), "{}", text(&told));
    assert!(
        !text(&told).contains("can read this key"),
        "{}",
        text(&told)
    );
    fs::set_permissions(certs.path("web2.key"), fs::Permissions::from_mode(0o644)).expect("set");
    let told = emit(&format!(
        "--addr 127.0.0.1:1 --tls-name other.example {shown}"
    ));
    assert!(
        text(&told).contains("everybody on this host can read this key (mode 0644)"),
        "{}",
        text(&told)
    );
    drop(distributor);
    fs::remove_file(certs.path("ca.key")).expect("removed");
    let half = certs.cert("--name third.example");
    assert!(text(&half).contains("ca.key is not"), "{}", text(&half));
    for (bad, said) in [
        ("--name a..b", "a DNS name"),
        ("--name ca", "none of them ca"),
        ("--days 0", "1.."),
    ] {
        let told = certs.cert(bad);
        assert!(text(&told).contains(said), "{bad}: {}", text(&told));
        assert!(!told.status.success());
    }
}
