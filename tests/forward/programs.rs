//! Clients that people run, unchanged, installed from their packages. Where that cannot be, a test says why it is
//! skipped. Judged from what the clients print: `acked NUMBER` for each message that was acked to them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use weir_testkit::inputs::marked;
use weir_testkit::{until, Analyzer, Dialect, Distributor, Options, Scratch};

use super::{analyzer, distributor};

const MESSAGES: usize = 300;
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forward");

/// Runs to its end; what went wrong.
fn installed(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Err(error) => Err(format!("{command:?}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Folder of the packages, made once; `None`, and it is said why.
fn packages(
    name: &str,
    once: &'static OnceLock<Option<PathBuf>>,
    install: impl FnOnce(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    let folder = once.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let done = folder.join("done");
        if done.exists() {
            return Some(folder);
        }
        std::fs::create_dir_all(&folder).expect("a folder");
        match install(&folder) {
            Ok(()) => std::fs::write(done, "").expect("written"),
            Err(why) => {
                println!("skipped: {name}: {why}");
                return None;
            }
        }
        Some(folder)
    });
    folder.clone()
}

pub fn node(script: &str) -> Option<Command> {
    static ONCE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = packages("forward-npm", &ONCE, |folder| {
        let names = ["@fluent-org/logger@1.0.10", "fluent-logger@3.4.1"];
        let mut npm = Command::new("npm");
        let npm = npm.args(["install", "--no-audit", "--no-fund", "--prefix"]);
        installed(npm.arg(folder).args(names))
    })?;
    let mut node = Command::new("node");
    node.arg(Path::new(SCRIPTS).join(script));
    node.env("NODE_PATH", folder.join("node_modules"));
    Some(node)
}

fn python(script: &str) -> Option<Command> {
    static ONCE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = packages("forward-python", &ONCE, |folder| {
        installed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        installed(pip.args(["install", "--quiet", "fluent-logger==0.11.1"]))
    })?;
    let mut python = Command::new(folder.join("bin/python"));
    python.arg(Path::new(SCRIPTS).join(script));
    Some(python)
}

/// The client of Docker's log driver, from Debian's package.
fn docker() -> Option<Command> {
    static ONCE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = packages("forward-go", &ONCE, |folder| {
        let mut go = Command::new("go");
        let go = go.args(["build", "-o"]).arg(folder.join("ack"));
        let go = go.arg(Path::new(SCRIPTS).join("ack.go"));
        let go = go.env("GO111MODULE", "off");
        let go = go.env("GOPATH", "/usr/share/gocode");
        installed(go.env("GOCACHE", folder.join("cache")))
    })?;
    Some(Command::new(folder.join("ack")))
}

/// A program that runs, and what it says.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Program {
    pub fn start(mut command: Command) -> Program {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it is installed");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stdout, lines) = (child.stdout.take().expect("piped"), Arc::clone(&said));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        });
        Program {
            child,
            said,
            reader: Some(reader),
        }
    }

    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("no panic").clone()
    }

    pub fn has_said(&self, line: &str) -> bool {
        let said = self.said.lock().expect("no panic");
        said.iter().any(|other| other == line)
    }

    /// SIGKILL; all that it said is read then.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.read_to_the_end();
    }

    fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it reads to the end");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that runs, and its record.
struct Client(Program);

impl Client {
    fn start(mut command: Command, arguments: &[&str], distributor: &Distributor) -> Client {
        let forward = distributor.input("forward");
        command.arg(forward.ip().to_string());
        command.arg(forward.port().to_string()).args(arguments);
        Client(Program::start(command))
    }

    fn said(&self) -> Vec<String> {
        self.0.said()
    }

    /// Numbers that were acked to it.
    fn acked(&self) -> BTreeSet<u64> {
        let said = self.said();
        let numbers = said.iter().filter_map(|line| line.strip_prefix("acked "));
        numbers
            .map(|number| number.parse().expect("a number"))
            .collect()
    }

    /// Waits for its end; whether that was a success.
    fn ended(&mut self) -> bool {
        let child = &mut self.0.child;
        until("the client ends", || {
            child.try_wait().expect("a child").is_some()
        });
        self.0.read_to_the_end();
        self.0.child.wait().expect("a child").success()
    }
}

/// Numbers at an analyzer, each of them once.
fn numbers(analyzer: &Analyzer) -> BTreeSet<u64> {
    let texts = analyzer.texts();
    let find = |(_, text): &(u8, String)| marked::find(text.as_bytes()).expect("a mark");
    let numbers: BTreeSet<u64> = texts.iter().map(find).collect();
    assert_eq!(numbers.len(), texts.len(), "nothing came twice");
    numbers
}

fn all() -> BTreeSet<u64> {
    (0..MESSAGES as u64).collect()
}

/// Sends all messages, and what a client printed is what was there.
fn sends_all(command: Command, arguments: &[&str], options: &str) -> Vec<(u8, String)> {
    let distributor = distributor(options);
    let analyzer = analyzer(&distributor);
    let mut client = Client::start(command, arguments, &distributor);
    assert!(client.ended(), "{:?}", client.said());
    assert_eq!(client.acked(), all(), "{:?}", client.said());
    assert_eq!(numbers(&analyzer), all());
    let texts = analyzer.texts();
    distributor.stop().assert_clean();
    texts
}

#[test]
fn the_logger_of_fluent_org_has_its_acks_in_every_mode() {
    for mode in [
        "Message",
        "Forward",
        "PackedForward",
        "CompressedPackedForward",
    ] {
        let Some(node) = node("ack.js") else {
            return;
        };
        let texts = sends_all(node, &[mode, &MESSAGES.to_string(), "", "", ""], "");
        let severities = [3, 2, 1];
        for (severity, text) in texts {
            let number = marked::find(text.as_bytes()).expect("a mark") as usize;
            assert_eq!(severity, severities[number % 3], "{mode}: {text}");
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["tag"], "node.events", "{mode}: {text}");
            assert_eq!(json["raw"]["encoding"], "base64", "{mode}: {text}");
        }
    }
}

#[test]
fn the_older_logger_of_node_has_its_acks() {
    if let Some(node) = node("plain.js") {
        sends_all(node, &[&MESSAGES.to_string()], "");
    }
}

#[test]
fn the_client_of_docker_has_its_acks() {
    if let Some(docker) = docker() {
        let texts = sends_all(docker, &[&MESSAGES.to_string()], "");
        assert!(
            texts[0].1.contains("\"container_name\":\"/c\""),
            "{texts:?}"
        );
    }
}

#[test]
fn the_logger_of_python_knows_no_acks_and_all_arrives() {
    let Some(python) = python("plain.py") else {
        return;
    };
    let distributor = distributor("");
    let analyzer = analyzer(&distributor);
    let mut client = Client::start(python, &[&MESSAGES.to_string()], &distributor);
    assert!(client.ended(), "{:?}", client.said());
    until("all are there", || analyzer.read() == MESSAGES);
    assert_eq!(numbers(&analyzer), all());
    for (severity, text) in analyzer.texts() {
        assert_eq!(severity, 4, "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let list = &json["nested"]["list"];
        assert_eq!((&list[0], &list[1]), (&1.into(), &2.5.into()), "{text}");
        assert_eq!(list[4]["data"], "/w==", "{text}");
    }
    distributor.stop().assert_clean();
}

#[test]
fn a_shared_key_lets_those_in_who_know_it() {
    let scratch = Scratch::new("forward-key");
    let (key, users) = (scratch.path("key"), scratch.path("users"));
    std::fs::write(&key, "open sesame\n").expect("written");
    std::fs::write(&users, "ali:baba\n").expect("written");
    let options = format!(
        "&shared_key_file={}&users_file={}",
        key.display(),
        users.display()
    );
    let count = MESSAGES.to_string();
    let Some(node_known) = node("ack.js") else {
        return;
    };
    let known = ["PackedForward", &count, "open sesame", "ali", "baba"];
    sends_all(node_known, &known, &options);
    let distributor = distributor(&options);
    let analyzer = analyzer(&distributor);
    for (key, user, password) in [
        ("other", "ali", "baba"),
        ("open sesame", "ali", "x"),
        ("open sesame", "x", "baba"),
    ] {
        let Some(node) = node("ack.js") else {
            return;
        };
        let arguments = ["PackedForward", "1", key, user, password];
        let client = Client::start(node, &arguments, &distributor);
        until("it is told", || {
            client.said().iter().any(|line| line.starts_with("failed"))
        });
        assert_eq!(client.acked().len(), 0, "{key} {user} {password}");
    }
    assert_eq!(analyzer.read(), 0);
    assert!(distributor.stop().count("key_refused") >= 3);
}

#[test]
fn what_was_acked_to_a_client_that_is_killed_was_at_an_analyzer() {
    let distributor = distributor("");
    let options = Options::new(Dialect::Native, 1.0).marked();
    let analyzer = Analyzer::connect(distributor.analyzers, &options.per_second(2000));
    distributor.wait_lanes(1);
    for round in 0..3 {
        let Some(node) = node("ack.js") else {
            return;
        };
        let arguments = ["PackedForward", "1000000", "", "", ""];
        let mut client = Client::start(node, &arguments, &distributor);
        until("chunks are acked", || client.acked().len() > 100);
        client.0.child.kill().expect("it runs");
        client.ended();
        let delivered: BTreeSet<u64> = analyzer.ids().into_iter().collect();
        let acked = client.acked();
        assert!(acked.is_subset(&delivered), "round {round}");
    }
    distributor.stop().balance();
}
