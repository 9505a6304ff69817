use super::*;

fn items(pack: &Listpack) -> Vec<Vec<u8>> {
    pack.iter().map(Item::to_vec).collect()
}

#[test]
fn bytes_are_those_of_redis() {
    // Captured: DUMP of a list made by RPUSH l 1 -1 hello 300 -70000.
    let mut pack = Listpack::new();
    for text in ["1", "-1", "hello", "300", "-70000"] {
        pack.push(text.as_bytes());
    }
    let mut expected = vec![0x1b, 0, 0, 0, 5, 0, 1, 1, 0xdf, 0xff, 2, 0x85];
    expected.extend_from_slice(b"hello\x06");
    expected.extend_from_slice(&[0xc1, 0x2c, 2, 0xf2, 0x90, 0xee, 0xfe, 4, 0xff]);
    assert_eq!(pack.as_bytes(), expected);
}

#[test]
fn integers_of_every_width_come_back() {
    let mut pack = Listpack::new();
    let mut expected = Vec::new();
    for shift in 0..64 {
        for delta in [-1i64, 0, 1] {
            for sign in [1i64, -1] {
                let n = (1i64 << shift).wrapping_add(delta).wrapping_mul(sign);
                pack.push(n.to_string().as_bytes());
                expected.push(Item::Int(n));
            }
        }
    }
    assert_eq!(pack.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn changes_agree_with_a_vector() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pack = Listpack::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for _ in 0..200 {
            let text = match rng.u8(..4) {
                0 => rng.i64(..).to_string().into_bytes(),
                1 => rng.i8(..).to_string().into_bytes(),
                2 => vec![b'x'; rng.usize(..200)],
                _ => vec![b'y'; if rng.u8(..) == 0 { 20_000 } else { 5 }],
            };
            let index = rng.usize(..=model.len());
            match (rng.u8(..5), pack.seek(index as isize)) {
                (0, Some(pos)) => {
                    pack.replace(pos, &text);
                    model[index] = text;
                }
                (1, Some(pos)) => {
                    let count = rng.usize(1..4);
                    pack.remove_range(pos, count);
                    model.drain(index..(index + count).min(model.len()));
                }
                (_, Some(pos)) => {
                    pack.insert_before(pos, &text);
                    model.insert(index, text);
                }
                (_, None) => {
                    pack.push(&text);
                    model.push(text);
                }
            }
            assert_eq!(pack.len(), model.len(), "seed {seed}");
        }
        assert_eq!(items(&pack), model, "seed {seed}");
        let back: Vec<_> = pack
            .last()
            .into_iter()
            .flat_map(|last| pack.iter_back_from(last))
            .map(Item::to_vec)
            .collect();
        assert!(back.iter().rev().eq(model.iter()), "seed {seed}");
        let copy = Listpack::from_bytes_checked(pack.as_bytes().to_vec());
        assert_eq!(copy.as_ref(), Some(&pack), "seed {seed}");
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let mut pack = Listpack::new();
    for text in ["1", "hello", "70000", &"z".repeat(5000)] {
        pack.push(text.as_bytes());
    }
    let good = pack.as_bytes();
    for len in 0..good.len() {
        assert!(Listpack::from_bytes_checked(good[..len].to_vec()).is_none());
    }
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..5000 {
        let mut bad = good.to_vec();
        bad[rng.usize(..good.len())] ^= 1 << rng.u8(..8);
        if let Some(pack) = Listpack::from_bytes_checked(bad) {
            assert_eq!(pack.iter().count(), pack.len());
        }
    }
}

#[test]
fn more_elements_than_the_header_counts() {
    let mut pack = Listpack::new();
    for _ in 0..70_000 {
        pack.push(b"1");
    }
    assert_eq!(pack.len(), 70_000);
    let first = pack.first().expect("not empty");
    pack.remove_range(first, 10_000);
    assert_eq!(pack.len(), 60_000);
    assert_eq!(&pack.as_bytes()[4..6], 60_000u16.to_le_bytes());
}
