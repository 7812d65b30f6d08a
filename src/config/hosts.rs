//! Which names this distributor answers to, so that a web page cannot make a browser speak to it under a name
//! of its own (DNS rebinding).
//!
//! ```text
//!   page of http://evil.example   its name now means 127.0.0.1; for the browser it is still the page's own
//!     GET http://evil.example:3000/analyzers      Host: evil.example:3000         a name that is not known
//!     POST http://127.0.0.1:3000/logs             Origin: http://evil.example     a page of somebody else
//! ```
//!
//! Names that nobody can buy are known without being configured. See docs/adr/0032.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::OnceLock;

use super::Cors;

/// Most names.
const NAMES_MAX: usize = 64;
/// Longest name in the DNS.
const NAME_BYTES_MAX: usize = 253;
/// Ends of names that no public DNS has: RFC 6761, the private zone of ICANN, Kubernetes.
const PRIVATE_ENDS: [&str; 3] = [".localhost", ".internal", ".svc.cluster.local"];

/// Names that are known beside those that are known anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// None.
    #[default]
    Own,
    /// All there are: nothing is checked.
    Any,
    /// These, in lower case.
    Named(Vec<String>),
}

/// What a request must not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// A browser asks for a page of another site.
    Origin(String),
    /// It was asked under a name that is not known.
    Host(String),
}

impl Stranger {
    /// Class: the metric label, stable.
    pub fn reason(&self) -> &'static str {
        match self {
            Stranger::Origin(_) => "origin_not_allowed",
            Stranger::Host(_) => "host_not_allowed",
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Origin(origin) => write!(
                f,
                "header Origin is {:?}, a web page of another site; allowed: pages of this distributor, and of \
                 the sites of --cors",
                cut(origin)
            ),
            Stranger::Host(host) => write!(
                f,
                "header Host is {:?}, not a name of this distributor; allowed: IP addresses, names without a dot, \
                 {}, and the names of --http-hosts",
                cut(host),
                own_name()
            ),
        }
    }
}

impl Hosts {
    /// Whether a request may be answered that was sent to `host` (`name[:port]`, empty if it does not say)
    /// for a page of `origin`. Programs that are no browsers send no Origin.
    ///
    /// # Errors
    /// What it must not say.
    pub fn check(&self, host: &str, origin: Option<&str>, cors: &Cors) -> Result<(), Stranger> {
        if *cors == Cors::Any || *self == Hosts::Any {
            return Ok(());
        }
        if let Some(origin) = origin {
            if cors.allowed(Some(origin)).is_some() {
                return Ok(());
            }
            let site = authority_of(origin);
            let is_own = site.is_some_and(|site| {
                site.eq_ignore_ascii_case(without_default_port(origin, host))
                    || self.lists(name_of(site))
            });
            if !is_own {
                return Err(Stranger::Origin(origin.to_owned()));
            }
        }
        if host.is_empty() || self.knows(name_of(host)) {
            return Ok(());
        }
        Err(Stranger::Host(host.to_owned()))
    }

    fn knows(&self, name: &str) -> bool {
        let is_address = name.parse::<IpAddr>().is_ok() || is_ipv6(name);
        let name = name.strip_suffix('.').unwrap_or(name);
        let lower = name.to_ascii_lowercase();
        is_address
            || !lower.contains('.')
            || PRIVATE_ENDS.iter().any(|end| lower.ends_with(end))
            || lower == own_name()
            || self.lists(name)
    }

    fn lists(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Hosts::Own => false,
            Hosts::Any => true,
            Hosts::Named(names) => names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }
}

impl FromStr for Hosts {
    type Err = String;

    /// `own`, `*`, or names with commas between them.
    fn from_str(text: &str) -> Result<Hosts, String> {
        match text {
            "own" => return Ok(Hosts::Own),
            "*" => return Ok(Hosts::Any),
            _ => {}
        }
        let names: Vec<String> = text.split(',').map(str::to_ascii_lowercase).collect();
        let is_name = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len())
                && !name.ends_with('.')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if names.len() > NAMES_MAX || !names.iter().all(is_name) {
            return Err(format!(
                "allowed: own, *, or 1 to {NAMES_MAX} names without a port (weir.example.org,logs.example.org)"
            ));
        }
        Ok(Hosts::Named(names))
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hosts::Own => f.write_str("own"),
            Hosts::Any => f.write_str("*"),
            Hosts::Named(names) => f.write_str(&names.join(",")),
        }
    }
}

/// What this machine calls itself, in lower case.
fn own_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().to_ascii_lowercase()
    })
}

/// `[::1]`, with a zone or without.
fn is_ipv6(name: &str) -> bool {
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = inner.and_then(|inner| inner.split('%').next());
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Host and port of an origin; none of `null`.
fn authority_of(origin: &str) -> Option<&str> {
    let (_, authority) = origin.split_once("://")?;
    Some(without_default_port(origin, authority))
}

/// `host:80` is `host` to a browser that speaks http, `host:443` to one that speaks https.
fn without_default_port<'a>(origin: &str, authority: &'a str) -> &'a str {
    let end = match origin.split_once("://") {
        Some(("https", _)) => ":443",
        _ => ":80",
    };
    authority.strip_suffix(end).unwrap_or(authority)
}

/// `name:port` without its port.
fn name_of(authority: &str) -> &str {
    let name_end = if authority.starts_with('[') {
        authority.find("]:").map(|at| at + 1)
    } else {
        authority.find(':')
    };
    &authority[..name_end.unwrap_or(authority.len())]
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_can_buy_are_known() {
        let hosts: Hosts = "Weir.Example.org,logs".parse().expect("names");
        let cors = Cors::Off;
        for known in [
            "",
            "127.0.0.1:3000",
            "10.0.0.1",
            "[::1]:3000",
            "[fe80::1%25eth0]",
            "localhost",
            "LOCALHOST.:80",
            "weir",
            "a.localhost:1",
            "weir.ns.svc.cluster.local",
            "weir.example.org:9",
            "WEIR.example.ORG.",
            own_name(),
        ] {
            assert_eq!(hosts.check(known, None, &cors), Ok(()), "{known}");
        }
        for unknown in [
            "attacker.example:3000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "weir.example.org.evil.example",
            "a.weir.example.org",
            "weir.local",
            "[::1].evil.example",
        ] {
            let stranger = hosts.check(unknown, None, &cors).expect_err(unknown);
            assert_eq!(stranger.reason(), "host_not_allowed");
            assert!(stranger.to_string().contains("--http-hosts"), "{stranger}");
            assert_eq!(Hosts::Any.check(unknown, None, &cors), Ok(()));
            assert_eq!(hosts.check(unknown, Some("null"), &Cors::Any), Ok(()));
        }
    }

    #[test]
    fn a_page_of_another_site_is_a_stranger() {
        let cors: Cors = "https://ui.example.org".parse().expect("an origin");
        let hosts: Hosts = "weir.example.org".parse().expect("a name");
        for (host, origin) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("localhost", "http://localhost"),
            ("weir.example.org", "https://weir.example.org"),
            ("weir.example.org:443", "https://WEIR.example.org"),
            ("127.0.0.1:3000", "https://weir.example.org"),
            ("any.example:3000", "https://ui.example.org"),
        ] {
            assert_eq!(hosts.check(host, Some(origin), &cors), Ok(()), "{origin}");
        }
        for (host, origin, reason) in [
            (
                "127.0.0.1:3000",
                "http://evil.example",
                "origin_not_allowed",
            ),
            (
                "127.0.0.1:3000",
                "http://127.0.0.1:8000",
                "origin_not_allowed",
            ),
            ("127.0.0.1:3000", "null", "origin_not_allowed"),
            ("127.0.0.1:3000", "", "origin_not_allowed"),
            (
                "evil.example:3000",
                "http://evil.example:3000",
                "host_not_allowed",
            ),
            (
                "evil.example",
                "https://weir.example.org",
                "host_not_allowed",
            ),
        ] {
            let stranger = hosts.check(host, Some(origin), &cors).expect_err(origin);
            assert_eq!(stranger.reason(), reason, "{host} {origin}");
        }
    }

    #[test]
    fn names_are_written_without_ports() {
        for text in ["own", "*", "a.example,b"] {
            let hosts: Hosts = text.parse().expect(text);
            assert_eq!(hosts.to_string(), text);
        }
        for bad in ["", "a,", "a:1", "http://a", "a/b", "*.a", "a."] {
            let error = bad.parse::<Hosts>().expect_err(bad);
            assert!(error.contains("allowed: own, *"), "{error}");
        }
    }
}
