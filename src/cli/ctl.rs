//! `weir ctl`: turns a running distributor, over its admin API.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{json, Value};

use super::fleet::{read_answer, refusal, Reach};
use super::values;
use crate::control::view::fleet::{self, Replica};
use crate::control::view::table;
use crate::http::percent_encoded;
use crate::out;
use crate::streams::say;

/// Looks at a running distributor and turns it.
///
/// Exit status: 0 done, 1 refused or not reached (with --all: by one or more), 2 usage.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Ask every distributor that --admin names; who did not take it is named
    #[arg(long, global = true)]
    all: bool,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Totals and a table of analyzers
    Status,
    /// Whether it is well; exit status 1 says that it is not. For probes that cannot reach --http, because it asks for a
    /// certificate
    Health {
        /// well: what /health says; ready: on every shard an analyzer takes messages; live: every shard turns
        #[arg(default_value = "well", value_parser = ["well", "ready", "live"])]
        what: String,
    },
    /// Give an analyzer another weight
    Weight {
        /// Its id
        id: String,
        /// A finite number, 0 or more
        #[arg(value_parser = values::weight, allow_hyphen_values = true)]
        weight: f64,
        /// Hold it against what the analyzer itself says, also when it comes back
        #[arg(long)]
        pin: bool,
        /// Get there in this time, in steps of 100 ms
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        ramp: Option<Duration>,
    },
    /// Let an analyzer's own weight count again
    Unpin {
        /// Its id
        id: String,
    },
    /// Give an analyzer nothing new
    Drain {
        /// Its id
        id: String,
    },
    /// Give an analyzer messages again
    Resume {
        /// Its id
        id: String,
    },
    /// Close an analyzer's links; what it has not ACKed goes to others
    Eject {
        /// Its id
        id: String,
    },
    /// Add an analyzer that the distributor connects to
    AddHttp {
        /// Its id
        id: String,
        /// Such as http://host:8090 or forward://host:24224
        endpoint: String,
        /// A finite number, 0 or more
        #[arg(value_parser = values::weight, allow_hyphen_values = true)]
        weight: f64,
    },
    /// Remove an analyzer that the distributor connects to
    RemoveHttp {
        /// Its id
        id: String,
    },
    /// Packets that every analyzer over HTTP refused and that are kept in memory, the newest (--json: with
    /// the packets themselves, to be posted again)
    #[command(alias = "refused")]
    DeadLetters {
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show the log level, or set it
    LogLevel {
        /// off, error, warn, info, debug or trace
        level: Option<String>,
    },
    /// Read the configuration file again
    Reload {
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Also when it opens what is closed: an allow-list, a token or a limit that is gone, the last analyzer over
        /// HTTP, a file that is empty
        #[arg(long)]
        force: bool,
    },
    /// Go back to before the last reload
    Rollback,
}

impl Action {
    /// An answer of one distributor, for people.
    fn text(&self, answer: &Value) -> String {
        match self {
            Action::DeadLetters { .. } => dead_letters(answer),
            Action::Health { .. } => answer["status"].as_str().unwrap_or("well").to_owned(),
            _ => plain(answer),
        }
    }

    /// Method, path and body of the request.
    fn request(&self) -> (&'static str, String, Option<Value>) {
        let analyzer = |id: &str, what: &str| {
            let path = format!("/admin/analyzers/{}/{what}", percent_encoded(id));
            ("POST", path, None)
        };
        match self {
            Action::Status => ("GET", "/admin/status".into(), None),
            Action::Health { what } => {
                let path = match what.as_str() {
                    "well" => "/health".to_owned(),
                    what => format!("/health/{what}"),
                };
                ("GET", path, None)
            }
            Action::Weight {
                id,
                weight,
                pin,
                ramp,
            } => {
                let mut body = json!({ "weight": weight, "pin": pin });
                if let Some(ramp) = ramp {
                    body["ramp"] = json!(format!("{}ms", ramp.as_millis()));
                }
                let (method, path, _) = analyzer(id, "weight");
                (method, path, Some(body))
            }
            Action::Unpin { id } => analyzer(id, "unpin"),
            Action::Drain { id } => analyzer(id, "drain"),
            Action::Resume { id } => analyzer(id, "resume"),
            Action::Eject { id } => analyzer(id, "eject"),
            Action::AddHttp {
                id,
                endpoint,
                weight,
            } => {
                let body = json!({ "id": id, "endpoint": endpoint, "weight": weight });
                ("POST", "/admin/http-analyzers".into(), Some(body))
            }
            Action::RemoveHttp { id } => {
                let path = format!("/admin/http-analyzers/{}", percent_encoded(id));
                ("DELETE", path, None)
            }
            Action::DeadLetters { limit } => {
                ("GET", format!("/admin/dead-letters?limit={limit}"), None)
            }
            Action::LogLevel { level: None } => ("GET", "/admin/log-level".into(), None),
            Action::LogLevel { level: Some(level) } => {
                let body = json!({ "level": level });
                ("PUT", "/admin/log-level".into(), Some(body))
            }
            Action::Reload { dry_run, force } => {
                let body = json!({ "dryRun": dry_run, "force": force });
                ("POST", "/admin/reload".into(), Some(body))
            }
            Action::Rollback => ("POST", "/admin/rollback".into(), None),
        }
    }
}

/// Asks, prints, and says how it went.
pub fn run(args: &Args) -> ExitCode {
    // An order would go to a part of those that were named.
    if admins_in(std::env::args_os()) > args.reach.admin.len() {
        say("weir ctl: --admin stands before and behind the verb; allowed: all of them in one place");
        return ExitCode::from(2);
    }
    if args.all {
        return run_all(args);
    }
    if args.reach.is_fleet() {
        say("weir ctl: --admin names more than one distributor; allowed: --all, which asks each of them, or one path or address");
        return ExitCode::from(2);
    }
    match ask(args) {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("weir ctl: {error}"));
            ExitCode::from(1)
        }
    }
}

/// Values of `--admin` on a command line. clap takes those behind the verb alone if there are some at either side.
fn admins_in(line: impl Iterator<Item = OsString>) -> usize {
    let words: Vec<String> = line
        .map(|word| word.to_string_lossy().into_owned())
        .take_while(|word| word != "--")
        .collect();
    let count = |list: &str| list.split(',').count();
    let of = |(at, word): (usize, &String)| match word.trim_start_matches('-') {
        _ if !word.starts_with('-') => 0,
        "admin" => words.get(at + 1).map_or(0, |list| count(list)),
        flag => flag.strip_prefix("admin=").map_or(0, count),
    };
    words.iter().enumerate().map(of).sum()
}

fn ask(args: &Args) -> Result<String, String> {
    let client = args.reach.client()?;
    let (method, path, body) = args.action.request();
    let body = body.map_or(Vec::new(), |body| body.to_string().into_bytes());
    let asked = client.ask(method, &path, &body);
    let (status, body) = asked.map_err(|error| error.to_string())?;
    let answer = read_answer(status, &body)?;
    if status >= 300 {
        return Err(refusal(status, &answer));
    }
    if args.json {
        return Ok(answer.to_string());
    }
    Ok(match args.action {
        Action::Status => table::text(&answer, table::WIDTH_ANY),
        _ => args.action.text(&answer),
    })
}

/// Asks every replica, prints, and names those that did not take it.
fn run_all(args: &Args) -> ExitCode {
    let mut fleet = match args.reach.fleet() {
        Ok(fleet) => fleet,
        Err(error) => {
            say(&format!("weir ctl: {error}"));
            return ExitCode::from(1);
        }
    };
    let (method, path, body) = args.action.request();
    let body = body.map_or(Vec::new(), |body| body.to_string().into_bytes());
    let all = fleet.ask(method, &path, &body);
    let text = match (&args.action, args.json) {
        (Action::Status, false) => fleet::text(&fleet::merge(&all), table::WIDTH_ANY),
        (Action::Status, true) => whole(&all).to_string(),
        (_, true) => answers(&all).to_string(),
        (action, false) => {
            let taken = all
                .iter()
                .filter_map(|one| Some((one, one.status.as_ref().ok()?)));
            let texts = taken
                .map(|(one, answer)| format!("{}:\n{}", one.name, indented(&action.text(answer))));
            texts.collect::<Vec<_>>().join("\n")
        }
    };
    if !text.is_empty() {
        out!("{text}");
    }
    let refused = refused(&all);
    for (name, why) in &refused {
        say(&format!("weir ctl: {name}: {why}"));
    }
    if refused.is_empty() {
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = refused.iter().map(|(name, _)| *name).collect();
    say(&format!(
        "weir ctl: {} of {} distributors did not take it: {}",
        refused.len(),
        all.len(),
        names.join(", ")
    ));
    ExitCode::from(1)
}

/// Who was not reached, or refused, and why.
fn refused(all: &[Replica]) -> Vec<(&str, &str)> {
    all.iter()
        .filter_map(|one| Some((one.name.as_str(), one.status.as_ref().err()?.as_str())))
        .collect()
}

/// The fleet, and in each replica's entry all that it says of itself.
fn whole(all: &[Replica]) -> Value {
    let mut fleet = fleet::merge(all);
    for (at, one) in all.iter().enumerate() {
        if let Ok(status) = &one.status {
            fleet["replicas"][at]["status"] = status.clone();
        }
    }
    fleet
}

/// What each answered to an order.
fn answers(all: &[Replica]) -> Value {
    let one = |one: &Replica| match &one.status {
        Ok(answer) => json!({ "replica": one.name, "taken": true, "answer": answer }),
        Err(why) => json!({ "replica": one.name, "taken": false, "error": why }),
    };
    json!({
        "asked": all.len(),
        "taken": all.iter().filter(|one| one.status.is_ok()).count(),
        "replicas": all.iter().map(one).collect::<Vec<_>>(),
    })
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// A line for each packet, and one for all.
fn dead_letters(answer: &Value) -> String {
    let packets = answer["packets"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let mut lines: Vec<String> = packets
        .map(|packet| {
            let words = ["time", "analyzer", "status", "messages", "bytes"];
            let [time, analyzer, status, messages, bytes] = words.map(|word| text(&packet[word]));
            format!("{time}  status {status} of {analyzer}  {messages} messages, {bytes} bytes")
        })
        .collect();
    let of = |name: &str| text(&answer[name]);
    lines.push(format!(
        "{} kept, {} of {} bytes; {} forgotten, with {} messages",
        of("kept"),
        of("bytes"),
        of("bytesMax"),
        of("forgotten"),
        of("forgottenMessages")
    ));
    lines.join("\n")
}

/// `name value` lines, without what every answer has.
fn plain(answer: &Value) -> String {
    let fields = answer.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| !matches!(name.as_str(), "worker" | "timestamp"));
    let lines: Vec<String> = fields
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn request(line: &str) -> (&'static str, String, Option<Value>) {
        let words = std::iter::once("ctl").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).expect("a line");
        line.args.action.request()
    }

    #[test]
    fn lines_become_requests() {
        let body = json!({ "weight": 0.3, "pin": true, "ramp": "10000ms" });
        assert_eq!(
            request("weight a/1 0.3 --pin --ramp 10s"),
            ("POST", "/admin/analyzers/a%2F1/weight".into(), Some(body))
        );
        assert_eq!(request("drain a1").1, "/admin/analyzers/a1/drain");
        assert_eq!(request("log-level").0, "GET");
        assert_eq!(request("log-level debug").0, "PUT");
        assert_eq!(
            request("reload --dry-run").2,
            Some(json!({ "dryRun": true, "force": false }))
        );
        assert_eq!(
            request("reload --force").2,
            Some(json!({ "dryRun": false, "force": true }))
        );
        assert_eq!(request("remove-http h1 --admin /x.sock").0, "DELETE");
    }

    #[test]
    fn each_place_that_is_named_is_counted() {
        for (line, count) in [
            ("weir ctl status", 0),
            ("weir ctl --admin a status", 1),
            ("weir ctl -admin a,b status", 2),
            ("weir ctl --admin a --all status --admin=b,c", 3),
            ("weir ctl drain admin --admin a", 1),
            ("weir ctl drain -- --admin a", 0),
        ] {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(admins_in(words), count, "{line}");
        }
    }

    #[test]
    fn usage_says_what_is_allowed() {
        for (line, word) in [
            ("weight a1 NaN", "finite number"),
            ("status --admin ftp://x", "path of a Unix socket"),
            ("weight a1 1 --ramp 5", "a number and a unit"),
        ] {
            let words = std::iter::once("ctl").chain(line.split_whitespace());
            let error = Line::try_parse_from(words).err().expect(line).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
