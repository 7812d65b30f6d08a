//! Who must not come in: refused with a counter and a line of its own, and not a byte of a log reaches it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weir_testkit::http::Client;
use weir_testkit::{until, Authority, Distributor, Emitter};

use super::abuse::hello;
use super::client::Manner;
use super::{distributor, Payloads};

#[test]
fn each_kind_of_stranger_is_refused_by_name() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let server = known.pair("localhost");
    let revoked = known.revoke(&[77]);
    let flags = format!(
        "{} --http 127.0.0.1:0 --emitters-tls required --analyzers-tls off --tls-client-ca {} --tls-revoked {} --tls-names web1,*.example.org",
        server.flags(),
        known.ca().display(),
        revoked.display(),
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let strangers = [
        (None, "no_certificate", "shown no certificate"),
        (
            Some(unknown.pair("web1")),
            "unknown_ca",
            "of a CA that is not trusted here",
        ),
        (Some(known.expired("web1")), "expired", "has expired"),
        (
            Some(known.not_yet_valid("web1")),
            "not_yet_valid",
            "is not valid yet",
        ),
        (Some(known.numbered("web1", 77)), "revoked", "was revoked"),
        (
            Some(known.pair("db1")),
            "name_not_allowed",
            "is of db1, who is not on the list of names",
        ),
    ];
    for (shows, reason, line) in &strangers {
        let manner = Manner::new(&known.ca(), shows.as_ref());
        // In TLS 1.3 a client learns after its first words that it is not let in.
        let said = manner.connect(distributor.emitters).and_then(|mut client| {
            client.send(&weir_testkit::numbered::numbered(1, 20))?;
            client.0.read(&mut [0; 100])
        });
        let error = said.expect_err(line);
        assert!(error.to_string().contains("alert"), "{line}: {error}");
        let said = distributor.wait_log(line);
        assert!(said.contains("emitters: 127.0.0.1 refused"), "{said}");
        let whose = match *reason {
            "no_certificate" => "",
            "name_not_allowed" => "[certificate of db1, 127.0.0.1; serial ",
            _ => "[certificate of web1, 127.0.0.1; serial ",
        };
        assert!(said.contains(whose), "{said}");
        is_counted(&distributor, reason);
    }
    // Another of the same address is named as well.
    let other = Manner::new(&known.ca(), Some(&known.pair("db2")));
    let _ = other
        .connect(distributor.emitters)
        .map(|mut client| client.0.read(&mut [0; 100]));
    distributor.wait_log("is of db2, who is not on the list of names");
    let mut old = TcpStream::connect(distributor.emitters).expect("connected");
    old.write_all(&hello_of_1_1()).expect("written");
    assert!(!read_all(&mut old).is_empty(), "an alert");
    distributor.wait_log("speaks no version of TLS that is allowed here");
    is_counted(&distributor, "no_shared_version");
    let mut plain = TcpStream::connect(distributor.emitters).expect("connected");
    plain.write_all(&[0; 400]).expect("written");
    assert_eq!(read_all(&mut plain), alert(), "an alert and no more");
    distributor.wait_log("it does not speak TLS");
    is_counted(&distributor, "plain_text");
    // Who was answered speaks TLS, though its next record does not begin as the first.
    let mut broken = TcpStream::connect(distributor.emitters).expect("connected");
    let first = hello(&Manner::new(&known.ca(), None));
    broken.write_all(&first).expect("written");
    assert!(broken.read(&mut [0; 4096]).expect("an answer") > 0);
    let record = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    broken.write_all(&record).expect("written");
    distributor.wait_log("its bytes cannot be opened");
    is_counted(&distributor, "protocol");

    for name in ["web1", "a.example.org"] {
        let pair = known.pair(name);
        let mut client = Manner::new(&known.ca(), Some(&pair))
            .connect(distributor.emitters)
            .expect("let in");
        client
            .send(&weir_testkit::numbered::numbered(2, 20))
            .expect("sent");
        client.finish().expect("the end");
    }
    until("both messages", || analyzer.read() == 2);
    drop(analyzer);
    let ended = distributor.stop();
    ended.assert_clean();
}

/// One connection came to nothing for this reason, and the metrics say so.
fn is_counted(distributor: &Distributor, reason: &str) {
    let series = format!("weir_tls_refused_total{{port=\"emitters\",reason=\"{reason}\"}} 1\n");
    until(&series, || {
        let mut client = Client::connect(distributor.http.expect("a port"));
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.answer().body.contains(&series)
    });
}

/// A hello of TLS 1.1, which has no extensions.
fn hello_of_1_1() -> Vec<u8> {
    let random = [7; 32];
    let suites = [0, 2, 0xc0, 0x13]; // ECDHE, RSA, AES-128
    let body = [&[3, 2][..], &random, &[0], &suites, &[1, 0]].concat();
    let (len, whole) = (body.len() as u8, body.len() as u8 + 4);
    [&[22, 3, 1, 0, whole, 1, 0, 0, len][..], &body].concat()
}

/// A fatal alert of TLS, in the clear: the peer speaks none.
fn alert() -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2]
}

/// All but the last byte of what comes: which alert it is does not matter.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a time");
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all.pop();
    all
}

#[test]
fn an_analyzer_that_is_a_stranger_sees_not_one_byte_of_a_log() {
    let (known, unknown) = (Authority::new("mine"), Authority::new("others"));
    let flags = format!(
        "{} --analyzers-tls required --tls-client-ca {}",
        known.pair("localhost").flags(),
        known.ca().display(),
    );
    let ports = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1";
    let distributor = Distributor::start(&format!("{ports} {flags}"));
    let _emitter = Emitter::start(distributor.emitters, 0..1000, 100);
    // Whatever is said to strangers is shorter than a log would be, and is alerts.
    for shows in [None, Some(unknown.pair("spy"))] {
        let manner = Manner::new(&known.ca(), shows.as_ref());
        if let Ok(mut client) = manner.connect(distributor.analyzers) {
            let hello = [0xD7, b'E', b'I', b'R'];
            let _ = client.send(&hello);
            let mut heard = Vec::new();
            let _ = client.0.read_to_end(&mut heard);
            assert_eq!(heard, b"", "{shows:?}");
        }
    }
    let mut plain = TcpStream::connect(distributor.analyzers).expect("connected");
    let _ = plain.write_all(&0.5f32.to_be_bytes().repeat(10));
    let heard = read_all(&mut plain);
    assert!(heard.len() <= 6, "{heard:?}");
    distributor.terminate();
    let ended = distributor.wait();
    assert_eq!(ended.balance().acked, 0);
}
