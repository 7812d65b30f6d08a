//! `weir ctl`: turns a running distributor, over its admin API.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{json, Value};

use super::values;
use crate::control::http_api::client::{Client, Target};
use crate::control::view::table;
use crate::http::percent_encoded;
use crate::out;
use crate::streams::say;

/// Where a distributor is asked to be when nothing is said.
const SOCKET_DEFAULT: &str = "/run/weir/admin.sock";

/// How the admin API is reached.
#[derive(clap::Args, Clone, Debug)]
pub struct Reach {
    /// Path of the distributor's admin socket, or http://host:port; default:
    /// $RUNTIME_DIRECTORY/admin.sock if that is set, else /run/weir/admin.sock
    #[arg(long, value_name = "PATH|URL", value_parser = Target::from_str, global = true)]
    pub admin: Option<Target>,
    /// File with the admin token, for http://
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
}

/// Looks at a running distributor and turns it.
///
/// Exit status: 0 done, 1 refused or not reached, 2 usage.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    reach: Reach,
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
    /// Add an analyzer over HTTP
    AddHttp {
        /// Its id
        id: String,
        /// Such as http://host:8090
        endpoint: String,
        /// A finite number, 0 or more
        #[arg(value_parser = values::weight, allow_hyphen_values = true)]
        weight: f64,
    },
    /// Remove an analyzer over HTTP
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

impl Reach {
    /// A client for it.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn client(&self) -> Result<Client, String> {
        let token = self.token_file.as_deref().map(token).transpose()?;
        let target = self.admin.clone().unwrap_or_else(|| {
            let directory = std::env::var_os("RUNTIME_DIRECTORY").filter(|value| !value.is_empty());
            Target::Unix(directory.map_or_else(
                || SOCKET_DEFAULT.into(),
                |directory| Path::new(&directory).join("admin.sock"),
            ))
        });
        Ok(Client { target, token })
    }
}

fn token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("--token-file {}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

impl Action {
    /// Method, path and body of the request.
    fn request(&self) -> (&'static str, String, Option<Value>) {
        let analyzer = |id: &str, what: &str| {
            let path = format!("/admin/analyzers/{}/{what}", percent_encoded(id));
            ("POST", path, None)
        };
        match self {
            Action::Status => ("GET", "/admin/status".into(), None),
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

fn ask(args: &Args) -> Result<String, String> {
    let client = args.reach.client()?;
    let (method, path, body) = args.action.request();
    let body = body.map_or(Vec::new(), |body| body.to_string().into_bytes());
    let asked = client.ask(method, &path, &body);
    let (status, body) = asked.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|error| format!("status {status}, and the answer is not JSON: {error}"))?;
    if status >= 300 {
        let error = answer["error"].as_str().unwrap_or("no reason given");
        return Err(format!("{error} (status {status})"));
    }
    if args.json {
        return Ok(answer.to_string());
    }
    Ok(match args.action {
        Action::Status => table::text(&answer, table::WIDTH_ANY),
        Action::DeadLetters { .. } => dead_letters(&answer),
        _ => plain(&answer),
    })
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
