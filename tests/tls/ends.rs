//! How connections end: what was sent before the end is delivered.

use std::time::Duration;

use weir_testkit::numbered::numbered;
use weir_testkit::{until, Analyzer, Authority, Dialect, Distributor, Options};

use super::client::Manner;

/// The distributor closes its half when the connection is old, while receives wait for memory: what its emitter sends on is
/// read all the same.
#[test]
fn who_is_asked_to_go_while_nobody_takes_messages_is_read_to_its_end() {
    const MESSAGES: u64 = 6_000;
    let authority = Authority::new("ends");
    let flags = format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1 --ingress 1MiB --emitters-tls required --max-connection-age 1s {}",
        authority.pair("localhost").flags()
    );
    let distributor = Distributor::start(&flags);
    let manner = Manner::new(&authority.ca(), None);
    let mut client = manner.connect(distributor.emitters).expect("let in");
    let sender = std::thread::spawn(move || {
        for id in 0..MESSAGES {
            client.send(&numbered(id, 2_000)).expect("it is read on");
        }
        client.finish()
    });
    // Its memory is full, and its age is over.
    std::thread::sleep(Duration::from_secs(3));
    let options = Options::new(Dialect::Native, 1.0).id("a1");
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    sender.join().expect("no panic").expect("the end");
    until("all of it", || analyzer.read() as u64 == MESSAGES);
    drop(analyzer);
    distributor.stop().assert_clean();
}
