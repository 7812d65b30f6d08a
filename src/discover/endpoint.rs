//! One distributor as discovery sees it.

use std::fmt;
use std::net::SocketAddr;

/// One distributor, and where it may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is known by for as long as it is there: `HOST:PORT` as it was given, an address, or target and port of
    /// an SRV record.
    pub name: String,
    /// The host as the operator wrote it: whose certificate is expected of it. None where DNS has said the name (SRV).
    pub host: Option<String>,
    /// At least one. With several, each of them is this distributor.
    pub addrs: Vec<SocketAddr>,
    /// Of its SRV record, 0 otherwise: who has a higher number is used when those before do not answer.
    pub priority: u16,
    /// Of its SRV record, 1 otherwise: its part among those of the same priority.
    pub weight: u16,
}

impl Endpoint {
    /// One that was not found by an SRV record.
    pub fn new(name: String, addrs: Vec<SocketAddr>) -> Endpoint {
        Endpoint {
            name,
            host: None,
            addrs,
            priority: 0,
            weight: 1,
        }
    }

    /// Of this host, as the operator wrote it.
    #[must_use]
    pub fn of_host(mut self, host: &str) -> Endpoint {
        self.host = Some(host.to_owned());
        self
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
