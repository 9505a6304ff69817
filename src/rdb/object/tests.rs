//! What the fixtures of `tests/rdb` cannot show: refusals, and forms no server writes any more.

use super::*;
use crate::value::listpack::Listpack;

fn read(ty: u8, bytes: &[u8], product: Product) -> Result<Taken> {
    let mut input = Input::new(Bytes::copy_from_slice(bytes), 0);
    let taken = take(&mut input, ty, product)?;
    assert!(input.is_empty(), "{ty}: bytes are left");
    Ok(taken)
}

fn fault(ty: u8, bytes: &[u8]) -> Fault {
    match read(ty, bytes, Product::Redis) {
        Err(error) => error.fault,
        Ok(taken) => panic!("{ty}: {taken:?}"),
    }
}

/// A string that holds a listpack.
fn pack(texts: &[&str]) -> Vec<u8> {
    let mut pack = Listpack::new();
    texts.iter().for_each(|text| pack.push(text.as_bytes()));
    let mut out = Vec::new();
    crate::rdb::string::put_plain(&mut out, pack.as_bytes());
    out
}

#[test]
fn nothing_is_named_twice() {
    let nine = [0; 8];
    let scored = [&[2, 1, b'a'][..], &nine, &[1, b'a'], &nine].concat();
    for (ty, bytes) in [
        (types::SET, vec![2, 1, b'a', 1, b'a']),
        // An integer and its text are one member.
        (types::SET, vec![2, 1, b'7', 0xc0, 7]),
        (types::SET_LISTPACK, pack(&["a", "b", "a"])),
        (types::HASH, vec![2, 1, b'a', 1, b'v', 1, b'a', 1, b'w']),
        (types::HASH_LISTPACK, pack(&["a", "v", "a", "w"])),
        (types::ZSET_2, scored),
        (types::ZSET_LISTPACK, pack(&["a", "1", "a", "2"])),
    ] {
        let fault = fault(ty, &bytes);
        let is_told = matches!(fault, Fault::Duplicate(_) | Fault::PackedDuplicate(_));
        assert!(is_told, "{ty}: {fault}");
    }
    // A list may repeat itself, and so may values.
    let list = read(types::LIST, &[2, 1, b'a', 1, b'a'], Product::Redis);
    assert_eq!(
        list,
        Ok(Taken::Object(Object::List(vec![
            ListPart::Element(
                Bytes::from_static(b"a")
            );
            2
        ])))
    );
    let hash = [2, 1, b'a', 1, b'v', 1, b'b', 1, b'v'];
    assert!(read(types::HASH, &hash, Product::Redis).is_ok());
}

#[test]
fn collections_without_elements_are_told_apart_from_damage() {
    let empty_ziplist = [11, 11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0xff];
    for (ty, bytes) in [
        (types::LIST, vec![0]),
        (types::SET, vec![0]),
        (types::HASH, vec![0]),
        (types::ZSET, vec![0]),
        (types::ZSET_2, vec![0]),
        (types::LIST_QUICKLIST, vec![0]),
        (types::LIST_QUICKLIST_2, vec![0]),
        (types::LIST_QUICKLIST, [&[1][..], &empty_ziplist].concat()),
        (types::LIST_ZIPLIST, empty_ziplist.to_vec()),
        (types::HASH_ZIPLIST, empty_ziplist.to_vec()),
        (types::HASH_LISTPACK, pack(&[])),
        (types::ZSET_LISTPACK, pack(&[])),
    ] {
        assert_eq!(read(ty, &bytes, Product::Redis), Ok(Taken::Empty), "{ty}");
    }
    // Redis: an empty intset or zipmap was never written.
    let intset = [8, 2, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(fault(types::SET_INTSET, &intset), Fault::Packed("Intset"));
    assert_eq!(
        fault(types::HASH_ZIPMAP, &[2, 0, 0xff]),
        Fault::Packed("Zipmap")
    );
}

#[test]
fn odd_and_unreadable_packs_are_refused() {
    for (ty, texts) in [
        (types::HASH_LISTPACK, &["a"][..]),
        (types::ZSET_LISTPACK, &["a", "1", "b"]),
        (types::HASH_LISTPACK_EX_PRE_GA, &["a", "v"]),
        (types::HASH_LISTPACK_EX_PRE_GA, &["a", "v", "soon"]),
        (types::HASH_LISTPACK_EX_PRE_GA, &["a", "v", "-1"]),
        (
            types::HASH_LISTPACK_EX_PRE_GA,
            &["a", "v", "281474976710656"],
        ),
    ] {
        assert!(
            matches!(fault(ty, &pack(texts)), Fault::Packed(_)),
            "{texts:?}"
        );
    }
    assert_eq!(
        fault(types::ZSET_LISTPACK, &pack(&["a", "high"])),
        Fault::Score
    );
    assert_eq!(
        fault(types::ZSET_LISTPACK, &pack(&["a", "nan"])),
        Fault::Score
    );
    assert_eq!(fault(types::ZSET, &[1, 1, b'a', 0xfd]), Fault::Score);
    assert_eq!(fault(types::ZSET, &[1, 1, b'a', 1, b'x']), Fault::Score);
    assert_eq!(
        fault(types::LIST_QUICKLIST_2, &[1, 3]),
        Fault::Packed("Quicklist")
    );
    assert_eq!(
        fault(types::LIST_QUICKLIST_2, &[1, 1, 0]),
        Fault::Packed("Quicklist")
    );
}

#[test]
fn scores_as_digits_are_read() {
    let bytes = [
        4, 1, b'a', 0xfe, 1, b'b', 0xff, 1, b'c', 3, b'1', b'.', b'5', 1, b'd', 1, b'7',
    ];
    let Ok(Taken::Object(Object::Zset(members))) = read(types::ZSET, &bytes, Product::Redis) else {
        panic!("not read");
    };
    let scores: Vec<f64> = members.iter().map(|(_, score)| *score).collect();
    assert_eq!(scores, [f64::INFINITY, f64::NEG_INFINITY, 1.5, 7.0]);
}

#[test]
fn type_22_depends_on_who_wrote_it() {
    // One field, without an expiry and with one.
    let redis = [2, 0, 1, b'a', 1, b'v', 5, 1, b'b', 1, b'w'];
    let valkey = [
        2, 1, b'a', 1, b'v', 255, 255, 255, 255, 255, 255, 255, 255, 1, b'b', 1, b'w', 5, 0, 0, 0,
        0, 0, 0, 0,
    ];
    let read_redis = read(22, &redis, Product::Redis);
    assert_eq!(read_redis, read(22, &valkey, Product::Valkey));
    let Ok(Taken::Object(Object::Hash(fields))) = read_redis else {
        panic!("not read");
    };
    let expiries: Vec<Option<i64>> = fields.iter().map(|field| field.expire_at_ms).collect();
    assert_eq!(expiries, [None, Some(5)]);
    let mut input = Input::new(Bytes::copy_from_slice(&redis), 0);
    assert!(take(&mut input, 23, Product::Valkey).is_err());
}

#[test]
fn modules_are_stepped_over() {
    // Redis: moduleTypeEncodeId("test__rdb", 3).
    let id = b"test__rdb".iter().fold(0u64, |id, character| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.iter().position(|known| known == character);
        id << 6 | at.expect("in the alphabet") as u64
    }) << 10
        | 3;
    let mut value = Vec::new();
    crate::rdb::length::put(&mut value, id);
    value.extend_from_slice(&[1, 5, 2, 0x40, 99, 3, 1, 2, 3, 4, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
    value.extend_from_slice(&[5, 2, b'h', b'i', 5, 0xc0, 7, 0]);
    let name = "test__rdb".to_string();
    assert_eq!(read(7, &value, Product::Redis), Ok(Taken::Module { name }));
    let end = value.len() - 1;
    value[end] = 6;
    assert_eq!(fault(7, &value), Fault::Packed("Module value"));
}

/// One node with the entries 5-1 and 5-2 of field f, the second deleted; a group that has one
/// pending entry and two consumers.
fn stream() -> StreamParts {
    let mut listpack = Listpack::new();
    for n in [1, 1, 1] {
        listpack.push_int(n);
    }
    listpack.push(b"f");
    listpack.push_int(0);
    for (seq, flags, value) in [(0, 2, "v"), (1, 3, "w")] {
        for n in [flags, 0, seq] {
            listpack.push_int(n);
        }
        listpack.push(value.as_bytes());
        listpack.push_int(4);
    }
    let id = |seq| EntryId { ms: 5, seq };
    let consumer = |name, pending| Consumer {
        name: Bytes::from_static(name),
        seen_at_ms: 70,
        active_at_ms: 70,
        pending,
    };
    StreamParts {
        nodes: vec![Node {
            master: id(1),
            listpack: Bytes::copy_from_slice(listpack.as_bytes()),
        }],
        sums: Sums {
            length: 1,
            last_id: id(2),
            first_id: id(1),
            max_deleted_id: id(2),
            entries_added: 2,
        },
        groups: vec![Group {
            name: Bytes::from_static(b"g"),
            last_id: id(1),
            entries_read: None,
            pending: vec![Pending {
                id: id(1),
                delivered_at_ms: 60,
                deliveries: 3,
            }],
            consumers: vec![consumer(b"busy", vec![id(1)]), consumer(b"idle", vec![])],
        }],
    }
}

fn rewritten(change: impl FnOnce(&mut StreamParts)) -> Result<Taken> {
    let mut parts = stream();
    change(&mut parts);
    let object = Object::Stream(parts);
    let mut bytes = Vec::new();
    object.write(&mut Body::new(&mut bytes, &mut StringWriter::new(true)));
    read(types::STREAM_LISTPACKS_2, &bytes, Product::Redis)
}

#[test]
fn streams_survive() {
    assert_eq!(
        rewritten(|_| {}),
        Ok(Taken::Object(Object::Stream(stream())))
    );
    let empty = StreamParts::default();
    let read = rewritten(|parts| *parts = StreamParts::default());
    assert_eq!(read, Ok(Taken::Object(Object::Stream(empty))));
    // What Redis would believe is set right: the number of entries, and the last id.
    let mended = rewritten(|parts| {
        parts.sums.length = 7;
        parts.sums.last_id = EntryId::default();
    });
    assert_eq!(mended, Ok(Taken::Object(Object::Stream(stream()))));
}

#[test]
fn streams_that_contradict_themselves_are_refused() {
    type Change = fn(&mut StreamParts);
    let changes: [Change; 9] = [
        |parts| parts.nodes.push(parts.nodes[0].clone()),
        |parts| {
            // Begins before the last entry of the node before it.
            let mut node = parts.nodes[0].clone();
            node.master.seq = 2;
            parts.nodes.push(node);
        },
        |parts| parts.nodes[0].listpack = pack(&["1", "0"]).split_off(1).into(),
        |parts| parts.nodes.clear(),
        |parts| parts.groups.push(parts.groups[0].clone()),
        |parts| {
            let twice = parts.groups[0].pending[0];
            parts.groups[0].pending.push(twice);
        },
        |parts| parts.groups[0].consumers[0].pending.clear(),
        |parts| {
            parts.groups[0].consumers[1]
                .pending
                .push(EntryId { ms: 5, seq: 1 })
        },
        |parts| parts.groups[0].consumers[1].name = Bytes::from_static(b"busy"),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let result = rewritten(change);
        assert!(result.is_err(), "change {at}: {result:?}");
    }
}

#[test]
fn old_streams_tell_how_far_a_group_has_read() {
    // Version 1: no sums beside the length and the last id, nothing read.
    let mut bytes = Vec::new();
    let mut strings = StringWriter::new(true);
    let mut body = Body::new(&mut bytes, &mut strings);
    let parts = stream();
    body.stream(1);
    body.stream_node(parts.nodes[0].master, &parts.nodes[0].listpack);
    for n in [1, 5, 2, 4] {
        body.len(n);
    }
    for (name, ms, seq) in [(b"a", 0, 0), (b"b", 5, 1), (b"c", 5, 2), (b"d", 6, 0)] {
        body.text(name);
        for n in [ms, seq, 0, 0] {
            body.len(n);
        }
    }
    let Ok(Taken::Object(Object::Stream(parts))) = read(15, &bytes, Product::Redis) else {
        panic!("not read");
    };
    let reads: Vec<Option<u64>> = parts
        .groups
        .iter()
        .map(|group| group.entries_read)
        .collect();
    assert_eq!(reads, [Some(0), Some(1), Some(1), None]);
    assert_eq!(
        (parts.sums.first_id, parts.sums.entries_added),
        (EntryId { ms: 5, seq: 1 }, 1)
    );
}

#[test]
fn every_type_has_a_name() {
    for ty in (0..=25).filter(|ty| ![6, 8].contains(ty)) {
        assert_ne!(type_name(ty), "unknown", "{ty}");
    }
    assert_eq!((type_name(6), type_name(26)), ("unknown", "unknown"));
}
