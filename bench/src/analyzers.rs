//! Analyzers that are processes of their own, so that they can be killed, and the journals that
//! tell what each had received.
//!
//! ```text
//! read -> decode -> append sequence numbers to the journal -> ACK
//!                                  ^ a SIGKILL before here: not ACKed, comes again elsewhere
//!                                    a SIGKILL after here: in the page cache, survives
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::check::SequenceSet;
use crate::children::{self, Group};
use crate::drive::Drive;
use crate::net::mono_ns;
use crate::sink::{Dialect, SinkArgs};

/// Journals that do not grow for so long are final.
const STALL_PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of the hidden `weir-bench sink-process`: one analyzer that can be killed.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkProcessArgs {
    /// Where the distributor takes analyzers
    #[arg(long)]
    pub analyzers: SocketAddr,
    #[command(flatten)]
    pub sink: SinkArgs,
    /// Append big-endian u64 sequence numbers here before they are ACKed
    #[arg(long)]
    pub journal: PathBuf,
}

/// Reads until the distributor closes the link, or a SIGKILL.
pub fn run_process(args: &SinkProcessArgs) -> io::Result<()> {
    let mut drive = Drive::new()?;
    drive.attach_sink(&args.sink, args.analyzers)?;
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(&args.journal)?;
    let mut bytes = Vec::new();
    if let Some(sink) = &mut drive.sink {
        sink.set_journal(Box::new(move |sequences| {
            bytes.clear();
            sequences
                .iter()
                .for_each(|s| bytes.extend_from_slice(&s.to_be_bytes()));
            file.write_all(&bytes)
        }));
    }
    while drive.sink.as_ref().is_some_and(|s| s.open_links() > 0) {
        drive.turn(Duration::from_millis(20))?;
    }
    Ok(())
}

/// Analyzer processes and their journals. Dropping it ends both.
pub struct Analyzers {
    /// Its weights make one process each.
    sinks: SinkArgs,
    cores: Vec<usize>,
    address: SocketAddr,
    directory: PathBuf,
    children: Vec<Group>,
}

impl Analyzers {
    /// One process for each weight of `sinks`.
    pub fn start(sinks: SinkArgs, address: SocketAddr, cores: &[usize]) -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        children::remove_at_end(&directory);
        let (cores, children) = (cores.to_vec(), Vec::new());
        let mut analyzers = Self {
            sinks,
            cores,
            address,
            directory,
            children,
        };
        for index in 0..analyzers.sinks.weights.len() {
            let child = analyzers.spawn(index)?;
            analyzers.children.push(child);
        }
        Ok(analyzers)
    }

    fn spawn(&self, index: usize) -> io::Result<Group> {
        let dialect = if self.sinks.dialect == Dialect::Native {
            "native"
        } else {
            "compact"
        };
        let mut command = children::command(Path::new(children::SELF), &self.cores)?;
        command
            .arg("sink-process")
            .args([
                "--analyzers",
                &self.address.to_string(),
                "--dialect",
                dialect,
            ])
            .args(["--weights", &self.sinks.weights[index].to_string()])
            .args(["--ack-every", &self.sinks.ack_every.to_string()])
            .args(["--id-prefix", &format!("{}{index}", self.sinks.id_prefix)])
            .arg("--journal")
            .arg(self.journal(index))
            .stdin(Stdio::null());
        Group::spawn(&mut command)
    }

    fn journal(&self, index: usize) -> PathBuf {
        self.directory.join(format!("analyzer-{index}"))
    }

    /// SIGKILL; returns the moment before the call.
    pub fn kill(&mut self, index: usize) -> io::Result<u64> {
        let killed_ns = mono_ns();
        self.children[index].kill()?;
        Ok(killed_ns)
    }

    /// A new process with the name, weight and journal of the dead one.
    pub fn restart(&mut self, index: usize) -> io::Result<()> {
        self.children[index] = self.spawn(index)?;
        Ok(())
    }

    /// Waits until `sent` messages are in the journals, or these have stopped growing.
    pub fn wait_for(&self, sent: u64) -> io::Result<()> {
        let mut last = None;
        loop {
            let received = self.received()?.distinct();
            if received >= sent || last == Some(received) {
                return Ok(());
            }
            last = Some(received);
            std::thread::sleep(STALL_PATIENCE);
        }
    }

    /// What all of them have received, the dead included.
    pub fn received(&self) -> io::Result<SequenceSet> {
        let mut set = SequenceSet::default();
        for index in 0..self.sinks.weights.len() {
            read_journal(&self.journal(index), &mut set)?;
        }
        Ok(set)
    }
}

impl Drop for Analyzers {
    fn drop(&mut self) {
        // Most have ended with the distributor.
        self.children.clear();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A torn number at the end was never ACKed, so its message came again elsewhere.
fn read_journal(path: &Path, set: &mut SequenceSet) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    for number in bytes.chunks_exact(8) {
        set.insert(u64::from_be_bytes(number.try_into().expect("chunks of 8")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_journal_counts_whole_numbers_only() {
        let path = std::env::temp_dir().join(format!("weir-bench-journal-{}", std::process::id()));
        let mut bytes: Vec<u8> = [0u64, 1, 1].iter().flat_map(|n| n.to_be_bytes()).collect();
        bytes.extend_from_slice(&[0, 0, 0]);
        std::fs::write(&path, bytes).expect("temporary directory");
        let mut set = SequenceSet::default();
        read_journal(&path, &mut set).expect("just written");
        std::fs::remove_file(&path).expect("own file");
        assert_eq!(
            (set.distinct(), set.duplicates(), set.missing(3)),
            (2, 1, 1)
        );
    }
}
