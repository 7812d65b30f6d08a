//! What peers and operators get wrong: the connection or the start is refused with a reason, the
//! reason is counted, and whatever was whole before it is delivered.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use weir_testkit::process::{run, run_command, weir};
use weir_testkit::wire::{self, DIALECTS};
use weir_testkit::{
    assert_exactly_once, numbered, socket, until, until_read, Acks, Analyzer, Dialect, Distributor,
    Emitter, Ended, Options,
};

const PAYLOAD: usize = 16;
const FRAME: usize = 5 + PAYLOAD;

/// A distributor of one shard with one compact analyzer.
fn one_analyzer(flags: &str) -> (Distributor, Analyzer) {
    let distributor = Distributor::start(&format!("--shards 1 {flags}"));
    let options = Options::new(Dialect::Compact, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    (distributor, analyzer)
}

fn three_frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..3 {
        numbered::put_numbered(&mut bytes, id, PAYLOAD);
    }
    bytes
}

/// Sends three whole frames, then `bad`, then a frame that must not be read any more.
fn emitter_sends_after_three(bad: &[u8]) -> Ended {
    let (distributor, analyzer) = one_analyzer("");
    let mut emitter = socket::connect(distributor.emitters);
    let all = [&three_frames(), bad, &numbered::numbered(3, PAYLOAD)].concat();
    emitter.write_all(&all).expect("writes");
    socket::read_to_close(&mut emitter);
    until_read(&[&analyzer], 3);
    let warned = distributor.wait_log("WARN");
    let peer = emitter.local_addr().expect("connected").to_string();
    let offset = format!("at byte {} of the stream", 3 * FRAME);
    assert!(
        warned.contains(&peer) && warned.contains(&offset),
        "{warned}"
    );
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 3);
    assert_exactly_once(&[&analyzer], 0..3);
    ended
}

#[test]
fn a_frame_that_is_too_short_ends_its_connection() {
    let ended = emitter_sends_after_three(&[0, 0, 0, 4, 1]);
    assert_eq!(ended.count("frame_too_short"), 1, "{ended:#?}");
    assert!(ended.stderr.contains(" 4"), "the length: {}", ended.stderr);
}

#[test]
fn a_frame_that_is_too_long_ends_its_connection() {
    let ended = emitter_sends_after_three(&[0, 0x10, 0, 1, 1]);
    assert_eq!(ended.count("frame_too_long"), 1, "{ended:#?}");
    let length = (1 << 20 | 1).to_string();
    assert!(ended.stderr.contains(&length), "{}", ended.stderr);
}

#[test]
fn a_frame_that_is_cut_off_is_counted_and_what_came_before_is_delivered() {
    let (distributor, analyzer) = one_analyzer("");
    for cut in [1, 4, FRAME - 1] {
        let mut emitter = socket::connect(distributor.emitters);
        let part = &numbered::numbered(99, PAYLOAD)[..cut];
        emitter
            .write_all(&[&three_frames(), part].concat())
            .expect("writes");
    }
    until_read(&[&analyzer], 9);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 9);
    assert_eq!(ended.count("frame_cut_off"), 3, "{ended:#?}");
}

#[test]
fn other_emitters_do_not_notice_a_bad_one() {
    let (distributor, analyzer) = one_analyzer("");
    let mut good = socket::connect(distributor.emitters);
    let (first, rest) = (
        numbered::numbered(0, PAYLOAD),
        numbered::numbered(1, PAYLOAD),
    );
    good.write_all(&first[..7]).expect("writes");
    let mut bad = socket::connect(distributor.emitters);
    bad.write_all(&[0; 64]).expect("writes");
    socket::read_to_close(&mut bad);
    good.write_all(&[&first[7..], &rest].concat())
        .expect("writes");
    until_read(&[&analyzer], 2);
    assert_exactly_once(&[&analyzer], 0..2);
    drop(good);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 2);
    assert_eq!(ended.count("frame_too_short"), 1, "{ended:#?}");
}

#[test]
fn more_emitters_than_allowed_are_turned_away() {
    let (distributor, analyzer) = one_analyzer("--max-connections 2");
    let mut kept: Vec<_> = (0..2)
        .map(|_| socket::connect(distributor.emitters))
        .collect();
    for (id, emitter) in (0..).zip(&mut kept) {
        emitter
            .write_all(&numbered::numbered(id, PAYLOAD))
            .expect("writes");
    }
    until_read(&[&analyzer], 2);
    socket::read_to_close(&mut socket::connect(distributor.emitters));
    drop(kept);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 2);
    assert_eq!(ended.count("connection_limit"), 1, "{ended:#?}");
}

/// Each first word is refused: closed, nothing sent, counted as `reason`; of each kind one is logged.
fn first_words_are_refused(flags: &str, words: &[&[u8]], reason: &str) {
    let distributor = Distributor::start(&format!("--shards 1 {flags}"));
    for word in words {
        let mut analyzer = socket::connect(distributor.analyzers);
        analyzer.write_all(word).expect("writes");
        socket::read_to_close(&mut analyzer);
    }
    distributor.wait_log("WARN");
    let ended = distributor.stop();
    assert_eq!(ended.count(reason), words.len() as u64, "{ended:#?}");
    ended.assert_clean();
}

#[test]
fn first_weight_not_a_number() {
    let compact = f32::NAN.to_be_bytes();
    let typed = f64::NAN.to_be_bytes();
    first_words_are_refused("", &[&compact, &typed], "first_weight_invalid");
    first_words_are_refused("--dialect typed", &[&typed], "first_weight_invalid");
}

#[test]
fn first_weight_infinite() {
    let compact = f32::INFINITY.to_be_bytes();
    let typed = f64::INFINITY.to_be_bytes();
    first_words_are_refused("", &[&compact, &typed], "first_weight_invalid");
    first_words_are_refused("--dialect compact", &[&compact], "first_weight_invalid");
}

#[test]
fn first_weight_negative() {
    let compact = (-0.5f32).to_be_bytes();
    let typed = (-0.5f64).to_be_bytes();
    first_words_are_refused("--dialect compact", &[&compact], "first_weight_invalid");
    first_words_are_refused("--dialect typed", &[&typed], "first_weight_invalid");
    // Its top bit says native, and it is no HELLO.
    first_words_are_refused("", &[&compact, &typed], "handshake_invalid");
}

#[test]
fn a_first_word_that_never_becomes_whole_is_given_up() {
    first_words_are_refused("", &[&[0x3F, 0xD9]], "handshake_timeout");
}

#[test]
fn hellos_that_cannot_be_met_are_answered_with_a_reason() {
    let distributor = Distributor::start("--shards 2");
    let good = wire::hello(1, 0.5, "a", None);
    let with = |at: usize, byte: u8| {
        let mut hello = good.clone();
        hello[at] = byte;
        hello
    };
    let cases = [
        (wire::hello(2, 0.5, "a", None), "version 2"),
        (with(1, b'X'), "magic"),
        (with(5, 0x80), "flags"),
        (wire::hello(1, f64::NAN, "a", None), "NaN"),
        (wire::hello(1, f64::INFINITY, "a", None), "inf"),
        (wire::hello(1, -1.0, "a", None), "-1"),
        (wire::hello(1, 0.5, "", None), "id of 0 bytes"),
        (wire::hello(1, 0.5, &"x".repeat(256), None), "256 bytes"),
        (with(32, 0xFF), "UTF-8"),
        (
            wire::hello(1, 0.5, "a\nanalyzer down", None),
            "control characters",
        ),
        (wire::hello(1, 0.5, "a", Some(2)), "shard 2"),
    ];
    for (hello, reason) in &cases {
        let mut analyzer = socket::connect(distributor.analyzers);
        analyzer.write_all(hello).expect("writes");
        let (welcome, said) = socket::read_welcome(&mut analyzer);
        assert_eq!(welcome.status, 1, "{reason}");
        assert!(said.contains(reason), "{reason}: {said}");
        assert_eq!(socket::read_to_close(&mut analyzer), [0u8; 0], "{reason}");
    }
    let ended = distributor.stop();
    let refused = ended.count("handshake_invalid");
    assert_eq!(refused, cases.len() as u64, "{ended:#?}");
    ended.assert_clean();
}

/// Two analyzers of a dialect, the first of which has been sent something and ACKs nothing.
fn one_to_misbehave(dialect: Dialect) -> (Distributor, Analyzer, Analyzer) {
    let distributor = Distributor::start("--shards 1");
    let options = Options::new(dialect, 1.0);
    let bad = options.clone().id("bad").acks(Acks::Never);
    let bad = Analyzer::connect(distributor.analyzers, &bad);
    let good = Analyzer::connect(distributor.analyzers, &options.id("good"));
    distributor.wait_lanes(2);
    Emitter::start(distributor.emitters, 0..20, PAYLOAD).join();
    until_read(&[&bad, &good], 20);
    assert_eq!(bad.read(), 10, "equal weights");
    (distributor, bad, good)
}

/// The link of `bad` is closed, and what it has not ACKed goes to `good`.
fn assert_rerouted(distributor: Distributor, bad: &Analyzer, good: &Analyzer, reason: &str) {
    until("the link to be closed", || bad.has_ended());
    until_read(&[good], 20);
    assert_exactly_once(&[good], 0..20);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 20);
    assert_eq!(ended.count(reason), 1, "{ended:#?}");
    assert_eq!(ended.rerouted(), 10, "{}", ended.stdout);
}

#[test]
fn an_ack_beyond_what_was_sent_closes_the_link_and_its_messages_go_to_others() {
    for dialect in DIALECTS {
        let (distributor, bad, good) = one_to_misbehave(dialect);
        bad.write(&wire::ack(dialect, 11));
        assert_rerouted(distributor, &bad, &good, "ack_beyond_sent");
    }
}

#[test]
fn an_unknown_control_type_closes_the_link_and_its_messages_go_to_others() {
    for dialect in [Dialect::Typed, Dialect::Native] {
        let (distributor, bad, good) = one_to_misbehave(dialect);
        bad.write(&[7]);
        assert_rerouted(distributor, &bad, &good, "control_unknown_type");
    }
}

#[test]
fn acks_that_repeat_or_go_back_are_ignored_and_counted() {
    for dialect in DIALECTS {
        let (distributor, bad, good) = one_to_misbehave(dialect);
        for sequence in [5, 5, 3, 0, 10] {
            bad.write(&wire::ack(dialect, sequence));
        }
        // The link lives: its share of what follows still goes to it.
        Emitter::start(distributor.emitters, 20..40, PAYLOAD).join();
        until_read(&[&bad, &good], 40);
        assert_eq!(bad.read(), 20, "{dialect:?}");
        bad.write(&wire::ack(dialect, 20));
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, 40);
        assert_eq!(ended.count("ack_stale"), 3, "{dialect:?} {ended:#?}");
        assert_eq!(ended.rerouted(), 0);
    }
}

#[test]
fn a_later_weight_that_is_invalid_is_ignored_and_counted() {
    for dialect in DIALECTS {
        let (distributor, bad, good) = one_to_misbehave(dialect);
        let mut invalid = vec![f64::NAN, f64::INFINITY];
        if dialect != Dialect::Compact {
            invalid.push(-1.0); // a compact word with its sign bit set is an ACK
        }
        for weight in &invalid {
            bad.write(&wire::weight(dialect, *weight));
        }
        bad.write(&wire::ack(dialect, 10));
        let count = invalid.len();
        until("a warning", || distributor.lines("WARN").len() == 1);
        Emitter::start(distributor.emitters, 20..40, PAYLOAD).join();
        until_read(&[&bad, &good], 40);
        assert_eq!(bad.read(), 20, "{dialect:?}: the weight is what it was");
        bad.write(&wire::ack(dialect, 20));
        let ended = distributor.stop();
        ended.assert_clean();
        assert_eq!(ended.count("weight_invalid"), count as u64, "{ended:#?}");
        let warned = ended.stderr.matches("WARN").count();
        assert_eq!(
            warned, 1,
            "a flood of them is counted, not logged: {ended:#?}"
        );
    }
}

#[test]
fn an_emitter_that_writes_single_bytes_is_understood() {
    let (distributor, analyzer) = one_analyzer("");
    let mut emitter = socket::connect(distributor.emitters);
    let mut bytes = Vec::new();
    for id in 0..40 {
        numbered::put_numbered(&mut bytes, id, 8 + id as usize);
    }
    socket::write_slowly(&mut emitter, &bytes);
    drop(emitter);
    until_read(&[&analyzer], 40);
    assert_exactly_once(&[&analyzer], 0..40);
    analyzer.assert_in_order();
    assert_eq!(distributor.stop().assert_clean().received, 40);
}

#[test]
fn an_analyzer_that_writes_single_bytes_is_understood() {
    // Pinned: how long a typed client may rest after its fourth byte is not to be tested here.
    for (dialect, flags) in [
        (Dialect::Compact, ""),
        (Dialect::Typed, "--dialect typed"),
        (Dialect::Native, ""),
    ] {
        let distributor = Distributor::start(&format!("--shards 1 {flags}"));
        let mut analyzer = socket::connect(distributor.analyzers);
        let word = wire::first_word(dialect, 0.25, "slow", None);
        socket::write_slowly(&mut analyzer, &word);
        distributor.wait_lanes(1);
        Emitter::start(distributor.emitters, 0..30, PAYLOAD).join();
        let up = distributor.wait_log("analyzer up");
        assert!(up.contains("weight=0.25"), "{up}");
        // Nothing may be ACKed before it was sent: read all of it first.
        let expected = match dialect {
            Dialect::Native => wire::WELCOME_BYTES + wire::BATCH_HEADER_BYTES + 30 * FRAME,
            _ => 30 * FRAME,
        };
        let mut sent = vec![0; expected];
        std::io::Read::read_exact(&mut analyzer, &mut sent).expect("all messages");
        for sequence in 1..=30 {
            socket::write_slowly(&mut analyzer, &wire::ack(dialect, sequence));
        }
        socket::write_slowly(&mut analyzer, &wire::weight(dialect, 0.5));
        distributor.wait_log(" weight=0.5 ");
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, 30, "{dialect:?}");
        assert_eq!(ended.count("ack_stale"), 0);
    }
}

#[test]
fn an_analyzer_that_says_nothing_holds_nobody_up() {
    let (distributor, analyzer) = one_analyzer("");
    let mute = socket::connect(distributor.analyzers);
    Emitter::start(distributor.emitters, 0..100, PAYLOAD).join();
    until_read(&[&analyzer], 100);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 100);
    drop(mute);
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other.local_addr().expect("bound").to_string();
    for (flag, free) in [("--emitters", "--analyzers"), ("--analyzers", "--emitters")] {
        let output = run(&["distributor", flag, &taken, free, "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        for part in [flag, taken.as_str(), "in use"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(output.stdout, b"", "nothing ran, nothing to sum up");
    }
}

#[test]
fn another_distributor_may_not_share_the_port() {
    let distributor = Distributor::start("--shards 1");
    let taken = distributor.emitters.to_string();
    let output = run(&["distributor", "--emitters", &taken]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("--emitters") && said.contains(&taken),
        "{said}"
    );
    distributor.stop().assert_clean();
}

#[test]
fn bad_flag_values_are_usage_errors_that_say_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--emitters", "8080", "127.0.0.1:8080"),
        ("--dialect", "native", "auto, typed, compact"),
        ("--shards", "0", "1..=1024"),
        ("--shards", "4.5", "1..=1024"),
        ("--cores", "4000", "available"),
        ("--cores", "3-1", "0-3 or 0,2"),
        ("--accept", "near", "spread, local"),
        ("--latency-budget", "1s", "0s to 50ms"),
        ("--busy-poll", "11ms", "0s to 10ms"),
        ("--latency-budget", "5", "number and a unit"),
        ("--arena", "lots", "MiB"),
        ("--arena", "64KiB", "at least"),
        ("--batch-bytes", "100", "4KiB to 1GiB"),
        ("--batch-bytes", "2GiB", "4KiB to 1GiB"),
        ("--http-messages", "65537", "1..=65536"),
        ("--http-messages", "0", "1..=65536"),
        ("--partial-bytes", "1KiB", "at least"),
        ("--max-frame", "4", "5B to 64MiB"),
        ("--window-messages", "0", "1..="),
        ("--on-slow", "drop", "spill, wait"),
        ("--ack-timeout", "0s", "more than 0s"),
        ("--peer-timeout", "1s", "4s to 1h"),
        ("--drain-timeout", "soon", "number and a unit"),
        ("--max-connections", "-1", "a whole number"),
        (
            "--without",
            "luck",
            "defer-taskrun, incremental, min-wait, send-zc",
        ),
    ] {
        let free = "127.0.0.1:0";
        let mut args = vec!["distributor", "--analyzers", free];
        if flag != "--emitters" {
            args.extend(["--emitters", free]);
        }
        let joined = format!("{flag}={value}");
        args.push(&joined);
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{joined}: {said}");
        // A size is said in bytes, as it is compared.
        let value = match value {
            "64KiB" => "65536",
            "1KiB" => "1024",
            value => value,
        };
        for part in [flag, value, allowed] {
            assert!(said.contains(part), "{joined}: no {part:?} in: {said}");
        }
    }
}

/// A shell that limits itself, and may not lift the limit again even when root runs it.
fn limited(descriptors: u32, command: &str) -> Command {
    let script = format!("ulimit -n {descriptors}; exec {command}");
    let mut shell = Command::new("setpriv");
    let of_root = ["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"];
    if is_root() {
        shell.args(of_root);
    }
    shell.args(["sh", "-c", &script]);
    shell
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:"));
    uid.is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

#[test]
fn too_few_descriptors_for_the_connections_asked_for() {
    let sockets = "--shards 1 --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --admin off";
    // The largest number has no room for the descriptors that come on top.
    for (asked, needed) in [
        // 38 of its own, 8 links of analyzers, one for an HTTP client.
        ("1000", "1047"),
        ("18446744073709551615", "18446744073709551615"),
    ] {
        let command = format!("{} distributor {sockets} --max-connections {asked}", weir());
        let output = run_command(&mut limited(256, &command));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in [
            "--max-connections",
            needed,
            "256",
            "RLIMIT_NOFILE",
            "LimitNOFILE",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
