//! Every setting of a distributor as text, for its certificate.

use std::collections::BTreeMap;
use std::fmt::Display;

use weir_config::Config;
use weir_config::{HttpConfig, Protection, RateLimit};

type Setting = (&'static str, String);

/// Every setting by its flag's name, in base units. Not the instance: it is no setting.
pub fn configuration(config: &Config) -> BTreeMap<String, String> {
    let Config {
        emitters,
        analyzers,
        shards,
        cores,
        accept,
        arena_bytes,
        batch_bytes,
        ingress_bytes,
        frame_bytes_max,
        window_bytes,
        window_messages,
        partial_bytes_max,
        on_slow,
        latency_budget,
        busy_poll,
        zero_copy_bytes,
        zero_copy_loopback,
        ack_timeout,
        peer_timeout,
        frame_timeout,
        connections_max,
        // What descriptors leave, no setting.
        analyzers_max: _,
        dialect,
        without,
        farewell,
        admin,
        http,
        protection,
        instance: _,
    } = config;
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    let settings = [
        ("emitters", emitters.to_string()),
        ("analyzers", analyzers.to_string()),
        ("shards", shards.to_string()),
        ("cores", cores.join(",")),
        ("accept", format!("{accept:?}").to_lowercase()),
        ("arena_bytes", arena_bytes.to_string()),
        ("batch_bytes", batch_bytes.to_string()),
        ("ingress_bytes", ingress_bytes.to_string()),
        ("frame_bytes_max", frame_bytes_max.to_string()),
        ("window_bytes", window_bytes.to_string()),
        ("window_messages", window_messages.to_string()),
        ("partial_bytes_max", partial_bytes_max.to_string()),
        ("on_slow", format!("{on_slow:?}").to_lowercase()),
        ("latency_budget_ns", latency_budget.as_nanos().to_string()),
        ("busy_poll_ns", busy_poll.as_nanos().to_string()),
        ("zero_copy_bytes", zero_copy_bytes.to_string()),
        ("zero_copy_loopback", zero_copy_loopback.to_string()),
        ("ack_timeout_ns", ack_timeout.as_nanos().to_string()),
        ("peer_timeout_ns", peer_timeout.as_nanos().to_string()),
        ("frame_timeout_ns", frame_timeout.as_nanos().to_string()),
        ("connections_max", connections_max.to_string()),
        ("farewell_ns", farewell.as_nanos().to_string()),
        (
            "dialect",
            dialect
                .map_or("auto", |dialect| dialect.as_str())
                .to_owned(),
        ),
        ("without", without.join(",")),
        ("admin", shown(admin.as_ref())),
    ];
    settings
        .into_iter()
        .chain(http_settings(http))
        .chain(protection_settings(protection))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn http_settings(http: &HttpConfig) -> Vec<Setting> {
    let HttpConfig {
        listen,
        body_bytes_max,
        inflated_bytes_max,
        head_bytes_max,
        messages_max,
        memory_bytes_max,
        request_timeout,
        idle_timeout,
        connections_max,
        analyzers,
        pool_connections,
        joined,
        push_timeout,
        push_retries,
        backoff,
        health_interval,
        health_timeout,
        slow_start,
        refused,
        refused_bytes_max,
        refused_memory_bytes_max,
        eject_refusals,
        eject_time,
    } = http;
    let analyzers: Vec<String> = analyzers.iter().map(|each| each.to_string()).collect();
    vec![
        ("http", shown(listen.as_ref())),
        ("http_body_bytes_max", body_bytes_max.to_string()),
        ("http_inflated_bytes_max", inflated_bytes_max.to_string()),
        ("http_head_bytes_max", head_bytes_max.to_string()),
        ("http_messages_max", messages_max.to_string()),
        ("http_memory_bytes_max", memory_bytes_max.to_string()),
        (
            "http_request_timeout_ns",
            request_timeout.as_nanos().to_string(),
        ),
        ("http_idle_timeout_ns", idle_timeout.as_nanos().to_string()),
        ("http_connections_max", connections_max.to_string()),
        ("http_analyzers", analyzers.join(" ")),
        ("http_pool_connections", pool_connections.to_string()),
        ("http_joined_bytes_max", joined.bytes_max.to_string()),
        ("http_joined_messages_max", joined.messages_max.to_string()),
        ("http_push_timeout_ns", push_timeout.as_nanos().to_string()),
        ("http_push_retries", push_retries.to_string()),
        ("http_backoff_ns", backoff.as_nanos().to_string()),
        ("health_interval_ns", health_interval.as_nanos().to_string()),
        ("health_timeout_ns", health_timeout.as_nanos().to_string()),
        ("slow_start_ns", slow_start.as_nanos().to_string()),
        (
            "refused",
            shown(refused.as_ref().map(|path| path.display()).as_ref()),
        ),
        ("refused_bytes_max", refused_bytes_max.to_string()),
        (
            "refused_memory_bytes_max",
            refused_memory_bytes_max.to_string(),
        ),
        ("eject_refusals", eject_refusals.to_string()),
        ("eject_time_ns", eject_time.as_nanos().to_string()),
    ]
}

/// Of tokens only whether there is one.
fn protection_settings(protection: &Protection) -> Vec<Setting> {
    let Protection {
        rate_limit,
        connections_per_address_max,
        allow_emitters,
        allow_analyzers,
        allow_http,
        analyzer_token,
        admin_token,
        cors,
        trusted_proxies,
        http_hosts,
    } = protection;
    let rate = |limit: &RateLimit| format!("{} in {} ns", limit.requests, limit.per.as_nanos());
    let rate_limit = rate_limit.as_ref().map(rate);
    let per_address = connections_per_address_max.to_string();
    vec![
        ("rate_limit", shown(rate_limit.as_ref())),
        ("connections_per_address_max", per_address),
        ("allow_emitters", allow_emitters.to_string()),
        ("allow_analyzers", allow_analyzers.to_string()),
        ("allow_http", allow_http.to_string()),
        ("analyzer_token", analyzer_token.is_some().to_string()),
        ("admin_token", admin_token.is_some().to_string()),
        ("cors", cors.to_string()),
        ("trusted_proxies", trusted_proxies.to_string()),
        ("http_hosts", http_hosts.to_string()),
    ]
}

fn shown(value: Option<&impl Display>) -> String {
    value.map_or("off".into(), |value| value.to_string())
}
