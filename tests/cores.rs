//! What a shard does with its core.
//!
//! `--accept local`: a connection belongs to the shard on the core where its packets come in. On loopback that
//! is the core of whoever connects. `--busy-poll`: what the kernel says of the shard's ring.

use std::fs;
use std::net::SocketAddr;

use core_affinity::CoreId;
use weir_testkit::process::run;
use weir_testkit::{until_read, Analyzer, Dialect, Distributor, Emitter, Options, Scratch};

const CONNECTIONS: u64 = 40;

/// Emitters on `core`, one message each. Threads inherit the core.
fn emit_on(core: usize, addr: SocketAddr) {
    let emitters = std::thread::spawn(move || {
        assert!(core_affinity::set_for_current(CoreId { id: core }));
        for id in 0..CONNECTIONS {
            Emitter::start(addr, id..id + 1, 16).join();
        }
    });
    emitters.join().expect("emitters");
}

/// Messages that each of two shards took, of 40 connections made on the first core and then of 40 on the second.
fn received_by(cores: [usize; 2], accept: &str) -> [[u64; 2]; 2] {
    cores.map(|core| {
        let scratch = Scratch::new("accept");
        let run_report = scratch.path("distributor.json");
        let flags = format!(
            "--cores {},{} --accept {accept} --report {}",
            cores[0],
            cores[1],
            run_report.display()
        );
        let distributor = Distributor::start(&flags);
        let options = Options::new(Dialect::Typed, 1.0);
        let analyzer = Analyzer::connect(distributor.analyzers, &options);
        distributor.wait_lanes(1);
        emit_on(core, distributor.emitters);
        until_read(&[&analyzer], CONNECTIONS as usize);
        distributor.stop().assert_clean();
        let text = fs::read_to_string(&run_report).expect("a run report");
        let run_report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        [0, 1].map(|shard| {
            run_report["ledger"]["shards"][shard]["books"]["received"]
                .as_u64()
                .expect("a number")
        })
    })
}

/// Major and minor number.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn connections_stay_on_the_core_where_they_come_in() {
    if kernel() < (6, 2) {
        println!("SKIPPED: SO_INCOMING_CPU chooses among listeners since Linux 6.2");
        return;
    }
    let cores: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    let [first, second, ..] = cores[..] else {
        println!("SKIPPED: one core, connections cannot come in on another");
        return;
    };
    let local = received_by([first, second], "local");
    assert_eq!(local, [[CONNECTIONS, 0], [0, CONNECTIONS]]);
    // Otherwise the kernel spreads them: all 40 on one shard by chance once in 2^39.
    for received in received_by([first, second], "spread") {
        assert!(received.iter().all(|count| *count > 0), "{received:?}");
    }
}

#[test]
fn shards_without_a_core_are_told_to_have_one() {
    let output = run(&["distributor", "--shards", "1023", "--accept", "local"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(
            "--accept local: 1023 shards are not pinned, each must have a core of its own"
        ),
        "{said}"
    );
}

#[test]
fn the_kernel_polls_for_a_shard_that_asks() {
    if kernel() < (6, 10) {
        println!("SKIPPED: the kernel tells whether a ring polls since Linux 6.10");
        return;
    }
    // The shard has more rings, which wait for nothing: one polls, for as long as was said.
    let polling = |flags: &str| {
        let distributor = Distributor::start(&format!("--shards 1 {flags}"));
        let folder = format!("/proc/{}/fdinfo", distributor.pid());
        let files = fs::read_dir(folder).expect("a running process");
        let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
        let lines: Vec<String> = texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.starts_with("napi_busy_poll_dt:"))
            .collect();
        distributor.stop().assert_clean();
        lines
    };
    assert_eq!(polling("--busy-poll 50us"), ["napi_busy_poll_dt:\t50000"]);
    assert!(polling("").is_empty(), "it costs CPU: only who asks");
}
