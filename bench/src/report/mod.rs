//! Reports: what a command measured, under what, and in which files it stands.
//!
//! ```text
//! args.output.begin(kind, title, cores)  -> Report   files writable? fingerprint, start time
//!     report.series.push(...)                        figures
//! args.output.finish(report, passed)                 summaries; --json --html --hgrm --hlog
//! ```

mod figures;
mod files;
mod hgrm;
mod histogram;
mod html;
mod model;
mod read;
#[cfg(test)]
pub mod sample;
pub mod sign;
mod stats;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use weir::ledger::run_report::{rfc3339, Stamp};

use crate::fingerprint::{interface_of, Fingerprint};
use crate::ksoftirqd::Ksoftirqd;

pub use figures::human;
#[cfg(test)]
pub use histogram::decode;
pub use histogram::{encode, percentiles_line, Latency};
pub use model::*;
pub use read::read;
pub use stats::{columns, median_min_max, summarize, Measured};

/// The sentence that every number over loopback needs beside it.
const LOOPBACK: &str = "loopback: no NIC, no interrupts, never true zero-copy (the kernel copies \
                        anyway), and the receiver's softirq work is charged to the sender's core";
const VIRTUAL: &str =
    "between namespaces of one host: no NIC, no interrupts, never true zero-copy \
                       (the kernel copies anyway)";
const DEVICE: &str = "a network device: its interrupts and queues are part of what is measured, \
                      see the fingerprint";

/// Where a report goes; the same for every subcommand.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Reports")]
pub struct OutputArgs {
    /// Write every figure here as JSON (schema: bench/report.schema.json); `diff` reads it
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub pages: PageArgs,
}

/// What can be made of a report at any time.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Reports")]
pub struct PageArgs {
    /// Write a page with charts and tables here: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write distributions of times here, a .hgrm file each, for HdrHistogram's plotter
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
    /// Write the distributions of each interval here, as an HdrHistogram V2 interval log
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
}

/// Arguments of `weir-bench render`.
#[derive(Debug, Clone, clap::Args)]
pub struct RenderArgs {
    /// A report, from --json
    #[arg(value_name = "REPORT.json")]
    pub report: PathBuf,
    #[command(flatten)]
    pub pages: PageArgs,
}

/// Makes what was asked for.
///
/// # Errors
/// The file is no report, nothing was asked for, or a file cannot be written.
pub fn run_render(args: &RenderArgs) -> io::Result<bool> {
    let mut report = read(&args.report)?;
    // They follow from the runs, which another program may have chosen from.
    report.summaries = summarize(&report);
    let PageArgs { html, hgrm, hlog } = &args.pages;
    if html.is_none() && hgrm.is_none() && hlog.is_none() {
        return Err(io::Error::other(
            "render: nothing to make: give --html FILE, --hgrm DIR or --hlog FILE",
        ));
    }
    args.pages.write(&report).map(|()| true)
}

/// A report that is being made.
#[derive(Debug)]
pub struct Draft {
    /// What stands in it so far.
    pub report: Report,
    begun: Instant,
}

/// Cores by role; empty when not pinned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cores<'a> {
    /// Of the system under test.
    pub system: &'a [usize],
    /// Of load and analyzers.
    pub load: &'a [usize],
}

impl OutputArgs {
    /// Before anything is measured: can the files be written, and what host is this.
    ///
    /// # Errors
    /// A file that cannot be written, with its flag and path.
    pub fn begin(&self, kind: &str, title: &str, cores: Cores) -> io::Result<Draft> {
        self.ensure_writable()?;
        let report = Report {
            schema_version: SCHEMA_VERSION,
            kind: kind.into(),
            title: title.into(),
            command: std::env::args().collect(),
            started: rfc3339(Stamp::now().unix_ns),
            wall_seconds: 0.0,
            passed: false,
            conditions: Conditions {
                system_cores: cores.system.to_vec(),
                load_cores: cores.load.to_vec(),
                interface: "lo".into(),
                network: LOOPBACK.into(),
                load_average_before: load_average(),
            },
            fingerprint: fingerprint_with_cores("lo", cores.system),
            series: Vec::new(),
            summaries: Vec::new(),
            notes: Vec::new(),
        };
        Ok(Draft {
            report,
            begun: Instant::now(),
        })
    }

    /// Adds the summaries and writes every file that was asked for.
    ///
    /// # Errors
    /// A file that cannot be written, with its flag and path.
    pub fn finish(&self, draft: Draft, passed: bool) -> io::Result<()> {
        let mut report = draft.report;
        report.wall_seconds = draft.begun.elapsed().as_secs_f64();
        report.passed = passed;
        report.summaries = summarize(&report);
        let sent = |count: fn(&ZeroCopy) -> u64| -> u64 {
            let runs = report.series.iter().flat_map(|series| &series.runs);
            runs.filter_map(|run| run.zero_copy.as_ref().map(count))
                .sum()
        };
        let (sends, copied) = (sent(|z| z.sends), sent(|z| z.copied));
        let interface = &report.conditions.interface;
        report.fingerprint.set_zero_copy(interface, sends, copied);
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report)?;
            write("--json", path, &(text + "\n"))?;
        }
        self.pages.write(&report)
    }

    /// An hour's measurement shall not be lost to a misspelt directory.
    fn ensure_writable(&self) -> io::Result<()> {
        for (flag, path) in [
            ("--json", &self.json),
            ("--html", &self.pages.html),
            ("--hgrm", &self.pages.hgrm),
            ("--hlog", &self.pages.hlog),
        ] {
            let parent = path.as_deref().and_then(Path::parent);
            if let Some(parent) = parent.filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
                let shown = path.as_deref().unwrap_or(parent).display();
                return Err(io::Error::other(format!(
                    "{flag} {shown}: there is no directory {}",
                    parent.display()
                )));
            }
        }
        Ok(())
    }
}

impl PageArgs {
    fn write(&self, report: &Report) -> io::Result<()> {
        if let Some(path) = &self.html {
            write("--html", path, &html::page(report)?)?;
        }
        if let Some(directory) = &self.hgrm {
            files::write_hgrm(directory, report)?;
        }
        if let Some(path) = &self.hlog {
            files::write_hlog(path, report)?;
        }
        Ok(())
    }
}

impl Draft {
    /// The figures go over another path than loopback if `peer` is elsewhere.
    pub fn set_peer(&mut self, peer: IpAddr) {
        let interface = interface_of(peer);
        let conditions = &mut self.report.conditions;
        conditions.network = match interface.as_str() {
            "lo" => LOOPBACK,
            _ if is_virtual(&interface) => VIRTUAL,
            _ => DEVICE,
        }
        .into();
        self.report.fingerprint = fingerprint_with_cores(&interface, &conditions.system_cores);
        conditions.interface = interface;
    }

    /// The conditions for a terminal.
    pub fn heading(&self) -> String {
        let report = &self.report;
        let fact = |section, name| report.fingerprint.fact(section, name);
        let load = report.conditions.load_average_before;
        format!(
            "conditions: Linux {}, {} x {}, load average before {}\n            {}",
            fact("kernel", "release"),
            fact("cpu", "online"),
            fact("cpu", "model"),
            load.map_or("unknown".into(), |load| format!("{load:.2}")),
            report.conditions.network,
        )
    }
}

/// The host, and whether its network threads on the system's cores can be seen.
fn fingerprint_with_cores(interface: &str, cores: &[usize]) -> Fingerprint {
    let mut fingerprint = Fingerprint::of_this_host(interface);
    let cpu = fingerprint.sections.entry("cpu".into()).or_default();
    let told = Ksoftirqd::of(cores).told();
    cpu.insert("ksoftirqd of the system's cores".into(), told);
    fingerprint
}

/// Now.
pub fn unix_seconds() -> f64 {
    Stamp::now().unix_ns as f64 / 1e9
}

/// A device without hardware behind it.
fn is_virtual(interface: &str) -> bool {
    !Path::new("/sys/class/net")
        .join(interface)
        .join("device")
        .exists()
}

fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

fn write(flag: &str, path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
        .map_err(|e| io::Error::new(e.kind(), format!("{flag} {}: {e}", path.display())))
}
