//! One look at one target.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::dns::{look_up, Found};
use crate::endpoint::Endpoint;
use crate::nameservers::Nameservers;
use crate::records::{Answer, Kind, Service};
use crate::target::{HostPort, SrvName, Target};
use crate::watch::ENDPOINTS_MAX;

/// Addresses of one name that are taken.
const ADDRESSES_MAX: usize = ENDPOINTS_MAX;

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

    /// What a target that is no file stands for now. A target of an SRV record whose own name has no address now is
    /// there without one.
    pub(crate) fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>, Unresolved> {
        match target {
            Target::Host(at) => Ok(vec![Endpoint::new(at.to_string(), self.addrs(at)?)]),
            Target::Dns(at) => {
                let each = |addr: SocketAddr| Endpoint::new(addr.to_string(), vec![addr]);
                Ok(self.addrs(at)?.into_iter().map(each).collect())
            }
            Target::Srv(name) => self.services(name),
            Target::File(path) => Err(Unresolved(format!("{} is a file", path.display()))),
        }
    }

    fn services(&self, name: &SrvName) -> Result<Vec<Endpoint>, Unresolved> {
        let of = match self.chosen.is_empty() {
            true => Nameservers::of_system(),
            false => Nameservers::chosen(&self.chosen),
        };
        let services = match look_up(&of, name.as_str(), Kind::Srv) {
            Ok(Found::Records(Answer::Services(services))) => services,
            Ok(_) => return Err(Unresolved("the name has no SRV record".into())),
            Err(why) => return Err(Unresolved(why)),
        };
        let services = services.into_iter().take(ENDPOINTS_MAX);
        Ok(services.map(|service| self.endpoint(service)).collect())
    }

    fn endpoint(&self, service: Service) -> Endpoint {
        let at = HostPort {
            host: service.target,
            port: service.port,
        };
        let ips = match service.ips.is_empty() {
            false => service.ips,
            true => self.ips(&at.host).unwrap_or_default(),
        };
        let addrs = ips.into_iter().map(|ip| SocketAddr::new(ip, at.port));
        Endpoint {
            name: at.to_string(),
            addrs: addrs.collect(),
            priority: service.priority,
            weight: service.weight,
        }
    }
}

fn of_system(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    match (host, 0).to_socket_addrs() {
        Ok(found) => some(found.map(|addr| addr.ip()).collect()),
        Err(error) => Err(Unresolved(error.to_string())),
    }
}

/// In the order in which they were told, each once.
fn some(ips: Vec<IpAddr>) -> Result<Vec<IpAddr>, Unresolved> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in ips {
        if !all.contains(&ip) && all.len() < ADDRESSES_MAX {
            all.push(ip);
        }
    }
    match all.is_empty() {
        true => Err(Unresolved("the name has no address".into())),
        false => Ok(all),
    }
}
