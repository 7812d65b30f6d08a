//! `weir doctor`: what is wrong with this host for Weir, the command that mends it, and what that is worth.
//!
//! ```text
//!   /proc /sys ethtool --> weir_host --> kernel  process  cores  network  nic  memory --> report.rs
//!                                         one function a check: as it should be,
//!                                         found (level, words, mend, worth), or not known
//! ```
//!
//! The values come from `tuning/thresholds.conf`, which the stages of `tuning/tune.sh` read as well.

mod certificates;
mod cores;
mod kernel;
mod memory;
mod network;
mod nic;
mod process;
mod report;
mod thresholds;
mod whose;

pub use report::{json, text};
pub use weir_host::{cpus_of_list, list_of_cpus, Host};

use std::net::SocketAddr;

use weir_config::MemoryNeed;
use weir_runtime::Needs;

/// What Weir is to do on the host.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Cores of its shards, in order.
    pub cores: Vec<usize>,
    /// Whether somebody has chosen them; else they are all that there are.
    pub are_cores_chosen: bool,
    /// Number of shards.
    pub shards: usize,
    /// Memory for messages per shard, in bytes.
    pub arena_bytes: u64,
    /// Memory for receiving per shard, in bytes.
    pub ingress_bytes: u64,
    /// All that it takes at start or on use.
    pub memory: MemoryNeed,
    /// What it needs descriptors for.
    pub descriptors: Needs,
    /// Whether zero-copy sends are wanted.
    pub is_zero_copy_wanted: bool,
    /// Where it listens, by the flags; without ports that the kernel chooses.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// Where datagrams come to it, likewise.
    pub datagrams: Vec<(&'static str, SocketAddr)>,
    /// Most memory in bytes that an input asks for datagrams that wait; 0: there are none.
    pub datagram_buffer_bytes: u64,
    /// What is wrong with its certificates, or soon will be; none: it speaks no TLS.
    pub certificates: Option<Vec<String>>,
}

impl Plan {
    /// Bytes that zero-copy locks beside the rings.
    fn arenas_bytes(&self) -> u64 {
        self.shards as u64 * self.arena_bytes
    }

    /// CPUs of the host that are not Weir's.
    fn others(&self, host: &Host) -> Vec<usize> {
        let mut online = host.online();
        online.retain(|cpu| !self.cores.contains(cpu));
        online
    }

    /// CPUs that take interrupts and do TCP: those that are not Weir's, or all when there are no others.
    fn housekeeping(&self, host: &Host) -> Vec<usize> {
        let others = self.others(host);
        match others.is_empty() {
            true => host.online(),
            false => others,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know; nothing that must be done.
    Note,
    /// Costs speed, latency or connections.
    Warning,
    /// Weir does not start, or does not do what it is asked to.
    Fault,
}

impl Level {
    /// In reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Fault => "fault",
        }
    }
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A stage of `tuning/tune.sh`.
    Stage(&'static str),
    /// A command line.
    Command(String),
    /// What no command does.
    Advice(String),
}

/// What mending it is worth, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Measured with Weir or its prototype.
    Measured(&'static str),
    /// Said by somebody else: who, what.
    Sourced(&'static str),
    /// It works at all, or it does not.
    Plain(&'static str),
}

/// What a check has to say.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// As it should be: what is there.
    Good(String),
    /// Not as it should be.
    Found {
        /// How bad.
        level: Level,
        /// In plain words, with the value.
        says: String,
        /// What to do.
        mend: Mend,
        /// What that brings.
        worth: Worth,
    },
    /// It cannot be seen from here: why.
    Unknown(&'static str),
}

/// A check that was made.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub id: &'static str,
    /// What it has to say.
    pub outcome: Outcome,
}

type Check = fn(&Host, &Plan) -> Outcome;

/// All checks, in the order of reports.
const CHECKS: [(&str, Check); 37] = [
    ("kernel", kernel::version),
    ("io-uring", kernel::io_uring),
    ("ring-features", kernel::ring_features),
    ("clocksource", kernel::clocksource),
    ("mitigations", kernel::mitigations),
    ("memlock", process::memlock),
    ("nofile", process::nofile),
    ("cpu-quota", process::cpu_quota),
    ("memory", process::memory),
    ("zero-copy", process::zero_copy),
    ("governor", cores::governor),
    ("c-states", cores::c_states),
    ("isolation", cores::isolation),
    ("interrupts", cores::interrupts),
    ("irqbalance", cores::irqbalance),
    ("siblings", cores::siblings),
    ("numa", cores::numa),
    ("ports", network::ports),
    ("certificates", certificates::certificates),
    ("somaxconn", network::somaxconn),
    ("syn-backlog", network::syn_backlog),
    ("device-backlog", network::device_backlog),
    ("datagram-buffer", network::datagram_buffer),
    ("receive-buffer", network::receive_buffer),
    ("send-buffer", network::send_buffer),
    ("idle-restart", network::idle_restart),
    ("busy-poll", network::busy_poll),
    ("listen-drops", network::listen_drops),
    ("queues", nic::queues),
    ("steering", nic::steering),
    ("flow-steering", nic::flow_steering),
    ("coalescing", nic::coalescing),
    ("offloads", nic::offloads),
    ("huge-pages", memory::huge_pages),
    ("huge-page-stalls", memory::huge_page_stalls),
    ("numa-balancing", memory::numa_balancing),
    ("swap", memory::swap),
];

/// Makes all checks.
pub fn examine(host: &Host, plan: &Plan) -> Vec<Checked> {
    let check = |&(id, check): &(&'static str, Check)| Checked {
        id,
        outcome: check(host, plan),
    };
    CHECKS.iter().map(check).collect()
}

/// Whether something is wrong: a warning or a fault.
pub fn is_wrong(checked: &[Checked]) -> bool {
    checked
        .iter()
        .any(|one| matches!(one.outcome, Outcome::Found { level, .. } if level >= Level::Warning))
}

fn good(is: impl Into<String>) -> Outcome {
    Outcome::Good(is.into())
}

fn found(level: Level, says: String, mend: Mend, worth: Worth) -> Outcome {
    Outcome::Found {
        level,
        says,
        mend,
        worth,
    }
}

/// `68 MiB`: for people, not exact.
fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib if mib < 10 << 10 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}
