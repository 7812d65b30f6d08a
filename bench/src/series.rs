//! What a report says about one system under one load, before it ran.

use crate::child::{System, Wiring};
use crate::load::LoadArgs;
use crate::report::{named, Parameter, Series};
use crate::sink::SinkArgs;

/// A series without runs.
pub fn series(
    scenario: &str,
    label: &str,
    system: &System,
    load: &LoadArgs,
    sink: &SinkArgs,
) -> Series {
    let whole = |n: u64| Parameter::Whole(n);
    let size = match load.size.to_string().parse() {
        Ok(bytes) => whole(bytes),
        Err(_) => Parameter::Text(load.size.to_string()),
    };
    let mut parameters = named([
        ("load", Parameter::Text(load.describe())),
        ("connections", whole(load.connections.into())),
        ("message bytes", size),
        ("messages under way at most", whole(load.in_flight)),
        (
            "rate",
            load.rate
                .map_or(Parameter::Text("unpaced".into()), Parameter::Whole),
        ),
        ("analyzers", whole(sink.weights.len() as u64)),
        (
            "binary",
            Parameter::Text(system.binary().display().to_string()),
        ),
        ("version", Parameter::Text(system.version())),
    ]);
    if let Some(messages) = load.messages.filter(|n| *n < u64::MAX) {
        parameters.insert("messages".into(), whole(messages));
    }
    if system.wiring == Wiring::Weir {
        let dialect = format!("{:?}", sink.dialect).to_lowercase();
        parameters.insert("dialect".into(), Parameter::Text(dialect));
    }
    let does = system.does();
    let mut notes = Vec::new();
    if !does.has_acks {
        notes.push("no ACKs: what was sent to an analyzer that dies is gone".to_owned());
    }
    if !does.has_weights {
        notes.push("no weights".to_owned());
    }
    if does.unit != "message" {
        notes.push(format!("balances by {}", does.unit));
    }
    let total: f64 = sink.weights.iter().sum();
    let target_shares = match does.has_weights {
        true => sink.weights.iter().map(|w| w / total).collect(),
        false => Vec::new(),
    };
    Series {
        scenario: scenario.into(),
        label: label.into(),
        parameters,
        target_shares,
        notes,
        ..Series::default()
    }
}
