//! Connections that this process asks for.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::app::{Dial, Peer};
use super::ring::{Op, Ring, Token};

/// One that is being made.
struct Line {
    tag: u64,
    /// Nothing if no socket could be had, and why.
    socket: io::Result<Socket>,
    to: SocketAddr,
    /// Where the kernel reads it.
    address: Box<SockAddr>,
    /// Nobody waits for it any more.
    unwanted: bool,
}

/// All of one core.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Option<Line>>,
}

impl Lines {
    pub fn dial(&mut self, dial: Dial, ring: &mut Ring) {
        let free = self.lines.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.lines.push(None);
            self.lines.len() - 1
        });
        let token = Token::new(Op::Connect, index as u32, 0);
        let line = self.lines[index].insert(Line {
            tag: dial.tag,
            socket: open(&dial),
            to: dial.to,
            address: Box::new(dial.to.into()),
            unwanted: false,
        });
        match &line.socket {
            Ok(socket) => ring.connect(socket.as_raw_fd(), &line.address, token),
            // The kernel says no in its own time, so that the app hears of it as of any other.
            Err(_) => ring.connect(-1, &line.address, token),
        }
    }

    /// Gives one up.
    pub fn hang_up(&mut self, tag: u64, ring: &mut Ring) {
        for (index, line) in self.lines.iter_mut().enumerate() {
            if let Some(line) = line.as_mut().filter(|line| line.tag == tag) {
                line.unwanted = true;
                ring.cancel(Token::new(Op::Connect, index as u32, 0));
            }
        }
    }

    /// The kernel is done with one. `None`: nobody waits for it.
    pub fn completed(
        &mut self,
        token: Token,
        result: i32,
    ) -> Option<(u64, io::Result<(OwnedFd, Peer)>)> {
        let line = self.lines.get_mut(token.index as usize)?.take()?;
        if line.unwanted {
            return None;
        }
        let made = line.socket.and_then(|socket| match result {
            0 => Ok(peer_of(socket, line.to)),
            error => Err(io::Error::from_raw_os_error(-error)),
        });
        Some((line.tag, made))
    }
}

fn open(dial: &Dial) -> io::Result<Socket> {
    let domain = Domain::for_address(dial.to);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(dial.no_delay)?;
    if let Some(from) = dial.from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

fn peer_of(socket: Socket, to: SocketAddr) -> (OwnedFd, Peer) {
    let stream = TcpStream::from(socket);
    // A connection that was reset at once has no address of its own; its end follows.
    let local = stream.local_addr().unwrap_or(to);
    (stream.into(), Peer::Tcp { peer: to, local })
}
