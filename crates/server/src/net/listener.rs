//! Listening sockets, from `bind` and `port`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// One listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Opens a socket for each address of `bind`. `*` and `::*` are all addresses of a family; `-` in
/// front means that the address may be missing on this machine. Port 0 lets the system choose; all
/// addresses then share the port it chose for the first.
pub(crate) fn bind(addresses: &str, port: u16, backlog: i32) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    for word in addresses.split_whitespace() {
        let (optional, text) = match word.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, word),
        };
        let ip = match text {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            text => text.parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("bind: '{text}' is not an IP address"),
                )
            })?,
        };
        let port = listeners.first().map_or(port, |first| first.address.port());
        match open(SocketAddr::new(ip, port), backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if optional && is_missing(&error) => {}
            Err(error) => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot listen on {}: {error}", SocketAddr::new(ip, port)),
                ));
            }
        }
    }
    match listeners.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to listen on")),
        false => Ok(listeners),
    }
}

/// The address, or its whole family, does not exist here.
fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without it a restart would fail while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let socket = TcpListener::from_std(socket.into());
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

/// What every accepted connection gets.
pub(crate) fn prepare(stream: &TcpStream, keepalive: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if !keepalive.is_zero() {
        let third = (keepalive / 3).max(Duration::from_secs(1));
        let options = TcpKeepalive::new().with_time(keepalive).with_interval(third).with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&options)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_and_named() {
        let first = bind("127.0.0.1", 0, 16).unwrap();
        let port = first[0].address.port();
        let error = bind("127.0.0.1", port, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }

    #[test]
    fn optional_addresses_may_be_missing_and_junk_is_refused() {
        assert_eq!(bind("127.0.0.1 -192.0.2.1", 0, 16).unwrap().len(), 1);
        assert!(bind("192.0.2.1", 0, 16).is_err());
        assert!(bind("localhost?", 0, 16).is_err());
        assert!(bind("", 0, 16).is_err());
    }
}
