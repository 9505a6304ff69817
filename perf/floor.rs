//! The least that a server of this protocol costs: one thread, epoll, and `+OK` to every request.
//!
//! It keeps nothing, looks at nothing but where requests begin, and answers all that one read brought
//! with one write. What it spends is the kernel's price for receiving, waking and sending, which every
//! server on that kernel pays; a target below it cannot be met there. It is a reference like any other:
//!
//! ```sh
//! perf/compare.py --reference "target/release/examples/floor {port}"
//! ```
//!
//! Requests are counted by their `*`, so values must hold none; redis-benchmark's do not.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const REPLY: &[u8] = b"+OK\r\n";
/// More than any client of a benchmark sends at once.
const BUFFER_BYTES: usize = 1 << 16;
/// The listener's; connections have their index plus one.
const LISTENER: Token = Token(0);

/// Requests in some input: multibulk by their `*`; without any, inline ones by their lines.
fn requests(input: &[u8]) -> usize {
    match memchr::memchr_iter(b'*', input).count() {
        0 => memchr::memchr_iter(b'\n', input).count(),
        count => count,
    }
}

/// Answers what has arrived; returns whether the connection is over.
fn serve(stream: &mut TcpStream, input: &mut [u8], replies: &[u8]) -> std::io::Result<bool> {
    loop {
        let read = match stream.read(input) {
            Ok(0) => return Ok(true),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Ok(true),
        };
        let bytes = requests(&input[..read]) * REPLY.len();
        stream.write_all(&replies[..bytes])?;
        // A short read emptied the socket: whatever comes later is announced again.
        if read < input.len() {
            return Ok(false);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args()
        .nth(1)
        .ok_or("usage: floor PORT")?
        .parse()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut input = vec![0; BUFFER_BYTES];
    let replies = REPLY.repeat(BUFFER_BYTES);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(streams.len() + 1);
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    streams.push(Some(stream));
                }
                continue;
            }
            let slot = &mut streams[event.token().0 - 1];
            if let Some(stream) = slot
                && serve(stream, &mut input, &replies).unwrap_or(true)
            {
                *slot = None;
            }
        }
    }
}
