//! What a certificate says: of whom, until when.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::fingerprint::Fingerprint;

/// Longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most names of a certificate that are looked at.
const NAMES_MAX: usize = 64;

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SANs: DNS names, URIs, e-mail addresses, IP addresses, in the order of the certificate.
    pub names: Vec<String>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

/// One certificate of ours, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Serial number, hexadecimal with colons.
    pub serial: String,
    /// Valid from, in seconds since 1970.
    pub not_before: i64,
    /// Valid until, in seconds since 1970.
    pub not_after: i64,
    /// Whom it names.
    pub peer: Peer,
}

impl Peer {
    /// None: this is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Peer> {
        Some(Facts::of(certificate)?.peer)
    }

    /// What to call it: its first name, or its fingerprint.
    pub fn name(&self) -> String {
        let first = self.names.first().or(self.common_name.as_ref());
        first.map_or_else(|| self.fingerprint.to_string(), String::clone)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Facts {
    /// None: this is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Facts> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let common_name = { subject.iter_common_name() }
            .filter_map(|name| name.as_str().ok())
            .find_map(readable);
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.map_or_else(Vec::new, |found| {
            let all = found.value.general_names.iter().take(NAMES_MAX);
            all.filter_map(name_of).collect()
        });
        Some(Facts {
            serial: parsed.raw_serial_as_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            peer: Peer {
                names,
                common_name,
                fingerprint: Fingerprint::of(certificate),
            },
        })
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            readable(name)
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// A name that can stand in a line of a log.
fn readable(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    (fits && !name.chars().any(char::is_control)).then(|| name.to_owned())
}
