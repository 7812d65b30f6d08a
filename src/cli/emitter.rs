//! `weir emitter`.

use super::instance::instance;
use super::reach::{self, Reach};
use super::secure::Secure;
use super::values;
use crate::client::shapes::{Severities, Sizes, PAYLOAD_BYTES_MAX, SIGMA_MAX};
use crate::client::{automatic_id, emitter, stop_on_eof, stop_on_signals};
use crate::config::{report_file, with_instance, Url};
use crate::discover::Targets;
use crate::streams;
use crate::tls::Connector;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// As the reference emitter.
const DURATION_DEFAULT: Duration = Duration::from_secs(60);

/// Sends numbered messages at a steady rate, or as fast as the distributor takes them.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Distributors' emitter addresses: a name (HOST:PORT, dns+HOST:PORT), an SRV record with its priorities and weights
    /// (dnssrv+_weir-frames._tcp.NAME), those in a file (file+PATH), or several of these. Connections go round.
    #[arg(long, default_value = "localhost:8080", value_name = reach::VALUE, value_parser = reach::targets)]
    addr: Vec<Targets>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    secure: Secure,
    /// Post packets of --batch messages there instead of sending frames to --addr (http://localhost:3000, or https://).
    /// At most 256 --connections, each a thread.
    #[arg(long, value_name = "URL", conflicts_with_all = ["addr", "threads"])]
    http: Option<Url>,
    /// Messages per second over all connections; 0: as fast as it can.
    #[arg(long, default_value = "100", value_parser = rate)]
    rate: f64,
    /// How long to send, in seconds or with a unit; 0: for ever. [default: 60, or for ever with --count]
    #[arg(long, value_parser = values::seconds)]
    duration: Option<Duration>,
    /// Stop after this many messages.
    #[arg(long, value_name = "N", value_parser = values::number(0..=u64::MAX))]
    count: Option<u64>,
    /// Payload bytes of a message; 5 bytes of header come on top. Or lognormal:MEDIAN,SIGMA, lengths as log lines have
    /// them.
    #[arg(long, default_value = "256", value_parser = sizes, value_name = "BYTES|lognormal:MEDIAN,SIGMA")]
    size: Sizes,
    /// Emitter id, in every payload; automatic when left out.
    #[arg(long, value_parser = id)]
    id: Option<String>,
    /// Connections to share the load among.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=60_000_u32))]
    connections: u32,
    /// Threads to share the connections among.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=64_u32))]
    threads: u32,
    /// Messages per write, or in a packet.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = values::number(1..=4096_u32))]
    batch: u32,
    /// Severity of every message, 0 is the most important; or a mix with the part of each (1=5,2=15,3=80).
    #[arg(long, default_value = "3", value_name = "N|N=PART,...")]
    severity: Severities,
    /// End each payload with a checksum, which `weir analyzer` verifies.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    checksum: bool,
    /// Wait for ACKs of analyzers: keep what has none, and send it again when a connection breaks.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL", conflicts_with = "http")]
    acked: bool,
    /// With --acked: most bytes of messages without an ACK, over all connections; then it waits. At least 64 KiB for
    /// each connection.
    #[arg(long, default_value = "64MiB", value_name = "BYTES", value_parser = values::bytes)]
    acked_memory: u64,
    /// Write at the end which messages were sent, as JSON, for `weir audit`. Each run needs an id of
    /// its own there. {instance} in the file's name stands for a number of this run.
    #[arg(long, value_name = "FILE", value_parser = report_file())]
    report: Option<PathBuf>,
    /// Stop when standard input ends, so that whoever started this can stop it by closing a pipe.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    stop_on_eof: bool,
    /// Print the summary as one line of JSON.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    json: bool,
}

impl Args {
    /// How TLS is spoken, if it is. It reads files.
    fn connector(&self) -> Result<Option<Arc<Connector>>, String> {
        match &self.http {
            None => self.secure.connector_to(&self.addr),
            Some(url) if self.secure.is_asked() && !url.is_secure => {
                Err(format!("--tls: --http is {url}; allowed: https://"))
            }
            Some(url) => self.secure.connector(url.is_secure),
        }
    }

    /// As the emitter takes them, but for TLS.
    pub fn options(&self) -> emitter::Options {
        let default = self.count.is_none().then_some(DURATION_DEFAULT);
        let duration = self
            .duration
            .or(default)
            .filter(|duration| !duration.is_zero());
        emitter::Options {
            addr: match &self.http {
                Some(url) => url.endpoint.authority(),
                None => reach::joined(&self.addr),
            },
            nameservers: self.reach.nameservers(),
            peer_timeout: self.reach.peer_timeout(),
            tls: None,
            http: self
                .http
                .as_ref()
                .map(|url| format!("{}/logs", url.endpoint.path)),
            rate: self.rate,
            duration,
            count: self.count,
            sizes: self.size,
            id: self.id.clone().unwrap_or_else(|| automatic_id("emitter")),
            connections: self.connections,
            threads: self.threads,
            batch: self.batch,
            severities: self.severity.clone(),
            checksum: self.checksum,
            acked: self.acked.then_some(self.acked_memory),
            report: self
                .report
                .as_deref()
                .map(|path| with_instance(path, instance())),
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
        let mut options = args.options();
        options.tls = args.connector().map_err(io::Error::other)?;
        emitter::run(&options, &stop)
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

fn sizes(text: &str) -> Result<Sizes, String> {
    let Some(rest) = text.strip_prefix("lognormal:") else {
        return size(text).map(Sizes::Fixed);
    };
    let drawn = rest.split_once(',').and_then(|(median, sigma)| {
        let median = size(median).ok()?;
        let sigma: f64 = sigma.parse().ok()?;
        (0.0..=SIGMA_MAX)
            .contains(&sigma)
            .then_some(Sizes::LogNormal { median, sigma })
    });
    drawn.ok_or_else(|| {
        format!(
            "allowed: lognormal:MEDIAN,SIGMA with a median of at most 16 MiB and a sigma of 0 to {SIGMA_MAX} \
             (lognormal:300,0.8)"
        )
    })
}

fn size(text: &str) -> Result<u32, String> {
    match u32::try_from(values::bytes(text)?) {
        Ok(bytes) if bytes <= PAYLOAD_BYTES_MAX => Ok(bytes),
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
