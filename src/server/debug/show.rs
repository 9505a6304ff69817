//! What DEBUG tells of strings, lists and clients; each node tells its own.

use crate::command::{generic, glob};
use crate::keyspace::{Encoded, Tx};
use crate::resp::{CmdError, CmdResult, Writer};
use crate::server::ask::{Contribution, parts_of};
use crate::server::log;
use crate::session::Core;
use crate::value::Value;

/// What a node knows of a key: `None`: there is none; `Some(None)`: it is of another kind.
pub(super) type About = Option<Option<String>>;

/// DEBUG SDSLEN. A string has no room left behind it here, and shares its allocation with its key.
pub(super) fn lengths(tx: &mut Tx, key: &[u8]) -> About {
    let is_text = matches!(tx.encoded(key)?, Encoded::Embstr | Encoded::Raw);
    let len = tx.peek_string(key).ok().flatten().map(|text| text.len());
    let Some(len) = len.filter(|_| is_text) else {
        return Some(None);
    };
    let all_bytes = tx.memory_usage(key)?;
    Some(Some(format!(
        "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{len}, val_sds_avail:0, \
         val_zmalloc: {}",
        key.len(),
        key.len(),
        all_bytes.saturating_sub(key.len()),
    )))
}

/// DEBUG QUICKLIST.
pub(super) fn quicklist(tx: &mut Tx, key: &[u8]) -> About {
    let is_quicklist = tx.encoded(key)? == Encoded::Named("quicklist");
    let told = generic::described(tx, key);
    Some(told.filter(|_| is_quicklist))
}

/// What the shards know of a key, told in one way or another.
pub(super) fn about(word: &[u8], parts: Vec<Contribution>, out: &mut Writer) -> CmdResult {
    let found: About = parts_of::<About>(parts).flatten().next();
    let told = found.ok_or(CmdError::NoSuchKey)?;
    match word.to_ascii_lowercase().as_slice() {
        b"sdslen" => out.simple(&told.ok_or(CmdError::Text("ERR Not an sds encoded string."))?),
        b"quicklist" => {
            log::notice(&told.ok_or(CmdError::Text("ERR Not a quicklist encoded object."))?);
            out.simple("Quicklist structure printed on stdout")
        }
        _ => {
            let told = told.ok_or(CmdError::Text(
                "ERR The value stored at the specified key is not represented using an hash table",
            ))?;
            out.verbatim("txt", told.as_bytes())
        }
    }
}

/// Clients of less than two to this power of bytes are counted together, and those of more than the
/// other one. Redis: server.h, CLIENT_MEM_USAGE_BUCKET_MIN_LOG.
const SMALLEST_BITS: usize = 15;
const LARGEST_BITS: usize = 33;
pub(super) type Buckets = [(usize, usize); LARGEST_BITS - SMALLEST_BITS + 1];

/// Bytes and number of this node's clients, by the magnitude of what each takes.
pub(super) fn buckets(core: &Core) -> Buckets {
    let mut buckets = Buckets::default();
    for session in core.sessions().filter(|session| !session.client.replica) {
        let bytes = session.memory_bytes();
        let bits = (usize::BITS - bytes.leading_zeros()) as usize;
        let (sum, clients) = &mut buckets[bits.clamp(SMALLEST_BITS, LARGEST_BITS) - SMALLEST_BITS];
        *sum += bytes;
        *clients += 1;
    }
    buckets
}

/// DEBUG CLIENT-EVICTION.
pub(super) fn evictable(parts: Vec<Contribution>, out: &mut Writer) -> CmdResult {
    let mut all = Buckets::default();
    for part in parts_of::<Buckets>(parts) {
        for ((sum, clients), (more, others)) in all.iter_mut().zip(part) {
            *sum += more;
            *clients += others;
        }
    }
    let mut text = String::new();
    for (at, (sum, clients)) in all.iter().enumerate() {
        let from = match at {
            0 => 0,
            _ => 1usize << (SMALLEST_BITS + at - 1),
        };
        let to = match at {
            _ if at == all.len() - 1 => "+            ".to_owned(),
            _ => format!(" - {:10}", (1usize << (SMALLEST_BITS + at)) - 1),
        };
        text += &format!("bucket {from:10}{to}: tot-mem: {sum:10}, clients: {clients}\n");
    }
    out.verbatim("txt", text.as_bytes())
}

/// DEBUG STRUCTSIZE: what stands here for what Redis names; a string has no header of its own.
pub(super) fn sizes(out: &mut Writer) -> CmdResult {
    let text = format!(
        "bits:{} robj:{} dictentry:{} sdshdr5:0 sdshdr8:0 sdshdr16:0 sdshdr32:0 sdshdr64:0 ",
        usize::BITS,
        size_of::<Value>(),
        size_of::<u64>(),
    );
    out.bulk(text.as_bytes())
}

/// DEBUG STRINGMATCH-TEST: patterns and strings of all bytes, to see whether matching ends well.
pub(super) fn match_anything(out: &mut Writer) -> CmdResult {
    const ROUNDS: usize = 10_000;
    const LONGEST: usize = 32;
    let mut rng = fastrand::Rng::new();
    let mut random = || {
        let letters = if rng.bool() {
            "*?[]^-\\ab".as_bytes()
        } else {
            &[]
        };
        let any = |rng: &mut fastrand::Rng| match rng.choice(letters) {
            Some(letter) => *letter,
            None => rng.u8(..),
        };
        let len = rng.usize(..LONGEST);
        (0..len).map(|_| any(&mut rng)).collect::<Vec<u8>>()
    };
    for _ in 0..ROUNDS {
        glob::matches(&random(), &random());
    }
    out.simple("Apparently Pinion did not crash: test passed")
}
