//! Reading a segment, or an append-only file that Redis wrote.
//!
//! Segments are read unit by unit; a file without units is read command by command, transactions
//! as wholes. What ends too early is *torn*: the end of the file was not written completely when the
//! server ended. Everything else that cannot be read is *damaged*. A unit with a wrong checksum is
//! torn if no good unit follows it: the kernel may write the last pages in any order. Nor is it damage if
//! those that follow were made before its place was on the disk, see [`super::segment`]. Commands
//! outside of units are those of a Redis that wrote the file before or went on with it; units may
//! follow them again, and none of their numbers may be missing.

use smallvec::SmallVec;

use super::segment::{CRC, HEAD, HEAD_MAX_BYTES, Mark, checksum};

/// Longest comment. Redis: AOF_ANNOTATION_LINE_MAX_LEN.
const COMMENT_MAX_BYTES: usize = 1024;
/// What is looked at to tell what kind of file it is.
pub const FRONT_BYTES: usize = 64 * 1024;
/// Arguments of one command; more is damage.
const ARGS_MAX: usize = 1 << 20;
/// Bytes of one argument; more is damage.
const ARG_MAX_BYTES: usize = 4 << 30;

/// Something that counts as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where in the file it begins.
    pub at: u64,
    /// Its commands, encoded as RESP.
    pub commands: Vec<u8>,
    /// The number of the unit, from 1; 0 outside of units.
    pub seq: u64,
    pub mark: Option<Mark>,
    pub barrier: Option<u64>,
    /// It opens a segment: how many of the same process it follows, and how many units are theirs.
    pub follows: Option<(u64, u64)>,
}

/// Why a file cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is good up to here, and what follows was not written completely.
    Torn {
        valid_to: u64,
    },
    Damaged {
        at: u64,
        reason: &'static str,
    },
}

/// Reads a file from bytes as they arrive.
#[derive(Debug)]
pub struct Reader {
    /// What comes next stands in units, unless a server that knows none has appended to the file.
    framed: bool,
    bytes: Vec<u8>,
    /// Read bytes at the front of `bytes`.
    from: usize,
    /// Where in the file `bytes` begins.
    base: u64,
    ended: bool,
    /// Number of the last unit.
    seq: u64,
    /// Where in the file the last item ended: comments behind it belong to the next.
    good: u64,
    /// Where room that was made ahead begins, if nothing stands behind it.
    room: Option<u64>,
}

/// Whether a file with this front is a segment of ours: a unit begins near it.
pub fn is_framed(front: &[u8]) -> bool {
    let front = &front[..front.len().min(FRONT_BYTES)];
    front
        .windows(HEAD.len())
        .any(|window| window == HEAD.as_bytes())
}

/// Whether a file with this front begins with a snapshot, as the base of Redis 7 does and single
/// files of the servers before may.
pub fn is_snapshot(front: &[u8]) -> bool {
    front.starts_with(b"REDIS")
}

/// How far a piece of input reaches.
enum Found {
    Whole(usize),
    /// More input is needed.
    More,
    Bad(&'static str),
}

impl Reader {
    /// `framed`: a segment of ours, in which nothing stands outside of units.
    pub fn new(framed: bool) -> Reader {
        Reader {
            framed,
            bytes: Vec::new(),
            from: 0,
            base: 0,
            ended: false,
            seq: 0,
            good: 0,
            room: None,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.from);
        self.base += self.from as u64;
        self.from = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// There is no more input.
    pub fn end_input(&mut self) {
        self.ended = true;
    }

    /// Where in the file the next item begins.
    pub fn position(&self) -> u64 {
        self.base + self.from as u64
    }

    /// Where in the file the next unit is to be written: over room that was made ahead.
    pub fn end(&self) -> u64 {
        self.room.unwrap_or(self.position())
    }

    /// The number of the last unit, 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// The next item; `None` if more input is needed or, once there is none, at the end.
    pub fn next_item(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Ok(None);
            }
            if rest[0] != b'#' {
                // A torn end may look like anything.
                let is_command = !matches!(command(rest), Found::Bad(_));
                if self.framed && !is_command {
                    return self.bad_unit("something stands outside of units");
                }
                if self.framed && matches!(command(rest), Found::More) {
                    return self.incomplete();
                }
                self.framed = false;
                return self.commands();
            }
            match rest.iter().position(|&byte| byte != b'#') {
                None => return self.incomplete(),
                Some(len) if rest[len] == b'\n' => {
                    self.room.get_or_insert(self.base + self.from as u64);
                    self.from += len + 1;
                    continue;
                }
                Some(_) => {}
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                if rest.len() > COMMENT_MAX_BYTES && self.framed {
                    return self.bad_unit("a comment is too long");
                }
                if rest.len() > COMMENT_MAX_BYTES {
                    return Err(self.damaged("a comment is too long"));
                }
                return self.incomplete();
            };
            if end > COMMENT_MAX_BYTES {
                // Whether it came in one piece or in several: Redis takes the rest for a command.
                return match self.framed {
                    true => self.bad_unit("a comment is too long"),
                    false => Err(self.damaged("a comment is too long")),
                };
            }
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            if line.starts_with(HEAD) {
                self.framed = true;
                return self.unit(line.trim_end(), end + 1);
            }
            if self.framed && !line.starts_with("#TS:") {
                return self.bad_unit("the line before a unit cannot be read");
            }
            self.from += end + 1;
        }
    }

    fn damaged(&self, reason: &'static str) -> Fault {
        Fault::Damaged {
            at: self.position(),
            reason,
        }
    }

    fn incomplete(&self) -> Result<Option<Item>, Fault> {
        if self.ended {
            let valid_to = self.good;
            return Err(Fault::Torn { valid_to });
        }
        Ok(None)
    }

    /// A unit whose line ends after `head_len` bytes.
    fn unit(&mut self, head: &str, head_len: usize) -> Result<Option<Item>, Fault> {
        let Some(head) = Head::parse(head).filter(|_| head_len <= HEAD_MAX_BYTES + 2) else {
            return self.bad_unit("the line before a unit cannot be read");
        };
        let Some(payload) = self.rest()[head_len..].get(..head.len) else {
            return self.incomplete();
        };
        if !head.is_sum_of(payload) {
            return self.bad_unit("a unit's checksum is wrong");
        }
        if head.seq != self.seq + 1 {
            return self.bad_unit("a unit is missing");
        }
        let item = Item {
            at: self.position(),
            commands: payload.to_vec(),
            seq: head.seq,
            mark: head.mark,
            barrier: head.barrier,
            follows: head.follows,
        };
        self.seq = head.seq;
        self.from += head_len + head.len;
        self.good = self.position();
        self.room = None;
        Ok(Some(item))
    }

    /// A unit that is not as it was written, or not there: torn, unless a good one follows that was
    /// made when this place was on the disk.
    fn bad_unit(&mut self, reason: &'static str) -> Result<Option<Item>, Fault> {
        if !self.ended {
            // All of the rest is needed to tell.
            return Ok(None);
        }
        let rest = self.rest();
        let heads = rest
            .windows(HEAD.len())
            .enumerate()
            .filter(|(_, window)| *window == HEAD.as_bytes());
        for (at, _) in heads {
            let after = &rest[at..];
            let Some(end) = after.iter().position(|&byte| byte == b'\n') else {
                continue;
            };
            let line = String::from_utf8_lossy(&after[..end]).into_owned();
            let is_good = |head: Head| {
                let payload = after[end + 1..].get(..head.len);
                payload.is_some_and(|payload| head.is_sum_of(payload))
            };
            let is_later = |head: &Head| head.synced.is_none_or(|synced| synced > self.good);
            if Head::parse(line.trim_end()).is_some_and(|head| is_later(&head) && is_good(head)) {
                return Err(self.damaged(reason));
            }
        }
        let valid_to = self.good;
        Err(Fault::Torn { valid_to })
    }

    /// A command outside of units, or a whole transaction.
    fn commands(&mut self) -> Result<Option<Item>, Fault> {
        let rest = self.rest();
        let mut end = 0;
        let mut open = false;
        loop {
            if open && rest.get(end) == Some(&b'#') {
                match rest[end..].iter().position(|&byte| byte == b'\n') {
                    Some(len) => end += len + 1,
                    None => return self.incomplete(),
                }
                continue;
            }
            match command(&rest[end..]) {
                Found::More => return self.incomplete(),
                Found::Bad(reason) => return Err(self.damaged(reason)),
                Found::Whole(len) => {
                    let this = &rest[end..end + len];
                    end += len;
                    if is_named(this, b"MULTI") {
                        open = true;
                    } else if is_named(this, b"EXEC") {
                        open = false;
                    }
                }
            }
            if !open {
                break;
            }
        }
        let item = Item {
            at: self.position(),
            commands: rest[..end].to_vec(),
            seq: 0,
            mark: None,
            barrier: None,
            follows: None,
        };
        self.from += end;
        self.good = self.position();
        self.room = None;
        Ok(Some(item))
    }
}

/// What the line before a unit says.
struct Head {
    seq: u64,
    len: usize,
    crc: u64,
    /// The line as far as the checksum.
    summed: String,
    mark: Option<Mark>,
    barrier: Option<u64>,
    follows: Option<(u64, u64)>,
    synced: Option<u64>,
}

impl Head {
    fn parse(line: &str) -> Option<Head> {
        let (summed, crc) = line.rsplit_once(CRC)?;
        let (mut seq, mut len) = (None, None);
        let (mut mark, mut barrier, mut follows, mut synced) = (None, None, None, None);
        for pair in summed.strip_prefix(HEAD)?.split(' ') {
            let (name, value) = pair.split_once('=')?;
            match name {
                "seq" => seq = Some(value.parse().ok()?),
                "len" => len = Some(value.parse().ok()?),
                "tx" => mark = Some(parse_mark(value)?),
                "barrier" => barrier = Some(value.parse().ok()?),
                "synced" => synced = Some(value.parse().ok()?),
                "after" => {
                    let (segments, units) = value.split_once(':')?;
                    follows = Some((segments.parse().ok()?, units.parse().ok()?));
                }
                _ => {}
            }
        }
        Some(Head {
            seq: seq?,
            len: len?,
            crc: u64::from_str_radix(crc, 16).ok()?,
            summed: summed.to_string(),
            mark,
            barrier,
            follows,
            synced,
        })
    }
}

impl Head {
    fn is_sum_of(&self, payload: &[u8]) -> bool {
        checksum(self.summed.as_bytes(), payload) == self.crc
    }
}

fn parse_mark(text: &str) -> Option<Mark> {
    let (id, shards) = text.split_once(':')?;
    let shards: Option<SmallVec<[u32; 4]>> =
        shards.split(',').map(|shard| shard.parse().ok()).collect();
    Some(Mark {
        id: u64::from_str_radix(id, 16).ok()?,
        shards: shards?,
    })
}

/// A line `<mark><number>\r\n`: the number and the line's length.
fn number(bytes: &[u8], mark: u8) -> Result<Option<(usize, usize)>, &'static str> {
    const LINE_MAX: usize = 32;
    match bytes.first() {
        None => return Ok(None),
        Some(&first) if first != mark => return Err("a command has a bad format"),
        Some(_) => {}
    }
    let Some(end) = bytes.iter().take(LINE_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err("a command has a bad format")
        };
    };
    let text = std::str::from_utf8(&bytes[1..end]).ok();
    let n = text.and_then(|text| text.strip_suffix('\r')?.parse().ok());
    Ok(Some((n.ok_or("a command has a bad format")?, end + 1)))
}

/// How long the command at the front is.
fn command(bytes: &[u8]) -> Found {
    let (count, mut at) = match number(bytes, b'*') {
        Err(reason) => return Found::Bad(reason),
        Ok(None) => return Found::More,
        Ok(Some(found)) => found,
    };
    if count == 0 || count > ARGS_MAX {
        return Found::Bad("a command has a bad number of arguments");
    }
    for _ in 0..count {
        let (len, line) = match number(&bytes[at..], b'$') {
            Err(reason) => return Found::Bad(reason),
            Ok(None) => return Found::More,
            Ok(Some(found)) => found,
        };
        if len > ARG_MAX_BYTES {
            return Found::Bad("an argument is too long");
        }
        at += line + len + 2;
        match bytes.get(at - 2..at) {
            None => return Found::More,
            Some(b"\r\n") => {}
            Some(_) => return Found::Bad("an argument has a bad end"),
        }
    }
    Found::Whole(at)
}

/// The names of whole commands, one behind another; comments between them are passed over.
pub fn names(mut commands: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while commands.first() == Some(&b'#') {
            let end = commands.iter().position(|&byte| byte == b'\n')?;
            commands = &commands[end + 1..];
        }
        let Found::Whole(len) = command(commands) else {
            return None;
        };
        let (_, line) = number(commands, b'*').ok()??;
        let (name_len, name_line) = number(&commands[line..], b'$').ok()??;
        let begin = line + name_line;
        let name = &commands[begin..begin + name_len];
        commands = &commands[len..];
        Some(name)
    })
}

/// Whether a command without arguments has this name.
fn is_named(command: &[u8], name: &[u8]) -> bool {
    let head = command.len().checked_sub(name.len() + 2);
    command.starts_with(b"*1\r\n")
        && head.is_some_and(|at| command[at..at + name.len()].eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
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
}
