//! Servers of others that are delivered to over TLS, and that ask for a certificate: rsyslog by either of its drivers, RELP,
//! syslog-ng, and npm's Forward server.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use weir_testkit::peers::{program, unpacked};
use weir_testkit::{until, Authority, Distributor, Emitter, Pair, Port, Program, Scratch};

use super::programs::messages;
use super::shippers::rsyslog;

/// Where a server is to be, and what it shows and trusts.
struct Place {
    authority: Authority,
    server: Pair,
    client: Pair,
    scratch: Scratch,
    held: Port,
}

impl Place {
    fn new(name: &str) -> Place {
        let authority = Authority::new(name);
        Place {
            server: authority.pair("localhost"),
            client: authority.pair("weir1"),
            authority,
            scratch: Scratch::new(name),
            held: Port::hold(),
        }
    }

    fn record(&self) -> PathBuf {
        self.scratch.path("record")
    }

    /// Delivers by a scheme until the server's record has each number once.
    fn delivers(&self, scheme: &str, running: Program) {
        let at = ("127.0.0.1", self.held.number());
        until("it listens", || TcpStream::connect(at).is_ok());
        let distributor = Distributor::start(&format!(
            "--shards 1 --health-interval 1s --slow-start 0s --analyzer s=1@{scheme}://localhost:{}?tls_ca={}&tls_cert={}&tls_key={}",
            self.held.number(),
            self.authority.ca().display(),
            self.client.cert.display(),
            self.client.key.display()
        ));
        distributor.wait_lanes(1);
        let count = messages();
        let emitter = Emitter::start(distributor.emitters, 0..count as u64, 100);
        let lines = || {
            let text = std::fs::read(self.record()).unwrap_or_default();
            text.iter().filter(|byte| **byte == b'\n').count()
        };
        until("all of it", || lines() >= count);
        emitter.join();
        let balance = distributor.stop().assert_clean();
        assert_eq!(balance.received, count as u64);
        drop(running);
        assert_eq!(lines(), count);
    }
}

const TO_FILE: &str = "template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n";

#[test]
fn rsyslog_takes_syslog_by_gtls_and_by_ossl() {
    for driver in ["gtls", "ossl"] {
        let Some(mut rsyslog) = rsyslog(&format!("lmnsd_{driver}.so")) else {
            return;
        };
        let place = Place::new(&format!("imtcp-{driver}"));
        let config = format!(
            r#"global(workDirectory="{folder}" DefaultNetstreamDriver="{driver}" DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{cert}" DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name" PermittedPeer=["weir1"])
{TO_FILE}ruleset(name="all") {{ action(type="omfile" file="{record}" template="raw") }}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="all")
"#,
            folder = place.scratch.folder().display(),
            ca = place.authority.ca().display(),
            cert = place.server.cert.display(),
            key = place.server.key.display(),
            record = place.record().display(),
            port = place.held.number(),
        );
        rsyslog.arg(place.scratch.write("rsyslog.conf", &config));
        let running = Program::start_command(rsyslog, "rsyslogd");
        place.delivers("syslog-octet+tls", running);
    }
}

#[test]
fn rsyslog_takes_relp() {
    let Some(mut rsyslog) = rsyslog("imrelp.so") else {
        return;
    };
    let place = Place::new("imrelp-tls");
    let config = format!(
        r#"global(workDirectory="{folder}")
module(load="imrelp")
{TO_FILE}ruleset(name="all") {{ action(type="omfile" file="{record}" template="raw") }}
input(type="imrelp" port="{port}" ruleset="all" tls="on" tls.caCert="{ca}" tls.myCert="{cert}" tls.myPrivKey="{key}" tls.authMode="name" tls.permittedPeer=["weir1"])
"#,
        folder = place.scratch.folder().display(),
        ca = place.authority.ca().display(),
        cert = place.server.cert.display(),
        key = place.server.key.display(),
        record = place.record().display(),
        port = place.held.number(),
    );
    rsyslog.arg(place.scratch.write("rsyslog.conf", &config));
    let running = Program::start_command(rsyslog, "rsyslogd");
    place.delivers("relp+tls", running);
}

#[test]
fn syslog_ng_takes_syslog() {
    let Some(mut syslog_ng) = program("syslog-ng") else {
        return;
    };
    let place = Place::new("syslog-ng-server");
    let config = format!(
        "@version: 3.38\n\
         source s {{ network(ip(\"127.0.0.1\") port({port}) transport(\"tls\") flags(no-parse)\n\
          tls(cert-file(\"{cert}\") key-file(\"{key}\") ca-file(\"{ca}\") peer-verify(required-trusted))); }};\n\
         destination d {{ file(\"{record}\" template(\"${{MESSAGE}}\\n\")); }};\n\
         log {{ source(s); destination(d); flags(flow-control); }};\n",
        port = place.held.number(),
        cert = place.server.cert.display(),
        key = place.server.key.display(),
        ca = place.authority.ca().display(),
        record = place.record().display(),
    );
    let config = place.scratch.write("syslog-ng.conf", &config);
    syslog_ng.args(["--foreground", "--no-caps", "--cfgfile"]);
    syslog_ng.arg(config);
    for (flag, name) in [
        ("--persist-file", "persist"),
        ("--pidfile", "pid"),
        ("--control", "control"),
    ] {
        syslog_ng.arg(flag).arg(place.scratch.path(name));
    }
    let running = Program::start_command(syslog_ng, "syslog-ng");
    place.delivers("syslog+tls", running);
}

#[test]
fn npms_forward_server_takes_entries() {
    let modules = unpacked().join("npm/node_modules");
    if !modules.join("@fluent-org/logger").is_dir() {
        println!(
            "skipped: there is no npm package @fluent-org/logger; scripts/senders.sh fetches it"
        );
        return;
    }
    let Some(mut node): Option<Command> = program("node") else {
        return;
    };
    let place = Place::new("forward-server-tls");
    node.env("NODE_PATH", modules);
    node.arg(format!(
        "{}/tests/tls/peers/serve.js",
        env!("CARGO_MANIFEST_DIR")
    ));
    node.arg(place.held.number().to_string());
    node.args([&place.authority.ca(), &place.server.cert, &place.server.key]);
    let record = File::create(place.record()).expect("a file");
    let running = Program::start_into(node, record, "a Forward server");
    place.delivers("forward+tls", running);
}
