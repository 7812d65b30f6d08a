//! `weir emitter`.

use super::values;
use crate::client::{automatic_id, emitter, stop_on_eof, stop_on_signals};
use crate::streams;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SIZE_MAX: u64 = 16 << 20;
/// As the reference emitter.
const DURATION_DEFAULT: Duration = Duration::from_secs(60);

/// Sends numbered messages at a steady rate, or as fast as the distributor takes them.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Distributor's emitter address.
    #[arg(long, default_value = "localhost:8080", value_name = "HOST:PORT")]
    addr: String,
    /// Messages per second over all connections; 0: as fast as it can.
    #[arg(long, default_value = "100", value_parser = rate)]
    rate: f64,
    /// How long to send, in seconds or with a unit; 0: for ever. [default: 60, or for ever with --count]
    #[arg(long, value_parser = values::seconds)]
    duration: Option<Duration>,
    /// Stop after this many messages.
    #[arg(long, value_name = "N", value_parser = values::number(0..=u64::MAX))]
    count: Option<u64>,
    /// Payload bytes of a message; 5 bytes of header come on top.
    #[arg(long, default_value = "256", value_parser = size)]
    size: u32,
    /// Emitter id, in every payload; automatic when left out.
    #[arg(long, value_parser = id)]
    id: Option<String>,
    /// Connections to share the load among.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=60_000_u32))]
    connections: u32,
    /// Threads to share the connections among.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=64_u32))]
    threads: u32,
    /// Messages per write.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=4096_u32))]
    batch: u32,
    /// Severity of every message, 0 is the most important.
    #[arg(long, default_value_t = 3, value_parser = values::number(0..=u8::MAX))]
    severity: u8,
    /// Write at the end which messages were sent, as JSON, for `weir audit`. Each run needs an id of
    /// its own there.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Stop when standard input ends, so that whoever started this can stop it by closing a pipe.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    stop_on_eof: bool,
    /// Print the summary as one line of JSON.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    json: bool,
}

impl Args {
    /// As the emitter takes them.
    pub fn options(&self) -> emitter::Options {
        let default = self.count.is_none().then_some(DURATION_DEFAULT);
        let duration = self
            .duration
            .or(default)
            .filter(|duration| !duration.is_zero());
        emitter::Options {
            addr: self.addr.clone(),
            rate: self.rate,
            duration,
            count: self.count,
            payload_bytes: self.size,
            id: self.id.clone().unwrap_or_else(|| automatic_id("emitter")),
            connections: self.connections,
            threads: self.threads,
            batch: self.batch,
            severity: self.severity,
            certificate: self.certificate.clone(),
        }
    }
}

/// Runs the emitter until its duration or count is over, or a signal.
pub fn run(args: &Args) -> ExitCode {
    let run = || {
        let stop = stop_on_signals()?;
        if args.stop_on_eof {
            stop_on_eof(&stop)?;
        }
        emitter::run(&args.options(), &stop)
    };
    match run() {
        Ok(report) => {
            let text = match args.json {
                true => report.to_json(),
                false => report.to_string(),
            };
            streams::report(format!("{text}\n"));
            if report.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("allowed: 0 to 1000000000 messages per second".into()),
    }
}

fn size(text: &str) -> Result<u32, String> {
    match values::bytes(text)? {
        bytes @ 0..=SIZE_MAX => u32::try_from(bytes).map_err(|e| e.to_string()),
        _ => Err("allowed: at most 16 MiB".into()),
    }
}

fn id(text: &str) -> Result<String, String> {
    let max = crate::client::payload::ID_BYTES_MAX;
    if (1..=max).contains(&text.len()) && !text.contains(char::is_whitespace) {
        Ok(text.into())
    } else {
        Err(format!("allowed: 1 to {max} bytes without white space"))
    }
}
