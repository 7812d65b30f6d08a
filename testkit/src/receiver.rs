//! Servers that take requests in formats of their own. Elasticsearch, a collector, Loki and Splunk are in no package that
//! tests can have; `receiver.py` has parsers of its own and shares nothing with Weir.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::Scratch;

/// A server; killed when dropped.
pub struct Receiver {
    child: Child,
    port: u16,
    record: PathBuf,
    kind: &'static str,
}

impl Receiver {
    /// Of a kind, with a plan for its first requests. None, and it is said why: there is no Python.
    pub fn start(scratch: &Scratch, kind: &'static str, plan: &[&str]) -> Option<Receiver> {
        Receiver::start_at(scratch, kind, plan, 0)
    }

    /// Starts it again on the same port, after [`Receiver::kill`]; its record is gone on with.
    pub fn restart(&mut self, scratch: &Scratch) {
        let again = Receiver::start_at(scratch, self.kind, &[], self.port);
        *self = again.expect("as before");
    }

    fn start_at(
        scratch: &Scratch,
        kind: &'static str,
        plan: &[&str],
        port: u16,
    ) -> Option<Receiver> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/receiver.py");
        let record = scratch.path(&format!("{kind}.record"));
        let plan = serde_json::to_string(plan).expect("JSON");
        let mut command = Command::new("python3");
        command.args([script, kind]).arg(&record).arg(plan);
        let command = command.arg(port.to_string()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(why) => {
                println!("skipped: python3: {why}");
                return None;
            }
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its port");
        Some(Receiver {
            child,
            port: line.trim().parse().expect("its port"),
            record,
            kind,
        })
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read = |line: &str| serde_json::from_str(line).expect("JSON");
        whole.lines().map(read).collect()
    }

    /// What it took, in order.
    pub fn messages(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line.get("text").is_some());
        lines
    }

    /// Their texts.
    pub fn texts(&self) -> Vec<String> {
        let text = |line: &Value| line["text"].as_str().expect("text").to_owned();
        self.messages().iter().map(text).collect()
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line.get("request").is_some());
        lines
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its URL, with options that it cannot do without.
    pub fn url(&self, scratch: &Scratch, options: &str) -> String {
        let (scheme, needed) = match self.kind {
            "ndjson" => ("http+ndjson", String::new()),
            "json" => ("http+json", String::new()),
            "es" => ("es+http", String::new()),
            "otlp" => ("otlp+http", String::new()),
            "otlp-json" => ("otlp+http", "encoding=json".to_owned()),
            "loki" => ("loki+http", String::new()),
            "hec" => {
                let token = scratch.write("token", "sesame\n");
                ("hec+http", format!("token_file={}", token.display()))
            }
            kind => panic!("{kind}"),
        };
        let options = [&needed, options].map(str::to_owned);
        let options: Vec<String> = options.into_iter().filter(|it| !it.is_empty()).collect();
        let sign = if options.is_empty() { "" } else { "?" };
        format!(
            "{scheme}://127.0.0.1:{}{sign}{}",
            self.port,
            options.join("&")
        )
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}
