//! Whole turns on a ground that answers nothing.

use super::*;
use crate::mesh::HandOver;
use crate::testing::{ground, FakeIo, Ground};
use weir_sink::Sink;

/// A shard with so many native analyzers that are up, each with its lane.
fn with_analyzers(count: u32) -> Shard<FakeIo> {
    let Ground {
        config,
        shared,
        io,
        arena,
        mesh,
    } = ground(1, 6 * count as usize);
    let listeners = Listeners {
        emitters: Some(()),
        analyzers: (),
        http: Some(()),
        outlives: false,
    };
    let mut worker = Shard::new(0, config, shared, io, arena, mesh, listeners);
    worker.start();
    let mut inbox = Inbox::new();
    for socket in 1..=count {
        let hand_over = HandOver {
            socket,
            sink: Sink::Native,
            name: format!("analyzer-{socket}").into(),
            instance: Some(u64::from(socket)),
            weight: f64::from(socket),
            window: Window::ANY,
            unread: Vec::new(),
        };
        inbox.push_back((0, Message::HandOver(Box::new(hand_over))));
    }
    while !inbox.is_empty() {
        turn(&mut worker, &mut inbox);
    }
    worker
}

/// A turn that brings nothing; then there is its own mail.
fn turn(worker: &mut Shard<FakeIo>, inbox: &mut Inbox<u32>) {
    let now_ns = worker.cx.io.now_ns.get() + 1_000_000;
    worker.cx.io.now_ns.set(now_ns);
    worker.handle(&mut Vec::new());
    worker.conclude_turn(inbox);
    inbox.extend(worker.cx.mesh.posted(0).into_iter().map(|mail| (0, mail)));
}

#[test]
fn links_that_come_up_are_routed_to_and_reported() {
    let mut worker = with_analyzers(10);
    let report = worker.report();
    assert_eq!((report.links, report.lanes.len()), (10, 10));
    assert_eq!(worker.roster().entries.len(), 10);
    assert!(report.balance.holds());
}

/// Handles to histograms go out ten times a second, not copies.
#[test]
fn a_report_shares_the_latencies_of_its_lanes() {
    let mut worker = with_analyzers(2);
    let (before, after) = (worker.report(), worker.report());
    for (one, other) in before.lanes.iter().zip(&after.lanes) {
        assert!(Arc::ptr_eq(&one.latency_us, &other.latency_us));
    }
}
