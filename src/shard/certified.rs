//! Whom a peer's certificate names: in lines of the log, and for limits.

use std::net::IpAddr;
use std::sync::Arc;

use super::admission::Customer;
use super::context::Context;
use super::port::Io;
use weir_config::LimitBy;
use weir_protocol::text::Field;

impl<I: Io> Context<I> {
    /// What to call a peer by its certificate; none: it has shown none.
    pub(super) fn certificate_of(&self, socket: &I::Socket) -> Option<Arc<str>> {
        let certificate = self.io.certificate(socket)?;
        Some(certificate.name().into())
    }

    /// Who a peer counts as.
    pub(super) fn customer(&self, address: IpAddr, certificate: Option<&str>) -> Customer {
        let by = self.config.protection.limit_by;
        self.shared.admission.customer(by, address, certificate)
    }

    /// What a peer is counted by, in words.
    pub(super) fn counted_by(&self, certificate: Option<&str>) -> &'static str {
        match (self.config.protection.limit_by, certificate) {
            (LimitBy::Address, _) | (_, None) => "address",
            (LimitBy::Both, Some(_)) => "address and certificate",
            (LimitBy::Certificate, Some(_)) => "certificate",
        }
    }
}

/// Behind a peer's address in a sentence of the log.
pub(super) fn in_words(certificate: Option<&str>) -> String {
    let certificate = certificate.map(Field);
    certificate.map_or_else(String::new, |name| format!(" (certificate {name})"))
}

/// Behind the fields of a line of the log.
pub(super) fn as_field(certificate: Option<&str>) -> String {
    let certificate = certificate.map(Field);
    certificate.map_or_else(String::new, |name| format!(" certificate={name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_line_reads_as_nothing_else() {
        assert_eq!(in_words(None) + &as_field(None), "");
        assert_eq!(in_words(Some("web1")), " (certificate web1)");
        assert_eq!(as_field(Some("a b=c")), " certificate=\"a b=c\"");
    }
}
