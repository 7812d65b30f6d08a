//! What replicas do not agree on, and what was not reached: a sentence each, worst first.

use std::collections::BTreeMap;

use super::{homes, same_as, ById, Reached, Replica, Row};
use crate::view::table;

/// Names in one sentence.
const NAMED_MAX: usize = 4;

/// All sentences.
pub(super) fn find(all: &[Replica], reached: &[Reached<'_>], by_id: &ById<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for one in all {
        match &one.status {
            Err(why) => found.push(format!("{} not reached: {why}", one.name)),
            Ok(status) if status["totals"]["holds"] == false => {
                found.push(format!("{}: conservation is BROKEN", one.name));
            }
            Ok(_) => {}
        }
    }
    let mut unlike = weights_that_differ(by_id);
    unlike.extend(not_linked(reached, by_id));
    unlike.extend(orders_that_differ(by_id));
    if unlike.is_empty() {
        // Weights that a file wants for analyzers that are not there yet. All that is said above changes digests, too.
        let digest = |one: &Reached<'_>| one.status["weightsDigest"].as_str().map(str::to_owned);
        unlike.extend(differ(
            "weights wanted differ, by their digests",
            reached,
            digest,
        ));
    }
    found.extend(unlike);
    found.extend(not_alike(all, reached));
    found
}

/// Weights in force for one analyzer, and where: more than one where replicas differ.
pub(super) fn weights<'a>(rows: &[Row<'a>]) -> Vec<(f64, bool, Vec<&'a str>)> {
    let mut groups: Vec<(f64, bool, Vec<&str>)> = Vec::new();
    for row in rows.iter().filter(|row| row.has_weight()) {
        let (weight, pinned) = (row.number("weight"), row.row["pinned"] == true);
        let same = groups
            .iter_mut()
            .find(|group| group.0 == weight && group.1 == pinned);
        match same {
            Some(group) => group.2.push(row.replica.name),
            None => groups.push((weight, pinned, vec![row.replica.name])),
        }
    }
    groups
}

fn weights_that_differ(by_id: &ById<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, rows) in by_id {
        let groups = weights(rows);
        if groups.len() < 2 {
            continue;
        }
        let text = |(weight, pinned, names): &(f64, bool, Vec<&str>)| {
            let pin = if *pinned { " pinned" } else { "" };
            format!("{}{pin} on {}", table::weight(*weight), list(names))
        };
        let texts: Vec<String> = groups.iter().map(text).collect();
        let id = table::visible(id);
        found.push(format!("weights differ: {id} is {}", texts.join("; ")));
    }
    found
}

/// By replica, not by analyzer: a replica that was cut off does not reach a hundred of them.
fn not_linked(reached: &[Reached<'_>], by_id: &ById<'_>) -> Vec<String> {
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, rows) in by_id {
        let online = |home: &Reached<'_>| {
            let mut here = rows.iter().filter(|row| row.replica.name == home.name);
            here.any(|row| row.is_online())
        };
        // Of one that is nowhere, the row says so.
        if !rows.iter().any(|row| row.is_online()) {
            continue;
        }
        for home in homes(rows, reached) {
            let is_ejected = rows
                .iter()
                .any(|row| row.replica.name == home.name && row.standing() == "ejected");
            if !online(&home) && !is_ejected {
                missing.entry(home.name).or_default().push(id);
            }
        }
    }
    let sentence = |(name, ids): (&str, Vec<&str>)| format!("{name} does not reach {}", list(&ids));
    missing.into_iter().map(sentence).collect()
}

/// A drain or an ejection that only some have taken.
fn orders_that_differ(by_id: &ById<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, rows) in by_id {
        for word in ["draining", "ejected"] {
            let (with, without): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
                rows.iter().partition(|row| row.standing() == word);
            if with.is_empty() || !without.iter().any(|row| row.is_online()) {
                continue;
            }
            let names = |rows: &[&Row<'_>]| {
                let names: Vec<&str> = rows.iter().map(|row| row.replica.name).collect();
                list(&names)
            };
            let (with, without) = (names(&with), names(&without));
            let id = table::visible(id);
            found.push(format!("{id} is {word} on {with}, not on {without}"));
        }
    }
    found
}

fn not_alike(all: &[Replica], reached: &[Reached<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let named = |is: &dyn Fn(&Reached<'_>) -> bool| {
        let those = reached.iter().filter(|one| is(one));
        those.map(|one| one.name).collect::<Vec<_>>()
    };
    let is_draining = |one: &Reached<'_>| one.status["draining"] == true;
    let unready = named(&|one| one.status["ready"] != true && !is_draining(one));
    if !unready.is_empty() {
        found.push(format!("not ready: {}", list(&unready)));
    }
    let draining = named(&is_draining);
    if !draining.is_empty() {
        found.push(format!("shutting down: {}", list(&draining)));
    }
    let version = |one: &Reached<'_>| one.status["version"].as_str().map(str::to_owned);
    found.extend(differ("versions differ", reached, version));
    for one in all {
        if let Some(first) = same_as(one, reached) {
            let name = &one.name;
            found.push(format!(
                "{name} and {first} are one distributor: counted once"
            ));
        }
    }
    found
}

/// `what: A on x, y; B on z`, if there is more than one.
fn differ(
    what: &str,
    reached: &[Reached<'_>],
    of: impl Fn(&Reached<'_>) -> Option<String>,
) -> Option<String> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for one in reached {
        if let Some(value) = of(one) {
            groups.entry(value).or_default().push(one.name);
        }
    }
    let texts = groups
        .iter()
        .map(|(value, names)| format!("{value} on {}", list(names)));
    let texts: Vec<String> = texts.collect();
    (texts.len() > 1).then(|| format!("{what}: {}", texts.join("; ")))
}

/// `a, b, c, d and 3 more`.
fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(NAMED_MAX)
        .map(|name| table::visible(name))
        .collect();
    let shown = shown.join(", ");
    match names.len() > NAMED_MAX {
        true => format!("{shown} and {} more", names.len() - NAMED_MAX),
        false => shown,
    }
}
