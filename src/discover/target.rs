//! What `--addr` takes, read and checked.
//!
//! ```text
//!   HOST:PORT                            one distributor; any of the name's addresses
//!   dns+HOST:PORT                        each address of the name is a distributor
//!   dnssrv+_service._proto.NAME          each target of the SRV record is one
//!   file+PATH                            a line each, of the forms above; # begins a comment
//! ```

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Most targets in a list or a file.
pub const TARGETS_MAX: usize = 1_024;
/// Most bytes of a name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const FORMS: &str =
    "HOST:PORT, dns+HOST:PORT, dnssrv+_SERVICE._PROTO.NAME, file+PATH, or several with commas";

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// 1 or more.
    pub port: u16,
}

/// A name of SRV records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvName(String);

/// Where distributors are to be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One distributor.
    Host(HostPort),
    /// One for each address.
    Dns(HostPort),
    /// One for each record.
    Srv(SrvName),
    /// One for each line.
    File(PathBuf),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTarget {
    text: String,
    why: String,
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadTarget { text, why } = self;
        write!(f, "{text:?}: {why}; allowed: {FORMS}")
    }
}

impl std::error::Error for BadTarget {}

impl BadTarget {
    /// What is wrong, without what is allowed.
    pub fn why(&self) -> String {
        format!("{:?}: {}", self.text, self.why)
    }
}

impl HostPort {
    fn read(text: &str) -> Result<HostPort, String> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("a host and a port are needed (localhost:8080, [::1]:8080)".into());
        };
        let host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            None if !host.contains(':') || host.contains('/') => host,
            _ => return Err("an IPv6 address and its port are written [::1]:8080".into()),
        };
        check_name(host)?;
        match port.parse() {
            Ok(port @ 1..) => Ok(HostPort {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!("port {port:?}: allowed: 1 to 65535")),
        }
    }

    /// The host, if it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<HostPort, String> {
        HostPort::read(text)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// No name has these characters; whether there is such a name is for DNS to say.
fn check_name(name: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "+/@?#\"'\\,[]".contains(c);
    if name.is_empty() {
        return Err("the host is missing".into());
    }
    if let Some(odd) = name.chars().find(|c| is_odd(*c)) {
        return Err(format!("{odd:?} is in no host name"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "a name has at most {NAME_BYTES_MAX} bytes, this one {}",
            name.len()
        ));
    }
    let is_label = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len());
    if name.contains(':') || name.trim_end_matches('.').split('.').all(is_label) {
        return Ok(());
    }
    Err(format!(
        "each part of a name has 1 to {LABEL_BYTES_MAX} bytes"
    ))
}

impl SrvName {
    fn read(text: &str) -> Result<SrvName, String> {
        check_name(text)?;
        if text.contains(':') {
            return Err("an SRV record has its ports itself: _SERVICE._PROTO.NAME".into());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let is_special = |part: &&str| part.len() > 1 && part.starts_with('_');
        match parts[..] {
            [service, proto, name] if is_special(&service) && is_special(&proto) => {
                match name.trim_end_matches('.').is_empty() {
                    false => Ok(SrvName(text.to_owned())),
                    true => Err("the name after _SERVICE._PROTO. is missing".into()),
                }
            }
            _ => Err(
                "an SRV name is written _weir-analyzers._tcp.example.net, without a port".into(),
            ),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SrvName {
    type Err = String;

    fn from_str(text: &str) -> Result<SrvName, String> {
        SrvName::read(text)
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        let named = |why: String| BadTarget {
            text: text.chars().take(300).collect(),
            why,
        };
        let Some((form, rest)) = text.split_once('+') else {
            return HostPort::read(text).map(Target::Host).map_err(named);
        };
        match form {
            "dns" => HostPort::read(rest).map(Target::Dns).map_err(named),
            "dnssrv" => SrvName::read(rest).map(Target::Srv).map_err(named),
            "file" if rest.is_empty() => Err(named("the path is missing".into())),
            "file" => Ok(Target::File(rest.into())),
            _ => Err(named(format!("{form}+ is no form of a target"))),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host(at) => write!(f, "{at}"),
            Target::Dns(at) => write!(f, "dns+{at}"),
            Target::Srv(name) => write!(f, "dnssrv+{}", name.as_str()),
            Target::File(path) => write!(f, "file+{}", path.display()),
        }
    }
}

impl Target {
    /// Nobody is asked for it: it has the address itself.
    pub fn is_literal(&self) -> bool {
        matches!(self, Target::Host(at) | Target::Dns(at) if at.ip().is_some())
    }

    /// It is looked at again by itself: what it stands for comes and goes.
    pub fn is_watched(&self) -> bool {
        match self {
            Target::Host(_) => false,
            Target::Dns(at) => at.ip().is_none(),
            Target::Srv(_) | Target::File(_) => true,
        }
    }
}

/// One or more targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// Several lists as one.
    ///
    /// # Errors
    /// There are none, or more than [`TARGETS_MAX`].
    pub fn join(lists: impl IntoIterator<Item = Targets>) -> Result<Targets, BadTarget> {
        Targets::new(lists.into_iter().flat_map(|list| list.0).collect(), "")
    }

    fn new(mut all: Vec<Target>, text: &str) -> Result<Targets, BadTarget> {
        let named = |why: String| BadTarget {
            text: text.chars().take(300).collect(),
            why,
        };
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|target| seen.insert(target.clone()));
        match all.len() {
            0 => Err(named("a target is missing".into())),
            1..=TARGETS_MAX => Ok(Targets(all)),
            count => Err(named(format!(
                "{count} targets are more than {TARGETS_MAX}"
            ))),
        }
    }

    /// The targets, at least one.
    pub fn as_slice(&self) -> &[Target] {
        &self.0
    }

    /// The only target, if it is a plain `HOST:PORT`: one distributor, as ever.
    pub fn single(&self) -> Option<&HostPort> {
        match &self.0[..] {
            [Target::Host(at)] => Some(at),
            _ => None,
        }
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Targets {
        Targets(vec![target])
    }
}

impl FromStr for Targets {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Targets, BadTarget> {
        let parts = text.split(',').map(str::trim);
        let all: Result<Vec<Target>, BadTarget> = parts.map(str::parse).collect();
        Targets::new(all?, text)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, target) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{target}")?;
        }
        Ok(())
    }
}

/// The lines of a file. An empty one has no targets, which is for the caller to judge.
///
/// # Errors
/// The number of the line, and what is wrong with it.
pub(crate) fn lines(text: &str) -> Result<Vec<Target>, String> {
    let mut all = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let target: Target = line
            .parse()
            .map_err(|error: BadTarget| format!("line {number}: {error}"))?;
        if let Target::File(_) = target {
            return Err(format!("line {number}: a file cannot name another file"));
        }
        if all.len() == TARGETS_MAX {
            return Err(format!("more than {TARGETS_MAX} targets"));
        }
        if !all.contains(&target) {
            all.push(target);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<Targets>() {
            Ok(targets) => format!("{:?}", targets.as_slice()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_is_read_and_shown_as_it_was() {
        for text in [
            "localhost:8080",
            "[::1]:8080",
            "dns+weir-replicas.logs.svc:8081",
            "dnssrv+_weir-analyzers._tcp.example.net",
            "file+/etc/weir/replicas",
            "a:1,dns+b:2,file+c",
        ] {
            let targets: Targets = text.parse().expect(text);
            assert_eq!(targets.to_string(), text);
        }
        assert_eq!(read("a:1, a:1 ,a:1"), read("a:1"), "the same is one");
    }

    #[test]
    fn what_is_no_target_is_named_with_what_is_allowed() {
        for (text, why) in [
            ("", "a host and a port"),
            ("localhost", "a host and a port"),
            ("localhost:0", "port \"0\": allowed: 1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            (":8080", "the host is missing"),
            ("::1:8080", "[::1]:8080"),
            ("[::1:8080", "[::1]:8080"),
            ("dns+weir", "a host and a port"),
            ("http://weir:8080", "'/' is in no host name"),
            ("a b:1", "' ' is in no host name"),
            ("a..b:1", "1 to 63 bytes"),
            ("dnssvr+_a._tcp.b", "dnssvr+ is no form of a target"),
            ("dnssrv+weir:8081", "has its ports itself"),
            ("dnssrv+_a._tcp.", "the name after"),
            ("dnssrv+_a._tcp", "without a port"),
            ("file+", "the path is missing"),
            ("a:1,,b:2", "a host and a port"),
        ] {
            let told = read(text);
            assert!(told.contains(why), "{text}: {told}");
            assert!(told.contains("allowed: "), "{text}: {told}");
        }
        let long = format!("{}:1", ["abcdefgh"; 40].join("."));
        assert!(read(&long).contains("at most 253 bytes"));
    }

    #[test]
    fn a_file_has_comments_and_its_errors_have_lines() {
        let read = lines("# replicas\n\n 10.0.0.1:8081 # rack 1\ndns+weir:8081\n10.0.0.1:8081\n");
        let texts: Vec<String> = read.expect("good").iter().map(Target::to_string).collect();
        assert_eq!(texts, ["10.0.0.1:8081", "dns+weir:8081"]);
        assert_eq!(lines("\n#\n"), Ok(Vec::new()));
        let error = lines("a:1\nb\n").expect_err("no port");
        assert!(
            error.starts_with("line 2: \"b\": a host and a port"),
            "{error}"
        );
        let error = lines("file+x").expect_err("a file in a file");
        assert!(error.starts_with("line 1: a file cannot"), "{error}");
    }
}
