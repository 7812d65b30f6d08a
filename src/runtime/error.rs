//! Why a distributor does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::uring::{behind, Unusable};
use weir_config::MemoryNeed;
use weir_host::MemoryLimit;

/// Why a distributor did not start. Each says what to change.
#[derive(Debug)]
pub enum StartError {
    /// The kernel or its policy.
    Unusable(Unusable),
    /// Sockets that were passed cannot be used.
    Passed {
        /// Flag that they stand for.
        flag: String,
        /// Why.
        error: io::Error,
    },
    /// An address cannot be listened on.
    Listen {
        /// Flag that gave it.
        flag: String,
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
    /// The control group may use less memory than is needed: the kernel would kill the process without a word.
    MemoryLimit {
        /// What is needed.
        need: MemoryNeed,
        /// What is allowed.
        limit: MemoryLimit,
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
    /// A certificate, a key or a list of CAs cannot be used.
    Tls(weir_tls::Unusable),
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
                if error.kind() == io::ErrorKind::PermissionDenied {
                    write!(f, "; ports below net.ipv4.ip_unprivileged_port_start (1024) need CAP_NET_BIND_SERVICE: AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, a socket that systemd hands over, or a higher port")?;
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
            StartError::MemoryLimit { need, limit } => write!(
                f,
                "--arena, --ingress, --shards: {need} of memory are needed, connections left out, and {} bytes ({} MiB) are allowed ({}): allowed: a smaller --arena, fewer --shards, or a higher limit of the container or unit",
                limit.bytes,
                limit.bytes >> 20,
                limit.file
            ),
            StartError::Shard(text) => write!(f, "a shard did not start: {text}"),
            StartError::Cancelled => f.write_str("the start was given up"),
            StartError::Config(text) => f.write_str(text),
            StartError::Tls(unusable) => write!(f, "TLS: {unusable}"),
        }
    }
}

impl std::error::Error for StartError {}
