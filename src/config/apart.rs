//! Listeners of one distributor are apart. The kernel would blame another process for the port that its own first
//! listener has.

use std::net::SocketAddr;

use super::{Admin, Config, Transport};

impl Config {
    /// No two listeners have the same port, unless on different addresses.
    ///
    /// # Errors
    /// Both flags and their addresses.
    pub(super) fn check_apart(&self) -> Result<(), String> {
        let admin = match &self.admin {
            Some(Admin::Tcp(address)) => Some(*address),
            _ => None,
        };
        let own = [
            ("--emitters".to_owned(), Some(self.emitters)),
            ("--analyzers".to_owned(), Some(self.analyzers)),
            ("--http".to_owned(), self.http.listen),
            ("--admin".to_owned(), admin),
        ];
        let inputs = self.all_inputs().into_iter();
        let inputs = inputs.map(|input| (input.flag(), Some(input.listen), input.transport));
        let own = own.map(|(flag, address)| (flag, address, Transport::Tcp));
        let all: Vec<(String, Option<SocketAddr>, Transport)> =
            own.into_iter().chain(inputs).collect();
        for (index, (flag, address, transport)) in all.iter().enumerate() {
            for (other, second, others) in &all[..index] {
                let (Some(address), Some(second)) = (address, second) else {
                    continue;
                };
                // Ports of TCP and of UDP are other ports.
                if transport == others && collide(*address, *second) {
                    return Err(format!(
                        "{flag} {address}: {other} listens there ({second}); allowed: a port or an address of its own"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Port 0 is any that is free. An address that stands for all takes the port of each.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let is_one_kind = a.is_ipv4() == b.is_ipv4();
    let is_everywhere = |address: SocketAddr| address.ip().is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && is_one_kind
        && (a.ip() == b.ip() || is_everywhere(a) || is_everywhere(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_for_one_listener() {
        let at = |text: &str| text.parse().expect(text);
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:80", "[::1]:80", false),
        ] {
            assert_eq!(collide(at(a), at(b)), expected, "{a} {b}");
            assert_eq!(collide(at(b), at(a)), expected, "{b} {a}");
        }
    }
}
