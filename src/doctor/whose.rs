//! Who can mend what: in a container it is rarely the one who asks.
//!
//! ```text
//!              host                 container               pod
//!   kernel     this host            the host                the node
//!   limits     the unit, the login  the container           the node's container runtime
//!   quotas     the unit             the container           the pod
//!   tools      this host            the image               the image
//!   settings   the distributor's    the distributor's       the distributor's
//! ```

use weir_host::{Host, Place};

use super::{Mend, Outcome};

/// What kind of knob mends a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knob {
    /// The machine: kernel, sysctls, cores, interfaces.
    Kernel,
    /// Which system calls are allowed.
    Profile,
    /// How much may be locked.
    Memlock,
    /// How many descriptors.
    Nofile,
    /// CPU time and memory of the control group.
    Group,
    /// A flag of the distributor.
    Settings,
}

fn knob(id: &str) -> Knob {
    match id {
        "ring-features" => Knob::Profile,
        "memlock" => Knob::Memlock,
        "nofile" => Knob::Nofile,
        "cpu-quota" | "memory" => Knob::Group,
        "siblings" | "numa" | "certificates" => Knob::Settings,
        _ => Knob::Kernel,
    }
}

/// Whose knob it is, in a word or two for reports: `the node's`.
pub(super) fn whose(place: Place, id: &str) -> &'static str {
    match (place, knob(id)) {
        (_, Knob::Settings) => "the distributor's",
        (Place::Host, Knob::Kernel) => "this host's",
        (Place::Host, _) => "the unit's or the login's",
        (Place::Container, Knob::Kernel) => "the host's",
        (Place::Container, _) => "the container's",
        (Place::Pod, Knob::Kernel | Knob::Memlock | Knob::Nofile) => "the node's",
        (Place::Pod, Knob::Profile | Knob::Group) => "the pod's",
    }
}

/// What to do where a stage of this host, or the advice for a host, is no help. None: the advice holds everywhere.
pub(super) fn mend_in(place: Place, id: &str, mend: &Mend) -> Option<String> {
    let text = match (place, knob(id)) {
        (Place::Container, Knob::Memlock) => "start the container with `--ulimit memlock=-1` (Compose: ulimits: memlock), or with a user id of its own (--user)",
        (Place::Container, Knob::Nofile) => "start the container with `--ulimit nofile=1048576` (Compose: ulimits: nofile)",
        (Place::Container, Knob::Group) => "start the container with more (--cpus, --memory), or lower --arena and --shards of Weir",
        (Place::Container, Knob::Profile) => "as the sentence says; the profile is `--security-opt seccomp=weir.json` of the container (deploy/seccomp/weir.json)",
        (Place::Pod, Knob::Memlock) => "a pod has no ulimits: LimitMEMLOCK= of the container runtime's unit on the node (containerd.service, crio.service); or a user id of Weir's own in the pod (runAsUser), which shares it with nobody",
        (Place::Pod, Knob::Nofile) => "a pod has no ulimits: LimitNOFILE= of the container runtime's unit on the node (containerd.service, crio.service)",
        (Place::Pod, Knob::Group) => "resources.limits of the pod, or lower --arena and --shards of Weir",
        (Place::Pod, Knob::Profile) => "as the sentence says; the profile is securityContext.seccompProfile of the pod (type: Localhost, deploy/seccomp/weir.json on the node)",
        _ => return None,
    };
    // A stage or a command for this host cannot be run in here; advice that names no place stays beside it.
    Some(match mend {
        Mend::Advice(advice) if knob(id) == Knob::Group => format!("{text}: {advice}"),
        _ => text.to_owned(),
    })
}

/// Where the commands for a machine are to be run.
pub(super) fn on(place: Place, id: &str) -> &'static str {
    match (place, knob(id)) {
        (Place::Container, Knob::Kernel) => "on the host: ",
        (Place::Pod, Knob::Kernel) => "on the node: ",
        _ => "",
    }
}

/// Why something is not known, with whose knob that is.
pub(super) fn unknown(host: &Host, place: Place, outcome: &Outcome) -> Option<String> {
    let Outcome::Unknown(why) = outcome else {
        return None;
    };
    let is_tool = why.contains("is not installed");
    Some(match (place, is_tool && host.is_this()) {
        (Place::Container | Place::Pod, true) => {
            format!("{why} in this image; look at the host's interfaces from the host")
        }
        _ => (*why).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_an_owner_in_each_place() {
        let places = [Place::Host, Place::Container, Place::Pod];
        for (id, owners) in [
            ("somaxconn", ["this host's", "the host's", "the node's"]),
            (
                "memlock",
                ["the unit's or the login's", "the container's", "the node's"],
            ),
            (
                "cpu-quota",
                ["the unit's or the login's", "the container's", "the pod's"],
            ),
            (
                "ring-features",
                ["the unit's or the login's", "the container's", "the pod's"],
            ),
            ("numa", ["the distributor's"; 3]),
        ] {
            assert_eq!(places.map(|place| whose(place, id)), owners, "{id}");
        }
        let stage = Mend::Stage("limits");
        let pod = mend_in(Place::Pod, "memlock", &stage).expect("another");
        assert!(pod.contains("containerd.service") && pod.contains("runAsUser"));
        assert_eq!(mend_in(Place::Host, "memlock", &stage), None);
        assert_eq!(mend_in(Place::Pod, "somaxconn", &stage), None);
    }
}
