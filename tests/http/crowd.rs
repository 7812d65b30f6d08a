//! Ten thousand connections that say nothing, from a process of their own.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::rig::Rig;
use weir_testkit::http::Client;
use weir_testkit::until;

/// Connections that say nothing, as many as descriptors allow up to 10,000; from a process of their own.
#[test]
fn ten_thousand_idle_connections() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    let count = usize::try_from(limit / 2).unwrap_or(usize::MAX).min(10_000);
    let rig = Rig::start(&format!(
        "--shards 2 --max-http-connections {count} --max-connections 100"
    ));
    let sink = rig.sink(1.0);
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "crowd::idle_clients", "--nocapture"])
        .env("WEIR_IDLE", format!("{} {count}", rig.http))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a child");
    let connections = || rig.sum(|report| report.http.connections as u64);
    until("all are connected", || connections() == count as u64);
    println!("{count} idle connections");
    assert_eq!(rig.sum(|report| report.http.held_bytes), 0);
    let mut late = Client::connect(rig.http);
    late.assert_gone();
    rig.until_refused("connection_limit", 1);
    // Emitters have descriptors of their own.
    let mut emitter = std::net::TcpStream::connect(rig.emitters).expect("a listener");
    for _ in 0..1000 {
        emitter
            .write_all(&[0, 0, 0, 7, 1, b'h', b'i'])
            .expect("sent");
    }
    until("messages flow", || sink.frames().len() == 1000);
    drop(emitter);
    drop(child.stdin.take());
    child.wait().expect("a child");
    rig.until_quiet();
    rig.stop();
}

/// The other end of [`ten_thousand_idle_connections`], which starts it with WEIR_IDLE: holds connections
/// until its stdin ends.
#[test]
fn idle_clients() {
    let Ok(text) = std::env::var("WEIR_IDLE") else {
        return;
    };
    rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    let (address, count) = text.split_once(' ').expect("two words");
    let count: usize = count.parse().expect("a number");
    let connect = |_| std::net::TcpStream::connect(address).expect("a listener");
    let connections: Vec<_> = (0..count).map(connect).collect();
    let _ = std::io::stdin().read(&mut [0]);
    drop(connections);
}
