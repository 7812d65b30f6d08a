//! A balancer of connections before the analyzers' port, as a Kubernetes Service is one: it must not split an analyzer.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use weir_testkit::{stays, until, Distributor};

use crate::places::Client;

/// Gives each connection to the next of `to`; where it listens.
fn balancer(to: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let next = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let at = next.fetch_add(1, Ordering::Relaxed) % to.len();
            let Ok(far) = TcpStream::connect(to[at]) else {
                continue;
            };
            let pipe = |mut from: TcpStream, mut to: TcpStream| {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                })
            };
            let copies = (near.try_clone(), far.try_clone());
            if let (Ok(near_too), Ok(far_too)) = copies {
                pipe(near, far);
                pipe(far_too, near_too);
            }
        }
    });
    addr
}

#[test]
fn an_analyzer_behind_a_balancer_is_refused_with_a_sentence_and_never_split() {
    let distributors = [(); 2].map(|()| Distributor::start("--shards 2"));
    let addr = balancer(distributors.iter().map(|it| it.analyzers).collect());
    let analyzer = Client::start(&[], &format!("analyzer --addr {addr} --id a1"));
    until("the sentence", || {
        let lines = analyzer.lines("leads to another distributor");
        lines.iter().any(|line| line.contains("dns+HOST:PORT"))
    });
    // It goes on trying, until all its links lead to the first one.
    until("both links lead to one", || {
        analyzer.lines("connected to").len() >= 2
    });
    let has_it = |of: &Distributor| {
        let lines = of.lines(" roster ");
        lines
            .last()
            .is_some_and(|line| !line.contains("analyzers=0"))
    };
    let first = has_it(&distributors[0]);
    stays(
        "one has all of it, the other nothing",
        Duration::from_secs(1),
        || has_it(&distributors[0]) == first && has_it(&distributors[1]) != first,
    );
    distributors[usize::from(!first)].wait_lanes(1);
    analyzer.signal("-TERM");
    assert_eq!(analyzer.wait().0, Some(0));
}

#[test]
fn who_does_not_try_again_ends_with_the_sentence() {
    let distributors = [(); 2].map(|()| Distributor::start("--shards 2"));
    let addr = balancer(distributors.iter().map(|it| it.analyzers).collect());
    let line = format!("analyzer --addr {addr} --id a1 --reconnect=false");
    let analyzer = Client::start(&[], &line);
    until("it ends", || {
        !analyzer.lines("leads to another distributor").is_empty()
    });
    assert_eq!(analyzer.wait().0, Some(1));
}
