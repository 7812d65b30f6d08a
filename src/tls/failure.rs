//! Why a connection came to nothing: what it is counted under, and what is said of it.

use std::error::Error as _;
use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::certificate::Facts;
use crate::names::NotAllowed;

/// First bytes of records.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// The table of kinds: each line is a variant, and its label in metrics.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What a connection that came to nothing is counted under.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailureKind {
            $($(#[$doc])* $name,)+
        }

        impl FailureKind {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [FailureKind] = &[$(FailureKind::$name),+];

            /// Metric label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(FailureKind::$name => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// It has shown no certificate, and must.
    NoCertificate = "no_certificate",
    /// Its certificate is of nobody who is trusted.
    UnknownCa = "unknown_ca",
    /// Its certificate was valid once.
    Expired = "expired",
    /// Its certificate is not valid yet.
    NotYetValid = "not_yet_valid",
    /// Its certificate was taken back.
    Revoked = "revoked",
    /// Nobody of that name is let in.
    NameNotAllowed = "name_not_allowed",
    /// Its certificate is of no use for another reason.
    BadCertificate = "bad_certificate",
    /// It speaks no version, or no suite, that is spoken here.
    NoSharedVersion = "no_shared_version",
    /// It names protocols by ALPN, and none that is spoken there.
    NoApplicationProtocol = "no_application_protocol",
    /// It is a proxy, and its PROXY header cannot be read.
    ProxyHeader = "proxy_header",
    /// It does not speak TLS.
    Plain = "plain_text",
    /// It refuses this side: by an alert.
    Alert = "alert",
    /// It breaks the rules of TLS.
    Protocol = "protocol",
    /// Its handshake took too long.
    Timeout = "handshake_timeout",
    /// Too many handshakes at once, and it has been silent.
    Crowded = "handshake_displaced",
    /// A record of its has not come whole in time.
    RecordTimeout = "record_timeout",
    /// A record of its that has not come whole has held most, for longest.
    RecordMemory = "record_memory_full",
    /// It closed before the handshake was done.
    Closed = "closed_early",
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it is counted under.
    pub kind: FailureKind,
    /// What happened, and what to do about it.
    pub text: String,
    /// Whose certificate it is about, where that is known for certain: it is said once of each.
    pub whose: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// That a server's first bytes are not of TLS. None: they are, or may be.
    pub fn of_plain_answer(bytes: &[u8]) -> Option<Failure> {
        let first = bytes.first()?;
        if CONTENT_TYPES.contains(first) {
            return None;
        }
        let begin: String = bytes.escape_ascii().take(40).map(char::from).collect();
        let text = format!("it does not speak TLS at that port: its answer begins with {begin}");
        Some(Failure::new(FailureKind::Plain, text))
    }

    /// The same towards a server that a URL leads to: its options are the URL's, and no flags.
    pub fn of_url(mut self) -> Failure {
        self.text = self.text.replace("--tls-", "tls_");
        self
    }

    /// Of this kind.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            kind,
            text,
            whose: None,
        }
    }

    pub(crate) fn oversized() -> Failure {
        let text = "its handshake messages take more than 64 KiB; a shorter chain of certificates would do";
        Failure::new(FailureKind::Protocol, text)
    }

    pub(crate) fn empty_records() -> Failure {
        Failure::new(
            FailureKind::Protocol,
            "it sends records without contents (more than 32 in a row)",
        )
    }

    pub(crate) fn not_open() -> Failure {
        Failure::new(FailureKind::Protocol, "the connection is not open")
    }

    pub(crate) fn keys_used_up() -> Failure {
        Failure::new(
            FailureKind::Protocol,
            "its keys have sealed as many records as they may; it is to connect again",
        )
    }

    /// What rustls says, in words that name the next step.
    pub(crate) fn of(error: &Error) -> Failure {
        use FailureKind as Kind;
        let (kind, text) = match error {
            Error::NoCertificatesPresented => (
                Kind::NoCertificate,
                "it has shown no certificate, and this port asks for one".to_owned(),
            ),
            Error::InvalidCertificate(why) => of_certificate(why),
            Error::PeerIncompatible(why) => (Kind::NoSharedVersion, incompatible(why)),
            Error::NoApplicationProtocol => (
                Kind::NoApplicationProtocol,
                "it asks for other protocols than http/1.1 (ALPN), which is all that is spoken here; HTTP/2 and gRPC are not".to_owned(),
            ),
            Error::AlertReceived(alert) => (Kind::Alert, of_alert(*alert)),
            Error::InvalidMessage(why) => (
                Kind::Protocol,
                format!("it breaks the rules of TLS: {why:?}"),
            ),
            Error::PeerMisbehaved(why) => (
                Kind::Protocol,
                format!("it breaks the rules of TLS: {why:?}"),
            ),
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => (
                Kind::Protocol,
                "it says something of TLS that has no place there".to_owned(),
            ),
            Error::PeerSentOversizedRecord => (
                Kind::Protocol,
                "its records are longer than TLS allows".to_owned(),
            ),
            Error::DecryptError => (
                Kind::Protocol,
                "its bytes cannot be opened: changed on their way?".to_owned(),
            ),
            other => (Kind::Protocol, other.to_string()),
        };
        Failure::new(kind, text)
    }
}

impl Failure {
    /// The same, of a client; `shown`: its certificate, when that is what is wrong.
    pub(crate) fn of_client(error: &Error, shown: Option<&Facts>) -> Failure {
        let mut failure = Failure::of(error);
        if let Some(shown) = shown {
            failure.text = format!("{} [{shown}]", failure.text);
            // All others may be made up.
            let is_known = failure.kind == FailureKind::NameNotAllowed;
            failure.whose = is_known.then(|| shown.peer.name());
        }
        failure
    }

    /// The same, of a server that this side has asked; `shown`: its certificate, when that is what is wrong.
    pub(crate) fn of_server(error: &Error, shown: Option<&Facts>) -> Failure {
        let Failure { kind, mut text, .. } = Failure::of(error);
        let next = match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Some("its certificate is of a CA that is not trusted here; name that CA's file by --tls-ca")
            }
            // webpki has no name for it of rustls' own.
            Error::InvalidCertificate(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                Some("its certificate is that of a CA (basicConstraints CA:TRUE), and a server needs one that a CA has signed: `weir cert` makes both")
            }
            Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                Some("its certificate is of somebody else than who was asked for; --tls-name says whose is expected, if the address cannot")
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Some("it lets in only who shows a certificate (alert CertificateRequired); show one by --tls-cert and --tls-key")
            }
            Error::AlertReceived(AlertDescription::HandshakeFailure) => {
                Some("it does not agree to a handshake (alert HandshakeFailure): no suite in common, or it wants a certificate of this side (--tls-cert and --tls-key)")
            }
            Error::AlertReceived(AlertDescription::AccessDenied) => {
                Some("it does not let in who this side's certificate (--tls-cert) names (alert AccessDenied)")
            }
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
                Some("it speaks no version of TLS that is allowed here (1.2 and 1.3, or 1.3 alone)")
            }
            _ => None,
        };
        if let Some(next) = next {
            text = next.to_owned();
        }
        if let Some(shown) = shown {
            text = format!("{text} [{shown}]");
        }
        Failure::new(kind, text)
    }
}

fn of_certificate(why: &CertificateError) -> (FailureKind, String) {
    use FailureKind as Kind;
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            Kind::Expired,
            "its certificate has expired; it needs a new one, or the clocks differ".to_owned(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            Kind::NotYetValid,
            "its certificate is not valid yet; the clocks differ?".to_owned(),
        ),
        CertificateError::Revoked => (
            Kind::Revoked,
            "its certificate was revoked; it needs a new one".to_owned(),
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            Kind::UnknownCa,
            "its certificate is of a CA that is not trusted here; add that CA to the file of CAs, or give it a certificate of one that is"
                .to_owned(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            Kind::NameNotAllowed,
            format!("its certificate is of somebody else: {why}"),
        ),
        CertificateError::Other(other) => match other.source_of::<NotAllowed>() {
            Some(not_allowed) => (Kind::NameNotAllowed, not_allowed.to_string()),
            None => (Kind::BadCertificate, format!("its certificate: {why}")),
        },
        other => (Kind::BadCertificate, format!("its certificate: {other}")),
    }
}

/// What an error of somebody else's is, beneath what rustls puts around it.
trait Beneath {
    fn source_of<T: std::error::Error + 'static>(&self) -> Option<&T>;
}

impl Beneath for rustls::OtherError {
    fn source_of<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.source().and_then(|source| source.downcast_ref())
    }
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        // What 1.1 and older lack.
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "it speaks no version of TLS that is allowed here (1.2 and 1.3, or 1.3 alone)"
                .to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
            "it has no suite that is spoken here: AES-GCM or ChaCha20 with ECDHE".to_owned()
        }
        other => format!("it cannot do what TLS takes here: {other:?}"),
    }
}

/// The peer is the one that is not content.
fn of_alert(alert: AlertDescription) -> String {
    let next = match alert {
        AlertDescription::UnknownCA => "it does not know the CA of this side's certificate",
        AlertDescription::CertificateExpired => "it takes this side's certificate for expired",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not take this side's certificate"
        }
        AlertDescription::CertificateRequired => "it wants a certificate of this side",
        AlertDescription::AccessDenied => "it does not let this side in",
        AlertDescription::ProtocolVersion => "it speaks other versions of TLS",
        AlertDescription::UnrecognisedName => "it knows nobody of the name that it was asked for",
        AlertDescription::UserCanceled | AlertDescription::CloseNotify => "it has given up",
        _ => "it is not content with this side",
    };
    format!("{next} (alert {alert:?})")
}
