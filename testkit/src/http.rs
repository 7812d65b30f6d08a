//! The HTTP side: analyzers as Python programs in the shape of the reference, so that nothing of Weir's own is
//! on both ends, and a plain client.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::PATIENCE;

/// An analyzer program.
pub struct HttpAnalyzer {
    /// Its name in the distributor's tables.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    file: PathBuf,
}

/// A packet that it ACKed.
#[derive(Debug)]
pub struct Received {
    /// `X-Packet-ID`.
    pub packet_id: String,
    /// `X-Emitter-ID`.
    pub emitter: String,
    /// `Content-Type`.
    pub content_type: String,
    /// Their `message` fields.
    pub messages: Vec<String>,
}

impl HttpAnalyzer {
    /// One of the modes in `http_analyzer.py`, on a free port.
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
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/http_analyzer.py");
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

    /// The messages of all packets that it ACKed.
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
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, which is text.
    pub body: String,
}

impl Answer {
    /// The first whole one in `bytes`, and its length there. Without a length it has no body.
    pub fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = text(&bytes[..end]);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().expect("a number"))
        });
        let whole = end + length.unwrap_or(0);
        let body = text(bytes.get(end..whole)?);
        Some((Answer::of(head, body), whole))
    }

    fn of(head: String, body: String) -> Answer {
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            head,
            body,
        }
    }

    /// The body as JSON.
    #[cfg(feature = "json")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

impl Client {
    /// A connection; reads end after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    /// All of it.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// All of it, or the error of the socket.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A request of this body with more `headers`, each with its CR LF; the answer.
    pub fn post(&mut self, target: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(
            format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
                .as_bytes(),
        );
        self.answer()
    }

    /// A packet to `/logs`; the answer.
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
        Answer::of(text(&head), String::new())
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
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                // By a timer of the shards in this process.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let (answer, bytes) = Answer::parse(&self.unread)?;
        self.unread.drain(..bytes);
        Some(answer)
    }

    /// How long reads wait.
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
        self.stream.shutdown(Shutdown::Write).expect("connected");
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
                Err(ErrorKind::Interrupted) => {}
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
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
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
