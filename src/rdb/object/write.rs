//! An [`Object`] writes itself as a Redis of default configuration would.

use bytes::Bytes;

use super::{Body, Encode, HashField, ListPart, Object, StreamParts, Type};
use crate::number::parse_i64;
use crate::rdb::Sink;
use crate::value::intset::Intset;
use crate::value::limits::Limits;
use crate::value::listpack::Listpack;
use crate::value::zset::score_item;

/// Bytes of a list's node with `list-max-listpack-size -2`.
const NODE_MAX_BYTES: usize = 8 << 10;

impl Encode for Object {
    fn ty(&self) -> Type {
        let limits = Limits::default();
        match self {
            Object::String(_) => Type::String,
            Object::List(_) => Type::List,
            Object::Set(members) => {
                let ints = members.iter().all(|member| parse_i64(member).is_some());
                match ints && members.len() <= limits.set_max_intset_entries {
                    true => Type::Intset,
                    false => Type::Set,
                }
            }
            Object::Hash(fields) => {
                let short = |bytes: &Bytes| bytes.len() <= limits.hash_max_listpack_value;
                let small = fields.len() <= limits.hash_max_listpack_entries
                    && fields
                        .iter()
                        .all(|field| short(&field.name) && short(&field.value));
                match fields.iter().any(|field| field.expire_at_ms.is_some()) {
                    true => Type::HashExpiring,
                    false if small => Type::HashListpack,
                    false => Type::Hash,
                }
            }
            Object::Zset(members) => {
                let short = |bytes: &Bytes| bytes.len() <= limits.zset_max_listpack_value;
                let small = members.len() <= limits.zset_max_listpack_entries
                    && members.iter().all(|(member, _)| short(member));
                match small {
                    true => Type::ZsetListpack,
                    false => Type::Zset,
                }
            }
            Object::Stream(_) => Type::Stream,
        }
    }

    fn write<S: Sink>(&self, body: &mut Body<'_, S>) {
        match self {
            Object::String(bytes) => body.string(bytes),
            Object::List(parts) => write_list(parts, body),
            Object::Set(members) => match self.ty() {
                Type::Intset => {
                    let mut set = Intset::default();
                    for n in members.iter().filter_map(|member| parse_i64(member)) {
                        set.insert(n);
                    }
                    body.intset(set.as_bytes());
                }
                _ => {
                    body.set(members.len() as u64);
                    for member in members {
                        body.member(member);
                    }
                }
            },
            Object::Hash(fields) => write_hash(fields, self.ty(), body),
            Object::Zset(members) => write_zset(members, self.ty(), body),
            Object::Stream(parts) => write_stream(parts, body),
        }
    }
}

fn write_list<S: Sink>(parts: &[ListPart], body: &mut Body<'_, S>) {
    let mut nodes = Vec::new();
    // Whether elements may join the last node.
    let mut open = false;
    for part in parts {
        match (part, nodes.last_mut()) {
            (ListPart::Element(element), _) if element.len() > NODE_MAX_BYTES => {
                nodes.push(ListPart::Plain(element.clone()));
                open = false;
            }
            (ListPart::Element(element), Some(ListPart::Packed(pack)))
                if open && pack.bytes() + element.len() <= NODE_MAX_BYTES =>
            {
                pack.push(element);
            }
            (ListPart::Element(element), _) => {
                let mut pack = Listpack::new();
                pack.push(element);
                nodes.push(ListPart::Packed(pack));
                open = true;
            }
            (node, _) => {
                nodes.push(node.clone());
                open = false;
            }
        }
    }
    body.list(nodes.len() as u64);
    for node in &nodes {
        match node {
            ListPart::Element(element) | ListPart::Plain(element) => body.plain_node(element),
            ListPart::Packed(pack) => body.packed_node(pack.as_bytes()),
        }
    }
}

fn write_hash<S: Sink>(fields: &[HashField], ty: Type, body: &mut Body<'_, S>) {
    match ty {
        Type::HashExpiring => {
            let expiries = fields.iter().filter_map(|field| field.expire_at_ms);
            let soonest = expiries.min().unwrap_or_default();
            body.hash_expiring(fields.len() as u64, soonest);
            for field in fields {
                body.field_expiring(&field.name, &field.value, field.expire_at_ms, soonest);
            }
        }
        Type::HashListpack => {
            let mut pack = Listpack::new();
            for field in fields {
                pack.push(&field.name);
                pack.push(&field.value);
            }
            body.hash_listpack(pack.as_bytes());
        }
        _ => {
            body.hash(fields.len() as u64);
            for field in fields {
                body.field(&field.name, &field.value);
            }
        }
    }
}

fn write_zset<S: Sink>(members: &[(Bytes, f64)], ty: Type, body: &mut Body<'_, S>) {
    let mut ascending: Vec<&(Bytes, f64)> = members.iter().collect();
    // -0 and 0 are one score.
    let key = |score: f64| if score == 0.0 { 0.0 } else { score };
    ascending.sort_by(|a, b| key(a.1).total_cmp(&key(b.1)).then_with(|| a.0.cmp(&b.0)));
    if ty == Type::ZsetListpack {
        let mut pack = Listpack::new();
        for (member, score) in ascending {
            pack.push(member);
            pack.push_item(score_item(*score, &mut None));
        }
        body.zset_listpack(pack.as_bytes());
        return;
    }
    body.zset(members.len() as u64);
    for (member, score) in ascending.into_iter().rev() {
        body.scored(member, *score);
    }
}

fn write_stream<S: Sink>(parts: &StreamParts, body: &mut Body<'_, S>) {
    body.stream(parts.nodes.len() as u64);
    for node in &parts.nodes {
        body.stream_node(node.master, &node.listpack);
    }
    body.stream_sums(&parts.sums, parts.groups.len() as u64);
    for group in &parts.groups {
        let pending = group.pending.len() as u64;
        body.group(&group.name, group.last_id, group.entries_read, pending);
        for pending in &group.pending {
            body.pending(pending);
        }
        body.consumers(group.consumers.len() as u64);
        for consumer in &group.consumers {
            body.consumer(
                &consumer.name,
                consumer.seen_at_ms,
                consumer.pending.len() as u64,
            );
            for &id in &consumer.pending {
                body.owned(id);
            }
        }
    }
}
