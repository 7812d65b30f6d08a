//! Certificates change while connections stay.

use std::path::Path;
use std::time::{Duration, Instant};

use weir_testkit::numbered::numbered;
use weir_testkit::{until, Authority, Pair};

use super::client::Manner;
use super::{distributor, Payloads};

/// How often the certificates change; `WEIR_TLS_RENEWALS=1000` for the whole of it.
fn renewals() -> u64 {
    let asked = std::env::var("WEIR_TLS_RENEWALS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(30)
}

/// Puts a pair where the distributor looks, as cert-manager does: each file is another at once.
pub(super) fn install(from: &Pair, to: &Pair) {
    for (from, to) in [(&from.key, &to.key), (&from.cert, &to.cert)] {
        let beside = to.with_extension("next");
        std::fs::copy(from, &beside).expect("copied");
        std::fs::rename(&beside, to).expect("renamed");
    }
}

pub(super) fn der_of(cert: &Path) -> Vec<u8> {
    use rustls::pki_types::{pem::PemObject, CertificateDer};

    CertificateDer::from_pem_file(cert).expect("PEM").to_vec()
}

#[test]
fn certificates_change_under_load_and_a_broken_pair_changes_nothing() {
    let authority = Authority::new("renewal");
    let first = authority.pair("localhost");
    let served = Pair {
        cert: authority.path("served.pem"),
        key: authority.path("served.key"),
    };
    install(&first, &served);
    let flags = format!("{} --emitters-tls required", served.flags());
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), None);
    let mut stays = manner.connect(distributor.emitters).expect("connected");
    let (mut sent, mut current) = (0, der_of(&first.cert));
    let (mut slowest, mut handshakes) = (Duration::ZERO, 0u32);
    for round in 1..=renewals() {
        let next = authority.pair("localhost");
        let is_broken = round % 10 == 0;
        match is_broken {
            false => install(&next, &served),
            true => {
                let other = authority.pair("other");
                let broken = Pair {
                    key: other.key,
                    ..next.clone()
                };
                install(&broken, &served);
                until("the broken pair is named", || {
                    distributor.lines("it is not the key of").len() as u64 >= round / 10
                });
                install(
                    &Pair {
                        cert: first.cert.clone(),
                        key: first.key.clone(),
                    },
                    &served,
                );
                current = der_of(&first.cert);
            }
        }
        if !is_broken {
            current = der_of(&next.cert);
        }
        let installed = Instant::now();
        loop {
            stays.send(&numbered(sent, 60)).expect("the old one stays");
            sent += 1;
            // Every handshake is done, whatever the files have at this moment.
            let mut comes = manner.connect(distributor.emitters).expect("a handshake");
            comes.send(&numbered(sent, 60)).expect("sent");
            sent += 1;
            let shown = comes.server_certificate();
            comes.finish().expect("the end");
            handshakes += 1;
            if shown == current {
                break;
            }
            // 1 s is what users are told; a machine that runs other tests may be late.
            let is_late = installed.elapsed() > Duration::from_secs(5);
            assert!(!is_late, "round {round}: the old certificate is shown");
            std::thread::sleep(Duration::from_millis(5));
        }
        slowest = slowest.max(installed.elapsed());
    }
    stays.finish().expect("the end");
    until("all messages", || analyzer.read() as u64 == sent);
    eprintln!(
        "{} renewals, {handshakes} handshakes: each shown within {slowest:.2?}",
        renewals()
    );
    drop(analyzer);
    distributor.stop().assert_clean();
}
