//! What was said of an analyzer holds for the analyzer, however often its links break and come back.

use std::time::Duration;

use weir_testkit::site::Site;
use weir_testkit::{stays, until, Analyzer, Dialect, Options};

const CONTROL_DRAIN: &[u8] = &[3];

fn link(site: &Site, shard: usize) -> Analyzer {
    let options = Options::new(Dialect::Native, 1.0).shard(shard);
    Analyzer::connect(site.distributor.analyzers, &options)
}

/// One link breaks and comes back.
fn bounce(site: &Site, link_of_shard: Analyzer, shard: usize) -> Analyzer {
    let downs = || site.distributor.lines("analyzer down").len();
    let before = downs();
    drop(link_of_shard);
    until("a link down", || downs() > before);
    link(site, shard)
}

#[test]
fn a_drain_by_the_operator_outlives_links_and_restarts_until_it_is_lifted() {
    let site = Site::start("standing-operator", "", "--shards 2");
    let (first, second) = (link(&site, 0), link(&site, 1));
    site.until_standing("a", "up");
    site.ctl("drain a");
    site.until_standing("a", "draining");
    let second = bounce(&site, second, 1);
    let first = bounce(&site, first, 0);
    stays("drained", Duration::from_millis(500), || {
        site.analyzer("a")["standing"] == "draining"
    });
    drop((first, second));
    until("it is away", || {
        site.distributor.lines("analyzer down").len() == 4
    });
    let _restarted = (link(&site, 0), link(&site, 1));
    site.until_standing("a", "draining");
    stays("drained", Duration::from_millis(500), || {
        site.analyzer("a")["standing"] == "draining"
    });
    let metrics = String::from_utf8(site.text("/metrics")).expect("text");
    let kept = metrics.lines().find(|l| l.starts_with("weir_drains_kept"));
    assert_eq!(kept, Some("weir_drains_kept 1"));
    site.ctl("resume a");
    site.until_standing("a", "up");
    assert_eq!(site.stop().code, Some(0));
}

#[test]
fn an_analyzers_own_drain_outlives_a_link_and_ends_with_its_life() {
    let site = Site::start("standing-own", "", "--shards 2");
    let (first, second) = (link(&site, 0), link(&site, 1));
    site.until_standing("a", "up");
    first.write(CONTROL_DRAIN);
    site.until_standing("a", "draining");
    let second = bounce(&site, second, 1);
    stays("drained", Duration::from_millis(500), || {
        site.analyzer("a")["standing"] == "draining"
    });
    drop((first, second));
    until("it is away", || {
        site.distributor.lines("analyzer down").len() == 3
    });
    let _restarted = (link(&site, 0), link(&site, 1));
    site.until_standing("a", "up");
    assert_eq!(site.stop().code, Some(0));
}

/// Who is resumed against his own word may say it again, as often as he likes.
#[test]
fn an_analyzer_that_asks_again_after_a_resume_is_drained_again() {
    let site = Site::start("standing-again", "", "--shards 2");
    let (first, second) = (link(&site, 0), link(&site, 1));
    site.until_standing("a", "up");
    for asks in [&second, &first, &second] {
        asks.write(CONTROL_DRAIN);
        site.until_standing("a", "draining");
        site.ctl("resume a");
        site.until_standing("a", "up");
    }
    // Many at once are one.
    second.write(&CONTROL_DRAIN.repeat(10_000));
    site.until_standing("a", "draining");
    assert_eq!(site.stop().code, Some(0));
}
