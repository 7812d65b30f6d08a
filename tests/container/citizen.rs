//! What a distributor says and does when its surroundings are those of a container.

use std::process::{Command, Output};

use crate::group::Group;
use weir_testkit::process::{run_command, weir};
use weir_testkit::{Distributor, Scratch};

const LISTEN: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off";

/// What a test needs and this machine has not: said, and the test is left out.
macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `weir ARGUMENTS` out of a script that ends with `exec "$0" "$@"`.
fn weir_in(script: &str, arguments: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-ec", script, weir()]);
    command.args(arguments.split_whitespace());
    run_command(&mut command)
}

fn cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |ids| ids.len())
}

#[test]
fn there_are_as_many_shards_as_the_cpu_quota_allows_and_none_is_pinned() {
    let group = or_skip!(Group::new("cpu"));
    or_skip!(group.quota(50));
    let scratch = Scratch::new("quota");
    let file = scratch.write("weir.toml", "");
    let check = format!("check {}", file.display());
    let said = text(&weir_in(&group.script(), &check).stdout);
    assert!(
        said.contains("1 shards, not pinned: a CPU quota of 0.50 cores (/sys/fs/cgroup/"),
        "{said}"
    );
    let flags = "--arena 16MiB";
    let distributor = Distributor::start_in(&[], &group.script(), flags);
    assert_eq!(distributor.shards, 1);
    let why = distributor.wait_log("not pinned");
    assert!(why.contains("a CPU quota of 0.50 cores"), "{why}");
    assert_eq!(distributor.stop().code, Some(0));
    // Somebody's word goes before the quota.
    let distributor = Distributor::start_in(&[], &group.script(), "--shards 2");
    assert_eq!(distributor.shards, 2);
    distributor.wait_log("--shards; a CPU quota of 0.50 cores");
    assert_eq!(distributor.stop().code, Some(0));
    // Without one there is a shard for each core.
    let said = text(&weir_in("exec \"$0\" \"$@\"", &check).stdout);
    let all = format!("{} shards on cores", cores());
    assert!(said.contains(&all), "{said}");
}

#[test]
fn a_memory_limit_below_what_is_needed_is_refused_before_anything_is_taken() {
    let group = or_skip!(Group::new("memory"));
    or_skip!(group.memory(100 << 20));
    let refused = weir_in(&group.script(), &format!("distributor {LISTEN} --shards 2"));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    for part in [
        "2 shards x 68 MiB + 16 MiB = 152 MiB of memory are needed",
        "104857600 bytes (100 MiB) are allowed (/sys/fs/cgroup/",
        "--arena",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let scratch = Scratch::new("memory-limit");
    let file = scratch.write("weir.toml", "[cores]\nshards = 2\n");
    let check = format!("check {}", file.display());
    let said = text(&weir_in(&group.script(), &check).stdout);
    assert!(
        said.contains("would not start here: memory: 2 shards"),
        "{said}"
    );
    // With less it starts.
    let flags = "--shards 2 --arena 16MiB";
    let distributor = Distributor::start_in(&[], &group.script(), flags);
    distributor.stop().assert_clean();
}

/// Loads a filter that answers io_uring's three calls with an errno, and becomes its arguments.
const FILTER: &str = r"
import ctypes, os, struct, sys
errno, command = int(sys.argv[1]), sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
code = [(0x20, 0, 0, 0)]  # load the number of the call
for n, call in enumerate((425, 426, 427)):
    code.append((0x15, 3 - n, 0, call))  # equal: to the refusal
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno)]
raw = b''.join(struct.pack('HBBI', *one) for one in code)
buffer = ctypes.create_string_buffer(raw, len(raw))
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(len(code), ctypes.addressof(buffer))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit('no filter: errno %d' % ctypes.get_errno())
os.execv(command[0], command)
";

/// `weir ARGUMENTS` under such a filter; or why that cannot be.
fn filtered(errno: i32, arguments: &str) -> Result<Output, String> {
    let mut command = Command::new("python3");
    command.args(["-c", FILTER, &errno.to_string(), weir()]);
    command.args(arguments.split_whitespace());
    let output = command.output().map_err(|why| format!("python3: {why}"))?;
    match text(&output.stderr) {
        said if said.starts_with("no filter") => Err(said),
        _ => Ok(output),
    }
}

#[test]
fn a_profile_that_refuses_io_uring_is_named_whatever_it_answers() {
    for (errno, name) in [(1, "EPERM"), (38, "ENOSYS")] {
        let refused = or_skip!(filtered(errno, &format!("distributor {LISTEN}")));
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        for part in [
            format!("io_uring is refused ({name}) by a seccomp profile, not by the kernel"),
            "Seccomp: 2".into(),
            "allow io_uring_setup, io_uring_enter and io_uring_register".into(),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        let examined = or_skip!(filtered(errno, "doctor --json"));
        let report: serde_json::Value = serde_json::from_slice(&examined.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["id"] == "ring-features");
        let check = check.expect("there");
        assert_eq!(check["outcome"], "fault", "{check}");
        let says = check["says"].as_str().expect("text");
        assert!(says.contains("seccomp profile"), "{says}");
    }
}

/// Without CAP_IPC_LOCK, as in a container, and with so many KiB that may be locked.
fn locked(kib: u64, arguments: &str) -> Result<Output, String> {
    let mut command = Command::new("setpriv");
    let script = format!("ulimit -l {kib} || exit 77; exec \"$0\" \"$@\"");
    command.args(["--bounding-set=-ipc_lock", "sh", "-ec", &script, weir()]);
    command.args(arguments.split_whitespace());
    let output = command.output().map_err(|why| format!("setpriv: {why}"))?;
    let said = text(&output.stderr);
    match output.status.code() == Some(77) || said.starts_with("setpriv:") {
        true => Err(said),
        false => Ok(output),
    }
}

#[test]
fn what_must_be_lockable_is_said_as_a_sum() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = kernel
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    if version < (Some(6), Some(14)) {
        eprintln!("skipped: Linux {kernel} does not count rings against RLIMIT_MEMLOCK");
        return;
    }
    let line = format!("distributor {LISTEN} --shards 2 --arena 16MiB");
    let refused = or_skip!(locked(700, &line));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in [
        "RLIMIT_MEMLOCK is",
        "2 shards x 640 KiB + 32 KiB = 1312 KiB",
        "all processes of a user id on this host",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let examined = or_skip!(locked(600, "doctor --json --cores 0"));
    let report: serde_json::Value = serde_json::from_slice(&examined.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["id"] == "memlock");
    let says = check.expect("there")["says"].as_str().expect("text");
    assert!(says.contains("640 KiB"), "{says}");
}

/// The kernel would bring all of it into memory first, and then find the limit too small.
#[test]
fn an_arena_that_cannot_be_locked_is_not_brought_into_memory() {
    or_skip!(locked(8192, "--version"));
    let runner = ["setpriv", "--bounding-set=-ipc_lock"].map(str::to_owned);
    let script = "ulimit -l 8192; exec \"$0\" \"$@\"";
    let distributor = Distributor::start_in(&runner, script, "--shards 1 --arena 64MiB");
    let said = distributor.wait_log("not registered");
    assert!(said.contains("RLIMIT_MEMLOCK is 8388608 bytes"), "{said}");
    let rss = distributor.rss();
    assert!(rss < 32 << 20, "{rss} bytes");
    distributor.stop().assert_clean();
}

#[test]
fn an_automatic_id_has_the_hosts_name() {
    let output = run_command(Command::new("uname").arg("-n"));
    let name = text(&output.stdout);
    let label = name.trim().split('.').next().unwrap_or_default().to_owned();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let label: String = label.chars().map(plain).collect();
    let distributor = Distributor::start("--shards 1 --log-level debug");
    let address = distributor.analyzers.to_string();
    let mut analyzer = Command::new(weir());
    analyzer.args(["analyzer", "--addr", &address]);
    let mut analyzer = analyzer.spawn().expect("weir runs");
    distributor.wait_log(&format!("analyzer-{label}-{}", analyzer.id()));
    let _ = analyzer.kill();
    let _ = analyzer.wait();
}

#[test]
fn a_drain_that_does_not_fit_into_the_grace_is_refused_with_the_sum() {
    let scratch = Scratch::new("grace");
    let file = scratch.write("weir.toml", "[delivery]\ndrain_timeout = \"40s\"\n");
    let check = |flags: &str| {
        let line = format!("check {} {flags}", file.display());
        run_command(Command::new(weir()).args(line.split_whitespace()))
    };
    assert!(check("").status.success());
    assert!(check("--grace 50s").status.success());
    assert!(check("--grace 45s --pre-stop 0s").status.success());
    let refused = check("--grace 45s");
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in [
        "--grace 45s",
        "5s before SIGTERM (--pre-stop) + --drain-timeout 40s + 5s for the end = 50s",
        "--drain-timeout 35s at most",
        "weir.toml:2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(
        check("--pre-stop 5s").status.code(),
        Some(2),
        "without a grace"
    );
    assert_eq!(check("--grace 0s").status.code(), Some(2));
}
