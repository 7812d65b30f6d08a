//! Everything that an operator looks at and turns. Nothing of it is on the path of a message.
//!
//! ```text
//! mod.rs        threads: read this first          core.rs      what they share
//! answer.rs     questions that change nothing     admin.rs     orders
//! state.rs      what is shown, made of reports    rates.rs, track.rs, posts.rs: over time
//! events.rs     what happened                     bottleneck.rs: what slows everything down
//! metrics.rs    /metrics                          exposition.rs: its two formats
//! page.rs       the page                          streams.rs   its events
//! listener.rs   the admin socket                  token.rs     who may
//! ramps.rs      weights on their way              health_check.rs: analyzers over HTTP; outlier.rs: who refuses
//! exchange.rs   request and response              http.rs      their bytes; client.rs: the other side
//! ```

pub mod admin;
pub mod answer;
pub mod books;
pub mod bottleneck;
pub mod client;
pub mod core;
pub mod events;
pub mod exchange;
pub mod exposition;
pub mod health_check;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod outlier;
pub mod page;
pub mod posts;
pub mod probe;
pub mod ramps;
pub mod rates;
pub mod resolver;
pub mod state;
pub mod streams;
pub mod table;
pub mod token;
pub mod track;
pub mod view;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use self::core::Core;
use self::exchange::{Ask, Response};
use self::listener::{AdminAt, Listener};
use self::outlier::EjectRule;
use self::streams::{Part, Streams};
use weir_config::{Admin, Config, Cors, Hosts, HttpAnalyzer, OwnListeners, Token};
use weir_ledger::certificate::Stamp;
use weir_service::sockets::AdminSocket;
use weir_shard::{pseudonym, Operator, Question};

/// Orders over the public port that may wait; beyond, 503.
const ORDERS_MAX: usize = 64;

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

/// Shows some of the messages that pass.
pub trait TapSource: Send + Sync {
    /// Calls `each` for at most `rate` messages a second, until `until` or until it returns false.
    ///
    /// # Errors
    /// Why there is nothing to show.
    fn tap(
        &self,
        rate: u32,
        until: Instant,
        each: &mut dyn FnMut(&Tapped) -> bool,
    ) -> Result<(), String>;
}

/// The control side while it runs; ends with [`Running::end`].
pub struct Running {
    core: Arc<Core>,
    /// Where the admin API is, with the port that was chosen.
    pub admin: Option<AdminAt>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// The distributor is on its way out: not ready from now on.
    pub fn drain(&self) {
        self.core.drain();
    }

    /// What the threads share: for whoever adds analyzers or gives orders from inside.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Ends all threads and removes the admin socket. Connections that are open may last a little.
    pub fn end(self) {
        self.core.end();
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
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
    let questions = operator.questions();
    let core = Arc::new(Core::new(Box::new(operator.clone()), settings));
    let mut threads = Vec::new();
    let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        threads.push(thread.spawn(run)?);
        Ok(())
    };
    let (orders, orders_taken) = sync_channel(ORDERS_MAX);
    let desk = Desk {
        core: Arc::clone(&core),
        operator: operator.clone(),
        streams: Streams::default(),
        orders,
    };
    let shared = Arc::clone(&core);
    let started = spawn("control", Box::new(move || desk.run(&questions)))
        .and_then(|()| {
            spawn(
                "control-orders",
                Box::new(move || take_orders(&shared, &operator, &orders_taken)),
            )
        })
        .and_then(|()| {
            let shared = Arc::clone(&core);
            spawn("control-ramps", Box::new(move || step_ramps(&shared)))
        })
        .and_then(|()| {
            let add =
                |analyzer| health_check::add_at_start(&core, analyzer).map_err(io::Error::other);
            http_analyzers.iter().try_for_each(add)
        });
    let running = Running {
        core,
        admin,
        threads,
    };
    let served = started.and_then(|()| match listener {
        Some(listener) => listener.serve(Arc::clone(&running.core)).map(Some),
        None => Ok(None),
    });
    match served {
        Ok(accept) => {
            let mut running = running;
            running.threads.extend(accept);
            Ok(running)
        }
        Err(error) => {
            running.end();
            Err(error)
        }
    }
}

/// Answers the shards' questions and keeps event streams going.
struct Desk {
    core: Arc<Core>,
    operator: Operator,
    streams: Streams<Question>,
    /// To the thread that carries out orders, which may have to wait for the shards.
    orders: SyncSender<Question>,
}

impl Desk {
    fn run(mut self, questions: &Receiver<Question>) {
        let mut next = Instant::now();
        while !self.core.is_over() {
            let now = Instant::now();
            if now >= next {
                // Also while questions wait: there may be some always.
                next = now + streams::STEP;
                self.step();
            }
            let left = next.saturating_duration_since(Instant::now());
            match questions.recv_timeout(left) {
                Ok(question) => self.take(question),
                Err(RecvTimeoutError::Timeout) => {}
                // The shards are gone.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let operator = &self.operator;
        self.streams
            .end(|question, bytes| operator.reply(question, bytes, true));
    }

    fn step(&mut self) {
        // Also when nobody looks: rates and events need the time between.
        let state = self.core.state();
        let operator = &self.operator;
        self.streams
            .step(&state, |question, bytes, part| match part {
                Part::State => operator.reply_newest(question, bytes),
                Part::Log => operator.reply(question, bytes, false),
                Part::End => operator.reply(question, bytes, true),
            });
    }

    fn take(&mut self, mut question: Question) {
        let ask = ask_of(&mut question);
        let is_admin = ask.path == "/admin" || ask.path.starts_with("/admin/");
        if is_admin {
            return self.order(question, &ask);
        }
        if ask.path == "/events" && ask.method == "GET" {
            return self.open_stream(question, &ask);
        }
        let allowed = self.allowed_origin(&ask);
        let mut response = match (&allowed, ask.method.as_str()) {
            (Some(_), "OPTIONS") => preflight(&ask),
            _ => answer::answer(&ask, &self.core.state()),
        };
        if let Some(origin) = allowed {
            response = response.with("Access-Control-Allow-Origin", origin);
            response = response.with("Vary", "Origin");
        }
        self.reply(&question, &ask, &response);
    }

    fn allowed_origin(&self, ask: &Ask) -> Option<String> {
        let cors = self.core.cors();
        cors.allowed(ask.header("origin")).map(str::to_owned)
    }

    fn reply(&self, question: &Question, ask: &Ask, response: &Response) {
        let bytes = http::respond(response, ask.method != "HEAD", question.keep_alive);
        self.operator.reply(question, bytes, true);
    }

    fn open_stream(&mut self, question: Question, ask: &Ask) {
        let (response, first) = streams::head();
        let state = self.core.state();
        let (ended, refused) = self.streams.open(ask, question, &state);
        for question in ended {
            self.operator.reply(&question, http::chunk(b""), true);
        }
        if let Some(question) = refused {
            let response = streams::full(ask, &state);
            drop(state);
            return self.reply(&question, ask, &response);
        }
        let response = match self.allowed_origin(ask) {
            Some(origin) => response.with("Access-Control-Allow-Origin", origin),
            None => response,
        };
        let operator = &self.operator;
        self.streams.greet(|question| {
            let mut bytes = http::respond_chunked(&response, question.keep_alive);
            bytes.extend(http::chunk(first));
            operator.reply(question, bytes, false);
        });
        self.streams.step_newest(&state, |question, bytes| {
            operator.reply(question, bytes, false)
        });
    }

    /// Under `/admin/`: only with a token, and not on this thread.
    fn order(&mut self, mut question: Question, ask: &Ask) {
        let response = if self.core.token().is_none() {
            let text = format!(
                "path {:?}: not here; the admin API has a listener of its own (--admin)",
                ask.path
            );
            Response::error(404, ask, Stamp::now(), text)
        } else if !listener::may(&self.core, ask) {
            listener::forbidden(ask)
        } else {
            give_back(&mut question, ask);
            match self.orders.try_send(question) {
                Ok(()) => return,
                Err(TrySendError::Full(given) | TrySendError::Disconnected(given)) => {
                    question = given;
                    let text = format!("orders: {ORDERS_MAX} wait, which is the most");
                    Response::error(503, ask, Stamp::now(), text).with("Retry-After", "1")
                }
            }
        };
        self.reply(&question, ask, &response);
    }
}

/// What is asked, without the name of the connection; the question keeps that.
fn ask_of(question: &mut Question) -> Ask {
    Ask {
        worker: question.shard,
        peer: question.peer,
        is_stranger: question.is_stranger,
        method: std::mem::take(&mut question.method),
        path: std::mem::take(&mut question.path),
        query: std::mem::take(&mut question.query),
        headers: std::mem::take(&mut question.headers),
        body: std::mem::take(&mut question.body),
    }
}

fn give_back(question: &mut Question, ask: &Ask) {
    question.method.clone_from(&ask.method);
    question.path.clone_from(&ask.path);
    question.query.clone_from(&ask.query);
    question.headers.clone_from(&ask.headers);
    question.body.clone_from(&ask.body);
}

/// Headers that docs/HTTP.md names, and what else a page's libraries add: headers that are not known change
/// nothing here. Not those that say who asks: `/admin` is for no other site's page.
fn preflight(ask: &Ask) -> Response {
    const NAMED: &str =
        "Content-Type, Content-Encoding, X-Emitter-ID, Prefer, Accept, Last-Event-ID";
    const ASKED_BYTES_MAX: usize = 1024;
    let mut headers = NAMED.to_owned();
    let asked = ask.header("access-control-request-headers").unwrap_or("");
    let is_name = |name: &&str| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_credential = ["authorization", "cookie"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        !name.is_empty() && name.bytes().all(is_token) && !is_credential
    };
    for name in asked.split(',').map(str::trim).filter(is_name) {
        let mut known = headers.split(", ");
        let is_new = !known.any(|known| known.eq_ignore_ascii_case(name));
        if is_new && headers.len() + name.len() <= ASKED_BYTES_MAX {
            headers.push_str(", ");
            headers.push_str(name);
        }
    }
    Response {
        status: 204,
        content_type: "",
        headers: vec![
            ("Access-Control-Allow-Methods", "GET, HEAD, POST".into()),
            ("Access-Control-Allow-Headers", headers),
            ("Access-Control-Max-Age", "600".into()),
        ],
        body: Vec::new(),
    }
}

fn take_orders(core: &Arc<Core>, operator: &Operator, orders: &Receiver<Question>) {
    while let Ok(mut question) = orders.recv() {
        let ask = ask_of(&mut question);
        let response = admin::handle(core, &ask);
        let bytes = http::respond(&response, ask.method != "HEAD", question.keep_alive);
        operator.reply(&question, bytes, true);
    }
}

fn step_ramps(core: &Core) {
    while !core.is_over() {
        std::thread::sleep(ramps::STEP);
        core.step_ramps();
    }
}
