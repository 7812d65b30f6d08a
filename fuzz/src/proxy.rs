//! PROXY headers: any bytes, in any pieces, give what a second reader finds that was written from the specification.
//! The same bytes as what a client wrote into `Forwarded` and `X-Forwarded-For`: it changes nothing of what the proxy in front
//! of it wrote behind.
//!
//! Input: u8 what, then a stream, or the fields of a header of version 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir::http::{forwarded, x_forwarded_for, Hop};
use weir::source::proxy::{read, Proxied, PROXY_BYTES_MAX};

use super::input::Input;

/// What a header says: its bytes and the client.
type Found = (usize, Option<SocketAddr>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let stream = match input.below(3) {
        0 => input.rest().to_vec(),
        // What libFuzzer seldom finds by itself.
        1 => [b"PROXY TCP4 ", input.rest()].concat(),
        _ => [b"\r\n\r\n\0\r\nQUIT\n", input.rest()].concat(),
    };
    check_forwarded(&stream);
    let mut found = Ok(None);
    let mut wanted = 1;
    for there in 1..=stream.len() {
        match read(&stream[..there]) {
            Ok(Proxied::NeedMore { bytes }) => {
                assert!(bytes > there && bytes <= PROXY_BYTES_MAX, "{bytes}");
                wanted = wanted.max(bytes);
                continue;
            }
            Ok(Proxied::Header { used, client }) => {
                assert_eq!(used, there, "a header is over as soon as it is whole");
                assert!(wanted <= used, "asked for {wanted} of {used} bytes");
                found = Ok(Some((used, client)));
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                found = Err(());
            }
        }
        break;
    }
    let whole = match read(&stream) {
        _ if stream.is_empty() => Ok(None),
        Ok(Proxied::NeedMore { .. }) => Ok(None),
        Ok(Proxied::Header { used, client }) => Ok(Some((used, client))),
        Err(_) => Err(()),
    };
    assert_eq!(whole, found, "whole, and byte by byte");
    assert_eq!(found, model(&stream), "the model");
}

/// Hops are read from the right, none is left out or made of two, and what is well formed is what a reader from the left
/// finds.
fn check_forwarded(client: &[u8]) {
    let address = IpAddr::from([203, 0, 113, 9]);
    for written in [
        &b"for=203.0.113.9"[..],
        b"By=_a;for=\"203.0.113.9:80\";host=\"a,\\\"b\"",
    ] {
        let value = [client, b",", written].concat();
        let mut hops = forwarded(&value);
        assert_eq!(hops.next(), Some(Hop::Address(address)), "{value:?}");
        let others: Vec<Hop> = hops.collect();
        assert_eq!(others, forwarded(client).collect::<Vec<_>>(), "{value:?}");
        assert!(others.len() <= client.len() + 1);
    }
    let value = [client, b", 203.0.113.9"].concat();
    let mut hops = x_forwarded_for(&value);
    assert_eq!(hops.next(), Some(Hop::Address(address)), "{value:?}");
    let commas = client.iter().filter(|byte| **byte == b',').count();
    assert_eq!(hops.count(), commas + 1);
    if let Some(model) = model_forwarded(client) {
        let mut found: Vec<Hop> = forwarded(client).collect();
        found.reverse();
        assert_eq!(found.len(), model.len(), "{client:?}");
        for (found, model) in found.iter().zip(model) {
            match model {
                None => assert_eq!(*found, Hop::Unsaid, "{client:?}"),
                Some(ip) => assert_eq!(*found, Hop::Address(ip), "{client:?}"),
            }
        }
    }
}

/// Elements from the left by the grammar of RFC 7239, section 4, without white space, escapes and ports: whose `for` each
/// has. None: it is not of this grammar.
fn model_forwarded(value: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let text = std::str::from_utf8(value).ok()?;
    if text.contains(['\\', ' ', '\t']) || text.is_empty() {
        return None;
    }
    // Commas and semicolons in quotes stand aside meanwhile.
    let mut is_quoted = false;
    let masked: String = text
        .chars()
        .map(|c| {
            is_quoted ^= c == '"';
            match c {
                ',' if is_quoted => '\u{1}',
                ';' if is_quoted => '\u{2}',
                c => c,
            }
        })
        .collect();
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let of_element = |element: &str| -> Option<Option<IpAddr>> {
        let mut client = None;
        for pair in element.split(';') {
            let (name, value) = pair.split_once('=')?;
            let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            let is_value = match inner {
                Some(inner) => !inner.contains('"'),
                None => is_name(&value.replace(['.', '_'], "")),
            };
            if !is_name(name) || !is_value {
                return None;
            }
            if name.eq_ignore_ascii_case("for") {
                let node = inner.unwrap_or(value);
                let v6 = node.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
                let ip: Option<IpAddr> = match (v6, node.parse()) {
                    (Some(v6), _) => Some(IpAddr::V6(v6.parse().ok()?)),
                    (None, Ok(IpAddr::V4(v4))) => Some(v4.into()),
                    (None, _) if node == "unknown" => None,
                    _ => return None,
                };
                if client.replace(ip.map(|ip| ip.to_canonical())).is_some() {
                    return None;
                }
            }
        }
        Some(client.flatten())
    };
    masked.split(',').map(of_element).collect()
}

/// A header, more bytes, or none.
fn model(stream: &[u8]) -> Result<Option<Found>, ()> {
    let signature: [u8; 12] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];
    let common = |start: &[u8]| start.iter().zip(stream).take_while(|(a, b)| a == b).count();
    let is_prefix = |start: &[u8]| common(start) == start.len().min(stream.len());
    if is_prefix(&signature) {
        return model_binary(stream);
    }
    match is_prefix(b"PROXY") {
        true => model_text(stream),
        false => Err(()),
    }
}

fn model_binary(stream: &[u8]) -> Result<Option<Found>, ()> {
    if stream.len() < 16 {
        return Ok(None);
    }
    let (version, command) = (stream[12] >> 4, stream[12] & 15);
    let (family, transport) = (stream[13] >> 4, stream[13] & 15);
    let length = usize::from(stream[14]) * 256 + usize::from(stream[15]);
    if version != 2 || command > 1 {
        return Err(());
    }
    let needed = match (family, transport) {
        (0, 0) => 0,
        (1, 1 | 2) => 4 + 4 + 2 + 2,
        (2, 1 | 2) => 16 + 16 + 2 + 2,
        (3, 1 | 2) => 108 + 108,
        _ => return Err(()),
    };
    if command == 1 && length < needed || 16 + length > PROXY_BYTES_MAX {
        return Err(());
    }
    if stream.len() < 16 + length {
        return Ok(None);
    }
    let port = |at: usize| u16::from(stream[at]) << 8 | u16::from(stream[at + 1]);
    let client = match family {
        _ if command == 0 => None,
        1 => {
            let ip = Ipv4Addr::new(stream[16], stream[17], stream[18], stream[19]);
            Some((IpAddr::V4(ip), port(24)))
        }
        2 => {
            let bits = stream[16..32]
                .iter()
                .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
            let ip = match bits >> 32 {
                0xFFFF => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
                _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            };
            Some((ip, port(48)))
        }
        _ => None,
    };
    Ok(Some((16 + length, client.map(SocketAddr::from))))
}

fn model_text(stream: &[u8]) -> Result<Option<Found>, ()> {
    let Some(end) = stream.iter().take(107).position(|byte| *byte == b'\n') else {
        return if stream.len() < 107 {
            Ok(None)
        } else {
            Err(())
        };
    };
    let line = String::from_utf8(stream[..=end].to_vec()).map_err(drop)?;
    let line = line.strip_prefix("PROXY ").ok_or(())?;
    let line = line.strip_suffix("\r\n").ok_or(())?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Some((end + 1, None)));
    }
    let fields: Vec<&str> = line.split(' ').collect();
    let [family, client, server, from, to] = fields[..] else {
        return Err(());
    };
    let ip = |text: &str| -> Result<IpAddr, ()> {
        let ip: IpAddr = text.parse().map_err(drop)?;
        let fits = match family {
            "TCP4" => ip.is_ipv4(),
            "TCP6" => ip.is_ipv6(),
            _ => false,
        };
        fits.then(|| ip.to_canonical()).ok_or(())
    };
    let port = |text: &str| -> Result<u16, ()> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().map_err(drop)?;
        is_number
            .then_some(number)
            .and_then(|number| u16::try_from(number).ok())
            .ok_or(())
    };
    let (client, _, from, _) = (ip(client)?, ip(server)?, port(from)?, port(to)?);
    Ok(Some((end + 1, Some(SocketAddr::new(client, from)))))
}
