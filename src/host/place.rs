//! Where the process runs, which says who can change what: the host's administrator, the one who starts the container,
//! or the one who writes the pod.

use crate::cgroup::own_paths;
use crate::Host;

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A machine, or a service on it.
    Host,
    /// A container that was started by hand or by Compose.
    Container,
    /// A container of a Kubernetes pod.
    Pod,
}

/// Files that container engines put into each container.
const MARKS: [&str; 3] = [
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
];
/// What Kubernetes mounts into each pod, unless the pod has no service account.
const POD_MARK: &str = "/var/run/secrets/kubernetes.io";
/// Parts of control groups' names that engines choose.
const ENGINES: [&str; 5] = ["/docker", "libpod", "containerd", "/lxc", "crio"];

impl Place {
    /// Of the process in question, by what engines leave in it: files, and names of control groups. A runtime that
    /// leaves neither looks like a host.
    pub fn of(host: &Host) -> Place {
        let paths = own_paths(host);
        let is_in = |names: &[&str]| {
            let mut all = paths.iter();
            all.any(|path| names.iter().any(|name| path.contains(name)))
        };
        // The variable is of this process, and says nothing of another tree.
        let has_service = host.is_this() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if is_in(&["kubepods"]) || has_service || host.has(POD_MARK) {
            return Place::Pod;
        }
        match is_in(&ENGINES) || MARKS.iter().any(|mark| host.has(mark)) {
            true => Place::Container,
            false => Place::Host,
        }
    }

    /// In reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Host => "host",
            Place::Container => "container",
            Place::Pod => "pod",
        }
    }
}
