//! What a port serves: certificates, who is let in. Read from files, checked as a whole, then served as a whole.
//!
//! ```text
//! files --read, checked--> Served --put--> ServerPort <-- each new handshake takes what is there
//!             `- anything wrong: the file and why; what was served before stays
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, KeyLog, NoKeyLog, ServerConfig, SupportedProtocolVersion};

use crate::certificate::{covers, Facts};
use crate::key_log::KeyLogFile;
use crate::names::AllowedNames;
use crate::pem::{read_pair, unusable, Unusable};
use crate::tickets::SharedTickets;
use crate::trust::Trust;

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

/// What was read, checked, and can be served.
#[derive(Clone)]
pub struct Served {
    /// For new handshakes.
    pub config: Arc<ServerConfig>,
    pairs: Vec<ServedPair>,
    trust: Trust,
    /// The keys of tickets are out of a file.
    shares_tickets: bool,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts: Vec<&Facts> = self.facts().collect();
        f.debug_struct("Served")
            .field("facts", &facts)
            .finish_non_exhaustive()
    }
}

/// A chain and its key, and the files that they are out of.
#[derive(Clone, Debug)]
struct ServedPair {
    paths: (PathBuf, PathBuf),
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

impl ServedPair {
    fn read(
        paths: &(PathBuf, PathBuf),
        before: Option<&ServedPair>,
        provider: &CryptoProvider,
    ) -> Result<ServedPair, Unusable> {
        let before = before.map(|pair| &pair.certified.cert[..]);
        let (certified, facts) = read_pair(&paths.0, &paths.1, before, provider)?;
        Ok(ServedPair {
            paths: paths.clone(),
            certified: Arc::new(certified),
            facts,
        })
    }
}

/// What is done about a part that cannot be used.
enum OnUnusable {
    /// Nothing else is taken either.
    Stop,
    /// It stays as it was before, if it was; the others are taken.
    Keep(Vec<Unusable>),
}

impl OnUnusable {
    fn part<T: Clone>(
        &mut self,
        read: Result<T, Unusable>,
        before: Option<&T>,
    ) -> Result<T, Unusable> {
        match (read, self, before) {
            (Err(why), OnUnusable::Keep(found), Some(before)) => {
                found.push(why);
                Ok(before.clone())
            }
            (read, ..) => read,
        }
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
        let mut next = Served::clone(served);
        let own = !next.shares_tickets && !current.shares_tickets;
        if own && next.trust.fingerprint == current.trust.fingerprint {
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
        Served::read_after(files, None)
    }

    /// The same; `before`: what is served. A certificate of it that has expired since is no reason to refuse the rest.
    ///
    /// # Errors
    /// As [`Served::read`].
    pub fn read_after(files: &ServerFiles, before: Option<&Served>) -> Result<Served, Unusable> {
        Served::build(files, before, &mut OnUnusable::Stop)
    }

    /// What the files have now: each pair, who is let in, the keys of tickets. Which of them cannot be used stays as it was
    /// `before`, of the same files, and is told of. It blocks.
    ///
    /// # Errors
    /// A file that cannot be used, and was not before.
    pub fn renewed(
        files: &ServerFiles,
        before: &Served,
    ) -> Result<(Served, Vec<Unusable>), Unusable> {
        let mut keep = OnUnusable::Keep(Vec::new());
        let served = Served::build(files, Some(before), &mut keep)?;
        match keep {
            OnUnusable::Keep(found) => Ok((served, found)),
            OnUnusable::Stop => Ok((served, Vec::new())),
        }
    }

    fn build(
        files: &ServerFiles,
        before: Option<&Served>,
        or: &mut OnUnusable,
    ) -> Result<Served, Unusable> {
        let provider = provider();
        let mut pairs = Vec::new();
        for paths in &files.pairs {
            let was = before.and_then(|it| it.pairs.iter().find(|pair| pair.paths == *paths));
            pairs.push(or.part(ServedPair::read(paths, was, &provider), was)?);
        }
        let trust = Trust::read(files, &provider);
        let was = before.map(|it| &it.trust);
        let newer = was.filter(|_| trust.is_err());
        let newer = newer.and_then(|was| was.with_new_lists(files, &provider).ok());
        let trust = or.part(trust, newer.as_ref().or(was))?;
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder
            .with_protocol_versions(files.min_version.versions())
            .map_err(|error| of_first(files, error))?;
        let builder = match &trust.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let by_name = pairs.iter().map(|pair| {
            let names = pair.facts.peer.names.clone();
            (names, Arc::clone(&pair.certified))
        });
        let mut config = builder.with_cert_resolver(Arc::new(BySni(by_name.collect())));
        let tickets = Tickets::read(files, &trust);
        let was = match before {
            Some(was) if was.trust.fingerprint == trust.fingerprint => Some(Tickets {
                maker: Arc::clone(&was.config.ticketer),
                are_shared: was.shares_tickets,
            }),
            // Those that are out are of clients who may no longer be let in.
            Some(_) => Some(Tickets::own(files)?),
            None => None,
        };
        let tickets = or.part(tickets, was.as_ref())?;
        config.ticketer = tickets.maker;
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
        let key_log = match &files.key_log {
            Some(path) => KeyLogFile::new(path).map(|file| Arc::new(file) as Arc<dyn KeyLog>),
            None => Ok(Arc::new(NoKeyLog {}) as Arc<dyn KeyLog>),
        };
        config.key_log = or.part(key_log, before.map(|it| &it.config.key_log))?;
        // Records behind the handshake are opened and sealed in records.rs.
        config.enable_secret_extraction = true;
        Ok(Served {
            config: Arc::new(config),
            pairs,
            trust,
            shares_tickets: tickets.are_shared,
        })
    }

    /// Of each certificate that is served.
    pub fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.pairs.iter().map(|pair| &pair.facts)
    }
}

/// What makes tickets.
#[derive(Clone)]
struct Tickets {
    maker: Arc<dyn ProducesTickets>,
    /// Its keys are out of a file.
    are_shared: bool,
}

impl Tickets {
    fn read(files: &ServerFiles, trust: &Trust) -> Result<Tickets, Unusable> {
        let Some(path) = &files.ticket_keys else {
            return Tickets::own(files);
        };
        Ok(Tickets {
            maker: Arc::new(SharedTickets::read(path, trust.fingerprint)?),
            are_shared: true,
        })
    }

    /// With keys that change every six hours, which all shards of this process have.
    fn own(files: &ServerFiles) -> Result<Tickets, Unusable> {
        let maker = rustls::crypto::aws_lc_rs::Ticketer::new();
        Ok(Tickets {
            maker: maker.map_err(|error| of_first(files, error))?,
            are_shared: false,
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

fn of_first(files: &ServerFiles, error: impl fmt::Display) -> Unusable {
    let path = files.pairs.first().map(|(chain, _)| chain.clone());
    unusable(&path.unwrap_or_default(), error)
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
