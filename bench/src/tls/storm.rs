//! Ten thousand emitters with certificates connect at once, while messages flow.
//!
//! ```text
//! flow      |--- settle ---|-- before --|---- during -----|     64 emitters, open loop, over TLS as well
//! storm                                 |connect ... all up|    again with tickets, if that was asked for
//! ```
//!
//! The storm's clients are one thread that takes what time is left of all cores (nice 19): 10,000 clients are 10,000
//! hosts elsewhere. They do not check the server's certificate, which the server cannot tell. An emitter is up when its
//! first message has reached an analyzer; none tries twice.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::epoll::EpollFlags;
use nix::time::{clock_gettime, ClockId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};
use socket2::{Domain, Protocol, Socket, Type};
use weir_tls::{Stream, Wire};

use crate::check::nanosecond_histogram;
use crate::child::System;
use crate::drive::Drive;
use crate::load::LoadArgs;
use crate::net::{allow_connections, event_buffer, is_would_block, mono_ns, pin, Poller};
use crate::secured::Pki;
use crate::session::Session;
use crate::sink::{Dialect, Sink, SinkArgs};
use crate::wire::{lay_frames, Stamp};

/// Connections that begin before those that are ready are looked at.
const BEGUN_AT_ONCE: usize = 32;
const MESSAGE_LEN: usize = 256;
/// The flow: connections, messages per second, and how long it may take at most (s).
const FLOW_CONNECTIONS: u32 = 64;
const FLOW_RATE: u64 = 100_000;
const FLOW_SECONDS_MAX: u64 = 120;
/// The flow runs so long before anything is measured.
const SETTLE: Duration = Duration::from_secs(1);
/// From the end of one storm to what is measured before the next: its connections close.
const BETWEEN: Duration = Duration::from_secs(2);
/// Those who are up last get their tickets.
const TICKETS: Duration = Duration::from_millis(500);
/// Longest storm.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest sleep.
const WAIT: Duration = Duration::from_millis(10);
/// Handshakes in memory that are timed.
const FLOOR_HANDSHAKES: u32 = 400;

/// What the clients have: settings, and tickets that they were given.
pub struct Crowd {
    config: Arc<ClientConfig>,
    tickets: Arc<Pile>,
}

/// What is asked of a storm.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Emitters that connect at once.
    pub count: u32,
    /// Messages of the flow in one write.
    pub burst: u32,
    /// The flow alone, for comparison.
    pub before: Duration,
    /// One analyzer for each.
    pub weights: Vec<f64>,
    /// Of the system.
    pub system_cores: Vec<usize>,
    /// Of flow and analyzers.
    pub load_cores: Vec<usize>,
}

impl Shape {
    fn all_cores(&self) -> Vec<usize> {
        let all = self.system_cores.iter().chain(&self.load_cores);
        all.copied().collect()
    }
}

/// One storm, and the flow beside it.
pub struct Measured {
    /// Messages of the storm's emitters that came to an analyzer.
    pub up: u64,
    /// From the first connect to the last of these (s).
    pub up_s: f64,
    /// Of the flow: intended send to read, before and during the storm.
    pub before_ns: Histogram<u64>,
    pub during_ns: Histogram<u64>,
    /// CPU of the system for one of the storm's emitters, the flow's taken off (us).
    pub cpu_us: f64,
    /// Part of a core that the flow took before.
    pub rest_share: f64,
    /// What the clients say.
    pub outcome: Outcome,
    /// Messages of the flow that never came.
    pub lost: u64,
}

impl Measured {
    /// All are up, and nobody was refused.
    pub fn is_whole(&self, count: u32) -> bool {
        self.up == u64::from(count) && self.outcome.failures.is_empty() && self.lost == 0
    }

    /// How much later the flow's 99th percentile was (ms).
    pub fn p99_ms_beyond(&self) -> f64 {
        let p99_ms = |ns: &Histogram<u64>| ns.value_at_quantile(0.99) as f64 / 1e6;
        p99_ms(&self.during_ns) - p99_ms(&self.before_ns)
    }
}

fn run_for(session: &mut Session, time: Duration) -> io::Result<()> {
    let until_ns = mono_ns() + time.as_nanos() as u64;
    session
        .drive
        .run_until(PATIENCE, |_| mono_ns() >= until_ns)
        .map(drop)
}

/// A storm that runs on its own thread, until it is ended.
pub struct Storm {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Outcome>>,
}

/// What became of it.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Handshakes that were done.
    pub established: u64,
    /// Of these by a ticket.
    pub resumed: u64,
    /// Why others were not, and how many.
    pub failures: BTreeMap<String, u64>,
    /// CPU time of the clients until the last was done (ns).
    pub cpu_ns: u64,
}

impl Crowd {
    /// All show one certificate.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn new(pki: &Pki) -> io::Result<Crowd> {
        let chain = CertificateDer::pem_file_iter(&pki.client.cert).map_err(io::Error::other)?;
        let chain: Vec<_> = chain.flatten().collect();
        let key = PrivateKeyDer::from_pem_file(&pki.client.key).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_auth_cert(chain, key);
        let mut config = config.map_err(io::Error::other)?;
        let tickets = Arc::new(Pile::default());
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
        Ok(Crowd {
            config: Arc::new(config),
            tickets,
        })
    }

    /// Without tickets from here on.
    fn forget_tickets(&self) {
        self.tickets.lock().clear();
    }

    /// Connects `count` emitters at once; each sends one message, the first with this sequence number.
    fn begin(&self, count: u32, peer: SocketAddr, first: u64, cores: Vec<usize>) -> Storm {
        let config = Arc::clone(&self.config);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            pin(&cores)?;
            // Of this thread alone: Linux has it so.
            rustix::process::nice(19)?;
            run(&config, count, peer, first, &ends)
        });
        Storm { is_over, thread }
    }

    /// Three measurements of one sitting: `before` seconds of the flow alone, a storm, and another with the tickets of the
    /// first.
    ///
    /// # Errors
    /// The system does not start, or does not take the flow.
    pub fn storms(&self, system: &System, shape: &Shape) -> io::Result<[Measured; 2]> {
        self.forget_tickets();
        let load = LoadArgs {
            connections: FLOW_CONNECTIONS,
            rate: Some(FLOW_RATE),
            burst: shape.burst,
            seconds: Some(FLOW_SECONDS_MAX as f64),
            ..LoadArgs::default()
        };
        let sink = SinkArgs {
            weights: shape.weights.clone(),
            dialect: Dialect::Native,
            ..SinkArgs::default()
        };
        allow_connections(shape.count as usize + FLOW_CONNECTIONS as usize)?;
        let mut session = Session::open(system, &load, &sink, &shape.system_cores)?;
        session.drive.start()?;
        run_for(&mut session, SETTLE)?;
        self.tickets.is_open.store(false, Ordering::Relaxed);
        let full = self.measure(&mut session, shape, 0)?;
        run_for(&mut session, BETWEEN)?;
        self.tickets.is_open.store(true, Ordering::Relaxed);
        let resumed = self.measure(&mut session, shape, 1)?;
        if let Some(load) = &mut session.drive.load {
            load.finish();
        }
        let sent = session.drive.sent();
        session.drive.run_until(PATIENCE, |drive| {
            let missing = |sink: &Sink| sink.tally.set.missing(sent);
            drive.sink.as_ref().map_or(0, missing) == 0
        })?;
        let tally = session.drive.sink.as_ref().map(|sink| &sink.tally);
        let lost = tally.map_or(0, |tally| tally.set.missing(sent));
        session.close()?;
        let with_lost = |measured: Measured| Measured { lost, ..measured };
        Ok([full, resumed].map(with_lost))
    }

    fn measure(&self, session: &mut Session, shape: &Shape, nth: u64) -> io::Result<Measured> {
        let latency_ns = |session: &mut Session| match &mut session.drive.sink {
            Some(sink) => {
                let ns = sink.tally.latency_ns.clone();
                sink.tally.latency_ns.reset();
                ns
            }
            None => nanosecond_histogram(),
        };
        latency_ns(session);
        let (cpu, from_ns) = (session.child.cpu()?, mono_ns());
        run_for(session, shape.before)?;
        let before_ns = latency_ns(session);
        let rest_share = session.child.cpu()?.ns_since(&cpu) as f64 / (mono_ns() - from_ns) as f64;

        let total = FLOW_RATE * FLOW_SECONDS_MAX;
        let first = (total + nth * u64::from(shape.count)).next_multiple_of(64);
        let count = u64::from(shape.count);
        let (cpu, from_ns) = (session.child.cpu()?, mono_ns());
        let storm = self.begin(
            shape.count,
            session.child.emitters,
            first,
            shape.all_cores(),
        );
        let until_ns = from_ns + PATIENCE.as_nanos() as u64;
        let arrived = |drive: &Drive| {
            let of_sink = |sink: &Sink| sink.tally.set.count_from(first, count);
            drive.sink.as_ref().map_or(0, of_sink)
        };
        session.drive.run_until(PATIENCE, |drive| {
            arrived(drive) == count || mono_ns() > until_ns || storm.has_failed()
        })?;
        let up_ns = mono_ns() - from_ns;
        let cpu_ns = session.child.cpu()?.ns_since(&cpu) as f64 - rest_share * up_ns as f64;
        let during_ns = latency_ns(session);
        let up = arrived(&session.drive);
        run_for(session, TICKETS)?;
        Ok(Measured {
            up,
            up_s: up_ns as f64 / 1e9,
            before_ns,
            during_ns,
            cpu_us: cpu_ns / 1e3 / count as f64,
            rest_share,
            outcome: storm.end()?,
            lost: 0,
        })
    }

    /// What a handshake costs where nothing is between the two sides: (client, server) in us, of some hundred.
    ///
    /// # Errors
    /// A handshake failed.
    pub fn floor(&self, pki: &Pki, is_resumed: bool) -> io::Result<(f64, f64)> {
        let served = pki.asking()?;
        let (mut client_ns, mut server_ns) = (0, 0);
        self.tickets.is_open.store(is_resumed, Ordering::Relaxed);
        for _ in 0..FLOOR_HANDSHAKES {
            let mut client = session(&self.config)?;
            let mut server =
                weir_tls::Session::server(Arc::clone(&served.config)).map_err(io::Error::other)?;
            let (mut up, mut down) = (Wire::new(), Wire::new());
            client_ns += timed(|| client.begin(&mut up))?;
            while !(client.is_established() && server.is_established() && up.is_empty()) {
                let mut bytes = up.bytes().to_vec();
                up.clear();
                server_ns += timed(|| server.open(&mut bytes, &mut |_| (), &mut down))?;
                let mut bytes = down.bytes().to_vec();
                down.clear();
                client_ns += timed(|| client.open(&mut bytes, &mut |_| (), &mut up))?;
            }
        }
        let each = |ns: u64| ns as f64 / 1e3 / f64::from(FLOOR_HANDSHAKES);
        Ok((each(client_ns), each(server_ns)))
    }
}

fn session(config: &Arc<ClientConfig>) -> io::Result<weir_tls::Session> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    weir_tls::Session::client(Arc::clone(config), name).map_err(io::Error::other)
}

fn timed(work: impl FnOnce() -> Result<(), weir_tls::Failure>) -> io::Result<u64> {
    let from_ns = thread_cpu_ns();
    work().map_err(io::Error::other)?;
    Ok(thread_cpu_ns() - from_ns)
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux always has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

impl Storm {
    /// Closes its connections.
    ///
    /// # Errors
    /// It could not go on.
    pub fn end(self) -> io::Result<Outcome> {
        self.is_over.store(true, Ordering::Relaxed);
        let outcome = self.thread.join();
        outcome.map_err(|_| io::Error::other("the storm's thread panicked"))?
    }

    /// It ended before it was told to.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }
}

enum Client {
    Connecting(TcpStream),
    Shaking(Box<Stream<TcpStream>>),
    /// Its message is sent.
    Up(Box<Stream<TcpStream>>),
    Failed,
}

fn run(
    config: &Arc<ClientConfig>,
    count: u32,
    peer: SocketAddr,
    first: u64,
    is_over: &AtomicBool,
) -> io::Result<Outcome> {
    let poller = Poller::new()?;
    let mut clients: Vec<Client> = Vec::with_capacity(count as usize);
    let mut outcome = Outcome::default();
    let mut events = event_buffer();
    let begun_ns = thread_cpu_ns();
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BEGUN_AT_ONCE.min(count as usize - clients.len()) {
            let stream = connect(peer)?;
            poller.add(&stream, clients.len() as u64, EpollFlags::EPOLLOUT)?;
            clients.push(Client::Connecting(stream));
        }
        let wait = match clients.len() < count as usize {
            true => Duration::ZERO,
            false => WAIT,
        };
        let ready = poller.wait_up_to(&mut events, wait)?;
        for event in &events[..ready] {
            let number = event.data() as usize;
            let before = std::mem::replace(&mut clients[number], Client::Failed);
            let was_shaking = matches!(before, Client::Shaking(_));
            let after = go_on(before, config, &poller, number as u64, first);
            match &after {
                Ok(Client::Up(stream)) if was_shaking => {
                    outcome.established += 1;
                    outcome.resumed += u64::from(stream.session().is_resumed());
                    outcome.cpu_ns = thread_cpu_ns() - begun_ns;
                }
                Ok(_) => {}
                Err(error) => *outcome.failures.entry(error.to_string()).or_default() += 1,
            }
            clients[number] = after.unwrap_or(Client::Failed);
        }
    }
    Ok(outcome)
}

fn connect(peer: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(peer);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&peer.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A client whose socket is ready.
fn go_on(
    client: Client,
    config: &Arc<ClientConfig>,
    poller: &Poller,
    number: u64,
    first: u64,
) -> io::Result<Client> {
    Ok(match client {
        Client::Connecting(stream) => {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            poller.modify(&stream, number, EpollFlags::EPOLLIN)?;
            Client::Shaking(Box::new(Stream::begin(stream, session(config)?)?))
        }
        Client::Shaking(mut stream) => match stream.progress()? {
            false => Client::Shaking(stream),
            true => {
                let mut frame = lay_frames(MESSAGE_LEN, 1);
                let stamp = Stamp {
                    intended_ns: 0, // the flow's latency is what is asked for
                    sequence: first + number,
                };
                stamp.write(&mut frame);
                stream.write_all(&frame)?;
                Client::Up(stream)
            }
        },
        Client::Up(mut stream) => {
            let mut bytes = [0; 256];
            match stream.read(&mut bytes) {
                Ok(_) => return Err(io::Error::other("it was closed after its handshake")),
                Err(error) if is_would_block(&error) => Client::Up(stream), // tickets
                Err(error) => return Err(error),
            }
        }
        Client::Failed => Client::Failed,
    })
}

/// Whoever the server says that it is.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}

/// Tickets of all clients: rustls' own memory keeps eight of a server.
#[derive(Debug, Default)]
struct Pile {
    tickets: Mutex<Vec<Tls13ClientSessionValue>>,
    /// Clients use them; otherwise they only gather.
    is_open: AtomicBool,
}

impl Pile {
    fn lock(&self) -> MutexGuard<'_, Vec<Tls13ClientSessionValue>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Pile {
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.lock().push(value);
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let is_open = self.is_open.load(Ordering::Relaxed);
        is_open.then(|| self.lock().pop())?
    }
}
