//! Streams against an ordered map, and against streams of which nothing is compressed.

use super::*;

fn id(n: u64) -> EntryId {
    EntryId { ms: n, seq: n % 3 }
}

fn contents<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<(EntryId, Vec<Vec<u8>>)> {
    entries
        .map(|entry| {
            let fields = entry.fields().flat_map(|(field, value)| [field, value]);
            (entry.id, fields.map(|item| item.to_vec()).collect())
        })
        .collect()
}

#[test]
fn a_stream_is_an_ordered_map() {
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            stream_node_max_entries: [1, 5, 100][rng.usize(..3)],
            ..Limits::default()
        };
        let mut stream = Stream::default();
        let mut model: BTreeMap<EntryId, Vec<Vec<u8>>> = BTreeMap::new();
        for n in 1..600 {
            match rng.u8(..10) {
                0 | 1 => {
                    let n = id(rng.u64(1..n + 1));
                    assert_eq!(stream.remove(n), model.remove(&n).is_some(), "seed {seed}");
                }
                2 if rng.u8(..6) == 0 => {
                    let keep = rng.u64(..model.len() as u64 + 1);
                    let threshold = Threshold::MaxLen(keep);
                    let trimmed = stream.trim(Trim {
                        threshold,
                        approximate: None,
                        refs: Refs::Keep,
                    });
                    assert_eq!(trimmed.removed, model.len() as u64 - keep);
                    while model.len() as u64 > keep {
                        model.pop_first();
                    }
                }
                3 if rng.u8(..6) == 0 => {
                    let min = id(rng.u64(..n));
                    stream.trim(Trim {
                        threshold: Threshold::MinId(min),
                        approximate: None,
                        refs: Refs::Keep,
                    });
                    model.retain(|&id, _| id >= min);
                }
                _ => {
                    let value = rng.u16(..).to_string().into_bytes();
                    let mut fields: Vec<&[u8]> = vec![b"a", &value];
                    if rng.u8(..3) == 0 {
                        fields.extend([&b"b"[..], b"x"]);
                    }
                    stream.append(id(n), &fields, &limits);
                    model.insert(id(n), fields.iter().map(|text| text.to_vec()).collect());
                }
            }
            assert_eq!(stream.len(), model.len() as u64);
            let first = model.keys().next().copied().unwrap_or_default();
            assert_eq!(stream.first_id, first, "seed {seed}");
        }
        let all: Vec<_> = model.clone().into_iter().collect();
        assert_eq!(contents(stream.range(EntryId::MIN, EntryId::MAX)), all);
        for _ in 0..50 {
            let (a, b) = (id(rng.u64(..600)), id(rng.u64(..600)));
            let inside = all.iter().filter(|(id, _)| (a..=b).contains(id)).cloned();
            let inside: Vec<_> = inside.collect();
            assert_eq!(contents(stream.range(a, b)), inside, "seed {seed}");
            let back: Vec<_> = inside.into_iter().rev().collect();
            assert_eq!(contents(stream.range_back(a, b)), back, "seed {seed}");
        }
        let bytes: usize = stream.nodes.iter().map(|(_, node)| node.bytes()).sum();
        assert_eq!(stream.node_bytes, bytes);
    }
}

/// The same as a stream of which nothing is compressed, under deletions and trims.
#[test]
fn the_past_of_a_stream_is_compressed() {
    let limits = Limits {
        stream_node_max_entries: 100,
        ..Limits::default()
    };
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut stream, mut raw) = (Stream::default(), Stream::default());
    let is_closed = |stream: &Stream| {
        let closed = |(_, node): &(EntryId, &Node)| matches!(node, Node::Closed(_));
        stream.nodes.iter().filter(closed).count()
    };
    for n in 1..=4000 {
        let value = format!("{}", n % 77);
        let fields: [&[u8]; 4] = [b"sensor", b"7", b"value", value.as_bytes()];
        stream.append(id(n), &fields, &limits);
        raw.append(id(n), &fields, &limits);
        raw.nodes
            .before_last_mut(OPEN_NODES)
            .map(|node| node.open().len());
    }
    raw.node_bytes = raw.nodes.iter().map(|(_, node)| node.bytes()).sum();
    assert_eq!((is_closed(&stream), is_closed(&raw)), (24, 0));
    assert!(stream.node_bytes < raw.node_bytes * 2 / 3);
    for step in 0..60 {
        let min = rng.u64(1..4000);
        match step % 6 {
            0..4 => {
                let id = id(min);
                assert_eq!(stream.remove(id), raw.remove(id));
            }
            4 => {
                let threshold = Threshold::MaxLen(stream.len() - rng.u64(1..40));
                let approximate = None;
                let trim = Trim {
                    threshold,
                    approximate,
                    refs: Refs::Keep,
                };
                assert_eq!(stream.trim(trim).removed, raw.trim(trim).removed);
            }
            _ => {
                let first = stream.first_id.ms;
                let trim = Trim {
                    threshold: Threshold::MinId(id(first + rng.u64(1..150))),
                    approximate: Some(100),
                    refs: Refs::Keep,
                };
                assert_eq!(stream.trim(trim).removed, raw.trim(trim).removed);
            }
        }
        let (from, to) = (id(min), id(min + 300));
        assert_eq!(
            contents(stream.range(from, to)),
            contents(raw.range(from, to))
        );
        let back = contents(stream.range_back(from, to));
        assert_eq!(back, contents(raw.range_back(from, to)));
        assert_eq!(stream.get(from).is_some(), raw.get(from).is_some());
        assert_eq!((stream.len(), stream.first_id), (raw.len(), raw.first_id));
        let bytes: usize = stream.nodes.iter().map(|(_, node)| node.bytes()).sum();
        assert_eq!(stream.node_bytes, bytes);
    }
    assert!(is_closed(&stream) > 0, "some of the past is left");
    // What is behind the last node that was compressed goes, and entries join that one again.
    let is_it = |(_, node): &(EntryId, &Node)| matches!(node, Node::Closed(_));
    let last_closed = stream.nodes.iter().rfind(is_it);
    let from = last_closed.map(|(master, _)| master).unwrap_or_default();
    let tail: Vec<EntryId> = stream
        .range(from, EntryId::MAX)
        .skip(60)
        .map(|it| it.id)
        .collect();
    for id in tail {
        assert!(stream.remove(id) && raw.remove(id));
    }
    for n in 4001..4100 {
        stream.append(id(n), &[b"a", b"b"], &limits);
        raw.append(id(n), &[b"a", b"b"], &limits);
    }
    let all = contents(stream.range(EntryId::MIN, EntryId::MAX));
    assert_eq!(all, contents(raw.range(EntryId::MIN, EntryId::MAX)));
    assert!(
        stream
            .nodes
            .iter()
            .map(|(id, _)| id)
            .eq(raw.nodes.iter().map(|(id, _)| id))
    );
}

#[test]
fn approximate_trims_take_whole_nodes() {
    let limits = Limits {
        stream_node_max_entries: 10,
        ..Limits::default()
    };
    let mut stream = Stream::default();
    (1..=100).for_each(|n| stream.append(id(n), &[b"f", b"v"], &limits));
    let trim = |stream: &mut Stream, max, limit| {
        let trimmed = stream.trim(Trim {
            threshold: Threshold::MaxLen(max),
            approximate: Some(limit),
            refs: Refs::Keep,
        });
        trimmed.removed
    };
    assert_eq!(trim(&mut stream, 75, 1000), 20);
    assert_eq!(trim(&mut stream, 0, 30), 30);
    assert_eq!(stream.len(), 50);
}

/// As a payload of RESTORE may claim.
#[test]
fn a_stream_may_hold_more_entries_than_were_ever_added() {
    let mut stream = Stream::default();
    (5..9).for_each(|n| stream.append(id(n), &[b"f", b"v"], &Limits::default()));
    stream.entries_added = 1;
    let group = Group::new(id(1), None);
    assert_eq!(stream.lag(&group), Some(4));
    stream.entries_added = u64::MAX;
    stream.append(id(10), &[b"f", b"v"], &Limits::default());
    assert_eq!(stream.entries_added, 0);
}

/// A stream of so many entries in nodes of so many, some of which two groups have read and have not
/// acknowledged.
fn shared_stream(rng: &mut fastrand::Rng, entries: u64, node_entries: usize) -> Stream {
    let limits = Limits {
        stream_node_max_entries: node_entries as _,
        ..Limits::default()
    };
    let mut stream = Stream::default();
    (1..=entries).for_each(|n| stream.append(id(n), &[b"f", b"v"], &limits));
    for name in [&b"g"[..], b"h"] {
        let read = rng.u64(..entries + 2);
        let mut group = Group::new(id(read), None);
        group.create_consumer(b"c", 0);
        for n in (1..=read).filter(|_| rng.u8(..4) == 0) {
            group.deliver(id(n), b"c", 0, 1);
        }
        stream.groups.insert(name.into(), group);
    }
    for n in (1..=entries).filter(|_| rng.u8(..8) == 0) {
        stream.remove(id(n));
    }
    stream
}

#[test]
fn trims_spare_or_unreference_what_groups_refer_to() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (entries, node_entries) = (rng.u64(1..60), [1, 4, 100][rng.usize(..3)]);
        let mut stream = shared_stream(&mut rng, entries, node_entries);
        let before = stream.clone();
        let ids = |stream: &Stream| -> Vec<EntryId> {
            let all = stream.range(EntryId::MIN, EntryId::MAX);
            all.map(|entry| entry.id).collect()
        };
        let refs = [Refs::Drop, Refs::Acked][rng.usize(..2)];
        let threshold = match rng.bool() {
            true => Threshold::MaxLen(rng.u64(..entries + 1)),
            false => Threshold::MinId(id(rng.u64(..entries + 2))),
        };
        let trim = Trim {
            threshold,
            approximate: rng.bool().then_some(u64::MAX),
            refs,
        };
        let trimmed = stream.trim(trim);
        let spares = |len: u64, id: EntryId| match threshold {
            Threshold::MaxLen(max) => len <= max,
            Threshold::MinId(min) => id >= min,
        };
        let (mut len, mut kept) = (before.len(), Vec::new());
        for id in ids(&before) {
            let is_spared = refs == Refs::Acked && before.is_referenced(id);
            match spares(len, id) || is_spared {
                true => kept.push(id),
                false => len -= 1,
            }
        }
        let left = ids(&stream);
        let context = format!("seed {seed}: {trim:?} of {:?}", ids(&before));
        // Behind a node of which some stay Redis looks no further.
        match node_entries == 1 || refs == Refs::Drop {
            true => assert_eq!(left, kept, "{context}"),
            false => assert!(kept.iter().all(|id| left.contains(id)), "{context}"),
        }
        assert_eq!(trimmed.removed, before.len() - stream.len(), "{context}");
        let first = left.first().copied();
        assert_eq!(stream.first_id, first.unwrap_or_default(), "{context}");
        let gone = ids(&before).into_iter().filter(|id| !left.contains(id));
        let gone: Vec<EntryId> = gone.collect();
        let behind = gone
            .iter()
            .filter(|&&id| first.is_some_and(|first| first < id));
        assert!(trimmed.gaps.iter().eq(behind), "{context}");
        for (name, group) in &before.groups {
            let pending = group.pending().keys().filter(|id| gone.contains(id));
            let noted = trimmed.unreferenced.get(name).into_iter().flatten();
            match refs {
                Refs::Acked => assert_eq!((pending.count(), noted.count()), (0, 0), "{context}"),
                _ => assert!(noted.eq(pending), "{context}"),
            }
        }
        let bytes: usize = stream.nodes.iter().map(|(_, node)| node.bytes()).sum();
        assert_eq!(stream.node_bytes, bytes, "{context}");
    }
}

#[test]
fn limits_of_a_trim_hold_whatever_refers_to_entries() {
    let limits = Limits {
        stream_node_max_entries: 10,
        ..Limits::default()
    };
    let mut stream = Stream::default();
    (1..=100).for_each(|n| stream.append(id(n), &[b"f", b"v"], &limits));
    let mut trim = |max, limit| {
        let trimmed = stream.trim(Trim {
            threshold: Threshold::MaxLen(max),
            approximate: Some(limit),
            refs: Refs::Acked,
        });
        trimmed.removed
    };
    assert_eq!((trim(75, 1000), trim(0, 9), trim(0, 30)), (25, 5, 30));
}

#[test]
fn what_is_pending_is_known_by_age() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut group = Group::default();
        let names = [&b"a"[..], b"b", b"c"];
        for step in 0..200 {
            if step == 50 {
                group.order_by_time();
            }
            let (one, at_ms, name) = (id(rng.u64(..30)), rng.i64(..50), names[rng.usize(..3)]);
            match rng.u8(..8) {
                0..4 => {
                    group.create_consumer(name, 0);
                    group.deliver(one, name, at_ms, 1);
                }
                4 | 5 => drop(group.acknowledge(one)),
                6 => group.redeliver(one, at_ms),
                _ if rng.u8(..4) == 0 => drop(group.delete_consumer(name)),
                _ => {}
            }
            let pending = group.pending().iter();
            let pending = pending.map(|(&id, pending)| (pending.delivered_at_ms, id));
            let mut wanted: Vec<(i64, EntryId)> = pending.filter(|_| step >= 50).collect();
            wanted.sort();
            assert!(group.by_time().eq(wanted), "seed {seed}, step {step}");
        }
    }
}
