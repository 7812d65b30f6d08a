//! What scanners find at a port: the versions and suites that docs/TLS.md names, and nothing else.

use std::collections::BTreeSet;
use std::process::Command;

use weir_testkit::{peers, Authority, Distributor, Pair};

/// A pair with an RSA key, which rcgen does not make.
pub(super) fn rsa_pair(authority: &Authority) -> Option<Pair> {
    let pair = Pair {
        cert: authority.path("rsa.pem"),
        key: authority.path("rsa.key"),
    };
    let mut openssl = peers::program("openssl")?;
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]);
    openssl
        .arg("-out")
        .arg(&pair.cert)
        .arg("-keyout")
        .arg(&pair.key);
    let made = openssl.output().expect("it runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    Some(pair)
}

/// What docs/TLS.md says, as scanners write it: version, name of OpenSSL, name of the registry.
fn documented() -> Vec<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TLS.md");
    let text = std::fs::read_to_string(path).expect("docs/TLS.md");
    let rows = text.lines().filter(|line| line.starts_with("| TLSv1."));
    rows.map(|line| {
        let cells: Vec<&str> = line
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        (cells[1].into(), cells[2].into(), cells[3].into())
    })
    .collect()
}

/// With this kind of key: suites of TLS 1.2 name it.
fn expected(
    key: &str,
    name_of: impl Fn(&(String, String, String)) -> String,
) -> BTreeSet<(String, String)> {
    let all = documented();
    assert_eq!(all.len(), 9, "{all:?}");
    let of_key = all
        .iter()
        .filter(|row| row.0 == "TLSv1.3" || row.1.contains(&format!("ECDHE-{key}-")));
    of_key.map(|row| (row.0.clone(), name_of(row))).collect()
}

fn said(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The value of an attribute in an element of XML.
fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let begin = format!("{name}=\"");
    let (_, rest) = element.split_once(&begin).expect("the attribute");
    rest.split('"').next().expect("its value")
}

#[test]
fn scanners_find_the_documented_suites_and_no_others() {
    let authority = Authority::new("scanned");
    let Some(rsa) = rsa_pair(&authority) else {
        return;
    };
    for (key, pair) in [("ECDSA", authority.pair("localhost")), ("RSA", rsa)] {
        let flags = format!(
            "--shards 1 --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --emitters-tls required {}",
            pair.flags()
        );
        let distributor = Distributor::start(&flags);
        let port = distributor.emitters.port();
        sslscan(key, port);
        nmap(key, port);
        distributor.stop().assert_clean();
    }
}

fn sslscan(key: &str, port: u16) {
    let Some(mut sslscan) = peers::program("sslscan") else {
        return;
    };
    sslscan.args(["--xml=-", "--sni-name=localhost", "--no-fallback"]);
    let xml = said(sslscan.arg(format!("127.0.0.1:{port}")));
    let elements = |name: &str| {
        let begin = format!("<{name} ");
        let parts: Vec<String> = xml.split(&begin).skip(1).map(str::to_owned).collect();
        parts
    };
    let versions: BTreeSet<String> = elements("protocol")
        .iter()
        .filter(|one| attribute(one, "enabled") == "1")
        .map(|one| format!("{} {}", attribute(one, "type"), attribute(one, "version")))
        .collect();
    assert_eq!(
        versions,
        BTreeSet::from(["tls 1.2", "tls 1.3"].map(str::to_owned)),
        "{xml}"
    );
    let suites: BTreeSet<(String, String)> = elements("cipher")
        .iter()
        .filter(|one| ["accepted", "preferred"].contains(&attribute(one, "status")))
        .map(|one| {
            (
                attribute(one, "sslversion").to_owned(),
                attribute(one, "cipher").to_owned(),
            )
        })
        .collect();
    assert_eq!(suites, expected(key, |row| row.1.clone()), "{xml}");
    for (name, attributes) in [
        ("renegotiation", vec![("supported", "0")]),
        ("compression", vec![("supported", "0")]),
    ] {
        for element in elements(name) {
            for (attribute_name, value) in &attributes {
                let found = attribute(&element, attribute_name);
                // Secure renegotiation is how a server says that it cannot be cut into another session.
                let is_secure = name == "renegotiation" && attribute(&element, "secure") == "1";
                assert!(found == *value || is_secure, "{name}: {xml}");
            }
        }
    }
    let weak = elements("heartbleed");
    assert!(
        weak.iter().all(|one| attribute(one, "vulnerable") == "0"),
        "{xml}"
    );
}

fn nmap(key: &str, port: u16) {
    let Some(mut nmap) = peers::program("nmap") else {
        return;
    };
    let share = peers::unpacked().join("usr/share/nmap");
    if share.is_dir() {
        nmap.arg("--datadir").arg(&share);
        nmap.env(
            "LUA_CPATH",
            peers::unpacked()
                .join("usr/lib")
                .join(format!("{}-linux-gnu/lua/5.3/?.so", std::env::consts::ARCH)),
        );
    }
    nmap.args([
        "-Pn",
        "-n",
        "--unprivileged",
        "--script",
        "ssl-enum-ciphers",
        "-p",
        &port.to_string(),
        "127.0.0.1",
    ]);
    let text = said(&mut nmap);
    let (mut suites, mut version) = (BTreeSet::new(), String::new());
    for line in text
        .lines()
        .map(|line| line.trim_start_matches(['|', '_', ' ']).trim_end())
    {
        if let Some(name) = line
            .strip_suffix(':')
            .filter(|name| name.starts_with("TLSv") || name.starts_with("SSLv"))
        {
            version = name.to_owned();
        }
        // `TLS_AKE_WITH_AES_128_GCM_SHA256 (ecdh_x25519) - A`
        if let Some((suite, _)) = line
            .split_once(" (")
            .filter(|(suite, _)| suite.starts_with("TLS_"))
        {
            let suite = suite.replace("TLS_AKE_WITH_", "TLS_");
            suites.insert((version.clone(), suite));
        }
    }
    assert_eq!(suites, expected(key, |row| row.2.clone()), "{text}");
}
