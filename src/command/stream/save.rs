//! Streams on their way into a payload or a file, and back.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::{Bound, Range};

use crate::rdb::Sink;
use crate::rdb::object::{Body, Pending, StreamParts, Sums};
use crate::value::listpack::Listpack;
use crate::value::stream::{Consumer, EntryId, Group, Stream};

/// Writes a stream.
pub fn write<S: Sink>(stream: &Stream, body: &mut Body<'_, S>) {
    write_head(stream, body);
    write_nodes(stream, 0..stream.node_count(), body);
    let mut rest = Rest::default();
    while rest.go_on(stream, usize::MAX, body) {}
}

/// What comes first.
pub fn write_head<S: Sink>(stream: &Stream, body: &mut Body<'_, S>) {
    body.stream(stream.node_count() as u64);
}

/// Then come the nodes.
pub fn write_nodes<S: Sink>(stream: &Stream, nodes: Range<usize>, body: &mut Body<'_, S>) {
    for (master, pack) in stream.nodes(nodes) {
        body.stream_node(master, pack.as_bytes());
    }
}

/// How far what follows the nodes has been written: a group may have more pending than can be written in
/// one go. The stream must not change until all of it is.
#[derive(Debug, Default)]
pub struct Rest(Place);

/// What comes next.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Sums,
    /// A group, or what is pending in it after that entry.
    Group(Box<[u8]>, Option<EntryId>),
    /// A consumer of a group, or what is pending for it after that entry.
    Consumer(Box<[u8]>, Box<[u8]>, Option<EntryId>),
    End,
}

impl Rest {
    /// Goes on with up to so many pending entries; returns whether there is more.
    pub fn go_on<S: Sink>(
        &mut self,
        stream: &Stream,
        entries: usize,
        body: &mut Body<'_, S>,
    ) -> bool {
        self.0 = match std::mem::take(&mut self.0) {
            Place::Sums => {
                write_sums(stream, body);
                Place::next_group(stream, None)
            }
            Place::Group(name, after) => {
                let group = &stream.groups[&name];
                match write_group(&name, group, after, entries, body) {
                    Some(last) => Place::Group(name, Some(last)),
                    None => Place::next_consumer(stream, name, None),
                }
            }
            Place::Consumer(group, name, after) => {
                let consumer = &stream.groups[&group].consumers()[&*name];
                match write_consumer(&name, consumer, after, entries, body) {
                    Some(last) => Place::Consumer(group, name, Some(last)),
                    None => Place::next_consumer(stream, group, Some(&name)),
                }
            }
            Place::End => Place::End,
        };
        !matches!(self.0, Place::End)
    }
}

impl Place {
    fn next_group(stream: &Stream, after: Option<&[u8]>) -> Place {
        let next = next_key(&stream.groups, after);
        next.map_or(Place::End, |name| Place::Group(name, None))
    }

    fn next_consumer(stream: &Stream, group: Box<[u8]>, after: Option<&[u8]>) -> Place {
        match next_key(stream.groups[&group].consumers(), after) {
            Some(name) => Place::Consumer(group, name, None),
            None => Place::next_group(stream, Some(&group)),
        }
    }
}

fn next_key<K: Borrow<[u8]> + Ord, V>(
    map: &BTreeMap<K, V>,
    after: Option<&[u8]>,
) -> Option<Box<[u8]>> {
    let (key, _) = map.range::<[u8], _>(behind(after)).next()?;
    Some(key.borrow().into())
}

/// All that comes after a key, or all.
fn behind<K>(after: Option<K>) -> (Bound<K>, Bound<K>) {
    (after.map_or(Unbounded, Excluded), Unbounded)
}

/// Hands on up to so many entries; returns the last of them if there are more.
fn hand_on<T>(
    mut left: impl Iterator<Item = T>,
    entries: usize,
    mut write: impl FnMut(T) -> EntryId,
) -> Option<EntryId> {
    let last = left.by_ref().take(entries).map(&mut write).last();
    left.next().and(last)
}

fn write_sums<S: Sink>(stream: &Stream, body: &mut Body<'_, S>) {
    let sums = Sums {
        length: stream.len(),
        last_id: stream.last_id,
        first_id: stream.first_id,
        max_deleted_id: stream.max_deleted_id,
        entries_added: stream.entries_added,
    };
    body.stream_sums(&sums, stream.groups.len() as u64);
}

/// Goes on with a group, behind an entry; returns the last one if there are more.
fn write_group<S: Sink>(
    name: &[u8],
    group: &Group,
    after: Option<EntryId>,
    entries: usize,
    body: &mut Body<'_, S>,
) -> Option<EntryId> {
    let pending = group.pending();
    if after.is_none() {
        let count = pending.len() as u64;
        body.group(name, group.last_id, group.entries_read, count);
    }
    let last = hand_on(pending.range(behind(after)), entries, |(&id, entry)| {
        body.pending(&Pending {
            id,
            delivered_at_ms: entry.delivered_at_ms,
            deliveries: entry.deliveries,
        });
        id
    });
    if last.is_none() {
        body.consumers(group.consumers().len() as u64);
    }
    last
}

/// The same of a consumer.
fn write_consumer<S: Sink>(
    name: &[u8],
    consumer: &Consumer,
    after: Option<EntryId>,
    entries: usize,
    body: &mut Body<'_, S>,
) -> Option<EntryId> {
    let owned = &consumer.pending;
    if after.is_none() {
        body.consumer(name, consumer.seen_at_ms, owned.len() as u64);
    }
    hand_on(owned.range(behind(after)), entries, |&id| {
        body.owned(id);
        id
    })
}

/// The stream of parts that were read; `None` if a node is damaged.
pub fn restored(parts: StreamParts) -> Option<Stream> {
    let mut stream = Stream::default();
    for node in parts.nodes {
        let pack = Listpack::from_bytes_checked(node.listpack.to_vec())?;
        stream.push_node(node.master, pack);
    }
    stream.last_id = parts.sums.last_id;
    stream.first_id = parts.sums.first_id;
    stream.max_deleted_id = parts.sums.max_deleted_id;
    stream.entries_added = parts.sums.entries_added;
    for saved in parts.groups {
        let mut group = Group::new(saved.last_id, saved.entries_read);
        let pending = saved.pending.iter().map(|entry| (entry.id, entry));
        let pending: BTreeMap<EntryId, &Pending> = pending.collect();
        for consumer in &saved.consumers {
            group.create_consumer(&consumer.name, consumer.seen_at_ms);
            group.active(&consumer.name, consumer.active_at_ms);
            for id in &consumer.pending {
                if let Some(entry) = pending.get(id) {
                    group.deliver(*id, &consumer.name, entry.delivered_at_ms, entry.deliveries);
                }
            }
        }
        stream.groups.insert(saved.name.to_vec().into(), group);
    }
    Some(stream)
}
