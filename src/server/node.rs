//! One core of the server: its clients and shard, driven by the runtime.

use super::ask::{NodeMessage, Question};
use super::boot::listening_of;
use super::following::Call;
use super::host::ServerHost;
use super::link::IoLink;
use super::log;
use super::persist::{self, Operation};
use super::spikes;
use crate::command::{Client, Job, flags};
use crate::runtime::{
    self, App, Awaited, CloseReason, ConnId, ConnInfo, Delivery, FileDone, Io, NextTurn, Signal,
};
use crate::session::{Core, Link, Peer, State};
use crate::shard::message::{HopCall, Message};

/// Expirations handled in one slice: well under a millisecond of work.
const PULSE_BUDGET: usize = 256;

pub struct Node {
    pub core: Core,
    pub host: ServerHost,
}

impl Node {
    /// How late keys expired, now that their events are on their way.
    fn note_lags(core: &mut Core) {
        let expired_at = std::mem::take(&mut core.shard.keyspace.effects.expired_at);
        if expired_at.is_empty() {
            return;
        }
        let now_us = runtime::clock::now().unix_us;
        for at_ms in expired_at {
            core.shard
                .stats
                .expired(now_us - at_ms.saturating_mul(1000));
        }
    }

    /// What was refused, in the log.
    fn tell_complaints(core: &mut Core, host: &mut ServerHost) {
        for complaint in core.shard.keyspace.effects.complaints.drain(..) {
            log::warning(&complaint);
        }
        let unexpected = core.shard.stats.unexpected;
        if unexpected == host.blamed {
            return;
        }
        let has_more = unexpected > host.blamed;
        host.blamed = unexpected;
        // Redis: networking.c afterErrorReply, a replica that clients write to differs anyhow.
        let minds = host.config.text("propagation-error-behavior") != "ignore"
            && host.config.flag("replica-read-only");
        if has_more && minds {
            log::warning(
                "This replica panicked sending an error to its master: propagation-error-behavior \
                 asks for its end.",
            );
            host.stop = Some(1);
        }
    }

    /// Runs a slice of work that may keep clients waiting, and notes it if it took long.
    fn timed<T>(
        core: &mut Core,
        host: &mut ServerHost,
        event: &'static str,
        work: impl FnOnce(&mut Core, &mut ServerHost) -> T,
    ) -> T {
        if !host.spikes.is_on() || host.part.loading {
            return work(core, host);
        }
        let begun_ns = runtime::clock::mono_ns();
        let result = work(core, host);
        let took_ns = runtime::clock::mono_ns() - begun_ns;
        host.spikes
            .note(event, took_ns, runtime::clock::now().unix_ms() / 1000);
        result
    }

    /// One slice of due expirations. Returns whether more is due.
    fn expire(core: &mut Core, host: &mut ServerHost, now_ms: i64) -> bool {
        let due_ms = core.shard.keyspace.next_expiry_ms();
        if due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return false;
        }
        let begun_ns = runtime::clock::mono_ns();
        let more = core.shard.pulse(now_ms, PULSE_BUDGET);
        let took_ns = runtime::clock::mono_ns() - begun_ns;
        host.gauges.expire_ns += took_ns;
        host.gauges.expire_slices_cut += u64::from(more);
        if host.spikes.is_on() {
            let now_s = runtime::clock::now().unix_ms() / 1000;
            host.spikes.note(spikes::EXPIRE_CYCLE, took_ns, now_s);
        }
        more
    }

    /// Commands that were slow, for the latency monitor.
    fn note_spikes(core: &mut Core, host: &mut ServerHost) {
        let now_s = runtime::clock::now().unix_ms() / 1000;
        for (id, took_ns) in core.shard.stats.take_spikes() {
            let is_fast = core.table.entry(id).command.flags & flags::FAST != 0;
            let event = if is_fast {
                spikes::FAST_COMMAND
            } else {
                spikes::COMMAND
            };
            host.spikes.note(event, took_ns, now_s);
        }
    }

    /// Runs `work` with a link over `io`, then sends what the host wrote to other nodes.
    fn with_link(
        &mut self,
        io: &mut Io<NodeMessage>,
        work: impl FnOnce(&mut Core, &mut ServerHost, &mut IoLink),
    ) {
        self.host.now_ms = io.now().unix_ms();
        let frozen = self.host.part.loading;
        if frozen {
            self.core.shard.keyspace.loads_at_ms = self.host.now_ms;
        }
        let (sends, sent_bytes) = io.take_traffic();
        self.core.counters.writes += sends;
        self.core.counters.output_bytes += sent_bytes;
        let mut link = IoLink { io, frozen };
        work(&mut self.core, &mut self.host, &mut link);
        while let Some(relisten) = self.host.reconfigure.relisten.take() {
            let result = link.io.relisten(&listening_of(&relisten.config));
            self.host.relistened(*relisten, result);
        }
        if !self.core.shard.keyspace.effects.events.is_empty() {
            self.host.notify(&mut self.core, &mut link);
        }
        if self.core.shard.keyspace.effects.tracking.has_news() {
            self.host.invalidate(&mut self.core);
        }
        if !self.core.overflown.is_empty() {
            super::clients::log_overflown(&mut self.core, &link, &self.host.monitors.here);
        }
        Node::note_lags(&mut self.core);
        Node::tell_complaints(&mut self.core, &mut self.host);
        if self.core.shard.stats.has_spikes() {
            Node::note_spikes(&mut self.core, &mut self.host);
        }
        let shard = self.host.shard;
        let leaves =
            |(to, message): &mut (usize, NodeMessage)| *to != shard || !message.is_sent_on();
        for (to, message) in self.host.mail.extract_if(.., leaves) {
            let is_ahead = match &message {
                // Not behind a command that was sent on after them, which has events of its own.
                NodeMessage::Pubsub(message) => message.is_telling(),
                // What a script asked for is noted before that is, also where it goes back to its client.
                NodeMessage::Slow(_) => true,
                _ => false,
            };
            match is_ahead {
                true => link.io.post_ahead(to, message),
                false => link.io.post(to, message),
            }
        }
        for Operation { file, tag, op } in self.host.persistence.operations.drain(..) {
            link.io.file(&file, tag, op);
        }
        for call in self.host.following.calls.drain(..) {
            match call {
                Call::Dial(dial) => link.io.dial(dial),
                Call::HangUp(tag) => link.io.hang_up(tag),
            }
        }
        if let Some(exit_code) = self.host.stop.take() {
            link.io.stop(exit_code);
        }
    }

    fn message(
        core: &mut Core,
        host: &mut ServerHost,
        link: &mut IoLink,
        from: usize,
        message: NodeMessage,
    ) {
        match message {
            NodeMessage::Core(message) => core.deliver(message, link, host),
            NodeMessage::Ask {
                id,
                origin,
                question,
            } => Node::asked(core, host, link, (origin, id), &question),
            NodeMessage::Answer { id, part } => {
                if let Some(collecting) = host.asking.answered(id, part) {
                    host.collected(core, link, collecting);
                }
            }
            NodeMessage::Forward(forwarded) => host.forwarded(core, *forwarded),
            NodeMessage::Reply {
                session,
                out,
                sight,
            } => {
                if let Some(sight) = sight {
                    core.note_sight(session, sight);
                }
                core.answer(session, &out, link, host);
            }
            NodeMessage::Slow(entry) => {
                let max_len = host.slowlog_max_len;
                host.slowlog.push(*entry, max_len);
            }
            NodeMessage::Denied(denial) => host.log_denial(*denial),
            NodeMessage::WantRoom { session } => host.make_room(core, link, from, session),
            NodeMessage::MadeRoom { session } => {
                if host.made_room(session) {
                    core.resume(session, link, host);
                }
            }
            NodeMessage::Pubsub(message) => host.pubsub_message(core, link, from, message),
            NodeMessage::Tracking(message) => host.tracking_message(core, link, from, message),
            NodeMessage::Persist(persist::Message::Replay(commands)) => {
                host.replay_here(core, link, &commands);
            }
            NodeMessage::Persist(persist::Message::ReplayEnded) => {
                core.closed(persist::replay::SESSION, link);
            }
            NodeMessage::Persist(message) => host.persist_message(core, from, message),
            NodeMessage::Replicas(message) => host.replica_message(core, link, from, message),
            NodeMessage::Role(message) => host.role_message(core, link, message),
            NodeMessage::Monitor(line) => {
                for &session in &host.monitors.here {
                    link.out(session).bytes.extend_from_slice(&line);
                }
            }
            NodeMessage::MonitorsChanged { node, delta } => host.monitors.everywhere[node] += delta,
        }
        debug_assert!(from < host.shards);
    }

    /// Answers a question, here or when what is under way is over.
    fn asked(
        core: &mut Core,
        host: &mut ServerHost,
        link: &mut IoLink,
        (origin, id): (usize, u64),
        question: &Question,
    ) {
        let part = host.contribute(core, link, origin, question);
        if question.job == Job::ConfigSet {
            let keepalive_s = host.config.int("tcp-keepalive").max(0);
            link.io.set_keepalive(keepalive_s as u64);
        }
        if question.job == Job::Acl && !question.requester.in_exec && core.has_outdated() {
            host.outdated.push((origin, id));
        } else {
            link.io.post(origin, NodeMessage::Answer { id, part });
        }
    }
}

pub(super) fn session_peer(peer: &runtime::Peer) -> Peer {
    match peer {
        runtime::Peer::Tcp { peer, local } => Peer::Tcp {
            peer: *peer,
            local: *local,
        },
        runtime::Peer::Unix(path) => Peer::Unix(path.to_string_lossy().into_owned()),
    }
}

/// What a stranger is told while no password is set. Redis: networking.c acceptCommonHandler.
const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Redis you may adopt \
one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET \
protected-mode no' from the loopback interface by connecting to Redis from the same host the server \
is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use \
CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected \
mode by editing the Redis configuration file, and setting the protected mode option to 'no', and \
then restarting the server. 3) If you started the server manually just for testing, restart it with \
the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: \
You only need to do one of the above things in order for the server to start accepting connections \
from the outside.\r\n";

/// Redis: networking.c acceptCommonHandler.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

/// The longest a node sleeps before it looks at its deadlines again.
const WAIT_MAX_MS: i64 = 24 * 3600 * 1000;

impl App for Node {
    type Message = NodeMessage;

    fn admit(&mut self, info: &ConnInfo, connections: usize) -> Result<(), Vec<u8>> {
        let config = &self.host.config;
        let guarded = config.flag("protected-mode") && self.core.users.default_user().is_nopass();
        if guarded && !session_peer(&info.peer).is_local() {
            return Err(PROTECTED.to_vec());
        }
        if connections as i64 >= self.host.config.int("maxclients") {
            self.host.gauges.refused += 1;
            return Err(TOO_MANY_CLIENTS.to_vec());
        }
        Ok(())
    }

    fn opened(&mut self, conn: ConnId, info: ConnInfo, io: &mut Io<NodeMessage>) {
        let client = Client {
            id: info.client_id,
            databases: self.core.shard.keyspace.databases(),
            authenticated: !self.core.users.requires_auth(),
            ..Client::default()
        };
        let now_ms = io.now().unix_ms();
        self.core.open(
            conn.pack(),
            client,
            session_peer(&info.peer),
            info.fd,
            now_ms,
        );
    }

    fn foresee<'b>(&self, arrivals: impl Iterator<Item = (ConnId, &'b [u8])>) {
        self.core
            .foresee(arrivals.map(|(conn, bytes)| (conn.pack(), bytes)));
    }

    fn dialed(
        &mut self,
        tag: u64,
        result: std::io::Result<(ConnId, ConnInfo)>,
        io: &mut Io<NodeMessage>,
    ) {
        self.with_link(io, |_, host, link| host.dialed(link, tag, result));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<NodeMessage>) {
        self.with_link(io, |core, host, link| {
            if host.following.is_link(conn.pack()) {
                return host.heard_master(link, bytes);
            }
            host.heard_replica(conn.pack(), bytes);
            core.receive(conn.pack(), bytes, link, host)
        });
    }

    fn closed(&mut self, conn: ConnId, _reason: CloseReason, io: &mut Io<NodeMessage>) {
        self.with_link(io, |core, host, link| {
            if host.following.is_link(conn.pack()) {
                return host.master_gone(link);
            }
            core.closed(conn.pack(), link);
            host.session_closed(core, conn.pack());
        });
    }

    fn drained(&mut self, conn: ConnId, io: &mut Io<NodeMessage>) {
        self.with_link(io, |core, host, link| {
            core.drained(conn.pack(), link, host);
            host.replica_drained(link, conn.pack());
        });
    }

    fn is_idle(&self, conn: ConnId) -> bool {
        self.core
            .session(conn.pack())
            .is_none_or(|session| session.is_idle() || session.state == State::Blocked)
    }

    fn waits(&self, conn: ConnId) -> bool {
        self.core
            .session(conn.pack())
            .is_some_and(|session| matches!(session.state, State::Blocked | State::Postponed))
    }

    fn delivered(
        &mut self,
        from: usize,
        messages: Delivery<'_, NodeMessage>,
        io: &mut Io<NodeMessage>,
    ) {
        if messages.as_slice().len() > 1 {
            let hops = messages
                .as_slice()
                .iter()
                .filter_map(|message| match message {
                    NodeMessage::Core(Message::Hop(hop)) => Some(&**hop),
                    _ => None,
                });
            self.core.shard.foresee(hops);
        }
        self.with_link(io, |core, host, link| {
            for message in messages {
                Node::message(core, host, link, from, message);
            }
        });
    }

    fn signalled(&mut self, signal: Signal, io: &mut Io<NodeMessage>) {
        let name = match signal {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        };
        log::warning(&format!("Received {name} scheduling shutdown..."));
        self.with_link(io, |_, host, _| {
            host.stop_signal(matches!(signal, Signal::Interrupt));
        });
    }

    fn commit(&mut self, io: &mut Io<NodeMessage>) {
        let mut operations = Vec::new();
        let (gate, released) = if self.host.segment.is_some() {
            let work = |core: &mut Core, host: &mut ServerHost| host.commit(core, &mut operations);
            Node::timed(&mut self.core, &mut self.host, spikes::AOF_WRITE, work)
        } else {
            self.host.commit(&mut self.core, &mut operations)
        };
        if self.host.shard == 0 {
            self.host.pump();
        }
        io.release(released);
        io.hold(gate);
        for Operation { file, tag, op } in operations {
            io.file(&file, tag, op);
        }
        for (to, message) in self.host.mail.drain(..) {
            io.post(to, message);
        }
    }

    fn file_done(&mut self, done: FileDone, io: &mut Io<NodeMessage>) {
        self.with_link(io, |_, host, _| host.file_done(done));
    }

    fn turn(&mut self, io: &mut Io<NodeMessage>) -> bool {
        let now = io.now();
        let mut more = false;
        self.with_link(io, |core, host, link| {
            let is_paused = host.mind_pause(core, now.unix_ms());
            for session in host.unpaused(now.unix_ms()) {
                core.resume(session, link, host);
            }
            if !is_paused && !host.part.loading {
                more = Node::expire(core, host, now.unix_ms());
                let mut post = |to, message| link.post(to, message);
                core.shard.serve_in_time(now.unix_ms(), &mut post);
            }
            core.timed_out(now.unix_ms(), link, host);
            host.tell_of_transactions(core);
            host.tell_of_users(core);
            host.migrated(core, link);
            Node::timed(core, host, spikes::EVICTION_CYCLE, |core, _| {
                core.shard.make_room(now.unix_ms());
            });
            more |= core.shard.is_evicting();
            more |= core.run_paused(link, host);
            more |= Node::timed(core, host, spikes::LAZYFREE_CYCLE, |core, _| {
                core.shard.keyspace.free_slice()
            });
            if let Some(max_keys) = host.trackers.max_keys {
                core.shard.limit_tracking(max_keys);
            }
            more |= Node::timed(core, host, spikes::RDB_SLICE, |core, host| {
                host.persist_turn(core, link)
            });
            host.patrol.set_draining(core.drains);
            if host.patrol.walk(core, link) && core.drains {
                core.look_at_readers(link, host);
            }
            host.gauges.evicted_clients += host.patrol.relieve(core, link);
            host.gauges.turn(core, now.unix_ms());
        });
        more
    }

    /// Hops that read, and replies of a turn that has changed nothing: a session has one hop under
    /// way at most, so that nothing that is held is for the same one; and where an earlier command
    /// of its still holds a key, the hop waits there. So a shard whose disk is full goes on reading
    /// for its clients and for others, and tells them that it takes no writes. A hop that writes
    /// stays in its place: it must not survive what its client wrote before.
    fn passes(message: &NodeMessage) -> bool {
        let reads = |call: &HopCall| call.command.flags & flags::WRITE == 0;
        match message {
            NodeMessage::Core(Message::Done(_)) => true,
            NodeMessage::Core(Message::Hop(hop)) => hop.calls.iter().all(reads),
            _ => false,
        }
    }

    fn awaits_mail(&self) -> Awaited {
        let shard = &self.core.shard;
        match shard.is_held_whole() {
            // A script or transaction of some core has stopped all of them.
            true => Awaited::First,
            false if shard.is_conversing() || self.core.is_abroad() => Awaited::Soon,
            false => Awaited::Nothing,
        }
    }

    fn next_turn(&self, io: &Io<NodeMessage>) -> NextTurn {
        if self.host.persist_wants(&self.core) || self.core.has_paused() {
            return NextTurn::Again;
        }
        let now = io.now();
        let pause = self.host.pauses.due_ms(now.unix_ms());
        let shard = &self.core.shard;
        let stands_still = self.host.is_still(now.unix_ms()) || self.host.part.loading;
        let moves = |_: &i64| !stands_still;
        let expiry = shard.keyspace.next_expiry_ms().filter(moves);
        let alarm = shard.next_alarm_ms().filter(moves);
        let patrol = self.host.patrol.due_ms();
        let timeout = self.core.next_timeout_ms();
        let files = self.host.persist_due_ms();
        let migrations = self.host.migrations.due_ms(now.unix_ms());
        let deadlines = [pause, expiry, alarm, patrol, timeout, files, migrations]
            .into_iter()
            .flatten();
        match deadlines.min() {
            None => NextTurn::Idle,
            Some(at_ms) => {
                // A key may live for millions of years; a timer need not.
                let wait_ms = at_ms.saturating_sub(now.unix_ms()).clamp(0, WAIT_MAX_MS);
                let wait_us = (wait_ms * 1000 - now.unix_us % 1000).max(0);
                NextTurn::At(now.mono_ns + wait_us as u64 * 1000)
            }
        }
    }
}
