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

use super::page;
use super::response::Response;
use crate::view::exposition::Format;
use crate::view::json::value;
use crate::view::row::{HttpStatus, Kind, Row};
use crate::view::state::State;
use crate::view::{metrics, snapshot, tls};
use weir_engine::Entry;
use weir_http::Ask;

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
    let path = match ask.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    if ask.method == "OPTIONS" && (path == "*" || path == "/logs" || PATHS.contains(&path)) {
        return options(path);
    }
    if path == "/logs" {
        return not_allowed(ask, state, "POST, OPTIONS");
    }
    if !PATHS.contains(&path) {
        let error = format!(
            "path {path:?}: not found; there are POST /logs and GET {}",
            PATHS.join(", ")
        );
        return Response::error(404, ask, state.now, error);
    }
    if !matches!(ask.method.as_str(), "GET" | "HEAD") {
        return not_allowed(ask, state, "GET, HEAD, OPTIONS");
    }
    let json = |status, mut body: Value| {
        if ask.is_stranger {
            body = json!({ "status": body["status"] });
        }
        Response::json(status, ask, state.now, body)
    };
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

/// What may be asked of a path; of `*`, of all.
fn options(path: &str) -> Response {
    let allowed = match path {
        "*" => "GET, HEAD, POST, OPTIONS",
        "/logs" => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    };
    Response {
        status: 204,
        content_type: "",
        headers: vec![("Allow", allowed.into())],
        body: Vec::new(),
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
        headers: vec![
            ("Cache-Control", "no-store".into()),
            ("Vary", "Accept".into()),
        ],
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
        "warnings": warnings(state),
        "version": env!("CARGO_PKG_VERSION"),
    });
    (if is_good { 200 } else { 503 }, body)
}

/// What does not keep it from its work yet: a configuration that was not taken, certificates that end.
fn warnings(state: &State) -> Vec<String> {
    let mut warnings = tls::warnings(state);
    warnings.extend(state.config_problem.clone());
    warnings
}

fn is_processing(state: &State) -> bool {
    let moves = state.rates.of_all(|shard| shard.received + shard.acked) > 0.0;
    moves || state.totals.balance.open() > 0
}

fn stats(state: &State) -> Value {
    let analyzer = |row: &Row| {
        let mut one = json!({
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
        if row.kind == Kind::Http {
            let (posts, now) = (state.posts.of(&row.id), state.posts_now(&row.id));
            one["posts"] = json!({
                "sent": posts.sent,
                "failed": posts.failed,
                "refused": posts.refused,
                "inFlight": now.in_flight,
                "connections": now.connections,
            });
        }
        (row.id.to_string(), one)
    };
    let analyzers: Map<String, Value> = state.rows.iter().map(analyzer).collect();
    let totals = snapshot::totals(state);
    let mut body = json!({
        "queueLength": state.totals.balance.open(),
        "isProcessing": is_processing(state),
        "totalAnalyzers": analyzers.len(),
        "onlineAnalyzers": state.rows.iter().filter(|row| row.is_online()).count(),
        "analyzers": analyzers,
        "shards": snapshot::shards(state),
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
            "certificate": row.certificate,
            "kind": row.kind,
            "protocol": row.protocol,
            "acks": row.acks,
            "standing": row.standing,
            "effectiveWeight": entry.map_or(0.0, Entry::effective_weight),
            "pinned": row.pinned,
            "rampWeight": row.ramp_weight,
            "error": row.error,
        })
    };
    let configured: Vec<&str> = state
        .http
        .iter()
        .map(|http: &HttpStatus| &*http.id)
        .collect();
    json!({
        "analyzers": state.rows.iter().map(analyzer).collect::<Vec<_>>(),
        "configured": configured,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{at, Fake};

    fn ask(method: &str, path: &str, state: &State) -> (u16, Value, Response) {
        let ask = Ask {
            worker: 1,
            ..Ask::new(method, path)
        };
        let response = answer(&ask, state);
        let body = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        (response.status, body, response)
    }

    fn get(path: &str, state: &State) -> Value {
        let (status, body, _) = ask("GET", path, state);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn busy() -> (Fake, State) {
        let mut fake = Fake::new(&[0.1, 0.3]);
        let mut state = fake.state();
        fake.route("a1", 100, 40, 700);
        fake.route("a2", 300, 300, 900);
        state.http.push(HttpStatus {
            id: "h1".into(),
            endpoint: "http://127.0.0.1:8090/in".into(),
            weight: 0.5,
            is_healthy: Some(false),
            last_health_check: Some(1_795_305_137_000),
            consecutive_failures: 2,
            ejected: false,
            ejections: 0,
            error: Some("refused".into()),
        });
        fake.note(&mut state, 5500);
        (fake, state)
    }

    /// Same fields of the same types as `like` has; more are allowed.
    fn assert_like(found: &Value, like: &Value, at: &str) {
        match (found, like) {
            (Value::Object(found), Value::Object(like)) => {
                for (name, like) in like {
                    let field = found
                        .get(name)
                        .unwrap_or_else(|| panic!("{at}.{name}: missing"));
                    assert_like(field, like, &format!("{at}.{name}"));
                }
            }
            (Value::Array(found), Value::Array(like)) => {
                assert!(!found.is_empty(), "{at}: empty");
                for one in found {
                    assert_like(one, &like[0], at);
                }
            }
            (found, like) => {
                let (found, like) = (std::mem::discriminant(found), std::mem::discriminant(like));
                assert_eq!(found, like, "{at}");
            }
        }
    }

    #[test]
    fn shapes_are_those_that_clients_know() {
        let (_, state) = busy();
        let analyzer = json!({"weight": 0.1, "isOnline": true, "totalMessages": 0,
            "lastDistribution": 1_795_305_132_065_u64, "consecutiveFailures": 0});
        for (path, like) in [
            ("/health", json!({"status": "healthy", "uptime": 1.8})),
            (
                "/stats",
                json!({"queueLength": 0, "isProcessing": true, "totalAnalyzers": 1,
                "analyzers": {"a1": analyzer, "a2": analyzer}}),
            ),
            (
                "/queue",
                json!({"length": 0, "isProcessing": true, "oldestItem": 1_795_305_132_065_u64}),
            ),
            (
                "/analyzers",
                json!({"analyzers": [{"id": "a1", "endpoint": "", "weight": 0.1,
                "isOnline": true, "consecutiveFailures": 0}]}),
            ),
        ] {
            let body = get(path, &state);
            assert_like(&body, &like, path);
            assert_eq!(body["worker"], json!(1));
            let time = body["timestamp"].as_str().expect("text");
            assert_eq!(time, "2026-11-21T23:52:17.500Z");
        }
    }

    #[test]
    fn numbers_are_those_of_the_shards() {
        let (mut fake, mut state) = busy();
        let stats = get("/stats", &state);
        assert_eq!(stats["queueLength"], json!(120));
        assert_eq!(stats["received"], json!(800));
        assert_eq!(stats["acked"], json!(680));
        assert_eq!(stats["analyzers"]["a2"]["totalMessages"], json!(600));
        assert_eq!(stats["analyzers"]["a1"]["inFlight"], json!(120));
        assert_eq!(stats["analyzers"]["a1"]["targetShare"], json!(0.25));
        assert_eq!(stats["analyzers"]["h1"]["isOnline"], json!(false));
        assert_eq!(stats["totalAnalyzers"], json!(3));
        assert!(stats["receivedPerSecond"].as_f64().expect("number") > 100.0);
        let queue = get("/queue", &state);
        assert_eq!(queue["oldestItem"], json!(unix_ms_of(5500)));
        assert_eq!(queue["heldBytes"], json!(12_000));
        let last = &stats["analyzers"]["a1"]["lastDistribution"];
        assert_eq!(*last, json!(unix_ms_of(5500)));
        let analyzers = get("/analyzers", &state);
        let h1 = &analyzers["analyzers"][2];
        assert_eq!(h1["endpoint"], json!("http://127.0.0.1:8090/in"));
        assert_eq!(
            (&h1["consecutiveFailures"], &h1["weight"]),
            (&json!(2), &json!(0.5))
        );
        assert_eq!(h1["lastHealthCheck"], json!(1_795_305_137_000_u64));

        let audit = get("/audit", &state);
        assert_eq!(audit["holds"], json!(true));
        let ledger: weir_ledger::run_report::Ledger =
            serde_json::from_value(audit["ledger"].clone()).expect("as in the run report");
        assert_eq!(ledger, state.ledger);

        // All ACKed and nothing moves: nothing is old.
        fake.route("a1", 0, 0, 1);
        for report in &mut fake.reports {
            let lane = &mut report.lanes[0];
            (lane.acked, lane.in_flight) = (lane.assigned, 0);
            (report.balance.acked, report.balance.in_flight) = (report.balance.received, 0);
        }
        for half in 12..=40 {
            fake.note(&mut state, half * 500);
        }
        let queue = get("/queue", &state);
        assert_eq!(
            (&queue["oldestItem"], &queue["length"]),
            (&Value::Null, &json!(0))
        );
        assert_eq!(queue["isProcessing"], json!(false));
    }

    fn unix_ms_of(ms: u64) -> u64 {
        at(ms).unix_ns / 1_000_000
    }

    #[test]
    fn health_warns_of_certificates_that_end_and_of_a_configuration_that_was_not_taken() {
        let (mut fake, mut state) = busy();
        let (_, body, _) = ask("GET", "/health", &state);
        assert_eq!(body["warnings"], json!([]));
        let now_s = i64::try_from(state.now.unix_ns / 1_000_000_000).expect("a time");
        fake.reports[0].tls.push(weir_shard::port::TlsCounts {
            port: "emitters".to_owned(),
            certificates: vec![
                ("0a".to_owned(), now_s + 3 * 86_400 + 60),
                ("0b".to_owned(), now_s + 90 * 86_400),
            ],
            ..Default::default()
        });
        state.config_problem = Some("TLS: a.pem: not PEM".to_owned());
        fake.note(&mut state, 6000);
        let (status, body, _) = ask("GET", "/health", &state);
        assert_eq!((status, &body["status"]), (200, &json!("healthy")));
        let warnings = body["warnings"].as_array().expect("a list");
        assert_eq!(warnings.len(), 2, "{body}");
        let first = warnings[0].as_str().expect("text");
        let begin = "TLS at emitters: the certificate 0a expires in 3 days, on ";
        assert!(first.starts_with(begin), "{first}");
        assert_eq!(warnings[1], "TLS: a.pem: not PEM");
    }

    #[test]
    fn health_says_why() {
        let (mut fake, mut state) = busy();
        assert_eq!(ask("GET", "/health/ready", &state).0, 200);
        assert_eq!(ask("GET", "/health/live", &state).0, 200);
        fake.leave("a1");
        fake.leave("a2");
        fake.note(&mut state, 6000);
        let (status, body, _) = ask("GET", "/health/ready", &state);
        assert_eq!((status, &body["status"]), (503, &json!("not ready")));
        assert!(body["reason"]
            .as_str()
            .expect("text")
            .starts_with("no analyzer"));
        let (status, body, _) = ask("GET", "/health", &state);
        assert_eq!((status, &body["status"]), (200, &json!("healthy")));
        assert!(body["bottleneck"]
            .as_str()
            .expect("text")
            .starts_with("no analyzer"));
        state.draining = true;
        let (status, body, _) = ask("GET", "/health", &state);
        assert_eq!((status, &body["status"]), (503, &json!("unhealthy")));
        state.draining = false;
        state.totals.balance.acked += 1;
        let (status, body, _) = ask("GET", "/health", &state);
        assert_eq!(status, 503);
        assert!(body["reason"].as_str().expect("text").contains("BROKEN"));
    }

    #[test]
    fn a_distributor_is_ready_when_every_shard_has_an_analyzer() {
        let (mut fake, mut state) = busy();
        let ready = |state: &State| {
            let (status, body, _) = ask("GET", "/health/ready", state);
            (status, body["reason"].as_str().unwrap_or("none").to_owned())
        };
        assert_eq!(ready(&state), (200, "none".into()));
        // Both are there, and the second shard has no link to either.
        let lanes = std::mem::take(&mut fake.reports[1].lanes);
        fake.note(&mut state, 6000);
        let (status, why) = ready(&state);
        assert_eq!(status, 503, "{why}");
        assert!(
            why.starts_with("shard 1 of 2 has no analyzer that takes messages"),
            "{why}"
        );
        assert_eq!(ask("GET", "/health/live", &state).0, 200);
        // A link that is going does not count, nor one to an analyzer that drains.
        fake.reports[1].lanes = lanes;
        fake.reports[1].lanes[0].down = true;
        fake.roster(|entries| entries[1].draining = true);
        fake.note(&mut state, 6500);
        assert_eq!(ready(&state).0, 503);
        // Every shard hands its batches to the one that has the only link.
        fake.roster(|entries| {
            entries[1].draining = false;
            entries[1].reach = weir_engine::Reach::SingleLink {
                home: 0,
                epoch: weir_engine::LinkEpoch::new(0, 9),
            };
        });
        fake.reports[1].lanes.clear();
        fake.note(&mut state, 7000);
        assert_eq!(ready(&state), (200, "none".into()));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let (_, state) = busy();
        let (status, body, _) = ask("GET", "/nothing", &state);
        assert_eq!(status, 404);
        assert!(body["error"]
            .as_str()
            .expect("text")
            .contains("\"/nothing\""));
        for (method, path, allowed) in [
            ("POST", "/stats", "GET, HEAD, OPTIONS"),
            ("DELETE", "/", "GET, HEAD, OPTIONS"),
            ("GET", "/logs", "POST, OPTIONS"),
        ] {
            let (status, body, response) = ask(method, path, &state);
            assert_eq!(status, 405, "{method} {path}");
            assert!(response.headers.contains(&("Allow", allowed.into())));
            assert!(body["error"].as_str().expect("text").contains(method));
        }
        assert_eq!(ask("HEAD", "/health/", &state).0, 200);
        let (_, _, page) = ask("GET", "/", &state);
        assert!(page.content_type.starts_with("text/html"));
    }
}
