//! Which clients a port lets in: CAs that are trusted, certificates that were revoked, names that are on the list.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::certificate::Peer;
use crate::client::note_shown;
use crate::failure::of_list;
use crate::fingerprint::Fingerprint;
use crate::names::{AllowedNames, NotAllowed};
use crate::pem::{certificates_of, read_file, roots_of, unusable, Unusable};
use crate::revoked::{layers, lists_of};
use crate::server::{ClientCertificates, ServerFiles};

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// None: clients are not asked for certificates.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of everything that it was made of.
    pub(crate) fingerprint: Fingerprint,
    /// What the file of CAs had.
    cas: Option<Vec<u8>>,
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(crate) fn read(
        files: &ServerFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Trust, Unusable> {
        let cas = files.client_ca.as_deref().map(read_file).transpose()?;
        Trust::of(files, cas, provider)
    }

    /// The same, with the CAs that were read before: who is revoked is not let in because their file is broken.
    ///
    /// # Errors
    /// The list of revoked certificates cannot be used either.
    pub(crate) fn with_new_lists(
        &self,
        files: &ServerFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Trust, Unusable> {
        Trust::of(files, self.cas.clone(), provider)
    }

    fn of(
        files: &ServerFiles,
        cas: Option<Vec<u8>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Trust, Unusable> {
        let revoked = files.revoked.as_deref();
        let lists = revoked.map(read_file).transpose()?;
        let mut all = format!("{:?} {:?}", files.clients, files.names).into_bytes();
        for pem in [&cas, &lists].into_iter().flatten() {
            all.push(0);
            all.extend(pem);
        }
        let asks = files.clients != ClientCertificates::Off;
        let verifier = match files.client_ca.as_deref().zip(cas.as_ref()) {
            Some((path, pem)) if asks => {
                let roots = Arc::new(roots_of(path, &certificates_of(path, pem)?)?);
                let revoked = revoked.zip(lists.as_deref());
                Some(verifier(files, (path, &roots), revoked, provider)?)
            }
            _ => None,
        };
        Ok(Trust {
            verifier,
            fingerprint: Fingerprint::of(&all),
            cas,
        })
    }
}

fn verifier(
    files: &ServerFiles,
    (ca, roots): (&Path, &Arc<RootCertStore>),
    revoked: Option<(&Path, &[u8])>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let layer = |lists: Vec<CertificateRevocationListDer<'static>>| {
        let (roots, provider) = (Arc::clone(roots), Arc::clone(provider));
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        if files.clients == ClientCertificates::Optional {
            builder = builder.allow_unauthenticated();
        }
        if !lists.is_empty() {
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        builder.build().map_err(|error| match (error, revoked) {
            (VerifierBuilderError::InvalidCrl(why), Some((path, _))) => {
                let why = of_list(&why);
                unusable(path, format!("a list of revoked certificates in it: {why}"))
            }
            (error, _) => unusable(ca, error),
        })
    };
    let lists = revoked.map(|(path, pem)| lists_of(path, pem));
    let mut all = layers(lists.transpose()?.unwrap_or_default()).into_iter();
    let first = layer(all.next().unwrap_or_default())?;
    let others: Result<Vec<_>, Unusable> = all.map(layer).collect();
    Ok(Arc::new(OnTheList {
        first,
        others: others?,
        names: files.names.clone(),
    }))
}

/// A client whose certificate is trusted must be on the list as well. It learns by an alert that it is not.
#[derive(Debug)]
struct OnTheList {
    first: Arc<dyn ClientCertVerifier>,
    /// With other lists of revoked certificates, of CAs of the same names: of other keys, or about other parts.
    others: Vec<Arc<dyn ClientCertVerifier>>,
    names: AllowedNames,
}

impl OnTheList {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let revoked = |told: &Result<ClientCertVerified, Error>| {
            let it = Error::InvalidCertificate(CertificateError::Revoked);
            told.as_ref().is_err_and(|error| *error == it)
        };
        let mut verified = self.first.verify_client_cert(certificate, chain, now);
        for other in &self.others {
            // What any list says of it holds; what one cannot say, another may.
            let told = other.verify_client_cert(certificate, chain, now);
            if verified.is_err() && !revoked(&verified) || revoked(&told) {
                verified = told;
            }
        }
        let verified = verified?;
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
        self.first.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.first.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.first.root_hint_subjects()
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
        self.first
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.first.supported_verify_schemes()
    }
}
