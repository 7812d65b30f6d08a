//! Ports for programs that must be told which one to listen on.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};

/// A port that is free on every address, held by a socket that is bound and never listens. While it lives the kernel
/// gives the port to no other test and to no connection; a server with SO_REUSEADDR can listen there.
pub struct Port {
    number: u16,
    _holder: Socket,
}

impl Port {
    /// Any port that is free.
    pub fn hold() -> Port {
        let holder =
            Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        holder.set_reuse_address(true).expect("an option");
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        holder.bind(&any.into()).expect("a free port");
        let address = holder.local_addr().expect("bound").as_socket();
        Port {
            number: address.expect("an IP address").port(),
            _holder: holder,
        }
    }

    /// What programs are told.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
