//! Descriptors: so many there may be (RLIMIT_NOFILE), and each kind has its part, so that none can take what
//! another needs.
//!
//! ```text
//! own         process, shards, admin connections, health checks        always
//! posts       shards x pool x analyzers over HTTP                      always for those configured; 16 more if they fit
//! handshakes  shards x ports with TLS                                  1,024 each, all of them a quarter of the rest at most
//! analyzers   shards x analyzers that the arena serves                 all if they fit; 8 a shard at least
//! emitters, HTTP clients                                               what they ask for; else the rest, three to one,
//!                                                                      and not less than half of all
//! ```

use std::fmt;

use super::error::StartError;
use crate::uring::nofile_hard;
use weir_config::{Admin, Config};
use weir_engine::lanes_of;

/// Of a shard: four rings, two eventfds, three listeners, a file for refused packets.
pub(super) const SHARD: u64 = 10;
/// Of the process: streams, files, sockets of the control and of the service manager, rings of the control's executor.
pub(super) const PROCESS: u64 = 28;
/// The admin listener and its connections.
const ADMIN: u64 = 18;
/// Those of them that have not shown the token, where it is a TCP address.
const ADMIN_GUESTS: u64 = 32;
/// Analyzers over HTTP that may be added while it runs.
const HTTP_ANALYZERS_SPARE: u64 = 16;
/// Links of analyzers that each shard has room for, whatever connections are asked for.
const LINKS_LEAST: u64 = 8;
/// Handshakes of TLS under way at a port of a shard.
const HANDSHAKES: u64 = 1024;
/// The same, whatever connections are asked for.
const HANDSHAKES_LEAST: u64 = 8;

/// What a distributor needs descriptors for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Shards.
    pub shards: usize,
    /// Analyzers that a shard's arena serves.
    pub analyzers: usize,
    /// Analyzers over HTTP in the configuration.
    pub http_analyzers: usize,
    /// Connections to each of them, per shard.
    pub pool: u16,
    /// Somebody may connect as an operator, and add analyzers.
    pub has_admin: bool,
    /// They do so by TCP.
    pub has_admin_tcp: bool,
    /// Inputs beside the port of `--emitters`: a listener on each shard.
    pub inputs: usize,
    /// Ports of each shard where TLS is spoken.
    pub tls_ports: usize,
    /// Emitters asked for; 0: as many as go.
    pub emitters: usize,
    /// HTTP clients, likewise; none: nobody listens.
    pub http: Option<usize>,
}

/// Who gets how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// All that there may be.
    pub all: u64,
    /// Of the process and its shards.
    pub own: u64,
    /// Connections to analyzers over HTTP.
    pub posts: u64,
    /// Handshakes under way, at each port of each shard.
    pub handshakes: usize,
    /// Analyzers of each shard: as many as its arena serves, or fewer.
    pub analyzers: usize,
    /// Shards.
    pub shards: usize,
    /// Emitters; `usize::MAX`: no limit.
    pub emitters: usize,
    /// HTTP clients, likewise.
    pub http: usize,
}

impl Needs {
    /// Of a configuration; `has_http`: HTTP clients are listened for.
    pub fn of(config: &Config, has_http: bool) -> Needs {
        Needs {
            shards: config.shards,
            analyzers: lanes_of(config.arena_bytes / config.batch_bytes.max(1) as usize),
            http_analyzers: config.http.analyzers_expected(),
            pool: config.http.pool_connections,
            has_admin: config.admin.is_some(),
            has_admin_tcp: matches!(config.admin.as_ref(), Some(Admin::Tcp(_))),
            inputs: config.all_inputs().len(),
            tls_ports: config.tls_ports_of_shards(),
            emitters: config.connections_max,
            http: has_http.then_some(config.http.connections_max),
        }
    }

    /// Divides what this process may have.
    ///
    /// # Errors
    /// As [`Needs::divide`].
    pub fn divide_here(&self) -> Result<Division, StartError> {
        self.divide(nofile_hard())
    }

    /// Divides `all`; `u64::MAX`: there is no limit.
    ///
    /// # Errors
    /// There are too few: for what, and which limit.
    pub fn divide(&self, all: u64) -> Result<Division, StartError> {
        let shards = self.shards as u64;
        let has_operator = self.has_admin || self.http.is_some();
        let guests = if self.has_admin_tcp { ADMIN_GUESTS } else { 0 };
        let admin = if self.has_admin { ADMIN + guests } else { 0 };
        let http_analyzers = self.http_analyzers as u64;
        let tls_ports = shards * self.tls_ports as u64;
        let least_shaking = tls_ports * HANDSHAKES_LEAST;
        let own = PROCESS
            + (SHARD + self.inputs as u64) * shards
            + admin
            + http_analyzers
            + least_shaking;
        let pools = shards * u64::from(self.pool);
        let posts = pools * http_analyzers;
        let spare = match has_operator {
            true => pools * HTTP_ANALYZERS_SPARE,
            false => 0,
        };
        let links = shards * self.analyzers as u64;
        let links_least = links.min(shards * LINKS_LEAST);

        let is_open = self.emitters == 0 || self.http == Some(0);
        let asked = (self.emitters as u64).saturating_add(self.http.unwrap_or(0) as u64);
        let wanted = asked.saturating_add(u64::from(is_open));
        let least = own + posts + links_least;
        let most = all.saturating_sub(least);
        if wanted > most {
            return Err(StartError::Nofile {
                needed: least.saturating_add(wanted),
                own,
                links: links_least,
                posts,
                all,
            });
        }
        let room = match is_open {
            true => {
                let rest = all.saturating_sub(own + posts + links + spare);
                rest.max(all / 2).max(wanted).min(most)
            }
            false => asked,
        };
        // Beyond the least they take from what nobody has asked for by its number.
        let free = if is_open { room - wanted } else { most - room };
        let more = tls_ports * (HANDSHAKES - HANDSHAKES_LEAST);
        let more = more.min(free / 4);
        let room = if is_open { room - more } else { room };
        let handshakes = HANDSHAKES_LEAST + more.checked_div(tls_ports).unwrap_or(0);
        let own = own + more;
        let links_fit = (all - room - own - posts).clamp(links_least, links);
        let free = usize::try_from(room - asked).unwrap_or(usize::MAX);
        let (emitters, http) = match (self.emitters, self.http) {
            (0, Some(0)) if all == u64::MAX => (usize::MAX, usize::MAX),
            (0, http) if all == u64::MAX => (usize::MAX, http.unwrap_or(0)),
            (emitters, Some(0)) if all == u64::MAX => (emitters, usize::MAX),
            (0, None) => (free, 0),
            (0, Some(0)) => (free - free / 4, (free / 4).max(1)),
            (0, Some(http)) => (free, http),
            (emitters, Some(0)) => (emitters, free),
            (emitters, http) => (emitters, http.unwrap_or(0)),
        };
        Ok(Division {
            all,
            own,
            handshakes: usize::try_from(handshakes).unwrap_or(usize::MAX),
            posts: posts + spare.min(all - room - own - posts - links_fit),
            analyzers: usize::try_from(links_fit / shards).unwrap_or(self.analyzers),
            shards: self.shards,
            emitters,
            http,
        })
    }
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all {
            u64::MAX => f.write_str("descriptors without a limit (RLIMIT_NOFILE): ")?,
            all => write!(f, "{all} descriptors (RLIMIT_NOFILE): ")?,
        }
        let Division {
            own,
            posts,
            analyzers,
            shards,
            ..
        } = self;
        write!(
            f,
            "{own} own, {analyzers} analyzers on each of {shards} shards, {posts} connections to analyzers over HTTP, "
        )?;
        for (count, who) in [(self.emitters, "emitters, "), (self.http, "HTTP clients")] {
            match count {
                usize::MAX => write!(f, "any number of {who}")?,
                count => write!(f, "{count} {who}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        shards: 2,
        analyzers: 85,
        http_analyzers: 0,
        pool: 8,
        has_admin: false,
        has_admin_tcp: false,
        inputs: 0,
        tls_ports: 0,
        emitters: 0,
        http: Some(0),
    };

    fn divided(needs: Needs, all: u64) -> Division {
        let division = needs.divide(all).expect("they fit");
        let links = (division.analyzers * division.shards) as u64;
        let sum = division.own + division.posts + links;
        let connections = division.emitters as u64 + division.http as u64;
        assert!(sum + connections <= all, "{division:?}");
        division
    }

    #[test]
    fn each_kind_has_what_it_needs_and_connections_have_the_rest() {
        let division = divided(NEEDS, 10_000);
        assert_eq!((division.own, division.analyzers), (48, 85));
        assert_eq!(division.posts, 2 * 8 * 16, "some may be added");
        let rest = 10_000 - 48 - 170 - 256;
        assert_eq!(
            (division.emitters, division.http),
            (rest - rest / 4, rest / 4)
        );
        // As on a host where 3,000 are allowed and the arena serves 1,365 analyzers.
        let many = Needs {
            shards: 1,
            analyzers: 1365,
            http: None,
            ..NEEDS
        };
        let division = divided(many, 3000);
        assert_eq!((division.analyzers, division.emitters), (1365, 1597));
        let division = divided(many, 2000);
        assert_eq!((division.analyzers, division.emitters), (962, 1000), "half");
    }

    #[test]
    fn handshakes_have_places_of_their_own() {
        let secured = Needs {
            tls_ports: 2,
            ..NEEDS
        };
        let division = divided(secured, 20_000);
        assert_eq!(division.handshakes, 1024, "4,096 of them");
        let plain = divided(NEEDS, 20_000);
        let of_both = |division: Division| division.emitters + division.http;
        assert_eq!(of_both(plain) - of_both(division), 4096);
        // Half of 612 is for connections, and handshakes have a quarter of that.
        let small = divided(secured, 612);
        assert_eq!(small.handshakes, 8 + 612 / 2 / 4 / 4);
        let asked = Needs {
            emitters: 500,
            http: None,
            ..secured
        };
        assert_eq!(divided(asked, 612).handshakes, 8 + 16 / 4 / 4);
        assert!(asked.divide(500 + 48 + 16 + 31).is_err());
    }

    #[test]
    fn numbers_that_are_asked_for_are_given_or_refused_with_all_that_is_needed() {
        let asked = Needs {
            emitters: 900,
            http: Some(40),
            http_analyzers: 2,
            ..NEEDS
        };
        // 50 own, 32 posts, 16 links at least.
        assert_eq!(divided(asked, 1038).analyzers, 8);
        assert_eq!(divided(asked, 1108).analyzers, 43);
        let refused = asked.divide(1037).expect_err("one too few").to_string();
        for word in [
            "1038",
            "50",
            "32",
            "16",
            "RLIMIT_NOFILE",
            "1037",
            "LimitNOFILE",
        ] {
            assert!(refused.contains(word), "{word}: {refused}");
        }
        let by_tcp = Needs {
            has_admin: true,
            has_admin_tcp: true,
            ..asked
        };
        assert_eq!(divided(by_tcp, 1108).own, 50 + ADMIN + ADMIN_GUESTS);
        let listening = Needs { inputs: 3, ..asked };
        assert_eq!(divided(listening, 1044).own, 56, "two shards");
        assert!(listening.divide(1043).is_err());
        let rest = Needs {
            http: Some(0),
            ..asked
        };
        assert_eq!(divided(rest, 2_100).http, 2_100 - 900 - 50 - 32 - 170 - 256);
        let huge = Needs {
            emitters: usize::MAX,
            ..NEEDS
        };
        assert!(huge.divide(1 << 20).is_err());
        let division = NEEDS.divide(u64::MAX).expect("any number fits");
        let unlimited = (85, usize::MAX, usize::MAX);
        assert_eq!(
            (division.analyzers, division.emitters, division.http),
            unlimited
        );
    }
}
