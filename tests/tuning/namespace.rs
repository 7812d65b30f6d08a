//! For real: sysctls and queues of a network namespace of its own.

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
    assert_eq!(of("status "), ["0", "0", "0"], "{text}\n{log}");
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
