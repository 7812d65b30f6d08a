//! The control side of a real distributor, over its admin socket: numbers, orders, events.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use weir::config::Config;
use weir::config::{HttpAnalyzer, Token};
use weir::control::http_api::client::{Client, Target};
use weir::control::http_api::listener::CONNECTIONS_MAX;
use weir::control::{serve, AdminAt, Running, Settings, TapSource, Tapped};
use weir::ledger::run_report::Stamp;
use weir::runtime::Distributor;
use weir_testkit::{until, Analyzer, Dialect, Emitter, Options};

const TOKEN: &str = "0123456789abcdef";

struct Rig {
    distributor: Distributor,
    running: Running,
    client: Client,
}

fn config() -> Config {
    let line =
        "weir distributor --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 2 \
        --arena 8MiB --batch-bytes 64KiB --max-frame 64KiB --partial-bytes 1MiB --ingress 1MiB \
        --zero-copy 0 --graceful-close 100ms --max-connections 100";
    let parsed = weir::cli::parse(line.split_whitespace().map(Into::into)).expect("flags");
    let weir::cli::Program::Distributor(args) = parsed.program else {
        panic!("{line}");
    };
    args.config().expect("settings")
}

fn socket_path(name: &str) -> PathBuf {
    let name = format!("weir-{}-{name}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

fn rig(name: &str, change: impl FnOnce(&mut Settings)) -> Rig {
    let distributor = Distributor::start(config()).expect("started");
    let mut settings = Settings::of(&config(), Stamp::now());
    settings.admin = Some(AdminAt::Unix(socket_path(name)));
    change(&mut settings);
    let running = serve(distributor.operator(), settings).expect("served");
    let target = match running.admin.as_ref().expect("an address") {
        AdminAt::Unix(path) => Target::Unix(path.clone()),
        AdminAt::Tcp(address) => format!("http://{address}").parse().expect("a target"),
    };
    let client = Client {
        target,
        token: None,
        tls: None,
    };
    Rig {
        distributor,
        running,
        client,
    }
}

impl Rig {
    fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, bytes) = self
            .client
            .ask(method, path, body.as_bytes())
            .expect("an answer");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, Value::Null).1
    }

    fn native(&self, id: &str, weight: f64) -> Vec<Analyzer> {
        let options = Options::new(Dialect::Native, weight).id(id);
        (0..2)
            .map(|shard| {
                Analyzer::connect(self.distributor.analyzers, &options.clone().shard(shard))
            })
            .collect()
    }

    fn end(self) {
        self.running.end();
        self.distributor.stopper().stop_now();
        self.distributor.join().expect("ended");
    }
}

#[test]
fn numbers_and_orders() {
    let rig = rig("orders", |_| {});
    let path = socket_path("orders");
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(rig.ask("GET", "/health/ready", Value::Null).0, 503);
    let a1 = rig.native("a1", 1.0);
    let _a2 = rig.native("a2", 3.0);
    until("both are up", || {
        let status = rig.get("/admin/status");
        let rows = status["analyzers"].as_array().cloned().unwrap_or_default();
        rows.len() == 2 && rows.iter().all(|row| row["standing"] == "up")
    });
    assert_eq!(rig.ask("GET", "/health/ready", Value::Null).0, 200);
    for part in 0..4 {
        let ids = part * 1000..(part + 1) * 1000;
        Emitter::start(rig.distributor.emitters, ids, 64).join();
    }
    until("all is ACKed", || rig.get("/stats")["acked"] == 4000);
    let stats = rig.get("/stats");
    assert_eq!(stats["received"], 4000);
    let given = |id: &str| {
        stats["analyzers"][id]["totalMessages"]
            .as_u64()
            .expect("a number")
    };
    assert!(
        given("a1").abs_diff(1000) <= 8 && given("a1") + given("a2") == 4000,
        "{stats}"
    );
    assert_eq!(rig.get("/audit")["ledger"]["total"]["received"], 4000);
    let (_, metrics) = rig.client.ask("GET", "/metrics", b"").expect("an answer");
    let metrics = String::from_utf8(metrics).expect("text");
    assert!(
        metrics.contains("\nweir_conservation_received_messages 4000\n"),
        "{metrics}"
    );

    let weight = |id: &str| {
        let rows = rig.get("/admin/analyzers");
        let rows = rows["analyzers"].as_array().cloned().unwrap_or_default();
        let row = rows
            .into_iter()
            .find(|row| row["id"] == id)
            .expect("listed");
        (
            row["weight"].as_f64().expect("a number"),
            row["pinned"] == true,
            row["standing"].clone(),
        )
    };
    let body = json!({ "weight": 2.0, "pin": true });
    assert_eq!(rig.ask("POST", "/admin/analyzers/a1/weight", body).0, 200);
    until("pinned", || weight("a1") == (2.0, true, json!("up")));
    a1[0].set_weight(9.0);
    let body = json!({ "weight": 5.0, "ramp": "600ms" });
    let begin = Instant::now();
    assert_eq!(rig.ask("POST", "/admin/analyzers/a2/weight", body).0, 202);
    until("on its way", || {
        let (now, _, _) = weight("a2");
        now > 3.0 && now < 5.0
    });
    until("there", || weight("a2").0 == 5.0);
    assert!(
        begin.elapsed() >= Duration::from_millis(550),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(weight("a1").0, 2.0, "what it says itself does not count");
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a1/unpin", Value::Null).0,
        200
    );
    until("its own", || weight("a1") == (9.0, false, json!("up")));
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a2/drain", Value::Null).0,
        200
    );
    until("draining", || weight("a2").2 == "draining");
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a2/resume", Value::Null).0,
        200
    );
    until("up", || weight("a2").2 == "up");
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a1/eject", Value::Null).0,
        200
    );
    until("gone", || weight("a1").2 == "offline");
    let events = rig.get("/admin/status")["events"].to_string();
    for text in [
        "joined with weight 3",
        "weight pinned",
        "weight 3 -> 5 over 600ms",
        "is draining",
        "is gone",
    ] {
        assert!(events.contains(text), "{text}: {events}");
    }
    rig.end();
    assert!(!path.exists(), "the socket is removed");
}

#[test]
fn events_are_a_stream() {
    let rig = rig("events", |_| {});
    let mut stream = rig.client.stream("/events").expect("a stream");
    assert_eq!(stream.status, 200);
    let mut text = String::new();
    let mut read = |wanted: &str| {
        while !text.contains(wanted) {
            let piece = stream.piece().expect("a piece").expect("not the end");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    };
    read("retry: 1000\n\n");
    read("event: state\ndata: {");
    let _a1 = rig.native("a1", 1.0);
    read("a1\",\"at\":");
    read("joined with weight 1");
    rig.end();
}

#[test]
fn over_tcp_only_with_the_token() {
    let refused = Settings {
        admin: Some(AdminAt::Tcp(([127, 0, 0, 1], 0).into())),
        ..Settings::of(&config(), Stamp::now())
    };
    let distributor = Distributor::start(config()).expect("started");
    let error = serve(distributor.operator(), refused)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("--admin-token-file"), "{error}");
    distributor.stopper().stop_now();

    let mut rig = rig("unused", |settings| {
        settings.admin = Some(AdminAt::Tcp(([127, 0, 0, 1], 0).into()));
        settings.token = Some(Token::from_file_text(TOKEN.as_bytes()).expect("valid"));
    });
    assert_eq!(rig.ask("GET", "/health", Value::Null).0, 200);
    assert_eq!(rig.ask("GET", "/admin/status", Value::Null).0, 401);
    rig.client.token = Some("0123456789abcdeX".into());
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a/drain", Value::Null).0,
        401
    );
    rig.client.token = Some(TOKEN.into());
    assert_eq!(rig.ask("GET", "/admin/status", Value::Null).0, 200);
    assert_eq!(
        rig.ask("POST", "/admin/analyzers/a/drain", Value::Null).0,
        404
    );
    rig.end();
}

#[test]
fn the_socket_file_of_a_dead_process_is_replaced_and_a_living_ones_is_not() {
    let path = socket_path("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let rig = rig("stale", |_| {});
    assert_eq!(rig.ask("GET", "/health", Value::Null).0, 200);
    let second = Settings {
        admin: Some(AdminAt::Unix(path.clone())),
        ..Settings::of(&config(), Stamp::now())
    };
    let error = serve(rig.distributor.operator(), second)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("another process listens there"), "{error}");
    assert_eq!(rig.ask("GET", "/health", Value::Null).0, 200);
    rig.end();
    std::fs::write(&path, "mine").expect("written");
    let distributor = Distributor::start(config()).expect("started");
    let third = Settings {
        admin: Some(AdminAt::Unix(path.clone())),
        ..Settings::of(&config(), Stamp::now())
    };
    let error = serve(distributor.operator(), third)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("no socket"), "{error}");
    distributor.stopper().stop_now();
    assert_eq!(std::fs::read_to_string(&path).expect("untouched"), "mine");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn connections_are_bounded_and_slow_ones_end() {
    let rig = rig("slow", |_| {});
    let Some(AdminAt::Unix(path)) = &rig.running.admin else {
        panic!("a path");
    };
    let slow: Vec<UnixStream> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut socket = UnixStream::connect(path).expect("connected");
            socket.write_all(b"GET /health HTT").expect("written");
            socket
        })
        .collect();
    until("all places are taken", || {
        rig.ask("GET", "/health", Value::Null).0 == 503
    });
    until("their time is over", || {
        matches!(rig.client.ask("GET", "/health", b""), Ok((200, _)))
    });
    drop(slow);
    rig.end();
}

#[test]
fn who_has_not_shown_the_token_makes_room_and_slow_ones_end() {
    let rig = rig("unused2", |settings| {
        settings.admin = Some(AdminAt::Tcp(([127, 0, 0, 1], 0).into()));
        settings.token = Some(Token::from_file_text(TOKEN.as_bytes()).expect("valid"));
    });
    let Some(AdminAt::Tcp(address)) = rig.running.admin else {
        panic!("TCP");
    };
    let mut slow: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut socket = TcpStream::connect(address).expect("connected");
            socket.write_all(b"GET /health HTT").expect("written");
            socket
        })
        .collect();
    assert_eq!(rig.ask("GET", "/health", Value::Null).0, 200);
    let end = |socket: &mut TcpStream| {
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).expect("a time");
        let mut said = String::new();
        socket.read_to_string(&mut said).expect("the end");
        said
    };
    let said = end(&mut slow[0]);
    assert!(said.starts_with("HTTP/1.1 503"), "{said:?}");
    assert!(said.contains("have not shown the token"), "{said:?}");
    assert_eq!(end(&mut slow[31]), "", "its time is over");
    rig.end();
}

/// Three messages; then another tap looks.
struct Beat(AtomicU64);

impl TapSource for Beat {
    fn begin(&self, rate: u32) -> u64 {
        assert_eq!(rate, 20);
        7
    }

    fn take(&self, look: u64) -> Option<Vec<Tapped>> {
        assert_eq!(look, 7);
        let at = self.0.fetch_add(1, Ordering::Relaxed);
        let tapped = |at| Tapped {
            form: "raw",
            input: "emitters".to_owned(),
            protocol: "frames".to_owned(),
            peer: String::new(),
            certificate: String::new(),
            tag: String::new(),
            at,
            shard: 1,
            analyzer: "a1".into(),
            severity: 3,
            bytes: 2,
            payload: "hi\u{9b}31m\u{202e}".into(),
        };
        // More than the rate allows: 2 in a tenth of a second.
        (at == 0).then(|| (0..5).map(tapped).collect())
    }

    fn end(&self, look: u64) {
        assert_eq!(look, 7);
    }
}

#[test]
fn a_tap_shows_lines() {
    let rig = rig("tap", |settings| {
        settings.tap = Some(Box::new(Beat(AtomicU64::new(0))))
    });
    let mut stream = rig
        .client
        .stream("/admin/tap?rate=20&seconds=30")
        .expect("a stream");
    let mut text = String::new();
    while let Some(piece) = stream.piece().expect("a piece") {
        text.push_str(std::str::from_utf8(&piece).expect("text"));
    }
    assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text:?}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[1]["payload"], &lines[1]["at"]),
        (&json!("hi\u{9b}31m\u{202e}"), &json!(1))
    );
    let error = lines[2]["error"].as_str().expect("text");
    assert!(error.starts_with("another tap has taken over"), "{error}");
    for query in ["rate=0", "rate=%zz", "rate=1&sceonds=3"] {
        let path = format!("/admin/tap?{query}");
        let (status, answer) = rig.ask("GET", &path, Value::Null);
        assert_eq!(status, 400, "{answer}");
        let error = answer["error"].as_str().expect("text");
        assert!(error.contains("rate 1 to 1000"), "{error}");
    }
    rig.end();
}

#[test]
fn an_analyzer_over_http_comes_and_goes_with_its_health() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = listener.local_addr().expect("bound");
    let rig = rig("health", |settings| {
        settings.health_interval = Duration::from_millis(100);
        settings.health_timeout = Duration::from_millis(500);
        let analyzer: HttpAnalyzer = format!("h1=0.25@http://{address}").parse().expect("valid");
        settings.http_analyzers.push(analyzer);
    });
    let server = std::thread::spawn(move || {
        for socket in listener.incoming().take(5) {
            let mut socket = socket.expect("accepted");
            std::io::Read::read(&mut socket, &mut [0; 512]).expect("a request");
            socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .expect("answered");
        }
    });
    let standing = || {
        let analyzers = rig.get("/analyzers");
        let row = analyzers["analyzers"][0].clone();
        (
            row["isOnline"] == true,
            row["effectiveWeight"].as_f64().unwrap_or(-1.0),
        )
    };
    until("in the roster", || standing() == (true, 0.25));
    server.join().expect("five checks");
    until("out of it", || standing() == (false, 0.0));
    let row = &rig.get("/analyzers")["analyzers"][0];
    assert!(
        row["lastHealthCheck"].is_u64() && row["consecutiveFailures"].as_u64() > Some(0),
        "{row}"
    );
    assert_eq!(row["endpoint"], format!("http://{address}"));
    rig.end();
}

/// One request on a connection of its own, with these headers; status and answer.
fn ask_tcp(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("a listener");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("an option");
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&some[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    let answer = String::from_utf8(answer).expect("text");
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

/// DNS rebinding: a web page whose name means 127.0.0.1 now.
#[test]
fn a_browser_that_asks_under_a_strange_name_is_refused() {
    let rig = rig("unused3", |settings| {
        settings.admin = Some(AdminAt::Tcp(([127, 0, 0, 1], 0).into()));
        settings.token = Some(Token::from_file_text(TOKEN.as_bytes()).expect("valid"));
    });
    let http = rig.distributor.http.expect("it listens");
    let Some(AdminAt::Tcp(admin)) = rig.running.admin.clone() else {
        panic!("over TCP");
    };
    for address in [http, admin] {
        for path in [
            "/analyzers",
            "/stats",
            "/metrics",
            "/",
            "/events",
            "/admin/status",
        ] {
            let strange = "Host: attacker.example:3000\r\n";
            let (status, answer) = ask_tcp(address, "GET", path, strange);
            assert_eq!(status, 403, "{path}: {answer}");
            let foreign = "Host: 127.0.0.1\r\nOrigin: http://attacker.example\r\n";
            assert_eq!(ask_tcp(address, "GET", path, foreign).0, 403, "{path}");
        }
        for path in ["/health", "/health/ready", "/health/live"] {
            let (status, answer) = ask_tcp(address, "GET", path, "Host: lb.example.com\r\n");
            assert!([200, 503].contains(&status), "{path}: {answer}");
            assert!(
                answer.contains("\"status\":") && !answer.contains("uptime"),
                "no more than the status: {answer}"
            );
            let (_, answer) = ask_tcp(address, "GET", path, "Host: weir\r\n");
            assert!(answer.contains("uptime"), "{answer}");
        }
        let own = format!("Host: {address}\r\nOrigin: http://{address}\r\n");
        assert_eq!(ask_tcp(address, "GET", "/stats", &own).0, 200);
    }
    rig.end();
}

#[test]
fn preflights_allow_what_documents_name_and_options_tell_methods() {
    let rig = rig("cors", |settings| {
        settings.cors = "https://ui.example".parse().expect("an origin");
    });
    let http = rig.distributor.http.expect("it listens");
    // The shards look for themselves.
    let mut live = rig.distributor.operator().live();
    live.protection.cors = "https://ui.example".parse().expect("an origin");
    rig.distributor.operator().set_live(live);
    let headers = "Host: a\r\nOrigin: https://ui.example\r\nAccess-Control-Request-Method: POST\r\n\
                   Access-Control-Request-Headers: x-emitter-id, prefer, traceparent, authorization\r\n";
    until("the shards know the origin", || {
        // Each shard: a connection goes to any.
        (0..20).all(|_| ask_tcp(http, "OPTIONS", "/logs", headers).0 == 204)
    });
    let (_, answer) = ask_tcp(http, "OPTIONS", "/logs", headers);
    let allowed = answer
        .lines()
        .find_map(|line| line.strip_prefix("Access-Control-Allow-Headers: "))
        .unwrap_or_else(|| panic!("{answer}"));
    for name in [
        "Content-Type",
        "X-Emitter-ID",
        "Prefer",
        "Content-Encoding",
        "traceparent",
    ] {
        assert!(allowed.split(", ").any(|known| known == name), "{allowed}");
    }
    assert!(
        !allowed.to_lowercase().contains("authorization"),
        "{allowed}"
    );
    for (path, allow) in [
        ("*", "GET, HEAD, POST, OPTIONS"),
        ("/logs", "POST, OPTIONS"),
        ("/logs/", "POST, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
    ] {
        let (status, answer) = ask_tcp(http, "OPTIONS", path, "Host: a\r\n");
        assert_eq!(status, 204, "{path}: {answer}");
        assert!(answer.contains(&format!("Allow: {allow}\r\n")), "{answer}");
    }
    for path in ["/health", "/metrics"] {
        let (status, answer) = ask_tcp(http, "HEAD", path, "Host: a\r\n");
        assert_eq!(status, 200, "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    rig.end();
}

#[test]
fn the_page_names_nothing_from_the_root_and_has_headers_of_a_page() {
    let rig = rig("prefix", |_| {});
    let http = rig.distributor.http.expect("it listens");
    let (status, answer) = ask_tcp(http, "GET", "/", "Host: a\r\n");
    assert_eq!(status, 200);
    for absolute in ["href=\"/", "src=\"/", "fetch(\"/", "EventSource(\"/"] {
        assert!(!answer.contains(absolute), "{absolute}");
    }
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    for name in [
        "Date",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "X-Frame-Options",
        "Referrer-Policy",
        "Cross-Origin-Opener-Policy",
        "Cross-Origin-Resource-Policy",
        "Origin-Agent-Cluster",
    ] {
        assert!(head.contains(&format!("\r\n{name}: ")), "{name}: {head}");
    }
    rig.end();
}

/// Whoever asks without pause keeps nobody else from the newest state.
#[test]
fn event_streams_go_on_while_others_ask_without_pause() {
    let rig = rig("asked", |_| {});
    let http = rig.distributor.http.expect("it listens");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    ask_tcp(http, "GET", "/metrics", "Host: a\r\n");
                }
            });
        }
        let events = Client {
            target: format!("http://{http}").parse().expect("a target"),
            token: None,
            tls: None,
        };
        let mut stream = events.stream("/events").expect("a stream");
        let began = std::time::Instant::now();
        let mut states = 0;
        while states < 5 && began.elapsed() < Duration::from_secs(20) {
            let piece = stream.piece().expect("a piece").expect("not the end");
            states += String::from_utf8_lossy(&piece)
                .matches("event: state")
                .count();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(states >= 5, "{states} in {:?}", began.elapsed());
    });
    rig.end();
}

#[test]
fn the_admin_socket_is_never_open_to_others_and_answers_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let rig = rig("mode", |_| {});
    let mode = std::fs::metadata(socket_path("mode"))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    // With a look every 50 ms this took 2 s and more, however fast the machine is.
    let began = std::time::Instant::now();
    let mut quick = 0;
    for _ in 0..40 {
        let asked = std::time::Instant::now();
        assert_eq!(rig.ask("GET", "/health", Value::Null).0, 200);
        quick += usize::from(asked.elapsed() < Duration::from_millis(20));
    }
    assert!(quick >= 10, "{quick} of 40, {:?}", began.elapsed());
    let query = "/admin/analyzers/a/weight?pin=true";
    let (status, answer) = rig.ask("POST", query, json!({"weight": 1}));
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("has none"), "{answer}");
    rig.end();
}
