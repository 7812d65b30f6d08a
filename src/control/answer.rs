//! Answers to everything that is asked over HTTP and changes nothing. Pure; the shapes that existing
//! clients know are kept, more fields are added.
//!
//! ```text
//! /health  /health/ready  /health/live     is it well, and what slows it down
//! /stats   /queue  /analyzers  /audit      numbers
//! /metrics                                 numbers for Prometheus
//! /                                        the page; it follows /events
//! ```

use serde_json::{json, Map, Value};

use super::exchange::{value, Ask, Response};
use super::exposition::Format;
use super::page;
use super::state::{HttpStatus, Row, State};
use super::{metrics, view};
use crate::engine::Entry;

/// What may be asked here, beside `POST /logs`, which the shards answer themselves.
const PATHS: [&str; 10] = [
    "/",
    "/analyzers",
    "/audit",
    "/events",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/queue",
    "/stats",
];

/// The answer. `/events` is a stream and not answered here, but its method is checked.
pub fn answer(ask: &Ask, state: &State) -> Response {
    let path = match ask.path.as_str() {
        "/" => "/",
        path => path.trim_end_matches('/'),
    };
    if path == "/logs" {
        return not_allowed(ask, state, "POST");
    }
    if !PATHS.contains(&path) {
        let error = format!(
            "path {path:?}: not found; there are POST /logs and GET {}",
            PATHS.join(", ")
        );
        return Response::error(404, ask, state.now, error);
    }
    if !matches!(ask.method.as_str(), "GET" | "HEAD") {
        return not_allowed(ask, state, "GET, HEAD");
    }
    let json = |status, body| Response::json(status, ask, state.now, body);
    match path {
        "/" => page::response(),
        "/metrics" => metrics_answer(ask, state),
        "/health" => {
            let (status, body) = health(state, state.unhealthy(), "healthy", "unhealthy");
            json(status, body)
        }
        "/health/ready" => {
            let (status, body) = health(state, state.unready(), "ready", "not ready");
            json(status, body)
        }
        "/health/live" => {
            let stuck = state.stuck();
            let why = stuck.map(|(shard, s)| format!("shard {shard} has not turned for {s:.0} s"));
            let (status, body) = health(state, why, "alive", "stuck");
            json(status, body)
        }
        "/stats" => json(200, stats(state)),
        "/queue" => json(200, queue(state)),
        "/analyzers" => json(200, analyzers(state)),
        "/audit" => json(
            200,
            json!({
                "holds": state.totals.balance.holds(),
                "line": state.totals.balance.to_string(),
                "ledger": value(&state.ledger),
            }),
        ),
        _ => json(200, Value::Object(Map::new())),
    }
}

fn not_allowed(ask: &Ask, state: &State, allowed: &'static str) -> Response {
    let error = format!(
        "method {} for {}: not allowed; allowed: {allowed}",
        ask.method, ask.path
    );
    Response::error(405, ask, state.now, error).with("Allow", allowed)
}

fn metrics_answer(ask: &Ask, state: &State) -> Response {
    let format = Format::accepted(ask.header("accept"));
    Response {
        status: 200,
        content_type: format.content_type(),
        headers: vec![("Cache-Control", "no-store".into()), ("Vary", "Accept".into())],
        body: metrics::render(state, format).into_bytes(),
    }
}

/// 200, or 503 with the reason.
fn health(
    state: &State,
    why_not: Option<String>,
    good: &'static str,
    bad: &'static str,
) -> (u16, Value) {
    let is_good = why_not.is_none();
    let body = json!({
        "status": if is_good { good } else { bad },
        "reason": why_not,
        "uptime": (state.uptime_s() * 1e3).round() / 1e3,
        "bottleneck": state.bottleneck,
        "version": env!("CARGO_PKG_VERSION"),
    });
    (if is_good { 200 } else { 503 }, body)
}

fn is_processing(state: &State) -> bool {
    let moves = state.rates.of_all(|shard| shard.received + shard.acked) > 0.0;
    moves || state.totals.balance.open() > 0
}

fn stats(state: &State) -> Value {
    let analyzer = |row: &Row| {
        let one = json!({
            "weight": row.weight,
            "isOnline": row.is_online(),
            "totalMessages": row.share.assigned,
            "lastDistribution": row.last_distribution,
            "consecutiveFailures": row.consecutive_failures,
            "standing": row.standing,
            "acked": row.share.acked,
            "ackedPerSecond": row.acked_rate,
            "inFlight": row.in_flight,
            "queued": row.queued,
            "targetShare": row.target_share,
            "realShare": row.share.real_share,
            "shareError": row.share.share_error,
            "shareBound": row.share.share_bound,
        });
        (row.id.to_string(), one)
    };
    let analyzers: Map<String, Value> = state.rows.iter().map(analyzer).collect();
    let totals = view::totals(state);
    let mut body = json!({
        "queueLength": state.totals.balance.open(),
        "isProcessing": is_processing(state),
        "totalAnalyzers": analyzers.len(),
        "onlineAnalyzers": state.rows.iter().filter(|row| row.is_online()).count(),
        "analyzers": analyzers,
        "shards": view::shards(state),
        "uptime": state.uptime_s(),
        "bottleneck": state.bottleneck,
    });
    if let (Some(body), Some(totals)) = (body.as_object_mut(), totals.as_object()) {
        body.extend(totals.clone());
    }
    body
}

fn queue(state: &State) -> Value {
    json!({
        "length": state.totals.balance.open(),
        "isProcessing": is_processing(state),
        "oldestItem": state.oldest_ms(),
        "inFlight": state.totals.balance.in_flight,
        "queued": state.totals.balance.queued,
        "heldBytes": state.rows.iter().map(|row| row.held_bytes).sum::<u64>(),
        "unroutedBytes": state.reports.iter().map(|report| report.unrouted_bytes).sum::<u64>(),
    })
}

/// Analyzers over HTTP have the endpoint that is configured, others none.
fn analyzers(state: &State) -> Value {
    let analyzer = |row: &Row| {
        let entry = state.entry(&row.id);
        json!({
            "id": row.id,
            "endpoint": row.endpoint.clone().unwrap_or_default(),
            "weight": row.weight,
            "isOnline": row.is_online(),
            "consecutiveFailures": row.consecutive_failures,
            "lastHealthCheck": row.last_health_check,
            "kind": row.kind,
            "standing": row.standing,
            "effectiveWeight": entry.map_or(0.0, Entry::effective_weight),
            "pinned": row.pinned,
            "error": row.error,
        })
    };
    let configured: Vec<&str> = state.http.iter().map(|http: &HttpStatus| &*http.id).collect();
    json!({
        "analyzers": state.rows.iter().map(analyzer).collect::<Vec<_>>(),
        "configured": configured,
    })
}
