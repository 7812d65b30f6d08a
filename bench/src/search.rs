//! The highest rate that meets a goal, found by trials that lie: Multiple Loss Ratio Search.
//!
//! After RFC 9971 (M. Konstantynowicz, V. Polak, "Multiple Loss Ratio Search", 2026;
//! draft-ietf-bmwg-mlrsearch before). RFC 2544's bisection takes every trial for the truth, so that on a
//! noisy host one bad moment halves the result. Here a rate may be tried several times, and a part of the
//! time tried (the exceed ratio) may be bad:
//!
//! ```text
//!   rate     trials                 class
//!   900,000  bad                    upper bound
//!   850,000  bad  good  good        lower bound (exceed ratio 0.5: a third of the time was bad)
//!   800,000  good
//!            '---- 5 % apart: bounds closer than the goal's width end the search
//! ```
//!
//! Trials grow: a stage of short trials brackets the rate coarsely, the last stage decides with trials of
//! full length only (RFC 9971: phases of the "load selector"; the RFC leaves the choice of loads open).
//! Several goals share all trials, so the second one is nearly free.

use std::io;

/// Most trials of one search: what does not converge by then never does.
const TRIALS_MAX: usize = 120;
/// Stages before the last are wider by this factor each.
const STAGE_FACTOR: f64 = 3.0;

/// What a rate has to meet, and how sure to be (RFC 9971, "Search Goal").
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Seconds of a trial of the last stage ("goal final trial duration").
    pub final_trial_s: f64,
    /// Seconds of a trial of the first stage ("goal initial trial duration").
    pub initial_trial_s: f64,
    /// Seconds of trials of full length at one rate that decide about it ("goal duration sum").
    pub duration_sum_s: f64,
    /// Part of these that may be bad ("goal exceed ratio").
    pub exceed_ratio: f64,
    /// Relative distance of the bounds at the end ("goal width").
    pub width: f64,
}

/// One trial, as a goal sees it.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub rate: f64,
    pub seconds: f64,
    pub is_good: bool,
}

/// What is known about a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Lower,
    Upper,
    Undecided,
}

/// The end of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Highest rate that meets the goal; `None` when not even the lowest does.
    pub lower: Option<f64>,
    /// Lowest rate that does not; `None` when even the highest does.
    pub upper: Option<f64>,
}

/// RFC 9971, appendix A ("Load Classification Code"): a rate is a lower bound if the goal would be
/// met even when all that is still to be measured turned out bad, and an upper bound if it would be
/// missed even when all of it turned out good. Short trials that are bad count only as far as short good
/// ones do not make up for them.
pub fn classify(goal: &Goal, points: impl Iterator<Item = Point>) -> Class {
    let (mut full_good, mut full_bad, mut short_good, mut short_bad) = (0.0, 0.0, 0.0, 0.0);
    for point in points {
        // A trial cut short by rounding is a full one.
        let is_full = point.seconds >= goal.final_trial_s * 0.999;
        *match (is_full, point.is_good) {
            (true, true) => &mut full_good,
            (true, false) => &mut full_bad,
            (false, true) => &mut short_good,
            (false, false) => &mut short_bad,
        } += point.seconds;
    }
    let balancing = short_good * goal.exceed_ratio / (1.0 - goal.exceed_ratio);
    let bad = full_bad + f64::max(0.0, short_bad - balancing);
    let whole = f64::max(full_good + bad, goal.duration_sum_s);
    let allowed = whole * goal.exceed_ratio;
    let is_lower_at_worst = whole - full_good <= allowed;
    let is_lower_at_best = bad <= allowed;
    match (is_lower_at_worst, is_lower_at_best) {
        (true, true) => Class::Lower,
        (false, false) => Class::Upper,
        _ => Class::Undecided,
    }
}

/// A search between two rates.
pub struct Search {
    pub goal: Goal,
    pub rate_min: f64,
    pub rate_max: f64,
    /// Where to begin: what the system delivered when flooded.
    pub hint: f64,
}

impl Search {
    /// Asks `measure` for trials until the goal's bounds are close enough. `known` are the trials
    /// of searches before, judged by this goal; new ones are added.
    pub fn run(
        &self,
        known: &mut Vec<Point>,
        mut measure: impl FnMut(f64, f64) -> io::Result<Point>,
    ) -> io::Result<Bounds> {
        let mut bounds = Bounds {
            lower: None,
            upper: None,
        };
        for stage in self.stages() {
            let around = bounds;
            // Bounds of a stage before are where to look, not what is known.
            bounds = Bounds {
                lower: None,
                upper: None,
            };
            for trials in 0.. {
                bounds = relevant(&stage, known);
                let Some(rate) = self.next_rate(&stage, known, bounds, around) else {
                    break;
                };
                if trials == TRIALS_MAX {
                    return Err(io::Error::other(format!(
                        "no end after {TRIALS_MAX} trials: ask for a larger --width or a smaller --exceed"
                    )));
                }
                known.push(measure(rate, stage.final_trial_s)?);
            }
        }
        Ok(bounds)
    }

    /// Each stage but the last: one trial decides, and the bounds may be wider.
    fn stages(&self) -> Vec<Goal> {
        let mut stages = vec![self.goal];
        let mut seconds = self.goal.final_trial_s;
        while seconds > self.goal.initial_trial_s * 1.5 && stages.len() < 4 {
            seconds = (seconds / STAGE_FACTOR).max(self.goal.initial_trial_s);
            let width = (stages[0].width * STAGE_FACTOR).min(0.5);
            let stage = Goal {
                final_trial_s: seconds,
                duration_sum_s: seconds,
                width,
                ..self.goal
            };
            stages.insert(0, stage);
        }
        stages
    }

    /// `None`: this stage is through.
    fn next_rate(
        &self,
        stage: &Goal,
        known: &[Point],
        bounds: Bounds,
        around: Bounds,
    ) -> Option<f64> {
        let wide = 1.0 + stage.width;
        let rate = match (bounds.lower, bounds.upper) {
            (Some(lower), Some(upper)) if (upper - lower) / upper <= stage.width => return None,
            (Some(lower), Some(upper)) => {
                // The middle of the interval; not below a width, where the last step would overshoot.
                (lower * upper).sqrt()
            }
            (Some(lower), None) if lower >= self.rate_max => return None,
            (None, Some(upper)) if upper <= self.rate_min => return None,
            (Some(lower), None) => match around.upper.filter(|u| *u > lower * 1.0001) {
                Some(upper) => upper,
                None => lower * wide.powi(2 * self.steps(known, lower, true)),
            },
            (None, Some(upper)) => match around.lower.filter(|l| *l < upper * 0.9999) {
                Some(lower) => lower,
                None => upper / wide.powi(2 * self.steps(known, upper, false)),
            },
            (None, None) => around.lower.or(around.upper).unwrap_or(self.hint),
        };
        let rate = rate.clamp(self.rate_min, self.rate_max);
        // An undecided rate that is as good as the same is decided first.
        let near = known
            .iter()
            .filter(|p| (p.rate / rate - 1.0).abs() < stage.width / 4.0)
            .map(|p| p.rate)
            .find(|r| classify(stage, at(known, *r)) == Class::Undecided);
        Some(near.unwrap_or(rate))
    }

    /// How far to go beyond the only bound: further with each rate that was tried on this side of the
    /// hint already.
    fn steps(&self, known: &[Point], bound: f64, is_up: bool) -> i32 {
        let mut rates: Vec<u64> = known
            .iter()
            .filter(|p| {
                if is_up {
                    p.rate <= bound && p.rate >= self.hint
                } else {
                    p.rate >= bound && p.rate <= self.hint
                }
            })
            .map(|p| p.rate as u64)
            .collect();
        rates.sort_unstable();
        rates.dedup();
        rates.len().clamp(1, 8) as i32
    }
}

fn at(points: &[Point], rate: f64) -> impl Iterator<Item = Point> + '_ {
    points.iter().filter(move |p| p.rate == rate).copied()
}

/// The lowest upper bound, and the highest lower bound below it (RFC 9971, "Relevant Bounds").
fn relevant(goal: &Goal, points: &[Point]) -> Bounds {
    let classed = |class: Class| {
        let rates = points.iter().map(|p| p.rate);
        rates.filter(move |r| classify(goal, at(points, *r)) == class)
    };
    let upper = classed(Class::Upper).min_by(f64::total_cmp);
    let below = classed(Class::Lower).filter(|r| upper.is_none_or(|u| *r < u));
    Bounds {
        lower: below.max_by(f64::total_cmp),
        upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal {
        final_trial_s: 3.0,
        initial_trial_s: 1.0,
        duration_sum_s: 9.0,
        exceed_ratio: 0.4,
        width: 0.02,
    };

    fn class(points: &[(f64, bool)]) -> Class {
        classify(
            &GOAL,
            points.iter().map(|(seconds, is_good)| Point {
                rate: 1.0,
                seconds: *seconds,
                is_good: *is_good,
            }),
        )
    }

    #[test]
    fn a_rate_is_decided_when_the_rest_cannot_change_it() {
        assert_eq!(class(&[]), Class::Undecided);
        assert_eq!(class(&[(3.0, true)]), Class::Undecided);
        assert_eq!(
            class(&[(3.0, true), (3.0, true)]),
            Class::Lower,
            "3 of 9 s may be bad"
        );
        assert_eq!(class(&[(3.0, false)]), Class::Undecided);
        assert_eq!(
            class(&[(3.0, false), (3.0, false)]),
            Class::Upper,
            "more than 3.6 s are"
        );
        assert_eq!(
            class(&[(3.0, false), (3.0, true), (3.0, true)]),
            Class::Lower
        );
        assert_eq!(
            class(&[(1.0, true); 20]),
            Class::Undecided,
            "short trials prove no lower bound"
        );
        assert_eq!(
            class(&[(1.0, false); 4]),
            Class::Upper,
            "but bad ones an upper bound"
        );
        assert_eq!(
            class(&[
                (1.0, false),
                (1.0, false),
                (1.0, false),
                (1.0, false),
                (1.0, true)
            ]),
            Class::Undecided
        );
    }

    /// A system that is good up to `capacity`, and in one trial of `bad_one_in` bad for no reason.
    fn find(capacity: f64, bad_one_in: u64, hint: f64) -> (Bounds, usize) {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            hint,
        };
        let mut random = 12345u64;
        let mut trials = 0;
        let bounds = search.run(&mut Vec::new(), |rate, seconds| {
            trials += 1;
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let is_bad_luck = bad_one_in > 0 && (random >> 33) % bad_one_in == 0;
            Ok(Point {
                rate,
                seconds,
                is_good: rate <= capacity && !is_bad_luck,
            })
        });
        (bounds.expect("converges"), trials)
    }

    #[test]
    fn the_capacity_lies_between_bounds_as_close_as_asked() {
        for capacity in [2_000.0, 77_777.0, 850_000.0, 4_999_000.0] {
            for hint in [1_500.0, 800_000.0, 5e6] {
                let (bounds, trials) = find(capacity, 0, hint);
                let (lower, upper) = (bounds.lower.expect("found"), bounds.upper.expect("found"));
                assert!(
                    lower <= capacity && capacity < upper,
                    "{capacity} {bounds:?}"
                );
                assert!((upper - lower) / upper <= GOAL.width, "{bounds:?}");
                assert!(trials < 60, "{trials} trials for {capacity} from {hint}");
            }
        }
    }

    #[test]
    fn one_bad_trial_in_six_does_not_halve_the_result() {
        let (bounds, _) = find(850_000.0, 6, 900_000.0);
        let lower = bounds.lower.expect("found");
        assert!((0.9..=1.0).contains(&(lower / 850_000.0)), "{bounds:?}");
    }

    #[test]
    fn a_good_rate_above_a_bad_one_is_no_bound() {
        let good = |rate: f64| Point {
            rate,
            seconds: 9.0,
            is_good: true,
        };
        let bad = Point {
            is_good: false,
            ..good(2_000.0)
        };
        let bounds = relevant(&GOAL, &[good(1_000.0), bad, good(3_000.0)]);
        assert_eq!((bounds.lower, bounds.upper), (Some(1_000.0), Some(2_000.0)));
    }

    #[test]
    fn limits_that_bind_are_told() {
        assert_eq!(
            find(1e9, 0, 2e6).0,
            Bounds {
                lower: Some(5e6),
                upper: None
            }
        );
        assert_eq!(
            find(10.0, 0, 2e6).0,
            Bounds {
                lower: None,
                upper: Some(1_000.0)
            }
        );
    }

    #[test]
    fn a_second_goal_uses_what_is_known() {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            hint: 1e6,
        };
        let mut known = Vec::new();
        let mut trials = 0;
        let mut measure = |rate: f64, seconds: f64| {
            trials += 1;
            Ok(Point {
                rate,
                seconds,
                is_good: rate <= 850_000.0,
            })
        };
        let first = search.run(&mut known, &mut measure).expect("converges");
        let again = search
            .run(&mut known, |_, _| panic!("all is known"))
            .expect("converges");
        assert_eq!(first, again);
    }
}
