//! The session room's way out, over the runtime's.

use super::ask::NodeMessage;
use crate::resp::Output;
use crate::runtime::{ConnId, Io};
use crate::session::Link;
use crate::shard::message::{Message, SessionKey};

/// [`Link`] over one turn's [`Io`].
pub struct IoLink<'a> {
    pub io: &'a mut Io<NodeMessage>,
    /// Time stands still at 0 while data is loaded: nothing of it expires on the way.
    pub frozen: bool,
}

impl Link for IoLink<'_> {
    fn out(&mut self, session: SessionKey) -> &mut Output {
        self.io.out(ConnId::unpack(session))
    }

    fn pending_bytes(&self, session: SessionKey) -> usize {
        self.io.pending_bytes(ConnId::unpack(session))
    }

    fn notify_drained(&mut self, session: SessionKey) {
        self.io.notify_drained(ConnId::unpack(session));
    }

    fn pause_recv(&mut self, session: SessionKey) {
        self.io.pause_recv(ConnId::unpack(session));
    }

    fn resume_recv(&mut self, session: SessionKey) {
        self.io.resume_recv(ConnId::unpack(session));
    }

    fn close(&mut self, session: SessionKey) {
        self.io.close(ConnId::unpack(session));
    }

    fn close_after_flush(&mut self, session: SessionKey) {
        self.io.close_after_flush(ConnId::unpack(session));
    }

    fn cork(&mut self, session: SessionKey, corked: bool) {
        self.io.cork(ConnId::unpack(session), corked);
    }

    fn hasten(&mut self, session: SessionKey) {
        self.io.hasten(ConnId::unpack(session));
    }

    fn post(&mut self, to: usize, message: Message) {
        self.io.post(to, NodeMessage::Core(message));
    }

    fn slept(&mut self) {
        self.io.look_at_clock();
    }

    fn now_us(&self) -> i64 {
        if self.frozen {
            0
        } else {
            self.io.now().unix_us
        }
    }
}
