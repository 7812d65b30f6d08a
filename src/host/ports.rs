//! Which ports a process may listen on, and what memory its sockets get.

use crate::Host;

/// Bit of CAP_NET_BIND_SERVICE in `CapEff`.
const CAP_NET_BIND_SERVICE: u32 = 10;
/// The same of CAP_NET_ADMIN.
const CAP_NET_ADMIN: u32 = 12;
/// What the kernel takes unless it is told.
const UNPRIVILEGED_DEFAULT: u16 = 1024;

/// The process has a capability, by its bit.
fn has_capability(host: &Host, bit: u32) -> bool {
    let status = host.of_process("status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> bit & 1 == 1)
}

/// The most memory in bytes that the process gets for what waits at a socket; none: as much as it asks for. Also none where
/// that cannot be seen.
pub fn receive_buffer_max(host: &Host) -> Option<u64> {
    match has_capability(host, CAP_NET_ADMIN) {
        true => None,
        false => host.last_number("/proc/sys/net/core/rmem_max"),
    }
}

/// The lowest port that the process may listen on.
pub fn lowest_port(host: &Host) -> u16 {
    if has_capability(host, CAP_NET_BIND_SERVICE) {
        return 1;
    }
    let set = host.last_number("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    set.and_then(|port| u16::try_from(port).ok())
        .unwrap_or(UNPRIVILEGED_DEFAULT)
}
