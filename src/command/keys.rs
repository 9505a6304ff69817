//! Which arguments of a command are keys, and where a key lives.
//!
//! One extractor serves routing, ACL, COMMAND GETKEYS and tracking, so that they cannot disagree.

use smallvec::SmallVec;

use crate::number::parse_i64;
use crate::resp::{Args, CmdError};

/// What a command does to the keys of one specification. Redis: server.h CMD_KEY_*.
pub type Access = u16;
pub const RO: Access = 1 << 0;
pub const RW: Access = 1 << 1;
pub const OW: Access = 1 << 2;
pub const RM: Access = 1 << 3;
pub const ACCESS: Access = 1 << 4;
pub const UPDATE: Access = 1 << 5;
pub const INSERT: Access = 1 << 6;
pub const DELETE: Access = 1 << 7;
pub const NOT_KEY: Access = 1 << 8;
pub const INCOMPLETE: Access = 1 << 9;
pub const VARIABLE_FLAGS: Access = 1 << 10;

/// Names in the order in which COMMAND INFO lists them.
pub const ACCESS_NAMES: &[(Access, &str)] = &[
    (RO, "RO"),
    (RW, "RW"),
    (OW, "OW"),
    (RM, "RM"),
    (ACCESS, "access"),
    (UPDATE, "update"),
    (INSERT, "insert"),
    (DELETE, "delete"),
    (NOT_KEY, "not_key"),
    (INCOMPLETE, "incomplete"),
    (VARIABLE_FLAGS, "variable_flags"),
];

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    Index(usize),
    /// After `word`, searched from argument `from` (negative: from the end, backwards).
    Keyword {
        word: &'static str,
        from: i32,
    },
    /// Where the command itself says; shown as unknown.
    Found(fn(&Args) -> Option<usize>),
    /// Where the command itself says; not shown, as specifications that are `Told` say it.
    Hidden(fn(&Args) -> Option<usize>),
    /// Shown, and finds nothing. Without a word it is shown as unknown.
    Told {
        word: &'static str,
        from: i32,
    },
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// Up to `last` (relative to the beginning; negative: from the end of the request), every
    /// `step`-th argument. `limit` > 1 divides what remains, as Redis does for XREAD.
    Range { last: i32, step: usize, limit: i32 },
    /// A count at `count` (relative to the beginning), the first key at `first`.
    Count {
        count: usize,
        first: usize,
        step: usize,
    },
}

/// One key specification, as COMMAND INFO shows it.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub access: Access,
    pub begin: Begin,
    pub find: Find,
    /// What COMMAND INFO adds in words.
    pub notes: &'static str,
    /// Where it begins in a request, if that is not simply where `begin` shows.
    pub begins: Option<fn(&Args) -> Option<usize>>,
    /// What one request does to its keys, where that depends on its arguments.
    pub exact: Option<fn(&Args) -> Access>,
}

/// What most commands do: find one key where the specification begins.
const ONE: Find = Find::Range {
    last: 0,
    step: 1,
    limit: 0,
};

/// All key specifications of a command.
pub type Keys = &'static [KeySpec];

pub const NONE: Keys = &[];
pub const ONE_RO: Keys = &[KeySpec::range(RO | ACCESS, 1, 0, 1)];
/// Reads only what is about a key (its type, its TTL), not its value.
pub const ONE_RO_META: Keys = &[KeySpec::range(RO, 1, 0, 1)];
pub const ONE_RW_UPDATE: Keys = &[KeySpec::range(RW | UPDATE, 1, 0, 1)];
pub const ONE_RW_ACCESS_UPDATE: Keys = &[KeySpec::range(RW | ACCESS | UPDATE, 1, 0, 1)];
pub const ONE_RW_INSERT: Keys = &[KeySpec::range(RW | INSERT, 1, 0, 1)];
pub const ONE_RW_DELETE: Keys = &[KeySpec::range(RW | DELETE, 1, 0, 1)];
pub const ONE_RW_ACCESS_DELETE: Keys = &[KeySpec::range(RW | ACCESS | DELETE, 1, 0, 1)];
pub const ONE_OW_UPDATE: Keys = &[KeySpec::range(OW | UPDATE, 1, 0, 1)];
pub const ONE_OW_INSERT: Keys = &[KeySpec::range(OW | INSERT, 1, 0, 1)];
pub const ALL_RO: Keys = &[KeySpec::range(RO | ACCESS, 1, -1, 1)];
pub const ALL_RO_META: Keys = &[KeySpec::range(RO, 1, -1, 1)];
pub const ALL_RM: Keys = &[KeySpec::range(RM | DELETE, 1, -1, 1)];

/// Why a request of the command `name` has no keys where its specification looks for them. Redis: t_string.c, MSETEX.
pub fn why_none(name: &str, keys: Keys, args: &Args) -> CmdError {
    let counted = keys.iter().find_map(|spec| match (spec.begin, spec.find) {
        (Begin::Index(begin), Find::Count { count, step, .. }) => Some((begin + count, step)),
        _ => None,
    });
    match counted {
        _ if name != "msetex" => counted_error(name, args, counted),
        Some((at, _)) if at >= args.len() => CmdError::Syntax,
        Some((at, _)) if !matches!(args.int(at), Ok(1..=0x7fff_ffff)) => {
            CmdError::Text("ERR invalid numkeys value")
        }
        Some((_, 2)) => CmdError::Text("ERR wrong number of key-value pairs"),
        _ => CmdError::Syntax,
    }
}

/// The errors of commands that count their keys. Redis: t_list.c, t_set.c, t_zset.c.
fn counted_error(name: &str, args: &Args, counted: Option<(usize, usize)>) -> CmdError {
    let Some((at, _)) = counted else {
        return CmdError::Syntax;
    };
    let sets = name == "sintercard";
    let combines = ["zunion", "zinter", "zdiff"]
        .iter()
        .any(|start| name.starts_with(start));
    match args.int(at) {
        Err(error) if combines => error,
        Ok(..1) if combines => CmdError::owned(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        )),
        Ok(1..) if sets => {
            CmdError::Text("ERR Number of keys can't be greater than number of args")
        }
        Ok(1..) => CmdError::Syntax,
        _ => CmdError::Text("ERR numkeys should be greater than 0"),
    }
}

impl KeySpec {
    /// One key, where the command itself says.
    pub const fn found(access: Access, find: fn(&Args) -> Option<usize>) -> KeySpec {
        KeySpec {
            access,
            begin: Begin::Found(find),
            find: ONE,
            notes: "",
            begins: None,
            exact: None,
        }
    }

    /// One key where the command itself says, which [`KeySpec::told`] describes.
    pub const fn hidden(access: Access, find: fn(&Args) -> Option<usize>) -> KeySpec {
        KeySpec {
            begin: Begin::Hidden(find),
            ..KeySpec::range(access, 0, 0, 1)
        }
    }

    /// Described only; another specification finds it. Without a word it is unknown.
    pub const fn told(access: Access, word: &'static str, from: i32) -> KeySpec {
        KeySpec {
            begin: Begin::Told { word, from },
            ..KeySpec::range(access, 0, 0, 1)
        }
    }

    pub const fn noted(self, notes: &'static str) -> KeySpec {
        KeySpec { notes, ..self }
    }

    /// What is done to the key depends on the request.
    pub const fn varies(self, exact: fn(&Args) -> Access) -> KeySpec {
        KeySpec {
            exact: Some(exact),
            ..self
        }
    }

    /// It is shown as it is, and begins where the request says.
    pub const fn begins_at(self, begins: fn(&Args) -> Option<usize>) -> KeySpec {
        KeySpec {
            begins: Some(begins),
            ..self
        }
    }

    /// All arguments behind a word, searched from argument `from`, up to `last`.
    pub const fn keyword(access: Access, word: &'static str, from: i32, last: i32) -> KeySpec {
        KeySpec {
            begin: Begin::Keyword { word, from },
            ..KeySpec::range(access, 0, last, 1)
        }
    }

    /// Whether COMMAND INFO shows it.
    pub const fn is_shown(&self) -> bool {
        !matches!(self.begin, Begin::Hidden(_))
    }

    pub const fn range(access: Access, first: usize, last: i32, step: usize) -> KeySpec {
        KeySpec {
            access,
            begin: Begin::Index(first),
            find: Find::Range {
                last,
                step,
                limit: 0,
            },
            notes: "",
            begins: None,
            exact: None,
        }
    }

    pub const fn count(
        access: Access,
        at: usize,
        count: usize,
        first: usize,
        step: usize,
    ) -> KeySpec {
        KeySpec {
            access,
            begin: Begin::Index(at),
            find: Find::Count { count, first, step },
            notes: "",
            begins: None,
            exact: None,
        }
    }

    /// Number of arguments from one key to the next (2 for MSET: key and value).
    pub const fn step(&self) -> usize {
        match self.find {
            Find::Range { step, .. } | Find::Count { step, .. } => step,
        }
    }

    /// Appends the positions of this specification's keys; `false` if the request is malformed.
    fn positions(&self, args: &Args, found: &mut KeyPositions) -> bool {
        let Some(begin) = self.begin_index(args) else {
            return true;
        };
        let (mut at, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let last = if last >= 0 {
                    begin + last as usize
                } else if limit <= 1 {
                    args.len().saturating_sub(last.unsigned_abs() as usize)
                } else {
                    let end = begin + (args.len() - begin) / limit as usize;
                    end.saturating_sub(last.unsigned_abs() as usize)
                };
                (begin, last, step)
            }
            Find::Count { count, first, step } => {
                if begin + count >= args.len() {
                    return false;
                }
                let Ok(keys) = args.int(begin + count) else {
                    return false;
                };
                if keys < 0 || keys as usize > args.len() {
                    return false;
                }
                if keys == 0 {
                    return true;
                }
                (
                    begin + first,
                    begin + first + (keys as usize - 1) * step,
                    step,
                )
            }
        };
        while at <= last {
            if at >= args.len() {
                return false;
            }
            found.push(at);
            at += step;
        }
        true
    }

    fn begin_index(&self, args: &Args) -> Option<usize> {
        if let Some(begins) = self.begins {
            return begins(args);
        }
        match self.begin {
            Begin::Index(index) => (index < args.len()).then_some(index),
            Begin::Found(find) | Begin::Hidden(find) => find(args),
            Begin::Told { .. } => None,
            Begin::Keyword { word, from } if from >= 0 => (from as usize..args.len())
                .find(|&i| args.is(i, word))
                .map(|i| i + 1),
            Begin::Keyword { word, from } => {
                let start = args.len().saturating_sub(from.unsigned_abs() as usize);
                (1..=start).rev().find(|&i| args.is(i, word)).map(|i| i + 1)
            }
        }
    }
}

/// Argument indices of a request's keys, in request order per specification.
pub type KeyPositions = SmallVec<[usize; 8]>;

/// The positions of all keys of a request, or `None` if they cannot be told from it.
pub fn positions(keys: Keys, args: &Args) -> Option<KeyPositions> {
    let mut found = KeyPositions::new();
    for spec in keys {
        if spec.access & NOT_KEY == 0 && !spec.positions(args, &mut found) {
            return None;
        }
    }
    Some(found)
}

/// The positions of all keys of a request, each with what is done to it.
pub fn accesses(keys: Keys, args: &Args) -> Option<Vec<(usize, Access)>> {
    let mut all = Vec::new();
    for spec in keys {
        let mut found = KeyPositions::new();
        if spec.access & NOT_KEY == 0 && !spec.positions(args, &mut found) {
            return None;
        }
        let access = spec.exact.map_or(spec.access, |exact| exact(args));
        all.extend(found.into_iter().map(|at| (at, access)));
    }
    Some(all)
}

/// The keys of a request that says how many they are in digits which no command would take, for those who
/// only ask. Redis: db.c getKeysUsingKeySpecs cuts a count to 32 bits; genericGetKeys, which is asked about
/// any other, reads it as C's `atoi` does, and tells the key of the result last and of no access.
pub fn loosely_counted(keys: Keys, args: &Args) -> Option<Vec<(usize, Access)>> {
    let counts = |spec: &&KeySpec| matches!(spec.find, Find::Count { .. });
    let counted = keys.iter().find(counts)?;
    let (Begin::Index(begin), Find::Count { count, first, step }) = (counted.begin, counted.find)
    else {
        return None;
    };
    let first = begin + first;
    let text = args.iter().nth(begin + count)?;
    let whole = parse_i64(text).filter(|count| *count >= 0);
    let count = usize::try_from(whole.map_or_else(|| atoi(text), |whole| whole as i32)).ok()?;
    if count == 0 || count > args.len().saturating_sub(first) / step {
        return None;
    }
    let mut all = Vec::new();
    for spec in keys.iter().filter(|spec| spec.access & NOT_KEY == 0) {
        let mut found = KeyPositions::new();
        match counts(&spec) {
            true => found.extend((0..count).map(|at| first + at * step)),
            false => _ = spec.positions(args, &mut found),
        }
        let access = whole.map_or(0, |_| spec.access);
        all.extend(found.into_iter().map(|at| (at, access)));
    }
    if whole.is_none() {
        all.sort_by_key(|(at, _)| *at < first);
    }
    Some(all)
}

/// What C makes of a text: the number it begins with, cut to 32 bits.
fn atoi(text: &[u8]) -> i32 {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let spaces = text.iter().take_while(|byte| is_space(byte)).count();
    let text = &text[spaces..];
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0i64, |number, digit| {
        let digit = sign * i64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    });
    number as i32
}

/// Whether every specification with a place of its own finds keys there: `PFMERGE k` has no sources.
pub fn are_complete(keys: Keys, args: &Args) -> bool {
    let places = keys.iter().filter(|spec| match spec.begin {
        Begin::Index(_) => spec.access & NOT_KEY == 0 && spec.begins.is_none(),
        _ => false,
    });
    places.into_iter().all(|spec| {
        let mut found = KeyPositions::new();
        spec.positions(args, &mut found) && !found.is_empty()
    })
}

/// Number of hash slots of the cluster key space.
pub const SLOTS: usize = 16384;

/// The hash slot of a key: CRC16 of its hash tag, or of all of it, modulo 16384.
/// The tag is what stands between the first `{` and the next `}`, if anything does.
pub fn slot(key: &[u8]) -> u16 {
    let tagged = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        let close = memchr::memchr(b'}', rest)?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tagged.unwrap_or(key)) & (SLOTS as u16 - 1)
}

/// The shard of `shards` that is home to `key`: contiguous, equal ranges of slots.
pub fn home(key: &[u8], shards: usize) -> usize {
    if shards == 1 {
        0
    } else {
        slot(key) as usize * shards / SLOTS
    }
}

/// Keys by their homes, for messages to them.
pub fn by_home<'k>(
    keys: impl Iterator<Item = &'k [u8]>,
    shards: usize,
) -> Vec<(usize, Vec<Box<[u8]>>)> {
    let mut groups: Vec<(usize, Vec<Box<[u8]>>)> = Vec::new();
    for key in keys {
        let home = home(key, shards);
        match groups.iter_mut().find(|(shard, _)| *shard == home) {
            Some((_, names)) => names.push(key.into()),
            None => groups.push((home, vec![key.into()])),
        }
    }
    groups
}

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, initial value 0. Four bytes at a time (Kounavis and
/// Berry, slicing-by-4): every command of a server with several shards waits for it.
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, byte: u8| (crc << 8) ^ at(0, (crc >> 8) as u8 ^ byte);
    let (fours, rest) = bytes.as_chunks::<4>();
    let crc = fours.iter().fold(0, |crc: u16, &[a, b, c, d]| {
        at(3, (crc >> 8) as u8 ^ a) ^ at(2, crc as u8 ^ b) ^ at(1, c) ^ at(0, d)
    });
    rest.iter().fold(crc, |crc, &byte| step(crc, byte))
}

fn at(behind: usize, byte: u8) -> u16 {
    CRC16_TABLES[behind][usize::from(byte)]
}

/// What a byte adds that has so many others behind it.
static CRC16_TABLES: [[u16; 256]; 4] = {
    let mut tables = [[0u16; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut behind = 0;
        while behind < 4 {
            let mut bit = 0;
            while bit < 8 {
                let carry = if crc & 0x8000 != 0 { 0x1021 } else { 0 };
                crc = (crc << 1) ^ carry;
                bit += 1;
            }
            tables[behind][i] = crc;
            behind += 1;
        }
        i += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    fn args(line: &str) -> ArgBuf {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn slots_match_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let text = b"a key as long as those of many applications";
        let bytewise = |bytes: &[u8]| {
            let step = |crc: u16, &byte: &u8| {
                (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
                    (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 }
                })
            };
            bytes.iter().fold(0, step)
        };
        for len in 0..text.len() {
            assert_eq!(crc16(&text[..len]), bytewise(&text[..len]));
        }
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") & 0x3fff);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn keys_are_found_where_the_specification_says() {
        let all =
            |keys: Keys, line: &str| positions(keys, &args(line).as_args()).map(|p| p.to_vec());
        assert_eq!(all(ONE_RO, "GET k"), Some(vec![1]));
        assert_eq!(all(ALL_RO, "MGET a b c"), Some(vec![1, 2, 3]));
        const PAIRS: Keys = &[KeySpec::range(OW | UPDATE, 1, -1, 2)];
        assert_eq!(all(PAIRS, "MSET a 1 b 2"), Some(vec![1, 3]));
        const COUNTED: Keys = &[KeySpec::count(RO, 1, 0, 1, 1)];
        assert_eq!(all(COUNTED, "SINTERCARD 2 a b LIMIT 1"), Some(vec![2, 3]));
        assert_eq!(all(COUNTED, "SINTERCARD 9 a b"), None);
        assert_eq!(all(COUNTED, "SINTERCARD x a b"), None);
    }

    #[test]
    fn who_asks_for_keys_may_count_as_c_does() {
        const STORED: Keys = &[KeySpec::range(OW, 1, 0, 1), KeySpec::count(RO, 2, 0, 1, 1)];
        let loose = |line: &str| loosely_counted(STORED, &args(line).as_args());
        assert_eq!(loose("ZUNIONSTORE d +1 k"), Some(vec![(3, 0), (1, 0)]));
        assert_eq!(
            loose("ZUNIONSTORE d 02x a b"),
            Some(vec![(3, 0), (4, 0), (1, 0)])
        );
        assert_eq!(
            loose("ZUNIONSTORE d 4294967297 k"),
            Some(vec![(1, OW), (3, RO)])
        );
        assert_eq!(loose("ZUNIONSTORE d 02 k"), None);
        assert_eq!(loose("ZUNIONSTORE d -1 k"), None);
        assert_eq!(loose("ZUNIONSTORE d x k"), None);
        assert_eq!(loose("ZUNIONSTORE d"), None);
        let numbers =
            ["\t\x0b7", "-8", "99999999999999999999", "--1", ""].map(|n| atoi(n.as_bytes()));
        assert_eq!(numbers, [7, -8, -1, 0, 0]);
    }

    #[test]
    fn homes_cover_all_shards() {
        let mut seen = [0usize; 4];
        for i in 0..4000 {
            seen[home(format!("key:{i}").as_bytes(), 4)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 800), "{seen:?}");
        assert_eq!(home(b"anything", 1), 0);
    }
}
