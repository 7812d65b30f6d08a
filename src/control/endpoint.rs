//! Where an analyzer over HTTP is: `http://host:port/path`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Longest that is taken.
const ENDPOINT_BYTES_MAX: usize = 2048;

/// An endpoint that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written, without a slash at its end.
    pub text: String,
    /// For the Host header.
    pub host: String,
    /// Name or address, without brackets.
    pub name: String,
    /// Port, 80 if none was written.
    pub port: u16,
    /// Before `/logs`; empty or with a leading slash, without one at its end.
    pub path: String,
}

impl Endpoint {
    /// Reads one.
    ///
    /// # Errors
    /// What it is and what is allowed.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let bad = || {
            format!("endpoint {text:?}: allowed: http://host, http://host:port or either with a path, without spaces, user and query")
        };
        let text_kept = text.trim_end_matches('/');
        let rest = text_kept.strip_prefix("http://").ok_or_else(bad)?;
        let is_plain = |c: char| c.is_ascii_graphic() && !"?#@\\".contains(c);
        if rest.len() > ENDPOINT_BYTES_MAX || !rest.chars().all(is_plain) {
            return Err(bad());
        }
        let cut = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(cut);
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (name, after) = v6.split_once(']').ok_or_else(bad)?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err(bad());
                }
                (name, port)
            }
            None => match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            },
        };
        let port: u16 = port.map_or(Ok(80), str::parse).map_err(|_| bad())?;
        if name.is_empty() || port == 0 {
            return Err(bad());
        }
        Ok(Endpoint {
            text: text_kept.to_owned(),
            host: host.to_owned(),
            name: name.to_owned(),
            port,
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// Its addresses now; names are asked for anew each time.
    ///
    /// # Errors
    /// The name is not known.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        (self.name.as_str(), self.port)
            .to_socket_addrs()
            .map(Iterator::collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, name, port, path) in [
            ("http://a:8090", "a:8090", "a", 8090, ""),
            ("http://10.0.0.1/", "10.0.0.1", "10.0.0.1", 80, ""),
            ("http://[::1]:9/x/y/", "[::1]:9", "::1", 9, "/x/y"),
            ("http://[::1]", "[::1]", "::1", 80, ""),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            let found = (
                &*endpoint.host,
                &*endpoint.name,
                endpoint.port,
                &*endpoint.path,
            );
            assert_eq!(found, (host, name, port, path));
        }
        for bad in [
            "",
            "a:80",
            "https://a",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://u@a",
            "http://a/?q",
            "http://a/\r\nX: y",
            "http://[::1",
            "http://[::1]x",
        ] {
            let error = Endpoint::parse(bad).expect_err(bad);
            assert!(error.contains("allowed: http://host"), "{error}");
        }
    }
}
