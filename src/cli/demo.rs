//! `weir demo`: only its arguments; the rest is in [`crate::demo`].

use std::process::ExitCode;
use std::time::Duration;

use super::values;
use crate::demo;

/// Three thirds with something to see in each.
const DURATION_MIN: Duration = Duration::from_secs(3);
const RATE: u32 = 20_000;
const RATE_HTTP: u32 = 2_000;
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// Runs two emitters, a distributor and four analyzers on loopback, kills an analyzer on the way, and
/// checks that nothing is lost and shares are exact.
///
/// Exit status: 0 every check held, 1 one did not, 2 usage, 130 interrupted.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to show it, in seconds or with a unit
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Messages per second of each of the two emitters; default: 20,000, with --http 2,000
    #[arg(long, value_name = "N", value_parser = values::number(100..=1_000_000_u32))]
    rate: Option<u32>,
    /// Packets over HTTP in and out: `weir emitter --http`, `weir analyzer --http`
    #[arg(long)]
    http: bool,
    /// Shards of the distributor; default: as many as cores
    #[arg(long, value_name = "N", value_parser = values::number(1..=1024_u16))]
    shards: Option<u16>,
}

/// Runs the demonstration.
pub fn run(args: &Args) -> ExitCode {
    demo::run(&demo::Options {
        duration: args.duration,
        rate: args
            .rate
            .unwrap_or(if args.http { RATE_HTTP } else { RATE })
            .into(),
        shards: args.shards,
        http: args.http,
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = values::seconds(text)?;
    if !(DURATION_MIN..=DURATION_MAX).contains(&duration) {
        return Err("allowed: 3s to 1h".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_room_for_the_plan() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for bad in ["2", "0s", "2h", "x"] {
            let error = duration(bad).expect_err(bad);
            assert!(error.contains("allowed"), "{error}");
        }
    }
}
