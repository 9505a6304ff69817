//! Connections in their places: what they receive and send, and how they end.

use std::sync::atomic::Ordering;

use super::{Driver, find};
use crate::runtime::app::{App, CloseReason, ConnId, Outgoing, Request};
use crate::runtime::ring::Completion;

impl<A: App> Driver<A> {
    pub(super) fn received(&mut self, completion: Completion) {
        let Completion {
            token,
            result,
            buffer,
            more,
        } = completion;
        let mut deaf = false;
        let id = match find(&mut self.slots, token) {
            None => None,
            Some((id, conn)) => {
                conn.recv_armed &= more;
                // What comes after the app's decision to close is read and forgotten.
                deaf = conn.close_after_flush;
                (!conn.closing).then_some(id)
            }
        };
        if let Some(buffer) = buffer {
            if let Some(id) = id
                && result > 0
                && !deaf
            {
                let bytes = self.ring.buffers.filled(buffer, result as usize);
                self.app.received(id, bytes, &mut self.io);
            }
            self.ring.buffers.give_back(buffer);
        }
        match id {
            None => self.free_if_quiet(token.index),
            Some(id) => self.after_receive(id, result, more),
        }
    }

    /// Goes on reading, or notes that nothing more comes.
    fn after_receive(&mut self, id: ConnId, result: i32, more: bool) {
        let Some(conn) = self.slots[id.index as usize].conn.as_deref_mut() else {
            return;
        };
        match -result {
            0 => {
                conn.eof = true;
                self.half_closed.push(id);
            }
            // Paused by the app, or out of buffers: armed again when that has changed.
            libc::ECANCELED if !more => conn.arm_recv(&mut self.ring),
            libc::ENOBUFS => conn.arm_recv(&mut self.ring),
            errno if errno > 0 => self.close(id, CloseReason::Peer),
            _ => conn.arm_recv(&mut self.ring),
        }
    }

    pub(super) fn sent(&mut self, completion: Completion) {
        let Completion { token, result, .. } = completion;
        let Some((id, conn)) = find(&mut self.slots, token) else {
            return;
        };
        conn.send_in_flight = false;
        if conn.closing {
            return self.free_if_quiet(id.index);
        }
        if result < 0 && !matches!(-result, libc::EINTR | libc::EAGAIN) {
            return self.close(id, CloseReason::Peer);
        }
        self.io.count_sent(result.max(0) as u64);
        let done = conn.sent(result.max(0) as usize);
        let outgoing = &mut self.io.outgoing[id.index as usize];
        outgoing.in_flight_bytes = conn.unsent_bytes();
        if !done {
            return conn.continue_send(&mut self.ring);
        }
        if !outgoing.output.is_empty() && !outgoing.dirty {
            outgoing.dirty = true;
            self.io.dirty.push(id.index);
        }
        self.io.keep_buffer(conn.take_buffer());
        self.after_flush(id);
    }

    /// If everything written is sent: tells the app, or closes, whichever was asked for.
    fn after_flush(&mut self, id: ConnId) {
        let Some(conn) = self.slots[id.index as usize].conn.as_deref_mut() else {
            return;
        };
        if conn.closing || conn.send_in_flight || self.io.pending_bytes(id) > 0 {
            return;
        }
        let closes = conn.close_after_flush;
        if std::mem::take(&mut conn.wants_drained) {
            self.app.drained(id, &mut self.io);
        }
        // Being told, the app may have written again.
        if closes && self.io.pending_bytes(id) == 0 {
            self.close(id, CloseReason::App);
        }
    }

    /// The peer of a connection that is not read from has hung up, perhaps behind unread bytes.
    pub(super) fn hung_up(&mut self, completion: Completion) {
        let token = completion.token;
        let Some((id, conn)) = find(&mut self.slots, token) else {
            return;
        };
        conn.watch_armed = false;
        if conn.closing {
            return self.free_if_quiet(id.index);
        }
        // Who reads again meets the end of the stream.
        if conn.paused && !conn.hung_up && !conn.eof {
            conn.hung_up = true;
            self.half_closed.push(id);
        }
    }

    /// A peer that shut down its side gets the replies to what it had sent, except to what would wait
    /// for a third party.
    pub(super) fn finish_half_closed(&mut self) {
        if self.half_closed.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.half_closed);
        for id in waiting {
            let Some(conn) = self.slots[id.index as usize].conn.as_deref_mut() else {
                continue;
            };
            if conn.generation != id.generation || conn.closing {
                continue;
            }
            if !conn.eof && !conn.paused {
                conn.hung_up = false;
                continue;
            }
            let empty = self.io.pending_bytes(id) == 0 && !conn.send_in_flight;
            let is_over = match conn.eof {
                true => empty && self.app.is_idle(id),
                // There may be more requests, which are read once it has waited.
                false => self.app.waits(id),
            };
            if is_over {
                self.close(id, CloseReason::Peer);
            } else {
                self.half_closed.push(id);
            }
        }
    }

    pub(super) fn flush_conn(&mut self, index: u32) {
        let outgoing = &mut self.io.outgoing[index as usize];
        outgoing.dirty = false;
        let Some(conn) = self.slots[index as usize].conn.as_deref_mut() else {
            outgoing.output = Default::default();
            return;
        };
        if conn.closing || conn.send_in_flight || outgoing.output.is_empty() {
            return;
        }
        outgoing.held.clear();
        conn.start_send(&mut outgoing.output, &mut self.ring);
        outgoing.in_flight_bytes = conn.unsent_bytes();
    }

    /// Sends what need not be held any more of what is: whoever sends on and on gets replies meanwhile.
    pub(super) fn flush_released(&mut self, index: u32) {
        let outgoing = &mut self.io.outgoing[index as usize];
        let slot = &mut self.slots[index as usize];
        let Some(conn) = slot.conn.as_deref_mut() else {
            return;
        };
        if conn.closing || conn.send_in_flight {
            return;
        }
        if let Some(mut front) = outgoing.take_released(self.io.released) {
            conn.start_send(&mut front, &mut self.ring);
            outgoing.in_flight_bytes = conn.unsent_bytes();
        }
    }

    pub(super) fn carry_out_requests(&mut self) {
        let requests = std::mem::take(&mut self.io.requests);
        for &(id, request) in &requests {
            let Some(slot) = self.slots.get_mut(id.index as usize) else {
                continue;
            };
            let generation = slot.generation;
            let Some(conn) = slot
                .conn
                .as_deref_mut()
                .filter(|_| generation == id.generation)
            else {
                continue;
            };
            match request {
                Request::PauseRecv => {
                    conn.paused = true;
                    conn.cancel_recv(&mut self.ring);
                    conn.arm_watch(&mut self.ring);
                }
                Request::ResumeRecv => {
                    conn.paused = false;
                    conn.arm_recv(&mut self.ring);
                }
                Request::NotifyDrained => {
                    conn.wants_drained = true;
                    self.after_flush(id);
                }
                Request::CloseAfterFlush => {
                    conn.close_after_flush = true;
                    self.after_flush(id);
                }
                Request::Close => self.close(id, CloseReason::App),
            }
        }
    }

    /// Tells the app, and frees the place once the kernel is done with it.
    fn close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.slots[id.index as usize].conn.as_deref_mut() else {
            return;
        };
        if conn.closing {
            return;
        }
        conn.closing = true;
        conn.shutdown();
        self.app.closed(id, reason, &mut self.io);
        let outgoing = &mut self.io.outgoing[id.index as usize];
        *outgoing = Outgoing {
            generation: id.generation.wrapping_add(1),
            ..Outgoing::default()
        };
        self.free_if_quiet(id.index);
    }

    fn free_if_quiet(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot
            .conn
            .as_ref()
            .is_some_and(|conn| conn.closing && conn.is_quiet())
        {
            slot.conn = None;
            self.free.push(index);
            let door = &self.shared.doors[self.io.shard];
            door.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
