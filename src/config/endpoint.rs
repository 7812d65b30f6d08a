//! Analyzers over HTTP, and where they listen: `ID=WEIGHT@http://host:port[/path]`. Groups of them: `group.rs`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::group::{Discover, Members, WeightIs, GROUP_ID_BYTES_MAX};
use weir_protocol::text::check_name;
use weir_protocol::valid_weight;

/// Longest id of an HTTP analyzer, in bytes; shortest: 1.
pub const HTTP_ID_BYTES_MAX: usize = 256;
/// Longest path of an endpoint, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Longest name in the DNS.
const HOST_BYTES_MAX: usize = 253;

/// An analyzer that packets are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnalyzer {
    id: String,
    endpoint: Endpoint,
    weight: f64,
    members: Option<Members>,
}

impl HttpAnalyzer {
    /// An analyzer with valid parts.
    ///
    /// # Errors
    /// What is allowed: an id of 1 to 256 bytes without control characters, a finite weight from 0.
    pub fn new(id: &str, endpoint: Endpoint, weight: f64) -> Result<HttpAnalyzer, String> {
        let fits = (1..=HTTP_ID_BYTES_MAX).contains(&id.len());
        if !fits {
            return Err(format!(
                "allowed: an id of 1 to {HTTP_ID_BYTES_MAX} bytes without control characters"
            ));
        }
        check_name(id)?;
        let weight = valid_weight(weight).ok_or_else(|| {
            "allowed: a weight that is a finite number, 0 or more (0.25)".to_owned()
        })?;
        Ok(HttpAnalyzer {
            id: id.to_owned(),
            endpoint,
            weight,
            members: None,
        })
    }

    /// A group of analyzers with valid parts.
    ///
    /// # Errors
    /// As [`HttpAnalyzer::new`]; the id has at most [`GROUP_ID_BYTES_MAX`] bytes.
    pub fn group(
        id: &str,
        discover: Discover,
        weight: f64,
        weight_is: WeightIs,
    ) -> Result<HttpAnalyzer, String> {
        if id.len() > GROUP_ID_BYTES_MAX {
            return Err(format!(
                "allowed: an id of 1 to {GROUP_ID_BYTES_MAX} bytes for a group, whose members' ids begin with it"
            ));
        }
        let nowhere = Endpoint {
            host: String::new(),
            port: 0,
            path: discover.path.clone(),
        };
        let mut group = HttpAnalyzer::new(id, nowhere, weight)?;
        group.members = Some(Members {
            discover,
            weight_is,
        });
        Ok(group)
    }

    /// Where the members of this group are found; none: it is one analyzer.
    pub fn members(&self) -> Option<&Members> {
        self.members.as_ref()
    }

    /// Both are at the same place, or found in the same way.
    pub fn is_where(&self, other: &HttpAnalyzer) -> bool {
        self.endpoint == other.endpoint && self.members == other.members
    }

    /// Where it is, or where its members are found.
    pub fn place(&self) -> String {
        match &self.members {
            Some(members) => members.discover.to_string(),
            None => self.endpoint.to_string(),
        }
    }

    /// Its name in tables, logs and metrics.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens; nowhere if it is a group.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its share relative to the others'; finite, 0 or more.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The same analyzer with another weight, which is valid.
    pub(crate) fn with_weight(&self, weight: f64) -> HttpAnalyzer {
        HttpAnalyzer {
            weight,
            ..self.clone()
        }
    }
}

impl fmt::Display for HttpAnalyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, weight, .. } = self;
        let of = match &self.members {
            Some(members) if members.weight_is == WeightIs::Group => "/group",
            _ => "",
        };
        write!(f, "{id}={weight}{of}@{}", self.place())
    }
}

impl FromStr for HttpAnalyzer {
    type Err = String;

    /// `ID=WEIGHT@http://host:port[/path]`, or with dns+ or dnssrv+ a group. An id may have any of these signs in it.
    fn from_str(text: &str) -> Result<HttpAnalyzer, String> {
        let allowed = || {
            "allowed: ID=WEIGHT@http://host:port[/path] (a1=0.4@http://10.0.0.1:4001), or for a group \
             ID=WEIGHT[/member|/group]@dns+http://host:port[/path]"
                .to_owned()
        };
        let schemes = ["@http://", "@https://", "@dns+http", "@dnssrv+http"];
        let at = schemes.iter().filter_map(|scheme| text.rfind(scheme)).max();
        let at = at.ok_or_else(allowed)?;
        let (id, weight) = text[..at].rsplit_once('=').ok_or_else(allowed)?;
        let place = &text[at + 1..];
        if place.starts_with("http") {
            let endpoint = place.parse()?;
            let weight = weight.parse().map_err(|_| allowed())?;
            return HttpAnalyzer::new(id, endpoint, weight);
        }
        let (weight, weight_is) = match weight.split_once('/') {
            Some((weight, of)) => (weight, of.parse()?),
            None => (weight, WeightIs::Member),
        };
        let weight = weight.parse().map_err(|_| allowed())?;
        HttpAnalyzer::group(id, place.parse()?, weight, weight_is)
    }
}

/// Base address of an HTTP analyzer: `http://host:port[/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or IP address, without brackets.
    pub host: String,
    /// Port; 80 when none was given.
    pub port: u16,
    /// What `/logs` and `/health` are appended to: empty, or from its `/` on, none at its end.
    pub path: String,
}

impl Endpoint {
    /// `host:port`, as a Host header and a resolver take it.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let allowed = || "allowed: http://host:port[/path]".to_owned();
        if text.starts_with("https://") {
            return Err("https is not spoken to analyzers, allowed: http://host:port[/path] (of a TLS proxy beside the analyzer)".into());
        }
        let rest = text.strip_prefix("http://").ok_or_else(allowed)?;
        if rest.contains(['?', '#']) {
            return Err("no query and no fragment, allowed: http://host:port[/path]".into());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("no user and no password, allowed: http://host:port[/path]".into());
        }
        let (host, port) = host_and_port(authority).ok_or_else(allowed)?;
        let path = path.trim_end_matches('/');
        // Without an @ the end of an id is where the last one is.
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
        if path.len() > PATH_BYTES_MAX || !path.bytes().all(fits) {
            return Err(format!(
                "allowed: a path of at most {PATH_BYTES_MAX} bytes of visible ASCII without @ (%20 for a space, %40 for an @)"
            ));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !(1..=HOST_BYTES_MAX).contains(&host.len()) || !host.bytes().all(is_name) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        None if port.is_empty() => 80,
        _ => return None,
    };
    (port > 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port, path, shown) in [
            ("http://a:1", "a", 1, "", "http://a:1"),
            ("http://a-b.c_d", "a-b.c_d", 80, "", "http://a-b.c_d:80"),
            (
                "http://1.2.3.4:65535/",
                "1.2.3.4",
                65535,
                "",
                "http://1.2.3.4:65535",
            ),
            (
                "http://[::1]:9/x/y/",
                "::1",
                9,
                "/x/y",
                "http://[::1]:9/x/y",
            ),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.path, path);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
        for (bad, why) in [
            ("https://a:1", "https"),
            ("http://u:p@a:1", "user"),
            ("http://a:1/?x", "query"),
            ("http://a:1#x", "fragment"),
            ("http://a:1/ä", "visible ASCII"),
            ("http://a:1/a b", "visible ASCII"),
            ("http://a:1/a@b", "without @"),
            ("http://", "host:port"),
            ("http://:1", "host:port"),
            ("http://a:0", "host:port"),
            ("http://a:", "host:port"),
            ("http://a:+1", "host:port"),
            ("http://a:65536", "host:port"),
            ("http://::1:80", "host:port"),
            ("http://[::g]:80", "host:port"),
            ("http://[::1]80", "host:port"),
            ("http://a b:1", "host:port"),
            ("a:1", "http://"),
            ("", "http://"),
        ] {
            let error = bad.parse::<Endpoint>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("http://a/{}", "x".repeat(PATH_BYTES_MAX));
        assert!(long.parse::<Endpoint>().is_err());
    }

    #[test]
    fn groups_are_what_their_text_says() {
        for (text, weight_is) in [
            ("pool=0.25@dns+http://h:80/p", WeightIs::Member),
            ("pool=0.25/group@dns+http://h:4001", WeightIs::Group),
            (
                "a=b@c=0.25/group@dnssrv+http://_a._tcp.h/p",
                WeightIs::Group,
            ),
        ] {
            let group: HttpAnalyzer = text.parse().expect(text);
            assert_eq!(group.weight(), 0.25);
            assert_eq!(group.members().map(|it| it.weight_is), Some(weight_is));
            assert_eq!(group.to_string(), text);
        }
        for (bad, why) in [
            ("p=1/x@dns+http://h:1", "member or group"),
            ("p=1@dnssrv+http://h", "_SERVICE"),
            ("p=-1@dns+http://h", "0 or more"),
            ("p=1/group@http://h", "ID=WEIGHT"),
        ] {
            let error = bad.parse::<HttpAnalyzer>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("{}=1@dns+http://h", "x".repeat(GROUP_ID_BYTES_MAX + 1));
        assert!(long.parse::<HttpAnalyzer>().is_err());
    }

    #[test]
    fn analyzers_are_what_their_text_says() {
        for id in ["a1", "a=1", "a@b", "http://10.0.0.1:9", "ü x", "a=1@http"] {
            let text = format!("{id}=0.25@http://h:80/p");
            let analyzer: HttpAnalyzer = text.parse().expect(&text);
            assert_eq!((analyzer.id(), analyzer.weight()), (id, 0.25));
            assert_eq!(analyzer.to_string(), text);
        }
        for (bad, why) in [
            ("a1", "ID=WEIGHT@"),
            ("a1@http://h", "ID=WEIGHT@"),
            ("a1=x@http://h", "ID=WEIGHT@"),
            ("a1=-1@http://h", "0 or more"),
            ("a1=NaN@http://h", "0 or more"),
            ("=1@http://h", "an id of 1 to 256"),
            ("a\nb=1@http://h", "control"),
            ("a1=1@https://h", "https"),
        ] {
            let error = bad.parse::<HttpAnalyzer>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("{}=1@http://h", "x".repeat(HTTP_ID_BYTES_MAX + 1));
        assert!(long.parse::<HttpAnalyzer>().is_err());
    }
}
