//! Options of analyzers that take requests by HTTP: where a request goes, what stands in its head, what its body is.
//!
//! Secrets are files that an option names. They become header lines, which nothing shows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use weir_sink::request::{Encoding, RequestOptions};

use crate::credential::secret_path;
use crate::delivery::{short, DeliveryOption};
use crate::secret::{first_line, lines};
use crate::values;

/// Longest path of a request, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Most header lines of a file.
const HEADERS_MAX: usize = 32;

/// Schemes whose messages go as requests.
pub const REQUESTS: &[&str] = &[
    "http+ndjson",
    "http+json",
    "es+http",
    "otlp+http",
    "loki+http",
    "hec+http",
];
const PLAIN: &[&str] = &["http+ndjson", "http+json"];
const TOKENS: &[&str] = &[
    "http+ndjson",
    "http+json",
    "otlp+http",
    "loki+http",
    "hec+http",
];
const USERS: &[&str] = &[
    "http+ndjson",
    "http+json",
    "es+http",
    "otlp+http",
    "loki+http",
];
const ES: &[&str] = &["es+http"];
const ES_HEC: &[&str] = &["es+http", "hec+http"];
const OTLP: &[&str] = &["otlp+http"];
const LOKI: &[&str] = &["loki+http"];
const HEC: &[&str] = &["hec+http"];

/// What a URL says of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) options: RequestOptions,
    pub(crate) health: Option<String>,
    query: String,
    user: String,
    password_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
    headers_file: Option<PathBuf>,
    has_ack_timeout: bool,
}

/// Of requests.
pub const REQUEST_OPTIONS: &[DeliveryOption] = &[
    DeliveryOption {
        key: "index",
        default: "logs-weir-default; HEC: the token's own",
        help: "Data stream or index that messages go to",
        only: ES_HEC,
        set: |delivery, text| {
            delivery.requests.options.index = index(text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "id",
        default: "on",
        help: "Each document has its message's identity as `_id`, so that one that comes twice is one: on, off",
        only: ES,
        set: |delivery, text| {
            delivery.requests.options.has_ids = match text {
                "on" => true,
                "off" => false,
                _ => return Err("allowed: on, off".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "encoding",
        default: "protobuf",
        help: "How OTLP is written: protobuf, json",
        only: OTLP,
        set: |delivery, text| {
            delivery.requests.options.encoding = match text {
                "protobuf" => Encoding::Protobuf,
                "json" => Encoding::Json,
                _ => return Err("allowed: protobuf, json".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "labels",
        default: "job=weir",
        help: "Labels of the stream: name=value, with commas between them",
        only: LOKI,
        set: |delivery, text| {
            delivery.requests.options.labels = labels(text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "level",
        default: "label",
        help: "Where the level goes: label, none",
        only: LOKI,
        set: |delivery, text| {
            delivery.requests.options.level_label = match text {
                "label" => true,
                "none" => false,
                _ => return Err("allowed: label, none".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "sourcetype",
        default: "the token's own",
        help: "Kind of source of each event",
        only: HEC,
        set: |delivery, text| {
            delivery.requests.options.sourcetype = short("sourcetype", text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "acks",
        default: "none",
        help: "What counts as the ACK: none (the answer), indexer (the indexers' own acknowledgement)",
        only: HEC,
        set: |delivery, text| {
            delivery.requests.options.indexer_acks = match text {
                "none" => false,
                "indexer" => true,
                _ => return Err("allowed: none, indexer".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "ack_timeout",
        default: "60s",
        help: "How long indexers may take to acknowledge a request; then it is sent again",
        only: HEC,
        set: |delivery, text| {
            let range = Duration::from_secs(2)..=Duration::from_secs(3600);
            delivery.requests.options.ack_timeout = values::duration_within(range)(text)?;
            delivery.requests.has_ack_timeout = true;
            Ok(())
        },
    },
    DeliveryOption {
        key: "method",
        default: "POST",
        help: "Method of the request: POST, PUT",
        only: PLAIN,
        set: |delivery, text| {
            delivery.requests.options.method = match text {
                "POST" => "POST",
                "PUT" => "PUT",
                _ => return Err("allowed: POST, PUT".to_owned()),
            };
            Ok(())
        },
    },
    DeliveryOption {
        key: "content_type",
        default: "application/x-ndjson, application/json",
        help: "Content type of the request",
        only: PLAIN,
        set: |delivery, text| {
            delivery.requests.options.content_type = short("content type", text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "query",
        default: "none",
        help: "Query of the request's target, without its `?`",
        only: REQUESTS,
        set: |delivery, text| {
            delivery.requests.query = visible("query", text)?;
            Ok(())
        },
    },
    DeliveryOption {
        key: "token_file",
        default: "none",
        help: "File whose first line is a token: `Authorization: Bearer`, for Splunk `Splunk`",
        only: TOKENS,
        set: |delivery, text| {
            delivery.requests.token_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "api_key_file",
        default: "none",
        help: "File whose first line is an API key, encoded as Elasticsearch gives it: `Authorization: ApiKey`",
        only: ES,
        set: |delivery, text| {
            delivery.requests.api_key_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "user",
        default: "none",
        help: "Name of a user: `Authorization: Basic`",
        only: USERS,
        set: |delivery, text| {
            let name = short("name", text)?;
            if name.contains(':') {
                return Err("allowed: a name without a colon".to_owned());
            }
            delivery.requests.user = name;
            Ok(())
        },
    },
    DeliveryOption {
        key: "password_file",
        default: "none",
        help: "File whose first line is the user's password",
        only: USERS,
        set: |delivery, text| {
            delivery.requests.password_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "headers_file",
        default: "none",
        help: "File with more headers, one `Name: value` a line, secrets among them",
        only: REQUESTS,
        set: |delivery, text| {
            delivery.requests.headers_file = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "health",
        default: "none: a TCP connect",
        help: "Path of a GET that answers 2xx when the server is well",
        only: REQUESTS,
        set: |delivery, text| {
            if !text.starts_with('/') {
                return Err("allowed: a path, from its / on".to_owned());
            }
            delivery.requests.health = Some(visible("path", text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "body_bytes",
        default: "1MiB",
        help: "Most bytes of a request's body; a single message may have more",
        only: REQUESTS,
        set: |delivery, text| {
            let bytes = values::bytes_within::<usize>(1 << 10..=64 << 20)(text)?;
            delivery.requests.options.body_bytes = bytes;
            Ok(())
        },
    },
    DeliveryOption {
        key: "body_messages",
        default: "5000",
        help: "Most messages of a request; a packet that came as one may have more",
        only: REQUESTS,
        set: |delivery, text| {
            let messages = values::number(1..=65_536_u64)(text)?;
            delivery.requests.options.body_messages = messages;
            Ok(())
        },
    },
];

impl Requests {
    /// Where requests go: `path` of the URL, or the scheme's own.
    pub(crate) fn set_path(&mut self, word: &str, path: &str) -> Result<(), String> {
        let base = path.trim_end_matches('/');
        let own = |own: &str| match base.is_empty() {
            true => own.to_owned(),
            false => path.to_owned(),
        };
        let mut target = match word {
            "es+http" => {
                let index = match self.options.index.as_str() {
                    "" => "logs-weir-default",
                    index => index,
                };
                // The answer is long; these are its parts that are read.
                format!("{base}/{index}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason")
            }
            "otlp+http" => own("/v1/logs"),
            "loki+http" => own("/loki/api/v1/push"),
            "hec+http" => own("/services/collector/event"),
            _ => own("/"),
        };
        if !self.query.is_empty() {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&self.query);
        }
        // Without an @ the end of an id is where the last one is.
        let target = visible("path", &target)?;
        if path.contains(['@', '#']) {
            return Err("path: allowed: no @ and no # (%40, %23)".to_owned());
        }
        self.options.path = target;
        Ok(())
    }

    /// Values that do not go together.
    pub(crate) fn check(&self, word: &str) -> Result<(), String> {
        if self.password_file.is_some() == self.user.is_empty() {
            return Err("user and password_file: allowed: both, or none".to_owned());
        }
        let ways = [
            !self.user.is_empty(),
            self.token_file.is_some(),
            self.api_key_file.is_some(),
        ];
        if ways.iter().filter(|is| **is).count() > 1 {
            return Err("user, token_file, api_key_file: allowed: one of them".to_owned());
        }
        if word == "hec+http" && self.token_file.is_none() {
            return Err("token_file: Splunk takes nothing without a token".to_owned());
        }
        if self.has_ack_timeout && !self.options.indexer_acks {
            return Err("ack_timeout: allowed: with acks=indexer".to_owned());
        }
        let has_level = self.options.level_label;
        if has_level && self.options.labels.contains("\"level\":") {
            return Err("labels: level is one already, allowed: with level=none".to_owned());
        }
        Ok(())
    }

    /// Reads the files, and makes header lines of them.
    ///
    /// # Errors
    /// The option, the path, and what is allowed; never the secret.
    pub(crate) fn resolve(&mut self, word: &str) -> Result<(), String> {
        let mut headers = Vec::new();
        let mut authorize = |option: &str, path: &Path, scheme: &str| {
            let secret = read(option, path)?;
            headers.extend_from_slice(format!("Authorization: {scheme} ").as_bytes());
            headers.extend_from_slice(&secret);
            headers.extend_from_slice(b"\r\n");
            Ok::<(), String>(())
        };
        if let Some(path) = &self.token_file {
            let scheme = if word == "hec+http" {
                "Splunk"
            } else {
                "Bearer"
            };
            authorize("token_file", path, scheme)?;
        }
        if let Some(path) = &self.api_key_file {
            authorize("api_key_file", path, "ApiKey")?;
        }
        if let Some(path) = &self.password_file {
            let password = read("password_file", path)?;
            let pair = [self.user.as_bytes(), b":", &password].concat();
            let line = format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
            headers.extend_from_slice(line.as_bytes());
        }
        if let Some(path) = &self.headers_file {
            let shown = path.display();
            let found = lines(path).and_then(|text| header_lines(&text));
            headers.extend(found.map_err(|why| format!("headers_file={shown}: {why}"))?);
        }
        let named = b"authorization:";
        let lines = headers.split(|byte| *byte == b'\n');
        let is_one = |line: &&[u8]| {
            let start = line.get(..named.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(named))
        };
        if lines.filter(is_one).count() > 1 {
            return Err("headers_file: Authorization: allowed: once, or without user, token_file, api_key_file".to_owned());
        }
        self.options.headers = headers;
        Ok(())
    }
}

/// The first line of a file with a secret that can stand in a header.
fn read(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    let named = |why: String| format!("{option}={}: {why}", path.display());
    let secret = first_line(path).map_err(named)?;
    let fits = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
    match secret.bytes().iter().all(fits) {
        true => Ok(secret.bytes().to_vec()),
        false => Err(named("allowed: no control characters".to_owned())),
    }
}

/// Headers that the request has already, or that say how its body lies.
const OWN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "expect",
    "te",
    "trailer",
    "upgrade",
];

/// Lines of a file as lines of a head. An error names the line's number, never what is in it.
fn header_lines(text: &[u8]) -> Result<Vec<u8>, String> {
    let (mut headers, mut count) = (Vec::new(), 0);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let allowed = || format!("line {number}: allowed: Name: value");
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(allowed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(byte);
        let is_value = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_value) {
            return Err(allowed());
        }
        let is_own = |own: &&str| own.as_bytes().eq_ignore_ascii_case(name);
        if let Some(own) = OWN_HEADERS.iter().find(|own| is_own(own)) {
            return Err(format!(
                "line {number}: {own}: allowed: headers that Weir does not write itself"
            ));
        }
        count += 1;
        if count > HEADERS_MAX {
            return Err(format!(
                "line {number}: at most {HEADERS_MAX} headers allowed"
            ));
        }
        headers.extend_from_slice(name);
        headers.extend_from_slice(b": ");
        headers.extend_from_slice(value);
        headers.extend_from_slice(b"\r\n");
    }
    Ok(headers)
}

/// A part of a request's target.
fn visible(what: &str, text: &str) -> Result<String, String> {
    let fits = text.len() <= PATH_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "allowed: a {what} of at most {PATH_BYTES_MAX} bytes of visible ASCII (%20 for a space)"
        )),
    }
}

/// A name that can stand in a path as it is.
fn index(text: &str) -> Result<String, String> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let begins = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    match begins && text.len() <= 255 && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(
            "allowed: 1 to 255 lower-case letters, digits, - _ . with a letter or a digit first"
                .to_owned(),
        ),
    }
}

/// `name=value,...` as pairs of JSON.
fn labels(text: &str) -> Result<String, String> {
    let allowed = || {
        "allowed: name=value,..., names of letters, digits and _, values without control characters"
            .to_owned()
    };
    let mut pairs: Vec<String> = Vec::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(allowed)?;
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if !begins || !name.chars().all(fits) || value.chars().any(char::is_control) {
            return Err(allowed());
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let key = format!("\"{name}\":");
        if pairs.iter().any(|pair| pair.starts_with(&key)) {
            return Err(format!("{name} is given twice; allowed: once"));
        }
        pairs.push(format!("{key}\"{value}\""));
    }
    Ok(pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;
    use std::fs;

    fn place(text: &str) -> Place {
        text.parse().expect(text)
    }

    #[test]
    fn each_scheme_has_its_path() {
        for (text, path) in [
            ("http+ndjson://a", "/"),
            ("http+ndjson://a/in/?query=x%3D1%26y", "/in/?x=1&y"),
            ("http+json://a/in", "/in"),
            ("otlp+http://a/", "/v1/logs"),
            ("otlp+http://a/otlp/v1/logs", "/otlp/v1/logs"),
            ("loki+http://a", "/loki/api/v1/push"),
            ("hec+http://a?token_file=/x", "/services/collector/event"),
            ("es+http://a/es/?index=x&query=pipeline%3Dp", "/es/x/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason&pipeline=p"),
        ] {
            assert_eq!(place(text).delivery.request().path, path);
        }
        let base = place("es+http://a").delivery.request();
        assert!(
            base.path.starts_with("/logs-weir-default/_bulk?"),
            "{}",
            base.path
        );
        let labels = place("loki+http://a?labels=a=1,b_2=x\"\\y")
            .delivery
            .request();
        assert_eq!(labels.labels, r#""a":"1","b_2":"x\"\\y""#);
    }

    #[test]
    fn secrets_are_header_lines_and_are_not_shown() {
        let dir = std::env::temp_dir().join(format!("weir-request-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let secret = file("secret", "sesame\n");
        let more = file("more", "# tenant\nX-Scope-OrgID: sesame \n\n");
        for (text, expected) in [
            (
                format!("loki+http://a?token_file={secret}"),
                "Authorization: Bearer sesame\r\n",
            ),
            (
                format!("hec+http://a?token_file={secret}"),
                "Authorization: Splunk sesame\r\n",
            ),
            (
                format!("es+http://a?api_key_file={secret}"),
                "Authorization: ApiKey sesame\r\n",
            ),
            (
                format!("es+http://a?user=u&password_file={secret}"),
                "Authorization: Basic dTpzZXNhbWU=\r\n",
            ),
            (
                format!("loki+http://a?headers_file={more}"),
                "X-Scope-OrgID: sesame\r\n",
            ),
        ] {
            let mut place = place(&text);
            place
                .delivery
                .resolve("a", None, None, None)
                .expect("files");
            let headers = place.delivery.request().headers.clone();
            assert_eq!(String::from_utf8_lossy(&headers), expected);
            let shown = format!("{place} {place:?}");
            assert!(
                !shown.contains("sesame") && !shown.contains("dTpzZX"),
                "{shown}"
            );
        }
        for (text, why) in [
            ("Host: x", "line 1: host: allowed"),
            ("a: b\nno", "line 2: allowed: Name: value"),
            ("a b: c", "line 1: allowed"),
            ("a: b\x01", "line 1: allowed"),
            (&"a: b\n".repeat(33), "line 33: at most 32"),
        ] {
            let error = header_lines(text.as_bytes()).expect_err(text);
            assert!(error.starts_with(why), "{error}");
        }
        let bad = file("bad", "ses\x01ame\n");
        let mut place = place(&format!("loki+http://a?token_file={bad}"));
        let error = place
            .delivery
            .resolve("a", None, None, None)
            .expect_err("control");
        assert!(
            error.contains("control") && !error.contains("ame"),
            "{error}"
        );
        fs::remove_dir_all(dir).expect("removed");
    }
}
