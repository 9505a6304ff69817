use super::super::Writer;
use super::*;

fn encode(args: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
    }
    bytes
}

fn read(bytes: &[u8], piece: usize) -> (Vec<Item>, Option<Fault>) {
    let mut reader = Reader::new(bytes.starts_with(b"#"));
    let mut items = Vec::new();
    let mut pieces = bytes.chunks(piece.max(1));
    loop {
        match reader.next_item() {
            Err(fault) => return (items, Some(fault)),
            Ok(Some(item)) => items.push(item),
            Ok(None) => match pieces.next() {
                Some(piece) => reader.feed(piece),
                None if reader.ended => return (items, None),
                None => reader.end_input(),
            },
        }
    }
}

fn read_framed(bytes: &[u8]) -> (Vec<Item>, Option<Fault>) {
    let mut reader = Reader::new(true);
    reader.feed(bytes);
    reader.end_input();
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Err(fault) => return (items, Some(fault)),
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
        }
    }
}

/// A segment with random units; returns it, its items and where each unit ends.
fn segment(rng: &mut fastrand::Rng) -> (Vec<u8>, Vec<Item>, Vec<usize>) {
    let mut writer = Writer::default();
    let (mut bytes, mut items, mut ends) = (Vec::new(), Vec::new(), vec![0]);
    for n in 0..rng.u64(1..8) {
        let at = bytes.len();
        let mut commands = Vec::new();
        let mut db = None;
        for _ in 0..rng.usize(1..5) {
            let next = rng.u32(..12);
            let command = encode(&["SET", "key", &"#PINION \r\n".repeat(rng.usize(..4))]);
            writer.push(next, &command);
            if db != Some(next) {
                db = Some(next);
                commands.extend(encode(&["SELECT", &next.to_string()]));
            }
            commands.extend(command);
        }
        let (mut mark, mut barrier) = (None, None);
        match rng.u32(..4) {
            0 => {
                let id = rng.u64(..);
                let shards = SmallVec::from_slice(&[0, 3]);
                mark = Some(Mark { id, shards });
                writer.seal_transaction(mark.as_ref().unwrap());
            }
            1 => {
                barrier = Some(n);
                let shards = SmallVec::from_slice(&[0, 1, 2]);
                mark = Some(Mark { id: n, shards });
                writer.seal_barrier(mark.as_ref().unwrap());
            }
            _ => writer.seal(),
        }
        writer.take(&mut bytes);
        ends.push(bytes.len());
        items.push(Item {
            at: at as u64,
            commands,
            seq: n + 1,
            mark,
            barrier,
            follows: None,
        });
    }
    (bytes, items, ends)
}

#[test]
fn segments_read_back_in_pieces_of_any_size() {
    let mut rng = fastrand::Rng::with_seed(8);
    for piece in [1, 2, 7, 100, 100_000] {
        let (bytes, items, _) = segment(&mut rng);
        assert_eq!(read(&bytes, piece), (items, None));
    }
}

#[test]
fn a_segment_cut_anywhere_is_good_up_to_its_last_whole_unit() {
    let mut rng = fastrand::Rng::with_seed(9);
    let (bytes, items, ends) = segment(&mut rng);
    for cut in 0..bytes.len() {
        let whole = ends.iter().rposition(|&end| end <= cut).unwrap();
        let (read, fault) = read(&bytes[..cut], 64);
        assert_eq!(read, items[..whole]);
        let valid_to = ends[whole] as u64;
        let torn = (cut > ends[whole]).then_some(Fault::Torn { valid_to });
        assert_eq!(fault, torn, "cut at {cut}");
    }
}

#[test]
fn room_made_ahead_is_no_part_of_a_segment() {
    let mut rng = fastrand::Rng::with_seed(12);
    let (bytes, items, _) = segment(&mut rng);
    for len in [0, 1, 1_500, 100_000] {
        let room = [&vec![b'#'; len + 1][..], b"\n"].concat();
        let with_room = [&bytes[..], &room].concat();
        for piece in [1_000, 1 << 20] {
            assert_eq!(read(&with_room, piece), (items.clone(), None), "{len}");
        }
        let mut reader = Reader::new(true);
        reader.feed(&with_room);
        while reader.next_item().unwrap().is_some() {}
        assert_eq!(reader.end(), bytes.len() as u64);
        // A server that knows nothing of room appends behind it.
        let set = encode(&["SET", "k", "v"]);
        reader.feed(&set);
        assert_eq!(reader.next_item().unwrap().unwrap().commands, set);
        assert_eq!(reader.end(), (with_room.len() + set.len()) as u64);
        // The file did not grow to its end.
        let valid_to = bytes.len() as u64;
        let torn = (items.clone(), Some(Fault::Torn { valid_to }));
        assert_eq!(read(&with_room[..bytes.len() + len + 1], 1_000), torn);
    }
}

/// Units that were written at once come to the disk in any order, those before them do not.
#[test]
fn a_write_through_is_torn_anywhere_but_what_was_synced_is_not() {
    let (mut writer, mut bytes) = (Writer::default(), Vec::new());
    let mut begins = Vec::new();
    for n in 0..6 {
        // Three units a write.
        if n % 3 == 0 {
            writer.synced(Some(bytes.len() as u64));
        }
        begins.push(bytes.len());
        writer.push(0, &encode(&["SET", "k", &"v".repeat(40 + n)]));
        writer.seal();
        writer.take(&mut bytes);
    }
    let fault = |lost: std::ops::Range<usize>| {
        let mut left = bytes.clone();
        left[lost].fill(b'#');
        read_framed(&left).1
    };
    for &begin in &begins[3..] {
        let valid_to = begin as u64;
        for lost in [begin..begin + 60, begin + 60..begin + 80] {
            assert_eq!(fault(lost), Some(Fault::Torn { valid_to }), "{begin}");
        }
    }
    // The whole unit, up to the line's end.
    let valid_to = begins[3] as u64;
    assert_eq!(fault(begins[3]..begins[4]), Some(Fault::Torn { valid_to }));
    for &begin in &begins[..3] {
        let damaged = fault(begin..begin + 60);
        assert!(
            matches!(damaged, Some(Fault::Damaged { .. })),
            "{begin}: {damaged:?}"
        );
    }
}

#[test]
fn nothing_is_read_that_was_not_written() {
    let mut rng = fastrand::Rng::with_seed(10);
    let (mut torn, mut damaged) = (0, 0);
    for _ in 0..400 {
        let (mut bytes, items, ends) = segment(&mut rng);
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u32(..8);
        let (read, fault) = read_framed(&bytes);
        assert!(read.len() <= items.len());
        for item in &read {
            assert!(items.contains(item));
        }
        match fault {
            Some(Fault::Torn { valid_to }) => {
                torn += 1;
                assert!(ends.contains(&(valid_to as usize)));
            }
            Some(Fault::Damaged { .. }) => damaged += 1,
            None => {}
        }
    }
    assert!(torn > 20 && damaged > 100, "{torn} torn, {damaged} damaged");
}

#[test]
fn a_bit_that_turns_before_the_last_unit_is_damage() {
    let (mut writer, mut bytes, mut last) = (Writer::default(), Vec::new(), 0);
    for len in [40, 300, 1] {
        last = bytes.len();
        writer.push(0, &encode(&["SET", "k", &"v".repeat(len)]));
        writer.seal();
        writer.take(&mut bytes);
    }
    let written = read_framed(&bytes).0;
    for (at, bit) in (0..last).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut turned = bytes.clone();
        turned[at] ^= 1 << bit;
        match read_framed(&turned) {
            // The same in other letters.
            (items, None) => assert_eq!(items, written, "bit {bit} at {at}"),
            (_, Some(Fault::Damaged { .. })) => {}
            (_, torn) => panic!("bit {bit} at {at}: {torn:?}"),
        }
    }
}

#[test]
fn a_value_that_looks_like_a_segment_is_none() {
    let value = String::from_utf8(segment(&mut fastrand::Rng::with_seed(13)).0).unwrap();
    let (mut writer, mut bytes) = (Writer::default(), Vec::new());
    writer.push(0, &encode(&["SET", "k", "v"]));
    writer.seal();
    writer.take(&mut bytes);
    let valid_to = bytes.len() as u64;
    writer.push(0, &encode(&["SET", "segment", &value]));
    writer.push(1, &encode(&["SET", "k", "w"]));
    writer.seal();
    writer.take(&mut bytes);
    for cut in valid_to as usize + 1..bytes.len() {
        let (items, fault) = read(&bytes[..cut], 1 << 20);
        assert_eq!(
            (items.len(), fault),
            (1, Some(Fault::Torn { valid_to })),
            "{cut}"
        );
    }
}

/// Bytes that were changed, lost, doubled or made up: an end by the rules, in whatever pieces
/// they arrive, and no more memory than they take.
#[test]
fn any_bytes_come_to_an_end() {
    let mut rng = fastrand::Rng::with_seed(13);
    let odd: [&[u8]; 6] = [
        b"#PINION seq=1 len=18446744073709551615 crc=0000000000000000\r\n",
        b"*1048576\r\n$4294967296\r\n",
        b"*-1\r\n",
        b"#TS:1\r\n",
        b"\0\0\0\0",
        b"*1\r\n$5\r\nMULTI\r\n",
    ];
    let (mut torn, mut damaged, mut good) = (0, 0, 0);
    for _ in 0..1_500 {
        let (mut bytes, items, _) = segment(&mut rng);
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..=bytes.len());
            let end = rng.usize(at..=bytes.len());
            match rng.u8(..5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, odd[rng.usize(..6)].iter().copied())),
                3 => bytes.extend((0..rng.usize(..40)).map(|_| rng.u8(..))),
                _ => bytes[at..end].fill(0),
            }
        }
        let (whole, fault) = read_framed(&bytes);
        let units = whole.iter().filter(|item| item.seq > 0);
        assert!(units.zip(&items).all(|(read, written)| {
            (&read.commands, &read.mark) == (&written.commands, &written.mark)
        }));
        let kept: usize = whole.iter().map(|item| item.commands.len()).sum();
        assert!(kept <= bytes.len());
        match fault {
            Some(Fault::Torn { valid_to }) => {
                torn += 1;
                let again = read_framed(&bytes[..valid_to as usize]);
                assert_eq!(again, (whole, None), "what is cut off leaves a good file");
            }
            Some(Fault::Damaged { at, .. }) => {
                damaged += 1;
                assert!(at <= bytes.len() as u64);
            }
            None => good += 1,
        }
        let unframed = read(&bytes, 1 + rng.usize(..50));
        assert!(unframed.0.len() <= bytes.len());
    }
    assert!(
        torn > 200 && damaged > 100 && good > 5,
        "{torn} {damaged} {good}"
    );
}

/// Found by the fuzz target: a comment was too long only if it came in pieces.
#[test]
fn a_comment_is_too_long_however_it_comes() {
    for (bytes, is_bad) in [(1024, false), (1025, true)] {
        let mut file = b"# ".to_vec();
        file.resize(bytes, b'x');
        file.extend_from_slice(b"\n");
        file.extend(encode(&["SET", "k", "v"]));
        for piece in [1, 100, file.len()] {
            for framed in [false, true] {
                let mut reader = Reader::new(framed);
                let mut fault = None;
                for piece in file.chunks(piece) {
                    reader.feed(piece);
                    fault = fault.or(reader.next_item().err());
                }
                reader.end_input();
                fault = fault.or(reader.next_item().err());
                assert_eq!(
                    fault.is_some(),
                    is_bad || framed,
                    "{bytes}, {piece}, {framed}"
                );
            }
        }
    }
}

#[test]
fn what_redis_appends_to_a_segment_is_read() {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut bytes, items, _) = segment(&mut rng);
    bytes.extend_from_slice(b"#TS:5\r\n");
    let set = encode(&["SET", "k", "v"]);
    bytes.extend_from_slice(&set);
    let (read, fault) = read_framed(&bytes);
    assert_eq!((read.len(), fault), (items.len() + 1, None));
    assert_eq!(read.last().unwrap().commands, set);
    // And what follows it again: the next unit, and no other.
    for (seq, is_good) in [(items.len() as u64, true), (items.len() as u64 + 1, false)] {
        let mut writer = Writer::resume(seq, 0, seq);
        writer.push(3, &set);
        writer.seal();
        let mut bytes = bytes.clone();
        writer.take(&mut bytes);
        let (read, fault) = read_framed(&bytes);
        assert_eq!(
            (fault.is_none(), read.len() == items.len() + 2),
            (is_good, is_good)
        );
    }
}

#[test]
fn files_of_redis_are_read_command_by_command() {
    let set = encode(&["SET", "k", "v"]);
    let transaction = [encode(&["MULTI"]), set.clone(), encode(&["exec"])].concat();
    let file = [&set[..], b"#TS:123\r\n", &transaction, &set].concat();
    let (items, fault) = read(&file, 10);
    let commands: Vec<&[u8]> = items.iter().map(|item| &item.commands[..]).collect();
    assert_eq!(
        (commands, fault),
        (vec![&set[..], &transaction, &set], None)
    );
    let named: Vec<&[u8]> = names(&file).collect();
    assert_eq!(named, [&b"SET"[..], b"MULTI", b"SET", b"exec", b"SET"]);
    // A transaction without its end is torn from its beginning.
    let cut = set.len() + 9 + transaction.len() - 1;
    let valid_to = set.len() as u64;
    assert_eq!(read(&file[..cut], 10).1, Some(Fault::Torn { valid_to }));
    for bad in [
        "*x\r\n",
        "*1\r\n:1\r\n",
        "$3\r\nSET\r\n",
        "*1\r\n$2\r\nSET\r\n",
        "*0\r\n",
    ] {
        let file = [&set[..], bad.as_bytes(), &set].concat();
        let at = set.len() as u64;
        let is_found =
            matches!(read(&file, 10).1, Some(Fault::Damaged { at: found, .. }) if found == at);
        assert!(is_found, "{bad:?}");
    }
}
