//! Reload, roll-back, ramp, drain and ejection while messages pass by TCP and by HTTP: nothing is lost,
//! and no connection breaks but the one that is ejected.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::load::{assert_all_arrived, Load};
use weir_testkit::http::HttpAnalyzer;
use weir_testkit::site::{toml_of, Site};
use weir_testkit::{stays, until, FrameSink};

const FLAGS: &str = "--shards 2 --health-interval 200ms --slow-start 0s";
/// A moment in which a shard takes over what was ordered, and reports it.
const SETTLED: Duration = Duration::from_millis(500);
/// Messages that a shard may be giving out while the rows of `/stats` are read, at the one end of an interval or at the
/// other: a write of 8 and a packet of 5.
const UNDER_WAY: f64 = 13.0;

fn given(site: &Site, id: &str) -> u64 {
    site.stats_of(id)["totalMessages"].as_u64().unwrap_or(0)
}

fn emitter_connections(site: &Site) -> Value {
    site.get("/stats")["emitters"].take()
}

#[test]
fn a_reload_under_load_loses_nothing_and_can_be_taken_back() {
    let [h1, h2, h3] = ["h1", "h2", "h3"].map(|name| HttpAnalyzer::start(name, "ok"));
    let before = format!("{}{}", toml_of(&h1, 0.2), toml_of(&h2, 0.2));
    let site = Site::start("reload", &before, FLAGS);
    let sink = FrameSink::of(site.distributor.analyzers, 0.6);
    site.until_standing(&FrameSink::name(1), "up");
    site.until_standing("h1", "up");
    site.until_standing("h2", "up");
    let load = Load::start(site.distributor.emitters, site.http(), 1000);
    until("it runs", || {
        given(&site, "h1") > 0 && given(&site, "h2") > 0
    });
    assert_eq!(emitter_connections(&site), 1);

    // A file that is wrong changes nothing, and says where.
    site.rewrite("[protection]\nrate_limit = \"many\"\n");
    let output = site.try_weir("ctl reload");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("weir.toml:2") && error.contains("allowed"),
        "{error}"
    );
    site.hang_up();
    until("refused", || {
        !site.distributor.lines("not reloaded").is_empty()
    });

    let after = format!(
        "[logging]\nlog_level = \"debug\"\n[protection]\nrate_limit = \"5/1m\"\n\
         [memory]\narena = \"32MiB\"\n{}{}",
        toml_of(&h1, 0.4),
        toml_of(&h3, 0.2)
    );
    site.rewrite(&after);
    let plan = site.ctl("reload --dry-run");
    assert_eq!(plan["dryRun"], true, "{plan}");
    let changes = plan["changes"].as_array().expect("a list");
    let mut keys: Vec<(&str, bool)> = changes
        .iter()
        .map(|change| {
            (
                change["key"].as_str().expect("text"),
                change["live"] == true,
            )
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            ("http_analyzers.h1", true),
            ("http_analyzers.h2", true),
            ("http_analyzers.h3", true),
            ("logging.log_level", true),
            ("protection.rate_limit", true),
        ],
        "{plan}"
    );
    stays("a dry run changes nothing", SETTLED, || {
        site.analyzer("h1")["effectiveWeight"] == json!(0.2) && site.analyzer("h3").is_null()
    });

    site.hang_up();
    site.distributor.wait_log(" reloaded");
    site.until_standing("h3", "up");
    until("h1 has its new weight", || {
        site.analyzer("h1")["effectiveWeight"] == json!(0.4)
    });
    assert!(site.analyzer("h2")["isOnline"] != true);
    until("the rate limit holds", || load.too_many() > 3);
    assert_eq!(site.ctl("log-level")["level"], "debug");
    until("h3 gets messages", || given(&site, "h3") > 0);
    let gone = given(&site, "h2");
    stays("h2 gets nothing", SETTLED, || given(&site, "h2") == gone);
    load.assert_goes_on();

    let back = site.ctl("rollback");
    assert_eq!(back["changes"].as_array().map(Vec::len), Some(5), "{back}");
    site.until_standing("h2", "up");
    until("h1 has its old weight", || {
        site.analyzer("h1")["effectiveWeight"] == json!(0.2)
    });
    assert!(site.analyzer("h3")["isOnline"] != true);
    assert_eq!(site.ctl("log-level")["level"], "info");
    until("no limit", || {
        let refused = load.too_many();
        std::thread::sleep(SETTLED);
        load.too_many() == refused
    });
    until("h2 gets messages again", || given(&site, "h2") > gone);
    let twice = site.try_weir("ctl rollback");
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");

    assert_eq!(emitter_connections(&site), 1, "the first one");
    assert!(sink.is_open());
    let taken = load.end();
    let ended = site.stop();
    assert!(!ended.stderr.contains(" emitter 127"), "{}", ended.stderr);
    let balance = ended.assert_clean();
    assert_eq!(balance.received, taken.len() as u64);
    assert_all_arrived(&taken, &[&sink], &[&h1, &h2, &h3]);
}

#[test]
fn orders_under_load_lose_nothing() {
    let h1 = HttpAnalyzer::start("h1", "ok");
    let site = Site::start("orders", &toml_of(&h1, 0.2), FLAGS);
    // One after the other, so that each has the name of its number.
    let [a, b] = [1, 2].map(FrameSink::name);
    let sinks = [&a, &b].map(|name| {
        let sink = FrameSink::of(site.distributor.analyzers, 0.4);
        site.until_standing(name, "up");
        sink
    });
    site.until_standing("h1", "up");
    let load = Load::start(site.distributor.emitters, site.http(), 2000);
    until("it runs", || given(&site, &a) > 500);

    ramp(&site, &a);

    site.ctl(&format!("drain {b}"));
    site.until_standing(&b, "draining");
    std::thread::sleep(SETTLED);
    let drained = given(&site, &b);
    stays("it gets nothing", SETTLED, || given(&site, &b) == drained);
    assert!(sinks[1].is_open(), "a drained link stays");
    site.ctl(&format!("resume {b}"));
    site.until_standing(&b, "up");
    until("it gets messages again", || given(&site, &b) > drained);

    tap(&site);

    site.ctl("log-level debug");
    site.ctl(&format!("weight {b} 0.3"));
    site.distributor.wait_log(" roster ");
    site.ctl("log-level error");
    let count = site.distributor.lines("").len();
    site.ctl(&format!("weight {b} 0.4"));
    stays("nothing is logged", SETTLED, || {
        site.distributor.lines("").len() == count
    });
    site.ctl("log-level info");

    // What it holds at that moment goes to others.
    sinks[0].set_acks(false);
    until("it holds messages", || {
        site.stats_of(&a)["inFlight"].as_u64() > Some(100)
    });
    site.ctl(&format!("eject {a}"));
    until("its link is closed", || !sinks[0].is_open());
    site.until_standing(&a, "offline");
    let others = given(&site, &b);
    until("the others go on", || given(&site, &b) > others + 500);

    site.ctl("eject h1");
    site.until_standing("h1", "ejected");
    stays("health does not bring it back", SETTLED, || {
        site.analyzer("h1")["standing"] == "ejected"
    });
    site.ctl("resume h1");
    site.until_standing("h1", "up");

    assert_eq!(emitter_connections(&site), 1);
    let taken = load.end();
    let ended = site.stop();
    assert!(!ended.stderr.contains(" emitter 127"), "{}", ended.stderr);
    let balance = ended.assert_clean();
    assert_eq!(balance.received, taken.len() as u64);
    assert!(ended.rerouted() > 100, "{}", ended.stdout);
    let twice = assert_all_arrived(&taken, &[&sinks[0], &sinks[1]], &[&h1]);
    assert!(
        twice as u64 <= ended.duplicates_possible(),
        "{}",
        ended.stdout
    );
}

/// From 0.4 of 1.0 to 1.6 of 2.2, recorded.
fn ramp(site: &Site, id: &str) {
    let order = site.ctl(&format!("weight {id} 1.6 --ramp 4s"));
    assert!(order["error"].is_null(), "{order}");
    let began = Instant::now();
    let mut targets: Vec<f64> = Vec::new();
    // Time, given to it, given to all.
    let mut counts: Vec<(f64, u64, u64)> = Vec::new();
    while began.elapsed() < Duration::from_secs(7) {
        let stats = site.get("/stats");
        let rows = stats["analyzers"].as_object().expect("rows");
        let of = |row: &Value| row["totalMessages"].as_u64().expect("a number");
        targets.push(rows[id]["targetShare"].as_f64().expect("a number"));
        let all = rows.values().map(of).sum();
        counts.push((began.elapsed().as_secs_f64(), of(&rows[id]), all));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(targets.is_sorted(), "{targets:?}");
    let end = 1.6 / 2.2;
    assert!(
        (targets[targets.len() - 1] - end).abs() < 1e-6,
        "{targets:?}"
    );
    let mut distinct = targets.clone();
    distinct.dedup();
    assert!(distinct.len() > 8, "in steps: {distinct:?}");

    // Share of each half second, and how far a reading can be off.
    let mut shares: Vec<(f64, f64)> = Vec::new();
    let mut from = counts[0];
    println!("ramp of {id}: seconds, target, real share of the messages since the last line, blur");
    for (count, target) in counts.iter().zip(&targets) {
        if count.0 - from.0 >= 0.5 && count.2 > from.2 {
            let all = (count.2 - from.2) as f64;
            let (share, blur) = ((count.1 - from.1) as f64 / all, UNDER_WAY / all);
            println!("  {:.1}  {target:.4}  {share:.4}  {blur:.4}", count.0);
            shares.push((share, blur));
            from = *count;
        }
    }
    let rises = |pair: &[(f64, f64)]| pair[1].0 >= pair[0].0 - (pair[0].1 + pair[1].1);
    assert!(shares.windows(2).all(rises), "{shares:?}");
    let (last, blur) = shares[shares.len() - 1];
    assert!((last - end).abs() < blur, "{last} for {end}, blur {blur}");
}

fn tap(site: &Site) {
    let (rate, seconds) = (5, 3);
    let began = Instant::now();
    let text = site.weir(&format!("tap --rate {rate} --seconds {seconds}"));
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        (rate..=rate * seconds).contains(&lines.len()),
        "{} of at most {rate} a second",
        lines.len()
    );
    for line in &lines {
        let payload = line["payload"].as_str().expect("text");
        let is_ours = payload.starts_with('t') || payload.contains("\"h");
        assert!(is_ours, "{line}");
        assert!(
            line["analyzer"].is_string() && line["at"].is_u64(),
            "{line}"
        );
    }
}
