//! A distributor that was stopped for longer than its time-outs finds its peers as healthy as they are: what
//! they said meanwhile is read before anybody is judged.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::site::Site;
use weir_testkit::{
    assert_exactly_once, until, until_read, wire, Acks, Analyzer, Dialect, Distributor, Emitter,
    Options, PATIENCE,
};

/// Stops the process, does `meanwhile`, and lets it go on after `pause`.
fn stopped(distributor: &Distributor, pause: Duration, meanwhile: impl FnOnce()) {
    distributor.signal("-STOP");
    let began = Instant::now();
    meanwhile();
    std::thread::sleep(pause.saturating_sub(began.elapsed()));
    distributor.signal("-CONT");
}

#[test]
fn analyzers_that_acked_while_it_was_stopped_keep_their_links() {
    const MESSAGES: u64 = 4_000;
    for dialect in wire::DIALECTS {
        let distributor = Distributor::start("--shards 2 --ack-timeout 1s");
        let links = [0, 1].map(|shard| {
            let options = Options::new(dialect, 1.0).shard(shard).acks(Acks::Never);
            Analyzer::connect(distributor.analyzers, &options)
        });
        distributor.wait_lanes(if dialect == Dialect::Native { 1 } else { 2 });
        Emitter::start(distributor.emitters, 0..MESSAGES, 64).join();
        until_read(&[&links[0], &links[1]], MESSAGES as usize);
        // Many messages are on their way when it stops; all that there was is ACKed within the pause.
        stopped(&distributor, Duration::from_secs(4), || {
            for link in &links {
                link.set_acks(Acks::All);
            }
        });
        Emitter::start(distributor.emitters, MESSAGES..2 * MESSAGES, 64).join();
        until_read(&[&links[0], &links[1]], 2 * MESSAGES as usize);
        assert_exactly_once(&[&links[0], &links[1]], 0..2 * MESSAGES);
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, 2 * MESSAGES);
        assert_eq!(ended.count("ack_stalled"), 0, "{dialect:?}");
        assert_eq!(ended.rerouted(), 0, "{dialect:?}");
    }
}

#[test]
fn posts_that_were_answered_while_it_was_stopped_are_not_sent_again() {
    let analyzers = ["one", "two"].map(|name| HttpAnalyzer::start(name, "slow"));
    let flags = format!(
        "--shards 1 --http-timeout 1s --health-interval 100ms --health-timeout 1s --slow-start 0s \
         --http-idle-timeout 2s --http-analyzer one=1@http://{} --http-analyzer two=1@http://{}",
        analyzers[0].address, analyzers[1].address
    );
    let site = Site::start("pause-http", "", &flags);
    for one in &analyzers {
        site.until_standing(&one.name, "up");
    }
    let mut client = Client::connect(site.http());
    for n in 0..16 {
        assert_eq!(client.post_packet(&packet("e", n..n + 1)).status, 202);
    }
    stopped(&site.distributor, Duration::from_secs(4), || {});
    until("all arrived", || {
        analyzers
            .iter()
            .map(|one| one.messages().len())
            .sum::<usize>()
            >= 16
    });
    // The client's own connection was idle for less than its limit, by the distributor's time.
    assert_eq!(client.post_packet(&packet("e", 16..17)).status, 202);
    let ended = site.stop();
    assert_eq!(ended.assert_clean().received, 17);
    for line in ended.stderr.lines() {
        let told = ["POST failed", "analyzer down", "unhealthy"];
        let is_end = line.contains("shutting down");
        assert!(
            is_end || !told.iter().any(|text| line.contains(text)),
            "{line}"
        );
    }
    let twice = analyzers
        .iter()
        .map(|one| one.messages().len())
        .sum::<usize>();
    assert_eq!(twice, 17, "each once");
}

/// The whole request was there when its time was over; nobody had read it.
#[test]
fn a_question_that_arrived_while_it_was_stopped_is_answered() {
    let site = Site::start("pause-admin", "", "--shards 1");
    let mut socket = UnixStream::connect(site.scratch.path("admin.sock")).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
        .write_all(b"GET /health HTTP/1.1\r\n")
        .expect("written");
    // What it has heard counts from here on: the thread that reads has begun.
    std::thread::sleep(Duration::from_millis(500));
    stopped(&site.distributor, Duration::from_secs(6), || {
        socket
            .write_all(b"Host: weir\r\nConnection: close\r\n\r\n")
            .expect("written");
    });
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer);
    assert!(
        read.is_ok() && answer.starts_with("HTTP/1.1 200"),
        "{read:?} {answer}"
    );
    site.stop().assert_clean();
}

#[test]
fn acks_that_came_while_it_was_stopped_count_though_the_drain_is_over() {
    let distributor = Distributor::start("--shards 2 --drain-timeout 2s --graceful-close 0s");
    let links = [0, 1].map(|shard| {
        let options = Options::new(Dialect::Native, 1.0).shard(shard);
        Analyzer::connect(distributor.analyzers, &options.acks(Acks::Never))
    });
    distributor.wait_lanes(1);
    Emitter::start(distributor.emitters, 0..100, 64).join();
    until_read(&[&links[0], &links[1]], 100);
    distributor.terminate();
    until("DRAIN", || links.iter().all(Analyzer::drain_heard));
    stopped(&distributor, Duration::from_secs(4), || {
        for link in &links {
            link.set_acks(Acks::All);
        }
    });
    assert_eq!(distributor.wait().assert_clean().received, 100);
}
