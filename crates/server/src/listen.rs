//! The sockets that we listen on.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system may hold until we accept them.
const BACKLOG: u32 = 1024;

/// Listens on an address; `[::]` means IPv4 as well, whatever the system's default is.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // So that a server that ends can be followed by the next one at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    /// A machine without IPv6 says so; with it, both kinds of address reach the socket.
    #[tokio::test]
    async fn all_of_ipv6_is_ipv4_as_well() {
        let can_bind = |address| std::net::TcpListener::bind((address, 0)).is_ok();
        let listening = listen((Ipv6Addr::UNSPECIFIED, 0).into());
        assert_eq!(listening.is_ok(), can_bind(Ipv6Addr::UNSPECIFIED));
        let Ok(listening) = listening else { return };
        let port = listening.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let over_ipv6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        assert_eq!(over_ipv6.is_ok(), can_bind(Ipv6Addr::LOCALHOST));
    }

    #[tokio::test]
    async fn one_address_is_one_address() {
        let listening = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listening.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_ok());
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).is_err());
        assert!(listen(address).is_err(), "it is taken");
    }
}
