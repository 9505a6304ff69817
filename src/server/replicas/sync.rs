//! The snapshot with which replicas begin: when it is made, for whom, and which way it takes.
//!
//! ```text
//! disk      shards -> merged -> a file without a name -> each replica at its own pace
//! pipe      shards -> merged -> pieces -> all replicas, at the pace of the slowest
//! ```
//! Who comes while one is made waits for the next. One for a pipe waits `repl-diskless-sync-delay` for
//! others who could share it: nobody can join it later.

use std::sync::Arc;

use super::master::{Replica, State};
use super::{Message, Place};
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::persist::{After, Outcome};

/// Pieces on their way to a replica: one to be read while the next is made.
const UNTAKEN_MAX: usize = 2;

/// Whether it waits for a snapshot that nobody makes yet.
fn waits(one: &Replica) -> bool {
    one.state == State::WaitsToSave
}

impl ServerHost {
    /// From when on the next snapshot may begin, unix milliseconds, if somebody waits for it. Redis:
    /// replication.c syncCommand, shouldStartChildReplication.
    fn sync_due_ms(&self) -> Option<i64> {
        let list = self.replicas.list.iter().filter(|one| waits(one));
        let first_ms = list.clone().map(|one| one.asked_ms).min()?;
        let enough = self.config.int("repl-diskless-sync-max-replicas");
        let count = list.count() as i64;
        if !self.may_pipe() || enough > 0 && count >= enough {
            return Some(first_ms);
        }
        let delay_ms = self.config.int("repl-diskless-sync-delay") * 1000;
        Some(first_ms.saturating_add(delay_ms))
    }

    /// When to look whether a snapshot begins, unless that is now.
    pub(in crate::server) fn sync_wait_ms(&self) -> Option<i64> {
        self.sync_due_ms().filter(|at_ms| *at_ms > self.now_ms)
    }

    /// Whether all who wait for a snapshot know one without a length.
    fn may_pipe(&self) -> bool {
        let mut list = self.replicas.list.iter().filter(|one| waits(one));
        self.config.flag("repl-diskless-sync") && list.all(|one| one.applicant.greeting.eof)
    }

    pub(super) fn may_begin_sync(&self) -> bool {
        let persistence = &self.persistence;
        self.replicas.list.iter().any(waits)
            && !persistence.is_busy()
            && persistence.streamed.is_none()
            && persistence.loading.is_none()
            && persistence.closing.is_none()
            && persistence.replay.is_none()
            && persistence.reload.is_none()
            && !self.part.is_any_loading()
            && self.opening == 0
            && !self.stopping
            && self.sync_due_ms().is_some_and(|at_ms| at_ms <= self.now_ms)
    }

    /// Begins the snapshot of those who wait for one.
    pub(super) fn begin_sync(&mut self) {
        if !self.may_begin_sync() {
            return;
        }
        let list = &self.replicas.list;
        let follows = |one: &Replica| waits(one) && one.follows();
        let streams = list.iter().any(follows) || self.replicas.feeds();
        let (after, target) = match self.may_pipe() {
            true => (After::Pipe, "replicas sockets"),
            false => (After::Sync, "disk"),
        };
        log::notice(&format!("Starting BGSAVE for SYNC with target: {target}"));
        let now_ms = self.now_ms;
        let persistence = &mut self.persistence;
        persistence.save(&self.config, after, now_ms, &mut self.mail);
        let Some(id) = persistence.saving_id() else {
            // The snapshot cannot be written: they may ask again.
            let mut places = Vec::new();
            for replica in self.replicas.list.iter_mut().filter(|one| waits(one)) {
                replica.state = State::Leaving;
                places.push(replica.applicant.place);
            }
            for Place { node, session } in places {
                self.inform(node, Message::Drop { session });
            }
            return;
        };
        let pid = std::process::id();
        log::notice(&match after {
            After::Pipe => format!("Background RDB transfer started by pid {pid}"),
            _ => format!("Background saving started by pid {pid}"),
        });
        for replica in self.replicas.list.iter_mut().filter(|one| waits(one)) {
            replica.state = State::Cutting(id);
        }
        if streams && !self.replicas.relays() {
            for node in 0..self.shards {
                self.inform(node, Message::Prepare);
            }
        }
    }

    /// The cut with this number is about to begin: so does the stream, if it is the first that replicas
    /// follow it from. Not before: a snapshot that is given up until then begins no feed.
    pub(in crate::server) fn begin_stream_at(&mut self, id: u32) {
        let follows = |one: &Replica| one.state == State::Cutting(id) && one.follows();
        if !self.replicas.is_streaming() && self.replicas.list.iter().any(follows) {
            self.begin_backlog();
        }
    }

    /// Replicas that wait for a cut are in the stream from here on.
    pub(in crate::server) fn begin_replicas(&mut self, id: u32) {
        let (replid, offset) = (self.identity.replid(), self.replicas.offset());
        let mut messages = Vec::new();
        for replica in &mut self.replicas.list {
            if replica.state != State::Cutting(id) {
                continue;
            }
            replica.state = State::Saving(id);
            let reply = match replica.is_mute() {
                true => String::new(),
                false => format!("+FULLRESYNC {replid} {offset}\r\n"),
            };
            let Place { node, session } = replica.applicant.place;
            let follows = replica.follows();
            let begin = Message::Begin {
                session,
                reply,
                follows,
            };
            messages.push((node, begin));
        }
        if !messages.is_empty() {
            self.replicas.merge.select_anew();
        }
        for (node, message) in messages {
            self.inform(node, message);
        }
    }

    /// A snapshot for replicas is complete: it is sent once all feeds have passed its cut.
    pub(in crate::server) fn send_snapshot(&mut self) {
        let Some((id, outcome)) = self.persistence.streamed.take() else {
            return;
        };
        let list = &self.replicas.list;
        if list.iter().any(|one| one.state == State::Cutting(id)) {
            let has_feed = list
                .iter()
                .any(|one| one.state == State::Cutting(id) && one.follows());
            if has_feed && !matches!(outcome, Outcome::Failed) {
                self.persistence.streamed = Some((id, outcome));
                return;
            }
            self.begin_replicas(id);
        }
        let mut messages = Vec::new();
        for replica in &mut self.replicas.list {
            if replica.state != State::Saving(id) {
                continue;
            }
            let Place { node, session } = replica.applicant.place;
            replica.state = State::Sending;
            messages.push(match &outcome {
                Outcome::File(file, len) => {
                    let (file, len) = (file.clone(), *len);
                    (node, Message::File { session, file, len })
                }
                Outcome::Piped => (node, Message::LastPiece { session }),
                Outcome::Failed => {
                    replica.state = State::Leaving;
                    (node, Message::Drop { session })
                }
            });
        }
        if matches!(outcome, Outcome::Piped) {
            log::warning(&format!(
                "Diskless rdb transfer, done reading from pipe, {} replicas still up.",
                messages.len()
            ));
            log::notice("Background RDB transfer terminated with success");
        }
        for (node, message) in messages {
            self.inform(node, message);
        }
    }

    /// What was made of a snapshot goes to all who wait for it.
    pub(in crate::server) fn send_pieces(&mut self) {
        let pieces = std::mem::take(&mut self.persistence.pieces);
        if pieces.is_empty() {
            return;
        }
        if let Some(id) = self.persistence.saving_id() {
            // Those who do not follow the stream have waited for no place in it.
            self.begin_replicas(id);
        }
        let now_ms = self.now_ms;
        let mut messages = Vec::new();
        for replica in &mut self.replicas.list {
            if !matches!(replica.state, State::Saving(_)) {
                continue;
            }
            let Place { node, session } = replica.applicant.place;
            if replica.untaken == 0 {
                replica.taken_ms = now_ms;
            }
            replica.untaken += pieces.len();
            for piece in &pieces {
                let bytes: Arc<[u8]> = piece.clone();
                messages.push((node, Message::Piece { session, bytes }));
            }
        }
        for (node, message) in messages {
            self.inform(node, message);
        }
        self.look_at_pipe();
    }

    /// A replica has taken a piece of its snapshot.
    pub(super) fn piece_taken(&mut self, place: Place) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.replicas.find(place) {
            replica.untaken = replica.untaken.saturating_sub(1);
            replica.taken_ms = now_ms;
            self.look_at_pipe();
        }
    }

    /// No more is made of a snapshot than all replicas can take.
    fn look_at_pipe(&mut self) {
        let is_full =
            |one: &Replica| matches!(one.state, State::Saving(_)) && one.untaken >= UNTAKEN_MAX;
        let is_full = self.replicas.list.iter().any(is_full);
        self.persistence.set_pipe_full(is_full);
    }

    /// Nobody waits for the snapshot under way any more. Redis: networking.c freeClient, replication.c
    /// rdbPipeReadHandler.
    pub(super) fn give_up_useless(&mut self) {
        self.look_at_pipe();
        let Some(saving) = &self.persistence.saving else {
            return;
        };
        let is_piped = match saving.after() {
            After::Pipe => true,
            After::Sync => false,
            _ => return,
        };
        let is_for = |one: &Replica| matches!(one.state, State::Cutting(_) | State::Saving(_));
        let keeps = !is_piped && !self.persistence.points.is_empty();
        if keeps || self.replicas.list.iter().any(is_for) {
            return;
        }
        log::warning(match is_piped {
            true => "Diskless rdb transfer, last replica dropped, killing fork child.",
            false => "The last replica that waited for the snapshot is gone: it is given up.",
        });
        self.persistence.cancel_save(&mut self.mail);
    }

    /// Disconnects replicas that take nothing of a snapshot for which others wait, too.
    pub(super) fn drop_stuck(&mut self, timeout_ms: i64) {
        if !self.persistence.is_piping() {
            return;
        }
        let now_ms = self.now_ms;
        let is_stuck = |one: &&Replica| one.untaken > 0 && now_ms - one.taken_ms > timeout_ms;
        let stuck = self.replicas.list.iter().filter(is_stuck);
        let stuck: Vec<_> = stuck
            .map(|one| (one.applicant.place, one.applicant.name()))
            .collect();
        for (Place { node, session }, name) in stuck {
            log::warning(&format!(
                "Disconnecting timedout replica (full sync): {name}"
            ));
            self.inform(node, Message::Drop { session });
        }
    }
}
