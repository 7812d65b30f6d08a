//! For real: sysctls, queues and routes of a network namespace of its own.

use std::process::Command;

use crate::tree::script;

/// All that the two stages may touch, a line each.
const DUMP: &str = r#"
dump() {
    for f in /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_max_syn_backlog /proc/sys/net/ipv4/tcp_rmem \
        /proc/sys/net/ipv4/tcp_wmem /proc/sys/net/ipv4/tcp_slow_start_after_idle \
        /sys/class/net/v0/queues/*/rps_cpus /sys/class/net/v0/queues/*/rps_flow_cnt \
        /sys/class/net/v0/queues/*/xps_cpus; do
        [ -e "$f" ] && echo "$1 $f $(cat "$f" 2>&1)"
    done
}
"#;

/// A sysfs of the namespace, and a veth pair with two queues at one end.
const SETUP: &str = "mount -t sysfs none /sys\n\
    ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 || exit 1\n";

/// Runs a script as root of namespaces of its own; what went wrong if it does not end with 0.
fn in_namespace(script: &str) -> Result<(String, String), String> {
    let mut unshare = vec!["--net", "--mount"];
    let id = Command::new("id").arg("-u").output();
    if id.map_err(|error| error.to_string())?.stdout != b"0\n" {
        unshare.push("--map-root-user");
    }
    let script = format!("{SETUP}{script}");
    let mut command = Command::new("unshare");
    let output = command.args(&unshare).args(["sh", "-c", &script]).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|error| error.to_string());
    let (said, log) = (text(output.stdout)?, text(output.stderr)?);
    match output.status.success() {
        true => Ok((said, log)),
        false => Err(log),
    }
}

#[test]
fn apply_and_revert_in_a_namespace() {
    if let Err(why) = in_namespace("true") {
        return println!("SKIPPED: no network namespace with a veth pair here: {why}");
    }
    // Root of a user namespace may change sysctls, and no queues.
    let may_steer = in_namespace("echo 1 >/sys/class/net/v0/queues/rx-0/rps_flow_cnt");
    if let Err(why) = &may_steer {
        println!("SKIPPED the half about queues: {why}");
    }
    let stages = match may_steer.is_ok() {
        true => "sysctl steering",
        false => "sysctl",
    };
    let name = format!("weir-tuning-namespace-{}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let state = dir.join("state");
    let tune = |action: &str| {
        let (script, state) = (script(), state.display().to_string());
        let script = script.display();
        format!("{script} {action} --nic v0 --state {state} {stages}")
    };
    let (apply, check, revert) = (tune("apply --yes"), tune("check"), tune("revert --yes"));
    let (text, log) = in_namespace(&format!(
        "echo 128 >/proc/sys/net/core/somaxconn\n{DUMP}\n\
         dump before\n{apply} >&2\necho status $?\n{check} >&2\necho status $?\ndump applied\n\
         {apply} >&2\n{revert} >&2\necho status $?\ndump after\ntrue\n"
    ))
    .expect("a namespace, as before");
    let of = |when: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(when));
        lines.map(str::to_owned).collect()
    };
    // A namespace shows limits that only its host may change: these are named, and no success.
    let named = log.lines().filter(|line| line.starts_with("  cannot "));
    let named: Vec<&str> = named.collect();
    let done = if named.is_empty() { "0" } else { "1" };
    assert_eq!(of("status "), [done, done, "0"], "{text}\n{log}");
    let is_limit = |line: &&str| line.contains("mem_max") && line.contains("read-only here");
    assert!(named.iter().all(is_limit), "{named:?}");
    assert!(!log.contains("  differs "), "{log}");
    let (before, applied) = (of("before "), of("applied "));
    assert!(before.len() >= 7, "{text}\n{log}");
    assert!(
        before.contains(&"/proc/sys/net/core/somaxconn 128".to_owned()),
        "{text}"
    );
    assert!(
        applied.contains(&"/proc/sys/net/core/somaxconn 16384".to_owned()),
        "{text}\n{log}"
    );
    let changed = before.iter().zip(&applied).filter(|(was, is)| was != is);
    assert!(changed.count() >= 3, "{text}\n{log}");
    if may_steer.is_ok() {
        let of_queues = |lines: &[String]| -> Vec<String> {
            let lines = lines.iter().filter(|line| line.contains("/queues/"));
            lines.cloned().collect()
        };
        assert_ne!(of_queues(&before), of_queues(&applied), "{log}");
    }
    assert_eq!(of("after "), before, "{log}");
    // Which it only can be if the state is gone.
    std::fs::remove_dir(&dir).expect("empty");
}

/// Every route that the stage may touch; link-local ones come and go by themselves.
const ROUTES: &str = r#"
routes() {
    for family in -4 -6; do
        for table in main local; do ip $family route show table $table | grep -v ' fe80:\|^fe80:\|^multicast' | sed "s/^/$1 /"; done
    done
}
ip link set lo up && ip link set v0 up && ip link set v1 up
ip addr add 10.9.0.1/24 dev v0 && ip addr add fd00::1/64 dev v0 nodad
ip route add default via 10.9.0.2 dev v0 metric 50 mtu 1400 && ip -6 route add default via fd00::2 dev v0
ip route add 10.20.0.0/16 dev v0 proto static src 10.9.0.1 && ip route add 10.30.0.0/16 dev v1 metric 7
ip route add 10.40.0.0/16 dev v0 metric 1 && ip route add 10.40.0.0/16 dev v0 metric 2
ip addr add 10.50.0.1/24 dev v0 && ip addr add 10.50.0.2/24 dev v1
"#;

/// `tune.sh` on routes, and where it stores.
fn tune_routes(dir: &std::path::Path, action: &str) -> String {
    let (script, state) = (script(), dir.join("state").display().to_string());
    let script = script.display();
    format!("{script} {action} --nic v0 --state {state} acks >&2\necho status $?\n")
}

/// Lines of `text` that begin with `when`, without it.
fn lines_of<'a>(text: &'a str, when: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(when));
    lines.map(str::trim_end).collect()
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("weir-tuning-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

#[test]
fn routes_are_told_to_ack_at_once_and_come_back_as_they_were() {
    if let Err(why) = in_namespace("ip link set lo up") {
        return println!("SKIPPED: no network namespace with a veth pair here: {why}");
    }
    let dir = scratch("routes");
    let [apply, check, revert] =
        ["apply --yes", "check", "revert --yes"].map(|action| tune_routes(&dir, action));
    let (text, log) = in_namespace(&format!(
        "{ROUTES}\nroutes before\n{apply}{check}routes applied\n{apply}{revert}routes after\ntrue\n"
    ))
    .expect("a namespace, as before");
    let of = |when| lines_of(&text, when);
    assert_eq!(of("status "), ["0", "0", "0", "0"], "{text}\n{log}");
    // Through this interface, and loopback's; not those that the table has twice, here or on another.
    let mut marked: Vec<&str> = of("applied ")
        .into_iter()
        .filter(|line| line.contains("quickack 1"))
        .map(|line| line.split(" dev ").next().unwrap_or(line))
        .collect();
    marked.sort_unstable();
    assert_eq!(
        marked,
        [
            "10.20.0.0/16",
            "10.9.0.0/24",
            "default via 10.9.0.2",
            "default via fd00::2",
            "fd00::/64",
            "local 127.0.0.0/8",
            "local 127.0.0.1",
        ],
        "{text}\n{log}"
    );
    let before = of("before ");
    for line in [
        "metric 50 mtu 1400",
        "10.50.0.0/24 dev v0",
        "10.50.0.0/24 dev v1",
    ] {
        assert!(before.iter().any(|route| route.contains(line)), "{text}");
    }
    assert_eq!(of("after "), before, "{log}");
    std::fs::remove_dir(&dir).expect("empty");
}

/// The host has moved on since: only the word is taken back.
#[test]
fn a_route_that_is_another_by_now_is_not_made_the_old_one() {
    if let Err(why) = in_namespace("ip link set lo up") {
        return println!("SKIPPED: no network namespace with a veth pair here: {why}");
    }
    let dir = scratch("moved");
    let [apply, revert] = ["apply --yes", "revert --yes"].map(|action| tune_routes(&dir, action));
    let (text, log) = in_namespace(&format!(
        "{ROUTES}\n{apply}ip route replace default via 10.9.0.3 dev v0 metric 50 quickack 1\n\
         ip route del 10.20.0.0/16 dev v0\n{revert}routes after\ntrue\n"
    ))
    .expect("a namespace, as before");
    let after = lines_of(&text, "after ");
    assert_eq!(lines_of(&text, "status "), ["0", "0"], "{text}\n{log}");
    assert!(
        after.contains(&"default via 10.9.0.3 dev v0 metric 50"),
        "{text}"
    );
    assert!(
        !text.contains("via 10.9.0.2 ") && !text.contains("10.20."),
        "{text}"
    );
    assert!(!text.contains("quickack"), "{text}");
    std::fs::remove_dir(&dir).expect("empty");
}

#[test]
fn a_read_only_proc_sys_is_said_and_is_no_success() {
    let sealed =
        "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys || exit 1\n";
    if let Err(why) = in_namespace(sealed) {
        return println!("SKIPPED: no read-only /proc/sys to be had here: {why}");
    }
    let state = std::env::temp_dir().join(format!("weir-tuning-read-only-{}", std::process::id()));
    let tune = format!(
        "{} %s sysctl --state {}",
        script().display(),
        state.display()
    );
    let run = |words: &str| format!("{}; echo status $?\n", tune.replace("%s", words));
    // Wanted is 16384.
    let script = format!(
        "echo 128 >/proc/sys/net/core/somaxconn\n{sealed}{}{}{}",
        run("check"),
        run("apply --yes"),
        run("apply --yes --allow-read-only"),
    );
    let (text, log) = in_namespace(&script).expect("a namespace, as before");
    let statuses: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("status "))
        .collect();
    assert_eq!(statuses, ["1", "1", "0"], "{text}\n{log}");
    let said = text
        .lines()
        .filter(|line| line.contains("net.core.somaxconn"));
    assert_eq!(
        said.filter(|line| line.contains("read-only here")).count(),
        3,
        "{text}"
    );
    let _ = std::fs::remove_dir_all(state);
}
