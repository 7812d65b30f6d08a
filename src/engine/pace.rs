//! How long ACKs take now, lane by lane: what a unit that is taken in at this moment has to expect.
//!
//! ```text
//! look     mark: so many messages were appended by now
//! look     they are not all ACKed       -> it takes as long as the mark is old, at least
//! look     they are                     -> it took as long as the mark was old at the last look; a new mark
//! ```
//!
//! It goes by what was seen and by nothing else, so it lags: in an overload of two to one, what comes now waits twice
//! as long as what is ACKed now. An idle lane whose ACKs come between two looks takes no time.

use super::shard::Engine;
use super::Memory;

/// Of one lane.
#[derive(Debug, Default)]
pub(super) struct Pace {
    mark: Option<Mark>,
    /// What the last mark took.
    took_ns: u64,
}

#[derive(Debug)]
struct Mark {
    appended: u64,
    at_ns: u64,
    /// The last look at which it was not ACKed.
    open_ns: u64,
}

impl Pace {
    /// What an ACK takes, by a lane that has `appended` messages so far, `acked` of them ACKed.
    fn look(&mut self, appended: u64, acked: u64, now_ns: u64) -> u64 {
        match &mut self.mark {
            Some(mark) if acked < mark.appended => {
                mark.open_ns = now_ns;
                return self.took_ns.max(now_ns.saturating_sub(mark.at_ns));
            }
            Some(mark) => self.took_ns = mark.open_ns - mark.at_ns,
            None => self.took_ns = 0,
        }
        self.mark = (appended > acked).then_some(Mark {
            appended,
            at_ns: now_ns,
            open_ns: now_ns,
        });
        self.took_ns
    }
}

impl<M: Memory> Engine<M> {
    /// How long the slowest lane takes to be ACKed, in nanoseconds. To be asked at every housekeeping.
    pub fn ack_pace_ns(&mut self, now_ns: u64) -> u64 {
        let lanes = self.lanes.iter_mut();
        let paces = lanes.map(|slot| {
            // Nobody waits for the ACK of what is presumed to have arrived.
            let (appended, acked) = (slot.lane.appended(), slot.lane.acked().max(slot.presumed));
            slot.pace.look(appended, acked, now_ns)
        });
        paces.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_lane_takes_no_time() {
        let mut pace = Pace::default();
        for tick in 0..10 {
            assert_eq!(pace.look(tick + 1, tick, tick * 100), 0);
        }
    }

    #[test]
    fn a_lane_takes_as_long_as_what_it_was_given_stays_open() {
        let mut pace = Pace::default();
        assert_eq!(pace.look(50, 0, 1000), 0);
        assert_eq!(pace.look(80, 20, 1100), 100);
        assert_eq!(pace.look(90, 49, 1500), 500, "the last of 50 is open");
        assert_eq!(pace.look(95, 60, 1600), 500, "it was open 100 ago");
        assert_eq!(pace.look(99, 61, 1700), 500, "and nothing faster was seen");
        assert_eq!(pace.look(99, 95, 1800), 100);
        assert_eq!(pace.look(99, 99, 1900), 0);
        assert_eq!(pace.look(99, 99, 9900), 0);
    }
}
