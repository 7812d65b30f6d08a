//! Weights that are wanted: `ID=WEIGHT`, with `,pin` behind it against what the analyzer says itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use weir_engine::{Wanted, WANTED_MAX};
use weir_protocol::text::check_name;
use weir_protocol::valid_weight;

use crate::{Config, HttpAnalyzer, HTTP_ID_BYTES_MAX};

/// What is wanted of an analyzer's weight, whether it is there or not.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedWeight {
    id: String,
    weight: f64,
    pin: bool,
}

impl WantedWeight {
    /// With valid parts.
    ///
    /// # Errors
    /// What is allowed: an id of 1 to 256 bytes without control characters, a finite weight from 0.
    pub fn new(id: &str, weight: f64, pin: bool) -> Result<WantedWeight, String> {
        if !(1..=HTTP_ID_BYTES_MAX).contains(&id.len()) {
            return Err(format!(
                "allowed: an id of 1 to {HTTP_ID_BYTES_MAX} bytes without control characters"
            ));
        }
        check_name(id)?;
        let weight = valid_weight(weight).ok_or_else(|| {
            "allowed: a weight that is a finite number, 0 or more (0.25)".to_owned()
        })?;
        Ok(WantedWeight {
            id: id.to_owned(),
            weight,
            pin,
        })
    }

    /// The analyzer's.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Finite, 0 or more.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// It holds against what the analyzer says of its own weight.
    pub fn pin(&self) -> bool {
        self.pin
    }
}

impl fmt::Display for WantedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = if self.pin { ",pin" } else { "" };
        write!(f, "{}={}{pin}", self.id, self.weight)
    }
}

impl FromStr for WantedWeight {
    type Err = String;

    /// An id may have any of these signs in it.
    fn from_str(text: &str) -> Result<WantedWeight, String> {
        let allowed = || "allowed: ID=WEIGHT or ID=WEIGHT,pin (a1=0.4,pin)".to_owned();
        let (id, weight) = text.rsplit_once('=').ok_or_else(allowed)?;
        let (weight, pin) = match weight.strip_suffix(",pin") {
            Some(weight) => (weight, true),
            None => (weight, false),
        };
        let weight = weight.parse().map_err(|_| allowed())?;
        WantedWeight::new(id, weight, pin)
    }
}

/// Not too many, and each id once.
///
/// # Errors
/// The flag, the value and what is allowed.
pub fn check_weights(weights: &[WantedWeight]) -> Result<(), String> {
    let count = weights.len();
    if count > WANTED_MAX {
        return Err(format!(
            "--wanted-weight: {count} weights, at most {WANTED_MAX} allowed"
        ));
    }
    let mut ids: Vec<&str> = weights.iter().map(WantedWeight::id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!(
            "--wanted-weight {}: two weights for this id, one allowed",
            pair[0]
        )),
        None => Ok(()),
    }
}

impl Config {
    /// The wanted weights, as shard 0 takes them.
    pub fn wanted(&self) -> Arc<[Wanted]> {
        let wanted = |one: &WantedWeight| Wanted {
            name: one.id().into(),
            weight: one.weight(),
            pin: one.pin(),
        };
        self.weights.iter().map(wanted).collect()
    }

    /// The analyzers over HTTP with the weights that count: a wanted one goes before that of the analyzer's own entry.
    pub fn http_analyzers(&self) -> Vec<HttpAnalyzer> {
        let in_force = |analyzer: &HttpAnalyzer| {
            let mut wanted = self.weights.iter();
            match wanted.find(|one| one.id() == analyzer.id()) {
                Some(one) => analyzer.with_weight(one.weight()),
                None => analyzer.clone(),
            }
        };
        self.http.analyzers.iter().map(in_force).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_what_its_text_says() {
        for (text, id, weight, pin) in [
            ("a1=0.4", "a1", 0.4, false),
            ("a1=0.4,pin", "a1", 0.4, true),
            ("a=b,pin=1", "a=b,pin", 1.0, false),
            ("10.0.0.5-1=0", "10.0.0.5-1", 0.0, false),
        ] {
            let wanted: WantedWeight = text.parse().expect(text);
            let found = (wanted.id(), wanted.weight(), wanted.pin());
            assert_eq!(found, (id, weight, pin));
            assert_eq!(wanted.to_string(), text);
        }
        for (bad, why) in [
            ("a1", "ID=WEIGHT"),
            ("a1=x", "ID=WEIGHT"),
            ("a1=1,pinned", "ID=WEIGHT"),
            ("a1=-1", "0 or more"),
            ("a1=inf", "0 or more"),
            ("=1", "an id of 1 to 256"),
            ("a\nb=1", "control"),
        ] {
            let error = bad.parse::<WantedWeight>().expect_err(bad);
            let is_said = error.contains(why) && error.contains("allowed");
            assert!(is_said, "{bad}: {error}");
        }
    }

    #[test]
    fn ids_differ_and_are_not_too_many() {
        let of = |id: usize| format!("a{id}=1").parse().expect("valid");
        let mut weights: Vec<WantedWeight> = (0..WANTED_MAX).map(of).collect();
        assert_eq!(check_weights(&weights), Ok(()));
        weights[5] = of(200);
        assert!(check_weights(&weights).is_err_and(|why| why.contains("a200: two weights")));
        weights[5] = of(5);
        weights.push(of(WANTED_MAX));
        assert!(check_weights(&weights).is_err_and(|why| why.contains("4097 weights")));
    }

    #[test]
    fn a_wanted_weight_goes_before_that_of_the_analyzers_entry() {
        let mut config = Config::default();
        config.http.analyzers = vec![
            "h1=0.4@http://h:1".parse().expect("valid"),
            "h2=0.4@http://h:2".parse().expect("valid"),
        ];
        config.weights = vec!["h2=0.1".parse().expect("valid")];
        let weights: Vec<f64> = config.http_analyzers().iter().map(|h| h.weight()).collect();
        assert_eq!(weights, [0.4, 0.1]);
        assert_eq!(config.wanted().len(), 1);
    }
}
