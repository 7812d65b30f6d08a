//! For real: sysctls and queues of a network namespace of its own.

use std::process::{Command, Output};

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

/// Runs a script as root of namespaces of its own, or says why it cannot.
fn in_namespace(script: &str) -> Result<Output, String> {
    let mut unshare = vec!["--net", "--mount"];
    let id = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|error| error.to_string())?;
    if id.stdout != b"0\n" {
        unshare.push("--map-root-user");
    }
    let run = |script: &str| {
        Command::new("unshare")
            .args(&unshare)
            .args(["sh", "-c", script])
            .output()
    };
    let probe = run("mount -t sysfs none /sys && ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1");
    match probe {
        Err(error) => Err(format!("unshare: {error}")),
        Ok(output) if !output.status.success() => {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
        Ok(_) => run(script).map_err(|error| error.to_string()),
    }
}

#[test]
fn apply_and_revert_in_a_namespace() {
    let name = format!("weir-tuning-namespace-{}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let state = dir.join("state");
    let tune = format!(
        "{} --nic v0 --state {} sysctl steering",
        script().display(),
        state.display()
    );
    let tune = tune.replacen("tune.sh ", "tune.sh ACTION ", 1);
    let (apply, revert) = (
        tune.replace("ACTION", "apply --yes"),
        tune.replace("ACTION", "revert --yes"),
    );
    let check = tune.replace("ACTION", "check");
    let script = format!(
        "mount -t sysfs none /sys\nip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1\n\
         echo 128 >/proc/sys/net/core/somaxconn\n{DUMP}\n\
         dump before\n{apply} >&2\necho status $?\n{check} >&2\necho status $?\ndump applied\n\
         {apply} >&2\n{revert} >&2\necho status $?\ndump after\n"
    );
    let output = match in_namespace(&script) {
        Ok(output) => output,
        Err(why) => {
            let _ = std::fs::remove_dir(&dir);
            println!("SKIPPED: no network namespace with a veth pair here: {why}");
            return;
        }
    };
    let text = String::from_utf8(output.stdout).expect("text");
    let log = String::from_utf8_lossy(&output.stderr);
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
    assert!(changed.count() >= 4, "{text}\n{log}");
    assert!(
        applied
            .iter()
            .any(|line| line.ends_with("rx-0/rps_flow_cnt 16384")
                || line.contains("rps_cpus") && !line.ends_with(" 0")),
        "a queue of the veth pair: {text}\n{log}"
    );
    assert_eq!(of("after "), before, "{log}");
    // Which it only can be if the state is gone.
    std::fs::remove_dir(&dir).expect("empty");
}
