//! A disk under the cores' journals: what was written, what was synced, and what a kill or a power
//! cut leaves of it. What a turn says is held back until the disk has what it did, as in the server.

use std::collections::{BTreeMap, VecDeque};

use pinion::journal::recovery::{Census, LeftOut, Order, Units};
use pinion::journal::{Fault, Item, Reader, Tail};
use pinion::server::persist::replay::keys_of;
use pinion::session::Core;
use pinion::shard::message::{Message, SessionKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    /// `everysec` and `no`: they differ in when something is synced, which happens at random here.
    Written,
}

/// What ends the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Kill,
    PowerCut,
}

/// One segment: lengths are bytes from its beginning.
#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    written: usize,
    synced: usize,
}

/// What a core has sent in a turn.
struct Sent {
    gate: usize,
    mail: Vec<(usize, Message)>,
}

/// One core's way to its segments. Positions count bytes over all of them.
#[derive(Default)]
struct Arm {
    /// The generation it writes to, and where that file begins.
    generation: usize,
    begin: usize,
    appended: usize,
    /// In order, whatever they wait for.
    mail: VecDeque<Sent>,
    /// Of each client, what the last waits for; other clients do not wait for it.
    replies: BTreeMap<SessionKey, (usize, Vec<u8>)>,
}

pub struct Disk {
    policy: Policy,
    arms: Vec<Arm>,
    /// By generation and shard.
    generations: Vec<Vec<File>>,
    /// What the base holds: the units that led to it.
    base: Vec<Item>,
    /// Generations that bases have replaced.
    pub rewrites: usize,
}

impl Disk {
    pub fn new(shards: usize, policy: Policy) -> Disk {
        Disk {
            policy,
            arms: (0..shards).map(|_| Arm::default()).collect(),
            generations: vec![vec![File::default(); shards]],
            base: Vec::new(),
            rewrites: 0,
        }
    }

    /// The disk of a server that starts on what the one before has left, all of it synced: it goes
    /// on with the last segments, unless something was left out.
    pub fn resume(shards: usize, policy: Policy, found: &Recovered) -> Disk {
        let file = |bytes: &Vec<u8>| File {
            bytes: bytes.clone(),
            written: bytes.len(),
            synced: bytes.len(),
        };
        let files = |files: &Vec<Vec<u8>>| files.iter().map(file).collect();
        let mut disk = Disk {
            generations: found.generations.iter().map(files).collect(),
            base: found.base.clone(),
            ..Disk::new(shards, policy)
        };
        if !found.goes_on() {
            disk.begin_rewrite();
        }
        let last = disk.generations.len() - 1;
        for (at, arm) in disk.arms.iter_mut().enumerate() {
            arm.generation = last;
            arm.appended = disk.generations[last][at].bytes.len();
        }
        disk
    }

    /// The end of a core's turn.
    pub fn turn(
        &mut self,
        at: usize,
        core: &mut Core,
        mail: Vec<(usize, Message)>,
        replies: Vec<(SessionKey, Vec<u8>)>,
        is_slow: bool,
    ) {
        let shard = &mut core.shard;
        let journal = shard.journal.as_mut().unwrap();
        journal.collect(&mut shard.keyspace.effects);
        if let Some(rest) = journal.take_rest() {
            self.change_file(at, &rest);
            shard.keyspace.end_cut();
        }
        let mut bytes = Vec::new();
        journal.take(&mut bytes);
        let arm = &mut self.arms[at];
        arm.appended += bytes.len();
        let file = &mut self.generations[arm.generation][at];
        file.bytes.extend_from_slice(&bytes);
        if !is_slow && self.policy == Policy::Written {
            file.written = file.bytes.len();
        }
        let released = self.released(at);
        let grew = !bytes.is_empty();
        let arm = &mut self.arms[at];
        let waits = match self.policy {
            Policy::Always => arm.appended > released,
            Policy::Written => grew && arm.appended > released,
        };
        let gate = if waits { arm.appended } else { 0 };
        arm.mail.push_back(Sent { gate, mail });
        for (session, reply) in replies {
            let held = arm.replies.entry(session).or_default();
            held.0 = held.0.max(gate);
            held.1.extend(reply);
        }
    }

    /// A cut: the rest is written, and under `always` synced, before the server goes on.
    fn change_file(&mut self, at: usize, rest: &[u8]) {
        let arm = &mut self.arms[at];
        let file = &mut self.generations[arm.generation][at];
        file.bytes.extend_from_slice(rest);
        file.written = file.bytes.len();
        if self.policy == Policy::Always {
            file.synced = file.written;
        }
        arm.appended += rest.len();
        arm.begin = arm.appended;
        arm.generation += 1;
    }

    fn released(&self, at: usize) -> usize {
        let arm = &self.arms[at];
        let file = &self.generations[arm.generation][at];
        arm.begin
            + match self.policy {
                Policy::Always => file.synced,
                Policy::Written => file.written,
            }
    }

    /// What a core has said and may be heard now: mail, and replies.
    pub fn heard(&mut self, at: usize) -> (Vec<(usize, Message)>, Heard) {
        let released = self.released(at);
        let arm = &mut self.arms[at];
        let mut mail = Vec::new();
        while arm.mail.front().is_some_and(|sent| sent.gate <= released) {
            mail.extend(arm.mail.pop_front().into_iter().flat_map(|sent| sent.mail));
        }
        let all = std::mem::take(&mut arm.replies);
        let (out, held) = all
            .into_iter()
            .partition(|(_, (gate, _))| *gate <= released);
        arm.replies = held;
        let out: BTreeMap<SessionKey, (usize, Vec<u8>)> = out;
        let replies = out
            .into_iter()
            .map(|(session, (_, reply))| (session, reply));
        (mail, replies.collect())
    }

    pub fn write(&mut self, at: usize) {
        let file = &mut self.generations[self.arms[at].generation][at];
        file.written = file.bytes.len();
    }

    pub fn sync(&mut self, at: usize) {
        let file = &mut self.generations[self.arms[at].generation][at];
        file.synced = file.written;
    }

    /// Syncs a core's old segments: the kernel does so when it likes.
    pub fn sync_old(&mut self, at: usize) {
        let generation = self.arms[at].generation;
        for files in &mut self.generations[..generation] {
            files[at].synced = files[at].written;
        }
    }

    /// A rewrite begins: files for all, and the manifest names them.
    pub fn begin_rewrite(&mut self) {
        let shards = self.arms.len();
        self.generations.push(vec![File::default(); shards]);
    }

    pub fn is_rewriting(&self) -> bool {
        let last = self.generations.len() - 1;
        self.arms.iter().any(|arm| arm.generation < last)
    }

    /// The base is durable: older generations are not needed any more.
    pub fn end_rewrite(&mut self, table: &pinion::command::Table) {
        let last = self.generations.len() - 1;
        if last == 0 || self.is_rewriting() {
            return;
        }
        let kept = self.generations.split_off(last);
        let old: Vec<Vec<Vec<u8>>> = std::mem::replace(&mut self.generations, kept)
            .into_iter()
            .map(|files| files.into_iter().map(|file| file.bytes).collect())
            .collect();
        self.base = recover(std::mem::take(&mut self.base), old, table).items;
        self.arms.iter_mut().for_each(|arm| arm.generation = 0);
        self.rewrites += 1;
    }

    /// What the next server finds: the base, and the segments.
    pub fn end(mut self, end: End, rng: &mut fastrand::Rng) -> (Vec<Item>, Vec<Vec<Vec<u8>>>) {
        for file in self.generations.iter_mut().flatten() {
            let whole = file.bytes.len();
            let kept = match end {
                End::Kill => file.written,
                End::PowerCut => file.synced,
            };
            let kept = match rng.u8(..3) {
                0 => kept,
                1 => whole,
                _ => rng.usize(kept..=whole),
            };
            file.bytes.truncate(kept);
            if end == End::PowerCut && kept < whole {
                let behind = rng.usize(..whole - kept);
                match rng.u8(..4) {
                    0 => file.bytes.resize(kept + behind, 0),
                    1 => file.bytes.extend((0..behind).map(|_| rng.u8(..))),
                    _ => {}
                }
            }
        }
        let take = |files: Vec<File>| files.into_iter().map(|file| file.bytes).collect();
        (self.base, self.generations.into_iter().map(take).collect())
    }
}

/// A segment that is read from its beginning. A torn end is its end.
struct Segment<'a> {
    reader: Reader,
    bytes: &'a [u8],
    torn: Option<u64>,
}

impl Segment<'_> {
    fn new(bytes: &[u8]) -> Segment<'_> {
        let mut reader = Reader::new(true);
        reader.feed(bytes);
        reader.end_input();
        Segment {
            reader,
            bytes,
            torn: None,
        }
    }
}

impl Units for Segment<'_> {
    type Error = String;

    fn next_unit(&mut self) -> Result<Option<Item>, String> {
        match self.reader.next_item() {
            Ok(item) => Ok(item),
            Err(Fault::Torn { valid_to }) => {
                self.torn = Some(valid_to);
                Ok(None)
            }
            Err(fault) => Err(format!("{fault:?} of {} bytes", self.bytes.len())),
        }
    }
}

/// What a server finds when it starts.
pub struct Recovered {
    /// What it runs, and how many units it leaves out.
    pub items: Vec<Item>,
    pub dropped: u64,
    base: Vec<Item>,
    /// The files without their torn ends, and how the last of each shard ends.
    generations: Vec<Vec<Vec<u8>>>,
    pub tails: Vec<Tail>,
    pub last_transaction: u64,
    is_whole: bool,
}

impl Recovered {
    /// Whether the next server goes on with the last segments.
    pub fn goes_on(&self) -> bool {
        self.is_whole
    }
}

pub fn recover(
    base: Vec<Item>,
    mut generations: Vec<Vec<Vec<u8>>>,
    table: &pinion::command::Table,
) -> Recovered {
    let mut census = Census::new(true);
    let mut tails = Vec::new();
    // The base is generation 0.
    for (generation, files) in generations.iter_mut().enumerate() {
        tails.clear();
        for (shard, bytes) in files.iter_mut().enumerate() {
            let mut segment = Segment::new(bytes);
            while let Some(item) = segment.next_unit().unwrap() {
                census.note(generation + 1, shard as u32, &item);
            }
            let at = segment.torn.unwrap_or(segment.reader.position());
            let seq = segment.reader.seq();
            tails.push(census.tail(generation + 1, shard as u32, seq, at));
            bytes.truncate(at as usize);
        }
    }
    let shards = (0..generations[0].len() as u32).collect::<Vec<_>>();
    let mut shape = vec![Vec::new()];
    shape.extend(generations.iter().map(|_| shards.clone()));
    let open = |generation: usize, index: usize| -> Result<Segment, String> {
        Ok(Segment::new(&generations[generation - 1][index]))
    };
    let keys = |commands: &[u8], keys: &mut Vec<_>| keys_of(table, commands, keys);
    let left_out: LeftOut = census.left_out(&shape, open, keys).unwrap();
    let (mut items, mut dropped) = (base.clone(), 0);
    for (generation, files) in generations.iter().enumerate() {
        let segments = files.iter().enumerate();
        let segments = segments.map(|(shard, bytes)| (shard as u32, Segment::new(bytes)));
        let mut order = Order::new(generation + 1, segments);
        while let Some(item) = order.next(&left_out).unwrap() {
            items.push(item);
        }
        dropped += order.dropped;
    }
    let last_transaction = census.last_transaction(generations.len());
    Recovered {
        items,
        dropped,
        base,
        generations,
        tails,
        last_transaction,
        is_whole: census.is_whole(),
    }
}

/// Replies that were heard.
pub type Heard = BTreeMap<SessionKey, Vec<u8>>;
