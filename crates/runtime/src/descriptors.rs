//! Open descriptors sent over a unix stream socket, with a message that says what they are.
//!
//! A message on the wire is its length (4 bytes, big-endian), then its bytes; the descriptors travel with the length
//! (SCM_RIGHTS, unix(7)). Received descriptors are closed on exec. Both calls block; set timeouts on the stream.
//! What is left out: several messages at once, and non-blocking streams.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Descriptors in one message: the kernel's own limit (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 253;

/// Bytes in one message.
pub const MOST_BYTES: usize = 1 << 20;

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends `message` together with `descriptors`, of which the receiver gets duplicates.
pub fn send_fds(stream: &UnixStream, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MOST_DESCRIPTORS || message.len() > MOST_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let length = u32::try_from(message.len()).expect("at most MOST_BYTES").to_be_bytes();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "the space is for MOST_DESCRIPTORS");
    }
    let sent = loop {
        match rustix::net::sendmsg(stream, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    let mut stream = stream;
    stream.write_all(&length[sent..])?;
    stream.write_all(message)
}

/// Receives what [`send_fds`] sent. [`io::ErrorKind::UnexpectedEof`] when the other side is gone.
pub fn receive_fds(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let received = loop {
        match rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(invalid("some of the sent descriptors did not arrive: too many are open here"));
    }
    let mut stream = stream;
    stream.read_exact(&mut length[received.bytes..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST_BYTES {
        return Err(invalid("the message is longer than any of ours"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok((message, descriptors))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_listener_survives_the_journey() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let borrowed: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
        send_fds(&ours, b"forty", &borrowed).unwrap();
        send_fds(&ours, b"none", &[]).unwrap();
        drop(listeners);

        let (message, descriptors) = receive_fds(&theirs).unwrap();
        assert_eq!((message.as_slice(), descriptors.len()), (&b"forty"[..], 40));
        for (descriptor, address) in descriptors.into_iter().zip(addresses) {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let listener = TcpListener::from(descriptor);
            assert_eq!(listener.local_addr().unwrap(), address);
            let _client = TcpStream::connect(address).unwrap();
            listener.accept().unwrap();
        }
        assert_eq!(receive_fds(&theirs).unwrap().0, b"none");
        drop(ours);
        assert_eq!(receive_fds(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_message_that_claims_to_be_huge_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(&[255; 4]).unwrap();
        assert_eq!(receive_fds(&theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
