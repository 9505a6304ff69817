//! What shard 0 knows of replicas: who they are, the stream, and when they begin.

use std::sync::Arc;

use super::backlog::Backlog;
use super::farewell::Farewell;
use super::greeting::{Applicant, Filter};
use super::wait::Waits;
use super::{Message, Place};
use crate::coordinator::stream::{Merge, Passed};
use crate::resp::{Args, CmdResult, Writer};
use crate::server::following::{self, Past};
use crate::server::host::ServerHost;
use crate::server::log;
use crate::shard::feed::Fed;
use crate::shard::message::SessionKey;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// How often replicas are looked at. Redis: server.c, replicationCron once a second.
const TICK_MS: i64 = 1_000;

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
    fn name(self) -> &'static str {
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
    ack_offset: i64,
    /// When it last told how far it is, unix milliseconds.
    ack_ms: i64,
}

impl Replica {
    /// SYNC was its word: it never tells how far it is.
    pub fn is_mute(&self) -> bool {
        self.applicant.psync.is_none()
    }

    fn is_online(&self) -> bool {
        self.state == State::Online
    }

    /// Whether the stream is of use to it.
    pub fn follows(&self) -> bool {
        !self.applicant.greeting.rdb_only
    }

    fn lag_s(&self, now_ms: i64) -> i64 {
        match self.is_online() {
            true => (now_ms / 1000 - self.ack_ms / 1000).max(0),
            false => 0,
        }
    }

    fn ip(&self) -> &str {
        let announced = self.applicant.greeting.ip.as_ref();
        announced.unwrap_or(&self.applicant.ip)
    }
}

/// All replicas, and the stream.
#[derive(Debug)]
pub struct Replicas {
    pub(super) list: Vec<Replica>,
    /// There is a stream, of this server's own or of its master.
    active: bool,
    /// Names the feeds, while there are any: the stream is this server's own.
    epoch: Option<u32>,
    next_epoch: u32,
    pub(super) merge: Merge,
    backlog: Backlog,
    pub(super) waits: Waits,
    pub(super) farewell: Option<Farewell>,
    tick_ms: i64,
    ping_ms: i64,
    /// Since when there is nobody, unix milliseconds.
    alone_since_ms: i64,
    full: u64,
    partial: u64,
    refused: u64,
    /// The last mark that all feeds have passed.
    pub(in crate::server) passed: u64,
}

/// A replica that lacks something.
pub(super) struct Lagging {
    pub name: String,
    pub bytes: i64,
    pub lag_s: i64,
}

/// For INFO.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// This server's own master.
    pub master: Option<following::Figures>,
    /// `slaveN` lines, without the number.
    pub replicas: Vec<String>,
    pub good: usize,
    pub streaming: bool,
    /// What `master_failover_state` says while there is one.
    pub failover: Option<&'static str>,
    pub offset: i64,
    pub first: i64,
    pub backlog_bytes: usize,
    /// How long the server waits for replicas before it ends, at most.
    pub ends_in_ms: Option<i64>,
    pub full: u64,
    pub partial: u64,
    pub refused: u64,
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

    /// How far the replica with this address is, if it is online; `None`: there is no such replica.
    pub(in crate::server) fn progress_of(&self, host: &str, port: u16) -> Option<Option<i64>> {
        let is_it = |one: &&Replica| {
            one.ip().eq_ignore_ascii_case(host) && one.applicant.greeting.port == i64::from(port)
        };
        let found = self.list.iter().find(is_it)?;
        Some(found.is_online().then_some(found.ack_offset))
    }

    /// A replica that has come to this offset.
    pub(in crate::server) fn first_at(&self, offset: i64) -> Option<(String, u16)> {
        let mut followers = self.followers();
        let found = followers.find(|one| one.ack_offset == offset)?;
        let port = u16::try_from(found.applicant.greeting.port).ok()?;
        Some((found.ip().to_owned(), port))
    }

    /// The stream goes on as this server's own; the name of its feeds.
    pub(in crate::server) fn begin_feeds(&mut self, shards: usize) -> u32 {
        self.next_epoch += 1;
        self.epoch = Some(self.next_epoch);
        self.merge = Merge::new(shards);
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
    fn good(&self, lag_max_s: i64, now_ms: i64) -> usize {
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

    fn nodes(&self) -> Vec<usize> {
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
    /// SYNC or PSYNC.
    pub(in crate::server) fn replica_wants(&mut self, applicant: Applicant) {
        let Some(applicant) = self.may_apply_as_replica(applicant) else {
            return;
        };
        let name = applicant.name();
        log::notice(&format!("Replica {name} asks for synchronization"));
        let now_ms = self.now_ms;
        let continued = self.try_partial(&applicant);
        let state = match continued {
            true => State::Online,
            false => State::WaitsToSave,
        };
        let replicas = &mut self.replicas;
        if !replicas.has_any() {
            replicas.tick_ms = now_ms + TICK_MS;
        }
        if continued {
            replicas.partial += 1;
        } else {
            let is_refused =
                |(id, _): &(Vec<u8>, i64)| id.first().is_some_and(|first| *first != b'?');
            replicas.refused += u64::from(applicant.psync.as_ref().is_some_and(is_refused));
            replicas.full += 1;
        }
        replicas.list.push(Replica {
            applicant,
            state,
            asked_ms: now_ms,
            untaken: 0,
            taken_ms: now_ms,
            ack_offset: 0,
            ack_ms: now_ms,
        });
        self.count_good();
        if !continued {
            self.send_filtered();
        }
    }

    /// The last replica gets its snapshot at once if no key is to be in it.
    fn send_filtered(&mut self) {
        let Some(replica) = self.replicas.list.last_mut() else {
            return;
        };
        let greeting = &replica.applicant.greeting;
        let Some(filter) = greeting.filter.filter(|_| greeting.rdb_only) else {
            return;
        };
        let has_functions = filter == Filter::Functions;
        let persistence = &self.persistence;
        let written = persistence.write_libraries(&self.config, has_functions, self.now_ms);
        let reply = match replica.is_mute() {
            true => String::new(),
            false => {
                let (replid, offset) = (self.identity.replid(), self.replicas.backlog.end());
                format!("+FULLRESYNC {replid} {offset}\r\n")
            }
        };
        let Place { node, session } = replica.applicant.place;
        let follows = false;
        let begin = Message::Begin {
            session,
            reply,
            follows,
        };
        let (state, then) = match written {
            Ok((file, len)) => (State::Sending, Message::File { session, file, len }),
            Err(error) => {
                log::warning(&format!("SYNC failed: {error}"));
                (State::Leaving, Message::Drop { session })
            }
        };
        replica.state = state;
        self.inform(node, begin);
        self.inform(node, then);
    }

    /// Goes on with a replica where it was, if the backlog reaches back so far.
    fn try_partial(&mut self, applicant: &Applicant) -> bool {
        let Some((id, offset)) = &applicant.psync else {
            return false;
        };
        let name = applicant.name();
        let replid = self.identity.replid();
        if id.as_slice() == b"?" {
            log::notice(&format!("Full resync requested by replica {name}"));
            return false;
        }
        let (second, second_end) = self.identity.second();
        let is_second = id.eq_ignore_ascii_case(second.as_bytes());
        if !id.eq_ignore_ascii_case(replid.as_bytes()) && (!is_second || *offset > second_end) {
            let asked = String::from_utf8_lossy(id);
            log::notice(&match is_second {
                false => format!(
                    "Partial resynchronization not accepted: Replication ID mismatch (Replica asked \
                     for '{asked}', my replication IDs are '{replid}' and '{second}')"
                ),
                true => format!(
                    "Partial resynchronization not accepted: Requested offset for second ID was \
                     {offset}, but I can reply up to {second_end}"
                ),
            });
            return false;
        }
        self.pump();
        let rest = match self.replicas.is_streaming() {
            true => self.replicas.backlog.from(*offset),
            false => None,
        };
        let Some(rest) = rest else {
            log::notice(&format!(
                "Unable to partial resync with replica {name} for lack of backlog (Replica request \
                 was: {offset})."
            ));
            if *offset > self.replicas.offset() {
                log::warning(&format!(
                    "Warning: replica {name} tried to PSYNC with an offset that is greater than the \
                     master replication offset."
                ));
            }
            return false;
        };
        log::notice(&format!(
            "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog \
             starting from offset {offset}.",
            rest.len()
        ));
        let mut bytes = match applicant.greeting.psync2 {
            true => format!("+CONTINUE {replid}\r\n").into_bytes(),
            false => b"+CONTINUE\r\n".to_vec(),
        };
        bytes.extend_from_slice(&rest);
        let Place { node, session } = applicant.place;
        self.inform(node, Message::Continue { session, bytes });
        true
    }

    pub(super) fn replica_ack(&mut self, place: Place, offset: i64) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.replicas.find(place) {
            replica.ack_offset = replica.ack_offset.max(offset);
            replica.ack_ms = now_ms;
            self.count_good();
            self.end_waits();
        }
    }

    pub(super) fn replica_gone(&mut self, place: Place) {
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

    /// What a shard told.
    pub(super) fn fed(&mut self, shard: usize, epoch: u32, items: Vec<Fed>) {
        // What comes after its end was sent before that was known.
        if self.replicas.epoch == Some(epoch) {
            self.replicas.merge.push(shard, items);
        }
    }

    /// Brings the stream on: it is kept, and sent to all who are in it.
    pub(in crate::server) fn pump(&mut self) {
        if !self.replicas.feeds() {
            return;
        }
        while let Some(passed) = self.replicas.merge.advance() {
            self.keep_and_send();
            match passed {
                Passed::Cut(id) => self.cut_passed(id),
                Passed::Reached(id) => {
                    self.replicas.passed = id;
                    self.wait_reached(id);
                }
            }
        }
        self.keep_and_send();
    }

    fn keep_and_send(&mut self) {
        let bytes = self.replicas.merge.take();
        if !bytes.is_empty() {
            self.keep_stream(&bytes);
        }
    }

    /// More of the stream: it is kept, and sent to all who are in it.
    pub(in crate::server) fn keep_stream(&mut self, bytes: &[u8]) {
        let max = usize::try_from(self.config.int("repl-backlog-size")).unwrap_or(usize::MAX);
        self.replicas.backlog.push(bytes, max);
        if !self.replicas.has_any() {
            return;
        }
        let piece: Arc<[u8]> = bytes.into();
        for node in self.replicas.nodes() {
            self.inform(node, Message::Stream(piece.clone()));
        }
    }

    /// The snapshot with this number holds the stream up to here.
    fn cut_passed(&mut self, id: u32) {
        let db = self.replicas.merge.db();
        self.note_past(id, db);
        self.begin_replicas(id);
        self.send_snapshot();
    }

    /// Work of a turn on shard 0.
    pub(in crate::server) fn mind_replicas(&mut self) {
        if self.persistence.streamed.is_some() {
            self.send_snapshot();
        }
        self.begin_sync();
        self.mind_farewell();
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
        self.may_begin_sync() || self.is_farewell_over()
    }

    /// A stream begins: with a history of its own, as nothing was kept of the one before.
    pub(super) fn begin_backlog(&mut self) {
        self.identity.change_replid();
        let replicas = &mut self.replicas;
        replicas.begin_feeds(self.shards);
        replicas.active = true;
        replicas.backlog.clear();
        replicas.ping_ms = self.now_ms;
        log::notice(&format!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            self.identity.replid(),
            "0".repeat(40)
        ));
    }

    /// The stream is not this server's own any more; what it was is kept.
    pub(in crate::server) fn end_feeds(&mut self) {
        let replicas = &mut self.replicas;
        replicas.epoch = None;
        replicas.merge = Merge::new(self.shards);
        replicas.waits.forget_marks();
        for node in 0..self.shards {
            self.inform(node, Message::EndFeed);
        }
    }

    /// The stream is that of a master, from behind this offset.
    pub(in crate::server) fn begin_relay(&mut self, offset: i64) {
        let replicas = &mut self.replicas;
        if !replicas.active || replicas.offset() != offset {
            replicas.backlog.restart(offset);
        }
        replicas.active = true;
        replicas.alone_since_ms = self.now_ms;
    }

    /// Nobody can go on with the stream of this server's master.
    pub(in crate::server) fn end_relay(&mut self) {
        self.replicas.active = false;
        self.replicas.backlog.clear();
    }

    /// A snapshot knows the stream that continues it: from here on, with this database selected.
    pub(in crate::server) fn note_past(&mut self, id: u32, db: u32) {
        let past = Past {
            replid: self.identity.replid(),
            offset: self.replicas.offset(),
            db,
        };
        self.persistence.cut_passed(id, past, self.now_ms);
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

    /// Nobody has been there for long: shards need not tell any more.
    fn end_stream(&mut self) {
        self.identity.change_replid();
        self.end_feeds();
        self.replicas.active = false;
        self.replicas.backlog.clear();
        log::notice(&format!(
            "Replication backlog freed after {} seconds without connected replicas.",
            self.config.int("repl-backlog-ttl")
        ));
    }

    /// Tells all nodes how many replicas are good enough for `min-replicas-to-write`.
    pub(in crate::server) fn count_good(&self) {
        let lag_max_s = self.config.int("min-replicas-max-lag");
        let good = self.replicas.good(lag_max_s, self.now_ms);
        self.part.set_good_replicas(good);
    }

    pub(in crate::server) fn replica_figures(&self) -> Figures {
        let replicas = &self.replicas;
        let line = |one: &Replica| {
            format!(
                "ip={},port={},state={},offset={},lag={}",
                one.ip(),
                one.applicant.greeting.port,
                one.state.name(),
                one.ack_offset,
                one.lag_s(self.now_ms)
            )
        };
        let lag_max_s = self.config.int("min-replicas-max-lag");
        Figures {
            master: self.master_figures(),
            replicas: replicas.list.iter().map(line).collect(),
            good: replicas.good(lag_max_s, self.now_ms),
            streaming: replicas.is_streaming(),
            failover: self.following.failover.as_ref().map(|it| it.name()),
            offset: replicas.offset(),
            first: match replicas.is_streaming() {
                true => replicas.backlog.first(),
                false => 0,
            },
            backlog_bytes: replicas.backlog.len(),
            ends_in_ms: self.farewell_due_ms().map(|at_ms| at_ms - self.now_ms),
            full: replicas.full,
            partial: replicas.partial,
            refused: replicas.refused,
        }
    }

    /// DEBUG REPLICATE command ...: replicas are told what was not done.
    pub(in crate::server) fn debug_replicate(
        &mut self,
        args: &Args,
        out: &mut Writer,
    ) -> CmdResult {
        let words: Vec<&[u8]> = args.iter().skip(2).collect();
        self.pump();
        self.replicas.say(&following::encode(&words));
        out.ok()
    }

    /// ROLE
    pub(in crate::server) fn role(&self, out: &mut Writer) -> CmdResult {
        if self.identity.role.is_replica() {
            return self.role_of_replica(out);
        }
        out.array(3)?;
        out.bulk(b"master")?;
        out.int(self.replicas.offset())?;
        let online = self.replicas.list.iter().filter(|one| one.is_online());
        let online: Vec<&Replica> = online.collect();
        out.array(online.len())?;
        for replica in online {
            out.array(3)?;
            out.bulk(replica.ip().as_bytes())?;
            out.bulk_int(replica.applicant.greeting.port)?;
            out.bulk_int(replica.ack_offset)?;
        }
        Ok(())
    }
}
