//! Base addresses of HTTP servers: `http://host:port[/path]`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Longest path of an endpoint, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Longest name in the DNS.
const HOST_BYTES_MAX: usize = 253;

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
        let rest = text.strip_prefix("http://").ok_or_else(allowed)?;
        if rest.contains(['?', '#']) {
            return Err("no query and no fragment, allowed: http://host:port[/path]".into());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("no user and no password, allowed: http://host:port[/path]".into());
        }
        let (host, port) = host_and_port(authority, 80).ok_or_else(allowed)?;
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
pub(crate) fn host_and_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
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
        None if port.is_empty() => default_port,
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
            ("https://a:1", "http://host:port"),
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
}
