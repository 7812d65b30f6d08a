//! A connection to a distributor: plain, or with TLS around it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use weir_tls::{Connector, Stream};

/// What sockets of the standard library and of mio have in common, beyond reading and writing.
pub trait HalfClose {
    /// Nothing more comes from this side.
    ///
    /// # Errors
    /// The socket is broken.
    fn shut_write(&self) -> io::Result<()>;
}

impl HalfClose for std::net::TcpStream {
    fn shut_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl HalfClose for mio::net::TcpStream {
    fn shut_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// See the head of this file.
pub enum Socket<S: Read + Write> {
    /// Bytes go as they are.
    Plain(S),
    /// They go through TLS.
    Secured(Box<Secured<S>>),
}

/// With TLS around it.
pub struct Secured<S: Read + Write> {
    stream: Stream<S>,
    /// This side is to be closed once all is sent, and is closed.
    is_ending: bool,
    is_shut: bool,
}

impl<S: Read + Write> From<S> for Socket<S> {
    fn from(socket: S) -> Socket<S> {
        Socket::Plain(socket)
    }
}

impl<S: Read + Write> Socket<S> {
    /// The socket itself, for what has nothing to do with its bytes.
    pub fn get_ref(&self) -> &S {
        match self {
            Socket::Plain(socket) => socket,
            Socket::Secured(secured) => secured.stream.get_ref(),
        }
    }

    /// Bytes that it took and the kernel did not.
    pub fn unsent_bytes(&self) -> usize {
        match self {
            Socket::Plain(_) => 0,
            Socket::Secured(secured) => secured.stream.unsent_bytes(),
        }
    }
}

impl<S: Read + Write + HalfClose> Socket<S> {
    /// A connection that is there already: TLS begins on it, if it is spoken. `host`: see [`Connector::connect`].
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn begin(
        socket: S,
        tls: Option<&Arc<Connector>>,
        host: Option<&str>,
    ) -> io::Result<Socket<S>> {
        let Some(tls) = tls else {
            return Ok(Socket::Plain(socket));
        };
        let stream = tls.connect(socket, host);
        if let Some(why) = tls.take_refusal() {
            log::warn!("TLS: {why}; what was read before stays in use");
        }
        Ok(Socket::of(stream?))
    }

    /// With TLS around it.
    pub fn of(stream: Stream<S>) -> Socket<S> {
        Socket::Secured(Box::new(Secured {
            stream,
            is_ending: false,
            is_shut: false,
        }))
    }

    /// The stream of TLS, if there is one.
    pub fn secured(&mut self) -> Option<&mut Stream<S>> {
        match self {
            Socket::Plain(_) => None,
            Socket::Secured(secured) => Some(&mut secured.stream),
        }
    }

    /// Closes this side: at once, or with TLS when all that it took is sent (see [`Socket::settle`]).
    ///
    /// # Errors
    /// The socket is broken.
    pub fn shut_write(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(socket) => socket.shut_write(),
            Socket::Secured(secured) => {
                secured.is_ending = true;
                secured.stream.end()?;
                self.settle()
            }
        }
    }

    /// Sends what it took and the kernel did not, as far as the kernel takes it now; closes this side behind it, if that
    /// is to be.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn settle(&mut self) -> io::Result<()> {
        let Socket::Secured(secured) = self else {
            return Ok(());
        };
        let is_sent = secured.stream.send_unsent()?;
        if is_sent && secured.is_ending && !std::mem::replace(&mut secured.is_shut, true) {
            secured.stream.get_ref().shut_write()?;
        }
        Ok(())
    }
}

impl<S: Read + Write> Read for Socket<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(socket) => socket.read(to),
            Socket::Secured(secured) => secured.stream.read(to),
        }
    }
}

impl<S: Read + Write> Write for Socket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(socket) => socket.write(bytes),
            Socket::Secured(secured) => secured.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(socket) => socket.flush(),
            Socket::Secured(secured) => secured.stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;
    use weir_testkit::Authority;
    use weir_tls::{ClientFiles, Served, ServerFiles, Session};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn pair() -> (Socket<TcpStream>, Stream<TcpStream>) {
        let authority = Authority::new("client-socket");
        let pair = authority.pair("localhost");
        let served = Served::read(&ServerFiles {
            pairs: vec![(pair.cert, pair.key)],
            ..ServerFiles::default()
        });
        let connector = Connector::new(ClientFiles {
            ca: Some(authority.ca()),
            ..ClientFiles::default()
        });
        let connector = Some(Arc::new(connector.expect("files that fit")));
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let far = listener.accept().expect("accepted").0;
        let server = std::thread::spawn(move || {
            let config = Arc::clone(&served.expect("files that fit").config);
            let session = Session::server(config).expect("settings");
            let mut server = Stream::begin(far, session).expect("a socket");
            server.handshake(PATIENCE, || false).expect("a handshake");
            server
        });
        let mut client = Socket::begin(near, connector.as_ref(), Some("localhost")).expect("begun");
        let stream = client.secured().expect("TLS");
        stream.handshake(PATIENCE, || false).expect("a handshake");
        client.get_ref().set_nonblocking(true).expect("an option");
        (client, server.join().expect("no panic"))
    }

    /// It is asked to close while much of what it took is not in the kernel.
    #[test]
    fn what_was_taken_is_sent_before_this_side_is_closed() {
        let (mut client, mut server) = pair();
        let (bytes, mut taken) = (vec![7; 60_000], 0);
        while let Ok(count) = client.write(&bytes) {
            taken += count;
        }
        assert!(client.unsent_bytes() > 0, "the kernel is full");
        client.shut_write().expect("not broken");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).expect("an end that was said");
            (all.len(), server)
        });
        while client.unsent_bytes() > 0 {
            client.settle().expect("not broken");
            std::thread::yield_now();
        }
        let (got, mut server) = reader.join().expect("no panic");
        assert_eq!(got, taken);
        // The socket is closed behind it, and the other side may still answer.
        assert_eq!(server.get_ref().read(&mut [0; 9]).expect("closed"), 0);
        server.write_all(b"bye").expect("written");
        drop(server);
        let mut answer = String::new();
        client.get_ref().set_nonblocking(false).expect("an option");
        client.read_to_string(&mut answer).expect("read");
        assert_eq!(answer, "bye");
    }

    #[test]
    fn without_tls_it_is_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let mut far = listener.accept().expect("accepted").0;
        let mut client = Socket::begin(near, None, None).expect("begun");
        client.write_all(b"plain").expect("written");
        client.shut_write().expect("closed");
        let mut got = String::new();
        far.read_to_string(&mut got).expect("read");
        assert_eq!((got.as_str(), client.unsent_bytes()), ("plain", 0));
    }
}
