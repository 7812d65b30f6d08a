//! Frames that are begun and never finished take nothing from whoever sends honestly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_testkit::{
    numbered, socket, stays, until, Analyzer, Dialect, Distributor, Emitter, Options,
};

const MIB: usize = 1 << 20;

/// The first `bytes` of a frame of 1 MiB, and nothing more.
fn hog(address: SocketAddr, bytes: usize) -> TcpStream {
    let mut stream = socket::connect(address);
    let mut part = (MIB as u32).to_be_bytes().to_vec();
    part.resize(bytes, b'z');
    stream.write_all(&part).expect("it is read");
    stream
}

/// The distributor has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an option");
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn sink(distributor: &Distributor) -> Analyzer {
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Native, 1.0));
    distributor.wait_lanes(1);
    analyzer
}

#[test]
fn hogs_go_and_honest_emitters_stay() {
    const HONEST: u64 = 40;
    const EACH: u64 = 1000;
    let distributor = Distributor::start("--shards 1 --partial-bytes 4MiB");
    let analyzer = sink(&distributor);
    let mut hogs: Vec<_> = (0..4).map(|_| hog(distributor.emitters, MIB - 1)).collect();
    // One more than there is room for: the memory is full from here on.
    until("the memory is full", || {
        hogs.push(hog(distributor.emitters, MIB - 1));
        hogs.iter_mut().any(is_closed)
    });
    // Frames come in pieces, as TCP cuts them.
    let honest: Vec<_> = (0..HONEST)
        .map(|n| {
            let mut stream = socket::connect(distributor.emitters);
            let mut bytes = Vec::new();
            (0..EACH).for_each(|id| numbered::put_numbered(&mut bytes, n * EACH + id, 290));
            std::thread::spawn(move || {
                for piece in bytes.chunks(1448 * 7) {
                    stream.write_all(piece)?;
                    std::thread::sleep(Duration::from_micros(300));
                }
                stream.shutdown(std::net::Shutdown::Write)
            })
        })
        .collect();
    for stream in honest {
        let written = stream.join().expect("no panic");
        written.expect("nobody honest is closed");
    }
    until("all of it is delivered", || {
        analyzer.read() as u64 == HONEST * EACH
    });
    assert!(!hogs.iter_mut().all(is_closed), "memory is no longer short");
    drop(hogs);
    let ended = distributor.stop();
    assert!(ended.count("partial_memory_full") > 0, "{}", ended.stdout);
    assert_eq!(ended.assert_clean().received, HONEST * EACH);
}

#[test]
fn a_frame_has_so_much_time() {
    let distributor = Distributor::start("--shards 1 --frame-timeout 2s");
    let analyzer = sink(&distributor);
    let mut idle = socket::connect(distributor.emitters);
    idle.write_all(&numbered::numbered(0, 64))
        .expect("it is read");
    until("delivered", || analyzer.read() == 1);
    // A byte now and then is not progress enough.
    let mut slow = hog(distributor.emitters, 3);
    until("it is closed", || {
        let _ = slow.write_all(&[0]);
        std::thread::sleep(Duration::from_millis(50));
        is_closed(&mut slow)
    });
    let line = distributor.wait_log("--frame-timeout");
    assert!(line.contains("not arrived whole within 2s"), "{line}");
    assert!(!is_closed(&mut idle), "between frames there is no limit");
    idle.set_nonblocking(false).expect("an option");
    idle.write_all(&numbered::numbered(1, 64))
        .expect("it is read");
    until("delivered", || analyzer.read() == 2);
    drop(idle);
    let ended = distributor.stop();
    assert_eq!(ended.count("frame_timeout"), 1);
    assert_eq!(ended.assert_clean().received, 2);
}

/// While nobody can take messages nobody is read from, and a frame whose rest waits in the kernel is not late.
#[test]
fn the_time_of_a_frame_stands_still_while_nobody_takes_messages() {
    const MESSAGES: u64 = 30;
    const PAYLOAD: usize = 900_000;
    let flags = "--shards 1 --frame-timeout 2s --ingress 512KiB";
    let distributor = Distributor::start(flags);
    // More than the receive memory holds: the last frame that was read is not whole.
    let emitter = Emitter::start(distributor.emitters, 0..MESSAGES, PAYLOAD);
    stays("it is not closed", Duration::from_secs(6), || {
        distributor.lines("--frame-timeout").is_empty()
    });
    let analyzer = sink(&distributor);
    emitter.join();
    until("delivered", || analyzer.read() as u64 == MESSAGES);
    let ended = distributor.stop();
    assert_eq!(ended.count("frame_timeout"), 0);
    assert_eq!(ended.assert_clean().received, MESSAGES);
}
