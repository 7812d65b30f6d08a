//! Starts the shards, and stops them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glommio::channels::channel_mesh::{FullMesh, MeshBuilder};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};

use super::descriptors::{self, Needs};
use super::listen::{bound_unread, divide_passed, listen, not_heeded, place, Listener, Passed};
use super::mesh::{GlommioMesh, Mailbox, CHANNEL_MESSAGES};
use super::run::run;
use weir_clock::monotonic_ns;
use weir_config::Config;
use weir_engine::Balance;
use weir_shard::mesh::Message;
use weir_shard::port::Wake;
use weir_shard::{
    open_refused, refused_file_name, Listeners, Operator, Shard, ShardReport, Shared, Stop,
};

use crate::uring::{
    address_space, behind, kernel_release, nofile_hard, raise_nofile, Arena, ArenaView, Features,
    Ring, RingConfig, Unusable,
};

/// Address space of a shard beside its arena and its receive memory: the stack of its thread, its rings.
const SHARD_BYTES: u64 = 6 << 20;
/// Of the threads that are no shards, and of what is allocated later.
const PROCESS_BYTES: u64 = 24 << 20;
/// Memory that glommio takes for its own rings per executor; it does no file or socket work here.
const GLOMMIO_IO_BYTES: usize = 64 * 1024;
/// Entries of glommio's own rings.
const GLOMMIO_RING_DEPTH: usize = 8;
/// glommio's executor takes a task queue off the CPU after this long: never, in effect. When the time has
/// run out before it looks for something to run, it takes that for nothing to run and sleeps without a
/// time limit. On a busy machine a thread easily stands still for its default of 100 ms, and as no I/O
/// of glommio's is under way here, nothing would ever wake it.
const PREEMPT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Time that all shards together have to come up.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How often a start looks whether it shall be given up.
const CANCEL_LOOK: Duration = Duration::from_millis(20);
/// One receive buffer with incremental consumption: many receives share it.
const INCREMENTAL_BUFFER_BYTES: u32 = 256 * 1024;
/// One receive buffer without: each receive takes a whole one.
const CLASSIC_BUFFER_BYTES: u32 = 16 * 1024;

/// Why a distributor did not start. Each says what to change.
#[derive(Debug)]
pub enum StartError {
    /// The kernel or its policy.
    Unusable(Unusable),
    /// Sockets that were passed cannot be used.
    Passed {
        /// Flag that they stand for.
        flag: &'static str,
        /// Why.
        error: io::Error,
    },
    /// An address cannot be listened on.
    Listen {
        /// Flag that gave it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The file for refused packets cannot be written.
    Refused {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Too few descriptors for the connections asked for.
    Nofile {
        /// Descriptors needed.
        needed: u64,
        /// Of them: of the process and its shards.
        own: u64,
        /// For links of analyzers at least.
        links: u64,
        /// For connections to analyzers over HTTP.
        posts: u64,
        /// Hard limit.
        all: u64,
    },
    /// Too few descriptors for the shards alone.
    Descriptors {
        /// Shards asked for.
        shards: usize,
        /// Descriptors needed.
        needed: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Too little address space: some allocation would find nothing, and the process would abort.
    AddressSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Memory or threads could not be had.
    Resource {
        /// What for.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A shard did not come up.
    Shard(String),
    /// Somebody wanted it to end before it was up.
    Cancelled,
    /// Values that do not go together.
    Config(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Unusable(unusable) => unusable.fmt(f),
            StartError::Listen { flag, address, error } => {
                write!(f, "{flag} {address}: cannot listen: {error}")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    write!(f, "; another process has this port (`ss -ltnp` tells which)")?;
                }
                Ok(())
            }
            StartError::Refused { path, error } => write!(
                f,
                "--dead-letter-dir: cannot write {}: {error}; it must be a folder that this user may write in",
                path.display()
            ),
            StartError::Passed { flag, error } => write!(f, "sockets for {flag}: {error}"),
            StartError::Nofile { needed, own, links, posts, all } => write!(
                f,
                "--max-connections and --max-http-connections need {needed} descriptors ({own} of Weir's own, {links} for links of analyzers at least and {posts} for connections to analyzers over HTTP among them), the hard limit (RLIMIT_NOFILE) is {all}: raise it (`ulimit -Hn`, or LimitNOFILE in the unit) or ask for fewer connections"
            ),
            StartError::Resource { what, error } => write!(f, "{what}: {error}{}", behind(error)),
            StartError::Descriptors { shards, needed, hard } => write!(
                f,
                "{shards} shards take {needed} descriptors before the first connection comes, the hard limit (RLIMIT_NOFILE) is {hard}: raise it (`ulimit -Hn`, or LimitNOFILE in the unit) or ask for fewer shards"
            ),
            StartError::AddressSpace { needed, limit } => write!(
                f,
                "{needed} bytes of address space are needed, {limit} are allowed (RLIMIT_AS): raise it (`ulimit -v`, or LimitAS= in the unit) or ask for fewer shards or a smaller --arena"
            ),
            StartError::Shard(text) => write!(f, "a shard did not start: {text}"),
            StartError::Cancelled => f.write_str("the start was given up"),
            StartError::Config(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

/// A running distributor.
pub struct Distributor {
    shared: Arc<Shared>,
    shards: Vec<ExecutorJoinHandle<io::Result<ShardReport>>>,
    /// Where emitters connect, with the port that was chosen.
    pub emitters: SocketAddr,
    /// Where analyzers connect, with the port that was chosen.
    pub analyzers: SocketAddr,
    /// Where HTTP clients connect, with the port that was chosen.
    pub http: Option<SocketAddr>,
    features: Features,
    memory_bytes: usize,
}

impl Distributor {
    /// Probes the kernel, binds, and starts one thread per shard.
    ///
    /// # Errors
    /// Each names the thing, the value and what is allowed. Nothing runs then.
    pub fn start(config: Config) -> Result<Distributor, StartError> {
        Distributor::start_on(config, Passed::default())
    }

    /// The same with sockets that others opened: for these, the addresses of the configuration do not
    /// count.
    ///
    /// # Errors
    /// As [`Distributor::start`]; also more sockets than shards.
    pub fn start_on(config: Config, passed: Passed) -> Result<Distributor, StartError> {
        Distributor::start_unless(&AtomicBool::new(false), config, passed)
    }

    /// The same, given up as soon as `cancelled` is true. No shard reads anything before all are up, so nothing
    /// was taken in then.
    ///
    /// # Errors
    /// As [`Distributor::start_on`]; [`StartError::Cancelled`].
    pub fn start_unless(
        cancelled: &AtomicBool,
        config: Config,
        passed: Passed,
    ) -> Result<Distributor, StartError> {
        config.check().map_err(StartError::Config)?;
        let needed =
            (config.shards as u64).saturating_mul(descriptors::SHARD) + descriptors::PROCESS;
        raise_nofile(needed).map_err(|hard| StartError::Descriptors {
            shards: config.shards,
            needed,
            hard,
        })?;
        let without: Vec<&str> = config.without.iter().map(String::as_str).collect();
        let features = Features::probe().map_err(StartError::Unusable)?;
        let mut features = features.without(&without).map_err(|name| {
            StartError::Config(format!(
                "--without {name}: no such feature (allowed: defer-taskrun, incremental, min-wait, send-zc)"
            ))
        })?;
        if config.zero_copy_bytes == 0 {
            features.send_zc = false;
        }
        let mut config = config;
        let has_http = config.http.listen.is_some() || !passed.http.is_empty();
        let division = Needs::of(&config, has_http).divide_here()?;
        let _ = raise_nofile(nofile_hard());
        log::debug!("{division}");
        config.connections_max = division.emitters;
        config.http.connections_max = division.http;
        config.analyzers_max = division.analyzers;

        let (shards, timeout) = (config.shards, config.peer_timeout);
        let listeners = |flag, address, passed: Vec<_>| match passed.is_empty() {
            false => divide_passed(passed, shards, timeout)
                .map_err(|error| StartError::Passed { flag, error }),
            true => listen(address, shards, timeout).map_err(|error| StartError::Listen {
                flag,
                address,
                error,
            }),
        };
        let outlives = !passed.emitters.is_empty();
        let emitters = listeners("--emitters", config.emitters, passed.emitters)?;
        let analyzers = listeners("--analyzers", config.analyzers, passed.analyzers)?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let http = match has_http {
            true => {
                let address = config.http.listen.unwrap_or(nowhere);
                listeners("--http", address, passed.http)?
            }
            false => Vec::new(),
        };
        bound_unread(&http).map_err(|error| StartError::Passed {
            flag: "--http",
            error,
        })?;
        if let Some(why) = not_heeded(config.accept, &kernel_release()) {
            log::warn!("{why}");
        }
        for (flag, listeners) in [("--emitters", &emitters), ("--http", &http)] {
            place(listeners, config.accept, &config.cores)
                .map_err(|error| StartError::Passed { flag, error })?;
        }
        let address = |listeners: &[Listener]| {
            listeners[0]
                .socket
                .local_addr()
                .map_err(|error| StartError::Resource {
                    what: "listener",
                    error,
                })
        };
        let (emitters_at, analyzers_at) = (address(&emitters)?, address(&analyzers)?);
        let http_at = match http.is_empty() {
            true => None,
            false => Some(address(&http)?),
        };

        let refused = refused_files(&config)?;
        let resource = |what| move |error| StartError::Resource { what, error };
        let buffers = config.arena_bytes / config.batch_bytes as usize;
        let memory_bytes = config.shards
            * (buffers * config.batch_bytes as usize
                + ring_config(&config, features).ingress_buffers as usize
                    * ring_config(&config, features).ingress_buffer_bytes as usize);
        check_address_space(config.shards as u64, memory_bytes as u64)?;
        let arenas = (0..config.shards)
            .map(|_| Arena::new(buffers, config.batch_bytes as usize))
            .collect::<io::Result<Vec<_>>>()
            .map_err(resource("egress arena (--arena)"))?;
        let wakes = (0..config.shards)
            .map(|_| Wake::new().map(Arc::new))
            .collect::<io::Result<Vec<_>>>()
            .map_err(resource("eventfd"))?;
        let views: Vec<ArenaView> = arenas.iter().map(Arena::view).collect();

        let shared = Arc::new(Shared::new(&config, wakes.clone()));
        let mailbox = Arc::new(Mailbox::new(wakes));
        let mesh = MeshBuilder::full(config.shards, CHANNEL_MESSAGES);
        let config = Arc::new(config);
        let mut shards = Vec::new();
        let gate = Arc::new(Gate::default());
        let _closed_at_last = GivenUp(Arc::clone(&gate));
        let (up, ups) = std::sync::mpsc::channel();
        let parts = arenas.into_iter().zip(emitters.into_iter().zip(analyzers));
        let mut http = http.into_iter();
        let mut refused = refused.into_iter();
        for (index, (arena, (emitters, analyzers))) in parts.enumerate() {
            let listeners = Listeners {
                emitters: Some(emitters),
                analyzers,
                http: http.next(),
                outlives,
            };
            let plan = Plan {
                config: Arc::clone(&config),
                shared: Arc::clone(&shared),
                mailbox: Arc::clone(&mailbox),
                views: views.clone(),
                features,
                mesh: mesh.clone(),
                gate: Arc::clone(&gate),
                up: Up {
                    shard: index,
                    sender: up.clone(),
                    is_told: false,
                },
            };
            if cancelled.load(Ordering::Acquire) {
                return Err(StartError::Cancelled);
            }
            let handle = plan.spawn(index, arena, listeners, refused.next())?;
            shards.push(handle);
        }
        drop(up);
        let mut distributor = Distributor {
            shared,
            shards,
            emitters: emitters_at,
            analyzers: analyzers_at,
            http: http_at,
            features,
            memory_bytes,
        };
        let deadline = Instant::now() + START_PATIENCE;
        for _ in 0..distributor.shards.len() {
            let next = loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let next = ups.recv_timeout(left.min(CANCEL_LOOK));
                if cancelled.load(Ordering::Acquire) {
                    return Err(StartError::Cancelled);
                }
                if next != Err(RecvTimeoutError::Timeout) || left.is_zero() {
                    break next;
                }
            };
            let failed = match next {
                Ok(Ok(())) => continue,
                Ok(Err((_, Some(why)))) => why,
                Ok(Err((shard, None))) => why_ended(distributor.shards.swap_remove(shard)),
                Err(_) => "no sign of life within 10 s: too little CPU time, or too little lockable memory for glommio (RLIMIT_MEMLOCK of 8 MiB or more: `ulimit -l`, LimitMEMLOCK)".to_owned(),
            };
            return Err(StartError::Shard(failed));
        }
        gate.set(true);
        Ok(distributor)
    }

    /// Kernel features in use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Egress and receive memory of all shards, in bytes, taken at start.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Newest report of each shard; a tenth of a second old at most.
    pub fn reports(&self) -> Vec<ShardReport> {
        self.stopper().reports()
    }

    /// A handle that stops the distributor, for signal handlers and tests.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            shared: Arc::clone(&self.shared),
        }
    }

    /// A handle that controls the distributor while it runs.
    pub fn operator(&self) -> Operator {
        Operator::new(Arc::clone(&self.shared))
    }

    /// Waits for the shards and returns their last reports.
    ///
    /// # Errors
    /// A shard's ring failed, or a shard panicked.
    pub fn join(self) -> io::Result<Vec<ShardReport>> {
        self.shards
            .into_iter()
            .map(|shard| match shard.join() {
                Ok(report) => report,
                Err(error) => Err(io::Error::other(format!("a shard ended: {error}"))),
            })
            .collect()
    }
}

/// Stops a distributor from any thread.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
}

impl Stopper {
    /// Takes nothing new, waits for ACKs, ends at the latest after `deadline`.
    pub fn drain(&self, deadline: Duration) {
        let deadline = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.shared
            .ask(Stop::Drain, monotonic_ns().saturating_add(deadline));
    }

    /// Newest report of each shard, also after it ended.
    pub fn reports(&self) -> Vec<ShardReport> {
        self.shared.reports(ShardReport::clone)
    }

    /// Newest balance of each shard: far less to copy, so that no shard waits for its reader.
    pub fn balances(&self) -> Vec<Balance> {
        self.shared.reports(|report| report.balance)
    }

    /// Turns of each shard's event loop, as of its newest report. A shard that lives turns and reports ten
    /// times a second, also when it has nothing to do.
    pub fn turns(&self) -> Vec<u64> {
        self.shared.reports(|report| report.pace.turns)
    }

    /// Ends at once.
    pub fn stop_now(&self) {
        self.shared.ask(Stop::Now, 0);
    }
}

/// What every shard is made from.
struct Plan {
    config: Arc<Config>,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    views: Vec<ArenaView>,
    features: Features,
    mesh: FullMesh<Message<OwnedFd>>,
    gate: Arc<Gate>,
    up: Up,
}

/// What a shard says of its start: its number and why, if it knows.
type Start = Result<(), (usize, Option<String>)>;

/// Tells whether the shard came up, also when its thread ends before it gets there.
struct Up {
    shard: usize,
    sender: Sender<Start>,
    is_told: bool,
}

impl Up {
    fn tell(&mut self, start: Result<(), String>) {
        self.is_told = true;
        // Nobody waits any longer when the start was given up.
        let _ = self
            .sender
            .send(start.map_err(|why| (self.shard, Some(why))));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if !self.is_told {
            let _ = self.sender.send(Err((self.shard, None)));
        }
    }
}

/// Why a thread ended before its shard was up.
fn why_ended(shard: ExecutorJoinHandle<io::Result<ShardReport>>) -> String {
    match shard.join() {
        Err(GlommioError::IoError(error)) => {
            format!("glommio: {}{}", in_words(error.to_string()), behind(&error))
        }
        Err(error) => {
            let text = format!("glommio: {}", in_words(error.to_string()));
            format!("{text}{}", behind(&io::Error::from(error)))
        }
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => "it ended at once".to_owned(),
    }
}

/// What glommio says of lockable memory, `MemLockLimit(65536/524288)`, as a sentence; anything else as it is.
fn in_words(said: String) -> String {
    let numbers = said.split_once("MemLockLimit(").map(|(_, rest)| rest);
    let numbers = numbers.and_then(|rest| rest.split_once(')')?.0.split_once('/'));
    match numbers {
        Some((limit, least)) => format!(
            "{limit} bytes may be locked, at least {least} are needed for each shard (RLIMIT_MEMLOCK: `ulimit -l`, or LimitMEMLOCK= in the unit)"
        ),
        None => said,
    }
}

/// Shards that are up wait here until all are: nothing is taken in by a distributor that does not come up.
#[derive(Default)]
struct Gate {
    is_open: Mutex<Option<bool>>,
    turned: Condvar,
}

impl Gate {
    fn set(&self, open: bool) {
        let mut is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        is_open.get_or_insert(open);
        self.turned.notify_all();
    }

    /// Whether to go through.
    fn wait(&self) -> bool {
        let mut is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *is_open {
                Some(is_open) => return is_open,
                None => {
                    let waited = self.turned.wait(is_open);
                    is_open = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Closes the gate unless it was opened.
struct GivenUp(Arc<Gate>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Takes the other shards along when one ends for whatever reason: a distributor with a shard
/// missing would accept connections that nobody serves.
struct EndTogether(Arc<Shared>);

impl Drop for EndTogether {
    fn drop(&mut self) {
        self.0.ask(Stop::Now, 0);
    }
}

impl Plan {
    fn spawn(
        self,
        index: usize,
        arena: Arena,
        listeners: Listeners<Listener>,
        refused: Option<(OwnedFd, bool)>,
    ) -> Result<ExecutorJoinHandle<io::Result<ShardReport>>, StartError> {
        let placement = match self.config.cores.get(index) {
            Some(core) => Placement::Fixed(*core),
            None => Placement::Unbound,
        };
        LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{index}"))
            .io_memory(GLOMMIO_IO_BYTES)
            .ring_depth(GLOMMIO_RING_DEPTH)
            .preempt_timer(PREEMPT_AFTER)
            // No thread for blocking calls: a shard makes none.
            .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()))
            .spawn(move || self.run(arena, listeners, refused))
            .map_err(|error| StartError::Resource {
                what: "shard thread (glommio executor)",
                error: match error {
                    GlommioError::IoError(error) => error,
                    other => io::Error::other(other.to_string()),
                },
            })
    }

    async fn run(
        mut self,
        arena: Arena,
        listeners: Listeners<Listener>,
        refused: Option<(OwnedFd, bool)>,
    ) -> io::Result<ShardReport> {
        let end_together = EndTogether(Arc::clone(&self.shared));
        let mesh = GlommioMesh::join(self.mesh, self.mailbox).await;
        let own = mesh.own();
        let index = u16::try_from(own).map_err(io::Error::other)?;
        let wake = self.shared.wake(own);
        let ring = ring_config(&self.config, self.features);
        let ring = Ring::new(ring, self.features, self.views, own, wake).map_err(|unusable| {
            self.up.tell(Err(unusable.to_string()));
            io::Error::other(unusable.to_string())
        })?;
        self.up.tell(Ok(()));
        if !self.gate.wait() {
            return Err(io::Error::other("the start was given up"));
        }
        let mut worker = Shard::new(
            index,
            self.config,
            self.shared,
            ring,
            arena,
            mesh,
            listeners,
        );
        if let Some((file, is_torn)) = refused {
            worker.set_refused_file(file, is_torn);
        }
        let ended = run(worker).await;
        drop(end_together);
        ended
    }
}

/// An allocator that is refused a few bytes aborts: the limit is compared with what will be taken before.
fn check_address_space(shards: u64, memory_bytes: u64) -> Result<(), StartError> {
    let Some((limit, taken)) = address_space() else {
        return Ok(());
    };
    let more = shards * SHARD_BYTES + memory_bytes + PROCESS_BYTES;
    let needed = taken + more;
    match needed > limit {
        true => Err(StartError::AddressSpace { needed, limit }),
        false => Ok(()),
    }
}

/// Where shards set aside what analyzers refuse for good: one file each and whether it is torn, or none.
fn refused_files(config: &Config) -> Result<Vec<(OwnedFd, bool)>, StartError> {
    let Some(folder) = &config.http.dead_letter_dir else {
        return Ok(Vec::new());
    };
    let open = |index| {
        let path = folder.join(refused_file_name(index));
        open_refused(&path).map_err(|error| StartError::Refused { path, error })
    };
    (0..config.shards).map(open).collect()
}

fn ring_config(config: &Config, features: Features) -> RingConfig {
    let buffer_bytes = if features.incremental {
        INCREMENTAL_BUFFER_BYTES
    } else {
        CLASSIC_BUFFER_BYTES
    };
    let buffers = (config.ingress_bytes / buffer_bytes as usize).clamp(2, 32_768);
    let buffers = if buffers.is_power_of_two() {
        buffers
    } else {
        buffers.next_power_of_two() / 2
    };
    RingConfig {
        ingress_buffers: u16::try_from(buffers).unwrap_or(32_768),
        ingress_buffer_bytes: buffer_bytes,
        busy_poll: config.busy_poll,
    }
}
