//! Where a distributor's HTTP is: `http://host:port[/path]`, or the same with TLS.

use std::fmt;
use std::str::FromStr;

use crate::Endpoint;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `https`: TLS is spoken there.
    pub is_secure: bool,
    /// Where it is, and what paths are appended to.
    pub endpoint: Endpoint,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let Endpoint { path, .. } = &self.endpoint;
        write!(f, "{scheme}://{}{path}", self.endpoint.authority())
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let in_words = |why: String| why.replace("http://host", "http://host or https://host");
        let Some(rest) = text.strip_prefix("https://") else {
            let endpoint = text.parse().map_err(in_words)?;
            return Ok(Url {
                is_secure: false,
                endpoint,
            });
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let has_port = match authority.rsplit_once(']') {
            Some((_, port)) => !port.is_empty(),
            None => authority.contains(':'),
        };
        let mut endpoint: Endpoint = format!("http://{rest}").parse().map_err(in_words)?;
        if !has_port {
            endpoint.port = 443;
        }
        Ok(Url {
            is_secure: true,
            endpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_port() {
        for (text, shown) in [
            ("http://a", "http://a:80"),
            ("https://a", "https://a:443"),
            ("https://a/x", "https://a:443/x"),
            ("https://[::1]/x", "https://[::1]:443/x"),
            ("https://[::1]:80", "https://[::1]:80"),
            ("https://a:80", "https://a:80"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.is_secure, text.starts_with("https"));
        }
        for bad in [
            "https://",
            "https://u@a",
            "https://a:0",
            "ftp://a",
            "https://a?x",
        ] {
            let why = bad.parse::<Url>().expect_err(bad);
            assert!(why.contains("https://host"), "{bad}: {why}");
        }
    }
}
