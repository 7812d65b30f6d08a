//! Why a connection came to nothing: what it is counted under, and what is said of it.

use std::error::Error as _;
use std::fmt;

use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, PeerIncompatible,
    PeerMisbehaved,
};

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
    /// Which of several things of its kind: each is said of a peer, though another was.
    pub cause: &'static str,
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
        self.text = of_url(&self.text);
        self
    }

    /// Of this kind.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            kind,
            text,
            cause: kind.as_str(),
            whose: None,
        }
    }

    pub(crate) fn oversized() -> Failure {
        let text = "its handshake messages take more than 64 KiB; a shorter chain of certificates would do";
        Failure::new(FailureKind::Protocol, text)
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
            Error::InvalidCertRevocationList(why) => (
                Kind::BadCertificate,
                format!("the list of revoked certificates of its CA cannot be used, so nobody of that CA is let in: {}", of_list(why)),
            ),
            Error::InvalidMessage(why) => (
                Kind::Protocol,
                format!("it breaks the rules of TLS: {why:?}"),
            ),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments) => (
                Kind::Protocol,
                "it sends records without contents (more than 32 in a row)".to_owned(),
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
            Error::General(text) => (Kind::Protocol, text.clone()),
            other => (Kind::Protocol, other.to_string()),
        };
        Failure {
            cause: cause(error, kind).unwrap_or(kind.as_str()),
            ..Failure::new(kind, text)
        }
    }
}

/// Which of the errors of one kind it is.
fn cause(error: &Error, kind: FailureKind) -> Option<&'static str> {
    match error {
        Error::InvalidCertificate(why) if kind == FailureKind::BadCertificate => Some(odd(why).0),
        Error::InvalidCertRevocationList(_) => Some("revocation_list"),
        Error::AlertReceived(alert) => alert.as_str(),
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        ) => Some("suite"),
        Error::InvalidMessage(_) => Some("message"),
        Error::PeerMisbehaved(_) => Some("misbehaved"),
        Error::PeerSentOversizedRecord => Some("oversized"),
        Error::DecryptError => Some("decrypt"),
        _ => None,
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
        Failure {
            cause: cause(error, kind).unwrap_or(kind.as_str()),
            ..Failure::new(kind, text)
        }
    }
}

/// What is said of flags, said of the options of a URL.
pub(crate) fn of_url(text: &str) -> String {
    text.replace("--tls-", "tls_")
}

impl Failure {
    /// The same, behind a handshake of TLS 1.2. A server that wants another one (HelloRequest) is told that it is not made
    /// (alert NoRenegotiation, by rustls); it gives up by HandshakeFailure, or goes on asking.
    pub(crate) fn within(mut self, error: &Error) -> Failure {
        if let Error::AlertReceived(AlertDescription::HandshakeFailure)
        | Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) = error
        {
            self.text = "it wants another handshake in the middle of the connection (renegotiation of TLS 1.2), which is not made here; let it speak TLS 1.3, or set it not to renegotiate".to_owned();
            self.cause = "renegotiation";
        }
        self
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
            None => (Kind::BadCertificate, of_odd(why)),
        },
        other => (Kind::BadCertificate, of_odd(other)),
    }
}

fn of_odd(why: &CertificateError) -> String {
    format!("its certificate cannot be used: {}", odd(why).1)
}

/// What is wrong with a certificate that is neither out of its time nor of a stranger: a word for it, and a sentence.
pub(crate) fn odd(why: &CertificateError) -> (&'static str, String) {
    use CertificateError as Why;
    let (word, text) = match why {
        Why::BadEncoding => (
            "encoding",
            "it cannot be read (X.509, version 3; times from 1970 on)",
        ),
        Why::UnhandledCriticalExtension => ("critical_extension", CRITICAL),
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ("algorithm", ALGORITHMS),
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            return ("purpose", why.to_string())
        }
        // Errors of webpki that rustls has no name for.
        Why::Other(other) => {
            let beneath = other.source().map_or_else(String::new, ToString::to_string);
            match &beneath[..] {
                "UnsupportedCriticalExtension" => ("critical_extension", CRITICAL),
                "UnsupportedCertVersion" => ("version", "it is not of X.509 version 3"),
                "CaUsedAsEndEntity" => ("ca", "it is that of a CA (basicConstraints CA:TRUE); allowed: one that a CA has signed for its holder (`weir cert` makes both)"),
                "NameConstraintViolation" => ("names", "a CA of its chain may not sign such names (name constraints)"),
                "PathLenConstraintViolated" => ("path", "its chain has more CAs than one of them allows (path length)"),
                _ => return ("other", format!("{beneath} (webpki)")),
            }
        }
        other => return ("certificate", other.to_string()),
    };
    (word, text.to_owned())
}

const ALGORITHMS: &str = "a key or a signature of it, or of its chain, is of an algorithm that is not taken; allowed: RSA of 2048 bits or more, ECDSA P-256, P-384 or P-521, Ed25519, with SHA-256 or longer";
const CRITICAL: &str =
    "it has a critical extension that is not known here; allowed: one without, or not critical";

/// What is wrong with a list of revoked certificates.
pub(crate) fn of_list(why: &CertRevocationListError) -> String {
    use CertRevocationListError as Why;
    let text = match why {
        Why::BadSignature => "another key than the CA's has signed it",
        Why::IssuerInvalidForCrl => "its CA may not sign such lists (key usage without cRLSign)",
        Why::ParseError => "it cannot be read (X.509)",
        Why::UnsupportedCrlVersion => {
            "it is of version 1; allowed: version 2 (openssl: default_crl_ext)"
        }
        Why::UnsupportedDeltaCrl => "it is a delta of another; allowed: whole ones",
        Why::UnsupportedIndirectCrl => {
            "it tells of certificates of other CAs as well; allowed: one of each CA"
        }
        Why::UnsupportedCriticalExtension => CRITICAL,
        Why::UnsupportedRevocationReason => {
            "it is for some reasons of revocation alone; allowed: for all of them"
        }
        Why::InvalidCrlNumber => "its number is none (RFC 5280, 5.2.3)",
        Why::InvalidRevokedCertSerialNumber => "a serial number in it is none",
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ALGORITHMS,
        _ => "it is of a kind that is not known here",
    };
    text.to_owned()
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
