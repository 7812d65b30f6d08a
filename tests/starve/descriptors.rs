//! Descriptors are divided: a crowd of emitters takes none that analyzers need.

use std::io::Write;
use std::net::TcpStream;

use weir_testkit::{socket, until, wire, Distributor};

const DESCRIPTORS: u32 = 1500;
/// 16 KiB buffers, six each: the arena serves 682.
const ANALYZERS: usize = 650;
const CROWD: usize = 1100;

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn analyzers_have_descriptors_that_a_crowd_of_emitters_cannot_take() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    if limit < (CROWD + ANALYZERS + 200) as u64 {
        return println!("SKIPPED: at most {limit} descriptors here");
    }
    let flags = "--shards 1 --batch-bytes 16KiB --arena 64MiB --zero-copy 0";
    let distributor = Distributor::start_limited(DESCRIPTORS, flags);
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| socket::connect(distributor.emitters))
        .collect();
    distributor.wait_log("emitter refused");
    let pid = distributor.pid();
    let places = descriptors_of(pid);
    assert!(places > 700, "emitters have the rest: {places} descriptors");
    let mut analyzers: Vec<TcpStream> = (0..ANALYZERS)
        .map(|n| {
            let mut stream = socket::connect(distributor.analyzers);
            let hello = wire::hello(1, 1.0, &format!("a{n}"), None);
            stream.write_all(&hello).expect("writes");
            stream
        })
        .collect();
    for stream in &mut analyzers {
        let (welcome, reason) = socket::read_welcome(stream);
        assert_eq!(welcome.status, 0, "{reason}");
    }
    assert!(distributor.lines("cannot accept").is_empty());
    drop((crowd, analyzers));
    until("their descriptors are free", || descriptors_of(pid) < 100);
}
