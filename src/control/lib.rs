//! Everything that an operator looks at and turns. Nothing of it is on the path of a message.
//!
//! ```text
//! lib.rs       starts it and ends it
//! http_api/    what is asked over HTTP: answers, orders, event streams
//! health/      analyzers over HTTP: checks, who comes and who goes; weights on their way
//! core.rs      what all of these share
//! executor/    the thread that they run on, and what wakes it
//! view/        what is shown: state, events, metrics, table; pure
//! ```
//!
//! The mod.rs of each room draws what is in it.

pub mod core;
mod executor;
pub mod health;
pub mod http_api;
pub mod view;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::core::{lock, Core};
use crate::executor::{sleep, Context};
use crate::health::outlier::EjectRule;
use crate::http_api::listener::{AdminAt, Listener};
use crate::http_api::Questions;
use weir_config::{Admin, Config, Cors, Hosts, HttpAnalyzer, OwnListeners, Token};
use weir_ledger::run_report::Stamp;
use weir_service::sockets::AdminSocket;
use weir_shard::{pseudonym, Operator};

/// What the control side is told.
pub struct Settings {
    /// When the distributor began.
    pub started: Stamp,
    /// Size of a batch buffer in bytes.
    pub buffer_bytes: u64,
    /// Where the admin API is; none: only under `/admin/` on the public port, if there is a token.
    pub admin: Option<AdminAt>,
    /// Where operators connect, opened by others: goes before `admin`.
    pub admin_socket: Option<AdminSocket>,
    /// Who may change anything over TCP.
    pub token: Option<Token>,
    /// Which web pages may read answers on the public port.
    pub cors: Cors,
    /// Names that browsers may ask for.
    pub hosts: Hosts,
    /// Analyzers over HTTP.
    pub http_analyzers: Vec<HttpAnalyzer>,
    /// Time between two health checks.
    pub health_interval: Duration,
    /// Time that a health check may take.
    pub health_timeout: Duration,
    /// Time in which an analyzer over HTTP gets its whole weight after a recovery; 0: at once.
    pub slow_start: Duration,
    /// When an analyzer that refuses everything is taken out, and for how long.
    pub eject: EjectRule,
    /// Where this distributor listens itself.
    pub own: OwnListeners,
    /// What it calls itself on its requests.
    pub via: String,
    /// Every setting by its name.
    pub configuration: BTreeMap<String, String>,
    /// For `POST /admin/reload`.
    pub reloader: Option<Arc<dyn Reloader>>,
    /// For `GET /admin/tap`.
    pub tap: Option<Box<dyn TapSource>>,
}

impl Settings {
    /// What a configuration says. Sockets that were passed, reloads and taps are added by who has them.
    pub fn of(config: &Config, started: Stamp) -> Settings {
        let Config {
            http, protection, ..
        } = config;
        Settings {
            started,
            buffer_bytes: u64::from(config.batch_bytes),
            admin: config.admin.as_ref().map(|admin| match admin {
                Admin::Path(path) => AdminAt::Unix(path.clone()),
                Admin::Tcp(address) => AdminAt::Tcp(*address),
            }),
            admin_socket: None,
            token: protection.admin_token.clone(),
            cors: protection.cors.clone(),
            hosts: protection.http_hosts.clone(),
            http_analyzers: http.analyzers.clone(),
            health_interval: http.health_interval,
            health_timeout: http.health_timeout,
            slow_start: http.slow_start,
            eject: EjectRule {
                refusals: http.eject_refusals,
                time: http.eject_time,
            },
            own: OwnListeners::of(config),
            via: pseudonym(config.instance),
            configuration: config.texts(),
            reloader: None,
            tap: None,
        }
    }
}

/// Reads the configuration file again while the distributor runs.
pub trait Reloader: Send + Sync {
    /// What is in force, for `GET /admin/config`.
    fn current(&self) -> Value;
    /// Takes what has changed; with `dry_run` only says what would. What would open what is closed is taken only
    /// with `force`.
    ///
    /// # Errors
    /// The file, the line and what is allowed, or what would be opened; nothing has changed then.
    fn reload(&self, dry_run: bool, force: bool) -> Result<Value, String>;
    /// Goes back to what was before the last reload.
    ///
    /// # Errors
    /// There was none.
    fn rollback(&self) -> Result<Value, String>;
}

/// A message that a tap shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tapped {
    /// When, in ms since 1970.
    pub at: u64,
    /// Shard that routed it.
    pub shard: u16,
    /// Where it went.
    pub analyzer: String,
    /// As in its frame.
    pub severity: u8,
    /// Bytes of its payload, before any cut.
    pub bytes: u64,
    /// Its payload, cut and with what is no UTF-8 replaced.
    pub payload: String,
}

/// Shows some of the messages that pass. Waits for nothing.
pub trait TapSource: Send + Sync {
    /// Begins to look, at most `rate` messages a second; what [`TapSource::take`] and [`TapSource::end`] take.
    fn begin(&self, rate: u32) -> u64;
    /// What has passed since the last call; none: another has begun to look, and one at a time does.
    fn take(&self, look: u64) -> Option<Vec<Tapped>>;
    /// Ends it.
    fn end(&self, look: u64);
}

/// The control side while it runs; ends with [`Running::end`].
pub struct Running {
    core: Arc<Core>,
    /// Where the admin API is, with the port that was chosen.
    pub admin: Option<AdminAt>,
    thread: JoinHandle<()>,
}

impl Running {
    /// The distributor is on its way out: not ready from now on.
    pub fn drain(&self) {
        self.core.drain();
    }

    /// What all share: for whoever adds analyzers or gives orders from inside.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Ends all tasks and threads, and removes the admin socket. Connections have half a second to end.
    pub fn end(self) {
        self.core.end();
        // If it panicked, it has said so.
        let _ = self.thread.join();
    }
}

/// Starts the control side of a distributor.
///
/// # Errors
/// The admin address cannot be had, a thread cannot, or an analyzer over HTTP cannot be added.
pub fn serve(operator: Operator, settings: Settings) -> io::Result<Running> {
    let mut settings = settings;
    let http_analyzers = std::mem::take(&mut settings.http_analyzers);
    let listener = match &settings.admin {
        _ if settings.admin_socket.is_some() => {
            let socket = settings.admin_socket.take();
            let adopt = |socket| Listener::adopt(socket, settings.token.is_some());
            socket.map(adopt).transpose()?
        }
        Some(at) => Some(Listener::bind(at, settings.token.is_some())?),
        None => None,
    };
    let admin = listener.as_ref().map(|listener| listener.at.clone());
    let core = Arc::new(Core::new(Box::new(operator.clone()), settings));
    let questions = operator.questions(core.bell.waker());
    let thread = executor::start(&core, move |context| {
        let answers = Questions::new(context, operator);
        context.spawn_to_its_end("questions", answers.run(questions));
        context.spawn("ramps", step_ramps(context.clone()));
        context.spawn("health checks", health::run(context.clone()));
        if let Some(listener) = listener {
            context.spawn("admin listener", listener.serve(context.clone()));
        }
    })?;
    let running = Running {
        core,
        admin,
        thread,
    };
    for analyzer in &http_analyzers {
        if let Err(error) = health::add_at_start(&running.core, analyzer) {
            running.end();
            return Err(io::Error::other(error));
        }
    }
    Ok(running)
}

async fn step_ramps(context: Context) {
    loop {
        sleep(health::ramps::STEP).await;
        if !lock(&context.core.ramps).is_empty() {
            let core = Arc::clone(&context.core);
            context.hand.run(move || core.step_ramps()).await;
        }
    }
}
