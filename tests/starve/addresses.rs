//! A rule about addresses holds for a peer that has none any more: one that connects, sends and resets is gone
//! before it is accepted, and what it sent could still be read.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use weir_testkit::{
    numbered, socket, until, wire, Analyzer, Dialect, Distributor, Emitter, Options,
};

const HIT_AND_RUNS: u64 = 300;

/// Connects, sends one message, and resets the connection.
fn hit_and_run(address: SocketAddr, id: u64) {
    let mut stream = TcpStream::connect(address).expect("a listener");
    let at_once = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    at_once.expect("an option");
    let mut frame = Vec::new();
    numbered::put_numbered(&mut frame, id, 64);
    // A reset of the other side may be quicker.
    let _ = stream.write_all(&frame);
}

/// All of them against this rule: what came in, and what was refused for want of an address.
fn hit_and_run_against(rule: &str) -> (u64, u64) {
    // Connections are accepted some time after they came: the reset is there first.
    let flags = format!("--shards 1 --latency-budget 20ms {rule}");
    let distributor = Distributor::start(&flags);
    let options = Options::new(Dialect::Native, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    for id in 0..HIT_AND_RUNS {
        hit_and_run(distributor.emitters, id);
    }
    let ended = distributor.stop();
    let refused = ended.count("address_unknown");
    let received = ended.assert_clean().received;
    assert_eq!(analyzer.read() as u64, received, "{rule}");
    (received, refused)
}

#[test]
fn an_allow_list_refuses_who_has_no_address() {
    let (received, refused) = hit_and_run_against("--allow-emitters 10.99.0.0/16");
    assert_eq!(received, 0);
    assert!(refused > 0, "none was reset in time");
    // Not even a list with its network: nobody knows that it was in it. Who is accepted before its reset is.
    let (received, refused) =
        hit_and_run_against("--allow-emitters 127.0.0.0/8 --max-per-address 1");
    assert!(refused > 0, "none was reset in time");
    assert!(received + refused <= HIT_AND_RUNS);
}

/// Without a rule a reset is no reason to refuse: what was sent before it counts.
#[test]
fn without_a_rule_all_are_let_in() {
    let distributor = Distributor::start("--shards 1");
    let options = Options::new(Dialect::Native, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    Emitter::start(distributor.emitters, 0..100, 64).join();
    until("delivered", || analyzer.read() == 100);
    let ended = distributor.stop();
    assert_eq!(ended.count("address_unknown"), 0);
    assert_eq!(ended.assert_clean().received, 100);
}

/// The limit of an address holds at the analyzers' port too, in analyzers: a native one has a link to each shard.
#[test]
fn an_address_has_so_many_analyzers() {
    for dialect in [Dialect::Native, Dialect::Compact] {
        let distributor = Distributor::start("--shards 2 --max-per-address 2");
        let connect = |id: &str, shard: usize| {
            let options = Options::new(dialect, 1.0).id(id).shard(shard);
            Analyzer::connect(distributor.analyzers, &options)
        };
        let links = |id: &str| match dialect {
            Dialect::Native => vec![connect(id, 0), connect(id, 1)],
            _ => vec![connect(id, 0)],
        };
        let first = links("a");
        let second = links("b");
        distributor.wait_lanes(2);
        let mut third = socket::connect(distributor.analyzers);
        let word = wire::first_word(dialect, 1.0, "c", Some(0));
        third.write_all(&word).expect("writes");
        if dialect == Dialect::Native {
            let (welcome, reason) = socket::read_welcome(&mut third);
            assert_ne!(welcome.status, 0);
            assert!(reason.contains("--max-per-address"), "{reason}");
        }
        distributor.wait_log("--max-per-address");
        assert!(first.iter().chain(&second).all(|link| !link.has_ended()));
        // Whose link breaks may come again, and a place that is left is free.
        let ups = distributor.lines("analyzer up").len();
        let gone = first.len();
        drop((first, third));
        until("its links are gone", || {
            distributor.lines("analyzer down").len() == gone
        });
        let again = links("c");
        until("it is up", || {
            distributor.lines("analyzer up").len() == ups + again.len()
        });
        drop((again, second));
        let ended = distributor.stop();
        assert_eq!(ended.count("address_limit"), 1, "{}", ended.stdout);
    }
}
