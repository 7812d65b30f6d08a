//! Servers that die, with messages on their way, and come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weir_testkit::until;

use super::server::{Habit, Server, Speaks};
use super::{distributor, send, wait_taken};

const KINDS: [Speaks; 4] = [
    Speaks::Relp,
    Speaks::Lumberjack,
    Speaks::Forward,
    Speaks::Syslog,
];

#[test]
fn nobody_listens_and_the_other_gets_all() {
    for speaks in KINDS {
        let free = Server::start(speaks, Habit::Acks).address;
        let good = Server::start(speaks, Habit::Acks);
        let scheme = speaks.scheme();
        let analyzers = [
            format!("gone=1@{scheme}://{free}"),
            format!("good=1@{scheme}://{}", good.address),
        ];
        let distributor = distributor(&analyzers, "");
        distributor.wait_lanes(1);
        distributor.wait_log("id=\"gone\"");
        send(&distributor, 0, 1000);
        wait_taken(&[&good], 1000);
        let ended = distributor.stop();
        ended.assert_clean();
    }
}

/// Everything that the dead one had not acked is with the other within milliseconds.
#[test]
fn what_the_dead_had_not_acked_goes_to_the_living_at_once() {
    for speaks in KINDS {
        let (mut dies, lives) = (
            Server::start(speaks, Habit::Never),
            Server::start(speaks, Habit::Acks),
        );
        let scheme = speaks.scheme();
        let analyzers = [
            format!("dies=1@{scheme}://{}", dies.address),
            format!("lives=1@{scheme}://{}", lives.address),
        ];
        let distributor = distributor(&analyzers, "");
        distributor.wait_lanes(2);
        send(&distributor, 0, 200);
        // Not all that is meant for the dying one need be with it: Lumberjack has eight windows on their way at most.
        until("both have something", || {
            !dies.read().is_empty() && lives.acked().len() == 100
        });
        let begun = Instant::now();
        dies.kill();
        wait_taken(&[&lives], 200);
        let took = begun.elapsed();
        eprintln!("{speaks:?}: re-routed {took:?} after the kill began");
        assert!(took < Duration::from_secs(1), "{speaks:?}: {took:?}");
        let ended = distributor.stop();
        ended.assert_clean();
        assert_eq!(ended.rerouted(), 100, "{speaks:?}");
    }
}

/// Two servers, one of them killed and back again and again; judged by what they have said.
#[test]
fn nothing_is_missing_whoever_is_killed_and_back() {
    for speaks in KINDS {
        let (mut victim, other) = (
            Server::start(speaks, Habit::Acks),
            Server::start(speaks, Habit::Acks),
        );
        let scheme = speaks.scheme();
        let analyzers = [
            format!("victim=1@{scheme}://{}", victim.address),
            format!("other=1@{scheme}://{}", other.address),
        ];
        let distributor = distributor(&analyzers, "");
        distributor.wait_lanes(2);
        let mut there = BTreeSet::new();
        let rounds = 4;
        for round in 0..rounds {
            let sends = std::thread::scope(|scope| {
                let sender = scope.spawn(|| send(&distributor, round * 20_000, 20_000));
                std::thread::sleep(Duration::from_millis(30));
                victim.kill();
                sender.join()
            });
            sends.expect("all is sent");
            let again = Server::at(victim.address, speaks, Habit::Acks);
            let dead = std::mem::replace(&mut victim, again);
            there.extend(dead.acked());
            distributor.wait_lanes(2);
        }
        let all = rounds * 20_000;
        until("all are taken", || {
            let taken = there
                .iter()
                .copied()
                .chain(victim.acked())
                .chain(other.acked());
            taken.collect::<BTreeSet<_>>().len() as u64 == all
        });
        let ended = distributor.stop();
        ended.assert_clean();
        eprintln!(
            "{speaks:?}: {} killed, {} re-routed, {} of them may be there twice",
            rounds,
            ended.rerouted(),
            ended.duplicates_possible()
        );
    }
}

#[test]
fn a_receiver_of_syslog_that_resets_costs_duplicates_and_no_message() {
    let (dies, lives) = (
        Server::start(Speaks::Syslog, Habit::Acks),
        Server::start(Speaks::Syslog, Habit::Acks),
    );
    let analyzers = [
        format!("dies=1@syslog://{}?lag=64KiB", dies.address),
        format!("lives=1@syslog://{}?lag=64KiB", lives.address),
    ];
    let distributor = distributor(&analyzers, "");
    distributor.wait_lanes(2);
    send(&distributor, 0, 4000);
    until("both have their share", || {
        dies.read().len() == 2000 && lives.read().len() == 2000
    });
    // Ten times a second is looked at what has arrived.
    std::thread::sleep(Duration::from_millis(500));
    dies.cut();
    distributor.wait_log("analyzer down");
    // The lag of 64 KiB at least, and not all: most was ACKed by what came behind it.
    until("the lag is with the other as well", || {
        lives.read().len() > 2100
    });
    let ended = distributor.stop();
    ended.assert_clean();
    let rerouted = ended.rerouted();
    assert!((64 * 1024 / 300..2000).contains(&rerouted), "{rerouted}");
}

#[test]
fn silence_ends_the_lag() {
    let server = Server::start(Speaks::Syslog, Habit::Acks);
    let distributor = distributor(&[format!("a=1@syslog://{}", server.address)], "");
    distributor.wait_lanes(1);
    let begun = Instant::now();
    send(&distributor, 0, 10);
    until("all are read", || server.read().len() == 10);
    let ended = distributor.stop();
    let took = begun.elapsed();
    ended.assert_clean();
    assert!((5..9).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a_receiver_of_syslog_that_does_not_read_is_down_after_the_time_out() {
    let (deaf, good) = (
        Server::start(Speaks::Syslog, Habit::Deaf),
        Server::start(Speaks::Syslog, Habit::Acks),
    );
    let analyzers = [
        format!("deaf=1@syslog://{}?timeout=1s", deaf.address),
        format!("good=1@syslog://{}?timeout=1s", good.address),
    ];
    let distributor = distributor(&analyzers, "");
    distributor.wait_lanes(2);
    // More than kernels keep for both ends.
    let messages = 100_000;
    send(&distributor, 0, messages);
    distributor.wait_log("analyzer deaf: no ack within 1s");
    let all = || good.read().into_iter().collect::<BTreeSet<_>>().len() as u64;
    until("the rest is with the other", || all() > messages / 2);
    distributor.signal("-KILL");
    let _ = distributor.wait();
}
