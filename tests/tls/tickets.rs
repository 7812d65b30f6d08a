//! Tickets whose keys are out of a file: a client resumes with every distributor that has it, and after a restart.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use rustls::HandshakeKind;
use weir_testkit::numbered::numbered;
use weir_testkit::{peers, until, Analyzer, Authority, Dialect, Distributor, Options, Pair};

use super::client::Manner;
use super::programs::feed;
use super::{distributor, Payloads};

/// A file with these keys, put in place at once.
fn write_keys(path: &Path, keys: &[u8], more: &str) {
    let line = |key: &u8| STANDARD.encode([*key; 80]) + "\n";
    let text: String = keys.iter().map(line).collect();
    let beside = path.with_extension("next");
    std::fs::write(&beside, text + more).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

/// openssl as a client with a certificate.
struct OpenSsl {
    authority: Authority,
    client: Pair,
    server: Pair,
    program: std::ffi::OsString,
}

impl OpenSsl {
    fn new(name: &str) -> Option<OpenSsl> {
        let program = peers::program("openssl")?.get_program().to_owned();
        let authority = Authority::new(name);
        Some(OpenSsl {
            client: authority.pair("web1"),
            server: authority.pair("localhost"),
            authority,
            program,
        })
    }

    fn distributor(&self, keys: &Path, more: &str) -> (Distributor, Analyzer) {
        let flags = format!(
            "{} --input syslog@127.0.0.1:0?name=s&tls=required --tls-client-ca {} --tls-ticket-keys {} {more}",
            self.server.flags(),
            self.authority.ca().display(),
            keys.display()
        );
        distributor(&flags, Payloads::Texts)
    }

    /// Sends a line; whether the session was resumed.
    fn sends(&self, to: &Distributor, version: &str, arguments: [&str; 2]) -> bool {
        let mut command = Command::new(&self.program);
        let address = to.input("s").to_string();
        command.args(["s_client", "-no_ign_eof", "-verify_return_error", version]);
        command.args(["-connect", &address]).args(arguments);
        command.arg("-CAfile").arg(self.authority.ca());
        command.arg("-cert").arg(&self.client.cert);
        command.arg("-key").arg(&self.client.key);
        let said = feed(&mut command, &["<13>a line\n"]);
        let (is_new, is_resumed) = (said.contains("New, "), said.contains("Reused, "));
        assert!(is_new != is_resumed, "{said}");
        is_resumed
    }

    /// A session of this distributor, as a file.
    fn session(&self, of: &Distributor, version: &str) -> PathBuf {
        let path = self.authority.path(&format!("session{version}"));
        let text = path.to_str().expect("UTF-8");
        assert!(!self.sends(of, version, ["-sess_out", text]));
        path
    }

    fn resumes(&self, to: &Distributor, version: &str, session: &Path) -> bool {
        self.sends(to, version, ["-sess_in", session.to_str().expect("UTF-8")])
    }
}

#[test]
fn a_session_of_one_distributor_is_resumed_at_another_and_after_a_restart() {
    let Some(openssl) = OpenSsl::new("replicas") else {
        return;
    };
    let (first, second) = (openssl.authority.path("1"), openssl.authority.path("2"));
    // The second has the next key already, which is not used yet.
    write_keys(&first, &[1, 2], "");
    write_keys(&second, &[1, 2, 3], "");
    let (one, analyzer) = openssl.distributor(&first, "");
    let (two, _analyzer) = openssl.distributor(&second, "");
    let (others, _analyzer) = openssl.distributor(&second, "--tls-names web1,web2");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = openssl.session(&one, version);
        assert!(openssl.resumes(&two, version, &session), "{version}");
        // Who resumes is not looked at again: so not where others are let in.
        assert!(!openssl.resumes(&others, version, &session), "{version}");
    }
    let session = openssl.session(&two, "-tls1_3");
    drop(analyzer);
    one.stop().assert_clean();
    let (one, _analyzer) = openssl.distributor(&first, "");
    assert!(openssl.resumes(&one, "-tls1_3", &session), "restarted");
}

#[test]
fn keys_are_followed_and_a_file_that_is_wrong_changes_nothing() {
    let Some(openssl) = OpenSsl::new("rotation") else {
        return;
    };
    let keys = openssl.authority.path("keys");
    write_keys(&keys, &[1, 2], "# no more yet\n");
    let (distributor, analyzer) = openssl.distributor(&keys, "");
    let session = openssl.session(&distributor, "-tls1_3");
    write_keys(&keys, &[1, 2, 3], "not a key\n");
    until("the line is named", || {
        let said = distributor.lines("line 4: 9 characters that are not base64");
        said.iter().any(|line| line.contains("served on"))
    });
    assert!(openssl.resumes(&distributor, "-tls1_3", &session));
    // Its key, the first, is no longer among the last three.
    write_keys(&keys, &[2, 3, 4], "");
    until("it is not taken", || {
        !openssl.resumes(&distributor, "-tls1_3", &session)
    });
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn a_wrong_file_of_keys_is_refused_at_the_start() {
    let authority = Authority::new("wrong-keys");
    let keys = authority.path("keys");
    std::fs::write(&keys, "c2hvcnQ=\n").expect("written");
    let line = format!(
        "distributor --emitters 127.0.0.1:0 --emitters-tls required {} --tls-ticket-keys {}",
        authority.pair("localhost").flags(),
        keys.display()
    );
    let output = weir_testkit::process::run(&line.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = format!("{}: line 1: a key of 5 bytes; allowed: ", keys.display());
    assert!(
        said.contains(&expected) && !said.contains("c2hvcnQ="),
        "{said}"
    );
}

/// With a ticket it would be let in for ever: each time it gets another one.
#[test]
fn who_was_let_in_is_refused_with_its_ticket_when_its_certificate_has_expired() {
    let authority = Authority::new("outlived");
    let distributor = Distributor::start(&format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --shards 1 --emitters-tls required {} --tls-client-ca {}",
        authority.pair("localhost").flags(),
        authority.ca().display()
    ));
    let options = Options::new(Dialect::Native, 1.0).id("a1");
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = since.expect("after 1970") + Duration::from_secs(6);
    let pair = authority.pair_with("e1", |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    });
    let manner = Manner::new(&authority.ca(), Some(&pair));
    let manners = [manner.of_1_2(), manner];
    let resumed = |manner: &Manner| {
        let mut client = manner.connect(distributor.emitters)?;
        client.send(&numbered(0, 100))?;
        let is_resumed = client.0.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        client.finish().map(|()| is_resumed)
    };
    for manner in &manners {
        assert!(!resumed(manner).expect("let in"), "it has no ticket");
        assert!(resumed(manner).expect("let in"), "it has one");
    }
    std::thread::sleep(Duration::from_secs(8));
    let [old, new] = &manners;
    let _ = resumed(old); // it is told nothing: its stream ends
    let mut client = new
        .connect(distributor.emitters)
        .expect("as far as it knows");
    let told = client.0.read(&mut [0]).map_err(|error| error.to_string());
    let is_told = { told.as_ref() }.is_err_and(|why| why.contains("CertificateExpired"));
    assert!(is_told, "{told:?}");
    distributor.wait_log("refused: its certificate has expired");
    until("those of before", || analyzer.read() == 4);
    drop(analyzer);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 4, "those of before");
}
