//! Kernel settings of TCP.

use std::net::SocketAddr;

use weir_host::{lowest_port, receive_buffer_max};

use super::thresholds::{DEVICE_BACKLOG_MIN, SOMAXCONN_MIN, SYN_BACKLOG_MIN, TCP_BUFFER_BYTES_MIN};
use super::{found, good, mib, Host, Level, Mend, Outcome, Plan, Worth};

/// A number that is at least `least`, or what is said about it.
fn at_least(host: &Host, name: &str, least: u64, why: &str, worth: Worth) -> Outcome {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    match host.last_number(&path) {
        None => Outcome::Unknown("not on this host, or not in this network namespace"),
        Some(is) if is >= least => good(format!("{name} {is}")),
        Some(is) => found(
            Level::Warning,
            format!("{name} is {is}, {least} wanted: {why}"),
            Mend::Stage("sysctl"),
            worth,
        ),
    }
}

/// A socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// A socket without a peer, in `/proc/net/udp`.
const UNCONNECTED: &str = "07";

/// Ports that something listens on, whatever the address: those of a table that have this state.
fn ports_taken(host: &Host, protocol: &str, wanted: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let port = local.rsplit_once(':')?.1;
        (state == wanted).then(|| u16::from_str_radix(port, 16).ok())?
    };
    let tables = ["", "6"].map(|version| host.text(&format!("/proc/net/{protocol}{version}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    lines.filter_map(port).collect()
}

/// Whether it may listen where it shall, and whether nobody else does.
pub fn ports(host: &Host, plan: &Plan) -> Outcome {
    let lowest = lowest_port(host);
    let mut all = plan.listeners.iter().chain(&plan.datagrams);
    if let Some((flag, at)) = all.find(|(_, at)| at.port() < lowest) {
        return found(
            Level::Fault,
            format!("{flag} {at}: ports below {lowest} need CAP_NET_BIND_SERVICE, which this process has not"),
            Mend::Advice("AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, a socket that systemd hands over, or a higher port".into()),
            Worth::Plain("Weir starts"),
        );
    }
    for (listeners, protocol, state, option) in [
        (&plan.listeners, "tcp", LISTENS, "-ltnp"),
        (&plan.datagrams, "udp", UNCONNECTED, "-lunp"),
    ] {
        let taken = ports_taken(host, protocol, state);
        let is_taken = |(_, at): &&(&str, SocketAddr)| taken.contains(&at.port());
        if let Some((flag, at)) = listeners.iter().find(is_taken) {
            return found(
                Level::Note,
                format!("{flag} {at}: something listens on port {} already; if that is not this distributor, it will not start", at.port()),
                Mend::Command(format!("ss {option} 'sport = :{}'", at.port())),
                Worth::Plain("Weir starts"),
            );
        }
    }
    let all = plan.listeners.len() + plan.datagrams.len();
    good(format!("{all} free, from {lowest} on allowed"))
}

pub fn somaxconn(host: &Host, _: &Plan) -> Outcome {
    let why =
        "when all emitters connect at once, those beyond are dropped, and try again after a second";
    let worth = Worth::Measured("9,000 connections at once, loopback, after 0.7 s without accept: with 4,096 the last is there 1.6 to 2.6 s later, with 16,384 0.07 s");
    at_least(host, "net.core.somaxconn", SOMAXCONN_MIN, why, worth)
}

pub fn syn_backlog(host: &Host, _: &Plan) -> Outcome {
    let why = "handshakes beyond are dropped, or answered with SYN cookies, without window scaling if the peer has no timestamps";
    let worth = Worth::Sourced("ip-sysctl.rst, tcp_max_syn_backlog");
    at_least(
        host,
        "net.ipv4.tcp_max_syn_backlog",
        SYN_BACKLOG_MIN,
        why,
        worth,
    )
}

pub fn device_backlog(host: &Host, _: &Plan) -> Outcome {
    let why = "packets that wait for a CPU (RPS, loopback, veth) are dropped beyond";
    let worth = Worth::Sourced("sysctl/net.rst, netdev_max_backlog; column 2 of /proc/net/softnet_stat counts what was dropped");
    at_least(
        host,
        "net.core.netdev_max_backlog",
        DEVICE_BACKLOG_MIN,
        why,
        worth,
    )
}

fn buffer(host: &Host, name: &str) -> Outcome {
    let most = host
        .last_number(&format!("/proc/sys/net/ipv4/{name}"))
        .unwrap_or(0);
    let why = format!(
        "with 10 ms of round trip a connection gets {} MiB/s at most",
        (most >> 20) * 100
    );
    let worth = Worth::Sourced("tcp(7): no more than the buffer can be under way, so the rate is at most buffer / round trip; nothing on loopback");
    let outcome = at_least(
        host,
        &format!("net.ipv4.{name}"),
        TCP_BUFFER_BYTES_MIN,
        &why,
        worth,
    );
    match outcome {
        Outcome::Good(_) => good(format!("net.ipv4.{name} up to {}", mib(most))),
        other => other,
    }
}

/// Largest buffer that the stage `sysctl` allows, in bytes.
const STAGE_RMEM_MAX: u64 = 16 << 20;

/// Memory for datagrams that wait: what is asked for, and what the kernel gives.
pub fn datagram_buffer(host: &Host, plan: &Plan) -> Outcome {
    let asked = plan.datagram_buffer_bytes;
    if asked == 0 {
        return good("no input takes datagrams");
    }
    let kib = |bytes: u64| format!("{} KiB", bytes >> 10);
    match receive_buffer_max(host) {
        Some(most) if most < asked => found(
            Level::Warning,
            format!(
                "an input asks for {} for datagrams that wait, and the kernel gives {} (net.core.rmem_max): a burst that does not fit is lost before receipt",
                kib(asked),
                kib(most)
            ),
            match asked <= STAGE_RMEM_MAX {
                true => Mend::Stage("sysctl"),
                false => Mend::Command(format!("sudo sysctl -w net.core.rmem_max={asked}")),
            },
            Worth::Sourced("socket(7), SO_RCVBUF: rmem_max is the most, and the kernel counts its own record of each datagram as well; CAP_NET_ADMIN goes beyond it"),
        ),
        Some(_) => good(format!("{} as asked for", kib(asked))),
        None => good(format!("{} as asked for, by CAP_NET_ADMIN", kib(asked))),
    }
}

pub fn receive_buffer(host: &Host, _: &Plan) -> Outcome {
    buffer(host, "tcp_rmem")
}

pub fn send_buffer(host: &Host, _: &Plan) -> Outcome {
    buffer(host, "tcp_wmem")
}

pub fn idle_restart(host: &Host, _: &Plan) -> Outcome {
    match host.number("/proc/sys/net/ipv4/tcp_slow_start_after_idle") {
        None => Outcome::Unknown("not on this host"),
        Some(0) => good("a link that was idle keeps its rate"),
        Some(_) => found(
            Level::Warning,
            "a link that was idle for a moment starts slowly again (net.ipv4.tcp_slow_start_after_idle is 1)".into(),
            Mend::Stage("sysctl"),
            Worth::Sourced("ip-sysctl.rst; a burst after a pause takes some round trips more; nothing on loopback"),
        ),
    }
}

pub fn busy_poll(host: &Host, _: &Plan) -> Outcome {
    let of = |name: &str| host.number(&format!("/proc/sys/net/core/{name}"));
    let (Some(read), Some(poll)) = (of("busy_read"), of("busy_poll")) else {
        return Outcome::Unknown("kernel without busy polling, or a network namespace");
    };
    if read == 0 && poll == 0 {
        return good("off");
    }
    found(
        Level::Warning,
        format!("programs spin in blocking reads (busy_read {read} us, busy_poll {poll} us): Weir has none, but the others' spinning takes its cores"),
        Mend::Stage("coalescing"),
        Worth::Sourced("sysctl/net.rst, busy_read and busy_poll; not measured here"),
    )
}

/// What the kernel has counted since it started, not what is set.
pub fn listen_drops(host: &Host, _: &Plan) -> Outcome {
    let text = host.text("/proc/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Outcome::Unknown("no /proc/net/netstat");
    };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let overflows = pairs
        .find(|(name, _)| *name == "ListenOverflows")
        .map_or("0", |(_, n)| n);
    if overflows == "0" {
        return good("no connection was dropped for a full listen queue");
    }
    found(
        Level::Note,
        format!("{overflows} connections were dropped since boot because a listen queue was full (of any program)"),
        Mend::Advice("`ss -ltn`: Recv-Q at Send-Q is the one; see somaxconn".into()),
        Worth::Plain("each waited a second and more for its next try"),
    )
}
