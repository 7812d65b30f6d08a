//! What a client shows, and whom it trusts. Read from files, checked as a whole, and read again once they change.
//!
//! ```text
//! files --read, checked--> ClientConfig --connect()--> Stream
//!             `- anything wrong at the start: the file and why; later: said once, and what was read before stays
//! ```
//!
//! Whose certificate is expected is for the caller to say, out of what its operator wrote. What DNS answers is
//! somebody else's word.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificate::Facts;
use crate::pem::{read_certificates, read_pair, roots_of, unusable, Unusable};
use crate::server::{provider, MinVersion};
use crate::session::Session;
use crate::stream::Stream;

/// Where systems keep the CAs that they trust: Debian and its like, Red Hat's, SUSE's, Alpine's.
const SYSTEM_CAS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Most CAs of a system that are taken; it has 150 or so.
const SYSTEM_CAS_MAX: usize = 4096;
/// How often files are looked at, while connections are made.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a client shows and whom it trusts, as files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// CAs of servers, PEM; none: those of the system.
    pub ca: Option<PathBuf>,
    /// Its own chain and key, PEM; none: it shows no certificate.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Whose certificate is expected, whatever server is asked; none: that of the host that is connected to.
    pub name: Option<String>,
    /// Oldest version.
    pub min_version: MinVersion,
}

impl ClientFiles {
    /// Reads and checks everything. It blocks.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(&self) -> Result<Arc<ClientConfig>, Unusable> {
        self.read_all(None).map(|(config, _)| config)
    }

    /// The same, and what stands in the files; CAs of the system are not told. `before`: the chain that is in use, which
    /// may have expired since.
    pub(crate) fn read_all(
        &self,
        before: Option<&[CertificateDer<'_>]>,
    ) -> Result<(Arc<ClientConfig>, Certificates), Unusable> {
        let provider = provider();
        let mut certificates = Certificates::default();
        let roots = match &self.ca {
            Some(path) => {
                certificates.trusted = read_certificates(path)?;
                roots_of(path, &certificates.trusted)?
            }
            None => system_roots()?,
        };
        let of = self.ca.clone().unwrap_or_default();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let inner = verifier.build().map_err(|error| unusable(&of, error))?;
        let key = match &self.pair {
            Some((chain, key)) => Some(Arc::new(read_pair(chain, key, before, &provider)?.0)),
            None => None,
        };
        if let Some(key) = &key {
            certificates.shown.clone_from(&key.cert);
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.min_version.versions())
            .map_err(|error| unusable(&of, error))?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Looking { inner }))
            .with_client_cert_resolver(Arc::new(Asked { key }));
        // Records behind the handshake are opened and sealed in records.rs.
        config.enable_secret_extraction = true;
        Ok((Arc::new(config), certificates))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let pair = self.pair.iter().flat_map(|(chain, key)| [chain, key]);
        self.ca.iter().chain(pair)
    }

    /// What says whether one of them has changed.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |path: &PathBuf| {
            let it = fs::metadata(path).ok()?;
            Some((it.ino(), it.mtime(), it.mtime_nsec(), it.len()))
        };
        self.paths().map(stamp).collect()
    }
}

/// What stands in the files of a client.
#[derive(Default)]
pub(crate) struct Certificates {
    /// CAs of servers.
    pub(crate) trusted: Vec<CertificateDer<'static>>,
    /// Its own chain.
    pub(crate) shown: Vec<CertificateDer<'static>>,
}

/// Inode, time of the last change in seconds and nanoseconds, length: another file, or other contents.
type Stamp = (u64, i64, i64, u64);

/// The file that `SSL_CERT_FILE` names, or the system's.
fn system_roots() -> Result<RootCertStore, Unusable> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let named = named.map(PathBuf::from);
    let found = named.or_else(|| {
        let mut all = SYSTEM_CAS.iter().map(PathBuf::from);
        all.find(|path| path.is_file())
    });
    let Some(path) = found else {
        let why = "this system has no file of CAs (looked for ca-certificates.crt, ca-bundle.crt, cert.pem); allowed: the CA of the server by --tls-ca";
        return Err(unusable(Path::new(SYSTEM_CAS[0]), why));
    };
    let all = CertificateDer::pem_file_iter(&path).map_err(|error| unusable(&path, error))?;
    let mut roots = RootCertStore::empty();
    // Systems carry some that are too old to be read.
    let (added, _) = roots.add_parsable_certificates(all.flatten().take(SYSTEM_CAS_MAX));
    match added {
        0 => Err(unusable(&path, "no certificate of a CA in it (PEM)")),
        _ => Ok(roots),
    }
}

/// Makes connections of a client.
pub struct Connector {
    files: ClientFiles,
    name: Option<ServerName<'static>>,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ClientConfig>,
    /// Its own chain.
    shown: Vec<CertificateDer<'static>>,
    stamps: Vec<Option<Stamp>>,
    looked_at: Instant,
    /// Why what has changed cannot be used, and whether that was asked for.
    refused: Option<(String, bool)>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be used, or a name that no certificate has.
    pub fn new(files: ClientFiles) -> Result<Connector, String> {
        let name = files.name.as_deref().map(server_name).transpose()?;
        let stamps = files.stamps();
        let read = files.read_all(None);
        let (config, certificates) = read.map_err(|unusable| unusable.to_string())?;
        Ok(Connector {
            files,
            name,
            current: Mutex::new(Current {
                config,
                shown: certificates.shown,
                stamps,
                looked_at: Instant::now(),
                refused: None,
            }),
        })
    }

    /// One name is expected of all servers.
    pub fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// Begins with TLS on a socket that is connected. `host`: whose certificate is expected, if no name was given for
    /// all; a name or an address, as the operator wrote it.
    ///
    /// # Errors
    /// Neither names anybody, or what is named has no certificates.
    pub fn connect<S: Read + Write>(&self, socket: S, host: Option<&str>) -> io::Result<Stream<S>> {
        let name = match (&self.name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => server_name(host).map_err(io::Error::other)?,
            (None, None) => {
                return Err(io::Error::other(
                    "nobody has written whose certificate is expected there, and DNS is not asked for that; allowed: --tls-name",
                ))
            }
        };
        let session = Session::client(self.config(), name).map_err(io::Error::other)?;
        Stream::begin(socket, session)
    }

    /// What is to be used now: files that have changed are read again.
    fn config(&self) -> Arc<ClientConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked_at.elapsed() < LOOK_EVERY {
            return Arc::clone(&current.config);
        }
        current.looked_at = Instant::now();
        let stamps = self.files.stamps();
        if stamps != current.stamps {
            match self.files.read_all(Some(&current.shown)) {
                Ok((config, certificates)) => {
                    (current.config, current.shown) = (config, certificates.shown);
                    current.stamps = stamps;
                    current.refused = None;
                }
                // It may be half written: it is read again at the next look.
                Err(why) => {
                    let (why, was) = (why.to_string(), current.refused.take());
                    let is_told = was.is_some_and(|(before, is_told)| is_told && before == why);
                    current.refused = Some((why, is_told));
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Why files that have changed are not used, once for each reason; none: what they say is in use.
    pub fn take_refusal(&self) -> Option<String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (why, is_told) = current.refused.as_mut()?;
        (!std::mem::replace(is_told, true)).then(|| why.clone())
    }
}

/// A name that certificates can have.
///
/// # Errors
/// It is none, and what is allowed.
pub fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(text.trim_end_matches('.').to_owned());
    name.map_err(|_| {
        format!("{text:?} is no name that a certificate can have; allowed: a DNS name or an IP address (by --tls-name, where the address has none)")
    })
}

thread_local! {
    /// The certificate that a peer has shown last, when it is not taken: errors of rustls do not say whose it is.
    static SHOWN: RefCell<Option<Facts>> = const { RefCell::new(None) };
    /// A server has asked for a certificate.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// This thread does not take a certificate.
pub(crate) fn note_shown(certificate: &CertificateDer<'_>) {
    SHOWN.set(Facts::of(certificate));
}

/// The certificate that this thread has looked at last.
pub(crate) fn take_shown() -> Option<Facts> {
    SHOWN.with_borrow_mut(Option::take)
}

/// This thread was asked for a certificate.
pub(crate) fn take_asked() -> bool {
    ASKED.take()
}

/// The usual checks, and remembers what they looked at.
#[derive(Debug)]
struct Looking {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .inner
            .verify_server_cert(certificate, chain, name, ocsp, now);
        if verified.is_err() {
            note_shown(certificate);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What is shown to who asks.
#[derive(Debug)]
struct Asked {
    key: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // It is asked in any case: that there was a question is worth to know.
        true
    }
}
