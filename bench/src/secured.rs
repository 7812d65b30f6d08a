//! TLS on the bench's own ends: certificates of a CA that lives as long as what is measured with it, and sockets that are
//! plain or not.
//!
//! ```text
//! weir+tls-in       emitters --TLS--> weir -------> analyzers       the load is a client
//! weir+tls-out      emitters -------> weir --TLS--> analyzers       analyzers that connect to it are clients
//! haproxy-tcp+tls   emitters --TLS--> haproxy --TLS--> analyzers    the sink that it connects to is a server
//! ```

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use weir_testkit::{Authority, Pair};
use weir_tls::{
    ClientCertificates, ClientFiles, Connector, MinVersion, Served, ServerFiles, Session, Stream,
};

use crate::children;

/// Whose certificate the distributor shows.
const NAME: &str = "localhost";
/// Time for a handshake. Beside thousands of others it waits.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);
/// How often a handshake looks at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// On which sides of a system there is TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sides {
    /// From emitters.
    pub emitters: bool,
    /// To analyzers.
    pub analyzers: bool,
    /// Emitters must show a certificate.
    pub is_asked: bool,
}

impl Sides {
    /// As the command line has them, behind the name of a system.
    const NAMES: [(&'static str, Sides); 4] = [
        ("tls-in", Sides::of(true, false)),
        ("tls-out", Sides::of(false, true)),
        ("tls", Sides::of(true, true)),
        ("tls-asked", Sides::asked()),
    ];

    const fn asked() -> Sides {
        Sides {
            emitters: true,
            analyzers: false,
            is_asked: true,
        }
    }

    const fn of(emitters: bool, analyzers: bool) -> Sides {
        Sides {
            emitters,
            analyzers,
            is_asked: false,
        }
    }

    /// The sides that a system's first word names, and the rest of it: `weir+tls-in`.
    ///
    /// # Errors
    /// There is a '+', and behind it none of the names.
    pub fn cut(word: &str) -> io::Result<(Sides, &str)> {
        let Some((name, sides)) = word.split_once('+') else {
            return Ok((Sides::default(), word));
        };
        let found = Sides::NAMES.iter().find(|(known, _)| *known == sides);
        found.map(|(_, sides)| (*sides, name)).ok_or_else(|| {
            io::Error::other(format!(
                "unknown sides '{sides}' in '{word}': allowed are +tls-in (from emitters), +tls-out (to analyzers), +tls (both), \
                 +tls-asked (from emitters, which show certificates)"
            ))
        })
    }

    /// There is TLS somewhere.
    pub fn is_any(self) -> bool {
        self.emitters || self.analyzers
    }
}

/// A CA and what is used of it. Its files go away with the last who uses it.
pub struct Pki {
    authority: Authority,
    server: Pair,
    /// What a client may show.
    pub client: Pair,
    /// Certificate and key of the server in one file, as HAProxy wants it.
    bundle: PathBuf,
    connector: Connector,
    served: Served,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki")
    }
}

impl Pki {
    /// That of everything that runs now, or a new one.
    ///
    /// # Errors
    /// Its files cannot be written or read.
    pub fn shared() -> io::Result<Arc<Pki>> {
        static SHARED: Mutex<Weak<Pki>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pki) = shared.upgrade() {
            return Ok(pki);
        }
        let pki = Arc::new(Pki::new()?);
        *shared = Arc::downgrade(&pki);
        Ok(pki)
    }

    fn new() -> io::Result<Pki> {
        let authority = Authority::new("bench");
        let (server, client) = (authority.pair(NAME), authority.pair("emitter"));
        let bundle = authority.path("server-bundle.pem");
        if let Some(folder) = bundle.parent() {
            children::remove_at_end(folder);
        }
        let both = [&server.cert, &server.key].map(std::fs::read);
        let [cert, key] = both;
        std::fs::write(&bundle, [cert?, key?].concat())?;
        let connector = Connector::new(ClientFiles {
            ca: Some(authority.ca()),
            pair: Some((client.cert.clone(), client.key.clone())),
            name: Some(NAME.to_owned()),
            ..ClientFiles::default()
        });
        let served = Served::read(&ServerFiles {
            pairs: vec![(server.cert.clone(), server.key.clone())],
            clients: ClientCertificates::Off,
            min_version: MinVersion::Tls13,
            ..ServerFiles::default()
        });
        Ok(Pki {
            connector: connector.map_err(io::Error::other)?,
            served: served.map_err(io::Error::other)?,
            authority,
            server,
            client,
            bundle,
        })
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// Certificate and key of the server in one file.
    pub fn bundle(&self) -> PathBuf {
        self.bundle.clone()
    }

    /// Flags of a distributor that has TLS on these sides.
    pub fn flags(&self, sides: Sides) -> Vec<String> {
        let ports = [
            (sides.emitters, "--emitters-tls"),
            (sides.analyzers, "--analyzers-tls"),
        ];
        let ports = ports.iter().filter(|(is_on, _)| *is_on);
        let mut flags: Vec<String> = ports
            .flat_map(|(_, flag)| [(*flag).to_owned(), "required".to_owned()])
            .collect();
        if sides.is_any() {
            let (cert, key) = (self.server.cert.display(), self.server.key.display());
            flags.extend(["--tls-cert".to_owned(), cert.to_string()]);
            flags.extend(["--tls-key".to_owned(), key.to_string()]);
        }
        if sides.is_asked {
            let ca = self.ca().display().to_string();
            flags.extend(["--tls-client-ca".to_owned(), ca]);
        }
        flags
    }

    /// A server that asks for certificates.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn asking(&self) -> io::Result<Served> {
        let served = Served::read(&ServerFiles {
            pairs: vec![(self.server.cert.clone(), self.server.key.clone())],
            client_ca: Some(self.ca()),
            clients: ClientCertificates::Required,
            ..ServerFiles::default()
        });
        served.map_err(io::Error::other)
    }

    /// A client's side on a socket that is connected and blocks: the whole handshake.
    ///
    /// # Errors
    /// It came to nothing.
    pub fn shake(&self, stream: TcpStream) -> io::Result<Socket> {
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        let mut stream = self.connector.connect(stream, None)?;
        stream.handshake(HANDSHAKE_PATIENCE, || false)?;
        stream.get_ref().set_read_timeout(None)?;
        Ok(Socket::Secured(Box::new(stream)))
    }

    /// A server's side on a socket that does not block. Its handshake is done by reads.
    ///
    /// # Errors
    /// The settings do not go together.
    pub fn answer(&self, stream: TcpStream) -> io::Result<Socket> {
        let session = Session::server(Arc::clone(&self.served.config)).map_err(io::Error::other)?;
        let stream = Stream::begin(stream, session)?;
        Ok(Socket::Secured(Box::new(stream)))
    }
}

/// A connection of load or sink.
pub enum Socket {
    /// Bytes go as they are.
    Plain(TcpStream),
    /// They go through TLS.
    Secured(Box<Stream<TcpStream>>),
}

impl Socket {
    /// A client's connection: with the handshake done where there is to be one.
    ///
    /// # Errors
    /// The handshake came to nothing.
    pub fn of(stream: TcpStream, pki: Option<&Arc<Pki>>) -> io::Result<Socket> {
        match pki {
            Some(pki) => pki.shake(stream),
            None => Ok(Socket::Plain(stream)),
        }
    }

    /// Bytes go through TLS.
    pub fn is_secured(&self) -> bool {
        matches!(self, Socket::Secured(_))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Secured(stream) => stream.get_ref(),
        }
    }

    /// As of [`TcpStream::set_nonblocking`].
    ///
    /// # Errors
    /// As of it.
    pub fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        self.tcp().set_nonblocking(is_nonblocking)
    }

    /// As of [`TcpStream::set_read_timeout`].
    ///
    /// # Errors
    /// As of it.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.tcp().set_read_timeout(timeout)
    }

    /// Bytes that were written, and that the kernel did not take yet.
    pub fn unsent_bytes(&self) -> usize {
        match self {
            Socket::Plain(_) => 0,
            Socket::Secured(stream) => stream.unsent_bytes(),
        }
    }

    /// Gives the kernel what it did not take before. False: it does not take all of it now.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_unsent(&mut self) -> io::Result<bool> {
        match self {
            Socket::Plain(_) => Ok(true),
            Socket::Secured(stream) => stream.send_unsent(),
        }
    }

    /// Bytes that were read from the kernel, and that nobody has asked for yet: no readiness tells of them.
    pub fn waiting_bytes(&self) -> usize {
        match self {
            Socket::Plain(_) => 0,
            Socket::Secured(stream) => stream.waiting_bytes(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(to),
            Socket::Secured(stream) => stream.read(to),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write(bytes),
            Socket::Secured(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write_vectored(parts),
            Socket::Secured(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_stand_behind_the_name() {
        let cut = |word| Sides::cut(word).expect("valid");
        assert_eq!(cut("weir"), (Sides::default(), "weir"));
        assert_eq!(cut("weir+tls"), (Sides::of(true, true), "weir"));
        assert_eq!(cut("weir+tls-in"), (Sides::of(true, false), "weir"));
        let haproxy = cut("haproxy-tcp+tls-out");
        assert_eq!(haproxy, (Sides::of(false, true), "haproxy-tcp"));
        let error = Sides::cut("weir+ssl").expect_err("unknown").to_string();
        assert!(error.contains("+tls-in"), "{error}");
    }

    #[test]
    fn what_was_said_through_tls_is_heard_and_a_full_socket_keeps_nothing_back() {
        let pki = Pki::shared().expect("made");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("known");
        let server = Arc::clone(&pki);
        let heard = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("comes");
            let mut socket = server.answer(stream).expect("begins");
            let mut all = vec![0; 3 << 20];
            socket.read_exact(&mut all).expect("read");
            all
        });
        let stream = TcpStream::connect(address).expect("connects");
        let mut socket = Socket::of(stream, Some(&pki)).expect("handshake");
        socket.set_nonblocking(true).expect("set");
        let said: Vec<u8> = (0..3_u32 << 20).map(|n| (n * 7) as u8).collect();
        let mut at = 0;
        while at < said.len() || socket.unsent_bytes() > 0 {
            match socket.write(&said[at..]) {
                Ok(0) => drop(socket.send_unsent().expect("sent")),
                Ok(count) => at += count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(heard.join().expect("heard") == said);
    }
}
