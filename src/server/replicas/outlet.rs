//! What one node sends to the replicas whose connections it has.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ahash::AHashMap;

use super::Message;
use super::greeting::Greeting;
use crate::resp::Output;
use crate::server::host::ServerHost;
use crate::server::{clients, log};
use crate::session::{Core, Link};
use crate::shard::message::SessionKey;

/// Bytes of the snapshot or the stream sent at once: some tens of microseconds of copying. More of the
/// stream is not copied for a replica before it has taken that.
const PIECE_BYTES: usize = 128 * 1024;

/// Where a replica is.
#[derive(Debug)]
enum Phase {
    /// It is not in the stream yet.
    Waiting,
    /// The stream is kept for it until the snapshot is complete.
    Held,
    Sending {
        file: Arc<File>,
        at: u64,
        len: u64,
    },
    /// The snapshot comes in pieces, as it is made.
    Piped {
        pieces: VecDeque<Arc<[u8]>>,
        ends: bool,
    },
    /// All of it was sent: the stream follows once the replica says that it has it.
    Acking,
    Online,
}

/// The way to one replica.
#[derive(Debug)]
struct Outlet {
    session: SessionKey,
    phase: Phase,
    rdb_only: bool,
    /// What follows the snapshot, or what was sent: shared with the backlog.
    queue: VecDeque<Arc<[u8]>>,
    queued_bytes: usize,
    /// Since when it has been behind by more than the soft limit, unix milliseconds.
    behind_since_ms: Option<i64>,
}

impl Outlet {
    fn keep(&mut self, piece: Arc<[u8]>) {
        self.queued_bytes += piece.len();
        self.queue.push_back(piece);
    }
}

/// All of one node.
#[derive(Debug, Default)]
pub struct Outlets {
    greetings: AHashMap<SessionKey, Greeting>,
    outlets: Vec<Outlet>,
}

impl Outlets {
    pub(super) fn has(&self, session: SessionKey) -> bool {
        self.outlets.iter().any(|outlet| outlet.session == session)
    }

    pub(super) fn greeting(&mut self, session: SessionKey) -> &mut Greeting {
        self.greetings.entry(session).or_default()
    }

    pub(super) fn open(&mut self, session: SessionKey, rdb_only: bool) {
        self.outlets.push(Outlet {
            session,
            phase: Phase::Waiting,
            rdb_only,
            queue: VecDeque::new(),
            queued_bytes: 0,
            behind_since_ms: None,
        });
    }

    /// Whether one has been sent its snapshot, and not said that it has it.
    pub(super) fn awaits_ack(&self, session: SessionKey) -> bool {
        let is_it = |outlet: &&Outlet| outlet.session == session;
        let found = self.outlets.iter().find(is_it);
        found.is_some_and(|outlet| matches!(outlet.phase, Phase::Acking))
    }

    fn find(&mut self, session: SessionKey) -> Option<&mut Outlet> {
        let mut outlets = self.outlets.iter_mut();
        outlets.find(|outlet| outlet.session == session)
    }

    /// A session is gone. Returns whether it was a replica.
    fn forget(&mut self, session: SessionKey) -> bool {
        self.greetings.remove(&session);
        let before = self.outlets.len();
        self.outlets.retain(|outlet| outlet.session != session);
        self.outlets.len() < before
    }

    pub fn count(&self) -> usize {
        self.outlets.len()
    }
}

impl ServerHost {
    /// A session is gone, or it is a client like others again.
    pub(in crate::server) fn forget_replica(&mut self, session: SessionKey) {
        if self.outlets.forget(session) {
            self.inform(0, Message::Gone { session });
        }
    }

    /// A replica goes on where it was.
    pub(super) fn go_on(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        reply: &str,
        rest: Vec<Arc<[u8]>>,
    ) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        outlet.phase = Phase::Online;
        rest.into_iter().for_each(|piece| outlet.keep(piece));
        let mut out = Output::default();
        out.bytes.extend_from_slice(reply.as_bytes());
        core.answer(session, &out, link, self);
        self.send_on(link, session);
    }

    /// The snapshot is being written: what follows is kept.
    pub(super) fn begin_stream(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        reply: &str,
        follows: bool,
    ) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        outlet.phase = if follows { Phase::Held } else { Phase::Waiting };
        let mut out = Output::default();
        out.bytes.extend_from_slice(reply.as_bytes());
        core.answer(session, &out, link, self);
    }

    pub(super) fn send_file(
        &mut self,
        link: &mut dyn Link,
        session: SessionKey,
        file: Arc<File>,
        len: u64,
    ) {
        if let Some(outlet) = self.outlets.find(session) {
            outlet.phase = Phase::Sending { file, at: 0, len };
            let head = format!("${len}\r\n");
            link.out(session).bytes.extend_from_slice(head.as_bytes());
            self.send_piece(link, session);
        }
    }

    /// A replica that loads its snapshot says that it is there, and nothing else. Redis: networking.c
    /// processInlineBuffer.
    pub fn heard_replica(&mut self, session: SessionKey, bytes: &[u8]) {
        let is_empty = |byte: &u8| matches!(byte, b'\n' | b'\r');
        if self.outlets.has(session) && bytes.iter().all(is_empty) {
            self.inform(0, Message::Alive { session });
        }
    }

    /// A replica has taken what it was sent.
    pub fn replica_drained(&mut self, link: &mut dyn Link, session: SessionKey) {
        if self.outlets.has(session) && link.pending_bytes(session) < PIECE_BYTES {
            self.send_piece(link, session);
            self.send_queued(link, session);
            self.send_on(link, session);
        }
    }

    /// A piece of a snapshot that is being made.
    pub(super) fn queue_piece(
        &mut self,
        link: &mut dyn Link,
        session: SessionKey,
        bytes: Arc<[u8]>,
    ) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        if !matches!(outlet.phase, Phase::Piped { .. }) {
            outlet.phase = Phase::Piped {
                pieces: VecDeque::new(),
                ends: false,
            };
        }
        if let Phase::Piped { pieces, .. } = &mut outlet.phase {
            pieces.push_back(bytes);
        }
        self.send_queued(link, session);
    }

    /// There are no more of them.
    pub(super) fn end_pieces(&mut self, link: &mut dyn Link, session: SessionKey) {
        if let Some(outlet) = self.outlets.find(session)
            && let Phase::Piped { ends, .. } = &mut outlet.phase
        {
            *ends = true;
            self.send_queued(link, session);
        }
    }

    /// Sends pieces as far as the replica takes them.
    fn send_queued(&mut self, link: &mut dyn Link, session: SessionKey) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        let Phase::Piped { pieces, ends } = &mut outlet.phase else {
            return;
        };
        let mut taken = 0;
        while link.pending_bytes(session) < PIECE_BYTES
            && let Some(piece) = pieces.pop_front()
        {
            link.out(session).bytes.extend_from_slice(&piece);
            taken += 1;
        }
        let is_over = *ends && pieces.is_empty();
        for _ in 0..taken {
            self.inform(0, Message::PieceTaken { session });
        }
        if !is_over {
            return link.notify_drained(session);
        }
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        outlet.phase = Phase::Acking;
        if outlet.rdb_only {
            return link.close_after_flush(session);
        }
        self.inform(0, Message::Sent { session });
    }

    /// A replica told how far it is: it has its snapshot.
    pub(super) fn begin_online(&mut self, link: &mut dyn Link, session: SessionKey) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        if !matches!(outlet.phase, Phase::Acking) {
            return;
        }
        outlet.phase = Phase::Online;
        self.send_on(link, session);
    }

    /// Sends what is kept for a replica that is in the stream, as far as it takes it.
    fn send_on(&mut self, link: &mut dyn Link, session: SessionKey) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        if !matches!(outlet.phase, Phase::Online) {
            return;
        }
        while link.pending_bytes(session) < PIECE_BYTES
            && let Some(piece) = outlet.queue.pop_front()
        {
            outlet.queued_bytes -= piece.len();
            link.out(session).bytes.extend_from_slice(&piece);
        }
        if !outlet.queue.is_empty() {
            link.notify_drained(session);
        }
    }

    /// Sends more of the snapshot, and what has been kept behind its end.
    fn send_piece(&mut self, link: &mut dyn Link, session: SessionKey) {
        let Some(outlet) = self.outlets.find(session) else {
            return;
        };
        let Phase::Sending { file, at, len } = &mut outlet.phase else {
            return;
        };
        let count = (*len - *at).min(PIECE_BYTES as u64) as usize;
        let bytes = &mut link.out(session).bytes;
        let from = bytes.len();
        bytes.resize(from + count, 0);
        if let Err(error) = file.read_exact_at(&mut bytes[from..], *at) {
            bytes.truncate(from);
            log::warning(&format!("Read error sending DB to replica: {error}"));
            return link.close(session);
        }
        *at += count as u64;
        if *at < *len {
            return link.notify_drained(session);
        }
        outlet.phase = Phase::Online;
        if outlet.rdb_only {
            return link.close_after_flush(session);
        }
        self.inform(0, Message::Sent { session });
        self.send_on(link, session);
    }

    /// More of the stream.
    pub(super) fn send_stream(&mut self, core: &mut Core, link: &mut dyn Link, piece: &Arc<[u8]>) {
        for outlet in &mut self.outlets.outlets {
            match outlet.phase {
                Phase::Waiting => {}
                _ if outlet.rdb_only => {}
                Phase::Online
                    if outlet.queue.is_empty()
                        && link.pending_bytes(outlet.session) < PIECE_BYTES =>
                {
                    link.out(outlet.session).bytes.extend_from_slice(piece);
                }
                Phase::Online => {
                    // Once for all that is kept.
                    if outlet.queue.is_empty() {
                        link.notify_drained(outlet.session);
                    }
                    outlet.keep(piece.clone());
                }
                Phase::Held | Phase::Sending { .. } | Phase::Piped { .. } | Phase::Acking => {
                    outlet.keep(piece.clone());
                }
            }
        }
        self.cut_off_slow(core, link);
    }

    /// Closes replicas that are further behind than `client-output-buffer-limit` allows.
    fn cut_off_slow(&mut self, core: &mut Core, link: &mut dyn Link) {
        let limit = self.patrol.replica_limit();
        // Redis: networking.c checkClientOutputBufferLimits, the backlog is shared memory anyhow.
        let least = self.backlog_max_bytes;
        let now_ms = self.now_ms;
        let mut slow = Vec::new();
        for outlet in &mut self.outlets.outlets {
            // A snapshot is sent no faster than it is taken, but for its last piece: that is as large as
            // a value may be, and nothing else is sent until the replica has it.
            let pending = match outlet.phase {
                Phase::Sending { .. } | Phase::Piped { .. } | Phase::Acking => 0,
                _ => link.pending_bytes(outlet.session),
            };
            let unsent = outlet.queued_bytes + pending;
            let exceeds = |bytes: usize| bytes > 0 && unsent > bytes.max(least);
            if !exceeds(limit.soft_bytes) {
                outlet.behind_since_ms = None;
            } else {
                outlet.behind_since_ms.get_or_insert(now_ms);
            }
            let too_long = |since_ms| now_ms - since_ms > limit.soft_ms;
            if exceeds(limit.hard_bytes) || outlet.behind_since_ms.is_some_and(too_long) {
                slow.push(outlet.session);
            }
        }
        for session in slow {
            if let Some(client) = core.session(session) {
                let line = clients::describe(client, core, link, &[]);
                log::warning(&format!(
                    "Client {line} scheduled to be closed ASAP for overcoming of output buffer \
                     limits."
                ));
            }
            core.counters.output_limit_closed += 1;
            core.abandon(session, link);
            self.forget_replica(session);
        }
    }

    /// A second has passed: those who wait for a snapshot see that the server is there.
    pub(super) fn tick_outlets(&mut self, core: &mut Core, link: &mut dyn Link) {
        for outlet in &self.outlets.outlets {
            if matches!(outlet.phase, Phase::Waiting | Phase::Held) {
                link.out(outlet.session).bytes.push(b'\n');
            }
        }
        self.cut_off_slow(core, link);
    }
}
