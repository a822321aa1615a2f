//! Sockets of the output side: how they are set up, read within bounds, and thrown away.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// Unsent bytes the kernel holds for a viewer.
const UNSENT: u32 = 256 * 1024;
/// Connections the kernel keeps until they are accepted; 128, as usual, overflows when a wall of players comes back.
const BACKLOG: i32 = 1024;
/// Reads from one socket in one turn of the loop.
const READS: usize = 16;

/// A non-blocking listener.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// What every accepted connection gets.
pub fn configure(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))
}

/// Closing will reset the connection: what the kernel still holds is not sent.
pub fn reset_on_close(stream: &TcpStream) {
    // A socket that cannot be told to reset is closed the ordinary way.
    let _closed_already = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Outcome of [`read_some`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    Open,
    Closed,
    /// More came at once than anybody who only watches has to say.
    Flood,
}

/// Reads what there is, keeping at most `limit` bytes; never reads for longer than [`READS`] calls.
pub fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>, limit: usize) -> Intake {
    let mut chunk = [0; 4096];
    for _ in 0..READS {
        match stream.read(&mut chunk) {
            Ok(0) => return Intake::Closed,
            Ok(count) => {
                let room = limit.saturating_sub(into.len()).min(count);
                into.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Intake::Open,
            Err(_) => return Intake::Closed,
        }
    }
    Intake::Flood
}
