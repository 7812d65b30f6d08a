//! What a certificate says: of whom, until when.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use weir_protocol::text::is_printable;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::fingerprint::Fingerprint;

/// Longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Most names that a line shows, and most bytes of them.
const NAMES_SHOWN: usize = 8;
const NAMES_BYTES_SHOWN: usize = 512;

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SANs: DNS names, URIs, e-mail addresses, IP addresses, in the order of the certificate. All of them: those of a peer
    /// came in a handshake, of 64 KiB at most.
    pub names: Vec<String>,
    /// The common name of its subject; none where there are SANs, though they may be none that can be shown: a CA that
    /// looks at SANs may sign any common name beside them.
    pub common_name: Option<String>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

/// One certificate of ours, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Serial number, hexadecimal with colons.
    pub serial: String,
    /// Who has signed it, as it is named there.
    pub issuer: String,
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

    /// What to call it: its first name, or its fingerprint (`sha256:...`). At most 255 bytes, all of them printable.
    pub fn name(&self) -> String {
        let first = self.names.first().or(self.common_name.as_ref());
        first.map_or_else(|| format!("sha256:{}", self.fingerprint), String::clone)
    }

    /// Its first names, as far as a line shows them: more than that are said to be there.
    pub fn names_shown(&self) -> String {
        let mut shown = self.name();
        let mut more = self.names.iter().skip(1);
        for name in more.by_ref().take(NAMES_SHOWN - 1) {
            if shown.len() + name.len() > NAMES_BYTES_SHOWN {
                return shown + ", ...";
            }
            shown = shown + ", " + name;
        }
        match more.next() {
            Some(_) => shown + ", ...",
            None => shown,
        }
    }

    /// Whether this may be the id of its holder: one of its names, or one of them, `#`, and what tells several of one
    /// certificate apart. No DNS name has that sign, so nobody gets near the name of another.
    pub fn may_be_called(&self, id: &str) -> bool {
        let name = id.split_once('#').map_or(id, |(name, _)| name);
        self.is_called(id) || self.is_called(name)
    }

    /// Whether the certificate has this name: a SAN, `*.example.org` for one label more, or the common name where there
    /// is no SAN; its fingerprint where it has neither. Case does not count.
    pub fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|its| covers(its, name))
            || self.names.is_empty() && self.name().eq_ignore_ascii_case(name)
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
        let alternatives = parsed.subject_alternative_name();
        let has_names = { alternatives.iter().flatten() }
            .any(|found| found.value.general_names.iter().any(is_name));
        let common_name = common_name.filter(|_| alternatives.is_ok() && !has_names);
        let names = alternatives.ok().flatten().map_or_else(Vec::new, |found| {
            let all = found.value.general_names.iter();
            all.filter_map(name_of).collect()
        });
        Some(Facts {
            serial: parsed.raw_serial_as_string(),
            issuer: readable(&parsed.issuer().to_string()).unwrap_or_default(),
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

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.peer.names_shown();
        let [from, until] = [self.not_before, self.not_after].map(day);
        let Facts { serial, issuer, .. } = self;
        write!(
            f,
            "certificate of {names}; serial {serial}; issuer {issuer}; valid {from} to {until}"
        )
    }
}

/// Whose certificate this is, if nobody's can be signed by it: it is no CA's, and not its own.
pub(crate) fn signs_nobody(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let is_own = parsed.issuer() == parsed.subject();
    let signs = parsed.is_ca() || is_own;
    (!signs).then(|| Peer::of(certificate).map_or_else(String::new, |peer| peer.name()))
}

/// That a certificate expires soon, or has: within 14 days, as the alert has it. Behind its name in a sentence. Times in
/// seconds since 1970.
pub fn expiry(not_after_s: i64, now_s: i64) -> Option<String> {
    const SOON_S: i64 = 14 * 86_400;
    let (left_s, on) = (not_after_s - now_s, day(not_after_s));
    match left_s {
        ..0 => Some(format!("expired on {on}")),
        0..SOON_S => Some(format!(
            "expires in {} days, on {on}; a new one is needed",
            left_s / 86_400
        )),
        _ => None,
    }
}

/// `2026-11-30`, of seconds since 1970 (Hinnant, days_from_civil).
pub(crate) fn day(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_era_year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = of_era_year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02}",
        of_year - (153 * part + 2) / 5 + 1
    )
}

/// Of a kind that counts here, whether it can be shown or not.
fn is_name(name: &GeneralName<'_>) -> bool {
    use GeneralName::{DNSName, IPAddress, RFC822Name, URI};
    matches!(name, DNSName(_) | URI(_) | RFC822Name(_) | IPAddress(_))
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

/// Whether a name of a certificate, which may begin with `*.`, is meant by another name.
pub(crate) fn covers(its: &str, name: &str) -> bool {
    match its.strip_prefix("*.") {
        Some(rest) => { name.split_once('.') }.is_some_and(|(label, behind)| {
            !["", "*"].contains(&label) && behind.eq_ignore_ascii_case(rest)
        }),
        None => its.eq_ignore_ascii_case(name),
    }
}

/// A name that can stand in a line of a log, or on a page.
fn readable(name: &str) -> Option<String> {
    let fits = !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX;
    (fits && name.chars().all(is_printable)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_called_by_its_names() {
        let peer = |names: &[&str], common_name: Option<&str>| Peer {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            common_name: common_name.map(str::to_owned),
            fingerprint: Fingerprint::of(b"it"),
        };
        let one = peer(&["a1", "*.example.org"], Some("old"));
        for (name, is_its) in [
            ("a1", true),
            ("A1", true),
            ("a.example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
            (".example.org", false),
            ("*.example.org", false),
            (".org", false),
            ("old", false),
            ("", false),
        ] {
            assert_eq!(one.is_called(name), is_its, "{name}");
        }
        let old = peer(&[], Some("Old"));
        assert!(old.is_called("old") && !old.is_called("a1"));
        assert_eq!((one.name(), old.name()), ("a1".into(), "Old".into()));
        let print = format!("sha256:{}", Fingerprint::of(b"it"));
        assert_eq!(peer(&[], None).name(), print);
        assert!(peer(&[], None).is_called(&print) && !old.is_called(&print));
        for (id, may_be) in [
            ("a1", true),
            ("a1#2", true),
            ("a1#b#c", true),
            ("a1-2", false),
            ("a2#a1", false),
            ("#a1", false),
            ("#", false),
        ] {
            assert_eq!(one.may_be_called(id), may_be, "{id}");
        }
    }

    #[test]
    fn a_line_has_room_for_some_names() {
        let peer = |names: Vec<String>| Peer {
            names,
            common_name: None,
            fingerprint: Fingerprint::of(b"it"),
        };
        let short = |count| (0..count).map(|n: usize| format!("n{n}")).collect();
        assert_eq!(peer(short(2)).names_shown(), "n0, n1");
        let eight = peer(short(8)).names_shown();
        assert!(eight.ends_with(", n7"), "{eight}");
        assert_eq!(peer(short(64)).names_shown(), eight + ", ...");
        let long = vec!["x".repeat(NAME_BYTES_MAX); 64];
        assert!(peer(long).names_shown().len() < 600);
    }

    #[test]
    fn an_end_is_soon_fourteen_days_before() {
        let day_s = 86_400;
        assert_eq!(expiry(14 * day_s, 0), None);
        let soon = expiry(14 * day_s, 1).expect("soon");
        assert_eq!(
            soon,
            "expires in 13 days, on 1970-01-15; a new one is needed"
        );
        assert_eq!(expiry(0, 1).as_deref(), Some("expired on 1970-01-01"));
    }

    #[test]
    fn what_does_not_show_is_no_name() {
        let long = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(readable(&long).as_ref(), Some(&long));
        for bad in [
            "",
            " ",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "a\nb",
            &"x".repeat(256),
        ] {
            assert_eq!(readable(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400, "2000-02-29"),
            (1_796_083_199, "2026-11-30"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), text);
        }
    }
}
