//! Hundreds of health checks, most of them of peers that say nothing, and operators that read nothing: they cost no
//! threads, and hold up nobody.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_testkit::site::Site;
use weir_testkit::until;

const ANALYZERS: usize = 200;
const SHARDS: usize = 2;
/// Beside the shards: main, law, signals, reload, stderr, control, orders, and one for a name that is looked up.
const OTHER_THREADS: usize = 8;
/// Of the admin listener, for streams.
const STREAMS: usize = 8;

/// Listens, and never answers; how many have asked.
fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            held.push(socket.expect("accepted"));
            // Those of checks that gave up.
            if held.len() > 2 * ANALYZERS {
                held.drain(..ANALYZERS);
            }
        }
    });
    (address.to_string(), asked)
}

/// Is well.
fn well() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("accepted");
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address.to_string()
}

fn threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("runs");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?));
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn silent_peers_cost_no_threads_and_hold_up_nobody() {
    let (mute, asked) = silent();
    let mut flags = format!(
        "--shards {SHARDS} --http-pool 1 --health-interval 200ms --health-timeout 30s \
         --http-analyzer well=1@http://{}",
        well()
    );
    for n in 1..ANALYZERS {
        flags += &format!(" --http-analyzer mute{n}=1@http://{mute}/{n}");
    }
    let site = Site::start("crowd", "", &flags);
    until("all are asked", || {
        asked.load(Ordering::Relaxed) >= ANALYZERS - 1
    });
    site.until_standing("well", "up");

    // Operators that take event streams and read nothing, and one whose request does not end.
    let socket = site.scratch.path("admin.sock");
    let stuck: Vec<UnixStream> = (0..=STREAMS)
        .map(|n| {
            let mut stream = UnixStream::connect(&socket).expect("connected");
            let request: &[u8] = match n {
                STREAMS => b"GET /stats HTT",
                _ => b"GET /events HTTP/1.1\r\nHost: weir\r\n\r\n",
            };
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();

    let names = threads(site.distributor.pid());
    assert!(names.len() <= SHARDS + OTHER_THREADS, "{names:?}");
    let began = Instant::now();
    for _ in 0..50 {
        assert!(site.text("/metrics").starts_with(b"# "));
    }
    let took = began.elapsed();
    println!("{} threads; 50 scrapes in {took:?}", names.len());
    assert!(took < Duration::from_secs(20), "{took:?}");

    // An order, and the one that is well is still asked.
    let weight = |weight: &str| site.weir(&format!("ctl weight well {weight}"));
    weight("0.5");
    let last = site.analyzer("well")["lastHealthCheck"].as_u64();
    until("asked again", || {
        site.analyzer("well")["lastHealthCheck"].as_u64() > last
    });
    drop(stuck);
    let ended = site.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}
