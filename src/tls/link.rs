//! How TLS is begun with a server that a distributor delivers to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::ClientConfig;

use crate::client::server_name;
use crate::failure::Failure;
use crate::session::Session;

/// Whose certificate is expected there, and what is trusted and shown; the latter may change while it is in use.
pub struct SecuredLink {
    label: String,
    name: ServerName<'static>,
    /// Shared by those that follow each other.
    current: Mutex<Slot>,
}

type Slot = Arc<Mutex<Arc<ClientConfig>>>;

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
    /// `label`: what it is called in logs. `name`: whose certificate is expected, as the operator wrote it.
    ///
    /// # Errors
    /// No certificate can have such a name.
    pub fn new(label: &str, name: &str, config: Arc<ClientConfig>) -> Result<SecuredLink, String> {
        // Servers by OpenSSL that ask for certificates and have set no session_id_context (rsyslog's imtcp) end a handshake
        // that resumes. There are few connections: a whole one each costs nothing.
        let mut config = (*config).clone();
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        Ok(SecuredLink {
            label: label.to_owned(),
            name: server_name(name)?,
            current: Mutex::new(Arc::new(Mutex::new(config))),
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
        let slot = Arc::clone(&lock(&self.current));
        let config = Arc::clone(&lock(&slot));
        Session::client(config, self.name.clone())
    }

    /// From now on this trusts and shows what `next` does, and whatever `next` will follow.
    pub fn follow(&self, next: &SecuredLink) {
        let slot = Arc::clone(&lock(&self.current));
        let other = Arc::clone(&lock(&next.current));
        if Arc::ptr_eq(&slot, &other) {
            return;
        }
        let config = Arc::clone(&lock(&other));
        *lock(&slot) = config;
        *lock(&next.current) = slot;
    }
}
