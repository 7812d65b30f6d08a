//! Lines of all shards, at the end of one file; on the disk is the ACK.
//!
//! ```text
//! each shard's socket -> its bytes -> whole lines --append--> file --fdatasync--> "4711\n" to each whose lines those were
//!                              `- the beginning of a line stays until its end is there: no line within another
//! ```
//!
//! One sync for what all shards have sent meanwhile. After an error nothing of it counts: the file is cut to what was on
//! the disk, and the lines go to other analyzers.

mod names;
mod writer;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::FileOptions;
use weir_shard::LocalEnds;

use crate::keeper::{given_up, pairs, Stage, GLANCE};
use crate::wait::readable;
use writer::Writer;

/// Bytes of a shard that are taken at once; a line may have more.
const ROUND_BYTES: u64 = 1 << 20;
/// Memory that a shard's bytes keep; more is given back.
const KEPT_BYTES: usize = 4 << 20;
/// When one shard has let go, the others have so long to do so.
const LEAVING: Duration = Duration::from_secs(1);

/// One shard's lines.
struct Shard {
    /// None: it is closed.
    stream: Option<UnixStream>,
    bytes: Vec<u8>,
    /// Of `bytes`: whole lines.
    whole: usize,
    done: u64,
    /// What it was told last.
    told: u64,
}

/// From the opening to an error, or until the shards have let go.
pub(crate) fn live(options: &FileOptions, stage: &Stage) -> Result<(), String> {
    let mut writer = Writer::open(options)?;
    let pairs = pairs(stage.shards).map_err(|error| format!("no sockets: {error}"));
    let (near, far) = pairs?;
    let ends = Arc::new(near);
    let mut shards: Vec<Shard> = far.into_iter().map(Shard::new).collect();
    for shard in &shards {
        let stream = shard.stream.as_ref().map(|it| it.set_nonblocking(true));
        stream
            .unwrap_or(Ok(()))
            .map_err(|error| error.to_string())?;
    }
    stage.up(Arc::clone(&ends));
    let ended = serve(&mut writer, &mut shards, &ends, stage);
    if ended.is_err() {
        writer.forget_unsynced();
    }
    let ended = ended.and_then(|()| given_up(&ends));
    stage.ended(&ends, &ended);
    ended
}

fn serve(
    writer: &mut Writer,
    shards: &mut [Shard],
    ends: &LocalEnds,
    stage: &Stage,
) -> Result<(), String> {
    let mut left_at = None;
    while !stage.is_over() {
        let mut open: Vec<usize> = Vec::new();
        let mut waited = vec![stage.woken()];
        for (index, shard) in shards.iter().enumerate() {
            if let Some(stream) = &shard.stream {
                open.push(index);
                waited.push(stream.as_fd());
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let ready = readable(&waited, GLANCE).map_err(|error| format!("poll: {error}"))?;
        drop(waited);
        for (index, _) in open.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            shards[*index].read();
        }
        if shards.iter().any(|shard| shard.whole > 0) {
            writer.check_place()?;
            for shard in &mut *shards {
                writer.append(&shard.bytes[..shard.whole])?;
            }
            writer.sync()?;
        }
        shards.iter_mut().for_each(Shard::tell);
        writer.rotate_in_time()?;
        if ends.is_left() {
            let since = left_at.get_or_insert_with(Instant::now);
            if since.elapsed() >= LEAVING {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Shard {
    fn new(stream: UnixStream) -> Shard {
        Shard {
            stream: Some(stream),
            bytes: Vec::new(),
            whole: 0,
            done: 0,
            told: 0,
        }
    }

    /// Takes what is there, as much as a round has room for.
    fn read(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let before = self.bytes.len();
        let is_open = match stream.take(ROUND_BYTES).read_to_end(&mut self.bytes) {
            Ok(read) => read as u64 == ROUND_BYTES,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        let new = &self.bytes[before..];
        if let Some(at) = memchr::memrchr(b'\n', new) {
            self.whole = before + at + 1;
        }
        if !is_open {
            self.stream = None;
        }
    }

    /// Its whole lines are on the disk: it is told how many those were by now.
    fn tell(&mut self) {
        if self.whole > 0 {
            let lines = memchr::memchr_iter(b'\n', &self.bytes[..self.whole]).count();
            self.done += lines as u64;
            self.bytes.drain(..self.whole);
            self.whole = 0;
            if self.bytes.len() <= KEPT_BYTES {
                self.bytes.shrink_to(KEPT_BYTES);
            }
        }
        let Some(stream) = self.stream.as_mut().filter(|_| self.told < self.done) else {
            return;
        };
        // A shard that does not read is told with what comes next, or later: the number says all.
        if stream
            .write_all(format!("{}\n", self.done).as_bytes())
            .is_ok()
        {
            self.told = self.done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads until there is a whole line, or the end.
    fn read(shard: &mut Shard) {
        for _ in 0..1000 {
            shard.read();
            if shard.whole > 0 || shard.stream.is_none() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_line_may_be_longer_than_a_round_and_is_counted_once() {
        let (near, far) = UnixStream::pair().expect("sockets");
        far.set_nonblocking(true).expect("set");
        let mut shard = Shard::new(far);
        let long = vec![b'x'; 3 * ROUND_BYTES as usize];
        let writer = std::thread::spawn(move || {
            let mut near = near;
            near.write_all(&long).expect("written");
            near.write_all(b"\nb\nrest").expect("written");
            near
        });
        read(&mut shard);
        let mut near = writer.join().expect("no panic");
        while !shard.bytes.ends_with(b"rest") {
            shard.read();
        }
        assert_eq!(shard.whole, 3 * ROUND_BYTES as usize + 3);
        shard.tell();
        assert_eq!((shard.done, &shard.bytes[..]), (2, &b"rest"[..]));
        let mut told = [0; 16];
        let len = near.read(&mut told).expect("told");
        assert_eq!(&told[..len], b"2\n");
        near.write_all(b" of it\n").expect("written");
        read(&mut shard);
        shard.tell();
        assert_eq!(shard.done, 3);
        // The beginning of a line whose shard is gone is nothing.
        near.write_all(b"torn").expect("written");
        drop(near);
        read(&mut shard);
        assert_eq!((shard.whole, shard.stream.is_none()), (0, true));
    }
}
