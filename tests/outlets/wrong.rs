//! Answers gone wrong: whoever gives them, every message is with somebody who has said that it took it.

use std::time::{Duration, Instant};

use weir_testkit::{until, Scratch};

use super::server::{Habit, Server, Speaks};
use super::{distributor, send, taken, wait_taken};

const MESSAGES: u64 = 3000;

/// One analyzer with this habit and one without, of equal weight; the log of the distributor has these texts.
fn pool(speaks: Speaks, habit: Habit, options: &str, said: &[&str]) -> [Server; 2] {
    let (bad, good) = (
        Server::start(speaks, habit),
        Server::start(speaks, Habit::Acks),
    );
    let scheme = speaks.scheme();
    let analyzers = [(&bad, "bad"), (&good, "good")].map(|(server, id)| {
        let address = server.address;
        format!("{id}=1@{scheme}://{address}{options}")
    });
    let distributor = distributor(&analyzers, "");
    distributor.wait_lanes(2);
    send(&distributor, 0, MESSAGES);
    wait_taken(&[&bad, &good], MESSAGES);
    for text in said {
        distributor.wait_log(text);
    }
    let ended = distributor.stop();
    ended.assert_clean();
    assert_eq!(taken(&[&bad, &good]).len() as u64, MESSAGES);
    [bad, good]
}

/// No answer of this habit is a fault: each has half of the messages, and none twice.
fn is_no_fault(speaks: Speaks, habit: Habit) {
    let servers = pool(speaks, habit, "", &[]);
    for server in &servers {
        assert_eq!(
            server.read().len() as u64,
            MESSAGES / 2,
            "{speaks:?} {habit:?}"
        );
    }
}

#[test]
fn an_ack_of_what_was_not_sent_takes_the_analyzer_down() {
    let [relp, _] = pool(
        Speaks::Relp,
        Habit::Wrong,
        "",
        &["analyzer bad: it answers ", "expected: "],
    );
    assert!(relp.acked().is_empty());
    let [lumberjack, good] = pool(
        Speaks::Lumberjack,
        Habit::Wrong,
        "",
        &["analyzer bad: it acks message ", "are on their way"],
    );
    assert!(lumberjack.acked().is_empty());
    assert_eq!(good.acked().len(), 3000);
    let [forward, good] = pool(
        Speaks::Forward,
        Habit::Wrong,
        "",
        &["analyzer bad: it acks chunk ", "which was not sent to it"],
    );
    assert!(forward.acked().is_empty());
    assert_eq!(good.acked().len(), 3000);
}

#[test]
fn two_acks_may_come_in_one_segment() {
    is_no_fault(Speaks::Relp, Habit::Two);
    is_no_fault(Speaks::Lumberjack, Habit::Two);
    is_no_fault(Speaks::Forward, Habit::Two);
}

#[test]
fn an_ack_may_come_in_pieces() {
    is_no_fault(Speaks::Relp, Habit::Split);
    is_no_fault(Speaks::Lumberjack, Habit::Split);
    is_no_fault(Speaks::Forward, Habit::Split);
}

#[test]
fn a_window_may_be_acked_message_by_message() {
    is_no_fault(Speaks::Lumberjack, Habit::Each);
}

#[test]
fn an_ack_of_zero_is_a_sign_of_life() {
    let servers = pool(Speaks::Lumberjack, Habit::Slow, "?timeout=500ms", &[]);
    assert_eq!(servers[0].read().len() as u64, MESSAGES / 2);
}

#[test]
fn who_never_acks_is_down_after_the_time_out() {
    for (speaks, text) in [
        (Speaks::Relp, "analyzer bad: no ack within 500ms"),
        (Speaks::Lumberjack, "analyzer bad: no ack within 500ms"),
        (Speaks::Forward, "analyzer bad: no ack within 500ms"),
    ] {
        let begun = Instant::now();
        let [bad, good] = pool(speaks, Habit::Never, "?timeout=500ms", &[text]);
        assert!(!bad.read().is_empty() && bad.acked().is_empty());
        assert_eq!(good.acked().len() as u64, MESSAGES);
        assert!(begun.elapsed() >= Duration::from_millis(500));
    }
}

#[test]
fn who_does_not_read_is_down_after_the_time_out() {
    let said = ["analyzer bad: no ack within 500ms"];
    pool(Speaks::Lumberjack, Habit::Deaf, "?timeout=500ms", &said);
}

/// Where a protocol begins with greetings, a health check is one that was let in.
#[test]
fn who_does_not_greet_is_not_healthy() {
    let (deaf, good) = (
        Server::start(Speaks::Relp, Habit::Deaf),
        Server::start(Speaks::Relp, Habit::Acks),
    );
    let analyzers = [
        format!("deaf=1@relp://{}", deaf.address),
        format!("good=1@relp://{}", good.address),
    ];
    let distributor = distributor(&analyzers, "--health-timeout 300ms");
    distributor.wait_lanes(1);
    distributor.wait_log("unhealthy id=\"deaf\"");
    send(&distributor, 0, 100);
    wait_taken(&[&good], 100);
    distributor.stop().assert_clean();
}

#[test]
fn who_says_no_goodbye_is_healthy() {
    // Time for a check is short: were the goodbye a part of it, none would pass.
    let server = Server::start(Speaks::Relp, Habit::Rude);
    let analyzer = format!("a=1@relp://{}", server.address);
    let distributor = distributor(&[analyzer], "--health-timeout 1s");
    distributor.wait_lanes(1);
    send(&distributor, 0, 100);
    wait_taken(&[&server], 100);
    distributor.stop().assert_clean();
}

#[test]
fn a_reset_after_everything_was_acked_is_no_death() {
    for speaks in [Speaks::Relp, Speaks::Lumberjack, Speaks::Forward] {
        let (resets, other) = (
            Server::start(speaks, Habit::Resets),
            Server::start(speaks, Habit::Acks),
        );
        let scheme = speaks.scheme();
        let analyzers = [&resets, &other].map(|server| server.address);
        let analyzers = [
            format!("resets=1@{scheme}://{}", analyzers[0]),
            format!("other=1@{scheme}://{}", analyzers[1]),
        ];
        let distributor = distributor(&analyzers, "");
        distributor.wait_lanes(2);
        for round in 0..10 {
            send(&distributor, round * 10, 10);
            wait_taken(&[&resets, &other], (round + 1) * 10);
            std::thread::sleep(Duration::from_millis(60));
        }
        assert!(
            resets.connections() > 5,
            "{speaks:?}: it is connected to again"
        );
        assert!(distributor.lines("analyzer down").is_empty(), "{speaks:?}");
        let ended = distributor.stop();
        ended.assert_clean();
        assert_eq!(ended.rerouted(), 0, "{speaks:?}");
    }
}

#[test]
fn what_one_refuses_another_gets() {
    let [refuses, other] = pool(
        Speaks::Relp,
        Habit::Refuses,
        "",
        &["analyzer bad refused a message (status 500): another analyzer has it"],
    );
    let (refused, there) = (refuses.refused(), other.acked());
    assert!(refused.len() > 100);
    assert!(refused.iter().all(|number| there.contains(number)));
}

#[test]
fn what_all_refuse_is_set_aside() {
    let server = Server::start(Speaks::Relp, Habit::RefusesAll);
    let folder = Scratch::new("outlets-refused");
    let distributor = distributor(
        &[format!("a=1@relp://{}", server.address)],
        &format!("--dead-letter-dir {}", folder.folder().display()),
    );
    distributor.wait_lanes(1);
    send(&distributor, 0, 300);
    let lines = || {
        let text = std::fs::read_to_string(folder.path("refused-0.ndjson"));
        let text = text.unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect::<Vec<serde_json::Value>>()
    };
    until("all are set aside", || lines().len() == 300);
    let mut numbers: Vec<u64> = lines()
        .iter()
        .map(|line| {
            assert_eq!(
                (&line["analyzer"], &line["status"]),
                (&"a".into(), &500.into())
            );
            let text = line["packet"]["messages"][0]["message"].as_str();
            let text = text.expect("a message").as_bytes();
            weir_testkit::inputs::marked::find(text).expect("a number")
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<u64>>());
    let ended = distributor.stop();
    let balance = ended.balance();
    assert_eq!((balance.received, balance.dropped), (300, 300));
}

#[test]
fn a_server_that_says_goodbye_is_left_and_met_again() {
    let (closes, other) = (
        Server::start(Speaks::Relp, Habit::Closes),
        Server::start(Speaks::Relp, Habit::Acks),
    );
    let analyzers = [
        format!("closes=1@relp://{}?window=100", closes.address),
        format!("other=1@relp://{}", other.address),
    ];
    let distributor = distributor(&analyzers, "");
    distributor.wait_lanes(2);
    send(&distributor, 0, 3000);
    wait_taken(&[&closes, &other], 3000);
    assert!(closes.connections() > 10);
    assert!(distributor.lines("analyzer down").is_empty());
    let ended = distributor.stop();
    ended.assert_clean();
    assert_eq!(ended.rerouted(), 0);
}
