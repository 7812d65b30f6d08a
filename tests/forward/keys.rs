//! Keys that change while the distributor runs. The client is Python's own hashes and sockets.

use std::process::Command;

use weir_testkit::{until, Scratch};

/// HELO, PING, PONG: prints whether the key opened the door.
const CLIENT: &str = r#"
import hashlib, os, socket, sys
port, key = int(sys.argv[1]), sys.argv[2].encode()
stream = socket.create_connection(("127.0.0.1", port), 10)
stream.settimeout(10)
helo = b""
while b"\xa5nonce" not in helo or len(helo) < helo.index(b"\xa5nonce") + 24:
    helo += stream.recv(4096)
at = helo.index(b"\xa5nonce") + 6
assert helo[at:at + 2] == b"\xc4\x10", helo
nonce = helo[at + 2:at + 18]
salt = os.urandom(16)
digest = hashlib.sha512(salt + b"host" + nonce + key).hexdigest().encode()
stream.sendall(b"\x96\xa4PING\xa4host\xc4\x10" + salt + b"\xd9\x80" + digest + b"\xa0\xa0")
pong = stream.recv(4096)
assert pong[1:6] == b"\xa4PONG", pong
print("in" if pong[6] == 0xc3 else "out")
"#;

fn knocks(port: u16, key: &str) -> Option<String> {
    let client = Command::new("python3")
        .args(["-c", CLIENT, &port.to_string(), key])
        .output();
    let Ok(output) = client else {
        println!("skipped: there is no python3");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn a_key_that_changes_is_needed_from_the_reload_on_and_a_bad_file_changes_nothing() {
    let scratch = Scratch::new("forward-keys");
    let key = scratch.path("key");
    std::fs::write(&key, "first\n").expect("written");
    let distributor = super::distributor(&format!("&shared_key_file={}", key.display()));
    let port = distributor.input("forward").port();
    let Some(said) = knocks(port, "first") else {
        return;
    };
    assert_eq!(said, "in");

    std::fs::write(&key, "second\n").expect("written");
    assert_eq!(
        knocks(port, "second").as_deref(),
        Some("out"),
        "not read yet"
    );
    distributor.signal("-HUP");
    distributor.wait_log("reloaded");
    until("the shards have it", || {
        knocks(port, "second").as_deref() == Some("in")
    });
    assert_eq!(knocks(port, "first").as_deref(), Some("out"));
    assert_eq!(
        distributor
            .lines("reload inputs.forward: new connections")
            .len(),
        1
    );

    std::fs::remove_file(&key).expect("it is there");
    distributor.signal("-HUP");
    let why = distributor.wait_log("not reloaded");
    let file = format!("shared_key_file={}", key.display());
    assert!(why.contains(&file), "{why}");
    assert_eq!(
        knocks(port, "second").as_deref(),
        Some("in"),
        "the old one stays"
    );
    distributor.stop().assert_clean();
}
