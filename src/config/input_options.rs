//! The options of an input: one line each. Keys of `[[inputs]]`, options of `--input`, the schema and the table in
//! docs/INPUTS.md are made of it.

use std::time::Duration;

use ipnet::IpNet;
use weir_source::AckMode;

use crate::credential::secret_path;
use crate::input::{Framing, Input, Transport, INPUT_NAME_BYTES_MAX};
use crate::tls::{clients_of, clients_word, names, TlsMode, TLS_CLIENTS, TLS_MODES};
use crate::{flags, values};

/// What an option's value is, in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Text of any kind.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Bytes, with or without a unit.
    Bytes,
    /// A time with a unit.
    Time,
    /// A whole number.
    Whole,
    /// True or false.
    Boolean,
    /// A path; one in a file is relative to the file.
    Path,
    /// A list of networks.
    Networks,
    /// A list of texts.
    Texts,
}

/// An option of an input.
#[derive(Debug)]
pub struct InputOption {
    /// Its name, in file and flag.
    pub key: &'static str,
    /// What its value is.
    pub kind: OptionKind,
    /// Its default, in words.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Protocols that have it; empty: all.
    pub only: &'static [&'static str],
    /// Gives it to an input.
    pub(crate) set: fn(&mut Input, &str) -> Result<(), String>,
    /// Of an input; none at the default.
    pub(crate) get: fn(&Input) -> Option<String>,
}

const TEXT: &[&str] = &["syslog", "lines"];
const JSON: &[&str] = &["ndjson", "lumberjack", "forward"];
const HELD: &[&str] = &["acked", "forward", "lumberjack", "relp"];
const PACKED: &[&str] = &["syslog", "forward", "lumberjack"];
const DATAGRAMS: &[&str] = &["syslog"];
const FORWARD: &[&str] = &["forward"];
/// Largest unit that may be held, in bytes.
const UNIT_BYTES_MAX: u64 = 64 << 20;
/// Most bytes that a block may be allowed to unpack to.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// Most memory that may be asked for datagrams that wait, in bytes: SO_RCVBUF is an int, which the kernel doubles.
const RECEIVE_BUFFER_BYTES_MAX: u64 = 1 << 30;

/// All of them.
pub const INPUT_OPTIONS: &[InputOption] = &[
    InputOption {
        key: "name",
        kind: OptionKind::Text,
        default: "PROTOCOL-PORT",
        help: "What it is called in logs and metrics",
        only: &[],
        set: |input, text| {
            input.own_name = Some(name(text)?);
            Ok(())
        },
        get: |input| input.own_name.clone(),
    },
    InputOption {
        key: "ack",
        kind: OptionKind::Word(&["received", "acked"]),
        default: "acked",
        help: "When an emitter gets the ack of its protocol: when the distributor has routed its messages, or when analyzers have ACKed them",
        only: &[],
        set: |input, text| {
            input.ack = Some(match text {
                "received" => AckMode::Received,
                "acked" => AckMode::Acked,
                _ => return Err("allowed: received, acked".to_owned()),
            });
            Ok(())
        },
        get: |input| {
            let word = match input.ack? {
                AckMode::Received => "received",
                AckMode::Acked => "acked",
            };
            Some(word.to_owned())
        },
    },
    InputOption {
        key: "allow",
        kind: OptionKind::Networks,
        default: "those of --allow-emitters",
        help: "Networks that may connect",
        only: &[],
        set: |input, text| {
            input.allow = networks(text)?;
            Ok(())
        },
        get: |input| shown(&input.allow),
    },
    InputOption {
        key: "tls",
        kind: OptionKind::Word(TLS_MODES),
        default: "off",
        help: "Whether TLS is spoken there: optional lets in who does not speak it as well. With --tls-cert and --tls-key",
        only: &[],
        set: |input, text| {
            let mode = TlsMode::of(text);
            input.tls = mode.ok_or_else(|| format!("allowed: {}", TLS_MODES.join(", ")))?;
            Ok(())
        },
        get: |input| (input.tls != TlsMode::Off).then(|| input.tls.as_str().to_owned()),
    },
    InputOption {
        key: "tls_cert",
        kind: OptionKind::Path,
        default: "those of --tls-cert",
        help: "With tls: the certificate that is shown there, and behind it those of the CAs that signed it, PEM; with tls_key",
        only: &[],
        set: |input, text| {
            input.own_tls.cert = Some(secret_path(text)?);
            Ok(())
        },
        get: |input| shown_path(input.own_tls.cert.as_ref()),
    },
    InputOption {
        key: "tls_key",
        kind: OptionKind::Path,
        default: "those of --tls-key",
        help: "With tls: its private key, PEM, without a passphrase",
        only: &[],
        set: |input, text| {
            input.own_tls.key = Some(secret_path(text)?);
            Ok(())
        },
        get: |input| shown_path(input.own_tls.key.as_ref()),
    },
    InputOption {
        key: "tls_client_ca",
        kind: OptionKind::Path,
        default: "those of --tls-client-ca",
        help: "With tls: CAs whose certificates its clients must show, PEM",
        only: &[],
        set: |input, text| {
            input.own_tls.client_ca = Some(secret_path(text)?);
            Ok(())
        },
        get: |input| shown_path(input.own_tls.client_ca.as_ref()),
    },
    InputOption {
        key: "tls_clients",
        kind: OptionKind::Word(TLS_CLIENTS),
        default: "auto: required with tls_client_ca, else as --tls-clients",
        help: "With tls: whether its clients must show a certificate: off, optional (who shows none is let in), required",
        only: &[],
        set: |input, text| {
            if !TLS_CLIENTS.contains(&text) {
                return Err(format!("allowed: {}", TLS_CLIENTS.join(", ")));
            }
            input.own_tls.clients = clients_of(text);
            Ok(())
        },
        get: |input| input.own_tls.clients.map(|it| clients_word(Some(it)).to_owned()),
    },
    InputOption {
        key: "tls_names",
        kind: OptionKind::Texts,
        default: "those of --tls-names",
        help: "With tls: whose certificates let a client in there, as --tls-names has them",
        only: &[],
        set: |input, text| {
            input.own_tls.names = Some(names(text)?);
            Ok(())
        },
        get: |input| {
            let names = input.own_tls.names.as_ref()?;
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Some(names.join(","))
        },
    },
    InputOption {
        key: "transport",
        kind: OptionKind::Word(&["tcp", "udp"]),
        default: "tcp",
        help: "How its messages come: over connections, or one in each datagram. What the kernel drops of datagrams is counted as lost before receipt",
        only: DATAGRAMS,
        set: |input, text| {
            input.transport = match text {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => return Err("allowed: tcp, udp".to_owned()),
            };
            Ok(())
        },
        get: |input| input.is_udp().then(|| "udp".to_owned()),
    },
    InputOption {
        key: "receive_buffer",
        kind: OptionKind::Bytes,
        default: "4MiB",
        help: "With transport = \"udp\": memory of the kernel for datagrams that wait, for each shard (SO_RCVBUF). Without CAP_NET_ADMIN the kernel gives at most net.core.rmem_max",
        only: DATAGRAMS,
        set: |input, text| {
            let bytes = values::bytes_within(4 << 10..=RECEIVE_BUFFER_BYTES_MAX)(text)?;
            input.receive_buffer_bytes = Some(bytes);
            Ok(())
        },
        get: |input| {
            let bytes = input.receive_buffer_bytes?;
            Some(values::show_bytes(u64::from(bytes)))
        },
    },
    InputOption {
        key: "proxy_from",
        kind: OptionKind::Networks,
        default: "none",
        help: "Networks of proxies that begin each connection with a PROXY header (v1 or v2); limits and logs then see the address in it. Others may not connect",
        only: &[],
        set: |input, text| {
            input.proxy_from = networks(text)?;
            Ok(())
        },
        get: |input| shown(&input.proxy_from),
    },
    InputOption {
        key: "max_connections",
        kind: OptionKind::Whole,
        default: "what --max-connections leaves",
        help: "Most connections, all shards together",
        only: &[],
        set: |input, text| {
            input.connections_max = values::number(1..=usize::MAX)(text)?;
            Ok(())
        },
        get: |input| (input.connections_max > 0).then(|| input.connections_max.to_string()),
    },
    InputOption {
        key: "unit_bytes",
        kind: OptionKind::Bytes,
        default: "16MiB",
        help: "Largest ack unit (a chunk, a window) that is held and checked whole before its first message is routed",
        only: HELD,
        set: |input, text| {
            input.unit_bytes_max = values::bytes_within(4 << 10..=UNIT_BYTES_MAX)(text)?;
            Ok(())
        },
        get: |input| bytes_unless(input.unit_bytes_max, 16 << 20),
    },
    InputOption {
        key: "unpacked_bytes",
        kind: OptionKind::Bytes,
        default: "16MiB",
        help: "Most bytes that one compressed block may unpack to",
        only: PACKED,
        set: |input, text| {
            input.unpacked_bytes_max = values::bytes_within(4 << 10..=UNPACKED_BYTES_MAX)(text)?;
            Ok(())
        },
        get: |input| bytes_unless(input.unpacked_bytes_max, 16 << 20),
    },
    InputOption {
        key: "window_events",
        kind: OptionKind::Whole,
        default: "10000",
        help: "Most events of a Lumberjack window; Beats send 2048 (bulk_max_size)",
        only: &["lumberjack"],
        set: |input, text| {
            input.window_events_max = values::number(1..=1_000_000_u32)(text)?;
            Ok(())
        },
        get: |input| {
            let events = input.window_events_max;
            (events != 10_000).then(|| events.to_string())
        },
    },
    InputOption {
        key: "deadline",
        kind: OptionKind::Time,
        default: "of the protocol",
        help: "How long its senders wait for an ack before they send again. When analyzers would take longer than half of it, its connections are not read from",
        only: &[],
        set: |input, text| {
            let range = Duration::from_millis(100)..=Duration::from_secs(3600);
            input.deadline = Some(values::duration_within(range)(text)?);
            Ok(())
        },
        get: |input| input.deadline.map(values::show_duration),
    },
    InputOption {
        key: "framing",
        kind: OptionKind::Word(&["auto", "lf", "nul", "counted"]),
        default: "auto",
        help: "What ends a message: LF, NUL, or a count of bytes before it; auto: told by each message",
        only: TEXT,
        set: |input, text| {
            input.framing = match text {
                "auto" => None,
                "lf" => Some(Framing::Lf),
                "nul" => Some(Framing::Nul),
                "counted" => Some(Framing::Counted),
                _ => return Err("allowed: auto, lf, nul, counted".to_owned()),
            };
            Ok(())
        },
        get: |input| {
            let word = match input.framing? {
                Framing::Lf => "lf",
                Framing::Nul => "nul",
                Framing::Counted => "counted",
            };
            Some(word.to_owned())
        },
    },
    InputOption {
        key: "continuation",
        kind: OptionKind::Word(&["split", "join"]),
        default: "split",
        help: "What a line is that begins without a PRI (syslog) or with white space (others): a message of its own, or the rest of the one before",
        only: TEXT,
        set: |input, text| {
            input.joins_continuations = match text {
                "split" => false,
                "join" => true,
                _ => return Err("allowed: split, join".to_owned()),
            };
            Ok(())
        },
        get: |input| input.joins_continuations.then(|| "join".to_owned()),
    },
    InputOption {
        key: "find_level",
        kind: OptionKind::Boolean,
        default: "true",
        help: "Look for the severity at the top level of JSON and of records (level, severity, log.level, loglevel, severity_text)",
        only: JSON,
        set: |input, text| {
            input.finds_level = values::boolean(text)?;
            Ok(())
        },
        get: |input| (!input.finds_level).then(|| "false".to_owned()),
    },
    InputOption {
        key: "shared_key_file",
        kind: OptionKind::Path,
        default: "none",
        help: "File whose first line is the shared key of Forward; such an input greets, and speaks nothing else",
        only: FORWARD,
        set: |input, text| {
            input.shared_key_file = Some(secret_path(text)?);
            Ok(())
        },
        get: |input| input.shared_key_file.as_ref().map(|path| path.display().to_string()),
    },
    InputOption {
        key: "users_file",
        kind: OptionKind::Path,
        default: "none",
        help: "File with a user on each line, NAME:PASSWORD, of whom each connection must be one; with shared_key_file",
        only: FORWARD,
        set: |input, text| {
            input.users_file = Some(secret_path(text)?);
            Ok(())
        },
        get: |input| input.users_file.as_ref().map(|path| path.display().to_string()),
    },
];

/// Ports that have names already: in metrics, and in the settings of TLS.
const OTHER_PORTS: [&str; 4] = ["emitters", "analyzers", "http", "admin"];

fn name(text: &str) -> Result<String, String> {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=INPUT_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_sign);
    match is_name && !OTHER_PORTS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "allowed: 1 to {INPUT_NAME_BYTES_MAX} letters, digits, and - _ . (edge-1), and not {}, which other ports are called",
            OTHER_PORTS.join(", ")
        )),
    }
}

fn shown_path(path: Option<&std::path::PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for one in text.split(',') {
        networks.push(flags::network(one)?);
    }
    crate::AllowList::new(networks.clone())?;
    Ok(networks)
}

fn shown(networks: &[IpNet]) -> Option<String> {
    let texts: Vec<String> = networks.iter().map(IpNet::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn bytes_unless(bytes: u32, default: u32) -> Option<String> {
    (bytes != default).then(|| values::show_bytes(u64::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_their_defaults_are_not_written() {
        let input = Input::new(crate::Speaks::Any, ([127, 0, 0, 1], 0).into());
        assert_eq!(input.options().count(), 0);
        let mut keys: Vec<&str> = INPUT_OPTIONS.iter().map(|option| option.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), INPUT_OPTIONS.len());
    }

    #[test]
    fn what_is_no_value_is_refused_with_what_is_allowed() {
        for option in INPUT_OPTIONS {
            let mut input = Input::new(crate::Speaks::Any, ([127, 0, 0, 1], 0).into());
            let refused = (option.set)(&mut input, "");
            let why = refused.expect_err(option.key);
            assert!(why.contains("allowed: "), "{}: {why}", option.key);
            if let OptionKind::Word(words) = option.kind {
                for word in words {
                    assert_eq!((option.set)(&mut input, word), Ok(()), "{}", option.key);
                }
            }
        }
    }
}
