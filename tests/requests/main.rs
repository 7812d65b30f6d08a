//! Analyzers that take requests in formats of their own, on real sockets. The servers are `receiver.py`: Elasticsearch,
//! a collector, Loki and Splunk are in no package here. It has parsers of its own and shares nothing with Weir.

mod formats;
mod identity;
mod secrets;
mod wrong;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use weir_testkit::wire::frame_of;
use weir_testkit::{until, Distributor, Scratch};

/// A server; killed when dropped.
struct Receiver {
    child: Child,
    port: u16,
    record: PathBuf,
    kind: &'static str,
}

impl Receiver {
    /// Of a kind, with a plan for its first requests. None, and it is said why: there is no Python.
    fn start(scratch: &Scratch, kind: &'static str, plan: &[&str]) -> Option<Receiver> {
        Receiver::start_at(scratch, kind, plan, 0)
    }

    /// The same at a port; its record is gone on with.
    fn start_at(
        scratch: &Scratch,
        kind: &'static str,
        plan: &[&str],
        port: u16,
    ) -> Option<Receiver> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/requests/receiver.py");
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
    fn messages(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line.get("text").is_some());
        lines
    }

    fn texts(&self) -> Vec<String> {
        let text = |line: &Value| line["text"].as_str().expect("text").to_owned();
        self.messages().iter().map(text).collect()
    }

    /// What it was asked.
    fn requests(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line.get("request").is_some());
        lines
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its URL, with options that it cannot do without.
    fn url(&self, scratch: &Scratch, options: &str) -> String {
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

/// A distributor with these analyzers, each of weight 1, whose lanes are up.
fn distributor(urls: &[String], flags: &str) -> Distributor {
    let analyzers: Vec<String> = (1..)
        .zip(urls)
        .map(|(number, url)| format!("--analyzer a{number}=1@{url}"))
        .collect();
    let distributor = Distributor::start(&format!(
        "--shards 1 --http 127.0.0.1:0 --health-interval 100ms {} {flags}",
        analyzers.join(" ")
    ));
    until("all analyzers are up", || {
        distributor.lines("analyzer up").len() >= urls.len()
    });
    distributor
}

/// Sends texts as frames of these severities.
fn send<'a>(emitters: SocketAddr, texts: impl IntoIterator<Item = (u8, &'a [u8])>) {
    let mut stream = TcpStream::connect(emitters).expect("connects");
    let mut bytes = Vec::new();
    for (severity, text) in texts {
        bytes.extend(frame_of(severity, text));
    }
    stream.write_all(&bytes).expect("writes");
}

/// So many texts, each another.
fn texts(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("message {number}"))
        .collect()
}

/// Sends so many of them.
fn send_texts(distributor: &Distributor, texts: &[String]) {
    send(
        distributor.emitters,
        texts.iter().map(|text| (3, text.as_bytes())),
    );
}
