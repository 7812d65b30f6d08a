//! The interface that the figures go over: driver, queues, interrupts.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;

use super::{put, Section, Tree, ABSENT};

/// Name of the interface that leads to `peer`: "lo", or [`ABSENT`] without a route.
///
/// A connected UDP socket tells which of this host's addresses the kernel would use; nothing is sent.
pub fn interface_of(peer: IpAddr) -> String {
    if peer.is_loopback() {
        return "lo".into();
    }
    let any: IpAddr = match peer {
        IpAddr::V4(_) => [0, 0, 0, 0].into(),
        IpAddr::V6(_) => [0u16; 8].into(),
    };
    let local = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        // The port is of no matter: discard.
        socket.connect(SocketAddr::new(peer, 9))?;
        Ok(socket.local_addr()?.ip())
    });
    let Ok(local) = local else {
        return ABSENT.into();
    };
    let found = getifaddrs().ok().and_then(|mut all| {
        all.find(|each| {
            let address = each.address.as_ref();
            let v4 = address.and_then(|a| a.as_sockaddr_in());
            let v6 = address.and_then(|a| a.as_sockaddr_in6());
            v4.is_some_and(|a| IpAddr::V4(a.ip()) == local)
                || v6.is_some_and(|a| IpAddr::V6(a.ip()) == local)
        })
    });
    // An address of this host itself goes over loopback, whatever interface has it.
    match found {
        Some(_) if local == peer => "lo".into(),
        Some(interface) => interface.interface_name,
        None => ABSENT.into(),
    }
}

pub(super) fn section(tree: &Tree, interface: &str) -> Section {
    let base = format!("sys/class/net/{interface}");
    let mut section = Section::new();
    section.insert("interface".into(), interface.into());
    let driver = tree.link_name(&format!("{base}/device/driver"));
    let is_there = tree.path(&base).exists();
    let driver = driver.or_else(|| is_there.then(|| "none: no device behind it".into()));
    put(&mut section, "driver", driver);
    section.insert("mtu".into(), tree.value(&format!("{base}/mtu")));
    // A virtual one has the file, and refuses to be read or says -1.
    let speed = tree.text(&format!("{base}/speed")).filter(|s| s != "-1");
    put(&mut section, "speed", speed.map(|s| s + " Mbit/s"));
    for file in [
        "gro_flush_timeout",
        "napi_defer_hard_irqs",
        "gro_max_size",
        "gso_max_size",
        "tx_queue_len",
    ] {
        // The largest sizes are shown by netlink alone; older kernels have them here.
        section.insert(file.into(), tree.value(&format!("{base}/{file}")));
    }
    let queues = tree.names(&format!("{base}/queues"));
    for (name, prefix, steering) in [
        ("receive queues", "rx-", "rps_cpus"),
        ("send queues", "tx-", "xps_cpus"),
    ] {
        let of_kind: Vec<&String> = queues.iter().filter(|q| q.starts_with(prefix)).collect();
        let count = Some(of_kind.len()).filter(|n| *n > 0);
        put(&mut section, name, count.map(|n| n.to_string()));
        let each: Vec<String> = of_kind
            .iter()
            .filter_map(|queue| {
                let cpus = tree.text(&format!("{base}/queues/{queue}/{steering}"))?;
                Some(format!("{queue}={cpus}"))
            })
            .collect();
        put(
            &mut section,
            steering,
            (!each.is_empty()).then(|| each.join(" ")),
        );
    }
    section
}

/// Which cores serve the interface's interrupts: "24 eth0-rx-0" -> "CPUs 3".
pub(super) fn interrupts(tree: &Tree, interface: &str) -> Section {
    let mut section = Section::new();
    let table = tree.text("proc/interrupts").unwrap_or_default();
    // Of virtio the lines name the device and not the interface.
    let device = tree.link_name(&format!("sys/class/net/{interface}/device"));
    for line in table.lines() {
        let (Some((number, _)), Some(name)) =
            (line.split_once(':'), line.split_whitespace().last())
        else {
            continue;
        };
        let is_of = |owner: &str| {
            let rest = name.strip_prefix(owner);
            rest.is_some_and(|r| r.is_empty() || r.starts_with(['-', '@', ':']))
        };
        if !is_of(interface) && !device.as_deref().is_some_and(is_of) {
            continue;
        }
        let number = number.trim();
        let cpus = tree.value(&format!("proc/irq/{number}/smp_affinity_list"));
        section.insert(format!("{number} {name}"), format!("CPUs {cpus}"));
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_lo() {
        assert_eq!(interface_of([127, 0, 0, 1].into()), "lo");
        assert_eq!(interface_of("::1".parse().expect("an address")), "lo");
    }
}
