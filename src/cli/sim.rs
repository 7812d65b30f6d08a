//! `weir sim`: explores failures on virtual time, and replays them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use super::values;
use crate::out;
use crate::sim::{self, Plan, Run, Topology};
use crate::streams::{self, complain};

/// Runs the distributor's own shards in a simulated world, where analyzers die, ACKs get lost,
/// clocks jump and memory runs out, and checks that no message is lost.
///
/// A seed decides everything: `weir sim --seed N` repeats a run exactly.
///
/// Exit status: 0 nothing was found, 1 a run failed, 2 usage.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// First seed; random when left out
    #[arg(long, value_name = "N", value_parser = values::number(0..=u64::MAX))]
    seed: Option<u64>,
    /// Runs, each with the next seed; 1 with --seed, otherwise 1000
    #[arg(long, value_name = "N", value_parser = values::number(1..=u64::MAX))]
    runs: Option<u64>,
    /// Threads to share the runs among
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::number(1..=256_u16))]
    jobs: u16,
    /// Play a topology instead: emitters, analyzers and events out of a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "jobs", "plan", "no_shrink"])]
    topology: Option<std::path::PathBuf>,
    /// Print what a run consists of before it is run
    #[arg(long)]
    plan: bool,
    /// Print a failing run as it is, without making it smaller
    #[arg(long)]
    no_shrink: bool,
}

/// A run that failed.
struct Failure {
    seed: u64,
    what: String,
}

/// What all threads share.
struct Search {
    first: u64,
    runs: u64,
    next: AtomicU64,
    stop: AtomicBool,
    found: Mutex<Option<Failure>>,
    total: Mutex<Run>,
}

/// Runs until all is done or one fails.
pub fn run(args: &Args) -> ExitCode {
    let first = args.seed.unwrap_or_else(random_seed);
    if let Some(path) = &args.topology {
        return play(path, args.seed.unwrap_or(1));
    }
    let runs = args
        .runs
        .unwrap_or(if args.seed.is_some() { 1 } else { 1000 });
    out!("seeds {first} to {}", first.wrapping_add(runs - 1));
    if args.plan {
        streams::out(format_args!("{}", Plan::from_seed(first)));
    }
    // A panic of the engine is a finding, told below.
    std::panic::set_hook(Box::new(|_| {}));
    let search = Search {
        first,
        runs,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        found: Mutex::default(),
        total: Mutex::default(),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 1..args.jobs {
            scope.spawn(|| search.work());
        }
        search.work();
    });
    let seconds = began.elapsed().as_secs_f64();
    let found = search.found.into_inner().unwrap_or_else(|e| e.into_inner());
    let Some(failure) = found else {
        let total = search.total.into_inner().unwrap_or_else(|e| e.into_inner());
        out!(
            "{runs} runs, none failed: {} messages, {} packets over HTTP, {} POSTs to analyzers, {} re-routed, {} delivered twice, {} turns, {:.1} hours of virtual time in {seconds:.1} s ({:.0} runs a minute)",
            total.messages,
            total.packets,
            total.posts,
            total.rerouted,
            total.duplicates,
            total.turns,
            total.virtual_ns as f64 / 3.6e12,
            runs as f64 * 60.0 / seconds.max(1e-3),
        );
        return ExitCode::SUCCESS;
    };
    out!("seed {} failed: {}", failure.seed, failure.what);
    out!("repeat it with: weir sim --seed {}", failure.seed);
    let plan = Plan::from_seed(failure.seed);
    if args.no_shrink {
        streams::out(format_args!("{plan}"));
        return ExitCode::from(1);
    }
    let (smaller, what) = sim::shrink(&plan);
    out!("made smaller it fails with: {what}");
    streams::out(format_args!("{smaller}"));
    ExitCode::from(1)
}

fn play(path: &std::path::Path, seed: u64) -> ExitCode {
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("--topology {name}: {error}"));
            return ExitCode::from(2);
        }
    };
    let topology = match Topology::parse(&text, seed) {
        Ok(topology) => topology,
        Err(what) => {
            complain(&format!("{name}: {what}"));
            return ExitCode::from(2);
        }
    };
    match topology.play() {
        Ok(played) => {
            out!("{played}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            out!("seed {seed} failed: {what}");
            ExitCode::from(1)
        }
    }
}

impl Search {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.runs {
                return;
            }
            let seed = self.first.wrapping_add(number);
            match sim::run(&Plan::from_seed(seed)) {
                Ok(run) => self
                    .total
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .add(&run),
                Err(what) => {
                    self.stop.store(true, Ordering::Relaxed);
                    let mut found = self.found.lock().unwrap_or_else(|e| e.into_inner());
                    found.get_or_insert(Failure { seed, what });
                }
            }
        }
    }
}

fn random_seed() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = time.map_or(0, |since| since.as_nanos());
    nanoseconds as u64 >> 8 // any bits will do
}
