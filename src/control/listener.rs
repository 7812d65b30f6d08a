//! The admin listener: a Unix socket, or TCP with a token. Answers everything that the public port
//! answers, and `/admin/...`.
//!
//! ```text
//! accept --> a thread each, CONNECTIONS_MAX at most --> one request --> answer, event stream or tap
//!                          `- beyond: 503, closed
//! ```

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;
use serde_json::json;

use super::core::Core;
use super::exchange::{Ask, Response};
use super::http::{self, Refused};
use super::token::is_carried;
use super::{admin, answer, streams};
use weir_clock::Limit;
use weir_ledger::certificate::Stamp;
use weir_protocol::text;
use weir_service::sockets::AdminSocket;

/// Connections at once, each with a thread; beyond, 503.
pub const CONNECTIONS_MAX: usize = 16;
/// Of those, long ones: event streams and taps.
const LONG_MAX: usize = 8;
/// A request must have arrived, and each piece of an answer be taken, within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// The listener looks so often whether it shall end; a connection wakes it at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Owner and group may talk.
const SOCKET_MODE: u32 = 0o660;
/// What a socket that is bound must not have of the mode that all files may have.
const SOCKET_MASK: u32 = 0o777 & !SOCKET_MODE;
/// Messages a second that a tap may show.
const TAP_RATE_MAX: u32 = 1000;
/// How long a tap may last.
const TAP_MAX: Duration = Duration::from_secs(3600);

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAt {
    /// A Unix socket; its permissions say who may.
    Unix(PathBuf),
    /// TCP; the token says who may.
    Tcp(SocketAddr),
}

/// Bytes of answers to one TCP connection that the kernel takes; the rest waits here, [`PATIENCE`] at most.
const UNREAD_BYTES: usize = 64 * 1024;

enum Socket {
    /// With the path that is removed at the end.
    Unix(UnixListener, Option<PathBuf>),
    Tcp(TcpListener),
}

/// Bound, not serving yet.
pub struct Listener {
    socket: Socket,
    /// Where it listens, with the port that was chosen.
    pub at: AdminAt,
}

impl Listener {
    /// Binds. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The address and why it cannot be had.
    pub fn bind(at: &AdminAt, has_token: bool) -> io::Result<Listener> {
        let (socket, at) = match at {
            AdminAt::Unix(path) => {
                let listener = bind_unix(path).map_err(|error| {
                    io::Error::new(error.kind(), format!("--admin {}: {error}", path.display()))
                })?;
                listener.set_nonblocking(true)?;
                (Socket::Unix(listener, Some(path.clone())), at.clone())
            }
            AdminAt::Tcp(address) if !has_token => {
                return Err(no_token(address));
            }
            AdminAt::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(|error| {
                    io::Error::new(error.kind(), format!("--admin {address}: {error}"))
                })?;
                listener.set_nonblocking(true)?;
                let at = AdminAt::Tcp(listener.local_addr()?);
                (Socket::Tcp(listener), at)
            }
        };
        Ok(Listener { socket, at })
    }

    /// A socket that was opened by others; it outlives this process, and so does its file.
    ///
    /// # Errors
    /// A TCP socket without a token.
    pub fn adopt(socket: AdminSocket, has_token: bool) -> io::Result<Listener> {
        let (socket, at) = match socket {
            AdminSocket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new("(no path)"));
                let at = AdminAt::Unix(path.to_owned());
                (Socket::Unix(listener, None), at)
            }
            AdminSocket::Tcp(listener) => {
                let address = listener.local_addr()?;
                if !has_token {
                    return Err(no_token(&address));
                }
                listener.set_nonblocking(true)?;
                (Socket::Tcp(listener), AdminAt::Tcp(address))
            }
        };
        Ok(Listener { socket, at })
    }

    /// Serves until the core is over.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn serve(self, core: Arc<Core>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("admin-accept".into())
            .spawn(move || self.run(&core))
    }

    fn run(self, core: &Arc<Core>) {
        let open = Arc::new(Places::default());
        while !core.is_over() {
            match self.accept() {
                Ok(connection) => start(core, &open, connection),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    self.wait();
                }
                Err(error) => {
                    log::warn!("admin connection: {error}");
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
    }

    /// Until there is a connection, or it is time to look around.
    fn wait(&self) {
        let socket = match &self.socket {
            Socket::Unix(listener, _) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        };
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()),
        };
        let waited = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&time));
        if !matches!(waited, Ok(_) | Err(Errno::INTR)) {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn accept(&self) -> io::Result<Connection> {
        let connection = match &self.socket {
            Socket::Unix(listener, _) => Connection::Unix(listener.accept()?.0),
            Socket::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket2::SockRef::from(&socket).set_send_buffer_size(UNREAD_BYTES)?;
                socket.set_nodelay(true)?;
                Connection::Tcp(socket)
            }
        };
        connection.prepare()?;
        Ok(connection)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, Some(path)) = &self.socket {
            // It may have been removed already.
            let _ = fs::remove_file(path);
        }
    }
}

fn no_token(address: &SocketAddr) -> io::Error {
    let text = format!("--admin {address}: a TCP address needs --admin-token-file");
    io::Error::new(ErrorKind::InvalidInput, text)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            let text = "there is something that is no socket; allowed: a free name, or a socket that nobody listens on";
            return Err(io::Error::new(ErrorKind::AlreadyExists, text));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let text = "another process listens there";
            return Err(io::Error::new(ErrorKind::AddrInUse, text));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    // The mask is the process's: a file that another thread makes meanwhile is less open than usual.
    let before = umask(Mode::from_raw_mode(SOCKET_MASK));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// How many connections there are.
#[derive(Default)]
struct Places {
    all: AtomicUsize,
    long: AtomicUsize,
}

/// One place, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(of: &'a AtomicUsize, most: usize) -> Option<Place<'a>> {
        let take = |taken| (taken < most).then_some(taken + 1);
        of.fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .ok()
            .map(|_| Place(of))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Connection::Unix(socket) => {
                socket.set_nonblocking(false)?;
                socket.set_read_timeout(Some(Limit::SLICE))?;
                socket.set_write_timeout(Some(PATIENCE))
            }
            Connection::Tcp(socket) => {
                socket.set_nonblocking(false)?;
                socket.set_read_timeout(Some(Limit::SLICE))?;
                socket.set_write_timeout(Some(PATIENCE))
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(socket) => socket.read(out),
            Connection::Tcp(socket) => socket.read(out),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(socket) => socket.write(bytes),
            Connection::Tcp(socket) => socket.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads that all together end when the time is over, however slowly bytes drip in.
struct Until<'a>(&'a mut Connection, Limit);

impl Read for Until<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.1.is_over() {
            match self.0.read(out) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
        Err(ErrorKind::TimedOut.into())
    }
}

/// One connection of those that are open.
struct Open(Arc<Places>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::AcqRel);
    }
}

fn start(core: &Arc<Core>, places: &Arc<Places>, mut connection: Connection) {
    // Counted before there is a thread, so that there are never more.
    let before = places.all.fetch_add(1, Ordering::AcqRel);
    let open = Open(Arc::clone(places));
    if before >= CONNECTIONS_MAX {
        let text = format!("admin connections: {CONNECTIONS_MAX} are open, which is the most");
        let response = Response::error(503, &Ask::default(), Stamp::now(), text);
        let response = response.with("Retry-After", "1");
        // Not worth more than one try: this thread accepts.
        let _ = connection.write_all(&http::respond(&response, true, false));
        return;
    }
    let core = Arc::clone(core);
    let run = move || {
        // The client is gone: nobody to tell.
        let _ = talk(&core, &open.0, &mut connection);
    };
    let spawned = std::thread::Builder::new().name("admin".into()).spawn(run);
    if let Err(error) = spawned {
        log::warn!("admin connection: no thread: {error}");
    }
}

fn talk(core: &Arc<Core>, places: &Places, connection: &mut Connection) -> io::Result<()> {
    let mut ask = match http::read_request(&mut Until(connection, Limit::new(PATIENCE))) {
        Ok(ask) => ask,
        Err(Refused::Io(error)) => return Err(error),
        Err(Refused::Status(status, text)) => {
            let response = Response::error(status, &Ask::default(), Stamp::now(), text);
            return connection.write_all(&http::respond(&response, true, false));
        }
    };
    let is_admin = ask.path == "/admin" || ask.path.starts_with("/admin/");
    let is_tcp = matches!(connection, Connection::Tcp(_));
    let stranger = is_tcp.then(|| stranger(core, &mut ask)).flatten();
    let response = if let Some(refused) = stranger {
        refused
    } else if is_admin && matches!(connection, Connection::Tcp(_)) && !may(core, &ask) {
        forbidden(&ask)
    } else if ask.method == "GET" && (ask.path == "/events" || ask.path == "/admin/tap") {
        match Place::take(&places.long, LONG_MAX) {
            Some(_place) if ask.path == "/events" => return stream(core, &ask, connection),
            Some(_place) => match tap(core, &ask, connection)? {
                Some(refused) => refused,
                None => return Ok(()),
            },
            None => streams::full(&ask, &core.state()),
        }
    } else if is_admin {
        admin::handle(core, &ask)
    } else {
        answer::answer(&ask, &core.state())
    };
    connection.write_all(&http::respond(&response, ask.method != "HEAD", false))
}

/// A refusal for a browser that asks under a name that is not known, or for another site's page: no browser
/// reaches a Unix socket. Health is told all the same, without more than its status.
fn stranger(core: &Core, ask: &mut Ask) -> Option<Response> {
    let (host, origin) = (ask.header("host").unwrap_or(""), ask.header("origin"));
    let found = core.check_site(host, origin).err()?;
    let is_read = matches!(ask.method.as_str(), "GET" | "HEAD");
    let is_probe = is_read && origin.is_none() && ask.path.starts_with("/health");
    ask.is_stranger = true;
    (!is_probe).then(|| Response::error(403, ask, Stamp::now(), found))
}

/// The client has the token.
pub fn may(core: &Core, ask: &Ask) -> bool {
    let token = core.token();
    token.is_some_and(|token| is_carried(&token, ask.header("authorization")))
}

/// It has not.
pub fn forbidden(ask: &Ask) -> Response {
    let text = "Authorization: the admin token is missing or wrong; allowed: Bearer and the text of --admin-token-file";
    Response::error(401, ask, Stamp::now(), text).with("WWW-Authenticate", "Bearer")
}

fn stream(core: &Core, ask: &Ask, connection: &mut Connection) -> io::Result<()> {
    let (response, first) = streams::head();
    let mut bytes = http::respond_chunked(&response, false);
    bytes.extend(http::chunk(first));
    connection.write_all(&bytes)?;
    let mut seen = streams::first_event(ask, &core.state());
    let end = Instant::now() + streams::LIFE;
    while !core.is_over() && Instant::now() < end {
        let piece = {
            let state = core.state();
            streams::piece(&streams::state_event(&state), &state, &mut seen)
        };
        connection.write_all(&http::chunk(&piece))?;
        std::thread::sleep(streams::STEP);
    }
    connection.write_all(&http::chunk(b""))
}

/// Messages on their way, a line of JSON each. Some: it was refused.
fn tap(core: &Core, ask: &Ask, connection: &mut Connection) -> io::Result<Option<Response>> {
    let refuse = |status, text: &str| Ok(Some(Response::error(status, ask, Stamp::now(), text)));
    let Some(source) = &core.tap else {
        return refuse(501, "tap: this distributor has none");
    };
    let number = |name, default: u32| {
        let text = ask.parameter(name);
        text.map_or(Some(default), |text| text.parse::<u32>().ok())
    };
    let seconds_max = u32::try_from(TAP_MAX.as_secs()).unwrap_or(u32::MAX);
    let rate = number("rate", 10).filter(|rate| (1..=TAP_RATE_MAX).contains(rate));
    let seconds = number("seconds", 5).filter(|seconds| (1..=seconds_max).contains(seconds));
    let is_known = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        ["", "rate", "seconds"].contains(&name)
    };
    let is_known = ask.query.split('&').all(is_known);
    let (Some(rate), Some(seconds), true) = (rate, seconds, is_known) else {
        let text = format!(
            "query {:?}: allowed: rate 1 to {TAP_RATE_MAX}, seconds 1 to {seconds_max}",
            ask.query
        );
        return refuse(400, &text);
    };
    let response = Response {
        status: 200,
        content_type: "application/x-ndjson",
        headers: vec![("Cache-Control", "no-store".into())],
        body: Vec::new(),
    };
    connection.write_all(&http::respond_chunked(&response, false))?;
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut written = Ok(());
    let ended = source.tap(rate, until, &mut |message| {
        let json = super::exchange::value(message).to_string();
        let line = text::json_for_terminal(&json) + "\n";
        written = connection.write_all(&http::chunk(line.as_bytes()));
        written.is_ok() && !core.is_over()
    });
    written?;
    if let Err(error) = ended {
        let line = format!("{}\n", json!({ "error": error }));
        connection.write_all(&http::chunk(line.as_bytes()))?;
    }
    connection.write_all(&http::chunk(b""))?;
    Ok(None)
}
