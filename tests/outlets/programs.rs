//! Programs that people run, unchanged: rsyslog, syslog-ng, relppy, timbersnake. Judged from their own records. Where one
//! is not there, a test says why it is skipped. Logstash is not to be had from packages; Fluentd's kind is in
//! `tests/forward`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use weir_testkit::inputs::{marked, Client, Sender};
use weir_testkit::peers::{program, unpacked};
use weir_testkit::{until, Distributor, Scratch};

use super::{distributor, send};

const MESSAGES: u64 = 5000;

fn free() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// A program that writes what it gets to a file.
pub struct Receiver {
    child: Child,
    record: PathBuf,
}

impl Receiver {
    /// Waits until it listens there.
    pub fn start(mut command: Command, address: SocketAddr, record: PathBuf) -> Receiver {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        let child = child.expect("it is there");
        until("the receiver listens", || {
            TcpStream::connect(address).is_ok()
        });
        Receiver { child, record }
    }

    /// Numbers of what is in its record.
    pub fn numbers(&self) -> Vec<u64> {
        let text = std::fs::read(&self.record).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        lines.filter_map(marked::find).collect()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// rsyslog with this input, `PORT` in it being the port.
fn rsyslog(folder: &Scratch, input: &str, address: SocketAddr, record: &str) -> Option<Receiver> {
    let mut command = program("rsyslogd")?;
    let record = folder.path(record);
    let path = record.display();
    let input = input.replace("PORT", &address.port().to_string());
    let module = input.split('"').nth(1).expect("a type");
    let config = format!(
        "module(load=\"{module}\")\n\
         template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
         ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{path}\" template=\"raw\") }}\n\
         {input}\n"
    );
    let name = record.file_name().expect("a name").to_string_lossy();
    let config = folder.write(&format!("{name}.conf"), &config);
    command.args(["-n", "-C", "-i", "NONE", "-f"]).arg(config);
    modules(&mut command);
    Some(Receiver::start(command, address, record))
}

/// Where rsyslog's modules are, if they are unpacked.
pub fn modules(command: &mut Command) {
    let arch = format!("usr/lib/{}-linux-gnu/rsyslog", std::env::consts::ARCH);
    let folder = unpacked().join(arch);
    if folder.is_dir() {
        command.arg("-M").arg(folder);
    }
}

fn python(script: &str, packages: &str) -> Option<Command> {
    let own = unpacked().join("python/bin/python");
    let python = match own.is_file() {
        true => own,
        false => "python3".into(),
    };
    let mut has = Command::new(&python);
    has.args(["-c", &format!("import {packages}")]);
    let has = has.stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: no {packages} for Python; scripts/senders.sh gets it");
        return None;
    }
    let mut command = Command::new(python);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outlets");
    command.arg(Path::new(scripts).join(script));
    Some(command)
}

/// A script that prints what it gets.
fn script(
    folder: &Scratch,
    (name, packages): (&str, &str),
    address: SocketAddr,
    record: &str,
) -> Option<Receiver> {
    let mut command = python(name, packages)?;
    let record = folder.path(record);
    let output = std::fs::File::create(&record).expect("a file");
    command.arg(address.port().to_string()).stdout(output);
    Some(Receiver::start(command, address, record))
}

/// It gets all that is sent, and nothing twice; the distributor ends in order.
fn gets_all(receiver: &Receiver, url: &str, address: SocketAddr, more: &str) {
    let (url, options) = url.split_once('?').unwrap_or((url, ""));
    let options = match options {
        "" => String::new(),
        options => format!("?{options}"),
    };
    let distributor = distributor(&[format!("a=1@{url}://{address}{options}")], more);
    distributor.wait_lanes(1);
    send(&distributor, 0, MESSAGES);
    until("all are in its record", || {
        receiver.numbers().len() as u64 == MESSAGES
    });
    assert!(distributor.lines("analyzer down").is_empty());
    distributor.stop().assert_clean();
    let numbers = receiver.numbers();
    assert_eq!(numbers.len() as u64, MESSAGES);
    assert_eq!(
        numbers.into_iter().collect::<BTreeSet<_>>().len() as u64,
        MESSAGES
    );
}

#[test]
fn rsyslog_takes_relp() {
    let folder = Scratch::new("outlets-imrelp");
    let address = free();
    let input = r#"input(type="imrelp" port="PORT" ruleset="all")"#;
    if let Some(receiver) = rsyslog(&folder, input, address, "relp") {
        gets_all(&receiver, "relp", address, "");
    }
}

#[test]
fn rsyslog_takes_syslog_in_lines_and_counted() {
    for (number, (input, url)) in [
        (r#"input(type="imtcp" port="PORT" ruleset="all")"#, "syslog"),
        (
            r#"input(type="imtcp" port="PORT" ruleset="all")"#,
            "syslog-octet",
        ),
        (
            r#"input(type="imptcp" port="PORT" ruleset="all")"#,
            "syslog",
        ),
        (
            r#"input(type="imptcp" port="PORT" ruleset="all")"#,
            "syslog-octet",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = Scratch::new("outlets-imtcp");
        let address = free();
        let name = format!("tcp{number}");
        if let Some(receiver) = rsyslog(&folder, input, address, &name) {
            gets_all(&receiver, url, address, "");
        }
    }
}

#[test]
fn syslog_ng_takes_syslog_in_lines_and_counted() {
    for (driver, url) in [
        (
            "network(ip(\"127.0.0.1\") port(PORT) flags(no-parse))",
            "syslog",
        ),
        ("syslog(ip(\"127.0.0.1\") port(PORT))", "syslog-octet"),
    ] {
        let Some(mut command) = program("syslog-ng") else {
            return;
        };
        let folder = Scratch::new("outlets-syslog-ng");
        let (address, record) = (free(), folder.path("out"));
        let path = record.display();
        let driver = driver.replace("PORT", &address.port().to_string());
        let config = format!(
            "@version: 3.38\nsource s {{ {driver}; }};\n\
             destination d {{ file(\"{path}\" template(\"$MSG\\n\")); }};\n\
             log {{ source(s); destination(d); flags(flow-control); }};\n"
        );
        let config = folder.write("conf", &config);
        command.args(["-F", "--no-caps", "-f"]).arg(config);
        for (flag, name) in [("-p", "pid"), ("-c", "ctl"), ("-R", "persist")] {
            command.arg(flag).arg(folder.path(name));
        }
        let receiver = Receiver::start(command, address, record);
        gets_all(&receiver, url, address, "");
    }
}

#[test]
fn relppy_takes_relp() {
    let (folder, address) = (Scratch::new("outlets-relppy"), free());
    if let Some(receiver) = script(&folder, ("relp_server.py", "relppy"), address, "out") {
        gets_all(&receiver, "relp", address, "");
    }
}

/// It reads packed windows only, and acks each by its last number.
#[test]
fn timbersnake_takes_lumberjack() {
    let (folder, address) = (Scratch::new("outlets-timbersnake"), free());
    let program = ("lumberjack_server.py", "timbersnake");
    if let Some(receiver) = script(&folder, program, address, "out") {
        gets_all(&receiver, "lumberjack?compress=zlib", address, "");
    }
}

/// Kills in `cargo test`; `WEIR_OUTLET_KILLS` says another number.
const KILLS: u32 = 3;

pub fn kills() -> u32 {
    let kills = std::env::var("WEIR_OUTLET_KILLS");
    kills.map_or(KILLS, |text| text.parse().expect("a number of kills"))
}

/// A chain over RELP: what is acked to the sender is in the record of a receiver, whoever is killed. rsyslog would answer
/// before its file has a message; relppy's handler writes it down first.
#[test]
fn what_is_acked_over_relp_is_at_a_receiver_whoever_is_killed() {
    let kills = kills();
    let folder = Scratch::new("outlets-chain");
    let addresses = [free(), free()];
    let serve = |at: usize, start: u32| {
        let program = ("relp_server.py", "relppy");
        script(&folder, program, addresses[at], &format!("{at}-{start}"))
    };
    let (Some(a), Some(b)) = (serve(0, 0), serve(1, 0)) else {
        return;
    };
    let mut servers = [a, b];
    let start = |relp: SocketAddr| {
        let [a, b] = addresses;
        Distributor::start(&format!(
            "--shards 1 --health-interval 100ms --slow-start 0s --ack-presume 60s --input relp@{relp}?name=relp \
             --analyzer a=1@relp://{a} --analyzer b=1@relp://{b}"
        ))
    };
    let mut distributor = start(([127, 0, 0, 1], 0).into());
    let relp = distributor.input("relp");
    distributor.wait_lanes(2);
    let mut there = BTreeSet::new();
    let sender = Sender::start(relp, Client::librelp(), 0..u64::MAX);
    for kill in 0..kills {
        let before = sender.acked();
        until("messages are acked", || sender.acked() > before + 500);
        match kill % 3 {
            2 => {
                distributor.signal("-KILL");
                distributor.wait();
                distributor = start(relp);
            }
            at => {
                let at = at as usize;
                servers[at].kill();
                there.extend(servers[at].numbers());
                servers[at] = serve(at, kill + 1).expect("as before");
            }
        }
        distributor.wait_lanes(2);
    }
    let before = sender.acked();
    until("messages are acked again", || sender.acked() > before + 500);
    let record = sender.finish();
    assert_eq!(record.fault, None);
    distributor.stop();
    there.extend(servers.iter().flat_map(Receiver::numbers));
    let acked = record.acked.iter();
    let missing = acked.filter(|id| !there.contains(id)).count();
    eprintln!(
        "{kills} kills: {} acked, {} at receivers",
        record.acked.len(),
        there.len()
    );
    assert_eq!(missing, 0, "acked, and at no receiver");
}
