//! An analyzer over HTTP that refuses everything is taken out for a while, unless the others refuse it, too; or
//! until the others die.

use std::time::Duration;

use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::site::Site;
use weir_testkit::{stays, until, Distributor, Scratch};

/// Packets that each analyzer may refuse; and how long it is out then.
const REFUSALS: u64 = 20;
const OUT: Duration = Duration::from_secs(3);

fn start(name: &str, analyzers: &[&HttpAnalyzer], out: Duration) -> Site {
    let scratch = Scratch::new(name);
    let folder = scratch.folder().display().to_string();
    let analyzers = analyzers.iter().map(|analyzer| {
        let (name, address) = (&analyzer.name, analyzer.address);
        format!("--http-analyzer {name}=1@http://{address}")
    });
    let analyzers: Vec<String> = analyzers.collect();
    let flags = format!(
        "--shards 2 --health-interval 100ms --slow-start 0s --dead-letter-dir {folder} \
         --eject-refusals {REFUSALS} --eject-time {}s {}",
        out.as_secs(),
        analyzers.join(" ")
    );
    Site::start_by(scratch, "", &flags, Distributor::start_as_configured)
}

/// Posts so many packets of three messages, all of which are taken in; how many messages that is.
fn post(site: &Site, packets: u64) -> u64 {
    let mut client = Client::connect(site.http());
    for first in 0..packets {
        let answer = client.post_packet(&packet("e", first * 3..first * 3 + 3));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    packets * 3
}

/// Waits until so many messages are in the books, and all of them through.
fn settle(site: &Site, posted: u64) {
    until("nothing is open", || {
        let stats = site.get("/stats");
        let of = |name: &str| stats[name].as_u64().expect("a number");
        of("received") == posted && of("acked") + of("dropped") == posted
    });
}

fn dropped(site: &Site) -> u64 {
    site.get("/stats")["dropped"].as_u64().expect("a number")
}

/// Of an analyzer, in `/metrics`.
fn counter(site: &Site, name: &str, id: &str) -> u64 {
    let metrics = String::from_utf8(site.text("/metrics")).expect("text");
    let series = format!("{name}{{analyzer=\"{id}\"}} ");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(&series));
    let value = value.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{series}\n{metrics}"))
}

/// Packets that it refused.
fn refusals(site: &Site, id: &str) -> u64 {
    counter(site, "weir_analyzer_post_refusals_total", id)
}

fn is_up(site: &Site, id: &str) -> bool {
    site.analyzer(id)["standing"] == "up"
}

#[test]
fn one_that_refuses_all_goes_and_comes_back() {
    let mut bad = HttpAnalyzer::start("bad", "refuse");
    let good = HttpAnalyzer::start("good", "ok");
    let site = start("outlier", &[&bad, &good], OUT);
    for id in ["bad", "good"] {
        site.until_standing(id, "up");
    }
    // Too few for a verdict.
    let mut posted = post(&site, REFUSALS);
    settle(&site, posted);
    stays("it is in", OUT / 4, || is_up(&site, "bad"));
    let before = refusals(&site, "bad");
    assert!((1..=REFUSALS).contains(&before), "{before}");
    posted += post(&site, 2 * REFUSALS);
    until("it is out", || !is_up(&site, "bad"));
    let log = site
        .distributor
        .wait_log("took none, while others took theirs");
    assert!(
        log.contains("analyzer bad refused ") && log.contains("3s"),
        "{log}"
    );
    until("it is said why", || {
        let row = site.analyzer("bad");
        let error = row["error"].as_str().unwrap_or_default();
        error.contains("took none") && error.contains("back in")
    });

    // Its share goes to the other.
    settle(&site, posted);
    let before = refusals(&site, "bad");
    posted += post(&site, 2 * REFUSALS);
    settle(&site, posted);
    assert_eq!((dropped(&site), is_up(&site, "bad")), (0, false));
    assert_eq!(counter(&site, "weir_analyzer_ejections_total", "bad"), 1);
    assert_eq!(refusals(&site, "bad"), before, "it is asked no more");

    // Mended meanwhile.
    bad.kill();
    bad.restart("ok");
    site.until_standing("bad", "up");
    posted += post(&site, 2 * REFUSALS);
    settle(&site, posted);
    assert_eq!((dropped(&site), refusals(&site, "bad")), (0, before));
    assert!(bad.messages().len() > 3, "its share");
    stays("it is in", OUT / 4, || is_up(&site, "bad"));
    let ended = site.stop();
    let balance = ended.balance();
    assert_eq!((ended.code, balance.dropped), (Some(0), 0));
    assert_eq!(balance.received, balance.acked);
}

#[test]
fn what_all_refuse_takes_nobody_out_and_never_more_than_half_go() {
    let bad = ["a", "b"].map(|name| HttpAnalyzer::start(name, "refuse"));
    let site = start("outliers", &[&bad[0], &bad[1]], OUT);
    for id in ["a", "b"] {
        site.until_standing(id, "up");
    }
    post(&site, 4 * REFUSALS);
    until("all is dropped", || dropped(&site) == 4 * REFUSALS * 3);
    let both = || is_up(&site, "a") && is_up(&site, "b");
    stays("both are in", OUT / 2, both);

    // A third takes its packets: one of three may go.
    let good = HttpAnalyzer::start("good", "ok");
    site.ctl(&format!("add-http good http://{} 1", good.address));
    site.until_standing("good", "up");
    until("one is out", || {
        post(&site, REFUSALS);
        !both()
    });
    stays("the other is in", OUT / 2, || {
        post(&site, REFUSALS);
        is_up(&site, "a") || is_up(&site, "b")
    });
    assert!(is_up(&site, "good"));
    site.stop();
}

#[test]
fn one_that_is_out_comes_back_when_the_others_die() {
    let mut bad = HttpAnalyzer::start("bad", "refuse");
    let mut good = HttpAnalyzer::start("good", "ok");
    let hour = Duration::from_secs(3600);
    let site = start("outlier-left", &[&bad, &good], hour);
    for id in ["bad", "good"] {
        site.until_standing(id, "up");
    }
    let mut posted = 0;
    until("it is out", || {
        posted += post(&site, REFUSALS);
        !is_up(&site, "bad")
    });
    settle(&site, posted);
    let before = refusals(&site, "bad");

    // Mended meanwhile; but its time is not over.
    bad.kill();
    bad.restart("ok");
    stays("it is out", OUT / 2, || !is_up(&site, "bad"));

    good.kill();
    site.until_standing("bad", "up");
    site.distributor
        .wait_log("analyzer bad is back before its time");
    let early = bad.messages().len() as u64;
    posted += post(&site, REFUSALS);
    settle(&site, posted);
    assert_eq!(bad.messages().len() as u64, early + 3 * REFUSALS);
    assert_eq!((dropped(&site), refusals(&site, "bad")), (0, before));
    let ended = site.stop();
    let balance = ended.balance();
    assert_eq!((ended.code, balance.dropped), (Some(0), 0));
    assert_eq!(balance.received, balance.acked);
}
