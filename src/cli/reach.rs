//! How the emitter and the analyzer reach their distributors: options that they share.

use crate::client::PEER_TIMEOUT;
use crate::config::values;
use crate::discover::{BadTarget, Targets};
use std::net::SocketAddr;
use std::time::Duration;

/// What `--addr` takes, as its help shows it.
pub const VALUE: &str = "TARGET,...";

/// See the head of this file.
#[derive(clap::Args, Debug)]
pub struct Reach {
    /// Ask this nameserver for the names in --addr, and not those of the system (127.0.0.1:8600; port 53 when left
    /// out); several with commas. Names are then taken as absolute.
    #[arg(long, value_name = "ADDR", value_parser = values::nameserver, value_delimiter = ',')]
    nameserver: Vec<SocketAddr>,
    /// Give a distributor up whose host does not answer for this long.
    #[arg(long, value_name = "TIME", default_value = values::show_duration(PEER_TIMEOUT), value_parser = values::duration_within(Duration::from_secs(4)..=Duration::from_secs(3600)))]
    peer_timeout: Duration,
}

impl Reach {
    /// Who is asked for names; empty: the system.
    pub fn nameservers(&self) -> Vec<SocketAddr> {
        self.nameserver.clone()
    }

    /// How long a host may be silent.
    pub fn peer_timeout(&self) -> Duration {
        self.peer_timeout
    }
}

/// One value of `--addr`.
pub fn targets(text: &str) -> Result<Targets, String> {
    text.parse().map_err(|error: BadTarget| {
        format!(
            "allowed: a host and a port (localhost:8080, [::1]:8080), dns+HOST:PORT, dnssrv+_SERVICE._PROTO.NAME, \
             file+PATH, or several with commas; {}",
            error.why()
        )
    })
}

/// All values of `--addr` as one text.
pub fn joined(values: &[Targets]) -> String {
    let texts: Vec<String> = values.iter().map(Targets::to_string).collect();
    texts.join(",")
}
