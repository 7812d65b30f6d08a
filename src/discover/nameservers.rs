//! Who is asked, and how: /etc/resolv.conf, as far as SRV records need it (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 53;
/// As the system's resolver: further ones are not asked.
const SERVERS_MAX: usize = 3;
/// Search domains, each of which is a question.
const SEARCH_MAX: usize = 6;
/// No more of the file is read.
const FILE_BYTES_MAX: u64 = 64 << 10;
const PATH: &str = "/etc/resolv.conf";

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nameservers {
    pub(crate) servers: Vec<SocketAddr>,
    /// Appended to names that are not absolute.
    pub(crate) search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub(crate) ndots: usize,
    /// For one answer of one server.
    pub(crate) timeout: Duration,
    /// How often each server is asked.
    pub(crate) attempts: u32,
}

impl Nameservers {
    /// These and no others; names are taken as absolute.
    pub(crate) fn chosen(servers: &[SocketAddr]) -> Nameservers {
        Nameservers {
            servers: servers.to_vec(),
            search: Vec::new(),
            ndots: 0,
            timeout: Duration::from_secs(2),
            attempts: 2,
        }
    }

    /// Those of the system, as they are now. Without the file: one on this host, as resolv.conf(5) says.
    pub(crate) fn of_system() -> Nameservers {
        read_at_most(Path::new(PATH)).map_or_else(|| parse(""), |text| parse(&text))
    }

    /// The names to ask for, in order.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let mut all: Vec<String> = searched.collect();
        let dots = name.matches('.').count();
        let at = if dots >= self.ndots { 0 } else { all.len() };
        all.insert(at, name.to_owned());
        all
    }
}

fn read_at_most(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Lines that are not understood are passed over, as the system's resolver does.
fn parse(text: &str) -> Nameservers {
    let mut found = Nameservers {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                let room = found.servers.len() < SERVERS_MAX;
                let server = ip.filter(|_| room).map(|ip| SocketAddr::new(ip, PORT));
                found.servers.extend(server);
            }
            Some("search" | "domain") => {
                let bare = |domain: &str| domain.trim_end_matches('.').to_owned();
                let domains = words.map(bare).filter(|domain| !domain.is_empty());
                found.search = domains.take(SEARCH_MAX).collect();
            }
            Some("options") => words.for_each(|option| found.option(option)),
            _ => {}
        }
    }
    if found.servers.is_empty() {
        found.servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    found
}

impl Nameservers {
    fn option(&mut self, option: &str) {
        let Some((name, Ok(value))) = option.split_once(':').map(|(n, v)| (n, v.parse::<u32>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_pod_is_understood() {
        let found = parse(
            "# by the kubelet\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver ::1 ; here\n\
             search logs.svc.cluster.local svc.cluster.local cluster.local.\n\
             options ndots:5 timeout:2 attempts:3 edns0 nonsense:x\n",
        );
        assert_eq!(
            found.servers,
            ["10.96.0.10:53", "[::1]:53"].map(|it| it.parse().expect(it))
        );
        assert_eq!((found.ndots, found.attempts), (5, 3));
        assert_eq!(found.timeout, Duration::from_secs(2));
        assert_eq!(
            found.candidates("_a._tcp.weir"),
            [
                "_a._tcp.weir.logs.svc.cluster.local",
                "_a._tcp.weir.svc.cluster.local",
                "_a._tcp.weir.cluster.local",
                "_a._tcp.weir"
            ]
        );
        assert_eq!(found.candidates("_a._tcp.weir."), ["_a._tcp.weir"]);
        let name = "_a._tcp.b.c.d.e";
        assert_eq!(found.candidates(name)[0], name, "five dots");
    }

    #[test]
    fn without_a_nameserver_it_is_the_one_on_this_host() {
        assert_eq!(
            parse("\n").servers,
            ["127.0.0.1:53".parse().expect("an address")]
        );
        let many = "nameserver 192.0.2.1\n".repeat(9);
        assert_eq!(parse(&many).servers.len(), SERVERS_MAX);
    }
}
