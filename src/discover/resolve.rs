//! One look at one target.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::dns::{look_up, Found};
use crate::endpoint::Endpoint;
use crate::lookups::{Lookups, Question};
use crate::nameservers::Nameservers;
use crate::records::{Answer, Kind, Service};
use crate::target::{HostPort, SrvName, Target};
use crate::watch::ENDPOINTS_MAX;

/// Addresses of one name that are taken.
const ADDRESSES_MAX: usize = ENDPOINTS_MAX;

/// How often it is looked whether a lookup is still wanted.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// What is taken. A target of an SRV record that came without an address has none here.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How many there are besides, which are not taken.
    pub(crate) cut: usize,
}

/// Why a target has no address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved(pub(crate) String);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unresolved {}

/// Who is asked for names. All calls block.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Empty: the system's resolver, and for SRV the nameservers of /etc/resolv.conf.
    chosen: Vec<SocketAddr>,
}

impl Resolver {
    /// The system's, if `nameservers` is empty; otherwise these are asked for everything but `localhost`, and take
    /// names as absolute.
    pub fn new(nameservers: Vec<SocketAddr>) -> Resolver {
        Resolver {
            chosen: nameservers,
        }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// There are none, or nobody says.
    pub fn ips(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if self.chosen.is_empty() {
            return of_system(host);
        }
        let is_here = host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
        if is_here {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let of = Nameservers::chosen(&self.chosen);
        let (mut ips, mut failure) = (Vec::new(), None);
        for kind in [Kind::A, Kind::Aaaa] {
            match look_up(&of, host, kind) {
                Ok(Found::Records(Answer::Addresses(found))) => ips.extend(found),
                Ok(_) => {}
                Err(why) => failure = Some(why),
            }
        }
        // Half an answer would make the other half disappear.
        match failure {
            Some(why) => Err(Unresolved(why)),
            None => some(ips),
        }
    }

    /// Where a host is.
    ///
    /// # Errors
    /// As [`Resolver::ips`].
    pub fn addrs(&self, at: &HostPort) -> Result<Vec<SocketAddr>, Unresolved> {
        let ips = self.ips(&at.host)?;
        let addr = |ip| SocketAddr::new(ip, at.port);
        Ok(ips.into_iter().map(addr).collect())
    }

    /// The same for who may be stopped meanwhile: the lookup has a thread of its own, which is then left alone.
    ///
    /// # Errors
    /// As [`Resolver::ips`]; it was stopped.
    pub fn addrs_until(
        &self,
        at: &HostPort,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Vec<SocketAddr>, Unresolved> {
        let mut lookups = Lookups::new(self.clone());
        lookups.ask(Question::Given(Target::Host(at.clone())));
        loop {
            if let Some((_, found)) = lookups.hear(STOP_LOOK_EVERY) {
                let endpoints = found?.endpoints.into_iter();
                return Ok(endpoints.flat_map(|it| it.addrs).collect());
            }
            if is_stopped() {
                return Err(Unresolved("stopped before a nameserver answered".into()));
            }
        }
    }

    /// What a question comes to now.
    pub(crate) fn answer(&self, question: &Question) -> Result<Look, Unresolved> {
        match question {
            Question::Of(_, at) | Question::Given(Target::Host(at)) => {
                let (addrs, cut) = self.places(at)?;
                let one = Endpoint::new(at.to_string(), addrs).of_host(&at.host);
                let endpoints = vec![one];
                Ok(Look { endpoints, cut })
            }
            Question::Given(Target::Dns(at)) => {
                let each = |addr: SocketAddr| {
                    Endpoint::new(addr.to_string(), vec![addr]).of_host(&at.host)
                };
                let (addrs, cut) = self.places(at)?;
                let endpoints = addrs.into_iter().map(each).collect();
                Ok(Look { endpoints, cut })
            }
            Question::Given(Target::Srv(name)) => self.services(name),
            Question::Given(Target::File(path)) => {
                Err(Unresolved(format!("{} is a file", path.display())))
            }
        }
    }

    /// Addresses that are taken, and how many there are besides.
    fn places(&self, at: &HostPort) -> Result<(Vec<SocketAddr>, usize), Unresolved> {
        let mut addrs = self.addrs(at)?;
        let cut = addrs.len().saturating_sub(ADDRESSES_MAX);
        addrs.truncate(ADDRESSES_MAX);
        Ok((addrs, cut))
    }

    fn services(&self, name: &SrvName) -> Result<Look, Unresolved> {
        let of = match self.chosen.is_empty() {
            true => Nameservers::of_system(),
            false => Nameservers::chosen(&self.chosen),
        };
        let services = match look_up(&of, name.as_str(), Kind::Srv) {
            Ok(Found::Records(Answer::Services(services))) => services,
            Ok(_) => return Err(Unresolved("the name has no SRV record".into())),
            Err(why) => return Err(Unresolved(why)),
        };
        let cut = services.len().saturating_sub(ENDPOINTS_MAX);
        let services = services.into_iter().take(ENDPOINTS_MAX);
        let endpoints = services.map(endpoint).collect();
        Ok(Look { endpoints, cut })
    }
}

/// Without addresses if none came along.
fn endpoint(service: Service) -> Endpoint {
    let at = HostPort {
        host: service.target,
        port: service.port,
    };
    let addrs = service
        .ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, at.port));
    Endpoint {
        name: at.to_string(),
        host: None,
        addrs: addrs.collect(),
        priority: service.priority,
        weight: service.weight,
    }
}

fn of_system(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    match (host, 0).to_socket_addrs() {
        Ok(found) => some(found.map(|addr| addr.ip()).collect()),
        Err(error) => Err(Unresolved(error.to_string())),
    }
}

/// In the order in which they were told, each once. The codec and the system bound them.
fn some(ips: Vec<IpAddr>) -> Result<Vec<IpAddr>, Unresolved> {
    let mut all: Vec<IpAddr> = Vec::new();
    let mut seen = BTreeSet::new();
    for ip in ips {
        if seen.insert(ip) {
            all.push(ip);
        }
    }
    match all.is_empty() {
        true => Err(Unresolved("the name has no address".into())),
        false => Ok(all),
    }
}
