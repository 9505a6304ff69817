//! SORT and SORT_RO: the elements of a collection in an order given by themselves or by other keys.
//!
//! Which other keys BY and GET name is known only once the elements have been read, so a SORT with
//! patterns holds everything: it reads the elements, then the keys they lead to, then decides.

mod window;

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Ask, Change, Command, Decision, Gather, More, Peek, Run, Wanted, peeks};
use crate::keyspace::{Event, Tx};
use crate::number::strtod;
use crate::resp::{ArgBuf, Args, CmdError};
use crate::value::limits::Limits;
use crate::value::list::{End, List};
use crate::value::listpack::Item;
use crate::value::zset::Zset;
use crate::value::{Kind, Value};

pub(super) static SORT: Gather = sort::<true>();
pub(super) static SORT_RO: Gather = sort::<false>();

/// The steps of SORT, which may store, or of SORT_RO.
const fn sort<const STORES: bool>() -> Gather {
    Gather {
        peek: peek::<STORES>,
        decide: |ask, peeks| decide::<STORES>(ask, peeks, &[]),
        more: Some(&More {
            is_needed: |args| {
                let options = Options::parse(args, STORES);
                options.is_ok_and(|options| options.reads_keys())
            },
            wanted: wanted::<STORES>,
            decide: decide::<STORES>,
        }),
    }
}

fn peek<const STORES: bool>(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    if at > 1 {
        return peeks::exists(tx, args, at);
    }
    if Options::parse(args, STORES).is_err() {
        // The decision says what is wrong: nothing was looked up for it.
        return Peek::Missing;
    }
    // Redis: sort.c makes a skiplist of a sorted set, which it stays.
    let key = args.get(at);
    if tx.kind(key) == Some(Kind::Zset) {
        let spread = tx.change(key, |set: &mut Zset, context| set.spread(context.limits));
        debug_assert!(spread.is_ok(), "of that kind");
        tx.unchanged();
    }
    match tx.shared_value(key) {
        Ok(None) => Peek::Missing,
        Ok(Some(value)) if matches!(value.kind(), Kind::List | Kind::Set | Kind::Zset) => {
            Peek::Collection(value)
        }
        Ok(Some(_)) | Err(_) => Peek::Failed(CmdError::WrongType),
    }
}

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    /// The last BY.
    by: Option<&'a [u8]>,
    /// One of them was a pattern without a star: no order is asked for.
    unsorted: bool,
    get: Vec<&'a [u8]>,
    /// The argument that names the destination.
    store: Option<usize>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, stores: bool) -> Result<Options<'a>, CmdError> {
        let mut options = Options::default();
        let mut at = 2;
        while at < args.len() {
            let left = args.len() - at - 1;
            if args.is(at, "asc") {
                options.descending = false;
            } else if args.is(at, "desc") {
                options.descending = true;
            } else if args.is(at, "alpha") {
                options.alpha = true;
            } else if args.is(at, "limit") && left >= 2 {
                options.limit = Some((args.int(at + 1)?, args.int(at + 2)?));
                at += 2;
            } else if stores && args.is(at, "store") && left >= 1 {
                options.store = Some(at + 1);
                at += 1;
            } else if args.is(at, "by") && left >= 1 {
                options.by = Some(args.get(at + 1));
                options.unsorted |= !has_star(args.get(at + 1));
                at += 1;
            } else if args.is(at, "get") && left >= 1 {
                options.get.push(args.get(at + 1));
                at += 1;
            } else {
                return Err(CmdError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// The pattern that leads to the key to sort by.
    fn by_pattern(&self) -> Option<&'a [u8]> {
        self.by.filter(|_| !self.unsorted)
    }

    fn reads_keys(&self) -> bool {
        self.by_pattern().is_some() || self.get.iter().any(|pattern| !is_element(pattern))
    }

    /// Indices of the elements shown, of `len`. Redis: sort.c.
    fn window(&self, len: usize) -> (usize, usize) {
        let len = len as i64;
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = start.clamp(0, len);
        let count = count.clamp(-1, len);
        let end = if count < 0 {
            len
        } else {
            (start + count).min(len)
        };
        (start as usize, end.max(start) as usize)
    }
}

/// The first option by which a SORT reads keys that its arguments do not name: BY with a pattern, or
/// GET, even of the elements themselves. Redis: sort.c sortCommandGeneric.
pub fn pattern_option(args: &Args) -> Option<&'static str> {
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "by") && left >= 1 && has_star(args.get(at + 1)) {
            return Some("BY");
        }
        if args.is(at, "get") && left >= 1 {
            return Some("GET");
        }
        at += match () {
            () if args.is(at, "limit") && left >= 2 => 3,
            () if (args.is(at, "by") || args.is(at, "store")) && left >= 1 => 2,
            () => 1,
        };
    }
    None
}

/// A pattern without a star, so that nothing is sorted by it; a script's SORT has it instead of its
/// own.
const OF_SCRIPT: &[u8] = b"\0script";

/// A SORT without order as a script may ask for it: of a set it gets one all the same, so that the
/// script does the same everywhere. Redis: sort.c.
pub fn ordered_for_script(command: &Command, args: &Args) -> Option<ArgBuf> {
    let Run::Gather(gather) = command.run else {
        return None;
    };
    let stores = std::ptr::eq(gather, &SORT);
    if !stores && !std::ptr::eq(gather, &SORT_RO) {
        return None;
    }
    let options = Options::parse(args, stores).ok()?;
    let by = options.by.filter(|_| options.unsorted)?;
    // The last one counts.
    let at = (2..args.len())
        .rev()
        .find(|&at| args.is(at - 1, "by") && args.get(at) == by)?;
    let words = args.iter().enumerate();
    let words = words.map(|(i, word)| if i == at { OF_SCRIPT } else { word });
    Some(words.collect())
}

/// The argument that names the destination.
pub(super) fn store_at(args: &Args) -> Option<usize> {
    Options::parse(args, true).map_or_else(|_| store_in(args), |options| options.store)
}

/// Where a request that nobody will run names the key: among options that are none, too.
/// Redis: db.c sortGetKeys.
fn store_in(args: &Args) -> Option<usize> {
    let mut store = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "limit") {
            at += 2;
        } else if args.is(at, "get") || args.is(at, "by") {
            at += 1;
        } else if args.is(at, "store") && at + 1 < args.len() {
            store = Some(at + 1);
        }
        at += 1;
    }
    store
}

/// The bytes before the first NUL: what Redis, in C, sees of a string in this command.
fn visible(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn has_star(pattern: &[u8]) -> bool {
    visible(pattern).contains(&b'*')
}

/// Whether GET means the element itself.
fn is_element(pattern: &[u8]) -> bool {
    visible(pattern) == b"#"
}

/// What `pattern` names for an element: its first star replaced, and behind `->` a field.
fn wanted_by(pattern: &[u8], element: &[u8]) -> Option<Wanted> {
    let star = visible(pattern).iter().position(|&byte| byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = visible(after).windows(2).position(|pair| pair == b"->");
    let arrow = arrow.filter(|&at| at + 2 < visible(after).len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(Bytes::copy_from_slice(&after[at + 2..]))),
        None => (after, None),
    };
    let key = Bytes::from([before, element, after].concat());
    Some(Wanted { key, field })
}

/// The elements of the collection, in the order in which they are without sorting.
fn elements(peek: &Peek, options: &Options) -> Result<Vec<Bytes>, CmdError> {
    let value = match peek {
        Peek::Failed(error) => return Err(error.clone()),
        Peek::Collection(value) => value,
        _ => return Ok(Vec::new()),
    };
    let bytes = |item: Item| Bytes::from(item.to_vec());
    let mut all: Vec<Bytes> = match value {
        Value::List(list) => {
            let mut all = Vec::with_capacity(list.len());
            list.for_each(|item| all.push(bytes(item)));
            all
        }
        Value::Set(set) => set.iter().map(bytes).collect(),
        Value::Zset(set) => set.iter().map(|(name, _)| bytes(name)).collect(),
        _ => Vec::new(),
    };
    // Redis: an order that is there already is kept, from either end.
    if options.unsorted && options.descending && value.kind() != Kind::Set {
        all.reverse();
    }
    Ok(all)
}

/// The keys that sorting and the reply read: for each element the one to sort by, then for each
/// those of GET.
fn wanted<const STORES: bool>(ask: &Ask, peeks: &[Peek]) -> Result<Vec<Wanted>, CmdError> {
    let options = Options::parse(ask.args, STORES)?;
    let elements = elements(&peeks[0], &options)?;
    let patterns = options
        .by_pattern()
        .into_iter()
        .chain(options.get.iter().copied());
    let patterns: Vec<&[u8]> = patterns.filter(|pattern| !is_element(pattern)).collect();
    let all = patterns.iter().flat_map(|pattern| {
        elements.iter().map(|element| {
            // A pattern without a star names nothing.
            wanted_by(pattern, element).unwrap_or_default()
        })
    });
    Ok(all.collect())
}

/// One element with what it is sorted by.
struct Entry {
    element: Bytes,
    /// Its place among the elements as they were read.
    at: usize,
    score: f64,
    by: Option<Bytes>,
}

fn score(text: &[u8]) -> Result<f64, CmdError> {
    let score = strtod(text).filter(|&(_, in_range)| in_range);
    score.map(|(score, _)| score).ok_or(CmdError::Text(
        "ERR One or more scores can't be converted into double",
    ))
}

fn decide<const STORES: bool>(
    ask: &Ask,
    peeks: &[Peek],
    found: &[Option<Bytes>],
) -> Result<Decision, CmdError> {
    let options = Options::parse(ask.args, STORES)?;
    let elements = elements(&peeks[0], &options)?;
    let len = elements.len();
    let is_set = matches!(&peeks[0], Peek::Collection(value) if value.kind() == Kind::Set);
    let by = options.by_pattern();
    // Redis: what is stored from a set has an order, so that replicas agree about it.
    let is_told = options.store.is_some() || options.by == Some(OF_SCRIPT);
    let forced = options.unsorted && is_set && is_told;
    let unsorted = options.unsorted && !forced;
    let alpha = options.alpha || forced;
    let (by_values, get_values) = found.split_at(if by.is_some() { len } else { 0 });
    let mut entries = Vec::with_capacity(len);
    for (at, element) in elements.into_iter().enumerate() {
        let by_value = if by.is_some() {
            by_values[at].clone()
        } else {
            Some(element.clone())
        };
        let score = match &by_value {
            Some(text) if !alpha && !unsorted => score(text)?,
            _ => 0.0,
        };
        entries.push(Entry {
            element,
            at,
            score,
            by: by_value,
        });
    }
    let (start, end) = options.window(len);
    let stored = options.store.is_some();
    let order = |a: &Entry, b: &Entry| match options.descending {
        true => compare(a, b, alpha, stored).reverse(),
        false => compare(a, b, alpha, stored),
    };
    if by.is_some() && (start, end) != (0, len) {
        window::sort_window(&mut entries, start..end, order);
    } else if !unsorted {
        entries.sort_by(order);
    }
    let rows = Rows {
        entries: &entries[start..end],
        get: &options.get,
        values: get_values,
        len,
    };
    answer(ask, peeks, options.store, &rows)
}

/// Redis: sort.c sortCompare, in the C locale. Only what is stored counts beyond a NUL.
fn compare(a: &Entry, b: &Entry, alpha: bool, stored: bool) -> Ordering {
    if alpha {
        return match (&a.by, &b.by) {
            (Some(a), Some(b)) if !stored => visible(a).cmp(visible(b)),
            (a, b) => a.cmp(b),
        };
    }
    let order = a.score.partial_cmp(&b.score).unwrap_or(Ordering::Equal);
    order.then_with(|| a.element.cmp(&b.element))
}

/// What is shown: elements, or for each what GET names.
struct Rows<'a> {
    entries: &'a [Entry],
    get: &'a [&'a [u8]],
    /// Values of all elements, one GET pattern after the other, `#` left out.
    values: &'a [Option<Bytes>],
    len: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.entries.len() * self.get.len().max(1)
    }

    fn each(&self, mut visit: impl FnMut(Option<&Bytes>)) {
        for entry in self.entries {
            if self.get.is_empty() {
                visit(Some(&entry.element));
            }
            let mut pattern = 0;
            for get in self.get {
                if is_element(get) {
                    visit(Some(&entry.element));
                    continue;
                }
                let value = self.values.get(pattern * self.len + entry.at);
                // A pattern without a star names nothing, not even the key without a name.
                let value = value.filter(|_| has_star(get));
                visit(value.and_then(Option::as_ref));
                pattern += 1;
            }
        }
    }
}

fn answer(
    ask: &Ask,
    peeks: &[Peek],
    store: Option<usize>,
    rows: &Rows,
) -> Result<Decision, CmdError> {
    let Some(key) = store else {
        return Decision::reply(ask, |out| {
            out.array(rows.count())?;
            let mut written = Ok(());
            rows.each(|value| {
                written = match value {
                    Some(value) => out.bulk(value),
                    None => out.null(),
                };
            });
            written
        });
    };
    let db = ask.db;
    let decision = Decision::reply(ask, |out| out.int(rows.count() as i64))?;
    if rows.count() == 0 {
        let exists = ask.keys.iter().position(|&at| at == key);
        let exists = exists.is_some_and(|i| peeks[i].exists());
        let event = Event::DEL;
        let remove = exists.then_some(Change::Remove { db, key, event });
        return Ok(decision.with(remove.into_iter().collect()));
    }
    // Redis: sort.c leaves the list with the limit it is born with.
    let mut list = List::new(&Limits::default());
    rows.each(|value| {
        let value = value.map_or(&b""[..], |value| value);
        list.push(End::Tail, value, None);
    });
    Ok(decision.with(vec![Change::Store {
        db,
        key,
        value: Value::List(Arc::new(list)),
        event: Event::SORTSTORE,
    }]))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn elements_are_sorted_by_themselves() {
        Bench::new().rows(&[
            ("RPUSH l 3 10 1 2", ":4|", "rpush l", "RPUSH l 3 10 1 2"),
            ("SORT l", "*4|$1|1|$1|2|$1|3|$2|10|", "", ""),
            ("SORT l DESC LIMIT 1 2", "*2|$1|3|$1|2|", "", ""),
            ("SORT l ALPHA", "*4|$1|1|$2|10|$1|2|$1|3|", "", ""),
            ("SORT l BY nothing", "*4|$1|3|$2|10|$1|1|$1|2|", "", ""),
            ("SORT l BY nothing DESC LIMIT 0 1", "*1|$1|2|", "", ""),
            ("SORT l LIMIT 9 1", "*0|", "", ""),
            ("SORT none", "*0|", "", ""),
            (
                "SORT l STORE d LIMIT 0 2",
                ":2|",
                "sortstore d",
                "DEL d, RPUSH d 1 2",
            ),
            ("SORT none STORE d", ":0|", "del d", "DEL d"),
            ("SORT_RO l STORE d", "-ERR syntax error|", "", ""),
            ("SORT l BY", "-ERR syntax error|", "", ""),
            ("SADD s b a", ":2|", "sadd s", "SADD s b a"),
            (
                "SORT s",
                "-ERR One or more scores can't be converted into double|",
                "",
                "",
            ),
            ("SORT s ALPHA DESC", "*2|$1|b|$1|a|", "", ""),
            ("SET t 1", "+OK|", "set t", "SET t 1"),
            (
                "SORT t",
                "-WRONGTYPE Operation against a key holding the wrong kind of value|",
                "",
                "",
            ),
        ]);
    }

    #[test]
    fn elements_are_sorted_by_other_keys() {
        Bench::new().replies(&[
            ("RPUSH l 1 2 3", ":3|"),
            ("MSET w1 30 w2 10 n1 one n3 three", "+OK|"),
            ("HSET h2 f x", ":1|"),
            ("SORT l BY w*", "*3|$1|3|$1|2|$1|1|"),
            (
                "SORT l BY w* GET # GET n* GET h*->f",
                "*9|$1|3|$5|three|$-1|$1|2|$-1|$1|x|$1|1|$3|one|$-1|",
            ),
            ("SORT l GET n* STORE d", ":3|"),
            ("LRANGE d 0 -1", "*3|$3|one|$0||$5|three|"),
            ("SORT l BY n* ALPHA", "*3|$1|2|$1|1|$1|3|"),
            ("SORT l BY n* BY nothing DESC", "*3|$1|3|$1|2|$1|1|"),
        ]);
    }
}
