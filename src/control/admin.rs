//! `/admin/...`: what an operator turns. Whoever calls this has checked that the client may.
//!
//! ```text
//! GET    /admin/status /admin/analyzers /admin/config
//! POST   /admin/analyzers/{id}/weight {"weight":0.3,"pin":true,"ramp":"10s"}
//! POST   /admin/analyzers/{id}/unpin | drain | resume | eject
//! POST   /admin/http-analyzers {"id","endpoint","weight"}     DELETE /admin/http-analyzers/{id}
//! GET    /admin/log-level     PUT /admin/log-level {"level":"debug"}
//! POST   /admin/reload {"dryRun":true}     POST /admin/rollback
//! GET    /admin/tap?rate=10&seconds=5      on the admin listener only, see listener.rs
//! ```

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use super::core::{lock, Core};
use super::exchange::{percent_decoded, value, Ask, Response};
use super::health_check::{self, HttpAnalyzer};
use super::ramps::{Ramp, RAMP_MAX};
use super::view::view;
use crate::certificate::Stamp;
use crate::engine::{Order, OrderError};
use crate::shard::OrderRefused;

/// What an answer is made of: a status and a body, or a status and an error.
type Answer = Result<(u16, Value), (u16, String)>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WeightBody {
    weight: f64,
    #[serde(default)]
    pin: bool,
    #[serde(default)]
    ramp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpAnalyzerBody {
    id: String,
    endpoint: String,
    weight: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LevelBody {
    level: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReloadBody {
    #[serde(default)]
    dry_run: bool,
}

/// Does it, and says what came of it.
pub fn handle(core: &Arc<Core>, ask: &Ask) -> Response {
    let path = ask.path.trim_end_matches('/');
    let path = path.strip_prefix("/admin").unwrap_or(path);
    let parts: Vec<String> = path.split('/').skip(1).map(percent_decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let now = Stamp::now();
    let allowed = allowed(&parts);
    if allowed.is_empty() {
        let error = format!("path {:?}: not found under /admin", ask.path);
        return Response::error(404, ask, now, error);
    }
    if !allowed.split(", ").any(|method| method == ask.method) {
        let error = format!("method {} for {}: not allowed; allowed: {allowed}", ask.method, ask.path);
        return Response::error(405, ask, now, error).with("Allow", allowed);
    }
    let answer = match (ask.method.as_str(), &parts[..]) {
        ("GET" | "HEAD", ["status"]) => Ok((200, status(core))),
        ("GET" | "HEAD", ["analyzers"]) => Ok((200, json!({ "analyzers": value(&core.state().rows) }))),
        ("GET" | "HEAD", ["config"]) => Ok((200, config(core))),
        ("GET" | "HEAD", ["log-level"]) => Ok((200, level())),
        ("PUT", ["log-level"]) => set_level(ask),
        ("POST", ["analyzers", id, "weight"]) => weight(core, ask, id),
        ("POST", ["analyzers", id, action]) => act(core, id, action),
        ("POST", ["http-analyzers"]) => add_http(core, ask),
        ("DELETE", ["http-analyzers", id]) => remove_http(core, id),
        ("POST", ["reload"]) => reload(core, ask),
        ("POST", ["rollback"]) => rollback(core),
        _ => Err((404, format!("{}: only on the admin listener", ask.path))),
    };
    match answer {
        Ok((status, body)) => Response::json(status, ask, now, body),
        Err((status, error)) => Response::error(status, ask, now, error),
    }
}

/// Methods of a path; empty: there is no such path.
fn allowed(parts: &[&str]) -> &'static str {
    match parts {
        ["status" | "analyzers" | "config" | "tap"] => "GET, HEAD",
        ["log-level"] => "GET, HEAD, PUT",
        ["analyzers", _, "weight" | "unpin" | "drain" | "resume" | "eject"] => "POST",
        ["http-analyzers" | "reload" | "rollback"] => "POST",
        ["http-analyzers", _] => "DELETE",
        _ => "",
    }
}

/// A body that must have exactly these fields; a fault names the field.
fn body<T: DeserializeOwned>(ask: &Ask) -> Result<T, (u16, String)> {
    let mut json = serde_json::Deserializer::from_slice(&ask.body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        (400, format!("body, field {path}: {}", error.inner()))
    })
}

fn refused(error: OrderRefused) -> (u16, String) {
    let status = match &error {
        OrderRefused::Order(OrderError::Unknown { .. }) => 404,
        OrderRefused::Order(OrderError::BadWeight { .. }) => 400,
        OrderRefused::Order(OrderError::TooManyPins) => 409,
        OrderRefused::Busy | OrderRefused::NoAnswer => 503,
    };
    (status, error.to_string())
}

fn status(core: &Core) -> Value {
    let state = core.state();
    let mut body = view(&state);
    if let Some(body) = body.as_object_mut() {
        let events: Vec<_> = state.events.all().collect();
        body.insert("events".into(), value(events));
        body.insert("httpAnalyzers".into(), value(&state.http));
        body.insert("conservation".into(), json!(state.totals.balance.to_string()));
    }
    body
}

fn config(core: &Core) -> Value {
    let running = core.reloader.as_ref().map(|reloader| reloader.current());
    json!({ "configuration": value(&core.configuration), "file": running })
}

fn level() -> Value {
    json!({ "level": log::max_level().as_str().to_lowercase() })
}

fn set_level(ask: &Ask) -> Answer {
    let LevelBody { level: wanted } = body(ask)?;
    let filter = log::LevelFilter::from_str(&wanted).map_err(|_| {
        let error = format!("level {wanted:?}: allowed: off, error, warn, info, debug, trace");
        (400, error)
    })?;
    log::set_max_level(filter);
    log::info!("log level {wanted}");
    Ok((200, level()))
}

/// `10s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || format!("ramp {text:?}: allowed: a number with ms, s, m or h, {RAMP_MAX:?} at most (10s)");
    let unit_at = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(allowed()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| allowed())? * scale;
    let is_allowed = (0.0..=RAMP_MAX.as_secs_f64()).contains(&seconds);
    is_allowed.then(|| Duration::from_secs_f64(seconds)).ok_or_else(allowed)
}

fn weight(core: &Core, ask: &Ask, id: &str) -> Answer {
    let WeightBody { weight, pin, ramp } = body(ask)?;
    let weight = crate::protocol::valid_weight(weight)
        .ok_or_else(|| refused(OrderRefused::Order(OrderError::BadWeight { weight })))?;
    let over = ramp.as_deref().map_or(Ok(Duration::ZERO), duration);
    let over = over.map_err(|error| (400, error))?;
    let name: Arc<str> = id.into();
    let _one_at_a_time = lock(&core.orders);
    let from = core.state().entry(id).map(|entry| entry.weight);
    let from = from.ok_or_else(|| {
        let name = Arc::clone(&name);
        refused(OrderRefused::Order(OrderError::Unknown { name }))
    })?;
    if over.is_zero() {
        lock(&core.ramps).end(id);
        let order = Order::Weight { name, weight, pin };
        let epoch = core.deck.order(order).map_err(refused)?;
        core.checks.set_weight(id, weight);
        return Ok((200, json!({ "analyzer": id, "weight": weight, "pinned": pin, "epoch": epoch })));
    }
    if pin {
        // What the analyzer says of itself counts no more from now on.
        let order = Order::Weight { name: Arc::clone(&name), weight: from, pin };
        core.deck.order(order).map_err(refused)?;
    }
    let ramp = Ramp {
        from,
        to: weight,
        began_ns: Stamp::now().mono_ns,
        over,
        pin,
        is_slow_start: false,
    };
    lock(&core.ramps).begin(Arc::clone(&name), ramp).map_err(|error| (409, error))?;
    core.checks.set_weight(id, weight);
    core.tell("note", &name, format!("weight {from} -> {weight} over {over:?}"));
    let ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    Ok((202, json!({ "analyzer": id, "from": from, "weight": weight, "pinned": pin, "rampMs": ms })))
}

fn act(core: &Core, id: &str, action: &str) -> Answer {
    let name: Arc<str> = id.into();
    let done = |epoch: u64| Ok((200, json!({ "analyzer": id, "action": action, "epoch": epoch })));
    let _one_at_a_time = lock(&core.orders);
    match action {
        "eject" => {
            lock(&core.ramps).end(id);
            match core.checks.eject(id, true) {
                Some(Some(generation)) => done(core.deck.http_down(generation).map_err(refused)?),
                Some(None) => done(0),
                None => done(core.deck.order(Order::Eject { name }).map_err(refused)?),
            }
        }
        "resume" => {
            let is_checked = core.checks.eject(id, false).is_some();
            core.checks.wake();
            match core.deck.order(Order::Resume { name }) {
                // It comes back with its next check.
                Err(OrderRefused::Order(OrderError::Unknown { .. })) if is_checked => done(0),
                other => done(other.map_err(refused)?),
            }
        }
        "drain" => done(core.deck.order(Order::Drain { name }).map_err(refused)?),
        _ => {
            lock(&core.ramps).end(id);
            done(core.deck.order(Order::Unpin { name }).map_err(refused)?)
        }
    }
}

fn add_http(core: &Arc<Core>, ask: &Ask) -> Answer {
    let HttpAnalyzerBody { id, endpoint, weight } = body(ask)?;
    let analyzer = HttpAnalyzer::new(&id, &endpoint, weight).map_err(|error| (400, error))?;
    let endpoint = analyzer.endpoint.text.clone();
    health_check::add(core, analyzer).map_err(|error| (409, error))?;
    Ok((201, json!({ "id": id, "endpoint": endpoint, "weight": weight })))
}

fn remove_http(core: &Core, id: &str) -> Answer {
    if health_check::remove(core, id) {
        return Ok((200, json!({ "removed": id })));
    }
    let known = core.checks.status();
    let known: Vec<&str> = known.iter().map(|status| &*status.id).collect();
    Err((404, format!("analyzer over HTTP {id:?}: not configured; there are {known:?}")))
}

fn reload(core: &Core, ask: &Ask) -> Answer {
    let ReloadBody { dry_run } = if ask.body.is_empty() {
        ReloadBody::default()
    } else {
        body(ask)?
    };
    let reloader = core.reloader.as_ref().ok_or_else(no_file)?;
    let body = reloader.reload(dry_run).map_err(|error| (422, error))?;
    Ok((200, body))
}

fn rollback(core: &Core) -> Answer {
    let reloader = core.reloader.as_ref().ok_or_else(no_file)?;
    Ok((200, reloader.rollback().map_err(|error| (409, error))?))
}

fn no_file() -> (u16, String) {
    (501, "reload: this distributor was started without a configuration file".into())
}
