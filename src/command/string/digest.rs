//! DIGEST: a short name for a value, so that a client can compare values without sending them.

use xxhash_rust::xxh3::xxh3_64;

use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// XXH3 of 64 bits, in hexadecimal.
const DIGITS: usize = 16;

pub(super) fn digest(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    match tx.string(args.get(1))? {
        None => out.null(),
        Some(value) => out.bulk(&of(value.bytes(&mut itoa::Buffer::new()))),
    }
}

fn of(bytes: &[u8]) -> [u8; DIGITS] {
    let hash = xxh3_64(bytes);
    std::array::from_fn(|i| b"0123456789abcdef"[(hash >> (60 - 4 * i) & 15) as usize])
}

/// Whether the string at `key` has the digest `expected`, in either case of letters; `None` if
/// there is no string.
pub(super) fn equals(tx: &mut Tx, key: &[u8], expected: &[u8]) -> Result<Option<bool>, CmdError> {
    let Some(value) = tx.peek_string(key)? else {
        return Ok(None);
    };
    // Redis: only the length is checked; what is no digit just equals no digest.
    if expected.len() != DIGITS {
        return Err(CmdError::Text(
            "ERR must be exactly 16 hexadecimal characters",
        ));
    }
    let digest = of(value.bytes(&mut itoa::Buffer::new()));
    Ok(Some(digest.eq_ignore_ascii_case(expected)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;

    #[test]
    fn digests_are_those_of_the_published_hash() {
        // The hash of nothing, from the XXH3 reference implementation.
        assert_eq!(of(b""), *b"2d06800538d394c2");
    }

    #[test]
    fn conditions_compare_digests() {
        let mut bench = Bench::new();
        bench.replies(&[("DIGEST k", "$-1|"), ("SET k v", "+OK|")]);
        let digest = String::from_utf8_lossy(&of(b"v")).into_owned();
        let upper = digest.to_ascii_uppercase();
        bench.replies(&[
            ("DIGEST k", &format!("$16|{digest}|")),
            (&format!("SET k v IFDNE {digest}"), "$-1|"),
            (&format!("SET k v IFDEQ {upper}"), "+OK|"),
            (
                "SET k v IFDEQ 12",
                "-ERR must be exactly 16 hexadecimal characters|",
            ),
            (&format!("DELEX k IFDNE {digest}"), ":0|"),
            (&format!("DELEX k IFDEQ {digest}"), ":1|"),
        ]);
    }
}
