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
                    let removed = stream.trim(Trim {
                        threshold,
                        approximate: None,
                    });
                    assert_eq!(removed, model.len() as u64 - keep);
                    while model.len() as u64 > keep {
                        model.pop_first();
                    }
                }
                3 if rng.u8(..6) == 0 => {
                    let min = id(rng.u64(..n));
                    stream.trim(Trim {
                        threshold: Threshold::MinId(min),
                        approximate: None,
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
                };
                assert_eq!(stream.trim(trim), raw.trim(trim));
            }
            _ => {
                let first = stream.first_id.ms;
                let trim = Trim {
                    threshold: Threshold::MinId(id(first + rng.u64(1..150))),
                    approximate: Some(100),
                };
                assert_eq!(stream.trim(trim), raw.trim(trim));
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
        stream.trim(Trim {
            threshold: Threshold::MaxLen(max),
            approximate: Some(limit),
        })
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
