//! Analyzers that were not written for Weir, over streams that the distributor makes: RELP, Lumberjack, Forward,
//! syslog; files and programs. On real sockets: servers whose answers go wrong, servers that die, all kinds in one pool,
//! and the programs that people run.

mod dying;
mod exec;
mod files;
mod hostile;
mod identity;
mod local;
mod mixed;
mod programs;
mod rsyslog;
mod server;
mod weak;
mod wrong;

use std::collections::BTreeSet;

use weir_testkit::inputs::{Client, Sender, Speaks};
use weir_testkit::{until, Distributor};

use server::Server;

/// A distributor with an input for lines of syslog, and these analyzers behind their schemes.
fn distributor(analyzers: &[String], more: &str) -> Distributor {
    let analyzers: Vec<String> = analyzers
        .iter()
        .map(|it| format!("--analyzer {it}"))
        .collect();
    Distributor::start(&format!(
        "--shards 1 --health-interval 100ms --slow-start 0s --input syslog@127.0.0.1:0?name=lines {} {more}",
        analyzers.join(" ")
    ))
}

/// Sends so many messages with numbers from `first` on.
fn send(distributor: &Distributor, first: u64, messages: u64) {
    let client = Client::syslog(Speaks::Lines);
    let lines = distributor.input("lines");
    let record = Sender::start(lines, client, first..first + messages).join();
    assert_eq!(record.fault, None);
}

/// What the servers have said that they took, together.
fn taken(servers: &[&Server]) -> BTreeSet<u64> {
    servers.iter().flat_map(|server| server.acked()).collect()
}

/// All numbers below `messages` are through.
fn wait_taken(servers: &[&Server], messages: u64) {
    until("every message is taken", || {
        let taken = taken(servers).len() as u64;
        taken >= messages
    });
}
