//! Other software as a system under test: where its binary is, its configuration, its command line.
//!
//! ```text
//! emitters -> peer -> 127.0.1.1:port, 127.0.1.2:port, ...     the sink listens, the peer connects
//! ```
//!
//! The configurations are `bench/peers/*`; `scripts/peers.sh` fetches the software into `target/peers`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::load::Format;
use crate::secured::{Pki, Sides};
use crate::sink::Stream;
use crate::version;

/// What a peer may have open beside the emitters: HAProxy counts its own.
const CONNECTIONS_SPARE: usize = 100;

/// The HAProxy that the configurations are for, and that weighs what it logs.
const HAPROXY_MIN: (u32, u32) = (3, 0);

/// What other software is set up to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Nginx,
    HaproxyTcp,
    HaproxyLog,
    Rsyslog,
    SyslogNg,
}

/// Binaries that are elsewhere than `scripts/peers.sh` puts them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PeerArgs {
    /// nginx with its stream module [default: target/peers, then PATH]
    #[arg(long, value_name = "PATH", help_heading = "Peers")]
    pub nginx: Option<PathBuf>,
    /// HAProxy, 3.0 or later [default: target/peers, then PATH, where an older one is refused]
    #[arg(long, value_name = "PATH", help_heading = "Peers")]
    pub haproxy: Option<PathBuf>,
    /// rsyslogd, 8.2408 or later for pools [default: target/peers, then PATH]
    #[arg(long, value_name = "PATH", help_heading = "Peers")]
    pub rsyslog: Option<PathBuf>,
    /// syslog-ng, 4.8 or later [default: target/peers, then PATH]
    #[arg(long, value_name = "PATH", help_heading = "Peers")]
    pub syslog_ng: Option<PathBuf>,
    /// Where scripts/peers.sh put them [default: peers beside the directory of weir-bench]
    #[arg(long, value_name = "DIR", help_heading = "Peers")]
    pub peers: Option<PathBuf>,
    /// Take the peers' configurations from here: copies of bench/peers/*, with their placeholders [default: as
    /// compiled in]
    #[arg(long, value_name = "DIR", help_heading = "Peers")]
    pub peer_configs: Option<PathBuf>,
}

impl Peer {
    pub const ALL: [Self; 5] = [
        Self::Nginx,
        Self::HaproxyTcp,
        Self::HaproxyLog,
        Self::Rsyslog,
        Self::SyslogNg,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::HaproxyLog => "haproxy-log",
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// What its emitters have to speak: a proxy of bytes passes Weir's frames through.
    pub fn format(self) -> Format {
        match self {
            Self::Nginx | Self::HaproxyTcp => Format::Frame,
            Self::HaproxyLog | Self::Rsyslog | Self::SyslogNg => Format::Lf,
        }
    }

    /// What arrives at its targets.
    pub fn stream(self) -> Stream {
        match self.format() {
            Format::Frame => Stream::Frames,
            _ => Stream::Syslog,
        }
    }

    /// The unit that it balances, and whether it knows weights, ACKs, re-routing of what was sent.
    pub fn does(self) -> Does {
        let unit = match self {
            Self::Nginx | Self::HaproxyTcp => "connection",
            Self::HaproxyLog | Self::Rsyslog => "message",
            Self::SyslogNg => "millisecond",
        };
        let has_weights = matches!(self, Self::Nginx | Self::HaproxyTcp | Self::HaproxyLog);
        Does {
            unit,
            has_weights,
            has_acks: false,
        }
    }

    /// Its own word for itself in files and flags.
    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaproxyTcp | Self::HaproxyLog => "haproxy",
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
        }
    }

    /// What its binary says of itself.
    pub fn version(self, binary: &Path) -> String {
        let args: &[&str] = match self {
            Self::SyslogNg => &["--no-module-discovery", "--version"],
            _ => &["-v"],
        };
        version::printed(binary, args)
    }

    /// An older HAProxy that nobody named would be measured by chance, and doing another work.
    fn ensure_recent(self, binary: &Path) -> io::Result<()> {
        if !matches!(self, Self::HaproxyTcp | Self::HaproxyLog) {
            return Ok(());
        }
        let printed = self.version(binary);
        let (major, minor) = HAPROXY_MIN;
        if version::number(&printed).is_some_and(|found| found >= HAPROXY_MIN) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} is '{printed}', and {major}.{minor} or later is needed: mode log ignores weights in 2.6; run \
             scripts/peers.sh install haproxy, or name one with --haproxy PATH",
            binary.display()
        )))
    }

    /// Its binary, or what to do to have one.
    pub fn find(self, args: &PeerArgs) -> io::Result<Found> {
        let named = match self {
            Self::Nginx => &args.nginx,
            Self::HaproxyTcp | Self::HaproxyLog => &args.haproxy,
            Self::Rsyslog => &args.rsyslog,
            Self::SyslogNg => &args.syslog_ng,
        };
        let program = self.program();
        if let Some(path) = named {
            return match path.is_file() {
                true => Ok(Found {
                    root: root_around(path, program),
                    binary: path.clone(),
                    configs: args.peer_configs.clone(),
                }),
                false => Err(io::Error::other(format!(
                    "--{program} {}: there is no such file",
                    path.display()
                ))),
            };
        }
        let peers = match &args.peers {
            Some(peers) => peers.clone(),
            None => std::env::current_exe()?.with_file_name("../peers"),
        };
        let binary = peers.join("bin").join(program);
        if binary.is_file() {
            self.ensure_recent(&binary)?;
            return Ok(Found {
                binary,
                root: peers.join(program),
                configs: args.peer_configs.clone(),
            });
        }
        let name = if self == Self::Rsyslog {
            "rsyslogd"
        } else {
            program
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        match candidates.find_map(|d| Some(d.join(name)).filter(|p| p.is_file())) {
            Some(binary) => self.ensure_recent(&binary).map(|()| Found {
                binary,
                root: PathBuf::from("/"),
                configs: args.peer_configs.clone(),
            }),
            None => Err(io::Error::other(format!(
                "{program} is neither in {} nor in PATH: run scripts/peers.sh install {program}, or name it \
                 with --{program} PATH",
                peers.display()
            ))),
        }
    }

    /// File name of its configuration, and the one that is compiled in.
    fn template(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx.conf", include_str!("../peers/nginx.conf")),
            Self::HaproxyTcp => ("haproxy-tcp.cfg", include_str!("../peers/haproxy-tcp.cfg")),
            Self::HaproxyLog => ("haproxy-log.cfg", include_str!("../peers/haproxy-log.cfg")),
            Self::Rsyslog => ("rsyslog.conf", include_str!("../peers/rsyslog.conf")),
            Self::SyslogNg => ("syslog-ng.conf", include_str!("../peers/syslog-ng.conf")),
        }
    }

    /// Writes the configuration into `dir` and returns the arguments.
    pub fn configure(self, found: &Found, dir: &Path, to: &Target) -> io::Result<Vec<String>> {
        let path = dir.join("peer.conf");
        let (name, own) = self.template();
        let template = match &found.configs {
            Some(configs) => {
                let path = configs.join(name);
                std::fs::read_to_string(&path).map_err(|e| {
                    io::Error::new(e.kind(), format!("--peer-configs: {}: {e}", path.display()))
                })?
            }
            None => own.to_owned(),
        };
        std::fs::write(&path, render(&template, found, dir, to))?;
        let (path, dir) = (path.display(), dir.display());
        // The directory of the module that is named: without it the peer would only print its usage.
        let modules = |name: &str| {
            let libraries = found.root.join("usr/lib");
            find_below(&libraries, name)
                .and_then(|module| Some(module.parent()?.display().to_string()))
                .ok_or_else(|| {
                    io::Error::other(format!(
                        "{} has no {name} below {}: run scripts/peers.sh install {}, and leave --{} out",
                        found.binary.display(),
                        libraries.display(),
                        self.program(),
                        self.program(),
                    ))
                })
        };
        let line = match self {
            Self::Nginx => format!("-p {dir} -e stderr -c {path}"),
            Self::HaproxyTcp | Self::HaproxyLog => format!("-db -f {path}"),
            Self::Rsyslog => {
                let modules = modules("imptcp.so")?;
                format!("-n -i NONE -M {modules} -f {path}")
            }
            Self::SyslogNg => {
                let modules = modules("libconfgen.so")?;
                format!(
                    "-F --no-caps --module-path={modules} -f {path} -R {dir}/persist -p {dir}/pid -c {dir}/ctl"
                )
            }
        };
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }
}

/// Lines with `{analyzer}` come once for each analyzer; a line with a module that is not there (it
/// is built in then) is left out.
fn render(template: &str, found: &Found, dir: &Path, to: &Target) -> String {
    let module = find_below(&found.root.join("usr/lib"), "ngx_stream_module.so");
    let hosts: Vec<String> = to.analyzers.iter().map(|a| a.ip().to_string()).collect();
    let quoted: Vec<String> = hosts.iter().map(|h| format!("\"{h}\"")).collect();
    let port = to.analyzers.first().map_or(0, SocketAddr::port).to_string();
    let (tls_in, tls_out) = to.tls();
    let mut text = String::new();
    for line in template.lines() {
        if line.contains("{stream_module}") && module.is_none() {
            continue;
        }
        let line = line
            .replace(
                "{stream_module}",
                &module
                    .as_deref()
                    .unwrap_or(Path::new(""))
                    .display()
                    .to_string(),
            )
            .replace("{root}", &found.root.display().to_string())
            .replace("{dir}", &dir.display().to_string())
            .replace("{emitters}", &to.emitters.to_string())
            .replace("{emitters.port}", &to.emitters.port().to_string())
            .replace("{analyzer.hosts}", &quoted.join(", "))
            .replace("{analyzer.list}", &hosts.join(" "))
            .replace("{analyzer.port}", &port)
            .replace("{tls.in}", &tls_in)
            .replace("{tls.out}", &tls_out)
            .replace("{connections}", &to.connections.to_string())
            .replace(
                "{maxconn}",
                &(to.connections + CONNECTIONS_SPARE).to_string(),
            )
            // syslog-ng divides the window among all connections it may have, and wants 100 for each.
            .replace("{window}", &(to.connections * 100).to_string());
        if !line.contains("{analyzer}") {
            text += &line;
            text.push('\n');
            continue;
        }
        for (n, analyzer) in to.analyzers.iter().enumerate() {
            text += &line
                .replace("{analyzer}", &analyzer.to_string())
                .replace("{n}", &n.to_string())
                .replace("{weight}", &to.whole_weight(n).to_string());
            text.push('\n');
        }
    }
    text
}

/// A binary and what stands in for `/` around it.
#[derive(Debug, Clone)]
pub struct Found {
    pub binary: PathBuf,
    pub root: PathBuf,
    /// Directory of configurations to use in the place of the ones compiled in.
    pub configs: Option<PathBuf>,
}

/// What stands in for `/` around a binary that somebody named: `DIR/bin/PROGRAM` as `scripts/peers.sh` lays it out has its
/// modules below `DIR/PROGRAM`, anything else has them in the host's directories.
fn root_around(binary: &Path, program: &str) -> PathBuf {
    let laid_out = binary
        .canonicalize()
        .ok()
        .and_then(|b| Some(b.parent()?.parent()?.join(program)));
    laid_out
        .filter(|root| root.join("usr").is_dir())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// What a configuration is made for.
#[derive(Debug, Clone)]
pub struct Target {
    pub emitters: SocketAddr,
    pub analyzers: Vec<SocketAddr>,
    pub weights: Vec<f64>,
    pub connections: usize,
    /// Where it speaks TLS, and with which certificates.
    pub sides: Sides,
    pub pki: Option<Arc<Pki>>,
}

impl Target {
    /// HAProxy's words behind `bind`, and behind a server.
    fn tls(&self) -> (String, String) {
        let Some(pki) = &self.pki else {
            return Default::default();
        };
        let bind = format!(" ssl crt {}", pki.bundle().display());
        let server = format!(" ssl verify required ca-file {}", pki.ca().display());
        let of = |is_on: bool, words: String| if is_on { words } else { String::new() };
        (
            of(self.sides.emitters, bind),
            of(self.sides.analyzers, server),
        )
    }

    /// Peers know whole weights only: the largest becomes 100.
    fn whole_weight(&self, n: usize) -> u32 {
        let most = self
            .weights
            .iter()
            .copied()
            .fold(f64::MIN_POSITIVE, f64::max);
        ((self.weights[n] / most * 100.0).round() as u32).max(1)
    }
}

/// What a system does beside moving bytes; the rest is measured.
#[derive(Debug, Clone, Copy)]
pub struct Does {
    pub unit: &'static str,
    pub has_weights: bool,
    pub has_acks: bool,
}

/// A file of that name, at most four directories down.
fn find_below(dir: &Path, name: &str) -> Option<PathBuf> {
    fn look(dir: &Path, name: &str, depth: u32) -> Option<PathBuf> {
        let direct = dir.join(name);
        if direct.is_file() {
            return Some(direct);
        }
        if depth == 0 {
            return None;
        }
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let mut dirs: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
        dirs.sort();
        dirs.iter().find_map(|d| look(d, name, depth - 1))
    }
    // Canonical: the peer changes its directory.
    look(&dir.canonicalize().ok()?, name, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            emitters: "127.0.0.1:4000".parse().expect("valid"),
            analyzers: (1..5)
                .map(|n| SocketAddr::from(([127, 0, 1, n], 5000)))
                .collect(),
            weights: vec![0.4, 0.3, 0.2, 0.1],
            connections: 64,
            sides: Sides::default(),
            pki: None,
        }
    }

    #[test]
    fn every_template_names_all_analyzers_and_leaves_no_placeholder() {
        let found = Found {
            binary: "x".into(),
            root: "/nowhere".into(),
            configs: None,
        };
        for peer in Peer::ALL {
            let text = render(peer.template().1, &found, Path::new("/scratch"), &target());
            for host in ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"] {
                assert!(text.contains(host), "{}: {text}", peer.name());
            }
            let left = text.replace("${MSG}", "");
            for word in [
                "{n}",
                "{analyzer",
                "{emitters",
                "{dir}",
                "{root}",
                "{weight}",
                "{window}",
                "{maxconn}",
                "{connections}",
                "{tls",
            ] {
                assert!(!left.contains(word), "{}: {word} in {text}", peer.name());
            }
            assert!(text.contains("4000"), "{}: {text}", peer.name());
            assert_eq!(Peer::named(peer.name()), Some(peer));
        }
    }

    #[test]
    fn weights_keep_their_proportions() {
        let whole: Vec<u32> = (0..4).map(|n| target().whole_weight(n)).collect();
        assert_eq!(whole, [100, 75, 50, 25]);
    }

    #[test]
    fn a_named_binary_of_the_script_has_its_own_root() {
        let dir = std::env::temp_dir().join(format!("weir-bench-root-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bin")).expect("made");
        std::fs::create_dir_all(dir.join("rsyslog/usr/lib")).expect("made");
        let binary = dir.join("bin/rsyslog");
        std::fs::write(&binary, "").expect("written");
        let args = PeerArgs {
            rsyslog: Some(binary),
            syslog_ng: Some("/bin/sh".into()),
            ..PeerArgs::default()
        };
        let found = Peer::Rsyslog.find(&args).expect("there");
        let real = dir.canonicalize().expect("there");
        assert_eq!(found.root, real.join("rsyslog"));
        let error = Peer::Rsyslog.configure(&found, &dir, &target());
        let error = error.expect_err("no modules").to_string();
        assert!(error.contains("imptcp.so"), "{error}");
        let host = Peer::SyslogNg.find(&args).expect("there");
        assert_eq!(host.root, Path::new("/"), "a binary of the host");
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_binary_that_is_not_there_is_told_with_the_way_to_get_it() {
        let args = PeerArgs {
            haproxy: Some("/no/haproxy".into()),
            ..PeerArgs::default()
        };
        let error = Peer::HaproxyLog
            .find(&args)
            .expect_err("not there")
            .to_string();
        assert!(error.contains("/no/haproxy"), "{error}");
    }
}
