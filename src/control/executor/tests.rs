//! What the executor lives with, and that it outlives it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_lite::future::yield_now;

use super::time::within;
use super::*;
use crate::fake::{Fake, FakeDataPlane};
use crate::lock::lock;
use crate::settings::Settings;
use weir_clock::Limit;
use weir_ledger::run_report::Stamp;

fn core() -> Arc<Core> {
    let data_plane = Arc::new(FakeDataPlane::default());
    *lock(&data_plane.reports) = Fake::new(&[1.0]).reports;
    let settings = Settings::of(&weir_config::Config::default(), Stamp::now());
    Arc::new(Core::new(Box::new(data_plane), settings))
}

/// Runs a future on an executor of its own, on this thread.
pub fn run_alone<T>(bell: &Bell, work: impl Future<Output = T>) -> T {
    let executor = builder(PREEMPT_AFTER).make().expect("rings");
    let heard = bell.open().expect("a pair of sockets");
    executor.run(alive(bell, heard, work))
}

/// Holds the thread so often for longer than the timer, and never waits for I/O.
async fn blocks(timer: Duration, times: u32) {
    for _ in 0..times {
        std::thread::sleep(2 * timer);
        yield_now().await;
    }
}

/// Whether that comes to an end on an executor of this preemption timer, in time.
fn ends(timer: Duration, times: u32, is_kept_alive: bool, in_time: Duration) -> bool {
    let (end, ended) = sync_channel(1);
    std::thread::spawn(move || {
        let executor = builder(timer).make().expect("rings");
        executor.run(async move {
            match is_kept_alive {
                true => {
                    let bell = Bell::default();
                    let heard = bell.open().expect("a pair of sockets");
                    alive(&bell, heard, blocks(timer, times)).await;
                }
                false => blocks(timer, times).await,
            }
        });
        let _ = end.send(());
    });
    ended.recv_timeout(in_time).is_ok()
}

/// docs/adr/0001: glommio 0.9 sleeps for ever when its preemption timer has run out before it looks for something to
/// run, unless a timer of its own is under way. How short the timer must be for that to happen now and then, and not
/// each time, differs from machine to machine.
#[test]
fn a_timer_that_runs_out_cannot_freeze_the_executor() {
    let mut timer = Duration::from_micros(400);
    while ends(timer, 400, false, Duration::from_secs(5)) {
        timer = timer * 4 / 5;
        let is_short = timer < Duration::from_micros(1);
        assert!(
            !is_short,
            "glommio does not freeze any more: the ladder of timers may go"
        );
    }
    // What keeps it alive makes a pass longer: the same timer may run out in each, and then nothing helps. A longer one
    // runs out now and then.
    let mut timers = (0..8).map(|doublings| timer * 2_u32.pow(doublings));
    let is_alive = timers.any(|timer| ends(timer, 10, true, Duration::from_secs(16)));
    assert!(is_alive, "frozen, with timers from {timer:?} on");
}

#[test]
fn a_panic_ends_its_task_only_and_a_long_order_holds_up_nobody() {
    let core = core();
    let steps = Arc::new(AtomicBool::new(false));
    let has_stepped = Arc::clone(&steps);
    let (go, held) = sync_channel::<()>(0);
    let thread = start(&core, move |context| {
        context.spawn("broken", async { panic!("on purpose") });
        let own = context.clone();
        context.spawn("held", async move {
            let held = move || held.recv().is_ok();
            assert_eq!(own.hand.run(held).await, Some(true));
            assert_eq!(own.hand.run(|| -> u8 { panic!("on purpose") }).await, None);
            assert_eq!(own.hand.run(|| 5).await, Some(5), "the hand is still there");
            has_stepped.store(true, Ordering::Release);
        });
        let own = context.clone();
        context.spawn("beside", async move {
            for _ in 0..10 {
                sleep(Duration::from_millis(1)).await;
            }
            let aside = aside_of(&own).await;
            assert_eq!(aside, Some(7));
            // Only now the hand goes on.
            go.send(()).expect("it waits");
        });
    });
    let thread = thread.expect("started");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !steps.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "somebody was held up");
        std::thread::sleep(Duration::from_millis(5));
    }
    core.end();
    thread.join().expect("ended");
}

async fn aside_of(context: &Context) -> Option<u8> {
    let aside = crate::executor::hand::aside("aside", &context.core.bell, || 7);
    aside.await.expect("a thread")
}

#[test]
fn a_limit_holds_and_what_came_in_time_counts() {
    run_alone(&Bell::default(), async {
        let mut limit = Limit::new(Duration::from_millis(250));
        assert_eq!(within(&mut limit, std::future::pending::<()>()).await, None);
        assert!(limit.is_over());
        let mut limit = Limit::new(Duration::from_secs(30));
        let soon = async {
            sleep(Duration::from_millis(150)).await;
            3
        };
        assert_eq!(within(&mut limit, soon).await, Some(3));
    });
}
