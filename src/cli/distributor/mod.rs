//! `weir distributor`: takes messages from emitters, gives each to one analyzer.
//!
//! ```text
//! args.rs     flags
//! control.rs  the control side
//! manager.rs  what the service manager is told
//! reload.rs   the configuration, read again
//! report.rs   the last lines, and the exit status
//! signals.rs  what signals mean
//! ```

mod args;
mod control;
mod manager;
mod reload;
mod report;
mod signals;

pub use args::Args;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cli::config::{Listening, Loaded};
use crate::control::view::books::{self, Closing};
use crate::ledger::run_report::{self, Stamp};
use crate::runtime::behind;
use crate::runtime::uring::adopt_descriptors;
use crate::runtime::{Distributor, Passed, StartError, Stopper};
use crate::service::sockets::Sockets;
use crate::streams::{self, complain};
use manager::{Manager, Telling};
use signals::{Ear, Running};

/// How often the law is checked over all shards.
const LAW_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal.
pub fn run(args: &Args) -> ExitCode {
    let started = Stamp::now();
    // First of all: their numbers are only certain while nothing else is open.
    let sockets = match Sockets::from_environment(adopt_descriptors) {
        Ok(sockets) => sockets,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let ear = match Ear::open() {
        Ok(ear) => ear,
        Err(error) => {
            complain(&format!("signals cannot be handled: {error}"));
            return ExitCode::from(1);
        }
    };
    let manager = Arc::new(Manager::from_environment());
    if let Some(path) = &args.settings.report {
        if let Err(error) = run_report::check_writable("--report", path) {
            complain(&error.to_string());
            return ExitCode::from(1);
        }
    }
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
    let started_on = Distributor::start_unless(ear.starting(), config.clone(), passed);
    let distributor = match started_on {
        Ok(distributor) => distributor,
        // The ear has said so.
        Err(StartError::Cancelled) => return ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            let usage = matches!(error, StartError::Config(_));
            return ExitCode::from(if usage { 2 } else { 1 });
        }
    };
    ear.up(distributor.stopper());
    let from = control::From {
        loaded,
        started,
        admin: sockets.admin,
        manager: Arc::clone(&manager),
    };
    let sides = control::start(&distributor.operator(), from).and_then(|control| {
        let core = Arc::clone(control.running.core());
        let watch = Watch::start(distributor.stopper())?;
        let telling = Telling::start(Arc::clone(&manager), distributor.stopper(), core)?;
        Ok((control, watch, telling))
    });
    let (control, watch, telling) = match sides {
        Ok(sides) => sides,
        Err(error) => {
            complain(&format!("{error}{}", behind(&error)));
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
    ear.running(Running {
        stopper: distributor.stopper(),
        drain_timeout: config.drain_timeout,
        reload: Arc::clone(&control.reload),
        core: Arc::clone(control.running.core()),
        manager,
    });
    let stopper = distributor.stopper();
    let joined = distributor.join();
    let is_broken = watch.end();
    telling.end();
    control.running.end();
    let closing = Closing {
        started,
        at_once: ear.close(),
        failed: joined.is_err() || is_broken,
    };
    let (reports, failure) = match joined {
        Ok(reports) => (reports, None),
        Err(error) => (stopper.reports(), Some(error)),
    };
    let mut code = report::status(&reports);
    // First of all: whoever does not read what follows shall not cost the evidence.
    if let Some(path) = &args.settings.report {
        let written = run_report::write(path, &books::run_report(&config, &reports, closing));
        if let Err(error) = written {
            complain(&format!("--report {error}"));
            code = ExitCode::from(1);
        }
    }
    match failure {
        None => streams::report(report::text(&reports)),
        Some(error) => {
            complain(&error.to_string());
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
    fn start(stopper: Stopper) -> io::Result<Watch> {
        let (over, is_over) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("law".into());
        let thread = thread.spawn(move || loop {
            if let Err(balance) = books::check_law(&stopper.balances()) {
                // What goes on with broken books loses messages and does not know it.
                complain(&format!("sum of all shards: {balance}"));
                stopper.stop_now();
                return true;
            }
            if is_over.recv_timeout(LAW_EVERY) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
        })?;
        Ok(Watch { over, thread })
    }

    /// Ends; whether the law was broken.
    fn end(self) -> bool {
        // Nobody listens when it was broken.
        let _ = self.over.send(());
        self.thread.join().unwrap_or(true)
    }
}
