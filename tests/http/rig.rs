//! A distributor inside the test, HTTP analyzers as child processes, and a plain HTTP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir::cli::{self, Program};
use weir::runtime::Distributor;
use weir::shard::{HttpTarget, Operator, ShardReport};

use crate::common::{until, PATIENCE};

/// A distributor on free ports of loopback.
pub struct Rig {
    pub operator: Operator,
    pub http: SocketAddr,
    pub analyzers: SocketAddr,
    pub emitters: SocketAddr,
    distributor: Option<Distributor>,
}

impl Rig {
    /// With `flags`, separated by white space.
    pub fn start(flags: &str) -> Rig {
        let arena = if flags.contains("--arena") {
            ""
        } else {
            "--arena 16MiB"
        };
        let line = format!(
            "weir distributor --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 {arena} {flags}"
        );
        let parsed = cli::parse(line.split_whitespace().map(Into::into)).expect("flags");
        let Program::Distributor(args) = parsed.program else {
            panic!("{line}");
        };
        let config = args.config().expect("settings");
        let distributor = Distributor::start(config).expect("it starts");
        Rig {
            operator: distributor.operator(),
            http: distributor.http.expect("it listens"),
            analyzers: distributor.analyzers,
            emitters: distributor.emitters,
            distributor: Some(distributor),
        }
    }

    /// Makes an analyzer known to all shards; its generation.
    pub fn up(&self, analyzer: &HttpAnalyzer, weight: f64) -> u64 {
        let target = HttpTarget {
            name: analyzer.name.as_str().into(),
            address: analyzer.address,
            host: analyzer.address.to_string(),
            path: String::new(),
        };
        let generation = self.operator.http_up(target, weight).expect("an order");
        let name = analyzer.name.as_str();
        until("all shards know it", || {
            let known = |report: &ShardReport| {
                report
                    .roster
                    .entries
                    .iter()
                    .any(|entry| &*entry.name == name)
            };
            self.operator.reports().iter().all(known)
        });
        generation
    }

    /// Sum over all shards.
    pub fn sum(&self, count: impl Fn(&ShardReport) -> u64) -> u64 {
        self.operator.reports().iter().map(count).sum()
    }

    /// How often this was refused, over all shards.
    pub fn refused(&self, reason: &str) -> u64 {
        self.sum(|report| report.http.refused.get(reason).copied().unwrap_or(0))
    }

    /// Waits until it was refused so often; reports are a tenth of a second old.
    pub fn until_refused(&self, reason: &str, count: u64) {
        let what = || format!("{reason}: {} of {count}", self.refused(reason));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while self.refused(reason) != count {
            assert!(std::time::Instant::now() < deadline, "{}", what());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no HTTP client is connected, and nothing is held for one.
    pub fn until_quiet(&self) {
        until("no client is connected", || {
            self.sum(|report| report.http.connections as u64) == 0
        });
        until("nothing is held", || {
            self.sum(|report| report.http.held_bytes) == 0
        });
    }

    /// Asks for the drain, and goes on.
    pub fn drain(&self) {
        let distributor = self.distributor.as_ref().expect("runs");
        distributor.stopper().drain(PATIENCE);
    }

    /// Drains, and checks that nothing is left and the books balance.
    pub fn stop(mut self) -> Vec<ShardReport> {
        let distributor = self.distributor.take().expect("runs");
        let asked = Instant::now();
        distributor.stopper().drain(PATIENCE);
        let reports = distributor.join().expect("no shard fails");
        assert!(asked.elapsed() < PATIENCE, "it waited for nothing");
        for report in &reports {
            assert!(report.balance.holds(), "{}", report.balance);
            assert_eq!(report.balance.open(), 0, "{}", report.balance);
        }
        reports
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(distributor) = self.distributor.take() {
            distributor.stopper().stop_now();
            let _ = distributor.join();
        }
    }
}

/// An analyzer program.
pub struct HttpAnalyzer {
    pub name: String,
    pub address: SocketAddr,
    child: Child,
    file: PathBuf,
}

/// A packet that it ACKed.
#[derive(Debug)]
pub struct Received {
    pub packet_id: String,
    pub emitter: String,
    pub content_type: String,
    pub messages: Vec<String>,
}

impl HttpAnalyzer {
    pub fn start(name: &str, mode: &str) -> HttpAnalyzer {
        let unique = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("a clock");
        let file = format!(
            "weir-http-{name}-{}-{}",
            std::process::id(),
            unique.as_nanos()
        );
        HttpAnalyzer::start_on(name, mode, 0, std::env::temp_dir().join(file))
    }

    fn start_on(name: &str, mode: &str, port: u16, file: PathBuf) -> HttpAnalyzer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/analyzer.py");
        let mut child = Command::new("python3")
            .args([script, &port.to_string()])
            .arg(&file)
            .arg(mode)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a port");
        let port: u16 = line.trim().parse().expect("a port");
        HttpAnalyzer {
            name: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            file,
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    /// Starts it again on the same port, after [`HttpAnalyzer::kill`].
    pub fn restart(&mut self, mode: &str) {
        let file = std::mem::take(&mut self.file);
        let (name, port) = (self.name.clone(), self.address.port());
        *self = HttpAnalyzer::start_on(&name, mode, port, file);
    }

    /// The packets that it ACKed so far.
    pub fn received(&self) -> Vec<Received> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let packet = |line: &str| {
            let mut words = line.splitn(5, ' ').map(str::to_owned);
            let mut word = || words.next().expect("five words");
            let (packet, emitter, content_type) = (word(), word(), word());
            let count: usize = word().parse().expect("a number");
            let messages: Vec<String> = word().split('\u{1f}').map(str::to_owned).collect();
            assert_eq!(messages.len(), count, "{line}");
            Received {
                packet_id: packet,
                emitter,
                content_type,
                messages,
            }
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(packet).collect()
    }

    pub fn messages(&self) -> Vec<String> {
        let received = self.received().into_iter();
        received.flat_map(|packet| packet.messages).collect()
    }
}

impl Drop for HttpAnalyzer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// One connection of a client.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn post(&mut self, target: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(
            format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
                .as_bytes(),
        );
        self.answer()
    }

    pub fn post_packet(&mut self, body: &str) -> Answer {
        self.post("/logs", "Content-Type: application/json\r\n", body)
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer, to a HEAD: its head alone.
    pub fn head_answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            head,
            body: String::new(),
        }
    }

    /// The next answer; `None` when the connection ends before it.
    pub fn try_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // By a timer of the shards in this process.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let end = self
            .unread
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?
            + 4;
        let head = String::from_utf8(self.unread[..end].to_vec()).expect("text");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().expect("a number"))
        });
        let length: usize = length.unwrap_or(0);
        if self.unread.len() < end + length {
            return None;
        }
        let body = String::from_utf8(self.unread[end..end + length].to_vec()).expect("text");
        self.unread.drain(..end + length);
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Some(Answer {
            status: status.expect("a status"),
            head,
            body,
        })
    }

    pub fn set_timeout(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("an option");
    }

    /// An answer, if one is there within the time-out.
    pub fn answer_if_any(&mut self) -> Option<Answer> {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => None,
            Ok(len) => {
                self.unread.extend_from_slice(&bytes[..len]);
                Some(self.answer())
            }
        }
    }

    /// The same connection, to send on from another thread.
    pub fn try_clone(&self) -> Client {
        Client {
            stream: self.stream.try_clone().expect("a descriptor"),
            unread: Vec::new(),
        }
    }

    /// Half-closes: nothing more will be sent.
    pub fn finish(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("connected");
    }

    /// Whatever is sent now and does not fit stays unsent.
    pub fn set_write_timeout(&self, time: Duration) {
        self.stream
            .set_write_timeout(Some(time))
            .expect("an option");
    }

    /// Nothing comes any more: the peer has closed in order.
    pub fn assert_closed(&mut self) {
        let mut byte = [0];
        let read = loop {
            match self.stream.read(&mut byte).map_err(|error| error.kind()) {
                Err(std::io::ErrorKind::Interrupted) => {}
                read => break read,
            }
        };
        assert_eq!((self.unread.len(), read), (0, Ok(0)), "closed in order");
    }

    /// The peer has closed or reset.
    pub fn assert_gone(&mut self) {
        let mut bytes = [0; 65536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    return;
                }
            }
        }
    }
}

/// A packet with the numbers as messages.
pub fn packet(emitter: &str, numbers: impl IntoIterator<Item = u64>) -> String {
    let messages: Vec<String> = numbers
        .into_iter()
        .map(|number| format!("{{\"level\":\"info\",\"message\":\"{number}\"}}"))
        .collect();
    format!(
        "{{\"emitterId\":\"{emitter}\",\"messages\":[{}]}}",
        messages.join(",")
    )
}

/// A TCP analyzer of the compact dialect that ACKs what it reads, when it is told to.
pub struct FrameSink {
    frames: Arc<Mutex<Vec<(u8, String)>>>,
    acks: Arc<AtomicBool>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl FrameSink {
    pub fn connect(rig: &Rig, weight: f32) -> FrameSink {
        FrameSink::known_to(rig, || FrameSink::of(rig.analyzers, weight))
    }

    /// One that ACKs nothing before it is told to.
    pub fn silent(rig: &Rig, weight: f32) -> FrameSink {
        FrameSink::known_to(rig, || FrameSink::start(rig.analyzers, weight, false))
    }

    fn known_to(rig: &Rig, start: impl FnOnce() -> FrameSink) -> FrameSink {
        let known = |report: &ShardReport| {
            let entries = report.roster.entries.iter();
            let names = entries.map(|entry| entry.name.to_string());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let before = known(&rig.operator.reports()[0]);
        let sink = start();
        until("all shards know it", || {
            let reports = rig.operator.reports();
            reports
                .iter()
                .all(|report| !known(report).is_subset(&before))
        });
        sink
    }

    /// Of any distributor, which may not know it yet.
    pub fn of(analyzers: SocketAddr, weight: f32) -> FrameSink {
        FrameSink::start(analyzers, weight, true)
    }

    fn start(analyzers: SocketAddr, weight: f32, acks: bool) -> FrameSink {
        let mut stream = TcpStream::connect(analyzers).expect("a listener");
        stream.write_all(&weight.to_be_bytes()).expect("sent");
        let (frames, acks) = (Arc::default(), Arc::new(AtomicBool::new(acks)));
        let thread = {
            let (stream, frames, acks) = (
                stream.try_clone().expect("a clone"),
                Arc::clone(&frames),
                Arc::clone(&acks),
            );
            std::thread::spawn(move || read_frames(stream, &frames, &acks))
        };
        FrameSink {
            frames,
            acks,
            stream,
            thread: Some(thread),
        }
    }

    /// Severity and payload of what it has read.
    pub fn frames(&self) -> Vec<(u8, String)> {
        self.frames
            .lock()
            .expect("the reader found a fault")
            .clone()
    }

    /// Name in the distributor's tables of the one that came as number `nth` from this host, from 1.
    pub fn name(nth: usize) -> String {
        format!("127.0.0.1-{nth}")
    }

    /// The distributor has not closed it.
    pub fn is_open(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    pub fn set_acks(&self, acks: bool) {
        self.acks.store(acks, Ordering::Relaxed);
    }
}

impl Drop for FrameSink {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_frames(mut stream: TcpStream, frames: &Mutex<Vec<(u8, String)>>, acks: &AtomicBool) {
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .expect("an option");
    let (mut bytes, mut acked) = (Vec::new(), 0);
    loop {
        let mut some = [0; 65536];
        match stream.read(&mut some) {
            Ok(0) => return,
            Ok(len) => bytes.extend_from_slice(&some[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        let mut all = frames.lock().expect("no panic while held");
        while let Some(word) = bytes.first_chunk::<4>() {
            let len = u32::from_be_bytes(*word) as usize;
            if bytes.len() < len {
                break;
            }
            let payload = String::from_utf8(bytes[5..len].to_vec()).expect("UTF-8");
            all.push((bytes[4], payload));
            bytes.drain(..len);
        }
        let read = u32::try_from(all.len()).expect("few");
        drop(all);
        if acks.load(Ordering::Relaxed) && read > acked {
            acked = read;
            if stream
                .write_all(&(0x8000_0000 | read).to_be_bytes())
                .is_err()
            {
                return;
            }
        }
    }
}
