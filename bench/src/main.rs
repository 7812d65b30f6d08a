//! Measures Weir beside a bare relay. Start with `relay.rs` (the floor), `drive.rs` (the event
//! loop of load and sink) and `run.rs` (one measured run); the scenarios are made of these.

// Comments of arguments are their help: '[args]' in it is no link, '<prefix>' no tag.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod analyzers;
mod capacity;
mod check;
mod child;
mod children;
mod compare;
mod connections;
mod counters;
mod cpu;
mod diff;
mod drive;
mod failover;
mod fingerprint;
mod http;
mod http_abuse;
mod http_overload;
mod inputs;
mod ksoftirqd;
mod latency;
mod load;
mod net;
mod outlet;
mod outlets;
mod pair;
mod peers;
mod progress;
mod relay;
mod report;
mod rounds;
mod run;
mod sampler;
mod scale;
mod scenario;
mod search;
mod secured;
mod series;
mod session;
mod sink;
mod standalone;
mod syslog;
mod target;
mod throughput;
mod tls;
mod version;
mod weights;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  weir-bench pair                                 Weir beside the relay, both loads, 6 pairs
  weir-bench pair --b 'weir --shards 2' --a weir  two shards beside one
  weir-bench pair --a weir --b weir --b-dialect native --scenario firehose
  weir-bench connections --arena-mib 68           memory of 10,000 emitters
  weir-bench failover --json failover.json        50 analyzers killed under load
  weir-bench throughput --in-flight 16384         the highest sustained rate, second by second
  weir-bench latency --rates 10000,100000 --schedule poisson --size lognormal:300,0.8
  weir-bench capacity --burst 16                  NDR and PDR, searched twice, and latency below
  weir-bench scale                                CPU per message over analyzers and emitters
  weir-bench pair --a weir --b weir@lumberjack    one protocol of emitters beside frames
  weir-bench inputs --rounds 6                    all of them, beside HAProxy, rsyslog, syslog-ng
  weir-bench outlets --rounds 6                   delivering to Fluentd, Logstash, rsyslog beside native analyzers
  weir-bench tls --rounds 9                       what TLS costs, beside plain and beside HAProxy
  scripts/peers.sh install && weir-bench compare  beside nginx, HAProxy, rsyslog, syslog-ng
  weir-bench pair --size 64,256,1024,8192 --analyzers 4,64
  weir-bench pair --pairs 12 --json a.json --html a.html
  weir-bench diff a.json b.json                   is the second build slower?
  weir-bench relay & weir-bench load-sink         the pieces, by hand, on the default ports

Absolute numbers drift with the machine: quote ratios from one `pair` run. Exit code 1 means that a
message was lost, received twice or corrupted, or a bound missed; 2 that the run failed; 3 (diff) that not
all could be compared, or with too few runs to show anything.";

/// With the commit, which a copied binary takes along.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WEIR_COMMIT"),
    ")"
);

#[derive(Parser)]
#[command(name = "weir-bench", version = VERSION, about = "Measures Weir beside a bare relay", after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// The floor: moves bytes from emitters to analyzers and does nothing else
    ///
    /// epoll, one recv of up to 64 KiB and one send a readiness, one thread, no parsing. Each emitter
    /// connection belongs to one analyzer, in turn. A full analyzer stops the emitters that feed it.
    Relay(relay::RelayArgs),
    /// Emitters: a firehose, or with --rate an open loop on a constant schedule
    ///
    /// Every message carries a sequence number and, in the open loop, the time it ought to have been
    /// sent, so that a sink on the same host can check and time it.
    Load(standalone::LoadOnlyArgs),
    /// Analyzers: n of them in one thread; counts, checks and times what arrives
    Sink(standalone::SinkOnlyArgs),
    /// Load and sink in one event loop on one core, which is how the scenarios run them
    LoadSink(standalone::LoadSinkArgs),
    /// Compare two systems, A B B A, by CPU time per delivered message
    ///
    /// Each run starts the system as a child on its own core, with load and sink on the other, reads the
    /// child's CPU clock at 10 % and 95 % of the messages, and checks that every message came once.
    Pair(pair::PairArgs),
    /// The same work for Weir, a bare relay, nginx, HAProxy, rsyslog and syslog-ng, in turn
    ///
    /// Rounds A B C, C B A, B C A, ..., each run with a fresh process on the system's core; CPU of all of a
    /// peer's processes; what was lost is counted by sequence numbers. What a system does not do stands
    /// beside its figures. scripts/peers.sh fetches the peers; one that does not start is told and left
    /// out. Fails when a system that promises delivery (Weir) loses or repeats a message.
    Compare(compare::CompareArgs),
    /// What each protocol of emitters costs beside frames: syslog, Forward, Lumberjack, RELP
    ///
    /// Rounds as of `compare`: 64 connections, 256 B on the wire for each message, acks chained to the analyzers'
    /// ACKs where the protocol has some; and the syslog lines through HAProxy, rsyslog and syslog-ng as well. Fails
    /// when a protocol costs more than its bound, or another program less than its own.
    Inputs(inputs::InputsArgs),
    /// What delivering to Forward, Lumberjack and RELP costs beside native analyzers
    ///
    /// Rounds as of `compare`: lines of syslog over 64 connections come in, each receiver acks what it has read. Fails
    /// when a protocol costs more than its bound.
    Outlets(outlets::OutletsArgs),
    /// What TLS costs: CPU per message, latency, memory, and a storm of handshakes
    ///
    /// Rounds as of `compare`: plain, TLS from emitters, to analyzers, on both sides; HAProxy (mode tcp) with TLS on the
    /// same sides. Fails when a bound is missed.
    Tls(tls::TlsArgs),
    /// CPU per message as analyzers and emitters grow: curves
    Scale(scale::ScaleArgs),
    /// The highest sustained rate: emitters that send whenever a socket takes more
    ///
    /// Runs of --seconds (10), each with a fresh process, second by second; fails when a message is lost.
    Throughput(throughput::ThroughputArgs),
    /// Latency at offered rates, from the intended send time
    ///
    /// Open loop: message n goes when its schedule says, so a system that stalls is charged for all that was
    /// due meanwhile. The last column says how late the load itself was: above the latencies in question
    /// the line is about the load and not about the system.
    Latency(latency::LatencyArgs),
    /// Search for the highest rate without loss (NDR) and with a little (PDR)
    ///
    /// Multiple Loss Ratio Search (RFC 9971): short trials bracket the rate, long ones decide, rates are tried
    /// again until the verdict stands. Nothing is ever dropped by a distributor that makes its emitters
    /// wait, so a message counts as lost when it has not reached an analyzer --late-ms after its *intended*
    /// time: not written because the socket stayed full, refused, late, or never there. The search is
    /// repeated; the spread is printed. Then latency at 10, 50 and 90 % of the NDR.
    Capacity(capacity::CapacityArgs),
    /// Memory of many emitter connections
    Connections(connections::ConnectionsArgs),
    /// Kill analyzers under load; time until their un-ACKed messages are written to others
    ///
    /// Reads the distributor's `re-routed ... detected_mono_ns= last_written_mono_ns=` lines.
    Failover(failover::FailoverArgs),
    /// Change a weight under way; time until every shard routes by it
    Weights(weights::WeightsArgs),
    /// What abuse over HTTP costs the TCP path: its rate with and without, A B A B
    ///
    /// Fails when a kind of abuse takes more than 5 % of the rate, or a message is lost.
    HttpAbuse(http_abuse::HttpAbuseArgs),
    /// Offer twice what fits over HTTP: memory, 503s, and whether each 202 is delivered
    HttpOverload(http_overload::HttpOverloadArgs),
    /// Compare two reports: what became significantly faster or slower, and by how much
    ///
    /// Series of equal scenario and label are compared metric by metric: Mann-Whitney U test over the
    /// runs, Holm's correction over all tests, ratio of medians with a bootstrap interval. Exit status 0: all
    /// of A was compared, and nothing became significantly worse by more than --threshold; 1: something did,
    /// or what ran in A failed in B; 2: a file is no report, or there is nothing to compare; 3: not known,
    /// because a series or metric of A is not in B or failed in A, or because there are too few runs for any
    /// difference to be significant, and the output says how many it takes (5 and 5 are too few for 7
    /// metrics). Two sittings differ by
    /// the machine's drift too, and the test cannot tell the two apart: use a quiet machine, try the same
    /// build twice first, or let two builds stand side by side in one `pair`.
    Diff(diff::DiffArgs),
    /// Make the page, percentile files and interval log of a report that was written with --json
    Render(report::RenderArgs),
    #[command(hide = true)]
    Contain(children::ContainArgs),
    #[command(hide = true)]
    SinkProcess(analyzers::SinkProcessArgs),
}

fn main() -> ExitCode {
    let result = run(Cli::parse().command);
    children::await_end();
    let status = match result {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            say(format_args!("weir-bench: {e}"));
            ExitCode::from(2)
        }
    };
    // What was measured stands, whoever reads it.
    let status = weir::streams::status(status, 2);
    weir::streams::flush();
    status
}

/// A line on standard error. Where nobody hears it there is nobody to tell.
fn say(line: std::fmt::Arguments<'_>) {
    // In one piece: a line is not torn by those of other processes.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The exit status: 1 if a message was lost or a bound was missed; `diff` has its own.
fn run(command: Cmd) -> std::io::Result<u8> {
    let is_good = match command {
        Cmd::Diff(args) => return diff::run(&args).map(diff::Status::code),
        Cmd::Relay(args) => relay::run(&args).map(|()| true),
        Cmd::Load(args) => standalone::run_load(&args).map(|()| true),
        Cmd::Sink(args) => standalone::run_sink(&args),
        Cmd::LoadSink(args) => standalone::run_load_sink(&args),
        Cmd::Pair(args) => pair::run(&args),
        Cmd::Compare(args) => compare::run(&args),
        Cmd::Inputs(args) => inputs::run(&args),
        Cmd::Outlets(args) => outlets::run(&args),
        Cmd::Tls(args) => tls::run(&args),
        Cmd::Scale(args) => scale::run(&args),
        Cmd::Throughput(args) => throughput::run(&args),
        Cmd::Latency(args) => latency::run(&args),
        Cmd::Capacity(args) => capacity::run(&args),
        Cmd::Connections(args) => connections::run(&args),
        Cmd::Failover(args) => failover::run(&args),
        Cmd::Weights(args) => weights::run(&args),
        Cmd::HttpAbuse(args) => http_abuse::run(&args),
        Cmd::HttpOverload(args) => http_overload::run(&args),
        Cmd::Render(args) => report::run_render(&args),
        Cmd::Contain(args) => children::contain(&args),
        Cmd::SinkProcess(args) => analyzers::run_process(&args).map(|()| true),
    };
    is_good.map(|is_good| u8::from(!is_good))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of flags are unique in every subcommand: a release build would not say so.
    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    /// More pairs than the sign test can count would be judged by 2^-n = 0.
    #[test]
    fn more_pairs_than_the_sign_test_counts_are_refused() {
        for line in [
            "pair --pairs",
            "compare --rounds",
            "inputs --rounds",
            "outlets --rounds",
            "tls --rounds",
            "scale --rounds",
            "http-abuse --pairs",
        ] {
            let parse = |n: i64| {
                let words = format!("weir-bench {line} {n}");
                Cli::try_parse_from(words.split(' ')).map(|_| ())
            };
            assert!(parse(1000).is_ok(), "{line}");
            for refused in [0, 1001, 4_000_000_000] {
                let error = parse(refused).expect_err(line).to_string();
                assert!(error.contains("1..=1000"), "{error}");
            }
        }
    }
}
