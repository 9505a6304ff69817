//! Streams: nodes of entries as they are in memory, then their sums, then the consumer groups.
//!
//! ```text
//! nodes  (16-byte string: master id  node listpack in a string) ...
//! length  last id  [first id  largest deleted id  entries ever added: since 7.0]
//! groups  (name  last id  [entries read: since 7.0]
//!          pending  (raw id  delivered at i64 ms  deliveries) ...
//!          consumers  (name  seen at i64 ms  [active at i64 ms: since 7.2]
//!                      pending  (raw id) ...) ...) ...
//! id: two lengths, ms and seq;  raw id: both in 8 bytes big-endian
//!
//! node: entries  deleted  fields  field ...  0                      the master entry
//!       flags  ms  seq  value ...  items                            same fields as the master
//!       flags  ms  seq  fields  field  value ...  items             others
//! ms, seq: distance from the master id;  flags: 1 deleted, 2 same fields;
//! items: those of the entry before this one, to walk backwards
//! ```

use bytes::Bytes;

use super::{Body, types};
use crate::rdb::Sink;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, string};
use crate::value::listpack::{self, Item};
pub use crate::value::stream::EntryId;

const FLAG_DELETED: i64 = 1;
const FLAG_SAME_FIELDS: i64 = 2;

fn raw(id: EntryId) -> [u8; 16] {
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&id.ms.to_be_bytes());
    raw[8..].copy_from_slice(&id.seq.to_be_bytes());
    raw
}

fn of_raw(raw: [u8; 16]) -> EntryId {
    let whole = u128::from_be_bytes(raw);
    EntryId {
        ms: (whole >> 64) as u64,
        seq: whole as u64,
    }
}

/// Entries side by side in a listpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What the ids inside count from.
    pub master: EntryId,
    /// Checked: [`Node::entries`] reads it to the end.
    pub listpack: Bytes,
}

/// What a stream knows of itself beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub length: u64,
    pub last_id: EntryId,
    pub first_id: EntryId,
    pub max_deleted_id: EntryId,
    pub entries_added: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamParts {
    /// In the order of their master ids; entries ascend over all of them.
    pub nodes: Vec<Node>,
    pub sums: Sums,
    pub groups: Vec<Group>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Bytes,
    pub last_id: EntryId,
    /// `None`: not known.
    pub entries_read: Option<u64>,
    /// Delivered and not acknowledged, by id.
    pub pending: Vec<Pending>,
    pub consumers: Vec<Consumer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: EntryId,
    pub delivered_at_ms: i64,
    pub deliveries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: Bytes,
    pub seen_at_ms: i64,
    pub active_at_ms: i64,
    /// Its share of the group's pending entries; each belongs to exactly one consumer.
    pub pending: Vec<EntryId>,
}

/// Redis: SCG_INVALID_ENTRIES_READ.
const ENTRIES_READ_UNKNOWN: u64 = u64::MAX;

impl<S: Sink> Body<'_, S> {
    /// Begins a stream; that many nodes follow, by master id.
    pub fn stream(&mut self, nodes: u64) {
        self.len(nodes);
    }

    pub fn stream_node(&mut self, master: EntryId, listpack: &[u8]) {
        self.text(&raw(master));
        self.text(listpack);
    }

    /// Ends the nodes; that many groups follow.
    pub fn stream_sums(&mut self, sums: &Sums, groups: u64) {
        self.len(sums.length);
        self.entry_id(sums.last_id);
        self.entry_id(sums.first_id);
        self.entry_id(sums.max_deleted_id);
        self.len(sums.entries_added);
        self.len(groups);
    }

    /// Begins a group; that many pending entries follow, by id.
    pub fn group(
        &mut self,
        name: &[u8],
        last_id: EntryId,
        entries_read: Option<u64>,
        pending: u64,
    ) {
        self.text(name);
        self.entry_id(last_id);
        self.len(entries_read.unwrap_or(ENTRIES_READ_UNKNOWN));
        self.len(pending);
    }

    pub fn pending(&mut self, pending: &Pending) {
        self.out.put(&raw(pending.id));
        self.out.put(&pending.delivered_at_ms.to_le_bytes());
        self.len(pending.deliveries);
    }

    /// Ends the group's pending entries; that many consumers follow.
    pub fn consumers(&mut self, consumers: u64) {
        self.len(consumers);
    }

    /// Begins a consumer; that many [`owned`](Body::owned) ids follow.
    pub fn consumer(&mut self, name: &[u8], seen_at_ms: i64, owned: u64) {
        self.text(name);
        self.out.put(&seen_at_ms.to_le_bytes());
        self.len(owned);
    }

    pub fn owned(&mut self, id: EntryId) {
        self.out.put(&raw(id));
    }

    fn entry_id(&mut self, id: EntryId) {
        self.len(id.ms);
        self.len(id.seq);
    }
}

pub fn take(input: &mut Input, ty: u8) -> Result<StreamParts> {
    let start = input.position();
    let nodes = take_nodes(input)?;
    let fault = |what| Error::new(start, Fault::Stream(what));
    let (live, first, last) = survey(&nodes).ok_or(fault("entries out of order"))?;
    let mut sums = Sums {
        length: length::take(input)?,
        last_id: take_id(input)?,
        ..Sums::default()
    };
    if sums.length != 0 && nodes.is_empty() {
        return Err(fault("a length without entries"));
    }
    // Redis trusts these two; here nothing is added below an entry, and none is counted that is not.
    sums.length = live;
    sums.last_id = sums.last_id.max(last);
    if ty == types::STREAM_LISTPACKS {
        sums.first_id = first;
        sums.entries_added = sums.length;
    } else {
        sums.first_id = take_id(input)?;
        sums.max_deleted_id = take_id(input)?;
        sums.entries_added = length::take(input)?;
    }
    let count = length::take(input)?;
    let mut groups: Vec<Group> = Vec::with_capacity(input.capacity(count));
    for _ in 0..count {
        groups.push(take_group(input, ty, &sums)?);
    }
    let names = groups.iter().map(|group| &group.name);
    super::refuse_duplicates(names, start, "consumer group name")?;
    Ok(StreamParts {
        nodes,
        sums,
        groups,
    })
}

fn take_nodes(input: &mut Input) -> Result<Vec<Node>> {
    let start = input.position();
    let count = length::take(input)?;
    let mut nodes = Vec::with_capacity(input.capacity(count));
    for _ in 0..count {
        let start = input.position();
        let master = string::take(input)?;
        let master = <[u8; 16]>::try_from(master.as_ref()).map_err(|_| {
            Error::new(
                start,
                Fault::Stream("Stream node key entry is not the size of a stream ID"),
            )
        })?;
        let start = input.position();
        let node = Node {
            master: of_raw(master),
            listpack: string::take(input)?,
        };
        node.entries(|_, _, _| {})
            .ok_or(Error::new(start, Fault::Packed("Stream listpack")))?;
        nodes.push(node);
    }
    nodes.sort_by_key(|node| node.master);
    let same = |pair: &[Node]| pair[0].master == pair[1].master;
    if nodes.windows(2).any(same) {
        return Err(Error::new(start, Fault::Duplicate("stream nodes")));
    }
    Ok(nodes)
}

fn take_id(input: &mut Input) -> Result<EntryId> {
    Ok(EntryId {
        ms: length::take(input)?,
        seq: length::take(input)?,
    })
}

impl Node {
    /// Calls `each` with the id of every entry, whether it is deleted, and its fields with their
    /// values. `None` if the listpack is not a node in every detail.
    pub fn entries<'a>(
        &'a self,
        mut each: impl FnMut(EntryId, bool, &[(Item<'a>, Item<'a>)]),
    ) -> Option<()> {
        let mut items = listpack::items_checked(&self.listpack)?;
        let live = count(items.next())?;
        let deleted = count(items.next())?;
        let mut fields = Vec::new();
        for _ in 0..count(items.next())? {
            fields.push((items.next()?, Item::Int(0)));
        }
        if items.next()? != Item::Int(0) {
            return None;
        }
        let mut others = Vec::new();
        let mut deleted_seen = 0;
        for _ in 0..live.checked_add(deleted)? {
            let flags = items.next()?.int()?;
            let id = EntryId {
                ms: self.master.ms.wrapping_add_signed(items.next()?.int()?),
                seq: self.master.seq.wrapping_add_signed(items.next()?.int()?),
            };
            let pairs = if flags & FLAG_SAME_FIELDS != 0 {
                for (_, value) in &mut fields {
                    *value = items.next()?;
                }
                &fields
            } else {
                others.clear();
                for _ in 0..count(items.next())? {
                    others.push((items.next()?, items.next()?));
                }
                &others
            };
            let extra = match flags & FLAG_SAME_FIELDS {
                0 => 4 + pairs.len(),
                _ => 3,
            };
            if count(items.next())? != (pairs.len() + extra) as u64 {
                return None;
            }
            let is_deleted = flags & FLAG_DELETED != 0;
            deleted_seen += u64::from(is_deleted);
            each(id, is_deleted, pairs);
        }
        (items.next().is_none() && deleted_seen == deleted).then_some(())
    }
}

fn count(item: Option<Item>) -> Option<u64> {
    u64::try_from(item?.int()?).ok()
}

/// How many entries live, the first of them, and the last of all; `None` if they do not ascend.
fn survey(nodes: &[Node]) -> Option<(u64, EntryId, EntryId)> {
    let (mut live, mut first, mut last) = (0, None, None);
    let mut ascending = true;
    for node in nodes {
        node.entries(|id, deleted, _| {
            ascending &= last.is_none_or(|last| last < id);
            last = Some(id);
            if !deleted {
                live += 1;
                first.get_or_insert(id);
            }
        })?;
    }
    ascending.then_some((live, first.unwrap_or_default(), last.unwrap_or_default()))
}

fn take_group(input: &mut Input, ty: u8, sums: &Sums) -> Result<Group> {
    let start = input.position();
    let name = string::take(input)?;
    let last_id = take_id(input)?;
    let entries_read = match ty {
        types::STREAM_LISTPACKS => sums.entries_read_up_to(last_id),
        _ => Some(length::take(input)?).filter(|&read| read != ENTRIES_READ_UNKNOWN),
    };
    let mut pending = take_pending(input)?;
    pending.sort_by_key(|pending| pending.id);
    let same = |pair: &[Pending]| pair[0].id == pair[1].id;
    if pending.windows(2).any(same) {
        return Err(Error::new(start, Fault::Duplicate("pending entries")));
    }
    let mut owned = vec![false; pending.len()];
    let count = length::take(input)?;
    let mut consumers: Vec<Consumer> = Vec::with_capacity(input.capacity(count));
    for _ in 0..count {
        let start = input.position();
        let consumer = take_consumer(input, ty)?;
        for id in &consumer.pending {
            let at = pending.binary_search_by_key(id, |pending| pending.id);
            // Redis: rdb.c, in its words.
            let what = match at.map(|at| std::mem::replace(&mut owned[at], true)) {
                Ok(false) => continue,
                Ok(true) => "Stream consumer PEL entry already has a consumer assigned",
                Err(_) => "Consumer entry not found in group global PEL",
            };
            return Err(Error::new(start, Fault::Stream(what)));
        }
        consumers.push(consumer);
    }
    if owned.contains(&false) {
        let fault = Fault::Stream("Stream CG PEL entry without consumer");
        return Err(Error::new(start, fault));
    }
    let names = consumers.iter().map(|consumer| &consumer.name);
    super::refuse_duplicates(names, start, "stream consumer")?;
    Ok(Group {
        name,
        last_id,
        entries_read,
        pending,
        consumers,
    })
}

fn take_pending(input: &mut Input) -> Result<Vec<Pending>> {
    let count = length::take(input)?;
    let mut pending = Vec::with_capacity(input.capacity(count));
    for _ in 0..count {
        pending.push(Pending {
            id: of_raw(input.array()?),
            delivered_at_ms: input.i64_le()?,
            deliveries: length::take(input)?,
        });
    }
    Ok(pending)
}

fn take_consumer(input: &mut Input, ty: u8) -> Result<Consumer> {
    let name = string::take(input)?;
    let seen_at_ms = input.i64_le()?;
    let active_at_ms = match ty {
        types::STREAM_LISTPACKS_3 => input.i64_le()?,
        _ => seen_at_ms,
    };
    let count = length::take(input)?;
    let mut pending = Vec::with_capacity(input.capacity(count));
    for _ in 0..count {
        pending.push(of_raw(input.array()?));
    }
    Ok(Consumer {
        name,
        seen_at_ms,
        active_at_ms,
        pending,
    })
}

impl Sums {
    /// How many entries a group has read that stands at `id`, where that can be told. Redis:
    /// streamEstimateDistanceFromFirstEverEntry, for files from before groups counted.
    fn entries_read_up_to(&self, id: EntryId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if id == self.last_id || self.length == 0 && id < self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        // Only of files in which no deletion is known; so the entries lie side by side.
        let before_first = self.entries_added - self.length;
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first + 1),
            std::cmp::Ordering::Greater => None,
        }
    }
}
