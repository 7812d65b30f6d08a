//! `weir analyzer`.

use super::instance::instance;
use super::reach::{self, Reach};
use super::secure::Secure;
use super::values;
use crate::client::{analyzer, automatic_id, stop_on_eof, stop_on_signals};
use crate::config::{report_file, token_text, with_instance};
use crate::discover::Targets;
use crate::protocol::native::ID_BYTES_MAX;
use crate::sink::Dialect;
use crate::streams;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Receives messages, checks their order, and ACKs them.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Distributors' analyzer addresses: one distributor (HOST:PORT), one for each address of a name (dns+HOST:PORT) or
    /// for each target of an SRV record (dnssrv+_weir-analyzers._tcp.NAME), those in a file (file+PATH), or several of
    /// these. Links go to every shard of each; what comes and goes is followed.
    #[arg(long, default_value = "localhost:8081", value_name = reach::VALUE, value_parser = reach::targets)]
    addr: Vec<Targets>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    secure: Secure,
    /// Take packets over HTTP at this address instead (127.0.0.1:3001): POST /logs and GET /health, for --http-analyzer of
    /// the distributor, which has the weight. With --tls-cert and --tls-key it speaks TLS there, and with --tls-ca it lets
    /// in only who shows a certificate of these CAs.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::host_and_port, conflicts_with_all = ["addr", "nameserver", "peer_timeout", "tls", "tls_name", "weight", "token_file", "ack_every",
        "ack_remainder", "dialect", "forms", "vary_weight", "weight_after", "reconnect"])]
    http: Option<String>,
    /// Share of the messages, relative to the other analyzers; 0: none.
    #[arg(long, default_value = "0.25", value_parser = values::weight)]
    weight: f64,
    /// Analyzer id; automatic when left out.
    #[arg(long, value_parser = id)]
    id: Option<String>,
    /// Read the token from this file that the distributor asks for (--analyzer-token-file there).
    #[arg(long, value_name = "FILE", value_parser = token)]
    token_file: Option<AnalyzerToken>,
    /// ACK every n messages. ACKs are cumulative: while more is waiting, several become one.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = values::number(1..=1_000_000_u32))]
    ack_every: u32,
    /// ACK what is left over when no message comes for a moment. Always so on native links.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    ack_remainder: bool,
    /// Time to spend on each message (50us).
    #[arg(long, default_value = "0ms", value_parser = values::duration)]
    delay: Duration,
    /// Log ACKs, and progress every second.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(super) verbose: bool,
    /// What to speak with the distributor.
    #[arg(long, default_value = "native", value_parser = dialect, value_name = "native|typed|compact")]
    dialect: Dialect,
    /// Ask what each message is and where it came from; the summary says how many there were of each form.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    forms: bool,
    /// Change the weight every 5,000 messages, to 80 to 120 % of it.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    vary_weight: bool,
    /// Change the weight once, so long after the first message (3s=0.5).
    #[arg(long, value_name = "TIME=WEIGHT", value_parser = values::weight_after, conflicts_with = "vary_weight")]
    weight_after: Option<(Duration, f64)>,
    /// Append 16 bytes per numbered message to this file before its ACK: u64 FNV-1a of
    /// `<emitter-id>/<connection>` and u64 number, big-endian.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write at the end what was received, as JSON, for `weir audit`. The messages themselves are
    /// noted in journals before each ACK. {instance} in the file's name stands for a number of this run.
    #[arg(long, value_name = "FILE", value_parser = report_file())]
    report: Option<PathBuf>,
    /// Directory of the journals; `<report>.journal` when left out. They survive SIGKILL, and an
    /// analyzer with the same id goes on with them.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Stop after this many messages.
    #[arg(long, value_name = "N", value_parser = values::number(1..=u64::MAX))]
    count: Option<u64>,
    /// Connect again when the distributor goes away.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    reconnect: bool,
    /// Stop when standard input ends, so that whoever started this can stop it by closing a pipe.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    stop_on_eof: bool,
    /// Print the summary as one line of JSON.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    json: bool,
}

/// What a token file says; not shown in logs.
#[derive(Clone)]
pub struct AnalyzerToken(Vec<u8>);

impl std::fmt::Debug for AnalyzerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnalyzerToken")
    }
}

fn token(path: &str) -> Result<AnalyzerToken, String> {
    let text = std::fs::read(path).map_err(|error| {
        format!("cannot be read: {error}; allowed: a file that this user may read")
    })?;
    token_text(&text).map(|token| AnalyzerToken(token.to_vec()))
}

impl Args {
    /// With a certificate one that it is good for: `NAME#analyzer-...`.
    fn automatic_id(&self) -> String {
        let id = automatic_id("analyzer");
        let certificate = self.secure.certificate().filter(|_| self.http.is_none());
        let certified = certificate.map(|name| format!("{name}#{id}"));
        let certified = certified.filter(|id| id.len() <= usize::from(ID_BYTES_MAX));
        certified.unwrap_or(id)
    }

    /// As the analyzer takes them, but for TLS.
    pub fn options(&self) -> analyzer::Options {
        analyzer::Options {
            addr: self
                .http
                .clone()
                .unwrap_or_else(|| reach::joined(&self.addr)),
            nameservers: self.reach.nameservers(),
            peer_timeout: self.reach.peer_timeout(),
            tls: None,
            served: None,
            http: self.http.is_some(),
            weight: self.weight,
            id: self.id.clone().unwrap_or_else(|| self.automatic_id()),
            token: self
                .token_file
                .clone()
                .map_or_else(Vec::new, |token| token.0),
            ack_every: self.ack_every,
            ack_remainder: self.ack_remainder,
            delay: self.delay,
            verbose: self.verbose,
            dialect: self.dialect,
            forms: self.forms,
            vary_weight: self.vary_weight,
            weight_after: self.weight_after,
            record: self.record.clone(),
            count: self.count,
            reconnect: self.reconnect,
            report: self
                .report
                .as_deref()
                .map(|path| with_instance(path, instance())),
            journal: self.journal.clone(),
        }
    }
}

/// Runs the analyzer until its count is reached or a signal comes.
pub fn run(args: &Args) -> ExitCode {
    let run = || {
        let stop = stop_on_signals()?;
        if args.stop_on_eof {
            stop_on_eof(&stop)?;
        }
        let mut options = args.options();
        let secure = &args.secure;
        match args.http {
            Some(_) => options.served = secure.served().map_err(io::Error::other)?,
            None => options.tls = secure.connector_to(&args.addr).map_err(io::Error::other)?,
        }
        analyzer::run(&options, &stop)
    };
    match run() {
        Ok(report) => {
            let text = match args.json {
                true => report.to_json(),
                false => report.to_string(),
            };
            streams::report(format!("{text}\n"));
            if report.counts.corrupt > 0 {
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn dialect(text: &str) -> Result<Dialect, String> {
    [Dialect::Native, Dialect::Typed, Dialect::Compact]
        .into_iter()
        .find(|dialect| dialect.as_str() == text)
        .ok_or_else(|| "allowed: native, typed or compact".into())
}

fn id(text: &str) -> Result<String, String> {
    let max = usize::from(ID_BYTES_MAX);
    if (1..=max).contains(&text.len()) {
        Ok(text.into())
    } else {
        Err(format!("allowed: 1 to {max} bytes"))
    }
}
