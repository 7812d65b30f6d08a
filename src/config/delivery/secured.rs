//! TLS towards an analyzer: `https://` and the like, `forward+tls://` and the like, and the options of it.

use std::path::PathBuf;
use std::sync::Arc;

use weir_tls::{ClientFiles, KeyLogger, MinVersion, SecuredLink};

use super::{short, Delivery, DeliveryOption};
use crate::credential::secret_path;
use crate::request::REQUESTS;

/// What a URL says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secured {
    ca: Option<PathBuf>,
    name: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    min_version: MinVersion,
    link: Option<Arc<SecuredLink>>,
}

/// All that are servers.
const SERVERS: &[&str] = &[
    "http",
    "http+ndjson",
    "http+json",
    "es+http",
    "otlp+http",
    "loki+http",
    "hec+http",
    "forward",
    "lumberjack",
    "relp",
    "syslog",
    "syslog-octet",
];

/// Of analyzers that TLS is spoken to.
pub const TLS_OPTIONS: &[DeliveryOption] = &[
    DeliveryOption {
        key: "tls_ca",
        default: "the system's",
        help: "CAs of which one must have signed the server's certificate, PEM",
        only: SERVERS,
        set: |delivery, text| {
            secured(delivery)?.ca = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "tls_name",
        default: "the host of the URL",
        help: "Whose certificate is expected: a DNS name or an IP address",
        only: SERVERS,
        set: |delivery, text| {
            secured(delivery)?.name = Some(short("name", text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "tls_cert",
        default: "none",
        help: "The certificate that is shown to a server that asks for one, PEM; with tls_key",
        only: SERVERS,
        set: |delivery, text| {
            secured(delivery)?.cert = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "tls_key",
        default: "none",
        help: "Its private key, PEM, without a passphrase",
        only: SERVERS,
        set: |delivery, text| {
            secured(delivery)?.key = Some(secret_path(text)?);
            Ok(())
        },
    },
    DeliveryOption {
        key: "tls_min",
        default: "1.2",
        help: "Oldest version: 1.2 or 1.3",
        only: SERVERS,
        set: |delivery, text| {
            if !MinVersion::WORDS.contains(&text) {
                return Err("allowed: 1.2 or 1.3".to_owned());
            }
            secured(delivery)?.min_version = MinVersion::of(text);
            Ok(())
        },
    },
];

fn secured(delivery: &mut Delivery) -> Result<&mut Secured, String> {
    let word = delivery.scheme().word;
    let allowed = word_with_tls(word);
    let secured = delivery.secured.as_mut();
    secured.ok_or_else(|| format!("TLS is not spoken to {word}://; allowed: {allowed}://"))
}

/// A scheme as it is written where TLS is spoken.
pub(crate) fn word_with_tls(word: &str) -> String {
    match word.contains("http") {
        true => word.replace("http", "https"),
        false => format!("{word}+tls"),
    }
}

/// A URL without TLS in its scheme, and whether it was there.
pub(super) fn without_tls(url: &str) -> (String, bool) {
    let plain = || {
        let (word, rest) = url.split_once("://")?;
        let is_request = |plain: &str| plain == "http" || REQUESTS.contains(&plain);
        let word = match word.strip_suffix("+tls") {
            Some(word) if SERVERS.contains(&word) && !is_request(word) => word.to_owned(),
            Some(_) => return None,
            None => {
                Some(word.replace("https", "http")).filter(|it| it != word && is_request(it))?
            }
        };
        Some(format!("{word}://{rest}"))
    };
    match plain() {
        Some(plain) => (plain, true),
        None => (url.to_owned(), false),
    }
}

/// The port where none is given, if it is another with TLS.
pub(super) fn port_with_tls(word: &str) -> Option<u16> {
    match word {
        "http" | "http+ndjson" | "http+json" => Some(443),
        "syslog" | "syslog-octet" => Some(6514),
        _ => None,
    }
}

impl Secured {
    /// Reads the files, for the analyzer of this id at this host; none: its hosts come from DNS.
    ///
    /// # Errors
    /// The option, and what is allowed.
    pub(super) fn resolve(
        &mut self,
        id: &str,
        host: Option<&str>,
        key_log: Option<&KeyLogger>,
        before: Option<&SecuredLink>,
    ) -> Result<(), String> {
        let pair = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err("tls_cert and tls_key: allowed: both, or none".to_owned()),
        };
        let name = self.name.as_deref().or(host).ok_or(
            "tls_name is missing: its hosts come from DNS, and what DNS says is not believed of a certificate",
        )?;
        let files = ClientFiles {
            ca: self.ca.clone(),
            pair,
            min_version: self.min_version,
            ..ClientFiles::default()
        };
        self.link = Some(Arc::new(SecuredLink::new(
            id, name, files, key_log, before,
        )?));
        Ok(())
    }

    pub(super) fn link(&self) -> Option<&Arc<SecuredLink>> {
        self.link.as_ref()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.cert, &self.key].into_iter().flatten()
    }
}
