//! Whether two replies are the same, as far as they are defined.

use std::str::FromStr;

use bytes::Bytes;
use pinion::rdb::dump;
use pinion::rdb::object::Object;

use crate::client::reply_end;
use crate::compare::normalised;
use crate::grammar::Same;
use crate::transcript::Compare;

/// Between the clocks of two servers that execute the same batch.
const APART_MAX_MS: u64 = 10_000;

/// What is defined beyond what always is.
#[derive(Clone, Copy)]
pub struct Exact {
    /// No hash is ever a table: the order of fields counts.
    pub hashes: bool,
}

/// The bytes of a bulk reply.
pub fn bulk(reply: &[u8]) -> &[u8] {
    let at = reply.iter().position(|&byte| byte == b'\n');
    &reply[at.expect("a line") + 1..reply.len() - 2]
}

/// The replies of a transaction, each as its command is compared.
pub fn agree_each(sames: &[Same], wanted: &[u8], got: &[u8], exact: Exact) -> bool {
    let (Some(wanted), Some(got)) = (elements(wanted), elements(got)) else {
        return wanted == got;
    };
    wanted.len() == sames.len()
        && wanted.len() == got.len()
        && sames
            .iter()
            .zip(wanted.iter().zip(got))
            .all(|(same, (wanted, got))| agree(*same, wanted, got, exact))
}

/// Of an array that is not null.
pub fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    if !reply.starts_with(b"*") || reply.starts_with(b"*-1") {
        return None;
    }
    let mut at = reply.iter().position(|&byte| byte == b'\n')? + 1;
    let mut elements = Vec::new();
    while at < reply.len() {
        let end = reply_end(reply, at)?;
        elements.push(&reply[at..end]);
        at = end;
    }
    Some(elements)
}

pub fn agree(same: Same, wanted: &[u8], got: &[u8], exact: Exact) -> bool {
    let as_seen_by = |compare: Compare| {
        let normal = |reply: &[u8]| normalised(&mut &*reply, &compare);
        normal(wanted) == normal(got)
    };
    wanted == got
        || match same {
            Same::Bytes => false,
            Same::Fields if exact.hashes => false,
            Same::Elements | Same::Fields => as_seen_by(Compare::Unordered),
            Same::Kind => wanted[0] == got[0],
            Same::ButTimes => agree_but_for_times(wanted, got),
            Same::Dump => {
                wanted[0] == b'$' && got[0] == b'$' && dumps_agree(bulk(wanted), bulk(got))
            }
        }
}

/// Integers that are not equal may be moments or spans, which are close to each other.
fn agree_but_for_times(wanted: &[u8], got: &[u8]) -> bool {
    if let (Some(wanted), Some(got)) = (elements(wanted), elements(got)) {
        let pairs = wanted.iter().zip(&got);
        let agreed = |(wanted, got): (&&[u8], &&[u8])| agree_but_for_times(wanted, got);
        return wanted.len() == got.len() && pairs.into_iter().all(agreed);
    }
    let integer = |reply: &[u8]| {
        let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
        i64::from_str(std::str::from_utf8(digits).ok()?).ok()
    };
    match (integer(wanted), integer(got)) {
        // What is counted is small and must be equal, but a span may be small, too: idle times.
        (Some(wanted), Some(got)) => wanted.abs_diff(got) <= APART_MAX_MS,
        _ => wanted == got,
    }
}

/// Whether two payloads hold the same value in the same encoding. The elements of a table come in
/// no order, and consumers were seen at some time.
fn dumps_agree(wanted: &[u8], got: &[u8]) -> bool {
    let Some((wanted_type, got_type)) = wanted.first().zip(got.first()) else {
        return false;
    };
    let value = |payload: &[u8]| match dump::take(&Bytes::copy_from_slice(payload)) {
        Ok(Object::Set(mut members)) => {
            members.sort();
            Some(Object::Set(members))
        }
        Ok(Object::Hash(mut fields)) => {
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            Some(Object::Hash(fields))
        }
        Ok(Object::Stream(mut parts)) => {
            for group in &mut parts.groups {
                for pending in &mut group.pending {
                    pending.delivered_at_ms = 0;
                }
                for consumer in &mut group.consumers {
                    (consumer.seen_at_ms, consumer.active_at_ms) = (0, 0);
                }
            }
            Some(Object::Stream(parts))
        }
        // Node by node, but which of them are compressed in memory depends in Redis on who read
        // them, and shows with `rdbcompression no`.
        Ok(Object::List(nodes)) => Some(Object::List(nodes)),
        // The bytes of every other type are defined.
        _ => None,
    };
    let wanted = value(wanted);
    wanted_type == got_type && wanted.is_some() && wanted == value(got)
}

#[test]
fn what_differs_is_told_from_what_may() {
    let exact = |hashes| Exact { hashes };
    let same = |same: Same, a: &str, b: &str| agree(same, a.as_bytes(), b.as_bytes(), exact(false));
    let (ab, ba) = ("*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n");
    assert!(!same(Same::Bytes, ab, ba));
    assert!(same(Same::Elements, ab, ba));
    assert!(same(Same::Fields, ab, ba));
    assert!(!agree(
        Same::Fields,
        ab.as_bytes(),
        ba.as_bytes(),
        exact(true)
    ));
    assert!(same(Same::ButTimes, "*1\r\n:1000\r\n", "*1\r\n:1001\r\n"));
    assert!(!same(Same::ButTimes, ":4000000000", ":5000000000"));
    assert!(!same(Same::Kind, "$-1\r\n", ":1\r\n"));
    let each = |a: &[u8], b: &[u8]| agree_each(&[Same::Bytes, Same::Elements], a, b, exact(false));
    let reply = |first: &str, second: &str| format!("*2\r\n{first}{second}").into_bytes();
    assert!(each(&reply(ab, ab), &reply(ab, ba)));
    assert!(!each(&reply(ab, ab), &reply(ba, ab)));
    assert!(!each(&reply(ab, ab), b"*-1\r\n"));
}
