//! Many analyzers that die at once hold up nobody: a turn sees to a few of them.

use std::io::Write;

use weir_testkit::process::{field, number};
use weir_testkit::{socket, Distributor};

const ANALYZERS: usize = 300;
/// Links whose ends a turn sees to (`TURN_ENDS`).
const A_TURN: u64 = 64;

/// Told by the tables, of which a turn makes one: this does not depend on how busy the host is.
#[test]
fn a_turn_sees_to_a_few_of_those_that_die_at_once() {
    let distributor = Distributor::start("--shards 1 --batch-bytes 4KiB");
    let analyzers: Vec<_> = (0..ANALYZERS)
        .map(|_| {
            let mut stream = socket::connect(distributor.analyzers);
            stream.write_all(&1f32.to_be_bytes()).expect("sent");
            stream
        })
        .collect();
    distributor.wait_lanes(ANALYZERS);
    // All have ended by the time that it looks.
    distributor.signal("-STOP");
    drop(analyzers);
    distributor.signal("-CONT");
    distributor.wait_lanes(0);

    let lines = distributor.lines(" roster ");
    let sizes: Vec<u64> = lines.iter().map(|line| number(line, "analyzers")).collect();
    let most = sizes.windows(2).map(|pair| pair[0].saturating_sub(pair[1]));
    let most = most.max().expect("tables");
    assert!(most <= A_TURN, "{most} in a turn: {sizes:?}");
    assert_eq!(field(&lines[lines.len() - 1], "analyzers"), "0");
    distributor.stop().assert_clean();
}
