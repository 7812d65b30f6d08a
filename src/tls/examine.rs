//! What is wrong with the files of a port, or soon will be, although they can be used: for who looks before clients complain.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::{day, expiry, Facts};
use crate::client::server_name;
use crate::pem::{now_s, read_certificates};
use crate::revoked::{newest, read_lists, RevocationList};
use crate::server::{provider, ServerFiles};

/// One sentence for each thing, with the file. Files that cannot be read are left out: they are refused elsewhere.
pub fn troubles(files: &ServerFiles) -> Vec<String> {
    troubles_at(files, now_s())
}

/// Certificates of a file that expire soon, likewise: of those that are trusted or shown where this side connects.
pub fn expiring(path: &Path) -> Vec<String> {
    let all = read_certificates(path).unwrap_or_default();
    let ends = all.iter().filter_map(|one| ends(one, now_s()));
    ends.map(|what| format!("{}: the {what}", path.display()))
        .collect()
}

fn troubles_at(files: &ServerFiles, now_s: i64) -> Vec<String> {
    let mut found = Vec::new();
    for (chain, _) in &files.pairs {
        for what in of_chain(chain, now_s) {
            found.push(format!("{}: {what}", chain.display()));
        }
    }
    let mut cas = Vec::new();
    if let Some(path) = &files.client_ca {
        cas = read_certificates(path).unwrap_or_default();
        let ends = cas.iter().filter_map(|one| ends(one, now_s));
        found.extend(ends.map(|what| format!("{}: the CA's {what}", path.display())));
    }
    if let Some(path) = &files.revoked {
        let whats = of_lists(path, &cas, now_s);
        found.extend(
            whats
                .into_iter()
                .map(|what| format!("{}: {what}", path.display())),
        );
    }
    found
}

/// When a certificate ends, if that is soon.
fn ends(certificate: &CertificateDer<'_>, now_s: i64) -> Option<String> {
    let facts = Facts::of(certificate)?;
    let expiry = expiry(facts.not_after, now_s)?;
    Some(format!("certificate of {} {expiry}", facts.peer.name()))
}

fn of_chain(path: &Path, now_s: i64) -> Vec<String> {
    let Ok(chain) = read_certificates(path) else {
        return Vec::new();
    };
    let (mut found, last) = (Vec::new(), chain.len() - 1);
    for (nth, certificate) in chain.iter().enumerate() {
        let which = if nth == 0 { "its" } else { "a CA's" };
        let what = ends(certificate, now_s);
        found.extend(what.map(|what| format!("{which} {what}")));
    }
    for (nth, pair) in chain.windows(2).enumerate() {
        let (Some(one), Some(next)) = (parsed(&pair[0]), parsed(&pair[1])) else {
            continue;
        };
        if one.issuer() != next.subject() {
            found.push(format!(
                "certificate {} of it has not signed the one before: that was {}; allowed: the server's, then each CA that signed the one before",
                nth + 2,
                one.issuer()
            ));
            return found;
        }
    }
    let Some(facts) = Facts::of(&chain[0]) else {
        return found;
    };
    if facts.not_before < 0 {
        let from = day(facts.not_before);
        found.push(format!(
            "its certificate is valid from {from} on: some clients take no time before 1970"
        ));
    }
    let names = facts.peer.names;
    if names.is_empty() {
        found.push("its certificate has no SAN: most clients look nowhere else for a name".into());
    }
    let is_for_servers = parsed(&chain[0]).is_none_or(|leaf| {
        let usage = leaf.extended_key_usage().ok().flatten();
        usage.is_none_or(|usage| usage.value.server_auth || usage.value.any)
    });
    if !is_for_servers {
        found.push("its certificate is not for servers (extended key usage without serverAuth): clients refuse it".into());
    } else if last > 0 && found.is_empty() {
        found.extend(unbuilt(&chain, &names, now_s));
    }
    found
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    Some(X509Certificate::from_der(certificate).ok()?.1)
}

/// Why who trusts the last certificate would not take the first.
fn unbuilt(chain: &[CertificateDer<'static>], names: &[String], now_s: i64) -> Option<String> {
    let (last, between) = chain[1..].split_last()?;
    let mut roots = RootCertStore::empty();
    roots.add(last.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().ok()?;
    let name = names.iter().find_map(|name| server_name(name).ok())?;
    let since = std::time::Duration::from_secs(u64::try_from(now_s).ok()?);
    let now = UnixTime::since_unix_epoch(since);
    match verifier.verify_server_cert(&chain[0], between, &name, &[], now) {
        Err(Error::InvalidCertificate(CertificateError::NotValidForName)) | Ok(_) => None,
        Err(error) => Some(format!("its chain does not hold: {error}")),
    }
}

/// `cas`: those that are trusted there.
fn of_lists(path: &Path, cas: &[CertificateDer<'_>], now_s: i64) -> Vec<String> {
    let lists = read_lists(path).unwrap_or_default();
    let (all, count) = (lists.clone(), newest(lists));
    let mut found = Vec::new();
    for list in &count {
        let (issuer, made) = (&list.issuer_name, day(list.made));
        let many = all.iter().filter(|other| list.replaces(other)).count();
        if many > 1 {
            found.push(format!(
                "it has {many} lists of {issuer}: the newest counts, of {made}"
            ));
        }
        if let Some(next) = list.next.filter(|next| *next < now_s) {
            found.push(format!(
                "the list of {issuer} should have been followed by another on {}: what was revoked since is let in",
                day(next)
            ));
        }
    }
    let is_of_one = |list: &RevocationList| {
        let mut cas = cas.iter().filter_map(parsed);
        cas.any(|ca| list.is_of(ca.subject().as_raw()))
    };
    if !count.is_empty() && !count.iter().any(is_of_one) {
        found.push("none of its lists is of a CA that is trusted there (--tls-client-ca): nobody whom such a CA has signed is refused by it".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{
        date_time_ymd, BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair,
    };

    const NOW: i64 = 1_800_000_000; // 2027-01-15

    struct Made {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    /// A certificate of this name; None: self-signed.
    fn make(
        name: &str,
        by: Option<&Made>,
        is_ca: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Made {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.not_after = date_time_ymd(2030, 1, 1);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let signed = match by {
            None => params.self_signed(&key),
            Some(by) => params.signed_by(&key, &by.issuer),
        };
        let pem = signed.expect("signed").pem();
        let issuer = Issuer::new(params, key);
        Made { pem, issuer }
    }

    fn said(chain: &[&Made]) -> String {
        let folder = std::env::temp_dir();
        let thread = std::thread::current();
        let path: PathBuf = folder.join(format!(
            "weir-chain-{}-{:?}",
            std::process::id(),
            thread.id()
        ));
        let text: String = chain.iter().map(|made| made.pem.as_str()).collect();
        fs::write(&path, text).expect("written");
        let files = ServerFiles {
            pairs: vec![(path.clone(), path.clone())],
            ..ServerFiles::default()
        };
        let found = troubles_at(&files, NOW).join("; ");
        fs::remove_file(&path).expect("removed");
        found
    }

    #[test]
    fn what_clients_would_refuse_is_named() {
        let root = make("root", None, true, |_| ());
        let middle = make("middle", Some(&root), true, |_| ());
        let leaf = make("a.example", Some(&middle), false, |_| ());
        assert_eq!(said(&[&leaf, &middle, &root]), "");
        assert_eq!(said(&[&leaf, &middle]), "");
        assert_eq!(said(&[&leaf]), "");
        let swapped = said(&[&leaf, &root, &middle]);
        assert!(
            swapped.contains("certificate 2 of it has not signed"),
            "{swapped}"
        );
        assert!(swapped.contains("that was CN=middle"), "{swapped}");
        // A CA of the same name that has not signed it.
        let other = make("middle", Some(&root), true, |_| ());
        assert!(said(&[&leaf, &other]).contains("chain does not hold"));
        let soon = make("a.example", Some(&root), false, |params| {
            params.not_after = date_time_ymd(2027, 1, 20);
        });
        assert!(said(&[&soon]).contains("a.example expires in 4 days, on 2027-01-20"));
        let old = make("old", Some(&root), true, |params| {
            params.not_after = date_time_ymd(2026, 1, 1);
        });
        let of_old = make("a.example", Some(&old), false, |_| ());
        assert!(said(&[&of_old, &old]).contains("a CA's certificate of old expired on 2026-01-01"));
        let client = make("a.example", Some(&root), false, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(said(&[&client]).contains("not for servers"));
        let no_san = make("a.example", Some(&root), false, |params| {
            params.subject_alt_names.clear();
        });
        assert!(said(&[&no_san]).contains("no SAN"));
    }
}
