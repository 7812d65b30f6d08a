//! The shards of a plan.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::http::HttpPlan;
use super::io::{Provided, SimIo};
use super::mesh::SimMesh;
use super::net::{Net, Port, SimListener};
use super::plan::Plan;
use super::world::PEER_TIMEOUT_NS;
use weir_config::{Config, HttpConfig, Input, Speaks};
use weir_engine::{Protocol, VecMemory};
use weir_shard::Shared;
use weir_shard::{EmitterListener, Listeners, Shard};

pub(super) fn worker(
    plan: &Plan,
    shard: usize,
    config: &Arc<Config>,
    shared: &Arc<Shared>,
    net: &Rc<RefCell<Net>>,
) -> Shard<SimIo> {
    let host = &plan.host;
    let io = SimIo {
        shard,
        net: Rc::clone(net),
        requests: VecDeque::new(),
        completions: VecDeque::new(),
        ingress: Provided::new(host.receive_buffers, host.receive_bytes, host.incremental),
        control: Provided::new(64, 4096, false),
        http: Provided::new(8, 4096, true),
        sent: BTreeMap::new(),
        zero_copy: host.zero_copy > 0,
        no_descriptors_until_ns: 0,
        first_link_number: host.first_number,
    };
    let listener = |port| SimListener {
        shard,
        port,
        net: Rc::clone(net),
    };
    let shard = Shard::new(
        shard as u16, // a few
        Arc::clone(config),
        Arc::clone(shared),
        io,
        VecMemory::new(host.buffers as usize, host.batch_bytes as usize),
        SimMesh::new(shard, plan.shards, host.mesh_messages),
        Listeners {
            emitters: { std::iter::once(Port::Emitters) }
                .chain(inputs(plan).map(|(port, _)| port))
                .map(|port| EmitterListener {
                    listener: Some(listener(port)),
                    outlives: false,
                })
                .collect(),
            analyzers: listener(Port::Analyzers),
            http: Some(listener(Port::Http)),
        },
    );
    shard.busy_from(host.busy_bytes)
}

/// Where senders of other protocols connect, if there are some.
fn inputs(plan: &Plan) -> impl Iterator<Item = (Port, Input)> + '_ {
    const INPUTS: [(Port, Protocol); 2] = [
        (Port::Forward, Protocol::Forward),
        (Port::Lumberjack, Protocol::Lumberjack),
    ];
    let wanted = |port| plan.chained.iter().any(|sender| sender.port() == port);
    let inputs = INPUTS.into_iter().filter(move |(port, _)| wanted(*port));
    inputs.map(|(port, protocol)| {
        let at = ([127, 0, 0, 1], 1 + port as u16).into();
        (port, Input::new(Speaks::Only(vec![protocol]), at))
    })
}

pub(super) fn config(plan: &Plan) -> Config {
    let host = &plan.host;
    let any = ([127, 0, 0, 1], 0).into();
    Config {
        emitters: any,
        analyzers: any,
        shards: plan.shards,
        arena_bytes: host.buffers as usize * host.batch_bytes as usize,
        batch_bytes: host.batch_bytes,
        ingress_bytes: usize::from(host.receive_buffers) * host.receive_bytes,
        frame_bytes_max: host.frame_max,
        window_bytes: host.window_bytes,
        window_messages: host.window_messages,
        partial_bytes_max: host.partial_bytes,
        on_slow: host.on_slow,
        latency_budget: Duration::from_micros(host.latency_budget_us),
        zero_copy_bytes: host.zero_copy,
        zero_copy_loopback: true,
        ack_timeout: Duration::from_millis(host.ack_timeout_ms),
        peer_timeout: Duration::from_nanos(PEER_TIMEOUT_NS),
        frame_timeout: Duration::from_secs(3600),
        connections_max: 1000,
        max_connection_age: Duration::from_millis(host.connection_age_ms),
        farewell_spread: Duration::from_millis(host.farewell_spread_ms),
        http: http_config(&plan.http),
        inputs: inputs(plan).map(|(_, input)| input).collect(),
        instance: plan.seed,
        ..Config::default()
    }
}

fn http_config(plan: &HttpPlan) -> HttpConfig {
    let ms = Duration::from_millis;
    let closed = HttpConfig {
        listen: None,
        ..HttpConfig::default()
    };
    if plan.is_empty() {
        return closed;
    }
    HttpConfig {
        memory_bytes_max: plan.memory_bytes,
        request_timeout: ms(plan.request_timeout_ms),
        pool_connections: plan.pool,
        push_timeout: ms(plan.push_timeout_ms),
        push_retries: plan.push_retries,
        backoff: ms(plan.backoff_ms),
        ..closed
    }
}
