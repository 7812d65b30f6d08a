//! The analyzer over HTTP: a server that takes packets as the distributor posts them.
//!
//! ```text
//!   accept --> a thread each, CONNECTIONS_MAX at most --POST /logs--> tally --> 200
//!                                                     --GET /health-> 200
//! ```
//!
//! Packets come over several connections at once and may be posted again after a failure: their messages have no
//! order to check, and one that was seen before is a duplicate.

use super::tally::{Counts, Tally};
use super::{Options, Report};
use crate::is_wait;
use crate::socket::Socket;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use weir_clock::monotonic_ns;
use weir_clock::notices::{self, Notices};
use weir_http::{respond, severity_of, Limits, Reader, Request, Step, CONTINUE};
use weir_tls::{Failure, Session, Stream};

/// Connections at once, each with a thread; beyond, they wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Largest body, compressed or not: what the distributor can post at most (`--max-frame`).
const BODY_BYTES_MAX: usize = 64 << 20;
/// Longest handshake of TLS.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How often the stop flag is looked at while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ACCEPT_EVERY: Duration = Duration::from_millis(2);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Of a level that no logger has: as info.
const SEVERITY_UNKNOWN: u8 = 3;
const READ_BYTES: usize = 64 << 10;

/// Of a packet, what is looked at.
#[derive(Deserialize)]
struct Packet<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    level: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

struct Server {
    options: Options,
    tally: Mutex<Tally>,
    messages: AtomicU64,
    open: AtomicUsize,
    stop: Arc<AtomicBool>,
    /// The count is reached, or something cannot be written.
    over: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    /// Which refusals were said.
    notices: Mutex<Notices>,
}

/// Serves at `options.addr` until `stop` is raised or the count is reached.
///
/// # Errors
/// The address cannot be listened at, or the record file or the journal cannot be written.
pub(super) fn run(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<Report> {
    let listener = listen(&options.addr)?;
    let server = Arc::new(Server {
        options: options.clone(),
        tally: Mutex::new(Tally::new(
            options.record.as_deref(),
            options.open_journal()?,
        )?),
        messages: AtomicU64::new(0),
        open: AtomicUsize::new(0),
        stop: Arc::clone(stop),
        over: AtomicBool::new(false),
        failure: Mutex::new(None),
        notices: Mutex::default(),
    });
    let addr = listener.local_addr()?;
    let scheme = match options.served {
        Some(_) => "https",
        None => "http",
    };
    log::info!(
        "{}: takes POST /logs and GET /health at {scheme}://{addr}; for the distributor: --http-analyzer {}=WEIGHT@{scheme}://{addr}",
        options.id, options.id
    );
    let (mut next_progress, mut logged) = (Instant::now() + PROGRESS_EVERY, 0);
    let mut peak = 0;
    while !server.is_over() {
        match listener.accept() {
            Ok((socket, peer)) => {
                peak = peak.max(server.open.fetch_add(1, Ordering::AcqRel) + 1);
                serve(&server, socket, peer)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(ACCEPT_EVERY),
            Err(error) => {
                log::warn!("a connection cannot be accepted: {error}");
                thread::sleep(LOOK_EVERY);
            }
        }
        while server.open.load(Ordering::Acquire) >= CONNECTIONS_MAX && !server.is_over() {
            thread::sleep(LOOK_EVERY);
        }
        if Instant::now() >= next_progress {
            next_progress += PROGRESS_EVERY;
            let messages = server.messages.load(Ordering::Relaxed);
            if messages > logged || options.verbose {
                let rate = (messages - logged) as f64 / PROGRESS_EVERY.as_secs_f64();
                log::info!("{}: Processed {messages} messages, {rate:.0}/s", options.id);
            }
            logged = messages;
        }
    }
    drop(listener);
    // Each thread looks at the flag soon; what it has answered is counted.
    while server.open.load(Ordering::Acquire) > 0 {
        thread::sleep(ACCEPT_EVERY);
    }
    let failure = server
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    failure.map_or(Ok(()), Err)?;
    let counts: Counts = server.tally().counts;
    Ok(Report {
        id: options.id.clone(),
        counts,
        reconnects: 0,
        links: peak,
        weight: None,
    })
}

fn listen(addr: &str) -> io::Result<TcpListener> {
    let addrs: Vec<SocketAddr> = addr
        .to_socket_addrs()
        .map_err(|error| io::Error::other(format!("address {addr:?}: {error}")))?
        .collect();
    let listener = TcpListener::bind(&addrs[..])
        .map_err(|error| io::Error::new(error.kind(), format!("--http {addr}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts a thread for a connection.
fn serve(server: &Arc<Server>, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let own = Arc::clone(server);
    let thread = thread::Builder::new()
        .name("packets".into())
        .spawn(move || {
            match own.secured(socket) {
                Ok(socket) => {
                    if let Err(error) = own.talk(socket) {
                        log::debug!("{peer}: {error}");
                    }
                }
                Err(error) => {
                    let notices = own.notices.lock();
                    let mut notices = notices.unwrap_or_else(PoisonError::into_inner);
                    match refusal(&mut notices, peer, &error, monotonic_ns()) {
                        Some(line) => log::warn!("{line}"),
                        None => log::debug!("{peer} refused: {error}"),
                    }
                }
            }
            own.open.fetch_sub(1, Ordering::AcqRel);
        });
    thread.map(|_| ())
}

/// What to say of a connection that came to nothing: once of an address and what was wrong, then counted.
fn refusal(
    notices: &mut Notices,
    peer: SocketAddr,
    error: &io::Error,
    now_ns: u64,
) -> Option<String> {
    let failure = error.get_ref().and_then(|it| it.downcast_ref::<Failure>());
    let kind = failure.map_or("broken", |failure| failure.cause);
    let host = peer.ip().to_canonical();
    let unsaid = notices.note("http", Some(host), kind, now_ns)?;
    Some(format!("{peer} refused: {error}{}", notices::tail(unsaid)))
}

impl Server {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.over.load(Ordering::Acquire)
    }

    /// What cannot be written down must not be answered with 200: it is over.
    fn fail(&self, error: io::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.over.store(true, Ordering::Release);
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS on a connection, if it is spoken.
    fn secured(&self, socket: TcpStream) -> io::Result<Socket<TcpStream>> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        socket.set_write_timeout(Some(PROGRESS_EVERY))?;
        socket.set_nodelay(true)?;
        let Some(served) = &self.options.served else {
            return Ok(Socket::Plain(socket));
        };
        let session = Session::server(Arc::clone(&served.config)).map_err(io::Error::other)?;
        let mut stream = Stream::begin(socket, session)?;
        stream.handshake(HANDSHAKE_PATIENCE, || self.is_over())?;
        Ok(Socket::of(stream))
    }

    /// Requests of one connection, until it closes or it is over.
    fn talk(&self, mut socket: Socket<TcpStream>) -> io::Result<()> {
        let limits = Limits {
            body_bytes: BODY_BYTES_MAX,
            inflated_bytes: BODY_BYTES_MAX,
            ..Limits::default()
        };
        let (mut reader, mut bytes) = (Reader::new(), vec![0; READ_BYTES]);
        loop {
            let count = match socket.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if is_wait(&error) && !self.is_over() => continue,
                Err(error) if is_wait(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut input = &bytes[..count];
            loop {
                let mut out = Vec::new();
                let go_on = match reader.next(&mut input, &limits) {
                    Ok(Step::NeedMore) => break,
                    Ok(Step::Continue) => {
                        out.extend_from_slice(CONTINUE);
                        true
                    }
                    Ok(Step::Request(request)) => {
                        if let Err(error) = self.answer(&request, &mut out) {
                            self.fail(error);
                            return Ok(());
                        }
                        request.keep_alive && !request.http10
                    }
                    Err(error) => {
                        refuse(&mut out, error.status, &error.detail, false);
                        false
                    }
                };
                socket.write_all(&out)?;
                if !go_on {
                    return Ok(());
                }
            }
        }
    }

    fn answer(&self, request: &Request<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let keep_alive = request.keep_alive && !request.http10;
        let path = request.path.trim_end_matches('/');
        match request.method {
            "GET" | "HEAD" if path.ends_with("/health") => {
                let id = crate::json_string(&self.options.id);
                let messages = self.messages.load(Ordering::Relaxed);
                let body = format!(r#"{{"status":"healthy","id":{id},"messages":{messages}}}"#);
                let body = if request.method == "GET" {
                    body.as_str()
                } else {
                    ""
                };
                respond(
                    out,
                    200,
                    "application/json",
                    &[],
                    body.as_bytes(),
                    keep_alive,
                );
            }
            "POST" if path.ends_with("/logs") => match serde_json::from_slice(request.body) {
                Ok(packet) => {
                    let taken = self.take(&packet)?;
                    let body = format!(r#"{{"success":true,"messageCount":{taken}}}"#);
                    respond(
                        out,
                        200,
                        "application/json",
                        &[],
                        body.as_bytes(),
                        keep_alive,
                    );
                }
                Err(error) => refuse(out, 400, &format!("no packet: {error}"), keep_alive),
            },
            method => {
                let text = format!(
                    "{method} {}: allowed are POST /logs and GET /health",
                    request.path
                );
                refuse(out, 404, &text, keep_alive);
            }
        }
        Ok(())
    }

    /// Counts the messages of a packet; they are recorded and journaled when this returns.
    fn take(&self, packet: &Packet<'_>) -> io::Result<usize> {
        let count = packet.messages.len();
        if !self.options.delay.is_zero() {
            thread::sleep(self.options.delay * u32::try_from(count).unwrap_or(u32::MAX));
        }
        let mut tally = self.tally();
        for message in &packet.messages {
            let payload = message.message.as_bytes();
            tally.counts.bytes += payload.len() as u64;
            let severity = severity_of(&message.level).unwrap_or(SEVERITY_UNKNOWN);
            tally.take_unordered(severity, payload);
        }
        tally.worked_at(Instant::now());
        tally.write_records()?;
        drop(tally);
        let before = self.messages.fetch_add(count as u64, Ordering::AcqRel);
        if self
            .options
            .count
            .is_some_and(|wanted| before + count as u64 >= wanted)
        {
            self.over.store(true, Ordering::Release);
        }
        Ok(count)
    }
}

fn refuse(out: &mut Vec<u8>, status: u16, why: &str, keep_alive: bool) {
    let body = format!(r#"{{"error":{}}}"#, crate::json_string(why));
    respond(
        out,
        status,
        "application/json",
        &[],
        body.as_bytes(),
        keep_alive,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_tls::FailureKind;

    #[test]
    fn each_refusal_of_an_address_is_said_once_an_hour() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let mut notices = Notices::default();
        let mut say = |peer: &str, kind: Option<FailureKind>, now_ns| {
            let error = match kind {
                Some(kind) => io::Error::other(Failure::new(kind, "a reason")),
                None => io::Error::from(io::ErrorKind::ConnectionReset),
            };
            let peer = peer.parse().expect("an address");
            refusal(&mut notices, peer, &error, now_ns)
        };
        let (expired, plain) = (Some(FailureKind::Expired), Some(FailureKind::Plain));
        let first = say("10.0.0.1:1", expired, 0).expect("the first");
        assert!(first.starts_with("10.0.0.1:1 refused: a reason; more of this from that address"));
        assert_eq!(say("10.0.0.1:2", expired, 1), None);
        assert_eq!(say("[::ffff:10.0.0.1]:3", expired, 2), None);
        assert!(say("10.0.0.1:4", plain, 3).is_some(), "another reason");
        assert!(say("10.0.0.1:4", None, 3).is_some(), "none of TLS");
        assert!(say("10.0.0.2:5", expired, 3).is_some(), "another address");
        let later = say("10.0.0.1:6", expired, HOUR_NS).expect("an hour later");
        assert!(
            later.contains("; 2 more of this from that address"),
            "{later}"
        );
    }
}
