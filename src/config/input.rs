//! An input: one more place where emitters connect, for what others speak. In `weir.toml` a table `[[inputs]]`, as a flag
//! one text:
//!
//! ```text
//!   --input syslog@0.0.0.0:514
//!   --input 'forward@0.0.0.0:24224?ack=received&allow=10.0.0.0/8,fd00::/8'
//!           PROTOCOL[,PROTOCOL]@ADDR[?option=value&...]        `&` and `%` within a value: %26, %25
//!   --any 0.0.0.0:5000      the same as --input any@0.0.0.0:5000
//! ```
//!
//! The options are one table, [`crate::input_options`]: file, flag, schema and documents are made of it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use weir_source::{AckMode, Answers, Protocol};

use crate::input_options::{InputOption, INPUT_OPTIONS};
use crate::{values, OwnTls, Secret, TlsMode};

/// Most inputs of a distributor: each shard listens on each, and each has series of its own in `/metrics`.
pub const INPUTS_MAX: usize = 32;
/// Longest name of an input, in bytes.
pub const INPUT_NAME_BYTES_MAX: usize = 64;
/// What is asked of the kernel for datagrams that wait on each shard unless an input says otherwise: some 5,000 messages of
/// syslog, each of which counts with the kernel's own record.
pub const RECEIVE_BUFFER_BYTES: u32 = 4 << 20;
/// The word for all protocols that tell themselves apart by their first bytes.
pub const ANY: &str = "any";

/// What an input speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// These; at least one, each once.
    Only(Vec<Protocol>),
    /// All that tell themselves apart by their first bytes.
    Any,
}

/// One place where emitters connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it is called; none: made of protocol and port, see [`Input::name`].
    pub(crate) own_name: Option<String>,
    /// What is spoken there.
    pub speaks: Speaks,
    /// Where emitters connect.
    pub listen: SocketAddr,
    /// When they get acks; none: as analyzers ACK, where the protocol has acks.
    pub ack: Option<AckMode>,
    /// Networks that may connect; empty: those of `--allow-emitters`.
    pub allow: Vec<IpNet>,
    /// Networks of proxies that begin each connection with a PROXY header; empty: there is none.
    pub proxy_from: Vec<IpNet>,
    /// Most connections, all shards together; 0: what `--max-connections` leaves.
    pub connections_max: usize,
    /// Largest ack unit in bytes that is held and checked whole before its first message is routed.
    pub unit_bytes_max: u32,
    /// Most bytes that one compressed block may unpack to.
    pub unpacked_bytes_max: u32,
    /// Most events of a Lumberjack window.
    pub window_events_max: u32,
    /// How long its senders wait for an ack.
    pub deadline: Option<Duration>,
    /// How messages of a stream of text are told apart; none: by looking at each.
    pub framing: Option<Framing>,
    /// Lines that begin with white space belong to the message before.
    pub joins_continuations: bool,
    /// The severity is looked for in JSON.
    pub finds_level: bool,
    /// How its messages come.
    pub transport: Transport,
    /// Whether TLS is spoken there.
    pub tls: TlsMode,
    /// What it says of certificates itself.
    pub own_tls: OwnTls,
    /// What is asked of the kernel for datagrams that wait, in bytes; none: [`RECEIVE_BUFFER_BYTES`].
    pub receive_buffer_bytes: Option<u32>,
    /// File with the shared key of Forward.
    pub shared_key_file: Option<PathBuf>,
    /// File with users of Forward and their passwords.
    pub users_file: Option<PathBuf>,
    /// What these files have, once they were read.
    pub secrets: Secrets,
}

/// How messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Over connections.
    #[default]
    Tcp,
    /// One in each datagram.
    Udp,
}

/// How messages of a stream of text are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By LF.
    Lf,
    /// By NUL.
    Nul,
    /// A count of bytes stands before each.
    Counted,
}

/// What the files of an input have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Of `shared_key_file`.
    pub shared_key: Option<Secret>,
    /// Of `users_file`.
    pub users: Vec<(String, Secret)>,
}

impl Input {
    /// With every option at its default.
    pub fn new(speaks: Speaks, listen: SocketAddr) -> Input {
        Input {
            own_name: None,
            speaks,
            listen,
            ack: None,
            allow: Vec::new(),
            proxy_from: Vec::new(),
            connections_max: 0,
            unit_bytes_max: 16 << 20,
            unpacked_bytes_max: 16 << 20,
            window_events_max: 10_000,
            deadline: None,
            framing: None,
            joins_continuations: false,
            finds_level: true,
            transport: Transport::Tcp,
            tls: TlsMode::Off,
            own_tls: OwnTls::default(),
            receive_buffer_bytes: None,
            shared_key_file: None,
            users_file: None,
            secrets: Secrets::default(),
        }
    }

    /// What it is called, in logs and metrics.
    pub fn name(&self) -> String {
        match (&self.own_name, &self.speaks) {
            (Some(name), _) => name.clone(),
            (None, Speaks::Any) => format!("{ANY}-{}", self.listen.port()),
            (None, Speaks::Only(protocols)) => {
                let first = protocols.first().map_or("", |first| first.as_str());
                // 514 is often both, and both have names.
                let udp = if self.is_udp() { "-udp" } else { "" };
                format!("{first}{udp}-{}", self.listen.port())
            }
        }
    }

    /// Its messages come in datagrams.
    pub fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }

    /// What is asked of the kernel for datagrams that wait on each shard, in bytes.
    pub fn receive_buffer_bytes(&self) -> u32 {
        self.receive_buffer_bytes.unwrap_or(RECEIVE_BUFFER_BYTES)
    }

    /// All that it speaks, in the order in which first bytes are compared.
    pub fn protocols(&self) -> Vec<Protocol> {
        match &self.speaks {
            Speaks::Only(protocols) => protocols.clone(),
            Speaks::Any => Protocol::ALL.to_vec(),
        }
    }

    /// Whether it speaks one of these, by their names.
    pub fn speaks_one_of(&self, names: &[&str]) -> bool {
        let mut all = self.protocols().into_iter();
        all.any(|protocol| names.contains(&protocol.as_str()))
    }

    /// Some of its emitters get acks.
    pub fn has_acks(&self) -> bool {
        let mut all = self.protocols().into_iter();
        all.any(|protocol| protocol.answers() != Answers::Never)
    }

    /// When they get them.
    pub fn ack_mode(&self) -> AckMode {
        self.ack.unwrap_or(AckMode::Acked)
    }

    /// Gives an option its value.
    ///
    /// # Errors
    /// What is allowed, or which options there are.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match INPUT_OPTIONS.iter().find(|option| option.key == key) {
            Some(option) => (option.set)(self, value),
            None => {
                let keys: Vec<&str> = INPUT_OPTIONS.iter().map(|option| option.key).collect();
                Err(format!("no such option; allowed: {}", keys.join(", ")))
            }
        }
    }

    /// Options that are not at their defaults, with their values.
    pub fn options(&self) -> impl Iterator<Item = (&'static InputOption, String)> + '_ {
        let given = |option: &'static InputOption| Some((option, (option.get)(self)?));
        INPUT_OPTIONS.iter().filter_map(given)
    }
}

/// Names of protocols with commas between them, or `any`.
impl FromStr for Speaks {
    type Err = String;

    fn from_str(text: &str) -> Result<Speaks, String> {
        if text == ANY {
            return Ok(Speaks::Any);
        }
        let mut protocols = Vec::new();
        for word in text.split(',') {
            let known = Protocol::ALL.iter().find(|known| known.as_str() == word);
            let Some(protocol) = known else {
                return Err(format!("protocol {word:?}: {}", allowed_protocols()));
            };
            if protocols.contains(protocol) {
                return Err(format!("protocol {word:?} is named twice; allowed: once"));
            }
            protocols.push(*protocol);
        }
        Ok(Speaks::Only(protocols))
    }
}

fn allowed_protocols() -> String {
    let words: Vec<&str> = Protocol::ALL.iter().map(|known| known.as_str()).collect();
    format!("allowed: {}, or {ANY}", words.join(", "))
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speaks::Any => f.write_str(ANY),
            Speaks::Only(protocols) => {
                let words: Vec<&str> = protocols.iter().map(|one| one.as_str()).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Input, String> {
        let allowed = || {
            "allowed: PROTOCOL@ADDR, and options behind ? (syslog@0.0.0.0:514?allow=10.0.0.0/8)"
                .to_owned()
        };
        let (place, options) = match text.split_once('?') {
            Some((place, options)) => (place, Some(options)),
            None => (text, None),
        };
        let (speaks, listen) = place.split_once('@').ok_or_else(allowed)?;
        let speaks = speaks.parse()?;
        let listen = values::address(listen).map_err(|why| format!("{listen:?}: {why}"))?;
        let mut input = Input::new(speaks, listen);
        let mut seen: Vec<&str> = Vec::new();
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| format!("{option:?}: allowed: option=value"))?;
            if seen.contains(&key) {
                return Err(format!("{key}: given twice; allowed: once"));
            }
            seen.push(key);
            let value = decoded(value).map_err(|why| format!("{key}={value}: {why}"))?;
            let set = input.set(key, &value);
            set.map_err(|why| format!("{key}={}: {why}", value.escape_debug()))?;
        }
        input.check()?;
        Ok(input)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.speaks, self.listen)?;
        for (nth, (option, value)) in self.options().enumerate() {
            let sign = if nth == 0 { '?' } else { '&' };
            let value = encoded(&value);
            write!(f, "{sign}{}={value}", option.key)?;
        }
        Ok(())
    }
}

/// A value as it stands behind an option's `=`.
pub(crate) fn encoded(value: &str) -> String {
    value.replace('%', "%25").replace('&', "%26")
}

/// A value with `%26` and its like as the signs that they stand for.
pub(crate) fn decoded(value: &str) -> Result<String, String> {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte else {
            return Err("allowed: % with two hexadecimal digits behind it (%26 for &)".to_owned());
        };
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "allowed: UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_what_its_text_says() {
        for text in [
            "frames@0.0.0.0:8090",
            "frames,acked@[::1]:8090?ack=received",
            "any@127.0.0.1:0?name=edge&allow=10.0.0.0/8,fd00::/8&max_connections=7",
            "acked@127.0.0.1:1?unit_bytes=1MiB&deadline=30s",
            "syslog@0.0.0.0:514?transport=udp&receive_buffer=8MiB",
        ] {
            let input: Input = text.parse().expect(text);
            assert_eq!(input.to_string(), text);
        }
        let input: Input = "acked@127.0.0.1:8090".parse().expect("valid");
        assert_eq!(
            (input.name().as_str(), input.has_acks()),
            ("acked-8090", true)
        );
        let edge: Input = "any@127.0.0.1:1?name=edge".parse().expect("valid");
        assert_eq!(edge.name(), "edge");
        assert!(edge.protocols().len() >= 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (bad, why) in [
            ("", "PROTOCOL@ADDR"),
            ("frames", "PROTOCOL@ADDR"),
            ("smoke@127.0.0.1:1", "protocol \"smoke\": allowed: frames"),
            ("@127.0.0.1:1", "allowed: frames"),
            ("frames,frames@127.0.0.1:1", "named twice"),
            ("frames,any@127.0.0.1:1", "protocol \"any\""),
            ("frames@localhost", "\"localhost\": allowed: "),
            ("frames@127.0.0.1:1?", "allowed: option=value"),
            ("frames@127.0.0.1:1?ack", "allowed: option=value"),
            (
                "frames@127.0.0.1:1?akc=acked",
                "akc=acked: no such option; allowed: name, ack",
            ),
            (
                "acked@127.0.0.1:1?ack=maybe",
                "ack=maybe: allowed: received, acked",
            ),
            ("acked@127.0.0.1:1?ack=acked&ack=acked", "ack: given twice"),
            ("frames@127.0.0.1:1?ack=acked", "frames has no acks"),
            (
                "frames@127.0.0.1:1?allow=lan",
                "allow=lan: allowed: networks",
            ),
            (
                "frames@127.0.0.1:1?proxy_from=lb.example.org",
                "proxy_from=lb.example.org: allowed: networks",
            ),
            (
                "frames@127.0.0.1:1?max_connections=-1",
                "max_connections=-1: allowed",
            ),
            (
                "acked@127.0.0.1:1?unit_bytes=65MiB",
                "unit_bytes=65MiB: allowed: 4KiB to 64MiB",
            ),
            (
                "acked@127.0.0.1:1?deadline=0s",
                "deadline=0s: allowed: 100ms to 1h",
            ),
            (
                "frames@127.0.0.1:1?deadline=1s",
                "deadline: frames has no acks",
            ),
            ("frames@127.0.0.1:1?name=a b", "name=a b: allowed: "),
            (
                "frames@127.0.0.1:1?name=emitters",
                "name=emitters: allowed: ",
            ),
            (
                "frames@127.0.0.1:1?name=admin",
                "not emitters, analyzers, http, admin",
            ),
            (
                "frames@127.0.0.1:1?framing=lf",
                "framing: frames has none; allowed",
            ),
            (
                "syslog@127.0.0.1:1?transport=sctp",
                "transport=sctp: allowed: tcp, udp",
            ),
            (
                "syslog@127.0.0.1:1?receive_buffer=1MiB",
                "receive_buffer: allowed: with transport=udp",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&receive_buffer=1KiB",
                "receive_buffer=1KiB: allowed: 4KiB to 1GiB",
            ),
            (
                "relp@127.0.0.1:1?transport=udp",
                "relp has none; allowed: with syslog",
            ),
            (
                "any@127.0.0.1:1?transport=udp",
                "protocol any is told by the first bytes of a connection",
            ),
            (
                "syslog,relp@127.0.0.1:1?transport=udp",
                "protocol syslog,relp is told by the first bytes of a connection",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&ack=acked",
                "ack: nothing is ever answered to a datagram; allowed: without it",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&ack=received",
                "ack: nothing is ever answered to a datagram",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&proxy_from=10.0.0.1",
                "proxy_from: a datagram has no PROXY header",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&framing=lf",
                "framing: a datagram is one message",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&continuation=join",
                "continuation: a datagram is one message",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&max_connections=7",
                "max_connections: datagrams have no connections",
            ),
            (
                "syslog@127.0.0.1:1?transport=udp&unpacked_bytes=1MiB",
                "unpacked_bytes: a datagram unpacks to 64KiB at most",
            ),
            ("frames@127.0.0.1:1?name=%4", "allowed: % with two"),
        ] {
            let error = bad.parse::<Input>().expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
            assert!(error.contains("allowed"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_input_of_datagrams_may_share_its_port_with_one_of_connections() {
        let names = ["syslog@[::]:514", "syslog@[::]:514?transport=udp"].map(|text| {
            let input: Input = text.parse().expect(text);
            input.name()
        });
        assert_eq!(names, ["syslog-514", "syslog-udp-514"]);
    }

    #[test]
    fn a_path_may_have_any_sign() {
        let text = "forward@127.0.0.1:24224?shared_key_file=/a%26b%25/k?=y";
        // Until the protocol is spoken, through the option alone.
        let mut input = Input::new(Speaks::Any, "127.0.0.1:1".parse().expect("it"));
        let (_, value) = text.split_once("shared_key_file=").expect("there");
        let value = decoded(value).expect("well written");
        input.set("shared_key_file", &value).expect("a path");
        assert!(input
            .to_string()
            .ends_with("?shared_key_file=/a%26b%25/k?=y"));
    }
}
