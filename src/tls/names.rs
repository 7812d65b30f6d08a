//! Who is let in by the names of its certificate.

use std::fmt;
use std::str::FromStr;

use crate::certificate::Peer;
use crate::fingerprint::Fingerprint;

/// Most entries of a list.
pub const NAMES_MAX: usize = 1024;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A SAN, as it stands in the certificate: DNS name, URI, e-mail or IP address. Case does not count.
    Name(String),
    /// DNS names with exactly one label more than this: `*.example.org`.
    Wildcard(String),
    /// The common name of a certificate without SANs, `CN=name`: for old ones.
    CommonName(String),
    /// This certificate, `sha256:...`.
    Fingerprint(Fingerprint),
}

/// Who is let in. An empty list lets in everybody whose certificate is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNames(Vec<Allowed>);

/// A certificate that is trusted, of somebody who is not on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    name: String,
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_debug();
        write!(f, "its certificate is of {name}, who is not on the list of names that are let in; add the name, or give it another certificate")
    }
}

impl std::error::Error for NotAllowed {}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Allowed, String> {
        let allowed = "allowed: a name of a certificate (DNS, *.DNS, URI, e-mail, IP), CN=name, or sha256:FINGERPRINT";
        let is_name = text.contains(|sign: char| sign.is_ascii_alphanumeric());
        if !is_name || text.contains(char::is_whitespace) && !text.starts_with("CN=") {
            return Err(allowed.to_owned());
        }
        if let Some(fingerprint) = text.strip_prefix("sha256:") {
            return Ok(Allowed::Fingerprint(fingerprint.parse()?));
        }
        Ok(match (text.strip_prefix("CN="), text.strip_prefix("*.")) {
            (Some(""), _) => return Err(allowed.to_owned()),
            (Some(name), _) => Allowed::CommonName(name.to_owned()),
            (_, Some(rest)) if !rest.is_empty() && !rest.contains('*') => {
                Allowed::Wildcard(rest.to_owned())
            }
            _ if text.contains('*') => return Err(allowed.to_owned()),
            _ => Allowed::Name(text.to_owned()),
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Name(name) => f.write_str(name),
            Allowed::Wildcard(rest) => write!(f, "*.{rest}"),
            Allowed::CommonName(name) => write!(f, "CN={name}"),
            Allowed::Fingerprint(fingerprint) => write!(f, "sha256:{fingerprint}"),
        }
    }
}

impl Allowed {
    fn is(&self, peer: &Peer) -> bool {
        match self {
            Allowed::Name(name) => { peer.names.iter() }.any(|its| its.eq_ignore_ascii_case(name)),
            Allowed::Wildcard(rest) => peer.names.iter().any(|its| {
                let parts = its.split_once('.');
                parts.is_some_and(|(label, behind)| {
                    is_label(label) && behind.eq_ignore_ascii_case(rest)
                })
            }),
            // As RFC 6125, 6.4.4: only where there is no SAN.
            Allowed::CommonName(name) => {
                let its = peer.common_name.as_ref();
                peer.names.is_empty() && its.is_some_and(|its| its.eq_ignore_ascii_case(name))
            }
            Allowed::Fingerprint(fingerprint) => peer.fingerprint == *fingerprint,
        }
    }
}

/// Of a DNS name, which may be a wildcard itself. What stands before the first dot of a URI or of an e-mail address is none.
fn is_label(text: &str) -> bool {
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "-_".contains(sign);
    text == "*" || !text.is_empty() && text.chars().all(is_sign)
}

impl AllowedNames {
    /// These.
    pub fn new(names: Vec<Allowed>) -> AllowedNames {
        AllowedNames(names)
    }

    /// Everybody is let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &Allowed> {
        self.0.iter()
    }

    /// Whether this peer is let in.
    ///
    /// # Errors
    /// It is not on the list.
    pub fn check(&self, peer: &Peer) -> Result<(), NotAllowed> {
        match self.is_empty() || self.0.iter().any(|allowed| allowed.is(peer)) {
            true => Ok(()),
            false => Err(NotAllowed { name: peer.name() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(names: &[&str], common_name: Option<&str>) -> Peer {
        Peer {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            common_name: common_name.map(str::to_owned),
            fingerprint: Fingerprint::of(b"it"),
        }
    }

    #[test]
    fn who_is_on_the_list_is_let_in() {
        let its = Fingerprint::of(b"it").to_string();
        let web = peer(
            &["web1.example.org", "spiffe://example.org/web"],
            Some("web1"),
        );
        let old = peer(&[], Some("web1"));
        let print = format!("sha256:{its}");
        let plain = format!("sha256:{}", its.replace(':', "").to_lowercase());
        for (list, web_is, old_is) in [
            (&[][..], true, true),
            (&["web1.example.org"], true, false),
            (&["WEB1.Example.org"], true, false),
            (
                &["web2.example.org", "spiffe://example.org/web"],
                true,
                false,
            ),
            (&["*.example.org"], true, false),
            (&["*.org"], false, false),
            (&["CN=web1"], false, true),
            (&["web1"], false, false),
            (&[&print[..]], true, true),
            (&[&plain[..]], true, true),
        ] {
            let list = list.iter().map(|name| name.parse().expect(name)).collect();
            let list = AllowedNames::new(list);
            assert_eq!(list.check(&web).is_ok(), web_is, "{list:?}");
            assert_eq!(list.check(&old).is_ok(), old_is, "{list:?}");
        }
    }

    #[test]
    fn a_wildcard_is_about_dns_names() {
        let list = AllowedNames::new(vec!["*.example.org".parse().expect("a name")]);
        for (name, is_let_in) in [
            ("a_1-b.example.org", true),
            ("*.example.org", true),
            (".example.org", false),
            ("joe@mail.example.org", false),
            ("http://web.example.org", false),
            ("spiffe://other/web.example.org", false),
        ] {
            let its = peer(&[name], None);
            assert_eq!(list.check(&its).is_ok(), is_let_in, "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "a b",
            "*",
            "*.",
            "a.*.b",
            "CN=",
            "sha256:",
            "sha256:00",
            "**.a",
        ] {
            let why = bad.parse::<Allowed>().expect_err(bad);
            assert!(why.starts_with("allowed: "), "{bad}: {why}");
        }
    }
}
