//! One node of a stream: entries that share their ids' beginning and mostly their fields.

use std::ops::Deref;
use std::rc::Rc;

use super::{EntryId, columns};
use crate::value::closed::Closed;
use crate::value::limits::Limits;
use crate::value::listpack::{Item, Listpack, Pos};
use crate::value::run::Side;

const DELETED: i64 = 1;
pub(super) const SAME_FIELDS: i64 = 2;
/// Nodes stay below this size whatever the limits say. Redis: STREAM_LISTPACK_MAX_SIZE.
const BYTES_MAX: usize = 1 << 30;
/// Elements of an entry beside its fields and values: flags and both parts of the id.
pub(super) const ENTRY_HEAD: i64 = 3;

/// What an element takes beside its text, at most; and what is before and behind the elements.
const ELEMENT_MAX_BYTES: usize = 10;
const ENTRY_HEAD_MAX_BYTES: usize = 32;

/// Compressing is for nodes of many small entries: most of their bytes are alike, and what it costs is
/// shared by so many. A node is full at 100 of them, unless the limits say otherwise.
const CLOSED_MIN_ENTRIES: u64 = 50;

#[derive(Clone, Debug)]
pub enum Node {
    Open(Listpack),
    /// Turned into columns and compressed; the count is that of the entries which are not deleted.
    Closed(Closed),
}

/// The listpack of a node as it is read: what is compressed is unpacked for its readers.
#[derive(Clone, Debug)]
pub enum Reading<'a> {
    Pack(&'a Listpack),
    Unpacked(Rc<Listpack>),
}

impl Deref for Reading<'_> {
    type Target = Listpack;

    fn deref(&self) -> &Listpack {
        match self {
            Reading::Pack(pack) => pack,
            Reading::Unpacked(pack) => pack,
        }
    }
}

/// An entry where it stands.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub id: EntryId,
    pack: Reading<'a>,
    /// The first value, or with fields of its own the first field.
    at: Option<Pos>,
    /// The first field of the master entry, if the fields are those.
    same: Option<Pos>,
    count: usize,
}

impl Entry<'_> {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn fields(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        let pack: &Listpack = &self.pack;
        let (mut at, mut same) = (self.at, self.same);
        (0..self.count).map_while(move |_| {
            let field_at = match same {
                Some(field) => {
                    same = pack.next(field);
                    field
                }
                None => {
                    let field = at?;
                    at = pack.next(field);
                    field
                }
            };
            let value = at?;
            at = pack.next(value);
            Some((pack.get(field_at), pack.get(value)))
        })
    }
}

/// An entry, deleted or not, with the place and value of its flags.
struct Found<'a> {
    at: Pos,
    flags: i64,
    entry: Entry<'a>,
    /// Its last element: how many it has.
    count_at: Option<Pos>,
}

impl<'a> Found<'a> {
    fn live(self) -> Option<Entry<'a>> {
        (self.flags & DELETED == 0).then_some(self.entry)
    }
}

/// What it takes to read a node's entries one by one.
struct Walk<'a> {
    pack: Reading<'a>,
    master: EntryId,
    fields: usize,
    first_field: Option<Pos>,
    /// The first entry, behind the master entry's terminator.
    first: Option<Pos>,
}

impl<'a> Walk<'a> {
    fn over(node: &'a Node, master: EntryId) -> Walk<'a> {
        let pack = node.reading();
        let fields = head(&pack, 2).max(0) as usize;
        let first_field = pack.seek(3);
        let zero = first_field.and_then(|field| pack.skip(field, fields));
        let first = zero.and_then(|zero| pack.next(zero));
        Walk {
            pack,
            master,
            fields,
            first_field,
            first,
        }
    }

    /// The entry whose flags stand at `at`.
    fn entry(&self, at: Pos) -> Option<Found<'a>> {
        let pack: &Listpack = &self.pack;
        let flags = int(pack, at);
        let ms_at = pack.next(at)?;
        let seq_at = pack.next(ms_at)?;
        let id = EntryId {
            ms: self.master.ms.wrapping_add(int(pack, ms_at) as u64),
            seq: self.master.seq.wrapping_add(int(pack, seq_at) as u64),
        };
        let mut body = pack.next(seq_at)?;
        let same = flags & SAME_FIELDS != 0;
        let count = if same {
            self.fields
        } else {
            let count = int(pack, body).max(0) as usize;
            body = pack.next(body)?;
            count
        };
        let elements = if same { count } else { 2 * count };
        Some(Found {
            at,
            flags,
            count_at: pack.skip(body, elements),
            entry: Entry {
                id,
                pack: self.pack.clone(),
                at: Some(body),
                same: if same { self.first_field } else { None },
                count,
            },
        })
    }

    /// The flags of the entry that ends with the number of its elements at `count_at`; `None` before
    /// the first.
    fn back(&self, count_at: Pos) -> Option<Pos> {
        if count_at < self.first? {
            return None;
        }
        let elements = int(&self.pack, count_at);
        (0..elements).try_fold(count_at, |at, _| self.pack.prev(at))
    }
}

fn int(pack: &Listpack, at: Pos) -> i64 {
    pack.get(at).int().unwrap_or(0)
}

/// One of the numbers that a node begins with: entries, deleted ones, fields.
pub(super) fn head(pack: &Listpack, index: isize) -> i64 {
    pack.seek(index).map_or(0, |at| int(pack, at))
}

fn add_to_head(pack: &mut Listpack, entries: i64, deleted: i64) {
    let (len, gone) = (head(pack, 0), head(pack, 1));
    if let Some(first) = pack.first() {
        let first = pack.replace_int(first, len + entries);
        if let Some(second) = pack.next(first) {
            pack.replace_int(second, gone + deleted);
        }
    }
}

/// Whether an entry's fields are those of the master entry.
fn has_fields(pack: &Listpack, fields: &[&[u8]]) -> bool {
    if head(pack, 2) != (fields.len() / 2) as i64 {
        return false;
    }
    let own = pack.iter().skip(3).take(fields.len() / 2);
    own.eq(fields.iter().step_by(2).map(|field| Item::of(field)))
}

impl Node {
    /// A node with its first entry; `fields` are fields and values in turn.
    pub fn new(id: EntryId, fields: &[&[u8]]) -> Node {
        Node::with_capacity(0, id, fields)
    }

    /// The same with room for so many bytes.
    pub fn with_capacity(bytes: usize, id: EntryId, fields: &[&[u8]]) -> Node {
        let mut pack = Listpack::with_capacity(bytes);
        pack.push_int(0);
        pack.push_int(0);
        pack.push_int((fields.len() / 2) as i64);
        fields.iter().step_by(2).for_each(|field| pack.push(field));
        pack.push_int(0);
        let mut node = Node::Open(pack);
        node.append(id, id, fields);
        node
    }

    pub fn from_pack(pack: Listpack) -> Node {
        Node::Open(pack)
    }

    pub fn reading(&self) -> Reading<'_> {
        match self {
            Node::Open(pack) => Reading::Pack(pack),
            Node::Closed(closed) => {
                Reading::Unpacked(Rc::new(columns::turn_back(&closed.unpack())))
            }
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        match self {
            Node::Open(pack) => pack.memory_bytes(),
            Node::Closed(closed) => closed.memory_bytes(),
        }
    }

    /// Gives back what was allocated to grow into.
    pub fn shrink(&mut self) {
        if let Node::Open(pack) = self {
            pack.shrink();
        }
    }

    /// Compresses what is worth it: a quarter has to be saved.
    pub fn close(&mut self) {
        let live = self.live();
        if let Node::Open(pack) = self
            && live >= CLOSED_MIN_ENTRIES
            && let Some(turned) = columns::turn(pack)
            && let Some(closed) = Closed::of(&turned, live as usize, pack.bytes() / 4 * 3)
        {
            *self = Node::Closed(closed);
        }
    }

    /// As a listpack that can be changed.
    pub fn open(&mut self) -> &mut Listpack {
        if let Node::Closed(closed) = self {
            let mut pack = columns::turn_back(&closed.unpack());
            pack.shrink();
            *self = Node::Open(pack);
        }
        match self {
            Node::Open(pack) => pack,
            Node::Closed(_) => unreachable!("opened above"),
        }
    }

    /// Number of entries that are not deleted.
    pub fn live(&self) -> u64 {
        match self {
            Node::Open(pack) => head(pack, 0) as u64,
            Node::Closed(closed) => closed.count() as u64,
        }
    }

    /// Whether an entry with so many bytes of fields and values may join.
    pub fn admits(&mut self, bytes: usize, limits: &Limits) -> bool {
        let pack = self.open();
        let max_bytes = match limits.stream_node_max_bytes {
            0 => BYTES_MAX,
            max => max.min(BYTES_MAX),
        };
        let max_entries = limits.stream_node_max_entries as u64;
        let entries = (head(pack, 0) + head(pack, 1)) as u64;
        pack.bytes() + bytes < max_bytes && (max_entries == 0 || entries < max_entries)
    }

    /// Appends an entry behind all others.
    pub fn append(&mut self, master: EntryId, id: EntryId, fields: &[&[u8]]) {
        let pack = self.open();
        let same = has_fields(pack, fields);
        let more: usize = fields
            .iter()
            .map(|text| text.len() + ELEMENT_MAX_BYTES)
            .sum();
        // In few steps: each leaves a block of another size behind.
        pack.reserve_up_to(
            more + ENTRY_HEAD_MAX_BYTES,
            pack.bytes() * 3 / 2,
            Side::Behind,
        );
        let count = (fields.len() / 2) as i64;
        pack.push_int(if same { SAME_FIELDS } else { 0 });
        pack.push_int(id.ms.wrapping_sub(master.ms) as i64);
        pack.push_int(id.seq.wrapping_sub(master.seq) as i64);
        if same {
            fields
                .iter()
                .skip(1)
                .step_by(2)
                .for_each(|value| pack.push(value));
            pack.push_int(ENTRY_HEAD + count);
        } else {
            pack.push_int(count);
            fields.iter().for_each(|text| pack.push(text));
            pack.push_int(ENTRY_HEAD + 1 + 2 * count);
        }
        add_to_head(pack, 1, 0);
    }

    /// The entries that are not deleted.
    pub fn entries(&self, master: EntryId) -> impl Iterator<Item = Entry<'_>> {
        self.all(master).filter_map(Found::live)
    }

    /// The same from the last to the first.
    pub fn entries_back(&self, master: EntryId) -> impl Iterator<Item = Entry<'_>> {
        self.all_back(master).filter_map(Found::live)
    }

    /// The id of the last entry, also if it is deleted.
    pub fn last_ever(&self, master: EntryId) -> Option<EntryId> {
        self.all_back(master).next().map(|found| found.entry.id)
    }

    fn all(&self, master: EntryId) -> impl Iterator<Item = Found<'_>> {
        let walk = Walk::over(self, master);
        let mut at = walk.first;
        std::iter::from_fn(move || {
            let found = walk.entry(at?)?;
            at = walk.pack.next(found.count_at?);
            Some(found)
        })
    }

    fn all_back(&self, master: EntryId) -> impl Iterator<Item = Found<'_>> {
        let walk = Walk::over(self, master);
        let mut count_at = walk.pack.last();
        std::iter::from_fn(move || {
            let at = walk.back(count_at?)?;
            count_at = walk.pack.prev(at);
            walk.entry(at)
        })
    }

    /// Marks an entry as deleted; returns whether it was there.
    pub fn remove(&mut self, master: EntryId, id: EntryId) -> bool {
        let is_it = |found: &Found| found.flags & DELETED == 0 && found.entry.id == id;
        let found = self.all(master).find(is_it);
        let doomed: Vec<_> = found.map(|it| (it.at, it.flags)).into_iter().collect();
        self.mark_deleted(&doomed);
        !doomed.is_empty()
    }

    /// Marks entries as deleted, from the first on as far as they go; returns how many.
    pub fn remove_while(&mut self, master: EntryId, goes: impl Fn(u64, EntryId) -> bool) -> u64 {
        let live = self.all(master).filter(|it| it.flags & DELETED == 0);
        let front = (0..)
            .zip(live)
            .take_while(|(nth, it)| goes(*nth, it.entry.id));
        let doomed: Vec<_> = front.map(|(_, it)| (it.at, it.flags)).collect();
        self.mark_deleted(&doomed);
        doomed.len() as u64
    }

    /// Marks some entries as deleted, given in their order.
    pub fn remove_all(&mut self, master: EntryId, ids: &[EntryId]) {
        let mut ids = ids.iter().peekable();
        let live = self.all(master).filter(|it| it.flags & DELETED == 0);
        let chosen = live.filter(|it| ids.next_if_eq(&&it.entry.id).is_some());
        let doomed: Vec<_> = chosen.map(|it| (it.at, it.flags)).collect();
        self.mark_deleted(&doomed);
    }

    /// The entries whose flags stand there, which take no other room for it.
    fn mark_deleted(&mut self, doomed: &[(Pos, i64)]) {
        if doomed.is_empty() {
            return;
        }
        let pack = self.open();
        for &(at, flags) in doomed {
            pack.replace_int(at, flags | DELETED);
        }
        let count = doomed.len() as i64;
        add_to_head(pack, -count, count);
    }
}
