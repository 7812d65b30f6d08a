//! Which ports a process may listen on.

use crate::Host;

/// Bit of CAP_NET_BIND_SERVICE in `CapEff`.
const CAP_NET_BIND_SERVICE: u32 = 10;
/// What the kernel takes unless it is told.
const UNPRIVILEGED_DEFAULT: u16 = 1024;

/// The lowest port that the process may listen on.
pub fn lowest_port(host: &Host) -> u16 {
    let status = host.of_process("status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    if bits.is_some_and(|bits| bits >> CAP_NET_BIND_SERVICE & 1 == 1) {
        return 1;
    }
    let set = host.last_number("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    set.and_then(|port| u16::try_from(port).ok())
        .unwrap_or(UNPRIVILEGED_DEFAULT)
}
