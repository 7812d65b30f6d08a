//! TLS at the ports of a distributor: real sockets, real processes, clients of others.

mod abuse;
mod both;
mod client;
mod crowds;
mod daemons;
mod each;
mod ends;
mod examined;
mod halves;
mod moves;
mod names;
mod odd;
mod odd_servers;
mod operators;
mod outgoing;
mod own_programs;
mod programs;
mod proxied;
mod recorded;
mod renewal;
mod scanned;
mod served;
mod servers;
mod shippers;
mod strangers;
mod tickets;

use weir_testkit::{Analyzer, Dialect, Distributor, Options};

/// A distributor of one shard with TLS as flags say, and an analyzer that takes everything.
fn distributor(flags: &str, payloads: Payloads) -> (Distributor, Analyzer) {
    let ports = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1";
    let distributor = Distributor::start(&format!("{ports} {flags}"));
    let options = Options::new(Dialect::Native, 1.0).id("a1");
    let options = match payloads {
        Payloads::Numbered => options,
        Payloads::Texts => options.texts(),
    };
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    (distributor, analyzer)
}

/// What emitters send.
enum Payloads {
    Numbered,
    Texts,
}
