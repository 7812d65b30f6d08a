//! The way out: what a shard does next once it is asked to stop.
//!
//! ```text
//! Running -> GracefulClose    emitters are told to go, idle clients closed     ends: all have gone, or --graceful-close
//!              |                 evenly over --farewell-spread                          after the last was told
//!              |  soon   nobody new is listened for but analyzers
//!         -> Draining    emitters cut off; waits for ACKs                 ends: nothing is left
//!         -> Drained     waits for the other shards                       ends: all are drained, or the deadline
//! ```

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::context::{Context, Phase, TICK_HANDSHAKE};
use super::port::Io;

/// What a drain gets beyond its deadline when the process did not run meanwhile.
const LAST_READ_NS: u64 = 250_000_000;

/// What the parts still have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remains {
    /// Emitters may come.
    pub(super) listens: bool,
    /// An accept of an emitter is under way.
    pub(super) accepts: bool,
    /// Emitters, or what they sent and the engine has not taken.
    pub(super) emitters: bool,
    pub(super) clients: bool,
}

/// What the parts have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Emitters and clients are told to go, over [`Lifecycle::spread`].
    GracefulClose,
    /// Nobody new is listened for but analyzers: what waits for an ACK may need one that comes back.
    StopListening,
    /// Nothing more is read from those who have not gone.
    CutOff,
}

/// How far a shard is on its way out is [`Context::phase`]; this is when it went on.
#[derive(Default)]
pub(super) struct Lifecycle {
    /// When the graceful close began.
    close_began_ns: u64,
    /// Time over which emitters and clients are told to go.
    spread: Duration,
    /// When draining ends, once its deadline has passed.
    ends_ns: Option<u64>,
}

impl Lifecycle {
    /// Time over which emitters and clients are told to go.
    pub(super) fn spread(&self) -> Duration {
        self.spread
    }

    /// Goes on with stopping. To be called again when the step is done, until there is none.
    pub(super) fn advance<I: Io>(&mut self, cx: &mut Context<I>, remains: Remains) -> Option<Step> {
        match cx.phase {
            Phase::Running => {
                cx.phase = Phase::GracefulClose;
                self.close_began_ns = cx.awake_ns;
                self.spread = spread_of(cx);
                Some(Step::GracefulClose)
            }
            Phase::GracefulClose => {
                let since = Duration::from_nanos(cx.awake_ns - self.close_began_ns);
                let graceful_close = cx.config.graceful_close;
                if remains.listens && since >= TICK_HANDSHAKE.min(graceful_close) {
                    return Some(Step::StopListening);
                }
                // Clients have no graceful close of their own: they go with the emitters, or when all are told.
                let is_telling = remains.clients && since < self.spread;
                let have_gone = !remains.listens && !remains.emitters && !is_telling;
                let is_over = have_gone || since >= self.spread + graceful_close;
                is_over.then(|| {
                    cx.phase = Phase::Draining;
                    Step::CutOff
                })
            }
            Phase::Draining => {
                let nothing = !remains.accepts && !remains.emitters && !remains.clients;
                if nothing && cx.engine.balance().open() == 0 {
                    cx.phase = Phase::Drained;
                    cx.shared.drained.fetch_add(1, Ordering::AcqRel);
                    for wake in &cx.shared.wakes {
                        wake.wake();
                    }
                }
                None
            }
            Phase::Drained => None,
        }
    }

    /// The loop ends.
    pub(super) fn is_over<I: Io>(&mut self, cx: &Context<I>) -> bool {
        all_drained(cx) || self.is_time_up(cx)
    }

    /// The deadline of a drain is in real time, as the service manager's is. After a pause what has arrived
    /// meanwhile is read first, though: the first turn beyond it gets a moment for that.
    fn is_time_up<I: Io>(&mut self, cx: &Context<I>) -> bool {
        let deadline_ns = cx.shared.deadline_ns();
        if cx.now_ns < deadline_ns {
            return false;
        }
        let last_ns = match cx.has_caught_up() {
            true => deadline_ns,
            false => cx.now_ns + LAST_READ_NS,
        };
        cx.now_ns >= *self.ends_ns.get_or_insert(last_ns)
    }
}

/// Who is told last has the time of the graceful close before draining ends.
fn spread_of<I: Io>(cx: &Context<I>) -> Duration {
    let left_ns = cx.shared.deadline_ns().saturating_sub(cx.now_ns);
    let left = Duration::from_nanos(left_ns).saturating_sub(cx.config.graceful_close);
    cx.live.farewell_spread.min(left)
}

/// No shard has anything left.
pub(super) fn all_drained<I: Io>(cx: &Context<I>) -> bool {
    cx.shared.drained.load(Ordering::Acquire) >= cx.config.shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context;

    #[test]
    fn the_way_out_takes_its_steps_in_order() {
        let mut cx = context(2, 64);
        let mut life = Lifecycle::default();
        let mut remains = Remains {
            listens: true,
            accepts: true,
            emitters: true,
            clients: true,
        };
        assert_eq!(life.advance(&mut cx, remains), Some(Step::GracefulClose));
        assert_eq!(
            (cx.phase, life.advance(&mut cx, remains)),
            (Phase::GracefulClose, None)
        );
        cx.awake_ns += TICK_HANDSHAKE.as_nanos() as u64;
        assert_eq!(life.advance(&mut cx, remains), Some(Step::StopListening));
        remains.listens = false;
        assert_eq!(life.advance(&mut cx, remains), None, "emitters are there");
        cx.awake_ns += cx.config.graceful_close.as_nanos() as u64;
        assert_eq!(life.advance(&mut cx, remains), Some(Step::CutOff));
        assert_eq!(
            (cx.phase, life.advance(&mut cx, remains)),
            (Phase::Draining, None)
        );
        assert_eq!(life.advance(&mut cx, Remains::default()), None);
        assert_eq!(cx.phase, Phase::Drained);
        assert!(!life.is_over(&cx), "one of two shards");
        life.advance(&mut cx, Remains::default());
        assert!(!life.is_over(&cx), "counted once");
    }

    #[test]
    fn a_farewell_ends_when_all_have_gone() {
        let mut cx = context(1, 64);
        let mut life = Lifecycle::default();
        let mut remains = Remains {
            listens: true,
            ..Remains::default()
        };
        assert_eq!(life.advance(&mut cx, remains), Some(Step::GracefulClose));
        assert_eq!(life.advance(&mut cx, remains), None, "others may come");
        cx.awake_ns += TICK_HANDSHAKE.as_nanos() as u64;
        assert_eq!(life.advance(&mut cx, remains), Some(Step::StopListening));
        remains.listens = false;
        assert_eq!(life.advance(&mut cx, remains), Some(Step::CutOff));
        assert_eq!(life.advance(&mut cx, remains), None);
        assert!(life.is_over(&cx), "nothing was left");
    }

    #[test]
    fn a_spread_puts_the_cut_off_behind_the_last_farewell_and_not_beyond_the_deadline() {
        for (deadline_s, spread_s) in [(u64::MAX, 5), (60, 5), (4, 3), (0, 0)] {
            let mut cx = context(1, 64);
            cx.live = std::sync::Arc::new(crate::shared::Live {
                farewell_spread: Duration::from_secs(5),
                ..(*cx.live).clone()
            });
            let close = cx.config.graceful_close;
            assert_eq!(close, Duration::from_secs(1));
            let deadline_ns = cx
                .now_ns
                .saturating_add(deadline_s.saturating_mul(1_000_000_000));
            cx.shared.ask(crate::shared::Stop::Drain, deadline_ns);
            let mut life = Lifecycle::default();
            let remains = Remains {
                clients: true,
                ..Remains::default()
            };
            assert_eq!(life.advance(&mut cx, remains), Some(Step::GracefulClose));
            assert_eq!(life.spread(), Duration::from_secs(spread_s), "{deadline_s}");
            let emitters = Remains {
                emitters: true,
                ..remains
            };
            cx.awake_ns += (life.spread() + close).as_nanos() as u64 - 1;
            assert_eq!(
                life.advance(&mut cx, emitters),
                None,
                "the last has its time"
            );
            assert_eq!(
                life.advance(&mut cx, remains),
                Some(Step::CutOff),
                "all are told"
            );
        }
    }
}
