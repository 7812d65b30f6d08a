//! `weir audit`: only its arguments; the rest is in [`crate::ledger::audit`].

use std::path::PathBuf;
use std::process::ExitCode;

use crate::ledger::audit;
use crate::out;
use crate::streams::say;

/// Joins run reports of emitters, distributors and analyzers into one verdict: is every message that
/// was sent at an analyzer, once, or twice and known to be?
///
/// Run reports are written by `--report` of each program. An analyzer's run report names its
/// journals; those of one that was killed and wrote none are given as files, or as the directory they are
/// in. At least one run report of an emitter and of a distributor, and one journal, are needed; give
/// all, or the verdict says what is not covered.
///
/// Messages that were lost in the socket buffers of a connection that broke were never taken in by a
/// distributor. They are listed, and are no reason for a verdict of "not balanced" unless --strict is
/// given.
///
/// Exit status: 0 balanced, 1 not balanced (missing messages, unrecognised duplicates, books or shares
/// that do not hold, something not covered), 2 a file cannot be used.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run reports, journals, directories of journals.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Not balanced, too, when messages were lost on their way to a distributor.
    #[arg(long)]
    strict: bool,
}

/// Reads, joins, prints.
pub fn run(args: &Args) -> ExitCode {
    let evidence = match audit::load(&args.files) {
        Ok(evidence) => evidence,
        Err(bad) => {
            bad.iter()
                .for_each(|file| say(&format!("weir audit: {file}")));
            return ExitCode::from(2);
        }
    };
    let verdict = match audit::audit(&evidence, args.strict) {
        Ok(verdict) => verdict,
        Err(error) => {
            say(&format!("weir audit: {error}"));
            return ExitCode::from(2);
        }
    };
    if args.json {
        match serde_json::to_string_pretty(&verdict) {
            Ok(json) => {
                out!("{json}");
            }
            Err(error) => {
                say(&format!("weir audit: {error}"));
                return ExitCode::from(2);
            }
        }
    } else {
        out!("{verdict}");
    }
    ExitCode::from(u8::from(!verdict.balanced))
}
