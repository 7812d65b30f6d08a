//! What one system is measured with: the arguments that `throughput`, `latency` and `capacity` share.

use std::io;

use crate::child::{System, SystemArgs};
use crate::load::LoadArgs;
use crate::net::pin;
use crate::report::{Cores, Draft, OutputArgs};
use crate::sink::SinkArgs;

/// A system, its load, its analyzers, where they run, and what is written about them.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// 'weir [args]', 'relay', a peer (nginx, haproxy-tcp, haproxy-log, rsyslog, syslog-ng), or a command
    /// with {emitters} and {analyzers} in it
    #[arg(long, default_value = "weir")]
    pub subject: String,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub sink: SinkArgs,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl TargetArgs {
    /// Before the first run: the report, the system, and `load` as the system reads it. Pins this thread to
    /// the load's cores, and prints the conditions.
    ///
    /// # Errors
    /// A file of the report cannot be written, there is no such system, or the cores are not there.
    pub fn begin(&self, kind: &str, load: &LoadArgs) -> io::Result<(Draft, System, LoadArgs)> {
        let cores = Cores {
            system: &self.system.system_cores,
            load: &self.system.load_cores,
        };
        let title = format!("{kind} of {}", self.subject);
        let draft = self.output.begin(kind, &title, cores)?;
        weir::out!("{}", draft.heading());
        let mut load = load.clone();
        let mut system = System::parse(&self.subject, &self.system, load.size.typical())?;
        system.ensure_exists()?;
        system.fit(&mut load);
        pin(&self.system.load_cores)?;
        weir::out!(
            "load        {}, {} analyzers",
            load.describe(),
            self.sink.weights.len()
        );
        Ok((draft, system, load))
    }
}
