//! Sessions against rustls' own buffered connections, in memory, with bytes cut at any place.

mod judged;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, RevokedCertParams,
    SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

use super::*;
use crate::failure::FailureKind;
use crate::server::{provider, ClientCertificates, Served, ServerFiles};

/// A CA, and certificates of it, as files in a folder that goes away.
struct Ca {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new(name: &str) -> Ca {
        let folder = std::env::temp_dir().join(format!("weir-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        std::fs::write(folder.join("ca.pem"), &pem).expect("written");
        let issuer = Issuer::new(params, key);
        Ca {
            folder,
            issuer,
            pem,
        }
    }

    fn pair(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let paths = ["pem", "key"].map(|end| self.folder.join(format!("{name}.{end}")));
        std::fs::write(&paths[0], certificate.pem()).expect("written");
        std::fs::write(&paths[1], key.serialize_pem()).expect("written");
        let [chain, key] = paths;
        (chain, key)
    }

    fn served(&self, change: impl FnOnce(&mut ServerFiles)) -> Served {
        let mut files = ServerFiles {
            pairs: vec![self.pair("localhost", |_| ())],
            ..ServerFiles::default()
        };
        change(&mut files);
        Served::read(&files).expect("files that fit")
    }

    fn config(
        &self,
        with: Option<&(PathBuf, PathBuf)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
        provider: Arc<CryptoProvider>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(ca).expect("a CA");
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match with {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_file_iter(chain).expect("PEM");
                let chain: Result<Vec<_>, _> = chain.collect();
                let key = PrivateKeyDer::from_pem_file(key).expect("PEM");
                builder
                    .with_client_auth_cert(chain.expect("PEM"), key)
                    .expect("a pair")
            }
        }
    }

    fn client(
        &self,
        with: Option<&(PathBuf, PathBuf)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConnection {
        connection(self.config(with, versions, provider()))
    }
}

fn connection(config: ClientConfig) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client whose hello was answered: what it says next is its last of the handshake.
fn answered(client: &mut ClientConnection, session: &mut Session) {
    let (mut said, mut wire) = (Vec::new(), Wire::default());
    client.write_tls(&mut said).expect("memory");
    session
        .open(&mut said, &mut |_| (), &mut wire)
        .expect("a hello");
    let mut answer = wire.bytes();
    while !answer.is_empty() {
        client.read_tls(&mut answer).expect("memory");
        client.process_new_packets().expect("an answer");
    }
}

#[test]
fn a_connection_that_says_all_it_has_at_once_is_established() {
    let ca = Ca::new("at-once");
    let served = ca.served(|_| ());
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        for message in [&b"a message"[..], b""] {
            let mut client = ca.client(None, versions);
            let mut session = Session::server(Arc::clone(&served.config)).expect("valid");
            answered(&mut client, &mut session);
            client.writer().write_all(message).expect("memory");
            client.send_close_notify();
            let (mut said, mut plain) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut said).expect("memory");
            }
            let mut wire = Wire::default();
            session
                .open(
                    &mut said,
                    &mut |bytes| plain.extend_from_slice(bytes),
                    &mut wire,
                )
                .expect("a good client");
            // In TLS 1.2 a client sends nothing of its own before the server has finished too.
            if client.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                assert_eq!(plain, message);
                assert!(session.has_ended());
            }
            assert!(session.is_established(), "{versions:?} {message:?}");
        }
    }
}

/// Lets both talk, in pieces of so many bytes, until neither has anything to say. What the session received.
fn talk(
    client: &mut ClientConnection,
    session: &mut Session,
    piece: usize,
) -> Result<Vec<u8>, Failure> {
    let (mut plain, mut wire) = (Vec::new(), Wire::default());
    loop {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).expect("memory");
        }
        let is_silent = said.is_empty();
        let mut failed = None;
        for part in said.chunks_mut(piece) {
            if let Err(failure) =
                session.open(part, &mut |bytes| plain.extend_from_slice(bytes), &mut wire)
            {
                failed = Some(failure);
                break;
            }
        }
        let mut answer = wire.bytes();
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("memory");
            let _ = client.process_new_packets();
        }
        wire.clear();
        if let Some(failure) = failed {
            return Err(failure);
        }
        if is_silent && !client.wants_write() {
            return Ok(plain);
        }
    }
}

#[test]
fn bytes_go_both_ways_however_they_are_cut() {
    let ca = Ca::new("cut");
    let served = ca.served(|_| ());
    let said: Vec<u8> = (0..200_000u32).map(|nth| (nth % 251) as u8).collect();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for piece in [1, 2, 5, 6, 21, 1_000, 16_384, 16_406, 70_000] {
            let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
            let mut client = ca.client(None, &[version]);
            client.set_buffer_limit(None);
            talk(&mut client, &mut session, piece).expect("a handshake");
            assert!(session.is_established(), "{version:?} {piece}");
            client.writer().write_all(&said).expect("memory");
            let heard = talk(&mut client, &mut session, piece).expect("open");
            assert!(heard == said, "{version:?} {piece}");
            assert_eq!(session.carried_bytes(), 0);

            let mut wire = Wire::default();
            session.seal(&said, &mut wire).expect("open");
            session.end(&mut wire);
            let (mut sealed, mut heard) = (wire.bytes(), Vec::new());
            while !sealed.is_empty() {
                client.read_tls(&mut sealed).expect("memory");
                client
                    .process_new_packets()
                    .expect("sealed as it should be");
                let mut part = vec![0; 100_000];
                while let Ok(n @ 1..) = client.reader().read(&mut part) {
                    heard.extend_from_slice(&part[..n]);
                }
            }
            assert!(heard == said, "{version:?} {piece}");
        }
    }
}

#[test]
fn messages_of_a_handshake_travel_in_any_number_of_records() {
    let ca = Ca::new("records");
    let shown = ca.pair("web1", |_| ());
    let served = ca.served(|files| {
        files.client_ca = Some(ca.folder.join("ca.pem"));
        files.clients = ClientCertificates::Required;
    });
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (contents, piece) in [32, 45, 300]
            .iter()
            .flat_map(|c| [(*c, 1), (*c, 50), (*c, 1000)])
        {
            let mut config = ca.config(Some(&shown), &[version], provider());
            config.max_fragment_size = Some(contents);
            let mut client = connection(config);
            let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
            let heard = talk(&mut client, &mut session, piece).expect("a handshake");
            assert!(heard.is_empty());
            assert!(session.is_established(), "{version:?} {contents} {piece}");
            assert_eq!(session.peer().map(|peer| peer.name()), Some("web1".into()));
            client.writer().write_all(&[7; 1000]).expect("memory");
            let heard = talk(&mut client, &mut session, piece).expect("open");
            assert_eq!(heard, [7; 1000], "{version:?} {contents} {piece}");
            assert_eq!(session.carried_bytes(), 0);
        }
    }
}

#[test]
fn short_messages_are_no_records_without_contents() {
    let ca = Ca::new("short");
    let served = ca.served(|_| ());
    for suite in &provider().cipher_suites {
        let mut only = CryptoProvider::clone(&provider());
        only.cipher_suites = vec![*suite];
        let version = match suite {
            SupportedCipherSuite::Tls13(_) => &rustls::version::TLS13,
            SupportedCipherSuite::Tls12(_) => &rustls::version::TLS12,
        };
        if suite
            .suite()
            .as_str()
            .is_some_and(|name| name.contains("_RSA_"))
        {
            continue; // the certificate's key is another
        }
        let mut client = connection(ca.config(None, &[version], Arc::new(only)));
        let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
        talk(&mut client, &mut session, 1000).expect("a handshake");
        for nth in 0..100 {
            client.writer().write_all(&[nth]).expect("memory");
            let heard = talk(&mut client, &mut session, 1000);
            assert_eq!(heard.ok(), Some(vec![nth]), "{suite:?}");
        }
    }
}

#[test]
fn keys_are_updated_from_either_side_in_mid_stream() {
    let ca = Ca::new("update");
    let served = ca.served(|_| ());
    let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
    let mut client = ca.client(None, &[&rustls::version::TLS13]);
    talk(&mut client, &mut session, 100).expect("a handshake");
    for turn in 0..10u8 {
        client.refresh_traffic_keys().expect("1.3");
        client.writer().write_all(&[turn; 1000]).expect("memory");
        let heard = talk(&mut client, &mut session, 7).expect("open");
        assert_eq!(heard, [turn; 1000]);
        let mut wire = Wire::default();
        session.seal(&[turn; 500], &mut wire).expect("open");
        client.read_tls(&mut wire.bytes()).expect("memory");
        client.process_new_packets().expect("the new key");
        let mut heard = [0; 500];
        client.reader().read_exact(&mut heard).expect("500 bytes");
        assert_eq!(heard, [turn; 500]);
    }
}

#[test]
fn strangers_are_refused_by_their_reason() {
    let (ca, other) = (Ca::new("known"), Ca::new("unknown"));
    let served = ca.served(|files| {
        files.client_ca = Some(ca.folder.join("ca.pem"));
        files.clients = ClientCertificates::Required;
        files.names = crate::AllowedNames::new(vec!["web1".parse().expect("a name")]);
    });
    let old = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (with, kind) in [
            (None, Some(FailureKind::NoCertificate)),
            (
                Some(other.pair("web1", |_| ())),
                Some(FailureKind::UnknownCa),
            ),
            (Some(ca.pair("old", old)), Some(FailureKind::Expired)),
            (
                Some(ca.pair("early", early)),
                Some(FailureKind::NotYetValid),
            ),
            (
                Some(ca.pair("web2", |_| ())),
                Some(FailureKind::NameNotAllowed),
            ),
            (Some(ca.pair("web1", |_| ())), None),
        ] {
            let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
            let mut client = ca.client(with.as_ref(), &[version]);
            client.writer().write_all(b"a log").expect("memory");
            match (talk(&mut client, &mut session, 4096), kind) {
                (Err(failure), Some(kind)) => {
                    assert_eq!(failure.kind, kind, "{version:?}: {failure}");
                    assert!(!session.is_established());
                    let why = client.process_new_packets().expect_err("an alert");
                    assert!(matches!(why, Error::AlertReceived(_)), "{why}");
                }
                (Ok(heard), None) => {
                    assert_eq!(heard, b"a log");
                    assert_eq!(session.peer().expect("shown").name(), "web1");
                }
                (came, kind) => panic!("{version:?}: {came:?}, not {kind:?}"),
            }
        }
    }
}

#[test]
fn a_common_name_counts_where_there_is_no_san() {
    let ca = Ca::new("common");
    let long = rcgen::SanType::URI(["x"; 300].concat().try_into().expect("ASCII"));
    let shown = rcgen::SanType::DnsName("web2".to_owned().try_into().expect("ASCII"));
    for (sans, name) in [
        (vec![], Some("web1")),
        (vec![shown], Some("web2")),
        (vec![long], None),
    ] {
        let (chain, _) = ca.pair("web1", |params| {
            params.subject_alt_names = sans;
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "web1");
        });
        let certificate = CertificateDer::from_pem_file(chain).expect("PEM");
        let peer = Peer::of(&certificate).expect("a certificate");
        let expected = name.map_or(format!("sha256:{}", peer.fingerprint), str::to_owned);
        assert_eq!(peer.name(), expected);
        assert!(peer.is_called("web1") == (name == Some("web1")));
    }
}

#[test]
fn who_is_signed_by_a_ca_that_was_revoked_is_refused() {
    let ca = Ca::new("between");
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serial_number = Some(SerialNumber::from(7));
    let name = (rcgen::DnType::CommonName, "between");
    params.distinguished_name.push(name.0, name.1);
    let key = KeyPair::generate().expect("a key");
    let between = params.signed_by(&key, &ca.issuer).expect("signed").pem();
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec!["web1".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let own = params.signed_by(&key, &issuer).expect("signed").pem();
    let shown = ["web1.pem", "web1.key"].map(|name| ca.folder.join(name));
    std::fs::write(&shown[0], own + &between).expect("written");
    std::fs::write(&shown[1], key.serialize_pem()).expect("written");
    let [chain, key] = shown;
    for (serial, is_revoked) in [(6, false), (7, true)] {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&ca.issuer).expect("signed");
        let path = ca.folder.join("revoked.pem");
        std::fs::write(&path, list.pem().expect("PEM")).expect("written");
        let served = ca.served(|files| {
            files.client_ca = Some(ca.folder.join("ca.pem"));
            files.clients = ClientCertificates::Required;
            files.revoked = Some(path);
        });
        let pair = (chain.clone(), key.clone());
        let mut client = ca.client(Some(&pair), &[&rustls::version::TLS13]);
        let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
        let refused = talk(&mut client, &mut session, 1000).err();
        let expected = is_revoked.then_some(FailureKind::Revoked);
        assert_eq!(refused.map(|failure| failure.kind), expected);
    }
}

#[test]
fn what_is_no_tls_is_refused_and_so_are_records_without_end() {
    let ca = Ca::new("none");
    let served = ca.served(|_| ());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 300],
        &[22, 3, 1, 255, 255, 1, 0],
    ] {
        let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
        let mut bytes = bytes.to_vec();
        let mut wire = Wire::default();
        let failure = session
            .open(&mut bytes, &mut |_| (), &mut wire)
            .expect_err("no TLS");
        assert_eq!(failure.kind, FailureKind::Protocol);
    }
    let mut session = Session::server(Arc::clone(&served.config)).expect("settings");
    // A handshake message that never ends, in records that are whole.
    let mut failed = None;
    for nth in 0..20u8 {
        let mut record = vec![22, 3, 1, 0x40, 0x00];
        record.extend([0; 0x4000]);
        if nth == 0 {
            record[5..9].copy_from_slice(&[1, 0, 0xff, 0xff]);
        }
        failed = failed.or(session
            .open(&mut record, &mut |_| (), &mut Wire::default())
            .err());
    }
    assert!(failed.is_some() && session.carried_bytes() <= CARRIED_BYTES_MAX + 16_389);
}

#[test]
fn files_that_do_not_fit_are_named() {
    let ca = Ca::new("files");
    let (chain, key) = ca.pair("localhost", |_| ());
    let (_, other_key) = ca.pair("other", |_| ());
    let old = ca.pair("old", |params| {
        params.not_after = rcgen::date_time_ymd(2002, 1, 1)
    });
    let none = ca.folder.join("none.pem");
    let locked = |name: &str, text: &str| {
        let path = ca.folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let pkcs8 = locked(
        "pkcs8.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let pkcs1 = locked(
        "pkcs1.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    for ((chain, key), named, why) in [
        ((chain.clone(), pkcs8.clone()), &pkcs8, "has a passphrase"),
        ((chain.clone(), pkcs1.clone()), &pkcs1, "has a passphrase"),
        (
            (chain.clone(), other_key.clone()),
            &other_key,
            "it is not the key of",
        ),
        ((key.clone(), key.clone()), &key, "no certificate in it"),
        (
            (chain.clone(), chain.clone()),
            &chain,
            "no private key in it",
        ),
        ((none.clone(), key.clone()), &none, "No such file"),
        (old.clone(), &old.0, "expired"),
    ] {
        let files = ServerFiles {
            pairs: vec![(chain, key)],
            ..ServerFiles::default()
        };
        let unusable = Served::read(&files).expect_err(why);
        assert_eq!(&unusable.path, named);
        assert!(unusable.why.contains(why), "{unusable}");
    }
}

#[test]
fn who_signs_nobody_is_no_ca() {
    let ca = Ca::new("nobody");
    let leaf = ca.pair("leaf", |params| {
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, "a leaf");
    });
    let own = rcgen::generate_simple_self_signed(["own".to_owned()]).expect("a pair");
    let own_path = ca.folder.join("own.pem");
    std::fs::write(&own_path, own.cert.pem()).expect("written");
    let read = |path: &PathBuf| {
        Served::read(&ServerFiles {
            pairs: vec![ca.pair("localhost", |_| ())],
            client_ca: Some(path.clone()),
            clients: ClientCertificates::Required,
            ..ServerFiles::default()
        })
    };
    let unusable = read(&leaf.0).expect_err("a leaf");
    assert_eq!(unusable.path, leaf.0);
    assert!(
        unusable
            .why
            .contains("of leaf in it is no CA's: it signs nobody"),
        "{unusable}"
    );
    for path in [&own_path, &ca.folder.join("ca.pem")] {
        read(path).expect("it signs itself");
    }
}
