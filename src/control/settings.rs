//! What the control side is told, and what it asks of whoever starts it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::admin_port::AdminPort;
use crate::health::outlier::EjectRule;
use weir_config::{Admin, Config, Cors, Hosts, HttpAnalyzer, OwnListeners, Token};
use weir_engine::Wanted;
use weir_ledger::run_report::Stamp;
use weir_service::sockets::AdminSocket;
use weir_shard::pseudonym;

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAt {
    /// A Unix socket; its permissions say who may.
    Unix(PathBuf),
    /// TCP; the token says who may.
    Tcp(SocketAddr),
}

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
    /// TLS at a TCP address of it; none: it is not spoken there.
    pub admin_tls: Option<Arc<AdminPort>>,
    /// Who may change anything over TCP.
    pub token: Option<Token>,
    /// Where the secrets of connections to analyzers go.
    pub key_log: Option<PathBuf>,
    /// Which web pages may read answers on the public port.
    pub cors: Cors,
    /// Names that browsers may ask for.
    pub hosts: Hosts,
    /// An input whose emitters are answered when analyzers have ACKed: not every analyzer may come then.
    pub chained_input: Option<String>,
    /// Analyzers over HTTP.
    pub http_analyzers: Vec<HttpAnalyzer>,
    /// Who is asked for their names; empty: the system.
    pub nameservers: Vec<SocketAddr>,
    /// Weights that the configuration wants; the shards have them already.
    pub wanted: Arc<[Wanted]>,
    /// Shards, each with its own way to every analyzer.
    pub shards: u16,
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
    /// Number of the run, 16 hexadecimal digits, as the run report has it.
    pub instance: String,
    /// Every setting by its name.
    pub configuration: BTreeMap<String, String>,
    /// For `POST /admin/reload`.
    pub reloader: Option<Arc<dyn Reloader>>,
    /// For `GET /admin/tap`.
    pub tap: Option<Box<dyn TapSource>>,
}

impl Settings {
    /// What a configuration says. Sockets that were passed, TLS, reloads and taps are added by who has them.
    pub fn of(config: &Config, started: Stamp) -> Settings {
        let Config {
            http, protection, ..
        } = config;
        Settings {
            chained_input: config.chained_input(),
            started,
            buffer_bytes: u64::from(config.batch_bytes),
            admin: config.admin.as_ref().map(|admin| match admin {
                Admin::Path(path) => AdminAt::Unix(path.clone()),
                Admin::Tcp(address) => AdminAt::Tcp(*address),
            }),
            admin_socket: None,
            admin_tls: None,
            token: protection.admin_token.clone(),
            key_log: config.tls.tls_key_log.clone(),
            cors: protection.cors.clone(),
            hosts: protection.http_hosts.clone(),
            http_analyzers: config.http_analyzers(),
            wanted: config.wanted(),
            shards: u16::try_from(config.shards).unwrap_or(u16::MAX),
            nameservers: http.nameservers.clone(),
            health_interval: http.health_interval,
            health_timeout: http.health_timeout,
            slow_start: http.slow_start,
            eject: EjectRule {
                refusals: http.eject_refusals,
                time: http.eject_time,
            },
            own: OwnListeners::of(config),
            via: pseudonym(config.instance),
            instance: format!("{:016x}", config.instance),
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
    /// Why the configuration was not taken when it was read last; none: it was, or it has not been read again.
    fn problem(&self) -> Option<String> {
        None
    }
    /// An analyzer was added by an operator: the files of its TLS are followed from now on.
    fn added(&self) {}
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
    /// raw, json, syslog or line.
    pub form: &'static str,
    /// Input where it came in; `emitters` of the emitters' port, `http` of POSTs. Empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// What its emitter speaks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Address of its emitter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Whom its emitter's certificate names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// Its tag, of Fluent Forward.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
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
