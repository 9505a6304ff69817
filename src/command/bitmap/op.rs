//! BITOP: strings combined bit by bit, from however many shards.

use bytes::Bytes;

use crate::command::{Ask, Change, Decision, Gather, Peek, peeks};
use crate::keyspace::{Event, Ttl, Tx};
use crate::resp::{Args, CmdError, Output, Writer};

pub(super) static BITOP: Gather = Gather {
    peek,
    decide,
    more: None,
};

/// Of the target only whether it exists; of the sources their bytes.
fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match at {
        // The decision says what is wrong: nothing was looked up for it.
        _ if parse(args).is_err() => Peek::Missing,
        2 => peeks::exists(tx, args, at),
        _ => peeks::string(tx, args, at),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    And,
    Or,
    Xor,
    Not,
    /// In the first source and in no other.
    Diff,
    /// In some other source and not in the first.
    Diff1,
    /// In the first source and in some other.
    AndOr,
    /// In exactly one source.
    One,
}

fn parse(args: &Args) -> Result<Op, CmdError> {
    let ops = [
        ("and", Op::And),
        ("or", Op::Or),
        ("xor", Op::Xor),
        ("not", Op::Not),
        ("diff", Op::Diff),
        ("diff1", Op::Diff1),
        ("andor", Op::AndOr),
        ("one", Op::One),
    ];
    let op = ops
        .iter()
        .find(|(name, _)| args.is(1, name))
        .ok_or(CmdError::Syntax)?
        .1;
    let sources = args.len() - 3;
    match op {
        Op::Not if sources != 1 => Err(CmdError::Text(
            "ERR BITOP NOT must be called with a single source key.",
        )),
        Op::Diff | Op::Diff1 | Op::AndOr if sources < 2 => Err(CmdError::owned(format!(
            "ERR BITOP {} must be called with at least two source keys.",
            String::from_utf8_lossy(args.get(1)).to_ascii_uppercase()
        ))),
        _ => Ok(op),
    }
}

fn decide(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let op = parse(ask.args)?;
    let sources: Result<Vec<&[u8]>, CmdError> = peeks[1..]
        .iter()
        .map(|peek| Ok(peek.string()?.map_or(&[][..], |bytes| bytes)))
        .collect();
    let result = combine(op, &sources?);
    let mut reply = Output::default();
    Writer::new(&mut reply, ask.proto).int(result.len() as i64)?;
    let (db, key) = (ask.db, 2);
    let change = if result.is_empty() {
        peeks[0].exists().then_some(Change::Remove {
            db,
            key,
            event: Event::DEL,
        })
    } else {
        let value = Bytes::from(result);
        Some(Change::SetString {
            db,
            key,
            value,
            raw: true,
            ttl: Ttl::Clear,
            event: Event::SET,
        })
    };
    Ok(Decision {
        reply,
        changes: change.into_iter().collect(),
        ..Decision::default()
    })
}

/// Shorter sources are as if followed by zeros.
fn combine(op: Op, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = padded(sources[0], len);
    let rest = &sources[1..];
    match op {
        Op::And => rest
            .iter()
            .for_each(|source| zip(&mut result, source, |a, b| a & b)),
        Op::Or => rest
            .iter()
            .for_each(|source| zip(&mut result, source, |a, b| a | b)),
        Op::Xor => rest
            .iter()
            .for_each(|source| zip(&mut result, source, |a, b| a ^ b)),
        Op::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
        Op::Diff => zip(&mut result, &any(rest, len), |a, b| a & !b),
        Op::Diff1 => zip(&mut result, &any(rest, len), |a, b| !a & b),
        Op::AndOr => zip(&mut result, &any(rest, len), |a, b| a & b),
        Op::One => {
            let mut twice = vec![0; len];
            for source in rest {
                let source = padded(source, len);
                for ((twice, result), byte) in twice.iter_mut().zip(&mut result).zip(source) {
                    *twice |= *result & byte;
                    *result |= byte;
                }
            }
            zip(&mut result, &twice, |a, b| a & !b);
        }
    }
    result
}

fn padded(source: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = source.to_vec();
    bytes.resize(len, 0);
    bytes
}

fn any(sources: &[&[u8]], len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    sources
        .iter()
        .for_each(|source| zip(&mut all, source, |a, b| a | b));
    all
}

/// Combines every byte of `result` with that of `source`, or with zero behind its end.
fn zip(result: &mut [u8], source: &[u8], op: impl Fn(u8, u8) -> u8) {
    let (both, beyond) = result.split_at_mut(source.len().min(result.len()));
    both.iter_mut()
        .zip(source)
        .for_each(|(byte, other)| *byte = op(*byte, *other));
    beyond.iter_mut().for_each(|byte| *byte = op(*byte, 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;

    #[test]
    fn every_operation_pads_with_zeros() {
        let sources: [&[u8]; 3] = [&[0b1100, 0xff], &[0b1010], &[0b1001]];
        let run = |op| combine(op, &sources);
        assert_eq!(run(Op::And), [0b1000, 0]);
        assert_eq!(run(Op::Or), [0b1111, 0xff]);
        assert_eq!(run(Op::Xor), [0b1111, 0xff]);
        assert_eq!(run(Op::Diff), [0b0100, 0xff]);
        assert_eq!(run(Op::Diff1), [0b0011, 0]);
        assert_eq!(run(Op::AndOr), [0b1000, 0]);
        assert_eq!(run(Op::One), [0b0111, 0xff]);
        assert_eq!(combine(Op::Not, &[&[0x0f]]), [0xf0]);
        assert_eq!(combine(Op::And, &[&[], &[]]), Vec::<u8>::new());
    }

    #[test]
    fn results_replace_the_target() {
        let wrong = "-ERR BITOP NOT must be called with a single source key.|";
        Bench::new().rows(&[
            (
                "MSET a abc b AB",
                "+OK|",
                "set a, set b",
                "SET a abc, SET b AB",
            ),
            ("BITOP AND d a b", ":3|", "set d", "SET d AB\0"),
            ("BITOP ANDOR d a b", ":3|", "set d", "SET d AB\0"),
            ("BITOP OR d b", ":2|", "set d", "SET d AB"),
            ("BITOP AND d none", ":0|", "del d", "DEL d"),
            ("BITOP AND d none", ":0|", "", ""),
            ("BITOP NOT d a b", wrong, "", ""),
            ("BITOP NEITHER d a b", "-ERR syntax error|", "", ""),
        ]);
    }
}
