//! What is looked at when a client comes with a ticket.

use rustls::{AlertDescription, CertificateError, Error};

use super::{Session, Side};
use crate::certificate::Facts;
use crate::failure::Failure;
use crate::pem::now_s;
use crate::records::Fault;
use crate::wire::Wire;

impl Session {
    /// A ticket is as good as its client's certificate, which rustls does not look at again: one that has expired since is
    /// refused as it would be without the ticket. In TLS 1.3 the client is told; rustls has no alert of ours in 1.2.
    pub(super) fn check_resumed(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let Side::Server(side) = &self.side else {
            return Ok(());
        };
        let shown = side.peer_certificates().and_then(<[_]>::first);
        let facts = shown.filter(|_| self.is_resumed()).and_then(Facts::of);
        if facts.is_none_or(|facts| facts.not_after >= now_s()) {
            return Ok(());
        }
        let error = Error::InvalidCertificate(CertificateError::Expired);
        let failure = self.failure(&error);
        self.convert()?;
        if let Side::Records(records) = &mut self.side {
            let fault = Fault::new(error, AlertDescription::CertificateExpired);
            records.say(&fault, wire);
        }
        (self.is_established, self.has_failed) = (false, true);
        Err(failure)
    }
}
