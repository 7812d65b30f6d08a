//! `weir tap`: some of the messages that pass, as they pass.

use std::process::ExitCode;

use serde_json::Value;

use super::fleet::Reach;
use super::values;
use crate::streams::{self, say};

/// Shows some of the messages that pass, a line of JSON each.
///
/// Exit status: 0 done, 1 refused or not reached, 2 usage.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Most messages a second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::number(1..=1000_u32))]
    rate: u32,
    /// How long, in seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = values::number(1..=3600_u32))]
    seconds: u32,
}

/// Until the time is over.
pub fn run(args: &Args) -> ExitCode {
    if args.reach.is_fleet() {
        say("weir tap: --admin names more than one distributor; allowed: one path or address");
        return ExitCode::from(2);
    }
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("weir tap: {error}"));
            ExitCode::from(1)
        }
    }
}

fn show(args: &Args) -> Result<(), String> {
    let client = args.reach.client()?;
    let path = format!("/admin/tap?rate={}&seconds={}", args.rate, args.seconds);
    let mut reply = client.stream(&path).map_err(|error| error.to_string())?;
    if reply.status != 200 {
        let status = reply.status;
        let body = reply.body().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = answer["error"].as_str().unwrap_or("no reason given");
        return Err(format!("{error} (status {status})"));
    }
    while let Some(piece) = reply.piece().map_err(|error| error.to_string())? {
        // The distributor has begun to answer before it knew.
        if let Some(error) = refusal(&piece) {
            return Err(error);
        }
        // Whoever read it has gone: that is an end as well.
        if !streams::write(&piece) {
            break;
        }
    }
    Ok(())
}

/// A line that says why nothing comes.
fn refusal(line: &[u8]) -> Option<String> {
    let line: Value = serde_json::from_slice(line).ok()?;
    line.get("error")?.as_str().map(str::to_owned)
}
