//! `/admin/...`: what an operator turns. Whoever calls this has checked that the client may.
//!
//! ```text
//! GET    /admin/status /admin/analyzers /admin/config
//! GET    /admin/dead-letters?limit=100  the newest packets that nobody took
//! POST   /admin/analyzers/{id}/weight {"weight":0.3,"pin":true,"ramp":"10s"}
//! POST   /admin/analyzers/{id}/unpin | drain | resume | eject
//! POST   /admin/http-analyzers {"id","endpoint","weight"}     DELETE /admin/http-analyzers/{id}
//! GET    /admin/log-level     PUT /admin/log-level {"level":"debug"}
//! POST   /admin/reload {"dryRun":true,"force":true}     POST /admin/rollback
//! GET    /admin/tap?rate=10&seconds=5      on the admin listener only, see listener.rs
//! ```

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use super::response::Response;
use crate::core::Core;
use crate::executor::hand::aside;
use crate::executor::Context;
use crate::health;
use crate::health::ramps::{Ramp, RAMP_MAX};
use crate::lock::lock;
use crate::view::json::value;
use crate::view::snapshot::view;
use weir_config::{HttpAnalyzer, Place};
use weir_engine::{Order, OrderError};
use weir_http::{percent_decoded, Ask};
use weir_ledger::run_report::Stamp;
use weir_protocol::text::Time;
use weir_protocol::WeightText;
use weir_shard::{OrderRefused, RefusedPackets};
use weir_tls::KeyLogger;

/// What an answer is made of: a status and a body, or a status and an error.
type Answer = Result<(u16, Value), (u16, String)>;

/// Refused packets that are shown when nobody says how many.
const REFUSED_SHOWN: usize = 100;
/// Bytes of them at most, whoever says how many.
const REFUSED_BYTES_SHOWN: usize = 4 << 20;

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
    #[serde(default)]
    force: bool,
}

/// Does it, without keeping the executor waiting: what only looks at once; orders by the hand; what waits for files
/// by a thread of its own.
pub async fn answer(context: &Context, ask: &Ask) -> Response {
    let core = &context.core;
    let path = ask.path.trim_end_matches('/');
    let is_of_files = ["/admin/config", "/admin/reload", "/admin/rollback"].contains(&path);
    if matches!(ask.method.as_str(), "GET" | "HEAD") && !is_of_files {
        return handle(core, ask);
    }
    let work = {
        let (core, ask) = (Arc::clone(core), ask.clone());
        move || handle(&core, &ask)
    };
    let done = match is_of_files {
        true => aside("admin", &core.bell, work).await,
        false => Ok(context.hand.run(work).await),
    };
    let failed = |status, text: String| Response::error(status, ask, Stamp::now(), text);
    match done {
        Ok(Some(response)) => response,
        Ok(None) => failed(500, "the order failed within Weir: its log says how".into()),
        Err(error) => failed(503, format!("no thread for the order: {error}")),
    }
}

/// Does it, and says what came of it. May wait for the shards, and for files.
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
        let error = format!(
            "method {} for {}: not allowed; allowed: {allowed}",
            ask.method, ask.path
        );
        return Response::error(405, ask, now, error).with("Allow", allowed);
    }
    // What is asked there is answered as if it had been understood.
    if !ask.query.is_empty() && !matches!(parts[..], ["tap" | "dead-letters" | "refused"]) {
        let error = format!(
            "query {:?}: this path has none; what it takes is in its body, as JSON",
            ask.query
        );
        return Response::error(400, ask, now, error);
    }
    let answer = match (ask.method.as_str(), &parts[..]) {
        ("GET" | "HEAD", ["status"]) => Ok((200, status(core))),
        ("GET" | "HEAD", ["analyzers"]) => {
            Ok((200, json!({ "analyzers": value(&core.state().rows) })))
        }
        ("GET" | "HEAD", ["config"]) => Ok((200, config(core))),
        ("GET" | "HEAD", ["dead-letters" | "refused"]) => refused_packets(core, ask),
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
        ["status" | "analyzers" | "config" | "dead-letters" | "refused" | "tap"] => "GET, HEAD",
        ["log-level"] => "GET, HEAD, PUT",
        ["analyzers", _, "weight" | "unpin" | "drain" | "resume" | "eject"] => "POST",
        ["http-analyzers" | "reload" | "rollback"] => "POST",
        ["http-analyzers", _] => "DELETE",
        _ => "",
    }
}

/// A body that must have exactly these fields; a fault names the field.
fn body<T: DeserializeOwned>(ask: &Ask) -> Result<T, (u16, String)> {
    let bytes = ask.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&ask.body);
    if bytes.is_empty() {
        return Err((
            400,
            "the body is empty; allowed: JSON, with header Content-Length".to_owned(),
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        (400, format!("body, field {path}: {}", error.inner()))
    })
}

fn refused(error: OrderRefused) -> (u16, String) {
    let status = match &error {
        OrderRefused::Order(OrderError::Unknown { .. }) => 404,
        OrderRefused::Order(OrderError::BadWeight { .. }) => 400,
        OrderRefused::Order(
            OrderError::TooManyPins
            | OrderError::TooManyDrains
            | OrderError::TooManyAnalyzers { .. },
        )
        | OrderRefused::InUse(_) => 409,
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
        body.insert("httpGroups".into(), value(&state.groups));
        body.insert(
            "conservation".into(),
            json!(state.totals.balance.to_string()),
        );
    }
    body
}

fn config(core: &Core) -> Value {
    let running = core.reloader.as_ref().map(|reloader| reloader.current());
    json!({ "configuration": value(&core.configuration), "file": running })
}

/// The newest packets that nobody took and that are in no file, as far as an answer has room for them.
fn refused_packets(core: &Core, ask: &Ask) -> Answer {
    let limit = match ask.query.strip_prefix("limit=") {
        None if ask.query.is_empty() => Some(REFUSED_SHOWN),
        None => None,
        Some(text) => text.parse().ok(),
    };
    let limit = limit.ok_or_else(|| {
        let error = format!(
            "query {:?}: allowed: limit, a number of packets (limit=100)",
            ask.query
        );
        (400, error)
    })?;
    let RefusedPackets { packets, counts } = core.data_plane.refused();
    let mut room = REFUSED_BYTES_SHOWN;
    let newest = packets.iter().rev().take(limit);
    let fits = newest.take_while(|packet| {
        let fits = packet.packet.len() <= room;
        room = room.saturating_sub(packet.packet.len());
        fits
    });
    let mut shown: Vec<Value> = fits
        .map(|packet| {
            let time = weir_http::iso8601(packet.unix_ms);
            let json: Option<Value> = serde_json::from_slice(&packet.packet).ok();
            json!({
                "time": String::from_utf8_lossy(&time),
                "analyzer": packet.analyzer,
                "status": packet.status,
                "messages": packet.messages,
                "bytes": packet.packet.len(),
                "packet": json,
            })
        })
        .collect();
    shown.reverse();
    let body = json!({
        "kept": counts.packets,
        "messages": counts.messages,
        "bytes": counts.bytes,
        "bytesMax": counts.bytes_max,
        "forgotten": counts.forgotten,
        "forgottenMessages": counts.forgotten_messages,
        "packets": shown,
    });
    Ok((200, body))
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
    let allowed = || {
        let most = Time(RAMP_MAX);
        format!("ramp {text:?}: allowed: a number with ms, s, m or h, {most} at most (10s)")
    };
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
    is_allowed
        .then(|| Duration::from_secs_f64(seconds))
        .ok_or_else(allowed)
}

fn weight(core: &Core, ask: &Ask, id: &str) -> Answer {
    let WeightBody { weight, pin, ramp } = body(ask)?;
    let weight = weir_protocol::valid_weight(weight)
        .ok_or_else(|| refused(OrderRefused::Order(OrderError::BadWeight { weight })))?;
    let over = ramp.as_deref().map_or(Ok(Duration::ZERO), duration);
    let over = over.map_err(|error| (400, error))?;
    let name: Arc<str> = id.into();
    let _one_at_a_time = lock(&core.orders);
    let from = core.weight_now(id).ok_or_else(|| {
        let name = Arc::clone(&name);
        refused(OrderRefused::Order(OrderError::Unknown { name }))
    })?;
    // Its own weight waits behind a pin: it has that again when it is unpinned.
    let is_pinned = pin || core.state().entry(id).is_some_and(|entry| entry.pinned);
    if over.is_zero() {
        lock(&core.ramps).end(id);
        let order = Order::Weight { name, weight, pin };
        let epoch = core.data_plane.order(order).map_err(refused)?;
        if !is_pinned {
            core.checks.set_weight(id, weight);
        }
        return Ok((
            200,
            json!({ "analyzer": id, "weight": weight, "pinned": pin, "epoch": epoch }),
        ));
    }
    if pin {
        // What the analyzer says of itself counts no more from now on.
        let order = Order::Weight {
            name: Arc::clone(&name),
            weight: from,
            pin,
        };
        core.data_plane.order(order).map_err(refused)?;
    }
    let ramp = Ramp {
        from,
        to: weight,
        began_ns: Stamp::now().mono_ns,
        over,
        pin,
        is_slow_start: false,
    };
    core.begin_ramp(&name, ramp).map_err(|error| (409, error))?;
    if !is_pinned {
        core.checks.set_weight(id, weight);
    }
    core.tell(
        "note",
        &name,
        format!(
            "weight {} -> {} over {}",
            WeightText(from),
            WeightText(weight),
            Time(over)
        ),
    );
    let ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    Ok((
        202,
        json!({ "analyzer": id, "from": from, "weight": weight, "pinned": pin, "rampMs": ms }),
    ))
}

fn act(core: &Core, id: &str, action: &str) -> Answer {
    let name: Arc<str> = id.into();
    let done = |epoch: u64| {
        Ok((
            200,
            json!({ "analyzer": id, "action": action, "epoch": epoch }),
        ))
    };
    let _one_at_a_time = lock(&core.orders);
    match action {
        "eject" => {
            lock(&core.ramps).end(id);
            match core.checks.eject(id, true) {
                Some(Some(generation)) => {
                    done(core.data_plane.http_down(generation).map_err(refused)?)
                }
                Some(None) => done(0),
                None => done(
                    core.data_plane
                        .order(Order::Eject { name })
                        .map_err(refused)?,
                ),
            }
        }
        "resume" => {
            let is_checked = core.checks.eject(id, false).is_some();
            match core.data_plane.order(Order::Resume { name }) {
                // It comes back with its next check.
                Err(OrderRefused::Order(OrderError::Unknown { .. })) if is_checked => done(0),
                other => done(other.map_err(refused)?),
            }
        }
        "drain" => done(
            core.data_plane
                .order(Order::Drain { name })
                .map_err(refused)?,
        ),
        _ => {
            lock(&core.ramps).end(id);
            done(
                core.data_plane
                    .order(Order::Unpin { name })
                    .map_err(refused)?,
            )
        }
    }
}

fn add_http(core: &Arc<Core>, ask: &Ask) -> Answer {
    let HttpAnalyzerBody {
        id,
        endpoint,
        weight,
    } = body(ask)?;
    let key_log = core.key_log().as_deref().map(KeyLogger::new).transpose();
    let key_log = key_log.map_err(|unusable| (409, format!("--tls-key-log {unusable}")))?;
    let analyzer = endpoint
        .parse::<Place>()
        .and_then(|place| match place.delivery.local() {
            // Who may set weights may not start programs and write files.
            Some(_) => Err("allowed: in the configuration file, and by flags".to_owned()),
            None => Ok(place),
        })
        .map_err(|error| format!("endpoint {endpoint:?}: {error}"))
        .and_then(|place| {
            let analyzer = HttpAnalyzer::new(&id, place, weight);
            let analyzer =
                analyzer.and_then(|mut one| one.resolve(key_log.as_ref(), None).map(|()| one));
            analyzer.map_err(|error| format!("id {id:?}, weight {}: {error}", WeightText(weight)))
        })
        .map_err(|error| (400, error))?;
    analyzer
        .check_chain(core.chained_input.as_deref())
        .map_err(|error| (409, format!("id {id:?}: {error}")))?;
    health::add(core, &analyzer).map_err(|error| (409, error))?;
    if let (Some(_), Some(reloader)) = (analyzer.delivery().link(), &core.reloader) {
        reloader.added();
    }
    let endpoint = analyzer.place().to_string();
    Ok((
        201,
        json!({ "id": id, "endpoint": endpoint, "weight": weight }),
    ))
}

fn remove_http(core: &Core, id: &str) -> Answer {
    if health::remove(core, id) {
        return Ok((200, json!({ "removed": id })));
    }
    let known = core.checks.status();
    let known: Vec<&str> = known.iter().map(|status| &*status.id).collect();
    Err((
        404,
        format!("analyzer over HTTP {id:?}: not configured; there are {known:?}"),
    ))
}

fn reload(core: &Core, ask: &Ask) -> Answer {
    let ReloadBody { dry_run, force } = if ask.body.is_empty() {
        ReloadBody::default()
    } else {
        body(ask)?
    };
    let reloader = core.reloader.as_ref().ok_or_else(no_file)?;
    let body = reloader
        .reload(dry_run, force)
        .map_err(|error| (422, error))?;
    Ok((200, body))
}

fn rollback(core: &Core) -> Answer {
    let reloader = core.reloader.as_ref().ok_or_else(no_file)?;
    Ok((200, reloader.rollback().map_err(|error| (409, error))?))
}

fn no_file() -> (u16, String) {
    (
        501,
        "reload: this distributor was started without a configuration file".into(),
    )
}

#[cfg(test)]
mod tests;
