//! How connections begin: accepted and given to the least loaded core, or asked for by this process.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{Driver, Slot};
use crate::runtime::app::{App, ConnId, ConnInfo, Outgoing};
use crate::runtime::conn::Conn;
use crate::runtime::listen::greet;
use crate::runtime::mailbox::Mail;
use crate::runtime::ring::{Completion, Op, Token};

/// After an accept that failed for want of descriptors or memory, nanoseconds until the next try.
const ACCEPT_BACKOFF_NS: u64 = 100_000_000;

impl<A: App> Driver<A> {
    pub(super) fn arm_accepts(&mut self) {
        for listener in 0..self.io.doors.open.len() {
            self.arm_accept(listener);
        }
    }

    fn arm_accept(&mut self, listener: usize) {
        let listener = &mut self.io.doors.open[listener];
        // At most one accept is under way for each listener.
        if std::mem::replace(&mut listener.armed, true) {
            return;
        }
        let token = Token::new(Op::Accept, listener.id, 0);
        self.ring.accept(listener.fd(), token);
    }

    #[allow(unsafe_code)]
    pub(super) fn accepted(&mut self, completion: Completion) {
        let listener = self.io.doors.accepted(completion.token.index);
        match (completion.result, listener) {
            (fd, listener) if fd >= 0 => {
                // SAFETY: the kernel just made this descriptor for us.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                if let Some(listener) = listener {
                    self.welcome(fd, listener);
                    self.arm_accept(listener);
                }
            }
            (_, None) => {}
            (error, Some(listener)) => match -error {
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                    self.accepts_again_ns = Some(self.io.now.mono_ns + ACCEPT_BACKOFF_NS);
                }
                libc::ECANCELED | libc::EBADF => {}
                // The peer gave up, or the network hiccuped (CVE-2025-48367): just go on.
                _ => self.arm_accept(listener),
            },
        }
    }

    /// Admits a new connection and hands it to the least loaded core.
    fn welcome(&mut self, fd: OwnedFd, listener: usize) {
        let Ok(peer) = greet(
            &fd,
            &self.io.doors.open[listener],
            self.io.doors.keepalive_s,
        ) else {
            return;
        };
        self.next_client_id += 1;
        let info = ConnInfo {
            client_id: self.next_client_id,
            peer,
            fd: fd.as_raw_fd(),
        };
        if let Err(refusal) = self.app.admit(&info, self.shared.connections()) {
            refuse(&fd, &refusal);
            return;
        }
        let shard = self.shared.least_loaded();
        self.shared.doors[shard]
            .connections
            .fetch_add(1, Ordering::Relaxed);
        if shard == self.io.shard {
            self.open(fd, info);
        } else {
            self.adopted.push((shard, Mail::Adopt(fd, Box::new(info))));
        }
    }

    /// A connection that this process asked for.
    pub(super) fn dialed(&mut self, completion: Completion) {
        let Completion { token, result, .. } = completion;
        let Some((tag, result)) = self.lines.completed(token, result) else {
            return;
        };
        let result = result.map(|(fd, peer)| {
            self.next_client_id += 1;
            let info = ConnInfo {
                client_id: self.next_client_id,
                peer,
                fd: fd.as_raw_fd(),
            };
            let door = &self.shared.doors[self.io.shard];
            door.connections.fetch_add(1, Ordering::Relaxed);
            (self.seat(fd), info)
        });
        self.app.dialed(tag, result, &mut self.io);
    }

    pub(super) fn open(&mut self, fd: OwnedFd, info: ConnInfo) {
        let id = self.seat(fd);
        self.app.opened(id, info, &mut self.io);
    }

    /// Gives a connection its place, and begins to read.
    fn seat(&mut self, fd: OwnedFd) -> ConnId {
        self.gathering.note_opened();
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                conn: None,
            });
            self.io.outgoing.push(Outgoing::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnId {
            index,
            generation: slot.generation,
        };
        let mut conn = Box::new(Conn::new(fd, index, slot.generation));
        conn.arm_recv(&mut self.ring);
        slot.conn = Some(conn);
        self.io.outgoing[index as usize] = Outgoing {
            generation: id.generation,
            ..Outgoing::default()
        };
        id
    }
}

/// Tells a peer why it is not served. Best effort, without waiting.
#[allow(unsafe_code)]
fn refuse(fd: &OwnedFd, text: &[u8]) {
    // SAFETY: the bytes are valid for the duration of the call.
    unsafe {
        libc::send(
            fd.as_raw_fd(),
            text.as_ptr().cast(),
            text.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        );
    }
}
