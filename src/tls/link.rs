//! How TLS is begun with a server that a distributor delivers to.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, KeyLog};

use crate::certificate::Facts;
use crate::client::{server_name, ClientFiles};
use crate::failure::{of_url, Failure};
use crate::key_log::KeyLogger;
use crate::pem::Unusable;
use crate::session::Session;

/// Whose certificate is expected there, and what is trusted and shown; the latter may change while it is in use.
pub struct SecuredLink {
    label: String,
    name: ServerName<'static>,
    /// Shared by those that follow each other.
    current: Mutex<Slot>,
}

type Slot = Arc<Mutex<Arc<InUse>>>;

/// What its files said when they were read last and could be used.
struct InUse {
    files: ClientFiles,
    config: Arc<ClientConfig>,
    certificates: Vec<LinkCertificate>,
    /// The chain that it shows.
    shown: Vec<CertificateDer<'static>>,
}

/// Certificates of a link that are told of, at most: those that end first.
const CERTIFICATES_MAX: usize = 8;

/// A certificate that is shown to a server, or trusted of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkCertificate {
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// Which option of the URL names its file.
    pub option: &'static str,
    /// Serial number, hexadecimal with colons.
    pub serial: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SecuredLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecuredLink")
            .field("label", &self.label)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Two are the same that expect the same.
impl PartialEq for SecuredLink {
    fn eq(&self, other: &SecuredLink) -> bool {
        (&self.label, &self.name) == (&other.label, &other.name)
    }
}

impl Eq for SecuredLink {}

impl SecuredLink {
    /// `label`: what it is called in logs. `name`: whose certificate is expected, as the operator wrote it. Reads the files.
    /// `key_log`: where the secrets of its connections go. `before`: what is in use instead of it; a certificate of that
    /// which has expired since is no reason to refuse the rest.
    ///
    /// # Errors
    /// A file that cannot be used; no certificate can have such a name.
    pub fn new(
        label: &str,
        name: &str,
        files: ClientFiles,
        key_log: Option<&KeyLogger>,
        before: Option<&SecuredLink>,
    ) -> Result<SecuredLink, String> {
        let before = before.map(SecuredLink::in_use);
        let in_use = read(files, key_log, before.as_deref());
        let in_use = in_use.map_err(|unusable| format!("TLS: {unusable}"))?;
        Ok(SecuredLink {
            label: label.to_owned(),
            name: server_name(name).map_err(|why| format!("tls_name: {}", of_url(&why)))?,
            current: Mutex::new(Arc::new(Mutex::new(Arc::new(in_use)))),
        })
    }

    /// What it is called in logs.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A new connection's side of it.
    ///
    /// # Errors
    /// As of [`Session::client`].
    pub fn session(&self) -> Result<Session, Failure> {
        Session::client(Arc::clone(&self.in_use().config), self.name.clone())
    }

    /// What new connections show and trust, of files that its URL names: the first to end, 8 of them at most.
    pub fn certificates(&self) -> Vec<LinkCertificate> {
        self.in_use().certificates.clone()
    }

    /// The same number: they follow each other.
    pub fn followers(&self) -> usize {
        Arc::as_ptr(&lock(&self.current)).addr()
    }

    /// Those files: they may change while it is in use.
    pub fn paths(&self) -> Vec<PathBuf> {
        let in_use = self.in_use();
        in_use.files.paths().cloned().collect()
    }

    fn in_use(&self) -> Arc<InUse> {
        let slot = Arc::clone(&lock(&self.current));
        let in_use = lock(&slot);
        Arc::clone(&in_use)
    }

    /// From now on this trusts and shows what `next` does, and whatever `next` will follow.
    pub fn follow(&self, next: &SecuredLink) {
        let slot = Arc::clone(&lock(&self.current));
        let other = Arc::clone(&lock(&next.current));
        if Arc::ptr_eq(&slot, &other) {
            return;
        }
        let in_use = Arc::clone(&lock(&other));
        *lock(&slot) = in_use;
        *lock(&next.current) = slot;
    }
}

/// What the files of links have now, for connections whose secrets go to this file, if there is one. It blocks.
pub fn read_again(links: &[Arc<SecuredLink>], key_log: Option<&Path>) -> LinksRead {
    let (mut read_now, mut seen) = (LinksRead::default(), BTreeSet::new());
    let key_log = match key_log.map(KeyLogger::new).transpose() {
        Ok(key_log) => key_log,
        Err(unusable) => {
            read_now.refused.push(format!("--tls-key-log {unusable}"));
            return read_now;
        }
    };
    for link in links {
        // Those that follow each other have the same files.
        if !seen.insert(link.followers()) {
            continue;
        }
        let slot = Arc::clone(&lock(&link.current));
        let before = link.in_use();
        match read(before.files.clone(), key_log.as_ref(), Some(&before)) {
            Ok(now) => read_now.all.push((slot, Arc::new(now))),
            Err(unusable) => {
                let label = &link.label;
                let why = format!("analyzer {label}: TLS: {unusable}");
                read_now.refused.push(why);
            }
        }
    }
    read_now
}

/// What was read of links.
#[derive(Default)]
pub struct LinksRead {
    all: Vec<(Slot, Arc<InUse>)>,
    /// What cannot be used: the link, the file and why. It stays as it was.
    pub refused: Vec<String>,
}

impl LinksRead {
    /// New connections show and trust what could be used, from now on.
    pub fn use_it(self) {
        for (slot, in_use) in self.all {
            *lock(&slot) = in_use;
        }
    }
}

fn read(
    files: ClientFiles,
    key_log: Option<&KeyLogger>,
    before: Option<&InUse>,
) -> Result<InUse, Unusable> {
    let (config, all) = files.read_all(before.map(|it| &it.shown[..]))?;
    // Servers by OpenSSL that ask for certificates and have set no session_id_context (rsyslog's imtcp) end a handshake
    // that resumes. There are few connections: a whole one each costs nothing.
    let mut config = (*config).clone();
    config.resumption = Resumption::disabled();
    if let Some(KeyLogger(file)) = key_log {
        config.key_log = Arc::clone(file) as Arc<dyn KeyLog>;
    }
    let told = |option, of: &[CertificateDer<'static>]| -> Vec<LinkCertificate> {
        let facts = of.iter().filter_map(Facts::of);
        facts
            .map(|facts| LinkCertificate {
                not_after: facts.not_after,
                option,
                serial: facts.serial,
            })
            .collect()
    };
    let mut certificates = told("tls_ca", &all.trusted);
    certificates.extend(told("tls_cert", &all.shown));
    certificates.sort_unstable();
    // Of several CAs with one number, the first to end.
    let mut seen = BTreeSet::new();
    certificates.retain(|one| seen.insert((one.option, one.serial.clone())));
    certificates.truncate(CERTIFICATES_MAX);
    Ok(InUse {
        files,
        config: Arc::new(config),
        certificates,
        shown: all.shown,
    })
}
