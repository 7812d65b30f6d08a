//! Starts the shards, and stops them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glommio::channels::channel_mesh::{FullMesh, MeshBuilder};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};

use super::bound::Bound;
use super::descriptors::{self, Needs};
use super::error::StartError;
use super::kernel::Kernel;
use super::listen::{Listener, Passed};
use super::mesh::{GlommioMesh, Mailbox, CHANNEL_MESSAGES};
use super::run::run;
use super::secured::{HalvesLimit, Notice, Socket};
use weir_clock::monotonic_ns;
use weir_config::{Config, Input, MemoryNeed};
use weir_engine::Balance;
use weir_host::{locked_by_others, may_lock_anything, memlock_limit, memory_limit, Host, Locked};
use weir_shard::mesh::Message;
use weir_shard::port::Wake;
use weir_shard::{
    open_refused, refused_file_name, InputAt, Listeners, Operator, Shard, ShardReport, Shared, Stop,
};

use weir_tls::{Served, ServerPort};

use crate::uring::{
    address_space, behind, nofile_hard, raise_nofile, reserve_descriptors, Arena, ArenaView,
    Features, Ring, RingConfig,
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

/// What is served where TLS is spoken.
pub type ServedPorts = BTreeMap<String, Arc<ServerPort>>;

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
    /// Where emitters connect to inputs, with the ports that were chosen.
    pub inputs: Vec<InputAt>,
    /// What is served at each port where TLS is spoken, by [`weir_config::TlsPort::key`].
    pub served: ServedPorts,
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
        let features = probe(&config)?;
        check_memory_limit(&config, &Host::here())?;
        let mut config = config;
        let has_http = config.http.listen.is_some() || !passed.http.is_empty();
        let division = Needs::of(&config, has_http).divide_here()?;
        let _ = raise_nofile(nofile_hard());
        reserve_descriptors(division.all);
        log::debug!("{division}");
        config.connections_max = division.emitters;
        config.http.connections_max = division.http;
        config.analyzers_max = division.analyzers;
        config.tls.handshakes = division.handshakes;

        if config.tls.served.is_empty() {
            config.read_tls(None).map_err(StartError::Tls)?;
        }
        let port = |(key, served): (&String, &Arc<Served>)| {
            let port = ServerPort::new(Arc::clone(served));
            (key.clone(), Arc::new(port))
        };
        let served: ServedPorts = config.tls.served.iter().map(port).collect();
        let sockets = Bound::of(&config, passed, has_http, &served)?;
        let refused = refused_files(&config)?;
        let memory = Memory::take(&config, features)?;
        let (emitters, analyzers, http) = sockets.at;
        let inputs = sockets.inputs_at.clone();
        let memory_bytes = memory.bytes;
        let shared = Arc::new(Shared::new(&config, memory.wakes.clone()));
        let gate = Arc::new(Gate::default());
        let _closed_at_last = GivenUp(Arc::clone(&gate));
        let (up, ups) = std::sync::mpsc::channel();
        let plan = Plan {
            config: Arc::new(config),
            shared: Arc::clone(&shared),
            features,
            gate: Arc::clone(&gate),
        };
        let shards = plan.spawn_all(cancelled, memory, sockets, refused, up)?;
        let mut distributor = Distributor {
            shared,
            shards,
            emitters,
            analyzers,
            http,
            inputs,
            served,
            features,
            memory_bytes,
        };
        distributor.until_up(cancelled, &ups)?;
        gate.set(true);
        Ok(distributor)
    }

    /// Waits until every shard has said that it is up.
    fn until_up(
        &mut self,
        cancelled: &AtomicBool,
        ups: &Receiver<Start>,
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        for _ in 0..self.shards.len() {
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
                Ok(Err((shard, None))) => why_ended(self.shards.swap_remove(shard)),
                Err(_) => no_sign_of_life(self.shards.len() as u64),
            };
            return Err(StartError::Shard(failed));
        }
        Ok(())
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

/// Checks the configuration, raises the limit of descriptors as far as shards need it, and asks the kernel what it can.
fn probe(config: &Config) -> Result<Features, StartError> {
    config.check().map_err(StartError::Config)?;
    let needed = (config.shards as u64).saturating_mul(descriptors::SHARD) + descriptors::PROCESS;
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
    Ok(features)
}

/// Under a limit that is too small the kernel kills the process when it fills its arenas, which it may do hours later.
fn check_memory_limit(config: &Config, host: &Host) -> Result<(), StartError> {
    let need = MemoryNeed::of(config);
    match memory_limit(host).filter(|limit| limit.bytes < need.bytes()) {
        Some(limit) => Err(StartError::MemoryLimit { need, limit }),
        None => Ok(()),
    }
}

/// What all shards take of memory, and what wakes them.
struct Memory {
    arenas: Vec<Arena>,
    wakes: Vec<Arc<Wake>>,
    /// Egress and receive memory of all shards.
    bytes: usize,
}

impl Memory {
    fn take(config: &Config, features: Features) -> Result<Memory, StartError> {
        let resource = |what| move |error| StartError::Resource { what, error };
        let batch_bytes = config.batch_bytes as usize;
        let buffers = config.arena_bytes / batch_bytes;
        let ring = ring_config(config, features);
        let ingress = ring.ingress_buffers as usize * ring.ingress_buffer_bytes as usize;
        let bytes = config.shards * (buffers * batch_bytes + ingress);
        check_address_space(config.shards as u64, bytes as u64)?;
        let arenas = (0..config.shards)
            .map(|_| Arena::new(buffers, batch_bytes))
            .collect::<io::Result<Vec<_>>>()
            .map_err(resource("egress arena (--arena)"))?;
        let wakes = (0..config.shards)
            .map(|_| Wake::new().map(Arc::new))
            .collect::<io::Result<Vec<_>>>()
            .map_err(resource("eventfd"))?;
        Ok(Memory {
            arenas,
            wakes,
            bytes,
        })
    }
}

/// What every shard is made from.
#[derive(Clone)]
struct Plan {
    config: Arc<Config>,
    shared: Arc<Shared>,
    features: Features,
    gate: Arc<Gate>,
}

/// Where peers of one shard come.
struct Sockets {
    listeners: Listeners<Listener>,
    /// Where datagrams come, with the numbers of their inputs.
    datagrams: Vec<(usize, OwnedFd)>,
}

/// A shard that is about to start: what it is made from, and what is its own.
struct Starting {
    plan: Plan,
    mailbox: Arc<Mailbox>,
    views: Vec<ArenaView>,
    mesh: FullMesh<Message<Socket>>,
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

/// Why no shard says anything: what it may be, and what lockable memory it would take.
fn no_sign_of_life(shards: u64) -> String {
    let host = Host::here();
    let limit = match memlock_limit(&host).filter(|_| !may_lock_anything(&host)) {
        None | Some(u64::MAX) => return "no sign of life within 10 s: too little CPU time".into(),
        Some(limit) => limit,
    };
    let others = locked_by_others(&host);
    let locked = Locked { shards, others };
    format!("no sign of life within 10 s: too little CPU time, or too little lockable memory: RLIMIT_MEMLOCK is {} KiB, needed are {locked}, and all processes of a user id on this host share it (`ulimit -l`, LimitMEMLOCK; or a user id of its own)", limit >> 10)
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
    /// What shards say of peers that TLS keeps out.
    fn notice(&self) -> Notice {
        let shared = Arc::clone(&self.shared);
        Box::new(move |port, peer, kind| shared.notice(port, peer, kind, monotonic_ns()))
    }

    /// Starts a thread for each shard; `up` hears of each.
    fn spawn_all(
        &self,
        cancelled: &AtomicBool,
        memory: Memory,
        sockets: Bound,
        refused: Vec<(OwnedFd, bool)>,
        up: Sender<Start>,
    ) -> Result<Vec<ExecutorJoinHandle<io::Result<ShardReport>>>, StartError> {
        let views: Vec<ArenaView> = memory.arenas.iter().map(Arena::view).collect();
        let mailbox = Arc::new(Mailbox::new(memory.wakes));
        let mesh = MeshBuilder::full(self.config.shards, CHANNEL_MESSAGES);
        let mut shards = Vec::new();
        let pairs = sockets.emitters.into_iter().zip(sockets.analyzers);
        let (mut http, mut refused) = (sockets.http.into_iter(), refused.into_iter());
        let mut datagrams = sockets.datagrams.into_iter();
        for (index, (arena, (emitters, analyzers))) in
            memory.arenas.into_iter().zip(pairs).enumerate()
        {
            let sockets = Sockets {
                listeners: Listeners {
                    emitters,
                    analyzers,
                    http: http.next(),
                },
                datagrams: datagrams.next().unwrap_or_default(),
            };
            let starting = Starting {
                plan: self.clone(),
                mailbox: Arc::clone(&mailbox),
                views: views.clone(),
                mesh: mesh.clone(),
                up: Up {
                    shard: index,
                    sender: up.clone(),
                    is_told: false,
                },
            };
            if cancelled.load(Ordering::Acquire) {
                return Err(StartError::Cancelled);
            }
            shards.push(starting.spawn(index, arena, sockets, refused.next())?);
        }
        Ok(shards)
    }
}

impl Starting {
    fn spawn(
        self,
        index: usize,
        arena: Arena,
        sockets: Sockets,
        refused: Option<(OwnedFd, bool)>,
    ) -> Result<ExecutorJoinHandle<io::Result<ShardReport>>, StartError> {
        let placement = match self.plan.config.cores.get(index) {
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
            .spawn(move || self.run(arena, sockets, refused))
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
        sockets: Sockets,
        refused: Option<(OwnedFd, bool)>,
    ) -> io::Result<ShardReport> {
        let end_together = EndTogether(Arc::clone(&self.plan.shared));
        let mesh = GlommioMesh::join(self.mesh, self.mailbox).await;
        let own = mesh.own();
        let index = u16::try_from(own).map_err(io::Error::other)?;
        let plan = self.plan;
        let wake = plan.shared.wake(own);
        let ring = ring_config(&plan.config, plan.features);
        let ring = Ring::new(ring, plan.features, self.views, own, wake).map_err(|unusable| {
            let unusable = unusable.of_shards(plan.config.shards as u64);
            self.up.tell(Err(unusable.to_string()));
            io::Error::other(unusable.to_string())
        })?;
        self.up.tell(Ok(()));
        if !plan.gate.wait() {
            return Err(io::Error::other("the start was given up"));
        }
        let (notice, handshakes) = (plan.notice(), plan.config.tls.handshakes);
        let halves = HalvesLimit {
            bytes: plan.config.partial_bytes_max,
            time: plan.config.frame_timeout,
        };
        let mut worker = Shard::new(
            index,
            plan.config,
            plan.shared,
            Kernel::new(ring, notice, handshakes, halves),
            arena,
            mesh,
            sockets.listeners,
        );
        let datagrams = sockets.datagrams.into_iter();
        worker.set_datagram_sockets(datagrams.map(|(at, fd)| (at, fd.into())).collect());
        if let Some((file, is_torn)) = refused {
            worker.set_refused_file(file.into(), is_torn);
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
    let has_datagrams = config.all_inputs().iter().any(Input::is_udp);
    RingConfig {
        datagram_bytes: if has_datagrams {
            config.frame_bytes_max
        } else {
            0
        },
        ingress_buffers: u16::try_from(buffers).unwrap_or(32_768),
        ingress_buffer_bytes: buffer_bytes,
        busy_poll: config.busy_poll,
    }
}
