//! One connection: its socket, what it is sending, what it waits for.
#![allow(unsafe_code)] // Vectors of addresses for sendmsg.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::ring::{Op, Ring, Token};
use crate::resp::Output;

/// Bytes of one send: what a socket takes at once, so that progress is seen and memory returned.
const SEND_MAX_BYTES: usize = 1024 * 1024;
/// Pieces of one vectored send.
const PIECES_MAX: usize = 64;

/// A vectored send's header and vector, kept in place while the kernel reads them.
struct Vector {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

pub(super) struct Conn {
    fd: OwnedFd,
    pub index: u32,
    pub generation: u32,
    /// Being sent; `sent` bytes of it are gone.
    sending: Output,
    sent: usize,
    sending_len: usize,
    vector: Option<Box<Vector>>,
    pub send_in_flight: bool,
    pub recv_armed: bool,
    /// The app does not want to read at the moment.
    pub paused: bool,
    /// The kernel is to tell when the peer has hung up; it has.
    pub watch_armed: bool,
    pub hung_up: bool,
    /// The peer will send nothing more.
    pub eof: bool,
    pub close_after_flush: bool,
    /// Nothing may be started any more; the slot is free once all operations have completed.
    pub closing: bool,
    pub wants_drained: bool,
}

impl Conn {
    pub fn new(fd: OwnedFd, index: u32, generation: u32) -> Conn {
        Conn {
            fd,
            index,
            generation,
            sending: Output::default(),
            sent: 0,
            sending_len: 0,
            vector: None,
            send_in_flight: false,
            recv_armed: false,
            paused: false,
            watch_armed: false,
            hung_up: false,
            eof: false,
            close_after_flush: false,
            closing: false,
            wants_drained: false,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn token(&self, op: Op) -> Token {
        Token::new(op, self.index, self.generation)
    }

    pub fn arm_recv(&mut self, ring: &mut Ring) {
        if !self.recv_armed && !self.paused && !self.eof && !self.closing {
            self.recv_armed = true;
            ring.recv(self.fd(), self.token(Op::Recv));
        }
    }

    pub fn cancel_recv(&mut self, ring: &mut Ring) {
        if self.recv_armed {
            ring.cancel(self.token(Op::Recv));
        }
    }

    /// Has the kernel tell when the peer hangs up: who does not read would not see it.
    pub fn arm_watch(&mut self, ring: &mut Ring) {
        if !self.watch_armed && !self.eof && !self.closing {
            self.watch_armed = true;
            ring.watch_hangup(self.fd(), self.token(Op::Hangup));
        }
    }

    /// Bytes the kernel has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.sending_len - self.sent
    }

    /// Starts sending `output`, leaving an emptied one in its place.
    pub fn start_send(&mut self, output: &mut Output, ring: &mut Ring) {
        debug_assert!(!self.send_in_flight && self.unsent_bytes() == 0);
        self.sending.clear();
        std::mem::swap(&mut self.sending, output);
        self.sent = 0;
        self.sending_len = self.sending.len();
        self.continue_send(ring);
    }

    /// Sends the next stretch of what is left.
    pub fn continue_send(&mut self, ring: &mut Ring) {
        self.send_in_flight = true;
        let token = self.token(Op::Send);
        let fd = self.fd();
        if self.sending.shared().is_empty() {
            let end = self.sending.bytes.len().min(self.sent + SEND_MAX_BYTES);
            ring.send(fd, &self.sending.bytes[self.sent..end], token);
            return;
        }
        let header = self.build_vector();
        ring.send_vectored(fd, header, token);
    }

    /// Describes the unsent bytes as pieces, from `sent` on.
    fn build_vector(&mut self) -> *const libc::msghdr {
        let mut pieces = Vec::with_capacity(PIECES_MAX.min(2 * self.sending.shared().len() + 1));
        let mut skip = self.sent;
        let mut room = SEND_MAX_BYTES;
        let mut from = 0;
        for (at, chunk) in self.sending.shared() {
            for bytes in [&self.sending.bytes[from..*at], &chunk[..]] {
                add_piece(bytes, &mut skip, &mut room, &mut pieces);
            }
            from = *at;
        }
        add_piece(
            &self.sending.bytes[from..],
            &mut skip,
            &mut room,
            &mut pieces,
        );
        // SAFETY: all-zero bytes are a valid, empty message header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = pieces.len();
        let vector = self.vector.insert(Box::new(Vector { header, pieces }));
        debug_assert!(!vector.pieces.is_empty());
        &raw const vector.header
    }

    /// `n` bytes are gone. Returns whether everything is.
    pub fn sent(&mut self, n: usize) -> bool {
        self.sent += n;
        self.vector = None;
        if self.unsent_bytes() > 0 {
            return false;
        }
        self.sending.clear();
        self.sent = 0;
        self.sending_len = 0;
        true
    }

    /// The buffer that was sent, for another connection's replies: one that waits holds no memory.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        debug_assert!(!self.send_in_flight && self.sending_len == 0);
        std::mem::take(&mut self.sending.bytes)
    }

    /// Wakes all operations on the socket; they complete with an error or the end of the stream.
    pub fn shutdown(&self) {
        // SAFETY: the descriptor is open. Failure means that the peer was faster.
        unsafe {
            libc::shutdown(self.fd(), libc::SHUT_RDWR);
        }
    }

    /// No operation of this connection is in the kernel any more.
    pub fn is_quiet(&self) -> bool {
        !self.send_in_flight && !self.recv_armed && !self.watch_armed
    }
}

/// Adds what of `bytes` is not skipped, as far as there is room.
fn add_piece(bytes: &[u8], skip: &mut usize, room: &mut usize, pieces: &mut Vec<libc::iovec>) {
    let skipped = (*skip).min(bytes.len());
    *skip -= skipped;
    let len = (bytes.len() - skipped).min(*room);
    if len == 0 {
        return;
    }
    if pieces.len() == PIECES_MAX {
        // Later pieces must not overtake this one.
        *room = 0;
        return;
    }
    *room -= len;
    pieces.push(libc::iovec {
        iov_base: bytes[skipped..].as_ptr() as *mut _,
        iov_len: len,
    });
}
