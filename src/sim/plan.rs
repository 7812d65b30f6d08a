//! What a run consists of: shards, peers, noise and faults, all drawn from one seed. A plan can be
//! read, and made smaller without changing the rest of it.

use std::fmt;

use super::chained::ChainedPlan;
pub(super) use super::host::{HostPlan, MS};
use super::http::{name_of_server, ClientFault, HttpPlan, ServerFault};
use super::random::Random;
use weir_sink::Dialect;

/// Memory for units of other protocols that have not arrived whole: several times the largest.
const UNITS_BYTES: usize = 1 << 20;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) shards: usize,
    pub(super) host: HostPlan,
    pub(super) noise: Noise,
    pub(super) emitters: Vec<EmitterPlan>,
    pub(super) acked: Vec<AckedPlan>,
    pub(super) chained: Vec<ChainedPlan>,
    pub(super) analyzers: Vec<AnalyzerPlan>,
    pub(super) http: HttpPlan,
    pub(super) faults: Vec<Fault>,
    /// Faults are over and peers well from here on.
    pub(super) calm_ms: u64,
    pub(super) ending: Ending,
}

/// How unevenly things go without anything being broken. Chances in 100.
#[derive(Clone, Debug, Default)]
pub(super) struct Noise {
    /// A request that could go on is not looked at this time.
    pub(super) lazy: u64,
    /// A read or write moves a few bytes only.
    pub(super) crumbs: u64,
    /// A send completes in part.
    pub(super) short_sends: u64,
    /// A multishot receive ends though nothing is wrong.
    pub(super) whims: u64,
    /// Zero-copy memory is let go late, and the kernel says that it copied.
    pub(super) late_release: u64,
    pub(super) copied: u64,
    pub(super) turn_ns: u64,
    pub(super) delay_ns: u64,
    pub(super) mesh_delay_ns: u64,
    /// Bytes of a socket buffer.
    pub(super) socket_bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct EmitterPlan {
    pub(super) messages: u32,
    /// Largest payload; of paced emitters: every payload.
    pub(super) payload_max: u32,
    /// Time between writes, at most.
    pub(super) pause_ns: u64,
    pub(super) write_max: usize,
    /// After so many messages: bytes that are no frame.
    pub(super) garbage_after: Option<u32>,
    /// A message is due this often, whatever happens; none: as fast as it likes.
    pub(super) every_ns: Option<u64>,
    /// Goes when it is asked to.
    pub(super) polite: bool,
}

/// An emitter that waits for ACKs.
#[derive(Clone, Debug)]
pub(super) struct AckedPlan {
    pub(super) messages: u32,
    /// Largest payload.
    pub(super) payload_max: u32,
    /// Most messages of a batch.
    pub(super) batch_max: u32,
    /// Chance in 100 that a batch says that its ACK is waited for.
    pub(super) awaited: u64,
    /// Time between writes, at most.
    pub(super) pause_ns: u64,
    pub(super) write_max: usize,
    pub(super) read_max: usize,
    /// Sends nothing new when it is asked to go.
    pub(super) polite: bool,
}

#[derive(Clone, Debug)]
pub(super) struct AnalyzerPlan {
    pub(super) dialect: Dialect,
    pub(super) weight: f64,
    pub(super) joins_ms: u64,
    pub(super) ack_every: u32,
    /// ACKs a remainder when idle.
    pub(super) remainder: bool,
    pub(super) think_ns: u64,
    pub(super) read_max: usize,
    /// Wishes of a native analyzer, 0: none.
    pub(super) window_messages: u32,
    /// It goes by the id of this one, and stays away when faults are over.
    pub(super) twin_of: Option<usize>,
}

/// Something that breaks, or changes, at a time.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) at_ms: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Crash {
        analyzer: usize,
        reset: bool,
        back_ms: u64,
    },
    Vanish {
        analyzer: usize,
        back_ms: u64,
    },
    OneLinkBreaks {
        analyzer: usize,
    },
    Stall {
        analyzer: usize,
        for_ms: u64,
    },
    Slow {
        analyzer: usize,
        bytes: usize,
        for_ms: u64,
    },
    Leave {
        analyzer: usize,
        back_ms: u64,
    },
    Drain {
        analyzer: usize,
    },
    Weight {
        analyzer: usize,
        weight: f64,
    },
    BadWeight {
        analyzer: usize,
    },
    AckTwice {
        analyzer: usize,
    },
    AckBack {
        analyzer: usize,
    },
    AckBeyond {
        analyzer: usize,
    },
    BadControl {
        analyzer: usize,
    },
    EmitterCrash {
        emitter: usize,
        reset: bool,
    },
    EmitterVanish {
        emitter: usize,
    },
    AckedLinkLost {
        emitter: usize,
        reset: bool,
    },
    ChainedLinkLost {
        sender: usize,
        reset: bool,
    },
    NoReceiveMemory {
        shard: usize,
        for_ms: u64,
    },
    NoDescriptors {
        shard: usize,
        for_ms: u64,
    },
    SendFails {
        shard: usize,
    },
    ShardPause {
        shard: usize,
        for_ms: u64,
    },
    MeshSlow {
        for_ms: u64,
    },
    ClockJump {
        by_ms: u64,
    },
    Client {
        client: usize,
        fault: ClientFault,
    },
    Server {
        server: usize,
        fault: ServerFault,
    },
    Operator(OperatorFault),
}

/// The operator says something about an analyzer.
#[derive(Clone, Debug)]
pub(super) struct OperatorFault {
    /// A server's name, or a native analyzer's.
    pub(super) is_server: bool,
    pub(super) index: usize,
    pub(super) word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    Drain,
    Resume,
    Eject,
    Pin(f64),
    Unpin,
}

impl OperatorFault {
    /// Whom it is about.
    pub(super) fn name(&self) -> String {
        match self.is_server {
            true => name_of_server(self.index),
            false => name_of_analyzer(self.index),
        }
    }
}

/// The name of a native analyzer.
pub(super) fn name_of_analyzer(analyzer: usize) -> String {
    format!("a{analyzer}")
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All is delivered, then it drains.
    Calm,
    /// SIGTERM at this time, whatever goes on.
    Drain { at_ms: u64 },
    /// Ends at once at this time.
    Now { at_ms: u64 },
}

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Plan {
        let random = &mut Random::stream(seed, 1);
        let shards = random.pick(&[1, 1, 2, 2, 3, 4]);
        let host = HostPlan::draw(random, shards);
        let calm_ms = random.range(200, 4000);
        let quiet = random.chance(12);
        let noise = match random.chance(15) {
            true => Noise::none(),
            false => Noise::draw(random),
        };
        let emitters: Vec<EmitterPlan> = (0..random.range(1, 7))
            .map(|_| EmitterPlan::draw(random, &host, quiet))
            .collect();
        let mut analyzers: Vec<AnalyzerPlan> = (0..random.range(1, 6))
            .map(|_| AnalyzerPlan::draw(random, calm_ms))
            .collect();
        // An arena serves one analyzer for every six buffers; others are refused for good.
        let mut host = host;
        host.buffers = host.buffers.max(6 * (analyzers.len() as u32 + 2)); // a few
        let count = if quiet { 0 } else { random.range(0, 25) };
        let parts = (shards, emitters.len(), analyzers.len());
        let mut faults: Vec<Fault> = (0..count)
            .map(|_| Fault::draw(random, parts, calm_ms))
            .collect();
        let beside = &mut Random::stream(seed, 3);
        if !quiet && beside.chance(10) {
            let mut twin = AnalyzerPlan::draw(beside, calm_ms);
            twin.dialect = Dialect::Native;
            twin.twin_of = Some(beside.index(analyzers.len()));
            analyzers.push(twin);
            host.buffers = host.buffers.max(6 * (analyzers.len() as u32 + 2)); // a few
        }
        let mut http = HttpPlan::draw(beside, &host, calm_ms);
        http.draw_wishes(&mut Random::stream(seed, 7));
        http.draw_sinks(&mut Random::stream(seed, 10));
        if !http.is_empty() {
            host.make_room(beside, analyzers.len() + http.servers.len());
            let count = if quiet { 0 } else { beside.range(0, 16) };
            let parts = (http.clients.len(), http.servers.len(), analyzers.len());
            faults.extend((0..count).map(|_| Fault::draw_http(beside, parts, calm_ms)));
        }
        host.hold(&mut Random::stream(seed, 5));
        host.say_farewell(&mut Random::stream(seed, 8));
        let beside = &mut Random::stream(seed, 6);
        let acked = AckedPlan::draw_some(beside, &host);
        if !quiet && !acked.is_empty() {
            let lost = |random: &mut Random| Fault {
                at_ms: random.range(1, calm_ms),
                what: What::AckedLinkLost {
                    emitter: random.index(acked.len()),
                    reset: random.chance(50),
                },
            };
            let count = beside.range(0, 8);
            faults.extend((0..count).map(|_| lost(beside)));
        }
        let beside = &mut Random::stream(seed, 9);
        let chained = ChainedPlan::draw_some(beside);
        if !chained.is_empty() {
            host.make_room(beside, analyzers.len() + http.servers.len());
            // A unit is held whole, and there is room for those of all senders.
            host.partial_bytes = host.partial_bytes.max(UNITS_BYTES);
            let lost = |random: &mut Random| Fault {
                at_ms: random.range(1, calm_ms),
                what: What::ChainedLinkLost {
                    sender: random.index(chained.len()),
                    reset: random.chance(50),
                },
            };
            let count = if quiet { 0 } else { beside.range(0, 8) };
            faults.extend((0..count).map(|_| lost(beside)));
        }
        faults.sort_by_key(|fault| fault.at_ms);
        let ending = match random.range(0, 10) {
            0 => Ending::Now {
                at_ms: random.range(1, calm_ms + 200),
            },
            1 | 2 => Ending::Drain {
                at_ms: random.range(1, calm_ms + 200),
            },
            _ => Ending::Calm,
        };
        Plan {
            seed,
            shards,
            host,
            noise,
            emitters,
            acked,
            chained,
            analyzers,
            http,
            faults,
            calm_ms,
            ending,
        }
    }
}

impl Plan {
    /// Time itself jumps.
    pub(super) fn jumps(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| matches!(fault.what, What::ClockJump { .. }))
    }
}

impl Noise {
    /// A shard may not have read what had arrived when its turn began.
    pub(super) fn delays_reads(&self) -> bool {
        self.lazy > 0 || self.crumbs > 0
    }

    /// A machine on which everything goes as fast and as whole as it can.
    pub(super) fn none() -> Noise {
        Noise {
            turn_ns: 10_000,
            delay_ns: 20_000,
            mesh_delay_ns: 1_000,
            socket_bytes: 1 << 20,
            ..Noise::default()
        }
    }

    fn draw(random: &mut Random) -> Noise {
        Noise {
            lazy: random.pick(&[0, 10, 40]),
            crumbs: random.pick(&[0, 5, 50]),
            short_sends: random.pick(&[0, 5, 30]),
            whims: random.pick(&[0, 3, 20]),
            late_release: random.pick(&[0, 20, 90]),
            copied: random.pick(&[0, 10]),
            turn_ns: random.pick(&[2_000, 50_000, MS]),
            delay_ns: random.pick(&[10_000, 200_000, 5 * MS]),
            mesh_delay_ns: random.pick(&[1_000, 100_000, 20 * MS]),
            socket_bytes: random.pick(&[600, 4096, 1 << 16, 1 << 20]),
        }
    }
}

impl EmitterPlan {
    fn draw(random: &mut Random, host: &HostPlan, quiet: bool) -> EmitterPlan {
        let largest = host.frame_max - 5;
        let payload_max = largest.min(random.pick(&[20, 200, 3000, 20_000]));
        // Large messages cost time, not variety.
        let most = if payload_max > 1000 { 30 } else { 300 };
        EmitterPlan {
            messages: random.pick(&[3, 30, 100, 300]).min(most),
            payload_max,
            pause_ns: random.pick(&[20_000, 500_000, 10 * MS]),
            write_max: random.pick(&[1, 7, 300, 5000, 50_000]),
            every_ns: None,
            garbage_after: (!quiet && random.chance(8)).then(|| random.range(0, 60) as u32),
            polite: random.chance(70),
        }
    }
}

impl AckedPlan {
    /// Some runs have a few.
    fn draw_some(random: &mut Random, host: &HostPlan) -> Vec<AckedPlan> {
        match random.chance(40) {
            true => (0..random.range(1, 4))
                .map(|_| AckedPlan::draw(random, host))
                .collect(),
            false => Vec::new(),
        }
    }

    fn draw(random: &mut Random, host: &HostPlan) -> AckedPlan {
        let payload_max = (host.frame_max - 5).min(random.pick(&[20, 200, 3000]));
        let most = if payload_max > 1000 { 30 } else { 300 };
        AckedPlan {
            messages: random.pick(&[3, 30, 100, 300]).min(most),
            payload_max,
            batch_max: random.pick(&[1, 3, 20, 100]),
            awaited: random.pick(&[0, 10, 100]),
            pause_ns: random.pick(&[20_000, 500_000, 10 * MS]),
            write_max: random.pick(&[1, 7, 300, 5000, 50_000]),
            read_max: random.pick(&[1, 9, 64, 500]),
            polite: random.chance(70),
        }
    }
}

impl AnalyzerPlan {
    fn draw(random: &mut Random, calm_ms: u64) -> AnalyzerPlan {
        let dialect = random.pick(&[
            Dialect::Native,
            Dialect::Native,
            Dialect::Compact,
            Dialect::Typed,
        ]);
        AnalyzerPlan {
            dialect,
            weight: random.pick(&[0.0, 0.1, 0.25, 0.4, 1.0, 3.0]),
            joins_ms: if random.chance(75) {
                0
            } else {
                random.range(0, calm_ms)
            },
            ack_every: random.pick(&[1, 3, 10, 50]),
            remainder: random.chance(60),
            think_ns: random.pick(&[0, 1_000, 200_000]),
            read_max: random.pick(&[1, 60, 4096, 1 << 20]),
            window_messages: random.pick(&[0, 0, 0, 1, 64]),
            twin_of: None,
        }
    }
}

impl What {
    /// The analyzer that it happens to.
    pub(super) fn analyzer(&self) -> Option<usize> {
        match *self {
            What::Crash { analyzer, .. }
            | What::Vanish { analyzer, .. }
            | What::OneLinkBreaks { analyzer }
            | What::Stall { analyzer, .. }
            | What::Slow { analyzer, .. }
            | What::Leave { analyzer, .. }
            | What::Drain { analyzer }
            | What::Weight { analyzer, .. }
            | What::BadWeight { analyzer }
            | What::AckTwice { analyzer }
            | What::AckBack { analyzer }
            | What::AckBeyond { analyzer }
            | What::BadControl { analyzer } => Some(analyzer),
            _ => None,
        }
    }

    /// The shard that it happens to.
    pub(super) fn shard(&self) -> Option<usize> {
        match *self {
            What::NoReceiveMemory { shard, .. }
            | What::NoDescriptors { shard, .. }
            | What::SendFails { shard }
            | What::ShardPause { shard, .. } => Some(shard),
            _ => None,
        }
    }
}

impl Fault {
    fn draw(random: &mut Random, parts: (usize, usize, usize), calm_ms: u64) -> Fault {
        let (shards, emitters, analyzers) = parts;
        let shard = random.index(shards);
        let emitter = random.index(emitters);
        let analyzer = random.index(analyzers);
        let reset = random.chance(50);
        let back_ms = random.pick(&[1, 20, 300, 100_000]);
        let for_ms = random.pick(&[1, 30, 400, 4_000]);
        let what = match random.range(0, 25) {
            0..=3 => What::Crash {
                analyzer,
                reset,
                back_ms,
            },
            4 => What::Vanish { analyzer, back_ms },
            5 => What::OneLinkBreaks { analyzer },
            6 | 7 => What::Stall { analyzer, for_ms },
            8 => What::Slow {
                analyzer,
                bytes: random.pick(&[1, 100]),
                for_ms,
            },
            9 => What::Leave { analyzer, back_ms },
            10 => What::Drain { analyzer },
            11 | 12 => What::Weight {
                analyzer,
                weight: random.pick(&[0.0, 0.1, 0.5, 1.0, 7.0]),
            },
            13 => What::BadWeight { analyzer },
            14 => What::AckTwice { analyzer },
            15 => What::AckBack { analyzer },
            16 => What::AckBeyond { analyzer },
            17 => What::BadControl { analyzer },
            18 => What::EmitterCrash { emitter, reset },
            19 => What::EmitterVanish { emitter },
            20 => What::NoReceiveMemory { shard, for_ms },
            21 => What::NoDescriptors { shard, for_ms },
            22 => What::SendFails { shard },
            23 if reset => What::ShardPause { shard, for_ms },
            23 => What::MeshSlow { for_ms },
            _ => What::ClockJump {
                by_ms: random.pick(&[10, 2_000, 60_000]),
            },
        };
        let at_ms = random.range(0, calm_ms);
        Fault { at_ms, what }
    }

    fn draw_http(random: &mut Random, parts: (usize, usize, usize), calm_ms: u64) -> Fault {
        let (clients, servers, analyzers) = parts;
        let (client, server) = (random.index(clients), random.index(servers));
        let is_server = servers > 0 && random.chance(50);
        let what = match random.range(0, 10) {
            0..=2 if clients > 0 => What::Client {
                client,
                fault: ClientFault::draw(random),
            },
            0..=7 if servers > 0 => What::Server {
                server,
                fault: ServerFault::draw(random),
            },
            _ => What::Operator(OperatorFault {
                is_server,
                index: random.index(if is_server { servers } else { analyzers }),
                word: random.pick(&[
                    Word::Drain,
                    Word::Drain,
                    Word::Resume,
                    Word::Eject,
                    Word::Pin(0.0),
                    Word::Pin(2.0),
                    Word::Unpin,
                ]),
            }),
        };
        let at_ms = random.range(0, calm_ms);
        Fault { at_ms, what }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} shards, ending {:?}",
            self.seed, self.shards, self.ending
        )?;
        writeln!(f, "  host    {:?}", self.host)?;
        writeln!(f, "  noise   {:?}", self.noise)?;
        for (index, emitter) in self.emitters.iter().enumerate() {
            writeln!(f, "  emitter {index}: {emitter:?}")?;
        }
        for (index, emitter) in self.acked.iter().enumerate() {
            writeln!(f, "  acked emitter {index}: {emitter:?}")?;
        }
        for (index, sender) in self.chained.iter().enumerate() {
            writeln!(f, "  chained sender {index}: {sender:?}")?;
        }
        for (index, analyzer) in self.analyzers.iter().enumerate() {
            writeln!(f, "  analyzer {index}: {analyzer:?}")?;
        }
        if !self.http.is_empty() {
            writeln!(f, "  http    {:?}", self.http)?;
        }
        for fault in &self.faults {
            writeln!(f, "  at {} ms: {:?}", fault.at_ms, fault.what)?;
        }
        writeln!(f, "  calm from {} ms on", self.calm_ms)
    }
}
