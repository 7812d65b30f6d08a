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
//! A trial that failed while the load itself was late says nothing about the system: it is invalid, and
//! counts for nothing. A rate that only yields such trials ends the search from above like an upper bound,
//! but is none: the result is then "at least". A limit without any loss is strict: one message lost in
//! one valid trial makes an upper bound, whatever the exceed ratio forgives of latency.
//!
//! Trials grow: a stage of short trials brackets the rate coarsely, the last stage decides with trials of
//! full length only (RFC 9971: phases of the "load selector"; the RFC leaves the choice of loads open).
//! Several goals share all trials, so the second one is nearly free.

use std::io;

use weir_testkit::Random;

/// Most trials of one search: what does not converge by then never does, and what is known has to do.
pub const TRIALS_MAX: usize = 120;
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

/// What a trial says about a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every limit was kept.
    Good,
    /// A limit was missed; the exceed ratio may forgive it.
    Bad,
    /// A limit was missed that nothing forgives.
    Fatal,
    /// A limit was missed while the load was late: nothing about the system.
    Invalid,
}

/// One trial, as a goal sees it.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub rate: f64,
    pub seconds: f64,
    pub verdict: Verdict,
}

/// What is known about a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Lower,
    Upper,
    /// So many of its trials are invalid that it is not worth more of them.
    LoadBound,
    Undecided,
}

/// The end of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Highest rate that meets the goal; `None` when not even the lowest does.
    pub lower: Option<f64>,
    /// Lowest rate that does not; `None` when even the highest does.
    pub upper: Option<f64>,
    /// At `upper` the load was late: the system may hold more, and `lower` is "at least".
    pub is_load_bound: bool,
    /// [`TRIALS_MAX`] came first: the bounds hold, and are further apart than was asked for.
    pub is_cut_short: bool,
}

impl Bounds {
    const NONE: Self = Self {
        lower: None,
        upper: None,
        is_load_bound: false,
        is_cut_short: false,
    };
}

/// RFC 9971, appendix A ("Load Classification Code"): a rate is a lower bound if the goal would be
/// met even when all that is still to be measured turned out bad, and an upper bound if it would be
/// missed even when all of it turned out good. Short trials that are bad count only as far as short good
/// ones do not make up for them. Invalid trials are left out; where only they are in the way, the rate is
/// [`Class::LoadBound`] as soon as it would be an upper bound if they had been bad.
pub fn classify(goal: &Goal, points: impl Iterator<Item = Point>) -> Class {
    let (mut full_good, mut full_bad, mut short_good, mut short_bad) = (0.0, 0.0, 0.0, 0.0);
    let (mut full_invalid, mut short_invalid) = (0.0, 0.0);
    for point in points {
        // A trial cut short by rounding is a full one.
        let is_full = point.seconds >= goal.final_trial_s * 0.999;
        *match (is_full, point.verdict) {
            (_, Verdict::Fatal) => return Class::Upper,
            (true, Verdict::Good) => &mut full_good,
            (true, Verdict::Bad) => &mut full_bad,
            (true, Verdict::Invalid) => &mut full_invalid,
            (false, Verdict::Good) => &mut short_good,
            (false, Verdict::Bad) => &mut short_bad,
            (false, Verdict::Invalid) => &mut short_invalid,
        } += point.seconds;
    }
    let balancing = short_good * goal.exceed_ratio / (1.0 - goal.exceed_ratio);
    let class = |full_bad: f64, short_bad: f64| {
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
    };
    match class(full_bad, short_bad) {
        Class::Undecided => match class(full_bad + full_invalid, short_bad + short_invalid) {
            Class::Upper => Class::LoadBound,
            _ => Class::Undecided,
        },
        decided => decided,
    }
}

/// A search between two rates.
pub struct Search {
    pub goal: Goal,
    pub rate_min: f64,
    pub rate_max: f64,
    /// Where to begin. A guess and no bound: only trials make those.
    pub start: f64,
}

impl Search {
    /// Asks `measure` for trials at whole rates until the goal's bounds are close enough, next to each other
    /// or [`TRIALS_MAX`] trials old. `known` are the trials of searches before, judged by this goal; new ones
    /// are added.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn run(
        &self,
        known: &mut Vec<Point>,
        mut measure: impl FnMut(f64, f64) -> io::Result<Point>,
    ) -> io::Result<Bounds> {
        let mut bounds = Bounds::NONE;
        let known_before = known.len();
        for stage in self.stages() {
            let around = bounds;
            // Bounds of a stage before are where to look, not what is known.
            loop {
                bounds = relevant(&stage, known);
                let Some(rate) = self.next_rate(&stage, known, bounds, around) else {
                    break;
                };
                if known.len() - known_before == TRIALS_MAX {
                    // By the goal itself: what a short stage takes for bounds are places to look.
                    return Ok(Bounds {
                        is_cut_short: true,
                        ..relevant(&self.goal, known)
                    });
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
                let middle = (lower * upper).sqrt().floor();
                if middle <= lower {
                    // Whole rates next to each other, or the same rate would be asked for again and again.
                    return None;
                }
                middle
            }
            (Some(lower), None) if lower >= self.rate_max => return None,
            (None, Some(upper)) if upper <= self.rate_min => return None,
            (Some(lower), None) => match around.upper.filter(|u| *u > lower * 1.0001) {
                Some(upper) => upper,
                None => (lower * wide.powi(2 * self.steps(known, lower, true))).max(lower + 1.0),
            },
            (None, Some(upper)) => match around.lower.filter(|l| *l < upper * 0.9999) {
                Some(lower) => lower,
                None => upper / wide.powi(2 * self.steps(known, upper, false)),
            },
            (None, None) => around.lower.or(around.upper).unwrap_or(self.start),
        };
        let rate = rate.floor().clamp(self.rate_min, self.rate_max);
        // An undecided rate that is as good as the same is decided first.
        let near = known
            .iter()
            .filter(|p| (p.rate / rate - 1.0).abs() < stage.width / 4.0)
            .map(|p| p.rate)
            .find(|r| classify(stage, at(known, *r)) == Class::Undecided);
        Some(near.unwrap_or(rate))
    }

    /// How far to go beyond the only bound: further with each rate that was tried on this side of the
    /// start already.
    fn steps(&self, known: &[Point], bound: f64, is_up: bool) -> i32 {
        let mut rates: Vec<u64> = known
            .iter()
            .filter(|p| {
                if is_up {
                    p.rate <= bound && p.rate >= self.start
                } else {
                    p.rate >= bound && p.rate <= self.start
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

/// The lowest upper bound, and the highest lower bound below it (RFC 9971, "Relevant Bounds"). Where the
/// load was the limit the search ends as well.
fn relevant(goal: &Goal, points: &[Point]) -> Bounds {
    let classed = |class: Class| {
        let rates = points.iter().map(|p| p.rate);
        rates.filter(move |r| classify(goal, at(points, *r)) == class)
    };
    let upper = classed(Class::Upper).min_by(f64::total_cmp);
    let load_bound = classed(Class::LoadBound)
        .filter(|r| upper.is_none_or(|u| *r < u))
        .min_by(f64::total_cmp);
    let top = load_bound.or(upper);
    let below = classed(Class::Lower).filter(|r| top.is_none_or(|t| *r < t));
    Bounds {
        lower: below.max_by(f64::total_cmp),
        upper: top,
        is_load_bound: load_bound.is_some(),
        is_cut_short: false,
    }
}

/// Part of the flood's rate at which a search starts: between the two ends, equally likely on a
/// logarithmic scale. Searches that start in different places try different rates, so what they agree on
/// is the system and not the grid.
const START_PARTS: (f64, f64) = (0.5, 1.25);

/// The part for search `number` (from 1) of a run with `seed`: the same for the same two.
pub fn start_part(seed: u64, number: u32) -> f64 {
    let unit = Random::new(seed.wrapping_mul(1_000).wrapping_add(u64::from(number))).unit();
    START_PARTS.0 * (START_PARTS.1 / START_PARTS.0).powf(unit)
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

    fn verdict(is_good: bool) -> Verdict {
        match is_good {
            true => Verdict::Good,
            false => Verdict::Bad,
        }
    }

    fn class(points: &[(f64, bool)]) -> Class {
        classify(
            &GOAL,
            points.iter().map(|(seconds, is_good)| Point {
                rate: 1.0,
                seconds: *seconds,
                verdict: verdict(*is_good),
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
    fn find(capacity: f64, bad_one_in: u64, start: f64) -> (Bounds, usize) {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            start,
        };
        let mut random = Random::new(12345);
        let mut trials = 0;
        let bounds = search.run(&mut Vec::new(), |rate, seconds| {
            trials += 1;
            let is_bad_luck = bad_one_in > 0 && random.below(bad_one_in) == 0;
            Ok(Point {
                rate,
                seconds,
                verdict: verdict(rate <= capacity && !is_bad_luck),
            })
        });
        (bounds.expect("converges"), trials)
    }

    #[test]
    fn the_capacity_lies_between_bounds_as_close_as_asked() {
        for capacity in [2_000.0, 77_777.0, 850_000.0, 4_999_000.0] {
            for start in [1_500.0, 800_000.0, 5e6] {
                let (bounds, trials) = find(capacity, 0, start);
                let (lower, upper) = (bounds.lower.expect("found"), bounds.upper.expect("found"));
                assert!(
                    lower <= capacity && capacity < upper,
                    "{capacity} {bounds:?}"
                );
                assert!((upper - lower) / upper <= GOAL.width, "{bounds:?}");
                assert!(trials < 60, "{trials} trials for {capacity} from {start}");
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
            verdict: Verdict::Good,
        };
        let bad = Point {
            verdict: Verdict::Bad,
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
                upper: None,
                ..Bounds::NONE
            }
        );
        assert_eq!(
            find(10.0, 0, 2e6).0,
            Bounds {
                upper: Some(1_000.0),
                ..Bounds::NONE
            }
        );
    }

    #[test]
    fn a_second_goal_uses_what_is_known() {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            start: 1e6,
        };
        let mut known = Vec::new();
        let mut trials = 0;
        let mut measure = |rate: f64, seconds: f64| {
            trials += 1;
            Ok(Point {
                rate,
                seconds,
                verdict: verdict(rate <= 850_000.0),
            })
        };
        let first = search.run(&mut known, &mut measure).expect("converges");
        let again = search
            .run(&mut known, |_, _| panic!("all is known"))
            .expect("converges");
        assert_eq!(first, again);
    }

    /// Rates are whole: between 1,000 and 1,001 there is none, however narrow the width that was asked for.
    #[test]
    fn bounds_next_to_each_other_end_a_search() {
        for (capacity, start) in [(1_000.0, 1_000.0), (5.0, 1.0), (1.0, 40.0)] {
            let search = Search {
                goal: Goal {
                    width: 1e-9,
                    ..GOAL
                },
                rate_min: 1.0,
                rate_max: 5e6,
                start,
            };
            let mut trials = 0;
            let bounds = search.run(&mut Vec::new(), |rate, seconds| {
                trials += 1;
                assert_eq!(rate, rate.floor());
                let verdict = verdict(rate <= capacity);
                Ok(Point {
                    rate,
                    seconds,
                    verdict,
                })
            });
            let bounds = bounds.expect("measures");
            assert!(!bounds.is_cut_short, "{trials} trials: {bounds:?}");
            let found = (bounds.lower, bounds.upper);
            assert_eq!(found, (Some(capacity), Some(capacity + 1.0)));
        }
    }

    /// Full trials above 700,000 take no time, and so decide nothing, however many there are.
    #[test]
    fn a_search_without_an_end_ends_with_what_is_known() {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            start: 500_000.0,
        };
        let mut trials = 0;
        let bounds = search.run(&mut Vec::new(), |rate, asked_s| {
            trials += 1;
            let is_nothing = rate > 700_000.0 && asked_s >= GOAL.final_trial_s;
            Ok(Point {
                rate,
                seconds: if is_nothing { 0.0 } else { asked_s },
                verdict: verdict(rate <= 700_000.0),
            })
        });
        let bounds = bounds.expect("what is known");
        assert_eq!(trials, TRIALS_MAX);
        assert!(bounds.is_cut_short, "{bounds:?}");
        let lower = bounds.lower.expect("was decided before");
        assert!((0.9..=1.0).contains(&(lower / 700_000.0)), "{bounds:?}");
    }

    fn points(of: &[(f64, Verdict)]) -> Class {
        let point = |(seconds, verdict): &(f64, Verdict)| Point {
            rate: 1.0,
            seconds: *seconds,
            verdict: *verdict,
        };
        classify(&GOAL, of.iter().map(point))
    }

    #[test]
    fn a_late_load_neither_proves_nor_disproves() {
        use Verdict::{Bad, Good, Invalid};
        assert_eq!(points(&[(3.0, Invalid)]), Class::Undecided, "tried again");
        assert_eq!(points(&[(3.0, Invalid), (3.0, Invalid)]), Class::LoadBound);
        assert_eq!(
            points(&[(3.0, Invalid), (3.0, Good), (3.0, Good)]),
            Class::Lower,
            "what held counts"
        );
        assert_eq!(
            points(&[(3.0, Invalid), (3.0, Bad), (3.0, Bad)]),
            Class::Upper,
            "what failed with a load in time counts"
        );
    }

    #[test]
    fn one_lost_message_is_not_forgiven() {
        use Verdict::{Bad, Fatal, Good};
        let good = [(3.0, Good); 5];
        assert_eq!(points(&[&good[..], &[(3.0, Bad)]].concat()), Class::Lower);
        assert_eq!(points(&[&good[..], &[(3.0, Fatal)]].concat()), Class::Upper);
        assert_eq!(points(&[&good[..], &[(1.0, Fatal)]].concat()), Class::Upper);
    }

    /// A system that holds everything, with a load that is late above 500,000/s.
    #[test]
    fn a_limit_of_the_load_is_no_upper_bound_of_the_system() {
        let search = Search {
            goal: GOAL,
            rate_min: 1_000.0,
            rate_max: 5e6,
            start: 2e6,
        };
        let bounds = search.run(&mut Vec::new(), |rate, seconds| {
            let verdict = match rate > 500_000.0 {
                true => Verdict::Invalid,
                false => Verdict::Good,
            };
            Ok(Point {
                rate,
                seconds,
                verdict,
            })
        });
        let bounds = bounds.expect("ends");
        assert!(bounds.is_load_bound, "{bounds:?}");
        let lower = bounds.lower.expect("found");
        assert!((0.97..=1.0).contains(&(lower / 500_000.0)), "{bounds:?}");
    }

    /// Two searches of one system end in different intervals, both around its capacity.
    #[test]
    fn starts_and_so_grids_are_independent() {
        let parts: Vec<f64> = (1..=20).map(|n| start_part(1, n)).collect();
        assert_eq!(
            parts,
            (1..=20).map(|n| start_part(1, n)).collect::<Vec<_>>()
        );
        assert_ne!(start_part(1, 1), start_part(2, 1));
        assert!(parts.iter().all(|p| (0.5..=1.25).contains(p)), "{parts:?}");
        let ends: Vec<Bounds> = parts
            .iter()
            .map(|part| find(850_000.0, 0, 900_000.0 * part).0)
            .collect();
        let mut lowers: Vec<u64> = ends
            .iter()
            .filter_map(|b| b.lower)
            .map(|l| l as u64)
            .collect();
        lowers.sort_unstable();
        lowers.dedup();
        assert_eq!(lowers.len(), 20, "no two on one grid: {lowers:?}");
    }
}
