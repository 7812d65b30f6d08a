//! Nothing of Weir's at either end: a client of Forward with acks, Weir, servers of Forward. Whoever is killed, what was
//! acked to the client is in the record of a server, as binary as it was.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use weir_testkit::{until, Distributor};

use crate::programs::{node, Program};

/// Kills in `cargo test`; `WEIR_FORWARD_KILLS` says another number.
const KILLS: u32 = 3;
/// Messages that one client has numbers for.
const NUMBERS: u64 = 1_000_000;

fn start(forward: SocketAddr, servers: &[SocketAddr; 2]) -> Distributor {
    let [a, b] = servers;
    Distributor::start(&format!(
        "--shards 1 --ack-presume 60s --input forward@{forward}?name=forward --health-interval 100ms --slow-start 0s \
         --analyzer a=1@forward://{a} --analyzer b=1@forward://{b}?compress=gzip"
    ))
}

fn serve(address: SocketAddr) -> Option<Program> {
    let mut command: Command = node("serve.js")?;
    command.arg(address.ip().to_string());
    command.arg(address.port().to_string());
    let server = Program::start(command);
    until("the server listens", || server.has_said("listens"));
    Some(server)
}

fn send(distributor: &Distributor, first: u64) -> Option<Program> {
    let mut command: Command = node("stream.js")?;
    let forward = distributor.input("forward");
    command.arg(forward.ip().to_string());
    command.arg(forward.port().to_string());
    command.arg(first.to_string());
    Some(Program::start(command))
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// Numbers behind a word, each as often as it was said.
fn numbers(program: &Program, word: &str) -> Vec<u64> {
    let said = program.said();
    let lines = said.iter().filter_map(|line| line.strip_prefix(word));
    lines
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn what_is_acked_to_a_client_is_at_a_server_whoever_is_killed() {
    let kills = std::env::var("WEIR_FORWARD_KILLS");
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let addresses = [free(), free()];
    let (Some(a), Some(b)) = (serve(addresses[0]), serve(addresses[1])) else {
        return;
    };
    let mut servers = [a, b];
    let mut distributor = start(([127, 0, 0, 1], 0).into(), &addresses);
    let forward = distributor.input("forward");
    distributor.wait_lanes(2);
    let mut client = send(&distributor, 0).expect("as before");
    let (mut acked, mut got) = (BTreeSet::new(), Vec::new());
    let progress = |client: &Program| {
        let before = numbers(client, "acked ").len();
        until("messages are acked", || {
            numbers(client, "acked ").len() > before + 200
        });
    };
    for kill in 0..kills {
        progress(&client);
        match kill % 3 {
            0 => {
                let at = kill as usize / 3 % 2;
                servers[at].kill();
                got.extend(numbers(&servers[at], "got "));
                servers[at] = serve(addresses[at]).expect("as before");
            }
            1 => {
                distributor.signal("-KILL");
                distributor.wait();
                distributor = start(forward, &addresses);
            }
            _ => {
                client.kill();
                acked.extend(numbers(&client, "acked "));
                client = send(&distributor, u64::from(kill + 1) * NUMBERS).expect("as before");
            }
        }
    }
    progress(&client);
    client.kill();
    acked.extend(numbers(&client, "acked "));
    for server in &mut servers {
        server.kill();
        got.extend(numbers(server, "got "));
        let is_binary = |line: &String| !line.starts_with("got ") || line.ends_with("binary");
        assert!(server.said().iter().all(is_binary), "{:?}", server.said());
    }
    let there: BTreeSet<u64> = got.iter().copied().collect();
    let missing: Vec<_> = acked.difference(&there).collect();
    assert!(missing.is_empty(), "acked, and at no server: {missing:?}");
    eprintln!(
        "{kills} kills: {} acked, {} at servers, {} of them more than once",
        acked.len(),
        there.len(),
        got.len() - there.len()
    );
}
