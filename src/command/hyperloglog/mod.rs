//! HYPERLOGLOG: estimates of how many different elements were seen.

use bytes::Bytes;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Ask, Change, Command, Decision, Gather, Group, Peek, Run, Standing, peeks};
use crate::keyspace::{Event, NewStr, Ttl, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hyperloglog::{self as hll, Invalid, Registers};

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: HYPERLOGLOG,
        keys,
        run,
        since: "2.8.9",
        group: Group::Hyperloglog,
        ..Command::DEFAULT
    }
}

const MERGE_KEYS: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::INSERT, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, -1, 1),
];
const COUNT_KEYS: Keys = &[KeySpec::range(keys::RW | keys::ACCESS, 1, -1, 1).noted(
    "RW because it may change the internal representation of the key, and propagate to replicas",
)];
const DEBUG_KEYS: Keys = &[KeySpec::range(keys::RW | keys::ACCESS, 2, 0, 1)];

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Notes that elements were seen.",
        complexity: "O(1) for each element",
        syntax: "key [element ...]",
        ..row(
            "pfadd",
            -2,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(pfadd),
        )
    },
    Command {
        summary: "Replies with about how many different elements were seen, in all keys together.",
        complexity: "O(1) for one key, O(N) for several",
        syntax: "key ...",
        ..row(
            "pfcount",
            -2,
            READONLY | MAY_REPLICATE,
            COUNT_KEYS,
            Run::Gather(&PFCOUNT),
        )
    },
    Command {
        acl: HYPERLOGLOG | ADMINS | DANGEROUS,
        summary: "Shows the inside of a HyperLogLog.",
        complexity: "O(N)",
        syntax: "subcommand key",
        standing: Standing::Internal,
        ..row(
            "pfdebug",
            3,
            WRITE | DENYOOM | ADMIN,
            DEBUG_KEYS,
            Run::Key(pfdebug),
        )
    },
    Command {
        summary: "Merges what was seen in several keys.",
        complexity: "O(N) where N is the number of keys",
        syntax: "destkey sourcekey:key ...",
        ..row(
            "pfmerge",
            -2,
            WRITE | DENYOOM,
            MERGE_KEYS,
            Run::Gather(&PFMERGE),
        )
    },
    Command {
        acl: HYPERLOGLOG | ADMINS | DANGEROUS,
        summary: "Tests that HyperLogLogs estimate well.",
        standing: Standing::Internal,
        ..row(
            "pfselftest",
            1,
            ADMIN,
            keys::NONE,
            Run::Client(|_, _, out| pfselftest(out)),
        )
    },
];

impl From<Invalid> for CmdError {
    fn from(invalid: Invalid) -> CmdError {
        CmdError::Text(match invalid {
            Invalid::NotOne => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Invalid::Corrupted => "INVALIDOBJ Corrupted HLL object detected",
        })
    }
}

/// A copy of the HyperLogLog at a key, checked.
fn peeked(tx: &mut Tx, key: &[u8]) -> Result<Option<Vec<u8>>, CmdError> {
    let mut scratch = itoa::Buffer::new();
    let Some(found) = tx.peek_string(key)? else {
        return Ok(None);
    };
    let bytes = found.bytes(&mut scratch);
    hll::check(bytes)?;
    Ok(Some(bytes.to_vec()))
}

fn store(tx: &mut Tx, key: &[u8], bytes: &[u8]) {
    tx.set_string(key, NewStr::Raw(bytes), Ttl::Keep);
}

fn pfadd(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let max = tx.settings().hll_sparse_max_bytes;
    let old = peeked(tx, key)?;
    let mut updated = usize::from(old.is_none());
    let mut bytes = old.unwrap_or_else(hll::empty);
    for element in args.iter().skip(2) {
        let (index, value) = hll::register_of(element);
        updated += usize::from(hll::raise(&mut bytes, index, value, max)?);
    }
    if updated == 0 {
        return out.int(0);
    }
    hll::make_stale(&mut bytes);
    store(tx, key, &bytes);
    tx.wrote_many(updated as u64, key, Event::PFADD, |rec| {
        rec.cmd_of(
            args.len(),
            std::iter::once(&b"PFADD"[..]).chain(args.iter().skip(1)),
        );
    });
    out.int(1)
}

static PFCOUNT: Gather = Gather {
    peek: peeks::string,
    decide: decide_count,
    more: None,
};

static PFMERGE: Gather = Gather {
    peek: peeks::string,
    decide: decide_merge,
    more: None,
};

/// The registers of all keys together, and whether any is dense.
fn merged(peeks: &[Peek]) -> Result<(Registers, bool), CmdError> {
    let (mut registers, mut dense) = (Registers::default(), false);
    for peek in peeks {
        if let Some(bytes) = peek.string()? {
            hll::check(bytes)?;
            registers.merge(bytes)?;
            dense |= hll::is_dense(bytes);
        }
    }
    Ok((registers, dense))
}

fn decide_count(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    if peeks.len() > 1 {
        let (registers, _) = merged(peeks)?;
        return Decision::reply(ask, |out| out.int(registers.count() as i64));
    }
    let Some(bytes) = peeks[0].string()? else {
        return Decision::reply(ask, |out| out.int(0));
    };
    hll::check(bytes)?;
    if let Some(count) = hll::cached(bytes) {
        return Decision::reply(ask, |out| out.int(count as i64));
    }
    let mut registers = Registers::default();
    registers.merge(bytes)?;
    let count = registers.count();
    let mut fresh = bytes.to_vec();
    hll::set_cached(&mut fresh, count);
    // Redis: the estimate is kept in the string, which is a change of its own.
    let change = Change::Call {
        db: ask.db,
        key: ask.keys[0],
        value: Bytes::from(fresh),
        run: |tx, args, at, bytes, _| {
            store(tx, args.get(at), bytes);
            tx.wrote_state(args.get(at), Event::PFCOUNT);
            Ok(())
        },
    };
    Ok(Decision::reply(ask, |out| out.int(count as i64))?.with(vec![change]))
}

fn decide_merge(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let (registers, dense) = merged(peeks)?;
    let mut bytes = peeks[0]
        .string()?
        .map_or_else(hll::empty, |bytes| bytes.to_vec());
    if dense {
        hll::to_dense(&mut bytes)?;
    }
    let change = Change::Call {
        db: ask.db,
        key: ask.keys[0],
        value: pack(&registers, bytes),
        run: |tx, args, at, packed, _| {
            let key = args.get(at);
            let (values, old) = packed.split_at(hll::REGISTERS);
            let mut bytes = old.to_vec();
            let max = tx.settings().hll_sparse_max_bytes;
            let raised = hll::raise_all(&mut bytes, values, max);
            debug_assert!(raised.is_ok(), "it was read as a whole before");
            hll::make_stale(&mut bytes);
            store(tx, key, &bytes);
            tx.wrote_state(key, Event::PFADD);
            Ok(())
        },
    };
    Ok(Decision::reply(ask, |out| out.ok())?.with(vec![change]))
}

/// Registers and the string they go into, on their way to the destination's home, which knows how
/// large the sparse form may get.
fn pack(registers: &Registers, bytes: Vec<u8>) -> Bytes {
    [registers.as_bytes(), &bytes].concat().into()
}

/// `PFDEBUG GETREG|DECODE|ENCODING|TODENSE key`
fn pfdebug(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(2);
    let mut bytes =
        peeked(tx, key)?.ok_or(CmdError::Text("ERR The specified key does not exist"))?;
    let was_sparse = !hll::is_dense(&bytes);
    if args.is(1, "getreg") {
        if was_sparse {
            hll::to_dense(&mut bytes)?;
            store(tx, key, &bytes);
            tx.wrote_state(key, Event::PFDEBUG);
        }
        let mut registers = Registers::default();
        registers.merge(&bytes)?;
        out.array(hll::REGISTERS)?;
        return registers
            .iter()
            .try_for_each(|value| out.int(i64::from(value)));
    }
    if args.is(1, "decode") {
        if !was_sparse {
            return Err(CmdError::Text("ERR HLL encoding is not sparse"));
        }
        let runs = hll::runs(&bytes).map(|run| match run {
            hll::Run::Zeros(len) => format!("z:{len}"),
            hll::Run::ManyZeros(len) => format!("Z:{len}"),
            hll::Run::Value(value, len) => format!("v:{value},{len}"),
        });
        return out.bulk(runs.collect::<Vec<_>>().join(" ").as_bytes());
    }
    if args.is(1, "encoding") {
        return out.simple(if was_sparse { "sparse" } else { "dense" });
    }
    if args.is(1, "todense") {
        if was_sparse {
            hll::to_dense(&mut bytes)?;
            store(tx, key, &bytes);
            tx.wrote_state(key, Event::PFDEBUG);
        }
        return out.int(i64::from(was_sparse));
    }
    Err(CmdError::quoting(&[
        b"ERR Unknown PFDEBUG subcommand '",
        args.get(1),
        b"'",
    ]))
}

/// Estimates must be within six standard errors of the truth, at a few sizes.
fn pfselftest(out: &mut Writer) -> CmdResult {
    const STANDARD_ERROR: f64 = 0.0081;
    let mut bytes = hll::empty();
    hll::to_dense(&mut bytes)?;
    for n in 1..=100_000u64 {
        let (index, value) = hll::register_of(&n.to_le_bytes());
        hll::raise_dense(&mut bytes, index, value);
        if [10, 100, 1000, 10_000, 100_000].contains(&n) {
            let mut registers = Registers::default();
            registers.merge(&bytes)?;
            let count = registers.count();
            let allowed = (6.0 * STANDARD_ERROR * n as f64).ceil() as u64;
            if count.abs_diff(n) > allowed {
                return Err(CmdError::owned(format!(
                    "TESTFAILED Too big error. card:{n} abserr:{}",
                    count.abs_diff(n)
                )));
            }
        }
    }
    out.ok()
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn elements_are_counted() {
        let mut bench = Bench::new();
        bench.rows(&[
            ("PFADD h a b c", ":1|", "pfadd h", "PFADD h a b c"),
            ("PFADD h a", ":0|", "", ""),
            ("PFDEBUG ENCODING h", "+sparse|", "", ""),
        ]);
        bench.replies(&[
            ("PFCOUNT none", ":0|"),
            ("PFADD i c d", ":1|"),
            ("PFCOUNT h i none", ":4|"),
            ("PFMERGE m h i", "+OK|"),
            ("PFDEBUG TODENSE m", ":1|"),
            ("PFDEBUG TODENSE m", ":0|"),
            ("PFDEBUG DECODE m", "-ERR HLL encoding is not sparse|"),
            ("PFADD e", ":1|"),
            ("PFDEBUG DECODE e", "$7|Z:16384|"),
            ("SET s x", "+OK|"),
            (
                "PFADD s a",
                "-WRONGTYPE Key is not a valid HyperLogLog string value.|",
            ),
        ]);
    }
}
