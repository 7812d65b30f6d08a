//! What the machine, its kernel and the container runtime show a process and allow it. Nothing is changed.
//!
//! ```text
//!   /proc /sys ethtool --> read.rs: Host --> cgroup.rs    CPU quota and memory limit, those of parents too
//!   (or a tree that                     |--> memlock.rs   what may be locked, what shards lock, who locks it
//!    looks like them)                   |--> seccomp.rs   whether a filter is in force
//!                                       `--> place.rs     host, container or pod
//! ```
//!
//! Read once at start, before anything is taken; the doctor reads the same.
#![forbid(unsafe_code)]

mod cgroup;
mod memlock;
mod place;
mod ports;
mod read;
mod seccomp;

pub use cgroup::{cpu_quota, groups, memory_limit, CpuQuota, MemoryLimit};
pub use memlock::{locked_by_others, may_lock_anything, memlock_limit, Locked, SHARD_LOCKED_BYTES};
pub use place::Place;
pub use ports::{lowest_port, receive_buffer_max};
pub use read::{cpus_of_list, list_of_cpus, Host};
pub use seccomp::has_filter;
