//! How messages get to an analyzer that the distributor connects to: the scheme of its URL, and options behind it.
//!
//! ```text
//!   forward://10.0.0.2:24224?tag=app&compress=gzip&shared_key_file=/etc/weir/key
//!   SCHEME://HOST[:PORT][/PATH][?option=value&...]        `&` and `%` within a value: %26, %25
//! ```
//!
//! Schemes and options are one table each: flag, file and documents are made of them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use weir_sink::outlet::{Compression, OutletOptions};
use weir_sink::Sink;

use crate::endpoint::{host_and_port, Endpoint};
use crate::input::{decoded, encoded};
use crate::secret::first_line;
use crate::values;

/// A scheme of an analyzer's URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheme {
    /// As it is written, before `://`.
    pub word: &'static str,
    /// What such an analyzer takes.
    pub sink: Sink,
    /// Where none is given.
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
];

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
    set: fn(&mut Delivery, &str) -> Result<(), String>,
}

const OUTLETS: &[&str] = &["forward"];
const FORWARD: &[&str] = &["forward"];
const HTTP: &[&str] = &["http"];

/// All of them.
pub const DELIVERY_OPTIONS: &[DeliveryOption] = &[
    DeliveryOption {
        key: "tag",
        default: "weir",
        help: "Tag of messages that came without one",
        only: FORWARD,
        set: |delivery, text| {
            delivery.options.tag = short("tag", text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "compress",
        default: "none",
        help: "How packets are compressed: none, gzip",
        only: FORWARD,
        set: |delivery, text| {
            delivery.options.compression = match text {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                _ => return Err("allowed: none, gzip".to_owned()),
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
            delivery.shared_key_file = Some(path(text)?);
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
            delivery.password_file = Some(path(text)?);
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
}

impl Delivery {
    /// With every option at its default.
    pub fn new(scheme: &'static Scheme) -> Delivery {
        Delivery {
            scheme,
            given: Vec::new(),
            options: OutletOptions::default(),
            forms: false,
            shared_key_file: None,
            password_file: None,
        }
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

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let word = self.scheme.word;
        let mut own = DELIVERY_OPTIONS
            .iter()
            .filter(|option| option.only.contains(&word));
        let Some(option) = own.clone().find(|option| option.key == key) else {
            let keys: Vec<&str> = own.by_ref().map(|option| option.key).collect();
            return Err(match keys.is_empty() {
                true => format!("option {key:?}: {word}:// has none"),
                false => format!(
                    "option {key:?}: {word}:// has no such option; allowed: {}",
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
    fn set_all(&mut self, query: Option<&str>, shape: &str) -> Result<(), String> {
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("option {pair:?}: {shape}"))?;
            self.set(key, &decoded(value)?)?;
        }
        self.check()
    }

    /// Values that do not go together.
    fn check(&self) -> Result<(), String> {
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
        Ok(())
    }

    /// Reads the files that it only names.
    ///
    /// # Errors
    /// The option, the path, and what is allowed; never the secret.
    pub(crate) fn resolve(&mut self) -> Result<(), String> {
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

/// Where an analyzer is, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its host and port.
    pub endpoint: Endpoint,
    /// How messages get there.
    pub delivery: Delivery,
}

/// Packets of JSON by POST.
impl From<Endpoint> for Place {
    fn from(endpoint: Endpoint) -> Place {
        Place {
            endpoint,
            delivery: Delivery::new(&SCHEMES[0]),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { path, .. } = &self.endpoint;
        let word = self.delivery.scheme.word;
        write!(f, "{word}://{}{path}", self.endpoint.authority())?;
        self.delivery.write_options(f)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let (url, query) = match text.split_once('?') {
                Some((url, query)) => (url, Some(query)),
                None => (text, None),
            };
            let mut place = Place::from(url.parse::<Endpoint>()?);
            let shape = "allowed: http://host:port[/path][?option=value&...]";
            place.delivery.set_all(query, shape)?;
            return Ok(place);
        }
        let (word, rest) = text.split_once("://").ok_or_else(allowed)?;
        let scheme = SCHEMES.iter().find(|scheme| scheme.word == word);
        let Some(scheme) = scheme else {
            return Err(format!("scheme {word:?}: {}", allowed()));
        };
        let shape = format!("allowed: {word}://host[:port][?option=value&...]");
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let place = match scheme.has_path {
            true => place,
            false => place.strip_suffix('/').unwrap_or(place),
        };
        if place.contains('/') && !scheme.has_path {
            return Err(format!("no path, {shape}"));
        }
        if place.contains('@') {
            return Err(format!("no user and no password in the URL, {shape}"));
        }
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let (host, port) = host_and_port(authority, scheme.port).ok_or_else(|| shape.to_owned())?;
        let mut delivery = Delivery::new(scheme);
        delivery.set_all(query, &shape)?;
        Ok(Place {
            endpoint: Endpoint {
                host: host.to_owned(),
                port,
                path: path.trim_end_matches('/').to_owned(),
            },
            delivery,
        })
    }
}

fn allowed() -> String {
    let words = SCHEMES.iter().map(|scheme| format!("{}://", scheme.word));
    let words: Vec<String> = words.collect();
    format!("allowed: host:port behind {}", words.join(" "))
}

fn short(what: &str, text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "allowed: a {what} of 1 to 255 bytes without control characters"
        )),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() {
        true => Err("allowed: the path of a file".to_owned()),
        false => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_its_text_says() {
        for (text, port, shown) in [
            ("forward://a", 24224, "forward://a:24224"),
            ("forward://a:1/", 1, "forward://a:1"),
            (
                "forward://[::1]?tag=x%26y",
                24224,
                "forward://[::1]:24224?tag=x%26y",
            ),
            ("http://a/p/", 80, "http://a:80/p"),
            ("http://a/p/?forms=1", 80, "http://a:80/p?forms=1"),
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(place.endpoint.port, port);
            assert_eq!(place.to_string(), shown);
            assert_eq!(shown.parse(), Ok(place));
        }
        let place: Place = "forward://a?timeout=2s&packet_bytes=64KiB&compress=gzip"
            .parse()
            .expect("good");
        let outlet = place.delivery.outlet();
        assert_eq!(outlet.timeout, Duration::from_secs(2));
        assert_eq!(outlet.packet_bytes, 64 << 10);
        assert_eq!(outlet.compression, Compression::Gzip);
        let asks = |text: &str| text.parse::<Place>().expect("good").delivery.asks_forms();
        assert!(asks("http://a?forms=1") && !asks("http://a"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (bad, why) in [
            ("fluent://a", "scheme \"fluent\": allowed"),
            ("a:1", "allowed: host:port behind"),
            ("forward://", "host[:port]"),
            ("forward://a/p", "no path"),
            ("forward://u:p@a", "no user and no password"),
            ("forward://a:0", "host[:port]"),
            ("forward://a?", "option \"\": allowed"),
            (
                "forward://a?tga=x",
                "no such option; allowed: tag, compress",
            ),
            ("forward://a?tag=x&tag=y", "given twice"),
            ("forward://a?tag=", "a tag of 1 to 255"),
            ("forward://a?compress=zstd", "allowed: none, gzip"),
            ("forward://a?timeout=0s", "timeout=0s"),
            ("forward://a?user=u", "both, or none"),
            (
                "forward://a?user=u&password_file=/x",
                "with shared_key_file",
            ),
            (
                "forward://a?packet_bytes=2MiB&in_flight=1MiB",
                "at most in_flight",
            ),
            (
                "http://a?tag=x",
                "option \"tag\": http:// has no such option; allowed: forms",
            ),
            ("http://a?forms=2", "forms=2: allowed: 0, 1"),
            ("http://a?x", "option \"x\": allowed: http://host:port"),
            ("https://a", "https"),
        ] {
            let error = bad.parse::<Place>().expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn options_belong_to_schemes_that_exist() {
        for option in DELIVERY_OPTIONS {
            let known = |word: &&str| SCHEMES.iter().any(|scheme| scheme.word == *word);
            assert!(option.only.iter().all(known), "{}", option.key);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let text = "forward://a?shared_key_file=/nowhere/key";
        let mut place: Place = text.parse().expect("good");
        let error = place.delivery.resolve().expect_err("no such file");
        assert!(
            error.starts_with("shared_key_file=/nowhere/key: "),
            "{error}"
        );
    }
}
