//! "What if analyzer 3 dies at 80 % load?": a topology out of a file, played on virtual time.
//!
//! It answers for routing, windows, re-routes and backpressure, which are the real ones. CPU time is
//! not simulated: a shard here is never the bottleneck.

use std::fmt;

use serde::Deserialize;

use super::http::HttpPlan;
use super::plan::{AnalyzerPlan, EmitterPlan, Ending, Fault, HostPlan, Noise, Plan, What, MS};
use super::world::World;
use weir_engine::OnSlow;
use weir_shard::BUSY_BYTES;
use weir_sink::Dialect;

/// A file. All times are in seconds, all sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// How long messages are sent.
    #[serde(default = "ten")]
    seconds: f64,
    /// Messages per second, all emitters together, or
    rate: Option<f64>,
    /// a part of what all analyzers together can take.
    load: Option<f64>,
    #[serde(default)]
    distributor: Distributor,
    #[serde(default)]
    emitters: Emitters,
    #[serde(default, rename = "analyzer")]
    analyzers: Vec<Analyzer>,
    #[serde(default, rename = "event")]
    events: Vec<Event>,
}

fn ten() -> f64 {
    10.0
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Distributor {
    shards: usize,
    arena: u32,
    batch: u32,
    window: u64,
    on_slow: String,
    ack_timeout: f64,
}

impl Default for Distributor {
    fn default() -> Distributor {
        Distributor {
            shards: 1,
            arena: 64 << 20,
            batch: 128 << 10,
            window: 16 << 20,
            on_slow: "spill".into(),
            ack_timeout: 30.0,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Emitters {
    connections: usize,
    size: u32,
}

impl Default for Emitters {
    fn default() -> Emitters {
        Emitters {
            connections: 8,
            size: 256,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Analyzer {
    name: String,
    weight: f64,
    /// Messages per second that it can take.
    capacity: Option<f64>,
    #[serde(default = "native")]
    dialect: String,
    #[serde(default = "ack_every")]
    ack_every: u32,
    /// When it connects.
    #[serde(default)]
    joins: f64,
}

fn native() -> String {
    "native".into()
}

fn ack_every() -> u32 {
    64
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    at: f64,
    analyzer: String,
    what: String,
    /// How long it lasts; without it: to the end.
    r#for: Option<f64>,
    weight: Option<f64>,
}

/// The simulator remembers every message.
const MESSAGES_MAX: f64 = 1e7;
const EVENTS: &str = "die, vanish, stall, leave, drain, weight";

/// A topology that can be played.
pub struct Topology {
    plan: Plan,
    names: Vec<String>,
}

impl Topology {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Line, key, value and what is allowed.
    pub fn parse(text: &str, seed: u64) -> Result<Topology, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.check()?;
        let names = file.analyzers.iter().map(|a| a.name.clone()).collect();
        Ok(Topology {
            plan: file.plan(seed)?,
            names,
        })
    }

    /// Plays it, and lets everything recover at the end, so that the account is complete.
    ///
    /// # Errors
    /// What was found to be wrong with the distributor.
    pub fn play(&self) -> Result<Played, String> {
        super::catch(|| {
            let mut world = World::new(self.plan.clone());
            world.keep_scene();
            world.run()?;
            let scene = world.scene.take().ok_or("it ended before its time")?;
            Ok(Played {
                names: self.names.clone(),
                scene,
                duplicates: world.oracle.duplicates,
                // The last is the world's own: does a fresh message get through?
                messages: world.oracle.messages.len() as u64 - 1,
                acked: world.oracle.acked - 1,
            })
        })
    }
}

fn in_range(key: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}: {low} to {high} allowed"))
}

impl File {
    fn check(&self) -> Result<(), String> {
        in_range("seconds", self.seconds, 0.1, 600.0)?;
        let host = &self.distributor;
        in_range("distributor.shards", host.shards as f64, 1.0, 64.0)?;
        in_range("distributor.batch", f64::from(host.batch), 4096.0, 16e6)?;
        in_range("distributor.arena", f64::from(host.arena), 1e6, 1e9)?;
        in_range("distributor.ack_timeout", host.ack_timeout, 0.1, 3600.0)?;
        let size = f64::from(self.emitters.size);
        in_range("emitters.size", size, 9.0, 65_536.0)?;
        in_range(
            "emitters.connections",
            self.emitters.connections as f64,
            1.0,
            1000.0,
        )?;
        let fits = f64::from(host.arena) / f64::from(host.batch) / 6.0 - 2.0;
        in_range(
            "number of analyzers",
            self.analyzers.len() as f64,
            1.0,
            fits,
        )?;
        for analyzer in &self.analyzers {
            let key = |key: &str| format!("analyzer {}: {key}", analyzer.name);
            in_range(&key("weight"), analyzer.weight, 0.0, 1e6)?;
            in_range(&key("ack_every"), f64::from(analyzer.ack_every), 1.0, 1e6)?;
            in_range(&key("capacity"), analyzer.capacity.unwrap_or(1.0), 1.0, 1e9)?;
            in_range(&key("joins"), analyzer.joins, 0.0, self.seconds)?;
        }
        for event in &self.events {
            in_range("event: at", event.at, 0.0, self.seconds)?;
            in_range("event: for", event.r#for.unwrap_or(0.0), 0.0, 600.0)?;
        }
        match (self.rate, self.load) {
            (Some(rate), None) => in_range("rate", rate, 1.0, 1e6)?,
            (None, Some(load)) => in_range("load", load, 0.001, 10.0)?,
            _ => return Err("one of rate and load is needed, and only one".into()),
        }
        let messages = self.rate()? * self.seconds;
        in_range("messages (rate x seconds)", messages, 1.0, MESSAGES_MAX)
    }

    fn rate(&self) -> Result<f64, String> {
        if let Some(rate) = self.rate {
            return Ok(rate);
        }
        let capacities: Option<f64> = self.analyzers.iter().map(|a| a.capacity).sum();
        let capacity = capacities.ok_or("load needs the capacity of every analyzer")?;
        let rate = capacity * self.load.unwrap_or(1.0);
        in_range("load x capacity", rate, 1.0, 1e6)?;
        Ok(rate)
    }

    fn plan(&self, seed: u64) -> Result<Plan, String> {
        let rate = self.rate()?;
        let connections = self.emitters.connections;
        let messages = rate * self.seconds / connections as f64;
        let emitter = EmitterPlan {
            messages: messages as u32, // at most MESSAGES_MAX
            payload_max: self.emitters.size - 5,
            pause_ns: MS,
            write_max: 1 << 16,
            garbage_after: None,
            every_ns: Some((connections as f64 * 1e9 / rate) as u64), // below a day
            polite: true,
        };
        let analyzers = self.analyzers.iter().map(Analyzer::plan);
        let analyzers = analyzers.collect::<Result<Vec<_>, String>>()?;
        let faults = self.events.iter().map(|event| self.fault(event));
        let mut faults = faults.collect::<Result<Vec<_>, String>>()?;
        faults.sort_by_key(|fault| fault.at_ms);
        Ok(Plan {
            seed,
            shards: self.distributor.shards,
            host: self.distributor.plan(self.emitters.size)?,
            noise: Noise::none(),
            emitters: vec![emitter; connections],
            acked: Vec::new(),
            chained: Vec::new(),
            analyzers,
            http: HttpPlan::default(),
            faults,
            calm_ms: (self.seconds * 1e3) as u64, // at most ten minutes
            ending: Ending::Calm,
        })
    }

    fn fault(&self, event: &Event) -> Result<Fault, String> {
        let named = |analyzer: &Analyzer| analyzer.name == event.analyzer;
        let Some(analyzer) = self.analyzers.iter().position(named) else {
            let names: Vec<&str> = self.analyzers.iter().map(|a| a.name.as_str()).collect();
            return Err(format!(
                "event: analyzer = \"{}\": one of {} allowed",
                event.analyzer,
                names.join(", ")
            ));
        };
        // For ever is longer than any run.
        let for_ms = event
            .r#for
            .map_or(1 << 32, |seconds| (seconds * 1e3) as u64);
        let what = match event.what.as_str() {
            "die" => What::Crash {
                analyzer,
                reset: true,
                back_ms: for_ms,
            },
            "vanish" => What::Vanish {
                analyzer,
                back_ms: for_ms,
            },
            "stall" => What::Stall { analyzer, for_ms },
            "leave" => What::Leave {
                analyzer,
                back_ms: for_ms,
            },
            "drain" => What::Drain { analyzer },
            "weight" => {
                let weight = event
                    .weight
                    .ok_or("event: what = \"weight\" needs a weight")?;
                in_range("event: weight", weight, 0.0, 1e6)?;
                What::Weight { analyzer, weight }
            }
            other => {
                return Err(format!(
                    "event: what = \"{other}\": one of {EVENTS} allowed"
                ))
            }
        };
        let at_ms = (event.at * 1e3) as u64; // at most ten minutes
        Ok(Fault { at_ms, what })
    }
}

impl Distributor {
    fn plan(&self, size: u32) -> Result<HostPlan, String> {
        let on_slow = match self.on_slow.as_str() {
            "spill" => OnSlow::Spill,
            "wait" => OnSlow::Wait,
            other => {
                return Err(format!(
                    "distributor.on_slow = \"{other}\": spill or wait allowed"
                ));
            }
        };
        Ok(HostPlan {
            batch_bytes: self.batch,
            buffers: self.arena / self.batch,
            frame_max: size.max(1024),
            window_bytes: self.window,
            window_messages: 1 << 24,
            partial_bytes: 1 << 26,
            on_slow,
            receive_buffers: 16,
            receive_bytes: 1 << 18,
            incremental: true,
            zero_copy: 0,
            mesh_messages: 1024,
            first_number: 0,
            ack_timeout_ms: (self.ack_timeout * 1e3) as u64, // at most an hour
            latency_budget_us: 0,
            busy_bytes: BUSY_BYTES,
            connection_age_ms: 0,
            farewell_spread_ms: 0,
        })
    }
}

impl Analyzer {
    fn plan(&self) -> Result<AnalyzerPlan, String> {
        let dialect = match self.dialect.as_str() {
            "native" => Dialect::Native,
            "compact" => Dialect::Compact,
            "typed" => Dialect::Typed,
            other => {
                return Err(format!(
                    "analyzer {}: dialect = \"{other}\": native, compact or typed allowed",
                    self.name
                ));
            }
        };
        Ok(AnalyzerPlan {
            dialect,
            weight: self.weight,
            joins_ms: (self.joins * 1e3) as u64, // at most ten minutes
            ack_every: self.ack_every,
            remainder: true,
            think_ns: self.capacity.map_or(0, |rate| (1e9 / rate) as u64), // at most a second
            read_max: 1 << 14,
            window_messages: 0,
            twin_of: None,
        })
    }
}

/// What one analyzer had when the time was over, before anything recovered.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) weight: f64,
    pub(super) assigned: u64,
    pub(super) due: f64,
    pub(super) received: u64,
    pub(super) in_flight: u64,
    pub(super) ack_p50_us: u64,
    pub(super) ack_p99_us: u64,
}

impl Part {
    pub(super) fn new(weight: f64, received: u64) -> Part {
        Part {
            weight,
            assigned: 0,
            due: 0.0,
            received,
            in_flight: 0,
            ack_p50_us: 0,
            ack_p99_us: 0,
        }
    }
}

/// The distributor when the time was over.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) seconds: f64,
    pub(super) parts: Vec<Part>,
    pub(super) received: u64,
    pub(super) acked: u64,
    pub(super) open: u64,
    pub(super) rerouted: u64,
    pub(super) stalled_ns: u64,
    pub(super) shards: usize,
    pub(super) buffers_used_max: usize,
    pub(super) buffers: usize,
    /// Messages of each link that broke, and the time until they were with others.
    pub(super) reroutes: Vec<(u64, Option<u64>)>,
}

/// A topology that was played.
pub struct Played {
    names: Vec<String>,
    scene: Scene,
    messages: u64,
    acked: u64,
    duplicates: u64,
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scene = &self.scene;
        let width = self.names.iter().map(String::len).max().unwrap_or(0).max(8);
        writeln!(
            f,
            "{:width$}  weight  messages    due  share %  received  in flight  ACK p50 ms  p99 ms",
            "analyzer"
        )?;
        let all: u64 = scene.parts.iter().map(|part| part.assigned).sum();
        for (name, part) in self.names.iter().zip(&scene.parts) {
            writeln!(
                f,
                "{name:width$}  {:6}  {:8}  {:5.0}  {:7.3}  {:8}  {:9}  {:10.2}  {:6.2}",
                part.weight,
                part.assigned,
                part.due,
                part.assigned as f64 * 100.0 / all.max(1) as f64,
                part.received,
                part.in_flight,
                part.ack_p50_us as f64 / 1e3,
                part.ack_p99_us as f64 / 1e3,
            )?;
        }
        for (messages, took_ns) in &scene.reroutes {
            match took_ns {
                Some(ns) => writeln!(
                    f,
                    "a link broke: {messages} messages re-routed in {:.2} ms",
                    *ns as f64 / 1e6
                )?,
                None => writeln!(f, "a link broke: {messages} messages not yet re-routed")?,
            }
        }
        writeln!(
            f,
            "when the time was over: received {}, acked {}, open {}, re-routed {}, backpressure {:.1} % of the time, arena used at most {:.0} %",
            scene.received,
            scene.acked,
            scene.open,
            scene.rerouted,
            scene.stalled_ns as f64 * 100.0 / (scene.seconds * 1e9 * scene.shards as f64),
            scene.buffers_used_max as f64 * 100.0 / scene.buffers.max(1) as f64,
        )?;
        write!(
            f,
            "after recovery: {} messages sent, {} delivered and ACKed, {} missing, {} delivered twice",
            self.messages,
            self.acked,
            self.messages - self.acked,
            self.duplicates
        )
    }
}
