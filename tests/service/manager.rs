//! A service manager in miniature.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use socket2::{Domain, Socket, Type};

use weir_testkit::process::weir;
use weir_testkit::{Scratch, PATIENCE};

/// What a service says on its notify socket.
pub struct Ear {
    socket: UnixDatagram,
    pub path: PathBuf,
    _scratch: Scratch,
}

impl Ear {
    pub fn new() -> Ear {
        let scratch = Scratch::new("ear");
        let path = scratch.path("notify");
        let socket = UnixDatagram::bind(&path).expect("free");
        Ear {
            socket,
            path,
            _scratch: scratch,
        }
    }

    /// The next datagram, if one comes within this time.
    pub fn next(&self, within: Duration) -> Option<String> {
        let within = within.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(within)).expect("option");
        let mut buffer = [0; 4096];
        let read = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..read].to_vec()).expect("text"))
    }

    /// The next datagram with this in it; what comes before is passed over.
    pub fn wait(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = self.next(left);
            let said = said.unwrap_or_else(|| panic!("never said: {text}"));
            if said.contains(text) {
                return said;
            }
        }
    }

    /// Everything that is said for a while.
    pub fn listen(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut all = Vec::new();
        while Instant::now() < end {
            all.extend(self.next(end.saturating_duration_since(Instant::now())));
        }
        all
    }
}

/// The distributor's command line, with a small arena.
pub fn distributor(flags: &str) -> Command {
    let mut command = Command::new(weir());
    with_flags(&mut command, flags);
    command
}

fn with_flags(command: &mut Command, flags: &str) {
    command.arg("distributor");
    if !flags.contains("--arena") {
        command.args(["--arena", "16MiB"]);
    }
    command.args(flags.split_whitespace());
}

/// The same with sockets passed to it, by name. `LISTEN_PID` is right because the shell becomes the program.
pub fn activated(sockets: &[(&str, OwnedFd)], flags: &str) -> Command {
    passing(sockets, "$$", flags)
}

/// The same with any `LISTEN_PID`.
pub fn passing(sockets: &[(&str, OwnedFd)], pid: &str, flags: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("LISTEN_PID={pid} exec \"$0\" \"$@\"");
    shell.args(["-c", &script, weir()]);
    with_flags(&mut shell, flags);
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    shell.env("LISTEN_FDS", sockets.len().to_string());
    shell.env("LISTEN_FDNAMES", names.join(":"));
    let mapping = |((_, socket), child_fd): (&(&str, OwnedFd), i32)| FdMapping {
        parent_fd: socket.try_clone().expect("descriptors"),
        child_fd,
    };
    let mappings = sockets.iter().zip(3..).map(mapping).collect();
    shell.fd_mappings(mappings).expect("each number once");
    shell
}

/// A listening socket that the test holds, and where.
pub fn listener() -> (SocketAddr, OwnedFd) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("free port");
    // Room for all who knock while nobody accepts.
    socket.listen(4096).expect("listens");
    let at = socket.local_addr().expect("bound").as_socket().expect("IP");
    (at, socket.into())
}
