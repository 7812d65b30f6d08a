//! `weir check` and `weir doctor` name what is wrong with certificates before clients do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use weir_testkit::process::run;
use weir_testkit::{Authority, Scratch};

fn said(words: &[&str]) -> (Option<i32>, String) {
    let output = run(words);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // The doctor breaks its lines.
    let words: Vec<&str> = said.split_whitespace().collect();
    (output.status.code(), words.join(" "))
}

#[test]
fn what_clients_will_refuse_soon_is_named() {
    let authority = Authority::new("examined");
    let soon = authority.pair_with("localhost", |params| {
        params.not_after = (SystemTime::now() + Duration::from_secs(5 * 86_400 + 60)).into();
    });
    std::fs::set_permissions(&soon.key, Permissions::from_mode(0o644)).expect("its mode");
    let scratch = Scratch::new("examined-toml");
    let toml = format!(
        "[[http_analyzers]]\nid = \"es\"\nendpoint = \"https://localhost:9200?tls_ca={}&tls_cert={}&tls_key={}\"\nweight = 1\n[tls]\nemitters_tls = \"required\"\ntls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\ntls_revoked = {:?}\n",
        authority.ca().display(),
        soon.cert.display(),
        soon.key.display(),
        soon.cert,
        soon.key,
        authority.ca(),
        authority.revoke_until(&[7], 2021)
    );
    let file = scratch.write("weir.toml", &toml).display().to_string();
    let whats = [
        "its certificate of localhost expires in 5 days, on ",
        "everybody on this host can read this key (mode 0644)",
        "TLS: analyzer es: ",
        "should have been followed by another on 2021-01-01: what was revoked since is let in",
    ];
    let (code, checked) = said(&["check", &file]);
    assert_eq!(code, Some(0), "{checked}");
    let (code, report) = said(&["doctor", "--config", &file]);
    assert_eq!(code, Some(1), "{report}");
    for what in whats {
        assert!(checked.contains(what), "{what}: {checked}");
        assert!(report.contains(what), "{what}: {report}");
    }
    let (_, report) = said(&["doctor", "--config", &file, "--json"]);
    assert!(report.contains("\"id\": \"certificates\""), "{report}");
}

#[test]
fn what_cannot_be_used_is_an_error_with_its_file() {
    let authority = Authority::new("unusable");
    let scratch = Scratch::new("unusable-toml");
    let (old, other) = (authority.expired("localhost"), authority.pair("other"));
    for (cert, key, what) in [
        (&old.cert, &old.key, "its certificate expired "),
        (&other.cert, &old.key, "it is not the key of "),
    ] {
        let toml =
            format!("[tls]\nhttp_tls = \"required\"\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
        let file = scratch.write("weir.toml", &toml).display().to_string();
        for (words, status) in [
            (["check", &file, ""], 1),
            (["doctor", "--config", &file], 2),
        ] {
            let words = words.into_iter().filter(|word| !word.is_empty());
            let (code, told) = said(&words.collect::<Vec<_>>());
            assert_eq!(code, Some(status), "{told}");
            assert!(told.contains(what), "{told}");
        }
    }
}

#[test]
fn a_ca_that_no_client_is_asked_for_is_named() {
    let authority = Authority::new("unasked");
    let pair = authority.pair("localhost");
    let file = authority.path("weir.toml");
    let toml = format!(
        "[tls]\nemitters_tls = \"required\"\ntls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\ntls_clients = ",
        pair.cert, pair.key, authority.ca()
    );
    for (clients, is_named) in [("off", true), ("optional", false)] {
        std::fs::write(&file, format!("{toml}{clients:?}\n")).expect("written");
        let (code, told) = said(&["check", &file.display().to_string()]);
        let names = told.contains("--tls-client-ca: no port asks clients for certificates");
        assert!(code == Some(0) && names == is_named, "{told}");
    }
}

/// What systemd hands over is found by its name, wherever that is.
#[test]
fn a_credential_is_found_by_its_name() {
    let authority = Authority::new("credentials");
    let (pair, scratch) = (
        authority.pair("localhost"),
        Scratch::new("credentials-toml"),
    );
    for (from, name) in [(&pair.cert, "tls.crt"), (&pair.key, "tls.key")] {
        std::fs::copy(from, scratch.path(name)).expect("copied");
    }
    let toml = "[tls]\nemitters_tls = \"required\"\ntls_cert = \"credential:tls.crt\"\ntls_key = \"credential:tls.key\"\n";
    let file = scratch.write("weir.toml", toml).display().to_string();
    let check = |folder: Option<&std::path::Path>| {
        let mut command = std::process::Command::new(weir_testkit::process::weir());
        command
            .args(["check", &file])
            .env_remove("CREDENTIALS_DIRECTORY");
        if let Some(folder) = folder {
            command.env("CREDENTIALS_DIRECTORY", folder);
        }
        let output = command.output().expect("it runs");
        let said = [&output.stdout[..], &output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, told) = check(Some(scratch.folder()));
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = check(None);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("weir.toml:3") && told.contains("LoadCredential=tls.crt:FILE"),
        "{told}"
    );
}
