//! Several distributors as one: what `GET /admin/status` says of each, merged by analyzer.
//!
//! ```text
//! status of each replica, or why there is none --> merge --> replicas:  a line each
//!                                                            totals:    sums
//!                                                            analyzers: sums of counts, dues, bounds; links k of n x s
//!                                                            findings:  what is not alike, in sentences
//! ```
//!
//! Sums are of the replicas that were reached, since each of them started. Each replica keeps its own bound, so that the
//! sums keep the sum of the bounds (`docs/SHARES.md`).

mod findings;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{json, Value};

pub use lines::{events, findings, replicas, summary, text};

/// Events of all replicas together, the newest.
const EVENTS_MAX: usize = 100;
/// Totals that are added up as whole numbers, and as rates.
const COUNTS: [&str; 9] = [
    "received",
    "acked",
    "inFlight",
    "queued",
    "dropped",
    "rerouted",
    "duplicatesPossible",
    "emitters",
    "links",
];
const RATES: [&str; 3] = [
    "receivedPerSecond",
    "receivedBytesPerSecond",
    "ackedPerSecond",
];

/// One replica, and what it said.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Where it was asked, as an operator knows it.
    pub name: String,
    /// Its status, or why there is none.
    pub status: Result<Value, String>,
}

/// One that answered, and that no name before it stands for as well.
#[derive(Clone, Copy)]
struct Reached<'a> {
    name: &'a str,
    status: &'a Value,
}

impl<'a> Reached<'a> {
    fn shards(self) -> u64 {
        self.status["shards"].as_array().map_or(0, Vec::len) as u64
    }

    fn instance(self) -> &'a str {
        self.status["instance"].as_str().unwrap_or_default()
    }

    fn rows(self) -> impl Iterator<Item = Row<'a>> {
        let rows = self.status["analyzers"].as_array().into_iter().flatten();
        rows.map(move |row| Row { replica: self, row })
    }
}

/// What one replica says of one analyzer.
#[derive(Clone, Copy)]
struct Row<'a> {
    replica: Reached<'a>,
    row: &'a Value,
}

impl<'a> Row<'a> {
    fn id(self) -> &'a str {
        self.row["id"].as_str().unwrap_or_default()
    }

    fn standing(self) -> &'a str {
        self.row["standing"].as_str().unwrap_or("-")
    }

    fn number(self, name: &str) -> f64 {
        self.row[name].as_f64().unwrap_or(0.0)
    }

    fn count(self, name: &str) -> u64 {
        self.row[name].as_u64().unwrap_or(0)
    }

    /// It is in the roster there.
    fn is_online(self) -> bool {
        !matches!(self.standing(), "offline" | "re-routing" | "ejected" | "-")
    }

    /// A reference client has one connection, and so one replica.
    fn is_of_one_replica(self) -> bool {
        self.row["kind"] == "reference"
    }

    /// Its weight counts there: it is in the roster, or the operator configured it.
    fn has_weight(self) -> bool {
        self.is_online() || self.row["endpoint"].is_string()
    }
}

/// Rows of one analyzer, of the replicas that know it.
type ById<'a> = BTreeMap<&'a str, Vec<Row<'a>>>;

/// All of them as one: what `weir top` shows, and `weir ctl --all --json status` prints.
pub fn merge(all: &[Replica]) -> Value {
    let reached = reached(all);
    let mut by_id = ById::new();
    for row in reached.iter().flat_map(|replica| replica.rows()) {
        by_id.entry(row.id()).or_default().push(row);
    }
    json!({
        "replicas": all.iter().map(|one| replica(one, &reached)).collect::<Vec<_>>(),
        "replicasReached": reached.len(),
        "totals": totals(&reached),
        "analyzers": analyzers(&by_id, &reached),
        "findings": findings::find(all, &reached, &by_id),
        "events": merged_events(&reached),
    })
}

/// Those that answered, each once: two addresses may lead to one distributor.
fn reached(all: &[Replica]) -> Vec<Reached<'_>> {
    let mut seen = BTreeSet::new();
    let answered = all.iter().filter_map(|one| {
        let status = one.status.as_ref().ok()?;
        let name = one.name.as_str();
        Some(Reached { name, status })
    });
    answered
        .filter(|one| one.instance().is_empty() || seen.insert(one.instance()))
        .collect()
}

/// Another name of the same distributor, asked before it.
fn same_as<'a>(one: &Replica, reached: &[Reached<'a>]) -> Option<&'a str> {
    let status = one.status.as_ref().ok()?;
    let instance = status["instance"].as_str().filter(|it| !it.is_empty())?;
    let first = reached.iter().find(|other| other.instance() == instance)?;
    (first.name != one.name).then_some(first.name)
}

fn replica(one: &Replica, reached: &[Reached<'_>]) -> Value {
    let status = match &one.status {
        Err(why) => return json!({ "replica": one.name, "reached": false, "error": why }),
        Ok(status) => status,
    };
    let totals = &status["totals"];
    let whole = |name: &str| totals[name].as_u64().unwrap_or(0);
    json!({
        "replica": one.name,
        "reached": true,
        "sameAs": same_as(one, reached),
        "instance": status["instance"],
        "version": status["version"],
        "uptime": status["uptime"],
        "ready": status["ready"],
        "draining": status["draining"],
        "bottleneck": status["bottleneck"],
        "shards": status["shards"].as_array().map_or(0, Vec::len),
        "emitters": totals["emitters"],
        "receivedPerSecond": totals["receivedPerSecond"],
        "ackedPerSecond": totals["ackedPerSecond"],
        "open": whole("inFlight") + whole("queued"),
        "holds": totals["holds"],
        "weightsDigest": status["weightsDigest"],
    })
}

fn totals(reached: &[Reached<'_>]) -> Value {
    let of = |name: &'static str| {
        let values = reached.iter();
        values.map(move |one| &one.status["totals"][name])
    };
    let mut totals = serde_json::Map::new();
    for name in COUNTS {
        let counts = of(name).filter_map(Value::as_u64);
        let sum = counts.fold(0, u64::saturating_add);
        totals.insert(name.into(), json!(sum));
    }
    for name in RATES {
        let sum: f64 = of(name).filter_map(Value::as_f64).sum();
        totals.insert(name.into(), json!(sum));
    }
    let holds = of("holds").all(|holds| *holds == true);
    totals.insert("holds".into(), json!(holds));
    let shards: u64 = reached.iter().map(|one| one.shards()).sum();
    totals.insert("shards".into(), json!(shards));
    totals.into()
}

fn analyzers(by_id: &ById<'_>, reached: &[Reached<'_>]) -> Vec<Value> {
    let sums = |rows: &[Row<'_>]| {
        let assigned = rows.iter().map(|row| row.count("assigned"));
        let assigned = assigned.fold(0, u64::saturating_add);
        let error: f64 = rows.iter().map(|row| row.number("shareError")).sum();
        (assigned, error)
    };
    let (mut assigned_all, mut due_all) = (0.0, 0.0);
    for rows in by_id.values() {
        let (assigned, error) = sums(rows);
        assigned_all += assigned as f64;
        due_all += assigned as f64 - error;
    }
    let part = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
    let one = |(id, rows): (&&str, &Vec<Row<'_>>)| {
        let (assigned, error) = sums(rows);
        let sum = |name| rows.iter().map(|row| row.number(name)).sum::<f64>();
        let count = |name| {
            let counts = rows.iter().map(|row| row.count(name));
            counts.fold(0, u64::saturating_add)
        };
        // Percentiles cannot be added: the slowest replica's.
        let slowest = |name: &str| {
            let times = rows.iter().filter_map(|row| row.row[name].as_f64());
            times.fold(None, |most: Option<f64>, time| {
                Some(most.map_or(time, |most| most.max(time)))
            })
        };
        let weights = findings::weights(rows);
        let weight = match &weights[..] {
            [(weight, ..)] => Some(*weight),
            _ => None,
        };
        let each = |row: &Row<'_>| {
            let (weight, pinned) = (row.number("weight"), row.row["pinned"] == true);
            json!({"replica": row.replica.name, "weight": weight, "pinned": pinned})
        };
        let differ = weights.len() > 1;
        let weights: Vec<Value> = rows
            .iter()
            .filter(|row| row.has_weight())
            .map(each)
            .collect();
        json!({
            "id": id,
            "kind": rows.first().map(|row| &row.row["kind"]),
            "standing": standing(rows, reached),
            "weight": weight,
            "weights": differ.then_some(weights),
            "pinned": rows.iter().any(|row| row.row["pinned"] == true),
            "dueShare": part(assigned as f64 - error, due_all),
            "realShare": part(assigned as f64, assigned_all),
            "shareError": error,
            "shareBound": sum("shareBound"),
            "assigned": assigned,
            "acked": count("acked"),
            "ackedRate": sum("ackedRate"),
            "p50": slowest("p50"),
            "p99": slowest("p99"),
            "inFlight": count("inFlight"),
            "queued": count("queued"),
            "rerouted": count("rerouted"),
            "lanes": count("lanes"),
            "lanesOf": homes(rows, reached).iter().map(|one| one.shards()).sum::<u64>(),
            "replicas": rows.iter().filter(|row| row.is_online()).count(),
            "replicasOf": homes(rows, reached).len(),
        })
    };
    by_id.iter().map(one).collect()
}

/// Replicas where it ought to be: all, and of a reference client the one that has it.
fn homes<'a>(rows: &[Row<'a>], reached: &[Reached<'a>]) -> Vec<Reached<'a>> {
    if !rows.iter().all(|row| row.is_of_one_replica()) {
        return reached.to_vec();
    }
    let online: Vec<Reached<'a>> = rows
        .iter()
        .filter(|row| row.is_online())
        .map(|row| row.replica)
        .collect();
    match online.is_empty() {
        true => rows.iter().map(|row| row.replica).take(1).collect(),
        false => online,
    }
}

/// One word for all: what they agree on; else what is worst about it.
fn standing(rows: &[Row<'_>], reached: &[Reached<'_>]) -> &'static str {
    const WORDS: [&str; 7] = [
        "up",
        "full",
        "partly",
        "draining",
        "ejected",
        "re-routing",
        "offline",
    ];
    let homes = homes(rows, reached);
    let of = |home: &Reached<'_>| {
        let row = rows.iter().find(|row| row.replica.name == home.name);
        row.map_or("offline", |row| row.standing())
    };
    let seen: BTreeSet<&str> = homes.iter().map(of).collect();
    let is = |word: &str| seen.contains(word);
    let word = match seen.len() {
        1 => WORDS.into_iter().find(|word| is(word)),
        _ if is("full") => Some("full"),
        // The order was taken by some of them only.
        _ if is("draining") || is("ejected") => Some("differs"),
        _ => Some("partly"),
    };
    word.unwrap_or("-")
}

/// By their times, newest last; each says whose it is.
fn merged_events(reached: &[Reached<'_>]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for one in reached {
        let events = one.status["events"].as_array().into_iter().flatten();
        all.extend(events.map(|event| {
            let mut event = event.clone();
            event["replica"] = json!(one.name);
            event
        }));
    }
    let at = |event: &Value| event["at"].as_str().unwrap_or_default().to_owned();
    all.sort_by_cached_key(at);
    let from = all.len().saturating_sub(EVENTS_MAX);
    all.split_off(from)
}
