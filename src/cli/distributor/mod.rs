//! `weir distributor`: takes messages from emitters, gives each to one analyzer.
//!
//! ```text
//! args.rs        flags
//! control.rs     the control side, and what a reload changes
//! manager.rs     what the service manager is told
//! http.rs        flags of HTTP
//! protection.rs  flags about who may connect
//! ```

mod args;
mod control;
mod http;
mod manager;
mod protection;

pub use args::{Args, CoreList, PinnedDialect};

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::audit::{self, Closing};
use crate::certificate::{self, Stamp};
use crate::cli::config::{Listening, Loaded};
use crate::engine::{Balance, Counters, Reason};
use crate::service::journal::complain;
use crate::service::sockets::Sockets;
use crate::shard::{Distributor, Passed, ShardReport, StartError, Stopper};
use manager::{Manager, Telling};

/// Lines about shares at exit; a certificate has all.
const SHARES_PRINTED_MAX: usize = 64;
/// How often the law is checked over all shards.
const LAW_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal.
pub fn run(args: &Args) -> ExitCode {
    let started = Stamp::now();
    // First of all: their numbers are only certain while nothing else is open.
    let sockets = match Sockets::from_environment() {
        Ok(sockets) => sockets,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let manager = Arc::new(Manager::from_environment());
    if let Some(path) = &args.certificate {
        if let Err(error) = certificate::check_writable("--certificate", path) {
            complain(&error.to_string());
            return ExitCode::from(1);
        }
    }
    // A write beyond the limit on the size of files (LimitFSIZE=) then fails like any other; without a
    // handler this signal ends the process. Nobody looks at the flag.
    let handled = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let mut signals = match handled.and_then(|_| Signals::new([SIGTERM, SIGINT, SIGHUP])) {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("signals cannot be handled: {error}"));
            return ExitCode::from(1);
        }
    };
    let loaded = Loaded::new(args.clone()).and_then(|loaded| {
        let listening = Listening::of(&sockets).map_err(|why| vec![why])?;
        loaded.on(listening).map_err(|why| vec![why])
    });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems.iter().for_each(|why| complain(why));
            return ExitCode::from(2);
        }
    };
    for warning in loaded.warnings() {
        log::warn!("{warning}");
    }
    let config = loaded.config.clone();
    let passed = Passed {
        emitters: sockets.emitters,
        analyzers: sockets.analyzers,
        http: sockets.http,
    };
    let distributor = match Distributor::start_on(config.clone(), passed) {
        Ok(distributor) => distributor,
        Err(error) => {
            complain(&error.to_string());
            let usage = matches!(error, StartError::Config(_));
            return ExitCode::from(if usage { 2 } else { 1 });
        }
    };
    let from = control::From {
        loaded,
        started,
        admin: sockets.admin,
        manager: Arc::clone(&manager),
    };
    let control = match control::start(&distributor.operator(), from) {
        Ok(control) => control,
        Err(error) => {
            complain(&error.to_string());
            distributor.stopper().stop_now();
            let _ = distributor.join();
            return ExitCode::from(1);
        }
    };
    log::info!(
        "ready emitters={} analyzers={} http={} shards={} memory_bytes={} {}",
        distributor.emitters,
        distributor.analyzers,
        distributor
            .http
            .map_or("off".to_owned(), |http| http.to_string()),
        distributor.reports().len(),
        distributor.memory_bytes(),
        distributor.features(),
    );
    let telling = Telling::start(
        Arc::clone(&manager),
        distributor.stopper(),
        Arc::clone(control.running.core()),
    );
    let handle = signals.handle();
    let stopper = distributor.stopper();
    let drain_timeout = args.drain_timeout;
    let reload = Arc::clone(&control.reload);
    let core = Arc::clone(control.running.core());
    let waiter = std::thread::spawn(move || {
        let mut stopping = 0;
        for signal in signals.forever() {
            match signal {
                SIGHUP => reload.on_signal(),
                _ if stopping == 0 => {
                    stopping += 1;
                    manager.stopping();
                    log::info!(
                        "draining for at most {drain_timeout:?}; a second signal ends at once"
                    );
                    core.drain();
                    stopper.drain(drain_timeout);
                }
                _ => {
                    stopper.stop_now();
                    return true;
                }
            }
        }
        false
    });
    let watch = Watch::start(distributor.stopper());
    let stopper = distributor.stopper();
    let joined = distributor.join();
    let is_broken = watch.end();
    telling.end();
    control.running.end();
    handle.close();
    let closing = Closing {
        started,
        at_once: waiter.join().unwrap_or(false),
        failed: joined.is_err() || is_broken,
    };
    let (reports, failure) = match joined {
        Ok(reports) => (reports, None),
        Err(error) => (stopper.reports(), Some(error)),
    };
    let mut code = match failure {
        None => conclude(&reports),
        Some(error) => {
            complain(&error.to_string());
            ExitCode::from(1)
        }
    };
    if let Some(path) = &args.certificate {
        let written = certificate::write(path, &audit::certificate(&config, &reports, closing));
        if let Err(error) = written {
            complain(&format!("--certificate {error}"));
            code = ExitCode::from(1);
        }
    }
    if is_broken {
        code = ExitCode::from(1);
    }
    code
}

/// Checks the law over the sum of all shards, once a second, for as long as they run.
struct Watch {
    over: Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    fn start(stopper: Stopper) -> Watch {
        let (over, is_over) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || loop {
            if let Err(balance) = audit::check_law(&stopper.balances()) {
                // What goes on with broken books loses messages and does not know it.
                complain(&format!("sum of all shards: {balance}"));
                stopper.stop_now();
                return true;
            }
            if is_over.recv_timeout(LAW_EVERY) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
        });
        Watch { over, thread }
    }

    /// Ends; whether the law was broken.
    fn end(self) -> bool {
        // Nobody listens when it was broken.
        let _ = self.over.send(());
        self.thread.join().unwrap_or(true)
    }
}

/// The last lines: what was counted, and whether the books balance.
fn conclude(reports: &[ShardReport]) -> ExitCode {
    let mut balance = Balance::default();
    let mut counters = Counters::default();
    for report in reports {
        balance.add(&report.balance);
        counters.add(&report.counters);
    }
    print_counters(&counters);
    let shares = audit::ledger(reports).analyzers;
    for share in shares.iter().take(SHARES_PRINTED_MAX) {
        println!(
            "share {}: {:.3} % of {:.3} % due, {} messages, off by {:+.2} (bound {:.2})",
            share.analyzer.escape_debug(),
            share.real_share * 100.0,
            share.target_share * 100.0,
            share.assigned,
            share.error,
            share.bound,
        );
    }
    if shares.len() > SHARES_PRINTED_MAX {
        let more = shares.len() - SHARES_PRINTED_MAX;
        println!("share of {more} more analyzers: see --certificate");
    }
    println!("{balance}");
    if !balance.holds() {
        return ExitCode::from(1);
    }
    let unrouted: u64 = reports.iter().map(|report| report.unrouted_bytes).sum();
    let unfinished: u64 = reports
        .iter()
        .map(|report| report.unfinished_emitters)
        .sum();
    if balance.open() + unrouted + unfinished == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "abandoned: {} sent and not acknowledged, {} not sent, {unrouted} bytes read and not routed, {unfinished} emitters that had closed not read to their end",
        balance.in_flight, balance.queued
    );
    ExitCode::from(3)
}

fn print_counters(counters: &Counters) {
    println!(
        "emitters {}, bytes received {}, receives {}, stalls {} ({:.3} s)",
        counters.emitters_accepted,
        counters.received_bytes,
        counters.receives,
        counters.stalls,
        counters.stalled_ns as f64 / 1e9,
    );
    println!(
        "links up {} and down {}, re-routed {} (duplicates possible {}, identities lost {}), batches handed over {}",
        counters.links_up,
        counters.links_down,
        counters.rerouted,
        counters.duplicates_possible,
        counters.identities_lost,
        counters.handed_over,
    );
    println!(
        "sends {} ({} zero-copy, {} of them copied), kernel entries {}",
        counters.sends, counters.sends_zero_copy, counters.zero_copy_copied, counters.enters,
    );
    for reason in Reason::ALL
        .into_iter()
        .filter(|reason| counters.of(*reason) > 0)
    {
        println!("{} {}", reason.as_str(), counters.of(reason));
    }
}
