//! A nameserver for tests, on a port of 127.0.0.1, over UDP and TCP. It knows the names that it is told, and does wrong
//! what it is told to do wrong.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These addresses.
    A(Vec<Ipv4Addr>),
    /// These services: priority, weight, port, target.
    Srv(Vec<(u16, u16, u16, String)>),
    /// The name is there and has nothing.
    Empty,
    /// No such name.
    NoName,
    /// It could not find out.
    ServFail,
    /// Nothing at all.
    Nothing,
    /// First answers with a wrong number and to a wrong question, which name this address; then the right one.
    Forged(Ipv4Addr, Box<Says>),
}

#[derive(Default)]
struct Shared {
    names: Mutex<BTreeMap<String, Says>>,
    /// Every answer over UDP says that it is cut.
    cuts: AtomicBool,
    udp: AtomicU64,
    tcp: AtomicU64,
    stop: AtomicBool,
}

/// A running nameserver.
pub struct Dns {
    /// Where it is asked.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
const TYPE_A: u16 = 1;
const TYPE_SRV: u16 = 33;

impl Dns {
    /// Without any name.
    pub fn start() -> Dns {
        let (udp, tcp) = pair();
        let addr = udp.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        udp.set_read_timeout(Some(LOOK_EVERY)).expect("a socket");
        tcp.set_nonblocking(true).expect("a socket");
        let (of_udp, of_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &of_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &of_tcp)),
        ];
        Dns {
            addr,
            shared,
            threads,
        }
    }

    /// From now on, of this name.
    pub fn says(&self, name: &str, says: Says) {
        let mut names = self.shared.names.lock().expect("not poisoned");
        names.insert(name.to_ascii_lowercase(), says);
    }

    /// Addresses 127.0.0.`last` of a name.
    pub fn says_local(&self, name: &str, last: &[u8]) {
        let ips = last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last));
        self.says(name, Says::A(ips.collect()));
    }

    /// Answers over UDP are cut from now on.
    pub fn cuts(&self, cuts: bool) {
        self.shared.cuts.store(cuts, Ordering::Release);
    }

    /// Questions so far, over UDP and over TCP.
    pub fn asked(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Acquire);
        (count(&self.shared.udp), count(&self.shared.tcp))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The same free port for both.
fn pair() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let addr = udp.local_addr().expect("an address");
        if let Ok(tcp) = TcpListener::bind(addr) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut bytes = [0; 4096];
    while !shared.stop.load(Ordering::Acquire) {
        let Ok((count, from)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        shared.udp.fetch_add(1, Ordering::AcqRel);
        let cuts = shared.cuts.load(Ordering::Acquire);
        for answer in answers(&bytes[..count], shared, cuts) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => drop(answer_tcp(stream, shared)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK_EVERY),
            Err(_) => {}
        }
    }
}

fn answer_tcp(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question)?;
    shared.tcp.fetch_add(1, Ordering::AcqRel);
    for answer in answers(&question, shared, false).into_iter().rev().take(1) {
        let length = u16::try_from(answer.len()).expect("short");
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
    Ok(())
}

/// Name and type that are asked for, and where the question ends.
fn question(bytes: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = bytes.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn answers(asked: &[u8], shared: &Shared, cut: bool) -> Vec<Vec<u8>> {
    let Some((name, kind, end)) = question(asked) else {
        return Vec::new();
    };
    let names = shared.names.lock().expect("not poisoned");
    let says = names.get(&name).cloned().unwrap_or(Says::NoName);
    drop(names);
    let asked = &asked[..end];
    match says {
        Says::Nothing => Vec::new(),
        Says::Forged(ip, right) => {
            let mut wrong_id = answer(asked, kind, &Says::A(vec![ip]), false);
            wrong_id[1] ^= 0xFF;
            let mut wrong_name = answer(asked, kind, &Says::A(vec![ip]), false);
            wrong_name[13] ^= 1;
            vec![wrong_id, wrong_name, answer(asked, kind, &right, cut)]
        }
        says => vec![answer(asked, kind, &says, cut)],
    }
}

/// RFC 1035, by hand: what the product decodes with a library is not encoded with the same one.
fn answer(asked: &[u8], kind: u16, says: &Says, cut: bool) -> Vec<u8> {
    let records: Vec<Vec<u8>> = match says {
        Says::A(ips) if kind == TYPE_A => ips.iter().map(|ip| ip.octets().to_vec()).collect(),
        Says::Srv(all) if kind == TYPE_SRV => all.iter().map(srv).collect(),
        _ => Vec::new(),
    };
    let records = if cut { Vec::new() } else { records };
    let code = match says {
        Says::NoName => 3,
        Says::ServFail => 2,
        _ => 0,
    };
    let mut out = asked[..2].to_vec();
    out.extend([0x81 | if cut { 2 } else { 0 }, 0x80 | code]);
    let count = u16::try_from(records.len()).expect("few");
    for number in [1, count, 0, 0] {
        out.extend(number.to_be_bytes());
    }
    out.extend(&asked[12..]);
    for data in records {
        out.extend([0xC0, 12]); // the name that was asked for
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 5]);
        out.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        out.extend(data);
    }
    out
}

fn srv((priority, weight, port, target): &(u16, u16, u16, String)) -> Vec<u8> {
    let mut data = Vec::new();
    for number in [priority, weight, port] {
        data.extend(number.to_be_bytes());
    }
    for label in target.split('.') {
        data.push(u8::try_from(label.len()).expect("short"));
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}
