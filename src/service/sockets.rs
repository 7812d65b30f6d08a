//! Sockets that the manager opened: it listens before the service runs and while it restarts, so that who
//! connects meanwhile waits and is not refused.
//!
//! ```text
//!   LISTEN_PID=4711  LISTEN_FDS=3  LISTEN_FDNAMES=emitters:analyzers:http
//!   descriptors           3             4             5
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use socket2::{Domain, SockRef, Type};

/// The first of them.
const FIRST: RawFd = 3;
/// Most that are taken: four kinds, and a shard has at most one of each kind.
const SOCKETS_MAX: u16 = 4096;
/// Names that sockets may have (FileDescriptorName= of the socket unit).
pub const NAMES: [&str; 4] = ["emitters", "analyzers", "http", "admin"];
/// What stands before the name of an input in that of its socket.
pub const INPUT_PREFIX: &str = "input-";

/// Where operators connect.
#[derive(Debug)]
pub enum AdminSocket {
    /// A Unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Listening sockets by name.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where emitters connect; several: one for a shard.
    pub emitters: Vec<TcpListener>,
    /// Where analyzers connect.
    pub analyzers: Vec<TcpListener>,
    /// Where HTTP clients connect.
    pub http: Vec<TcpListener>,
    /// Where operators connect.
    pub admin: Option<AdminSocket>,
    /// Where emitters connect to inputs, by the names of these.
    pub inputs: BTreeMap<String, Vec<TcpListener>>,
}

impl Sockets {
    /// Those of the environment; none when it is meant for another process. To be called once, before the
    /// process opens anything. `adopt` takes so many descriptors from the first on: whoever calls this answers
    /// for nobody else having them.
    ///
    /// # Errors
    /// The variable, its value and what is allowed; or the descriptor and what is wrong with it.
    pub fn from_environment(
        adopt: impl FnOnce(RawFd, u16) -> io::Result<Vec<OwnedFd>>,
    ) -> Result<Sockets, String> {
        let variables = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(super::variable);
        let [pid, count, names] = variables.each_ref().map(|value| value.as_deref());
        let names = names_of(pid, count, names, std::process::id())?;
        if names.is_empty() {
            return Ok(Sockets::default());
        }
        let count = u16::try_from(names.len()).map_err(|error| error.to_string())?;
        let descriptors = adopt(FIRST, count)
            .map_err(|error| format!("LISTEN_FDS={count}: descriptors from {FIRST} on: {error}"))?;
        let mut sockets = Sockets::default();
        for ((name, descriptor), fd) in names.iter().zip(descriptors).zip(FIRST..) {
            let taken = sockets.take(name, descriptor);
            taken.map_err(|why| format!("descriptor {fd} (LISTEN_FDNAMES: {name:?}): {why}"))?;
        }
        Ok(sockets)
    }

    /// Where the sockets of a kind listen: emitters, analyzers, HTTP.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn addresses(&self) -> Result<[Option<SocketAddr>; 3], String> {
        Ok([
            address(&self.emitters)?,
            address(&self.analyzers)?,
            address(&self.http)?,
        ])
    }

    /// Where the sockets of inputs listen, by the names of these.
    ///
    /// # Errors
    /// As [`Sockets::addresses`].
    pub fn input_addresses(&self) -> Result<BTreeMap<String, SocketAddr>, String> {
        let mut all = BTreeMap::new();
        for (name, sockets) in &self.inputs {
            if let Some(at) = address(sockets)? {
                all.insert(name.clone(), at);
            }
        }
        Ok(all)
    }

    fn take(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), String> {
        let socket = SockRef::from(&descriptor);
        let what = |error: std::io::Error| error.to_string();
        let is_stream = socket.r#type().map_err(what)? == Type::STREAM;
        if !is_stream || !socket.is_listener().map_err(what)? {
            return Err("allowed: a stream socket that listens (ListenStream=, Accept=no)".into());
        }
        let address = socket.local_addr().map_err(what)?;
        let is_tcp = [Domain::IPV4, Domain::IPV6].contains(&address.domain());
        if !is_tcp && name != "admin" {
            return Err("allowed: a TCP address".into());
        }
        match name {
            "emitters" => self.emitters.push(descriptor.into()),
            "analyzers" => self.analyzers.push(descriptor.into()),
            "http" => self.http.push(descriptor.into()),
            _ if name.starts_with(INPUT_PREFIX) => {
                let input = name[INPUT_PREFIX.len()..].to_owned();
                self.inputs
                    .entry(input)
                    .or_default()
                    .push(descriptor.into());
            }
            _ if self.admin.is_some() => return Err("there may be one of this name".into()),
            _ if is_tcp => self.admin = Some(AdminSocket::Tcp(descriptor.into())),
            _ => self.admin = Some(AdminSocket::Unix(descriptor.into())),
        }
        Ok(())
    }
}

fn address(sockets: &[TcpListener]) -> Result<Option<SocketAddr>, String> {
    let first = sockets.first().map(TcpListener::local_addr).transpose();
    first.map_err(|error| format!("a socket that was passed: {error}"))
}

/// A name for each descriptor; none when they are for another process, or there are none.
fn names_of(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Vec<String>, String> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(Vec::new());
    };
    if pid.parse() != Ok(own) {
        return Ok(Vec::new());
    }
    let sockets: u16 = count
        .parse()
        .ok()
        .filter(|sockets| *sockets <= SOCKETS_MAX)
        .ok_or_else(|| format!("LISTEN_FDS={count:?}: allowed: 0 to {SOCKETS_MAX}"))?;
    if sockets == 0 {
        return Ok(Vec::new());
    }
    let allowed = || {
        let allowed = format!("{}, {INPUT_PREFIX}NAME of an input", NAMES.join(", "));
        format!("allowed: {sockets} of {allowed} with colons between (FileDescriptorName= of each socket unit)")
    };
    let given = names.ok_or_else(|| format!("LISTEN_FDNAMES is not set; {}", allowed()))?;
    let names: Vec<String> = given.split(':').map(str::to_owned).collect();
    let is_known = |name: &String| NAMES.contains(&name.as_str()) || name.starts_with(INPUT_PREFIX);
    if names.len() != usize::from(sockets) || !names.iter().all(is_known) {
        return Err(format!("LISTEN_FDNAMES={given:?}: {}", allowed()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_of_the_descriptors() {
        let names = names_of(Some("7"), Some("3"), Some("http:emitters:emitters"), 7);
        assert_eq!(
            names,
            Ok(vec!["http".into(), "emitters".into(), "emitters".into()])
        );
    }

    #[test]
    fn what_is_for_another_process_is_not_looked_at() {
        let none = Ok(Vec::new());
        assert_eq!(names_of(Some("8"), Some("x"), None, 7), none);
        assert_eq!(names_of(Some(""), Some("1"), Some("http"), 7), none);
        assert_eq!(names_of(None, Some("1"), Some("http"), 7), none);
        assert_eq!(names_of(Some("7"), None, Some("http"), 7), none);
        assert_eq!(names_of(Some("7"), Some("0"), None, 7), none);
    }

    #[test]
    fn bad_variables_are_named_with_what_is_allowed() {
        for (count, names, words) in [
            ("x", Some("http"), ["LISTEN_FDS=\"x\"", "0 to 4096"]),
            ("5000", Some("http"), ["5000", "0 to 4096"]),
            ("1", None, ["LISTEN_FDNAMES is not set", "emitters"]),
            (
                "1",
                Some("weir.socket"),
                ["weir.socket", "FileDescriptorName"],
            ),
            ("2", Some("http"), ["\"http\"", "2 of emitters"]),
        ] {
            let error = names_of(Some("7"), Some(count), names, 7).expect_err(count);
            let has_all = words.iter().all(|word| error.contains(word));
            assert!(has_all, "{error}: {words:?}");
        }
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let mut sockets = Sockets::default();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("free port");
        let refused = sockets.take("http", udp.into()).expect_err("UDP");
        assert!(refused.contains("ListenStream"), "{refused}");
        let file = std::fs::File::open("/dev/null").expect("there");
        sockets.take("http", file.into()).expect_err("no socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("free port");
        let at = tcp.local_addr().expect("bound");
        sockets.take("http", tcp.into()).expect("a listener");
        assert_eq!(sockets.addresses(), Ok([None, None, Some(at)]));
        let tcp = TcpListener::bind("127.0.0.1:0").expect("free port");
        let at = tcp.local_addr().expect("bound");
        sockets.take("input-edge", tcp.into()).expect("a listener");
        let inputs = sockets.input_addresses().expect("known");
        assert_eq!(inputs, BTreeMap::from([("edge".to_owned(), at)]));
    }
}
