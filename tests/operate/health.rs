//! Health checks bring an analyzer over HTTP up, take it down, and bring it back slowly.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{assert_all_arrived, Load};
use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::site::Site;
use weir_testkit::until;

const SLOW_START: Duration = Duration::from_secs(3);

#[test]
fn an_analyzer_comes_with_its_health_goes_with_it_and_comes_back_slowly() {
    let mut one = HttpAnalyzer::start("one", "sick");
    let other = HttpAnalyzer::start("other", "ok");
    let site = Site::start(
        "health",
        "",
        &format!(
            "--shards 1 --health-interval 100ms --health-timeout 1s --slow-start {}ms \
             --http-backoff 50ms --http-analyzer one=0.5@http://{} --http-analyzer other=0.5@http://{}",
            SLOW_START.as_millis(),
            one.address,
            other.address
        ),
    );
    site.until_standing("other", "up");
    until("checked", || {
        site.analyzer("one")["consecutiveFailures"].as_u64() > Some(2)
    });
    let row = site.analyzer("one");
    assert_eq!(row["standing"], "offline", "{row}");
    assert!(
        row["error"]
            .as_str()
            .is_some_and(|why| why.contains("status 500")),
        "{row}"
    );
    let load = Load::start(site.distributor.emitters, site.http(), 500);

    // Well for the first time: its whole weight at once.
    one.kill();
    one.restart("ok");
    site.until_standing("one", "up");
    assert_eq!(site.analyzer("one")["effectiveWeight"], json!(0.5));
    until("it gets messages", || !one.received().is_empty());

    // Gone, with messages that it has not ACKed.
    one.kill();
    until("it is out", || site.analyzer("one")["isOnline"] == false);
    let acked = one.messages().len();

    // Back: from a tenth to the whole, never down, in the time that was set.
    one.restart("ok");
    let mut ramp = Vec::new();
    let mut began = None;
    let mut ramps_shown = 0;
    until("its whole weight", || {
        let row = site.analyzer("one");
        assert_eq!(row["weight"], json!(0.5), "what is configured: {row}");
        let weight = row["effectiveWeight"].as_f64().expect("a number");
        if let Some(now) = row["rampWeight"].as_f64() {
            assert!((0.05..=0.5).contains(&now), "beside it: {row}");
            ramps_shown += 1;
        }
        if weight > 0.0 {
            let at = began.get_or_insert_with(Instant::now).elapsed();
            if ramp.last().is_none_or(|(_, last)| *last != weight) {
                ramp.push((at, weight));
            }
        }
        weight >= 0.5
    });
    assert!(ramps_shown > 5, "{ramps_shown}");
    let weights: Vec<f64> = ramp.iter().map(|(_, weight)| *weight).collect();
    let (took, last) = *ramp.last().expect("some");
    println!("slow start: {weights:?} in {took:?}");
    assert!(weights[0] < 0.25, "it begins with {}", weights[0]);
    assert!(weights.is_sorted(), "{weights:?}");
    assert!(weights.len() > 5 && last <= 0.5, "{weights:?}");
    assert!(took > SLOW_START / 2, "{took:?}");
    until("it gets messages again", || one.messages().len() > acked);

    let taken = load.end();
    let ended = site.stop();
    ended.assert_clean();
    let twice = assert_all_arrived(&taken, &[], &[&one, &other]);
    println!("{} messages, {twice} of them twice", taken.len());
}

#[test]
fn a_pin_holds_through_a_slow_start() {
    let mut one = HttpAnalyzer::start("one", "ok");
    let mut other = HttpAnalyzer::start("other", "ok");
    let third = HttpAnalyzer::start("third", "ok");
    let analyzers = [&one, &other, &third].map(|analyzer| {
        let (name, address) = (&analyzer.name, analyzer.address);
        format!("--http-analyzer {name}=0.5@http://{address}")
    });
    let site = Site::start(
        "pin",
        "",
        &format!(
            "--shards 2 --health-interval 100ms --health-timeout 1s --slow-start {}ms \
             --http-backoff 50ms {}",
            SLOW_START.as_millis(),
            analyzers.join(" ")
        ),
    );
    for id in ["one", "other", "third"] {
        site.until_standing(id, "up");
    }
    let load = Load::start(site.distributor.emitters, site.http(), 500);
    site.ctl("weight one 0.8 --pin");
    // Weight in the roster, 0 while it is out; and whether that is a pin.
    let of = |id: &str| {
        let row = site.analyzer(id);
        let weight = row["effectiveWeight"].as_f64().expect("a number");
        (weight, row["pinned"] == true)
    };
    until("pinned", || of("one") == (0.8, true));

    // Two die and come back together: the one with a pin, and one without.
    let acked = (one.messages().len(), other.messages().len());
    one.kill();
    other.kill();
    for id in ["one", "other"] {
        until("it is out", || of(id).0 == 0.0);
    }
    one.restart("ok");
    other.restart("ok");
    let mut seen = Vec::new();
    until("the one without a pin has its whole weight", || {
        let (pinned, unpinned) = (of("one"), of("other"));
        let is_whole = pinned == (0.8, true) || pinned.0 == 0.0;
        assert!(is_whole, "its pin or nothing, not {pinned:?}");
        assert!(!unpinned.1);
        assert_eq!(of("third"), (0.5, false));
        let now = (pinned.0, unpinned.0);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        unpinned.0 == 0.5
    });
    let between = |weight: f64| weight > 0.0 && weight < 0.5;
    let slow = seen.iter().filter(|now| now.0 == 0.8 && between(now.1));
    assert!(
        slow.count() > 5,
        "pinned while the other starts slowly: {seen:?}"
    );
    until("both get messages again", || {
        one.messages().len() > acked.0 && other.messages().len() > acked.1
    });
    // What the ramp of the pinned one came to waits behind the pin.
    assert_eq!(of("one"), (0.8, true));
    site.ctl("unpin one");
    until("its own weight, whole", || of("one") == (0.5, false));

    let taken = load.end();
    site.stop().assert_clean();
    assert_all_arrived(&taken, &[], &[&one, &other, &third]);
}

/// What is healthy and answers POSTs with a redirect, or with what is no answer, is wrongly configured: that
/// does not become right by taking it out and in again.
#[test]
fn a_lone_analyzer_that_redirects_or_cannot_be_understood_stays_and_is_named() {
    let location = "https://other.example/logs?key=";
    for (what, named) in [
        ("302", location),
        ("308", location),
        ("999", "status 999, which"),
        (
            "garbage",
            "cannot be read: \"HTTP/1.1 200 OK\" and its headers",
        ),
        ("greeting", "220 mail ESMTP"),
    ] {
        let odd = HttpAnalyzer::start("odd", &format!("first=6:{what}"));
        let flags = format!(
            "--shards 1 --health-interval 100ms --slow-start 0s --http-backoff 20ms --http-retries 1 \
             --http-analyzer odd=1@http://{}",
            odd.address
        );
        let site = Site::start("health-odd", "", &flags);
        site.until_standing("odd", "up");
        let mut client = Client::connect(site.http());
        assert_eq!(client.post_packet(&packet("e", 7..8)).status, 202);
        until("it is taken", || odd.messages() == ["7"]);
        let lines = |text: &str| site.distributor.lines(text);
        assert_eq!(lines("analyzer down").len(), 0, "{what}");
        let said = lines(named);
        assert_eq!(said.len(), 1, "once: {said:?}");
        assert!(said[0].contains("analyzer odd") && !said[0].contains('\u{9b}'));
        until("seven POSTs", || {
            let metrics = String::from_utf8(site.text("/metrics")).expect("text");
            let mut lines = metrics.lines();
            lines.any(|line| line.starts_with("weir_analyzer_posts_total{") && line.ends_with(" 7"))
        });
        assert_eq!(site.stop().code, Some(0));
    }
}
