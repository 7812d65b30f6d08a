//! Whole turns on a ground that answers nothing.

use super::*;
use crate::mesh::HandOver;
use crate::testing::{ground, receives, Asked, FakeIo, Ground};
use crate::EmitterListener;
use weir_sink::Sink;

/// A shard with so many native analyzers that are up, each with its lane.
fn with_analyzers(count: u32) -> Shard<FakeIo> {
    with_budget(count, Duration::ZERO)
}

/// The same, with a latency budget.
fn with_budget(count: u32, budget: Duration) -> Shard<FakeIo> {
    let Ground {
        mut config,
        shared,
        io,
        arena,
        mesh,
    } = ground(1, 6 * count as usize);
    let settings = Arc::get_mut(&mut config).expect("nobody else has it");
    settings.latency_budget = budget;
    let listeners = Listeners {
        emitters: vec![EmitterListener {
            listener: Some(()),
            outlives: false,
        }],
        analyzers: (),
        http: Some(()),
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
    worker.begin_turn(false);
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

/// A turn that brings an emitter's frames; whether it starts sends. Light analyzers may have nothing yet.
fn turn_sends(worker: &mut Shard<FakeIo>, frames: usize) -> bool {
    let frame = [[0, 0, 2, 0].as_slice(), &[7; 508]].concat();
    let bytes = frame.repeat(frames);
    let mut completions = Vec::new();
    if frames > 0 {
        let token = bare(Kind::EmitterReceive); // the first connection
        completions.push(receives(token, &bytes, &mut worker.cx.io));
    }
    worker.cx.io.take_asked();
    worker.begin_turn(false);
    worker.handle(&mut completions);
    worker.conclude_turn(&mut Inbox::new());
    let asked = worker.cx.io.take_asked();
    let is_send = |asked: &&Asked| matches!(asked, Asked::Send(..));
    asked.iter().filter(is_send).count() > 10
}

/// A shard with twenty analyzers and one emitter.
fn with_emitter(budget: Duration) -> Shard<FakeIo> {
    let mut worker = with_budget(20, budget);
    let accepted = Completion::simulated(bare(Kind::AcceptEmitter), 500, false, false);
    worker.begin_turn(false);
    worker.handle(&mut vec![accepted]);
    worker.conclude_turn(&mut Inbox::new());
    worker
}

#[test]
fn small_sends_wait_while_more_comes_at_once_and_the_shard_does_not_sleep() {
    let mut worker = with_emitter(Duration::from_micros(500));
    // 32 KiB for 20 lanes.
    assert!(!turn_sends(&mut worker, 64));
    assert!(
        worker.has_work(),
        "held messages never wait for a completion"
    );
    assert_eq!(worker.next_wait().timeout, Duration::ZERO);
    assert!(turn_sends(&mut worker, 1), "nothing more had come");
    assert!(!worker.has_work());
    assert!(worker.next_wait().timeout > Duration::ZERO);
}

#[test]
fn a_turn_that_is_not_busy_sends_at_once() {
    let mut worker = with_emitter(Duration::from_micros(500));
    assert!(turn_sends(&mut worker, 63));
}

#[test]
fn without_a_latency_budget_nothing_is_held() {
    let mut worker = with_emitter(Duration::ZERO);
    assert!(turn_sends(&mut worker, 64));
}

#[test]
fn what_is_held_goes_after_four_budgets_though_more_comes() {
    let mut worker = with_emitter(Duration::from_micros(500));
    assert!(!turn_sends(&mut worker, 64));
    let now_ns = worker.cx.io.now_ns.get() + 2_000_000;
    worker.cx.io.now_ns.set(now_ns);
    assert!(turn_sends(&mut worker, 64));
}
