//! Syslog over UDP from logger(1) and Python: a message in each datagram.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::syslog::{assert_numbered, numbered, rsyslog_by, Site};
use weir_testkit::peers::program;
use weir_testkit::process::run_command;

fn site() -> Site {
    Site::start("&transport=udp")
}

#[test]
fn logger_sends_datagrams() {
    if program("logger").is_none() {
        return;
    }
    for (flag, begins) in [("--rfc5424", "<11>1 "), ("--rfc3164", "<11>")] {
        let site = site();
        let mut command = Command::new("logger");
        command.args(["--server", "127.0.0.1", "--udp", "--port", &site.port()]);
        command.args(["-p", "user.err", "-t", "app", flag]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("logger");
        let mut stdin = child.stdin.take().expect("piped");
        for number in 0..50 {
            writeln!(stdin, "{}", numbered(number)).expect("it reads");
        }
        drop(stdin);
        assert!(child.wait().expect("it ends").success());
        assert_numbered(&site.messages(50), 1, begins);
    }
}

#[test]
fn rsyslog_sends_datagrams_and_compressed_ones() {
    // Above some 60 bytes rsyslog compresses.
    let lines: Vec<String> = (0..50)
        .map(|number| match number % 2 {
            0 => numbered(number),
            _ => format!("{}{}", "compress me ".repeat(20), numbered(number)),
        })
        .collect();
    for action in ["", r#"ZipLevel="9""#] {
        let site = site();
        if rsyslog_by(&site, "udp", action, &lines).is_none() {
            return;
        }
        assert_numbered(&site.messages(50), 2, "<12>");
    }
}

const PYTHON: &str = r#"
import logging, logging.handlers, sys
handler = logging.handlers.SysLogHandler(("127.0.0.1", int(sys.argv[1])))
log = logging.getLogger()
log.addHandler(handler)
for number in range(50):
    log.error("first line\nmessage %04d", number)
handler.close()
"#;

#[test]
fn a_text_with_several_lines_from_python_is_one_message() {
    let site = site();
    let Some(mut python) = program("python3") else {
        return;
    };
    let output = run_command(python.args(["-c", PYTHON, &site.port()]));
    assert!(output.status.success(), "{output:?}");
    assert_numbered(&site.messages(50), 1, "<11>first line\n");
}
