//! The shape of a sink, as the command line says it.

use std::sync::Arc;

use crate::secured::Pki;

/// What the links speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// f32 weight, 31-bit ACK words; one connection an analyzer
    Compact,
    /// f64 weight, 32-bit ACK numbers behind a type byte; one connection an analyzer
    Typed,
    /// Batches and u64 ACKs; one link per shard
    Native,
}

/// Shape of the sink; shared by `sink`, `load-sink` and the scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkArgs {
    /// One analyzer for each weight in the list
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.3,0.2,0.1", value_parser = weight)]
    pub weights: Vec<f64>,
    /// What the analyzers speak
    #[arg(long, value_enum, default_value = "compact")]
    pub dialect: Dialect,
    /// ACK when this many messages are owed (and whenever the sink is idle); 0 ACKs every read
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub ack_every: u64,
    /// ACK what is owed after so many microseconds at the latest, and not when idle. With
    /// --ack-every 0: then only
    #[arg(long, default_value_t = 0, value_name = "US", value_parser = clap::value_parser!(u64).range(..=60_000_000))]
    pub ack_delay_us: u64,
    /// Each analyzer link works so many microseconds on a message: it reads nothing and ACKs nothing
    /// until it is through with what it read
    #[arg(long, default_value_t = 0, value_name = "US", value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub think_us: u64,
    /// Native analyzers are named <prefix>-<n>
    #[arg(long, default_value = "sink")]
    pub id_prefix: String,
    /// TLS, and whose
    #[arg(skip)]
    pub pki: Option<Arc<Pki>>,
}

impl Default for SinkArgs {
    /// Four weighted analyzers that ACK every read.
    fn default() -> Self {
        Self {
            weights: vec![0.4, 0.3, 0.2, 0.1],
            dialect: Dialect::Compact,
            ack_every: 0,
            ack_delay_us: 0,
            think_us: 0,
            id_prefix: "sink".into(),
            pki: None,
        }
    }
}

/// Weights 4, 3, 2, 1, 4, 3, 2, 1, ... of `analyzers`, so that shares stay unequal at any number.
pub fn weights_of(analyzers: usize) -> Vec<f64> {
    (0..analyzers)
        .map(|n| [0.4, 0.3, 0.2, 0.1][n % 4])
        .collect()
}

fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(w) if w.is_finite() && w >= 0.0 => Ok(w),
        _ => Err("a weight is a finite number, 0 or more".into()),
    }
}
