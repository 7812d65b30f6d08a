//! Asking nameservers: UDP first, TCP when the answer is cut, the next server when one fails.
//!
//! ```text
//!   question --UDP, EDNS 1,232--> server 1 --cut--> TCP
//!                                    |-- no answer in time, SERVFAIL, REFUSED --> server 2 ... --> once more
//!                                    '-- whatever does not answer the question is passed over
//! ```

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::nameservers::Nameservers;
use crate::records::{Answer, Kind, NotTheAnswer, Query, UDP_BYTES_MAX};

/// All servers, attempts and searched names together.
const PATIENCE: Duration = Duration::from_secs(15);
/// Datagrams that are no answer, for one question: more is somebody who guesses.
const STRANGERS_MAX: u32 = 64;

/// What is known of a name: the records, none of them, or why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Records(Answer),
    /// The servers say that there are none.
    Nothing,
}

/// Looks a name up under each of its candidates.
///
/// # Errors
/// No server gave an answer that can be used.
pub(crate) fn look_up(of: &Nameservers, name: &str, kind: Kind) -> Result<Found, String> {
    let until = Instant::now() + PATIENCE;
    let mut failure = None;
    for name in of.candidates(name) {
        match ask_all(of, &name, kind, until) {
            Ok(Answer::Addresses(ips)) if ips.is_empty() => {}
            Ok(Answer::Services(all)) if all.is_empty() => {}
            Ok(Answer::NoName) => {}
            Ok(answer) => return Ok(Found::Records(answer)),
            Err(why) => failure = failure.or(Some(why)),
        }
    }
    failure.map_or(Ok(Found::Nothing), Err)
}

fn ask_all(of: &Nameservers, name: &str, kind: Kind, until: Instant) -> Result<Answer, String> {
    let mut failure = "no nameserver is known".to_owned();
    for _ in 0..of.attempts {
        for server in &of.servers {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failure);
            }
            match ask(*server, name, kind, of.timeout.min(left)) {
                Ok(Answer::Failed(why)) => failure = format!("nameserver {server}: {why}"),
                Ok(answer) => return Ok(answer),
                Err(error) => failure = format!("nameserver {server}: {}", told(&error)),
            }
        }
    }
    Err(failure)
}

fn told(error: &io::Error) -> String {
    match is_late(error) {
        true => "no answer in time".into(),
        false => error.to_string(),
    }
}

fn is_late(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// One server, once.
fn ask(server: SocketAddr, name: &str, kind: Kind, patience: Duration) -> io::Result<Answer> {
    let until = Instant::now() + patience;
    let mut query = Query {
        id: random(),
        name: name.to_owned(),
        kind,
        edns: true,
    };
    let mut answer = ask_udp(server, &query, until)?;
    if answer == Answer::NoEdns {
        query.id = random();
        query.edns = false;
        answer = ask_udp(server, &query, until)?;
    }
    if answer == Answer::Truncated {
        query.id = random();
        answer = ask_tcp(server, &query, until)?;
    }
    match answer {
        Answer::Truncated => Err(io::Error::other("its answer is cut over TCP as well")),
        answer => Ok(answer),
    }
}

/// Nobody can guess it: the hasher's keys come from the kernel.
fn random() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// The socket has a port that the kernel chose at random, and takes datagrams of this server only.
fn ask_udp(server: SocketAddr, query: &Query, until: Instant) -> io::Result<Answer> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(&query.encode().map_err(io::Error::other)?)?;
    // A server that ignores the size it was told is heard as well.
    let mut bytes = [0; 4 * UDP_BYTES_MAX];
    for _ in 0..STRANGERS_MAX {
        socket.set_read_timeout(Some(left(until)?))?;
        let count = match socket.recv(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Ok(answer) = query.read(&bytes[..count]) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("it answers other questions than this one"))
}

fn ask_tcp(server: SocketAddr, query: &Query, until: Instant) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    let question = query.encode().map_err(io::Error::other)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat())?;
    let mut length = [0; 2];
    read_whole(&mut stream, &mut length, until)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    read_whole(&mut stream, &mut answer, until)?;
    query
        .read(&answer)
        .map_err(|NotTheAnswer| io::Error::other("it answers another question over TCP"))
}

/// `read_exact` with a limit for all of it, not for each piece.
fn read_whole(stream: &mut TcpStream, bytes: &mut [u8], until: Instant) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut bytes[at..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
