//! Certificates and keys out of files: each file alone, and that a chain and a key belong together.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};

use crate::certificate::{day, signs_nobody, Facts};
use crate::failure::odd;
use crate::file::read_regular;
use crate::server::provider;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// In a file's mode: everybody may read it.
const OTHERS_READ: u32 = 0o004;
/// Most certificates of a file.
const CERTIFICATES_MAX: usize = 256;
/// Keys that this side can sign with.
const KEYS: &str = "allowed: RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, Ed25519";

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

pub(crate) fn unusable(path: &Path, why: impl fmt::Display) -> Unusable {
    Unusable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// A file, if it is not longer than such files are.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Unusable> {
    read_regular(path, FILE_BYTES_MAX).map_err(|error| unusable(path, error))
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    certificates_of(path, &read_file(path)?)
}

/// The same, of what was read of it.
pub(crate) fn certificates_of(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
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

/// A chain and its key: that they belong together, and are valid now. `before`: the chain that is in use, which is not
/// asked for its time again: who holds it knows already, and nothing else shall wait for its successor.
pub(crate) fn read_pair(
    chain: &Path,
    key: &Path,
    before: Option<&[CertificateDer<'_>]>,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Facts), Unusable> {
    let certificates = read_certificates(chain)?;
    let facts = Facts::of(&certificates[0])
        .ok_or_else(|| unusable(chain, "its first certificate cannot be read (X.509)"))?;
    if before.and_then(<[_]>::first) != certificates.first() {
        check_time(&facts, now_s()).map_err(|why| unusable(chain, why))?;
    }
    let certified = CertifiedKey::from_der(certificates, read_key(key)?, provider);
    let certified = certified.map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            unusable(key, format!("it is not the key of {}", chain.display()))
        }
        Error::InvalidCertificate(why) => unusable(
            chain,
            format!("its certificate cannot be used: {}", odd(&why).1),
        ),
        _ => unusable(key, format!("this key cannot be used; {KEYS}")),
    })?;
    Ok((certified, facts))
}

/// A private key: PKCS#8, and the older forms.
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let pem = read_file(path)?;
    let has_passphrase = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| {
            pem.windows(mark.len())
                .any(|bytes| bytes == mark.as_bytes())
        });
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        _ if has_passphrase => unusable(
            path,
            "this key has a passphrase, and nobody is there to say it; allowed: one without (`openssl pkey -in KEY -out NEW`)",
        ),
        PemError::NoItemsFound => unusable(
            path,
            "no private key in it (PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase)",
        ),
        other => unusable(path, format!("not PEM: {other}")),
    })
}

/// Whether a chain and its key can be used: that they belong together, and are valid now. It reads files.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn check_pair(chain: &Path, key: &Path) -> Result<Facts, Unusable> {
    read_pair(chain, key, None, &provider()).map(|(_, facts)| facts)
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
    if now_s > facts.not_after {
        let on = day(facts.not_after);
        return Err(format!(
            "its certificate expired on {on}; a new one is needed"
        ));
    }
    if now_s < facts.not_before {
        let from = day(facts.not_before);
        return Err(format!(
            "its certificate is valid from {from}, not yet; the clock of this host?"
        ));
    }
    Ok(())
}

pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The roots of certificates out of a PEM file of CAs.
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
