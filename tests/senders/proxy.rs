//! PROXY headers: by hand, and from HAProxy in front of a distributor. Lists see the address in them; what comes from
//! elsewhere than a proxy is refused.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_testkit::peers::program;
use weir_testkit::process::run_command;
use weir_testkit::{until, Distributor, FrameSink, Program, Scratch};

/// Where one's own connections come from.
const FROM: &str = "127.0.0.1/32";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

struct Site {
    distributor: Distributor,
    sink: FrameSink,
    input: SocketAddr,
}

fn site(options: &str) -> Site {
    let flags = format!("--shards 1 --input syslog@127.0.0.1:0?name=syslog&{options}");
    let distributor = Distributor::start(&flags);
    let input = distributor.input("syslog");
    let sink = FrameSink::of(distributor.analyzers, 1.0);
    distributor.wait_lanes(1);
    Site {
        distributor,
        sink,
        input,
    }
}

impl Site {
    /// Sends pieces, and keeps the connection.
    fn send(&self, pieces: &[&[u8]]) -> TcpStream {
        let mut stream = TcpStream::connect(self.input).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        for piece in pieces {
            stream.write_all(piece).expect("sent");
            std::thread::sleep(Duration::from_millis(20));
        }
        stream
    }

    fn texts(&self, count: usize) -> Vec<String> {
        until("all messages", || self.sink.frames().len() >= count);
        let mut texts: Vec<String> = self
            .sink
            .frames()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        texts.sort();
        texts
    }
}

/// The other side closes, and writes nothing.
fn is_closed(mut stream: TcpStream) {
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).expect("a socket");
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [V2, &[command, family, 0, body.len() as u8], body].concat()
}

#[test]
fn lists_and_logs_see_the_address_in_the_header() {
    let site = site(&format!("proxy_from={FROM}&allow=192.0.2.0/24"));
    let v4 = [192, 0, 2, 9, 127, 0, 0, 1, 0, 7, 2, 2];
    let binary = v2(0x21, 0x11, &v4);
    let open = [
        site.send(&[b"PROXY TCP4 192.0.2.1 127.0.0.1 1 514\r\n<11>a\n"]),
        site.send(&[
            b"PROXY TCP4 192.",
            b"0.2.1 127.0.0.1 1 514\r",
            b"\n<11>b",
            b"\n",
        ]),
        site.send(&[&binary[..], b"<11>c\n"]),
        site.send(&[&binary[..13], &[&binary[13..], b"6 <131>d"].concat()]),
    ];
    let expected = ["<11>a", "<11>b", "<11>c", "<131>d"];
    assert_eq!(site.texts(4), expected);

    is_closed(site.send(&[b"PROXY TCP4 198.51.100.1 127.0.0.1 77 514\r\n<11>no\n"]));
    site.distributor
        .wait_log("198.51.100.1:77 of input syslog closed");
    // The proxy itself is on no list.
    is_closed(site.send(&[&v2(0x20, 0, &[]), b"<11>no\n"]));
    is_closed(site.send(&[b"PROXY UNKNOWN\r\n<11>no\n"]));
    drop(open);
    let Site { distributor, .. } = site;
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 4);
    assert_eq!(ended.count("address_not_allowed"), 3);
}

#[test]
fn a_connection_without_a_good_header_is_refused_and_nothing_of_it_is_taken() {
    let site = site(&format!("proxy_from={FROM}"));
    for bad in [
        &b"<11>no header\n"[..],
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n<11>x\n",
        &v2(0x21, 0x11, &[1, 2, 3]),
        &v2(0x31, 0x11, &[0; 12]),
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
    ] {
        is_closed(site.send(&[bad]));
    }
    let line = site
        .distributor
        .wait_log("there is no PROXY header in front");
    assert!(line.contains("proxy_from"), "{line}");
    // A check of the proxy that comes without a header.
    drop(site.send(&[]));
    let good = site.send(&[&v2(0x20, 0, &[]), b"<11>local\n"]);
    assert_eq!(site.texts(1), ["<11>local"]);
    drop(good);
    let Site { distributor, .. } = site;
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 1);
    assert_eq!(ended.count("proxy_header"), 5);
}

#[test]
fn only_proxies_may_connect() {
    let site = site("proxy_from=192.0.2.0/24");
    is_closed(site.send(&[b"PROXY TCP4 192.0.2.1 127.0.0.1 1 514\r\n<11>a\n"]));
    let line = site.distributor.wait_log("no proxy of proxy_from");
    assert!(line.contains("127.0.0.1"), "{line}");
    let Site { distributor, .. } = site;
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 0);
    assert_eq!(ended.count("no_proxy"), 1);
}

#[test]
fn a_client_behind_haproxy_is_counted_by_its_own_address() {
    let Some(mut haproxy) = program("haproxy") else {
        return;
    };
    let version = ["send-proxy", "send-proxy-v2"];
    for (index, word) in version.into_iter().enumerate() {
        let site = site(&format!("proxy_from={FROM}&allow=127.0.0.7/32"));
        let scratch = Scratch::new("haproxy");
        let front = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = front.local_addr().expect("bound").port();
        drop(front);
        let config = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen syslog\n bind 127.0.0.1:{port}\n server weir {input} {word}\n",
            input = site.input
        );
        let config = scratch.write("haproxy.cfg", &config);
        if index > 0 {
            haproxy = program("haproxy").expect("it was there");
        }
        haproxy.arg("-db").arg("-f").arg(config);
        let running = Program::start_command(haproxy, "haproxy");
        until("haproxy's port", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let Some(()) = log_from("127.0.0.7", port, "<11>allowed") else {
            return;
        };
        assert_eq!(site.texts(1), ["<11>allowed"]);
        log_from("127.0.0.8", port, "<11>refused");
        site.distributor.wait_log("127.0.0.8");
        drop(running);
        let Site { distributor, .. } = site;
        assert_eq!(distributor.stop().assert_clean().received, 1);
        haproxy = std::process::Command::new("true");
    }
}

/// One message through the proxy, from an address of this host.
fn log_from(source: &str, port: u16, text: &str) -> Option<()> {
    const SEND: &str = "import socket,sys\n\
        s = socket.create_connection(('127.0.0.1', int(sys.argv[2])), source_address=(sys.argv[1], 0))\n\
        s.sendall(sys.argv[3].encode() + b'\\n')\n\
        s.shutdown(socket.SHUT_WR)\n\
        s.settimeout(10)\n\
        try:\n    s.recv(1)\nexcept OSError:\n    pass\n";
    let mut python = program("python3")?;
    let output = run_command(python.args(["-c", SEND, source, &port.to_string(), text]));
    assert!(output.status.success(), "{output:?}");
    Some(())
}
