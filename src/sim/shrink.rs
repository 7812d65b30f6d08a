//! Makes a failing plan small: leaves out what it fails without.

use super::plan::{Ending, Noise, Plan};
use super::run;

/// Runs that shrinking may take.
const RUNS_MAX: usize = 500;

/// The smallest plan found that still fails, and how it fails. `plan` must fail.
pub fn shrink(plan: &Plan) -> (Plan, String) {
    let mut best = plan.clone();
    let mut failure = run(plan).err().unwrap_or_default();
    let mut runs = 0;
    loop {
        let mut better = false;
        for smaller in candidates(&best) {
            if runs >= RUNS_MAX {
                return (best, failure);
            }
            runs += 1;
            if let Err(what) = run(&smaller) {
                // Another failure is a failure as well, but "stuck" is what small plans easily are.
                if what.starts_with("stuck") && !failure.starts_with("stuck") {
                    continue;
                }
                best = smaller;
                failure = what;
                better = true;
                break;
            }
        }
        if !better {
            return (best, failure);
        }
    }
}

/// Plans with something left out, the largest pieces first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let faults = plan.faults.len();
    if faults > 3 {
        with(&|plan| plan.faults = plan.faults[faults / 2..].to_vec());
        with(&|plan| plan.faults.truncate(faults / 2));
    }
    for fault in 0..faults {
        with(&|plan| {
            plan.faults.remove(fault);
        });
    }
    // Peers are silenced, not removed: faults name them by index.
    for emitter in 0..plan.emitters.len() {
        if plan.emitters[emitter].messages > 0 {
            with(&|plan| plan.emitters[emitter].messages = 0);
            with(&|plan| plan.emitters[emitter].messages /= 2);
        }
    }
    for emitter in 0..plan.acked.len() {
        if plan.acked[emitter].messages > 0 {
            with(&|plan| plan.acked[emitter].messages = 0);
            with(&|plan| plan.acked[emitter].messages /= 2);
        }
    }
    for sender in 0..plan.chained.len() {
        if plan.chained[sender].messages > 0 {
            with(&|plan| plan.chained[sender].messages = 0);
            with(&|plan| plan.chained[sender].messages /= 2);
        }
    }
    let last = plan.analyzers.len() - 1;
    if last > 0 && plan.faults.iter().all(|f| f.what.analyzer() != Some(last)) {
        with(&|plan| plan.analyzers.truncate(last));
    }
    if plan.shards > 1
        && plan
            .faults
            .iter()
            .all(|f| f.what.shard() != Some(plan.shards - 1))
    {
        with(&|plan| plan.shards -= 1);
    }
    if plan.ending != Ending::Calm {
        with(&|plan| plan.ending = Ending::Calm);
    }
    let noise = &plan.noise;
    let quiet = Noise::none();
    if noise.lazy > 0 {
        with(&|plan| plan.noise.lazy = 0);
    }
    if noise.crumbs > 0 {
        with(&|plan| plan.noise.crumbs = 0);
    }
    if noise.short_sends > 0 {
        with(&|plan| plan.noise.short_sends = 0);
    }
    if noise.whims > 0 {
        with(&|plan| plan.noise.whims = 0);
    }
    if noise.late_release > 0 {
        with(&|plan| plan.noise.late_release = 0);
    }
    if noise.turn_ns != quiet.turn_ns {
        with(&|plan| plan.noise.turn_ns = quiet.turn_ns);
    }
    if noise.delay_ns != quiet.delay_ns {
        with(&|plan| plan.noise.delay_ns = quiet.delay_ns);
    }
    if noise.mesh_delay_ns != quiet.mesh_delay_ns {
        with(&|plan| plan.noise.mesh_delay_ns = quiet.mesh_delay_ns);
    }
    if noise.socket_bytes != quiet.socket_bytes {
        with(&|plan| plan.noise.socket_bytes = quiet.socket_bytes);
    }
    if plan.host.zero_copy > 0 {
        with(&|plan| plan.host.zero_copy = 0);
    }
    if plan.host.latency_budget_us > 0 {
        with(&|plan| plan.host.latency_budget_us = 0);
    }
    if plan.host.first_number > 0 {
        with(&|plan| plan.host.first_number = 0);
    }
    all
}
