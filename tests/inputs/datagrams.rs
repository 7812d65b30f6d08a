//! Inputs of datagrams, with real sockets: each sent datagram is a message, skipped under a reason, or lost before receipt.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use weir_testkit::http::Client;
use weir_testkit::pack::deflated;
use weir_testkit::{until, Distributor, Ended, FrameSink};

/// From a port of its own.
fn sender() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

fn send(sender: &UdpSocket, to: SocketAddr, text: &str) {
    let sent = sender.send_to(text.as_bytes(), to).expect("sent");
    assert_eq!(sent, text.len());
}

/// What the run report says of datagrams that the kernel dropped.
fn lost(ended: &Ended) -> u64 {
    let mut lines = ended.stdout.lines();
    let told = lines.find_map(|line| line.strip_prefix("lost before receipt "));
    told.map_or(0, |told| {
        let number = told.split(' ').next().unwrap_or_default();
        number.parse().expect("a number")
    })
}

/// What `/metrics` says.
fn exposition(distributor: &Distributor) -> String {
    let mut client = Client::connect(distributor.http.expect("it has --http"));
    client.send(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n");
    client.answer().body
}

#[test]
fn a_burst_that_overflows_the_kernels_buffer_is_accounted_for_on_two_shards() {
    const SENDERS: u64 = 16;
    const EACH: u64 = 4000;
    let distributor = Distributor::start(
        "--shards 2 --http 127.0.0.1:0 --input syslog@127.0.0.1:0?name=udp&transport=udp&receive_buffer=8KiB",
    );
    let sink = FrameSink::of(distributor.analyzers, 1.0);
    distributor.wait_lanes(1);
    let to = distributor.input("udp");
    std::thread::scope(|scope| {
        for nth in 0..SENDERS {
            scope.spawn(move || {
                let socket = sender();
                for number in 0..EACH {
                    send(&socket, to, &format!("<131>{nth} {number}\n"));
                }
            });
        }
    });
    // What the kernel holds is read at once; the counter of what it dropped a moment later.
    let sent = SENDERS * EACH;
    let shown = |name: &str| {
        let text = exposition(&distributor);
        let begin = format!("weir_input_{name}{{input=\"udp\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin));
        value.map_or(0, |value| value.parse::<u64>().expect("a number"))
    };
    until("all of it is accounted for", || {
        shown("messages_total") + shown("lost_before_receipt_total") == sent
    });
    let (shards, lost_then) = (
        shards_that_received(&distributor),
        shown("lost_before_receipt_total"),
    );
    until("all messages", || {
        sink.frames().len() as u64 + lost_then == sent
    });
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.received + lost(&ended), sent);
    assert!(lost(&ended) > 0, "8 KiB hold some ten datagrams");
    assert_eq!(shards, 2, "the kernel spreads senders over the shards");
    let mut frames = sink.frames();
    let count = frames.len();
    frames.sort();
    frames.dedup();
    assert_eq!(frames.len(), count, "each came once");
}

/// Shards that have taken something in.
fn shards_that_received(distributor: &Distributor) -> usize {
    let text = exposition(distributor);
    let counts = text
        .lines()
        .filter(|line| line.starts_with("weir_shard_received_messages_total{"));
    counts.filter(|line| !line.ends_with(" 0")).count()
}

#[test]
fn while_no_lane_has_room_the_kernel_drops_and_that_is_counted() {
    let distributor = Distributor::start(
        "--shards 1 --arena 8MiB --window-messages 1000 --input syslog@127.0.0.1:0?name=udp&transport=udp&receive_buffer=64KiB --input syslog@127.0.0.1:0?name=tcp",
    );
    let sink = FrameSink::silent(distributor.analyzers, 1.0);
    distributor.wait_lanes(1);
    let to = distributor.input("udp");
    let socket = sender();
    let text = format!("<131>{}", "x".repeat(4000));
    const SENT: u64 = 20_000;
    for _ in 0..SENT {
        send(&socket, to, &text);
    }
    std::thread::sleep(Duration::from_millis(300));
    sink.set_acks(true);
    // One that comes when there is room again is taken.
    let began = Instant::now();
    let mut later = 0;
    while !sink.frames().iter().any(|(_, text)| text == "<131>later") {
        send(&socket, to, "<131>later");
        later += 1;
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "nothing is received again"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.received + lost(&ended), SENT + later);
    assert!(lost(&ended) > SENT / 2, "{} lost", lost(&ended));
    assert!(balance.received > 500, "{balance:?}");
}

#[test]
fn what_is_no_message_is_counted_and_what_is_too_long_is_cut() {
    let distributor = Distributor::start(
        "--shards 1 --max-frame 1KiB --input syslog@[::]:0?name=udp&transport=udp&allow=127.0.0.1 --input syslog@127.0.0.1:0?name=far&transport=udp&allow=192.0.2.0/24",
    );
    let sink = FrameSink::of(distributor.analyzers, 1.0);
    distributor.wait_lanes(1);
    let at = |name: &str| SocketAddr::from((Ipv4Addr::LOCALHOST, distributor.input(name).port()));
    let (udp, far) = (at("udp"), at("far"));
    let socket = sender();
    let long = format!("<131>{}", "y".repeat(60_000));
    let fits = format!("<131>{}\r\n\0", "z".repeat(1024 - 5 - 5));
    for text in ["", "\n", "<12>a\nb\n", &long, &fits, "", "<999>after all\0"] {
        send(&socket, udp, text);
    }
    // A bomb, and what is no zlib stream.
    let packed = |bytes: &[u8]| [b"z", &deflated(bytes, true)[..]].concat();
    for bytes in [
        packed(&[b'<'; 2000]),
        b"zx\x9cnothing".to_vec(),
        packed(b"<11>packed\n"),
    ] {
        socket.send_to(&bytes, udp).expect("sent");
    }
    send(&socket, far, "<131>not from here");
    until("five messages", || sink.frames().len() >= 5);
    let mut messages = sink.frames();
    messages.sort();
    let cut = format!("<131>{} [cut]", "y".repeat(1024 - 5 - 5 - 6));
    let expected = [
        (1, "<11>packed".to_owned()),
        (1, cut),
        (1, fits.trim_end_matches(['\r', '\n', '\0']).to_owned()),
        (2, "<12>a\nb".to_owned()),
        (3, "<999>after all".to_owned()),
    ];
    assert_eq!(messages, expected);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 5);
    let counted = ["datagram_empty", "line_cut", "address_not_allowed"].map(|it| ended.count(it));
    assert_eq!((counted, lost(&ended)), ([3, 1, 1], 0));
    let counted = ["packed_too_large", "packed_corrupt"].map(|it| ended.count(it));
    assert_eq!(counted, [1, 1]);
}

#[test]
fn a_flood_of_datagrams_holds_up_no_stream() {
    let distributor = Distributor::start(
        "--shards 1 --input syslog@127.0.0.1:0?name=udp&transport=udp --input syslog@127.0.0.1:0?name=tcp",
    );
    let sink = FrameSink::of(distributor.analyzers, 1.0);
    distributor.wait_lanes(1);
    let (udp, tcp) = (distributor.input("udp"), distributor.input("tcp"));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let is_over = &is_over;
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            let (socket, mut sent) = (sender(), 0_u64);
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                send(&socket, udp, "<131>flood");
                sent += 1;
            }
            sent
        });
        let mut stream = std::net::TcpStream::connect(tcp).expect("it listens");
        for number in 0..20 {
            let line = format!("<131>line {number}\n");
            std::io::Write::write_all(&mut stream, line.as_bytes()).expect("it reads");
            let began = Instant::now();
            let is_there = |(_, text): &(u8, String)| text == line.trim_end();
            while !sink.frames().iter().rev().any(is_there) {
                assert!(began.elapsed() < Duration::from_secs(10), "{line}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.join().expect("it sends")
    });
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.received - 20 + lost(&ended), sent);
}
