//! Programs of others that forward over TLS: gnutls-cli, stunnel, HAProxy, rsyslog with either of its drivers.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use weir_testkit::peers::{program, unpacked};
use weir_testkit::{until, Analyzer, Authority, Distributor, Pair, Port, Program, Scratch};

use super::programs::{lines, messages};
use super::{distributor, Payloads};

/// A distributor that takes syslog over TLS from who shows a certificate, and what its clients need.
struct Site {
    authority: Authority,
    client: Pair,
    distributor: Distributor,
    analyzer: Analyzer,
    scratch: Scratch,
}

impl Site {
    fn new(name: &str) -> Site {
        let authority = Authority::new(name);
        let flags = format!(
            "{} --input syslog@127.0.0.1:0?name=s&tls=required --tls-client-ca {} --tls-names web1",
            authority.pair("localhost").flags(),
            authority.ca().display()
        );
        let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
        Site {
            client: authority.pair("web1"),
            authority,
            distributor,
            analyzer,
            scratch: Scratch::new(name),
        }
    }

    fn input(&self) -> SocketAddr {
        self.distributor.input("s")
    }

    /// Everything came, and the books balance.
    fn ends_with(self, count: usize) {
        until("all of it", || self.analyzer.read() >= count);
        assert_eq!(self.analyzer.read(), count);
        drop(self.analyzer);
        let balance = self.distributor.stop().assert_clean();
        assert_eq!(balance.received, count as u64);
    }
}

#[test]
fn gnutls_sends() {
    for priority in ["NORMAL", "NORMAL:-VERS-TLS1.3"] {
        gnutls_sends_by(priority);
    }
}

fn gnutls_sends_by(priority: &str) {
    let Some(mut gnutls) = program("gnutls-cli") else {
        return;
    };
    let site = Site::new("gnutls");
    gnutls.args(["--priority", priority]);
    gnutls.arg("--x509cafile").arg(site.authority.ca());
    gnutls.arg("--x509certfile").arg(&site.client.cert);
    gnutls.arg("--x509keyfile").arg(&site.client.key);
    let port = site.input().port().to_string();
    gnutls.args(["--sni-hostname", "localhost", "--port", &port, "localhost"]);
    gnutls.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = gnutls.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let count = messages();
    stdin.write_all(lines(count).as_bytes()).expect("it reads");
    stdin.flush().expect("it reads");
    std::thread::sleep(Duration::from_millis(500));
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    site.ends_with(count);
}

/// Lines go in the clear to a program that puts TLS around them.
fn through(site: Site, port: u16, what: &str) {
    until(what, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let count = messages();
    stream.write_all(lines(count).as_bytes()).expect("sent");
    drop(stream);
    site.ends_with(count);
}

#[test]
fn stunnel_puts_tls_around_lines() {
    let Some(mut stunnel) = program("stunnel4") else {
        return;
    };
    let site = Site::new("stunnel");
    let held = Port::hold();
    let config = format!(
        "foreground = yes\npid =\n[weir]\nclient = yes\naccept = 127.0.0.1:{}\nconnect = {}\nCAfile = {}\nverifyChain = yes\ncheckHost = localhost\ncert = {}\nkey = {}\n",
        held.number(),
        site.input(),
        site.authority.ca().display(),
        site.client.cert.display(),
        site.client.key.display(),
    );
    stunnel.arg(site.scratch.write("stunnel.conf", &config));
    let running = Program::start_command(stunnel, "stunnel");
    through(site, held.number(), "stunnel's port");
    drop(running);
}

#[test]
fn haproxy_puts_tls_around_lines() {
    let Some(mut haproxy) = program("haproxy") else {
        return;
    };
    let site = Site::new("haproxy-tls");
    let held = Port::hold();
    let both = [&site.client.cert, &site.client.key]
        .map(|path| std::fs::read_to_string(path).expect("a file"))
        .concat();
    let shown = site.scratch.write("client.pem", &both);
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen syslog\n bind 127.0.0.1:{}\n server weir {} ssl verify required ca-file {} crt {} sni str(localhost) verifyhost localhost\n",
        held.number(),
        site.input(),
        site.authority.ca().display(),
        shown.display(),
    );
    haproxy.arg("-db").arg("-f");
    haproxy.arg(site.scratch.write("haproxy.cfg", &config));
    let running = Program::start_command(haproxy, "haproxy");
    through(site, held.number(), "haproxy's port");
    drop(running);
}

#[test]
fn rsyslog_sends_by_gtls_and_by_ossl() {
    for driver in ["gtls", "ossl"] {
        let Some(mut rsyslog) = program("rsyslogd") else {
            return;
        };
        let of_system = format!("usr/lib/{}-linux-gnu/rsyslog", std::env::consts::ARCH);
        let folders = [
            unpacked().join(&of_system),
            std::path::Path::new("/").join(&of_system),
        ];
        let module = format!("lmnsd_{driver}.so");
        let Some(modules) = folders.iter().find(|folder| folder.join(&module).is_file()) else {
            println!("skipped: rsyslog has no {module} here; scripts/senders.sh unpacks it");
            continue;
        };
        let site = Site::new(driver);
        let socket = site.scratch.path("log");
        let config = format!(
            r#"global(workDirectory="{folder}" DefaultNetstreamDriver="{driver}" DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{cert}" DefaultNetstreamDriverKeyFile="{key}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on" RateLimit.Interval="0")
*.* action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="octet-counted" StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="localhost")
"#,
            folder = site.scratch.folder().display(),
            ca = site.authority.ca().display(),
            cert = site.client.cert.display(),
            key = site.client.key.display(),
            socket = socket.display(),
            port = site.input().port(),
        );
        rsyslog.arg("-M").arg(modules).arg("-n").arg("-f");
        rsyslog.arg(site.scratch.write("rsyslog.conf", &config));
        rsyslog.arg("-i").arg(site.scratch.path("pid"));
        let running = Program::start_command(rsyslog, "rsyslogd");
        until("rsyslog's socket", || socket.exists());
        let log = UnixDatagram::unbound().expect("a socket");
        let count = messages();
        for number in 0..count {
            let line = format!("<13>Nov 30 10:00:00 app: message {number}");
            until("rsyslog takes it", || {
                log.send_to(line.as_bytes(), &socket).is_ok()
            });
        }
        until("all of it", || site.analyzer.read() >= count);
        drop(running);
        site.ends_with(count);
    }
}
