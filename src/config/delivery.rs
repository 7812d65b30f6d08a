//! How messages get to an analyzer that the distributor connects to: the scheme of its URL, and options behind it.
//!
//! ```text
//!   forward://10.0.0.2:24224?tag=app&compress=gzip&shared_key_file=/etc/weir/key
//!   es+http://10.0.0.3:9200?index=logs-app-prod&api_key_file=/etc/weir/es
//!   SCHEME://HOST[:PORT][/PATH][?option=value&...]        `&` and `%` within a value: %26, %25
//!   file:///PATH[?...]   exec:PROGRAM ARGUMENTS[?...]     on this host, see local.rs
//! ```
//!
//! Schemes and options are one table each: flag, file and documents are made of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_sink::outlet::{Compression, Framing, Numbering, OutletOptions};
use weir_sink::request::RequestOptions;
use weir_sink::{Acks, Sink, Worth};

use crate::credential::secret_path;
use crate::input::{decoded, encoded};
use crate::local::{Local, EXEC, FILE, LOCAL_OPTIONS};
use crate::request::{Requests, REQUESTS, REQUEST_OPTIONS};
use crate::secret::first_line;
use crate::values;
use weir_tls::{KeyLogger, SecuredLink};

mod place;
mod secured;

pub use place::Place;
pub(crate) use secured::word_with_tls;
use secured::Secured;
pub use secured::TLS_OPTIONS;

/// A scheme of an analyzer's URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheme {
    /// As it is written, before `://`.
    pub word: &'static str,
    /// What such an analyzer takes.
    pub sink: Sink,
    /// Where none is given; 0: it is on this host, and has none.
    pub port: u16,
    /// A path may follow.
    pub has_path: bool,
    /// Where it leads to, in words.
    pub help: &'static str,
}

/// All of them.
pub const SCHEMES: &[Scheme] = &[
    Scheme {
        word: "http",
        sink: Sink::Http,
        port: 80,
        has_path: true,
        help: "an HTTP server that takes Weir's packets of JSON",
    },
    Scheme {
        word: "forward",
        sink: Sink::Forward,
        port: 24224,
        has_path: false,
        help: "Fluentd, Fluent Bit, Vector: chunks of Fluent Forward, each acked",
    },
    Scheme {
        word: "lumberjack",
        sink: Sink::Lumberjack,
        port: 5044,
        has_path: false,
        help: "Logstash, Vector, rsyslog's imbeats: windows of Lumberjack 2, acked",
    },
    Scheme {
        word: "relp",
        sink: Sink::Relp,
        port: 2514,
        has_path: false,
        help: "rsyslog's imrelp: each message is answered",
    },
    Scheme {
        word: "syslog",
        sink: Sink::Syslog,
        port: 514,
        has_path: false,
        help: "syslog over TCP, a message a line; without acks",
    },
    Scheme {
        word: SYSLOG_OCTET,
        sink: Sink::Syslog,
        port: 514,
        has_path: false,
        help: "syslog over TCP, bytes counted; without acks",
    },
    Scheme {
        word: "http+ndjson",
        sink: Sink::Ndjson,
        port: 80,
        has_path: true,
        help: "any HTTP server: a JSON object a line; 2xx is the ACK",
    },
    Scheme {
        word: "http+json",
        sink: Sink::Json,
        port: 80,
        has_path: true,
        help: "any HTTP server: an array of JSON objects; 2xx is the ACK",
    },
    Scheme {
        word: "es+http",
        sink: Sink::Elasticsearch,
        port: 9200,
        has_path: true,
        help: "Elasticsearch, OpenSearch: _bulk, an answer for each message",
    },
    Scheme {
        word: "otlp+http",
        sink: Sink::Otlp,
        port: 4318,
        has_path: true,
        help: "an OpenTelemetry collector: logs over OTLP/HTTP",
    },
    Scheme {
        word: "loki+http",
        sink: Sink::Loki,
        port: 3100,
        has_path: true,
        help: "Grafana Loki: its push API",
    },
    Scheme {
        word: "hec+http",
        sink: Sink::Hec,
        port: 8088,
        has_path: true,
        help: "Splunk: its HTTP event collector",
    },
    Scheme {
        word: FILE,
        sink: Sink::File,
        port: 0,
        has_path: true,
        help: "a file of this host: a JSON object a line; on the disk is the ACK",
    },
    Scheme {
        word: EXEC,
        sink: Sink::Exec,
        port: 0,
        has_path: false,
        help: "a program of this host: the same lines on its standard input; it says how many are done",
    },
];

const SYSLOG_OCTET: &str = "syslog-octet";

/// An option of an analyzer's URL.
#[derive(Debug)]
pub struct DeliveryOption {
    /// Its name.
    pub key: &'static str,
    /// Its default, in words.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Schemes that have it.
    pub only: &'static [&'static str],
    /// Gives it to a delivery.
    pub(crate) set: fn(&mut Delivery, &str) -> Result<(), String>,
}

impl DeliveryOption {
    /// All of them: those of outlets, of analyzers on this host, of requests, then those of TLS.
    pub fn all() -> impl Iterator<Item = &'static DeliveryOption> + Clone {
        let outlets = DELIVERY_OPTIONS.iter().chain(LOCAL_OPTIONS);
        outlets.chain(REQUEST_OPTIONS).chain(TLS_OPTIONS)
    }
}

const OUTLETS: &[&str] = &[
    "forward",
    "lumberjack",
    "relp",
    "syslog",
    SYSLOG_OCTET,
    FILE,
    EXEC,
];
const FORWARD: &[&str] = &["forward"];
const HTTP: &[&str] = &["http"];
const LUMBERJACK: &[&str] = &["lumberjack"];
const RELP: &[&str] = &["relp"];
/// Those without acks.
const LAGGED: &[&str] = &["syslog", SYSLOG_OCTET];
/// Those that may have to write a header of syslog.
const HEADED: &[&str] = &["relp", "syslog", SYSLOG_OCTET];

/// Of outlets.
pub const DELIVERY_OPTIONS: &[DeliveryOption] = &[
    DeliveryOption {
        key: "tag",
        default: "weir",
        help: "Tag of messages that came without one; the program in a header of syslog",
        only: &["forward", "relp", "syslog", SYSLOG_OCTET],
        set: |delivery, text| {
            delivery.options.tag = match delivery.has_header() {
                true => app_name(text)?,
                false => short("tag", text)?,
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "facility",
        default: "user",
        help: "Facility of messages that came without a PRI: its name (local0) or number, 0 to 23",
        only: HEADED,
        set: |delivery, text| {
            delivery.options.facility = facility(text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "compress",
        default: "none",
        help: "How packets are compressed: none; forward: gzip; lumberjack: zlib",
        only: &["forward", "lumberjack"],
        set: |delivery, text| {
            let (word, own) = match delivery.scheme.sink {
                Sink::Lumberjack => ("zlib", Compression::Zlib),
                _ => ("gzip", Compression::Gzip),
            };
            delivery.options.compression = match text {
                "none" => Compression::None,
                _ if text == word => own,
                _ => return Err(format!("allowed: none, {word}")),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "seq",
        default: "window",
        help: "Numbers of messages: window (from 1 in each window, as Beats), cumulative (on and on, for rsyslog's imbeats)",
        only: LUMBERJACK,
        set: |delivery, text| {
            delivery.options.numbering = match text {
                "window" => Numbering::Window,
                "cumulative" => Numbering::Cumulative,
                _ => return Err("allowed: window, cumulative".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "windows",
        default: "8",
        help: "Most windows that wait for an ACK, on each connection; Beats call it pipelining, and have 2",
        only: LUMBERJACK,
        set: |delivery, text| {
            let windows = text.parse().ok().filter(|it| (1..=64).contains(it));
            delivery.options.windows = windows.ok_or("allowed: 1 to 64")?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "window",
        default: "1024",
        help: "Most messages that wait for an answer, on each connection",
        only: RELP,
        set: |delivery, text| {
            let window = text.parse().ok().filter(|it| (1..=65_536).contains(it));
            delivery.options.window = window.ok_or("allowed: 1 to 65536")?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "lag",
        default: "256KiB",
        help: "A message counts as delivered when so many bytes more have reached the analyzer's kernel, or all have for 5 s",
        only: LAGGED,
        set: |delivery, text| {
            delivery.options.lag_bytes = values::bytes_within::<u32>(0..=1 << 30)(text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "weak_acks",
        default: "refuse",
        help: "Whether that may answer emitters of an input with ack=acked: refuse, allow",
        only: LAGGED,
        set: |delivery, text| {
            delivery.options.allows_weak_acks = match text {
                "refuse" => false,
                "allow" => true,
                _ => return Err("allowed: refuse, allow".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "shared_key_file",
        default: "none",
        help: "File whose first line is the key that the server asks for",
        only: FORWARD,
        set: |delivery, text| {
            delivery.shared_key_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "user",
        default: "none",
        help: "Name that the server asks for",
        only: FORWARD,
        set: |delivery, text| {
            delivery.options.user = short("name", text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "password_file",
        default: "none",
        help: "File whose first line is the user's password",
        only: FORWARD,
        set: |delivery, text| {
            delivery.password_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "forms",
        default: "0",
        help: "1: say in the JSON of each message what it is and where it came from",
        only: HTTP,
        set: |delivery, text| {
            delivery.forms = match text {
                "1" => true,
                "0" => false,
                _ => return Err("allowed: 0, 1".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "packet_bytes",
        default: "256KiB",
        help: "Most bytes of a packet; a single message may have more",
        only: OUTLETS,
        set: |delivery, text| {
            let bytes = values::bytes_within::<u32>(1 << 10..=64 << 20)(text)?;
            delivery.options.packet_bytes = bytes;
            Ok(())
        },
    },
    DeliveryOption {
        key: "in_flight",
        default: "4MiB",
        help: "Most bytes that wait for an answer, on each connection",
        only: OUTLETS,
        set: |delivery, text| {
            let bytes = values::bytes_within::<u32>(1 << 10..=1 << 30)(text)?;
            delivery.options.in_flight_bytes = bytes;
            Ok(())
        },
    },
    DeliveryOption {
        key: "timeout",
        default: "30s",
        help: "How long the oldest packet waits for its answer; then the analyzer is down",
        only: OUTLETS,
        set: |delivery, text| {
            let range = Duration::from_millis(100)..=Duration::from_secs(3600);
            delivery.options.timeout = values::duration_within(range)(text)?;
            Ok(())
        },
    },
];

/// What an analyzer takes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    scheme: &'static Scheme,
    /// As they were written.
    given: Vec<(&'static str, String)>,
    options: OutletOptions,
    forms: bool,
    shared_key_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    pub(crate) requests: Requests,
    pub(crate) local: Option<Local>,
    /// What is said of TLS, if it is spoken there.
    pub(crate) secured: Option<Secured>,
}

impl Delivery {
    /// With every option at its default.
    pub fn new(scheme: &'static Scheme) -> Delivery {
        let framing = match scheme.word {
            SYSLOG_OCTET => Framing::Counted,
            _ => Framing::LineFeed,
        };
        Delivery {
            scheme,
            given: Vec::new(),
            options: OutletOptions {
                framing,
                ..OutletOptions::default()
            },
            forms: false,
            shared_key_file: None,
            password_file: None,
            requests: Requests::default(),
            local: None,
            secured: None,
        }
    }

    /// Its scheme as it is written, with TLS in it where that is spoken.
    pub fn word(&self) -> String {
        match self.secured {
            Some(_) => word_with_tls(self.scheme.word),
            None => self.scheme.word.to_owned(),
        }
    }

    /// How TLS is begun with it; none: it is not spoken there, or its files were not read yet.
    pub fn link(&self) -> Option<&Arc<SecuredLink>> {
        self.secured.as_ref()?.link()
    }

    /// Files of TLS, which may change while the distributor runs.
    pub fn tls_paths(&self) -> Vec<PathBuf> {
        let secured = self.secured.iter();
        secured.flat_map(Secured::paths).cloned().collect()
    }

    /// Its scheme.
    pub fn scheme(&self) -> &'static Scheme {
        self.scheme
    }

    /// What the analyzer takes.
    pub fn sink(&self) -> Sink {
        self.scheme.sink
    }

    /// Messages say there what they are and where they came from.
    pub fn asks_forms(&self) -> bool {
        self.forms
    }

    /// What its outlet is told.
    pub fn outlet(&self) -> Arc<OutletOptions> {
        Arc::new(self.options.clone())
    }

    /// An emitter of an acked input may not be told of ACKs of this kind.
    pub fn refuses_to_chain(&self) -> bool {
        self.sink().facts().acks.worth() == Worth::Weak && !self.options.allows_weak_acks
    }

    /// Messages may be given a header of syslog.
    fn has_header(&self) -> bool {
        HEADED.contains(&self.scheme.word)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let word = self.scheme.word;
        let mut own = DeliveryOption::all().filter(|option| option.only.contains(&word));
        let Some(option) = own.clone().find(|option| option.key == key) else {
            let keys: Vec<&str> = own.by_ref().map(|option| option.key).collect();
            let written = match self.secured {
                Some(_) => secured::word_with_tls(word),
                None => word.to_owned(),
            };
            return Err(match keys.is_empty() {
                true => format!("option {key:?}: {written}:// has none"),
                false => format!(
                    "option {key:?}: {written}:// has no such option; allowed: {}",
                    keys.join(", ")
                ),
            });
        };
        if self.given.iter().any(|(given, _)| given == &key) {
            return Err(format!("option {key:?} is given twice; allowed: once"));
        }
        (option.set)(self, value).map_err(|why| format!("{key}={value}: {why}"))?;
        self.given.push((option.key, value.to_owned()));
        Ok(())
    }

    /// What stands behind the `?` of a URL that is to have this shape.
    pub(crate) fn set_all(&mut self, query: Option<&str>, shape: &str) -> Result<(), String> {
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("option {pair:?}: {shape}"))?;
            self.set(key, &decoded(value)?)?;
        }
        self.check()
    }

    /// What its requests are made with.
    pub fn request(&self) -> Arc<RequestOptions> {
        Arc::new(self.requests.options.clone())
    }

    /// What it is on this host; none: it is a server.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// Path of a `GET` that says whether it is well; none: that it can be connected to is enough.
    pub fn health(&self) -> Option<&str> {
        self.requests.health.as_deref()
    }

    /// Values that do not go together.
    fn check(&self) -> Result<(), String> {
        if REQUESTS.contains(&self.scheme.word) {
            return self.requests.check(self.scheme.word);
        }
        let options = &self.options;
        if self.password_file.is_some() == options.user.is_empty() {
            return Err("user and password_file: allowed: both, or none".to_owned());
        }
        if !options.user.is_empty() && self.shared_key_file.is_none() {
            return Err("user: allowed: with shared_key_file".to_owned());
        }
        if options.packet_bytes > options.in_flight_bytes {
            return Err(format!(
                "packet_bytes {}: at most in_flight allowed, {}",
                options.packet_bytes, options.in_flight_bytes
            ));
        }
        let (lag, in_flight) = (options.lag_bytes, options.in_flight_bytes);
        let is_lagged = self.sink().facts().acks == Acks::Lagged;
        if is_lagged && u64::from(lag) + u64::from(options.packet_bytes) > u64::from(in_flight) {
            return Err(format!(
                "lag {lag}: with packet_bytes at most in_flight allowed, {in_flight}"
            ));
        }
        Ok(())
    }

    /// Reads the files that it only names, for the analyzer of this id. `host`: where it is, as the operator wrote it.
    /// `key_log`: where the secrets of its connections go.
    ///
    /// # Errors
    /// The option, the path, and what is allowed; never the secret.
    pub(crate) fn resolve(
        &mut self,
        id: &str,
        host: Option<&str>,
        key_log: Option<&KeyLogger>,
        before: Option<&SecuredLink>,
    ) -> Result<(), String> {
        self.requests.resolve(self.scheme.word)?;
        if let Some(secured) = &mut self.secured {
            secured.resolve(id, host, key_log, before)?;
        }
        if let Some(local) = &self.local {
            local.check_host()?;
        }
        if let Some(path) = &self.shared_key_file {
            let key = first_line(path);
            let key = key.map_err(|why| format!("shared_key_file={}: {why}", path.display()))?;
            self.options.shared_key = key.bytes().to_vec();
        }
        if let Some(path) = &self.password_file {
            let password = first_line(path);
            let password =
                password.map_err(|why| format!("password_file={}: {why}", path.display()))?;
            self.options.password = password.bytes().to_vec();
        }
        Ok(())
    }

    /// Behind the place, as they were written.
    pub(crate) fn write_options(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.given.iter().enumerate() {
            let sign = if number == 0 { '?' } else { '&' };
            write!(f, "{sign}{key}={}", encoded(value))?;
        }
        Ok(())
    }
}

pub(crate) fn short(what: &str, text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "allowed: a {what} of 1 to 255 bytes without control characters"
        )),
    }
}

/// The name of a program in a header of syslog (RFC 5424, 6.2.5).
fn app_name(text: &str) -> Result<String, String> {
    let fits = (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match fits {
        true => Ok(text.to_owned()),
        false => Err("allowed: a tag of 1 to 48 printable characters of ASCII".to_owned()),
    }
}

/// Names of facilities, as syslog(3) has them.
const FACILITIES: [&str; 12] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
];

fn facility(text: &str) -> Result<u8, String> {
    let named = FACILITIES.iter().position(|name| *name == text);
    let named = named.and_then(|at| u8::try_from(at).ok());
    let local = text
        .strip_prefix("local")
        .and_then(|digit| digit.parse::<u8>().ok());
    let local = local.filter(|digit| *digit <= 7).map(|digit| 16 + digit);
    let number = text.parse::<u8>().ok().filter(|number| *number <= 23);
    named.or(local).or(number).ok_or_else(|| {
        let names = FACILITIES.join(", ");
        format!("allowed: {names}, local0 to local7, or 0 to 23")
    })
}

#[cfg(test)]
mod tests;
