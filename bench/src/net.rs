//! The few system calls the bench needs beyond std: epoll, the monotonic clock, pinning, limits.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::time::TimeSpec;
use nix::time::{clock_gettime, ClockId};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

/// Events taken from the kernel at once. More does not help: the work behind each dwarfs the call.
pub const EVENTS_MAX: usize = 512;
/// Pending connections; the kernel clips it to net.core.somaxconn.
const LISTEN_BACKLOG: i32 = 4096;
/// Descriptors a process needs beside its connections.
const DESCRIPTORS_SPARE: u64 = 128;
const CONNECT_RETRY: Duration = Duration::from_millis(5);

/// A level-triggered epoll set.
pub struct Poller(Epoll);

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub fn add(&self, fd: impl AsFd, token: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(flags, token))?)
    }

    pub fn modify(&self, fd: impl AsFd, token: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// The set itself, to be put into another.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0 .0.as_fd()
    }

    /// Waits for events without a limit.
    pub fn wait(&self, events: &mut [EpollEvent]) -> io::Result<usize> {
        retry_interrupted(|| self.0.wait(events, EpollTimeout::NONE))
    }

    /// Waits at most `limit`, to the nanosecond: epoll_wait counts milliseconds, so the sleep is a
    /// ppoll on the epoll descriptor. A zero limit is one system call.
    pub fn wait_up_to(&self, events: &mut [EpollEvent], limit: Duration) -> io::Result<usize> {
        if !limit.is_zero() {
            let mut fds = [PollFd::new(self.0 .0.as_fd(), PollFlags::POLLIN)];
            retry_interrupted(|| ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None))?;
        }
        retry_interrupted(|| self.0.wait(events, EpollTimeout::ZERO))
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// An array for [`Poller::wait`].
pub fn event_buffer() -> Vec<EpollEvent> {
    vec![EpollEvent::empty(); EVENTS_MAX]
}

/// CLOCK_MONOTONIC: the one clock that load, sink and distributor share on one host.
pub fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Restricts the calling thread, and what it starts, to `cores`.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|e| io::Error::other(format!("cannot pin to cores {cores:?}: {e}")))
}

/// Makes room for `connections` descriptors, or says what to raise.
pub fn allow_connections(connections: usize) -> io::Result<()> {
    let need = connections as u64 + DESCRIPTORS_SPARE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= need {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, need, hard.max(need)).map_err(|e| {
        io::Error::other(format!(
            "{connections} connections need {need} file descriptors, the limits are soft {soft} \
             and hard {hard} ({e}): raise the hard limit (ulimit -Hn, LimitNOFILE=) or ask for fewer"
        ))
    })
}

/// A nonblocking listener with a deep backlog.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&address.into())
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Connects (blocking), trying again for up to `patience` while nobody listens yet.
pub fn connect_within(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                std::thread::sleep(CONNECT_RETRY);
            }
            Err(e) => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("cannot connect to {address}: {e}"),
                ))
            }
        }
    }
}

/// True for the errors that mean "try again when the socket is ready".
pub fn is_would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
