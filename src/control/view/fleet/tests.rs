use serde_json::{json, Value};

use super::*;

fn analyzer(id: &str, weight: f64, assigned: u64, error: f64) -> Value {
    json!({"id": id, "kind": "native", "standing": "up", "weight": weight, "pinned": false,
        "assigned": assigned, "acked": assigned, "shareError": error, "shareBound": 5.36,
        "ackedRate": 10.0, "p99": 0.001, "lanes": 2, "inFlight": 1, "queued": 0, "rerouted": 0,
        "endpoint": null})
}

fn status(instance: &str, analyzers: Vec<Value>) -> Value {
    json!({"version": "1", "instance": instance, "ready": true, "draining": false, "uptime": 5.0,
        "shards": [{}, {}], "analyzers": analyzers,
        "totals": {"received": 100, "acked": 90, "inFlight": 10, "queued": 0, "dropped": 0, "holds": true,
            "receivedPerSecond": 20.0, "ackedPerSecond": 20.0, "emitters": 3},
        "events": [{"at": format!("2026-11-22T03:28:30.{instance}Z"), "analyzer": "a1", "text": "joined"}]})
}

fn replica(name: &str, status: Value) -> Replica {
    let name = name.into();
    Replica {
        name,
        status: Ok(status),
    }
}

/// Two that differ, one that cannot be reached.
fn three() -> Vec<Replica> {
    let first = vec![
        analyzer("a1", 0.4, 400, 0.25),
        analyzer("a2", 0.6, 600, -0.25),
    ];
    let second = vec![
        analyzer("a1", 0.9, 900, 0.75),
        analyzer("a2", 0.6, 600, -0.75),
    ];
    vec![
        replica("weir-0:3000", status("125", first)),
        replica("weir-1:3000", status("124", second)),
        Replica {
            name: "weir-2:3000".into(),
            status: Err("Connection refused".into()),
        },
    ]
}

fn findings_of(all: &[Replica]) -> Vec<String> {
    let found = merge(all)["findings"].clone();
    serde_json::from_value(found).expect("texts")
}

#[test]
fn counts_dues_and_bounds_are_summed_by_analyzer() {
    let fleet = merge(&three());
    let a1 = &fleet["analyzers"][0];
    assert_eq!(a1["assigned"], 1300);
    assert_eq!(a1["shareError"], 1.0);
    assert_eq!(a1["shareBound"], 10.72);
    // 400 - 0.25 and 900 - 0.75 were due, of 2,500 - 0 in all.
    assert_eq!(a1["dueShare"], 1299.0 / 2500.0);
    assert_eq!(a1["realShare"], 1300.0 / 2500.0);
    assert_eq!((&a1["lanes"], &a1["lanesOf"]), (&json!(4), &json!(4)));
    assert_eq!((&a1["replicas"], &a1["replicasOf"]), (&json!(2), &json!(2)));
    assert_eq!(fleet["totals"]["received"], 200);
    assert_eq!(fleet["totals"]["shards"], 4);
    let events: Vec<&Value> = fleet["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| &event["replica"])
        .collect();
    assert_eq!(events, ["weir-1:3000", "weir-0:3000"], "by their times");
}

#[test]
fn what_is_not_alike_is_said_by_name() {
    let found = findings_of(&three());
    assert_eq!(
        found,
        [
            "weir-2:3000 not reached: Connection refused",
            "weights differ: a1 is 0.4 on weir-0:3000; 0.9 on weir-1:3000",
        ]
    );
    let row = &merge(&three())["analyzers"][0];
    assert_eq!(row["weight"], Value::Null);
    assert_eq!(row["weights"][1]["weight"], 0.9);
}

#[test]
fn replicas_that_are_alike_have_nothing_said_of_them() {
    let same = |instance| status(instance, vec![analyzer("a1", 0.4, 10, 0.0)]);
    let all = [replica("x", same("1")), replica("y", same("2"))];
    assert!(findings_of(&all).is_empty(), "{:?}", findings_of(&all));
    assert_eq!(merge(&all)["analyzers"][0]["standing"], "up");
}

#[test]
fn one_that_a_replica_does_not_reach_is_partly_there() {
    let mut all = three();
    all.truncate(2);
    let second = all[1].status.as_mut().expect("answered");
    let rows = second["analyzers"].as_array_mut().expect("rows");
    // One is not known there at all, the other has left.
    rows.remove(0);
    rows[0]["standing"] = json!("offline");
    rows[0]["lanes"] = json!(0);
    let fleet = merge(&all);
    for row in fleet["analyzers"].as_array().expect("rows") {
        assert_eq!(row["standing"], "partly", "{row}");
        assert_eq!((&row["lanes"], &row["lanesOf"]), (&json!(2), &json!(4)));
        assert_eq!(
            (&row["replicas"], &row["replicasOf"]),
            (&json!(1), &json!(2))
        );
        // What was the weight when it left says nothing today.
        assert_eq!(row["weights"], Value::Null);
    }
    assert_eq!(findings_of(&all), ["weir-1:3000 does not reach a1, a2"]);
}

#[test]
fn a_reference_client_is_at_one_replica_and_that_is_as_it_should_be() {
    let mut row = analyzer("127.0.0.1:4711", 0.4, 10, 0.0);
    row["kind"] = json!("reference");
    let all = [
        replica("x", status("1", vec![row])),
        replica("y", status("2", vec![])),
    ];
    assert!(findings_of(&all).is_empty(), "{:?}", findings_of(&all));
    let fleet = merge(&all);
    let row = &fleet["analyzers"][0];
    assert_eq!(row["standing"], "up");
    assert_eq!((&row["lanes"], &row["lanesOf"]), (&json!(2), &json!(2)));
}

#[test]
fn two_addresses_of_one_distributor_are_counted_once() {
    let one = status("1", vec![analyzer("a1", 0.4, 10, 0.0)]);
    let all = [
        replica("10.0.0.1:3000", one.clone()),
        replica("/run/x.sock", one),
    ];
    let fleet = merge(&all);
    assert_eq!(fleet["totals"]["received"], 100);
    assert_eq!(fleet["replicas"][1]["sameAs"], "10.0.0.1:3000");
    let found = findings_of(&all);
    assert_eq!(
        found,
        ["/run/x.sock and 10.0.0.1:3000 are one distributor: counted once"]
    );
    assert!(summary(&fleet)[0].starts_with("1 of 1 distributors"));
}

#[test]
fn an_order_that_only_some_have_taken_is_said() {
    let mut all = three();
    all.truncate(2);
    let second = all[1].status.as_mut().expect("answered");
    second["analyzers"][1]["standing"] = json!("draining");
    second["weightsDigest"] = json!("aa");
    second["ready"] = json!(false);
    let found = findings_of(&all);
    for sentence in [
        "a2 is draining on weir-1:3000, not on weir-0:3000",
        "not ready: weir-1:3000",
    ] {
        assert!(found.iter().any(|text| text == sentence), "{found:?}");
    }
    assert_eq!(merge(&all)["analyzers"][1]["standing"], "differs");
}

#[test]
fn weights_that_no_analyzer_has_yet_differ_by_their_digests() {
    let with = |instance: &str, digest: &str| {
        let mut status = status(instance, vec![analyzer("a1", 0.4, 10, 0.0)]);
        status["weightsDigest"] = json!(digest);
        status
    };
    let all = [
        replica("x", with("1", "aa")),
        replica("y", with("2", "aa")),
        replica("z", with("3", "bb")),
    ];
    assert_eq!(
        findings_of(&all),
        ["weights wanted differ, by their digests: aa on x, y; bb on z"]
    );
}

#[test]
fn of_a_hundred_analyzers_that_are_not_reached_four_are_named() {
    let many = |standing: &str, instance: &str| {
        let row = |n: usize| {
            let mut row = analyzer(&format!("a{n:03}"), 0.4, 10, 0.0);
            row["standing"] = json!(standing);
            row
        };
        status(instance, (0..100).map(row).collect())
    };
    let all = [
        replica("x", many("up", "1")),
        replica("y", many("offline", "2")),
    ];
    assert_eq!(
        findings_of(&all),
        ["y does not reach a000, a001, a002, a003 and 96 more"]
    );
}

#[test]
fn the_text_fits_and_keeps_what_the_fleet_is_looked_at_for() {
    let fleet = merge(&three());
    for width in [40, 60, 80, 100, 120, 200] {
        let text = text(&fleet, width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let words = words.join(" ");
        assert!(words.contains("Connection refused"), "{width}:\n{text}");
    }
    let at_80 = text(&fleet, 80);
    for part in [
        "2 of 3 distributors",
        "due",
        "got",
        "bound",
        "links",
        "4/4",
        "0.4-0.9",
        "+1.00",
        "10.72",
    ] {
        assert!(at_80.contains(part), "{part} in\n{at_80}");
    }
    let row = at_80.lines().find(|line| line.starts_with("weir-2:3000"));
    assert!(
        row.is_some_and(|row| row.contains("not reached")),
        "{at_80}"
    );
}

#[test]
fn nobody_reached_is_said_and_nothing_is_called_broken() {
    let all = [Replica {
        name: "x".into(),
        status: Err("No such file".into()),
    }];
    let text = text(&merge(&all), 80);
    assert!(text.contains("no distributor was reached"), "{text}");
    assert!(text.contains("x not reached: No such file"), "{text}");
    assert!(!text.contains("BROKEN"), "{text}");
}

#[test]
fn more_findings_than_lines_are_counted() {
    let all: Vec<Replica> = (0..30)
        .map(|n| Replica {
            name: format!("weir-{n}"),
            status: Err("Connection refused".into()),
        })
        .collect();
    let fleet = merge(&all);
    let lines = findings(&fleet, 6, 80);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[5], "! 25 more: weir ctl --all --json status");
}
