//! Ports where TLS is spoken, all shards added up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRow {
    /// `emitters`, `analyzers`, `http`, or the name of an input.
    pub port: String,
    /// Handshakes under way now.
    pub under_way: u64,
    /// Handshakes done since the start.
    pub established: u64,
    /// Of them: shortened by a ticket.
    pub resumed: u64,
    /// Streams that ended without close_notify.
    pub truncated: u64,
    /// Connections that came to nothing, by why.
    pub refused: BTreeMap<&'static str, u64>,
    /// Serial number of the certificate that is shown.
    pub serial: String,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// All of them; a port that has had no connection on a shard is not known to that shard.
pub fn rows(state: &State) -> Vec<TlsRow> {
    let mut rows: BTreeMap<&str, TlsRow> = BTreeMap::new();
    for counts in state.reports.iter().flat_map(|report| &report.tls) {
        let row = rows.entry(&counts.port).or_default();
        row.port.clone_from(&counts.port);
        row.under_way += counts.under_way;
        row.established += counts.established;
        row.resumed += counts.resumed;
        row.truncated += counts.truncated;
        row.serial.clone_from(&counts.serial);
        row.not_after = counts.not_after_s;
        for (kind, count) in &counts.refused {
            *row.refused.entry(kind).or_default() += count;
        }
    }
    rows.into_values().collect()
}
