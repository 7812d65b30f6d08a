//! How many shards there are, on which cores, and how much memory they take.
//!
//! ```text
//!   --cores, --shards        as they say
//!   else                     the smaller of the cores that the process may use and its CPU quota rounded up;
//!                            under a quota no shard is pinned: other containers have the same first cores
//! ```

use std::fmt;

use weir_host::{list_of_cpus, CpuQuota};

use crate::Config;

/// Memory that a distributor takes beside the arenas and the receive memory of its shards, in bytes: the program, its
/// tables, rings, and what the kernel counts for its first connections. A distributor of two shards without arena and
/// load has 6 MiB.
const PROCESS_BYTES: u64 = 16 << 20;

/// Number and place of the shards, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizing {
    /// Number of shards, 1 at least.
    pub shards: usize,
    /// A core for each; empty: none is pinned.
    pub cores: Vec<usize>,
    why: String,
}

impl Sizing {
    /// From the cores that the process may use, what somebody asked for, and the CPU quota of its control group.
    pub fn new(
        present: &[usize],
        core_list: Option<&[usize]>,
        shard_count: Option<u16>,
        quota: Option<&CpuQuota>,
    ) -> Sizing {
        let allowed = core_list.unwrap_or(present);
        let quota = quota.filter(|quota| quota.cores() < allowed.len() as f64);
        let (most, is_pinned) = match (quota, core_list) {
            (Some(quota), None) => (allowed.len().min(quota.whole_cores()), false),
            _ => (allowed.len(), true),
        };
        let shards = shard_count.map_or(most.max(1), usize::from);
        let cores = allowed.get(..shards).filter(|_| is_pinned);
        let mut why = match (shard_count, core_list, quota) {
            (Some(_), ..) => "--shards".to_owned(),
            (None, Some(list), _) => format!("--cores {}", list_of_cpus(list)),
            (None, None, Some(quota)) => format!("{quota}, of {} cores", present.len()),
            (None, None, None) => format!("{} cores that this process may use", present.len()),
        };
        if let Some(quota) = quota.filter(|_| shard_count.is_some() || core_list.is_some()) {
            why.push_str(&format!("; {quota} holds"));
        }
        Sizing {
            shards,
            cores: cores.map(<[usize]>::to_vec).unwrap_or_default(),
            why,
        }
    }
}

impl fmt::Display for Sizing {
    /// `1 shards, not pinned (a CPU quota of 0.50 cores (/sys/fs/cgroup/cpu.max), of 2 cores)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizing { shards, cores, why } = self;
        match cores.is_empty() {
            true => write!(f, "{shards} shards, not pinned: {why}"),
            false => write!(f, "{shards} shards on cores {}: {why}", list_of_cpus(cores)),
        }
    }
}

/// Memory that a distributor takes at start or on use, connections left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Number of shards.
    pub shards: u64,
    /// Arena and receive memory of each, in bytes.
    pub shard_bytes: u64,
}

impl MemoryNeed {
    /// Of a configuration whose shards are known.
    pub fn of(config: &Config) -> MemoryNeed {
        MemoryNeed {
            shards: config.shards as u64,
            shard_bytes: config.arena_bytes as u64
                + config.ingress_bytes as u64
                + datagrams_bytes(config),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        let shards = self.shards.saturating_mul(self.shard_bytes);
        shards.saturating_add(PROCESS_BYTES)
    }
}

/// Datagrams that a shard receives before any of their memory has gone back. More wait with the kernel; how many there says its
/// buffer. Only the pages of a buffer that a datagram fills are ever used.
pub const DATAGRAM_BUFFERS: u16 = 128;
/// Longest datagram of IP without its extension for jumbograms, in bytes.
pub const DATAGRAM_BYTES_MAX: u32 = 65_535;

/// Receive memory of each shard for datagrams, in bytes.
fn datagrams_bytes(config: &Config) -> u64 {
    let has_datagrams = config.all_inputs().iter().any(crate::Input::is_udp);
    let each = config.frame_bytes_max.min(DATAGRAM_BYTES_MAX);
    match has_datagrams {
        true => u64::from(DATAGRAM_BUFFERS) * u64::from(each),
        false => 0,
    }
}

impl fmt::Display for MemoryNeed {
    /// `2 shards x 68 MiB + 16 MiB = 152 MiB`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} shards x {} + {} = {}",
            self.shards,
            mib(self.shard_bytes),
            mib(PROCESS_BYTES),
            mib(self.bytes())
        )
    }
}

/// Rounded up: what is needed is not less than what is said.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(percent: u64) -> CpuQuota {
        CpuQuota {
            file: "/x/cpu.max".into(),
            quota_us: percent * 1000,
            period_us: 100_000,
        }
    }

    #[test]
    fn the_smaller_of_cores_and_quota_decides() {
        let present = [0, 1, 4, 5];
        let size = |cores: Option<&[usize]>, shards, percent: Option<u64>| {
            let quota = percent.map(quota);
            let sizing = Sizing::new(&present, cores, shards, quota.as_ref());
            (sizing.shards, sizing.cores.clone(), sizing.to_string())
        };
        type Case<'a> = (
            Option<&'a [usize]>,
            Option<u16>,
            Option<u64>,
            usize,
            &'a [usize],
            &'a str,
        );
        let cases: [Case<'_>; 11] = [
            (
                None,
                None,
                None,
                4,
                &present,
                "4 cores that this process may use",
            ),
            (
                None,
                None,
                Some(50),
                1,
                &[],
                "a CPU quota of 0.50 cores (/x/cpu.max), of 4 cores",
            ),
            (None, None, Some(150), 2, &[], "a CPU quota of 1.50 cores"),
            (None, None, Some(390), 4, &[], "not pinned"),
            (None, None, Some(400), 4, &present, "on cores 0-1,4-5"),
            (None, None, Some(6400), 4, &present, "4 cores"),
            (
                None,
                Some(3),
                Some(200),
                3,
                &[],
                "--shards; a CPU quota of 2.00",
            ),
            (
                None,
                Some(3),
                None,
                3,
                &[0, 1, 4],
                "on cores 0-1,4: --shards",
            ),
            (
                None,
                Some(9),
                None,
                9,
                &[],
                "9 shards, not pinned: --shards",
            ),
            (
                Some(&[4, 5]),
                None,
                Some(100),
                2,
                &[4, 5],
                "--cores 4-5; a CPU quota of 1.00",
            ),
            (
                Some(&[4, 5]),
                None,
                Some(200),
                2,
                &[4, 5],
                "2 shards on cores 4-5: --cores 4-5",
            ),
        ];
        for (cores, shards, percent, number, pinned, words) in cases {
            let (found, on, text) = size(cores, shards, percent);
            assert_eq!((found, &on[..]), (number, pinned), "{text}");
            assert!(text.contains(words), "{words}: {text}");
        }
        let nobody = Sizing::new(&[], None, None, None);
        assert_eq!(nobody.shards, 1);
    }

    #[test]
    fn memory_is_a_sum() {
        let need = MemoryNeed {
            shards: 2,
            shard_bytes: 68 << 20,
        };
        assert_eq!(need.to_string(), "2 shards x 68 MiB + 16 MiB = 152 MiB");
        assert_eq!(need.bytes(), 152 << 20);
    }
}
