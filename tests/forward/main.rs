//! Fluent Forward on real sockets: chunks and their acks, clients that are killed, and the programs that people run.

mod chain;
mod chunks;
mod keys;
mod kills;
mod programs;

use weir_testkit::{Analyzer, Dialect, Distributor, Options};

/// A distributor with an input for Forward named `forward`, with these options.
fn distributor(options: &str) -> Distributor {
    // Its analyzers here are native, or ACK all that they read.
    Distributor::start(&format!(
        "--shards 1 --ack-presume 60s --input forward@127.0.0.1:0?name=forward{options}"
    ))
}

/// An analyzer that keeps the texts.
fn analyzer(distributor: &Distributor) -> Analyzer {
    let options = Options::new(Dialect::Native, 1.0).texts();
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    analyzer
}
