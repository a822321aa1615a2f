//! Making the sockets of the ingest side: options, ranges, and a clear error when a port is taken.
#![forbid(unsafe_code)]

use crate::mmsg;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

/// Asked of the system for each UDP socket; a key picture of a 4K camera comes as one burst.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Asked for each private port: one camera.
const PRIVATE_BUFFER: usize = 4 << 20;

#[derive(Debug)]
pub enum StartError {
    PortTaken { port: u16, protocol: &'static str },
    Io(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PortTaken { port, protocol } => write!(f, "{protocol} port {port} is taken"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

fn refused(error: io::Error, port: u16, protocol: &'static str) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => StartError::PortTaken { port, protocol },
        _ => StartError::Io(error),
    }
}

fn udp(address: SocketAddr, shared: bool, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // The system cuts this down to its own limit; forcing works only with privileges.
    socket.set_recv_buffer_size(buffer)?;
    mmsg::force_receive_buffer(socket.as_fd(), i32::try_from(buffer).unwrap_or(i32::MAX));
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// One UDP socket per worker, all on the same port; the kernel keeps each sender with one of them.
///
/// # Errors
/// `PortTaken`, `Io`.
pub fn shared_udp(bind: IpAddr, port: u16, workers: usize) -> Result<Vec<UdpSocket>, StartError> {
    let address = SocketAddr::new(bind, port);
    let alone = udp(address, false, RECEIVE_BUFFER).map_err(|error| refused(error, port, "udp"))?;
    if workers == 1 {
        return Ok(vec![alone]);
    }
    // Sockets that share a port do not notice a stranger who shares it too; one that does not share did.
    let address = alone.local_addr().map_err(StartError::Io)?;
    drop(alone);
    (0..workers)
        .map(|_| udp(address, true, RECEIVE_BUFFER).map_err(|error| refused(error, address.port(), "udp")))
        .collect()
}

/// # Errors
/// `PortTaken`, `Io`.
pub fn listener(bind: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let make = || -> io::Result<TcpListener> {
        let address = SocketAddr::new(bind, port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(1_024)?;
        Ok(socket.into())
    };
    make().map_err(|error| refused(error, port, "tcp"))
}

/// A socket on the first free even port of `range` at or after `start` (RTP convention: even, facts 17.1), going round.
#[derive(Debug)]
pub enum Private {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Private {
    /// # Errors
    /// The last refusal when no port of the range is free.
    pub fn open(bind: IpAddr, range: (u16, u16), start: u16, tcp: bool) -> io::Result<(Self, u16)> {
        let ports = (range.0..=range.1).filter(|port| port % 2 == 0);
        let (before, after): (Vec<u16>, Vec<u16>) = ports.partition(|port| *port < start);
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for port in after.into_iter().chain(before) {
            let made = if tcp {
                listener(bind, port).map(Self::Tcp).map_err(|error| match error {
                    StartError::Io(error) => error,
                    StartError::PortTaken { .. } => io::ErrorKind::AddrInUse.into(),
                })
            } else {
                udp(SocketAddr::new(bind, port), false, PRIVATE_BUFFER).map(Self::Udp)
            };
            match made {
                Ok(socket) => return Ok((socket, port)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}
