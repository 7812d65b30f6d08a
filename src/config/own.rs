//! Addresses that this distributor listens on itself: no analyzer is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{Admin, Config, Endpoint};

/// Listeners by their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnListeners(Vec<(&'static str, SocketAddr)>);

impl OwnListeners {
    /// Of a configuration. A port that the kernel chooses is not known: there a packet's way tells, see
    /// `src/shard/hops.rs`.
    pub fn of(config: &Config) -> OwnListeners {
        let admin = match &config.admin {
            Some(Admin::Tcp(address)) => Some(*address),
            _ => None,
        };
        let all = [
            ("--http", config.http.listen),
            ("--emitters", Some(config.emitters)),
            ("--analyzers", Some(config.analyzers)),
            ("--admin", admin),
        ];
        let inputs = config.all_inputs().into_iter();
        let inputs = inputs.filter(|input| !input.is_udp());
        let inputs = inputs.map(|input| ("--input", Some(input.listen)));
        let known = all
            .into_iter()
            .chain(inputs)
            .filter_map(|(flag, at)| Some((flag, at?)));
        OwnListeners(known.filter(|(_, at)| at.port() != 0).collect())
    }

    /// Where datagrams come, by the flag, as far as ports are known.
    pub fn of_datagrams(config: &Config) -> Vec<(&'static str, SocketAddr)> {
        let inputs = config.all_inputs().into_iter();
        let inputs = inputs.filter(|input| input.is_udp() && input.listen.port() != 0);
        inputs.map(|input| ("--input", input.listen)).collect()
    }

    /// Each flag and its address, as far as ports are known.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        self.0.iter().copied()
    }

    /// Refuses an address of this distributor.
    ///
    /// # Errors
    /// The flag and the address.
    pub fn check(&self, address: SocketAddr) -> Result<(), String> {
        let is_it = |(_, own): &&(&str, SocketAddr)| {
            own.port() == address.port() && is_same(own.ip(), address.ip())
        };
        match self.0.iter().find(is_it) {
            Some((flag, own)) => Err(format!(
                "{address} is this distributor itself ({flag} {own}); allowed: the address of an analyzer"
            )),
            None => Ok(()),
        }
    }

    /// The same for an endpoint whose host is an address, or `localhost`. Other names are looked up by the
    /// health checks.
    ///
    /// # Errors
    /// As [`OwnListeners::check`].
    pub fn check_endpoint(&self, endpoint: &Endpoint) -> Result<(), String> {
        let ips = match endpoint.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) if endpoint.host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => Vec::new(),
        };
        let mut addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port));
        addresses.try_for_each(|address| self.check(address))
    }
}

/// Who connects to `to` may reach a listener at `own`.
fn is_same(own: IpAddr, to: IpAddr) -> bool {
    let (own, to) = (own.to_canonical(), to.to_canonical());
    // To connect to no address is to connect to this host.
    own == to || own.is_unspecified() && is_local(to) || to.is_unspecified() && is_local(own)
}

/// The address is one of this host: a socket can be bound to it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listeners: &[&str]) -> OwnListeners {
        let address = |text: &&str| ("--http", text.parse().expect("an address"));
        OwnListeners(listeners.iter().map(address).collect())
    }

    #[test]
    fn an_endpoint_is_not_this_distributor() {
        let table: &[(&str, &str, bool)] = &[
            ("127.0.0.1:3000", "http://127.0.0.1:3000", true),
            ("127.0.0.1:3000", "http://127.0.0.1:3000/sub/path", true),
            ("127.0.0.1:3000", "http://localhost:3000", true),
            ("127.0.0.1:3000", "http://LOCALHOST:3000", true),
            ("127.0.0.1:3000", "http://0.0.0.0:3000", true),
            ("127.0.0.1:3000", "http://[::ffff:127.0.0.1]:3000", true),
            ("127.0.0.1:3000", "http://127.0.0.1:3001", false),
            ("127.0.0.1:3000", "http://127.0.0.2:3000", false),
            ("127.0.0.1:3000", "http://192.0.2.1:3000", false),
            ("127.0.0.1:3000", "http://example.org:3000", false),
            ("0.0.0.0:80", "http://127.9.9.9", true),
            ("0.0.0.0:3000", "http://192.0.2.1:3000", false),
            ("[::]:3000", "http://127.0.0.1:3000", true),
            ("[::]:3000", "http://[::1]:3000", true),
            ("[::1]:3000", "http://localhost:3000", true),
        ];
        for (listener, endpoint, is_own) in table {
            let endpoint = endpoint.parse().expect("an endpoint");
            let found = own(&[listener]).check_endpoint(&endpoint);
            assert_eq!(found.is_err(), *is_own, "{listener} {endpoint} {found:?}");
        }
        let error =
            own(&["127.0.0.1:1", "0.0.0.0:3000"]).check("127.0.0.1:3000".parse().expect("it"));
        let error = error.expect_err("its own");
        assert!(error.contains("127.0.0.1:3000 is this distributor itself (--http 0.0.0.0:3000)"));
    }
}
