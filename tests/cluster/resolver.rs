//! A nameserver that does not answer.

use std::time::{Duration, Instant};

use weir_testkit::dns::{Dns, Says};

use crate::places::Client;

/// A lookup that nobody answers takes 8 s: two kinds, asked twice for 2 s. Who is stopped meanwhile does not wait for it.
#[test]
fn a_lookup_that_nobody_answers_does_not_hold_up_the_end() {
    let dns = Dns::start();
    dns.says("weir.test", Says::Nothing);
    for (program, addr) in [
        ("emitter", "weir.test:8080"),
        ("emitter --acked", "dns+weir.test:8080"),
        ("analyzer", "weir.test:8081"),
        ("analyzer", "dns+weir.test:8081,127.0.0.9:1"),
    ] {
        let line = format!("{program} --addr {addr} --id x --nameserver {}", dns.addr);
        let client = Client::start(&[], &line);
        std::thread::sleep(Duration::from_millis(700));
        let began = Instant::now();
        client.signal("-TERM");
        client.wait();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{line}: {took:?}");
    }
}
