//! The demonstration over HTTP: packets in, packets out, every part a process of its own, as it is deployed.
//! What is shown is what the distributor says itself, on `GET /analyzers` and `GET /audit`.
//!
//! ```text
//! e1 \                                            / a1   weir analyzer --http
//!     > weir emitter --http   weir distributor --<  ...
//! e2 /                                            \ a4   one is killed and comes back, one gets another weight
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::play::{Outcome, ANALYZERS, CHANGED, CHANGED_WEIGHT, EMITTERS, KILLED};
use super::programs::{Ended, Program};
use super::screen::{moment, Screen};
use super::table::{percent, Paint};
use super::verdict::{self, Check};
use super::{Failure, Options};
use weir_protocol::text::Time;
use weir_streams::grouped;

/// Messages in a packet.
const BATCH: u32 = 10;
const CONNECTIONS: u32 = 8;
const PAYLOAD_BYTES: u32 = 256;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// For a program to listen, and for all analyzers to be online.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// For a program to end when it is asked to.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// For an answer of the distributor.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that runs.
struct Demo {
    options: Options,
    stop: Arc<AtomicBool>,
    screen: Screen,
    /// Of the analyzers, in their order.
    ports: Vec<u16>,
    analyzers: Vec<Option<Program>>,
    emitters: Vec<Program>,
    distributor: SocketAddr,
    directory: Directory,
    started: Instant,
    was_killed: bool,
    was_seen_offline: bool,
    was_started_again: bool,
    was_changed: bool,
}

/// A directory of our own, gone with its value.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Shows it.
///
/// # Errors
/// A program cannot be started, ends by itself, or does not answer; nobody reads the output.
pub fn play(options: &Options, stop: Arc<AtomicBool>) -> Result<Outcome, Failure> {
    let ports = free_ports(ANALYZERS.len() + 1)?;
    let directory = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let mut demo = Demo {
        options: *options,
        stop,
        screen: Screen::new(),
        analyzers: Vec::new(),
        emitters: Vec::new(),
        distributor: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[ANALYZERS.len()])),
        ports: ports[..ANALYZERS.len()].to_vec(),
        directory: Directory(directory),
        started: Instant::now(),
        was_killed: false,
        was_seen_offline: false,
        was_started_again: false,
        was_changed: false,
    };
    demo.introduce()?;
    for index in 0..ANALYZERS.len() {
        let analyzer = demo.start_analyzer(index)?;
        demo.analyzers.push(Some(analyzer));
    }
    let distributor = demo.start_distributor()?;
    demo.started = Instant::now();
    for name in EMITTERS {
        let emitter = Program::start("emitter", name, &demo.emitter_args())?;
        demo.emitters.push(emitter);
    }
    demo.follow()?;
    demo.end(distributor)
}

/// Ports of loopback that were free a moment ago.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let anywhere = (Ipv4Addr::LOCALHOST, 0);
    let bound: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(anywhere))
        .collect::<io::Result<_>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    bound.iter().map(port).collect()
}

impl Demo {
    fn introduce(&mut self) -> io::Result<()> {
        let look = self.screen.look();
        let title = look.paint(Paint::Bold, "weir demo --http:");
        let at = |part: f64| self.options.duration.as_secs_f64() * part;
        let (killed, changed) = (ANALYZERS[KILLED].0, ANALYZERS[CHANGED].0);
        let rate = grouped(self.options.rate.round() as u64); // at most a million
        let weights = ANALYZERS.map(|(name, weight)| format!("{name} {weight}"));
        for line in [
            format!("{title} two emitters, one distributor, four analyzers, each a process"),
            String::new(),
            format!("emitters     {rate} messages/s each, {BATCH} in a packet, for {} s", at(1.0)),
            format!("distributor  http://{}", self.distributor),
            format!("analyzers    {}   (weights)", weights.join("   ")),
            format!(
                "plan         {:.1} s {killed} is killed   {:.1} s it comes back   {:.1} s {changed} weighs {CHANGED_WEIGHT}",
                at(1.0 / 3.0),
                at(1.0 / 2.0),
                at(2.0 / 3.0)
            ),
            String::new(),
        ] {
            self.screen.say(&line)?;
        }
        Ok(())
    }

    fn start_analyzer(&self, index: usize) -> Result<Program, Failure> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[index]));
        let mut analyzer =
            Program::start("analyzer", ANALYZERS[index].0, &[format!("--http={addr}")])?;
        let deadline = Instant::now() + READY_PATIENCE;
        while TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT).is_err() {
            if analyzer.has_ended()? || Instant::now() > deadline {
                let what = format!("{} does not listen at {addr}", analyzer.name);
                return Err(Failure::Program(what));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(analyzer)
    }

    fn start_distributor(&mut self) -> Result<Program, Failure> {
        let mut args = vec![
            "distributor".to_owned(),
            "--emitters=127.0.0.1:0".to_owned(),
            "--analyzers=127.0.0.1:0".to_owned(),
            format!("--http={}", self.distributor),
            format!("--admin={}", self.socket().display()),
            format!("--certificate={}", self.certificate().display()),
            // A demonstration is short: what was away is looked for often, and gets its whole share at once.
            "--health-interval=300ms".to_owned(),
            "--slow-start=0s".to_owned(),
        ];
        args.extend(
            self.options
                .shards
                .map(|shards| format!("--shards={shards}")),
        );
        for ((name, weight), port) in ANALYZERS.iter().zip(&self.ports) {
            args.push(format!(
                "--http-analyzer={name}={weight}@http://127.0.0.1:{port}"
            ));
        }
        let mut distributor = Program::start_as("distributor", &args)?;
        let deadline = Instant::now() + READY_PATIENCE;
        while self.online().len() < ANALYZERS.len() {
            if distributor.has_ended()? {
                let ended = distributor.end(Duration::ZERO)?;
                let what = ended.map_or_else(String::new, |ended| ended.to_string());
                return Err(Failure::Program(what));
            }
            if Instant::now() > deadline {
                let patience = Time(READY_PATIENCE);
                let what = format!("the analyzers were not all online within {patience}");
                return Err(Failure::Program(what));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(distributor)
    }

    fn socket(&self) -> PathBuf {
        self.directory.0.join("admin.sock")
    }

    fn certificate(&self) -> PathBuf {
        self.directory.0.join("distributor.json")
    }

    fn emitter_args(&self) -> [String; 6] {
        [
            format!("--http=http://{}", self.distributor),
            format!("--rate={}", self.options.rate),
            format!("--duration={:.3}s", self.options.duration.as_secs_f64()),
            format!("--connections={CONNECTIONS}"),
            format!("--batch={BATCH}"),
            format!("--size={PAYLOAD_BYTES}"),
        ]
    }

    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What the distributor answers, null when it does not.
    fn ask(&self, path: &str) -> Value {
        get(self.distributor, path).unwrap_or_default()
    }

    /// Analyzers that take packets.
    fn online(&self) -> Vec<String> {
        let answer = self.ask("/analyzers");
        let all = answer["analyzers"].as_array().cloned().unwrap_or_default();
        let online = all.iter().filter(|row| row["isOnline"] == true);
        online
            .filter_map(|row| row["id"].as_str().map(str::to_owned))
            .collect()
    }

    fn say(&mut self, paint: Paint, what: &str) -> io::Result<()> {
        let look = self.screen.look();
        let what = look.paint(paint, what);
        let seconds = self.started.elapsed().as_secs_f64();
        self.screen.say(&moment(seconds, &what, look))
    }

    /// Does what the plan has and shows what happens, until the emitters have ended.
    fn follow(&mut self) -> Result<(), Failure> {
        let mut next_table = TABLE_EVERY;
        loop {
            let mut ended = true;
            for emitter in &mut self.emitters {
                ended &= emitter.has_ended()?;
            }
            if ended || self.is_interrupted() {
                return Ok(());
            }
            if self.started.elapsed() > self.options.duration + END_PATIENCE {
                let patience = Time(END_PATIENCE);
                let what = format!("the emitters have not ended {patience} after their time");
                return Err(Failure::Program(what));
            }
            self.act()?;
            if self.started.elapsed() >= next_table {
                next_table += TABLE_EVERY;
                let table = self.table();
                self.screen.table(table)?;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What the plan has for now.
    fn act(&mut self) -> Result<(), Failure> {
        let at = self.started.elapsed();
        let killed = ANALYZERS[KILLED].0;
        if !self.was_killed && at >= self.options.duration / 3 {
            self.was_killed = true;
            if let Some(analyzer) = self.analyzers[KILLED].take() {
                let pid = analyzer.pid();
                analyzer.kill()?;
                self.say(Paint::Red, &format!("{killed} killed (SIGKILL, pid {pid})"))?;
            }
        }
        if self.was_killed && !self.was_seen_offline && !self.online().iter().any(|id| id == killed)
        {
            self.was_seen_offline = true;
            self.say(
                Paint::Yellow,
                &format!("{killed} offline: its packets go to others"),
            )?;
        }
        if !self.was_started_again && at >= self.options.duration / 2 {
            self.was_started_again = true;
            let analyzer = self.start_analyzer(KILLED)?;
            let what = format!("{killed} started again (pid {})", analyzer.pid());
            self.analyzers[KILLED] = Some(analyzer);
            self.say(Paint::Green, &what)?;
        }
        if !self.was_changed && at >= self.options.duration.mul_f64(2.0 / 3.0) {
            self.was_changed = true;
            let name = ANALYZERS[CHANGED].0;
            let args = [
                "ctl".to_owned(),
                format!("--admin={}", self.socket().display()),
                "weight".to_owned(),
                name.to_owned(),
                CHANGED_WEIGHT.to_string(),
            ];
            let ended = Program::start_as("ctl", &args)?.end(END_PATIENCE)?;
            match ended {
                Some(ended) if ended.status.success() => {
                    self.say(
                        Paint::Green,
                        &format!("weir ctl weight {name} {CHANGED_WEIGHT}"),
                    )?;
                }
                ended => {
                    let why = ended.map_or("no end".to_owned(), |ended| ended.to_string());
                    return Err(Failure::Program(why));
                }
            }
        }
        Ok(())
    }

    /// The distributor's own account.
    fn table(&self) -> Vec<String> {
        let audit = self.ask("/audit");
        let online = self.online();
        let received = audit["ledger"]["total"]["received"].as_u64().unwrap_or(0);
        let seconds = self.started.elapsed().as_secs_f64();
        let what = format!(
            "{} messages received, {}",
            grouped(received),
            conservation(&audit)
        );
        let mut lines = vec![
            moment(seconds, &what, self.screen.look()),
            format!(
                "  {:<10} {:<8} {:>7} {:>10} {:>10} {:>12}",
                "analyzer", "state", "weight", "due", "got", "ACKed"
            ),
        ];
        for row in rows(&audit) {
            let id = row["analyzer"].as_str().unwrap_or("?");
            let state = if online.iter().any(|it| it == id) {
                "online"
            } else {
                "offline"
            };
            lines.push(format!(
                "  {id:<10} {state:<8} {:>7} {:>10} {:>10} {:>12}",
                row["weight"]
                    .as_f64()
                    .map_or("-".to_owned(), |weight| weight.to_string()),
                percent(row["target_share"].as_f64(), 2),
                percent(row["real_share"].as_f64(), 2),
                grouped(row["acked"].as_u64().unwrap_or(0)),
            ));
        }
        lines.push(String::new());
        lines
    }

    /// Ends everything in order, and judges.
    fn end(mut self, distributor: Program) -> Result<Outcome, Failure> {
        let is_interrupted = self.is_interrupted();
        let table = self.table();
        self.screen.table(table)?;
        self.screen.leave_table();
        let emitters = end_all(std::mem::take(&mut self.emitters))?;
        distributor.terminate()?;
        let distributor = end_all(vec![distributor])?;
        let analyzers = end_all(self.analyzers.drain(..).flatten().collect())?;
        let certificate = read(&self.certificate())?;
        let mut checks = vec![
            sent_is_received(&emitters, &certificate),
            books(&distributor, &certificate),
            analyzers_agree(&analyzers, &certificate),
            shares(&certificate),
        ];
        if !is_interrupted {
            let missing: Vec<String> = [
                (
                    self.was_seen_offline,
                    format!("{} offline", ANALYZERS[KILLED].0),
                ),
                (
                    self.was_started_again,
                    format!("{} started again", ANALYZERS[KILLED].0),
                ),
                (
                    self.was_changed,
                    format!("{} with its new weight", ANALYZERS[CHANGED].0),
                ),
            ]
            .into_iter()
            .filter(|(was_seen, _)| !was_seen)
            .map(|(_, what)| what)
            .collect();
            checks.push(verdict::plan_was_kept(&missing));
        }
        let holds = verdict::say(&checks, &mut self.screen)?;
        Ok(match (holds, is_interrupted) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Interrupted,
            (true, false) => Outcome::Held,
        })
    }
}

/// Asks all to stop, and waits for them.
fn end_all(mut programs: Vec<Program>) -> Result<Vec<Ended>, Failure> {
    programs.iter_mut().for_each(Program::ask_to_stop);
    super::play::end_all(programs, END_PATIENCE)
}

/// One request on a connection of its own.
fn get(addr: SocketAddr, path: &str) -> io::Result<Value> {
    let mut socket = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = end.map_or(&[][..], |end| &answer[end + 4..]);
    serde_json::from_slice(body).map_err(io::Error::other)
}

fn read(path: &Path) -> Result<Value, Failure> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::Program(format!("{}: {error}", path.display())))
}

fn rows(account: &Value) -> Vec<Value> {
    account["ledger"]["analyzers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn conservation(account: &Value) -> &'static str {
    match account["holds"].as_bool() {
        Some(true) => "conservation holds",
        Some(false) => "conservation BROKEN",
        None => "no account yet",
    }
}

/// What the distributor took is what it answered 202 to. A packet whose answer was lost would be sent twice.
fn sent_is_received(emitters: &[Ended], certificate: &Value) -> Check {
    let received = certificate["ledger"]["total"]["received"]
        .as_u64()
        .unwrap_or(0);
    let number = |emitter: &Ended, key| {
        emitter
            .number(key)
            .ok_or_else(|| format!("no {key}: {emitter}"))
    };
    let (mut sent, mut again) = (0, 0);
    for emitter in emitters {
        sent += number(emitter, "messages")?;
        again += number(emitter, "resent")?;
    }
    match (sent..=sent + again).contains(&received) {
        true => Ok(format!(
            "sent = received: {} messages in packets that got their 202",
            grouped(received)
        )),
        false => Err(format!(
            "sent {}, received {}",
            grouped(sent),
            grouped(received)
        )),
    }
}

/// The distributor ended well: with status 0 everything was ACKed.
fn books(distributor: &[Ended], certificate: &Value) -> Check {
    let total = &certificate["ledger"]["total"];
    let (received, acked) = (total["received"].as_u64(), total["acked"].as_u64());
    let ended_well = distributor.iter().all(|it| it.status.success());
    match (ended_well, received, acked) {
        (true, Some(received), Some(acked)) if received == acked => Ok(format!(
            "conservation holds: received {} = ACKed by a 2xx {}",
            grouped(received),
            grouped(acked)
        )),
        _ => {
            let ended: Vec<String> = distributor.iter().map(Ended::to_string).collect();
            Err(format!(
                "{}; received {received:?}, ACKed {acked:?}",
                ended.join(", ")
            ))
        }
    }
}

/// Each analyzer that lives has counted at least what the distributor has as ACKed by it since it started.
fn analyzers_agree(analyzers: &[Ended], certificate: &Value) -> Check {
    let rows = rows(certificate);
    let (mut counted, mut twice) = (0, 0);
    for analyzer in analyzers {
        let number = |key| {
            analyzer
                .number(key)
                .ok_or_else(|| format!("no {key}: {analyzer}"))
        };
        let (messages, duplicates) = (number("messages")?, number("duplicates")?);
        counted += messages;
        twice += duplicates;
        let row = rows.iter().find(|row| row["analyzer"] == analyzer.name);
        let acked = row.and_then(|row| row["acked"].as_u64()).unwrap_or(0);
        // The one that was killed has forgotten what it got before.
        if analyzer.name != ANALYZERS[KILLED].0 && messages < acked {
            return Err(format!(
                "{} counted {}, the distributor has {} as ACKed by it",
                analyzer.name,
                grouped(messages),
                grouped(acked)
            ));
        }
    }
    Ok(format!(
        "analyzers counted {} themselves, {} of them twice; {} forgot with its death what it had",
        grouped(counted),
        grouped(twice),
        ANALYZERS[KILLED].0
    ))
}

/// Each got what was due to it, within the bound.
fn shares(certificate: &Value) -> Check {
    let mut worst: (f64, f64) = (0.0, 0.0);
    for row in rows(certificate) {
        let (Some(error), Some(bound)) = (row["error"].as_f64(), row["bound"].as_f64()) else {
            return Err(format!("shares: no account of {}", row["analyzer"]));
        };
        if error.abs() > bound {
            return Err(format!(
                "shares: {} off by {error:+.2} messages, bound {bound:.2}",
                row["analyzer"]
            ));
        }
        if error.abs() >= worst.0 {
            worst = (error.abs(), bound);
        }
    }
    Ok(format!(
        "shares exact within {:.2} messages (bound {:.2})",
        worst.0, worst.1
    ))
}
