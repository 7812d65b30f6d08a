//! One health check: `GET {endpoint}/health` of the address that POSTs go to, or of another that its name has
//! by now.
//!
//! ```text
//! name -> resolver -> [ where POSTs go, if the name still has that; then the others ]
//!             |           `- the first that is well is where POSTs go from now on
//!             `- no answer: where POSTs go
//! ```

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::http;
use super::resolver::{Resolver, Unresolved};
use weir_clock::Limit;
use weir_config::{Endpoint, OwnListeners};
use weir_protocol::text::Time;

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
    /// Asks once. `at` is where POSTs go; `stays` is asked while a name is looked up, and ends the check when
    /// the analyzer was removed. The address that answered, or why none did.
    ///
    /// # Errors
    /// What was wrong with the last address, or with the name.
    pub fn check(
        &self,
        endpoint: &Endpoint,
        at: Option<SocketAddr>,
        stays: impl Fn() -> bool,
    ) -> Result<SocketAddr, String> {
        let (timeout, host) = (self.timeout, &endpoint.host);
        let mut limit = Limit::new(timeout);
        let found = self.resolver.addresses(host, || match stays() {
            true => limit.slice(),
            false => None,
        });
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
            match self
                .own
                .check(address)
                .map(|()| self.ask(endpoint, address, &mut limit))
            {
                Err(why) => error = why,
                Ok(Ok(status)) if (200..300).contains(&status) => return Ok(address),
                Ok(Ok(508)) => {
                    error = format!(
                        "{address}: status 508: it is this distributor itself, or leads back to it"
                    );
                }
                Ok(Ok(status)) => error = format!("{address}: status {status}; 2xx is healthy"),
                Ok(Err(why)) if is_timeout(&why) => {
                    error = format!("{address}: no answer within {}", Time(timeout));
                }
                Ok(Err(why)) => error = format!("{address}: {why}"),
            }
            if limit.is_over() {
                break;
            }
        }
        Err(error)
    }

    fn ask(&self, endpoint: &Endpoint, address: SocketAddr, limit: &mut Limit) -> io::Result<u16> {
        let mut socket = connect(address, limit)?;
        socket.set_write_timeout(Some(left(limit)?))?;
        let request = format!(
            "GET {}/health HTTP/1.1\r\nHost: {}\r\nVia: 1.1 {}\r\nUser-Agent: weir/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            endpoint.path,
            endpoint.authority(),
            self.via,
            env!("CARGO_PKG_VERSION")
        );
        socket.write_all(request.as_bytes())?;
        let patient = Patient { socket, limit };
        http::read_response(patient).map(|reply| reply.status)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

/// Waits until it is connected, within the limit; once more when this process did not run meanwhile.
fn connect(address: SocketAddr, limit: &mut Limit) -> io::Result<TcpStream> {
    loop {
        let wait = left(limit)?;
        match TcpStream::connect_timeout(&address, wait) {
            Err(error) if is_timeout(&error) && !limit.left_after(wait).is_zero() => {}
            connected => return connected,
        }
    }
}

fn left(limit: &mut Limit) -> io::Result<Duration> {
    let left = Some(limit.left()).filter(|left| !left.is_zero());
    left.ok_or(io::ErrorKind::TimedOut.into())
}

/// A socket whose reads all together may take as long as the limit says, however slowly bytes drip in.
struct Patient<'a> {
    socket: TcpStream,
    limit: &'a mut Limit,
}

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let slice = self.limit.slice().ok_or(io::ErrorKind::TimedOut)?;
            self.socket.set_read_timeout(Some(slice))?;
            match self.socket.read(out) {
                Err(error) if is_timeout(&error) => {}
                read => return read,
            }
        }
    }
}
