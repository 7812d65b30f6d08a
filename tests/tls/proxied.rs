//! A proxy that passes TLS on says first whose connection it is: the PROXY header stands before the first byte of TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weir_testkit::http::Client;
use weir_testkit::peers::program;
use weir_testkit::{until, Analyzer, Authority, Distributor, Port, Program, Scratch};

use super::client::Manner;
use super::{distributor, Payloads};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 127.0.0.1 7 6514\r\n";

struct Site {
    authority: Authority,
    distributor: Distributor,
    analyzer: Analyzer,
}

/// An input that takes TLS from a proxy on this host.
fn site(mode: &str, proxies: &str) -> Site {
    let authority = Authority::new("proxied");
    let flags = format!(
        "{} --http 127.0.0.1:0 --input syslog@127.0.0.1:0?name=s&tls={mode}&proxy_from={proxies}&allow=192.0.2.0/24",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    Site {
        authority,
        distributor,
        analyzer,
    }
}

impl Site {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.distributor.input("s")).expect("it listens");
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).expect("a time");
        socket.set_nodelay(true).expect("a socket");
        socket
    }

    /// Says pieces of a header, then speaks TLS.
    fn send(&self, header: &[&[u8]], text: &[u8]) -> std::io::Result<()> {
        let mut socket = self.connect();
        for piece in header {
            socket.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut client = Manner::new(&self.authority.ca(), None).on(socket)?;
        client.send(text)?;
        client.finish()
    }

    fn is_counted(&self, series: &str) {
        until(series, || {
            let mut client = Client::connect(self.distributor.http.expect("a port"));
            client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.answer().body.contains(series)
        });
    }

    /// The analyzer has these texts, and no others.
    fn ends_with(self, texts: &[&str]) {
        until("all of it", || self.analyzer.read() >= texts.len());
        drop(self.analyzer);
        let ended = self.distributor.stop();
        assert_eq!(ended.assert_clean().received, texts.len() as u64);
    }
}

#[test]
fn a_header_before_tls_says_who_it_is() {
    for mode in ["required", "optional"] {
        let site = site(mode, "127.0.0.1/32");
        site.send(&[HEADER], b"<11>a\n").expect("let in");
        let (begin, end) = HEADER.split_at(9);
        site.send(&[begin, end], b"<11>b\n").expect("let in");
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x7f\0\0\x01\0\x07\x19\x72";
        site.send(&[&v2[..5], &v2[5..20], &v2[20..]], b"<11>c\n")
            .expect("let in");
        // Whom a proxy names is judged, not the proxy.
        let stranger = b"PROXY TCP4 198.51.100.1 127.0.0.1 77 6514\r\n";
        let _ = site.send(&[stranger], b"<11>no\n");
        site.distributor
            .wait_log("198.51.100.1:77 of input s closed");
        site.ends_with(&["<11>a", "<11>b", "<11>c"]);
    }
}

#[test]
fn with_optional_tls_a_header_may_stand_before_plain_text() {
    let site = site("optional", "127.0.0.1/32");
    for pieces in [
        &[HEADER, b"<11>a\n"][..],
        &[&HEADER[..3], &HEADER[3..], b"<11>b\n"],
    ] {
        let mut socket = site.connect();
        for piece in pieces {
            socket.write_all(piece).expect("sent");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    site.ends_with(&["<11>a", "<11>b"]);
}

#[test]
fn a_header_that_is_wrong_or_missing_is_counted_and_named() {
    let site = site("required", "127.0.0.1/32");
    for (count, bad) in [
        &b"PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n"[..],
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = site.connect();
        socket.write_all(bad).expect("sent");
        assert!(matches!(socket.read(&mut [0; 10]), Ok(0) | Err(_)));
        if count == 0 {
            let line = "127.0.0.1 refused: PROXY header, version 1: there should be two ports";
            site.distributor.wait_log(line);
        }
        let count = count + 1;
        site.is_counted(&format!(
            "weir_tls_refused_total{{port=\"s\",reason=\"proxy_header\"}} {count}\n"
        ));
    }
    // Who speaks TLS at once has no header.
    let refused = site.send(&[], b"<11>no\n");
    assert!(refused.is_err());
    site.is_counted(
        "weir_tls_refused_total{port=\"s\",reason=\"proxy_header\"} 4
",
    );
    // A header and then no TLS: the line names whom the proxy has named.
    let mut socket = site.connect();
    socket
        .write_all(&[HEADER, b"<11>no\n"].concat())
        .expect("sent");
    let said = site.distributor.wait_log("it does not speak TLS");
    assert!(said.contains("s: 192.0.2.1 refused"), "{said}");
    // Checks of proxies come and go without a word.
    drop(site.connect());
    site.send(&[HEADER], b"<11>a\n").expect("let in");
    site.ends_with(&["<11>a"]);
}

#[test]
fn haproxy_passes_tls_on_with_a_header_in_front() {
    let Some(mut haproxy) = program("haproxy") else {
        return;
    };
    let site = site("required", "127.0.0.1/32");
    let (scratch, held) = (Scratch::new("proxied"), Port::hold());
    // The client's own address is on the list of those that may connect by this.
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen tls\n bind 127.0.0.1:{}\n tcp-request connection set-src ipv4(192.0.2.7)\n server weir {} send-proxy-v2\n",
        held.number(),
        site.distributor.input("s"),
    );
    haproxy.arg("-db").arg("-f");
    haproxy.arg(scratch.write("haproxy.cfg", &config));
    let running = Program::start_command(haproxy, "haproxy");
    let at = (std::net::Ipv4Addr::LOCALHOST, held.number());
    until("haproxy's port", || TcpStream::connect(at).is_ok());
    let manner = Manner::new(&site.authority.ca(), None);
    let mut client = manner.connect(at.into()).expect("let in");
    client.send(b"<11>by haproxy\n").expect("sent");
    client.finish().expect("the end");
    drop(running);
    site.ends_with(&["<11>by haproxy"]);
}
