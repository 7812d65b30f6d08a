//! Flags of `weir distributor`: the settings, which `weir_config` defines, and the file that has others.

use std::path::PathBuf;

use crate::cli::config::Origins;
use crate::cli::instance::instance;
use crate::config::Config;

/// Takes messages from emitters and gives each to exactly one analyzer, in proportion to weights.
///
/// SIGTERM or SIGINT: tell emitters to go, read on until they close, for --graceful-close at most, deliver
/// what was taken in, wait for ACKs up to --drain-timeout, print the conservation line. A second
/// signal ends at once. SIGHUP: read the file of --config again and take over what can change while it
/// runs.
///
/// Exit status: 0 nothing was abandoned, 1 it could not run, 2 usage, 3 messages were abandoned.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Read settings from this file; flags and the environment go before it (`weir config --default`
    /// prints one)
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)] // clap would take it for the help of the program
    pub settings: Config,

    /// Where the values come from.
    #[arg(skip)]
    pub origins: Origins,
}

impl Args {
    /// The file, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        let by_flag = self.config.clone();
        by_flag.or_else(|| self.origins.file_of_environment())
    }

    /// The configuration that the flags describe. Reads the files that they name.
    ///
    /// # Errors
    /// The flag, the value and what is allowed.
    pub fn config(&self) -> Result<Config, String> {
        self.config_after(None)
    }

    /// The same; `before`: what is in force.
    ///
    /// # Errors
    /// As [`Args::config`].
    pub fn config_after(&self, before: Option<&Config>) -> Result<Config, String> {
        let mut config = self.settings.clone();
        config.resolve(before)?;
        config.instance = instance();
        Ok(config)
    }
}
