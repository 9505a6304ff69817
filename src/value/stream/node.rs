//! One node of a stream: entries that share their ids' beginning and mostly their fields.

use super::EntryId;
use crate::value::limits::Limits;
use crate::value::listpack::{Item, Listpack, Pos};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Nodes stay below this size whatever the limits say. Redis: STREAM_LISTPACK_MAX_SIZE.
const BYTES_MAX: usize = 1 << 30;
/// Elements of an entry beside its fields and values: flags and both parts of the id.
const ENTRY_HEAD: i64 = 3;

/// What an element takes beside its text, at most; and what is before and behind the elements.
const ELEMENT_MAX_BYTES: usize = 10;
const ENTRY_HEAD_MAX_BYTES: usize = 32;

#[derive(Clone, Debug)]
pub struct Node(Listpack);

/// An entry where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub id: EntryId,
    pack: &'a Listpack,
    /// The first value, or with fields of its own the first field.
    at: Option<Pos>,
    /// The first field of the master entry, if the fields are those.
    same: Option<Pos>,
    count: usize,
}

impl<'a> Entry<'a> {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn fields(&self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> + use<'a> {
        let Entry {
            pack,
            mut at,
            mut same,
            count,
            ..
        } = *self;
        (0..count).map_while(move |_| {
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

fn int(pack: &Listpack, at: Pos) -> i64 {
    pack.get(at).int().unwrap_or(0)
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
        let mut node = Node(pack);
        node.append(id, id, fields);
        node
    }

    pub fn from_pack(pack: Listpack) -> Node {
        Node(pack)
    }

    pub fn pack(&self) -> &Listpack {
        &self.0
    }

    pub fn bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Gives back what was allocated to grow into.
    pub fn shrink(&mut self) {
        self.0.shrink();
    }

    fn head(&self, index: isize) -> i64 {
        self.0.seek(index).map_or(0, |at| int(&self.0, at))
    }

    /// Number of entries that are not deleted.
    pub fn live(&self) -> u64 {
        self.0.first().map_or(0, |at| int(&self.0, at)) as u64
    }

    fn deleted(&self) -> i64 {
        let second = self.0.first().and_then(|at| self.0.next(at));
        second.map_or(0, |at| int(&self.0, at))
    }

    /// Whether an entry with so many bytes of fields and values may join.
    pub fn admits(&self, bytes: usize, limits: &Limits) -> bool {
        let max_bytes = match limits.stream_node_max_bytes {
            0 => BYTES_MAX,
            max => max.min(BYTES_MAX),
        };
        let max_entries = limits.stream_node_max_entries as u64;
        let entries = self.live() + self.deleted() as u64;
        self.0.bytes() + bytes < max_bytes && (max_entries == 0 || entries < max_entries)
    }

    /// Appends an entry behind all others.
    pub fn append(&mut self, master: EntryId, id: EntryId, fields: &[&[u8]]) {
        let same = self.has_fields(fields);
        let pack = &mut self.0;
        let more: usize = fields
            .iter()
            .map(|text| text.len() + ELEMENT_MAX_BYTES)
            .sum();
        // In few steps: each leaves a block of another size behind.
        pack.reserve_up_to(more + ENTRY_HEAD_MAX_BYTES, pack.bytes() * 3 / 2);
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
        self.add_to_head(1, 0);
    }

    /// Whether an entry's fields are those of the master entry.
    fn has_fields(&self, fields: &[&[u8]]) -> bool {
        if self.head(2) != (fields.len() / 2) as i64 {
            return false;
        }
        let own = self.0.iter().skip(3).take(fields.len() / 2);
        own.eq(fields.iter().step_by(2).map(|field| Item::of(field)))
    }

    fn add_to_head(&mut self, entries: i64, deleted: i64) {
        let (len, gone) = (self.live() as i64, self.deleted());
        let pack = &mut self.0;
        if let Some(first) = pack.first() {
            let first = pack.replace_int(first, len + entries);
            if let Some(second) = pack.next(first) {
                pack.replace_int(second, gone + deleted);
            }
        }
    }

    /// The entries that are not deleted.
    pub fn entries(&self, master: EntryId) -> impl Iterator<Item = Entry<'_>> {
        self.all(master)
            .filter(|(_, flags, _)| flags & DELETED == 0)
            .map(|(_, _, entry)| entry)
    }

    /// The id of the last entry, also if it is deleted.
    pub fn last_ever(&self, master: EntryId) -> Option<EntryId> {
        self.all(master).last().map(|(_, _, entry)| entry.id)
    }

    /// All entries, with the place and value of their flags.
    fn all(&self, master: EntryId) -> impl Iterator<Item = (Pos, i64, Entry<'_>)> {
        let pack = &self.0;
        let fields = self.head(2).max(0) as usize;
        let first_field = pack.seek(3);
        // Behind the master entry's terminator.
        let mut at = pack
            .seek(3 + fields as isize)
            .and_then(|zero| pack.next(zero));
        std::iter::from_fn(move || {
            let flags_at = at?;
            let flags = int(pack, flags_at);
            let ms_at = pack.next(flags_at)?;
            let seq_at = pack.next(ms_at)?;
            let id = EntryId {
                ms: master.ms.wrapping_add(int(pack, ms_at) as u64),
                seq: master.seq.wrapping_add(int(pack, seq_at) as u64),
            };
            let mut body = pack.next(seq_at)?;
            let same = flags & SAME_FIELDS != 0;
            let count = if same {
                fields
            } else {
                let count = int(pack, body).max(0) as usize;
                body = pack.next(body)?;
                count
            };
            let elements = if same { count } else { 2 * count };
            let entry = Entry {
                id,
                pack,
                at: Some(body),
                same: if same { first_field } else { None },
                count,
            };
            at = pack
                .skip(body, elements)
                .and_then(|count_at| pack.next(count_at));
            Some((flags_at, flags, entry))
        })
    }

    /// Marks an entry as deleted; returns whether it was there.
    pub fn remove(&mut self, master: EntryId, id: EntryId) -> bool {
        let is_it = |(_, flags, entry): &(Pos, i64, Entry)| flags & DELETED == 0 && entry.id == id;
        let Some((at, flags, _)) = self.all(master).find(is_it) else {
            return false;
        };
        self.0.replace_int(at, flags | DELETED);
        self.add_to_head(-1, 1);
        true
    }
}
