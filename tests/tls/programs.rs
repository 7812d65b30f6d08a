//! Programs of others as clients: openssl, curl, Python, gnutls-cli.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use weir_testkit::{peers, until, Authority};

use super::{distributor, Payloads};

/// Messages of a program; `WEIR_TLS_MESSAGES=100000` for the whole of it.
pub(super) fn messages() -> usize {
    let asked = std::env::var("WEIR_TLS_MESSAGES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(20_000)
}

pub(super) fn lines(count: usize) -> String {
    (0..count)
        .map(|nth| format!("<13>message {nth}\n"))
        .collect()
}

/// Runs it with this input, piece by piece, and leaves it time to send each.
pub(super) fn feed(command: &mut Command, pieces: &[&str]) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    for piece in pieces {
        stdin.write_all(piece.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn openssl_sends_over_both_versions_resumes_and_updates_its_keys() {
    let Some(found) = peers::program("openssl") else {
        return;
    };
    let program = found.get_program().to_owned();
    let authority = Authority::new("openssl");
    let flags = format!(
        "{} --input syslog@127.0.0.1:0?name=s&tls=required --tls-client-ca {} --tls-clients optional",
        authority.pair("localhost").flags(),
        authority.ca().display()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    let address = distributor.input("s").to_string();
    let client = authority.pair("web1");
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["s_client", "-connect", &address, "-CAfile"]);
        command.arg(authority.ca()).arg("-verify_return_error");
        command.args(arguments);
        command
    };
    let count = messages();
    let mut wanted = 0;
    for version in ["-tls1_2", "-tls1_3"] {
        for with in [false, true] {
            let session = authority.path("session");
            let session = session.to_str().expect("UTF-8");
            let mut shows: Vec<&str> = Vec::new();
            let (cert, key) = (
                client.cert.to_str().expect("UTF-8"),
                client.key.to_str().expect("UTF-8"),
            );
            if with {
                shows.extend(["-cert", cert, "-key", key]);
            }
            let first = [
                &[version, "-quiet", "-no_ign_eof", "-sess_out", session][..],
                &shows,
            ]
            .concat();
            let said = feed(&mut openssl(&first), &[&lines(count)]);
            assert!(!said.contains("error"), "{version} {with}: {said}");
            wanted += count;
            let again = [&[version, "-no_ign_eof", "-sess_in", session][..], &shows].concat();
            let said = feed(&mut openssl(&again), &[&lines(100)]);
            wanted += 100;
            if with {
                assert!(said.contains("Reused, "), "{version}: {said}");
            }
            until("all of it", || analyzer.read() == wanted);
        }
    }
    // A line of K alone is an update of the keys, k one of its own.
    let said = feed(
        &mut openssl(&["-tls1_3"]),
        &[
            "<13>one\n",
            "K\n",
            "<13>two\n",
            "k\n",
            "<13>three\n",
            "K\n",
            "<13>four\n",
        ],
    );
    wanted += 4;
    until("what came between updates", || analyzer.read() == wanted);
    assert!(said.contains("KEYUPDATE"), "{said}");
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn python_sends_frames_and_curl_posts() {
    let (Some(mut python), Some(mut curl)) = (peers::program("python3"), peers::program("curl"))
    else {
        return;
    };
    let authority = Authority::new("python");
    let flags = format!(
        "{} --emitters-tls optional --http 127.0.0.1:0 --http-tls required",
        authority.pair("localhost").flags(),
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Texts);
    let script = r#"
import socket, ssl, sys
ca, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
frame = b'\0\0\0\x69\x03' + b'x' * 100
context = ssl.create_default_context(cafile=ca)
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context.maximum_version = version
    stream = context.wrap_socket(socket.create_connection(('127.0.0.1', port)), server_hostname='localhost')
    stream.sendall(frame * count)
    stream.unwrap()
plain = socket.create_connection(('127.0.0.1', port))
plain.sendall(frame * count)
plain.close()
"#;
    let count = messages();
    let output = python
        .args(["-c", script])
        .arg(authority.ca())
        .arg(distributor.emitters.port().to_string())
        .arg(count.to_string())
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    until("frames of both versions and in the clear", || {
        analyzer.read() == 3 * count
    });
    let http = distributor.http.expect("a port");
    let url = format!("https://localhost:{}/logs", http.port());
    let output = curl
        .args(["--silent", "--show-error", "--fail", "--cacert"])
        .arg(authority.ca())
        .args(["--header", "Content-Type: application/json", "--data"])
        .arg(r#"{"emitterId":"e1","messages":[{"level":"info","message":"hello"}]}"#)
        .arg(&url)
        .output()
        .expect("it runs");
    println!("{}", String::from_utf8_lossy(&output.stderr));
    until("what curl has posted", || analyzer.read() == 3 * count + 1);
    drop(analyzer);
    distributor.stop().assert_clean();
}
