//! `weir doctor`: is this host fit?

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{config, generate, values};
use crate::config::{MemoryNeed, OwnListeners, Sizing};
use crate::doctor::{self, cpus_of_list, Host, Plan};
use crate::host::cpu_quota;
use crate::runtime::Needs;
use crate::streams::say;

/// Columns of a report that is not read on a terminal.
const WIDTH_DEFAULT: usize = 100;

const EXAMPLES: &str = "\
Examples:
  weir doctor --cores 2-7             with the cores that the distributor will have
  weir doctor --config weir.toml      with its memory and connections as well
  weir doctor --pid $(pidof weir)     limits and control group of a running one";

/// Says what is wrong with this host for a distributor, the command that mends it, and what it is worth.
///
/// It looks at the kernel, io_uring, limits, memory, cores, interrupts, TCP settings, network
/// interfaces, huge pages and certificates, and changes nothing. What `tuning/tune.sh` can mend is given as its
/// command line, see docs/TUNING.md; `tuning/tune.sh explain` has the reasons and the risks.
///
/// A fault keeps Weir from starting or from what it was asked to do, a warning costs speed, latency or
/// connections, a note is good to know. What a thing is worth is said with its basis: measured with
/// Weir, or sourced from the document that is named.
///
/// Exit status: 0 nothing is wrong (notes do not count), 1 something is, 2 usage.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct Args {
    /// Cores of the shards, such as 2-7; default: those of --config, or all
    #[arg(long, value_name = "LIST", value_parser = core_list)]
    cores: Option<CoreList>,
    /// The distributor's weir.toml: cores, memory, connections, zero-copy
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Limits and control group of this process; default: those that are in force here
    #[arg(long, value_name = "PID", value_parser = values::number(1..=u32::MAX))]
    pid: Option<u32>,
    /// Look at this tree in place of /: its /proc, /sys and /etc. Nothing outside of it is read, and none of
    /// its programs is run: what ethtool would show is not known then
    #[arg(long, value_name = "DIR", value_parser = directory)]
    root: Option<PathBuf>,
    /// Run usr/sbin/ethtool of --root, as whoever runs this: for tests
    #[arg(long, requires = "root", hide = true)]
    test_run_tools_of_root: bool,
    /// Also list what is as it should be, and what cannot be seen from here
    #[arg(long)]
    all: bool,
    /// Print JSON: every check with its outcome
    #[arg(long)]
    json: bool,
}

/// Cores in order, each once.
#[derive(Clone, Debug)]
struct CoreList(Vec<usize>);

fn core_list(text: &str) -> Result<CoreList, String> {
    let cores = cpus_of_list(text).filter(|cores| !cores.is_empty());
    let mut cores = cores.ok_or("allowed: numbers and ranges, such as 0-3 or 0,2")?;
    cores.sort_unstable();
    cores.dedup();
    Ok(CoreList(cores))
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_dir() {
        true => Ok(path),
        false => Err("allowed: a directory".into()),
    }
}

/// Looks, prints, and says by its status whether something is wrong.
pub fn run(args: &Args) -> ExitCode {
    let host = Host::new(args.root.clone(), args.pid, args.test_run_tools_of_root);
    let plan = match plan(args, &host) {
        Ok(plan) => plan,
        Err(problems) => {
            for problem in problems {
                say(&format!("error: {problem}"));
            }
            return ExitCode::from(2);
        }
    };
    let checked = doctor::examine(&host, &plan);
    let report = if args.json {
        format!("{:#}\n", doctor::json(&host, &plan, &checked))
    } else {
        let width =
            terminal_size::terminal_size().map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0));
        doctor::text(&host, &plan, &checked, args.all, width.max(60))
    };
    let printed = generate::print(report.as_bytes());
    match doctor::is_wrong(&checked) {
        true => ExitCode::from(1),
        false => printed,
    }
}

/// What the distributor would do, by its file and its defaults.
fn plan(args: &Args, host: &Host) -> Result<Plan, Vec<String>> {
    let mut flags: Vec<OsString> = Vec::new();
    if let Some(file) = &args.config {
        flags.extend(["--config".into(), file.into()]);
    }
    let loaded = config::command::of_file(flags)?;
    let config = &loaded.config;
    let online = host.online();
    if let Some(pid) = args.pid.filter(|_| host.of_process("limits").is_none()) {
        return Err(vec![format!("--pid {pid}: no such process, or not yours")]);
    }
    let chosen = args.cores.as_ref().map(|list| list.0.clone());
    let chosen = chosen.or_else(|| config.core_list.as_ref().map(|list| list.0.clone()));
    if let Some(missing) = chosen.iter().flatten().find(|core| !online.contains(core)) {
        let there = doctor::list_of_cpus(&online);
        return Err(vec![format!(
            "--cores: there is no core {missing} (there are: {there})"
        )]);
    }
    let quota = cpu_quota(host);
    let sizing = Sizing::new(
        &online,
        chosen.as_deref(),
        config.shard_count,
        quota.as_ref(),
    );
    let shards = sizing.shards;
    let are_cores_chosen = chosen.is_some();
    // What is not pinned may run on any core.
    let mut cores = chosen.unwrap_or(online);
    if !sizing.cores.is_empty() {
        cores.truncate(shards);
    }
    Ok(Plan {
        cores,
        are_cores_chosen,
        shards,
        memory: MemoryNeed {
            shards: shards as u64,
            ..MemoryNeed::of(config)
        },
        arena_bytes: config.arena_bytes as u64,
        ingress_bytes: config.ingress_bytes as u64,
        descriptors: Needs {
            shards,
            ..Needs::of(config, config.http.listen.is_some())
        },
        is_zero_copy_wanted: config.zero_copy_bytes > 0,
        listeners: OwnListeners::of(config).iter().collect(),
        datagrams: OwnListeners::of_datagrams(config),
        datagram_buffer_bytes: {
            let inputs = config.all_inputs();
            let asked = inputs.iter().filter(|input| input.is_udp());
            let most = asked.map(|input| input.receive_buffer_bytes()).max();
            u64::from(most.unwrap_or(0))
        },
        certificates: (!config.tls_paths().is_empty()).then(|| config.tls_troubles()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_in_order() {
        assert_eq!(core_list("3,0-1,1").map(|list| list.0), Ok(vec![0, 1, 3]));
        for bad in ["", "x", "3-1", ","] {
            assert!(
                core_list(bad).is_err_and(|why| why.contains("allowed")),
                "{bad}"
            );
        }
    }
}
