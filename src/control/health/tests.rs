//! Checks of real servers, against a data_plane that remembers what it was ordered.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::probe::Probe;
use super::resolver::Resolver;
use super::*;
use crate::executor::bell::Bell;
use crate::executor::{self, tests::run_alone};
use crate::fake::{Fake, FakeDataPlane};
use crate::settings::Settings;
use weir_config::Config;
use weir_ledger::run_report::Stamp;

/// Answers every connection with a status; 0: not at all.
fn server(status: u16) -> (Arc<AtomicU16>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let at = listener.local_addr().expect("bound");
    let shown = Arc::new(AtomicU16::new(status));
    let answers = Arc::clone(&shown);
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.expect("accepted");
            let mut request = [0; 1024];
            let len = socket.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            assert!(
                request.starts_with("GET /in/health HTTP/1.1\r\nHost: 127.0.0.1:"),
                "{request}"
            );
            match answers.load(Ordering::Relaxed) {
                0 => silent.push(socket),
                status => {
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes());
                }
            }
        }
    });
    (shown, format!("http://{at}/in/"))
}

fn analyzer(endpoint: &str) -> HttpAnalyzer {
    let endpoint: weir_config::Place = endpoint.parse().expect("an endpoint");
    HttpAnalyzer::new("h", endpoint, 0.5).expect("valid")
}

fn core(slow_start: Duration) -> (Arc<Core>, Arc<FakeDataPlane>) {
    let data_plane = Arc::new(FakeDataPlane::default());
    *lock(&data_plane.reports) = Fake::new(&[1.0]).reports;
    let mut settings = Settings::of(&Config::default(), Stamp::now());
    settings.health_interval = Duration::from_millis(40);
    settings.health_timeout = Duration::from_millis(250);
    settings.slow_start = slow_start;
    let core = Arc::new(Core::new(Box::new(Arc::clone(&data_plane)), settings));
    let begin = |context: &Context| context.spawn("health checks", run(context.clone()));
    executor::start(&core, begin).expect("started");
    (core, data_plane)
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_check_says_what_is_wrong() {
    let bell = Bell::default();
    let probe = Probe {
        timeout: Duration::from_millis(250),
        resolver: Resolver::new(&bell, &[]),
        own: weir_config::OwnListeners::default(),
        via: "weir-test".into(),
    };
    run_alone(&bell, async {
        for (status, word) in [
            (500, "status 500"),
            (302, "status 302"),
            (508, "this distributor itself"),
            (0, "no answer within 250ms"),
        ] {
            let (_, endpoint) = server(status);
            let endpoint = endpoint.parse().expect("an endpoint");
            let error = probe.check(&endpoint, None).await.expect_err(word);
            assert!(error.contains(word), "{error}");
        }
        let (_, endpoint) = server(204);
        let endpoint = endpoint.parse().expect("an endpoint");
        assert!(probe.check(&endpoint, None).await.is_ok());
        let closed = "http://127.0.0.1:1/in".parse().expect("an endpoint");
        let error = probe.check(&closed, None).await.expect_err("closed");
        assert!(error.contains("refused"), "{error}");
    });
}

#[test]
fn up_at_once_down_when_it_fails_slowly_back() {
    let (core, data_plane) = core(Duration::from_secs(3600));
    let (status, endpoint) = server(200);
    let analyzer = analyzer(&endpoint);
    add(&core, &analyzer).expect("added");
    assert!(add(&core, &analyzer).expect_err("twice").contains("in use"));
    let last = || lock(&data_plane.orders).last().cloned().unwrap_or_default();
    eventually("up with its whole weight", || last() == "up h 0.5");
    assert!(lock(&core.ramps).status(0).is_empty());
    status.store(503, Ordering::Relaxed);
    eventually("down", || last() == "down h");
    eventually("failures count", || {
        core.checks.status()[0].consecutive_failures > 2
    });
    status.store(200, Ordering::Relaxed);
    eventually("back with a tenth", || last() == "up h 0.05");
    eventually("a ramp", || !lock(&core.ramps).status(0).is_empty());
    assert!(remove(&core, "h"));
    assert_eq!(last(), "down h");
    assert!(lock(&core.ramps).status(0).is_empty() && core.checks.status().is_empty());
    core.end();
}

#[test]
fn ejected_by_the_operator_it_stays_out_until_it_is_resumed() {
    let (core, data_plane) = core(Duration::ZERO);
    let (_, endpoint) = server(200);
    add(&core, &analyzer(&endpoint)).expect("added");
    let last = || lock(&data_plane.orders).last().cloned().unwrap_or_default();
    eventually("up", || last() == "up h 0.5");
    eventually("noted", || {
        matches!(core.checks.eject("h", false), Some(None))
    });
    let out = core.checks.eject("h", true).expect("configured");
    core.data_plane
        .http_down(out.expect("was in"))
        .expect("taken out");
    let before = core.checks.status()[0].last_health_check;
    eventually("checked again", || {
        core.checks.status()[0].last_health_check > before
    });
    std::thread::sleep(Duration::from_millis(200));
    let orders = lock(&data_plane.orders).clone();
    assert_eq!(orders, ["up h 0.5", "down h"], "not even for a moment");
    core.checks.eject("h", false);
    eventually("back", || last() == "up h 0.5");
    core.end();
}

#[test]
fn who_is_well_and_cannot_be_taken_in_is_told_of_once_a_change() {
    let (core, data_plane) = core(Duration::ZERO);
    let (_, endpoint) = server(200);
    let tries = || lock(&data_plane.refused_ups).len();
    *lock(&data_plane.holder) = Some("one".into());
    add(&core, &analyzer(&endpoint)).expect("added");
    eventually("tried again and again", || tries() > 5);
    let error = core.checks.status()[0].error.clone().unwrap_or_default();
    assert!(error.contains("in use by one"), "{error}");
    *lock(&data_plane.holder) = Some("two".into());
    eventually("another holds it", || {
        lock(&data_plane.refused_ups)
            .iter()
            .filter(|h| *h == "two")
            .count()
            > 5
    });
    *lock(&data_plane.holder) = None;
    eventually("up", || !lock(&data_plane.up).is_empty());
    eventually("all is well", || core.checks.status()[0].error.is_none());
    let state = core.state();
    let told = state.events.all().map(|event| event.text.clone());
    let told: Vec<String> = told
        .filter(|text| text.contains("cannot be taken in"))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    drop(state);
    assert!(told[0].contains("by one") && told[1].contains("by two"));
    core.end();
}

#[test]
fn what_the_shards_gave_up_comes_back_with_a_healthy_check() {
    let (core, data_plane) = core(Duration::ZERO);
    let (_, endpoint) = server(200);
    add(&core, &analyzer(&endpoint)).expect("added");
    let ups = || {
        lock(&data_plane.orders)
            .iter()
            .filter(|order| *order == "up h 0.5")
            .count()
    };
    eventually("up", || ups() == 1);
    lock(&data_plane.up).clear();
    eventually("up again", || ups() == 2);
    core.end();
}
