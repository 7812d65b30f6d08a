//! What is started, over TCP or over HTTP, and the run reports that it leaves.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::Socket;

use super::programs::Program;
use super::{Failure, Options};
use weir_config::{Admin, Config, HttpAnalyzer, HttpConfig};
use weir_runtime::{hold_port, Distributor};

/// Analyzers and their weights.
pub const ANALYZERS: [(&str, f64); 4] = [("a1", 0.4), ("a2", 0.3), ("a3", 0.2), ("a4", 0.1)];
/// They send.
pub const EMITTERS: [&str; 2] = ["e1", "e2"];
/// Is killed, and comes back.
pub const KILLED: usize = 1;
/// Changes its weight.
pub const CHANGED: usize = 2;
/// To this.
pub const CHANGED_WEIGHT: f64 = 0.5;
/// Of each message.
pub const PAYLOAD_BYTES: u32 = 256;

/// Enough connections that the kernel gives some to each shard of a small machine.
const CONNECTIONS: u32 = 8;
/// Egress memory of all shards together. Two seconds of messages fit a shard of a small machine, so
/// that an analyzer which gets no CPU for a while is not full, which would take it out of the choice.
const ARENA_BYTES: usize = 256 << 20;
/// Per shard.
const ARENA_BYTES_MIN: usize = 8 << 20;
/// Per shard.
const ARENA_BYTES_MAX: usize = 32 << 20;
const BATCH_BYTES: u32 = 64 << 10;
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// A shard's arena holds some of the largest frames for each analyzer.
const _: () =
    assert!(ARENA_BYTES_MIN > 64 * BATCH_BYTES as usize && FRAME_BYTES_MAX <= BATCH_BYTES);
/// A demonstration is short: what was away is looked for often, and gets its whole share at once.
const HEALTH_INTERVAL: Duration = Duration::from_millis(300);

/// A directory of our own, gone with its value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that can be started.
pub struct Parts {
    options: Options,
    scratch: Scratch,
    /// Where analyzers over HTTP listen, in their order.
    ports: Vec<u16>,
    _holders: Vec<Socket>,
}

impl Parts {
    /// With a directory for run reports.
    ///
    /// # Errors
    /// There is no directory, or no free port.
    pub fn new(options: &Options) -> io::Result<Parts> {
        let name = format!("weir-demo-{}", std::process::id());
        let scratch = Scratch(std::env::temp_dir().join(name));
        fs::create_dir_all(&scratch.0)?;
        let count = if options.http { ANALYZERS.len() } else { 0 };
        let (ports, holders) = hold_ports(count)?;
        Ok(Parts {
            options: *options,
            scratch,
            ports,
            _holders: holders,
        })
    }

    /// A distributor that shares its cores with six other processes.
    pub fn config(&self) -> Result<Config, Failure> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let shards = self.options.shards.map_or_else(cores, usize::from);
        // Any free port of loopback: nothing that runs on this machine is in the way.
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let analyzer = |((id, weight), port): (&(&str, f64), &u16)| {
            let endpoint = format!("http://127.0.0.1:{port}").parse();
            endpoint.and_then(|endpoint: weir_config::Endpoint| {
                HttpAnalyzer::new(id, endpoint, *weight)
            })
        };
        let analyzers = ANALYZERS.iter().zip(&self.ports).map(analyzer);
        let analyzers: Result<Vec<HttpAnalyzer>, String> = analyzers.collect();
        Ok(Config {
            emitters: anywhere,
            analyzers: anywhere,
            shards,
            // Not pinned: the other processes have nowhere else to go.
            cores: Vec::new(),
            arena_bytes: (ARENA_BYTES / shards.max(1)).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX),
            batch_bytes: BATCH_BYTES,
            ingress_bytes: 1 << 20,
            frame_bytes_max: FRAME_BYTES_MAX,
            window_bytes: u64::MAX,
            partial_bytes_max: 4 << 20,
            // Loopback copies all the same, and registered memory could be more than a user may lock.
            zero_copy_bytes: 0,
            without: vec!["send-zc".to_owned()],
            admin: Some(Admin::Path(self.socket())),
            http: HttpConfig {
                listen: self.options.http.then_some(anywhere),
                analyzers: analyzers.map_err(Failure::Program)?,
                health_interval: HEALTH_INTERVAL,
                slow_start: Duration::ZERO,
                ..HttpConfig::default()
            },
            instance: u64::from(std::process::id()),
            ..Config::default()
        })
    }

    /// An emitter for this distributor.
    ///
    /// # Errors
    /// The kernel's.
    pub fn emitter(&self, name: &'static str, to: &Distributor) -> io::Result<Program> {
        let at = match to.http {
            Some(http) => format!("--http=http://{http}"),
            None => format!("--addr={}", to.emitters),
        };
        let args = [
            at,
            self.reported(name),
            format!("--rate={}", self.options.rate),
            format!("--duration={:.3}s", self.options.duration.as_secs_f64()),
            format!("--connections={CONNECTIONS}"),
            // Few writes leave the cores to the others.
            format!("--batch={}", if self.options.http { 10 } else { 4 }),
            format!("--size={PAYLOAD_BYTES}"),
        ];
        Program::start("emitter", name, &args)
    }

    /// An analyzer of this distributor; the first time, or after it was killed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn analyzer(&self, index: usize, is_first: bool, of: &Distributor) -> io::Result<Program> {
        let (name, weight) = ANALYZERS[index];
        let mut args = vec![self.reported(name)];
        match self.ports.get(index) {
            Some(port) => args.push(format!("--http=127.0.0.1:{port}")),
            None => args.extend([
                format!("--addr={}", of.analyzers),
                format!("--weight={weight}"),
                // The end of the distributor is the end of the demonstration.
                "--reconnect=false".to_owned(),
            ]),
        }
        if index == CHANGED && is_first && !self.options.http {
            let after = self.options.duration.mul_f64(2.0 / 3.0).as_secs_f64();
            args.push(format!("--weight-after={after:.3}s={CHANGED_WEIGHT}"));
        }
        Program::start("analyzer", name, &args)
    }

    /// Gives an analyzer over HTTP its new weight, as an operator does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change_weight(&self) -> io::Result<Program> {
        let args = [
            "ctl".to_owned(),
            format!("--admin={}", self.socket().display()),
            "weight".to_owned(),
            ANALYZERS[CHANGED].0.to_owned(),
            CHANGED_WEIGHT.to_string(),
        ];
        Program::start_as("ctl", &args)
    }

    /// The distributor's run report.
    pub fn report(&self) -> PathBuf {
        self.report_of("distributor")
    }

    /// What is there for `weir audit`: run reports, and journals, also of one that was killed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn evidence(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.scratch.0)?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let is_evidence = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("json" | "journal"))
        };
        Ok(paths?.into_iter().filter(is_evidence).collect())
    }

    fn socket(&self) -> PathBuf {
        self.path("admin.sock")
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn report_of(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.json"))
    }

    fn reported(&self, name: &str) -> String {
        format!("--report={}", self.report_of(name).display())
    }
}

/// Free ports of loopback, and what holds them.
fn hold_ports(count: usize) -> io::Result<(Vec<u16>, Vec<Socket>)> {
    let held = (0..count).map(|_| hold_port());
    let held: Vec<_> = held.collect::<io::Result<_>>()?;
    Ok(held
        .into_iter()
        .map(|(at, holder)| (at.port(), holder))
        .unzip())
}
