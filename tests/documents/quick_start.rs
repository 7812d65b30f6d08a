//! The quick start of the README, run as a reader would: all its command blocks, one after the other, in one
//! shell. Only ports differ, because those of the README may be taken here.
//!
//! ```text
//! cargo ...       checked against what the README may say, and not run: what it builds is there
//! weir            the program under test, on the path as the README puts it there
//! command &       must end by itself or by the block's own `kill`, with exit status 0
//! ```

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::read;
use weir_testkit::process::weir;
use weir_testkit::Scratch;

/// Another program may take a port between our look at it and its use.
const TRIES: usize = 3;

/// How long the whole of it may take; without other work beside it, twelve seconds.
const LONGEST: Duration = Duration::from_secs(240);

/// What stands before the first block. `wait` is bash's, but looks at each exit status.
const BEFORE: &str = r#"
set -euo pipefail
children=() lines=()
cargo() {
    case "$*" in
    "build --release --workspace") ;;
    *) echo "cargo $*: not among the commands of this test"; return 1 ;;
    esac
}
started() { children+=("$!") lines+=("$1"); }
judge() {
    local i status=0
    for i in "${!children[@]}"; do
        [[ ${children[i]} == "$1" ]] || continue
        builtin wait "$1" || status=$?
        unset "children[i]"
        ((status == 0)) || { echo "exit status $status of: ${lines[i]}"; exit 1; }
    done
}
wait() {
    local child
    if (($#)); then
        for child in $(jobs -p "$1"); do judge "$child"; done
    else
        for child in "${children[@]}"; do judge "$child"; done
    fi
}
finish() {
    local i
    for i in "${!children[@]}"; do
        kill -KILL "${children[i]}" 2>/dev/null || true
    done
}
trap finish EXIT
"#;

/// What stands after each block.
const AFTER: &str = r#"
((${#children[@]} == 0)) || { echo "the block does not end: ${lines[*]}"; exit 1; }
lines=()
"#;

#[test]
fn every_command_of_the_quick_start_works() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not on this host");
        return;
    }
    let blocks = quick_start(&read("README.md"));
    assert!(blocks.len() >= 4, "{blocks:#?}");
    let output = run(&blocks).unwrap_or_else(|output| panic!("{output}"));
    for part in [
        "conservation holds: received 5000 = acked 5000 ",
        "\"status\":\"acked\"",
        "weight 2",
        "balanced",
    ] {
        assert!(output.contains(part), "{part} is not in\n{output}");
    }
}

#[test]
fn a_command_that_fails_is_found() {
    let works = "weir emitter --help >/dev/null &\nwait";
    for (wrong, says) in [
        ("weir emitter --no-such-flag", "--no-such-flag"),
        (
            "weir distributor --no-such-flag &\nwait",
            "exit status 2 of: weir distributor",
        ),
        ("weir distributor &", "the block does not end"),
        ("weir nonsense | cat", "nonsense"),
        ("cargo build --relaese", "not among the commands"),
    ] {
        let blocks = [works.to_owned(), wrong.to_owned()];
        let output = run(&blocks).expect_err(wrong);
        assert!(output.contains(says), "{says} is not in\n{output}");
    }
}

/// The blocks of shell commands between this heading and the next one.
fn quick_start(readme: &str) -> Vec<String> {
    let (_, section) = readme.split_once("\n## Quick start\n").expect("a section");
    let section = section.split("\n## ").next().expect("one part");
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("one part").to_owned())
        .collect()
}

/// Runs the blocks in one shell. `Ok` and `Err` hold all that was printed.
fn run(blocks: &[String]) -> Result<String, String> {
    for _ in 1..TRIES {
        match run_once(blocks) {
            Err(output) if output.contains("Address already in use") => println!("{output}"),
            result => return result,
        }
    }
    run_once(blocks)
}

fn run_once(blocks: &[String]) -> Result<String, String> {
    let scratch = Scratch::new(&format!("quick-start-{:?}", std::thread::current().id()));
    let release = scratch.path("target/release");
    std::fs::create_dir_all(&release).expect("a directory");
    let program = release.join("weir");
    std::fs::remove_file(&program).ok();
    std::os::unix::fs::symlink(weir(), &program).expect("a link");

    let mut ports = Ports::default();
    let mut script = BEFORE.to_owned();
    for block in blocks {
        script.push_str(&with_children_noted(&ports.replaced(block)));
        script.push_str(AFTER);
    }
    let script = scratch.write("quick-start.sh", &script);
    let output = scratch.path("output");
    let file = std::fs::File::create(&output).expect("a file");

    let mut command = Command::new("bash");
    command.arg(script).current_dir(scratch.folder());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", release.display()));
    for (name, port) in [
        ("WEIR_EMITTERS", 8080),
        ("WEIR_EMITTER_ADDR", 8080),
        ("WEIR_ANALYZERS", 8081),
        ("WEIR_ANALYZER_ADDR", 8081),
        ("WEIR_HTTP", 3000),
    ] {
        command.env(name, format!("127.0.0.1:{}", ports.of(port)));
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
        .stdout(file.try_clone().expect("one more"))
        .stderr(file);
    ports.release();
    let mut shell = command.process_group(0).spawn().expect("bash");
    let deadline = Instant::now() + LONGEST;
    let status = loop {
        let status = shell.try_wait().expect("a child");
        if status.is_some() || Instant::now() > deadline {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = || std::fs::read_to_string(&output).unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(text()),
        Some(_) => Err(text()),
        None => {
            // The whole group, which is the shell's own.
            let group = format!("-{}", shell.id());
            let kill = Command::new("kill").args(["-KILL", "--", &group]).status();
            assert!(kill.expect("kill").success());
            shell.wait().expect("a child");
            Err(format!("it does not end:\n{}", text()))
        }
    }
}

/// Commands that go on in the background are remembered with their lines.
fn with_children_noted(block: &str) -> String {
    let mut noted = String::new();
    for line in block.lines() {
        noted.push_str(line);
        let command = line.split(" #").next().expect("one part").trim_end();
        if command.ends_with('&') {
            noted.push_str(&format!("\nstarted '{}'", command.replace('\'', "")));
        }
        noted.push('\n');
    }
    noted
}

/// A free port for each one that the README names.
#[derive(Default)]
struct Ports {
    numbers: BTreeMap<u16, u16>,
    /// Kept until all are chosen, so that no two are the same.
    held: Vec<TcpListener>,
}

impl Ports {
    fn of(&mut self, named: u16) -> u16 {
        *self.numbers.entry(named).or_insert_with(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            self.held.push(listener);
            port
        })
    }

    fn replaced(&mut self, block: &str) -> String {
        let mut text = block.to_owned();
        for host in ["localhost:", "127.0.0.1:"] {
            let mut parts = text.split(host);
            let mut replaced = parts.next().expect("one part").to_owned();
            for part in parts {
                let end = part.find(|c: char| !c.is_ascii_digit());
                let (port, rest) = part.split_at(end.unwrap_or(part.len()));
                let port = self.of(port.parse().expect("a port"));
                replaced.push_str(&format!("{host}{port}{rest}"));
            }
            text = replaced;
        }
        text
    }

    fn release(&mut self) {
        self.held.clear();
    }
}
