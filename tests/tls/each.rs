//! Each file counts for itself: what is wrong with one keeps no other from being renewed, and no list hides another.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use weir_testkit::process::run;
use weir_testkit::{until, Authority, Distributor, Pair};

use super::client::Manner;
use super::renewal::{der_of, install};
use super::{distributor, Payloads};

const REQUIRED: &str = "--emitters-tls required";

/// What is shown to who asks for this name.
fn shown(distributor: &Distributor, manner: &Manner) -> Vec<u8> {
    let client = manner.connect(distributor.emitters).expect("a handshake");
    client.server_certificate()
}

/// What a client is told after its handshake; none: it is let in.
fn refused(distributor: &Distributor, authority: &Authority, shows: &Pair) -> Option<String> {
    let manner = Manner::new(&authority.ca(), Some(shows));
    let mut client = match manner.connect(distributor.emitters) {
        Ok(client) => client,
        Err(error) => return Some(error.to_string()),
    };
    let patience = Some(Duration::from_millis(300));
    client.0.sock.set_read_timeout(patience).expect("set");
    match client.0.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        told => Some(format!("{told:?}")),
    }
}

/// A pair that ends soon.
fn ending(authority: &Authority, name: &str, in_time: Duration) -> Pair {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = since.expect("after 1970") + in_time;
    authority.pair_with(name, |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    })
}

fn write_beside(to: &Path, text: &str) {
    let beside = to.with_extension("next");
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, to).expect("renamed");
}

#[test]
fn what_has_expired_or_is_broken_keeps_nothing_else_from_being_renewed() {
    let authority = Authority::new("each");
    let [old, served] = ["old", "served"].map(|name| Pair {
        cert: authority.path(&format!("{name}.pem")),
        key: authority.path(&format!("{name}.key")),
    });
    install(&ending(&authority, "old", Duration::from_secs(4)), &old);
    install(&authority.pair("localhost"), &served);
    let link = ending(&authority, "link", Duration::from_secs(4));
    let revoked = authority.revoke(&[76]);
    let client = authority.numbered("client", 77);
    let toml = format!(
        "[tls]\nemitters_tls = \"required\"\nhttp_tls = \"required\"\ntls_cert = [{:?}, {:?}]\ntls_key = [{:?}, {:?}]\ntls_client_ca = {:?}\ntls_revoked = {revoked:?}\n",
        old.cert, served.cert, old.key, served.key, authority.ca()
    );
    let file = authority.path("weir.toml");
    std::fs::write(&file, toml).expect("written");
    let url = format!(
        "https://localhost:9/?tls_ca={}&tls_cert={}&tls_key={}",
        authority.ca().display(),
        link.cert.display(),
        link.key.display()
    );
    let distributor = Distributor::start(&format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 1 --config {} --analyzer es=1@{url}",
        file.display()
    ));
    let manner = Manner::new(&authority.ca(), Some(&client));
    assert_eq!(refused(&distributor, &authority, &client), None);
    std::thread::sleep(Duration::from_secs(6));
    // Both have expired, and what is beside them changes.
    let next = authority.pair("localhost");
    install(&next, &served);
    let is_next = || shown(&distributor, &manner) == der_of(&next.cert);
    until("the other pair is renewed", is_next);
    assert_eq!(distributor.lines("cannot be used").len(), 0);
    distributor.signal("-HUP");
    distributor.wait_log("reloaded");
    authority.revoke(&[76, 77]);
    until("the list counts", || {
        refused(&distributor, &authority, &client).is_some_and(|told| told.contains("Revoked"))
    });
    assert_eq!(distributor.lines("expired").len(), 0, "it is known");
    // A broken pair is named, and stays; its neighbour does not wait for it.
    write_beside(&old.key, "no key");
    distributor.wait_log("no private key in it");
    let last = authority.pair("localhost");
    install(&last, &served);
    let manner = Manner::new(&authority.ca(), Some(&authority.pair("other")));
    until("it is renewed all the same", || {
        shown(&distributor, &manner) == der_of(&last.cert)
    });
    let name = manner.asking("old");
    let error = name.connect(distributor.emitters).err().expect("it is old");
    assert!(error.to_string().contains("xpired"), "{error}");
    install(&authority.pair("old"), &old);
    distributor.wait_log("all files of certificates can be used again");
    until("it is renewed at last", || {
        name.connect(distributor.emitters).is_ok()
    });
    distributor.stop().assert_clean();
}

#[test]
fn a_broken_file_of_cas_lets_in_nobody_who_was_revoked() {
    let authority = Authority::new("broken-cas");
    let cas = authority.path("cas.pem");
    std::fs::copy(authority.ca(), &cas).expect("copied");
    let revoked = authority.revoke(&[76]);
    let flags = format!(
        "{} {REQUIRED} --tls-client-ca {} --tls-revoked {}",
        authority.pair("localhost").flags(),
        cas.display(),
        revoked.display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    let [good, bad] = [78, 77].map(|serial| authority.numbered("client", serial));
    let told = |client| refused(&distributor, &authority, client);
    assert_eq!(told(&bad), None);
    write_beside(&cas, "no CA");
    distributor.wait_log("cas.pem: no certificate in it");
    authority.revoke(&[76, 77]);
    until("the list counts", || {
        told(&bad).is_some_and(|told| told.contains("Revoked"))
    });
    assert_eq!(told(&good), None);
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn of_two_lists_of_one_ca_the_newer_counts() {
    let authority = Authority::new("lists");
    let [before, since] = [76, 77].map(|serial| authority.numbered("client", serial));
    let (old, new) = (
        authority.list_of(&[76], [2020, 2090]),
        authority.list_of(&[76, 77], [2021, 2090]),
    );
    let file = authority.path("lists.pem");
    for text in [format!("{old}{new}"), format!("{new}{old}")] {
        std::fs::write(&file, text).expect("written");
        let flags = format!(
            "{} {REQUIRED} --tls-client-ca {} --tls-revoked {}",
            authority.pair("localhost").flags(),
            authority.ca().display(),
            file.display()
        );
        let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
        for client in [&before, &since] {
            let told = refused(&distributor, &authority, client);
            assert!(
                told.as_ref().is_some_and(|it| it.contains("Revoked")),
                "{told:?}"
            );
        }
        let named = distributor.wait_log("it has 2 lists of ");
        assert!(
            named.contains("the newest counts, of 2021-01-01"),
            "{named}"
        );
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}

/// A CA gets another key and keeps its name: for a while both are trusted, and each signs a list of its own.
#[test]
fn lists_of_two_cas_of_one_name_count_both() {
    let cas = [Authority::new("same"), Authority::new("same")];
    let scratch = Authority::new("others");
    let read = |ca: &Authority| std::fs::read_to_string(ca.ca()).expect("PEM");
    let (trusted, lists) = (scratch.path("cas.pem"), scratch.path("lists.pem"));
    std::fs::write(&trusted, format!("{}{}", read(&cas[0]), read(&cas[1]))).expect("written");
    let list = |ca: &Authority| ca.list_of(&[76], [2020, 2090]);
    std::fs::write(&lists, format!("{}{}", list(&cas[0]), list(&cas[1]))).expect("written");
    let flags = format!(
        "{} {REQUIRED} --tls-client-ca {} --tls-revoked {}",
        scratch.pair("localhost").flags(),
        trusted.display(),
        lists.display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    for ca in &cas {
        let its = |serial| refused(&distributor, &scratch, &ca.numbered("client", serial));
        assert_eq!(its(77), None);
        let told = its(76);
        assert!(
            told.as_ref().is_some_and(|it| it.contains("Revoked")),
            "{told:?}"
        );
    }
    drop(analyzer);
    distributor.stop().assert_clean();
}

/// One tells of all certificates, the other of a part of them: whatever is newer, both count.
#[test]
fn a_list_of_a_part_does_not_hide_that_of_all() {
    let authority = Authority::new("parts");
    let file = authority.path("lists.pem");
    let flags = format!(
        "{} {REQUIRED} --tls-client-ca {} --tls-revoked {}",
        authority.pair("localhost").flags(),
        authority.ca().display(),
        file.display()
    );
    let client = authority.numbered("client", 76);
    let all = |serials: &[u64], made| authority.list_of(serials, [made, 2090]);
    let part = |serials: &[u64], made| authority.list_of_part(serials, [made, 2090]);
    for (text, is_revoked) in [
        (all(&[76], 2020) + &part(&[], 2021), true),
        (all(&[], 2021) + &part(&[76], 2020), true),
        (part(&[76], 2021) + &all(&[], 2020), true),
        (all(&[], 2020) + &part(&[], 2021), false),
    ] {
        std::fs::write(&file, text).expect("written");
        let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
        let told = refused(&distributor, &authority, &client);
        let is_told = told.as_ref().is_some_and(|it| it.contains("Revoked"));
        assert!(
            is_told == is_revoked && told.is_some() == is_revoked,
            "{told:?}"
        );
        drop(analyzer);
        distributor.stop().assert_clean();
    }
}

#[test]
fn a_list_that_cannot_be_used_is_named_and_not_its_ca() {
    let authority = Authority::new("bad-lists");
    let good = authority.list_of(&[76], [2020, 2090]);
    let lines: Vec<&str> = good.lines().collect();
    let cut = format!("{}\n{}\n{}\n", lines[0], lines[1], lines[lines.len() - 1]);
    let ca = std::fs::read_to_string(authority.ca()).expect("PEM");
    let (lists, pair) = (authority.path("lists.pem"), authority.pair("localhost"));
    let toml = format!(
        "[tls]\nemitters_tls = \"required\"\ntls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\ntls_revoked = {lists:?}\n",
        pair.cert, pair.key, authority.ca()
    );
    let file = authority.path("weir.toml");
    std::fs::write(&file, toml).expect("written");
    let check = || {
        let output = run(&["check", &file.display().to_string()]);
        let said = [&output.stdout[..], &output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    for (text, why) in [
        (
            format!("{good}{cut}"),
            "list 2 of revoked certificates in it cannot be read",
        ),
        (
            delta_of(&good),
            "a list of revoked certificates in it: it is a delta of another",
        ),
        (ca, "no list of revoked certificates in it"),
    ] {
        std::fs::write(&lists, text).expect("written");
        let (code, said) = check();
        let expected = format!("{}: {why}", lists.display());
        assert!(
            code == Some(1) && said.contains(&expected),
            "{expected}: {said}"
        );
    }
    let stranger = Authority::new("stranger").list_of(&[1], [2020, 2090]);
    std::fs::write(&lists, stranger).expect("written");
    let (code, said) = check();
    assert!(
        code == Some(0) && said.contains("none of its lists is of a CA that is trusted there"),
        "{said}"
    );
}

/// The same list with the extension of its number made that of a delta (2.5.29.20 to 27): its signature is not looked at
/// before a client comes.
fn delta_of(list: &str) -> String {
    use rustls::pki_types::{pem::PemObject, CertificateRevocationListDer};

    let der = CertificateRevocationListDer::from_pem_slice(list.as_bytes()).expect("PEM");
    let mut der = der.to_vec();
    let number = [0x06, 0x03, 0x55, 0x1d, 20];
    let at = der
        .windows(5)
        .position(|it| it == number)
        .expect("a number");
    der[at + 4] = 27;
    let body: Vec<u8> = STANDARD.encode(der).into_bytes();
    let lines = body
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    let body: String = lines.collect();
    format!("-----BEGIN X509 CRL-----\n{body}-----END X509 CRL-----\n")
}
