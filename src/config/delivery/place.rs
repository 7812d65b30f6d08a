//! An analyzer's URL, taken apart.

use std::fmt;
use std::str::FromStr;

use super::secured::{port_with_tls, without_tls, Secured};
use super::{Delivery, SCHEMES};
use crate::endpoint::{host_and_port, Endpoint};
use crate::local;
use crate::request::REQUESTS;
use crate::url::Url;

/// Where an analyzer is, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its host and port.
    pub endpoint: Endpoint,
    /// How messages get there.
    pub delivery: Delivery,
}

/// Packets of JSON by POST.
impl From<Endpoint> for Place {
    fn from(endpoint: Endpoint) -> Place {
        Place {
            endpoint,
            delivery: Delivery::new(&SCHEMES[0]),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { path, .. } = &self.endpoint;
        let word = self.delivery.word();
        match &self.delivery.local {
            Some(local) => local.fmt(f)?,
            None => write!(f, "{word}://{}{path}", self.endpoint.authority())?,
        }
        self.delivery.write_options(f)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (plain, is_secured) = without_tls(text);
        let text = &plain[..];
        let secured = is_secured.then(Secured::default);
        if text.starts_with("http://") {
            let (url, query) = match text.split_once('?') {
                Some((url, query)) => (url, Some(query)),
                None => (text, None),
            };
            let with_tls = is_secured.then(|| url.replacen("http", "https", 1));
            let url: Url = with_tls.as_deref().unwrap_or(url).parse()?;
            let mut place = Place::from(url.endpoint);
            place.delivery.secured = secured;
            let shape = "allowed: http://host:port[/path][?option=value&...]";
            place.delivery.set_all(query, shape)?;
            return Ok(place);
        }
        if let Some(place) = local::place(text) {
            return place;
        }
        let (word, rest) = text.split_once("://").ok_or_else(allowed)?;
        let scheme = SCHEMES.iter().find(|scheme| scheme.word == word);
        let Some(scheme) = scheme else {
            return Err(format!("scheme {word:?}: {}", allowed()));
        };
        let shape = format!("allowed: {word}://host[:port][?option=value&...]");
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let place = match scheme.has_path {
            true => place,
            false => place.strip_suffix('/').unwrap_or(place),
        };
        if place.contains('/') && !scheme.has_path {
            return Err(format!("no path, {shape}"));
        }
        if place.contains('@') {
            return Err(format!("no user and no password in the URL, {shape}"));
        }
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let usual = port_with_tls(word).filter(|_| is_secured);
        let usual = usual.unwrap_or(scheme.port);
        let (host, port) = host_and_port(authority, usual).ok_or_else(|| shape.to_owned())?;
        let mut delivery = Delivery::new(scheme);
        delivery.secured = secured;
        delivery.set_all(query, &shape)?;
        if REQUESTS.contains(&word) {
            delivery.requests.set_path(word, path)?;
        }
        let path = match REQUESTS.contains(&word) {
            true => path,
            false => path.trim_end_matches('/'),
        };
        Ok(Place {
            endpoint: Endpoint {
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            },
            delivery,
        })
    }
}

fn allowed() -> String {
    let servers = SCHEMES.iter().filter(|scheme| scheme.port > 0);
    let words = servers.map(|scheme| format!("{}://", scheme.word));
    let words: Vec<String> = words.collect();
    format!(
        "allowed: host:port behind {}, with TLS https for http, +tls behind the others; file:///path, or exec:program",
        words.join(" ")
    )
}
