//! What is looked at when a client comes with a ticket.

use rustls::{CertificateError, Error};

use super::{Session, Side};
use crate::certificate::Facts;
use crate::failure::Failure;
use crate::server::now_s;

impl Session {
    /// A ticket is as good as its client's certificate, which rustls does not look at again: one that has expired since is
    /// refused as it would be without the ticket.
    pub(super) fn check_resumed(&mut self) -> Result<(), Failure> {
        let Side::Server(side) = &self.side else {
            return Ok(());
        };
        let shown = side.peer_certificates().and_then(<[_]>::first);
        let facts = shown.filter(|_| self.is_resumed()).and_then(Facts::of);
        if facts.is_none_or(|facts| facts.not_after >= now_s()) {
            return Ok(());
        }
        (self.is_established, self.has_failed) = (false, true);
        Err(self.failure(&Error::InvalidCertificate(CertificateError::Expired)))
    }
}
