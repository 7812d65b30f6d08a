//! What is said of inputs that are configured wrongly, and where they were.

use std::process::Command;

use weir_testkit::process::{self, run_command};
use weir_testkit::Scratch;

/// What `weir check` says of a file, and its exit status.
fn check(text: &str) -> (i32, String) {
    let scratch = Scratch::new("inputs");
    scratch.write("weir.toml", text);
    let mut command = Command::new(process::weir());
    command
        .current_dir(scratch.folder())
        .args(["check", "weir.toml"]);
    let output = run_command(&mut command);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("text");
    (output.status.code().expect("it ends"), said)
}

fn input(keys: &str) -> String {
    format!("[[inputs]]\nprotocol = 'frames'\nlisten = '127.0.0.1:8090'\n{keys}\n")
}

#[test]
fn a_file_may_have_inputs() {
    let (status, said) = check(&format!(
        "{}[[inputs]]\nname = 'edge'\nprotocol = ['frames', 'acked']\nlisten = '[::1]:8091'\nack = 'received'\nallow = ['10.0.0.0/8', 'fd00::/8']\nmax_connections = 10\n[sockets]\nany = '127.0.0.1:8092'\n[delivery]\nack_presume = '1s'\n",
        input("")
    ));
    assert_eq!(status, 0, "{said}");
}

#[test]
fn wrong_values_are_named_with_file_line_and_what_is_allowed() {
    for (keys, wanted) in [
        ("ack = 'acked'", "weir.toml:1: inputs[0]: ack=acked: frames has no acks; allowed: "),
        ("ack = 'now'", "weir.toml:4: inputs[0].ack = 'now': allowed: received, acked"),
        ("allow = 'lan'", "weir.toml:4: inputs[0].allow = 'lan': allowed: networks"),
        ("proxy_from = ['lb.example.org']", "weir.toml:4: inputs[0].proxy_from = ['lb.example.org']: allowed: networks"),
        ("max_connections = '9'", "weir.toml:4: inputs[0].max_connections = '9': allowed: a whole number without quotes"),
        ("max_connection = 9", "weir.toml:4: inputs[0].max_connection: no such key, did you mean max_connections?; it has protocol, listen, name"),
        ("unit_bytes = '1MiB'", "weir.toml:1: inputs[0]: unit_bytes: frames has none; allowed: with acked"),
        ("deadline = 30", "weir.toml:4: inputs[0].deadline = 30: allowed: text with a number and a unit"),
        ("name = 'a b'", "weir.toml:4: inputs[0].name = 'a b': allowed: 1 to 64 letters"),
        ("shared_key_file = 'key'", "weir.toml:1: inputs[0]: shared_key_file: frames has none; allowed: with forward"),
    ] {
        let (status, said) = check(&input(keys));
        assert_eq!(status, 1, "{keys}: {said}");
        assert!(said.contains(wanted), "{keys}: {said}");
    }
}

#[test]
fn tables_that_are_not_whole_and_inputs_that_collide_are_refused() {
    let frames = input("");
    for (text, wanted) in [
        ("inputs = 1".to_owned(), "weir.toml:1: inputs: allowed: tables that begin with [[inputs]]"),
        ("[[inputs]]\nlisten = '127.0.0.1:9'".to_owned(), "weir.toml:1: inputs[0].protocol is missing"),
        ("[[inputs]]\nprotocol = 'frames'".to_owned(), "weir.toml:1: inputs[0].listen is missing"),
        ("[[inputs]]\nprotocol = 'smoke'\nlisten = '127.0.0.1:9'".to_owned(), "weir.toml:2: inputs[0].protocol = 'smoke': protocol \"smoke\": allowed: frames"),
        ("[[inputs]]\nprotocol = 'frames'\nlisten = 'localhost'".to_owned(), "weir.toml:3: inputs[0].listen = 'localhost': allowed: an IP address and a port"),
        (format!("{frames}{frames}"), "weir.toml:5: inputs[1]: it is called frames-8090, as inputs[0] is; allowed: a name of its own"),
        (format!("{frames}{}", input("name = 'x'")), "--input x 127.0.0.1:8090: --input frames-8090 listens there (127.0.0.1:8090); allowed: a port or an address of its own (--input: weir.toml:1)"),
        (format!("{frames}[sockets]\nemitters = '0.0.0.0:8090'"), "--input frames-8090 127.0.0.1:8090: --emitters listens there"),
    ] {
        let (status, said) = check(&text);
        assert_eq!(status, 1, "{text}: {said}");
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn senders_that_wait_and_analyzers_that_ack_late_do_not_go_together() {
    let forward = "[[inputs]]\nprotocol = 'forward'\nlisten = '127.0.0.1:24224'\n";
    let any = "[sockets]\nany = '127.0.0.1:24224'\n";
    let (status, said) = check(forward);
    assert_eq!(status, 1, "{said}");
    for words in [
        "--input forward@127.0.0.1:24224: its senders wait for an ack",
        "ACKs every tenth message and never the rest",
        "allowed: ack=received for this input, --ack-presume TIME (1s), or --analyzer-token-file",
        "(--input: weir.toml:1)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (status, said) = check(any);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("--any 127.0.0.1:24224: its senders"),
        "{said}"
    );
    for more in ["[delivery]\nack_presume = '1s'\n"] {
        for inputs in [forward, any] {
            let (status, said) = check(&format!("{inputs}{more}"));
            assert_eq!(status, 0, "{said}");
        }
    }
    let (status, said) = check(&format!("{forward}ack = 'received'"));
    assert_eq!(status, 0, "{said}");
}

#[test]
fn what_speaks_first_stands_alone_and_frames_that_may_begin_with_any_byte_too() {
    let received = "listen = '127.0.0.1:9'\nack = 'received'\n";
    for (text, wanted) in [
        (format!("[[inputs]]\nprotocol = ['forward', 'frames']\nshared_key_file = 'key'\n{received}"), "with shared_key_file the distributor speaks first"),
        (format!("[[inputs]]\nprotocol = 'forward'\nusers_file = 'users'\n{received}"), "users_file: users are asked for with a shared key only"),
        (format!("[[inputs]]\nprotocol = 'forward'\nshared_key_file = 'gone'\n{received}"), "shared_key_file=gone: No such file"),
        (format!("[[inputs]]\nprotocol = 'any'\n{received}[memory]\nmax_frame = '16MiB'\narena = '512MiB'\n"), "with --max-frame 16MiB a frame may begin with any byte"),
    ] {
        let (status, said) = check(&text);
        assert_eq!(status, 1, "{text}: {said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}
