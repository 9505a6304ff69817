//! N cores, their mailboxes, and clients that type.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pinion::command::errand::{Parcel, Receipt};
use pinion::command::keys::home;
use pinion::command::{Client, Job, Table};
use pinion::keyspace::cut::Clocks;
use pinion::keyspace::effects::class;
use pinion::keyspace::{Due, Keyspace, Records};
use pinion::rdb::dump;
use pinion::rdb::object::Object;
use pinion::rdb::string::StringWriter;
use pinion::resp::{Args, CmdError, Output};
use pinion::session::{Core, Host, Link, Peer, Performed};
use pinion::shard::feed::Fed;
use pinion::shard::journal::Journal;
use pinion::shard::message::{Cut, MASTER, Message, SessionKey};
use pinion::shard::snapshot::Style;
use pinion::shard::{Place, Shard};
use pinion::value::hash::Hash;
use pinion::value::listpack::Item;
use pinion::value::stream::{EntryId, Group};
use pinion::value::{Kind, Value};

use crate::disk::{Disk, Heard, Policy, Recovered};

/// A host that performs no jobs: the simulation is about keys.
struct NoHost;

impl Host for NoHost {
    fn perform(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _job: Job,
        _args: &Args,
        _out: &mut Output,
    ) -> Performed {
        Performed::Failed(CmdError::Text("ERR no jobs in the simulation"))
    }

    /// Another server, which takes most keys.
    fn errand(&mut self, core: &mut Core, link: &mut dyn Link, work: u64, parcel: Parcel) {
        let mut receipt = Receipt::default();
        for item in &parcel.items {
            match item.key.ends_with(b"3") {
                true => receipt.error = Some(CmdError::Text("ERR Target is busy")),
                false => receipt.arrived.push(item.at),
            }
        }
        core.returned(work, &receipt, link, self);
    }
}

/// What one core writes and sends.
#[derive(Default)]
struct SimLink {
    outs: BTreeMap<SessionKey, Output>,
    sent: Vec<(usize, Message)>,
    now_us: i64,
}

impl Link for SimLink {
    fn out(&mut self, session: SessionKey) -> &mut Output {
        self.outs.entry(session).or_default()
    }
    fn pending_bytes(&self, session: SessionKey) -> usize {
        self.outs.get(&session).map_or(0, Output::len)
    }
    fn notify_drained(&mut self, _session: SessionKey) {}
    fn pause_recv(&mut self, _session: SessionKey) {}
    fn resume_recv(&mut self, _session: SessionKey) {}
    fn close(&mut self, _session: SessionKey) {}
    fn close_after_flush(&mut self, _session: SessionKey) {}
    fn post(&mut self, to: usize, message: Message) {
        self.sent.push((to, message));
    }
    fn now_us(&self) -> i64 {
        self.now_us
    }
}

/// A client: the core that serves it and its session there.
#[derive(Clone, Copy)]
pub struct Typist {
    core: usize,
    key: SessionKey,
}

pub struct World {
    cores: Vec<Core>,
    links: Vec<SimLink>,
    /// `mail[from][to]`
    mail: Vec<Vec<VecDeque<Message>>>,
    pub rng: fastrand::Rng,
    pub delivered: u64,
    next_client: u64,
    /// The disk under the journals, if they are kept.
    pub disk: Option<Disk>,
    heard: Heard,
    /// Cores that did something since they were last asked.
    pub touched: BTreeSet<usize>,
    /// Events of keys as they were announced: name and key.
    pub announced: Vec<(String, String)>,
}

pub const DATABASES: u32 = 4;

/// Database, key, value, deadline.
pub type KeyState = (u32, Vec<u8>, Vec<u8>, Option<i64>);

impl World {
    pub fn new(shards: usize, seed: u64) -> World {
        let table = Arc::new(Table::new(&[]).unwrap());
        let core = |shard| {
            let mut keyspace = Keyspace::new(DATABASES, seed);
            keyspace.effects.recording = true;
            if seed.is_multiple_of(3) {
                // Lists of few elements have nodes to compress.
                keyspace.settings.limits.list_max_listpack_size = 2;
                keyspace.settings.limits.list_compress_depth = 1;
            }
            let commands = table.entries().len();
            let shard = Shard::new(Place { shard, shards }, keyspace, commands, || 0);
            let mut core = Core::new(shard, table.clone());
            // In every other world the coordinators settle what spans shards, as with a journal.
            core.coordinator.journaled = seed % 2 == 1;
            core
        };
        let link = || SimLink {
            now_us: 1_700_000_000_000_000,
            ..SimLink::default()
        };
        World {
            cores: (0..shards).map(core).collect(),
            links: (0..shards).map(|_| link()).collect(),
            mail: (0..shards)
                .map(|_| (0..shards).map(|_| VecDeque::new()).collect())
                .collect(),
            rng: fastrand::Rng::with_seed(seed),
            delivered: 0,
            // The names before are those of sessions without a client.
            next_client: 2,
            disk: None,
            heard: Heard::new(),
            touched: BTreeSet::new(),
            announced: Vec::new(),
        }
    }

    /// The shards keep journals on a disk.
    pub fn keep_journals(&mut self, policy: Policy) {
        let shards = self.cores.len();
        for core in &mut self.cores {
            core.shard.journal = Some(Box::default());
            core.coordinator.journaled = true;
        }
        self.disk = Some(Disk::new(shards, policy));
    }

    /// The shards go on with the journals of a server before, whose keys they have.
    pub fn resume_journals(&mut self, policy: Policy, found: &Recovered) {
        let shards = self.cores.len();
        for (at, core) in self.cores.iter_mut().enumerate() {
            core.shard.keyspace.effects.records.clear();
            let journal = match found.goes_on() {
                true => Journal::resume(&found.tails[at]),
                false => Journal::default(),
            };
            core.shard.journal = Some(Box::new(journal));
            core.coordinator.journaled = shards > 1;
            core.coordinator.pass_transactions(found.last_transaction);
            self.touched.insert(at);
        }
        self.disk = Some(Disk::resume(shards, policy, found));
    }

    /// No core settles what spans shards while keys are recovered.
    pub fn begin_recovery(&mut self) {
        self.stop_clock();
        let cores = self.cores.iter_mut();
        cores.for_each(|core| core.coordinator.journaled = false);
    }

    /// Replicas are told of everything from here on.
    pub fn feed_replicas(&mut self, epoch: u32, cut: u32) {
        let shards = self.cores.len();
        for core in &mut self.cores {
            let mut journal = Box::new(Journal::unkept());
            journal.cut_feed(epoch, cut, &mut core.shard.keyspace.effects);
            core.shard.journal = Some(journal);
            core.coordinator.journaled = shards > 1;
        }
    }

    /// The cores are a replica's from here on; what the master has done comes in at one of them.
    pub fn follow(&mut self, core: usize) -> Typist {
        for core in &mut self.cores {
            core.shard.keyspace.set_replica(true);
        }
        self.open(core, MASTER)
    }

    /// The cores are a master's again.
    pub fn lead(&mut self) {
        for core in &mut self.cores {
            core.shard.keyspace.set_replica(false);
        }
    }

    pub fn shards(&self) -> usize {
        self.cores.len()
    }

    /// Keys that the cores have deleted because their time had come.
    pub fn expired(&self) -> u64 {
        let counters = self.cores.iter().map(|core| core.shard.keyspace.counters);
        counters.map(|its| its.expired + its.expired_fields).sum()
    }

    /// Counts keys that are due; panics if a client sees one.
    pub fn check_hidden(&mut self) -> usize {
        let mut hidden = 0;
        let all = self.state();
        for (db, key, _, deadline) in all {
            let core = home(&key, self.cores.len());
            let now_ms = self.links[core].now_ms();
            let keyspace = &mut self.cores[core].shard.keyspace;
            let mut tx = keyspace.tx(db, now_ms, false);
            let is_due = deadline.is_some_and(|at_ms| at_ms <= now_ms);
            assert!(!is_due || !tx.peek_exists(&key), "{key:?} is seen");
            let due: Vec<Vec<u8>> = match tx.peek::<Hash>(&key) {
                Ok(Some(hash)) => {
                    let due = hash.deadlines().take_while(|(_, at_ms)| *at_ms <= now_ms);
                    due.map(|(field, _)| field.to_vec()).collect()
                }
                _ => Vec::new(),
            };
            if let Ok(Some(fields)) = tx.peek_fields(&key) {
                let is_seen = |field: &Vec<u8>| fields.contains(field);
                assert!(!due.iter().any(is_seen), "a field of {key:?} is seen");
                assert_eq!(fields.iter().count(), fields.len());
                hidden += due.len();
            }
            tx.finish();
            hidden += usize::from(is_due);
        }
        hidden
    }

    /// What a shard told since it was last asked.
    pub fn take_feed(&mut self, core: usize, epoch: u32) -> Option<Vec<Fed>> {
        let shard = &mut self.cores[core].shard;
        let journal = shard.journal.as_mut()?;
        journal.collect(&mut shard.keyspace.effects);
        let (of, items) = journal.take_feed()?;
        assert_eq!(of, epoch);
        Some(items)
    }

    /// Somebody wants to know of all events of keys.
    pub fn listen(&mut self) {
        for core in &mut self.cores {
            core.shard.keyspace.effects.classes = class::ALL | class::NEW;
        }
    }

    /// Somebody wants to know of keys that were looked for in vain.
    pub fn listen_for_misses(&mut self) {
        for core in &mut self.cores {
            core.shard.keyspace.effects.classes = class::ALL | class::KEY_MISS;
        }
    }

    /// A client connects to a core.
    pub fn connect(&mut self, core: usize) -> Typist {
        let key = self.next_client;
        self.next_client += 1;
        self.open(core, key)
    }

    fn open(&mut self, core: usize, key: SessionKey) -> Typist {
        let client = Client {
            id: key + 1,
            databases: DATABASES,
            authenticated: true,
            ..Client::default()
        };
        let now_ms = self.links[core].now_ms();
        self.cores[core].open(key, client, Peer::Unix("sim".into()), -1, now_ms);
        Typist { core, key }
    }

    /// The client sends bytes; its core runs them at once as far as it can.
    pub fn send(&mut self, typist: Typist, bytes: &[u8]) {
        let Typist { core, key } = typist;
        self.cores[core].receive(key, bytes, &mut self.links[core], &mut NoHost);
        self.collect(core);
    }

    pub fn send_line(&mut self, typist: Typist, words: &[&str]) {
        self.send(typist, &encode(words));
    }

    fn collect(&mut self, core: usize) {
        self.touched.insert(core);
        let events = self.cores[core].shard.keyspace.effects.events.drain(..);
        self.announced.extend(events.map(|told| {
            let key = String::from_utf8_lossy(&told.key).into_owned();
            (told.event.name.to_string(), key)
        }));
        if let Some(disk) = &mut self.disk {
            let link = &mut self.links[core];
            let mail = std::mem::take(&mut link.sent);
            let outs = std::mem::take(&mut link.outs).into_iter();
            let replies = outs.map(|(session, out)| (session, out.to_vec())).collect();
            let is_slow = self.rng.u8(..5) == 0;
            disk.turn(core, &mut self.cores[core], mail, replies, is_slow);
            return self.hear(core);
        }
        for (to, message) in self.links[core].sent.drain(..) {
            self.mail[core][to].push_back(message);
        }
    }

    /// What the disk lets go reaches mailboxes and clients.
    pub fn hear(&mut self, core: usize) {
        let Some(disk) = &mut self.disk else { return };
        let (mail, replies) = disk.heard(core);
        for (to, message) in mail {
            self.mail[core][to].push_back(message);
        }
        for (session, reply) in replies {
            self.heard.entry(session).or_default().extend(reply);
        }
    }

    /// A core writes, or syncs, what it has appended.
    pub fn work_disk(&mut self, core: usize, syncs: bool) {
        let Some(disk) = &mut self.disk else { return };
        disk.write(core);
        if syncs {
            disk.sync(core);
        }
        self.hear(core);
    }

    /// Everything is delivered, written and synced.
    pub fn settle_on_disk(&mut self) {
        loop {
            self.settle();
            (0..self.cores.len()).for_each(|core| self.work_disk(core, true));
            if !self.step() {
                return;
            }
        }
    }

    /// A rewrite begins: a cut of all shards.
    pub fn begin_rewrite(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        disk.begin_rewrite();
        let cut = Cut {
            id: 1,
            style: Style {
                commands: false,
                compress: false,
                clocks: Clocks::None,
            },
            begins_segment: true,
            feeds: None,
        };
        let sent = &mut self.links[0].sent;
        self.cores[0]
            .coordinator
            .start_cut(cut, &mut |to, message| sent.push((to, message)));
        self.collect(0);
    }

    pub fn table(&self) -> Arc<Table> {
        self.cores[0].table.clone()
    }

    /// Time goes on, and nobody looks yet for what is due.
    pub fn tick_ms(&mut self, ms: i64) {
        self.links
            .iter_mut()
            .for_each(|link| link.now_us += ms * 1000);
    }

    /// Time goes on from here.
    pub fn set_clock(&mut self, now_us: i64) {
        self.links.iter_mut().for_each(|link| link.now_us = now_us);
    }

    pub fn clock_us(&self) -> i64 {
        self.links[0].now_us
    }

    /// Time stands still where it began, as in a recovery.
    pub fn stop_clock(&mut self) {
        self.links.iter_mut().for_each(|link| link.now_us = 0);
    }

    /// Delivers one message from a random non-empty mailbox. Returns whether there was one.
    pub fn step(&mut self) -> bool {
        let shards = self.cores.len();
        let waiting: Vec<(usize, usize)> = (0..shards * shards)
            .map(|n| (n / shards, n % shards))
            .filter(|&(from, to)| !self.mail[from][to].is_empty())
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let (from, to) = waiting[self.rng.usize(..waiting.len())];
        let message = self.mail[from][to].pop_front().unwrap();
        self.delivered += 1;
        self.cores[to].deliver(message, &mut self.links[to], &mut NoHost);
        self.collect(to);
        true
    }

    /// Delivers everything. Work that never ends is a bug, not a hang.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("messages go round in circles");
    }

    pub fn disconnect(&mut self, typist: Typist) {
        let Typist { core, key } = typist;
        self.cores[core].closed(key, &mut self.links[core]);
        self.collect(core);
    }

    /// What the client has received since it was last asked.
    pub fn received(&mut self, typist: Typist) -> Vec<u8> {
        if self.disk.is_some() {
            return self.heard.remove(&typist.key).unwrap_or_default();
        }
        let out = self.links[typist.core].out(typist.key);
        std::mem::take(out).to_vec()
    }

    /// What the client has received, which stays.
    pub fn peek_heard(&self, typist: Typist) -> &[u8] {
        self.heard.get(&typist.key).map_or(&[], Vec::as_slice)
    }

    /// The core that a key lives on.
    pub fn home(&self, key: &str) -> usize {
        home(key.as_bytes(), self.cores.len())
    }

    /// Sends a request and waits for its reply.
    pub fn ask(&mut self, typist: Typist, words: &[&str]) -> Vec<u8> {
        self.send_line(typist, words);
        self.settle();
        self.received(typist)
    }

    pub fn advance_ms(&mut self, ms: i64) {
        for core in 0..self.cores.len() {
            self.links[core].now_us += ms * 1000;
            let now_ms = self.links[core].now_ms();
            while self.cores[core].shard.pulse(now_ms, 64) {}
            let mut post = |to, message| self.links[core].post(to, message);
            self.cores[core].shard.serve_in_time(now_ms, &mut post);
            self.cores[core].timed_out(now_ms, &mut self.links[core], &mut NoHost);
            self.collect(core);
        }
    }

    /// Effects recorded since they were last taken, shard by shard.
    pub fn take_records(&mut self) -> Records {
        let mut all = Records::default();
        for core in &mut self.cores {
            let records = &mut core.shard.keyspace.effects.records;
            all.append(records);
            records.clear();
        }
        all
    }

    /// Clients that are seen to wait.
    pub fn blocked_count(&self) -> usize {
        self.cores.iter().map(Core::blocked_count).sum()
    }

    /// Every key of every database with its value and its deadline, in order.
    pub fn state(&mut self) -> Vec<KeyState> {
        for core in &self.cores {
            core.shard.keyspace.audit();
        }
        let mut all = Vec::new();
        for core in 0..self.cores.len() {
            all.extend(self.state_of(core));
        }
        all.sort();
        all
    }

    /// The same of one core, in any order.
    pub fn state_of(&mut self, core: usize) -> Vec<KeyState> {
        let mut all = Vec::new();
        let now_ms = self.links[core].now_ms();
        let keyspace = &mut self.cores[core].shard.keyspace;
        for db in 0..DATABASES {
            let due = match keyspace.is_replica() {
                true => Due::Keep,
                false => Due::Delete,
            };
            let mut tx = keyspace.tx(db, now_ms, false).with_due(due);
            let mut keys = Vec::new();
            tx.for_each_key(|key, _| keys.push(key.to_vec()));
            for key in keys {
                let deadline = tx.expire_at(&key).flatten();
                let value = match tx.peek_value(&key) {
                    Some(value) => canonical(&value),
                    None => match tx.peek_string(&key) {
                        Ok(Some(string)) => string.to_bytes().to_vec(),
                        _ => continue,
                    },
                };
                all.push((db, key, value, deadline));
            }
            tx.finish();
        }
        all
    }

    /// Lets time pass until nobody waits for a key any more; returns the milliseconds it took.
    pub fn wait_out(&mut self) -> i64 {
        let mut ms = 0;
        self.settle();
        while self.cores.iter().any(|core| core.blocked_count() > 0) {
            ms += 10;
            self.advance_ms(10);
            self.settle();
        }
        ms
    }

    /// No hold and no work may be left once everything has been delivered.
    pub fn assert_quiet(&self) {
        for core in &self.cores {
            assert!(core.shard.is_unheld(), "a hold was left behind");
            assert_eq!(core.coordinator.pending(), 0, "work was left behind");
            let waiting = core.sessions().filter(|session| session.wait.is_some());
            let waits = waiting.count() + core.blocked_count() + core.shard.waiting_count();
            assert_eq!(waits, 0, "a wait was left behind");
            assert_eq!(core.shard.watched_count(), 0, "a watch was left behind");
        }
    }
}

/// A value's elements, in an order that does not depend on its encoding.
fn canonical(value: &Value) -> Vec<u8> {
    let mut elements: Vec<Vec<u8>> = match value {
        Value::Shared(bytes) => return bytes.to_vec(),
        Value::Edited(bytes) => return bytes.to_vec(),
        Value::List(list) => {
            let mut all = Vec::new();
            list.for_each(|item| all.push(item.to_vec()));
            all
        }
        Value::Set(set) => set.iter().map(Item::to_vec).collect(),
        Value::Zset(set) => set
            .iter()
            .map(|(name, score)| {
                format!("{score} {}", String::from_utf8_lossy(&name.to_vec())).into_bytes()
            })
            .collect(),
        Value::Stream(stream) => {
            let show = |name: &[u8], group: &Group| {
                let name = String::from_utf8_lossy(name).into_owned();
                let pending: Vec<_> = group
                    .pending()
                    .iter()
                    .map(|(id, p)| (*id, p.consumer.to_vec()))
                    .collect();
                let consumers: Vec<_> =
                    group.consumers().keys().map(|name| name.to_vec()).collect();
                format!(
                    "{name} {} {:?} {pending:?} {consumers:?}",
                    group.last_id, group.entries_read
                )
                .into_bytes()
            };
            let mut all: Vec<Vec<u8>> = stream
                .range(EntryId::MIN, EntryId::MAX)
                .map(|entry| {
                    let fields: Vec<_> = entry
                        .fields()
                        .map(|(f, v)| (f.to_vec(), v.to_vec()))
                        .collect();
                    format!("{} {fields:?}", entry.id).into_bytes()
                })
                .collect();
            all.push(
                format!(
                    "{} {} {}",
                    stream.last_id, stream.entries_added, stream.max_deleted_id
                )
                .into_bytes(),
            );
            all.extend(stream.groups.iter().map(|(name, group)| show(name, group)));
            all
        }
        Value::Hash(hash) => hash
            .iter()
            .map(|(field, value)| {
                let field = field.to_vec();
                let deadline = hash.deadline(&field);
                format!("{field:?}={:?} until {deadline:?}", value.to_vec()).into_bytes()
            })
            .collect(),
    };
    if value.kind() != Kind::List {
        elements.sort();
    }
    format!("{:?} {elements:?}", value.kind()).into_bytes()
}

pub fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// A random request over a small set of keys: a generator for each command that writes, and the
/// reads that show what was written.
pub fn random_request(rng: &mut fastrand::Rng) -> Vec<String> {
    let key = |rng: &mut fastrand::Rng| format!("k{}", rng.u8(..12));
    let number = |rng: &mut fastrand::Rng| rng.i32(-20..1000).to_string();
    let word = |rng: &mut fastrand::Rng| "ab".repeat(rng.usize(..40));
    let templates: &[&str] = &[
        "SET K V",
        "SET K N",
        "SET K V EX S",
        "SET K N PX T",
        "SET K V NX",
        "SET K V XX GET",
        "SET K N KEEPTTL",
        "SET K V IFEQ V",
        "SET K N IFNE V",
        "SETNX K N",
        "SETEX K S V",
        "PSETEX K T N",
        "PSETEX K S N",
        "GETSET K N",
        "GETDEL K",
        "GETEX K EX S",
        "GETEX K PERSIST",
        "APPEND K V",
        "SETRANGE K O V",
        "INCR K",
        "DECR K",
        "INCRBY K N",
        "DECRBY K N",
        "INCRBYFLOAT K 0.5",
        "MSET K N K V K N",
        "MSETNX K N K V",
        "MSETEX 2 K N K V EX S",
        "DELIFEQ K N",
        "DELEX K",
        "DELEX K IFEQ N",
        "EVAL return\tredis.call('incrby',KEYS[1],ARGV[1]) 1 K N",
        "EVAL local\ta=redis.pcall('getset',KEYS[1],'x')redis.pcall('append',KEYS[2],'y')return(a) 2 K K",
        "EVAL redis.call('set',KEYS[1],'1')redis.call('del',KEYS[2],KEYS[3])return(KEYS) 3 K K K",
        "EVAL redis.set_repl(redis.REPL_ALL)return(redis.pcall('pexpire',KEYS[1],ARGV[1])) 1 K T",
        "DEL K K K",
        "UNLINK K K",
        "EXPIRE K S",
        "PEXPIRE K T NX",
        "PEXPIRE K S",
        "EXPIREAT K 1700000100",
        "PEXPIREAT K 1",
        "PERSIST K",
        "RENAME K K",
        "RENAMENX K K",
        "COPY K K REPLACE",
        "COPY K K DB 2",
        "MOVE K 1",
        "MIGRATE host 1 K 0 9",
        "MIGRATE host 1 K 0 9 COPY",
        "MIGRATE host 1 _ 0 9 KEYS K K K",
        "SETBIT K O 1",
        "BITOP AND K K K",
        "BITOP XOR K K K K",
        "BITOP ONE K K K",
        "BITFIELD K SET u8 O N INCRBY i5 O N",
        "LPUSH L N V",
        "RPUSH L N N V",
        "LPUSHX L N",
        "RPUSHX L V",
        "LPOP L",
        "RPOP L 2",
        "LSET L 1 N",
        "LREM L -1 N",
        "LTRIM L 1 -2",
        "LINSERT L BEFORE N V",
        "LMOVE L L LEFT RIGHT",
        "LMOVE L K RIGHT RIGHT",
        "RPOPLPUSH L L",
        "LMPOP 3 L L L LEFT COUNT 2",
        "LMPOP 2 K L RIGHT",
        "SADD M F V",
        "SADD M F",
        "SREM M F F",
        "SPOP M 1000",
        "SMOVE M M F",
        "SMOVE M K F",
        "SINTERSTORE M M M",
        "SUNIONSTORE M M M",
        "SDIFFSTORE K M M",
        "SINTERCARD 2 M M",
        "SCARD M",
        "SMISMEMBER M F V",
        "ZADD Z N F N F",
        "ZADD Z GT CH N F",
        "ZADD Z NX N F",
        "ZADD Z XX INCR N F",
        "ZINCRBY Z 1.5 F",
        "ZREM Z F F",
        "ZREMRANGEBYRANK Z 1 2",
        "ZREMRANGEBYSCORE Z 0 N",
        "ZREMRANGEBYLEX Z [F [F",
        "ZPOPMIN Z 2",
        "ZPOPMAX Z",
        "ZMPOP 3 Z Z Z MIN COUNT 3",
        "ZRANGESTORE Z Z 1 -2",
        "ZRANGESTORE K Z 0 N BYSCORE REV LIMIT 0 3",
        "ZUNIONSTORE Z 2 Z Z WEIGHTS 2 1",
        "ZINTERSTORE Z 2 Z M AGGREGATE MAX",
        "ZDIFFSTORE K 2 Z Z",
        "ZUNION 3 Z Z M WITHSCORES",
        "ZRANGE Z 0 -1 WITHSCORES",
        "ZRANK Z F",
        "ZCOUNT Z 0 N",
        "GEOADD Z 13.4 38.1 F 15.1 37.5 F",
        "GEORADIUS Z 15 37 200 km STORE Z",
        "GEORADIUSBYMEMBER Z F 100 km STOREDIST K",
        "GEOSEARCHSTORE K Z FROMLONLAT 15 37 BYBOX 300 300 km ASC COUNT 3",
        "GEOSEARCH Z FROMMEMBER F BYRADIUS 100 km ASC WITHDIST",
        "SORT L ALPHA",
        "SORT M BY k* GET # GET hash*->F GET list* STORE L",
        "SORT Z BY nothing STORE L",
        "SORT_RO M GET k* ALPHA DESC LIMIT 0 4",
        "RESTORE K 0 PAYLOAD REPLACE",
        "RESTORE L T PAYLOAD",
        "RESTORE-ASKING K T PAYLOAD REPLACE",
        "DUMP K",
        "XADD X * F N",
        "XADD X * F N F V",
        "XADD X MAXLEN 5 * F N",
        "XADD X NOMKSTREAM MINID ~ 5 * F V",
        "XADD X DELREF MAXLEN ~ 3 * F N",
        "XADD X MINID = 1700000000010 ACKED * F N",
        "XDEL X 1700000000000-0 1700000000000-1",
        "XDELEX X IDS 2 1700000000000-0 1700000000000-1",
        "XDELEX X DELREF IDS 3 1700000000000-1 ENTRY ENTRY",
        "XDELEX X IDS 2 ENTRY ENTRY ACKED",
        "XACKDEL X g IDS 2 1700000000000-0 ENTRY",
        "XACKDEL X h DELREF IDS 2 ENTRY ENTRY",
        "XACKDEL X g ACKED IDS 3 ENTRY ENTRY ENTRY",
        "XTRIM X MAXLEN F",
        "XTRIM X MAXLEN F ACKED",
        "XTRIM X ACKED MAXLEN 0",
        "XTRIM X MINID ~ ENTRY LIMIT 3 DELREF",
        "XSETID X 1800000000000-0",
        "XGROUP CREATE X g 0 MKSTREAM",
        "XGROUP CREATE X h $",
        "XGROUP SETID X g 0",
        "XGROUP DESTROY X h",
        "XGROUP CREATECONSUMER X g c",
        "XGROUP DELCONSUMER X g d",
        "XREADGROUP GROUP g c COUNT 2 STREAMS X >",
        "XREADGROUP GROUP g d COUNT 3 NOACK STREAMS X X > >",
        "XREADGROUP GROUP g c BLOCK 10 STREAMS X >",
        "XREADGROUP GROUP h c STREAMS X >",
        "XREADGROUP GROUP g c COUNT 2 STREAMS X 0",
        "XREADGROUP GROUP g e CLAIM 0 COUNT 2 STREAMS X >",
        "XREADGROUP GROUP g c CLAIM 20 NOACK STREAMS X X > >",
        "XREADGROUP GROUP g c COUNT 2 CLAIM 0 STREAMS X X > >",
        "XREADGROUP GROUP h c BLOCK 10 CLAIM 5 STREAMS X >",
        "XACK X g 1700000000000-0 1700000000000-1",
        "XCLAIM X g d 0 1700000000000-0 1700000000000-1 FORCE",
        "XAUTOCLAIM X g d 0 0 COUNT 2",
        "XREAD COUNT 2 STREAMS X X 0 0",
        "XREAD BLOCK 10 STREAMS X X $ $",
        "XRANGE X - +",
        "XREVRANGE X + - COUNT 2",
        "XLEN X",
        "RENAME X X",
        "COPY X X REPLACE",
        "MOVE X 1",
        "XPENDING X g",
        "XINFO STREAM X FULL",
        "PFADD P F N",
        "PFMERGE P P P",
        "PFCOUNT P P",
        "PFCOUNT P",
        "PFDEBUG TODENSE P",
        "HSET H F V",
        "HSET H F N F V",
        "HMSET H F N",
        "HSETNX H F V",
        "HDEL H F F",
        "HINCRBY H F N",
        "HINCRBYFLOAT H F 1.25",
        "HEXPIRE H S FIELDS 1 F",
        "HPEXPIRE H T FIELDS 2 F F",
        "HEXPIREAT H 1700000100 FIELDS 1 F",
        "HPEXPIREAT H 1 FIELDS 1 F",
        "HPERSIST H FIELDS 1 F",
        "HGETEX H EX S FIELDS 1 F",
        "HGETDEL H FIELDS 1 F",
        "HSETEX H PX T FIELDS 1 F V",
        "HPTTL H FIELDS 1 F",
        "HGET H F",
        "HLEN H",
        "BLPOP L L 0.01",
        "BRPOP L 0.01",
        "BLMOVE L L LEFT RIGHT 0.01",
        "BRPOPLPUSH L L 0.01",
        "BLMPOP 0.01 2 L L LEFT",
        "BZPOPMIN Z Z 0.01",
        "BZPOPMAX Z 0.01",
        "BZMPOP 0.01 2 Z Z MAX COUNT 2",
        "LRANGE L 0 -1",
        "LLEN L",
        "LPOS L N COUNT 0",
        "FLUSHDB",
        "SWAPDB 0 1",
        "FLUSHALL ASYNC",
        "GET K",
        "MGET K K K K",
        "EXISTS K K K",
        "TTL K",
        "PTTL K",
        "STRLEN K",
        "TYPE K",
        "DBSIZE",
        "GETRANGE K 0 5",
        "TOUCH K K",
        "OBJECT ENCODING K",
        "LCS K K",
        "BITCOUNT K",
        "EXPIRETIME K",
        "SELECT 0",
        "SELECT 1",
        "SUBSTR K 0 3",
        "GETBIT K O",
        "BITPOS K 1",
    ];
    let mut template = templates[rng.usize(..templates.len())];
    if template.starts_with("FLUSH") && rng.u8(..) > 40 {
        template = "GET K";
    }
    template
        .split(' ')
        .map(|part| match part {
            "K" => key(rng),
            // Keys that mostly hold the type in question.
            "L" => format!("list{}", rng.u8(..6)),
            "PAYLOAD" => payload(rng),
            "X" => format!("stream{}", rng.u8(..4)),
            "ENTRY" => format!("17000000000{:02}-{}", rng.u8(..20), rng.u8(..2)),
            "P" => format!("hll{}", rng.u8(..4)),
            "Z" => format!("zset{}", rng.u8(..5)),
            "[F" => format!("[{}", rng.u8(..12)),
            "M" => format!("set{}", rng.u8(..6)),
            // Fields and members, few enough to be met again.
            "F" => rng.u8(..12).to_string(),
            "H" => format!("hash{}", rng.u8(..4)),
            "V" => word(rng),
            "N" => number(rng),
            "S" => rng.u32(1..200).to_string(),
            "T" => rng.u32(1..200_000).to_string(),
            "O" => rng.u32(..60).to_string(),
            "_" => String::new(),
            literal => literal.to_owned(),
        })
        .collect()
}

/// Whether a line of a reply is an error: numbers begin with a minus, too.
pub fn is_error(line: &str) -> bool {
    line.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()))
}

/// A random transaction, whole databases among its keys.
pub fn random_transaction(rng: &mut fastrand::Rng) -> Vec<u8> {
    let wholes = ["FLUSHDB", "FLUSHALL", "SWAPDB 0 1", "SWAPDB 1 2"];
    let mut bytes = encode(&["MULTI"]);
    for _ in 0..rng.usize(2..8) {
        let words = match rng.u8(..8) {
            0 => {
                let whole = wholes[rng.usize(..wholes.len())];
                whole.split(' ').map(str::to_owned).collect()
            }
            _ => random_request(rng),
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        bytes.extend(encode(&words));
    }
    bytes.extend(encode(&["EXEC"]));
    bytes
}

/// A value as DUMP gives it that happens to be text, as all words of a request are here.
fn payload(rng: &mut fastrand::Rng) -> String {
    loop {
        let count = rng.usize(1..5);
        let members: BTreeSet<String> = (0..count)
            .map(|_| format!("m{}", rng.u32(..100_000)))
            .collect();
        let object = Object::Set(members.into_iter().map(Into::into).collect());
        let payload = dump::put(&object, &mut StringWriter::new(false));
        if let Ok(text) = String::from_utf8(payload) {
            return text;
        }
    }
}

/// Names of the commands that [`random_request`] generates.
pub fn generated_names() -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(0);
    // Of a container's subcommand, its own name.
    let name = |words: Vec<String>| {
        let at = usize::from(words[0] == "XGROUP");
        words[at].to_ascii_lowercase()
    };
    let mut names: Vec<String> = (0..50_000)
        .map(|_| name(random_request(&mut rng)))
        .collect();
    names.sort();
    names.dedup();
    names
}
