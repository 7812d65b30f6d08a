//! Servers that TLS is spoken to and that do not go on: what is said of them.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use weir_testkit::{peers, until, Authority, Distributor, Emitter, Pair, Port, Program, Scratch};

use super::names::ask;

/// One analyzer of syslog, checked once: what is said later its link has found.
fn distributor(authority: &Authority, port: u16) -> Distributor {
    let ca = authority.ca();
    let ca = ca.display();
    Distributor::start(&format!(
        "--shards 1 --http 127.0.0.1:0 --health-interval 1h --slow-start 0s \
         --analyzer s=1@syslog+tls://localhost:{port}?tls_ca={ca}"
    ))
}

/// Log and `/analyzers` have the reason.
fn is_down_for(distributor: &Distributor, why: &str) {
    let log = distributor.wait_log("analyzer down link=");
    assert!(log.contains(why), "{log}");
    until("the operator sees it", || {
        let all: Value = serde_json::from_str(&ask(distributor, "/analyzers")).expect("JSON");
        let row = &all["analyzers"][0];
        let error = row["error"].as_str();
        row["standing"] == "offline" && error.is_some_and(|error| error.contains(why))
    });
}

/// By OpenSSL, which asks when it is told to.
#[test]
fn a_server_that_wants_another_handshake_is_said_to() {
    let Some(mut openssl) = peers::program("openssl") else {
        return;
    };
    let authority = Authority::new("renegotiates");
    let shows = authority.pair("localhost");
    let (scratch, held) = (Scratch::new("renegotiates"), Port::hold());
    let port = held.number();
    let out = File::create(scratch.path("out")).expect("a file");
    openssl.args(["s_server", "-tls1_2", "-accept", &port.to_string()]);
    openssl.arg("-cert").arg(&shows.cert);
    openssl.arg("-key").arg(&shows.key);
    openssl.stdin(Stdio::piped());
    let mut program = Program::start_into(openssl, out, "openssl s_server");
    until("it listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let distributor = distributor(&authority, port);
    // Some are always under way: an end between messages is no fault.
    let pause = Duration::from_millis(1);
    let _emitter = Emitter::trickle(distributor.emitters, 0..10_000, 100, pause);
    let has_some = || std::fs::read(scratch.path("out")).is_ok_and(|text| text.len() > 50_000);
    until("messages have come", has_some);
    program.say("r\n");
    is_down_for(&distributor, "renegotiation of TLS 1.2");
}

/// Speaks TLS to the first, which is the health check, and closes others before a word.
fn closes_at_once(pair: &Pair) -> u16 {
    let chain = CertificateDer::from_pem_file(&pair.cert).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key);
    let config = Arc::new(config.expect("a pair"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut sockets = listener.incoming().flatten();
        let connection = rustls::ServerConnection::new(config).expect("settings");
        if let Some(first) = sockets.next() {
            let mut stream = rustls::StreamOwned::new(connection, first);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        for mut socket in sockets {
            // Read before: what is unread makes the end a reset.
            let _ = socket.read(&mut [0; 16_384]);
        }
    });
    port
}

#[test]
fn a_server_that_closes_before_it_has_spoken_is_said_to() {
    let authority = Authority::new("closes");
    let port = closes_at_once(&authority.pair("localhost"));
    let distributor = distributor(&authority, port);
    is_down_for(
        &distributor,
        "TLS: it closed before the handshake was done; its log may say why",
    );
}
