//! Groups of HTTP analyzers, found by a name: `ID=WEIGHT@dns+http://host:port[/path]`.
//!
//! ```text
//!   dns+http://analyzers:4001         each address of the name is an analyzer      ID/ADDRESS
//!   dnssrv+http://_logs._tcp.name     each target of the SRV record is one         ID/TARGET:PORT
//!   WEIGHT, WEIGHT/member             each of them has this weight
//!   WEIGHT/group                      it is divided among those that are up
//! ```

use std::fmt;
use std::str::FromStr;

use weir_discover::{Endpoint as Found, HostPort, SrvName, Target};

use crate::delivery::{Delivery, Place};

/// Longest id of a group, in bytes: those of its members begin with it.
pub const GROUP_ID_BYTES_MAX: usize = 64;
const ALLOWED: &str =
    "allowed: dns+http://host:port[/path] or dnssrv+http://_SERVICE._PROTO.NAME[/path]";

/// Where a group's members are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// What is looked up: a name of addresses, or of SRV records.
    pub target: Target,
    /// As of an [`crate::Endpoint`].
    pub path: String,
    /// What its members take.
    pub delivery: Delivery,
}

/// Whose weight it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightIs {
    /// Each member's.
    #[default]
    Member,
    /// That of all together, divided among those that are up.
    Group,
}

/// What makes an analyzer a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Where they are found.
    pub discover: Discover,
    /// Whose the weight is.
    pub weight_is: WeightIs,
}

impl Discover {
    /// Where a member is that was found.
    ///
    /// # Errors
    /// Its name is none that an endpoint can have.
    pub fn place(&self, found: &Found) -> Result<Place, String> {
        let word = self.delivery.scheme().word;
        let at = format!("{word}://{}{}", found.name, self.path);
        let place = at.parse::<Place>().map_err(|why| format!("{at}: {why}"))?;
        Ok(Place {
            delivery: self.delivery.clone(),
            ..place
        })
    }

    /// The end of a member's id: its address, or target and port.
    pub fn member<'a>(&self, found: &'a Found) -> std::borrow::Cow<'a, str> {
        match (&self.target, found.addrs.first()) {
            (Target::Dns(_), Some(addr)) => addr.ip().to_string().into(),
            _ => found.name.as_str().into(),
        }
    }
}

impl FromStr for Discover {
    type Err = String;

    fn from_str(text: &str) -> Result<Discover, String> {
        let (form, url) = text.split_once('+').ok_or(ALLOWED)?;
        let place: Place = url.parse().map_err(|why| format!("{why}; {ALLOWED}"))?;
        let (endpoint, delivery) = (place.endpoint, place.delivery);
        if delivery.local().is_some() {
            let word = delivery.scheme().word;
            return Err(format!(
                "{word}: is no server that a name leads to; {ALLOWED}"
            ));
        }
        let target = match form {
            "dns" => Target::Dns(HostPort {
                host: endpoint.host,
                port: endpoint.port,
            }),
            "dnssrv" => {
                let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
                let authority = authority.split(['/', '?']).next();
                let name: SrvName = authority
                    .unwrap_or_default()
                    .parse()
                    .map_err(|why| format!("{why}; {ALLOWED}"))?;
                Target::Srv(name)
            }
            _ => return Err(format!("{form}+ is not known; {ALLOWED}")),
        };
        Ok(Discover {
            target,
            path: endpoint.path,
            delivery,
        })
    }
}

impl fmt::Display for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, word) = (&self.path, self.delivery.word());
        match &self.target {
            Target::Srv(name) => write!(f, "dnssrv+{word}://{}{path}", name.as_str())?,
            Target::Dns(at) => write!(f, "dns+{word}://{at}{path}")?,
            other => write!(f, "{other}{path}")?,
        }
        self.delivery.write_options(f)
    }
}

impl WeightIs {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            WeightIs::Member => "member",
            WeightIs::Group => "group",
        }
    }
}

impl FromStr for WeightIs {
    type Err = String;

    fn from_str(text: &str) -> Result<WeightIs, String> {
        [WeightIs::Member, WeightIs::Group]
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| "allowed: member or group".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn both_forms_are_read_and_shown_as_they_were() {
        for text in [
            "dns+http://analyzers.ns.svc:4001",
            "dns+http://analyzers:80/v1",
            "dnssrv+http://_logs._tcp.example.net/v1",
        ] {
            let discover: Discover = text.parse().expect(text);
            assert_eq!(discover.to_string(), text);
        }
        for (bad, why) in [
            ("http://a:1", "allowed: dns+http://"),
            ("dns+a:1", "http://host:port"),
            ("file+http://a:1", "file+ is not known"),
            ("dnssrv+http://a:1", "_SERVICE._PROTO"),
            ("dnssrv+http://_a._tcp.b:80", "_SERVICE._PROTO"),
        ] {
            let error = bad.parse::<Discover>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn members_are_named_after_address_or_target() {
        let addr = SocketAddr::from(([10, 0, 0, 5], 4001));
        let found = Found::new(addr.to_string(), vec![addr]);
        let discover: Discover = "dns+http://a:4001/v1".parse().expect("good");
        assert_eq!(discover.member(&found), "10.0.0.5");
        let endpoint = discover.place(&found).expect("good").endpoint;
        assert_eq!(endpoint.to_string(), "http://10.0.0.5:4001/v1");
        let found = Found::new("b.test:9".into(), vec![addr]);
        let discover: Discover = "dnssrv+http://_a._tcp.b".parse().expect("good");
        assert_eq!(discover.member(&found), "b.test:9");
        assert_eq!(
            discover.place(&found).expect("good").endpoint.host,
            "b.test"
        );
    }
}
