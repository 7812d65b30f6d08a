//! What a stranger gets, recorded on the wire: both ways, at an analyzers' port and towards servers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use weir_testkit::{until, Authority, Distributor, Pair};

use super::client::Manner;

/// Stands in every message.
const SECRET: &str = "sesame-5f1c";
/// An alert, or the two bytes of one under a key of TLS 1.3, and the header of its record.
const ALERT_BYTES_MAX: usize = 5 + 2 + 1 + 16;

/// A handshake has fewer bytes; the messages that wait have more.
const HANDSHAKE_BYTES_MAX: usize = 4096;

/// Bytes that went from one side to the other, in the order of the reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

type Record = Arc<Mutex<Vec<(From, Vec<u8>)>>>;

/// Passes on one connection after the other, and writes down what goes through.
struct Relay {
    address: SocketAddr,
    record: Record,
}

impl Relay {
    fn to(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let record = Record::default();
        let all = Arc::clone(&record);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let (to_client, to_server) = (client.try_clone(), server.try_clone());
                pass(client, to_server.expect("cloned"), From::Client, &all);
                pass(server, to_client.expect("cloned"), From::Server, &all);
            }
        });
        Relay { address, record }
    }

    fn said_by(&self, side: From) -> Vec<u8> {
        let all = self.record.lock().expect("no panic while held");
        let its = all.iter().filter(|(from, _)| *from == side);
        its.flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// What the server said after the client's second words: those end its handshake.
    fn last_words_of_server(&self) -> Vec<u8> {
        let all = self.record.lock().expect("no panic while held");
        let of_client = all.iter().enumerate();
        let mut of_client = of_client.filter(|(_, (from, _))| *from == From::Client);
        let second = of_client.nth(1).map_or(all.len(), |(at, _)| at);
        let behind = all[second..].iter();
        let behind = behind.filter(|(from, _)| *from == From::Server);
        behind.flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, side: From, record: &Record) {
    let record = Arc::clone(record);
    std::thread::spawn(move || {
        let mut some = [0; 65_536];
        while let Ok(len @ 1..) = from.read(&mut some) {
            let bytes = some[..len].to_vec();
            record
                .lock()
                .expect("no panic while held")
                .push((side, bytes));
            if to.write_all(&some[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Type and length of each record of TLS.
fn records(mut bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut all = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        all.push((*kind, 5 + len));
        bytes = rest.get(len..).unwrap_or_default();
    }
    all
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes
        .windows(SECRET.len())
        .any(|part| part == SECRET.as_bytes())
}

/// Sends messages for as long as somebody takes them.
fn emit(at: SocketAddr) {
    std::thread::spawn(move || {
        let mut emitter = TcpStream::connect(at).expect("connected");
        for number in 0..100_000 {
            if writeln!(emitter, "{SECRET} {number}").is_err() {
                return;
            }
        }
    });
}

#[test]
fn not_one_byte_of_a_log_reaches_an_analyzer_that_is_not_let_in() {
    let (known, unknown) = (
        Authority::new("recorded"),
        Authority::new("recorded-others"),
    );
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1 --input lines@127.0.0.1:0?name=l \
         {} --analyzers-tls required --analyzers-tls-names a1 --tls-client-ca {}",
        known.pair("localhost").flags(),
        known.ca().display(),
    );
    let distributor = Distributor::start(&flags);
    emit(distributor.input("l"));
    let strangers = [
        None,
        Some(unknown.pair("a1")),
        Some(known.pair("spy")),
        Some(known.expired("a1")),
    ];
    for (shows, old) in strangers
        .iter()
        .flat_map(|shows| [(shows, false), (shows, true)])
    {
        let relay = Relay::to(distributor.analyzers);
        let manner = Manner::new(&known.ca(), shows.as_ref());
        let manner = if old { manner.of_1_2() } else { manner };
        if let Ok(mut client) = manner.connect(relay.address) {
            let _ = client.send(&0.5_f32.to_be_bytes());
            let mut heard = Vec::new();
            let _ = client.0.read_to_end(&mut heard);
            assert_eq!(heard, b"", "{shows:?}");
        }
        let said = relay.said_by(From::Server);
        assert!(!said.is_empty() && !has_secret(&said), "{shows:?}");
        assert!(
            said.len() < HANDSHAKE_BYTES_MAX,
            "{shows:?}: {}",
            said.len()
        );
        let all = records(&said);
        match old {
            // In TLS 1.2 a record says what it has.
            true => assert!(
                all.iter().all(|(kind, _)| *kind != 23),
                "{shows:?}: {all:?}"
            ),
            // In TLS 1.3 most of a handshake looks like data: an alert ends it, and no more.
            false => {
                until("it ends", || relay.last_words_of_server().len() >= 7);
                let last = relay.last_words_of_server().len();
                assert!(last <= ALERT_BYTES_MAX, "{shows:?}: {last} bytes, {all:?}");
            }
        }
    }
    let relay = Relay::to(distributor.analyzers);
    let mut plain = TcpStream::connect(relay.address).expect("connected");
    plain
        .write_all(&0.5_f32.to_be_bytes().repeat(10))
        .expect("sent");
    let _ = plain.set_read_timeout(Some(Duration::from_secs(10)));
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(
        records(&heard).iter().all(|(kind, _)| *kind == 21),
        "{heard:?}"
    );
    distributor.terminate();
    assert_eq!(distributor.wait().balance().acked, 0);
}

/// A server that shows a certificate and then takes whatever comes; its address.
fn server(shows: &Pair, alone: &Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(&shows.cert).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&shows.key).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a pair");
    let (config, alone) = (Arc::new(config), Arc::clone(alone));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("made");
            let mut stream = rustls::StreamOwned::new(connection, socket);
            let alone = Arc::clone(&alone);
            std::thread::spawn(move || {
                let mut some = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut some) {
                    let mut heard = alone.lock().expect("no panic while held");
                    heard.extend_from_slice(&some[..len]);
                }
            });
        }
    });
    address
}

#[test]
fn not_one_byte_of_a_log_reaches_a_server_that_is_somebody_else() {
    let (known, unknown) = (
        Authority::new("recorded-servers"),
        Authority::new("recorded-false"),
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let strangers = [
        unknown.pair("localhost"),
        known.pair("elsewhere.example"),
        known.expired("localhost"),
    ];
    let ca = known.ca();
    let mut relays = Vec::new();
    let mut flags =
        "--shards 1 --input lines@127.0.0.1:0?name=l --health-interval 200ms --slow-start 0s"
            .to_owned();
    for (number, pair) in strangers.iter().enumerate() {
        let relay = Relay::to(server(pair, &heard));
        let (port, ca) = (relay.address.port(), ca.display());
        // A stream has nothing before its first message: what is sent at all is messages.
        for (id, scheme) in [
            ("s", "syslog+tls://localhost"),
            ("h", "https+ndjson://localhost"),
        ] {
            flags += &format!(" --analyzer {id}{number}=1@{scheme}:{port}?tls_ca={ca}");
        }
        relays.push(relay);
    }
    let distributor = Distributor::start(&flags);
    emit(distributor.input("l"));
    for relay in &relays {
        until("several attempts", || {
            let said = records(&relay.said_by(From::Client));
            said.iter().filter(|(kind, _)| *kind == 22).count() >= 4
        });
    }
    for relay in &relays {
        let said = relay.said_by(From::Client);
        assert!(!has_secret(&said));
        let data = records(&said).into_iter().filter(|(kind, _)| *kind == 23);
        let longest = data.map(|(_, len)| len).max().unwrap_or(0);
        assert!(longest <= ALERT_BYTES_MAX, "a record of {longest} bytes");
    }
    assert_eq!(*heard.lock().expect("no panic while held"), b"");
    distributor.terminate();
    assert_eq!(distributor.wait().balance().acked, 0);
}

#[test]
fn tls_where_it_is_not_spoken_is_counted_and_named() {
    let authority = Authority::new("plain-ports");
    let ports = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 1";
    let distributor = Distributor::start(&format!(
        "{ports} --input any@127.0.0.1:0?name=mixed&ack=received"
    ));
    let manner = Manner::new(&authority.ca(), None);
    let http = distributor.http.expect("a port");
    for at in [
        distributor.emitters,
        distributor.analyzers,
        distributor.input("mixed"),
        http,
    ] {
        assert!(manner.connect(at).is_err());
    }
    for (line, count) in [
        ("emitter 127.0.0.1:", 2),
        ("closed during its handshake: ", 1),
        ("HTTP client 127.0.0.1 refused: ", 1),
    ] {
        let lines = || {
            let all = distributor.lines(line);
            let all = all
                .iter()
                .filter(|line| line.contains("TLS is not spoken at this port"));
            all.count()
        };
        until(line, || lines() == count);
    }
    for series in [
        "weir_shard_refused_total{shard=\"0\",reason=\"tls_on_plain_port\"} 3\n",
        "weir_http_refused_total{shard=\"0\",reason=\"tls_on_plain_port\"} 1\n",
    ] {
        until(series, || {
            super::names::ask(&distributor, "/metrics").contains(series)
        });
    }
}
