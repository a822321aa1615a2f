//! Batches of datagrams by one system call (`recvmmsg(2)`). The only unsafe code of the ingest side.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams in one batch.
pub const BATCH: usize = 64;
/// Largest datagram: jumbo frames and what IP fragmentation makes of them. A longer one is refused whole.
pub const DATAGRAM: usize = 16 << 10;

/// Buffers for one batch, reused.
pub struct Batch {
    buffer: Vec<u8>,
    addresses: [libc::sockaddr_storage; BATCH],
    /// (length, truncated) of each datagram received last.
    received: Vec<(usize, bool)>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("received", &self.received.len()).finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: sockaddr_storage is plain data for which all zeros is a valid value (family AF_UNSPEC).
        let addresses = unsafe { mem::zeroed() };
        Self { buffer: vec![0; BATCH * DATAGRAM], addresses, received: Vec::with_capacity(BATCH) }
    }

    /// Receives what waits at the socket, up to a batch, without blocking. Returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; otherwise what the system says.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let mut parts: [MaybeUninit<libc::iovec>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        // SAFETY: mmsghdr is plain data for which all zeros is valid (null pointers with zero lengths).
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let slots = self.buffer.chunks_exact_mut(DATAGRAM).zip(&mut self.addresses);
        for ((message, part), (bytes, address)) in messages.iter_mut().zip(&mut parts).zip(slots) {
            let part = part.write(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: DATAGRAM });
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = (&raw mut *address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        // SAFETY: every header points to one initialised iovec over DATAGRAM bytes of `buffer` and to one element of
        // `addresses`, all of which outlive the call and are not touched by anybody else during it (`&mut self`);
        // the count is the length of the array; no timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let lengths = messages.iter().take(count).map(|message| {
            let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            ((message.msg_len as usize).min(DATAGRAM), truncated)
        });
        self.received.extend(lengths);
        Ok(count)
    }

    /// The datagrams received last with their senders; a truncated one comes as `None`.
    pub fn datagrams(&self) -> impl Iterator<Item = (Option<&[u8]>, SocketAddr)> {
        let slots = self.buffer.chunks_exact(DATAGRAM).zip(&self.addresses);
        self.received.iter().zip(slots).filter_map(|(&(length, truncated), (bytes, address))| {
            let bytes = if truncated { None } else { bytes.get(..length) };
            Some((bytes, sender(address)?))
        })
    }
}

fn sender(address: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in, as the family says; the storage is larger and aligned for it.
            let v4 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let v6 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::new(ip.to_canonical(), u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}

/// Sets the receive buffer beyond the system's limit where the process may (`CAP_NET_ADMIN`); otherwise does nothing.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: i32) {
    // SAFETY: the option value is one int that lives through the call, with its size.
    let _unprivileged = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn receives_batches_with_senders_and_refuses_oversize() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        for number in 0..70_u8 {
            sender.send_to(&[number; 20], to).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), BATCH);
        for (number, (bytes, from)) in batch.datagrams().enumerate() {
            assert_eq!((bytes, from), (Some(&[number as u8; 20][..]), sender.local_addr().unwrap()));
        }
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 6);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.datagrams().count(), 0);
        sender.send_to(&vec![0; DATAGRAM + 1], to).unwrap();
        sender.send_to(&[], to).unwrap();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 2);
        assert_eq!(batch.datagrams().map(|datagram| datagram.0).collect::<Vec<_>>(), [None, Some(&[][..])]);
    }
}
