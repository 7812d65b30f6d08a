//! Analyzers that the distributor connects to, and where they are: `ID=WEIGHT@http://host:port[/path]`, or with another
//! scheme of `delivery.rs`. Groups of them: `group.rs`.

use std::fmt;
use std::str::FromStr;

use crate::delivery::word_with_tls;
use crate::delivery::{Delivery, Place, SCHEMES};
use crate::endpoint::Endpoint;
use crate::group::{Discover, Members, WeightIs, GROUP_ID_BYTES_MAX};
use weir_discover::Target;
use weir_protocol::text::check_name;
use weir_protocol::valid_weight;
use weir_tls::{KeyLogger, SecuredLink};

/// Longest id of an HTTP analyzer, in bytes; shortest: 1.
pub const HTTP_ID_BYTES_MAX: usize = 256;
/// An analyzer that packets are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnalyzer {
    id: String,
    place: Place,
    weight: f64,
    members: Option<Members>,
}

impl HttpAnalyzer {
    /// An analyzer with valid parts.
    ///
    /// # Errors
    /// What is allowed: an id of 1 to 256 bytes without control characters, a finite weight from 0.
    pub fn new(id: &str, place: impl Into<Place>, weight: f64) -> Result<HttpAnalyzer, String> {
        let fits = (1..=HTTP_ID_BYTES_MAX).contains(&id.len());
        if !fits {
            return Err(format!(
                "allowed: an id of 1 to {HTTP_ID_BYTES_MAX} bytes without control characters"
            ));
        }
        check_name(id)?;
        let weight = valid_weight(weight).ok_or_else(|| {
            "allowed: a weight that is a finite number, 0 or more (0.25)".to_owned()
        })?;
        Ok(HttpAnalyzer {
            id: id.to_owned(),
            place: place.into(),
            weight,
            members: None,
        })
    }

    /// A group of analyzers with valid parts.
    ///
    /// # Errors
    /// As [`HttpAnalyzer::new`]; the id has at most [`GROUP_ID_BYTES_MAX`] bytes.
    pub fn group(
        id: &str,
        discover: Discover,
        weight: f64,
        weight_is: WeightIs,
    ) -> Result<HttpAnalyzer, String> {
        if id.len() > GROUP_ID_BYTES_MAX {
            return Err(format!(
                "allowed: an id of 1 to {GROUP_ID_BYTES_MAX} bytes for a group, whose members' ids begin with it"
            ));
        }
        let nowhere = Place {
            endpoint: Endpoint {
                host: String::new(),
                port: 0,
                path: discover.path.clone(),
            },
            delivery: discover.delivery.clone(),
        };
        let mut group = HttpAnalyzer::new(id, nowhere, weight)?;
        group.members = Some(Members {
            discover,
            weight_is,
        });
        Ok(group)
    }

    /// Where the members of this group are found; none: it is one analyzer.
    pub fn members(&self) -> Option<&Members> {
        self.members.as_ref()
    }

    /// Both are at the same place, or found in the same way.
    pub fn is_where(&self, other: &HttpAnalyzer) -> bool {
        self.place == other.place && self.members == other.members
    }

    /// Where it is, or where its members are found.
    pub fn place_text(&self) -> String {
        match &self.members {
            Some(members) => members.discover.to_string(),
            None => self.place.to_string(),
        }
    }

    /// Its name in tables, logs and metrics.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens, and what it takes; nowhere if it is a group.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How messages get there, or to its members.
    pub fn delivery(&self) -> &Delivery {
        match &self.members {
            Some(members) => &members.discover.delivery,
            None => &self.place.delivery,
        }
    }

    /// Emitters of acked inputs may not be told of its ACKs, see [`crate::Delivery::refuses_to_chain`].
    pub fn refuses_to_chain(&self) -> bool {
        self.delivery().refuses_to_chain()
    }

    /// Reads the files that it only names. `key_log`: where the secrets of its connections go. `before`: how TLS is begun
    /// with it now.
    ///
    /// # Errors
    /// The option, the path, and what is allowed; never the secret.
    pub fn resolve(
        &mut self,
        key_log: Option<&KeyLogger>,
        before: Option<&SecuredLink>,
    ) -> Result<(), String> {
        let Some(members) = &mut self.members else {
            let host = self.place.endpoint.host.clone();
            let delivery = &mut self.place.delivery;
            return delivery.resolve(&self.id, Some(&host), key_log, before);
        };
        let discover = &mut members.discover;
        let host = match &discover.target {
            Target::Dns(at) => Some(at.host.clone()),
            _ => None,
        };
        { &mut discover.delivery }.resolve(&self.id, host.as_deref(), key_log, before)?;
        self.place.delivery = discover.delivery.clone();
        Ok(())
    }

    /// Its share relative to the others'; finite, 0 or more.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The same analyzer with another weight, which is valid.
    pub(crate) fn with_weight(&self, weight: f64) -> HttpAnalyzer {
        HttpAnalyzer {
            weight,
            ..self.clone()
        }
    }
}

impl fmt::Display for HttpAnalyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, weight, .. } = self;
        let of = match &self.members {
            Some(members) if members.weight_is == WeightIs::Group => "/group",
            _ => "",
        };
        write!(f, "{id}={weight}{of}@{}", self.place_text())
    }
}

impl FromStr for HttpAnalyzer {
    type Err = String;

    /// `ID=WEIGHT@http://host:port[/path]`, or with dns+ or dnssrv+ a group. An id may have any of these signs in it.
    fn from_str(text: &str) -> Result<HttpAnalyzer, String> {
        let allowed = || {
            "allowed: ID=WEIGHT@http://host:port[/path] (a1=0.4@http://10.0.0.1:4001) or another scheme (a2=1@forward://10.0.0.2:24224), \
             for a group ID=WEIGHT[/member|/group]@dns+http://host:port[/path]"
                .to_owned()
        };
        let (at, is_group) = place_of(text).ok_or_else(allowed)?;
        let (id, weight) = text[..at].rsplit_once('=').ok_or_else(allowed)?;
        let place = &text[at + 1..];
        if !is_group {
            let place: Place = place.parse()?;
            let weight = weight.parse().map_err(|_| allowed())?;
            return HttpAnalyzer::new(id, place, weight);
        }
        let (weight, weight_is) = match weight.split_once('/') {
            Some((weight, of)) => (weight, of.parse()?),
            None => (weight, WeightIs::Member),
        };
        let weight = weight.parse().map_err(|_| allowed())?;
        HttpAnalyzer::group(id, place.parse()?, weight, weight_is)
    }
}

/// Where the @ before its place is, and whether that is a group's. The last place counts: an id may have any sign in it.
fn place_of(text: &str) -> Option<(usize, bool)> {
    // A command may have any sign in it.
    if let Some(at) = text.find("@exec:") {
        let weight = text[..at].rsplit_once('=').map(|(_, weight)| weight);
        if weight.is_some_and(|weight| weight.parse::<f64>().is_ok()) {
            return Some((at, false));
        }
    }
    let of = |scheme: &str, before: &str| {
        let place = text.rfind(&format!("@{before}{scheme}"))?;
        Some((place, !before.is_empty()))
    };
    let plain = SCHEMES.iter().map(|scheme| scheme.word.to_owned());
    let secured = SCHEMES.iter().map(|scheme| word_with_tls(scheme.word));
    let places = plain.chain(secured).flat_map(|word| {
        let url = format!("{word}:");
        [of(&url, ""), of(&url, "dns+"), of(&url, "dnssrv+")]
    });
    places.flatten().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_their_text_says() {
        for (text, weight_is) in [
            ("pool=0.25@dns+http://h:80/p", WeightIs::Member),
            ("pool=0.25/group@dns+http://h:4001", WeightIs::Group),
            (
                "a=b@c=0.25/group@dnssrv+http://_a._tcp.h/p",
                WeightIs::Group,
            ),
        ] {
            let group: HttpAnalyzer = text.parse().expect(text);
            assert_eq!(group.weight(), 0.25);
            assert_eq!(group.members().map(|it| it.weight_is), Some(weight_is));
            assert_eq!(group.to_string(), text);
        }
        for (bad, why) in [
            ("p=1/x@dns+http://h:1", "member or group"),
            ("p=1@dnssrv+http://h", "_SERVICE"),
            ("p=-1@dns+http://h", "0 or more"),
            ("p=1/group@http://h", "ID=WEIGHT"),
        ] {
            let error = bad.parse::<HttpAnalyzer>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("{}=1@dns+http://h", "x".repeat(GROUP_ID_BYTES_MAX + 1));
        assert!(long.parse::<HttpAnalyzer>().is_err());
    }

    #[test]
    fn analyzers_are_what_their_text_says() {
        for id in ["a1", "a=1", "a@b", "http://10.0.0.1:9", "ü x", "a=1@http"] {
            let text = format!("{id}=0.25@http://h:80/p");
            let analyzer: HttpAnalyzer = text.parse().expect(&text);
            assert_eq!((analyzer.id(), analyzer.weight()), (id, 0.25));
            assert_eq!(analyzer.to_string(), text);
        }
        for (text, port) in [
            ("a=1@https://h", 443),
            ("a=1@https://h:80/p", 80),
            ("a=1@https://[::1]", 443),
            ("a=1@es+https://h", 9200),
            ("a=1@syslog+tls://h", 6514),
            ("a=1@forward+tls://h?tls_name=other", 24224),
            ("a=1@dns+https://h:443/p", 443),
        ] {
            let analyzer: HttpAnalyzer = text.parse().expect(text);
            let shown = analyzer.to_string();
            let again: HttpAnalyzer = shown.parse().expect(&shown);
            assert_eq!(analyzer, again);
            assert!(shown.contains(&format!(":{port}")), "{shown}");
            assert!(shown.contains("https") || shown.contains("+tls"), "{shown}");
        }
        for (bad, why) in [
            (
                "a1=1@http://h?tls_ca=x",
                "TLS is not spoken to http://; allowed: https://",
            ),
            ("a1=1@file+tls:///x", "scheme \"file+tls\""),
            ("a1=1@https://h?tls_what=1", "no such option"),
            ("a1", "ID=WEIGHT@"),
            ("a1@http://h", "ID=WEIGHT@"),
            ("a1=x@http://h", "ID=WEIGHT@"),
            ("a1=-1@http://h", "0 or more"),
            ("a1=NaN@http://h", "0 or more"),
            ("=1@http://h", "an id of 1 to 256"),
            ("a\nb=1@http://h", "control"),
        ] {
            let error = bad.parse::<HttpAnalyzer>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("{}=1@http://h", "x".repeat(HTTP_ID_BYTES_MAX + 1));
        assert!(long.parse::<HttpAnalyzer>().is_err());
    }
}
