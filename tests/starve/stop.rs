//! A second SIGTERM ends at once, however many are connected.

use weir_testkit::{socket, until, Distributor};

const EMITTERS: usize = 9000;
/// Of which closing the sockets takes about half.
const CPU_MS_MAX: u64 = 500;

/// CPU time of a process, also of one that has ended and is not waited for, in ms; and whether it has ended.
fn cpu_ms(pid: u32) -> (u64, bool) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    // Ticks are 10 ms.
    (10 * (ticks(11) + ticks(12)), fields[0] == "Z")
}

/// Cancelling all at once walks the kernel's whole table again for each request: with 9,000 that took 1 s.
/// CPU time, because the tests run beside each other.
#[test]
fn with_thousands_of_emitters_a_second_sigterm_is_quick() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    if limit < EMITTERS as u64 + 200 {
        return println!("SKIPPED: at most {limit} descriptors here");
    }
    let distributor = Distributor::start("--shards 1 --graceful-close 30s --drain-timeout 30s");
    let emitters: Vec<_> = (0..EMITTERS)
        .map(|_| socket::connect(distributor.emitters))
        .collect();
    let pid = distributor.pid();
    until("all are accepted", || {
        std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) > EMITTERS
    });
    distributor.terminate();
    distributor.wait_log("draining");
    let (before, _) = cpu_ms(pid);
    distributor.terminate();
    until("the end", || cpu_ms(pid).1);
    let took = cpu_ms(pid).0 - before;
    let ended = distributor.wait();
    drop(emitters);
    assert_eq!(ended.balance().received, 0);
    println!("a second SIGTERM with {EMITTERS} emitters: {took} ms of CPU time");
    assert!(took < CPU_MS_MAX, "{took} ms of CPU time");
}
