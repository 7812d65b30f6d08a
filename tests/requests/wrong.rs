//! Answers gone wrong: nothing is missing, and what may be twice is what the protocol leaves no other way for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_testkit::{until, Scratch};

use super::{distributor, send_texts, texts, Receiver};

const SOON: &str = "--http-backoff 50ms --http-timeout 2s";

/// Sends `count` messages to one server with a plan; what it has in the end.
fn run(
    kind: &'static str,
    plan: &[&str],
    options: &str,
    count: usize,
) -> Option<(Vec<String>, Vec<Value>)> {
    let scratch = Scratch::new(&format!(
        "requests-wrong-{kind}-{}",
        plan.join("-").replace('/', "_")
    ));
    let receiver = Receiver::start(&scratch, kind, plan)?;
    let distributor = distributor(&[receiver.url(&scratch, options)], SOON);
    let sent = texts(count);
    send_texts(&distributor, &sent);
    let all: BTreeSet<String> = sent.into_iter().collect();
    until(&format!("{kind} {plan:?}: all have arrived"), || {
        let texts = receiver.texts();
        texts.iter().collect::<BTreeSet<_>>().len() == all.len()
    });
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.acked, count as u64, "{kind} {plan:?}");
    Some((receiver.texts(), receiver.requests()))
}

#[test]
fn what_was_not_taken_is_sent_again_and_nothing_twice() {
    for kind in ["ndjson", "es", "otlp", "loki", "hec"] {
        for plan in [&["429/1", "429"][..], &["503/1"], &["500", "reset"]] {
            let Some((texts, requests)) = run(kind, plan, "", 200) else {
                return;
            };
            assert_eq!(texts.len(), 200, "{kind} {plan:?}");
            assert!(requests.len() > plan.len(), "{kind} {plan:?}");
        }
    }
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let scratch = Scratch::new("requests-patience");
    let Some(receiver) = Receiver::start(&scratch, "es", &["429/1"]) else {
        return;
    };
    let distributor = distributor(&[receiver.url(&scratch, "")], SOON);
    let began = Instant::now();
    send_texts(&distributor, &texts(10));
    until("all have arrived", || receiver.texts().len() == 10);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "{took:?}, and it asked for 1 s"
    );
}

#[test]
fn an_answer_that_is_cut_off_is_none() {
    for (kind, twice) in [("ndjson", true), ("es", false), ("otlp-json", true)] {
        let Some((texts, _)) = run(kind, &["cut"], "", 50) else {
            return;
        };
        // Whoever has an id for each message keeps each once; others cannot.
        assert_eq!(texts.len() > 50, twice, "{kind}: {}", texts.len());
    }
}

#[test]
fn items_that_were_not_taken_are_sent_again_they_alone() {
    for options in ["", "id=off"] {
        let Some((texts, requests)) = run("es", &["busy/3"], options, 300) else {
            return;
        };
        assert_eq!(texts.len(), 300, "no item twice, with an id or without");
        assert!(requests.len() >= 2);
    }
}

#[test]
fn an_item_that_is_refused_is_set_aside_and_the_others_are_in() {
    let scratch = Scratch::new("requests-poison");
    let Some(receiver) = Receiver::start(&scratch, "es", &["busy/7"]) else {
        return;
    };
    let flags = format!("{SOON} --dead-letter-dir {}", scratch.folder().display());
    let distributor = distributor(&[receiver.url(&scratch, "")], &flags);
    let mut sent = texts(100);
    for at in [0, 10, 11, 50, 99] {
        sent[at] = format!("poison {at}");
    }
    send_texts(&distributor, &sent);
    until("the others have arrived", || receiver.texts().len() == 95);
    let file = scratch.path("refused-0.ndjson");
    let aside = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let lines: Vec<Value> = text.lines().map(read).collect();
        let messages = lines.iter().flat_map(|line| {
            assert_eq!(line["status"], 400);
            let messages = line["packet"]["messages"].as_array().expect("messages");
            assert_eq!(line["messages"], messages.len());
            messages.clone()
        });
        let text = |message: Value| message["message"].as_str().expect("text").to_owned();
        messages.map(text).collect::<BTreeSet<String>>()
    };
    until("they are set aside", || aside().len() == 5);
    let poison = [0, 10, 11, 50, 99].map(|at| format!("poison {at}"));
    assert_eq!(aside(), BTreeSet::from(poison));
    let ended = distributor.stop();
    let balance = ended.balance();
    assert_eq!(
        (balance.received, balance.acked, balance.dropped),
        (100, 95, 5)
    );
    assert_eq!(receiver.texts().len(), 95, "nothing twice");
}

#[test]
fn what_one_refuses_another_is_asked_for() {
    let scratch = Scratch::new("requests-another");
    let (Some(strict), Some(other)) = (
        Receiver::start(&scratch, "es", &[]),
        Receiver::start(&scratch, "ndjson", &[]),
    ) else {
        return;
    };
    let urls = [strict.url(&scratch, ""), other.url(&scratch, "")];
    let distributor = distributor(&urls, SOON);
    let sent: Vec<String> = (0..200).map(|number| format!("poison {number}")).collect();
    send_texts(&distributor, &sent);
    until("all are with the other", || other.texts().len() >= 200);
    let balance = distributor.stop().assert_clean();
    assert_eq!((balance.acked, balance.dropped), (200, 0));
    assert_eq!(other.texts().len(), 200, "once each");
}

#[test]
fn what_a_collector_drops_is_counted_and_set_aside_whole() {
    for kind in ["otlp", "otlp-json"] {
        let scratch = Scratch::new(&format!("requests-partial-{kind}"));
        let Some(receiver) = Receiver::start(&scratch, kind, &["partial/3"]) else {
            return;
        };
        let flags = format!("{SOON} --dead-letter-dir {}", scratch.folder().display());
        let distributor = distributor(&[receiver.url(&scratch, "")], &flags);
        send_texts(&distributor, &texts(40));
        until("the others have arrived", || receiver.texts().len() == 37);
        let file = scratch.path("refused-0.ndjson");
        until("the request is set aside", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
        });
        let text = std::fs::read_to_string(&file).expect("a file");
        let line: Value = serde_json::from_str(&text).expect("one line");
        assert_eq!(
            (&line["messages"], &line["status"]),
            (&Value::from(3), &Value::from(200))
        );
        let packet = line["packet"]["messages"].as_array().expect("messages");
        assert!(
            packet.len() > 3,
            "which they are was not said: all of the request"
        );
        let said = distributor.wait_log("it drops messages of a request");
        assert!(said.contains("planned"), "{said}");
        let balance = distributor.stop().balance();
        assert_eq!((balance.acked, balance.dropped), (37, 3), "{kind}");
        assert_eq!(receiver.texts().len(), 37, "nothing is sent again");
    }
}

#[test]
fn a_request_that_is_refused_is_set_aside_and_not_sent_again() {
    for kind in ["loki", "otlp", "ndjson"] {
        let scratch = Scratch::new(&format!("requests-400-{kind}"));
        let Some(receiver) = Receiver::start(&scratch, kind, &["400"]) else {
            return;
        };
        let flags = format!("{SOON} --dead-letter-dir {}", scratch.folder().display());
        let distributor = distributor(&[receiver.url(&scratch, "")], &flags);
        let before = texts(1);
        send_texts(&distributor, &before);
        until("it is set aside", || {
            let text = std::fs::read_to_string(scratch.path("refused-0.ndjson"));
            text.is_ok_and(|text| text.contains("\"message\":\"message 0\""))
        });
        send_texts(&distributor, &["later".to_owned()]);
        until("the next one arrives", || receiver.texts() == ["later"]);
        let balance = distributor.stop().balance();
        assert_eq!((balance.acked, balance.dropped), (1, 1), "{kind}");
    }
}

#[test]
fn a_request_that_is_refused_as_a_whole_waits_where_messages_have_answers_of_their_own() {
    for kind in ["es", "hec"] {
        // A missing index or channel: nothing is set aside for that.
        let Some((texts, requests)) = run(kind, &["400", "400"], "", 20) else {
            return;
        };
        assert_eq!(texts.len(), 20, "{kind}");
        assert!(requests.len() >= 3, "{kind}");
    }
}

#[test]
fn an_answer_of_another_server_is_no_ack() {
    let Some((texts, requests)) = run("es", &["misfit"], "", 20) else {
        return;
    };
    assert_eq!(texts.len(), 20, "the second time they are there already");
    assert!(requests.len() >= 2);
}

#[test]
fn a_request_is_through_when_the_indexers_say_so() {
    let scratch = Scratch::new("requests-indexer");
    let Some(receiver) = Receiver::start(&scratch, "hec", &["wait/3"]) else {
        return;
    };
    let distributor = distributor(&[receiver.url(&scratch, "acks=indexer")], SOON);
    let began = Instant::now();
    send_texts(&distributor, &texts(10));
    until("they have arrived", || receiver.texts().len() == 10);
    let balance = distributor.stop().assert_clean();
    assert_eq!(balance.acked, 10);
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "the third question, one a second"
    );
    assert_eq!(receiver.texts().len(), 10, "nothing is sent again");
}

#[test]
fn what_indexers_never_acknowledge_is_sent_again() {
    let plan = ["wait/99"];
    let Some((texts, _)) = run("hec", &plan, "acks=indexer&ack_timeout=2s", 10) else {
        return;
    };
    assert!(texts.len() > 10, "{}", texts.len());
}

#[test]
fn a_server_that_is_killed_loses_nothing() {
    for kind in ["es", "hec"] {
        let scratch = Scratch::new(&format!("requests-kill-{kind}"));
        let (Some(mut victim), Some(other)) = (
            Receiver::start(&scratch, kind, &[]),
            Receiver::start(&scratch, "otlp", &[]),
        ) else {
            return;
        };
        let acks = if kind == "hec" { "acks=indexer" } else { "" };
        let urls = [victim.url(&scratch, acks), other.url(&scratch, "")];
        let distributor = distributor(&urls, SOON);
        let sent = texts(6000);
        let (first, rest) = sent.split_at(3000);
        send_texts(&distributor, first);
        until("some are there", || victim.texts().len() > 100);
        victim.kill();
        send_texts(&distributor, rest);
        let all = |receivers: &[&Receiver]| {
            let texts = receivers.iter().flat_map(|it| it.texts());
            texts.collect::<BTreeSet<String>>().len()
        };
        until("all are with one or the other", || {
            all(&[&victim, &other]) == 6000
        });
        let balance = distributor.stop().assert_clean();
        assert_eq!(balance.acked, 6000, "{kind}");
    }
}
