//! LCS: the longest common subsequence of two strings, which may live on two shards.

use crate::command::{Ask, Decision, Gather, Peek, peeks};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};

pub(super) static LCS: Gather = Gather {
    peek,
    decide,
    more: None,
};

fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match peeks::string(tx, args, at) {
        Peek::String(bytes) => Peek::Limited {
            bytes,
            max_bytes: tx.settings().string_max_bytes,
        },
        peek => peek,
    }
}

#[derive(Default)]
struct Options {
    len: bool,
    index: bool,
    with_lengths: bool,
    min_len: usize,
}

fn parse(args: &Args) -> Result<Options, CmdError> {
    let mut options = Options::default();
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "len") {
            options.len = true;
        } else if args.is(at, "idx") {
            options.index = true;
        } else if args.is(at, "withmatchlen") {
            options.with_lengths = true;
        } else if args.is(at, "minmatchlen") && at + 1 < args.len() {
            at += 1;
            options.min_len = args.int(at)?.max(0) as usize;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    if options.len && options.index {
        return Err(CmdError::Text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

/// The least that one of the homes allows for the table in between. A table for a string that is
/// not there is no longer than the other.
fn transient_max_bytes(peeks: &[Peek]) -> u64 {
    let limits = peeks.iter().filter_map(|peek| match peek {
        Peek::Limited { max_bytes, .. } => Some(*max_bytes as u64),
        _ => None,
    });
    limits.min().unwrap_or(u64::MAX)
}

fn decide(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let strings: Result<Vec<&[u8]>, CmdError> = peeks
        .iter()
        .map(|peek| Ok(peek.string()?.map_or(&[][..], |bytes| bytes)))
        .collect();
    let strings =
        strings.map_err(|_| CmdError::Text("ERR The specified keys must contain string values"))?;
    let options = parse(ask.args)?;
    let (a, b) = (strings[0], strings[1]);
    let cells = (a.len() as u64 + 1).checked_mul(b.len() as u64 + 1);
    if cells
        .and_then(|cells| cells.checked_mul(4))
        .is_none_or(|bytes| bytes > transient_max_bytes(peeks))
    {
        return Err(CmdError::Text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let found = lcs(a, b);
    let mut reply = Output::default();
    write(&found, &options, &mut Writer::new(&mut reply, ask.proto))?;
    Ok(Decision {
        reply,
        changes: Vec::new(),
        ..Decision::default()
    })
}

fn write(found: &Found, options: &Options, out: &mut Writer) -> CmdResult {
    if options.len {
        return out.int(found.text.len() as i64);
    }
    if !options.index {
        return out.bulk(&found.text);
    }
    out.map(2)?;
    out.bulk(b"matches")?;
    let long: Vec<&Match> = found
        .matches
        .iter()
        .filter(|m| m.len >= options.min_len)
        .collect();
    out.array(long.len())?;
    for m in long {
        out.array(if options.with_lengths { 3 } else { 2 })?;
        for start in [m.a, m.b] {
            out.array(2)?;
            out.int(start as i64)?;
            out.int((start + m.len - 1) as i64)?;
        }
        if options.with_lengths {
            out.int(m.len as i64)?;
        }
    }
    out.bulk(b"len")?;
    out.int(found.text.len() as i64)
}

/// A run that is common to both strings.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

struct Found {
    text: Vec<u8>,
    /// From the end of the strings to their beginning, as Redis lists them.
    matches: Vec<Match>,
}

/// Dynamic programming over all prefixes, then a walk back from the ends.
fn lcs(a: &[u8], b: &[u8]) -> Found {
    let width = b.len() + 1;
    let mut lengths = vec![0u32; (a.len() + 1) * width];
    for (i, byte) in a.iter().enumerate() {
        let (above, row) = lengths[i * width..].split_at_mut(width);
        let (mut left, mut diagonal) = (0, 0);
        for ((cell, &up), other) in row[1..].iter_mut().zip(&above[1..]).zip(b) {
            let longest = if byte == other {
                diagonal + 1
            } else {
                up.max(left)
            };
            *cell = longest;
            (left, diagonal) = (longest, up);
        }
    }
    let mut text = Vec::new();
    let mut matches: Vec<Match> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] != b[j - 1] {
            if lengths[(i - 1) * width + j] > lengths[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
            continue;
        }
        (i, j) = (i - 1, j - 1);
        text.push(a[i]);
        match matches.last_mut() {
            Some(run) if run.a == i + 1 && run.b == j + 1 => {
                (run.a, run.b, run.len) = (i, j, run.len + 1);
            }
            _ => matches.push(Match { a: i, b: j, len: 1 }),
        }
    }
    text.reverse();
    Found { text, matches }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;
    use crate::resp::Proto;

    #[test]
    fn runs_come_from_the_end() {
        let found = lcs(b"ohmytext", b"mynewtext");
        assert_eq!(found.text, b"mytext");
        let runs: Vec<_> = found.matches.iter().map(|m| (m.a, m.b, m.len)).collect();
        assert_eq!(runs, [(4, 5, 4), (2, 0, 2)]);
    }

    #[test]
    fn lcs_replies_in_three_forms() {
        let mut bench = Bench::new();
        bench.replies(&[
            ("MSET a ohmytext b mynewtext", "+OK|"),
            ("LCS a b", "$6|mytext|"),
            ("LCS a b LEN", ":6|"),
            ("LCS a none", "$0||"),
            (
                "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
                "*4|$7|matches|*1|*3|*2|:4|:7|*2|:5|:8|:4|$3|len|:6|",
            ),
            ("LCS a b MINMATCHLEN", "-ERR syntax error|"),
            (
                "LCS a b LEN IDX",
                "-ERR If you want both the length and indexes, please just use IDX.|",
            ),
        ]);
        bench.proto = Proto::Resp3;
        bench.replies(&[("LCS a none IDX", "%2|$7|matches|*0|$3|len|:0|")]);
    }
}
