//! A request that is kept: what a shard leaves to the control side, and what an operator asks.

use core::net::IpAddr;

use super::query::parameter;
use super::reader::Request;

/// Headers that are kept.
const ASKED_HEADERS: [&str; 10] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "content-type",
    "host",
    "if-none-match",
    "last-event-id",
    "origin",
];

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Shard that read it; 0 for the admin listener.
    pub worker: u16,
    /// Address of the client, when known: behind a trusted proxy the one that it forwards for.
    pub peer: Option<IpAddr>,
    /// It is asked under a name that is not known: health is told, and no more of it than its status.
    pub is_stranger: bool,
    /// As the client wrote it.
    pub method: String,
    /// Without the query, still percent-encoded.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Those that the control side looks at, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: Vec<u8>,
}

impl Ask {
    /// A request without headers and body, for tests and for the terminal.
    pub fn new(method: &str, path: &str) -> Ask {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Ask::default()
        }
    }

    /// What is kept of a request; not who asks.
    pub fn of(request: &Request) -> Ask {
        let header = |name: &&str| Some(((*name).to_owned(), request.header(name)?.to_owned()));
        Ask {
            method: request.method.to_owned(),
            path: request.path.to_owned(),
            query: request.query.to_owned(),
            headers: ASKED_HEADERS.iter().filter_map(header).collect(),
            body: request.body.to_vec(),
            ..Ask::default()
        }
    }

    /// First value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, as [`parameter`] gives it.
    pub fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.query, name).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_name_and_mean_what_they_mean_to_shards() {
        let ask = Ask::new("GET", "/x?ab=1&a=2%203+4&b&c=%zz");
        assert_eq!(ask.parameter("a").as_deref(), Some("2 3 4"));
        assert_eq!(ask.parameter("b").as_deref(), Some(""));
        assert_eq!(ask.parameter("c"), None, "no escape");
        assert_eq!(ask.parameter("d"), None);
    }
}
