//! A CA of a test, and certificates of it as files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};

use crate::Scratch;

/// See the head of this file. The files go away with it.
pub struct Authority {
    scratch: Scratch,
    issuer: Issuer<'static, KeyPair>,
    made: AtomicU32,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let common_name = (rcgen::DnType::CommonName, name.to_owned());
        params.distinguished_name.push(common_name.0, common_name.1);
        let key = KeyPair::generate().expect("a key");
        let scratch = Scratch::new(name);
        let pem = params.self_signed(&key).expect("signed").pem();
        scratch.write("ca.pem", &pem);
        let issuer = Issuer::new(params, key);
        Authority {
            scratch,
            issuer,
            made: AtomicU32::new(0),
        }
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.scratch.path("ca.pem")
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// A certificate of this name, and of 127.0.0.1.
    pub fn pair(&self, name: &str) -> Pair {
        self.pair_with(name, |_| ())
    }

    /// One that is different.
    pub fn pair_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        let common_name = (rcgen::DnType::CommonName, name.to_owned());
        params.distinguished_name.push(common_name.0, common_name.1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let name = format!("{name}-{}", self.made.fetch_add(1, Ordering::Relaxed));
        Pair {
            cert: self
                .scratch
                .write(&format!("{name}.pem"), &certificate.pem()),
            key: self
                .scratch
                .write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    /// One that expired long ago.
    pub fn expired(&self, name: &str) -> Pair {
        self.pair_with(name, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    /// One that is not valid for long.
    pub fn not_yet_valid(&self, name: &str) -> Pair {
        self.pair_with(name, |params| {
            params.not_before = rcgen::date_time_ymd(2090, 1, 1);
            params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        })
    }

    /// One with this serial number.
    pub fn numbered(&self, name: &str, serial: u64) -> Pair {
        self.pair_with(name, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    /// A list that says that the certificates with these serial numbers were revoked.
    pub fn revoke(&self, serials: &[u64]) -> PathBuf {
        self.revoke_until(serials, 2090)
    }

    /// The same, to be followed by another list at the beginning of a year.
    pub fn revoke_until(&self, serials: &[u64], year: i32) -> PathBuf {
        let list = self.list_of(serials, [2020, year]);
        self.scratch.write("revoked.pem", &list)
    }

    /// A list, PEM, made at the beginning of a year, and to be followed by another at that of the next.
    pub fn list_of(&self, serials: &[u64], years: [i32; 2]) -> String {
        self.list(serials, years, None)
    }

    /// The same, about the part of its certificates that is published at some place.
    pub fn list_of_part(&self, serials: &[u64], years: [i32; 2]) -> String {
        let point = CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://crl.example.org/1".to_owned()],
            },
            scope: None,
        };
        self.list(serials, years, Some(point))
    }

    fn list(
        &self,
        serials: &[u64],
        [made, next]: [i32; 2],
        issuing_distribution_point: Option<CrlIssuingDistributionPoint>,
    ) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(made, 1, 1),
            next_update: rcgen::date_time_ymd(next, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("signed");
        list.pem().expect("PEM")
    }
}

impl Pair {
    /// As flags of a distributor.
    pub fn flags(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("--tls-cert {cert} --tls-key {key}")
    }
}
