//! How long and how severe an emitter's messages are, and how many there were of each severity.

use super::backoff::Random;
use std::fmt;
use std::str::FromStr;

/// Longest payload in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Largest sigma of [`Sizes::LogNormal`]: one message in twenty is then some 700 times as long as the median.
pub const SIGMA_MAX: f64 = 4.0;
/// Shapes are drawn once, so that drawing costs the rate nothing. So many that the mean of the lengths is within
/// 2 % of the distribution's for a sigma of 1.
const DRAWS: usize = 8192;

/// Payload bytes of messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u32),
    /// The natural logarithm of the length is normal, as that of log lines is; clamped to what a message can be.
    LogNormal {
        /// Half of them are shorter.
        median: u32,
        /// Of the logarithm; 0: all alike.
        sigma: f64,
    },
}

/// Severities and how often each comes, relative to the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Severities(Vec<(u8, f64)>);

impl Severities {
    /// Always the same one.
    pub fn all(severity: u8) -> Severities {
        Severities(vec![(severity, 1.0)])
    }
}

impl FromStr for Severities {
    type Err = String;

    /// `3`, or `1=5,2=15,3=80`.
    fn from_str(text: &str) -> Result<Severities, String> {
        let allowed =
            || "allowed: 0 to 255, or a mix of them with their parts (1=5,2=15,3=80)".to_owned();
        let severity = |text: &str| text.parse::<u8>().map_err(|_| allowed());
        if !text.contains('=') {
            return severity(text).map(Severities::all);
        }
        let part = |part: &str| {
            let (name, times) = part.split_once('=').ok_or_else(allowed)?;
            let times: f64 = times.parse().map_err(|_| allowed())?;
            match times.is_finite() && times >= 0.0 {
                true => Ok((severity(name)?, times)),
                false => Err(allowed()),
            }
        };
        let mix: Vec<(u8, f64)> = text.split(',').map(part).collect::<Result<_, String>>()?;
        match mix.iter().map(|(_, times)| times).sum::<f64>() {
            sum if sum > 0.0 && sum.is_finite() => Ok(Severities(mix)),
            _ => Err(allowed()),
        }
    }
}

/// One message to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Payload bytes.
    pub bytes: u32,
    /// First byte of the message's meaning: 0 is the most important.
    pub severity: u8,
}

/// Deals shapes, message by message, for ever.
#[derive(Clone, Debug)]
pub struct Deck {
    shapes: Vec<Shape>,
    next: usize,
}

impl Deck {
    /// Lengths are at least `bytes_min` where they are drawn. The same seed deals the same shapes.
    pub fn new(sizes: Sizes, severities: &Severities, bytes_min: u32, seed: u64) -> Deck {
        let mut random = Random::new(seed);
        let total: f64 = severities.0.iter().map(|(_, times)| times).sum();
        let mut draw = || {
            let bytes = match sizes {
                Sizes::Fixed(bytes) => bytes,
                Sizes::LogNormal { median, sigma } => {
                    let drawn = f64::from(median) * (sigma * random.normal()).exp();
                    (drawn as u32).clamp(bytes_min, PAYLOAD_BYTES_MAX)
                }
            };
            let mut left = random.unit() * total;
            let found = severities.0.iter().find(|(_, times)| {
                left -= times;
                left < 0.0
            });
            let severity = found
                .or(severities.0.last())
                .map_or(0, |(severity, _)| *severity);
            Shape { bytes, severity }
        };
        let is_varied = severities.0.len() > 1 || matches!(sizes, Sizes::LogNormal { .. });
        let draws = if is_varied { DRAWS } else { 1 };
        Deck {
            shapes: (0..draws).map(|_| draw()).collect(),
            next: 0,
        }
    }

    /// Not all are alike.
    pub fn is_varied(&self) -> bool {
        self.shapes.len() > 1
    }

    /// The next one.
    pub fn deal(&mut self) -> Shape {
        let shape = self.shapes[self.next];
        self.next = (self.next + 1) % self.shapes.len();
        shape
    }

    /// Bytes of the shortest payload that it deals.
    pub fn bytes_min(&self) -> u32 {
        self.shapes
            .iter()
            .map(|shape| shape.bytes)
            .min()
            .unwrap_or(0)
    }
}

/// Messages of each severity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SeverityCounts([u64; 256]);

impl Default for SeverityCounts {
    fn default() -> SeverityCounts {
        SeverityCounts([0; 256])
    }
}

impl SeverityCounts {
    /// One more.
    #[inline]
    pub fn note(&mut self, severity: u8) {
        self.0[usize::from(severity)] += 1;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &SeverityCounts) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(sum, more)| *sum += more);
    }

    /// Those that there were: severity and count.
    pub fn seen(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, count)| *count > 0)
    }

    /// A JSON object.
    pub fn to_json(&self) -> String {
        let each: Vec<String> = self
            .seen()
            .map(|(of, count)| format!(r#""{of}":{count}"#))
            .collect();
        format!("{{{}}}", each.join(","))
    }
}

impl fmt::Debug for SeverityCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.seen()).finish()
    }
}

impl fmt::Display for SeverityCounts {
    /// `severity 1: 5, 3: 95`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self
            .seen()
            .map(|(of, count)| format!("{of}: {count}"))
            .collect();
        write!(f, "severity {}", each.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_read_or_refused_with_what_is_allowed() {
        assert_eq!("7".parse(), Ok(Severities::all(7)));
        assert_eq!(
            "1=5,3=95".parse(),
            Ok(Severities(vec![(1, 5.0), (3, 95.0)]))
        );
        for wrong in ["256", "", "1=", "1=x", "1=-1", "1=0", "1=5,,", "1=inf"] {
            assert!(wrong.parse::<Severities>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_dealt_is_what_was_asked_for() {
        let severities = "1=10,3=90".parse().expect("a mix");
        let sizes = Sizes::LogNormal {
            median: 300,
            sigma: 0.8,
        };
        let mut deck = Deck::new(sizes, &severities, 60, 7);
        let mut dealt: Vec<Shape> = (0..DRAWS).map(|_| deck.deal()).collect();
        let important =
            dealt.iter().filter(|shape| shape.severity == 1).count() as f64 / DRAWS as f64;
        assert!((0.08..0.12).contains(&important), "{important}");
        dealt.sort_by_key(|shape| shape.bytes);
        let median = dealt[DRAWS / 2].bytes;
        assert!((280..320).contains(&median), "{median}");
        assert!(dealt[0].bytes >= 60 && deck.bytes_min() == dealt[0].bytes);
        // exp(0.8 x 1.645) of the median.
        let p95 = f64::from(dealt[DRAWS * 95 / 100].bytes) / 300.0;
        assert!((3.3..4.2).contains(&p95), "{p95}");
        let again = Deck::new(sizes, &severities, 60, 7).deal();
        assert_eq!(
            again,
            deck.deal(),
            "dealt in turn, the same for the same seed"
        );
        assert!(!Deck::new(Sizes::Fixed(9), &Severities::all(3), 60, 7).is_varied());
    }

    #[test]
    fn counts_are_added_and_shown() {
        let mut counts = SeverityCounts::default();
        [3, 3, 255, 0]
            .into_iter()
            .for_each(|severity| counts.note(severity));
        let mut sum = counts;
        sum.add(&counts);
        assert_eq!(sum.to_string(), "severity 0: 2, 3: 4, 255: 2");
        assert_eq!(counts.to_json(), r#"{"0":1,"3":2,"255":1}"#);
    }
}
