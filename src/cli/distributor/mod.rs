//! `weir distributor`: takes messages from emitters, gives each to one analyzer.
//!
//! ```text
//! args.rs     flags
//! control.rs  the control side
//! manager.rs  what the service manager is told
//! reload.rs   the configuration, read again
//! report.rs   the last lines, and the exit status
//! signals.rs  what signals mean
//! watch.rs    files that are another
//! ```

mod args;
mod control;
mod manager;
mod reload;
mod report;
mod signals;
mod watch;

pub use args::Args;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cli::config::{Listening, Loaded};
use crate::config::{with_instance, Config};
use crate::control::view::books::{self, Closing};
use crate::host::{may_lock_anything, memlock_limit, Host};
use crate::ledger::run_report::{self, Stamp};
use crate::runtime::behind;
use crate::runtime::uring::{adopt_descriptors, Unusable};
use crate::runtime::{Distributor, Passed, StartError, Stopper};
use crate::service::sockets::Sockets;
use crate::shard::{InputAt, ShardReport};
use crate::streams::{self, complain};
use manager::{Manager, Telling};
use signals::{Ear, Running};

/// How often the law is checked over all shards.
const LAW_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal.
pub fn run(args: &Args) -> ExitCode {
    run_or(args).unwrap_or_else(|code| code)
}

/// The same; what ends it before it runs has been said.
fn run_or(args: &Args) -> Result<ExitCode, ExitCode> {
    let started = Stamp::now();
    // First of all: their numbers are only certain while nothing else is open.
    let sockets = Sockets::from_environment(adopt_descriptors);
    let sockets = sockets.map_err(|error| refuse(2, &error))?;
    let ear = Ear::open();
    let ear = ear.map_err(|error| {
        let why = behind(&error);
        refuse(1, &format!("signals cannot be handled: {error}{why}"))
    })?;
    let manager = Arc::new(Manager::from_environment());
    let loaded = load(args, &sockets)?;
    let config = loaded.config.clone();
    let passed = Passed {
        emitters: sockets.emitters,
        analyzers: sockets.analyzers,
        http: sockets.http,
        inputs: sockets.inputs,
    };
    let distributor = start(&ear, config.clone(), passed)?;
    let stopper = distributor.stopper();
    ear.up(stopper.clone());
    let from = control::From {
        loaded,
        served: distributor.served.clone(),
        started,
        admin: sockets.admin,
        manager: Arc::clone(&manager),
    };
    let sides = match Sides::start(&distributor, from, &manager) {
        Ok(sides) => sides,
        Err(error) => {
            let locked = locked_too_much(&error, &config);
            complain(&format!(
                "{error}{}",
                locked.unwrap_or_else(|| behind(&error))
            ));
            stopper.stop_now();
            let _ = distributor.join();
            return Err(ExitCode::from(1));
        }
    };
    say_ready(&distributor);
    ear.running(Running {
        stopper: stopper.clone(),
        drain_timeout: config.drain_timeout,
        reload: Arc::clone(&sides.control.reload),
        core: Arc::clone(sides.control.running.core()),
        manager,
    });
    let joined = distributor.join();
    let is_broken = sides.end();
    let closing = Closing {
        started,
        at_once: ear.close(),
        failed: joined.is_err() || is_broken,
    };
    let code = conclude(args, &config, joined, &stopper, closing);
    Ok(if is_broken { ExitCode::from(1) } else { code })
}

/// What the control side's rings found no room for is lockable memory, where that is limited.
fn locked_too_much(error: &io::Error, config: &Config) -> Option<String> {
    let host = Host::here();
    let limit = memlock_limit(&host).filter(|limit| *limit < u64::MAX)?;
    let is_it = error.kind() == io::ErrorKind::OutOfMemory && !may_lock_anything(&host);
    let shards = config.shards as u64;
    is_it.then(|| format!(": {}", Unusable::Memlock { limit, shards }))
}

/// Says why it does not run.
fn refuse(code: u8, why: &str) -> ExitCode {
    complain(why);
    ExitCode::from(code)
}

/// What it is told, all layers together, for the sockets that were passed.
fn load(args: &Args, sockets: &Sockets) -> Result<Loaded, ExitCode> {
    if let Some(path) = &args.settings.report {
        let writable = run_report::check_writable("--report", path);
        writable.map_err(|error| refuse(1, &error.to_string()))?;
    }
    let loaded = Loaded::new(args.clone()).and_then(|loaded| {
        let listening = Listening::of(sockets).map_err(|why| vec![why])?;
        loaded.on(listening).map_err(|why| vec![why])
    });
    let loaded = loaded.map_err(|problems| {
        problems.iter().for_each(|why| complain(why));
        ExitCode::from(2)
    })?;
    for warning in loaded.warnings() {
        log::warn!("{warning}");
    }
    log::info!("{}", loaded.config.sizing);
    Ok(loaded)
}

/// Starts the shards.
fn start(ear: &Ear, config: Config, passed: Passed) -> Result<Distributor, ExitCode> {
    Distributor::start_unless(ear.starting(), config, passed).map_err(|error| match error {
        // The ear has said so.
        StartError::Cancelled => ExitCode::SUCCESS,
        StartError::Config(_) | StartError::MemoryLimit { .. } => refuse(2, &error.to_string()),
        error => refuse(1, &error.to_string()),
    })
}

/// What runs beside the shards.
struct Sides {
    control: control::Control,
    watch: Watch,
    telling: Telling,
}

impl Sides {
    fn start(
        distributor: &Distributor,
        from: control::From,
        manager: &Arc<Manager>,
    ) -> io::Result<Sides> {
        let control = control::start(&distributor.operator(), from)?;
        let core = Arc::clone(control.running.core());
        let watch = Watch::start(distributor.stopper())?;
        let telling = Telling::start(Arc::clone(manager), distributor.stopper(), core)?;
        Ok(Sides {
            control,
            watch,
            telling,
        })
    }

    /// Ends them; whether the law was broken.
    fn end(self) -> bool {
        let is_broken = self.watch.end();
        self.telling.end();
        self.control.running.end();
        is_broken
    }
}

fn say_ready(distributor: &Distributor) {
    for InputAt { name, address } in &distributor.inputs {
        log::info!("input {name} at {address}");
    }
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
}

/// Writes the run report and the last lines.
fn conclude(
    args: &Args,
    config: &Config,
    joined: io::Result<Vec<ShardReport>>,
    stopper: &Stopper,
    closing: Closing,
) -> ExitCode {
    let (reports, failure) = match joined {
        Ok(reports) => (reports, None),
        Err(error) => (stopper.reports(), Some(error)),
    };
    let mut code = report::status(&reports);
    // First of all: whoever does not read what follows shall not cost the evidence.
    if let Some(path) = &args.settings.report {
        let path = with_instance(path, config.instance);
        let written = run_report::write(&path, &books::run_report(config, &reports, closing));
        if let Err(error) = written {
            code = refuse(1, &format!("--report {error}"));
        }
    }
    match failure {
        None => streams::report(report::text(&reports)),
        Some(error) => code = refuse(1, &error.to_string()),
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
