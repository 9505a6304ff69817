//! The stream of a master is applied.

use super::disk::Disk;
use super::dispatch::{Dispatch, Step};
use super::handshake::encode;
use super::units::{Cutter, Garbage};
use super::{Following, Phase};
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::replicas::Message;
use crate::server::role;
use crate::session::{Core, Link, State};
use crate::shard::message::MASTER;

/// What has come and waits, beyond which nothing is read from the master.
const AHEAD_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Units sent to shards in one turn.
const UNITS_MAX: usize = 4096;
const ACK_MS: i64 = 1_000;

impl Following {
    /// Forgets what has come of the stream and was not handed on.
    pub(super) fn forget_stream(&mut self) {
        self.input = Vec::new();
        self.at = 0;
        self.cutter = Cutter::default();
    }

    /// The stream goes on behind `offset`.
    pub(super) fn begin_stream(&mut self, offset: i64, db: u32) {
        self.forget_stream();
        self.dispatch = Dispatch::new(self.shards, offset, db);
        self.disk = Disk::default();
    }

    /// Whether the next unit could be looked at.
    pub(super) fn has_input(&self) -> bool {
        self.at < self.input.len()
    }

    /// The database that the stream has selected.
    pub fn db(&self) -> u32 {
        self.dispatch.db
    }

    /// Bytes that were received, `slave_read_repl_offset`.
    pub fn read_offset(&self) -> i64 {
        self.dispatch.offset + (self.input.len() - self.at) as i64
    }

    /// A shard has run a batch.
    pub fn taken(&mut self, from: usize) {
        self.dispatch.routes.taken(from);
        self.moved = true;
    }
}

/// Whether this node's session for the stream has run all that it was given.
fn is_free(core: &Core) -> bool {
    let session = core.session(MASTER);
    session.is_none_or(|it| it.state == State::Running && it.input.is_empty())
}

impl ServerHost {
    /// The session that runs the stream on this node.
    pub(super) fn open_stream(&mut self, core: &mut Core) {
        if core.session(MASTER).is_some() {
            return;
        }
        let about = self.following.about.as_ref();
        let (id, fd) = about.map_or((0, -1), |about| (about.client_id, about.fd));
        let peer = match about {
            Some(about) if self.shard == 0 => crate::server::node::session_peer(&about.peer),
            _ => crate::session::Peer::Unix("master".to_owned()),
        };
        role::open_session(core, id, peer, fd, self.now_ms);
    }

    /// Without a link, the session goes as soon as it has run what it was given.
    fn close_stream(&mut self, core: &mut Core, link: &mut dyn Link) {
        let is_needed = self.following.is_online() || self.following.opens;
        if !is_needed && core.session(MASTER).is_some() && !self.is_applying(core) {
            core.closed(MASTER, link);
            self.following.dispatch.routes.forget_sessions();
        }
    }

    /// Whether shard 0's session still runs something of the stream.
    pub(super) fn is_applying(&self, core: &Core) -> bool {
        self.following.alone || self.followed_batches > 0 || !is_free(core)
    }

    /// Whether the stream may be handed on.
    fn may_apply(&self, core: &Core) -> bool {
        let is_phase = matches!(self.following.phase, Phase::Online);
        is_phase && !self.needs_quiet() && !self.part.is_any_loading() && !self.is_applying(core)
    }

    /// Whether the stream has to stand still: a snapshot of this server is of one place in it, and
    /// CLIENT PAUSE holds a master back like any client. Redis: server.c processCommand.
    fn needs_quiet(&self) -> bool {
        let persistence = &self.persistence;
        let cuts = persistence.wanted_cut.is_some() || persistence.is_cutting();
        let is_paused = self.pauses.due_ms(self.now_ms).is_some();
        self.replicas.relays() && cuts || persistence.reload.is_some() || is_paused
    }

    /// Whether a cut is of one place in the stream now.
    pub fn is_quiet(&self, core: &Core) -> bool {
        !self.replicas.relays()
            || self.following.dispatch.routes.is_idle() && !self.is_applying(core)
    }

    /// Hands on what has come, as far as it goes. Returns whether there is more to do at once.
    pub(super) fn apply_stream(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        self.following.moved = false;
        self.following.waits = self.following.has_input();
        let mut units = 0;
        while self.may_apply(core) && units < UNITS_MAX && self.following.has_input() {
            let following = &mut self.following;
            let rest = &following.input[following.at..];
            let unit = match following.cutter.next(rest) {
                Ok(Some(unit)) => unit,
                Ok(None) => {
                    following.waits = false;
                    break;
                }
                Err(Garbage) => {
                    log::warning("Protocol error in the stream of the master");
                    self.lose_master(link);
                    return false;
                }
            };
            let bytes = &rest[..unit.len];
            let step = following.dispatch.step(unit, bytes, &core.table);
            if step == Step::Waits {
                break;
            }
            units += 1;
            let from = following.at;
            following.at += unit.len;
            match step {
                Step::Alone(commands) => {
                    self.following.alone = true;
                    core.receive(MASTER, &commands, link, self);
                    self.following.alone = !is_free(core);
                }
                Step::Asked => {
                    self.acknowledge_up_to(link, unit.len);
                    let offset = self.following.dispatch.applied() - unit.len as i64;
                    self.following.asked_by_master(offset);
                }
                Step::Gone | Step::Waits => {}
            }
            self.keep_unit(from, unit.len);
        }
        self.following.dispatch.routes.flush();
        self.send_batches(core, link);
        self.trim_input(link);
        units == UNITS_MAX
    }

    /// What was handed on is kept, and sent to replicas of this server.
    fn keep_unit(&mut self, from: usize, len: usize) {
        let input = std::mem::take(&mut self.following.input);
        self.keep_stream(&input[from..from + len]);
        self.following.input = input;
    }

    fn send_batches(&mut self, core: &mut Core, link: &mut dyn Link) {
        for (home, commands) in std::mem::take(&mut self.following.dispatch.routes.sent) {
            if home == self.shard {
                self.follow_here(core, link, &commands);
            } else {
                let message = Message::Follow(commands);
                self.mail.push((home, NodeMessage::Replicas(message)));
            }
        }
    }

    /// A batch that lives here.
    pub fn follow_here(&mut self, core: &mut Core, link: &mut dyn Link, commands: &[u8]) {
        self.open_stream(core);
        core.receive(MASTER, commands, link, self);
        self.followed_batches += 1;
        self.tell_followed(core);
    }

    /// Tells shard 0 of batches that this shard's session is done with.
    pub fn tell_followed(&mut self, core: &Core) {
        if self.followed_batches == 0 || !is_free(core) {
            return;
        }
        for _ in 0..std::mem::take(&mut self.followed_batches) {
            match self.shard {
                0 => self.following.taken(0),
                _ => {
                    let message = Message::Followed;
                    self.mail.push((0, NodeMessage::Replicas(message)));
                }
            }
        }
    }

    /// Forgets what was handed on, and lets the master wait if too much has come.
    fn trim_input(&mut self, link: &mut dyn Link) {
        let following = &mut self.following;
        let waiting_bytes = following.input.len() - following.at;
        // What stays is moved no more often than as much has been handed on.
        if waiting_bytes <= following.at {
            following.input.drain(..following.at);
            following.at = 0;
        }
        following.waits &= waiting_bytes > 0;
        // A unit that is not whole has to come, however long it is.
        let is_ahead = match &following.phase {
            Phase::Preparing(transfer) => transfer.rest.len() > AHEAD_MAX_BYTES,
            _ => following.waits && waiting_bytes > AHEAD_MAX_BYTES,
        };
        if is_ahead {
            self.pause_master(link);
        } else if !self.following.is_receiving() {
            self.resume_master(link);
        }
    }

    /// Tells the master how far this server is.
    pub(super) fn acknowledge(&mut self, link: &mut dyn Link) {
        self.acknowledge_up_to(link, 0);
    }

    /// The same without the last bytes of the stream.
    fn acknowledge_up_to(&mut self, link: &mut dyn Link, without: usize) {
        self.following.acked_ms = self.now_ms;
        let offset = self.following.dispatch.applied() - without as i64;
        let offset = offset.to_string();
        let synced = self.synced_offset().map(|at| at.to_string());
        let mut words: Vec<&[u8]> = vec![b"REPLCONF", b"ACK", offset.as_bytes()];
        if let Some(synced) = &synced {
            words.extend([&b"FACK"[..], synced.as_bytes()]);
        }
        self.say_to_master(link, &encode(&words));
    }

    /// Whether a turn finds nothing to do that concerns a master.
    fn is_at_rest(&self, core: &Core) -> bool {
        self.following.is_at_rest()
            && !core.master_killed
            && self.persistence.followed.is_none()
            && core.session(MASTER).is_none()
    }

    /// The work of a turn that concerns the master. Returns whether there is more to do at once.
    pub fn mind_master(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        self.tell_followed(core);
        self.tell_settled(core);
        if self.shard != 0 || self.is_at_rest(core) {
            return false;
        }
        if self.following.alone && is_free(core) {
            self.following.alone = false;
        }
        if std::mem::take(&mut self.following.failed) {
            self.drop_master(link);
            self.call_again(false);
        }
        if std::mem::take(&mut core.master_killed) && self.following.is_online() {
            self.lose_master(link);
        }
        self.close_stream(core, link);
        if std::mem::take(&mut self.following.opens) {
            self.open_stream(core);
        }
        self.mind_failover();
        self.settle();
        self.promote(core, link);
        self.time_link(link);
        self.begin_snapshot(core, link);
        self.end_snapshot(core, link);
        let is_behind = match &self.following.phase {
            Phase::Receiving(transfer) | Phase::Preparing(transfer) => transfer.is_behind(),
            _ => self.persistence.is_fed(),
        };
        if self.following.is_receiving() && !is_behind {
            self.resume_master(link);
        }
        let more = self.apply_stream(core, link);
        let is_time = self.now_ms - self.following.acked_ms >= ACK_MS;
        if is_time && self.following.is_online() {
            self.acknowledge(link);
            self.following.disk.is_wanted = true;
        }
        self.mind_synced(core, link);
        if is_time && self.following.is_replacing() {
            // Redis: replicationSendNewlineToMaster: a master that hears nothing gives up.
            self.following.acked_ms = self.now_ms;
            self.say_to_master(link, b"\n");
        }
        more
    }

    /// Whether a turn would find something to do that no message announces.
    pub fn master_wants(&self, core: &Core) -> bool {
        if self.followed_batches > 0 && is_free(core) {
            return true;
        }
        if self.is_settled(core) {
            return true;
        }
        self.shard == 0
            && (self.wants_to_settle()
                || self.wants_snapshot(core)
                || self.following.moved && self.following.waits && self.may_apply(core)
                || self.following.alone && is_free(core)
                || self.persistence.followed.is_some()
                || self.wants_promotion(core))
    }
}
