//! How long messages are: fixed, log-normal as log lines are, or the lines of a file.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::wire::{MESSAGE_LEN_MAX, MESSAGE_LEN_MIN};
use weir_testkit::Random;

/// Largest file of lines: it is held in memory.
const FILE_LEN_MAX: u64 = 64 << 20;
/// Log-normal lengths are drawn once, so that drawing costs the measured time nothing. So many that
/// their mean is within 2 % of the distribution's for a sigma of 1.
const DRAWS: usize = 8192;

/// Value of `--size`.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// Every message has so many bytes on the wire.
    Fixed(usize),
    /// Natural logarithm of the length is normal; clamped to what a message can be.
    LogNormal { median: f64, sigma: f64 },
    /// Lines of a file are the payloads, in turn.
    File {
        path: String,
        lines: Arc<Vec<Vec<u8>>>,
    },
}

impl Default for Sizes {
    fn default() -> Self {
        Self::Fixed(256)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
            Self::File { path, .. } => write!(f, "file:{path}"),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return read_lines(path);
        }
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let numbers: Vec<f64> = rest.split(',').filter_map(|n| n.parse().ok()).collect();
            return match numbers[..] {
                [median, sigma]
                    if range().contains(&(median as usize)) && (0.0..=4.0).contains(&sigma) =>
                {
                    Ok(Self::LogNormal { median, sigma })
                }
                _ => Err(format!(
                    "allowed is lognormal:MEDIAN,SIGMA with a median of {MESSAGE_LEN_MIN} to \
                     {MESSAGE_LEN_MAX} bytes and a sigma of 0 to 4, as lognormal:300,0.8"
                )),
            };
        }
        match text.parse() {
            Ok(n) if range().contains(&n) => Ok(Self::Fixed(n)),
            _ => Err(format!(
                "allowed are {MESSAGE_LEN_MIN} (header and stamp) to {MESSAGE_LEN_MAX} bytes, \
                 lognormal:MEDIAN,SIGMA or file:PATH"
            )),
        }
    }
}

impl Sizes {
    /// Bytes of an ordinary message, for whoever wants one number.
    pub fn typical(&self) -> usize {
        match self {
            Self::Fixed(n) => *n,
            Self::LogNormal { median, .. } => *median as usize,
            Self::File { lines, .. } => {
                MESSAGE_LEN_MIN + lines.iter().map(Vec::len).sum::<usize>() / lines.len().max(1)
            }
        }
    }
}

fn range() -> std::ops::RangeInclusive<usize> {
    MESSAGE_LEN_MIN..=MESSAGE_LEN_MAX
}

fn read_lines(path: &str) -> Result<Sizes, String> {
    let named = |e: &dyn fmt::Display| format!("file {path:?}: {e}");
    let len = std::fs::metadata(path).map_err(|e| named(&e))?.len();
    if len > FILE_LEN_MAX {
        return Err(named(&format!("{len} bytes, allowed are {FILE_LEN_MAX}")));
    }
    let bytes = std::fs::read(path).map_err(|e| named(&e))?;
    let lines: Vec<Vec<u8>> = bytes
        .split(|b| *b == b'\n')
        .map(|l| l.strip_suffix(b"\r").unwrap_or(l).to_vec())
        .filter(|l| !l.is_empty())
        .collect();
    match lines.iter().map(Vec::len).max() {
        None => Err(named(&"no line that is not empty")),
        Some(n) if n > MESSAGE_LEN_MAX / 2 => Err(named(&format!(
            "a line of {n} bytes, allowed are {}",
            MESSAGE_LEN_MAX / 2
        ))),
        Some(_) => Ok(Sizes::File {
            path: path.to_owned(),
            lines: Arc::new(lines),
        }),
    }
}

/// What the next message is made of.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Filler up to so many bytes on the wire.
    Bytes(usize),
    /// This payload behind the stamp.
    Line(&'a [u8]),
}

/// Deals lengths or lines, message by message.
#[derive(Debug, Clone)]
pub struct Deck {
    sizes: Sizes,
    drawn: Vec<u32>,
    next: usize,
}

impl Deck {
    pub fn new(sizes: &Sizes, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let drawn = match sizes {
            Sizes::LogNormal { median, sigma } => (0..DRAWS)
                .map(|_| (median * (sigma * random.normal()).exp()) as usize)
                .map(|n| n.clamp(MESSAGE_LEN_MIN, MESSAGE_LEN_MAX) as u32)
                .collect(),
            _ => Vec::new(),
        };
        Self {
            sizes: sizes.clone(),
            drawn,
            next: 0,
        }
    }

    pub fn deal(&mut self) -> Body<'_> {
        let at = self.next;
        self.next += 1;
        match &self.sizes {
            Sizes::Fixed(n) => Body::Bytes(*n),
            Sizes::LogNormal { .. } => Body::Bytes(self.drawn[at % self.drawn.len()] as usize),
            Sizes::File { lines, .. } => Body::Line(&lines[at % lines.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back_as_written_and_bad_ones_say_what_is_allowed() {
        for text in ["256", "lognormal:300,0.8"] {
            assert_eq!(text.parse::<Sizes>().expect("valid").to_string(), text);
        }
        for text in [
            "",
            "24",
            "1048577",
            "lognormal:300",
            "lognormal:300,-1",
            "lognormal:10,1",
            "normal:3",
        ] {
            let error = text.parse::<Sizes>().expect_err(text);
            assert!(error.contains("allowed"), "{error}");
        }
        let error = "file:/no/such".parse::<Sizes>().expect_err("no file");
        assert!(error.contains("/no/such"), "{error}");
    }

    #[test]
    fn half_of_the_lengths_are_above_the_median() {
        let sizes = "lognormal:300,0.8".parse().expect("valid");
        let mut deck = Deck::new(&sizes, 1);
        let mut above = 0;
        let mut sum = 0;
        for _ in 0..DRAWS {
            let Body::Bytes(n) = deck.deal() else {
                panic!("no file")
            };
            above += usize::from(n > 300);
            sum += n;
        }
        assert!(above.abs_diff(DRAWS / 2) < DRAWS / 40, "{above}");
        // The mean of a log-normal is median x exp(sigma^2 / 2).
        let mean = sum as f64 / DRAWS as f64;
        assert!(
            (mean / (300.0 * 0.32f64.exp()) - 1.0).abs() < 0.05,
            "{mean}"
        );
    }

    #[test]
    fn lines_of_a_file_are_dealt_in_turn() {
        let path = std::env::temp_dir().join(format!("weir-bench-sizes-{}", std::process::id()));
        std::fs::write(&path, "one\r\n\ntwo words\n").expect("written");
        let sizes: Sizes = format!("file:{}", path.display()).parse().expect("valid");
        std::fs::remove_file(&path).expect("removed");
        let mut deck = Deck::new(&sizes, 0);
        for expected in ["one", "two words", "one"] {
            let Body::Line(line) = deck.deal() else {
                panic!("a file")
            };
            assert_eq!(line, expected.as_bytes());
        }
    }
}
