//! The admin listener: a Unix socket, or TCP with a token. Answers everything that the public port
//! answers, and `/admin/...`.
//!
//! ```text
//! accept --> a task each --> TLS where it is spoken --> one request --> answer, event stream or tap
//!              `- by TCP a guest (guests.rs) until it has shown the token; operators: CONNECTIONS_MAX, beyond 503
//! ```

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, poll_once};
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::json;

use super::guests::{Guest, Guests, GUESTS_MAX};
use super::http::{self, Requests};
use super::response::Response;
use super::token::{forbidden, may};
use super::{admin, answer, streams};
use crate::admin_port::AdminPort;
use crate::core::Core;
use crate::executor::secured::{failure_of, Stream};
use crate::executor::socket::{has_connection, Existing, Socket};
use crate::executor::time::{give_way, sleep, within};
use crate::executor::Context;
use crate::settings::{AdminAt, TapSource};
use crate::view::json::value;
use weir_clock::Limit;
use weir_config::TlsMode;
use weir_http::Ask;
use weir_ledger::run_report::Stamp;
use weir_protocol::text;
use weir_service::sockets::AdminSocket;
use weir_tls::{Failure, FailureKind};

/// Connections at once of those who may be here: by a Unix socket, or with the token; beyond, 503.
pub const CONNECTIONS_MAX: usize = 16;
/// Of those, long ones: event streams and taps. As many event streams of guests are apart.
const LONG_MAX: usize = 8;
/// A request must have arrived, and each piece of an answer be taken, within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who is refused by TLS is named so often at most.
const SAID_EVERY: Duration = Duration::from_secs(1);
const CLOSED: &str = "it closed before the handshake was done; its log may say why";
/// How long its address may be in use before that is an error.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(1);
/// After a connection that could not be accepted the next try comes so much later.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Bytes of a request that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// A tap asks the shards so often for what has passed.
const TAP_EVERY: Duration = Duration::from_millis(100);
/// Owner and group may talk.
const SOCKET_MODE: u32 = 0o660;
/// What a socket that is bound must not have of the mode that all files may have.
const SOCKET_MASK: u32 = 0o777 & !SOCKET_MODE;
/// Messages a second that a tap may show.
const TAP_RATE_MAX: u32 = 1000;
/// How long a tap may last.
const TAP_MAX: Duration = Duration::from_secs(3600);

/// Bytes of answers to one TCP connection that the kernel takes; the rest waits here, [`PATIENCE`] at most.
const UNREAD_BYTES: usize = 64 * 1024;

enum Listening {
    /// With the path that is removed at the end.
    Unix(UnixListener, Option<PathBuf>),
    Tcp(TcpListener),
}

/// Bound, not serving yet.
pub struct Listener {
    socket: Listening,
    /// Where it listens, with the port that was chosen.
    pub at: AdminAt,
    /// Of a TCP address where TLS is spoken.
    tls: Option<Arc<AdminPort>>,
}

/// What a listener tells its connections.
#[derive(Default)]
struct Door {
    places: Rc<Places>,
    guests: Rc<Guests>,
    tls: Option<Arc<AdminPort>>,
    /// When somebody was refused and it was said, and how many more were refused since.
    said: Cell<Option<Instant>>,
    unsaid: Cell<u32>,
}

impl Listener {
    /// Binds. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The address and why it cannot be had.
    pub fn bind(at: &AdminAt, has_token: bool) -> io::Result<Listener> {
        let (socket, at) = match at {
            AdminAt::Unix(path) => {
                let listener = patiently(|| bind_unix(path)).map_err(|error| {
                    io::Error::new(error.kind(), format!("--admin {}: {error}", path.display()))
                })?;
                listener.set_nonblocking(true)?;
                (Listening::Unix(listener, Some(path.clone())), at.clone())
            }
            AdminAt::Tcp(address) if !has_token => {
                return Err(no_token(address));
            }
            AdminAt::Tcp(address) => {
                let listener = patiently(|| TcpListener::bind(address)).map_err(|error| {
                    io::Error::new(error.kind(), format!("--admin {address}: {error}"))
                })?;
                listener.set_nonblocking(true)?;
                let at = AdminAt::Tcp(listener.local_addr()?);
                (Listening::Tcp(listener), at)
            }
        };
        Ok(Listener {
            socket,
            at,
            tls: None,
        })
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
                (Listening::Unix(listener, None), at)
            }
            AdminSocket::Tcp(listener) => {
                let address = listener.local_addr()?;
                if !has_token {
                    return Err(no_token(&address));
                }
                listener.set_nonblocking(true)?;
                (Listening::Tcp(listener), AdminAt::Tcp(address))
            }
        };
        Ok(Listener {
            socket,
            at,
            tls: None,
        })
    }

    /// The same with TLS, if there is any.
    pub fn with_tls(mut self, tls: Option<Arc<AdminPort>>) -> Listener {
        self.tls = tls;
        self
    }

    /// Serves; dropped, it listens no more.
    pub async fn serve(self, context: Context) {
        let door = Rc::new(Door {
            tls: self.tls.clone(),
            ..Door::default()
        });
        loop {
            match self.accept() {
                Ok((socket, peer)) => {
                    start(&context, &door, Socket::of(socket), peer).await;
                    give_way().await;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait().await,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("admin connection: {error}");
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Until there is a connection.
    async fn wait(&self) {
        let another: io::Result<Existing> = match &self.socket {
            Listening::Unix(listener, _) => listener.try_clone().map(Into::into),
            Listening::Tcp(listener) => listener.try_clone().map(Into::into),
        };
        match another {
            Ok(another) => has_connection(another).await,
            // No descriptor is left: later.
            Err(_) => sleep(RETRY_AFTER).await,
        }
    }

    /// A connection, and its address where it is TCP.
    fn accept(&self) -> io::Result<(Existing, Option<SocketAddr>)> {
        match &self.socket {
            Listening::Unix(listener, _) => Ok((listener.accept()?.0.into(), None)),
            Listening::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                socket2::SockRef::from(&socket).set_send_buffer_size(UNREAD_BYTES)?;
                socket.set_nodelay(true)?;
                Ok((socket.into(), Some(peer)))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listening::Unix(_, Some(path)) = &self.socket {
            // It may have been removed already.
            let _ = fs::remove_file(path);
        }
    }
}

fn no_token(address: &SocketAddr) -> io::Error {
    let text = format!("--admin {address}: a TCP address needs --admin-token-file");
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// A distributor that was killed leaves its sockets to the kernel, which closes its rings when it gets round to it: a restart
/// may have to wait a moment.
fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + ADDRESS_PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
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
    all: Cell<usize>,
    long: Cell<usize>,
    long_of_guests: Cell<usize>,
}

/// One place, given back when it is dropped.
struct Place(Rc<Places>, fn(&Places) -> &Cell<usize>);

impl Place {
    fn take(places: &Rc<Places>, of: fn(&Places) -> &Cell<usize>, most: usize) -> Option<Place> {
        let taken = of(places).get();
        (taken < most).then(|| {
            of(places).set(taken + 1);
            Place(Rc::clone(places), of)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = self.1(&self.0);
        taken.set(taken.get() - 1);
    }
}

struct Connection {
    socket: Stream,
}

impl Connection {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes, PATIENCE).await
    }

    /// One request, whole; the inner error is to be answered with that status.
    async fn request(&mut self) -> io::Result<Result<Ask, (u16, String)>> {
        let (mut requests, mut some) = (Requests::default(), [0; READ_BYTES]);
        loop {
            let len = match self.socket.read(&mut some).await? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                len => len,
            };
            match requests.take(&some[..len]) {
                Ok(None) => {}
                Ok(Some(ask)) => return Ok(Ok(ask)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
    }
}

async fn start(context: &Context, door: &Rc<Door>, socket: Socket, peer: Option<SocketAddr>) {
    let Some(peer) = peer else {
        return start_local(context, door, socket).await;
    };
    let (own, door) = (context.clone(), Rc::clone(door));
    let guest = door.guests.enter(peer.ip());
    context.spawn_to_its_end("admin connection", async move {
        let out = async {
            guest.displaced().await;
            door.refused(peer, &Failure::new(FailureKind::Crowded, crowded()));
            None
        };
        let Some(socket) = or(secured(socket, peer, &door), out).await else {
            return;
        };
        let mut connection = Connection { socket };
        // The client is gone: nobody to tell.
        let talked = talk(&own, &door.places, &mut connection, Some(&guest)).await;
        if guest.is_displaced() {
            door.refused(peer, &Failure::new(FailureKind::Crowded, crowded()));
            if talked.is_err() {
                // Perhaps in the middle of an answer.
                return;
            }
        }
        if let Some(failure) = talked.as_ref().err().and_then(failure_of) {
            door.refused(peer, failure);
        }
        if let Some(port) = door.tls.as_ref().filter(|_| connection.socket.is_cut()) {
            port.truncated();
        }
        connection.socket.end(PATIENCE).await;
    });
}

/// One by the Unix socket.
async fn start_local(context: &Context, door: &Rc<Door>, mut socket: Socket) {
    let Some(place) = Place::take(&door.places, |places| &places.all, CONNECTIONS_MAX) else {
        let bytes = http::respond(&full(&Ask::default()), true, false);
        // Not worth more than one try: this task accepts.
        let _ = poll_once(socket.write(&bytes)).await;
        return;
    };
    let (own, door) = (context.clone(), Rc::clone(door));
    context.spawn_to_its_end("admin connection", async move {
        let _place = place;
        let socket = Stream::plain(socket);
        let mut connection = Connection { socket };
        // The client is gone: nobody to tell.
        let _ = talk(&own, &door.places, &mut connection, None).await;
    });
}

fn full(ask: &Ask) -> Response {
    let text = format!("admin connections: {CONNECTIONS_MAX} are open, which is the most");
    Response::error(503, ask, Stamp::now(), text).with("Retry-After", "1")
}

fn crowded() -> String {
    format!("{GUESTS_MAX} connections that have not shown the token were open, others came, and this was the oldest of the address that has most")
}

/// The connection behind its handshake. None: it came to nothing, which is counted and said.
async fn secured(socket: Socket, peer: SocketAddr, door: &Door) -> Option<Stream> {
    let Some(port) = &door.tls else {
        return Some(Stream::plain(socket));
    };
    let has_spoken = Cell::new(false);
    let _under_way = port.begins();
    let accepted = Stream::accept(socket, port, PATIENCE, &has_spoken);
    let failure = match within(&mut Limit::new(PATIENCE), accepted).await {
        Some(Ok(stream)) => return Some(stream),
        Some(Err(error)) => match failure_of(&error) {
            Some(failure) => failure.clone(),
            None => Failure::new(FailureKind::Closed, CLOSED),
        },
        None => {
            let text = format!("no handshake within {} s", PATIENCE.as_secs());
            Failure::new(FailureKind::Timeout, text)
        }
    };
    match (has_spoken.get(), failure.kind) {
        // It may have meant to speak no TLS.
        (false, _) if port.mode == TlsMode::Optional => {}
        // A health check: nobody minds.
        (false, FailureKind::Closed) => port.refused(failure.kind),
        _ => door.refused(peer, &failure),
    }
    None
}

impl Door {
    /// Counts it where TLS is spoken, and says it once a second at most: whoever is refused chooses how often.
    fn refused(&self, peer: SocketAddr, why: &Failure) {
        if let Some(port) = &self.tls {
            port.refused(why.kind);
        }
        let now = Instant::now();
        let is_soon = self.said.get().is_some_and(|at| now - at < SAID_EVERY);
        if is_soon {
            self.unsaid.set(self.unsaid.get().saturating_add(1));
            return;
        }
        let more = match self.unsaid.take() {
            0 => String::new(),
            more => format!(" (and {more} more since the last such line)"),
        };
        self.said.set(Some(now));
        log::warn!("admin: {peer} refused: {why}{more}");
    }
}

/// `guest`: it came by TCP, and is one until it has shown the token.
async fn talk(
    context: &Context,
    places: &Rc<Places>,
    connection: &mut Connection,
    guest: Option<&Guest>,
) -> io::Result<()> {
    let core = &context.core;
    let asked = async { within(&mut Limit::new(PATIENCE), connection.request()).await };
    let over = async {
        core.over().await;
        None
    };
    let out = async {
        displaced(guest).await;
        Some(Ok(Err((503, crowded()))))
    };
    let mut ask = match or(asked, or(over, out))
        .await
        .ok_or(ErrorKind::TimedOut)??
    {
        Ok(ask) => ask,
        Err((status, text)) => {
            let response = Response::error(status, &Ask::default(), Stamp::now(), text);
            return connection
                .write_all(&http::respond(&response, true, false))
                .await;
        }
    };
    let stranger = guest.and_then(|_| stranger(core, &mut ask));
    let is_operator = stranger.is_none() && may(core, &ask);
    let place = guest.filter(|_| is_operator).map(|guest| {
        guest.leave();
        Place::take(places, |places| &places.all, CONNECTIONS_MAX)
    });
    let refused = match &place {
        Some(None) => Some(full(&ask)),
        _ => stranger,
    };
    let is_let_in = is_operator || guest.is_none();
    let answered = answer_to(context, places, connection, (ask, refused), is_let_in);
    let out = async {
        displaced(guest).await;
        Err(ErrorKind::ConnectionAborted.into())
    };
    or(answered, out).await
}

/// Until it has to go.
async fn displaced(guest: Option<&Guest>) {
    match guest {
        Some(guest) => guest.displaced().await,
        None => pending().await,
    }
}

async fn answer_to(
    context: &Context,
    places: &Rc<Places>,
    connection: &mut Connection,
    (ask, refused): (Ask, Option<Response>),
    is_let_in: bool,
) -> io::Result<()> {
    let core = &context.core;
    let is_admin = ask.path == "/admin" || ask.path.starts_with("/admin/");
    let response = if let Some(refused) = refused {
        refused
    } else if is_admin && !is_let_in {
        forbidden(&ask)
    } else if ask.method == "GET" && (ask.path == "/events" || ask.path == "/admin/tap") {
        let long: fn(&Places) -> &Cell<usize> = match is_let_in {
            true => |places| &places.long,
            false => |places| &places.long_of_guests,
        };
        match Place::take(places, long, LONG_MAX) {
            Some(_place) if ask.path == "/events" => return stream(core, &ask, connection).await,
            Some(_place) => match tap(core, &ask, connection).await? {
                Some(refused) => refused,
                None => return Ok(()),
            },
            None => streams::full(&ask, &core.state()),
        }
    } else if is_admin {
        admin::answer(context, &ask).await
    } else {
        answer::answer(&ask, &core.state())
    };
    let bytes = http::respond(&response, ask.method != "HEAD", false);
    connection.write_all(&bytes).await
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

async fn stream(core: &Core, ask: &Ask, connection: &mut Connection) -> io::Result<()> {
    let (response, first) = streams::head();
    let mut bytes = http::respond_chunked(&response, false);
    bytes.extend(http::chunk(first));
    connection.write_all(&bytes).await?;
    let mut seen = streams::first_event(ask, &core.state());
    let end = Instant::now() + streams::LIFE;
    while !core.is_over() && Instant::now() < end {
        let piece = {
            let state = core.state();
            streams::piece(&streams::state_event(&state), &state, &mut seen)
        };
        connection.write_all(&http::chunk(&piece)).await?;
        or(sleep(streams::STEP), core.over()).await;
    }
    connection.write_all(&http::chunk(b"")).await
}

/// Messages on their way, a line of JSON each. Some: it was refused.
async fn tap(core: &Core, ask: &Ask, connection: &mut Connection) -> io::Result<Option<Response>> {
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
    let is_known =
        |(name, value): (&str, Option<_>)| ["rate", "seconds"].contains(&name) && value.is_some();
    let is_known = weir_http::parameters(&ask.query).all(is_known);
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
    connection
        .write_all(&http::respond_chunked(&response, false))
        .await?;
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    let look = source.begin(rate);
    let shown = show(core, source.as_ref(), look, rate, until, connection).await;
    source.end(look);
    shown?;
    connection.write_all(&http::chunk(b"")).await?;
    Ok(None)
}

/// What passes until then, and no more than `rate` a second of it.
async fn show(
    core: &Core,
    source: &dyn TapSource,
    look: u64,
    rate: u32,
    until: Instant,
    connection: &mut Connection,
) -> io::Result<()> {
    let rate = f64::from(rate);
    let mut allowance = 0.0;
    while !core.is_over() && Instant::now() < until {
        or(sleep(TAP_EVERY), core.over()).await;
        allowance = (allowance + rate * TAP_EVERY.as_secs_f64()).min(rate);
        let Some(messages) = source.take(look) else {
            let error = "another tap has taken over; one at a time looks";
            let line = format!("{}\n", json!({ "error": error }));
            return connection.write_all(&http::chunk(line.as_bytes())).await;
        };
        for message in messages {
            if allowance < 1.0 {
                break;
            }
            allowance -= 1.0;
            let json = value(message).to_string();
            let line = text::json_for_terminal(&json) + "\n";
            connection.write_all(&http::chunk(line.as_bytes())).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_just_gone_is_waited_for() {
        let name = format!("weir-admin-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let unix = UnixListener::bind(&path).expect("a free name");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("bound");
        let goes = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop((unix, tcp));
        });
        for at in [AdminAt::Unix(path.clone()), AdminAt::Tcp(address)] {
            Listener::bind(&at, true).expect("it has gone by now");
        }
        goes.join().expect("no panic");
        let held = UnixListener::bind(&path).expect("removed");
        let error = Listener::bind(&AdminAt::Unix(path.clone()), true).err();
        let error = error.expect("it stays");
        assert!(error.to_string().contains("another process listens there"));
        drop(held);
        let _ = fs::remove_file(&path);
    }
}
