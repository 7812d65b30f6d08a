//! An emitter: writes numbered frames from a thread of its own.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{numbered, socket};

/// Bytes per write, about.
const WRITE_BYTES: usize = 32 * 1024;

/// A running one; stops when dropped.
pub struct Emitter {
    stop: Arc<AtomicBool>,
    written_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Emitter {
    /// Writes one frame for each id, as fast as the distributor takes them, then closes.
    pub fn start(addr: SocketAddr, ids: Range<u64>, payload_bytes: usize) -> Emitter {
        Emitter::paced(addr, ids, payload_bytes, Duration::ZERO)
    }

    /// The same with a pause after each write of about 32 KiB.
    pub fn paced(addr: SocketAddr, ids: Range<u64>, payload: usize, pause: Duration) -> Emitter {
        Emitter::run(addr, ids, payload, WRITE_BYTES, pause)
    }

    /// One message at a time, with a pause after each.
    pub fn trickle(addr: SocketAddr, ids: Range<u64>, payload: usize, pause: Duration) -> Emitter {
        Emitter::run(addr, ids, payload, 1, pause)
    }

    fn run(
        addr: SocketAddr,
        ids: Range<u64>,
        payload: usize,
        write_bytes: usize,
        pause: Duration,
    ) -> Emitter {
        let stop = Arc::new(AtomicBool::new(false));
        let written_bytes = Arc::new(AtomicU64::new(0));
        let stream = socket::connect(addr);
        let job = Job {
            stream,
            payload,
            write_bytes,
            pause,
            stop: Arc::clone(&stop),
            written_bytes: Arc::clone(&written_bytes),
        };
        let thread = Some(std::thread::spawn(move || job.run(ids)));
        Emitter {
            stop,
            written_bytes,
            thread,
        }
    }

    /// Bytes that the socket has taken.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Its thread has ended.
    pub fn has_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until everything is written and the connection is closed.
    pub fn join(mut self) {
        let written = self.thread.take().expect("joined once").join();
        written.expect("no panic").expect("the distributor reads");
    }

    /// Ends at the next whole frame; the first id that was not written, or an error of the socket.
    pub fn end(mut self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("joined once").join().expect("ok")
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Job {
    stream: TcpStream,
    payload: usize,
    write_bytes: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
    written_bytes: Arc<AtomicU64>,
}

impl Job {
    fn run(mut self, ids: Range<u64>) -> io::Result<u64> {
        let mut out = Vec::with_capacity(self.write_bytes + self.payload);
        let mut next = ids.start;
        while next < ids.end && !self.stop.load(Ordering::Relaxed) {
            out.clear();
            while next < ids.end && out.len() < self.write_bytes {
                numbered::put_numbered(&mut out, next, self.payload);
                next += 1;
            }
            self.write(&out)?;
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(next)
    }

    /// All of it, counting what the socket takes.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = self.stream.write(bytes)?;
            self.written_bytes.fetch_add(n as u64, Ordering::Relaxed);
            bytes = &bytes[n..];
        }
        Ok(())
    }
}
