//! What this kernel and this process may do, found out once at start.

use std::fmt;
use std::io;

use io_uring::{opcode, IoUring, Probe};
use weir_host::{has_filter, Host, Locked, Place};

/// Oldest kernel that has every operation the data ring cannot do without.
pub const KERNEL_MIN: (u32, u32) = (6, 0);

/// Optional kernel features; each has a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Task work runs only when the shard asks for it (6.1), else at any kernel entry.
    pub defer_taskrun: bool,
    /// Receives share a provided buffer (6.12), else each takes a whole one.
    pub incremental: bool,
    /// One system call waits a minimum time for more completions (6.12), else two calls.
    pub min_wait: bool,
    /// SEND_ZC (6.0) from registered memory.
    pub send_zc: bool,
}

impl Features {
    /// Finds out by trying.
    ///
    /// # Errors
    /// What is missing and how to mend it.
    pub fn probe() -> Result<Features, Unusable> {
        let release = kernel_release();
        if let Some(version) = parse_release(&release) {
            if version < KERNEL_MIN {
                return Err(Unusable::OldKernel { release });
            }
        }
        let ring: IoUring = IoUring::builder()
            .build(8)
            .map_err(|error| explain(&error, &release))?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| explain(&error, &release))?;
        let needed = [
            ("accept", opcode::Accept::CODE),
            ("recv", opcode::RecvMulti::CODE),
            ("send", opcode::Send::CODE),
            ("async-cancel", opcode::AsyncCancel::CODE),
            ("read", opcode::Read::CODE),
        ];
        for (name, code) in needed {
            if !probe.is_supported(code) {
                return Err(Unusable::NoOperation { name, release });
            }
        }
        Ok(Features {
            defer_taskrun: defer_taskrun_works(),
            incremental: incremental_works(),
            min_wait: ring.params().is_feature_min_timeout(),
            send_zc: probe.is_supported(opcode::SendZc::CODE),
        })
    }

    /// Turns features off by name, for tests and for kernels with a faulty one.
    ///
    /// # Errors
    /// The name when it is not one of `defer-taskrun`, `incremental`, `min-wait`, `send-zc`.
    pub fn without<'a>(mut self, names: &[&'a str]) -> Result<Features, &'a str> {
        for name in names {
            match *name {
                "defer-taskrun" => self.defer_taskrun = false,
                "incremental" => self.incremental = false,
                "min-wait" => self.min_wait = false,
                "send-zc" => self.send_zc = false,
                _ => return Err(name),
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "yes" } else { "no" };
        write!(
            f,
            "kernel {} defer-taskrun={} incremental-buffers={} min-wait={} send-zc={}",
            kernel_release(),
            word(self.defer_taskrun),
            word(self.incremental),
            word(self.min_wait),
            word(self.send_zc),
        )
    }
}

/// Why the data plane cannot run here. Recovered by the operator.
#[derive(Debug)]
pub enum Unusable {
    /// Linux is older than [`KERNEL_MIN`].
    OldKernel {
        /// As `uname -r` says it.
        release: String,
    },
    /// The kernel has no io_uring at all.
    NotBuiltIn,
    /// A sysctl or a security module forbids io_uring.
    Forbidden {
        /// Content of /proc/sys/kernel/io_uring_disabled, when it can be read.
        sysctl: Option<String>,
        /// Who can change that.
        place: Place,
    },
    /// A seccomp filter forbids io_uring: the profile of a container, or a unit's SystemCallFilter=.
    Filtered {
        /// What the filter answers: EPERM or ENOSYS.
        errno: &'static str,
        /// How that is known.
        sign: &'static str,
        /// Who chose the filter.
        place: Place,
    },
    /// Too little memory may be locked.
    Memlock {
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
        /// Shards that need it; 0: none yet, the kernel was only asked what it can.
        shards: u64,
    },
    /// An operation is missing.
    NoOperation {
        /// Which.
        name: &'static str,
        /// As `uname -r` says it.
        release: String,
    },
    /// The kernel does not poll queues for a ring.
    NoBusyPoll(io::Error),
    /// Anything else the kernel said.
    Other(io::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::OldKernel { release } => write!(
                f,
                "kernel {release} is too old: weir needs Linux {}.{} or later (6.12 for all features); boot a newer kernel",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
            Unusable::NotBuiltIn => write!(
                f,
                "this kernel has no io_uring (ENOSYS): it needs CONFIG_IO_URING=y"
            ),
            Unusable::Forbidden { sysctl: Some(value), place } if value != "0" => {
                let node = match place {
                    Place::Host => "",
                    Place::Container => " on the host of this container",
                    Place::Pod => " on the node of this pod",
                };
                write!(f, "io_uring is forbidden by kernel.io_uring_disabled={value} (allowed: 0): run `sysctl kernel.io_uring_disabled=0`{node}")
            }
            Unusable::Forbidden { .. } => write!(
                f,
                "io_uring is forbidden (EPERM) although the sysctl allows it, and no seccomp filter is in force: a security module (SELinux: io_uring of the domain) forbids it"
            ),
            Unusable::Filtered { errno, sign, place } => {
                let mend = match place {
                    Place::Host => "add them to SystemCallFilter= of the unit",
                    Place::Container => "start the container with `--security-opt seccomp=weir.json` (deploy/seccomp/weir.json)",
                    Place::Pod => "give the pod deploy/seccomp/weir.json (securityContext.seccompProfile, type: Localhost)",
                };
                write!(
                    f,
                    "io_uring is refused ({errno}) by a seccomp profile, not by the kernel ({sign}): allow io_uring_setup, io_uring_enter and io_uring_register; {mend}"
                )
            }
            Unusable::Memlock { limit, shards } => {
                write!(f, "too little memory may be locked: RLIMIT_MEMLOCK is {limit} bytes")?;
                if *shards > 0 {
                    let needed = Locked { shards: *shards, others: 0 };
                    write!(f, ", needed are {} bytes ({needed})", needed.bytes())?;
                }
                write!(
                    f,
                    ", and all processes of a user id on this host share it, those of other containers too; raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity in the unit or in that of the container runtime), give Weir a user id of its own, or ask for fewer --shards"
                )
            }
            Unusable::NoOperation { name, release } => write!(
                f,
                "kernel {release} has io_uring but not the operation {name}: weir needs Linux {}.{} or later",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
            Unusable::NoBusyPoll(error) => write!(
                f,
                "--busy-poll: the kernel does not do it for io_uring ({error}): it takes Linux 6.9 with CONFIG_NET_RX_BUSY_POLL; allowed here: 0s"
            ),
            Unusable::Other(error) => write!(f, "io_uring cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Unusable {
    /// The same, of a start with so many shards.
    pub fn of_shards(self, shards: u64) -> Unusable {
        match self {
            Unusable::Memlock { limit, .. } => Unusable::Memlock { limit, shards },
            other => other,
        }
    }
}

/// Turns the errno of a ring set-up into its cause.
pub(super) fn explain(error: &io::Error, release: &str) -> Unusable {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => refused("ENOSYS", &Host::here()),
        Some(libc::EPERM | libc::EACCES) => refused("EPERM", &Host::here()),
        // With too little room for its rings this says so; what may be locked has nothing to do with it then.
        Some(libc::ENOMEM) if !super::behind(error).is_empty() => {
            Unusable::Other(io::Error::other(format!("{error}{}", super::behind(error))))
        }
        Some(libc::ENOMEM) => Unusable::Memlock {
            limit: memlock_limit(),
            shards: 0,
        },
        Some(libc::EINVAL) => Unusable::OldKernel {
            release: release.to_owned(),
        },
        _ => Unusable::Other(io::Error::other(format!("{error}{}", super::behind(error)))),
    }
}

/// Who says no: the kernel, its sysctl, or a filter in front of it. Podman's profile answers ENOSYS, as a kernel without
/// io_uring does; those of Docker and containerd answer EPERM, as the sysctl does.
fn refused(errno: &'static str, host: &Host) -> Unusable {
    let place = Place::of(host);
    let sysctl = host.text("/proc/sys/kernel/io_uring_disabled");
    let is_forbidden = sysctl.as_deref().is_some_and(|value| value != "0");
    let filtered = |sign| Unusable::Filtered { errno, sign, place };
    match (errno, has_filter(host)) {
        ("EPERM", _) if is_forbidden => Unusable::Forbidden { sysctl, place },
        (_, true) => filtered("/proc/self/status says Seccomp: 2"),
        ("EPERM", false) => Unusable::Forbidden { sysctl, place },
        // Linux 6.6 and later have the switch where they have io_uring.
        _ if sysctl.is_some() => filtered("the kernel has kernel.io_uring_disabled"),
        _ => Unusable::NotBuiltIn,
    }
}

/// `uname -r`. By system call: a hardened service may see none of /proc/sys.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Major and minor version out of a release like `6.1.0-21-amd64`; none where it does not begin so.
pub fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn memlock_limit() -> u64 {
    super::limits::soft_and_hard(libc::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft)
}

fn defer_taskrun_works() -> bool {
    let ring: io::Result<IoUring> = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8);
    ring.is_ok()
}

fn incremental_works() -> bool {
    let Ok(ring) = IoUring::builder().build(8) as io::Result<IoUring> else {
        return false;
    };
    let config = super::provided::ProvidedConfig {
        group: 0,
        first: 0,
        buffers: 1,
        buffer_bytes: 4096,
        incremental: true,
    };
    super::provided::ProvidedBuffers::register(&ring, config).is_ok_and(|buffers| {
        drop(ring); // before the memory that it could still write
        drop(buffers);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_parsed() {
        assert_eq!(parse_release("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_release("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(parse_release("unknown"), None);
        assert!(parse_release("5.19.2").is_some_and(|version| version < KERNEL_MIN));
    }

    #[test]
    fn each_refusal_names_its_cause_and_the_way_out() {
        let text = |errno| explain(&io::Error::from_raw_os_error(errno), "6.1.0").to_string();
        assert!(text(libc::EPERM).contains("io_uring"));
        assert!(text(libc::ENOMEM).contains("LimitMEMLOCK=infinity"));
        assert!(text(libc::EINVAL).contains("6.1.0"));
        let memlock = explain(&io::Error::from_raw_os_error(libc::ENOMEM), "6.18.0");
        let text = memlock.of_shards(3).to_string();
        assert!(
            text.contains("3 shards x 640 KiB + 32 KiB = 1952 KiB"),
            "{text}"
        );
    }

    /// What the host shows, what io_uring_setup answers, and words of the sentence.
    #[test]
    fn who_refuses_io_uring_is_named() {
        let dir = std::env::temp_dir().join(format!("weir-refused-{}", std::process::id()));
        let filter = ("proc/self/status", "Name:\tweir\nSeccomp:\t2\n");
        let switch = |value| ("proc/sys/kernel/io_uring_disabled", value);
        let container = (".dockerenv", "");
        let pod = ("proc/self/cgroup", "0::/kubepods/besteffort/podx/y");
        type Case<'a> = (&'static str, &'a [(&'a str, &'a str)], [&'a str; 2]);
        let cases: [Case<'_>; 8] = [
            ("ENOSYS", &[], ["no io_uring (ENOSYS)", "CONFIG_IO_URING=y"]),
            ("ENOSYS", &[filter], ["seccomp profile", "Seccomp: 2"]),
            (
                "ENOSYS",
                &[switch("0"), container],
                ["kernel.io_uring_disabled", "--security-opt seccomp="],
            ),
            (
                "ENOSYS",
                &[filter, switch("0"), pod],
                ["refused (ENOSYS) by a seccomp profile", "seccompProfile"],
            ),
            (
                "EPERM",
                &[filter, switch("0")],
                ["refused (EPERM) by a seccomp profile", "SystemCallFilter="],
            ),
            (
                "EPERM",
                &[filter, switch("2"), pod],
                ["kernel.io_uring_disabled=2", "on the node of this pod"],
            ),
            (
                "EPERM",
                &[switch("1")],
                ["kernel.io_uring_disabled=1", "allowed: 0"],
            ),
            (
                "EPERM",
                &[switch("0")],
                ["although the sysctl allows it", "SELinux"],
            ),
        ];
        for (errno, files, words) in cases {
            let _ = std::fs::remove_dir_all(&dir);
            for (path, text) in files {
                let path = dir.join(path);
                std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
                std::fs::write(path, text).expect("written");
            }
            std::fs::create_dir_all(&dir).expect("a directory");
            let host = Host::new(Some(dir.clone()), None, false);
            let text = refused(errno, &host).to_string();
            for word in words {
                assert!(text.contains(word), "{errno} {files:?}: {text}");
            }
        }
        let _ = std::fs::remove_dir_all(&dir);
    }

    #[test]
    fn an_unknown_feature_name_is_refused() {
        let all = Features {
            defer_taskrun: true,
            incremental: true,
            min_wait: true,
            send_zc: true,
        };
        assert_eq!(all.without(&["send-zc", "warp"]), Err("warp"));
        assert_eq!(all.without(&["send-zc"]).map(|f| f.send_zc), Ok(false));
    }
}
