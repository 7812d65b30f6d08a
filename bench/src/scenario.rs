//! The loads under which systems are compared, and their arguments.

use clap::ValueEnum;

use crate::load::{LoadArgs, Sizes};
use crate::run::Scenario;
use crate::sink::{weights_of, Dialect, SinkArgs};

/// Bytes of a firehose write; messages of 256 B: 64 of them.
const WRITE_LEN: usize = 16 * 1024;

/// The load of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// 64 connections, 64 messages (16 KiB) a write, as fast as they go, 4 MiB under way at most
    Firehose,
    /// The same, filling every socket buffer: hot or cold caches by chance, up to a factor of 2
    Flood,
    /// 5,000 connections, 40,000 messages/s, one a write
    Trickle,
}

impl Load {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firehose => "firehose",
            Self::Flood => "flood",
            Self::Trickle => "trickle",
        }
    }
}

/// Numbers of the loads; the same for every comparison.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Load")]
pub struct ShapeArgs {
    /// Messages of one firehose run (of 256 B; of larger ones as many bytes, a tenth of them at least)
    #[arg(long, default_value_t = 10_000_000)]
    pub firehose_messages: u64,
    /// Messages of 256 B under way at which the firehose pauses (of larger ones as many bytes); what is in
    /// socket buffers then stays in the cache, so that systems are compared and not fill levels
    #[arg(long, default_value_t = 16_384, value_name = "MESSAGES")]
    pub in_flight: u64,
    /// Connections of the firehose
    #[arg(long, default_value_t = 64)]
    pub firehose_connections: u32,
    /// Seconds of one trickle run
    #[arg(long, default_value_t = 5.0)]
    pub trickle_seconds: f64,
    /// Messages per second of the trickle
    #[arg(long, default_value_t = 40_000)]
    pub trickle_rate: u64,
    /// Connections of the trickle
    #[arg(long, default_value_t = 5_000)]
    pub trickle_connections: u32,
    /// Messages that a connection of the trickle sends at once; the rate stays. 64 of 256 B are a record of 16 KiB
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub trickle_burst: u32,
    /// Bytes of a message, its header included; each of a list is compared by itself
    #[arg(long, value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(25..=1_048_576))]
    pub size: Vec<u32>,
    /// One analyzer for each weight
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.3,0.2,0.1")]
    pub weights: Vec<f64>,
    /// So many analyzers with weights 4, 3, 2, 1 in turn, in the place of --weights; each of a list is
    /// compared by itself
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with = "weights", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub analyzers: Vec<u32>,
}

impl ShapeArgs {
    /// Sizes and weights to compare at.
    pub fn variants(&self) -> Vec<(usize, Vec<f64>)> {
        let weights: Vec<Vec<f64>> = match self.analyzers.is_empty() {
            true => vec![self.weights.clone()],
            false => self
                .analyzers
                .iter()
                .map(|n| weights_of(*n as usize))
                .collect(),
        };
        let sizes = self.size.iter().map(|n| *n as usize);
        sizes
            .flat_map(|size| weights.iter().map(move |w| (size, w.clone())))
            .collect()
    }

    /// With sizes or numbers of analyzers to choose from, the scenario says which.
    pub fn name_of(&self, scenario: &Scenario) -> String {
        let mut name = scenario.name.to_owned();
        if self.size.len() > 1 {
            name += &format!(", {} B", scenario.load.size);
        }
        if self.analyzers.len() > 1 {
            name += &format!(", {} analyzers", scenario.sink.weights.len());
        }
        name
    }

    /// One load.
    pub fn scenario(&self, load: Load, size: usize, weights: &[f64], dialect: Dialect) -> Scenario {
        let as_many_bytes = |of_256: u64| of_256 * 256 / size.max(256) as u64;
        let messages = as_many_bytes(self.firehose_messages).max(self.firehose_messages / 10);
        let mut shape = LoadArgs {
            connections: self.firehose_connections,
            size: Sizes::Fixed(size),
            per_write: (WRITE_LEN / size).clamp(1, 64) as u32,
            messages: Some(messages),
            ..LoadArgs::default()
        };
        match load {
            Load::Firehose => shape.in_flight = as_many_bytes(self.in_flight),
            Load::Flood => {}
            Load::Trickle => {
                shape.connections = self.trickle_connections;
                shape.rate = Some(self.trickle_rate);
                shape.burst = self.trickle_burst;
                shape.messages = Some((self.trickle_rate as f64 * self.trickle_seconds) as u64);
            }
        }
        let sink = SinkArgs {
            weights: weights.to_vec(),
            dialect,
            ..SinkArgs::default()
        };
        Scenario {
            name: load.name(),
            load: shape,
            sink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        shape: ShapeArgs,
    }

    #[test]
    fn a_trickle_of_bursts_keeps_its_rate() {
        let line = ["x", "--trickle-rate", "1000000", "--trickle-burst", "64"];
        let shape = Cli::parse_from(line).shape;
        let load = shape
            .scenario(Load::Trickle, 256, &[1.0], Dialect::Native)
            .load;
        assert_eq!((load.rate, load.burst), (Some(1_000_000), 64));
        assert_eq!(load.messages, Some(5_000_000));
    }

    #[test]
    fn every_size_meets_every_number_of_analyzers_with_as_many_bytes() {
        let line = ["x", "--size", "64,8192", "--analyzers", "4,64"];
        let shape = Cli::parse_from(line).shape;
        let variants = shape.variants();
        let shown: Vec<(usize, usize)> = variants.iter().map(|(s, w)| (*s, w.len())).collect();
        assert_eq!(shown, [(64, 4), (64, 64), (8192, 4), (8192, 64)]);
        let large = shape.scenario(Load::Firehose, 8192, &[1.0], Dialect::Compact);
        assert_eq!((large.load.in_flight, large.load.per_write), (512, 2));
        assert_eq!(large.load.messages, Some(1_000_000), "a tenth at least");
        let small = shape.scenario(Load::Firehose, 64, &[1.0], Dialect::Compact);
        assert_eq!((small.load.in_flight, small.load.per_write), (16_384, 64));
        assert_eq!(shape.name_of(&large), "firehose, 8192 B, 1 analyzers");
    }
}
