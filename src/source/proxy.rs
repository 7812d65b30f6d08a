//! The PROXY protocol, versions 1 and 2: a load balancer says first whose connection it passes on.
//!
//! ```text
//! v1  PROXY TCP4 192.0.2.1 198.51.100.7 56324 514\r\n          at most 107 bytes
//! v2  \r\n\r\n\0\r\nQUIT\n  21 11 00 0C  C0 00 02 01 C6 33 64 07 DC 04 02 02  TLVs
//!     signature             |  |  length client      server      ports
//!                           |  family and transport
//!                           version 2, command: 0 LOCAL, 1 PROXY
//! ```
//!
//! The protocol forbids guessing: a listener expects the header of whoever may send one, or of nobody. Believed is what it
//! says of the client; the rest is passed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;

use memchr::memchr;

/// Longest header of version 1, its CR and LF included.
const TEXT_BYTES_MAX: usize = 107;
/// Longest header of version 2: the addresses, and TLVs, of which some have names of certificates.
pub const PROXY_BYTES_MAX: usize = 4 * 1024;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT: &[u8] = b"PROXY";
/// Signature, command, family, length.
const FIXED_BYTES: usize = 16;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A whole header.
    Header {
        /// Its bytes.
        used: usize,
        /// Who the client is. None: the proxy itself, or somebody whom it cannot name.
        client: Option<SocketAddr>,
    },
    /// So many bytes will tell more, those that were given included.
    NeedMore {
        /// More than were given.
        bytes: usize,
    },
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The connection begins with something else.
    Missing,
    /// A header of version 1 that cannot be read: what there should be.
    Text(&'static str),
    /// A header of version 2 that cannot be read.
    Binary {
        /// What is wrong.
        field: &'static str,
        /// Its value.
        value: u16,
    },
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "there is no PROXY header in front, and this listener expects one of each connection (proxy_from)",
            ),
            Self::Text(expected) => write!(f, "PROXY header, version 1: there should be {expected}"),
            Self::Binary { field, value } => {
                write!(f, "PROXY header, version 2: {field} is 0x{value:02x}")?;
                match *field {
                    "length" => write!(f, "; allowed: its addresses, and at most {PROXY_BYTES_MAX} bytes in all"),
                    "command" => f.write_str("; allowed: 0x20 (LOCAL), 0x21 (PROXY)"),
                    _ => f.write_str("; allowed: 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32"),
                }
            }
        }
    }
}

impl std::error::Error for ProxyError {}

/// Reads the header at the start of a connection.
///
/// # Errors
/// There is none, or none that can be read.
pub fn read(bytes: &[u8]) -> Result<Proxied, ProxyError> {
    let begins = |start: &[u8]| {
        let there = start.len().min(bytes.len());
        bytes[..there] == start[..there]
    };
    if begins(SIGNATURE) {
        return read_binary(bytes);
    }
    if !begins(TEXT) {
        return Err(ProxyError::Missing);
    }
    read_text(bytes)
}

fn read_text(bytes: &[u8]) -> Result<Proxied, ProxyError> {
    let window = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr(b'\n', window) else {
        let bytes = bytes.len() + 1;
        return match bytes > TEXT_BYTES_MAX {
            true => Err(ProxyError::Text("CR and LF within 107 bytes")),
            false => Ok(Proxied::NeedMore { bytes }),
        };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(ProxyError::Text("text that ends with CR and LF"))?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(ProxyError::Missing);
    }
    let client = match words.next() {
        // Nothing behind it counts.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(text_client(words, |ip| ip.parse().ok().map(IpAddr::V4))?),
        Some("TCP6") => Some(text_client(words, |ip| ip.parse().ok().map(IpAddr::V6))?),
        _ => return Err(ProxyError::Text("TCP4, TCP6 or UNKNOWN")),
    };
    let used = end + 1;
    Ok(Proxied::Header { used, client })
}

/// `client server port port`, one space between them.
fn text_client<'a>(
    mut words: impl Iterator<Item = &'a str>,
    ip: impl Fn(&str) -> Option<IpAddr>,
) -> Result<SocketAddr, ProxyError> {
    let mut address = || words.next().and_then(&ip);
    let addresses = address().zip(address());
    let (client, _) = addresses.ok_or(ProxyError::Text("two addresses of its family"))?;
    let mut port = || {
        let word = words.next()?;
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| word.parse::<u16>().ok()).flatten()
    };
    let ports = port().zip(port());
    let (port, _) = ports.ok_or(ProxyError::Text("two ports, 0 to 65535"))?;
    if words.next().is_some() {
        return Err(ProxyError::Text("nothing behind the second port"));
    }
    Ok(socket(client, port))
}

fn read_binary(bytes: &[u8]) -> Result<Proxied, ProxyError> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        return Ok(Proxied::NeedMore { bytes: FIXED_BYTES });
    };
    let [.., command, family, high, low] = *fixed;
    let wrong = |field, value: u8| ProxyError::Binary {
        field,
        value: u16::from(value),
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(wrong("command", command));
    }
    let addresses = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(wrong("family", family)),
    };
    let length = u16::from_be_bytes([high, low]);
    let used = FIXED_BYTES + usize::from(length);
    let is_local = command == 0x20;
    if usize::from(length) < addresses && !is_local || used > PROXY_BYTES_MAX {
        let (field, value) = ("length", length);
        return Err(ProxyError::Binary { field, value });
    }
    let Some(body) = bytes.get(FIXED_BYTES..used) else {
        return Ok(Proxied::NeedMore { bytes: used });
    };
    let client = match family {
        _ if is_local => None,
        0x11 | 0x12 => binary_client::<4>(body, |ip| IpAddr::V4(Ipv4Addr::from(ip))),
        0x21 | 0x22 => binary_client::<16>(body, |ip| IpAddr::V6(Ipv6Addr::from(ip))),
        _ => None,
    };
    Ok(Proxied::Header { used, client })
}

/// Addresses of client and server, then their ports.
fn binary_client<const N: usize>(
    body: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Option<SocketAddr> {
    let port = body.get(2 * N..)?.first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    Some(socket(ip(*body.first_chunk::<N>()?), port))
}

/// An IPv4 address in IPv6 clothes is the address that lists and limits mean.
fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("an address"))
    }

    /// One byte at a time: how many the header takes, and what it says.
    fn read_slowly(bytes: &[u8]) -> Result<Proxied, ProxyError> {
        let mut wanted = 1;
        for there in 1..=bytes.len() {
            match read(&bytes[..there])? {
                Proxied::NeedMore { bytes: more } => {
                    assert!(more > there, "{more} of {there}");
                    wanted = wanted.max(more);
                }
                found @ Proxied::Header { used, .. } => {
                    assert_eq!(used, there, "it is over as soon as it is whole");
                    assert!(wanted <= used);
                    return Ok(found);
                }
            }
        }
        Ok(Proxied::NeedMore {
            bytes: bytes.len() + 1,
        })
    }

    #[test]
    fn text_headers_say_the_client() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.7 56324 514\r\n",
                client("192.0.2.1:56324"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
                client("[2001:db8::1]:1"),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
                client("192.0.2.1:1"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 whatever  65535\r\n", None),
        ] {
            let (client, used) = (expected, line.len());
            let stream = [line, "<13>x\n"].concat();
            let expected = Ok(Proxied::Header { used, client });
            assert_eq!(read(stream.as_bytes()), expected, "{line}");
            assert_eq!(read_slowly(stream.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_text_header_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 514 \r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.7 56324 514\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +1 514\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.7 1 514\r\n",
            "PROXY TCP4 ::1 ::1 1 514\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 1 514\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.7 1 514\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 514\n",
            "PROXY\r\n",
            "PROXY \r\n",
        ] {
            let error = read(line.as_bytes());
            assert!(
                matches!(error, Err(ProxyError::Text(_))),
                "{line}: {error:?}"
            );
        }
        for line in [
            "<13>x\n",
            "proxy TCP4",
            "PROXX",
            "PROXYTCP4 a\r\n",
            "\r\n\r\n<13>x",
        ] {
            assert_eq!(read(line.as_bytes()), Err(ProxyError::Missing), "{line}");
        }
        let long = "PROXY UNKNOWN ".to_owned() + &"x".repeat(100);
        assert!(matches!(read(long.as_bytes()), Err(ProxyError::Text(_))));
        assert!(matches!(
            read_slowly(&long.as_bytes()[..106]),
            Ok(Proxied::NeedMore { .. })
        ));
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        let fixed = [command, family];
        [&SIGNATURE[..], &fixed, &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn binary_headers_say_the_client_and_tlvs_are_passed() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 0x04, 2, 2];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 1]);
        v6[15] = 9;
        v6[32..34].copy_from_slice(&[0, 7]);
        let with_tlv = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (header, expected) in [
            (binary(0x21, 0x11, &v4), client("192.0.2.1:56324")),
            (binary(0x21, 0x12, &v4), client("192.0.2.1:56324")),
            (binary(0x21, 0x11, &with_tlv), client("192.0.2.1:56324")),
            (binary(0x21, 0x21, &v6), client("[2001::9]:7")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x20, 0x11, &[1]), None),
            (binary(0x21, 0x00, &[1, 2, 3]), None),
            (binary(0x21, 0x31, &[b'a'; 216]), None),
        ] {
            let (client, used) = (expected, header.len());
            let stream = [&header[..], b"6 <131>x"].concat();
            let expected = Ok(Proxied::Header { used, client });
            assert_eq!(read(&stream), expected, "{header:?}");
            assert_eq!(read_slowly(&stream), expected, "{header:?}");
        }
    }

    #[test]
    fn what_is_no_binary_header_is_refused_by_its_field() {
        for (header, named) in [
            (binary(0x11, 0x11, &[0; 12]), "command"),
            (binary(0x22, 0x11, &[0; 12]), "command"),
            (binary(0x21, 0x13, &[0; 12]), "family"),
            (binary(0x21, 0x41, &[0; 12]), "family"),
            (binary(0x21, 0x11, &[0; 11]), "length"),
            (binary(0x21, 0x21, &[0; 35]), "length"),
            (binary(0x21, 0x11, &[0; PROXY_BYTES_MAX]), "length"),
        ] {
            let error = read(&header);
            let is = matches!(error, Err(ProxyError::Binary { field, .. }) if field == named);
            assert!(is, "{named}: {error:?}");
        }
    }
}
