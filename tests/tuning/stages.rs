//! check, apply, revert.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::tree::{said, Tree};

/// Every stage by name.
const ALL: &str = "limits sysctl irq steering coalescing power isolate hugepages";

#[test]
fn apply_makes_it_as_wanted_and_revert_as_it_was() {
    let tree = Tree::stock("round");
    tree.write("proc/812/comm", "irqbalance");
    let before = tree.snapshot();
    assert!(said(&tree.tune("check"), 1).contains("differs"));

    let dry = said(&tree.tune(&format!("apply {ALL}")), 0);
    assert!(dry.contains("nothing has been done"), "{dry}");
    assert!(!tree.state().exists(), "a dry run stores nothing");
    assert_eq!(tree.snapshot(), before, "a dry run changes nothing");

    let applied = said(&tree.tune(&format!("apply --yes {ALL}")), 0);
    assert!(!applied.contains("failed"), "{applied}");
    assert!(applied.contains("irqbalance runs"), "{applied}");
    for (path, text) in [
        ("proc/sys/net/core/somaxconn", "16384"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096 131072 16777216"),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never",
        ),
        ("sys/fs/cgroup/weir.slice/cpuset.cpus.partition", "isolated"),
        ("sys/fs/cgroup/weir.slice/cpuset.cpus", "2-7"),
        (
            "sys/fs/cgroup/cgroup.subtree_control",
            "cpu memory pids cpuset",
        ),
        ("nic/eth0/combined", "2"),
        ("nic/eth0/adaptive-rx", "on"),
        ("proc/irq/40/smp_affinity_list", "0"),
        ("proc/irq/41/smp_affinity_list", "1"),
        ("proc/irq/50/smp_affinity_list", "0-1"),
        ("proc/irq/default_smp_affinity", "3"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "55"),
        (
            "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
            "performance",
        ),
        (
            "sys/devices/system/cpu/cpu7/power/pm_qos_resume_latency_us",
            "50",
        ),
        // Not Weir's, nobody's, and down: left alone.
        (
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave",
        ),
        ("proc/irq/60/smp_affinity_list", "0-7"),
        ("sys/class/net/eth1/queues/rx-0/rps_cpus", "00"),
    ] {
        assert_eq!(tree.read(path), text, "{path}");
    }
    let limits = tree.read("etc/security/limits.d/90-weir.conf");
    assert!(
        limits.contains("weir - memlock unlimited\nweir - nofile 1048576"),
        "{limits}"
    );
    said(&tree.tune(&format!("check {ALL}")), 0);
    said(&tree.tune("check"), 0);

    let dry = said(&tree.tune("revert"), 0);
    assert!(
        dry.contains("back to 4096") && tree.read("nic/eth0/combined") == "2",
        "{dry}"
    );
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.state().exists(), "nothing is left behind");
}

#[test]
fn twice_is_as_once() {
    let tree = Tree::stock("twice");
    let before = tree.snapshot();
    said(&tree.tune("apply --yes"), 0);
    let after = tree.snapshot();
    let again = said(&tree.tune("apply --yes"), 0);
    assert!(!again.contains("changed"), "{again}");
    assert_eq!(tree.snapshot(), after);

    // Somebody turns a knob, and what is applied then is not taken for what was there at first.
    tree.write("proc/sys/net/core/somaxconn", "128");
    said(&tree.tune("apply --now sysctl"), 0);
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "16384");
    let stored = fs::read_dir(tree.state().join("sysctl")).expect("there");
    let names = stored.map(|entry| {
        entry
            .expect("readable")
            .file_name()
            .into_string()
            .expect("text")
    });
    let of_it = names.filter(|name| name.ends_with("somaxconn"));
    assert_eq!(of_it.count(), 1, "stored once");

    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    let again = said(&tree.tune("revert --yes"), 0);
    assert!(again.contains("nothing to revert"), "{again}");
    assert_eq!(tree.snapshot(), before);
}

/// The unit must be in the slice for it: nobody gets it without a word.
#[test]
fn isolate_is_for_those_who_name_it() {
    let tree = Tree::stock("opt-in");
    let group = tree.root().join("sys/fs/cgroup/weir.slice");
    let text = said(&tree.tune("apply --yes"), 0);
    assert!(text.contains("opt-in: only when it is named"), "{text}");
    assert!(!group.exists(), "nobody has asked for it");
    assert_eq!(
        tree.read("sys/fs/cgroup/cgroup.subtree_control"),
        "cpu memory pids"
    );

    // Shown, and nothing that is wrong; named, it is.
    let text = said(&tree.tune("check"), 0);
    assert!(text.contains("4 opt-in"), "{text}");
    let text = said(&tree.tune("check isolate"), 1);
    assert!(text.contains("4 not as wanted"), "{text}");
    let text = said(&tree.tune("apply isolate"), 0);
    assert!(text.contains("4 to change"), "{text}");

    said(&tree.tune("apply --yes isolate"), 0);
    assert!(group.exists());
    said(&tree.tune("check isolate"), 0);
    // What is stored is put back, named or not.
    said(&tree.tune("revert --yes"), 0);
    assert!(!group.exists());
    for action in ["--help", "explain"] {
        let text = said(&tree.tune(action), 0);
        assert!(text.contains("opt-in"), "{action}: {text}");
    }
}

#[test]
fn stages_come_and_go_alone() {
    let tree = Tree::stock("alone");
    let before = tree.snapshot();
    said(&tree.tune("apply --yes sysctl 80-hugepages"), 0);
    assert_eq!(tree.read("nic/eth0/combined"), "1", "not asked for");
    said(&tree.tune("revert --yes hugepages"), 0);
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "16384");
    assert_eq!(tree.read("proc/sys/kernel/numa_balancing"), "1");
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn what_somebody_else_has_changed_since_is_named() {
    let tree = Tree::stock("since");
    said(&tree.tune("apply --yes sysctl"), 0);
    tree.write("proc/sys/net/core/somaxconn", "777");
    let text = said(&tree.tune("revert --yes"), 0);
    let line = text
        .lines()
        .find(|line| line.contains("somaxconn"))
        .expect("named");
    assert!(
        line.contains("back to 4096") && line.contains("since: 777"),
        "{line}"
    );
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "4096");
}

const LIMITS: &str = "etc/security/limits.d/90-weir.conf";

/// Applies `limits` to a file that is there, and takes it back: bytes, mode, owner.
fn comes_back(tree: &Tree) {
    let before = tree.snapshot();
    let dry = said(&tree.tune("apply limits"), 0);
    assert!(dry.contains("would"), "{dry}");
    said(&tree.tune("apply --yes limits --user sre"), 0);
    let limits = tree.read(LIMITS);
    assert!(limits.contains("sre - memlock unlimited"), "{limits}");
    let file = fs::symlink_metadata(tree.root().join(LIMITS)).expect("there");
    assert!(file.is_file() && file.mode() & 0o777 == 0o644, "{file:?}");
    // Again, for somebody else: what was there at first stays stored.
    said(&tree.tune("apply --yes limits --user other"), 0);
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.state().exists(), "nothing is left behind");
}

#[test]
fn a_file_of_the_same_name_comes_back() {
    let tree = Tree::stock("limits");
    let path = tree.root().join(LIMITS);
    // Neither a mode that a umask gives, nor a newline at the end.
    fs::write(&path, "weir soft\0nofile 5\n\n# last").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4617)).expect("own file");
    comes_back(&tree);
    match chown(&path, Some(12_345), Some(54_321)) {
        Ok(()) => comes_back(&tree),
        Err(error) => println!("SKIPPED: a file of somebody else (root gives them away): {error}"),
    }
}

#[test]
fn a_link_of_the_same_name_comes_back_and_what_it_leads_to_is_not_touched() {
    for (name, target) in [
        ("link-there", "../../weir-limits"),
        ("link-nowhere", "no such file"),
    ] {
        let tree = Tree::stock(name);
        let aim = tree.root().join("etc/weir-limits");
        fs::write(&aim, "weir soft nofile 5\n").expect("written");
        fs::set_permissions(aim, fs::Permissions::from_mode(0o600)).expect("own file");
        symlink(target, tree.root().join(LIMITS)).expect("a link");
        comes_back(&tree);
    }
}

#[test]
fn what_could_not_be_given_back_is_not_taken() {
    let tree = Tree::stock("limits-directory");
    fs::create_dir(tree.root().join(LIMITS)).expect("made");
    let before = tree.snapshot();
    let text = said(&tree.tune("apply --yes limits"), 1);
    assert!(text.contains("neither a file nor a link"), "{text}");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_boot_ends_what_was_applied_but_for_files() {
    let tree = Tree::stock("boot");
    said(&tree.tune("apply --yes sysctl limits"), 0);
    // The kernel is as it was, but somebody has set another default.
    tree.write("proc/sys/kernel/random/boot_id", "boot-2");
    tree.write("proc/sys/net/core/somaxconn", "8192");
    said(&tree.tune("apply --yes sysctl"), 0);
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(
        tree.read("proc/sys/net/core/somaxconn"),
        "8192",
        "of this boot"
    );
    assert!(!tree
        .root()
        .join("etc/security/limits.d/90-weir.conf")
        .exists());

    let tree = Tree::stock("boot-2");
    said(&tree.tune("apply --yes sysctl"), 0);
    tree.write("proc/sys/kernel/random/boot_id", "boot-2");
    tree.write("proc/sys/net/core/somaxconn", "8192");
    let text = said(&tree.tune("revert --yes"), 0);
    assert!(text.contains("booted since"), "{text}");
    assert_eq!(
        tree.read("proc/sys/net/core/somaxconn"),
        "8192",
        "nothing to put back"
    );
    assert!(!tree.state().exists());
}

#[test]
fn what_is_not_there_is_left_out() {
    let tree = Tree::empty("empty");
    let before = tree.snapshot();
    assert!(said(&tree.tune_all_cores("check --verbose"), 0).contains("not on this host"));
    said(&tree.tune_all_cores("apply --yes"), 0);
    assert_eq!(
        tree.snapshot(),
        before,
        "nothing is made that the host does not have"
    );
    assert!(!tree.state().exists());

    tree.write("proc/sys/net/core/somaxconn", "5");
    said(&tree.tune_all_cores("apply --yes"), 0);
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "16384");
    said(&tree.tune_all_cores("revert --yes"), 0);
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "5");
}

#[test]
fn what_a_driver_refuses_is_remembered_and_not_asked_for_again() {
    let tree = Tree::stock("refused");
    tree.write("nic/eth0/refuses", "");
    let before = tree.snapshot();
    let text = said(&tree.tune("apply --yes"), 0);
    assert!(
        text.contains("the kernel refuses (Operation not supported)"),
        "{text}"
    );
    assert_eq!(tree.read("nic/eth0/adaptive-rx"), "off");
    let text = said(&tree.tune("check coalescing"), 0);
    assert!(text.contains("2 kept by the kernel"), "{text}");
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.state().exists());
}

#[test]
fn without_cores_all_are_weirs() {
    let tree = Tree::stock("all");
    let before = tree.snapshot();
    let run = |line: &str| said(&tree.tune_all_cores(line), 0);
    let text = run("apply --yes isolate");
    assert!(text.contains("left out: no --cores"), "{text}");
    let text = run("apply --yes");
    assert!(!text.contains("irqbalance"), "{text}");
    assert_eq!(tree.read("nic/eth0/combined"), "8");
    assert_eq!(
        tree.read("proc/irq/41/smp_affinity_list"),
        "1",
        "a core for each queue"
    );
    assert_eq!(
        tree.read("proc/irq/50/smp_affinity_list"),
        "0-7",
        "no core to keep it from"
    );
    assert_eq!(tree.read("sys/class/net/eth0/queues/rx-1/rps_cpus"), "ff");
    assert_eq!(
        tree.read("sys/class/net/eth0/queues/rx-1/rps_flow_cnt"),
        "16384"
    );
    assert_eq!(
        tree.read("proc/sys/net/core/rps_sock_flow_entries"),
        "32768"
    );
    run("check");
    run("revert --yes");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn one_at_a_time() {
    let tree = Tree::stock("lock");
    fs::create_dir_all(tree.state()).expect("made");
    let mut holder = Command::new("flock");
    holder.arg(tree.state()).arg("cat");
    let holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut holder = match holder {
        Ok(holder) => holder,
        Err(error) => return println!("SKIPPED: flock (Debian package util-linux): {error}"),
    };
    // What comes back has passed the lock.
    let (mut to, mut from) = (
        holder.stdin.take().expect("piped"),
        holder.stdout.take().expect("piped"),
    );
    to.write_all(b"x").expect("written");
    from.read_exact(&mut [0]).expect("read");
    let output = tree.tune("apply --yes");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another one is at work"));
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "4096");
    drop(to);
    holder.wait().expect("ended");
    said(&tree.tune("apply --yes sysctl"), 0);
}

/// Who can write there decides what root puts back, and where.
#[test]
fn a_state_directory_of_somebody_else_is_refused() {
    let tree = Tree::stock("owner");
    fs::create_dir_all(tree.state()).expect("made");
    if chown(tree.state(), Some(12_345), None).is_err() {
        println!("SKIPPED: only root can give a directory away");
        return;
    }
    let output = tree.tune("apply --yes sysctl");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to somebody else"));
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "4096");
}

#[test]
fn what_cannot_be_stored_is_not_changed() {
    let tree = Tree::stock("store");
    fs::create_dir_all(tree.state()).expect("made");
    // A file where the stage's directory should be.
    fs::write(tree.state().join("sysctl"), "").expect("written");
    let text = said(&tree.tune("apply --yes sysctl"), 1);
    assert!(
        text.contains("nothing done: what is there cannot be stored"),
        "{text}"
    );
    assert_eq!(tree.read("proc/sys/net/core/somaxconn"), "4096");
}
