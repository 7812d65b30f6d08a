//! Lookups and watches against a real nameserver on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use weir_discover::{Resolver, Targets, Watch, Watcher};
use weir_testkit::dns::{Dns, Says};
use weir_testkit::{stays, until};

fn watch(dns: &Dns, targets: &str) -> Watch {
    let targets: Targets = targets.parse().expect("targets");
    Watch::new(targets, Resolver::new(vec![dns.addr]))
}

fn names(watch: &Watch) -> Vec<String> {
    watch.set().iter().map(|it| it.name.clone()).collect()
}

#[test]
fn each_address_of_a_name_is_one_and_what_fails_changes_nothing() {
    let dns = Dns::start();
    dns.says_local("weir.test", &[2, 3, 4]);
    let mut watch = watch(&dns, "dns+weir.test:8081");
    assert_eq!(watch.refresh().appeared.len(), 3);
    let before = names(&watch);
    assert_eq!(
        before,
        ["127.0.0.2:8081", "127.0.0.3:8081", "127.0.0.4:8081"]
    );
    for (says, why) in [
        (Says::ServFail, "SERVFAIL"),
        (Says::Empty, "no address"),
        (Says::NoName, "no address"),
    ] {
        dns.says("weir.test", says.clone());
        assert!(watch.refresh().is_empty(), "{says:?}");
        assert_eq!(names(&watch), before, "{says:?}");
        assert!(watch.problems()[0].contains(why), "{:?}", watch.problems());
    }
    dns.says_local("weir.test", &[3, 4, 5]);
    let changes = watch.refresh();
    assert_eq!(changes.left[0].name, "127.0.0.2:8081");
    assert_eq!(changes.appeared[0].name, "127.0.0.5:8081");
    assert!(watch.problems().is_empty());
}

#[test]
fn services_have_priorities_weights_and_targets() {
    let dns = Dns::start();
    let name = "_weir-frames._tcp.test";
    let records = vec![
        (20, 0, 8080, "b.test".to_owned()),
        (10, 7, 8090, "a.test".to_owned()),
    ];
    dns.says(name, Says::Srv(records));
    dns.says_local("a.test", &[2, 3]);
    dns.says_local("b.test", &[4]);
    let mut watch = watch(&dns, &format!("dnssrv+{name}"));
    watch.refresh();
    let set = watch.set();
    assert_eq!(names(&watch), ["a.test:8090", "b.test:8080"]);
    assert_eq!(
        (set[0].priority, set[0].weight, set[0].addrs.len()),
        (10, 7, 2)
    );
    assert_eq!(set[1].addrs, [SocketAddr::from(([127, 0, 0, 4], 8080))]);
    // A target that has no address for a while is where it was.
    dns.says("a.test", Says::ServFail);
    assert!(watch.refresh().is_empty());
    dns.says_local("a.test", &[9]);
    let changes = watch.refresh();
    assert_eq!(
        changes.moved[0].addrs,
        [SocketAddr::from(([127, 0, 0, 9], 8090))]
    );
    assert!(changes.appeared.is_empty() && changes.left.is_empty());
}

#[test]
fn a_cut_answer_is_asked_for_over_tcp() {
    let dns = Dns::start();
    let target = |n: u16| (0, 1, 8000 + n, "a.test".to_owned());
    dns.says("_a._tcp.test", Says::Srv((0..100).map(target).collect()));
    dns.says_local("a.test", &[2]);
    dns.cuts(true);
    let mut watch = watch(&dns, "dnssrv+_a._tcp.test");
    assert_eq!(watch.refresh().appeared.len(), 100);
    assert!(dns.asked().1 > 0, "over TCP: {:?}", dns.asked());
}

#[test]
fn forged_answers_are_passed_over() {
    let dns = Dns::start();
    let right = Says::A(vec![Ipv4Addr::new(127, 0, 0, 2)]);
    let evil = Ipv4Addr::new(192, 0, 2, 66);
    dns.says("weir.test", Says::Forged(evil, Box::new(right)));
    let mut watch = watch(&dns, "dns+weir.test:1");
    watch.refresh();
    assert_eq!(names(&watch), ["127.0.0.2:1"]);
}

#[test]
fn a_server_that_says_nothing_is_followed_by_the_next() {
    let (silent, good) = (Dns::start(), Dns::start());
    silent.says("weir.test", Says::Nothing);
    good.says_local("weir.test", &[2]);
    let resolver = Resolver::new(vec![silent.addr, good.addr]);
    let began = Instant::now();
    let found = resolver.ips("weir.test").expect("found");
    assert_eq!(found, [Ipv4Addr::new(127, 0, 0, 2)]);
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    let alone = Resolver::new(vec![silent.addr]);
    let error = alone
        .ips("weir.test")
        .expect_err("nobody answers")
        .to_string();
    assert!(error.contains("no answer in time"), "{error}");
}

#[test]
fn a_watcher_looks_when_asked_and_by_itself() {
    let dns = Dns::start();
    dns.says_local("weir.test", &[2]);
    let watcher = Watcher::start(watch(&dns, "dns+weir.test:1")).expect("a thread");
    until("the first look", || watcher.set().len() == 1);
    let version = watcher.version();
    dns.says_local("weir.test", &[2, 3]);
    watcher.ask();
    let began = Instant::now();
    until("the look that was asked for", || {
        watcher.version() != version
    });
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(watcher.set().len(), 2);
    dns.says_local("weir.test", &[3]);
    until("its own look", || watcher.set().len() == 1);
    dns.says("weir.test", Says::ServFail);
    let looks = watcher.looks();
    watcher.ask();
    until("a look", || watcher.looks() > looks);
    stays("what was found", Duration::from_millis(50), || {
        watcher.set().len() == 1
    });
}

/// A dead name costs 8 s: two kinds, asked twice for 2 s.
#[test]
fn names_that_nobody_answers_for_hold_up_no_other() {
    let dns = Dns::start();
    dns.says("dead.test", Says::Nothing);
    dns.says("gone.test", Says::Nothing);
    dns.says_local("weir.test", &[2]);
    let targets = "dns+dead.test:1,dns+gone.test:1,dns+weir.test:1,127.0.0.9:1";
    let began = Instant::now();
    let watcher = Watcher::start(watch(&dns, targets)).expect("a thread");
    until("what can be known", || watcher.set().len() == 2);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(watcher.looks(), 0, "the look goes on");
    // Nor does it keep what changes from being seen.
    dns.says_local("weir.test", &[2, 3]);
    watcher.ask();
    until("another look at who answers", || watcher.set().len() == 3);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(watcher.looks(), 0, "the first look goes on");
    until("both dead names at once", || watcher.looks() == 1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(14), "{took:?}");
}

#[test]
fn a_target_of_a_service_that_nobody_answers_for_holds_up_no_other() {
    let dns = Dns::start();
    let target = |name: &str| (0, 1, 8080, name.to_owned());
    let records = ["dead.test", "a.test", "gone.test", "b.test"].map(target);
    dns.says("_a._tcp.test", Says::Srv(records.to_vec()));
    dns.says("dead.test", Says::Nothing);
    dns.says("gone.test", Says::Nothing);
    dns.says_local("a.test", &[2]);
    dns.says_local("b.test", &[3]);
    let began = Instant::now();
    let mut watch = watch(&dns, "dnssrv+_a._tcp.test");
    watch.look();
    while watch.set().len() < 2 {
        watch.hear(Duration::from_secs(1));
    }
    assert_eq!(names(&watch), ["a.test:8080", "b.test:8080"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    while watch.is_waiting() {
        watch.hear(Duration::from_secs(1));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(14), "both at once: {took:?}");
    let problems = watch.problems();
    assert!(problems[0].contains("has no address now"), "{problems:?}");
    // What changes as a whole is kept until the first of it is found.
    dns.says("_a._tcp.test", Says::Srv(vec![target("c.test")]));
    dns.says_local("c.test", &[4]);
    watch.look();
    assert!(watch.hear(Duration::from_secs(5)) && watch.set().len() == 2);
    assert!(watch.hear(Duration::from_secs(5)));
    assert_eq!(names(&watch), ["c.test:8080"]);
    assert!(watch.problems().is_empty(), "{:?}", watch.problems());
}

#[test]
fn more_addresses_than_are_taken_are_counted() {
    let dns = Dns::start();
    let ip = |n: u16| Ipv4Addr::new(127, 1, (n >> 8) as u8, n as u8);
    dns.says("weir.test", Says::A((0..300).map(ip).collect()));
    for (targets, taken, found) in [
        ("dns+weir.test:1", 256, 300),
        ("weir.test:1,127.0.0.9:1", 2, 46),
    ] {
        let mut watch = watch(&dns, targets);
        watch.refresh();
        assert_eq!(
            (watch.set().len(), watch.found()),
            (taken, found),
            "{targets}"
        );
    }
}

#[test]
fn addresses_need_no_thread_and_nobody_to_ask() {
    let dns = Dns::start();
    let mut watch = watch(&dns, "127.0.0.1:1,[::1]:2,dns+127.0.0.3:3,localhost:4");
    watch.refresh();
    assert_eq!(watch.set().len(), 4);
    assert_eq!(dns.asked(), (0, 0));
}
