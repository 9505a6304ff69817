//! Streams on their way into a payload or a file, and back.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rdb::Sink;
use crate::rdb::object::{Body, Pending, StreamParts, Sums};
use crate::value::listpack::Listpack;
use crate::value::stream::{EntryId, Group, Stream};

/// How many parts a stream can be written in: its nodes, and the rest.
pub fn parts(stream: &Stream) -> usize {
    stream.node_count() + 1
}

/// Writes those parts of a stream.
pub fn write_parts<S: Sink>(stream: &Stream, parts: Range<usize>, body: &mut Body<'_, S>) {
    let nodes = stream.node_count();
    if parts.start == 0 {
        body.stream(nodes as u64);
    }
    for (master, pack) in stream.nodes(parts.start..parts.end.min(nodes)) {
        body.stream_node(master, pack.as_bytes());
    }
    if parts.end > nodes {
        write_rest(stream, body);
    }
}

fn write_rest<S: Sink>(stream: &Stream, body: &mut Body<'_, S>) {
    let sums = Sums {
        length: stream.len(),
        last_id: stream.last_id,
        first_id: stream.first_id,
        max_deleted_id: stream.max_deleted_id,
        entries_added: stream.entries_added,
    };
    body.stream_sums(&sums, stream.groups.len() as u64);
    for (name, group) in &stream.groups {
        let pending = group.pending();
        body.group(
            name,
            group.last_id,
            group.entries_read,
            pending.len() as u64,
        );
        for (&id, entry) in pending {
            body.pending(&Pending {
                id,
                delivered_at_ms: entry.delivered_at_ms,
                deliveries: entry.deliveries,
            });
        }
        body.consumers(group.consumers().len() as u64);
        for (name, consumer) in group.consumers() {
            body.consumer(name, consumer.seen_at_ms, consumer.pending.len() as u64);
            consumer.pending.iter().for_each(|&id| body.owned(id));
        }
    }
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
