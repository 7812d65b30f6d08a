//! Syslog over TCP from logger(1), Python, rsyslog, loggen and HAProxy: every message comes once, with its text and its
//! severity, in the framing that each of them has.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use weir_testkit::peers::{program, unpacked};
use weir_testkit::process::run_command;
use weir_testkit::{until, Distributor, FrameSink, Program, Scratch};

/// A distributor with one input of syslog, and an analyzer that keeps what it gets.
pub struct Site {
    distributor: Distributor,
    sink: FrameSink,
    input: SocketAddr,
}

impl Site {
    /// `options` of the input begin with `&`, or are empty.
    pub fn start(options: &str) -> Site {
        let flags = format!("--shards 1 --input syslog@127.0.0.1:0?name=syslog{options}");
        let distributor = Distributor::start(&flags);
        let input = distributor.input("syslog");
        let sink = FrameSink::of(distributor.analyzers, 1.0);
        distributor.wait_lanes(1);
        Site {
            distributor,
            sink,
            input,
        }
    }

    pub fn port(&self) -> String {
        self.input.port().to_string()
    }

    /// Waits for so many messages, and that no more come; they are sorted.
    pub fn messages(self, count: usize) -> Vec<(u8, String)> {
        until("all messages", || self.sink.frames().len() >= count);
        let Site {
            distributor, sink, ..
        } = self;
        let balance = distributor.stop().assert_clean();
        let mut messages = sink.frames();
        messages.sort();
        assert_eq!(messages.len(), count, "{messages:#?}");
        assert_eq!(balance.received, count as u64);
        messages
    }
}

/// Text that tells its number.
pub fn numbered(number: usize) -> String {
    format!("message {number:04}")
}

/// Each number once, each with a text that begins and ends so.
pub fn assert_numbered(messages: &[(u8, String)], severity: u8, begins: &str) {
    let mut seen: Vec<&str> = Vec::new();
    for (said, text) in messages {
        assert_eq!(*said, severity, "{text}");
        assert!(text.starts_with(begins), "{text:?}");
        seen.push(text.rsplit("message ").next().unwrap_or_default());
    }
    seen.sort_unstable();
    let expected: Vec<String> = (0..messages.len()).map(|n| format!("{n:04}")).collect();
    assert_eq!(seen, expected);
}

fn logger(site: &Site, flags: &[&str]) {
    let mut command = Command::new("logger");
    command.args(["--server", "127.0.0.1", "--tcp", "--port", &site.port()]);
    command.args(["-p", "user.err", "-t", "app"]).args(flags);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("logger");
    let mut stdin = child.stdin.take().expect("piped");
    for number in 0..50 {
        writeln!(stdin, "{}", numbered(number)).expect("it reads");
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn logger_with_lf_and_with_counts() {
    if program("logger").is_none() {
        return;
    }
    for (flags, begins) in [
        (&["--rfc5424"][..], "<11>1 "),
        (&["--rfc3164"], "<11>"),
        (&["--rfc5424", "--octet-count"], "<11>1 "),
        (&["--rfc3164", "--octet-count"], "<11>"),
    ] {
        let site = Site::start("");
        logger(&site, flags);
        assert_numbered(&site.messages(50), 1, begins);
    }
}

const PYTHON: &str = r#"
import logging, logging.handlers, socket, sys
handler = logging.handlers.SysLogHandler(("127.0.0.1", int(sys.argv[1])), socktype=socket.SOCK_STREAM)
log = logging.getLogger()
log.addHandler(handler)
for number in range(50):
    log.error("first line\nmessage %04d", number)
handler.close()
"#;

#[test]
fn python_ends_messages_with_nul() {
    let log_to = |site: &Site| {
        let mut python = program("python3")?;
        let output = run_command(python.args(["-c", PYTHON, &site.port()]));
        assert!(output.status.success(), "{output:?}");
        Some(())
    };
    let site = Site::start("&framing=nul");
    if log_to(&site).is_none() {
        return;
    }
    let messages = site.messages(50);
    assert_numbered(&messages, 1, "<11>first line\n");

    // Told apart for each message, a line ends at LF as at NUL.
    let site = Site::start("");
    log_to(&site);
    let messages = site.messages(100);
    let (first, second) = messages.split_at(50);
    assert!(first
        .iter()
        .all(|message| *message == (1, "<11>first line".into())));
    assert_numbered(second, 3, "message ");
}

/// rsyslog reads from a socket of its own and forwards with these words.
fn rsyslog(site: &Site, action: &str, lines: &[String]) -> Option<()> {
    rsyslog_by(site, "tcp", action, lines)
}

/// The same over another transport.
pub fn rsyslog_by(site: &Site, protocol: &str, action: &str, lines: &[String]) -> Option<()> {
    let mut command = program("rsyslogd")?;
    let scratch = Scratch::new("rsyslog");
    let socket = scratch.path("log");
    let config = format!(
        r#"global(workDirectory="{folder}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on" RateLimit.Interval="0")
*.* action(type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}" {action})
"#,
        folder = scratch.folder().display(),
        socket = socket.display(),
        port = site.port(),
    );
    let config = scratch.write("rsyslog.conf", &config);
    let modules = unpacked().join(format!(
        "usr/lib/{}-linux-gnu/rsyslog",
        std::env::consts::ARCH
    ));
    if modules.is_dir() {
        command.arg("-M").arg(modules);
    }
    command.arg("-n").arg("-f").arg(config);
    command.arg("-i").arg(scratch.path("pid"));
    let rsyslog = Program::start_command(command, "rsyslogd");
    until("rsyslog's socket", || socket.exists());
    say(&socket, lines);
    until("all messages", || site.sink.frames().len() >= lines.len());
    drop(rsyslog);
    Some(())
}

/// Gives lines to the local syslog socket.
fn say(socket: &Path, lines: &[String]) {
    let mut logger = Command::new("logger");
    logger
        .arg("--socket")
        .arg(socket)
        .args(["-p", "user.warning", "-t", "app"]);
    let mut child = logger.stdin(Stdio::piped()).spawn().expect("logger");
    let mut stdin = child.stdin.take().expect("piped");
    for line in lines {
        writeln!(stdin, "{line}").expect("it reads");
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn rsyslog_with_lf_with_counts_and_compressed() {
    // Above some 60 bytes rsyslog compresses; others on the same connection stay lines.
    let lines: Vec<String> = (0..50)
        .map(|number| match number % 2 {
            0 => numbered(number),
            _ => format!("{}{}", "compress me ".repeat(20), numbered(number)),
        })
        .collect();
    for action in [
        r#"TCP_Framing="traditional""#,
        r#"TCP_Framing="octet-counted""#,
        r#"TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format""#,
        r#"ZipLevel="9""#,
    ] {
        let site = Site::start("");
        if rsyslog(&site, action, &lines).is_none() {
            return;
        }
        assert_numbered(&site.messages(50), 2, "<12>");
    }
}

#[test]
fn rsyslog_that_compresses_its_stream_is_told_what_is_understood() {
    let Some(()) = program("rsyslogd").map(drop) else {
        return;
    };
    let site = Site::start("");
    let mut stream = std::net::TcpStream::connect(site.input).expect("connects");
    stream.write_all(b"\x78\x01\x01\x02").expect("sent");
    let line = site.distributor.wait_log("zlib stream");
    assert!(line.contains("ZipLevel"), "{line}");
    assert_eq!(site.distributor.stop().count("stream_malformed"), 1);
}

#[test]
fn loggen_with_lf_and_with_counts() {
    for framed in [&[][..], &["-P"]] {
        let Some(mut loggen) = program("loggen") else {
            return;
        };
        let site = Site::start("");
        loggen.args([
            "--inet", "--stream", "--rate", "5000", "--size", "250", "--number", "500",
        ]);
        loggen.args(framed).args(["127.0.0.1", &site.port()]);
        run_command(&mut loggen);
        let messages = site.messages(500);
        assert!(messages
            .iter()
            .all(|(severity, text)| *severity == 3 && text.starts_with("<38>")));
        let number = |text: &str| text.split("seq: ").nth(1).map(|rest| rest[..10].to_owned());
        let numbers: Vec<_> = messages.iter().map(|(_, text)| number(text)).collect();
        let expected: Vec<_> = (0..500).map(|n| Some(format!("{n:010}"))).collect();
        let mut sorted = numbers;
        sorted.sort();
        assert_eq!(sorted, expected);
    }
}

#[test]
fn a_joined_message_waits_for_the_next_line_or_for_silence() {
    let site = Site::start("&continuation=join");
    let mut stream = std::net::TcpStream::connect(site.input).expect("connects");
    let trace = b"<11>Traceback\n  File \"a\"\n<11>next\n  of it\n";
    stream.write_all(trace).expect("sent");
    until("the last message, of an open connection", || {
        site.sink.frames().len() == 2
    });
    let expected = [
        (1, "<11>Traceback\n  File \"a\"".to_owned()),
        (1, "<11>next\n  of it".to_owned()),
    ];
    stream.write_all(b"<12>behind it").expect("sent");
    drop(stream);
    let messages = site.messages(3);
    assert_eq!(messages[..2], expected);
    assert_eq!(messages[2], (2, "<12>behind it".to_owned()));
}
