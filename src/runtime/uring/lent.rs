//! Memory that requests under way read: lent to the kernel, given back by the completion.
//!
//! ```text
//! lend(token, memory) --> kernel reads --> completion --> take_back(token)
//!                              `- the ring ends first: leaked, never freed
//! ```
//!
//! Cancelling does not end what a worker of the kernel has begun: a write to a disk that hangs reads its
//! bytes when the disk comes back, long after the ring is closed. Freed memory would belong to somebody
//! else by then, and his bytes would go into the file. Such writes are few and the process is about to
//! end, so their memory is given up.

use std::collections::HashMap;

/// Memory by the token of the request that reads it. `T` owns it on the heap, so that it stays where it
/// is when the table grows. As many entries as requests under way.
pub(super) struct Lent<T>(HashMap<u64, T>);

impl<T> Lent<T> {
    pub(super) fn new() -> Lent<T> {
        Lent(HashMap::new())
    }

    /// Keeps `memory` until the request with this token has completed.
    ///
    /// # Panics
    /// A request with this token is under way.
    pub(super) fn lend(&mut self, token: u64, memory: T) {
        let before = self.0.insert(token, memory);
        assert!(before.is_none(), "one request at a time for each token");
    }

    /// What a request that has completed had; `None` when it had nothing.
    pub(super) fn take_back(&mut self, token: u64) -> Option<T> {
        self.0.remove(&token)
    }

    /// Requests that have not completed.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        for (_, memory) in self.0.drain() {
            std::mem::forget(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::uring::{Arena, Features, Ring, RingConfig};
    use weir_shard::port::{Wait, Wake};

    #[test]
    fn what_was_not_given_back_is_never_freed() {
        let memory = Arc::new(());
        let mut lent = Lent::new();
        lent.lend(1, Arc::clone(&memory));
        lent.lend(2, Arc::clone(&memory));
        assert!(lent.take_back(1).is_some() && lent.take_back(1).is_none());
        assert_eq!((lent.len(), Arc::strong_count(&memory)), (1, 2));
        drop(lent);
        assert_eq!(
            Arc::strong_count(&memory),
            2,
            "the kernel may still read it"
        );
    }

    /// A disk in a file; mounted, and frozen at will.
    struct Disk(PathBuf);

    impl Disk {
        /// The error says what is missing here.
        fn mount() -> Result<Disk, String> {
            let dir = std::env::temp_dir().join(format!("weir-disk-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("mnt")).map_err(|error| error.to_string())?;
            let disk = Disk(dir);
            let image = File::create(disk.0.join("image")).map_err(|error| error.to_string())?;
            image.set_len(8 << 20).map_err(|error| error.to_string())?;
            disk.run("mkfs.ext4", &["-q", "-F", "image"])?;
            disk.run("mount", &["-o", "loop", "image", "mnt"])?;
            disk.run("fsfreeze", &["-f", "mnt"])?;
            disk.run("fsfreeze", &["-u", "mnt"])?;
            Ok(disk)
        }

        fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(&self.0);
            let output = command.env("LC_ALL", "C").output();
            let output = output.map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        }

        fn folder(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = self.run("fsfreeze", &["-u", "mnt"]);
            // The kernel lets go of a closed ring's files in its own time.
            let deadline = Instant::now() + Duration::from_secs(20);
            while self
                .run("umount", &["mnt"])
                .is_err_and(|why| why.contains("busy"))
            {
                if Instant::now() > deadline {
                    return println!("still mounted: {:?}", self.0);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ring() -> Ring {
        let config = RingConfig {
            datagram_bytes: 0,
            ingress_buffers: 2,
            ingress_buffer_bytes: 4096,
            busy_poll: Duration::ZERO,
        };
        let features = Features::probe().expect("a kernel that has it all");
        let arena = Arena::new(2, 4096).expect("memory");
        let wake = Arc::new(Wake::new().expect("an eventfd"));
        Ring::new(config, features, vec![arena.view()], 0, wake).expect("a ring")
    }

    #[test]
    fn a_write_to_a_disk_that_hangs_reads_what_it_was_given() {
        const BYTES: usize = 3000;
        let disk = match Disk::mount() {
            Ok(disk) => disk,
            Err(why) => return println!("SKIPPED: no disk that can be frozen here: {why}"),
        };
        let path = disk.folder().join("mnt/file");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.expect("a file");
        let mut ring = ring();
        disk.run("fsfreeze", &["-f", "mnt"]).expect("as before");
        ring.append(file.as_raw_fd(), vec![b'a'; BYTES], 1);
        let now = Wait {
            gather: Duration::ZERO,
            timeout: Duration::from_millis(50),
        };
        ring.wait(now).expect("submitted");
        let mut completions = Vec::new();
        ring.drain(&mut completions, 8);
        assert!(completions.is_empty(), "it hangs: {completions:?}");
        ring.quiesce();
        drop(ring);
        // Memory of that size that was freed would be handed out again.
        let others = vec![vec![b'!'; BYTES]; 64];
        disk.run("fsfreeze", &["-u", "mnt"]).expect("as before");
        let deadline = Instant::now() + Duration::from_secs(20);
        let written = || std::fs::read(&path).expect("a file");
        while written().len() < BYTES && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(written() == [b'a'; BYTES], "somebody else's bytes");
        drop(others);
    }
}
