//! Certificates that are odd: what is wrong with one is said, of the right file, with what is allowed; what is not wrong counts.

use std::io::Read;
use std::process::Command;

use rcgen::{CertificateParams, CustomExtension, SanType};
use weir_testkit::numbered::numbered;
use weir_testkit::process::run;
use weir_testkit::{until, Authority, Pair};

use super::client::Manner;
use super::{distributor, Payloads};

/// What `weir check` says of a port that shows this; its exit code.
fn checked(authority: &Authority, pair: &Pair) -> (Option<i32>, String) {
    let toml = format!(
        "[tls]\nemitters_tls = \"required\"\ntls_cert = {:?}\ntls_key = {:?}\n",
        pair.cert, pair.key
    );
    let file = authority.path("weir.toml");
    std::fs::write(&file, toml).expect("written");
    let output = run(&["check", &file.display().to_string()]);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

/// An extension that nobody knows, and that nobody may pass over.
fn unknown(params: &mut CertificateParams) {
    let mut extension =
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

#[test]
fn what_is_wrong_is_said_of_the_file_that_has_it() {
    let authority = Authority::new("odd");
    let critical = authority.pair_with("localhost", unknown);
    let (code, said) = checked(&authority, &critical);
    let expected = format!(
        "{}: its certificate cannot be used: it has a critical extension that is not known here",
        critical.cert.display()
    );
    assert!(code == Some(1) && said.contains(&expected), "{said}");
    let old = authority.pair_with("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(1960, 1, 1);
    });
    let (code, said) = checked(&authority, &old);
    assert!(
        code == Some(0) && said.contains("valid from 1960-01-01 on"),
        "{said}"
    );
}

/// A key of this kind, by OpenSSL; none: it is not there, or has none of that kind.
fn pair_of(authority: &Authority, kind: &str, name: &str) -> Option<Pair> {
    let pair = Pair {
        cert: authority.path(&format!("{name}.pem")),
        key: authority.path(&format!("{name}.key")),
    };
    let words = format!("req -x509 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost {kind} -keyout {} -out {}", pair.key.display(), pair.cert.display());
    let made = Command::new("openssl")
        .args(words.split(' '))
        .output()
        .ok()?;
    made.status.success().then_some(pair)
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_those_that_can() {
    let authority = Authority::new("keys");
    for kind in [
        "-newkey rsa:1024",
        "-newkey ec -pkeyopt ec_paramgen_curve:secp256k1",
    ] {
        let Some(pair) = pair_of(&authority, kind, "odd") else {
            eprintln!("skipped: no openssl that makes {kind}");
            continue;
        };
        let (code, said) = checked(&authority, &pair);
        let expected = format!(
            "{}: this key cannot be used; allowed: RSA of 2048 to 8192 bits, ECDSA P-256",
            pair.key.display()
        );
        assert!(code == Some(1) && said.contains(&expected), "{said}");
    }
}

#[test]
fn a_client_whose_certificate_is_odd_is_told_of_in_words() {
    let authority = Authority::new("odd-clients");
    let flags = format!(
        "{} --emitters-tls required --tls-client-ca {}",
        authority.pair("localhost").flags(),
        authority.ca().display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    let is_ca = |params: &mut CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    let for_servers = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    for (pair, line) in [
        (
            authority.pair_with("critical", unknown),
            "it has a critical extension that is not known here; allowed: one without",
        ),
        (
            authority.pair_with("ca", is_ca),
            "it is that of a CA (basicConstraints CA:TRUE); allowed: ",
        ),
        (
            authority.pair_with("server", for_servers),
            "extended key usage",
        ),
    ] {
        let manner = Manner::new(&authority.ca(), Some(&pair));
        let _ = manner
            .connect(distributor.emitters)
            .map(|mut client| client.0.read(&mut [0; 100]));
        let said = distributor.wait_log(line);
        let is_plain = !said.contains("Other(") && !said.contains("Context");
        assert!(
            said.contains("its certificate cannot be used: ") && is_plain,
            "{said}"
        );
    }
    drop(analyzer);
    distributor.stop().assert_clean();
}

/// A certificate may have as many names as go into a handshake.
#[test]
fn each_of_many_names_counts() {
    let authority = Authority::new("many-names");
    let many = |params: &mut CertificateParams| {
        let names = (0..200).map(|n| {
            let name = format!("n{n}.example.org");
            SanType::DnsName(name.try_into().expect("a name"))
        });
        params.subject_alt_names = names.collect();
    };
    let (first, other) = (
        authority.pair("localhost"),
        authority.pair_with("many", many),
    );
    let [served, key] = [[&first.cert, &other.cert], [&first.key, &other.key]];
    let flags = format!(
        "--tls-cert {} --tls-cert {} --tls-key {} --tls-key {} --emitters-tls required --tls-client-ca {} --tls-names n199.example.org",
        served[0].display(), served[1].display(), key[0].display(), key[1].display(), authority.ca().display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), Some(&other)).asking("n199.example.org");
    let mut client = manner
        .connect(distributor.emitters)
        .expect("it has that name");
    client.send(&numbered(0, 60)).expect("sent");
    client.finish().expect("it is on the list");
    until("its message", || analyzer.read() == 1);
    drop(analyzer);
    distributor.stop().assert_clean();
}
