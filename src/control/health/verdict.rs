//! What the result of a check leads to: in, out, elsewhere, or nothing.
//!
//! ```text
//! result of a check --> note (what is shown) --> next --> Move --> roster
//!                                                 `- nothing to do: does it refuse everything? (outlier.rs)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checks::Checked;
use super::outlier::{may_go, may_return, Counts};
use super::ramps::Ramp;
use crate::core::Core;
use crate::lock::lock;
use crate::view::json::unix_ms;
use crate::view::state::State;
use weir_engine::{OrderError, Reach};
use weir_ledger::run_report::Stamp;
use weir_protocol::text::Time;
use weir_shard::{At, HttpTarget};

/// Part of its weight that an analyzer begins with after a recovery.
const SLOW_START_FROM: f64 = 0.1;
/// A roster that was ordered is seen in every report after this.
const ROSTER_SETTLES: Duration = Duration::from_secs(2);

/// What a check leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Move {
    Nothing,
    Up {
        slowly: bool,
        weight: f64,
        target: HttpTarget,
    },
    /// It is well at another address than POSTs go to.
    Elsewhere(u64, HttpTarget),
    Down(u64),
}

/// Notes the result of a check, and says what follows. Waits for nothing.
pub(super) fn judge(core: &Core, id: &Arc<str>, number: u64, result: Result<At, String>) -> Move {
    let (in_roster, returns, next) = {
        let state = core.state();
        let mut entries = state.entries().iter();
        let in_roster = entries.find_map(|entry| match entry.reach {
            Reach::Http { generation } if entry.name == *id => Some(generation),
            _ => None,
        });
        let slow = !core.checks.slow_start().is_zero();
        let mut table = lock(&core.checks.table);
        let out = table.out();
        let out = out.iter().map(|id| &**id).collect();
        let may_return = may_return(&takers(&state), &out);
        let Some(checked) = table.checked.get_mut(id).filter(|one| one.number == number) else {
            return Move::Nothing;
        };
        let returns = may_return && !checked.ejected && result.is_ok();
        let returns = returns && checked.out.take().is_some();
        checked.note(&result);
        (
            in_roster,
            returns,
            checked.next(in_roster, result.ok(), slow),
        )
    };
    if returns {
        let text = "back before its time: more were out for what they refused than were left";
        log::warn!("analyzer {id} is {text} (--eject-refusals)");
        core.tell("note", id, format!("is {text}"));
    }
    match (next, in_roster) {
        (Move::Nothing, Some(generation)) => refuses_all(core, id, number, generation),
        (next, _) => next,
    }
}

/// The roster follows. Waits for the shards.
pub(super) fn carry_out(core: &Core, id: &Arc<str>, number: u64, next: Move) {
    match next {
        Move::Nothing => {}
        Move::Elsewhere(generation, target) => {
            log::info!("analyzer moved id={id:?} to={}", target.at);
            core.tell("note", id, format!("is at {} now", target.at));
            core.data_plane.http_move(generation, target);
        }
        Move::Down(generation) => {
            lock(&core.ramps).end(id);
            if let Err(error) = core.data_plane.http_down(generation) {
                log::warn!("analyzer {id:?} cannot be taken out: {error}");
            }
        }
        Move::Up {
            slowly,
            weight,
            target,
        } => bring_up(core, id, number, target, weight, slowly),
    }
}

/// Who takes messages.
fn takers(state: &State) -> BTreeSet<&str> {
    let entries = state.entries().iter();
    let takers = entries.filter(|entry| entry.effective_weight() > 0.0);
    takers.map(|entry| &*entry.name).collect()
}

/// Takes one out that refuses everything while others take what they get.
fn refuses_all(core: &Core, id: &Arc<str>, number: u64, generation: u64) -> Move {
    let rule = &core.checks.eject;
    let (text, time) = {
        let state = core.state();
        let counts = Counts::of(&state, id, generation);
        let mut table = lock(&core.checks.table);
        let out = table.out();
        let Some(checked) = table.checked.get_mut(id).filter(|one| one.number == number) else {
            return Move::Nothing;
        };
        if counts.taken > 0 {
            checked.ejections_in_a_row = 0;
        }
        let is_mine = checked.up.is_some_and(|(mine, _)| mine == generation);
        let Some(refused) = checked.streak.note(counts, rule).filter(|_| is_mine) else {
            return Move::Nothing;
        };
        let out = out.iter().map(|id| &**id).collect();
        if !may_go(id, &takers(&state), &out) {
            return Move::Nothing;
        }
        checked.ejections += 1;
        checked.ejections_in_a_row += 1;
        checked.up = None;
        let time = rule.time_out(checked.ejections_in_a_row);
        let text = format!("refused {refused} packets and took none, while others took theirs");
        checked.out = Some((Instant::now() + time, text.clone()));
        (text, time)
    };
    let time = Time(time);
    log::warn!("analyzer {id} {text}: out for {time} (--eject-refusals)");
    core.tell("bad", id, format!("{text}: out for {time}"));
    Move::Down(generation)
}

fn bring_up(
    core: &Core,
    id: &Arc<str>,
    number: u64,
    target: HttpTarget,
    weight: f64,
    slowly: bool,
) {
    let _one_at_a_time = lock(&core.orders);
    let first = if slowly {
        weight * SLOW_START_FROM
    } else {
        weight
    };
    if let Some(why) = has_no_place(core, id) {
        return keep_out(core, id, number, why);
    }
    let generation = match core.data_plane.http_up(target, first) {
        Ok(generation) => generation,
        Err(error) => return keep_out(core, id, number, error.to_string()),
    };
    {
        let mut table = lock(&core.checks.table);
        let checked = table.checked.get_mut(id);
        let checked = checked.filter(|one| one.number == number && !one.ejected);
        let Some(checked) = checked else {
            // Removed or ejected meanwhile.
            drop(table);
            let _ = core.data_plane.http_down(generation);
            return;
        };
        checked.up = Some((generation, Instant::now()));
        checked.was_up = true;
        if let Some((_, tries)) = checked.kept_out.take() {
            log::info!("analyzer {id:?} is taken in, after {tries} tries that were refused");
        }
    }
    if slowly {
        let ramp = Ramp {
            from: first,
            to: weight,
            began_ns: Stamp::now().mono_ns,
            over: core.checks.slow_start(),
            pin: false,
            is_slow_start: true,
        };
        if let Err(error) = core.begin_ramp(id, ramp) {
            log::warn!("slow start of {id:?}: {error}");
        }
    }
}

/// As the shards would say, without an order for each check of each that has no place.
fn has_no_place(core: &Core, id: &str) -> Option<String> {
    let reports = core.data_plane.reports();
    let report = reports.first()?;
    let (max, limit) = report.analyzers_max;
    let entries = &report.roster.entries;
    let is_full = max > 0 && entries.len() >= max && !entries.iter().any(|it| *it.name == *id);
    is_full.then(|| OrderError::TooManyAnalyzers { max, limit }.to_string())
}

/// It is well and cannot be taken in: said when the reason is another one, else counted. The next check tries
/// again.
fn keep_out(core: &Core, id: &Arc<str>, number: u64, why: String) {
    {
        let mut table = lock(&core.checks.table);
        let checked = table.checked.get_mut(id);
        let Some(checked) = checked.filter(|one| one.number == number) else {
            return;
        };
        let text = format!("it is well and cannot be taken in: {why}");
        checked.error = Some(text.clone());
        match &mut checked.kept_out {
            Some((said, tries)) if *said == text => {
                *tries += 1;
                return;
            }
            other => *other = Some((text, 1)),
        }
    }
    if core.checks.groups.has_member(id) {
        // Hundreds may be; their group says it of all.
        return log::debug!("analyzer {id:?} cannot be taken in: {why}");
    }
    log::warn!("analyzer {id:?} cannot be taken in: {why}; tried again with each health check, and said when it changes");
    core.tell("bad", id, format!("cannot be taken in: {why}"));
}

impl Checked {
    fn note(&mut self, result: &Result<At, String>) {
        self.last_check_ms = Some(unix_ms(Stamp::now()));
        let is_healthy = result.is_ok();
        if self.is_healthy != Some(is_healthy) {
            let id = &self.id;
            match result {
                Ok(address) => log::info!("analyzer healthy id={id:?} address={address}"),
                Err(error) => log::warn!("analyzer unhealthy id={id:?}: {error}"),
            }
        }
        self.is_healthy = Some(is_healthy);
        self.failures = if is_healthy { 0 } else { self.failures + 1 };
        let now = Instant::now();
        if self.out.as_ref().is_some_and(|(until, _)| now >= *until) {
            self.out = None;
        }
        let out = self.out.as_ref().map(|(until, why)| {
            let left = until.saturating_duration_since(now).as_secs_f64();
            format!("{why}; back in {left:.0} s")
        });
        let kept_out = self.kept_out.as_ref().map(|(why, _)| why.clone());
        self.error = result.as_ref().err().cloned().or(out).or(kept_out);
    }

    fn next(&mut self, in_roster: Option<u64>, at: Option<At>, slow: bool) -> Move {
        let is_settled = |since: &Instant| since.elapsed() >= ROSTER_SETTLES;
        if self.up.is_some_and(|(_, since)| is_settled(&since)) && in_roster.is_none() {
            // The shards gave it up.
            self.up = None;
        }
        let before = at.as_ref().and_then(|at| self.at.replace(at.clone()));
        let target = |at| HttpTarget {
            name: Arc::clone(&self.id),
            at,
            host: self.place.endpoint.authority(),
            path: self.place.endpoint.path.clone(),
            sink: self.place.delivery.sink(),
            outlet: self.place.delivery.outlet(),
            forms: self.place.delivery.asks_forms(),
            request: self.place.delivery.request(),
            secured: self.place.delivery.link().cloned(),
        };
        match (self.up, at) {
            (Some((generation, _)), None) => {
                self.up = None;
                Move::Down(generation)
            }
            (Some((generation, _)), Some(at)) if before.as_ref() != Some(&at) => match at {
                At::Address(_) => Move::Elsewhere(generation, target(at)),
                // What has begun anew is another: the next check brings it up.
                At::Local(_) => {
                    self.up = None;
                    Move::Down(generation)
                }
            },
            (None, Some(at)) if !self.ejected && self.out.is_none() => Move::Up {
                slowly: self.was_up && slow,
                weight: self.weight,
                target: target(at),
            },
            _ => Move::Nothing,
        }
    }
}
