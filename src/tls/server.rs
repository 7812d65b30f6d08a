//! What a port serves: certificates, who is let in. Read from files, checked as a whole, then served as a whole.
//!
//! ```text
//! files --read, checked--> Served --put--> ServerPort <-- each new handshake takes what is there
//!             `- anything wrong: the file and why; what was served before stays
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::CipherSuite;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};

use crate::certificate::{covers, signs_nobody, Facts, Peer};
use crate::client::note_shown;
use crate::file::read_regular;
use crate::fingerprint::Fingerprint;
use crate::key_log::KeyLogFile;
use crate::names::{AllowedNames, NotAllowed};
use crate::tickets::SharedTickets;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// In a file's mode: everybody may read it.
const OTHERS_READ: u32 = 0o004;
/// Most certificates of a file.
const CERTIFICATES_MAX: usize = 256;

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; who shows none is let in, who shows a wrong one is not.
    Optional,
    /// Who shows none is not let in.
    Required,
}

/// Oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2: many appliances have no other.
    #[default]
    Tls12,
    /// 1.3 alone.
    Tls13,
}

impl MinVersion {
    /// The words for it.
    pub const WORDS: [&'static str; 2] = ["1.2", "1.3"];

    /// That of a word; 1.2 of what is none.
    pub fn of(word: &str) -> MinVersion {
        match word {
            "1.3" => MinVersion::Tls13,
            _ => MinVersion::Tls12,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        }
    }

    /// What is spoken.
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            MinVersion::Tls12 => rustls::ALL_VERSIONS,
            MinVersion::Tls13 => &TLS13,
        }
    }
}

/// What a port serves, as files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFiles {
    /// Chains and their keys, PEM. The first serves who asks for no name, or for one that nobody has.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// CAs of clients, PEM.
    pub client_ca: Option<PathBuf>,
    /// What of it is asked.
    pub clients: ClientCertificates,
    /// Lists of revoked certificates, PEM.
    pub revoked: Option<PathBuf>,
    /// Which clients are let in.
    pub names: AllowedNames,
    /// Oldest version.
    pub min_version: MinVersion,
    /// HTTP/1.1 is spoken there, and nothing else: a client that names protocols by ALPN must name it.
    pub is_http: bool,
    /// File that gets the secrets of all connections, in the format of NSS.
    pub key_log: Option<PathBuf>,
    /// Keys of tickets that several distributors share; none: own ones.
    pub ticket_keys: Option<PathBuf>,
}

/// A file that cannot be used, and why.
#[derive(Debug)]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what is allowed.
    pub why: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Unusable {}

/// What was read, checked, and can be served.
pub struct Served {
    /// For new handshakes.
    pub config: Arc<ServerConfig>,
    /// Of what says which clients are let in.
    trust: Fingerprint,
    /// The keys of tickets are out of a file.
    shares_tickets: bool,
    /// Of each certificate that is served.
    pub facts: Vec<Facts>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What a port serves now.
#[derive(Debug)]
pub struct ServerPort(Mutex<Arc<Served>>);

impl ServerPort {
    /// It begins with this.
    pub fn new(served: Arc<Served>) -> ServerPort {
        ServerPort(Mutex::new(served))
    }

    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        let served = self.0.lock();
        Arc::clone(&served.unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is served; connections that are there keep what they have. Tickets go on to be taken, unless other
    /// clients are let in than before: who has one is not looked at again. Keys out of a file are those that it has now.
    pub fn serve(&self, served: &Arc<Served>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Served {
            config: Arc::clone(&served.config),
            trust: served.trust,
            shares_tickets: served.shares_tickets,
            facts: served.facts.clone(),
        };
        let own = !next.shares_tickets && !current.shares_tickets;
        if own && next.trust == current.trust {
            let mut config = (*served.config).clone();
            config.ticketer = Arc::clone(&current.config.ticketer);
            next.config = Arc::new(config);
        }
        *current = Arc::new(next);
    }
}

impl Served {
    /// Reads and checks everything. It blocks.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(files: &ServerFiles) -> Result<Served, Unusable> {
        let provider = provider();
        let mut facts = Vec::new();
        let mut keys = Vec::new();
        for (chain, key) in &files.pairs {
            let (certified, fact) = read_pair(chain, key, &provider)?;
            facts.push(fact.clone());
            keys.push((fact.peer.names, Arc::new(certified)));
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_protocol_versions(files.min_version.versions())
            .map_err(|error| of_first(files, error))?;
        let builder = match client_verifier(files, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(BySni(keys)));
        let trust = trust_of(files)?;
        config.ticketer = match &files.ticket_keys {
            Some(path) => Arc::new(SharedTickets::read(path, trust)?),
            None => own_tickets().map_err(|why| of_first(files, why))?,
        };
        // A resumed handshake of TLS 1.3 exchanges keys all the same: it saves the certificates and nothing else. Who
        // shares keys wants them all the same.
        config.send_tls13_tickets = match (files.clients, &files.ticket_keys) {
            (ClientCertificates::Off, None) => 0,
            _ => 2,
        };
        config.max_early_data_size = 0;
        if files.is_http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        if let Some(path) = &files.key_log {
            config.key_log = Arc::new(KeyLogFile::new(path)?);
        }
        // Records behind the handshake are opened and sealed in records.rs.
        config.enable_secret_extraction = true;
        Ok(Served {
            config: Arc::new(config),
            trust,
            shares_tickets: files.ticket_keys.is_some(),
            facts,
        })
    }
}

/// The algorithms: those of AWS-LC. A client wants AES-128 first, which takes an eighth less time than AES-256; a server
/// goes by what its client wants.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use CipherSuite::{
        TLS13_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    };
    const FIRST: [CipherSuite; 3] = [
        TLS13_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !FIRST.contains(&suite.suite()));
    Arc::new(provider)
}

/// Tickets that all shards of this process make and take, with keys that change every six hours.
fn own_tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())
}

pub(crate) fn unusable(path: &Path, why: impl fmt::Display) -> Unusable {
    Unusable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// Of everything that says which clients are let in.
fn trust_of(files: &ServerFiles) -> Result<Fingerprint, Unusable> {
    let mut all = format!("{:?} {:?}", files.clients, files.names).into_bytes();
    for path in [&files.client_ca, &files.revoked].into_iter().flatten() {
        all.push(0);
        all.extend(read_file(path)?);
    }
    Ok(Fingerprint::of(&all))
}

fn of_first(files: &ServerFiles, error: impl fmt::Display) -> Unusable {
    let path = files.pairs.first().map(|(chain, _)| chain.clone());
    unusable(&path.unwrap_or_default(), error)
}

/// A file, if it is not longer than such files are.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Unusable> {
    read_regular(path, FILE_BYTES_MAX).map_err(|error| unusable(path, error))
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bytes = read_file(path)?;
    let all: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| unusable(path, format!("not PEM: {error}")))?;
    match all.len() {
        0 => Err(unusable(
            path,
            "no certificate in it (PEM, -----BEGIN CERTIFICATE-----)",
        )),
        1..=CERTIFICATES_MAX => Ok(all),
        many => Err(unusable(
            path,
            format!("{many} certificates, allowed: {CERTIFICATES_MAX}"),
        )),
    }
}

/// A chain and its key: that they belong together, and are valid now.
pub(crate) fn read_pair(
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Facts), Unusable> {
    let certificates = read_certificates(chain)?;
    let facts = Facts::of(&certificates[0])
        .ok_or_else(|| unusable(chain, "its first certificate cannot be read (X.509)"))?;
    check_time(&facts, now_s()).map_err(|why| unusable(chain, why))?;
    let pem = read_file(key)?;
    // PKCS#8, and the older forms.
    let has_passphrase = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| {
            pem.windows(mark.len())
                .any(|bytes| bytes == mark.as_bytes())
        });
    let der = PrivateKeyDer::from_pem_slice(&pem);
    let der = der.map_err(|error| match error {
        _ if has_passphrase => unusable(
            key,
            "this key has a passphrase, and nobody is there to say it; allowed: one without (`openssl pkey -in KEY -out NEW`)",
        ),
        PemError::NoItemsFound => unusable(
            key,
            "no private key in it (PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase)",
        ),
        other => unusable(key, format!("not PEM: {other}")),
    })?;
    let certified = CertifiedKey::from_der(certificates, der, provider);
    let certified = certified.map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            unusable(key, format!("it is not the key of {}", chain.display()))
        }
        other => unusable(key, format!("this key cannot be used: {other}")),
    })?;
    Ok((certified, facts))
}

/// Whether a chain and its key can be used: that they belong together, and are valid now. It reads files.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn check_pair(chain: &Path, key: &Path) -> Result<Facts, Unusable> {
    read_pair(chain, key, &provider()).map(|(_, facts)| facts)
}

/// Whether others than its owner and group can read a private key; what to do about it.
pub fn exposed_key(key: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let mode = fs::metadata(key).ok()?.mode();
    (mode & OTHERS_READ != 0).then(|| {
        format!(
            "{}: everybody on this host can read this key (mode {:04o}); allowed: chmod 600, or 640 with a group of its own",
            key.display(),
            mode & 0o7777
        )
    })
}

fn check_time(facts: &Facts, now_s: i64) -> Result<(), String> {
    let days = |from: i64, to: i64| (to - from) / 86_400;
    if now_s > facts.not_after {
        let ago = days(facts.not_after, now_s);
        return Err(format!(
            "its certificate expired {ago} days ago; a new one is needed"
        ));
    }
    if now_s < facts.not_before {
        return Err("its certificate is not valid yet; the clock of this host?".to_owned());
    }
    Ok(())
}

pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The roots of a PEM file of CAs.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, Unusable> {
    roots_of(path, &read_certificates(path)?)
}

/// The same, of what was read of it.
pub(crate) fn roots_of(
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        if let Some(whose) = signs_nobody(certificate) {
            let why = format!("the certificate of {whose} in it is no CA's: it signs nobody; allowed: CAs, and certificates that have signed themselves");
            return Err(unusable(path, why));
        }
        let added = roots.add(certificate.clone());
        added
            .map_err(|error| unusable(path, format!("a certificate in it is no CA's: {error}")))?;
    }
    Ok(roots)
}

fn client_verifier(
    files: &ServerFiles,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Unusable> {
    let Some(path) = files
        .client_ca
        .as_ref()
        .filter(|_| files.clients != ClientCertificates::Off)
    else {
        return Ok(None);
    };
    let roots = read_roots(path)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if files.clients == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    if let Some(path) = &files.revoked {
        let bytes = read_file(path)?;
        let lists: Result<Vec<_>, PemError> =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let lists = lists.map_err(|error| unusable(path, format!("not PEM: {error}")))?;
        if lists.is_empty() {
            return Err(unusable(
                path,
                "no list of revoked certificates in it (PEM, -----BEGIN X509 CRL-----)",
            ));
        }
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    let inner = builder.build().map_err(|error| unusable(path, error))?;
    Ok(Some(Arc::new(OnTheList {
        inner,
        names: files.names.clone(),
    })))
}

/// A certificate by the name that the client asks for.
#[derive(Debug)]
struct BySni(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_its =
            |names: &Vec<String>, wanted: &str| names.iter().any(|name| covers(name, wanted));
        let asked = hello.server_name();
        let is_asked = |names: &Vec<String>| asked.is_some_and(|wanted| is_its(names, wanted));
        // Of an ECDSA and an RSA certificate the one that the client can check.
        let schemes = hello.signature_schemes();
        let fits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let all = || self.0.iter();
        let named = || all().filter(|(names, _)| is_asked(names));
        let found = { named().find(|(_, key)| fits(key)) }
            .or_else(|| named().next())
            .or_else(|| all().find(|(_, key)| fits(key)))
            .or_else(|| all().next());
        found.map(|(_, key)| Arc::clone(key))
    }
}

/// A client whose certificate is trusted must be on the list as well. It learns by an alert that it is not.
#[derive(Debug)]
struct OnTheList {
    inner: Arc<dyn ClientCertVerifier>,
    names: AllowedNames,
}

impl OnTheList {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(certificate, chain, now)?;
        let refused = |not_allowed: NotAllowed| {
            let other = OtherError(Arc::new(not_allowed));
            Error::InvalidCertificate(CertificateError::Other(other))
        };
        let peer = Peer::of(certificate)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        self.names.check(&peer).map_err(refused)?;
        Ok(verified)
    }
}

impl ClientCertVerifier for OnTheList {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify(certificate, chain, now);
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
