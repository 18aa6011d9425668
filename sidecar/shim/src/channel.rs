//! A connection between shim and sidecar: packets with descriptors over a unix socket.
//!
//! The socket is of type `SOCK_SEQPACKET`, so a packet arrives whole, with the descriptors
//! that were sent beside it, or not at all.
#![allow(unsafe_code)] // Received descriptors are adopted; see `adopt`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    cmsg_space,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
        UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, socket,
    },
};

use crate::protocol::MAX_PACKET;

/// How long a send may wait for the other end to make room, in milliseconds.
const PATIENCE: u16 = 2000;

/// One connection.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A packet and the descriptors that came with it.
#[derive(Debug)]
pub struct Received {
    /// The packet.
    pub packet: Vec<u8>,
    /// The descriptors, in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// The step to take when the other end has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Wait a little, then fail.
    Wait,
    /// Leave the packet out.
    Drop,
}

impl Channel {
    /// Connects to the listener at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(socket))
    }

    /// Sends one packet.
    pub fn send(
        &self,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
        full: Full,
    ) -> io::Result<()> {
        if packet.len() > MAX_PACKET {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let beside = if raw.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            let content = [IoSlice::new(packet)];
            match sendmsg::<()>(self.0.as_raw_fd(), &content, beside, flags, None) {
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) if full == Full::Drop => return Ok(()),
                Err(nix::Error::EAGAIN) => self.wait_for_room()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut wanted, PollTimeout::from(PATIENCE)) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits so many milliseconds for a packet. False when there was none.
    pub fn is_readable_within(&self, patience: u16) -> io::Result<bool> {
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::from(patience)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a packet. None when the other end is gone.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut packet = vec![0; MAX_PACKET];
        let mut space = cmsg_space!([RawFd; 4]);
        let (length, descriptors) = loop {
            let mut content = [IoSliceMut::new(&mut packet)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut content, Some(&mut space), flags) {
                Ok(message) => break (message.bytes, adopt(message.cmsgs()?)),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        packet.truncate(length);
        packet.shrink_to_fit();
        Ok(Some(Received {
            packet,
            descriptors,
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = SockType::SeqPacket;
    Ok(socket(
        AddressFamily::Unix,
        kind,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Takes ownership of the descriptors that a message carried.
fn adopt(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    messages
        .filter_map(|message| match message {
            ControlMessageOwned::ScmRights(raw) => Some(raw),
            _ => None,
        })
        .flatten()
        // SAFETY: the kernel has just made these descriptors for this process, and nothing
        // else knows their numbers.
        .map(|raw| unsafe { OwnedFd::from_raw_fd(raw) })
        .collect()
}

/// Where the sidecar waits for shims.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at `path`, taking the place of an earlier listener.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        // Sidecar and worker run as different users of one pod.
        let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(path, anyone)?;
        listen(&socket, Backlog::new(8)?)?;
        Ok(Self(socket))
    }

    /// Waits for a connection.
    pub fn accept(&self) -> io::Result<Channel> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: the kernel has just made this descriptor for this process.
                Ok(raw) => return Ok(Channel(unsafe { OwnedFd::from_raw_fd(raw) })),
                Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_descriptor_sent_beside_a_packet_works_at_the_other_end() {
        let path = std::env::temp_dir().join(format!("shim-channel-{}.sock", std::process::id()));
        let listener = Listener::bind(&path).unwrap();
        let near = Channel::connect(&path).unwrap();
        let far = listener.accept().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        near.send(b"packet", &[theirs.as_fd()], Full::Wait).unwrap();
        drop(theirs);
        let mut received = far.receive().unwrap().unwrap();
        assert_eq!(received.packet, b"packet");
        let mut adopted = std::os::unix::net::UnixStream::from(received.descriptors.remove(0));
        adopted.write_all(b"hello").unwrap();
        drop(adopted);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(near);
        assert!(far.receive().unwrap().is_none());
        std::fs::remove_file(path).unwrap();
    }
}
