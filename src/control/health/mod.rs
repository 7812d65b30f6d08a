//! Analyzers over HTTP: `GET {endpoint}/health` again and again, and what follows from it.
//!
//! ```text
//!                      healthy, not in the roster          not healthy, in the roster
//!   check, one task -------------------------------> up, down <-----------------------
//!   per analyzer        weight at once the first time,
//!                       a slow start after a recovery
//! ```
//!
//! ```text
//! mod.rs   the tasks --> probe.rs, resolver.rs   one check --> verdict.rs   what it leads to
//! groups.rs   members that come and go
//!             `--- checks.rs: what is known of each ---'          |-- outlier.rs  refuses everything: out for a
//!                                                                 |               while, or until few are left
//!                                                                 `-- ramps.rs    weights on their way
//! ```
//!
//! It goes by states, not by events: shards that gave an analyzer up after failed POSTs took it out of the
//! roster, and the next check that is well brings it back. What the operator ejected stays out until
//! it is resumed.

pub mod checks;
pub mod groups;
pub mod outlier;
mod probe;
pub mod ramps;
mod resolver;
mod verdict;

use std::future::pending;
use std::sync::Arc;

use futures_lite::future::or;

use self::checks::{Checked, Looked};
use crate::core::Core;
use crate::executor::bell::News;
use crate::executor::time::sleep;
use crate::executor::Context;
use crate::lock::lock;
use weir_config::{HttpAnalyzer, HTTP_ANALYZERS_MAX};
use weir_shard::At;

/// Checks all that are in the table, each in a task of its own.
pub async fn run(context: Context) {
    let checks = &context.core.checks;
    let mut seen = 0;
    loop {
        let newer = checks.bell.until(News::Change, || {
            let newer = checks.newer(seen);
            (!newer.is_empty()).then_some(newer)
        });
        for (id, number) in newer.await {
            seen = seen.max(number);
            context.spawn("health check", watch(context.clone(), id, number));
        }
    }
}

/// Checks one again and again, until it is removed.
async fn watch(context: Context, id: Arc<str>, number: u64) {
    let checks = &context.core.checks;
    while let Some(Looked { place, at, keeper }) = checks.look(&id, number) {
        let changes = keeper.as_ref().map_or(0, |keeper| keeper.changes());
        let result = async {
            Some(match &keeper {
                Some(keeper) => checks.look_at(keeper).await.map(At::Local),
                None => checks.probe.check(&place, at).await.map(At::Address),
            })
        };
        let removed = async {
            checks.removed(&id, number).await;
            None
        };
        let Some(result) = or(result, removed).await else {
            return;
        };
        let is_well = result.is_ok();
        let next = verdict::judge(&context.core, &id, number, result);
        let begins_anew = keeper.is_some() && is_well && matches!(next, verdict::Move::Down(_));
        if next != verdict::Move::Nothing {
            let (core, id) = (Arc::clone(&context.core), Arc::clone(&id));
            let carry_out = move || verdict::carry_out(&core, &id, number, next);
            context.hand.run(carry_out).await;
        }
        if begins_anew {
            continue;
        }
        let changed = async {
            match &keeper {
                Some(keeper) => checks.changed(keeper, changes).await,
                None => pending().await,
            }
        };
        let removed = checks.removed(&id, number);
        or(sleep(checks.interval), or(removed, changed)).await;
    }
}

/// Adds an analyzer and checks it from now on.
///
/// # Errors
/// There is one of that id, or there are too many.
pub fn add(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, true)
}

/// The same at the start: another kind of analyzer that was quicker to take the id keeps it, and this one comes
/// up when that has gone. A start does not fail for it.
///
/// # Errors
/// As [`add`] otherwise.
pub fn add_at_start(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, false)
}

fn add_if(core: &Arc<Core>, analyzer: &HttpAnalyzer, must_be_free: bool) -> Result<(), String> {
    if let Some(members) = analyzer.members() {
        let groups = &core.checks.groups;
        groups.add(analyzer.id(), analyzer.weight(), members)?;
        core.bell.ring(News::Change);
        return Ok(());
    }
    add_one(core, analyzer, must_be_free)
}

fn add_one(core: &Arc<Core>, analyzer: &HttpAnalyzer, must_be_free: bool) -> Result<(), String> {
    let id: Arc<str> = analyzer.id().into();
    if analyzer.delivery().local().is_none() {
        let own = &core.checks.probe.own;
        own.check_endpoint(&analyzer.place().endpoint)?;
    }
    {
        let mut table = lock(&core.checks.table);
        if let Some(there) = table.checked.get(&id) {
            let endpoint = &there.place;
            return Err(format!(
                "id {id:?}: in use by {endpoint}; allowed: another id"
            ));
        }
        if table.checked.len() >= HTTP_ANALYZERS_MAX {
            return Err(format!(
                "analyzers over HTTP: {HTTP_ANALYZERS_MAX} are configured, which is the most"
            ));
        }
        let holder = core.data_plane.claim(&id, analyzer.place().to_string());
        if let Some(holder) = holder.filter(|_| must_be_free) {
            core.data_plane.unclaim(&id);
            return Err(format!(
                "id {id:?}: in use by {holder}; allowed: another id"
            ));
        }
        let keeper = core.checks.keeper(&id, analyzer);
        let keeper = keeper.inspect_err(|_| core.data_plane.unclaim(&id))?;
        table.numbers += 1;
        let number = table.numbers;
        let checked = Checked::new(analyzer, number, keeper);
        table.checked.insert(Arc::clone(&id), checked);
    }
    core.bell.ring(News::Change);
    Ok(())
}

/// Removes an analyzer; what it has not ACKed goes to others. False: there is none of that id.
pub fn remove(core: &Core, id: &str) -> bool {
    if let Some(members) = core.checks.groups.remove(id) {
        for member in members {
            remove_one(core, &member);
        }
        return true;
    }
    remove_one(core, id)
}

fn remove_one(core: &Core, id: &str) -> bool {
    let removed = lock(&core.checks.table).checked.remove(id);
    core.bell.ring(News::Change);
    let Some(removed) = removed else {
        return false;
    };
    core.data_plane.unclaim(id);
    lock(&core.ramps).end(id);
    if let Some((generation, _)) = removed.up {
        if let Err(error) = core.data_plane.http_down(generation) {
            log::warn!("analyzer {id:?} was removed, but: {error}");
        }
    }
    true
}

#[cfg(test)]
mod tests;
