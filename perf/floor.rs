//! The least that a server of this protocol costs: one thread, epoll, and `+OK` to every request.
//!
//! It keeps nothing, looks at nothing but where requests begin, and answers all that one read brought
//! with one write. Whoever sends SUBSCRIBE gets what PUBLISH brings, whatever the channel. What it
//! spends is the kernel's price for receiving, waking and sending, which every server on that kernel
//! pays; a target below it cannot be met there. It is a reference like any other:
//!
//! ```sh
//! perf/compare.py --reference "$PWD/target/release/examples/floor {port}"
//! ```
//!
//! Requests are counted by their `*`, so values must hold none; redis-benchmark's do not.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const REPLY: &[u8] = b"+OK\r\n";
/// How a PUBLISH begins, and what becomes of it.
const PUBLISH: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
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

/// Connections, and which of them listen.
#[derive(Default)]
struct Clients {
    streams: Vec<Option<TcpStream>>,
    listeners: Vec<usize>,
}

impl Clients {
    /// Answers what has arrived from one; returns whether it is gone.
    fn serve(&mut self, at: usize, input: &mut [u8], replies: &[u8]) -> std::io::Result<bool> {
        loop {
            let Some(stream) = &mut self.streams[at] else {
                return Ok(false);
            };
            let read = match stream.read(input) {
                Ok(0) => return Ok(true),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Ok(true),
            };
            let request = &input[..read];
            stream.write_all(&replies[..requests(request) * REPLY.len()])?;
            if request.starts_with(b"SUBSCRIBE") {
                self.listeners.push(at);
            } else if !self.listeners.is_empty()
                && let Some(rest) = request.strip_prefix(PUBLISH)
            {
                self.publish(&[MESSAGE, rest].concat())?;
            }
            // A short read emptied the socket: whatever comes later is announced again.
            if read < input.len() {
                return Ok(false);
            }
        }
    }

    fn publish(&mut self, message: &[u8]) -> std::io::Result<()> {
        for &at in &self.listeners {
            if let Some(stream) = &mut self.streams[at] {
                stream.write_all(message)?;
            }
        }
        Ok(())
    }

    fn gone(&mut self, at: usize) {
        self.streams[at] = None;
        self.listeners.retain(|&other| other != at);
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
    let mut clients = Clients::default();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(clients.streams.len() + 1);
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    clients.streams.push(Some(stream));
                }
                continue;
            }
            let at = event.token().0 - 1;
            if clients.serve(at, &mut input, &replies).unwrap_or(true) {
                clients.gone(at);
            }
        }
    }
}
