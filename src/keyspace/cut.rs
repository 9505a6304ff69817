//! A cut: everything a shard held at one instant, streamed in slices while commands go on.
//!
//! Every entry carries a mark of one bit. Between two cuts all entries have the same; a cut turns
//! the mark that entries are written with, so what was there before has the old one. A cursor goes
//! through the dictionaries, streams what has the old mark and gives it the new one. Whoever is
//! about to change or delete an entry of the old mark streams it first. So every entry is streamed
//! once, as it was at the cut, whatever happens to it or to the table it stands in; and there is
//! no second copy of anything.
//!
//! A large value is streamed a piece at a time, and has the old mark until all of it is. A change
//! meanwhile streams what is left of it first; shards let such a change wait instead, if they can.

use smallvec::SmallVec;

use super::arena::Arena;
use super::entry::{self, Encoding};
use super::garbage::Flushed;
use super::{Db, Keyspace, Object};
use crate::value::dict::{Dict, Handle};
use crate::value::slab::Slab;
use crate::value::{Kind, Value};

/// One entry as it was at the cut.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    pub db: u32,
    pub key: &'a [u8],
    pub value: KeptValue<'a>,
    /// Unix milliseconds.
    pub expire_at: Option<i64>,
    /// Seconds since the last use, under an LRU policy.
    pub idle_s: Option<u32>,
    /// The logarithmic use counter, under an LFU policy.
    pub frequency: Option<u8>,
}

/// A value where it stands.
#[derive(Clone, Copy, Debug)]
pub enum KeptValue<'a> {
    Int(i64),
    Text(&'a [u8]),
    Object(&'a Value),
}

/// A collection of more memory than this is streamed in pieces.
const LARGE_BYTES: usize = 64 * 1024;
/// So is a longer string: compressing it takes a millisecond.
const LARGE_TEXT_BYTES: usize = 256 * 1024;

/// A value of so much memory takes milliseconds to stream.
const WORTH_WAITING_BYTES: usize = 1024 * 1024;

impl KeptValue<'_> {
    /// Bytes of its memory, about.
    pub fn memory_bytes(&self) -> usize {
        match self {
            KeptValue::Int(_) => size_of::<i64>(),
            KeptValue::Text(text) => text.len(),
            KeptValue::Object(value) => value.memory_bytes(),
        }
    }

    /// Whether streaming it in one go would keep others waiting.
    pub fn is_large(&self) -> bool {
        match self {
            KeptValue::Object(value) => {
                let is_text = value.kind() == Kind::String;
                let bytes = if is_text {
                    LARGE_TEXT_BYTES
                } else {
                    LARGE_BYTES
                };
                value.memory_bytes() > bytes
            }
            KeptValue::Int(_) | KeptValue::Text(_) => false,
        }
    }
}

/// What entries of one database became.
#[derive(Debug, Default)]
pub struct Chunk {
    pub db: u32,
    pub bytes: Vec<u8>,
    pub keys: u64,
    /// Some of it needs a format that knows fields which expire.
    pub expiring_fields: bool,
    /// Its last entry goes on in the shard's next chunk.
    pub goes_on: bool,
}

/// Encodes the entries of a cut.
pub trait Keeper: Send {
    fn keep(&mut self, kept: Kept);
    /// Keeps a piece of a large entry, from that part of its value on. Returns with which part to go on,
    /// `None` after the last. Of no other entry are there pieces until then.
    fn keep_piece(&mut self, kept: Kept, from: usize) -> Option<usize>;
    /// Bytes that wait to be taken.
    fn waiting_bytes(&self) -> usize;
    /// The oldest chunk that is full; any, with `all`.
    fn take(&mut self, all: bool) -> Option<Chunk>;
}

/// Keys and keys with an expiry of each database at a cut.
pub type Sizes = Vec<(usize, usize)>;

/// A database that was flushed before the cursor had gone through it.
struct Retired {
    origin: u32,
    dict: Dict,
    lazy: bool,
}

/// A cut in progress.
pub(super) struct Cut {
    keeper: Box<dyn Keeper>,
    now_ms: i64,
    /// Tells which access clock to keep.
    clocks: Clocks,
    keeps_due: bool,
    retired: Vec<Retired>,
    /// Databases that clients saw at the cut: all that is streamed. Of others, on their way here, only
    /// the marks are turned.
    seen: u32,
    /// All that there were at the cut.
    dbs: u32,
    /// The database, by its number at the cut, that the cursor is in.
    at: u32,
    cursor: u64,
    /// The bucket before the cursor was the last of that database.
    is_through: bool,
    /// Entries that are streamed in pieces before the cursor goes on, with their databases; the last
    /// one first.
    large: Vec<(Handle, u32)>,
    /// So many parts of that one's value are streamed.
    parts: usize,
    /// The cursor has been everywhere.
    done: bool,
    sizes: Sizes,
    /// Changes that the cut holds.
    dirty: u64,
}

/// Which access clocks entries are kept with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    None,
    Idle,
    Frequency,
}

impl Keyspace {
    /// Begins a cut. One that is in progress is given up.
    ///
    /// What is due at `now_ms` is part of it only if it `keeps_due`: replicas that have such a key may go
    /// on from here, and have to hear of its end from whoever loads this.
    pub fn begin_cut(
        &mut self,
        keeper: Box<dyn Keeper>,
        clocks: Clocks,
        keeps_due: bool,
        now_ms: i64,
    ) {
        self.end_cut();
        self.mark ^= entry::MARK;
        let size = |db: &Db| (db.dict.len(), db.expires);
        self.cut = Some(Box::new(Cut {
            keeper,
            now_ms,
            clocks,
            keeps_due,
            retired: Vec::new(),
            seen: self.databases,
            dbs: self.dbs.len() as u32,
            at: 0,
            cursor: 0,
            is_through: false,
            large: Vec::new(),
            parts: 0,
            done: false,
            sizes: self.seen().iter().map(size).collect(),
            dirty: self.effects.dirty,
        }));
        for (number, db) in self.dbs.iter_mut().enumerate() {
            db.origin = Some(number as u32);
        }
    }

    /// Whether a cut is in progress.
    pub fn is_cutting(&self) -> bool {
        self.cut.is_some()
    }

    /// Whether a cut has begun of which nothing has been streamed yet.
    pub fn is_cut_new(&self) -> bool {
        let is_new = |cut: &Cut| cut.at == 0 && cut.cursor == 0 && !cut.is_through;
        self.cut.as_deref().is_some_and(is_new)
    }

    /// The sizes of the databases at the cut in progress.
    pub fn cut_sizes(&self) -> Option<&Sizes> {
        self.cut.as_ref().map(|cut| &cut.sizes)
    }

    /// Changes since the last save that the cut in progress holds.
    pub fn cut_dirty(&self) -> u64 {
        self.cut.as_ref().map_or(0, |cut| cut.dirty)
    }

    /// Nobody wants the cut in progress any more. Slices go on until all entries have the same mark.
    pub fn give_up_cut(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.keeper = Box::new(Nobody);
        }
    }

    /// Ends the cut in progress at once, if there is one: all entries have the same mark afterwards.
    pub fn end_cut(&mut self) {
        if self.cut.is_none() {
            return;
        }
        self.give_up_cut();
        while !self.cut_slice(usize::MAX) {}
        self.cut = None;
        for db in &mut self.dbs {
            db.origin = None;
        }
    }

    /// Streams entries until `max_bytes` wait to be taken, and buckets with next to nothing in them
    /// only as far as a fraction of a millisecond goes. Returns whether every entry is streamed.
    pub fn cut_slice(&mut self, max_bytes: usize) -> bool {
        const BUCKETS: usize = 64;
        for _ in 0..BUCKETS {
            let Some(cut) = &self.cut else { return true };
            if cut.done || cut.keeper.waiting_bytes() >= max_bytes {
                return cut.done;
            }
            let is_piece = !cut.large.is_empty();
            self.cut_step();
            if is_piece {
                break;
            }
        }
        false
    }

    /// The key of a large value of which a part has been streamed, and the rest has not.
    pub fn key_under_way(&self) -> Option<&[u8]> {
        let cut = self.cut.as_deref().filter(|cut| cut.parts > 0)?;
        let &(handle, _) = cut.large.last()?;
        Some(super::key_of(&self.arena, &self.objects, handle))
    }

    /// Streams another piece of a large value that is to be streamed in pieces, however much waits to be
    /// taken.
    pub fn cut_on(&mut self) {
        if self.cut.as_deref().is_some_and(|cut| !cut.large.is_empty()) {
            self.cut_step();
        }
    }

    /// Has a large value be streamed next, in pieces, if it is part of the cut and yet to be streamed.
    /// Returns whether it will be.
    pub fn stream_next(&mut self, db: u32, key: &[u8]) -> bool {
        if self.cut.is_none() || self.object_bytes.all < WORTH_WAITING_BYTES {
            return false;
        }
        let origin = self.dbs[db as usize].origin;
        let (Some(handle), Some(origin)) = (self.entry_of(db, key), origin) else {
            return false;
        };
        let slot = self.arena.get(handle);
        let is_streamed = entry::mark(slot) == self.mark;
        let bytes = value_of(slot, &self.objects).memory_bytes();
        let Some(cut) = self.cut.as_mut().filter(|cut| origin < cut.seen) else {
            return false;
        };
        if is_streamed || bytes < WORTH_WAITING_BYTES {
            return false;
        }
        if !cut.large.iter().any(|&(large, _)| large == handle) {
            // Pieces of one value are not parted.
            let next = cut.large.len() - usize::from(cut.parts > 0);
            cut.large.insert(next, (handle, origin));
        }
        true
    }

    /// Whether the value of a key is being streamed in pieces, or will be.
    pub fn is_put_off(&self, db: u32, key: &[u8]) -> bool {
        let (Some(cut), Some(handle)) = (&self.cut, self.entry_of(db, key)) else {
            return false;
        };
        cut.large.iter().any(|&(large, _)| large == handle)
    }

    fn entry_of(&self, db: u32, key: &[u8]) -> Option<Handle> {
        let is_it = |handle| super::key_of(&self.arena, &self.objects, handle) == key;
        let dict = &self.dbs[db as usize].dict;
        dict.find(self.hash(key), is_it).map(|(_, handle)| handle)
    }

    /// Takes what was streamed; full chunks only, until the last entry is streamed.
    pub fn take_chunk(&mut self) -> Option<Chunk> {
        let cut = self.cut.as_mut()?;
        let all = cut.done;
        cut.keeper.take(all)
    }

    /// Whether the cut is over: every entry streamed, every chunk taken.
    pub fn is_cut_taken(&self) -> bool {
        let is_taken = |cut: &Cut| cut.done && cut.keeper.waiting_bytes() == 0;
        self.cut.as_deref().is_some_and(is_taken)
    }

    /// Streams a little more.
    fn cut_step(&mut self) {
        match &self.cut {
            None => {}
            Some(cut) if !cut.large.is_empty() => self.cut_piece(),
            Some(cut) if cut.is_through => self.leave_db(),
            Some(_) => self.cut_bucket(),
        }
    }

    /// Streams the bucket at the cursor.
    fn cut_bucket(&mut self) {
        let Some(cut) = &mut self.cut else { return };
        let dict = match cut.retired.iter().find(|gone| gone.origin == cut.at) {
            Some(gone) => Some(&gone.dict),
            None => {
                let here = |db: &&Db| db.origin == Some(cut.at);
                self.dbs.iter().find(here).map(|db| &db.dict)
            }
        };
        let mut handles: SmallVec<[Handle; 16]> = SmallVec::new();
        let next = match dict {
            Some(dict) if !dict.is_empty() => dict.scan(cut.cursor, |handle| handles.push(handle)),
            _ => 0,
        };
        let origin = cut.at;
        cut.cursor = next;
        cut.is_through = next == 0;
        // All of them are waited for together; one by one that was most of a snapshot's time.
        for &handle in &handles {
            self.arena.fetch(handle);
        }
        for handle in handles {
            if !self.put_off(handle, origin) {
                self.keep(handle, origin);
            }
        }
    }

    /// Leaves a large value that has not been streamed to be streamed in pieces, after its bucket.
    fn put_off(&mut self, handle: Handle, db: u32) -> bool {
        let Some(cut) = &mut self.cut else {
            return false;
        };
        let slot = self.arena.get(handle);
        let is_large = db < cut.seen
            && entry::mark(slot) != self.mark
            && value_of(slot, &self.objects).is_large();
        if is_large {
            cut.large.push((handle, db));
        }
        is_large
    }

    /// Streams a piece of a large value.
    fn cut_piece(&mut self) {
        let Some(cut) = &mut self.cut else { return };
        let Some(&(handle, db)) = cut.large.last() else {
            return;
        };
        let kept = cut.kept(handle, db, &self.arena, &self.objects);
        let next = kept.and_then(|kept| cut.keeper.keep_piece(kept, cut.parts));
        cut.parts = next.unwrap_or(0);
        if next.is_none() {
            cut.large.pop();
            entry::set_mark(self.arena.get_mut(handle), self.mark);
        }
    }

    /// Goes on with the next database.
    fn leave_db(&mut self) {
        let Some(cut) = &mut self.cut else { return };
        let retired = cut.retired.iter().position(|gone| gone.origin == cut.at);
        cut.is_through = false;
        cut.at += 1;
        cut.done = cut.at == cut.dbs;
        if let Some(i) = retired {
            self.discard_retired(i);
        }
    }

    fn discard_retired(&mut self, i: usize) {
        let Some(cut) = &mut self.cut else { return };
        let Retired { dict, lazy, .. } = cut.retired.remove(i);
        self.garbage.entries.push(Flushed { dict, lazy });
    }

    /// Keeps the content of a database that is being flushed until the cursor has been there.
    /// Returns the dictionary if nobody needs it.
    pub(super) fn retire(&mut self, db: Db, lazy: bool) -> Option<Dict> {
        match (&mut self.cut, db.origin) {
            (Some(cut), Some(origin)) if !cut.done && origin >= cut.at => {
                let dict = db.dict;
                cut.retired.push(Retired { origin, dict, lazy });
                None
            }
            _ => Some(db.dict),
        }
    }

    /// Whether flushed content is still to be streamed from the arena.
    pub(super) fn has_retired(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| !cut.retired.is_empty())
    }

    /// To be called before an entry of database `db` changes or goes.
    #[inline]
    pub(super) fn preserve(&mut self, db: u32, handle: Handle) {
        if self.cut.is_some()
            && let Some(origin) = self.dbs[db as usize].origin
        {
            self.keep(handle, origin);
        }
    }

    /// Streams an entry, or what is left of it, unless it has been.
    fn keep(&mut self, handle: Handle, db: u32) {
        let slot = self.arena.get_mut(handle);
        if entry::mark(slot) == self.mark {
            return;
        }
        entry::set_mark(slot, self.mark);
        let Some(cut) = self.cut.as_mut().filter(|cut| db < cut.seen) else {
            return;
        };
        let mut next = cut.no_more_pieces(handle);
        let Some(kept) = cut.kept(handle, db, &self.arena, &self.objects) else {
            return;
        };
        if next.is_none() {
            return cut.keeper.keep(kept);
        }
        while let Some(parts) = next {
            next = cut.keeper.keep_piece(kept, parts);
        }
    }
}

impl Cut {
    /// An entry as it is, if it is part of the cut.
    fn kept<'a>(
        &self,
        handle: Handle,
        db: u32,
        arena: &'a Arena,
        objects: &'a Slab<Object>,
    ) -> Option<Kept<'a>> {
        let slot = arena.get(handle);
        let layout = entry::layout(slot);
        let expire_at = layout.has_expiry.then(|| layout.expiry(slot).0);
        if !self.keeps_due && expire_at.is_some_and(|at_ms| at_ms <= self.now_ms) {
            return None;
        }
        let clock = entry::clock(slot);
        let now_s = (self.now_ms / 1000) as u32;
        Some(Kept {
            db,
            key: super::key_of(arena, objects, handle),
            value: value_of(slot, objects),
            expire_at,
            idle_s: (self.clocks == Clocks::Idle).then_some(now_s.wrapping_sub(clock) & 0xff_ffff),
            frequency: (self.clocks == Clocks::Frequency).then_some(clock as u8),
        })
    }

    /// Whatever is left of an entry will be streamed at once. Returns the parts that have been, if it was
    /// being streamed in pieces.
    fn no_more_pieces(&mut self, handle: Handle) -> Option<usize> {
        let at = self.large.iter().position(|&(large, _)| large == handle)?;
        self.large.remove(at);
        let is_under_way = at == self.large.len() && self.parts > 0;
        is_under_way.then(|| std::mem::take(&mut self.parts))
    }
}

fn value_of<'a>(slot: &'a [u8], objects: &'a Slab<Object>) -> KeptValue<'a> {
    let layout = entry::layout(slot);
    match layout.encoding {
        Encoding::Int => KeptValue::Int(layout.int(slot)),
        Encoding::Text => KeptValue::Text(&slot[layout.text(slot)]),
        Encoding::Object => KeptValue::Object(&objects.get(layout.object(slot)).value),
    }
}

/// Keeps nothing: an abandoned cut only has its marks turned.
struct Nobody;

impl Keeper for Nobody {
    fn keep(&mut self, _: Kept) {}

    fn keep_piece(&mut self, _: Kept, _: usize) -> Option<usize> {
        None
    }

    fn waiting_bytes(&self) -> usize {
        0
    }

    fn take(&mut self, _: bool) -> Option<Chunk> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::super::{Event, NewStr, Ttl, WrongType};
    use super::*;

    type Content = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>)>;

    /// Keeps entries as they are told, once each.
    struct Notes(Arc<Mutex<Content>>);

    fn text(value: KeptValue) -> Vec<u8> {
        match value {
            KeptValue::Int(n) => n.to_string().into_bytes(),
            KeptValue::Text(text) => text.to_vec(),
            KeptValue::Object(Value::Shared(bytes)) => bytes.to_vec(),
            KeptValue::Object(Value::Edited(bytes)) => bytes.to_vec(),
            KeptValue::Object(other) => panic!("only strings here: {other:?}"),
        }
    }

    impl Keeper for Notes {
        fn keep(&mut self, kept: Kept) {
            let entry = (
                (kept.db, kept.key.to_vec()),
                (text(kept.value), kept.expire_at),
            );
            let before = self.0.lock().unwrap().insert(entry.0, entry.1);
            assert_eq!(before, None, "every entry is streamed once");
        }

        fn keep_piece(&mut self, kept: Kept, _: usize) -> Option<usize> {
            panic!("only small entries here: {kept:?}");
        }

        fn waiting_bytes(&self) -> usize {
            0
        }

        fn take(&mut self, _: bool) -> Option<Chunk> {
            None
        }
    }

    fn content(ks: &mut Keyspace, now_ms: i64) -> Content {
        let mut content = Content::new();
        for db in 0..ks.databases() {
            let mut keys = Vec::new();
            let mut tx = ks.tx(db, now_ms, false);
            tx.for_each_key(|key, _| keys.push(key.to_vec()));
            for key in keys {
                let deadline = tx.expire_at(&key).flatten();
                let value = tx.peek_string(&key).unwrap().unwrap().to_bytes().to_vec();
                content.insert((db, key), (value, deadline));
            }
            tx.finish();
        }
        content
    }

    fn change_something(ks: &mut Keyspace, rng: &mut fastrand::Rng, now_ms: i64) {
        let key = format!("key:{}", rng.u32(..3000)).into_bytes();
        let key = if rng.u8(..) == 0 {
            key.repeat(100)
        } else {
            key
        };
        let mut tx = ks.tx(rng.u32(..3), now_ms, true);
        match rng.u32(..1000) {
            0 => drop(tx.flush_db(rng.bool())),
            1 => tx.swap_dbs(0, 1, true),
            2 => tx.flush_all(true),
            3..300 => {
                if tx.remove(&key) {
                    tx.wrote(&key, Event::DEL, |_| {});
                }
            }
            300..400 => {
                let _edited = tx.string_mut(&key, rng.usize(..600)).unwrap();
                tx.wrote(&key, Event::APPEND, |_| {});
            }
            400..500 => {
                let deadline = rng.bool().then_some(now_ms + rng.i64(0..500));
                if tx.set_expiry(&key, deadline) {
                    tx.wrote(&key, Event::EXPIRE, |_| {});
                }
            }
            500..600 => {
                let n = rng.i64(..);
                tx.change_int::<WrongType>(&key, |_| Ok(n)).unwrap();
                tx.wrote(&key, Event::SET, |_| {});
            }
            600..650 => {
                if let Some(taken) = tx.take(&key) {
                    tx.wrote(&key, Event::DEL, |_| {});
                    tx.put(b"moved", taken);
                    tx.wrote(b"moved", Event::SET, |_| {});
                }
            }
            _ => {
                let value = vec![b'v'; rng.usize(..700)];
                tx.set_string(&key, NewStr::Bytes(&value), Ttl::Keep);
                tx.wrote(&key, Event::SET, |_| {});
            }
        }
        tx.finish();
    }

    #[test]
    fn a_cut_holds_what_was_there_whatever_happens_while_it_is_streamed() {
        let (mut total, mut due) = (0, 0);
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut ks = Keyspace::new(3, seed);
            let mut now_ms = 1_000_000;
            for round in 0..4 {
                for _ in 0..rng.usize(..4000) {
                    change_something(&mut ks, &mut rng, now_ms);
                }
                let mut expected = content(&mut ks, now_ms);
                // Some are due then, and nobody has come by.
                now_ms += rng.i64(0..1000);
                expected.retain(|_, (_, at_ms)| at_ms.is_none_or(|at_ms| at_ms > now_ms));
                total += expected.len();
                let notes = Arc::new(Mutex::new(Content::new()));
                let keeps_due = rng.bool();
                let keeper = Box::new(Notes(notes.clone()));
                ks.begin_cut(keeper, Clocks::None, keeps_due, now_ms);
                let begun_ms = now_ms;
                let mut slices = 0;
                let abandoned = round == 2;
                while !(ks.cut_slice(1) || abandoned && slices == 3) {
                    slices += 1;
                    now_ms += 3;
                    ks.pulse(now_ms, 10, |_, _| false);
                    for _ in 0..rng.usize(..200) {
                        change_something(&mut ks, &mut rng, now_ms);
                    }
                    ks.free_slice();
                }
                if !abandoned {
                    assert!(ks.is_cut_taken());
                    let is_read = |at_ms: &Option<i64>| at_ms.is_none_or(|at_ms| at_ms > begun_ms);
                    let mut notes = notes.lock().unwrap();
                    let all = notes.len();
                    notes.retain(|_, (_, at_ms)| is_read(at_ms));
                    due += all - notes.len();
                    assert!(keeps_due || all == notes.len(), "seed {seed}, cut {round}");
                    assert!(*notes == expected, "seed {seed}, cut {round}");
                }
                if abandoned && rng.bool() {
                    ks.give_up_cut();
                    while !ks.cut_slice(1) {
                        change_something(&mut ks, &mut rng, now_ms);
                    }
                    assert!(ks.is_cut_taken());
                }
                ks.end_cut();
            }
        }
        assert!(total > 10_000, "{total} entries were compared");
        assert!(due > 50, "{due} were due, and are kept");
    }

    /// What a cut holds.
    fn cut(ks: &mut Keyspace) -> Content {
        let notes = Arc::new(Mutex::new(Content::new()));
        ks.begin_cut(Box::new(Notes(notes.clone())), Clocks::None, false, 0);
        while !ks.cut_slice(1) {}
        ks.end_cut();
        notes.lock().unwrap().clone()
    }

    #[test]
    fn databases_on_their_way_are_in_no_cut_and_in_those_behind_their_arrival() {
        let mut ks = Keyspace::new(2, 1);
        ks.begin_incoming();
        let mut tx = ks.tx(3, 0, false);
        tx.load_text(b"key", b"value", None, (None, None));
        tx.finish();
        assert_eq!(cut(&mut ks), Content::new());
        ks.accept_incoming(0);
        let entry = ((1, b"key".to_vec()), (b"value".to_vec(), None));
        for _ in 0..2 {
            assert_eq!(cut(&mut ks), Content::from([entry.clone()]));
        }
    }
}
