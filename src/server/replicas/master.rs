//! What shard 0 knows of replicas: who they are, the stream, and when they begin.

use super::backlog::Backlog;
use super::farewell::Farewell;
use super::greeting::Applicant;
use super::wait::Waits;
use super::{Message, Place};
use crate::coordinator::stream::Merge;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::shard::message::SessionKey;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// How often replicas are looked at. Redis: server.c, replicationCron once a second.
pub(super) const TICK_MS: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// For another snapshot to end, so that its own can begin.
    WaitsToSave,
    /// The cut with this number is being taken.
    Cutting(u32),
    /// Its snapshot is being written.
    Saving(u32),
    Sending,
    Online,
    /// There was no snapshot for it: its connection is being closed.
    Leaving,
}

impl State {
    /// Redis: replication.c replstateToString.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::WaitsToSave | State::Cutting(_) | State::Saving(_) | State::Leaving => {
                "wait_bgsave"
            }
            State::Sending => "send_bulk",
            State::Online => "online",
        }
    }
}

#[derive(Debug)]
pub(super) struct Replica {
    pub applicant: Applicant,
    pub state: State,
    /// When it asked, unix milliseconds.
    pub asked_ms: i64,
    /// Pieces of a snapshot on their way that it has not taken, and when it took one, unix milliseconds.
    pub untaken: usize,
    pub taken_ms: i64,
    pub(super) ack_offset: i64,
    /// It has told how far it is: what it was sent at first is loaded.
    has_acked: bool,
    /// What of the stream it has on its disk, as far as it has told.
    synced_offset: i64,
    /// When it last told how far it is, or that it is there, unix milliseconds.
    ack_ms: i64,
}

impl Replica {
    pub fn new(applicant: Applicant, state: State, now_ms: i64) -> Replica {
        Replica {
            applicant,
            state,
            asked_ms: now_ms,
            untaken: 0,
            taken_ms: now_ms,
            ack_offset: 0,
            has_acked: false,
            synced_offset: 0,
            ack_ms: now_ms,
        }
    }

    /// SYNC was its word: it never tells how far it is.
    pub fn is_mute(&self) -> bool {
        self.applicant.psync.is_none()
    }

    pub(super) fn is_online(&self) -> bool {
        self.state == State::Online
    }

    /// Whether it has everything up to here, and nothing behind it.
    fn has_come(&self, offset: i64) -> bool {
        self.is_online() && self.has_acked && self.ack_offset == offset
    }

    /// Whether the stream is of use to it.
    pub fn follows(&self) -> bool {
        !self.applicant.greeting.rdb_only
    }

    pub(super) fn lag_s(&self, now_ms: i64) -> i64 {
        match self.is_online() {
            true => (now_ms / 1000 - self.ack_ms / 1000).max(0),
            false => 0,
        }
    }

    pub(super) fn ip(&self) -> &str {
        let announced = self.applicant.greeting.ip.as_ref();
        announced.unwrap_or(&self.applicant.ip)
    }
}

/// All replicas, and the stream.
#[derive(Debug)]
pub struct Replicas {
    pub(super) list: Vec<Replica>,
    /// There is a stream, of this server's own or of its master.
    pub(super) active: bool,
    /// Names the feeds, while there are any: the stream is this server's own.
    pub(super) epoch: Option<u32>,
    next_epoch: u32,
    pub(super) merge: Merge,
    pub(super) backlog: Backlog,
    pub(super) waits: Waits,
    pub(super) farewell: Option<Farewell>,
    pub(super) tick_ms: i64,
    pub(super) ping_ms: i64,
    /// Since when there is nobody, unix milliseconds.
    pub(super) alone_since_ms: i64,
    pub(super) full: u64,
    pub(super) partial: u64,
    pub(super) refused: u64,
    /// The last mark that all feeds have passed.
    pub(in crate::server) passed: u64,
}

/// A replica that lacks something.
pub(super) struct Lagging {
    pub name: String,
    pub bytes: i64,
    pub lag_s: i64,
}

impl Replicas {
    pub fn new(shards: usize) -> Replicas {
        Replicas {
            list: Vec::new(),
            active: false,
            epoch: None,
            next_epoch: 0,
            merge: Merge::new(shards),
            backlog: Backlog::default(),
            waits: Waits::default(),
            farewell: None,
            tick_ms: 0,
            ping_ms: 0,
            alone_since_ms: 0,
            full: 0,
            partial: 0,
            refused: 0,
            passed: 0,
        }
    }

    /// Whether there is a stream.
    pub(in crate::server) fn is_streaming(&self) -> bool {
        self.active
    }

    /// Whether the shards tell what they do: the stream is this server's own.
    pub(in crate::server) fn feeds(&self) -> bool {
        self.epoch.is_some()
    }

    /// What the feeds are known by, if there are any.
    pub(in crate::server) fn feeds_name(&self) -> Option<u32> {
        self.epoch
    }

    /// Whether the stream is that of this server's master.
    pub(in crate::server) fn relays(&self) -> bool {
        self.active && self.epoch.is_none()
    }

    /// Who they are, by node and connection.
    pub(in crate::server) fn places(&self) -> Vec<(usize, SessionKey)> {
        let place = |one: &Replica| (one.applicant.place.node, one.applicant.place.session);
        self.list.iter().map(place).collect()
    }

    /// There was a stream up to this offset, of which nothing is kept here.
    pub(in crate::server) fn go_on_from(&mut self, offset: i64, now_ms: i64) {
        self.backlog.restart(offset);
        self.active = true;
        self.alone_since_ms = now_ms;
        self.tick_ms = now_ms + TICK_MS;
        self.ping_ms = now_ms;
    }

    fn of_address(&self, host: &str, port: u16) -> Option<&Replica> {
        let is_it = |one: &&Replica| {
            one.ip().eq_ignore_ascii_case(host) && one.applicant.greeting.port == i64::from(port)
        };
        self.list.iter().find(is_it)
    }

    /// Whether the replica with this address is online; `None`: there is no such replica.
    pub(in crate::server) fn is_online_at(&self, host: &str, port: u16) -> Option<bool> {
        self.of_address(host, port).map(Replica::is_online)
    }

    /// Whether the replica with this address has come to this offset.
    pub(in crate::server) fn has_come(&self, host: &str, port: u16, offset: i64) -> bool {
        let found = self.of_address(host, port);
        found.is_some_and(|one| one.has_come(offset))
    }

    /// A replica that has come to this offset.
    pub(in crate::server) fn first_at(&self, offset: i64) -> Option<(String, u16)> {
        let found = self.followers().find(|one| one.has_come(offset))?;
        let port = u16::try_from(found.applicant.greeting.port).ok()?;
        Some((found.ip().to_owned(), port))
    }

    /// The stream goes on as this server's own; the name of its feeds.
    pub(in crate::server) fn begin_feeds(&mut self, shards: usize) -> u32 {
        self.next_epoch += 1;
        self.epoch = Some(self.next_epoch);
        self.merge = Merge::new(shards);
        self.waits.begin_feeds(shards);
        self.next_epoch
    }

    pub(super) fn has_any(&self) -> bool {
        !self.list.is_empty()
    }

    /// CONFIG RESETSTAT.
    pub(in crate::server) fn reset_counters(&mut self) {
        (self.full, self.partial, self.refused) = (0, 0, 0);
    }

    /// `master_repl_offset`
    pub(in crate::server) fn offset(&self) -> i64 {
        self.backlog.end()
    }

    pub(in crate::server) fn say(&mut self, command: &[u8]) {
        if self.feeds() {
            self.merge.say(command);
        }
    }

    /// Replicas that have told that they have come so far.
    pub(super) fn count_reached(&self, offset: i64) -> i64 {
        let has = |one: &&Replica| one.is_online() && one.ack_offset >= offset;
        self.list.iter().filter(has).count() as i64
    }

    /// Replicas that have told that their disks have so much.
    pub(super) fn count_synced(&self, offset: i64) -> i64 {
        let has = |one: &&Replica| one.is_online() && one.synced_offset >= offset;
        self.list.iter().filter(has).count() as i64
    }

    fn followers(&self) -> impl Iterator<Item = &Replica> {
        let tells = |one: &&Replica| one.is_online() && !one.is_mute() && one.follows();
        self.list.iter().filter(tells)
    }

    /// Replicas that follow the stream and tell how far they are.
    pub(super) fn count_followers(&self) -> usize {
        self.followers().count()
    }

    /// Those of them that have not come so far.
    pub(super) fn behind(&self, offset: i64, now_ms: i64) -> Vec<Lagging> {
        let behind = self.followers().filter(|one| one.ack_offset < offset);
        behind
            .map(|one| Lagging {
                name: one.applicant.name(),
                bytes: self.offset() - one.ack_offset,
                lag_s: one.lag_s(now_ms),
            })
            .collect()
    }

    pub(super) fn find(&mut self, place: Place) -> Option<&mut Replica> {
        let mut list = self.list.iter_mut();
        list.find(|one| one.applicant.place == place)
    }

    /// Replicas that are in the stream and not far behind.
    pub(super) fn good(&self, lag_max_s: i64, now_ms: i64) -> usize {
        let is_good = |one: &&Replica| one.is_online() && one.lag_s(now_ms) <= lag_max_s;
        self.list.iter().filter(is_good).count()
    }

    /// When to look at them, unix milliseconds.
    pub fn due_ms(&self) -> Option<i64> {
        let looks = self.is_streaming() || self.has_any();
        let waits = self.waits.due_ms();
        [looks.then_some(self.tick_ms), waits]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self
            .list
            .iter()
            .map(|one| one.applicant.place.node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

impl ServerHost {
    pub(super) fn replica_ack(&mut self, place: Place, offset: i64, synced: Option<i64>) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.replicas.find(place) {
            replica.ack_offset = replica.ack_offset.max(offset);
            replica.synced_offset = replica.synced_offset.max(synced.unwrap_or(0));
            replica.ack_ms = now_ms;
            replica.has_acked = true;
            self.count_good();
            self.end_waits();
        }
    }

    /// It is there, though it does not say how far it is.
    pub(super) fn replica_alive(&mut self, place: Place) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.replicas.find(place) {
            replica.ack_ms = now_ms;
            self.count_good();
        }
    }

    pub(super) fn replica_gone(&mut self, place: Place) {
        self.following.forget_applicant(place);
        let list = &mut self.replicas.list;
        if let Some(at) = list.iter().position(|one| one.applicant.place == place) {
            let gone = list.remove(at);
            log::notice(&format!(
                "Connection with replica {} lost.",
                gone.applicant.name()
            ));
            if list.is_empty() {
                self.replicas.alone_since_ms = self.now_ms;
            }
            self.count_good();
            self.give_up_useless();
            self.trim_backlog();
        }
    }

    pub(super) fn replica_sent(&mut self, place: Place) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.replicas.find(place) {
            replica.state = State::Online;
            replica.ack_ms = now_ms;
            let name = replica.applicant.name();
            log::notice(&format!("Synchronization with replica {name} succeeded"));
            self.count_good();
            self.end_waits();
        }
    }

    /// Work of a turn on shard 0.
    pub(in crate::server) fn mind_replicas(&mut self) {
        if self.persistence.streamed.is_some() {
            self.send_snapshot();
        }
        self.begin_sync();
        self.mind_farewell();
        self.trim_backlog();
        self.mind_disk_waits();
        if self
            .replicas
            .waits
            .due_ms()
            .is_some_and(|at_ms| at_ms <= self.now_ms)
        {
            self.end_waits();
        }
        let looks = self.replicas.is_streaming() || self.replicas.has_any();
        if looks && self.replicas.tick_ms <= self.now_ms {
            self.replicas.tick_ms = self.now_ms + TICK_MS;
            self.tick_replicas();
        }
    }

    /// Whether a turn would find something to do that no message announces.
    pub(in crate::server) fn replicas_want(&self) -> bool {
        self.may_begin_sync() || self.is_farewell_over() || self.has_excess()
    }

    fn tick_replicas(&mut self) {
        let seconds = |name: &str| self.config.int(name).saturating_mul(1000);
        let (ping_ms, timeout_ms) = (seconds("repl-ping-replica-period"), seconds("repl-timeout"));
        let ttl_ms = seconds("repl-backlog-ttl");
        let now_ms = self.now_ms;
        let replicas = &mut self.replicas;
        let hands_over = self.following.failover.is_some();
        if replicas.has_any() && !hands_over && now_ms - replicas.ping_ms >= ping_ms {
            replicas.ping_ms = now_ms;
            replicas.say(PING);
        }
        let is_silent =
            |one: &&Replica| one.is_online() && !one.is_mute() && now_ms - one.ack_ms > timeout_ms;
        let silent = replicas.list.iter().filter(is_silent);
        let silent: Vec<(Place, String)> = silent
            .map(|one| (one.applicant.place, one.applicant.name()))
            .collect();
        for (Place { node, session }, name) in silent {
            log::warning(&format!(
                "Disconnecting timedout replica (streaming sync): {name}"
            ));
            self.inform(node, Message::Drop { session });
        }
        self.drop_stuck(timeout_ms);
        for node in self.replicas.nodes() {
            self.inform(node, Message::Tick);
        }
        self.count_good();
        let alone_ms = now_ms - self.replicas.alone_since_ms;
        let is_over = ttl_ms > 0 && !self.replicas.has_any() && alone_ms > ttl_ms;
        if is_over && self.replicas.feeds() {
            self.end_stream();
        }
    }

    /// Tells all nodes how many replicas are good enough for `min-replicas-to-write`.
    pub(in crate::server) fn count_good(&self) {
        let lag_max_s = self.config.int("min-replicas-max-lag");
        let good = self.replicas.good(lag_max_s, self.now_ms);
        self.part.set_good_replicas(good);
    }
}
