//! A distributor whose analyzers are files and programs: their places may have spaces.

use std::process::Command;

use weir_testkit::process::weir;
use weir_testkit::Distributor;

/// With an input for lines of syslog.
pub(super) fn start(analyzers: &[String], more: &str) -> Distributor {
    let input = "--input syslog@127.0.0.1:0?name=lines";
    start_at(analyzers, &format!("{input} {more}"))
}

/// With the inputs that `more` says.
pub(super) fn start_at(analyzers: &[String], more: &str) -> Distributor {
    let mut command = Command::new(weir());
    command.env("RUST_LOG", "weir=debug").arg("distributor");
    let flags = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off --arena 16MiB --health-interval 100ms --slow-start 0s";
    command.args(flags.split_whitespace());
    command.args(more.split_whitespace());
    for analyzer in analyzers {
        command.args(["--analyzer", analyzer]);
    }
    Distributor::start_command(command)
}
