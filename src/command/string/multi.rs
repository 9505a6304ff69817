//! Several keys at once, on however many shards.

use super::{reply, set::new_value};
use crate::command::expiry::{self, Unit};
use crate::command::{Ask, Change, Decision, Gather, Peek, peeks};
use crate::keyspace::{Event, Ttl, Tx};
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};

/// One key of MGET: what holds no string is as if it did not exist.
pub(super) fn mget(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    reply(tx.string(args.get(1)).unwrap_or(None), out)
}

/// One pair of MSET.
pub(super) fn mset(tx: &mut Tx, args: &Args) {
    let key = args.get(1);
    tx.set_string(key, new_value(args, 2), Ttl::Clear);
    tx.wrote(key, Event::SET, |rec| rec.cmd(&[b"SET", key, args.get(2)]));
}

pub(super) static MSETNX: Gather = Gather {
    peek: peeks::exists,
    decide: |ask, peeks| {
        let store = peeks.iter().all(|peek| !peek.exists());
        Ok(decide_pairs(ask, store, Ttl::Clear))
    },
    more: None,
};

pub(super) static MSETEX: Gather = Gather {
    peek: peeks::exists,
    decide: decide_msetex,
    more: None,
};

/// `MSETEX numkeys key value ... [NX|XX] [EX|PX|EXAT|PXAT n|KEEPTTL]`
fn decide_msetex(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let args = ask.args;
    let count = number::parse_i64(args.get(1)).filter(|&n| n > 0);
    let count = count.ok_or(CmdError::Text("ERR invalid numkeys value"))? as usize;
    let at = 2 + 2 * count;
    if at > args.len() {
        return Err(CmdError::arity("msetex"));
    }
    let (condition, expiry) = msetex_options(args, at)?;
    let ttl = match expiry {
        Expiry::Clear => Ttl::Clear,
        Expiry::Keep => Ttl::Keep,
        Expiry::At(unit, at) => Ttl::At(expiry::deadline(args, at, unit, ask.now_ms, "msetex")?),
    };
    let store = condition.is_none_or(|wanted| peeks.iter().all(|peek| peek.exists() == wanted));
    Ok(decide_pairs(ask, store, ttl))
}

/// What MSETEX does with deadlines: its number stands at an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Clear,
    Keep,
    At(Unit, usize),
}

/// The options of MSETEX from argument `at` on: whether the keys must exist, or must not, and what
/// becomes of deadlines.
// Redis: t_string.c parseExtendedStringArgumentsOrReply takes an option twice, and its second value,
// as SET does; numbers are looked at once all options are known.
fn msetex_options(args: &Args, mut at: usize) -> Result<(Option<bool>, Expiry), CmdError> {
    let (mut condition, mut expiry) = (None, Expiry::Clear);
    while at < args.len() {
        if args.is(at, "nx") && condition != Some(true) {
            condition = Some(false);
        } else if args.is(at, "xx") && condition != Some(false) {
            condition = Some(true);
        } else if args.is(at, "keepttl") && !matches!(expiry, Expiry::At(..)) {
            expiry = Expiry::Keep;
        } else if let Some(unit) = Unit::of(args, at)
            && at + 1 < args.len()
            && match expiry {
                Expiry::Clear => true,
                Expiry::Keep => false,
                Expiry::At(before, _) => before == unit,
            }
        {
            at += 1;
            expiry = Expiry::At(unit, at);
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    Ok((condition, expiry))
}

/// Stores all pairs and replies 1, or stores none and replies 0.
fn decide_pairs(ask: &Ask, store: bool, ttl: Ttl) -> Decision {
    let mut reply = Output::default();
    reply
        .bytes
        .extend_from_slice(if store { b":1\r\n" } else { b":0\r\n" });
    let changes = ask
        .keys
        .iter()
        .filter(|_| store)
        .map(|&key| Change::SetString {
            db: ask.db,
            key,
            value: ask.args.bytes(key + 1),
            raw: false,
            ttl,
            event: Event::SET,
        });
    Decision {
        reply,
        changes: changes.collect(),
        ..Decision::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn several_keys_at_once() {
        Bench::new().rows(&[
            (
                "MSET a 1 b 2 a 3",
                "+OK|",
                "set a, set b, set a",
                "SET a 1, SET b 2, SET a 3",
            ),
            ("MGET a none b", "*3|$1|3|$-1|$1|2|", "", ""),
            (
                "MSET a 1 b",
                "-ERR wrong number of arguments for 'mset' command|",
                "",
                "",
            ),
            ("MSETNX c 1 a 2", ":0|", "", ""),
            ("MSETNX c 1 d 2", ":1|", "set c, set d", "SET c 1, SET d 2"),
        ]);
    }

    #[test]
    fn msetex_gives_all_keys_one_deadline() {
        let both = "SET a 1 PXAT 1001000, SET b 2 PXAT 1001000";
        Bench::new().rows(&[
            ("MSETEX 2 a 1 b 2 XX", ":0|", "", ""),
            (
                "MSETEX 2 a 1 b 2 EX 1 NX",
                ":1|",
                "set a, expire a, set b, expire b",
                both,
            ),
            (
                "MSETEX 1 a 3 KEEPTTL",
                ":1|",
                "set a",
                "SET a 3 PXAT 1001000",
            ),
            ("MSETEX 1 a 3 XX", ":1|", "set a", "SET a 3"),
            ("MSETEX 1 a 3 NX XX", "-ERR syntax error|", "", ""),
            ("MSETEX 1 a 3 NX NX", ":0|", "", ""),
            (
                "MSETEX 1 a 3 EX 5 EX 1",
                ":1|",
                "set a, expire a",
                "SET a 3 PXAT 1001000",
            ),
            ("MSETEX 1 a 3 EX x WHY", "-ERR syntax error|", "", ""),
            ("MSETEX 1 a 3 EX 1 PX 1", "-ERR syntax error|", "", ""),
            ("MSETEX 1 a 3 EX 1 KEEPTTL", "-ERR syntax error|", "", ""),
            ("MSETEX 0 a 3", "-ERR invalid numkeys value|", "", ""),
            (
                "MSETEX 2 a 3",
                "-ERR wrong number of key-value pairs|",
                "",
                "",
            ),
            (
                "MSETEX 1 a 3 EX 0",
                "-ERR invalid expire time in 'msetex' command|",
                "",
                "",
            ),
        ]);
    }
}
