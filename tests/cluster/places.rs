//! Addresses that replicas share a name and ports on, and programs that log.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_testkit::process::{signal, weir};
use weir_testkit::{until, Distributor};

/// Ports that are free on 127.0.0.2 to 127.0.0.5: for emitters and for analyzers.
pub fn ports() -> (u16, u16) {
    let free = |port: u16| {
        (2..=5)
            .all(|last| TcpListener::bind((std::net::Ipv4Addr::new(127, 0, 0, last), port)).is_ok())
    };
    let mut found = Vec::new();
    for _ in 0..1_000 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        if free(port) && !found.contains(&port) {
            found.push(port);
        }
        if let [emitters, analyzers] = found[..] {
            return (emitters, analyzers);
        }
    }
    panic!("no port is free on four addresses");
}

/// Two shards on 127.0.0.`last`.
pub fn replica(last: u8, (emitters, analyzers): (u16, u16), flags: &str) -> Distributor {
    Distributor::start(&format!(
        "--shards 2 --emitters 127.0.0.{last}:{emitters} --analyzers 127.0.0.{last}:{analyzers} {flags}"
    ))
}

/// How long this machine keeps even a thread waiting that does nothing: no program can be blamed for that time.
pub struct Late {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Late {
    /// From now on.
    pub fn start() -> Late {
        const PAUSE: Duration = Duration::from_millis(10);
        let is_over = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !of_thread.load(Ordering::Acquire) {
                let asleep = Instant::now();
                std::thread::sleep(PAUSE);
                late += asleep.elapsed().saturating_sub(2 * PAUSE);
            }
            late
        });
        Late { is_over, thread }
    }

    /// Until now.
    pub fn stop(self) -> Duration {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().expect("it only sleeps")
    }
}

/// A client whose log is looked at; killed when dropped.
pub struct Client {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    stdout: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Client {
    /// `weir` with these arguments, under `runner` if there is one.
    pub fn start(runner: &[String], line: &str) -> Client {
        let mut command = match runner {
            [] => Command::new(weir()),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(weir());
                command
            }
        };
        command
            .args(line.split_whitespace())
            .env("RUST_LOG", "info");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let (log, stdout) = (Arc::default(), Arc::default());
        let (lines, text) = (Arc::clone(&log), Arc::clone(&stdout));
        let err = BufReader::new(child.stderr.take().expect("piped"));
        let mut out = child.stdout.take().expect("piped");
        let readers = vec![
            std::thread::spawn(move || {
                let lines: &Mutex<Vec<String>> = &lines;
                for line in err.lines().map_while(Result::ok) {
                    lines.lock().expect("not poisoned").push(line);
                }
            }),
            std::thread::spawn(move || {
                let mut all = String::new();
                std::io::Read::read_to_string(&mut out, &mut all).expect("reads");
                let text: &Mutex<String> = &text;
                *text.lock().expect("not poisoned") = all;
            }),
        ];
        Client {
            child,
            log,
            stdout,
            readers,
        }
    }

    /// Log lines so far that contain `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().expect("not poisoned");
        log.iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// A signal, to this process only.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Its end, and what it printed.
    pub fn wait(mut self) -> (Option<i32>, String) {
        until("a client's end", || {
            self.child.try_wait().expect("a child").is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("reads");
        }
        let status = self.child.wait().expect("a child");
        let text = self.stdout.lock().expect("not poisoned").clone();
        (status.code(), text)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("client: {:#?}", self.lines(""));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
