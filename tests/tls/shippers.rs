//! Programs of others that ship logs over TLS, with and without certificates of their own: every message comes, and those
//! that ask for acks get them.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use weir_testkit::peers::{program, unpacked};
use weir_testkit::process::run_command;
use weir_testkit::{until, Analyzer, Authority, Distributor, Pair, Port, Program, Scratch};

use super::programs::{lines, messages};
use super::{distributor, Payloads};

/// A distributor with an input over TLS.
struct Site {
    authority: Authority,
    /// What clients show; none: nobody is asked.
    client: Option<Pair>,
    distributor: Distributor,
    analyzer: Analyzer,
    scratch: Scratch,
}

impl Site {
    fn new(name: &str, protocol: &str, with: bool) -> Site {
        let authority = Authority::new(name);
        let asks = match with {
            true => format!(
                " --tls-client-ca {} --tls-names web1",
                authority.ca().display()
            ),
            false => String::new(),
        };
        let flags = format!(
            "{} --ack-presume 1h --input {protocol}@127.0.0.1:0?name=s&tls=required{asks}",
            authority.pair("localhost").flags(),
        );
        let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
        Site {
            client: with.then(|| authority.pair("web1")),
            authority,
            distributor,
            analyzer,
            scratch: Scratch::new(name),
        }
    }

    fn port(&self) -> u16 {
        self.distributor.input("s").port()
    }

    /// Adds what the programs of `peers` are told.
    fn tell(&self, command: &mut Command, count: usize) {
        command.arg(self.port().to_string()).arg(count.to_string());
        command.arg(self.authority.ca());
        if let Some(pair) = &self.client {
            command.args([&pair.cert, &pair.key]);
        }
    }

    /// Everything came, and the books balance.
    fn ends_with(self, count: usize) {
        until("all of it", || self.analyzer.read() >= count);
        assert_eq!(self.analyzer.read(), count);
        // What is not ACKed yet will be.
        let balance = self.distributor.stop().assert_clean();
        assert_eq!(balance.received, count as u64);
    }
}

fn peer(name: &str) -> String {
    format!("{}/tests/tls/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Node with the packages that are unpacked.
fn node(package: Option<&str>) -> Option<Command> {
    let modules = unpacked().join("npm/node_modules");
    if let Some(package) = package.filter(|package| !modules.join(package).is_dir()) {
        println!("skipped: there is no npm package {package}; scripts/senders.sh fetches it");
        return None;
    }
    let mut node = program("node")?;
    node.env("NODE_PATH", modules);
    Some(node)
}

/// Runs a program of `peers` against a protocol, with and without a certificate.
fn both(name: &str, protocol: &str, start: &dyn Fn(&Path) -> Option<Command>) {
    for with in [false, true] {
        let site = Site::new(name, protocol, with);
        let Some(mut command) = start(site.scratch.folder()) else {
            return;
        };
        let count = messages();
        site.tell(&mut command, count);
        run_command(&mut command);
        site.ends_with(count);
    }
}

#[test]
fn python_logs() {
    both("python-logging", "syslog", &|_| {
        let mut python = program("python3")?;
        python.arg(peer("log.py"));
        Some(python)
    });
}

#[test]
fn node_sends_octet_counted_syslog() {
    both("node-syslog", "syslog", &|_| {
        let mut node = node(None)?;
        node.arg(peer("syslog.js"));
        Some(node)
    });
}

#[test]
fn npms_forward_client_gets_its_acks() {
    both("node-forward", "forward", &|_| {
        let mut node = node(Some("@fluent-org/logger"))?;
        node.arg(peer("forward.js"));
        Some(node)
    });
}

#[test]
fn pylogbeat_gets_its_acks() {
    both("pylogbeat-tls", "lumberjack", &|_| {
        let python = unpacked().join("python/bin/python");
        if !python.is_file() {
            println!("skipped: there is no pylogbeat; scripts/senders.sh fetches it");
            return None;
        }
        let mut python = Command::new(python);
        python.arg(peer("beats.py"));
        Some(python)
    });
}

#[test]
fn go_sends_frames() {
    both("go-frames", "frames", &|folder| {
        let mut go = program("go")?;
        let built = folder.join("frames");
        go.args(["build", "-o"]).arg(&built).arg(peer("frames.go"));
        go.env("GO111MODULE", "off");
        go.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go"));
        run_command(&mut go);
        Some(Command::new(built))
    });
}

/// It looks at no certificate, and has none.
#[test]
fn loggen_sends() {
    let Some(mut loggen) = program("loggen") else {
        return;
    };
    let site = Site::new("loggen", "syslog", false);
    let count = messages();
    loggen.args(["--use-ssl", "--rate", "1000000", "--interval", "60"]);
    loggen.args(["--number", &count.to_string()]);
    loggen.args(["127.0.0.1", &site.port().to_string()]);
    run_command(&mut loggen);
    site.ends_with(count);
}

/// A daemon that takes lines at a port and sends them on over TLS.
fn relayed(name: &str, protocol: &str, start: &dyn Fn(&Site, u16) -> Option<Command>) {
    for with in [false, true] {
        let site = Site::new(name, protocol, with);
        let held = Port::hold();
        let Some(command) = start(&site, held.number()) else {
            return;
        };
        let running = Program::start_command(command, "a daemon");
        let at = ("127.0.0.1", held.number());
        until("it listens", || TcpStream::connect(at).is_ok());
        let mut stream = TcpStream::connect(at).expect("it listens");
        let count = messages();
        std::io::Write::write_all(&mut stream, lines(count).as_bytes()).expect("sent");
        drop(stream);
        // omrelp takes a minute for 100,000.
        let mut before = 0;
        while site.analyzer.read() < count {
            until("more of it", || site.analyzer.read() > before);
            before = site.analyzer.read();
        }
        drop(running);
        site.ends_with(count);
    }
}

/// rsyslogd with its modules; none: it has not this one.
pub(super) fn rsyslog(module: &str) -> Option<Command> {
    let mut rsyslog = program("rsyslogd")?;
    let of_system = format!("usr/lib/{}-linux-gnu/rsyslog", std::env::consts::ARCH);
    let folders = [unpacked().join(&of_system), Path::new("/").join(&of_system)];
    let found = folders.iter().find(|folder| folder.join(module).is_file());
    let Some(modules) = found else {
        println!("skipped: rsyslog has no {module} here; scripts/senders.sh unpacks it");
        return None;
    };
    rsyslog
        .arg("-M")
        .arg(modules)
        .args(["-n", "-i", "NONE", "-f"]);
    rsyslog.stdin(Stdio::null());
    Some(rsyslog)
}

/// It has a certificate in both rounds: without one, librelp offers suites without authentication alone, which nobody should.
#[test]
fn rsyslog_sends_relp() {
    relayed("omrelp-tls", "relp", &|site, port| {
        let mut rsyslog = rsyslog("omrelp.so")?;
        let pair = site.authority.pair("web1");
        let shown = format!(
            " tls.myCert=\"{}\" tls.myPrivKey=\"{}\"",
            pair.cert.display(),
            pair.key.display()
        );
        let config = format!(
            "global(workDirectory=\"{folder}\")\nmodule(load=\"imptcp\")\nmodule(load=\"omrelp\")\n\
             input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{to}\" timeout=\"60\" tls=\"on\" tls.caCert=\"{ca}\"{shown}\n\
              tls.authMode=\"name\" tls.permittedPeer=[\"localhost\"])\n",
            folder = site.scratch.folder().display(),
            to = site.port(),
            ca = site.authority.ca().display(),
        );
        rsyslog.arg(site.scratch.write("rsyslog.conf", &config));
        Some(rsyslog)
    });
}

#[test]
fn syslog_ng_sends() {
    relayed("syslog-ng", "syslog", &|site, port| {
        let mut syslog_ng = program("syslog-ng")?;
        let shown = site.client.as_ref().map_or_else(String::new, |pair| {
            format!(
                " cert-file(\"{}\") key-file(\"{}\")",
                pair.cert.display(),
                pair.key.display()
            )
        });
        let config = format!(
            "@version: 3.38\n\
             source s {{ network(ip(\"127.0.0.1\") port({port}) transport(\"tcp\") flags(no-parse)); }};\n\
             destination d {{ network(\"localhost\" port({to}) transport(\"tls\") template(\"${{MESSAGE}}\\n\")\n\
              tls(ca-file(\"{ca}\") peer-verify(required-trusted){shown})); }};\n\
             log {{ source(s); destination(d); flags(flow-control); }};\n",
            to = site.port(),
            ca = site.authority.ca().display(),
        );
        let config = site.scratch.write("syslog-ng.conf", &config);
        syslog_ng
            .args(["--foreground", "--no-caps", "--cfgfile"])
            .arg(config);
        for (flag, name) in [
            ("--persist-file", "persist"),
            ("--pidfile", "pid"),
            ("--control", "control"),
        ] {
            syslog_ng.arg(flag).arg(site.scratch.path(name));
        }
        Some(syslog_ng)
    });
}
