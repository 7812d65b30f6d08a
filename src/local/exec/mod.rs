//! Programs, one for each shard: lines on their standard input, answers on their standard output, and what they write on
//! their standard error in the log.
//!
//! ```text
//! started -> lives for SETTLES -> up -> one exits, or the shards let go -> the input of all ends
//!         -> patience -> SIGTERM -> patience -> SIGKILL                   to the process group, by its number
//! ```

mod child;
pub(crate) mod launch;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::ExecOptions;

use crate::keeper::{given_up, pairs, Stage, GLANCE};
use crate::wait::readable;
use child::Child;

/// A program that ends sooner was never up.
const SETTLES: Duration = Duration::from_millis(100);

/// From the start to an exit, or until the shards have let go.
pub(crate) fn live(options: &ExecOptions, stage: &Stage) -> Result<(), String> {
    let pairs = pairs(stage.shards).map_err(|error| format!("no sockets: {error}"));
    let (near, far) = pairs?;
    let ends = Arc::new(near);
    let mut children = Children(Vec::new());
    for (shard, far) in far.into_iter().enumerate() {
        let child = Child::start(options, &stage.name, shard, OwnedFd::from(far));
        children.0.push(child?);
    }
    let ended = children.serve(&ends, stage);
    let is_known = ended.is_err();
    let ended = ended.and_then(|()| given_up(&ends));
    stage.ended(&ends, &ended);
    let failed = children.end(options.patience);
    // A shard may have seen its end before we knew of an exit.
    match failed {
        Some(why) if ended.is_err() && !is_known => Err(why),
        _ => ended,
    }
}

struct Children(Vec<Child>);

impl Children {
    fn serve(&mut self, ends: &Arc<weir_shard::LocalEnds>, stage: &Stage) -> Result<(), String> {
        let started = Instant::now();
        let mut is_up = false;
        while !stage.is_over() && !ends.is_left() {
            let settles = SETTLES.saturating_sub(started.elapsed());
            if settles.is_zero() && !is_up {
                is_up = true;
                stage.up(Arc::clone(ends));
            }
            let time = if is_up { GLANCE } else { settles };
            let woken = stage.woken();
            let waited = self.0.iter().flat_map(Child::waited).chain([woken]);
            let ready = readable(&waited.collect::<Vec<_>>(), time);
            ready.map_err(|error| format!("poll: {error}"))?;
            self.0.iter_mut().for_each(Child::log_what_it_says);
            let exited = self.0.iter_mut().find_map(Child::exited);
            // One whose input has ended may do so.
            if let Some(why) = exited.filter(|_| !ends.is_left()) {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Waits for all, and then longer, and then not. How one failed that nobody had told to end.
    fn end(&mut self, patience: Duration) -> Option<String> {
        let mut failed = None;
        let asked: [Option<rustix::process::Signal>; 3] = [
            None,
            Some(rustix::process::Signal::TERM),
            Some(rustix::process::Signal::KILL),
        ];
        for signal in asked {
            if let Some(signal) = signal {
                self.0.iter_mut().for_each(|child| child.signal(signal));
            }
            let until = Instant::now() + patience;
            loop {
                self.0.iter_mut().for_each(Child::log_what_it_says);
                self.0.retain_mut(|child| {
                    let exited = child.exited();
                    if signal.is_none() && child.has_failed() {
                        failed = failed.take().or(exited.clone());
                    }
                    exited.is_none()
                });
                let left = until.saturating_duration_since(Instant::now());
                if self.0.is_empty() || left.is_zero() {
                    break;
                }
                let waited = self.0.iter().flat_map(Child::waited);
                if readable(&waited.collect::<Vec<_>>(), left.min(GLANCE)).is_err() {
                    break;
                }
            }
        }
        failed
    }
}
