//! A client of TLS that a test is in control of: rustls' own connection, on a socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use weir_testkit::Pair;

/// How a client comes.
#[derive(Clone)]
pub(super) struct Manner {
    config: Arc<ClientConfig>,
    /// Whom it asks for.
    name: &'static str,
    ca: PathBuf,
    shows: Option<Pair>,
}

/// One connection.
pub(super) struct Client(pub(super) StreamOwned<ClientConnection, TcpStream>);

impl Manner {
    /// One that trusts this CA, and shows this certificate.
    pub(super) fn new(ca: &Path, shows: Option<&Pair>) -> Manner {
        Manner {
            config: config(ca, shows, rustls::ALL_VERSIONS),
            name: "localhost",
            ca: ca.to_owned(),
            shows: shows.cloned(),
        }
    }

    /// The same with TLS 1.2 alone.
    pub(super) fn of_1_2(&self) -> Manner {
        let old = [&rustls::version::TLS12];
        let config = config(&self.ca, self.shows.as_ref(), &old);
        Manner {
            config,
            ..self.clone()
        }
    }

    /// The same, asking for another name.
    pub(super) fn asking(&self, name: &'static str) -> Manner {
        Manner {
            name,
            ..self.clone()
        }
    }

    /// The same, naming protocols (ALPN).
    pub(super) fn speaking(&self, protocols: &[&str]) -> Manner {
        let mut config = (*self.config).clone();
        let bytes = protocols.iter().map(|one| one.as_bytes().to_vec());
        config.alpn_protocols = bytes.collect();
        Manner {
            config: Arc::new(config),
            ..self.clone()
        }
    }

    /// The same, and it shows a certificate of its own making with so many behind it.
    pub(super) fn with_chain_of(&self, count: usize) -> Manner {
        let one = rcgen::generate_simple_self_signed(["hostile".to_owned()]).expect("a pair");
        let chain = vec![one.cert.der().clone(); count];
        let key = PrivateKeyDer::try_from(one.signing_key.serialize_der()).expect("a key");
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = shown(chain, key);
        Manner {
            config: Arc::new(config),
            ..self.clone()
        }
    }

    /// The same, and behind its certificate stands that of its CA so many times: tickets have all of them.
    pub(super) fn with_ca_behind(&self, count: usize) -> Manner {
        let pair = self.shows.as_ref().expect("a certificate");
        let mut chain = vec![CertificateDer::from_pem_file(&pair.cert).expect("PEM")];
        let ca = CertificateDer::from_pem_file(&self.ca).expect("PEM");
        chain.resize(1 + count, ca);
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = shown(chain, key);
        Manner {
            config: Arc::new(config),
            ..self.clone()
        }
    }

    /// Connects, and is through with the handshake as far as this side can know.
    pub(super) fn connect(&self, address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        self.on(socket)
    }

    /// The same, and these bytes go together with the last of the handshake, as they are. TLS 1.3 alone.
    pub(super) fn connect_with(&self, address: SocketAddr, bytes: &[u8]) -> io::Result<Client> {
        self.connect_at_once(address, &[], bytes)
    }

    /// The same, and what it says first goes together with the last of the handshake.
    pub(super) fn connect_saying(&self, address: SocketAddr, plain: &[u8]) -> io::Result<Client> {
        self.connect_at_once(address, plain, &[])
    }

    fn connect_at_once(
        &self,
        address: SocketAddr,
        plain: &[u8],
        behind: &[u8],
    ) -> io::Result<Client> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = self.connection()?;
        connection.write_tls(&mut socket)?;
        connection.writer().write_all(plain)?;
        while connection.is_handshaking() {
            connection.read_tls(&mut socket)?;
            let read = connection.process_new_packets();
            read.map_err(io::Error::other)?;
        }
        let mut last = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut last)?;
        }
        last.extend_from_slice(behind);
        socket.write_all(&last)?;
        Ok(Client(StreamOwned::new(connection, socket)))
    }

    /// Connects and says its hello; [`Client::go_on`] goes on from there.
    pub(super) fn begin(&self, address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        let mut client = Client(StreamOwned::new(self.connection()?, socket));
        client.go_on()?;
        Ok(client)
    }

    fn connection(&self) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(self.name).expect("a name");
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        connection.map_err(io::Error::other)
    }

    /// The same on a connection that is there.
    pub(super) fn on(&self, mut socket: TcpStream) -> io::Result<Client> {
        let mut connection = self.connection()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Client(StreamOwned::new(connection, socket)))
    }
}

fn config(
    ca: &Path,
    shows: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("PEM");
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::from_pem_file(&pair.cert).expect("PEM");
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
            builder.with_client_cert_resolver(shown(vec![chain], key))
        }
    };
    Arc::new(config)
}

/// A chain as it is, whatever it says.
fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<SingleCertAndKey> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).expect("a key");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

impl Client {
    /// As far as its handshake goes without waiting.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        while self.is_shaking() {
            match self.0.conn.complete_io(&mut self.0.sock) {
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    pub(super) fn is_shaking(&self) -> bool {
        self.0.conn.is_handshaking()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Says that nothing more comes, and waits until the other side says so.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Serial number of the certificate that was shown.
    pub(super) fn server_certificate(&self) -> Vec<u8> {
        let shown = self.0.conn.peer_certificates();
        shown.expect("established")[0].to_vec()
    }
}
