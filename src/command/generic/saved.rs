//! Values on their way into a payload or a file, as Redis writes them.

use std::ops::Range;

use crate::command::stream;
use crate::keyspace::cut::KeptValue;
use crate::rdb::Sink;
use crate::rdb::object::{Body, Encode, Type};
use crate::value::Value;
use crate::value::hash::Hash;
use crate::value::list::{List, SavedNode};
use crate::value::listpack::Listpack;
use crate::value::set::Set;
use crate::value::zset::Zset;

/// A value to be written.
pub struct Saved<'a>(pub KeptValue<'a>);

impl Saved<'_> {
    /// How many parts it can be written in: what lies in one piece of memory is one. Streams, in which more
    /// than one thing may be long, are in the hands of [`stream::Rest`].
    pub fn parts(&self) -> usize {
        match self.0 {
            KeptValue::Int(_) | KeptValue::Text(_) => 1,
            KeptValue::Object(value) => match value {
                Value::Shared(_) | Value::Edited(_) => 1,
                Value::List(list) => list.node_count(),
                Value::Set(set) => match &**set {
                    Set::Intset(_) => 1,
                    Set::Listpack(_) | Set::Table(_) => set.len(),
                },
                Value::Hash(hash) if hash.listpack().is_some() => 1,
                Value::Hash(hash) => hash.len(),
                Value::Zset(set) if set.listpack().is_some() => 1,
                Value::Zset(set) => set.len(),
                Value::Stream(_) => 1,
            },
        }
    }

    /// Writes those parts. What stands before the parts comes with the first of them, what follows
    /// with the last.
    pub fn write_parts<S: Sink>(&self, parts: Range<usize>, body: &mut Body<'_, S>) {
        match self.0 {
            KeptValue::Int(n) => body.int(n),
            KeptValue::Text(bytes) => body.string(bytes),
            KeptValue::Object(value) => match value {
                Value::Shared(bytes) => body.string(bytes),
                Value::Edited(bytes) => body.string(bytes),
                Value::List(list) => write_list(list, parts, body),
                Value::Set(set) => write_set(set, parts, body),
                Value::Hash(hash) => write_hash(hash, parts, body),
                Value::Zset(set) => write_zset(set, parts, body),
                Value::Stream(saved) => stream::write(saved, body),
            },
        }
    }
}

impl Encode for Saved<'_> {
    fn ty(&self) -> Type {
        match self.0 {
            KeptValue::Int(_) | KeptValue::Text(_) => Type::String,
            KeptValue::Object(value) => match value {
                Value::Shared(_) | Value::Edited(_) => Type::String,
                Value::List(_) => Type::List,
                Value::Set(set) => match &**set {
                    Set::Intset(_) => Type::Intset,
                    // RDB 10 knows no listpacks of sets.
                    Set::Listpack(_) | Set::Table(_) => Type::Set,
                },
                Value::Hash(hash) => match (hash.listpack().is_some(), hash.is_expiring()) {
                    (true, false) => Type::HashListpack,
                    (true, true) => Type::HashListpackExpiring,
                    (false, false) => Type::Hash,
                    (false, true) => Type::HashExpiring,
                },
                Value::Zset(set) if set.listpack().is_some() => Type::ZsetListpack,
                Value::Zset(_) => Type::Zset,
                Value::Stream(_) => Type::Stream,
            },
        }
    }

    fn write<S: Sink>(&self, body: &mut Body<'_, S>) {
        self.write_parts(0..self.parts(), body);
    }
}

fn write_list<S: Sink>(list: &List, parts: Range<usize>, body: &mut Body<'_, S>) {
    if parts.start == 0 {
        body.list(list.node_count() as u64);
    }
    for node in list.nodes(parts) {
        match node {
            SavedNode::Pack(pack) => body.packed_node(pack.as_bytes()),
            SavedNode::Large(pack) => body.packed_node(pack.as_bytes()),
            SavedNode::Plain(element) => body.plain_node(element),
            SavedNode::Lzf(lzf, bytes) => body.compressed_node(lzf, bytes),
        }
    }
}

fn write_set<S: Sink>(set: &Set, parts: Range<usize>, body: &mut Body<'_, S>) {
    if let Set::Intset(ints) = set {
        return body.intset(ints.as_bytes());
    }
    if parts.start == 0 {
        body.set(set.len() as u64);
    }
    let mut scratch = itoa::Buffer::new();
    for member in set.range(parts) {
        body.member(member.bytes(&mut scratch));
    }
}

fn write_hash<S: Sink>(hash: &Hash, parts: Range<usize>, body: &mut Body<'_, S>) {
    let soonest_ms = hash.next_deadline();
    match hash.listpack() {
        Some(_) if hash.is_expiring() => {
            let pack = with_deadlines(hash);
            return body.hash_listpack_expiring(soonest_ms, pack.as_bytes());
        }
        Some(pack) => return body.hash_listpack(pack.as_bytes()),
        None => {}
    }
    match soonest_ms {
        _ if parts.start > 0 => {}
        None => body.hash(hash.len() as u64),
        Some(soonest_ms) => body.hash_expiring(hash.len() as u64, soonest_ms),
    }
    let (mut names, mut values) = (itoa::Buffer::new(), itoa::Buffer::new());
    for (name, value) in hash.range(parts) {
        let (name, value) = (name.bytes(&mut names), value.bytes(&mut values));
        match soonest_ms {
            None => body.field(name, value),
            Some(soonest_ms) => {
                body.field_expiring(name, value, hash.deadline(name), soonest_ms);
            }
        }
    }
}

/// Fields, values and deadlines in a listpack, the earliest first and those without in the end. Redis:
/// t_hash.c, listpackEx.
fn with_deadlines(hash: &Hash) -> Listpack {
    let mut pack = Listpack::new();
    let mut scratch = itoa::Buffer::new();
    for (field, at_ms) in hash.deadlines() {
        if let Some(value) = hash.whole().get(field.bytes(&mut scratch)) {
            pack.push_item(field);
            pack.push_item(value);
            pack.push_int(at_ms);
        }
    }
    for (field, value) in hash.iter() {
        if hash.deadline(field.bytes(&mut scratch)).is_none() {
            pack.push_item(field);
            pack.push_item(value);
            pack.push_int(0);
        }
    }
    pack
}

fn write_zset<S: Sink>(set: &Zset, parts: Range<usize>, body: &mut Body<'_, S>) {
    if let Some(pack) = set.listpack() {
        return body.zset_listpack(pack.as_bytes());
    }
    if parts.start == 0 {
        body.zset(set.len() as u64);
    }
    // Redis: from the greatest, so that loading inserts at the front of its skiplist.
    let mut scratch = itoa::Buffer::new();
    for (name, score) in set.range_back(parts) {
        body.scored(name.bytes(&mut scratch), score);
    }
}
