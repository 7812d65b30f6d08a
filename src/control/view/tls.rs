//! Ports where TLS is spoken, all shards added up; and certificates that end.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;
use weir_tls::expiry;

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRow {
    /// `emitters`, `analyzers`, `http`, `admin`, or the name of an input.
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
    /// Certificates that are shown: serial number, and when it ends, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
}

/// Certificates that end soon, or have ended: a sentence each.
pub fn warnings(state: &State) -> Vec<String> {
    let now_s = i64::try_from(state.now.unix_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let mut warnings = Vec::new();
    for row in rows(state) {
        for (serial, not_after) in &row.certificates {
            if let Some(soon) = expiry(*not_after, now_s) {
                let port = &row.port;
                warnings.push(format!("TLS at {port}: the certificate {serial} {soon}"));
            }
        }
    }
    for (analyzer, certificates) in &state.link_certificates {
        for one in certificates {
            if let Some(soon) = expiry(one.not_after, now_s) {
                let (option, serial) = (one.option, &one.serial);
                warnings.push(format!(
                    "TLS with analyzer {analyzer}: the certificate {serial} ({option}) {soon}"
                ));
            }
        }
    }
    warnings
}

/// All of them; a port that has had no connection on a shard is not known to that shard.
pub fn rows(state: &State) -> Vec<TlsRow> {
    let mut rows: BTreeMap<&str, TlsRow> = BTreeMap::new();
    let of_shards = state.reports.iter().flat_map(|report| &report.tls);
    for counts in of_shards.chain(&state.admin_tls) {
        let row = rows.entry(&counts.port).or_default();
        row.port.clone_from(&counts.port);
        row.under_way += counts.under_way;
        row.established += counts.established;
        row.resumed += counts.resumed;
        row.truncated += counts.truncated;
        row.certificates.clone_from(&counts.certificates);
        for (kind, count) in &counts.refused {
            *row.refused.entry(kind).or_default() += count;
        }
    }
    let mut rows: Vec<TlsRow> = rows.into_values().collect();
    for row in &mut rows {
        // Of several with one number, the first to end.
        row.certificates.sort_unstable();
        row.certificates.dedup_by(|one, before| one.0 == before.0);
    }
    rows
}
