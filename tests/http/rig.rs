//! A distributor inside the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir::cli::{self, Program};
use weir::runtime::Distributor;
use weir::shard::{At, HttpTarget, Operator, ShardReport};

use weir_testkit::http::HttpAnalyzer;
use weir_testkit::{until, FrameSink, PATIENCE};

/// A distributor on free ports of loopback.
pub struct Rig {
    pub operator: Operator,
    pub http: SocketAddr,
    pub analyzers: SocketAddr,
    pub emitters: SocketAddr,
    distributor: Option<Distributor>,
}

impl Rig {
    /// With `flags`, separated by white space.
    pub fn start(flags: &str) -> Rig {
        let arena = if flags.contains("--arena") {
            ""
        } else {
            "--arena 16MiB"
        };
        let line = format!(
            "weir distributor --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 {arena} {flags}"
        );
        let parsed = cli::parse(line.split_whitespace().map(Into::into)).expect("flags");
        let Program::Distributor(args) = parsed.program else {
            panic!("{line}");
        };
        let config = args.config().expect("settings");
        let distributor = Distributor::start(config).expect("it starts");
        Rig {
            operator: distributor.operator(),
            http: distributor.http.expect("it listens"),
            analyzers: distributor.analyzers,
            emitters: distributor.emitters,
            distributor: Some(distributor),
        }
    }

    /// Makes an analyzer known to all shards; its generation.
    pub fn up(&self, analyzer: &HttpAnalyzer, weight: f64) -> u64 {
        let target = HttpTarget {
            name: analyzer.name.as_str().into(),
            at: At::Address(analyzer.address),
            host: analyzer.address.to_string(),
            path: String::new(),
            sink: weir::engine::Sink::Http,
            outlet: Default::default(),
            forms: false,
            request: Default::default(),
            secured: None,
        };
        let generation = self.operator.http_up(target, weight).expect("an order");
        let name = analyzer.name.as_str();
        until("all shards know it", || {
            let known = |report: &ShardReport| {
                report
                    .roster
                    .entries
                    .iter()
                    .any(|entry| &*entry.name == name)
            };
            self.operator.reports().iter().all(known)
        });
        generation
    }

    /// A TCP analyzer that all shards know.
    pub fn sink(&self, weight: f64) -> FrameSink {
        self.until_known(|| FrameSink::of(self.analyzers, weight))
    }

    /// One that ACKs nothing before it is told to.
    pub fn silent_sink(&self, weight: f64) -> FrameSink {
        self.until_known(|| FrameSink::silent(self.analyzers, weight))
    }

    fn until_known(&self, start: impl FnOnce() -> FrameSink) -> FrameSink {
        let known = |report: &ShardReport| {
            let entries = report.roster.entries.iter();
            let names = entries.map(|entry| entry.name.to_string());
            names.collect::<BTreeSet<_>>()
        };
        let before = known(&self.operator.reports()[0]);
        let sink = start();
        until("all shards know it", || {
            let reports = self.operator.reports();
            reports
                .iter()
                .all(|report| !known(report).is_subset(&before))
        });
        sink
    }

    /// Sum over all shards.
    pub fn sum(&self, count: impl Fn(&ShardReport) -> u64) -> u64 {
        self.operator.reports().iter().map(count).sum()
    }

    /// How often this was refused, over all shards.
    pub fn refused(&self, reason: &str) -> u64 {
        self.sum(|report| report.http.refused.get(reason).copied().unwrap_or(0))
    }

    /// Waits until it was refused so often; reports are a tenth of a second old.
    pub fn until_refused(&self, reason: &str, count: u64) {
        let what = || format!("{reason}: {} of {count}", self.refused(reason));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while self.refused(reason) != count {
            assert!(std::time::Instant::now() < deadline, "{}", what());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no HTTP client is connected, and nothing is held for one.
    pub fn until_quiet(&self) {
        until("no client is connected", || {
            self.sum(|report| report.http.connections as u64) == 0
        });
        until("nothing is held", || {
            self.sum(|report| report.http.held_bytes) == 0
        });
    }

    /// Asks for the drain, and goes on.
    pub fn drain(&self) {
        let distributor = self.distributor.as_ref().expect("runs");
        distributor.stopper().drain(PATIENCE);
    }

    /// Drains, and checks that nothing is left and the books balance.
    pub fn stop(mut self) -> Vec<ShardReport> {
        let distributor = self.distributor.take().expect("runs");
        let asked = Instant::now();
        distributor.stopper().drain(PATIENCE);
        let reports = distributor.join().expect("no shard fails");
        assert!(asked.elapsed() < PATIENCE, "it waited for nothing");
        for report in &reports {
            assert!(report.balance.holds(), "{}", report.balance);
            assert_eq!(report.balance.open(), 0, "{}", report.balance);
        }
        reports
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(distributor) = self.distributor.take() {
            distributor.stopper().stop_now();
            let _ = distributor.join();
        }
    }
}
