//! Lists against vectors.

use super::*;

fn all(list: &List) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    list.for_each(|item| all.push(item.to_vec()));
    all
}

fn step(rng: &mut fastrand::Rng, list: &mut List, model: &mut Vec<Vec<u8>>) {
    let value = match rng.u8(..8) {
        0 => vec![b'x'; rng.usize(..12_000)],
        4 => (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
        1..=3 => rng.i16(..).to_string().into_bytes(),
        _ => vec![b'a' + rng.u8(..3); 3],
    };
    let index = rng.usize(..=model.len());
    match rng.u8(..9) {
        0 | 1 => {
            list.push(End::Head, &value, None);
            model.insert(0, value);
        }
        2 | 3 => {
            list.push(End::Tail, &value, Some(&Bytes::from(value.clone())));
            model.push(value);
        }
        4 if index < model.len() => {
            list.set(index, &value, None);
            model[index] = value;
        }
        5 | 6 if index < model.len() => {
            let after = rng.bool();
            list.insert(index, after, &value, None);
            model.insert(index + usize::from(after), value);
        }
        7 => {
            let count = rng.usize(..4);
            list.remove_range(index, count);
            model.drain(index..(index + count).min(model.len()));
        }
        _ => {
            let count = rng.usize(..3);
            let from = if rng.bool() { End::Head } else { End::Tail };
            let removed = list.remove_equal(&value, from, count);
            let mut left = if count == 0 { usize::MAX } else { count };
            let before = model.len();
            let mut keep = |other: &Vec<u8>| {
                let goes = *other == value && left > 0;
                left -= usize::from(goes);
                !goes
            };
            match from {
                End::Head => model.retain(&mut keep),
                End::Tail => {
                    model.reverse();
                    model.retain(&mut keep);
                    model.reverse();
                }
            }
            assert_eq!(removed, before - model.len());
        }
    }
}

/// Every node near an end is open, every other one that compresses is not, and the sums are right.
fn check(list: &List, what: &str) {
    let nodes = list.nodes.len();
    for (at, node) in list.nodes.iter().enumerate() {
        let near = at < list.depth || at + list.depth >= nodes;
        let mut closed = node.clone();
        closed.close();
        let expected = list.depth > 0 && !near && closed.is_closed();
        assert_eq!(node.is_closed(), expected, "{what}: node {at} of {nodes}");
    }
    let bytes: usize = list.nodes.iter().map(Node::memory_bytes).sum();
    assert_eq!(list.node_bytes, bytes, "{what}");
    let len: usize = list.nodes.iter().map(Node::len).sum();
    assert_eq!(list.len, len, "{what}");
}

#[test]
fn a_list_is_a_vector() {
    for (seed, size) in [-1, -2, -5, 1, 3, 128].into_iter().enumerate() {
        for depth in 0..4 {
            let what = &format!("size {size} depth {depth}");
            let mut rng = fastrand::Rng::with_seed(seed as u64 * 4 + depth as u64);
            let limits = Limits {
                list_max_listpack_size: size,
                list_compress_depth: depth,
                ..Limits::default()
            };
            let (mut list, mut model) = (List::new(&limits), Vec::new());
            for n in 0..1500 {
                step(&mut rng, &mut list, &mut model);
                assert_eq!(list.len(), model.len(), "{what}");
                if n % 10 == 0 {
                    check(&list, what);
                }
            }
            check(&list, what);
            assert_eq!(depth > 0, list.nodes.iter().any(Node::is_closed), "{what}");
            assert_eq!(all(&list), model, "{what}");
            let mut back = Vec::new();
            let visited = list.try_each_back(usize::MAX, |item| {
                back.push(item.to_vec());
                Ok::<(), ()>(())
            });
            assert!(
                visited.is_ok() && back.iter().rev().eq(model.iter()),
                "{what}"
            );
            for (i, value) in model.iter().enumerate() {
                let with = list.with(i as i64, |item| item.to_vec());
                assert_eq!(with.as_ref(), Some(value), "{what}");
                let mut some = Vec::new();
                let stopped = list.try_each(i, 3, |item| {
                    some.push(item.to_vec());
                    if some.len() == 2 { Err(i) } else { Ok(()) }
                });
                assert!(some.iter().eq(model[i..].iter().take(2)), "{what}");
                assert_eq!(stopped.is_err(), some.len() == 2, "{what}");
            }
        }
    }
}

#[test]
fn compressed_nodes_take_less_memory() {
    let filled = |depth, run| {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut list = List::new(&Limits {
            list_compress_depth: depth,
            ..Limits::default()
        });
        for _ in 0..20_000 {
            let letters = (0..40 / run).map(|_| rng.u8(..));
            let value: Vec<u8> = letters.flat_map(|letter| vec![letter; run]).collect();
            list.push(End::Tail, &value, None);
        }
        check(&list, "filled");
        list
    };
    let (plain, packed) = (filled(0, 10), filled(1, 10));
    assert!(packed.memory_bytes() * 2 < plain.memory_bytes());
    assert_eq!(packed.listpack_bytes(), plain.listpack_bytes());
    assert_eq!(packed.node_count(), plain.node_count());
    assert!(!filled(1, 1).nodes.iter().any(Node::is_closed));
}

#[test]
fn nodes_are_closed_as_they_leave_the_ends() {
    let mut list = List::new(&Limits {
        list_max_listpack_size: 2,
        list_compress_depth: 2,
        ..Limits::default()
    });
    let closed = |list: &List| -> String {
        let nodes = list.nodes.iter();
        nodes
            .map(|node| if node.is_closed() { 'x' } else { 'o' })
            .collect()
    };
    for (pushed, expected) in [(4, "oo"), (8, "oooo"), (10, "ooxoo"), (16, "ooxxxxoo")] {
        while list.len() < pushed {
            list.push(End::Head, &[b'v'; 50], None);
        }
        assert_eq!(closed(&list), expected);
    }
    list.insert(7, true, b"z", None);
    assert_eq!(closed(&list), "ooxxoxxoo", "too small to compress");
    list.set(6, &[b'w'; 50], None);
    assert_eq!(closed(&list), "ooxxoxxoo");
    list.remove_range(0, 3);
    assert_eq!(closed(&list), "ooxoxxoo");
    list.drop_end(End::Tail);
    assert_eq!(closed(&list), "ooxoxxoo");
    list.drop_end(End::Tail);
    assert_eq!(closed(&list), "ooxoxoo");
    list.remove_equal(&[b'v'; 50], End::Head, 0);
    assert_eq!(closed(&list), "oo");
}

#[test]
fn nodes_hold_what_the_limit_says() {
    for (size, nodes) in [(-1, 26), (-2, 13), (3, 334), (1000, 13)] {
        let limits = Limits {
            list_max_listpack_size: size,
            ..Limits::default()
        };
        let mut list = List::new(&limits);
        for _ in 0..1000 {
            list.push(End::Tail, &[b'v'; 100], None);
        }
        assert_eq!(list.node_count(), nodes, "size {size}");
    }
}
