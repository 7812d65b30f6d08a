//! A chain with nothing of ours at either end: rsyslog's omrelp, Weir, rsyslog's imrelp. Whoever is killed, what was acked
//! to the sender is in the record of a receiver.
//!
//! Limits that are rsyslog's own: imrelp answers when a message is in its main queue, which by default is memory. Killed
//! by SIGKILL it would lose what it has answered, so its queue is `Direct` here: the file has a message before the answer
//! leaves. What omrelp had in memory and nobody had acked to it is gone with it, and is not asked for. omrelp keeps no
//! record of what was acked to it, so a relay in front of Weir does: the answers that Weir gave, on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_testkit::inputs::{marked, relp};
use weir_testkit::peers::program;
use weir_testkit::{until, Distributor, Port, Scratch};

use super::programs::{kills, modules, Receiver};

/// Acked between two kills.
const PROGRESS: usize = 300;

fn imrelp(folder: &Scratch, address: SocketAddr, record: &str) -> Option<Receiver> {
    let path = folder.path(record);
    let config = format!(
        "module(load=\"imrelp\")\n\
         main_queue(queue.type=\"Direct\")\n\
         template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
         ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{}\" template=\"raw\") }}\n\
         input(type=\"imrelp\" port=\"{}\" ruleset=\"all\")\n",
        path.display(),
        address.port()
    );
    start(folder, &config, record, address, path)
}

/// Takes lines at `address` and hands them on to `relp`.
fn omrelp(folder: &Scratch, address: SocketAddr, relp: SocketAddr, name: &str) -> Option<Receiver> {
    let config = format!(
        "global(workDirectory=\"{}\")\nmodule(load=\"imptcp\")\nmodule(load=\"omrelp\")\n\
         input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{}\")\n\
         action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{}\" timeout=\"60\" action.resumeInterval=\"1\" action.resumeRetryCount=\"-1\")\n",
        folder.folder().display(),
        address.port(),
        relp.port()
    );
    start(folder, &config, name, address, folder.path(name))
}

fn start(
    folder: &Scratch,
    config: &str,
    name: &str,
    address: SocketAddr,
    record: std::path::PathBuf,
) -> Option<Receiver> {
    let mut command = program("rsyslogd")?;
    let config = folder.write(&format!("{name}.conf"), config);
    command.args(["-n", "-C", "-i", "NONE", "-f"]).arg(config);
    modules(&mut command);
    Some(Receiver::start(command, address, record))
}

/// Stands between a sender and Weir, and writes down which messages were acked before it hands an answer on.
struct Relay {
    address: SocketAddr,
    acked: Arc<Mutex<BTreeSet<u64>>>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (acked, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let relay = Relay {
            address,
            acked: Arc::clone(&acked),
            stop: Arc::clone(&stop),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // Nobody listens there: the connection ends.
                if let Ok(server) = TcpStream::connect(to) {
                    pass(client, server, &acked);
                }
            }
        });
        relay
    }

    fn acked(&self) -> usize {
        self.acked.lock().expect("no panic").len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes bytes both ways until one side ends.
fn pass(client: TcpStream, server: TcpStream, acked: &Arc<Mutex<BTreeSet<u64>>>) {
    let sent: Arc<Mutex<BTreeMap<u32, u64>>> = Arc::default();
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (from, to, of_sent) = (copy(&client), copy(&server), Arc::clone(&sent));
    std::thread::spawn(move || {
        frames(from, to, |said| {
            if let Some(mark) = marked::find(said.data.as_bytes()) {
                of_sent.lock().expect("no panic").insert(said.txnr, mark);
            }
        });
    });
    let acked = Arc::clone(acked);
    std::thread::spawn(move || {
        frames(server, client, |said| {
            let mark = sent.lock().expect("no panic").remove(&said.txnr);
            if said.command == "rsp" && said.data.starts_with("200") {
                acked.lock().expect("no panic").extend(mark);
            }
        });
    });
}

/// Passes on what was read, after `see` has seen the frames that it ends.
fn frames(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&relp::Said<'_>)) {
    let (mut chunk, mut held) = (vec![0; 64 << 10], Vec::new());
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        held.extend_from_slice(&chunk[..read]);
        while let Some(said) = relp::read(&held).expect("RELP") {
            see(&said);
            let used = said.used;
            held.drain(..used);
        }
        if to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Writes numbered lines to the sender for as long as it lives, and connects again when it was killed.
struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    made: Arc<AtomicU64>,
}

impl Feed {
    fn start(to: SocketAddr) -> Feed {
        let (stop, made) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (of_thread, number) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            let mut stream = None;
            while !of_thread.load(Ordering::Relaxed) {
                let Some(open) = &mut stream else {
                    stream = TcpStream::connect(to).ok();
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                let mut lines = Vec::new();
                for _ in 0..64 {
                    let text = marked::text(number.fetch_add(1, Ordering::Relaxed), 100);
                    lines.extend(format!("<13>Nov 29 10:00:00 host app: {text}\n").bytes());
                }
                if open.write_all(&lines).is_err() {
                    stream = None;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Feed {
            stop,
            thread: Some(thread),
            made,
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Few messages are on their way at a time: most that were not acked yet are in Weir, and gone with it.
fn distributor(relp: SocketAddr, receivers: [SocketAddr; 2]) -> Distributor {
    let [a, b] = receivers;
    Distributor::start(&format!(
        "--shards 1 --health-interval 100ms --slow-start 0s --ack-presume 60s --input relp@{relp}?name=relp \
         --analyzer a=1@relp://{a}?window=4 --analyzer b=1@relp://{b}?window=4"
    ))
}

#[test]
fn what_was_acked_to_omrelp_is_with_imrelp_whoever_is_killed() {
    let kills = kills();
    let folder = Scratch::new("outlets-rsyslog");
    let ports = [Port::hold(), Port::hold(), Port::hold()];
    let [a, b, lines] = [0, 1, 2].map(|at: usize| ports[at].address());
    let receive =
        |at: usize, number: u32| imrelp(&folder, [a, b][at], &format!("in-{at}-{number}"));
    let (Some(first), Some(second)) = (receive(0, 0), receive(1, 0)) else {
        return;
    };
    let mut receivers = [first, second];
    let mut distributor_now = distributor(([127, 0, 0, 1], 0).into(), [a, b]);
    let relp = distributor_now.input("relp");
    distributor_now.wait_lanes(2);
    let relay = Relay::start(relp);
    let send = |number: u32| omrelp(&folder, lines, relay.address, &format!("out-{number}"));
    let mut sender = send(0).expect("as before");
    let feed = Feed::start(lines);
    let mut there = BTreeSet::new();
    let progress = || {
        let before = relay.acked();
        until("messages are acked", || relay.acked() >= before + PROGRESS);
    };
    for kill in 0..kills {
        progress();
        match kill % 3 {
            0 => {
                let at = kill as usize / 3 % 2;
                receivers[at].kill();
                there.extend(receivers[at].numbers());
                receivers[at] = receive(at, kill + 1).expect("as before");
            }
            1 => {
                distributor_now.signal("-KILL");
                distributor_now.wait();
                distributor_now = distributor(relp, [a, b]);
            }
            _ => {
                sender.kill();
                sender = send(kill + 1).expect("as before");
            }
        }
        distributor_now.wait_lanes(2);
    }
    progress();
    let made = feed.made.load(Ordering::Relaxed);
    drop(feed);
    sender.kill();
    distributor_now.stop();
    for receiver in &mut receivers {
        receiver.kill();
        there.extend(receiver.numbers());
    }
    let acked = relay.acked.lock().expect("no panic").clone();
    let missing: Vec<_> = acked.difference(&there).collect();
    eprintln!(
        "{kills} kills: {made} made, {} acked to omrelp, {} with imrelp",
        acked.len(),
        there.len()
    );
    assert!(
        missing.is_empty(),
        "{} acked, and at no receiver: {missing:?}",
        missing.len()
    );
}
