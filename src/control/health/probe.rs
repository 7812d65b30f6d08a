//! One health check: `GET {endpoint}/health` of the address that POSTs go to, or of another that its name has
//! by now. Of an analyzer that takes no packets of Weir: a path of its own, or whether it can be connected to, and
//! whether it lets us in where its protocol begins with greetings.
//!
//! ```text
//! name -> resolver -> [ where POSTs go, if the name still has that; then the others ]
//!             |           `- the first that is well is where POSTs go from now on
//!             `- no answer: where POSTs go
//! ```

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::resolver::{Resolver, Unresolved};
use crate::executor::secured::Stream;
use crate::executor::time::within;
use weir_clock::Limit;
use weir_config::{OwnListeners, Place};
use weir_http::{HeadWriter, ResponseReader};
use weir_protocol::text::Time;
use weir_sink::outlet::{Heard, Outlet};
use weir_sink::Sink;
use weir_tls::SecuredLink;

/// How long a goodbye is waited for.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(200);
/// Most bytes of a greeting that is not whole.
const GREETING_BYTES_MAX: usize = 64 << 10;

/// Random bytes: a server proves with them that it knows the key as well.
fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    for half in salt.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_ne_bytes());
    }
    salt
}

/// A server that closes instead of what it is to say.
fn closed(before: &str, link: Option<&SecuredLink>) -> io::Error {
    let perhaps = match link {
        None => "; perhaps that port speaks TLS, and the URL is to say so",
        Some(_) => "",
    };
    let text = format!("it closed {before}{perhaps}");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// What every check needs.
pub struct Probe {
    /// Time for all of it, the name included.
    pub timeout: Duration,
    /// Where names are looked up.
    pub resolver: Arc<Resolver>,
    /// What no analyzer can be.
    pub own: OwnListeners,
    /// What this distributor calls itself: it answers 508 to itself.
    pub via: String,
}

impl Probe {
    /// Asks once. `at` is where POSTs go. The address that answered, or why none did.
    ///
    /// # Errors
    /// What was wrong with the last address, or with the name.
    pub async fn check(&self, place: &Place, at: Option<SocketAddr>) -> Result<SocketAddr, String> {
        let endpoint = &place.endpoint;
        let health = match place.delivery.sink() {
            Sink::Http => Some(format!("{}/health", endpoint.path)),
            _ => place.delivery.health().map(str::to_owned),
        };
        let headers = &place.delivery.request().headers;
        let (timeout, host) = (self.timeout, &endpoint.host);
        let mut limit = Limit::new(timeout);
        let found = self.resolver.addresses(host, &mut limit).await;
        let mut addresses: Vec<SocketAddr> = match (found, at) {
            (Ok(ips), _) => {
                let address = |ip| SocketAddr::new(ip, endpoint.port);
                ips.into_iter().map(address).collect()
            }
            // It may be well all the same.
            (Err(Unresolved::Late(_)), Some(at)) => {
                limit = Limit::new(timeout);
                vec![at]
            }
            (Err(Unresolved::Late(why)), None) => {
                return Err(format!("{host}: {why} within {}", Time(timeout)))
            }
            (Err(Unresolved::Failed(why)), _) => return Err(format!("{host}: {why}")),
        };
        if let Some(first) = at.and_then(|at| addresses.iter().position(|other| *other == at)) {
            addresses[..=first].rotate_right(1);
        }
        let mut error = format!("{host}: no address");
        for address in addresses {
            error = match self.own.check(address) {
                Err(why) => why,
                Ok(()) => match &health {
                    None => match within(&mut limit, self.greet(place, address)).await {
                        Some(Ok(())) => return Ok(address),
                        Some(Err(why)) if why.kind() != io::ErrorKind::TimedOut => {
                            format!("{address}: {why}")
                        }
                        Some(Err(_)) | None => {
                            format!("{address}: no greeting within {}", Time(timeout))
                        }
                    },
                    Some(path) => {
                        match within(&mut limit, self.ask(place, path, headers, address)).await {
                            Some(Ok(200..=299)) => return Ok(address),
                            Some(Ok(508)) => format!(
                        "{address}: status 508: it is this distributor itself, or leads back to it"
                    ),
                            Some(Ok(status)) => {
                                format!("{address}: status {status}; 2xx is healthy")
                            }
                            Some(Err(why)) if why.kind() != io::ErrorKind::TimedOut => {
                                format!("{address}: {why}")
                            }
                            Some(Err(_)) | None => {
                                format!("{address}: no answer within {}", Time(timeout))
                            }
                        }
                    }
                },
            };
            if limit.is_over() {
                break;
            }
        }
        Err(error)
    }

    /// As a shard that connects, and goes again.
    async fn greet(&self, place: &Place, address: SocketAddr) -> io::Result<()> {
        let delivery = &place.delivery;
        let link = delivery.link().map(Arc::as_ref);
        let mut socket = Stream::connect(address, link, self.timeout).await?;
        let outlet = Outlet::new(delivery.sink(), &delivery.outlet(), salt());
        let (Some(mut outlet), mut out) = (outlet, Vec::new()) else {
            socket.end(GOODBYE_PATIENCE).await;
            return Ok(());
        };
        let mut is_open = outlet.hello(&mut out);
        let (mut heard, mut some) = (Vec::new(), [0; 4096]);
        if is_open {
            socket.end(GOODBYE_PATIENCE).await;
            return Ok(());
        }
        while !is_open {
            socket.write_all(&out, self.timeout).await?;
            out.clear();
            match socket.read(&mut some).await? {
                0 => return Err(closed("before its greeting was whole", link)),
                len => heard.extend_from_slice(&some[..len]),
            }
            let mut rest = &heard[..];
            while let Some(said) = outlet
                .hear(&mut rest, &mut out)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.detail))?
            {
                is_open |= said == Heard::Ready;
            }
            let left = rest.len();
            heard.drain(..heard.len() - left);
            if left > GREETING_BYTES_MAX {
                let error = format!("its greeting does not end within {left} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        outlet.goodbye(&mut out);
        if !out.is_empty() {
            socket.write_all(&out, self.timeout).await?;
            // Its own goodbye: some call it an error when nobody waits for that, and others say none. It is well.
            let mut patience = Limit::new(GOODBYE_PATIENCE);
            let _ = within(&mut patience, socket.read(&mut some)).await;
        }
        socket.end(GOODBYE_PATIENCE).await;
        Ok(())
    }

    /// Asks for `path`, with more header lines.
    async fn ask(
        &self,
        place: &Place,
        path: &str,
        headers: &[u8],
        address: SocketAddr,
    ) -> io::Result<u16> {
        let link = place.delivery.link().map(Arc::as_ref);
        let mut socket = Stream::connect(address, link, self.timeout).await?;
        let endpoint = &place.endpoint;
        let mut request = Vec::new();
        let mut head = HeadWriter::request(&mut request, "GET", path, "");
        head.header("Host", &endpoint.authority());
        head.header("Via", &format!("1.1 {}", self.via));
        head.header("User-Agent", concat!("weir/", env!("CARGO_PKG_VERSION")));
        head.header("Accept", "*/*");
        head.header("Connection", "close");
        let headers = String::from_utf8_lossy(headers);
        for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
            head.header(name, value);
        }
        head.end();
        socket.write_all(&request, self.timeout).await?;
        let (mut reader, mut some) = (ResponseReader::new(), [0; 4096]);
        loop {
            let mut input = match socket.read(&mut some).await? {
                0 => return Err(closed("before its answer was whole", link)),
                len => &some[..len],
            };
            let answer = reader.next(&mut input);
            let answer =
                answer.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.detail))?;
            // The status is all that is asked for: the body may be on its way.
            let head = answer
                .map(|answer| answer.head)
                .or_else(|| reader.answer_head());
            if let Some(head) = head {
                socket.end(GOODBYE_PATIENCE).await;
                return Ok(head.status);
            }
        }
    }
}
