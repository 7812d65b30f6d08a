//! TLS towards analyzers: servers of others, whose certificates are looked at.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, IsCa};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use weir_testkit::process::run;
use weir_testkit::{peers, until, Authority, Distributor, Emitter, Pair, Port, Program, Scratch};

use super::names::ask;
use super::renewal::install;

/// An HTTPS server that writes down what is posted, a request in turn.
const SERVER: &str = r#"
import http.server, ssl, sys
port, cert, key, ca, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], open(sys.argv[5], 'ab')
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        out.write(self.rfile.read(int(self.headers['Content-Length'])))
        out.flush()
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *arguments):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
if len(sys.argv) > 6:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
if ca != '-':
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

const FLAGS: &str = "--shards 2 --health-interval 1s --slow-start 0s";

/// Its address is known before it is there.
struct Server {
    port: u16,
    scratch: Scratch,
    _program: Program,
}

impl Server {
    fn start(shows: &Pair, ca: Option<&Authority>) -> Option<Server> {
        Server::start_with(shows, ca, &[])
    }

    /// One that speaks TLS 1.2 at most.
    fn of_1_2(shows: &Pair) -> Option<Server> {
        Server::start_with(shows, None, &["1.2"])
    }

    fn start_with(shows: &Pair, ca: Option<&Authority>, more: &[&str]) -> Option<Server> {
        let mut python = peers::program("python3")?;
        let (scratch, held) = (Scratch::new("https"), Port::hold());
        let port = held.number();
        let ca = ca.map_or_else(|| "-".into(), Authority::ca);
        python.args(["-c", SERVER, &port.to_string()]);
        python
            .args([&shows.cert, &shows.key, &ca])
            .arg(scratch.path("out"))
            .args(more);
        let program = Program::start_command(python, "an HTTPS server");
        until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Server {
            port,
            scratch,
            _program: program,
        })
    }

    fn lines(&self) -> usize {
        let text = std::fs::read(self.scratch.path("out")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn distributor(flags: &str, analyzers: &[String]) -> Distributor {
    let of = |analyzer: &String| format!(" --analyzer {analyzer}");
    let analyzers: String = analyzers.iter().map(of).collect();
    Distributor::start(&format!("{flags}{analyzers}"))
}

#[test]
fn messages_go_to_servers_whose_certificates_are_right() {
    let authority = Authority::new("outgoing");
    let server = authority.pair("localhost");
    let client = authority.pair("weir1");
    let (Some(plain), Some(asks)) = (
        Server::start(&server, None),
        Server::start(&server, Some(&authority)),
    ) else {
        return;
    };
    let ca = authority.ca();
    let distributor = distributor(FLAGS, &[
        format!(
            "a=1@https+ndjson://localhost:{}/in?tls_ca={}",
            plain.port,
            ca.display()
        ),
        format!(
            "b=1@https+ndjson://127.0.0.1:{}/in?tls_ca={}&tls_name=localhost&tls_cert={}&tls_key={}",
            asks.port,
            ca.display(),
            client.cert.display(),
            client.key.display()
        ),
    ]);
    for id in ["a", "b"] {
        distributor.wait_log(&format!("analyzer healthy id=\"{id}\""));
    }
    distributor.wait_lanes(2);
    let emitter = Emitter::start(distributor.emitters, 0..20_000, 100);
    until("all of them", || plain.lines() + asks.lines() >= 20_000);
    emitter.join();
    let (a, b) = (plain.lines(), asks.lines());
    assert!(a.abs_diff(b) <= 8, "{a} and {b}");
    let ended = distributor.stop();
    ended.assert_clean();
}

#[test]
fn servers_that_are_somebody_else_get_nothing_and_are_named() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let (Some(stranger), Some(other), Some(old), Some(asks), Some(behind)) = (
        Server::start(&unknown.pair("localhost"), None),
        Server::start(&known.pair("elsewhere.example"), None),
        Server::start(&known.expired("localhost"), None),
        Server::start(&known.pair("localhost"), Some(&known)),
        Server::of_1_2(&known.pair("localhost")),
    ) else {
        return;
    };
    let ca = known.ca();
    let at = |id: &str, server: &Server| {
        let (port, ca) = (server.port, ca.display());
        format!("{id}=1@https+ndjson://localhost:{port}/in?tls_ca={ca}")
    };
    let distributor = distributor(
        FLAGS,
        &[
            at("stranger", &stranger),
            at("other", &other),
            at("old", &old),
            at("asks", &asks),
            at("behind", &behind) + "&tls_min=1.3",
        ],
    );
    let _emitter = Emitter::start(distributor.emitters, 0..100, 100);
    for (id, line) in [
        ("stranger", "is of a CA that is not trusted here"),
        ("other", "is of somebody else"),
        ("old", "has expired"),
        ("asks", "a certificate"),
        ("behind", "(alert ProtocolVersion)"),
    ] {
        until(id, || {
            let said = distributor.lines(&format!("analyzer unhealthy id={id:?}"));
            said.iter().any(|said| said.contains(line))
        });
    }
    for server in [&stranger, &other, &old, &asks, &behind] {
        assert_eq!(server.lines(), 0);
    }
}

/// A server that breaks TLS once it has got something: a record of no key.
const BREAKER: &str = r#"
import os, socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
def serve(connection):
    try:
        stream = context.wrap_socket(connection, server_side=True)
        if stream.recv(10):
            os.write(stream.fileno(), bytes([23, 3, 3, 0, 32]) + b'x' * 32)
            time.sleep(1)
    except OSError:
        pass
server = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

/// Not the first time alone: whoever looks later reads it as well.
#[test]
fn each_time_that_tls_breaks_it_is_said_in_words() {
    let authority = Authority::new("breaker");
    let shows = authority.pair("localhost");
    for scheme in ["syslog+tls", "https+ndjson"] {
        let Some(mut python) = peers::program("python3") else {
            return;
        };
        let held = Port::hold();
        let port = held.number();
        python.args(["-c", BREAKER, &port.to_string()]);
        python.args([&shows.cert, &shows.key]);
        let _server = Program::start_command(python, "a server that breaks TLS");
        until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let ca = authority.ca();
        let at = format!("f=1@{scheme}://localhost:{port}?tls_ca={}", ca.display());
        let distributor = distributor(&format!("{FLAGS} --http 127.0.0.1:0"), &[at]);
        let pause = Duration::from_millis(50);
        let _emitter = Emitter::trickle(distributor.emitters, 0..1_000, 100, pause);
        until("it is down again", || {
            let downs = distributor.lines("analyzer down link=");
            let said = downs.iter().filter(|down| down.contains("TLS: its bytes"));
            said.count() >= 2
        });
        // Its health checks are well.
        until("the operator sees it", || {
            let all = ask(&distributor, "/analyzers");
            let all: Value = serde_json::from_str(&all).expect("JSON");
            let why = all["analyzers"][0]["error"].as_str();
            why.is_some_and(|why| why.contains("TLS: its bytes"))
        });
        let unsaid = distributor.lines("os error 103");
        assert!(unsaid.is_empty(), "{scheme}: {unsaid:?}");
    }
}

/// What is shown to a server, and what is trusted of it, is followed as it is at the ports.
#[test]
fn a_certificate_that_is_renewed_is_shown_to_servers_without_a_reload() {
    let (known, unknown) = (
        Authority::new("renewed-link"),
        Authority::new("renewed-link-x"),
    );
    let Some(asks) = Server::start(&known.pair("localhost"), Some(&known)) else {
        return;
    };
    let install = |pair: &Pair, ca: &Authority| {
        let ca = ca.ca();
        for (from, name) in [(&pair.cert, "cert"), (&pair.key, "key"), (&ca, "ca")] {
            let beside = known.path("next");
            std::fs::copy(from, &beside).expect("copied");
            std::fs::rename(&beside, known.path(name)).expect("renamed");
        }
    };
    install(&unknown.pair("weir1"), &unknown);
    let [cert, key, ca] = ["cert", "key", "ca"].map(|name| known.path(name).display().to_string());
    let distributor = distributor(
        FLAGS,
        &[format!(
            "a=1@https+ndjson://localhost:{}/in?tls_ca={ca}&tls_cert={cert}&tls_key={key}",
            asks.port
        )],
    );
    distributor.wait_log("analyzer unhealthy id=\"a\"");
    install(&known.pair("weir1"), &known);
    distributor.wait_log("analyzer healthy id=\"a\"");
    // One that cannot be used is named, and what was shown before is shown on.
    std::fs::write(known.path("key"), "no key").expect("written");
    distributor.wait_log("analyzer a: TLS: ");
    let emitter = Emitter::start(distributor.emitters, 0..1_000, 100);
    until("all of them", || asks.lines() >= 1_000);
    emitter.join();
    assert!(distributor.lines("reload").is_empty());
    distributor.stop().assert_clean();
}

/// Puts a certificate, its key and a CA where an analyzer's URL says that they are.
fn put(folder: &Scratch, pair: &Pair, ca: &Authority) {
    let ca = ca.ca();
    for (from, name) in [(&pair.cert, "cert"), (&pair.key, "key"), (&ca, "ca")] {
        let beside = folder.path("next");
        std::fs::copy(from, &beside).expect("copied");
        std::fs::rename(&beside, folder.path(name)).expect("renamed");
    }
}

/// The URL of an analyzer that shows and trusts what is in this folder.
fn url(asks: &Server, folder: &Scratch) -> String {
    let [cert, key, ca] = ["cert", "key", "ca"].map(|name| folder.path(name).display().to_string());
    let port = asks.port;
    format!("https+ndjson://localhost:{port}/in?tls_ca={ca}&tls_cert={cert}&tls_key={key}")
}

/// The CA's file is another all the time, and says the same.
struct Restless {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Restless {
    fn start(folder: &Scratch, ca: &Authority) -> Restless {
        let text = std::fs::read_to_string(ca.ca()).expect("a CA");
        let (beside, path) = (folder.path("beside"), folder.path("ca"));
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let work = move || {
            for number in 0.. {
                std::fs::write(&beside, format!("{number}\n{text}")).expect("written");
                std::fs::rename(&beside, &path).expect("renamed");
                std::thread::sleep(Duration::from_millis(20));
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        let thread = Some(std::thread::spawn(work));
        Restless { stop, thread }
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// No file has them, and TLS is spoken nowhere else: nobody looks at files of certificates before they are there.
#[test]
fn certificates_of_analyzers_that_operators_add_are_followed() {
    let (known, unknown) = (Authority::new("added"), Authority::new("added-x"));
    let Some(asks) = Server::start(&known.pair("localhost"), Some(&known)) else {
        return;
    };
    for manner in ["watch", "watch-config", "SIGHUP", "ctl reload"] {
        let (folder, place) = (Scratch::new("added-files"), Scratch::new("added-admin"));
        let socket = place.path("admin.sock").display().to_string();
        let file = place.write("weir.toml", "").display().to_string();
        let watches = if manner == "watch-config" {
            " --watch-config"
        } else {
            ""
        };
        let distributor = distributor(
            &format!("{FLAGS} --config {file} --admin {socket}{watches}"),
            &[],
        );
        put(&folder, &unknown.pair("weir1"), &unknown);
        let endpoint = url(&asks, &folder);
        let told = run(&["ctl", "add-http", "a", &endpoint, "1", "--admin", &socket]);
        assert!(told.status.success(), "{told:?}");
        distributor.wait_log("analyzer unhealthy id=\"a\"");
        put(&folder, &known.pair("weir1"), &known);
        // A file that is never still is read by a reload alone.
        let asked = ["SIGHUP", "ctl reload"].contains(&manner);
        let restless = asked.then(|| Restless::start(&folder, &known));
        let reload = || {
            let mut said = Vec::new();
            match manner {
                "SIGHUP" => distributor.signal("-HUP"),
                "ctl reload" => said = run(&["ctl", "reload", "--admin", &socket]).stderr,
                _ => {}
            }
            String::from_utf8_lossy(&said).into_owned()
        };
        reload();
        distributor.wait_log("analyzer healthy id=\"a\"");
        // One that cannot be used is named, and what was shown before is shown on.
        std::fs::write(folder.path("key"), "no key").expect("written");
        let said = reload();
        match manner {
            "ctl reload" => assert!(said.contains("analyzer a: TLS: "), "{said}"),
            _ => drop(distributor.wait_log("analyzer a: TLS: ")),
        }
        drop(restless);
        let before = asks.lines();
        let emitter = Emitter::start(distributor.emitters, 0..100, 100);
        until("all of them", || asks.lines() >= before + 100);
        emitter.join();
        distributor.stop().assert_clean();
    }
}

/// As above; they come with a reload.
#[test]
fn certificates_of_analyzers_that_come_with_a_reload_are_followed() {
    let (known, unknown) = (Authority::new("reloaded"), Authority::new("reloaded-x"));
    let Some(asks) = Server::start(&known.pair("localhost"), Some(&known)) else {
        return;
    };
    let (folder, place) = (
        Scratch::new("reloaded-files"),
        Scratch::new("reloaded-toml"),
    );
    let file = place.write("weir.toml", "").display().to_string();
    let distributor = distributor(&format!("{FLAGS} --config {file}"), &[]);
    put(&folder, &unknown.pair("weir1"), &unknown);
    let endpoint = url(&asks, &folder);
    let text = format!("[[http_analyzers]]\nid = \"a\"\nendpoint = \"{endpoint}\"\nweight = 1\n");
    place.write("weir.toml", &text);
    distributor.signal("-HUP");
    distributor.wait_log("analyzer unhealthy id=\"a\"");
    put(&folder, &known.pair("weir1"), &known);
    distributor.wait_log("analyzer healthy id=\"a\"");
    distributor.stop().assert_clean();
}

/// Nobody has to be there for it.
#[test]
fn certificates_towards_analyzers_that_end_soon_have_series_and_warnings() {
    let (authority, scratch) = (Authority::new("ending"), Scratch::new("ending-files"));
    let soon = authority.pair_with("weir1", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = (SystemTime::now() + Duration::from_secs(5 * 86_400 + 60)).into();
    });
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let cas = read(&authority.ca()) + &read(&soon.cert);
    let cas = scratch.write("cas.pem", &cas).display().to_string();
    let shown = Pair {
        cert: scratch.path("shown.pem"),
        key: scratch.path("shown.key"),
    };
    install(&soon, &shown);
    let (cert, key) = (shown.cert.display(), shown.key.display());
    let options = format!("tls_name=localhost&tls_ca={cas}&tls_cert={cert}&tls_key={key}");
    let distributor = distributor(
        &format!("--http 127.0.0.1:0 {FLAGS}"),
        &[
            format!("es1=1@https+ndjson://localhost:9?{options}"),
            format!("pool=1@dns+https+ndjson://localhost:9?{options}"),
        ],
    );
    distributor.wait_log("analyzer pool/127.0.0.1 was found");
    let series = || {
        let all = ask(&distributor, "/metrics");
        let its = all
            .lines()
            .filter(|line| line.starts_with("weir_tls_certificate_expires_seconds{"));
        its.map(str::to_owned).collect::<Vec<_>>()
    };
    let ends = |one: &str, days: f64| {
        let (_, value) = one.rsplit_once(' ').expect("a value");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let left = value.parse::<f64>().expect("a time") - now.expect("a time").as_secs_f64();
        (left / 86_400.0 - days).abs() < 0.1
    };
    until("all of both, and nothing of the group's member", || {
        series().len() == 6
    });
    for (analyzer, option, count) in [
        ("es1", "tls_cert", 1),
        ("es1", "tls_ca", 2),
        ("pool", "tls_cert", 1),
        ("pool", "tls_ca", 2),
    ] {
        let labels = format!("{{analyzer=\"{analyzer}\",option=\"{option}\",serial=");
        let its = series().into_iter().filter(|one| one.contains(&labels));
        let its: Vec<_> = its.collect();
        assert_eq!(its.len(), count, "{its:?}");
        assert!(its.iter().any(|one| ends(one, 5.0)), "{its:?}");
    }
    let said = ask(&distributor, "/health");
    for option in ["tls_cert", "tls_ca"] {
        let what = format!(" ({option}) expires in 5 days, on ");
        assert!(said.contains(&what), "{said}");
    }
    assert!(
        said.contains("TLS with analyzer es1: the certificate "),
        "{said}"
    );
    // A new one, and it is said no more.
    install(&authority.pair("weir1"), &shown);
    until("the warning has gone", || {
        !ask(&distributor, "/health").contains("(tls_cert)")
    });
    let left = series()
        .into_iter()
        .filter(|one| one.contains("\"tls_cert\""));
    let left: Vec<_> = left.collect();
    assert!(
        left.len() == 2 && !left.iter().any(|one| ends(one, 5.0)),
        "{left:?}"
    );
}

/// Lines of a key log, as a server has them.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<String>>);

impl rustls::KeyLog for Secrets {
    fn log(&self, label: &str, random: &[u8], secret: &[u8]) {
        let hex = |byte: &u8| format!("{byte:02x}");
        let [random, secret] = [random, secret].map(|all| all.iter().map(hex).collect::<String>());
        let line = format!("{label} {random} {secret}");
        self.0.lock().expect("no panic").push(line);
    }
}

impl Secrets {
    /// Those of connections that begin from now on, once there are some.
    fn next(&self) -> Vec<String> {
        let count = || self.0.lock().expect("no panic").len();
        let is_first = |line: &String| line.starts_with("CLIENT_HANDSHAKE_TRAFFIC_SECRET ");
        let before = count();
        let mut next = Vec::new();
        // What is under way now may have begun before.
        until("two more connections", || {
            next = self.0.lock().expect("no panic")[before..].to_vec();
            next.iter().filter(|line| is_first(line)).count() >= 3
        });
        let mut firsts = next.iter().enumerate().filter(|(_, line)| is_first(line));
        let second = firsts.nth(1).map_or(next.len(), |(at, _)| at);
        let last = firsts.next_back().map_or(next.len(), |(at, _)| at);
        next[second..last].to_vec()
    }
}

/// Who asks for it finds the secrets of both ends of a connection in the file, and those of no other time.
#[test]
fn secrets_of_links_are_written_while_it_is_asked_for() {
    let authority = Authority::new("link-secrets");
    let pair = authority.pair("localhost");
    let secrets = [Arc::new(Secrets::default()), Arc::default()];
    let [configured, added] = [0, 1].map(|nth: usize| {
        let (port, _) = hears_ends(&pair, Arc::clone(&secrets[nth]) as Arc<dyn rustls::KeyLog>);
        format!(
            "https+ndjson://localhost:{port}?tls_ca={}",
            authority.ca().display()
        )
    });
    let place = Scratch::new("link-secrets-files");
    let (file, log) = (place.path("weir.toml"), place.path("key-log"));
    let socket = place.path("admin.sock").display().to_string();
    let with_log = format!("[tls]\ntls_key_log = {log:?}\n");
    let write = |more: &str| {
        let analyzer = format!(
            "[[http_analyzers]]\nid = \"a\"\nendpoint = \"{configured}\"\nweight = 1\n{more}"
        );
        std::fs::write(&file, analyzer).expect("written");
    };
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    let are_written = |is_so: bool, when: &str| {
        for secrets in &secrets {
            let lines = secrets.next();
            assert!(lines.len() >= 4, "{lines:?}");
            let there = || {
                lines
                    .iter()
                    .filter(|line| written().contains(line.as_str()))
            };
            match is_so {
                true => until(when, || there().count() == lines.len()),
                false => assert_eq!(there().count(), 0, "{when}"),
            }
        }
    };
    let ctl = |words: &[&str]| {
        let told = run(&[&["ctl"], words, &["--admin", &socket]].concat());
        assert!(told.status.success(), "{words:?}: {told:?}");
    };
    write("");
    let flags = "--shards 1 --health-interval 200ms";
    let start = || {
        distributor(
            &format!("{flags} --config {} --admin {socket}", file.display()),
            &[],
        )
    };
    let running = start();
    ctl(&["add-http", "b", &added, "1"]);
    are_written(false, "nobody asks for it");
    write(&with_log);
    ctl(&["reload"]);
    are_written(true, "a reload asks for it");
    ctl(&["remove-http", "b"]);
    ctl(&["add-http", "b", &added, "1"]);
    are_written(true, "of one that is added meanwhile");
    ctl(&["rollback"]);
    are_written(false, "a roll-back does not");
    running.terminate();
    drop(running);
    // TLS is spoken to analyzers alone, from the start.
    let running = start();
    running.wait_log("--tls-key-log");
    ctl(&["add-http", "b", &added, "1"]);
    are_written(true, "it is asked for from the start");
    running.terminate();
}

/// Listens with this certificate, and writes down of each connection that ended whether its end was said (close_notify).
fn hears_ends(pair: &Pair, key_log: Arc<dyn rustls::KeyLog>) -> (u16, Arc<Mutex<Vec<bool>>>) {
    let chain = CertificateDer::from_pem_file(&pair.cert).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key);
    let mut config = config.expect("a pair");
    config.key_log = key_log;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let ends: Arc<Mutex<Vec<bool>>> = Arc::default();
    let heard = Arc::clone(&ends);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config));
            let connection = connection.expect("settings");
            let (heard, mut stream) = (
                Arc::clone(&heard),
                rustls::StreamOwned::new(connection, socket),
            );
            std::thread::spawn(move || {
                let was_said = stream.read_to_end(&mut Vec::new()).is_ok();
                heard.lock().expect("no panic").push(was_said);
            });
        }
    });
    (port, ends)
}

/// Servers call a stream cut whose end was not said, and complain of it in their logs.
#[test]
fn health_checks_and_links_say_that_they_end() {
    let authority = Authority::new("said-ends");
    let secrets = Arc::<Secrets>::default();
    let (port, ends) = hears_ends(&authority.pair("localhost"), secrets);
    let distributor = distributor(
        FLAGS,
        &[format!(
            "s=1@syslog+tls://localhost:{port}?tls_ca={}",
            authority.ca().display()
        )],
    );
    let emitter = Emitter::start(distributor.emitters, 0..1_000, 100);
    let count = || ends.lock().expect("no panic").len();
    until("checks have come and gone", || count() >= 3);
    emitter.join();
    let before = count();
    distributor.stop().assert_clean();
    until("the links end", || count() >= before + 2);
    let all = ends.lock().expect("no panic");
    assert!(all.iter().all(|was_said| *was_said), "{all:?}");
}

#[test]
fn syslog_goes_to_openssl() {
    let Some(mut openssl) = peers::program("openssl") else {
        return;
    };
    let authority = Authority::new("s_server");
    let server = authority.pair("localhost");
    let (scratch, held) = (Scratch::new("s_server"), Port::hold());
    let port = held.number();
    let out = File::create(scratch.path("out")).expect("a file");
    openssl.args(["s_server", "-quiet", "-accept", &port.to_string()]);
    openssl
        .arg("-cert")
        .arg(&server.cert)
        .arg("-key")
        .arg(&server.key);
    openssl.stdin(Stdio::piped());
    let program = Program::start_into(openssl, out, "openssl s_server");
    until("it listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    // s_server has one connection at a time.
    let flags = "--shards 1 --health-interval 1h --slow-start 0s";
    let distributor = distributor(
        flags,
        &[format!(
            "s=1@syslog+tls://localhost:{port}?tls_ca={}",
            authority.ca().display()
        )],
    );
    let emitter = Emitter::start(distributor.emitters, 0..5_000, 100);
    let lines = || {
        let text = std::fs::read(scratch.path("out")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    };
    until("all of it", || lines() >= 5_000);
    emitter.join();
    distributor.stop().assert_clean();
    drop(program);
}
