//! Lists of revoked certificates (CRLs, RFC 5280, 5): out of a file, and which of them count.
//!
//! ```text
//! lists of one CA and one scope   the newest counts
//! of one CA and several scopes    each counts
//! of CAs of one name              each counts for what its key has signed: a CA gets another key, and keeps its name
//! ```

use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension};

use crate::pem::{read_file, unusable, Unusable};

/// Most lists of a file.
const LISTS_MAX: usize = 256;

/// One list, and what says which others it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    /// Of whom it is, as DER and in words.
    issuer: Vec<u8>,
    pub(crate) issuer_name: String,
    /// Which of its certificates it is about, as DER: all of them, if there is none.
    scope: Option<Vec<u8>>,
    /// Which key has signed it, where it says so.
    key: Option<Vec<u8>>,
    /// When it was made, and when another should follow, in seconds since 1970.
    pub(crate) made: i64,
    pub(crate) next: Option<i64>,
    /// Its number, big-endian.
    number: Vec<u8>,
}

impl RevocationList {
    fn of(der: CertificateRevocationListDer<'static>) -> Option<RevocationList> {
        let (_, parsed) = CertificateRevocationList::from_der(&der).ok()?;
        let extensions = parsed.extensions();
        let scope = { extensions.iter() }
            .find(|one| one.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT)
            .map(|one| one.value.to_vec());
        let key = extensions
            .iter()
            .find_map(|one| match one.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    key.key_identifier.as_ref().map(|key| key.0.to_vec())
                }
                _ => None,
            });
        Some(RevocationList {
            issuer: parsed.issuer().as_raw().to_vec(),
            issuer_name: parsed.issuer().to_string(),
            scope,
            key,
            made: parsed.last_update().timestamp(),
            next: parsed.next_update().map(|next| next.timestamp()),
            number: parsed
                .crl_number()
                .map_or_else(Vec::new, |it| it.to_bytes_be()),
            der,
        })
    }

    /// The newer of two is greater. Numbers without leading zeros: the longer is greater.
    fn age(&self) -> (i64, usize, &[u8]) {
        (self.made, self.number.len(), &self.number)
    }

    /// Whose certificates it tells of, and which of them.
    fn about(&self) -> (&[u8], Option<&[u8]>) {
        (&self.issuer, self.scope.as_deref())
    }

    /// It counts instead of another that is older.
    pub(crate) fn replaces(&self, other: &RevocationList) -> bool {
        self.about() == other.about() && self.key == other.key
    }

    /// It is of a CA with this name, as DER.
    pub(crate) fn is_of(&self, subject: &[u8]) -> bool {
        self.issuer == subject
    }
}

/// The lists of a PEM file, at least one.
pub(crate) fn read_lists(path: &Path) -> Result<Vec<RevocationList>, Unusable> {
    lists_of(path, &read_file(path)?)
}

/// The same, of what was read of it.
pub(crate) fn lists_of(path: &Path, pem: &[u8]) -> Result<Vec<RevocationList>, Unusable> {
    let all: Result<Vec<_>, PemError> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| unusable(path, format!("not PEM: {error}")))?;
    match all.len() {
        0 => {
            return Err(unusable(
                path,
                "no list of revoked certificates in it (PEM, -----BEGIN X509 CRL-----)",
            ))
        }
        1..=LISTS_MAX => {}
        many => {
            return Err(unusable(
                path,
                format!("{many} lists, allowed: {LISTS_MAX}"),
            ))
        }
    }
    let read = |(nth, der)| {
        RevocationList::of(der).ok_or_else(|| {
            let nth = nth + 1;
            unusable(
                path,
                format!("list {nth} of revoked certificates in it cannot be read (X.509 CRL)"),
            )
        })
    };
    all.into_iter().enumerate().map(read).collect()
}

/// Those that count: of each CA, scope and key the newest.
pub(crate) fn newest(mut lists: Vec<RevocationList>) -> Vec<RevocationList> {
    lists.sort_by(|one, other| other.age().cmp(&one.age()));
    let mut kept: Vec<RevocationList> = Vec::new();
    for list in lists {
        if !kept.iter().any(|newer| newer.replaces(&list)) {
            kept.push(list);
        }
    }
    kept
}

/// Lists to be looked at together: webpki takes the first that may tell of a certificate, whichever key has signed it, and
/// whatever others tell. So each layer has of each name the list of everything that one key has signed, or the lists of parts
/// of it. Each layer is to be asked.
pub(crate) fn layers(
    lists: Vec<RevocationList>,
) -> Vec<Vec<CertificateRevocationListDer<'static>>> {
    let kind = |list: &RevocationList| (list.key.clone(), list.scope.is_some());
    // Of each name: lists of one kind together.
    let mut of_each: Vec<Vec<Vec<RevocationList>>> = Vec::new();
    for list in newest(lists) {
        let of_it = of_each
            .iter_mut()
            .find(|kinds| kinds[0][0].issuer == list.issuer);
        let Some(kinds) = of_it else {
            of_each.push(vec![vec![list]]);
            continue;
        };
        match kinds.iter_mut().find(|all| kind(&all[0]) == kind(&list)) {
            Some(all) => all.push(list),
            None => kinds.push(vec![list]),
        }
    }
    let count = of_each.iter().map(Vec::len).max().unwrap_or(0);
    let layer = |nth: usize| {
        let lists = of_each
            .iter()
            .flat_map(|kinds| &kinds[nth.min(kinds.len() - 1)]);
        lists.map(|list| list.der.clone()).collect()
    };
    (0..count).map(layer).collect()
}
